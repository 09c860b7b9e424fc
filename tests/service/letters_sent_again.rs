//! Dead letters in topics, by the API and the command line: listed, shown, and their records sent again.

use std::time::{Duration, Instant};

use forebay::mqtt::packet::{QoS, Version};
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::protocol::StrBytes;
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::Device;
use crate::kafka_client::{Client, name};
use crate::live::with_tokens;
use crate::process::until;
use crate::records::{NewRecord, Record, read, read_when, write_records};
use crate::sources::{source, subscriber, write_when_there};
use crate::sources_admin::forebay;
use crate::support::kafka::shared;
use crate::support::service::{Service, config, config_with, http};

/// A sink for topics of which Kafka has none, for a second.
pub(crate) const LATER: &str = "auto_create_topics = false\n[[sink]]\nname = \"later\"\nfilters = [\"#\"]\ntopic = \"later-${topic[1]}\"\n\
                     headers = { site = \"berlin\" }\nunknown_topic_timeout = \"1s\"\ndead_letters_topic = \"dead\"\n\
                     dead_letters_file = \"none\"\n";
const DEAD: &str = "clusters/embedded/dead-letters/dead";

fn create(to: std::net::SocketAddr, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
    let config = |(key, value): &(&str, &str)| {
        let text = |text: &str| StrBytes::from_string(text.to_owned());
        CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![topic]);
    let answer = Client::connect(to).call(&request, 5);
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

fn header<'a>(record: &'a Record, wanted: &str) -> Option<&'a str> {
    record.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn send(service: &Service, body: &Value) -> Value {
    let (status, answer) = change(service, "POST", &format!("{DEAD}/send"), body);
    assert_eq!(status, 200, "{answer:#}");
    answer
}

/// The results of an answer, by offset.
fn results(answer: &Value) -> Vec<(i64, &str)> {
    let letters = answer["letters"].as_array().expect("letters");
    letters
        .iter()
        .map(|of| (of["offset"].as_i64().expect("an offset"), of["result"].as_str().expect("a result")))
        .collect()
}

fn offsets(page: &Value) -> Vec<i64> {
    page["letters"].as_array().expect("letters").iter().map(|of| of["offset"].as_i64().expect("an offset")).collect()
}

/// A service with three letters at offsets 0 to 2 of one partition.
fn with_letters() -> Service {
    let service = Service::start(&config(LATER));
    make_letters(&service, "a/x");
    service
}

fn make_letters(service: &Service, topic: &str) {
    create(service.embedded(), "dead", 1, &[]);
    let mut device = Device::connect(service.mqtt(), Version::V5, "meter");
    // Each is answered when its letter is safe.
    (1..=3).for_each(|n| device.deliver(n, topic, format!("message {n}").as_bytes()));
}

/// Three letters that can be sent again, and one of a rule that cannot.
pub(crate) fn fill(service: &Service, hostile: &str) {
    make_letters(service, "a/x");
    let headers = [
        ("dead-letter-sink", Some(&b"later"[..])),
        ("dead-letter-rule", Some(hostile.as_bytes())),
        ("dead-letter-reason", Some(b"RULE_FAILED")),
        ("dead-letter-client-id", Some(hostile.as_bytes())),
    ];
    write_records(service.embedded(), "dead", 0, &[letter(&headers, hostile.as_bytes())]);
    create(service.embedded(), "later-x", 1, &[]);
}

