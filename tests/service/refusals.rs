//! What a sink will never take: who else has the message does not depend on QoS, protocol version or publisher, and only whether the publisher
//! is told does.

use std::collections::BTreeSet;
use std::fs;

use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, Version, Will};
use forebay::mqtt::property::Properties;

use crate::device::{Device, Heard, hello, publish};
use crate::process::{metric, until, until_metric};
use crate::records::read_when;
use crate::support::service::{Service, config};

/// `value` asks for a field that the payload does not have.
const SINKS: &str = "[[sink]]\nname = \"good\"\nfilters = \"t/#\"\ntopic = \"good\"\n\
    [[sink]]\nname = \"dead\"\nfilters = \"t/dead/#\"\ntopic = \"picky\"\nvalue = \"${payload.x}\"\ndead_letters_file = \"$DIR/dead.jsonl\"\n\
    [[sink]]\nname = \"gate\"\nfilters = \"t/gate/#\"\ntopic = \"picky\"\nvalue = \"${payload.x}\"\non_refuse = \"reject\"\ndead_letters_file = \"$DIR/gate.jsonl\"\n\
    [[sink]]\nname = \"mute\"\nfilters = \"t/mute/#\"\ntopic = \"picky\"\nvalue = \"${payload.x}\"\non_refuse = \"reject\"\ndead_letters_file = \"none\"\n\
    [[sink]]\nname = \"drop\"\nfilters = \"t/drop/#\"\ntopic = \"picky\"\nvalue = \"${payload.x}\"\non_refuse = \"drop\"\n";

const SINKS_THAT_REFUSE: [&str; 4] = ["dead", "gate", "mute", "drop"];

/// Protocol version, and the QoS of a PUBLISH or `None` for a will.
const PUBLISHERS: [(Version, Option<QoS>); 8] = [
    (Version::V5, Some(QoS::AtMostOnce)),
    (Version::V5, Some(QoS::AtLeastOnce)),
    (Version::V5, Some(QoS::ExactlyOnce)),
    (Version::V5, None),
    (Version::V311, Some(QoS::AtMostOnce)),
    (Version::V311, Some(QoS::AtLeastOnce)),
    (Version::V311, Some(QoS::ExactlyOnce)),
    (Version::V311, None),
];

fn topic(sink: &str, (version, qos): (Version, Option<QoS>)) -> String {
    format!("t/{sink}/{version:?}-{}", qos.map_or("will".to_owned(), |qos| (qos as u8).to_string()))
}

/// Publishes with RETAIN as this publisher does, and checks its answer. `code`: the answer to a PUBLISH of 5.0; `old`: that to one of 3.1.1,
/// `None`: the connection ends.
fn send(service: &Service, topic: &str, (version, qos): (Version, Option<QoS>), (code, old): (u8, Option<u8>)) {
    let Some(qos) = qos else {
        let properties = Properties::EMPTY;
        let will = Will { qos: QoS::AtLeastOnce, retain: true, topic, payload: b"notjson", properties };
        let connect = Connect { will: Some(will), ..hello(version, topic) };
        return Device::connect_as(service.mqtt(), &connect).0.vanish();
    };
    let mut device = Device::connect(service.mqtt(), version, topic);
    let packet_id = u16::from(qos != QoS::AtMostOnce);
    device.say(&Packet::Publish(Publish { retain: true, ..publish(qos, packet_id, topic, b"notjson") }));
    let kind = match qos {
        QoS::AtMostOnce => return device.ping(),
        QoS::AtLeastOnce => PacketType::PubAck,
        QoS::ExactlyOnce => PacketType::PubRec,
    };
    let answer = if version == Version::V5 { Some(code) } else { old };
    let expected = answer.map_or(Heard::Closed, |code| Heard::Answer(kind, 1, code));
    assert_eq!(device.hear(), expected, "{topic}");
}

fn topics_heard(device: &mut Device, count: usize) -> BTreeSet<String> {
    let heard = device.hear_all(count);
    let topic = |heard: Heard| if let Heard::Message(_, _, topic, _) = heard { topic } else { panic!("{heard:?}") };
    heard.into_iter().map(topic).collect()
}

#[test]
fn finding_r1_who_has_a_message_depends_on_no_version_and_no_qos() {
    let service = Service::start(&config(SINKS));
    let mut subscriber = Device::connect(service.mqtt(), Version::V5, "subscriber");
    subscriber.subscribe(&[("t/#", QoS::AtMostOnce)]);
    for publisher in PUBLISHERS {
        for (sink, answers) in
            SINKS_THAT_REFUSE.into_iter().zip([(0, Some(0)), (0x99, Some(0)), (0x99, None), (0, Some(0))])
        {
            send(&service, &topic(sink, publisher), publisher, answers);
        }
    }
    let all = |sinks: &[&str]| -> BTreeSet<String> {
        sinks.iter().flat_map(|sink| PUBLISHERS.map(|publisher| topic(sink, publisher))).collect()
    };
    // What one sink refuses goes everywhere else; what a gate refuses, nowhere.
    let everywhere = all(&["dead", "drop"]);
    assert_eq!(topics_heard(&mut subscriber, everywhere.len()), everywhere, "a subscriber");
    let records = read_when(service.embedded(), "good", everywhere.len());
    assert_eq!(records.into_iter().map(|record| record.key).collect::<BTreeSet<_>>(), everywhere, "another sink");
    let refused = 2 * PUBLISHERS.len() as u64;
    until_metric(&service, "publishes_routed_total{result=\"refused\"}", refused);
    until_metric(&service, "publishes_routed_total{result=\"matched\"}", refused);
    // Nothing else has come meanwhile.
    let mut marker = Device::connect(service.mqtt(), Version::V5, "marker");
    marker.deliver(1, "t/marker", b"x");
    assert_eq!(topics_heard(&mut subscriber, 1), BTreeSet::from(["t/marker".to_owned()]));
    let mut late = Device::connect(service.mqtt(), Version::V5, "late");
    late.subscribe(&[("t/#", QoS::AtMostOnce)]);
    assert_eq!(topics_heard(&mut late, everywhere.len()), everywhere, "retained");
    late.ping();

    let letters = |sink: &str, count: usize| -> BTreeSet<String> {
        let path = service.dir().join(format!("{sink}.jsonl"));
        let lines = || fs::read_to_string(&path).unwrap_or_default();
        until("the dead letters", || lines().lines().count() >= count);
        let topic = |line: &str| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["mqtt_topic"].as_str().unwrap().to_owned()
        };
        lines().lines().map(topic).collect()
    };
    assert_eq!(letters("dead", PUBLISHERS.len()), all(&["dead"]));
    // A publisher that gets a reason code has no dead letter.
    let hears = |(version, qos): &(Version, Option<QoS>)| {
        *version == Version::V5 && qos.is_some_and(|qos| qos != QoS::AtMostOnce)
    };
    let unheard = PUBLISHERS.iter().filter(|publisher| !hears(publisher));
    let unheard: BTreeSet<String> = unheard.map(|publisher| topic("gate", *publisher)).collect();
    assert_eq!(letters("gate", unheard.len()), unheard);
    // Of each: what went nowhere, and what the sink went without; the others are counted as dead letters.
    let told = PUBLISHERS.iter().filter(|publisher| hears(publisher)).count();
    let refused = metric(&service, "sink_publishes_refused_total{reason=\"payload_field_missing\"}");
    assert_eq!(refused as usize, 2 * PUBLISHERS.len() + told);
}
