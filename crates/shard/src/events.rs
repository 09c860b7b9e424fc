//! Events for an operator: topics that Kafka does not have or refuses to Forebay, clusters that become reachable or unreachable, connections that are ended
//! for their packets.

use forebay_base::address::Address;
use forebay_broker::words::{clipped, of_client, second};
use forebay_guard::auth::Access;
use forebay_guard::outward::LoginRefused;
use forebay_kafka::producer::News;
use forebay_kafka::types::{BrokerUnreachable, SinkId};
use forebay_metrics::event::{Event, Field, Kind};
use forebay_metrics::spec::{ClusterMetric, KafkaError, ShardMetric as M};
use forebay_runtime::seam::{Closed, ConnId, Facts, LayerError, LayerFault, Monotonic};
use forebay_session::{End, Session, SessionKey, Violation};

use super::ring::Ring;

use super::Core;

/// The addition to the reason why a broker that is not in `bootstrap` cannot be used.
const ADVERTISED: &str = "; the address comes from the broker's `advertised.listeners`";

/// The consequence of requests that are too large.
const SMALLER: &str = "requests of at most half that size are sent from now on, until the next start";
const ONE_RECORD: &str = "it is one record, which is sent again and again; `record_bytes_max` limits them";

/// The reason for the end of a connection, in words.
const fn words(end: End) -> &'static str {
    match end {
        End::Left | End::LeftWithWill => "the client disconnected",
        End::Lost => "the connection was lost",
        End::Violation(violation) => violation.what,
        End::KeepAliveTimeout => "nothing was received within the keep-alive, or no CONNECT in time",
        End::TakenOver => "the same client id connected again",
        End::ShuttingDown => "the service is stopping",
        End::Moved => "another instance serves the client from now on",
        End::AnswerTimeout => "an acknowledgement was held longer than answer_timeout",
        End::Administrative => "an administrator disconnected it",
        End::Revoked => {
            "its user was removed or has another password, its certificate was revoked, or the key of its token was withdrawn"
        }
        End::Expired => "its token has expired",
        End::NotExpressible => "a publish or SUBSCRIBE was refused, and MQTT 3.x cannot say so",
    }
}

