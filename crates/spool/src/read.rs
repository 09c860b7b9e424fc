//! Reads from the log: rows for a drain or a move, and kept sessions. One buffer holds the current piece of a segment.

use foldhash::fast::RandomState;
use forebay_record::stored::{Origin, RowRun};
use hashbrown::HashMap;

use super::codec::In;
use super::disk::{Disk, ReadError};
use super::entry::{Deadline, Entry, Kind, Rows};
use super::format::{ALIGN, ENTRY_HEADER_BYTES, claim, entry_len, framed};
use super::lists::Listed;
use super::payload::{ROWS_HEAD_BYTES, parse, rows_head};
use super::salvage::Salvage;
use super::state::{Held, State};
use forebay_record::{Record, Records};

/// Bytes read at a time.
const PIECE: usize = 64 << 10;

/// Live rows that are contiguous in the log.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    rows: Rows<'a>,
    /// The numbers of the rows.
    pub run: RowRun,
}

/// A row read from the log.
#[derive(Clone, Debug)]
pub struct RowBack<'a> {
    /// The number of the row.
    pub number: u64,
    /// Timestamp, key, and the encoded tail (key, value, headers) that `record` puts into a batch.
    pub record: Record<'a>,
    /// The row's deadline, if it expires.
    pub deadline: Option<Deadline>,
    /// The value used instead of its key's hash.
    pub hash: Option<u32>,
    /// The packet id that the row opened. It may be free again: the state's open ids show that.
    pub origin: Option<Origin>,
}

/// The result of reading at a number.
#[derive(Clone, Copy, Debug)]
pub enum Read<'a> {
    /// Rows.
    Block(Block<'a>),
    /// The bytes of these rows are damaged or gone. The caller ends them ([`super::Reason::Rotten`]) and counts them.
    Rotten(RowRun),
    /// No live row from that number up to the end.
    Empty,
}

impl<'a> Block<'a> {
    /// The rows, in order. Ends early at a record that cannot be parsed; the first one always can.
    pub fn rows(&self) -> impl Iterator<Item = RowBack<'a>> + use<'a> {
        let (rows, run) = (self.rows, self.run);
        let skip = (run.first - rows.run.first) as u32;
        let mut deadlines = rows.deadlines.iter().peekable();
        let mut hashes = rows.hashes.iter().peekable();
        let mut origins = rows.origins.iter().peekable();
        let count = run.count as u32;
        let records = Records::new(self.bytes(), count as i32, rows.base_timestamp);
        (skip..skip + count).zip(records).map_while(move |(index, record)| {
            while deadlines.next_if(|(at, _)| *at < index).is_some() {}
            while hashes.next_if(|(at, _)| *at < index).is_some() {}
            while origins.next_if(|(at, _)| *at < index).is_some() {}
            Some(RowBack {
                number: rows.run.first + u64::from(index),
                record: record.ok()?,
                deadline: deadlines.next_if(|(at, _)| *at == index).map(|(_, deadline)| deadline),
                hash: hashes.next_if(|(at, _)| *at == index).map(|(_, hash)| hash),
                origin: origins.next_if(|(at, _)| *at == index).map(|(_, origin)| origin),
            })
        })
    }

