//! The log's one number on `/metrics`.

use crate::metrics::collector::{Extra, Number};
use crate::metrics::spec::{Kind, Spec};
use crate::service::log;

/// What it is called.
pub(super) const DROPPED: Spec = Spec {
    name: "log_lines_dropped",
    label: None,
    help: "Log lines lost because standard error was not read fast enough.",
    kind: Kind::Counter,
};

/// Asks the log's writer.
#[derive(Debug)]
pub(super) struct LogNumbers;

impl Extra for LogNumbers {
    fn read(&self) -> Vec<Number> {
        vec![Number::of(&DROPPED, log::lines_dropped())]
    }
}
