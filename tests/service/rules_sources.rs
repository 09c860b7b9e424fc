//! Rules that name a source: its records as they are, to sinks, without being a message.

use std::io::Write as _;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::Device;
use crate::kafka_client::Client;
use crate::process::{metric, until, until_metric};
use crate::records::{NewRecord, Record, read_when, write_records_at};
use crate::sources::{SINK, committed, make_topic, next, source, subscriber, write_when_there};
use crate::support::kafka::shared;
use crate::support::service::{Service, config};
use crate::support::{command, root};

/// A source of the topic `commands` with records that are no messages, and a rule that names it.
fn for_rules_alone(sql: &str, more: &str) -> String {
    format!(
        "[[source]]\nname = \"commands\"\ntopic = \"commands\"\noffset_reset = \"earliest\"\ncommit_interval = \"100ms\"\n\
         [[rule]]\nname = \"r\"\nsinks = [\"out\"]\nsql = '''{sql}'''\n[[sink]]\nname = \"out\"\ntopic = \"out\"\n{more}\n{SINK}"
    )
}

fn json_of(record: &Record) -> Value {
    serde_json::from_str(record.text()).expect("JSON")
}

/// E63, word for word: what the console producer writes, a rule makes a record of another topic of, which the console consumer reads.
#[test]
fn the_console_producer_reaches_the_console_consumer_through_a_rule() {
    let kafka = shared();
    let address = kafka.split(',').next().expect("an address").parse().expect("an address");
    // The topics of an earlier run may still be there.
    let run = std::process::id();
    let (from, to) = (format!("e63-out-{run}"), format!("e63-in-{run}"));
    let there = |topic: &str| Client::connect(address).metadata(&[topic]).topics[0].error_code == 0;
    until("the topics to be there", || there(&from) && there(&to));
    let service = Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n[[source]]\nname = \"my-kafka-source\"\ntopic = \"{from}\"\n\
         [[rule]]\nname = \"my_rule\"\nsinks = [\"testtopic\"]\nsql = '''SELECT * FROM \"$bridges/kafka_consumer:my-kafka-source\"'''\n\
         [[sink]]\nname = \"testtopic\"\ntopic = \"{to}\"\n"
    )));
    until("its partitions to be read", || metric(&service, "source_partitions{source=\"my-kafka-source\"}") > 0);
    let tool = |class: &str, options: &[&str]| {
        let mut tool = command(root().join("scripts/kafka"));
        tool.args(["tool", &format!("org.apache.kafka.tools.{class}"), "--bootstrap-server", &kafka]).args(options);
        tool.stdin(Stdio::piped()).stdout(Stdio::piped());
        tool
    };
    let mut producer = tool("ConsoleProducer", &["--topic", &from]).spawn().expect("it runs");
    producer.stdin.take().expect("piped").write_all(b"{\"msg\": \"Hello EMQX\"}\n").expect("it reads");
    assert!(producer.wait().expect("it ends").success());
    let options = ["--topic", &to, "--from-beginning", "--max-messages", "1", "--timeout-ms", "60000"];
    let read = tool("consumer.ConsoleConsumer", &options).output().expect("it ends");
    let line = String::from_utf8(read.stdout).expect("text");
    let said: Value = serde_json::from_str(line.trim()).unwrap_or_else(|why| panic!("{why}: {line:?}"));
    assert_eq!((&said["value"], &said["topic"]), (&"{\"msg\": \"Hello EMQX\"}".into(), &from.as_str().into()));
    assert_eq!((&said["key"], &said["ts_type"], &said["headers"]), (&"".into(), &"create".into(), &json!({})));
    assert_eq!(said["event"], "$bridges/kafka_consumer:my-kafka-source");
    assert_eq!(said["metadata"]["rule_id"], "my_rule");
    assert!(said["ts"].is_i64() && said["offset"].is_i64() && said["partition"].is_i64(), "{line}");
}

