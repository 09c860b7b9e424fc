//! Events about messages of the spool that are given up, once a second, and a metric for which every partition is checked.

use forebay_broker::here::Here;
use forebay_broker::words::{DROPPED, publish_refused, second};
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::{RefusalReason, SinkMetric};
use forebay_runtime::seam::Monotonic;
use forebay_session::ClientKey;

use super::Core;
use super::outlets::Outlets;

/// The reason why messages are given up.
const OLDEST: &str = "the spool was full, and when_full is \"drop-oldest\"";
const MOVED: &str = "another instance serves their publishers now, which publish them again there";
const NO_ROOM: &str = "messages of QoS 0 found no room in the sink's buffer, and qos0_when_full is \"drop\"; all other destinations have them";
const ROTTEN: &str = "their data on disk can no longer be read";

/// The numbers of the last check and report.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    looked: Option<u64>,
    /// Counts by sink of the configuration, as reported: dropped, rotten and without room.
    told: Vec<[u64; 3]>,
}

impl GivenUp {
    /// Whether this second has not been checked yet. It counts as checked from now on.
    pub(super) fn is_due(&mut self, second: u64) -> bool {
        self.looked.replace(second) != Some(second)
    }
}

impl Outlets {
    /// Whether there is something for [`Outlets::count_aside`].
    pub(super) fn has_aside(&self) -> bool {
        !self.passed_over.is_empty() || self.has_outcomes()
    }

    /// Counts the outcomes of rules for a message, and records sinks that have gone without a message of this client and topic, if these are known: the sinks
    /// had no room for a message of QoS 0, or will never take it.
    #[cold]
    pub(super) fn count_aside(&mut self, here: &mut Here, of: Option<(ClientKey<'_>, &str)>, now: Monotonic) {
        self.no_room.resize(here.config.sinks.len(), 0);
        for (sink, why) in self.passed_over.drain(..) {
            here.numbers.count_refusal(usize::from(sink), why);
            if why == RefusalReason::NoRoom {
                self.no_room[usize::from(sink)] += 1;
            } else if let Some(of) = of {
                publish_refused(&mut here.teller, &here.config, second(now), sink, of, (why, DROPPED));
            }
        }
        self.count_rules(here, of, now);
    }
}

impl Core {
    pub(super) fn tell_given_up(&mut self, second: u64) {
        let (given_up, sinks) = (&mut self.log.given_up, &self.here.config.sinks);
        given_up.told.resize(sinks.len(), [0; 3]);
        for upstream in &self.outlets.upstreams {
            for (number, sink) in upstream.members.own() {
                self.here.numbers.set_sink(sink, SinkMetric::SpilledRows, upstream.producer.spilled_rows(number));
                let stats = upstream.producer.stats(number);
                let no_room = self.outlets.no_room.get(sink).copied().unwrap_or(0);
                // Rows of a topic of `[broker]` are dropped with the slot of their client alone.
                let dropped = if sinks[sink].of_broker.is_some() { MOVED } else { OLDEST };
                let totals = [(stats.dropped, dropped), (stats.rotten, ROTTEN), (no_room, NO_ROOM)];
                for ((total, why), told) in totals.into_iter().zip(&mut given_up.told[sink]) {
                    let rows = total - std::mem::replace(told, total);
                    if rows > 0 {
                        self.here.teller.tell_of(Kind::RowsDropped, second, sink, |event| {
                            let event = event.with(Field::Sink, sinks[sink].name.as_str());
                            event.with(Field::Records, rows).with(Field::Reason, why)
                        });
                    }
                }
            }
        }
    }
}
