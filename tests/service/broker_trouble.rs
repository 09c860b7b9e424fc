//! `[broker]` where something is wrong with its topics in Kafka: what an instance says, whether it is ready, and whether it ends.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::{Connect, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};

use crate::broker::Names;
use crate::device::{Device, hello, properties};
use crate::process::{metric, until};
use crate::support::service::{Service, config, http};
use crate::support::{command, root, run};

fn hour() -> PropertyBuf {
    properties([Property::SessionExpiryInterval(3_600)])
}

fn kept<'a>(client_id: &'a str, expiry: &'a PropertyBuf) -> Connect<'a> {
    Connect { clean_start: false, properties: expiry.as_properties(), ..hello(Version::V5, client_id) }
}

/// A client whose session ends with its connection, with a will of this payload.
fn with_will(service: &Service, payload: &[u8]) -> Device {
    let will = Will { qos: QoS::AtLeastOnce, retain: false, topic: "w", payload, properties: Properties::EMPTY };
    Device::connect_as(service.mqtt(), &Connect { will: Some(will), ..hello(Version::V5, "with-will") }).0
}

/// One of Kafka's tools with these arguments.
pub(crate) fn kafka_tool(names: &Names, class: &str, arguments: &[&str]) -> String {
    let mut tool = command(root().join("scripts/kafka"));
    tool.args(["tool", class, "--bootstrap-server", &names.kafka]).args(arguments);
    run(tool.stdin(Stdio::null()))
}

pub(crate) fn topics(names: &Names, arguments: &[&str]) -> String {
    kafka_tool(names, "org.apache.kafka.tools.TopicCommand", arguments)
}

pub(crate) fn configure(names: &Names, topic: &str, setting: &str) {
    let of = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", setting];
    kafka_tool(names, "kafka.admin.ConfigCommand", &of);
}

/// Waits until `/readyz` answers 503 with these words.
fn until_not_ready(service: &Service, words: &str) {
    let mut last = (0, String::new());
    until(&format!("/readyz to say {words}"), || {
        last = service.get("/readyz").unwrap_or_default();
        last.0 == 503 && last.1.contains(words)
    });
}

/// The keys of records in the topic of sessions that say who owned a log, each with its partition.
fn terms(names: &Names) -> Vec<(String, Vec<u8>)> {
    let read = ["-C", "-t", &names.sessions, "-o", "beginning", "-e", "-f", "%K:%p:%k;"];
    let output = names.kcat(&read).output().expect("it runs").stdout;
    let (mut rest, mut all) = (&output[..], Vec::new());
    let until_colon = |rest: &mut &[u8]| {
        let (word, after) = rest.split_at(rest.iter().position(|byte| *byte == b':').expect("a colon"));
        *rest = &after[1..];
        String::from_utf8(word.to_vec()).expect("a number")
    };
    while !rest.is_empty() {
        let bytes: usize = until_colon(&mut rest).parse().expect("a length");
        let partition = until_colon(&mut rest);
        let (key, after) = rest.split_at(bytes);
        rest = &after[1..];
        if key.starts_with(b"FBt") && !key.contains(&b'\n') {
            all.push((partition, key.to_vec()));
        }
    }
    all
}

/// Another program ends the record that says who owned a log. Every later start works, and sessions are there.
#[test]
fn finding_q2_a_tombstone_of_another_program_stops_no_start() {
    let names = Names::new("tombstone");
    let mut service = Service::start(&config(&names.config("")));
    let expiry = hour();
    let ids: Vec<String> = (0..40).map(|number| format!("client-{number}")).collect();
    for id in &ids {
        Device::connect_as(service.mqtt(), &kept(id, &expiry)).0.vanish();
    }
    until("all to be written", || metric(&service, "session_log_waiting_records") == 0);
    assert!(service.terminate().success());
    for (partition, key) in terms(&names) {
        let mut kcat = names.kcat(&["-P", "-t", &names.sessions, "-p", &partition, "-Z", "-K", "#--#"]);
        let mut kcat = kcat.stdin(Stdio::piped()).spawn().expect("it runs");
        let line = [&key[..], b"#--#\n"].concat();
        kcat.stdin.take().expect("a pipe").write_all(&line).expect("it reads");
        assert!(kcat.wait().expect("it ends").success());
    }
    for _ in 0..3 {
        service.start_again();
        for id in &ids {
            let (device, hello) = Device::connect_as(service.mqtt(), &kept(id, &expiry));
            assert!(hello.session_present, "{id}");
            device.vanish();
        }
        until("all to be written", || metric(&service, "session_log_waiting_records") == 0);
        assert!(service.terminate().success());
    }
}

