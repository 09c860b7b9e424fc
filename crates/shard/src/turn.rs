//! Turns as the runtime calls them. Each event is noted where it belongs; the work that can be shared by all events of a turn is done once,
//! at its end: rows to Kafka, results to sessions, answers to devices, then the board.

use std::net::SocketAddr;
use std::sync::Arc;

use forebay_guard::outward::LinkId;
use forebay_metrics::spec::{ClusterMetric, ShardMetric as M};
use forebay_runtime::seam::{Closed, ConnId, Facts, Io, ListenerId, SegmentEvent, Shard};
use forebay_session::{Check, End};

use super::Core;
use super::connection::Kind;
use super::mail::{Inspection, Mail, Notice, ToCarrier, ToShard};
use super::ring::Ring;
use super::words::{Far, Timer};

impl Core {
    /// Handles an event of the runtime, with the streams at hand.
    #[inline]
    fn within<R>(&mut self, io: &mut dyn Io<Mail>, handle: impl FnOnce(&mut Self, &mut Ring<'_>) -> R) -> R {
        let mut ring = Ring::new(io, self.doors.relays.trunks.take());
        let result = handle(self, &mut ring);
        self.doors.relays.trunks = ring.into_trunks();
        result
    }
}

impl Shard for Core {
    type Mail = Mail;

    fn on_start(&mut self, io: &mut dyn Io<Mail>) {
        self.within(io, Self::when_started);
    }

    fn on_accept(&mut self, io: &mut dyn Io<Mail>, conn: ConnId, listener: ListenerId) {
        self.within(io, |core, io| core.when_accepted(io, conn, listener));
    }

    fn on_connect(&mut self, io: &mut dyn Io<Mail>, conn: ConnId) {
        self.within(io, |core, io| core.when_connected(io, conn));
    }

    fn on_ready(&mut self, io: &mut dyn Io<Mail>, conn: ConnId, facts: Facts) {
        self.within(io, |core, io| core.when_ready(io, conn, facts));
    }

    fn on_bytes(&mut self, io: &mut dyn Io<Mail>, conn: ConnId, bytes: &[u8]) -> usize {
        self.within(io, |core, io| core.when_received(io, conn, bytes))
    }

    fn on_writable(&mut self, io: &mut dyn Io<Mail>, conn: ConnId) {
        self.within(io, |core, io| core.when_writable(io, conn));
    }

    fn on_close(&mut self, io: &mut dyn Io<Mail>, conn: ConnId, why: Closed) {
        self.within(io, |core, io| core.when_closed(io, conn, why));
    }

    fn on_segment(&mut self, io: &mut dyn Io<Mail>, event: SegmentEvent) {
        self.within(io, |core, io| core.segment_event(io, event));
    }

    fn on_mail(&mut self, io: &mut dyn Io<Mail>, letter: Mail) {
        self.within(io, |core, io| core.when_mail_comes(io, letter));
    }

    fn on_timer(&mut self, io: &mut dyn Io<Mail>, token: u64) {
        self.within(io, |core, io| core.when_time_comes(io, token));
    }

    fn on_turn_end(&mut self, io: &mut dyn Io<Mail>) {
        self.within(io, |core, io| {
            core.tell_of_streams(io);
            core.when_turn_ends(io);
            core.send_streams(io);
        });
    }
}

impl Core {
    /// Begins: takes up what an earlier process has left.
    pub(super) fn when_started(&mut self, io: &mut Ring<'_>) {
        match self.open_spool(io) {
            Ok(()) if self.here.config.broker.is_some() => {
                // The receiver is gone only when the process ends.
                let _ = self.around.notices.send(Notice::Waiting(self.here.index));
            }
            Ok(()) => self.take_up(io),
            Err(why) => self.cannot_start(io, why),
        }
    }

    /// Takes an accepted socket.
    pub(super) fn when_accepted(&mut self, io: &mut Ring<'_>, conn: ConnId, listener: ListenerId) {
        self.here.numbers.count(M::ConnectionsAccepted);
        self.accepted(io, conn, listener);
    }

    /// Notes that an outgoing connection is open.
    pub(super) fn when_connected(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        match self.connections.get(conn).map(|c| c.kind) {
            Some(Kind::Link { far, link }) => self.far_connected(io, far, link, false),
            Some(Kind::Trunk) => self.trunk_stands(io, conn, false),
            _ => {}
        }
    }

