//! The rows of a run: all of a row follows from its number and its kind, so that the log can be checked byte by byte.

use crate::kafka::types::Outcome;
use crate::runtime::seam::Monotonic;

/// Number of keys of a topic; 0 stands for rows without a key.
pub(super) const KEYS: u32 = 7;

/// A special property of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    /// A row that no broker takes: 87 for its batch.
    Poison,
    /// A row with 2,000 bytes more: too large for a topic with a lowered bound.
    Large,
    /// A row two hours ahead: 32.
    Ahead,
    /// A row thirty hours old: Kafka forgets its producer.
    Old,
    /// A row without a time.
    Timeless,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Plain, Self::Poison, Self::Large, Self::Ahead, Self::Old, Self::Timeless];

    pub(super) fn timestamp(self, wall_ms: i64) -> i64 {
        match self {
            Self::Ahead => wall_ms + 2 * 3_600_000,
            Self::Old => wall_ms - 30 * 3_600_000,
            Self::Timeless => -1,
            _ => wall_ms,
        }
    }
}

/// A row that the producer has taken.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) sink: usize,
    pub(super) topic: usize,
    pub(super) kind: Kind,
    /// The record's timestamp.
    pub(super) timestamp: i64,
    /// Deadline for the row's cut.
    pub(super) expires: Monotonic,
    pub(super) outcome: Option<(Outcome, Monotonic)>,
    /// Whether the process that took the row ended before it was answered, so that no answer is due.
    pub(super) orphan: bool,
    /// Whether, in addition, that process had not saved its undone rows: the row may be lost, or come late.
    pub(super) adrift: bool,
}

/// A row's value: number, kind, filler.
pub(super) fn value(number: u32, kind: Kind) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.push(kind as u8);
    let filler = number as usize % 300 + if kind == Kind::Large { 2_000 } else { 0 };
    value.resize(5 + filler, b'.');
    value
}

pub(super) fn key(number: u32) -> Option<[u8; 2]> {
    let key = number % KEYS;
    (key != 0).then_some([b'k', b'0' + key as u8])
}

/// The session that a row comes from.
pub(super) const fn session(number: u32) -> u64 {
    number as u64 % 5
}

/// The time of a record: its own, or the one in the header that replaces a time that Kafka would refuse.
pub(super) fn time<'a>(timestamp: i64, mut headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> i64 {
    let received = headers.find(|(name, _)| *name == b"mqtt-received-ms").and_then(|(_, value)| value);
    let received = received.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    if timestamp < 0 { received.unwrap_or(timestamp) } else { timestamp }
}

/// Number and kind of a record, if it is an intact row of the run.
pub(super) fn read(its_key: Option<&[u8]>, its_value: Option<&[u8]>) -> Option<(u32, Kind)> {
    let bytes = its_value?;
    let number = u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?);
    let kind = *Kind::ALL.get(usize::from(*bytes.get(4)?))?;
    let whole = bytes == value(number, kind) && its_key == key(number).as_ref().map(|key| &key[..]);
    whole.then_some((number, kind))
}
