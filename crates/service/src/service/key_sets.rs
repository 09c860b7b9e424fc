//! Key sets by URL. An ordinary thread has them fetched into files, from which they are read like any other changed file; so a
//! restarted process has the last ones, and an unusable one never comes into force. Each fetch is a thread of its own, so a slow
//! server delays neither the other sets nor the removal of one that is too old.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime};

use forebay_base::files;
use forebay_guard::auth::jwt::{self, Keys, Remote, Source};
use forebay_guard::secure::http::{self, Bounds, Request};

const BOUNDS: Bounds = Bounds { step: Duration::from_secs(5), whole: Duration::from_secs(20), body: 1 << 20 };
/// The longest wait after failures, and the shortest time between two fetches that tokens cause.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A key set that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// NAME of the `[auth.NAME]`.
    pub auth: String,
    /// The URL, and the file.
    pub remote: Remote,
    /// The accepted algorithms: keys of others are not used.
    pub algorithms: Vec<jwt::Algorithm>,
}

impl Wanted {
    /// The key set of these settings, if they name one.
    #[must_use]
    pub fn of(auth: &forebay_guard::auth::Settings) -> Option<Self> {
        let jwt = auth.jwt.as_ref()?;
        let Source::JwksUrl(remote) = &jwt.keys else { return None };
        Some(Self { auth: auth.name.clone(), remote: remote.clone(), algorithms: jwt.algorithms.clone() })
    }

    /// The age of the file; `None`: there is none.
    fn fetched(&self) -> Option<Duration> {
        let modified = fs::metadata(&self.remote.file).and_then(|file| file.modified()).ok()?;
        // A time stamp in the future, from a clock that was ahead, counts as new.
        Some(SystemTime::now().duration_since(modified).unwrap_or_default())
    }
}

/// The news of a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The set is in its file.
    Fetched,
    /// The set cannot be fetched: why. Reported once, until a fetch succeeds.
    Unreachable(String),
    /// The set could not be fetched for too long: the file is removed.
    Dropped,
}

enum Order {
    /// Fetch these sets from now on.
    Want(Vec<Wanted>),
    /// A token has named a key of this auth that is missing.
    Refresh(String),
    /// The outcome of a fetch.
    Fetched(Wanted, Result<Vec<u8>, String>),
    /// The service ends.
    End,
}

/// The channel to the thread, which ends when this is dropped.
pub struct KeySets(Sender<Order>);

impl fmt::Debug for KeySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySets").finish_non_exhaustive()
    }
}

impl KeySets {
    /// Removes sets that are too old, then starts the thread. `tell` is called there, with the name of an auth.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(wanted: Vec<Wanted>, tell: impl FnMut(&str, Told) + Send + 'static) -> io::Result<Self> {
        let (order, orders) = channel();
        let fetched = order.clone();
        let start = move |wanted: &Wanted| {
            let (wanted, fetched) = (wanted.clone(), fetched.clone());
            let run = move || {
                let body = usable(&wanted);
                let _ = fetched.send(Order::Fetched(wanted, body));
            };
            std::thread::Builder::new().name("key-set".into()).spawn(run).map(drop)
        };
        let mut fetcher = Fetcher { sets: Vec::new(), tell, start };
        fetcher.want(wanted, Instant::now());
        std::thread::Builder::new().name("key-sets".into()).spawn(move || fetcher.run(&orders))?;
        Ok(Self(order))
    }

    /// Replaces the list of wanted sets.
    pub fn want(&self, wanted: Vec<Wanted>) {
        // The thread ends with the service only.
        let _ = self.0.send(Order::Want(wanted));
    }

    /// Fetches the set of an auth again: a token has named a key that it does not have.
    pub fn refresh(&self, auth: &str) {
        let _ = self.0.send(Order::Refresh(auth.to_owned()));
    }
}

impl Drop for KeySets {
    fn drop(&mut self) {
        let _ = self.0.send(Order::End);
    }
}

