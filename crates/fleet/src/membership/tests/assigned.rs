//! Assignments alone, for any members with any claims; and the encoding of members' metadata.

use std::sync::Arc;

use proptest::prelude::*;

use crate::membership::assign::{MOVED_MAX, assign};
use crate::membership::format::{self, Peer, Terms};
use crate::membership::{Instance, SlotSet, Table};

const SLOTS: u16 = 64;

fn peer(name: &str, weight: u16) -> Peer {
    let instance = Instance {
        name: Arc::from(name),
        incarnation: 1,
        link: Arc::from("l"),
        server: Arc::from(""),
        member_id: Arc::from("m"),
    };
    let (held, leaving) = (SlotSet::default(), SlotSet::default());
    Peer { instance, weight, terms: Terms { slots: SLOTS, routes: 1 }, generation: 0, wishes: 0, held, leaving }
}

/// Two to five members; each slot is held by at most one of them, and may be being given back.
fn peers() -> impl Strategy<Value = Vec<Peer>> {
    let slot = (0..7usize, prop::bool::weighted(0.1));
    let one = (0..5u16, prop::bool::weighted(0.1));
    (prop::collection::vec(one, 2..6), prop::collection::vec(slot, usize::from(SLOTS))).prop_map(|(weights, slots)| {
        let mut peers: Vec<Peer> = (0..)
            .zip(weights)
            .map(|(i, (weight, is_odd))| {
                let mut peer = peer(&format!("n{i}"), weight);
                peer.terms.routes += u64::from(is_odd);
                peer
            })
            .collect();
        for (slot, (holder, is_leaving)) in (0..).zip(slots) {
            if let Some(peer) = peers.get_mut(holder) {
                peer.held.insert(slot);
                if is_leaving {
                    peer.leaving.insert(slot);
                }
            }
        }
        peers
    })
}

/// Sets the members' slots as after carrying out the assignment.
fn carry_out(peers: &mut [Peer], owners: &[Option<u16>]) {
    for (of, peer) in peers.iter_mut().enumerate() {
        peer.held = (0..SLOTS).filter(|slot| owners[usize::from(*slot)] == u16::try_from(of).ok()).collect();
        peer.leaving = SlotSet::default();
    }
}

