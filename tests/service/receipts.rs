//! Answers that say where a message stands: held against what the log has there, read by another client.

use std::collections::HashMap;

use forebay::mqtt::packet::{PacketType, QoS, Version};
use forebay::mqtt::property::Property;

use crate::device::{Device, Heard, VERSIONS, hello, properties};
use crate::records::read;
use crate::support::service::{Service, config_with};

/// Two shards, so that some devices are handed over on their way in.
fn service(sinks: &str) -> Service {
    let listener = "transport = \"tcp\"\n";
    Service::start(&config_with("shards = 2", sinks).replace(listener, &format!("{listener}receipts = true\n")))
}

/// The values of a topic by partition and offset.
fn log(service: &Service, topic: &str) -> HashMap<(String, String, String), Vec<u8>> {
    let mut ends = HashMap::<i32, u64>::new();
    let mut place = |partition| {
        let end = ends.entry(partition).or_default();
        *end += 1;
        (topic.to_owned(), partition.to_string(), (*end - 1).to_string())
    };
    read(service.embedded(), topic).into_iter().map(|record| (place(record.partition), record.value)).collect()
}

#[test]
fn every_message_is_where_its_answer_says() {
    let service = service(
        "[[sink]]\nname = \"a\"\nfilters = \"#\"\ntopic = \"by-level\"\npartitioner = \"random\"\n\
         [[sink]]\nname = \"b\"\nfilters = \"+/even\"\ntopic = \"even-${topic[0]}\"\nacknowledge = \"leader\"\n\
         [[sink]]\nname = \"c\"\nfilters = \"#\"\ntopic = \"unsaid\"\nacknowledge = \"received\"\n",
    );
    let mut said = Vec::new();
    let mut devices: Vec<_> =
        (0..6).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("device {n}"))).collect();
    for (n, device) in devices.iter_mut().enumerate() {
        for id in 1..=50_u16 {
            let topic = format!("d{n}/{}", if id % 2 == 0 { "even" } else { "odd" });
            let qos = if id % 3 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            device.publish(qos, id, &topic, format!("{n} {id}").as_bytes());
        }
    }
    for (n, device) in devices.iter_mut().enumerate() {
        for id in 1..=50_u16 {
            let (heard, properties) = device.hear_with_user_properties();
            let kind = if id % 3 == 0 { PacketType::PubRec } else { PacketType::PubAck };
            assert_eq!(heard, Heard::Answer(kind, id, 0));
            let names: Vec<_> = properties.iter().map(|(name, _)| name.as_str()).collect();
            let sinks = if id % 2 == 0 { 2 } else { 1 };
            assert_eq!(names, ["kafka-topic", "kafka-partition", "kafka-offset"].repeat(sinks));
            assert_eq!(properties[0].1, "by-level", "in the order of the sinks");
            for place in properties.chunks(3) {
                let [topic, partition, offset] = [0, 1, 2].map(|part: usize| place[part].1.clone());
                said.push(((topic, partition, offset), format!("{n} {id}").into_bytes()));
            }
        }
    }
    let topics = ["by-level".to_owned()].into_iter().chain((0..6).map(|n| format!("even-d{n}")));
    let there: HashMap<_, _> = topics.flat_map(|topic| log(&service, &topic)).collect();
    assert_eq!(said.len(), 6 * (50 + 25));
    assert_eq!(said.into_iter().collect::<HashMap<_, _>>(), there, "each record was told of, once");
}

#[test]
fn only_those_hear_it_who_can() {
    let service = service("[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\n");
    let ask = |asked: Property<'static>| Some(properties([asked]));
    let all = VERSIONS.map(|version| (version, None));
    let no_information = (Version::V5, ask(Property::RequestProblemInformation(false)));
    let small = (Version::V5, ask(Property::MaximumPacketSize(63)));
    for (n, (version, asked)) in all.into_iter().chain([no_information, small]).enumerate() {
        let name = format!("client {n}");
        let mut connect = hello(version, &name);
        if let Some(asked) = &asked {
            connect.properties = asked.as_properties();
        }
        let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
        for (qos, kind) in [(QoS::AtLeastOnce, PacketType::PubAck), (QoS::ExactlyOnce, PacketType::PubRec)] {
            device.publish(qos, 7, "t", b"x");
            let (heard, said) = device.hear_with_user_properties();
            assert_eq!(heard, Heard::Answer(kind, 7, 0));
            assert_eq!(!said.is_empty(), version == Version::V5 && asked.is_none(), "{version:?} {asked:?}: {said:?}");
        }
    }
}
