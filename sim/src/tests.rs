//! Seeds and scripts that every run of the tests includes.

use std::collections::BTreeSet;
use std::ops::Range;

use forebay::rules::KEPT;

use crate::expected::{RED_SCRIPTS, RED_SEEDS, TOLERATED, fault_of};
use crate::faults::Fault;
use crate::plan::Kind;
use crate::run::{self, Ran, Sums, Without};
use crate::scenarios::{self, rules::requests_of_lingering_rows};
use crate::wrong::{self, FoundBy};

/// Without layers, like the runs that noted the seeds.
fn without_layers() -> Without {
    Without { layers: true, ..Without::default() }
}

/// Runs seeds of a kind. Seeds with a known fault must fail.
fn seeds_are_green(kind: Kind, seeds: Range<u64>) -> Sums {
    let Ran { sums, failed, .. } = run::many(seeds, kind, &Without::default(), 2);
    let wrong: Vec<_> = failed.iter().filter(|(seed, _)| fault_of(kind, *seed).is_none()).collect();
    assert!(wrong.is_empty(), "run one alone with `cargo run -p forebay-sim -- SEED` (docs/SIMULATION.md): {wrong:#?}");
    sums
}

/// X76: with a layer under the connections of half of the runs, connections move and lose nothing.
#[test]
fn seeds_are_green_but_for_known_faults() {
    let seeds = 0..100;
    let each = seeds.end;
    let sums = seeds_are_green(Kind::All, seeds);
    // A run in which nothing happens proves nothing.
    let [with_offset, _] = sums.receipts;
    assert!(with_offset > each * 5, "too few receipts: {sums:?}");
    let [moved, with_unsent] = sums.layers_moved;
    assert!(sums.moves_put_off > 0, "no mailbox was full: {sums:?}");
    assert!(moved > each && with_unsent > each / 2, "too few connections with a layer moved: {sums:?}");
    assert!(sums.processes > each * 2 && sums.messages > each * 60 && sums.asked > each / 10, "too quiet: {sums:?}");
}

/// The meaning of an answer while the process lives, without disk and crashes.
#[test]
fn seeds_without_a_disk_are_green() {
    seeds_are_green(Kind::Memory, 0..40);
}

/// Runs with gathered groups of the log.
#[test]
fn seeds_with_a_sync_interval_are_green() {
    let sums = seeds_are_green(Kind::Gathered, 0..60);
    assert!(sums.processes > 120 && sums.messages > 3_000, "too quiet: {sums:?}");
}

/// A seed has the same digest each time, and differs from other seeds; without faults it has another digest.
#[test]
fn a_digest_is_of_all_that_is_seen() {
    for kind in [Kind::All, Kind::Shares, Kind::Sources, Kind::Broker, Kind::Instances] {
        let digests = |without| run::many(0..3, kind, &without, 2).digests;
        let found = digests(Without::default());
        assert_eq!(found, digests(Without::default()), "{kind:?}");
        let apart: BTreeSet<_> = found.iter().map(|(_, digest)| digest).collect();
        assert_eq!((found.len(), apart.len()), (3, 3), "{kind:?}");
        assert_ne!(found, digests(Without { faults: Fault::ALL.to_vec(), ..Without::default() }), "{kind:?}");
    }
}

/// Runs seeds of a kind with clients that subscribe, which must get this many messages in each run. Returns the totals
/// with all copies, and the drops.
fn copies_of_green_seeds(kind: Kind, seeds: Range<u64>, in_each: u64) -> (Sums, [u64; 2]) {
    let each = seeds.end - seeds.start;
    let sums = seeds_are_green(kind, seeds);
    let [got, dropped] = sums.copies;
    assert!(sums.processes > each * 2 && got > each * in_each, "too quiet: {sums:?}");
    (sums, [got, dropped])
}

/// Runs with clients that subscribe, and get the messages that they must.
#[test]
fn seeds_with_subscribers_are_green() {
    let (sums, [got, dropped]) = copies_of_green_seeds(Kind::Subscribers, 0..60, 60);
    assert!(dropped > 0 && dropped < got / 8, "bounds of queues: {sums:?}");
}

/// Runs with clients that subscribe, members of shared subscriptions, and late mail.
#[test]
fn seeds_with_shares_are_green() {
    let (sums, [got, dropped]) = copies_of_green_seeds(Kind::Shares, 0..60, 80);
    assert!(dropped > 0 && dropped < got / 8, "bounds of queues: {sums:?}");
}

/// Runs with sources, their groups, and subscribers to the messages of their records.
#[test]
fn seeds_with_sources_are_green() {
    let seeds = 0..8;
    let each = seeds.end;
    let sums = seeds_are_green(Kind::Sources, seeds);
    let [records, copies, commits] = sums.records;
    assert!(sums.processes > each * 4 && records > each * 40 && copies > each * 60 && commits > each * 10, "{sums:?}");
}

/// Runs with `[broker]`: messages go through Kafka, and sessions are kept there.
#[test]
fn seeds_with_broker_are_green() {
    let seeds = 0..12;
    let each = seeds.end;
    let sums = seeds_are_green(Kind::Broker, seeds);
    let [records, _, commits] = sums.records;
    assert!(sums.processes > each * 4 && sums.messages > each * 40 && sums.copies[0] > each * 30, "{sums:?}");
    assert!(records > 0 && commits > each * 4 && sums.batches > each * 60, "{sums:?}");
    assert!(sums.put_together > each, "logs of sessions stay as they are: {sums:?}");
}

/// Runs with several instances of one broker, which start and end.
#[test]
fn seeds_with_instances_are_green() {
    let seeds = 0..6;
    let each = seeds.end;
    let sums = seeds_are_green(Kind::Instances, seeds);
    assert!(sums.processes > each * 3 && sums.messages > each * 40 && sums.copies[0] > each * 30, "{sums:?}");
}

