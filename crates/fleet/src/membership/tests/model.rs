//! Members with the model of the coordinator: growth and deaths one after the other, and random faults by seeds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::world::{Checked, SESSION, SLOTS, World, Wrong};
use forebay_runtime::seam::seeds;

/// Runs up to five instances through two minutes of faults, and then until the group is at rest, within a bound.
fn storm(seed: u64, wrong: Option<Wrong>) -> Checked {
    let mut world = World::new(seed, wrong);
    let names = ["a", "b", "c", "d", "e"];
    let shards: BTreeMap<Arc<str>, u16> =
        names.iter().map(|name| (Arc::from(*name), world.random.u16(1..=4))).collect();
    let count = world.random.usize(2..=5);
    for name in &names[..count] {
        world.start(name, shards[*name]);
        if world.random.bool() {
            let pause = Duration::from_millis(world.random.u64(0..5_000));
            world.run(pause)?;
        }
    }
    for _ in 0..world.random.usize(5..25) {
        let pause = Duration::from_millis(world.random.u64(0..8_000));
        world.run(pause)?;
        let alive = world.alive();
        let one = alive.get(world.random.usize(0..alive.len().max(1))).copied();
        let time = Duration::from_millis(world.random.u64(200..30_000));
        match (world.random.u8(0..10), one) {
            (0..=2, Some(one)) => world.freeze(one, time),
            (3 | 4, Some(one)) => world.cut(one, time),
            (5 | 6, Some(one)) if alive.len() > 1 => {
                let are_told = world.random.bool();
                world.kill(one, are_told);
                // The process often comes back, before or after the end of its session.
                if world.random.u8(0..4) > 0 {
                    let pause = Duration::from_millis(world.random.u64(0..15_000));
                    world.run(pause)?;
                    let name = world.name(one);
                    world.start(&name, shards[&name]);
                }
            }
            (7 | 8, _) => {
                let away = Duration::from_millis(world.random.u64(0..9_000));
                world.move_coordinator(away);
            }
            _ => {
                let alive: Vec<Arc<str>> = alive.iter().map(|of| world.name(*of)).collect();
                if let Some(name) = names.iter().find(|name| !alive.iter().any(|of| **of == ***name)) {
                    world.start(name, shards[*name]);
                }
            }
        }
    }
    // The last freeze and cut are over after 30 s; three session time-outs after that must be enough.
    world.run(Duration::from_secs(30) + SESSION * 3)?;
    world.check_rest(&shards)
}

/// Instances start one after the other, and end one after the other: a step of growth moves a slot at most once, and a death only the slots
/// of the dead instance.
fn growth(seed: u64, wrong: Option<Wrong>) -> Checked {
    let mut world = World::new(seed, wrong);
    let shards: BTreeMap<Arc<str>, u16> = BTreeMap::new();
    let names = ["a", "b", "c", "d"];
    // The first instances start at about the same time.
    let first = world.random.usize(1..=3);
    for name in &names[..first] {
        world.start(name, 1);
        let pause = Duration::from_millis(world.random.u64(0..1_000));
        world.run(pause)?;
    }
    world.run(Duration::from_secs(30))?;
    world.check_rest(&shards)?;
    if !world.moves.is_empty() {
        return Err(format!("slots move while the first ones come: {:?}", world.moves));
    }
    for name in &names[first..] {
        world.start(name, 1);
        world.run(Duration::from_secs(40))?;
        world.check_rest(&shards)?;
        let moved = std::mem::take(&mut world.moves);
        let part = usize::from(SLOTS) / world.alive().len() + 1;
        if moved.values().any(|times| *times > 1) || moved.len() > part {
            return Err(format!("a step of growth moves {moved:?}"));
        }
    }
    while world.alive().len() > 1 {
        let alive = world.alive();
        let one = alive[world.random.usize(0..alive.len())];
        let had = world.processes[one].serving;
        let is_back = world.random.u8(0..3) == 0;
        if !is_back && world.random.bool() {
            world.give_up(one);
            world.run(Duration::from_secs(60))?;
            if !world.membership(one).held().is_empty() {
                return Err(format!("{} has given up, and holds {:?}", world.name(one), world.membership(one).held()));
            }
        }
        world.kill(one, true);
        if is_back {
            // A restarted instance keeps its slots, except for a remainder if it leads at once and has no table yet.
            let name = world.name(one);
            world.start(&name, 1);
        }
        world.run(Duration::from_secs(40))?;
        world.check_rest(&shards)?;
        let moved = std::mem::take(&mut world.moves);
        if moved.iter().any(|(slot, times)| *times > 1 || !had.contains(*slot)) || (is_back && moved.len() > 1) {
            return Err(format!("the end of one moves {moved:?}, it had {had:?}"));
        }
        if is_back {
            world.kill(*world.alive().last().expect("one"), false);
            world.run(Duration::from_secs(40))?;
            world.check_rest(&shards)?;
            world.moves.clear();
        }
    }
    Ok(())
}

