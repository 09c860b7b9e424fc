//! The certificates of all listeners: read at the start, with a reload, and when their files have changed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};
use crate::secure::{Expiry, Server};

use super::check::{Line, Verdict};

/// TLS of each listener that has it, by its place in the configuration.
pub(super) type ByListener = Vec<Option<Arc<Server>>>;

/// When to look at the files again.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// From this on `forebay check` warns.
const WARN_BEFORE_S: i64 = 30 * 86_400;

/// Reads all of them.
///
/// # Errors
/// Everything that is wrong with any.
pub(super) fn load(config: &Config) -> Result<ByListener, Vec<String>> {
    let mut problems = Vec::new();
    let mut load = |listener: &crate::config::Listener| {
        let settings = listener.tls.as_ref().filter(|_| !listener.is_removed)?;
        let named = |problem| format!("listener {}: {problem}", listener.bind);
        let loaded = Server::load(settings).map_err(|all| problems.extend(all.into_iter().map(named)));
        loaded.ok().map(Arc::new)
    };
    let loaded = config.listeners.iter().map(&mut load).collect();
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

/// The same for a service that runs: a certificate whose time is over is a mistake then, where there was a better one.
pub(super) fn load_again(config: &Config) -> Result<ByListener, Vec<String>> {
    let loaded = load(config)?;
    let expired = |expiry: &&Expiry| !expiry.is_of_ca && expiry.left() <= 0;
    let said = |expiry: &Expiry| format!("{}: a certificate in it has expired", expiry.file.display());
    let problems: Vec<_> = expiries(&loaded).filter(expired).map(said).collect();
    if problems.is_empty() { Ok(loaded) } else { Err(problems) }
}

fn expiries(all: &ByListener) -> impl Iterator<Item = &Expiry> {
    all.iter().flatten().flat_map(|server| server.expiries())
}

/// The listeners whose files have changed, in the words of a reload.
pub(super) fn changed(config: &Config, running: &ByListener, loaded: &ByListener) -> Vec<String> {
    let pairs = config.listeners.iter().zip(loaded).enumerate();
    let changed = pairs.filter_map(|(place, (listener, new))| {
        let (old, new) = (running.get(place)?.as_ref()?, new.as_ref()?);
        (!old.is_same(new)).then(|| format!("listener {} (changed: certificates)", listener.bind))
    });
    changed.collect()
}

/// Says which are over, or will be soon.
pub(super) fn warn(all: &ByListener) {
    for expiry in expiries(all).filter(|expiry| expiry.left() < WARN_BEFORE_S) {
        let (file, days) = (expiry.file.display(), expiry.left() / 86_400);
        if expiry.left() <= 0 {
            tracing::error!(%file, "a certificate has expired");
        } else {
            tracing::warn!(%file, days, "a certificate expires soon");
        }
    }
}

/// Whether the files are usable, for `forebay check`.
pub(super) fn check(config: &Config, lines: &mut Vec<Line>) {
    for listener in &config.listeners {
        let Some(settings) = &listener.tls else { continue };
        let mut push = |verdict, text| lines.push(Line { verdict, about: format!("listener {}", listener.bind), text });
        match Server::load(settings) {
            Err(problems) => problems.into_iter().for_each(|problem| push(Verdict::Problem, problem)),
            Ok(server) => {
                for expiry in server.expiries() {
                    let (file, days) = (expiry.file.display(), expiry.left().div_euclid(86_400));
                    match expiry.left() {
                        ..=0 => push(Verdict::Problem, format!("{file}: a certificate has expired")),
                        1..WARN_BEFORE_S => {
                            push(Verdict::Warning, format!("{file}: a certificate expires in {days} days"))
                        }
                        _ => push(Verdict::Ok, format!("{file}: valid for {days} days")),
                    }
                }
            }
        }
    }
}

/// What `/metrics` shows of them.
#[derive(Debug, Default)]
pub(super) struct Expiries(Mutex<Vec<Expiry>>);

/// See [`Expiries`].
pub(super) const EXPIRY: Spec = Spec {
    name: "tls_certificate_expiry_timestamp_seconds",
    label: None,
    help: "When the first certificate in the file expires, in seconds since 1970.",
    kind: Kind::Gauge,
};

impl Expiries {
    pub(super) fn show(&self, all: &ByListener) {
        let mut shown: Vec<Expiry> = expiries(all).cloned().collect();
        shown.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        shown.dedup_by(|b, a| a.file == b.file);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

impl Extra for Expiries {
    fn read(&self) -> Vec<Number> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |expiry: &Expiry| {
            let labels = vec![("file", expiry.file.display().to_string())];
            Number { spec: EXPIRY, labels, value: expiry.at as f64 }
        };
        all.iter().map(number).collect()
    }
}

/// The certificates in force, and when their files are to be looked at.
pub(super) struct Certificates {
    pub(super) in_force: ByListener,
    pub(super) expiries: Arc<Expiries>,
    looked_at: Instant,
    /// What the files held when they were last looked at and had changed: taken if it is still so, as somebody may be
    /// writing them.
    seen: Option<Result<ByListener, Vec<String>>>,
}

impl Certificates {
    pub(super) fn new(in_force: ByListener) -> Self {
        let expiries = Arc::new(Expiries::default());
        expiries.show(&in_force);
        warn(&in_force);
        Self { in_force, expiries, looked_at: Instant::now(), seen: None }
    }

    /// Others are in force from now on.
    pub(super) fn replace(&mut self, with: ByListener) {
        self.expiries.show(&with);
        (self.in_force, self.seen) = (with, None);
    }

    /// What the files hold, if that is something else than is in force, and the same as one look before.
    pub(super) fn look(&mut self, config: &Config) -> Option<Result<ByListener, Vec<String>>> {
        const AGAIN_AFTER: Duration = Duration::from_secs(2);
        let wait = if self.seen.is_some() { AGAIN_AFTER } else { LOOK_EVERY };
        if self.looked_at.elapsed() < wait || self.in_force.iter().all(Option::is_none) {
            return None;
        }
        self.looked_at = Instant::now();
        let found = load_again(config);
        let has_changed = |found: &ByListener| !changed(config, &self.in_force, found).is_empty();
        let is_same = match (&self.seen, &found) {
            (_, Ok(found)) if !has_changed(found) => {
                self.seen = None;
                return None;
            }
            (Some(Ok(seen)), Ok(found)) => changed(config, seen, found).is_empty(),
            (Some(Err(seen)), Err(found)) => {
                // Said once.
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
                tracing::error!("the certificates have changed and cannot be used; the old ones stay: {problem}");
            }
        }
        self.seen = Some(found);
        None
    }

    /// How long the next look can wait.
    pub(super) fn next_look(&self) -> Duration {
        if self.seen.is_some() { Duration::from_secs(2) } else { LOOK_EVERY }
    }
}