/// Runs with settings that change between processes, failing reads and wrong clocks.
#[test]
fn hostile_seeds_are_green_but_for_known_faults() {
    let sums = seeds_are_green(Kind::Hostile, 0..60);
    assert!(sums.processes > 120 && sums.messages > 3_000, "too quiet: {sums:?}");
}

/// Hostile runs with clients that subscribe.
#[test]
fn hostile_seeds_with_subscribers_are_green_but_for_known_faults() {
    // Sessions move between shards in these runs.
    let (sums, [_, dropped]) = copies_of_green_seeds(Kind::HostileSubscribers, 100..140, 60);
    assert!(sums.moved > 0 && dropped > 0, "nothing moved, or nothing was dropped: {sums:?}");
}

/// Hostile runs with clients that subscribe, members of shared subscriptions, and late mail.
#[test]
fn hostile_seeds_with_shares_are_green_but_for_known_faults() {
    copies_of_green_seeds(Kind::HostileShares, 0..20, 60);
}

#[test]
fn seeds_that_are_known_to_be_red_are_red() {
    for (kind, seed, fault) in RED_SEEDS {
        let (result, _) = run::run(*seed, *kind, &Without::default(), false);
        assert!(result.is_err(), "seed {seed} of {kind:?} ({fault}) is green: delete its line in expected.rs");
    }
}

/// Runs in which sessions move to other shards.
#[test]
fn seeds_with_other_numbers_of_shards_are_green() {
    let sums = seeds_are_green(Kind::Hostile, 103..113);
    assert!(sums.moved > 0, "none moved: {sums:?}");
}

/// Each tolerated fault must still occur.
#[test]
fn what_is_tolerated_is_shown() {
    for (tolerated, seed) in TOLERATED {
        let strict = Without { tolerance: true, ..without_layers() };
        let (result, _) = run::run(*seed, Kind::Hostile, &strict, false);
        assert!(result.is_err(), "seed {seed} does not show {tolerated:?}: another one does, or its line can go");
        let (result, _) = run::run(*seed, Kind::Hostile, &without_layers(), false);
        assert!(result.is_ok_and(|sums| sums.tolerated.iter().sum::<u64>() > 0), "{tolerated:?}, seed {seed}");
    }
}

#[test]
fn scripts_are_green_but_for_known_faults() {
    let mut wrong = Vec::new();
    for (name, script) in scenarios::ALL {
        match (script(), RED_SCRIPTS.contains(name)) {
            (Ok(()), true) => wrong.push(format!("{name}: green by now; delete its line in expected.rs")),
            (Err(failure), false) => wrong.push(format!("{name}: {}: {}", failure.what, failure.text)),
            (Ok(()), false) | (Err(_), true) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// H9: a setting without any effect would go unnoticed.
#[test]
fn each_setting_makes_a_difference() {
    for (name, [one, other]) in scenarios::values::seen() {
        println!("{name}: {one}, {other}");
        assert_ne!(one, other, "{name}: two values, and no difference");
    }
}

#[test]
fn same_seed_same_run() {
    for seed in 0..4 {
        let once = run::run(seed, Kind::All, &Without::default(), true);
        let again = run::run(seed, Kind::All, &Without::default(), true);
        assert_eq!(once, again, "seed {seed}");
    }
}

/// A fault that is left out changes no draw of another.
#[test]
fn faults_are_drawn_apart() {
    let all = crate::plan::Plan::new(7, Kind::All);
    let memory = crate::plan::Plan::new(7, Kind::Memory);
    let of_both: Vec<_> = all.faults.iter().filter(|(fault, _)| !fault.is_of_the_machine()).collect();
    assert_eq!(of_both, memory.faults.iter().collect::<Vec<_>>());
    assert!(Fault::ALL.len() > 20);
}

/// Rules that cost requests only: without the rule, the same rows must take clearly more requests.
#[test]
fn what_costs_requests_is_found() {
    let patterns = [1, 5].map(|pause_ms| (pause_ms, requests_of_lingering_rows(&KEPT, pause_ms)));
    assert!(patterns.iter().all(|(_, kept)| *kept > 5), "{patterns:?}");
    for wrong in wrong::ALL.iter().filter(|wrong| matches!(wrong.found_by, FoundBy::Cost)) {
        let taken = patterns.map(|(pause_ms, kept)| (requests_of_lingering_rows(wrong.rules, pause_ms), kept));
        let found = taken.iter().any(|(taken, kept)| taken * 2 > kept * 3);
        assert!(found, "{}: requests, and with the rule: {taken:?}", wrong.name);
    }
}

#[test]
fn every_rule_has_a_wrong_body() {
    let (_, from_trait) =
        include_str!("../../crates/base/src/rules.rs").split_once("pub trait Rules").expect("the trait");
    let (body, _) = from_trait.split_once("\n}\n").expect("its end");
    let methods: BTreeSet<&str> =
        body.lines().filter_map(|line| line.strip_prefix("    fn ")?.split('(').next()).collect();
    let wrong: BTreeSet<&str> = wrong::ALL.iter().flat_map(|wrong| wrong.methods.iter().copied()).collect();
    assert!(methods.len() > 20, "this test reads the wrong lines");
    assert_eq!(methods, wrong);
    // A rule that nothing here finds is found by the producer's simulator, under the same name.
    let producer = include_str!("../../src/sim/wrong.rs");
    for wrong in wrong::ALL.iter().filter(|wrong| matches!(wrong.found_by, FoundBy::Producer)) {
        assert!(producer.contains(&format!("    {}, ", wrong.name)), "nothing finds {}", wrong.name);
    }
}