    /// Takes received bytes. Returns how many of them it has taken.
    pub(super) fn when_received(&mut self, io: &mut Ring<'_>, conn: ConnId, bytes: &[u8]) -> usize {
        match self.connections.get(conn).map(|c| c.kind) {
            Some(Kind::Device { .. }) => {
                let taken = self.device_bytes(io, conn, bytes);
                self.here.numbers.raise(M::BytesReceived, taken as u64);
                return taken;
            }
            Some(Kind::Relayed(link)) => {
                self.here.numbers.raise(M::BytesReceived, bytes.len() as u64);
                self.pass_on(io, conn, link, bytes);
            }
            Some(Kind::Relay(client)) => self.owner_bytes(io, conn, client, bytes),
            Some(Kind::Trunk) => self.trunk_bytes(io, conn, bytes),
            Some(
                Kind::Door(..)
                | Kind::Leaving(..)
                | Kind::Pending(..)
                | Kind::Exchange(..)
                | Kind::Header(..)
                | Kind::Waiting(..),
            ) => {
                self.here.numbers.raise(M::BytesReceived, bytes.len() as u64);
                self.door_bytes(io, conn, bytes);
            }
            Some(Kind::Link { far: Far::Bridge(bridge), link }) => {
                return self.remote_greets(io, (bridge, link), conn, bytes);
            }
            Some(Kind::Link { far: Far::Cluster(cluster), link }) => {
                self.here.numbers.count_cluster(cluster, ClusterMetric::ReceivedBytes, bytes.len() as u64);
                let upstream = &mut self.outlets.upstreams[cluster];
                upstream.busy = true;
                upstream.client.on_bytes(link, bytes, io.now());
            }
            None => {}
        }
        bytes.len()
    }

    /// Notes that a connection's layer is ready.
    pub(super) fn when_ready(&mut self, io: &mut Ring<'_>, conn: ConnId, facts: Facts) {
        match self.connections.get(conn).map(|c| (c.kind, c.listener)) {
            Some((Kind::Link { far, link }, _)) => self.far_connected(io, far, link, true),
            Some((Kind::Trunk, _)) => self.trunk_stands(io, conn, true),
            Some((_, listener)) => {
                if let Some(source) = facts.forwarded {
                    io.set_peer(conn, SocketAddr::new(source, 0));
                }
                self.count_handshake(&facts);
                if self.is_forwarded(listener) && !self.enter_address(io, conn) {
                    return;
                }
                self.note_certificate(conn, facts.certificate);
            }
            None => {}
        }
    }

    /// Notes that a connection's out-buffer has room again.
    pub(super) fn when_writable(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        self.broker.has_read(conn);
        match self.connections.get(conn).map(|c| c.kind) {
            Some(Kind::Device { session, .. }) => self.broker.delivery.is_writable(session),
            Some(Kind::Relayed(other) | Kind::Relay(other)) => io.resume(other),
            Some(Kind::Trunk) => io.trunks().has_room(conn),
            _ => {}
        }
    }

    /// Notes that a connection is gone.
    pub(super) fn when_closed(&mut self, io: &mut Ring<'_>, conn: ConnId, why: Closed) {
        if let Some(drain) = &mut self.drain.own {
            drain.closed(conn);
        }
        let Some(kind) = self.connections.get(conn).map(|c| c.kind) else { return };
        if let Kind::Trunk = kind {
            return self.trunk_closed(io, conn, &why);
        }
        if let Closed::Layer(error) = &why
            && !is_outgoing(kind)
        {
            self.tell_layer_failed(io, conn, error);
        }
        if let Kind::Device { session, peer } = kind
            && !peer.is_remote
        {
            self.tell_closed(io, conn, session, &why);
        }
        self.forget(io, conn);
        match kind {
            Kind::Door(..) | Kind::Leaving(..) | Kind::Pending(..) | Kind::Exchange(..) => {}
            Kind::Header(..) | Kind::Waiting(..) | Kind::Relayed(..) | Kind::Trunk => {}
            Kind::Relay(client) => self.owner_gone(io, conn, client, &why),
            Kind::Device { session, peer } => {
                self.broker.disconnected(&mut self.here, io.now(), session, conn, End::Lost);
                if peer.is_remote {
                    self.remote_closed(io, session, &why);
                }
            }
            Kind::Link { far: Far::Cluster(cluster), link } => self.link_closed(io, cluster, link, &why),
            Kind::Link { far: Far::Bridge(bridge), link } => self.bridges.link_closed(bridge, link, &why, io.now()),
        }
    }

