//! Messages of QoS 1 and 2 that kept sessions get through a crash: each is in the shard's log once for all sessions that get it, and is over when the last
//! one has acknowledged.
//!
//! When the copies of a message are made, the sessions that get it are gathered, and written down with the message (`store_copies`). A copy of QoS 1 is sent
//! at once. A copy of QoS 2 is sent when it is durable: after a crash its number, and so its packet identifier, is not given to another one. A session's
//! acknowledgements of messages that others still wait for are written down with the next message, or 50 ms later; a crash may repeat those. A client's
//! receipt of a QoS 2 message is written down before PUBREL is sent: if the log is full, PUBREL waits. Messages leave a segment free for
//! that, and a sixteenth of the log's state.
//!
//! The publisher is answered when each shard that was sent the message reports that it is durable there (`confirm`). A QoS 2 publisher that repeats its
//! message after a crash is answered without a second message (`exchanges`).

mod bound;
mod exchanges;
mod fullest;
mod left;
mod restore;
mod saved;
mod slot_room;

use std::rc::Rc;
use std::time::Duration;

use forebay_base::limits::COPIES_UNCONFIRMED_MAX;
use forebay_buffer::Buffer;
use forebay_config::Config;
use forebay_kafka::types::Ticket;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::route::shares::{ShareNumber, ToShare};
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Changed, Claim, Copy, Session, SessionKey};

use self::exchanges::Exchanges;
use self::fullest::{Bounds, Fullest};
use self::left::Left;
use self::saved::Recipient;
use super::Broker;
use super::confirm::Confirmations;
use super::stored::Deadline;
use crate::here::Here;
use crate::logs::{Groups, Lines, slot_of};
use crate::mail::{Letter, ToBroker};
use crate::out::Due;
use crate::out::Out;
use crate::words::{Stall, Whose};

pub(crate) use self::fullest::Holder;
pub use self::saved::{ForShare, Kept, move_queue};
pub(crate) use self::saved::{encode_positions, is_queue, kind_of};

/// The longest time for which an acknowledged message waits to be written down together with something else.
const WRITE_WITHIN: Duration = Duration::from_millis(50);

/// The most queues written down with other records. Further ones wait for [`WRITE_WITHIN`].
const QUEUES_WITH_OTHERS: usize = 16;

/// The most bytes that a record takes in the log besides its packet, names and recipients.
const MESSAGE_BYTES: usize = 64;

/// A copy for a session that gets it through a crash.
#[derive(Debug)]
struct Pending {
    session: SessionKey,
    recipient: Recipient,
    /// The copy is sent when it is durable.
    waits: bool,
    /// The client is a remote, which is sent nothing before this.
    is_remote: bool,
    /// The copy's own body, if its queue has no room for it and its record stays open.
    own: Option<Rc<Body>>,
    /// The claim on the record of a share, which is over when the copy is durable.
    claim: Option<Rc<Claim>>,
}

/// The deadline of a message.
fn deadline_of(buffer: &Buffer, body: &Body, publish: &Publish<'_>) -> Deadline {
    let expiry_s = publish.properties.message_expiry_interval_s();
    expiry_s.map(|s| buffer.deadline(body.since().after(Duration::from_secs(s.into()))))
}

/// Records of a shard's log for the queues of sessions, and the answers that wait for them.
#[derive(Debug)]
pub struct Queues {
    /// Sessions that get the message at hand.
    pending: Vec<Pending>,
    /// The groups in which the message is durable for the members of a share.
    groups: Groups,
    /// The bounds of waiting messages.
    bounds: Bounds,
    /// The most bytes of one message in the log.
    entry_max: usize,
    pub(crate) fullest: Fullest,
    /// Room that messages leave, so that each message for a share can be given to a member, and a client's receipt of a QoS 2 message be written down.
    spare: usize,
    confirmations: Confirmations,
    /// Records of messages for shares that end when the copy for a member is durable in another log.
    bound: Lines<u64>,
    left: Left,
    exchanges: Exchanges,
    /// Sessions with changes to write down at the end of the turn, as their clients wait for it.
    received: Vec<SessionKey>,
    /// Sessions with other changes to write down, and the time at which the first of them changed.
    changed: Vec<SessionKey>,
    since: Option<Monotonic>,
    /// Whether other records were written in this turn.
    wrote: bool,
    has_timer: bool,
    payload: Vec<u8>,
}

