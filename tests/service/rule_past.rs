//! Rules on past records, by `forebay rule test` and the API; and the records that sinks would write of a rule's outputs.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;

use forebay::mqtt::packet::Version;
use kafka_protocol::messages::CreateTopicsRequest;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use serde_json::{Value, json};

use crate::change::change;
use crate::device::Device;
use crate::kafka_client::{Client, name};
use crate::process::until;
use crate::records::{NewRecord, texts, write_records_at};
use crate::support::kafka::shared;
use crate::support::service::{Service, config, http, program};
use crate::support::{temp_dir, tool};

/// Those with more than 1, twice.
const RULE: &str = "[[rule]]\nname = \"twice\"\nsql = '''SELECT payload.t * 2 AS v FROM \"t/#\" WHERE payload.t > 1'''\n\
    sinks = [\"out\"]\non_error = \"skip\"\n[[sink]]\nname = \"out\"\ntopic = \"out-${v}\"\nheaders = { site = \"${v} here\" }\n";

/// Output and exit status.
fn forebay(dir: &Path, arguments: &[&str]) -> (String, i32) {
    let output = program().current_dir(dir).args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code().expect("a status"))
}

/// The same of `forebay rule test` with the configuration.
fn tried(dir: &Path, arguments: &[&str]) -> (String, i32) {
    forebay(dir, &[&["rule", "test", "--config", "forebay.toml"], arguments].concat())
}

fn json_of((text, _): &(String, i32)) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The number behind a name at the start of a line.
fn number(text: &str, of: &str) -> Vec<u64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(of)?.split_whitespace().next()?.parse().ok());
    lines.collect()
}

pub(crate) fn make_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let address: SocketAddr = bootstrap.split(',').next().expect("an address").parse().expect("an address");
    let wanted = CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions);
    let request =
        CreateTopicsRequest::default().with_timeout_ms(10_000).with_topics(vec![wanted.with_replication_factor(1)]);
    assert_eq!(Client::connect(address).call(&request, 5).topics[0].error_code, 0);
}

/// Writes lines KEY|VALUE.
fn produce(bootstrap: &str, topic: &str, arguments: &[&str], lines: &str) {
    let mut kcat = tool("kcat");
    kcat.args(["-P", "-q", "-b", bootstrap, "-t", topic]).args(arguments);
    let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("it runs");
    kcat.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("written");
    assert!(kcat.wait().expect("it ends").success());
}

