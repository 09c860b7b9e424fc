//! Bridges: a shard as a client of another broker, the remote, which is written by hand here.

use std::time::Duration;

use forebay::bridge::{In, Out, Retained, Url, Versions};
use forebay::config::{self, Bridge, BridgeIn, BridgeOut, Config, Feed};
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::{BridgeMetric, ShardMetric};
use forebay::mqtt::packet::{Ack, ConnAck, Packet, Publish, QoS, Sender, SubAck, Version};
use forebay::mqtt::property::Properties;
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{decode, frame};
use forebay::rule::template::Template;
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};
use forebay::shard::mail::{Mail, ToShard};

use super::subscribe::{PLAIN, bytes_of, heard, message, subscribe};
use super::world::{ONE_SINK, World, layout};

/// No Kafka is here.
const AT: &str = "tcp://127.0.0.9:1883";

pub(super) fn template(text: &str) -> Template {
    Template::parse(text).expect("well formed")
}

/// A bridge that takes `plant/#` as `in/plant/#`, and gives `alarm/#` as `site/alarm/#`.
pub(super) fn bridge() -> Bridge {
    Bridge {
        name: "plant".to_owned(),
        description: None,
        url: Url::parse(AT).expect("a URL"),
        client_id: "forebay-plant".to_owned(),
        username: None,
        password_file: None,
        password: None,
        is_password_written: false,
        version: Versions::V5,
        clean_start: false,
        session_expiry: Duration::from_secs(3_600),
        keep_alive: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(10),
        reconnect_backoff: Duration::from_secs(1),
        reconnect_backoff_max: Duration::from_secs(30),
        receive_maximum: 10,
        inflight_max: None,
        try_private: false,
        queue_messages_max: 3,
        queue_bytes_max: 1 << 20,
        drops_newest: false,
        paused: false,
        via: true,
        instance: "01234567".to_owned(),
        cluster: 0,
        dead_letters: None,
        tls: None,
        ins: vec![BridgeIn {
            name: "0".to_owned(),
            qos: QoS::ExactlyOnce,
            share: None,
            takes: In {
                filters: vec!["plant/#".into()],
                topic: template("in/${topic}"),
                retained: Retained::New,
                keeps_retain: false,
            },
            feeds: vec![Feed::Subscribers, Feed::Rules, Feed::Sinks],
        }],
        outs: vec![BridgeOut {
            name: "0".to_owned(),
            filters: vec!["alarm/#".to_owned(), "in/plant/#".to_owned()],
            gives: Out {
                topic: template("site/${topic}"),
                qos: template("${qos}"),
                retain: template("${retain}"),
                payload: template("${payload}"),
            },
        }],
        is_removed: false,
        binding: None,
    }
}

