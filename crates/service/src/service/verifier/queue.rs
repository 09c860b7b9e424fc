//! Pending questions: a line for each address, in turn, with bounds for an address and for all, in number and in bytes. If there
//! is no room, the address with most makes it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Instant;

use super::{Address, Answer, Task, Waiting};
use forebay_base::limits::{VERIFIED_BYTES_MAX, VERIFIED_MAX, VERIFIED_OF_ADDRESS_MAX};
use forebay_guard::auth::Proof;

/// The origin of a question; `None`: this machine, by a Unix socket.
type Origin = Option<Address>;

/// Bounds on pending questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Questions of all addresses.
    pub all: usize,
    /// Questions of one address that take long.
    pub of_address: usize,
    /// Bytes of passwords and tokens.
    pub bytes: usize,
}

impl Bounds {
    /// The bounds of the service.
    pub const DEFAULT: Self =
        Self { all: VERIFIED_MAX, of_address: VERIFIED_OF_ADDRESS_MAX, bytes: VERIFIED_BYTES_MAX };
}

/// The next work of a thread.
pub(super) enum Next {
    /// Look whether the answer is known.
    Look(u64, Task),
    /// Compute the answer.
    Compare(u64, Task, Proof),
    /// Answer that there is no room.
    Refuse(Box<dyn FnOnce(Option<Answer>) + Send>),
}

/// A pending question; its proof, once the question was looked at.
struct Entry {
    task: Task,
    from: Origin,
    bytes: usize,
    proof: Option<Proof>,
}

/// The weight of a question beside its own bytes.
const ENTRY_BYTES: usize = 64;

/// The pending questions of an address.
#[derive(Default)]
struct Line {
    all: BTreeSet<u64>,
    /// The weight of the questions, in bytes.
    weight: usize,
    /// Questions that were looked at, and have to be computed.
    slow: VecDeque<u64>,
    /// Whether the line has a place in `turn`; it stays in the map while it has.
    has_turn: bool,
}

/// The pending questions, in a line for each address.
pub(super) struct Queue {
    bounds: Bounds,
    entries: HashMap<u64, Entry>,
    lines: HashMap<Origin, Line>,
    /// Questions that were not looked at yet. Some were taken back.
    fresh: VecDeque<u64>,
    /// Addresses that have something slow in their line, the next first.
    turn: VecDeque<Origin>,
    /// Addresses by the weight of their lines.
    heaviest: BTreeSet<(usize, Origin)>,
    /// Questions that threads work on and that were not taken back.
    in_hand: HashSet<u64>,
    /// Questions that were dropped to make room.
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

    /// Queues a question. `None`: there is no room for it.
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

    /// The next work at this time: refusals and new questions go before slow ones.
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
            // The address has its next turn after the others.
            self.turn.push_back(from);
            if let Some((proof, entry)) = self.take(number, now).and_then(|entry| Some((entry.proof?, entry))) {
                return Some(Next::Compare(number, entry.task, proof));
            }
        }
        None
    }

    /// Queues a question that a thread has looked at as a slow one, within the bound of its address. Before the look it is not
    /// known whether the answer is known, and a client that shares an address with guessers is not refused for them.
    pub(super) fn look_later(&mut self, number: u64, task: Task, proof: Proof) {
        if !self.done(number) {
            return;
        }
        let (from, bytes) = (task.from.map(Address::of), task.question.bytes());
        let slow = self.lines.get(&from).map_or(0, |line| line.slow.len());
        // Clients of a Unix socket have no address, so none of them is held to a bound of its own.
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

    /// Ends a thread's work on a question. Returns false if the question was taken back meanwhile.
    pub(super) fn done(&mut self, number: u64) -> bool {
        self.in_hand.remove(&number)
    }

    /// Takes a question back: its answer is not needed any more.
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

    /// Takes out a question for a thread, unless its deadline is over, or it was taken back.
    fn take(&mut self, number: u64, now: Instant) -> Option<Entry> {
        let entry = self.remove(number)?;
        if entry.task.until <= now {
            return None;
        }
        self.in_hand.insert(number);
        Some(entry)
    }

    /// Refuses the newest question of an address: there is no room.
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

    /// Whether no question is pending.
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
