//! The module as a whole, driven as a shard drives it. `Shard` below is a shard of one thread: connections are numbers, bytes sent
//! to each are kept and read back with the decoder.

mod authenticate;
mod connect;
mod kept;
mod kept_by_user;
mod lifetime;
mod memory;
mod model;
mod order;
mod outgoing;
mod owners;
mod packets;
mod publish;
mod qos2;
mod receipts;
mod refusals;
mod remote;
mod restored;
mod saved;

use super::*;
use forebay_guard::auth::{self, Admission, Method, Policy, Takeover};
use forebay_mqtt::decode::decode;
use forebay_mqtt::frame;
use forebay_mqtt::packet::{Ack, Connect, Disconnect, Packet, Publish, QoS, Sender, Version, Will};
use forebay_mqtt::property::{Properties, Property, PropertyBuf};
use forebay_mqtt::reason::ReasonCode;
use forebay_runtime::seam::{Came, ConnId, Monotonic};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) const S: Duration = Duration::from_secs(1);

/// Property lists for views.
pub(super) fn properties(list: &[Property<'_>]) -> PropertyBuf {
    let mut buf = PropertyBuf::new();
    buf.extend(list.iter().copied());
    buf
}

pub(super) fn connect(version: Version, client_id: &str, clean_start: bool) -> Connect<'_> {
    Connect {
        version,
        is_bridge: false,
        clean_start,
        keep_alive_s: 60,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::EMPTY,
    }
}

pub(super) fn publish(qos: QoS, packet_id: u16) -> Publish<'static> {
    Publish { dup: false, qos, retain: false, topic: "t", packet_id, properties: Properties::EMPTY, payload: b"p" }
}

pub(super) fn ack(packet_id: u16) -> Ack<'static> {
    Ack { packet_id, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY }
}

pub(super) fn goodbye(reason: ReasonCode, properties: Properties<'_>) -> Packet<'_> {
    Packet::Disconnect(Disconnect { reason, properties })
}

/// The admission by an `auth` of this name.
pub(super) fn admission(auth: &str, identity: Option<&str>) -> Admission {
    admission_with(auth, identity, Takeover::Replace)
}

pub(super) fn admission_with(name: &str, identity: Option<&str>, foreign_takeover: Takeover) -> Admission {
    let settings = auth::Settings { foreign_takeover, ..auth::Settings::new(name, &[Method::Anonymous]) };
    let policy = Arc::new(Policy::load(&settings).expect("it has no files"));
    Admission { identity: identity.map(Into::into), ..Admission::anonymous(policy) }
}

/// Sessions, a clock, and the bytes sent to every connection.
#[derive(Default)]
pub(super) struct Shard {
    pub(super) sessions: Sessions,
    pub(super) settings: Settings,
    /// The admission of the next CONNECT.
    pub(super) admission: Option<Admission>,
    pub(super) now: Monotonic,
    conns: u32,
    versions: HashMap<ConnId, Version>,
    out: HashMap<ConnId, Vec<u8>>,
}

/// A client that is connected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client {
    pub(super) key: SessionKey,
    pub(super) conn: ConnId,
    pub(super) session_present: bool,
}

impl Shard {
    pub(super) fn with(settings: Settings) -> Self {
        Self { settings, ..Self::default() }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.sessions.expire(self.now);
        assert_eq!(self.sessions.bytes(), self.sessions.weigh());
    }

    pub(super) fn try_connect(&mut self, connect: &Connect<'_>) -> (ConnId, Result<Connected, Refused>) {
        self.try_connect_of(connect, Came::at(self.now))
    }

    /// Connects with a CONNECT that came at this time.
    pub(super) fn try_connect_of(&mut self, connect: &Connect<'_>, came: Came) -> (ConnId, Result<Connected, Refused>) {
        self.conns += 1;
        let conn = ConnId { slot: self.conns, generation: 1 };
        self.versions.insert(conn, connect.version);
        let out = self.out.entry(conn).or_default();
        let admission = self.admission.as_ref();
        let arrival = Arrival { conn, assigned_id: Some("given"), admission, came };
        let result = self.sessions.connect(connect, arrival, self.now, &self.settings, out);
        if let Ok(Connected { taken_over: Some(old), .. }) = result {
            let out = self.out.entry(old.conn).or_default();
            End::TakenOver.write(old.peer, out);
        }
        assert_eq!(self.sessions.bytes(), self.sessions.weigh());
        (conn, result)
    }

    /// Connects, and throws the CONNACK away.
    /// A connection without a CONNECT.
    pub(super) fn add_conn(&mut self, version: Version) -> ConnId {
        self.conns += 1;
        let conn = ConnId { slot: self.conns, generation: 1 };
        self.versions.insert(conn, version);
        conn
    }

    pub(super) fn connect(&mut self, connect: &Connect<'_>) -> Client {
        let (conn, result) = self.try_connect(connect);
        let connected = result.expect("accepted");
        self.out.insert(conn, Vec::new());
        Client { key: connected.key, conn, session_present: connected.session_present }
    }

    /// Takes a publish of QoS 1 or 2 that must be taken; its number.
    pub(super) fn take(&mut self, client: Client, publish: &Publish<'_>) -> u32 {
        match self.sessions.publish(client.key, publish, self.now) {
            Some(Taken::Take { number, .. }) => number,
            other => panic!("not taken: {other:?}"),
        }
    }

