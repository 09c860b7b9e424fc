//! Requests of the control plane about clients and topics. Each looks at a bounded number of sessions.

use smallvec::SmallVec;

use forebay_broker::words::Search;
use forebay_kafka::types::NodeId;
use forebay_metrics::inspect::{
    Ask, Client, Connection, Filter, LOOKED_AT_MAX, NamedClient, Part, Partition, Subscription as Row, Told, Topic,
    Waiting, WantedClients,
};
use forebay_mqtt::route::filter;
use forebay_mqtt::route::shape;
use forebay_mqtt::route::trie::RULE;
use forebay_mqtt::topic::{split_shared, valid_filter_v5, valid_name};
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{End, QueueBounds, Session, SessionKey, Subscription};

use super::Core;
use super::connection::Connections;
use super::relay::Relays;
use super::ring::Ring;

impl Core {
    /// Answers a question of the control plane.
    pub(super) fn inspect(&mut self, io: &mut Ring<'_>, ask: Ask) -> Told {
        match ask {
            Ask::Clients { from, limit, wanted } => Told::Clients(self.clients(io, from, limit, &wanted)),
            Ask::Client(named) => self.of_client(&named, |core, key| {
                let (session, queue) =
                    (key.and_then(|key| core.broker.sessions.get(key)), core.broker.keeping.settings.queue);
                let gates = &core.broker.delivery.gates;
                let replay = |filter: &str| core.sources.replay(gates.number_of(key?, filter));
                Told::Client(session.map(|session| {
                    let filter = |of: &Subscription| Filter { replay: replay(&of.filter), ..filter_row(of) };
                    let filters = session.subscriptions().iter().map(filter).collect();
                    let of_session = client((&mut core.connections, &core.doors.relays), io, session, queue);
                    Box::new(Client { filters: Some(filters), ..of_session })
                }))
            }),
            Ask::Disconnect(client) => self.of_client(&client, |core, key| {
                let session = key.and_then(|key| core.broker.sessions.get(key));
                Told::Done(session.and_then(Session::conn).is_some_and(|conn| core.end_by_operator(io, conn)))
            }),
            Ask::Forget(client) => self.of_client(&client, |core, key| {
                let Some(key) = key else { return Told::Done(false) };
                if let Some(conn) = core.broker.sessions.forget(key) {
                    core.end_by_operator(io, conn);
                }
                Told::Done(true)
            }),
            Ask::Oldest => Told::Oldest(self.oldest()),
            Ask::Topics { from, limit, sink } => Told::Topics(self.topics(from, limit, sink)),
            Ask::Partitions { from, limit, sink } => Told::Partitions(self.partitions(io.now(), from, limit, sink)),
            Ask::Subscriptions { from, limit, topic, filter } => {
                self.subscriptions(from, limit, Wanted { topic: topic.as_deref(), filter: filter.as_deref() })
            }
            Ask::Shares { from, limit, search } => Told::Shares(self.broker.shares(io, from, limit, search.as_deref())),
            Ask::Retained { filter, from, limit } => self.broker.retained_messages(io, &filter, &from, limit),
            Ask::RetainedOf(topic) => Told::RetainedOf(self.broker.retained_message(io, &topic).map(Box::new)),
            Ask::ForgetRetained(topic) => Told::Done(self.broker.end_retained(&topic)),
            Ask::Sources { source, limit } => Told::Sources(self.inspect_sources(source, limit)),
            Ask::Seek(seek) => Told::Sought(self.seek_source(&seek)),
            Ask::Bridges { bridge } => Told::Bridges(self.inspect_bridges(io, bridge)),
            Ask::Top { of, by } => Told::Top(self.here.numbers.top.shown(of, by, io.now())),
            Ask::Matching(topic) => self.matching(&topic),
            Ask::Trace(of) => Told::Done(self.begin_trace(io, *of)),
            Ask::Traced(id) => {
                self.take_traced(io);
                let (packets, lost) = self.connections.traces.take(id);
                Told::Traced(packets, lost)
            }
            Ask::EndTrace(id) => Told::Done(self.end_trace(io, id)),
            Ask::EndBanned(from) => self.end_banned(io, from),
            Ask::Publish(of) => Told::Ordered(self.publish_ordered(io, &of)),
        }
    }

