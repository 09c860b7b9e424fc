//! Copies of a message for subscribers: encoded once for all that get the same bytes, and remembered once for all that acknowledge.

use std::hash::BuildHasher as _;
use std::ops::Range;
use std::rc::Rc;

use smallvec::SmallVec;

use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::encode;
use forebay_mqtt::packet::{Publish, QoS, Version};
use forebay_mqtt::property::Property;
use forebay_mqtt::route::filter;
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_mqtt::topic::is_shared;
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{
    Alias, Body, Claim, Copy, Handed, Passes, Pumped, RecordPlace, Remembered, Session, SessionKey, Subscription,
    is_expired, properties,
};

use super::super::Broker;
use super::super::queues::Holder;
use super::run::Run;
use super::{By, Message, put_packet};
use crate::here::Here;
use crate::out::Out;
use crate::words::Whose;

/// Subscription Identifiers of a copy.
type Identifiers = SmallVec<[u32; 2]>;

/// The form of a copy: copies of one form differ only in their packet identifier. None has DUP [MQTT-4.3.1-1] [MQTT-3.3.1-3].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) version: Version,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: Identifiers,
    pub(super) alias: Option<Alias>,
}

impl Form {
    /// The topic as it is sent.
    fn topic<'a>(&self, topic: &'a str) -> &'a str {
        self.alias.map_or(topic, |alias| alias.topic(topic))
    }

    /// Appends the packet in this form, or nothing if the packet would be larger than the protocol allows.
    pub(super) fn put(&self, publish: &Publish<'_>, waited_s: u32, out: &mut Vec<u8>) {
        let mut properties = properties(publish, self.version, waited_s, &self.identifiers);
        properties.extend(self.alias.map(|alias| Property::TopicAlias(alias.number())));
        let copy = Publish {
            dup: false,
            qos: self.qos,
            retain: self.retain,
            topic: self.topic(publish.topic),
            packet_id: u16::from(self.qos > QoS::AtMostOnce),
            properties: properties.as_properties(),
            ..publish.clone()
        };
        let from = out.len();
        if encode::publish(self.version, &copy, out).is_err() {
            out.truncate(from);
        }
    }
}

/// The Subscription Identifiers of a copy for these subscriptions.
pub(super) fn identifiers(of: &[Subscriber<SessionKey>]) -> Identifiers {
    of.iter().map(|of| of.identifier).filter(|id| *id != 0).collect()
}

/// The message at hand, in the forms in which copies of it have been encoded.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    bytes: Vec<u8>,
    forms: SmallVec<[(Form, Range<usize>); 4]>,
    /// The last form with identifiers or an alias, which may differ from one subscriber to the next.
    identified: Option<(Form, Range<usize>)>,
    since: Monotonic,
    hasher: foldhash::quality::RandomState,
    /// The hash of the message's topic, if it was needed.
    topic_hash: Option<u64>,
    /// The message for sessions that have it in the log, or only in memory.
    body: Option<Rc<Body>>,
    /// Parts of `body`, one for the sessions of each slot.
    parts: SmallVec<[(u16, Rc<Body>); 1]>,
    /// The message for sessions that must have it before its record's offset may be committed.
    claiming: Option<Rc<Body>>,
    /// Like `claiming`, for kept sessions of slots with a full log, which has yet to get the message.
    holding: Option<Rc<Body>>,
    /// The place of the record of `[broker]` that the message at hand was made of.
    pub(crate) place: Option<RecordPlace>,
    remembered: Rc<Remembered>,
    /// The run that the message at hand begins.
    pub(super) run: Run,
}

impl Copies {
    /// Begins with another message, received at `since`.
    pub(crate) fn begin(&mut self, since: Monotonic) {
        self.bytes.clear();
        self.forms.clear();
        self.identified = None;
        self.topic_hash = None;
        self.since = since;
    }

    /// Begins again with a message that is remembered already.
    pub(crate) fn begin_again(&mut self, body: &Rc<Body>) {
        self.begin(body.since());
        self.body = Some(Rc::clone(body));
    }

