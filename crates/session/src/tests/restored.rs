//! Open QoS 2 ids that an earlier process has left.

use super::kept::Kept;
use super::*;

const DISK: HadBy = HadBy { sink: 0, owes: false };
const OWES: HadBy = HadBy { sink: 3, owes: true };

#[test]
fn a_repeat_after_a_crash_goes_to_the_sinks_that_do_not_have_it() {
    let mut k = Kept::new();
    k.connect("c", false, 100);
    k.write();
    let owed = k.crash(&[
        OpenId { packet_id: 7, already_taken_by: &[DISK, OWES] },
        OpenId { packet_id: 8, already_taken_by: &[DISK] },
    ]);
    let [(7, before)] = owed[..] else { panic!("{owed:?}") };
    let c = k.connect("c", false, 100);
    assert!(c.session_present);
    assert_eq!(k.shard.session(c).already_taken_by(7), [0, 3]);
    let repeat = |id| Publish { dup: true, ..publish(QoS::ExactlyOnce, id) };
    // A third sink, in memory, takes 7; the answer of the one at `replicated` is still pending.
    let Some(Taken::Rest { number, owed, .. }) = k.shard.sessions.publish(c.key, &repeat(7), k.shard.now) else {
        panic!("not the rest")
    };
    assert_eq!(owed, 1);
    k.shard.session(c).opened(number, 1 + owed, Reason::Success);
    assert!(k.shard.session(c).already_taken_by(7).is_empty());
    k.shard.repeat(c, 7);
    k.shard.complete(c, number, Reason::Success);
    assert_eq!(k.answers(c), [""; 0], "Kafka has not confirmed the row of before the crash");
    k.shard.complete(c, before, Reason::Success);
    assert_eq!(k.answers(c), ["pubrec 7"]);
    // 8 is done: no other sink matches, and its PUBREC goes out.
    let Some(Taken::Rest { number, owed: 0, .. }) = k.shard.sessions.publish(c.key, &repeat(8), k.shard.now) else {
        panic!("not the rest")
    };
    k.shard.session(c).opened(number, 0, Reason::Success);
    assert_eq!(k.answers(c), ["pubrec 8"]);
    for id in [7, 8] {
        k.packet(c, &Packet::PubRel(ack(id)));
        assert_eq!(k.write(), [format!("released 11 {id}")]);
    }
}

#[test]
fn the_row_of_before_the_crash_may_be_confirmed_at_any_time() {
    // Before the client has reconnected; on the connection of the repeat; on the one after it.
    for when in 0..3 {
        let mut k = Kept::new();
        k.connect("c", false, 100);
        k.write();
        let [(7, before)] = k.crash(&[OpenId { packet_id: 7, already_taken_by: &[OWES] }])[..] else {
            panic!("not owed")
        };
        let key = k.shard.sessions.find(ClientKey::without_auth("c")).expect("restored");
        let at = Receipt { sink: 3, topic: "t".into(), partition: 0, offset: Some(5) };
        let confirm = |k: &mut Kept, step| {
            if step == when {
                let session = k.shard.sessions.get_mut(key).expect("lives");
                session.landed(before, 1, &at);
                session.complete(before, 1, Reason::Success);
            }
        };
        confirm(&mut k, 0);
        let mut c = k.connect("c", false, 100);
        k.shard.session(c).want_receipts(true);
        let Some(Taken::Rest { number, owed, .. }) =
            k.shard.sessions.publish(c.key, &publish(QoS::ExactlyOnce, 7), k.shard.now)
        else {
            panic!("not the rest")
        };
        k.shard.session(c).opened(number, owed, Reason::Success);
        confirm(&mut k, 1);
        if when == 2 {
            assert_eq!(k.answers(c), [""; 0]);
            k.shard.end(c, End::Lost);
            c = k.connect("c", false, 100);
            k.shard.session(c).want_receipts(true);
            k.shard.repeat(c, 7);
        }
        confirm(&mut k, 2);
        // Before the client reconnected it was not known that it would ask for the position of the row.
        assert_eq!(k.answers(c), [if when == 0 { "pubrec 7" } else { "pubrec 7 t/0@5" }], "{when}");
        k.packet(c, &Packet::PubRel(ack(7)));
        assert_eq!(k.shard.session(c).open_packet_ids(), 0);
    }
}