impl Queues {
    /// Whether the copy that a session was handed just now is still to be written down.
    pub(crate) fn is_pending(&self, key: SessionKey) -> bool {
        self.pending.last().is_some_and(|pending| pending.session == key)
    }

    /// Queues without messages.
    pub(crate) fn new(config: &Config) -> Self {
        let (log, logs) = (config.kept_log(), config.kept_logs_of_shard());
        let spool = log.as_ref();
        let entry_max = spool.map_or(0, |spool| usize::try_from(spool.segment_bytes / 8).unwrap_or(usize::MAX));
        Self {
            pending: Vec::new(),
            groups: Groups::default(),
            bounds: Bounds::new(
                spool.map_or(0, |spool| spool.kept_max() * logs / 2),
                spool.map(|spool| spool.segments_max * spool.segment_bytes * logs as u64),
            ),
            fullest: Fullest::default(),
            entry_max: entry_max.saturating_sub(4 << 10),
            spare: entry_max.saturating_mul(8),
            confirmations: Confirmations::new(config.service.shards),
            bound: Lines::default(),
            left: Left::default(),
            exchanges: Exchanges::new(config.service.shards),
            received: Vec::new(),
            changed: Vec::new(),
            since: None,
            wrote: false,
            has_timer: false,
            payload: Vec::new(),
        }
    }

    /// Whether shards may be sent one more message that they have to report durable, after `before` others.
    ///
    /// # Errors
    /// The stall that a publisher has to wait for.
    pub(crate) fn ask(&self, shards: impl IntoIterator<Item = usize>, before: usize) -> Result<(), Stall> {
        let full = shards.into_iter().find(|shard| !self.has_room(*shard, before));
        full.map_or(Ok(()), |shard| Err(Stall::Subscribers(shard)))
    }

    /// Whether all shards have reported what the previous process left there for this one.
    pub fn have_all_told(&self) -> bool {
        self.exchanges.have_all_told()
    }

    /// Whether all shards have reported each message durable for their sessions.
    pub fn is_confirmed(&self) -> bool {
        self.confirmations.unconfirmed() == 0
    }

    /// Whether `shard` has room for one more message after `before` others.
    pub fn has_room(&self, shard: usize, before: usize) -> bool {
        self.confirmations.unconfirmed_by(shard) + before < COPIES_UNCONFIRMED_MAX && self.exchanges.has_room(shard)
    }

    /// The most bytes of a record of waiting messages, or of positions.
    pub(crate) const fn entry_max(&self) -> usize {
        self.entry_max
    }

    /// The most bytes of waiting messages.
    pub(crate) fn bytes_max(&self) -> usize {
        self.bounds.bytes
    }

    /// Notes a message that has gone to the subscribers of a shard.
    pub(crate) fn expect(&mut self, shard: usize, ticket: Option<Ticket>) {
        self.confirmations.expect(shard, ticket);
    }

    /// Keeps the place of a message of shard `from` that goes to its subscribers later: later messages are reported after it. Messages with kept places are
    /// delivered in the same order.
    pub(crate) fn keep_place(&mut self, from: usize) {
        self.confirmations.keep_place(from);
    }

    /// Notes a message of shard `from` that is with its subscribers here: durable with these groups, none if no session had to remember it. `has_place`: the
    /// message is the oldest with a kept place.
    pub(crate) fn delivered(&mut self, from: usize, groups: &Groups, has_place: bool) {
        if has_place {
            self.confirmations.take_place(from, groups);
        } else {
            self.confirmations.wait_for(from, groups);
        }
    }

    fn confirmations(broker: &mut Broker) -> &mut Confirmations {
        &mut broker.queues.confirmations
    }
}

impl Broker {
    /// Whether publishers wait for the disk of shards that keep their messages.
    pub(crate) fn waits_for_disk(&self, here: &Here) -> bool {
        here.config.delivery.waits_for_disk && self.logs.kept.is_there()
    }

