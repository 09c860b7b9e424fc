//! The codec beside mqtt-protocol-core 0.7.9, 3.1.1 and 5.0: the same verdict on what is well formed and on what has been
//! damaged, the same bytes when written again. Where the verdicts part, `differences.rs` has the sentence.

use crate::differences::explained;
use crate::oracle::{Opinion, opinion};
use crate::packets::{Sent, sent_in};
use crate::round_trip::{damaged, read};
use forebay::mqtt::packet::{Packet, Version};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{Malformed, decode, encode, frame};
use proptest::prelude::*;

const MAX: u32 = 1 << 20;

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![1 => sent_in(Version::V311), 2 => sent_in(Version::V5)]
}

/// Our verdict; a CONNECT is judged as the first packet.
fn verdict<'a>(sent: &Sent, bytes: &'a [u8]) -> Result<Option<Packet<'a>>, Malformed> {
    if bytes.first().is_some_and(|first| first >> 4 == 1) {
        let Some(frame) = frame::next_connect(bytes, MAX)? else { return Ok(None) };
        return decode::connect(frame).map(|connect| Some(Packet::Connect(connect)));
    }
    Ok(read(sent.version, sent.sender, bytes)?.map(|(packet, _)| packet))
}

/// Where it refuses what we take, and why we do.
fn only_they_refuse(packet: &Packet<'_>) -> Option<&'static str> {
    match packet {
        Packet::Connect(connect) if connect.password.is_some() && connect.username.is_none() => {
            Some("section 3.1.2.9: 5.0 allows a Password without a User Name")
        }
        Packet::Connect(connect) if connect.is_bridge => Some("no standard has the level of a bridge"),
        Packet::Disconnect(disconnect) if disconnect.reason == ReasonCode::BAD_AUTHENTICATION_METHOD => {
            Some("section 2.4: the table has 0x8C in DISCONNECT, section 3.14.2.1 leaves it out")
        }
        _ => None,
    }
}

proptest! {
    #![proptest_config(crate::packets::config())]

    /// [MQTT-2.1.3-1] [MQTT-2.2.2-1] [MQTT-3.1.3-1] [MQTT-3.3.2-1] [3.1.1 MQTT-2.2.2-1] [3.1.1 MQTT-3.1.3-1]
    /// [3.1.1 MQTT-3.3.2-1]
    #[test]
    fn what_we_write_it_reads_and_writes_the_same(sent in sent()) {
        let bytes = sent.bytes();
        match opinion(sent.version, &bytes, MAX) {
            Some(Opinion::Accepted(theirs)) => prop_assert_eq!(theirs, bytes),
            other => {
                let why = only_they_refuse(&sent.packet.view());
                prop_assert!(why.is_some(), "{:?} of {:02x?}", other, bytes);
            }
        }
    }

    #[test]
    fn of_what_is_damaged_it_says_the_same(
        sent in sent(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0_u8..4), 1..4),
    ) {
        let bytes = damaged(&sent, &damage);
        // A CONNECT of another version is no longer this library's parser's to judge, nor one of a bridge (level 0x84).
        let ours = verdict(&sent, &bytes);
        if let Ok(Some(Packet::Connect(connect))) = &ours && (connect.version != sent.version || connect.is_bridge) {
            return Ok(());
        }
        let Some(theirs) = opinion(sent.version, &bytes, MAX) else { return Ok(()) };
        match (&ours, &theirs) {
            (Ok(Some(packet)), Opinion::Accepted(theirs)) => {
                let mut again = Vec::new();
                encode::packet(sent.version, packet, &mut again).expect("can be said");
                let (second, _) = read(sent.version, sent.sender, theirs).expect("well formed").expect("whole");
                prop_assert_eq!(packet, &second, "of {:02x?}", bytes);
            }
            (Ok(None), Opinion::Incomplete) | (Err(_), Opinion::Refused(_)) => {}
            // We need not see the end of what cannot become good.
            (Err(_), Opinion::Incomplete) => {}
            (Err(ours), Opinion::Accepted(_)) => {
                let clause = ours.clause_in(sent.version);
                prop_assert!(explained(clause).is_some(), "only we refuse {:02x?}: {}", bytes, ours);
            }
            (Ok(Some(packet)), Opinion::Refused(_)) => {
                let why = only_they_refuse(packet);
                prop_assert!(why.is_some(), "only they refuse {:02x?}: {:?}", bytes, packet);
            }
            _ => prop_assert!(false, "{:02x?}: ours {:?}, theirs {:?}", bytes, ours, theirs),
        }
    }
}
