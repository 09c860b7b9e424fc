//! A message and its sinks: first whether all that match can take it, then the rows. All of them take it or none.

use std::time::Duration;

use crate::buffer::{Buffer, SpoolFull};
use crate::config::WhenFull;
use crate::kafka::producer::row_log::Origin;
use crate::kafka::producer::{Full, Refusal, Row, Terms, TopicId};
use crate::kafka::types::{SinkId, Ticket};
use crate::metrics::histogram::Level;
use crate::metrics::spec::RefusalReason;
use crate::mqtt::reason::ReasonCode;
use crate::record::murmur2::murmur2;
use crate::runtime::seam::{Monotonic, WallMs};

use smallvec::SmallVec;

use crate::route::trie::SinkRouter;
use crate::rule::template::Absent;

use super::dead_letters::DeadLetterQueue;
use super::sinks::{Message, Plan};
use super::spool::Fullness;
use super::upstream::Upstream;

/// Everything between a message and Kafka: which sinks match, how each writes its row, and the producers behind them.
pub(super) struct Outlets {
    router: SinkRouter,
    pub(super) plans: Vec<Plan>,
    /// One for each cluster.
    pub(super) upstreams: Vec<Upstream>,
    pub(super) letters: DeadLetterQueue,
    /// Where sinks with a disk buffer keep their rows.
    pub(super) buffer: Option<Buffer>,
    /// What becomes of a message that it has no room for.
    when_full: WhenFull,
    pub(super) full: Fullness,
    pub(super) scratch: Scratch,
}

