//! What operators see of sessions, subscriptions, queues, shared subscriptions and retained messages, in the API, by the command line
//! and in the metrics: how much there is and how old it is, before anything is lost.

use std::fs;
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::Property;
use serde_json::Value;

use crate::admin::ask;
use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, hello, properties, publish};
use crate::process::{metric, until, until_metric};
use crate::support::service::{Service, config, config_with, program};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"to/kafka/#\"]\ntopic = \"all\"\n";
const SPOOL: &str = "[spool]\nbytes_max = \"256MiB\"\n";

/// The client identifiers of the rows of an answer, sorted.
fn clients(rows: &Value) -> Vec<String> {
    let rows = rows.as_array().expect("rows");
    let mut names: Vec<_> = rows.iter().map(|row| row["client_id"].as_str().expect("a name").to_owned()).collect();
    names.sort();
    names
}

fn get(service: &Service, path: &str) -> Value {
    let (status, body) = ask(service, "GET", &format!("/api/v1/{path}"), "");
    assert_eq!(status, 200, "{path}: {body:#}");
    body
}

/// What a command says of the service, as lines of cells.
fn said(service: &Service, arguments: &[&str]) -> Vec<Vec<String>> {
    let control = service.control().to_string();
    let output = program().args(arguments).args(["--control", &control]).output().expect("the program runs");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    text.lines().map(cells).collect()
}

/// A session that is kept for an hour. Receive Maximum 1: one message at a time.
fn kept(service: &Service, name: &str) -> Device {
    let all = properties([Property::SessionExpiryInterval(3600), Property::ReceiveMaximum(1)]);
    let connect = Connect { clean_start: false, properties: all.as_properties(), ..hello(Version::V5, name) };
    Device::connect_as(service.mqtt(), &connect).0
}

/// A client identifier that belongs to this one of two shards.
fn name_on(shard: usize, what: &str) -> String {
    let mut names = (0..).map(|number| format!("{what}-{number}"));
    names.find(|name| owner(name, 2) == shard).expect("there are many")
}

