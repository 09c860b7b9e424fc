//! Copies for the remotes of bridges. A remote's packet is made when it is sent, by the configuration in force and by what the remote has granted. So its
//! copies wait in the queue of its session first, and no two remotes share bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use forebay_base::rules::Rules;
use forebay_bridge::{Granted, Rounds, Scratch, Unfit, is_looped, way};
use forebay_config::{Bridge, Config};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::encode;
use forebay_mqtt::packet::{Publish, QoS, Version};
use forebay_mqtt::property::{Properties, Property, PropertyBuf, VIA};
use forebay_rule::template::MessageContext;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Copy, Handed, Passes, QueueBounds, SessionKey, properties};

use super::Broker;
use super::delivery::{By, Message};
use crate::here::Here;
use crate::out::Out;
use crate::words::Whose;

/// State of bridges' sessions that other sessions do not have.
#[derive(Debug, Default)]
pub struct Remotes {
    of: HashMap<SessionKey, Side>,
    /// Whether something was counted since [`Remotes::take_counted`] was last called.
    has_counted: bool,
}

/// Numbers of copies for a remote, by outcome.
#[derive(Clone, Copy, Debug, Default)]
pub struct OutCounts {
    /// Copies that were made for the remote.
    pub begun: u64,
    /// Acknowledged by the remote, or sent at QoS 0.
    pub delivered: u64,
    /// Copies that were dropped.
    pub dropped: u64,
}

/// A configuration, the index of a bridge there, and what its remote has granted.
type Passed = (Arc<Config>, usize, Granted);

/// `Outcomes` has the outcomes of a session's copies, over all of its connections.
#[derive(Debug, Default)]
struct Outcomes {
    /// Copies sent for the first time, by the number of their `out`.
    sent: BTreeMap<u32, u64>,
    /// Messages for a remote before 5.0, by their contents.
    rounds: Rounds,
    /// The latest message that would have come round, and that was not reported: its topic, and the brokers that it has come through.
    looped: Option<(String, Unfit, String)>,
}

type Sent = Rc<RefCell<Outcomes>>;

/// The state of one bridge's session.
#[derive(Debug)]
struct Side {
    bounds: QueueBounds,
    /// The rules by which messages are passed to its remote. `None`: the remote has not answered for its filters.
    passes: Option<Rc<Passing>>,
    counts: OutCounts,
    sent: Sent,
}

/// `Passing` makes the message that a remote is sent.
#[derive(Debug)]
pub struct Passing {
    config: Arc<Config>,
    /// The bridge's place in the configuration.
    bridge: usize,
    /// The numbers by which copies name its `out`s, in order.
    outs: Vec<u32>,
    granted: Granted,
    sent: Sent,
    rules: &'static dyn Rules,
    scratch: RefCell<Scratch>,
}

impl Passing {
    fn new((config, bridge, granted): Passed, rules: &'static dyn Rules, sent: Sent) -> Self {
        let outs = config.bridges[bridge].outs.iter().map(|out| Bridge::identifier(&out.name)).collect();
        Self { config, bridge, outs, granted, sent, rules, scratch: RefCell::default() }
    }
}

impl Passing {
    /// The properties with this instance added to those that the message came through, or with none of them if the bridge does not tell. `None`: they need no
    /// change.
    fn via(&self, properties: Properties<'_>) -> Option<PropertyBuf> {
        let bridge = &self.config.bridges[self.bridge];
        let is_via = |property: &Property<'_>| matches!(property, Property::UserProperty(VIA, _));
        if self.granted.version < Version::V5 || !bridge.via && !properties.iter().any(|property| is_via(&property)) {
            return None;
        }
        let mut with = PropertyBuf::new();
        with.extend(properties.iter().filter(|property| bridge.via || !is_via(property)));
        if bridge.via {
            with.extend([Property::UserProperty(VIA, &bridge.instance)]);
        }
        Some(with)
    }

    /// Whether a message comes round: by the brokers that it names, or before 5.0 by its contents. One that is sent again is on its way already.
    fn comes_round(&self, copy: &Publish<'_>, made: Monotonic) -> Option<Unfit> {
        let bridge = &self.config.bridges[self.bridge];
        if !bridge.via || self.rules.may_come_round() {
            return None;
        }
        if is_looped(copy.properties, &[&bridge.instance]) {
            return Some(Unfit::Loop);
        }
        if self.granted.version == Version::V5 || copy.dup {
            return None;
        }
        let rounds = &mut self.sent.borrow_mut().rounds;
        let passes = rounds.may_pass(copy.topic, copy.payload, made);
        rounds.count(copy.topic, copy.payload, made);
        (!passes).then_some(Unfit::Repeated)
    }
}

