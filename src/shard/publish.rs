//! A message and its sinks: first whether all that match can take it, then the rows. All of them take it or none.

use std::time::Duration;

use crate::kafka::murmur2::murmur2;
use crate::kafka::producer::{Full, Refusal, Row, Terms};
use crate::kafka::types::Ticket;
use crate::mqtt::reason::ReasonCode;
use crate::runtime::seam::{Monotonic, WallMs};

use smallvec::SmallVec;

use crate::route::trie::SinkRouter;
use crate::rule::template::Absent;

use super::sinks::{Message, Plan};
use super::upstream::Upstream;

/// Everything between a message and Kafka: which sinks match, how each writes its row, and the producers behind them.
pub(super) struct Outlets {
    router: SinkRouter,
    plans: Vec<Plan>,
    /// One for each cluster.
    pub(super) upstreams: Vec<Upstream>,
    scratch: Scratch,
}

/// Memory reused from message to message.
#[derive(Default)]
struct Scratch {
    matched: SmallVec<[u16; 4]>,
    needs: Vec<usize>,
    topic: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<u8>,
}

/// What became of the question whether a message can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// The sinks in `scratch.matched` have room and no objection.
    Room,
    /// No filter matches.
    Unmatched,
    /// Some memory is full: leave the packet unread.
    Full(Wait),
    /// A sink will never take it; nobody has taken it.
    Refused(ReasonCode),
}

/// What a message that found no room waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) cluster: usize,
    pub(super) full: Full,
    /// The room it needs there.
    pub(super) bytes: usize,
}

impl Outlets {
    /// `plans` and the router's numbers are both in the order of the configuration.
    pub(super) fn new(router: SinkRouter, plans: Vec<Plan>, upstreams: Vec<Upstream>) -> Self {
        Self { router, plans, upstreams, scratch: Scratch::default() }
    }

    /// Matches the message and asks every sink that it matched. Takes nothing yet.
    pub(super) fn admit(&mut self, message: &Message<'_>) -> Admission {
        let scratch = &mut self.scratch;
        self.router.matches(message.topic, &mut scratch.matched);
        if scratch.matched.is_empty() {
            return Admission::Unmatched;
        }
        scratch.needs.clear();
        scratch.needs.resize(self.upstreams.len(), 0);
        let mut waits = None;
        for sink in &scratch.matched {
            let plan = &self.plans[usize::from(*sink)];
            let bytes = match plan.row_bytes_max(message) {
                Ok(bytes) => bytes,
                Err(absent) => return Admission::Refused(without(absent)),
            };
            let topic = match topic(plan, message, &mut scratch.topic) {
                Ok(topic) => topic,
                Err(code) => return Admission::Refused(code),
            };
            let producer = &self.upstreams[plan.cluster].producer;
            match producer.check(plan.sink, topic, bytes) {
                Err(refusal) => {
                    // The end of this turn looks for topics to forget.
                    self.upstreams[plan.cluster].busy |= refusal == Refusal::TooManyTopics;
                    return Admission::Refused(reason(refusal));
                }
                Ok(topic) => {
                    let mut room = producer.share(plan.sink, topic, bytes);
                    if room.is_ok() && !producer.is_plenty(bytes) {
                        let key = plan.key.as_ref().and_then(|key| key.value(message, &mut scratch.key).ok());
                        room = producer.share_of_key(topic, key, bytes);
                    }
                    if let Err(full) = room {
                        // Another sink may still refuse it for good.
                        waits = waits.or(Some(Wait { cluster: plan.cluster, full, bytes }));
                    }
                }
            }
            scratch.needs[plan.cluster] += bytes;
        }
        let no_room = |(upstream, bytes): (&Upstream, &usize)| *bytes > 0 && !upstream.producer.has_room(*bytes);
        let full = || self.upstreams.iter().zip(&scratch.needs).position(no_room);
        let memory = |cluster| Wait { cluster, full: Full::Memory, bytes: scratch.needs[cluster] };
        waits.or_else(|| full().map(memory)).map_or(Admission::Room, Admission::Full)
    }

    /// Whether it is worth asking again for who waits.
    pub(super) fn may_go_on(&self, wait: Wait) -> bool {
        self.upstreams[wait.cluster].producer.may_go_on(wait.full, wait.bytes)
    }

    /// Changes whenever memory of some producer has come free.
    pub(super) fn freed(&self) -> u64 {
        self.upstreams.iter().fold(0, |sum, upstream| sum.wrapping_add(upstream.producer.freed()))
    }

    /// Writes the message's rows, after [`Outlets::admit`] found room. Returns how many sinks owe an answer for it.
    pub(super) fn take(&mut self, message: &Message<'_>, ticket: Option<Ticket>, now: Monotonic, wall: WallMs) -> u16 {
        let seconds = message.properties.message_expiry_interval_s();
        let expires = seconds.map_or(Monotonic::NEVER, |s| now.after(Duration::from_secs(u64::from(s))));
        let by_client = || murmur2(message.client_id.as_bytes()).cast_unsigned();
        let scratch = &mut self.scratch;
        let mut owed = 0;
        for sink in &scratch.matched {
            let plan = &self.plans[usize::from(*sink)];
            scratch.headers.clear();
            // `admit` has seen that topic and value can be rendered.
            let topic = topic(plan, message, &mut scratch.topic).unwrap_or_default();
            let value = plan.value(message, &mut scratch.value).unwrap_or_default();
            let key = plan.key.as_ref().and_then(|key| key.value(message, &mut scratch.key).ok());
            let ranges = plan.render_headers(message, &mut scratch.headers);
            let headers = plan.headers(message, &scratch.headers, &ranges);
            let row = Row { key, value: Some(value), headers, timestamp: wall };
            let upstream = &mut self.upstreams[plan.cluster];
            let owner = ticket.filter(|_| plan.owes_answer);
            let terms = Terms { expires, hash: plan.by_client.then(by_client) };
            upstream.producer.append_with(plan.sink, topic, row, owner, terms, now);
            upstream.busy = true;
            owed += u16::from(plan.owes_answer);
        }
        owed
    }
}

/// The Kafka topic of a message: the sink's own, which needs no second look, or what its template makes of the message.
#[inline]
fn topic<'a>(plan: &'a Plan, message: &Message<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a str, ReasonCode> {
    if let Some(fixed) = plan.topic.as_literal() {
        return Ok(fixed);
    }
    let rendered = plan.topic.value(message, scratch).map_err(without)?;
    std::str::from_utf8(rendered).map_err(|_| ReasonCode::TOPIC_NAME_INVALID)
}

/// What a publisher is told when its message does not have what a sink's topic or value asks for.
fn without(absent: Absent) -> ReasonCode {
    match absent {
        Absent::UserProperty => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        Absent::PayloadPath => ReasonCode::PAYLOAD_FORMAT_INVALID,
    }
}

/// What a publisher is told when a sink will never take a message (5.0; the session closes older clients).
fn reason(refusal: Refusal) -> ReasonCode {
    match refusal {
        Refusal::TooLarge => ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        Refusal::TopicInvalid => ReasonCode::TOPIC_NAME_INVALID,
        Refusal::TopicForbidden => ReasonCode::NOT_AUTHORIZED,
        Refusal::TooManyTopics => ReasonCode::QUOTA_EXCEEDED,
    }
}