proptest! {
    #[test]
    fn an_assignment_takes_nothing_that_another_holds(peers in peers()) {
        let owners = assign(&peers, &Table::default());
        let terms = crate::membership::assign::terms(&peers);
        let is_any = peers.iter().any(|peer| peer.terms == terms && peer.weight > 0);
        prop_assert_eq!(owners.len(), usize::from(SLOTS));
        for (slot, owner) in (0..).zip(&owners) {
            let holder = peers.iter().position(|peer| peer.held.contains(slot));
            if let (Some(holder), Some(owner)) = (holder, owner) {
                prop_assert_eq!(holder, usize::from(*owner), "given away while it is held");
                prop_assert!(!peers[holder].leaving.contains(slot), "given back to who is giving it away");
            }
            if let (None, Some(owner)) = (holder, owner) {
                let owner = &peers[usize::from(*owner)];
                prop_assert!(owner.terms == terms && owner.weight > 0, "given to one that does not serve");
            }
            prop_assert!(holder.is_some() || owner.is_some() || !is_any, "slot {slot} is free, and nobody gets it");
        }
        for (of, peer) in peers.iter().enumerate() {
            let kept = peer.held.iter().filter(|slot| owners[usize::from(*slot)].map(usize::from) == Some(of)).count();
            let moved = peer.held.len() - kept;
            prop_assert!(moved <= MOVED_MAX.max(peer.leaving.len()), "{moved} at once");
        }
    }

    /// From any state, all slots are where they belong a few generations later, and none has moved twice.
    #[test]
    fn assignments_come_to_rest(mut peers in peers()) {
        let mut moved = vec![0; usize::from(SLOTS)];
        let mut holders: Vec<Option<u16>> = (0..SLOTS)
            .map(|slot| peers.iter().position(|peer| peer.held.contains(slot)).and_then(|of| u16::try_from(of).ok()))
            .collect();
        let mut before = Table::default();
        let instances: Vec<Instance> = peers.iter().map(|peer| peer.instance.clone()).collect();
        let mut last = Vec::new();
        for generation in 1..=30 {
            let owners = assign(&peers, &before);
            for (slot, owner) in owners.iter().enumerate() {
                if owner.is_some() && holders[slot] != *owner {
                    moved[slot] += u32::from(holders[slot].is_some());
                    holders[slot] = *owner;
                }
            }
            carry_out(&mut peers, &owners);
            peers.iter_mut().for_each(|peer| peer.generation = generation);
            before = Table { generation, routes: 1, instances: instances.clone(), owners: owners.clone() };
            last = owners;
        }
        prop_assert_eq!(&assign(&peers, &before), &last, "at rest");
        prop_assert!(moved.iter().all(|times| *times <= 1), "{moved:?}");
        let terms = crate::membership::assign::terms(&peers);
        let weight = |peer: &Peer| if peer.terms == terms { usize::from(peer.weight) } else { 0 };
        let all: usize = peers.iter().map(weight).sum();
        for peer in &peers {
            if let Some(part) = (usize::from(SLOTS) * weight(peer)).checked_div(all) {
                let most = part + usize::from(weight(peer) > 0);
                prop_assert!((part..=most).contains(&peer.held.len()), "{} of {part}", peer.held.len());
            }
        }
    }

    #[test]
    fn what_is_said_is_read(mut peer_of in peers(), cut in 0usize..400, noise in any::<Vec<u8>>()) {
        let peer = peer_of.remove(0);
        let bytes = peer.encode();
        let mut expected = peer.clone();
        expected.instance.member_id = Arc::from("");
        prop_assert_eq!(Peer::decode(&bytes), Some(expected.clone()));
        let longer = [&bytes[..], &noise[..]].concat();
        prop_assert_eq!(Peer::decode(&longer), Some(expected), "of a later version");
        prop_assert_eq!(Peer::decode(&bytes[..cut.min(bytes.len() - 1)]), None);
        let _ = Peer::decode(&noise);

        let table = Table {
            generation: 5,
            routes: 9,
            instances: peer_of.iter().map(|peer| peer.instance.clone()).collect(),
            owners: (0..SLOTS).map(|slot| (slot % 3 == 0).then_some(0)).collect(),
        };
        let bytes = format::encode(&table);
        prop_assert_eq!(format::decode(&bytes), Some(table));
        prop_assert_eq!(format::decode(&bytes[..cut.min(bytes.len() - 1)]), None);
        let _ = format::decode(&noise);
    }
}

/// An assignment that its receiver did not confirm counts: the receiver may be serving, as far as the leader knows.
#[test]
fn a_slot_that_was_given_last_counts_as_held_by_who_has_not_answered_since() {
    let mut peers = vec![peer("a", 1), peer("b", 1), peer("c", 1)];
    let instances: Vec<Instance> = peers.iter().map(|peer| peer.instance.clone()).collect();
    let owners = (0..SLOTS).map(|slot| Some(slot / 32)).collect();
    let before = Table { generation: 5, routes: 1, instances, owners };
    peers[0].held = (0..32).collect();
    peers[0].generation = 5;
    peers[1].generation = 4;
    peers[2].generation = 5;
    let owners = assign(&peers, &before);
    let of_c = owners.iter().filter(|owner| **owner == Some(2)).count();
    assert_eq!(of_c, 0, "all that b was given is left to it, or left out first");
    // Another process with the same name holds nothing, but gets the slots back before others do.
    peers[1].instance.incarnation = 2;
    let owners = assign(&peers, &before);
    assert_eq!(owners[32..].iter().filter(|owner| **owner == Some(1)).count(), 21);
    assert_eq!(owners[32..].iter().filter(|owner| **owner == Some(2)).count(), 11);
}

#[test]
fn tables_that_make_no_sense_are_not_read() {
    let instance = peer("a", 1).instance;
    let table = Table { generation: 1, routes: 1, instances: vec![instance.clone()], owners: vec![Some(1)] };
    assert_eq!(format::decode(&format::encode(&table)), None, "an owner that is not there");
    let table = Table { instances: vec![instance.clone(), instance], owners: vec![], ..table };
    assert_eq!(format::decode(&format::encode(&table)), None, "twice the same name");
}
