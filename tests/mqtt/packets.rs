//! Packets that are well formed, of every type, version and sender: values to compare with, owned, and the strategies
//! that make them.

use forebay::mqtt::packet::{
    Ack, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, QoS, Sender, SubAck, Subscribe,
    SubscriptionOptions, Unsubscribe, Version, Will,
};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{FilterBuf, encode};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A packet that owns what it is made of.
#[derive(Clone, Debug)]
pub(crate) enum Owned {
    Connect(OwnedConnect),
    ConnAck { session_present: bool, reason: ReasonCode, properties: PropertyBuf },
    Publish { first: u8, qos: QoS, topic: String, packet_id: u16, properties: PropertyBuf, payload: Vec<u8> },
    Ack { kind: PacketType, packet_id: u16, reason: ReasonCode, properties: PropertyBuf },
    Subscribe { packet_id: u16, properties: PropertyBuf, filters: FilterBuf },
    Unsubscribe { packet_id: u16, properties: PropertyBuf, filters: FilterBuf },
    SubAck { packet_id: u16, properties: PropertyBuf, codes: Vec<u8> },
    UnsubAck { packet_id: u16, properties: PropertyBuf, codes: Vec<u8> },
    PingReq,
    PingResp,
    Disconnect { reason: ReasonCode, properties: PropertyBuf },
    Auth { reason: ReasonCode, properties: PropertyBuf },
}

#[derive(Clone, Debug)]
pub(crate) struct OwnedConnect {
    version: Version,
    is_bridge: bool,
    clean_start: bool,
    keep_alive_s: u16,
    client_id: String,
    will: Option<(QoS, bool, String, Vec<u8>, PropertyBuf)>,
    username: Option<String>,
    password: Option<Vec<u8>>,
    properties: PropertyBuf,
}

/// A packet, and who sends it on which connection.
#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) version: Version,
    pub(crate) sender: Sender,
    pub(crate) packet: Owned,
}

impl Sent {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        encode::packet(self.version, &self.packet.view(), &mut out).expect("can be said");
        out
    }
}

impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sent { version, sender, packet } = self;
        write!(f, "{version:?} from {sender:?}: {:02x?} {:?}", self.bytes(), packet.view())
    }
}

impl Owned {
    pub(crate) fn view(&self) -> Packet<'_> {
        match self {
            Owned::Connect(connect) => Packet::Connect(connect.view()),
            Owned::ConnAck { session_present, reason, properties } => Packet::ConnAck(ConnAck {
                session_present: *session_present,
                reason: *reason,
                properties: properties.as_properties(),
            }),
            Owned::Publish { first, qos, topic, packet_id, properties, payload } => Packet::Publish(Publish {
                dup: first & 8 != 0,
                qos: *qos,
                retain: first & 1 != 0,
                topic,
                packet_id: *packet_id,
                properties: properties.as_properties(),
                payload,
            }),
            Owned::Ack { kind, packet_id, reason, properties } => {
                let ack = Ack { packet_id: *packet_id, reason: *reason, properties: properties.as_properties() };
                match kind {
                    PacketType::PubAck => Packet::PubAck(ack),
                    PacketType::PubRec => Packet::PubRec(ack),
                    PacketType::PubRel => Packet::PubRel(ack),
                    _ => Packet::PubComp(ack),
                }
            }
            Owned::Subscribe { packet_id, properties, filters } => Packet::Subscribe(Subscribe {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                filters: filters.as_filters(),
            }),
            Owned::Unsubscribe { packet_id, properties, filters } => Packet::Unsubscribe(Unsubscribe {
                packet_id: *packet_id,
                properties: properties.as_properties(),
                filters: filters.as_filters(),
            }),
            Owned::SubAck { packet_id, properties, codes } => {
                Packet::SubAck(SubAck { packet_id: *packet_id, properties: properties.as_properties(), codes })
            }
            Owned::UnsubAck { packet_id, properties, codes } => {
                Packet::UnsubAck(SubAck { packet_id: *packet_id, properties: properties.as_properties(), codes })
            }
            Owned::PingReq => Packet::PingReq,
            Owned::PingResp => Packet::PingResp,
            Owned::Disconnect { reason, properties } => {
                Packet::Disconnect(Disconnect { reason: *reason, properties: properties.as_properties() })
            }
            Owned::Auth { reason, properties } => {
                Packet::Auth(Disconnect { reason: *reason, properties: properties.as_properties() })
            }
        }
    }
}

