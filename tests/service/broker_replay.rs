//! `[broker]`: a subscription with its past gets the records that Kafka has, then new ones, each once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Connect, Packet, PacketType, QoS, Subscribe, SubscriptionOptions, Version};
use forebay::mqtt::property::Property;

use crate::broker::{Names, until_read};
use crate::change::get;
use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until, until_metric};
use crate::support::service::{Service, config, config_with};
use crate::support::{plain_python, run, temp_dir, tool};

/// Writes these messages for devices in one go, by any program: their numbers go on from `first`.
fn write(names: &Names, first: usize, count: usize) {
    let mut lines = String::new();
    for number in first..first + count {
        writeln!(lines, "place/{}/device/lamp|{number}", number % 7).expect("it is memory");
    }
    let dir = temp_dir();
    let file = dir.path().join("records");
    fs::write(&file, lines).expect("it can be written");
    run(names.kcat(&["-P", "-t", &names.devices, "-K", "|", "-l"]).arg(file));
}

/// Payloads by topic, in their order.
fn by_topic<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    all.for_each(|(topic, payload)| found.entry(topic.to_owned()).or_default().push(payload.to_owned()));
    found
}

/// What kcat reads.
fn in_kafka(names: &Names) -> BTreeMap<String, Vec<String>> {
    let records = names.read(&names.devices);
    by_topic(records.iter().map(|record| {
        let mut parts = record.split('|');
        (parts.next().expect("a key"), parts.next().expect("a value"))
    }))
}

/// What a client has printed: topic and payload in each line.
fn printed(text: &str) -> BTreeMap<String, Vec<String>> {
    by_topic(text.lines().map(|line| line.split_once(' ').expect("topic and payload")))
}

fn mosquitto_sub(service: &Service, filter: &str, count: usize) -> Command {
    let mut client = tool("mosquitto_sub");
    let (port, count) = (service.mqtt().port().to_string(), count.to_string());
    client.args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv311", "-q", "1", "-W", "120", "-F", "%t %p"]);
    client.args(["-t", filter, "-C", &count]);
    client
}

fn paho(service: &Service, filter: &str, from: &str, count: usize) -> Command {
    let mut client = plain_python("replay.py");
    client.args([&service.mqtt().port().to_string(), filter, from, &count.to_string()]);
    client
}

/// The past of a week is what kcat reads, and what a program writes meanwhile comes after it, each record once and each topic in its order; to a client of 3.1.1
/// and to one of 5.0, on any number of shards.
#[test]
fn the_past_and_the_present_are_what_kafka_has() {
    for shards in [1, 3] {
        let names = Names::new("replay");
        let service = Service::start(&config_with(&format!("shards = {shards}"), &names.config("")));
        until_read(&service);
        write(&names, 0, 2_000);
        until("the past to be past", || metric(&service, "source_records_total") == 2_000);
        let total = 6_000;
        let mut clients = Vec::new();
        for filter in ["$replay/earliest/place/+/device/#", "$replay/-7d/place/#"] {
            clients.push(mosquitto_sub(&service, filter, total));
        }
        for from in ["offset:0", "-1h", "1970-01-01T00:00:00Z"] {
            clients.push(paho(&service, "place/+/device/lamp", from, total));
        }
        let clients: Vec<_> =
            clients.iter_mut().map(|client| client.stdout(Stdio::piped()).spawn().expect("it runs")).collect();
        // A producer goes on.
        for round in 0..20 {
            write(&names, 2_000 + round * 200, 200);
            thread::sleep(Duration::from_millis(20));
        }
        let wanted = in_kafka(&names);
        assert_eq!(wanted.values().map(Vec::len).sum::<usize>(), total);
        for client in clients {
            let output = client.wait_with_output().expect("it ends");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{shards}: {} messages: {:?}", text.lines().count(), output.stderr);
            assert_eq!(printed(&text), wanted, "{shards}");
        }
        assert_eq!(metric(&service, "replays_total{result=\"aborted\"}"), 0);
        until_metric(&service, "replays_open{state=\"running\"}", 0);
    }
}

