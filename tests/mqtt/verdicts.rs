//! Every malformed packet of the table is refused with its reason and its clause; where mqtt-protocol-core judges
//! otherwise, the clause says who is right.

use crate::differences::{Difference, ONLY_WE_REFUSE, explained};
use crate::malformed::{self, Case, MAXIMUM_PACKET_SIZE};
use crate::oracle::{Opinion, opinion};
use forebay::mqtt::packet::{Packet, PacketType, Sender, Version};
use forebay::mqtt::{Malformed, decode, frame};
use std::collections::HashSet;

/// What a peer of this version does with the bytes: `Ok(None)` when it waits for more.
pub(crate) fn judge(
    version: Version,
    sender: Sender,
    packet: PacketType,
    bytes: &[u8],
) -> Result<Option<Packet<'_>>, Malformed> {
    if packet == PacketType::Connect && sender == Sender::Client {
        return match frame::next_connect(bytes, MAXIMUM_PACKET_SIZE)? {
            Some(frame) => decode::connect(frame).map(Packet::Connect).map(Some),
            None => Ok(None),
        };
    }
    match frame::next_for(version, sender, bytes, MAXIMUM_PACKET_SIZE)? {
        Some(frame) => decode::decode(version, sender, frame).map(Some),
        None => Ok(None),
    }
}

#[test]
fn every_case_is_refused_with_its_reason_and_clause() {
    let mut wrong = Vec::new();
    for case in malformed::all() {
        let Case { name, version, sender, packet, bytes, reason, clause } = &case;
        match judge(*version, *sender, *packet, bytes) {
            Err(refused) if refused.reason == *reason && refused.clause_in(*version) == *clause => {}
            other => wrong.push(format!("{name}: expected {reason:?} [{clause}], got {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
}

#[test]
fn there_are_twenty_of_each_and_no_two_alike() {
    for (_, packet, rows) in malformed::TABLES {
        assert!(rows.len() >= 20, "{packet} has {}", rows.len());
    }
    let mut names = HashSet::new();
    let mut packets = HashSet::new();
    for case in malformed::all() {
        assert!(names.insert(case.name.clone()), "{} stands twice", case.name);
        assert!(
            packets.insert((case.version, case.sender == Sender::Client, case.bytes.clone())),
            "{}: the same bytes stand twice",
            case.name
        );
        assert_eq!(PacketType::of(case.bytes[0]), Some(case.packet), "{}", case.name);
    }
}

#[test]
fn the_second_opinion() {
    let mut used = HashSet::new();
    let mut wrong = Vec::new();
    for case in malformed::all() {
        match opinion(case.version, &case.bytes, MAXIMUM_PACKET_SIZE) {
            // It knows no 3.1; it is of our opinion; or it waits for a body that cannot make the header better.
            None | Some(Opinion::Refused(_) | Opinion::Incomplete) => {}
            Some(Opinion::Accepted(_)) if explained(case.clause).is_some() => _ = used.insert(case.clause),
            Some(Opinion::Accepted(_)) => wrong.push(format!("{} [{}]", case.name, case.clause)),
        }
    }
    assert!(wrong.is_empty(), "{}\n{} not explained", wrong.join("\n"), wrong.len());
    for Difference { clauses, why } in ONLY_WE_REFUSE {
        for clause in *clauses {
            assert!(used.contains(clause), "no difference left under {clause} ({why})");
        }
    }
}
