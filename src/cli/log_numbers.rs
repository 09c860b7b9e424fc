//! Numbers of the log's writer and of the threads that write dead letters, on `/metrics`.

use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};
use crate::service::{dead_letters, log};

/// The metric's name and meaning.
pub(super) const DROPPED: Spec = Spec {
    name: "log_lines_dropped",
    label: None,
    help: "Log lines lost because standard error was not read fast enough.",
    kind: Kind::Counter,
};

/// The metric of the threads that write dead letters.
pub(super) const DELETED: Spec = Spec {
    name: "dead_letters_deleted",
    label: None,
    help: "Dead letters deleted together with the oldest of their files, read or not.",
    kind: Kind::Counter,
};

/// The source of the numbers: the log's threads.
#[derive(Debug)]
pub(super) struct LogNumbers;

impl Extra for LogNumbers {
    fn read(&self) -> Vec<Number> {
        vec![Number::of(&DROPPED, log::lines_dropped()), Number::of(&DELETED, dead_letters::deleted())]
    }
}
