//! Input from a remote: messages, which are handled as a client's once their topic is the local one, and packets that only a server sends.

use std::sync::Arc;
use std::time::Duration;

use forebay_bridge::{Ending, Unfit, is_looped, taker};
use forebay_broker::Broker;
use forebay_broker::words::{Feeds, Flow, Stall};
use forebay_config::{Bridge, BridgeIn, Feed};
use forebay_mqtt::malformed::Malformed;
use forebay_mqtt::packet::{Packet, PacketType, Publish, QoS, Sender, Version};
use forebay_mqtt::property::{Properties, Property, PropertyBuf, VIA};
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::{decode, frame};
use forebay_rule::template::MessageContext;
use forebay_runtime::seam::Monotonic;
use forebay_session::{End, Next, Reason, SessionKey, Taken, Violation};

use super::super::Core;
use super::super::publishing::client::Published;
use super::super::ring::Ring;
use super::super::words::Source;
use super::Running;
/// A message of a remote as it is published here.
pub(crate) struct Local {
    pub(crate) topic: String,
    pub(crate) retain: bool,
    /// The properties of the remote's message, with the remote's mark.
    pub(crate) properties: PropertyBuf,
    pub(crate) feeds: Feeds,
}

/// The number of unrequested messages within [`FLOOD_TIME`] that ends the connection.
const FLOOD: u32 = 100;
const FLOOD_TIME: Duration = Duration::from_secs(60);
const UNASKED: Violation = Violation {
    reason: ReasonCode::QUOTA_EXCEEDED,
    clause: "section 4.13",
    what: "100 messages within a minute that no filter has asked for",
};

/// `Flood` counts unrequested messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flood {
    since: Monotonic,
    count: u32,
}

impl Flood {
    /// Counts one more. Returns whether they are too many.
    fn is_one(&mut self, now: Monotonic) -> bool {
        if self.count == 0 || now.since(self.since) >= FLOOD_TIME {
            *self = Self { since: now, count: 0 };
        }
        self.count += 1;
        if self.count < FLOOD {
            return false;
        }
        self.count = 0;
        true
    }
}

/// `Became` is the outcome of a remote's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Became {
    /// The message is published here, or the application is called with it.
    Taken,
    /// The message is retained, and left out.
    LeftOut,
    /// The message goes no further.
    Unfit(Unfit),
}

impl Core {
    /// Counts a message of a remote that its session has taken. False: it is a repeat of one that was counted.
    pub(super) fn count_of_remote(&mut self, session: SessionKey, qos: QoS, became: Became) -> bool {
        let next = self.broker.next_number(session);
        let Some((_, running)) = self.bridges.of(session) else { return false };
        let counts = &mut running.counts;
        if !counts.takes(qos, next) {
            return false;
        }
        *match became {
            Became::Taken => &mut counts.received,
            Became::LeftOut => &mut counts.retained,
            Became::Unfit(Unfit::Unasked) => &mut counts.unasked,
            Became::Unfit(Unfit::Loop | Unfit::Repeated) => &mut counts.looped,
            Became::Unfit(_) => &mut counts.unfit,
        } += 1;
        true
    }

    /// Handles a packet of a remote that is no PUBLISH.
    #[cold]
    pub(crate) fn packet_of_remote(&mut self, io: &mut Ring<'_>, from: Source, frame: frame::Frame<'_>) -> Flow {
        let packet = match decode::decode(from.peer.version, Sender::Server, frame) {
            Ok(packet) => packet,
            Err(malformed) => return self.violation(io, from.conn, from.session, malformed.into()),
        };
        if let Packet::PubAck(ack) | Packet::PubRec(ack) = &packet
            && self.is_created_refused(from.session, ack)
        {
            return self.control_packet(io, from.conn, from.session, &packet);
        }
        match &packet {
            Packet::PubAck(ack) if ack.reason.is_error() => self.refused_by_remote(io, from, (ack, QoS::AtLeastOnce)),
            Packet::PubRec(ack) if ack.reason.is_error() => self.refused_by_remote(io, from, (ack, QoS::ExactlyOnce)),
            Packet::PubAck(_) | Packet::PubRec(_) => self.acknowledged_by_remote(io, from, &packet),
            Packet::PubRel(_) | Packet::PubComp(_) => self.control_packet(io, from.conn, from.session, &packet),
            other => {
                let now = io.now();
                let Some((_, running)) = self.bridges.of(from.session) else { return Flow::Ended };
                running.busy = true;
                match running.client.packet(other, now) {
                    Ok(()) => Flow::On,
                    Err(Ending::Violation(malformed)) => self.violation(io, from.conn, from.session, malformed.into()),
                    Err(left) => {
                        self.end_remote(io, (from.conn, from.session, from.peer), End::Lost, Some(left));
                        Flow::Ended
                    }
                }
            }
        }
    }

