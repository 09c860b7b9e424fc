//! Kafka comes later than the devices: everything is taken at once, held, and delivered topic by topic.

use std::net::SocketAddr;

use forebay::embedded::{EmbeddedLog, Settings};
use forebay::mqtt::packet::{PacketType, QoS, Version};
use socket2::{Domain, Socket, Type};

use crate::device::{Device, Heard, VERSIONS, puback};
use crate::process::{ledger, metric, until, until_metric};
use crate::records::read;
use crate::support;
use crate::support::service::{Service, config_with};

/// A Kafka that is not there yet: its port is ours, nobody listens on it, and connections are refused.
pub(crate) struct Absent {
    /// Bound, so that nobody else gets the port; one that reuses addresses may listen on it.
    port: Socket,
}

impl Absent {
    pub(crate) fn new() -> Self {
        let port = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        port.set_reuse_address(true).expect("an option");
        port.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        Self { port }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.port.local_addr().expect("bound").as_socket().expect("an IP address")
    }

    /// Here it comes. Not always at once: a process that another test begins holds our descriptors, those of an earlier
    /// log too, until it has become its program.
    pub(crate) fn arrive(&self, dir: &tempfile::TempDir) -> EmbeddedLog {
        self.arrive_with(|| Settings::new(self.address(), dir.path()))
    }

    /// The same with other settings.
    pub(crate) fn arrive_with(&self, settings: impl Fn() -> Settings) -> EmbeddedLog {
        let mut log = None;
        until("the log to start", || {
            log = EmbeddedLog::start(settings()).ok();
            log.is_some()
        });
        log.expect("started")
    }

    /// A service of one shard that sends everything to its topic `all`.
    pub(crate) fn service(&self) -> Service {
        let config = format!(
            "[kafka.main]\nbootstrap = \"{}\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n",
            self.address()
        );
        Service::start(&config_with("shards = 1", &config))
    }
}

#[test]
fn publishes_are_taken_and_held_until_kafka_comes() {
    let (kafka, dir) = (Absent::new(), support::temp_dir());
    let service = Service::start(&config_with(
        "shards = 2",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\n[[sink]]\nname = \"by-topic\"\nfilters = [\"#\"]\ntopic = \"t-${{topic[0]}}\"\n",
            kafka.address()
        ),
    ));
    assert_eq!(service.get("/readyz").expect("an answer").0, 200, "ready before Kafka is");
    let mut devices: Vec<_> =
        (0..6_usize).map(|n| (n, Device::connect(service.mqtt(), VERSIONS[n % 3], &format!("device {n}")))).collect();
    for (n, device) in &mut devices {
        for id in 1..=100_u16 {
            let (topic, text) = (format!("{}/{n}", id % 5), format!("{id:03}"));
            let qos = if id % 4 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
            device.publish(qos, id, &topic, text.as_bytes());
        }
        // The first thing heard is this: all has been read, nothing is answered.
        device.ping();
    }
    assert_eq!(ledger(&service), [600, 0, 0, 600]);
    assert_eq!((metric(&service, "acknowledgements_sent_total"), metric(&service, "kafka_reachable")), (0, 0));

    let log = kafka.arrive(&dir);
    for (_, device) in &mut devices {
        for id in 1..=100_u16 {
            let kind = if id % 4 == 0 { PacketType::PubRec } else { PacketType::PubAck };
            assert_eq!(device.hear(), Heard::Answer(kind, id, 0), "in the order of receipt");
        }
    }
    assert_eq!(ledger(&service), [600, 600, 0, 0]);
    assert_eq!(metric(&service, "kafka_reachable"), 2, "for each shard");
    for topic in 0..5_u16 {
        let records = read(log.local_addr(), &format!("t-{topic}"));
        assert_eq!(records.len(), 120);
        for n in 0..6 {
            let key = format!("{topic}/{n}");
            let texts: Vec<_> = records.iter().filter(|record| record.key == key).map(|record| record.text()).collect();
            let expected: Vec<_> = (1..=100_u16).filter(|id| id % 5 == topic).map(|id| format!("{id:03}")).collect();
            assert_eq!(texts, expected, "{key}");
        }
    }
    // And it goes on as if Kafka had always been there.
    for (_, device) in &mut devices {
        device.deliver(1_000, "0/late", b"late");
    }
    log.stop();
}

#[test]
fn kafka_may_go_and_come_back() {
    let (kafka, dir) = (Absent::new(), support::temp_dir());
    let service = kafka.service();
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    for round in 0..3_u16 {
        let log = kafka.arrive(&dir);
        (1..=20).for_each(|n| device.deliver(n, "t", format!("{round} {n:02}").as_bytes()));
        log.stop();
        until_metric(&service, "kafka_reachable", 0);
        (21..=40).for_each(|n| device.publish(QoS::AtLeastOnce, n, "t", format!("{round} {n:02}").as_bytes()));
        device.ping();
        let log = kafka.arrive(&dir);
        assert_eq!(device.hear_all(20), (21..=40).map(puback).collect::<Vec<_>>());
        log.stop();
    }
    let log = kafka.arrive(&dir);
    let texts: Vec<_> = read(log.local_addr(), "all").iter().map(|record| record.text().to_owned()).collect();
    let expected: Vec<_> = (0..3).flat_map(|round| (1..=40).map(move |n| format!("{round} {n:02}"))).collect();
    assert_eq!(texts, expected, "in order, each once");
    assert_eq!(metric(&service, "sink_possible_duplicates_total"), 0);
}

/// `received` is answered from memory: it promises nothing, and waits for nobody.
#[test]
fn received_is_answered_without_kafka() {
    let (kafka, dir) = (Absent::new(), support::temp_dir());
    let service = Service::start(&config_with(
        "shards = 1",
        &format!(
            "[kafka.main]\nbootstrap = \"{}\"\n\
             [[sink]]\nname = \"now\"\nfilters = [\"now\", \"both\"]\ntopic = \"now\"\nacknowledge = \"received\"\n\
             [[sink]]\nname = \"safe\"\nfilters = [\"safe\", \"both\"]\ntopic = \"safe\"\n",
            kafka.address()
        ),
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=50).for_each(|n| device.deliver(n, "now", b"x"));
    // Every sink that it matches has a say; and what came before is answered before.
    device.publish(QoS::AtLeastOnce, 51, "both", b"x");
    device.publish(QoS::AtLeastOnce, 52, "now", b"x");
    device.ping();
    assert_eq!(ledger(&service), [53, 0, 0, 53]);
    let log = kafka.arrive(&dir);
    assert_eq!(device.hear_all(2), [puback(51), puback(52)]);
    until_metric(&service, "sink_records_out_total{result=\"delivered\"}", 53);
    assert_eq!((read(log.local_addr(), "now").len(), read(log.local_addr(), "safe").len()), (52, 1));
    log.stop();
}
