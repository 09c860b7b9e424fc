//! Messages that rules publish of their outputs, through the built program: as the seed documents have it, from every kind of publisher, and
//! through kills.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property};
use serde_json::{Value, json};

use crate::change::{change, get};
use crate::device::{Device, Heard, hello, properties};
use crate::process::{metric, until, until_metric};
use crate::records::texts;
use crate::rules::publish_through_kills;
use crate::sources::{subscriber, write_when_there};
use crate::sources_admin::forebay;
use crate::support::service::{Service, config};
use crate::support::tool;

/// A mosquitto_sub that is subscribed, and its output line by line.
fn mosquitto_sub(service: &Service, options: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = tool("mosquitto_sub");
    command.args(["-h", "127.0.0.1", "-p", &service.mqtt().port().to_string()]).args(options);
    let before = metric(service, "subscriptions");
    let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
    until_metric(service, "subscriptions", before + 1);
    let out = BufReader::new(child.stdout.take().expect("piped"));
    (child, out)
}

fn line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    line.trim_end().to_owned()
}

fn mosquitto_pub(service: &Service, options: &[&str]) {
    let mut command = tool("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &service.mqtt().port().to_string()]).args(options);
    assert!(command.status().expect("it runs").success());
}

/// E82: topic `t/1`, payload `${.}`; and E83, `sub -t t/1 -v`. Another rule names topic, QoS and properties out of the message.
#[test]
fn the_republish_action_of_the_seed_documents() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"my_rule\"\nsql = '''SELECT payload, clientid FROM \"in/#\"'''\n\
         [[rule.republish]]\ntopic = \"t/1\"\npayload = \"${.}\"\n\
         [[rule.republish]]\ntopic = \"by/${clientid}\"\nuser_properties = \"${pub_props.'User-Property'}\"\n\
         properties = { message_expiry_interval = \"60\", \"Response-Topic\" = \"answers/${clientid}\" }\n",
    ));
    let (mut sub, mut out) = mosquitto_sub(&service, &["-t", "t/1", "-v", "-q", "1", "-C", "1"]);
    let format = ["-t", "by/+", "-V", "5", "-q", "1", "-C", "1", "-F", "%t %q %p %P %R %E"];
    let (mut other, mut more) = mosquitto_sub(&service, &format);
    mosquitto_pub(
        &service,
        &[
            "-V",
            "5",
            "-i",
            "dev",
            "-t",
            "in/x",
            "-q",
            "1",
            "-m",
            "Hello EMQX",
            "-D",
            "publish",
            "user-property",
            "a",
            "b",
        ],
    );
    assert_eq!(line(&mut out), r#"t/1 {"payload":"Hello EMQX","clientid":"dev"}"#);
    let said = line(&mut more);
    assert!(
        said.starts_with("by/dev 1 Hello EMQX a:b answers/dev ")
            && said.len() > "by/dev 1 Hello EMQX a:b answers/dev ".len(),
        "{said}"
    );
    for child in [&mut sub, &mut other] {
        assert!(child.wait().expect("it ends").success());
    }
    assert_eq!(metric(&service, "rule_publications_total{result=\"taken\"}"), 2);
}

