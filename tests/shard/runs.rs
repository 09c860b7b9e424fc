//! Runs: messages of one publisher and topic to many subscribers, which each of these gets at once.

use std::time::Duration;

use forebay::limits::{RECIPIENTS_MANY, RUN_BYTES_MAX, SENT_AHEAD_BYTES_MAX};
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::runtime::seam::ConnId;

use super::subscribe::{PLAIN, bytes_of, heard, in_words, message, subscribe, unsubscribe, world};
use super::world::World;

/// More subscribers of `crowd` than few.
const CROWD: usize = RECIPIENTS_MANY + 6;

fn crowd(world: &mut World) -> Vec<ConnId> {
    let join = |number| {
        let conn = world.device(&format!("c{number}"), 0);
        assert_eq!(subscribe(world, conn, Version::V311, 0, &[("crowd", PLAIN)]), [0]);
        conn
    };
    (0..CROWD).map(join).collect()
}

/// A client of 5.0 with these properties of CONNECT.
fn with_properties(world: &mut World, client: &str, properties: &[u8]) -> ConnId {
    let conn = world.connect_v5(client, &[&[2, 0, 0, properties.len() as u8], properties].concat());
    assert_eq!(world.sent(conn)[3], 0, "CONNACK");
    conn
}

/// Sends packets in one read, and lets no turn end.
fn feed<'a>(world: &mut World, conn: ConnId, all: impl IntoIterator<Item = Publish<'a>>) {
    let bytes: Vec<u8> = all.into_iter().flat_map(|of| bytes_of(Version::V5, &Packet::Publish(of))).collect();
    world.feed(conn, &bytes);
}

/// Each gets the bytes that it would have got message by message.
#[test]
fn a_run_comes_to_each_subscriber_in_its_form() {
    let mut world = world();
    let crowd = crowd(&mut world);
    let publisher = world.device_v5("p");
    let no_local = SubscriptionOptions { no_local: true, ..PLAIN };
    subscribe(&mut world, publisher, Version::V5, 0, &[("crowd", no_local)]);
    let identified = world.device_v5("identified");
    subscribe(&mut world, identified, Version::V5, 5, &[("crowd", PLAIN), ("other", PLAIN)]);
    let small = with_properties(&mut world, "small", &[0x27, 0, 0, 0, 60]);
    subscribe(&mut world, small, Version::V5, 0, &[("crowd", PLAIN)]);
    let aliases = with_properties(&mut world, "aliases", &[0x22, 0, 1]);
    subscribe(&mut world, aliases, Version::V5, 0, &[("crowd", PLAIN)]);

    let (numbers, large) = ((0..40).map(|number| number.to_string()).collect::<Vec<_>>(), "x".repeat(100));
    let payloads = numbers.iter().map(String::as_str).chain([&*large, "last"]);
    feed(&mut world, publisher, payloads.clone().map(|payload| message("crowd", payload)));
    world.advance(Duration::from_millis(10));

    let expected: Vec<String> = payloads.map(|payload| format!("crowd {payload}")).collect();
    for conn in crowd {
        assert_eq!(heard(&mut world, conn, Version::V311), expected);
    }
    let of_identified = heard(&mut world, identified, Version::V5);
    assert!(of_identified.iter().zip(&expected).all(|(one, of)| *one == format!("{of} SubscriptionIdentifier(5)")));
    assert_eq!(of_identified.len(), expected.len());
    assert_eq!(heard(&mut world, publisher, Version::V5), [""; 0], "[MQTT-3.8.3-3]");
    let without: Vec<&String> = expected.iter().filter(|of| !of.contains(&large)).collect();
    assert_eq!(heard(&mut world, small, Version::V5).iter().collect::<Vec<_>>(), without, "[MQTT-3.1.2-25]");
    let of_aliases = heard(&mut world, aliases, Version::V5);
    assert_eq!(of_aliases[0], "crowd 0 TopicAlias(1)");
    assert!(
        of_aliases[1..]
            .iter()
            .zip(&expected[1..])
            .all(|(one, of)| format!("crowd{one}") == format!("{of} TopicAlias(1)"))
    );
    assert_eq!(of_aliases.len(), expected.len());
    let (sent, too_large) = (expected.len() as u64 * (CROWD as u64 + 3) - 1, 1);
    assert_eq!((world.number(M::CopiesSent), world.number(M::CopiesTooLarge)), (sent, too_large));
    assert_eq!((world.number(M::CopiesRouted), world.number(M::CopiesSentQos0)), (sent + too_large, sent));
}

