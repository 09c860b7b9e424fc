//! What is written is read again as it was; every cut waits; nothing that comes in can make the decoder panic.

use crate::packets::{Sent, any_sent};
use forebay::mqtt::packet::{Packet, Sender, Version};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::{Malformed, decode, encode, frame};
use proptest::prelude::*;

const MAX: u32 = 1 << 20;

/// The packet at the front of `bytes` and how long it is.
pub(crate) fn read(version: Version, sender: Sender, bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    let Some(frame) = frame::next_for(version, sender, bytes, MAX)? else { return Ok(None) };
    decode::decode(version, sender, frame).map(|packet| Some((packet, frame.len)))
}

/// Every byte that was written is read by the accessors as well, or is reported here.
fn touch(packet: &Packet<'_>) -> usize {
    let properties = |properties: &Properties<'_>| properties.iter().count() + properties.user_properties().count();
    match packet {
        Packet::Connect(packet) => properties(&packet.properties),
        Packet::ConnAck(packet) => properties(&packet.properties),
        Packet::Publish(packet) => properties(&packet.properties),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            properties(&ack.properties)
        }
        Packet::Subscribe(packet) => packet.filters.count(),
        Packet::Unsubscribe(packet) => packet.filters.count(),
        Packet::SubAck(packet) | Packet::UnsubAck(packet) => properties(&packet.properties),
        Packet::Disconnect(packet) | Packet::Auth(packet) => properties(&packet.properties),
        Packet::PingReq | Packet::PingResp => 0,
    }
}

proptest! {
    #![proptest_config(crate::packets::config())]

    #[test]
    fn every_packet_comes_back(sent in any_sent()) {
        let bytes = sent.bytes();
        let (packet, len) = read(sent.version, sent.sender, &bytes).expect("well formed").expect("whole");
        prop_assert_eq!(&packet, &sent.packet.view());
        prop_assert_eq!(len, bytes.len());
        prop_assert_eq!(frame::needed(&bytes), Some(len));
        let mut again = Vec::new();
        encode::packet(sent.version, &packet, &mut again).expect("can be said");
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn cut_at_every_byte_it_waits_and_then_reads_the_same(sent in any_sent()) {
        let bytes = sent.bytes();
        for cut in 0..bytes.len() {
            prop_assert_eq!(read(sent.version, sent.sender, &bytes[..cut]), Ok(None), "cut at {}", cut);
        }
        let mut longer = bytes.clone();
        longer.extend_from_slice(&[0xC0, 0x00]);
        let (packet, len) = read(sent.version, sent.sender, &longer).expect("well formed").expect("whole");
        prop_assert_eq!((packet, len), (sent.packet.view(), bytes.len()));
    }

    #[test]
    fn the_packet_by_packet_encoders_leave_what_is_there(sent in any_sent()) {
        let mut out = b"before".to_vec();
        encode::packet(sent.version, &sent.packet.view(), &mut out).expect("can be said");
        prop_assert_eq!(&out[..6], b"before");
        prop_assert_eq!(&out[6..], &sent.bytes()[..]);
    }

    #[test]
    fn a_damaged_packet_is_refused_or_read_but_never_more(
        sent in any_sent(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..6),
        version in 0_usize..3,
    ) {
        let bytes = damaged(&sent, &damage);
        for sender in [Sender::Client, Sender::Server] {
            for version in [sent.version, [Version::V31, Version::V311, Version::V5][version]] {
                check_anything(version, sender, &bytes)?;
            }
        }
    }

    #[test]
    fn nor_are_random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64), first in any::<u8>()) {
        // A plain body behind a true length, which random bytes seldom make.
        let mut framed = vec![first, bytes.len() as u8];
        framed.extend_from_slice(&bytes);
        for version in [Version::V31, Version::V311, Version::V5] {
            for sender in [Sender::Client, Sender::Server] {
                check_anything(version, sender, &bytes)?;
                check_anything(version, sender, &framed)?;
            }
        }
    }
}

/// Bytes changed, put in, taken out, or the end cut off.
pub(crate) fn damaged(sent: &Sent, damage: &[(prop::sample::Index, u8, u8)]) -> Vec<u8> {
    let mut bytes = sent.bytes();
    for (at, byte, kind) in damage {
        if bytes.is_empty() {
            break;
        }
        let at = at.index(bytes.len());
        match kind {
            0 => bytes[at] = *byte,
            1 => bytes.insert(at, *byte),
            2 => _ = bytes.remove(at),
            _ => bytes[at] ^= 1 << (byte & 7),
        }
    }
    bytes
}