#[test]
fn letters_of_a_topic_are_listed_and_sent_to_the_topic_that_each_was_for() {
    let mut service = with_letters();
    let places = get(&service, "dead-letters");
    assert_eq!(
        places["topics"],
        json!([{ "kafka": "embedded", "topic": "dead", "sinks": ["later"], "sources": [], "bridges": [] }])
    );
    // The newest first, page by page.
    let page = get(&service, &format!("{DEAD}?limit=2"));
    assert_eq!(offsets(&page), [2, 1], "{page:#}");
    let next = page["next"].as_str().expect("there is more");
    let last = get(&service, &format!("{DEAD}?limit=2&cursor={next}"));
    assert_eq!((offsets(&last), &last["next"]), (vec![0], &Value::Null));
    let letter = &page["letters"][0];
    for (key, value) in [
        ("sink", json!("later")),
        ("reason", json!("TOPIC_UNKNOWN")),
        ("kafka_code", Value::Null),
        ("kafka_topic", json!("later-x")),
        ("key", json!({ "text": "a/x" })),
        ("value", json!({ "text": "message 3" })),
        ("headers", json!([{ "name": "site", "value": { "text": "berlin" } }])),
        ("sent_again", json!(false)),
        ("sent_before", json!(0)),
        ("cannot", Value::Null),
    ] {
        assert_eq!(letter[key], value, "{key} in {letter:#}");
    }
    assert_eq!(offsets(&get(&service, &format!("{DEAD}?reason=OTHER"))), [0; 0]);
    assert_eq!(offsets(&get(&service, &format!("{DEAD}?since=-1h"))), [2, 1, 0]);
    assert_eq!(get(&service, &format!("{DEAD}/0/1"))["value"], json!({ "text": "message 2" }));

    // Its topic is not there yet: nothing is sent, and no other letter made.
    let first = json!({ "letters": [{ "partition": 0, "offset": 0 }] });
    let answer = send(&service, &first);
    assert_eq!(results(&answer), [(0, "not_sent")]);
    assert!(answer["letters"][0]["why"].as_str().is_some_and(|why| why.contains("no topic later-x")), "{answer}");
    create(service.embedded(), "later-x", 2, &[]);
    let dry = send(&service, &json!({ "letters": [{ "partition": 0, "offset": 0 }], "dry_run": true }));
    assert_eq!((results(&dry), read(service.embedded(), "later-x").len()), (vec![(0, "would_be_sent")], 0));
    let answer = send(&service, &first);
    let done = &answer["letters"][0];
    assert_eq!(
        (&done["result"], &done["to_topic"], &done["to_offset"]),
        (&json!("taken"), &json!("later-x"), &json!(0))
    );
    let records = read_when(service.embedded(), "later-x", 1);
    assert_eq!((records[0].key.as_str(), records[0].text()), ("a/x", "message 1"));
    assert_eq!((header(&records[0], "site"), header(&records[0], "forebay-sent-again")), (Some("berlin"), Some("1")));
    assert!(records[0].headers.iter().all(|(name, _)| !name.starts_with("dead-letter-")), "{:?}", records[0]);
    assert_eq!(done["to_partition"], json!(records[0].partition));
    let received = get(&service, &format!("{DEAD}/0/0"))["received"].as_str().expect("a time").to_owned();
    assert_eq!(forebay::metrics::time::from_rfc3339(&received), Some(records[0].timestamp), "its own time");

    // What was sent again is known, and is sent once more only if that is said.
    assert_eq!(results(&send(&service, &first)), [(0, "not_sent")]);
    let again = json!({ "letters": [{ "partition": 0, "offset": 0 }], "repeat": true });
    assert_eq!(results(&send(&service, &again)), [(0, "taken")]);
    // The rest, one at a time.
    let all = json!({ "up_to": { "partition": 0, "offset": 9 }, "limit": 1 });
    let answer = send(&service, &all);
    assert_eq!((results(&answer), &answer["from"]), (vec![(1, "taken")], &json!(2)), "{answer}");
    let answer = send(&service, &json!({ "up_to": { "partition": 0, "offset": 9 }, "from": 2 }));
    assert_eq!(
        (results(&answer), &answer["from"], &answer["not_noted"]),
        (vec![(2, "taken")], &Value::Null, &Value::Null)
    );
    assert_eq!(results(&send(&service, &all)), []);
    assert_eq!(read_when(service.embedded(), "later-x", 4).len(), 4);
    assert_eq!(read(service.embedded(), "dead").len(), 3, "nothing is deleted, and nothing added");
    let events = get(&service, "events?kind=admin_action");
    let sent = events["events"].as_array().expect("events").iter().filter(|one| one["action"] == "send_dead_letters");
    assert_eq!(sent.map(|one| one["records"].as_u64().unwrap_or(0)).sum::<u64>(), 4, "{events:#}");
    service.terminate();
    service.start_again();
    let page = get(&service, DEAD);
    assert!(page["letters"].as_array().expect("letters").iter().all(|of| of["sent_again"] == true), "{page:#}");
}

