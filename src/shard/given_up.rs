//! Once a second: what an operator is told of messages in the spool that come to nothing, and a figure for which every
//! partition is looked at.

use crate::metrics::event::{Field, Kind};
use crate::metrics::spec::{RefusalReason, SinkMetric};
use crate::runtime::seam::Monotonic;
use crate::session::ClientKey;

use super::Core;
use super::events::{DROPPED, publish_refused, second};

/// Why messages are given up.
const OLDEST: &str = "the spool was full, and when_full is \"drop-oldest\"";
const NO_ROOM: &str = "messages of QoS 0 found no room in the sink's buffer, and qos0_when_full is \"drop\"; all other destinations have them";
const ROTTEN: &str = "their data on disk can no longer be read";

/// What was looked at and said last.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    looked: Option<u64>,
    /// By sink of the configuration: messages of QoS 0 that found no room.
    no_room: Vec<u64>,
    /// By sink of the configuration: dropped, rotten and without room, as told.
    told: Vec<[u64; 3]>,
}

impl GivenUp {
    /// Whether this second has not been looked at: it is now.
    pub(super) fn is_due(&mut self, second: u64) -> bool {
        self.looked.replace(second) != Some(second)
    }
}

impl Core {
    /// Sinks have gone without a message: they had no room for one of QoS 0, or will never take it.
    #[cold]
    pub(super) fn count_passed_over(&mut self, client: ClientKey<'_>, topic: &str, now: Monotonic) {
        let config = &self.broker.around.config;
        let no_room = &mut self.given_up.no_room;
        no_room.resize(config.sinks.len(), 0);
        for (sink, why) in self.broker.outlets.passed_over.drain(..) {
            self.broker.numbers.count_refusal(usize::from(sink), why);
            if why == RefusalReason::NoRoom {
                no_room[usize::from(sink)] += 1;
            } else {
                publish_refused(&mut self.broker.teller, config, second(now), sink, (client, topic), (why, DROPPED));
            }
        }
    }

    pub(super) fn tell_given_up(&mut self, second: u64) {
        let (given_up, sinks) = (&mut self.given_up, &self.broker.around.config.sinks);
        given_up.told.resize(sinks.len(), [0; 3]);
        given_up.no_room.resize(sinks.len(), 0);
        for upstream in &self.broker.outlets.upstreams {
            for (number, sink) in upstream.members.own() {
                self.broker.numbers.set_sink(sink, SinkMetric::SpilledRows, upstream.producer.spilled_rows(number));
                let stats = upstream.producer.stats(number);
                let no_room = given_up.no_room[sink];
                let totals = [(stats.dropped, OLDEST), (stats.rotten, ROTTEN), (no_room, NO_ROOM)];
                for ((total, why), told) in totals.into_iter().zip(&mut given_up.told[sink]) {
                    let rows = total - std::mem::replace(told, total);
                    if rows > 0 {
                        self.broker.teller.tell_of(Kind::RowsDropped, second, sink, |event| {
                            let event = event.with(Field::Sink, sinks[sink].name.as_str());
                            event.with(Field::Records, rows).with(Field::Reason, why)
                        });
                    }
                }
            }
        }
    }
}
