//! Bridges: Forebay as a client of other MQTT brokers.
//!
//! | file | |
//! |---|---|
//! | `bindings` | bridges that are Dapr's bindings |
//! | `connection` | a connection to a remote, from its first byte to its end |
//! | `messages` | its input: messages of the remote, and packets that only a server sends |
//! | `refused` | messages that the remote refuses: sent again, or dead letters |
//! | `told` | metrics and events |
//! | `inspect` | bridges in the control plane |
//!
//! A bridge is a [`Client`], which has the way to the remote, and a session, which has the messages of both ways. The session is on the shard
//! that its name chooses, and is there with a remote or without: it subscribes here to what the bridge's `out` filters say. Once the remote
//! has accepted the client, its connection is that of a device, and its packets are those of a server.

mod bindings;
mod connection;
mod inspect;
mod messages;
mod refused;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use forebay_bridge::{self as bridge, Client, Rounds, Scratch, Standing, Wanted};
use forebay_broker::router::Place;
use forebay_config::{Bridge, BridgeIn, Config};
use forebay_guard::edge::Edge;
use forebay_guard::outward::LinkId;
use forebay_mqtt::packet::{QoS, SubscriptionOptions};
use forebay_runtime::seam::{ConnId, Monotonic, TimerId};
use forebay_session::{QueueBounds, Session, SessionKey, Wish};

use self::bindings::Binding;
pub use self::connection::layer;
use self::refused::Refusals;
use self::told::Counts;
use super::Core;
use super::carrier::Carrier;
use super::ring::Ring;
use super::words::Far;

/// The bridges of a shard.
#[derive(Default)]
pub(super) struct Bridges {
    /// Bridges with their session here, by index in the configuration.
    all: BTreeMap<usize, Running>,
    /// The indexes of bridges, by session.
    places: HashMap<SessionKey, usize>,
    /// The indexes of bridges that are bindings.
    bindings: BTreeSet<usize>,
    /// Whether their metrics are on the board, and none can have changed since.
    is_shown: bool,
    scratch: Scratch,
    /// Whether clients are accepted: before that no remote is connected to.
    is_open: bool,
    /// Whether dead letters of some bridge were answered.
    has_answers: bool,
    /// Dead letters begun, and uses of their files: each has a number, which wraps.
    letters_begun: u32,
    files_used: usize,
}

/// A bridge with its session here.
struct Running {
    client: Client,
    carrier: Carrier,
    session: SessionKey,
    /// The client identifier of the session.
    name: Box<str>,
    /// The connection that carries messages.
    at: Option<(LinkId, ConnId)>,
    /// The time since which it is there, or is not.
    since: Monotonic,
    /// The remote's answers for the filters.
    standings: Vec<Standing>,
    /// Whether the remote has refused some filters over the present connection.
    is_partial: bool,
    /// The most messages of QoS 1 and 2 on their way to the remote, if it has closed connections with as many as it may have had.
    in_flight_max: u16,
    /// The time by which the remote's retained messages have arrived.
    settled_at: Monotonic,
    /// The bytes to come of a packet that is passed over.
    passed_over: usize,
    /// Packet identifiers of QoS 2 that the remote has forgotten, and that are not free here yet.
    forgets: Vec<u16>,
    /// Messages that the remote has refused.
    refusals: Refusals,
    /// Whether the client may have something to do.
    busy: bool,
    timer: Option<(Monotonic, TimerId)>,
    counts: Counts,
    binding: Binding,
    /// The digits for the remote in messages that come from it.
    mark: String,
    /// Messages of a remote before 5.0, by their contents.
    rounds: Rounds,
}

/// The client identifier of a bridge's session.
pub fn session_name(bridge: &Bridge) -> String {
    format!("bridge/{}", bridge.name)
}

/// The remote's address, and the identity that the bridge has there.
fn known_as(bridge: &Bridge) -> String {
    format!("{}@{}", bridge.client_id, bridge.url.endpoint())
}

