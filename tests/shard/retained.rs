//! Retained messages: who gets which, what ends them, and what a crash leaves of them.

use std::time::Duration;

use forebay::auth::password::sha512_of;
use forebay::limits::REPLAY_BATCH_BYTES;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, SubscriptionOptions, Unsubscribe, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::runtime::seam::{Closed, ConnId, Shard as _};
use forebay::shard::mail::{Mail, ToShard};

use super::fair::{crowd, publish_at_once};
use super::kept::{arrive, connect};
use super::process::packets;
use super::queues::config;
use super::subscribe::{
    PLAIN, bytes_of, heard, in_words, message, publish, subscribe, subscribe_and_hear, subscribe_packet, world,
};
use super::world::{ONE_SINK, World};

const QOS_1: SubscriptionOptions = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };

fn retain(world: &mut World, conn: ConnId, topic: &str, payload: &str) {
    publish(world, conn, Version::V5, Publish { retain: true, ..message(topic, payload) });
}

/// Subscribes, and reads all that comes of it.
pub(crate) fn replayed(world: &mut World, conn: ConnId, id: u32, list: &[(&str, SubscriptionOptions)]) -> Vec<String> {
    let (codes, mut all) = subscribe_and_hear(world, conn, Version::V5, id, list);
    assert!(codes.iter().all(|code| *code < 3));
    all.extend(settled(world, conn));
    all.sort();
    all
}

/// What comes within a few turns.
pub(crate) fn settled(world: &mut World, conn: ConnId) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..40 {
        world.advance(Duration::from_millis(1));
        all.extend(heard(world, conn, Version::V5));
    }
    all.sort();
    all
}

/// A client's messages in words: how often they were sent, QoS, identifiers, expiry.
fn sent_to(bytes: &[u8]) -> Vec<String> {
    let word = |packet| match packet {
        Packet::Publish(Publish { dup, qos, retain, topic, packet_id, properties, payload }) => {
            let (dup, retain) = (if dup { "dup " } else { "" }, if retain { " retain" } else { "" });
            let payload = String::from_utf8_lossy(payload);
            let all: Vec<_> = properties.iter().map(|property| format!("{property:?}")).collect();
            format!("{dup}{packet_id} {topic} {payload} qos {}{retain} {}", qos as u8, all.join(" "))
        }
        other => format!("{other:?}"),
    };
    packets(bytes).map(word).collect()
}

/// The process ends in this way, and another one starts on its disk.
fn start_after(world: &mut World, end: &str, connected: &[ConnId]) {
    match end {
        "power failure" => return world.power_cut(),
        "stop" => {
            world.core.on_mail(&mut world.table, Mail::Shard(ToShard::Drain { grace: Duration::from_secs(60) }));
            world.turn();
            connected.iter().for_each(|conn| world.core.on_close(&mut world.table, *conn, Closed::Local));
            world.turn();
            assert!(world.table.stopped);
        }
        _ => {}
    }
    world.table.disk.kill();
    world.restart(None);
}

fn acknowledge(world: &mut World, conn: ConnId, qos: QoS, id: u8) {
    let kinds: &[u8] = if qos == QoS::ExactlyOnce { &[0x50, 0x70] } else { &[0x40] };
    for kind in kinds {
        world.bytes(conn, &[*kind, 2, 0, id]);
        world.advance(Duration::from_millis(1));
    }
}

