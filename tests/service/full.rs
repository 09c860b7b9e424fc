//! What cannot go on for now waits where it is: in the device, behind its socket. Nothing grows, and nothing is lost.

use std::time::Duration;

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};

use crate::away::Absent;
use crate::device::{Device, Heard, VERSIONS, hello, puback};
use crate::process::{descriptors, ledger, metric, resident_bytes, until, until_metric};
use crate::records::{read, texts};
use crate::support;
use crate::support::service::{Service, config, config_with};

/// A device that does not read its answers is not read either.
#[test]
fn who_reads_no_answers_is_read_no_more() {
    let service = Service::start(&config(""));
    let mut deaf = Device::connect(service.mqtt(), Version::V311, "deaf");
    let mut good = Device::connect(service.mqtt(), Version::V5, "good");
    good.deliver(1, "t", b"x");
    let before = resident_bytes(&service);
    // Two bytes in for two bytes out, up to 64 MiB; what the kernel holds for both sides is far less.
    let bytes = deaf.say_until_stuck(&[0xC0, 0].repeat(4096), 64 << 20, || good.ping());
    let pings = bytes / 2;
    assert!(bytes < 64 << 20, "{pings} pings went in, and no answer was read");
    let grown = resident_bytes(&service).saturating_sub(before);
    println!("{pings} pings unanswered, {grown} bytes grown");
    assert!(grown < 16 << 20, "{grown} bytes");
    good.deliver(2, "t", b"x");
    // It reads after all, and every answer comes.
    deaf.expect_bytes(&[0xD0, 0], pings);
    if bytes % 2 == 1 {
        deaf.say_bytes(&[0]);
        deaf.expect_bytes(&[0xD0, 0], 1);
    }
    deaf.ping();
}

/// Kafka is away and its memory is full: publishers are left unread, their keep-alive rests, and all of it goes on when
/// Kafka comes.
#[test]
fn a_full_buffer_holds_publishers_back_and_loses_nothing() {
    const EACH: u16 = 100;
    let (kafka, dir) = (Absent::new(), support::temp_dir());
    let service = Service::start(&config_with(
        "shards = 1",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\nbuffer_bytes = \"4MiB\"\n\
             [[sink]]\nname = \"all\"\nfilters = [\"kafka/#\"]\ntopic = \"all\"\nvalue = \"${{clientid}}\"\n\
             headers = {{ payload = \"${{payload}}\" }}\n",
            kafka.address()
        ),
    ));
    let payload = vec![b'x'; 30_000];
    let mut devices = Vec::new();
    for n in 0..6_usize {
        let id = format!("device {n}");
        let connect = Connect { keep_alive_s: 2, ..hello(VERSIONS[n % 3], &id) };
        let (device, _) = Device::connect_as(service.mqtt(), &connect);
        // 18 MB in all, so the kernel cannot hold what the service does not: a thread of its own writes it.
        let mut writer = device.second();
        let payload = payload.clone();
        let publish = move || {
            (1..=EACH).for_each(|id| writer.publish(QoS::AtLeastOnce, id, &format!("kafka/{n}"), &payload));
            writer
        };
        devices.push((device, std::thread::spawn(publish)));
    }
    until_metric(&service, "connections_paused", 6);
    let held = ledger(&service)[3];
    assert!((20..150).contains(&held), "{held} messages of 30 kB in 4 MiB");
    // Who does not publish to that cluster is served.
    let mut other = Device::connect(service.mqtt(), Version::V5, "other");
    other.publish(QoS::AtLeastOnce, 1, "elsewhere", b"x");
    assert_eq!(other.hear(), Heard::Answer(PacketType::PubAck, 1, 0x10));
    // Longer than 1.5 times the keep-alive; none of them can have its PINGREQ read.
    std::thread::sleep(Duration::from_millis(3_500));
    assert_eq!(
        (metric(&service, "connections_closed_total{reason=\"keep_alive_timeout\"}"), metric(&service, "connections")),
        (0, 7)
    );
    let log = kafka.arrive(&dir);
    for (mut device, writer) in devices {
        let answers = device.hear_all(usize::from(EACH));
        assert_eq!(answers, (1..=EACH).map(puback).collect::<Vec<_>>());
        drop(writer.join().expect("a writer"));
    }
    let records = read(log.local_addr(), "all");
    assert_eq!(records.len(), 6 * usize::from(EACH));
    assert!(records.iter().all(|record| record.headers[0].1.len() == payload.len()));
    assert_eq!(metric(&service, "connections_paused"), 0);
    log.stop();
}

/// What records leave to batches that are split and placed is told, so that "almost full" can be seen.
#[test]
fn finding_r4_the_reserve_of_a_small_buffer_is_told() {
    let kafka = Absent::new();
    let text = format!(
        "[kafka.main]\nbootstrap = \"{}\"\nbuffer_bytes = \"4MiB\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n",
        kafka.address()
    );
    let service = Service::start(&config_with("shards = 1", &text));
    let device = Device::connect(service.mqtt(), Version::V311, "device");
    let mut writer = device.second();
    let fill = std::thread::spawn(move || {
        let payload = vec![b'x'; 30_000];
        (1..=300).for_each(|id| writer.try_publish(QoS::AtLeastOnce, id, "t", &payload));
    });
    until_metric(&service, "connections_paused", 1);
    let [used, most, reserved] = ["bytes", "bytes_max", "reserved_bytes"].map(|what| {
        let name = format!("kafka_buffer_{what}");
        metric(&service, &name)
    });
    assert!(reserved > most / 2, "{reserved} of {most}");
    // As the alert has it.
    assert!(used * 10 > (most - reserved) * 8, "{used} of {most}, {reserved} of that reserved");
    let file = service.dir().join("forebay.toml");
    let output = support::service::program().args(["check", "--offline"]).arg(&file).output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected =
        format!("buffer_bytes: a shard has {} KiB, {} KiB of it for records", most >> 10, (most - reserved) >> 10);
    assert!(said.contains(&expected) && said.contains("warning  kafka.main: buffer_bytes"), "{said}");
    drop((device, service));
    fill.join().expect("a writer");
}