    /// Handles what is wrong with the next packet of a remote. A PUBLISH that is longer than any is taken ends no connection, as the remote would send it with
    /// the next one again: it is answered, and its payload is passed over. A remote of 5.0 knows the limit. Returns the bytes that were taken. `None`: more
    /// are needed.
    #[cold]
    pub(crate) fn too_long_of_remote(
        &mut self,
        io: &mut Ring<'_>,
        from: Source,
        bytes: &[u8],
        malformed: Malformed,
    ) -> Option<(Flow, usize)> {
        let is_publish = PacketType::of(bytes[0]) == Some(PacketType::Publish);
        let is_passed_over = malformed.reason == ReasonCode::PACKET_TOO_LARGE && from.peer.version < Version::V5;
        if !is_publish || !is_passed_over {
            return Some((self.violation(io, from.conn, from.session, malformed.into()), 0));
        }
        let head = frame::publish_head(bytes)?;
        let publish = match decode::publish_from(from.peer.version, from.peer.sender(), head.first, head.body) {
            Ok(publish) => publish,
            Err(malformed) => return Some((self.violation(io, from.conn, from.session, malformed.into()), 0)),
        };
        let (index, running) = self.bridges.of(from.session)?;
        if publish.qos == QoS::ExactlyOnce && !running.forgets.is_empty() && !self.forget_ids(index) {
            return Some((Flow::Stall(Stall::Answers), 0));
        }
        let too_long = Unfit::TooLong(head.len);
        let flow = match self.here.config.bridges[index].binding.is_some() {
            true if !self.has_room_for_call(index, &publish) => Flow::Stall(Stall::Answers),
            true => self.call_app_alone(io, from, &publish, (index, too_long)),
            false => self.unfit(io, from, &publish, (index, too_long)),
        };
        let taken = head.len.min(bytes.len());
        if let (Flow::On, Some((_, running))) = (&flow, self.bridges.of(from.session)) {
            running.passed_over = head.len - taken;
            return Some((flow, taken));
        }
        Some((flow, 0))
    }

    /// Takes a remote's PUBACK or PUBREC for a message.
    fn acknowledged_by_remote(&mut self, io: &mut Ring<'_>, from: Source, packet: &Packet<'_>) -> Flow {
        self.acquit_oldest(from.session);
        let Some(session) = self.broker.sessions.get_mut(from.session) else { return Flow::Ended };
        let before = self.broker.delivery.remembered().acknowledged();
        let out = self.broker.keeping.holds.out(io, from.conn);
        let at = out.len();
        let next = session.packet(packet, out);
        debug_assert_eq!(next, Next::Go, "an answer ends no connection");
        let over = self.broker.delivery.remembered().acknowledged() - before;
        self.broker.delivery.remotes.delivers(from.session, over);
        self.broker.write_down(&mut self.here, from.session);
        self.broker.hold(io, &self.here, from.conn, from.session, at);
        self.broker.note_queue(io.now(), from.session);
        self.broker.pump_session(io, &mut self.here, from.session);
        Flow::On
    }

    /// Counts a message of a remote that was published here, and, if the bridge is a binding, has the application called with it. `publish`: as received from
    /// the remote.
    #[cold]
    pub(crate) fn published_of_remote(&mut self, session: SessionKey, publish: &Publish<'_>, now: Monotonic) {
        let is_new = self.count_of_remote(session, publish.qos, Became::Taken);
        let Some((index, running)) = self.bridges.of(session).filter(|_| is_new) else { return };
        running.note_round(&self.here.config.bridges[index], publish, now);
        if self.here.config.bridges[index].binding.is_some() {
            self.call_app_beside(session, publish, index);
        }
    }