impl OwnedConnect {
    fn view(&self) -> Connect<'_> {
        Connect {
            version: self.version,
            is_bridge: self.is_bridge,
            clean_start: self.clean_start,
            keep_alive_s: self.keep_alive_s,
            client_id: &self.client_id,
            will: self.will.as_ref().map(|(qos, retain, topic, payload, properties)| Will {
                qos: *qos,
                retain: *retain,
                topic,
                payload,
                properties: properties.as_properties(),
            }),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            properties: self.properties.as_properties(),
        }
    }
}

/// Cases of each property test; `PROPTEST_CASES` asks for more. A failure prints its packet, and leaves no file behind.
pub(crate) fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { 2_000 };
    ProptestConfig { cases, failure_persistence: None, ..default }
}

/// Any packet of any version.
pub(crate) fn any_sent() -> impl Strategy<Value = Sent> {
    select(vec![Version::V31, Version::V311, Version::V5]).prop_flat_map(sent_in)
}

/// Any packet of one version.
pub(crate) fn sent_in(version: Version) -> BoxedStrategy<Sent> {
    use Sender::{Client, Server};
    let sent = move |sender, packet: BoxedStrategy<Owned>| {
        packet.prop_map(move |packet| Sent { version, sender, packet }).boxed()
    };
    let ack = |sender| {
        select(vec![PacketType::PubAck, PacketType::PubRec, PacketType::PubRel, PacketType::PubComp])
            .prop_flat_map(move |kind| ack(version, sender, kind))
            .boxed()
    };
    let mut packets = vec![
        sent(Client, connect(version)),
        sent(Server, connack(version)),
        sent(Client, publish(version, Client)),
        sent(Server, publish(version, Server)),
        sent(Client, ack(Client)),
        sent(Server, ack(Server)),
        sent(Client, subscribe(version)),
        sent(Client, unsubscribe(version)),
        sent(Server, suback(version)),
        sent(Server, unsuback(version)),
        sent(Client, Just(Owned::PingReq).boxed()),
        sent(Server, Just(Owned::PingResp).boxed()),
        sent(Client, disconnect(version, Client)),
    ];
    if version == Version::V5 {
        packets.extend([
            sent(Server, disconnect(version, Server)),
            sent(Client, auth(Client)),
            sent(Server, auth(Server)),
        ]);
    }
    proptest::strategy::Union::new(packets).boxed()
}

fn connect(version: Version) -> BoxedStrategy<Owned> {
    const PROPERTIES: &[u8] = &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x27];
    const WILL_PROPERTIES: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18];
    let will = (any_qos(), any::<bool>(), topic_name(), binary(), properties(version, WILL_PROPERTIES));
    let is_bridge = any::<bool>().prop_map(move |is_bridge| is_bridge && version < Version::V5);
    let user = (option::of(text()), option::of(binary()));
    let head = ((any::<bool>(), is_bridge), any::<u16>(), text());
    (head, option::of(will), user, properties(version, PROPERTIES))
        .prop_map(
            move |(((clean_start, is_bridge), keep_alive_s, mut client_id), will, (username, password), properties)| {
                // 3.1.1 has no empty id for a kept session, 3.1 none at all, and neither a password without a name.
                if client_id.is_empty() && (version == Version::V31 || (version == Version::V311 && !clean_start)) {
                    client_id.push('c');
                }
                let password = if version < Version::V5 && username.is_none() { None } else { password };
                Owned::Connect(OwnedConnect {
                    version,
                    is_bridge,
                    clean_start,
                    keep_alive_s,
                    client_id,
                    will,
                    username,
                    password,
                    properties,
                })
            },
        )
        .boxed()
}

fn connack(version: Version) -> BoxedStrategy<Owned> {
    const PROPERTIES: &[u8] =
        &[0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x27, 0x28, 0x29, 0x2A];
    let reason = if version == Version::V5 {
        reason(PacketType::ConnAck, Sender::Server)
    } else {
        (0_u8..=5).prop_map(|code| ReasonCode::from_connack_return_code_v3(code).expect("defined")).boxed()
    };
    (any::<bool>(), reason, properties(version, PROPERTIES))
        .prop_map(move |(session_present, reason, properties)| Owned::ConnAck {
            session_present: session_present && reason == ReasonCode::SUCCESS && version != Version::V31,
            reason,
            properties,
        })
        .boxed()
}

