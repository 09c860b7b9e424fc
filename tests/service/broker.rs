//! `[broker]`: messages of clients go through topics of a real Kafka, and what any program writes there reaches subscribers. Rows Z1 to Z13, Z22 to Z24
//! and Z28 to Z33.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Connect, Packet, PacketType, Publish, QoS, Subscribe, SubscriptionOptions, Version, Will};
use forebay::mqtt::property::{Properties, Property};

use crate::device::{Device, Heard, hello, properties, puback, publish};
use crate::process::{metric, until, until_metric};
use crate::support::kafka::shared;
use crate::support::service::{Service, config, config_with, program};
use crate::support::{command, root, run, tool};

/// Topics of one test.
pub(crate) struct Names {
    pub(crate) kafka: String,
    pub(crate) messages: String,
    pub(crate) retained: String,
    pub(crate) sessions: String,
    pub(crate) devices: String,
    pub(crate) group: String,
}

impl Names {
    pub(crate) fn new(test: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
        let name = |what: &str| format!("broker-{test}-{}-{now}-{what}", std::process::id());
        let (messages, retained, devices) = (name("messages"), name("retained"), name("devices"));
        let sessions = name("sessions");
        Self { kafka: shared(), messages, retained, sessions, devices, group: name("a") }
    }

    /// `[broker]` with its topics, and a route for `place/+/device/#`.
    pub(crate) fn config(&self, more: &str) -> String {
        let Self { kafka, messages, retained, sessions, devices, group } = self;
        format!(
            "[kafka.main]\nbootstrap = \"{kafka}\"\n[broker]\nname = \"{group}\"\nmessages = \"{messages}\"\nretained = \"{retained}\"\nsessions = \"{sessions}\"\npartitions = 3\n\
             [[broker.route]]\nfilters = [\"place/+/device/#\"]\ntopic = \"{devices}\"\n{more}"
        )
    }

    pub(crate) fn kcat(&self, arguments: &[&str]) -> Command {
        let mut kcat = tool("kcat");
        // As the sinks do, and Java: with the partition of the key.
        kcat.args(["-q", "-b", &self.kafka, "-X", "partitioner=murmur2"]).args(arguments);
        kcat
    }

    /// Writes a record as any program may.
    pub(crate) fn write(&self, topic: &str, key: &str, value: &str, headers: &[&str]) {
        let mut kcat = self.kcat(&["-P", "-t", topic, "-k", key]);
        for header in headers {
            kcat.args(["-H", header]);
        }
        let file = crate::support::temp_dir();
        let path = file.path().join("value");
        std::fs::write(&path, value).expect("it can be written");
        run(kcat.arg(path));
    }

