//! `expire_after` and `partitioner = "client"` of a sink, through a whole shard.

use std::time::Duration;

use forebay::record::murmur2;

use super::broker::PARTITIONS;
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
