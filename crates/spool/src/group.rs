//! Group commit: all entries since the last sync go to the disk as one group, and one sync covers it. One group is in flight at a
//! time, so everything before it is durable: this distinguishes a torn tail from rot.

use std::time::Duration;

use super::checkpoint::{Part, Writing};
use super::disk::{Completion, Disk};
use super::entry::Entry;
use super::format::{ENTRY_HEADER_BYTES, HEADER_BYTES, Header, NONE, claim, entry_len, seal};
use super::incarnations::Retired;
use super::log::Log;
use super::payload::parse;
use forebay_runtime::seam::{Monotonic, WallMs};

/// Bytes of a commit's payload, and of the whole commit.
pub(super) const COMMIT_PAYLOAD_BYTES: usize = 32;
pub(super) const COMMIT_BYTES: u64 = entry_len(COMMIT_PAYLOAD_BYTES) as u64;

/// The first and the longest time between a failure and the next attempt.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_millis(800);

/// A group of at least this many bytes does not wait for the interval: its sync is a small part of its cost.
const GATHERED_BYTES: u64 = 64 << 10;

/// Failures of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// Failed syncs, appends and creations of segments since startup.
    pub failures: u64,
    /// Consecutive failures since the last success.
    pub in_a_row: u32,
    /// No attempt is made before this time.
    until: Monotonic,
    /// Whether the last failure has not been given its delay yet.
    fresh: bool,
}

impl Trouble {
    fn failed(&mut self) {
        (self.failures, self.in_a_row, self.fresh) = (self.failures + 1, self.in_a_row.saturating_add(1), true);
    }

    /// Whether to wait. The first failure in a row is retried at once, in a new segment.
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

/// A group in flight.
#[derive(Debug)]
pub(super) struct Flight {
    token: u64,
    /// Number of the group.
    group: u64,
    pub(super) segment: u64,
    /// Position of the group's first entry.
    start: u64,
    pub(super) end: u64,
    salt: u64,
    /// Position at which the group starts; and checksum and count of the checkpoint's part that precedes its entries.
    pub(super) group_start: u64,
    before: (u32, u32),
    /// The header of the segment that the group begins; and the lanes and incarnations forgotten with it.
    pub(super) begins: Option<Header>,
    retired: Retired,
    /// The part of a checkpoint at the group's front.
    pub(super) part: Option<Part>,
    /// Whether an append was refused: no sync can repair that.
    lost: bool,
}

impl Log {
    /// Creates and frees segments, and starts a group if there is one and none is in flight. Called once a turn.
    pub fn flush(&mut self, disk: &mut impl Disk, now: Monotonic, wall: WallMs) {
        self.begins_at = None;
        while let Some(segment) = self.damaged.pop_first() {
            if self.set_aside.insert(segment) {
                disk.set_aside(segment);
            }
        }
        self.free_empty(disk);
        self.keep_note(disk, now);
        self.keep_together(disk, now);
        if self.trouble.waits(now) {
            return;
        }
        if let Some(segment) =
            self.ready.take_if(|segment| self.on_disk.get(segment) > Some(&self.settings.segment_bytes))
        {
            self.freeing.insert(segment);
            disk.free(segment);
        }
        if self.ready.is_none() && self.creating.is_none() {
            self.grow();
            if self.segments_left() > 0 {
                self.creating = Some(self.next_segment);
                self.fit();
                self.on_disk.insert(self.next_segment, self.settings.segment_bytes);
                disk.create(self.next_segment, self.settings.segment_bytes);
                self.next_segment += 1;
            }
        }
        self.moving.begin(now);
        if self.flight.is_none() && (!self.in_flight.is_empty() || (self.may_begin(now) && self.gather(disk))) {
            self.began_at = Some(now);
            self.write(disk, wall);
        }
        self.moving.end(now);
    }

    /// When the group being gathered begins, if it waits only for the interval between groups: [`Log::flush`] must be called
    /// then. A sync costs about as much for one message as for a hundred, so on a fast disk groups of a few messages each would
    /// cost more than the messages.
    #[must_use]
    pub const fn next_group_at(&self) -> Option<Monotonic> {
        self.begins_at
    }

