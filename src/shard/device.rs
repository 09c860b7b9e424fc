//! Bytes of a device: packets cut out, given to its session, their answers appended to one out-buffer.

use crate::kafka::types::Ticket;
use crate::limits;
use crate::metrics::spec::ShardMetric as M;
use crate::mqtt::malformed::Malformed;
use crate::mqtt::packet::{Packet, Publish, QoS, Version};
use crate::mqtt::reason::ReasonCode;
use crate::mqtt::{decode, frame};
use crate::rule::template::MessageContext;
use crate::runtime::seam::ConnId;
use crate::session::{Answered, Next, SessionKey, Taken, end};

use super::connection::Kind;
use super::publish::Admission;
use super::sinks::Message;
use super::{Core, Ring};

/// How to go on after a packet.
enum Flow {
    /// With the next one.
    On,
    /// Not at all until there is room; the packet stays unread.
    Stall,
    /// The connection has been ended.
    Ended,
}

impl Core {
    /// All that has come in goes through here: `bytes` alone, or behind the tail of what came before.
    pub(super) fn device_bytes(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) {
        let Some(connection) = self.connections.get(conn) else { return };
        connection.heard = io.now();
        if connection.stalled {
            connection.tail.extend_from_slice(bytes);
            self.partial(io, conn, bytes.len());
            return;
        }
        if connection.tail.is_empty() {
            let used = self.packets(io, conn, bytes);
            self.keep(io, conn, &bytes[used..]);
            return;
        }
        let mut tail = std::mem::take(&mut connection.tail);
        self.numbers.lower(M::PartialBytes, tail.len() as u64);
        tail.extend_from_slice(bytes);
        let used = self.packets(io, conn, &tail);
        if used == 0 {
            let grown = tail.len();
            if let Some(connection) = self.connections.get(conn) {
                connection.tail = tail;
                self.partial(io, conn, grown);
            }
            return;
        }
        self.keep(io, conn, &tail[used..]);
        self.tails.give_back(tail);
    }

    /// Keeps what is not a whole packet yet.
    fn keep(&mut self, io: &mut Ring<'_>, conn: ConnId, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        let tail = self.tails.lend(rest);
        if let Some(connection) = self.connections.get(conn) {
            connection.tail = tail;
            self.partial(io, conn, rest.len());
        }
    }

    /// Counts bytes of half-received packets, and ends the connection that takes them over their bound.
    fn partial(&mut self, io: &mut Ring<'_>, conn: ConnId, more: usize) {
        self.numbers.raise(M::PartialBytes, more as u64);
        if self.numbers.get(M::PartialBytes) > limits::PARTIAL_BYTES_MAX as u64 {
            self.numbers.count(M::PartialQuotaCloses);
            self.end(io, conn, ReasonCode::QUOTA_EXCEEDED);
        }
    }

