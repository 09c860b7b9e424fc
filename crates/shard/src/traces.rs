//! Traces: the packets of one client, or the messages of clients with topics that one filter matches. Without a trace a read costs one check of an empty
//! list, and a publish nothing. With one, packets read are decoded once more after they were taken; packets to a client are copied by the runtime, for its
//! connection alone, and decoded in the next turn.

use std::collections::VecDeque;
use std::fmt::Write as _;

use smallvec::SmallVec;

use forebay_base::limits::{
    TRACE_PACKETS_PER_TURN, TRACE_PAYLOAD_BYTES_MAX, TRACE_TEXT_BYTES_MAX, TRACE_WAITING_BYTES_MAX, TRACE_WAITING_MAX,
    TRACES_MAX,
};
use forebay_metrics::inspect::{NamedClient, TraceOf, TracedContent, TracedPacket};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Packet, Publish, QoS, Sender, Version};
use forebay_mqtt::property::{Properties, Property};
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::route::filter;
use forebay_mqtt::topic::valid_filter;
use forebay_mqtt::{decode, frame};
use forebay_runtime::seam::{ConnId, Monotonic, WallMs};
use forebay_session::ClientKey;

use super::Core;
use super::ring::Ring;
use super::rule_hooks::Newcomer;
use super::words::Source;

/// The most connections of a traced client with packets yet to come: the present one, and some that have just ended.
const CONNECTIONS_MAX: usize = 4;

/// This shard's part of a trace.
struct Trace {
    of: TraceOf,
    until: Monotonic,
    /// Connections of the client, the present one last, and the version that each speaks.
    connections: SmallVec<[(ConnId, Version); CONNECTIONS_MAX]>,
    waiting: VecDeque<TracedPacket>,
    bytes: usize,
    /// The number of packets left out since they were last taken.
    lost: u64,
}

impl Trace {
    fn is_of(&self, client: ClientKey<'_>) -> bool {
        let is_auth = |auth: &String| *auth == client.auth.unwrap_or_default();
        let fits = |of: &NamedClient| of.client_id == client.client_id && of.auth.as_ref().is_none_or(is_auth);
        self.of.client.as_ref().is_some_and(fits)
    }

    fn version_of(&self, conn: ConnId) -> Option<Version> {
        self.connections.iter().find(|(of, _)| *of == conn).map(|(_, version)| *version)
    }

    fn follow(&mut self, conn: ConnId, version: Version) {
        if self.connections.len() == CONNECTIONS_MAX {
            self.connections.remove(0);
        }
        self.connections.push((conn, version));
    }

    fn wants(&self, topic: &str) -> bool {
        self.of.filter.as_ref().is_some_and(|wanted| filter::matches(wanted, topic))
    }
}

/// All traces of this shard.
#[derive(Default)]
pub(super) struct Traces {
    all: Vec<Trace>,
    /// The turn, and the number of packets noted in it.
    turn: (Monotonic, usize),
    /// The number of packets left out, of all traces ever.
    lost: u64,
}

impl std::fmt::Debug for Traces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Traces").field("count", &self.all.len()).finish_non_exhaustive()
    }
}

impl Traces {
    /// Whether there is a trace.
    #[inline]
    pub(super) fn is_any(&self) -> bool {
        !self.all.is_empty()
    }

    /// The packets of a trace that wait, and how many were left out.
    pub(super) fn take(&mut self, id: u64) -> (Vec<TracedPacket>, u64) {
        let Some(trace) = self.all.iter_mut().find(|trace| trace.of.id == id) else { return (Vec::new(), 0) };
        trace.bytes = 0;
        (trace.waiting.drain(..).collect(), std::mem::take(&mut trace.lost))
    }

    /// Whether a packet of a connection, or a message, may be wanted by some trace.
    fn may_want(&self, conn: ConnId) -> bool {
        self.all.iter().any(|trace| trace.of.filter.is_some() || trace.version_of(conn).is_some())
    }

    /// Notes a packet for each trace that wants it.
    fn note(&mut self, now: Monotonic, packet: &TracedPacket, wants: impl Fn(&Trace) -> bool) {
        if self.turn.0 != now {
            self.turn = (now, 0);
        }
        for trace in self.all.iter_mut().filter(|trace| trace.until > now && wants(trace)) {
            let bytes = packet_bytes(packet);
            let is_full = trace.waiting.len() >= TRACE_WAITING_MAX
                || trace.bytes + bytes > TRACE_WAITING_BYTES_MAX
                || self.turn.1 >= TRACE_PACKETS_PER_TURN;
            if is_full {
                (trace.lost, self.lost) = (trace.lost + 1, self.lost + 1);
                continue;
            }
            self.turn.1 += 1;
            trace.bytes += bytes;
            trace.waiting.push_back(packet.clone());
        }
    }
}