struct Set {
    wanted: Wanted,
    /// Whether a fetch is in progress.
    is_fetching: bool,
    /// The time of the next fetch.
    next: Instant,
    /// When a fetch was last tried.
    tried: Option<Instant>,
    /// The time from which on the set is too old; `None`: there is no file.
    stale: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

impl Set {
    /// The time of the set's next action; `None`: not before its fetch has ended.
    fn due(&self) -> Option<Instant> {
        let next = Some(self.next).filter(|_| !self.is_fetching);
        next.into_iter().chain(self.stale).min()
    }
}

struct Fetcher<T, S> {
    sets: Vec<Set>,
    tell: T,
    /// Starts a fetch.
    start: S,
}

impl<T: FnMut(&str, Told), S: Fn(&Wanted) -> io::Result<()>> Fetcher<T, S> {
    fn want(&mut self, wanted: Vec<Wanted>, now: Instant) {
        let mut known = std::mem::take(&mut self.sets);
        for wanted in wanted {
            let place = known.iter().position(|set| set.wanted == wanted);
            let mut set = place.map_or_else(
                || {
                    let left = wanted.fetched().map(|age| now + wanted.remote.stale_max.saturating_sub(age));
                    Set { wanted, is_fetching: false, next: now, tried: None, stale: left, failures: 0 }
                },
                |place| known.swap_remove(place),
            );
            self.drop_stale(&mut set, now);
            self.sets.push(set);
        }
    }

    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let now = Instant::now();
            let next = self.sets.iter().filter_map(Set::due).min().unwrap_or(now + AGAIN_AFTER);
            match orders.recv_timeout(next.saturating_duration_since(now)) {
                Ok(Order::Want(wanted)) => self.want(wanted, Instant::now()),
                Ok(Order::Refresh(auth)) => self.hasten(&auth, Instant::now()),
                Ok(Order::Fetched(wanted, body)) => self.fetched(&wanted, body, Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::End) | Err(RecvTimeoutError::Disconnected) => return,
            }
            self.keep(Instant::now());
        }
    }

    /// Fetches a set early, at most once in half a minute, however many tokens name missing keys.
    fn hasten(&mut self, auth: &str, now: Instant) {
        for set in self.sets.iter_mut().filter(|set| set.wanted.auth == auth) {
            set.next = set.next.min(set.tried.map_or(now, |tried| tried + AGAIN_AFTER).max(now));
        }
    }

    /// Removes sets that are too old, and starts the fetches that are due.
    fn keep(&mut self, now: Instant) {
        for mut set in std::mem::take(&mut self.sets) {
            self.drop_stale(&mut set, now);
            if set.next <= now && !set.is_fetching {
                set.is_fetching = true;
                let started = (self.start)(&set.wanted);
                if let Err(error) = started {
                    self.take(&mut set, Err(format!("no thread: {error}")), now);
                }
            }
            self.sets.push(set);
        }
    }

    /// Takes the outcome of a fetch. A set that is not wanted any more is not written.
    fn fetched(&mut self, wanted: &Wanted, body: Result<Vec<u8>, String>, now: Instant) {
        let Some(place) = self.sets.iter().position(|set| set.wanted == *wanted) else { return };
        let mut set = self.sets.swap_remove(place);
        self.take(&mut set, body, now);
        self.sets.push(set);
    }

    fn take(&mut self, set: &mut Set, body: Result<Vec<u8>, String>, now: Instant) {
        let remote = &set.wanted.remote;
        let written = body
            .and_then(|body| write(&remote.file, &body).map_err(|error| format!("{}: {error}", remote.file.display())));
        set.is_fetching = false;
        set.tried = Some(now);
        match written {
            Ok(()) => {
                (set.next, set.stale, set.failures) = (now + remote.refresh, Some(now + remote.stale_max), 0);
                (self.tell)(&set.wanted.auth, Told::Fetched);
            }
            Err(why) => {
                // The wait is 1 s, 2 s, 4 s, … half a minute.
                set.next = now + AGAIN_AFTER.min(Duration::from_secs(1 << set.failures.min(5)));
                set.failures += 1;
                if set.failures == 1 {
                    (self.tell)(&set.wanted.auth, Told::Unreachable(format!("{}: {why}", remote.url)));
                }
                self.drop_stale(set, now);
            }
        }
    }

    fn drop_stale(&mut self, set: &mut Set, now: Instant) {
        if set.stale.is_some_and(|stale| stale <= now) {
            set.stale = None;
            // There is no second attempt: a file that cannot be removed is too old for the next process as well.
            let _ = fs::remove_file(&set.wanted.remote.file);
            (self.tell)(&set.wanted.auth, Told::Dropped);
        }
    }
}

/// Writes the file as a whole or not at all.
fn write(file: &Path, body: &[u8]) -> io::Result<()> {
    files::make_dirs(file.parent().unwrap_or(Path::new(".")))?;
    files::replace(file, body)
}

/// Fetches a key set that can be used; nothing is written.
///
/// # Errors
/// Why there is none, in words for a person.
pub fn usable(wanted: &Wanted) -> Result<Vec<u8>, String> {
    let body = fetch(&wanted.remote)?;
    Keys::parse(&body, &wanted.algorithms)?;
    Ok(body)
}

