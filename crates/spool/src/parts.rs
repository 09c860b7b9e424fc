//! The parts of checkpoints that recovery finds, and whether those of one checkpoint are complete.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::entry::Entry;
use super::format::{HEADER_BYTES, NONE};
use super::look::{Copies, Looked};
use super::replay::is_account;
use super::segment::{Scan, entry_at};
use super::segments::Chain;

/// A part of a checkpoint, or as much of one as can be read.
#[derive(Debug, Default)]
pub(super) struct FoundPart {
    /// The segment in which the part's checkpoint begins, and the part's number. `None`: its head is damaged.
    head: Option<(u64, u32)>,
    /// Whether the part ends its checkpoint. `None`: its end is damaged.
    last: Option<bool>,
    /// Whether the part has an entry that only checkpoints have.
    is_account: bool,
    /// Positions of the part's entries, including its head and its end.
    pub(super) entries: Vec<u64>,
}

impl FoundPart {
    /// The part's checkpoint, its number, and whether it is the last; `None`: something in it is missing.
    fn whole(&self) -> Option<(u64, u32, bool)> {
        let (begun, part) = self.head?;
        Some((begun, part, self.last?))
    }

    /// The segment in which the part's checkpoint begins, if its head can be read.
    pub(super) fn begun(&self) -> Option<u64> {
        self.head.map(|(begun, _)| begun)
    }

    /// Whether the part is the first of a checkpoint that begins in this segment: the state before the segment's first group.
    pub(super) fn begins(&self, segment: u64) -> bool {
        self.head == Some((segment, 0))
    }
}

/// Returns the parts, and the positions of all their entries: a part is at the front of its group, with no other entries
/// between its own. A part with a gap counts as two: the entries before the gap and those after it.
pub(super) fn parts(bytes: &[u8], salt: u64, scan: &Scan) -> (Vec<FoundPart>, Vec<u64>) {
    let (mut found, mut run, mut expected) = (Vec::new(), FoundPart::default(), 0);
    for position in &scan.entries {
        if *position != expected {
            // Entries before and after the gap may be the group's own and not the part's.
            found.extend(Some(std::mem::take(&mut run)).filter(|part| part.head.is_some() || part.is_account));
        }
        let Some((entry, len)) = entry_at(bytes, salt, *position) else { continue };
        expected = position + len;
        run.is_account |= is_account(&entry);
        match entry {
            Entry::Checkpoint { begun, part, .. } => {
                run = FoundPart { head: Some((begun, part)), entries: vec![*position], ..FoundPart::default() };
            }
            Entry::CheckpointEnd { last } => {
                run.entries.push(*position);
                found.push(FoundPart { last: Some(last), ..std::mem::take(&mut run) });
            }
            Entry::Incarnation { .. } | Entry::Lane { .. } | Entry::Cut { .. } => run.entries.push(*position),
            ref entry if is_account(entry) => run.entries.push(*position),
            _ => run = FoundPart::default(),
        }
    }
    let all = found.iter().flat_map(|part| part.entries.iter().copied()).collect();
    (found, all)
}

/// The parts of the checkpoint that begins in the chain's last (oldest) segment, if they are complete: each as the index of its
/// segment in the chain and its own index in that segment.
pub(super) fn checkpoint(chain: &[(u64, Looked)]) -> Option<Vec<(usize, usize)>> {
    let (begun, _) = chain.last()?;
    // (number, last, segment's place, place among its parts)
    let mut parts = Vec::new();
    for (segment, (_, looked)) in chain.iter().enumerate() {
        for (place, part) in looked.parts.iter().enumerate() {
            if let Some((_, number, last)) = part.whole().filter(|(of, ..)| of == begun) {
                parts.push((number, last, segment, place));
            }
        }
    }
    parts.sort_unstable();
    let whole = (0..).zip(&parts).all(|(number, part)| part.0 == number) && parts.last()?.1;
    whole.then(|| parts.into_iter().map(|(.., segment, place)| (segment, place)).collect())
}

/// The segments that a later recovery may read. `read` are those read, newest first; `last_part` is the last part of the
/// checkpoint that the oldest of them begins with. The last group found is written again elsewhere, so a segment with only that
/// group is not read again.
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
        // If the way back is lost, any of the segments may be on it.
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
            previous = Copies::read(disk, at, *found.get(&at)?).ok()?.header?.previous;
        }
    }
    way.reverse();
    Some(way)
}
