//! Kafka to devices: records become messages, and a group moves on when subscribers have them.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use crate::change::{change, get};
use crate::device::{Device, Heard, hello};
use crate::kafka_client::{Batch, Client, name};
use crate::process::{metric, until, until_metric};
use crate::support::kafka::shared;
use crate::support::service::{Service, config, config_with};
use crate::support::{command, root, tool};

/// A source of the topic `commands` on the embedded log; `more` are its other keys.
pub(crate) fn source(more: &str) -> String {
    format!(
        "[[source]]\nname = \"commands\"\ntopic = \"commands\"\nmqtt_topic = \"t/1\"\npayload = \"${{value}}\"\noffset_reset = \"earliest\"\n\
         commit_interval = \"100ms\"\n{more}\n{SINK}"
    )
}

/// A sink that makes the topic `commands`.
pub(crate) const SINK: &str = "[[sink]]\nname = \"commands\"\nfilters = [\"to/kafka\"]\ntopic = \"commands\"\n";
const SPOOL: &str = "[spool]\nbytes_max = \"256MiB\"\n";

/// A subscriber of `t/1` at QoS 1, whose session lasts if it has an identifier.
pub(crate) fn subscriber(service: &Service, version: Version, client_id: &str) -> Device {
    let mut device = Device::connect(service.mqtt(), version, client_id);
    assert_eq!(device.subscribe(&[("t/1", QoS::AtLeastOnce)]), [1]);
    device
}

/// Writes records to partition 0 of a topic, with the present time: a real Kafka deletes older ones.
pub(crate) fn write(to: SocketAddr, topic: &str, values: &[&str]) {
    let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now = i64::try_from(since.as_millis()).expect("a time");
    let batch = Batch::of(&values).at(&vec![now; values.len()]);
    let answer = Client::connect(to).produce(topic, 0, &batch.bytes());
    assert_eq!(answer.error_code, 0);
}

/// The next message, which is acknowledged.
pub(crate) fn next(device: &mut Device) -> String {
    match device.hear() {
        Heard::Message(qos, packet_id, topic, payload) => {
            assert_eq!((qos, &*topic), (1, "t/1"));
            device.acknowledge(PacketType::PubAck, packet_id);
            String::from_utf8(payload).expect("text")
        }
        other => panic!("no message: {other:?}"),
    }
}

/// What a group has committed for partition 0 of the topic `commands`; -1: nothing.
pub(crate) fn committed(to: SocketAddr, group: &str) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(name("commands")).with_partition_indexes(vec![0]);
    let group = GroupId(StrBytes::from_string(group.to_owned()));
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(Some(vec![topic]));
    let answer = Client::connect(to).call(&request, 2);
    answer.topics[0].partitions[0].committed_offset
}

