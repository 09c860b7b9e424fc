//! Which member of a shared subscription gets a message: by each strategy on one shard, and in turn on two.

use std::collections::{BTreeMap, BTreeSet};

use forebay::broker::router::owner;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::reason::ReasonCode;
use forebay::rules::KEPT;
use forebay::runtime::seam::{ConnId, Shard as _};

use super::process::Process;
use super::shares::{QOS_1, ack, join, member, vanish};
use super::subscribe::{PLAIN, bytes_of, heard, message, publish, subscribe_and_hear, subscribe_packet};
use super::world::{ONE_SINK, World};

const SHARE: &str = "$share/g/t/#";

fn text(strategy: &str) -> String {
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    format!("{text}\n[delivery]\nshare_strategy = \"{strategy}\"\n")
}

fn members(world: &mut World, names: &[&str], receive_maximum: u16) -> Vec<ConnId> {
    let enter = |name: &&str| {
        let conn = member(world, name, receive_maximum, 0, false);
        join(world, conn, SHARE, QOS_1);
        conn
    };
    names.iter().map(enter).collect()
}

fn send(world: &mut World, conn: ConnId, topic: &str, payload: &str) {
    let of = message(topic, payload);
    publish(world, conn, Version::V5, Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..of });
    world.sent(conn);
}

fn topics(of: std::ops::Range<u32>) -> Vec<String> {
    of.map(|number| format!("t/{number}")).collect()
}

/// What a member is sent: topic, payload, packet identifier; 0: QoS 0.
fn messages(world: &mut World, conn: ConnId) -> Vec<(String, String, u16)> {
    let words = |text: String| {
        let words: Vec<_> = text.split(' ').collect();
        (words[0].to_owned(), words[1].to_owned(), words.get(5).map_or(0, |id| id.parse().expect("a number")))
    };
    heard(world, conn, Version::V5).into_iter().map(words).collect()
}

/// The same, acknowledged, until there is no more.
fn all_messages(world: &mut World, conn: ConnId) -> Vec<(String, String)> {
    let mut all = Vec::new();
    loop {
        let some = messages(world, conn);
        if some.is_empty() {
            return all;
        }
        for (topic, payload, id) in some {
            if id > 0 {
                ack(world, conn, PacketType::PubAck, id, ReasonCode::SUCCESS);
            }
            all.push((topic, payload));
        }
    }
}

/// Which member gets each of these topics; they are published once each.
fn named(world: &mut World, publisher: ConnId, members: &[ConnId], topics: &[String]) -> BTreeMap<String, ConnId> {
    topics.iter().for_each(|topic| send(world, publisher, topic, "x"));
    let mut all = BTreeMap::new();
    for conn in members {
        let of = all_messages(world, *conn).into_iter().map(|(topic, _)| (topic, *conn));
        of.for_each(|(topic, conn)| assert!(all.insert(topic, conn).is_none(), "twice"));
    }
    assert!(all.keys().eq(topics.iter().collect::<BTreeSet<_>>()), "each of them once");
    all
}

#[test]
fn least_inflight_gives_messages_to_the_member_with_the_fewest_unacknowledged() {
    let mut world = World::new(&text("least-inflight"));
    let [busy, idle] = members(&mut world, &["busy", "idle"], 0)[..] else { unreachable!() };
    let publisher = world.device_v5("publisher");
    let mut of_idle = 0;
    for _ in 0..6 {
        send(&mut world, publisher, "t/a", "x");
        of_idle += all_messages(&mut world, idle).len();
    }
    assert_eq!((messages(&mut world, busy).len(), of_idle), (1, 5));
    // One that is too large for the least busy one goes to another.
    let small = member(&mut world, "small", 0, 30, false);
    join(&mut world, small, SHARE, QOS_1);
    (0..2).for_each(|_| send(&mut world, publisher, "t/a", &"x".repeat(40)));
    assert_eq!([busy, idle].map(|conn| messages(&mut world, conn).len()).iter().sum::<usize>(), 2);
    send(&mut world, publisher, "t/a", "x");
    assert_eq!(messages(&mut world, small).len(), 1);
    assert_eq!((world.number(M::CopiesTooLarge), world.number(M::ShareQueuedMessages)), (0, 0));
}