    /// The bytes of the block's records.
    fn bytes(&self) -> &'a [u8] {
        let skip = self.run.first - self.rows.run.first;
        let from = past(self.rows.records, skip);
        &from[..from.len() - past(from, self.run.count).len()]
    }

    /// Bytes that the block takes in a group, rounded up.
    pub(super) fn len(&self) -> usize {
        let rows = &self.rows;
        let lists = 14 * rows.origins.len() + 20 * rows.deadlines.len() + 8 * rows.hashes.len();
        entry_len(ROWS_HEAD_BYTES + lists + rows.records.len())
    }

    /// Appends the block to a group as rows of a lane, with their own numbers. Returns the number after the last.
    pub(super) fn put(&self, lane: u64, out: &mut Vec<u8>) -> u64 {
        let (rows, skip) = (self.rows, (self.run.first - self.rows.run.first) as u32);
        let here = |index: u32| index.checked_sub(skip).filter(|index| u64::from(*index) < self.run.count);
        let origins: Vec<_> = rows.origins.iter().filter_map(|(index, item)| Some((here(index)?, item))).collect();
        let deadlines: Vec<_> = rows.deadlines.iter().filter_map(|(index, item)| Some((here(index)?, item))).collect();
        let hashes: Vec<_> = rows.hashes.iter().filter_map(|(index, item)| Some((here(index)?, item))).collect();
        Entry::Rows(Rows {
            lane,
            run: self.run,
            base_timestamp: rows.base_timestamp,
            origins: Listed::new(&origins),
            deadlines: Listed::new(&deadlines),
            hashes: Listed::new(&hashes),
            records: self.bytes(),
        })
        .put(out);
        self.run.end()
    }
}

/// The records after the first `count`.
fn past(mut records: &[u8], count: u64) -> &[u8] {
    for _ in 0..count {
        let mut after = records;
        let len = forebay_record::varint::get_i32(&mut after).and_then(|len| usize::try_from(len).ok());
        let Some(rest) = len.and_then(|len| after.get(len..)) else { return &[] };
        records = rest;
    }
    records
}

/// The reader of a log's rows and sessions.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// A piece of a segment: its number, where it starts, its bytes.
    segment: u64,
    start: u64,
    bytes: Vec<u8>,
    /// A piece that the disk cannot read as a whole.
    salvage: Option<Salvage>,
    /// How far each lane was read: its rows in that segment from that number on are at that position or after it.
    cursors: HashMap<u64, Cursor, RandomState>,
    /// Searches for a row (by lane and number) that wait for the disk. A search may read more than the disk keeps ready, and a
    /// lane may have several readers, so each search continues where it stopped.
    searches: HashMap<(u64, u64), Search, RandomState>,
}

/// The progress of a search for a row.
#[derive(Clone, Copy, Debug)]
struct Search {
    segment: u64,
    at: u64,
    /// Whether the search trusts no length before its entry's checksum is verified, because the lengths did not lead to the
    /// row.
    verifies: bool,
    /// The first number of the lane's next block, if known.
    next: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    segment: u64,
    number: u64,
    position: u64,
}

impl Reader {
    pub(super) fn forget(&mut self, lane: u64) {
        self.cursors.remove(&lane);
        self.searches.retain(|(of, _), _| *of != lane);
    }

