//! Dead letters of the built program, against a Kafka that refuses: the embedded log of a second service, which takes
//! smaller batches than the first one sends; and a real Kafka, which also forbids.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use forebay::mqtt::packet::{Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::Property;

use crate::device::{Device, Heard, properties, publish};
use crate::process::{metric, until, until_metric};
use crate::records::read_when;
use crate::support::kafka::Kafka;
use crate::support::service::{Service, config, program};

const NARROW: &str = "message_bytes_max = \"64KiB\"\n[[sink]]\nname = \"none\"\nfilters = \"none\"\ntopic = \"none\"\nbatch_bytes = \"32KiB\"\nrecord_bytes_max = \"32KiB\"\n";

/// A log that takes 64 KiB, and a service that sends it more.
fn refused(dead_letters: &str) -> (Service, Service) {
    let kafka = Service::start(&config(NARROW));
    let sinks = format!(
        "[kafka.main]\nbootstrap = \"{}\"\n[[sink]]\nname = \"wide\"\nfilters = \"#\"\ntopic = \"wide\"\n{dead_letters}\n",
        kafka.embedded()
    );
    let service = Service::start(&config(&sinks));
    (kafka, service)
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

#[test]
fn a_record_that_kafka_finds_too_large_is_in_the_file_before_its_publisher_hears() {
    let (_kafka, service) = refused("dead_letters_file = \"$DIR/dead/wide.jsonl\"\ndead_letters_files_max = 2");
    let path = service.dir().join("dead/wide.jsonl");
    for version in [Version::V311, Version::V5] {
        let mut device = Device::connect(service.mqtt(), version, "dev");
        let before = lines(&path).len();
        for (id, qos, answer) in [(1, QoS::AtLeastOnce, PacketType::PubAck), (2, QoS::ExactlyOnce, PacketType::PubRec)]
        {
            device.publish(qos, id, "a/b", &[b'x'; 100_000]);
            assert_eq!(device.hear(), Heard::Answer(answer, id, 0));
            let lines = lines(&path);
            let last = lines.last().expect("a dead letter");
            assert_eq!(lines.len(), before + usize::from(id));
            assert_eq!((&last["reason"], &last["kafka_code"]), (&"MESSAGE_TOO_LARGE".into(), &10.into()));
            assert_eq!((&last["mqtt_topic"], &last["client_id"]), (&"a/b".into(), &"dev".into()));
            assert_eq!(last["value"].as_str().map(str::len), Some(100_000));
        }
        // What fits goes its way, before and after.
        device.deliver(3, "a/b", b"small");
    }
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.publish(QoS::AtMostOnce, 0, "a/b", &[b'x'; 100_000]);
    until_metric(&service, "sink_dead_letter_file_records_total", 5);
    assert_eq!(metric(&service, "sink_records_in_total{source=\"publish\"}"), 7);
    assert_eq!(metric(&service, "sink_records_out_total{result=\"delivered\"}"), 2);
    assert_eq!(metric(&service, "sink_records_out_total{result=\"refused\"}"), 0);
}

/// Without any setting: the one sink takes it, the other never will, and an old device could only send it again and again.
#[test]
fn what_one_of_two_sinks_refuses_is_kept_and_an_old_device_is_answered() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"small\"\nfilters = \"a/#\"\ntopic = \"small\"\nrecord_bytes_max = \"1KiB\"\n\
         [[sink]]\nname = \"large\"\nfilters = \"a/#\"\ntopic = \"large\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V311, "old");
    for (id, qos, answer) in [(1, QoS::AtLeastOnce, PacketType::PubAck), (2, QoS::ExactlyOnce, PacketType::PubRec)] {
        device.publish(qos, id, "a/b", &[b'x'; 5_000]);
        assert_eq!(device.hear(), Heard::Answer(answer, id, 0));
    }
    assert_eq!(read_when(service.embedded(), "large", 2).len(), 2, "each once");
    let lines = lines(&service.dir().join("data/dead-letters.jsonl"));
    let said = lines
        .iter()
        .map(|line| [&line["sink"], &line["reason"], &line["client_id"]].map(|field| field.as_str().unwrap()));
    assert_eq!(said.collect::<Vec<_>>(), [["small", "TOO_LARGE", "old"]; 2]);
    assert_eq!(metric(&service, "sink_dead_letter_file_records_total"), 2);
}