#[test]
fn past_records_of_kafka_are_counted_by_what_a_rule_makes_of_them() {
    let (kafka, dir) = (shared(), temp_dir());
    let topic = format!("past-{}", std::process::id());
    fs::write(dir.path().join("forebay.toml"), format!("[kafka.main]\nbootstrap = \"{kafka}\"\n{RULE}"))
        .expect("written");
    let dir = dir.path();
    let all = ["--rule", "twice", "--from-kafka", &topic];
    let missing = tried(dir, &all);
    assert!(missing.1 == 1 && missing.0.contains(&format!("no topic {topic} on kafka.main")), "{missing:?}");
    make_topic(&kafka, &topic, 2);
    produce(
        &kafka,
        &topic,
        &["-p", "0", "-K", "|"],
        "t/1|{\"t\":1}\nt/1|{\"t\":2}\nt/1|{\"t\":[]}\nu/1|{\"t\":5}\nt/#|{}\n",
    );
    produce(
        &kafka,
        &topic,
        &["-p", "1", "-K", "|", "-H", "room=7", "-H", "mqtt-topic=t/h"],
        "t/2|{\"t\":3}\nt/2|{\"t\":4}\n",
    );
    produce(&kafka, &topic, &["-p", "1"], "{\"t\":9}\n");

    let whole = tried(dir, &[&all[..], &["--since", "earliest"]].concat());
    let counts = ["records", "passed", "filtered", "failed", "not matching", "no message"];
    let counted = |text: &str| counts.map(|name| number(text, name));
    assert_eq!(counted(&whole.0), [[8], [3], [1], [1], [1], [2]], "{}", whole.0);
    for said in [
        "topic_absent: 1, topic_invalid: 1",
        "type: 1",
        "an array where a number is needed",
        "t/2 (partition 1, offset 0)",
        "{\"v\":6}",
    ] {
        assert!(whole.0.contains(said), "{said} is not in {}", whole.0);
    }
    assert_eq!(whole.1, 1, "one has failed");
    // Without a place the newest are read, of each partition as many.
    let newest = json_of(&tried(dir, &[&all[..], &["--limit", "2", "--json"]].concat()));
    assert_eq!(
        (&newest["records"], &newest["no_message"]),
        (&json!(2), &json!({ "topic_absent": 1, "topic_invalid": 1 }))
    );
    let oldest = json_of(&tried(dir, &[&all[..], &["--limit", "2", "--json", "--since", "earliest"]].concat()));
    assert_eq!((&oldest["passed"], &oldest["filtered"], &oldest["partitions"]), (&json!(1), &json!(1), &json!(2)));
    let later = json_of(&tried(dir, &[&all[..], &["--since", "2100-01-01T00:00:00Z", "--json"]].concat()));
    assert_eq!(later["records"], 0);

    // Another rule.
    let against = [
        "--since",
        "earliest",
        "--against-sql",
        "SELECT payload.t * 2 AS v FROM \"t/#\" WHERE payload.t > 2 OR payload.t = 1",
    ];
    let compared = tried(dir, &[&all[..], &against].concat());
    assert_eq!(
        ["equal", "different", "only here", "only there"].map(|name| number(&compared.0, name)),
        [[4], [0], [1], [1]]
    );
    assert_eq!(compared.1, 1, "they differ: {}", compared.0);
    let words: Vec<&str> = compared.0.split_whitespace().collect();
    let words = words.join(" ");
    for said in [
        "t/1 (partition 0, offset 0) here filtered there {\"v\":2}",
        "(partition 0, offset 1) here {\"v\":4} there filtered",
    ] {
        assert!(words.contains(said), "{said} is not in {}", compared.0);
    }
    let same = tried(dir, &[&all[..], &["--since", "earliest", "--against", "twice"]].concat());
    assert_eq!((number(&same.0, "equal"), same.1), (vec![6], 0), "{}", same.0);

    // Headers are properties, and may have the topic.
    let sql = "SELECT pub_props.'User-Property' AS up, topic, clientid, qos, timestamp FROM \"t/h\"";
    let by_header = [
        "--sql",
        sql,
        "--from-kafka",
        &topic,
        "--topic-from",
        "header:mqtt-topic",
        "--json",
        "--since",
        "-1h",
        "--qos",
        "1",
    ];
    let by_header = json_of(&tried(dir, &by_header));
    assert_eq!(
        (&by_header["passed"], &by_header["no_message"]),
        (&json!(2), &json!({ "topic_absent": 6 })),
        "{by_header:#}"
    );
    let output: Value =
        serde_json::from_str(by_header["examples"][0]["here"]["outputs"][0].as_str().expect("a text")).expect("JSON");
    assert_eq!((&output["up"], &output["topic"]), (&json!({ "room": "7" }), &json!("t/h")), "{output}");
    assert_eq!((&output["clientid"], &output["qos"]), (&json!("test"), &json!(1)));
    assert!(output["timestamp"].as_i64().is_some_and(|ms| ms > 1_600_000_000_000));
}

#[test]
fn what_cannot_be_tried_says_why() {
    let dir = temp_dir();
    fs::write(dir.path().join("forebay.toml"), format!("[kafka.main]\nbootstrap = \"127.0.0.1:1\"\n{RULE}"))
        .expect("written");
    let past = ["--rule", "twice", "--from-kafka", "t"];
    for (arguments, status, said) in [
        (&["--rule", "none"][..], 1, "no rule \"none\" in the configuration; it has twice"),
        (
            &[&past[..], &["--kafka", "other"]].concat(),
            1,
            "no Kafka cluster \"other\" in the configuration; it has main",
        ),
        (&[&past[..], &["--since", "latest"]].concat(), 1, "nothing after the latest record"),
        (&[&past[..], &["--since", "soon"]].concat(), 1, "write earliest"),
        (&[&past[..], &["--topic-from", "name"]].concat(), 1, "write key"),
        (&[&past[..], &["--against-sql", "SELEC"]].concat(), 1, "line 1"),
        (&past[..], 1, "cannot connect to kafka.main"),
        (&[&past[..], &["--limit", "0"]].concat(), 2, "--limit"),
        (&[&past[..], &["--payload", "x"]].concat(), 2, "--payload"),
        (&["--rule", "twice", "--since", "-1h"][..], 2, "--from-kafka"),
        (&["--sql", "SELECT 1 FROM t", "--rule", "twice"][..], 2, "--rule"),
    ] {
        let (text, code) = tried(dir.path(), arguments);
        assert!(code == status && text.contains(said), "{arguments:?}: {code}: {text}");
    }
    fs::write(dir.path().join("forebay.toml"), RULE.replace("${v}", "${w}")).expect("written");
    let (text, code) = tried(dir.path(), &["--rule", "twice"]);
    assert!(code == 2 && text.contains("no column of that name"), "{code}: {text}");
}