    /// All records of a topic: key, value and headers.
    pub(crate) fn read(&self, topic: &str) -> Vec<String> {
        let output =
            self.kcat(&["-C", "-t", topic, "-o", "beginning", "-e", "-f", "%k|%s|%h\n"]).output().expect("it runs");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}

/// The next message, acknowledged: topic and payload.
pub(crate) fn next(device: &mut Device) -> (String, String) {
    match device.hear() {
        Heard::Message(qos, packet_id, topic, payload) => {
            if qos == 1 {
                device.acknowledge(PacketType::PubAck, packet_id);
            }
            (topic, String::from_utf8(payload).expect("text"))
        }
        other => panic!("no message: {other:?}"),
    }
}

pub(crate) fn message(topic: &str, payload: &str) -> (String, String) {
    (topic.to_owned(), payload.to_owned())
}

fn subscriber(service: &Service, filter: &str) -> Device {
    let mut device = Device::connect(service.mqtt(), Version::V5, "");
    assert_eq!(device.subscribe(&[(filter, QoS::AtLeastOnce)]), [1]);
    device
}

/// Waits until the topics are read.
pub(crate) fn until_read(service: &Service) {
    until("its partitions to be read", || metric(service, "source_partitions{source=\"broker\"}") == 6);
}

/// Z7, Z9, Z10, Z13, Z28 to Z31: a publish is a record of its route's topic, with the MQTT topic as the key, before it is answered, and subscribers get it
/// once, from there.
#[test]
fn what_is_published_goes_through_kafka_and_comes_once() {
    for shards in [1, 2] {
        let names = Names::new("through");
        let service = Service::start(&config_with(&format!("shards = {shards}"), &names.config("")));
        let mut subscribers = [0, 1, 2, 3].map(|_| subscriber(&service, "#"));
        let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(1, "place/7/device/a", b"routed");
        // It is in Kafka when it is answered.
        let records = names.read(&names.devices);
        assert_eq!(records.len(), 1, "{records:?}");
        let headers = "mqtt-qos=1,mqtt-retain=false,mqtt-client-id=publisher";
        assert_eq!(records[0], format!("place/7/device/a|routed|{headers}"));
        publisher.deliver(2, "place/7", b"rest");
        assert_eq!(names.read(&names.messages).len(), 1);
        for device in &mut subscribers {
            let mut got = [next(device), next(device)];
            got.sort();
            assert_eq!(got, [message("place/7", "rest"), message("place/7/device/a", "routed")]);
        }
        // Nothing comes twice: the next message is the next that is heard.
        publisher.deliver(1, "last", b"x");
        for device in &mut subscribers {
            assert_eq!(next(device), message("last", "x"));
        }
        assert_eq!(metric(&service, "source_messages_total{result=\"published\"}"), 3);
    }
}

/// Z24: what another program writes into a topic reaches subscribers by its key, at the QoS of `[broker]` or of a header.
#[test]
fn records_of_other_programs_reach_subscribers() {
    let names = Names::new("foreign");
    let service = Service::start(&config(&names.config("mqtt_topic = \"from/${key}\"\n")));
    let mut device = subscriber(&service, "#");
    until_read(&service);
    names.write(&names.messages, "a/b", "plain", &[]);
    assert_eq!(next(&mut device), message("a/b", "plain"));
    names.write(&names.messages, "a/b", "qos 0", &["mqtt-qos=0"]);
    assert!(matches!(device.hear(), Heard::Message(0, ..)));
    names.write(&names.devices, "x", "routed", &[]);
    assert_eq!(next(&mut device), message("from/x", "routed"));
    // A key that is no topic, and one of the server's own, are passed over.
    names.write(&names.messages, "a/#", "wild", &[]);
    names.write(&names.messages, "$SYS/x", "own", &[]);
    until_metric(&service, "source_bad_records_total", 2);
    names.write(&names.messages, "a/c", "last", &[]);
    assert_eq!(next(&mut device), message("a/c", "last"));
    drop(service);
    // An instance that has not been there begins at the end of the topics.
    let names = Names { group: format!("{}-other", names.group), ..names };
    let service = Service::start(&config(&names.config("mqtt_topic = \"from/${key}\"\n")));
    let mut device = subscriber(&service, "#");
    names.write(&names.messages, "a/d", "new", &[]);
    assert_eq!(next(&mut device), message("a/d", "new"));
}

/// Z23, Z24: a request of mosquitto_rr, with a response topic and correlation data, is a record that any workflow can answer; here kcat does.
#[test]
fn kcat_answers_a_request() {
    let names = Names::new("request");
    let service = Service::start(&config(&names.config("")));
    until_read(&service);
    let port = service.mqtt().port().to_string();
    let mut requester = tool("mosquitto_rr");
    let at = ["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-W", "60", "-q", "1"];
    let request =
        ["-t", "place/1/device/set", "-e", "answers/1", "-m", "on", "-D", "publish", "correlation-data", "42"];
    requester.args(at).args(request).args(["-F", "%t %p %D"]).stdout(Stdio::piped());
    let requester = requester.spawn().expect("it runs");
    until("the request to be in Kafka", || names.read(&names.devices).len() == 1);
    let record = names.read(&names.devices).remove(0);
    let headers = record.rsplit_once('|').expect("headers").1;
    let header = |name: &str| {
        let name = format!("{name}=");
        headers.split(',').find_map(|header| header.strip_prefix(&name)).expect("a header").to_owned()
    };
    let (to, correlation) = (header("mqtt-response-topic"), header("mqtt-correlation-data"));
    assert_eq!((&*to, &*correlation), ("answers/1", "42"));
    names.write(&names.messages, &to, "done", &[&format!("mqtt-correlation-data={correlation}")]);
    let output = requester.wait_with_output().expect("it ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_end(), "answers/1 done 42");
}

/// Z8, Z32, Z33: what is retained is a record of the topic for it, by its MQTT topic; a machine that has nothing takes it up from there, and what was
/// ended is not there.
#[test]
fn what_is_retained_is_in_kafka_and_outlives_the_machine() {
    let names = Names::new("retained");
    let text = config_with("shards = 2", &names.config(""));
    let mut service = Service::start(&text);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    let all = [("a", "1"), ("place/1/device/x", "2"), ("gone", "3"), ("a", "4"), ("gone", "")];
    for (packet_id, (topic, payload)) in (1..).zip(all) {
        let retained = Publish { retain: true, ..publish(QoS::AtLeastOnce, packet_id, topic, payload.as_bytes()) };
        publisher.say(&Packet::Publish(retained));
        assert_eq!(publisher.hear(), puback(packet_id));
    }
    names.write(&names.messages, "foreign", "5", &["mqtt-retain=true"]);
    until_metric(&service, "retained_messages", 3);
    until("the copies to be in Kafka", || {
        metric(&service, "source_lag_records") == 0 && names.read(&names.retained).len() == 6
    });
    let expected = [message("a", "4"), message("foreign", "5"), message("place/1/device/x", "2")];
    let held = |service: &Service| {
        let mut device = subscriber(service, "#");
        // What was on its way when the process was killed may come once more.
        let mut retained =
            std::iter::repeat_with(|| next(&mut device)).filter(|(_, payload)| payload != "not retained");
        let mut got = [(); 3].map(|()| retained.next().expect("a message"));
        got.sort();
        got
    };
    assert_eq!(held(&service), expected);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    let commits = || metric(&service, "source_commits_total{result=\"committed\"}");
    let before = commits();
    publisher.deliver(1, "place/1/device/x", b"not retained");
    until("a commit of what came before it", || commits() > before);
    service.kill9();
    drop(service);
    // An instance that was behind copies an older record late (I7, N30): "a" ends with "1" in the topic.
    let copies = names.read(&names.retained);
    let first = copies.iter().find(|copy| copy.starts_with("a|1|")).expect("the copy of the first record");
    let copy_of = first.split(['|', ',']).find(|header| header.starts_with("mqtt-copy-of=")).expect("its record");
    names.write(&names.retained, "a", "1", &["mqtt-qos=1", copy_of]);
    // An empty machine.
    let service = Service::start(&text);
    until_metric(&service, "retained_messages", 3);
    assert_eq!(held(&service), expected);
}

/// Z33 and the vector: what comes while the service is away reaches a kept session once it is back, after an orderly stop once.
#[test]
fn what_comes_while_it_is_away_comes_once_when_it_is_back() {
    let names = Names::new("away");
    let mut service = Service::start(&config(&names.config("[spool]\nbytes_max = \"256MiB\"\n")));
    let hour = properties([Property::SessionExpiryInterval(3_600)]);
    let kept = Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, "kept") };
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept);
    assert_eq!(device.subscribe(&[("t/#", QoS::AtLeastOnce)]), [1]);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    publisher.deliver(1, "t/1", b"before");
    assert_eq!(next(&mut device), message("t/1", "before"));
    device.vanish();
    for (round, is_killed) in [false, true, false].into_iter().enumerate() {
        publisher.deliver(2, "t/1", format!("queued {round}").as_bytes());
        if is_killed {
            service.kill9();
        } else {
            assert!(service.terminate().success());
        }
        names.write(&names.messages, "t/1", &format!("away {round}"), &[]);
        service.start_again();
        publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(1, "t/1", format!("back {round}").as_bytes());
        let (mut device, hello) = Device::connect_as(service.mqtt(), &kept);
        assert!(hello.session_present);
        let wanted = ["queued", "away", "back"].map(|word| message("t/1", &format!("{word} {round}")));
        let mut got = Vec::new();
        while got.last() != Some(&wanted[2]) {
            got.push(next(&mut device));
        }
        if is_killed {
            // What was not committed comes again.
            let mut seen = BTreeSet::new();
            got.retain(|one| wanted.contains(one) && seen.insert(one.clone()));
        }
        assert_eq!(got, wanted);
        until("all to be settled", || metric(&service, "source_open_messages") == 0);
        device.vanish();
    }
}

