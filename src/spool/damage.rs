//! What a start finds damaged in the segments that it reads: each thing with its place, in words for a person.

use std::collections::BTreeMap;
use std::fmt;

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// Entries, that were durable. They are passed over.
    Entries,
    /// A copy of the header. Another one says the same.
    Header,
    /// All copies of the header: what only this segment says is lost.
    Unreadable,
    /// The file. It was the newest one, or the one before, or stands for records that live.
    Gone,
    /// The end of the file, which is not there.
    CutShort,
    /// The end of the file, which is empty.
    Emptied,
    /// The only checkpoint: what only it says is lost.
    Checkpoint,
    /// The note of the newest segment: missing, damaged, or older than it can be. Whether there was more is not known.
    Note,
}

impl What {
    /// Its name in reports for programs.
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

/// A thing that is damaged, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u64,
    /// The first damaged byte.
    pub position: u64,
    /// How many; 0: that is not known.
    pub bytes: u64,
    /// What it is.
    pub what: What,
}

impl Damage {
    /// The whole of a segment.
    pub(super) const fn of(segment: u64, what: What) -> Self {
        Self { segment, position: 0, bytes: 0, what }
    }

    /// Whether something may be lost with it. A copy of what is there is only a sign of a failing disk.
    #[must_use]
    pub const fn may_lose(&self) -> bool {
        !matches!(self.what, What::Header)
    }

    /// Whether something of the segment itself may be lost.
    #[must_use]
    pub const fn is_of_segment(&self) -> bool {
        self.may_lose() && !matches!(self.what, What::Note)
    }
}

/// Damage that is found after the start, when rows are read back or records are moved.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Places found.
    pub(super) places: u64,
    /// Rows in them that nobody was told of, by segment.
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
