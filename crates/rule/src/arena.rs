//! The memory of evaluations: results for a message live here until the next rule is evaluated. Once warm, nothing is allocated.
//! The arena also counts the cost of a message: [`STEPS`] and [`BYTES`] bound it.

use std::cell::{Cell, RefCell};

use bumpalo::Bump;
use bumpalo::collections::Vec as BumpVec;

use super::failure::Reason;
use super::json::index::{DEPTH_MAX, Entry, Fault, Index};
use super::value::{Member, Value};

/// Steps that all rules of a message may take together, and one for each 64 bytes of its payload: with the dearest steps less than a turn may take.
pub const STEPS: u64 = 25_000;
/// Bytes that all rules of a message may use together; a rule at most half.
pub const BYTES: usize = 4 * 1024 * 1024;

const NO_STEPS: Reason = Reason::limit("the rule takes more steps than a message may cost");
const NO_BYTES: Reason = Reason::limit("the rule makes more data than a message may cost");
/// The failure of a text that is not JSON.
pub(super) const NOT_JSON: Reason = Reason::decode("the text is not JSON");

/// The memory of evaluations; one is enough for a thread.
#[derive(Debug, Default)]
pub struct Arena {
    bump: Bump,
    /// The index of the payload, for all rules of a message.
    payload: RefCell<Indexed>,
    /// The index of the text that was read last as JSON, for one rule.
    other: RefCell<Indexed>,
    /// The steps that the message may take in all.
    budget: u64,
    /// The steps left to the message; `rule_steps` is the part of the current rule.
    steps: Cell<u64>,
    bytes: Cell<usize>,
    rule_steps: Cell<u64>,
    rule_bytes: Cell<usize>,
    /// Bytes worked with that have not made a step yet.
    crumbs: Cell<u64>,
    mixed: Cell<u32>,
    /// The nesting depth of the value that is being written or compared.
    depth: Cell<usize>,
    random: RefCell<fastrand::Rng>,
}

/// An index and its text.
#[derive(Debug, Default)]
struct Indexed {
    index: Index,
    of: Option<(usize, usize)>,
    fault: Option<Fault>,
}

impl Arena {
    /// An empty arena.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins with a message.
    #[inline]
    pub(super) fn begin_message(&mut self, payload: &[u8], seed: u64) {
        self.go_on_with(payload);
        self.random.get_mut().seed(seed);
        self.budget = STEPS + payload.len() as u64 / 64;
        self.steps.set(self.budget);
        self.bytes.set(BYTES);
        self.mixed.set(0);
    }

    /// Goes on with another payload.
    pub(super) fn go_on_with(&mut self, payload: &[u8]) {
        // The payload is read only when a rule looks into it.
        let read_later = self.payload.get_mut();
        read_later.of = Some((payload.as_ptr() as usize, payload.len()));
        read_later.fault = Some(Fault::Unread);
    }

    /// Begins with a rule: the results of earlier rules are dropped.
    #[inline]
    pub(super) fn begin_rule(&mut self) {
        self.bump.reset();
        self.other.get_mut().of = None;
        self.depth.set(0);
        self.crumbs.set(0);
        self.rule_steps.set(self.steps.take());
        self.rule_bytes.set(self.bytes.get().min(BYTES / 2));
        self.bytes.set(self.bytes.get() - self.rule_bytes.get());
    }

    /// Gives the unused steps and bytes of the rule back to the message.
    pub(super) fn end_rule(&self) {
        self.steps.set(self.steps.get() + self.rule_steps.take());
        self.bytes.set(self.bytes.get() + self.rule_bytes.take());
    }

    /// Steps of the rules of the message so far.
    pub(super) fn steps_taken(&self) -> u64 {
        self.budget - self.steps.get()
    }

    /// Comparisons of values of different types since the message began.
    #[must_use]
    pub fn mixed_comparisons(&self) -> u32 {
        self.mixed.get()
    }

    pub(super) fn count_mixed(&self) {
        self.mixed.set(self.mixed.get().saturating_add(1));
    }

    /// Takes steps.
    #[inline]
    pub(super) fn spend(&self, steps: u64) -> Result<(), Reason> {
        let left = self.rule_steps.get().checked_sub(steps).ok_or(NO_STEPS)?;
        self.rule_steps.set(left);
        Ok(())
    }

    /// Takes the steps of work with a number of bytes: one for each 64 of all that is done with them.
    #[inline]
    pub(super) fn work(&self, bytes: usize) -> Result<(), Reason> {
        let crumbs = self.crumbs.get() + bytes as u64;
        self.crumbs.set(crumbs % 64);
        self.spend(crumbs / 64)
    }