    /// The first live rows of a lane from `from` on, below `end`, that are in one block.
    pub(super) fn rows(
        &mut self,
        state: &State,
        disk: &impl Disk,
        lane: u64,
        from: u64,
        end: u64,
    ) -> Result<Read<'_>, ReadError> {
        let span = state.lane(lane).and_then(|lane| lane.seek(from)).filter(|span| span.run.first < end);
        let Some(span) = span else { return Ok(Read::Empty) };
        let held = state.segments.get(&span.segment).copied().unwrap_or_default();
        let (number, end) = (span.run.first, span.run.end().min(end));
        let begun = self.searches.remove(&(lane, number)).filter(|search| search.segment == span.segment);
        self.forget_ended_searches(state);
        let cursor = self.cursors.get(&lane).filter(|at| at.segment == span.segment && at.number <= number);
        let known = cursor.map_or(span.position, |at| at.position.max(span.position));
        let mut walk = Walk { reader: self, disk, segment: span.segment, held, lane, number };
        let trusted = match begun {
            Some(search) if search.verifies => None,
            begun => walk.trusting(begun.map_or(known, |search| search.at.max(known)))?,
        };
        let (at, len) = match trusted {
            Some(found) => found,
            None => match walk.verifying(span.position, begun.filter(|search| search.verifies))? {
                Ok(found) => found,
                Err(next) => {
                    let end = next.unwrap_or(u64::MAX).min(end);
                    return Ok(Read::Rotten(RowRun { first: number, count: end - number }));
                }
            },
        };
        let bytes = self.piece(disk, span.segment, held.end, at, len)?;
        let payload_len = bytes.first_chunk().map_or(0, |len| u32::from_be_bytes(*len) as usize);
        let payload = bytes.get(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + payload_len);
        let Some(Entry::Rows(rows)) = payload.and_then(|payload| parse(Kind::Rows, payload)) else {
            return Ok(Read::Rotten(RowRun { first: number, count: 1 }));
        };
        let block = Block { rows, run: RowRun { first: number, count: end.min(rows.run.end()) - number } };
        if block.rows().next().is_none() {
            return Ok(Read::Rotten(RowRun { first: number, count: 1 }));
        }
        Ok(Read::Block(block))
    }

    /// Forgets searches for rows that have ended, before their map grows.
    fn forget_ended_searches(&mut self, state: &State) {
        if self.searches.len() == self.searches.capacity() {
            let lives = |(lane, number): &(u64, u64)| {
                state.lane(*lane).and_then(|lane| lane.seek(*number)).is_some_and(|span| span.run.first == *number)
            };
            self.searches.retain(|row, _| lives(row));
        }
    }

    /// A kept session's bytes; `None`: damaged, or no such session.
    pub(super) fn session(
        &mut self,
        state: &State,
        disk: &impl Disk,
        session: u64,
    ) -> Result<Option<&[u8]>, ReadError> {
        let Some((segment, position, len)) = state.sessions.get(&session).copied() else { return Ok(None) };
        let held = state.segments.get(&segment).copied().unwrap_or_default();
        if position + len > held.end {
            return Ok(None);
        }
        let bytes = self.piece(disk, segment, held.end, position, len as usize)?;
        let found = framed(bytes, held.salt, position).and_then(|entry| entry.parsed());
        match found {
            Some(Entry::Session { session: found, payload }) if found == session => Ok(Some(payload)),
            _ => Ok(None),
        }
    }

    /// Bytes of a segment, below the end of its durable part, where they no longer change.
    fn piece(&mut self, disk: &impl Disk, segment: u64, end: u64, at: u64, len: usize) -> Result<&[u8], ReadError> {
        let inside =
            segment == self.segment && at >= self.start && at + len as u64 <= self.start + self.bytes.len() as u64;
        if !inside {
            let bytes = end.saturating_sub(at).min(PIECE.max(len) as u64) as usize;
            let begun = self.salvage.take_if(|salvage| (salvage.segment, salvage.at) == (segment, at));
            if let Some(salvage) = begun {
                self.salvaged(disk, salvage)?;
            } else {
                self.bytes.resize(bytes, 0);
                match disk.read(segment, at, &mut self.bytes) {
                    Ok(()) => {}
                    Err(ReadError::Damaged | ReadError::Failed) => {
                        self.salvaged(disk, Salvage::new(segment, at, bytes))?
                    }
                    Err(error) => {
                        self.bytes.clear();
                        return Err(error);
                    }
                }
            }
            (self.segment, self.start) = (segment, at);
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.get(from..from + len).unwrap_or_default())
    }

    /// Reads as much of a piece as the disk can read.
    fn salvaged(&mut self, disk: &impl Disk, mut salvage: Salvage) -> Result<(), ReadError> {
        self.bytes.clear();
        match salvage.read(disk) {
            Ok((bytes, _)) => self.bytes = bytes,
            Err(ReadError::Later) => {
                self.salvage = Some(salvage);
                return Err(ReadError::Later);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The search for one row.
struct Walk<'a, D> {
    reader: &'a mut Reader,
    disk: &'a D,
    segment: u64,
    held: Held,
    lane: u64,
    number: u64,
}

/// An entry's place and bytes.
type Place = (u64, usize);

impl<D: Disk> Walk<'_, D> {
    /// Goes from entry to entry by the lengths that they claim, until one holds the row. `None`: the row was not found this
    /// way.
    fn trusting(&mut self, from: u64) -> Result<Option<Place>, ReadError> {
        let mut at = from;
        while at + ENTRY_HEADER_BYTES as u64 <= self.held.end {
            let waits = Search { segment: self.segment, at, verifies: false, next: None };
            let Some((len, block)) = self.peek(at).map_err(|error| self.waits(waits, error))? else { return Ok(None) };
            if block.is_some_and(|run| (run.first..run.end()).contains(&self.number)) {
                self.note(at);
                return Ok(self.whole(at, len).map_err(|error| self.waits(waits, error))?.then_some((at, len)));
            }
            at += len as u64;
        }
        Ok(None)
    }

    /// Finds the row as `trusting` does, but trusts no length before its entry's checksum is verified. If the row is not found:
    /// the number of the lane's next block after it, if there is one.
    fn verifying(&mut self, from: u64, begun: Option<Search>) -> Result<Result<Place, Option<u64>>, ReadError> {
        let (mut at, mut next) = begun.map_or((from, None), |search| (search.at, search.next));
        while at + ENTRY_HEADER_BYTES as u64 <= self.held.end {
            let waits = Search { segment: self.segment, at, verifies: true, next };
            match self.verified(at).map_err(|error| self.waits(waits, error))? {
                Some((len, block)) => {
                    match block {
                        Some(run) if (run.first..run.end()).contains(&self.number) => {
                            self.note(at);
                            return Ok(Ok((at, len)));
                        }
                        Some(run) if run.first > self.number => next = Some(next.unwrap_or(u64::MAX).min(run.first)),
                        _ => {}
                    }
                    at += len as u64;
                }
                None => at += ALIGN as u64,
            }
        }
        Ok(Err(next))
    }

    /// Notes where the search continues when the disk has more, whatever other searches of the lane do meanwhile.
    fn waits(&mut self, search: Search, error: ReadError) -> ReadError {
        self.reader.searches.insert((self.lane, self.number), search);
        error
    }

    /// Reads an entry and verifies its checksum: its length, and its numbers if it is a block of the lane; `None`: the checksum
    /// is wrong.
    fn verified(&mut self, at: u64) -> Result<Option<(usize, Option<RowRun>)>, ReadError> {
        let Some((len, block)) = self.peek(at)? else { return Ok(None) };
        Ok(self.whole(at, len)?.then_some((len, block)))
    }

    fn note(&mut self, position: u64) {
        let cursor = Cursor { segment: self.segment, number: self.number, position };
        self.reader.cursors.insert(self.lane, cursor);
    }

    /// The claims of an entry: its length, and its numbers if it is a block of the lane.
    fn peek(&mut self, at: u64) -> Result<Option<(usize, Option<RowRun>)>, ReadError> {
        let (end, salt, lane) = (self.held.end, self.held.salt, self.lane);
        let bytes = end.saturating_sub(at).min((ENTRY_HEADER_BYTES + ROWS_HEAD_BYTES) as u64) as usize;
        let head = self.reader.piece(self.disk, self.segment, end, at, bytes)?;
        let Some((kind, len)) = claim(head, salt).filter(|(_, len)| at + *len as u64 <= end) else { return Ok(None) };
        let block = (kind == Some(Kind::Rows)).then(|| rows_head(&mut In(&head[ENTRY_HEADER_BYTES..]))).flatten();
        Ok(Some((len, block.filter(|(of, _)| *of == lane).map(|(_, run)| run))))
    }

    fn whole(&mut self, at: u64, len: usize) -> Result<bool, ReadError> {
        let salt = self.held.salt;
        let bytes = self.reader.piece(self.disk, self.segment, self.held.end, at, len)?;
        Ok(framed(bytes, salt, at).is_some())
    }
}