/// R23: a rule of a configuration shows the records of its sinks, and what they are made of.
#[test]
fn a_rule_of_a_configuration_shows_the_records_of_its_sinks() {
    let dir = temp_dir();
    fs::write(dir.path().join("forebay.toml"), RULE).expect("written");
    let (text, code) = tried(dir.path(), &["--rule", "twice", "--topic", "t/1", "--payload", "{\"t\":4}"]);
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let want = [
        vec!["{\"v\":8}"],
        vec!["sink", "out"],
        vec!["topic", "out-8"],
        vec!["key", "t/1"],
        vec!["value", "{\"v\":8}"],
        vec!["header", "site:", "8", "here"],
    ];
    assert_eq!((lines, code), (want.to_vec(), 0), "{text}");
    fs::write(dir.path().join("messages"), "{\"payload\":{\"t\":2.50}}\n{\"payload\":{\"t\":\"a b\"}}\n")
        .expect("written");
    let as_json = tried(dir.path(), &["--rule", "twice", "--file", "messages", "--json"]);
    let first: Value = serde_json::from_str(as_json.0.lines().next().expect("a line")).expect("JSON");
    assert_eq!(
        (&first["output"], &first["records"][0]["topic"], as_json.1),
        (&json!({ "v": 5.0 }), &json!("out-5.0"), 1)
    );
    assert_eq!(first["records"][0]["value"], json!({ "text": "{\"v\":5.0}" }), "{first}");
    let (text, code) = forebay(dir.path(), &["rule", "explain", "--config", "forebay.toml", "--rule", "twice"]);
    assert!(code == 0 && text.contains("payload.t") && text.contains("on error       skip"), "{text}");
    assert!(
        text.contains("sink           out: topic out-${v}, key ${topic}, value ${.}, header site: ${v} here"),
        "{text}"
    );
    // What it would publish.
    let rule = "[[rule.republish]]\ntopic = \"twice/${v}\"\npayload = \"is ${v}\"\nqos = 1\n[[sink]]";
    fs::write(dir.path().join("forebay.toml"), RULE.replace("[[sink]]", rule)).expect("written");
    let republished = tried(dir.path(), &["--rule", "twice", "--payload", "{\"t\":4}", "--json"]);
    let message =
        json!({ "topic": "twice/8", "payload": { "text": "is 8" }, "qos": 1, "retain": false, "user_properties": [] });
    assert_eq!(json_of(&republished)["messages"], json!([message]));
    let (text, _) = tried(dir.path(), &["--rule", "twice", "--payload", "{\"t\":4}"]);
    assert!(text.contains("  message\n    topic     twice/8\n    payload   is 8\n"), "{text}");
    // What a sink would refuse.
    let refused = RULE.replace("out-${v}", "${v}").replace(" * 2", "").replace(" WHERE payload.t > 1", "");
    fs::write(dir.path().join("forebay.toml"), refused).expect("written");
    let (text, code) = tried(dir.path(), &["--rule", "twice", "--payload", "{\"t\":\"a b\"}"]);
    assert!(code == 0 && text.contains("refused   \"a b\" is not a valid Kafka topic"), "{code}: {text}");
}

fn ask(service: &Service, method: &str, path: &str, body: &Value) -> (u16, Value) {
    change(service, method, &format!("sql/past{path}"), body)
}

/// Begins a run and waits for its end.
fn run(service: &Service, body: &Value) -> Value {
    let (status, begun) = ask(service, "POST", "", body);
    // A short one may be over by then.
    assert!(
        status == 202 && (begun["state"] == "running" || begun["state"] == "done" || begun["state"] == "failed"),
        "{begun}"
    );
    let path = format!("/{}", begun["id"].as_str().expect("an id"));
    let mut state = Value::Null;
    until("the run to be over", || {
        state = ask(service, "GET", &path, &Value::Null).1;
        state["state"] != "running"
    });
    state
}

