//! `forebay import emqx`: what it prints, its exit status, and that a service runs with what it makes.

use std::fs;
use std::io::Write as _;
use std::process::{Output, Stdio};

use forebay::mqtt::packet::Version;
use serde_json::{Value, json};

use crate::device::Device;
use crate::records::read;
use crate::support::service::{Service, config, program};
use crate::support::temp_dir;

/// Exit status, standard output and standard error.
fn forebay(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut started = program()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    started.stdin.take().expect("its input").write_all(input.as_bytes()).expect("it reads");
    let Output { status, stdout, stderr } = started.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

fn answers(kafka: &str) -> [(&'static str, Value); 3] {
    let action = json!({
        "type": "kafka_producer", "name": "my_sink", "connector": "my-kafka", "status": "connected",
        "parameters": {
            "topic": "${kafka_topic}", "message": { "key": "${.clientid}", "value": "${.}" }, "max_inflight": 10,
            "kafka_ext_headers": [{ "kafka_ext_header_key": "from", "kafka_ext_header_value": "${.topic}" }], "query_mode": "sync",
        },
    });
    let rule = json!({
        "id": "my_rule", "enable": true, "actions": ["kafka_producer:my_sink"], "from": ["t/#"],
        "sql": "SELECT getenv('EMQXVAR_KAFKA_TOPIC') as kafka_topic,\n  payload, clientid, topic\nFROM \"t/#\"",
    });
    let connector =
        json!({ "type": "kafka_producer", "name": "my-kafka", "bootstrap_hosts": kafka, "authentication": "none" });
    [
        ("rules.json", json!({ "data": [rule], "meta": { "count": 1 } })),
        ("actions.json", json!([action])),
        ("connectors.json", json!([connector])),
    ]
}

/// Rows E24 to E50: rule, action and connector as EMQX's API has them; records are what they were.
#[test]
fn a_service_runs_with_what_was_imported() {
    let kafka = Service::start(&config(""));
    let dir = temp_dir();
    let mut arguments = vec!["import".to_owned(), "emqx".to_owned()];
    for (name, answer) in answers(&kafka.embedded().to_string()) {
        let file = dir.path().join(name);
        fs::write(&file, answer.to_string()).expect("a file");
        arguments.push(file.display().to_string());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (status, text, notes) = forebay(&arguments, "");
    assert_eq!(status, Some(0), "{notes}");
    assert!(notes.contains("action kafka_producer:my_sink: parameters.max_inflight: 10 becomes 5"), "{notes}");
    let (status, checked, problems) = forebay(&["check", "--offline", "-c", "-"], &text);
    assert_eq!(status, Some(0), "{checked}{problems}\n{text}");

    let text = format!(
        "[service]\nshards = 1\npin = false\ndata_dir = \"$DIR/data\"\n[control]\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nbind = \"127.0.0.1:0\"\n{text}"
    );
    let service = Service::start_with(&text, &[], &[("EMQXVAR_KAFKA_TOPIC", "testtopic-in")]);
    let mut device = Device::connect(service.mqtt(), Version::V5, "pub");
    device.deliver(1, "t/Connection", b"payload string");
    let [record] = &read(kafka.embedded(), "testtopic-in")[..] else { panic!("one record") };
    assert_eq!(record.key, "pub");
    let wanted = r#"{"topic":"t/Connection","payload":"payload string","kafka_topic":"testtopic-in","clientid":"pub"}"#;
    assert_eq!(record.text(), wanted);
    assert_eq!(record.headers, [("from".to_owned(), "t/Connection".to_owned())]);
}

#[test]
fn notes_are_no_failure_and_what_cannot_be_read_is() {
    let all: serde_json::Map<_, _> =
        answers("k:9092").into_iter().map(|(name, value)| (name.trim_end_matches(".json").to_owned(), value)).collect();
    let (status, text, notes) = forebay(&["import", "emqx", "-"], &Value::from(all).to_string());
    assert!(status == Some(0) && text.contains("[[rule]]") && notes.contains("everywhere: "), "{text}{notes}");
    for (input, wanted) in
        [("{", "standard input: no JSON"), ("{\"a\": 1}", "there are no rules, actions, sources or connectors")]
    {
        let (status, text, notes) = forebay(&["import", "emqx", "-"], input);
        assert!(status == Some(1) && text.is_empty() && notes.contains(wanted), "{input}: {text}{notes}");
    }
    let (status, _, notes) = forebay(&["import", "emqx", "/no/such/file.json"], "");
    assert!(status == Some(1) && notes.contains("/no/such/file.json"), "{notes}");
    assert_eq!(forebay(&["import", "emqx"], "").0, Some(2));
}
