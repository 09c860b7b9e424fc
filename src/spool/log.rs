//! The log of one shard: what callers put in, what waits for which sync, and how much room there is. How groups get to
//! the disk is in `group`, what moves out of old segments in `moving`.

use std::collections::{BTreeMap, BTreeSet};

use super::disk::{Disk, ReadError};
use super::entry::{Cut, Deadline, Entry, Origin, Reason, Rows, Run, rows_in};
use super::group::Flight;
use super::read::{self, Read};
use super::recovery::Recovered;
use super::state::State;
use super::terms::{Ahead, CUTS_OPEN_MAX, NewCut, Refused, SEGMENTS_RESERVED, Settings, StagedCut, SyncedCut, Ticket};

/// The log.
#[derive(Debug)]
pub struct Log {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) ahead: Ahead,
    /// The group that is being gathered, and its number.
    pub(super) pending: Vec<u8>,
    pub(super) gathering: u64,
    /// The group under way.
    pub(super) in_flight: Vec<u8>,
    pub(super) flight: Option<Flight>,
    /// All groups up to this one are on the disk.
    pub(super) durable: u64,
    /// Where the last durable group ends, and whether the next may stand behind it.
    pub(super) last: Option<(u64, u64)>,
    pub(super) writable: bool,
    /// The segment before that of `last`: its checkpoint stands in for a damaged one.
    pub(super) before_last: Option<u64>,
    pub(super) next_segment: u64,
    pub(super) creating: Option<u64>,
    pub(super) ready: Option<u64>,
    /// Every segment that takes space, those being made or deleted too.
    pub(super) on_disk: BTreeSet<u64>,
    pub(super) freeing: BTreeSet<u64>,
    pub(super) next_token: u64,
    pub(super) random: fastrand::Rng,
    pub(super) failures: u64,
}

impl Log {
    /// A log that goes on from what recovery found (of an empty folder: nothing). It writes to a new segment.
    #[must_use]
    pub fn new(settings: Settings, recovered: Recovered) -> Self {
        let Recovered { state, on_disk, last, group, .. } = recovered;
        let names = |lane: &super::state::Lane| (lane.sink.clone(), lane.topic.clone(), lane.partition);
        let ahead = Ahead {
            next: state.lanes().map(|(number, lane)| (number, lane.next)).collect(),
            cuts: state.cuts.clone(),
            next_cut: state.next_cut,
            lanes: state.lanes().map(|(number, lane)| (names(lane), number)).collect(),
            sink_bytes: BTreeMap::new(),
        };
        Self {
            random: fastrand::Rng::with_seed(settings.seed),
            settings,
            ahead,
            pending: Vec::new(),
            gathering: group + 1,
            in_flight: Vec::new(),
            flight: None,
            durable: group,
            last,
            writable: false,
            before_last: None,
            next_segment: on_disk.last().map_or(0, |last| last + 1),
            creating: None,
            ready: None,
            on_disk,
            freeing: BTreeSet::new(),
            next_token: 0,
            failures: 0,
            state,
        }
    }

    /// What is durable.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Whether what this ticket stands for is on the disk.
    #[must_use]
    pub const fn is_durable(&self, ticket: Ticket) -> bool {
        ticket.0 <= self.durable
    }

    /// Syncs and writes that failed.
    #[must_use]
    pub const fn failures(&self) -> u64 {
        self.failures
    }

    /// Leave to send, once the cut is on the disk; else the cut comes back.
    ///
    /// # Errors
    /// The staged cut: not yet.
    pub const fn sendable(&self, cut: StagedCut) -> Result<SyncedCut, StagedCut> {
        if self.is_durable(cut.ticket) { Ok(SyncedCut { cut: cut.cut }) } else { Err(cut) }
    }

    /// The lane of a sink, topic and partition, made where it is new.
    ///
    /// # Errors
    /// [`Refused::TooMany`], [`Refused::Busy`], [`Refused::Full`].
    pub fn lane(&mut self, sink: &str, topic: &str, partition: i32) -> Result<u32, Refused> {
        let key = (sink.to_owned(), topic.to_owned(), partition);
        if let Some(lane) = self.ahead.lanes.get(&key) {
            return Ok(*lane);
        }
        self.account()?;
        let lane = self.state.next_lane.max(self.ahead.next.last_key_value().map_or(0, |(last, _)| last + 1));
        self.put(&Entry::Lane { lane, partition, next: 0, sink, topic }, true)?;
        self.ahead.next.insert(lane, 0);
        self.ahead.lanes.insert(key, lane);
        Ok(lane)
    }

