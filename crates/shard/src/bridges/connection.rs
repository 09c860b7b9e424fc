//! A connection to a remote: how it becomes that of the bridge's session, and how it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_bridge::{self as bridge, Effect, Ending, Event, Granted, Standing, Url};
use forebay_broker::words::Flow;
use forebay_guard::outward::{Ended, LinkId};
use forebay_listener::ws;
use forebay_mqtt::malformed::Malformed;
use forebay_mqtt::packet::{Ack, Packet, Version};
use forebay_mqtt::property::Properties;
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::{Closed, ConnId, Layer, Monotonic, SocketOptions};
use forebay_session::{End, Peer, Remote, Session, SessionKey};

use super::super::Core;
use super::super::connection::Kind;
use super::super::ring::Ring;
use super::super::words::Timer;
use super::{Bridges, known_as};

/// A remote before 5.0 that gets more messages of QoS 2 than it takes closes the connection within this time.
const OVERRUN_WITHIN: Duration = Duration::from_secs(60);
/// The time after SUBACK within which the remote's retained messages arrive.
const SETTLING: Duration = Duration::from_secs(1);

/// The layer over a bridge's sockets: the WebSocket of its URL, if there is one, over `below`.
pub fn layer(url: &Url, below: Option<Box<dyn Layer>>) -> Option<Box<dyn Layer>> {
    match url.transport.is_web_socket {
        true => Some(ws::outgoing(&url.endpoint().to_string(), &url.path, below)),
        false => below,
    }
}

impl Bridges {
    /// Takes addresses of a remote.
    pub(crate) fn resolved(
        &mut self,
        index: usize,
        ticket: u64,
        found: Result<Vec<SocketAddr>, String>,
        now: Monotonic,
    ) {
        if let Some(running) = self.all.get_mut(&index) {
            running.client.on_resolved(ticket, found, now);
            running.busy = true;
        }
    }

    /// Notes that a socket is connected, or that its layer `is_ready`.
    pub(crate) fn link_connected(&mut self, index: usize, link: LinkId, is_ready: bool) {
        if let Some(running) = self.all.get_mut(&index)
            && running.carrier.connected(link, is_ready)
        {
            running.client.on_connected(link);
            running.busy = true;
        }
    }

    /// Notes the end of a socket that carried no messages.
    pub(crate) fn link_closed(&mut self, index: usize, link: LinkId, why: &Closed, now: Monotonic) {
        if let Some(running) = self.all.get_mut(&index) {
            let why = running.carrier.closed(link, why);
            running.client.on_closed(link, &why, now);
            running.busy = true;
        }
    }

    /// Notes packets received from a remote.
    pub(crate) fn heard(&mut self, session: SessionKey, bytes: usize) {
        if let Some((_, running)) = self.of(session) {
            running.client.heard();
            running.counts.received_bytes += bytes as u64;
        }
    }
}

impl Core {
    /// Takes bytes of a remote that has not accepted the client. Returns how many of them were taken.
    pub(crate) fn remote_greets(
        &mut self,
        io: &mut Ring<'_>,
        (index, link): (usize, LinkId),
        conn: ConnId,
        bytes: &[u8],
    ) -> usize {
        let Some(running) = self.bridges.all.get_mut(&index) else { return bytes.len() };
        let used = running.client.on_bytes(link, bytes, io.now());
        self.pump_bridge(io, index);
        // Messages may come right after CONNACK.
        let is_device = matches!(self.connections.get(conn).map(|c| c.kind), Some(Kind::Device { .. }));
        if is_device && used < bytes.len() { used + self.device_bytes(io, conn, &bytes[used..]) } else { bytes.len() }
    }

    /// Carries out a client's requests, until it has none.
    pub(super) fn pump_bridge(&mut self, io: &mut Ring<'_>, index: usize) {
        self.bridges.is_shown = false;
        loop {
            let Some(running) = self.bridges.all.get_mut(&index) else { return };
            running.busy = false;
            let (mut effects, sockets) = (Vec::new(), SocketOptions::default());
            running.client.take_effects(&mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                let Some(running) = self.bridges.all.get_mut(&index) else { return };
                let connections = &mut self.connections;
                let effect = match effect {
                    Effect::Connect { link, to, layer: below } => {
                        Effect::Connect { link, to, layer: layer(&self.here.config.bridges[index].url, below) }
                    }
                    effect => effect,
                };
                if let Some(event) = running.carrier.carry(io, &self.around, connections, sockets, effect) {
                    self.bridge_event(io, index, event);
                }
            }
        }
        if let Some(running) = self.bridges.all.get_mut(&index) {
            let at = running.client.next_deadline().min(running.refusals.next_deadline());
            io.set_timer_by(Timer::Bridge(index), at, &mut running.timer);
        }
    }

