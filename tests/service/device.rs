//! A device: one socket that says and hears MQTT packets, well formed or not.

use std::io::{Error, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use forebay::mqtt::packet::{
    Ack, Connect, Disconnect, Packet, PacketType, Publish, QoS, Sender, Subscribe, SubscriptionOptions, Version,
};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{FilterBuf, decode, encode, frame};
use socket2::SockRef;

pub(crate) use crate::hello::hello;

/// Every version there is.
pub(crate) const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// Longer than anything takes that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// What a device hears. Codes are those on the wire: a 3.x CONNACK has its return code.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Heard {
    ConnAck(Hello),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP: packet identifier and reason code.
    Answer(PacketType, u16, u8),
    /// SUBACK, UNSUBACK: packet identifier and a code for each filter.
    Codes(PacketType, u16, Vec<u8>),
    /// PUBLISH: QoS, packet identifier, topic and payload.
    Message(u8, u16, String, Vec<u8>),
    PingResp,
    /// AUTH: reason code and data.
    Auth(u8, Vec<u8>),
    Disconnect(u8),
    Closed,
}

/// A CONNACK.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Hello {
    pub(crate) session_present: bool,
    pub(crate) code: u8,
    pub(crate) properties: PropertyBuf,
}

/// A connection to the service.
pub(crate) struct Device {
    stream: TcpStream,
    version: Version,
    heard: Vec<u8>,
}

/// A PUBLISH; QoS 0 has no packet identifier.
pub(crate) fn publish<'a>(qos: QoS, packet_id: u16, topic: &'a str, payload: &'a [u8]) -> Publish<'a> {
    Publish { dup: false, qos, retain: false, topic, packet_id, properties: Properties::EMPTY, payload }
}

/// Properties to put into a packet.
pub(crate) fn properties<'a>(all: impl IntoIterator<Item = Property<'a>>) -> PropertyBuf {
    let mut properties = PropertyBuf::new();
    properties.extend(all);
    properties
}

/// PUBACK of success.
pub(crate) fn puback(packet_id: u16) -> Heard {
    Heard::Answer(PacketType::PubAck, packet_id, 0)
}

/// The bytes of a packet.
pub(crate) fn bytes(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::packet(version, packet, &mut bytes).expect("a packet that MQTT can say");
    bytes
}

impl Device {
    /// A socket that has said nothing yet.
    pub(crate) fn open(to: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("the service accepts");
        stream.set_nodelay(true).expect("an option");
        stream.set_read_timeout(Some(PATIENCE)).expect("an option");
        Self { stream, version, heard: Vec::new() }
    }

    /// Where it comes from.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// A connected device with a clean session.
    pub(crate) fn connect(to: SocketAddr, version: Version, client_id: &str) -> Self {
        Self::connect_as(to, &hello(version, client_id)).0
    }

    /// A connected device, and the CONNACK of success that it got.
    pub(crate) fn connect_as(to: SocketAddr, connect: &Connect<'_>) -> (Self, Hello) {
        let mut device = Self::open(to, connect.version);
        device.say(&Packet::Connect(connect.clone()));
        let hello = device.welcome();
        (device, hello)
    }

    /// Hears a CONNACK of success.
    pub(crate) fn welcome(&mut self) -> Hello {
        match self.hear() {
            Heard::ConnAck(hello) if hello.code == 0 => hello,
            other => panic!("not welcome: {other:?}"),
        }
    }

    /// Sends a packet.
    pub(crate) fn say(&mut self, packet: &Packet<'_>) {
        let bytes = bytes(self.version, packet);
        self.say_bytes(&bytes);
    }