/// Z12, Z38: topics that are there are used as they are, with partitions and settings of their own, and the instance itself is no store: nothing is on its disk.
#[test]
fn topics_of_anothers_making_are_used_as_they_are() {
    let names = Names::new("layout");
    let create = |topic: &str, partitions: &str, setting: &str| {
        let mut kafka = command(root().join("scripts/kafka"));
        kafka.args(["tool", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", &names.kafka, "--create"]);
        run(kafka.args(["--topic", topic, "--partitions", partitions, "--config", setting]));
    };
    create(&names.messages, "5", "retention.ms=3600000");
    create(&names.devices, "2", "cleanup.policy=compact");
    let mut service = Service::start(&config(&names.config("")));
    until("its partitions to be read", || metric(&service, "source_partitions{source=\"broker\"}") == 7);
    let hour = properties([Property::SessionExpiryInterval(3_600)]);
    let kept = Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, "kept") };
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept);
    assert_eq!(device.subscribe(&[("#", QoS::AtLeastOnce)]), [1]);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    for (packet_id, topic) in [(1, "place/1/device/a"), (2, "rest")] {
        publisher.deliver(packet_id, topic, b"x");
        assert_eq!(next(&mut device), message(topic, "x"));
    }
    assert!(service.terminate().success());
    assert!(!service.dir().join("data/spool").exists());
}

