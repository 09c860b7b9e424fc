//! Answers that say where a message stands in Kafka: what devices of all kinds hear, held against what Kafka has.

use std::time::Duration;

use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, Sender, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::{decode, encode, frame};
use forebay::runtime::seam::{Closed, ConnId, ListenerId, Shard};

use super::world::World;
use crate::device::Receipt;
use crate::ring::reset;

const LISTENERS: &str = r##"
[[listener]]
bind = "127.0.0.1:1883"
receipts = true
[[listener]]
bind = "127.0.0.1:1884"
[kafka.main]
bootstrap = "127.0.0.1:9092"
"##;

/// Sinks of these names, topics and keys.
fn sinks(all: &[(&str, &str, &str)]) -> String {
    let sink = |(name, topic, keys): &(&str, &str, &str)| {
        format!("[[sink]]\nname = \"{name}\"\nkafka = \"main\"\nfilters = [\"#\"]\ntopic = \"{topic}\"\n{keys}\n")
    };
    LISTENERS.to_owned() + &all.iter().map(sink).collect::<String>()
}

struct Device {
    conn: ConnId,
    version: Version,
}

impl Device {
    fn connect(world: &mut World, listener: u16, version: Version, asks: &[Property<'_>]) -> Self {
        let conn = world.table.open(None);
        world.core.on_accept(&mut world.table, conn, ListenerId(listener));
        let mut properties = PropertyBuf::new();
        properties.extend(asks.iter().copied());
        let connect =
            Connect { clean_start: false, properties: properties.as_properties(), ..crate::hello::hello(version, "d") };
        let device = Self { conn, version };
        device.say(world, &Packet::Connect(connect));
        world.sent(conn);
        device
    }

    fn say(&self, world: &mut World, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode::packet(self.version, packet, &mut bytes).expect("encoded");
        world.bytes(self.conn, &bytes);
    }

    fn publish(&self, world: &mut World, qos: QoS, packet_id: u16, topic: &str) {
        let payload = format!("{topic} {packet_id}");
        let properties = Properties::EMPTY;
        let publish =
            Publish { dup: false, qos, retain: false, topic, packet_id, properties, payload: payload.as_bytes() };
        self.say(world, &Packet::Publish(publish));
    }

    /// PUBACKs and PUBRECs: packet id, reason code, receipts.
    fn heard(&self, world: &mut World) -> Vec<(PacketType, u16, u8, Vec<Receipt>)> {
        world.advance(Duration::from_secs(3));
        let bytes = world.sent(self.conn);
        let (mut rest, mut heard) = (&bytes[..], Vec::new());
        while let Some(frame) = frame::next(rest, u32::MAX).expect("well formed") {
            let len = frame.len;
            let (kind, ack) = match decode::decode(self.version, Sender::Server, frame).expect("well formed") {
                Packet::PubAck(ack) => (PacketType::PubAck, ack),
                Packet::PubRec(ack) => (PacketType::PubRec, ack),
                other => panic!("{other:?}"),
            };
            let mut receipts: Vec<Receipt> = Vec::new();
            for (name, value) in ack.properties.user_properties() {
                match (name, receipts.last_mut()) {
                    ("kafka-topic", _) => receipts.push(Receipt { topic: value.to_owned(), ..Receipt::default() }),
                    ("kafka-partition", Some(last)) => last.partition = value.parse().expect("a number"),
                    ("kafka-offset", Some(last)) => last.offset = Some(value.parse().expect("a number")),
                    other => panic!("{other:?}"),
                }
            }
            heard.push((kind, ack.packet_id, ack.reason.0, receipts));
            rest = &rest[len..];
        }
        assert!(rest.is_empty());
        heard
    }
}

/// The value at that place.
fn read<'a>(world: &'a World, at: &Receipt) -> &'a [u8] {
    let of_partition = |r: &&(String, i32, Vec<u8>, Vec<u8>)| r.0 == at.topic && r.1 as usize == at.partition;
    let mut log = world.broker.records.iter().filter(of_partition);
    &log.nth(at.offset.expect("an offset")).expect("a record").3
}

fn topics(receipts: &[Receipt]) -> Vec<&str> {
    receipts.iter().map(|receipt| receipt.topic.as_str()).collect()
}