    /// Answers a question about one client's session, or, if several clients have the identifier and the question names none of them, with their names.
    fn of_client(&mut self, named: &NamedClient, of: impl FnOnce(&mut Self, Option<SessionKey>) -> Told) -> Told {
        let auth_of = |key: &SessionKey| {
            let session = self.broker.sessions.get(*key);
            session.and_then(|session| session.client().auth).unwrap_or_default().to_owned()
        };
        let is_client = |key: &SessionKey| self.broker.sessions.get(*key).is_some_and(|session| !session.is_remote());
        let is_meant =
            |key: &SessionKey| is_client(key) && named.auth.as_ref().is_none_or(|auth| *auth == auth_of(key));
        let found: SmallVec<[SessionKey; 2]> =
            self.broker.sessions.find_all(&named.client_id).filter(is_meant).collect();
        if found.len() > 1 {
            let mut auths: Vec<String> = found.iter().map(auth_of).collect();
            auths.sort();
            return Told::SeveralClients(auths);
        }
        of(self, found.first().copied())
    }

    /// The oldest rows, those on their way to a dead-letter topic included: Kafka does not have them either.
    fn oldest(&self) -> Vec<Option<i64>> {
        let mut oldest: Vec<Option<i64>> = vec![None; self.here.config.sinks.len()];
        for upstream in &self.outlets.upstreams {
            upstream.producer.oldest(|number, at| {
                if let Some(known) = upstream.members.concerns(number).and_then(|sink| oldest.get_mut(sink)) {
                    *known = Some(known.map_or(at, |known| known.min(at)));
                }
            });
        }
        oldest
    }

    /// Sinks and rules that a message of a topic would go to.
    fn matching(&self, topic: &str) -> Told {
        if !valid_name(topic) {
            return Told::Done(false);
        }
        let mut takers = SmallVec::new();
        self.outlets.router.matches(topic, &mut takers);
        let (rules, sinks): (Vec<u16>, Vec<u16>) = takers.into_iter().partition(|number| number & RULE != 0);
        let places = |of: Vec<u16>| of.into_iter().map(|number| usize::from(number & !RULE)).collect();
        Told::Matching(places(sinks), places(rules))
    }

    fn end_by_operator(&mut self, io: &mut Ring<'_>, conn: ConnId) -> bool {
        self.end(io, conn, End::Administrative);
        true
    }

