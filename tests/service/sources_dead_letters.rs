//! Records that cannot be a message, in a dead-letter topic (`on_bad_record = "dead-letter"`).

use std::net::SocketAddr;

use forebay::mqtt::packet::Version;
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::kafka_client::{Client, name};
use crate::process::{metric, until, until_metric};
use crate::records::{NewRecord, Record, read, read_when, write_records};
use crate::sources::{committed, next, source, subscriber, write, write_when_there};
use crate::support::service::{Service, config, config_with, program};

const LETTERS: &str = "on_bad_record = \"dead-letter\"\ndead_letters_topic = \"dead\"\nqos = \"${value}\"\n";

/// Makes a topic with one partition.
fn create(to: SocketAddr, topic: &str) {
    let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(1).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]);
    let answer = Client::connect(to).call(&request, 5);
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

fn header<'a>(record: &'a Record, wanted: &str) -> Option<&'a str> {
    record.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn partition(service: &Service) -> Value {
    let shown = get(service, "sources/commands");
    let partitions = shown["partitions"].as_array().cloned().unwrap_or_default();
    partitions.into_iter().find(|one| one["partition"] == 0).unwrap_or_default()
}

/// The letter has all of the record, and where it is; the group moves on with it. The topic is named while the service runs.
#[test]
fn a_bad_record_is_in_the_topic_as_it_was() {
    let service = Service::start(&config_with("shards = 2", &source("qos = \"${value}\"")));
    let log = service.embedded();
    let mut device = subscriber(&service, Version::V5, "");
    write_when_there(&service, &["1", "bad"]);
    assert_eq!(next(&mut device), "1");
    until("the second to be skipped", || committed(log, "forebay-commands") == 2);
    let mut keys = get(&service, "config")["source"][0].clone();
    keys["on_bad_record"] = json!("dead-letter");
    let refused = change(&service, "PUT", "sources/commands", &keys);
    assert_eq!(refused.0, 422, "{refused:?}");
    keys["dead_letters_topic"] = json!("dead");
    assert_eq!(change(&service, "PUT", "sources/commands", &keys).0, 200);
    let headers = [
        ("site", Some(&b"berlin"[..])),
        ("none", None),
        ("dead-letter-reason", Some(b"forged")),
        ("site", Some(b"bonn")),
    ];
    let bad = NewRecord { key: Some(b"k"), value: Some(b"\x00{}"), headers: &headers };
    let good = NewRecord { value: Some(b"1"), ..NewRecord::default() };
    write_records(log, "commands", 0, &[bad, good, NewRecord::default()]);
    assert_eq!(next(&mut device), "1", "what comes after it does not wait");
    let letters = read_when(log, "dead", 2);
    let [first, second] = ["2", "4"].map(|offset| {
        letters.iter().find(|letter| header(letter, "dead-letter-kafka-offset") == Some(offset)).expect("a letter")
    });
    assert_eq!((first.key.as_str(), &first.value[..], first.is_null), ("k", &b"\x00{}"[..], false));
    let said: Vec<(&str, &str)> = first.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        said,
        [
            ("site", "berlin"),
            ("none", ""),
            ("site", "bonn"),
            ("dead-letter-source", "commands"),
            ("dead-letter-reason", "qos_invalid"),
            ("dead-letter-kafka-topic", "commands"),
            ("dead-letter-kafka-partition", "0"),
            ("dead-letter-kafka-offset", "2"),
            ("dead-letter-received-ms", "1000"),
        ]
    );
    assert!(second.is_null, "a null stays one");
    until("all to be committed", || committed(log, "forebay-commands") == 5);
    until_metric(&service, "source_dead_letters_total{result=\"written\"}", 2);
    assert_eq!(metric(&service, "source_bad_records_total{reason=\"qos_invalid\"}"), 3);
    let events = get(&service, "events?kind=source_bad_record");
    let says = |event: &Value| event["source"] == "commands" && event["dead_letters_topic"] == "dead";
    assert!(events["events"].as_array().is_some_and(|all| all.iter().any(says)), "{events:#}");
}

