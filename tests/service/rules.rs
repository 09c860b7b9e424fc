//! Rules that feed sinks: what a record of the rule is, what a failing rule does, and that a reload holds for the messages that follow.

use std::collections::BTreeSet;
use std::fs;

use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::Property;
use serde_json::{Value, json};

use crate::device::{Device, Heard, hello, properties, puback, publish};
use crate::process::{metric, until, until_metric};
use crate::records::{read, read_when, texts};
use crate::sources::{next, subscriber};
use crate::support::service::{Service, config};

/// The statement and the action of the seed documents, word for word (rows E43 to E50).
#[test]
fn a_topic_out_of_the_environment_through_the_output_of_a_rule() {
    let rule = "[[rule]]\nname = \"my_rule\"\n\
        sql = '''SELECT getenv(`EMQXVAR_KAFKA_TOPIC`) as kafka_topic, payload FROM \"t/#\"'''\nsinks = [\"my-sink\"]\n\
        [[sink]]\nname = \"my-sink\"\ntopic = \"${kafka_topic}\"\n";
    let service = Service::start_with(&config(rule), &[], &[("EMQXVAR_KAFKA_TOPIC", "testtopic-in")]);
    let mut device = Device::connect(service.mqtt(), Version::V5, "pub");
    device.deliver(1, "t/Connection", b"payload string");
    let [record] = &read(service.embedded(), "testtopic-in")[..] else { panic!("one record") };
    assert_eq!(record.text(), r#"{"payload":"payload string","kafka_topic":"testtopic-in"}"#);
    assert_eq!(record.key, "t/Connection");
    assert_eq!(metric(&service, "rule_messages_total{result=\"passed\"}"), 1);
}

#[test]
fn outputs_become_rows_of_several_sinks_with_keys_headers_and_times() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"each\"\nsinks = [\"one\", \"two\"]\n\
         sql = '''FOREACH payload.list AS item DO item.id AS id, item.v AS v, qos, pub_props.'User-Property' AS more, timestamp AS ts \
         INCASE item.v > 1 FROM \"t/+\"'''\n\
         [[sink]]\nname = \"one\"\ntopic = \"device-${id}\"\nkey = \"${.id}\"\nvalue = \"${v}\"\nheaders = { q = \"${qos}\", none = \"${id.none}\" }\n\
         headers_from = \"${more}\"\ntimestamp = \"${ts}\"\n\
         [[sink]]\nname = \"two\"\ntopic = \"two\"\nkey = \"\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let user = properties([Property::UserProperty("unit", "C")]);
    let payload = br#"{"list": [{"id": 1, "v": 2.50}, {"id": 2, "v": 1}, {"id": 3, "v": 3}]}"#;
    let plain = publish(QoS::AtLeastOnce, 1, "t/a", payload);
    device.say(&Packet::Publish(Publish { properties: user.as_properties(), ..plain }));
    assert_eq!(device.hear(), puback(1));
    let [record] = &read(service.embedded(), "device-1")[..] else { panic!("one record") };
    assert_eq!((record.key.as_str(), record.text()), ("1", "2.50"));
    let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("q", "1"), ("unit", "C"), ("unit", "C")], "its own, those of headers_from, the device's");
    assert_eq!(read(service.embedded(), "device-3").len(), 1);
    let two = texts(service.embedded(), "two");
    let first: Value = serde_json::from_str(&two[0]).expect("JSON");
    assert_eq!((two.len(), &first["more"]), (2, &json!({ "unit": "C" })));
    assert_eq!(metric(&service, "rule_outputs_total"), 2);
    // WHERE and INCASE filter, and that is a success; only a message that nothing matches has no taker.
    device.deliver(2, "t/b", br#"{"list": []}"#);
    device.publish(QoS::AtLeastOnce, 3, "elsewhere", b"");
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 3, 0x10));
    assert_eq!(metric(&service, "rule_messages_total{result=\"filtered\"}"), 1);
}

