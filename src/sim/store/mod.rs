//! The log of a run with crashes: the log to which the producer writes its actions, and the disk under it. Most runs use the buffer and
//! the spool on a simulated disk (`spool`), the others a log that only keeps its promises (`model`). `told` checks the producer's
//! calls.

mod model;
mod plan;
mod spool;
mod told;

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Fault;
use crate::buffer::RestoredSession;
use crate::kafka::producer::row_log::{RestoredCut, RestoredLane, RowLog, RowSet};
use crate::kafka::producer::{Producer, Settings};
use crate::kafka::types::{SinkId, Ticket};
use crate::runtime::seam::{Monotonic, WallMs};

use self::model::Model;
pub(super) use self::plan::StorePlan;
use self::spool::Spool;
pub(super) use self::told::{Told, Watched};

/// The most segments left when nothing lives: the last two of a log, one created ahead, and one that a failed sync left early.
/// Segments that a start has found are freed with its next groups. Segments with kept sessions stay as well, at worst one for each
/// session: the log moves them only when it is short of segments.
const SEGMENTS_LEFT_MAX: usize = 6;

/// The findings of a start.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) lanes: Vec<RestoredLane>,
    pub(super) cuts: Vec<RestoredCut>,
    pub(super) sessions: Vec<RestoredSession>,
}

impl Restored {
    /// Whether rows of a lane are taken up.
    pub(super) fn has(&self, lane: u64) -> bool {
        self.lanes.iter().any(|found| found.lane == lane)
    }
}

/// A way in which a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// Power failure: bytes that were not synced are there, or not, or torn.
    Power,
    /// kill -9: all written bytes are there.
    Kill,
}

/// The log of a run and the disk under it.
#[derive(Debug)]
pub(super) struct Store {
    under: Under,
    plan: StorePlan,
}

#[derive(Debug)]
enum Under {
    Model(Box<Model>),
    Spool(Box<Spool>),
}

impl Store {
    pub(super) fn new(plan: &StorePlan, settings: &Settings) -> Self {
        let under = match plan.model {
            true => Under::Model(Box::new(Model::new(plan.group_max))),
            false => Under::Spool(Box::new(Spool::new(plan, settings))),
        };
        Self { under, plan: plan.clone() }
    }

    /// Whether a row may be taken.
    pub(super) fn admit(&self, sink: SinkId, bytes: usize) -> bool {
        match &self.under {
            Under::Model(_) => true,
            Under::Spool(spool) => spool.admit(sink, bytes),
        }
    }