    /// Sends bytes.
    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the service reads");
    }

    /// Sends bytes, as far as the other end takes them.
    pub(crate) fn try_say_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends bytes again and again until the other end takes no more; gives how many it took. That it takes no more is
    /// known when nothing has gone in for a while, twice, and it has done something else between: `alive` sees to that.
    pub(crate) fn say_until_stuck(&mut self, bytes: &[u8], most: usize, mut alive: impl FnMut()) -> usize {
        self.stream.set_write_timeout(Some(Duration::from_millis(250))).expect("an option");
        // The kernel's own buffers would take megabytes.
        let socket = SockRef::from(&self.stream);
        socket.set_send_buffer_size(64 << 10).expect("an option");
        socket.set_recv_buffer_size(64 << 10).expect("an option");
        // The kernel makes room only once a third of its buffer is free: a busy service takes a while for that.
        let (mut taken, mut stuck) = (0, 0);
        while taken < most && stuck < 12 {
            match self.stream.write(&bytes[taken % bytes.len()..]) {
                Ok(count) => (taken, stuck) = (taken + count, 0),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    stuck += 1;
                    alive();
                }
                Err(error) => panic!("{error}"),
            }
        }
        taken
    }

    /// Hears the same bytes so many times.
    pub(crate) fn expect_bytes(&mut self, bytes: &[u8], times: usize) {
        assert!(self.heard.is_empty(), "nothing heard that was not taken");
        let mut heard = vec![0; bytes.len() * times];
        self.stream.read_exact(&mut heard).expect("all of it");
        assert!(heard.chunks(bytes.len()).all(|chunk| chunk == bytes));
    }

    /// The same connection once more, to write from another thread.
    pub(crate) fn second(&self) -> Self {
        let stream = self.stream.try_clone().expect("a descriptor");
        Self { stream, version: self.version, heard: Vec::new() }
    }

    /// Sends bytes, each by itself, until the other end takes no more.
    pub(crate) fn dribble(&mut self, bytes: &[u8]) {
        let _ = bytes.chunks(1).try_for_each(|byte| self.stream.write_all(byte));
    }

    /// Sends a PUBLISH and waits for nothing.
    pub(crate) fn publish(&mut self, qos: QoS, packet_id: u16, topic: &str, payload: &[u8]) {
        self.say(&Packet::Publish(publish(qos, packet_id, topic, payload)));
    }

    /// The same to a service that may be gone.
    pub(crate) fn try_publish(&mut self, qos: QoS, packet_id: u16, topic: &str, payload: &[u8]) {
        self.try_say_bytes(&bytes(self.version, &Packet::Publish(publish(qos, packet_id, topic, payload))));
    }

    /// Publishes at QoS 1 and waits for its answer.
    pub(crate) fn deliver(&mut self, packet_id: u16, topic: &str, payload: &[u8]) {
        self.publish(QoS::AtLeastOnce, packet_id, topic, payload);
        assert_eq!(self.hear(), puback(packet_id));
    }

    /// Sends PUBREL.
    pub(crate) fn release(&mut self, packet_id: u16) {
        self.say(&Packet::PubRel(Ack { packet_id, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY }));
    }

    /// Takes its leave, and waits until the service has closed.
    pub(crate) fn leave(mut self) {
        self.say(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: Properties::EMPTY }));
        assert_eq!(self.hear(), Heard::Closed);
    }

    /// Goes without a word: the service sees an end of the stream, or a reset if something is left to be read here.
    pub(crate) fn vanish(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// PINGREQ and its answer: all that was sent before has been worked through.
    pub(crate) fn ping(&mut self) {
        self.say(&Packet::PingReq);
        assert_eq!(self.hear(), Heard::PingResp);
    }

    /// Throws away what comes, to the end.
    pub(crate) fn until_closed(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("not closed: {error}"),
            }
        }
    }

    /// Says PUBACK, PUBREC or PUBCOMP.
    pub(crate) fn acknowledge(&mut self, kind: PacketType, packet_id: u16) {
        let mut bytes = Vec::new();
        encode::ack(self.version, kind, packet_id, ReasonCode::SUCCESS, &mut bytes);
        self.say_bytes(&bytes);
    }

    /// The same, if the connection is still there.
    pub(crate) fn try_acknowledge(&mut self, kind: PacketType, packet_id: u16) {
        let mut bytes = Vec::new();
        encode::ack(self.version, kind, packet_id, ReasonCode::SUCCESS, &mut bytes);
        self.try_say_bytes(&bytes);
    }

    /// Subscribes to filters at these QoS; the codes of the answer.
    pub(crate) fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Vec<u8> {
        self.say_subscribe(filters);
        match self.hear() {
            Heard::Codes(PacketType::SubAck, 7, codes) => codes,
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    /// The same; passes over messages before the answer, which a server may send (MQTT 5.0, 3.8.4).
    pub(crate) fn subscribe_among_messages(&mut self, filters: &[(&str, QoS)]) -> Vec<u8> {
        self.say_subscribe(filters);
        loop {
            match self.hear() {
                Heard::Codes(PacketType::SubAck, 7, codes) => return codes,
                Heard::Message(..) => {}
                other => panic!("no SUBACK: {other:?}"),
            }
        }
    }

    fn say_subscribe(&mut self, filters: &[(&str, QoS)]) {
        let mut list = FilterBuf::for_subscribe();
        for (filter, qos) in filters {
            assert!(list.push(filter, SubscriptionOptions { qos: *qos, ..SubscriptionOptions::default() }));
        }
        let subscribe = Subscribe { packet_id: 7, properties: Properties::EMPTY, filters: list.as_filters() };
        self.say(&Packet::Subscribe(subscribe));
    }

    /// The next packet, or the end.
    pub(crate) fn hear(&mut self) -> Heard {
        self.try_hear().unwrap_or_else(|error| panic!("nothing heard: {error}"))
    }

    /// The same, or the reason why nothing was heard in time.
    pub(crate) fn try_hear(&mut self) -> Result<Heard, Error> {
        loop {
            if let Some((heard, len)) = self.first() {
                self.heard.drain(..len);
                return Ok(heard);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => {
                    assert!(self.heard.is_empty(), "closed in the middle of a packet: {:02x?}", self.heard);
                    return Ok(Heard::Closed);
                }
                Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(Heard::Closed),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next packet, with the user properties that an answer or a message has.
    pub(crate) fn hear_with_user_properties(&mut self) -> (Heard, Vec<(String, String)>) {
        let mut buffer = [0; 4096];
        while self.first().is_none() {
            let count = self.stream.read(&mut buffer).expect("a packet");
            assert!(count > 0, "closed");
            self.heard.extend_from_slice(&buffer[..count]);
        }
        let frame = frame::next_for(self.version, Sender::Server, &self.heard, u32::MAX).expect("well formed");
        let said = match decode::decode(self.version, Sender::Server, frame.expect("whole")).expect("well formed") {
            Packet::PubAck(ack) | Packet::PubRec(ack) => ack.properties.user_properties(),
            Packet::Publish(publish) => publish.properties.user_properties(),
            other => panic!("it has no user properties: {other:?}"),
        };
        let said = said.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (self.hear(), said)
    }

    /// Hears a message at QoS 1, acknowledges it, and gives its topic, its payload and its Correlation Data.
    pub(crate) fn hear_response(&mut self) -> (String, Vec<u8>, Option<Vec<u8>>) {
        let mut buffer = [0; 4096];
        while self.first().is_none() {
            let count = self.stream.read(&mut buffer).expect("a packet");
            assert!(count > 0, "closed");
            self.heard.extend_from_slice(&buffer[..count]);
        }
        let frame = frame::next_for(self.version, Sender::Server, &self.heard, u32::MAX).expect("well formed");
        let correlation =
            match decode::decode(self.version, Sender::Server, frame.expect("whole")).expect("well formed") {
                Packet::Publish(publish) => publish.properties.correlation_data().map(<[u8]>::to_vec),
                other => panic!("no message: {other:?}"),
            };
        match self.hear() {
            Heard::Message(1, packet_id, topic, payload) => {
                self.acknowledge(PacketType::PubAck, packet_id);
                (topic, payload, correlation)
            }
            other => panic!("no message at QoS 1: {other:?}"),
        }
    }

    /// Hears that many packets.
    pub(crate) fn hear_all(&mut self, count: usize) -> Vec<Heard> {
        (0..count).map(|_| self.hear()).collect()
    }

    fn first(&self) -> Option<(Heard, usize)> {
        let frame = frame::next_for(self.version, Sender::Server, &self.heard, u32::MAX).expect("well formed")?;
        let kind = PacketType::of(frame.first).expect("a packet type");
        let heard = match decode::decode(self.version, Sender::Server, frame).expect("well formed") {
            Packet::ConnAck(connack) => {
                let code = match self.version {
                    Version::V5 => connack.reason.0,
                    _ => connack.reason.connack_return_code_v3().expect("a return code"),
                };
                let properties = properties(connack.properties);
                Heard::ConnAck(Hello { session_present: connack.session_present, code, properties })
            }
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                Heard::Answer(kind, ack.packet_id, ack.reason.0)
            }
            Packet::SubAck(ack) | Packet::UnsubAck(ack) => Heard::Codes(kind, ack.packet_id, ack.codes.to_vec()),
            Packet::Publish(Publish { qos, packet_id, topic, payload, .. }) => {
                Heard::Message(qos as u8, packet_id, topic.to_owned(), payload.to_vec())
            }
            Packet::PingResp => Heard::PingResp,
            Packet::Auth(auth) => {
                Heard::Auth(auth.reason.0, auth.properties.authentication_data().unwrap_or_default().to_vec())
            }
            Packet::Disconnect(disconnect) => Heard::Disconnect(disconnect.reason.0),
            other => panic!("a server does not say {other:?}"),
        };
        Some((heard, frame.len))
    }
}