/// A client, a will, a record of a source and a value of the service come to rules, and what those make goes to sinks, rules and subscribers.
#[test]
fn every_publisher_has_it() {
    let rule = |name: &str, from: &str, topic: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nsql = '''SELECT payload, topic AS was FROM \"{from}\"'''\n[[rule.republish]]\ntopic = \"{topic}\"\n"
        )
    };
    let service = Service::start(&config(&format!(
        "{}{}{}{}\
         [[sink]]\nname = \"made\"\nfilters = \"made/#\"\ntopic = \"made\"\nvalue = \"${{topic}} ${{clientid}} ${{payload}}\"\nkey = \"\"\n\
         [[source]]\nname = \"commands\"\ntopic = \"commands\"\nmqtt_topic = \"record\"\npayload = \"${{value}}\"\noffset_reset = \"earliest\"\n\
         [[sink]]\nname = \"commands\"\nfilters = [\"to/kafka\"]\ntopic = \"commands\"\n",
        rule("one", "client/#", "made/client"),
        rule("two", "will", "made/will"),
        rule("three", "record", "made/record"),
        rule("four", "$SYS/broker/version", "made/version"),
    )));
    let mut listener = Device::connect(service.mqtt(), Version::V5, "listener");
    listener.subscribe(&[
        ("made/client", QoS::AtLeastOnce),
        ("made/will", QoS::AtLeastOnce),
        ("made/record", QoS::AtLeastOnce),
    ]);
    let mut hear = |expected: (&str, &str)| match listener.hear() {
        Heard::Message(1, id, topic, payload) => {
            listener.acknowledge(PacketType::PubAck, id);
            assert_eq!((topic.as_str(), String::from_utf8_lossy(&payload).as_ref()), expected);
        }
        other => panic!("{other:?}"),
    };
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.deliver(1, "client/1", b"a");
    hear(("made/client", "a"));
    let will =
        Will { qos: QoS::AtLeastOnce, retain: false, topic: "will", payload: b"gone", properties: Properties::EMPTY };
    let (device, _) = Device::connect_as(service.mqtt(), &Connect { will: Some(will), ..hello(Version::V5, "leaves") });
    device.vanish();
    hear(("made/will", "gone"));
    write_when_there(&service, &["from Kafka"]);
    hear(("made/record", "from Kafka"));
    until("all records", || texts(service.embedded(), "made").len() >= 4);
    let records = texts(service.embedded(), "made");
    for of in ["made/client dev a", "made/will leaves gone", "made/record commands from Kafka", "made/version "] {
        assert!(records.iter().any(|record| record.starts_with(of)), "{of}: {records:?}");
    }
}

/// A record stays open until subscribers have what its rule has made of it; with nobody for that it waits, if it is to.
#[test]
fn a_record_waits_for_what_its_rule_has_made() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"r\"\nsql = '''SELECT payload FROM \"record\"'''\n[[rule.republish]]\ntopic = \"t/1\"\nqos = 1\n\
         [[source]]\nname = \"commands\"\ntopic = \"commands\"\nmqtt_topic = \"record\"\npayload = \"${value}\"\noffset_reset = \"earliest\"\n\
         commit_interval = \"100ms\"\nno_subscriber = \"wait\"\nstart_grace = \"0s\"\n\
         [[sink]]\nname = \"commands\"\nfilters = [\"to/kafka\"]\ntopic = \"commands\"\n",
    ));
    write_when_there(&service, &["a"]);
    // The message, and what the rule has made of it.
    until_metric(&service, "source_parked_messages", 2);
    let mut device = subscriber(&service, Version::V5, "");
    let Heard::Message(1, packet_id, _, payload) = device.hear() else { panic!("no message") };
    assert_eq!(payload, b"a");
    // Five times as long as it takes to commit.
    std::thread::sleep(Duration::from_millis(500));
    assert!(crate::sources::committed(service.embedded(), "forebay-commands") <= 0, "nobody has it yet");
    device.acknowledge(PacketType::PubAck, packet_id);
    until("the offset to be committed", || crate::sources::committed(service.embedded(), "forebay-commands") == 1);
}

