//! Room for a message in all of its sinks, or in none: first it is asked for, then the rows are written. Between the two the session
//! numbers the message. Nothing is taken before [`Reservation::take`]; a dropped reservation has no effect.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use smallvec::SmallVec;

use crate::buffer::SpoolFull;
use crate::config::{OfBroker, OnRefuse, WhenFull};
use crate::kafka::producer::row_log::Origin;
use crate::kafka::producer::{Full, Producer, Promise, Refusal, Row, Target, Terms, TopicId};
use crate::kafka::types::{SinkId, Ticket};
use crate::metrics::histogram::Level;
use crate::metrics::spec::RefusalReason;
use crate::mqtt::packet::{QoS, Version};
use crate::record::timestamp_at;
use crate::rule::template::{Absent, Template};
use crate::rules::{KEPT, Rules as Guarantees};
use crate::runtime::seam::{Monotonic, WallMs};
use crate::session::Peer;

use super::broker::admit::Feeds;
use super::dead_letters::message::Place;
use super::outlets::{Objection, Outlets};
use super::rules::{Outcomes, RULE, Rules};
use super::sinks::{Message, Plan};

mod beside;
mod republished;
mod rows;

pub(super) use self::beside::Beside;
pub(in crate::shard) use self::republished::Republished;
use self::rows::{Before, Made, Sum, span};

/// Memory for what is rendered of a message that is kept for the next one.
const RENDERED_KEPT: usize = 1 << 20;

/// Room for one message in all of its sinks.
pub(super) struct Reservation<'a> {
    outlets: &'a mut Outlets,
    /// Whether a gate refuses the message: it becomes a dead letter of that sink, and no destination takes it.
    is_refused: bool,
    /// Whether other sinks have had the message since before a crash: a sink that refuses it now does so for itself alone, if it can keep it.
    is_repeat: bool,
    /// How the publisher learns that there is no room, for what rules have made of the message, too.
    told: Told,
    /// The message that is asked about: 0, or the number of the republished one.
    of: u16,
    /// How many republished messages there were when it was its turn.
    before: u16,
}

/// How the publisher of a message learns that a sink refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// The publisher gets a reason code: 5.0 at QoS 1 and 2.
    Code,
    /// The publisher's connection ends: 3.x at QoS 1 and 2.
    End,
    /// The publisher learns nothing: QoS 0, wills, remotes of bridges.
    Not,
}

impl Told {
    pub(super) fn of(peer: Peer, qos: QoS) -> Self {
        match (qos, peer.version) {
            _ if peer.is_remote => Self::Not,
            (QoS::AtMostOnce, _) => Self::Not,
            (_, Version::V5) => Self::Code,
            _ => Self::End,
        }
    }
}

/// The handling of a message that a sink will never take.
enum Fate {
    /// No destination takes the message, and its publisher is told if it can be.
    Rejected,
    /// The message becomes a dead letter. `alone`: no other destination takes it.
    Letter { place: Place, alone: bool },
    /// The sink goes without the message.
    Dropped,
}

/// Why there is no reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreserved {
    /// No filter matches.
    Unmatched,
    /// The client may not publish to the topic.
    Denied,
    /// Some memory is full: leave the packet unread.
    Full(Wait),
    /// This sink refuses the message for all destinations.
    Rejected(u16, Objection),
    /// A rule has failed for the message, and refuses it for all destinations.
    RuleFailed,
}

/// How a message is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking<'a> {
    pub(super) told: Told,
    /// Sinks that have had it since before a crash, and are not asked.
    pub(super) already_taken_by: &'a [u16],
    pub(super) feeds: Feeds,
    /// The address of its publisher, where there are rules and it has one.
    pub(super) peer: Option<SocketAddr>,
    pub(super) wall: WallMs,
    /// Rules that are not for the message itself.
    pub(super) beside: Option<&'a Beside<'a>>,
}

/// The room that a message waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wait {
    pub(super) cluster: usize,
    pub(super) full: Full,
    /// The room that the message needs there.
    pub(super) bytes: usize,
}

