//! Retained messages: across shards, with real clients, through kill -9, and by the access control list.

use std::fs;

use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Version};

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, hello, publish};
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
            assert_eq!(metric(&service, "retained_messages"), 15);
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
