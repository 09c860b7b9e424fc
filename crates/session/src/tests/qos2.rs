//! QoS 2: one row for each life of a packet id [MQTT-4.3.3-10], whatever happens to the connection.

use super::*;
use ReasonCode as R;

fn client(shard: &mut Shard, version: Version) -> Client {
    let asked = properties(if version == Version::V5 { &[Property::SessionExpiryInterval(100)] } else { &[] });
    shard.connect(&Connect { properties: asked.as_properties(), ..connect(version, "c", false) })
}

fn pubrel(shard: &mut Shard, c: Client, packet_id: u16) -> Next {
    shard.packet(c, &Packet::PubRel(ack(packet_id)))
}

#[test]
fn the_whole_exchange() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V5);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    shard.complete(c, number, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 7"], "[MQTT-4.3.3-8]");
    assert_eq!(pubrel(&mut shard, c, 7), Next::Go);
    assert_eq!(shard.heard(c.conn), ["pubcomp 7"], "[MQTT-4.3.3-11]");
    assert_ne!(shard.open(c, &publish(QoS::ExactlyOnce, 7), 1), number, "[MQTT-4.3.3-12]: a new message");
}

/// [MQTT-3.7.2-1]
#[test]
fn an_unknown_id_gets_its_pubcomp() {
    for (version, heard) in [(Version::V5, "pubcomp 7 0x92"), (Version::V311, "pubcomp 7"), (Version::V31, "pubcomp 7")]
    {
        let mut shard = Shard::default();
        let c = client(&mut shard, version);
        assert_eq!(pubrel(&mut shard, c, 7), Next::Go);
        assert_eq!(shard.heard(c.conn), [heard]);
    }
}

#[test]
fn pubrel_before_pubrec_is_a_protocol_error() {
    for version in [Version::V5, Version::V311] {
        let mut shard = Shard::default();
        let c = client(&mut shard, version);
        shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
        let early = Next::End(End::Violation(Violation::PUBREL_EARLY));
        assert_eq!(pubrel(&mut shard, c, 7), early, "[MQTT-4.3.3-4]");
        assert_eq!(shard.session(c).open_packet_ids(), 1, "the id stays: its row may not be doubled");
        shard.end(c, End::Violation(Violation::PUBREL_EARLY));
        let c = client(&mut shard, version);
        assert_eq!(pubrel(&mut shard, c, 7), early, "nor while the row goes on without a connection");
    }
}

#[test]
fn a_refusal_frees_the_id() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V5);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    shard.complete(c, number, Reason::KafkaRejected);
    assert_eq!(shard.answers(c), ["pubrec 7 0x80"]);
    assert_eq!(shard.session(c).open_packet_ids(), 0);
    shard.open(c, &publish(QoS::ExactlyOnce, 7), 1); // [MQTT-4.3.3-9]: taken, not a repeat
}

#[test]
fn a_repeat_while_the_answer_is_owed_adds_nothing() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V311);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    shard.repeat(c, 7);
    shard.repeat(c, 7);
    assert_eq!(shard.session(c).answers_owed(), 1);
    shard.complete(c, number, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 7"]);
}

#[test]
fn a_repeat_after_pubrec_gets_another_in_its_order() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V5);
    let number = shard.take(c, &publish(QoS::ExactlyOnce, 7));
    shard.session(c).opened(number, 0, Reason::Unmatched);
    assert_eq!(shard.answers(c), ["pubrec 7 0x10"]);
    let ahead = shard.open(c, &publish(QoS::AtLeastOnce, 8), 1);
    shard.repeat(c, 7);
    assert_eq!(shard.answers(c), [""; 0], "8 came before it");
    shard.complete(c, ahead, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 8", "pubrec 7 0x10"], "[MQTT-4.3.3-10], the same code");
    assert_eq!(shard.session(c).open_packet_ids(), 1);
}