    /// Whether messages of this QoS are answered when they are durable for the kept sessions that get them.
    pub fn awaits_copies(&self, here: &Here, qos: QoS) -> bool {
        qos > QoS::AtMostOnce && self.waits_for_disk(here)
    }

    /// The number in the log of a session that gets a copy through a crash, if there is room for one more message.
    ///
    /// # Errors
    /// The log has no room.
    pub(crate) fn stores_copy(&mut self, key: SessionKey, message_bytes: usize) -> Result<Option<u64>, ()> {
        let Some(number) = self.sessions.get(key).and_then(|session| session.number()) else { return Ok(None) };
        let Some(room) = self.logs.kept.of(number).map(Buffer::session_room) else { return Ok(None) };
        let bytes = message_bytes + MESSAGE_BYTES + Recipient::BYTES_MAX;
        let others = self.queues.pending.len() * Recipient::BYTES_MAX;
        // A message that has waited for a member of a share is in the log already: room was left to give it to a member.
        let is_there = self.delivery.body_at_hand().is_some_and(|body| body.for_share().is_some());
        let left = if is_there { self.queues.entry_max } else { self.queues.spare };
        let has_place = bytes <= self.queues.entry_max && bytes + others + left <= room;
        let has_number = is_there || self.stores_more();
        if has_place && has_number { Ok(Some(number)) } else { Err(()) }
    }

    /// Writes the message at hand down for whichever member of this share gets it, if a member's session survives a crash. If the log has no room, the
    /// message is in memory alone, and binding it to a member has to find room later.
    pub(crate) fn store_for_share(&mut self, here: &mut Here, publish: &Publish<'_>, to: ToShare) {
        let Some(text) = self.delivery.shares.kept(to.share) else { return };
        let body = self.delivery.body_at_hand();
        if body.as_ref().is_some_and(|body| body.for_share().is_some()) {
            return;
        }
        // A message with a record that stays open for want of room in the log is not at hand.
        let Some(body) = body.filter(|body| self.has_room_for_share(text.len(), body.packet().len())) else {
            return here.numbers.count(M::CopiesUnstored);
        };
        let of = ForShare { deadline: None, from: None, key: to.key, text: &text, packet: body.packet() };
        let group = self.write_for_share(&body, publish, of);
        if group.is_none() {
            here.numbers.count(M::CopiesUnstored);
        }
        self.queues.groups.add(group.unwrap_or(0));
    }

    /// Whether the log has the message at hand, or room for it, at most this size, for whichever member of this share gets it.
    pub(crate) fn logs_share(&mut self, share: ShareNumber, message_bytes: usize) -> bool {
        let Some(text) = self.delivery.shares.kept(share) else { return false };
        let is_there = self.delivery.body_at_hand().is_some_and(|body| body.for_share().is_some());
        is_there || self.has_room_for_share(text.len(), message_bytes)
    }

    fn has_room_for_share(&mut self, text_bytes: usize, message_bytes: usize) -> bool {
        let Some(room) = self.logs.kept.first().map(Buffer::session_room) else { return false };
        let bytes = ForShare::HEAD_BYTES + text_bytes + message_bytes;
        bytes <= self.queues.entry_max && bytes + self.queues.spare <= room && self.stores_more()
    }

    /// Writes the message down. Returns the group in which it is durable. `None`: there is no room.
    pub(crate) fn write_for_share(&mut self, body: &Body, publish: &Publish<'_>, of: ForShare<'_>) -> Option<u64> {
        let buffer = self.logs.kept.first_mut()?;
        let payload = &mut self.queues.payload;
        payload.clear();
        ForShare { deadline: deadline_of(buffer, body, publish), ..of }.encode(payload);
        let kept = buffer.keep_session(None, payload).ok()?;
        body.stored_for_share(kept.number, kept.group);
        body.take_claim().into_iter().for_each(|claim| self.queues.left.hold(kept.group, claim));
        self.queues.wrote = true;
        Some(kept.group)
    }

