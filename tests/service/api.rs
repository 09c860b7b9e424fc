//! `/api/v1`: sinks, listeners, clusters and events, as programs read them.

use forebay::mqtt::packet::{QoS, Version};
use serde_json::Value;

use crate::device::Device;
use crate::process::{metric, until};
use crate::support::service::{Service, config, config_with, program};

/// A page that is there.
fn json(service: &Service, path: &str) -> Value {
    let (status, body) = service.get(path).expect("an answer");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// Events of a kind.
fn events(service: &Service, kind: &str) -> Vec<Value> {
    json(service, &format!("/api/v1/events?kind={kind}"))["events"].as_array().expect("a list").clone()
}

const TWO_SINKS: &str = "[[sink]]\nname = \"all\"\nfilters = [\"a/#\", \"b/#\"]\ntopic = \"all\"\n\
                         [[sink]]\nname = \"by-topic\"\nfilters = [\"b/#\"]\ntopic = \"t-${topic[1]}\"\nacknowledge = \"received\"\n";

#[test]
fn a_sink_says_what_it_is_and_what_it_has_done() {
    let service = Service::start(&config(TWO_SINKS));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=6).for_each(|n| device.deliver(n, "a/x", b"x"));
    (7..=10).for_each(|n| device.deliver(n, "b/x", b"x"));
    until("everything to be delivered", || metric(&service, "sink_records_out_total{result=\"delivered\"}") == 14);
    let all = json(&service, "/api/v1/sinks/all");
    for (key, value) in [
        ("name", Value::from("all")),
        ("kafka", "embedded".into()),
        ("filters", ["a/#", "b/#"].as_slice().into()),
        ("topic", "all".into()),
        ("acknowledge", "replicated".into()),
        ("state", "running".into()),
        ("reason", Value::Null),
        ("records_in", 10.into()),
        ("delivered", 10.into()),
        ("failed", 0.into()),
        ("buffered_records", 0.into()),
    ] {
        assert_eq!(all[key], value, "{key} of {all:#}");
    }
    // Traffic goes on meanwhile: on a busy machine the window of the rate may be over before it is looked at.
    let mut id = 10;
    until("the rate to be seen", || {
        id += 1;
        device.deliver(id, "a/x", b"x");
        json(&service, "/api/v1/sinks/all")["rate"]["delivered_per_second"].as_f64().is_some_and(|rate| rate > 0.0)
    });
    let sinks = json(&service, "/api/v1/sinks");
    let second = &sinks["sinks"][1];
    assert_eq!((&second["name"], &second["topic"]), (&"by-topic".into(), &Value::Null), "a template makes it");
    assert_eq!((&second["acknowledge"], &second["records_in"]), (&"received".into(), &4.into()));
    assert_eq!(sinks["sinks"].as_array().map(Vec::len), Some(2));
}

#[test]
fn what_does_not_exist_is_named() {
    let service = Service::start(&config(TWO_SINKS));
    for (path, status, word) in [
        ("/api/v1/sinks/nobody", 404, "no sink \\\"nobody\\\""),
        ("/api/v1/events?sink=nobody", 400, "no sink \\\"nobody\\\""),
        ("/api/v1/events?kind=nothing", 400, "topic_unknown"),
        ("/api/v1/events?since=yesterday", 400, "since"),
        ("/api/v1/events?limits=3", 400, "unknown field `limits`"),
    ] {
        let (answered, body) = service.get(path).expect("an answer");
        let problem: Value = serde_json::from_str(&body).expect("a problem document");
        assert_eq!((&problem["status"], &problem["type"]), (&status.into(), &"about:blank".into()), "{path}: {body}");
        assert!(answered == status && body.contains(word), "{path}: {answered} {body}");
    }
}

#[test]
fn listeners_and_clusters_have_their_numbers() {
    let second = "[[listener]]\nbind = \"127.0.0.1:0\"\ntransport = \"tcp\"\n";
    let service = Service::start(&config_with("shards = 2", &format!("{second}{TWO_SINKS}")));
    let mut devices: Vec<_> =
        (0..8).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("device {n}"))).collect();
    for device in &mut devices {
        device.deliver(1, "a/x", b"x");
        device.publish(QoS::AtMostOnce, 0, "nobody/wants/this", b"x");
        device.ping();
    }
    until("all to be seen", || json(&service, "/api/v1/listeners")["listeners"][0]["received"] == 16);
    let listeners = json(&service, "/api/v1/listeners");
    let first = &listeners["listeners"][0];
    assert_eq!(first["address"], service.mqtt().to_string());
    assert_eq!(
        ["connections", "matched", "unmatched", "refused"].map(|key| first[key].as_u64()),
        [8, 8, 8, 0].map(Some)
    );
    let other = &listeners["listeners"][1];
    assert_eq!((&other["connections"], &other["received"]), (&0.into(), &0.into()), "{listeners:#}");
    let cluster = &json(&service, "/api/v1/clusters")["clusters"][0];
    assert_eq!((&cluster["name"], &cluster["reachable"]), (&"embedded".into(), &true.into()));
    assert!(cluster["buffer_bytes_max"].as_u64().is_some_and(|bytes| bytes > 0), "{cluster:#}");
    drop(devices);
    until("they are gone", || json(&service, "/api/v1/listeners")["listeners"][0]["connections"] == 0);
}