/// The memory of a trace's packet, in bytes.
fn packet_bytes(packet: &TracedPacket) -> usize {
    let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let content = packet.content.as_ref().map_or(0, |content| content.payload.len() + content.properties.len());
    let texts = packet.client.0.len() + text(&packet.client.1) + text(&packet.topic) + packet.details.len();
    size_of::<TracedPacket>() + texts + content
}

impl Core {
    /// Begins a trace. False: its filter is no topic filter, or there are too many traces.
    pub(super) fn begin_trace(&mut self, io: &mut Ring<'_>, of: TraceOf) -> bool {
        if self.connections.traces.all.len() >= TRACES_MAX || of.filter.as_ref().is_some_and(|text| !valid_filter(text))
        {
            return false;
        }
        let until = io.now().after(of.lasts);
        let mut trace = Trace { of, until, connections: SmallVec::new(), waiting: VecDeque::new(), bytes: 0, lost: 0 };
        if let Some(client) = &trace.of.client {
            let sessions = &self.broker.sessions;
            let found: SmallVec<[_; 2]> = sessions.find_all(&client.client_id).collect();
            let found = found.into_iter().filter_map(|key| sessions.get(key)).filter(|session| !session.is_remote());
            for session in found {
                if let Some(conn) = session.conn().filter(|_| trace.is_of(session.client())) {
                    trace.follow(conn, session.peer().version);
                    io.trace(conn, true);
                }
            }
        }
        self.connections.traces.all.push(trace);
        true
    }

    /// Ends a trace. False: there is none with this number.
    pub(super) fn end_trace(&mut self, io: &mut Ring<'_>, id: u64) -> bool {
        self.take_traced(io);
        let traces = &mut self.connections.traces;
        let Some(place) = traces.all.iter().position(|trace| trace.of.id == id) else { return false };
        let ended = traces.all.remove(place);
        for (conn, _) in ended.connections {
            if traces.all.iter().all(|trace| trace.version_of(conn).is_none()) {
                io.trace(conn, false);
            }
        }
        true
    }

    /// Notes a CONNECT, and from now on the packets to its connection.
    #[cold]
    pub(super) fn trace_connect(&mut self, io: &mut Ring<'_>, conn: ConnId, of: Newcomer<'_>) {
        self.take_traced(io);
        let Some(listener) = self.connections.get(conn).map(|connection| connection.listener) else { return };
        let auth = self.here.edge.auth(listener).map(|policy| policy.name().to_owned());
        let client = ClientKey { auth: auth.as_deref(), client_id: of.client_id };
        if !self.connections.traces.all.iter().any(|trace| trace.is_of(client)) {
            return;
        }
        let username = self.shown_username(conn, of.connect);
        let mut packet = empty((io.wall(), false), client, "CONNECT");
        packet.details = cut(connect(&of, username));
        let (now, traces) = (io.now(), &mut self.connections.traces);
        for trace in traces.all.iter_mut().filter(|trace| trace.is_of(client)) {
            trace.follow(conn, of.connect.version);
        }
        io.trace(conn, true);
        traces.note(now, &packet, |trace| trace.is_of(client));
    }

