//! Retained messages: across shards, with real clients, through kill -9, and by the access control list.

use std::fs;

use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Version};
use forebay::mqtt::property::Property;
use serde_json::Value;

use crate::admin::ask;
use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, hello, properties, publish};
use crate::process::{metric, until_metric};
use crate::support::service::{Service, config, config_with};
use crate::support::{run, tool};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"to/kafka/#\"]\ntopic = \"all\"\n";
const SPOOL: &str = "[spool]\nbytes_max = \"256MiB\"\n";

/// What mosquitto_sub is sent with RETAIN: so many messages, sorted.
fn retained(service: &Service, version: &str, filter: &str, count: usize) -> Vec<String> {
    let port = service.mqtt().port().to_string();
    let mut sub = tool("mosquitto_sub");
    sub.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", "2", "-t", filter, "--retained-only"]);
    sub.args(["-C", &count.to_string(), "-W", "30", "-F", "%t %p %q %r"]);
    let output = sub.output().expect("it runs");
    assert!(output.status.success(), "{version} {filter}: {output:?}");
    let mut lines: Vec<_> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn retain(service: &Service, version: &str, qos: &str, topic: &str, payload: &[&str]) {
    let port = service.mqtt().port().to_string();
    let at = ["-h", "127.0.0.1", "-p", &port, "-V", version, "-q", qos, "-r", "-t", topic];
    run(tool("mosquitto_pub").args(at).args(payload));
}

/// Topics enough for the homes of both shards.
#[test]
fn mosquittos_clients_find_them_on_both_shards_and_after_kill_9() {
    let mut service = Service::start(&config_with("shards = 2", &format!("{SPOOL}{SINK}")));
    let versions = [("mqttv31", "0"), ("mqttv311", "1"), ("mqttv5", "2")];
    for (version, qos) in versions {
        for number in 0..6 {
            let topic = format!("{version}/{number}");
            retain(&service, version, qos, &topic, &["-m", "old"]);
            retain(&service, version, qos, &topic, &["-m", &format!("{number}")]);
        }
        retain(&service, version, qos, &format!("{version}/3"), &["-n"]);
    }
    until_metric(&service, "retained_messages", 15);
    for after_kill_9 in [false, true] {
        for (version, qos) in versions {
            let wanted: Vec<_> =
                [0, 1, 2, 4, 5].iter().map(|number| format!("{version}/{number} {number} {qos} 1")).collect();
            let what = format!("{version}, after kill -9: {after_kill_9}");
            assert_eq!(retained(&service, version, &format!("{version}/+"), 5), wanted, "{what}");
            assert_eq!(
                retained(&service, version, &format!("{version}/4"), 1),
                [format!("{version}/4 4 {qos} 1")],
                "{what}"
            );
        }
        assert_eq!(retained(&service, "mqttv5", "#", 15).len(), 15);
        if !after_kill_9 {
            // What was sent at QoS 0 is not answered: it is on the disk with the next that is.
            retain(&service, "mqttv5", "1", "last/0", &["-m", "x"]);
            retain(&service, "mqttv5", "1", "last/0", &["-n"]);
            until_metric(&service, "retained_unwritten", 0);
            service.kill9();
            service.start_again();
            until_metric(&service, "retained_messages", 15);
        }
    }
}

/// Finding S3, D3: what a kept session was sent for its subscription and has not acknowledged is sent again after kill -9, an orderly stop, and on
/// another number of shards.
#[test]
fn finding_s3_d3_what_was_not_acknowledged_is_sent_again_after_each_end_of_the_process() {
    const MESSAGES: usize = 12;
    let mut service = Service::start(&config_with("shards = 2", &format!("{SPOOL}{SINK}")));
    for number in 0..MESSAGES {
        retain(&service, "mqttv5", "1", &format!("r/{number}"), &["-m", "x"]);
    }
    let names = ["one", "two", "three", "four"];
    let kept = properties([Property::SessionExpiryInterval(3_600)]);
    let connect = |name| Connect { clean_start: false, properties: kept.as_properties(), ..hello(Version::V5, name) };
    let topics = |device: &mut Device| {
        let mut topics: Vec<_> = device
            .hear_all(MESSAGES)
            .into_iter()
            .map(|heard| match heard {
                Heard::Message(1, _, topic, payload) if payload == b"x" => topic,
                other => panic!("{other:?}"),
            })
            .collect();
        topics.sort();
        topics
    };
    let mut wanted: Vec<_> = (0..MESSAGES).map(|number| format!("r/{number}")).collect();
    wanted.sort();
    for name in names {
        let (mut device, _) = Device::connect_as(service.mqtt(), &connect(name));
        assert_eq!(device.subscribe(&[("r/#", QoS::AtLeastOnce)]), [1]);
        assert_eq!(topics(&mut device), wanted, "{name}");
        // SUBACK waits for the disk, and the disk has what was written before it: what the session was sent is durable.
        assert_eq!(device.subscribe(&[("elsewhere", QoS::AtMostOnce)]), [0]);
        device.vanish();
    }
    until_metric(&service, "stored_messages", (names.len() * MESSAGES) as u64);
    for end in ["kill -9", "stop", "kill -9 and three shards"] {
        if end == "stop" {
            assert!(service.terminate().success());
        } else {
            service.kill9();
        }
        if end.ends_with("shards") {
            let file = service.dir().join("forebay.toml");
            let config = fs::read_to_string(&file).expect("it is there");
            fs::write(&file, config.replace("shards = 2", "shards = 3")).expect("written");
        }
        service.start_again();
        for name in names {
            let (mut device, welcome) = Device::connect_as(service.mqtt(), &connect(name));
            assert!(welcome.session_present, "{end}, {name}");
            assert_eq!(topics(&mut device), wanted, "{end}, {name}");
            device.vanish();
        }
    }
}

/// X43: a client gets what it may read.
#[test]
fn the_access_control_list_holds_for_them_too() {
    let dir = crate::support::temp_dir();
    let (acl, passwords) = (dir.path().join("acl"), dir.path().join("passwords"));
    fs::write(&acl, "user ada\ntopic read part/a\ntopic write #\n").expect("written");
    passwd(&passwords, &["ada"], "secret");
    let auth = auth(dir.path(), &format!("chain = [\"password\"]\nacl_file = {acl:?}"));
    let service = Service::start(&with_auth(&config(&format!("{auth}{SINK}"))));
    let connect = |id| Connect { username: Some("ada"), password: Some(b"secret"), ..hello(Version::V311, id) };
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect("publisher"));
    for topic in ["part/a", "part/b"] {
        device.say(&Packet::Publish(Publish { retain: true, ..publish(QoS::AtMostOnce, 0, topic, b"x") }));
    }
    until_metric(&service, "retained_messages", 2);
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect("subscriber"));
    assert_eq!(device.subscribe(&[("part/+", QoS::AtMostOnce)]), [0]);
    assert!(matches!(device.hear(), Heard::Message(0, 0, topic, _) if topic == "part/a"));
    device.ping();
    assert_eq!(metric(&service, "deliveries_total{result=\"denied\"}"), 1);
}

