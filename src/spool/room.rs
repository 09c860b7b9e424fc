//! Room of the log. The rule: of the segments that `bytes_max` allows, enough stay free, or become free, for cuts,
//! dones, ends and releases always to go on. These hold no segment: the two that are written last are free again once
//! the log has gone on, unless rows or sessions were put into them. Three such segments are enough for them alone; a
//! fourth is what moves may use; rows and new sessions stop before it. Rows stop a sixteenth of the log earlier than
//! sessions, retained messages and other items: while Kafka is away, its rows leave them room.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checkpoint::SESSION;
use super::format::HEADER_BYTES;
use super::group::COMMIT_BYTES;
use super::log::Log;
use super::segments::Need;
use super::state::{Held, State};
use super::terms::{Refused, SEGMENTS_RESERVED};

/// What the group that is gathered and the one under way will add to the state.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Bytes of a checkpoint: of what is gathered, of what is under way.
    pub(super) account: u64,
    pub(super) account_under_way: u64,
    /// Whether there are rows or sessions in it.
    pub(super) pins: bool,
    pub(super) pins_under_way: bool,
    /// Bytes of rows, by sink.
    sinks: Vec<(u64, u64)>,
}

impl Waiting {
    pub(super) fn sink(&mut self, sink: usize, bytes: u64) {
        if self.sinks.len() <= sink {
            self.sinks.resize(sink + 1, (0, 0));
        }
        self.sinks[sink].0 += bytes;
    }

    /// What a start has found in the last group, which it writes again: the difference that it makes
    /// to the state.
    pub(super) fn rewrites(&mut self, without: &State, with: &State) {
        self.account_under_way = with.account().saturating_sub(without.account());
        self.pins_under_way = true;
        let bytes = |state: &State, sink: usize| state.sinks.get(sink).map_or(0, |(_, bytes, _)| *bytes);
        let more = |sink| (0, bytes(with, sink).saturating_sub(bytes(without, sink)));
        self.sinks = (0..with.sinks.len()).map(more).collect();
    }

    /// What was gathered is under way now.
    pub(super) fn start(&mut self) {
        self.account_under_way = std::mem::take(&mut self.account);
        self.pins_under_way = std::mem::take(&mut self.pins);
        self.sinks.iter_mut().for_each(|(gathered, under_way)| *under_way = std::mem::take(gathered));
    }

    /// What was under way is in the state.
    pub(super) fn finish(&mut self) {
        (self.account_under_way, self.pins_under_way) = (0, false);
        self.sinks.iter_mut().for_each(|(_, under_way)| *under_way = 0);
    }
}

/// The bytes that a state may have, in a log of `bytes_max` bytes.
fn state_max(bytes_max: u64, segment_bytes: u64) -> u64 {
    (bytes_max / STATE_PART).min(STATE_BYTES_MAX).max(segment_bytes / 4)
}

/// The sessions (or items of that size) that fill half of the state of a log of `bytes_max` bytes.
#[must_use]
pub fn sessions_max(bytes_max: u64, segment_bytes: u64) -> usize {
    usize::try_from(state_max(bytes_max, segment_bytes) / 2 / SESSION).unwrap_or(usize::MAX)
}

/// Segments that are set aside for each that a checkpoint fills: two complete ones, one that is being written, and
/// the segments written before that begins.
const CHECKPOINTS_RESERVED: u64 = 4;

/// The part of the configured bound that the state may take in checkpoints, which keep some ten times as much from being
/// freed; and the most, as it is in memory, too.
const STATE_PART: u64 = 32;
const STATE_BYTES_MAX: u64 = 64 << 20;

/// The part of a log's segments that rows leave to sessions and what is kept like them; none in a log of fewer.
const ROWS_LEAVE_PART: u64 = 16;

/// What a row adds to a checkpoint, if it stands in a block of its own and its packet id is open.
const ROW_ACCOUNT: u64 = super::checkpoint::SPAN + super::checkpoint::OPENED;

impl Log {
    /// Bytes that rows may still take, in this turn and in later ones. None where no account can be kept of one more.
    #[must_use]
    pub fn space(&self) -> u64 {
        let bytes = self.settings.segment_bytes;
        if self.accounted() + ROW_ACCOUNT > self.state_max() {
            return 0;
        }
        let others = self.settings.segments_max / ROWS_LEAVE_PART;
        // An eighth: what cuts and ends of the same turn may take before the rows come.
        self.capacity(SEGMENTS_RESERVED + others).saturating_sub(bytes / 8)
    }

    /// Bytes that rows may take of an empty log.
    #[must_use]
    pub const fn room_for_rows(&self) -> u64 {
        let others = self.settings.segments_max / ROWS_LEAVE_PART;
        (self.settings.segments_max - SEGMENTS_RESERVED - others) * self.settings.segment_bytes
    }

