//! Once a second: what an operator is told of messages in the spool that come to nothing, and a figure for which every
//! partition is looked at.

use crate::metrics::event::{Field, Kind};
use crate::metrics::spec::SinkMetric;

use super::Core;

/// Why messages are given up.
const OLDEST: &str = "the spool was full, and when_full is \"drop-oldest\"";
const ROTTEN: &str = "their data on disk can no longer be read";

/// What was looked at and said last.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    looked: Option<u64>,
    /// By sink of the configuration: dropped and rotten, as told.
    told: Vec<[u64; 2]>,
}

impl GivenUp {
    /// Whether this second has not been looked at: it is now.
    pub(super) fn is_due(&mut self, second: u64) -> bool {
        self.looked.replace(second) != Some(second)
    }
}

impl Core {
    pub(super) fn tell_given_up(&mut self, second: u64) {
        let (given_up, sinks) = (&mut self.given_up, &self.around.config.sinks);
        given_up.told.resize(sinks.len(), [0; 2]);
        for upstream in &self.outlets.upstreams {
            for (number, sink) in upstream.members.own() {
                self.numbers.set_sink(sink, SinkMetric::SpilledRows, upstream.producer.spilled_rows(number));
                let stats = upstream.producer.stats(number);
                let totals = [(stats.dropped, OLDEST), (stats.rotten, ROTTEN)];
                for ((total, why), told) in totals.into_iter().zip(&mut given_up.told[sink]) {
                    let rows = total - std::mem::replace(told, total);
                    if rows > 0 {
                        self.teller.tell_of(Kind::RowsDropped, second, sink, |event| {
                            let event = event.with(Field::Sink, sinks[sink].name.as_str());
                            event.with(Field::Records, rows).with(Field::Reason, why)
                        });
                    }
                }
            }
        }
    }
}