    /// Notes packets of a client that were read and taken.
    #[cold]
    pub(super) fn trace(&mut self, io: &mut Ring<'_>, from: Source, mut packets: &[u8]) {
        self.take_traced(io);
        let (at, now) = (io.wall(), io.now());
        let Source { conn, session, peer, .. } = from;
        let traces = &mut self.connections.traces;
        if peer.is_remote || !traces.may_want(conn) {
            return;
        }
        let session = self.broker.sessions.get(session);
        // The session may have ended with the last of these packets.
        let named = traces.all.iter().find(|trace| trace.version_of(conn).is_some()).and_then(|t| t.of.client.clone());
        let ended = named.as_ref().map(|of| ClientKey { auth: of.auth.as_deref(), client_id: &of.client_id });
        let client = session.map(|session| session.client()).or(ended);
        let client = client.unwrap_or(ClientKey { auth: None, client_id: "" });
        while let Ok(Some(frame)) = frame::next(packets, u32::MAX) {
            packets = &packets[frame.len..];
            let Ok(packet) = decode::decode(peer.version, Sender::Client, frame) else {
                let mut malformed = empty((at, false), client, "malformed");
                malformed.details = format!("{} bytes that are no packet that may come", frame.len);
                traces.note(now, &malformed, |trace| trace.version_of(conn).is_some());
                break;
            };
            let topic = match &packet {
                Packet::Publish(publish) => session.and_then(|session| session.topic_of(publish)),
                _ => None,
            };
            let traced = shown((at, false), client, &packet, topic);
            traces.note(now, &traced, |trace| {
                trace.version_of(conn).is_some() || topic.is_some_and(|topic| trace.wants(topic))
            });
        }
    }

    /// Notes packets of a client, if the packet after the `used` bytes has ended the connection.
    #[cold]
    pub(super) fn trace_to_the_end(&mut self, io: &mut Ring<'_>, from: Source, bytes: &[u8], used: usize) {
        let last = match frame::next(&bytes[used..], u32::MAX) {
            Ok(Some(frame)) => frame.len,
            _ => 0,
        };
        self.trace(io, from, &bytes[..used + last]);
    }

    /// Notes the packets sent to traced connections at the end of earlier turns.
    #[cold]
    pub(super) fn take_traced(&mut self, io: &mut Ring<'_>) {
        let (now, traces) = (io.now(), &mut self.connections.traces);
        for sent in io.take_traced() {
            let of = traces.all.iter().find_map(|trace| Some((trace.of.client.clone()?, trace.version_of(sent.conn)?)));
            let Some((named, version)) = of else { continue };
            if sent.bytes.is_empty() {
                let left_out = traces.all.iter_mut().filter(|trace| trace.version_of(sent.conn).is_some());
                left_out.for_each(|trace| trace.lost += 1);
                traces.lost += 1;
            }
            let client = ClientKey { auth: named.auth.as_deref(), client_id: &named.client_id };
            let mut packets = sent.bytes.as_slice();
            while let Ok(Some(frame)) = frame::next(packets, u32::MAX) {
                packets = &packets[frame.len..];
                let Ok(packet) = decode::decode(version, Sender::Server, frame) else { break };
                let traced = shown((sent.at, true), client, &packet, None);
                traces.note(now, &traced, |trace| trace.version_of(sent.conn).is_some());
            }
        }
        self.here.numbers.set(M::TracedPacketsLost, self.connections.traces.lost);
    }
}

/// A packet without details yet.
fn empty((at, to_client): (WallMs, bool), client: ClientKey<'_>, packet: &'static str) -> TracedPacket {
    TracedPacket {
        at_ms: at.0,
        to_client,
        client: (cut(client.client_id.to_owned()), client.auth.map(str::to_owned)),
        packet,
        packet_id: None,
        topic: None,
        reason: None,
        details: String::new(),
        content: None,
    }
}

