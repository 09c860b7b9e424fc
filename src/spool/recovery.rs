//! What a start finds: the last checkpoint and what came after it. Older segments are not read; their rows are, when
//! they are drained.

use crate::record::stored::RowRun;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::disk::{Disk, ReadError};
use super::entry::{Cut, Entry};
use super::format::{ALIGN, HEADER_BYTES, Header, HeaderError, NONE, unverified};
use super::group::COMMIT_BYTES;
use super::parts::{FoundPart, chain_of, checkpoint, parts};
use super::payload::parse;
use super::read::{Read, Reader};
use super::salvage::{self, Salvaged};
use super::segment::{Rot, Scan, scan};
use super::segments::Chain;
use super::state::State;

/// Why a spool cannot be taken up. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// Written by another version of Forebay.
    #[error(
        "segment {segment}: format version {version} is not supported by this version of Forebay; let the version that wrote it send its records, then move the directory away"
    )]
    Version {
        /// The segment.
        segment: u64,
        /// Its version.
        version: u16,
    },
    /// It needs features that this program does not know.
    #[error("segment {segment}: features {features:#x} are not supported by this version of Forebay")]
    Features {
        /// The segment.
        segment: u64,
        /// Their bits.
        features: u32,
    },
    /// It has an entry that this program does not know and must not skip.
    #[error("segment {segment}: entries of kind {kind} are not supported by this version of Forebay")]
    Kind {
        /// The segment.
        segment: u64,
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
    /// Segments are there, and no checkpoint can be read.
    #[error("no readable checkpoint in any of {0} segments")]
    NoCheckpoint(usize),
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Everything that the log holds.
    pub state: State,
    /// Damage among durable bytes that were read; the rest of them counts.
    pub rot: Vec<Rot>,
    /// Live rows whose segment is gone, or whose lane has lost its name: lane and numbers. They are no longer in the state.
    pub missing: Vec<(u64, RowRun)>,
    /// Segments that held durable groups and have no readable header: what only they say is lost.
    pub unreadable: Vec<u64>,
    /// The segment before the newest, where its file is gone, though it is always kept. What it held is in the newest one's
    /// checkpoint; if that is damaged too, an older one stands in and `fate_open` holds.
    pub predecessor_missing: Option<u64>,
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

    /// Live rows of a lane that are in no uncertain cut: sent after those, under this start's producer id.
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

    /// Numbers that are left out behind those that were found: where something may be lost, so may be the entry that gave a
    /// number out.
    pub(super) const fn left_out(&self) -> u64 {
        if self.fate_open { 1 << 32 } else { 0 }
    }

    /// Reads rows and sessions of what was found, durable or not.
    #[must_use]
    pub fn reader(&self) -> FoundReader<'_> {
        FoundReader::new(&self.state)
    }
}

/// For who only looks at what a start would find.
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

    /// As [`super::Log::read_session`].
    ///
    /// # Errors
    /// The disk cannot read it.
    pub fn session(&mut self, disk: &impl Disk, session: u64) -> Result<Option<&[u8]>, ReadError> {
        self.reader.session(self.state, disk, session)
    }
}

fn without(run: RowRun, taken: RowRun) -> impl Iterator<Item = RowRun> {
    let before = RowRun { first: run.first, count: taken.first.clamp(run.first, run.end()) - run.first };
    let from = taken.end().clamp(run.first, run.end());
    let after = RowRun { first: from, count: run.end() - from };
    [before, after].into_iter().filter(|run| run.count > 0)
}

/// A segment that has been read.
pub(super) struct Looked {
    pub(super) header: Header,
    pub(super) bytes: Vec<u8>,
    pub(super) scan: Scan,
    /// The parts of checkpoints in it that are whole.
    pub(super) parts: Vec<FoundPart>,
    /// Positions of entries of checkpoints.
    pub(super) of_checkpoints: Vec<u64>,
}

