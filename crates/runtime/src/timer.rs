//! The timer wheel: many deadlines, constant cost each. Pure data: the caller passes the time.
//!
//! Eight levels of 64 slots, one tick per slot of the lowest level. A deadline is at the level of the highest group of six bits in
//! which it differs from now, so everything at a level is ahead within that level's turn, and each timer moves down at most seven
//! times. Eight levels hold every tick that fits into 64 bits of nanoseconds.

use std::time::Duration;

use super::seam::{Monotonic, TimerId};

/// Resolution: a timer fires at the first tick at or after its deadline, never before.
pub(crate) const TICK: Duration = Duration::from_millis(1);

const TICK_NS: u64 = TICK.as_nanos() as u64;
const GROUP_BITS: u32 = 6;
const SLOTS: usize = 1 << GROUP_BITS;
const LEVELS: usize = 8;
/// The index of the list of due timers, after the lists of all slots.
const READY: usize = LEVELS * SLOTS;
const NONE: u32 = u32::MAX;
/// `list` of an entry that holds no timer.
const FREE: u16 = u16::MAX;

const _: () = assert!(READY < FREE as usize);
const _: () = assert!(u64::MAX / TICK_NS < 1 << (GROUP_BITS as usize * LEVELS));

struct Entry<T> {
    tick: u64,
    next: u32,
    previous: u32,
    generation: u32,
    list: u16,
    value: T,
}

#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

/// Deadlines with a value each.
pub(crate) struct Wheel<T> {
    entries: Vec<Entry<T>>,
    free: u32,
    lists: Box<[List; READY + 1]>,
    occupied: [u64; LEVELS],
    now_tick: u64,
    len: usize,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel at time `now`.
    pub(crate) fn new(now: Monotonic) -> Self {
        Self {
            entries: Vec::new(),
            free: NONE,
            lists: Box::new([List { head: NONE, tail: NONE }; READY + 1]),
            occupied: [0; LEVELS],
            now_tick: now.0 / TICK_NS,
            len: 0,
        }
    }

    /// The number of timers that are set, due ones included.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Sets a timer. A deadline that has passed is due at once.
    pub(crate) fn insert(&mut self, at: Monotonic, value: T) -> TimerId {
        let tick = at.0.div_ceil(TICK_NS);
        let slot = match self.free {
            NONE => {
                let slot = self.entries.len() as u32;
                self.entries.push(Entry { tick, next: NONE, previous: NONE, generation: 0, list: FREE, value });
                slot
            }
            slot => {
                let entry = &mut self.entries[slot as usize];
                self.free = entry.next;
                entry.tick = tick;
                entry.value = value;
                slot
            }
        };
        self.len += 1;
        self.place(slot);
        TimerId { slot, generation: self.entries[slot as usize].generation }
    }

    /// Removes a timer. False if it has fired or been cancelled already.
    pub(crate) fn cancel(&mut self, timer: TimerId) -> bool {
        match self.entries.get(timer.slot as usize) {
            Some(entry) if entry.generation == timer.generation && entry.list != FREE => {
                self.unlink(timer.slot);
                self.release(timer.slot);
                true
            }
            _ => false,
        }
    }

    /// Moves the wheel to `now`: timers that are due wait in [`Wheel::pop`], in the order of the ticks.
    pub(crate) fn advance(&mut self, now: Monotonic) {
        let target = now.0 / TICK_NS;
        while let Some((level, slot, tick)) = self.next_slot() {
            if tick > target {
                break;
            }
            self.now_tick = tick;
            let list = level * SLOTS + slot;
            let mut at = std::mem::replace(&mut self.lists[list], List { head: NONE, tail: NONE }).head;
            self.occupied[level] &= !(1 << slot);
            while at != NONE {
                let next = self.entries[at as usize].next;
                self.place(at);
                at = next;
            }
        }
        self.now_tick = self.now_tick.max(target);
    }