/// A client that is there for a while gets nothing twice: after the past of one partition each, and of an offset, messages come once.
#[test]
fn nothing_comes_twice_after_the_past() {
    let names = Names::new("replay-once");
    let service = Service::start(&config(&names.config("")));
    until_read(&service);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    (0..10).for_each(|number| publisher.deliver(1, "place/1/device/a", number.to_string().as_bytes()));
    let mut device = Device::connect(service.mqtt(), Version::V311, "");
    assert_eq!(device.subscribe(&[("$replay/offset:6/place/1/#", QoS::AtLeastOnce)]), [1]);
    for number in 6..10 {
        assert_eq!(crate::broker::next(&mut device).1, number.to_string());
    }
    until_metric(&service, "replays_total{result=\"live\"}", 1);
    for number in 10..20 {
        publisher.deliver(1, "place/1/device/a", number.to_string().as_bytes());
        assert_eq!(crate::broker::next(&mut device).1, number.to_string());
    }
    device.ping();
}

/// Who runs the broker sees a replay with its client: how far it is, and none once it is over.
#[test]
fn a_replay_is_shown_with_its_client() {
    let names = Names::new("replay-shown");
    let service = Service::start(&config(&names.config("")));
    until_read(&service);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    (0..10).for_each(|number| publisher.deliver(1, "place/1/device/a", number.to_string().as_bytes()));
    let one = properties([Property::ReceiveMaximum(1)]);
    let slow = Connect { properties: one.as_properties(), ..hello(Version::V5, "slow") };
    let (mut device, _) = Device::connect_as(service.mqtt(), &slow);
    assert_eq!(
        device.subscribe(&[("$replay/earliest/place/1/#", QoS::AtLeastOnce), ("other", QoS::AtMostOnce)]),
        [1, 0]
    );
    let of = |filter: &str| {
        let client = get(&service, "clients/slow");
        client["filters"].as_array().expect("filters").iter().find(|of| of["filter"] == filter).expect("it").clone()
    };
    let replay = || of("place/1/#")["replay"].clone();
    // It takes one message at a time, and has acknowledged none.
    until("the replay to be shown", || replay()["state"] == "reading");
    assert!(replay()["partitions"].as_u64() > replay()["partitions_live"].as_u64(), "{}", replay());
    assert_eq!(of("other").get("replay"), None, "another subscription has none");
    let (shown, _) = crate::sources_admin::forebay(&service, &["clients", "slow"]);
    assert!(shown.contains("REPLAY") && shown.contains("reading, ") && shown.contains(" partitions live"), "{shown}");
    for number in 0..10 {
        assert_eq!(crate::broker::next(&mut device).1, number.to_string());
    }
    until("it to be over", || replay().is_null());
}