    /// Ends with the message at hand: sessions that have to remember it do so.
    pub(crate) fn end(&mut self) {
        (self.body, self.claiming, self.holding) = (None, None, None);
        self.parts.clear();
    }

    /// Messages that sessions have to remember.
    pub(crate) fn remembered(&self) -> &Rc<Remembered> {
        &self.remembered
    }

    /// The message at hand, if some session has to remember it.
    pub(super) fn body_at_hand(&self) -> Option<Rc<Body>> {
        self.body.clone()
    }

    /// The range of the packet, and the position of the identifier in it. An empty range: the packet would be larger than the protocol allows.
    fn encode(&mut self, publish: &Publish<'_>, form: &Form, waited_s: u32) -> (Range<usize>, usize) {
        let known = self.forms.iter().chain(&self.identified).find(|(known, _)| known == form);
        let topic_bytes = form.topic(publish.topic).len();
        let range = known.map(|(_, range)| range.clone()).unwrap_or_else(|| {
            let from = self.bytes.len();
            form.put(publish, waited_s, &mut self.bytes);
            let range = from..self.bytes.len();
            if form.identifiers.is_empty() && form.alias.is_none() {
                self.forms.push((form.clone(), range.clone()));
            } else {
                self.identified = Some((form.clone(), range.clone()));
            }
            range
        });
        // The packet identifier comes after the fixed header and the topic with its length.
        let length_bytes = self.bytes[range.clone()].iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
        (range, 1 + length_bytes + 2 + topic_bytes)
    }

    /// A hash of the topic, computed once for the message at hand.
    pub(super) fn topic_hash(&mut self, topic: &str) -> u64 {
        *self.topic_hash.get_or_insert_with(|| self.hasher.hash_one(topic))
    }

    /// The message at hand for sessions that have to remember it. `key`: for members of shares. `claim`: of sessions that have the message nowhere else.
    pub(crate) fn body(&mut self, publish: &Publish<'_>, key: u32, claim: Option<&Rc<Claim>>) -> Rc<Body> {
        let (since, remembered) = (self.since, &self.remembered);
        let packet = || {
            let mut packet = Vec::new();
            put_packet(publish, &mut packet);
            packet
        };
        let body = match claim {
            None => self.body.get_or_insert_with(|| Body::new(packet(), since, key, remembered)),
            Some(claim) => self.claiming.get_or_insert_with(|| Body::claiming(packet(), since, key, Rc::clone(claim))),
        };
        Rc::clone(body)
    }

    /// The message at hand for a kept session that has it nowhere else, though its slot has a log.
    fn holding(&mut self, publish: &Publish<'_>, key: u32, claim: &Rc<Claim>) -> Rc<Body> {
        if let Some(body) = &self.holding {
            return Rc::clone(body);
        }
        let mut packet = Vec::new();
        put_packet(publish, &mut packet);
        debug_assert_eq!(key, 0, "it is of no share");
        let body = Body::claiming(packet, self.since, key, Rc::clone(claim));
        body.awaits_log();
        self.holding = Some(Rc::clone(&body));
        body
    }

    /// The message at hand for sessions that have it in their log. `slot`: of the log, if there are several. A message of a share is for one member alone.
    pub(crate) fn part(&mut self, body: Rc<Body>, slot: Option<u16>) -> Rc<Body> {
        let Some(slot) = slot.filter(|_| body.for_share().is_none()) else { return body };
        if let Some((_, part)) = self.parts.iter().find(|(of, _)| *of == slot) {
            return Rc::clone(part);
        }
        let part = body.part();
        self.parts.push((slot, Rc::clone(&part)));
        part
    }

    /// Takes a message of another shard, with the time at which that shard received it.
    pub(crate) fn adopt(&self, packet: Vec<u8>, since: Monotonic, key: u32, claim: Option<Rc<Claim>>) -> Rc<Body> {
        match claim {
            Some(claim) => Body::claiming(packet, since, key, claim),
            None => Body::new(packet, since, key, &self.remembered),
        }
    }
}

