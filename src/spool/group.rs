//! Group commit: all that came since the last sync goes to the disk as one group, and one sync covers it. One group is
//! under way at a time, so everything before it is durable: that is what makes a torn tail and rot two different things.

use std::time::Duration;

use super::disk::{Completion, Disk};
use super::entry::Entry;
use super::format::{ENTRY_HEADER_BYTES, HEADER_BYTES, Header, NONE, claim, entry_len, seal};
use super::incarnations::Retired;
use super::log::Log;
use super::payload::parse;
use crate::runtime::seam::{Monotonic, WallMs};

/// Bytes of a commit.
pub(super) const COMMIT_BYTES: u64 = entry_len(32) as u64;

/// The first and the longest time between a failure and the next attempt.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_millis(800);

/// What the disk refuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Syncs, writes and segments to be made that failed, since the start.
    pub failures: u64,
    /// Those since anything last went well.
    pub in_a_row: u32,
    /// No attempt before this.
    until: Monotonic,
    /// A failure has not been given its time yet.
    fresh: bool,
}

impl Trouble {
    fn failed(&mut self) {
        (self.failures, self.in_a_row, self.fresh) = (self.failures + 1, self.in_a_row.saturating_add(1), true);
    }

    /// Whether to wait. The first failure of a row is met at once, in a new segment.
    fn waits(&mut self, now: Monotonic) -> bool {
        if std::mem::take(&mut self.fresh) && self.in_a_row > 1 {
            self.until = now.after((RETRY_FIRST * (1 << (self.in_a_row - 2).min(10))).min(RETRY_MAX));
        }
        now < self.until
    }

    fn over(&mut self) {
        (self.in_a_row, self.until, self.fresh) = (0, Monotonic(0), false);
    }
}

/// A group under way.
#[derive(Debug)]
pub(super) struct Flight {
    token: u64,
    /// Number of the group.
    group: u64,
    pub(super) segment: u64,
    /// Where its entries start.
    start: u64,
    pub(super) end: u64,
    salt: u64,
    /// Where its group starts, checksum and count of what stands in it before its entries: the checkpoint.
    group_start: u64,
    before: (u32, u32),
    /// Whether it begins its segment; what this one's checkpoint leaves out.
    pub(super) begins: bool,
    retired: Retired,
    /// Whether an append was refused: no sync can make it good.
    lost: bool,
}

impl Log {
    /// Once a turn: makes and frees segments, and starts a group if there is one and none is under way.
    pub fn flush(&mut self, disk: &mut impl Disk, now: Monotonic, wall: WallMs) {
        while let Some(segment) = self.damaged.pop_first() {
            if self.set_aside.insert(segment) {
                disk.set_aside(segment);
            }
        }
        self.free_empty(disk);
        if self.trouble.waits(now) {
            return;
        }
        if let Some(segment) =
            self.ready.take_if(|segment| self.on_disk.get(segment) > Some(&self.settings.segment_bytes))
        {
            self.freeing.insert(segment);
            disk.free(segment);
        }
        if self.ready.is_none() && self.creating.is_none() && self.segments_left() > 0 {
            self.creating = Some(self.next_segment);
            self.fit();
            self.on_disk.insert(self.next_segment, self.settings.segment_bytes);
            disk.create(self.next_segment, self.settings.segment_bytes);
            self.next_segment += 1;
        }
        if self.flight.is_some() {
            return;
        }
        if self.in_flight.is_empty() {
            // Moves first: the state is that of the entries before this group.
            let mut moves = std::mem::take(&mut self.in_flight);
            self.moves(disk, &mut moves);
            let moved = !moves.is_empty();
            if !moved {
                if self.pending.is_empty() {
                    self.in_flight = moves;
                    if self.ready.is_none() || !self.is_crowded() && !self.is_oversized() {
                        return;
                    }
                    // A group of nothing but a checkpoint.
                    self.writable = false;
                    self.gathering += 1;
                    return self.write(disk, wall);
                }
                std::mem::swap(&mut moves, &mut self.pending);
            } else {
                self.moved_bytes += moves.len() as u64;
                moves.extend_from_slice(&self.pending);
                self.pending.clear();
            }
            self.in_flight = moves;
            self.waiting.start();
            self.waiting.pins_under_way |= moved;
            self.gathering += 1;
        }
        self.write(disk, wall);
    }

