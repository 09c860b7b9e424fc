//! Seeds that were red once, and seeds that are red with a rule taken out: many runs that compute and wait for nothing. `scripts/test gate` runs
//! them with the optimized library that it measures, many times faster.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay_sim::expected::CURED_SEEDS;
use forebay_sim::plan::Kind;
use forebay_sim::run::{self, Without};
use forebay_sim::wrong::{self, FoundBy, Wrong};

/// Without layers, like the runs that noted the seeds.
fn without_layers() -> Without {
    Without { layers: true, ..Without::default() }
}

/// Runs the seeds that failed before a fix, with and without layers, as most are older than layers. Two tests do so, so that neither is the
/// last one on a core of its own.
fn seeds_that_were_red_are_green(layers: &Without) {
    for (kind, seed, fault) in CURED_SEEDS {
        let (result, _) = run::run(*seed, *kind, layers, false);
        assert!(result.is_ok(), "{fault} is back: seed {seed} of {kind:?}: {result:?}");
    }
}

#[test]
fn cured_seeds_are_green() {
    seeds_that_were_red_are_green(&Without::default());
}

#[test]
fn cured_seeds_are_green_without_layers() {
    seeds_that_were_red_are_green(&without_layers());
}

/// Number of seeds from 0 on, one of which must find a wrong rule if its noted seed no longer does.
const SEEDS_OF_A_RULE: u64 = 300;

#[test]
fn a_rule_that_is_taken_out_is_found() {
    let mut lost = Vec::new();
    for Wrong { name, rules, found_by, .. } in wrong::ALL {
        let (kind, seed) = match *found_by {
            FoundBy::Seed(kind, seed) => (kind, seed),
            FoundBy::Script(script) => {
                lost.extend(script(*rules).is_ok().then_some(name));
                continue;
            }
            FoundBy::Producer | FoundBy::Cost | FoundBy::Shards => continue,
        };
        let without = Without { rules: Some(*rules), ..without_layers() };
        let found = run::first_red(seed..seed + 1, kind, &without)
            .or_else(|| run::first_red(0..SEEDS_OF_A_RULE, kind, &without));
        match found {
            Some((other, failure)) if other != seed => println!("{name}: {other} {}; note that seed", failure.what),
            Some((_, failure)) => println!("{name}: {}", failure.what),
            None => lost.push(name),
        }
    }
    assert!(lost.is_empty(), "not found: {lost:?}");
}

/// Seconds for new seeds of all kinds together, unless `FOREBAY_SEEDS_SECONDS` says otherwise.
const SECONDS: u64 = 60;

/// Runs seeds that no run has had before, from `FOREBAY_SEEDS_FROM` on, or from the time in milliseconds. A failure prints the command that repeats it.
#[test]
fn new_seeds_are_green() {
    let named = |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seconds = named("FOREBAY_SEEDS_SECONDS").unwrap_or(SECONDS);
    let each = Duration::from_secs(seconds) / Kind::ALL.len() as u32;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    let first = named("FOREBAY_SEEDS_FROM").unwrap_or(now.as_millis() as u64);
    let mut red = Vec::new();
    for (kind, options) in Kind::ALL {
        let until = Some(Instant::now() + each);
        let ran = run::until(until, first..u64::MAX, kind, &Without::default(), 2);
        println!("{} seeds from {first}: forebay-sim {options}", ran.digests.len() + ran.failed.len());
        let again = |(seed, failure): &(u64, _)| format!("forebay-sim {options} {seed}: {failure:?}");
        red.extend(ran.failed.iter().map(again));
    }
    assert!(red.is_empty(), "{}", red.join("\n"));
}