    /// Writes down as a session's own a copy of a share that the session has left, if the log had it for whichever member gets it. If the log has no room, a
    /// crash loses the copy.
    pub(crate) fn store_as_own(&mut self, key: SessionKey, number: u64, copy: &Copy, body: &Body) {
        let (Some(of), Some(publish)) = (self.sessions.get(key).and_then(Session::number), body.publish()) else {
            return;
        };
        let (Some(buffer), Some(was)) = (self.logs.kept.of_mut(of), body.for_share()) else { return };
        let payload = &mut self.queues.payload;
        payload.clear();
        let to = Recipient::new(of, number, copy);
        saved::encode(None, deadline_of(buffer, body, &publish), std::iter::once(&to), body.packet(), payload);
        let is_same_log = slot_of(was) == slot_of(of);
        if let Ok(kept) = buffer.keep_session(Some(was).filter(|_| is_same_log), payload) {
            self.queues.bound(body, kept);
            self.queues.wrote = true;
        }
    }

    /// Ends a message for a share in the log, as a member that does not get it through a crash, or another shard, has it. Returns the group in which the end
    /// is durable. `None`: the message is not in the log.
    pub(crate) fn end_for_share(&mut self, body: &Body) -> Option<u64> {
        let number = body.end_for_share()?;
        self.queues.wrote = true;
        self.logs.kept.end(number)
    }

    /// Notes a copy of the message at hand that a session was handed and that is written to the log. `own`: its own body, if others have another one.
    /// `claim`: on a record that is over when the copy is durable.
    pub(crate) fn store_copy(
        &mut self,
        key: SessionKey,
        number: u64,
        copy: &Copy,
        (own, claim): (Option<Rc<Body>>, Option<Rc<Claim>>),
    ) {
        let Some(session) = self.sessions.get(key) else { return };
        let recipient = Recipient::new(number, session.last_copy(), copy);
        let (waits, is_remote) = (copy.qos == QoS::ExactlyOnce, session.is_remote());
        self.queues.pending.push(Pending { session: key, recipient, waits, is_remote, own, claim });
    }

    /// Writes the message at hand down with the sessions that get it, once in each log, when all its copies, or as many as a turn may make, are made. Returns
    /// the groups in which it is durable, none if no session has to remember it.
    pub(crate) fn store_copies(&mut self, io: &mut dyn Out, here: &mut Here, publish: &Publish<'_>) -> Groups {
        let mut groups = std::mem::take(&mut self.queues.groups);
        if self.queues.pending.is_empty() {
            return groups;
        }
        let mut pending = std::mem::take(&mut self.queues.pending);
        // A copy with a body of its own is a record of its own.
        let log = |pending: &Pending| (slot_of(pending.recipient.session), pending.own.is_some());
        if !pending.is_sorted_by_key(log) {
            pending.sort_by_key(log);
        }
        let packet_bytes = self.delivery.body_at_hand().map_or(0, |body| body.packet().len()) + MESSAGE_BYTES;
        let at_once = self.queues.entry_max.saturating_sub(packet_bytes) / Recipient::BYTES_MAX;
        for of_log in pending.chunk_by(|one, other| log(one) == log(other) && one.own.is_none()) {
            for some in of_log.chunks(at_once.max(1)) {
                groups.add(self.store_for(io, here, publish, some));
            }
        }
        self.queues.pending = pending;
        self.queues.pending.clear();
        groups
    }

    /// Writes the message at hand to one log, for the sessions in `to`.
    fn store_for(&mut self, io: &mut dyn Out, here: &mut Here, publish: &Publish<'_>, to: &[Pending]) -> u64 {
        to.iter().for_each(|pending| self.write_dropped(here, pending.session));
        let kept = &mut self.logs.kept;
        let (Some(body), Some(of)) = (self.delivery.body_at_hand(), to.first().map(|first| first.recipient.session))
        else {
            return 0;
        };
        let own = to.first().and_then(|first| first.own.clone());
        let body = own.unwrap_or_else(|| self.delivery.copies.part(body, kept.part_of(of)));
        let Some(buffer) = kept.of_mut(of) else { return 0 };
        let deadline = deadline_of(buffer, &body, publish);
        let payload = &mut self.queues.payload;
        payload.clear();
        let place = self.delivery.copies.place;
        saved::encode(place, deadline, to.iter().map(|pending| &pending.recipient), body.packet(), payload);
        // The record that waited for a member of a share becomes this session's copy, at the same moment if it is in the same log.
        let was = body.for_share().filter(|number| slot_of(*number) == slot_of(of));
        let Ok(kept) = buffer.keep_session(was, payload) else {
            self.take_back(here, io.now(), publish, to);
            return 0;
        };
        self.queues.bound(&body, kept);
        if let Some(place) = place {
            self.keeping.given.stored(kept.number, place, to.iter().map(|pending| pending.recipient.session));
        }
        self.queues.wrote = true;
        to.iter().filter_map(|pending| pending.claim.clone()).for_each(|of| self.queues.left.hold(kept.group, of));
        let group = here.rules.publish_waits_for(kept.group);
        for pending in to.iter().filter(|pending| pending.waits || pending.is_remote) {
            if pending.waits {
                self.sessions.waits_for(pending.session, group);
            }
            self.pump_session(io, here, pending.session);
        }
        kept.group
    }

