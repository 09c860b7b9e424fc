//! Publishes in: QoS 0, 1 and 2 to records, answers in order, aliases, user properties, and what is refused.

use forebay::mqtt::packet::{Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::Property;

use crate::device::{Device, Heard, VERSIONS, properties, puback, publish};
use crate::process::{ledger, metric, until};
use crate::records::{read, texts};
use crate::support::service::{Service, config};

#[test]
fn every_version_and_qos_arrives_and_the_ledger_balances() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = [\"in/#\"]\ntopic = \"all\"\n"));
    let mut expected = Vec::new();
    for version in VERSIONS {
        let mut device = Device::connect(service.mqtt(), version, &format!("{version:?}"));
        let topic = format!("in/{version:?}");
        for n in 1..=30_u16 {
            let text = format!("{version:?} {n:02}");
            let qos = QoS::from_bits((n % 3) as u8).expect("0 to 2");
            device.publish(qos, n, &topic, text.as_bytes());
            expected.push(text);
        }
        // Answers come in the order of receipt, PUBACK and PUBREC alike.
        for n in (1..=30).filter(|n| n % 3 != 0) {
            let kind = if n % 3 == 1 { PacketType::PubAck } else { PacketType::PubRec };
            assert_eq!(device.hear(), Heard::Answer(kind, n, 0));
        }
        device.ping();
    }
    expected.sort();
    until("the QoS 0 messages to arrive", || ledger(&service)[1] == 90);
    let records = read(service.embedded(), "all");
    for version in VERSIONS {
        // One key, one partition, one order.
        let of_version: Vec<_> = records.iter().filter(|r| r.key == format!("in/{version:?}")).collect();
        assert!(of_version.is_sorted_by_key(|record| record.text()) && of_version.len() == 30, "{of_version:?}");
    }
    assert_eq!(texts(service.embedded(), "all"), expected);
    assert_eq!(ledger(&service), [90, 90, 0, 0]);
    assert_eq!(metric(&service, "acknowledgements_sent_total"), 60);
}

/// Every level, number of acks and partitioner that may stand together; each sink has all messages, once.
#[test]
fn every_level_acks_and_partitioner_delivers() {
    let choices = [
        "acknowledge = \"leader\"",
        "acknowledge = \"leader\"\npartitioner = \"sticky\"",
        "acknowledge = \"replicated\"\npartitioner = \"random\"",
        "acknowledge = \"received\"\nacks = \"0\"",
        "acknowledge = \"received\"\nacks = \"1\"",
        "acknowledge = \"received\"\npartitioner = \"random\"",
    ];
    let sink = |(n, choice)| format!("[[sink]]\nname = \"s{n}\"\nfilters = \"#\"\ntopic = \"t{n}\"\n{choice}\n");
    let service = Service::start(&config(&choices.iter().enumerate().map(sink).collect::<String>()));
    let mut device = Device::connect(service.mqtt(), Version::V5, "levels");
    let mut expected = Vec::new();
    for n in 1..=50_u16 {
        let text = format!("{n:02}");
        device.publish(QoS::AtLeastOnce, n, "in", text.as_bytes());
        expected.push(text);
    }
    for n in 1..=50 {
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, n, 0));
    }
    until("all sinks to be done", || ledger(&service)[1] == 300);
    for n in 0..choices.len() {
        let topic = format!("t{n}");
        // At acks=0 delivered means handed over: the log may be a moment behind.
        until("the log to have them", || texts(service.embedded(), &topic) == expected);
    }
    // One key: one partition, in order, where the key decides.
    let in_order = |n: usize| read(service.embedded(), &format!("t{n}")).is_sorted_by_key(|record| record.text());
    assert!([0, 3, 4].into_iter().all(in_order));
    assert_eq!(ledger(&service), [300, 300, 0, 0]);
    assert_eq!(metric(&service, "sink_kafka_data_losses_total"), 0);
}

#[test]
fn what_no_sink_wants_is_answered_with_no_matching_subscribers() {
    let service = Service::start(&config("[[sink]]\nname = \"some\"\nfilters = [\"in/#\"]\ntopic = \"some\"\n"));
    for (version, code) in [(Version::V5, 0x10), (Version::V311, 0), (Version::V31, 0)] {
        let mut device = Device::connect(service.mqtt(), version, "elsewhere");
        device.publish(QoS::AtLeastOnce, 1, "out", b"x");
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 1, code));
        device.publish(QoS::ExactlyOnce, 2, "out", b"x");
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 2, code));
        device.release(2);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, 2, 0));
    }
    assert_eq!((metric(&service, "publishes_routed_total{result=\"unmatched\"}"), ledger(&service)), (6, [0; 4]));
}

