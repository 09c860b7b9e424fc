//! Seeds and scripts that every run of the tests goes through.

use crate::faults::Fault;
use crate::plan::Kind;
use crate::run::{self, Without};
use crate::scenarios;

/// Scripts of faults that are known and not cured yet. Who cures one takes its line away.
const EXPECTED_RED: &[&str] = &[];

#[test]
fn scripts_are_green_but_for_known_faults() {
    let mut wrong = Vec::new();
    for (name, script) in scenarios::ALL {
        match (script(), EXPECTED_RED.contains(name)) {
            (Ok(()), true) => wrong.push(format!("{name}: green by now; take its line out of EXPECTED_RED")),
            (Err(failure), false) => wrong.push(format!("{name}: {}: {}", failure.what, failure.text)),
            (Ok(()), false) => println!("{name}: green"),
            (Err(failure), true) => println!("{name}: red as expected: {}: {}", failure.what, failure.text),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
