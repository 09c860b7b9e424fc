//! Questions that wait: a line for each address, in turn, with bounds for an address and for all, in number and in bytes.
//! Where there is no room, the address makes it that has most.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

use super::{Address, Answer, Task, Waiting};
use crate::auth::Proof;
use crate::limits::{VERIFIED_BYTES_MAX, VERIFIED_MAX, VERIFIED_OF_ADDRESS_MAX};

/// Where a question comes from; `None`: from this machine, by a Unix socket.
type Origin = Option<Address>;

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Questions.
    pub all: usize,
    /// Questions of one address that take long.
    pub of_address: usize,
    /// Bytes of passwords and tokens.
    pub bytes: usize,
}

impl Bounds {
    /// Those of the service.
    pub const DEFAULT: Self =
        Self { all: VERIFIED_MAX, of_address: VERIFIED_OF_ADDRESS_MAX, bytes: VERIFIED_BYTES_MAX };
}

/// What a thread has to do.
pub(super) enum Next {
    /// Look whether the answer is known.
    Look(u64, Task),
    /// Compute it.
    Compare(u64, Task, Proof),
    /// Say that there is no room.
    Refuse(Box<dyn FnOnce(Option<Answer>) + Send>),
}

/// A question that waits; its proof, once it was looked at.
struct Entry {
    task: Task,
    from: Origin,
    bytes: usize,
    proof: Option<Proof>,
}

/// What a question weighs beside the bytes that it holds.
const ENTRY_BYTES: usize = 64;

/// What waits of an address.
#[derive(Default)]
struct Line {
    all: BTreeSet<u64>,
    /// What they weigh, in bytes.
    weight: usize,
    /// Those that were looked at.
    slow: VecDeque<u64>,
    /// It has a place in `turn`, and stays for as long.
    has_turn: bool,
}

