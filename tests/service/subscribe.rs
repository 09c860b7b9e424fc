//! Messages from client to client: across shards, with real clients, by the access control list, and after a crash.

use std::fs;
use std::process::Stdio;

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use forebay::mqtt::property::{Properties, Property};

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, VERSIONS, hello, properties, puback};
use crate::process::{metric, until, until_metric};
use crate::records::texts;
use crate::support::service::{Service, config, config_with};
use crate::support::{run, tool};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"room/#\"]\ntopic = \"all\"\n";

fn message(topic: &str, payload: impl ToString) -> Heard {
    Heard::Message(0, 0, topic.to_owned(), payload.to_string().into_bytes())
}

/// Publishers and subscribers with names enough for both shards: each message reaches each subscriber, in order, and Kafka too.
/// [MQTT-4.6.0-5] [MQTT-4.6.0-6]
#[test]
fn every_subscriber_on_every_shard_gets_every_message_in_order() {
    const MESSAGES: u16 = 50;
    let service = Service::start(&config_with("shards = 2", SINK));
    let connect = |name: String| Device::connect(service.mqtt(), Version::V5, &name);
    let mut subscribers: Vec<_> = (0..8).map(|n| connect(format!("subscriber-{n}"))).collect();
    for (number, subscriber) in subscribers.iter_mut().enumerate() {
        let filter = ["room/+", "room/#", "#"][number % 3];
        assert_eq!(subscriber.subscribe(&[(filter, QoS::AtMostOnce)]), [0]);
    }
    let mut publishers: Vec<_> = (0..4).map(|n| connect(format!("publisher-{n}"))).collect();
    for (number, publisher) in publishers.iter_mut().enumerate() {
        for id in 1..=MESSAGES {
            publisher.publish(QoS::AtLeastOnce, id, &format!("room/{number}"), id.to_string().as_bytes());
        }
        let answers = publisher.hear_all(usize::from(MESSAGES));
        assert_eq!(answers, (1..=MESSAGES).map(puback).collect::<Vec<_>>());
    }
    for subscriber in &mut subscribers {
        let heard = subscriber.hear_all(4 * usize::from(MESSAGES));
        for number in 0..4 {
            let topic = format!("room/{number}");
            let of = |heard: &&Heard| matches!(heard, Heard::Message(_, _, of, _) if *of == topic);
            let wanted: Vec<_> = (1..=MESSAGES).map(|id| message(&topic, id)).collect();
            assert_eq!(heard.iter().filter(of).cloned().collect::<Vec<_>>(), wanted);
        }
        subscriber.ping();
    }
    until_metric(&service, "deliveries_total{result=\"sent\"}", 8 * 4 * u64::from(MESSAGES));
    assert_eq!(metric(&service, "publishes_routed_total{result=\"matched\"}"), 4 * u64::from(MESSAGES));
    until("all to be in Kafka", || texts(service.embedded(), "all").len() == 4 * usize::from(MESSAGES));

    // Nothing goes to who has left.
    let mut leaver = connect("leaver".to_owned());
    leaver.subscribe(&[("room/x", QoS::AtMostOnce)]);
    leaver.leave();
    subscribers.into_iter().for_each(Device::leave);
    until_metric(&service, "subscriptions", 0);
    let mut publisher = connect("publisher".to_owned());
    publisher.publish(QoS::AtLeastOnce, 1, "elsewhere", b"x");
    assert!(matches!(publisher.hear(), Heard::Answer(_, 1, 0x10)), "no subscribers are left");
}

