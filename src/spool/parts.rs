//! The parts of checkpoints that a start finds, and whether those of one are all there.

use std::collections::BTreeMap;

use super::disk::Disk;
use super::entry::Entry;
use super::format::{HEADER_BYTES, NONE};
use super::look::{Copies, Looked};
use super::replay::is_account;
use super::segment::{Scan, entry_at};
use super::segments::Chain;

/// A part of a checkpoint, or what can be read of one.
#[derive(Debug, Default)]
pub(super) struct FoundPart {
    /// The segment that its checkpoint begins in, and its number. `None`: its head is damaged.
    head: Option<(u64, u32)>,
    /// It ends its checkpoint. `None`: its end is damaged.
    last: Option<bool>,
    /// It has something that only checkpoints have.
    is_account: bool,
    /// Positions of its entries, the first and the last of all included.
    pub(super) entries: Vec<u64>,
}

impl FoundPart {
    /// Its checkpoint, its number in it, and whether it is the last; `None`: something is missing in it.
    fn whole(&self) -> Option<(u64, u32, bool)> {
        let (begun, part) = self.head?;
        Some((begun, part, self.last?))
    }

    /// Where its checkpoint begins, if its own head or that of what came before says so.
    pub(super) fn begun(&self) -> Option<u64> {
        self.head.map(|(begun, _)| begun)
    }

    /// Whether it is the first of a checkpoint that begins in this segment: what is true before the segment's first group.
    pub(super) fn begins(&self, segment: u64) -> bool {
        self.head == Some((segment, 0))
    }
}

/// The parts, and the positions of all their entries: a part is at the front of its group, and no other entry among
/// its own. A part with a gap counts as two: the entries before the gap and those after it.
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

/// The parts of the checkpoint that begins in the last segment of the chain, the oldest, if all are there: the places of
/// their segments in the chain, and their own in these.
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
            previous = Copies::read(disk, at, *found.get(&at)?).ok()?.header?.previous;
        }
    }
    way.reverse();
    Some(way)
}
