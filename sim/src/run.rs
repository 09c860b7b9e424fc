//! Runs of seeds: one, and many on all cores.

use std::cell::RefCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::expected::TOLERATED;
use crate::faults::Fault;
use crate::judge::Failure;
use crate::plan::{Hostile, Kind, Plan};
use crate::world::World;
use forebay::metrics::spec::ShardMetric;
use forebay::rules::Rules;

/// Totals of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Number of messages of devices.
    pub messages: u64,
    /// Number of batches in Kafka.
    pub batches: u64,
    /// Number of processes.
    pub processes: u64,
    /// Rows that were counted as of unknown outcome.
    pub unknown: u64,
    /// Rows that were dropped, expired or refused.
    pub failed: u64,
    /// Rows in dead letters.
    pub dead: u64,
    /// Number of questions about logs.
    pub asked: u64,
    /// Numbers of receipts with an offset, and without.
    pub receipts: [u64; 2],
    /// Number of starts with another number of shards.
    pub moved: u64,
    /// Number of connections with a layer that moved to another shard, and of those with bytes that had not gone out.
    pub layers_moved: [u64; 2],
    /// Number of times that a connection could not be moved at once because a mailbox was full.
    pub moves_put_off: u64,
    /// Number of messages refused for want of room.
    pub no_room: u64,
    /// Number of Produce requests.
    pub requests: u64,
    /// Numbers of records of sources, of copies of them that came, and of accepted commits.
    pub records: [u64; 3],
    /// Messages that the sessions of subscribers have got, counting the sessions that exist in the end; and messages dropped
    /// for want of room.
    pub copies: [u64; 2],
    /// Number of runs with subscribers in which a log had no room for a message of theirs, so that missing messages are
    /// not judged.
    pub full: u64,
    /// Number of times that the processes which were there in the end have put logs of sessions together.
    pub put_together: u64,
    /// Number of runs in which each known fault was tolerated, in the order of `TOLERATED`.
    pub tolerated: [u64; TOLERATED.len()],
    /// Digest of the outside view (`digest`); for several runs, the exclusive or of their digests.
    pub digest: u64,
}

impl Sums {
    /// Adds the totals of another run.
    pub fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.batches += other.batches;
        self.processes += other.processes;
        self.unknown += other.unknown;
        self.failed += other.failed;
        self.dead += other.dead;
        self.asked += other.asked;
        self.receipts.iter_mut().zip(other.receipts).for_each(|(sum, more)| *sum += more);
        self.moved += other.moved;
        self.layers_moved.iter_mut().zip(other.layers_moved).for_each(|(sum, more)| *sum += more);
        self.moves_put_off += other.moves_put_off;
        self.no_room += other.no_room;
        self.requests += other.requests;
        self.full += other.full;
        self.records.iter_mut().zip(other.records).for_each(|(sum, more)| *sum += more);
        self.copies.iter_mut().zip(other.copies).for_each(|(sum, more)| *sum += more);
        self.put_together += other.put_together;
        self.tolerated.iter_mut().zip(other.tolerated).for_each(|(sum, more)| *sum += more);
        self.digest ^= other.digest;
    }

    /// The totals of a finished run.
    #[must_use]
    pub fn of(world: &World) -> Self {
        let counted: Vec<_> = (0..world.settings.sinks.len()).map(|sink| world.counted(sink)).collect();
        Self {
            messages: world.messages.len() as u64,
            batches: world.clusters.iter().map(|cluster| cluster.entries.len() as u64).sum(),
            processes: u64::from(world.life).max(world.lives.len() as u64),
            unknown: counted.iter().map(|sink| sink.unknown).sum(),
            failed: counted.iter().map(|sink| sink.dropped + sink.expired + sink.refused + sink.rotten).sum(),
            dead: counted.iter().map(|sink| sink.dead).sum(),
            asked: world.clusters.iter().map(|cluster| cluster.asked).sum(),
            receipts: world.judge.receipts,
            moved: world.judge.moved,
            layers_moved: world.layers_moved,
            moves_put_off: world.moves_put_off,
            no_room: world.messages.iter().filter(|m| m.refused_as == Some(0x97)).count() as u64,
            copies: [world.subscribers.iter().map(|one| one.ledger.count() as u64).sum(), world.copies_dropped()],
            full: u64::from(!world.subscribers.is_empty() && !world.judge.full_in.is_empty()),
            records: world.read(),
            put_together: world
                .process
                .iter()
                .chain(world.broker.others.values())
                .map(|process| process.number(ShardMetric::SessionLogPutTogether))
                .sum(),
            requests: world.clusters.iter().map(|cluster| cluster.produced).sum(),
            tolerated: std::array::from_fn(|which| u64::from(world.judge.tolerated.contains(&TOLERATED[which].0))),
            digest: crate::digest::of(world),
        }
    }
}

