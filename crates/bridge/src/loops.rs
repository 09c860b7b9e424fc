//! Loops: messages that come round by bridges, of this instance and of others.
//!
//! A bridge of 5.0 marks each message with the broker that the message leaves: an `out` with this instance, an `in` with the remote. So
//! whoever takes part in a ring knows a message that comes round, however the ring is made. Before 5.0 a message has no place for a mark.
//! There only its contents are known: [`Rounds`] bounds how often the same ones pass.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::Url;
use super::granted::DIGITS;
use forebay_mqtt::property::{Properties, VIA};
use forebay_runtime::seam::Monotonic;

/// The most brokers that a message may come through.
const HOPS_MAX: usize = 8;

/// A message is the same one as before if it comes within this time.
const SILENCE: Duration = Duration::from_secs(10);
/// The number at which the same message is held back for the first time. The next ones are twice as many each time, so that a client that repeats itself
/// loses next to nothing, and a message that goes round ends.
const ROUNDS: u32 = 500;
/// The most of the same message within [`SILENCE`]: a ring that makes several of one has more and more of them.
const BURST: u32 = 500;
const SLOTS: usize = 256;
/// The most passes of a message that others of its slot have to outweigh.
const WEIGHT_MAX: u8 = 64;

/// The mark of a remote: its own digits, if it is another instance of Forebay and says so in CONNACK; otherwise digits that this
/// instance alone has for it.
#[must_use]
pub fn mark(told: Option<&str>, instance: &str, remote: &Url) -> String {
    match told {
        Some(told) if told != instance => told.to_owned(),
        _ => digits(format!("{instance}\0{}", remote.endpoint()).as_bytes()),
    }
}

/// The digits of a mark.
#[must_use]
pub fn digits(of: &[u8]) -> String {
    digest(&SHA256, of).as_ref()[..DIGITS / 2].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a message has come through one of these brokers already, or through as many as it may.
#[must_use]
pub fn is_looped(properties: Properties<'_>, brokers: &[&str]) -> bool {
    if properties.is_empty() {
        return false;
    }
    let via = || properties.user_properties().filter(|(name, _)| *name == VIA);
    via().any(|(_, through)| brokers.contains(&through)) || via().nth(HOPS_MAX - 1).is_some()
}

/// The brokers that a message has come through, in order, for people.
#[must_use]
pub fn way(properties: Properties<'_>) -> String {
    let via = properties.user_properties().filter(|(name, _)| *name == VIA);
    let shown = via.take(HOPS_MAX).map(|(_, through)| through.chars().take(DIGITS).collect::<String>());
    shown.collect::<Vec<_>>().join(" ")
}

/// `Rounds` counts messages without marks by their contents. Of the same message (topic and payload), with never more than ten seconds in between, the
/// 500th, 1,000th, 2,000th and so on do not pass; and none does while there are more than 500 within ten seconds, nor for ten seconds after.
#[derive(Debug, Default)]
pub struct Rounds {
    slots: Vec<Slot>,
    hasher: RandomState,
}

/// `Slot` counts one message of all those that share the slot: the most frequent one.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: u64,
    weight: u8,
    count: u32,
    last: Monotonic,
    /// The number within the present ten seconds, those before them, and when they began.
    burst: u32,
    burst_before: u32,
    burst_since: Monotonic,
}

impl Rounds {
    fn hash(&self, topic: &str, payload: &[u8]) -> u64 {
        self.hasher.hash_one((topic, payload))
    }

    /// Whether a message passes. It is not counted yet.
    #[must_use]
    pub fn may_pass(&self, topic: &str, payload: &[u8], now: Monotonic) -> bool {
        let hash = self.hash(topic, payload);
        let Some(slot) = self.slots.get(hash as usize % SLOTS) else { return true };
        if slot.hash != hash || now.since(slot.last) > SILENCE {
            return true;
        }
        let next = slot.count.saturating_add(1);
        let is_held_back = next % ROUNDS == 0 && (next / ROUNDS).is_power_of_two();
        !is_held_back && slot.burst < BURST && slot.burst_before < BURST
    }

    /// Counts a message, whether it passes or not.
    pub fn count(&mut self, topic: &str, payload: &[u8], now: Monotonic) {
        let hash = self.hash(topic, payload);
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, Slot::default());
        }
        let slot = &mut self.slots[hash as usize % SLOTS];
        if slot.hash != hash && slot.weight > 0 {
            slot.weight -= 1;
            return;
        }
        if slot.hash != hash || now.since(slot.last) > SILENCE {
            *slot = Slot { hash, burst_since: now, ..Slot::default() };
        }
        if now.since(slot.burst_since) > SILENCE {
            (slot.burst_before, slot.burst, slot.burst_since) = (slot.burst, 0, now);
        }
        slot.weight = slot.weight.saturating_add(1).min(WEIGHT_MAX);
        slot.count = slot.count.saturating_add(1);
        slot.burst = slot.burst.saturating_add(1);
        slot.last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic(0).after(Duration::from_millis(ms))
    }

    /// Passes one message each `every` milliseconds, and returns the numbers of those that are held back.
    fn held_back(count: u64, every: u64, payload: impl Fn(u64) -> String) -> Vec<u64> {
        let mut rounds = Rounds::default();
        let mut held = Vec::new();
        for n in 1..=count {
            let (payload, now) = (payload(n), at(n * every));
            if !rounds.may_pass("t", payload.as_bytes(), now) {
                held.push(n);
            }
            rounds.count("t", payload.as_bytes(), now);
        }
        held
    }

    #[test]
    fn finding_q41_the_same_message_is_held_back_now_and_then() {
        let same = |_| "same".to_owned();
        assert_eq!(held_back(20_000, 100, same), [500, 1_000, 2_000, 4_000, 8_000, 16_000]);
        assert_eq!(held_back(20_000, 10_001, same), [0; 0], "not once in ten seconds");
        assert_eq!(held_back(20_000, 1, |n| n.to_string()), [0; 0], "other contents");
        let mut rounds = Rounds::default();
        let mut passed = |count: u64, now: Monotonic| {
            let passes = (0..count).filter(|_| {
                let passes = rounds.may_pass("t", b"", now);
                rounds.count("t", b"", now);
                passes
            });
            passes.count()
        };
        assert_eq!(passed(20_000, at(1)), 499, "the 500th is held back, and all that come so soon after it");
        assert_eq!((passed(10, at(10_000)), passed(1, at(10_002)), passed(10, at(19_000))), (0, 0, 0));
        assert_eq!((passed(1, at(20_003)), passed(10, at(20_004))), (0, 10), "there are few of it by now");
    }

    #[test]
    fn finding_q41_a_message_that_goes_round_is_seen_among_others() {
        let mut rounds = Rounds::default();
        let passed = |rounds: &mut Rounds, payload: &str, now| {
            let passes = rounds.may_pass("t", payload.as_bytes(), now);
            rounds.count("t", payload.as_bytes(), now);
            passes
        };
        let ends = (1..10_000_u64).find(|n| {
            (0..20).for_each(|other| assert!(passed(&mut rounds, &format!("{n} {other}"), at(*n))));
            !passed(&mut rounds, "ring", at(*n))
        });
        assert!(ends.is_some_and(|ends| ends < 1_000), "{ends:?}");
    }
}