/// Times, and records of sinks, from the embedded log.
#[test]
fn the_api_tries_a_rule_on_what_sinks_have_written() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\n[[rule]]\nname = \"twice\"\nsql = \"SELECT payload.t * 2 AS v FROM t\"\n\
         sinks = [\"out\"]\n[[sink]]\nname = \"out\"\ntopic = \"out\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    for (packet_id, payload) in (1..).zip(["{\"t\":1}", "{\"t\":2}", "x"]) {
        device.deliver(packet_id, "t", payload.as_bytes());
    }
    let done = run(
        &service,
        &json!({ "rule": "twice", "topic": "all", "against_sql": "SELECT payload.t + payload.t AS v FROM t WHERE payload.t < 2" }),
    );
    let result = &done["result"];
    assert_eq!(
        (&done["state"], &done["records"], &result["records"]),
        (&json!("done"), &json!(3), &json!(3)),
        "{done:#}"
    );
    assert_eq!((&result["passed"], &result["failures"]), (&json!(2), &json!({ "decode": 1 })));
    assert_eq!((&result["against"]["equal"], &result["against"]["only_here"]), (&json!(2), &json!(1)));
    assert_eq!(result["examples"][0]["here"]["outputs"], json!(["{\"v\":4}"]));
    assert_eq!(result["examples"][0]["there"]["result"], "filtered");
    assert_eq!(texts(service.embedded(), "out"), ["{\"v\":2}", "{\"v\":4}"], "a trial writes nothing");

    // Records since a time.
    let record = NewRecord { key: Some(b"old"), value: Some(b"1"), ..NewRecord::default() };
    until("the topic to be there", || {
        Client::connect(service.embedded()).metadata(&["times"]).topics[0].error_code == 0
    });
    for time in [1_000_000, 2_000_000, 3_000_000] {
        write_records_at(service.embedded(), "times", 0, (time, &[record]));
    }
    let sql = "SELECT timestamp, payload FROM old";
    let done =
        run(&service, &json!({ "sql": sql, "topic": "times", "kafka": "embedded", "since": "1970-01-01T00:30:00Z" }));
    assert_eq!(
        done["result"]["examples"][0]["here"]["outputs"],
        json!(["{\"timestamp\":2000000,\"payload\":\"1\"}"]),
        "{done:#}"
    );
    assert_eq!(done["result"]["passed"], 2);
    let failed = run(&service, &json!({ "sql": sql, "topic": "no such topic" }));
    assert_eq!((&failed["state"], &failed["result"]), (&json!("failed"), &Value::Null), "{failed}");

    for (body, status, said) in [
        (json!({ "topic": "all" }), 422, "give `sql` or `rule`"),
        (json!({ "topic": "all", "sql": "SELEC" }), 422, "line 1"),
        (json!({ "topic": "all", "rule": "none" }), 422, "no rule \"none\""),
        (json!({ "topic": "all", "rule": "twice", "kafka": "none" }), 422, "no Kafka cluster \"none\""),
        (json!({ "topic": "all", "rule": "twice", "limit": 10_001 }), 422, "10000"),
        (json!({ "topic": "all", "rule": "twice", "sinc": "-1h" }), 400, "sinc"),
    ] {
        let (code, answer) = ask(&service, "POST", "", &body);
        assert!(code == status && answer["detail"].as_str().is_some_and(|why| why.contains(said)), "{code}: {answer}");
    }
    // What was refused leaves nothing behind.
    assert_eq!(run(&service, &json!({ "rule": "twice", "topic": "all", "limit": 1 }))["result"]["records"], 1);
}

/// A rule that names a source is tried on the records themselves, as the source has them encoded, if it is there.
#[test]
fn a_rule_of_a_source_is_tried_on_records() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\nheaders = { room = \"7\" }\n\
         [[source]]\nname = \"coded\"\ntopic = \"other\"\nmqtt_topic = \"coded\"\nvalue_encoding = \"base64\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    for (packet_id, payload) in (1..).zip(["{\"t\":1}", "{\"t\":2}", "x"]) {
        device.deliver(packet_id, "t", payload.as_bytes());
    }
    let of = |select: &str, name: &str| format!("SELECT {select} FROM \"$bridges/kafka_consumer:{name}\"");
    let sql = of("key, value.t AS t, topic, offset, headers.room AS room, event", "none") + " WHERE value.t > 1";
    let done = run(&service, &json!({ "sql": sql, "topic": "all", "against_sql": "SELECT payload FROM \"t\"" }));
    let result = &done["result"];
    assert_eq!(
        ["passed", "filtered", "failed", "not_matching"].map(|name| result[name].as_u64().unwrap_or(9)),
        [1, 2, 0, 0],
        "{done:#}"
    );
    assert_eq!(result["against"]["passed"], 3, "{done:#}");
    let mut examples = result["examples"].as_array().expect("a list").iter();
    let example = examples.find(|one| one["here"]["result"] == "passed").expect("one that passes");
    let output: Value = serde_json::from_str(example["here"]["outputs"][0].as_str().expect("a text")).expect("JSON");
    let event = "$bridges/kafka_consumer:none";
    let expected =
        json!({ "key": "t", "t": 2, "topic": "all", "offset": example["offset"], "room": "7", "event": event });
    assert_eq!((&output, &example["mqtt_topic"]), (&expected, &json!("t")), "{example:#}");

    let done = run(&service, &json!({ "sql": of("value", "coded"), "topic": "all", "topic_from": "header:none" }));
    let result = &done["result"];
    assert_eq!((&result["passed"], &result["no_message"]), (&json!(3), &json!({})), "no message is needed: {done:#}");
    let values: Vec<&str> = result["examples"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["here"]["outputs"][0].as_str())
        .collect();
    assert!(values.contains(&"{\"value\":\"eyJ0IjoxfQ==\"}"), "{values:?}");
    assert_eq!(result["examples"][0]["mqtt_topic"], "$bridges/kafka_consumer:coded");
}

