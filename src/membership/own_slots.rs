//! The slots of an instance among others: what the group gives it and takes from it, what has to be over before another instance may have it, and how the
//! instance leaves. A pure state: news and time in, things to do out. The thread that has started the shards drives it, and so does the simulator.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{News, Table};
use crate::runtime::seam::Monotonic;

/// `READY_WITHIN` bounds how long clients wait for all slots to be served.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long an instance that stops may take to give its slots away, within the grace of the drain, and how long it waits while nothing happens: the others may
/// be about to stop, too.
pub const GIVE_UP_WITHIN: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_secs(5);

/// How long leaving the group may take. Without an answer the others wait for the end of the session.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Take the log of this slot over. It is heard of once: [`OwnSlots::taken`].
    TakeOver(u16),
    /// The log is not wanted any more, whether that is under way or not.
    WantNoMore(u16),
    /// Give the log that was taken over to this shard.
    Give(u16, usize),
    /// Have this shard give the slot up: [`OwnSlots::gone`].
    Release(u16, usize),
    /// Have this shard drop the slot at once.
    Drop(u16, usize),
    /// Tell the group that the slot is not served here any more.
    Released(u16),
}

/// The slots.
#[derive(Debug)]
pub struct OwnSlots {
    shards: usize,
    all: BTreeMap<u16, Slot>,
    /// Whether the table gives each slot to an instance.
    has_all: bool,
    /// When the group has said first who serves what.
    told_at: Option<Monotonic>,
    has_left: bool,
}

/// A slot that the group has given to this instance, or that is not over yet.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// The shard that has it.
    shard: Option<usize>,
    /// Whether its sessions are there.
    is_up: bool,
    /// Whether the group gives it to this instance.
    is_wanted: bool,
    /// Whether its log is being taken over.
    is_taking: bool,
    /// Whether the group waits to hear that it is given back.
    is_awaited: bool,
}

impl OwnSlots {
    /// None of this many shards has any.
    #[must_use]
    pub const fn new(shards: usize) -> Self {
        Self { shards, all: BTreeMap::new(), has_all: false, told_at: None, has_left: false }
    }

    /// Whether there are none, nor any that are not over yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether each slot is given to an instance, and the own ones are up.
    fn are_up(&self) -> bool {
        self.has_all && self.all.values().all(|of| !of.is_wanted || of.is_up)
    }

    /// Whether clients are accepted: each slot is served, and the own ones are up; or [`READY_WITHIN`] is over since the group has answered.
    #[must_use]
    pub fn is_ready(&self, now: Monotonic) -> bool {
        self.told_at.is_some_and(|at| self.are_up() || now.since(at) >= READY_WITHIN)
    }

    /// Takes news of the group.
    pub fn hear(&mut self, news: &News, now: Monotonic) -> Vec<Do> {
        match news {
            News::Table(table) => {
                self.told_at.get_or_insert(now);
                self.see(table);
                Vec::new()
            }
            News::Left => {
                self.has_left = true;
                Vec::new()
            }
            News::Take(slots) => slots.iter().flat_map(|slot| self.take(slot)).collect(),
            News::Release(slots) => slots.iter().flat_map(|slot| self.release(slot)).collect(),
            News::Lost(slots) => slots.iter().flat_map(|slot| self.lose(slot)).collect(),
            News::Silent(_) | News::Fenced | News::Trouble(_) | News::TroubleOver => Vec::new(),
        }
    }

    fn see(&mut self, table: &Table) {
        self.has_all = table.owners.iter().all(Option::is_some);
    }

    fn take(&mut self, slot: u16) -> Vec<Do> {
        let of = self.all.entry(slot).or_default();
        (of.is_wanted, of.is_awaited) = (true, false);
        // It was lost without the group's doing, and the shard's word is on its way.
        let dropped = of.shard.take().map(|shard| Do::Drop(slot, shard));
        let takes = !std::mem::replace(&mut of.is_taking, true);
        dropped.into_iter().chain(takes.then_some(Do::TakeOver(slot))).collect()
    }