/// A second failure is another letter, which says so; and nothing is sent by itself.
#[test]
fn a_record_that_fails_again_is_a_letter_with_a_mark() {
    let letters = "on_bad_record = \"dead-letter\"\ndead_letters_topic = \"dead\"\nqos = \"${value}\"\n";
    let service = Service::start(&config_with("shards = 2", &source(letters)));
    create(service.embedded(), "dead", 1, &[]);
    let mut device = subscriber(&service, Version::V5, "");
    write_when_there(&service, &["bad"]);
    read_when(service.embedded(), "dead", 1);
    let letter = get(&service, &format!("{DEAD}/0/0"));
    assert_eq!(
        (&letter["source"], &letter["kafka_topic"], &letter["cannot"]),
        (&json!("commands"), &json!("commands"), &Value::Null)
    );
    let answer = send(&service, &json!({ "letters": [{ "partition": 0, "offset": 0 }] }));
    assert_eq!(results(&answer), [(0, "taken")], "{answer}");
    let records = read_when(service.embedded(), "dead", 2);
    assert_eq!(header(&records[1], "forebay-sent-again"), Some("1"), "{records:?}");
    assert_eq!(get(&service, &format!("{DEAD}/0/1"))["sent_before"], 1);
    // What comes after it has been read: by then there are still two.
    write_when_there(&service, &["1"]);
    assert_eq!(crate::sources::next(&mut device), "1");
    assert_eq!(read(service.embedded(), "dead").len(), 2);
    let answer = send(&service, &json!({ "letters": [{ "partition": 0, "offset": 1 }] }));
    assert_eq!(results(&answer), [(1, "taken")], "{answer}");
    read_when(service.embedded(), "dead", 3);
    assert_eq!(get(&service, &format!("{DEAD}/0/2"))["sent_before"], 2);
}

/// A letter by hand.
fn letter<'a>(headers: &'a [(&'a str, Option<&'a [u8]>)], value: &'a [u8]) -> NewRecord<'a> {
    NewRecord { key: Some(b"k"), value: Some(value), headers }
}

