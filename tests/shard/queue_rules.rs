//! Rules B1, B7, B8 and B9 taken out, one by one: each must be noticed. `scripts/faults broken` does the same to the built service.

use std::time::Duration;

use forebay::mqtt::packet::QoS;
use forebay::rules::{KEPT, Rules};

use super::queues::{Heard, QOS_1, answer, back, config, hear, kept, lose, rest, say};
use super::world::World;

/// What was noticed, if anything: one client is away and one there while messages come, and the power goes twice.
fn noticed(rules: &'static dyn Rules) -> Option<&'static str> {
    let mut world = World::under(rules, &config());
    let (away, there) = (kept(&mut world, "away", QOS_1), kept(&mut world, "there", QOS_1));
    lose(&mut world, away);
    let publisher = world.device_v5("p");
    world.table.disk.slow = true;
    say(&mut world, publisher, QoS::AtLeastOnce, 1, "a");
    if !hear(&mut world, publisher).is_empty() {
        return Some("acknowledged before it is on the disk");
    }
    world.table.disk.slow = false;
    world.advance(Duration::from_millis(1));
    assert_eq!(hear(&mut world, publisher), [Heard::Answer { kind: 4, id: 1 }]);
    answer(&mut world, there, 4, 1);
    rest(&mut world);
    world.power_cut();
    let (away, behind) = back(&mut world, "away");
    if behind.is_empty() {
        return Some("a message is gone");
    }
    answer(&mut world, away, 4, 1);
    rest(&mut world);
    world.power_cut();
    let (away, behind) = back(&mut world, "away");
    if !behind.is_empty() {
        return Some("what was acknowledged comes again");
    }
    lose(&mut world, away);
    for _ in 0..2 {
        let publisher = back(&mut world, "kept publisher").0;
        say(&mut world, publisher, QoS::ExactlyOnce, 7, "b");
        world.advance(Duration::from_millis(1));
        world.power_cut();
    }
    (back(&mut world, "away").1.len() > 1).then_some("what was sent again comes twice")
}

#[derive(Debug)]
struct ConfirmsBeforeSync;

impl Rules for ConfirmsBeforeSync {
    fn may_confirm(&self, _: u64, _: u64) -> bool {
        true
    }
}

#[derive(Debug)]
struct MessageLost;

impl Rules for MessageLost {
    fn restores_message(&self, _: u64) -> bool {
        false
    }
}

#[derive(Debug)]
struct ExchangesLost;

impl Rules for ExchangesLost {
    fn restores_exchanges(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct EndLost;

impl Rules for EndLost {
    fn writes_end(&self, _: u64) -> bool {
        false
    }
}

#[test]
fn a_rule_that_is_taken_out_is_noticed() {
    assert_eq!(noticed(&KEPT), None);
    assert_eq!(noticed(&ConfirmsBeforeSync), Some("acknowledged before it is on the disk"));
    assert_eq!(noticed(&MessageLost), Some("a message is gone"));
    assert_eq!(noticed(&ExchangesLost), Some("what was sent again comes twice"));
    assert_eq!(noticed(&EndLost), Some("what was acknowledged comes again"));
}
