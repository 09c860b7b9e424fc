//! The commands that show and change what a running service has, beyond those of its sources, rules and bridges.

use std::fs;
use std::net::TcpListener;

use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::{Properties, Property};

use crate::device::{Device, Heard, hello, properties};
use crate::process::until;
use crate::sources_admin::forebay;
use crate::support::service::{Service, config, program};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// What a command prints, cell by cell; it succeeds.
fn rows(service: &Service, command: &str) -> Vec<Vec<String>> {
    let (text, is_ok) = forebay(service, &command.split(' ').collect::<Vec<_>>());
    assert!(is_ok, "{command}: {text}");
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    text.lines().map(cells).collect()
}

fn fails(service: &Service, command: &str) -> String {
    let (text, is_ok) = forebay(service, &command.split(' ').collect::<Vec<_>>());
    assert!(!is_ok, "{command}: {text}");
    text
}

#[test]
fn clients_and_what_they_have() {
    let service = Service::start(&config(SINK));
    let hour = properties([Property::SessionExpiryInterval(3_600)]);
    let connect = Connect { properties: hour.as_properties(), ..hello(Version::V5, "sub") };
    let mut device = Device::connect_as(service.mqtt(), &connect).0;
    assert_eq!(device.subscribe(&[("a/#", QoS::AtLeastOnce), ("$share/g/b/#", QoS::AtMostOnce)]), [1, 0]);
    let retained = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "r/1",
        packet_id: 3,
        properties: Properties::EMPTY,
        payload: b"kept here",
    };
    device.say(&Packet::Publish(retained));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 3, 0));
    let filters = |command: &str| rows(&service, command)[1..].iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(filters("subscriptions"), ["$share/g/b/#", "a/#"]);
    assert_eq!(filters("subscriptions --topic a/7"), ["a/#"]);
    assert_eq!(filters("subscriptions --filter $share/g/b/#"), ["$share/g/b/#"]);
    assert_eq!(rows(&service, "subscriptions --topic a/7")[1], ["a/#", "sub", "-", "yes", "1", "yes"]);
    let [_, listener] = &rows(&service, "listeners")[..] else { panic!("one listener") };
    assert_eq!(listener[..4], [service.mqtt().to_string(), "tcp".into(), "1".into(), "1".into()]);
    assert_eq!(rows(&service, "clusters")[1][..2], ["embedded", "yes"]);
    assert!(rows(&service, "clusters embedded test")[0][0] == "ok");
    assert_eq!(filters("retained"), ["r/1"]);
    let (shown, _) = forebay(&service, &["retained", "r/1", "show"]);
    assert!(shown.contains("\"payload\": \"kept here\""), "{shown}");
    assert_eq!(rows(&service, "retained r/1 delete"), [["deleted"]]);
    assert!(filters("retained").is_empty());
    assert_eq!(rows(&service, "clients sub disconnect"), [["disconnected"]]);
    assert_eq!(device.hear(), Heard::Disconnect(0x98));
    assert!(fails(&service, "clients nobody disconnect").contains("no client \"nobody\" is connected"));
    assert_eq!(rows(&service, "clients sub forget"), [["forgotten"]]);
    assert!(filters("clients").is_empty() && filters("subscriptions").is_empty());
}

