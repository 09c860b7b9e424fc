//! Rules by the API and the command line: shown with their numbers and last failure, created, changed, paused, removed, and tried.

use forebay::mqtt::packet::{PacketType, QoS, Version};
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::{Device, Heard};
use crate::process::until;
use crate::records::texts;
use crate::sources_admin::forebay;
use crate::support::service::{Service, config};

const SINK: &str = "[[sink]]\nname = \"out\"\ntopic = \"out\"\nvalue = \"${v}\"\n";
const RULE: &str = "[[rule]]\nname = \"twice\"\nsql = '''SELECT payload.t * 2 AS v FROM \"t/#\" WHERE payload.t > 1'''\n\
    sinks = [\"out\"]\non_error = \"skip\"\ndescription = \"doubles\"\n";

#[test]
fn a_rule_says_what_it_has_done_and_why_it_failed() {
    let service = Service::start(&config(&format!("{RULE}{SINK}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    for (packet_id, payload) in (1..).zip([r#"{"t":2}"#, r#"{"t":1}"#, r#"{"t":["warm"]}"#, "no JSON"]) {
        device.deliver(packet_id, "t/1", payload.as_bytes());
    }
    let mut rule = Value::Null;
    until("all to be counted", || {
        rule = get(&service, "rules/twice");
        // The event of a failure takes another way than its count.
        rule["failed"] == 2 && !rule["last_failure"].is_null()
    });
    let numbers = ["passed", "filtered", "failed", "outputs"].map(|name| rule[name].clone());
    assert_eq!(numbers, [json!(1), json!(1), json!(2), json!(1)]);
    assert_eq!((&rule["failures"]["type"], &rule["failures"]["decode"]), (&json!(1), &json!(1)));
    assert_eq!((&rule["state"], &rule["from"], &rule["sinks"]), (&json!("running"), &json!(["t/#"]), &json!(["out"])));
    let last = &rule["last_failure"];
    assert_eq!((&last["mqtt_topic"], &last["client"]), (&json!("t/1"), &json!("dev")));
    // One failure of a rule in a second is an event, the others are counted.
    let is_one = |why: &str| why.contains("not JSON") || why.contains("an array where a number is needed");
    assert!(last["reason"].as_str().is_some_and(is_one), "{last}");
    assert!(!rule.to_string().contains("warm"), "values are not told");
    let (text, works) = forebay(&service, &["rules"]);
    assert!(works && text.contains("twice") && text.contains("doubles") && text.contains("failed at"), "{text}");
    let (text, works) = forebay(&service, &["rules", "twice"]);
    assert!(works && text.contains("SELECT payload.t * 2 AS v"), "{text}");
    assert_eq!(change(&service, "GET", "rules/none", &Value::Null).0, 404);
    assert_eq!(texts(service.embedded(), "out"), ["4"]);
}

#[test]
fn rules_are_created_changed_paused_and_removed() {
    let service = Service::start(&config(&format!("{SINK}filters = \"none\"\n").replace("${v}", "${payload}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let mut packet_id = 0;
    let mut send = |payload: &str, code: u8| {
        packet_id += 1;
        device.publish(QoS::AtLeastOnce, packet_id, "t", payload.as_bytes());
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, packet_id, code));
    };
    send("0", 0x10);
    let keys = json!({ "sql": "SELECT payload FROM t", "sinks": ["out"] });
    let made = change(&service, "PUT", "rules/r", &keys);
    assert_eq!((made.0, &made.1["applied"]), (201, &json!(["rule r (added)"])));
    send("1", 0);
    let wrong = json!({ "sql": "SELECT payload AS p FROM t", "sinks": ["out"] });
    let refused = change(&service, "PUT", "rules/r", &wrong);
    assert!(
        refused.0 == 422 && refused.1["detail"].as_str().is_some_and(|why| why.contains("no column")),
        "{refused:?}"
    );
    let refused = change(&service, "PUT", "rules/r", &json!({ "sql": "SELEC 1", "sinks": ["out"] }));
    assert_eq!(refused.0, 422, "{refused:?}");
    // The sink cannot go while a rule names it.
    let refused = change(&service, "DELETE", "sinks/out", &Value::Null);
    assert!((409..=422).contains(&refused.0), "{refused:?}");
    let (text, works) = forebay(&service, &["rules", "r", "pause"]);
    assert!(works && text.contains("applied: rule r (changed: enabled)"), "{text}");
    assert_eq!(get(&service, "rules/r")["state"], "disabled");
    send("2", 0x10);
    assert_eq!(change(&service, "POST", "rules/r/resume?persist=true", &Value::Null).0, 200);
    send("3", 0);
    // The same on the command line.
    let keys = service.dir().join("rule.toml").display().to_string();
    std::fs::write(&keys, "sql = 'SELECT payload FROM t'\nsinks = 'out'\ndescription = 'by hand'\n").expect("a file");
    let (text, works) = forebay(&service, &["rules", "r", "put", "--file", &keys, "--dry-run"]);
    assert!(works && text.contains("rule r (changed: description)"), "{text}");
    assert_eq!(get(&service, "rules/r")["description"], Value::Null);
    let (text, works) = forebay(&service, &["rules", "r", "put", "--file", &keys]);
    assert!(works && get(&service, "rules/r")["description"] == "by hand", "{text}");
    let (text, works) = forebay(&service, &["rules", "other", "put", "--file", &keys]);
    assert!(works && text.contains("applied: rule other (added)"), "{text}");
    let (text, works) = forebay(&service, &["rules", "other", "delete"]);
    assert!(works && get(&service, "rules")["rules"].as_array().map(Vec::len) == Some(1), "{text}");
    assert_eq!(
        forebay(&service, &["rules", "r", "put"]),
        (forebay(&service, &["rules", "r", "put"]).0, false),
        "a file is missing"
    );
    let dry = change(&service, "DELETE", "rules/r?dry_run=true", &Value::Null);
    assert_eq!((dry.0, &dry.1["applied"]), (200, &json!(["rule r (removed)"])));
    assert_eq!(change(&service, "DELETE", "rules/r?persist=true", &Value::Null).0, 200);
    send("4", 0x10);
    assert_eq!(get(&service, "rules")["rules"], json!([]));
    assert_eq!(texts(service.embedded(), "out"), ["1", "3"]);
    let file = std::fs::read_to_string(service.dir().join("forebay.toml")).expect("the file");
    assert!(!file.contains("[[rule]]"), "{file}");
}

/// A sink that only rules feed is made before its rule, and goes after it.
#[test]
fn a_sink_for_a_rule_is_made_first_and_goes_last() {
    let service = Service::start(&config("[[sink]]\nname = \"other\"\nfilters = \"none\"\ntopic = \"other\"\n"));
    let sink = json!({ "topic": "room-${room}", "value": "${t}" });
    let made = change(&service, "PUT", "sinks/alarms", &sink);
    assert_eq!((made.0, &made.1["applied"]), (201, &json!(["sink alarms (added)"])), "{made:?}");
    let sql = "SELECT payload.room AS room, payload.t AS t FROM \"t/#\" WHERE t > 30";
    let rule = json!({ "sql": sql, "sinks": ["alarms"] });
    assert_eq!(change(&service, "PUT", "rules/hot", &rule).0, 201);
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.deliver(1, "t/1", br#"{"room": 7, "t": 31}"#);
    assert_eq!(texts(service.embedded(), "room-7"), ["31"]);
    assert_eq!(change(&service, "DELETE", "rules/hot", &Value::Null).0, 200);
    assert_eq!(change(&service, "DELETE", "sinks/alarms", &Value::Null).0, 200);
}

#[test]
fn statements_and_sinks_of_rules_are_tried_without_a_message() {
    let service = Service::start(&config(&format!("{RULE}{SINK}")));
    let tried =
        |sql: &str, context: Value| change(&service, "POST", "sql/test", &json!({ "sql": sql, "context": context }));
    let context = json!({ "topic": "t/1", "payload": { "list": [1, 2] }, "clientid": "c" });
    let (status, answer) = tried("FOREACH payload.list AS i DO i, clientid FROM \"t/#\"", context);
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["outputs"], json!([{ "i": 1, "clientid": "c" }, { "i": 2, "clientid": "c" }]));
    let (_, answer) = tried("SELECT payload - 1 AS v FROM \"t/#\"", json!({ "topic": "t/1", "payload": "x" }));
    assert!(answer["failure"].as_str().is_some_and(|why| why.contains("number")), "{answer}");
    let (status, answer) = tried("SELECT nofunction(1) FROM t", json!({}));
    assert!(status == 422 && answer["detail"].as_str().is_some_and(|why| why.contains("nofunction")), "{answer}");
    // With a rule, or with sinks, what they would get is shown; nothing is changed.
    let of = |more: &Value| {
        let mut ask = json!({ "sql": "SELECT payload.t * 3 AS v FROM \"t/#\"", "context": { "topic": "t/1", "payload": { "t": 7 } } });
        ask.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        change(&service, "POST", "sql/test", &ask)
    };
    for more in [json!({ "rule": "twice" }), json!({ "sinks": ["out"] })] {
        let (status, answer) = of(&more);
        assert_eq!((status, &answer["outputs"]), (200, &json!([{ "v": 21 }])), "{answer}");
        let record = &answer["records"][0];
        assert_eq!((&record["sink"], &record["value"]["text"]), (&json!("out"), &json!("21")), "{answer}");
        assert_eq!((answer["records"].as_array().map(Vec::len), &answer["messages"]), (Some(1), &json!([])));
    }
    assert_eq!(of(&json!({})).1["records"], json!([]));
    assert_eq!(of(&json!({ "rule": "none" })).0, 404);
    let (status, answer) = of(&json!({ "sinks": ["none"] }));
    assert!(status == 422 && answer["detail"].as_str().is_some_and(|why| why.contains("there is no sink")), "{answer}");
    let (status, answer) = of(&json!({ "sinks": ["out"], "sql": "SELECT\nuper(topic) AS v FROM t" }));
    assert!(
        status == 422 && answer["detail"].as_str().is_some_and(|why| why.starts_with("line 2, column 1:")),
        "{answer}"
    );
    assert_eq!(get(&service, "rules")["rules"].as_array().map(Vec::len), Some(1));
    let functions = get(&service, "sql/functions");
    assert!(functions["functions"].as_array().is_some_and(|all| all.len() > 100), "{functions}");
    let sink = |payload: &str| {
        let message = json!({ "message": { "topic": "t/1", "payload": payload } });
        change(&service, "POST", "sinks/out/test", &message).1
    };
    let answer = sink(r#"{"t": 4}"#);
    assert_eq!((&answer["rule"], &answer["value"]["text"]), (&json!("twice"), &json!("8")), "{answer}");
    assert!(sink("none")["refused"].as_str().is_some_and(|why| why.contains("fails")));
    assert!(sink(r#"{"t": 0}"#)["refused"].as_str().is_some_and(|why| why.contains("filters")));
}