    /// Takes a letter.
    pub(super) fn when_mail_comes(&mut self, io: &mut Ring<'_>, letter: Mail) {
        match letter {
            Mail::Broker(letter) => self.broker.take_letter(io, &mut self.here, letter),
            Mail::Door(letter) => self.door_letter(io, letter),
            Mail::Carrier(letter) => self.carrier_letter(io, letter),
            Mail::DeadLetters(letter) => self.filed(letter),
            Mail::Sources(letter) => self.source_letter(io, letter),
            Mail::Slots(letter) => self.slots_letter(io, letter),
            Mail::Group(letter) => self.ask_group(io, letter),
            Mail::Binding(ask) => self.binding_asks(io, ask),
            Mail::Shard(letter) => self.shard_letter(io, letter),
        }
    }

    /// Takes a letter about the shard as a whole.
    fn shard_letter(&mut self, io: &mut Ring<'_>, letter: ToShard) {
        match letter {
            ToShard::TakeRetained(of_shard) => {
                self.outlets.copies = of_shard.copies;
                self.broker.take_retained(&mut self.here, io.now(), &of_shard);
                self.broker.keeping.given.has_copies_to(Arc::clone(&of_shard.copied_to));
                self.sources.take_copied(of_shard, &self.here.config, io.now());
            }
            ToShard::Accept if self.drain.own.is_none() => {
                self.pace_listeners(io);
                io.start_accepting();
                self.open_sources(io);
                self.open_bridges(io);
            }
            ToShard::Accept => {}
            ToShard::Inspect(Inspection { ask, answer }) => answer(self.inspect(io, ask)),
            ToShard::WouldGo(question) => (question.answer)(self.would_go(&question.edge, &question.removed)),
            ToShard::Reconfigure(to) => self.reconfigure(io, *to),
            ToShard::SysTopics(values) => self.publishing().publish_sys_topics(io, &values),
            ToShard::EndSources => self.end_sources(io),
            ToShard::Stopping { from } => self.other_is_done(from),
            ToShard::Drain { grace } => self.begin_drain(io, grace),
        }
    }

    /// Takes an answer to the client of an outgoing connection.
    fn carrier_letter(&mut self, io: &mut Ring<'_>, letter: ToCarrier) {
        match letter {
            ToCarrier::Resolved { far: Far::Bridge(bridge), ticket, found } => {
                self.bridges.resolved(bridge, ticket, found, io.now());
            }
            ToCarrier::Resolved { far: Far::Cluster(upstream), ticket, found } => {
                let upstream = &mut self.outlets.upstreams[upstream];
                upstream.busy = true;
                upstream.client.on_resolved(ticket, found, io.now());
            }
            // A bridge has nothing to prepare.
            ToCarrier::Prepared { far: Far::Bridge(_), .. } => {}
            ToCarrier::Prepared { far: Far::Cluster(upstream), ticket, result } => {
                let upstream = &mut self.outlets.upstreams[upstream];
                upstream.busy = true;
                upstream.client.on_prepared(ticket, result, io.now());
            }
        }
    }

    /// Handles a timer.
    pub(super) fn when_time_comes(&mut self, io: &mut Ring<'_>, token: u64) {
        match Timer::of(token) {
            Timer::Connection(conn) => self.connection_time(io, conn),
            Timer::Cluster(cluster) => self.cluster_time(io, cluster),
            Timer::Sessions => self.session_time(io),
            Timer::Grace => self.grace_over(io),
            Timer::Spool => self.spool_time(),
            Timer::Group => self.group_time(),
            Timer::Note => self.note_time(),
            Timer::Rates => self.rates_time(io),
            Timer::Broker(due) => self.broker.on_time(io, &mut self.here, due),
            Timer::Moves => self.moves_time(),
            Timer::Sources => self.sources_time(),
            Timer::Bridge(bridge) => self.bridge_time(io, bridge),
            Timer::Relays => self.relays_time(io),
            Timer::Trunks => self.trunks_time(io),
            Timer::Answers(conn) => self.answers_time(io, conn),
        }
    }