#[test]
fn what_waits_for_a_client_and_its_age_are_seen_before_anything_is_dropped() {
    let bounds = "[delivery]\nqueue_messages_max = 5\nqueue_bytes_max = \"1KiB\"\n";
    let service = Service::start(&config_with("shards = 2", &format!("{SPOOL}{bounds}{SINK}")));
    let mut device = kept(&service, "meter 7");
    assert_eq!(device.subscribe(&[("plant/#", QoS::AtLeastOnce), ("other/+", QoS::ExactlyOnce)]), [1, 2]);
    assert_eq!(metric(&service, "delivery_oldest_seconds"), 0);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    (1..=4).for_each(|number| publisher.deliver(number, "plant/7", b"21.5"));
    assert!(matches!(device.hear(), Heard::Message(1, 1, _, _)));
    until_metric(&service, "deliveries_in_flight", 1);
    until_metric(&service, "deliveries_queued", 3);
    let client = get(&service, "clients/meter%207");
    let of = |name: &str| client[name].as_u64();
    assert_eq!([of("queued_messages"), of("queued_messages_max")], [Some(3), Some(5)], "{client:#}");
    assert_eq!([of("unacknowledged_messages"), of("unacknowledged_messages_max")], [Some(1); 2], "{client:#}");
    assert_eq!(of("queued_bytes_max"), Some(1_024));
    assert!(of("queued_bytes").is_some_and(|bytes| (3 * 4..300).contains(&bytes)), "{client:#}");
    // Its age grows while nothing happens on its shard.
    until("its age", || metric(&service, "delivery_oldest_seconds") >= 1);
    until("the ages of both", || {
        let client = get(&service, "clients/meter%207");
        let ages = ["oldest_queued_seconds", "oldest_unacknowledged_seconds"].map(|name| client[name].as_u64());
        ages.iter().all(|age| age.is_some_and(|age| age >= 1))
    });
    let status = get(&service, "status");
    let wanted = [("sessions", 2), ("subscriptions", 2), ("queued_messages", 3), ("unacknowledged_messages", 1)];
    for (name, value) in wanted.into_iter().chain([("shares", 0), ("retained_messages", 0)]) {
        assert_eq!(status[name], value, "{name}: {status:#}");
    }
    assert!(status["oldest_message_seconds"].as_f64().is_some_and(|age| age >= 1.0), "{status:#}");
    // Bounds beside what they bound.
    for name in ["stored_messages", "delivery_remembered_bytes", "retained_messages", "retained_bytes"] {
        let (now, max) = (metric(&service, name), metric(&service, &format!("{name}_max")));
        assert!(now < max, "{name}: {now} of {max}");
    }
    assert!(metric(&service, "stored_messages") >= 4);
    assert_eq!(metric(&service, "delivery_queue_bytes_max"), 2 * 2 * (16 << 20));
    // The same by the command line.
    let lines = said(&service, &["clients", "--search", "meter"]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[0][..3], ["CLIENT", "CONNECTED", "PROTOCOL"]);
    assert_eq!(lines[1][..3], ["meter 7", "yes", "5.0"]);
    assert_eq!(lines[1][5..8], ["2", "3", "1"], "{lines:?}");
    assert!(lines[1][8].ends_with(" s"), "{lines:?}");
    let lines = said(&service, &["clients", "meter 7"]);
    let has = |line: &[&str]| lines.iter().any(|other| other == line);
    assert!(
        has(&["queued messages", "3 (at most 5)"]) && has(&["session ends", "1 h after its connection"]),
        "{lines:?}"
    );
    assert!(has(&["plant/#", "1", "no", "no", "-", "-"]) && has(&["other/+", "2", "no", "no", "-", "-"]), "{lines:?}");
    let lines = said(&service, &["clients", "--limit", "1"]);
    assert!(lines.len() == 3 && lines[2][0].contains("--limit"), "{lines:?}");
    // Nothing is left once it has acknowledged.
    for number in 1..=4 {
        device.acknowledge(PacketType::PubAck, number);
        if number < 4 {
            assert!(matches!(device.hear(), Heard::Message(1, ..)));
        }
    }
    until_metric(&service, "deliveries_in_flight", 0);
    assert_eq!([metric(&service, "deliveries_queued"), metric(&service, "delivery_oldest_seconds")], [0, 0]);
    assert_eq!(get(&service, "clients/meter%207")["oldest_queued_seconds"], Value::Null);
    // Without its connection all of it waits, and ends with its session.
    device.vanish();
    until_metric(&service, "connections", 1);
    publisher.deliver(9, "plant/7", b"x");
    until_metric(&service, "deliveries_queued", 1);
    assert_eq!(ask(&service, "DELETE", "/api/v1/clients/meter%207", "").0, 204);
    until_metric(&service, "deliveries_queued", 0);
    assert_eq!(metric(&service, "deliveries_total{result=\"queue_full\"}"), 0);
}