/// A kept session gets the past at QoS 2, each message once, with what its own client has published left out where it wants no local ones.
#[test]
fn a_kept_session_gets_the_past_at_qos_2() {
    let names = Names::new("replay-kept");
    let service = Service::start(&config_with("shards = 2", &names.config("")));
    until_read(&service);
    let hour = properties([Property::SessionExpiryInterval(3_600)]);
    let kept = Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, "kept") };
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept);
    device.deliver(1, "place/1/device/a", b"own");
    let mut other = Device::connect(service.mqtt(), Version::V5, "other");
    let payloads = ["0", "1", "2", "3"];
    for payload in payloads {
        other.publish(QoS::ExactlyOnce, 5, "place/1/device/a", payload.as_bytes());
        assert_eq!(other.hear(), Heard::Answer(PacketType::PubRec, 5, 0));
        other.release(5);
        assert_eq!(other.hear(), Heard::Answer(PacketType::PubComp, 5, 0));
    }
    let from = properties([Property::UserProperty("replay-from", "earliest")]);
    let options = SubscriptionOptions { qos: QoS::ExactlyOnce, no_local: true, ..SubscriptionOptions::default() };
    let mut filters = FilterBuf::for_subscribe();
    assert!(filters.push("place/#", options));
    let subscribe = Subscribe { packet_id: 7, properties: from.as_properties(), filters: filters.as_filters() };
    device.say(&Packet::Subscribe(subscribe));
    let (mut got, mut released) = (Vec::new(), 0);
    while released < payloads.len() {
        match device.hear() {
            Heard::Codes(PacketType::SubAck, 7, codes) => assert_eq!(codes, [2]),
            Heard::Message(2, id, _, payload) => {
                got.push(String::from_utf8(payload).expect("text"));
                device.acknowledge(PacketType::PubRec, id);
            }
            Heard::Answer(PacketType::PubRel, id, 0) => {
                device.acknowledge(PacketType::PubComp, id);
                released += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, payloads);
    until_metric(&service, "replays_total{result=\"live\"}", 1);
    other.deliver(6, "place/1/device/a", b"live");
    assert_eq!(crate::broker::next(&mut device).1, "live");
}

/// Who may read may not for that see the past: a list has to say so.
#[test]
fn the_past_is_granted_by_the_list() {
    let names = Names::new("replay-list");
    let dir = temp_dir();
    let acl = dir.path().join("acl");
    fs::write(&acl, "topic readwrite #\ntopic replay place/1/#\n").expect("it can be written");
    let auth = format!("[auth.devices]\nchain = [\"anonymous\"]\nacl_file = \"{}\"\n", acl.display());
    let text = config(&names.config(&auth));
    let text = text.replacen("transport = \"tcp\"\n", "transport = \"tcp\"\nauth = \"devices\"\n", 1);
    let service = Service::start(&text);
    until_read(&service);
    write(&names, 0, 70);
    let code = |output: String| output.trim_end().to_owned();
    assert_eq!(code(run(&mut paho(&service, "place/2/#", "-1h", 1))), "135 not authorized to replay");
    let refused = code(run(&mut paho(&service, "place/1/#", "last week", 1)));
    assert!(refused.starts_with("143 a replay begins at a time"), "{refused}");
    let some = run(&mut paho(&service, "#", "-1h", 10));
    assert_eq!(printed(&some).keys().collect::<Vec<_>>(), ["place/1/device/lamp"], "of the rest, live messages alone");
    let (status, events) = service.get("/api/v1/events?limit=100").expect("events");
    assert!(status == 200 && events.contains("acl_denied") && events.contains("\"replay\""), "{events}");
}

/// The routes have changed since: the past is in the topic that it was written to.
#[test]
fn finding_q7_a_past_from_before_the_routes_changed_is_there() {
    let names = Names::new("replay-routes");
    let mut before = Service::start(&config(&names.config("")));
    let mut publisher = Device::connect(before.mqtt(), Version::V5, "publisher");
    (1..=10).for_each(|number: u16| publisher.deliver(number, "load/1", number.to_string().as_bytes()));
    assert!(before.terminate().success());
    let after = Service::start(&config(&(names.config("") + &crate::instances::route(&names, "load/#"))));
    let mut publisher = Device::connect(after.mqtt(), Version::V5, "publisher");
    (11..=13).for_each(|number: u16| publisher.deliver(number, "load/1", number.to_string().as_bytes()));
    let mut device = Device::connect(after.mqtt(), Version::V5, "reader");
    assert_eq!(device.subscribe(&[("$replay/-1h/load/#", QoS::AtLeastOnce)]), [1]);
    let mut got: Vec<u16> = (0..13).map(|_| crate::broker::next(&mut device).1.parse().expect("a number")).collect();
    got.sort_unstable();
    assert!(got.into_iter().eq(1..=13));
}
