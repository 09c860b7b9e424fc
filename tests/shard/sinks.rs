//! `expire_after` and `partitioner = "client"` of a sink, through a whole shard.

use std::time::Duration;

use forebay::mqtt::encode;
use forebay::mqtt::packet::{Packet, Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::record::murmur2;

use super::broker::PARTITIONS;
use super::subscribe::message;
use super::world::{World, publish};

const TEN: &str = "[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"t\"\n\
    expire_after = \"10s\"\n";

#[test]
fn what_waited_too_long_for_kafka_is_answered_and_not_sent() {
    let mut world = World::new(TEN);
    let device = world.device("patient", 0);
    world.kafka_down();
    let mut bytes = Vec::new();
    publish("t", 1, b"old", &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(9));
    assert!(world.sent(device).is_empty());
    world.advance(Duration::from_secs(3));
    assert_eq!(world.sent(device), [0x40, 2, 0, 1], "PUBACK while Kafka is still away");
    bytes.clear();
    publish("t", 2, b"young", &mut bytes);
    world.bytes(device, &bytes);
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(world.sent(device), [0x40, 2, 0, 2]);
    let values: Vec<_> = world.broker.records.iter().map(|record| record.3.as_slice()).collect();
    assert_eq!(values, [b"young"]);
}

#[test]
fn a_client_has_one_partition_whatever_its_topics() {
    let mut world = World::new(&TEN.replace("expire_after = \"10s\"", "partitioner = \"client\""));
    for client in ["a", "bb", "ccc", "sensor-5", "sensor-6"] {
        let device = world.device(client, 0);
        let mut bytes = Vec::new();
        for id in 1..=8 {
            publish(&format!("{client}/{id}"), id, client.as_bytes(), &mut bytes);
        }
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
    }
    assert_eq!(world.broker.records.len(), 40);
    for (_, partition, _, client) in &world.broker.records {
        assert_eq!(*partition as usize, murmur2::partition(client, PARTITIONS as usize));
    }
}

/// Finding K4: a record is too large if it is, not if a bound of it is: 20,000 headers, and a payload that is escaped.
#[test]
fn finding_k4_a_record_is_measured_before_it_is_refused() {
    let json = "value_format = \"json\"\n";
    let text = TEN.replace("expire_after = \"10s\"", "record_bytes_max = \"256KiB\"");
    for (format, properties, payload, refused) in
        [("", 20_000, 10, false), ("", 80_000, 10, true), (json, 0, 100_000, false), (json, 0, 300_000, true)]
    {
        let mut world = World::new(&format!("{text}{format}"));
        let device = world.device_v5("device");
        let mut sent = PropertyBuf::new();
        sent.extend((0..properties).map(|_| Property::UserProperty("a", "b")));
        let payload = "x".repeat(payload);
        let publish =
            Publish { qos: QoS::AtLeastOnce, packet_id: 1, properties: sent.as_properties(), ..message("t", &payload) };
        let mut bytes = Vec::new();
        encode::packet(Version::V5, &Packet::Publish(publish), &mut bytes).expect("encoded");
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
        let answer = world.sent(device);
        let code = answer.get(4).copied().unwrap_or(0);
        assert_eq!((answer[0], code >= 0x80), (0x40, refused), "{properties} properties: {answer:?}");
        assert_eq!(world.broker.records.is_empty(), refused);
    }
}
