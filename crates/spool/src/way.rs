//! Recovery's way back from a shard's newest segment until a checkpoint is whole, and the result.

use std::collections::{BTreeMap, BTreeSet};

use super::damage::{Damage, What};
use super::disk::{Disk, ReadError};
use super::format::{HEADER_BYTES, Header, NONE};
use super::look::{Copies, Headless, Looked, is_blank, look};
use super::newest::Newest;
use super::parts::{chain_of, checkpoint};
use super::recovery::{RecoverError, Recovered};

/// Recovery's way back through the segments of a shard, with what it has found so far.
pub(super) struct Way<'a, D> {
    disk: &'a D,
    shard: u32,
    found: &'a BTreeMap<u64, u64>,
    note: Option<Newest>,
    /// The segment that the note names.
    noted: Option<u64>,
    /// Whether there is a note that cannot be read or is of another shard.
    is_note_damaged: bool,
    /// Segments read, newest first.
    chain: Vec<(u64, Looked)>,
    /// The parts of the checkpoint that the oldest segment read begins with, if it is whole.
    base: Option<Vec<(usize, usize)>>,
    /// The next segment on the way, by the header of its successor, and the position where it ends.
    below: u64,
    known_end: Option<u64>,
    /// Whether a segment is missing on the way.
    broken: bool,
    /// The predecessor named by a segment that was begun and holds nothing.
    begun_behind: Option<(u64, u64)>,
    /// Segments that the disk cannot read.
    silent: Vec<(u64, u64, RecoverError)>,
    blank: BTreeSet<u64>,
    unreadable: Vec<u64>,
    rows_unreadable: u64,
    torn_bytes: u64,
    damage: Vec<Damage>,
}

impl<'a, D: Disk> Way<'a, D> {
    pub(super) fn new(disk: &'a D, shard: u32, found: &'a BTreeMap<u64, u64>) -> Self {
        let (read, is_damaged) = Newest::read(disk);
        // A folder assembled by hand may have the note of another one.
        let note = read.filter(|note| note.header.shard == shard);
        Self {
            disk,
            shard,
            found,
            note,
            noted: note.map(|note| note.header.segment),
            is_note_damaged: is_damaged || read.is_some() && note.is_none(),
            chain: Vec::new(),
            base: None,
            below: NONE,
            known_end: None,
            broken: false,
            begun_behind: None,
            silent: Vec::new(),
            blank: BTreeSet::new(),
            unreadable: Vec::new(),
            rows_unreadable: 0,
            torn_bytes: 0,
            damage: Vec::new(),
        }
    }

    /// Reads the next older segment. Returns whether no earlier segment has to be read.
    pub(super) fn step(&mut self, segment: u64, len: u64) -> Result<bool, RecoverError> {
        self.pass_noted(Some(segment));
        if segment > self.below {
            return Ok(false); // It failed, and another took its place.
        }
        let known = self.known_end.filter(|_| segment == self.below);
        let looked = match look(self.disk, self.shard, (segment, len), known, self.note.as_ref()) {
            Err(error @ RecoverError::Read { error: ReadError::Failed, .. }) => {
                // The segment cannot be read at all. The other segments show whether the whole disk fails.
                self.silent.push((segment, len, error));
                self.unreadable.push(segment);
                return Ok(false);
            }
            looked => looked?,
        };
        let Some(mut looked) = looked else { return self.headless(segment, len, known.is_some()).map(|()| false) };
        // Without one durable group a segment holds nothing and proves nothing about others, unless it is shorter than it was created.
        let is_empty = looked.scan.entries.is_empty() && looked.scan.rot.is_empty() && len >= looked.header.bytes;
        if known.is_none() && is_empty {
            // The segment's predecessor has to exist, though.
            self.begun_behind = self.begun_behind.or(looked.header.goes_on_from());
            return Ok(false);
        }
        // One missing segment can be compensated for; after a second one the way ends.
        self.broken |= !self.chain.is_empty() && segment != self.below;
        // Groups before those of a newer segment are durable, even if that one does not say how far they go: the segment between is
        // missing.
        looked.scan.unproven = looked.scan.unproven.filter(|_| self.chain.is_empty());
        (self.known_end, self.below) = (Some(looked.header.previous_end), looked.header.previous);
        self.chain.push((segment, looked));
        self.base = checkpoint(&self.chain);
        Ok(self.base.is_some() || self.below == NONE || self.chain.len() > 1 && self.broken)
    }

