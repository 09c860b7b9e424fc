//! The contents of the files of listeners, clusters and bridges: read when the service starts, with a reload, and when the files have changed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::auth::acl::Acl;
use crate::auth::jwt::Source;
use crate::auth::{Method, Policy, Users};
use crate::config::{Config, Listener};
use crate::edge::{Edge, LinkTls};
use crate::metrics::event::{Event, Field, Kind};
use crate::metrics::journal::Journal;
use crate::secure::{Expiry, Outgoing, Server};
use crate::service::key_sets::{Wanted, usable};

use super::certificates::{Expiries, expiries, step};
use super::check::{Line, Verdict};
use super::key_sets::KeySets;

/// The time between two reads of the files.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Reads all files.
///
/// # Errors
/// Everything that is wrong with any of them.
pub(super) fn load(config: &Config) -> Result<Edge, Vec<String>> {
    let mut problems = Vec::new();
    let tls = config.listeners.iter().map(|listener| {
        let settings = listener.tls.as_ref().filter(|_| !listener.is_removed)?;
        keep(Server::load(settings), &format!("listener {}", listener.bind), &mut problems)
    });
    let tls = tls.collect();
    let used = config.auth.iter().filter(|auth| is_used(config, auth));
    let policies: Vec<Arc<Policy>> =
        used.filter_map(|auth| keep(Policy::load(auth), &format!("auth.{}", auth.name), &mut problems)).collect();
    let policy = |listener: &Listener| {
        let name = listener.auth.as_deref().filter(|_| !listener.is_removed)?;
        policies.iter().find(|policy| policy.name() == name).cloned()
    };
    let auth = config.listeners.iter().map(policy).collect();
    let kafka = config.clusters.iter().map(|cluster| {
        let settings = cluster.tls.as_ref().filter(|_| !cluster.is_removed)?;
        keep(Outgoing::load(settings), &format!("kafka.{}.tls", cluster.name), &mut problems)
    });
    let kafka = kafka.collect();
    let bridges = config.bridges.iter().map(|bridge| {
        let settings = bridge.tls.as_ref().filter(|_| !bridge.is_removed)?;
        keep(Outgoing::load(settings), &format!("bridge.{}.tls", bridge.name), &mut problems)
    });
    let bridges = bridges.collect();
    let control = config.control.tls.as_ref();
    let control = control.and_then(|settings| keep(Server::load(settings), "control.tls", &mut problems));
    let link = config.broker.as_ref().and_then(|broker| broker.link.as_ref()?.tls.as_ref());
    let link = link.and_then(|files| keep(LinkTls::load(&files.own, &files.ca), "broker.link", &mut problems));
    let link = link.map(Arc::unwrap_or_clone);
    let loaded = Edge { tls, auth, kafka, bridges, control, link, renamed: Vec::new() };
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// Returns a loaded file, or adds its problems, with their subject, to the others.
fn keep<T>(loaded: Result<T, Vec<String>>, about: &str, problems: &mut Vec<String>) -> Option<Arc<T>> {
    let named = |problem| format!("{about}: {problem}");
    loaded.map(Arc::new).map_err(|all| problems.extend(all.into_iter().map(named))).ok()
}

/// Reads all files again for a running service: an expired certificate is a mistake then, if the one in force is better.
/// Unchanged files keep their loaded contents.
pub(super) fn load_again(config: &Config, running: &Edge) -> Result<Edge, Vec<String>> {
    let loaded = load(config)?;
    let expired = |expiry: &&Expiry| !expiry.is_of_ca && expiry.left() <= 0;
    let said = |expiry: &Expiry| format!("{}: a certificate in it has expired", expiry.file.display());
    let problems: Vec<_> = expiries(&loaded).filter(expired).map(said).collect();
    if problems.is_empty() { Ok(loaded.or_running(running)) } else { Err(problems) }
}

/// The listeners, clusters and bridges with changed files, in the words of a reload.
pub(super) fn changed(config: &Config, running: &Edge, loaded: &Edge) -> Vec<String> {
    let pairs = config.listeners.iter().zip(&loaded.tls).enumerate();
    let certificates = pairs.filter_map(|(place, (listener, new))| {
        let (old, new) = (running.tls.get(place)?.as_ref()?, new.as_ref()?);
        (!old.is_same(new)).then(|| format!("listener {} (changed: certificates)", listener.bind))
    });
    let policies = config.auth.iter().filter_map(|auth| {
        let (old, new) = (running.policy(&auth.name)?, loaded.policy(&auth.name)?);
        (!old.is_same(new)).then(|| format!("auth {} (changed: files)", auth.name))
    });
    let pairs = config.clusters.iter().zip(&loaded.kafka).enumerate();
    let clusters = pairs.filter_map(|(place, (cluster, new))| {
        let (old, new) = (running.kafka(place)?, new.as_ref()?);
        (old != new).then(|| format!("kafka {} (changed: certificates)", cluster.name))
    });
    let pairs = config.bridges.iter().zip(&loaded.bridges).enumerate();
    let bridges = pairs.filter_map(|(place, (bridge, new))| {
        let (old, new) = (running.bridge(place)?, new.as_ref()?);
        (old != new).then(|| format!("bridge {} (changed: certificates)", bridge.name))
    });
    let control = running.control.as_ref().zip(loaded.control.as_ref()).filter(|(old, new)| !old.is_same(new));
    let control = control.map(|_| "control (changed: certificates)".to_owned());
    let link = running.link.as_ref().zip(loaded.link.as_ref()).filter(|(old, new)| !old.is_same(new));
    let link = link.map(|_| "broker (changed: certificates of its link)".to_owned());
    certificates.chain(policies).chain(clusters).chain(bridges).chain(control).chain(link).collect()
}

/// Whether a listener uses an auth.
fn is_used(config: &Config, auth: &crate::auth::Settings) -> bool {
    config.listeners.iter().any(|listener| !listener.is_removed && listener.auth.as_deref() == Some(&auth.name))
}

/// Whether the files are usable, for `forebay check`.
pub(super) fn check_auth(config: &Config, lines: &mut Vec<Line>) {
    for settings in config.auth.iter().filter(|auth| is_used(config, auth)) {
        let mut push = |verdict, text| lines.push(Line { verdict, about: format!("auth {}", settings.name), text });
        match Policy::load(settings) {
            Err(problems) => problems.into_iter().for_each(|problem| push(Verdict::Problem, problem)),
            Ok(policy) => {
                let keys = settings.jwt.as_ref().map(|jwt| &jwt.keys);
                let count = policy.tokens().map(|tokens| tokens.keys().len());
                if let (Some(Source::JwksUrl(remote)), Some(count)) = (keys, count) {
                    let is_damaged = count == 0 && remote.file.exists();
                    let copy = match count {
                        0 if is_damaged => {
                            format!("its copy {} cannot be used and counts as none", remote.file.display())
                        }
                        0 => "there is no copy of an earlier run".to_owned(),
                        count => format!("the copy of an earlier run has {count} keys"),
                    };
                    let fetched = Wanted::of(settings).map_or(Ok(Vec::new()), |wanted| usable(&wanted));
                    let (verdict, text) = match fetched {
                        Ok(_) if is_damaged => (Verdict::Warning, format!("can be fetched; {copy}")),
                        Ok(_) => (Verdict::Ok, format!("can be fetched; {copy}")),
                        Err(why) if count == 0 => (
                            Verdict::Problem,
                            format!("cannot be fetched: {why}; {copy}: every token would be refused"),
                        ),
                        Err(why) => (
                            Verdict::Warning,
                            format!("cannot be fetched: {why}; {copy}, which are used until stale_max"),
                        ),
                    };
                    push(verdict, format!("{}: {text}", remote.url));
                }
                let known = |users: &Users| {
                    policy.acl().and_then(|acl| unknown_users(settings, |name| users.get(name).is_some(), acl))
                };
                if let Some(text) = policy.users().and_then(known) {
                    push(Verdict::Warning, text);
                }
                let file = keys.filter(|keys| !matches!(keys, Source::JwksUrl(_))).map(Source::file);
                let keys = (file, count, "key");
                let users = (settings.password_file.as_deref(), policy.users().map(Users::len), "user");
                let rules = (settings.acl_file.as_deref(), policy.acl().map(Acl::len), "rule");
                for (file, count, what) in [keys, users, rules] {
                    let (Some(file), Some(count)) = (file, count) else { continue };
                    let verdict = if count == 0 { Verdict::Warning } else { Verdict::Ok };
                    push(verdict, format!("{}: {count} {what}{}", file.display(), if count == 1 { "" } else { "s" }));
                }
            }
        }
    }
}

/// Users of the access control list as which no client can log in: a typing error, or users that were removed.
pub(super) fn unknown_users(
    settings: &crate::auth::Settings,
    is_known: impl Fn(&str) -> bool,
    acl: &Acl,
) -> Option<String> {
    const NAMED_MAX: usize = 5;
    let by_file = |method: &Method| matches!(method, Method::Password | Method::Scram | Method::Anonymous);
    // Certificates and tokens have names of their own.
    if !settings.chain.iter().all(by_file) {
        return None;
    }
    let mut unknown: Vec<&str> = acl.users().filter(|name| !is_known(name)).collect();
    unknown.sort_unstable();
    let named = unknown.iter().take(NAMED_MAX).map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ");
    let more = match unknown.len().checked_sub(NAMED_MAX) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    let (rules, passwords) = (settings.acl_file.as_ref()?.display(), settings.password_file.as_ref()?.display());
    (!unknown.is_empty()).then(|| format!("{rules} has rules for users that {passwords} does not have: {named}{more}"))
}

/// The contents in force, and the time of the next read of the files.
pub(super) struct EdgeFiles {
    pub(super) in_force: Edge,
    pub(super) expiries: Arc<Expiries>,
    journal: Arc<Journal>,
    pub(super) key_sets: KeySets,
    /// Reports of certificates that expire soon: file, time, and step.
    told: Vec<(PathBuf, i64, i64)>,
    looked_at: Instant,
    /// The changed contents of the last read: they are applied if the next read finds the same, as a file may be half written.
    seen: Option<Result<Edge, Vec<String>>>,
}

impl EdgeFiles {
    pub(super) fn new(in_force: Edge, journal: Arc<Journal>, key_sets: KeySets) -> Self {
        let expiries = Arc::new(Expiries::default());
        expiries.show(&in_force);
        Self { in_force, expiries, journal, key_sets, told: Vec::new(), looked_at: Instant::now(), seen: None }
    }

    /// Reports a certificate that expires soon, at each step, and one that has expired.
    pub(super) fn tell_expiring(&mut self) {
        let mut told: Vec<(PathBuf, i64, i64)> = Vec::new();
        for expiry in expiries(&self.in_force) {
            let Some(step) = step(expiry) else { continue };
            let is = (expiry.file.clone(), expiry.at, step);
            if told.contains(&is) {
                continue;
            }
            if !self.told.contains(&is) {
                let file = expiry.file.display().to_string();
                self.journal.say(match u64::try_from(expiry.left() / 86_400) {
                    Ok(days) if step > 0 => {
                        Event::now(Kind::CertificateExpiring).with(Field::File, file).with(Field::Days, days)
                    }
                    _ => Event::now(Kind::CertificateExpired).with(Field::File, file),
                });
            }
            told.push(is);
        }
        self.told = told;
    }

    /// Replaces the contents in force.
    pub(super) fn replace(&mut self, with: Edge) {
        self.expiries.show(&with);
        self.key_sets.want(&with);
        (self.in_force, self.seen) = (with, None);
    }

    /// Reads the files at the next opportunity: one has certainly changed.
    pub(super) fn look_soon(&mut self) {
        self.looked_at = Instant::now().checked_sub(LOOK_EVERY).unwrap_or(self.looked_at);
    }

    /// The contents of the files, if they differ from those in force and are the same as at the last read.
    pub(super) fn look(&mut self, config: &Config) -> Option<Result<Edge, Vec<String>>> {
        const AGAIN_AFTER: Duration = Duration::from_secs(2);
        let wait = if self.seen.is_some() { AGAIN_AFTER } else { LOOK_EVERY };
        if self.looked_at.elapsed() < wait || self.in_force.is_empty() {
            return None;
        }
        self.looked_at = Instant::now();
        let found = load_again(config, &self.in_force);
        let has_changed = |found: &Edge| !changed(config, &self.in_force, found).is_empty();
        let is_same = match (&self.seen, &found) {
            (_, Ok(found)) if !has_changed(found) => {
                self.seen = None;
                return None;
            }
            (Some(Ok(seen)), Ok(found)) => changed(config, seen, found).is_empty(),
            (Some(Err(seen)), Err(found)) => {
                // The contents are reported once.
                if seen == found {
                    return None;
                }
                false
            }
            _ => false,
        };
        if is_same {
            self.seen = None;
            return Some(found);
        }
        if let Err(problems) = &found {
            for problem in problems {
                let reason = format!("a file has changed and cannot be used: {problem}");
                self.journal.say(Event::now(Kind::ReloadFailed).with(Field::Reason, reason));
            }
        }
        self.seen = Some(found);
        None
    }

    /// The time until the next read.
    pub(super) fn next_look(&self) -> Duration {
        if self.seen.is_some() { Duration::from_secs(2) } else { LOOK_EVERY }
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    /// A service's files, read again whenever a test asks for it.
    struct Files {
        dir: tempfile::TempDir,
        config: Config,
        files: EdgeFiles,
    }

    impl Files {
        fn new(rules: &str) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("acl");
            std::fs::write(&path, rules).unwrap();
            let config = format!(
                "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'anonymous'\nacl_file = '{}'\n\
                 [kafka.main]\nbootstrap = '127.0.0.1:9092'\n\
                 [[sink]]\nname = 'all'\nkafka = 'main'\nfilters = ['#']\ntopic = 'all'\n",
                path.display()
            );
            let config = crate::config::parse(&config, "test.toml").unwrap();
            let journal: Arc<Journal> = Arc::default();
            let key_sets = KeySets::start(&config, Arc::clone(&journal), || ()).unwrap();
            let files = EdgeFiles::new(load(&config).unwrap(), journal, key_sets);
            Self { dir, config, files }
        }

        fn write(&self, rules: &str) {
            std::fs::write(self.dir.path().join("acl"), rules).unwrap();
        }

        /// The contents that are applied at the next read, which is due.
        fn look(&mut self) -> Option<Result<Edge, Vec<String>>> {
            self.files.look_soon();
            self.files.look(&self.config)
        }

        /// The number of rules that are taken.
        fn taken(&mut self) -> Option<usize> {
            let taken = self.look()?.ok()?;
            Some(taken.policy("a").unwrap().acl().unwrap().len())
        }
    }

    /// X12: a file may be half written, and half a list lacks its denials.
    #[test]
    fn a_file_is_taken_when_two_looks_agree() {
        let mut files = Files::new("topic read a\n");
        assert!(files.look().is_none(), "nothing has changed");
        files.write("topic read #\n");
        assert!(files.look().is_none(), "half of it, for all that is known");
        files.write("topic read #\ntopic deny secret\n");
        assert!(files.look().is_none(), "another one than before");
        assert_eq!(files.taken(), Some(2));
        // A file that is put back before the second look has not changed.
        let mut files = Files::new("topic read a\n");
        files.write("topic read #\n");
        assert!(files.look().is_none());
        files.write("topic read a\n");
        assert!(files.look().is_none());
        files.write("topic read #\n");
        assert!(files.look().is_none(), "the look before has shown what is in force");
        assert_eq!(files.taken(), Some(1));
    }

    /// X12: wrong files change nothing, however often they are looked at; a file that is right again is taken.
    #[test]
    fn files_that_cannot_be_used_are_not_taken() {
        let mut files = Files::new("topic read a\n");
        files.write("topic read\u{0} a\n");
        for _ in 0..3 {
            assert!(!matches!(files.look(), Some(Ok(_))));
        }
        files.write("topic read a\ntopic read b\n");
        assert!(files.look().is_none());
        assert_eq!(files.taken(), Some(2));
    }
}
