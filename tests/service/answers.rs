//! What else a device may say once connected, and how it is answered: SUBSCRIBE, PINGREQ, silence, too much at once.

use std::time::{Duration, Instant};

use forebay::mqtt::packet::{Connect, Packet, PacketType, QoS, Version};

use crate::device::{Device, Heard, VERSIONS, hello, puback};
use crate::process::{metric, until_metric};
use crate::support::service::{Service, config};

/// SUBSCRIBE (82) or UNSUBSCRIBE (A2) of `a` and `b/+`, packet identifier 9.
fn asking(version: Version, first: u8) -> Vec<u8> {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let filter = |filter: &[u8]| {
        let options: &[u8] = if first == 0x82 { &[1] } else { &[] };
        [&[0, filter.len() as u8], filter, options].concat()
    };
    let body = [&[0, 9], properties, &filter(b"a"), &filter(b"b/+")].concat();
    [&[first, body.len() as u8], &body[..]].concat()
}

#[test]
fn subscriptions_are_answered_filter_by_filter_and_3_1_has_no_refusal() {
    let service = Service::start(&config(""));
    for version in VERSIONS {
        let mut device = Device::connect(service.mqtt(), version, "subscriber");
        device.say_bytes(&asking(version, 0x82));
        assert_eq!(device.hear(), Heard::Codes(PacketType::SubAck, 9, vec![1; 2]));
        for code in [0, 0x11] {
            device.say_bytes(&asking(version, 0xA2));
            let codes = if version == Version::V5 { vec![code; 2] } else { Vec::new() };
            assert_eq!(device.hear(), Heard::Codes(PacketType::UnsubAck, 9, codes));
        }
        device.deliver(1, "still/here", b"x");
    }
    let mut device = Device::connect(service.mqtt(), Version::V31, "subscriber");
    device.say_bytes(b"\x82\x0f\x00\x09\x00\x0a$share/+/a\x00");
    assert_eq!(device.hear(), Heard::Closed, "3.1 has no code for a refusal");
}

/// [MQTT-3.12.4-1] [3.1.1 MQTT-3.12.4-1]
#[test]
fn pings_are_answered_between_publishes() {
    let service = Service::start(&config(""));
    for version in VERSIONS {
        let mut device = Device::connect(service.mqtt(), version, "ping");
        for n in 1..=5 {
            device.ping();
            device.deliver(n, "t", b"x");
        }
        device.say_bytes(&[0xC0, 0, 0xC0, 0, 0xC0, 0]);
        assert_eq!(device.hear_all(3), vec![Heard::PingResp; 3]);
    }
}

/// Exactly when is shown on the simulated clock; here that it is the wire's clock, and not before 1.5 intervals.
/// [MQTT-3.1.2-20] [MQTT-3.1.2-22] [3.1.1 MQTT-3.1.2-23] [3.1.1 MQTT-3.1.2-24]
#[test]
fn silence_beyond_the_keep_alive_ends_a_connection() {
    let service = Service::start(&config(""));
    let began = Instant::now();
    let mut devices: Vec<_> = VERSIONS
        .iter()
        .map(|&version| {
            let id = format!("{version:?}");
            Device::connect_as(service.mqtt(), &Connect { keep_alive_s: 1, ..hello(version, &id) }).0
        })
        .collect();
    let mut without = Device::connect(service.mqtt(), Version::V5, "without");
    for (device, version) in devices.iter_mut().zip(VERSIONS) {
        if version == Version::V5 {
            assert_eq!(device.hear(), Heard::Disconnect(0x8D));
        }
        assert_eq!(device.hear(), Heard::Closed);
        assert!(began.elapsed() >= Duration::from_millis(1_500), "{:?}", began.elapsed());
    }
    without.ping();
    assert_eq!(metric(&service, "connections_closed_total{reason=\"keep_alive_timeout\"}"), 3);
    until_metric(&service, "connections", 1);
}

/// With Kafka away nothing is answered, so the window of 5.0 fills.
/// [MQTT-3.3.4-7]
#[test]
fn more_than_receive_maximum_unanswered_ends_the_connection() {
    let away = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let service = Service::start(&config(&format!(
        "[mqtt]\nreceive_maximum = 10\n[kafka.main]\nbootstrap = \"{}\"\n\
         [[sink]]\nname = \"held\"\nfilters = [\"held\"]\ntopic = \"held\"\n",
        away.local_addr().expect("an address")
    )));
    let mut device = Device::connect(service.mqtt(), Version::V5, "eager");
    // Neither QoS 0 nor what is answered counts.
    (1..=20).for_each(|n| {
        device.publish(QoS::AtMostOnce, 0, "held", b"x");
        device.publish(QoS::AtLeastOnce, n, "unmatched", b"x");
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, n, 0x10));
    });
    (1..=10).for_each(|n| device.publish(QoS::AtLeastOnce, n, "held", b"x"));
    device.ping();
    device.publish(QoS::ExactlyOnce, 11, "held", b"x");
    assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(0x93), Heard::Closed));
    // 3.x knows no such bound.
    let mut device = Device::connect(service.mqtt(), Version::V311, "eager");
    (1..=100).for_each(|n| device.publish(QoS::AtLeastOnce, n, "held", b"x"));
    device.ping();
}

/// [MQTT-3.1.0-2] [MQTT-3.14.4-2] [3.1.1 MQTT-3.1.0-2] [3.1.1 MQTT-4.8.0-1]
#[test]
fn a_second_connect_and_a_packet_of_servers_end_the_connection() {
    let service = Service::start(&config(""));
    for version in VERSIONS {
        let second = |device: &mut Device| device.say(&Packet::Connect(hello(version, "again")));
        let server = |device: &mut Device| device.say(&Packet::PingResp);
        // As a first one these would be answered otherwise.
        let malformed =
            |device: &mut Device| device.say_bytes(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 0]);
        let nameless =
            |device: &mut Device| device.say_bytes(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 0, 0, 0]);
        for wrong in [&second as &dyn Fn(&mut Device), &server, &malformed, &nameless] {
            let mut device = Device::connect(service.mqtt(), version, "again");
            device.publish(QoS::AtLeastOnce, 1, "before", b"x");
            assert_eq!(device.hear(), puback(1));
            wrong(&mut device);
            if version == Version::V5 {
                assert_eq!(device.hear(), Heard::Disconnect(0x82));
            }
            assert_eq!(device.hear(), Heard::Closed);
        }
    }
}