/// By a real Kafka: it refuses one for its size, takes the other, and no letter is made. A writer of the dead-letter topic gets nothing written
/// elsewhere.
#[test]
fn a_refused_record_makes_no_other_letter() {
    let kafka = shared();
    let bootstrap = kafka.split(',').next().expect("one").parse().expect("an address");
    let run: String = (0..8).map(|_| fastrand::alphanumeric().to_ascii_lowercase()).collect();
    let [dead, small] = ["dead", "small"].map(|word| format!("users-{word}-{run}"));
    create(bootstrap, &dead, 3, &[]);
    create(bootstrap, &small, 1, &[("max.message.bytes", "300")]);
    let text = format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n[[sink]]\nname = \"small\"\nfilters = [\"#\"]\ntopic = \"{small}\"\ndead_letters_topic = \"{dead}\"\n"
    );
    let service = Service::start(&config(&text));
    let of = |topic: &'static str| -> [(&str, Option<&[u8]>); 4] {
        let topic = if topic.is_empty() { small.as_bytes() } else { topic.as_bytes() };
        [
            ("dead-letter-sink", Some(b"small")),
            ("dead-letter-reason", Some(b"MESSAGE_TOO_LARGE")),
            ("dead-letter-kafka-code", Some(b"10")),
            ("dead-letter-kafka-topic", Some(topic)),
        ]
    };
    let (own, foreign) = (of(""), of("payments"));
    let cut = [&own[..], &[("dead-letter-value-bytes", Some(&b"999"[..]))]].concat();
    let long = [b'x'; 2_000];
    let letters =
        [letter(&own, &long), letter(&own, b"fits"), letter(&foreign, b"x"), letter(&cut, b"x"), letter(&[], b"x")];
    write_records(bootstrap, &dead, 2, &letters);
    let path = format!("clusters/main/dead-letters/{dead}");
    let page = get(&service, &path);
    assert_eq!(offsets(&page), [4, 3, 2, 1, 0]);
    let cannot: Vec<bool> =
        page["letters"].as_array().expect("letters").iter().map(|of| of["cannot"].is_string()).collect();
    assert_eq!(cannot, [true, true, false, false, false]);
    let body = json!({ "up_to": { "partition": 2, "offset": 4 } });
    let (_, answer) = change(&service, "POST", &format!("{path}/send"), &body);
    let expected = [(0, "refused"), (1, "taken"), (2, "not_sent"), (3, "not_sent"), (4, "not_sent")];
    assert_eq!(results(&answer), expected, "{answer:#}");
    for (at, why) in
        [(0, "MESSAGE_TOO_LARGE (10)"), (2, "does not write the topic"), (3, "of 999 bytes"), (4, "which sink")]
    {
        assert!(answer["letters"][at]["why"].as_str().is_some_and(|said| said.contains(why)), "{at}: {answer:#}");
    }
    assert_eq!(read(bootstrap, &dead).len(), 5);
    let taken = read(bootstrap, &small);
    assert_eq!((taken.len(), taken[0].text()), (1, "fits"));
    // What Kafka has not taken is sent by the next request.
    let (_, answer) = change(&service, "POST", &format!("{path}/send"), &body);
    assert_eq!(results(&answer)[..2], [(0, "refused"), (2, "not_sent")], "{answer:#}");
}

#[test]
fn who_may_not_read_messages_sees_and_sends_none() {
    let (service, [_, reader]) = with_tokens(LATER);
    create(service.embedded(), "dead", 1, &[]);
    let as_reader = |method: &str, path: &str| {
        let header = format!("Authorization: Bearer {reader}");
        http(service.control(), method, &format!("/api/v1/{path}"), &header, "{}").expect("an answer").0
    };
    for (method, path) in [("GET", DEAD), ("GET", &format!("{DEAD}/0/0")), ("POST", &format!("{DEAD}/send"))] {
        assert!(as_reader(method, path).contains(" 403 "), "{method} {path}");
    }
    assert!(as_reader("GET", "dead-letters").contains(" 200 "));
    let of = |method: &str, path: &str, body: Value| change(&service, method, path, &body).0;
    assert_eq!(of("GET", "clusters/embedded/dead-letters/later-x", Value::Null), 404, "a topic of no letters");
    assert_eq!(of("GET", "clusters/other/dead-letters/dead", Value::Null), 404);
    assert_eq!(
        (of("GET", &format!("{DEAD}/0/7"), Value::Null), of("GET", &format!("{DEAD}/x/7"), Value::Null)),
        (404, 404)
    );
    for (query, status) in
        [("limit=0", 400), ("limit=201", 400), ("cursor=x", 400), ("since=yesterday", 422), ("x=1", 400)]
    {
        assert_eq!(of("GET", &format!("{DEAD}?{query}"), Value::Null), status, "{query}");
    }
    for wrong in [
        json!({}),
        json!({ "letters": [{ "partition": 0, "offset": 0 }], "up_to": { "partition": 0, "offset": 0 } }),
        json!({ "letters": [{ "partition": 0, "offset": 0 }], "reason": "x" }),
        json!({ "up_to": { "partition": 0, "offset": 0 }, "limit": 1_001 }),
    ] {
        assert_eq!(of("POST", &format!("{DEAD}/send"), wrong.clone()), 400, "{wrong}");
    }
}