/// `forebay check` before the first start: topics that the start makes are no problem.
#[test]
fn a_check_before_the_first_start_finds_no_problem() {
    let names = Names::new("check");
    let dir = crate::support::temp_dir();
    let file = dir.path().join("broker.toml");
    std::fs::write(&file, config(&names.config(""))).expect("it can be written");
    let output = program().arg("check").arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && !said.contains("PROBLEM"), "{said}");
    for topic in [&names.messages, &names.devices, &names.retained, &names.sessions] {
        assert!(said.contains(&format!("topic {topic} is missing; the start creates it")), "{topic}\n{said}");
    }
}

/// A route that is new after a kill is read from its end on, and does not wait until Kafka has given up the member that was killed.
#[test]
fn a_new_route_does_not_wait_for_the_member_that_was_killed() {
    let names = Names::new("route");
    let mut service = Service::start(&config(&names.config("")));
    until_read(&service);
    service.kill9();
    let topic = format!("{}-new", names.group);
    let route = format!("[[broker.route]]\nfilters = [\"new/#\"]\ntopic = \"{topic}\"\n");
    let service = Service::start(&config(&names.config(&route)));
    assert!(!service.log().contains("OffsetCommit"), "{}", service.log());
    let mut device = subscriber(&service, "#");
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    for (packet_id, name) in [(1, "new/a"), (2, "place/1/device/a"), (3, "rest")] {
        publisher.deliver(packet_id, name, b"x");
        assert_eq!(next(&mut device), message(name, "x"));
    }
    assert_eq!(names.read(&topic).len(), 1);
}

