//! What a remote sends: messages, which are taken as a client's are once their topic is the local one, and what only a server sends.

use std::sync::Arc;

use crate::bridge::{Ending, Passed, Unfit, taker};
use crate::config::{BridgeIn, Feed};
use crate::mqtt::packet::{Packet, Publish, QoS, Sender};
use crate::mqtt::{decode, frame};
use crate::rule::template::MessageContext;
use crate::runtime::seam::Monotonic;
use crate::session::{End, Reason, SessionKey, Taken};

use super::super::broker::admit::Feeds;
use super::super::broker::publish::Published;
use super::super::device::{Flow, Source};
use super::super::stalls::Stall;
use super::super::{Core, Ring};
use super::session_name;

impl Core {
    /// Handles a packet of a remote.
    #[cold]
    pub(in crate::shard) fn packet_of_remote(
        &mut self,
        io: &mut Ring<'_>,
        from: Source,
        frame: frame::Frame<'_>,
    ) -> Flow {
        let packet = match decode::decode(from.peer.version, Sender::Server, frame) {
            Ok(packet) => packet,
            Err(malformed) => return self.violation(io, from.conn, from.session, malformed.into()),
        };
        match &packet {
            Packet::Publish(publish) => self.publish_of_remote(io, from, publish),
            Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                self.control_packet(io, from.conn, from.session, &packet)
            }
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

    fn publish_of_remote(&mut self, io: &mut Ring<'_>, from: Source, publish: &Publish<'_>) -> Flow {
        let Some((index, running)) = self.bridges.of(from.session) else { return Flow::Ended };
        if publish.qos == QoS::ExactlyOnce && !running.forgets.is_empty() && !self.forget_ids(index) {
            return Flow::Stall(Stall::Answers);
        }
        let config = Arc::clone(&self.broker.around.config);
        let bridge = &config.bridges[index];
        let name = session_name(bridge);
        let of = MessageContext {
            topic: publish.topic,
            client_id: &name,
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            payload: publish.payload,
            timestamp_ms: io.wall().0,
            properties: publish.properties,
            ..MessageContext::default()
        };
        let Some(running) = self.bridges.all.get_mut(&index) else { return Flow::Ended };
        let taker = taker(bridge.ins.iter().map(|of| &of.takes), publish.topic).map(|at| &bridge.ins[at]);
        let is_settled = running.settled_at <= io.now();
        let drops = |of: &&BridgeIn| {
            let granted = running.client.standing().map(|(granted, _)| granted);
            publish.retain && granted.is_some_and(|granted| of.takes.retained.drops(granted, is_settled))
        };
        let published = match taker {
            Ok(of_in) if drops(&of_in) => {
                running.counts.retained += 1;
                self.broker.take_for_nobody(from.session, publish, io.now())
            }
            Ok(of_in) => match of_in.takes.pass(&of, &mut self.bridges.scratch) {
                Ok(Passed { topic, qos, retain, payload }) => {
                    let mapped = Publish { topic, qos, retain, payload, ..publish.clone() };
                    let published = self.broker.publish_of_remote(io, from, &mapped, feeds(of_in));
                    running.counts.received += u64::from(matches!(published, Published::On { .. }));
                    published
                }
                Err(unfit) => return self.unfit(io, from, publish, (index, unfit)),
            },
            // An alias: there are none.
            Err(_) if publish.topic.is_empty() => self.broker.publish_of_remote(io, from, publish, Feeds::NONE),
            Err(unfit) => return self.unfit(io, from, publish, (index, unfit)),
        };
        self.flow_of(io, from, published)
    }

    /// A message that goes no further: it is acknowledged, counted and reported.
    fn unfit(&mut self, io: &mut Ring<'_>, from: Source, publish: &Publish<'_>, (index, why): (usize, Unfit)) -> Flow {
        let published = self.broker.take_for_nobody(from.session, publish, io.now());
        if matches!(published, Published::On { .. }) {
            self.tell_bridge_unfit(io.now(), index, publish.topic, why);
        }
        self.flow_of(io, from, published)
    }

    fn flow_of(&mut self, io: &mut Ring<'_>, from: Source, published: Published) -> Flow {
        match published {
            Published::On { .. } => Flow::On,
            Published::Stall(why) => Flow::Stall(why),
            Published::Ended => Flow::Ended,
            Published::Violation(violation) => self.violation(io, from.conn, from.session, violation),
        }
    }
}

impl super::super::Broker {
    /// Takes a message that is for nobody: it is answered with success.
    fn take_for_nobody(&mut self, key: SessionKey, publish: &Publish<'_>, now: Monotonic) -> Published {
        let Some(session) = self.sessions.get_mut(key) else { return Published::Ended };
        if publish.qos != QoS::AtMostOnce && session.is_blocked() {
            return Published::Stall(Stall::Answers);
        }
        match self.sessions.publish(key, publish, now) {
            Some(taken @ (Taken::Take { number, .. } | Taken::Rest { number, .. })) => {
                let owed = if let Taken::Rest { owed, .. } = taken { owed } else { 0 };
                if let Some(session) = self.sessions.get_mut(key) {
                    session.opened(number, owed, Reason::Success);
                }
                Published::On { is_lasting: false }
            }
            Some(Taken::TakeQos0 { .. } | Taken::Repeat) => Published::On { is_lasting: false },
            Some(Taken::Violation(violation)) => Published::Violation(violation),
            None => Published::Ended,
        }
    }
}

/// Where the messages of an `in` go.
fn feeds(of: &BridgeIn) -> Feeds {
    Feeds { sinks: of.feeds(Feed::Sinks), rules: of.feeds(Feed::Rules), subscribers: of.feeds(Feed::Subscribers) }
}