/// Kafka's answer and the PUBREC came before the crash, the log's own record of it did not.
#[test]
fn a_pubrel_after_a_crash_is_answered_though_the_row_seems_to_live() {
    for already_taken_by in [OWES, DISK] {
        let mut k = Kept::new();
        k.connect("c", false, 100);
        k.write();
        let owed = k.crash(&[OpenId { packet_id: 7, already_taken_by: &[already_taken_by] }]);
        let c = k.connect("c", false, 100);
        assert_eq!(k.packet(c, &Packet::PubRel(ack(7))), Next::Go);
        assert_eq!(k.shard.heard(c.conn), ["pubcomp 7"]);
        assert_eq!(k.write(), ["released 11 7"]);
        let number = k.shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
        for (_, before) in owed {
            k.shard.complete(c, before, Reason::Success);
        }
        assert_eq!(k.answers(c), [""; 0], "that was the other message 7");
        k.shard.complete(c, number, Reason::Success);
        assert_eq!(k.answers(c), ["pubrec 7"]);
    }
}

/// Kafka refuses rows that an earlier process has left for good, before their client repeats them, or after.
#[test]
fn a_row_of_before_the_crash_that_is_refused_is_not_answered_with_success() {
    let other = HadBy { sink: 4, ..OWES };
    let cases: [(&[HadBy], &[Reason]); 4] = [
        (&[OWES], &[Reason::KafkaRejected]),
        (&[DISK, OWES], &[Reason::KafkaRejected]),
        (&[OWES, other], &[Reason::KafkaRejected, Reason::Success]),
        (&[OWES, other], &[Reason::Success, Reason::KafkaRejected]),
    ];
    for (already_taken_by, said) in cases {
        for early in 0..=said.len() {
            let mut k = Kept::new();
            k.connect("c", false, 100);
            k.write();
            let [(7, before)] = k.crash(&[OpenId { packet_id: 7, already_taken_by }])[..] else { panic!("not owed") };
            let key = k.shard.sessions.find(ClientKey::without_auth("c")).expect("restored");
            for code in &said[..early] {
                k.shard.sessions.get_mut(key).expect("lives").complete(before, 1, *code);
            }
            k.shard.sessions.collect(key);
            let c = k.connect("c", false, 100);
            if already_taken_by.len() == 1 && early == 1 {
                // No sink has the message: the repeat is a new message, for all of them.
                assert_eq!(k.write(), ["released 11 7"]);
                assert!(k.shard.session(c).already_taken_by(7).is_empty());
                let number = k.shard.open(c, &publish(QoS::ExactlyOnce, 7), 1);
                k.shard.complete(c, number, Reason::Success);
                assert_eq!(k.answers(c), ["pubrec 7"]);
                continue;
            }
            let repeat = Publish { dup: true, ..publish(QoS::ExactlyOnce, 7) };
            let Some(Taken::Rest { number, owed, .. }) = k.shard.sessions.publish(c.key, &repeat, k.shard.now) else {
                panic!("not the rest")
            };
            assert_eq!(usize::from(owed), said.len() - early);
            k.shard.session(c).opened(number, owed, Reason::Success);
            for code in &said[early..] {
                assert_eq!(k.answers(c), [""; 0]);
                k.shard.complete(c, before, *code);
            }
            assert_eq!(k.answers(c), ["pubrec 7 0x80"], "{already_taken_by:?} {said:?} {early}");
            assert_eq!(k.write(), ["released 11 7"]);
        }
    }
}

/// The PUBREC came before the crash; Kafka cannot be asked, and refuses the record, which it has, when it is sent again.
#[test]
fn a_pubrel_after_a_crash_is_answered_though_the_row_was_refused() {
    for already_taken_by in [&[OWES][..], &[DISK, OWES]] {
        let mut k = Kept::new();
        k.connect("c", false, 100);
        k.write();
        let [(7, before)] = k.crash(&[OpenId { packet_id: 7, already_taken_by }])[..] else { panic!("not owed") };
        let c = k.connect("c", false, 100);
        k.shard.complete(c, before, Reason::KafkaRejected);
        k.shard.sessions.collect(c.key);
        assert_eq!(k.packet(c, &Packet::PubRel(ack(7))), Next::Go);
        assert_eq!(k.shard.session(c).open_packet_ids(), 0);
        assert_eq!(k.write(), ["released 11 7"]);
    }
}
