//! Answers with the position of a message in Kafka.

use super::*;
use std::rc::Rc;

fn receipt(sink: u16, topic: &str, partition: u32, offset: Option<i64>) -> Receipt {
    Receipt { sink, topic: Rc::from(topic), partition, offset }
}

/// A client with a kept session, at a listener with receipts.
fn client_with(shard: &mut Shard, version: Version, more: &[Property<'_>]) -> Client {
    let mut asked = properties(if version == Version::V5 { &[Property::SessionExpiryInterval(100)] } else { &[] });
    asked.extend(more.iter().copied());
    let c = shard.connect(&Connect { properties: asked.as_properties(), ..connect(version, "c", false) });
    shard.session(c).want_receipts(true);
    c
}

fn client(shard: &mut Shard) -> Client {
    client_with(shard, Version::V5, &[])
}

fn landed(shard: &mut Shard, c: Client, number: u32, receipt: &Receipt) {
    shard.session(c).landed(number, 1, receipt);
    shard.complete(c, number, Reason::Success);
}

#[test]
fn an_answer_says_where_the_message_stands() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    shard.session(c).inflight.start_at(u32::MAX);
    for id in 1..=3 {
        shard.open(c, &publish(QoS::AtLeastOnce, id), 1);
    }
    shard.session(c).landed(u32::MAX, 3, &receipt(0, "t", 4, Some(70)));
    shard.session(c).complete(u32::MAX, 3, Reason::Success);
    assert_eq!(
        shard.answers(c),
        ["puback 1 t/4@70", "puback 2 t/4@71", "puback 3 t/4@72"],
        "each its own, across the wrap"
    );
    let next = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
    shard.complete(c, next, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 1"], "those of the last message of this id are gone with it");
    let next = shard.open(c, &publish(QoS::AtLeastOnce, 9), 1);
    landed(&mut shard, c, next, &receipt(0, "t", 0, Some(0)));
    shard.drain(c);
    let expected = b"\x40\x3C\0\x09\0\x38\x26\0\x0Bkafka-topic\0\x01t\x26\0\x0Fkafka-partition\0\x010\x26\0\x0Ckafka-offset\0\x010";
    assert_eq!(shard.bytes(c.conn), expected);
    let next = shard.open(c, &publish(QoS::AtLeastOnce, 9), 1);
    landed(&mut shard, c, next, &receipt(0, "t", u32::MAX, Some(i64::MAX)));
    assert_eq!(shard.answers(c), ["puback 9 t/4294967295@9223372036854775807"]);
}

/// Many client libraries hand only PUBCOMP to their users.
#[test]
fn pubcomp_repeats_what_pubrec_said() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    landed(&mut shard, c, number, &receipt(0, "t", 4, Some(70)));
    assert_eq!(shard.answers(c), ["pubrec 7 t/4@70"]);
    shard.packet(c, &Packet::PubRel(ack(7)));
    assert_eq!(shard.heard(c.conn), ["pubcomp 7 t/4@70"]);
    shard.packet(c, &Packet::PubRel(ack(7)));
    assert_eq!(shard.heard(c.conn), ["pubcomp 7 0x92"], "the id is free");
}

#[test]
fn it_is_kept_until_its_turn() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    let numbers: Vec<u32> = (1..=4).map(|id| shard.open(c, &publish(QoS::AtLeastOnce, id), 1)).collect();
    landed(&mut shard, c, numbers[2], &receipt(0, "t", 0, Some(2)));
    landed(&mut shard, c, numbers[0], &receipt(0, "t", 0, Some(0)));
    assert_eq!(shard.answers(c), ["puback 1 t/0@0"]);
    shard.complete(c, numbers[1], Reason::Success);
    assert_eq!(shard.answers(c), ["puback 2", "puback 3 t/0@2"]);
    landed(&mut shard, c, numbers[3], &receipt(0, "t", 0, Some(3)));
    assert_eq!(shard.answers(c), ["puback 4 t/0@3"]);
}

#[test]
fn one_for_each_sink_that_says_where_in_the_order_of_the_sinks() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    let number = shard.open(c, &publish(QoS::AtLeastOnce, 1), 4);
    landed(&mut shard, c, number, &receipt(7, "last", 1, Some(10)));
    landed(&mut shard, c, number, &receipt(0, "first", 2, Some(20)));
    // At `stored` the sink reports no position.
    shard.complete(c, number, Reason::Success);
    landed(&mut shard, c, number, &receipt(3, "then", 3, None));
    assert_eq!(shard.answers(c), ["puback 1 first/2@20 then/3 last/1@10"]);

    let number = shard.open(c, &publish(QoS::AtLeastOnce, 2), 2);
    landed(&mut shard, c, number, &receipt(0, "first", 2, Some(21)));
    shard.complete(c, number, Reason::KafkaRejected);
    landed(&mut shard, c, number, &receipt(1, "too late", 0, Some(0)));
    assert_eq!(shard.answers(c), ["puback 2 0x80 first/2@21"], "refused by one, and where the other has it");
}

