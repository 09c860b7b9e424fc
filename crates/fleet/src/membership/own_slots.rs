//! The slots of one instance among others: the slots that the group assigns and revokes, the steps before another instance may have a slot,
//! and the instance's departure. A pure state machine: news and time in, actions out. The thread that started the shards drives it, and so
//! does the simulator.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{News, Table};
use forebay_runtime::seam::Monotonic;

/// `READY_WITHIN` bounds how long clients wait for all slots to be served.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// How long an instance that stops may take to give its slots away, within the grace of the drain, and how long it waits while nothing
/// happens: the other instances may be stopping, too.
pub const GIVE_UP_WITHIN: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_secs(5);

/// How long leaving the group may take. Without an answer the other instances wait for the end of the session.
pub const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// An action for the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Do {
    /// Take over the log of this slot. The result goes to [`OwnSlots::taken`], once.
    TakeOver(u16),
    /// The log is not wanted any more, whether or not the takeover is in progress.
    WantNoMore(u16),
    /// Give the log that was taken over to this shard.
    Give(u16, usize),
    /// Make this shard give up the slot, and report to [`OwnSlots::gone`].
    Release(u16, usize),
    /// Make this shard drop the slot at once.
    Drop(u16, usize),
    /// Report to the group that the slot is not served here any more.
    Released(u16),
}

/// The slots of one instance.
#[derive(Debug)]
pub struct OwnSlots {
    shards: usize,
    all: BTreeMap<u16, Slot>,
    /// Whether the table assigns every slot to an instance.
    has_all: bool,
    /// When the first table arrived from the group.
    told_at: Option<Monotonic>,
    has_left: bool,
}

/// A slot that the group has assigned to this instance, or that is not released completely yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    /// The shard that has the slot.
    shard: Option<usize>,
    /// Whether the slot's sessions are loaded.
    is_up: bool,
    /// Whether the group assigns the slot to this instance.
    is_wanted: bool,
    /// Whether the slot's log is being taken over.
    is_taking: bool,
    /// Whether the group waits for the report that the slot is given back.
    is_awaited: bool,
}

impl OwnSlots {
    /// A state in which none of `shards` shards has a slot.
    #[must_use]
    pub const fn new(shards: usize) -> Self {
        Self { shards, all: BTreeMap::new(), has_all: false, told_at: None, has_left: false }
    }

    /// Whether no slots are assigned or still being released.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether every slot is assigned to an instance, and the own slots are up.
    fn are_up(&self) -> bool {
        self.has_all && self.all.values().all(|of| !of.is_wanted || of.is_up)
    }

    /// Whether clients are accepted: every slot is assigned and the own ones are up, or [`READY_WITHIN`] has passed since the first table.
    #[must_use]
    pub fn is_ready(&self, now: Monotonic) -> bool {
        self.told_at.is_some_and(|at| self.are_up() || now.since(at) >= READY_WITHIN)
    }

    /// Handles news of the group.
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
        // The slot was lost without the group's decision, and the shard's report is still pending.
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

    /// Handles the end of a takeover: the log was taken over (`has_log`), or was not wanted any more.
    pub fn taken(&mut self, slot: u16, has_log: bool) -> Option<Do> {
        let of = self.all.get_mut(&slot)?;
        of.is_taking = false;
        if !of.is_wanted {
            return self.over(slot);
        }
        if !has_log {
            // The slot was unwanted for a while.
            of.is_taking = true;
            return Some(Do::TakeOver(slot));
        }
        let shard = self.emptiest();
        let of = self.all.entry(slot).or_default();
        (of.shard, of.is_up) = (Some(shard), false);
        Some(Do::Give(slot, shard))
    }

    /// Handles a shard's report that the sessions of a slot are loaded.
    pub fn up(&mut self, slot: u16) {
        if let Some(of) = self.all.get_mut(&slot) {
            of.is_up = of.shard.is_some();
        }
    }

    /// Handles a shard's report that a slot is given up, or that another process has its log.
    pub fn gone(&mut self, slot: u16) -> Option<Do> {
        let of = self.all.get_mut(&slot)?;
        of.shard.take()?;
        // A slot that another process has fenced is free until the group assigns it again.
        (of.is_wanted, of.is_awaited) = (false, true);
        self.over(slot)
    }

    /// Forgets a slot that is not wanted, once this instance has nothing of it, and reports that if the group waits for it. A thread that
    /// takes over the slot's log must end first: it would fence the next owner.
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

/// The departure of an instance: it asks the group to give its slots to other instances ([`super::Membership::give_up`]), waits until they
/// have them, and leaves the group.
#[derive(Debug)]
pub struct Leaving {
    /// Whether the group was asked to forget this instance.
    has_asked: bool,
    end: Monotonic,
    /// The own slots when one of them last changed, and the end of the wait for the next change.
    seen: BTreeMap<u16, Slot>,
    quiet: Monotonic,
}

/// The next step of an instance that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Wait for an event that concerns slots, at most until this time.
    Wait(Monotonic),
    /// Leave the group.
    Leave,
    /// Nothing: the instance has left, or the group did not answer in time.
    Over,
}

impl Leaving {
    /// Begins the departure, with the grace of the drain.
    #[must_use]
    pub fn new(grace: Duration, now: Monotonic) -> Self {
        let end = now.after(grace.min(GIVE_UP_WITHIN));
        Self { has_asked: false, end, seen: BTreeMap::new(), quiet: now.after(QUIET) }
    }

    /// The action that is due. Only a change of an own slot extends the wait: the group makes tables for as long as a slot has no owner.
    pub fn step(&mut self, slots: &OwnSlots, now: Monotonic) -> Leave {
        if self.has_asked {
            return if slots.has_left || now >= self.end { Leave::Over } else { Leave::Wait(self.end) };
        }
        if self.seen != slots.all {
            (self.seen, self.quiet) = (slots.all.clone(), now.after(QUIET));
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
        // The group gets a report on a slot that another process has taken, but not on one that the group has reassigned.
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
        own.taken(1, true);
        let later = quiet.after(QUIET);
        assert_eq!(leaving.step(&own, quiet), Leave::Wait(later));
        // The leader asks for a table every few seconds while a slot has no owner.
        own.hear(&News::Table(Arc::new(Table { owners: vec![None, Some(0)], ..Table::default() })), later);
        assert_eq!(leaving.step(&own, later), Leave::Leave);
        let end = later.after(LEAVE_WITHIN);
        assert_eq!((leaving.step(&own, later), leaving.step(&own, end)), (Leave::Wait(end), Leave::Over));
        // Constant events do not extend the bound.
        let mut leaving = Leaving::new(grace, NOW);
        let most = NOW.after(GIVE_UP_WITHIN);
        own.up(1);
        assert_eq!(leaving.step(&own, most), Leave::Leave);
        own.hear(&News::Left, NOW);
        assert_eq!(leaving.step(&own, most), Leave::Over);
        // An instance without slots leaves at once.
        assert_eq!(Leaving::new(grace, NOW).step(&OwnSlots::new(1), NOW), Leave::Leave);
    }

    #[test]
    fn a_slot_that_is_being_taken_over_is_given_back_when_that_has_ended() {
        let mut own = OwnSlots::new(1);
        own.hear(&News::Take(set(&[7])), NOW);
        assert_eq!(own.hear(&News::Release(set(&[7])), NOW), [Do::WantNoMore(7)]);
        assert_eq!(own.taken(7, true), Some(Do::Released(7)), "its log is dropped");
        // The slot is wanted again before the thread has ended: the thread's log is as good as another.
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
            // Everything in progress ends.
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
