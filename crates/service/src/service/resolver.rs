//! Resolves host names on ordinary threads: `getaddrinfo` blocks, a core must not. Each name has a thread while it is looked up,
//! so that a silent name server of one cluster delays no other; further questions about a name wait for the same answer.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Sender, channel};

/// The most names that are looked up at a time; the answer to one more is to try again. Far more than the brokers of a cluster
/// that are not known by address.
const NAMES_MAX: usize = 64;

/// Addresses, or the error's text.
pub type Found = Result<Vec<SocketAddr>, String>;

type Answer = Box<dyn FnOnce(Found) + Send>;

/// A question; `answer` is called on the resolver's thread.
pub struct Question {
    /// Host name.
    pub host: String,
    /// Port, passed through.
    pub port: u16,
    /// The callback for the addresses.
    pub answer: Answer,
}

enum News {
    Asked(Question),
    Found((String, u16), Found),
    /// All senders are dropped.
    Over,
}

/// Starts the thread. It ends when the last sender is dropped.
///
/// # Errors
/// The thread cannot be made.
pub fn start() -> io::Result<Sender<Question>> {
    start_with(look_up)
}

fn look_up(host: &str, port: u16) -> Found {
    match (host, port).to_socket_addrs().map(Iterator::collect::<Vec<_>>) {
        Ok(addresses) if addresses.is_empty() => Err(format!("{host} has no address")),
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(format!("{host}: {error}")),
    }
}

fn start_with(look_up: impl Fn(&str, u16) -> Found + Clone + Send + 'static) -> io::Result<Sender<Question>> {
    let (ask, questions) = channel::<Question>();
    let (tell, told) = channel();
    let found = tell.clone();
    let thread = |name: &str| std::thread::Builder::new().name(name.into());
    thread("resolver").spawn(move || {
        let mut waiting: HashMap<(String, u16), Vec<Answer>> = HashMap::new();
        for news in told {
            let (name, answer) = match news {
                News::Asked(Question { host, port, answer }) => ((host, port), answer),
                News::Found(name, found) => {
                    let answers = waiting.remove(&name).unwrap_or_default();
                    answers.into_iter().for_each(|answer| answer(found.clone()));
                    continue;
                }
                News::Over => return,
            };
            let names = waiting.len();
            if let Some(others) = waiting.get_mut(&name) {
                others.push(answer);
                continue;
            }
            let (look_up, found, of) = (look_up.clone(), found.clone(), name.clone());
            let looking = move || drop(found.send(News::Found(of.clone(), look_up(&of.0, of.1))));
            if names < NAMES_MAX && thread("resolver-name").spawn(looking).is_ok() {
                waiting.insert(name, vec![answer]);
            } else {
                answer(Err(format!("{}: too many host names are being resolved", name.0)));
            }
        }
    })?;
    thread("resolver-door").spawn(move || {
        let _ = questions.iter().try_for_each(|question| tell.send(News::Asked(question)));
        let _ = tell.send(News::Over);
    })?;
    Ok(ask)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_resolves_and_nonsense_does_not() {
        let ask = start().expect("thread");
        let (tell, told) = channel();
        for host in ["localhost", "no host at all"] {
            let tell = tell.clone();
            let answer = Box::new(move |found: Found| drop(tell.send((host, found))));
            ask.send(Question { host: host.into(), port: 9092, answer }).expect("asked");
        }
        for _ in 0..2 {
            match told.recv().expect("an answer") {
                ("localhost", found) => assert!(found.expect("found").iter().all(|a| a.ip().is_loopback())),
                (_, found) => assert!(found.is_err()),
            }
        }
    }

    #[test]
    fn a_silent_name_server_holds_up_its_own_name_and_is_asked_once() {
        let (release, released) = channel::<()>();
        let (released, address) = (std::sync::Arc::new(std::sync::Mutex::new(released)), ([10, 0, 0, 1], 9092).into());
        let ask = start_with(move |host, _| {
            if host == "silent" {
                let _ = released.lock().expect("one at a time").recv();
            }
            Ok(vec![address])
        })
        .expect("thread");
        let (tell, told) = channel();
        let question = |host: &'static str| {
            let tell = tell.clone();
            let answer = Box::new(move |found: Found| drop(tell.send((host, found))));
            ask.send(Question { host: host.into(), port: 9092, answer }).expect("asked");
        };
        (0..100).for_each(|_| question("silent"));
        question("good");
        assert_eq!(told.recv().expect("an answer"), ("good", Ok(vec![address])));
        release.send(()).expect("one look-up waits");
        assert!((0..100).all(|_| told.recv().expect("an answer").0 == "silent"));
    }
}