/// A reservation's own memory, used again from message to message. While there is no reservation, the needs of a message are empty, and the
/// rest is of the last message.
#[derive(Default)]
pub(super) struct Workspace {
    matched: SmallVec<[u16; 4]>,
    sinks: Vec<Reserved>,
    /// Whether `sinks` holds for another message of the same client, topic, QoS and flags.
    is_settled: bool,
    /// Memory of each cluster: the bytes needed, then those set aside.
    needs: Vec<usize>,
    promises: Vec<Promise>,
    /// Topics and keys that had to be rendered, and rows of rules.
    rendered: Vec<u8>,
    rows: Vec<Made>,
    /// Headers of these rows: where a name begins, where its value does, and where that ends.
    made_headers: Vec<(u32, u32, u32)>,
    /// What these rows take of each sink.
    sums: SmallVec<[Sum; 4]>,
    /// The cost of its rules, in packets.
    cost: u32,
    /// Whether rules were evaluated for it: rows may be theirs.
    is_ruled: bool,
    /// What the rules have made of the message.
    pub(in crate::shard) outcomes: Outcomes,
    /// Messages that they have made of it, and of one another; each has its place and one as its number.
    pub(in crate::shard) republished: Vec<Republished>,
    /// Rules of which one was dropped, as too many rules had come before.
    pub(in crate::shard) looped: SmallVec<[u16; 2]>,
    pub(in crate::shard) value: Vec<u8>,
    pub(in crate::shard) headers: Vec<u8>,
}

/// A row of a rule that is asked about.
struct Fed<'a> {
    /// How the sink writes such rows.
    plan: &'a Plan,
    /// The row's memory, its topic, and its place in [`Workspace::rows`]; or why the sink never takes it.
    row: Result<(usize, Text, u32), Objection>,
}

/// A sink's part.
#[derive(Clone, Copy)]
struct Reserved {
    /// The sink's number in the configuration.
    sink: u16,
    /// The message: 0, or the number of the republished one.
    of: u16,
    to: To,
    /// Its part of the needs of its cluster.
    bytes: usize,
}

#[derive(Clone, Copy)]
enum To {
    Topic {
        asked: Asked,
        key: Text,
        hash: Option<u32>,
        is_spooled: bool,
        /// The row in [`Workspace::rows`], if a rule has made it.
        made: Option<u32>,
    },
    /// The sink will never take the message; it becomes a dead letter there.
    DeadLetters(Objection, Place),
    /// The sink goes without the message.
    Nowhere(RefusalReason),
}

/// A sink's answer for a message that it can take.
#[derive(Clone, Copy)]
struct Asked {
    /// A bound of the row's bytes.
    bytes: usize,
    topic: Text,
    /// The topic as the producer knows it.
    known: Option<TopicId>,
}

/// A text that a template makes of a message.
#[derive(Clone, Copy)]
enum Text {
    Absent,
    /// The text is in the message.
    AtHand,
    /// The text is in [`Workspace::rendered`].
    Rendered(u32, u32),
}

impl Text {
    fn of(template: &Template, message: &Message<'_>, rendered: &mut Vec<u8>) -> Result<Self, Absent> {
        if template.at_hand(message).is_some() {
            return Ok(Self::AtHand);
        }
        let from = rendered.len();
        template.render(message, rendered)?;
        // These are a few names of at most 64 KiB each.
        Ok(Self::Rendered(from as u32, rendered.len() as u32))
    }

    fn bytes<'a>(self, template: &'a Template, message: &Message<'a>, rendered: &'a [u8]) -> Option<&'a [u8]> {
        match self {
            Self::Absent => None,
            Self::AtHand => template.at_hand(message),
            Self::Rendered(from, to) => rendered.get(from as usize..to as usize),
        }
    }
}

