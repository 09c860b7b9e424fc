//! What an operator is told of refusals and connections: events, counters, the log.

use forebay::mqtt::packet::{QoS, Version};
use serde_json::Value;

use crate::device::Device;
use crate::process::{metric, until};
use crate::support::service::{Service, config};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nrecord_bytes_max = \"1KiB\"\ndead_letters_file = \"none\"\n";

fn events(service: &Service, kind: &str) -> Vec<Value> {
    let (_, page) = service.get(&format!("/api/v1/events?kind={kind}")).expect("an answer");
    let page: Value = serde_json::from_str(&page).expect("JSON");
    page["events"].as_array().cloned().unwrap_or_default()
}

/// What is refused says so in an event, a counter, and the log; TLS and HTTP on the port are named.
#[test]
fn nothing_is_refused_silently() {
    let service = Service::start(&config(SINK));
    let mut device = Device::connect(service.mqtt(), Version::V5, "big");
    device.publish(QoS::AtMostOnce, 0, "x/y", &[b'x'; 5_000]);
    device.ping();
    until("it is told", || events(&service, "publish_refused").len() == 1);
    let refused = &events(&service, "publish_refused")[0];
    let said = ["client", "sink", "mqtt_topic"].map(|field| refused[field].as_str().unwrap_or("").to_owned());
    assert_eq!(said, ["big", "all", "x/y"]);
    assert!(refused["reason"].as_str().is_some_and(|why| why.contains("record_bytes_max")), "{refused:#}");
    assert_eq!(metric(&service, "sink_publishes_refused_total{reason=\"too_large\"}"), 1);
    let (_, sink) = service.get("/api/v1/sinks/all").expect("an answer");
    let sink: Value = serde_json::from_str(&sink).expect("JSON");
    assert_eq!(sink["refused_publishes"]["too_large"], 1, "{sink:#}");
    let (a, b) = ("a".repeat(60_000), "b".repeat(60_000));
    assert_eq!(device.subscribe(&[(&a, QoS::AtMostOnce), (&b, QoS::AtMostOnce)]), [0, 0x97]);
    until("SUBSCRIBE, too", || events(&service, "subscribe_refused").len() == 1);
    assert_eq!(events(&service, "subscribe_refused")[0]["client"], "big");
    let tls: &[u8] = b"\x16\x03\x01\x00\xA5\x01";
    for (bytes, words) in [(tls, "looks like TLS"), (b"GET / HTTP/1.1\r\n\r\n", "looks like HTTP")] {
        let mut stranger = Device::open(service.mqtt(), Version::V5);
        stranger.try_say_bytes(bytes);
        stranger.until_closed();
        let named = |event: &Value| event["reason"].as_str().is_some_and(|why| why.contains(words));
        until(words, || events(&service, "connect_refused").iter().any(named));
    }
    until("the log to have both", || {
        let log = service.log();
        log.contains("publish_refused") && log.contains("looks like TLS")
    });
}

/// At debug: who connects, and why a connection ends.
#[test]
fn connections_are_logged_at_debug() {
    let service = Service::start(&config(&format!("[log]\nlevel = \"debug\"\n{SINK}")));
    drop(Device::connect(service.mqtt(), Version::V5, "lost"));
    let mut silent = Device::connect(service.mqtt(), Version::V311, "refused");
    silent.publish(QoS::AtLeastOnce, 1, "x", &[b'x'; 5_000]);
    silent.until_closed();
    let line = |words: &[&str]| service.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
    until("all lines", || {
        line(&["client_connected", "client=\"lost\"", "protocol=\"5.0\"", "127.0.0.1:"])
            && line(&["client_disconnected", "client=\"lost\"", "the connection was lost"])
            && line(&["client_disconnected", "client=\"refused\"", "MQTT 3.x cannot say so"])
    });
    assert_eq!(metric(&service, "connections_closed_total{reason=\"publish_refused\"}"), 1);
}
