//! The commands that show and change what a running service has, beyond those of its sources, rules and bridges.

use std::fs;

use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::{Properties, Property};

use crate::device::{Device, Heard, hello, properties};
use crate::sources_admin::forebay;
use crate::support::service::{Service, config};

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
    assert!(rows(&service, "clusters embedded --test")[0][0] == "ok");
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