fn finds(wrong: Wrong, body: fn(u64, Option<Wrong>) -> Checked, within: u64) {
    let found = (0..within).find_map(|seed| Some((seed, body(seed, Some(wrong)).err()?)));
    let (seed, why) = found.unwrap_or_else(|| panic!("{wrong:?} is not found within {within} seeds"));
    println!("{wrong:?}: seed {seed}: {why}");
}

#[test]
fn storms_leave_every_slot_with_one() {
    for seed in seeds(150) {
        storm(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn growth_moves_a_slot_once() {
    for seed in seeds(60) {
        growth(seed, None).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

#[test]
fn wrong_bodies_are_found() {
    finds(Wrong::HeldNotSaid, storm, 200);
    finds(Wrong::ReleasedEarly, storm, 200);
    finds(Wrong::HeardAtAnswer, storm, 3_000);
    finds(Wrong::LostServed, storm, 200);
    finds(Wrong::EvictedByName, storm, 500);
    finds(Wrong::AssignedOnce, storm, 200);
    finds(Wrong::NotGathered, growth, 200);
}

/// A drained instance has no slots while others come and go, and has a part again after that.
#[test]
fn a_drained_instance_has_nothing_until_it_takes_part_again() {
    for seed in seeds(20) {
        let mut world = World::new(seed, None);
        let names = ["a", "b", "c"];
        names.iter().for_each(|name| _ = world.start(name, 1));
        world.run(Duration::from_secs(30)).expect("no slot twice");
        let drained = world.random.usize(0..names.len());
        world.give_up(drained);
        world.run(Duration::from_secs(30)).expect("no slot twice");
        assert!(world.processes[drained].serving.is_empty(), "seed {seed}");
        world.moves.clear();
        // Another instance dies, and a fourth one starts.
        world.kill((drained + 1) % names.len(), false);
        world.start("d", 1);
        world.run(Duration::from_secs(60)).expect("no slot twice");
        assert!(world.processes[drained].serving.is_empty(), "seed {seed}");
        world.take_part(drained, 1);
        world.run(Duration::from_secs(60)).expect("no slot twice");
        world.check_rest(&BTreeMap::new()).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert!(!world.processes[drained].serving.is_empty(), "seed {seed}");
    }
}

/// Instances that differ in their routes are not one broker: only the larger set of them serves.
#[test]
fn those_with_other_routes_serve_nobody() {
    let mut world = World::new(1, None);
    world.start("a", 1);
    world.start("b", 1);
    world.terms.routes = 8;
    let other = world.start("c", 1);
    world.run(Duration::from_secs(30)).expect("no slot twice");
    assert!(world.processes[other].serving.is_empty());
    assert!(world.processes[other].troubles[0].contains("other routes"), "{:?}", world.processes[other].troubles);
    assert_eq!(world.processes[0].serving.len() + world.processes[1].serving.len(), usize::from(SLOTS));
    // In a rolling change, once two instances have the new routes, the third has no slots any more.
    world.kill(1, false);
    world.start("b", 1);
    world.run(Duration::from_secs(60)).expect("no slot twice");
    assert!(world.processes[0].serving.is_empty(), "{:?}", world.processes[0].serving);
    assert_eq!(world.processes[2].serving.len() + world.processes[3].serving.len(), usize::from(SLOTS));
}