/// Messages that are more than their payload, of another topic or of another publisher, keep their place.
#[test]
fn what_is_no_part_of_a_run_keeps_its_place() {
    let mut world = world();
    let crowd = crowd(&mut world);
    let all = world.device_v5("all");
    let published = SubscriptionOptions { qos: QoS::AtLeastOnce, retain_as_published: true, ..PLAIN };
    assert_eq!(subscribe(&mut world, all, Version::V5, 0, &[("#", published)]), [1]);
    let [one, other] = ["one", "other"].map(|name| world.device_v5(name));
    let mut properties = PropertyBuf::new();
    properties.extend([Property::UserProperty("a", "b")]);
    let crowd_says = |payload| message("crowd", payload);
    feed(
        &mut world,
        one,
        [
            crowd_says("1"),
            crowd_says("2"),
            Publish { retain: true, ..crowd_says("3") },
            crowd_says("4"),
            Publish { properties: properties.as_properties(), ..crowd_says("5") },
            crowd_says("6"),
            Publish { qos: QoS::AtLeastOnce, packet_id: 7, ..crowd_says("7") },
            crowd_says("8"),
        ],
    );
    feed(&mut world, other, [crowd_says("9")]);
    feed(&mut world, one, [crowd_says("10"), crowd_says("11")]);
    world.advance(Duration::from_millis(10));
    let all = heard(&mut world, all, Version::V5);
    let expected =
        ["1", "2", "3 retain", "4", "5 UserProperty(\"a\", \"b\")", "6", "7 qos 1 id 1", "8", "9", "10", "11"];
    assert_eq!(all, expected.map(|of| format!("crowd {of}")));
    for conn in crowd {
        let payloads = (1..=11).map(|number| format!("crowd {number}")).collect::<Vec<_>>();
        assert_eq!(heard(&mut world, conn, Version::V311), payloads);
    }
}

/// A turn beside others makes all copies of a run for some, and those of the next ones in the next turn.
#[test]
fn a_subscriber_gets_a_run_at_once() {
    const MESSAGES: usize = 100;
    let mut world = world();
    let crowd = crowd(&mut world);
    let publisher = world.device_v5("p");
    let payload = "x".repeat(100);
    feed(&mut world, publisher, [message("t", "other")]);
    feed(&mut world, publisher, (0..MESSAGES).map(|_| message("crowd", &payload)));
    world.turn();
    let had = |world: &mut World, conn: &ConnId| in_words(&world.table.wire(*conn).out.clone(), Version::V311).len();
    let counts: Vec<usize> = crowd.iter().map(|conn| had(&mut world, conn)).collect();
    assert!(counts.iter().all(|count| [0, MESSAGES].contains(count)), "{counts:?}");
    assert!((1..CROWD).contains(&counts.iter().filter(|count| **count > 0).count()), "{counts:?}");
    world.advance(Duration::from_millis(10));
    assert!(crowd.iter().all(|conn| had(&mut world, conn) == MESSAGES));
}

/// A run is bounded, whatever waits.
#[test]
fn what_waits_is_cut_into_runs() {
    let mut world = world();
    let crowd = crowd(&mut world);
    let publisher = world.device_v5("p");
    let payload = "x".repeat(1_000);
    feed(&mut world, publisher, [message("t", "other")]);
    feed(&mut world, publisher, (0..40).map(|_| message("crowd", &payload)));
    world.turn();
    let most = crowd.iter().map(|conn| world.table.wire(*conn).out.len()).max().unwrap_or(0);
    assert!((RUN_BYTES_MAX / 2..=RUN_BYTES_MAX).contains(&most), "{most}");
    world.advance(Duration::from_millis(20));
    for conn in crowd {
        assert_eq!(heard(&mut world, conn, Version::V311).len(), 40);
    }
}

/// Of a run for which a client has no room it gets what it would have got message by message.
#[test]
fn a_client_that_does_not_read_gets_the_beginning_of_a_run() {
    let mut world = world();
    let crowd = crowd(&mut world);
    let publisher = world.device_v5("p");
    let deaf = crowd[3];
    world.table.wire(deaf).out = vec![0; SENT_AHEAD_BYTES_MAX - 500];
    let most = world.config().delivery.unread_bytes_max;
    assert!(most >= SENT_AHEAD_BYTES_MAX);
    let payload = "x".repeat(1_000);
    let messages = most / 1_000 + 100;
    for _ in 0..messages {
        feed(&mut world, publisher, [message("crowd", &payload)]);
    }
    for _ in 0..2_000 {
        world.turn();
        crowd.iter().filter(|conn| **conn != deaf).for_each(|conn| world.table.wire(*conn).out.clear());
    }
    let got = (world.table.wire(deaf).out.len() - (SENT_AHEAD_BYTES_MAX - 500)) / 1_010;
    assert_eq!(world.number(M::CopiesSlow) as usize, messages - got);
    assert_eq!(world.number(M::CopiesRouted) as usize, messages * CROWD);
    assert!(got < messages && got * 1_010 + SENT_AHEAD_BYTES_MAX - 500 > most, "{got} of {messages}");
}

/// Who has left while a run waits gets none of it.
#[test]
fn who_has_left_gets_no_run() {
    let mut world = world();
    let crowd = crowd(&mut world);
    let publisher = world.device_v5("p");
    let payload = "x".repeat(1_000);
    feed(&mut world, publisher, [message("t", "other")]);
    feed(&mut world, publisher, (0..16).map(|_| message("crowd", &payload)));
    world.turn();
    let last = *crowd.iter().find(|conn| world.table.wire(**conn).out.is_empty()).expect("not all have had it");
    assert_eq!(unsubscribe(&mut world, last, "crowd"), [0xB0, 2, 0, 9]);
    world.advance(Duration::from_millis(20));
    assert_eq!(world.sent(last), [0; 0]);
    assert_eq!(world.number(M::CopiesEnded), 16);
}
