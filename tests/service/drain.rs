//! The way out: SIGTERM finishes what is in flight, in time, and says what it could not.

use std::net::{SocketAddr, TcpStream};

use forebay::broker::router::owner;
use forebay::mqtt::packet::{PacketType, QoS, Version};

use crate::away::Absent;
use crate::device::{Device, Heard, VERSIONS, puback};
use crate::process::{ledger, until};
use crate::records::texts;
use crate::support::service::{Service, config, config_with};

/// A sink whose records wait for company far longer than any test does, so that they are in flight at SIGTERM.
const LINGERING: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nlinger = \"60s\"\n";

/// Makes both of two shards know the topic. The first message to a topic has waited for its partitions and lingers no
/// more; what comes after it does.
pub(crate) fn warm(service: &Service) {
    let mut warmed = [false; 2];
    for id in (0..).map(|n| format!("warm {n}")) {
        if !std::mem::replace(&mut warmed[owner(&id, 2)], true) {
            Device::connect(service.mqtt(), Version::V5, &id).deliver(1, "t", b"warm");
        }
        if warmed == [true; 2] {
            return;
        }
    }
}

#[test]
fn what_is_in_flight_is_delivered_and_answered_first() {
    let mut service = Service::start(&config_with("shards = 2", LINGERING));
    let mut devices: Vec<_> = (0..30_usize)
        .map(|n| (VERSIONS[n % 3], Device::connect(service.mqtt(), VERSIONS[n % 3], &format!("device {n}"))))
        .collect();
    warm(&service);
    let mut expected = vec!["warm".to_owned(); 2];
    for (n, (version, device)) in devices.iter_mut().enumerate() {
        for (id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (0, QoS::AtMostOnce), (3, QoS::AtLeastOnce)] {
            let text = format!("{version:?} {n:02} {id}");
            device.publish(qos, id, "t", text.as_bytes());
            expected.push(text);
        }
        device.ping();
    }
    expected.sort();
    assert_eq!(ledger(&service), [122, 2, 0, 120], "all of it waits");
    service.signal("TERM");
    for (version, device) in &mut devices {
        let answers = [puback(1), Heard::Answer(PacketType::PubRec, 2, 0), puback(3)];
        assert_eq!(device.hear_all(3), answers);
        if *version == Version::V5 {
            assert_eq!(device.hear(), Heard::Disconnect(0x8B));
        }
        assert_eq!(device.hear(), Heard::Closed);
    }
    assert!(service.wait().success(), "{}", service.log());
    assert!(service.log().contains("stopped: every record is in Kafka or in the spool"), "{}", service.log());
    service.start_again();
    assert_eq!(texts(service.embedded(), "all"), expected);
    assert!(service.terminate().success(), "an idle service ends as well");
}

#[test]
fn what_kafka_does_not_take_in_time_is_reported() {
    let kafka = Absent::new();
    let mut service = Service::start(&config_with(
        "drain_grace = \"300ms\"\nshards = 2",
        &format!("[kafka.main]\nbootstrap = \"{}\"\n{LINGERING}", kafka.address()),
    ));
    let mut devices: Vec<_> =
        (0..7).map(|n| Device::connect(service.mqtt(), VERSIONS[n % 3], &format!("device {n}"))).collect();
    for device in &mut devices {
        device.publish(QoS::AtLeastOnce, 1, "t", b"x");
        device.ping();
    }
    assert_eq!(service.terminate().code(), Some(1));
    assert!(service.log().contains("7 records are not in Kafka"), "{}", service.log());
    assert!(service.log().contains("service.drain_grace"), "{}", service.log());
    for mut device in devices {
        // None of them was told that its message is safe.
        while let heard @ (Heard::Disconnect(_) | Heard::Answer(..)) = device.hear() {
            assert_eq!(heard, Heard::Disconnect(0x8B));
        }
    }
}

/// A device that takes neither its answers nor the goodbye does not keep the service beyond its grace.
#[test]
fn who_does_not_listen_is_left_and_counted() {
    // Long enough for the one that listens, on a busy machine too.
    let mut service = Service::start(&config_with("drain_grace = \"2s\"\nshards = 1", ""));
    let mut deaf = Device::connect(service.mqtt(), Version::V311, "deaf");
    let mut good = Device::connect(service.mqtt(), Version::V311, "good");
    deaf.say_until_stuck(&[0xC0, 0].repeat(4096), 64 << 20, || good.ping());
    assert!(service.terminate().success(), "{}", service.log());
    assert!(service.log().contains("records_left=0 connections_left=1"), "{}", service.log());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let kafka = Absent::new();
    let mut service = Service::start(&config_with(
        "drain_grace = \"600s\"\nshards = 1",
        &format!("[kafka.main]\nbootstrap = \"{}\"\n{LINGERING}", kafka.address()),
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.publish(QoS::AtLeastOnce, 1, "t", b"x");
    device.ping();
    service.signal("TERM");
    // Meanwhile it says that it is on its way out, and takes nobody new.
    until("/readyz to say no", || service.get("/readyz").expect("an answer").0 == 503);
    assert_eq!(service.get("/healthz").expect("an answer").0, 200);
    until("the listener to be gone", || refused(service.mqtt()));
    service.signal("INT");
    assert_eq!(service.wait().code(), Some(1));
    assert!(service.log().contains("second signal"), "{}", service.log());
}

#[test]
fn a_service_that_nobody_uses_ends_with_success() {
    for shards in 1..=3 {
        let mut service = Service::start(&config_with(&format!("shards = {shards}"), ""));
        service.signal("INT");
        assert!(service.wait().success(), "{}", service.log());
    }
    let mut service = Service::start(&config(""));
    // A socket at the door and one in the middle of a packet hold nothing up.
    let mut door = Device::open(service.mqtt(), Version::V5);
    let mut half = Device::connect(service.mqtt(), Version::V311, "half");
    half.say_bytes(&[0x32, 100, 0]);
    assert!(service.terminate().success(), "{}", service.log());
    door.until_closed();
    half.until_closed();
}

/// Nobody is let in, or whoever still came in through the queue of the kernel is let go.
fn refused(to: SocketAddr) -> bool {
    TcpStream::connect(to).is_err()
}