#[test]
fn a_sink_is_created_tried_and_removed() {
    let service = Service::start(&config(SINK));
    let file = service.dir().join("sink.toml");
    let put = format!("sinks two put --file {}", file.display());
    fs::write(&file, "filters = [\"z/#\"]\ntopic = \"two-${topic[1]}\"\nvalu = \"x\"\n").expect("a file");
    assert!(fails(&service, &put).contains("unknown key"), "nothing is applied");
    assert!(fails(&service, "sinks two").contains("no sink \"two\""));
    fs::write(&file, "filters = [\"z/#\"]\ntopic = \"two-${topic[1]}\"\n").expect("a file");
    let (said, _) = forebay(&service, &put.split(' ').collect::<Vec<_>>());
    assert!(said.contains("sink two (added)"), "{said}");
    let tried = rows(&service, "sinks two test --topic z/9 --payload hot");
    assert_eq!(tried[..2], [["matches", "true"], ["topic", "two-9"]]);
    assert_eq!(rows(&service, "sinks two")[1][..2], ["two", "running"]);
    let (said, _) = forebay(&service, &["sinks", "two", "delete"]);
    assert!(said.contains("sink two (removed)"), "{said}");
    assert!(fails(&service, "sinks two").contains("no sink \"two\""));
    let histograms = rows(&service, "histograms");
    assert!(histograms.iter().any(|row| row[0] == "forebay_kafka_produce_seconds"), "{histograms:?}");
}

/// What a command says, as it is; it succeeds.
fn says(service: &Service, command: &str) -> String {
    let (text, is_ok) = forebay(service, &command.split(' ').collect::<Vec<_>>());
    assert!(is_ok, "{command}: {text}");
    text
}