#[test]
fn who_gets_a_topic_is_shown_with_filter_and_options_page_by_page() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let names: Vec<String> = (0..12).map(|n| format!("sub-{n:02}")).collect();
    let mut devices: Vec<_> = names.iter().map(|name| Device::connect(service.mqtt(), Version::V5, name)).collect();
    for (number, device) in devices.iter_mut().enumerate() {
        let filters: &[_] = match number % 4 {
            0 => &[("plant/+/temp", QoS::AtLeastOnce), ("plant/#", QoS::AtMostOnce)],
            1 => &[("$share/workers/plant/#", QoS::ExactlyOnce)],
            2 => &[("plant/7/temp", QoS::AtMostOnce)],
            _ => &[("plants/#", QoS::AtMostOnce), ("plant/7", QoS::AtMostOnce)],
        };
        device.subscribe(filters);
    }
    // All pages of one row.
    let pages = |query: &str| {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(&service, &format!("subscriptions?limit=1&{query}{cursor}"));
            rows.extend(page["subscriptions"].as_array().expect("rows").iter().cloned());
            let Some(next) = page["next"].as_str() else { break Value::Array(rows) };
            cursor = format!("&cursor={next}");
        }
    };
    let of = |kinds: &[usize]| -> Vec<String> {
        let all = names.iter().enumerate().filter(|(number, _)| kinds.contains(&(number % 4)));
        all.map(|(_, name)| name.clone()).collect()
    };
    let mut twice = [of(&[0]), of(&[0, 1, 2])].concat();
    twice.sort();
    let found = pages("topic=plant/7/temp");
    assert_eq!(clients(&found), twice, "those with two subscriptions twice");
    let shared =
        found.as_array().and_then(|rows| rows.iter().find(|row| row["client_id"] == "sub-01")).expect("a member");
    assert_eq!(
        (&shared["filter"], &shared["qos"], &shared["connected"], &shared["may_read"]),
        (&"$share/workers/plant/#".into(), &2.into(), &true.into(), &true.into())
    );
    assert_eq!(clients(&pages("filter=$share/workers/plant/%23")), of(&[1]));
    assert_eq!(clients(&pages("filter=plant/%23")), of(&[0]), "just this one");
    assert_eq!(clients(&pages("filter=plant/%2B/temp&topic=plant/7/temp")), of(&[0]));
    assert_eq!(clients(&pages("filter=plant/%2B/temp&topic=plant/7")), [""; 0]);
    assert_eq!(clients(&pages("")).len(), 18, "all");
    assert_eq!(get(&service, "subscriptions?filter=plant/7")["subscriptions"][0]["may_read"], Value::Null);
    for wrong in ["topic=plant/%2B", "topic=", "filter=a%23", "filter=$share/workers", "limit=0", "cursor=x"] {
        assert_eq!(ask(&service, "GET", &format!("/api/v1/subscriptions?{wrong}"), "").0, 400, "{wrong}");
    }
    // One that unsubscribes, and one that leaves.
    devices.remove(2).leave();
    until("it has left", || clients(&pages("topic=plant/7/temp")).len() == twice.len() - 1);
}

/// X43: a subscription that matches more than its client may read.
#[test]
fn who_may_not_read_a_topic_is_said() {
    let dir = crate::support::temp_dir();
    let (acl, passwords) = (dir.path().join("acl"), dir.path().join("passwords"));
    fs::write(&acl, "user ada\ntopic read part/a\n").expect("written");
    passwd(&passwords, &["ada"], "secret");
    let auth = auth(dir.path(), &format!("chain = [\"password\"]\nacl_file = {acl:?}"));
    let service = Service::start(&with_auth(&config(&format!("{auth}{SINK}"))));
    let connect = Connect { username: Some("ada"), password: Some(b"secret"), ..hello(Version::V311, "reader") };
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
    assert_eq!(device.subscribe(&[("part/+", QoS::AtMostOnce)]), [0]);
    let may_read =
        |topic: &str| get(&service, &format!("subscriptions?topic={topic}"))["subscriptions"][0]["may_read"].clone();
    assert_eq!([may_read("part/a"), may_read("part/b")], [true, false]);
}