    /// Bytes that rows may take now (with [`super::ROWS_OVERHEAD`] for each block). For once a turn: rows that stay
    /// within it are taken in that turn, or are [`Refused::Busy`].
    #[must_use]
    pub fn room(&self) -> u64 {
        // A byte of small rows may cost two of the checkpoint: packet ids.
        let account = self.state_max().saturating_sub(self.accounted()) / 2;
        // As much as a group takes of rows.
        self.space().min(account).min(self.settings.segment_bytes / 8)
    }

    /// The room for one more session, beside `others` that have not been put in yet.
    #[must_use]
    pub fn room_of_session(&self, others: u64) -> u64 {
        let known = self.account_for(super::checkpoint::SESSION * (others + 1), 4).is_ok();
        if known { self.capacity(SEGMENTS_RESERVED).saturating_sub(self.settings.segment_bytes / 8) } else { 0 }
    }

    /// Whether what lives takes more than half of what the log can hold.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.lives().1 > self.holds_bytes() / 2 || self.accounted() > self.state_max() / 2
    }

    /// How many records have to end in a log that has no room, so that moves make a segment of it. None where little lives: moves alone make room then.
    #[must_use]
    pub fn records_to_end(&self) -> u64 {
        let (things, bytes) = self.lives();
        let beyond = bytes.saturating_sub(self.holds_bytes() / 4).min(self.usable());
        let account = self.accounted().saturating_sub(self.state_max() / 4 * 3);
        beyond.div_ceil((bytes / things.max(1)).max(1)).max(account / SESSION)
    }

    /// Live things, and their bytes.
    fn lives(&self) -> (u64, u64) {
        let add = |(things, bytes), held: &Held| (things + held.things, bytes + held.bytes);
        self.state.segments.values().fold((0, 0), add)
    }

    /// Bytes that the log can hold of what lives.
    fn holds_bytes(&self) -> u64 {
        self.settings.segments_max.saturating_sub(SEGMENTS_RESERVED) * self.usable()
    }

    /// Another share for every sink, bytes. One that holds more than `least` is not brought below what it holds; `keeps`: it keeps the share
    /// that it had. Both until it holds no more than the new one.
    pub fn share_of_all(&mut self, bytes: u64, least: u64, keeps: bool) {
        let kept = |sink| {
            let held = self.held_by(sink);
            let share = if keeps { self.share_of(sink).max(held) } else { held };
            if held > least { share } else { 0 }
        };
        self.shares_kept = (0..self.state.sinks.len()).map(kept).collect();
        self.settings.sink_bytes_max = bytes;
    }

    /// Those that hold no more than the share that there is now have that one.
    pub(super) fn end_shares_kept(&mut self) {
        for sink in 0..self.shares_kept.len() {
            if self.shares_kept[sink] > 0 && self.held_by(sink) <= self.settings.sink_bytes_max {
                self.shares_kept[sink] = 0;
            }
        }
    }

    /// How far apart groups begin that are not full yet.
    pub const fn set_sync_interval(&mut self, interval: Duration) {
        self.sync_interval = interval;
    }

    /// Bytes that rows of this sink may take now, of its share.
    #[must_use]
    pub fn sink_room(&self, sink: usize) -> u64 {
        self.sink_left(sink)
    }

    /// The most that a sink may hold, bytes (`spool_share`).
    #[must_use]
    pub fn share_of(&self, sink: usize) -> u64 {
        self.settings.sink_bytes_max.max(self.shares_kept.get(sink).copied().unwrap_or(0))
    }

    /// What it holds, and what is on its way.
    fn held_by(&self, sink: usize) -> u64 {
        let (gathered, under_way) = self.waiting.sinks.get(sink).copied().unwrap_or_default();
        self.state.held_by(sink).0 + gathered + under_way
    }

    pub(super) fn sink_left(&self, sink: usize) -> u64 {
        self.share_of(sink).saturating_sub(self.held_by(sink))
    }

    /// What is held in memory and in checkpoints, in the bytes of these: new lanes and sessions, and [`Log::room`], stop there.
    fn state_max(&self) -> u64 {
        state_max(self.bytes_wanted(), self.settings.segment_bytes)
    }

    /// Whether the state may hold `more` bytes, in quarters of its bound: rows stop a little later than lanes and
    /// sessions; cuts and ends, which give room, never stop.
    pub(super) fn account_for(&self, more: u64, quarters: u64) -> Result<(), Refused> {
        let most = self.state_max() / 4 * quarters;
        if self.accounted() + more > most { Err(Refused::TooMany) } else { Ok(()) }
    }

    fn accounted(&self) -> u64 {
        self.state.account() + self.waiting.account + self.waiting.account_under_way
    }

    /// Segments that could still be begun.
    pub(super) fn segments_left(&self) -> u64 {
        self.left_of(self.bytes_max, false)
    }

    /// The bound as configured: rows and new sessions keep to it, whatever a start has found.
    pub(super) const fn bytes_wanted(&self) -> u64 {
        self.settings.segments_max * self.segment_bytes_wanted
    }

    /// Bounds and sizes fall back to what is configured as what was found drains: `bytes_max` with each segment that is freed,
    /// the size of segments when no rows live in a larger one, nor a session too large for a smaller one, and nothing is under
    /// way.
    pub(super) fn fit(&mut self) {
        let (bytes, wanted) = (self.settings.segment_bytes, self.segment_bytes_wanted);
        // What lives in larger ones is moved into smaller ones, and is in both until that is durable.
        let larger = |segment: &u64, size: u64| self.on_disk.get(segment) > Some(&size);
        let moving = |(segment, held): (&u64, &Held)| if larger(segment, bytes) { 2 * held.bytes } else { 0 };
        let moving: u64 = self.state.segments.iter().map(moving).sum();
        let reserved = SEGMENTS_RESERVED + CHECKPOINTS_RESERVED * self.checkpoint_segments();
        let reserve = self.bytes() + reserved * bytes + moving;
        let drained = self.spare_of(self.bytes_wanted()) >= SEGMENTS_RESERVED;
        self.bytes_max = if drained { 0 } else { self.bytes_max.min(reserve) }.max(self.bytes_wanted());
        if bytes == wanted || !self.is_idle() {
            return;
        }
        // Kept sessions may stay for ever: those that a smaller segment takes hold nothing up.
        let mut sessions = BTreeMap::<u64, u64>::new();
        for (segment, _, len) in self.state.sessions.values().filter(|(_, _, len)| *len <= wanted / 8) {
            *sessions.entry(*segment).or_default() += u64::from(*len > 0);
        }
        let holds = |(segment, held): (&u64, &Held)| {
            larger(segment, wanted) && held.things > sessions.get(segment).copied().unwrap_or(0)
        };
        if !self.state.segments.iter().any(holds) {
            (self.settings.segment_bytes, self.looked) = (wanted, 0);
        }
    }

    /// A state that has grown in a full log, where what ends rows makes holes before it gives room, takes what its checkpoints
    /// need beyond the bound, as at a start.
    pub(super) fn grow(&mut self) {
        let checkpoints = CHECKPOINTS_RESERVED * self.checkpoint_segments();
        if checkpoints > 0 {
            let missing = (SEGMENTS_RESERVED + checkpoints).saturating_sub(self.left_of(self.bytes_max, true));
            self.bytes_max += missing * self.settings.segment_bytes;
        }
    }

    /// Segments that are free, or will be without anything being done or moved.
    pub(super) fn spare(&self) -> u64 {
        self.spare_of(self.bytes_max)
    }

    pub(super) fn spare_of(&self, bytes_max: u64) -> u64 {
        self.left_of(bytes_max, true).saturating_sub(CHECKPOINTS_RESERVED * self.checkpoint_segments())
    }

    /// Segments that a checkpoint fills, not less, beyond the one that it begins in and that the first group is in, too.
    pub(super) fn checkpoint_segments(&self) -> u64 {
        self.state.account() / (self.settings.segment_bytes / 2)
    }

    /// Bytes of a fresh segment that surely get used.
    pub(super) fn usable(&self) -> u64 {
        let bytes = self.settings.segment_bytes;
        let head = (self.state.account() + self.waiting.account).min(bytes / 4);
        (bytes - bytes / 4 - bytes / 16).saturating_sub(head + 256)
    }

    /// The segment that the next group goes to, and the bytes left there after what is gathered.
    fn here(&self) -> Option<(u64, u64)> {
        let (segment, end) = match &self.flight {
            Some(flight) => (flight.segment, flight.end),
            None => self.last.filter(|_| self.writable)?,
        };
        let used = end + self.pending.len() as u64 + COMMIT_BYTES + HEADER_BYTES as u64;
        Some((segment, self.on_disk.get(&segment)?.checked_sub(used)?))
    }

    /// What is left behind rows or sessions, and what is gathered, in the segment that is written.
    pub(super) fn pinned_rest(&self) -> Option<u64> {
        let (segment, rest) = self.here()?;
        (self.waiting.pins || self.need(segment) == Need::Rows).then_some(rest)
    }

    /// Bytes of rows or sessions that the log may still take with `spare` segments left over.
    pub(super) fn capacity(&self, spare: u64) -> u64 {
        let bytes_max = if spare < SEGMENTS_RESERVED { self.bytes_max } else { self.bytes_wanted() };
        let (pins, free) = (self.waiting.pins, self.spare_of(bytes_max));
        let (here, free) = match self.here() {
            Some((segment, rest)) => {
                let pinned = self.need(segment) == Need::Rows;
                let free = free.saturating_sub(u64::from(pins && !pinned));
                (if pins || pinned { rest } else { 0 }, free)
            }
            // It begins a segment.
            None => {
                let free = free.saturating_sub(u64::from(pins));
                (if pins { self.usable().saturating_sub(self.pending.len() as u64) } else { 0 }, free)
            }
        };
        if free < spare { 0 } else { here + (free - spare) * self.usable() }
    }
}