pub(super) fn configured(text: &str, bridge: Bridge) -> Config {
    let config = config::parse(text, "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
    Config { bridges: vec![bridge], ..config }
}

/// `Remote` is a world with a bridge and the connection to its remote.
pub(super) struct Remote {
    pub(super) world: World,
    pub(super) conn: ConnId,
}

/// The sink takes what comes in.
pub(super) fn in_memory() -> String {
    ONE_SINK.replace("\"#\"", "\"in/#\"")
}

impl Remote {
    pub(super) fn new(text: &str, bridge: Bridge) -> Self {
        Self::of(World::of(configured(text, bridge)))
    }

    pub(super) fn of(mut world: World) -> Self {
        world.mail(Mail::Shard(ToShard::Accept));
        let conn = outgoing(&world);
        let mut remote = Self { world, conn };
        remote.connected();
        remote
    }

    /// The socket is connected, and CONNECT has come.
    pub(super) fn connected(&mut self) -> Vec<u8> {
        self.world.core.on_connect(&mut self.world.table, self.conn);
        self.world.turn();
        let sent = self.world.sent(self.conn);
        assert_eq!(sent[0], 0x10, "CONNECT: {sent:?}");
        sent
    }

    /// Packets of the remote.
    pub(super) fn says(&mut self, packets: &[Packet<'_>]) {
        let bytes: Vec<u8> = packets.iter().flat_map(|packet| bytes_of(Version::V5, packet)).collect();
        self.world.bytes(self.conn, &bytes);
    }

    /// CONNACK, and the answer for the filter.
    pub(super) fn accepts(&mut self, session_present: bool) {
        self.says(&[connack(session_present)]);
        assert_eq!(self.hears().first().map(String::as_str), Some("subscribe plant/#"));
        self.says(&[suback()]);
    }

    /// What the remote has got since the last look.
    pub(super) fn hears(&mut self) -> Vec<String> {
        let bytes = self.world.sent(self.conn);
        words(&bytes)
    }

    /// The connection is cut, and the shard connects again.
    pub(super) fn cut(&mut self) {
        self.world.table.wire(self.conn).closed = true;
        self.world.core.on_close(&mut self.world.table, self.conn, Closed::Peer);
        self.world.table.release(self.conn);
        self.world.turn();
    }

    pub(super) fn again(&mut self) {
        let conn = (0..100).find_map(|_| {
            self.world.advance(Duration::from_millis(500));
            found(&self.world)
        });
        self.conn = conn.expect("it connects again");
        self.connected();
    }

    pub(super) fn number(&self, metric: BridgeMetric) -> u64 {
        self.world.values()[layout(self.world.config()).bridge(0, metric)]
    }
}

/// The connection to the remote.
pub(super) fn outgoing(world: &World) -> ConnId {
    found(world).expect("it connects")
}

fn found(world: &World) -> Option<ConnId> {
    found_at(world, "127.0.0.9:1883")
}

/// The connection to the remote at this address.
pub(super) fn found_at(world: &World, at: &str) -> Option<ConnId> {
    let is_remote = |slot: &usize| {
        let wire = &world.table.wires[*slot];
        !wire.closed && wire.outgoing.is_some_and(|to| to.to_string() == at)
    };
    (0..world.table.wires.len()).find(is_remote).map(|slot| world.table.id(slot))
}

pub(super) fn connack(session_present: bool) -> Packet<'static> {
    Packet::ConnAck(ConnAck { session_present, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY })
}

fn suback() -> Packet<'static> {
    Packet::SubAck(SubAck { packet_id: u16::MAX, codes: &[2], properties: Properties::EMPTY })
}

pub(super) fn ack(packet_id: u16) -> Ack<'static> {
    Ack { packet_id, reason: ReasonCode::SUCCESS, properties: Properties::EMPTY }
}

pub(super) fn qos(qos: QoS, packet_id: u16, topic: &'static str, payload: &'static str) -> Packet<'static> {
    Packet::Publish(Publish { qos, packet_id, ..message(topic, payload) })
}

pub(super) fn words(bytes: &[u8]) -> Vec<String> {
    words_in(Version::V5, bytes)
}

/// What a remote of this version is sent.
pub(super) fn words_in(version: Version, mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = frame::next_for(version, Sender::Client, bytes, u32::MAX).expect("well formed") {
        bytes = &bytes[frame.len..];
        all.push(match decode::decode(version, Sender::Client, frame).expect("well formed") {
            Packet::Publish(p) => {
                let dup = if p.dup { " dup" } else { "" };
                let payload = String::from_utf8_lossy(p.payload);
                format!("{} {payload} qos{} {}{dup}", p.topic, p.qos as u8, p.packet_id)
            }
            Packet::Subscribe(s) => {
                let filters: Vec<_> = s.filters.iter().map(|(filter, _)| filter).collect();
                format!("subscribe {}", filters.join(" "))
            }
            Packet::PubAck(a) => format!("puback {}", a.packet_id),
            Packet::PubRec(a) => format!("pubrec {}", a.packet_id),
            Packet::PubRel(a) => format!("pubrel {}", a.packet_id),
            Packet::PubComp(a) => format!("pubcomp {}", a.packet_id),
            Packet::Disconnect(d) => format!("disconnect {}", d.reason.name()),
            Packet::PingReq => "pingreq".to_owned(),
            other => format!("{other:?}"),
        });
    }
    assert!(bytes.is_empty());
    all
}

