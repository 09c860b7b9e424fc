//! Sources by the admin API and the command line: shown, changed, paused, sought, tested.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::Device;
use crate::kafka_client::Client;
use crate::process::{metric, until, until_metric};
use crate::sources::{SINK, committed, make_topic, next, source, subscriber, write, write_when_there};
use crate::support::kafka::shared;
use crate::support::service::{Service, config, config_with, program};
use crate::support::{plain_python, temp_dir};

/// Output and success of a command that asks the service.
pub(crate) fn forebay(service: &Service, arguments: &[&str]) -> (String, bool) {
    let mut command = program();
    command.args(arguments).args(["--control", &service.control().to_string()]);
    let token = fs::read_to_string(service.token_file()).expect("a token");
    let output = command.env("FOREBAY_TOKEN", token.trim()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.success())
}

fn applied(answer: &(u16, Value)) -> Vec<&str> {
    answer.1["applied"].as_array().unwrap_or_else(|| panic!("{answer:?}")).iter().filter_map(Value::as_str).collect()
}

/// What the API shows of partition 0.
fn partition(service: &Service) -> Value {
    let shown = get(service, "sources/commands");
    let partitions = shown["partitions"].as_array().cloned().unwrap_or_default();
    partitions.into_iter().find(|one| one["partition"] == 0).unwrap_or_default()
}

fn state(service: &Service) -> Value {
    get(service, "sources/commands")["state"].clone()
}

/// E13 and E66: what a source is, what it has done, and how far each of its partitions is.
#[test]
fn a_source_says_what_it_is_and_what_it_has_done() {
    let service = Service::start(&config_with("shards = 2", &source("description = \"to devices\"")));
    write_when_there(&service, &["a", "b"]);
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!([next(&mut device), next(&mut device)], ["a", "b"]);
    until("both to be committed", || partition(&service)["committed"] == 2);
    until("the numbers to be on the boards", || {
        let shown = get(&service, "sources/commands");
        shown["open_messages"] == 0 && shown["published"] == 2 && shown["assigned_partitions"] == 4
    });
    let shown = get(&service, "sources/commands");
    for (key, value) in [
        ("name", json!("commands")),
        ("description", json!("to devices")),
        ("kafka", json!("embedded")),
        ("topics", json!({ "commands": "t/1" })),
        ("group", json!("forebay-commands")),
        ("state", json!("running")),
        ("reason", Value::Null),
        ("records", json!(2)),
        ("record_bytes", json!(2)),
        ("lag_records", json!(0)),
        ("partitions_left_out", json!(0)),
    ] {
        assert_eq!(shown[key], value, "{key} of {shown:#}");
    }
    assert_eq!(shown["partitions"].as_array().map(Vec::len), Some(4), "{shown:#}");
    let first = partition(&service);
    assert_eq!(
        (&first["topic"], &first["position"], &first["lag_records"]),
        (&json!("commands"), &json!(2), &json!(0))
    );
    assert_eq!((&first["state"], &first["open_messages"]), (&json!("reading"), &json!(0)));
    let shards: Vec<_> = shown["partitions"].as_array().into_iter().flatten().map(|one| one["shard"].clone()).collect();
    assert!(shards.contains(&json!(0)) && shards.contains(&json!(1)), "{shards:?}");
    let list = get(&service, "sources");
    assert_eq!((&list["sources"][0]["name"], list["sources"][0].get("partitions")), (&json!("commands"), None));
    assert_eq!(get(&service, "status")["sources"][0]["state"], "running");
    assert_eq!(get(&service, "config")["source"][0]["mqtt_topic"], "t/1");
    assert_eq!(change(&service, "GET", "sources/none", &Value::Null).0, 404);
    // The lag of each partition is a metric.
    let lag = "forebay_source_partition_lag_records{partition=\"0\"}";
    until("the lag to be measured", || service.metric(lag) == Some(0.0));

    let (text, works) = forebay(&service, &["sources"]);
    assert!(works && text.contains("commands  running") && text.contains("to devices"), "{text}");
    let (text, works) = forebay(&service, &["sources", "commands"]);
    assert!(
        works && text.contains("COMMITTED") && text.contains("commands  0          reading  2         2"),
        "{text}"
    );
    let (text, works) = forebay(&service, &["sources", "none"]);
    assert!(!works && text.contains("no source \"none\""), "{text}");
}