    /// Takes one timer that is due.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let slot = self.lists[READY].head;
        let value = self.entries.get(slot as usize)?.value;
        self.unlink(slot);
        self.release(slot);
        Some(value)
    }

    /// The time at which the wheel has to be advanced next: the next deadline, or an earlier instant at which far timers move down
    /// a level. `None` if no timer is set.
    pub(crate) fn deadline(&self) -> Option<Monotonic> {
        if self.lists[READY].head != NONE {
            return Some(Monotonic(self.now_tick * TICK_NS));
        }
        self.next_slot().map(|(_, _, tick)| Monotonic(tick.saturating_mul(TICK_NS)))
    }

    /// The earliest occupied slot: level, index, the tick at which it begins.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        let level = self.occupied.iter().position(|slots| *slots != 0)?;
        let slot = self.occupied[level].trailing_zeros() as usize;
        let shift = GROUP_BITS * level as u32;
        let turn = self.now_tick >> (shift + GROUP_BITS) << (shift + GROUP_BITS);
        Some((level, slot, turn | (slot as u64) << shift))
    }

    fn place(&mut self, slot: u32) {
        let tick = self.entries[slot as usize].tick;
        let list = if tick <= self.now_tick {
            READY
        } else {
            let level = ((63 - (tick ^ self.now_tick).leading_zeros()) / GROUP_BITS) as usize;
            let index = (tick >> (GROUP_BITS * level as u32)) as usize % SLOTS;
            self.occupied[level] |= 1 << index;
            level * SLOTS + index
        };
        let tail = std::mem::replace(&mut self.lists[list].tail, slot);
        let entry = &mut self.entries[slot as usize];
        entry.list = list as u16;
        entry.previous = tail;
        entry.next = NONE;
        match tail {
            NONE => self.lists[list].head = slot,
            tail => self.entries[tail as usize].next = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let Entry { next, previous, list, .. } = self.entries[slot as usize];
        let list = usize::from(list);
        match previous {
            NONE => self.lists[list].head = next,
            previous => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => self.lists[list].tail = previous,
            next => self.entries[next as usize].previous = previous,
        }
        if list != READY && self.lists[list].head == NONE {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    fn release(&mut self, slot: u32) {
        let entry = &mut self.entries[slot as usize];
        entry.list = FREE;
        entry.generation = entry.generation.wrapping_add(1);
        entry.next = self.free;
        self.free = slot;
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(at: u64) -> Monotonic {
        Monotonic(at * TICK_NS)
    }

    fn due(wheel: &mut Wheel<u64>, now: Monotonic) -> Vec<u64> {
        wheel.advance(now);
        std::iter::from_fn(|| wheel.pop()).collect()
    }

    #[test]
    fn never_early_and_at_most_a_tick_late() {
        let mut wheel = Wheel::new(ms(1000));
        wheel.insert(Monotonic(ms(1005).0 + 1), 7);
        assert!(due(&mut wheel, Monotonic(ms(1005).0 + 1)).is_empty());
        assert!(due(&mut wheel, Monotonic(ms(1006).0 - 1)).is_empty());
        assert_eq!(due(&mut wheel, ms(1006)), [7]);
        assert_eq!(wheel.len(), 0);
    }

    #[test]
    fn the_past_is_due_at_once() {
        let mut wheel = Wheel::new(ms(1000));
        wheel.insert(ms(3), 1);
        wheel.insert(ms(1000), 2);
        assert_eq!(wheel.deadline(), Some(ms(1000)));
        assert_eq!(due(&mut wheel, ms(1000)), [1, 2]);
        assert_eq!(wheel.deadline(), None);
    }

    #[test]
    fn never_is_held_and_can_be_cancelled() {
        let mut wheel = Wheel::new(ms(5));
        let never = wheel.insert(Monotonic::NEVER, 1);
        assert!(due(&mut wheel, ms(1 << 40)).is_empty());
        assert!(wheel.cancel(never));
        assert!(!wheel.cancel(never), "a stale id does nothing");
        assert_eq!((wheel.len(), wheel.deadline()), (0, None));
    }

    #[test]
    fn a_due_timer_can_still_be_cancelled() {
        let mut wheel = Wheel::new(ms(0));
        wheel.insert(ms(1), 1);
        let second = wheel.insert(ms(1), 2);
        wheel.insert(ms(1), 3);
        wheel.advance(ms(2));
        assert_eq!(wheel.pop(), Some(1));
        assert!(wheel.cancel(second));
        assert_eq!(wheel.pop(), Some(3));
        assert_eq!(wheel.pop(), None);
    }

    #[test]
    fn a_reused_slot_does_not_answer_to_the_old_id() {
        let mut wheel = Wheel::new(ms(0));
        let old = wheel.insert(ms(1), 1);
        assert_eq!(due(&mut wheel, ms(1)), [1]);
        let new = wheel.insert(ms(9), 2);
        assert_eq!(old.slot, new.slot);
        assert!(!wheel.cancel(old));
        assert_eq!(due(&mut wheel, ms(9)), [2]);
    }

    /// Against a sorted list: random deadlines over all levels, random steps, some cancelled; and `deadline` never
    /// promises an instant after the earliest deadline, nor one that has passed.
    #[test]
    fn agrees_with_a_sorted_list() {
        for seed in 0..40 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut now = ms(random.u64(0..1 << 30));
            let mut wheel = Wheel::new(now);
            let mut model: Vec<(u64, u64, TimerId)> = Vec::new();
            for value in 0..2000 {
                let reach = random.u32(1..44);
                let at = Monotonic(now.0 + random.u64(0..1 << reach));
                model.push((at.0.div_ceil(TICK_NS), value, wheel.insert(at, value)));
                if random.u8(..) < 80 {
                    let (_, _, id) = model.swap_remove(random.usize(..model.len()));
                    assert!(wheel.cancel(id));
                }
                if random.u8(..) < 60 {
                    let reach = random.u32(1..42);
                    now = match random.bool() {
                        true => Monotonic(now.0 + random.u64(0..1 << reach)),
                        false => wheel.deadline().unwrap_or(now).max(now),
                    };
                    let mut fired = due(&mut wheel, now);
                    fired.sort_unstable();
                    let limit = now.0 / TICK_NS;
                    let mut expected: Vec<u64> = model.iter().filter(|t| t.0 <= limit).map(|t| t.1).collect();
                    expected.sort_unstable();
                    model.retain(|timer| timer.0 > limit);
                    assert_eq!(fired, expected, "seed {seed}");
                }
                let earliest = model.iter().map(|timer| ms(timer.0)).min();
                assert_eq!(wheel.deadline().is_some(), earliest.is_some());
                if let (Some(next), Some(earliest)) = (wheel.deadline(), earliest) {
                    assert!(next <= earliest.max(now));
                }
                assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