/// E58, E67, E83 to E85, E74 and E7: a record of the console producer reaches mosquitto_sub, word for word.
#[test]
fn the_console_producer_reaches_mosquitto_sub() {
    let kafka = shared();
    let address = kafka.split(',').next().expect("an address").parse().expect("an address");
    until("the topic to be there", || Client::connect(address).metadata(&["testtopic-out"]).topics[0].error_code == 0);
    let service = Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n[[source]]\nname = \"my-kafka-source\"\ntopic = {{ testtopic-out = \"t/1\" }}\n"
    )));
    let port = service.mqtt().port().to_string();
    let mut sub = tool("mosquitto_sub");
    let sub = sub.args(["-h", "127.0.0.1", "-p", &port, "-t", "t/1", "-v", "-q", "1", "-C", "1", "-W", "60"]);
    let sub = sub.stdout(Stdio::piped()).spawn().expect("it runs");
    until_metric(&service, "subscriptions", 1);
    until("its partitions to be read", || metric(&service, "source_partitions{source=\"my-kafka-source\"}") > 0);
    let mut producer: Command = command(root().join("scripts/kafka"));
    producer.args([
        "tool",
        "org.apache.kafka.tools.ConsoleProducer",
        "--bootstrap-server",
        &kafka,
        "--topic",
        "testtopic-out",
    ]);
    let mut producer = producer.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    producer.stdin.take().expect("piped").write_all(b"{\"msg\": \"Hello EMQX\"}\n").expect("it reads");
    assert!(producer.wait().expect("it ends").success());
    let output = sub.wait_with_output().expect("it ends");
    let line = String::from_utf8(output.stdout).expect("text");
    let (topic, payload) = line.trim_end().split_once(' ').expect("a topic and a payload");
    assert_eq!(topic, "t/1");
    let said: serde_json::Value = serde_json::from_str(payload).expect("JSON");
    assert_eq!(said["value"], "{\"msg\": \"Hello EMQX\"}");
    assert_eq!((&said["topic"], &said["ts_type"]), (&"testtopic-out".into(), &"create".into()));
    assert!(said["ts"].is_i64() && said["offset"].is_i64() && said["headers"].is_object(), "{payload}");
    let order = ["value", "ts_type", "ts", "topic", "offset", "key", "headers"]
        .map(|name| payload.find(&format!("\"{name}\":")));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{payload}");
}

#[test]
fn a_group_moves_on_when_the_subscriber_has_acknowledged() {
    for shards in [1, 2] {
        let service = Service::start(&config_with(&format!("shards = {shards}"), &source("")));
        let log = service.embedded();
        let mut device = subscriber(&service, Version::V5, "");
        let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(1, "to/kafka", b"first");
        let Heard::Message(1, packet_id, ..) = device.hear() else { panic!("no message") };
        until_metric(&service, "source_open_messages", 1);
        device.acknowledge(PacketType::PubAck, packet_id);
        until_metric(&service, "source_open_messages", 0);
        for number in 0..50 {
            publisher.deliver(2, "to/kafka", format!("{number}").as_bytes());
            assert_eq!(next(&mut device), format!("{number}"));
        }
        until("all to be committed", || metric(&service, "source_lag_records") == 0 && committed_sum(log) == 51);
        assert_eq!(metric(&service, "source_messages_total{result=\"published\"}"), 51);
    }
}

/// What the group has committed for all four partitions.
fn committed_sum(log: SocketAddr) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(name("commands")).with_partition_indexes(vec![0, 1, 2, 3]);
    let group = GroupId(StrBytes::from_static_str("forebay-commands"));
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(Some(vec![topic]));
    let answer = Client::connect(log).call(&request, 2);
    answer.topics[0].partitions.iter().map(|partition| partition.committed_offset.max(0)).sum()
}

/// F6: a crash repeats what was not acknowledged, and nothing that was.
#[test]
fn what_was_not_acknowledged_comes_again_after_kill_9() {
    let mut service = Service::start(&config(&source("")));
    write_when_there(&service, &["a", "b"]);
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!(next(&mut device), "a");
    let Heard::Message(1, _, _, payload) = device.hear() else { panic!("no message") };
    assert_eq!(payload, b"b");
    until("the first to be committed", || committed(service.embedded(), "forebay-commands") == 1);
    service.kill9();
    service.start_again();
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!(next(&mut device), "b");
    until("both to be committed", || committed(service.embedded(), "forebay-commands") == 2);
    assert!(service.terminate().success());
    service.start_again();
    let mut device = subscriber(&service, Version::V5, "");
    write(service.embedded(), "commands", &["c"]);
    assert_eq!(next(&mut device), "c", "nothing comes twice after an orderly stop");
}

/// Makes the topic `commands`: to ask for it is enough.
pub(crate) fn make_topic(service: &Service) {
    until("the topic to be there", || {
        Client::connect(service.embedded()).metadata(&["commands"]).topics[0].error_code == 0
    });
}

