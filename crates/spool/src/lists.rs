//! Lists within entries. A writer gives a slice; a reader gets the bytes and walks them: neither copies them into a list
//! of its own.

use forebay_record::stored::{Origin, RowRun};
use std::fmt;

use super::codec::{In, NUMBER_MAX, Out};
use super::entry::{Deadline, Span};

/// The most consecutive numbers in a run: as many as the largest segment has bytes.
const RUN_MAX: u64 = 1 << 32;

/// An item of a [`Listed`], with a fixed number of bytes.
pub(super) trait Item: Copy {
    const BYTES: usize;
    fn put(self, out: &mut Out<'_>);
    fn get(input: &mut In<'_>) -> Option<Self>;
}

impl Item for (u32, Origin) {
    const BYTES: usize = 14;

    fn put(self, out: &mut Out<'_>) {
        out.u32(self.0).u64(self.1.session).u16(self.1.packet_id);
    }

    fn get(input: &mut In<'_>) -> Option<Self> {
        Some((input.u32()?, Origin { session: input.u64()?, packet_id: input.u16()? }))
    }
}

impl Item for (u32, Deadline) {
    const BYTES: usize = 20;

    fn put(self, out: &mut Out<'_>) {
        out.u32(self.0).u64(self.1.wall_ms as u64).u64(self.1.left_ms);
    }

    fn get(input: &mut In<'_>) -> Option<Self> {
        Some((input.u32()?, Deadline { wall_ms: input.u64()? as i64, left_ms: input.u64()? }))
    }
}

impl Item for (u32, u32) {
    const BYTES: usize = 8;

    fn put(self, out: &mut Out<'_>) {
        out.u32(self.0).u32(self.1);
    }

    fn get(input: &mut In<'_>) -> Option<Self> {
        Some((input.u32()?, input.u32()?))
    }
}

impl Item for (u64, u64) {
    const BYTES: usize = 16;

    fn put(self, out: &mut Out<'_>) {
        out.u64(self.0).u64(self.1);
    }

    fn get(input: &mut In<'_>) -> Option<Self> {
        Some((input.u64()?, input.u64()?))
    }
}

/// Items of one size.
#[derive(Clone, Copy)]
pub struct Listed<'a, T> {
    given: &'a [T],
    coded: &'a [u8],
}

impl<'a, T> Listed<'a, T> {
    /// A list of the items given.
    #[must_use]
    pub const fn new(given: &'a [T]) -> Self {
        Self { given, coded: &[] }
    }
}

#[allow(private_bounds, reason = "which items there are is the format's business")]
impl<'a, T: Item> Listed<'a, T> {
    /// The number of items.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.given.len() + self.coded.len() / T::BYTES
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Iterates over the items.
    pub fn iter(self) -> impl Iterator<Item = T> + 'a
    where
        T: 'a,
    {
        let mut coded = In(self.coded);
        self.given.iter().copied().chain(std::iter::from_fn(move || T::get(&mut coded)))
    }

    pub(super) fn put(self, out: &mut Out<'_>) {
        self.iter().for_each(|item| item.put(out));
    }

    pub(super) fn parse(count: u32, input: &mut In<'a>) -> Option<Self> {
        Some(Self { given: &[], coded: input.take((count as usize).checked_mul(T::BYTES)?)? })
    }
}

impl<T: Item + PartialEq> PartialEq for Listed<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Item + fmt::Debug> fmt::Debug for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Numbers of rows. A payload has a count, then for each run the distance of its first number from the end of the
/// previous run (zigzag), and its count; all as varints.
#[derive(Clone, Copy)]
pub struct Runs<'a> {
    given: &'a [RowRun],
    coded: &'a [u8],
}

impl<'a> Runs<'a> {
    /// A list of the runs given.
    #[must_use]
    pub const fn new(given: &'a [RowRun]) -> Self {
        Self { given, coded: &[] }
    }

    /// Iterates over the runs.
    pub fn iter(self) -> impl Iterator<Item = RowRun> + 'a {
        let (mut coded, mut end) = (In(self.coded), 0);
        let decoded = std::iter::from_fn(move || get_run(&mut coded, &mut end));
        self.given.iter().copied().chain(decoded)
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(self) -> u64 {
        self.iter().map(|run| run.count).sum()
    }

    pub(super) fn put(self, out: &mut Out<'_>) {
        let mut end = 0;
        for run in self.iter() {
            out.delta(run.first, end).varint(run.count);
            end = run.end();
        }
    }

    /// Parses the rest of a payload.
    pub(super) fn parse(input: &mut In<'a>) -> Option<Self> {
        let coded = input.rest();
        let (mut walk, mut end) = (In(coded), 0);
        while !walk.0.is_empty() {
            get_run(&mut walk, &mut end)?;
        }
        Some(Self { given: &[], coded })
    }
}

fn get_run(input: &mut In<'_>, end: &mut u64) -> Option<RowRun> {
    let run = RowRun { first: input.delta(*end)?, count: input.varint()? };
    let is_sound = run.first < NUMBER_MAX && (1..=RUN_MAX).contains(&run.count);
    *end = is_sound.then(|| run.end())?;
    Some(run)
}

impl PartialEq for Runs<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Runs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, run) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{}+{}", run.first, run.count)?;
        }
        Ok(())
    }
}

/// The places of rows. Coded like [`Runs`], each with the segment and position (both as distances) and bytes.
#[derive(Clone, Copy)]
pub struct Spans<'a> {
    given: &'a [Span],
    coded: &'a [u8],
}

impl<'a> Spans<'a> {
    /// A list of the spans given.
    #[must_use]
    pub const fn new(given: &'a [Span]) -> Self {
        Self { given, coded: &[] }
    }

    /// Iterates over the spans.
    pub fn iter(self) -> impl Iterator<Item = Span> + 'a {
        let (mut coded, mut before) = (In(self.coded), (0, 0, 0));
        let decoded = std::iter::from_fn(move || get_span(&mut coded, &mut before));
        self.given.iter().copied().chain(decoded)
    }

    pub(super) fn put(self, out: &mut Out<'_>) {
        let (mut end, mut segment, mut position) = (0, 0, 0);
        for span in self.iter() {
            out.delta(span.run.first, end).varint(span.run.count).delta(span.segment, segment);
            out.delta(span.position, position).varint(span.bytes);
            (end, segment, position) = (span.run.end(), span.segment, span.position);
        }
    }

    /// Parses the rest of a payload.
    pub(super) fn parse(input: &mut In<'a>) -> Option<Self> {
        let coded = input.rest();
        let (mut walk, mut before) = (In(coded), (0, 0, 0));
        while !walk.0.is_empty() {
            get_span(&mut walk, &mut before)?;
        }
        Some(Self { given: &[], coded })
    }
}

fn get_span(input: &mut In<'_>, before: &mut (u64, u64, u64)) -> Option<Span> {
    let run = get_run(input, &mut before.0)?;
    before.1 = input.delta(before.1).filter(|segment| *segment < NUMBER_MAX)?;
    before.2 = input.delta(before.2).filter(|position| *position < NUMBER_MAX)?;
    let bytes = input.varint().filter(|bytes| *bytes < NUMBER_MAX)?;
    Some(Span { run, segment: before.1, position: before.2, bytes })
}

impl PartialEq for Spans<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Spans<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
