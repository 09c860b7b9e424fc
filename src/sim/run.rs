//! Runs: one, many on several threads, and a failed one repeatedly until nothing more can be left out.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::judge::{Failure, Sums, What};
use super::plan::{Fault, Scope};
use super::world::World;

/// Runs a scope once, and returns the totals.
///
/// # Errors
/// The failure.
pub(super) fn run(scope: &Scope) -> Result<Sums, Failure> {
    let mut world = World::new(scope.clone(), false);
    go(&mut world).map(|()| world.judge.sums)
}

fn go(world: &mut World) -> Result<(), Failure> {
    catch_unwind(AssertUnwindSafe(|| world.run())).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default();
        Err(Failure { what: What::Panic, text })
    })
}

/// Leaves out faults and steps as long as the run fails in the same way.
pub(super) fn shrunk(scope: &Scope, what: What) -> Scope {
    let fails = |scope: &Scope| matches!(run(scope), Err(failure) if failure.what == what);
    let mut least = scope.clone();
    for fault in Fault::ALL {
        let mut less = least.clone();
        less.without.push(fault);
        if fails(&less) {
            least = less;
        }
    }
    let mut by = least.steps / 2;
    while by > 0 {
        let less = Scope { steps: least.steps - by, ..least.clone() };
        if fails(&less) {
            least = less
        } else {
            by /= 2
        }
        by = by.min(least.steps / 2);
    }
    least
}

/// The report of a run that failed: the failure, the command that repeats it, and the events of the run.
pub(super) fn report(scope: &Scope, failure: &Failure) -> String {
    let least = shrunk(scope, failure.what);
    let mut world = World::new(least.clone(), true);
    let again = go(&mut world).err();
    let without: Vec<String> = least.without.iter().map(|fault| fault.name()).collect();
    let seed = scope.seed;
    let test = match (scope.disk, scope.lasting) {
        (_, true) => "sim::tests::nothing_lost_nothing_twice_through_what_lasts",
        (true, false) => "sim::tests::nothing_lost_nothing_twice_through_crashes",
        (false, false) => "sim::tests::nothing_lost_nothing_twice_order",
    };
    format!(
        "seed {seed}: {:?}: {}\nagain:   FOREBAY_SIM_SEEDS={seed}..{} cargo test --lib {test}\nshorter: FOREBAY_SIM_SEEDS={seed}..{} FOREBAY_SIM_STEPS={} \
         FOREBAY_SIM_WITHOUT={} cargo test --lib {test}\nThe shorter one: {}\n{}",
        failure.what,
        failure.text,
        seed + 1,
        seed + 1,
        least.steps,
        without.join(","),
        again.map_or_else(|| "passed this time".into(), |failure| failure.text),
        world.trace.text(),
    )
}

/// Runs seeds on all cores, up to the first failure. Returns the totals, or the lowest seed that failed of those that
/// ran.
///
/// # Errors
/// The scope that failed, and how.
pub(super) fn many(seeds: Range<u64>, scope: impl Fn(u64) -> Scope + Sync) -> Result<Sums, (Scope, Failure)> {
    let (next, sums, failed) = (AtomicU64::new(seeds.start), Mutex::new(Sums::default()), Mutex::new(None));
    let work = || {
        let mut own = Sums::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let scope = scope(seed);
            match run(&scope) {
                Ok(run) => own.add(&run),
                Err(failure) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    let mut failed = failed.lock().expect("no panic while held");
                    let first = failed.as_ref().is_none_or(|(other, _): &(Scope, Failure)| other.seed > seed);
                    if first {
                        *failed = Some((scope, failure));
                    }
                }
            }
        }
        sums.lock().expect("no panic while held").add(&own);
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    match failed.into_inner().expect("no panic while held") {
        Some(failed) => Err(failed),
        None => Ok(sums.into_inner().expect("no panic while held")),
    }
}
