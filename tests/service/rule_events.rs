//! Events as FROM of a rule: each by a real client.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, SubscriptionOptions, Unsubscribe, Version};
use forebay::mqtt::property::{Properties, Property};
use serde_json::{Value, json};

use crate::auth::{auth, passwd, with_auth};
use crate::change::change;
use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until, until_metric};
use crate::records::{Record, read_when};
use crate::support::service::{Service, config};
use crate::support::temp_dir;

/// A rule for each of these, which feeds a sink of its own.
fn rules(froms: &[(&str, &str)]) -> String {
    let rule = |(name, from): &(&str, &str)| {
        format!(
            "[[rule]]\nname = \"{name}\"\nsinks = [\"{name}\"]\nsql = '''SELECT * FROM {from}'''\n[[sink]]\nname = \"{name}\"\ntopic = \"{name}\"\n"
        )
    };
    froms.iter().map(rule).collect()
}

fn said(record: &Record) -> BTreeMap<String, Value> {
    serde_json::from_str(record.text()).expect("an object")
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("a time")
}

/// Takes the numbers that differ from run to run out of an event, having looked at them.
fn without_times(mut event: BTreeMap<String, Value>, began: i64) -> Value {
    for name in ["timestamp", "connected_at", "disconnected_at"] {
        if let Some(time) = event.remove(name) {
            assert!(time.as_i64().is_some_and(|time| (began - 1_000..=now_ms()).contains(&time)), "{name} {time}");
        }
    }
    let address = event.remove("peername").expect("an address");
    assert!(address.as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{address}");
    assert!(event.remove("sockname").is_none_or(|address| address.is_string()));
    assert!(event.remove("node").is_some_and(|node| node.as_str().is_some_and(|node| node.starts_with("forebay@"))));
    json!(event)
}

/// Old and new names; all fields of a connection that comes and goes; key and time of the rows.
#[test]
fn clients_that_come_and_go() {
    let began = now_ms();
    let froms = [
        ("come", "\"$events/client_connected\""),
        ("gone", "\"$events/client/disconnected\""),
        ("answered", "\"$events/client/connack\""),
        ("judged", "\"$events/auth/check_authn_complete\""),
    ];
    let service = Service::start(&config(&rules(&froms)));
    let user = properties([Property::SessionExpiryInterval(60), Property::UserProperty("unit", "C")]);
    let connect = Connect {
        clean_start: false,
        keep_alive_s: 30,
        username: Some("ana"),
        properties: user.as_properties(),
        ..hello(Version::V5, "dev")
    };
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
    let [record] = &read_when(service.embedded(), "come", 1)[..] else { panic!("one record") };
    assert_eq!(record.key, "dev", "the client");
    assert!((began - 1_000..=now_ms()).contains(&record.timestamp));
    let metadata = |rule: &str| json!({ "namespace": "global", "rule_id": rule });
    let conn_props = json!({ "Session-Expiry-Interval": 60, "User-Property": { "unit": "C" } });
    assert_eq!(
        without_times(said(record), began),
        json!({
            "event": "client.connected", "clientid": "dev", "username": "ana", "proto_name": "MQTT", "proto_ver": 5, "keepalive": 30,
            "clean_start": false, "expiry_interval": 60, "is_bridge": false, "conn_props": conn_props, "client_attrs": {},
            "metadata": metadata("come"),
        })
    );
    assert_eq!(
        without_times(said(&read_when(service.embedded(), "answered", 1)[0]), began),
        json!({
            "event": "client.connack", "clientid": "dev", "username": "ana", "proto_name": "MQTT", "proto_ver": 5, "keepalive": 30,
            "clean_start": false, "expiry_interval": 60, "conn_props": conn_props, "reason_code": "success", "metadata": metadata("answered"),
        })
    );
    assert_eq!(
        without_times(said(&read_when(service.embedded(), "judged", 1)[0]), began),
        json!({
            "event": "client.check_authn_complete", "clientid": "dev", "username": "ana", "reason_code": "success", "is_superuser": false,
            "is_anonymous": true, "metadata": metadata("judged"),
        })
    );
    // The same client again, by an older version: the first connection is taken over.
    let other = Device::connect(service.mqtt(), Version::V311, "dev");
    let [record] = &read_when(service.embedded(), "gone", 1)[..] else { panic!("one record") };
    let taken_over = without_times(said(record), began);
    assert_eq!(
        taken_over,
        json!({
            "event": "client.disconnected", "clientid": "dev", "username": null, "proto_name": "MQTT", "proto_ver": 5,
            "reason": "takenover", "client_attrs": {}, "metadata": metadata("gone"),
        })
    );
    other.leave();
    let gone: Vec<_> =
        read_when(service.embedded(), "gone", 2).iter().map(|record| said(record)["reason"].clone()).collect();
    assert!(gone.contains(&"normal".into()), "{gone:?}");
    device.until_closed();
    Device::connect(service.mqtt(), Version::V5, "lost").vanish();
    let lost = read_when(service.embedded(), "gone", 3);
    assert!(lost.iter().any(|record| record.key == "lost" && said(record)["reason"] == "tcp_closed"), "{lost:?}");
    assert_eq!(metric(&service, "rule_events_dropped_total"), 0);
}

/// What is subscribed to and not any more, a filter each, with what was granted.
#[test]
fn subscriptions_that_begin_and_end() {
    let began = now_ms();
    let froms =
        [("begun", "\"$events/session_subscribed\""), ("ended", "\"$events/session/unsubscribed\", \"t/none\"")];
    let service = Service::start(&config(&rules(&froms)));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    assert_eq!(device.subscribe(&[("a/#", QoS::AtLeastOnce), ("b", QoS::ExactlyOnce)]), [1, 2]);
    let events = read_when(service.embedded(), "begun", 2);
    let mut of: Vec<_> = events.iter().map(|record| without_times(said(record), began)).collect();
    of.sort_by_key(|event| event["topic"].to_string());
    let event = |topic: &str, qos: u8| {
        json!({
            "event": "session.subscribed", "clientid": "dev", "username": null, "topic": topic, "qos": qos, "peerhost": "127.0.0.1",
            "sub_props": { "User-Property": {} }, "client_attrs": {}, "metadata": { "namespace": "global", "rule_id": "begun" },
        })
    };
    assert_eq!(of, [event("a/#", 1), event("b", 2)]);
    assert!(events.iter().all(|record| record.key == "dev"));
    let mut filters = FilterBuf::for_unsubscribe();
    assert!(["a/#", "never"].iter().all(|filter| filters.push(filter, SubscriptionOptions::default())));
    device.say(&Packet::Unsubscribe(Unsubscribe {
        packet_id: 8,
        properties: Properties::EMPTY,
        filters: filters.as_filters(),
    }));
    assert_eq!(device.hear(), Heard::Codes(PacketType::UnsubAck, 8, vec![0, 0x11]));
    let [record] = &read_when(service.embedded(), "ended", 1)[..] else { panic!("one record") };
    let event = without_times(said(record), began);
    assert_eq!(
        (&event["event"], &event["topic"], &event["clientid"]),
        (&"session.unsubscribed".into(), &"a/#".into(), &"dev".into())
    );
    assert_eq!(event["unsub_props"], json!({ "User-Property": {} }));
}

/// A client that is refused: the code of the CONNACK in EMQX's words. `#` matches no event, WHERE filters, and a rule that is removed gets none.
#[test]
fn refusals_and_what_gets_no_event() {
    let dir = temp_dir();
    passwd(&dir.path().join("passwords"), &["ana"], "secret");
    let froms = [
        ("judged", "\"$events/client_check_authn_complete\" WHERE reason_code != 'success'"),
        ("answered", "\"$events/client_connack\" WHERE reason_code != 'success'"),
        ("all", "\"#\""),
    ];
    let service = Service::start(&with_auth(&config(&format!(
        "{}{}",
        auth(dir.path(), "chain = [\"password\"]"),
        rules(&froms)
    ))));
    let connect = Connect { username: Some("ana"), password: Some(b"wrong"), ..hello(Version::V5, "dev") };
    let mut device = Device::open(service.mqtt(), Version::V5);
    device.say(&Packet::Connect(connect.clone()));
    assert!(matches!(device.hear(), Heard::ConnAck(hello) if hello.code == 0x86));
    device.until_closed();
    let event = said(&read_when(service.embedded(), "judged", 1)[0]);
    assert_eq!(
        (&event["reason_code"], &event["username"], &event["is_anonymous"]),
        (&"bad_username_or_password".into(), &"ana".into(), &false.into())
    );
    let event = said(&read_when(service.embedded(), "answered", 1)[0]);
    assert_eq!(event["reason_code"], "bad_username_or_password");
    let known = Connect { password: Some(b"secret"), ..connect };
    Device::connect_as(service.mqtt(), &known).0.leave();
    let rule = |name: &str, result: &str| {
        metric(&service, &format!("rule_messages_total{{result=\"{result}\",rule=\"{name}\"}}"))
    };
    until("a success to be filtered", || rule("judged", "filtered") == 1 && rule("answered", "filtered") == 1);
    assert_eq!(["passed", "filtered", "failed"].map(|result| rule("all", result)), [0; 3], "# matches no event");
}

/// An event owes nobody an answer: where there is no room it is dropped and counted, and the client notices nothing. All that had room arrives.
#[test]
fn events_without_room_are_dropped_and_counted() {
    const EACH: usize = 200;
    let text = config(&rules(&[("begun", "\"$events/session/subscribed\"")]));
    let service = Service::start(&text.replacen("[embedded]\n", "[embedded]\nbuffer_bytes = \"4MiB\"\n", 1));
    assert_eq!(change(&service, "POST", "sinks/begun/pause", &Value::Null).0, 200);
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let filters: Vec<String> = (0..EACH).map(|n| format!("{n}/{}", "x".repeat(300))).collect();
    let filters: Vec<(&str, QoS)> = filters.iter().map(|filter| (&**filter, QoS::AtMostOnce)).collect();
    let dropped = || metric(&service, "rule_events_dropped_total{event=\"session_subscribed\"}");
    let mut all = 0;
    until("an event without room", || {
        assert_eq!(device.subscribe(&filters), [0; EACH]);
        all += EACH as u64;
        device.ping();
        dropped() > 0
    });
    assert_eq!(change(&service, "POST", "sinks/begun/resume", &Value::Null).0, 200);
    let passed = metric(&service, "rule_messages_total{result=\"passed\",rule=\"begun\"}");
    assert_eq!(passed + dropped(), all);
    until_metric(&service, "sink_records_out_total{result=\"delivered\",sink=\"begun\"}", passed);
}

/// A rule that fails for an event: a dead letter has the event, as JSON. One that is not there any more gets none.
#[test]
fn a_rule_that_fails_for_an_event_keeps_a_letter() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"r\"\nsinks = [\"out\"]\nsql = '''SELECT topic - 1 AS wrong FROM \"$events/session/subscribed\"'''\n\
         [[sink]]\nname = \"out\"\ntopic = \"out\"\ndead_letters_topic = \"dead\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.subscribe(&[("t/7", QoS::AtMostOnce)]);
    let [letter] = &read_when(service.embedded(), "dead", 1)[..] else { panic!("one letter") };
    let header = |wanted: &str| letter.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    assert_eq!(header("dead-letter-mqtt-topic"), Some("$events/session/subscribed"), "{:?}", letter.headers);
    let event = said(letter);
    assert_eq!(
        (&event["event"], &event["topic"], &event["clientid"]),
        (&"session.subscribed".into(), &"t/7".into(), &"dev".into())
    );
    assert_eq!(metric(&service, "rule_messages_total{result=\"failed\"}"), 1);
    assert_eq!(change(&service, "DELETE", "rules/r", &Value::Null).0, 200);
    device.subscribe(&[("t/8", QoS::AtMostOnce)]);
    device.ping();
    assert_eq!(read_when(service.embedded(), "dead", 1).len(), 1);
}

