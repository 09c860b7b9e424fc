//! Explores all sequences of eight actions on a window, against the log of `log.rs`; and checks that this detects each broken rule.

use std::collections::BTreeSet;
use std::ops::Range;

use super::world::{Action, Mode, Scenario, World};
use forebay_base::rules::{AfterRound, KEPT, Round, Rules, SentBefore};

/// Actions of a path in the scenario with the fewest possible actions; one less otherwise.
const DEPTH: usize = 8;

/// Actions before the end of a path from which on a healed continuation is checked as well.
const HEALED_BEFORE: usize = 2;

const SCENARIOS: &[Scenario] = &[
    Scenario { max_inflight: 2, old: false, logged: false, restored: (0, 0), truncates: false, recreates: false },
    Scenario { max_inflight: 2, old: true, logged: false, restored: (0, 0), truncates: false, recreates: false },
    Scenario { max_inflight: 2, old: false, logged: true, restored: (0, 0), truncates: false, recreates: false },
    Scenario { max_inflight: 2, old: false, logged: true, restored: (2, 0), truncates: false, recreates: false },
    Scenario { max_inflight: 2, old: false, logged: true, restored: (3, 1), truncates: false, recreates: false },
    Scenario { max_inflight: 2, old: false, logged: true, restored: (3, 3), truncates: false, recreates: false },
    Scenario { max_inflight: 2, old: false, logged: false, restored: (0, 0), truncates: true, recreates: false },
    Scenario { max_inflight: 2, old: false, logged: false, restored: (0, 0), truncates: false, recreates: true },
    Scenario { max_inflight: 5, old: false, logged: false, restored: (0, 0), truncates: false, recreates: false },
];

/// The modes and outcomes seen on all paths.
#[derive(Default)]
struct Seen {
    paths: u64,
    modes: BTreeSet<Mode>,
    actions: BTreeSet<String>,
}

/// Explores every path of up to `depth` actions; returns the first one that violates an invariant.
fn explore(world: &World, depth: usize, seen: &mut Seen, path: &mut Vec<Action>) -> Result<(), String> {
    seen.modes.insert(world.mode());
    if depth == HEALED_BEFORE {
        world.clone().heal().map_err(|what| format!("{what}, after {path:?}"))?;
    }
    if depth == 0 {
        seen.paths += 1;
        return Ok(());
    }
    for action in world.actions() {
        let mut next = world.clone();
        path.push(action);
        let name = format!("{action:?}");
        seen.actions.insert(name.split('(').next().unwrap_or_default().to_owned());
        next.act(action).map_err(|what| format!("{what}: {path:?}"))?;
        explore(&next, depth - 1, seen, path)?;
        path.pop();
    }
    Ok(())
}

fn all(rules: &'static dyn Rules, depth: usize) -> Result<Seen, String> {
    let mut seen = Seen::default();
    for scenario in SCENARIOS {
        let tell = |what| format!("{scenario:?}: {what}");
        let world = World::new(*scenario, rules).map_err(tell)?;
        let fewer = scenario.truncates || scenario.recreates || scenario.restored.0 > 0 || scenario.max_inflight > 2;
        explore(&world, depth - usize::from(fewer), &mut seen, &mut Vec::new()).map_err(tell)?;
    }
    Ok(seen)
}

#[test]
fn every_answer_in_every_mode() {
    let seen = all(&KEPT, DEPTH).unwrap_or_else(|what| panic!("{what}"));
    assert_eq!(seen.modes.len(), 4, "{:?}", seen.modes);
    assert_eq!(seen.actions.len(), 14, "{:?}", seen.actions);
    assert!(seen.paths > 100_000, "{}", seen.paths);
}

macro_rules! wrong {
    ($($name:ident { $(fn $method:ident(&$self:ident $($args:tt)*) -> $type:ty $body:block)+ })+) => {
        $(
            #[derive(Debug)]
            struct $name;
            impl Rules for $name {
                $(fn $method(&$self $($args)*) -> $type $body)+
            }
        )+
        const WRONG: &[(&str, &dyn Rules)] = &[$((stringify!($name), &$name)),+];
    };
}

// As in `sim/wrong.rs`: the rules that the window keeps.
wrong! {
    WindowOfTen { fn window(&self, max_inflight: usize) -> usize { 2 * max_inflight } }
    FirstInCompany { fn is_proven(&self, _: u64, _: u64) -> bool { true } }
    OldInCompany { fn is_forgettable(&self, _: i64, _: i64) -> bool { false } }
    SameEpoch { fn after_take_back(&self, epoch: i16, sequence: i32) -> Option<(i16, i32)> { Some((epoch, sequence)) } }
    SequenceGoesOn {
        fn after_take_back(&self, epoch: i16, sequence: i32) -> Option<(i16, i32)> {
            epoch.checked_add(1).map(|epoch| (epoch, sequence))
        }
    }
    TwoIdentities { fn may_change_identity(&self, _: usize) -> bool { true } }
    OutOfOrderIsFinal {
        fn after_out_of_order(&self, _: Round) -> AfterRound { AfterRound::AskLog }
        fn asks_log(&self, _: i16) -> bool { false }
    }
    SettlesItself { fn settled_by(&self, place: usize) -> Range<usize> { place..place + 1 } }
    NeverAsks { fn asks_log(&self, _: i16) -> bool { false } }
    ResendsUnasked { fn asks_before_resend(&self, _: SentBefore) -> bool { false } }
    RefusalIsFinal { fn is_refusal_final(&self, _: bool) -> bool { true } }
    SendsBeforeSync { fn may_send(&self, _: u64, _: u64) -> bool { true } }
    RestoredLast { fn waits_for_restored(&self, _: usize) -> bool { false } }
}

#[test]
fn a_broken_rule_is_found() {
    let missed: Vec<_> = WRONG.iter().filter(|(_, rules)| all(*rules, 7).is_ok()).map(|(name, _)| name).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
