//! Traces of clients and topics: what they show, to whom, what they never show, and what bounds them.

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use forebay::mqtt::property::Property;
use serde_json::{Value, json};

use crate::device::{Device, Heard, hello, properties};
use crate::live::with_tokens;
use crate::process::{metric, until};
use crate::sources_admin::forebay;
use crate::support::service::{Service, config, http, program};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// Status and body of a request with a token.
fn ask(service: &Service, token: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let header = format!("Authorization: Bearer {token}");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (head, answer) =
        http(service.control(), method, &format!("/api/v1/{path}"), &header, &body).expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(&answer).unwrap_or_default())
}

/// The packets of a trace once there are as many.
fn packets(service: &Service, token: &str, id: &Value, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    until("the packets of a trace", || {
        let (status, answer) = ask(service, token, "GET", &format!("traces/{id}?limit=1000"), &Value::Null);
        assert_eq!(status, 200, "{answer}");
        found = answer["packets"].as_array().expect("packets").clone();
        found.len() >= count
    });
    found
}

/// Direction and name of each packet.
fn short(packets: &[Value]) -> Vec<String> {
    let word = |packet: &Value, name: &str| packet[name].as_str().expect("a word").to_owned();
    packets.iter().map(|packet| format!("{} {}", word(packet, "direction"), word(packet, "packet"))).collect()
}

#[test]
fn a_client_is_followed_from_its_connect_to_its_end() {
    let (service, [writer, reader]) = with_tokens(SINK);
    let (status, begun) = ask(&service, &writer, "POST", "traces", &json!({ "client_id": "seen", "seconds": 600 }));
    assert_eq!((status, &begun["client_id"], &begun["over"]), (201, &json!("seen"), &json!(false)), "{begun}");
    let id = &begun["id"];
    let own = properties([Property::UserProperty("site", "berlin"), Property::SessionExpiryInterval(60)]);
    let connect = Connect {
        username: Some("ada"),
        password: Some(b"hunter2"),
        properties: own.as_properties(),
        ..hello(Version::V5, "seen")
    };
    let mut other = Device::connect(service.mqtt(), Version::V5, "other");
    let mut seen = Device::connect_as(service.mqtt(), &connect).0;
    other.deliver(1, "a/1", b"not of it");
    seen.deliver(7, "a/2", b"hello");
    assert_eq!(seen.subscribe(&[("b/#", QoS::AtLeastOnce)]), [1]);
    other.deliver(2, "b/1", &[0xff, 0, 0xfe]);
    let Heard::Message(1, packet_id, ..) = seen.hear() else { panic!("the message") };
    seen.acknowledge(PacketType::PubAck, packet_id);
    seen.leave();
    let all = packets(&service, &writer, id, 9);
    assert_eq!(
        short(&all),
        [
            "in CONNECT",
            "out CONNACK",
            "in PUBLISH",
            "out PUBACK",
            "in SUBSCRIBE",
            "out SUBACK",
            "out PUBLISH",
            "in PUBACK",
            "in DISCONNECT"
        ]
    );
    let details = all[0]["details"].as_str().expect("text");
    assert!(
        details.contains("MQTT 5.0") && details.contains("user ada") && details.contains("site=berlin"),
        "{details}"
    );
    assert_eq!(
        (&all[2]["topic"], &all[2]["packet_id"], &all[2]["payload"]),
        (&json!("a/2"), &json!(7), &json!("hello"))
    );
    assert!(all[4]["details"].as_str().is_some_and(|text| text.contains("b/# (QoS 1)")), "{}", all[4]);
    assert_eq!((&all[6]["payload_base64"], &all[6]["payload_bytes"]), (&json!("/wD+"), &json!(3)));
    // Never the password, and nothing of messages for who may only read.
    assert!(!format!("{all:?}").contains("hunter2"));
    let read = packets(&service, &reader, id, 9);
    assert_eq!((&read[2]["topic"], &read[2]["payload_bytes"]), (&json!("a/2"), &json!(5)));
    assert!(read.iter().all(|packet| packet.get("payload").is_none() && packet.get("payload_base64").is_none()));
    assert_eq!(ask(&service, &reader, "DELETE", &format!("traces/{id}"), &Value::Null).0, 403);
    // The next connection of the client, which is refused what it does wrong.
    let mut again = Device::connect(service.mqtt(), Version::V5, "seen");
    again.say_bytes(&[0x30, 0x02, 0x00, 0x01]);
    again.until_closed();
    let all = packets(&service, &writer, id, 13);
    assert_eq!(short(&all)[9..], ["in CONNECT", "out CONNACK", "in malformed", "out DISCONNECT"]);
    assert_eq!(ask(&service, &writer, "DELETE", &format!("traces/{id}"), &Value::Null).0, 204);
    assert_eq!(ask(&service, &writer, "GET", &format!("traces/{id}"), &Value::Null).0, 404);
}