/// E65: a source comes, changes and goes by the API, with what a change of a sink has.
#[test]
fn a_source_comes_changes_and_goes() {
    let mut service = Service::start(&config(SINK));
    until("the topic to be there", || {
        Client::connect(service.embedded()).metadata(&["commands"]).topics[0].error_code == 0
    });
    write(service.embedded(), "commands", &["a"]);
    let mut device = subscriber(&service, Version::V5, "");
    let keys = json!({ "topic": "commands", "mqtt_topic": "t/1", "payload": "${value}", "offset_reset": "earliest" });
    let shown = change(&service, "PUT", "sources/commands?dry_run=true", &keys);
    assert_eq!((shown.0, applied(&shown)), (200, vec!["source commands (added)"]));
    assert_eq!(get(&service, "sources")["sources"], json!([]));
    let made = change(&service, "PUT", "sources/commands", &keys);
    assert_eq!((made.0, applied(&made)), (201, vec!["source commands (added)"]));
    assert_eq!(made.1["not_in_file"], json!(["source commands"]));
    assert_eq!(next(&mut device), "a");
    // What is shown can be sent back.
    let shown = get(&service, "config")["source"][0].clone();
    let same = change(&service, "PUT", "sources/commands", &shown);
    assert_eq!((same.0, applied(&same)), (200, vec![]));
    let mut other = shown;
    other["payload"] = json!("<${value}>");
    let changed = change(&service, "PUT", "sources/commands?persist=true", &other);
    assert_eq!((changed.0, applied(&changed)), (200, vec!["source commands (changed: payload)"]));
    write(service.embedded(), "commands", &["b"]);
    assert_eq!(next(&mut device), "<b>");
    let wrong = change(&service, "PUT", "sources/commands", &json!({ "topic": "commands", "mqtt_topic": "t/#" }));
    assert!(wrong.0 == 422 && wrong.1["detail"].as_str().is_some_and(|why| why.contains("mqtt_topic")), "{wrong:?}");
    // A circle is refused.
    let circle = json!({ "topic": "commands", "mqtt_topic": "to/kafka", "feeds": ["sinks"] });
    let circle = change(&service, "PUT", "sources/commands", &circle);
    assert!(
        circle.0 == 422 && circle.1["detail"].as_str().is_some_and(|why| why.contains("without end")),
        "{circle:?}"
    );

    // It is in the file now, and goes by the API.
    assert!(service.terminate().success());
    service.start_again();
    assert_eq!(get(&service, "config")["source"][0]["payload"], "<${value}>");
    let gone = change(&service, "DELETE", "sources/commands?persist=true", &Value::Null);
    assert_eq!((gone.0, applied(&gone)), (200, vec!["source commands (removed)"]));
    until("it to have left", || get(&service, "sources")["sources"] == json!([]));
    assert_eq!(change(&service, "DELETE", "sources/commands", &Value::Null).0, 404);
    let file = fs::read_to_string(service.dir().join("forebay.toml")).unwrap_or_default();
    assert!(!file.contains("[[source]]"), "{file}");
}