    /// Does the work that all events of a turn share.
    pub(super) fn when_turn_ends(&mut self, io: &mut Ring<'_>) {
        self.look_if_stood_still(io);
        self.work_on_bridges(io);
        if self.log.is_taken_up {
            self.broker.release_held(io, &mut self.here);
            self.broker.confirm_retained(&self.here);
            self.broker.confirm_copies(&self.here);
            self.outward(io);
        }
        self.broker.deliver_waiting(io, &mut self.here);
        if self.broker.confirm_copies(&self.here) {
            self.outward(io);
        }
        if self.stalls.waiting() > 0 && self.drain.own.is_none() {
            self.unstall(io);
            self.outward(io);
        }
        if self.work_on_sources(io) | self.evaluate_events(io) {
            self.outward(io);
        }
        self.broker.forget_subscriptions(io);
        self.broker.delivery.index.give_back();
        self.broker.count_subscriptions(&mut self.here);
        self.broker.serve_writable(io, &mut self.here);
        self.broker.serve_shares(io, &mut self.here);
        self.broker.report_handed_over(&self.here);
        self.broker.serve_retained(io, &mut self.here);
        self.broker.send_parcels(io, &mut self.here);
        self.broker.answer_passes(io, &self.here);
        self.broker.send_releases(&self.here);
        self.send_letters(io);
        self.go_on_leaving(io);
        self.go_on_moving(io);
        self.broker.make_room(&mut self.here, io.now());
        self.broker.write_queues(io, &mut self.here, self.drain.own.is_some());
        self.flush_spool(io);
        self.go_on_releasing(io);
        self.set_session_timer(io);
        self.go_on_draining(io);
        if self.broker.delivery.remembered().has_settled() {
            // Records have ended since the sources had their turn.
            io.go_on();
        }
        if !self.here.events.are_none() || self.bridges.has_answers() {
            io.go_on();
        }
        if self.connections.traces.is_any() {
            self.take_traced(io);
        }
        self.broker.count_copies(io, &mut self.here);
        self.here.numbers.count(M::Turns);
        self.here.numbers.set(M::BytesSent, io.sent_bytes());
        self.here.numbers.set(M::QuantaExceeded, io.quanta_exceeded());
        self.here.numbers.set(M::EventsSuppressed, self.here.teller.suppressed());
        // Remotes of bridges are no clients.
        let clients = self.broker.sessions.len().saturating_sub(self.broker.delivery.remotes.sessions().len());
        self.here.numbers.set(M::Sessions, clients as u64);
        self.here.numbers.set(M::SessionsExpired, self.broker.sessions.expired());
        self.here.numbers.set(M::Unauthenticated, self.doors.open() as u64);
        self.here.numbers.set(M::HeldBytes, self.broker.keeping.holds.bytes() as u64);
        self.here.numbers.set(M::StalledConnections, self.stalls.waiting() as u64);
        self.here.numbers.observe_spool();
        self.here.numbers.publish();
    }
}

/// Whether the other end is one that Forebay has connected to.
const fn is_outgoing(kind: Kind) -> bool {
    match kind {
        Kind::Link { .. } | Kind::Relay(_) | Kind::Trunk => true,
        Kind::Device { peer, .. } => peer.is_remote,
        _ => false,
    }
}

impl Core {
    /// Notes that the socket of an outgoing connection is connected, or that its layer `is_ready`.
    fn far_connected(&mut self, io: &mut Ring<'_>, far: Far, link: LinkId, is_ready: bool) {
        match far {
            Far::Cluster(cluster) => self.link_connected(io, cluster, link, is_ready),
            Far::Bridge(bridge) => self.bridges.link_connected(bridge, link, is_ready),
        }
    }

    /// Reports the reason why the shard cannot start, and ends it.
    pub(super) fn cannot_start(&mut self, io: &mut Ring<'_>, why: String) {
        let _ = self.around.notices.send(Notice::Failed { shard: self.here.index, why });
        io.stop_accepting();
        io.stop();
    }