    /// The local form of a remote's message.
    ///
    /// # Errors
    /// The consequence if the message goes no further, or not now.
    #[cold]
    pub(crate) fn map_from_remote(
        &mut self,
        io: &mut Ring<'_>,
        from: Source,
        publish: &Publish<'_>,
    ) -> Result<Local, Flow> {
        let Some((index, running)) = self.bridges.of(from.session) else { return Err(Flow::Ended) };
        if publish.qos == QoS::ExactlyOnce && !running.forgets.is_empty() && !self.forget_ids(index) {
            return Err(Flow::Stall(Stall::Answers));
        }
        if publish.topic.is_empty() {
            // The session refuses the topic alias.
            let mut properties = PropertyBuf::new();
            properties.extend(publish.properties.iter());
            return Ok(Local { topic: String::new(), retain: publish.retain, properties, feeds: Feeds::NONE });
        }
        let config = Arc::clone(&self.here.config);
        let ins = &config.bridges[index].ins;
        let Some(running) = self.bridges.all.get_mut(&index) else { return Err(Flow::Ended) };
        let taker = match taker(ins.iter().map(|of| &of.takes), publish.topic) {
            Ok(place) => &ins[place],
            Err(unfit) => return Err(self.unfit(io, from, publish, (index, unfit))),
        };
        let bridge = &config.bridges[index];
        let comes_round =
            if self.here.rules.may_come_round() { None } else { running.comes_round(bridge, publish, io.now()) };
        if let Some(unfit) = comes_round.filter(|_| bridge.binding.is_none()) {
            return Err(self.unfit(io, from, publish, (index, unfit)));
        }
        let is_settled = running.settled_at <= io.now();
        let granted = running.client.standing().map(|(granted, _)| granted);
        if publish.retain && granted.is_some_and(|granted| taker.takes.retained.drops(granted, is_settled)) {
            let published = take_for_nobody(&mut self.broker, from.session, publish, io.now());
            if matches!(published, Published::On { .. }) {
                self.count_of_remote(from.session, publish.qos, Became::LeftOut);
            }
            return Err(self.flow_of(io, from, published));
        }
        if bridge.binding.is_some() {
            if !self.has_room_for_call(index, publish) {
                return Err(Flow::Stall(Stall::Answers));
            }
            if taker.feeds.is_empty() {
                return Err(self.call_app(io, from, publish, (index, None)));
            }
            // The application gets its own messages back, as in Dapr. Nobody else gets a message that goes round.
            if let Some(unfit) = comes_round {
                return Err(self.call_app_alone(io, from, publish, (index, unfit)));
            }
        }
        let Some(running) = self.bridges.all.get(&index) else { return Err(Flow::Ended) };
        let of = MessageContext {
            topic: publish.topic,
            client_id: &running.name,
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            payload: publish.payload,
            timestamp_ms: io.wall().0,
            properties: publish.properties,
            ..MessageContext::default()
        };
        // QoS and payload stay the same here.
        match taker.takes.pass(&of, &mut self.bridges.scratch) {
            Ok(passed) => Ok(Local {
                topic: passed.topic.to_owned(),
                retain: passed.retain,
                properties: running.marked(bridge, publish.properties),
                feeds: self.broker.feeds(feeds(taker)),
            }),
            Err(_) if bridge.binding.is_some() => Err(self.call_app(io, from, publish, (index, None))),
            Err(unfit) => Err(self.unfit(io, from, publish, (index, unfit))),
        }
    }

    /// Gives a message of a binding to its application alone, for this reason. One that is too long is a message that the application has refused.
    fn call_app_alone(
        &mut self,
        io: &mut Ring<'_>,
        from: Source,
        publish: &Publish<'_>,
        (index, why): (usize, Unfit),
    ) -> Flow {
        let before = self.bridges.all.get(&index).map(|running| running.counts.received);
        let too_long = if let Unfit::TooLong(bytes) = why { Some(bytes) } else { None };
        let flow = self.call_app(io, from, publish, (index, too_long));
        let now = io.now();
        if let Some(running) = self.bridges.all.get_mut(&index)
            && before < Some(running.counts.received)
        {
            running.note_round(&self.here.config.bridges[index], publish, now);
            // A message that is too long is an event of the binding.
            if too_long.is_none() {
                self.tell_bridge_unfit(now, index, publish, why);
            }
        }
        flow
    }

