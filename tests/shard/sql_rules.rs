//! Rules in SQL: the guarantees on their records taken out, one by one, each of which must be noticed; and what rules cost a turn.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Publish, QoS, Version};
use forebay::rules::{KEPT, Rules};
use forebay::runtime::seam::{ConnId, Shard as _};

use super::spooled;
use super::subscribe::{message, publish};
use super::world::World;

/// `PARTS` is a rule with a Kafka topic for each record. A record does not fit into a group of the log beside another message.
const PARTS: &str = r#"
[[rule]]
name = "parts"
sql = 'FOREACH [1, 2, 3, 4] AS n DO n, payload.text AS text FROM "parts"'
sinks = ["parts"]
on_error = "skip"
[[sink]]
name = "parts"
topic = "part-${n}"
value = "${n}${text}"
batch_bytes = "64KiB"
record_bytes_max = "64KiB"
"#;

/// A sink in memory that filters and rules feed, another one that shares the memory with it, and one with dead letters.
fn in_memory() -> String {
    r#"
[service]
shards = 1
[kafka.main]
bootstrap = "127.0.0.1:9092"
buffer_bytes = "16MiB"
[[rule]]
name = "many"
sql = 'FOREACH [1..30] AS n DO payload FROM "many"'
sinks = ["all"]
on_error = "skip"
[[rule]]
name = "large"
sql = 'FOREACH [1..6] AS n DO payload FROM "large"'
sinks = ["all"]
on_error = "skip"
[[rule]]
name = "gate"
sql = 'SELECT payload, payload.n - 1 AS more FROM "gate" WHERE regex_match(str([1..2000]), `x`) = false'
sinks = ["letters"]
on_error = "reject"
[[rule]]
name = "letters"
sql = 'SELECT payload, payload.n - 1 AS more FROM "letters"'
sinks = ["letters"]
on_error = "dead-letter"
[[sink]]
name = "all"
filters = "t"
topic = "all"
key = ""
value = "${payload}"
[[sink]]
name = "beside"
filters = "beside"
topic = "beside"
[[sink]]
name = "letters"
topic = "letters"
dead_letters_topic = "dead"
"#
    .to_owned()
}

fn say(world: &mut World, device: ConnId, topic: &str, packet_id: u16, payload: &str) {
    publish(world, device, Version::V5, Publish { qos: QoS::AtLeastOnce, packet_id, ..message(topic, payload) });
}

/// How often each Kafka topic that begins so has a record.
fn at_kafka(world: &World, begin: &str) -> Vec<String> {
    let topics = world.broker.records.iter().map(|(topic, ..)| topic);
    let mut topics: Vec<_> = topics.filter(|topic| topic.starts_with(begin)).cloned().collect();
    topics.sort();
    topics
}

/// A spool, and a rule that has a sink there to itself.
fn on_disk() -> String {
    spooled("", "").replace("filters = [\"#\"]", "filters = [\"other\"]") + PARTS
}