#[test]
fn hash_topic_keeps_each_topic_at_one_member_and_moves_only_what_members_bring_or_leave() {
    let mut world = World::new(&text("hash-topic"));
    let mut all = members(&mut world, &["one", "two", "three"], 0);
    let publishers = ["p", "q"].map(|name| world.device_v5(name));
    let topics = topics(0..60);
    let before = named(&mut world, publishers[0], &all, &topics);
    for _ in 0..2 {
        assert_eq!(named(&mut world, publishers[1], &all, &topics), before, "from another publisher");
    }
    let of = |named: &BTreeMap<String, ConnId>, conn| named.values().filter(|to| **to == conn).count();
    assert!(all.iter().all(|conn| (8..=34).contains(&of(&before, *conn))), "{before:?}");
    all.extend(members(&mut world, &["four"], 0));
    let four = named(&mut world, publishers[0], &all, &topics);
    assert!(before.iter().all(|(topic, conn)| four[topic] == *conn || four[topic] == all[3]));
    assert!(of(&four, all[3]) > 4);
    let gone = all.remove(0);
    vanish(&mut world, gone);
    let three = named(&mut world, publishers[0], &all, &topics);
    assert!(four.iter().all(|(topic, conn)| three[topic] == *conn || *conn == gone));
    // It comes back as a new session, and has its topics again.
    let back = members(&mut world, &["one"], 0)[0];
    all.push(back);
    let again = named(&mut world, publishers[0], &all, &topics);
    assert!(four.iter().all(|(topic, conn)| again[topic] == if *conn == gone { back } else { *conn }));
}

#[test]
fn hash_client_keeps_each_publisher_at_one_member_at_every_qos() {
    let mut world = World::new(&text("hash-client"));
    let all = members(&mut world, &["one", "two", "three"], 0);
    let mut used = BTreeSet::new();
    for number in 0..12 {
        let publisher = world.device_v5(&format!("publisher-{number}"));
        let to: BTreeSet<_> = named(&mut world, publisher, &all, &topics(0..10)).into_values().collect();
        assert_eq!(to.len(), 1);
        publish(&mut world, publisher, Version::V5, message("t/0", "y"));
        let [conn] = to.into_iter().collect::<Vec<_>>()[..] else { unreachable!() };
        assert_eq!(messages(&mut world, conn), [("t/0".to_owned(), "y".to_owned(), 0)]);
        used.insert(conn);
    }
    assert_eq!(used.len(), 3);
}

#[test]
fn what_a_member_has_no_room_for_waits_for_it_in_order_and_for_others_when_it_leaves() {
    let mut world = World::new(&text("hash-topic"));
    let all = members(&mut world, &["deaf", "one", "two"], 1);
    let publisher = world.device_v5("publisher");
    let topics = topics(0..30);
    let named = named(&mut world, publisher, &all, &topics);
    for number in 0..5 {
        topics.iter().for_each(|topic| send(&mut world, publisher, topic, &number.to_string()));
    }
    let deaf = all[0];
    let of_deaf = named.values().filter(|conn| **conn == deaf).count();
    let mut had = BTreeMap::<String, Vec<(ConnId, String)>>::new();
    let mut take = |world: &mut World, conn| {
        for (topic, payload) in all_messages(world, conn) {
            had.entry(topic).or_default().push((conn, payload));
        }
    };
    all[1..].iter().for_each(|conn| take(&mut world, *conn));
    assert!(of_deaf > 3);
    assert_eq!(world.number(M::ShareQueuedMessages), of_deaf as u64 * 5 - 1, "others do not wait for it");
    world.advance(std::time::Duration::from_secs(5));
    all[1..].iter().for_each(|conn| take(&mut world, *conn));
    assert_eq!(world.number(M::ShareQueuedMessages), of_deaf as u64 * 5 - 1, "nor does another get them");
    let sent = messages(&mut world, deaf);
    assert_eq!(sent.len(), 1);
    vanish(&mut world, deaf);
    all[1..].iter().for_each(|conn| take(&mut world, *conn));
    assert_eq!(world.number(M::ShareQueuedMessages), 0);
    for topic in &topics {
        let [(first, _), ..] = had[topic][..] else { unreachable!() };
        assert!(first == named[topic] || named[topic] == deaf);
        let wanted: Vec<_> = (0..5).map(|number| (first, number.to_string())).collect();
        assert_eq!(had[topic], wanted, "at one member, in order, with the one that it had not acknowledged");
    }
}

