//! `when_full = "drop-oldest"` through the program, with the numbers of an operator; and what sinks share the spool.

use forebay::mqtt::packet::{QoS, Version};
use serde_json::json;

use crate::away::Absent;
use crate::change::change;
use crate::device::{Device, Heard, puback};
use crate::process::{metric, until_metric};
use crate::records::texts;
use crate::support;
use crate::support::service::{Service, config_with};

fn spooled(kafka: &Absent, spool: &str) -> Service {
    Service::start(&config_with(
        "shards = 1",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\n[spool]\n{spool}\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n",
            kafka.address()
        ),
    ))
}

/// Publishes from another thread, and hears the acknowledgement of each.
fn deliver_all(service: &Service, name: &str, count: u16, bytes: usize) {
    let mut device = Device::connect(service.mqtt(), Version::V311, name);
    let mut writer = device.second();
    let publish = std::thread::spawn(move || {
        let mut payload = vec![b'x'; bytes];
        for id in 1..=count {
            payload[..5].copy_from_slice(format!("{id:05}").as_bytes());
            writer.publish(QoS::AtLeastOnce, id, "t", &payload);
        }
        writer
    });
    assert_eq!(device.hear_all(usize::from(count)), (1..=count).map(puback).collect::<Vec<_>>());
    drop(publish.join().expect("a writer"));
}

#[test]
fn finding_f5_a_spool_of_80_mib_takes_6000_messages_of_20_kb_and_keeps_the_newest() {
    const MESSAGES: u16 = 6_000;
    let (kafka, dir) = (Absent::new(), support::temp_dir());
    let service = spooled(&kafka, "bytes_max = \"80MiB\"\nwhen_full = \"drop-oldest\"");
    deliver_all(&service, "device", MESSAGES, 20_000);
    let dropped = metric(&service, "sink_records_out_total{result=\"dropped_oldest\"}");
    assert!(dropped > 0, "120 MB do not fit");
    let log = kafka.arrive(&dir);
    until_metric(&service, "sink_buffered_records", 0);
    let mut numbers: Vec<u64> =
        texts(log.local_addr(), "all").iter().map(|text| text[..5].parse().expect("a number")).collect();
    numbers.sort_unstable();
    let expected: Vec<u64> = (dropped + 1..=u64::from(MESSAGES)).collect();
    assert_eq!(numbers, expected, "the newest, and all of them");
    // Room comes back by segments, of which four are for rows.
    assert!(numbers.len() as u64 * 20_000 > 12 << 20, "{} kept", numbers.len());
    assert_eq!(metric(&service, "sink_records_out_total{result=\"dropped_oldest\"}"), dropped);
    log.stop();
}

#[test]
fn finding_f4_a_second_sink_takes_nothing_from_the_first_and_the_dry_run_has_figures() {
    let kafka = Absent::new();
    let service = spooled(&kafka, "bytes_max = \"80MiB\"\nwhen_full = \"drop-oldest\"");
    // More than half of 36 MiB.
    deliver_all(&service, "device", 1_200, 20_000);
    let share = || metric(&service, "sink_spool_bytes_max{sink=\"all\"}");
    assert_eq!(share(), 36 << 20);
    let two = json!({ "filters": ["other"], "topic": "other", "kafka": "main" });
    let shown = change(&service, "PUT", "sinks/two?dry_run=true", &two);
    let warnings = shown.1["warnings"].to_string();
    assert!(warnings.contains("a sink may hold 18.0 MiB instead of 36.0 MiB"), "{shown:?}");
    assert!(warnings.contains("sink all: it holds 2") && warnings.contains("may hold 36.0 MiB until"), "{shown:?}");
    assert_eq!(change(&service, "PUT", "sinks/two", &two).0, 201);
    deliver_all(&service, "another device", 100, 20_000);
    assert_eq!(metric(&service, "sink_records_out_total{result=\"dropped_oldest\"}"), 0);
    assert_eq!((share(), metric(&service, "sink_spool_bytes_max{sink=\"two\"}")), (36 << 20, 18 << 20));
}

/// Kafka is away and the buffer is full of another device's messages.
#[test]
fn finding_r2_a_full_buffer_keeps_nobody_from_publishing_at_qos_0() {
    for (key, waits) in [("", false), ("qos0_when_full = \"wait\"\n", true)] {
        let kafka = Absent::new();
        let service = Service::start(&config_with(
            "shards = 1",
            &format!(
                "[kafka.main]\nbootstrap = \"{}\"\nbuffer_bytes = \"4MiB\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \
                 \"all\"\n{key}",
                kafka.address()
            ),
        ));
        let filler = Device::connect(service.mqtt(), Version::V311, "filler");
        let mut writer = filler.second();
        let fill = std::thread::spawn(move || {
            let payload = vec![b'x'; 30_000];
            (1..=300).for_each(|id| writer.try_publish(QoS::AtLeastOnce, id, "t", &payload));
        });
        until_metric(&service, "connections_paused", 1);
        let mut subscriber = Device::connect(service.mqtt(), Version::V311, "subscriber");
        subscriber.subscribe(&[("between/devices", QoS::AtMostOnce)]);
        let mut device = Device::connect(service.mqtt(), Version::V311, "device");
        let payload = vec![b'y'; 60_000];
        device.publish(QoS::AtMostOnce, 0, "between/devices", &payload);
        let counter = "sink_publishes_refused_total{reason=\"qos0_no_room\"}";
        if waits {
            until_metric(&service, "connections_paused", 2);
            assert_eq!(metric(&service, counter), 0);
        } else {
            device.ping();
            assert!(matches!(subscriber.hear(), Heard::Message(..)), "between devices it arrives");
            assert_eq!((metric(&service, counter), metric(&service, "connections_paused")), (1, 1));
        }
        drop(filler);
        drop(service);
        fill.join().expect("a writer");
    }
}
