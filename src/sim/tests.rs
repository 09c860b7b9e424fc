//! Seeds that every run of the tests includes.

use std::ops::Range;

use super::judge::Sums;
use super::plan::{Fault, Scope};
use super::run;

/// Seeds within which every broken rule must be found.
pub(super) const SEEDS: u64 = 10_000;

/// Seeds of `FOREBAY_SIM_SEEDS`, if set: `0..100000` for a long run, `=17..18` for one that failed.
pub(super) fn seeds() -> Range<u64> {
    let text = std::env::var("FOREBAY_SIM_SEEDS").unwrap_or_default();
    let parsed = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.unwrap_or(0..SEEDS)
}

/// The scope of a seed, less the parts that are left out: `FOREBAY_SIM_WITHOUT=cut,move`, `FOREBAY_SIM_STEPS=40`.
fn scope(seed: u64) -> Scope {
    let mut scope = Scope::new(seed);
    let without = std::env::var("FOREBAY_SIM_WITHOUT").unwrap_or_default();
    scope.without =
        Fault::ALL.into_iter().filter(|fault| without.split(',').any(|name| name == fault.name())).collect();
    if let Some(steps) = std::env::var("FOREBAY_SIM_STEPS").ok().and_then(|steps| steps.parse().ok()) {
        scope.steps = steps;
    }
    scope
}

#[test]
fn nothing_lost_nothing_twice_order_kept() {
    match run::many(part_of(SEEDS), scope) {
        Ok(sums) => println!("{sums:#?}"),
        Err((scope, failure)) => panic!("{}", run::report(&scope, &failure)),
    }
}

/// The part of `all` seeds that every run of the tests includes. `FOREBAY_SIM_SEEDS` names others, and `scripts/test sim` includes more.
fn part_of(all: u64) -> Range<u64> {
    if std::env::var_os("FOREBAY_SIM_SEEDS").is_some() { seeds() } else { 0..all / 8 }
}

/// Seeds of runs with a disk; as many must find every broken rule.
pub(super) const DISK_SEEDS: u64 = 3_000;

/// Runs with a disk, through power cuts and kill -9. In some of them rows come from clients with sessions.
#[test]
fn nothing_lost_nothing_twice_through_crashes() {
    let seeds = part_of(DISK_SEEDS);
    let scope = |seed| Scope { disk: true, ..scope(seed) };
    match run::many(seeds, scope) {
        Ok(sums) => println!("{sums:#?}"),
        Err((scope, failure)) => panic!("{}", run::report(&scope, &failure)),
    }
}

/// Seeds of runs with lasting faults; as many must find every broken rule.
pub(super) const LASTING_SEEDS: u64 = 2_000;

/// Runs with disks that go on failing or are full, Kafka silent for a long time, rows dropped to make room, and orderly
/// stops.
#[test]
fn nothing_lost_nothing_twice_through_what_lasts() {
    let seeds = part_of(LASTING_SEEDS);
    let scope = |seed| Scope { disk: true, lasting: true, ..scope(seed) };
    match run::many(seeds, scope) {
        Ok(sums) => println!("{sums:#?}"),
        Err((scope, failure)) => panic!("{}", run::report(&scope, &failure)),
    }
}

fn stay_mended(seeds: &[u64], scope: fn(u64) -> Scope) {
    for seed in seeds {
        if let Err((scope, failure)) = run::many(*seed..*seed + 1, scope) {
            panic!("{}", run::report(&scope, &failure));
        }
    }
}

/// Seeds that have failed, each for a fault that has been fixed since.
#[test]
fn what_was_found_once_stays_mended() {
    const RED_ONCE: [u64; 14] = [
        12_253, 25_795, 39_819, 52_495, 57_434, 58_466, 60_575, 66_123, 68_416, 71_346, 76_630, 80_903, 96_994, 893_365,
    ];
    // Rows lost with a recreated topic; doubles; order; runs that never came to rest.
    const LOST: [u64; 2] = [483_317, 523_474];
    const DOUBLED: [u64; 14] = [
        106_146, 108_940, 188_568, 189_027, 211_450, 215_666, 285_256, 388_160, 630_174, 816_755, 831_998, 906_668,
        927_337, 988_080,
    ];
    const OTHERS: [u64; 4] = [171_995, 485_345, 804_227, 870_334];
    // Doubles of a batch that was in the log before a younger one, and was searched for after it.
    const BEFORE: [u64; 14] = [
        26_490, 96_574, 195_457, 202_645, 208_874, 349_792, 352_100, 400_065, 446_946, 799_665, 804_782, 808_336,
        819_429, 835_218,
    ];
    [&RED_ONCE[..], &LOST, &DOUBLED, &OTHERS, &BEFORE].into_iter().for_each(|seeds| stay_mended(seeds, Scope::new));
}

/// Seeds of runs with a disk that have failed, each for a fault that has been fixed since.
#[test]
fn what_was_found_once_through_crashes_stays_mended() {
    // Rows answered before they were on the disk, order, doubles; runs that never came to rest; an order that could not be
    // kept.
    const RED_ONCE: [u64; 15] = [
        3_250, 24_875, 25_964, 34_305, 8_533, 11_836, 14_583, 20_749, 20_766, 21_744, 27_224, 31_137, 35_379, 8_671,
        48_130,
    ];
    stay_mended(&RED_ONCE, Scope::with_disk);
}

/// Seeds of runs with lasting faults that have failed, each for a fault that has been fixed since.
#[test]
fn what_was_found_once_and_lasts_stays_mended() {
    // Rows lost by a stop; runs that never came to rest; rows lost with a recreated topic; order after stops; more runs that never
    // came to rest; a row that Kafka could not tell about and that was dropped to make room; too many batches in flight after a stop;
    // a row in a deleted topic that was dropped.
    const RED_ONCE: [u64; 14] =
        [6_128, 6_668, 9_691, 1_737, 2_145, 5_930, 8_669, 1_436, 4_662, 3_137, 3_483, 5_019, 36_473, 38_353];
    // Order after a stop: rows after younger ones in the log (17134: of a partition that is gone), and rows that were being dead-lettered.
    const STOPPED: [u64; 6] = [13_164, 19_248, 23_899, 17_134, 13_480, 15_006];
    // Counted doubles of a batch that a restarted broker had forgotten, in a recreated topic.
    const COUNTED: [u64; 1] = [27_125];
    [&RED_ONCE[..], &STOPPED, &COUNTED].into_iter().for_each(|seeds| stay_mended(seeds, Scope::with_lasting));
}

/// Prints every seed that fails, one line each: for work on the simulator itself.
#[test]
#[ignore = "a tool"]
fn census() {
    let lasting = std::env::var("FOREBAY_SIM_LASTING").is_ok();
    let disk = lasting || std::env::var("FOREBAY_SIM_DISK").is_ok();
    let mut sums = Sums::default();
    for seed in seeds() {
        match run::run(&Scope { disk, lasting, ..scope(seed) }) {
            Ok(run) => sums.add(&run),
            Err(failure) => {
                println!("{seed}: {:?}: {}", failure.what, failure.text.chars().take(200).collect::<String>());
            }
        }
    }
    println!("{sums:#?}");
}