    /// Sends wills and rows to Kafka, results to sessions, answers to devices. An answer that a device's protocol cannot express ends its connection, which
    /// may leave another will.
    pub(super) fn outward(&mut self, io: &mut Ring<'_>) {
        loop {
            // A silent instance may have lost the slots of these clients: another one publishes the wills that are in their logs.
            let are_held = self.broker.sessions.has_wills() && self.is_silent(io);
            let are_all_published = !are_held && self.publishing().publish_wills(io);
            self.broker.write_notes(&mut self.here);
            for cluster in 0..self.outlets.upstreams.len() {
                self.pump(io, cluster);
            }
            let mut touched = std::mem::take(&mut self.broker.touched);
            for session in touched.drain(..) {
                self.answer(io, session);
            }
            self.broker.touched = touched;
            let has_more = self.broker.sessions.has_due_wills() && self.broker.queues.have_all_told();
            if !(are_all_published && has_more) {
                return;
            }
        }
    }

    /// Sends the waiting letters to other shards, after the parcels of the turn.
    pub(super) fn send_letters(&mut self, io: &mut Ring<'_>) {
        let letters = self.around.letters(&mut self.broker);
        let mut full: u64 = 0;
        for _ in 0..letters.len() {
            let Some((to, letter)) = letters.pop_front() else { break };
            let bit = 1 << to;
            if full & bit != 0 {
                letters.push_back((to, letter));
            } else if let Err(letter) = io.mail(to, letter) {
                // The mailbox is full: the letters go with the next turn, in order.
                full |= bit;
                letters.push_back((to, letter));
            }
        }
        if full != 0 {
            self.broker.delivery.want_mailbox(io);
        }
    }

    /// Handles the CONNECT time-out at the door, or the keep-alive of a device.
    fn connection_time(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let now = io.now();
        let greeting_due = self.broker.keeping.holds.greeting_due(conn);
        let Some(connection) = self.connections.get(conn) else { return };
        connection.timer = None;
        match connection.kind {
            Kind::Pending(..) => {
                self.here.numbers.count(M::ConnectTimeouts);
                self.refuse_busy(io, conn);
            }
            Kind::Waiting(..) => self.refuse_without_owner(io, conn),
            Kind::Door(..) | Kind::Leaving(..) | Kind::Exchange(..) | Kind::Header(..) => {
                self.here.numbers.count(M::ConnectTimeouts);
                self.end(io, conn, End::KeepAliveTimeout);
            }
            Kind::Device { session, peer } if greeting_due.is_some_and(|due| due <= now) => {
                self.give_up_greeting(io, conn, session, peer);
            }
            Kind::Device { .. } => match connection.clock.check(now) {
                Check::Close => {
                    self.here.numbers.count(M::KeepAliveTimeouts);
                    self.end(io, conn, End::KeepAliveTimeout);
                }
                Check::Expired => self.expire_access(io, conn),
                Check::Again(_) | Check::Rest => {
                    let due = self.broker.keeping.holds.first_due(conn, connection.clock.deadline());
                    connection.timer = due.map(|at| io.set_timer(at, Timer::Connection(conn).token()));
                }
            },
            Kind::Link { .. } | Kind::Relayed(_) | Kind::Relay(_) | Kind::Trunk => {}
        }
    }

    /// Sets the single timer for all session expiries and due wills.
    fn set_session_timer(&mut self, io: &mut Ring<'_>) {
        if !self.broker.queues.have_all_told() {
            // Wills left by the previous process stay with their sessions until then.
            return;
        }
        if let Some(at) = self.broker.sessions.next_expiry() {
            io.set_timer_by(Timer::Sessions, at, &mut self.timers.sessions);
        }
    }

    fn session_time(&mut self, io: &mut Ring<'_>) {
        self.timers.sessions = None;
        self.tell_sessions_time(io);
        self.broker.sessions.expire(io.now());
    }

    /// Tells sessions the wall clock, where their records say when their clients left: in slots of `[broker]`.
    pub(super) fn tell_sessions_time(&mut self, io: &Ring<'_>) {
        if self.here.config.broker.is_some() {
            let (now, wall) = (io.now(), io.wall());
            let is_set = wall >= self.outlets.clock_set_after;
            self.broker.sessions.set_clocks(is_set.then_some((now, wall)));
        }
    }
}