/// Finding S3, D3: what a kept session was sent for its subscription and has not acknowledged is sent again, however the process ended.
#[test]
fn finding_s3_d3_retained_messages_that_were_not_acknowledged_are_sent_again_after_a_start() {
    for (qos, end) in [QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .flat_map(|qos| ["power failure", "kill -9", "stop"].map(|end| (qos, end)))
    {
        let mut world = World::new(&config());
        let publisher = world.device_v5("p");
        let mut expires = PropertyBuf::new();
        expires.extend([Property::MessageExpiryInterval(100)]);
        for (packet_id, topic) in [(1, "r/a"), (2, "r/b"), (3, "r/c")] {
            let of = Publish { retain: true, qos: QoS::ExactlyOnce, packet_id, ..message(topic, "x") };
            let of = if packet_id == 2 { Publish { properties: expires.as_properties(), ..of } } else { of };
            publish(&mut world, publisher, Version::V5, of);
        }
        let (client, _) = world.kept_v5("c");
        world.bytes(client, &subscribe_packet(Version::V5, 7, &[("r/#", SubscriptionOptions { qos, ..PLAIN })]));
        let mut bytes = Vec::new();
        for _ in 0..20 {
            world.advance(Duration::from_millis(1));
            bytes.extend(world.sent(client));
        }
        let first = sent_to(&bytes[2 + usize::from(bytes[1])..]);
        // In no order of topics, with identifiers in theirs.
        let id = |topic: &str| first.iter().position(|of| of.contains(topic)).expect("it came") as u8 + 1;
        let of = |dup: &str, topic: &str, expiry: &str| {
            format!("{dup}{} {topic} x qos {} retain {expiry}SubscriptionIdentifier(7)", id(topic), qos as u8)
        };
        let mut wanted = vec![of("", "r/a", ""), of("", "r/b", "MessageExpiryInterval(100) "), of("", "r/c", "")];
        wanted.sort();
        assert_eq!(first, wanted, "{qos:?}, {end}");
        acknowledge(&mut world, client, qos, id("r/a"));
        world.advance(Duration::from_secs(4));
        start_after(&mut world, end, &[client, publisher]);
        let (client, behind) = world.kept_v5("c");
        let again = sent_to(&behind);
        // A start takes a second, and what is left is rounded up.
        let mut wanted = vec![of("dup ", "r/b", "MessageExpiryInterval(95) "), of("dup ", "r/c", "")];
        wanted.sort();
        assert_eq!(again, wanted, "{qos:?}, {end}");
        for topic in ["r/b", "r/c"] {
            acknowledge(&mut world, client, qos, id(topic));
        }
        world.advance(Duration::from_secs(1));
        assert_eq!(world.number(M::StoredMessages), 0, "{qos:?}, {end}");
    }
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-7] [MQTT-3.3.1-8] [MQTT-3.3.1-12] [MQTT-4.7.2-1]
#[test]
fn a_new_subscription_gets_the_last_message_of_each_topic() {
    let mut world = world();
    let [publisher, early, late] = ["p", "early", "late"].map(|name| world.device_v5(name));
    subscribe(&mut world, early, Version::V5, 0, &[("a/#", PLAIN)]);
    for (topic, payload) in [("a/b", "1"), ("a/b", "2"), ("a/c", "3"), ("a", "4"), ("b", "5"), ("$x/y", "6")] {
        retain(&mut world, publisher, topic, payload);
    }
    publish(&mut world, publisher, Version::V5, message("a/b", "not retained"));
    assert_eq!(heard(&mut world, early, Version::V5), ["a/b 1", "a/b 2", "a/c 3", "a 4", "a/b not retained"], "live");
    assert_eq!(
        replayed(&mut world, late, 7, &[("a/#", PLAIN)]),
        [
            "a 4 retain SubscriptionIdentifier(7)",
            "a/b 2 retain SubscriptionIdentifier(7)",
            "a/c 3 retain SubscriptionIdentifier(7)"
        ],
        "sent with RETAIN [3.1.1 MQTT-3.3.1-8]"
    );
    assert_eq!(replayed(&mut world, late, 0, &[("#", PLAIN), ("b", PLAIN)]).len(), 5, "a, a/b, a/c and twice b");
    assert_eq!(replayed(&mut world, late, 0, &[("$x/+", PLAIN)]), ["$x/y 6 retain"]);
    assert_eq!(world.number(M::RetainedMessages), 5);

    // An empty message ends what is retained [MQTT-3.3.1-6], and is delivered.
    retain(&mut world, publisher, "a/b", "");
    assert_eq!(heard(&mut world, early, Version::V5), ["a/b "]);
    let late = world.device_v5("later");
    assert_eq!(replayed(&mut world, late, 0, &[("a/+", PLAIN)]), ["a/c 3 retain"]);
    assert_eq!(world.number(M::RetainedMessages), 4);
    for topic in ["a", "a/c", "b", "$x/y", "never"] {
        retain(&mut world, publisher, topic, "");
    }
    assert_eq!((world.number(M::RetainedMessages), world.number(M::RetainedBytes)), (0, 0));
}

/// Finding D5: the same filter twice in a SUBSCRIBE is as two SUBSCRIBEs, each with its own options. [MQTT-3.8.4-5] [MQTT-3.8.4-3] [3.1.1 MQTT-3.8.4-4]
#[test]
fn finding_d5_a_filter_that_stands_twice_is_answered_twice_each_time_as_it_says() {
    let mut world = world();
    let publisher = world.device_v5("p");
    for (packet_id, topic) in [(1, "r/a"), (2, "r/b")] {
        let of = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id, ..message(topic, "x") };
        publish(&mut world, publisher, Version::V5, of);
    }
    let of = |qos, retain_handling| SubscriptionOptions { qos, retain_handling, ..PLAIN };
    let (one, none) = (QoS::AtLeastOnce, QoS::AtMostOnce);
    for (number, (first, second, wanted)) in [
        (of(none, 0), of(none, 0), "00"),
        (of(one, 0), of(none, 0), "10"),
        (of(none, 0), of(one, 0), "01"),
        (of(one, 0), of(none, 1), "1"),
        (of(one, 0), of(none, 2), "1"),
        (of(one, 2), of(none, 0), "0"),
        (of(one, 2), of(none, 1), ""),
    ]
    .into_iter()
    .enumerate()
    {
        let client = world.device_v5(&format!("c{number}"));
        let (_, mut heard) = subscribe_and_hear(&mut world, client, Version::V5, 0, &[("r/a", first), ("r/a", second)]);
        for _ in 0..20 {
            world.advance(Duration::from_millis(1));
            heard.extend(in_words(&world.sent(client), Version::V5));
        }
        let qos: String = heard.iter().map(|of| if of.contains("qos 1") { '1' } else { '0' }).collect();
        assert_eq!(qos, wanted, "{first:?} {second:?}: {heard:?}");
        // Live messages come once, as the second one says.
        let packet_id = 10 + number as u16;
        publish(&mut world, publisher, Version::V5, Publish { qos: one, packet_id, ..message("r/a", "live") });
        let live = settled(&mut world, client);
        assert_eq!((live.len(), live[0].contains("qos 1")), (1, second.qos == one), "{live:?}");
    }
}