/// One run at a time; it can be cancelled while Kafka does not answer, and shows nothing without a token.
#[test]
fn a_run_over_past_records_is_cancelled() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let bootstrap = silent.local_addr().expect("bound");
    let service = Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{bootstrap}\"\n[embedded]\nbind = \"127.0.0.1:0\"\n[[sink]]\nname = \"all\"\nkafka = \"embedded\"\nfilters = \"#\"\ntopic = \"all\"\n"
    )));
    let body = json!({ "sql": "SELECT payload FROM t", "topic": "t", "kafka": "main" });
    let (status, begun) = ask(&service, "POST", "", &body);
    assert_eq!((status, &begun["state"], &begun["reason"]), (202, &json!("running"), &Value::Null), "{begun}");
    let path = format!("/{}", begun["id"].as_str().expect("an id"));
    // Kafka is asked, and does not answer.
    let (question, _) = silent.accept().expect("a connection");
    let (status, answer) = ask(&service, "POST", "", &body);
    assert!(status == 409 && answer["detail"].as_str().is_some_and(|why| why.contains("another run")), "{answer}");
    let (head, _) =
        http(service.control(), "GET", &format!("/api/v1/sql/past{path}"), "X-Test: 1", "").expect("an answer");
    assert!(head.contains(" 401 "), "{head}");
    assert_eq!(ask(&service, "GET", &path, &Value::Null).1["state"], "running");
    assert_eq!(ask(&service, "DELETE", "/nothing", &Value::Null).0, 404);
    assert_eq!(ask(&service, "DELETE", &path, &Value::Null).0, 204);
    let state = ask(&service, "GET", &path, &Value::Null).1;
    assert_eq!((&state["state"], &state["reason"]), (&json!("cancelled"), &json!("by request")));
    assert_eq!(ask(&service, "POST", "", &body).0, 409, "it still waits for Kafka");
    drop((question, silent));
    until("another run to begin", || ask(&service, "POST", "", &body).0 == 202);
    assert_eq!(ask(&service, "GET", &path, &Value::Null).0, 404, "only the newest is kept");
}

/// R22: a rule prints what it makes, once for each message that is taken, and only where the log may have payloads.
#[test]
fn a_rule_with_console_prints_its_outputs_where_the_log_may_have_payloads() {
    let printed = |log: &str, rule: &str| {
        let rule =
            format!("[[rule]]\nname = \"seen\"\nsql = 'SELECT payload.t AS v FROM \"t/#\"'\nconsole = true\n{rule}");
        let sink = "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\n";
        let service = Service::start(&config(&format!("{log}{rule}\n{sink}")));
        let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
        for (packet_id, payload) in (1..).zip(["{\"t\":\"one\"}", "{\"t\":\"two\"}", "no JSON"]) {
            device.deliver(packet_id, "t/1", payload.as_bytes());
        }
        until("all to be counted", || {
            let rule = change(&service, "GET", "rules/seen", &Value::Null).1;
            rule["passed"].as_u64().unwrap_or(0) + rule["failed"].as_u64().unwrap_or(0) == 3
        });
        let log = service.log();
        let lines: Vec<String> =
            log.lines().filter(|line| line.contains("output of a rule")).map(str::to_owned).collect();
        (lines, log)
    };
    let (lines, log) = printed("[log]\npayloads = true\n", "");
    assert_eq!(lines.len(), 2, "{log}");
    assert!(lines[0].contains("rule=\"seen\"") && lines[0].contains("one") && lines[1].contains("two"), "{lines:?}");
    assert!(!log.contains("has no effect"), "{log}");
    let (lines, log) = printed("", "");
    assert!(lines.is_empty() && log.contains("set `payloads = true` in [log]"), "{log}");
}