/// G7: the remote is answered when Kafka has the message, and not before.
#[test]
fn what_comes_in_is_answered_when_kafka_has_it() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    remote.world.kafka_down();
    remote.says(&[qos(QoS::AtLeastOnce, 7, "plant/1", "a"), qos(QoS::ExactlyOnce, 8, "plant/2", "b")]);
    assert!(remote.hears().is_empty(), "nobody has it");
    remote.world.kafka_up = true;
    remote.world.advance(Duration::from_secs(5));
    assert_eq!(remote.hears(), ["puback 7", "pubrec 8"]);
    remote.says(&[Packet::PubRel(ack(8))]);
    assert_eq!(remote.hears(), ["pubcomp 8"]);
    let values: Vec<_> = remote.world.broker.records.iter().map(|(.., value)| value.clone()).collect();
    assert_eq!(values, [b"a", b"b"]);
    assert_eq!(remote.number(BridgeMetric::Received), 2);
}

/// Messages may come right after CONNACK, in the same bytes, and subscribers here get them under the local topic.
#[test]
fn messages_that_come_with_connack_are_for_subscribers_too() {
    let mut remote = Remote::new(&in_memory(), bridge());
    let device = remote.world.device("d", 0);
    subscribe(&mut remote.world, device, Version::V311, 0, &[("#", PLAIN)]);
    remote.says(&[connack(true), qos(QoS::AtMostOnce, 0, "plant/1", "x")]);
    assert_eq!(heard(&mut remote.world, device, Version::V311), ["in/plant/1 x"]);
}

/// G6: what was not asked for is acknowledged and dropped.
#[test]
fn what_was_not_asked_for_is_dropped() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    remote.says(&[qos(QoS::AtLeastOnce, 1, "other", "x"), qos(QoS::ExactlyOnce, 2, "$SYS/x", "y")]);
    assert_eq!(remote.hears(), ["puback 1", "pubrec 2"]);
    assert_eq!(remote.number(BridgeMetric::Unasked), 2);
    assert!(remote.world.broker.records.is_empty());
    assert_eq!(remote.world.told(EventKind::BridgeDropped), 2);
}

/// The publisher is answered when the copy waits; the remote gets it under its own topic, once.
#[test]
fn what_goes_out_is_sent_once_and_in_order() {
    let mut remote = Remote::new(&in_memory(), bridge());
    let device = remote.world.device("d", 0);
    let publish = |remote: &mut Remote, packet: Packet<'_>| {
        remote.world.bytes(device, &bytes_of(Version::V311, &packet));
        remote.world.sent(device)
    };
    // The remote has not accepted the bridge.
    assert_eq!(publish(&mut remote, qos(QoS::AtLeastOnce, 1, "alarm/1", "a")), [0x40, 2, 0, 1]);
    publish(&mut remote, qos(QoS::AtMostOnce, 0, "alarm/1", "nobody"));
    remote.accepts(false);
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1"]);
    publish(&mut remote, qos(QoS::ExactlyOnce, 2, "alarm/2", "b"));
    publish(&mut remote, qos(QoS::AtMostOnce, 0, "alarm/3", "c"));
    publish(&mut remote, qos(QoS::AtLeastOnce, 3, "elsewhere", "d"));
    assert_eq!(remote.hears(), ["site/alarm/2 b qos2 2", "site/alarm/3 c qos0 0"]);
    remote.cut();
    assert_eq!(remote.world.told(EventKind::BridgeLost), 1);
    assert_eq!(remote.world.told(EventKind::BridgeUnreachable), 0, "one event for one loss");
    remote.again();
    remote.says(&[connack(true)]);
    let heard = remote.hears();
    assert_eq!(heard[..2], ["site/alarm/1 a qos1 1 dup", "site/alarm/2 b qos2 2 dup"], "{heard:?}");
    remote.says(&[Packet::PubAck(ack(1)), Packet::PubRec(ack(2))]);
    assert_eq!(remote.hears(), ["pubrel 2"]);
    remote.says(&[Packet::PubComp(ack(2))]);
    assert_eq!((remote.number(BridgeMetric::Open), remote.number(BridgeMetric::Queued)), (0, 0));
    remote.cut();
    remote.again();
    remote.says(&[connack(true)]);
    assert_eq!(remote.hears(), ["subscribe plant/#"], "nothing is left");
}