#[test]
fn shares_are_shown_once_with_members_and_what_waits_on_both_shards() {
    let service = Service::start(&config_with("shards = 2", &format!("{SPOOL}{SINK}")));
    let members: Vec<_> = (0..2).map(|shard| kept(&service, &name_on(shard, "member"))).collect();
    for mut member in members {
        member.subscribe(&[("$share/workers/work/#", QoS::AtLeastOnce)]);
        member.vanish();
    }
    let mut other = Device::connect(service.mqtt(), Version::V5, "other");
    other.subscribe(&[("$share/idle/work/x", QoS::AtMostOnce)]);
    until_metric(&service, "connections", 1);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    (1..=3).for_each(|number| publisher.deliver(number, "work/y", b"job"));
    until_metric(&service, "share_queued_messages", 3);
    until("its age", || metric(&service, "delivery_oldest_seconds") >= 1);
    let all = get(&service, "shares");
    let shares = all["shares"].as_array().expect("rows");
    assert_eq!((shares.len(), &all["next"]), (2, &Value::Null), "{all:#}");
    let workers = &shares[0];
    assert_eq!((&workers["name"], &workers["filter"]), (&"workers".into(), &"work/#".into()), "{all:#}");
    assert_eq!(workers["strategy"], "round-robin");
    let numbers = |of: &Value| ["members", "online", "kept", "queued_messages"].map(|name| of[name].as_u64());
    assert_eq!(numbers(workers), [2, 0, 2, 3].map(Some), "{all:#}");
    assert!(workers["queued_bytes"].as_u64().is_some_and(|bytes| bytes > 9), "{all:#}");
    assert!(workers["oldest_queued_seconds"].as_u64().is_some_and(|age| age >= 1), "{all:#}");
    let parts = workers["shards"].as_array().expect("both");
    assert_eq!(parts.iter().map(|part| part["members"].as_u64()).collect::<Vec<_>>(), [Some(1); 2], "{all:#}");
    let waiting: u64 = parts.iter().filter_map(|part| part["queued_messages"].as_u64()).sum();
    assert_eq!(waiting, 3);
    assert_eq!(numbers(&shares[1]), [1, 1, 0, 0].map(Some), "{all:#}");
    // Page by page, and found by its name.
    let first = get(&service, "shares?limit=1");
    assert_eq!(first["shares"][0]["name"], "workers");
    let second = get(&service, &format!("shares?limit=1&cursor={}", first["next"].as_str().expect("more")));
    assert_eq!((&second["shares"][0]["name"], &second["next"]), (&"idle".into(), &Value::Null));
    let found = get(&service, "shares?search=idl");
    assert_eq!(found["shares"].as_array().map(Vec::len), Some(1), "{found:#}");
    for wrong in ["limit=0", "limit=1001", "cursor=x"] {
        assert_eq!(ask(&service, "GET", &format!("/api/v1/shares?{wrong}"), "").0, 400, "{wrong}");
    }
    assert_eq!(get(&service, "status")["shares"], 2);
    assert_eq!(get(&service, "status")["queued_messages"], 3);
    let lines = said(&service, &["shares", "--search", "work/#"]);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1][..7], ["workers", "work/#", "round-robin", "2", "0", "2", "3"], "{lines:?}");
    let json = program().args(["shares", "--json", "--control", &service.control().to_string()]).output();
    let json: Value = serde_json::from_slice(&json.expect("the program runs").stdout).expect("JSON");
    assert_eq!(json["shares"][1]["name"], "idle");
}

#[test]
fn retained_messages_are_listed_by_the_command_line() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let hour = properties([Property::MessageExpiryInterval(7_300)]);
    for (topic, properties) in
        [("plant/a", hour.as_properties()), ("plant/b", Default::default()), ("else", Default::default())]
    {
        device.say(&Packet::Publish(Publish {
            retain: true,
            properties,
            ..publish(QoS::AtMostOnce, 0, topic, b"21.5")
        }));
    }
    until_metric(&service, "retained_messages", 3);
    std::thread::sleep(Duration::from_millis(1_100));
    let mut lines = said(&service, &["retained", "plant/#"]);
    assert_eq!(lines.remove(0), ["TOPIC", "BYTES", "QOS", "AGE", "EXPIRES IN"]);
    lines.sort();
    let row = |line: &[String]| (line[..3].to_vec(), line[3].ends_with(" s"), line[4].clone());
    assert_eq!(row(&lines[0]), (["plant/a", "4", "0"].map(str::to_owned).to_vec(), true, "2 h 1 min".to_owned()));
    assert_eq!(row(&lines[1]), (["plant/b", "4", "0"].map(str::to_owned).to_vec(), true, "-".to_owned()));
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(said(&service, &["retained"]).len(), 4);
}