#[test]
fn each_message_is_where_its_answer_says() {
    let mut world = World::new(&sinks(&[
        ("first", "by-${topic[0]}", ""),
        ("second", "all", "acknowledge = \"leader\"\nlinger = \"50ms\""),
        ("third", "unsaid", "acknowledge = \"received\""),
        ("fourth", "last", "partitioner = \"sticky\""),
    ]));
    let device = Device::connect(&mut world, 0, Version::V5, &[]);
    let topic = |id: u16| format!("t{}/{}", id % 3, id % 7);
    for round in 0..5 {
        for id in 1..=40 {
            let qos = if id % 4 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            device.publish(&mut world, qos, round * 40 + id, &topic(id));
        }
        let heard = device.heard(&mut world);
        assert_eq!(heard.len(), 40);
        for (at, (_, id, code, receipts)) in (1..).zip(heard) {
            assert_eq!((id, code), (round * 40 + at, 0));
            assert_eq!(topics(&receipts), [&*format!("by-t{}", at % 3), "all", "last"], "in the order of the sinks");
            for receipt in &receipts {
                assert_eq!(read(&world, receipt), format!("{} {id}", topic(at)).as_bytes(), "{receipt:?}");
            }
        }
    }
}

#[test]
fn nothing_where_nobody_asked_or_could_read_it() {
    let small = Property::MaximumPacketSize(62);
    let no_information = Property::RequestProblemInformation(false);
    for (listener, version, asks, told) in [
        (0, Version::V31, &[] as &[_], false),
        (0, Version::V311, &[], false),
        (0, Version::V5, &[no_information], false),
        (0, Version::V5, &[small], false),
        (1, Version::V5, &[], false),
        (0, Version::V5, &[], true),
    ] {
        let mut world = World::new(&sinks(&[("all", "all", "")]));
        let device = Device::connect(&mut world, listener, version, asks);
        device.publish(&mut world, QoS::AtLeastOnce, 1, "t");
        device.publish(&mut world, QoS::ExactlyOnce, 2, "t");
        for (_, id, code, receipts) in device.heard(&mut world) {
            assert_eq!(code, 0);
            assert_eq!(topics(&receipts), if told { vec!["all"] } else { vec![] }, "{id}: {version:?} {asks:?}");
        }
    }
}

#[test]
fn stored_received_and_dead_letters_are_no_place() {
    let spool = "[spool]\nbytes_max = \"16MiB\"\nsegment_bytes = \"1MiB\"\n";
    for (sink, expected) in [
        ("acknowledge = \"stored\"\nbuffer = \"disk\"", (0, 0)),
        ("acknowledge = \"received\"\nbuffer = \"memory\"", (0, 0)),
        ("acknowledge = \"replicated\"\nbuffer = \"disk\"", (0, 1)),
        ("acknowledge = \"replicated\"\nbuffer = \"hybrid\"", (0, 1)),
        ("acknowledge = \"leader\"\nbuffer = \"memory\"", (0, 1)),
        ("acknowledge = \"replicated\"\ndead_letters_topic = \"dead\"\nbuffer = \"memory\"", (0, 0)),
    ] {
        let sink = format!("{sink}\nbatch_bytes = \"64KiB\"\nrecord_bytes_max = \"64KiB\"");
        let mut world = World::new(&format!("{spool}{}", sinks(&[("all", "all", &sink)])));
        if sink.contains("dead") {
            world.broker.refuses.insert("all".to_owned(), 87);
        }
        let device = Device::connect(&mut world, 0, Version::V5, &[]);
        device.publish(&mut world, QoS::AtLeastOnce, 1, "t");
        let heard = device.heard(&mut world);
        assert_eq!(heard.iter().map(|(_, _, code, all)| (*code, all.len())).collect::<Vec<_>>(), [expected], "{sink}");
    }
}

#[test]
fn a_pubrec_that_was_lost_is_said_again_with_all_it_had() {
    let mut world = World::new(&sinks(&[("all", "all", ""), ("too", "too", "")]));
    let kept = [Property::SessionExpiryInterval(600)];
    let device = Device::connect(&mut world, 0, Version::V5, &kept);
    device.publish(&mut world, QoS::AtLeastOnce, 1, "t");
    device.publish(&mut world, QoS::ExactlyOnce, 7, "t");
    let said = device.heard(&mut world).remove(1);
    assert_eq!((said.1, said.3.len()), (7, 2));
    world.kafka_down();
    device.publish(&mut world, QoS::ExactlyOnce, 8, "t");
    world.core.on_close(&mut world.table, device.conn, Closed::Error(reset()));
    // Its rows reach Kafka while nobody is there.
    world.kafka_up = true;
    world.advance(Duration::from_secs(10));
    let device = Device::connect(&mut world, 0, Version::V5, &kept);
    device.publish(&mut world, QoS::ExactlyOnce, 7, "t");
    device.publish(&mut world, QoS::ExactlyOnce, 8, "t");
    let again = device.heard(&mut world);
    assert_eq!(again[0], said);
    assert_eq!((again[1].1, topics(&again[1].3)), (8, vec!["all", "too"]));
    again[1].3.iter().for_each(|receipt| assert_eq!(read(&world, receipt), b"t 8"));
    assert_eq!(world.broker.records.len(), 6, "three messages, two sinks");
}