/// A client that wants nothing of its own is not sent what it has retained itself, also after a start: a bridge would bring it back to where it
/// came from. [MQTT-3.8.3-3]
#[test]
fn finding_m2_no_local_holds_for_what_is_retained() {
    let mut world = World::new(&config());
    let (own, _) = world.kept_v5("own");
    let other = world.device_v5("other");
    for (packet_id, conn, topic) in
        [(1, own, "r/own"), (2, other, "r/other"), (3, own, "r/changed"), (4, other, "r/changed")]
    {
        let of = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id, ..message(topic, "x") };
        publish(&mut world, conn, Version::V5, of);
        world.advance(Duration::from_millis(10));
        world.sent(conn);
    }
    let no_local = SubscriptionOptions { no_local: true, ..PLAIN };
    let all = ["r/changed x retain", "r/other x retain", "r/own x retain"];
    for _ in 0..2 {
        let (own, _) = world.kept_v5("own");
        assert_eq!(replayed(&mut world, own, 0, &[("r/#", no_local)]), all[..2]);
        assert_eq!(replayed(&mut world, own, 0, &[("r/own", no_local)]), [""; 0]);
        assert_eq!(replayed(&mut world, own, 0, &[("r/+", PLAIN)]), all);
        let stranger = world.device_v5("stranger");
        assert_eq!(replayed(&mut world, stranger, 0, &[("r/#", no_local)]), all);
        world.power_cut();
    }
}

#[test]
fn retain_handling_says_when() {
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    retain(&mut world, publisher, "t", "x");
    let handling = |retain_handling| SubscriptionOptions { retain_handling, ..PLAIN };
    assert!(replayed(&mut world, subscriber, 0, &[("t", handling(2))]).is_empty(), "[MQTT-3.3.1-11]");
    assert!(replayed(&mut world, subscriber, 0, &[("t", handling(1))]).is_empty(), "it had subscribed [MQTT-3.3.1-10]");
    assert_eq!(replayed(&mut world, subscriber, 0, &[("t", handling(0))]), ["t x retain"], "[MQTT-3.3.1-9]");
    let new = world.device_v5("new");
    assert_eq!(replayed(&mut world, new, 0, &[("t", handling(1))]), ["t x retain"], "it had not");
    // What it had asked for at first ended with that subscription.
    let new = world.device_v5("newer");
    let ask = |retain_handling| subscribe_packet(Version::V5, 0, &[("t", handling(retain_handling))]);
    let mut filters = FilterBuf::for_unsubscribe();
    assert!(filters.push("t", PLAIN));
    let leave = Unsubscribe { packet_id: 9, properties: Properties::EMPTY, filters: filters.as_filters() };
    world.bytes(new, &[ask(0), bytes_of(Version::V5, &Packet::Unsubscribe(leave)), ask(2)].concat());
    world.advance(Duration::from_millis(1));
    let sent = world.sent(new);
    assert!(!packets(&sent).any(|packet| matches!(packet, Packet::Publish(_))), "[MQTT-3.3.1-11]");
}

