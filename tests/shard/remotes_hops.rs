//! Loops over several brokers: a message tells a remote of 5.0 which instances it has come through.

use forebay::bridge::Url;
use forebay::config::{self, Bridge, BridgeOut, Config};
use forebay::metrics::event::{Field, Kind as EventKind};
use forebay::metrics::journal::Filter;
use forebay::metrics::spec::BridgeMetric;
use forebay::mqtt::packet::{ConnAck, Connect, Packet, Publish, QoS, Sender, Version};
use forebay::mqtt::property::{Property, PropertyBuf, VIA};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{decode, frame};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::Shard as _;

use super::conformance::hello;
use super::remotes::{Remote, bridge, configured, connack, found_at, in_memory};
use super::subscribe::{PLAIN, bytes_of, heard, message, subscribe};
use super::world::World;

const OURS: &str = "01234567";

/// The mark of the remote, which tells none of its own.
fn remotes_mark() -> String {
    forebay::bridge::mark(None, OURS, &bridge().url)
}

/// A message of QoS 0 that has come through these.
fn through(topic: &str, via: &[&str]) -> Vec<u8> {
    let mut properties = PropertyBuf::new();
    properties.extend([Property::UserProperty("site", "a")]);
    properties.extend(via.iter().map(|via| Property::UserProperty(VIA, via)));
    let publish = Publish { properties: properties.as_properties(), ..message(topic, "x") };
    bytes_of(Version::V5, &Packet::Publish(publish))
}

/// Topic and user properties of the messages for a remote.
fn sent(mut bytes: &[u8]) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(frame) = frame::next_for(Version::V5, Sender::Client, bytes, u32::MAX).expect("well formed") {
        bytes = &bytes[frame.len..];
        if let Packet::Publish(publish) = decode::decode(Version::V5, Sender::Client, frame).expect("well formed") {
            let user: Vec<_> =
                publish.properties.user_properties().map(|(name, value)| format!("{name}={value}")).collect();
            all.push(format!("{} {}", publish.topic, user.join(" ")));
        }
    }
    all
}

/// G10: a message that comes back is acknowledged, dropped and counted.
#[test]
fn what_has_come_through_here_is_dropped() {
    let mut remote = Remote::new(&in_memory(), bridge());
    remote.accepts(true);
    let device = remote.world.device_v5("d");
    subscribe(&mut remote.world, device, Version::V5, 0, &[("#", PLAIN)]);
    remote.world.bytes(remote.conn, &through("plant/1", &["aaaaaaaa", OURS]));
    let eight: Vec<String> = (0..8).map(|n| format!("0000000{n}")).collect();
    let eight: Vec<&str> = eight.iter().map(String::as_str).collect();
    remote.world.bytes(remote.conn, &through("plant/2", &eight));
    assert!(heard(&mut remote.world, device, Version::V5).is_empty());
    assert_eq!((remote.number(BridgeMetric::Looped), remote.number(BridgeMetric::Received)), (2, 0));
    remote.world.bytes(remote.conn, &through("plant/3", &eight[..7]));
    let told = heard(&mut remote.world, device, Version::V5);
    assert_eq!(told.len(), 1, "{told:?}");
    let way = |via: &str| format!("UserProperty(\"forebay-via\", \"{via}\")");
    let (last, own) = (way("00000006"), way(&remotes_mark()));
    assert!(
        told[0].ends_with(&format!("{last} {own}")),
        "a bridge of another instance is a subscriber, and learns where the message comes from: {told:?}"
    );
    // One of QoS 1 is acknowledged.
    let mut properties = PropertyBuf::new();
    properties.extend([Property::UserProperty(VIA, OURS)]);
    let again = Publish {
        qos: QoS::AtLeastOnce,
        packet_id: 7,
        properties: properties.as_properties(),
        ..message("plant/1", "x")
    };
    remote.says(&[Packet::Publish(again)]);
    assert_eq!(remote.hears(), ["puback 7"]);
}

#[test]
fn a_bridge_that_does_not_ask_for_it_passes_all_on() {
    let mut remote = Remote::new(&in_memory(), Bridge { via: false, ..bridge() });
    remote.accepts(true);
    remote.hears();
    let device = remote.world.device_v5("d");
    subscribe(&mut remote.world, device, Version::V5, 0, &[("in/#", PLAIN)]);
    remote.world.bytes(remote.conn, &through("plant/1", &[OURS]));
    assert_eq!(heard(&mut remote.world, device, Version::V5).len(), 1);
    remote.world.bytes(device, &through("alarm/1", &["aaaaaaaa"]));
    assert_eq!(sent(&remote.world.sent(remote.conn)), ["site/alarm/1 site=a"], "nor does it tell anybody");
}

#[derive(Debug)]
struct ComeRound;
impl Rules for ComeRound {
    fn may_come_round(&self) -> bool {
        true
    }
}

/// A circle of bridges that only send: what a client brings back goes out no more, under the program's rules.
#[test]
fn what_comes_round_does_not_go_out_again() {
    let sent_under = |rules: &'static dyn Rules| {
        let mut remote = Remote::of(World::of_under(rules, configured(&in_memory(), bridge())));
        remote.accepts(true);
        remote.hears();
        let other = remote.world.device_v5("the bridge of the other instance");
        let mut count = |via: &[&str]| {
            remote.world.bytes(other, &through("alarm/1", via));
            sent(&remote.world.sent(remote.conn)).len()
        };
        [count(&[OURS, "aaaaaaaa"]), count(&["aaaaaaaa"])]
    };
    assert_eq!(sent_under(&KEPT), [0, 1]);
    assert_eq!(sent_under(&ComeRound), [1, 1], "it is noticed when the rule is gone");
}

