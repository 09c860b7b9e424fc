//! Recovery: reads the last checkpoint and the groups after it. Older segments are not read at startup; their rows are read
//! when they are drained.

use forebay_record::stored::RowRun;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::damage::Damage;
use super::disk::{Disk, ReadError};
use super::entry::{Cut, Kind};
use super::format::{ENTRY_HEADER_BYTES, Header, unverified_claim};
use super::read::{Read, Reader};
use super::segment::Rot;
use super::segments::Chain;
use super::state::State;
use super::way::Way;

/// Why a spool cannot be recovered. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// Another version of Forebay wrote the segment.
    #[error("segment {segment}: format version {version} is not supported by this version of Forebay")]
    Version {
        /// The segment.
        segment: u64,
        /// The format version of the segment.
        version: u16,
    },
    /// The segment needs features that this program does not know.
    #[error("segment {segment}: features {features:#x} are not supported by this version of Forebay")]
    Features {
        /// The segment.
        segment: u64,
        /// The unknown feature bits.
        features: u32,
    },
    /// The segment has an entry that this program does not know and must not skip.
    #[error(
        "segment {segment}: entries of kind {kind} (the first at {position}) are not supported by this version of Forebay"
    )]
    Kind {
        /// The segment.
        segment: u64,
        /// Position of the entry.
        position: u64,
        /// The kind's number.
        kind: u8,
    },
    /// The segment belongs to another shard.
    #[error("segment {segment} belongs to shard {shard}")]
    Shard {
        /// The segment.
        segment: u64,
        /// The shard that wrote it.
        shard: u32,
    },
    /// The disk cannot read the segment.
    #[error("segment {segment}: {error}")]
    Read {
        /// The segment.
        segment: u64,
        /// The cause.
        error: ReadError,
    },
}

impl RecoverError {
    /// The segment that the error is about.
    #[must_use]
    pub const fn segment(&self) -> u64 {
        match self {
            Self::Version { segment, .. }
            | Self::Features { segment, .. }
            | Self::Kind { segment, .. }
            | Self::Shard { segment, .. }
            | Self::Read { segment, .. } => *segment,
        }
    }

    /// What an operator can do about the error.
    #[must_use]
    pub const fn cure(&self) -> &'static str {
        match self {
            Self::Version { .. } | Self::Features { .. } | Self::Kind { .. } => {
                "let the version that wrote it send its records, then move the directory away"
            }
            Self::Shard { .. } => "put the file back into the folder of that shard",
            Self::Read { error: ReadError::Unopened, .. } => {
                "give the service's user access to the file, or let the service open more files"
            }
            Self::Read { .. } => {
                "look at the disk (dmesg); if what the file held is lost for good, and only then, move it away: the next start says \
                 what that costs"
            }
        }
    }
}

/// A record of a session (or of another kept item) that recovery cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecord {
    /// The record's number.
    pub number: u64,
    /// The segment that held the record.
    pub segment: u64,
    /// The record's position in that segment.
    pub position: u64,
    /// The first byte of the record's payload, which names its kind, if that byte seems to be readable.
    pub format: Option<u8>,
    /// Whether an older record of the same number can be read; that one counts.
    pub has_older: bool,
}

/// The result of recovery.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Everything that the log holds.
    pub state: State,
    /// Damage among durable bytes that were read; the other bytes count.
    pub rot: Vec<Rot>,
    /// All damage, including that of `rot`.
    pub damage: Vec<Damage>,
    /// Live rows that are lost because their segment is missing or their lane has no name any more: lane and numbers. The
    /// state no longer contains them.
    pub missing: Vec<(u64, RowRun)>,
    /// Segments that held durable groups and have no readable header. Data that only they hold is lost.
    pub unreadable: Vec<u64>,
    /// Approximate number of rows in the unreadable segments.
    pub rows_unreadable: u64,
    /// The segment before the newest, if its file is missing although it is always kept. The newest segment's checkpoint
    /// covers its contents; if that is damaged too, recovery uses an older checkpoint and `fate_open` is true.
    pub predecessor_missing: Option<u64>,
    /// Records with damaged entries in the segments that were replayed, by number. Other damaged records are found when they
    /// are read ([`Recovered::records`]).
    pub(super) lost: BTreeMap<u64, LostRecord>,
    /// Whether damage may have hit a cut, done or end: live rows may be in Kafka already. They are sent, and counted as
    /// `outcome_unknown`.
    pub fate_open: bool,
    /// Open cuts with missing rows: the sink, and the number of rows that still live. The cuts are void; Kafka may have these
    /// rows, which are sent again and counted as `outcome_unknown`.
    pub voided: Vec<(Arc<str>, u64)>,
    /// Bytes of groups that were never whole. None of their rows was acknowledged.
    pub torn_bytes: u64,
    /// Segments and their sizes in bytes.
    pub(super) on_disk: BTreeMap<u64, u64>,
    /// Segments that were prepared in advance and hold nothing.
    pub(super) blank: BTreeSet<u64>,
    pub(super) last: Option<(u64, u64)>,
    /// The header of the newest segment with a group that is known to be durable.
    pub(super) newest: Option<Header>,
    /// The part of the log that a later recovery may read.
    pub(super) chain: Chain,
    /// The data directory that the newest segment names; 0: none.
    pub data_dir_id: u128,
    /// The latest wall-clock time at which one of the groups read was written, milliseconds; 0: not known.
    pub written_ms: i64,
    pub(super) group: u64,
    /// The last group, if no sync is known to have covered it.
    pub(super) unproven: Option<Unproven>,
    /// Entries, not sealed, that end rows of missing segments and cuts without all of their rows.
    pub(super) settling: Vec<u8>,
}