/// [MQTT-4.2.0-1] [3.1.1 MQTT-7.0.0-2] [3.1.1 MQTT-7.1.1-1]
#[test]
fn mosquittos_clients_talk_to_one_another() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let port = service.mqtt().port().to_string();
    let at = ["-h", "127.0.0.1", "-p", &port];
    let all =
        ["mqttv31", "mqttv311", "mqttv5"].into_iter().flat_map(|version| ["0", "1", "2"].map(|qos| (version, qos)));
    for (version, qos) in all {
        let mut subscriber = tool("mosquitto_sub");
        subscriber.args(at).args(["-V", version, "-q", qos, "-t", "home/+/temperature", "-C", "3"]);
        subscriber.args(["-W", "30", "-F", "%t %p %q"]);
        let subscriber = subscriber.stdout(Stdio::piped()).spawn().expect("it starts");
        until_metric(&service, "subscriptions", 1);
        for (topic, payload) in [("home/a/temperature", "1"), ("home/a/light", "2"), ("home/b/temperature", "3")] {
            run(tool("mosquitto_pub").args(at).args(["-V", version, "-q", "1", "-t", topic, "-m", payload]));
        }
        run(tool("mosquitto_pub").args(at).args(["-V", version, "-q", "2", "-t", "home/c/temperature", "-m", "4"]));
        let output = subscriber.wait_with_output().expect("it ends");
        let heard = String::from_utf8_lossy(&output.stdout).into_owned();
        let lower = qos.min("1");
        let wanted =
            format!("home/a/temperature 1 {lower}\nhome/b/temperature 3 {lower}\nhome/c/temperature 4 {qos}\n");
        assert_eq!(heard, wanted, "{version}, QoS {qos}");
        until_metric(&service, "subscriptions", 0);
    }
}

/// A client that is away gets what was published meanwhile, once each, in order; at QoS 0 it does not.
/// [MQTT-4.5.0-1] [MQTT-4.4.0-1] [3.1.1 MQTT-3.1.2-5] [3.1.1 MQTT-4.5.0-1] [3.1.1 MQTT-4.4.0-1]
#[test]
fn messages_wait_for_a_kept_session() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let hour = properties([Property::SessionExpiryInterval(3600)]);
    for (version, before) in VERSIONS.into_iter().zip(1..) {
        let name = format!("{version:?}");
        let properties = if version == Version::V5 { hour.as_properties() } else { Properties::EMPTY };
        let connect = Connect { clean_start: false, properties, ..hello(version, &name) };
        let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
        let filters = [("one", QoS::AtLeastOnce), ("two", QoS::ExactlyOnce), ("none", QoS::AtMostOnce)];
        assert_eq!(device.subscribe(&filters), [1, 2, 0]);
        device.vanish();
        until_metric(&service, "connections", 0);
        let mut publisher = Device::connect(service.mqtt(), Version::V311, "publisher");
        for (id, topic) in [(1, "one"), (2, "none"), (3, "two"), (4, "one")] {
            publisher.publish(QoS::ExactlyOnce, id, topic, topic.as_bytes());
            assert_eq!(publisher.hear(), Heard::Answer(PacketType::PubRec, id, 0));
            publisher.release(id);
            assert_eq!(publisher.hear(), Heard::Answer(PacketType::PubComp, id, 0));
        }
        publisher.leave();
        // Its publisher is answered before another shard has looked whether the client is there.
        until_metric(&service, "deliveries_total{result=\"disconnected\"}", before);
        let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
        let message = |qos, id, topic: &str| Heard::Message(qos, id, topic.to_owned(), topic.as_bytes().to_vec());
        let waiting = [message(1, 1, "one"), message(2, 2, "two"), message(1, 3, "one")];
        assert_eq!(device.hear_all(3), waiting, "{version:?}");
        let client = service.get(&format!("/api/v1/clients/{name}")).expect("an answer").1;
        let client: serde_json::Value = serde_json::from_str(&client).expect("JSON");
        let shown = ["subscriptions", "unacknowledged_messages", "queued_messages"].map(|field| client[field].as_u64());
        assert_eq!(shown, [Some(3), Some(3), Some(0)], "{client:#}");
        let filters = client["filters"].as_array().expect("a list");
        let of = |filter: &serde_json::Value| filter["filter"] == "two" && filter["qos"] == 2;
        assert_eq!((filters.len(), filters.iter().filter(|filter| of(filter)).count()), (3, 1), "{client:#}");
        device.acknowledge(PacketType::PubAck, 1);
        device.acknowledge(PacketType::PubRec, 2);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRel, 2, 0));
        // What it has not finished it is sent again.
        device.vanish();
        until_metric(&service, "connections", 0);
        let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
        assert_eq!(device.hear_all(2), [Heard::Answer(PacketType::PubRel, 2, 0), message(1, 3, "one")], "{version:?}");
        device.acknowledge(PacketType::PubComp, 2);
        device.acknowledge(PacketType::PubAck, 3);
        device.ping();
        Device::connect(service.mqtt(), version, &name).leave();
        device.until_closed();
        until_metric(&service, "connections", 0);
    }
    assert_eq!(metric(&service, "deliveries_total{result=\"disconnected\"}"), 3);
    until_metric(&service, "delivery_remembered_bytes", 0);
}