/// E71 and R4: what the fields are, and that key and time of the record are those of the rows. A1: the rows say that they were a record.
#[test]
fn a_record_is_the_input_of_the_rule_and_gives_its_rows_key_and_time() {
    let sql = "SELECT value.id AS id, value, key, headers.site AS site, offset, ts, ts_type FROM \"$sources/kafka_consumer:commands\" \
               WHERE value.id > 1";
    let service = Service::start(&config(&for_rules_alone(sql, "")));
    let log = service.embedded();
    make_topic(&service);
    let headers = [("site", Some(&b"berlin"[..])), ("site", Some(b"bonn"))];
    let of = |value: &'static [u8]| NewRecord { key: Some(b"k"), value: Some(value), headers: &headers };
    write_records_at(log, "commands", 0, (1_700_000_000_000, &[of(b"{\"id\": 1}"), of(b"{\"id\": 2}")]));
    let [record] = &read_when(log, "out", 1)[..] else { panic!("one record: the other is filtered") };
    assert_eq!((record.key.as_str(), record.timestamp), ("k", 1_700_000_000_000));
    let hops: Vec<_> = record.headers.iter().filter(|(name, _)| name == "mqtt-hops").collect();
    assert_eq!(hops, [&("mqtt-hops".to_owned(), "1".to_owned())]);
    let mut said = json_of(record);
    assert!(said["offset"].take().is_i64());
    assert_eq!(
        said,
        json!({ "id": 2, "value": "{\"id\": 2}", "key": "k", "site": "bonn", "offset": null, "ts": 1_700_000_000_000_i64, "ts_type": "create" })
    );
    until("the group to move on past both", || metric(&service, "source_open_messages") == 0);
    assert_eq!(metric(&service, "rule_messages_total{result=\"passed\"}"), 1);
    assert_eq!(metric(&service, "source_messages_total{result=\"no_subscriber\"}"), 0, "nobody could subscribe to it");
}

/// A record with an MQTT topic is a message for all who get those, and the record itself for the rule that names its source: each rule once.
#[test]
fn a_record_is_a_message_and_the_input_of_a_rule() {
    let rule = |name: &str, from: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nsinks = [\"{name}\"]\nsql = '''SELECT * FROM {from}'''\n[[sink]]\nname = \"{name}\"\ntopic = \"{name}\"\n"
        )
    };
    let by_topic = rule("message", "\"t/#\"");
    let by_name = rule("record", "\"$bridges/kafka_consumer:commands\"");
    let both = rule("both", "\"t/1\", \"$bridges/kafka_consumer:commands\"");
    let service = Service::start(&config(&format!(
        "{}{by_topic}{by_name}{both}",
        source("feeds = [\"subscribers\", \"rules\"]")
    )));
    let log = service.embedded();
    let mut device = subscriber(&service, Version::V5, "");
    write_when_there(&service, &["{\"a\": 1}"]);
    assert_eq!(next(&mut device), "{\"a\": 1}");
    let message = json_of(&read_when(log, "message", 1)[0]);
    assert_eq!(
        (&message["payload"], &message["topic"], &message["clientid"]),
        (&"{\"a\": 1}".into(), &"t/1".into(), &"commands".into())
    );
    let record = json_of(&read_when(log, "record", 1)[0]);
    assert_eq!((&record["value"], &record["topic"]), (&"{\"a\": 1}".into(), &"commands".into()));
    let mut both: Vec<String> =
        read_when(log, "both", 2).iter().map(|record| json_of(record)["event"].to_string()).collect();
    both.sort();
    assert_eq!(both, ["\"$bridges/kafka_consumer:commands\"", "\"message.publish\""]);
    until("the record to be over", || committed(log, "forebay-commands") == 1);
}

/// F5: the group does not move on before Kafka has what the rule makes of a record. What the rule filters is over at once.
#[test]
fn a_record_is_open_until_its_rows_are_safe() {
    let sql = "SELECT value FROM \"$bridges/kafka_consumer:commands\" WHERE value != 'no'";
    let service = Service::start(&config(&for_rules_alone(sql, "")));
    let log = service.embedded();
    assert_eq!(change(&service, "POST", "sinks/out/pause", &Value::Null).0, 200);
    make_topic(&service);
    write_when_there(&service, &["no", "yes"]);
    until_metric(&service, "source_open_messages", 1);
    until("what is filtered to be committed", || committed(log, "forebay-commands") == 1);
    sleep(Duration::from_millis(500));
    assert_eq!(committed(log, "forebay-commands"), 1, "Kafka does not have the row");
    assert_eq!(change(&service, "POST", "sinks/out/resume", &Value::Null).0, 200);
    assert_eq!(json_of(&read_when(log, "out", 1)[0]), json!({ "value": "yes" }));
    until("the record to be over", || committed(log, "forebay-commands") == 2);
}