    /// Whether the disk refuses what it is asked, and how often it did.
    #[must_use]
    pub const fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// Writes the group in flight: behind the last one, or at the front of the next segment.
    fn write(&mut self, disk: &mut impl Disk, wall: WallMs) {
        let group = self.gathering - 1;
        let len = self.in_flight.len() as u64 + COMMIT_BYTES;
        let here = self.last.filter(|(segment, end)| {
            self.writable && end + len + HEADER_BYTES as u64 <= self.on_disk.get(segment).copied().unwrap_or_default()
        });
        let mut flight = if let Some((segment, end)) = here {
            let salt = self.state.segments.get(&segment).map_or(0, |held| held.salt);
            Flight {
                token: 0,
                group,
                segment,
                start: end,
                end,
                salt,
                group_start: end,
                before: (0, 0),
                begins: false,
                retired: Retired::default(),
                lost: false,
            }
        } else {
            let Some(segment) = self.ready.take() else { return };
            self.begin(disk, segment, wall, group)
        };
        let mut entries = std::mem::take(&mut self.in_flight);
        let sealed = entries.len();
        commit(&mut entries, &flight, wall);
        flight.end = flight.start + entries.len() as u64;
        self.written_bytes += flight.end - flight.group_start;
        let bytes = self.on_disk.get(&flight.segment).copied().unwrap_or_default();
        flight.lost |=
            flight.end + HEADER_BYTES as u64 > bytes || disk.append(flight.segment, flight.start, &entries).is_err();
        entries.truncate(sealed);
        self.in_flight = entries;
        flight.token = self.next_token;
        self.next_token += 1;
        disk.sync(flight.token, &[flight.segment]);
        self.flight = Some(flight);
    }

    /// The header (twice: the copy stands at the very end) and the checkpoint, which opens the group.
    fn begin(&mut self, disk: &mut impl Disk, segment: u64, wall: WallMs, group: u64) -> Flight {
        let salt = self.random.u64(..);
        let (previous, previous_end) = self.last.unwrap_or((NONE, 0));
        let shard = self.settings.shard;
        let bytes = self.on_disk.get(&segment).copied().unwrap_or(self.settings.segment_bytes);
        let header = Header {
            shard,
            segment,
            salt,
            created_ms: wall.0,
            previous,
            previous_end,
            checkpoints: [self.last.map(|(segment, _)| segment), self.before_last].map(checkpoint_of),
            bytes,
            features: 0,
            optional_features: 0,
            data_dir_id: self.settings.data_dir_id,
        };
        let header = header.encode();
        let retired = self.retire();
        let mut entries = std::mem::take(&mut self.scratch);
        entries.clear();
        self.state.checkpoint(&retired, &mut entries);
        let group_start = HEADER_BYTES as u64;
        let before = seal(&mut entries, salt, group_start, 0);
        let start = (HEADER_BYTES + entries.len()) as u64;
        let copy_at = bytes - HEADER_BYTES as u64;
        let appended = disk
            .append(segment, 0, &header)
            .and_then(|()| disk.append(segment, copy_at, &header))
            .and_then(|()| if start <= copy_at { disk.append(segment, group_start, &entries) } else { Ok(()) });
        let lost = appended.is_err() || start > copy_at;
        self.scratch = entries;
        Flight { token: 0, group, segment, start, end: start, salt, group_start, before, begins: true, retired, lost }
    }

    /// Lanes that nothing needs, and that were not used since the last segment began: they are asked for anew from now on.
    /// And incarnations that nothing needs.
    fn retire(&mut self) -> Retired {
        let old = |number: &u64| self.ahead.lanes.get(number).is_none_or(|lane| lane.touched < self.begun);
        let idle = |number: &u64| self.state.is_idle(*number) && old(number);
        let lanes: Vec<u64> = self.state.lanes.keys().copied().filter(idle).collect();
        lanes.iter().for_each(|lane| self.ahead.remove(*lane));
        Retired { lanes, incarnations: self.retire_incarnations() }
    }

    /// Whether lanes that nothing needs are about to keep the log from taking rows: they go with the segments that come
    /// next, and there may be no more rows to fill the one that is written. Looks once a group, which alone makes lanes idle.
    fn is_crowded(&mut self) -> bool {
        if self.account_for(0, 3).is_ok() || self.looked == self.gathering {
            return false;
        }
        self.looked = self.gathering;
        let asked = |lane: &u64| self.ahead.lanes.get(lane).is_some_and(|lane| lane.touched >= self.gathering);
        self.state.lanes.keys().any(|lane| self.state.is_idle(*lane) && !asked(lane))
    }

    /// Whether segments of a size that is no longer wanted keep rows out though none live in them: what else does is moved
    /// when the last two are others. Looks once a group.
    fn is_oversized(&mut self) -> bool {
        if std::mem::replace(&mut self.looked, self.gathering) == self.gathering {
            return false;
        }
        self.fit();
        let wanted = self.segment_bytes_wanted;
        let large = |segment: u64| self.on_disk.get(&segment) > Some(&wanted);
        let last = self.last.map(|(segment, _)| segment);
        self.settings.segment_bytes == wanted
            && last.into_iter().chain(self.before_last).any(large)
            && self.space() == 0
    }

