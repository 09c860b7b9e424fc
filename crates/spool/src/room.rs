//! Room of the log. The rule: of the segments that `bytes_max` allows, enough stay free, or become free, for cuts, dones, ends and releases
//! always to go on. These entries hold no segment: the last two segments written are free again once the log has gone on, unless rows or
//! sessions were put into them. Three such segments are enough for these entries alone; a fourth is for moves; rows and new sessions stop
//! before it. Rows stop a sixteenth of the log earlier than sessions, retained messages and other items, so that rows leave them room while
//! Kafka is unreachable.

use std::collections::BTreeMap;
use std::time::Duration;

use super::checkpoint::SESSION;
use super::format::HEADER_BYTES;
use super::group::COMMIT_BYTES;
use super::log::Log;
use super::segments::Need;
use super::state::{Held, State};
use super::terms::{Refused, SEGMENTS_RESERVED};

/// What the gathered group and the group in flight will add to the state.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Bytes of a checkpoint: for the gathered group, for the group in flight.
    pub(super) account: u64,
    pub(super) account_under_way: u64,
    /// Whether the group contains rows or sessions.
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

    /// Counts the last group that recovery found, which the log writes again: the difference that it makes to the state.
    pub(super) fn rewrites(&mut self, without: &State, with: &State) {
        self.account_under_way = with.account().saturating_sub(without.account());
        self.pins_under_way = true;
        let bytes = |state: &State, sink: usize| state.sinks.get(sink).map_or(0, |(_, bytes, _)| *bytes);
        let more = |sink| (0, bytes(with, sink).saturating_sub(bytes(without, sink)));
        self.sinks = (0..with.sinks.len()).map(more).collect();
    }

    /// Turns the gathered group into the group in flight.
    pub(super) fn start(&mut self) {
        self.account_under_way = std::mem::take(&mut self.account);
        self.pins_under_way = std::mem::take(&mut self.pins);
        self.sinks.iter_mut().for_each(|(gathered, under_way)| *under_way = std::mem::take(gathered));
    }

    /// Clears the group in flight: the state contains it now.
    pub(super) fn finish(&mut self) {
        (self.account_under_way, self.pins_under_way) = (0, false);
        self.sinks.iter_mut().for_each(|(_, under_way)| *under_way = 0);
    }
}

/// The bytes that a state may have, in a log of `bytes_max` bytes.
fn state_max(bytes_max: u64, segment_bytes: u64) -> u64 {
    (bytes_max / STATE_PART).min(STATE_BYTES_MAX).max(segment_bytes / 4)
}

/// The number of sessions (or items of that size) that fill half of the state of a log of `bytes_max` bytes.
#[must_use]
pub fn sessions_max(bytes_max: u64, segment_bytes: u64) -> usize {
    usize::try_from(state_max(bytes_max, segment_bytes) / 2 / SESSION).unwrap_or(usize::MAX)
}

/// Segments set aside for each segment that a checkpoint fills: two complete checkpoints, one that is being written, and the segments
/// written before that one begins.
const CHECKPOINTS_RESERVED: u64 = 4;

/// The fraction of the configured bound that the state may take in checkpoints, which keep some ten times as much from being freed; and its
/// upper bound in bytes, because the state is in memory too.
const STATE_PART: u64 = 32;
const STATE_BYTES_MAX: u64 = 64 << 20;

/// The fraction of the state that sessions leave to records of progress: without them no message of a full log ends.
const PROGRESS_PART: u64 = 16;

/// The fraction of a log's segments that rows leave to sessions and other kept items; a log with fewer segments leaves none.
const ROWS_LEAVE_PART: u64 = 16;

/// What a row adds to a checkpoint if it is in a block of its own and its packet id is open.
const ROW_ACCOUNT: u64 = super::checkpoint::SPAN + super::checkpoint::OPENED;

impl Log {
    /// Bytes that rows may still take, in this turn and in later ones; 0 if the state cannot grow by one more row.
    #[must_use]
    pub fn space(&self) -> u64 {
        let bytes = self.settings.segment_bytes;
        if self.accounted() + ROW_ACCOUNT > self.state_max() {
            return 0;
        }
        let others = self.settings.segments_max / ROWS_LEAVE_PART;
        // The eighth is for cuts and ends of the same turn that come before the rows.
        self.capacity(SEGMENTS_RESERVED + others).saturating_sub(bytes / 8)
    }

    /// Bytes that rows may take of an empty log.
    #[must_use]
    pub const fn room_for_rows(&self) -> u64 {
        let others = self.settings.segments_max / ROWS_LEAVE_PART;
        (self.settings.segments_max - SEGMENTS_RESERVED - others) * self.settings.segment_bytes
    }

