//! The shard's work for clients: it calls sessions in the same order, writes the records that they have to keep to the log, and holds
//! back their output until that is durable.

use super::{Clients, Connection, Message, Up};
use crate::kafka::producer::row_log::Origin;
use crate::kafka::types::{Outcome, Run, SinkId, Ticket};
use crate::mqtt::packet::{Ack, Connect, Packet, Publish, QoS, Version};
use crate::mqtt::property::{Properties, Property, PropertyBuf};
use crate::mqtt::reason::ReasonCode;
use crate::runtime::seam::Came;
use crate::session::{Arrival, End, HadBy, Next, Note, OpenId, Reason, SessionKey, Sessions, Taken};
use crate::sim::store::Store;
use crate::sim::world::World;

impl World {
    /// Lets clients act, and serves them.
    pub(in crate::sim) fn clients_go_on(&mut self, more: bool) {
        let Some(clients) = &mut self.clients else { return };
        clients.go_on(more, &mut self.disk_rng);
        self.serve();
        self.tell_clients();
    }

    /// Whether every exchange is over.
    pub(in crate::sim) fn clients_rest(&self) -> bool {
        self.clients.as_ref().is_none_or(Clients::rest)
    }

    /// Handles one packet of one client.
    fn serve(&mut self) {
        let index = self.disk_rng.usize(..self.clients.as_ref().map_or(1, |clients| clients.clients.len()));
        let Some(mut clients) = self.clients.take() else { return };
        if let Some(mut connection) = clients.clients[index].connection.take() {
            let name = clients.clients[index].name.clone();
            let goes_on = self.packet(&mut clients, &mut connection, &name);
            if goes_on {
                clients.clients[index].connection = Some(connection);
            }
        }
        self.clients = Some(clients);
    }

    /// Handles a packet. Returns false if the connection ends.
    fn packet(&mut self, clients: &mut Clients, connection: &mut Connection, name: &str) -> bool {
        let (now, mut out) = (self.clock.now(), Vec::new());
        let Some(up) = connection.up.front().copied() else { return true };
        self.note(|| format!("{name}: {up:?}"));
        let goes_on = match (up, connection.key) {
            (Up::Connect { clean }, _) => {
                let Some(store) = &mut self.store else { return true };
                clients.sessions.set_room(store.session_room());
                let mut properties = PropertyBuf::new();
                properties.push(Property::SessionExpiryInterval(u32::MAX));
                let connect = Connect {
                    version: Version::V5,
                    is_bridge: false,
                    clean_start: clean,
                    keep_alive_s: 0,
                    client_id: name,
                    will: None,
                    username: None,
                    password: None,
                    properties: properties.as_properties(),
                };
                let arrival = Arrival { conn: connection.id, assigned_id: None, admission: None, came: Came::at(now) };
                let connected = clients.sessions.connect(&connect, arrival, now, &clients.settings, &mut out);
                connection.key = connected.ok().map(|connected| connected.key);
                connection.key.is_some()
            }
            (Up::Publish { id, message, dup }, Some(key)) => {
                match self.publish(clients, key, (id, message, dup)) {
                    Some(goes_on) => goes_on,
                    // There is no room: the packet is left unread.
                    None => return true,
                }
            }
            (Up::Release { id }, Some(key)) => {
                let ack = Ack { packet_id: id, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY };
                let session = clients.sessions.get_mut(key).expect("the session of a connection");
                session.packet(&Packet::PubRel(ack), &mut out) == Next::Go
            }
            (_, None) => false,
        };
        connection.up.pop_front();
        let Some(key) = connection.key else { return false };
        clients.sessions.collect(key);
        clients.say(self.store.as_mut(), connection, key, out);
        if clients.sessions.get(key).is_none_or(|session| session.number().is_none()) {
            // The log has no room for the session, and its client has had no answer.
            clients.sessions.withdraw(key, connection.id, now);
            return false;
        }
        if !goes_on {
            clients.wrong.get_or_insert(format!("{name} is thrown out at {up:?}"));
            clients.sessions.disconnected(key, connection.id, End::Lost, now);
        }
        goes_on
    }

