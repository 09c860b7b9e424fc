//! Questions of the control plane about clients and topics, and its wishes. Each looks at a bounded number of sessions.

use crate::metrics::inspect::{Ask, Client, Connection, Filter, LOOKED_AT_MAX, Part, Told, Topic};
use crate::runtime::seam::ConnId;
use crate::session::{End, Session, Subscription};

use super::connection::Connections;
use super::{Core, Ring};

impl Core {
    /// What the control plane is told.
    pub(super) fn inspect(&mut self, io: &mut Ring<'_>, ask: Ask) -> Told {
        match ask {
            Ask::Clients { from, limit, search, connected } => {
                Told::Clients(self.clients(io, from, limit, search.as_deref(), connected))
            }
            Ask::Client(client_id) => {
                let session = self.sessions.find(&client_id).and_then(|key| self.sessions.get(key));
                Told::Client(session.map(|session| Box::new(whole_client(&mut self.connections, io, session))))
            }
            Ask::Disconnect(client_id) => {
                let session = self.sessions.find(&client_id).and_then(|key| self.sessions.get(key));
                Told::Done(session.and_then(Session::conn).is_some_and(|conn| self.end_by_operator(io, conn)))
            }
            Ask::Forget(client_id) => {
                let Some(key) = self.sessions.find(&client_id) else { return Told::Done(false) };
                if let Some(conn) = self.sessions.forget(key) {
                    self.end_by_operator(io, conn);
                }
                Told::Done(true)
            }
            Ask::Oldest => Told::Oldest(self.oldest()),
            Ask::Topics { from, limit, sink } => Told::Topics(self.topics(from, limit, sink)),
            Ask::Retained { filter, from, limit } => self.retained_messages(io, &filter, &from, limit),
            Ask::RetainedOf(topic) => Told::RetainedOf(self.retained_message(io, &topic).map(Box::new)),
            Ask::ForgetRetained(topic) => Told::Done(self.end_retained(&topic)),
        }
    }

    /// With those on their way to a dead-letter topic: Kafka does not have them either.
    fn oldest(&self) -> Vec<Option<i64>> {
        let mut oldest: Vec<Option<i64>> = vec![None; self.around.config.sinks.len()];
        for upstream in &self.outlets.upstreams {
            upstream.producer.oldest(|number, at| {
                if let Some(known) = upstream.members.concerns(number).and_then(|sink| oldest.get_mut(sink)) {
                    *known = Some(known.map_or(at, |known| known.min(at)));
                }
            });
        }
        oldest
    }

    fn end_by_operator(&mut self, io: &mut Ring<'_>, conn: ConnId) -> bool {
        self.end(io, conn, End::Administrative);
        true
    }

    fn clients(
        &mut self,
        io: &Ring<'_>,
        from: u32,
        limit: usize,
        search: Option<&str>,
        connected: Option<bool>,
    ) -> Part<Client> {
        let (mut rows, mut next) = (Vec::new(), None);
        for (looked_at, (position, session)) in self.sessions.iter_from(from).enumerate() {
            if rows.len() == limit || looked_at == LOOKED_AT_MAX {
                next = Some(position);
                break;
            }
            let Some(session) = session else { continue };
            let fits = search.is_none_or(|search| session.client_id().contains(search))
                && connected.is_none_or(|connected| connected == session.conn().is_some());
            if fits {
                rows.push(client(&mut self.connections, io, session));
            }
        }
        Part { rows, next }
    }

    /// Topics of all clusters, one after the other; a position is one of this row.
    fn topics(&self, from: u32, limit: usize, wanted: Option<usize>) -> Part<Topic> {
        let all = self.outlets.upstreams.iter().flat_map(|upstream| {
            upstream.members.own().flat_map(|(number, sink)| {
                let topics = upstream.producer.topics(number);
                topics.map(move |(name, partitions, buffered_bytes)| (sink, name, partitions, buffered_bytes))
            })
        });
        let (mut rows, mut next) = (Vec::new(), None);
        for (looked_at, (position, (sink, name, partitions, buffered_bytes))) in
            (0u32..).zip(all).skip(from as usize).enumerate()
        {
            if rows.len() == limit || looked_at == LOOKED_AT_MAX {
                next = Some(position);
                break;
            }
            if wanted.is_none_or(|wanted| wanted == sink) {
                rows.push(Topic { sink, name: name.to_owned(), partitions, buffered_bytes });
            }
        }
        Part { rows, next }
    }
}

fn client(connections: &mut Connections, io: &Ring<'_>, session: &Session) -> Client {
    let connection = session.conn().and_then(|conn| {
        let connection = connections.get(conn)?;
        let (listener, paused) = (usize::from(connection.listener.0), connection.stalled);
        Some(Connection { peer: io.peer(conn), listener, paused })
    });
    Client {
        client_id: session.client_id().to_owned(),
        username: session.username().map(str::to_owned),
        connection,
        protocol: session.peer().version.as_str(),
        session_expiry_s: Some(session.expiry_s()).filter(|expiry| *expiry != u32::MAX),
        stored: session.number().is_some(),
        unanswered: session.answers_owed(),
        open_packet_ids: session.open_packet_ids(),
        subscriptions: session.subscriptions().len(),
        filters: None,
        deliveries: session.copies(),
    }
}

/// With its subscriptions.
fn whole_client(connections: &mut Connections, io: &Ring<'_>, session: &Session) -> Client {
    let filter = |of: &Subscription| Filter {
        filter: of.filter.to_string(),
        qos: of.options.qos as u8,
        options: (of.options.no_local, of.options.retain_as_published),
        identifier: Some(of.identifier).filter(|identifier| *identifier != 0),
    };
    let filters = session.subscriptions().iter().map(filter).collect();
    Client { filters: Some(filters), ..client(connections, io, session) }
}