/// The group does not move past a record whose letter Kafka does not have, and a crash loses neither.
#[test]
fn a_bad_record_waits_for_its_topic() {
    let text = format!("auto_create_topics = false\n{}", source(&format!("{LETTERS}release_after = \"1s\"")));
    let mut service = Service::start(&config(&text));
    create(service.embedded(), "commands");
    let mut device = subscriber(&service, Version::V5, "");
    write(service.embedded(), "commands", &["1", "bad", "1"]);
    assert_eq!([next(&mut device), next(&mut device)], ["1", "1"]);
    until("the first to be committed", || committed(service.embedded(), "forebay-commands") == 1);
    // A message that was released would be one that is over; this one is not.
    let mut second = subscriber(&service, Version::V5, "");
    write(service.embedded(), "commands", &["1"]);
    assert_eq!(next(&mut device), "1");
    until_metric(&service, "source_messages_released_total", 1);
    assert_eq!(next(&mut second), "1");
    assert_eq!(
        (committed(service.embedded(), "forebay-commands"), &partition(&service)["state"]),
        (1, &json!("reading"))
    );
    let (text, works) = events(&service, "topic_unknown");
    assert!(works && text.contains("\"source\":\"commands\""), "{text}");
    service.kill9();
    service.start_again();
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!([next(&mut device), next(&mut device)], ["1", "1"], "a crash repeats what comes after it");
    create(service.embedded(), "dead");
    let letters = read_when(service.embedded(), "dead", 1);
    assert_eq!((letters[0].text(), header(&letters[0], "dead-letter-kafka-offset")), ("bad", Some("1")));
    until("all to be committed", || committed(service.embedded(), "forebay-commands") == 4);
}

fn events(service: &Service, kind: &str) -> (String, bool) {
    let events = get(service, &format!("events?kind={kind}"));
    (events.to_string(), events["events"].as_array().is_some_and(|all| !all.is_empty()))
}

/// Without room for letters the partition waits; each record has its letter in the end.
#[test]
fn a_partition_waits_for_room_for_its_letters() {
    const COUNT: usize = 300;
    let kafka = Service::start(&config("auto_create_topics = false\n"));
    create(kafka.embedded(), "commands");
    let more = format!("{LETTERS}window_bytes = \"256MiB\"\n");
    let service = Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{}\"\nbuffer_bytes = \"4MiB\"\n{}",
        kafka.embedded(),
        source(&more)
    )));
    let value = "x".repeat(60_000);
    for _ in 0..COUNT / 10 {
        write(kafka.embedded(), "commands", &[&*value; 10]);
    }
    until("the partition to wait", || partition(&service)["state"] == "no_room");
    assert!(committed(kafka.embedded(), "forebay-commands") <= 0);
    create(kafka.embedded(), "dead");
    until("all to be committed", || committed(kafka.embedded(), "forebay-commands") == COUNT as i64);
    let mut offsets: Vec<usize> = read(kafka.embedded(), "dead")
        .iter()
        .map(|letter| {
            header(letter, "dead-letter-kafka-offset").and_then(|offset| offset.parse().ok()).expect("an offset")
        })
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..COUNT).collect::<Vec<_>>(), "each once");
}

/// A letter that Kafka never takes stops its partition before the record, over a restart as well; a seek leads past it.
#[test]
fn a_letter_that_is_refused_stops_its_partition() {
    // The record just fits, and its letter does not.
    let kafka = Service::start(&config(
        "message_bytes_max = \"64KiB\"\n[[sink]]\nname = \"none\"\nfilters = \"none\"\ntopic = \"none\"\nbatch_bytes = \"32KiB\"\nrecord_bytes_max = \"32KiB\"\n",
    ));
    let log = kafka.embedded();
    let text = source(&format!("{LETTERS}start_grace = \"0s\"\n"));
    let text = text.split("[[sink]]").next().expect("a source");
    let mut service = Service::start(&config(&format!("[kafka.main]\nbootstrap = \"{log}\"\n{text}")));
    let large = "x".repeat(65_400);
    let mut device = subscriber(&service, Version::V5, "");
    until("the topic to be there", || Client::connect(log).metadata(&["commands"]).topics[0].error_code == 0);
    for value in ["1", &large, "1"] {
        write(log, "commands", &[value]);
    }
    assert_eq!(next(&mut device), "1");
    for start in ["the first", "the second"] {
        until("the partition to be stopped", || partition(&service)["state"] == "stopped");
        let reason = partition(&service)["reason"].to_string();
        assert!(reason.contains("offset 1") && reason.contains("MESSAGE_TOO_LARGE"), "{start}: {reason}");
        until("the first to be committed", || committed(log, "forebay-commands") == 1);
        assert_eq!(metric(&service, "source_dead_letters_total{result=\"refused\"}"), 1);
        until_metric(&service, "source_partitions_stopped", 1);
        let (text, works) = events(&service, "source_stopped");
        assert!(works && text.contains("MESSAGE_TOO_LARGE") && text.contains("\"offset\":1"), "{text}");
        if start == "the first" {
            assert!(service.terminate().success());
            service.start_again();
        }
    }
    assert_eq!(committed(log, "forebay-commands"), 1, "nor does a stop move it");
    let mut device = subscriber(&service, Version::V5, "");
    let sought = change(&service, "POST", "sources/commands/seek", &json!({ "to": 2, "partition": 0 }));
    assert_eq!(sought.0, 200, "{sought:?}");
    assert_eq!(next(&mut device), "1");
    until("all to be committed", || committed(log, "forebay-commands") == 3);
}

