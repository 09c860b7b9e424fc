//! When nothing lives any more, no gauge says that something does.

use std::time::Duration;

use forebay::metrics::inspect::{Ask, NamedClient};
use forebay::metrics::spec::{CLUSTER, Kind, LISTENER, SHARD, SINK, ShardMetric as M, Spec};
use forebay::mqtt::packet::{Publish, QoS, Version};
use forebay::runtime::seam::ConnId;
use forebay::shard::mail::{Inspection, Mail, ToShard};

use super::allocation;
use super::queues::{self, QOS_1, QOS_2, config, kept, rest, say};
use super::subscribe::{message, publish, subscribe};
use super::world::World;

/// Gauges that say something of what there is even if nothing lives: bounds, files that are kept for what comes next, Kafka.
fn is_of_nothing(spec: &Spec) -> bool {
    let of_files = ["spool_bytes", "spool_segments"].contains(&spec.name);
    let of_kafka = ["kafka_reachable", "kafka_connections", "kafka_buffer_bytes", "kafka_buffer_unused_bytes"];
    spec.name.ends_with("_max")
        || spec.name == "kafka_buffer_reserved_bytes"
        || of_files
        || of_kafka.contains(&spec.name)
        || spec.name == "sink_topics"
}

/// Gauges that are not at zero, with their values.
pub(super) fn left(world: &World) -> Vec<(&'static str, u64)> {
    let values = world.values();
    let config = world.config();
    let places = super::world::layout(config);
    let shard = SHARD.iter().zip(&values);
    let at = |first: usize, table: &'static [Spec]| table.iter().zip(values[first..].iter()).collect::<Vec<_>>();
    let mut all: Vec<(&'static Spec, &u64)> = shard.collect();
    all.extend(at(places.sink(0, forebay::metrics::spec::SinkMetric::Matched), &SINK));
    all.extend(at(places.cluster(0, forebay::metrics::spec::ClusterMetric::Reachable), &CLUSTER));
    all.extend(at(places.listener(0, forebay::metrics::spec::ListenerMetric::Open), &LISTENER));
    let gauges =
        all.into_iter().filter(|(spec, _)| matches!(spec.kind, Kind::Gauge | Kind::Age) && !is_of_nothing(spec));
    gauges.filter(|(_, value)| **value > 0).map(|(spec, value)| (spec.name, *value)).collect()
}

/// A connection ends, and its slot is free again.
fn lose(world: &mut World, conn: ConnId) {
    queues::lose(world, conn);
    world.table.release(conn);
}

/// Flags, keep-alive and properties of a CONNECT with a will whose session is kept for 1,000 s.
const WITH_WILL: &[u8] = &[4, 0, 0, 5, 0x11, 0, 0, 3, 0xe8];

/// A CONNECT of 5.0 with a will.
fn connect_with_will(client: &str, delay_s: u32) -> Vec<u8> {
    let text = |text: &str| [&[0, text.len() as u8][..], text.as_bytes()].concat();
    let delay = [&[5, 0x18][..], &delay_s.to_be_bytes()].concat();
    let body = [&text("MQTT")[..], &[5], WITH_WILL, &text(client), &delay, &text("w"), &text("gone")].concat();
    [&[0x10, body.len() as u8][..], &body].concat()
}

/// Finding U2: sessions, wills, subscriptions, shares, messages that wait, retained ones and exchanges come and go in every way that there
/// is; then all are gone, and every gauge is at zero, also after a restart.
#[test]
fn finding_u2_when_all_is_gone_every_gauge_is_at_zero() {
    let mut world = World::new(&config());
    assert_eq!(left(&world), [], "before anything came");
    let live = come(&mut world);
    live.into_iter().for_each(|conn| lose(&mut world, conn));
    world.power_cut();
    go(&mut world);
    assert_eq!(left(&world), []);
    world.power_cut();
    rest(&mut world);
    assert_eq!(left(&world), [], "and at the next start");
}

/// Back to nothing live, back to nothing held: the heap is counted exactly. Until the rings of events are full each round adds what it tells;
/// `FOREBAY_SOAK_ROUNDS=500` (`scripts/test long`) goes on until it is, and then nothing is added.
#[test]
fn finding_u2_when_all_is_gone_nothing_is_held() {
    // Some thirty clients come and go.
    const EVENTS_OF_A_ROUND: i64 = 16 << 10;
    let rounds: usize = std::env::var("FOREBAY_SOAK_ROUNDS").map_or(60, |rounds| rounds.parse().expect("a number"));
    let mut world = World::new(super::world::ONE_SINK);
    let mut held = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let live = come(&mut world);
        live.into_iter().for_each(|conn| lose(&mut world, conn));
        go(&mut world);
        assert_eq!(left(&world), []);
        world.forget_what_was_sent();
        held.push(allocation::live());
    }
    let (last, tenth) = (held[rounds - 1], rounds / 10);
    let most = |rounds: &[i64]| rounds.iter().copied().max();
    if rounds >= 500 {
        // What is swept now and then is at its largest in the first part, too.
        assert!(most(&held[8 * tenth..]) <= most(&held[4 * tenth..8 * tenth]), "{held:?}");
    } else {
        let before = held[rounds - 1 - tenth];
        assert!(last - before <= tenth as i64 * EVENTS_OF_A_ROUND, "{} bytes in {tenth} rounds", last - before);
    }
}

