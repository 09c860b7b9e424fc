//! A client and a remote that is played by the test, packet by packet.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Client, Effect, Ending, Event, Login, PACKET_ID, Settings, Standing, Versions, Wanted};
use forebay_guard::outward::{self, Ended, Endpoint, LinkId, News};
use forebay_guard::secure::Secret;
use forebay_mqtt::packet::{ConnAck, Connect, Disconnect, Packet, QoS, Sender, SubAck, SubscriptionOptions, Version};
use forebay_mqtt::property::{Properties, Property, PropertyBuf};
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::{decode, encode, frame};
use forebay_runtime::seam::Monotonic;

const START: Monotonic = Monotonic(1_000_000_000);
const S: Duration = Duration::from_secs(1);

fn login(versions: Versions) -> Login {
    Login {
        versions,
        says_bridge: true,
        client_id: "forebay-plant".into(),
        username: Some("edge".into()),
        password: Some(Secret::new(b"pw".to_vec())),
        clean_start: false,
        session_expiry_s: 3600,
        keep_alive_s: 60,
        receive_maximum: 100,
        packet_bytes_max: 1 << 20,
        in_flight_max: None,
        instance: "".into(),
    }
}

fn wanted(filter: &str, qos: QoS) -> Wanted {
    let options = SubscriptionOptions { qos, no_local: true, retain_as_published: true, retain_handling: 1 };
    Wanted { filter: filter.into(), options }
}

fn settings(versions: Versions, wanted: &[Wanted]) -> Settings {
    let outward = outward::Settings {
        connect_timeout: 10 * S,
        backoff_min: S,
        backoff_max: 30 * S,
        refused_backoff_max: 30 * S,
        tls: None,
    };
    let endpoint = Endpoint { host: Rc::from("10.0.0.1"), port: 1883 };
    Settings { outward, endpoint, login: login(versions), wanted: wanted.to_vec(), gone: Vec::new() }
}