impl Outlets {
    /// Matches the message and finds room in every sink that it matched. A message that a sink will never take is that sink's own affair,
    /// but for [`OnRefuse::Reject`]: then no sink has a row, and [`Reservation::is_refused`] tells whether it becomes a dead letter.
    ///
    /// # Errors
    /// The reason why nothing was reserved.
    pub(super) fn reserve(
        &mut self,
        message: &Message<'_>,
        asking: &Asking<'_>,
    ) -> Result<Reservation<'_>, Unreserved> {
        let already_taken_by = asking.already_taken_by;
        let work = &mut self.workspace;
        work.sinks.clear();
        work.rendered.clear();
        if std::mem::take(&mut work.is_ruled) {
            work.forget_rows();
            if let Some(rules) = &mut self.rules {
                rules.console.forget();
            }
        }
        work.is_settled = false;
        self.router.matches(message.topic, &mut work.matched);
        if !already_taken_by.is_empty() {
            // Of a sink that rules feed it is known only when they are evaluated how many rows it has to have.
            let is_fed = |sink: u16| self.rules.as_ref().is_some_and(|rules| rules.republish || rules.feed(sink));
            work.matched.retain(|of| *of & RULE != 0 || is_fed(*of) || !already_taken_by.contains(of));
        }
        if !asking.feeds.takes_all_matching() {
            leave_out(&asking.feeds, &self.plans, &mut work.matched);
        }
        if let Some(beside) = asking.beside {
            work.matched.extend_from_slice(beside.rules);
        }
        let is_matched = !work.matched.is_empty();
        let is_repeat = !already_taken_by.is_empty();
        let told = asking.told;
        let mut reservation = Reservation { outlets: self, is_refused: false, is_repeat, told, of: 0, before: 0 };
        if !is_matched {
            return Err(Unreserved::Unmatched);
        }
        let asked = reservation.ask_all(message, asking).and_then(|()| {
            if !already_taken_by.is_empty() {
                reservation.leave_out(already_taken_by);
            }
            reservation.set_aside(message)
        });
        match asked {
            Ok(()) => Ok(reservation),
            Err(why) => {
                if matches!(why, Unreserved::Full(_)) {
                    // The message comes again, and the rules are evaluated again.
                    reservation.outlets.forget_outcomes();
                }
                reservation.outlets.workspace.republished.clear();
                Err(why)
            }
        }
    }

    /// Room for a message after [`Outlets::ask_again`].
    ///
    /// # Errors
    /// The memory is full.
    #[inline]
    pub(super) fn reserve_again(&mut self, message: &Message<'_>) -> Result<Reservation<'_>, Unreserved> {
        let (is_refused, is_repeat, told) = (false, false, Told::Not);
        let mut reservation = Reservation { outlets: self, is_refused, is_repeat, told, of: 0, before: 0 };
        reservation.set_aside(message)?;
        Ok(reservation)
    }

    /// Whether the places of the last message's rows are those of the next one's, if it differs in nothing that they are made of.
    pub(super) const fn is_settled(&self) -> bool {
        self.workspace.is_settled
    }

    /// Asks the sinks of the last message whether they have room for this one too. False: it has to be matched and asked
    /// about as any other message.
    #[inline]
    pub(super) fn ask_again(&mut self, message: &Message<'_>) -> bool {
        let work = &mut self.workspace;
        debug_assert!(work.is_settled, "no other reservation came in between");
        work.needs.resize(self.upstreams.len(), 0);
        let has_room = work.sinks.iter_mut().all(|reserved| {
            let plan = &self.plans[usize::from(reserved.sink)];
            let producer = &self.upstreams[plan.cluster].producer;
            let To::Topic { asked, hash, is_spooled, .. } = &mut reserved.to else { return false };
            let Ok(bytes) = plan.row_bytes_max(message) else { return false };
            let buffer = self.buffer.as_ref().filter(|_| *is_spooled);
            (asked.bytes, reserved.bytes) = (bytes, bytes);
            work.needs[plan.cluster] += bytes;
            producer.may_take(plan.sink, bytes)
                && buffer.is_none_or(|buffer| buffer.admit(plan.cluster, plan.sink, bytes).is_ok())
                && has_room(producer, plan.sink, asked, *hash).is_ok()
        });
        if !has_room {
            work.needs.clear();
        }
        has_room
    }
}

/// Leaves out what the message is not to feed, and adds the sink of retained messages, which no filter matches.
#[cold]
fn leave_out(feeds: &Feeds, plans: &[Plan], matched: &mut SmallVec<[u16; 4]>) {
    let of_broker = |sink: u16| plans.get(usize::from(sink)).and_then(|plan| plan.of_broker);
    matched.retain(|number| match *number {
        rule if rule & RULE != 0 => feeds.rules,
        sink if of_broker(sink).is_some() => feeds.route,
        _ => feeds.sinks,
    });
    if feeds.retained
        && let Some(sink) = plans.iter().rposition(|plan| plan.of_broker == Some(OfBroker::Retained))
    {
        // There are fewer sinks than numbers. Rules come after all sinks.
        matched.insert(0, sink as u16);
    }
}