/// An answer before the records of rules are on the disk, if there was one.
fn answered_early(rules: &'static dyn Rules) -> Option<&'static str> {
    let mut world = World::under(rules, &on_disk());
    let device = world.device_v5("d");
    world.table.disk.slow = true;
    say(&mut world, device, "parts", 1, r#"{"text": "x"}"#);
    if !world.sent(device).is_empty() {
        return Some("acknowledged before its records are on the disk");
    }
    world.table.disk.slow = false;
    world.advance(Duration::from_secs(1));
    assert!(!world.sent(device).is_empty(), "a PUBACK");
    None
}

/// A crash leaves some records of two messages, as the disk had not taken the others: those must come when they are repeated.
fn some_taken_for_all(rules: &'static dyn Rules) -> Option<&'static str> {
    let mut world = World::under(rules, &on_disk());
    let (device, _) = world.kept_v5("p");
    world.kafka_down();
    let text = format!("{{\"text\": \"{}\"}}", "x".repeat(24 << 10));
    let both = |dup: bool| {
        let mut bytes = Vec::new();
        for packet_id in [7, 8] {
            let one = Publish { qos: QoS::ExactlyOnce, packet_id, dup, ..message("parts", &text) };
            forebay::mqtt::encode::publish(Version::V5, &one, &mut bytes).expect("a packet");
        }
        bytes
    };
    world.feed(device, &both(false));
    // One group is begun and synced, and the next one is not.
    world.core.on_turn_end(&mut world.table);
    let synced = world.table.disk.synced;
    while world.table.disk.synced == synced {
        let event = world.table.disk.event().expect("a sync");
        world.core.on_segment(&mut world.table, event);
    }
    world.power_cut();
    let (device, _) = world.kept_v5("p");
    world.bytes(device, &both(true));
    world.kafka_up = true;
    (0..100).for_each(|_| world.advance(Duration::from_secs(1)));
    let there = at_kafka(&world, "part-");
    let of = |n: u32| there.iter().filter(|topic| **topic == format!("part-{n}")).count();
    let least = (1..=4).map(of).min();
    // Otherwise this tests nothing: the crash has left none.
    assert!(there.len() > 8 || least < Some(2), "{there:?}");
    (least < Some(2)).then_some("records of a message are gone")
}

/// A message for which a rule fails, and that is nowhere.
fn letter_lost(rules: &'static dyn Rules) -> Option<&'static str> {
    let mut world = World::under(rules, &in_memory());
    let device = world.device_v5("d");
    say(&mut world, device, "letters", 1, "no JSON");
    world.advance(Duration::from_secs(1));
    assert!(!world.sent(device).is_empty(), "a PUBACK");
    at_kafka(&world, "dead").is_empty().then_some("acknowledged, and no dead letter")
}

/// A message of which a rule makes more than there may be room for, while there is none.
fn waits_for_what_never_comes(rules: &'static dyn Rules) -> Option<&'static str> {
    let config = in_memory().replace("\"16MiB\"", "\"4MiB\"");
    let mut world = World::under(rules, &config);
    world.kafka_down();
    let first = world.device("first", 0);
    world.fill(first);
    let second = world.device_v5("second");
    say(&mut world, second, "large", 1, &"x".repeat(200_000));
    if world.table.wire(second).paused {
        return Some("a message waits that its rule makes too much of");
    }
    assert!(!world.sent(second).is_empty(), "a PUBACK");
    None
}

#[derive(Debug)]
struct OutputsUnanswered;
impl Rules for OutputsUnanswered {
    fn waits_for_outputs(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct SomeIsAll;
impl Rules for SomeIsAll {
    fn has_all(&self, had: usize, _: usize) -> bool {
        had > 0
    }
}

#[derive(Debug)]
struct OnErrorIgnored;
impl Rules for OnErrorIgnored {
    fn may_skip(&self, _: bool) -> bool {
        true
    }
}

#[derive(Debug)]
struct LimitWaits;
impl Rules for LimitWaits {
    fn is_too_much(&self, _: bool) -> bool {
        false
    }
}

type Look = fn(&'static dyn Rules) -> Option<&'static str>;

#[test]
fn each_guarantee_on_records_of_rules_is_noticed_when_it_is_gone() {
    let all: [(&'static dyn Rules, Look); 4] = [
        (&OutputsUnanswered, answered_early),
        (&SomeIsAll, some_taken_for_all),
        (&OnErrorIgnored, letter_lost),
        (&LimitWaits, waits_for_what_never_comes),
    ];
    for (wrong, look) in all {
        assert_eq!(look(&KEPT), None, "beside {wrong:?}");
        assert!(look(wrong).is_some(), "{wrong:?} is not noticed");
    }
}

/// What a message has cost its connection, in packets.
fn cost(world: &mut World, device: ConnId, topic: &str, payload: &str) -> u32 {
    const QUANTUM: u32 = 1 << 20;
    world.table.quantum = Some(QUANTUM);
    world.table.serve_next();
    let mut bytes = Vec::new();
    let publish = Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message(topic, payload) };
    forebay::mqtt::encode::publish(Version::V5, &publish, &mut bytes).expect("a packet");
    world.feed(device, &bytes);
    let left = world.table.left();
    world.turn();
    QUANTUM - left
}

/// Also where a rule refuses the message, and where it waits for room.
#[test]
fn what_a_rule_does_counts_whatever_becomes_of_the_message() {
    let mut world = World::new(&in_memory());
    let device = world.device_v5("d");
    let passed = cost(&mut world, device, "gate", r#"{"n": 1}"#);
    assert!(passed > 10, "{passed}");
    let refused = cost(&mut world, device, "gate", r#"{"n": "x"}"#);
    assert!(refused.abs_diff(passed) < 5, "{refused}, {passed} if it is not refused");
    let taken = cost(&mut world, device, "many", "x");
    assert!(taken > 30, "each record counts: {taken}");
    world.kafka_down();
    let first = world.device("first", 0);
    world.table.quantum = None;
    world.fill(first);
    let second = world.device_v5("second");
    let waiting = cost(&mut world, second, "many", &"x".repeat(1_500));
    assert!(world.table.wire(second).paused && waiting > 20, "{waiting}");
    assert!(world.number(M::Stalls) > 0);
}