    /// Takes what the disk reports.
    pub fn complete(&mut self, disk: &mut impl Disk, completion: Completion) {
        match completion {
            Completion::Created { segment, ok } => {
                if self.creating == Some(segment) {
                    self.creating = None;
                }
                if ok {
                    self.ready = Some(segment);
                } else {
                    self.trouble.failed();
                    self.on_disk.remove(&segment);
                }
            }
            Completion::Freed { segment } => {
                self.freeing.remove(&segment);
                self.on_disk.remove(&segment);
                self.burned.remove(&segment);
                self.fit();
            }
            Completion::Synced { token, ok } => {
                if let Some(flight) = self.flight.take_if(|flight| flight.token == token) {
                    if ok && !flight.lost {
                        self.synced(&flight);
                    } else {
                        self.failed(disk, &flight);
                    }
                }
            }
        }
    }

    fn synced(&mut self, flight: &Flight) {
        if flight.begins {
            self.before_last = self.last.map(|(segment, _)| segment);
            self.begun = flight.group;
            self.moving.stuck.clear();
            flight.retired.incarnations.iter().for_each(|number| self.state.retire_incarnation(*number));
            flight.retired.lanes.iter().for_each(|lane| {
                self.state.retire(*lane);
                self.reader.forget(*lane);
                self.mover.forget(*lane);
                self.retired.push(*lane);
            });
        }
        let entries = std::mem::take(&mut self.in_flight);
        let held = self.state.segments.entry(flight.segment).or_default();
        (held.salt, held.end) = (flight.salt, flight.end);
        let mut at = 0;
        while let Some((kind, len)) = entries.get(at..).and_then(|rest| claim(rest, flight.salt)) {
            if let Some((entry, len)) = payload(&entries[at..], len).and_then(|p| Some((parse(kind?, p)?, len as u64)))
            {
                self.state.apply(flight.segment, flight.start + at as u64, len, &entry);
            }
            at += len;
        }
        self.in_flight = entries;
        self.in_flight.clear();
        self.last = Some((flight.segment, flight.end));
        self.rewriting = None;
        (self.writable, self.sure, self.emptied) = (true, true, true);
        self.durable = flight.group;
        self.waiting.finish();
        self.trouble.over();
    }

    /// Final for these bytes: the group is written again, whole, into a new segment whose header says where the old one
    /// ends. A segment that failed at its first group holds nothing.
    fn failed(&mut self, disk: &mut impl Disk, flight: &Flight) {
        self.trouble.failed();
        self.writable = false;
        if !flight.begins {
            self.burned.insert(flight.segment);
        } else {
            self.freeing.insert(flight.segment);
            disk.free(flight.segment);
        }
    }

    /// Segments in which nothing lives go, but for the last two. What is numbered behind
    /// the last at a start holds nothing.
    fn free_empty(&mut self, disk: &mut impl Disk) {
        if !std::mem::take(&mut self.emptied) {
            return;
        }
        if !self.is_open() {
            // What the start found may be the only proof of its last group. What was made ready ahead holds nothing.
            for segment in std::mem::take(&mut self.blank) {
                self.freeing.insert(segment);
                disk.free(segment);
            }
            return;
        }
        let last = self.last.map(|(segment, _)| segment);
        let in_use = |segment: &u64| {
            [self.ready, self.creating, last, self.before_last].contains(&Some(*segment))
                || self.flight.as_ref().is_some_and(|flight| flight.segment == *segment)
        };
        let empty = |segment: &u64| self.state.segments.get(segment).is_none_or(|held| held.things == 0);
        // Without a whole checkpoint, recovery may have to be done again from what is there.
        let known = |segment: &u64| self.sure || last.is_some_and(|last| *segment > last);
        let idle =
            |segment: &u64| !in_use(segment) && empty(segment) && known(segment) && !self.freeing.contains(segment);
        let free: Vec<u64> = self.on_disk.keys().copied().filter(idle).collect();
        for segment in free {
            self.state.segments.remove(&segment);
            self.freeing.insert(segment);
            disk.free(segment);
        }
    }
}

/// Each segment begins with a checkpoint.
fn checkpoint_of(segment: Option<u64>) -> (u64, u64) {
    segment.map_or((NONE, 0), |segment| (segment, HEADER_BYTES as u64))
}

fn payload(entry: &[u8], len: usize) -> Option<&[u8]> {
    let bytes = u32::from_be_bytes(*entry.first_chunk()?) as usize;
    entry.get(..len)?.get(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + bytes)
}

/// Closes a group: marks, checksums and the commit for the place that it goes to.
fn commit(entries: &mut Vec<u8>, flight: &Flight, wall: WallMs) {
    let (sum, before) = flight.before;
    let (checksum, count) = seal(entries, flight.salt, flight.start, sum);
    let (body, group, start) = (entries.len(), flight.group, flight.group_start);
    Entry::Commit { group, start, wall_ms: wall.0, count: before + count, checksum }.put(entries);
    seal(&mut entries[body..], flight.salt, flight.start + body as u64, 0);
}