#[test]
fn events_tell_of_the_start_and_of_who_broke_the_protocol_and_are_in_the_log() {
    let mut service = Service::start(&config("[log]\nformat = \"json\"\n"));
    let started = &events(&service, "started")[0];
    assert_eq!((&started["version"], &started["shards"]), (&env!("CARGO_PKG_VERSION").into(), &1.into()));
    assert_eq!(events(&service, "listening")[0]["listener"], service.mqtt().to_string());
    until("the cluster to be there", || events(&service, "kafka_reachable").len() == 1);
    let last = json(&service, "/api/v1/events")["last"].as_u64().expect("a number");
    // A PUBREL that is no PUBREL, then something that is no MQTT at all.
    let mut device = Device::connect(service.mqtt(), Version::V5, "rude");
    device.try_say_bytes(&[0x60, 0x02, 0x00, 0x01]);
    device.until_closed();
    let mut stranger = Device::open(service.mqtt(), Version::V5);
    stranger.try_say_bytes(b"GET / HTTP/1.1\r\n\r\n");
    stranger.until_closed();
    until("both to be told of", || {
        json(&service, &format!("/api/v1/events?since={last}"))["events"].as_array().map(Vec::len) == Some(2)
    });
    let error = &events(&service, "protocol_error")[0];
    assert_eq!((&error["client"], &error["listener"]), (&"rude".into(), &service.mqtt().to_string().into()));
    assert_eq!((&error["class"], &error["shard"]), (&"client".into(), &0.into()));
    assert!(error["clause"].as_str().is_some_and(|clause| clause.starts_with("MQTT-")), "{error:#}");
    assert!(events(&service, "connect_refused")[0]["reason"].is_string());
    assert!(service.terminate().success());
    let log = service.log();
    let logged = |kind: &str| log.lines().any(|line| line.contains(&format!("\"event\":\"{kind}\"")));
    for kind in ["started", "listening", "kafka_reachable", "protocol_error", "connect_refused", "draining", "drained"]
    {
        assert!(logged(kind), "{kind}\n{log}");
    }
}

#[test]
fn a_crowd_of_the_rude_does_not_fill_the_log() {
    let service = Service::start(&config(""));
    for _ in 0..200 {
        let mut stranger = Device::open(service.mqtt(), Version::V5);
        stranger.try_say_bytes(b"GET / HTTP/1.1\r\n\r\n");
    }
    until("all to be turned away", || metric(&service, "connects_total{result=\"refused\"}") == 200);
    let told = events(&service, "connect_refused").len() as u64;
    let left_out = metric(&service, "events_suppressed_total") + metric(&service, "events_left_out_total");
    assert_eq!(told + left_out, 200, "told of or counted");
    assert_eq!(metric(&service, "events_dropped_total"), 0);
}

#[test]
fn a_cluster_that_is_away_is_what_its_sinks_say() {
    let kafka = "[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n";
    let service =
        Service::start(&config(&format!("{kafka}{}", TWO_SINKS.replace("name =", "kafka = \"main\"\nname ="))));
    let sink = json(&service, "/api/v1/sinks/all");
    assert_eq!(sink["state"], "unreachable");
    let reason = sink["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("no broker of the cluster \"main\" "), "{reason}");
    assert_eq!(json(&service, "/api/v1/clusters")["clusters"][0]["reachable"], false);
}

/// The same for people, by commands that ask where the configuration says.
#[test]
fn commands_print_sinks_and_events() {
    let mut service = Service::start(&config(TWO_SINKS));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=3).for_each(|n| device.deliver(n, "b/x", b"x"));
    until("everything to be delivered", || metric(&service, "sink_records_out_total{result=\"delivered\"}") == 6);
    let control = service.control().to_string();
    let sinks = ask(&["sinks", "--control", &control], 0);
    let cells: Vec<Vec<&str>> = sinks.lines().map(|line| line.split_whitespace().take(7).collect()).collect();
    assert_eq!(cells[1][..7], ["all", "running", "all", "3", "0", "3", "0"], "{sinks}");
    assert_eq!(cells[2][..3], ["by-topic", "running", "(from"], "{sinks}");
    let json: Value = serde_json::from_str(&ask(&["sinks", "--json", "--control", &control], 0)).expect("JSON");
    assert_eq!(json["sinks"][1]["records_in"], 3);
    until("the events to be kept", || ask(&["events", "--control", &control], 0).contains(" started: "));
    let line = ask(&["events", "--control", &control, "--kind", "started"], 0);
    assert!(line.lines().count() == 1 && line.contains("Z info  started: ") && line.contains(" shards=1"), "{line}");
    assert!(ask(&["events", "--control", &control, "--kind", "nosuch"], 1).contains("no kind"));
    // Finding F14: where it answers is known where the file has port 0, and where it has another address for the next start.
    let file = service.dir().join("forebay.toml").display().to_string();
    assert!(ask(&["sinks", "--config", &file], 0).contains("running"));
    let text = std::fs::read_to_string(&file).expect("a file");
    std::fs::write(&file, text.replacen("bind = \"127.0.0.1:0\"", "bind = \"127.0.0.1:1\"", 1)).expect("written");
    assert!(ask(&["sinks", "--config", &file], 0).contains("running"));
    std::fs::write(&file, &text).expect("written");
    // As the banner has it.
    assert!(ask(&["sinks", "--control", &format!("http://{control}")], 0).contains("running"));
    service.terminate();
    assert!(ask(&["sinks", "--config", &file], 1).contains("with --control"));
    assert!(ask(&["sinks", "--control", &control], 1).contains("is the service running?"));
}

/// What a command prints, with this exit status.
fn ask(arguments: &[&str], status: i32) -> String {
    let output = program().args(arguments).output().expect("the program runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
    said
}
