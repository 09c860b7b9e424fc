//! Reading one block back: for a drain, for a move, for a kept session after a restart.

use super::disk::{Disk, ReadError};
use super::entry::{Deadline, Entry, Kind, Rows, Run};
use super::format::{ALIGN, ENTRY_HEADER_BYTES, claim, framed};
use super::payload::parse;
use super::state::{Held, State};
use crate::kafka::batch::Builder;

/// Bytes read of an entry before it is known to be the one: its header, lane and numbers.
const PEEK_BYTES: usize = ENTRY_HEADER_BYTES + 20;

/// Live rows read back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Their numbers.
    pub first: u64,
    /// Timestamp and encoded tail (key, value, headers) of each, in order: what `kafka::batch` puts into a batch.
    pub rows: Vec<(i64, Vec<u8>)>,
    /// Those that expire; `index` counts from `first`.
    pub deadlines: Vec<Deadline>,
}

/// What stands at a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Rows.
    Block(Block),
    /// The bytes of these rows are damaged or gone. The caller ends them ([`super::Reason::Rotten`]) and counts them.
    Rotten(Run),
    /// No live row from that number on.
    Empty,
}

/// The first live rows of a lane from `number` on: those that stand in one block.
///
/// # Errors
/// The disk cannot read it now.
pub(super) fn rows(state: &State, disk: &impl Disk, lane: u32, number: u64) -> Result<Read, ReadError> {
    let Some(span) = state.lane(lane).and_then(|lane| lane.seek(number)) else { return Ok(Read::Empty) };
    let held = state.segments.get(&span.segment).copied().unwrap_or_default();
    let mut buffer = Vec::new();
    let mut find = Find { disk, segment: span.segment, held, buffer: &mut buffer };
    let number = span.run.first;
    let found = match find.rows(span.position, lane, number, false)? {
        false => find.rows(span.position, lane, number, true)?,
        true => true,
    };
    let rows = found.then(|| parse(Kind::Rows, buffer.get(ENTRY_HEADER_BYTES..payload_end(&buffer))?)).flatten();
    let Some(Entry::Rows(rows)) = rows else {
        // To the next row that can be read, or to the end of the span.
        return Ok(Read::Rotten(Run { first: number, count: 1 }));
    };
    Ok(part(&rows, number, span.run.end()).map_or(Read::Rotten(Run { first: number, count: 1 }), Read::Block))
}

fn payload_end(entry: &[u8]) -> usize {
    let len = entry.first_chunk().map_or(0, |len| u32::from_be_bytes(*len) as usize);
    ENTRY_HEADER_BYTES + len
}

fn part(rows: &Rows<'_>, number: u64, end: u64) -> Option<Block> {
    let skip = number.checked_sub(rows.run.first)?;
    let end = end.min(rows.run.end());
    let take = end.checked_sub(number)? as usize;
    let mut block = Block { first: number, ..Block::default() };
    for record in rows.records().skip(skip as usize).take(take) {
        let record = record.ok()?;
        block.rows.push((record.timestamp, record.tail.to_vec()));
    }
    let moved = |deadline: &Deadline| {
        let index = u64::from(deadline.index).checked_sub(skip).filter(|index| *index < take as u64)?;
        Some(Deadline { index: index as u32, ..*deadline })
    };
    block.deadlines.extend(rows.deadlines.iter().filter_map(moved));
    (block.rows.len() == take).then_some(block)
}

impl Block {
    /// Appends it to a group as rows of a lane, with the numbers that they have.
    pub(super) fn put(&self, lane: u32, out: &mut Vec<u8>) {
        let mut builder = Builder::new(Vec::new());
        self.rows.iter().for_each(|(timestamp, tail)| builder.append_tail(*timestamp, tail));
        let batch = builder.close(None);
        let run = Run { first: self.first, count: self.rows.len() as u64 };
        let deadlines = self.deadlines.clone();
        // Open packet ids stand in the checkpoint: the rows do not open them again.
        Entry::Rows(Rows { lane, run, origins: Vec::new(), deadlines, batch: &batch }).put(out);
    }
}

/// A kept session's bytes; `None`: damaged.
///
/// # Errors
/// The disk cannot read it now.
pub(super) fn session(state: &State, disk: &impl Disk, session: u64) -> Result<Option<Vec<u8>>, ReadError> {
    let Some((segment, position)) = state.sessions.get(&session).copied() else { return Ok(None) };
    let held = state.segments.get(&segment).copied().unwrap_or_default();
    let mut buffer = Vec::new();
    let mut find = Find { disk, segment, held, buffer: &mut buffer };
    let Some(len) = find.peek(position)?.map(|(_, len, _)| len) else { return Ok(None) };
    if !find.whole(position, len)? {
        return Ok(None);
    }
    match parse(Kind::Session, buffer.get(ENTRY_HEADER_BYTES..payload_end(&buffer)).unwrap_or_default()) {
        Some(Entry::Session { session: found, payload }) if found == session => Ok(Some(payload.to_vec())),
        _ => Ok(None),
    }
}

struct Find<'a, D> {
    disk: &'a D,
    segment: u64,
    held: Held,
    buffer: &'a mut Vec<u8>,
}

impl<D: Disk> Find<'_, D> {
    /// Goes from entry to entry until one holds that row; it is in the buffer then. `verify`: no length is believed
    /// before its entry's checksum is right.
    fn rows(&mut self, from: u64, lane: u32, number: u64, verify: bool) -> Result<bool, ReadError> {
        let mut at = from;
        while at + ENTRY_HEADER_BYTES as u64 <= self.held.end {
            let Some((kind, len, peek)) = self.peek(at)? else {
                if !verify {
                    return Ok(false);
                }
                at += ALIGN as u64;
                continue;
            };
            let wanted = kind == Kind::Rows && holds(&peek, lane, number);
            if wanted || verify {
                let whole = self.whole(at, len)?;
                if wanted && whole {
                    return Ok(true);
                }
                if !whole {
                    at += ALIGN as u64;
                    continue;
                }
            }
            at += len;
        }
        Ok(false)
    }

    fn peek(&self, at: u64) -> Result<Option<(Kind, u64, [u8; PEEK_BYTES])>, ReadError> {
        let mut head = [0; PEEK_BYTES];
        let bytes = self.held.end.saturating_sub(at).min(PEEK_BYTES as u64) as usize;
        self.disk.read(self.segment, at, &mut head[..bytes])?;
        let claimed = claim(&head[..bytes], self.held.salt).map(|(kind, len)| (kind, len as u64));
        Ok(claimed.filter(|(_, len)| at + len <= self.held.end).map(|(kind, len)| (kind, len, head)))
    }

    fn whole(&mut self, at: u64, len: u64) -> Result<bool, ReadError> {
        self.buffer.clear();
        self.buffer.resize(len as usize, 0);
        self.disk.read(self.segment, at, self.buffer)?;
        Ok(framed(self.buffer, self.held.salt, at).is_some())
    }
}

fn holds(peek: &[u8; PEEK_BYTES], lane: u32, number: u64) -> bool {
    let mut input = super::codec::In(&peek[ENTRY_HEADER_BYTES..]);
    let (found, run) = (input.u32(), input.run());
    found == Some(lane) && run.is_some_and(|run| (run.first..run.end()).contains(&number))
}
