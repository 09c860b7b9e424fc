//! Key sets by URL: the configured ones, reports about them, and their age.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::auth::jwt::Tokens;
use crate::config::Config;
use crate::edge::Edge;
use crate::metrics::collector::{Extra, Number};
use crate::metrics::event::{Event, Field, Kind as EventKind};
use crate::metrics::journal::Journal;
use crate::metrics::spec::{Kind, Spec};
use crate::service::key_sets::{self, Told, Wanted};

/// The thread that fetches key sets, and their ages.
pub(super) struct KeySets {
    thread: key_sets::KeySets,
    pub(super) ages: Arc<Ages>,
}

impl KeySets {
    /// Starts the thread. `changed` is called there, whenever a file may have changed.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(super) fn start(
        config: &Config,
        journal: Arc<Journal>,
        changed: impl Fn() + Send + 'static,
    ) -> Result<Self, String> {
        let wanted: Vec<Wanted> = config.auth.iter().filter_map(Wanted::of).collect();
        let ages = Arc::new(Ages::default());
        ages.show(&wanted);
        let told = move |auth: &str, told| {
            let event = |kind| Event::now(kind).with(Field::Auth, auth);
            match told {
                Told::Fetched => {}
                Told::Unreachable(why) => journal.say(event(EventKind::KeySetUnreachable).with(Field::Reason, why)),
                Told::Dropped => journal.say(event(EventKind::KeySetDropped)),
            }
            changed();
        };
        let thread = key_sets::KeySets::start(wanted, told).map_err(|e| format!("thread for key sets: {e}"))?;
        Ok(Self { thread, ages })
    }

    /// Requests the key sets that the contents in force name.
    pub(super) fn want(&self, edge: &Edge) {
        let mut wanted: Vec<Wanted> = Vec::new();
        for one in edge.auth.iter().flatten().filter_map(|policy| Wanted::of(policy.settings())) {
            if !wanted.contains(&one) {
                wanted.push(one);
            }
        }
        self.ages.show(&wanted);
        self.thread.want(wanted);
    }

    /// Fetches key sets again in which a token's key was missing.
    pub(super) fn refresh_missed(&self, edge: &Edge) {
        for policy in edge.auth.iter().flatten() {
            if policy.tokens().is_some_and(Tokens::has_missed) {
                self.thread.refresh(policy.name());
            }
        }
    }
}

/// Ages for `/metrics`.
#[derive(Debug, Default)]
pub(super) struct Ages(Mutex<Vec<(String, PathBuf)>>);

/// The metric of [`Ages`].
pub(super) const AGE: Spec = Spec {
    name: "key_set_age_seconds",
    label: None,
    help: "Time since the key set of `jwks_url` was fetched, in seconds; missing while there is none.",
    kind: Kind::Gauge,
};

impl Ages {
    fn show(&self, wanted: &[Wanted]) {
        let shown = wanted.iter().map(|one| (one.auth.clone(), one.remote.file.clone())).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }
}

impl Extra for Ages {
    fn read(&self) -> Vec<Number> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = |(auth, file): &(String, PathBuf)| {
            let fetched = std::fs::metadata(file).and_then(|file| file.modified()).ok()?;
            let age = SystemTime::now().duration_since(fetched).unwrap_or_default();
            Some(Number { spec: AGE, labels: vec![("auth", auth.clone())], value: age.as_secs_f64() })
        };
        all.iter().filter_map(number).collect()
    }
}
