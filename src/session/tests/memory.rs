//! What a session costs, idle and busy.

use super::*;
use ReasonCode as R;

#[test]
fn an_idle_session_is_small() {
    let bytes = size_of::<Session>();
    // With a client id of 24 bytes, its slot in the map and its place in the hash table, under 300.
    assert!(bytes <= 176, "{bytes} bytes");
    assert!(bytes + 8 + 24 + 2 * 9 < 300);
    assert_eq!(size_of::<crate::session::inflight::Slot>(), 8);
}

#[test]
fn a_steady_stream_of_qos_1_allocates_nothing() {
    let mut shard = Shard::default();
    let c = shard.connect(&connect(Version::V311, "c", true));
    let mut out = Vec::with_capacity(64);
    let mut capacity = None;
    for round in 0..1000_u16 {
        let numbers: Vec<u32> =
            (0..16).map(|i| shard.open(c, &publish(QoS::AtLeastOnce, round * 16 + i + 1), 1)).collect();
        shard.session(c).complete(numbers[0], 16, R::SUCCESS);
        out.clear();
        assert_eq!(shard.session(c).drain_answers(&mut out).answered, 16);
        let (now, has_qos2) = shard.session(c).inflight.memory();
        assert_eq!(*capacity.get_or_insert(now), now, "the queue's memory is used again");
        assert!(!has_qos2 && now < 64);
    }
    assert_eq!(out.capacity(), 64);
}

#[test]
fn a_session_gone_quiet_gives_its_memory_back() {
    let mut shard = Shard::default();
    let c = shard.connect(&connect(Version::V311, "c", true));
    assert_eq!(shard.sessions.next_expiry(), None, "no timer for a session that never published");
    for packet_id in 1..=500 {
        let number = shard.open(c, &publish(QoS::ExactlyOnce, packet_id), 1);
        shard.complete(c, number, R::SUCCESS);
    }
    shard.drain(c);
    for packet_id in 1..=500 {
        shard.packet(c, &Packet::PubRel(ack(packet_id)));
    }
    assert!(shard.session(c).inflight.memory().0 >= 500);
    shard.pass(10 * S);
    let (capacity, _) = shard.session(c).inflight.memory();
    assert!((1..500).contains(&capacity), "busy lately: kept, but cut down, {capacity}");
    shard.pass(10 * S);
    assert_eq!(shard.session(c).inflight.memory(), (0, false));
    assert_eq!(shard.sessions.next_expiry(), None, "nothing turns while nothing happens");
}

#[test]
fn a_session_that_is_owed_an_answer_keeps_it_while_quiet() {
    let mut shard = Shard::default();
    let c = shard.connect(&connect(Version::V311, "c", true));
    let number = shard.open(c, &publish(QoS::ExactlyOnce, 1), 1);
    shard.pass(3600 * S);
    shard.pass(3600 * S);
    shard.complete(c, number, R::SUCCESS);
    assert_eq!(shard.answers(c), ["pubrec 1"]);
    shard.pass(3600 * S);
    shard.pass(3600 * S);
    assert_eq!(shard.session(c).open_packet_ids(), 1, "open until PUBREL");
}

#[test]
fn a_connection_that_ends_gives_everything_back() {
    let mut shard = Shard::with(Settings { qos2_inflight_3x: u16::MAX, ..Settings::default() });
    for round in 0..3 {
        let c = shard.connect(&connect(Version::V311, "c", false));
        for packet_id in 1..=60_000 {
            // 60,000 QoS 2 publishes and never a PUBREL: the ids stay open, and nothing else grows.
            let publish = publish(QoS::ExactlyOnce, packet_id);
            match shard.sessions.publish(c.key, &publish, shard.now) {
                Some(Taken::Take { number, .. }) if round == 0 => shard.session(c).opened(number, 0, R::SUCCESS),
                Some(Taken::Repeat) if round > 0 => {}
                other => panic!("{other:?}"),
            }
        }
        shard.drain(c);
        shard.bytes(c.conn);
        assert_eq!(shard.session(c).open_packet_ids(), 60_000);
        shard.end(c, End::Lost);
        assert_eq!(shard.sessions.get(c.key).expect("kept").inflight.memory(), (0, true));
    }
    let c = shard.connect(&connect(Version::V311, "c", true));
    assert_eq!(shard.session(c).inflight.memory(), (0, false));
}

/// A million sessions of 64 KiB each would fit their number.
#[test]
fn what_clients_choose_the_length_of_is_bounded_in_all() {
    let mut shard = Shard::with(Settings { session_bytes_max: 1_000, ..Settings::default() });
    let long = "x".repeat(400);
    let asked = Connect { will: Some(will(&long, Properties::EMPTY)), ..connect(Version::V5, "a", true) };
    let a = shard.connect(&asked);
    shard.connect(&Connect { username: Some(&long), ..connect(Version::V5, "b", true) });
    let too_much = connect(Version::V5, &long, true);
    let refusal = |shard: &mut Shard| shard.try_connect(&too_much).1.expect_err("too much").violation;
    assert_eq!(refusal(&mut shard), Violation::SESSION_BYTES);
    let again = shard.connect(&asked);
    assert_eq!(refusal(&mut shard), Violation::SESSION_BYTES, "who comes back adds nothing");
    shard.sessions.disconnected(a.key, a.conn, End::Left, shard.now);
    shard.sessions.disconnected(again.key, again.conn, End::Left, shard.now);
    shard.connect(&too_much);
    assert_eq!(shard.sessions.bytes(), shard.sessions.weigh());
}