/// A client that wants nothing of its own does not get it from Kafka either; on whichever shard the record is read.
#[test]
fn no_local_holds() {
    let names = Names::new("local");
    let service = Service::start(&config_with("shards = 2", &names.config("")));
    for client_id in ["one", "two", "three", "four"] {
        let mut device = Device::connect(service.mqtt(), Version::V5, client_id);
        let mut list = FilterBuf::for_subscribe();
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, no_local: true, ..SubscriptionOptions::default() };
        assert!(list.push(&format!("own/{client_id}/#"), options));
        device.say(&Packet::Subscribe(Subscribe {
            packet_id: 9,
            properties: Properties::EMPTY,
            filters: list.as_filters(),
        }));
        assert!(matches!(device.hear(), Heard::Codes(..)));
        let topics: Vec<String> = (1..5).map(|number| format!("own/{client_id}/{number}")).collect();
        for (packet_id, topic) in (1..).zip(&topics) {
            device.deliver(packet_id, topic, b"own");
        }
        // A topic is in one partition: what another client publishes there comes after the client's own message.
        let mut other = Device::connect(service.mqtt(), Version::V5, "other");
        for (packet_id, topic) in (1..).zip(&topics) {
            other.deliver(packet_id, topic, b"x");
        }
        let mut heard: Vec<_> = topics.iter().map(|_| next(&mut device)).collect();
        heard.sort();
        assert_eq!(heard, topics.iter().map(|topic| message(topic, "x")).collect::<Vec<_>>());
    }
}

/// The binding of Zilla's reference, as it is written there.
const ZILLA: &str = "\
mqtt_kafka_proxy:
  type: mqtt-kafka
  kind: proxy
  options:
    server: mqtt-1.example.com:1883
    topics:
      sessions: mqtt-sessions
      messages: mqtt-messages
      retained: mqtt-retained
  exit: kafka_cache_client
";

/// Z1 to Z12: `forebay import zilla` reads the example as it is written, a service runs with what it makes, and what is missing is an error.
#[test]
fn zillas_example_is_imported_and_runs() {
    let dir = crate::support::temp_dir();
    let file = dir.path().join("zilla.yaml");
    let import = |text: &str| {
        std::fs::write(&file, text).expect("it can be written");
        let output = program().args(["import", "zilla"]).arg(&file).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, said) = import(&ZILLA.replace("      retained: mqtt-retained\n", ""));
    assert!(code == Some(1) && said.contains("options.topics.retained is required"), "{said}");
    let (code, made, said) = import(ZILLA);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("options.server: each instance") && said.contains("set bootstrap of [kafka.main]"), "{said}");
    let names = Names::new("zilla");
    let made = made.replace("kafka.example:9092", &names.kafka).replace("127.0.0.1:1885", "127.0.0.1:0");
    let service = Service::start_with(&config(&made), &[], &[("FOREBAY_BROKER_NAME", &names.group)]);
    let topic = format!("{}/a", names.group);
    let mut device = subscriber(&service, &topic);
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    publisher.deliver(1, &topic, b"through Kafka");
    assert_eq!(next(&mut device), message(&topic, "through Kafka"));
    let records = names.read("mqtt-messages");
    assert!(records.iter().any(|record| record.starts_with(&format!("{topic}|through Kafka|"))), "{records:?}");
}

/// Z22: a will is a message as any other.
#[test]
fn a_will_goes_through_kafka() {
    let names = Names::new("will");
    let service = Service::start(&config(&names.config("")));
    let mut device = subscriber(&service, "wills/#");
    let will =
        Will { topic: "wills/a", payload: b"gone", qos: QoS::AtLeastOnce, retain: true, properties: Properties::EMPTY };
    let connect = Connect { will: Some(will), ..hello(Version::V5, "mortal") };
    Device::connect_as(service.mqtt(), &connect).0.vanish();
    assert_eq!(next(&mut device), message("wills/a", "gone"));
    assert_eq!(names.read(&names.messages), ["wills/a|gone|mqtt-qos=1,mqtt-retain=true,mqtt-client-id=mortal"]);
    until("the copy to be in Kafka", || names.read(&names.retained).len() == 1);
}

