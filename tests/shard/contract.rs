//! What an answer means, seen from a device: held until Kafka has it, in order of receipt, and for every sink.

use std::time::Duration;

use forebay::runtime::seam::{Closed, Shard as _};

use super::ONE_SINK;
use super::world::{World, publish};

fn ids(answers: &[u8]) -> Vec<u16> {
    answers
        .chunks(4)
        .map(|a| (a[0], u16::from_be_bytes([a[2], a[3]])))
        .map(|(kind, id)| {
            assert_eq!(kind, 0x40, "PUBACK");
            id
        })
        .collect()
}

#[test]
fn answers_wait_for_kafka_and_come_in_order_of_receipt() {
    let mut world = World::new(ONE_SINK);
    world.kafka_down();
    let device = world.device("d", 0);
    for id in 1..=100 {
        let mut bytes = Vec::new();
        publish(&format!("plant/{}/temp", id % 7), id, b"21.5", &mut bytes);
        world.bytes(device, &bytes);
    }
    world.advance(Duration::from_secs(60));
    assert!(world.sent(device).is_empty(), "an answer without Kafka");
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(ids(&world.sent(device)), (1..=100).collect::<Vec<u16>>());
    assert_eq!(world.broker.records.len(), 100);
    let keys = world.broker.records.iter().filter(|r| r.2 == b"plant/3/temp").count();
    assert_eq!(keys, 100usize.div_ceil(7) - 1 + usize::from(100 % 7 >= 3));
}

/// Finding M9: who leaves before Kafka has a message is not told, whether by DISCONNECT or by the end of its socket; Kafka gets it.
#[test]
fn finding_m9_who_has_left_is_not_answered_and_its_messages_go_on() {
    for takes_leave in [true, false] {
        let mut world = World::new(ONE_SINK);
        world.kafka_down();
        let device = world.device("d", 0);
        let mut bytes = Vec::new();
        publish("t", 1, b"x", &mut bytes);
        world.bytes(device, &bytes);
        if takes_leave {
            world.bytes(device, &[0xE0, 0]);
            assert!(world.table.wire(device).closed);
        } else {
            world.core.on_close(&mut world.table, device, Closed::Peer);
        }
        world.turn();
        world.kafka_up = true;
        world.advance(Duration::from_secs(5));
        assert!(world.sent(device).is_empty(), "{takes_leave}");
        assert_eq!(world.broker.records.len(), 1, "{takes_leave}");
    }
}

#[test]
fn a_message_of_two_sinks_is_answered_when_both_have_it() {
    let text = format!(
        "{ONE_SINK}\n[kafka.away]\nbootstrap = \"127.0.0.2:9092\"\n[[sink]]\nname = \"two\"\nkafka = \"main\"\nfilters = \
         [\"a/+\"]\ntopic = \"second-${{topic[1]}}\"\n"
    );
    let mut world = World::new(&text);
    let device = world.device("d", 0);
    let mut bytes = Vec::new();
    publish("a/b", 1, b"x", &mut bytes);
    publish("c", 2, b"y", &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(1));
    assert_eq!(ids(&world.sent(device)), [1, 2]);
    let mut topics: Vec<_> = world.broker.records.iter().map(|r| r.0.as_str()).collect();
    topics.sort_unstable();
    assert_eq!(topics, ["all", "all", "second-b"]);
}

#[test]
fn received_is_answered_at_once_and_delivered_later() {
    let mut world = World::new(&format!("{ONE_SINK}acknowledge = \"received\"\n"));
    world.kafka_down();
    let device = world.device("d", 0);
    let mut bytes = Vec::new();
    publish("a", 9, b"x", &mut bytes);
    world.bytes(device, &bytes);
    assert_eq!(ids(&world.sent(device)), [9]);
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(world.broker.records.len(), 1);
}

