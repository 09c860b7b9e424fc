//! Answers: their time, order and recipient.

use super::*;
use ReasonCode as R;

fn client(shard: &mut Shard, version: Version) -> Client {
    let asked = properties(if version == Version::V5 { &[Property::SessionExpiryInterval(100)] } else { &[] });
    shard.connect(&Connect { properties: asked.as_properties(), ..connect(version, "c", false) })
}

#[test]
fn answers_go_out_in_order_of_receipt() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V311);
    let a = shard.open(c, &publish(QoS::AtLeastOnce, 11), 1);
    let b = shard.open(c, &publish(QoS::ExactlyOnce, 12), 1);
    let d = shard.open(c, &publish(QoS::AtLeastOnce, 13), 1);
    assert_eq!((b, d), (a + 1, a + 2));
    shard.complete(c, d, Reason::Success);
    shard.complete(c, b, Reason::Success);
    assert_eq!(shard.answers(c), [""; 0], "the first is not ready");
    shard.complete(c, a, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 11", "pubrec 12", "puback 13"], "[MQTT-4.6.0-2] [MQTT-4.6.0-3]");
    assert_eq!(shard.session(c).answers_owed(), 0);
}

/// [MQTT-3.4.2-1] [MQTT-4.3.2-4]
#[test]
fn an_answer_waits_for_every_sink_and_says_the_gravest() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V5);
    let number = shard.open(c, &publish(QoS::AtLeastOnce, 1), 3);
    shard.complete(c, number, Reason::Success);
    shard.complete(c, number, Reason::SpoolFull);
    assert_eq!(shard.answers(c), [""; 0]);
    shard.complete(c, number, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 1 0x97"]);
}

#[test]
fn one_answer_for_a_run_of_numbers() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V311);
    let first = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
    for packet_id in 2..=5 {
        shard.open(c, &publish(QoS::AtLeastOnce, packet_id), 1);
    }
    shard.session(c).complete(first, 3, Reason::Success);
    assert_eq!(shard.drain(c), Drained { answered: 3, refused: None, ..Drained::default() });
    // The range includes numbers that are answered already, and numbers that were never given.
    shard.session(c).complete(first, 50, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 1", "puback 2", "puback 3", "puback 4", "puback 5"]);
}

#[test]
fn a_sink_may_answer_before_it_is_known_how_many_there_are() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V311);
    let number = shard.take(c, &publish(QoS::AtLeastOnce, 1));
    assert_eq!(shard.answers(c), [""; 0], "not routed yet");
    shard.complete(c, number, Reason::Success);
    assert_eq!(shard.answers(c), [""; 0], "there may be more sinks");
    shard.session(c).opened(number, 2, Reason::Success);
    assert_eq!(shard.answers(c), [""; 0]);
    shard.complete(c, number, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 1"]);
}

#[test]
fn without_a_sink_the_answer_is_at_once_and_0x10_in_5_0() {
    for (version, puback, pubrec) in
        [(Version::V5, "puback 1 0x10", "pubrec 2 0x10"), (Version::V311, "puback 1", "pubrec 2")]
    {
        let mut shard = Shard::default();
        let c = client(&mut shard, version);
        for (qos, packet_id) in [(QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 2)] {
            let number = shard.take(c, &publish(qos, packet_id));
            shard.session(c).opened(number, 0, Reason::Unmatched);
        }
        assert_eq!(shard.answers(c), [puback, pubrec]);
    }
}

#[test]
fn an_answer_dies_with_the_connection_of_its_publish() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut shard = Shard::default();
        let old = client(&mut shard, version);
        let first = shard.open(old, &publish(QoS::AtLeastOnce, 1), 1);
        shard.end(old, End::Lost);
        let new = client(&mut shard, version);
        // The client repeats the message: a new row. Then both are answered, the old one first.
        let second = shard.open(new, &Publish { dup: true, ..publish(QoS::AtLeastOnce, 1) }, 1);
        assert_ne!(first, second);
        shard.complete(new, first, Reason::Success);
        assert_eq!(shard.answers(new), [""; 0], "the old answer frees no id of the new connection");
        shard.complete(new, second, Reason::Success);
        assert_eq!(shard.answers(new), ["puback 1"]);
        assert!(shard.heard(old.conn).iter().all(|word| word.starts_with("disconnect")));
    }
}

#[test]
fn an_answer_dies_at_takeover_too() {
    let mut shard = Shard::default();
    let old = client(&mut shard, Version::V5);
    let number = shard.open(old, &publish(QoS::AtLeastOnce, 1), 1);
    let new = client(&mut shard, Version::V5);
    shard.complete(new, number, Reason::Success);
    assert_eq!(shard.answers(new), [""; 0]);
    assert_eq!(shard.heard(old.conn), ["disconnect 0x8E"], "and no PUBACK behind it");
}

#[test]
fn a_frozen_row_of_an_old_connection_holds_up_nobody() {
    let mut shard = Shard::default();
    let old = client(&mut shard, Version::V5);
    shard.open(old, &publish(QoS::ExactlyOnce, 1), 1);
    shard.open(old, &publish(QoS::AtLeastOnce, 2), 1);
    shard.end(old, End::Lost);
    let new = client(&mut shard, Version::V5);
    let number = shard.open(new, &publish(QoS::AtLeastOnce, 3), 1);
    shard.complete(new, number, Reason::Success);
    assert_eq!(shard.answers(new), ["puback 3"]);
    assert_eq!(shard.session(new).open_packet_ids(), 1, "the QoS 2 row goes on");
}

/// [3.1.1 MQTT-4.8.0-2]
#[test]
fn before_5_0_a_refusal_closes_and_never_acknowledges() {
    for version in [Version::V31, Version::V311] {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut shard = Shard::default();
            let c = client(&mut shard, version);
            let first = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
            let second = shard.open(c, &publish(qos, 2), 1);
            let third = shard.open(c, &publish(QoS::AtLeastOnce, 3), 1);
            for number in [first, third] {
                shard.complete(c, number, Reason::Success);
            }
            shard.complete(c, second, Reason::KafkaRejected);
            assert_eq!(
                shard.drain(c),
                Drained { answered: 1, refused: Some(R::UNSPECIFIED_ERROR), ..Drained::default() }
            );
            assert_eq!(shard.answers(c), ["puback 1"], "[MQTT-4.6.0-2] holds what stands behind it");
            shard.end(c, End::NotExpressible);
            let c = client(&mut shard, version);
            assert!(c.session_present);
            assert_eq!(shard.session(c).open_packet_ids(), 0, "no sink has it: the next attempt is a new one");
        }
    }
}

#[test]
fn numbers_wrap() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V311);
    shard.session(c).inflight.start_at(u32::MAX - 1);
    let numbers: Vec<u32> = (1..=4).map(|id| shard.open(c, &publish(QoS::AtLeastOnce, id), 1)).collect();
    assert_eq!(numbers, [u32::MAX - 1, u32::MAX, 0, 1]);
    shard.session(c).complete(u32::MAX - 1, 4, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 1", "puback 2", "puback 3", "puback 4"]);
    shard.open(c, &publish(QoS::ExactlyOnce, 9), 1);
    shard.end(c, End::Lost);
    assert_eq!(shard.open_numbers_after(c), 3, "numbers go on across connections");
}

impl Shard {
    fn open_numbers_after(&mut self, old: Client) -> u32 {
        let c = client(self, Version::V311);
        assert_eq!(c.key, old.key);
        self.open(c, &publish(QoS::AtLeastOnce, 1), 1)
    }
}
