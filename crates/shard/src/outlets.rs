//! Outlets: the router, the sinks' templates, the producers and the spool, between a message and Kafka.

use smallvec::SmallVec;

use forebay_base::limits::CLOCK_SET_AFTER_MS;
use forebay_broker::logs::Logs;
use forebay_broker::mail::Copies;
use forebay_broker::words::{Feeds, Wait};
use forebay_buffer::Buffer;
use forebay_config::WhenFull;
use forebay_kafka::producer::{Full, Producer};
use forebay_kafka::types::SinkId;
use forebay_metrics::spec::RefusalReason;
use forebay_mqtt::route::trie::SinkRouter;
use forebay_runtime::seam::WallMs;

use super::dead_letters::DeadLetterQueue;
use super::fullness::Fullness;
use super::reservation::Workspace;
use super::rules::Rules;
use super::sinks::{Message, Plan};
use super::slot_rows::SlotRows;
use super::upstream::Upstream;
use super::words::Objection;

/// The number of tombstones that end a retained message with these copies: one, or one for each partition that may have a copy.
pub(super) fn tombstones(copies: Copies, producer: &Producer, plan: &Plan) -> usize {
    copies.tombstones(producer.partition_count(plan.sink, plan.topic.as_literal().unwrap_or_default()))
}

/// Everything between a message and Kafka: which sinks match, how each writes its row, and the producers that send it.
pub(super) struct Outlets {
    pub(super) router: SinkRouter,
    pub(super) plans: Vec<Plan>,
    /// Numbers of header values that became no header, by sink.
    pub(super) headers_left_out: Vec<u64>,
    /// The upstream of each cluster.
    pub(super) upstreams: Vec<Upstream>,
    pub(super) letters: DeadLetterQueue,
    /// Rules in SQL; `None`: there are none, or they are being evaluated.
    pub(super) rules: Option<Box<Rules>>,
    /// Rows of the logs of slots, on their way to the broker's routes.
    pub(super) slot_rows: Option<Box<SlotRows>>,
    /// The handling of a message that the log of rows has no room for.
    pub(super) when_full: WhenFull,
    pub(super) full: Fullness,
    /// Sinks that went without a message, and were not counted yet.
    pub(super) passed_over: SmallVec<[(u16, RefusalReason); 4]>,
    /// Messages of QoS 0 that found no room, by sink.
    pub(super) no_room: Vec<u64>,
    /// The time before which a wall clock counts as not set.
    pub(super) clock_set_after: WallMs,
    /// The destinations of clients' messages.
    pub(super) feeds: Feeds,
    /// Where copies of retained messages may be.
    pub(super) copies: Copies,
    /// The memory of the current reservation: [`super::reservation`] alone reads it.
    pub(super) workspace: Workspace,
}

impl Outlets {
    /// `plans` and the router's numbers are both in the order of the configuration.
    pub(super) fn new(
        router: SinkRouter,
        plans: Vec<Plan>,
        upstreams: Vec<Upstream>,
        letters: DeadLetterQueue,
        when_full: WhenFull,
    ) -> Self {
        Self {
            router,
            headers_left_out: vec![0; plans.len()],
            plans,
            upstreams,
            letters,
            rules: None,
            slot_rows: None,
            when_full,
            full: Fullness::default(),
            passed_over: SmallVec::new(),
            no_room: Vec::new(),
            clock_set_after: WallMs(CLOCK_SET_AFTER_MS),
            feeds: Feeds::ALL,
            copies: Copies::default(),
            workspace: Workspace::default(),
        }
    }

    /// Whether a waiting message is worth asking again for.
    pub(super) fn may_go_on(&self, logs: &Logs, wait: Wait) -> bool {
        let letters = match wait.full {
            // The next answer shows whether it waits for the file or for the topic.
            Full::Letters(sink) => {
                let sink = usize::from(sink);
                self.letters.has_places(sink) || self.letters.has_room(sink)
            }
            Full::Spool => logs.rows().is_none_or(|buffer| buffer.has_room(wait.bytes)),
            Full::SpoolShare(sink) => {
                logs.rows().is_none_or(|buffer| buffer.admit(wait.cluster, sink, wait.bytes).is_ok())
            }
            Full::Memory | Full::Sink(_) | Full::Topic(_) | Full::Partition(..) => true,
        };
        letters && self.upstreams[wait.cluster].producer.may_go_on(wait.full, wait.bytes)
    }

    /// The place in the configuration of the sink that has a row of the log of sessions.
    pub(super) fn sink_of_row(&self, cluster: usize, sink: SinkId) -> Option<usize> {
        match &self.slot_rows {
            Some(rows) => rows.sink_of(sink),
            None => self.upstreams.get(cluster)?.members.index_of(sink),
        }
    }

    /// Whether the log of a slot has a row of a message for a topic of `[broker]`, if these sinks have had the message.
    pub(super) fn is_routed(&self, taken_by: &[u16]) -> bool {
        self.slot_rows.as_ref().is_some_and(|rows| taken_by.iter().any(|sink| rows.is_of_route(*sink)))
    }

    /// A number that changes whenever memory of a producer, or a place for a dead letter, has been freed.
    pub(super) fn freed(&self, logs: &Logs) -> u64 {
        let others = self.letters.freed().wrapping_add(logs.rows().map_or(0, Buffer::freed));
        let others = others.wrapping_add(self.freed_of_slots(&logs.kept));
        self.upstreams.iter().fold(others, |sum, upstream| sum.wrapping_add(upstream.producer.freed()))
    }
}

/// The Kafka topic of a message: the sink's own, which needs no second look, or the one that its template makes of the message.
#[inline]
pub(super) fn topic<'a>(plan: &'a Plan, message: &Message<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a str, Objection> {
    if let Some(fixed) = plan.topic.as_literal() {
        return Ok(fixed);
    }
    plan.topic_name(plan.topic.value(message, scratch).map_err(Objection::Absent)?)
}