#[test]
fn not_to_clients_that_cannot_be_told() {
    let no_information = [Property::RequestProblemInformation(false)];
    for (version, more) in [(Version::V31, &[] as &[_]), (Version::V311, &[]), (Version::V5, &no_information)] {
        let mut shard = Shard::default();
        let c = client_with(&mut shard, version, more);
        assert!(!shard.session(c).wants_receipts(), "{version:?}");
        for (qos, expected) in [(QoS::AtLeastOnce, "puback 1"), (QoS::ExactlyOnce, "pubrec 1")] {
            let number = shard.open(c, &publish(qos, 1), 1);
            landed(&mut shard, c, number, &receipt(0, "t", 0, Some(0)));
            assert_eq!(shard.answers(c), [expected], "{version:?}: [MQTT-3.1.2-29]");
        }
        assert!(shard.session(c).inflight.receipts.is_none());
    }
}

#[test]
fn not_where_the_client_could_not_take_the_packet() {
    // The answer has 62 bytes: see above.
    for (max, expected) in [(62, "puback 1 t/0@0"), (61, "puback 1")] {
        let mut shard = Shard::default();
        let c = client_with(&mut shard, Version::V5, &[Property::MaximumPacketSize(max)]);
        let number = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
        landed(&mut shard, c, number, &receipt(0, "t", 0, Some(0)));
        assert_eq!(shard.answers(c), [expected], "[MQTT-3.1.2-24] [MQTT-3.4.2-3]");
    }
}

#[test]
fn a_repeated_pubrec_says_the_same() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    landed(&mut shard, c, number, &receipt(0, "t", 1, Some(5)));
    assert_eq!(shard.answers(c), ["pubrec 7 t/1@5"]);
    shard.repeat(c, 7);
    assert_eq!(shard.answers(c), ["pubrec 7 t/1@5"]);
    // Answered, and the answer lost with the connection.
    shard.end(c, End::Lost);
    let c = client(&mut shard);
    shard.repeat(c, 7);
    assert_eq!(shard.answers(c), ["pubrec 7 t/1@5"]);
    shard.packet(c, &Packet::PubRel(ack(7)));
    assert_eq!(shard.heard(c.conn), ["pubcomp 7 t/1@5"]);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    shard.complete(c, number, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 7"], "nothing of the id's last life");
}

#[test]
fn a_row_without_a_connection_keeps_them_for_the_next() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    let numbers: Vec<u32> = (1..=3).map(|id| shard.open(c, &publish(QoS::ExactlyOnce, id), 2)).collect();
    // One sink has the messages before the connection ends, the other after.
    shard.session(c).landed(numbers[0], 3, &receipt(1, "b", 0, Some(40)));
    shard.session(c).complete(numbers[0], 3, Reason::Success);
    shard.end(c, End::Lost);
    assert!(shard.session(c).inflight.receipts.is_none());
    landed(&mut shard, c, numbers[1], &receipt(0, "a", 0, Some(9)));
    let c = client(&mut shard);
    shard.repeat(c, 2);
    shard.repeat(c, 1);
    shard.repeat(c, 3);
    landed(&mut shard, c, numbers[0], &receipt(0, "a", 0, Some(8)));
    assert_eq!(shard.answers(c), ["pubrec 2 a/0@9 b/0@41", "pubrec 1 a/0@8 b/0@40"]);
    shard.complete(c, numbers[2], Reason::KafkaRejected);
    assert_eq!(shard.answers(c), ["pubrec 3 0x80 b/0@42"]);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 3), 1);
    shard.complete(c, number, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 3"], "its refusal has freed the id");
}

#[test]
fn each_connection_has_them_or_not() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    landed(&mut shard, c, number, &receipt(0, "t", 0, Some(5)));
    shard.drain(c);
    let c = client_with(&mut shard, Version::V5, &[]);
    shard.session(c).want_receipts(false);
    shard.repeat(c, 7);
    let number = shard.open(c, &publish(QoS::AtLeastOnce, 8), 1);
    landed(&mut shard, c, number, &receipt(0, "t", 0, Some(6)));
    assert_eq!(shard.answers(c), ["pubrec 7", "puback 8"], "it came in where there are none");
    let c = client(&mut shard);
    shard.repeat(c, 7);
    assert_eq!(shard.answers(c), ["pubrec 7"], "forgotten by then");
}

#[test]
fn what_is_told_is_let_go() {
    let mut shard = Shard::default();
    let c = client(&mut shard);
    let topic: Rc<str> = Rc::from("t");
    let receipt = Receipt { sink: 0, topic: Rc::clone(&topic), partition: 0, offset: Some(0) };
    let numbers: Vec<u32> = (1..=500).map(|id| shard.open(c, &publish(QoS::ExactlyOnce, id), 1)).collect();
    shard.session(c).landed(numbers[0], 500, &receipt);
    shard.session(c).complete(numbers[0], 500, Reason::Success);
    shard.session(c).landed(numbers[0], 500, &receipt);
    shard.drain(c);
    drop(receipt);
    assert_eq!(Rc::strong_count(&topic), 501, "one for each open id");
    for id in 1..=500 {
        shard.packet(c, &Packet::PubRel(ack(id)));
    }
    assert_eq!(Rc::strong_count(&topic), 1);
    let receipt = Receipt { sink: 0, topic: Rc::clone(&topic), partition: 0, offset: None };
    let numbers: Vec<u32> = (1..=9).map(|id| shard.open(c, &publish(QoS::AtLeastOnce, id), 1)).collect();
    shard.session(c).landed(numbers[0], 9, &receipt);
    shard.end(c, End::Lost);
    drop(receipt);
    assert_eq!(Rc::strong_count(&topic), 1, "what was owed to a connection ends with it");
    assert_eq!(shard.session(c).inflight.memory(), (0, false));
}