    fn clients(&mut self, io: &Ring<'_>, from: u32, limit: usize, wanted: &WantedClients) -> Part<Client> {
        let (mut rows, mut next) = (Vec::new(), None);
        let search = wanted.search.as_deref().map(Search::new);
        for (looked_at, (position, session)) in self.broker.sessions.iter_from(from).enumerate() {
            if rows.len() == limit || looked_at == LOOKED_AT_MAX {
                next = Some(position);
                break;
            }
            let Some(session) = session.filter(|session| !session.is_remote()) else { continue };
            let is_found = |search: &Search<'_>| {
                let peer = session.conn().and_then(|conn| io.peer(conn)).map(|peer| peer.to_string());
                let texts = [Some(session.client_id()), session.username(), session.client().auth, peer.as_deref()];
                texts.into_iter().flatten().any(|text| search.is_in(text))
            };
            // The number of the listener that the client is connected to. `None`: it is offline.
            let listener = |connections: &mut Connections| {
                let connection = session.conn().and_then(|conn| connections.get(conn));
                connection.map(|connection| usize::from(connection.listener.0))
            };
            let fits = wanted.connected.is_none_or(|connected| connected == session.conn().is_some())
                && wanted.listener.is_none_or(|wanted| listener(&mut self.connections) == Some(wanted))
                && search.as_ref().is_none_or(is_found);
            if fits {
                rows.push(client(
                    (&mut self.connections, &self.doors.relays),
                    io,
                    session,
                    self.broker.keeping.settings.queue,
                ));
            }
        }
        Part { rows, next }
    }

    /// A page of subscriptions. A position is that of a session, followed by [`PLACE_BITS`] for that of a subscription among its own.
    fn subscriptions(&mut self, from: u64, limit: usize, wanted: Wanted<'_>) -> Told {
        if !wanted.is_valid() {
            return Told::Done(false);
        }
        let first = u32::try_from(from >> PLACE_BITS).unwrap_or(u32::MAX);
        let found = self.subscribers(wanted);
        let (mut rows, mut looked_at) = (Vec::new(), 0);
        // Returns the position to continue from, if it does not reach the end of a session.
        let mut look = |position: u32, session: Option<&Session>| {
            let place = |at: usize| u64::from(position) << PLACE_BITS | at as u64;
            if looked_at >= LOOKED_AT_MAX {
                return Some(place(0));
            }
            looked_at += 1;
            // Remotes of bridges are no clients.
            let session = session.filter(|session| !session.is_remote())?;
            let all = session.subscriptions();
            let skipped = if position == first { (from & ((1 << PLACE_BITS) - 1)) as usize } else { 0 };
            for (at, of) in all.iter().enumerate().skip(skipped).filter(|(_, of)| wanted.fits(of)) {
                if rows.len() == limit {
                    return Some(place(at));
                }
                rows.push(row(session, of, wanted.topic));
            }
            looked_at += all.len();
            None
        };
        let sessions = &self.broker.sessions;
        let next = match found {
            Some(keys) => {
                let keys = keys.into_iter().map(|key| (sessions.position(key), sessions.get(key)));
                keys.filter(|(position, _)| *position >= first).find_map(|(position, of)| look(position, of))
            }
            None => sessions.iter_from(first).find_map(|(position, session)| look(position, session)),
        };
        Told::Subscriptions(Part { rows, next })
    }

    /// The sessions with subscriptions that may match, in the order of their positions. `None`: there are too many, and all are checked in parts.
    fn subscribers(&mut self, wanted: Wanted<'_>) -> Option<Vec<SessionKey>> {
        let delivery = &mut self.broker.delivery;
        let mut filters = SmallVec::new();
        match wanted {
            Wanted { filter: Some(text), .. } => filters.extend(delivery.index.filter(text)),
            Wanted { topic: Some(topic), .. } => {
                let cut = shape::Topic::new(topic, delivery.index.interest().seed());
                delivery.index.matching(topic, &cut, &mut filters);
            }
            _ => return None,
        }
        let plain = filters.iter().flat_map(|filter| delivery.index.subscribers(*filter)).map(|of| of.session);
        let mut keys: Vec<_> = plain.take(LOOKED_AT_MAX + 1).collect();
        delivery.shares.add_members(wanted.topic, wanted.filter, LOOKED_AT_MAX + 1, &mut keys);
        if keys.len() > LOOKED_AT_MAX {
            return None;
        }
        keys.sort_unstable_by_key(|key| self.broker.sessions.position(*key));
        keys.dedup();
        Some(keys)
    }

    /// A page of the partitions that a sink writes to; a position is one of this row.
    fn partitions(&self, now: Monotonic, from: u32, limit: usize, wanted: usize) -> Part<Partition> {
        let all = self.outlets.upstreams.iter().flat_map(|upstream| {
            let own = upstream.members.own().filter(|(_, sink)| *sink == wanted);
            own.flat_map(move |(number, _)| {
                let address = |node: NodeId| (node.0, upstream.client.address_of(node));
                let partitions = upstream.producer.partitions(number, now);
                partitions.map(move |(topic, shown)| (topic, shown, shown.leader.map(address)))
            })
        });
        let (mut rows, mut next) = (Vec::new(), None);
        for (position, (topic, shown, leader)) in (0u32..).zip(all).skip(from as usize) {
            if rows.len() == limit {
                next = Some(position);
                break;
            }
            rows.push(Partition {
                topic: topic.to_owned(),
                partition: shown.partition,
                leader,
                records: shown.rows,
                spilled: shown.spilled,
                bytes: shown.bytes,
                batches: shown.undone,
                in_flight: shown.in_flight,
                oldest_ms: shown.oldest_ms,
                acknowledged: shown.acknowledged,
                state: shown.state,
            });
        }
        Part { rows, next }
    }

    /// A page of the topics of all clusters, one after the other; a position is one of this row.
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

