//! Numbers of passwords and tokens that wait to be checked, on `/metrics`.

use std::fmt;

use crate::limits::{VERIFIED_BYTES_MAX, VERIFIED_MAX};
use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};
use crate::service::verifier::Verifiers;

/// The metrics' names and meanings.
pub(super) const WAITING: [Spec; 4] = [
    gauge(
        "authentications_queued",
        "Passwords and tokens that wait to be checked, without those that are being checked.",
    ),
    gauge("authentications_queued_max", "How many may wait: then the address with most of them makes room."),
    gauge("authentications_queued_bytes", "Bytes of passwords and tokens that wait to be checked."),
    gauge("authentications_queued_bytes_max", "How many bytes may wait."),
];

const fn gauge(name: &'static str, help: &'static str) -> Spec {
    Spec { name, label: None, help, kind: Kind::Gauge }
}

/// The source of the numbers: the verifiers' queue.
pub(super) struct VerifierNumbers(pub(super) Verifiers);

impl fmt::Debug for VerifierNumbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerifierNumbers")
    }
}

impl Extra for VerifierNumbers {
    fn read(&self) -> Vec<Number> {
        let waiting = self.0.waiting();
        let values = [waiting.questions, VERIFIED_MAX, waiting.bytes, VERIFIED_BYTES_MAX];
        WAITING.iter().zip(values).map(|(spec, value)| Number::of(spec, value as u64)).collect()
    }
}