#[test]
fn retained_messages_expire_and_say_what_is_left() {
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    let mut properties = PropertyBuf::new();
    properties.extend([Property::MessageExpiryInterval(60), Property::ContentType("text")]);
    let expires = Publish { retain: true, properties: properties.as_properties(), ..message("t", "x") };
    publish(&mut world, publisher, Version::V5, expires);
    world.advance(Duration::from_secs(20));
    let left = replayed(&mut world, subscriber, 0, &[("t", PLAIN)]);
    assert_eq!(left, ["t x retain MessageExpiryInterval(40) ContentType(\"text\")"], "[MQTT-3.3.2-6]");
    world.advance(Duration::from_secs(41));
    assert!(replayed(&mut world, subscriber, 0, &[("t", PLAIN)]).is_empty());
    assert_eq!((world.number(M::RetainedMessages), world.number(M::RetainedBytes)), (0, 0));
}

#[test]
fn the_qos_is_the_lower_one_and_a_client_is_sent_what_it_acknowledges() {
    const MESSAGES: usize = 300;
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("p"), world.device("s", 0));
    for number in 0..MESSAGES {
        let topic = format!("t/{number:03}");
        let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][number % 3];
        let packet_id = u16::try_from(number + 1).expect("few");
        let of = Publish { retain: true, qos, packet_id, ..message(&topic, "x") };
        publish(&mut world, publisher, Version::V5, of);
    }
    // 3.1.1: at most 64 are unacknowledged.
    let (codes, mut first) = subscribe_and_hear(&mut world, subscriber, Version::V311, 0, &[("t/#", QOS_1)]);
    assert_eq!(codes, [1]);
    let mut got = 0;
    for round in 0.. {
        let mut ids = Vec::new();
        for _ in 0..5 {
            world.advance(Duration::from_millis(1));
            first.extend(heard(&mut world, subscriber, Version::V311));
            for text in first.drain(..) {
                got += 1;
                assert!(text.contains(" retain"), "{text}");
                if let Some((_, id)) = text.split_once(" qos 1 id ") {
                    ids.push(id.split(' ').next().expect("an id").parse::<u16>().expect("a number"));
                }
            }
        }
        assert!(ids.len() <= 64, "{}", ids.len());
        if ids.is_empty() {
            assert!(round > 2);
            break;
        }
        assert_eq!(world.number(M::CopiesQueueFull) + world.number(M::CopiesSlow), 0);
        for id in ids {
            world.bytes(subscriber, &[0x40, 2, (id >> 8) as u8, id as u8]);
        }
    }
    assert_eq!(got, MESSAGES);
}

#[test]
fn a_client_that_does_not_read_is_sent_a_batch_and_no_more() {
    let mut world = world();
    let (publisher, deaf) = (world.device_v5("p"), world.device_v5("deaf"));
    let payload = "x".repeat(10_000);
    for number in 0..100 {
        retain(&mut world, publisher, &format!("t/{number:03}"), &payload);
    }
    let (_, first) = subscribe_and_hear(&mut world, deaf, Version::V5, 0, &[("#", PLAIN)]);
    for _ in 0..50 {
        world.advance(Duration::from_millis(10));
    }
    let unsent = world.table.wire(deaf).out.len();
    assert!((60 << 10..140 << 10).contains(&unsent), "{unsent}");
    assert_eq!(world.number(M::CopiesSlow), 0, "it waits, and nothing is dropped");
    assert_eq!(first.len() + settled(&mut world, deaf).len(), 100);
    // It leaves in the middle of another one.
    subscribe_and_hear(&mut world, deaf, Version::V5, 0, &[("#", PLAIN)]);
    world.advance(Duration::from_millis(10));
    world.core.on_close(&mut world.table, deaf, Closed::Peer);
    world.advance(Duration::from_millis(10));
}

#[test]
fn a_kept_session_gets_the_rest_when_it_is_back() {
    let mut world = world();
    let publisher = world.device_v5("p");
    let payload = "x".repeat(10_000);
    for number in 0..30 {
        retain(&mut world, publisher, &format!("t/{number:03}"), &payload);
    }
    let (mut conn, _) = world.kept_v5("s");
    let (_, mut got) = subscribe_and_hear(&mut world, conn, Version::V5, 0, &[("#", PLAIN)]);
    // It reads a little, and its connection breaks, again and again.
    for _ in 0..12 {
        world.advance(Duration::from_millis(1));
        got.extend(heard(&mut world, conn, Version::V5));
        world.core.on_close(&mut world.table, conn, Closed::Peer);
        world.advance(Duration::from_millis(1));
        let (again, behind) = world.kept_v5("s");
        conn = again;
        got.extend(in_words(&behind, Version::V5));
    }
    got.extend(settled(&mut world, conn));
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 30);
    assert_eq!(settled(&mut world, conn), [""; 0], "and nothing twice");
}