/// A code is only for what will never succeed; 3.x has none, and is closed where nothing keeps the message for it.
#[test]
fn what_can_never_be_a_record_is_refused_and_the_rest_is_not() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"named\"\nfilters = [\"+/named\"]\ntopic = \"t-${topic[0]}\"\ndead_letters_file = \"none\"\n\
         [[sink]]\nname = \"small\"\nfilters = [\"small\"]\ntopic = \"small\"\nrecord_bytes_max = \"1KiB\"\ndead_letters_file = \"none\"\n",
    ));
    let large = vec![0; 2_000];
    for version in VERSIONS {
        for (topic, payload, code) in [("no good/named", &b"x"[..], 0x90), ("small", &large, 0x83)] {
            let mut device = Device::connect(service.mqtt(), version, "wrong");
            device.deliver(1, "good/named", b"x");
            device.publish(QoS::AtLeastOnce, 2, topic, payload);
            if version == Version::V5 {
                assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 2, code));
                device.deliver(3, "small", b"x");
            } else {
                assert_eq!(device.hear(), Heard::Closed, "{version:?} has no word for it");
            }
        }
    }
    assert_eq!(texts(service.embedded(), "t-good").len(), 6);
    assert_eq!(metric(&service, "publishes_routed_total{result=\"refused\"}"), 6);
}

/// Finding W1: a device that names the topic does not reach those of Kafka's own.
#[test]
fn finding_w1_a_device_does_not_name_topics_of_kafkas_own() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"${topic}\"\non_refuse = \"reject\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    for (packet_id, topic) in [(1, "_schemas"), (2, "__consumer_offsets")] {
        device.publish(QoS::AtLeastOnce, packet_id, topic, b"x");
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, packet_id, 0x90), "{topic}");
    }
    device.deliver(3, "a_b", b"x");
    assert_eq!(texts(service.embedded(), "a_b").len(), 1);
    assert_eq!(metric(&service, "sink_publishes_refused_total{reason=\"topic_invalid\"}"), 2);
}

#[test]
fn a_message_for_one_topic_more_than_topics_max_is_refused() {
    let sink = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"t-${topic}\"\n";
    // The keys of [embedded] come first.
    let service = Service::start(&config(&format!("topics_max = 2\n{sink}")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "many");
    device.deliver(1, "a", b"x");
    device.deliver(2, "b", b"x");
    device.publish(QoS::AtLeastOnce, 3, "c", b"x");
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 3, 0x97));
    device.deliver(4, "a", b"x");
    assert_eq!((texts(service.embedded(), "t-a").len(), texts(service.embedded(), "t-b").len()), (2, 1));
    assert_eq!(metric(&service, "publishes_routed_total{result=\"refused\"}"), 1);
}

/// [MQTT-3.2.2-17] [MQTT-3.3.2-9] [MQTT-3.3.2-12]
#[test]
fn aliases_stand_for_the_names_that_set_them() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"));
    let mut device = Device::connect(service.mqtt(), Version::V5, "alias");
    let alias = |n| properties([Property::TopicAlias(n)]);
    let sent = [("a/1", 1, "a/1"), ("", 1, "a/1"), ("b/2", 32, "b/2"), ("", 32, "b/2"), ("c", 1, "c"), ("", 1, "c")];
    for (n, (topic, number, _)) in (1..).zip(sent) {
        let alias = alias(number);
        let plain = publish(QoS::AtLeastOnce, n, topic, b"x");
        device.say(&Packet::Publish(Publish { properties: alias.as_properties(), ..plain }));
        assert_eq!(device.hear(), puback(n));
    }
    let mut keys: Vec<_> = read(service.embedded(), "all").into_iter().map(|record| record.key).collect();
    keys.sort();
    assert_eq!(keys, ["a/1", "a/1", "b/2", "b/2", "c", "c"]);
    // Aliases end with their connection [MQTT-3.3.2-7]; 33 is above what CONNACK allowed.
    for (topic, number, reason) in [("", 1, 0x82), ("d", 33, 0x94)] {
        let mut device = Device::connect(service.mqtt(), Version::V5, "alias");
        let alias = alias(number);
        let plain = publish(QoS::AtLeastOnce, 1, topic, b"x");
        device.say(&Packet::Publish(Publish { properties: alias.as_properties(), ..plain }));
        assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(reason), Heard::Closed));
    }
}

#[test]
fn user_properties_follow_the_sinks_headers_in_order_with_duplicates() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n\
         headers = { site = \"berlin\", who = \"${clientid} ${username} ${qos} ${topic[1]}\" }\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let pairs = [("unit", "C"), ("site", "north"), ("unit", "K"), ("", ""), trace, ("unit", "C")];
    let user = properties(pairs.map(|(name, value)| Property::UserProperty(name, value)));
    let plain = publish(QoS::AtLeastOnce, 1, "a/b", b"x");
    device.say(&Packet::Publish(Publish { properties: user.as_properties(), ..plain }));
    assert_eq!(device.hear(), puback(1));
    let [record] = &read(service.embedded(), "all")[..] else { panic!("one record") };
    let headers: Vec<_> = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers[..2], [("site", "berlin"), ("who", "dev  1 b")]);
    // But for the one with a name of the sink's own.
    let others: Vec<_> = pairs.into_iter().filter(|(name, _)| *name != "site").collect();
    assert_eq!(headers[2..], others);
}