impl Core {
    /// Records that a cluster became reachable or unreachable.
    pub(super) fn tell_reachable(&mut self, cluster: usize, reachable: bool, now: Monotonic) {
        let kind = if reachable { Kind::KafkaReachable } else { Kind::KafkaUnreachable };
        let name = &self.here.config.clusters[cluster].name;
        let away = &mut self.outlets.upstreams[cluster].away_since;
        let outage = if reachable { away.take() } else { away.replace(now).and(None) };
        let outage = outage.map(|since| u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX));
        self.here
            .teller
            .tell(kind, second(now), |event| event.with(Field::Kafka, name.as_str()).maybe(Field::OutageMs, outage));
    }

    /// Records that a broker of a cluster cannot be used, or is of use again.
    pub(super) fn tell_broker(&mut self, cluster: usize, broker: Result<&str, &BrokerUnreachable>, now: Monotonic) {
        let name = &self.here.config.clusters[cluster].name;
        let of = |event: Event, broker: &str| event.with(Field::Kafka, name.as_str()).with(Field::Broker, broker);
        match broker {
            Ok(broker) => self.here.teller.tell(Kind::BrokerReachable, second(now), |event| of(event, broker)),
            Err(broken) => self.here.teller.tell(Kind::BrokerUnreachable, second(now), |event| {
                let node = broken.node.and_then(|node| u64::try_from(node.0).ok());
                let advertised = if broken.is_advertised { ADVERTISED } else { "" };
                let reason = format!("{}{advertised}", broken.reason);
                of(event, &broken.broker).maybe(Field::Node, node).with(Field::Reason, reason)
            }),
        }
    }

    /// Records that a broker of a cluster refuses Forebay's login.
    pub(super) fn tell_login_refused(&mut self, cluster: usize, login: &LoginRefused, now: Monotonic) {
        let name = &self.here.config.clusters[cluster].name;
        self.here.teller.tell(Kind::LoginRefused, second(now), |event| {
            let event = event.with(Field::Kafka, name.as_str()).with(Field::Broker, login.broker.as_str());
            let event = event.maybe(Field::User, Some(clipped(&login.user)).filter(|user| !user.is_empty()));
            let code = login.code.and_then(|code| u64::try_from(code).ok());
            let event = event.with(Field::Mechanism, login.mechanism).maybe(Field::Code, code);
            event.with(Field::Reason, login.reason.as_str())
        });
    }

    /// Records that TLS to a broker of a cluster fails.
    pub(super) fn tell_kafka_tls_failed(&mut self, cluster: usize, (broker, reason): (&str, &str), now: Monotonic) {
        let name = &self.here.config.clusters[cluster].name;
        self.here.teller.tell(Kind::KafkaTlsFailed, second(now), |event| {
            event.with(Field::Kafka, name.as_str()).with(Field::Broker, broker).with(Field::Reason, reason)
        });
    }

    /// Records that a connection was refused at the door: which clause, and what was wrong.
    pub(super) fn tell_refused(&mut self, io: &Ring<'_>, conn: ConnId, clause: &'static str, reason: &'static str) {
        let Some(connection) = self.connections.get(conn) else { return };
        let listener = self.here.config.listener(connection.listener);
        let from = io.peer(conn).map(|peer| Address::of(peer.ip()));
        self.here.teller.tell_of(Kind::ConnectRefused, second(io.now()), from, |event| {
            let event = event.with(Field::Clause, clause).with(Field::Reason, reason);
            let event = event.shown(Field::Peer, io.peer(conn));
            event.shown(Field::Listener, listener.map(|listener| &listener.bind))
        });
    }

    /// Counts and records that the TLS of a connection, or its WebSocket, has failed.
    pub(super) fn tell_layer_failed(&mut self, io: &Ring<'_>, conn: ConnId, error: &LayerError) {
        let Some(connection) = self.connections.get(conn) else { return };
        self.here.numbers.count(match error.fault {
            LayerFault::OtherProtocol => M::TlsOtherProtocol,
            LayerFault::NothingInCommon => M::TlsNothingInCommon,
            LayerFault::CertificateMissing => M::TlsCertificateMissing,
            LayerFault::CertificateExpired => M::TlsCertificateExpired,
            LayerFault::CertificateRevoked => M::TlsCertificateRevoked,
            LayerFault::CertificateInvalid => M::TlsCertificateInvalid,
            LayerFault::Alert => M::TlsAlert,
            LayerFault::Protocol => M::TlsProtocol,
            LayerFault::Memory => M::TlsMemory,
            LayerFault::Upgrade(_) => M::WsRefused,
            LayerFault::WebSocket(1003) => M::WsClosedText,
            LayerFault::WebSocket(_) => M::WsClosedProtocol,
        });
        let kind = match error.fault {
            LayerFault::Upgrade(_) | LayerFault::WebSocket(_) => Kind::WebSocketFailed,
            _ => Kind::TlsFailed,
        };
        let listener = self.here.config.listener(connection.listener);
        let from = io.peer(conn).map(|peer| Address::of(peer.ip()));
        self.here.teller.tell_of(kind, second(io.now()), from, |event| {
            let event = event.with(Field::Reason, &*error.what);
            let event = event.shown(Field::Peer, io.peer(conn));
            event.shown(Field::Listener, listener.map(|listener| &listener.bind))
        });
    }

    /// Counts the handshakes of a connection, which are over.
    pub(super) fn count_handshake(&mut self, facts: &Facts) {
        if facts.is_web_socket {
            self.here.numbers.count(M::WsUpgraded);
        }
        if !facts.is_tls {
            return;
        }
        self.here.numbers.count(match (facts.is_newest, facts.is_resumed) {
            (true, false) => M::TlsFull13,
            (true, true) => M::TlsResumed13,
            (false, false) => M::TlsFull12,
            (false, true) => M::TlsResumed12,
        });
        let took = u64::try_from(facts.took.as_micros()).unwrap_or(u64::MAX);
        self.here.numbers.histograms().tls_handshake().observe(took);
    }

    /// Records that a client has connected.
    pub(super) fn tell_connected(&mut self, io: &Ring<'_>, conn: ConnId, key: SessionKey, session_present: bool) {
        let (Some(session), Some(connection)) = (self.broker.sessions.get(key), self.connections.get(conn)) else {
            return;
        };
        let listener = self.here.config.listener(connection.listener);
        self.here.teller.tell_connection(Kind::ClientConnected, |event| {
            let event = of_client(event, session.client()).maybe(Field::User, session.username().map(clipped));
            let event = event.shown(Field::Peer, io.peer(conn));
            let event = event.shown(Field::Listener, listener.map(|listener| &listener.bind));
            let event = event.with(Field::Protocol, session.peer().version.as_str());
            let event = event.with(Field::SessionPresent, session_present);
            // The roles are from the token, of which nothing else is reported.
            let unknown = session.access().map(Access::unknown_roles).unwrap_or_default().join(", ");
            event.maybe(Field::UnknownRoles, Some(clipped(&unknown)).filter(|unknown| !unknown.is_empty()))
        });
    }

    /// Records that a client's connection has ended; `by`: the connection that has taken its session over, which may have replaced it
    /// already.
    pub(super) fn tell_disconnected(
        &mut self,
        io: &Ring<'_>,
        (conn, key): (ConnId, SessionKey),
        (end, detail): (End, &str),
        by: Option<ConnId>,
    ) {
        self.raise_disconnected(io, (conn, key), end, by);
        let (Some(session), Some(connection)) = (self.broker.sessions.get(key), self.connections.get(conn)) else {
            return;
        };
        let listener = self.here.config.listener(connection.listener);
        let connected_ms = u64::try_from(connection.clock.lasted(io.now()).as_millis()).unwrap_or(u64::MAX);
        self.here.teller.tell_connection(Kind::ClientDisconnected, |event| {
            // Without auth a client may reconnect under any name.
            let user = session.username().filter(|_| by.is_none() || session.access().is_some());
            let event = of_client(event, session.client()).maybe(Field::User, user.map(clipped));
            let event = event.shown(Field::Peer, io.peer(conn));
            let event = event.shown(Field::Listener, listener.map(|listener| &listener.bind));
            let event = event.with(Field::Reason, words(end));
            let event = event.maybe(Field::Detail, Some(clipped(detail)).filter(|detail| !detail.is_empty()));
            event.with(Field::ConnectedMs, connected_ms).shown(Field::NewPeer, by.and_then(|by| io.peer(by)))
        });
    }

    /// Records that the network has ended a client's connection.
    pub(super) fn tell_closed(&mut self, io: &Ring<'_>, conn: ConnId, key: SessionKey, why: &Closed) {
        let error: String;
        let detail = match why {
            Closed::Peer => "closed by the client",
            Closed::Local => "",
            Closed::Error(failed) => {
                error = failed.to_string();
                &error
            }
            Closed::Layer(failed) => &failed.what,
        };
        self.tell_disconnected(io, (conn, key), (End::Lost, detail), None);
    }

    /// Records that a device's connection is ended for a violation.
    pub(super) fn tell_violation(&mut self, io: &Ring<'_>, conn: ConnId, key: SessionKey, violation: &Violation) {
        let Some(connection) = self.connections.get(conn) else { return };
        let listener = self.here.config.listener(connection.listener);
        let client = self.broker.sessions.get(key).map(Session::client);
        self.here.teller.tell_of(Kind::ProtocolError, second(io.now()), client, |event| {
            let event = event.with(Field::Clause, violation.clause).with(Field::Reason, violation.what);
            let event = of_client(event, client).shown(Field::Peer, io.peer(conn));
            event.shown(Field::Listener, listener.map(|listener| &listener.bind))
        });
    }

    /// Records a cluster's producer's news of topics.
    pub(super) fn tell_news(&mut self, cluster: usize, now: Monotonic) {
        let outlets = &mut self.outlets;
        let upstream = &mut outlets.upstreams[cluster];
        let (teller, numbers) = (&mut self.here.teller, &mut self.here.numbers);
        let config = &self.here.config;
        let members = &upstream.members;
        let named = |event: Event, sink: SinkId, topic: &str| {
            // A dead-letter topic is a sink of its own to the producer.
            let source = members.source_of(sink).and_then(|index| config.sources.get(index));
            let sink = members.concerns(sink).and_then(|index| config.sinks.get(index));
            let event = event.maybe(Field::Sink, sink.map(|sink| sink.name.as_str()));
            event.maybe(Field::Source, source.map(|source| source.name.as_str())).with(Field::Topic, topic)
        };
        let coded = |event: Event, code: i16| {
            // The error -1, UNKNOWN_SERVER_ERROR, has a name only.
            event.with(Field::Error, KafkaError::name(code)).maybe(Field::Code, u64::try_from(code).ok())
        };
        let changed =
            |event: Event, from: usize, to: usize| event.with(Field::From, from as u64).with(Field::To, to as u64);
        let located = |event: Event, partition: u32| event.with(Field::Partition, u64::from(partition));
        let second = second(now);
        let mut tell = |news: News| match news {
            News::Unknown { sink, topic, code } => {
                numbers.count_cluster(cluster, ClusterMetric::TopicsUnknown, 1);
                teller.tell_of(Kind::TopicUnknown, second, sink, |event| coded(named(event, sink, &topic), code));
            }
            News::Known { sink, topic } => {
                teller.tell_of(Kind::TopicKnown, second, sink, |event| named(event, sink, &topic));
            }
            News::Refused { sink, topic, code } => {
                numbers.count_cluster(cluster, ClusterMetric::TopicsRefused, 1);
                let kind = match KafkaError::of(code) {
                    KafkaError::TopicForbidden => Kind::TopicForbidden,
                    _ => Kind::TopicRefused,
                };
                teller.tell_of(kind, second, sink, |event| coded(named(event, sink, &topic), code));
            }
            News::Grown { sink, topic, from, to } => {
                teller.tell_of(Kind::TopicGrown, second, sink, |event| changed(named(event, sink, &topic), from, to));
            }
            News::Recreated { sink, topic, from, to } => {
                teller
                    .tell_of(Kind::TopicMadeAnew, second, sink, |event| changed(named(event, sink, &topic), from, to));
            }
            News::OtherCluster { sink, topic, from, to } => {
                teller.tell_of(Kind::ClusterChanged, second, sink, |event| {
                    named(event, sink, &topic).with(Field::From, &*from).with(Field::To, &*to)
                });
            }
            News::Lost { sink, topic, partition, records } => {
                let records = Some(records).filter(|records| *records > 0);
                teller.tell_of(Kind::AcknowledgedLost, second, sink, |event| {
                    located(named(event, sink, &topic), partition).maybe(Field::Records, records)
                });
            }
            News::TooLarge { sink, topic, bytes, can_be_smaller } => {
                let reason = if can_be_smaller { SMALLER } else { ONE_RECORD };
                teller.tell(Kind::RequestTooLarge, second, |event| {
                    named(event, sink, &topic).with(Field::Bytes, bytes as u64).with(Field::Reason, reason)
                });
            }
            News::Unclear { sink, topic, partition, records } => {
                teller.tell_of(Kind::OutcomeUnknown, second, sink, |event| {
                    located(named(event, sink, &topic), partition).with(Field::Records, records)
                });
            }
        };
        let of_slots = outlets.slot_rows.as_mut().filter(|rows| rows.cluster() == cluster);
        let of_slots = of_slots.map(|rows| rows.take_news()).unwrap_or_default();
        of_slots.into_iter().for_each(&mut tell);
        upstream.producer.drain_news(tell);
    }
}