#[test]
fn a_paused_source_reads_nothing_until_it_is_resumed() {
    let service = Service::start(&config(&source("")));
    write_when_there(&service, &["a"]);
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!(next(&mut device), "a");
    until("it to be committed", || committed(service.embedded(), "forebay-commands") == 1);
    let (text, works) = forebay(&service, &["sources", "commands", "pause"]);
    assert!(works && text.contains("applied: source commands (changed: paused)"), "{text}");
    assert_eq!(state(&service), "paused");
    until("its partitions to be given back", || metric(&service, "source_partitions") == 0);
    write(service.embedded(), "commands", &["b"]);
    let sought = change(&service, "POST", "sources/commands/seek", &json!({ "to": "earliest" }));
    assert!(sought.0 == 409 && sought.1["detail"].as_str().is_some_and(|why| why.contains("resume it")), "{sought:?}");
    let resumed = change(&service, "POST", "sources/commands/resume", &Value::Null);
    assert_eq!((resumed.0, applied(&resumed)), (200, vec!["source commands (changed: paused)"]));
    assert_eq!(next(&mut device), "b");
    let keys = service.dir().join("source.toml").display().to_string();
    fs::write(&keys, "topic = 'others'\nmqtt_topic = 'other/1'\n").expect("a file");
    let (text, works) = forebay(&service, &["sources", "other", "put", "--file", &keys]);
    assert!(works && text.contains("applied: source other (added)"), "{text}");
    assert_eq!(get(&service, "sources/other")["topics"], json!({ "others": "other/1" }));
    let (text, works) = forebay(&service, &["sources", "other", "delete", "--dry-run"]);
    assert!(works && text.contains("source other (removed)"), "{text}");
    let (text, works) = forebay(&service, &["sources", "other", "delete"]);
    assert!(works && text.contains("applied: source other (removed)"), "{text}");
}

/// Partitions count on the shards that read them, also those without records: when they come, and when they are given back.
#[test]
fn partitions_without_records_are_counted_on_every_shard() {
    let service = Service::start(&config_with("shards = 4", &source("")));
    make_topic(&service);
    until_metric(&service, "source_partitions", 4);
    let paused = change(&service, "POST", "sources/commands/pause", &Value::Null);
    assert_eq!((paused.0, applied(&paused)), (200, vec!["source commands (changed: paused)"]));
    until_metric(&service, "source_partitions", 0);
    until_metric(&service, "source_assigned_partitions", 0);
    let resumed = change(&service, "POST", "sources/commands/resume", &Value::Null);
    assert_eq!((resumed.0, applied(&resumed)), (200, vec!["source commands (changed: paused)"]));
    until_metric(&service, "source_partitions", 4);
}

/// A seek reads again, or on elsewhere, and what it leads to is committed.
#[test]
fn a_seek_reads_from_another_place_on() {
    for shards in [1, 2] {
        let service = Service::start(&config_with(&format!("shards = {shards}"), &source("")));
        write_when_there(&service, &["a", "b", "c"]);
        let mut device = subscriber(&service, Version::V5, "");
        assert_eq!([next(&mut device), next(&mut device), next(&mut device)], ["a", "b", "c"]);
        until("all to be committed", || committed(service.embedded(), "forebay-commands") == 3);
        let (text, works) = forebay(&service, &["sources", "commands", "seek", "--to", "1", "--partition", "0"]);
        assert!(works && text.contains("partitions sought: 1"), "{text}");
        assert_eq!([next(&mut device), next(&mut device)], ["b", "c"]);
        // The records are not older than an hour.
        for to in ["earliest", "-1h", "2026-01-01T00:00:00Z"] {
            let sought = change(&service, "POST", "sources/commands/seek", &json!({ "to": to }));
            assert_eq!(sought, (200, json!({ "partitions": 4 })));
            assert_eq!([next(&mut device), next(&mut device), next(&mut device)], ["a", "b", "c"], "{to}");
        }
        until("all to be committed", || committed(service.embedded(), "forebay-commands") == 3);
        // Back to where nobody acknowledges: the group goes back, too.
        drop(device);
        for to in ["latest", "9999-01-01T00:00:00Z"] {
            let back = change(
                &service,
                "POST",
                "sources/commands/seek",
                &json!({ "to": 1, "partition": 0, "topic": "commands" }),
            );
            assert_eq!(back.0, 200, "{back:?}");
            until("the place to be committed", || committed(service.embedded(), "forebay-commands") == 1);
            let sought = change(&service, "POST", "sources/commands/seek", &json!({ "to": to }));
            assert_eq!(sought.0, 200, "{sought:?}");
            until("the end to be committed", || committed(service.embedded(), "forebay-commands") == 3);
        }
        write(service.embedded(), "commands", &["d"]);
        let mut device = subscriber(&service, Version::V5, "");
        assert_eq!(next(&mut device), "d");

        for (body, status) in [
            (json!({ "to": "yesterday" }), 400),
            (json!({ "to": 1 }), 400),
            (json!({ "to": -5, "partition": 0 }), 400),
            (json!({ "to": 1.5, "partition": 0 }), 400),
            (json!({ "to": "latest", "topic": "other" }), 404),
            (json!({ "to": "latest", "partition": 99 }), 404),
        ] {
            let (answered, told) = change(&service, "POST", "sources/commands/seek", &body);
            assert_eq!(answered, status, "{body}");
            assert!(!told["detail"].as_str().unwrap_or_default().contains("untagged"), "{body}: {told}");
        }
        let events = get(&service, "events?kind=admin_action");
        assert!(
            events["events"].as_array().is_some_and(|all| all.iter().any(|event| event["action"] == "seek_source"))
        );
    }
}