    /// Bytes that rows may take now (with [`super::ROWS_OVERHEAD`] for each block). Call it once a turn: rows within this bound are taken
    /// in that turn, or are [`Refused::Busy`].
    #[must_use]
    pub fn room(&self) -> u64 {
        // A byte of small rows may cost two of the checkpoint, for packet ids.
        let account = self.state_max().saturating_sub(self.accounted()) / 2;
        // The bound is what a group takes of rows.
        self.space().min(account).min(self.settings.segment_bytes / 8)
    }

    /// The room for one more session, besides `others` that have not been put in yet. A part of the state is left for records of progress.
    #[must_use]
    pub fn room_of_session(&self, others: u64) -> u64 {
        self.room_of_new(others, self.state_max() / PROGRESS_PART)
    }

    /// The room for one more record of the progress of others, besides `others` that have not been put in yet: it may fill the state.
    #[must_use]
    pub fn room_of_progress(&self, others: u64) -> u64 {
        self.room_of_new(others, 0)
    }

    /// The room for changes of sessions: [`Log::session`] takes them with one of the reserved segments less, however full the state is.
    #[must_use]
    pub fn room_of_change(&self) -> u64 {
        self.room_beyond(SEGMENTS_RESERVED - 1)
    }

    fn room_of_new(&self, others: u64, left: u64) -> u64 {
        let is_known = self.account_for(SESSION * (others + 1) + left, 4).is_ok();
        if is_known { self.room_beyond(SEGMENTS_RESERVED) } else { 0 }
    }

    fn room_beyond(&self, spare: u64) -> u64 {
        self.capacity(spare).saturating_sub(self.settings.segment_bytes / 8)
    }

    /// Whether live data takes more than half of what the log can hold.
    #[must_use]
    pub fn is_half_full(&self) -> bool {
        self.lives().1 > self.holds_bytes() / 2 || self.accounted() > self.state_max() / 2
    }

    /// The number of records that have to end in a full log, so that moves free a segment; 0 if little is live: moves alone make room then.
    #[must_use]
    pub fn records_to_end(&self) -> u64 {
        let (things, bytes) = self.lives();
        let beyond = bytes.saturating_sub(self.holds_bytes() / 4).min(self.usable());
        let account = self.accounted().saturating_sub(self.state_max() / 4 * 3);
        beyond.div_ceil((bytes / things.max(1)).max(1)).max(account / SESSION)
    }

    /// The number of live things, and their bytes.
    fn lives(&self) -> (u64, u64) {
        let add = |(things, bytes), held: &Held| (things + held.things, bytes + held.bytes);
        self.state.segments.values().fold((0, 0), add)
    }

    /// Bytes of live data that the log can hold.
    fn holds_bytes(&self) -> u64 {
        self.settings.segments_max.saturating_sub(SEGMENTS_RESERVED) * self.usable()
    }

    /// Sets another share for every sink, in bytes. A sink that holds more than `least` is not brought below what it holds or, with
    /// `keeps`, keeps its former share. Both last until it holds no more than the new share.
    pub fn share_of_all(&mut self, bytes: u64, least: u64, keeps: bool) {
        let kept = |sink| {
            let held = self.held_by(sink);
            let share = if keeps { self.share_of(sink).max(held) } else { held };
            if held > least { share } else { 0 }
        };
        self.shares_kept = (0..self.state.sinks.len()).map(kept).collect();
        self.settings.sink_bytes_max = bytes;
    }

    /// Gives the current share to the sinks that hold no more than it.
    pub(super) fn end_shares_kept(&mut self) {
        for sink in 0..self.shares_kept.len() {
            if self.shares_kept[sink] > 0 && self.held_by(sink) <= self.settings.sink_bytes_max {
                self.shares_kept[sink] = 0;
            }
        }
    }

    /// Sets the minimum interval between the starts of groups that are not full.
    pub const fn set_sync_interval(&mut self, interval: Duration) {
        self.sync_interval = interval;
    }

    /// Bytes of its share that rows of this sink may still take.
    #[must_use]
    pub fn sink_room(&self, sink: usize) -> u64 {
        self.sink_left(sink)
    }

    /// The most that a sink may hold, bytes (`spool_share`).
    #[must_use]
    pub fn share_of(&self, sink: usize) -> u64 {
        self.settings.sink_bytes_max.max(self.shares_kept.get(sink).copied().unwrap_or(0))
    }

    /// Bytes that a sink holds, including those gathered and in flight.
    fn held_by(&self, sink: usize) -> u64 {
        let (gathered, under_way) = self.waiting.sinks.get(sink).copied().unwrap_or_default();
        self.state.held_by(sink).0 + gathered + under_way
    }

    pub(super) fn sink_left(&self, sink: usize) -> u64 {
        self.share_of(sink).saturating_sub(self.held_by(sink))
    }