/// Kafka is away and 32 MiB of buffers fill; when all of it is delivered, the system gets them back.
#[test]
fn the_memory_of_a_burst_goes_back_to_the_system() {
    const MESSAGES: u16 = 2_000;
    let (kafka, dir) = (Absent::new(), support::temp_dir());
    let service = Service::start(&config_with(
        "shards = 1",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\nbuffer_bytes = \"32MiB\"\n\
             [[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n",
            kafka.address()
        ),
    ));
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    let before = resident_bytes(&service);
    let mut writer = device.second();
    let publish = std::thread::spawn(move || {
        let payload = vec![b'x'; 20_000];
        (1..=MESSAGES).for_each(|id| writer.publish(QoS::AtLeastOnce, id, "t", &payload));
        writer
    });
    until_metric(&service, "connections_paused", 1);
    let full = resident_bytes(&service).saturating_sub(before);
    assert!(full > 20 << 20, "{full} bytes more");
    let log = kafka.arrive(&dir);
    assert_eq!(device.hear_all(usize::from(MESSAGES)).len(), usize::from(MESSAGES));
    drop(publish.join().expect("a writer"));
    until("the ledger to be settled", || ledger(&service)[3] == 0);
    // It is 20 s or so; a busy machine may take longer.
    let mut left = u64::MAX;
    for _ in 0..600 {
        left = resident_bytes(&service).saturating_sub(before);
        if left < full / 4 {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(left < full / 4, "{left} of {full} bytes are held after two minutes");
    assert!(metric(&service, "kafka_buffer_unused_bytes") <= 1 << 20);
    log.stop();
}

/// A stalled connection may end: what it had sent beyond the bound was never taken, and nobody waits for it.
#[test]
fn who_goes_away_while_stalled_leaves_nothing_behind() {
    let (kafka, dir) = (Absent::new(), support::temp_dir());
    let service = Service::start(&config_with(
        "shards = 1",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\nbuffer_bytes = \"4MiB\"\n\
             [[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nvalue = \"${{clientid}}\"\n\
             headers = {{ payload = \"${{payload}}\" }}\n",
            kafka.address()
        ),
    ));
    let payload = vec![b'x'; 500_000];
    let mut devices: Vec<_> = (0..30)
        .map(|n| {
            let mut device = Device::connect(service.mqtt(), VERSIONS[n % 3], &format!("device {}", n % 15));
            device.try_publish(QoS::AtLeastOnce, 1, "t", &payload);
            device
        })
        .collect();
    // The second fifteen took over from the first: half of those were stalled.
    until("all that are left to be stalled or taken", || {
        metric(&service, "connections_paused") + ledger(&service)[3] >= 15 && metric(&service, "connections") == 15
    });
    let taken = ledger(&service)[3];
    devices.drain(..20).for_each(Device::vanish);
    let log = kafka.arrive(&dir);
    let mut answered = 0;
    for mut device in devices {
        assert_eq!(device.hear(), puback(1));
        answered += 1;
        device.leave();
    }
    until_metric(&service, "connections", 0);
    until("the ledger to be settled", || ledger(&service)[3] == 0);
    let recorded = texts(log.local_addr(), "all").len() as u64;
    assert!(recorded >= answered && recorded >= taken && recorded <= 30, "{taken} taken, {recorded} recorded");
    assert_eq!((metric(&service, "connections_paused"), metric(&service, "partial_packet_bytes")), (0, 0));
    assert_eq!(ledger(&service), [recorded, recorded, 0, 0]);
    log.stop();
}

/// Memory is full, Kafka is away, and devices come, publish at QoS 0 and go: none leaves its descriptor behind.
#[test]
fn who_publishes_and_goes_while_kafka_is_away_frees_its_descriptor() {
    let kafka = Absent::new();
    let service = Service::start(&config_with(
        "shards = 2",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\nbuffer_bytes = \"4MiB\"\n\
             [[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nqos0_when_full = \"wait\"\n",
            kafka.address()
        ),
    ));
    let payload = vec![b'x'; 10_000];
    let before = descriptors(&service);
    for n in 0..1_000 {
        let mut device = Device::connect(service.mqtt(), VERSIONS[n % 3], &format!("device {n}"));
        device.publish(QoS::AtMostOnce, 0, "t", &payload);
        if n % 2 == 0 {
            device.vanish();
        }
    }
    until("memory is full", || metric(&service, "connection_pauses_total") > 0);
    until("their descriptors are free", || descriptors(&service) <= before + 8);
    until_metric(&service, "connections_paused", 0);
    Device::connect(service.mqtt(), Version::V5, "another").ping();
}