#[test]
fn what_is_published_meanwhile_is_not_followed_by_what_it_replaces() {
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    let payload = "x".repeat(10_000);
    for number in 0..30 {
        retain(&mut world, publisher, &format!("t/{number:03}"), &payload);
    }
    retain(&mut world, publisher, "t/zzz", "old");
    let (_, mut got) = subscribe_and_hear(&mut world, subscriber, Version::V5, 0, &[("#", PLAIN)]);
    // The client reads nothing, so most of it is still to be sent.
    world.advance(Duration::from_millis(1));
    retain(&mut world, publisher, "t/zzz", "new");
    retain(&mut world, publisher, "t/029", "");
    got.extend(settled(&mut world, subscriber));
    assert_eq!(got.iter().filter(|text| text.starts_with("t/zzz")).collect::<Vec<_>>(), ["t/zzz new"]);
    assert_eq!(got.iter().filter(|text| text.starts_with("t/029")).collect::<Vec<_>>(), ["t/029 "], "it was deleted");
    assert_eq!(got.len(), 31);
}

#[test]
fn what_is_on_its_way_does_not_follow_what_replaces_it() {
    let mut world = world();
    crowd(&mut world, 1_500);
    let (publisher, late) = (world.device_v5("p"), world.device_v5("late"));
    retain(&mut world, publisher, "a", &"x".repeat(REPLAY_BATCH_BYTES));
    retain(&mut world, publisher, "crowd", "0");
    world.advance(Duration::from_millis(10));
    // It does not read, so only the first one is sent.
    world.feed(late, &subscribe_packet(Version::V5, 0, &[("#", PLAIN)]));
    world.advance(Duration::from_millis(1));
    let of = |payload| Publish { retain: true, ..message("crowd", payload) };
    publish_at_once(&mut world, publisher, [message("t", "x"), of("1"), of("2")]);
    let sent = world.sent(late);
    assert!(sent.len() > REPLAY_BATCH_BYTES);
    // The home has the last one by now; most of the crowd have not got the first.
    let mut came = Vec::new();
    for _ in 0..40 {
        world.turn();
        came.extend(heard(&mut world, late, Version::V5));
    }
    assert_eq!(came, ["crowd 1", "crowd 2"]);
}

#[test]
fn what_waits_for_a_client_is_not_followed_by_what_it_replaces() {
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("p"), world.device("s", 0));
    let say = |world: &mut World, packet_id: u16, topic: &str, payload: &str| {
        let of = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id, ..message(topic, payload) };
        publish(world, publisher, Version::V5, of);
    };
    for number in 0..80 {
        say(&mut world, number + 1, &format!("t/{number:03}"), "x");
    }
    say(&mut world, 81, "t/zzz", "old");
    // 3.1.1: at most 64 are unacknowledged, so the rest is still to be sent, and what is published waits.
    let (_, mut got) = subscribe_and_hear(&mut world, subscriber, Version::V311, 0, &[("t/#", QOS_1)]);
    world.advance(Duration::from_millis(5));
    say(&mut world, 82, "t/zzz", "new");
    let mut all = Vec::new();
    for _ in 0..20 {
        world.advance(Duration::from_millis(1));
        got.extend(heard(&mut world, subscriber, Version::V311));
        for text in got.drain(..) {
            let (_, id) = text.split_once(" qos 1 id ").unwrap_or_else(|| panic!("{text}"));
            let id: u16 = id.split(' ').next().and_then(|id| id.parse().ok()).expect("an id");
            world.bytes(subscriber, &[0x40, 2, (id >> 8) as u8, id as u8]);
            all.push(text);
        }
    }
    let of_topic: Vec<_> = all.iter().filter(|text| text.starts_with("t/zzz")).collect();
    assert!(of_topic.len() == 1 && of_topic[0].starts_with("t/zzz new"), "{of_topic:?}");
    assert_eq!(all.len(), 81);
}

#[test]
fn thousands_of_topics_that_came_live_ask_for_another_pass() {
    let mut world = world();
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    let payload = "x".repeat(10_000);
    for number in 0..40 {
        retain(&mut world, publisher, &format!("a/{number:03}"), &payload);
    }
    let (_, mut got) = subscribe_and_hear(&mut world, subscriber, Version::V5, 0, &[("#", PLAIN)]);
    world.advance(Duration::from_millis(1));
    got.extend(heard(&mut world, subscriber, Version::V5));
    for number in 0..5_000 {
        retain(&mut world, publisher, &format!("b/{number:04}"), "live");
        got.extend(heard(&mut world, subscriber, Version::V5));
    }
    got.extend(settled(&mut world, subscriber));
    let (live, retained): (Vec<_>, Vec<_>) = got.into_iter().partition(|text| text.ends_with("live"));
    assert_eq!(live.len(), 5_000);
    let mut of_a: Vec<_> = retained.iter().filter(|text| text.starts_with("a/")).collect();
    of_a.sort();
    assert_eq!(of_a.len(), 40);
    of_a.dedup();
    assert_eq!(of_a.len(), 40, "none twice");
}