/// The last group found: its bytes may be in the page cache only, or may look written after a failed write. The group is part
/// of [`Recovered::state`], and the log writes it again before anything recovered may be acted on. A group with nothing but a
/// checkpoint adds nothing to the state, and is not written again.
#[derive(Clone, Debug)]
pub(super) struct Unproven {
    /// The state without the group.
    pub(super) state: State,
    /// The end of the group before, which is durable.
    pub(super) last: Option<(u64, u64)>,
    /// The group's entries, without a checkpoint and the commit.
    pub(super) entries: Vec<u8>,
}

impl Recovered {
    /// Cuts that may or may not be in Kafka, oldest first, with the identity under which they are sent again.
    #[must_use]
    pub fn uncertain(&self) -> Vec<Cut> {
        self.state.cuts().cloned().collect()
    }

    /// Live rows of a lane that are in no uncertain cut. They are sent after the uncertain cuts, under a new producer id.
    #[must_use]
    pub fn uncut(&self, lane: u64) -> Vec<RowRun> {
        let mut runs: Vec<RowRun> =
            self.state.lane(lane).into_iter().flat_map(|lane| lane.spans().map(|span| span.run)).collect();
        let cuts = self.state.cuts().filter(|cut| cut.head.lane == lane);
        for taken in cuts.flat_map(|cut| cut.rows.iter()) {
            runs = runs.into_iter().flat_map(|run| without(run, *taken)).collect();
        }
        runs
    }

    /// The number for the next kept session.
    #[must_use]
    pub const fn next_session(&self) -> u64 {
        self.state.next_session + self.left_out()
    }

    /// Numbers to skip after those found: if entries may be lost, the entry that assigned a number may be among them.
    pub(super) const fn left_out(&self) -> u64 {
        if self.fate_open { 1 << 32 } else { 0 }
    }

    /// A reader of recovered rows, durable or not.
    #[must_use]
    pub fn reader(&self) -> FoundReader<'_> {
        FoundReader::new(&self.state)
    }

    /// Calls `each` with every record of a session (or of another kept item) that recovery finds or misses, by number.
    ///
    /// # Errors
    /// The disk cannot read a record now, but may later.
    pub fn records<D: Disk>(
        &self,
        disk: &D,
        mut each: impl FnMut(u64, Result<&[u8], LostRecord>),
    ) -> Result<(), RecoverError> {
        self.lost.values().for_each(|lost| each(lost.number, Err(*lost)));
        let mut reader = Reader::default();
        for (number, (segment, position, _)) in &self.state.sessions {
            let (number, segment, position) = (*number, *segment, *position);
            match reader.session(&self.state, disk, number) {
                Ok(Some(payload)) => each(number, Ok(payload)),
                // The record is damaged, or its segment is missing (S7).
                Ok(None) | Err(ReadError::Missing | ReadError::Damaged) => {
                    let format = format_at(disk, (segment, position), number);
                    each(number, Err(LostRecord { number, segment, position, format, has_older: false }));
                }
                Err(error) => return Err(RecoverError::Read { segment, error }),
            }
        }
        Ok(())
    }
}

/// The format of the record that seems to be at this position, if the head is intact.
fn format_at(disk: &impl Disk, (segment, position): (u64, u64), number: u64) -> Option<u8> {
    let mut head = [0; RECORD_HEAD_BYTES];
    disk.read(segment, position, &mut head).ok()?;
    record_head(&head).filter(|(found, _)| *found == number).map(|(_, format)| format)
}

/// Bytes of a record's entry up to the first of its payload.
pub(super) const RECORD_HEAD_BYTES: usize = ENTRY_HEADER_BYTES + 9;

/// Number and format of the record that seems to begin here. No checksum was verified.
pub(super) fn record_head(bytes: &[u8]) -> Option<(u64, u8)> {
    unverified_claim(bytes).filter(|(kind, _)| *kind == Kind::Session)?;
    let (number, rest) = bytes.get(ENTRY_HEADER_BYTES..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), *rest.first()?))
}

/// A reader for tools that only inspect what recovery would find.
#[derive(Debug)]
pub struct FoundReader<'a> {
    state: &'a State,
    reader: Reader,
}

impl<'a> FoundReader<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, reader: Reader::default() }
    }

    /// Like [`super::Log::read`].
    ///
    /// # Errors
    /// The disk cannot read the rows.
    pub fn rows(&mut self, disk: &impl Disk, lane: u64, from: u64, end: u64) -> Result<Read<'_>, ReadError> {
        self.reader.rows(self.state, disk, lane, from, end)
    }
}

fn without(run: RowRun, taken: RowRun) -> impl Iterator<Item = RowRun> {
    let before = RowRun { first: run.first, count: taken.first.clamp(run.first, run.end()) - run.first };
    let from = taken.end().clamp(run.first, run.end());
    let after = RowRun { first: from, count: run.end() - from };
    [before, after].into_iter().filter(|run| run.count > 0)
}

/// Reads a shard's segments, given by number with their lengths in bytes. Changes nothing.
///
/// # Errors
/// [`RecoverError`].
pub fn recover(disk: &impl Disk, shard: u32, found: &BTreeMap<u64, u64>) -> Result<Recovered, RecoverError> {
    let mut way = Way::new(disk, shard, found);
    for (segment, len) in found.iter().rev() {
        if way.step(*segment, *len)? {
            break;
        }
    }
    way.end()
}