/// SUBACK is sent when the subscription is on the disk: after kill -9 the session has it.
#[test]
fn subscriptions_of_kept_sessions_survive_kill_9() {
    let spool = "[spool]\nbytes_max = \"256MiB\"\n";
    let mut service = Service::start(&config_with("shards = 2", &format!("{spool}{SINK}")));
    let hour = properties([Property::SessionExpiryInterval(3600)]);
    let names: Vec<_> = (0..6).map(|number| format!("kept-{number}")).collect();
    let kept = |name| Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, name) };
    let mut devices = Vec::new();
    for name in &names {
        let (mut device, _) = Device::connect_as(service.mqtt(), &kept(name));
        let own = format!("to/{name}");
        assert_eq!(device.subscribe(&[("all/#", QoS::AtMostOnce), (&own, QoS::AtMostOnce)]), [0, 0]);
        // One is given up again.
        device.subscribe(&[("given/up", QoS::AtMostOnce)]);
        device.say_bytes(b"\xA2\x0D\x00\x08\x00\x00\x08given/up");
        assert!(matches!(device.hear(), Heard::Codes(_, 8, codes) if codes == [0]));
        devices.push(device);
    }
    service.kill9();
    drop(devices);
    service.start_again();
    // Before any client has reconnected.
    until_metric(&service, "subscriptions", 12);
    let mut devices: Vec<_> = names.iter().map(|name| Device::connect_as(service.mqtt(), &kept(name))).collect();
    assert!(devices.iter().all(|(_, hello)| hello.session_present));
    let mut publisher = Device::connect(service.mqtt(), Version::V311, "publisher");
    publisher.deliver(1, "all/of/them", b"here");
    publisher.deliver(2, "given/up", b"not here");
    for (name, (device, _)) in names.iter().zip(&mut devices) {
        publisher.deliver(3, &format!("to/{name}"), name.as_bytes());
        assert_eq!(device.hear_all(2), [message("all/of/them", "here"), message(&format!("to/{name}"), name)]);
        device.ping();
    }
    // A clean start ends them.
    drop(devices);
    for name in &names {
        Device::connect(service.mqtt(), Version::V5, name).leave();
    }
    until_metric(&service, "subscriptions", 0);
}

/// X42, X43: live messages, before and after a reload.
#[test]
fn the_access_control_list_decides_what_may_be_read() {
    let dir = crate::support::temp_dir();
    let (acl, passwords) = (dir.path().join("acl"), dir.path().join("passwords"));
    let rules = "user ada\ntopic read open/#\ntopic deny open/not\ntopic read part/a\ntopic write #\n";
    fs::write(&acl, rules).expect("written");
    passwd(&passwords, &["ada"], "secret");
    let auth = auth(dir.path(), &format!("chain = [\"password\"]\nacl_file = {acl:?}"));
    let service = Service::start(&with_auth(&config(&format!("{auth}{SINK}"))));
    let connect = Connect { username: Some("ada"), password: Some(b"secret"), ..hello(Version::V5, "c") };
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
    let filters = [("open/+", QoS::AtMostOnce), ("part/+", QoS::AtMostOnce), ("closed", QoS::AtMostOnce)];
    assert_eq!(device.subscribe(&filters), [0, 0, 0x87]);
    assert_eq!(device.subscribe(&[("open/not", QoS::AtMostOnce)]), [0x87], "all that it matches is denied");
    let publish = |device: &mut Device, topic: &str| device.publish(QoS::AtMostOnce, 0, topic, b"x");
    ["open/x", "part/a", "part/b"].iter().for_each(|topic| publish(&mut device, topic));
    assert_eq!(device.hear_all(2), [message("open/x", "x"), message("part/a", "x")]);
    device.ping();
    assert_eq!(metric(&service, "deliveries_total{result=\"denied\"}"), 1);

    // Other rules: what may not be read any more ends, and what may stays.
    fs::write(&acl, "user ada\ntopic read part/b\ntopic write #\n").expect("written");
    service.signal("HUP");
    until_metric(&service, "subscriptions", 1);
    ["open/x", "part/a", "part/b"].iter().for_each(|topic| publish(&mut device, topic));
    assert_eq!(device.hear(), message("part/b", "x"));
    device.ping();
    assert_eq!(metric(&service, "acl_denied_total{operation=\"subscribe\"}"), 3);
}