/// What is read can be looked at and written again, and means the same then.
fn check_anything(version: Version, sender: Sender, bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(Some(frame)) = frame::next_connect(bytes, MAX) {
        _ = decode::connect(frame);
        _ = decode::answer_version(frame.body);
    }
    if let Ok(Some((packet, len))) = read(version, sender, bytes) {
        prop_assert!(len <= bytes.len());
        touch(&packet);
        let mut again = Vec::new();
        encode::packet(version, &packet, &mut again).expect("what was read can be said");
        // A CONNECT says its own version.
        let (second, _) = read(version, sender, &again).expect("well formed").expect("whole");
        prop_assert_eq!(&second, &packet);
    }
    Ok(())
}

#[test]
fn the_short_forms_of_5_0_are_read() {
    let v5 = |bytes: &[u8]| read(Version::V5, Sender::Client, bytes).map(|packet| packet.is_some()).map_err(|e| e.what);
    assert_eq!(v5(&[0x40, 2, 0, 1]), Ok(true), "no reason");
    assert_eq!(v5(&[0x40, 3, 0, 1, 0x80]), Ok(true), "no property length");
    assert_eq!(v5(&[0x40, 4, 0, 1, 0x80, 0]), Ok(true));
    assert_eq!(v5(&[0xE0, 0]), Ok(true));
    assert_eq!(v5(&[0xE0, 1, 4]), Ok(true));
    assert_eq!(v5(&[0xE0, 2, 4, 0]), Ok(true));
}

#[test]
fn what_3_1_alone_has_is_read() {
    fn v31(bytes: &[u8]) -> Packet<'_> {
        read(Version::V31, Sender::Client, bytes).expect("well formed").expect("whole").0
    }
    assert!(matches!(v31(&[0x6A, 2, 0, 1]), Packet::PubRel(_)), "PUBREL sent again, with DUP");
    assert!(matches!(v31(&[0x8A, 6, 0, 1, 0, 1, b'a', 2]), Packet::Subscribe(_)), "SUBSCRIBE sent again");
    // The Remaining Length takes precedence over the User Name and Password flags.
    let bytes = b"\x10\x0f\x00\x06MQIsdp\x03\xC2\x00\x3C\x00\x01c";
    let Packet::Connect(connect) = v31(bytes) else { panic!("a CONNECT") };
    assert_eq!((connect.username, connect.password, connect.client_id), (None, None, "c"));
}

#[test]
fn five_thousand_user_properties_cost_one_walk() {
    let mut properties = PropertyBuf::new();
    for _ in 0..5_000 {
        assert!(properties.push(Property::UserProperty("k", "v")));
    }
    let mut body = b"\x00\x01t".to_vec();
    let raw = properties.as_properties().raw();
    body.extend_from_slice(&[(raw.len() & 0x7F) as u8 | 0x80, (raw.len() >> 7 & 0x7F) as u8 | 0x80]);
    body.push((raw.len() >> 14) as u8);
    body.extend_from_slice(raw);
    let publish = decode::publish(Version::V5, 0x30, &body).expect("well formed");
    assert_eq!(publish.properties.user_properties().count(), 5_000);
}

#[test]
fn what_cannot_be_said_leaves_the_buffer_alone() {
    let long = "x".repeat(65_536);
    let publish = |topic| forebay::mqtt::packet::Publish {
        dup: false,
        qos: forebay::mqtt::packet::QoS::AtMostOnce,
        retain: false,
        topic,
        packet_id: 0,
        properties: Properties::EMPTY,
        payload: &[],
    };
    let mut out = vec![1, 2];
    assert_eq!(encode::publish(Version::V5, &publish(&long), &mut out), Err(encode::EncodeError::TooLarge));
    assert_eq!(out, [1, 2]);
    assert_eq!(encode::publish(Version::V5, &publish(&long[1..]), &mut out), Ok(()));
    let mut properties = PropertyBuf::new();
    assert!(!properties.push(Property::UserProperty("name", &long)), "the name does not stay alone");
    assert!(properties.as_properties().is_empty());
}