/// Bits of a subscription's place among those of its session, of which there are at most
/// [`forebay_base::limits::SUBSCRIPTIONS_OF_SESSION_MAX`].
const PLACE_BITS: u32 = 16;

/// The requested subscriptions.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    topic: Option<&'a str>,
    filter: Option<&'a str>,
}

impl Wanted<'_> {
    fn is_valid(self) -> bool {
        self.topic.is_none_or(valid_name) && self.filter.is_none_or(valid_filter_v5)
    }

    fn fits(self, of: &Subscription) -> bool {
        let text = split_shared(&of.filter).map_or(&*of.filter, |(_, filter)| filter);
        self.filter.is_none_or(|wanted| *wanted == *of.filter)
            && self.topic.is_none_or(|topic| filter::matches(text, topic))
    }
}

fn row(session: &Session, of: &Subscription, topic: Option<&str>) -> Row {
    Row {
        client_id: session.client_id().to_owned(),
        auth: session.client().auth.map(str::to_owned),
        connected: session.conn().is_some(),
        filter: filter_row(of),
        may_read: topic.map(|topic| session.may_receive(topic, of.options.qos, false)),
    }
}

fn filter_row(of: &Subscription) -> Filter {
    Filter {
        filter: of.filter.to_string(),
        qos: of.options.qos as u8,
        options: (of.options.no_local, of.options.retain_as_published),
        retain_handling: of.options.retain_handling,
        identifier: Some(of.identifier).filter(|identifier| *identifier != 0),
        replay: None,
    }
}

fn client(
    (connections, relays): (&mut Connections, &Relays),
    io: &Ring<'_>,
    session: &Session,
    queue: QueueBounds,
) -> Client {
    let connection = session.conn().and_then(|conn| {
        let connection = connections.get(conn)?;
        let (listener, paused) = (usize::from(connection.listener.0), connection.stalled);
        let front = relays.front(conn).map(|front| front.to_string());
        Some(Connection { peer: io.peer(conn), listener, front, paused })
    });
    Client {
        client_id: session.client_id().to_owned(),
        auth: session.client().auth.map(str::to_owned),
        username: session.username().map(str::to_owned),
        connection,
        protocol: session.peer().version.as_str(),
        session_expiry_s: Some(session.expiry_s()).filter(|expiry| *expiry != u32::MAX),
        stored: session.number().is_some(),
        unanswered: session.answers_owed(),
        open_packet_ids: session.open_packet_ids(),
        subscriptions: session.subscriptions().len(),
        filters: None,
        unacknowledged: unacknowledged(session, io.now()),
        queued: queued(session, queue, io.now()),
        queued_bytes: session.queued_bytes(),
        queued_bytes_max: queue.bytes,
    }
}

/// Messages that a client has been sent and not acknowledged.
pub(super) fn unacknowledged(session: &Session, now: Monotonic) -> Waiting {
    let oldest_s = session.oldest_copies().0.map(|since| now.since(since).as_secs());
    Waiting { messages: session.copies().0, messages_max: session.send_maximum(), oldest_s }
}

/// Messages that wait for a client.
pub(super) fn queued(session: &Session, queue: QueueBounds, now: Monotonic) -> Waiting {
    let oldest_s = session.oldest_copies().1.map(|since| now.since(since).as_secs());
    Waiting { messages: session.copies().1, messages_max: queue.messages, oldest_s }
}