/// A record that cannot be a message stops its partition where the source wants that; a seek leads past it.
#[test]
fn a_partition_that_has_stopped_goes_on_after_a_seek() {
    let more = "on_bad_record = \"stop\"\nqos = \"${value}\"\n";
    let service = Service::start(&config(&source(more)));
    let mut device = subscriber(&service, Version::V5, "");
    write_when_there(&service, &["1", "bad", "1"]);
    assert_eq!(next(&mut device), "1");
    until("the partition to be stopped", || partition(&service)["state"] == "stopped");
    let first = partition(&service);
    assert_eq!(first["position"], 1, "{first:#}");
    assert!(first["reason"].as_str().is_some_and(|why| why.contains("offset 1") && why.contains("qos")), "{first:#}");
    until("the source to say so", || state(&service) == "stopped");
    let (text, _) = forebay(&service, &["sources"]);
    assert!(text.contains("partition 0 of commands is not read: "), "{text}");
    let (text, works) = forebay(&service, &["events", "--source", "commands"]);
    assert!(works && text.contains("source_stopped") && !text.contains(" started:"), "{text}");
    let sought = change(&service, "POST", "sources/commands/seek", &json!({ "to": 2, "partition": 0 }));
    assert_eq!(sought.0, 200, "{sought:?}");
    assert_eq!(next(&mut device), "1");
    until("the source to run again", || state(&service) == "running");
}

/// E61 and E80: a test before a source is there says what is in the way, and shows the messages of the newest records.
#[test]
fn a_source_is_tested_before_it_is_there() {
    let service = Service::start(&config(SINK));
    until("the topic to be there", || {
        Client::connect(service.embedded()).metadata(&["commands"]).topics[0].error_code == 0
    });
    let values: Vec<String> = (0..9).map(|number| format!("{{\"to\": \"dev-{number}\"}}")).collect();
    write(service.embedded(), "commands", &values.iter().map(String::as_str).collect::<Vec<_>>());
    let test = |keys: &Value| {
        let (status, answer) = change(&service, "POST", "sources/new/test", keys);
        assert_eq!(status, 200, "{answer:#}");
        answer
    };
    let findings = |answer: &Value| answer["findings"].to_string();
    let works = test(&json!({ "topic": "commands", "mqtt_topic": "devices/${value.to}", "payload": "${value}" }));
    assert!(works["works"] == true && findings(&works).contains("topic commands: partitions 4"), "{works:#}");
    let records = works["records"].as_array().expect("records");
    assert_eq!(records.len(), 5, "the newest: {works:#}");
    let last = &records[4];
    assert_eq!((&last["offset"], &last["mqtt_topic"]), (&json!(8), &json!("devices/dev-8")));
    assert_eq!(last["payload"], json!({ "text": "{\"to\": \"dev-8\"}" }));
    assert_eq!((&last["qos"], &last["retain"], &last["refused"]), (&json!(1), &json!(false), &Value::Null));
    // A mapping that fails is a warning, with the reason for each record.
    let fails = test(&json!({ "topic": "commands", "mqtt_topic": "devices/${key}" }));
    assert!(fails["works"] == true && findings(&fails).contains("cannot be messages"), "{fails:#}");
    assert!(fails["records"][0]["refused"].as_str().is_some_and(|why| why.contains("mqtt_topic")), "{fails:#}");
    let missing = test(&json!({ "topic": "none", "mqtt_topic": "t" }));
    assert!(missing["works"] == false && findings(&missing).contains("topic none is missing"), "{missing:#}");
    let wrong = change(&service, "POST", "sources/new/test", &json!({ "topic": "commands", "mqtt_topic": "${what}" }));
    assert_eq!(wrong.0, 422, "{wrong:?}");
    // Nothing has come of it.
    assert_eq!(get(&service, "sources")["sources"], json!([]));
    assert_eq!(change(&service, "POST", "sources/new/test", &json!({})).0, 404);
}