#[test]
fn more_than_there_is_room_for_is_delivered_and_counted() {
    // A quarter of the smallest spool: what a shard may retain.
    let mut world = World::new(&super::spooled("", "acknowledge = \"stored\"").replace("\"#\"", "\"to/kafka/#\""));
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    subscribe(&mut world, subscriber, Version::V5, 0, &[("t/#", PLAIN)]);
    let payload = "x".repeat(60_000);
    let mut got = 0;
    for number in 0..1_000 {
        retain(&mut world, publisher, &format!("t/{number}"), &payload);
        world.advance(Duration::from_millis(1));
        got += heard(&mut world, subscriber, Version::V5).len();
    }
    assert_eq!(got, 1_000, "subscribers get all of them");
    let (kept, refused) = (world.number(M::RetainedMessages), world.number(M::RetainedRefused));
    assert!(kept > 20 && refused > 20 && kept + refused == 1_000, "{kept} {refused}");
    assert!(world.told(EventKind::RetainedRefused) > 0);
    // What was retained is replaced, and ended, as ever.
    retain(&mut world, publisher, "t/0", "short");
    retain(&mut world, publisher, "t/1", "");
    assert_eq!(world.number(M::RetainedMessages), kept - 1);
    let late = world.device_v5("late");
    assert_eq!(
        replayed(&mut world, late, 0, &[("t/0", PLAIN), ("t/1", PLAIN), ("t/999", PLAIN)]),
        ["t/0 short retain"]
    );
}

#[test]
fn it_is_retained_for_as_long_as_is_allowed_and_no_more_of_them() {
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    let mut world = World::new(&format!("{text}\n[retained]\nmessages_max = 3\nexpire_after = \"60s\"\n"));
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    let mut properties = PropertyBuf::new();
    properties.extend([Property::MessageExpiryInterval(600)]);
    let expires = Publish { retain: true, properties: properties.as_properties(), ..message("a", "x") };
    publish(&mut world, publisher, Version::V5, expires);
    for topic in ["b", "c", "d"] {
        retain(&mut world, publisher, topic, "x");
    }
    assert_eq!((world.number(M::RetainedMessages), world.number(M::RetainedRefused)), (3, 1));
    world.advance(Duration::from_secs(59));
    let left = replayed(&mut world, subscriber, 0, &[("#", PLAIN)]);
    assert_eq!(
        left,
        ["a x retain MessageExpiryInterval(541)", "b x retain", "c x retain"],
        "its own interval is longer"
    );
    world.advance(Duration::from_secs(2));
    assert_eq!(world.number(M::RetainedMessages), 0);
}

#[test]
fn as_long_as_is_allowed_is_no_longer_after_a_crash() {
    let text = super::spooled("", "acknowledge = \"stored\"").replace("\"#\"", "\"to/kafka/#\"");
    let mut world = World::new(&format!("{text}\n[retained]\nexpire_after = \"60s\"\n"));
    let publisher = world.device_v5("p");
    retain(&mut world, publisher, "t", "x");
    world.advance(Duration::from_secs(20));
    world.power_cut();
    assert_eq!(world.number(M::RetainedMessages), 1);
    world.advance(Duration::from_secs(41));
    assert_eq!(world.number(M::RetainedMessages), 0);
}

#[test]
fn it_is_on_the_disk_before_it_is_acknowledged() {
    let mut world = World::new(&super::spooled("", "acknowledge = \"stored\"").replace("\"#\"", "\"to/kafka/#\""));
    let publisher = world.device_v5("p");
    world.table.disk.slow = true;
    let one = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id: 1, ..message("t", "1") };
    publish(&mut world, publisher, Version::V5, one.clone());
    publish(&mut world, publisher, Version::V5, Publish { packet_id: 2, retain: false, topic: "other", ..one.clone() });
    assert!(world.sent(publisher).is_empty(), "in order, so neither is answered");
    world.power_cut();
    world.table.disk.slow = false;
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    assert!(replayed(&mut world, subscriber, 0, &[("t", PLAIN)]).is_empty(), "it was not answered");

    for (id, payload) in [(1, "1"), (2, "2")] {
        publish(
            &mut world,
            publisher,
            Version::V5,
            Publish { packet_id: id, payload: payload.as_bytes(), ..one.clone() },
        );
        world.advance(Duration::from_millis(1));
        assert_eq!(world.sent(publisher), [0x40, 2, 0, id as u8], "no 0x10: it is retained");
    }
    world.power_cut();
    assert_eq!(world.number(M::RetainedMessages), 1);
    let (publisher, subscriber) = (world.device_v5("p"), world.device_v5("s"));
    assert_eq!(replayed(&mut world, subscriber, 0, &[("t", PLAIN)]), ["t 2 retain"]);

    publish(&mut world, publisher, Version::V5, Publish { packet_id: 3, payload: b"", ..one });
    world.advance(Duration::from_millis(1));
    assert_eq!(world.sent(publisher), [0x40, 2, 0, 3]);
    world.power_cut();
    assert_eq!(world.number(M::RetainedMessages), 0);
}

