//! Loops over several brokers: a message tells a remote of 5.0 which instances it has come through.

use forebay::bridge::Url;
use forebay::config::{self, Bridge, BridgeOut, Config};
use forebay::metrics::spec::BridgeMetric;
use forebay::mqtt::packet::{Packet, Publish, QoS, Sender, Version};
use forebay::mqtt::property::{Property, PropertyBuf, VIA};
use forebay::mqtt::{decode, frame};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::Shard as _;

use super::remotes::{Remote, bridge, configured, connack, found_at, in_memory};
use super::subscribe::{PLAIN, bytes_of, heard, message, subscribe};
use super::world::World;

const OURS: &str = "01234567";

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
    assert!(
        told[0].ends_with("UserProperty(\"forebay-via\", \"00000006\")"),
        "a bridge of another instance is a subscriber: {told:?}"
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
    let told = sent(&remote.world.sent(second));
    assert_eq!(
        told,
        [
            format!("site/in/plant/1 site=a {VIA}=aaaaaaaa {VIA}={OURS}"),
            format!("site/alarm/rule {VIA}=aaaaaaaa {VIA}={OURS}"),
        ]
    );
}