/// Whether a session still has one of the subscriptions `of`, and its client may receive the message. `is_stale`: some may have ended since they were
/// found.
///
/// # Errors
/// The reason why not.
pub(super) fn check(
    session: &Session,
    publish: &Publish<'_>,
    of: &[Subscriber<SessionKey>],
    is_stale: bool,
) -> Result<(), M> {
    let has_it = |of: &Subscription| !is_shared(&of.filter) && filter::matches(&of.filter, publish.topic);
    if is_stale && !session.subscriptions().iter().any(has_it) {
        return Err(M::CopiesEnded);
    }
    let is_checked = is_stale || of.iter().all(|of| of.is_checked);
    if is_checked && !session.may_receive(publish.topic, publish.qos, publish.retain) {
        return Err(M::CopiesDenied);
    }
    Ok(())
}

impl Broker {
    /// Makes one copy, for the matching subscriptions of one session. `is_stale`: some may have ended since they were found.
    pub(super) fn copy(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        of: &[Subscriber<SessionKey>],
        is_stale: bool,
    ) {
        here.numbers.count(M::CopiesRouted);
        if let Err(why) = self.try_copy(io, here, message, of, is_stale) {
            if !matches!(why, M::CopiesSessionEnded | M::CopiesEnded) {
                message.claim.into_iter().for_each(|claim| claim.meet());
            }
            let is_live = message.publish.retain && message.by == By::Subscription;
            if is_live && matches!(why, M::CopiesAway | M::CopiesSlow | M::CopiesQueueFull) {
                self.retained.note_missed(of[0].session, message.pass);
            }
            if why == M::CopiesQueueFull && message.by == By::Subscription {
                self.note_dropped_copy(here, of[0].session);
            }
            self.dropped(here, io.now(), why, Whose::Session(of[0].session), message.publish);
        }
    }

    /// # Errors
    /// The reason why there is no copy. A share's member without room drops nothing.
    pub(crate) fn try_copy(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        of: &[Subscriber<SessionKey>],
        is_stale: bool,
    ) -> Result<(), M> {
        self.limit_what_is_sent();
        let Message { publish, waited_s, by, .. } = message;
        let key = of[0].session;
        let session = self.sessions.get_mut(key).ok_or(M::CopiesSessionEnded)?;
        check(session, publish, of, is_stale)?;
        if is_expired(publish, waited_s) {
            return Err(M::CopiesExpired);
        }
        // [MQTT-3.3.4-2]
        let granted = of.iter().map(|of| of.options.qos).max().unwrap_or(QoS::AtMostOnce);
        let qos = publish.qos.min(granted); // [MQTT-3.8.4-8], [MQTT-4.8.2-3]
        // [3.1.1 MQTT-3.3.1-8] [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        let retain = publish.retain && (by == By::Replay || of.iter().any(|of| of.options.retain_as_published));
        let identifiers = identifiers(of);
        let peer = session.peer();
        let conn = session.conn();
        if qos == QoS::AtMostOnce && conn.is_none() {
            return Err(M::CopiesAway);
        }
        let unsent = conn.map_or(0, |conn| self.keeping.holds.unsent(io, conn));
        if peer.is_remote {
            let copy = Copy { qos, retain, identifiers: identifiers.as_slice().into(), share: None };
            return self.copy_to_remote(io, here, message, key, copy);
        }
        let share = by.share().map(|to| to.share);
        if share.is_some() && qos > QoS::AtMostOnce && !here.rules.may_bind(session.sends_at_once(unsent)) {
            self.await_room(io, key, unsent);
            return Err(M::CopiesQueueFull);
        }
        let copies = &mut self.delivery.copies;
        let takes_aliases = conn.is_some() && session.takes_aliases();
        let hash = if takes_aliases { copies.topic_hash(publish.topic) } else { 0 };
        let mut alias = if takes_aliases { session.alias_for(publish.topic, hash, qos) } else { None };
        let mut form = Form { version: peer.version, qos, retain, identifiers, alias };
        let is_too_large = |range: &Range<usize>| range.is_empty() || range.len() > peer.packet_size_max as usize;
        let (mut range, mut id_at) = copies.encode(publish, &form, waited_s);
        if alias.is_some() && is_too_large(&range) {
            (alias, form.alias) = (None, None);
            (range, id_at) = copies.encode(publish, &form, waited_s);
        }
        if conn.is_some() && is_too_large(&range) {
            return Err(M::CopiesTooLarge); // [MQTT-3.1.2-25]
        }
        let takes = |conn| self.may_leave_unread(io, here, conn, unsent, range.len());
        if qos == QoS::AtMostOnce && !conn.is_none_or(takes) {
            if share.is_some() {
                self.await_room(io, key, unsent);
            }
            return Err(M::CopiesSlow);
        }
        let mut id = None;
        if qos > QoS::AtMostOnce {
            let identifiers = form.identifiers.as_slice().into();
            let handed = self.hand(here, key, Copy { qos, retain, identifiers, share }, message, (unsent, io.now()))?;
            if handed != Handed::Dropped {
                self.skip_in_replay(key, message);
            }
            id = match handed {
                Handed::Now(id) => Some((id_at, id)),
                Handed::Queued => {
                    self.await_room(io, key, unsent);
                    return Ok(());
                }
                Handed::DroppedOldest(_) => {
                    self.await_room(io, key, unsent);
                    self.take_dropped(here, io.now(), key, M::CopiesQueueFull);
                    self.retained.note_dropped(key);
                    // Other sessions may still get the copies: their end for this session is written down.
                    self.note_queue_later(io.now(), key);
                    return Ok(());
                }
                Handed::Dropped => return Err(M::CopiesQueueFull),
            };
        } else {
            message.claim.into_iter().for_each(|claim| claim.meet());
            here.numbers.count(M::CopiesSentQos0);
            self.skip_in_replay(key, message);
        }
        // A message of a share that was sent to a member that does not get it through a crash must not go to another member after the crash.
        let ends_for_share = share.is_some() && qos != QoS::AtLeastOnce;
        let body = self.delivery.body_at_hand().filter(|_| ends_for_share);
        let group = body.and_then(|body| self.end_for_share(&body)).unwrap_or(0);
        if takes_aliases && let Some(session) = self.sessions.get_mut(key) {
            session.wrote_alias(publish.topic, hash, alias);
        }
        if let Some(conn) = conn {
            self.delivery.pace(io, conn, unsent, range.len());
            self.write_copy(io, here, conn, range, id, group);
        }
        here.numbers.count(M::CopiesSent);
        here.numbers.raise(M::CopiesSentBytes, publish.payload.len() as u64);
        Ok(())
    }

