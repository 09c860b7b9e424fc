//! Bytes of a device: packets are cut out and passed to its session, and their answers appended to one out-buffer.

use forebay_base::limits;
use forebay_broker::words::{Flow, Stall};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Packet, Publish, Sender};
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::{decode, frame};
use forebay_rule::event::Event;
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{End, Next, SessionKey, Violation};

use super::Core;
use super::connection::{Kind, Timed};
use super::publishing::client::{Published, RunTo};
use super::ring::Ring;
use super::words::{Sample, Source, Used};

impl Core {
    /// Works through received bytes: `bytes` alone, or after the tail of earlier ones. Returns how many of them were taken: fewer than there are, if the
    /// connection has used up its quantum.
    pub(super) fn device_bytes(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(connection) = self.connections.get(conn) else { return bytes.len() };
        if connection.stalled {
            connection.tail.extend_from_slice(bytes);
            self.partial(io, bytes.len());
        } else if connection.tail.is_empty() {
            let used = self.packets(io, conn, bytes);
            if used.is_cut {
                return used.bytes;
            }
            self.keep(io, conn, &bytes[used.bytes..]);
        } else {
            let mut tail = std::mem::take(&mut connection.tail);
            let before = tail.len();
            self.here.numbers.lower(M::PartialBytes, before as u64);
            tail.extend_from_slice(bytes);
            let used = self.packets(io, conn, &tail);
            if !used.is_cut {
                self.keep_rest(io, conn, tail, used.bytes);
            } else if let Some(taken) = used.bytes.checked_sub(before) {
                self.connections.tails.give_back(tail);
                return taken;
            } else {
                // The packet at the beginning of the tail is partly done.
                tail.truncate(before);
                self.keep_rest(io, conn, tail, used.bytes);
                return 0;
            }
        }
        bytes.len()
    }

    /// Works through bytes that no later read repeats. Bytes beyond the quantum wait with the connection.
    pub(super) fn kept_bytes(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: Vec<u8>) {
        let used = self.packets(io, conn, &bytes);
        if used.is_cut {
            self.stall(io, conn, Stall::Quantum);
        }
        self.keep_rest(io, conn, bytes, used.bytes);
    }

    /// Keeps an incomplete packet in its buffer, if that holds no whole one: a large packet received in small pieces is not copied for each of them.
    fn keep_rest(&mut self, io: &mut Ring<'_>, conn: ConnId, tail: Vec<u8>, used: usize) {
        if used == 0 {
            return self.put_back(io, conn, tail);
        }
        self.keep(io, conn, &tail[used..]);
        self.connections.tails.give_back(tail);
    }

    /// Keeps an incomplete packet.
    fn keep(&mut self, io: &mut Ring<'_>, conn: ConnId, rest: &[u8]) {
        if !rest.is_empty() {
            let tail = self.connections.tails.lend(rest);
            self.put_back(io, conn, tail);
        }
    }

    /// Leaves a buffer with its connection until more comes.
    pub(super) fn put_back(&mut self, io: &mut Ring<'_>, conn: ConnId, tail: Vec<u8>) {
        let Some(connection) = self.connections.get(conn) else { return self.connections.tails.give_back(tail) };
        let bytes = tail.len();
        connection.tail = tail;
        self.partial(io, bytes);
    }

    /// Counts bytes of half-received packets. Beyond their bound, the connection that holds most of them is ended: the one that sent last may hold three.
    pub(super) fn partial(&mut self, io: &mut Ring<'_>, more: usize) {
        self.here.numbers.raise(M::PartialBytes, more as u64);
        let most = limits::partial_bytes_max(self.here.config.mqtt.packet_bytes_max) as u64;
        while self.here.numbers.get(M::PartialBytes) > most {
            let Some(conn) = self.connections.longest_tail() else { return };
            self.here.numbers.count(M::PartialQuotaCloses);
            self.end(io, conn, End::Violation(PARTIAL_QUOTA));
        }
    }