/// Messages that nobody wanted, with all that is known of them; not those that a sink has, nor those of rules and of the service.
#[test]
fn messages_that_nobody_wanted() {
    let began = now_ms();
    let republish = "[[rule.republish]]\ntopic = \"nobody/wants/this\"\npayload = \"${.}\"\n[[sink]]";
    let rules =
        rules(&[("unwanted", "\"$events/message_dropped\" WHERE topic <> 't/2'")]).replacen("[[sink]]", republish, 1);
    let sink = "[[sink]]\nname = \"all\"\nfilters = [\"s/#\"]\ntopic = \"all\"\n";
    let service = Service::start(&config(&format!("{rules}{sink}")));
    let mut device =
        Device::connect_as(service.mqtt(), &Connect { username: Some("ana"), ..hello(Version::V5, "dev") }).0;
    let user = properties([
        Property::ContentType("text/plain"),
        Property::CorrelationData(&[0xff, b'c']),
        Property::MessageExpiryInterval(60),
        Property::UserProperty("unit", "C"),
    ]);
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "t/1",
        packet_id: 7,
        properties: user.as_properties(),
        payload: b"{\"temp\":21.5}",
    };
    device.say(&Packet::Publish(publish.clone()));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 7, 0x10), "no matching subscribers");
    device.say(&Packet::Publish(Publish {
        topic: "s/1",
        packet_id: 8,
        properties: Properties::EMPTY,
        ..publish.clone()
    }));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 8, 0));
    device.say(&Packet::Publish(Publish { topic: "t/2", packet_id: 9, properties: Properties::EMPTY, ..publish }));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 9, 0x10));
    let [record] = &read_when(service.embedded(), "unwanted", 1)[..] else { panic!("one record") };
    let mut event = said(record);
    assert_eq!(
        (event.remove("peerhost"), event.remove("publish_received_at")),
        (Some("127.0.0.1".into()), event.get("timestamp").cloned())
    );
    assert_eq!(
        without_times(event, began),
        json!({
            "event": "message.dropped", "clientid": "dev", "username": "ana", "topic": "t/1", "qos": 1, "reason": "no_subscribers",
            "payload": "{\"temp\":21.5}", "flags": { "dup": false, "retain": false }, "client_attrs": {},
            "pub_props": {
                "Content-Type": "text/plain", "Correlation-Data": "\u{fffd}c", "Message-Expiry-Interval": 60, "User-Property": { "unit": "C" },
            },
            "metadata": { "namespace": "global", "rule_id": "unwanted" },
        })
    );
    until_metric(&service, "rule_publications_total{result=\"unmatched\",rule=\"unwanted\"}", 1);
    device.ping();
    let of = |result: &str| metric(&service, &format!("rule_messages_total{{result=\"{result}\",rule=\"unwanted\"}}"));
    assert_eq!([of("passed"), of("filtered")], [1, 1], "neither what the rule published nor the events themselves");
}