/// A client with the link of its connection, and the time.
struct World {
    client: Client,
    version: Version,
    link: LinkId,
    now: Monotonic,
    events: Vec<Event>,
    sent: Vec<u8>,
    closed: Vec<LinkId>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let client = Client::new(settings, 7);
        let (events, sent, closed) = (Vec::new(), Vec::new(), Vec::new());
        let mut world = Self { client, version: Version::V5, link: LinkId(0), now: START, events, sent, closed };
        world.client.start(START);
        world.carry();
        world
    }

    /// A world with a CONNECT on the wire.
    fn greeting(settings: Settings) -> Self {
        let mut world = Self::new(settings);
        world.connects();
        world
    }

    /// A world with a CONNACK of these properties.
    fn open(settings: Settings, present: bool, properties: &[Property<'_>]) -> Self {
        let mut world = Self::greeting(settings);
        world.sent.clear();
        assert_eq!(world.connack(present, ReasonCode::SUCCESS, properties), 0);
        world
    }

    /// Does what the client asks for, except connecting, which the test controls.
    fn carry(&mut self) {
        let mut effects = Vec::new();
        self.client.take_effects(&mut effects);
        for effect in effects {
            match effect {
                Effect::Connect { link, .. } => self.link = link,
                Effect::Send { link, chunks } => {
                    assert_eq!(link, self.link);
                    chunks.iter().for_each(|chunk| self.sent.extend_from_slice(chunk.bytes()));
                }
                Effect::Close { link } => self.closed.push(link),
                Effect::Event(event) => self.events.push(event),
                Effect::Resolve { .. } | Effect::Prepare { .. } => panic!("not for a literal address"),
            }
        }
    }

    fn connects(&mut self) {
        self.client.on_connected(self.link);
        self.carry();
    }

    /// Gives the client bytes. Returns the number left to the session.
    fn bytes(&mut self, bytes: &[u8]) -> usize {
        let used = self.client.on_bytes(self.link, bytes, self.now);
        self.carry();
        bytes.len() - used
    }

    fn connack(&mut self, present: bool, reason: ReasonCode, properties: &[Property<'_>]) -> usize {
        let mut buf = PropertyBuf::new();
        buf.extend(properties.iter().copied());
        let mut out = Vec::new();
        let packet = ConnAck { session_present: present, reason, properties: buf.as_properties() };
        encode::connack(self.version, &packet, &mut out).expect("it can be said");
        self.bytes(&out)
    }

    /// Gives the client a packet, as the session does.
    fn packet(&mut self, packet: &Packet<'_>) -> Result<(), Ending> {
        let result = self.client.packet(packet, self.now);
        self.carry();
        result
    }

    fn suback(&mut self, codes: &[u8]) -> Result<(), Ending> {
        self.packet(&Packet::SubAck(SubAck { packet_id: PACKET_ID, properties: Properties::EMPTY, codes }))
    }

    fn unsuback(&mut self, codes: &[u8]) -> Result<(), Ending> {
        self.packet(&Packet::UnsubAck(SubAck { packet_id: PACKET_ID, properties: Properties::EMPTY, codes }))
    }

    /// The packets that the client has sent since the last call, in words.
    fn said(&mut self) -> Vec<String> {
        let bytes = std::mem::take(&mut self.sent);
        said(self.version, &bytes)
    }

    fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Advances the time until a deadline, and handles it. Returns the time passed.
    fn wait(&mut self) -> Duration {
        let at = self.client.next_deadline();
        let took = at.since(self.now);
        self.now = at;
        self.client.on_time(|_| 0, at);
        self.carry();
        took
    }

    fn close(&mut self) {
        self.client.on_closed(self.link, &Ended::Lost("closed".into()), self.now);
        self.carry();
    }
}

fn said(version: Version, mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = frame::next_for(version, Sender::Client, bytes, u32::MAX).expect("well-formed") {
        bytes = &bytes[frame.len..];
        all.push(match decode::decode(version, Sender::Client, frame).expect("well-formed") {
            Packet::Subscribe(subscribe) => {
                assert_eq!(subscribe.packet_id, PACKET_ID);
                let filter = |(filter, of): (&str, SubscriptionOptions)| format!(" {filter} {:#04x}", of.to_byte());
                format!("SUBSCRIBE{}", subscribe.filters.iter().map(filter).collect::<String>())
            }
            Packet::Unsubscribe(unsubscribe) => {
                assert_eq!(unsubscribe.packet_id, PACKET_ID);
                let filters = unsubscribe.filters.iter().map(|(filter, _)| format!(" {filter}"));
                format!("UNSUBSCRIBE{}", filters.collect::<String>())
            }
            Packet::PingReq => "PINGREQ".to_owned(),
            other => panic!("{other:?}"),
        });
    }
    assert!(bytes.is_empty());
    all
}

/// Passes the CONNECT that was sent to `look`.
fn connect<R>(world: &World, look: impl FnOnce(&Connect<'_>) -> R) -> R {
    let frame = frame::next_connect(&world.sent, u32::MAX).expect("well-formed").expect("whole");
    assert_eq!(frame.len, world.sent.len(), "nothing behind it");
    look(&decode::connect(frame).expect("well-formed"))
}

fn lost(event: &Event) -> bool {
    matches!(event, Event::Lost(..))
}

/// G2, G3: CONNECT has the configured contents, SUBSCRIBE follows CONNACK, and each filter has its answer.
#[test]
fn it_logs_in_and_subscribes() {
    let mut world = World::greeting(settings(Versions::V5, &[wanted("plant/#", QoS::AtLeastOnce)]));
    connect(&world, |connect| {
        assert_eq!((connect.version, connect.client_id, connect.clean_start), (Version::V5, "forebay-plant", false));
        assert_eq!((connect.username, connect.password), (Some("edge"), Some(&b"pw"[..])));
        assert_eq!((connect.keep_alive_s, connect.will.is_none()), (60, true));
        let properties = connect.properties;
        assert_eq!(properties.session_expiry_interval_s(), Some(3600));
        assert_eq!((properties.receive_maximum(), properties.maximum_packet_size()), (Some(100), Some(1 << 20)));
        assert_eq!(properties.topic_alias_maximum(), None, "the remote may use none");
    });
    world.sent.clear();
    assert_eq!(world.connack(false, ReasonCode::SUCCESS, &[]), 0);
    assert_eq!(world.said(), ["SUBSCRIBE plant/# 0x1d"]);
    let told = world.told();
    assert!(
        matches!(&told[..], [Event::Outward(News::Reachable(true)), Event::Connected(link, _)] if *link == world.link)
    );
    world.suback(&[0]).expect("an answer");
    assert_eq!(world.told(), [Event::Subscribed(vec![Standing::Granted(QoS::AtMostOnce)])]);
    assert_eq!(world.client.stats().logins, 1);
}

/// Bytes after CONNACK in the same read, or before SUBACK, are the session's; CONNACK itself may arrive in pieces.
#[test]
fn messages_may_come_at_once() {
    let connack = [0x20, 3, 1, 0, 0];
    let publish = [0x30, 4, 0, 1, b'a', 0];
    let both = [&connack[..], &publish[..]].concat();
    for first in 1..both.len() {
        let mut world = World::greeting(settings(Versions::V5, &[]));
        let left = world.bytes(&both[..first]);
        assert_eq!(left, first.saturating_sub(connack.len()));
        if first < connack.len() {
            assert_eq!(world.bytes(&both[first..]), publish.len());
        }
        let (granted, _) = world.client.standing().expect("connected");
        assert!(granted.session_present);
        assert_eq!(world.bytes(&publish), publish.len(), "all that follows");
        assert!(matches!(world.told()[..], [_, Event::Connected(..), Event::Subscribed(_)]));
    }
}

/// G3: the values in CONNACK replace the requested ones.
#[test]
fn what_is_granted() {
    let properties = [
        Property::ServerKeepAlive(20),
        Property::ReceiveMaximum(5),
        Property::MaximumQoS(1),
        Property::RetainAvailable(false),
        Property::MaximumPacketSize(4_000),
        Property::TopicAliasMaximum(9),
        Property::SessionExpiryInterval(60),
        Property::WildcardSubscriptionAvailable(false),
        Property::SharedSubscriptionAvailable(false),
    ];
    let filters = ["a/#", "$share/g/b", "c", "d/+", "$share/g/#"].map(|filter| wanted(filter, QoS::ExactlyOnce));
    let mut world = World::open(settings(Versions::V5, &filters), false, &properties);
    assert_eq!(world.said(), ["SUBSCRIBE c 0x1e"], "what the remote says it has not is not asked for");
    world.suback(&[1]).expect("an answer");
    let (granted, standings) = world.client.standing().expect("connected");
    assert_eq!((granted.keep_alive_s, granted.in_flight_max, granted.maximum_qos), (20, 5, QoS::AtLeastOnce));
    assert_eq!((granted.retain_available, granted.packet_size_max), (false, 4_000));
    assert_eq!((granted.topic_alias_maximum, granted.session_expiry_s), (9, 60));
    let no_wildcards = Standing::Refused(ReasonCode::WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED);
    let no_shares = Standing::Refused(ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED);
    let granted = Standing::Granted(QoS::AtLeastOnce);
    assert_eq!(standings, [no_wildcards, no_shares, granted, no_wildcards, no_shares]);
    assert_eq!(world.client.next_deadline(), START.after(15 * S), "PINGREQ next; nobody asks for those again");
}

#[test]
fn how_much_may_be_on_its_way() {
    for (configured, receive_maximum, granted) in [
        (None, None, 1024),
        (None, Some(7), 7),
        (Some(20), Some(7), 7),
        (Some(20), None, 20),
        (Some(9_000), None, 1024),
    ] {
        let mut settings = settings(Versions::V5, &[]);
        settings.login.in_flight_max = configured;
        let properties: Vec<_> = receive_maximum.map(Property::ReceiveMaximum).into_iter().collect();
        let world = World::open(settings, false, &properties);
        assert_eq!(world.client.standing().expect("connected").0.in_flight_max, granted);
    }
    for (configured, granted) in [(None, 20), (Some(64), 64), (Some(0), 1)] {
        let mut settings = settings(Versions::V311, &[]);
        settings.login.in_flight_max = configured;
        let mut world = World::greeting(settings);
        world.version = Version::V311;
        world.connack(false, ReasonCode::SUCCESS, &[]);
        let (of, _) = world.client.standing().expect("connected");
        assert_eq!((of.in_flight_max, of.session_expiry_s, of.keep_alive_s), (granted, u32::MAX, 60));
    }
}

/// G3: an older remote is found without a wait, and the form that it accepts is tried first from then on.
#[test]
fn older_versions_are_tried_in_turn() {
    let mut world = World::greeting(settings(Versions::Any, &[wanted("a", QoS::ExactlyOnce)]));
    // A server of 3.1.1 refuses in its own way.
    assert_eq!(world.bytes(&[0x20, 2, 0, 1]), 0);
    world.sent.clear();
    world.connects();
    connect(&world, |connect| assert_eq!((connect.version, connect.is_bridge), (Version::V311, true)));
    world.bytes(&[0x20, 2, 0, 1]);
    world.sent.clear();
    world.connects();
    connect(&world, |connect| {
        assert_eq!((connect.version, connect.is_bridge, connect.clean_start), (Version::V311, false, false));
        assert!(connect.properties.is_empty());
    });
    assert_eq!((world.now, world.closed.len()), (START, 2));
    assert_eq!(world.told(), [], "nothing has failed");
    world.sent.clear();
    world.bytes(&[0x20, 2, 0, 0]);
    world.version = Version::V311;
    assert_eq!(world.said(), ["SUBSCRIBE a 0x02"]);
    world.close();
    world.wait();
    world.connects();
    connect(&world, |connect| assert_eq!((connect.version, connect.is_bridge), (Version::V311, false)));
}

/// G3: a lasting refusal is reported once, and retried rarely.
#[test]
fn a_refusal_that_will_not_heal() {
    for reason in [ReasonCode::BAD_USER_NAME_OR_PASSWORD, ReasonCode::NOT_AUTHORIZED, ReasonCode::BANNED] {
        let mut world = World::greeting(settings(Versions::V5, &[]));
        for attempt in 0..3 {
            world.connack(false, reason, &[Property::ReasonString("who\u{7} are you?")]);
            let told = world.told();
            match &told[..] {
                [Event::Outward(News::LoginRefused(refused))] if attempt == 0 => {
                    assert_eq!((&*refused.broker, &*refused.user), ("10.0.0.1:1883", "edge"));
                    assert_eq!(refused.reason, format!("{}: who are you?", reason.name()));
                }
                [] if attempt > 0 => {}
                other => panic!("{other:?}"),
            }
            assert!((24 * S..=36 * S).contains(&world.wait()), "at once the longest");
            world.connects();
        }
        world.connack(false, ReasonCode::SUCCESS, &[]);
        let told = world.told();
        assert!(told.contains(&Event::Outward(News::BrokerReachable("10.0.0.1:1883".to_owned()))), "{told:?}");
    }
    let mut world = World::greeting(settings(Versions::V5, &[]));
    world.connack(false, ReasonCode::SERVER_MOVED, &[Property::ServerReference("other:1883")]);
    let told = world.told();
    assert!(
        matches!(&told[..], [Event::Outward(News::LoginRefused(refused))] if refused.reason.ends_with("(other:1883)")),
        "{told:?}"
    );
    let mut world = World::greeting(settings(Versions::V5, &[]));
    world.bytes(&[0x20, 2, 0, 1]);
    let told = world.told();
    let words = "Unsupported Protocol Version: MQTT 5.0";
    assert!(matches!(&told[..], [Event::Outward(News::LoginRefused(refused))] if refused.reason == words), "{told:?}");
}

#[test]
fn a_refusal_that_may_heal() {
    let mut world = World::greeting(settings(Versions::V5, &[]));
    let mut waits = Vec::new();
    for _ in 0..7 {
        world.connack(false, ReasonCode::SERVER_BUSY, &[]);
        waits.push(world.wait());
        world.connects();
    }
    for (wait, s) in waits.iter().zip([1, 2, 4, 8, 16, 30, 30]) {
        assert!((S * s).mul_f64(0.8) <= *wait && *wait <= (S * s).mul_f64(1.2), "{waits:?}");
    }
    assert_eq!(world.told(), [Event::Unreachable("10.0.0.1:1883".to_owned(), "Server busy".to_owned())], "once");
}

/// Two clients of one name end each other's connections, but not as fast as they can connect.
#[test]
fn a_connection_that_does_not_stand_ends_no_backoff() {
    let mut world = World::greeting(settings(Versions::V5, &[]));
    let taken_over = Disconnect { reason: ReasonCode::SESSION_TAKEN_OVER, properties: Properties::EMPTY };
    let mut waits = Vec::new();
    for _ in 0..6 {
        world.connack(true, ReasonCode::SUCCESS, &[]);
        let ending = world.packet(&Packet::Disconnect(taken_over.clone())).expect_err("it ends");
        world.client.ended(world.link, &ending, world.now);
        world.carry();
        waits.push(world.wait());
        world.connects();
    }
    assert!(waits[5] >= 24 * S, "{waits:?}");
    let told = world.told();
    assert_eq!(told.iter().filter(|event| lost(event)).count(), 6);
    assert!(told.contains(&Event::Lost(LinkId(0), "Session taken over".to_owned())));
    assert!(world.closed.is_empty(), "who has taken the end closes it");
    // The connection has existed for as long as the longest wait.
    world.connack(true, ReasonCode::SUCCESS, &[]);
    world.now = world.now.after(30 * S);
    world.close();
    assert!(world.wait() <= 2 * S);
}

/// G5, G6.
#[test]
fn a_remote_that_says_nothing() {
    // No CONNACK: the attempt has ten seconds in all.
    let mut world = World::greeting(settings(Versions::V5, &[wanted("a", QoS::AtMostOnce)]));
    assert_eq!(world.wait(), 10 * S);
    assert_eq!(
        world.told(),
        [Event::Unreachable("10.0.0.1:1883".to_owned(), "no answer to CONNECT in time".to_owned())]
    );
    assert_eq!(world.closed, [LinkId(0)]);
    // No SUBACK.
    let mut world = World::open(settings(Versions::V5, &[wanted("a", QoS::AtMostOnce)]), false, &[]);
    assert_eq!(world.wait(), 10 * S);
    assert!(world.told().contains(&Event::Lost(world.link, "no answer to SUBSCRIBE in time".to_owned())));
    // No PINGRESP.
    let mut world = World::open(settings(Versions::V5, &[]), false, &[]);
    assert_eq!((world.wait(), world.said()), (45 * S, vec!["PINGREQ".to_owned()]));
    world.packet(&Packet::PingResp).expect("an answer");
    assert_eq!((world.wait(), world.said()), (45 * S, vec!["PINGREQ".to_owned()]));
    world.client.heard();
    assert_eq!((world.wait(), world.said()), (45 * S, vec!["PINGREQ".to_owned()]), "whatever came");
    assert_eq!(world.wait(), 15 * S);
    assert!(world.told().contains(&Event::Lost(world.link, "no answer to PINGREQ in time".to_owned())));
    // An unread connection cannot have an answer.
    let mut world = World::open(settings(Versions::V5, &[]), false, &[]);
    world.client.is_read(false);
    for _ in 0..5 {
        assert_eq!((world.wait(), world.said()), (45 * S, vec!["PINGREQ".to_owned()]));
    }
    assert!(!world.told().iter().any(lost));
}

/// G6: a packet that a server may not send ends the connection.
#[test]
fn a_remote_that_breaks_the_rules() {
    let filters = [wanted("a", QoS::AtMostOnce), wanted("b", QoS::AtMostOnce)];
    for first in [&[0x30, 4, 0, 1, b'a', 0][..], &[0xF0, 0], &[0xE0, 0], &[0x20, 0xFF, 0xFF, 0xFF, 0x7F], &[0x21]] {
        let mut world = World::greeting(settings(Versions::V5, &filters));
        world.bytes(first);
        assert!(matches!(world.told()[..], [Event::Unreachable(..)]), "{first:?} comes before CONNACK");
        assert_eq!((world.closed.len(), world.client.stats().malformed), (1, 1));
    }
    let mut anew = settings(Versions::V5, &filters);
    anew.login.clean_start = true;
    let mut world = World::greeting(anew);
    world.connack(true, ReasonCode::SUCCESS, &[]);
    assert!(world.client.standing().is_none(), "a clean start leaves nothing");

    let open = || World::open(settings(Versions::V5, &filters), false, &[]);
    let ends = |ended: Result<(), Ending>, clause: &str| match ended {
        Err(Ending::Violation(malformed)) => assert_eq!(malformed.clause, clause),
        other => panic!("{other:?} for {clause}"),
    };
    let mut world = open();
    ends(world.suback(&[0]), "MQTT-3.8.4-6");
    ends(open().suback(&[0, 0, 0]), "MQTT-3.8.4-6");
    ends(open().unsuback(&[0, 0]), "section 3.8.4");
    let other = SubAck { packet_id: 1, properties: Properties::EMPTY, codes: &[0, 0] };
    ends(open().packet(&Packet::SubAck(other)), "section 3.8.4");
    let connack = ConnAck { session_present: false, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY };
    ends(open().packet(&Packet::ConnAck(connack)), "section 3.2");
    let auth = Disconnect { reason: ReasonCode::CONTINUE_AUTHENTICATION, properties: Properties::EMPTY };
    ends(open().packet(&Packet::Auth(auth)), "MQTT-4.12.0-6");
    let mut world = open();
    world.suback(&[0, 0]).expect("an answer");
    ends(world.suback(&[0, 0]), "section 3.8.4");
}

/// G2: a filter that is refused is asked for again, alone, after longer and longer waits.
#[test]
fn a_filter_that_is_refused_is_asked_for_again() {
    let mut settings = settings(Versions::V5, &[wanted("a", QoS::AtMostOnce), wanted("b", QoS::AtLeastOnce)]);
    settings.login.keep_alive_s = 0;
    let mut world = World::open(settings, false, &[]);
    assert_eq!(world.said(), ["SUBSCRIBE a 0x1c b 0x1d"]);
    world.suback(&[0x87, 1]).expect("an answer");
    let granted = Standing::Granted(QoS::AtLeastOnce);
    let (_, refused) = (world.told(), vec![Standing::Refused(ReasonCode::NOT_AUTHORIZED), granted]);
    for s in [1, 2, 4, 8, 16, 30] {
        let wait = world.wait();
        assert!((S * s).mul_f64(0.8) <= wait && wait <= (S * s).mul_f64(1.2), "{wait:?} for {s}");
        assert_eq!(world.said(), ["SUBSCRIBE a 0x1c"]);
        world.suback(&[0x87]).expect("an answer");
        assert_eq!(world.told(), [Event::Subscribed(refused.clone())]);
    }
    world.wait();
    world.suback(&[0]).expect("an answer");
    assert_eq!(world.told(), [Event::Subscribed(vec![Standing::Granted(QoS::AtMostOnce), granted])]);
    assert_eq!(world.client.next_deadline(), Monotonic::NEVER);
}

/// Eight filters at a time, as far as they fit; those to unsubscribe first, if the remote may have them.
#[test]
fn filters_go_in_portions() {
    let filters: Vec<_> = (0..17).map(|n| wanted(&format!("f{n}"), QoS::AtMostOnce)).collect();
    let mut of = settings(Versions::V5, &filters);
    of.gone = ["old/#", "f3"].map(Into::into).to_vec();
    let mut world = World::open(of.clone(), true, &[]);
    assert_eq!(world.said(), ["UNSUBSCRIBE old/#"], "one that is wanted stays");
    world.unsuback(&[0x11]).expect("an answer");
    let mut asked = Vec::new();
    for count in [8, 8, 1] {
        let said = world.said();
        assert_eq!(said.len(), 1, "one at a time");
        asked.extend(said[0].split(' ').filter(|word| word.starts_with('f')).map(str::to_owned));
        assert!(!world.told().iter().any(|event| matches!(event, Event::Subscribed(_))));
        world.suback(&[0; 8][..count]).expect("an answer");
    }
    assert_eq!(asked, (0..17).map(|n| format!("f{n}")).collect::<Vec<_>>());
    assert_eq!(world.told(), [Event::Subscribed(vec![Standing::Granted(QoS::AtMostOnce); 17])]);
    // The remote has forgotten all subscriptions.
    let mut world = World::open(of, false, &[]);
    assert!(world.said()[0].starts_with("SUBSCRIBE f0"));
    // Packets of 40 bytes.
    let long = [&"a".repeat(20), &"b".repeat(5), &"c".repeat(30), "d"].map(|filter| wanted(filter, QoS::AtMostOnce));
    let mut of = settings(Versions::V5, &long);
    of.gone = [&*"e".repeat(20), &"f".repeat(20), &"g".repeat(40)].map(Into::into).to_vec();
    let mut world = World::open(of, true, &[Property::MaximumPacketSize(40)]);
    for _ in 0..2 {
        assert_eq!(world.said()[0].split(' ').count(), 2, "one at a time, and the remote cannot have the last");
        world.unsuback(&[0]).expect("an answer");
    }
    let mut said = world.said();
    while world.client.standing().expect("connected").1.contains(&Standing::Open) {
        let bytes = world.sent.len();
        assert!(bytes <= 40);
        let count = said.last().expect("one").split(' ').count() / 2;
        world.suback(&[0; 8][..count]).expect("an answer");
        said.extend(world.said());
    }
    assert_eq!(said.len(), 2, "{said:?}");
    let (_, standings) = world.client.standing().expect("connected");
    assert_eq!(standings[2], Standing::Refused(ReasonCode::PACKET_TOO_LARGE), "it fits nowhere");
}

/// G1: the remote forgets another client's state once.
#[test]
fn it_begins_anew_once() {
    let mut world = World::new(settings(Versions::V5, &[]));
    world.client.begin_anew();
    let mut clean = Vec::new();
    for _ in 0..3 {
        world.connects();
        clean.push(connect(&world, |connect| connect.clean_start));
        world.sent.clear();
        if clean.len() > 1 {
            world.connack(false, ReasonCode::SUCCESS, &[]);
        }
        world.close();
        world.wait();
    }
    assert_eq!(clean, [true, true, false], "until a remote has done so");
}

#[test]
fn it_stops_and_starts() {
    let mut world = World::open(settings(Versions::V5, &[]), false, &[]);
    world.client.stop(world.now);
    world.carry();
    assert_eq!(world.told().pop(), Some(Event::Lost(LinkId(0), "stopped".to_owned())));
    assert_eq!((world.closed.clone(), world.client.next_deadline()), (vec![LinkId(0)], Monotonic::NEVER));
    world.client.start(world.now);
    world.carry();
    assert_eq!(world.link, LinkId(1));
}

#[test]
fn a_name_that_is_not_resolved() {
    let mut of = settings(Versions::V5, &[]);
    of.endpoint.host = Rc::from("plant.example");
    let mut client = Client::new(of, 7);
    client.start(START);
    let mut effects = Vec::new();
    client.take_effects(&mut effects);
    assert!(matches!(effects[..], [Effect::Resolve { ticket: 0, port: 1883, .. }]));
    client.on_resolved(0, Err("no such host".to_owned()), START);
    effects.clear();
    client.take_effects(&mut effects);
    assert!(matches!(&effects[..], [Effect::Event(Event::Unreachable(remote, why))]
        if remote == "plant.example:1883" && why == "no such host"));
    let again = client.next_deadline();
    client.on_time(|_| 0, again);
    client.on_resolved(1, Ok(vec![SocketAddr::from(([10, 0, 0, 9], 1883))]), again);
    effects.clear();
    client.take_effects(&mut effects);
    assert!(matches!(effects[..], [Effect::Resolve { ticket: 1, .. }, Effect::Connect { .. }]));
}

/// A secret is only in CONNECT.
#[test]
fn a_password_is_not_shown() {
    let mut of = settings(Versions::V5, &[]);
    of.login.password = Some(Secret::new(b"hunter2".to_vec()));
    let client = Client::new(of, 7);
    assert!(!format!("{client:?}").contains("hunter2"));
}

/// An action of a remote.
#[derive(Clone, Debug)]
enum Move {
    Bytes(Vec<u8>),
    ConnAck(bool, u8, u8),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16, Vec<u8>),
    PingResp,
    Disconnect(u8),
    Close,
    Time,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let codes = proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(2), Just(0x80), Just(0x87)], 1..10);
    let id = prop_oneof![8 => Just(PACKET_ID), 1 => any::<u16>()];
    let one = prop_oneof![
        1 => proptest::collection::vec(any::<u8>(), 0..12).prop_map(Move::Bytes),
        6 => (any::<bool>(), prop_oneof![4 => Just(0), 1 => Just(0x86), 1 => Just(0x84), 1 => Just(0x89)], any::<u8>())
            .prop_map(|(present, reason, granted)| Move::ConnAck(present, reason, granted)),
        6 => (id.clone(), codes.clone()).prop_map(|(id, codes)| Move::SubAck(id, codes)),
        2 => (id, codes).prop_map(|(id, codes)| Move::UnsubAck(id, codes)),
        2 => Just(Move::PingResp),
        1 => prop_oneof![Just(0), Just(0x8B), Just(0x8E), Just(0x87)].prop_map(Move::Disconnect),
        1 => Just(Move::Close),
        4 => Just(Move::Time),
    ];
    proptest::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    /// Whatever the remote does: all output is well formed and has one request at a time, every reported connection ends once, and
    /// there is always a deadline.
    #[test]
    fn a_remote_may_do_what_it_likes(moves in moves(), filters in 0_usize..20) {
        let filters: Vec<_> = (0..filters).map(|n| wanted(&format!("f{n}/#"), QoS::AtLeastOnce)).collect();
        let mut of = settings(Versions::V5, &filters);
        of.gone = vec!["old".into()];
        let mut world = World::greeting(of);
        world.sent.clear();
        let mut connected: Option<LinkId> = None;
        let mut unanswered = 0;
        for step in moves {
            let ending = match step {
                Move::Bytes(bytes) => { world.bytes(&bytes); Ok(()) }
                Move::ConnAck(present, reason, granted) => {
                    let properties = [
                        Property::MaximumPacketSize(u32::from(granted) + 1),
                        Property::SharedSubscriptionAvailable(granted % 2 == 0),
                        Property::WildcardSubscriptionAvailable(granted % 8 != 0),
                        Property::ServerKeepAlive(u16::from(granted)),
                    ];
                    world.connack(present && reason == 0, ReasonCode(reason), &properties);
                    Ok(())
                }
                Move::SubAck(packet_id, codes) => {
                    let codes = if unanswered > 0 && packet_id % 2 == 1 { &codes[..unanswered.min(codes.len())] } else { &codes };
                    world.packet(&Packet::SubAck(SubAck { packet_id, properties: Properties::EMPTY, codes }))
                }
                Move::UnsubAck(packet_id, codes) =>
                    world.packet(&Packet::UnsubAck(SubAck { packet_id, properties: Properties::EMPTY, codes: &codes[..1] })),
                Move::PingResp => world.packet(&Packet::PingResp),
                Move::Disconnect(reason) =>
                    world.packet(&Packet::Disconnect(Disconnect { reason: ReasonCode(reason), properties: Properties::EMPTY })),
                Move::Close => { world.close(); Ok(()) }
                Move::Time if world.client.next_deadline() == Monotonic::NEVER => Ok(()),
                Move::Time => { world.wait(); Ok(()) }
            };
            if let Err(ending) = ending {
                prop_assert_eq!(connected, Some(world.link));
                world.client.ended(world.link, &ending, world.now);
                world.carry();
            }
            for event in world.told() {
                match event {
                    Event::Connected(link, _) => prop_assert_eq!(connected.replace(link), None),
                    Event::Lost(link, _) => prop_assert_eq!(connected.take(), Some(link)),
                    Event::Subscribed(standings) => {
                        prop_assert_eq!(standings.len(), filters.len());
                        prop_assert!(!standings.contains(&Standing::Open));
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(connected.is_some(), world.client.standing().is_some());
            let asks: Vec<_> = world.said().into_iter().filter(|said| said != "PINGREQ").collect();
            prop_assert!(asks.len() <= 1, "one at a time: {:?}", asks);
            if let Some(asked) = asks.first() {
                let filters = asked.split(' ').filter(|word| word.starts_with('f')).count();
                prop_assert!(filters <= 8);
                unanswered = filters;
            }
            prop_assert!(world.client.next_deadline() < Monotonic::NEVER || connected.is_some());
            // A new attempt connects at once, and its CONNECT is not looked at.
            world.connects();
            world.sent.clear();
        }
    }
}