#[test]
fn a_second_pubrec_that_pubrel_overtakes_is_not_sent() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V311);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    shard.complete(c, number, Reason::Success);
    shard.drain(c);
    let ahead = shard.open(c, &publish(QoS::AtLeastOnce, 8), 1);
    shard.repeat(c, 7);
    pubrel(&mut shard, c, 7);
    let next = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    shard.complete(c, ahead, Reason::Success);
    // The old PUBREC, if it followed, would acknowledge the new message 7, which no sink has yet.
    assert_eq!(shard.answers(c), ["pubrec 7", "pubcomp 7", "puback 8"]);
    shard.complete(c, next, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 7"]);
}

#[test]
fn a_repeat_after_a_reconnect_attaches_to_the_row_that_is_there() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut shard = Shard::default();
        let old = client(&mut shard, version);
        let row = shard.open(old, &publish(QoS::ExactlyOnce, 7), 2);
        shard.complete(old, row, Reason::Success);
        shard.end(old, End::Lost);
        let c = client(&mut shard, version);
        let ahead = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
        shard.repeat(c, 7);
        let behind = shard.open(c, &publish(QoS::AtLeastOnce, 2), 1);
        shard.complete(c, behind, Reason::Success);
        shard.complete(c, ahead, Reason::Success);
        assert_eq!(shard.answers(c), ["puback 1"], "the row's second sink is owed still");
        shard.complete(c, row, Reason::Success);
        assert_eq!(shard.answers(c), ["pubrec 7", "puback 2"]);
        pubrel(&mut shard, c, 7);
        assert_eq!(shard.heard(c.conn), ["pubcomp 7"]);
        assert_eq!(shard.session(c).open_packet_ids(), 0);
    }
}

#[test]
fn a_row_done_while_nobody_was_there_is_answered_when_it_is_repeated() {
    let mut shard = Shard::default();
    let old = client(&mut shard, Version::V5);
    let row = shard.open(old, &publish(QoS::ExactlyOnce, 7), 1);
    let ready = shard.open(old, &publish(QoS::ExactlyOnce, 8), 1);
    shard.complete(old, ready, Reason::Success); // ready, but behind 7 when the connection goes
    shard.end(old, End::Lost);
    shard.complete(old, row, Reason::Success);
    let c = client(&mut shard, Version::V5);
    assert_eq!(shard.answers(c), [""; 0], "nothing is answered that this connection has not published");
    shard.repeat(c, 8);
    shard.repeat(c, 7);
    assert_eq!(shard.answers(c), ["pubrec 8", "pubrec 7"]);
}