    /// Works through the whole packets in `bytes`; returns how many bytes they were (all, once the connection ended).
    pub(super) fn packets(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(Kind::Device { session, version }) = self.connections.get(conn).map(|c| c.kind) else {
            return bytes.len();
        };
        let packet_bytes_max = self.around.config.mqtt.packet_bytes_max;
        let mut used = 0;
        while used < bytes.len() {
            let flow = match frame::next(&bytes[used..], packet_bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let len = frame.len;
                    let flow = self.packet(io, conn, session, version, frame);
                    used += if matches!(flow, Flow::On) { len } else { 0 };
                    flow
                }
                Err(malformed) => self.malformed(io, conn, malformed),
            };
            match flow {
                Flow::On => {}
                Flow::Stall => {
                    self.stall(io, conn);
                    break;
                }
                Flow::Ended => return bytes.len(),
            }
        }
        self.answer(io, session);
        used
    }

    fn packet(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        session: SessionKey,
        version: Version,
        frame: frame::Frame<'_>,
    ) -> Flow {
        const PUBLISH: u8 = 3;
        if frame.first >> 4 == PUBLISH {
            return match decode::publish(version, frame.first, frame.body) {
                Ok(publish) => self.publish(io, conn, session, &publish),
                Err(malformed) => self.malformed(io, conn, malformed),
            };
        }
        let packet = match decode::decode(version, decode::Sender::Client, frame) {
            Ok(packet) => packet,
            Err(malformed) => return self.malformed(io, conn, malformed),
        };
        self.control_packet(io, conn, session, &packet)
    }

    fn control_packet(&mut self, io: &mut Ring<'_>, conn: ConnId, key: SessionKey, packet: &Packet<'_>) -> Flow {
        let now = io.now();
        let Some(session) = self.sessions.get_mut(key) else { return Flow::Ended };
        match session.packet(packet, io.out(conn)) {
            Next::GoOn => Flow::On,
            Next::Disconnected(disconnected) => {
                self.leave(io, conn, disconnected, now);
                Flow::Ended
            }
            Next::End(reason, _clause) => {
                self.end(io, conn, reason);
                Flow::Ended
            }
        }
    }

    /// The hot path: match, ask the sinks, let the session number it, write the rows.
    fn publish(&mut self, io: &mut Ring<'_>, conn: ConnId, key: SessionKey, publish: &Publish<'_>) -> Flow {
        let Some(session) = self.sessions.get_mut(key) else { return Flow::Ended };
        let wall = io.wall();
        let Some(topic) = session.topic(publish) else {
            self.end(io, conn, ReasonCode::TOPIC_ALIAS_INVALID);
            return Flow::Ended;
        };
        let admission = self.outlets.admit(&message(session, topic, publish, wall));
        if admission == Admission::Full {
            return Flow::Stall;
        }
        let number = match session.publish(publish) {
            Taken::Take(number) => number,
            Taken::Repeat => {
                self.numbers.count(M::PublishesRepeated);
                return Flow::On;
            }
            Taken::Violation(reason, _clause) => {
                self.numbers.count(M::MalformedPackets);
                self.end(io, conn, reason);
                return Flow::Ended;
            }
        };
        self.numbers.count(match publish.qos {
            QoS::AtMostOnce => M::PublishesQos0,
            QoS::AtLeastOnce => M::PublishesQos1,
            QoS::ExactlyOnce => M::PublishesQos2,
        });
        let (owed, code) = match admission {
            Admission::Room => {
                let topic = session.topic(publish).unwrap_or_default();
                let ticket = number.map(|number| Ticket { session: key.as_u64(), number });
                let message = message(session, topic, publish, wall);
                (self.outlets.take(&message, ticket, io.now(), wall), ReasonCode::SUCCESS)
            }
            Admission::Refused(code) => {
                self.numbers.count(M::PublishesRefused);
                (0, code)
            }
            Admission::Unmatched | Admission::Full => {
                self.numbers.count(M::PublishesUnmatched);
                (0, ReasonCode::NO_MATCHING_SUBSCRIBERS)
            }
        };
        if let Some(number) = number {
            session.opened(number, owed, code);
        }
        Flow::On
    }

    /// Sends what answers of a session are ready, in order of receipt.
    pub(super) fn answer(&mut self, io: &mut Ring<'_>, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Some(conn) = session.connection() else { return };
        if !session.has_answers() {
            return;
        }
        match session.drain_answers(io.out(conn)) {
            Answered::Sent(count) => self.numbers.raise(M::Answers, count as u64),
            // A client before 5.0 cannot be told that a message was refused.
            Answered::Close(reason) => self.end(io, conn, reason),
        }
    }

    fn malformed(&mut self, io: &mut Ring<'_>, conn: ConnId, malformed: Malformed) -> Flow {
        self.numbers.count(M::MalformedPackets);
        tracing::debug!(slot = conn.slot, %malformed, "connection ended");
        self.end(io, conn, malformed.reason);
        Flow::Ended
    }

    /// Leaves a connection unread until there is room. Its keep-alive rests: a PINGREQ stands behind the PUBLISH in
    /// the same stream.
    fn stall(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        if let Some(connection) = self.connections.get(conn) {
            connection.stalled = true;
            io.pause(conn);
            self.stalled.push_back(conn);
            self.numbers.count(M::Stalls);
        }
    }

    /// Reads stalled connections again, oldest first, as long as there is room.
    pub(super) fn unstall(&mut self, io: &mut Ring<'_>) {
        for _ in 0..self.stalled.len() {
            let Some(conn) = self.stalled.pop_front() else { return };
            let Some(connection) = self.connections.get(conn) else { continue };
            connection.stalled = false;
            connection.heard = io.now();
            let tail = std::mem::take(&mut connection.tail);
            self.numbers.lower(M::PartialBytes, tail.len() as u64);
            let used = self.packets(io, conn, &tail);
            self.keep(io, conn, &tail[used..]);
            self.tails.give_back(tail);
            match self.connections.get(conn) {
                // No room even now: `packets` has put it at the end of the queue; it goes back to the front.
                Some(connection) if connection.stalled => {
                    self.stalled.pop_back();
                    self.stalled.push_front(conn);
                    return;
                }
                Some(_) => io.resume(conn),
                None => {}
            }
        }
    }

    /// Ends a device's connection from our side: DISCONNECT with the reason where the client knows one.
    pub(super) fn end(&mut self, io: &mut Ring<'_>, conn: ConnId, reason: ReasonCode) {
        let Some(connection) = self.connections.get(conn) else { return };
        if let Kind::Device { session, version } = connection.kind {
            end::write(version, reason, io.out(conn));
            let now = io.now();
            let gone = self.sessions.disconnected(session, conn, now);
            self.forget(io, conn);
            io.close(conn);
            self.wills(io, gone);
        } else {
            self.forget(io, conn);
            io.close(conn);
        }
    }
}

fn message<'a>(session: &'a Session, topic: &'a str, publish: &Publish<'a>, wall: WallMs) -> Message<'a> {
    let context = MessageContext {
        topic,
        client_id: session.client_id(),
        username: session.username(),
        qos: publish.qos as u8,
        retain: publish.retain,
        payload: publish.payload,
        timestamp_ms: wall.0,
    };
    Message { context, properties: publish.properties }
}