/// Whether a sink's part of the memory, its topic's and its partition's have room for a row.
#[inline]
fn has_room(producer: &Producer, sink: SinkId, asked: &Asked, hash: Option<u32>) -> Result<(), Full> {
    producer.share(sink, asked.known, asked.bytes)?;
    if producer.is_plenty(asked.bytes) { Ok(()) } else { producer.share_of_partition(asked.known, hash, asked.bytes) }
}

impl Reservation<'_> {
    fn ask_all(&mut self, message: &Message<'_>, asking: &Asking<'_>) -> Result<(), Unreserved> {
        self.outlets.workspace.needs.resize(self.outlets.upstreams.len(), 0);
        let mut waits = None;
        let mut is_settled = message.properties.is_empty();
        for place in 0..self.outlets.workspace.matched.len() {
            let sink = self.outlets.workspace.matched[place];
            if sink & RULE != 0 {
                // Rules come after all sinks.
                is_settled = false;
                self.ask_rules(place, message, asking, &mut waits)?;
                break;
            }
            let (to, bytes, room) = self.ask(sink, message, asking.told, Before::default(), None)?;
            let plan = &self.outlets.plans[usize::from(sink)];
            let is_known = matches!(to, To::Topic { asked: Asked { known: Some(_), .. }, .. });
            is_settled &= plan.is_settled_by_topic && is_known;
            self.push(Reserved { sink, of: 0, to, bytes }, bytes, room, &mut waits);
            if self.is_refused {
                break;
            }
        }
        self.outlets.workspace.is_settled = is_settled && waits.is_none();
        waits.map_or(Ok(()), |wait| Err(Unreserved::Full(wait)))
    }

    /// Adds a sink's part, with its memory. A part that refuses the message for all destinations takes the place of all others. `need`: the room
    /// that it waits for, if it does.
    #[inline]
    fn push(&mut self, reserved: Reserved, need: usize, room: Result<(), Full>, waits: &mut Option<Wait>) {
        if self.is_refused {
            self.take_back(waits);
        }
        let work = &mut self.outlets.workspace;
        let cluster = self.outlets.plans[usize::from(reserved.sink)].cluster;
        if let Err(full) = room {
            // Another sink may still refuse it for good.
            *waits = waits.or(Some(Wait { cluster, full, bytes: need }));
        }
        work.needs[cluster] += reserved.bytes;
        work.sinks.push(reserved);
    }

    /// Takes back what all destinations of the message that is asked about would have got, and what rules have made of it.
    #[cold]
    fn take_back(&mut self, waits: &mut Option<Wait>) {
        let work = &mut self.outlets.workspace;
        if self.of == 0 {
            work.sinks.clear();
            work.needs.fill(0);
            work.republished.clear();
            *waits = None;
            return;
        }
        let (of, before) = (self.of, self.before);
        let is_gone = |reserved: &Reserved| reserved.of == of || reserved.of > before;
        for reserved in work.sinks.iter().filter(|reserved| is_gone(reserved)) {
            work.needs[self.outlets.plans[usize::from(reserved.sink)].cluster] -= reserved.bytes;
        }
        work.sinks.retain(|reserved| !is_gone(reserved));
        work.republished.truncate(usize::from(before));
    }

    /// Asks one sink: where its row goes, the memory that takes, and whether there is room. `before`: what the message's rows before it take.
    /// `made`: the row of a rule.
    fn ask(
        &mut self,
        sink: u16,
        message: &Message<'_>,
        told: Told,
        before: Before,
        made: Option<Fed<'_>>,
    ) -> Result<(To, usize, Result<(), Full>), Unreserved> {
        let outlets = &mut *self.outlets;
        let work = &mut outlets.workspace;
        let plan = made.as_ref().map_or(&outlets.plans[usize::from(sink)], |fed| fed.plan);
        let upstream = &mut outlets.upstreams[plan.cluster];
        let check = |topic: &str, bytes| {
            let checked = upstream.producer.check(plan.sink, topic, bytes);
            // The end of this turn looks for topics to forget.
            upstream.busy |= checked == Err(Refusal::TooManyTopics);
            checked
        };
        let (mut asked, row) = match made {
            None => (asked(plan, message, (&mut work.rendered, &mut work.value), check), None),
            Some(Fed { row: Ok((bytes, topic, row)), .. }) => {
                (asked_of_row(plan, message, &work.rendered, (bytes, topic), check), Some(row))
            }
            Some(Fed { row: Err(objection), .. }) => (Err(objection), None),
        };
        let (mut spool, mut passes) = (Ok(()), false);
        let buffer = outlets.buffer.as_mut().filter(|buffer| buffer.keeps(plan.cluster, plan.sink));
        let is_spooled = buffer.is_some();
        if let (Some(buffer), Ok(Asked { bytes, .. })) = (buffer, &asked) {
            let room = buffer.admit(plan.cluster, plan.sink, before.spool + *bytes);
            spool = room.map_err(|full| match full {
                SpoolFull::Whole | SpoolFull::Turn => Full::Spool,
                SpoolFull::Sink => Full::SpoolShare(plan.sink),
            });
            // The next group has room, or the oldest make some.
            passes = room == Err(SpoolFull::Turn) || room.is_err() && outlets.when_full == WhenFull::DropOldest;
            if let Err(full @ (SpoolFull::Whole | SpoolFull::Sink)) = room {
                outlets.full.note(full, usize::from(sink), *bytes, outlets.when_full);
                if outlets.when_full == WhenFull::Refuse && !self.is_repeat {
                    // Nobody has to wait: the message is refused, as if it could never be taken. A repeat waits: others have it.
                    asked = Err(Objection::SpoolFull);
                }
            }
        }
        match asked {
            Ok(asked @ Asked { bytes, .. }) => {
                let key = match row {
                    Some(row) => {
                        work.rows[row as usize].key.map_or(Text::Absent, |(from, to)| Text::Rendered(from, to))
                    }
                    None => {
                        let key = plan.key.as_ref().map(|key| Text::of(key, message, &mut work.rendered));
                        key.and_then(Result::ok).unwrap_or(Text::Absent)
                    }
                };
                let bytes_of_key = plan.key.as_ref().and_then(|of| key.bytes(of, message, &work.rendered));
                let hash = plan.hash(message, bytes_of_key);
                let with_others = Asked { bytes: before.share + bytes, ..asked };
                let room = spool.and_then(|()| has_room(&upstream.producer, plan.sink, &with_others, hash));
                passes |= room == Err(Full::Sink(plan.sink)) && upstream.producer.is_held_back(plan.sink);
                if room.is_err() && !passes && plan.goes_without(message.qos) {
                    return Ok((To::Nowhere(RefusalReason::NoRoom), 0, Ok(())));
                }
                Ok((To::Topic { asked, key, hash, is_spooled, made: row }, bytes, room))
            }
            Err(objection) => {
                // A letter has the message as it came, by the sink's own templates.
                let (plan, message) = (&outlets.plans[usize::from(sink)], &Message { output: None, ..*message });
                let told = if objection.is_lack_of_room() { self.told } else { told };
                let (place, alone) = match fate(plan, objection, message, (told, self.is_repeat)) {
                    Fate::Letter { place, alone } => (place, alone),
                    Fate::Rejected => return Err(Unreserved::Rejected(sink, objection)),
                    Fate::Dropped => return Ok((To::Nowhere(objection.reason()), 0, Ok(()))),
                };
                self.is_refused = alone;
                let room = place.room(&outlets.letters, &upstream.producer, sink);
                if room.is_err() && alone && plan.goes_without(message.qos) {
                    return Err(Unreserved::Rejected(sink, objection));
                }
                if room.is_err() && plan.goes_without(message.qos) {
                    return Ok((To::Nowhere(RefusalReason::NoRoom), 0, Ok(())));
                }
                Ok((To::DeadLetters(objection, place), place.bytes(), room))
            }
        }
    }

    /// Leaves out the rows of sinks that have had all of theirs since before a crash. A sink that has had only some of its rows, as the disk had
    /// not taken the others, gets all of them again: none may be missing. Dead letters are written again; whether they were safe is not known.
    fn leave_out(&mut self, already_taken_by: &[u16]) {
        let guarantees = self.outlets.rules.as_ref().map_or(&KEPT as &dyn Guarantees, |rules| rules.guarantees);
        let work = &mut self.outlets.workspace;
        for (at, sink) in already_taken_by.iter().enumerate() {
            if already_taken_by[..at].contains(sink) {
                continue;
            }
            let is_row = |of: &Reserved| of.sink == *sink && matches!(of.to, To::Topic { .. });
            let had = already_taken_by.iter().filter(|other| *other == sink).count();
            if !guarantees.has_all(had, work.sinks.iter().filter(|of| is_row(of)).count()) {
                continue;
            }
            let cluster = self.outlets.plans[usize::from(*sink)].cluster;
            work.needs[cluster] -= work.sinks.iter().filter(|of| is_row(of)).map(|of| of.bytes).sum::<usize>();
            work.sinks.retain(|of| !is_row(of));
        }
    }

    /// Sets memory aside in each cluster that has a part.
    fn set_aside(&mut self, message: &Message<'_>) -> Result<(), Unreserved> {
        for cluster in 0..self.outlets.workspace.needs.len() {
            let mut promise = self.promise(cluster);
            while promise.is_none() && self.pass_over(cluster, message) {
                promise = self.promise(cluster);
            }
            let wait = Wait { cluster, full: Full::Memory, bytes: self.outlets.workspace.needs[cluster] };
            self.outlets.workspace.promises.push(promise.ok_or(Unreserved::Full(wait))?);
        }
        Ok(())
    }

    fn promise(&self, cluster: usize) -> Option<Promise> {
        let bytes = self.outlets.workspace.needs[cluster];
        if bytes == 0 { Some(Promise::default()) } else { self.outlets.upstreams[cluster].producer.promise(bytes) }
    }

    /// Has one of a cluster's sinks go without the message, as the cluster's memory has no room. `false`: none may.
    #[cold]
    fn pass_over(&mut self, cluster: usize, message: &Message<'_>) -> bool {
        let outlets = &mut *self.outlets;
        let work = &mut outlets.workspace;
        for Reserved { sink, of, to, bytes } in &mut work.sinks {
            let plan = &outlets.plans[usize::from(*sink)];
            if matches!(to, To::Nowhere(_)) {
                continue;
            }
            let qos = usize::from(*of).checked_sub(1).and_then(|at| work.republished.get(at));
            let qos = qos.map_or(message.qos, |made| made.qos as u8);
            if plan.cluster == cluster && plan.goes_without(qos) {
                let why = match to {
                    To::DeadLetters(objection, _) if self.is_refused => objection.reason(),
                    _ => RefusalReason::NoRoom,
                };
                *to = To::Nowhere(why);
                work.needs[cluster] -= std::mem::take(bytes);
                work.is_settled = false;
                return true;
            }
        }
        false
    }

    /// Whether a sink matches, or gets what a rule has made: rules may filter all of it.
    pub(super) fn is_any(&self) -> bool {
        !self.outlets.workspace.sinks.is_empty()
    }

    /// Whether a gate refuses the message: subscribers do not get it, and it is not retained.
    pub(super) const fn is_refused(&self) -> bool {
        self.is_refused
    }

    /// The level that the answer to the message waits for.
    pub(super) fn level(&self) -> Level {
        let sinks = self.outlets.workspace.sinks.iter().filter(|reserved| !matches!(reserved.to, To::Nowhere(_)));
        sinks.map(|reserved| self.outlets.plans[usize::from(reserved.sink)].level).max().unwrap_or(Level::Received)
    }

    /// Whether a sink that takes the message keeps its rows in the spool, and with them the packet id of a QoS 2 message.
    pub(super) fn keeps_packet_id(&self) -> bool {
        let mut sinks = self.outlets.workspace.sinks.iter();
        sinks.any(|reserved| {
            let plan = &self.outlets.plans[usize::from(reserved.sink)];
            plan.keeps_packet_ids && matches!(reserved.to, To::Topic { is_spooled: true, .. })
        })
    }

    /// Writes the message's rows, and those of what rules have made of it. Returns how many sinks owe an answer for it. `origin`: the publisher
    /// and its open packet id, which the rows in the spool carry.
    #[inline]
    pub(super) fn take(
        mut self,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        origin: Option<Origin>,
        now: Monotonic,
        wall: WallMs,
    ) -> u16 {
        if self.outlets.workspace.is_ruled {
            return self.take_all(message, ticket, origin, (now, wall));
        }
        let all = 0..self.outlets.workspace.sinks.len();
        self.take_rows::<false>(all, message, ticket, origin, (now, wall))
    }

    /// Writes the rows of a message that are at these places. `RULED`: some may be of rules.
    #[inline]
    fn take_rows<const RULED: bool>(
        &mut self,
        places: Range<usize>,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        origin: Option<Origin>,
        (now, wall): (Monotonic, WallMs),
    ) -> u16 {
        let seconds = message.properties.message_expiry_interval_s();
        let expires = seconds.map_or(Monotonic::NEVER, |s| now.after(Duration::from_secs(u64::from(s))));
        let outlets = &mut *self.outlets;
        let work = &mut outlets.workspace;
        let outputs_owe = |rules: &Rules| rules.guarantees.waits_for_outputs();
        let outputs_owe = !RULED || outlets.rules.as_deref().is_none_or(outputs_owe);
        let timestamp = timestamp_at(wall, outlets.clock_set_after);
        let (mut owed, mut has_letters) = (0, false);
        for Reserved { sink, to, .. } in &work.sinks[places.clone()] {
            let plan = &outlets.plans[usize::from(*sink)];
            let To::Topic { asked, key, hash, is_spooled, made } = to else {
                match to {
                    To::Nowhere(why) => outlets.passed_over.push((*sink, *why)),
                    To::DeadLetters(..) | To::Topic { .. } => has_letters = true,
                }
                continue;
            };
            if let Some(buffer) = outlets.buffer.as_mut().filter(|_| *is_spooled) {
                buffer.promise(plan.cluster, plan.sink, asked.bytes);
            }
            let made = made.filter(|_| RULED).and_then(|row| work.rows.get(row as usize));
            let topic = asked.topic.bytes(&plan.topic, message, &work.rendered).unwrap_or_default();
            let key = plan.key.as_ref().and_then(|of| key.bytes(of, message, &work.rendered));
            let (value, time) = match made {
                Some(made) => (made.value.map(|value| span(&work.rendered, value)), made.time),
                // The message was asked about: it can be rendered.
                None => {
                    let time = plan.time(message).ok().flatten();
                    (plan.value(message, &mut work.value).unwrap_or(Some(&[])), time)
                }
            };
            let timestamp = time.unwrap_or(timestamp);
            let topic = if asked.known.is_some() { "" } else { std::str::from_utf8(topic).unwrap_or_default() };
            let target = Target { sink: plan.sink, topic, known: asked.known, hash: *hash };
            let origin = origin.filter(|_| plan.keeps_packet_ids);
            let terms = Terms { expires, hash: hash.filter(|_| plan.by_client), origin };
            let owes = plan.owes_answer && (made.is_none() || outputs_owe);
            let owner = ticket.filter(|_| owes);
            let upstream = &mut outlets.upstreams[plan.cluster];
            let promise = &mut work.promises[plan.cluster];
            // The plan is compiled for rows without headers as well.
            if let Some(made) = made {
                outlets.headers_left_out[usize::from(*sink)] += made.left_out;
                let headers = made.headers(&work.made_headers, &work.rendered);
                let row = Row { key, value, headers, timestamp };
                upstream.producer.take(&target, row, owner, terms, (promise, now));
            } else if plan.is_bare(message) {
                let row = Row { key, value, headers: std::iter::empty(), timestamp };
                upstream.producer.take(&target, row, owner, terms, (promise, now));
            } else {
                work.headers.clear();
                let ranges = plan.render_headers(message, &mut work.headers);
                if ranges.left_out > 0 {
                    outlets.headers_left_out[usize::from(*sink)] += ranges.left_out;
                }
                let headers = plan.headers(message, &work.headers, &ranges);
                let row = Row { key, value, headers, timestamp };
                upstream.producer.take(&target, row, owner, terms, (promise, now));
            }
            upstream.busy = true;
            owed += u16::from(owes);
        }
        if has_letters { owed + self.write_off(places, message, ticket, (now, wall)) } else { owed }
    }

    /// Writes the message to the dead letters of the sinks that will never take it. Returns how many answers that owes.
    #[cold]
    fn write_off(
        &mut self,
        places: Range<usize>,
        message: &Message<'_>,
        ticket: Option<Ticket>,
        (now, wall): (Monotonic, WallMs),
    ) -> u16 {
        let mut owed = 0;
        for place in places {
            let reserved = self.outlets.workspace.sinks[place];
            let Reserved { sink, to: To::DeadLetters(objection, to), .. } = reserved else { continue };
            let ticket = ticket.filter(|_| self.outlets.plans[usize::from(sink)].owes_answer);
            owed += self.outlets.write_off((sink, objection, to), message, ticket, (now, wall));
        }
        owed
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let work = &mut self.outlets.workspace;
        work.needs.clear();
        work.promises.clear();
    }
}