#[test]
fn answers_for_a_run_of_numbers_pass_over_a_repeat() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V5);
    let row = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    shard.end(c, End::Lost);
    let c = client(&mut shard, Version::V5);
    let first = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
    shard.repeat(c, 7);
    shard.open(c, &publish(QoS::AtLeastOnce, 2), 1);
    shard.session(c).complete(first, 3, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 1"], "the row has not been answered");
    shard.complete(c, row, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 7", "puback 2"]);
}

#[test]
fn a_row_outlives_several_connections() {
    let mut shard = Shard::default();
    let mut c = client(&mut shard, Version::V311);
    let row = shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
    for _ in 0..5 {
        shard.end(c, End::Lost);
        c = client(&mut shard, Version::V311);
        shard.repeat(c, 7);
        assert_eq!(shard.answers(c), [""; 0]);
    }
    shard.complete(c, row, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 7"]);
}

#[test]
fn a_refusal_that_nobody_heard() {
    // No sink has the message: the repeat is a new attempt. One has it: the repeat gets the refusal, and no second record.
    for (landed, sinks) in [(false, 1), (true, 2)] {
        let mut shard = Shard::default();
        let old = client(&mut shard, Version::V5);
        let row = shard.open(old, &publish(QoS::ExactlyOnce, 7), sinks);
        if landed {
            shard.complete(old, row, Reason::Success);
        }
        shard.end(old, End::Lost);
        shard.complete(old, row, Reason::KafkaRejected);
        let c = client(&mut shard, Version::V5);
        if landed {
            shard.repeat(c, 7);
            assert_eq!(shard.answers(c), ["pubrec 7 0x80"]);
        } else {
            shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
        }
        assert_eq!(shard.session(c).open_packet_ids(), usize::from(!landed));
    }
}

#[test]
fn before_5_0_a_refusal_after_one_sink_took_it_is_never_doubled() {
    let mut shard = Shard::default();
    let mut c = client(&mut shard, Version::V311);
    let row = shard.open(c, &publish(QoS::ExactlyOnce, 7), 2);
    shard.complete(c, row, Reason::Success);
    shard.complete(c, row, Reason::KafkaRejected);
    for _ in 0..3 {
        let drained = shard.drain(c);
        assert_eq!(drained, Drained { answered: 0, refused: Some(R::UNSPECIFIED_ERROR), ..Drained::default() });
        shard.end(c, End::NotExpressible);
        c = client(&mut shard, Version::V311);
        shard.repeat(c, 7);
    }
    let early = pubrel(&mut shard, c, 7);
    assert_eq!(early, Next::End(End::Violation(Violation::PUBREL_EARLY)), "it has had no PUBREC");
}

#[test]
fn what_a_sink_has_lost_may_be_sent_once_more() {
    for waits in [true, false] {
        let mut shard = Shard::default();
        let old = client(&mut shard, Version::V311);
        let row = shard.open(old, &publish(QoS::ExactlyOnce, 7), 2);
        shard.complete(old, row, Reason::Success);
        if waits {
            shard.complete(old, row, Reason::RecordLost);
            assert_eq!(
                shard.drain(old),
                Drained { answered: 0, refused: Some(Reason::RecordLost.code()), ..Drained::default() }
            );
        }
        shard.end(old, if waits { End::NotExpressible } else { End::Lost });
        if !waits {
            shard.complete(old, row, Reason::RecordLost);
        }
        let c = client(&mut shard, Version::V311);
        let row = shard.open(c, &publish(QoS::ExactlyOnce, 7), 2);
        shard.complete(c, row, Reason::Success);
        shard.complete(c, row, Reason::Success);
        assert_eq!(shard.answers(c), ["pubrec 7"], "waits: {waits}");
    }
}

#[test]
fn an_id_is_not_leaked_when_its_publish_was_never_routed() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V311);
    shard.take(c, &publish(QoS::ExactlyOnce, 7));
    shard.end(c, End::Lost);
    let c = client(&mut shard, Version::V311);
    shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
}

/// Other shards have the message, and one connection after the other is lost while they forget it.
#[test]
fn a_refusal_that_waits_for_other_shards_outlives_its_connection() {
    let mut shard = Shard::default();
    let c = client(&mut shard, Version::V5);
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 7), 2);
    shard.session(c).sent_to_shards(7, 0b10);
    shard.end(c, End::Lost);
    shard.complete(c, number, Reason::Success);
    shard.complete(c, number, Reason::KafkaRejected);
    let mut c = client(&mut shard, Version::V5);
    shard.repeat(c, 7);
    let unanswered = shard.drain(c).unanswered.expect("the shard is to forget it first");
    assert_eq!((unanswered.packet_id, unanswered.shards), (7, 0b10));
    shard.session(c).refuses_later(unanswered.number, 1);
    for _ in 0..3 {
        shard.end(c, End::Lost);
        c = client(&mut shard, Version::V5);
        shard.repeat(c, 7);
        assert_eq!(shard.answers(c), [""; 0], "the shard has not forgotten it");
    }
    shard.complete(c, unanswered.number, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 7 0x80"]);
    assert_eq!(shard.session(c).open_packet_ids(), 0);
}