    /// Notes that a session gets a message live, now or in its turn: the message retained before it does not follow.
    fn skip_in_replay(&mut self, key: SessionKey, message: Message<'_>) {
        if message.publish.retain && message.by == By::Subscription {
            self.retained.skip_in_replay(key, message.publish.topic, message.pass);
        }
    }

    /// Hands a session its copy of the message at hand, at QoS 1 or 2, with its client connected or not [MQTT-4.5.0-1], and stores the copy if it must
    /// survive a crash. A share's copy at QoS 1 is stored for whichever member gets it.
    ///
    /// # Errors
    /// The session has no room for what it would have to remember.
    pub(crate) fn hand(
        &mut self,
        here: &mut Here,
        key: SessionKey,
        copy: Copy,
        message: Message<'_>,
        (unsent, now): (usize, Monotonic),
    ) -> Result<Handed, M> {
        let (bytes, bounds) = (super::packet_bytes(message.publish.topic, message.publish), self.queue_bounds(key));
        let session = self.sessions.get(key).ok_or(M::CopiesSessionEnded)?;
        // A record that does not fit the bounds of a connected client's queue holds back its partition.
        let is_full = message.claim.is_some() && session.is_queue_full(bytes, bounds);
        let is_there = session.conn().is_some();
        // A copy of a record of `[broker]` is written to the log all the same while the log is less than half full: a crash must not give it out a second
        // time.
        let is_of_slot = message.claim.is_some()
            && copy.share.is_none()
            && session.number().is_some()
            && self.delivery.copies.place.is_some();
        // Copies after one in memory alone are in memory, too: after a crash the log's would come before it.
        let is_after_windowed = message.claim.is_some() && !is_of_slot && session.has_windowed();
        let is_windowed = is_there && (is_full || is_after_windowed);
        let stored = if copy.share.is_some() && copy.qos == QoS::AtLeastOnce || is_windowed && !is_of_slot {
            Ok(None)
        } else if is_of_slot && (self.waits_for_log(key) || is_windowed && self.is_slot_half_full(key)) {
            Err(())
        } else {
            self.stores_copy(key, bytes)
        };
        // Kafka has the message, and its record stays open until the log has room. A connected client gets it at QoS 2 after that.
        let is_exact = copy.qos == QoS::ExactlyOnce;
        let may_wait = || if is_there { is_exact } else { self.may_wait_for_log(bytes, is_full, bounds) };
        let lacks_room = is_of_slot && stored.is_err();
        let waits = lacks_room && may_wait();
        let is_of_share = copy.share.filter(|_| copy.qos == QoS::AtLeastOnce);
        let is_in_log = message.claim.is_some() && is_of_share.is_some_and(|share| self.logs_share(share, bytes));
        let has_room = self.remembers_more();
        let copies = &mut self.delivery.copies;
        let session = self.sessions.get_mut(key).ok_or(M::CopiesSessionEnded)?;
        // A remote gets its waiting messages in the same turn.
        let sends_at_once = session.sends_at_once(unsent) || session.is_remote() && session.conn().is_some();
        // A record does not stay open for a copy that the log has, nor for a client that is offline and may never return, but for a copy that a slot's log
        // has yet to get.
        let is_stored = is_in_log || matches!(stored, Ok(Some(_)));
        let keeps_open = is_windowed && is_stored || here.rules.keeps_open(is_stored);
        let claim = message.claim.filter(|_| keeps_open && (is_there || waits));
        // With a full log, a connected client gets at QoS 1 what it would get without a log, and everything that it has asked for again.
        let is_past = matches!(message.by, By::Replay | By::Past);
        let is_lost = stored.is_err() && (is_exact && !is_past || !sends_at_once);
        let is_remembered = copy.share.is_some() || session.expiry_s() > 0 || !sends_at_once;
        // Messages bounded by a window never lack room: their partition is not read further.
        if claim.is_none() && (is_lost || is_remembered && !has_room) {
            return Err(M::CopiesQueueFull);
        }
        if stored.is_err() && copy.share.is_none() {
            here.numbers.count(M::CopiesUnstored);
        }
        let stored = stored.unwrap_or(None);
        let share_key = message.by.share().map_or(0, |to| to.key);
        let all = Rc::clone(copies.remembered());
        let slot = stored.and_then(|number| self.logs.kept.part_of(number));
        let mut own = None;
        let handed =
            session.hand(copy.clone(), (unsent, now), (stored.is_some(), claim.is_some()), (bounds, &all), || {
                match claim {
                    None => {
                        let body = copies.body(message.publish, share_key, None);
                        copies.part(body, slot)
                    }
                    Some(claim) if stored.is_some() => {
                        let body = copies.body(message.publish, share_key, None).windowed(Rc::clone(claim));
                        Rc::clone(own.insert(body))
                    }
                    Some(claim) if is_of_slot => copies.holding(message.publish, share_key, claim),
                    Some(_) => copies.body(message.publish, share_key, claim),
                }
            });
        let waits_for_record = handed == Handed::Queued && session.sends_after_record();
        if matches!(handed, Handed::Queued | Handed::DroppedOldest(_)) {
            self.queues.fullest.note(session.grown(bounds), Holder::Session(key));
        }
        if waits_for_record {
            self.note_queue(now, key);
        }
        // If the slot goes before its log has a message of a share, another member is offered it.
        let until_logged = message.claim.filter(|_| claim.is_none() && stored.is_some() && copy.share.is_some());
        if handed != Handed::Dropped && claim.is_none() && until_logged.is_none() {
            message.claim.into_iter().for_each(|claim| claim.meet());
        }
        if lacks_room && claim.is_some() && handed != Handed::Dropped {
            self.note_unlogged(key);
        } else if let Some(number) = stored.filter(|_| handed != Handed::Dropped) {
            self.store_copy(key, number, &copy, (own, until_logged.cloned()));
        } else if let Some(to) = message.by.share().filter(|_| copy.qos == QoS::AtLeastOnce) {
            self.store_for_share(here, message.publish, to);
        }
        Ok(handed)
    }

