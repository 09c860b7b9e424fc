//! Damage that recovery finds in the segments that it reads: each case with its place and a description for people.

use std::collections::BTreeMap;
use std::fmt;

/// The kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Entries that were durable. They are skipped.
    Entries,
    /// A copy of the header. Another copy has the same data.
    Header,
    /// All copies of the header. Data that only this segment holds is lost.
    Unreadable,
    /// The file is missing. It was the newest one, or the one before, or holds live records.
    Gone,
    /// The end of the file is missing.
    CutShort,
    /// The end of the file is empty.
    Emptied,
    /// The only checkpoint. Data that only it holds is lost.
    Checkpoint,
    /// The note of the newest segment: missing, damaged, or too old. Whether there were later groups is not known.
    Note,
}

impl What {
    /// The kind's name in machine-readable reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entries => "entries",
            Self::Header => "header",
            Self::Unreadable => "unreadable",
            Self::Gone => "gone",
            Self::CutShort => "cut_short",
            Self::Emptied => "emptied",
            Self::Checkpoint => "checkpoint",
            Self::Note => "note",
        }
    }
}

/// A damaged thing, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// The first damaged byte.
    pub position: u64,
    /// Number of damaged bytes; 0: not known.
    pub bytes: u64,
    /// The kind of damage.
    pub what: What,
}

impl Damage {
    /// Damage of a whole segment.
    pub(super) const fn of(segment: u64, what: What) -> Self {
        Self { segment, position: 0, bytes: 0, what }
    }

    /// Whether data may be lost. A damaged copy of existing data is only a sign of a failing disk.
    #[must_use]
    pub const fn may_lose(&self) -> bool {
        !matches!(self.what, What::Header)
    }

    /// Whether data of the segment itself may be lost.
    #[must_use]
    pub const fn is_of_segment(&self) -> bool {
        self.may_lose() && !matches!(self.what, What::Note)
    }
}

/// Damage found after startup, when rows are read back or records are moved.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Damaged places found.
    pub(super) places: u64,
    /// Rows in damaged places that are not reported yet, by segment.
    pub(super) untold: BTreeMap<u64, u64>,
}

impl Unreadable {
    /// Adds a damaged place, with `rows` rows.
    pub(super) fn add(&mut self, segment: u64, rows: u64) {
        self.places += 1;
        *self.untold.entry(segment).or_default() += rows;
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, position, bytes, what } = self;
        match what {
            What::Entries => write!(f, "segment {segment} is damaged at {position}, {bytes} bytes"),
            What::Header => write!(f, "a copy of the header of segment {segment} is damaged, at {position}"),
            What::Unreadable => write!(f, "segment {segment} has no readable header: what only it says is lost"),
            What::Gone => write!(f, "segment {segment} is missing"),
            What::CutShort => {
                write!(f, "segment {segment} is cut short: it ends at {position}, {bytes} bytes too early")
            }
            What::Emptied => {
                write!(f, "the end of segment {segment} is empty from {position} on: what was there is lost")
            }
            What::Checkpoint => {
                write!(f, "no checkpoint is whole, and that of segment {segment} was used as far as it can be read")
            }
            What::Note => write!(
                f,
                "the note of the newest segment (the file `newest`) is missing, damaged or too old: whether there was more than what is found \
                 up to segment {segment} is not known; if it was moved away or replaced by hand, put it back before the start, which writes a new one"
            ),
        }
    }
}