    /// Whether rows of `bytes` bytes may be taken, of any sink.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        match &self.under {
            Under::Model(_) => true,
            Under::Spool(spool) => spool.has_room(bytes),
        }
    }

    /// Accounts for a row that was taken.
    pub(super) fn promise(&mut self, sink: SinkId, bytes: usize) {
        if let Under::Spool(spool) = &mut self.under {
            spool.promise(sink, bytes);
        }
    }

    /// Passes the log to `f`, as the producer sees it in one poll. The first `later` reads of the disk are answered
    /// "later".
    pub(super) fn with<T>(&mut self, at: (Monotonic, WallMs), later: u32, f: impl FnOnce(&mut dyn RowLog) -> T) -> T {
        match &mut self.under {
            Under::Model(model) => f(&mut **model),
            Under::Spool(spool) => spool.with(at, later, f),
        }
    }

    /// Ends a turn.
    pub(super) fn flush(&mut self, at: (Monotonic, WallMs), rough: bool, rng: &mut fastrand::Rng) {
        let longest = if rough { self.plan.sync_us_max } else { self.plan.sync_us_max.min(3_000) };
        let takes = Duration::from_micros(rng.u64(..=longest));
        match &mut self.under {
            Under::Model(model) => model.flush(at.0, takes),
            Under::Spool(spool) => spool.flush(at, takes),
        }
    }

    /// Handles one answer of the disk, if one is due. Returns whether there was one.
    pub(super) fn answer(&mut self, now: Monotonic) -> bool {
        match &mut self.under {
            Under::Model(model) => model.answer(now),
            Under::Spool(spool) => spool.answer(now),
        }
    }

    /// When the next answer of the disk is due.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        match &self.under {
            Under::Model(model) => model.next_deadline(),
            Under::Spool(spool) => spool.next_deadline(),
        }
    }

    /// Ends the process, and starts it again.
    pub(super) fn crash(&mut self, how: Crash, at: (Monotonic, WallMs), rng: &mut fastrand::Rng) -> Restored {
        match &mut self.under {
            Under::Model(model) => model.crash(rng),
            Under::Spool(spool) => spool.crash(how, at, rng),
        }
    }

    /// Rows that the log has, by lane and number.
    pub(super) fn found(&self) -> BTreeMap<(u64, u64), u32> {
        match &self.under {
            Under::Model(model) => model.found(),
            Under::Spool(spool) => spool.found(),
        }
    }

    /// The last durable group.
    pub(super) fn durable(&self) -> u64 {
        self.spool().map_or(0, |spool| spool.buffer.durable())
    }

    /// The state of the log in words, for finding why it is not idle.
    pub(super) fn standing(&self) -> String {
        let room: Vec<bool> = (0..2).map(|sink| self.admit(SinkId(sink), 2_500)).collect();
        self.spool().map_or_else(String::new, |spool| {
            let buffer = &spool.buffer;
            format!("room {room:?}, group {}, durable {}, {:?}", buffer.group(), buffer.durable(), buffer.numbers())
        })
    }

    /// Whether a sink's rows are written to the log from the start.
    pub(super) fn keeps(&self, sink: SinkId) -> bool {
        self.spool().is_some_and(|spool| spool.buffer.keeps(0, sink))
    }

    /// The largest session that can be kept now.
    pub(super) fn session_room(&self) -> usize {
        self.spool().map_or(0, |spool| if spool.has_room(2_000) { 500 } else { 0 })
    }

    /// Keeps a session. Returns its number and the group that it is in.
    pub(super) fn keep_session(&mut self, number: Option<u64>, payload: &[u8]) -> Option<(u64, u64)> {
        let kept = self.spool_mut()?.buffer.keep_session(number, payload).ok()?;
        Some((kept.number, kept.group))
    }

    /// Ends a session.
    pub(super) fn end_session(&mut self, number: u64) {
        self.spool_mut().map(|spool| spool.buffer.end_session(number));
    }

    /// Frees a packet identifier. Returns the group that records it.
    pub(super) fn release(&mut self, number: u64, packet_id: u16) -> u64 {
        self.spool_mut().map_or(0, |spool| spool.buffer.release(number, packet_id))
    }

    /// Notes the ticket that waits for the answer of a row of an earlier process.
    pub(super) fn await_row(&mut self, number: u64, packet_id: u16, ticket: Ticket) {
        if let Some(spool) = self.spool_mut() {
            spool.buffer.await_row(number, packet_id, ticket);
        }
    }

    fn spool(&self) -> Option<&Spool> {
        if let Under::Spool(spool) = &self.under { Some(spool) } else { None }
    }

    fn spool_mut(&mut self) -> Option<&mut Spool> {
        if let Under::Spool(spool) = &mut self.under { Some(spool) } else { None }
    }

    /// Applies a fault to the disk.
    pub(super) fn fails(&mut self, fault: Fault, rng: &mut fastrand::Rng) {
        if let Under::Spool(spool) = &mut self.under {
            spool.fails(fault, rng);
        }
    }

    /// Cures all lasting faults of the disk, and removes the bytes of others.
    pub(super) fn is_well(&mut self) {
        if let Under::Spool(spool) = &mut self.under {
            spool.is_well();
        }
    }

    /// `drop-oldest`: after a row has found no room, ends other rows in the log. Returns them.
    pub(super) fn make_room(&mut self, now: Monotonic, producer: &mut Producer) -> RowSet {
        self.spool_mut().map_or_else(RowSet::default, |spool| spool.make_room(now, producer))
    }

    /// The group that is being gathered.
    pub(super) fn group(&self) -> u64 {
        self.spool().map_or(0, |spool| spool.buffer.group())
    }

    /// Whether all writes are durable.
    pub(super) fn is_idle(&self) -> bool {
        match &self.under {
            Under::Model(model) => model.is_idle(),
            Under::Spool(spool) => spool.is_idle(),
        }
    }

    /// What is wrong with the disk: more bytes on it than allowed; or, when nothing lives, segments that are not
    /// needed.
    pub(super) fn wrong(&self, at_the_end: bool) -> Option<String> {
        let Under::Spool(spool) = &self.under else { return None };
        let left = spool.segments();
        let unneeded = at_the_end && left > SEGMENTS_LEFT_MAX + spool.sessions();
        let wrong = spool.wrong().or_else(|| unneeded.then(|| format!("nothing lives, and {left} segments are there")));
        let full = at_the_end && !spool.admit(SinkId(0), 2_500);
        wrong.or_else(|| full.then(|| format!("nothing lives, and there is no room: {}", self.standing())))
    }
}