#[test]
fn time_passes_for_what_is_on_the_disk() {
    let mut world = World::new(&super::spooled("", "acknowledge = \"stored\"").replace("\"#\"", "\"to/kafka/#\""));
    let publisher = world.device_v5("p");
    for (topic, seconds) in [("short", 30), ("long", 600)] {
        let mut properties = PropertyBuf::new();
        properties.extend([Property::MessageExpiryInterval(seconds)]);
        let expires = Publish { retain: true, properties: properties.as_properties(), ..message(topic, "x") };
        publish(&mut world, publisher, Version::V5, expires);
    }
    world.advance(Duration::from_secs(20));
    world.power_cut();
    assert_eq!(world.number(M::RetainedMessages), 2);
    let subscriber = world.device_v5("s");
    let left = replayed(&mut world, subscriber, 0, &[("+", PLAIN)]);
    let seconds: Vec<u32> =
        left.iter().map(|text| text.split(['(', ')']).nth(1).expect("an expiry").parse().expect("a number")).collect();
    assert!((570..=580).contains(&seconds[0]) && (5..=10).contains(&seconds[1]), "{left:?}");
    world.advance(Duration::from_secs(20));
    world.power_cut();
    assert_eq!(world.number(M::RetainedMessages), 1);
}

/// Time passes for the messages of a batch, too, while their client acknowledges those before them.
#[test]
fn what_waits_for_its_client_expires_meanwhile() {
    let mut world = world();
    let publisher = world.device_v5("p");
    for (topic, seconds) in [("1", 600), ("2", 600), ("3", 30)] {
        let mut properties = PropertyBuf::new();
        properties.extend([Property::MessageExpiryInterval(seconds)]);
        let properties = properties.as_properties();
        let expires = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id: 1, properties, ..message(topic, "x") };
        publish(&mut world, publisher, Version::V5, expires);
    }
    let mut one = PropertyBuf::new();
    one.push(Property::ReceiveMaximum(1));
    let connect = Connect { properties: one.as_properties(), ..crate::hello::hello(Version::V5, "s") };
    let subscriber = world.accept();
    world.bytes(subscriber, &bytes_of(Version::V5, &Packet::Connect(connect)));
    world.sent(subscriber);
    let first = replayed(&mut world, subscriber, 0, &[("+", QOS_1)]);
    assert_eq!(first, ["1 x qos 1 id 1 retain MessageExpiryInterval(600)"]);
    world.advance(Duration::from_secs(40));
    world.bytes(subscriber, &[0x40, 2, 0, 1]);
    let next = settled(&mut world, subscriber);
    let [text] = &next[..] else { panic!("{next:?}") };
    assert!(text.starts_with("2 x qos 1 id ") && text.ends_with(" retain MessageExpiryInterval(560)"), "{text}");
    let id = if text.contains(" id 1 ") { 1 } else { 2 };
    world.bytes(subscriber, &[0x40, 2, 0, id]);
    assert!(settled(&mut world, subscriber).is_empty(), "30 s are over");
    assert_eq!(world.number(M::CopiesExpired), 1);
}

/// The log is full, so one waits to be written down; it has ended before that, and its publisher is answered all the same.
#[test]
fn what_has_ended_before_it_found_room_in_the_log_is_answered() {
    let mut world = World::new(&super::queues::config());
    let will = "w".repeat(60_000);
    for (number, will) in (0..2_000).flat_map(|number| [(number, Some(&*will)), (number, None)]) {
        let conn = arrive(&mut world, &connect(&format!("{number} {}", will.is_some()), false, will));
        if world.sent(conn)[..] == [0x20, 2, 0, 3] && will.is_none() {
            break;
        }
    }
    let publisher = world.device_v5("p");
    let large = "x".repeat(20_000);
    let one = Publish { retain: true, qos: QoS::AtLeastOnce, packet_id: 1, ..message("t", &large) };
    publish(&mut world, publisher, Version::V5, one.clone());
    world.advance(Duration::from_secs(1));
    assert!(world.sent(publisher).is_empty(), "there is no room for it");
    publish(&mut world, publisher, Version::V5, Publish { packet_id: 2, payload: b"", ..one });
    world.advance(Duration::from_secs(1));
    assert_eq!(world.sent(publisher), [0x40, 2, 0, 1, 0x40, 2, 0, 2]);
}