    fn bridge_event(&mut self, io: &mut Ring<'_>, index: usize, event: Event) {
        match event {
            Event::Connected(link, granted) => self.attach(io, index, link, *granted),
            Event::Subscribed(standings) => self.remote_subscribed(io, index, standings),
            Event::Lost(link, why) => self.detach(io, index, link, &why),
            Event::Unreachable(_, why) => self.tell_bridge_unreachable(io.now(), index, &why),
            Event::Outward(news) => self.tell_bridge_news(io.now(), index, news),
        }
    }

    /// Gives the connection to the bridge's session: it carries messages from now on.
    fn attach(&mut self, io: &mut Ring<'_>, index: usize, link: LinkId, granted: Granted) {
        let config = Arc::clone(&self.here.config);
        let (of, now) = (&config.bridges[index], io.now());
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let Some(conn) = running.carrier.conn(link) else { return };
        let (key, in_flight_max, is_one_alone) =
            (running.session, running.in_flight_max, running.refusals.is_one_alone());
        if let Some(session) = self.broker.sessions.get_mut(key).filter(|_| !granted.session_present) {
            let (sent, waiting) = session.copies();
            let ids = session.open_ids();
            let is_lost = sent + waiting > 0 || !ids.is_empty();
            let may_double = session.send_anew();
            running.forgets = ids;
            if is_lost && session.username().is_some() && !of.clean_start {
                self.tell_bridge_session_lost(now, index, may_double);
            }
        }
        self.forget_ids(index);
        let remote = Remote {
            version: granted.version,
            packet_size_max: granted.packet_size_max,
            send_maximum: if is_one_alone { 1 } else { granted.in_flight_max.min(in_flight_max) },
            receive_maximum: of.receive_maximum,
        };
        let settings = &self.broker.keeping.settings;
        self.broker.sessions.attach(key, conn, (remote, &known_as(of)), settings);
        let Some(peer) = self.broker.sessions.get(key).map(Session::peer) else { return };
        let Some(connection) = self.connections.get(conn) else { return };
        connection.kind = Kind::Device { session: key, peer };
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        (running.at, running.since, running.is_partial) = (Some((link, conn)), now, false);
        running.mark = bridge::mark(granted.instance.as_deref(), &of.instance, &of.url);
        running.passed_over = 0;
        running.binding.begins_anew();
        running.settled_at = Monotonic::NEVER;
        self.tell_bridge_connected(now, index, &granted);
        self.broker.write_notes(&mut self.here);
        // Answers to sent messages may be missed before the remote has the filters.
        if granted.session_present || of.ins.is_empty() {
            self.send_to_remote(io, index, granted);
        }
        self.answer(io, key);
    }

    /// Sends waiting messages to the remote, and later ones as they come.
    fn send_to_remote(&mut self, io: &mut Ring<'_>, index: usize, granted: Granted) {
        let Some(running) = self.bridges.all.get(&index) else { return };
        let to = (Arc::clone(&self.here.config), index, granted);
        self.broker.delivery.remotes.set_passes(running.session, Some(to), self.here.rules);
        self.broker.pump_session(io, &mut self.here, running.session);
    }

    fn remote_subscribed(&mut self, io: &mut Ring<'_>, index: usize, standings: Vec<Standing>) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let granted = running.client.standing().map(|(granted, _)| granted.clone());
        let has_changed = running.standings != standings;
        running.is_partial = standings.iter().any(|standing| matches!(standing, Standing::Refused(_)));
        running.standings = standings;
        running.settled_at = io.now().after(SETTLING);
        let session = running.session;
        if has_changed {
            self.tell_bridge_filters(io.now(), index);
        }
        if let Some(granted) = granted.filter(|_| self.broker.delivery.remotes.passes(session).is_none()) {
            self.send_to_remote(io, index, granted);
        }
    }

    /// Frees packet identifiers of QoS 2 that the remote has forgotten, as far as their messages are over. Until then it can send no messages of QoS 2: one
    /// with such an identifier would be taken for a repeat. True: all are free.
    pub(super) fn forget_ids(&mut self, index: usize) -> bool {
        let Some(running) = self.bridges.all.get_mut(&index) else { return true };
        let key = running.session;
        let ids = std::mem::take(&mut running.forgets);
        for id in &ids {
            if let Some(flow) = self.broker.release_elsewhere(&self.here, key, *id) {
                if matches!(flow, Flow::Stall(_)) {
                    break;
                }
                continue;
            }
            if let Some(session) = self.broker.sessions.get_mut(key) {
                let release = Ack { packet_id: *id, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY };
                // PUBCOMP has no receiver.
                let _ = session.packet(&Packet::PubRel(release), &mut Vec::new());
            }
        }
        self.broker.write_down(&mut self.here, key);
        let open = self.broker.sessions.get(key).map(Session::open_ids).unwrap_or_default();
        let Some(running) = self.bridges.all.get_mut(&index) else { return true };
        running.forgets = ids.into_iter().filter(|id| open.contains(id)).collect();
        running.forgets.is_empty()
    }