/// The topic of sessions is deleted while the instance runs. That is said, the instance is not ready, and ends; the next start makes a new topic. What the topic had
/// is lost, kept sessions and wills: neither process publishes the will of a client that was connected. The will of the client's next connection is published.
#[test]
fn finding_q4_an_instance_whose_topic_of_sessions_is_deleted_says_so_and_ends() {
    let names = Names::new("deleted");
    let mut service = Service::start(&config(&names.config("[mqtt]\nconnect_timeout = \"2s\"\n")));
    let expiry = hour();
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept("kept", &expiry));
    assert_eq!(device.subscribe(&[("a", QoS::AtLeastOnce)]), [1]);
    let mut willed = with_will(&service, b"before");
    until("all to be written", || metric(&service, "session_log_waiting_records") == 0);
    topics(&names, &["--delete", "--topic", &names.sessions]);
    device.say_bytes(&crate::broker_sessions::subscribe("b"));
    until_not_ready(&service, &format!("topic {}, partition ", names.sessions));
    until("the log to say it", || service.log().contains("Kafka does not know the topic"));
    let status = service.wait();
    assert_eq!(status.code(), Some(1), "{}", service.log());
    assert!(service.log().contains("Kafka does not know the topic any more"), "{}", service.log());
    willed.until_closed();
    service.start_again();
    let (mut device, hello) = Device::connect_as(service.mqtt(), &kept("kept", &expiry));
    assert!(!hello.session_present, "it went with the topic");
    assert_eq!(device.subscribe(&[("a", QoS::AtLeastOnce)]), [1]);
    with_will(&service, b"after").vanish();
    let wills = || -> Vec<String> {
        names.read(&names.messages).into_iter().filter(|record| record.starts_with("w|")).collect()
    };
    until("the will of the next connection", || wills().iter().any(|record| record.starts_with("w|after|")));
    assert_eq!(wills().len(), 1, "{:?}", wills());
}

/// Kafka refuses the batches of a slot's log for good. That is said with the cure, and the instance is not ready until it is cured.
#[test]
fn finding_q63_a_log_that_kafka_refuses_is_said_with_the_cure_and_the_instance_is_not_ready() {
    let names = Names::new("too-large");
    let service = Service::start(&config(&names.config("")));
    let expiry = hour();
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept("kept", &expiry));
    configure(&names, &names.sessions, "max.message.bytes=300");
    let filter = "long/".repeat(200);
    let cure = format!("--entity-name {} --add-config max.message.bytes=1048576", names.sessions);
    // Kafka may apply the setting after its tool has ended: a SUBSCRIBE before that is still written.
    let (mut last, mut number) = (Instant::now(), 0);
    until(&format!("/readyz to say {cure}"), || {
        if number == 0 || last.elapsed() > Duration::from_secs(3) {
            device.try_say_bytes(&crate::broker_sessions::subscribe(&format!("{filter}{number}")));
            (last, number) = (Instant::now(), number + 1);
        }
        service.get("/readyz").is_ok_and(|(status, text)| status == 503 && text.contains(&cure))
    });
    let log = service.log();
    let said = log.lines().filter(|line| line.contains(&cure)).count();
    assert_eq!(said, 1, "{log}");
    configure(&names, &names.sessions, "max.message.bytes=1048576");
    until("it to be ready again", || service.get("/readyz").is_ok_and(|(status, _)| status == 200));
    assert!(service.log().contains("Kafka takes the logs of sessions again"), "{}", service.log());
}

/// A start that a topic stands in the way of says in `/readyz` what it waits for.
#[test]
fn finding_q12_a_start_that_waits_says_for_what() {
    let names = Names::new("policy");
    topics(&names, &["--create", "--topic", &names.retained, "--partitions", "3", "--config", "cleanup.policy=delete"]);
    let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|bound| bound.local_addr()).expect("a free port");
    let text = config(&names.config(""))
        .replace("[control]\nbind = \"127.0.0.1:0\"", &format!("[control]\nbind = \"{port}\""));
    std::thread::scope(|scope| {
        let service = scope.spawn(|| Service::start(&text));
        let cure = format!("--entity-name {} --add-config cleanup.policy=compact", names.retained);
        until("/readyz to say it", || readyz(port).contains(&cure));
        assert!(readyz(port).contains("not accepting clients: topic "), "{}", readyz(port));
        configure(&names, &names.retained, "cleanup.policy=compact");
        let service = service.join().expect("it starts");
        assert_eq!(service.get("/readyz").expect("an answer"), (200, "ready\n".to_owned()));
    });
}

fn readyz(control: SocketAddr) -> String {
    std::thread::sleep(Duration::from_millis(50));
    http(control, "GET", "/readyz", "X-Test: 1", "").map(|(_, body)| body).unwrap_or_default()
}