    /// The bound on the state in memory and in checkpoints, in checkpoint bytes: new lanes and sessions, and [`Log::room`], stop there.
    fn state_max(&self) -> u64 {
        state_max(self.bytes_wanted(), self.settings.segment_bytes)
    }

    /// Whether the state may grow by `more` bytes, with a bound in quarters of [`Log::state_max`]: rows stop a little later than lanes and
    /// sessions; cuts and ends, which make room, never stop.
    pub(super) fn account_for(&self, more: u64, quarters: u64) -> Result<(), Refused> {
        let most = self.state_max() / 4 * quarters;
        if self.accounted() + more > most { Err(Refused::TooMany) } else { Ok(()) }
    }

    fn accounted(&self) -> u64 {
        self.state.account() + self.waiting.account + self.waiting.account_under_way
    }

    /// Number of segments that could still be begun.
    pub(super) fn segments_left(&self) -> u64 {
        self.left_of(self.bytes_max, false)
    }

    /// The bound as configured: rows and new sessions keep to it, whatever recovery found.
    pub(super) const fn bytes_wanted(&self) -> u64 {
        self.settings.segments_max * self.segment_bytes_wanted
    }

    /// Returns bounds and sizes to what is configured as the recovered data drains: `bytes_max` with each segment that is freed, the size
    /// of segments when no rows live in a larger one, nor a session too large for a smaller one, and nothing is in flight.
    pub(super) fn fit(&mut self) {
        let (bytes, wanted) = (self.settings.segment_bytes, self.segment_bytes_wanted);
        // Live data in larger segments is moved into smaller ones, and takes space in both until that is durable.
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
        // Kept sessions may stay forever: those that fit into a smaller segment delay nothing.
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

    /// Raises the bound by what the checkpoints of a grown state need, as recovery does: in a full log, entries that end rows make holes
    /// before they make room.
    pub(super) fn grow(&mut self) {
        let checkpoints = CHECKPOINTS_RESERVED * self.checkpoint_segments();
        if checkpoints > 0 {
            let missing = (SEGMENTS_RESERVED + checkpoints).saturating_sub(self.left_of(self.bytes_max, true));
            self.bytes_max += missing * self.settings.segment_bytes;
        }
    }

    /// Number of segments that are free, or will be without anything ending or moving.
    pub(super) fn spare(&self) -> u64 {
        self.spare_of(self.bytes_max)
    }

    pub(super) fn spare_of(&self, bytes_max: u64) -> u64 {
        self.left_of(bytes_max, true).saturating_sub(CHECKPOINTS_RESERVED * self.checkpoint_segments())
    }

    /// Number of segments, rounded down, that a checkpoint fills beyond the one that it begins in, which also holds the first group.
    pub(super) fn checkpoint_segments(&self) -> u64 {
        self.state.account() / (self.settings.segment_bytes / 2)
    }

    /// Bytes of a new segment that are certain to be used.
    pub(super) fn usable(&self) -> u64 {
        let bytes = self.settings.segment_bytes;
        let head = (self.state.account() + self.waiting.account).min(bytes / 4);
        (bytes - bytes / 4 - bytes / 16).saturating_sub(head + 256)
    }

    /// The segment that the next group goes to, and the bytes left there after the gathered entries.
    fn here(&self) -> Option<(u64, u64)> {
        let (segment, end) = match &self.flight {
            Some(flight) => (flight.segment, flight.end),
            None => self.last.filter(|_| self.writable)?,
        };
        let used = end + self.pending.len() as u64 + COMMIT_BYTES + HEADER_BYTES as u64;
        Some((segment, self.on_disk.get(&segment)?.checked_sub(used)?))
    }

    /// Bytes left in the segment being written, after its rows or sessions and the gathered entries; `None` if neither needs it.
    pub(super) fn pinned_rest(&self) -> Option<u64> {
        let (segment, rest) = self.here()?;
        (self.waiting.pins || self.need(segment) == Need::Rows).then_some(rest)
    }

    /// Bytes of rows or sessions that the log may still take with `spare` segments left free.
    pub(super) fn capacity(&self, spare: u64) -> u64 {
        let bytes_max = if spare < SEGMENTS_RESERVED { self.bytes_max } else { self.bytes_wanted() };
        let (pins, free) = (self.waiting.pins, self.spare_of(bytes_max));
        let (here, free) = match self.here() {
            Some((segment, rest)) => {
                let pinned = self.need(segment) == Need::Rows;
                let free = free.saturating_sub(u64::from(pins && !pinned));
                (if pins || pinned { rest } else { 0 }, free)
            }
            // The next group begins a segment.
            None => {
                let free = free.saturating_sub(u64::from(pins));
                (if pins { self.usable().saturating_sub(self.pending.len() as u64) } else { 0 }, free)
            }
        };
        if free < spare { 0 } else { here + (free - spare) * self.usable() }
    }
}
