//! What comes in one read is treated as if each message had come in a read of its own: what is found out about a message is used
//! again for the next one of its topic.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::packet::{Packet, Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::{encode, frame};
use forebay::runtime::seam::ConnId;

use super::world::{World, publish};

const PINGRESP: u8 = 0xD0;
const CLUSTER: &str = "[kafka.main]\nbootstrap = '127.0.0.1:9092'\n";

/// Sinks of all kinds: what says where a row goes, what differs from message to message, a bound, a disk.
const SINKS: [&str; 6] = [
    "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\n",
    "[[sink]]\nname = 's'\nfilters = '#'\ntopic = '${topic[0]}'\nkey = '${clientid}-${topic}-${qos}'\nheaders = { q = '${qos}', id = '${packet_id}' }\n",
    "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\nkey = '${packet_id}'\n",
    "[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't-${payload.n}'\ndead_letters_topic = 'dead'\n",
    "[[sink]]\nname = 's'\nfilters = ['a/#', 'b']\ntopic = 't'\nrecord_bytes_max = 1024\n[[sink]]\nname = 'r'\nfilters = 'a/+'\ntopic = 'u'\npartitioner = 'client'\nvalue_format = 'json'\n",
    "[spool]\nbytes_max = '256MiB'\nsegment_bytes = '16MiB'\n[[sink]]\nname = 's'\nfilters = '#'\ntopic = 't'\nbuffer = 'disk'\nacknowledge = 'stored'\n",
];

/// Packets of one client: runs of messages of a topic, with something else in between now and then.
fn packets(rng: &mut fastrand::Rng, version: Version) -> Vec<Vec<u8>> {
    let (mut topic, mut qos, mut packets) = ("a/1", QoS::AtLeastOnce, Vec::new());
    for id in 1..=60 {
        if rng.u8(..5) == 0 {
            topic = ["a/1", "a/2", "a", "b"][rng.usize(..4)];
            qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][rng.usize(..4)];
        }
        let mut properties = PropertyBuf::new();
        if version == Version::V5 && rng.u8(..8) == 0 {
            properties.push(Property::UserProperty("unit", "C"));
        }
        let payload = format!("{{\"n\":{},\"x\":\"{}\"}}", id % 3, "x".repeat(rng.usize(..40)));
        let mut payload = if rng.u8(..12) == 0 { "no JSON".to_owned() } else { payload };
        if rng.u8(..15) == 0 {
            payload.push_str(&"y".repeat(1_100));
        }
        let publish = Publish {
            dup: qos != QoS::AtMostOnce && rng.u8(..10) == 0,
            qos,
            retain: rng.u8(..12) == 0,
            topic,
            packet_id: if qos == QoS::AtMostOnce { 0 } else { id },
            properties: properties.as_properties(),
            payload: payload.as_bytes(),
        };
        let mut bytes = Vec::new();
        encode::packet(version, &Packet::Publish(publish), &mut bytes).expect("encoded");
        packets.push(bytes);
        if rng.u8(..12) == 0 {
            packets.push(vec![0xC0, 0]);
        }
    }
    packets
}

/// Key, value and headers of each record of a partition, by topic and partition.
type Records = BTreeMap<(String, i32), Vec<(Vec<u8>, Vec<u8>, Vec<(String, String)>)>>;

/// What Kafka has in the end, and what the client was told.
fn run(sinks: &str, version: Version, packets: &[Vec<u8>], per_read: usize) -> (Records, Vec<u8>) {
    let mut world = World::new(&format!("{CLUSTER}{sinks}"));
    let device: ConnId = if version == Version::V5 { world.device_v5("dev") } else { world.device("dev", 0) };
    let mut told = Vec::new();
    for read in packets.chunks(per_read) {
        world.bytes(device, &read.concat());
    }
    world.advance(Duration::from_secs(5));
    let said = world.sent(device);
    let mut rest = &said[..];
    while let Some(frame) = frame::next(rest, u32::MAX).expect("packets") {
        // PINGRESP waits for nothing: where it is among the answers depends on when it was read.
        if frame.first != PINGRESP {
            told.extend_from_slice(&rest[..frame.len]);
        }
        rest = &rest[frame.len..];
    }
    let mut records = Records::new();
    for ((topic, partition, key, value), headers) in world.broker.records.iter().zip(&world.broker.headers) {
        let record = (key.clone(), value.clone(), headers.clone());
        records.entry((topic.clone(), *partition)).or_default().push(record);
    }
    (records, told)
}

#[test]
fn a_read_of_many_messages_is_as_many_reads() {
    for (at, sinks) in SINKS.iter().enumerate() {
        for seed in 0..12 {
            // A 3.1.1 client is disconnected by what is refused.
            let refuses = sinks.contains("payload.n") || sinks.contains("record_bytes_max");
            let version = if seed % 3 == 0 && !refuses { Version::V311 } else { Version::V5 };
            let packets = packets(&mut fastrand::Rng::with_seed(seed), version);
            let alone = run(sinks, version, &packets, 1);
            assert!(alone.0.values().map(Vec::len).sum::<usize>() > 10, "sinks {at}, seed {seed}");
            for per_read in [2, 7, 30] {
                assert_eq!(
                    run(sinks, version, &packets, per_read),
                    alone,
                    "sinks {at}, seed {seed}, {per_read} a read"
                );
            }
        }
    }
}

/// While Kafka is away, memory fills in the midst of a run: the rest of it waits, none of it is lost or comes twice, and the answers are in order.
#[test]
fn a_run_ends_where_memory_does() {
    const COUNT: u16 = 300;
    // One read of all of them fills it.
    let sink = format!("[kafka.main]\nbootstrap = '127.0.0.1:9092'\nbuffer_bytes = '4MiB'\n{}", SINKS[0]);
    let run = |per_read: usize| {
        let mut world = World::new(&sink);
        let device = world.device("dev", 0);
        // Kafka is known by then.
        world.bytes(device, &packet(1, 10));
        world.advance(Duration::from_secs(1));
        world.kafka_up = false;
        world.kafka_down();
        let packets: Vec<Vec<u8>> = (2..=COUNT).map(|id| packet(id, 12_000 + usize::from(id))).collect();
        packets.chunks(per_read).for_each(|read| world.bytes(device, &read.concat()));
        let held = world.number(ShardMetric::PublishesQos1);
        assert!(world.table.wire(device).paused && held < u64::from(COUNT) - 20, "{held} were taken");
        world.kafka_up = true;
        world.advance(Duration::from_secs(60));
        assert!(!world.table.wire(device).paused && world.number(ShardMetric::PublishesQos1) == u64::from(COUNT));
        let sizes: Vec<usize> = world.broker.records.iter().map(|(.., value)| value.len()).collect();
        (sizes, world.sent(device))
    };
    let sizes: Vec<usize> = std::iter::once(10).chain((2..=COUNT).map(|id| 12_000 + usize::from(id))).collect();
    let answers: Vec<u8> = (1..=COUNT).flat_map(|id| [0x40, 2, (id >> 8) as u8, id as u8]).collect();
    for per_read in [1, 7, 40, 400] {
        assert!(run(per_read) == (sizes.clone(), answers.clone()), "{per_read} a read");
    }
}

fn packet(id: u16, bytes: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    publish("a/1", id, &vec![b'x'; bytes], &mut packet);
    packet
}