/// The filters that are requested from the remote, each once. `is_wanted`: the application wants the messages of a binding.
fn wanted(bridge: &Bridge, is_wanted: bool) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    if bridge.binding.is_some() && !is_wanted {
        return wanted;
    }
    for of in &bridge.ins {
        let options = SubscriptionOptions {
            qos: of.qos,
            // A share has no No Local [MQTT-3.8.3-4]. A binding gets what its application has published, as in Dapr.
            no_local: of.share.is_none() && bridge.binding.is_none(),
            retain_as_published: true,
            retain_handling: of.takes.retained.handling(),
        };
        for filter in of.asked() {
            if !wanted.iter().any(|known| *known.filter == *filter) {
                wanted.push(Wanted { filter: filter.into(), options });
            }
        }
    }
    wanted
}

impl Bridges {
    /// The bridge of a session, with its index in the configuration.
    fn of(&mut self, session: SessionKey) -> Option<(usize, &mut Running)> {
        let index = *self.places.get(&session)?;
        self.is_shown = false;
        Some((index, self.all.get_mut(&index)?))
    }

    /// The number of received bytes, of this many, that belong to a packet that is passed over.
    pub(super) fn pass_over(&mut self, session: SessionKey, bytes: usize) -> usize {
        let Some((_, running)) = self.of(session).filter(|(_, running)| running.passed_over > 0) else { return 0 };
        let now = running.passed_over.min(bytes);
        running.passed_over -= now;
        now
    }
}

impl Core {
    /// Begins to connect: clients are accepted from now on.
    pub(super) fn open_bridges(&mut self, io: &mut Ring<'_>) {
        self.bridges.is_open = true;
        let config = Arc::clone(&self.here.config);
        for (index, running) in &mut self.bridges.all {
            if !config.bridges[*index].paused {
                running.client.start(io.now());
                running.busy = true;
            }
        }
    }

    /// Takes up the sessions of bridges, before any client can publish. Sessions of bridges that are no longer in the configuration end.
    pub(super) fn take_up_bridges(&mut self, io: &mut Ring<'_>) {
        let config = Arc::clone(&self.here.config);
        let is_known =
            |session: &Session| config.bridges.iter().any(|bridge| session_name(bridge) == session.client_id());
        let all = self.broker.sessions.iter_from(0).filter_map(|(_, session)| session);
        let gone = all
            .filter(|session| session.is_remote() && !is_known(session))
            .map(|session| session.client_id().to_owned());
        for name in gone.collect::<Vec<_>>() {
            let key = self.broker.sessions.of_bridge(&name, &self.broker.keeping.settings, io.now());
            self.broker.sessions.forget(key);
        }
        for index in 0..config.bridges.len() {
            self.begin_bridge(io, index, None);
        }
        self.broker.write_notes(&mut self.here);
    }

    /// Begins the bridges that have their sessions in a slot that has come.
    pub(super) fn begin_bridges_of(&mut self, io: &mut Ring<'_>, slot: u16) {
        for index in self.bridges_of(slot) {
            self.begin_bridge(io, index, None);
        }
        self.broker.write_notes(&mut self.here);
    }

    /// Ends the bridges that have their sessions in a slot that leaves.
    pub(super) fn end_bridges_of(&mut self, io: &mut Ring<'_>, slot: u16) {
        for index in self.bridges_of(slot) {
            self.end_bridge(io, index, false);
            if let Some(running) = self.bridges.all.remove(&index) {
                self.bridges.places.remove(&running.session);
                self.here.numbers.clear_bridge(index);
            }
        }
    }

    fn bridges_of(&self, slot: u16) -> Vec<usize> {
        let bridges = &self.here.config.bridges;
        let is_of = |bridge: &Bridge| self.here.slots.slot(&session_name(bridge)) == Some(slot);
        bridges.iter().enumerate().filter(|(_, bridge)| is_of(bridge)).map(|(index, _)| index).collect()
    }