/// What is larger than any letter is not even sent: its partition stops, until `fetch_bytes` allows for it.
#[test]
fn a_letter_that_is_too_large_stops_its_partition() {
    let text = format!("message_bytes_max = \"8MiB\"\n{}", source(&format!("{LETTERS}window_bytes = \"16MiB\"")));
    let service = Service::start(&config(&text));
    let large = "x".repeat(3 << 20);
    write_when_there(&service, &[&large]);
    until("the partition to be stopped", || partition(&service)["state"] == "stopped");
    let reason = partition(&service)["reason"].to_string();
    assert!(reason.contains("offset 0") && reason.contains("cannot be written to dead: it is too large"), "{reason}");
    let mut keys = get(&service, "config")["source"][0].clone();
    keys["fetch_bytes"] = json!("4MiB");
    assert_eq!(change(&service, "PUT", "sources/commands", &keys).0, 200);
    // Its partitions are read again, with what fits now.
    until("it to be committed", || committed(service.embedded(), "forebay-commands") == 1);
    assert_eq!(read_when(service.embedded(), "dead", 1)[0].value.len(), large.len());
}

/// F9, and `forebay check`: the topic is there and may be written, and nobody reads it who would write it again.
#[test]
fn a_check_looks_at_the_topic() {
    let kafka = Service::start(&config("auto_create_topics = false\n"));
    let log = kafka.embedded();
    create(log, "commands");
    let dir = crate::support::temp_dir();
    let file = dir.path().join("forebay.toml");
    let check = |dead: &str, more: &str| {
        let keys = LETTERS.replace("\"dead\"", &format!("\"{dead}\""));
        let text = format!(
            "[service]\ndata_dir = \"{}\"\n[control]\nbind = \"off\"\n[kafka.main]\nbootstrap = \"{log}\"\n{}{more}",
            dir.path().join("data").display(),
            source(&keys)
        );
        std::fs::write(&file, text).expect("written");
        let output = program().arg("check").arg(&file).output().expect("it runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let text = check("dead", "");
    assert!(text.contains("PROBLEM  dead letters of source commands: topic dead is missing"), "{text}");
    let output = program().args(["topics", "create", "--config"]).arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("created  topic dead in kafka.main"), "{said}");
    let text = check("dead", "");
    assert!(text.contains("ok       dead letters of source commands: topic dead: partitions 4"), "{text}");
    let text = check("commands", "");
    assert!(text.contains("is a topic that the source reads: its dead letters would come back"), "{text}");
    let back = "[[source]]\nname = \"back\"\ntopic = \"dead\"\nmqtt_topic = \"x\"\non_bad_record = \"dead-letter\"\n\
                dead_letters_topic = \"commands\"\n";
    let text = check("dead", back);
    let circle = "source[0].dead_letters_topic: records of source commands would come back without end: source commands writes dead letters \
                  to Kafka topic dead, which source back reads; source back writes dead letters to Kafka topic commands, which source commands reads";
    assert!(text.contains(circle), "{text}");
    let around = "[[source]]\nname = \"back\"\ntopic = \"dead\"\nmqtt_topic = \"x\"\nfeeds = \"sinks\"\n[[sink]]\nname = \"x\"\nfilters = \"x\"\n\
                  topic = \"commands\"\n";
    let text = check("dead", around);
    assert!(text.contains("which source back reads; sink x can write messages of x to Kafka topic commands"), "{text}");
    // To read another's dead letters is no circle.
    let text = check("dead", "[[source]]\nname = \"back\"\ntopic = \"dead\"\nmqtt_topic = \"x\"\n");
    assert!(!text.contains("would come back"), "{text}");
}