/// The fate of a message at a sink that has this objection.
#[cold]
fn fate(plan: &Plan, objection: Objection, message: &Message<'_>, (told, is_repeat): (Told, bool)) -> Fate {
    let letter = |alone| plan.place(message).map(|place| Fate::Letter { place, alone });
    if is_repeat && plan.on_refuse != OnRefuse::Drop {
        return letter(false).unwrap_or(Fate::Rejected);
    }
    // A publisher that is told sends the message again when there is room: nobody may have had it by then.
    if objection.is_lack_of_room() && told != Told::Not {
        return Fate::Rejected;
    }
    match plan.on_refuse {
        OnRefuse::Drop => Fate::Dropped,
        // A dead letter that fits nowhere is a message that would be lost.
        OnRefuse::DeadLetter => letter(false).unwrap_or(Fate::Rejected),
        OnRefuse::Reject if objection.is_lack_of_room() => letter(false).unwrap_or(Fate::Dropped),
        OnRefuse::Reject if told == Told::Code => Fate::Rejected,
        OnRefuse::Reject => letter(true).unwrap_or(Fate::Rejected),
    }
}

/// The bound of a sink's row of a message, and its topic, looked up; or why the sink will never take it.
fn asked(
    plan: &Plan,
    message: &Message<'_>,
    (rendered, scratch): (&mut Vec<u8>, &mut Vec<u8>),
    mut check: impl FnMut(&str, usize) -> Result<Option<TopicId>, Refusal>,
) -> Result<Asked, Objection> {
    let mut bytes = plan.row_bytes_max(message).map_err(Objection::Absent)?;
    let topic = Text::of(&plan.topic, message, rendered).map_err(Objection::Absent)?;
    let name = match plan.topic.as_literal() {
        Some(fixed) => fixed,
        None => plan.topic_name(topic.bytes(&plan.topic, message, rendered).unwrap_or_default())?,
    };
    let mut known = check(name, bytes);
    if known == Err(Refusal::TooLarge) {
        // The row is too large only if its rendered parts are, and not its bound alone.
        bytes = plan.row_bytes(message, scratch).map_err(Objection::Absent)?;
        known = check(name, bytes);
    }
    let known = known.map_err(Objection::Refusal)?;
    Ok(Asked { bytes, topic, known })
}

/// The topic of a row that a rule has made, looked up; or why the sink will never take it.
fn asked_of_row(
    plan: &Plan,
    message: &Message<'_>,
    rendered: &[u8],
    (bytes, topic): (usize, Text),
    check: impl FnOnce(&str, usize) -> Result<Option<TopicId>, Refusal>,
) -> Result<Asked, Objection> {
    let name = match plan.topic.as_literal() {
        Some(fixed) => fixed,
        None => plan.topic_name(topic.bytes(&plan.topic, message, rendered).unwrap_or_default())?,
    };
    let known = check(name, bytes).map_err(Objection::Refusal)?;
    Ok(Asked { bytes, topic, known })
}