/// G10: a message does not go out by the bridge that it came in by, though an `out` matches it.
#[test]
fn what_came_in_does_not_go_out_again() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    remote.says(&[qos(QoS::AtLeastOnce, 1, "plant/1", "x")]);
    assert_eq!(remote.hears(), ["puback 1"]);
    let device = remote.world.device("d", 0);
    remote.world.bytes(device, &bytes_of(Version::V311, &qos(QoS::AtLeastOnce, 1, "in/plant/1", "y")));
    assert_eq!(remote.hears(), ["site/in/plant/1 y qos1 1"], "a client's does");
}

/// The queue is bounded, and its oldest go.
#[test]
fn a_remote_that_is_away_costs_a_bounded_queue() {
    let mut remote = Remote::new(&in_memory(), bridge());
    let device = remote.world.device("d", 0);
    for (id, payload) in [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")] {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(QoS::AtLeastOnce, id, "alarm/1", payload)));
    }
    assert_eq!((remote.number(BridgeMetric::Queued), remote.world.number(ShardMetric::CopiesQueueFull)), (3, 2));
    remote.accepts(false);
    assert_eq!(remote.hears(), ["site/alarm/1 c qos1 3", "site/alarm/1 d qos1 4", "site/alarm/1 e qos1 5"]);
}

/// G4: a remote that has forgotten the session is sent what was on its way as new, and its packet identifiers are free.
#[test]
fn a_session_that_the_remote_has_forgotten_begins_anew() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    let device = remote.world.device("d", 0);
    for (id, of) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (3, QoS::ExactlyOnce)] {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(of, id, "alarm/1", "a")));
    }
    assert_eq!(remote.hears().len(), 3);
    remote.says(&[Packet::PubRec(ack(3)), qos(QoS::ExactlyOnce, 9, "plant/1", "first")]);
    assert_eq!(remote.hears(), ["pubrel 3", "pubrec 9"]);
    remote.cut();
    remote.again();
    remote.accepts(false);
    assert_eq!(remote.world.told(EventKind::BridgeSessionLost), 1);
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1", "site/alarm/1 a qos2 2"], "as new; the third is there");
    remote.says(&[qos(QoS::ExactlyOnce, 9, "plant/1", "second")]);
    remote.world.advance(Duration::from_secs(1));
    assert_eq!(remote.hears(), ["pubrec 9"]);
    assert_eq!(remote.world.broker.records.len(), 2, "another message under the same identifier");
}

/// G3, G6: what a remote does wrong ends the connection, and a lasting refusal is waited out for long.
#[test]
fn a_remote_that_breaks_the_standard_is_left() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    remote.world.bytes(remote.conn, &[0x10, 0]);
    assert_eq!(remote.hears().last().map(|last| last.starts_with("disconnect")), Some(true));
    assert_eq!(remote.number(BridgeMetric::Connected), 0);
    remote.again();
    let refused = ConnAck { session_present: false, reason: ReasonCode::NOT_AUTHORIZED, properties: Properties::EMPTY };
    remote.says(&[Packet::ConnAck(refused)]);
    assert_eq!(remote.world.told(EventKind::BridgeRefused), 1);
    assert_eq!(remote.number(BridgeMetric::Refused), 1);
}

/// G5: a remote that does not answer PINGREQ is gone.
#[test]
fn a_silent_remote_is_gone() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(false);
    remote.world.advance(Duration::from_secs(46));
    assert_eq!(remote.hears(), ["pingreq"]);
    remote.says(&[Packet::PingResp]);
    remote.world.advance(Duration::from_secs(46));
    assert_eq!((remote.hears(), remote.number(BridgeMetric::Connected)), (vec!["pingreq".to_owned()], 1));
    remote.world.advance(Duration::from_secs(20));
    assert_eq!(remote.number(BridgeMetric::Connected), 0);
    assert_eq!(remote.world.told(EventKind::BridgeLost), 1);
}