#[test]
fn properties_are_headers_and_what_is_not_there_refuses_or_leaves_out() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nkey = \"${user_properties.id}\"\n\
         headers = { id = \"${user_properties.id}\", packet = \"${packet_id} ${dup}\", line = \"${metadata.line}\" }\n\
         metadata = { line = \"3\" }\n\
         [[sink]]\nname = \"strict\"\nfilters = [\"strict/#\"]\ntopic = \"strict-${user_properties.id}\"\non_refuse = \"reject\"\n\
         [[sink]]\nname = \"json\"\nfilters = [\"json\"]\ntopic = \"device-${payload.device}\"\non_refuse = \"reject\"\n\
         key = \"${payload.id}\"\nvalue = \"${payload.o.t[1]}\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let sent = properties([Property::ContentType("text/plain"), Property::MessageExpiryInterval(60)]);
    let plain = publish(QoS::AtLeastOnce, 1, "a", b"x");
    device.say(&Packet::Publish(Publish { properties: sent.as_properties(), ..plain.clone() }));
    assert_eq!(device.hear(), puback(1));
    // The strict sink is a gate, and its topic cannot be rendered: no sink takes the message, and the connection goes on.
    device.say(&Packet::Publish(Publish { topic: "strict/a", packet_id: 2, ..plain.clone() }));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 2, 0x83));
    let id = properties([Property::UserProperty("id", "7")]);
    device.say(&Packet::Publish(Publish {
        topic: "strict/a",
        packet_id: 3,
        properties: id.as_properties(),
        ..plain.clone()
    }));
    assert_eq!(device.hear(), puback(3));
    for (packet_id, payload, reason) in [
        (4, &br#"{"device":1,"o":{"t":[0,21.50]}}"#[..], 0),
        (5, br#"{"device":1,"o":{"t":[0]}}"#, 0x99),
        (6, br#"{"device":1,"o":{"t":[0,1]}"#, 0x99),
        (7, br#"{"device":"a/b","o":{"t":[0,1]}}"#, 0x90),
    ] {
        device.say(&Packet::Publish(Publish { topic: "json", packet_id, payload, ..plain.clone() }));
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, packet_id, reason), "{packet_id}");
    }
    let [found] = &read(service.embedded(), "device-1")[..] else { panic!("one record") };
    assert_eq!((found.key.as_str(), found.text()), ("", "21.50"));
    let mut records: Vec<_> = read(service.embedded(), "all").into_iter().filter(|r| r.value == b"x").collect();
    records.sort_by(|a, b| a.key.cmp(&b.key));
    let headers = |at: usize| {
        let pairs = records[at].headers.iter().map(|(name, value)| format!("{name}={value}"));
        (records[at].key.as_str(), pairs.collect::<Vec<_>>().join(";"))
    };
    assert_eq!(records.len(), 2);
    assert_eq!(headers(0).1, "packet=1 false;line=3;mqtt-content-type=text/plain;mqtt-message-expiry-s=60");
    assert_eq!(headers(1), ("7", "id=7;packet=3 false;line=3".to_owned()));
    assert_eq!(read(service.embedded(), "strict-7").len(), 1);
}

/// Finding K15: through the built program, with the reason code of a time that is none.
#[test]
fn finding_k15_sinks_choose_by_exclusion_and_records_have_times_and_nulls_of_the_message() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"things\"\nfilters = \"v1/#\"\nexclude = \"v1/+/log\"\ntopic = \"things\"\non_refuse = \"reject\"\nkey = \"${payload.'@iot.id'}\"\n\
         timestamp = \"${payload.'phenomenon.time'}\"\ntimestamp_unit = \"us\"\n\
         [[sink]]\nname = \"rest\"\nfilters = \"#\"\nfallback = true\ntopic = \"rest\"\nempty_payload = \"null\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let plain = publish(QoS::AtLeastOnce, 1, "v1/a", br#"{"@iot.id":7,"phenomenon.time":1700000000123456}"#);
    device.say(&Packet::Publish(plain.clone()));
    assert_eq!(device.hear(), puback(1));
    let late = Publish { packet_id: 2, payload: br#"{"@iot.id":8,"phenomenon.time":"noon"}"#, ..plain.clone() };
    device.say(&Packet::Publish(late));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 2, 0x99));
    for (packet_id, topic, payload) in [(3, "v1/a/log", &b"l"[..]), (4, "other", b""), (5, "other", b"o")] {
        device.say(&Packet::Publish(Publish { packet_id, topic, payload, ..plain.clone() }));
        assert_eq!(device.hear(), puback(packet_id));
    }
    let [thing] = &read(service.embedded(), "things")[..] else { panic!("one record") };
    assert_eq!((thing.key.as_str(), thing.timestamp), ("7", 1_700_000_000_123));
    let mut rest: Vec<_> = read(service.embedded(), "rest").into_iter().map(|r| (r.key, r.is_null, r.value)).collect();
    rest.sort();
    let want = [("other", false, &b"o"[..]), ("other", true, b""), ("v1/a/log", false, b"l")];
    assert_eq!(rest, want.map(|(key, is_null, value)| (key.to_owned(), is_null, value.to_vec())));
    let refused = "forebay_sink_publishes_refused_total{reason=\"timestamp_invalid\"}";
    until("the refusal to be counted", || service.metric(refused) == Some(1.0));
}