/// The parts that a run leaves out, for making a failure smaller.
#[derive(Clone, Debug, Default)]
pub struct Without {
    /// Faults that are left out.
    pub faults: Vec<Fault>,
    /// Parts of hostile runs that are left out (`Hostile::NAMES`).
    pub hostile: Vec<&'static str>,
    /// Whether liveness is not judged.
    pub liveness: bool,
    /// Whether no known fault is tolerated.
    pub tolerance: bool,
    /// Whether no connection has a layer.
    pub layers: bool,
    /// Rules of the process in place of the right ones.
    pub rules: Option<&'static dyn Rules>,
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has panics of runs reported with their seed, rather than printed as they happen. Called once.
pub fn catch_panics() {
    std::panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
}

/// Runs a seed. The result comes with the trace if `traced`.
///
/// # Errors
/// The failure.
pub fn run(seed: u64, kind: Kind, without: &Without, traced: bool) -> (Result<Sums, Failure>, String) {
    let mut plan = if without.layers { Plan::without_layers(seed, kind) } else { Plan::new(seed, kind) };
    plan.faults.retain(|(fault, _)| !without.faults.contains(fault));
    without.hostile.iter().for_each(|name| plan.hostile.leave_out(name));
    run_plan(plan, without, traced)
}

/// Runs a plan of the caller's own, like [`run`].
///
/// # Errors
/// The failure.
pub fn run_plan(plan: Plan, without: &Without, traced: bool) -> (Result<Sums, Failure>, String) {
    let mut world = World::new(plan, traced);
    world.rules = without.rules.unwrap_or(&forebay::rules::KEPT);
    (world.judge.live, world.judge.lenient) = (!without.liveness, !without.tolerance);
    let ran = catch_unwind(AssertUnwindSafe(|| world.run()));
    if ran.is_err() {
        let text = PANIC.take().unwrap_or_else(|| "a panic".to_owned());
        world.judge.fails("panic", text);
    }
    let result = match world.judge.failure().cloned() {
        Some(failure) => Err(failure),
        None => Ok(Sums::of(&world)),
    };
    if traced && ran.is_ok() && result.is_err() {
        let state = world.state();
        world.note(|| format!("at the end\n{state}"));
    }
    let trace = world.trace();
    if ran.is_err() {
        // A world that a panic has left inconsistent must not be touched again, not even dropped.
        std::mem::forget(world);
    }
    (result, trace)
}

/// Results of many seeds.
#[derive(Debug, Default)]
pub struct Ran {
    /// Sum of the totals of the seeds that passed.
    pub sums: Sums,
    /// Failures by seed.
    pub failed: Vec<(u64, Failure)>,
    /// Digests of the seeds that passed, by seed.
    pub digests: Vec<(u64, u64)>,
}

/// Runs seeds on `threads` threads.
pub fn many(seeds: Range<u64>, kind: Kind, without: &Without, threads: usize) -> Ran {
    until(None, seeds, kind, without, threads)
}

/// Like [`many`]; begins no seed after the deadline, if there is one.
pub fn until(deadline: Option<Instant>, seeds: Range<u64>, kind: Kind, without: &Without, threads: usize) -> Ran {
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(Ran::default());
    let work = || {
        while deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let (result, _) = run(seed, kind, without, false);
            let mut found = found.lock().expect("no panic while held");
            match result {
                Ok(sums) => {
                    found.sums.add(&sums);
                    found.digests.push((seed, sums.digest));
                }
                Err(failure) => found.failed.push((seed, failure)),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(work);
        }
    });
    let mut ran = found.into_inner().expect("no panic while held");
    ran.failed.sort_by_key(|(seed, _)| *seed);
    ran.digests.sort_unstable();
    ran
}

/// The first seed of these that fails, and its failure.
#[must_use]
pub fn first_red(seeds: Range<u64>, kind: Kind, without: &Without) -> Option<(u64, Failure)> {
    seeds.filter(|seed| crate::expected::fault_of(kind, *seed).is_none()).find_map(|seed| {
        let (result, _) = run(seed, kind, without, false);
        result.err().map(|failure| (seed, failure))
    })
}

/// Leaves out one fault after the other, as long as the seed still fails in the same way.
#[must_use]
pub fn shrunk(seed: u64, kind: Kind, without: &Without, what: &'static str) -> Without {
    let mut least = without.clone();
    for (fault, _) in Plan::new(seed, kind).faults {
        if least.faults.contains(&fault) {
            continue;
        }
        let mut less = least.clone();
        less.faults.push(fault);
        if run(seed, kind, &less, false).0.is_err_and(|failure| failure.what == what) {
            least = less;
        }
    }
    for name in Hostile::NAMES.iter().filter(|_| kind.is_hostile()) {
        let mut less = least.clone();
        less.hostile.push(name);
        if run(seed, kind, &less, false).0.is_err_and(|failure| failure.what == what) {
            least = less;
        }
    }
    least
}