/// Fetches the key set at this URL.
///
/// # Errors
/// Why there is none, in words for a person.
pub fn fetch(remote: &Remote) -> Result<Vec<u8>, String> {
    let fields = [("Accept", "application/jwk-set+json, application/json")];
    let request = Request { url: &remote.url, path: "", fields: &fields, body: None };
    let body = http::ask(&request, remote.ca_file.as_ref(), BOUNDS)?.ok()?;
    Ok(body.to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};

    use super::*;
    use forebay_guard::secure::Url;

    type Heard = Arc<Mutex<Vec<Told>>>;

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    /// A server that gives these answers, one a connection. Returns its URL.
    fn server(answers: Vec<String>) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/keys", listener.local_addr().unwrap())).unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut bytes = [0; 512];
                    let count = stream.read(&mut bytes).unwrap();
                    asked.extend_from_slice(&bytes[..count]);
                }
                assert!(asked.starts_with(b"GET /keys HTTP/1.0\r\nHost: 127.0.0.1:"));
                // The client may refuse the answer in the middle.
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        url
    }

    fn wanted(url: Url, dir: &Path) -> Wanted {
        let remote = Remote {
            url,
            ca_file: None,
            refresh: Duration::from_secs(600),
            stale_max: Duration::from_secs(86_400),
            file: dir.join("keys/a.json"),
        };
        Wanted { auth: "a".to_owned(), remote, algorithms: jwt::Algorithm::PUBLIC.to_vec() }
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    type Starts = Arc<Mutex<Vec<Wanted>>>;

    type Tested = Fetcher<Box<dyn FnMut(&str, Told)>, Box<dyn Fn(&Wanted) -> io::Result<()>>>;

    fn fetcher() -> (Tested, Heard, Starts) {
        let told = Heard::default();
        let into = Arc::clone(&told);
        let tell = move |auth: &str, what| {
            assert_eq!(auth, "a");
            into.lock().unwrap().push(what);
        };
        let starts = Starts::default();
        let into = Arc::clone(&starts);
        let start = move |wanted: &Wanted| {
            into.lock().unwrap().push(wanted.clone());
            Ok(())
        };
        (Fetcher { sets: Vec::new(), tell: Box::new(tell), start: Box::new(start) }, told, starts)
    }

    /// Carries out the fetches that were begun.
    fn carry_out(fetcher: &mut Tested, starts: &Starts) {
        fetcher.keep(Instant::now());
        for wanted in std::mem::take(&mut *starts.lock().unwrap()) {
            fetcher.fetched(&wanted, usable(&wanted), Instant::now());
        }
    }

    /// X32: a set that cannot be used changes nothing.
    #[test]
    fn what_is_no_key_set_leaves_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(BOUNDS.body + 1);
        let bad = [
            ("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1/\r\n\r\n".to_owned(), "redirects are not followed"),
            ("HTTP/1.1 500 No\r\n\r\n".to_owned(), "it answers 500"),
            ("SSH-2.0\r\n".to_owned(), "it does not answer with HTTP"),
            (String::new(), "cut short"),
            (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{SET}", SET.len() + 1), "cut short"),
            (format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{SET}"), "encoded"),
            (ok(&long), "longer than 1024 KiB"),
            (ok("{}"), "is no JSON Web Key Set"),
            (ok(r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AA","d":"AA"}]}"#), "private key"),
        ];
        let good = [ok(SET), format!("HTTP/1.0 200 OK\r\n\r\n{SET}")];
        let answers = good.iter().chain(bad.iter().map(|(answer, _)| answer)).chain(&good).cloned();
        let wanted = wanted(server(answers.collect()), dir.path());
        let (mut fetcher, told, starts) = fetcher();
        fetcher.want(vec![wanted.clone()], Instant::now());
        let mut fetch = || {
            fetcher.sets[0].next = Instant::now();
            // Each failure is reported.
            fetcher.sets[0].failures = 0;
            carry_out(&mut fetcher, &starts);
            told.lock().unwrap().pop().unwrap()
        };
        for _ in &good {
            assert_eq!(fetch(), Told::Fetched);
        }
        for (_, why) in &bad {
            let said = fetch();
            assert!(matches!(&said, Told::Unreachable(what) if what.contains(why)), "{said:?} has {why}");
            assert_eq!(fs::read_to_string(&wanted.remote.file).unwrap(), SET);
        }
        assert_eq!(fetch(), Told::Fetched);
    }

    /// Finding S1: a planted link is not followed.
    #[test]
    fn finding_s1_a_planted_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (target, folder) = (dir.path().join("target"), dir.path().join("keys"));
        fs::write(&target, "kept").unwrap();
        fs::create_dir(&folder).unwrap();
        for name in ["a.new", "a.json"] {
            std::os::unix::fs::symlink(&target, folder.join(name)).unwrap();
        }
        let wanted = wanted(server(vec![ok(SET)]), dir.path());
        let (mut fetcher, told, starts) = fetcher();
        fetcher.want(vec![wanted.clone()], Instant::now());
        carry_out(&mut fetcher, &starts);
        assert_eq!(told.lock().unwrap().as_slice(), [Told::Fetched]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
        assert_eq!(fs::read_to_string(&wanted.remote.file).unwrap(), SET);
    }

    /// X32: fetched early for an unknown key, at most once in 30 s; dropped after `stale_max`.
    #[test]
    fn tokens_hasten_it_and_time_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = wanted(server(vec![ok(SET)]), dir.path());
        let (mut fetcher, told, starts) = fetcher();
        let now = Instant::now();
        fetcher.want(vec![wanted.clone()], now);
        carry_out(&mut fetcher, &starts);
        assert_eq!(told.lock().unwrap().as_slice(), [Told::Fetched]);
        let tried = fetcher.sets[0].tried.unwrap();
        assert!(fetcher.sets[0].next >= tried + wanted.remote.refresh);
        fetcher.hasten("b", tried + Duration::from_secs(1));
        assert!(fetcher.sets[0].next >= tried + wanted.remote.refresh, "that is another auth's");
        fetcher.hasten("a", tried + Duration::from_secs(1));
        assert_eq!(fetcher.sets[0].next, tried + AGAIN_AFTER, "not at once: it has just been fetched");
        fetcher.hasten("a", tried + AGAIN_AFTER * 2);
        assert_eq!(fetcher.sets[0].next, tried + AGAIN_AFTER);

        // The server is gone. The file stays until its time is over, in this process and the next.
        let mut again = |stale: Instant| {
            (fetcher.sets[0].stale, fetcher.sets[0].next) = (Some(stale), Instant::now());
            carry_out(&mut fetcher, &starts);
        };
        let later = tried + Duration::from_secs(3_600);
        again(later);
        assert!(matches!(told.lock().unwrap().pop(), Some(Told::Unreachable(_))));
        assert!(wanted.remote.file.exists());
        again(later);
        assert_eq!(told.lock().unwrap().as_slice(), [Told::Fetched], "said once");
        again(Instant::now());
        assert_eq!(told.lock().unwrap().pop(), Some(Told::Dropped));
        assert!(!wanted.remote.file.exists());

        write(&wanted.remote.file, SET.as_bytes()).unwrap();
        let old = SystemTime::now() - Duration::from_secs(86_401);
        fs::File::options().append(true).open(&wanted.remote.file).unwrap().set_modified(old).unwrap();
        fetcher.sets.clear();
        fetcher.want(vec![wanted.clone()], Instant::now());
        assert!(!wanted.remote.file.exists());
        assert_eq!(told.lock().unwrap().pop(), Some(Told::Dropped));
    }

    /// A server that never ends its answer keeps neither another set from being fetched nor its own from ending.
    #[test]
    fn finding_s7_a_set_does_not_wait_for_another_and_ends_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("https://{}/keys", silent.local_addr().unwrap())).unwrap();
        let mut slow = wanted(url, dir.path());
        slow.auth = "slow".to_owned();
        slow.remote.file = dir.path().join("keys/slow.json");
        slow.remote.stale_max = Duration::from_secs(60);
        write(&slow.remote.file, SET.as_bytes()).unwrap();
        // It is too old one second from now.
        let old = SystemTime::now() - Duration::from_secs(59);
        fs::File::options().append(true).open(&slow.remote.file).unwrap().set_modified(old).unwrap();
        let quick = wanted(server(vec![ok(SET)]), dir.path());
        let (heard, told) = channel();
        let tell = move |auth: &str, what: Told| drop(heard.send((auth.to_owned(), what)));
        let sets = KeySets::start(vec![slow.clone(), quick], tell).unwrap();
        let next = || told.recv_timeout(Duration::from_secs(60)).unwrap();
        let (first, second) = (next(), next());
        // The server of the slow set is silent for longer than all of this takes: no failure was reported.
        assert_eq!((first, second), (("a".to_owned(), Told::Fetched), ("slow".to_owned(), Told::Dropped)));
        assert!(!slow.remote.file.exists());
        drop((sets, silent));
    }
}
