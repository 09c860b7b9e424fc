//! The limits of a PUBLISH: QoS, RETAIN, Receive Maximum, topic aliases.

use super::*;

fn v5(settings: Settings) -> (Shard, Client) {
    let mut shard = Shard::with(settings);
    let client = shard.connect(&Connect { username: Some("u"), ..connect(Version::V5, "c", true) });
    (shard, client)
}

#[test]
fn qos_0_is_taken_and_owes_nothing() {
    let (mut shard, c) = v5(Settings::default());
    let taken = shard.sessions.publish(c.key, &publish(QoS::AtMostOnce, 0), Monotonic(0));
    let message = Message { topic: "t", client_id: "c", username: Some("u") };
    assert_eq!(taken, Some(Taken::TakeQos0 { message }));
    assert_eq!(shard.session(c).answers_owed(), 0);
}

#[test]
fn what_connack_ruled_out_ends_the_connection() {
    let settings = Settings { maximum_qos: QoS::AtLeastOnce, retain_available: false, ..Settings::default() };
    let (mut shard, c) = v5(settings);
    assert_eq!(shard.violation(c, &publish(QoS::ExactlyOnce, 1)), Violation::PUBLISH_QOS, "[MQTT-3.2.2-11]");
    let retained = Publish { retain: true, ..publish(QoS::AtLeastOnce, 1) };
    assert_eq!(shard.violation(c, &retained), Violation::PUBLISH_RETAIN, "[MQTT-3.2.2-14]");
    assert_eq!((Violation::PUBLISH_QOS.reason, Violation::PUBLISH_RETAIN.reason), (ReasonCode(0x9B), ReasonCode(0x9A)));
    shard.take(c, &publish(QoS::AtLeastOnce, 1));
}

#[test]
fn receive_maximum_counts_until_the_exchange_is_over() {
    let (mut shard, c) = v5(Settings { receive_maximum: 2, ..Settings::default() });
    let one = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
    let two = shard.open(c, &publish(QoS::ExactlyOnce, 2), 1);
    let third = publish(QoS::AtLeastOnce, 3);
    assert_eq!(shard.violation(c, &third), Violation::RECEIVE_MAXIMUM, "[MQTT-3.3.4-7], 0x93");
    assert_eq!(Violation::RECEIVE_MAXIMUM.reason, ReasonCode(0x93));
    assert!(matches!(
        shard.sessions.publish(c.key, &publish(QoS::AtMostOnce, 0), Monotonic(0)),
        Some(Taken::TakeQos0 { .. })
    ));
    // A sink's answer is not enough: the client's quota is restored when the client is answered.
    shard.complete(c, one, Reason::Success);
    assert_eq!(shard.violation(c, &third), Violation::RECEIVE_MAXIMUM);
    assert_eq!(shard.answers(c), ["puback 1"]);
    let three = shard.open(c, &third, 1);
    // PUBREC gives nothing back, PUBCOMP does (section 4.9).
    shard.complete(c, two, Reason::Success);
    assert_eq!(shard.answers(c), ["pubrec 2"]);
    assert_eq!(shard.violation(c, &publish(QoS::AtLeastOnce, 4)), Violation::RECEIVE_MAXIMUM);
    shard.packet(c, &Packet::PubRel(ack(2)));
    shard.open(c, &publish(QoS::ExactlyOnce, 4), 1);
    shard.complete(c, three, Reason::Success);
    shard.session(c).complete(three + 1, 1, Reason::Denied);
    assert_eq!(shard.answers(c), ["pubcomp 2", "puback 3", "pubrec 4 0x87"]);
    // A refusing PUBREC ends the exchange: both places are free.
    shard.open(c, &publish(QoS::AtLeastOnce, 5), 1);
    shard.open(c, &publish(QoS::AtLeastOnce, 6), 1);
    assert_eq!(shard.violation(c, &third), Violation::RECEIVE_MAXIMUM);
}

#[test]
fn the_quota_is_new_with_each_connection() {
    let mut shard = Shard::with(Settings { receive_maximum: 1, ..Settings::default() });
    let asked = properties(&[Property::SessionExpiryInterval(100)]);
    let asked = Connect { properties: asked.as_properties(), ..connect(Version::V5, "c", false) };
    let c = shard.connect(&asked);
    shard.open(c, &publish(QoS::ExactlyOnce, 1), 1);
    shard.end(c, End::Lost);
    let c = shard.connect(&asked);
    assert!(c.session_present);
    shard.open(c, &publish(QoS::AtLeastOnce, 2), 1);
    assert_eq!(shard.violation(c, &publish(QoS::AtLeastOnce, 3)), Violation::RECEIVE_MAXIMUM);
}

