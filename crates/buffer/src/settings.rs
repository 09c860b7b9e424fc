//! The settings of a buffer.

use forebay_kafka::producer::{AnsweredOn, Keep};
use forebay_kafka::types::SinkId;
use forebay_spool::{self as spool, State};

/// A sink's terms for the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkTerms {
    /// The sink's name in the configuration, which the log uses too.
    pub name: Box<str>,
    /// Where the sink's rows are kept.
    pub keep: Keep,
    /// When the sink's publishers get their acknowledgements.
    pub answered_on: AnsweredOn,
}

impl SinkTerms {
    /// The terms of a sink that writes a dead-letter topic. The configuration has no sink without a name.
    pub(super) fn of_dead_letters() -> Self {
        Self { name: "".into(), keep: Keep::Memory, answered_on: AnsweredOn::Replicated }
    }
}

/// The settings of a buffer.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The log.
    pub log: spool::Settings,
    /// The sinks of each cluster, by [`forebay_kafka::types::SinkId`]. Sinks that write dead-letter topics come last and
    /// are left out: dead letters stay in memory, and the rows that they stand for in the log.
    pub clusters: Vec<Vec<SinkTerms>>,
    /// Whether sinks that only the log knows are taken up, as the last ones of the first cluster: a log in Kafka outlives the routes of `[broker]`, and
    /// rows of a route that is gone go to the topic that they name.
    pub takes_up_others: bool,
}

impl Settings {
    /// Adds the sinks of the log's lanes that the configuration does not have, as [`Settings::takes_up_others`] says. A lane without names has no rows.
    pub(super) fn take_up_others(&mut self, state: &State) {
        for (_, lane) in state.lasting_lanes().filter(|(_, lane)| !lane.sink.is_empty()) {
            if self.find(&lane.sink).is_some() {
                continue;
            }
            let name = lane.sink.as_ref().into();
            let other = SinkTerms { name, keep: Keep::Disk, answered_on: AnsweredOn::Stored };
            self.clusters.first_mut().into_iter().for_each(|sinks| sinks.push(other.clone()));
        }
    }

    /// Cluster and number of the sink with that name.
    pub(super) fn find(&self, name: &str) -> Option<(usize, SinkId)> {
        self.clusters.iter().enumerate().find_map(|(cluster, sinks)| {
            let place = sinks.iter().position(|sink| *sink.name == *name)?;
            Some((cluster, SinkId(u16::try_from(place).ok()?)))
        })
    }
}