/// Copies that a subscriber never gets: of QoS 0 while it is away, and the oldest of a full queue. PINGREQ, too.
#[test]
fn copies_that_are_dropped_and_pings() {
    let began = now_ms();
    let froms = [("lost", "\"$events/delivery_dropped\""), ("ping", "\"$events/client/ping\"")];
    let service = Service::start(&config(&format!("[delivery]\nqueue_messages_max = 1\n{}", rules(&froms))));
    let kept = properties([Property::SessionExpiryInterval(600)]);
    let connect = Connect { username: Some("ana"), properties: kept.as_properties(), ..hello(Version::V5, "sub") };
    let mut subscriber = Device::connect_as(service.mqtt(), &connect).0;
    subscriber.subscribe(&[("t/#", QoS::AtLeastOnce)]);
    subscriber.ping();
    let mut ping = said(&read_when(service.embedded(), "ping", 1)[0]);
    assert!(ping.remove("sockname").is_some(), "its listener");
    assert_eq!(
        without_times(ping, began),
        json!({
            "event": "client.ping", "clientid": "sub", "username": "ana", "proto_name": "MQTT", "proto_ver": 5, "client_attrs": {},
            "metadata": { "namespace": "global", "rule_id": "ping" },
        })
    );
    subscriber.leave();
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let publish = |qos, packet_id, payload| Publish {
        dup: false,
        qos,
        retain: false,
        topic: "t/1",
        packet_id,
        properties: Properties::EMPTY,
        payload,
    };
    device.say(&Packet::Publish(publish(QoS::AtMostOnce, 0, b"none")));
    for (id, payload) in [(1, b"one" as &[u8]), (2, b"two")] {
        device.say(&Packet::Publish(publish(QoS::AtLeastOnce, id, payload)));
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, id, 0));
    }
    let events: Vec<_> = read_when(service.embedded(), "lost", 2).iter().map(said).collect();
    let of = |event: &BTreeMap<String, Value>| {
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        [text("reason"), text("payload"), text("clientid"), text("username"), text("topic")]
    };
    assert_eq!(
        events.iter().map(of).collect::<Vec<_>>(),
        [["qos0_msg", "none", "sub", "ana", "t/1"], ["queue_full", "one", "sub", "ana", "t/1"]]
    );
    assert_eq!((&events[1]["event"], &events[1]["qos"]), (&"delivery.dropped".into(), &1.into()));
    assert_eq!(metric(&service, "rule_events_dropped_total"), 0);
}