/// X53: before 5.0 a session is left unread past the bound.
#[test]
fn three_x_has_no_quota_but_is_not_read_past_the_bound() {
    let mut shard = Shard::with(Settings { receive_maximum: 1, inflight_max: 3, ..Settings::default() });
    let c = shard.connect(&connect(Version::V311, "c", true));
    let first = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
    shard.open(c, &publish(QoS::AtLeastOnce, 2), 1);
    assert!(!shard.session(c).is_blocked());
    shard.open(c, &publish(QoS::AtLeastOnce, 3), 1);
    assert!(shard.session(c).is_blocked());
    // A shard that nevertheless reads on cannot make the queue longer.
    assert_eq!(shard.violation(c, &publish(QoS::AtLeastOnce, 4)), Violation::BLOCKED);
    shard.complete(c, first, Reason::Success);
    assert_eq!(shard.answers(c), ["puback 1"]);
    assert!(!shard.session(c).is_blocked());
}

/// X53: QoS 2 identifiers that wait for PUBREL.
#[test]
fn open_qos_2_ids_are_bounded() {
    let mut shard = Shard::with(Settings { qos2_inflight_3x: 2, ..Settings::default() });
    let c = shard.connect(&connect(Version::V311, "c", true));
    for packet_id in [1, 2] {
        let number = shard.open(c, &publish(QoS::ExactlyOnce, packet_id), 1);
        shard.complete(c, number, Reason::Success);
        shard.drain(c);
    }
    assert!(!shard.session(c).is_blocked(), "or PUBREL would never be read");
    assert_eq!(shard.violation(c, &publish(QoS::ExactlyOnce, 3)), Violation::OPEN_IDS);
    shard.packet(c, &Packet::PubRel(ack(1)));
    shard.open(c, &publish(QoS::ExactlyOnce, 3), 1);
}

#[test]
fn a_5_0_client_may_have_as_many_open_as_its_receive_maximum() {
    let mut shard = Shard::with(Settings { receive_maximum: 2, qos2_inflight_3x: 1, ..Settings::default() });
    let kept = properties(&[Property::SessionExpiryInterval(60)]);
    let kept = Connect { properties: kept.as_properties(), ..connect(Version::V5, "c", false) };
    let c = shard.connect(&kept);
    for packet_id in [1, 2] {
        shard.open(c, &publish(QoS::ExactlyOnce, packet_id), 0);
    }
    shard.drain(c);
    // The quota begins anew with the connection (section 4.9), the packet ids do not.
    shard.end(c, End::Lost);
    let c = shard.connect(&kept);
    assert_eq!(shard.violation(c, &publish(QoS::ExactlyOnce, 3)), Violation::OPEN_IDS);
}

/// A publish with an alias.
fn aliased<'a>(topic: &'a str, properties: Properties<'a>) -> Publish<'a> {
    Publish { topic, properties, ..publish(QoS::AtMostOnce, 0) }
}