#[test]
fn status_shows_the_service_as_a_whole_and_what_does_not_run() {
    let two = "[[sink]]\nname = \"two\"\nfilters = [\"z/#\"]\ntopic = \"two\"\n";
    let service = Service::start(&config(&format!("{SINK}{two}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "sub");
    device.subscribe(&[("a/#", QoS::AtLeastOnce), ("$share/g/b/#", QoS::AtMostOnce)]);
    let shown = rows(&service, "status");
    let of = |name: &str| shown.iter().find(|row| row[0] == name).map(|row| row[1].as_str());
    assert_eq!([of("ready"), of("healthy"), of("sessions")], [Some("yes"), Some("yes"), Some("1")], "{shown:?}");
    assert_eq!([of("connections"), of("subscriptions")], [Some("1 (0 not read)"), Some("2 (1 shares)")], "{shown:?}");
    assert!(of("shards").is_some_and(|shards| shards.starts_with("1 (")), "{shown:?}");
    let parts = [
        "sinks: 2, 0 of them not running",
        "sources: 0, 0 of them not running",
        "rules: 0, 0 of them not running",
        "bridges: 0, 0 of them not running",
    ];
    assert_eq!(shown[shown.len() - 4..], parts.map(|line| vec![line.to_owned()]));
    says(&service, "sinks two pause");
    let text = says(&service, "status");
    assert!(text.contains("sinks: 2, 1 of them not running\nsink two is paused"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&says(&service, "status --json")).expect("JSON");
    assert_eq!((&json["ready"], &json["connections"]), (&true.into(), &1.into()), "{json:#}");
    // Nobody is there.
    let output = program().args(["status", "--control", "127.0.0.1:1"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && text.contains("127.0.0.1:1"), "{output:?}");
}

#[test]
fn the_log_level_is_shown_and_set() {
    let service = Service::start(&config(SINK));
    assert_eq!(says(&service, "log-level"), "info\n");
    assert_eq!(says(&service, "log-level debug"), "debug\n");
    assert_eq!(says(&service, "log-level"), "debug\n");
    drop(Device::connect(service.mqtt(), Version::V5, "noisy"));
    until("its line", || service.log().lines().any(|line| line.contains("client_connected") && line.contains("noisy")));
    assert!(fails(&service, "log-level forebay=loud").contains("loud"));
    assert_eq!(says(&service, "log-level"), "debug\n", "a level that is refused changes nothing");
    let json: serde_json::Value = serde_json::from_str(&says(&service, "log-level warn --json")).expect("JSON");
    assert_eq!(json["level"], "warn");
}

#[test]
fn a_listener_is_created_changed_and_removed() {
    let service = Service::start(&config(SINK));
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let (file, keys) = (service.dir().join("forebay.toml"), service.dir().join("listener.toml"));
    let put = format!("listeners {free} put --file {}", keys.display());
    let listed = || rows(&service, "listeners")[1..].iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    fs::write(&keys, "recepts = true\n").expect("a file");
    assert!(fails(&service, &put).contains("did you mean \"receipts\"?"));
    fs::write(&keys, "receipts = true\n").expect("a file");
    let said = says(&service, &format!("{put} --dry-run"));
    assert!(said.contains(&format!("would be applied: listener {free} (added)")), "{said}");
    assert_eq!(listed(), [service.mqtt().to_string()], "nothing is done");
    let said = says(&service, &put);
    assert!(said.starts_with(&format!("applied: listener {free} (added)\n")), "{said}");
    assert!(said.contains(&format!("in force, not in the file: listener {free}")), "{said}");
    assert_eq!(listed(), [service.mqtt().to_string(), free.to_string()]);
    let mut device = Device::connect(free, Version::V5, "device");
    let before = fs::read_to_string(&file).expect("the file");
    fs::write(&keys, "receipts = false\n").expect("a file");
    let said = says(&service, &format!("{put} --persist"));
    assert!(said.contains(&format!("applied: listener {free} (changed: receipts)")), "{said}");
    let after = fs::read_to_string(&file).expect("the file");
    let written = format!("\n[[listener]]\nbind = \"{free}\"\nreceipts = false\n");
    assert_eq!(after.replace(&written, ""), before, "nothing else is written");
    assert!(after.contains(&written), "{after}");
    let said = says(&service, &format!("listeners {free} delete"));
    assert!(said.contains(&format!("applied: listener {free} (removed)")), "{said}");
    assert!(said.contains("disconnected: 1 client\n"), "{said}");
    assert_eq!(device.hear(), Heard::Disconnect(0x98));
    assert_eq!(listed(), [service.mqtt().to_string()]);
    assert!(fails(&service, &format!("listeners {free} delete")).contains(&free.to_string()), "it is gone");
    assert!(fails(&service, &format!("listeners {free} put")).contains("--file"));
}

#[test]
fn a_cluster_is_created_changed_and_removed() {
    let service = Service::start(&config(SINK));
    let keys = service.dir().join("cluster.toml");
    let put = format!("clusters other put --file {}", keys.display());
    let listed = || rows(&service, "clusters")[1..].iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    fs::write(&keys, "client_id = \"x\"\n").expect("a file");
    assert!(fails(&service, &put).contains("bootstrap"));
    fs::write(&keys, format!("bootstrap = \"{}\"\n", service.embedded())).expect("a file");
    let said = says(&service, &format!("{put} --dry-run"));
    assert!(said.contains("would be applied: kafka other (added)"), "{said}");
    assert_eq!(listed(), ["embedded"], "nothing is done");
    let said = says(&service, &put);
    assert!(said.contains("applied: kafka other (added)"), "{said}");
    assert_eq!(listed(), ["embedded", "other"]);
    assert_eq!(rows(&service, "clusters other").len(), 2);
    fs::write(&keys, format!("bootstrap = \"{}\"\nlinger = 1\n", service.embedded())).expect("a file");
    assert!(fails(&service, &put).contains("linger"));
    // A cluster that is used stays.
    let sink = service.dir().join("sink.toml");
    fs::write(&sink, "filters = [\"z/#\"]\ntopic = \"two\"\nkafka = \"other\"\n").expect("a file");
    says(&service, &format!("sinks two put --file {}", sink.display()));
    assert!(fails(&service, "clusters other delete").contains("other"));
    assert_eq!(listed(), ["embedded", "other"]);
    says(&service, "sinks two delete");
    let said = says(&service, "clusters other delete");
    assert!(said.contains("applied: kafka other (removed)"), "{said}");
    assert_eq!(listed(), ["embedded"]);
    assert!(fails(&service, "clusters other delete").contains("other"), "it is gone");
}