/// Finding Q41: a message of a remote is marked with the remote, by the digits that it has told if it is another instance. So it is known when it comes
/// from there again, though no bridge of this instance has sent it anywhere.
#[test]
fn finding_q41_what_comes_in_is_marked_and_known_when_it_comes_again() {
    for told in [None, Some("89abcdef"), Some(OURS), Some("no digits"), Some("89abcdef0")] {
        let mut remote = Remote::new(&in_memory(), bridge());
        let mut properties = PropertyBuf::new();
        properties.extend(told.map(|told| Property::UserProperty(VIA, told)));
        let (session_present, reason) = (true, ReasonCode::SUCCESS);
        remote.says(&[Packet::ConnAck(ConnAck { session_present, reason, properties: properties.as_properties() })]);
        let device = remote.world.device_v5("d");
        subscribe(&mut remote.world, device, Version::V5, 0, &[("#", PLAIN)]);
        remote.world.bytes(remote.conn, &through("plant/1", &[]));
        let mark = if told == Some("89abcdef") { "89abcdef".to_owned() } else { remotes_mark() };
        let got = heard(&mut remote.world, device, Version::V5);
        assert_eq!(got.len(), 1, "{got:?}");
        assert!(got[0].ends_with(&format!("UserProperty(\"forebay-via\", \"{mark}\")")), "{told:?}: {got:?}");
        // It has been elsewhere, and is back.
        remote.world.bytes(remote.conn, &through("plant/1", &[&mark, "aaaaaaaa"]));
        assert_eq!(heard(&mut remote.world, device, Version::V5), [""; 0]);
        assert_eq!((remote.number(BridgeMetric::Looped), remote.number(BridgeMetric::Received)), (1, 1));
        remote.world.journal.collect();
        let page = remote.world.journal.page(&Filter::default());
        let dropped = page.events.iter().find(|(_, event)| event.kind == EventKind::BridgeDropped).expect("an event");
        let text = |field| dropped.1.text(field).unwrap_or_default();
        assert_eq!((text(Field::Reason), text(Field::Via)), ("loop", &*format!("{mark} aaaaaaaa")));
    }
}

/// Finding Q41: a remote is told which instance this one is if it says which it is itself; nobody else is.
#[test]
fn finding_q41_an_instance_tells_its_digits_to_another_one() {
    let mut config = configured(&in_memory(), bridge());
    config.service.instance = OURS.to_owned();
    let mut world = World::of(config);
    for (asks, told) in [(true, true), (false, false)] {
        let mut properties = PropertyBuf::new();
        properties.extend(asks.then_some(Property::UserProperty(VIA, "aaaaaaaa")));
        let hello = Connect { properties: properties.as_properties(), ..hello(Version::V5, "other") };
        let other = world.accept();
        world.bytes(other, &bytes_of(Version::V5, &Packet::Connect(hello)));
        let said = world.sent(other);
        assert_eq!(said.windows(OURS.len()).any(|part| part == OURS.as_bytes()), told, "{said:?}");
    }
}

/// Through a rule, too, whatever that selects; and from one bridge to another.
#[test]
fn the_next_remote_is_told_of_all_that_a_message_has_come_through() {
    let rule = "[[rule]]\nname = 'r'\nsql = \"SELECT payload FROM 'in/plant/#'\"\n[[rule.republish]]\n\
                topic = 'alarm/rule'\npayload = '${payload}'\nuser_properties = '{}'\n";
    let other = Bridge {
        name: "other".to_owned(),
        url: Url::parse("tcp://127.0.0.8:1883").expect("a URL"),
        ins: Vec::new(),
        outs: vec![BridgeOut { filters: vec!["#".to_owned()], ..bridge().outs.remove(0) }],
        ..bridge()
    };
    let parsed =
        config::parse(&format!("{rule}{}", in_memory()), "test.toml").unwrap_or_else(|problems| panic!("{problems}"));
    let config = Config { bridges: vec![bridge(), other], ..parsed };
    let mut remote = Remote::of(World::of(config));
    let second = found_at(&remote.world, "127.0.0.8:1883").expect("it connects");
    remote.world.core.on_connect(&mut remote.world.table, second);
    remote.world.turn();
    remote.world.bytes(second, &bytes_of(Version::V5, &connack(true)));
    remote.world.sent(second);
    remote.accepts(true);
    remote.world.bytes(remote.conn, &through("plant/1", &["aaaaaaaa"]));
    assert_eq!(remote.hears(), ["site/alarm/rule x qos0 0"], "what a rule makes of it is another message");
    let (told, mark) = (sent(&remote.world.sent(second)), remotes_mark());
    assert_eq!(
        told,
        [
            format!("site/in/plant/1 site=a {VIA}=aaaaaaaa {VIA}={mark} {VIA}={OURS}"),
            format!("site/alarm/rule {VIA}=aaaaaaaa {VIA}={mark} {VIA}={OURS}"),
        ]
    );
}