/// A device may name its user properties as it likes.
#[test]
fn a_device_cannot_forge_what_a_dead_letter_says() {
    let (kafka, service) = refused("dead_letters_topic = \"dead\"");
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let forged = [("dead-letter-sink", "forged"), ("dead-letter-qos", "7"), ("site", "berlin")];
    let properties = properties(forged.map(|(name, value)| Property::UserProperty(name, value)));
    let payload = [b'x'; 100_000];
    let message = publish(QoS::AtLeastOnce, 1, "a/b", &payload);
    device.say(&Packet::Publish(Publish { properties: properties.as_properties(), ..message }));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 1, 0));
    let records = read_when(kafka.embedded(), "dead", 1);
    let of = |name: &str| -> Vec<&str> {
        let headers = records[0].headers.iter().filter(|(own, _)| own == name);
        headers.map(|(_, value)| value.as_str()).collect()
    };
    assert_eq!((of("dead-letter-sink"), of("dead-letter-qos"), of("site")), (vec!["wide"], vec![], vec!["berlin"]));
}

#[test]
fn without_a_file_its_beginning_is_in_the_topic() {
    let (kafka, service) = refused("dead_letters_topic = \"dead\"");
    let mut device = Device::connect(service.mqtt(), Version::V311, "dev");
    device.publish(QoS::AtLeastOnce, 1, "a/b", &[b'x'; 100_000]);
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 1, 0));
    let records = read_when(kafka.embedded(), "dead", 1);
    assert_eq!((records.len(), records[0].key.as_str(), records[0].value.len()), (1, "a/b", 16 * 1024));
    for (name, value) in [("reason", "MESSAGE_TOO_LARGE"), ("sink", "wide"), ("value-bytes", "100000")] {
        assert!(records[0].headers.contains(&(format!("dead-letter-{name}"), value.to_owned())), "{name}");
    }
}

#[test]
fn files_are_bounded_and_go_on_after_a_crash() {
    let (_kafka, mut service) = refused(
        "dead_letters_file = \"$DIR/wide.jsonl\"\ndead_letters_files_max = 3\ndead_letters_file_bytes_max = \"64KiB\"",
    );
    for round in 0..2u16 {
        let mut device = Device::connect(service.mqtt(), Version::V311, "dev");
        for id in 1..=4 {
            device.publish(QoS::AtLeastOnce, id, &format!("{round}/{id}"), &[b'x'; 100_000]);
            assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, id, 0));
        }
        let topics = ["", ".1", ".2", ".3"].map(|end| {
            let lines = lines(&service.dir().join(format!("wide.jsonl{end}")));
            lines.first().map(|line| line["mqtt_topic"].as_str().unwrap_or_default().to_owned())
        });
        let kept = [4, 3, 2].map(|id| Some(format!("{round}/{id}")));
        assert_eq!(topics, [kept[0].clone(), kept[1].clone(), kept[2].clone(), None]);
        if round == 0 {
            service.kill9();
            service.start_again();
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_is_named_at_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let text = config(
        "[[sink]]\nname = \"s\"\nfilters = \"#\"\ntopic = \"t\"\ndead_letters_file = \"$DIR/taken/dead.jsonl\"\n",
    );
    let text = text.replace("$DIR", &dir.path().display().to_string());
    // A file where the folder should be: root could write anywhere else.
    fs::write(dir.path().join("taken"), "").expect("written");
    fs::write(dir.path().join("forebay.toml"), text).expect("written");
    for command in ["run", "check"] {
        let path = dir.path().join("forebay.toml");
        let output = program().args([command, "--config"]).arg(path).stdin(Stdio::null()).output().expect("run");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(!output.status.success(), "{command}: {said}");
        assert!(said.contains("taken/dead.jsonl") && said.contains("dead_letters_file"), "{command}: {said}");
    }
}

/// Denies everyone one operation on a topic; what else may be done there is named, as an ACL hides all it does not name.
fn forbid_writing(kafka: &Kafka, topic: &str) {
    for (how, operation) in [("--deny-principal", "Write"), ("--allow-principal", "Read")] {
        kafka.add_acl(how, operation, topic);
    }
}

