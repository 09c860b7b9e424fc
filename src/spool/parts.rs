//! The parts of checkpoints that a start finds, and whether those of one are all there.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::entry::Entry;
use super::format::{HEADER_BYTES, NONE};
use super::recovery::{Looked, header};
use super::replay::is_account;
use super::segment::{Scan, entry_at};
use super::segments::Chain;

/// A part of a checkpoint.
#[derive(Debug)]
pub(super) struct FoundPart {
    begun: u64,
    part: u32,
    last: bool,
    /// Positions of its entries, the first and the last of all included.
    pub(super) entries: Vec<u64>,
}

/// The parts in which nothing is missing, and the positions of all entries of checkpoints, damaged parts' too: a part is
/// at the front of its group, and no other entry among its own.
pub(super) fn parts(bytes: &[u8], salt: u64, scan: &Scan) -> (Vec<FoundPart>, Vec<u64>) {
    let (mut found, mut all, mut run) = (Vec::new(), Vec::new(), Vec::new());
    let (mut open, mut expected) = (None, 0);
    for position in &scan.entries {
        if *position != expected {
            // What is behind the gap may be the group's own.
            if open.take().is_some() { all.append(&mut run) } else { run.clear() }
        }
        let Some((entry, len)) = entry_at(bytes, salt, *position) else { continue };
        expected = position + len;
        match entry {
            Entry::Checkpoint { begun, part, .. } => (open, run) = (Some((begun, part)), vec![*position]),
            Entry::CheckpointEnd { last } => {
                run.push(*position);
                if let Some((begun, part)) = open.take() {
                    found.push(FoundPart { begun, part, last, entries: run.clone() });
                }
                all.append(&mut run);
            }
            Entry::Incarnation { .. } | Entry::Lane { .. } | Entry::Cut { .. } => run.push(*position),
            ref entry if is_account(entry) => run.push(*position),
            _ => (open, run) = (None, Vec::new()),
        }
    }
    (found, all)
}

/// The parts of the checkpoint that begins in the last segment of the chain, the oldest, if all are there: the places of
/// their segments in the chain, and their own in these.
pub(super) fn checkpoint(chain: &[(u64, Looked)]) -> Option<Vec<(usize, usize)>> {
    let (begun, _) = chain.last()?;
    // (number, last, segment's place, place among its parts)
    let mut parts = Vec::new();
    for (segment, (_, looked)) in chain.iter().enumerate() {
        for (place, part) in looked.parts.iter().enumerate().filter(|(_, part)| part.begun == *begun) {
            parts.push((part.part, part.last, segment, place));
        }
    }
    parts.sort_unstable();
    let whole = (0..).zip(&parts).all(|(number, part)| part.0 == number) && parts.last()?.1;
    whole.then(|| parts.into_iter().map(|(.., segment, place)| (segment, place)).collect())
}

/// What a start may read from now on: `read` was, the newest first, and `last_part` is the last part of the checkpoint that the
/// oldest of these begins with. The last group found is written again elsewhere, and what only it has is read no more.
pub(super) fn chain_of(
    disk: &impl Disk,
    found: &BTreeMap<u64, u64>,
    read: &[(u64, Looked)],
    last_part: Option<(usize, usize)>,
) -> Chain {
    let (Some((_, newest)), Some((begun, oldest))) = (read.first(), read.last()) else { return Chain::default() };
    let again = newest.scan.unproven;
    let complete = last_part.is_some_and(|(segment, part)| {
        segment > 0 || again.is_none_or(|group| newest.parts[part].entries.iter().all(|position| *position < group))
    });
    let [before, earlier] = oldest.header.checkpoints.map(|(segment, _)| Some(segment).filter(|at| *at != NONE));
    let checkpoints = if complete { [Some(*begun), before] } else { [before, earlier] };
    let only_again = again == Some(HEADER_BYTES as u64);
    let proven = read.iter().skip(usize::from(only_again)).rev().map(|(segment, _)| *segment);
    let from = checkpoints[1].or(checkpoints[0]).unwrap_or(*begun);
    let before = way_back(disk, found, *begun, oldest.header.previous, from)
        // Where the way is lost, any of them may be on it.
        .unwrap_or_else(|| found.range(from..*begun).map(|(segment, _)| *segment).collect());
    Chain::new(before.into_iter().chain(proven), checkpoints)
}

/// The segments before one, back to `from`, in order; `None`: a header on the way cannot be read.
fn way_back(
    disk: &impl Disk,
    found: &BTreeMap<u64, u64>,
    begun: u64,
    mut previous: u64,
    from: u64,
) -> Option<Vec<u64>> {
    let (mut way, mut at) = (Vec::new(), begun);
    while at > from {
        if previous >= at || previous < from {
            return None;
        }
        at = previous;
        way.push(at);
        if at > from {
            previous = header(disk, at, *found.get(&at)?).ok()??.previous;
        }
    }
    way.reverse();
    Some(way)
}