/// A3: `on_error`, as for messages of sources; a letter of the record.
#[test]
fn a_rule_that_fails_for_a_record_skips_it_or_keeps_a_letter() {
    for (on_error, letters) in [("skip", 0), ("dead-letter", 1)] {
        let sql = "SELECT value.n - 1 AS n FROM \"$bridges/kafka_consumer:commands\"";
        let more = "dead_letters_topic = \"dead\"\n";
        let text =
            for_rules_alone(sql, more).replace("name = \"r\"\n", &format!("name = \"r\"\non_error = \"{on_error}\"\n"));
        let service = Service::start(&config(&text));
        let log = service.embedded();
        make_topic(&service);
        write_when_there(&service, &["{\"n\": \"x\"}", "{\"n\": 3}"]);
        assert_eq!(json_of(&read_when(log, "out", 1)[0]), json!({ "n": 2 }), "{on_error}");
        until("both to be over", || committed(log, "forebay-commands") == 2);
        assert_eq!(metric(&service, "rule_messages_total{result=\"failed\"}"), 1);
        let kept = if letters == 0 { Vec::new() } else { read_when(log, "dead", letters) };
        for letter in &kept {
            assert_eq!(letter.text(), "{\"n\": \"x\"}");
            let header =
                |wanted: &str| letter.headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            assert_eq!(
                header("dead-letter-mqtt-topic"),
                Some("$bridges/kafka_consumer:commands"),
                "{:?}",
                letter.headers
            );
        }
    }
}

/// E62: what a source shows of the rules that name it, and what to write into one. Without a rule there is nothing to read for.
#[test]
fn the_api_offers_what_a_rule_for_a_source_would_name() {
    let service = Service::start(&config(&format!("[[sink]]\nname = \"out\"\ntopic = \"out\"\n{SINK}")));
    let keys = json!({ "topic": "commands", "offset_reset": "earliest" });
    let (status, said) = change(&service, "PUT", "sources/commands", &keys);
    assert_eq!(status, 201, "{said}");
    let shown = get(&service, "sources/commands");
    let from = "$bridges/kafka_consumer:commands";
    assert_eq!((&shown["from"], &shown["rules"], &shown["state"]), (&from.into(), &json!([]), &"unused".into()));
    make_topic(&service);
    let rule = |name: &str| json!({ "sql": format!("SELECT value FROM \"$bridges/kafka_consumer:{name}\""), "sinks": ["out"] });
    let (status, said) = change(&service, "PUT", "rules/r", &rule("comands"));
    let detail = said["detail"].as_str().unwrap_or_default();
    assert!(status == 422 && detail.contains("there is no source \"comands\"; did you mean \"commands\"?"), "{said}");
    assert_eq!(change(&service, "PUT", "rules/r", &rule("commands")).0, 201);
    write_when_there(&service, &["v"]);
    assert_eq!(json_of(&read_when(service.embedded(), "out", 1)[0]), json!({ "value": "v" }));
    until("it to run", || get(&service, "sources/commands")["state"] == "running");
    assert_eq!(get(&service, "sources/commands")["rules"], json!(["r"]));
    let shown = get(&service, "rules/r");
    assert_eq!(shown["from"], json!([from]));
    let (status, said) = change(&service, "DELETE", "sources/commands", &Value::Null);
    assert!(status == 422 && said["detail"].as_str().is_some_and(|said| said.contains("there is no source")), "{said}");
    assert_eq!(change(&service, "DELETE", "rules/r", &Value::Null).0, 200);
    until("nothing to be read", || get(&service, "sources/commands")["state"] == "unused");
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    publisher.deliver(1, "to/kafka", b"not read");
}