/// All of it comes. The connections that are there still.
fn come(world: &mut World) -> Vec<ConnId> {
    // Finding D1: its client comes back without asking for it to be kept.
    for (client, delay_s, is_lost) in [("d1", 500, true), ("takeover", 0, false), ("late", 500, false)] {
        let first = world.accept();
        world.bytes(first, &connect_with_will(client, delay_s));
        if is_lost {
            lose(world, first);
        }
        let second = world.connect_v5(client, &[0, 0, 0, 0]);
        world.bytes(second, &[0xe0, 0]);
        lose(world, second);
        world.table.release(first);
    }
    for (client, options) in [("away", QOS_1), ("gone", QOS_2)] {
        let conn = kept(world, client, options);
        lose(world, conn);
    }
    let mut members = Vec::new();
    for client in ["m1", "m2"] {
        let (member, _) = world.kept_v5(client);
        subscribe(world, member, Version::V5, 0, &[("$share/g/#", QOS_2), ("a/+/b", QOS_1)]);
        members.push(member);
    }
    let (publisher, _) = world.kept_v5("publisher");
    for id in 1..12 {
        say(world, publisher, if id % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }, id, "payload");
    }
    for topic in ["r/1", "r/2", "to/kafka/r"] {
        publish(world, publisher, Version::V5, Publish { retain: true, ..message(topic, "retained") });
    }
    rest(world);
    assert!(left(world).len() > 8, "{:?}", left(world));
    members.push(publisher);
    members
}

/// All of it goes.
fn go(world: &mut World) {
    // An operator ends some, a clean start others; the rest run out.
    for client in ["away", "d1", "m1"] {
        let ask = Ask::Forget(NamedClient { client_id: client.to_owned(), auth: None });
        world.mail(Mail::Shard(ToShard::Inspect(Inspection { ask, answer: Box::new(|_| {}) })));
    }
    let conn = world.device_v5("gone");
    for topic in ["r/1", "r/2", "to/kafka/r"] {
        publish(world, conn, Version::V5, Publish { retain: true, ..message(topic, "") });
    }
    world.bytes(conn, &[0xe0, 0]);
    lose(world, conn);
    for _ in 0..10 {
        world.advance(Duration::from_secs(600));
        rest(world);
    }
}

#[test]
fn finding_u9_subscriptions_are_counted_in_the_turn_in_which_an_operator_ends_their_session() {
    let mut world = super::subscribe::world();
    let (device, _) = world.kept_v5("d");
    let list = [("a", super::subscribe::PLAIN), ("$share/g/b", super::subscribe::PLAIN)];
    subscribe(&mut world, device, Version::V5, 0, &list);
    lose(&mut world, device);
    assert_eq!((world.number(M::Subscriptions), world.number(M::Shares)), (2, 1));
    let ask = Ask::Forget(NamedClient { client_id: "d".to_owned(), auth: None });
    world.mail(Mail::Shard(ToShard::Inspect(Inspection { ask, answer: Box::new(|_| {}) })));
    assert_eq!((world.number(M::Subscriptions), world.number(M::Shares)), (0, 0));
}