    /// Whether a group may begin. Intervals are aligned to the clock, not counted from the last group: timers fire when a
    /// millisecond begins, and a group that began a little later would make the next one miss its own.
    fn may_begin(&mut self, now: Monotonic) -> bool {
        let interval = self.sync_interval.as_nanos() as u64;
        let full = GATHERED_BYTES.min(self.settings.segment_bytes / 16);
        if interval == 0 || self.pending.is_empty() || self.pending.len() as u64 >= full || self.is_urgent() {
            return true;
        }
        let next = Monotonic((now.0 / interval + 1) * interval);
        self.begins_at = self.began_at.filter(|began| began.0 / interval == now.0 / interval).map(|_| next);
        self.begins_at.is_none()
    }

    /// Makes a group of the gathered entries. False: there are none, or the group has to wait.
    fn gather(&mut self, disk: &impl Disk) -> bool {
        if !self.is_urgent() {
            // Moves go first, because the state is that of the entries before this group.
            let mut entries = std::mem::take(&mut self.in_flight);
            self.moves(disk, &mut entries);
            let moved = entries.len();
            if moved == 0 {
                std::mem::swap(&mut entries, &mut self.pending);
            } else {
                entries.append(&mut self.pending);
            }
            self.in_flight = entries;
            if !self.in_flight.is_empty() {
                self.moved_bytes += moved as u64;
                if self.in_flight.len() > moved {
                    self.together.has_more();
                }
                self.writable &= !self.begins_for_moves();
                self.waiting.start();
                self.waiting.pins_under_way |= moved > 0;
                self.gathering += 1;
                return true;
            }
        }
        // The group has nothing but a part of a checkpoint. The gathered entries go into the next group, as their callers expect.
        if !self.part_fits_here() {
            let begins = || self.writing.is_some() || self.wants_checkpoint() || self.begins_for_moves();
            if self.ready.is_none() || !(begins() || self.is_crowded() || self.is_oversized()) {
                return false;
            }
            self.writable = false;
        }
        self.gathering += u64::from(self.pending.is_empty());
        true
    }

    /// Failures of the disk, and whether it fails now.
    #[must_use]
    pub const fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// Writes the group in flight: after the last one, or at the front of the next segment.
    fn write(&mut self, disk: &mut impl Disk, wall: WallMs) {
        let group = self.gathering - 1;
        let len = self.in_flight.len() as u64 + COMMIT_BYTES;
        let mut flight = if let Some((segment, end, room)) = self.left(len) {
            let salt = self.state.segments.get(&segment).map_or(0, |held| held.salt);
            let mut flight = Flight::new(group, segment, end, salt);
            self.part(disk, &mut flight, self.part_bytes(room), false);
            flight
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

    /// Segment and end of the last group, and the bytes left there after a group of `len` bytes has followed it.
    fn left(&self, len: u64) -> Option<(u64, u64, u64)> {
        let (segment, end) = self.last.filter(|_| self.writable)?;
        let room = self.on_disk.get(&segment)?.checked_sub(end + len + HEADER_BYTES as u64)?;
        Some((segment, end, room))
    }

    /// Whether the next part of the checkpoint being written fits into the current segment.
    fn part_fits_here(&self) -> bool {
        let (Some(writing), Some((_, _, room))) = (&self.writing, self.left(COMMIT_BYTES)) else { return false };
        writing.next_part(self.part_bytes(room), false).is_some()
    }

    /// Whether the checkpoint being written must be complete before anything else is written.
    fn is_urgent(&self) -> bool {
        self.writing.is_some() && self.is_short()
    }

    /// The most bytes that a part after other groups takes.
    fn part_bytes(&self, room: u64) -> u64 {
        if self.is_urgent() { room } else { room.min(self.settings.segment_bytes / 8) }
    }

    /// Puts the next part of the checkpoint being written at the front of the group.
    fn part(&mut self, disk: &mut impl Disk, flight: &mut Flight, most: u64, at_least_one: bool) {
        let Some(writing) = &self.writing else { return };
        flight.part = writing.next_part(most, at_least_one);
        if let Some(part) = flight.part {
            self.scratch.clear();
            writing.put(part, &mut self.scratch);
            flight.before = seal(&mut self.scratch, flight.salt, flight.group_start, 0);
            flight.start = flight.group_start + self.scratch.len() as u64;
            let bytes = self.on_disk.get(&flight.segment).copied().unwrap_or_default();
            flight.lost |= flight.start + HEADER_BYTES as u64 > bytes
                || disk.append(flight.segment, flight.group_start, &self.scratch).is_err();
        }
    }

    /// Begins a segment: writes the header (twice: the copy is at the very end) and a part of a checkpoint, which opens the
    /// group.
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
            checkpoints: self.chain.complete.map(checkpoint_of),
            bytes,
            features: 0,
            optional_features: 0,
            data_dir_id: self.settings.data_dir_id,
        };
        let mut flight = Flight::new(group, segment, HEADER_BYTES as u64, salt);
        (flight.begins, flight.retired) = (Some(header), self.retire());
        let header = header.encode();
        flight.retired.put(&mut self.in_flight);
        let copy_at = bytes - HEADER_BYTES as u64;
        let appended = disk.append(segment, 0, &header).and_then(|()| disk.append(segment, copy_at, &header));
        flight.lost = appended.is_err();
        if self.writing.as_ref().map_or_else(|| self.is_due(), Writing::is_fresh) {
            self.writing = Some(Writing::new(&self.state, segment, self.written_bytes));
        }
        self.part(disk, &mut flight, self.settings.segment_bytes / 4, true);
        flight
    }

