//! Asking Kafka what its log holds (P5, P6).

use super::Producer;
use crate::kafka::types::LogSays;
use crate::runtime::seam::Monotonic;

impl Producer {
    /// The answer to [`super::Want::Ask`]. One that nobody waits for any more is nothing.
    pub fn on_asked(&mut self, _token: u64, _says: LogSays, _now: Monotonic) {}
}