    /// Takes a message back from sessions that have not been sent it, as the log no longer has room. A copy with a record that stays open remains in memory
    /// alone.
    fn take_back(&mut self, here: &mut Here, now: Monotonic, publish: &Publish<'_>, from: &[Pending]) {
        for pending in from {
            if let Some(own) = &pending.own {
                own.awaits_log();
                here.numbers.count(M::CopiesUnstored);
                if self.logs.kept.part_of(pending.recipient.session).is_some() {
                    self.note_unlogged_at(pending.session, pending.recipient.number);
                }
                continue;
            }
            let Some(session) = self.sessions.get_mut(pending.session) else { continue };
            if session.take_back(pending.recipient.number) {
                self.note_dropped_copy(here, pending.session);
                self.dropped(here, now, M::CopiesQueueFull, Whose::Session(pending.session), publish);
            } else {
                here.numbers.count(M::CopiesUnstored);
            }
        }
    }

    /// Has a session's queue written down after a change, in this turn if its client waits for that.
    pub fn note_queue(&mut self, now: Monotonic, key: SessionKey) {
        match self.queue_change(key) {
            Changed::No => {}
            Changed::Ended => self.write_queue_later(now, key),
            Changed::Received => self.queues.received.push(key),
        }
    }

    /// Has a session's queue written down later.
    pub(crate) fn note_queue_later(&mut self, now: Monotonic, key: SessionKey) {
        if self.queue_change(key) != Changed::No {
            self.write_queue_later(now, key);
        }
    }

    fn queue_change(&mut self, key: SessionKey) -> Changed {
        let session = self.sessions.get_mut(key).filter(|_| self.logs.kept.is_there());
        session.map_or(Changed::No, |session| session.take_queue_change())
    }

    fn write_queue_later(&mut self, now: Monotonic, key: SessionKey) {
        self.queues.changed.push(key);
        self.queues.since.get_or_insert(now);
    }

    /// Writes a queue down, and sends the bytes held for that. If the log has no room, the write is tried again every 50 ms.
    fn write_queue(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let mut saved = None;
        if let Some((queue, record)) = session.save_queue() {
            let buffer = session.number().and_then(|number| self.logs.kept.of_mut(number));
            let Some(buffer) = buffer else { return };
            let payload = &mut self.queues.payload;
            payload.clear();
            saved::encode_queue(&queue, payload);
            let Ok(kept) = buffer.keep_state(record, payload) else { return self.queues.changed.push(key) };
            self.queues.wrote = true;
            saved = Some(kept);
        }
        let number = saved.as_ref().map(|kept| kept.number);
        let sends_after = session.sends_after_record();
        let (conn, mut nowhere) = (session.conn(), Vec::new());
        let out = conn.map_or(&mut nowhere, |conn| self.keeping.holds.out(io, conn));
        let from = out.len();
        let has_pubrel = session.queue_saved(number, out);
        // Other bytes to the client need not wait for that.
        if let Some(kept) = saved.filter(|_| has_pubrel || sends_after) {
            self.sessions.waits_for(key, here.rules.pubrel_waits_for(kept.group));
        }
        if let Some(conn) = conn {
            self.hold(io, here, conn, key, from);
        }
        if sends_after {
            self.pump_session(io, here, key);
        }
    }

