//! Rules of subscribers (B) taken out, one by one: each must be noticed, by seeds, and those of the disk by a script as well. `scripts/faults broken`
//! does the same to the built service.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use forebay::mqtt::packet::QoS;
use forebay::rules::{KEPT, Rules};

use super::access::retained_by_one_who_lost_a_right;
use super::queues::{Heard, QOS_1, QOS_2, answer, back, config, hear, kept, lose, rest, said, say};
use super::world::World;
use super::{exchanges, queues, several, shares_crash, shares_several};

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

/// What was noticed of a client that gets messages of QoS 2, if anything: the power goes after each step, before what it does is on the disk.
fn noticed_at_qos_2(rules: &'static dyn Rules) -> Option<&'static str> {
    let mut world = World::under(rules, &config());
    let subscriber = kept(&mut world, "s", QOS_2);
    let publisher = world.device_v5("p");
    world.table.disk.slow = true;
    say(&mut world, publisher, QoS::ExactlyOnce, 1, "a");
    if !hear(&mut world, subscriber).is_empty() {
        return Some("sent before its number is on the disk");
    }
    world.table.disk.slow = false;
    world.advance(Duration::from_millis(1));
    assert_eq!(hear(&mut world, subscriber), [said(2, 1, "a")]);
    world.table.disk.slow = true;
    answer(&mut world, subscriber, 5, 1);
    if !hear(&mut world, subscriber).is_empty() {
        return Some("released before it is on the disk that the client has it");
    }
    world.table.disk.slow = false;
    world.advance(Duration::from_millis(1));
    answer(&mut world, subscriber, 7, 1);
    rest(&mut world);
    world.power_cut();
    let publisher = world.device_v5("p");
    say(&mut world, publisher, QoS::ExactlyOnce, 1, "b");
    world.advance(Duration::from_millis(1));
    match back(&mut world, "s").1.as_slice() {
        [Heard::Message { id: 2, .. }] => None,
        [] => Some("a start does not know who has subscribed"),
        _ => Some("a packet identifier is used again"),
    }
}

/// A rule that is not kept.
macro_rules! wrong {
    ($($name:ident { fn $method:ident(&self $($args:tt)*) -> $type:ty $body:block })+) => {
        $(
            #[derive(Debug)]
            struct $name;

            impl Rules for $name {
                fn $method(&self $($args)*) -> $type $body
            }
        )+
    };
}

wrong! {
    ConfirmsBeforeSync { fn may_confirm(&self, _: u64, _: u64) -> bool { true } }
    RestoredUnseen { fn enters_restored(&self) -> bool { false } }
    NumbersBeginAgain { fn next_number(&self, _: u64) -> u64 { 0 } }
    PublishesBeforeSync { fn publish_waits_for(&self, _: u64) -> u64 { 0 } }
    ReleasesBeforeSync { fn pubrel_waits_for(&self, _: u64) -> u64 { 0 } }
    MessageLost { fn restores_message(&self, _: u64) -> bool { false } }
    ExchangesLost { fn restores_exchanges(&self) -> bool { false } }
    EndLost { fn writes_end(&self, _: u64) -> bool { false } }
    ReplaysAtOnce { fn may_replay(&self, _: u64) -> bool { true } }
    SendsAnyRetained { fn may_send_retained(&self, _: bool) -> bool { true } }
    BindsWithoutRoom { fn may_bind(&self, _: bool) -> bool { true } }
}

#[test]
fn a_rule_that_is_taken_out_is_noticed() {
    assert_eq!(noticed(&KEPT), None);
    assert_eq!(noticed(&ConfirmsBeforeSync), Some("acknowledged before it is on the disk"));
    assert_eq!(noticed(&MessageLost), Some("a message is gone"));
    assert_eq!(noticed(&ExchangesLost), Some("what was sent again comes twice"));
    assert_eq!(noticed(&EndLost), Some("what was acknowledged comes again"));
    assert_eq!(noticed_at_qos_2(&KEPT), None);
    assert_eq!(noticed_at_qos_2(&PublishesBeforeSync), Some("sent before its number is on the disk"));
    assert_eq!(noticed_at_qos_2(&ReleasesBeforeSync), Some("released before it is on the disk that the client has it"));
    assert_eq!(noticed_at_qos_2(&RestoredUnseen), Some("a start does not know who has subscribed"));
    assert_eq!(noticed_at_qos_2(&NumbersBeginAgain), Some("a packet identifier is used again"));
    assert_eq!(retained_by_one_who_lost_a_right(&KEPT).0.len(), 1);
    assert_eq!(retained_by_one_who_lost_a_right(&SendsAnyRetained).0.len(), 3);
}

/// A run of one seed.
type Run = fn(&'static dyn Rules, u64);

const OF_QUEUES: Run = |rules, seed| {
    queues::run(rules, seed);
};
const OF_EXCHANGES: Run = |rules, seed| {
    exchanges::run(rules, seed);
};
const OF_SEVERAL: Run = |rules, seed| {
    several::run(rules, seed);
};
const OF_SHARES: Run = |rules, seed| {
    shares_several::run(rules, "round-robin", seed);
};

const OF_SHARES_IN_THE_LOG: Run = |rules, seed| {
    shares_crash::run(rules, "round-robin", seed);
};

/// Seeds that must do.
const SEEDS: u64 = 30;

/// The first seed that fails under these rules, and what it says.
fn first_red(rules: &'static dyn Rules, run: Run) -> Option<(u64, String)> {
    (0..SEEDS).find_map(|seed| {
        let panicked = panic::catch_unwind(AssertUnwindSafe(|| run(rules, seed))).err()?;
        let words = panicked.downcast_ref::<String>().cloned();
        Some((
            seed,
            words.or_else(|| panicked.downcast_ref::<&str>().map(|words| (*words).to_owned())).unwrap_or_default(),
        ))
    })
}

#[test]
fn seeds_find_each_rule_that_is_taken_out() {
    let all: [(&'static dyn Rules, Run, &str); 14] = [
        (&ConfirmsBeforeSync, OF_QUEUES, "has not got"),
        (&RestoredUnseen, OF_QUEUES, "has not got"),
        (&NumbersBeginAgain, OF_QUEUES, "has not got"),
        (&PublishesBeforeSync, OF_QUEUES, "has not got"),
        (&ReleasesBeforeSync, OF_QUEUES, "again at QoS 2"),
        (&MessageLost, OF_QUEUES, "has not got"),
        (&ExchangesLost, OF_EXCHANGES, "again"),
        (&EndLost, OF_QUEUES, "(J11)"),
        (&ReplaysAtOnce, OF_SEVERAL, "(J8)"),
        (&BindsWithoutRoom, OF_SHARES, "(J9)"),
        (&ConfirmsBeforeSync, OF_SHARES_IN_THE_LOG, "(J9)"),
        (&MessageLost, OF_SHARES_IN_THE_LOG, "reached no member"),
        (&EndLost, OF_SHARES_IN_THE_LOG, "(J11)"),
        (&PublishesBeforeSync, OF_SHARES_IN_THE_LOG, "(J9)"),
    ];
    let mut wrong = Vec::new();
    for (rules, run, expected) in all {
        let found = first_red(rules, run);
        println!("{rules:?}: {found:?}");
        if found.is_none_or(|(_, words)| !words.contains(expected)) {
            wrong.push(format!("{rules:?}"));
        }
    }
    assert!(wrong.is_empty(), "not found, or by other words: {wrong:?}");
}
