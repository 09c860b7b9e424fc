//! Decodes the records of a Fetch answer, one by one: it checks the header, length and checksum of a batch first, then reads its records in
//! place, or as they come from a decoder. No claim is trusted: inconsistent data is [`Bad`], and no claim reserves memory.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::rc::Rc;

use super::buffer::{Account, Buffer, Slice};
use super::unpacked::Unpacked;
use forebay_record::compression::Codec;
use forebay_record::{BatchError, BatchHeader, BatchView, Headers, Record as Parsed, Records};

/// The position of the magic in batches and messages of every format.
const MAGIC_AT: usize = 16;
/// The bits of a batch's attributes.
const APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

/// `Bad` is why a batch cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// The batch or one of its records is invalid.
    #[error("{0}")]
    Batch(BatchError),
    /// The batch has a format from before Kafka 0.11.
    #[error(
        "its format is v{0}, from before Kafka 0.11; set `message.format.version` of the topic to 0.11 or later and have it rewritten"
    )]
    OldFormat(i8),
    /// The batch's offsets, or the number of its records, are inconsistent.
    #[error("its offsets and its number of records do not add up")]
    Offsets,
    /// The decompressed batch has more bytes than allowed.
    #[error("it has more than {0} bytes, decompressed")]
    TooLarge(usize),
    /// The broker repeatedly sends the batch, but never whole.
    #[error("the broker does not send it whole")]
    NeverWhole,
}

impl From<BatchError> for Bad {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

/// `TimestampType` is what a record's timestamp means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The record has no timestamp.
    Undefined,
    /// The producer's timestamp.
    Create,
    /// The broker's timestamp, from when it appended the record.
    Append,
}

/// `Record` is a borrowed record of an assigned partition.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The id of the partition's assignment.
    pub id: u32,
    /// Offset.
    pub offset: i64,
    /// Timestamp in ms since the epoch; -1: none.
    pub timestamp: i64,
    /// The meaning of the timestamp.
    pub timestamp_type: TimestampType,
    /// The epoch of the leader that wrote the record; -1: not known.
    pub leader_epoch: i32,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order, with duplicates.
    pub headers: Headers<'a>,
    buffer: &'a Rc<Buffer>,
}

impl Record<'_> {
    /// A counted reference to a part of the record: its key, its value, or part of a header. `None`: `part` is not in the record.
    #[must_use]
    pub fn hold(&self, part: &[u8]) -> Option<Slice> {
        Slice::new(self.buffer, self.buffer.place(part)?)
    }
}

/// The places of a record's parts in its buffer.
#[derive(Clone, Debug)]
pub(super) struct Decoded {
    offset: i64,
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: (Range<usize>, u32),
}

/// The place up to which a partition was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset.
    pub offset: i64,
    /// The epoch of the leader that wrote the last record read; -1: not known.
    pub leader_epoch: i32,
}

impl Position {
    fn pass(&mut self, header: &BatchHeader, next: i64) {
        self.offset = self.offset.max(next);
        // Epochs do not decrease within a log, whatever a batch claims.
        self.leader_epoch = self.leader_epoch.max(header.leader_epoch);
    }
}

/// `Terms` apply to all batches of a chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Whether aborted transactions are skipped.
    pub committed: bool,
    /// Bytes that a decompressed batch may have.
    pub batch_bytes_max: usize,
}

/// `Chunk` is the data of one partition in one answer.
#[derive(Debug)]
pub(super) struct Chunk {
    buffer: Rc<Buffer>,
    /// The batches that were not begun.
    rest: Range<usize>,
    terms: Terms,
    account: Account,
    /// Aborted transactions that begin later in the log: first offset and producer id, by offset.
    aborted: VecDeque<(i64, i64)>,
    /// Producers with an aborted transaction at this point of the log.
    aborting: BTreeSet<i64>,
    open: Option<Open>,
    /// Where reading can continue after a bad batch, as far as the batch shows.
    bad_end: Option<i64>,
}

/// The batch being read.
#[derive(Debug)]
struct Open {
    header: BatchHeader,
    source: Source,
    /// Number of records that were not decoded yet.
    left: i32,
    /// Offset of the last decoded record from the base offset.
    last_delta: i32,
    current: Option<Decoded>,
}

/// The source of a batch's records.
#[derive(Debug)]
enum Source {
    /// The records are in the answer.
    Plain(Range<usize>),
    Unpacked(Box<Unpacked>),
}

