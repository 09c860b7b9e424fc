//! The memory of a session, idle and busy.

use super::*;

#[test]
fn an_idle_session_is_small() {
    let bytes = size_of::<Session>();
    // With a client id of 24 bytes, its slot in the map, that slot's key and its place in the hash table, under 300.
    assert!(bytes <= 200, "{bytes} bytes");
    assert!(bytes + 2 * 8 + 24 + 2 * 9 < 300);
    assert_eq!(size_of::<crate::inflight::Slot>(), 8);
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
        shard.session(c).complete(numbers[0], 16, Reason::Success);
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
        shard.complete(c, number, Reason::Success);
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
    shard.complete(c, number, Reason::Success);
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
            // 60,000 QoS 2 publishes without a PUBREL: the ids stay open, and nothing else grows.
            let publish = publish(QoS::ExactlyOnce, packet_id);
            match shard.sessions.publish(c.key, &publish, shard.now) {
                Some(Taken::Take { number, .. }) if round == 0 => shard.session(c).opened(number, 0, Reason::Success),
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
    let mut shard = Shard::with(Settings { session_bytes_max: 1_000, evict: false, ..Settings::default() });
    let long = "x".repeat(400);
    let asked = Connect { will: Some(will(&long, Properties::EMPTY)), ..connect(Version::V5, "a", true) };
    let a = shard.connect(&asked);
    shard.connect(&Connect { username: Some(&long), ..connect(Version::V5, "b", true) });
    let too_much = connect(Version::V5, &long, true);
    let refusal = |shard: &mut Shard| shard.try_connect(&too_much).1.expect_err("too much").violation;
    assert_eq!(refusal(&mut shard), Violation::SESSION_BYTES);
    let again = shard.connect(&asked);
    assert_eq!(refusal(&mut shard), Violation::SESSION_BYTES, "a client that comes back adds nothing");
    shard.sessions.disconnected(a.key, a.conn, End::Left, shard.now);
    shard.sessions.disconnected(again.key, again.conn, End::Left, shard.now);
    shard.connect(&too_much);
    assert_eq!(shard.sessions.bytes(), shard.sessions.weigh());
}

/// X52: each connection may have 64 KiB of names, and there may be many connections.
#[test]
fn names_behind_topic_aliases_count_in_all() {
    let mut shard = Shard::with(Settings { session_bytes_max: 1_000, ..Settings::default() });
    let (a, b) = (shard.connect(&connect(Version::V5, "a", true)), shard.connect(&connect(Version::V5, "b", true)));
    let long = "x".repeat(300);
    let with = |shard: &mut Shard, of: Client, alias: u16, topic: &str| {
        let properties = properties(&[Property::TopicAlias(alias)]);
        let publish = Publish { topic, properties: properties.as_properties(), ..publish(QoS::AtMostOnce, 0) };
        matches!(shard.sessions.publish(of.key, &publish, shard.now), Some(Taken::TakeQos0 { .. }))
    };
    assert!(with(&mut shard, a, 1, &long) && with(&mut shard, b, 1, &long) && with(&mut shard, a, 2, &long));
    assert_eq!(shard.sessions.bytes(), shard.sessions.weigh());
    assert!(shard.sessions.bytes() > 900);
    assert!(!with(&mut shard, b, 2, &long), "more than there is room for");
    assert!(with(&mut shard, b, 1, &long[1..]) && with(&mut shard, b, 1, ""), "what replaces another may");
    assert_eq!(shard.sessions.bytes(), shard.sessions.weigh());
    // The names are gone with their connection, however that ends.
    shard.end(a, End::Lost);
    shard.connect(&connect(Version::V5, "b", false));
    assert_eq!((shard.sessions.bytes(), shard.sessions.weigh()), (1, 1));
}

/// X55: clients that can ask for anything keep sessions up to the bound; later clients are not locked out by them.
#[test]
fn sessions_that_were_away_longest_make_room() {
    let mut shard = Shard::with(Settings { session_bytes_max: 1_000, ..Settings::default() });
    let left_will = "w".repeat(300);
    let kept =
        |name| Connect { will: Some(will(&left_will, Properties::EMPTY)), ..connect(Version::V311, name, false) };
    let evicted = |shard: &mut Shard| -> Vec<String> {
        std::iter::from_fn(|| shard.sessions.next_evicted()).map(|client| client.key().client_id.to_owned()).collect()
    };
    for name in ["a", "b", "c"] {
        let client = shard.connect(&kept(name));
        shard.end(client, End::LeftWithWill);
        shard.wills();
        // The will is sent at once, and is not part of the kept session.
        let client = shard.connect(&Connect { username: Some(&left_will), ..connect(Version::V311, name, false) });
        shard.end(client, End::Lost);
        shard.pass(S);
    }
    let again = shard.connect(&Connect { username: Some(&left_will), ..connect(Version::V311, "a", false) });
    assert_eq!(evicted(&mut shard), [""; 0], "there was room");
    shard.end(again, End::Lost);
    shard.pass(S);
    // "a" was connected last, so "b" has been away longest.
    shard.connect(&Connect { username: Some(&left_will), ..connect(Version::V311, "d", false) });
    assert_eq!(evicted(&mut shard), ["b"]);
    assert_eq!(shard.sessions.bytes(), shard.sessions.weigh());
    // Connected sessions stay: "c" and "a" go, "d" does not.
    for name in ["e", "f"] {
        shard.connect(&Connect { username: Some(&left_will), ..connect(Version::V311, name, false) });
    }
    assert_eq!(evicted(&mut shard), ["c", "a"]);
    let refused = shard.try_connect(&Connect { username: Some(&left_will), ..connect(Version::V311, "g", false) });
    assert_eq!(refused.1.expect_err("all are connected").violation, Violation::SESSION_BYTES);
    assert_eq!(evicted(&mut shard), [""; 0]);
}

/// X55: the number of sessions.
#[test]
fn one_more_than_the_number_of_sessions_makes_the_longest_away_go() {
    let mut shard = Shard::with(Settings { sessions_max: 2, ..Settings::default() });
    let a = shard.connect(&connect(Version::V311, "a", false));
    let b = shard.connect(&connect(Version::V311, "b", false));
    let refused = |shard: &mut Shard| shard.try_connect(&connect(Version::V311, "c", false)).1.err();
    assert_eq!(refused(&mut shard).expect("both are connected").violation, Violation::SESSIONS_MAX);
    shard.end(b, End::Lost);
    shard.pass(S);
    shard.end(a, End::Lost);
    // A client that reconnects needs no room and evicts no session, though its own is the next to be evicted.
    let b = shard.connect(&connect(Version::V311, "b", false));
    assert!(b.session_present);
    shard.end(b, End::Lost);
    assert!(refused(&mut shard).is_none());
    assert_eq!(shard.sessions.next_evicted().map(|client| client.key().client_id.to_owned()).as_deref(), Some("a"));
}

#[test]
fn a_session_that_no_entry_of_the_spool_could_hold_is_refused() {
    let mut shard = Shard::with(Settings { session_bytes_each_max: 400, ..Settings::default() });
    let (fits, too_large) = ("x".repeat(390), "x".repeat(400));
    shard.connect(&Connect { username: Some(&fits), ..connect(Version::V311, "a", false) });
    let refused = shard.try_connect(&Connect { username: Some(&too_large), ..connect(Version::V311, "a", false) });
    assert_eq!(refused.1.expect_err("too large").violation, Violation::SESSION_TOO_LARGE);
    // A session that ends with its connection is never written.
    shard.connect(&Connect { username: Some(&too_large), ..connect(Version::V311, "a", true) });
}

#[test]
fn a_will_that_finds_no_room_waits_and_counts() {
    let mut shard = Shard::with(Settings { session_bytes_max: 400, evict: false, ..Settings::default() });
    let large = "w".repeat(300);
    let client =
        shard.connect(&Connect { will: Some(will(&large, Properties::EMPTY)), ..connect(Version::V5, "a", true) });
    shard.end(client, End::Lost);
    let due = shard.sessions.next_will().expect("due");
    shard.sessions.keep_will(due);
    assert_eq!((shard.sessions.wills_waiting(), shard.sessions.has_due_wills()), (1, false));
    assert_eq!(shard.sessions.bytes(), shard.sessions.weigh());
    let another = Connect { will: Some(will(&large, Properties::EMPTY)), ..connect(Version::V5, "b", true) };
    assert_eq!(shard.try_connect(&another).1.expect_err("no room").violation, Violation::SESSION_BYTES);
    shard.sessions.offer_wills_again(64);
    assert_eq!(shard.wills(), [large.as_str()]);
    assert_eq!((shard.sessions.wills_waiting(), shard.sessions.bytes()), (0, 0));
    shard.connect(&another);
}

/// A part of a long list begins at its position: sessions keep theirs, and a free slot has one.
#[test]
fn sessions_are_listed_from_a_position_on() {
    let mut shard = Shard::default();
    for name in ["a", "b", "c"] {
        shard.connect(&connect(Version::V311, name, true));
    }
    let listed = |shard: &Shard, from: u32| -> Vec<(u32, String)> {
        let name = |(at, session): (u32, Option<&Session>)| Some((at, session?.client_id().to_owned()));
        shard.sessions.iter_from(from).filter_map(name).collect()
    };
    let all = listed(&shard, 0);
    assert_eq!(all.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(listed(&shard, all[1].0), all[1..]);
    let gone = shard.sessions.find(ClientKey::without_auth("b")).expect("a session");
    shard.sessions.remove(gone);
    assert_eq!(listed(&shard, 0), [all[0].clone(), all[2].clone()]);
    assert_eq!(
        shard.sessions.iter_from(all[1].0).next().map(|(at, session)| (at, session.is_some())),
        Some((all[1].0, false))
    );
    assert_eq!(shard.sessions.iter_from(u32::MAX).count(), 0);
    shard.connect(&connect(Version::V311, "d", true));
    assert_eq!(listed(&shard, 0)[1], (all[1].0, "d".to_owned()));
}
