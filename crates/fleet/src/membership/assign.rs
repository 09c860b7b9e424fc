//! The assignment of slots to instances: a pure function of the members' metadata and of the previous table.
//!
//! - **Sticky.** A slot stays with the member that holds it, unless the member has more than its part.
//! - **By weight.** A member's part of the slots is proportional to its weight; the remainder goes to the members that hold most.
//! - **Two phases.** A slot that a living member holds is first left out; it is reassigned when the member does not hold it any more.
//! - **Few at a time.** A member gives back at most [`MOVED_MAX`] slots in a generation. Slots that no member holds are all assigned at
//!   once.
//! - **Together.** Only members that agree on number of slots and routes serve: those with the terms that most members have.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::format::{Peer, Terms};
use super::slots::SLOTS_MAX;
use super::table::Table;

/// The most slots that a living member gives back in a generation.
pub(super) const MOVED_MAX: usize = 8;

/// The terms that most members have; if several terms are equally frequent, those of the first member by name. `peers`: sorted by name.
pub(super) fn terms(peers: &[Peer]) -> Terms {
    let mut counts = BTreeMap::<Terms, usize>::new();
    peers.iter().for_each(|peer| *counts.entry(peer.terms).or_default() += 1);
    let most = counts.values().max().copied().unwrap_or(0);
    let first = peers.iter().find(|peer| counts.get(&peer.terms) == Some(&most));
    first.map_or_else(Terms::default, |peer| peer.terms)
}

/// Whether a member has a slot, as far as can be known. A member that has not confirmed the previous table may have the slot by that table.
fn holds(peer: &Peer, slot: u16, before: &Table) -> bool {
    let is_given = || {
        let owner = before.owner(slot);
        owner.is_some_and(|of| of.name == peer.instance.name && of.incarnation == peer.instance.incarnation)
    };
    peer.held.contains(slot) || (peer.generation < before.generation && is_given())
}

/// The owner of each slot among `peers`, which are sorted by name. `before`: the newest table that the leader knows.
#[must_use]
pub(super) fn assign(peers: &[Peer], before: &Table) -> Vec<Option<u16>> {
    let terms = terms(peers);
    let slots = terms.slots.min(SLOTS_MAX);
    let serves = |peer: &Peer| peer.terms == terms && peer.weight > 0;
    let mut owners = vec![None; slots.into()];
    let mut holders = vec![0_usize; slots.into()];
    for (slot, (owner, holders)) in (0..).zip(owners.iter_mut().zip(&mut holders)) {
        let all = peers.iter().enumerate().filter(|(_, peer)| holds(peer, slot, before));
        *holders = all.clone().count();
        let stays = all.filter(|(_, peer)| !peer.leaving.contains(slot));
        // Two members hold a slot after a leader that did not know of the first assigned it to the second, and the first has not reported
        // since.
        *owner = stays.max_by_key(|(_, peer)| (serves(peer), peer.generation, score(peer, slot))).map(|(of, _)| of);
    }
    let mut counts = vec![0; peers.len()];
    owners.iter().flatten().for_each(|owner: &usize| counts[*owner] += 1);
    // A slot that no member holds goes back to its owner in the previous table, because the slot's clients are there.
    let had = |slot: u16| {
        let owner = before.owner(slot).filter(|_| is_free(&owners, &holders, slot))?;
        Some((slot, peers.iter().position(|peer| peer.instance.name == owner.name)?))
    };
    let back: Vec<(u16, usize)> = (0..slots).filter_map(had).collect();
    let mut known = counts.clone();
    back.iter().for_each(|(_, of)| known[*of] += 1);
    let parts = parts(peers, &known, slots.into(), serves);

    if let Some(parts) = &parts {
        for (of, peer) in peers.iter().enumerate() {
            let excess = counts[of].saturating_sub(parts[of]);
            let moved = excess.min(MOVED_MAX.saturating_sub(peer.leaving.len()));
            // If two members hold a slot, one of them first has to see that it belongs to the other.
            let is_sole = |slot: u16| holders[usize::from(slot)] < 2;
            let owned = (0..).zip(&owners).filter(|(slot, owner)| **owner == Some(of) && is_sole(*slot));
            let mut own: Vec<u16> = owned.map(|(slot, _)| slot).collect();
            own.sort_by_key(|slot| score(peer, *slot));
            for slot in own.into_iter().take(moved) {
                owners[usize::from(slot)] = None;
                counts[of] -= 1;
            }
        }
        for (slot, of) in back {
            if counts[of] < parts[of] {
                owners[usize::from(slot)] = Some(of);
                counts[of] += 1;
            }
        }
        for slot in 0..slots {
            let with_room = peers.iter().enumerate().filter(|(of, _)| counts[*of] < parts[*of]);
            let best = with_room.max_by_key(|(_, peer)| score(peer, slot)).map(|(of, _)| of);
            if let Some(of) = best.filter(|_| is_free(&owners, &holders, slot)) {
                owners[usize::from(slot)] = Some(of);
                counts[of] += 1;
            }
        }
    }
    owners.into_iter().map(|owner| owner.and_then(|of| u16::try_from(of).ok())).collect()
}

/// Whether no member has a slot or is about to give it back.
fn is_free(owners: &[Option<usize>], holders: &[usize], slot: u16) -> bool {
    owners[usize::from(slot)].is_none() && holders[usize::from(slot)] == 0
}

/// The number of slots that each member should have; `None`: no member serves, and all slots stay.
fn parts(peers: &[Peer], counts: &[usize], slots: usize, serves: impl Fn(&Peer) -> bool) -> Option<Vec<usize>> {
    let weight = |peer: &Peer| if serves(peer) { usize::from(peer.weight) } else { 0 };
    let all: usize = peers.iter().map(weight).sum();
    if all == 0 {
        return None;
    }
    let mut parts: Vec<usize> = peers.iter().map(|peer| slots * weight(peer) / all).collect();
    let left = slots - parts.iter().sum::<usize>();
    let mut order: Vec<usize> = (0..peers.len()).filter(|of| weight(&peers[*of]) > 0).collect();
    order.sort_by_key(|of| std::cmp::Reverse((slots * weight(&peers[*of]) % all, counts[*of])));
    order.into_iter().take(left).for_each(|of| parts[of] += 1);
    Some(parts)
}

/// A member's score for a slot (rendezvous hashing).
fn score(peer: &Peer, slot: u16) -> u64 {
    let mut bytes = peer.instance.name.as_bytes().to_vec();
    bytes.extend_from_slice(&slot.to_be_bytes());
    xxh3_64(&bytes)
}