    /// If the newest segment that the note names is missing, the way continues from it all the same. `segment` is the next one, if there is
    /// one.
    fn pass_noted(&mut self, segment: Option<u64>) {
        let is_passed = |note: &mut Newest| segment.is_none_or(|segment| segment < note.header.segment);
        if let Some(note) = self.note.take_if(is_passed)
            && self.chain.is_empty()
            && !self.found.contains_key(&note.header.segment)
        {
            self.damage.push(Damage::of(note.header.segment, What::Gone));
            (self.known_end, self.below) = (Some(note.header.previous_end), note.header.previous);
        }
    }

    /// Handles a segment without a header: it was prepared in advance, its first group is torn, or all of it is lost.
    fn headless(&mut self, segment: u64, len: u64, was_durable: bool) -> Result<(), RecoverError> {
        if !was_durable && is_blank(self.disk, segment, len)? {
            self.blank.insert(segment);
            return Ok(());
        }
        let held = Headless::read(self.disk, segment, len)?;
        // No segment is created this short.
        if was_durable || held.was_durable || len < 2 * HEADER_BYTES as u64 {
            self.unreadable.push(segment);
            self.rows_unreadable += held.rows;
        } else {
            self.torn_bytes += held.written;
        }
        Ok(())
    }

    /// Completes recovery and returns its result.
    pub(super) fn end(mut self) -> Result<Recovered, RecoverError> {
        self.pass_noted(None);
        // If the disk can read other segments but still not these, they are lost; if the disk was unavailable, they are not.
        let all = self.silent.len() == self.found.len();
        for (segment, len, error) in &self.silent {
            let again = look(self.disk, self.shard, (*segment, *len), None, None);
            if all || !matches!(again, Err(RecoverError::Read { .. })) {
                return Err(*error);
            }
        }
        self.look_at_copies();
        self.damage.extend(self.unreadable.iter().map(|segment| Damage::of(*segment, What::Unreadable)));
        let found = self.found;
        let gone = |place: Option<(u64, u64)>| place.map(|(segment, _)| segment).filter(|at| !found.contains_key(at));
        let newest = self.chain.first();
        let predecessor_missing =
            gone(self.begun_behind).or(gone(newest.and_then(|(_, looked)| looked.header.goes_on_from())));
        if self.is_note_damaged || self.noted < self.noted_at_least() {
            let last = found.last_key_value().map_or(0, |(last, _)| *last);
            self.damage.push(Damage::of(last, What::Note));
        }
        let is_lossy = |damage: &Damage| damage.may_lose();
        let fate_open = self.broken || gone(self.begun_behind).is_some() || self.damage.iter().any(is_lossy);
        // The checkpoint of the newest segment covers the missing one.
        let is_told = |segment: &u64| self.damage.iter().any(|damage| damage.segment == *segment);
        let told = predecessor_missing.filter(|segment| !is_told(segment));
        self.damage.extend(told.map(|segment| Damage::of(segment, What::Gone)));
        let mut recovered = Recovered {
            on_disk: self.lengths(),
            fate_open,
            predecessor_missing,
            data_dir_id: newest.map_or(0, |(_, looked)| looked.header.data_dir_id),
            last: newest.map(|(segment, looked)| (*segment, looked.scan.end.min(looked.bytes.len() as u64))),
            chain: chain_of(self.disk, found, &self.chain, self.base.as_ref().and_then(|base| base.last().copied())),
            blank: self.blank,
            unreadable: self.unreadable,
            rows_unreadable: self.rows_unreadable,
            torn_bytes: self.torn_bytes,
            damage: self.damage,
            ..Recovered::default()
        };
        recovered.fold(&self.chain, self.base.as_deref());
        let durable = recovered.unproven.as_ref().map_or(recovered.last, |unproven| unproven.last);
        recovered.newest =
            durable.and_then(|(segment, _)| header_of(self.disk, &self.chain, (segment, found.get(&segment)?)));
        recovered.settle();
        Ok(recovered)
    }