#[test]
fn packets_cut_at_every_byte_are_the_same_packets() {
    let mut bytes = Vec::new();
    publish("a/b", 1, b"payload", &mut bytes);
    publish("a/c", 2, b"", &mut bytes);
    bytes.extend_from_slice(&[0xc0, 0]);
    for cut in 1..bytes.len() {
        let mut world = World::new(ONE_SINK);
        let device = world.device("d", 0);
        world.bytes(device, &bytes[..cut]);
        world.bytes(device, &bytes[cut..]);
        world.advance(Duration::from_secs(1));
        let mut sent = world.sent(device);
        let pong = sent.windows(2).position(|w| w == [0xd0, 0]).expect("PINGRESP");
        sent.drain(pong..pong + 2);
        assert_eq!(ids(&sent), [1, 2], "cut at {cut}");
        assert_eq!(world.broker.records.len(), 2);
    }
}

#[test]
fn a_message_of_very_many_sinks_is_answered_when_all_have_it() {
    let mut text = String::from("[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\n");
    for sink in 0..300 {
        text += &format!(
            "[[sink]]\nname = \"s{sink}\"\nfilters = [\"#\"]\ntopic = \"t{sink}\"\nbatch_bytes = \"1KiB\"\nrecord_bytes_max \
             = \"2KiB\"\n"
        );
    }
    let mut world = World::new(&text);
    world.kafka_down();
    let device = world.device("d", 0);
    let mut bytes = Vec::new();
    publish("a", 1, b"x", &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(60));
    assert!(world.sent(device).is_empty(), "an answer without Kafka");
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!((ids(&world.sent(device)), world.broker.records.len()), (vec![1], 300));
}

#[test]
fn a_will_goes_out_in_the_turn_that_ends_its_connection() {
    let mut world = World::new(ONE_SINK);
    world.broker.error = 87;
    let conn = world.accept();
    world.bytes(conn, b"\x10\x17\x00\x04MQTT\x04\x06\x00\x00\x00\x01d\x00\x02wt\x00\x04gone");
    assert_eq!(world.sent(conn), [0x20, 2, 0, 0], "CONNACK");
    let mut bytes = Vec::new();
    publish("a", 1, b"x", &mut bytes);
    world.bytes(conn, &bytes);
    while !world.table.wire(conn).closed {
        world.advance(Duration::from_millis(1));
    }
    assert_eq!(
        world.number(forebay::metrics::spec::ShardMetric::Wills),
        1,
        "refused by Kafka, no word for it in 3.1.1"
    );
}

#[test]
fn a_message_whose_time_is_over_before_kafka_comes_is_not_delivered() {
    use forebay::metrics::spec::ShardMetric;
    use forebay::mqtt::encode;
    use forebay::mqtt::packet::{Packet, Publish, QoS, Version};
    use forebay::mqtt::property::{Property, PropertyBuf};

    let mut world = World::new(ONE_SINK);
    world.kafka_down();
    let device = world.accept();
    let mut bytes = Vec::new();
    let connect = crate::hello::hello(Version::V5, "d");
    encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
    for (packet_id, expiry_s) in [(1, Some(30)), (2, None), (3, Some(3_600))] {
        let mut properties = PropertyBuf::new();
        if let Some(expiry_s) = expiry_s {
            properties.push(Property::MessageExpiryInterval(expiry_s));
        }
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "t",
            packet_id,
            properties: properties.as_properties(),
            payload: &[b'0' + packet_id as u8],
        };
        encode::packet(Version::V5, &Packet::Publish(publish), &mut bytes).expect("encoded");
    }
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(60));
    assert_eq!(world.number(ShardMetric::Answers), 0, "nobody is answered while Kafka is away");
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    let values: Vec<&[u8]> = world.broker.records.iter().map(|record| record.3.as_slice()).collect();
    assert_eq!(values, [b"2", b"3"], "the first one's 30 s were over [MQTT-3.3.2-5]");
    assert_eq!(world.number(ShardMetric::Answers), 3, "and its publisher is answered all the same");
}