    fn release(&mut self, slot: u16) -> Vec<Do> {
        let of = self.all.entry(slot).or_default();
        (of.is_wanted, of.is_awaited) = (false, true);
        let release = of.shard.map(|shard| Do::Release(slot, shard));
        [Some(Do::WantNoMore(slot)), release, self.over(slot)].into_iter().flatten().collect()
    }

    fn lose(&mut self, slot: u16) -> Vec<Do> {
        let Some(of) = self.all.get_mut(&slot) else { return Vec::new() };
        (of.is_wanted, of.is_awaited) = (false, false);
        let dropped = of.shard.take().map(|shard| Do::Drop(slot, shard));
        [Some(Do::WantNoMore(slot)), dropped, self.over(slot)].into_iter().flatten().collect()
    }

    /// Takes the word that a log was taken over (`has_log`), or that it was not wanted any more.
    pub fn taken(&mut self, slot: u16, has_log: bool) -> Option<Do> {
        let of = self.all.get_mut(&slot)?;
        of.is_taking = false;
        if !of.is_wanted {
            return self.over(slot);
        }
        if !has_log {
            // It was not wanted for a while.
            of.is_taking = true;
            return Some(Do::TakeOver(slot));
        }
        let shard = self.emptiest();
        let of = self.all.entry(slot).or_default();
        (of.shard, of.is_up) = (Some(shard), false);
        Some(Do::Give(slot, shard))
    }

    /// Takes a shard's word that the sessions of a slot are there.
    pub fn up(&mut self, slot: u16) {
        if let Some(of) = self.all.get_mut(&slot) {
            of.is_up = of.shard.is_some();
        }
    }

    /// Takes a shard's word that a slot is given up, or that its log is another process's.
    pub fn gone(&mut self, slot: u16) -> Option<Do> {
        let of = self.all.get_mut(&slot)?;
        of.shard.take()?;
        // A slot that another process has fenced is free until the group gives it away again.
        (of.is_wanted, of.is_awaited) = (false, true);
        self.over(slot)
    }

    /// Forgets a slot that is not wanted, once nothing of it is here; and says so, if the group waits for that. A thread that takes its log over has to end first:
    /// it would fence the next owner.
    fn over(&mut self, slot: u16) -> Option<Do> {
        let of = self.all.get(&slot).copied()?;
        if of.is_wanted || of.is_taking || of.shard.is_some() {
            return None;
        }
        self.all.remove(&slot);
        of.is_awaited.then_some(Do::Released(slot))
    }

    /// The shard with the fewest slots.
    fn emptiest(&self) -> usize {
        let mut counts = vec![0; self.shards];
        self.all.values().filter_map(|of| of.shard).for_each(|shard| counts[shard] += 1);
        (0..self.shards).min_by_key(|shard| counts[*shard]).unwrap_or(0)
    }
}

/// How an instance leaves the others: it asks the group to give its slots to others ([`super::Membership::give_up`]), waits until they have them, and leaves the group.
#[derive(Debug)]
pub struct Leaving {
    /// Whether the group was asked to forget this instance.
    has_asked: bool,
    end: Monotonic,
    quiet: Monotonic,
}

/// What an instance that leaves does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Wait for something that concerns slots ([`Leaving::heard`]), until then at most.
    Wait(Monotonic),
    /// Leave the group.
    Leave,
    /// Nothing: it has left, or there was no answer in time.
    Over,
}

impl Leaving {
    /// It begins, with the grace of the drain.
    #[must_use]
    pub fn new(grace: Duration, now: Monotonic) -> Self {
        Self { has_asked: false, end: now.after(grace.min(GIVE_UP_WITHIN)), quiet: now.after(QUIET) }
    }

    /// Notes that something has happened to a slot, or in the group.
    pub fn heard(&mut self, now: Monotonic) {
        self.quiet = now.after(QUIET);
    }