/// Memory reused from message to message.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) matched: SmallVec<[u16; 4]>,
    /// Those of them that will never take it, and have dead letters.
    pub(super) dead: SmallVec<[(u16, Objection); 1]>,
    needs: Vec<usize>,
    /// Sinks in `matched` that keep rows in the spool, and the bytes of theirs.
    spooled: SmallVec<[(usize, SinkId, usize); 2]>,
    pub(super) topic: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<u8>,
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
    /// This sink will never take it; nobody has taken it.
    Refused(u16, Objection),
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
    pub(super) fn new(
        router: SinkRouter,
        plans: Vec<Plan>,
        upstreams: Vec<Upstream>,
        letters: DeadLetterQueue,
        when_full: WhenFull,
    ) -> Self {
        Self {
            router,
            plans,
            upstreams,
            letters,
            buffer: None,
            when_full,
            full: Fullness::default(),
            scratch: Scratch::default(),
        }
    }

    /// Matches the message and asks every sink that it matched. Takes nothing yet. `told`: its publisher can be told a
    /// refusal; where not, one of a sink with dead letters makes the message one of them there, and the others take it.
    /// `had_by`: sinks that have had it since before a crash, and are not asked.
    pub(super) fn admit(&mut self, message: &Message<'_>, told: bool, had_by: &[u16]) -> Admission {
        let scratch = &mut self.scratch;
        self.router.matches(message.topic, &mut scratch.matched);
        if !had_by.is_empty() {
            scratch.matched.retain(|sink| !had_by.contains(sink));
        }
        if scratch.matched.is_empty() {
            return Admission::Unmatched;
        }
        scratch.dead.clear();
        scratch.needs.clear();
        scratch.needs.resize(self.upstreams.len(), 0);
        scratch.spooled.clear();
        let mut waits = None;
        for sink in &scratch.matched {
            let plan = &self.plans[usize::from(*sink)];
            let upstream = &mut self.upstreams[plan.cluster];
            let asked = asked(plan, upstream, message, &mut scratch.topic);
            let mut refused = false;
            let spool = match (&mut self.buffer, &asked) {
                (Some(buffer), Ok((bytes, _))) if buffer.keeps(plan.cluster, plan.sink) => {
                    let room = buffer.admit(plan.cluster, plan.sink, *bytes);
                    if let Err(full @ (SpoolFull::Whole | SpoolFull::Sink)) = room {
                        self.full.note(full, usize::from(*sink), *bytes, self.when_full);
                        refused = self.when_full == WhenFull::Refuse;
                    }
                    room.map_err(|full| match full {
                        SpoolFull::Whole | SpoolFull::Turn => Full::Spool,
                        SpoolFull::Sink => Full::SpoolShare(plan.sink),
                    })
                }
                _ => Ok(()),
            };
            // Nobody has to wait: it is refused, as if it could never be taken.
            let asked = if refused { asked.and(Err(Objection::SpoolFull)) } else { asked };
            let (bytes, room) = match asked {
                Ok((bytes, topic)) => {
                    let mut room = spool.and_then(|()| upstream.producer.share(plan.sink, topic, bytes));
                    if room.is_ok() && !upstream.producer.is_plenty(bytes) {
                        let hashed = plan.hashed(message, &mut scratch.key);
                        room = upstream.producer.share_of_key(topic, hashed, bytes);
                    }
                    if self.buffer.as_ref().is_some_and(|buffer| buffer.keeps(plan.cluster, plan.sink)) {
                        scratch.spooled.push((plan.cluster, plan.sink, bytes));
                    }
                    (bytes, room)
                }
                Err(objection) => {
                    let place = if told { None } else { plan.place(message) };
                    let Some(place) = place else { return Admission::Refused(*sink, objection) };
                    scratch.dead.push((*sink, objection));
                    let bytes = place.bytes();
                    (bytes, place.room(&self.letters, &upstream.producer, *sink))
                }
            };
            if let Err(full) = room {
                // Another sink may still refuse it for good.
                waits = waits.or(Some(Wait { cluster: plan.cluster, full, bytes }));
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
        let letters = match wait.full {
            // Whether it waits for the file or for the topic, the next answer says.
            Full::Letters(sink) => {
                let sink = usize::from(sink);
                self.letters.has_places(sink) || self.letters.has_room(sink)
            }
            Full::Spool => self.buffer.as_ref().is_none_or(|buffer| buffer.has_room(wait.bytes)),
            Full::SpoolShare(sink) => {
                self.buffer.as_ref().is_none_or(|buffer| buffer.admit(wait.cluster, sink, wait.bytes).is_ok())
            }
            Full::Memory | Full::Sink(_) | Full::Topic(_) | Full::Partition(..) => true,
        };
        letters && self.upstreams[wait.cluster].producer.may_go_on(wait.full, wait.bytes)
    }

    /// Changes whenever memory of some producer, or a place for a dead letter, has come free.
    pub(super) fn freed(&self) -> u64 {
        let others = self.letters.freed().wrapping_add(self.buffer.as_ref().map_or(0, Buffer::freed));
        self.upstreams.iter().fold(others, |sum, upstream| sum.wrapping_add(upstream.producer.freed()))
    }

    /// What the answer to the message that [`Outlets::admit`] has found room for waits for.
    pub(super) fn level(&self) -> Level {
        let levels = self.scratch.matched.iter().map(|sink| self.plans[usize::from(*sink)].level);
        levels.max().unwrap_or(Level::Received)
    }

    /// Whether a sink that [`Outlets::admit`] has found room for keeps its rows in the spool.
    pub(super) fn is_spooled(&self) -> bool {
        !self.scratch.spooled.is_empty()
    }

    /// Writes the message's rows, after [`Outlets::admit`] found room. Returns how many sinks owe an answer for it.
    /// `origin`: whose open packet id its rows in the spool are of.
    pub(super) fn take(
        &mut self,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        origin: Option<Origin>,
        now: Monotonic,
        wall: WallMs,
    ) -> u16 {
        let seconds = message.properties.message_expiry_interval_s();
        let expires = seconds.map_or(Monotonic::NEVER, |s| now.after(Duration::from_secs(u64::from(s))));
        let by_client = || murmur2(message.client_id.as_bytes()).cast_unsigned();
        let scratch = &mut self.scratch;
        if let Some(buffer) = &mut self.buffer {
            scratch.spooled.drain(..).for_each(|(cluster, sink, bytes)| buffer.promise(cluster, sink, bytes));
        }
        let mut owed = 0;
        for sink in &scratch.matched {
            let plan = &self.plans[usize::from(*sink)];
            scratch.headers.clear();
            if scratch.dead.iter().any(|(dead, _)| dead == sink) {
                continue;
            }
            // `admit` has seen that topic and value can be rendered.
            let topic = topic(plan, message, &mut scratch.topic).unwrap_or_default();
            let value = plan.value(message, &mut scratch.value).unwrap_or_default();
            let key = plan.key.as_ref().and_then(|key| key.value(message, &mut scratch.key).ok());
            let ranges = plan.render_headers(message, &mut scratch.headers);
            let headers = plan.headers(message, &scratch.headers, &ranges);
            let row = Row { key, value: Some(value), headers, timestamp: wall };
            let upstream = &mut self.upstreams[plan.cluster];
            let owner = ticket.filter(|_| plan.owes_answer);
            let terms = Terms { expires, hash: plan.by_client.then(by_client), origin };
            upstream.producer.append_with(plan.sink, topic, row, owner, terms, now);
            upstream.busy = true;
            owed += u16::from(plan.owes_answer);
        }
        if self.scratch.dead.is_empty() { owed } else { owed + self.write_off(message, ticket, now, wall) }
    }
}

/// The bound of a sink's row of a message, and its topic as the producer knows it; or why the sink will never take it.
fn asked(
    plan: &Plan,
    upstream: &mut Upstream,
    message: &Message<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(usize, Option<TopicId>), Objection> {
    let bytes = plan.row_bytes_max(message).map_err(Objection::Absent)?;
    let topic = topic(plan, message, scratch)?;
    let checked = upstream.producer.check(plan.sink, topic, bytes);
    let topic = checked.map_err(|refusal| {
        // The end of this turn looks for topics to forget.
        upstream.busy |= refusal == Refusal::TooManyTopics;
        Objection::Refusal(refusal)
    })?;
    Ok((bytes, topic))
}

/// The Kafka topic of a message: the sink's own, which needs no second look, or what its template makes of the message.
#[inline]
pub(super) fn topic<'a>(plan: &'a Plan, message: &Message<'a>, scratch: &'a mut Vec<u8>) -> Result<&'a str, Objection> {
    if let Some(fixed) = plan.topic.as_literal() {
        return Ok(fixed);
    }
    let rendered = plan.topic.value(message, scratch).map_err(Objection::Absent)?;
    std::str::from_utf8(rendered).map_err(|_| Objection::Refusal(Refusal::TopicInvalid))
}