/// Reads a shard's segments: their numbers and lengths in bytes. Changes nothing.
///
/// # Errors
/// [`RecoverError`].
pub fn recover(disk: &impl Disk, shard: u32, found: &BTreeMap<u64, u64>) -> Result<Recovered, RecoverError> {
    let mut chain: Vec<(u64, Looked)> = Vec::new();
    let (mut known_end, mut below) = (None, NONE);
    let (mut unreadable, mut torn_bytes) = (Vec::new(), 0);
    let (mut begun_behind, mut blank) = (None, BTreeSet::new());
    let mut silent = Vec::new();
    let (mut base, mut broken) = (None, false);
    // From the newest back, until a checkpoint is whole.
    for (segment, len) in found.iter().rev() {
        if *segment > below {
            continue; // It failed, and another took its place.
        }
        let known = known_end.filter(|_| *segment == below);
        let looked = match look(disk, shard, *segment, *len, known) {
            Err(error @ RecoverError::Read { error: ReadError::Failed, .. }) => {
                // Nothing of it can be read: the others say more, unless it is the disk that cannot.
                silent.push((*segment, *len, error));
                unreadable.push(*segment);
                continue;
            }
            looked => looked?,
        };
        let Some(mut looked) = looked else {
            if known.is_none() && is_blank(disk, *segment, *len)? {
                blank.insert(*segment);
                continue; // Made ready ahead.
            }
            let ((bytes, bad), torn) = (read_all(disk, *segment, *len)?, known.is_none());
            if !torn || !bad.is_empty() || was_durable(&bytes) {
                unreadable.push(*segment);
            } else {
                torn_bytes += bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
            }
            continue;
        };
        // Without one durable group it holds nothing, and says nothing about others.
        if known.is_none() && looked.scan.entries.is_empty() {
            // But it was begun behind one that has to be there.
            begun_behind = begun_behind.or(looked.header.goes_on_from());
            continue;
        }
        // One segment that is missing is made up for; behind another one there is no way.
        broken |= !chain.is_empty() && *segment != below;
        // What came before the groups of a newer one is durable, also where that does not say how far it goes: the one between is gone.
        looked.scan.unproven = looked.scan.unproven.filter(|_| chain.is_empty());
        (known_end, below) = (Some(looked.header.previous_end), looked.header.previous);
        chain.push((*segment, looked));
        base = checkpoint(&chain);
        if base.is_some() || below == NONE || chain.len() > 1 && broken {
            break;
        }
    }
    // A disk that gives others, and still not these, has lost them; one that was away has not.
    let all = silent.len() == found.len();
    for (segment, len, error) in silent {
        if all || !matches!(look(disk, shard, segment, len, None), Err(RecoverError::Read { .. })) {
            return Err(error);
        }
    }
    let nothing = chain.is_empty() && unreadable.is_empty();
    if !nothing && base.is_none() {
        return Err(RecoverError::NoCheckpoint(found.len()));
    }
    let gone = |place: Option<(u64, u64)>| place.map(|(segment, _)| segment).filter(|at| !found.contains_key(at));
    let fate_open = !unreadable.is_empty() || broken || gone(begun_behind).is_some();
    let mut recovered =
        Recovered { on_disk: found.clone(), blank, unreadable, fate_open, torn_bytes, ..Recovered::default() };
    let previous = chain.first().and_then(|(_, looked)| looked.header.goes_on_from());
    recovered.predecessor_missing = gone(begun_behind).or(gone(previous));
    recovered.data_dir_id = chain.first().map_or(0, |(_, looked)| looked.header.data_dir_id);
    recovered.last = chain.first().map(|(segment, looked)| (*segment, looked.scan.end));
    let base = base.unwrap_or_default();
    recovered.chain = chain_of(disk, found, &chain, base.last().copied());
    for (place, part) in base {
        let (segment, looked) = &chain[place];
        recovered.take_up(*segment, looked, &looked.parts[part]);
    }
    for (segment, looked) in chain.iter().rev() {
        recovered.replay(*segment, looked);
    }
    recovered.settle(found);
    Ok(recovered)
}