#[test]
fn a_topic_is_followed_whoever_publishes_and_traces_are_bounded() {
    let (service, [writer, _]) = with_tokens(SINK);
    let begin = |body: Value| ask(&service, &writer, "POST", "traces", &body);
    for wrong in [
        json!({}),
        json!({ "client_id": "a", "filter": "b" }),
        json!({ "filter": "a/#/b" }),
        json!({ "filter": "a", "seconds": 3_601 }),
        json!({ "filter": "a", "seconds": 0 }),
        json!({ "filter": "a", "auth": "x" }),
    ] {
        assert_eq!(begin(wrong.clone()).0, 400, "{wrong}");
    }
    let (_, begun) = begin(json!({ "filter": "plant/+/temp" }));
    let mut devices = ["one", "two", "three"].map(|id| Device::connect(service.mqtt(), Version::V5, id));
    for (n, device) in (1..).zip(&mut devices) {
        device.deliver(n, "plant/7/temp", b"1");
        device.deliver(n + 10, "plant/7/else", b"1");
    }
    let all = packets(&service, &writer, &begun["id"], 3);
    assert_eq!(short(&all), ["in PUBLISH"; 3]);
    let mut clients: Vec<_> = all.iter().map(|packet| packet["client_id"].as_str().expect("a client")).collect();
    clients.sort_unstable();
    assert_eq!(clients, ["one", "three", "two"]);
    // Nobody takes them: what waits on the shards has a bound, and what comes beyond it is counted.
    let mut id = 100;
    until("packets to be left out", || {
        for _ in 0..200 {
            id += 1;
            devices[0].deliver(id, "plant/7/temp", &[b'x'; 2_000]);
        }
        metric(&service, "trace_packets_left_out_total") > 0
    });
    let (_, shown) = ask(&service, &writer, "GET", &format!("traces/{}?after=3&limit=1", begun["id"]), &Value::Null);
    assert!(shown["trace"]["left_out"].as_u64().is_some_and(|count| count > 0), "{shown}");
    assert_eq!((&shown["next"], shown["packets"][0]["payload"].as_str().map(str::len)), (&json!(4), Some(1_024)));
    // Four, and no more, but in the place of one that is over.
    let over = begin(json!({ "filter": "x", "seconds": 1 })).1;
    assert_eq!((begin(json!({ "filter": "y" })).0, begin(json!({ "client_id": "z" })).0), (201, 201));
    until("the second to be over", || {
        let (status, answer) = begin(json!({ "client_id": "fifth" }));
        assert!([201, 409].contains(&status), "{answer}");
        status == 201
    });
    assert_eq!(ask(&service, &writer, "GET", &format!("traces/{}", over["id"]), &Value::Null).0, 404);
}

#[test]
fn the_command_follows_a_trace_and_ends_it_when_it_ends() {
    use std::io::{BufRead as _, BufReader};

    let service = Service::start(&config(SINK));
    let token = std::fs::read_to_string(service.token_file()).expect("a token");
    let mut command = program();
    command.args(["trace", "--topic", "plant/#", "--control", &service.control().to_string()]);
    command.env("FOREBAY_TOKEN", token.trim()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let traces = || forebay(&service, &["trace"]).0.lines().count() - 1;
    until("the trace to begin", || traces() == 1);
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    device.deliver(3, "plant/9/temp", b"21.5");
    let line = lines.next().expect("a line").expect("text");
    assert!(line.contains("device -> PUBLISH #3 plant/9/temp QoS 1 21.5"), "{line}");
    child.kill().expect("killed");
    let _status = child.wait();
    until("the trace to have ended with its reader", || traces() == 0);
    let (said, is_ok) = forebay(&service, &["trace", "--end", "7"]);
    assert!(!is_ok && said.contains("no trace \"7\""), "{said}");
}