    /// The oldest segment that the note may name if nothing was lost: when two files of later segments exist, the note names this one
    /// or a later one, because the same thread made the second file after writing the note.
    fn noted_at_least(&self) -> Option<u64> {
        let (second, _) = self.found.iter().nth_back(1)?;
        let durable = self.chain.iter().flat_map(|(segment, looked)| {
            let before = looked.header.goes_on_from().map(|(segment, _)| segment);
            [looked.has_proven().then_some(*segment), before]
        });
        let begun_behind = self.begun_behind.map(|(segment, _)| segment);
        durable.chain([begun_behind]).flatten().filter(|segment| segment < second).max()
    }

    /// Reports damaged copies of headers in segments with groups that were certainly durable, and the damaged end of the newest segment,
    /// where nothing else shows whether there were more groups.
    fn look_at_copies(&mut self) {
        for (place, (segment, looked)) in self.chain.iter().enumerate() {
            let len = self.found.get(segment).copied().unwrap_or(0);
            let (bytes, end) = (looked.header.bytes, looked.scan.end);
            let ended = match bytes.checked_sub(len) {
                Some(missing @ 1..) => {
                    Some(Damage { segment: *segment, position: len, bytes: missing, what: What::CutShort })
                }
                _ if looked.copies.ends_empty && looked.has_proven() => {
                    let bytes = len.saturating_sub(end);
                    Some(Damage { segment: *segment, position: end, bytes, what: What::Emptied })
                }
                _ => None,
            };
            let is_end = |position: u64| ended.is_some() && position > 0;
            let copies = looked.copies.damaged.iter().filter(|copy| looked.has_proven() && !is_end(copy.position));
            self.damage.extend(copies.map(|copy| {
                let (position, bytes) = (copy.position, copy.bytes);
                Damage { segment: *segment, position, bytes, what: What::Header }
            }));
            // The end of an older segment is in its successor's header.
            self.damage.extend(ended.filter(|_| place == 0));
        }
    }

    /// Segments and their bytes, without anything that a file has after its segment's end.
    fn lengths(&self) -> BTreeMap<u64, u64> {
        let known = self.chain.iter().map(|(segment, looked)| (*segment, looked.header.bytes));
        let known: BTreeMap<u64, u64> = known.filter(|(_, bytes)| *bytes > 0).collect();
        let most = known.values().copied().max();
        let bytes = |segment: &u64, len: u64| match (known.get(segment), most) {
            (Some(bytes), _) => len.min(*bytes),
            // No other segment is as large: the header tells the segment's own length.
            (None, Some(most)) if len > most => {
                let header = Copies::read(self.disk, *segment, len).ok().and_then(|copies| copies.header);
                header.map_or(len, |header| if header.bytes > 0 { len.min(header.bytes) } else { len })
            }
            _ => len,
        };
        self.found.iter().map(|(segment, len)| (*segment, bytes(segment, *len))).collect()
    }
}

/// The header of a segment, from the segments read or from the disk.
fn header_of(disk: &impl Disk, chain: &[(u64, Looked)], (segment, len): (u64, &u64)) -> Option<Header> {
    let read = chain.iter().find(|(known, _)| *known == segment).map(|(_, looked)| looked.header);
    read.or_else(|| Copies::read(disk, segment, *len).ok()?.header)
}