    /// Writes a copy. `id`: the position and value of the packet identifier. `group`: the copy is sent when this group is durable.
    fn write_copy(
        &mut self,
        io: &mut dyn Out,
        here: &Here,
        conn: ConnId,
        range: Range<usize>,
        id: Option<(usize, u16)>,
        group: u64,
    ) {
        let group = here.rules.publish_waits_for(group);
        let waits = group > self.logs.kept.durable(group);
        let holds = &mut self.keeping.holds;
        let out = holds.out(io, conn);
        let from = out.len();
        out.extend_from_slice(&self.delivery.copies.bytes[range]);
        if let Some((at, id)) = id {
            out[from + at..][..2].copy_from_slice(&id.to_be_bytes());
        }
        if waits {
            holds.hold(io, conn, group, from, None);
        } else {
            holds.wrote(conn, from);
        }
    }

    /// Sends a session its waiting messages, as far as its client may be sent them. Messages that wait for the log are written there first, while it has
    /// room.
    pub fn pump_session(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey) {
        if self.pump_logged(io, here, key) {
            self.note_unlogged(key);
        }
    }

    /// Sends a session its waiting messages. True: the next one waits for room in the log.
    pub(crate) fn pump_logged(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey) -> bool {
        while self.pump(io, here, key) {
            if !self.log_next(here, io.now(), key) {
                return true;
            }
        }
        false
    }