#[test]
fn one_that_is_too_large_for_the_member_goes_to_the_next_one_and_waits_for_it() {
    let mut world = World::new(&text("hash-topic"));
    let publisher = world.device_v5("publisher");
    let small = member(&mut world, "small", 1, 40, false);
    let large = member(&mut world, "large", 1, 0, false);
    [small, large].into_iter().for_each(|conn| join(&mut world, conn, SHARE, QOS_1));
    let all = topics(0..20);
    let named = named(&mut world, publisher, &[small, large], &all);
    let of = |conn| named.iter().find(|(_, to)| **to == conn).map(|(topic, _)| topic.clone()).expect("one of them");
    let (of_small, of_large, huge) = (of(small), of(large), "x".repeat(50));
    send(&mut world, publisher, &of_small, "1");
    send(&mut world, publisher, &of_large, "2");
    send(&mut world, publisher, &of_small, &huge);
    send(&mut world, publisher, &of_small, "3");
    assert_eq!(world.number(M::ShareQueuedMessages), 2);
    let mut payloads =
        |conn| -> Vec<_> { all_messages(&mut world, conn).into_iter().map(|(_, payload)| payload).collect() };
    assert_eq!(payloads(small), ["1", "3"], "it holds nothing up");
    assert_eq!(payloads(large), ["2", &*huge]);
    // Too large for all.
    vanish(&mut world, large);
    send(&mut world, publisher, &of_small, &huge);
    send(&mut world, publisher, &of_small, "4");
    assert_eq!(messages(&mut world, small).len(), 1);
    assert_eq!((world.number(M::CopiesTooLarge), world.number(M::ShareQueuedMessages)), (1, 0));
}

#[test]
fn what_waits_with_no_member_online_is_divided_among_those_that_come() {
    let mut world = World::new(&text("hash-topic"));
    let kept = member(&mut world, "kept", 0, 0, true);
    join(&mut world, kept, SHARE, QOS_1);
    vanish(&mut world, kept);
    let publisher = world.device_v5("publisher");
    let all = topics(0..40);
    all.iter().for_each(|topic| send(&mut world, publisher, topic, "x"));
    let members = ["one", "two"].map(|name| {
        let conn = member(&mut world, name, 1, 0, false);
        let (codes, behind) = subscribe_and_hear(&mut world, conn, Version::V5, 0, &[(SHARE, QOS_1)]);
        assert_eq!((codes, behind.len()), (vec![1], 1));
        conn
    });
    members.into_iter().for_each(|conn| ack(&mut world, conn, PacketType::PubAck, 1, ReasonCode::SUCCESS));
    let counts = members.map(|conn| all_messages(&mut world, conn).len() + 1);
    assert_eq!(counts.iter().sum::<usize>(), 40);
    assert!(counts.iter().all(|count| *count >= 8), "{counts:?}: the second takes its topics from the first");
}

/// What comes in the turn in which a member comes is behind what has waited.
#[test]
fn what_has_waited_is_sent_before_what_comes() {
    let mut world = World::new(&text("hash-topic"));
    let kept = member(&mut world, "kept", 0, 0, true);
    join(&mut world, kept, SHARE, QOS_1);
    vanish(&mut world, kept);
    let publisher = world.device_v5("publisher");
    (0..3).for_each(|number| send(&mut world, publisher, "t/0", &number.to_string()));
    let one = member(&mut world, "one", 0, 0, false);
    let of = Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message("t/0", "3") };
    let said = [
        (one, subscribe_packet(Version::V5, 0, &[(SHARE, QOS_1)])),
        (publisher, bytes_of(Version::V5, &Packet::Publish(of))),
    ];
    said.into_iter().for_each(|(conn, bytes)| _ = world.core.on_bytes(&mut world.table, conn, &bytes));
    world.turn();
    let heard = heard(&mut world, one, Version::V5);
    let wanted: Vec<_> = (0..4).map(|number| format!("t/0 {number} qos 1 id {}", number + 1)).collect();
    assert!(heard[0].starts_with("SubAck"), "{heard:?}");
    assert_eq!(heard[1..], wanted);
}