    /// The action that is due.
    pub fn step(&mut self, slots: &OwnSlots, now: Monotonic) -> Leave {
        if self.has_asked {
            return if slots.has_left || now >= self.end { Leave::Over } else { Leave::Wait(self.end) };
        }
        let until = self.end.min(self.quiet);
        if !slots.is_empty() && now < until {
            return Leave::Wait(until);
        }
        (self.has_asked, self.end) = (true, now.after(LEAVE_WITHIN));
        Leave::Leave
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::membership::SlotSet;

    const NOW: Monotonic = Monotonic(1_000_000_000);

    fn set(slots: &[u16]) -> SlotSet {
        slots.iter().copied().collect()
    }

    #[test]
    fn a_slot_comes_to_the_shard_with_the_fewest_and_goes_when_that_has_said_so() {
        let mut own = OwnSlots::new(2);
        assert_eq!(own.hear(&News::Take(set(&[3, 4, 5])), NOW), [3, 4, 5].map(Do::TakeOver));
        let given: Vec<_> = [4, 3, 5].into_iter().map(|slot| own.taken(slot, true)).collect();
        assert_eq!(given, [Do::Give(4, 0), Do::Give(3, 1), Do::Give(5, 0)].map(Some));
        own.hear(&News::Table(Arc::new(Table { owners: vec![Some(0); 6], ..Table::default() })), NOW);
        [3, 4].into_iter().for_each(|slot| own.up(slot));
        assert!(!own.are_up());
        own.up(5);
        assert!(own.are_up());
        assert_eq!(own.hear(&News::Release(set(&[4])), NOW), [Do::WantNoMore(4), Do::Release(4, 0)]);
        assert_eq!(own.gone(4), Some(Do::Released(4)));
        // One that another process has taken, the group is told of; one that the group has given away, it need not be.
        assert_eq!(own.gone(3), Some(Do::Released(3)));
        assert_eq!(own.hear(&News::Lost(set(&[5])), NOW), [Do::WantNoMore(5), Do::Drop(5, 0)]);
        assert_eq!((own.gone(5), own.is_empty()), (None, true));
    }

    #[test]
    fn clients_are_accepted_when_all_slots_are_served_or_ten_seconds_after_the_first_table() {
        let mut own = OwnSlots::new(1);
        assert!(!own.is_ready(NOW.after(READY_WITHIN)), "the group has not answered");
        own.hear(&News::Table(Arc::new(Table { owners: vec![Some(0), None], ..Table::default() })), NOW);
        let just_before = Monotonic(NOW.after(READY_WITHIN).0 - 1);
        assert!(!own.is_ready(just_before) && own.is_ready(NOW.after(READY_WITHIN)));
        own.hear(&News::Table(Arc::new(Table { owners: vec![Some(0), Some(1)], ..Table::default() })), NOW);
        assert!(own.is_ready(NOW));
    }

    #[test]
    fn an_instance_leaves_when_its_slots_are_given_away_or_nothing_happens_any_more() {
        let mut own = OwnSlots::new(1);
        own.hear(&News::Take(set(&[1])), NOW);
        let (quiet, grace) = (NOW.after(QUIET), Duration::from_secs(60));
        let mut leaving = Leaving::new(grace, NOW);
        assert_eq!(leaving.step(&own, NOW), Leave::Wait(quiet));
        leaving.heard(quiet);
        let later = quiet.after(QUIET);
        assert_eq!((leaving.step(&own, quiet), leaving.step(&own, later)), (Leave::Wait(later), Leave::Leave));
        let end = later.after(LEAVE_WITHIN);
        assert_eq!((leaving.step(&own, later), leaving.step(&own, end)), (Leave::Wait(end), Leave::Over));
        // What happens all the time does not make it longer than it may be.
        let mut leaving = Leaving::new(grace, NOW);
        let most = NOW.after(GIVE_UP_WITHIN);
        leaving.heard(most);
        assert_eq!(leaving.step(&own, most), Leave::Leave);
        own.hear(&News::Left, NOW);
        assert_eq!(leaving.step(&own, most), Leave::Over);
        // Without slots it leaves at once.
        assert_eq!(Leaving::new(grace, NOW).step(&OwnSlots::new(1), NOW), Leave::Leave);
    }

    #[test]
    fn a_slot_that_is_being_taken_over_is_given_back_when_that_has_ended() {
        let mut own = OwnSlots::new(1);
        own.hear(&News::Take(set(&[7])), NOW);
        assert_eq!(own.hear(&News::Release(set(&[7])), NOW), [Do::WantNoMore(7)]);
        assert_eq!(own.taken(7, true), Some(Do::Released(7)), "its log is dropped");
        // It is wanted again before the thread has ended: the log that this has is as good as another.
        own.hear(&News::Take(set(&[7])), NOW);
        own.hear(&News::Lost(set(&[7])), NOW);
        assert!(own.hear(&News::Take(set(&[7])), NOW).is_empty());
        assert_eq!(own.taken(7, false), Some(Do::TakeOver(7)));
        assert_eq!(own.taken(7, true), Some(Do::Give(7, 0)));
        assert_eq!(
            own.hear(&News::Release(set(&[9])), NOW),
            [Do::WantNoMore(9), Do::Released(9)],
            "nothing of it is here"
        );
    }

    /// In any order of events one thread at a time takes a log over, one shard at a time has a slot, and the group gets each answer that it waits for.
    #[test]
    fn events_come_in_any_order() {
        for seed in 0..2_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut own, slot) = (OwnSlots::new(3), 5);
            let (mut is_taking, mut at, mut awaited, mut held) = (false, BTreeSet::new(), false, false);
            let mut leaving = None;
            for _ in 0..60 {
                let todo: Vec<Do> = match rng.u8(..6) {
                    0 if !held => {
                        held = true;
                        own.hear(&News::Take(set(&[slot])), NOW)
                    }
                    1 if held && !awaited => {
                        awaited = true;
                        own.hear(&News::Release(set(&[slot])), NOW)
                    }
                    2 if held => {
                        (held, awaited) = (false, false);
                        own.hear(&News::Lost(set(&[slot])), NOW)
                    }
                    3 if is_taking => {
                        is_taking = false;
                        own.taken(slot, rng.bool()).into_iter().collect()
                    }
                    4 if leaving.is_some() => {
                        at.remove(&leaving.take().expect("one"));
                        own.gone(slot).into_iter().collect()
                    }
                    // Another process takes the log.
                    5 if leaving.is_none() && !at.is_empty() => {
                        at.clear();
                        own.gone(slot).into_iter().collect()
                    }
                    _ => continue,
                };
                for one in todo {
                    match one {
                        Do::TakeOver(_) => assert!(!std::mem::replace(&mut is_taking, true), "{seed}: two threads"),
                        Do::WantNoMore(_) => {}
                        Do::Give(_, shard) => {
                            at.insert(shard);
                            assert_eq!(at.len(), 1, "{seed}: two shards");
                        }
                        Do::Release(_, shard) => leaving = Some(shard),
                        Do::Drop(_, shard) => {
                            at.remove(&shard);
                            leaving = None;
                        }
                        Do::Released(_) => {
                            assert!(
                                !is_taking && at.is_empty(),
                                "{seed}: it is given back, and something of it is here"
                            );
                            (held, awaited) = (false, false);
                        }
                    }
                }
            }
            // All that is under way ends.
            while is_taking || leaving.is_some() {
                let todo = if is_taking {
                    is_taking = false;
                    own.taken(slot, true)
                } else {
                    at.remove(&leaving.take().expect("one"));
                    own.gone(slot)
                };
                match todo {
                    Some(Do::TakeOver(_)) => is_taking = true,
                    Some(Do::Give(_, shard)) => _ = at.insert(shard),
                    Some(Do::Released(_)) => (held, awaited) = (false, false),
                    _ => {}
                }
            }
            assert!(!awaited, "{seed}: the group waits for ever");
            assert_eq!(!held, own.is_empty(), "{seed}");
        }
    }
}