/// Makes the topic `commands` and writes records to it.
pub(crate) fn write_when_there(service: &Service, values: &[&str]) {
    make_topic(service);
    write(service.embedded(), "commands", values);
}

/// F7: what nobody has subscribed to waits, and holds the group's offset; or it is dropped and counted.
#[test]
fn a_message_without_a_subscriber_waits_or_is_dropped() {
    let service = Service::start(&config(&source("no_subscriber = \"wait\"\nstart_grace = \"0s\"")));
    write_when_there(&service, &["a", "b"]);
    until_metric(&service, "source_parked_messages", 2);
    assert!(committed(service.embedded(), "forebay-commands") <= 0);
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!([next(&mut device), next(&mut device)], ["a", "b"]);
    until("both to be committed", || committed(service.embedded(), "forebay-commands") == 2);

    let service = Service::start(&config(&source("no_subscriber = \"drop\"\nstart_grace = \"0s\"")));
    write_when_there(&service, &["a", "b"]);
    until_metric(&service, "source_messages_total{result=\"no_subscriber\"}", 2);
    until("both to be committed", || committed(service.embedded(), "forebay-commands") == 2);
}

/// F7: nothing is dropped in the first `start_grace`, and what nobody has subscribed to is when that is over.
#[test]
fn clients_may_come_late_after_a_start() {
    let service = Service::start(&config(&source("no_subscriber = \"drop\"\nstart_grace = \"1h\"")));
    write_when_there(&service, &["a", "b"]);
    until_metric(&service, "source_parked_messages", 2);
    let mut device = subscriber(&service, Version::V5, "");
    assert_eq!([next(&mut device), next(&mut device)], ["a", "b"]);
    until("both to be committed", || committed(service.embedded(), "forebay-commands") == 2);

    let service = Service::start(&config(&source("no_subscriber = \"drop\"\nstart_grace = \"1h\"")));
    write_when_there(&service, &["a", "b"]);
    until_metric(&service, "source_parked_messages", 2);
    let mut keys = get(&service, "config")["source"][0].clone();
    keys["start_grace"] = "0s".into();
    assert_eq!(change(&service, "PUT", "sources/commands", &keys).0, 200);
    until_metric(&service, "source_messages_total{result=\"no_subscriber\"}", 2);
    until_metric(&service, "source_parked_messages", 0);
    until("both to be committed", || committed(service.embedded(), "forebay-commands") == 2);
}

/// F6: a stop waits for what clients have not acknowledged, and commits it.
#[test]
fn a_stop_waits_for_what_is_open() {
    let mut service =
        Service::start(&config(&source("commit_interval = \"10m\"").replace("commit_interval = \"100ms\"\n", "")));
    write_when_there(&service, &["a"]);
    let mut device = subscriber(&service, Version::V5, "");
    let Heard::Message(1, packet_id, ..) = device.hear() else { panic!("no message") };
    service.signal("TERM");
    until("the stop to begin", || service.log().contains("event=\"draining\""));
    // One that did not wait would have committed by then.
    std::thread::sleep(Duration::from_millis(300));
    device.acknowledge(PacketType::PubAck, packet_id);
    assert!(service.wait().success());
    service.start_again();
    until("the group to be there", || metric(&service, "source_assigned_partitions") == 4);
    assert_eq!(committed(service.embedded(), "forebay-commands"), 1);
}

/// With `wait`, a message that a client without a kept session has not acknowledged when it goes is for the next one.
#[test]
fn a_message_that_goes_with_its_session_is_for_the_next_subscriber() {
    for spool in ["", SPOOL] {
        let service = Service::start(&config(&source(&format!("no_subscriber = \"wait\"\n{spool}"))));
        let mut first = subscriber(&service, Version::V5, "");
        write_when_there(&service, &["a"]);
        assert!(matches!(first.hear(), Heard::Message(..)));
        first.vanish();
        until_metric(&service, "source_parked_messages", 1);
        let mut second = subscriber(&service, Version::V5, "");
        assert_eq!(next(&mut second), "a");
        until("it to be committed", || committed(service.embedded(), "forebay-commands") == 1);
        assert_eq!(metric(&service, "source_messages_lost_total"), 0, "what is parked is not lost");
    }
}

