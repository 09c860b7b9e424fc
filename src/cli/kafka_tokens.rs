//! Reports about tokens for logins to Kafka: numbers, and an event when an identity provider gives none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::collector::{Extra, Number};
use crate::metrics::event::{Event, Field, Kind as EventKind};
use crate::metrics::journal::Journal;
use crate::metrics::spec::{Kind, Spec};
use crate::service::kafka_tokens::Told;

/// The metric of fetched tokens.
pub(super) const FETCHED: Spec = Spec {
    name: "kafka_token_fetches",
    label: Some(("result", "fetched")),
    help: "Tokens fetched from `token_url` for logins to Kafka, by result.",
    kind: Kind::Counter,
};

/// The metric of fetches that failed.
pub(super) const FAILED: Spec = Spec {
    name: "kafka_token_fetches",
    label: Some(("result", "failed")),
    help: "The endpoint could not be reached, refused, or gave no token.",
    kind: Kind::Counter,
};

/// Counts of fetches by their outcome.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    fetched: AtomicU64,
    failed: AtomicU64,
}

impl Fetches {
    /// The function that counts and reports the outcome of each fetch.
    pub(super) fn teller(self: &Arc<Self>, journal: Arc<Journal>) -> impl FnMut(Told) + Send + 'static {
        let numbers = Arc::clone(self);
        move |told| match told {
            Told::Fetched => {
                numbers.fetched.fetch_add(1, Ordering::Relaxed);
            }
            Told::Failed { why, is_first } => {
                numbers.failed.fetch_add(1, Ordering::Relaxed);
                if is_first {
                    journal.say(Event::now(EventKind::KafkaTokenFailed).with(Field::Reason, why));
                }
            }
        }
    }
}

impl Extra for Fetches {
    fn read(&self) -> Vec<Number> {
        let read = |spec, number: &AtomicU64| Number::of(spec, number.load(Ordering::Relaxed));
        vec![read(&FETCHED, &self.fetched), read(&FAILED, &self.failed)]
    }
}