/// A text that is not too long.
fn cut(mut text: String) -> String {
    if text.len() > TRACE_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TRACE_TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

/// The contents of a CONNECT, without its password and data of AUTH.
fn connect(of: &Newcomer<'_>, username: Option<&str>) -> String {
    let connect = of.connect;
    let mut text = format!("MQTT {}", connect.version.as_str());
    let clean = if connect.version == Version::V5 { "clean start" } else { "clean session" };
    if connect.clean_start {
        let _ = write!(text, ", {clean}");
    }
    let _ = write!(text, ", keep alive {} s", connect.keep_alive_s);
    if let Some(username) = username {
        let _ = write!(text, ", user {username}");
    }
    if connect.password.is_some() {
        text.push_str(", with a password");
    }
    if let Some(will) = &connect.will {
        let _ = write!(
            text,
            ", will to {} (QoS {}{})",
            will.topic,
            will.qos as u8,
            if will.retain { ", retained" } else { "" }
        );
    }
    let properties = properties(connect.properties);
    if !properties.is_empty() {
        let _ = write!(text, ", {properties}");
    }
    text
}

/// A packet in short. `topic`: of a PUBLISH that may have an alias.
fn shown(at: (WallMs, bool), client: ClientKey<'_>, packet: &Packet<'_>, topic: Option<&str>) -> TracedPacket {
    let named = |name| empty(at, client, name);
    let acknowledged = |name, ack: &forebay_mqtt::packet::Ack<'_>| TracedPacket {
        packet_id: Some(ack.packet_id),
        reason: Some(reason(ack.reason)),
        details: cut(properties(ack.properties)),
        ..named(name)
    };
    let of_codes = |name, ack: &forebay_mqtt::packet::SubAck<'_>| {
        let codes = ack.codes.iter().map(|code| format!("{code:#04x}")).collect::<Vec<_>>().join(" ");
        let details = join(codes, properties(ack.properties));
        TracedPacket { packet_id: Some(ack.packet_id), details, ..named(name) }
    };
    let ended = |name, of: &forebay_mqtt::packet::Disconnect<'_>| TracedPacket {
        reason: Some(reason(of.reason)),
        details: cut(properties(of.properties)),
        ..named(name)
    };
    match packet {
        Packet::Publish(of) => publish(named("PUBLISH"), of, topic),
        Packet::PubAck(ack) => acknowledged("PUBACK", ack),
        Packet::PubRec(ack) => acknowledged("PUBREC", ack),
        Packet::PubRel(ack) => acknowledged("PUBREL", ack),
        Packet::PubComp(ack) => acknowledged("PUBCOMP", ack),
        Packet::Subscribe(of) => {
            let filters = of.filters.iter().map(|(text, options)| format!("{text} (QoS {})", options.qos as u8));
            let details = join(filters.collect::<Vec<_>>().join(", "), properties(of.properties));
            TracedPacket { packet_id: Some(of.packet_id), details, ..named("SUBSCRIBE") }
        }
        Packet::Unsubscribe(of) => {
            let filters = of.filters.iter().map(|(text, _)| text).collect::<Vec<_>>().join(", ");
            let details = join(filters, properties(of.properties));
            TracedPacket { packet_id: Some(of.packet_id), details, ..named("UNSUBSCRIBE") }
        }
        Packet::SubAck(ack) => of_codes("SUBACK", ack),
        Packet::UnsubAck(ack) => of_codes("UNSUBACK", ack),
        Packet::PingReq => named("PINGREQ"),
        Packet::PingResp => named("PINGRESP"),
        Packet::Disconnect(of) => ended("DISCONNECT", of),
        Packet::Auth(of) => ended("AUTH", of),
        Packet::ConnAck(ack) => {
            let present = if ack.session_present { "session present" } else { "" };
            let details = join(present.to_owned(), properties(ack.properties));
            TracedPacket { reason: Some(reason(ack.reason)), details, ..named("CONNACK") }
        }
        Packet::Connect(_) => named("CONNECT"),
    }
}

fn publish(packet: TracedPacket, of: &Publish<'_>, topic: Option<&str>) -> TracedPacket {
    let mut details = format!("QoS {}", of.qos as u8);
    details.push_str(if of.retain { ", retain" } else { "" });
    details.push_str(if of.dup { ", dup" } else { "" });
    if let Some(alias) = of.properties.topic_alias() {
        let _ = write!(details, ", alias {alias}");
    }
    let payload = &of.payload[..of.payload.len().min(TRACE_PAYLOAD_BYTES_MAX)];
    let content = TracedContent {
        payload: payload.to_vec(),
        payload_bytes: of.payload.len(),
        properties: cut(properties(of.properties)),
    };
    TracedPacket {
        packet_id: (of.qos != QoS::AtMostOnce).then_some(of.packet_id),
        topic: Some(cut(topic.unwrap_or(of.topic).to_owned())),
        details,
        content: Some(content),
        ..packet
    }
}

fn reason(code: ReasonCode) -> (u8, &'static str) {
    (code.0, code.name())
}

fn join(first: String, second: String) -> String {
    cut([first, second].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", "))
}

/// Properties in words, but for data of AUTH.
fn properties(of: Properties<'_>) -> String {
    let mut text = String::new();
    for property in of.iter() {
        if !text.is_empty() {
            text.push_str(", ");
        }
        let _ = match property {
            Property::AuthenticationData(data) => write!(text, "AuthenticationData({} bytes)", data.len()),
            Property::CorrelationData(data) => write!(text, "CorrelationData({} bytes)", data.len()),
            Property::UserProperty(name, value) => write!(text, "{name}={value}"),
            other => write!(text, "{other:?}"),
        };
    }
    text
}