#[test]
fn a_message_as_a_json_object() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nvalue_format = \"json\"\n\
         metadata = { line = \"3\" }\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "dev");
    let sent = properties([Property::UserProperty("unit", "C\"")]);
    let plain = publish(QoS::AtLeastOnce, 1, "a/b", b"\xff");
    device.say(&Packet::Publish(Publish { properties: sent.as_properties(), ..plain }));
    assert_eq!(device.hear(), puback(1));
    let [record] = &read(service.embedded(), "all")[..] else { panic!("one record") };
    let mut object: serde_json::Value = serde_json::from_str(record.text()).expect("JSON");
    assert!(object["timestamp"].take().as_i64().is_some_and(|ms| ms > 1_600_000_000_000));
    let want = serde_json::json!({
        "topic": "a/b", "clientid": "dev", "username": null, "qos": 1, "retain": false, "dup": false, "timestamp": null,
        "payload": "/w==", "payload_encoding": "base64", "user_properties": [{"name": "unit", "value": "C\""}],
        "metadata": {"line": "3"},
    });
    assert_eq!(object, want);
}

#[test]
fn one_publish_to_several_sinks_is_answered_when_all_have_it() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"one\"\nfilters = [\"a/#\", \"a/b\"]\ntopic = \"one\"\n\
         [[sink]]\nname = \"two\"\nfilters = [\"+/b\"]\ntopic = \"two\"\nvalue = \"<${payload}>\"\ncompression = \"none\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V311, "dev");
    device.deliver(1, "a/b", b"x");
    assert_eq!(texts(service.embedded(), "one"), ["x"], "once, though two of its filters match");
    assert_eq!(texts(service.embedded(), "two"), ["<x>"]);
    assert_eq!(ledger(&service), [2, 2, 0, 0]);
}

/// The largest packet is told in CONNACK, the largest record is the sink's; up to both everything arrives untouched.
#[test]
fn payloads_of_every_size_arrive_untouched() {
    let service = Service::start(&config(
        "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\non_refuse = \"reject\"\n",
    ));
    let payload = |len: usize| -> Vec<u8> { (0..len).map(|n| (n % 251) as u8).collect() };
    // Around each length of the Remaining Length, of a receive buffer and of a batch, and near the record's bound.
    let sizes = [0, 1, 113, 127, 128, 4_080, 4_096, 5_000, 16_370, 16_384, 65_536, 262_144, 300_000, 1_023_000];
    let mut device = Device::connect(service.mqtt(), Version::V5, "sizes");
    for (n, size) in (1..).zip(sizes) {
        device.publish(QoS::AtLeastOnce, n, "t", &payload(size));
    }
    assert_eq!(device.hear_all(sizes.len()), (1..=14).map(puback).collect::<Vec<_>>());
    let records = read(service.embedded(), "all");
    assert_eq!(records.iter().map(|record| record.value.len()).collect::<Vec<_>>(), sizes);
    assert!(records.iter().all(|record| record.value == payload(record.value.len())));
    device.publish(QoS::AtLeastOnce, 20, "t", &payload(1_024_001));
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 20, 0x83), "too large for the sink");
    device.publish(QoS::AtLeastOnce, 21, "t", &payload(1 << 20));
    assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(0x95), Heard::Closed), "too large for MQTT");
}

/// A device that closes its half of the connection right behind its last message has still sent it.
#[test]
fn the_last_message_before_the_end_of_the_stream_counts() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"));
    for n in 0..30 {
        let mut device = Device::connect(service.mqtt(), VERSIONS[n % 3], "hasty");
        device.publish(QoS::AtMostOnce, 0, "t", b"first");
        device.publish(QoS::AtLeastOnce, 1, "t", b"last");
        drop(device);
    }
    until("all to arrive", || ledger(&service)[1] == 60);
    assert_eq!(texts(service.embedded(), "all").len(), 60);
}