/// Why a sink will never take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Objection {
    /// Its topic or value asks for what the message does not have.
    Absent(Absent),
    /// The producer's.
    Refusal(Refusal),
    /// There is no room in the spool, and nobody is to wait for it.
    SpoolFull,
}

impl Objection {
    /// What a publisher is told (5.0; the session closes older clients).
    pub(super) fn code(self) -> ReasonCode {
        match self {
            Self::Absent(Absent::UserProperty) | Self::Refusal(Refusal::TooLarge) => {
                ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR
            }
            Self::Absent(Absent::PayloadPath) => ReasonCode::PAYLOAD_FORMAT_INVALID,
            Self::Refusal(Refusal::TopicInvalid) => ReasonCode::TOPIC_NAME_INVALID,
            Self::Refusal(Refusal::TopicForbidden) => ReasonCode::NOT_AUTHORIZED,
            Self::Refusal(Refusal::TooManyTopics) | Self::SpoolFull => ReasonCode::QUOTA_EXCEEDED,
        }
    }

    /// Its row among the metrics.
    pub(super) fn reason(self) -> RefusalReason {
        match self {
            Self::Absent(Absent::UserProperty) => RefusalReason::UserPropertyMissing,
            Self::Absent(Absent::PayloadPath) => RefusalReason::PayloadFieldMissing,
            Self::Refusal(Refusal::TooLarge) => RefusalReason::TooLarge,
            Self::Refusal(Refusal::TopicInvalid) => RefusalReason::TopicInvalid,
            Self::Refusal(Refusal::TopicForbidden) => RefusalReason::TopicForbidden,
            Self::Refusal(Refusal::TooManyTopics) => RefusalReason::TooManyTopics,
            Self::SpoolFull => RefusalReason::SpoolFull,
        }
    }

    /// Its name in dead letters.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Absent(Absent::UserProperty) => "USER_PROPERTY_MISSING",
            Self::Absent(Absent::PayloadPath) => "PAYLOAD_PATH_MISSING",
            Self::Refusal(Refusal::TooLarge) => "TOO_LARGE",
            Self::Refusal(Refusal::TopicInvalid) => "TOPIC_INVALID",
            Self::Refusal(Refusal::TopicForbidden) => "TOPIC_FORBIDDEN",
            Self::Refusal(Refusal::TooManyTopics) => "TOO_MANY_TOPICS",
            Self::SpoolFull => "SPOOL_FULL",
        }
    }
}
