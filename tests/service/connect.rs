//! CONNECT and its answer: what 5.0 is told, who gets a name, who is turned away, and how long one may take to say it.

use forebay::mqtt::packet::{Connect, Packet, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property};

use crate::device::{Device, Heard, VERSIONS, hello, properties};
use crate::process::{metric, until_metric};
use crate::support::service::{Service, config};

#[test]
fn connack_tells_5_0_the_terms_and_the_others_nothing() {
    let service = Service::start(&config(
        "[mqtt]\npacket_bytes_max = \"64KiB\"\nreceive_maximum = 77\ntopic_alias_maximum = 9\nkeep_alive_max = \"60s\"\n\
         session_expiry_max = \"100s\"\n",
    ));
    let asked = properties([Property::SessionExpiryInterval(u32::MAX)]);
    let connect = Connect { keep_alive_s: 600, properties: asked.as_properties(), ..hello(Version::V5, "terms") };
    let (_device, hello_5) = Device::connect_as(service.mqtt(), &connect);
    let terms: Vec<Property<'_>> = hello_5.properties.as_properties().iter().collect();
    assert_eq!(
        terms,
        [
            Property::SessionExpiryInterval(100),
            Property::ReceiveMaximum(77),
            Property::MaximumPacketSize(64 << 10),
            Property::TopicAliasMaximum(9),
            Property::ServerKeepAlive(60),
        ]
    );
    // What is asked for and granted as it is goes without saying.
    let asked = properties([Property::SessionExpiryInterval(50)]);
    let connect = Connect { keep_alive_s: 30, properties: asked.as_properties(), ..hello(Version::V5, "modest") };
    let told = Device::connect_as(service.mqtt(), &connect).1.properties;
    assert_eq!(told.as_properties().session_expiry_interval_s(), None);
    assert_eq!(told.as_properties().server_keep_alive_s(), None);
    for version in [Version::V31, Version::V311] {
        let mut device = Device::open(service.mqtt(), version);
        device.say(&Packet::Connect(Connect { keep_alive_s: 600, ..hello(version, "old") }));
        let hello = device.welcome();
        assert!(hello.properties.as_properties().is_empty() && !hello.session_present);
    }
}

/// [MQTT-3.1.3-6] [MQTT-3.1.3-7] [MQTT-3.2.2-16] [3.1.1 MQTT-3.1.3-6] [3.1.1 MQTT-3.1.3-7] [3.1.1 MQTT-3.2.2-5]
#[test]
fn a_device_without_a_name_gets_one_that_stays_its_own() {
    let service = Service::start(&config(""));
    let kept = properties([Property::SessionExpiryInterval(600)]);
    let nameless = Connect { properties: kept.as_properties(), ..hello(Version::V5, "") };
    let (first, told) = Device::connect_as(service.mqtt(), &nameless);
    let (_second, other) = Device::connect_as(service.mqtt(), &nameless);
    let name = told.properties.as_properties().assigned_client_identifier().expect("a name").to_owned();
    assert_ne!(other.properties.as_properties().assigned_client_identifier(), Some(&*name));
    first.vanish();
    until_metric(&service, "connections", 1);
    let again = Connect { clean_start: false, client_id: &name, ..nameless };
    let (_again, hello_again) = Device::connect_as(service.mqtt(), &again);
    assert!(hello_again.session_present, "by the name that it was given");
    assert_eq!(hello_again.properties.as_properties().assigned_client_identifier(), None);
    // 3.1.1 is not told its name, and has none that is kept [3.1.1 MQTT-3.1.3-8].
    let _nameless = Device::connect(service.mqtt(), Version::V311, "");
    let mut refused = Device::open(service.mqtt(), Version::V311);
    refused.say(&Packet::Connect(Connect { clean_start: false, ..hello(Version::V311, "") }));
    assert_refused(refused, 2);
}

/// [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-4.12.0-1] [MQTT-4.13.2-1] [3.1.1 MQTT-3.2.2-4] [3.1.1 MQTT-3.2.2-5]
#[test]
fn who_is_turned_away_is_told_why() {
    let service = Service::start(&config("[mqtt]\nsessions_max = 2\n"));
    let authentication = properties([Property::AuthenticationMethod("SCRAM")]);
    let mut device = Device::open(service.mqtt(), Version::V5);
    device.say(&Packet::Connect(Connect { properties: authentication.as_properties(), ..hello(Version::V5, "scram") }));
    assert_refused(device, 0x8C);
    let _one = Device::connect(service.mqtt(), Version::V5, "one");
    let _two = Device::connect(service.mqtt(), Version::V311, "two");
    for (version, code) in [(Version::V5, 0x97), (Version::V311, 3), (Version::V31, 3)] {
        let mut device = Device::open(service.mqtt(), version);
        device.say(&Packet::Connect(hello(version, "three")));
        assert_refused(device, code);
    }
    let _two_again = Device::connect(service.mqtt(), Version::V31, "two");
    assert_eq!((metric(&service, "sessions"), metric(&service, "connects_total{result=\"refused\"}")), (2, 4));
}

#[test]
fn who_says_no_connect_in_time_is_closed() {
    let service = Service::start(&config("[mqtt]\nconnect_timeout = \"2s\"\n"));
    let mut silent = Device::open(service.mqtt(), Version::V311);
    let mut slow = Device::open(service.mqtt(), Version::V311);
    slow.say_bytes(b"\x10\x0f\x00\x04MQTT\x04");
    let mut in_time = Device::connect(service.mqtt(), Version::V311, "in time");
    assert_eq!((silent.hear(), slow.hear()), (Heard::Closed, Heard::Closed));
    in_time.ping();
    assert_eq!(
        (metric(&service, "connections_closed_total{reason=\"connect_timeout\"}"), metric(&service, "connections")),
        (2, 1)
    );
    assert_eq!(metric(&service, "partial_packet_bytes"), 0, "what had come of it is given back");
}

/// The largest CONNECT that 3.1.1 can express, and every field of it with a meaning.
#[test]
fn a_connect_of_every_field_at_its_largest() {
    let service = Service::start(&config(""));
    let (long, payload) = ("x".repeat(65_535), vec![7; 65_535]);
    for version in VERSIONS {
        let will = Will {
            qos: QoS::ExactlyOnce,
            retain: true,
            topic: &long,
            payload: &payload,
            properties: Properties::EMPTY,
        };
        let connect =
            Connect { will: Some(will), username: Some(&long), password: Some(&payload), ..hello(version, &long) };
        let (mut device, _) = Device::connect_as(service.mqtt(), &connect);
        device.ping();
        device.leave();
    }
}

fn assert_refused(mut device: Device, code: u8) {
    match device.hear() {
        Heard::ConnAck(hello) => assert_eq!((hello.session_present, hello.code), (false, code)),
        other => panic!("{other:?}"),
    }
    assert_eq!(device.hear(), Heard::Closed);
}