    /// Acknowledges, counts and reports a message that goes no further.
    fn unfit(&mut self, io: &mut Ring<'_>, from: Source, publish: &Publish<'_>, (index, why): (usize, Unfit)) -> Flow {
        let published = take_for_nobody(&mut self.broker, from.session, publish, io.now());
        let is_taken = matches!(published, Published::On { .. });
        if is_taken && self.count_of_remote(from.session, publish.qos, Became::Unfit(why)) {
            if let Some(running) = self.bridges.all.get_mut(&index).filter(|_| why == Unfit::Repeated) {
                running.note_round(&self.here.config.bridges[index], publish, io.now());
            }
            self.tell_bridge_unfit(io.now(), index, publish, why);
            if why == Unfit::Unasked
                && let Some(running) = self.bridges.all.get_mut(&index)
                && running.counts.flood.is_one(io.now())
            {
                return self.violation(io, from.conn, from.session, UNASKED);
            }
        }
        self.flow_of(io, from, published)
    }
}

impl Running {
    /// Whether a message of the remote comes round: by the brokers that it names, or before 5.0 by its contents. A binding is asked for what it feeds besides
    /// its application.
    fn comes_round(&self, bridge: &Bridge, publish: &Publish<'_>, now: Monotonic) -> Option<Unfit> {
        if !is_guarded(bridge) {
            return None;
        }
        if is_looped(publish.properties, &[&bridge.instance, &self.mark]) {
            return Some(Unfit::Loop);
        }
        let passes = self.has_marks() || self.rounds.may_pass(publish.topic, publish.payload, now);
        (!passes).then_some(Unfit::Repeated)
    }

    /// Notes that a message of the remote was taken, or dropped as it comes round.
    fn note_round(&mut self, bridge: &Bridge, publish: &Publish<'_>, now: Monotonic) {
        if is_guarded(bridge) && !self.has_marks() {
            self.rounds.count(publish.topic, publish.payload, now);
        }
    }

    /// Whether messages of the remote can tell where they come from.
    fn has_marks(&self) -> bool {
        self.client.standing().is_none_or(|(granted, _)| granted.version == Version::V5)
    }

    /// The properties of a message of the remote, with the remote's mark.
    fn marked(&self, bridge: &Bridge, properties: Properties<'_>) -> PropertyBuf {
        let mut marked = PropertyBuf::new();
        marked.extend(properties.iter());
        if is_guarded(bridge) {
            marked.extend([Property::UserProperty(VIA, &self.mark)]);
        }
        marked
    }
}

/// Whether messages of the remote are kept from going round. For a binding `via` is about what its application publishes.
fn is_guarded(bridge: &Bridge) -> bool {
    bridge.via || bridge.binding.is_some()
}

/// Takes a message without a receiver, which is answered with success.
fn take_for_nobody(broker: &mut Broker, key: SessionKey, publish: &Publish<'_>, now: Monotonic) -> Published {
    take_for(broker, key, publish, now, 0).0
}

/// Takes a message that is answered with success after this many answers. Returns its number as well, if it has one and is no repeat.
pub(super) fn take_for(
    broker: &mut Broker,
    key: SessionKey,
    publish: &Publish<'_>,
    now: Monotonic,
    answers: u16,
) -> (Published, Option<Option<u32>>) {
    let Some(session) = broker.sessions.get_mut(key) else { return (Published::Ended, None) };
    if publish.qos != QoS::AtMostOnce && session.is_blocked() {
        return (Published::Stall(Stall::Answers), None);
    }
    let (number, owed, is_new) = match broker.sessions.publish(key, publish, now) {
        Some(Taken::Take { number, .. }) => (Some(number), answers, true),
        Some(Taken::Rest { number, owed, .. }) => (Some(number), owed, false),
        Some(Taken::TakeQos0 { .. }) => (None, 0, true),
        Some(Taken::Repeat) => (None, 0, false),
        Some(Taken::Violation(violation)) => return (Published::Violation(violation), None),
        None => return (Published::Ended, None),
    };
    if let (Some(number), Some(session)) = (number, broker.sessions.get_mut(key)) {
        session.opened(number, owed, Reason::Success);
    }
    (Published::On { begins_run: None }, is_new.then_some(number))
}

/// The receivers of the messages of an `in`.
fn feeds(of: &BridgeIn) -> Feeds {
    let [sinks, rules, subscribers] = [Feed::Sinks, Feed::Rules, Feed::Subscribers].map(|to| of.feeds(to));
    Feeds { sinks, rules, subscribers, route: subscribers, ..Feeds::NONE }
}