    /// Takes another configuration. A changed bridge connects again. Its session stays, with the messages in it.
    pub(super) fn change_bridges(&mut self, io: &mut Ring<'_>, before: &Config, edge_before: &Edge) {
        let config = Arc::clone(&self.here.config);
        self.bridges.is_shown = false;
        for (index, bridge) in config.bridges.iter().enumerate() {
            let known = before.bridges.get(index);
            if known == Some(bridge) && edge_before.bridge(index) == self.here.edge.bridge(index) {
                continue;
            }
            self.end_bridge(io, index, bridge.is_removed);
            self.begin_bridge(io, index, known);
        }
        self.broker.write_notes(&mut self.here);
    }

    /// Begins a bridge that has its session on this shard.
    fn begin_bridge(&mut self, io: &mut Ring<'_>, index: usize, before: Option<&Bridge>) {
        let config = Arc::clone(&self.here.config);
        let bridge = &config.bridges[index];
        let name = session_name(bridge);
        if bridge.is_removed || self.here.slots.place(&name) != Place::Here(self.here.index) {
            return;
        }
        let now = io.now();
        let session = self.broker.sessions.of_bridge(&name, &self.broker.keeping.settings, now);
        let bounds = QueueBounds {
            messages: bridge.queue_messages_max,
            bytes: bridge.queue_bytes_max,
            drops_newest: bridge.drops_newest,
            counts_sent: false,
        };
        self.broker.delivery.remotes.insert(session, forebay_broker::settings::queue(&config, bounds));
        self.subscribe_bridge(io, session, (index, bridge));
        let had = self.bridges.all.remove(&index);
        let (counts, binding) = had.map(|of| (of.counts, of.binding)).unwrap_or_default();
        let wanted = wanted(bridge, binding.is_wanted);
        let had = before.filter(|before| !before.is_removed).into_iter().flat_map(|before| &before.ins);
        let is_gone = |filter: &String| !wanted.iter().any(|known| *known.filter == **filter);
        let gone = had.flat_map(BridgeIn::asked).filter(is_gone).map(Into::into).collect();
        let tls = self.here.edge.bridge(index).cloned();
        let settings = bridge.settings(tls, config.mqtt.packet_bytes_max, wanted);
        let mut client = Client::new(bridge::Settings { gone, ..settings }, self.random.u64(..));
        let known_as = known_as(bridge);
        let knows = |session: &Session| session.username().is_none_or(|known| known == known_as);
        if !self.broker.sessions.get(session).is_some_and(knows) {
            // Another remote, or another client there, knows nothing of this session.
            client.begin_anew();
        }
        if self.bridges.is_open && !bridge.paused {
            client.start(now);
        }
        let (mut owed, mut next) = (0, 0);
        if let Some(found) = self.broker.sessions.get_mut(session) {
            found.take_refused_up();
            (owed, next) = found.owed_numbers();
            let (open, waiting) = found.undelivered();
            if before.is_none() {
                // An earlier process has left these copies.
                self.broker.delivery.remotes.begins(session, open + waiting);
            }
        }
        let file = self.file_of_bridge(index);
        let counts = Counts { numbered: next, owed, ..counts };
        let running = Running {
            client,
            carrier: Carrier::new(Far::Bridge(index)),
            session,
            name: name.into(),
            at: None,
            since: now,
            standings: Vec::new(),
            is_partial: false,
            in_flight_max: u16::MAX,
            settled_at: Monotonic::NEVER,
            passed_over: 0,
            forgets: Vec::new(),
            refusals: Refusals::new(file),
            busy: true,
            timer: None,
            counts,
            binding,
            mark: bridge::mark(None, &bridge.instance, &bridge.url),
            rounds: Rounds::default(),
        };
        self.bridges.all.insert(index, running);
        self.bridges.places.insert(session, index);
        if bridge.binding.is_some() {
            self.bridges.bindings.insert(index);
        }
    }

