//! Sessions that outlive their connection, or the process: session present, expiry, and the QoS 2 identifiers that stay open.

use forebay::mqtt::packet::{Connect, Disconnect, Packet, PacketType, Publish, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;

use crate::device::{Device, Heard, Hello, VERSIONS, hello, properties, publish};
use crate::process::{metric, until_metric};
use crate::records::texts;
use crate::support::service::{Service, config};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// A CONNECT that asks for its session to be kept, in the words of its version.
fn kept<'a>(version: Version, client_id: &'a str, expiry: &'a PropertyBuf) -> Connect<'a> {
    let connect = Connect { clean_start: false, ..hello(version, client_id) };
    if version == Version::V5 { Connect { properties: expiry.as_properties(), ..connect } } else { connect }
}

fn expiry(seconds: u32) -> PropertyBuf {
    properties([Property::SessionExpiryInterval(seconds)])
}

fn present(service: &Service, connect: &Connect<'_>) -> (Device, bool) {
    let (device, Hello { session_present, .. }) = Device::connect_as(service.mqtt(), connect);
    (device, session_present)
}

/// [MQTT-3.2.2-2] [MQTT-3.2.2-3] [MQTT-3.1.4-4] [3.1.1 MQTT-3.2.2-1] [3.1.1 MQTT-3.2.2-2] [3.1.1 MQTT-3.2.2-3]
/// [3.1.1 MQTT-3.1.4-3]
#[test]
fn a_kept_session_is_there_again_and_a_clean_one_is_not() {
    let service = Service::start(&config(SINK));
    let hour = expiry(3600);
    for version in VERSIONS {
        let id = format!("{version:?}");
        let keep = kept(version, &id, &hour);
        // 3.1 has no such flag in its CONNACK.
        let told = version != Version::V31;
        assert!(!present(&service, &keep).1, "{version:?}: nothing was kept before");
        for round in 0..3 {
            let (device, session_present) = present(&service, &keep);
            assert_eq!(session_present, told, "{version:?}, round {round}");
            if round % 2 == 0 { device.vanish() } else { device.leave() }
        }
        assert!(!present(&service, &Connect { clean_start: true, ..keep.clone() }).1, "{version:?}: cleaned");
        let after_clean_start = present(&service, &keep).1;
        // Clean Start of 5.0 begins a session that may be kept; Clean Session of 3.x is one that may not.
        assert_eq!(after_clean_start, version == Version::V5, "{version:?}");
    }
}

/// [MQTT-4.1.0-2]
#[test]
fn sessions_end_when_their_expiry_says() {
    let service = Service::start(&config(&format!("[mqtt]\nsession_expiry_3x = \"1s\"\n{SINK}")));
    let (second, hour) = (expiry(1), expiry(3600));
    for version in VERSIONS {
        present(&service, &kept(version, "short", &second)).0.leave();
        until_metric(&service, "sessions", 0);
        let (device, session_present) = present(&service, &kept(version, "short", &second));
        assert!(!session_present, "{version:?}");
        device.leave();
        until_metric(&service, "sessions", 0);
    }
    // DISCONNECT may change it, down to nothing [section 3.14.2.2.2].
    let (mut device, _) = present(&service, &kept(Version::V5, "hour", &hour));
    let none = expiry(0);
    device.say(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: none.as_properties() }));
    assert_eq!(device.hear(), Heard::Closed);
    assert!(!present(&service, &kept(Version::V5, "hour", &hour)).1, "ended by the DISCONNECT");
    // But not up from nothing.
    let (mut device, _) = Device::connect_as(service.mqtt(), &hello(Version::V5, "none"));
    device.say(&Packet::Disconnect(Disconnect { reason: ReasonCode::SUCCESS, properties: hour.as_properties() }));
    assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(0x82), Heard::Closed));
}

