//! Messages by the API and by the command line: they go where a client's would go.

use forebay::mqtt::packet::{QoS, Version};
use serde_json::{Value, json};

use crate::device::{Device, Heard};
use crate::process::{metric, until};
use crate::sources_admin::forebay;
use crate::support::service::{Service, config, http};

const SINKS: &str = "[[sink]]\nname = \"all\"\nfilters = [\"plant/#\"]\ntopic = \"all\"\nkey = \"${clientid}/${username}\"\n\
                     [[sink]]\nname = \"strict\"\nfilters = [\"strict/#\"]\ntopic = \"strict\"\nvalue = \"${payload.x}\"\n\
                     on_refuse = \"reject\"\ndead_letters_file = \"none\"\n";

fn publish(service: &Service, message: &Value) -> (u16, Value) {
    let token = std::fs::read_to_string(service.token_file()).expect("a token");
    let header = format!("Authorization: Bearer {}", token.trim());
    let body = message.to_string();
    let (head, answer) = http(service.control(), "POST", "/api/v1/publish", &header, &body).expect("an answer");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(&answer).expect("JSON"))
}

/// Finding Q38: what went in is what came of it, with messages of the API, and with those of sources, which are counted elsewhere.
#[test]
fn finding_q38_the_ledger_holds_with_messages_of_the_api_and_of_sources() {
    let service = Service::start(&config(
        "[[source]]\nname = \"back\"\ntopic = \"records\"\nmqtt_topic = \"b/1\"\npayload = \"${value}\"\noffset_reset = \"earliest\"\nfeeds = \"sinks\"\n\
         [[sink]]\nname = \"there\"\nfilters = \"a/#\"\ntopic = \"records\"\n[[sink]]\nname = \"on\"\nfilters = \"b/#\"\ntopic = \"others\"\n",
    ));
    Device::connect(service.mqtt(), Version::V5, "device").deliver(1, "a/1", b"x");
    assert_eq!(publish(&service, &json!({ "topic": "a/2" })), (200, json!({ "matched": true })));
    until("both to be back", || metric(&service, "sink_records_out_total{sink=\"on\",result=\"delivered\"}") == 2);
    let came = ["publishes_received_total", "wills_published_total", "api_publishes_total"];
    assert_eq!(came.map(|name| metric(&service, name)), [1, 0, 1]);
    assert_eq!(metric(&service, "publishes_routed_total"), 2);
}

#[test]
fn a_message_of_the_api_goes_to_sinks_and_subscribers_or_to_nobody() {
    // Finding Q43: JSON is not written anew.
    const PAYLOAD: &str = "{\"t\": 2.50, \"n\": 12345678901234567890123}";
    let service = Service::start(&config(SINKS));
    let mut device = Device::connect(service.mqtt(), Version::V5, "sub");
    assert_eq!(device.subscribe(&[("plant/#", QoS::AtLeastOnce)]), [1]);
    let message = json!({
        "topic": "plant/7/temp", "payload": PAYLOAD, "qos": 1, "message_expiry_seconds": 60, "content_type": "text/plain",
        "user_properties": [["site", "berlin"]],
    });
    assert_eq!(publish(&service, &message), (200, json!({ "matched": true })));
    let (heard, of_user) = device.hear_with_user_properties();
    match heard {
        Heard::Message(1, _, topic, payload) => {
            assert_eq!((topic.as_str(), payload.as_slice()), ("plant/7/temp", PAYLOAD.as_bytes()));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(of_user, [("site".to_owned(), "berlin".to_owned())]);
    until("Kafka to have it", || metric(&service, "sink_records_out_total{sink=\"all\",result=\"delivered\"}") == 1);
    // Retained, and of bytes.
    assert_eq!(publish(&service, &json!({ "topic": "other", "payload_base64": "/wA=", "retain": true })).0, 200);
    let (status, body) = service.get("/api/v1/retained").expect("an answer");
    assert!(status == 200 && body.contains("\"other\""), "{body}");
    assert_eq!(publish(&service, &json!({ "topic": "nobody/gets/it" })), (200, json!({ "matched": false })));
    let (status, refused) = publish(&service, &json!({ "topic": "strict/1", "payload": "{}" }));
    assert!(
        status == 409 && refused["detail"].as_str().is_some_and(|text| text.contains("nobody has it")),
        "{refused}"
    );
    until("all to be counted", || metric(&service, "api_publishes_total") == 4);
    for wrong in [
        json!({ "topic": "a/#" }),
        json!({ "topic": "" }),
        json!({ "topic": "$SYS/broker/uptime" }),
        json!({ "topic": "a", "qos": 3 }),
        json!({ "topic": "a", "payload_base64": "?" }),
        json!({ "topic": "a", "payload": "x", "payload_base64": "eA==" }),
        json!({ "topic": "a", "content_type": "a\0b" }),
        json!({ "topic": "a", "user_properties": [["a", "x".repeat(70_000)]] }),
        json!({ "topic": "a", "unknown": 1 }),
    ] {
        assert_eq!(publish(&service, &wrong).0, 400, "{wrong}");
    }
    // Without a token nobody publishes.
    let (head, _) = http(service.control(), "POST", "/api/v1/publish", "X: 1", "{\"topic\":\"a\"}").expect("an answer");
    assert!(head.starts_with("HTTP/1.0 401") || head.starts_with("HTTP/1.1 401"), "{head}");
}

#[test]
fn the_command_publishes_and_kicks() {
    let service = Service::start(&config(SINKS));
    let mut device = Device::connect(service.mqtt(), Version::V5, "sub");
    assert_eq!(device.subscribe(&[("made/#", QoS::ExactlyOnce)]), [2]);
    let file = service.dir().join("payload");
    std::fs::write(&file, [0, 255]).expect("written");
    let said = |arguments: &[&str]| forebay(&service, arguments);
    assert_eq!(
        said(&["publish", "made/1", "by hand", "--qos", "0", "--property", "a=b=c"]),
        ("published\n".to_owned(), true)
    );
    let (heard, of_user) = device.hear_with_user_properties();
    assert!(
        matches!(heard, Heard::Message(0, _, ref topic, ref payload) if topic == "made/1" && payload == b"by hand")
    );
    assert_eq!(of_user, [("a".to_owned(), "b=c".to_owned())]);
    assert!(said(&["publish", "made/2", "--file", &file.display().to_string(), "--qos", "0"]).1);
    assert!(
        matches!(device.hear(), Heard::Message(0, _, ref topic, ref payload) if topic == "made/2" && *payload == [0, 255])
    );
    let (text, is_ok) = said(&["publish", "elsewhere", "x"]);
    assert!(is_ok && text.contains("no sink, rule or subscription matches"), "{text}");
    let (text, is_ok) = said(&["publish", "a/+", "x"]);
    assert!(!is_ok && text.contains("no topic of a message"), "{text}");
    assert_eq!(said(&["clients", "sub", "kick"]), ("disconnected\n".to_owned(), true));
    assert_eq!(device.hear(), Heard::Disconnect(0x98));
}