/// F5: what a kept session has in the log is committed though its client is away, and the client gets it after kill -9.
#[test]
fn a_kept_session_has_it_in_the_log() {
    let mut service = Service::start(&config(&source(SPOOL)));
    let kept = Connect { clean_start: false, ..hello(Version::V311, "kept") };
    let mut device = Device::connect_as(service.mqtt(), &kept).0;
    assert_eq!(device.subscribe(&[("t/1", QoS::AtLeastOnce)]), [1]);
    write_when_there(&service, &["a"]);
    assert_eq!(next(&mut device), "a");
    device.vanish();
    write(service.embedded(), "commands", &["b", "c"]);
    until("all to be committed", || committed(service.embedded(), "forebay-commands") == 3);
    service.kill9();
    service.start_again();
    let mut device = Device::connect_as(service.mqtt(), &kept).0;
    assert_eq!([next(&mut device), next(&mut device)], ["b", "c"]);
}

/// A source without a group reads all partitions and commits nothing.
#[test]
fn a_source_without_a_group_reads_all() {
    let service = Service::start(&config_with("shards = 2", &source("group = \"\"")));
    let mut device = subscriber(&service, Version::V5, "");
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    for number in 0..20 {
        publisher.deliver(1, "to/kafka", format!("{number}").as_bytes());
        assert_eq!(next(&mut device), format!("{number}"));
    }
    until_metric(&service, "source_partitions", 4);
    assert_eq!(committed(service.embedded(), "forebay-commands"), -1);
}

/// emqx#19074: 30 records a second, and a service that is stopped and killed again and again: none is missing for a subscriber without a kept
/// session, and after an orderly stop none comes twice. `FOREBAY_TEST_RESTARTS=50` for the long form.
#[test]
fn no_restart_costs_a_record() {
    let more = format!("{AS_MESSAGES}no_subscriber = \"wait\"");
    restarts(("clean", false), &more, |service| subscriber(service, Version::V5, ""));
}

/// What records become where the source makes messages of them.
const AS_MESSAGES: &str = "mqtt_topic = \"t/1\"\npayload = \"${value}\"\n";

/// The same where the records are for a rule, which publishes them: a clean-session subscriber that comes back a while after the start misses nothing, with the
/// settings that a source has by default. `FOREBAY_TEST_RESTARTS=100 FOREBAY_TEST_AWAY_MS=8000` for the long form.
#[test]
fn finding_q40_no_restart_costs_a_record_that_a_rule_publishes() {
    let away = std::env::var("FOREBAY_TEST_AWAY_MS").map_or(1_500, |ms| ms.parse().expect("a number"));
    let rule = "[[rule]]\nname = \"republishes\"\nsql = '''SELECT value FROM \"$bridges/kafka_consumer:$TOPIC\"'''\n\
                [[rule.republish]]\ntopic = \"t/1\"\npayload = \"${value}\"\nqos = 2\n";
    let mut was_there = false;
    restarts(("ruled", false), rule, |service| {
        if std::mem::replace(&mut was_there, true) {
            std::thread::sleep(Duration::from_millis(fastrand::u64(away / 8..=away)));
        }
        subscriber(service, Version::V5, "")
    });
}