    /// Reports durable messages and free packet identifiers to their publishers' shards. True: some are of this shard.
    pub fn confirm_copies(&mut self, here: &Here) -> bool {
        let letter = |by, count| Letter::Broker(ToBroker::CopiesDurable { by, count });
        let has_own = self.tell_durable(here, Queues::confirmations, Self::copies_durable, letter);
        self.meet_written(here);
        self.confirm_releases(here) || has_own
    }

    /// Notes that `count` messages are durable for a shard's kept sessions.
    pub(crate) fn copies_durable(&mut self, here: &Here, by: usize, count: u64) {
        self.confirm(here, by, count, Queues::confirmations);
        self.tell_sessions_over(here, by);
    }

    /// Writes down ended messages at the end of a turn, with other records or after they have waited [`WRITE_WITHIN`].
    pub fn write_queues(&mut self, io: &mut dyn Out, here: &mut Here, is_draining: bool) {
        let now = io.now();
        here.numbers.set(M::StoredMessages, self.delivery.remembered().stored() as u64);
        here.numbers.set(M::StoredMessagesMax, self.queues.bounds.messages as u64);
        here.numbers.set(M::ShareStoredMessages, self.delivery.remembered().stored_for_shares() as u64);
        here.numbers.set(M::CopiesUnconfirmed, self.queues.confirmations.unconfirmed() as u64);
        here.numbers.set(M::Exchanges, self.queues.exchanges.open() as u64);
        here.numbers.set(M::SlotsFull, self.queues.left.full() as u64);
        if !self.logs.kept.is_there() {
            return;
        }
        self.end_bound();
        let received = std::mem::take(&mut self.queues.received);
        self.write_each(io, here, received);
        self.write_left(io, here);
        let wrote = std::mem::take(&mut self.queues.wrote);
        let has_ended = self.delivery.remembered().has_ended() || self.sessions.has_ended_queues();
        if self.queues.changed.is_empty() && !has_ended {
            if self.queues.left.is_waiting() {
                self.want_queues_turn(io, now);
            }
            return self.write_positions(io, here, is_draining);
        }
        let since = *self.queues.since.get_or_insert(now);
        let is_due = now.since(since) >= WRITE_WITHIN || is_draining;
        if is_due || wrote {
            self.write_ends(here, now);
        }
        if is_due || wrote && self.queues.changed.len() <= QUEUES_WITH_OTHERS {
            self.queues.since = None;
            let changed = std::mem::take(&mut self.queues.changed);
            self.write_each(io, here, changed);
            self.queues.wrote = false;
        }
        if !self.queues.changed.is_empty() || !(is_due || wrote) || self.queues.left.is_waiting() {
            self.want_queues_turn(io, self.queues.since.unwrap_or(now));
        }
        self.write_positions(io, here, is_draining);
    }

    /// Requests a turn to write down queues that have waited since then.
    fn want_queues_turn(&mut self, io: &mut dyn Out, since: Monotonic) {
        self.want_queues_turn_at(io, since.after(WRITE_WITHIN));
    }

    /// Requests a turn at this time, if none is requested yet.
    pub(crate) fn want_queues_turn_at(&mut self, io: &mut dyn Out, at: Monotonic) {
        if !std::mem::replace(&mut self.queues.has_timer, true) {
            io.set_timer(at, Due::Queues);
        }
    }

    fn write_each(&mut self, io: &mut dyn Out, here: &mut Here, mut queues: Vec<SessionKey>) {
        queues.sort_unstable();
        queues.dedup();
        for key in queues {
            self.write_queue(io, here, key);
        }
    }

    /// Ends messages and queues that are over in the log.
    pub fn write_ends(&mut self, here: &Here, now: Monotonic) {
        let (ended, rules) = (self.delivery.remembered().take_ended(), here.rules);
        let ended = ended.into_iter().filter(|number| rules.writes_end(*number));
        for number in ended.chain(self.sessions.take_ended_queues()) {
            self.end_kept(here, number, now);
        }
    }

    /// Notes that the turn requested by [`Broker::write_queues`] has begun.
    pub(crate) fn queues_time(&mut self) {
        self.queues.has_timer = false;
    }
}