/// The command line tests a source of a running service, and `forebay check` says the same of it.
#[test]
fn check_and_test_look_at_topics_group_and_records() {
    let service = Service::start(&config(&source("")));
    write_when_there(&service, &["a"]);
    let mut device = Device::connect(service.mqtt(), Version::V5, "");
    device.deliver(1, "to/kafka", b"b");
    until("it has its partitions", || metric(&service, "source_assigned_partitions") == 4);
    let (text, works) = forebay(&service, &["sources", "commands", "test"]);
    for words in
        ["topic commands: partitions 4", "group forebay-commands: members 1", "become messages", "commands 0 0"]
    {
        assert!(works && text.contains(words), "{words:?} in {text}");
    }
    let log = service.embedded();
    let file = |topic: &str| {
        format!(
            "[kafka.main]\nbootstrap = \"{log}\"\n[[sink]]\nname = \"s\"\nfilters = \"x\"\ntopic = \"commands\"\n[[source]]\nname = \"c\"\n\
             topic = \"{topic}\"\nmqtt_topic = \"t/${{key}}\"\ngroup = \"g\"\n[control]\nbind = \"off\"\n[service]\ndata_dir = \"{}\"\n",
            service.dir().join("other").display()
        )
    };
    let check = |topic: &str| {
        let path = service.dir().join("check.toml");
        fs::write(&path, file(topic)).expect("written");
        let output = program().arg("check").arg(&path).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = check("commands");
    for words in [
        "ok       source c: topic commands: partitions 4",
        "ok       source c: group g: no members",
        "warning  source c: mapping: ",
    ] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    let text = check("none");
    assert!(
        text.contains("PROBLEM  source c: topic none is missing") && text.contains("forebay topics create"),
        "{text}"
    );
}

/// A program that ends with the test.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _already_ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A check sees members of the consumer protocol (KIP-848), which Kafka shows to a question of its own.
#[test]
fn a_check_sees_members_of_the_consumer_protocol() {
    let kafka = shared();
    let address = kafka.split(',').next().expect("an address").parse().expect("an address");
    until("the topic to be there", || Client::connect(address).metadata(&["testtopic-out"]).topics[0].error_code == 0);
    let group = format!("newer-{}", std::process::id());
    let mut python = plain_python("group_member.py");
    python.args([&*kafka, &group, "testtopic-out", "consumer"]);
    let mut member = Ends(python.stdout(Stdio::piped()).spawn().expect("it runs"));
    let mut line = String::new();
    BufReader::new(member.0.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert!(line.starts_with("assigned"), "{line}");
    let dir = temp_dir();
    let path = dir.path().join("forebay.toml");
    let check = |topic: &str| {
        let file = format!(
            "[kafka.main]\nbootstrap = \"{kafka}\"\n[[source]]\nname = \"c\"\ntopic = \"{topic}\"\nmqtt_topic = \"t\"\ngroup = \"{group}\"\n\
             [control]\nbind = \"off\"\n"
        );
        fs::write(&path, file).expect("written");
        let output = program().arg("check").arg(&path).current_dir(dir.path()).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = check("testtopic-out");
    assert!(text.contains(&format!("source c: group {group}: members 1, which share the partitions")), "{text}");
    let text = check("another-topic");
    let words = format!("warning  source c: group {group} has 1 members that read other topics too (testtopic-out)");
    assert!(text.contains(&words), "{text}");
}