#[test]
fn the_command_lists_shows_and_sends_letters() {
    let service = with_letters();
    let said = |arguments: &[&str]| forebay(&service, &[&["dead-letters"], arguments].concat());
    let (text, is_ok) = said(&["list"]);
    assert!(is_ok && text.contains("embedded  dead   sink later\n"), "{text}");
    let (text, _) = said(&["list", "embedded", "dead", "--limit", "2", "--since", "-1h"]);
    assert!(text.contains("0:2     ") && text.contains("message 3") && text.contains("--cursor 0-1\n"), "{text}");
    let (text, _) = said(&["show", "embedded", "dead", "0:0"]);
    assert!(
        text.contains("UNKNOWN_TOPIC_OR_PARTITION") && text.contains("header site") && text.contains("message 1"),
        "{text}"
    );
    let (text, is_ok) = said(&["send", "embedded", "dead", "0:0"]);
    assert!(!is_ok && text.contains("1 not sent\n"), "{text}");
    create(service.embedded(), "later-x", 1, &[]);
    let (text, is_ok) = said(&["send", "embedded", "dead", "0:0", "--dry-run"]);
    assert!(is_ok && text.contains("1 would be sent\n"), "{text}");
    let (text, is_ok) = said(&["send", "embedded", "dead", "0:0"]);
    assert!(is_ok && text.contains("later-x 0:0") && text.contains("1 taken\n"), "{text}");
    let (text, is_ok) = said(&["send", "embedded", "dead", "--up-to", "0:2", "--reason", "OTHER"]);
    assert!(is_ok && text.starts_with("none"), "{text}");
    let begun = Instant::now();
    let (text, is_ok) = said(&["send", "embedded", "dead", "--up-to", "0:2", "--per-second", "1"]);
    assert!(is_ok && text.contains("2 taken\n"), "{text}");
    assert!(begun.elapsed() >= Duration::from_secs(1), "the second letter waits for the next second");
    let events = get(&service, "events?kind=admin_action");
    let sent = events["events"].as_array().expect("events").iter().filter(|one| one["action"] == "send_dead_letters");
    assert_eq!(sent.filter(|one| one["records"] == 1).count(), 3, "each of them by a request of its own: {events:#}");
    for wrong in ["0", "1001", "x"] {
        let (text, is_ok) = said(&["send", "embedded", "dead", "--up-to", "0:2", "--per-second", wrong]);
        assert!(!is_ok && text.contains("--per-second"), "{text}");
    }
    for only_all in [["--per-second", "1"], ["--reason", "OTHER"]] {
        let (text, is_ok) = said(&[&["send", "embedded", "dead", "0:0"][..], &only_all].concat());
        assert!(!is_ok && text.contains(only_all[0]) && text.contains("cannot be used with"), "{text}");
    }
    assert!(!said(&["send", "embedded", "dead"]).1 && !said(&["send", "embedded", "dead", "x"]).1);
    until("all to be there", || read(service.embedded(), "later-x").len() == 3);
    let mut device = Device::connect(service.mqtt(), Version::V5, "after");
    device.publish(QoS::AtMostOnce, 0, "a/x", b"after");
}

/// A topic that the configuration names and Kafka does not have is one without letters yet.
#[test]
fn a_topic_that_is_not_there_yet_is_not_found() {
    let service = Service::start(&config(LATER));
    let ask =
        |method: &str, path: &str| change(&service, method, path, &json!({ "up_to": { "partition": 0, "offset": 1 } }));
    for (method, path) in [("GET", DEAD.to_owned()), ("GET", format!("{DEAD}/0/1")), ("POST", format!("{DEAD}/send"))] {
        let (status, problem) = ask(method, &path);
        assert_eq!(status, 404, "{method} {path}: {problem}");
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(
            detail.contains("there is no topic dead on kafka.embedded: no dead letter was written to it yet"),
            "{detail}"
        );
    }
    let (said, well) = forebay(&service, &["clusters", "embedded", "test", "--topic", "dead"]);
    assert!(!well && said.contains("problem  topic dead"), "{said}");
    assert!(forebay(&service, &["clusters", "embedded", "test"]).1);
}
