//! Between the start of one shard and that of the others.

use std::time::Duration;

use forebay::broker::router::owner;
use forebay::mqtt::packet::{self as mqtt, Connect, Packet, Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::rules::KEPT;

use super::process::{Process, packets};
use super::queues::QOS_1;
use super::subscribe::{bytes_of, message, subscribe_packet};

fn name_on(shard: usize, of: usize, kind: &str) -> String {
    let mut names = (0..).map(|number| format!("{kind}{number}"));
    names.find(|name| owner(name, of) == shard).expect("one of them")
}

/// The payloads that a client has been sent.
fn payloads(bytes: &[u8]) -> Vec<String> {
    let publishes = packets(bytes).filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(String::from_utf8_lossy(publish.payload).into_owned()),
        _ => None,
    });
    publishes.collect()
}

/// A device of the first shard with a retained will, and a subscriber of the second one, which is away and is the home of the will's topic.
struct Will {
    process: Process,
    topic: String,
    subscriber: String,
}

impl Will {
    fn new() -> Self {
        let mut process = Process::spooled(&KEPT, 2);
        let topic = name_on(1, 2, "t/");
        let mut properties = PropertyBuf::new();
        properties.push(Property::SessionExpiryInterval(3_600));
        let client_id = &*name_on(0, 2, "device-");
        let will = message(&topic, "offline");
        let connect = Connect {
            version: Version::V5,
            is_bridge: false,
            clean_start: true,
            keep_alive_s: 0,
            client_id,
            will: Some(mqtt::Will {
                qos: QoS::AtLeastOnce,
                retain: true,
                topic: &topic,
                payload: will.payload,
                properties: will.properties,
            }),
            username: None,
            password: None,
            properties: properties.as_properties(),
        };
        let (shard, device) = process.open_with(client_id, &bytes_of(Version::V5, &Packet::Connect(connect)));
        process.settle();
        let subscriber = name_on(1, 2, "subscriber-");
        let (at, conn, _) = process.connect(&subscriber);
        process.say(at, conn, &subscribe_packet(Version::V5, 0, &[(&topic, QOS_1)]));
        let online = Publish { retain: true, ..message(&topic, "online") };
        process.say(shard, device, &bytes_of(Version::V5, &Packet::Publish(online)));
        assert_eq!(payloads(&process.heard(at, conn)), ["online"]);
        process.lose(at, conn);
        Self { process, topic, subscriber }
    }

    /// The subscriber, and who comes later.
    fn reaches_both(mut self) {
        self.process.settle();
        let (at, conn, mut behind) = self.process.connect(&self.subscriber);
        behind.extend(self.process.heard(at, conn));
        assert_eq!(payloads(&behind), ["offline"], "the subscriber's session was there");
        let (at, conn, _) = self.process.connect("new");
        self.process.say(at, conn, &subscribe_packet(Version::V5, 0, &[(&self.topic, QOS_1)]));
        assert_eq!(payloads(&self.process.heard(at, conn)), ["offline"], "it is retained");
    }
}

/// The client was connected when the power failed. The shard of its will has started before the one where the subscriber and the
/// retained message are.
#[test]
fn a_will_of_an_earlier_start_waits_for_all_shards() {
    let mut of = Will::new();
    of.process.power_cut(0b10);
    of.reaches_both();
}

/// And it is in the log until then.
#[test]
fn a_start_that_is_cut_short_leaves_the_will_to_the_next() {
    let mut of = Will::new();
    of.process.power_cut(0b10);
    (0..3).for_each(|_| of.process.turn(0, Duration::from_millis(1)));
    of.process.power_cut(0);
    of.reaches_both();
}

/// The shard of the subscriber has nothing to wait for when the service stops, and the will comes only then.
#[test]
fn a_will_of_an_orderly_stop_reaches_other_shards() {
    let mut of = Will::new();
    of.process.stop();
    of.process.kill(0);
    of.reaches_both();
}

/// A shard has not heard from all the others what they hold of a share's messages when more come for it.
#[test]
fn what_an_earlier_start_has_left_for_a_share_comes_first() {
    for strategy in ["round-robin", "hash-topic"] {
        let shares = format!("[delivery]\nshare_strategy = \"{strategy}\"\n");
        let mut process = Process::spooled_as("0ms", &shares, &KEPT, 2);
        let subscribe = subscribe_packet(Version::V5, 0, &[("$share/g/t", QOS_1)]);
        let [member, publisher] = ["member-", "publisher-"].map(|kind| name_on(0, 2, kind));
        let (at, conn, _) = process.connect(&member);
        process.say(at, conn, &subscribe);
        process.lose(at, conn);
        let (at, conn, _) = process.connect(&publisher);
        let say = |id, payload| {
            let of = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", payload) };
            bytes_of(Version::V5, &Packet::Publish(of))
        };
        process.say(at, conn, &say(1, "first"));
        process.power_cut(0);
        let [(at, member), (_, publisher)] = [&member, &publisher].map(|name| process.open(name, false));
        process.turn(at, Duration::from_millis(1));
        process.bytes(at, publisher, &say(1, "second"));
        process.turn(at, Duration::from_millis(1));
        process.settle();
        assert_eq!(payloads(&process.heard(at, member)), ["first", "second"], "{strategy}");
    }
}
