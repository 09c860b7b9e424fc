//! The number of connections that found no descriptor, for `/metrics`.

use std::sync::Arc;

use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};
use crate::runtime::Heartbeat;

/// The metric's name and meaning.
pub(super) const REFUSED: Spec = Spec {
    name: "connections_refused_no_descriptor",
    label: None,
    help: "Connections closed at once because the file descriptors for devices were used up; some are kept for Kafka, the \
           disk and the control plane.",
    kind: Kind::Counter,
};

/// The source of the number: it asks the shards' heartbeats.
#[derive(Debug)]
pub(super) struct AcceptNumbers(pub(super) Vec<Arc<Heartbeat>>);

impl Extra for AcceptNumbers {
    fn read(&self) -> Vec<Number> {
        vec![Number::of(&REFUSED, self.0.iter().map(|heartbeat| heartbeat.accepts_refused()).sum())]
    }
}