    /// Takes a block of rows: a closed, uncompressed v2 batch. Returns the numbers that they got.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn rows(
        &mut self,
        lane: u32,
        batch: &[u8],
        origins: &[Origin],
        deadlines: &[Deadline],
    ) -> Result<(Run, Ticket), Refused> {
        let first = *self.ahead.next.get(&lane).ok_or(Refused::Unknown)?;
        let count = rows_in(batch).ok_or(Refused::Unknown)?;
        self.account()?;
        let waiting = self.ahead.sink_bytes.get(&lane).copied().unwrap_or(0);
        let stored = self.state.lane(lane).map_or(0, |lane| self.state.sink_bytes(&lane.sink));
        if stored + waiting + batch.len() as u64 > self.settings.sink_bytes_max {
            return Err(Refused::SinkFull);
        }
        let run = Run { first, count };
        let rows = Rows { lane, run, origins: origins.to_vec(), deadlines: deadlines.to_vec(), batch };
        let ticket = self.put(&Entry::Rows(rows), true)?;
        self.ahead.next.insert(lane, run.end());
        *self.ahead.sink_bytes.entry(lane).or_default() += batch.len() as u64;
        Ok((run, ticket))
    }

    /// Takes a cut.
    ///
    /// # Errors
    /// [`Refused::Window`] and [`Refused::Identity`]: the done or end that has to stand before it is missing.
    pub fn cut(&mut self, cut: NewCut) -> Result<StagedCut, Refused> {
        let next = *self.ahead.next.get(&cut.lane).ok_or(Refused::Unknown)?;
        let partition = self.ahead.lanes.iter().find(|(_, lane)| **lane == cut.lane).map(|(key, _)| key.2);
        let partition = partition.filter(|partition| *partition >= 0).ok_or(Refused::Unknown)?;
        if cut.rows.is_empty() || cut.rows.iter().any(|run| run.end() > next) {
            return Err(Refused::Unknown);
        }
        let open = self.ahead.cuts.values().filter(|open| open.lane == cut.lane);
        if open.clone().any(|open| (open.producer_id, open.epoch) != (cut.producer_id, cut.epoch)) {
            return Err(Refused::Identity);
        }
        if open.count() >= CUTS_OPEN_MAX {
            return Err(Refused::Window);
        }
        let number = self.ahead.next_cut;
        let NewCut { lane, topic_id, producer_id, epoch, sequence, rows } = cut;
        let cut = Cut { cut: number, lane, topic_id, partition, producer_id, epoch, sequence, rows };
        let ticket = self.put(&Entry::Cut(cut.clone()), false)?;
        self.ahead.cuts.insert(number, cut);
        self.ahead.next_cut += 1;
        Ok(StagedCut { cut: number, ticket })
    }

    /// Kafka has a cut. `base_offset` −1: it is there, and nobody knows where.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn done(&mut self, cut: u64, base_offset: i64) -> Result<Ticket, Refused> {
        let Cut { lane, rows, .. } = self.ahead.cuts.get(&cut).cloned().ok_or(Refused::Unknown)?;
        let ticket = self.put(&Entry::Done { cut, lane, base_offset, rows }, false)?;
        self.ahead.cuts.remove(&cut);
        Ok(ticket)
    }

    /// A cut is void: its rows wait for another ([`Reason::CutAnew`]) or end with it.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn end_cut(&mut self, cut: u64, reason: Reason) -> Result<Ticket, Refused> {
        let Cut { lane, rows, .. } = self.ahead.cuts.get(&cut).cloned().ok_or(Refused::Unknown)?;
        let ticket = self.put(&Entry::EndCut { cut, lane, reason, rows }, false)?;
        self.ahead.cuts.remove(&cut);
        Ok(ticket)
    }

    /// Rows that will not go to Kafka as such, and are in no open cut.
    ///
    /// # Errors
    /// [`Refused::Unknown`], [`Refused::Busy`].
    pub fn end_rows(&mut self, lane: u32, rows: &[Run], reason: Reason) -> Result<Ticket, Refused> {
        let overlaps = |a: &Run, b: &Run| a.first < b.end() && b.first < a.end();
        let open = |run: &Run| {
            let mut cuts = self.ahead.cuts.values().filter(|cut| cut.lane == lane);
            cuts.any(|cut| cut.rows.iter().any(|other| overlaps(run, other)))
        };
        if !self.ahead.next.contains_key(&lane) || rows.iter().any(open) {
            return Err(Refused::Unknown);
        }
        self.put(&Entry::EndRows { lane, reason, rows: rows.to_vec() }, false)
    }

    /// A session is kept, or changed. Its number is never used twice: the caller counts on from
    /// [`Recovered::next_session`].
    ///
    /// # Errors
    /// [`Refused`].
    pub fn session(&mut self, session: u64, payload: &[u8]) -> Result<Ticket, Refused> {
        self.account()?;
        self.put(&Entry::Session { session, payload }, true)
    }

    /// A session ended, and its packet ids with it.
    ///
    /// # Errors
    /// [`Refused::Busy`].
    pub fn session_ended(&mut self, session: u64) -> Result<Ticket, Refused> {
        self.put(&Entry::SessionEnded { session }, false)
    }

    /// A packet id is free again. PUBCOMP waits for it.
    ///
    /// # Errors
    /// [`Refused::Busy`].
    pub fn released(&mut self, session: u64, packet_id: u16) -> Result<Ticket, Refused> {
        self.put(&Entry::Released { session, packet_id }, false)
    }

    /// The first live rows of a lane from a number on, from the disk.
    ///
    /// # Errors
    /// The disk cannot read it now.
    pub fn read(&self, disk: &impl Disk, lane: u32, number: u64) -> Result<Read, ReadError> {
        read::rows(&self.state, disk, lane, number)
    }

    /// A kept session's bytes; `None`: damaged, or no such session.
    ///
    /// # Errors
    /// The disk cannot read it now.
    pub fn read_session(&self, disk: &impl Disk, session: u64) -> Result<Option<Vec<u8>>, ReadError> {
        read::session(&self.state, disk, session)
    }

    /// Whether there is a group that [`Log::flush`] would write.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.flight.is_none()
    }

    /// Puts an entry into the group that is being gathered. `new`: it stops short of the reserve.
    fn put(&mut self, entry: &Entry<'_>, new: bool) -> Result<Ticket, Refused> {
        let before = self.pending.len();
        entry.put(&mut self.pending);
        let (after, quarter) = (self.pending.len() as u64, self.settings.segment_bytes / 4);
        let refused = if after - before as u64 > quarter {
            Some(Refused::TooLarge)
        } else if new && after > self.room() {
            Some(Refused::Full)
        } else if after > if new { quarter } else { 2 * quarter } {
            Some(Refused::Busy)
        } else {
            None
        };
        if let Some(refused) = refused {
            self.pending.truncate(before);
            return Err(refused);
        }
        Ok(Ticket(self.gathering))
    }

    /// Every segment begins with a checkpoint: it must not fill it.
    fn account(&self) -> Result<(), Refused> {
        let held = self.state.checkpoint_bytes() + self.pending.len() as u64 / 2;
        if held > self.settings.segment_bytes / 4 { Err(Refused::TooMany) } else { Ok(()) }
    }

    /// Segments that could still be begun.
    pub(super) fn segments_left(&self) -> u64 {
        let unused = u64::from(self.ready.is_some()) + u64::from(self.creating.is_some());
        (self.settings.segments_max + unused).saturating_sub(self.on_disk.len() as u64)
    }

    /// Bytes that rows and new sessions may still take, the group being gathered included.
    #[must_use]
    pub fn room(&self) -> u64 {
        let end = self.flight.as_ref().map_or(self.last.map_or(0, |(_, end)| end), |flight| flight.end);
        let open = self.writable || self.flight.is_some();
        let rest = if open { self.settings.segment_bytes.saturating_sub(end + 256) } else { 0 };
        let usable = self.settings.segment_bytes / 2;
        rest.min(usable) + self.segments_left().saturating_sub(SEGMENTS_RESERVED - 1) * usable
    }

    /// Bytes that a sink may still take.
    #[must_use]
    pub fn sink_room(&self, sink: &str) -> u64 {
        self.settings.sink_bytes_max.saturating_sub(self.state.sink_bytes(sink))
    }

    /// The group that is being gathered.
    #[must_use]
    pub const fn group(&self) -> u64 {
        self.gathering
    }

    /// All groups up to this one are durable.
    #[must_use]
    pub const fn durable(&self) -> u64 {
        self.durable
    }

    pub(super) fn forget_waiting_bytes(&mut self) {
        self.ahead.sink_bytes.clear();
    }
}
