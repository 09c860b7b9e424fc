//! `Logs` are the logs that a shard writes: rows of sinks with a disk buffer, and session state. That is one log, in the spool. With `[broker]` sessions have
//! logs of their own, in Kafka, one for each slot: numbers and groups of a slot's log begin with the slot, which identifies the log.

use std::collections::{BTreeMap, VecDeque};

use smallvec::SmallVec;

use forebay_buffer::Buffer;

/// The bits of a number or a group below its slot. A log skips 2^32 numbers after damage.
const SLOT_SHIFT: u32 = 48;

/// The slot with the log that has this number or group; 0 without `[broker]`.
#[inline]
pub const fn slot_of(number: u64) -> u16 {
    (number >> SLOT_SHIFT) as u16
}

/// The bound below all numbers and groups of a slot's log.
pub const fn first_of(slot: u16) -> u64 {
    (slot as u64) << SLOT_SHIFT
}

/// See the module.
#[derive(Default)]
pub struct Logs {
    /// The logs of session state.
    pub kept: Kept,
    /// The log of rows beside `[broker]`.
    pub rows: Option<Box<Buffer>>,
}

impl Logs {
    /// The log of rows.
    #[inline]
    pub fn rows(&self) -> Option<&Buffer> {
        match &self.kept {
            Kept::Nowhere => None,
            Kept::One(log) => Some(log),
            Kept::OfSlots(_) => self.rows.as_deref(),
        }
    }

    /// Like [`Logs::rows`], mutable.
    #[inline]
    pub fn rows_mut(&mut self) -> Option<&mut Buffer> {
        match &mut self.kept {
            Kept::Nowhere => None,
            Kept::One(log) => Some(log),
            Kept::OfSlots(_) => self.rows.as_deref_mut(),
        }
    }

    /// The log on this machine's disk, taken up or not.
    pub fn on_disk_mut(&mut self) -> Option<&mut Buffer> {
        self.rows.as_deref_mut().or(match &mut self.kept {
            Kept::One(log) => Some(log),
            Kept::Nowhere | Kept::OfSlots(_) => None,
        })
    }

    /// Leaves the segments of all logs as they are from now on.
    pub fn leave_apart(&mut self) {
        if let Kept::OfSlots(logs) = &mut self.kept {
            logs.values_mut().for_each(Buffer::leave_apart);
        }
    }

    /// All logs.
    pub fn each(&self) -> impl Iterator<Item = &Buffer> {
        self.kept.each().chain(self.rows.as_deref())
    }
}

/// The logs of session state.
#[derive(Default)]
#[expect(clippy::large_enum_variant, reason = "a shard has one, and each message looks into it: no pointer more")]
pub enum Kept {
    /// There is no log.
    #[default]
    Nowhere,
    /// The spool: one log for all sessions of the shard, and for rows.
    One(Buffer),
    /// Logs in Kafka, with `[broker]`: one for each slot that the shard has.
    OfSlots(BTreeMap<u16, Buffer>),
}

impl Kept {
    /// Whether there is a log.
    #[inline]
    pub const fn is_there(&self) -> bool {
        !matches!(self, Self::Nowhere)
    }

    /// The log that has this number or group. `None`: the shard does not have its slot.
    #[inline]
    pub fn of(&self, number: u64) -> Option<&Buffer> {
        match self {
            Self::Nowhere => None,
            Self::One(log) => Some(log),
            Self::OfSlots(logs) => logs.get(&slot_of(number)),
        }
    }

    /// Like [`Kept::of`], mutable.
    #[inline]
    pub fn of_mut(&mut self, number: u64) -> Option<&mut Buffer> {
        match self {
            Self::Nowhere => None,
            Self::One(log) => Some(log),
            Self::OfSlots(logs) => logs.get_mut(&slot_of(number)),
        }
    }

    /// Ends a record in its log. Returns the group; `None`: the shard does not have the log.
    pub(crate) fn end(&mut self, number: u64) -> Option<u64> {
        self.of_mut(number).map(|log| log.end_session(number))
    }

    /// The log of records that belong to no session: the first one.
    pub(crate) fn first(&self) -> Option<&Buffer> {
        self.each().next()
    }