fn publish(version: Version, sender: Sender) -> BoxedStrategy<Owned> {
    const PROPERTIES: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23];
    let identifiers = match sender {
        Sender::Server if version == Version::V5 => vec(1_u32..=268_435_455, 0..3).boxed(),
        _ => Just(Vec::new()).boxed(),
    };
    let flags = (any_qos(), any::<bool>(), any::<bool>(), any::<bool>());
    (flags, topic_name(), 1_u16.., properties(version, PROPERTIES), identifiers, vec(any::<u8>(), 0..300))
        .prop_map(|((qos, dup, retain, aliased), mut topic, packet_id, mut properties, identifiers, payload)| {
            properties.extend(identifiers.into_iter().map(Property::SubscriptionIdentifier));
            if aliased && properties.as_properties().topic_alias().is_some() {
                topic.clear();
            }
            let dup = dup && qos > QoS::AtMostOnce;
            let packet_id = if qos > QoS::AtMostOnce { packet_id } else { 0 };
            let first = 0x30 | u8::from(dup) << 3 | u8::from(retain);
            Owned::Publish { first, qos, topic, packet_id, properties, payload }
        })
        .boxed()
}

fn ack(version: Version, sender: Sender, kind: PacketType) -> BoxedStrategy<Owned> {
    let reason = if version == Version::V5 { reason(kind, sender) } else { Just(ReasonCode::SUCCESS).boxed() };
    (1_u16.., reason, properties(version, &[0x1F]))
        .prop_map(move |(packet_id, reason, properties)| Owned::Ack { kind, packet_id, reason, properties })
        .boxed()
}

fn subscribe(version: Version) -> BoxedStrategy<Owned> {
    let options = (any_qos(), any::<bool>(), any::<bool>(), 0_u8..3).prop_map(
        move |(qos, no_local, retain_as_published, retain_handling)| {
            if version == Version::V5 {
                SubscriptionOptions { qos, no_local, retain_as_published, retain_handling }
            } else {
                SubscriptionOptions { qos, ..SubscriptionOptions::default() }
            }
        },
    );
    (1_u16.., properties(version, &[0x0B]), vec((topic_filter(), options), 1..5))
        .prop_map(|(packet_id, properties, list)| {
            let mut filters = FilterBuf::for_subscribe();
            for (filter, mut options) in list {
                options.no_local &= !filter.starts_with("$share/");
                assert!(filters.push(&filter, options));
            }
            Owned::Subscribe { packet_id, properties, filters }
        })
        .boxed()
}

fn unsubscribe(version: Version) -> BoxedStrategy<Owned> {
    (1_u16.., properties(version, &[]), vec(topic_filter(), 1..5))
        .prop_map(|(packet_id, properties, list)| {
            let mut filters = FilterBuf::for_unsubscribe();
            for filter in list {
                assert!(filters.push(&filter, SubscriptionOptions::default()));
            }
            Owned::Unsubscribe { packet_id, properties, filters }
        })
        .boxed()
}

fn suback(version: Version) -> BoxedStrategy<Owned> {
    let code = match version {
        Version::V5 => reason(PacketType::SubAck, Sender::Server).prop_map(|reason| reason.0).boxed(),
        Version::V311 => select(vec![0, 1, 2, 0x80]).boxed(),
        Version::V31 => (0_u8..3).boxed(),
    };
    (1_u16.., properties(version, &[0x1F]), vec(code, 1..6))
        .prop_map(|(packet_id, properties, codes)| Owned::SubAck { packet_id, properties, codes })
        .boxed()
}

fn unsuback(version: Version) -> BoxedStrategy<Owned> {
    let codes = if version == Version::V5 {
        vec(reason(PacketType::UnsubAck, Sender::Server).prop_map(|reason| reason.0), 1..6).boxed()
    } else {
        Just(Vec::new()).boxed()
    };
    (1_u16.., properties(version, &[0x1F]), codes)
        .prop_map(|(packet_id, properties, codes)| Owned::UnsubAck { packet_id, properties, codes })
        .boxed()
}

fn disconnect(version: Version, sender: Sender) -> BoxedStrategy<Owned> {
    if version < Version::V5 {
        return Just(Owned::Disconnect { reason: ReasonCode::SUCCESS, properties: PropertyBuf::new() }).boxed();
    }
    let identifiers: &[u8] = if sender == Sender::Client { &[0x11, 0x1F] } else { &[0x1C, 0x1F] };
    (reason(PacketType::Disconnect, sender), properties(version, identifiers))
        .prop_map(|(reason, properties)| Owned::Disconnect { reason, properties })
        .boxed()
}

fn auth(sender: Sender) -> BoxedStrategy<Owned> {
    (reason(PacketType::Auth, sender), text(), option::of(binary()), properties(Version::V5, &[0x1F]))
        .prop_map(|(reason, method, data, mut properties)| {
            properties.push(Property::AuthenticationMethod(&method));
            if let Some(data) = data {
                properties.push(Property::AuthenticationData(&data));
            }
            Owned::Auth { reason, properties }
        })
        .boxed()
}