impl Chunk {
    /// The batches at `records` of a buffer. `aborted`: producer id and first offset of aborted transactions.
    pub(super) fn new(
        buffer: Rc<Buffer>,
        records: Range<usize>,
        aborted: Vec<(i64, i64)>,
        terms: Terms,
        account: &Account,
    ) -> Self {
        let mut aborted: VecDeque<_> = aborted.into_iter().map(|(producer, first)| (first, producer)).collect();
        aborted.make_contiguous().sort_unstable();
        Self {
            buffer,
            rest: records,
            terms,
            account: account.clone(),
            aborted,
            aborting: BTreeSet::new(),
            open: None,
            bad_end: None,
        }
    }

    /// Goes on to the next record at `position` or after it, which then advances past everything without records: gaps, control batches,
    /// aborted batches. `false`: there are no more, except perhaps a batch that was cut short.
    ///
    /// # Errors
    /// [`Bad`]: the current batch cannot be read; [`Chunk::bad_end`] is its end.
    pub(super) fn settle(&mut self, position: &mut Position) -> Result<bool, Bad> {
        loop {
            let Some(open) = &mut self.open else {
                if self.begin(position)? {
                    continue;
                }
                return Ok(false);
            };
            if open.current.is_some() {
                return Ok(true);
            }
            let end = open.header.last_offset() + 1;
            match open.next(&self.buffer) {
                Ok(Some(decoded)) if decoded.offset < position.offset => {}
                Ok(Some(decoded)) => open.current = Some(decoded),
                Ok(None) => {
                    position.pass(&open.header, end);
                    self.open = None;
                }
                Err(bad) => {
                    self.bad_end = Some(end);
                    return Err(bad);
                }
            }
        }
    }

    /// The record found by [`Chunk::settle`].
    pub(super) fn record(&self, id: u32) -> Option<Record<'_>> {
        let Open { header, source, current, .. } = self.open.as_ref()?;
        let current = current.as_ref()?;
        let buffer = match source {
            Source::Plain(_) => &self.buffer,
            Source::Unpacked(unpacked) => unpacked.buffer(),
        };
        let of = |range: &Option<Range<usize>>| buffer.bytes().get(range.clone()?);
        let (headers, count) = &current.headers;
        let timestamp = if header.attributes & APPEND_TIME == 0 { current.timestamp } else { header.max_timestamp };
        let timestamp_type = match header.attributes & APPEND_TIME {
            _ if timestamp < 0 => TimestampType::Undefined,
            0 => TimestampType::Create,
            _ => TimestampType::Append,
        };
        Some(Record {
            id,
            offset: current.offset,
            timestamp: timestamp.max(-1),
            timestamp_type,
            leader_epoch: header.leader_epoch,
            key: of(&current.key),
            value: of(&current.value),
            headers: Headers::from_encoded((buffer.bytes().get(headers.clone())?, *count)),
            buffer,
        })
    }

    /// Goes past the current record. `false`: there is none.
    pub(super) fn advance(&mut self, position: &mut Position) -> bool {
        let Some(open) = &mut self.open else { return false };
        let Some(current) = open.current.take() else { return false };
        position.pass(&open.header, current.offset + 1);
        true
    }

    /// Where the log continues after the batch that cannot be read; `None`: not known.
    pub(super) const fn bad_end(&self) -> Option<i64> {
        self.bad_end
    }

    /// Begins with the next batch, or skips it. `false`: there is no whole one.
    fn begin(&mut self, position: &mut Position) -> Result<bool, Bad> {
        let buffer = Rc::clone(&self.buffer);
        let bytes = buffer.bytes().get(self.rest.clone()).unwrap_or_default();
        self.bad_end = None;
        if let Some(magic @ (0 | 1)) = bytes.get(MAGIC_AT).map(|magic| *magic as i8) {
            let offset = bytes.first_chunk().map(|offset| i64::from_be_bytes(*offset));
            self.bad_end = offset.and_then(|offset| offset.checked_add(1));
            return Err(Bad::OldFormat(magic));
        }
        let (view, after) = match BatchView::parse(bytes) {
            Err(BatchError::Short) => return Ok(false),
            parsed => parsed?,
        };
        let header = *view.header();
        let next =
            header.base_offset.checked_add(i64::from(header.last_offset_delta)).and_then(|last| last.checked_add(1));
        let next = next.filter(|_| header.base_offset >= 0 && header.last_offset_delta >= 0).ok_or(Bad::Offsets)?;
        let body =
            self.rest.start + (view.as_bytes().len() - view.body().len())..self.rest.start + view.as_bytes().len();
        if next > position.offset {
            // If the checksum differs, the header may be wrong: the offset of the next batch is more reliable.
            let after_it =
                BatchHeader::read(after).ok().map(|after| after.base_offset).filter(|base| *base > position.offset);
            self.bad_end = Some(after_it.unwrap_or(next));
            view.check_crc()?;
            self.bad_end = Some(next);
            let codec = view.codec()?;
            if header.records_count < 0 || i64::from(header.records_count) > i64::from(header.last_offset_delta) + 1 {
                return Err(Bad::Offsets);
            }
            if self.is_passed_over(&view, next - 1) {
                position.pass(&header, next);
            } else {
                let source = self.source(codec, body)?;
                self.open = Some(Open { header, source, left: header.records_count, last_delta: -1, current: None });
            }
        }
        self.rest.start = self.rest.end - after.len();
        Ok(true)
    }

    /// Whether a batch has no record for readers: a control batch, or part of an aborted transaction.
    fn is_passed_over(&mut self, view: &BatchView<'_>, last: i64) -> bool {
        let header = view.header();
        while let Some((first, producer)) = self.aborted.front().copied()
            && first <= last
        {
            self.aborted.pop_front();
            self.aborting.insert(producer);
        }
        if header.attributes & CONTROL != 0 {
            if is_abort(view) {
                self.aborting.remove(&header.producer_id);
            }
            return true;
        }
        self.terms.committed && header.attributes & TRANSACTIONAL != 0 && self.aborting.contains(&header.producer_id)
    }

    fn source(&self, codec: Codec, body: Range<usize>) -> Result<Source, Bad> {
        if codec == Codec::None {
            return Ok(Source::Plain(body));
        }
        let body = Slice::new(&self.buffer, body).ok_or(BatchError::Short)?;
        let unpacked = Unpacked::new(codec, body, self.terms.batch_bytes_max, &self.account)?;
        Ok(Source::Unpacked(Box::new(unpacked)))
    }
}