    /// Works through the whole packets in `bytes`, as far as the connection's quantum goes.
    fn packets(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) -> Used {
        let Some(connection) = self.connections.get(conn) else { return Used::all(bytes) };
        let Kind::Device { session, peer } = connection.kind else { return Used::all(bytes) };
        let sender = Source { conn, session, peer, listener: connection.listener };
        let mut sample = Sample { wanted: connection.timed.is_none() && !peer.is_remote, taken: None };
        let packet_bytes_max = self.here.config.mqtt.packet_bytes_max;
        let passed_over = if peer.is_remote { self.bridges.pass_over(session, bytes.len()) } else { 0 };
        let (mut used, mut is_cut) = (passed_over, false);
        let mut begun = None;
        while used < bytes.len() && !is_cut {
            if self.broker.keeping.holds.is_full(conn) {
                self.stall(io, conn, Stall::Answers);
                break;
            }
            let flow = match frame::next_for(peer.version, peer.sender(), &bytes[used..], packet_bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let flow = self.packet(io, sender, frame, (&mut begun, &mut sample));
                    used += if matches!(flow, Flow::On) { frame.len } else { 0 };
                    flow
                }
                Err(malformed) if peer.is_remote => {
                    let Some((flow, taken)) = self.too_long_of_remote(io, sender, &bytes[used..], malformed) else {
                        break;
                    };
                    used += taken;
                    flow
                }
                Err(malformed) => self.violation(io, conn, session, malformed.into()),
            };
            match flow {
                Flow::On => {
                    is_cut = !io.spend(1) && used < bytes.len();
                    if let Some((to, first, publish)) = begun.take().filter(|_| !is_cut) {
                        let run = self.publishing().publish_run(io, (sender, to), (first, &publish), &bytes[used..]);
                        (used, is_cut) = (used + run.bytes, run.is_cut);
                    }
                }
                Flow::Part => is_cut = true,
                Flow::Stall(why) => {
                    self.stall(io, conn, why);
                    break;
                }
                Flow::Ended => {
                    if self.connections.traces.is_any() {
                        self.trace_to_the_end(io, sender, bytes, used);
                    }
                    return Used::all(bytes);
                }
            }
        }
        if used > 0
            && let Some(connection) = self.connections.get(conn)
        {
            connection.clock.heard(io.now());
            let is_sample = self.here.numbers.top.reads.is_due();
            let is_bounded = connection.claim.is_some();
            if let Some((number, level)) = sample.taken {
                connection.timed = Some(Timed { number, level, at: io.now() });
            }
            if self.connections.traces.is_any() {
                self.trace(io, sender, &bytes[passed_over..used]);
            }
            if is_sample {
                let session = self.broker.sessions.get(sender.session).filter(|session| !session.is_remote());
                self.here.numbers.top.sample(session, sender.peer, &bytes[passed_over..used], io.now());
            }
            if is_bounded {
                self.charge(io, conn, &bytes[..used]);
            }
            if peer.is_remote {
                self.bridges.heard(session, used);
            }
        }
        self.answer(io, session);
        self.watch_answers(io, conn, session);
        Used { bytes: used, is_cut }
    }

    /// Handles a packet. `begun`: set to the message that has begun a run, with its receivers and its first byte.
    fn packet<'a>(
        &mut self,
        io: &mut Ring<'_>,
        from: Source,
        frame: frame::Frame<'a>,
        (begun, sample): (&mut Option<(RunTo, u8, Publish<'a>)>, &mut Sample),
    ) -> Flow {
        const CONNECT: u8 = 1;
        const PUBLISH: u8 = 3;
        if frame.first >> 4 == PUBLISH {
            let publish = match decode::publish_from(from.peer.version, from.peer.sender(), frame.first, frame.body) {
                Ok(publish) => publish,
                Err(malformed) => return self.violation(io, from.conn, from.session, malformed.into()),
            };
            let (own, local);
            let (given, feeds) = if from.peer.is_remote {
                match self.map_from_remote(io, from, &publish) {
                    Ok(made) => {
                        own = made;
                        let (topic, retain, properties) = (&own.topic, own.retain, own.properties.as_properties());
                        local = Publish { topic, retain, properties, ..publish.clone() };
                        (&local, own.feeds)
                    }
                    Err(flow) => return flow,
                }
            } else {
                (&publish, self.outlets.feeds)
            };
            let published = self.publishing().publish(io, from, given, (feeds, sample));
            if let Published::On { begins_run } = published {
                if from.peer.is_remote {
                    self.published_of_remote(from.session, &publish, io.now());
                } else if let Some(to) = begins_run {
                    *begun = Some((to, frame.first, publish));
                }
            }
            return self.flow_of(io, from, published);
        }
        if from.peer.is_remote {
            return self.packet_of_remote(io, from, frame);
        }
        match decode::decode(from.peer.version, Sender::Client, frame) {
            Ok(packet) => {
                let flow = self.control_packet(io, from.conn, from.session, &packet);
                // A packet that stalls is handled again.
                if !matches!(flow, Flow::Stall(_) | Flow::Part) {
                    self.count_control_packet(&packet);
                }
                flow
            }
            // DISCONNECT has no code for a second CONNECT, whatever is wrong with it.
            Err(_) if frame.first >> 4 == CONNECT => {
                self.violation(io, from.conn, from.session, Violation::SECOND_CONNECT)
            }
            Err(malformed) => self.violation(io, from.conn, from.session, malformed.into()),
        }
    }

    /// The next step after a PUBLISH.
    pub(super) fn flow_of(&mut self, io: &mut Ring<'_>, from: Source, published: Published) -> Flow {
        match published {
            Published::On { .. } => Flow::On,
            Published::Stall(why) => Flow::Stall(why),
            Published::Ended => Flow::Ended,
            Published::Violation(violation) => self.violation(io, from.conn, from.session, violation),
        }
    }

    fn count_control_packet(&mut self, packet: &Packet<'_>) {
        self.here.numbers.count(match packet {
            Packet::PubAck(_) => M::PubAcksReceived,
            Packet::PubRec(_) => M::PubRecsReceived,
            Packet::PubRel(_) => M::PubRelsReceived,
            Packet::PubComp(_) => M::PubCompsReceived,
            Packet::Subscribe(_) => M::SubscribesReceived,
            Packet::Unsubscribe(_) => M::UnsubscribesReceived,
            Packet::PingReq => M::PingsReceived,
            Packet::Disconnect(_) => M::DisconnectsReceived,
            Packet::Auth(_) => M::AuthsReceived,
            // These packets are counted elsewhere, or no client may send them.
            Packet::Connect(_) | Packet::Publish(_) => return,
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => return,
        });
    }

    pub(super) fn control_packet(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        key: SessionKey,
        packet: &Packet<'_>,
    ) -> Flow {
        if let Packet::PubRel(ack) = packet
            && let Some(flow) = self.broker.release_elsewhere(&self.here, key, ack.packet_id)
        {
            return flow;
        }
        if let Packet::PingReq = packet
            && self.here.events.wants(Event::ClientPing)
        {
            self.raise_ping(io, conn, key);
        }
        let Some(session) = self.broker.sessions.get_mut(key) else { return Flow::Ended };
        match packet {
            Packet::Auth(auth) if session.may_authenticate() => return self.auth_packet(io, conn, key, auth),
            Packet::Subscribe(subscribe) => return self.subscribe(io, conn, key, subscribe),
            Packet::Unsubscribe(unsubscribe) => return self.unsubscribe(io, conn, key, unsubscribe),
            _ => {}
        }
        let (out, before) = (self.broker.keeping.holds.out(io, conn), session.on_its_way());
        let from = out.len();
        let next = session.packet(packet, out);
        let has_room = session.on_its_way() != before;
        self.broker.write_down(&mut self.here, key);
        self.broker.hold(io, &self.here, conn, key, from);
        self.broker.note_queue(io.now(), key);
        if let Packet::PubAck(ack) | Packet::PubRec(ack) = packet
            && ack.reason.is_error()
        {
            self.broker.take_dropped(&mut self.here, io.now(), key, M::CopiesRefused);
        }
        if matches!(packet, Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_)) {
            self.broker.pump_session(io, &mut self.here, key);
            if has_room {
                self.broker.delivery.shares.has_room_again(key);
            }
        }
        match next {
            Next::Go => Flow::On,
            Next::End(End::Violation(violation)) => self.violation(io, conn, key, violation),
            Next::End(end) => {
                self.end(io, conn, end);
                Flow::Ended
            }
        }
    }

    /// Sends the answers of a session that are ready, in order of receipt.
    pub(super) fn answer(&mut self, io: &mut Ring<'_>, key: SessionKey) {
        let Some(session) = self.broker.sessions.get_mut(key) else { return };
        let Some(conn) = session.conn() else { return self.broker.write_down(&mut self.here, key) };
        let out = self.broker.keeping.holds.out(io, conn);
        let from = out.len();
        let drained = session.drain_answers(out);
        let (oldest, _) = session.owed_numbers();
        self.broker.write_down(&mut self.here, key);
        self.broker.hold(io, &self.here, conn, key, from);
        self.here.numbers.raise(M::Answers, drained.answered as u64);
        if drained.answered > 0 {
            io.send_soon(conn);
        }
        self.time_answer(conn, oldest, io.now());
        if let Some(unanswered) = drained.unanswered {
            self.broker.release_refused(&self.here, key, unanswered);
        }
        if let Some(reason) = drained.refused {
            tracing::debug!(reason = reason.name(), "the client's protocol version cannot express this refusal");
            self.here.numbers.count(M::PublishNotExpressible);
            self.end(io, conn, End::NotExpressible);
        }
    }

    /// Measures the time to an answer. `oldest`: the session's first number with a pending answer.
    fn time_answer(&mut self, conn: ConnId, oldest: u32, now: Monotonic) {
        let Some(connection) = self.connections.get(conn) else { return };
        // Numbers wrap.
        let answered = |timed: &mut Timed| oldest.wrapping_sub(timed.number).cast_signed() > 0;
        if let Some(Timed { level, at, .. }) = connection.timed.take_if(answered) {
            let took = u64::try_from(now.since(at).as_micros()).unwrap_or(u64::MAX);
            self.here.numbers.histograms().publish_ack(usize::from(connection.listener.0), level).observe(took);
        }
    }

    pub(super) fn violation(&mut self, io: &mut Ring<'_>, conn: ConnId, key: SessionKey, violation: Violation) -> Flow {
        self.here.numbers.count(M::MalformedPackets);
        self.tell_violation(io, conn, key, &violation);
        self.end(io, conn, End::Violation(violation));
        Flow::Ended
    }

    /// Ends a connection from this side: DISCONNECT with the reason if the client knows one and has had its CONNACK [MQTT-3.14.0-1], then closed
    /// [MQTT-3.14.4-2] [MQTT-4.13.2-1]: nothing follows [MQTT-3.14.4-1].
    pub(super) fn end(&mut self, io: &mut Ring<'_>, conn: ConnId, end: End) {
        let Some(kind) = self.connections.get(conn).map(|c| c.kind) else { return };
        if let Kind::Device { session, peer } = kind
            && peer.is_remote
        {
            return self.end_remote(io, (conn, session, peer), end, None);
        }
        let session = if let Kind::Device { session, .. } = kind { Some(session) } else { None };
        if let Some(session) = session {
            self.tell_disconnected(io, (conn, session), (end, ""), None);
        }
        if let Kind::Device { session, peer } = kind {
            if self.broker.keeping.holds.may_tell(conn) {
                end.write(peer, io.out(conn));
            }
            self.broker.disconnected(&mut self.here, io.now(), session, conn, end);
        }
        self.forget(io, conn);
        io.close(conn);
    }
}

/// The violation of a connection that ends because half-received packets of all connections have filled their bound.
const PARTIAL_QUOTA: Violation = Violation {
    reason: ReasonCode::QUOTA_EXCEEDED,
    clause: "section 4.13",
    what: "the memory for half-received packets is full",
};