/// Two brokers on one Kafka, each with topics of its own, and with one name: each reads its own.
#[test]
fn finding_q60_two_brokers_of_one_name_do_not_take_each_others_reading() {
    let names = Names::new("twins");
    let others = Names { group: names.group.clone(), kafka: names.kafka.clone(), ..Names::new("twins-other") };
    let services = [&names, &others].map(|names| Service::start(&config(&names.config(""))));
    services.iter().for_each(until_read);
    let mut subscribers = services.each_ref().map(|service| subscriber(service, "t"));
    for (number, service) in (1..).zip(services.iter().chain(&services)) {
        let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(number, "t", number.to_string().as_bytes());
    }
    for (subscriber, numbers) in subscribers.iter_mut().zip([["1", "3"], ["2", "4"]]) {
        let mut got = [next(subscriber), next(subscriber)];
        got.sort();
        assert_eq!(got, numbers.map(|number| message("t", number)));
    }
}

/// A client that subscribes right after a start gets what is retained after the older messages that are yet to be read: nothing that comes
/// live is older than a message of its topic that has come before.
#[test]
fn finding_q16_what_is_retained_comes_after_what_is_older() {
    const RETAINED_EVERY: u32 = 7;
    let names = Names::new("order");
    let mut service = Service::start(&config_with("shards = 2", &names.config("")));
    until_read(&service);
    let hour = properties([Property::SessionExpiryInterval(3_600)]);
    let connect = Connect { clean_start: false, properties: hour.as_properties(), ..hello(Version::V5, "kept") };
    let (mut kept, _) = Device::connect_as(service.mqtt(), &connect);
    assert_eq!(kept.subscribe(&[("t/#", QoS::AtLeastOnce)]), [1]);
    let mut sent = 0_u32;
    // Returns the publisher, with answers that it has not heard yet, and the number of its last message.
    let mut publish_some = |service: &Service, count: u32| {
        let mut device = Device::connect(service.mqtt(), Version::V5, "publisher");
        let mut packet_id = 0;
        for _ in 0..count {
            sent += 1;
            let (topic, payload) = (format!("t/{}", sent % 12), format!("{sent:09}"));
            packet_id += 1;
            let retain = sent.is_multiple_of(RETAINED_EVERY);
            let packet = Publish { retain, ..publish(QoS::AtLeastOnce, packet_id, &topic, payload.as_bytes()) };
            device.try_say_bytes(&crate::device::bytes(Version::V5, &Packet::Publish(packet)));
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        (device, packet_id, sent)
    };
    for _ in 0..4 {
        let publisher = publish_some(&service, 1_000);
        service.kill9();
        drop(publisher);
        service.start_again();
        let mut device = subscriber(&service, "t/#");
        let (mut publisher, packet_id, last) = publish_some(&service, 300);
        // With answers unheard its end could take its last messages along.
        loop {
            match publisher.hear() {
                Heard::Answer(PacketType::PubAck, heard, _) if heard == packet_id => break,
                Heard::Answer(..) => {}
                other => panic!("{other:?}"),
            }
        }
        let mut newest = std::collections::BTreeMap::new();
        let mut seen = BTreeSet::new();
        loop {
            let (topic, payload) = next(&mut device);
            let number: u32 = payload.parse().expect("a number");
            let newest = newest.entry(topic).or_insert(0);
            let may_be_retained = number.is_multiple_of(RETAINED_EVERY);
            assert!(!seen.insert(number) || may_be_retained || number > *newest, "{number} came after {newest}");
            *newest = number.max(*newest);
            if number == last {
                break;
            }
        }
    }
}
