//! Tests of the replica: single steps here, owners in turn over a model of Kafka in `model`.

mod model;
mod parts;
mod units;

use self::model::{World, Wrong};
use forebay_runtime::seam::seeds;

#[test]
fn what_one_owner_has_told_the_next_one_finds() {
    let (mut told, mut taken, mut lost) = (0, 0, 0);
    for seed in seeds(150) {
        let mut world = World::new(seed, seed % 3 == 0, None);
        world.run(1500).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        (told, taken, lost) = (told + world.told, taken + world.taken, lost + world.lost);
    }
    // The model does what it is for.
    assert!(told > 1000 && taken > 500 && lost > 100, "told {told}, taken over {taken}, lost {lost}");
}

#[test]
fn each_wrong_body_is_found() {
    // With a seed that has found it, as some take hundreds.
    let all = [
        (Wrong::ReadBefore, 0),
        (Wrong::ToldAtSend, 0),
        (Wrong::NotClosed, 37),
        (Wrong::FreedFirst, 147),
        (Wrong::OffsetNotLookedAt, 13),
        (Wrong::NoBeat, 142),
        (Wrong::FrozenClock, 454),
    ];
    for (wrong, first) in all {
        let mut seeds = first..first + 2000;
        assert!(seeds.any(|seed| World::new(seed, true, Some(wrong)).run(1500).is_err()), "{wrong:?} is not found");
    }
}