/// [MQTT-4.3.3-10]: until PUBREL the identifier names the same message, whatever connection it comes over.
/// [MQTT-4.3.3-12] [3.1.1 MQTT-4.3.3-2]
#[test]
fn an_open_qos_2_identifier_is_one_record_across_connections() {
    let service = Service::start(&config(SINK));
    let hour = expiry(3600);
    let mut expected = Vec::new();
    for version in VERSIONS {
        let id = format!("{version:?}");
        let keep = kept(version, &id, &hour);
        let text = |what: &str| format!("{version:?} {what}");
        let (mut device, _) = present(&service, &keep);
        device.publish(QoS::ExactlyOnce, 7, "t", text("first").as_bytes());
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 7, 0));
        device.vanish();
        let (mut device, _) = present(&service, &keep);
        let again = text("first");
        let repeated = Publish { dup: true, ..publish(QoS::ExactlyOnce, 7, "t", again.as_bytes()) };
        for _ in 0..2 {
            device.say(&Packet::Publish(repeated.clone()));
            assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 7, 0));
        }
        device.release(7);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, 7, 0));
        // After a lost PUBCOMP the client repeats its PUBREL over the next connection.
        device.vanish();
        let (mut device, _) = present(&service, &keep);
        device.release(7);
        let unknown = if version == Version::V5 { 0x92 } else { 0 };
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, 7, unknown));
        // The identifier is free for another message.
        device.publish(QoS::ExactlyOnce, 7, "t", text("second").as_bytes());
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 7, 0));
        device.release(7);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, 7, 0));
        expected.extend([text("first"), text("second")]);
    }
    expected.sort();
    assert_eq!(texts(service.embedded(), "all"), expected);
    assert_eq!(metric(&service, "publishes_duplicate_total"), 2 * VERSIONS.len() as u64);
}

/// The other way about: a clean start forgets the identifier, so the same bytes are a new message.
#[test]
fn a_clean_session_forgets_open_identifiers() {
    let service = Service::start(&config(SINK));
    for version in VERSIONS {
        for _ in 0..2 {
            let mut device = Device::connect(service.mqtt(), version, "clean");
            device.publish(QoS::ExactlyOnce, 1, "t", b"x");
            assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 1, 0));
            device.vanish();
        }
    }
    assert_eq!(texts(service.embedded(), "all").len(), 2 * VERSIONS.len());
}

/// With a spool a session outlives the process, and an open identifier is one record across its death as well.
#[test]
fn an_open_qos_2_identifier_is_one_record_across_a_kill() {
    let mut service = Service::start(&config(&format!("[spool]\nbytes_max = \"128MiB\"\n{SINK}")));
    let hour = expiry(3600);
    let told = |version| version != Version::V31;
    let mut expected = Vec::new();
    for version in VERSIONS {
        let id = format!("{version:?}");
        let keep = kept(version, &id, &hour);
        let (mut device, there) = present(&service, &keep);
        assert!(!there, "{version:?}");
        device.publish(QoS::ExactlyOnce, 7, "t", id.as_bytes());
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 7, 0));
        service.kill9();
        service.start_again();
        let (mut device, there) = present(&service, &keep);
        assert_eq!(there, told(version), "{version:?}: the session is there");
        let repeated = Publish { dup: true, ..publish(QoS::ExactlyOnce, 7, "t", id.as_bytes()) };
        device.say(&Packet::Publish(repeated));
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 7, 0));
        device.release(7);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, 7, 0));
        service.kill9();
        service.start_again();
        let (mut device, _) = present(&service, &keep);
        // Released for good: after a lost PUBCOMP it is answered again, and the identifier names another message.
        device.release(7);
        let unknown = if version == Version::V5 { 0x92 } else { 0 };
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, 7, unknown));
        device.publish(QoS::ExactlyOnce, 7, "t", format!("{id} again").as_bytes());
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRec, 7, 0));
        device.leave();
        let (device, _) = present(&service, &Connect { clean_start: true, ..keep.clone() });
        device.vanish();
        service.kill9();
        service.start_again();
        let there = present(&service, &keep).1;
        // Clean Start of 5.0 began another session that is kept; Clean Session of 3.x ended it for good.
        assert_eq!(there, version == Version::V5, "{version:?}");
        expected.extend([id.clone(), format!("{id} again")]);
    }
    expected.sort();
    crate::process::until("all to be in Kafka, each once", || texts(service.embedded(), "all") == expected);
}