    /// Handles a completion that the disk reports.
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
                        self.noted_group(disk, flight.begins);
                    } else {
                        self.failed(disk, &flight);
                    }
                }
            }
        }
    }

    fn synced(&mut self, flight: &Flight) {
        if flight.begins.is_some() {
            self.begun = flight.group;
            self.chain.goes_on(flight.segment);
            self.moving.stuck.clear();
            flight.retired.lanes.iter().for_each(|lane| {
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
        (self.writable, self.emptied) = (true, true);
        self.durable = flight.group;
        if let (Some(part), Some(writing)) = (flight.part, &mut self.writing) {
            writing.written(part);
            if part.last {
                self.checkpoint = (writing.bytes(), writing.since);
                self.chain.completed(writing.begun);
                self.sure = true;
                self.writing = None;
            }
        }
        self.waiting.finish();
        self.end_shares_kept();
        self.trouble.over();
    }

    /// Handles a write or sync that failed for good: the whole group is written again into a new segment, and its header says
    /// where the old one ends. A segment that failed at its first group holds nothing.
    fn failed(&mut self, disk: &mut impl Disk, flight: &Flight) {
        self.trouble.failed();
        self.writable = false;
        if flight.begins.is_none() {
            self.burned.insert(flight.segment);
        } else {
            self.freeing.insert(flight.segment);
            disk.free(flight.segment);
        }
    }
}

impl Flight {
    fn new(group: u64, segment: u64, start: u64, salt: u64) -> Self {
        Self {
            token: 0,
            group,
            segment,
            start,
            end: start,
            salt,
            group_start: start,
            before: (0, 0),
            begins: None,
            retired: Retired::default(),
            part: None,
            lost: false,
        }
    }
}

/// The place of a checkpoint: it begins with its segment.
fn checkpoint_of(segment: Option<u64>) -> (u64, u64) {
    segment.map_or((NONE, 0), |segment| (segment, HEADER_BYTES as u64))
}

fn payload(entry: &[u8], len: usize) -> Option<&[u8]> {
    let bytes = u32::from_be_bytes(*entry.first_chunk()?) as usize;
    entry.get(..len)?.get(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + bytes)
}

/// Closes a group: adds marks, checksums and the commit for the group's position.
fn commit(entries: &mut Vec<u8>, flight: &Flight, wall: WallMs) {
    let (sum, before) = flight.before;
    let (checksum, count) = seal(entries, flight.salt, flight.start, sum);
    let (body, group, start) = (entries.len(), flight.group, flight.group_start);
    Entry::Commit { group, start, wall_ms: wall.0, count: before + count, checksum }.put(entries);
    seal(&mut entries[body..], flight.salt, flight.start + body as u64, 0);
}
