//! Shared subscriptions with real clients, on two shards, and by the access control list.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use forebay::broker::router::owner;
use forebay::mqtt::packet::{Connect, QoS, Version};
use forebay::mqtt::property::Property;

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until_metric};
use crate::support::service::{Service, config, config_with};
use crate::support::tool;

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"to/kafka/#\"]\ntopic = \"all\"\n";

/// A client identifier that belongs to this one of two shards.
fn name_on(shard: usize, what: &str) -> String {
    let mut names = (0..).map(|number| format!("{what}-{number}"));
    names.find(|name| owner(name, 2) == shard).expect("there are many")
}

/// mosquitto_sub as a member, until it has so many messages.
fn member(service: &Service, name: &str, version: &str, filter: &str, count: usize) -> Child {
    let port = service.mqtt().port().to_string();
    let mut sub = tool("mosquitto_sub");
    sub.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-i", name, "-q", "2", "-t", filter]);
    sub.args(["-C", &count.to_string(), "-W", "60", "-F", "%p %q"]);
    sub.stdout(Stdio::piped()).spawn().expect("it starts")
}

fn lines(member: Child) -> Vec<String> {
    let output = member.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// mosquitto_pub: one client, a message for each number.
fn publish(service: &Service, topic: &str, qos: &str, numbers: std::ops::Range<usize>) {
    let port = service.mqtt().port().to_string();
    let mut publisher = tool("mosquitto_pub");
    publisher.args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-q", qos, "-t", topic, "-l"]);
    let mut publisher = publisher.stdin(Stdio::piped()).spawn().expect("it starts");
    let text: String = numbers.map(|number| format!("{number}\n")).collect();
    publisher.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    assert!(publisher.wait().expect("it ends").success());
}

#[test]
fn mosquittos_clients_share_messages_on_two_shards() {
    let service = Service::start(&config_with("shards = 2", SINK));
    for qos in ["0", "1", "2"] {
        let of = |shard, version| {
            let name = name_on(shard, &format!("{version}-{qos}"));
            member(&service, &name, version, "$share/workers/work/+", 10)
        };
        let members = [of(0, "mqttv5"), of(1, "mqttv5"), of(0, "mqttv311"), of(1, "mqttv311")];
        until_metric(&service, "subscriptions", 4);
        publish(&service, "work/x", qos, 0..40);
        let heard: Vec<_> = members.into_iter().map(lines).collect();
        assert!(heard.iter().all(|lines| lines.len() == 10), "{heard:?}");
        let all: BTreeSet<_> = heard.into_iter().flatten().collect();
        assert_eq!(all, (0..40).map(|number| format!("{number} {qos}")).collect(), "each of them once");
        until_metric(&service, "subscriptions", 0);
        until_metric(&service, "shares", 0);
    }
}

/// Messages of each topic reach one member in order, while several members take all of them.
#[test]
fn with_hash_topic_mosquittos_clients_keep_the_order_of_each_topic() {
    const TOPICS: usize = 24;
    const EACH: usize = 10;
    let strategy = "[delivery]\nshare_strategy = \"hash-topic\"\n";
    let service = Service::start(&config_with("shards = 2", &format!("{strategy}{SINK}")));
    let (said, heard) = channel();
    let member = |number: usize| {
        let name = name_on(number % 2, &format!("member-{number}"));
        let mut member = member(&service, &name, "mqttv5", "$share/workers/work/+", TOPICS * EACH);
        let (lines, said) = (BufReader::new(member.stdout.take().expect("its output")).lines(), said.clone());
        thread::spawn(move || lines.map_while(Result::ok).all(|line| said.send((number, line)).is_ok()));
        member
    };
    let members: Vec<_> = (0..4).map(member).collect();
    until_metric(&service, "subscriptions", 4);
    for topic in 0..TOPICS {
        publish(&service, &format!("work/{topic}"), ["1", "2"][topic % 2], topic * EACH..(topic + 1) * EACH);
    }
    let mut by_topic = BTreeMap::<usize, (usize, Vec<usize>)>::new();
    for _ in 0..TOPICS * EACH {
        let (member, line) = heard.recv_timeout(Duration::from_secs(30)).expect("all are delivered");
        let number: usize = line.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        let (of, numbers) = by_topic.entry(number / EACH).or_insert((member, Vec::new()));
        assert_eq!(*of, member, "{number} went to another member");
        numbers.push(number);
    }
    for (topic, (_, numbers)) in &by_topic {
        assert!(numbers.iter().copied().eq(topic * EACH..(topic + 1) * EACH), "{numbers:?}");
    }
    assert!(by_topic.values().map(|(member, _)| member).collect::<BTreeSet<_>>().len() > 1);
    for mut member in members {
        member.kill().expect("it runs");
        member.wait().expect("it ends");
    }
}

/// What is published while no member is connected waits for the first that comes, on whatever shard it is.
#[test]
fn messages_wait_for_the_first_member_that_comes() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let hour = properties([Property::SessionExpiryInterval(3600)]);
    let kept = name_on(0, "kept");
    let connect = Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, &kept) };
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
    assert_eq!(device.subscribe(&[("$share/workers/work/#", QoS::ExactlyOnce)]), [2]);
    let shown = service.get(&format!("/api/v1/clients/{kept}")).expect("an answer").1;
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["filters"][0]["filter"], "$share/workers/work/#");
    device.vanish();
    until_metric(&service, "connections", 0);
    publish(&service, "work/x", "2", 0..5);
    assert_eq!(metric(&service, "share_queued_messages"), 5);
    let other = member(&service, &name_on(1, "other"), "mqttv311", "$share/workers/work/#", 5);
    assert_eq!(lines(other), (0..5).map(|number| format!("{number} 2")).collect::<Vec<_>>());
    until_metric(&service, "share_queued_messages", 0);
    let (mut device, hello) = Device::connect_as(service.mqtt(), &connect);
    assert!(hello.session_present);
    device.ping();
}