    /// Takes a publish with `sinks` pending answers.
    pub(super) fn open(&mut self, client: Client, publish: &Publish<'_>, sinks: u16) -> u32 {
        let number = self.take(client, publish);
        self.session(client).opened(number, sinks, Reason::Success);
        number
    }

    pub(super) fn repeat(&mut self, client: Client, packet_id: u16) {
        let publish = Publish { dup: true, ..publish(QoS::ExactlyOnce, packet_id) };
        assert_eq!(self.sessions.publish(client.key, &publish, self.now), Some(Taken::Repeat));
    }

    pub(super) fn violation(&mut self, client: Client, publish: &Publish<'_>) -> Violation {
        match self.sessions.publish(client.key, publish, self.now) {
            Some(Taken::Violation(violation)) => violation,
            other => panic!("no violation: {other:?}"),
        }
    }

    pub(super) fn session(&mut self, client: Client) -> &mut Session {
        self.sessions.get_mut(client.key).expect("session lives")
    }

    pub(super) fn complete(&mut self, client: Client, number: u32, reason: Reason) {
        self.session(client).complete(number, 1, reason);
    }

    pub(super) fn packet(&mut self, client: Client, packet: &Packet<'_>) -> Next {
        let out = self.out.entry(client.conn).or_default();
        self.sessions.get_mut(client.key).expect("session lives").packet(packet, out)
    }

    pub(super) fn drain(&mut self, client: Client) -> Drained {
        let out = self.out.entry(client.conn).or_default();
        self.sessions.get_mut(client.key).expect("session lives").drain_answers(out)
    }

    pub(super) fn end(&mut self, client: Client, end: End) {
        self.sessions.disconnected(client.key, client.conn, end, self.now);
    }

    /// The packets that a connection was sent since the last look, in words: `puback 1`, `pubrec 2 0x10`.
    pub(super) fn heard(&mut self, conn: ConnId) -> Vec<String> {
        let bytes = self.out.insert(conn, Vec::new()).unwrap_or_default();
        words(self.versions[&conn], &bytes)
    }

    /// Drains, and returns the packets that the connection was sent since the last look.
    pub(super) fn answers(&mut self, client: Client) -> Vec<String> {
        self.drain(client);
        self.heard(client.conn)
    }

    /// The topics of the wills that fell due.
    pub(super) fn wills(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.sessions.next_will()).map(|will| will.publish().topic.to_owned()).collect()
    }

    /// The CONNACK or DISCONNECT bytes of a connection since the last look.
    pub(super) fn bytes(&mut self, conn: ConnId) -> Vec<u8> {
        self.out.insert(conn, Vec::new()).unwrap_or_default()
    }
}

/// Reads packets of a server and returns each in a few words.
pub(super) fn words(version: Version, mut bytes: &[u8]) -> Vec<String> {
    let mut words = Vec::new();
    while !bytes.is_empty() {
        let frame = frame::next(bytes, u32::MAX).expect("well formed").expect("whole");
        let len = frame.len;
        words.push(word(&decode(version, Sender::Server, frame).expect("well formed")));
        bytes = &bytes[len..];
    }
    words
}

fn word(packet: &Packet<'_>) -> String {
    let code = |code: ReasonCode| if code.0 == 0 { String::new() } else { format!(" 0x{:02X}", code.0) };
    let codes = |codes: &[u8]| codes.iter().map(|code| format!(" 0x{code:02X}")).collect::<String>();
    match packet {
        Packet::ConnAck(it) => format!("connack {}{}", u8::from(it.session_present), code(it.reason)),
        Packet::PubAck(it) => format!("puback {}{}{}", it.packet_id, code(it.reason), said(it.properties)),
        Packet::PubRec(it) => format!("pubrec {}{}{}", it.packet_id, code(it.reason), said(it.properties)),
        Packet::PubRel(it) => format!("pubrel {}{}", it.packet_id, code(it.reason)),
        Packet::PubComp(it) => format!("pubcomp {}{}{}", it.packet_id, code(it.reason), said(it.properties)),
        Packet::SubAck(it) => format!("suback {}{}", it.packet_id, codes(it.codes)),
        Packet::UnsubAck(it) => format!("unsuback {}{}", it.packet_id, codes(it.codes)),
        Packet::PingResp => "pingresp".to_owned(),
        Packet::Disconnect(it) => format!("disconnect{}", code(it.reason)),
        other => panic!("a server does not send {other:?}"),
    }
}

/// Receipts, in short: ` topic/partition@offset`.
fn said(properties: Properties<'_>) -> String {
    let said = |(name, value): (&str, &str)| match name {
        "kafka-topic" => format!(" {value}"),
        "kafka-partition" => format!("/{value}"),
        "kafka-offset" => format!("@{value}"),
        other => panic!("a user property {other}"),
    };
    properties.user_properties().map(said).collect()
}

/// A will on `topic`, with its delay in `properties`.
pub(super) fn will<'a>(topic: &'a str, properties: Properties<'a>) -> Will<'a> {
    Will { qos: QoS::AtLeastOnce, retain: false, topic, payload: b"gone", properties }
}