/// G5: while the connection is not read for want of room no PINGRESP is waited for, and the remote is told every so often that we are there.
#[test]
fn a_remote_that_is_not_read_is_kept_alive() {
    let text = in_memory().replace("[kafka.main]", "[kafka.main]\nbuffer_bytes = \"4MiB\"");
    let mut remote = Remote::new(&text, bridge());
    remote.accepts(false);
    remote.world.kafka_down();
    let large: &'static str = "x".repeat(512 << 10).leak();
    (1..=10).for_each(|id| remote.says(&[qos(QoS::AtLeastOnce, id, "plant/1", large)]));
    assert!(remote.world.table.wire(remote.conn).paused, "there is no room for ten of them");
    for _ in 0..3 {
        remote.world.advance(Duration::from_secs(46));
        assert_eq!((remote.hears(), remote.number(BridgeMetric::Connected)), (vec!["pingreq".to_owned()], 1));
    }
    remote.world.kafka_up = true;
    remote.world.advance(Duration::from_secs(10));
    assert!(!remote.world.table.wire(remote.conn).paused);
    assert_eq!((remote.number(BridgeMetric::Connected), remote.world.told(EventKind::BridgeLost)), (1, 0));
}

/// What waits survives the process, and what a remote has open as well.
#[test]
fn queues_and_identifiers_survive_a_crash() {
    assert_eq!(identifiers_after_a_crash(&KEPT), ["site/alarm/2 b qos1 3", "site/alarm/2 b qos2 4"]);
    let restarted = identifiers_after_a_crash(&IdsRestart);
    assert_eq!(restarted, ["site/alarm/2 b qos1 1", "site/alarm/2 b qos2 2"], "B5 taken out");
}

#[derive(Debug)]
struct IdsRestart;

impl Rules for IdsRestart {
    fn next_number(&self, _: u64) -> u64 {
        0
    }
}

/// The power goes, and the remote knows the bridge again.
fn restart(remote: &mut Remote) {
    remote.world.power_cut();
    remote.world.mail(Mail::Shard(ToShard::Accept));
    remote.conn = outgoing(&remote.world);
    remote.connected();
    remote.says(&[connack(true)]);
}

/// What the remote is sent of two messages that come after a crash, after those from before it are over.
fn identifiers_after_a_crash(rules: &'static dyn Rules) -> Vec<String> {
    let text = super::spooled("", "acknowledge = \"stored\"\n").replace("[\"#\"]", "[\"in/#\"]");
    let mut remote = Remote::of(World::of_under(rules, configured(&text, bridge())));
    remote.accepts(false);
    remote.says(&[qos(QoS::ExactlyOnce, 9, "plant/1", "first")]);
    assert_eq!(remote.hears(), ["pubrec 9"], "stored");
    let device = remote.world.device("d", 0);
    for (id, of) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(of, id, "alarm/1", "a")));
    }
    assert_eq!(remote.hears(), ["site/alarm/1 a qos1 1", "site/alarm/1 a qos2 2"]);
    restart(&mut remote);
    let heard = remote.hears();
    assert_eq!(
        heard,
        ["site/alarm/1 a qos1 1 dup", "site/alarm/1 a qos2 2 dup", "subscribe plant/#"],
        "the same identifiers"
    );
    // The remote repeats what it has no PUBREC for; it is one message.
    let repeat = Publish { dup: true, qos: QoS::ExactlyOnce, packet_id: 9, ..message("plant/1", "first") };
    remote.says(&[Packet::Publish(repeat)]);
    assert_eq!(remote.hears(), ["pubrec 9"]);
    remote.world.advance(Duration::from_secs(5));
    assert_eq!(remote.world.broker.records.len(), 1);
    // Nothing is on its way.
    remote.says(&[Packet::PubAck(ack(1)), Packet::PubRec(ack(2))]);
    assert_eq!(remote.hears(), ["pubrel 2"]);
    remote.says(&[Packet::PubComp(ack(2))]);
    remote.world.advance(Duration::from_secs(1));
    restart(&mut remote);
    assert_eq!(remote.hears(), ["subscribe plant/#"]);
    let device = remote.world.device("d", 0);
    for (id, of) in [(3, QoS::AtLeastOnce), (4, QoS::ExactlyOnce)] {
        remote.world.bytes(device, &bytes_of(Version::V311, &qos(of, id, "alarm/2", "b")));
    }
    remote.hears()
}
