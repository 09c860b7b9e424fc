//! Rings of instances, by bridges of every kind: a message that goes round ends, and an event names the ring.

use std::thread::sleep;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::Device;
use crate::process::until;
use crate::support::service::{Service, config_with};

/// The bridges that an instance of a ring has.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ways {
    /// One to the instance before it, with an `in`.
    In,
    /// One to the next instance, with an `out`.
    Out,
    /// One to the next instance, with both.
    Both,
}

/// What is in the bridges: the same topics there and here; or `u/#`, which comes here as `t/#`, and of which a rule makes `u/#` again.
fn parts(ways: Ways, has_rules: bool) -> Value {
    let (of, topic) = if has_rules { ("u/#", "t/${topic[1..]}") } else { ("t/#", "${topic}") };
    let part = json!([{ "filters": [of], "topic": topic }]);
    match ways {
        Ways::In => json!({ "in": part }),
        Ways::Out => json!({ "out": part }),
        Ways::Both => json!({ "in": part, "out": part }),
    }
}

/// Messages that bridges of all instances have taken or delivered.
fn passed(ring: &[Service]) -> u64 {
    let of = |service: &Service| {
        let all = [
            "forebay_bridge_messages_total{result=\"taken\"}",
            "forebay_bridge_out_messages_total{result=\"delivered\"}",
        ];
        all.iter().filter_map(|name| service.metric(name)).sum::<f64>() as u64
    };
    ring.iter().map(of).sum()
}

/// The bridge, the reason and the ring of each event about a message that goes round.
fn told(ring: &[Service]) -> Vec<[String; 3]> {
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let of = |service: &Service| {
        let page = get(service, "events?kind=bridge_message_dropped&limit=1000");
        let events = page["events"].as_array().expect("a list").clone();
        events.into_iter().map(|event| ["bridge", "reason", "via"].map(|key| text(&event, key))).collect::<Vec<_>>()
    };
    ring.iter().flat_map(of).collect()
}

/// Closes a ring, publishes one message at its first instance, and waits until no bridge passes it on.
fn ends(count: usize, ways: Ways, version: &str, has_rules: bool) {
    let what = format!("{count} instances, {ways:?}, {version}, with rules: {has_rules}");
    let rule = if has_rules {
        "[[rule]]\nname = \"r\"\nsql = \"SELECT payload, topic FROM 't/#'\"\n[[rule.republish]]\ntopic = \"u/1\"\npayload = \"${payload}\"\n"
    } else {
        ""
    };
    // Nothing waits for Kafka.
    let config = format!("[[sink]]\nname = \"none\"\nfilters = \"none/#\"\ntopic = \"none\"\n{rule}");
    let ring: Vec<Service> = (0..count).map(|_| Service::start(&config_with("shards = 1", &config))).collect();
    for (at, service) in ring.iter().enumerate() {
        let other = match ways {
            Ways::In => (at + count - 1) % count,
            Ways::Out | Ways::Both => (at + 1) % count,
        };
        let mut bridge = parts(ways, has_rules);
        bridge["url"] = json!(format!("mqtt://{}", ring[other].mqtt()));
        bridge["version"] = json!(version);
        let made = change(service, "PUT", "bridges/other", &bridge);
        assert_eq!(made.0, 201, "{what}: {:#}", made.1);
    }
    for service in &ring {
        until("the bridge to be connected, and its filters granted", || {
            let shown = get(service, "bridges/other");
            let filter = &shown["in"][0]["filters"][0]["state"];
            shown["state"] == "connected" && (*filter == "granted" || ways == Ways::Out)
        });
    }
    let mut device = Device::connect(ring[0].mqtt(), Version::V5, "device");
    device.deliver(1, "t/1", b"one message");
    until("the message to have gone on", || passed(&ring) > 0);
    let (began, mut before) = (Instant::now(), 0);
    loop {
        sleep(Duration::from_secs(1));
        let now = passed(&ring);
        if now == before {
            break;
        }
        before = now;
        assert!(began.elapsed() < Duration::from_secs(60), "{what}: {now} passes, and it goes on");
    }
    let told = told(&ring);
    if version == "5.0" {
        assert!(before <= 4 * count as u64, "{what}: {before} passes");
        let names_ring = |[bridge, reason, via]: &[String; 3]| bridge == "other" && reason == "loop" && !via.is_empty();
        assert!(told.iter().any(names_ring), "{what}: {told:?}");
        if ways == Ways::In {
            assert_eq!(before, count as u64 - 1, "{what}: each of the others has it once");
        }
    } else {
        assert!(before <= 8_000 * count as u64, "{what}: {before} passes");
        // A message before 5.0 does not say where it has been: the event names the bridge that has dropped it, and no ring.
        let names_bridge = |[bridge, reason, _]: &[String; 3]| bridge == "other" && reason == "repeated";
        assert!(told.iter().any(names_bridge), "{what}: {told:?}");
    }
}

/// Goes through rings: the number of instances of each, and whether there are rules in between. `FOREBAY_TEST_RINGS=all` for the long form, of two to five
/// instances without rules and with them (`scripts/test scenarios`).
fn all_end(ways: Ways, version: &str, some: &[(usize, bool)]) {
    let has_all = std::env::var("FOREBAY_TEST_RINGS").is_ok_and(|which| which == "all");
    let all: Vec<(usize, bool)> = (2..=5).flat_map(|count| [(count, false), (count, true)]).collect();
    let rings: &[(usize, bool)] = if has_all { &all } else { some };
    for (count, has_rules) in rings {
        ends(*count, ways, version, *has_rules);
    }
}

#[test]
fn finding_q41_a_ring_of_bridges_that_take_ends() {
    all_end(Ways::In, "5.0", &[(2, false), (3, false), (4, false), (5, false), (3, true)]);
}

#[test]
fn finding_q41_a_ring_of_bridges_that_give_ends() {
    all_end(Ways::Out, "5.0", &[(2, false), (3, false), (4, false), (5, false), (3, true)]);
}

#[test]
fn finding_q41_a_ring_of_bridges_both_ways_ends() {
    all_end(Ways::Both, "5.0", &[(2, false), (3, false), (4, false), (5, false), (2, true)]);
}

#[test]
fn finding_q41_a_ring_before_5_ends() {
    all_end(Ways::In, "3.1.1", &[(2, false), (3, false), (4, false), (5, false), (2, true)]);
    all_end(Ways::Out, "3.1.1", &[(3, false), (2, true)]);
    all_end(Ways::Both, "3.1.1", &[(3, false), (2, true)]);
}