    /// Handles a PUBLISH. `None`: there is no room.
    fn publish(
        &mut self,
        clients: &mut Clients,
        key: SessionKey,
        (id, index, dup): (u16, usize, bool),
    ) -> Option<bool> {
        let message: Message = clients.messages[index].clone();
        let qos = if message.exactly_once { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let session = clients.sessions.get(key).expect("the session of a connection");
        let already_taken_by: Vec<usize> = match message.exactly_once {
            true => session.already_taken_by(id).iter().map(|sink| usize::from(*sink)).collect(),
            false => Vec::new(),
        };
        let wanted: Vec<usize> =
            message.sinks.iter().copied().filter(|sink| !already_taken_by.contains(sink)).collect();
        if session.is_blocked() || !self.has_room(&wanted, message.topic) {
            return None;
        }
        let publish =
            Publish { dup, qos, retain: false, topic: "t", packet_id: id, properties: Properties::EMPTY, payload: b"" };
        let now = self.clock.now();
        let (number, owed) = match clients.sessions.publish(key, &publish, now) {
            Some(Taken::Take { number, .. }) => (number, 0),
            Some(Taken::Rest { number, owed, .. }) => (number, owed),
            Some(Taken::Repeat) => return Some(true),
            Some(Taken::TakeQos0 { .. } | Taken::Violation(_)) | None => return Some(false),
        };
        let session = clients.sessions.get_mut(key).expect("the session of a connection");
        let is_kept = session.number().filter(|_| message.exactly_once);
        let origin = is_kept.map(|session| Origin { session, packet_id: id });
        let ticket = Ticket { session: key.to_bits(), number };
        for sink in &wanted {
            let row = self.take(*sink, message.topic, ticket, origin);
            clients.messages[index].rows.push(row);
        }
        let is_logged =
            wanted.iter().any(|sink| self.store.as_ref().is_some_and(|store| store.keeps(SinkId(*sink as u16))));
        let session = clients.sessions.get_mut(key).expect("the session of a connection");
        if origin.is_some() && is_logged {
            session.logged(id);
        }
        session.opened(number, owed + wanted.len() as u16, Reason::Success);
        Some(true)
    }

    /// Ends a turn: sends answers, and the output that has become durable.
    pub(in crate::sim) fn answer_clients(&mut self) {
        let Some(clients) = &mut self.clients else { return };
        clients.sessions.try_again();
        clients.write_down(self.store.as_mut());
        for index in 0..clients.clients.len() {
            let Some(mut connection) = clients.clients[index].connection.take() else { continue };
            let mut out = Vec::new();
            if let Some(key) = connection.key {
                if let Some(session) = clients.sessions.get_mut(key) {
                    session.drain_answers(&mut out);
                }
                clients.sessions.collect(key);
                clients.say(self.store.as_mut(), &mut connection, key, out);
            }
            clients.clients[index].connection = Some(connection);
        }
    }

    /// Sends the output that has become durable.
    pub(in crate::sim) fn tell_clients(&mut self) {
        let (Some(clients), Some(store), rules) = (&mut self.clients, &self.store, self.scope.rules) else { return };
        for connection in clients.clients.iter_mut().filter_map(|client| client.connection.as_mut()) {
            while connection.held.front().is_some_and(|(group, _)| rules.may_tell(*group, store.durable())) {
                connection.down.extend(connection.held.pop_front().map(|(_, bytes)| bytes).unwrap_or_default());
            }
        }
    }

    /// Cuts a client's connection.
    pub(in crate::sim) fn cut_client(&mut self) {
        let now = self.clock.now();
        let Some(clients) = &mut self.clients else { return };
        let index = self.disk_rng.usize(..clients.clients.len());
        let Some(connection) = clients.clients[index].connection.take() else { return };
        if let Some(key) = connection.key {
            clients.sessions.disconnected(key, connection.id, End::Lost, now);
            clients.write_down(self.store.as_mut());
        }
    }

    /// Closes all connections, as an orderly stop does.
    pub(in crate::sim) fn say_goodbye(&mut self) {
        let now = self.clock.now();
        let Some(clients) = &mut self.clients else { return };
        for index in 0..clients.clients.len() {
            let connection = clients.clients[index].connection.take();
            if let Some((key, id)) = connection.and_then(|connection| Some((connection.key?, connection.id))) {
                clients.sessions.disconnected(key, id, End::ShuttingDown, now);
            }
        }
        clients.write_down(self.store.as_mut());
    }

    /// Restores the sessions that the log has, after a crash.
    pub(in crate::sim) fn restore_clients(&mut self, restored: &[crate::buffer::RestoredSession]) {
        let (now, rules) = (self.clock.now(), self.scope.rules);
        let (Some(clients), Some(store)) = (&mut self.clients, &mut self.store) else { return };
        clients.clients.iter_mut().for_each(|client| client.connection = None);
        clients.sessions = Sessions::new();
        clients.sessions.keep();
        for session in restored.iter().filter(|_| rules.restores_sessions()) {
            let already_taken_by: Vec<Vec<HadBy>> = session
                .open
                .iter()
                .map(|id| {
                    id.rows.iter().map(|row| HadBy { sink: row.sink.0, owes: row.is_live && row.is_owed }).collect()
                })
                .collect();
            let open: Vec<OpenId<'_>> = session
                .open
                .iter()
                .zip(&already_taken_by)
                .filter(|_| rules.restores_packet_ids())
                .map(|(id, already_taken_by)| OpenId { packet_id: id.packet_id, already_taken_by })
                .collect();
            let mut owed = Vec::new();
            let key = clients
                .sessions
                .restore(session.number, &session.payload, &open, &clients.settings, now, |id, number| {
                    owed.push((id, number))
                })
                .ok()
                .flatten()
                .expect("a session that was kept");
            for (id, number) in owed {
                store.await_row(session.number, id, Ticket { session: key.to_bits(), number });
            }
        }
        clients.write_down(Some(store));
    }
}

impl Clients {
    /// Passes on a sink's answer.
    pub(in crate::sim) fn complete(&mut self, run: Run, outcome: Outcome) {
        let reason = match outcome {
            Outcome::Delivered | Outcome::DeadLettered => Reason::Success,
            Outcome::Refused(_) => Reason::KafkaRejected,
        };
        let key = SessionKey::from_bits(run.session);
        if let Some(session) = self.sessions.get_mut(key) {
            session.complete(run.first, run.count, reason);
        }
        self.sessions.collect(key);
    }

    /// Writes the records that must be kept, then holds back the output until they are durable.
    fn say(&mut self, store: Option<&mut Store>, connection: &mut Connection, key: SessionKey, out: Vec<u8>) {
        self.write_down(store);
        if !out.is_empty() {
            let group = self.sessions.written(key);
            connection.held.push_back((group, out));
        }
    }

    fn write_down(&mut self, store: Option<&mut Store>) {
        let Some(store) = store else { return };
        while let Some(note) = self.sessions.next_note() {
            match note {
                Note::Kept(key) => {
                    let mut payload = Vec::new();
                    let Some(number) = self.sessions.payload(key, |_| true, &mut payload) else { continue };
                    match store.keep_session(number, &payload) {
                        Some((number, group)) => self.sessions.kept(key, number, group),
                        None => _ = self.sessions.not_kept(key),
                    }
                }
                Note::Ended { number, .. } | Note::WillOver { number } => store.end_session(number),
                Note::Released { session, number, packet_id } => {
                    let group = store.release(number, packet_id);
                    self.sessions.waits_for(session, group);
                }
            }
        }
    }
}