/// The refusals of a real Kafka: by an ACL, and by a topic's own bound.
#[test]
fn what_a_real_kafka_refuses_is_kept_with_its_reason() {
    let kafka = Kafka::start(&[
        "--config",
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "--config",
        "allow.everyone.if.no.acl.found=true",
    ]);
    kafka.command(&["topics", "create", "narrow", "--partitions", "1", "--config", "max.message.bytes=20000"]);
    kafka.create_topic("forbidden", 1);
    kafka.create_topic("dead", 1);
    forbid_writing(&kafka, "forbidden");
    let sink = |name: &str, rest: &str| {
        format!(
            "[[sink]]\nname = \"{name}\"\nfilters = \"{name}/#\"\ntopic = \"{name}\"\ndead_letters_topic = \"dead\"\n{rest}\n"
        )
    };
    let service = Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{}\"\n{}{}",
        kafka.bootstrap(),
        sink("narrow", "dead_letters_file = \"$DIR/narrow.jsonl\""),
        sink("forbidden", "headers = { site = \"berlin\" }"),
    )));
    let mut device = Device::connect(service.mqtt(), Version::V311, "dev");
    let small = [b's'; 15_000];
    // Of what Kafka refuses as one batch, only the one that is too large by itself is a dead letter.
    for (id, payload) in [(1, &small[..]), (2, &[b'x'; 30_000][..]), (3, &small[..])] {
        device.publish(QoS::AtLeastOnce, id, "narrow/7", payload);
    }
    for id in 1..=3 {
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, id, 0));
    }
    let letters = lines(&service.dir().join("narrow.jsonl"));
    assert_eq!(letters.len(), 1);
    assert_eq!((&letters[0]["reason"], &letters[0]["kafka_code"]), (&"MESSAGE_TOO_LARGE".into(), &10.into()));
    assert_eq!(letters[0]["value"].as_str().map(str::len), Some(30_000));
    let bootstrap = kafka.bootstrap().parse().expect("an address");
    assert_eq!(read_when(bootstrap, "narrow", 2).iter().filter(|record| record.value == small).count(), 2);
    // First Kafka says it, then it is known, unless half a minute has gone by.
    for (id, reasons) in
        [(4, &["TOPIC_AUTHORIZATION_FAILED"][..]), (5, &["TOPIC_FORBIDDEN", "TOPIC_AUTHORIZATION_FAILED"])]
    {
        device.publish(QoS::ExactlyOnce, id, "forbidden/7", b"hello");
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, id, 0));
        let records = read_when(bootstrap, "dead", usize::from(id) - 3);
        let last = records.last().expect("a dead letter");
        assert_eq!((last.key.as_str(), last.text()), ("forbidden/7", "hello"));
        assert_eq!(last.headers[0], ("site".to_owned(), "berlin".to_owned()));
        let header =
            |wanted: &str| last.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let reason = header("dead-letter-reason").expect("a reason");
        assert!(reasons.contains(&reason), "{reason} of {:?}", last.headers);
        assert_eq!(header("dead-letter-kafka-code"), (reason != "TOPIC_FORBIDDEN").then_some("29"));
    }
    assert_eq!(metric(&service, "sink_records_out_total{result=\"dead_lettered\"}"), 3);
    assert_eq!(metric(&service, "sink_records_out_total{result=\"refused\"}"), 0);
}

/// Finding Q24: events are for all who may read, and have no text of a payload; a topic of the configuration is told.
#[test]
fn finding_q24_an_event_has_no_topic_that_a_payload_made() {
    let made = "dead_letters_file = \"$DIR/wide.jsonl\"\n[[sink]]\nname = \"made\"\nfilters = \"made\"\ntopic = \"${payload.x}\"\n\
                dead_letters_file = \"$DIR/made.jsonl\"\n";
    let (_kafka, service) = refused(made);
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.publish(QoS::AtLeastOnce, 1, "made", br#"{"x":"a secret, and no topic"}"#);
    device.publish(QoS::AtLeastOnce, 2, "a/b", &[b'x'; 100_000]);
    let events = || service.get("/api/v1/events?kind=dead_letters").expect("events").1;
    until("both events", || ["\"made\"", "\"wide\""].iter().all(|sink| events().contains(sink)));
    assert!(!events().contains("secret") && events().contains("\"topic\":\"wide\""), "{}", events());
    let letters = lines(&service.dir().join("made.jsonl"));
    assert!(letters[0].to_string().contains("a secret"), "{}", letters[0]);
}