impl Passes for Passing {
    fn pass(
        &self,
        copy: &Publish<'_>,
        identifiers: &[u32],
        made: Monotonic,
        write: &mut dyn FnMut(&Publish<'_>) -> bool,
    ) {
        let Some(place) = self.outs.iter().position(|number| identifiers.contains(number)) else { return };
        let out = &self.config.bridges[self.bridge].outs[place];
        let of = MessageContext {
            topic: copy.topic,
            qos: copy.qos as u8,
            retain: copy.retain,
            payload: copy.payload,
            properties: copy.properties,
            ..MessageContext::default()
        };
        let scratch = &mut *self.scratch.borrow_mut();
        // The message goes in a circle: the remote has had it, whichever way it returned.
        if let Some(unfit) = self.comes_round(copy, made) {
            self.sent.borrow_mut().looped = Some((copy.topic.to_owned(), unfit, way(copy.properties)));
            return;
        }
        if let Ok(passed) = out.gives.pass(&of, &self.granted, scratch) {
            let via = self.via(copy.properties);
            let properties = via.as_ref().map_or(copy.properties, PropertyBuf::as_properties);
            let (qos, retain, topic, payload) = (passed.qos, passed.retain, passed.topic, passed.payload);
            if write(&Publish { qos, retain, topic, payload, properties, ..copy.clone() }) && !copy.dup {
                *self.sent.borrow_mut().sent.entry(self.outs[place]).or_default() += 1;
            }
        }
    }
}

impl Remotes {
    /// Notes a session of a bridge, and the bounds of its queue.
    pub fn insert(&mut self, key: SessionKey, bounds: QueueBounds) {
        self.of.entry(key).and_modify(|side| side.bounds = bounds).or_insert(Side {
            bounds,
            passes: None,
            counts: OutCounts::default(),
            sent: Sent::default(),
        });
    }

    /// Sets what the remote of a session is sent from now on.
    pub fn set_passes(&mut self, key: SessionKey, to: Option<Passed>, rules: &'static dyn Rules) {
        if let Some(side) = self.of.get_mut(&key) {
            side.passes = to.map(|to| Rc::new(Passing::new(to, rules, Rc::clone(&side.sent))));
        }
    }

    /// Counts new copies for a remote.
    pub fn begins(&mut self, key: SessionKey, copies: usize) {
        self.count(key, |counts| counts.begun += copies as u64);
    }

    fn count(&mut self, key: SessionKey, count: impl FnOnce(&mut OutCounts)) {
        if let Some(side) = self.of.get_mut(&key) {
            count(&mut side.counts);
            self.has_counted = true;
        }
    }

    /// Whether something was counted since [`Remotes::take_counted`] was last called.
    pub fn take_counted(&mut self) -> bool {
        std::mem::take(&mut self.has_counted)
    }

    /// Notes copies for a remote.
    pub fn delivers(&mut self, key: SessionKey, copies: u64) {
        self.count(key, |counts| counts.delivered += copies);
    }

    /// Counts dropped copies for a remote. Does nothing for a client's session.
    pub fn drops(&mut self, key: SessionKey, copies: u64) {
        self.count(key, |counts| counts.dropped += copies);
    }

    /// The counts of the session of a remote.
    pub fn counts(&self, key: SessionKey) -> OutCounts {
        self.of.get(&key).map(|side| side.counts).unwrap_or_default()
    }

    /// The number of copies sent for the first time by the `out` with this number.
    pub fn sent(&self, key: SessionKey, out: u32) -> u64 {
        self.of.get(&key).and_then(|side| side.sent.borrow().sent.get(&out).copied()).unwrap_or_default()
    }

    /// The latest message for a session's remote that would have come round: its topic, why it is taken for one, and the brokers that it has come through.
    pub fn take_looped(&mut self, key: SessionKey) -> Option<(String, Unfit, String)> {
        self.of.get(&key)?.sent.borrow_mut().looped.take()
    }

    /// Forgets a session.
    pub fn remove(&mut self, key: SessionKey) {
        self.of.remove(&key);
    }

    /// The sessions.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = SessionKey> {
        self.of.keys().copied()
    }

    /// The rules by which messages are passed to a session's remote.
    pub fn passes(&self, key: SessionKey) -> Option<Rc<Passing>> {
        self.of.get(&key)?.passes.clone()
    }
}

impl Broker {
    /// The number that a session gives its next message of QoS 1 or 2.
    pub fn next_number(&self, key: SessionKey) -> u32 {
        self.sessions.get(key).map_or(0, |session| session.owed_numbers().1)
    }

    /// The bounds of a session's queue.
    pub fn queue_bounds(&self, key: SessionKey) -> QueueBounds {
        self.delivery.remotes.of.get(&key).map_or(self.keeping.settings.queue, |side| side.bounds)
    }