/// Whether a control batch aborts its transaction.
fn is_abort(view: &BatchView<'_>) -> bool {
    /// The key of an abort marker: version 0, type 0.
    const ABORT: [u8; 4] = [0; 4];
    let first = view.records().ok().and_then(|mut records| records.next());
    first.and_then(Result::ok).and_then(|record| record.key).is_some_and(|key| key.get(2..4) == ABORT.get(2..4))
}

impl Open {
    /// Decodes the next record. `None`: there are no more.
    fn next(&mut self, buffer: &Rc<Buffer>) -> Result<Option<Decoded>, Bad> {
        let base_timestamp = self.header.base_timestamp;
        let (parsed, holder, whole) = match &mut self.source {
            Source::Plain(rest) => {
                let mut records =
                    Records::new(buffer.bytes().get(rest.clone()).unwrap_or_default(), self.left, base_timestamp);
                let Some(parsed) = records.next() else { return Ok(None) };
                rest.start = rest.end - records.rest_len();
                (parsed?, buffer, records.rest_len() == 0)
            }
            Source::Unpacked(unpacked) => {
                let Some(range) = unpacked.next(self.left)? else { return Ok(None) };
                let whole = self.left > 1 || unpacked.is_at_end();
                let holder = unpacked.buffer();
                let parsed = Records::new(holder.bytes().get(range).unwrap_or_default(), 1, base_timestamp).next();
                (parsed.ok_or(BatchError::Record)??, holder, whole)
            }
        };
        self.left -= 1;
        // The end of the batch is checked before its last record is handed out.
        if self.left == 0 && !whole {
            return Err(BatchError::Record.into());
        }
        if parsed.offset_delta <= self.last_delta || parsed.offset_delta > self.header.last_offset_delta {
            return Err(Bad::Offsets);
        }
        self.last_delta = parsed.offset_delta;
        let offset = self.header.base_offset + i64::from(parsed.offset_delta);
        Ok(Some(decoded(holder, offset, &parsed).ok_or(BatchError::Record)?))
    }
}

/// Notes the places of a record's parts in its buffer.
fn decoded(buffer: &Buffer, offset: i64, parsed: &Parsed<'_>) -> Option<Decoded> {
    let place = |part: Option<&[u8]>| part.map(|part| buffer.place(part));
    let (headers, count) = parsed.headers.encoded();
    let (key, value) = (place(parsed.key), place(parsed.value));
    if key == Some(None) || value == Some(None) {
        return None;
    }
    Some(Decoded {
        offset,
        timestamp: parsed.timestamp,
        key: key.flatten(),
        value: value.flatten(),
        headers: (buffer.place(headers)?, count),
    })
}