/// The API and the command line show what a rule publishes, and take it back as it is shown; a circle through a source is refused.
#[test]
fn it_is_shown_and_changed_while_the_service_runs() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = \"made/#\"\ntopic = \"all\"\n"));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let keys = json!({ "sql": "SELECT * FROM \"t\"", "republish": [{ "topic": "made/${clientid}", "qos": 1 }] });
    let made = change(&service, "PUT", "rules/r?persist=true", &keys);
    assert_eq!((made.0, &made.1["applied"]), (201, &json!(["rule r (added)"])), "{made:?}");
    device.deliver(1, "t", b"x");
    assert_eq!(texts(service.embedded(), "all"), ["x"]);
    let mut rule = Value::Null;
    until("it to be counted", || {
        rule = get(&service, "rules/r");
        rule["publications"]["taken"] == 1
    });
    assert_eq!((&rule["republish"][0]["topic"], &rule["sinks"]), (&json!("made/${clientid}"), &json!([])));
    let again = json!({ "sql": rule["sql"], "republish": rule["republish"] });
    let same = change(&service, "PUT", "rules/r?dry_run=true", &again);
    assert_eq!((same.0, &same.1["applied"]), (200, &json!([])), "{same:?}");
    let (text, works) = forebay(&service, &["rules"]);
    assert!(works && text.contains("made/${clientid}"), "{text}");
    let other = json!({ "sql": "SELECT * FROM \"t\"", "republish": [{ "topic": "made/x", "payload": "${topic}" }] });
    let changed = change(&service, "PUT", "rules/r", &other);
    assert_eq!((changed.0, &changed.1["applied"]), (200, &json!(["rule r (changed: republish)"])), "{changed:?}");
    device.deliver(2, "t", b"y");
    assert_eq!(texts(service.embedded(), "all"), ["t", "x"]);
    let wrong = json!({ "sql": "SELECT 1 AS v FROM \"t\"", "republish": [{ "topic": "made/x" }] });
    let wrong = change(&service, "PUT", "rules/r", &wrong);
    assert!(wrong.0 == 422 && wrong.1.to_string().contains("asks for `payload`"), "{wrong:?}");
    let source = json!({ "topic": "all", "mqtt_topic": "t" });
    let circle = change(&service, "PUT", "sources/s", &source);
    assert!(circle.0 == 422 && circle.1.to_string().contains("would come back without end"), "{circle:?}");
}

/// R16, R17: through kills at any time, each output of an acknowledged message is in the sink of its republished message once, and the kept
/// session has each of them, maybe twice.
#[test]
fn republished_outputs_of_qos_2_survive_kills() {
    let mut service = Service::start(&config(
        "[spool]\n[[rule]]\nname = \"each\"\nsql = '''FOREACH payload.list AS item DO payload.n * 10 + item AS id FROM \"t\"'''\n\
         [[rule.republish]]\ntopic = \"made/${id}\"\npayload = \"${id}\"\n\
         [[rule]]\nname = \"again\"\nsql = '''SELECT payload AS id FROM \"made/#\"'''\nsinks = [\"two\"]\n\
         [[sink]]\nname = \"one\"\nfilters = \"made/#\"\ntopic = \"one\"\n\
         [[sink]]\nname = \"two\"\ntopic = \"two\"\nvalue = \"${id}\"\n",
    ));
    let hour = properties([Property::SessionExpiryInterval(3600)]);
    let kept = |name| Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, name) };
    let (mut subscriber, _) = Device::connect_as(service.mqtt(), &kept("kept"));
    subscriber.subscribe(&[("made/#", QoS::AtLeastOnce)]);
    subscriber.leave();
    let payload = |id: u16| format!(r#"{{"n":{id},"list":[1,2,3]}}"#);
    let next_id = publish_through_kills(&mut service, &kept("dev"), payload);
    let all: BTreeSet<String> = (1..next_id).flat_map(|n| [1, 2, 3].map(|item| (n * 10 + item).to_string())).collect();
    let mut expected: Vec<String> = all.iter().cloned().collect();
    expected.sort();
    for topic in ["one", "two"] {
        until("all records to be in Kafka", || texts(service.embedded(), topic).len() >= expected.len());
        assert_eq!(texts(service.embedded(), topic), expected, "{topic}");
    }
    let (mut subscriber, _) = Device::connect_as(service.mqtt(), &kept("kept"));
    let mut heard = BTreeSet::new();
    while heard.len() < all.len() {
        match subscriber.hear() {
            Heard::Message(_, id, _, payload) => {
                subscriber.acknowledge(PacketType::PubAck, id);
                heard.insert(String::from_utf8(payload).expect("text"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, all);
}