fn any_qos() -> impl Strategy<Value = QoS> {
    select(vec![QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
}

fn reason(kind: PacketType, sender: Sender) -> BoxedStrategy<ReasonCode> {
    select(ReasonCode::all().filter(|reason| reason.allowed_in(kind, sender)).collect::<Vec<_>>()).boxed()
}

/// Short, long enough for a length of two bytes, and with characters of every length in UTF-8.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![8 => "[a-z0-9 äß€𝄞\u{feff}]{0,8}", 1 => "[\\PC&&[^\u{0}]]{0,80}", 1 => "[a-zé]{120,180}"]
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![8 => vec(any::<u8>(), 0..8), 1 => vec(any::<u8>(), 120..400)]
}

fn topic_name() -> impl Strategy<Value = String> {
    prop_oneof![Just("/".to_owned()), "[a-z$é/]{1,20}", "[a-z]{1,3}(/[a-z]{0,3}){0,40}"]
}

fn topic_filter() -> impl Strategy<Value = String> {
    (option::weighted(0.2, "[a-z]{1,4}"), "(([a-zé]{0,3}|\\+)/){0,6}([a-z]{1,3}|\\+|#)").prop_map(|(share, filter)| {
        match share {
            Some(name) => format!("$share/{name}/{filter}"),
            None => filter,
        }
    })
}

/// Some of the properties with these identifiers in any order, User Properties among them; none before 5.0.
fn properties(version: Version, identifiers: &'static [u8]) -> BoxedStrategy<PropertyBuf> {
    if version < Version::V5 {
        return Just(PropertyBuf::new()).boxed();
    }
    let some = subsequence(identifiers.to_vec(), 0..=identifiers.len());
    (some, vec((text(), text()), 0..3), text(), binary(), topic_name(), 1_u32..=268_435_455, any::<bool>())
        .prop_map(|(mut some, users, text, data, topic, number, flag)| {
            // Data has no place without its method.
            if some.contains(&0x16) && !some.contains(&0x15) {
                some.push(0x15);
            }
            let mut properties = PropertyBuf::new();
            let mut users = users.iter();
            for identifier in some {
                let property = property(identifier, &text, &data, &topic, number, flag);
                assert_eq!(property.identifier(), identifier);
                assert!(properties.push(property));
                if let Some((name, value)) = users.next() {
                    assert!(properties.push(Property::UserProperty(name, value)));
                }
            }
            properties.extend(users.map(|(name, value)| Property::UserProperty(name, value)));
            properties
        })
        .boxed()
}

/// The property with this identifier, its value from what fits.
fn property<'a>(
    identifier: u8,
    text: &'a str,
    data: &'a [u8],
    topic: &'a str,
    number: u32,
    flag: bool,
) -> Property<'a> {
    let short = (number as u16).max(1);
    match identifier {
        0x01 => Property::PayloadFormatIndicator(u8::from(flag)),
        0x02 => Property::MessageExpiryInterval(number),
        0x03 => Property::ContentType(text),
        0x08 => Property::ResponseTopic(topic),
        0x09 => Property::CorrelationData(data),
        0x0B => Property::SubscriptionIdentifier(number),
        0x11 => Property::SessionExpiryInterval(number),
        0x12 => Property::AssignedClientIdentifier(text),
        0x13 => Property::ServerKeepAlive(short),
        0x15 => Property::AuthenticationMethod(text),
        0x16 => Property::AuthenticationData(data),
        0x17 => Property::RequestProblemInformation(flag),
        0x18 => Property::WillDelayInterval(number),
        0x19 => Property::RequestResponseInformation(flag),
        0x1A => Property::ResponseInformation(text),
        0x1C => Property::ServerReference(text),
        0x1F => Property::ReasonString(text),
        0x21 => Property::ReceiveMaximum(short),
        0x22 => Property::TopicAliasMaximum(short),
        0x23 => Property::TopicAlias(short),
        0x24 => Property::MaximumQoS(u8::from(flag)),
        0x25 => Property::RetainAvailable(flag),
        0x27 => Property::MaximumPacketSize(number),
        0x28 => Property::WildcardSubscriptionAvailable(flag),
        0x29 => Property::SubscriptionIdentifierAvailable(flag),
        0x2A => Property::SharedSubscriptionAvailable(flag),
        other => panic!("no property {other:#04x}"),
    }
}