    /// Subscribes the session of a bridge to its `out` filters, and to nothing else. The first `out` with a filter has it.
    fn subscribe_bridge(&mut self, io: &mut Ring<'_>, key: SessionKey, (index, bridge): (usize, &Bridge)) {
        let mut wanted: Vec<(&str, u32)> = Vec::new();
        for out in &bridge.outs {
            for filter in &out.filters {
                if !wanted.iter().any(|(known, _)| known == filter) {
                    wanted.push((filter, Bridge::identifier(&out.name)));
                }
            }
        }
        let had = self.broker.sessions.get(key).map(|session| session.subscriptions().to_vec()).unwrap_or_default();
        for old in had.iter().filter(|old| !wanted.contains(&(&old.filter, old.identifier))) {
            self.broker.unsubscribe_from(&self.here, key, &old.filter);
        }
        self.broker.measure_room_of(&mut self.here, key);
        for (filter, identifier) in wanted {
            if had.iter().any(|old| (&*old.filter, old.identifier) == (filter, identifier)) {
                continue;
            }
            let options = SubscriptionOptions {
                qos: QoS::ExactlyOnce,
                // G10: a message never goes out by the bridge that it came in by.
                no_local: true,
                retain_as_published: true,
                retain_handling: 2,
            };
            if let Err(refused) = self.broker.subscribe_to(
                io,
                &mut self.here,
                key,
                Wish { filter, options, identifier, replay_from: None },
            ) {
                self.tell_bridge_filter_refused(io.now(), index, filter, refused.what);
            }
        }
        self.broker.write_down(&mut self.here, key);
    }

    /// Ends the connection of a bridge, and its session if the bridge is gone.
    fn end_bridge(&mut self, io: &mut Ring<'_>, index: usize, is_removed: bool) {
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        let (session, at) = (running.session, running.at);
        self.bridges.bindings.remove(&index);
        running.client.stop(io.now());
        if let Some((link, conn)) = at {
            // The remote is sent DISCONNECT before the client aborts the connection.
            running.carrier.let_go(link);
            self.leave_remote(io, conn, session);
        }
        self.pump_bridge(io, index);
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        running.carrier.close_all(io, &mut self.connections);
        if let Some((_, timer)) = running.timer.take() {
            io.cancel_timer(timer);
        }
        if is_removed {
            self.bridges.all.remove(&index);
            self.bridges.places.remove(&session);
            self.broker.delivery.remotes.remove(session);
            self.broker.sessions.forget(session);
            self.broker.write_notes(&mut self.here);
        }
    }

    /// Takes the bridges a step on: at the beginning of a turn's end.
    pub(super) fn work_on_bridges(&mut self, io: &mut Ring<'_>) {
        if self.bridges.all.is_empty() {
            return;
        }
        self.settle_refusals(io);
        let busy = self.bridges.all.iter().filter(|(_, running)| running.busy).map(|(index, _)| *index);
        for index in busy.collect::<Vec<_>>() {
            self.pump_bridge(io, index);
        }
        for index in self.bridges.bindings.iter().copied().collect::<Vec<_>>() {
            self.work_on_binding(io, index);
        }
        let has_counted = self.broker.delivery.remotes.take_counted();
        if has_counted {
            self.tell_loops(io.now());
        }
        if has_counted || !self.bridges.is_shown {
            self.set_bridge_numbers();
        }
    }

    /// Handles the timer of a bridge.
    pub(super) fn bridge_time(&mut self, io: &mut Ring<'_>, index: usize) {
        self.bridges.is_shown = false;
        let Some(running) = self.bridges.all.get_mut(&index) else { return };
        (running.timer, running.busy) = (None, true);
        self.bridges.has_answers |= running.refusals.next_deadline() <= io.now();
        if self.drain.own.is_some() {
            return;
        }
        if let Some((_, conn)) = running.at {
            let is_read = self.connections.get(conn).is_some_and(|connection| !connection.stalled);
            running.client.is_read(is_read);
        }
        let carrier = &running.carrier;
        running.client.on_time(|link| carrier.unacked(io, link), io.now());
    }
}