/// R15, N8: `on_error` decides what a message becomes for which the rule fails; the rule's other outputs of it do not count.
#[test]
fn a_failing_rule_skips_keeps_a_letter_or_refuses() {
    let rule = |name: &str, more: &str| {
        format!(
            "[[rule]]\nname = \"{name}\"\nsinks = [\"{name}\"]\n{more}\n\
             sql = '''FOREACH payload.list DO item - 1 AS v FROM \"t/{name}\"'''\n\
             [[sink]]\nname = \"{name}\"\ntopic = \"{name}\"\n"
        )
    };
    let rules = [
        rule("skip", "on_error = \"skip\""),
        format!("{}dead_letters_file = \"$DIR/letter.jsonl\"\n", rule("letter", "")),
        format!("{}dead_letters_file = \"none\"\n", rule("gate", "on_error = \"reject\"")),
        "[[sink]]\nname = \"all\"\nfilters = \"t/#\"\ntopic = \"all\"\n".to_owned(),
    ];
    let service = Service::start(&config(&rules.concat()));
    let mut subscriber = Device::connect(service.mqtt(), Version::V5, "subscriber");
    subscriber.subscribe(&[("t/#", QoS::AtMostOnce)]);
    for (version, code) in [(Version::V5, 0x99), (Version::V311, 0)] {
        let mut device = Device::connect(service.mqtt(), version, &format!("{version:?}"));
        device.deliver(1, "t/skip", br#"{"list": [3, "x"]}"#);
        device.deliver(2, "t/letter", br#"{"list": [4, "x"]}"#);
        device.publish(QoS::AtLeastOnce, 3, "t/gate", b"no JSON");
        let expected = if version == Version::V5 { Heard::Answer(PacketType::PubAck, 3, code) } else { Heard::Closed };
        assert_eq!(device.hear(), expected, "{version:?}");
    }
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.publish(QoS::AtMostOnce, 0, "t/gate", b"no JSON");
    device.deliver(1, "t/end", b"");
    let records = texts(service.embedded(), "all");
    assert_eq!(records.len(), 5, "no destination has what a gate refuses: {records:?}");
    let heard = subscriber.hear_all(5);
    assert!(
        !heard.iter().any(|heard| matches!(heard, Heard::Message(_, _, topic, _) if topic == "t/gate")),
        "{heard:?}"
    );
    for topic in ["skip", "letter", "gate"] {
        assert!(read(service.embedded(), topic).is_empty(), "{topic}");
    }
    let letters = fs::read_to_string(service.dir().join("letter.jsonl")).expect("letters");
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(letters.len(), 2);
    let of = &letters[0];
    assert_eq!(
        (&of["rule"], &of["reason"], &of["mqtt_topic"]),
        (&json!("letter"), &json!("RULE_FAILED"), &json!("t/letter"))
    );
    assert_eq!(of["value"], json!(r#"{"list": [4, "x"]}"#), "the message as it came");
    until_metric(&service, "rule_messages_total{rule=\"letter\",result=\"failed\"}", 2);
    assert_eq!(metric(&service, "rule_failures_total{rule=\"letter\",reason=\"type\"}"), 2);
    assert_eq!(metric(&service, "rule_failures_total{rule=\"gate\",reason=\"decode\"}"), 3);
}

/// A sink's refusal of an output is the sink's; a rule may feed a sink with filters, too; and messages of sources and wills come to rules.
#[test]
fn what_a_sink_refuses_of_a_rule_is_the_sinks_affair() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"r\"\nsql = '''SELECT payload, payload.to AS to FROM \"t/#\"'''\nsinks = [\"picky\", \"both\"]\n\
         [[sink]]\nname = \"picky\"\ntopic = \"${to}\"\non_refuse = \"drop\"\n\
         [[sink]]\nname = \"both\"\nfilters = [\"t/#\", \"other\"]\ntopic = \"both\"\nvalue = \"${payload}\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.deliver(1, "t/1", br#"{"to": "there"}"#);
    device.deliver(2, "t/1", br#"{"to": null}"#);
    device.deliver(3, "t/1", br#"{}"#);
    device.deliver(4, "other", b"plain");
    assert_eq!(texts(service.embedded(), "there"), [r#"{"to":"there","payload":"{\"to\": \"there\"}"}"#]);
    assert_eq!(metric(&service, "sink_publishes_refused_total{sink=\"picky\",reason=\"column_missing\"}"), 2);
    assert_eq!(read_when(service.embedded(), "both", 7).iter().filter(|record| record.text() == "plain").count(), 1);
}

/// Topics and keys are not made of parts that are not there: neither those of sinks nor those that a rule publishes to.
#[test]
fn finding_q48_nothing_is_made_up_where_a_part_is_absent() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"r\"\nsql = '''SELECT payload FROM \"t/#\"'''\nsinks = [\"each\", \"keyed\", \"timed\"]\n\
         [[sink]]\nname = \"timed\"\ntopic = \"timed\"\ntimestamp = \"1${payload.device}00000000000\"\non_refuse = \"drop\"\n\
         [[sink]]\nname = \"each\"\ntopic = \"device-${payload.device}\"\non_refuse = \"drop\"\n\
         [[sink]]\nname = \"keyed\"\ntopic = \"keyed\"\nkey = \"k-${payload.device}\"\n\
         [[rule]]\nname = \"again\"\nsql = '''SELECT payload FROM \"t/#\"'''\non_error = \"skip\"\n\
         [[rule.republish]]\ntopic = \"made/${payload.device}/x\"\n\
         [[sink]]\nname = \"made\"\nfilters = \"made/#\"\ntopic = \"made\"\nkey = \"${topic}\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let payloads = [r#"{"device": 7}"#, r#"{"device": null}"#, "{}", "no JSON"];
    for (packet_id, payload) in (1..).zip(payloads) {
        device.deliver(packet_id, "t/1", payload.as_bytes());
    }
    let keys = |topic: &str, count| {
        let records = read_when(service.embedded(), topic, count);
        records.into_iter().map(|record| record.key).collect::<BTreeSet<_>>()
    };
    assert_eq!(keys("keyed", 4), BTreeSet::from(["k-7".to_owned(), String::new()]));
    // No key, and not an empty one, which a compacted topic would take.
    let keyed = read(service.embedded(), "keyed");
    assert_eq!(keyed.iter().filter(|record| record.has_no_key).count(), 3, "{keyed:?}");
    let timed = read_when(service.embedded(), "timed", 1);
    assert_eq!(timed[0].timestamp, 1_700_000_000_000);
    assert_eq!(keys("device-7", 1).len(), 1);
    assert_eq!(keys("made", 1), BTreeSet::from(["made/7/x".to_owned()]));
    assert_eq!(metric(&service, "sink_publishes_refused_total{sink=\"each\",reason=\"column_missing\"}"), 3);
    assert_eq!(metric(&service, "sink_publishes_refused_total{sink=\"timed\",reason=\"column_missing\"}"), 3);
    assert_eq!(metric(&service, "rule_failures_total{rule=\"again\",reason=\"domain\"}"), 3);
}

/// A rule takes nothing away: a fallback sink has what no other sink takes, whatever rules make of it; and a record that rules filter has
/// nobody yet.
#[test]
fn rules_take_nothing_away_from_others() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"none\"\nsql = '''SELECT 1 AS v FROM \"#\" WHERE payload = 'never' '''\nsinks = [\"out\"]\n\
         [[sink]]\nname = \"out\"\ntopic = \"out\"\n\
         [[sink]]\nname = \"rest\"\nfilters = \"#\"\ntopic = \"rest\"\nfallback = true\n\
         [[source]]\nname = \"back\"\ntopic = \"rest\"\nmqtt_topic = \"t/1\"\npayload = \"${value}\"\noffset_reset = \"earliest\"\n\
         no_subscriber = \"wait\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    device.deliver(1, "a", b"for the rest");
    assert_eq!(texts(service.embedded(), "rest"), ["for the rest"]);
    until_metric(&service, "source_parked_messages", 1);
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!(next(&mut device), "for the rest");
}

/// However many outputs of a message a sink refuses, it keeps the message once.
#[test]
fn outputs_that_a_sink_refuses_leave_one_letter() {
    let service = Service::start(&config(
        "[[rule]]\nname = \"r\"\nsql = '''FOREACH payload.list AS item DO item FROM \"t\"'''\nsinks = [\"out\"]\n\
         [[sink]]\nname = \"out\"\ntopic = \"to-${item}\"\nvalue = \"${item}\"\ndead_letters_file = \"$DIR/out.jsonl\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let payload = r#"{"list": ["not/one", "a", "not/two", "not/three"]}"#;
    device.deliver(1, "t", payload.as_bytes());
    assert_eq!(texts(service.embedded(), "to-a"), ["a"]);
    let letters = fs::read_to_string(service.dir().join("out.jsonl")).expect("letters");
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = (letters.len(), &letters[0]["reason"], &letters[0]["value"]);
    assert_eq!(of, (1, &json!("TOPIC_INVALID"), &json!(payload)));
}

#[test]
fn a_reload_changes_adds_and_removes_rules() {
    let rule = |sql: &str, sink: &str| {
        config(&format!(
            "[[rule]]\nname = \"r\"\nsql = '''{sql}'''\nsinks = [\"out\"]\n\
             [[sink]]\nname = \"out\"\ntopic = \"out\"\nvalue = \"${{v}}\"\n{sink}"
        ))
    };
    let first = rule("SELECT payload AS v FROM \"t\"", "");
    let service = Service::start(&first);
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let mut packet_id = 0;
    let mut send = |payload: &[u8], code: u8| {
        packet_id += 1;
        device.publish(QoS::AtLeastOnce, packet_id, "t", payload);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, packet_id, code));
    };
    send(b"1", 0);
    let reload = |text: &str| {
        let text = text.replace("$DIR", &service.dir().display().to_string());
        fs::write(service.dir().join("forebay.toml"), text).expect("written");
        crate::change::change(&service, "POST", "reload", &Value::Null)
    };
    let changed = reload(&rule("SELECT payload + 1 AS v FROM \"t\" WHERE payload > 1", ""));
    assert_eq!((changed.0, &changed.1["applied"]), (200, &json!(["rule r (changed: sql)"])));
    send(b"1", 0);
    send(b"2", 0);
    let wrong = reload(&rule("SELECT payload AS w FROM \"t\"", ""));
    assert!(wrong.0 == 422 && wrong.1.to_string().contains("has no column of that name"), "{wrong:?}");
    send(b"3", 0);
    let off = reload(&rule("SELECT payload AS v FROM \"t\"", "").replace("sinks =", "enabled = false\nsinks ="));
    assert_eq!(off.1["applied"], json!(["rule r (changed: sql, enabled)"]));
    send(b"4", 0x10);
    assert_eq!(texts(service.embedded(), "out"), ["1", "21", "31"]);
}

/// What a publisher of QoS 2 remembers of its messages: the packet identifiers without PUBREC, and those without PUBCOMP.
#[derive(Default)]
struct Exchanges {
    sent: BTreeSet<u16>,
    received: BTreeSet<u16>,
}

/// Publishes messages of QoS 2 to the topic `t` from a kept session, numbered from 1 on, while the service is killed and started again. Returns the
/// next number: all before it are acknowledged.
pub(crate) fn publish_through_kills(
    service: &mut Service,
    hello: &Connect<'_>,
    payload: impl Fn(u16) -> String,
) -> u16 {
    let (mut open, mut next, cycles) = (Exchanges::default(), 1u16, 6u16);
    for cycle in 0..=cycles {
        let (mut device, _) = Device::connect_as(service.mqtt(), hello);
        for id in &open.received {
            device.release(*id);
        }
        for id in &open.sent {
            let text = payload(*id);
            device.say(&Packet::Publish(Publish { dup: true, ..publish(QoS::ExactlyOnce, *id, "t", text.as_bytes()) }));
        }
        // In the last round nothing new is sent, and everything is finished.
        let most = if cycle == cycles { 0 } else { 12 };
        for id in next..next + most {
            open.sent.insert(id);
            device.try_publish(QoS::ExactlyOnce, id, "t", payload(id).as_bytes());
        }
        next += most;
        // The kill comes after another number of answers in each round: between PUBREC, PUBREL and PUBCOMP.
        let enough = usize::from(cycle) * 5 + 2;
        for _ in 0..if cycle == cycles { usize::MAX } else { enough } {
            if open.sent.is_empty() && open.received.is_empty() {
                break;
            }
            match device.hear() {
                Heard::Answer(PacketType::PubRec, id, 0) => {
                    open.sent.remove(&id);
                    open.received.insert(id);
                    device.release(id);
                }
                // 0x92: it had been completed, and the answer was lost.
                Heard::Answer(PacketType::PubComp, id, 0 | 0x92) => assert!(open.received.remove(&id)),
                other => panic!("{other:?}"),
            }
        }
        if cycle < cycles {
            service.kill9();
            service.start_again();
        }
    }
    next
}

/// R16, R17: each output of an acknowledged message is in each sink of the rule once, whenever the process is killed.
#[test]
fn outputs_of_qos_2_are_in_all_sinks_once_after_kills() {
    let mut service = Service::start(&config(
        "[spool]\n[[rule]]\nname = \"each\"\nsinks = [\"one\", \"two\"]\non_error = \"dead-letter\"\n\
         sql = '''FOREACH payload.list AS item DO item, payload.n * 10 + item AS id INCASE item > 0 FROM \"t\"'''\n\
         [[sink]]\nname = \"one\"\ntopic = \"one\"\nvalue = \"${id}\"\nkey = \"${id}\"\n\
         [[sink]]\nname = \"two\"\ntopic = \"two-${item}\"\nvalue = \"${id}\"\npartitioner = \"client\"\n",
    ));
    let hour = properties([Property::SessionExpiryInterval(3600)]);
    let hello = Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, "dev") };
    let payload = |id: u16| format!(r#"{{"n":{id},"list":[0,1,2,3]}}"#);
    let next = publish_through_kills(&mut service, &hello, payload);
    let of = |item: u16| (1..next).map(move |n| (n * 10 + item).to_string());
    let mut expected: Vec<String> = [1, 2, 3].into_iter().flat_map(of).collect();
    expected.sort();
    until("all records to be in Kafka", || texts(service.embedded(), "one").len() >= expected.len());
    assert_eq!(texts(service.embedded(), "one"), expected);
    for item in 1..=3 {
        let mut expected: Vec<String> = of(item).collect();
        expected.sort();
        let topic = format!("two-{item}");
        until("all records to be in Kafka", || texts(service.embedded(), &topic).len() >= expected.len());
        assert_eq!(texts(service.embedded(), &topic), expected);
    }
}