    /// Handles the client's release of a connection that carried messages.
    fn detach(&mut self, io: &mut Ring<'_>, index: usize, link: LinkId, why: &str) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let Some((_, conn)) = running.at.take_if(|(of, _)| *of == link) else { return };
        running.since = io.now();
        let key = running.session;
        self.broker.delivery.remotes.set_passes(key, None, self.here.rules);
        if self.connections.get(conn).is_some() {
            self.broker.disconnected(&mut self.here, io.now(), key, conn, End::Lost);
            self.forget(io, conn);
        }
        self.tell_bridge_lost(io.now(), index, why);
    }

    /// Handles a session's connection that was closed elsewhere.
    pub(crate) fn remote_closed(&mut self, io: &mut Ring<'_>, session: SessionKey, why: &Closed) {
        let now = io.now();
        let Some((index, running)) = self.bridges.of(session) else { return };
        let Some((link, _)) = running.at else { return };
        // Before 5.0 a client is not notified when another one takes its session over.
        let mute = running.client.standing().map(|(granted, _)| granted).filter(|of| of.version < Version::V5);
        let sent_max = mute.filter(|_| matches!(why, Closed::Peer));
        let sent_max = sent_max.map(|of| of.in_flight_max.min(running.in_flight_max));
        let has_stood = now.since(running.since);
        let why = running.carrier.closed(link, why);
        running.client.on_closed(link, &why, now);
        running.busy = true;
        let Some(sent_max) = sent_max else { return };
        // A remote before 5.0 says neither that another client has come nor how many messages it takes.
        match self.broker.sessions.get(session).map_or(0, Session::sent_exactly_once) {
            open @ 2.. if has_stood < OVERRUN_WITHIN && sent_max > 1 => {
                self.halve_in_flight(now, index, (sent_max, open))
            }
            _ => {
                self.note_taken_over(now, index, None);
                if has_stood < OVERRUN_WITHIN {
                    self.suspect_oldest(now, index);
                }
            }
        }
    }

    /// Ends the suspicion against a message, as the remote answers: as many as before may be on their way.
    pub(super) fn acquit_oldest(&mut self, session: SessionKey) {
        let Some((_, running)) = self.bridges.of(session) else { return };
        if !running.refusals.acquit() {
            return;
        }
        let granted = running.client.standing().map(|(granted, _)| granted.in_flight_max);
        let most = granted.map_or(running.in_flight_max, |granted| granted.min(running.in_flight_max));
        if let Some(session) = self.broker.sessions.get_mut(session) {
            session.set_send_maximum(most);
        }
    }

    /// Halves the number of messages on their way to a remote that has closed the connection with this many of QoS 2 unanswered.
    fn halve_in_flight(&mut self, now: Monotonic, index: usize, (sent_max, open): (u16, usize)) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        running.in_flight_max = sent_max / 2;
        self.tell_bridge_overrun(now, index, (open.min(sent_max.into()), sent_max / 2));
    }

    /// Sends DISCONNECT to a remote, and closes the connection.
    pub(super) fn leave_remote(&mut self, io: &mut Ring<'_>, conn: ConnId, session: SessionKey) {
        let Some(Kind::Device { peer, .. }) = self.connections.get(conn).map(|c| c.kind) else { return };
        self.close_remote(io, (conn, session, peer), End::Administrative);
    }

    fn close_remote(&mut self, io: &mut Ring<'_>, (conn, session, peer): (ConnId, SessionKey, Peer), end: End) {
        end.write(peer, io.out(conn));
        self.broker.disconnected(&mut self.here, io.now(), session, conn, end);
        self.forget(io, conn);
        io.close(conn);
    }

    /// Ends the connection to a remote from this side. `why`: the reason, if it is not that of `end`.
    pub(crate) fn end_remote(
        &mut self,
        io: &mut Ring<'_>,
        (conn, session, peer): (ConnId, SessionKey, Peer),
        end: End,
        why: Option<Ending>,
    ) {
        self.close_remote(io, (conn, session, peer), end);
        let now = io.now();
        let Some((index, running)) = self.bridges.of(session) else { return };
        let Some((link, _)) = running.at else { return };
        running.carrier.let_go(link);
        let taken_over = matches!(&why, Some(Ending::Left(left)) if left.reason == ReasonCode::SESSION_TAKEN_OVER);
        running.busy = true;
        match (why, end) {
            (Some(why), _) => running.client.ended(link, &why, now),
            (None, End::Violation(violation)) => {
                let malformed = Malformed { reason: violation.reason, clause: violation.clause, what: violation.what };
                running.client.ended(link, &Ending::Violation(malformed), now);
            }
            (None, _) => running.client.on_closed(link, &Ended::Lost("closed here".into()), now),
        }
        if taken_over {
            self.note_taken_over(now, index, Some(ReasonCode::SESSION_TAKEN_OVER.name()));
        }
    }
}