/// A world with these users, each with its name as its password, and a client of each.
fn world_of_users(dir: &tempfile::TempDir, users: &[&str], rest: &str) -> (World, Vec<ConnId>) {
    let of = |user: &&str| format!("{user}:{}\n", sha512_of(user.as_bytes()).expect("random numbers"));
    let file = dir.path().join("passwords");
    std::fs::write(&file, users.iter().map(of).collect::<String>()).expect("written");
    let sink = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    let mut world = World::new(&format!(
        "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'password'\npassword_file = '{}'\n{sink}\n{rest}\n",
        file.display()
    ));
    let mut admitted = |user: &&str| {
        let hello =
            Connect { username: Some(user), password: Some(user.as_bytes()), ..crate::hello::hello(Version::V5, user) };
        let conn = arrive(&mut world, &bytes_of(Version::V5, &Packet::Connect(hello)));
        assert_eq!(world.sent(conn)[3], 0, "{user} is admitted");
        conn
    };
    let clients = users.iter().map(&mut admitted).collect();
    (world, clients)
}

#[test]
fn finding_w8_one_user_leaves_room_for_retained_messages_of_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let (mut world, clients) = world_of_users(&dir, &["ada", "bob", "eve"], "[retained]\nmessages_max = 1000");
    let retained = |world: &mut World, conn, name: &str| {
        let before = world.number(M::RetainedMessages);
        for number in 0..1_100 {
            retain(world, conn, &format!("{name}/{number}"), "x");
        }
        world.number(M::RetainedMessages) - before
    };
    let eve = retained(&mut world, clients[2], "eve");
    assert!((350..400).contains(&eve), "{eve}");
    assert!(retained(&mut world, clients[0], "ada") > 150);
    assert!(retained(&mut world, clients[1], "bob") > 80);
    assert!(world.told(EventKind::RetainedRefused) > 0);
    // What has a place keeps it.
    retain(&mut world, clients[2], "eve/0", "y");
    assert_eq!(replayed(&mut world, clients[0], 0, &[("eve/0", PLAIN)]), ["eve/0 y retain"]);
    // What one gives back is there for others.
    let before = world.number(M::RetainedMessages);
    for number in 0..eve {
        retain(&mut world, clients[2], &format!("eve/{number}"), "");
    }
    assert_eq!(world.number(M::RetainedMessages), before - eve);
    assert!(retained(&mut world, clients[1], "bob/more") > 50);
}

#[test]
fn finding_w8_an_update_that_finds_no_room_leaves_what_was_retained() {
    let text = ONE_SINK.replace("\"#\"", "\"to/kafka/#\"");
    let mut world = World::new(&format!("{text}\n[retained]\nbytes_max = \"1MiB\"\n"));
    let publisher = world.device_v5("p");
    let found = |world: &mut World, name: &str| {
        let late = world.device_v5(name);
        replayed(world, late, 0, &[("t", PLAIN)])
    };
    retain(&mut world, publisher, "t", "first");
    let payload = "x".repeat(10_000);
    for number in 0..110 {
        retain(&mut world, publisher, &format!("fill/{number}"), &payload);
    }
    let refused = world.number(M::RetainedRefused);
    assert!(refused > 0);
    retain(&mut world, publisher, "t", &payload.repeat(2));
    assert_eq!(world.number(M::RetainedRefused), refused + 1, "it is counted");
    assert_eq!(found(&mut world, "one"), ["t first retain"]);
    retain(&mut world, publisher, "t", "later");
    assert_eq!(found(&mut world, "two"), ["t later retain"], "as many bytes have a place");
    retain(&mut world, publisher, "t", "");
    assert!(found(&mut world, "three").is_empty());
}

#[test]
fn finding_u8_what_has_expired_goes_on_an_idle_shard_too_and_is_not_listed() {
    let mut world = World::new(&ONE_SINK.replace("\"#\"", "\"to/kafka/#\""));
    let publisher = world.device_v5("p");
    for (topic, expiry_s) in [("late", 60), ("soon", 5), ("never", 0)] {
        let mut properties = PropertyBuf::new();
        properties.extend((expiry_s > 0).then_some(Property::MessageExpiryInterval(expiry_s)));
        let one = Publish { retain: true, properties: properties.as_properties(), ..message(topic, "x") };
        publish(&mut world, publisher, Version::V5, one);
    }
    // Time passes, and nothing but timers makes a turn.
    for (seconds, left) in [(6, 2), (61, 1)] {
        let until = world.table.now.after(Duration::from_secs(seconds));
        world.timers(until);
        assert_eq!(world.number(M::RetainedMessages), left, "after {seconds} s");
    }
}