fn topic_of(shard: &mut Shard, c: Client, publish: &Publish<'_>) -> Result<String, Violation> {
    match shard.sessions.publish(c.key, publish, Monotonic(0)) {
        Some(Taken::TakeQos0 { message } | Taken::Take { message, .. }) => Ok(message.topic.to_owned()),
        Some(Taken::Violation(violation)) => Err(violation),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_alias_stands_for_the_topic_that_set_it() {
    let (mut shard, c) = v5(Settings { topic_alias_maximum: 2, ..Settings::default() });
    let [one, two, three] = [1, 2, 3].map(|alias| properties(&[Property::TopicAlias(alias)]));
    let [one, two, three] = [one.as_properties(), two.as_properties(), three.as_properties()];
    assert_eq!(topic_of(&mut shard, c, &aliased("", two)), Err(Violation::ALIAS_UNKNOWN), "section 3.3.4");
    assert_eq!(topic_of(&mut shard, c, &aliased("a/b", two)).as_deref(), Ok("a/b"));
    assert_eq!(topic_of(&mut shard, c, &aliased("", two)).as_deref(), Ok("a/b"));
    assert_eq!(topic_of(&mut shard, c, &aliased("", one)), Err(Violation::ALIAS_UNKNOWN));
    assert_eq!(topic_of(&mut shard, c, &aliased("c", two)).as_deref(), Ok("c"), "replaced");
    assert_eq!(topic_of(&mut shard, c, &aliased("", two)).as_deref(), Ok("c"));
    assert_eq!(topic_of(&mut shard, c, &aliased("a", three)), Err(Violation::ALIAS_RANGE), "[MQTT-3.3.2-9]");
    assert_eq!(topic_of(&mut shard, c, &aliased("", Properties::EMPTY)), Err(Violation::TOPIC_EMPTY));
    assert_eq!((Violation::ALIAS_RANGE.reason, Violation::ALIAS_UNKNOWN.reason), (ReasonCode(0x94), ReasonCode(0x82)));
}

#[test]
fn aliases_end_with_their_connection_and_cost_nothing_unused() {
    let mut shard = Shard::default();
    let asked = properties(&[Property::SessionExpiryInterval(100)]);
    let asked = Connect { properties: asked.as_properties(), ..connect(Version::V5, "c", false) };
    let c = shard.connect(&asked);
    topic_of(&mut shard, c, &aliased("t", Properties::EMPTY)).expect("taken");
    assert!(shard.session(c).aliases.is_none());
    let one = properties(&[Property::TopicAlias(1)]);
    topic_of(&mut shard, c, &aliased("t", one.as_properties())).expect("taken");
    shard.end(c, End::Lost);
    let c = shard.connect(&asked);
    let again = topic_of(&mut shard, c, &aliased("", one.as_properties()));
    assert_eq!(again, Err(Violation::ALIAS_UNKNOWN), "[MQTT-3.3.2-7]");
}

/// [MQTT-3.2.2-18]
#[test]
fn without_aliases_offered_each_is_out_of_range() {
    let (mut shard, c) = v5(Settings { topic_alias_maximum: 0, ..Settings::default() });
    let one = properties(&[Property::TopicAlias(1)]);
    assert_eq!(topic_of(&mut shard, c, &aliased("t", one.as_properties())), Err(Violation::ALIAS_RANGE));
}

#[test]
fn a_qos_2_repeat_sets_its_alias_too() {
    let (mut shard, c) = v5(Settings::default());
    shard.open(c, &publish(QoS::ExactlyOnce, 1), 1);
    let one = properties(&[Property::TopicAlias(1)]);
    let repeat = Publish { dup: true, ..publish(QoS::ExactlyOnce, 1) };
    let repeat = Publish { topic: "x", properties: one.as_properties(), ..repeat };
    assert_eq!(shard.sessions.publish(c.key, &repeat, Monotonic(0)), Some(Taken::Repeat));
    assert_eq!(topic_of(&mut shard, c, &aliased("", one.as_properties())).as_deref(), Ok("x"));
}

#[test]
fn a_publish_for_a_session_that_has_ended_is_nobodys() {
    let (mut shard, c) = v5(Settings::default());
    shard.end(c, End::Lost);
    assert_eq!(shard.sessions.publish(c.key, &publish(QoS::AtLeastOnce, 1), Monotonic(0)), None);
}

/// A run is as many publishes: the same numbers, answers in order, and the same bounds.
#[test]
fn a_run_is_as_many_publishes() {
    for (version, receive_maximum, inflight_max, taken) in
        [(Version::V5, 4, 9, 3), (Version::V5, 9, 4, 3), (Version::V311, 4, 9, 8)]
    {
        let mut shard = Shard::with(Settings { receive_maximum, inflight_max, ..Settings::default() });
        let c = shard.connect(&connect(version, "c", true));
        let first = shard.open(c, &publish(QoS::AtLeastOnce, 1), 1);
        let mut run = shard.sessions.run(c.key, QoS::AtLeastOnce).expect("the session lives");
        assert_eq!((run.client_id, run.username), ("c", None));
        let mut id = 1;
        while run.is_open() {
            id += 1;
            assert_eq!(run.number(), Some(first + u32::from(id) - 1));
            // The second message has no pending answer.
            run.take(id, u16::from(id != 2));
        }
        assert_eq!(id - 1, taken, "{version:?}");
        let refused = if version == Version::V5 { Violation::RECEIVE_MAXIMUM } else { Violation::BLOCKED };
        assert_eq!(shard.violation(c, &publish(QoS::AtLeastOnce, id + 1)), refused);
        assert_eq!(shard.drain(c).answered, 0);
        shard.session(c).complete(first, u32::from(id), Reason::Success);
        assert_eq!(shard.drain(c).answered, usize::from(id));
    }
    let mut shard = Shard::with(Settings { receive_maximum: 1, ..Settings::default() });
    let c = shard.connect(&connect(Version::V5, "c", true));
    let mut run = shard.sessions.run(c.key, QoS::AtMostOnce).expect("the session lives");
    assert_eq!(run.number(), None);
    (0..9).for_each(|_| run.take(0, 0));
    assert!(run.is_open() && shard.session(c).answers_owed() == 0);
}
