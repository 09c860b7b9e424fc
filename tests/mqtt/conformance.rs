//! Statements of MQTT 3.1.1 and 5.0 about what a packet has and has not, in both versions; docs/CONFORMANCE.md lists them all.

use crate::malformed;
use crate::verdicts::judge;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Packet, PacketType, Sender, Version};
use forebay::mqtt::reason::ReasonCode;

/// Whether a packet of a client is well formed.
fn is_taken(version: Version, packet: PacketType, notation: &str) -> bool {
    match judge(version, Sender::Client, packet, &malformed::bytes(notation)) {
        Ok(taken) => {
            assert!(taken.is_some(), "{version:?} {notation}: not whole");
            true
        }
        Err(refused) => {
            assert_eq!(refused.reason, ReasonCode::MALFORMED_PACKET, "{version:?} {notation}: {refused}");
            false
        }
    }
}

/// [MQTT-3.1.2-9] [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-3]
/// [MQTT-3.1.3-4] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [3.1.1 MQTT-3.1.2-9] [3.1.1 MQTT-3.1.2-11] [3.1.1 MQTT-3.1.2-18]
/// [3.1.1 MQTT-3.1.2-19] [3.1.1 MQTT-3.1.2-20] [3.1.1 MQTT-3.1.2-21] [3.1.1 MQTT-3.1.3-1] [3.1.1 MQTT-3.1.3-3]
/// [3.1.1 MQTT-3.1.3-4] [3.1.1 MQTT-3.1.3-10] [3.1.1 MQTT-3.1.3-11]
#[test]
fn connect_has_the_fields_of_its_flags_and_no_others() {
    // Connect Flags, payload (W is where the properties of a will are), whether it is well formed.
    let cases = [
        ("02", "{'c'}", true),
        ("02", "", false),
        ("02", "{C3 28}", false),
        ("06", "{'c'} W {'w'} {'p'}", true),
        ("06", "{'c'} W {'w'}", false),
        ("06", "{'c'}", false),
        ("02", "{'c'} W {'w'} {'p'}", false),
        ("06", "{'c'} W {C3 28} {'p'}", false),
        ("82", "{'c'} {'u'}", true),
        ("82", "{'c'}", false),
        ("02", "{'c'} {'u'}", false),
        ("82", "{'c'} {C3 28}", false),
        ("C2", "{'c'} {'u'} {'p'}", true),
        ("C2", "{'c'} {'u'}", false),
        ("82", "{'c'} {'u'} {'p'}", false),
        ("C6", "{'c'} W {'w'} {'p'} {'u'} {FF}", true),
        ("C6", "{FF} {'c'} W {'w'} {'p'} {'u'}", false),
    ];
    for (version, level, none) in [(Version::V311, "04", ""), (Version::V5, "05", "[]")] {
        for (flags, payload, taken) in cases {
            let notation = format!("10 [ {{'MQTT'}} {level} {flags} 003C {none} {} ]", payload.replace('W', none));
            assert_eq!(is_taken(version, PacketType::Connect, &notation), taken, "{version:?} {notation}");
        }
    }
}

/// [MQTT-1.5.7-1] [MQTT-3.3.2-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [3.1.1 MQTT-3.3.2-1]
/// [3.1.1 MQTT-3.8.3-1] [3.1.1 MQTT-3.10.3-1]
#[test]
fn text_is_utf_8_wherever_it_is() {
    use PacketType::{Publish, Subscribe, Unsubscribe};
    for (version, packet, notation) in [
        (Version::V311, Publish, "30 [ {TEXT} 'x' ]"),
        (Version::V5, Publish, "30 [ {TEXT} [] 'x' ]"),
        (Version::V5, Publish, "30 [ {'t'} [ 08 {TEXT} ] 'x' ]"),
        (Version::V5, Publish, "30 [ {'t'} [ 03 {TEXT} ] 'x' ]"),
        (Version::V5, Publish, "30 [ {'t'} [ 26 {TEXT} {'v'} ] 'x' ]"),
        (Version::V5, Publish, "30 [ {'t'} [ 26 {'k'} {TEXT} ] 'x' ]"),
        (Version::V311, Subscribe, "82 [ 0001 {TEXT} 00 ]"),
        (Version::V5, Subscribe, "82 [ 0001 [] {TEXT} 00 ]"),
        (Version::V311, Unsubscribe, "A2 [ 0001 {TEXT} ]"),
        (Version::V5, Unsubscribe, "A2 [ 0001 [] {TEXT} ]"),
    ] {
        assert!(is_taken(version, packet, &notation.replace("TEXT", "C3 A4")), "{version:?} {notation}");
        for bad in ["C3 28", "ED A0 80", "'a' 00"] {
            assert!(!is_taken(version, packet, &notation.replace("TEXT", bad)), "{version:?} {notation} {bad}");
        }
    }
}

/// [MQTT-2.2.1-2] [3.1.1 MQTT-2.3.1-5]
#[test]
fn qos_0_has_no_packet_identifier() {
    for (version, notation) in [(Version::V311, "30 [ {'t'} 'xy' ]"), (Version::V5, "30 [ {'t'} [] 'xy' ]")] {
        let bytes = malformed::bytes(notation);
        let Ok(Some(Packet::Publish(publish))) = judge(version, Sender::Client, PacketType::Publish, &bytes) else {
            panic!("{notation}")
        };
        assert_eq!((publish.packet_id, publish.payload), (0, &b"xy"[..]));
        let mut again = Vec::new();
        encode::publish(version, &publish, &mut again).expect("short");
        assert_eq!(again, bytes);
    }
}
