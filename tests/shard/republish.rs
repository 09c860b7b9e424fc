//! Messages that rules publish of their outputs: in which order they come, how many there may be, and that a message is taken with all of them
//! or not at all.

use std::fmt::Write as _;
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::{RuleMetric, ShardMetric, SinkMetric};
use forebay::mqtt::packet::{Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::rules::KEPT;
use forebay::runtime::seam::ConnId;

use super::process::{Process, packets};
use super::subscribe::{PLAIN, bytes_of, heard, message, publish, subscribe, subscribe_packet};
use super::world::{ONE_SINK, World, layout};

/// A rule that publishes its outputs to a topic, as they are.
fn rule(name: &str, sql: &str, topic: &str) -> String {
    format!(
        "[[rule]]\nname = '{name}'\nsql = \"\"\"{sql}\"\"\"\n[[rule.republish]]\ntopic = '{topic}'\npayload = '${{.}}'\n"
    )
}

/// All that a device makes is in one partition, in its order.
fn world(rules: &[String]) -> World {
    World::new(&format!("{}{ONE_SINK}partitioner = 'client'\n", rules.concat()))
}

/// What a subscriber of everything has heard of a message, topic by topic.
fn topics(world: &mut World, conn: ConnId) -> Vec<String> {
    let all = heard(world, conn, Version::V311);
    all.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
}

fn of_rule(world: &World, rule: usize, metric: RuleMetric) -> u64 {
    world.values()[layout(world.config()).rule(rule, metric)]
}

fn listener(world: &mut World) -> ConnId {
    let listener = world.device("listener", 0);
    subscribe(world, listener, Version::V311, 0, &[("#", PLAIN)]);
    listener
}

#[test]
fn first_the_message_then_what_it_made_then_the_next() {
    let mut world = world(&[
        rule("a", "SELECT 'a' AS by, payload FROM 't/#'", "u/1"),
        rule("b", "SELECT 'b' AS by, payload FROM 't/#'", "w/1"),
        rule("c", "SELECT 'c' AS by FROM 'u/#', 'w/1'", "v/1"),
    ]);
    let listener = listener(&mut world);
    let device = world.device("d", 0);
    let two: Vec<u8> =
        ["1", "2"].iter().flat_map(|n| bytes_of(Version::V311, &Packet::Publish(message("t/1", n)))).collect();
    world.bytes(device, &two);
    let once = ["t/1", "u/1", "w/1", "v/1", "v/1"];
    assert_eq!(topics(&mut world, listener), [once, once].concat(), "breadth first");
    world.advance(Duration::from_secs(1));
    let keys: Vec<_> = world.broker.records.iter().map(|(_, _, key, _)| String::from_utf8_lossy(key)).collect();
    assert_eq!(keys, [once, once].concat(), "sinks have the same, in the order of the device");
    let by: Vec<_> = world.broker.records.iter().map(|(.., value)| String::from_utf8_lossy(value)).collect();
    assert_eq!(by[..3], ["1", r#"{"payload":"1","by":"a"}"#, r#"{"payload":"1","by":"b"}"#]);
    assert_eq!(of_rule(&world, 2, RuleMetric::Republished), 4);
}

#[test]
fn a_rule_is_not_evaluated_for_what_comes_from_it() {
    let mut world =
        world(&[rule("a", "SELECT 1 AS v FROM 'a/#', 'own/#'", "b/1"), rule("b", "SELECT 1 AS v FROM 'b/#'", "a/1")]);
    let listener = listener(&mut world);
    let device = world.device("d", 0);
    publish(&mut world, device, Version::V311, message("a/1", "x"));
    assert_eq!(topics(&mut world, listener), ["a/1", "b/1", "a/1"]);
    publish(&mut world, device, Version::V311, message("b/1", "x"));
    assert_eq!(topics(&mut world, listener), ["b/1", "a/1", "b/1"]);
    assert_eq!(of_rule(&world, 0, RuleMetric::Passed), 2);
    assert_eq!(of_rule(&world, 0, RuleMetric::RepublishLooped), 0);
}

#[test]
fn a_message_makes_at_most_64() {
    let mut world =
        world(&[rule("each", "FOREACH payload.l FROM 't'", "u"), rule("other", "SELECT 1 AS v FROM 't'", "o")]);
    let listener = listener(&mut world);
    let device = world.device("d", 0);
    let list = |len: usize| {
        let items: Vec<_> = (0..len).map(|n| n.to_string()).collect();
        format!(r#"{{"l": [{}]}}"#, items.join(","))
    };
    publish(&mut world, device, Version::V311, message("t", &list(63)));
    assert_eq!(topics(&mut world, listener).len(), 1 + 63 + 1);
    publish(&mut world, device, Version::V311, message("t", &list(64)));
    assert_eq!(topics(&mut world, listener).len(), 1 + 64, "the other rule has failed");
    publish(&mut world, device, Version::V311, message("t", &list(65)));
    assert_eq!(topics(&mut world, listener), ["t", "o"], "none of a rule that has failed");
    world.advance(Duration::from_secs(1));
    let limits = [0, 1].map(|rule| of_rule(&world, rule, RuleMetric::FailedLimit));
    assert_eq!(limits, [1, 1]);
    assert_eq!(world.broker.records.len(), 65 + 65 + 2);
}

#[test]
fn a_message_comes_from_at_most_eight_rules() {
    let rules: Vec<_> = (0..10)
        .map(|n| rule(&format!("r{n}"), &format!("SELECT 1 AS v FROM 'g/{n}'"), &format!("g/{}", n + 1)))
        .collect();
    let mut world = world(&rules);
    let listener = listener(&mut world);
    let device = world.device("d", 0);
    publish(&mut world, device, Version::V311, message("g/0", "x"));
    let all: Vec<_> = (0..=8).map(|n| format!("g/{n}")).collect();
    assert_eq!(topics(&mut world, listener), all);
    assert_eq!((of_rule(&world, 8, RuleMetric::RepublishLooped), of_rule(&world, 9, RuleMetric::Passed)), (1, 0));
    assert_eq!(world.told(EventKind::RepublishDropped), 1);
}

/// R15: where the topic is none, the rule fails, and nothing of it is taken.
#[test]
fn a_topic_that_is_none_is_a_failure_of_the_rule() {
    let mut world = world(&[rule("r", "FOREACH payload.to AS to DO to FROM 't'", "${to}")]);
    let listener = listener(&mut world);
    let device = world.device("d", 0);
    for (to, expected) in [
        (r#""a", "b""#, &["t", "a", "b"][..]),
        (r#""a", null"#, &["t"]),
        (r#""a", """#, &["t"]),
        (r##""a", "b/#""##, &["t"]),
        (r#""a", "$SYS/x""#, &["t"]),
        (r#""a", "$other""#, &["t"]),
    ] {
        publish(&mut world, device, Version::V311, message("t", &format!(r#"{{"to": [{to}]}}"#)));
        assert_eq!(topics(&mut world, listener), expected, "{to}");
    }
    assert_eq!(of_rule(&world, 0, RuleMetric::FailedDomain), 5);
}

/// QoS, RETAIN, properties and user properties are rendered; what the output does not have is as of the message, or left out.
#[test]
fn each_part_of_the_message_is_a_template() {
    let text = "[[rule]]\nname = 'r'\nsql = \"\"\"SELECT payload.q AS qos, payload.r AS retain, payload.u AS user_properties, payload.e AS e FROM 't'\"\"\"\n\
                [[rule.republish]]\ntopic = 'u'\npayload = '${qos}-${e}'\nproperties = { message_expiry_interval = '${e}', Content-Type = 'a' }\n";
    let mut world = world(&[text.to_owned()]);
    let listener = world.device_v5("listener");
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, retain_as_published: true, ..PLAIN };
    subscribe(&mut world, listener, Version::V5, 0, &[("u", options)]);
    let device = world.device_v5("d");
    for (payload, expected) in [
        (
            r#"{"q": 0, "r": true, "u": {"a": "b", "n": 1}, "e": 60}"#,
            r#"u 0-60 retain MessageExpiryInterval(60) ContentType("a") UserProperty("a", "b") UserProperty("n", "1")"#,
        ),
        (
            r#"{"q": 7, "u": [{"key": "k", "value": "v"}]}"#,
            r#"u 7- ContentType("a") UserProperty("k", "v") qos 1 id 1"#,
        ),
        ("{}", r#"u - ContentType("a") qos 1 id 2"#),
    ] {
        let at_least_once = Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message("t", payload) };
        publish(&mut world, device, Version::V5, at_least_once);
        let [line] = &heard(&mut world, listener, Version::V5)[..] else { panic!("{payload}") };
        let mut words: Vec<_> = line.split(' ').collect();
        let mut wanted: Vec<_> = expected.split(' ').collect();
        words.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(words, wanted, "{payload}\n{line}");
        world.sent(device);
    }
    for wrong in [r#"{"e": "soon"}"#, r#"{"u": 7}"#] {
        publish(&mut world, device, Version::V5, message("t", wrong));
        assert!(heard(&mut world, listener, Version::V5).is_empty(), "{wrong}");
    }
    assert_eq!(of_rule(&world, 0, RuleMetric::FailedDomain), 2);
}

/// A message that is retained, one that ends it, and one that neither sinks nor rules see.
#[test]
fn retained_and_direct() {
    let direct = "[[rule]]\nname = 'd'\nsql = \"\"\"SELECT payload FROM 't'\"\"\"\n\
                  [[rule.republish]]\ntopic = 'state'\nretain = true\ndirect = true\n";
    let mut world = world(&[direct.to_owned(), rule("sees", "SELECT 1 AS v FROM 'state'", "seen")]);
    let device = world.device("d", 0);
    publish(&mut world, device, Version::V311, message("t", "now"));
    assert_eq!(world.number(ShardMetric::RetainedMessages), 1);
    publish(&mut world, device, Version::V311, message("t", ""));
    assert_eq!(world.number(ShardMetric::RetainedMessages), 0);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.sink_number(0, SinkMetric::Delivered), 2, "its own messages alone");
    assert_eq!(of_rule(&world, 1, RuleMetric::Passed), 0);
    assert_eq!(of_rule(&world, 0, RuleMetric::Republished), 2);
}

/// A gate refuses one republished message, and no other: nobody has that one, whatever its rules and sinks would have had.
#[test]
fn a_gate_refuses_what_a_rule_has_made_and_nothing_else() {
    let gate = "[[sink]]\nname = 'gate'\nkafka = 'main'\nfilters = 'u/#'\ntopic = '${payload.to}'\non_refuse = 'reject'\ndead_letters_file = 'none'\n";
    let a = rule("a", "FOREACH payload.l AS to DO to FROM 't'", "u/${to.n}").replace("'${.}'", "'${to.p}'");
    let rules = format!("{a}{}", rule("b", "SELECT 1 AS v FROM 'u/#'", "v"));
    // It comes last: the other sink has been asked already.
    let mut world = World::new(&format!("{rules}{ONE_SINK}partitioner = 'client'\n{gate}"));
    let listener = listener(&mut world);
    let device = world.device("d", 0);
    let list = r#"{"l": [{"n": 1, "p": {"to": "there"}}, {"n": 2, "p": {"x": 1}}, {"n": 3, "p": {"to": "there"}}]}"#;
    publish(&mut world, device, Version::V311, message("t", list));
    assert_eq!(topics(&mut world, listener), ["t", "u/1", "u/3", "v", "v"]);
    world.advance(Duration::from_secs(1));
    let keys: Vec<_> = world
        .broker
        .records
        .iter()
        .filter(|(topic, ..)| topic == "all")
        .map(|(_, _, key, _)| String::from_utf8_lossy(key))
        .collect();
    assert_eq!(keys, ["t", "u/1", "u/3", "v", "v"]);
    assert_eq!((of_rule(&world, 0, RuleMetric::Republished), of_rule(&world, 0, RuleMetric::RepublishRefused)), (2, 1));
}

/// A rule that refuses what another one has made takes that one from everybody, and nothing else.
#[test]
fn a_rule_refuses_what_another_has_made() {
    let strict = "[[rule]]\nname = 'strict'\nsql = \"\"\"SELECT int(payload) AS v FROM 'u/#'\"\"\"\non_error = 'reject'\n[[rule.republish]]\ntopic = 'v'\npayload = '${v}'\n";
    let each = rule("each", "FOREACH payload.l AS v DO v FROM 't'", "u/${v}").replace("'${.}'", "'${v}'");
    let mut world = world(&[each, rule("first", "SELECT payload FROM 'u/#'", "w"), strict.to_owned()]);
    let listener = listener(&mut world);
    let device = world.device("d", 0);
    let publish = Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message("t", r#"{"l": ["1", "x", "3"]}"#) };
    world.bytes(device, &bytes_of(Version::V311, &Packet::Publish(publish)));
    assert_eq!(topics(&mut world, listener), ["t", "u/1", "u/3", "w", "v", "w", "v"]);
    world.advance(Duration::from_secs(1));
    assert_eq!(world.broker.records.len(), 7);
    assert_eq!(of_rule(&world, 2, RuleMetric::Failed), 1);
}

/// `when_full = "refuse"`: the publisher is told that there is no room for what its message makes, and nobody has anything.
#[test]
fn a_publisher_is_told_that_there_is_no_room_for_what_its_message_makes() {
    let text = super::spooled("when_full = \"refuse\"", "acknowledge = \"stored\"")
        .replace("filters = [\"#\"]", "filters = [\"u\"]");
    let mut world =
        World::new(&format!("{}{text}", rule("r", "SELECT payload FROM 't'", "u").replace("'${.}'", "'${payload}'")));
    world.kafka_down();
    let listener = listener(&mut world);
    let device = world.device_v5("d");
    let mut told = Vec::new();
    for id in 1..1_000 {
        let payload = "x".repeat(30_000);
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", &payload) };
        world.bytes(device, &bytes_of(Version::V5, &Packet::Publish(publish)));
        world.advance(Duration::from_millis(1));
        told = world.sent(device);
        let heard = topics(&mut world, listener);
        if told.len() > 4 {
            assert!(heard.is_empty(), "nobody has it: {heard:?}");
            break;
        }
        assert_eq!(heard, ["t", "u"], "{id}");
    }
    assert_eq!((told[0], told[4]), (0x40, 0x97), "{told:?}");
}

const SHARDS: usize = 2;

/// A client that lives on this shard.
fn client_on(shard: usize, of: &str) -> String {
    (0..).map(|number| format!("{of}-{number}")).find(|name| owner(name, SHARDS) == shard).expect("one of them")
}

/// The topics that a client has been sent.
fn topics_of(process: &mut Process, shard: usize, conn: ConnId) -> Vec<String> {
    let bytes = process.heard(shard, conn);
    let publishes = packets(&bytes).filter_map(|packet| match packet {
        Packet::Publish(publish) => Some(publish.topic.to_owned()),
        _ => None,
    });
    publishes.collect()
}

/// R16: room is asked for with sums. Each republished message would fit, and both do not: nobody has got any.
#[test]
fn a_message_waits_until_all_that_it_makes_finds_room() {
    let mut text = String::new();
    let sql = "SELECT payload FROM 't'";
    let _ = write!(text, "[[rule]]\nname = 'r'\nsql = \"\"\"{sql}\"\"\"\n");
    (0..4).for_each(|n| text += &format!("[[rule.republish]]\ntopic = 'far/{n}'\n"));
    let mut process = Process::start(&KEPT, &format!("{text}{ONE_SINK}"), SHARDS);
    process.settle();
    let (far, near, device) = (client_on(1, "far"), client_on(0, "near"), client_on(0, "device"));
    let (far_shard, far) = {
        let (shard, conn, _) = process.connect(&far);
        process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[("far/#", PLAIN)]));
        (shard, conn)
    };
    let (near_shard, near) = {
        let (shard, conn, _) = process.connect(&near);
        process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[("t", PLAIN)]));
        (shard, conn)
    };
    let (shard, device, _) = process.connect(&device);
    process.heard(far_shard, far);
    process.heard(near_shard, near);
    // Parcels stay where they are, and one of 300 kB is among them.
    process.shards[shard].table.mailbox = 0;
    let large = "y".repeat(300_000);
    let bytes = bytes_of(Version::V5, &Packet::Publish(message("far/first", &large)));
    process.say(shard, device, &bytes);
    process.say(shard, device, &bytes_of(Version::V5, &Packet::Publish(message("t", &large[..200_000]))));
    assert!(process.shards[shard].table.wire(device).paused, "it waits");
    assert!(topics_of(&mut process, near_shard, near).is_empty(), "nobody has it");
    assert!(topics_of(&mut process, far_shard, far).is_empty());
    process.shards[shard].table.mailbox = 16;
    process.settle();
    assert_eq!(topics_of(&mut process, near_shard, near), ["t"]);
    let mut heard = Vec::new();
    for _ in 0..8 {
        heard.extend(topics_of(&mut process, far_shard, far));
        process.settle();
    }
    assert_eq!(heard, ["far/first", "far/0", "far/1", "far/2", "far/3"]);
}

/// R17: the answer waits for what the kept sessions are owed that get what rules have made.
#[test]
fn a_publisher_waits_for_the_disk_that_keeps_what_rules_have_made() {
    let more = rule("r", "SELECT payload FROM 't'", "kept");
    let mut process = Process::spooled_as("0ms", &more, &KEPT, SHARDS);
    let (subscriber, publisher) = (client_on(1, "far"), client_on(0, "device"));
    let (shard, conn, _) = process.connect(&subscriber);
    let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..PLAIN };
    process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[("kept", options)]));
    process.heard(shard, conn);
    let (from, to, _) = process.connect(&publisher);
    let send = |id, payload| {
        let publish = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", payload) };
        bytes_of(Version::V5, &Packet::Publish(publish))
    };
    process.shards[shard].table.disk.slow = true;
    process.say(from, to, &send(1, "first"));
    assert!(process.heard(from, to).is_empty(), "it could be lost");
    process.power_cut(0);
    process.settle();
    let (_, _, behind) = process.connect(&subscriber);
    assert!(behind.is_empty(), "and it was");
    let (from, to, _) = process.connect(&publisher);
    process.say(from, to, &send(2, "second"));
    assert_eq!(process.heard(from, to), [0x40, 2, 0, 2], "a message that rules alone take is a success");
    process.power_cut(0);
    process.settle();
    let (_, _, behind) = process.connect(&subscriber);
    assert!(behind.ends_with(br#"{"payload":"second"}"#), "{behind:?}");
}