/// The same for a kept session in the log, where nobody else is waited for: what comes while its client is away is there for it. A stop waits for
/// the log alone, so the client is sent again what its last acknowledgements were for.
#[test]
fn no_restart_costs_a_kept_subscriber_a_record() {
    let more = format!("{AS_MESSAGES}no_subscriber = \"drop\"\nstart_grace = \"0s\"\n[spool]\nbytes_max = \"64MiB\"\n");
    let mut is_known = false;
    restarts(("kept", true), &more, |service| {
        let kept = Connect { clean_start: false, ..hello(Version::V311, "kept") };
        let mut device = Device::connect_as(service.mqtt(), &kept).0;
        // It subscribes once: a restart keeps that.
        if !std::mem::replace(&mut is_known, true) {
            assert_eq!(device.subscribe(&[("t/1", QoS::AtLeastOnce)]), [1]);
        }
        device
    });
}

/// Ends a writer, whatever becomes of the test.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `may_repeat`: also after an orderly stop. `more`: keys of the source, and sections; `$TOPIC` in it is its name. `come`: a subscriber of `t/1` comes.
fn restarts((name, may_repeat): (&str, bool), more: &str, mut come: impl FnMut(&Service) -> Device) {
    let restarts = std::env::var("FOREBAY_TEST_RESTARTS").map_or(4, |count| count.parse().expect("a number"));
    let kafka = shared();
    let address: SocketAddr = kafka.split(',').next().expect("an address").parse().expect("an address");
    let topic = &*format!("restarts-{name}-{}", std::process::id());
    until("the topic to be there", || Client::connect(address).metadata(&[topic]).topics[0].error_code == 0);
    let mut service = Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{kafka}\"\n[[source]]\nname = \"{topic}\"\ntopic = \"{topic}\"\n\
         offset_reset = \"earliest\"\ncommit_interval = \"200ms\"\ngroup_instance = \"one\"\n{}\n",
        more.replace("$TOPIC", topic)
    )));
    // Its first subscription is there before its first record.
    let mut first = Some(come(&service));
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let writer = scope.spawn(|| {
            let mut written = 0;
            while !is_over.load(Ordering::Relaxed) {
                write(address, topic, &[&format!("{written}")]);
                written += 1;
                std::thread::sleep(Duration::from_millis(33));
            }
            written
        });
        let (mut got, mut repeated) = (BTreeSet::new(), 0);
        // What may come again: what was there when the service was killed, once.
        let mut may_come_again = BTreeSet::new();
        for round in 0..=restarts {
            let mut device = first.take().unwrap_or_else(|| come(&service));
            for _ in 0..30 {
                let value = next(&mut device);
                let is_repeat = !got.insert(value.clone());
                repeated += u64::from(is_repeat);
                let may_repeat = may_come_again.remove(&value) || may_repeat;
                assert!(!is_repeat || may_repeat, "{value} comes twice after an orderly stop");
            }
            if round == restarts {
                is_over.store(true, Ordering::Relaxed);
                let written = writer.join().expect("it writes");
                while got.len() < written {
                    let missing: Vec<_> = (0..written).filter(|number| !got.contains(&format!("{number}"))).collect();
                    let heard = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next(&mut device)));
                    got.insert(
                        heard.unwrap_or_else(|_| panic!("{name}: of {written} records these are missing: {missing:?}")),
                    );
                }
                let all: BTreeSet<String> = (0..written).map(|number| format!("{number}")).collect();
                assert_eq!(got, all);
                println!("{name}: {written} records, {restarts} restarts: {repeated} came twice");
                return;
            }
            // Every second stop is an orderly one.
            if round % 2 == 0 {
                service.signal("TERM");
            } else {
                service.kill9();
            }
            loop {
                match device.hear() {
                    Heard::Message(_, packet_id, _, payload) => {
                        let value = String::from_utf8(payload).expect("text");
                        may_come_again.remove(&value);
                        repeated += u64::from(!got.insert(value));
                        device.try_acknowledge(PacketType::PubAck, packet_id);
                    }
                    Heard::Closed => break,
                    Heard::Disconnect(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            if round % 2 == 0 {
                assert!(service.wait().success());
            } else {
                may_come_again.clone_from(&got);
            }
            service.start_again();
        }
    });
}
