//! What a start finds: the last checkpoint and what came after it. Older segments are not read; their rows are, when
//! they are drained.

use crate::record::stored::RowRun;
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

/// Why a spool cannot be taken up. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// Written by another version of Forebay.
    #[error("segment {segment}: format version {version} is not supported by this version of Forebay")]
    Version {
        /// The segment.
        segment: u64,
        /// The format version of the segment.
        version: u16,
    },
    /// It needs features that this program does not know.
    #[error("segment {segment}: features {features:#x} are not supported by this version of Forebay")]
    Features {
        /// The segment.
        segment: u64,
        /// The feature bits that are not known.
        features: u32,
    },
    /// It has an entry that this program does not know and must not skip.
    #[error(
        "segment {segment}: entries of kind {kind} (the first at {position}) are not supported by this version of Forebay"
    )]
    Kind {
        /// The segment.
        segment: u64,
        /// Where it stands.
        position: u64,
        /// The kind's number.
        kind: u8,
    },
    /// Of another shard.
    #[error("segment {segment} belongs to shard {shard}")]
    Shard {
        /// The segment.
        segment: u64,
        /// The shard that wrote it.
        shard: u32,
    },
    /// The disk cannot read it.
    #[error("segment {segment}: {error}")]
    Read {
        /// The segment.
        segment: u64,
        /// The cause.
        error: ReadError,
    },
}

impl RecoverError {
    /// The segment that it is about.
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

    /// What an operator can do.
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

/// A record of a session, or of what is kept like one, that a start cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRecord {
    /// The record's number.
    pub number: u64,
    /// The segment that it stood in, and where.
    pub segment: u64,
    /// Its position there.
    pub position: u64,
    /// The first byte of its payload, by which what is kept is told apart, as far as that seems to be readable.
    pub format: Option<u8>,
    /// An older one of the same number can be read, and counts.
    pub has_older: bool,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Everything that the log holds.
    pub state: State,
    /// Damage among durable bytes that were read; the rest of them counts.
    pub rot: Vec<Rot>,
    /// All that is damaged, those bytes among it.
    pub damage: Vec<Damage>,
    /// Live rows that are lost because their segment is gone or their lane has no name any more: lane and numbers.
    /// They are no longer in the state.
    pub missing: Vec<(u64, RowRun)>,
    /// Segments that held durable groups and have no readable header: what only they say is lost.
    pub unreadable: Vec<u64>,
    /// Rows that seem to have been in these, about.
    pub rows_unreadable: u64,
    /// The segment before the newest, where its file is gone, though it is always kept. What it held is in the newest one's
    /// checkpoint; if that is damaged too, an older one stands in and `fate_open` holds.
    pub predecessor_missing: Option<u64>,
    /// Records with damaged entries in the segments that were replayed, by number. Others are found when they are
    /// read ([`Recovered::records`]).
    pub(super) lost: BTreeMap<u64, LostRecord>,
    /// Damage may have hit a cut, done or end: rows that are here may be in Kafka already. They are sent, and counted as
    /// `outcome_unknown`.
    pub fate_open: bool,
    /// Open cuts of which some rows are gone: their sink and how many of their rows still live. They are void; Kafka may
    /// have these rows, which are sent again and counted as `outcome_unknown`.
    pub voided: Vec<(Arc<str>, u64)>,
    /// Bytes of groups that were never whole. They were answered to nobody.
    pub torn_bytes: u64,
    /// Segments and their bytes.
    pub(super) on_disk: BTreeMap<u64, u64>,
    /// Segments that were made ready ahead and hold nothing.
    pub(super) blank: BTreeSet<u64>,
    pub(super) last: Option<(u64, u64)>,
    /// The header of the newest segment with a group that is known to be durable.
    pub(super) newest: Option<Header>,
    /// What a start may read of it from now on.
    pub(super) chain: Chain,
    /// The data directory that the newest segment names; 0: none.
    pub(crate) data_dir_id: u128,
    /// The latest that the wall clock was when one of the groups that were read was written, milliseconds; 0: not known.
    pub(crate) written_ms: i64,
    pub(super) group: u64,
    /// The last group, if no sync is known to have covered it.
    pub(super) unproven: Option<Unproven>,
    /// Entries, not sealed, that end what cannot be: rows of missing segments, cuts without all of their rows.
    pub(super) settling: Vec<u8>,
}

/// The last group that was found: its bytes may stand in the page cache only, or seem written after a failed write. It is
/// part of [`Recovered::state`], and the log writes it again before anything that was found may be acted on.
#[derive(Clone, Debug)]
pub(super) struct Unproven {
    /// The state without it.
    pub(super) state: State,
    /// Where the group before it ends, which is durable.
    pub(super) last: Option<(u64, u64)>,
    /// Its entries, without a checkpoint and the commit.
    pub(super) entries: Vec<u8>,
}

impl Recovered {
    /// Cuts that may or may not be in Kafka, oldest first, with the identity that they are sent again with.
    #[must_use]
    pub fn uncertain(&self) -> Vec<Cut> {
        self.state.cuts().cloned().collect()
    }

    /// Live rows of a lane that are in no uncertain cut: sent after the uncertain ones, under a new producer id.
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

    /// Numbers that are skipped after those that were found: where entries may be lost, the one that gave out a
    /// number may be among them.
    pub(super) const fn left_out(&self) -> u64 {
        if self.fate_open { 1 << 32 } else { 0 }
    }

    /// Reads rows of what was found, durable or not.
    #[must_use]
    pub fn reader(&self) -> FoundReader<'_> {
        FoundReader::new(&self.state)
    }

    /// Calls back with each record of a session, or of what is kept like one, that a start finds or misses, by their numbers.
    ///
    /// # Errors
    /// The disk cannot read one now, and may later.
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
                // Damaged, or its segment is gone (S7).
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

/// The format of the record that seems to stand at a place, if its head is as it was.
fn format_at(disk: &impl Disk, (segment, position): (u64, u64), number: u64) -> Option<u8> {
    let mut head = [0; RECORD_HEAD_BYTES];
    disk.read(segment, position, &mut head).ok()?;
    record_head(&head).filter(|(found, _)| *found == number).map(|(_, format)| format)
}

/// Bytes of a record's entry up to the first of its payload.
pub(super) const RECORD_HEAD_BYTES: usize = ENTRY_HEADER_BYTES + 9;

/// Number and format of the record that seems to begin here. No checksum has been looked at.
pub(super) fn record_head(bytes: &[u8]) -> Option<(u64, u8)> {
    unverified_claim(bytes).filter(|(kind, _)| *kind == Kind::Session)?;
    let (number, rest) = bytes.get(ENTRY_HEADER_BYTES..)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*number), *rest.first()?))
}

/// For tools that only look at what a start would find.
#[derive(Debug)]
pub struct FoundReader<'a> {
    state: &'a State,
    reader: Reader,
}

impl<'a> FoundReader<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        Self { state, reader: Reader::default() }
    }

    /// As [`super::Log::read`].
    ///
    /// # Errors
    /// The disk cannot read them.
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

/// Reads a shard's segments: their numbers and lengths in bytes. Changes nothing.
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