/// A segment's header: the first, or the copy at its end.
///
/// # Errors
/// [`RecoverError::Version`], [`RecoverError::Read`].
pub(super) fn header(disk: &impl Disk, segment: u64, len: u64) -> Result<Option<Header>, RecoverError> {
    let mut damaged = None;
    for at in [0, len.saturating_sub(HEADER_BYTES as u64)] {
        let mut bytes = [0; HEADER_BYTES];
        if len < HEADER_BYTES as u64 {
            break;
        }
        match disk.read(segment, at, &mut bytes) {
            // As good as damaged: there is another.
            Err(ReadError::Damaged | ReadError::Failed) => continue,
            read => read.map_err(|error| RecoverError::Read { segment, error })?,
        }
        match Header::decode(&bytes) {
            Ok(header) if header.segment == segment => return Ok(Some(header)),
            Err(HeaderError::Version(version)) => damaged = Some(RecoverError::Version { segment, version }),
            Err(HeaderError::Features(features)) => damaged = Some(RecoverError::Features { segment, features }),
            Ok(_) | Err(HeaderError::Damaged) => {}
        }
    }
    damaged.map_or(Ok(None), Err)
}

fn look(
    disk: &impl Disk,
    shard: u32,
    segment: u64,
    len: u64,
    known_end: Option<u64>,
) -> Result<Option<Looked>, RecoverError> {
    let Some(header) = header(disk, segment, len)? else { return Ok(None) };
    if header.shard != shard {
        return Err(RecoverError::Shard { segment, shard: header.shard });
    }
    let (bytes, bad) = read_all(disk, segment, len)?;
    let mut scan = scan(&bytes, segment, header.salt, known_end);
    // Behind the last whole group too: what cannot be read may have been one, where what was never written can be.
    let behind = bad.iter().filter(|(at, bytes)| known_end.is_none() && at + bytes > scan.end);
    scan.rot.extend(behind.map(|(position, bytes)| Rot { segment, position: *position, bytes: *bytes }));
    if let Some(kind) = scan.unknown {
        return Err(RecoverError::Kind { segment, kind });
    }
    let (parts, of_checkpoints) = parts(&bytes, header.salt, &scan);
    Ok(Some(Looked { header, bytes, scan, parts, of_checkpoints }))
}

/// Whether nothing was ever written at its front or over the copy of its header.
fn is_blank(disk: &impl Disk, segment: u64, len: u64) -> Result<bool, RecoverError> {
    let front = salvage::read(disk, segment, 0, len.min(4 << 10) as usize);
    let copy = len.checked_sub(HEADER_BYTES as u64).map(|at| salvage::read(disk, segment, at, HEADER_BYTES));
    for part in [Some(front), copy].into_iter().flatten() {
        let (bytes, bad) = part.map_err(|error| RecoverError::Read { segment, error })?;
        if !bad.is_empty() || bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// All of a segment but the copy of its header, and the parts of it that the disk does not give.
///
/// # Errors
/// [`RecoverError::Read`].
pub(super) fn read_all(disk: &impl Disk, segment: u64, len: u64) -> Result<Salvaged, RecoverError> {
    let len = (len as usize).saturating_sub(HEADER_BYTES);
    salvage::read(disk, segment, 0, len).map_err(|error| RecoverError::Read { segment, error })
}

/// Whether a segment without a header held a durable group: a commit of a later group says so. A first group that the
/// power cut short looks like damage otherwise. Without the salt no checksum can be looked at.
pub(super) fn was_durable(bytes: &[u8]) -> bool {
    let at = |position: usize| {
        let (kind, len, payload) = unverified(bytes.get(position..)?)?;
        match (len, parse(kind, payload)?) {
            (len, Entry::Commit { start, .. }) if len == COMMIT_BYTES => {
                Some(start > HEADER_BYTES as u64 && start < position as u64)
            }
            _ => None,
        }
    };
    (HEADER_BYTES..bytes.len()).step_by(ALIGN).any(|position| at(position) == Some(true))
}