/// The questions that wait, in a line for each address.
pub(super) struct Queue {
    bounds: Bounds,
    entries: HashMap<u64, Entry>,
    lines: HashMap<Origin, Line>,
    /// Those that nobody has looked at. Some were taken back.
    fresh: VecDeque<u64>,
    /// Addresses that have something slow in their line, the next first.
    turn: VecDeque<Origin>,
    /// Addresses by the weight of their lines.
    heaviest: BTreeSet<(usize, Origin)>,
    /// Those that threads are at and that were not taken back.
    in_hand: HashSet<u64>,
    /// Those that made room.
    refused: VecDeque<Box<dyn FnOnce(Option<Answer>) + Send>>,
    bytes: usize,
    last: u64,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            entries: HashMap::new(),
            lines: HashMap::new(),
            fresh: VecDeque::new(),
            turn: VecDeque::new(),
            heaviest: BTreeSet::new(),
            in_hand: HashSet::new(),
            refused: VecDeque::new(),
            bytes: 0,
            last: 0,
            is_closed: false,
        }
    }

    /// Takes a question. `None`: there is no room for it.
    pub(super) fn ask(&mut self, task: Task) -> Option<u64> {
        let (from, bytes) = (task.from.map(Address::of), task.question.bytes());
        let weight = self.lines.get(&from).map_or(0, |line| line.weight);
        if bytes > self.bounds.bytes {
            return None;
        }
        while self.entries.len() >= self.bounds.all || self.bytes + bytes > self.bounds.bytes {
            let (most, of) = self.heaviest.last().copied()?;
            if most <= weight + bytes + ENTRY_BYTES {
                return None;
            }
            self.refuse_newest(of);
        }
        self.last += 1;
        self.enter(self.last, Entry { task, from, bytes, proof: None });
        self.fresh.push_back(self.last);
        Some(self.last)
    }

    /// What is next at this time: what made room and what is new goes before what takes long.
    pub(super) fn next(&mut self, now: Instant) -> Option<Next> {
        if let Some(answer) = self.refused.pop_front() {
            return Some(Next::Refuse(answer));
        }
        while let Some(number) = self.fresh.pop_front() {
            if let Some(entry) = self.take(number, now) {
                return Some(Next::Look(number, entry.task));
            }
        }
        while let Some(from) = self.turn.pop_front() {
            let Some(line) = self.lines.get_mut(&from) else { continue };
            let Some(number) = line.slow.pop_front() else {
                line.has_turn = false;
                if line.all.is_empty() {
                    self.lines.remove(&from);
                }
                continue;
            };
            // It has its next turn after the others.
            self.turn.push_back(from);
            if let Some((proof, entry)) = self.take(number, now).and_then(|entry| Some((entry.proof?, entry))) {
                return Some(Next::Compare(number, entry.task, proof));
            }
        }
        None
    }

    /// Takes a question that a thread was at as one that takes long: no more of an address than may. Before that nobody knows whether its
    /// answer is known, and a client that shares an address with guessers is not refused for them.
    pub(super) fn look_later(&mut self, number: u64, task: Task, proof: Proof) {
        if !self.done(number) {
            return;
        }
        let (from, bytes) = (task.from.map(Address::of), task.question.bytes());
        let slow = self.lines.get(&from).map_or(0, |line| line.slow.len());
        // Clients behind a Unix socket are not told apart.
        if from.is_some() && slow >= self.bounds.of_address {
            return self.refused.push_back(task.answer);
        }
        self.enter(number, Entry { task, from, bytes, proof: Some(proof) });
        let Some(line) = self.lines.get_mut(&from) else { return };
        line.slow.push_back(number);
        if !std::mem::replace(&mut line.has_turn, true) {
            self.turn.push_back(from);
        }
    }

    /// A thread is not at it any more. False: it was taken back meanwhile.
    pub(super) fn done(&mut self, number: u64) -> bool {
        self.in_hand.remove(&number)
    }

    /// Nobody waits for this answer any more.
    pub(super) fn take_back(&mut self, number: u64) {
        self.in_hand.remove(&number);
        self.withdraw(number);
    }

    fn withdraw(&mut self, number: u64) -> Option<Entry> {
        let entry = self.remove(number)?;
        if let Some(line) = self.lines.get_mut(&entry.from) {
            line.slow.retain(|other| *other != number);
        }
        Some(entry)
    }

    pub(super) fn waiting(&self) -> Waiting {
        Waiting { questions: self.entries.len(), bytes: self.bytes }
    }

    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Gives a question to a thread, unless it is too late for it, or it was taken back.
    fn take(&mut self, number: u64, now: Instant) -> Option<Entry> {
        let entry = self.remove(number)?;
        if entry.task.until <= now {
            return None;
        }
        self.in_hand.insert(number);
        Some(entry)
    }

    /// The newest of an address goes: its answer is that there is no room.
    fn refuse_newest(&mut self, of: Origin) {
        let newest = self.lines.get(&of).and_then(|line| line.all.last().copied());
        if let Some(entry) = newest.and_then(|number| self.withdraw(number)) {
            self.refused.push_back(entry.task.answer);
        }
    }

    fn enter(&mut self, number: u64, entry: Entry) {
        self.bytes += entry.bytes;
        self.change(entry.from, |line| {
            line.all.insert(number);
            line.weight += entry.bytes + ENTRY_BYTES;
        });
        self.entries.insert(number, entry);
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.bytes;
        self.change(entry.from, |line| {
            line.all.remove(&number);
            line.weight -= entry.bytes + ENTRY_BYTES;
        });
        Some(entry)
    }

    fn change(&mut self, from: Origin, change: impl FnOnce(&mut Line)) {
        let line = self.lines.entry(from).or_default();
        self.heaviest.remove(&(line.weight, from));
        change(line);
        if !line.all.is_empty() {
            self.heaviest.insert((line.weight, from));
        } else if !line.has_turn {
            self.lines.remove(&from);
        }
    }

    /// Whether all that waits takes long.
    #[cfg(test)]
    pub(super) fn is_looked_at(&self) -> bool {
        self.fresh.is_empty() && self.refused.is_empty()
    }

    /// Whether nothing is left of what was asked.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
            && self.lines.is_empty()
            && self.turn.is_empty()
            && self.heaviest.is_empty()
            && self.in_hand.is_empty()
            && self.fresh.is_empty()
            && self.bytes == 0
    }
}