    /// Sends a session its waiting messages up to one that the log gets first. True: there is one.
    pub(crate) fn pump(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(conn) = session.conn().filter(|_| session.has_queued()) else { return false };
        let holds = &mut self.keeping.holds;
        let unsent = holds.unsent(io, conn);
        let now = io.now();
        let passes = if session.is_remote() { self.delivery.remotes.passes(key) } else { None };
        if session.is_remote() && passes.is_none() {
            // The remote has not answered for its filters yet.
            return false;
        }
        let (out, before) = (holds.out(io, conn), self.delivery.remembered().acknowledged());
        let from = out.len();
        let is_remote = passes.is_some();
        let pumped = session.pump(now, unsent, out, passes.as_deref().map(|passes| passes as &dyn Passes));
        let has_more = session.has_waiting();
        if is_remote {
            // Copies that were sent at QoS 0 after all.
            let over = self.delivery.remembered().acknowledged() - before;
            self.delivery.remotes.delivers(key, over);
        }
        self.hold(io, here, conn, key, from);
        if pumped.is_cut {
            self.delivery.look_again(io, key);
        } else if has_more {
            let unsent = self.keeping.holds.unsent(io, conn);
            self.await_room(io, key, unsent);
        }
        self.note_queue(now, key);
        self.count_pumped(here, now, key, &pumped);
        pumped.waits_for_log
    }

    /// Counts copies that a session was sent, or that were dropped in their turn.
    pub fn count_pumped(&mut self, here: &mut Here, now: Monotonic, key: SessionKey, pumped: &Pumped) {
        here.numbers.raise(M::CopiesSent, pumped.sent as u64);
        here.numbers.raise(M::CopiesSentBytes, pumped.sent_bytes);
        self.dropped_later(here, now, M::CopiesExpired, Whose::Session(key), &pumped.expired);
        self.dropped_later(here, now, M::CopiesTooLarge, Whose::Session(key), &pumped.too_large);
        self.dropped_later(here, now, M::CopiesDenied, Whose::Session(key), &pumped.denied);
        self.dropped_later(here, now, M::CopiesUnfit, Whose::Session(key), &pumped.unfit);
    }

    /// Takes the copies that a session has dropped for newer ones, or that its client has refused.
    pub fn take_dropped(&mut self, here: &mut Here, now: Monotonic, key: SessionKey, why: M) {
        let gone = self.sessions.get_mut(key).map(|session| session.take_dropped()).unwrap_or_default();
        self.dropped_later(here, now, why, Whose::Session(key), &gone);
    }
}
