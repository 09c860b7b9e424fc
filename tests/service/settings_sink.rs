//! Keys of `[[sink]]` and of a listener, each by what Kafka or a device sees of it: a test fails if its key were ignored.

use std::fs;

use forebay::mqtt::packet::{Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::Property;
use kafka_protocol::messages::ApiKey;

use crate::away::Absent;
use crate::device::{Device, Heard, properties, puback, publish};
use crate::process::{metric, until, until_metric};
use crate::records::{read, read_when};
use crate::support::service::{Service, config, config_with, program};
use crate::support::temp_dir;
use crate::wire::{Does, Wire};

/// NOT_ENOUGH_REPLICAS: it may pass.
const NOT_ENOUGH_REPLICAS: i16 = 19;

/// A service with sinks beside `all`, each for messages to a topic of its name.
fn start(wire: &Wire, sinks: &[(&str, &str)]) -> Service {
    let sink = |(name, keys): &(&str, &str)| {
        format!("[[sink]]\nname = \"{name}\"\nfilters = \"{name}\"\ntopic = \"{name}\"\n{keys}\n")
    };
    let sinks: String = sinks.iter().map(sink).collect();
    Service::start(&config(&format!("{}{sinks}", wire.config("", "dead_letters_file = \"none\""))))
}

/// Text that is compressed better by who takes more time.
fn text() -> Vec<u8> {
    let word = |n: u32| format!("{{\"temperature\":{},\"humidity\":{}}},", n * 7_919 % 1_009, n * 104_729 % 997);
    (0..4_000).map(word).collect::<String>().into_bytes()
}

#[test]
fn compression_and_its_level_are_those_of_each_sink() {
    let wire = Wire::new();
    let codecs = [("none", 0), ("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4)];
    let keys = codecs.map(|(name, _)| format!("compression = \"{name}\""));
    let levels = [("gzip", 1), ("gzip", 9), ("zstd", 1), ("zstd", 19)];
    let at_level = levels.map(|(codec, level)| {
        let keys = format!("compression = \"{codec}\"\ncompression_level = {level}");
        (format!("{codec}-{level}"), keys)
    });
    let mut sinks: Vec<(&str, &str)> =
        codecs.iter().zip(&keys).map(|((name, _), keys)| (*name, keys.as_str())).collect();
    sinks.extend(at_level.iter().map(|(name, keys)| (name.as_str(), keys.as_str())));
    let service = start(&wire, &sinks);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let text = text();
    for (number, (name, _)) in (1..).zip(&sinks) {
        device.deliver(number, name, &text);
    }
    for (name, number) in codecs {
        assert_eq!(wire.batches(name)[0][22] & 7, number, "{name}");
    }
    let length = |name: &str| wire.batches(name)[0].len();
    assert!(length("gzip-9") < length("gzip-1"), "{} and {}", length("gzip-9"), length("gzip-1"));
    assert!(length("zstd-19") < length("zstd-1"), "{} and {}", length("zstd-19"), length("zstd-1"));
}

/// A batch that is full is sent, however long it might wait for more.
#[test]
fn batch_bytes_is_where_a_batch_is_full() {
    let wire = Wire::new();
    let service = start(&wire, &[("full", "batch_bytes = \"1KiB\"\nlinger = \"60s\"")]);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    // `all` answers soon.
    device.publish(QoS::AtLeastOnce, 1, "full", &[b'x'; 600]);
    device.publish(QoS::AtLeastOnce, 2, "full", &[b'x'; 600]);
    assert_eq!(device.hear(), puback(1));
    assert!(wire.batches("full")[0].len() < 1_024);
}

/// Batches that are not answered: as many as the key says, until the connection is given up.
#[test]
fn max_inflight_is_how_many_batches_are_unanswered() {
    let wire = Wire::new();
    let service = Service::start(&config(&wire.config("", "linger = \"0ms\"\nmax_inflight = 2")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "t", b"x");
    wire.does(ApiKey::Produce, Does::Nothing);
    for number in 2..=3 {
        device.publish(QoS::AtLeastOnce, number, "t", b"x");
        wire.until_asked(ApiKey::Produce, usize::from(number));
    }
    device.publish(QoS::AtLeastOnce, 4, "t", b"x");
    // The connection that nothing is heard on is given up, and another one made.
    let connection = wire.asked(ApiKey::Produce)[1].connection;
    until("another attempt", || wire.asked(ApiKey::Produce).iter().any(|asked| asked.connection > connection));
    let on_it = wire.asked(ApiKey::Produce).iter().filter(|asked| asked.connection == connection).count();
    assert_eq!(on_it, 3, "the first, which was answered, and two more");
}

/// Finding E94: more than Kafka keeps in order is taken, as five, and said.
#[test]
fn finding_e94_more_than_five_in_flight_are_five() {
    let dir = temp_dir();
    let file = dir.path().join("forebay.toml");
    let sink = "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"t\"\nmax_inflight = 10\n";
    fs::write(&file, sink).expect("a file");
    let output = program().args(["check", "--offline"]).arg(&file).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("5:16: sink[0].max_inflight: 10 is taken as 5"), "{said}");
    let service = Service::start(&config(sink));
    let (_, shown) = service.get("/api/v1/config").expect("an answer");
    assert!(shown.contains("\"max_inflight\":5"), "{shown}");
}

/// Finding T19: the batch is sent once more for each retry, then its publisher is told; without the key it would be sent for ever.
#[test]
fn finding_t19_retries_are_how_often_a_batch_is_sent_again() {
    let wire = Wire::new();
    let service = Service::start(&config(&wire.config("", "retries = 2\ndead_letters_file = \"none\"")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    wire.does(ApiKey::Produce, Does::Fail(NOT_ENOUGH_REPLICAS));
    device.publish(QoS::AtLeastOnce, 1, "t", b"lost");
    let Heard::Answer(PacketType::PubAck, 1, code) = device.hear() else { panic!("no answer") };
    assert!(code >= 0x80, "{code:#x}");
    assert_eq!(wire.asked(ApiKey::Produce).len(), 3);
    assert_eq!(metric(&service, "sink_records_out_total{result=\"refused\"}"), 1);
    // The next one goes its way.
    wire.does(ApiKey::Produce, Does::Answer);
    device.deliver(2, "t", b"kept");
    assert_eq!(read(wire.kafka(), "all").iter().map(|record| record.text().to_owned()).collect::<Vec<_>>(), ["kept"]);
}

/// What was in Kafka all the same is not refused: its log was asked. The answer was lost, not the batch.
#[test]
fn finding_t19_what_kafka_has_is_not_given_up() {
    let wire = Wire::new();
    let service = Service::start(&config(&wire.config("", "retries = 0\ndead_letters_file = \"none\"")));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "t", b"one");
    wire.does(ApiKey::Produce, Does::Mute);
    device.publish(QoS::AtLeastOnce, 2, "t", b"two");
    assert_eq!(device.hear(), puback(2));
    assert_eq!(wire.asked(ApiKey::Produce).len(), 2, "it was not sent again");
    assert_eq!(
        read(wire.kafka(), "all").iter().map(|record| record.text().to_owned()).collect::<Vec<_>>(),
        ["one", "two"]
    );
}

/// Findings E33, E34.
#[test]
fn finding_e33_headers_come_from_an_object_of_the_message() {
    let wire = Wire::new();
    let keys = "headers_from = \"${payload.meta}\"\non_refuse = \"reject\"";
    let sinks = [("text", keys.to_owned()), ("json", format!("{keys}\nheaders_encode = \"json\""))];
    let sinks = [(sinks[0].0, sinks[0].1.as_str()), (sinks[1].0, sinks[1].1.as_str())];
    let service = start(&wire, &sinks);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let payload = br#"{"meta":{"site":"berlin","line":3}}"#;
    device.deliver(1, "text", payload);
    device.deliver(2, "json", payload);
    device.deliver(3, "text", br#"{"meta":[{"key":"site","value":"bonn"}]}"#);
    device.deliver(4, "text", b"{}");
    let headers = |topic: &str| -> Vec<String> {
        let shown = |(name, value): &(String, String)| format!("{name}={value}");
        let record = |record: &crate::records::Record| record.headers.iter().map(shown).collect::<Vec<_>>().join(" ");
        read(wire.kafka(), topic).iter().map(record).collect()
    };
    assert_eq!(headers("text"), ["site=berlin", "site=bonn", ""]);
    assert_eq!(headers("json"), ["site=\"berlin\" line=3"]);
    until_metric(&service, "sink_headers_left_out_total", 1);
    // What is neither is refused; a client cannot name Forebay's own.
    device.publish(QoS::AtLeastOnce, 5, "text", br#"{"meta":"none"}"#);
    assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 5, 0x99));
    assert_eq!(metric(&service, "sink_publishes_refused_total{reason=\"headers_invalid\"}"), 1);
    device.deliver(6, "text", br#"{"meta":{"mqtt-content-type":"x"}}"#);
    assert_eq!(headers("text").last().map(String::as_str), Some("mqtt-user-mqtt-content-type=x"));
}

/// A client that waits this long for an answer is disconnected.
#[test]
fn answer_timeout_ends_a_connection() {
    let kafka = Absent::new();
    let sink = "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"t\"\n";
    let text = config(&format!("[kafka.main]\nbootstrap = \"{}\"\n{sink}", kafka.address()));
    let service =
        Service::start(&text.replace("transport = \"tcp\"\n", "transport = \"tcp\"\nanswer_timeout = \"1s\"\n"));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.publish(QoS::AtLeastOnce, 1, "t", b"x");
    assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(0x89), Heard::Closed));
}

/// A spool of the smallest size, with Kafka away.
fn small_spool(kafka: &Absent, when_full: &str) -> Service {
    Service::start(&config(&format!(
        "[kafka.main]\nbootstrap = \"{}\"\n[spool]\nbytes_max = \"8MiB\"\nsegment_bytes = \"1MiB\"\nwhen_full = \"{when_full}\"\n\
         [[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\nspill_after = \"1MiB\"\nbatch_bytes = \"32KiB\"\nrecord_bytes_max = \"64KiB\"\n\
         dead_letters_file = \"none\"\n",
        kafka.address()
    )))
}

/// Publishes until something else than success comes back, 16 MiB at most.
fn fill(service: &Service) -> Option<Heard> {
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let payload = vec![b'x'; 32 << 10];
    (1..=512).find_map(|number| {
        device.publish(QoS::AtLeastOnce, number, "t", &payload);
        let heard = device.hear();
        (heard != puback(number)).then_some(heard)
    })
}

#[test]
fn refuse_tells_publishers_that_the_spool_is_full() {
    let kafka = Absent::new();
    let service = small_spool(&kafka, "refuse");
    let Some(Heard::Answer(PacketType::PubAck, _, code)) = fill(&service) else { panic!("it took 16 MiB") };
    assert_eq!(code, 0x97);
}

#[test]
fn drop_oldest_makes_room_in_a_full_spool() {
    let kafka = Absent::new();
    let service = small_spool(&kafka, "drop-oldest");
    assert_eq!(fill(&service), None, "all of it is taken");
    assert!(metric(&service, "sink_records_out_total{result=\"dropped_oldest\"}") > 0);
}

/// Two sinks with a disk buffer, Kafka away, and a stop in order: the one saves what it has, the other gives it up.
#[test]
fn hybrid_gives_up_at_a_stop_what_hybrid_saved_keeps() {
    let (kafka, dir) = (Absent::new(), temp_dir());
    let sink = |buffer: &str| {
        format!(
            "[[sink]]\nname = \"{buffer}\"\nfilters = \"#\"\ntopic = \"{buffer}\"\nbuffer = \"{buffer}\"\nacknowledge = \"received\"\n"
        )
    };
    let mut service = Service::start(&config_with(
        "shards = 1\ndrain_grace = \"1s\"",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\n[spool]\nbytes_max = \"128MiB\"\n{}{}",
            kafka.address(),
            sink("hybrid"),
            sink("hybrid-saved")
        ),
    ));
    Device::connect(service.mqtt(), Version::V5, "device").deliver(1, "t", b"before");
    service.terminate();
    let log = kafka.arrive(&dir);
    service.start_again();
    Device::connect(service.mqtt(), Version::V5, "device").deliver(1, "t", b"behind");
    let texts = |topic: &str, count: usize| -> Vec<String> {
        read_when(log.local_addr(), topic, count).iter().map(|record| record.text().to_owned()).collect()
    };
    assert_eq!(texts("hybrid-saved", 2), ["before", "behind"]);
    assert_eq!(texts("hybrid", 1), ["behind"]);
}

/// Finding E102: with a watermark that is always passed, the oldest records make room for the latest.
#[test]
fn finding_e102_memory_overload_protection_drops_the_oldest() {
    let (kafka, dir) = (Absent::new(), temp_dir());
    let sink = |name: &str, keys: &str| {
        format!(
            "[[sink]]\nname = \"{name}\"\nfilters = \"#\"\ntopic = \"{name}\"\nacknowledge = \"received\"\nbatch_bytes = \"1KiB\"\n{keys}\n"
        )
    };
    let service = Service::start(&config_with(
        "shards = 1\nmemory_high_watermark = 0.01",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\n{}{}",
            kafka.address(),
            sink("sheds", "memory_overload_protection = true"),
            sink("keeps", "")
        ),
    ));
    until("memory to be short", || service.log().contains("the machine is short of memory"));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    let payload = |number: u16| [format!("{number:03} ").as_bytes(), &[b'x'; 600][..]].concat();
    (1..=100).for_each(|number| device.deliver(number, "t", &payload(number)));
    until_metric(&service, "sink_records_in_total{sink=\"keeps\"}", 100);
    let log = kafka.arrive(&dir);
    assert_eq!(read_when(log.local_addr(), "keeps", 100).len(), 100);
    until_metric(&service, "sink_buffered_records", 0);
    let mut left: Vec<_> = read(log.local_addr(), "sheds").iter().map(|record| record.text()[..3].to_owned()).collect();
    left.sort();
    assert!(left.len() < 50 && left.last().is_some_and(|last| last == "100"), "{left:?}");
    let dropped = metric(&service, "sink_records_out_total{result=\"dropped_oldest\"}");
    assert_eq!(usize::try_from(dropped).expect("few") + left.len(), 100);
}

/// Findings T6, T18, T31 and those of EMQX's guide: what `forebay config` prints is what the guides set up, and it runs.
#[test]
fn finding_t31_the_set_ups_of_other_guides_run_as_they_are_printed() {
    for (product, cluster, mqtt, kafka, client_id) in [
        ("tbmq", "TBMQ", "tbmq/kafka-integration", "tbmq.messages", "tbmq-ie-kafka-producer"),
        ("emqx", "MY_KAFKA", "t/1", "testtopic-in", "forebay"),
    ] {
        let wire = Wire::new();
        let printed = program().args(["config", product]).output().expect("it runs");
        let printed = String::from_utf8(printed.stdout).expect("text");
        let variable = format!("FOREBAY_KAFKA_{cluster}_BOOTSTRAP");
        let address = wire.address().to_string();
        let service = Service::start_with(&config(&printed), &[], &[(&variable, &address)]);
        let mut device = Device::connect(service.mqtt(), Version::V5, "emqx_c");
        let unit = properties([Property::UserProperty("unit", "C")]);
        let message = Publish { properties: unit.as_properties(), ..publish(QoS::AtLeastOnce, 1, mqtt, b"hello") };
        device.say(&Packet::Publish(message));
        assert_eq!(device.hear(), puback(1));
        let records = read(wire.kafka(), kafka);
        let value: serde_json::Value = serde_json::from_slice(&records[0].value).expect("JSON");
        assert_eq!((&value["topic"], &value["payload"]), (&mqtt.into(), &"hello".into()), "{value}");
        assert_eq!(records[0].headers, [("unit".to_owned(), "C".to_owned())]);
        assert!(wire.asked(ApiKey::Produce).iter().all(|asked| asked.client_id == client_id));
        // Other topics are none of its business.
        device.publish(QoS::AtLeastOnce, 2, "elsewhere", b"x");
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 2, 0x10));
    }
}