    /// Like [`Kept::first`], mutable.
    pub(crate) fn first_mut(&mut self) -> Option<&mut Buffer> {
        match self {
            Self::Nowhere => None,
            Self::One(log) => Some(log),
            Self::OfSlots(logs) => logs.values_mut().next(),
        }
    }

    /// The slot of a number, if a message is written down once for each slot. `None`: there is one log for all.
    pub(crate) fn part_of(&self, number: u64) -> Option<u16> {
        matches!(self, Self::OfSlots(_)).then(|| slot_of(number))
    }

    /// The last durable group of the log that has `group`. Clients of a log that is gone are not connected, so none waits for it.
    #[inline]
    pub(crate) fn durable(&self, group: u64) -> u64 {
        match self {
            Self::Nowhere => u64::MAX,
            Self::One(log) => log.durable(),
            Self::OfSlots(logs) => logs.get(&slot_of(group)).map_or(u64::MAX, Buffer::durable),
        }
    }

    /// A number that changes whenever room has been freed in any log.
    pub(crate) fn freed(&self) -> u64 {
        self.each().fold(0, |sum, log| sum.wrapping_add(log.freed()))
    }

    /// All logs.
    pub fn each(&self) -> impl Iterator<Item = &Buffer> {
        let (one, several) = match self {
            Self::Nowhere => (None, None),
            Self::One(log) => (Some(log), None),
            Self::OfSlots(logs) => (None, Some(logs)),
        };
        one.into_iter().chain(several.into_iter().flat_map(BTreeMap::values))
    }
}

/// Groups to wait for: the last one of each log. Empty: there is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Groups(SmallVec<[u64; 1]>);

impl Groups {
    /// Adds a group; 0 is none.
    #[inline]
    pub(crate) fn add(&mut self, group: u64) {
        if group == 0 {
            return;
        }
        match self.0.iter_mut().find(|known| slot_of(**known) == slot_of(group)) {
            Some(known) => *known = group.max(*known),
            None => self.0.push(group),
        }
    }

    /// Adds all groups of another set.
    pub(crate) fn add_all(&mut self, others: &Self) {
        others.0.iter().for_each(|group| self.add(*group));
    }

    /// The group of the log that has this number. 0: there is none.
    pub(crate) fn of(&self, number: u64) -> u64 {
        self.0.iter().copied().find(|group| slot_of(*group) == slot_of(number)).unwrap_or(0)
    }

    /// Whether there is no group.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All groups.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = u64> + '_ {
        self.0.iter().copied()
    }
}

impl From<u64> for Groups {
    fn from(group: u64) -> Self {
        let mut groups = Self::default();
        groups.add(group);
        groups
    }
}

/// Lines of items that wait for groups, one for each log: a slow log holds up no other.
#[derive(Debug)]
pub(crate) struct Lines<T>(SmallVec<[(u16, Line<T>); 1]>);

/// A line of items that wait for groups of one log, each with its group.
type Line<T> = VecDeque<(u64, T)>;

impl<T> Default for Lines<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T> Lines<T> {
    /// Adds an item that waits for this group, which is no earlier than those of other items waiting for the same log.
    #[inline]
    pub(crate) fn push(&mut self, group: u64, what: T) {
        let slot = slot_of(group);
        match self.0.iter_mut().find(|(of, _)| *of == slot) {
            Some((_, line)) => line.push_back((group, what)),
            None => self.0.push((slot, VecDeque::from([(group, what)]))),
        }
    }

    /// Takes all items that wait for groups of this log.
    pub(crate) fn take_of(&mut self, slot: u16) -> impl Iterator<Item = T> {
        let at = self.0.iter().position(|(of, _)| *of == slot);
        let line = at.map(|at| self.0.swap_remove(at).1).unwrap_or_default();
        line.into_iter().map(|(_, what)| what)
    }

    /// Takes the next item with a group that `is_durable`.
    #[inline]
    pub(crate) fn pop(&mut self, is_durable: impl Fn(u64) -> bool) -> Option<T> {
        self.0.iter_mut().find_map(|(_, line)| line.pop_front_if(|(group, _)| is_durable(*group)).map(|(_, what)| what))
    }
}
