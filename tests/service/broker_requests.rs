//! `[broker]`: requests of MQTT clients are answered by programs that know Kafka alone: one with its plain Java consumer and producer, and one with Kafka
//! Streams. kcat is in `broker.rs`. Rows Z23 and Z24.

use std::process::{Child, Command, Stdio};

use forebay::mqtt::packet::{Packet, Publish, QoS, Version};
use forebay::mqtt::property::Property;

use crate::broker::{Names, until_read};
use crate::device::{Device, properties, puback, publish};
use crate::support::service::{Service, config};
use crate::support::{command, root, run, temp_dir, tool};

/// A program that answers, until it is dropped.
struct Responder(Child);

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A folder of jars that `scripts/kafka` fetches when it has not yet.
fn jars(word: &str) -> String {
    let mut kafka = command(root().join("scripts/kafka"));
    run(kafka.arg(word)).trim_end().to_owned()
}

/// A Java program of `tests/java`, as a source file.
fn java(libraries: &[String], program: &str) -> Command {
    let mut java = tool("java");
    let classes: Vec<String> = libraries.iter().map(|folder| format!("{folder}/*")).collect();
    let log = format!("-Dlog4j2.configurationFile=file:{}", root().join("scripts/kafka.d/log4j2.properties").display());
    java.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", &log, "-cp", &classes.join(":")]);
    java.arg(root().join("tests/java").join(program)).stdout(Stdio::null());
    java
}

/// Requests of a 5.0 client, each answered with its own correlation data, which is any bytes.
fn are_answered(names: &Names, responder: &mut Command) {
    let service = Service::start(&config(&names.config("")));
    until_read(&service);
    let _responder = Responder(responder.spawn().expect("it runs"));
    let mut requester = Device::connect(service.mqtt(), Version::V5, "requester");
    assert_eq!(requester.subscribe(&[("answers/+", QoS::AtLeastOnce)]), [1]);
    for (packet_id, correlation) in [(1, &b"\x00\x01\xff\n"[..]), (2, b"two"), (3, b"")] {
        let to = format!("answers/{packet_id}");
        let all = properties([Property::ResponseTopic(&to), Property::CorrelationData(correlation)]);
        let request = format!("request {packet_id}");
        let publish = publish(QoS::AtLeastOnce, packet_id, "place/1/device/set", request.as_bytes());
        requester.say(&Packet::Publish(Publish { properties: all.as_properties(), ..publish }));
        assert_eq!(requester.hear(), puback(packet_id));
        let (topic, payload, heard) = requester.hear_response();
        assert_eq!((topic, payload), (to, format!("answer to {request}").into_bytes()));
        assert_eq!(heard.as_deref(), Some(correlation));
    }
}

#[test]
fn a_java_program_answers_requests() {
    let names = Names::new("java");
    let library = format!("{}/lib", jars("install"));
    let mut responder = java(&[library], "Responder.java");
    are_answered(&names, responder.args([&names.kafka, &names.devices, &names.messages]));
}

#[test]
fn kafka_streams_answers_requests() {
    let names = Names::new("streams");
    let (library, streams) = (format!("{}/lib", jars("install")), jars("streams"));
    let state = temp_dir();
    let mut responder = java(&[library, streams], "StreamsResponder.java");
    are_answered(&names, responder.args([&names.kafka, &names.devices, &names.messages]).arg(state.path()));
}