    /// Takes memory.
    pub(super) fn charge(&self, bytes: usize) -> Result<(), Reason> {
        let left = self.rule_bytes.get().checked_sub(bytes).ok_or(NO_BYTES)?;
        self.rule_bytes.set(left);
        Ok(())
    }

    /// Bytes that are left to the rule.
    pub(super) fn bytes_left(&self) -> usize {
        self.rule_bytes.get()
    }

    /// A copy.
    pub(super) fn bytes(&self, bytes: &[u8]) -> Result<&[u8], Reason> {
        self.charge(bytes.len())?;
        self.work(bytes.len())?;
        Ok(self.bump.alloc_slice_copy(bytes))
    }

    /// A copy of values or members.
    pub(super) fn slice<T: Copy>(&self, items: &[T]) -> Result<&[T], Reason> {
        self.charge(size_of_val(items))?;
        self.spend(items.len() as u64 / 8)?;
        Ok(self.bump.alloc_slice_copy(items))
    }

    /// Empty slots for columns.
    pub(super) fn slots<'a>(&'a self, len: usize) -> Result<&'a [Cell<Option<Value<'a>>>], Reason> {
        self.charge(len.saturating_mul(size_of::<Option<Value<'_>>>()))?;
        Ok(self.bump.alloc_slice_fill_with(len, |_| Cell::new(None)))
    }

    /// A list that grows.
    pub(super) fn list<T: Copy>(&self) -> List<'_, T> {
        List { items: BumpVec::new_in(&self.bump), arena: self }
    }

    /// A list that grows, with room.
    pub(super) fn list_of<T: Copy>(&self, len: usize) -> Result<List<'_, T>, Reason> {
        self.charge(len.saturating_mul(size_of::<T>()))?;
        Ok(List { items: BumpVec::with_capacity_in(len, &self.bump), arena: self })
    }

    /// A text that grows.
    pub(super) fn writer(&self) -> List<'_, u8> {
        self.list()
    }

    /// Formats into the arena.
    pub(super) fn format(&self, arguments: std::fmt::Arguments<'_>) -> Result<Value<'_>, Reason> {
        let mut out = self.writer();
        std::fmt::Write::write_fmt(&mut out, arguments).map_err(|_| NO_BYTES)?;
        Ok(Value::Text(out.finish()))
    }

    /// The value of a text as JSON: a scalar, or the text again as a [`Value::Raw`].
    pub(super) fn decode<'a>(&'a self, bytes: &'a [u8]) -> Result<Value<'a>, Reason> {
        self.find(bytes, [], NOT_JSON).map(|(value, _)| value)
    }

    /// Turns a raw array or object into an `Array` or `Object`, one level deep; returns other values unchanged.
    pub(super) fn open<'a>(&'a self, value: Value<'a>) -> Result<Value<'a>, Reason> {
        let Value::Raw(text) = value else { return Ok(value) };
        self.with_index(text.as_bytes(), NOT_JSON, |index| match index.root() {
            Some(root) if root.is_object() => {
                let mut members = self.list::<Member<'a>>();
                for (name, item) in index.members() {
                    let Value::Text(name) = self.value(text, name)? else { return Err(NOT_JSON) };
                    let name = std::str::from_utf8(name).map_err(|_| NOT_JSON)?;
                    members.push(Member { name, value: self.value(text, item)? })?;
                }
                Ok(Value::Object(members.into_members()?))
            }
            _ => {
                let mut items = self.list::<Value<'a>>();
                for item in index.items() {
                    items.push(self.value(text, item)?)?;
                }
                Ok(Value::Array(items.finish()))
            }
        })
    }

    /// The value at the end of a way in a JSON text, and the number of steps taken, which are all unless the way ends at a text or
    /// before a slice. Absent if the way leads nowhere; `fault` if the text is not JSON.
    pub(super) fn find<'a, 's>(
        &'a self,
        bytes: &'a [u8],
        way: impl IntoIterator<Item = Way<'s>>,
        fault: Reason,
    ) -> Result<(Value<'a>, usize), Reason> {
        self.with_index(bytes, fault, |index| {
            // `with_index` has checked that the text is UTF-8.
            let text = std::str::from_utf8(bytes).map_err(|_| fault)?;
            match index.find(text, way, |steps| self.spend(steps))? {
                Some((entry, gone)) => Ok((self.value(text, entry)?, gone)),
                None => Ok((Value::Absent, usize::MAX)),
            }
        })
    }

    /// Goes one level down in a value; [`Arena::up`] comes back. A rule can build a value that nests deeper than JSON may.
    pub(super) fn down(&self) -> Result<(), Reason> {
        let depth = self.depth.get() + 1;
        self.depth.set(depth);
        if depth > 2 * DEPTH_MAX { Err(Reason::limit("the value nests more than 128 deep")) } else { Ok(()) }
    }

    pub(super) fn up(&self) {
        self.depth.set(self.depth.get().saturating_sub(1));
    }

    /// A random number.
    pub(super) fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    fn with_index<'a, T>(
        &'a self,
        bytes: &'a [u8],
        fault: Reason,
        look: impl FnOnce(&Index) -> Result<T, Reason>,
    ) -> Result<T, Reason> {
        let key = Some((bytes.as_ptr() as usize, bytes.len()));
        let is_payload = self.payload.borrow().of == key;
        let place = if is_payload { &self.payload } else { &self.other };
        {
            let mut indexed = place.borrow_mut();
            let indexed = &mut *indexed;
            if indexed.of != key || indexed.fault == Some(Fault::Unread) {
                self.work(bytes.len())?;
                let room = self.rule_bytes.get() / size_of::<Entry>();
                let found = std::str::from_utf8(bytes)
                    .map_err(|_| Fault::NotJson)
                    .and_then(|text| indexed.index.read(text, room));
                indexed.of = key;
                indexed.fault = found.err();
            }
            match indexed.fault {
                None => {}
                Some(Fault::Deep) => return Err(Reason::limit("the JSON nests more than 64 deep")),
                Some(Fault::Large) => return Err(NO_BYTES),
                Some(Fault::NotJson | Fault::Unread) => return Err(fault),
            }
        }
        look(&place.borrow().index)
    }

    /// The value at an entry.
    fn value<'a>(&'a self, text: &'a str, entry: Entry) -> Result<Value<'a>, Reason> {
        match entry.value(text) {
            Some(value) => Ok(value),
            // A text with escapes.
            None => {
                let escaped = entry.of(text);
                let mut out = self.list_of::<u8>(escaped.len())?;
                self.spend(escaped.len() as u64 / 16)?;
                super::json::index::unescape(escaped, |part| out.extend(part))?;
                Ok(Value::Text(out.finish()))
            }
        }
    }
}

