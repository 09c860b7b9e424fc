//! What keeps the rows of a run with crashes: the log that the producer writes down in what it does, and the disk under it.
//! In most runs the buffer and the spool on a simulated disk (`spool`), in the others a log that is nothing but its promises (`model`).
//! `told` watches what the producer says to it.

mod model;
mod plan;
mod spool;
mod told;

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Fault;
use crate::kafka::producer::Settings;
use crate::kafka::producer::row_log::{RestoredCut, RestoredLane, RowLog};
use crate::kafka::types::SinkId;
use crate::runtime::seam::{Monotonic, WallMs};

use self::model::Model;
pub(super) use self::plan::StorePlan;
use self::spool::Spool;
pub(super) use self::told::{Told, Watched};

/// The last two of a log, one made ahead.
const SEGMENTS_LEFT_MAX: usize = 3;

/// What a start finds.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) lanes: Vec<RestoredLane>,
    pub(super) cuts: Vec<RestoredCut>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crash {
    /// The power goes: what was not synced is there, or not, or torn.
    Power,
    /// kill -9: what was written is there.
    Kill,
}

/// See the module.
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

    /// A row was taken.
    pub(super) fn promise(&mut self, sink: SinkId, bytes: usize) {
        if let Under::Spool(spool) = &mut self.under {
            spool.promise(sink, bytes);
        }
    }

    /// The log as the producer sees it, for one poll.
    pub(super) fn with<T>(&mut self, at: (Monotonic, WallMs), f: impl FnOnce(&mut dyn RowLog) -> T) -> T {
        match &mut self.under {
            Under::Model(model) => f(&mut **model),
            Under::Spool(spool) => spool.with(at, f),
        }
    }

    /// The end of a turn.
    pub(super) fn flush(&mut self, at: (Monotonic, WallMs), rough: bool, rng: &mut fastrand::Rng) {
        let longest = if rough { self.plan.sync_us_max } else { self.plan.sync_us_max.min(3_000) };
        let takes = Duration::from_micros(rng.u64(..=longest));
        match &mut self.under {
            Under::Model(model) => model.flush(at.0, takes),
            Under::Spool(spool) => spool.flush(at, takes),
        }
    }

    /// The disk says one thing, if it has one to say by now.
    pub(super) fn answer(&mut self, now: Monotonic) -> bool {
        match &mut self.under {
            Under::Model(model) => model.answer(now),
            Under::Spool(spool) => spool.answer(now),
        }
    }

    /// When the disk has something to say.
    pub(super) fn next_deadline(&self) -> Option<Monotonic> {
        match &self.under {
            Under::Model(model) => model.next_deadline(),
            Under::Spool(spool) => spool.next_deadline(),
        }
    }

    /// The process ends, and starts again.
    pub(super) fn crash(&mut self, how: Crash, at: (Monotonic, WallMs), rng: &mut fastrand::Rng) -> Restored {
        match &mut self.under {
            Under::Model(model) => model.crash(rng),
            Under::Spool(spool) => spool.crash(how, at, rng),
        }
    }

    /// Rows that the log has, by lane and number.
    pub(super) fn found(&self) -> BTreeMap<(u32, u64), u32> {
        match &self.under {
            Under::Model(model) => model.found(),
            Under::Spool(spool) => spool.found(),
        }
    }

    /// The disk fails.
    pub(super) fn fails(&mut self, fault: Fault) {
        if let Under::Spool(spool) = &mut self.under {
            spool.fails(fault);
        }
    }

    /// Whether everything that was written down is durable.
    pub(super) fn is_idle(&self) -> bool {
        match &self.under {
            Under::Model(model) => model.is_idle(),
            Under::Spool(spool) => spool.is_idle(),
        }
    }

    /// What is wrong with the disk: more on it than there may be; or, when nothing lives, segments that nobody needs.
    pub(super) fn wrong(&self, at_the_end: bool) -> Option<String> {
        let Under::Spool(spool) = &self.under else { return None };
        let left = spool.segments();
        let unneeded = at_the_end && left > SEGMENTS_LEFT_MAX;
        spool.wrong().or_else(|| unneeded.then(|| format!("nothing lives, and {left} segments are there")))
    }
}