    /// Makes a copy for a remote. At QoS 0 it is sent now or never.
    ///
    /// # Errors
    /// The reason why there is none.
    #[cold]
    pub(crate) fn copy_to_remote(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        key: SessionKey,
        copy: Copy,
    ) -> Result<(), M> {
        if copy.qos == QoS::AtMostOnce {
            return self.send_to_remote(io, here, message, key, &copy);
        }
        let conn = self.sessions.get(key).and_then(|session| session.conn());
        let unsent = conn.map_or(0, |conn| self.keeping.holds.unsent(io, conn));
        match self.hand(here, key, copy, message, (unsent, io.now()))? {
            Handed::Now(_) | Handed::Queued => {}
            Handed::DroppedOldest(_) => {
                self.take_dropped(here, io.now(), key, M::CopiesQueueFull);
                self.note_queue_later(io.now(), key);
            }
            Handed::Dropped => return Err(M::CopiesQueueFull),
        }
        self.delivery.remotes.begins(key, 1);
        // A copy that has to be in the log is sent when the log has it.
        if !self.queues.is_pending(key) {
            self.pump_session(io, here, key);
        }
        Ok(())
    }

    /// Gives a message to the remote of one session, by the `out` of this number. Returns the session's copy. `None`: the message is of QoS 0, and was
    /// written.
    ///
    /// # Errors
    /// The reason why the message goes no further.
    pub fn give_to_remote(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        key: SessionKey,
        publish: &Publish<'_>,
        out: u32,
    ) -> Result<Option<Rc<Body>>, &'static str> {
        let since = io.now();
        let message = Message {
            publish,
            from: here.index,
            publisher: None,
            origin: None,
            since,
            waited_s: 0,
            pass: 0,
            claim: None,
            by: By::Subscription,
        };
        let copy = Copy { qos: publish.qos, retain: publish.retain, identifiers: [out].into(), share: None };
        here.numbers.count(M::CopiesRouted);
        self.delivery.copies.begin(since);
        let given = self.copy_to_remote(io, here, message, key, copy);
        let body = self.delivery.body_at_hand();
        self.delivery.copies.end();
        match given {
            Ok(()) => Ok(body),
            Err(why) => {
                self.dropped(here, since, why, Whose::Session(key), publish);
                Err(match why {
                    M::CopiesTooLarge => "the remote does not take a message of this size",
                    M::CopiesSlow => "the remote does not read what it was sent",
                    M::CopiesQueueFull => "there is no room for a message that waits",
                    M::CopiesUnfit => "the remote takes no such topic",
                    _ => "the remote is not connected",
                })
            }
        }
    }

    fn send_to_remote(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        Message { publish, waited_s, claim, .. }: Message<'_>,
        key: SessionKey,
        copy: &Copy,
    ) -> Result<(), M> {
        let passes = self.delivery.remotes.passes(key).ok_or(M::CopiesAway)?;
        let session = self.sessions.get(key).ok_or(M::CopiesSessionEnded)?;
        let (peer, conn) = (session.peer(), session.conn().ok_or(M::CopiesAway)?);
        let properties = properties(publish, peer.version, waited_s, &[]);
        let (qos, retain) = (copy.qos, copy.retain);
        let (properties, packet_id) = (properties.as_properties(), 0);
        let publish = Publish { dup: false, qos, retain, packet_id, properties, ..publish.clone() };
        let mut packet = Vec::new();
        let mut written = Err(M::CopiesUnfit);
        passes.pass(&publish, &copy.identifiers, io.now(), &mut |passed| {
            let is_written = encode::publish(peer.version, passed, &mut packet).is_ok();
            written = if is_written { Ok(passed.payload.len()) } else { Err(M::CopiesTooLarge) };
            is_written
        });
        let payload_bytes = written?;
        if packet.len() > peer.packet_size_max as usize {
            return Err(M::CopiesTooLarge);
        }
        let unsent = self.keeping.holds.unsent(io, conn);
        if !self.may_leave_unread(io, here, conn, unsent, packet.len()) {
            return Err(M::CopiesSlow);
        }
        claim.into_iter().for_each(|claim| claim.meet());
        let holds = &mut self.keeping.holds;
        let out = holds.out(io, conn);
        let from = out.len();
        out.extend_from_slice(&packet);
        holds.wrote(conn, from);
        self.delivery.remotes.begins(key, 1);
        self.delivery.remotes.delivers(key, 1);
        here.numbers.count(M::CopiesSentQos0);
        here.numbers.count(M::CopiesSent);
        here.numbers.raise(M::CopiesSentBytes, payload_bytes as u64);
        Ok(())
    }
}