/// A step into a value, borrowed from a program or from arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way<'s> {
    Name(&'s str),
    /// The index from 1, or from the end if negative; 0 is nowhere.
    Index(i64),
    /// A part of an array.
    Slice,
}

/// A list in the arena that grows within the bounds.
#[derive(Debug)]
pub(super) struct List<'a, T> {
    items: BumpVec<'a, T>,
    arena: &'a Arena,
}

impl<'a, T: Copy> List<'a, T> {
    fn grow(&self, more: usize) -> Result<(), Reason> {
        if self.items.len().saturating_add(more) > self.items.capacity() {
            // The capacity that `BumpVec` grows to.
            let len = self.items.len().saturating_add(more).max(self.items.capacity().saturating_mul(2));
            self.arena.charge(len.saturating_mul(size_of::<T>()))?;
        }
        Ok(())
    }

    pub(super) fn push(&mut self, item: T) -> Result<(), Reason> {
        self.grow(1)?;
        self.arena.work(size_of::<T>())?;
        self.items.push(item);
        Ok(())
    }

    pub(super) fn extend(&mut self, items: &[T]) -> Result<(), Reason> {
        self.grow(items.len())?;
        self.arena.work(size_of_val(items))?;
        self.items.extend_from_slice_copy(items);
        Ok(())
    }

    pub(super) fn as_slice(&self) -> &[T] {
        &self.items
    }

    pub(super) fn finish(self) -> &'a [T] {
        self.items.into_bump_slice()
    }
}

impl<'a> List<'a, Member<'a>> {
    /// The members in ascending order of their names; of equal names the last one stays.
    pub(super) fn into_members(mut self) -> Result<&'a [Member<'a>], Reason> {
        let len = self.items.len();
        self.arena.spend(len as u64 / 4)?;
        let is_ascending = self.items.is_sorted_by(|one, next| one.name < next.name);
        if !is_ascending {
            // Insertion sort for short lists, else a stable sort by place: neither allocates.
            let mut order = BumpVec::with_capacity_in(len, &self.arena.bump);
            self.arena.charge(len.saturating_mul(size_of::<(usize, Member<'_>)>()))?;
            order.extend(self.items.iter().copied().enumerate());
            order.sort_unstable_by(|(at, one), (later, other)| one.name.cmp(other.name).then(later.cmp(at)));
            order.dedup_by(|(_, next), (_, one)| next.name == one.name);
            self.items.clear();
            self.items.extend(order.iter().map(|(_, member)| *member));
        }
        Ok(self.items.into_bump_slice())
    }
}

impl std::fmt::Write for List<'_, u8> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.extend(text.as_bytes()).map_err(|_| std::fmt::Error)
    }
}