#[test]
fn mosquitto_sub_finds_the_numbers_of_the_service() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let lines = retained(&service, "mqttv5", "$SYS/broker/clients/+", 7);
    let names = ["active", "connected", "disconnected", "expired", "inactive", "maximum", "total"];
    let wanted = names.map(|name| format!("$SYS/broker/clients/{name} 0 0 1"));
    assert_eq!(lines, wanted, "none had connected when they were made");
    assert_eq!(retained(&service, "mqttv311", "$SYS/broker/+/stored", 1), ["$SYS/broker/messages/stored 0 0 1"]);
    let bytes = ["received", "sent"].map(|name| format!("$SYS/broker/publish/bytes/{name} 0 0 1"));
    assert_eq!(retained(&service, "mqttv5", "$SYS/broker/publish/bytes/+", 2), bytes);
    let loads = retained(&service, "mqttv5", "$SYS/broker/load/+/+/1min", 7);
    let names = [
        "bytes/received",
        "bytes/sent",
        "messages/received",
        "messages/sent",
        "publish/dropped",
        "publish/received",
        "publish/sent",
    ];
    let loads = loads.iter().map(|line| line.split_once(' ').expect("topic and payload").0);
    assert!(loads.eq(names.map(|name| format!("$SYS/broker/load/{name}/1min"))));
    let version = format!("$SYS/broker/version Forebay {} 0 1", env!("CARGO_PKG_VERSION"));
    assert_eq!(retained(&service, "mqttv31", "$SYS/broker/version", 1), [version]);
    assert_eq!(metric(&service, "retained_messages"), 0);
}

#[test]
fn the_api_shows_and_ends_them() {
    let service = Service::start(&config_with("shards = 2", &format!("{SPOOL}{SINK}")));
    for number in 0..5 {
        retain(&service, "mqttv5", "1", &format!("plant/{number}"), &["-m", &format!("value {number}")]);
    }
    let raw = Publish { retain: true, ..publish(QoS::AtMostOnce, 0, "raw", b"\xff\x00") };
    Device::connect(service.mqtt(), Version::V5, "raw").say(&Packet::Publish(raw));
    until_metric(&service, "retained_messages", 6);
    let ask = |method: &str, path: &str| ask(&service, method, &format!("/api/v1/retained{path}"), "");
    // Pages of one message, over both shards.
    let (mut topics, mut cursor) = (Vec::new(), String::new());
    loop {
        let (_, page) = ask("GET", &format!("?filter=plant/%2B&limit=1{cursor}"));
        topics.extend(page["retained"].as_array().expect("rows").iter().map(|row| row["topic"].to_string()));
        let Some(next) = page["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    topics.sort();
    assert_eq!(topics, (0..5).map(|number| format!("\"plant/{number}\"")).collect::<Vec<_>>());
    let (_, one) = ask("GET", "/plant%2F3");
    assert_eq!((&one["payload"], &one["qos"], &one["stored"]), (&"value 3".into(), &1.into(), &true.into()), "{one:#}");
    let (_, raw) = ask("GET", "/raw");
    assert_eq!(
        (&raw["payload"], &raw["payload_base64"], &raw["payload_bytes"]),
        (&Value::Null, &"/wA=".into(), &2.into())
    );
    assert_eq!(ask("DELETE", "/plant%2F3").0, 204);
    assert_eq!((ask("GET", "/plant%2F3").0, ask("DELETE", "/plant%2F3").0), (404, 404));
    assert_eq!(ask("GET", "?filter=a%23").0, 400);
    assert_eq!(retained(&service, "mqttv5", "plant/#", 4).len(), 4);
    let (_, own) = ask("GET", "?filter=%24SYS/%23");
    assert!(own["retained"].as_array().is_some_and(|rows| rows.len() > 10), "{own:#}");
}