#[test]
fn a_reload_changes_the_strategy_and_what_waits_is_kept() {
    let mut world = World::new(&text("round-robin"));
    let all = members(&mut world, &["one", "two"], 1);
    let publisher = world.device_v5("publisher");
    let mut wanted = BTreeSet::new();
    for (from, strategy) in [(0, "hash-topic"), (20, "hash-client"), (40, "least-inflight"), (60, "round-robin")] {
        for topic in topics(from..from + 20) {
            send(&mut world, publisher, &topic, "x");
            wanted.insert(topic);
        }
        world.reload_as(&text(strategy));
        assert_eq!(world.number(M::ShareQueuedMessages), u64::from(from) + 18);
    }
    let mut had = Vec::new();
    for _ in 0..80 {
        all.iter().for_each(|conn| had.extend(all_messages(&mut world, *conn).into_iter().map(|(topic, _)| topic)));
    }
    assert_eq!(had.len(), 80);
    assert_eq!(had.into_iter().collect::<BTreeSet<_>>(), wanted);
    world.reload_as(&text("hash-topic"));
    for _ in 0..2 {
        assert_eq!(
            named(&mut world, publisher, &all, &topics(0..1)),
            named(&mut world, publisher, &all, &topics(0..1))
        );
    }
}

/// B12, with a member of QoS 0: it says nothing when it has room, and is asked.
#[test]
fn a_member_of_qos_0_that_is_slow_loses_its_own_messages_and_no_others() {
    let mut world = World::new(&text("hash-topic"));
    let all = ["slow", "fast"].map(|name| member(&mut world, name, 0, 0, false));
    all.into_iter().for_each(|conn| join(&mut world, conn, SHARE, PLAIN));
    let publisher = world.device_v5("publisher");
    let by_topic = named(&mut world, publisher, &all, &topics(0..10));
    let payload = "x".repeat(100 << 10);
    let of = |conn| by_topic.iter().find(|(_, to)| **to == conn).map(|(topic, _)| topic.clone()).expect("one of them");
    let (slow, fast) = (of(all[0]), of(all[1]));
    while world.number(M::CopiesSlow) == 0 {
        publish(&mut world, publisher, Version::V5, message(&slow, &payload));
    }
    publish(&mut world, publisher, Version::V5, message(&fast, "x"));
    assert_eq!(messages(&mut world, all[1]).len(), 1);
    world.sent(all[0]);
    send(&mut world, publisher, &slow, "x");
    world.advance(std::time::Duration::from_secs(1));
    send(&mut world, publisher, &slow, "y");
    let last = messages(&mut world, all[0]).pop().expect("it gets messages again");
    assert_eq!(last.1, "y");
}

/// Shards with members get messages in turn, whatever comes between them for no share.
#[test]
fn messages_for_no_share_leave_the_turn_as_it_is() {
    let mut process = Process::start(&KEPT, &text("round-robin"), 2);
    let of =
        |shard| (0..).map(|number| format!("m{number}")).find(|name| owner(name, 2) == shard).expect("one of them");
    let members = [of(0), of(1)].map(|name| process.connect(&name));
    for (shard, conn, _) in &members {
        process.say(*shard, *conn, &subscribe_packet(Version::V5, 0, &[(SHARE, PLAIN)]));
        process.heard(*shard, *conn);
    }
    let (shard, publisher, _) = process.connect("publisher");
    for _ in 0..6 {
        for topic in ["t/a", "other"] {
            process.say(shard, publisher, &bytes_of(Version::V5, &Packet::Publish(message(topic, "x"))));
        }
    }
    let one = bytes_of(Version::V5, &Packet::Publish(message("t/a", "x"))).len();
    assert_eq!(members.map(|(shard, conn, _)| process.heard(shard, conn).len() / one), [3, 3]);
}