/// It waits through kill -9, too, and on another number of shards.
#[test]
fn what_waits_is_there_after_kill_9_and_on_another_number_of_shards() {
    let mut service = Service::start(&config_with("shards = 2", &format!("[spool]\nbytes_max = \"256MiB\"\n{SINK}")));
    let hour = properties([Property::SessionExpiryInterval(3600)]);
    let kept = name_on(0, "kept");
    let connect = Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, &kept) };
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
    assert_eq!(device.subscribe(&[("$share/workers/work/#", QoS::ExactlyOnce)]), [2]);
    device.vanish();
    until_metric(&service, "connections", 0);
    publish(&service, "work/x", "1", 0..500);
    publish(&service, "work/x", "2", 500..1_000);
    assert_eq!(metric(&service, "share_queued_messages"), 1_000);
    service.kill9();
    service.start_again();
    until_metric(&service, "share_queued_messages", 1_000);
    assert_eq!(metric(&service, "share_stored_messages"), 1_000);
    service.kill9();
    let file = service.dir().join("forebay.toml");
    let config = fs::read_to_string(&file).expect("it is there");
    fs::write(&file, config.replace("shards = 2", "shards = 3")).expect("written");
    service.start_again();
    until_metric(&service, "share_queued_messages", 1_000);
    let lines = lines(member(&service, "other", "mqttv5", "$share/workers/work/#", 1_000));
    let wanted: BTreeSet<_> = (0..1_000).map(|number| format!("{number} {}", 1 + number / 500)).collect();
    assert_eq!(lines.into_iter().collect::<BTreeSet<_>>(), wanted, "each of them");
    until_metric(&service, "stored_messages", 0);
    service.kill9();
    service.start_again();
    until_metric(&service, "sessions", 1);
    assert_eq!(metric(&service, "share_queued_messages"), 0);
}

/// X41 to X43 hold for the filter behind the share name.
#[test]
fn the_access_control_list_decides_about_the_filter_behind_the_name() {
    let dir = crate::support::temp_dir();
    let (acl, passwords) = (dir.path().join("acl"), dir.path().join("passwords"));
    fs::write(&acl, "user ada\ntopic read open/#\ntopic read part/a\ntopic write #\n").expect("written");
    passwd(&passwords, &["ada"], "secret");
    let auth = auth(dir.path(), &format!("chain = [\"password\"]\nacl_file = {acl:?}"));
    let service = Service::start(&with_auth(&config(&format!("{auth}{SINK}"))));
    let connect = Connect { username: Some("ada"), password: Some(b"secret"), ..hello(Version::V5, "c") };
    let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
    let filters = ["$share/g/open/+", "$share/g/part/+", "$share/g/closed"].map(|filter| (filter, QoS::AtMostOnce));
    assert_eq!(device.subscribe(&filters), [0, 0, 0x87]);
    for topic in ["open/x", "part/a", "part/b"] {
        device.publish(QoS::AtMostOnce, 0, topic, b"x");
    }
    let message = |topic: &str| Heard::Message(0, 0, topic.to_owned(), b"x".to_vec());
    assert_eq!(device.hear_all(2), [message("open/x"), message("part/a")]);
    device.ping();
    assert_eq!(metric(&service, "deliveries_total{result=\"denied\"}"), 1);
    // After a reload that takes the right away the membership ends.
    fs::write(&acl, "user ada\ntopic read part/a\ntopic write #\n").expect("written");
    service.signal("HUP");
    until_metric(&service, "subscriptions", 1);
    device.publish(QoS::AtMostOnce, 0, "open/x", b"x");
    device.ping();
}
