//! One batch on its way: growing, then closed, then cut, sent and answered; and how rows are added to a batch.

mod taken_out;

use std::collections::VecDeque;
use std::rc::Rc;

pub(super) use self::taken_out::Dropped;
use super::expire::{EXPIRY_BYTES, Expiries};
use super::hashes::{HASH_BYTES, Hashes};
use super::in_log::{InLog, Kind, Notes};
use super::numbers::{NUMBER_BYTES, Numbers};
use super::pool::{BATCH_COST, BUFFER_MIN, Pool, extra};
use super::row_log::{NewRows, Origin};
use super::settings::Terms;
use super::tickets::{SPAN_BYTES, Tickets};
use crate::types::Ticket;
use forebay_record::compression::Encoder;
use forebay_record::{BatchHeader, Builder, HEADER_LEN, NextRecord, Record, Row, Stamp, Tail, stamp};
use forebay_runtime::seam::Monotonic;

/// Maximum number of records of a batch: far below the range of the offset delta, far above any real batch.
const COUNT_MAX: u32 = 1 << 24;

/// Maximum bytes of a row's origin, deadline or hash in the log.
const LISTED_BYTES: usize = 20;

/// A batch's bytes.
#[derive(Debug)]
enum Body {
    /// Open: the batch takes rows.
    Open(Builder),
    /// Compressed and complete except for the stamp; shared with the requests that carry it.
    Closed(Rc<Vec<u8>>),
}

/// A batch of one partition, or of rows that have no partition yet.
#[derive(Debug)]
pub(super) struct Batch {
    body: Body,
    pub(super) tickets: Tickets,
    expiries: Expiries,
    hashes: Hashes,
    /// The batch's rows and cut in the log.
    pub(super) in_log: InLog,
    /// The batch's number in requests.
    pub(super) serial: u64,
    pub(super) count: u32,
    /// Bytes of the records, uncompressed.
    pub(super) plain_len: usize,
    /// The end of the linger.
    pub(super) ripe_at: Monotonic,
    pub(super) max_timestamp: i64,
    /// How often a broker reported a wrong checksum.
    pub(super) corrupt: u8,
    /// How often in a row a broker ended the connection while the batch's request was the oldest unanswered one.
    pub(super) hung_up: u8,
    /// How often the batch was sent and refused for a reason that may pass; see [`super::retries`].
    pub(super) tries: u32,
}

/// A row in either form: from a publish, or out of a batch of rows without a partition.
pub(super) trait Source {
    fn timestamp(&self) -> i64;
    fn tail_len(&self) -> usize;
    /// Appends the row at `next`, as [`Builder::next`] measured it.
    fn put(&self, builder: &mut Builder, next: NextRecord);
}

/// A row and its encoded size.
pub(super) struct Measured<'r, 'a, H>(pub(super) &'r Row<'a, H>, pub(super) Tail);

impl<'a, H: Iterator<Item = (&'a [u8], &'a [u8])> + Clone> Source for Measured<'_, 'a, H> {
    fn timestamp(&self) -> i64 {
        self.0.timestamp.0
    }
    fn tail_len(&self) -> usize {
        self.1.len
    }
    fn put(&self, builder: &mut Builder, next: NextRecord) {
        builder.append_next(self.0, self.1, next);
    }
}

impl Source for Record<'_> {
    fn timestamp(&self) -> i64 {
        self.timestamp
    }
    fn tail_len(&self) -> usize {
        self.tail.len()
    }
    fn put(&self, builder: &mut Builder, next: NextRecord) {
        builder.append_next_tail(self.tail, next);
    }
}

/// Lists for [`Batch::unstaged`], reused.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) origins: Vec<(u32, Origin)>,
    pub(super) deadlines: Vec<(u32, Monotonic)>,
    pub(super) hashes: Vec<(u32, u32)>,
}

impl Scratch {
    fn clear(&mut self) {
        self.origins.clear();
        self.deadlines.clear();
        self.hashes.clear();
    }
}

/// Limits and kind of a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Size at which the batch is full.
    pub(super) batch_bytes: usize,
    /// Memory in use up to which the batch may take more than the minimum.
    pub(super) ceiling: usize,
    /// Bytes and spans of the previous batch.
    pub(super) hint: (usize, usize),
    /// The kind of the batch's rows.
    pub(super) kind: Kind,
}

impl Batch {
    /// Opens a batch for at least `source`. Takes `BUFFER_MIN` or the row's size, whichever is larger; more if the previous batch
    /// was larger and memory allows.
    pub(super) fn open(pool: &mut Pool, bounds: Bounds, source: &impl Source, ripe_at: Monotonic) -> Self {
        let need = HEADER_LEN + Builder::first_record_len(source.tail_len());
        let wanted = need.max(bounds.hint.0.min(bounds.batch_bytes)).max(BUFFER_MIN).next_power_of_two();
        pool.charge(BATCH_COST);
        let capacity = if pool.used() + wanted <= bounds.ceiling { wanted } else { need.max(BUFFER_MIN) };
        let buffer = pool.take(capacity);
        Self {
            body: Body::Open(Builder::new(buffer)),
            tickets: pool.take_tickets(bounds.hint.1, bounds.ceiling),
            expiries: Expiries::default(),
            hashes: Hashes::default(),
            in_log: InLog::new(bounds.kind),
            serial: pool.next_serial(),
            count: 0,
            plain_len: 0,
            ripe_at,
            max_timestamp: -1,
            corrupt: 0,
            hung_up: 0,
            tries: 0,
        }
    }

    /// The batch's memory on the pool's account.
    pub(super) fn memory(&self) -> usize {
        let buffer = match &self.body {
            Body::Open(builder) => builder.capacity(),
            Body::Closed(bytes) => bytes.capacity(),
        };
        BATCH_COST + buffer + extra(&self.tickets) + self.terms_bytes()
    }

    /// Whether the records have no timestamps.
    pub(super) const fn is_timeless(&self) -> bool {
        self.max_timestamp < 0
    }

    /// The timestamp of the first record; `None`: it was written without one.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        let first = match &self.body {
            Body::Open(builder) => builder.base_timestamp(),
            Body::Closed(bytes) => BatchHeader::read(bytes).ok()?.base_timestamp,
        };
        Some(first).filter(|time| *time >= 0)
    }

    /// The builder, if the batch takes rows.
    pub(super) const fn builder(&self) -> Option<&Builder> {
        match &self.body {
            Body::Open(builder) => Some(builder),
            Body::Closed(_) => None,
        }
    }

    /// Whether a row with a tail of this length fits within `batch_bytes`.
    pub(super) fn has_place(&self, batch_bytes: usize, timestamp: i64, tail_len: usize) -> bool {
        self.builder()
            .is_some_and(|builder| self.has_place_for(batch_bytes, builder, builder.next(timestamp, tail_len)))
    }

    #[inline]
    fn has_place_for(&self, batch_bytes: usize, builder: &Builder, next: NextRecord) -> bool {
        self.count < COUNT_MAX && builder.len() + next.len + self.beside() <= batch_bytes
    }

    /// Bytes in the log beside the records: a block of rows must take no more than a batch in total.
    fn beside(&self) -> usize {
        if !matches!(self.in_log.kind, Kind::Fresh(_)) {
            return 0;
        }
        let rows = |any: bool| if any { self.count as usize + 1 } else { 0 };
        LISTED_BYTES
            * (self.in_log.origins.len() + rows(self.expiries.capacity() > 0) + rows(self.hashes.capacity() > 0))
    }

    /// Takes a row if it fits, and if memory allows where the buffer must grow. Returns the bytes that the row took.
    pub(super) fn take(
        &mut self,
        pool: &mut Pool,
        bounds: Bounds,
        source: &impl Source,
        ticket: Option<Ticket>,
    ) -> Option<usize> {
        if self.in_log.kind != bounds.kind {
            return None;
        }
        let builder = self.builder()?;
        let timestamp = source.timestamp();
        let next = builder.next(timestamp, source.tail_len());
        if self.count > 0 && !self.has_place_for(bounds.batch_bytes, builder, next) {
            return None;
        }
        let Body::Open(builder) = &mut self.body else { return None };
        let len = next.len;
        let wanted = if builder.fits(len) { 0 } else { (builder.len() + len).next_power_of_two() };
        let growth = self.tickets.growth(ticket);
        if wanted + growth > 0 && self.count > 0 && pool.used() + wanted + growth > bounds.ceiling {
            return None;
        }
        if wanted > 0 {
            let buffer = pool.take(wanted);
            pool.give(builder.move_to(buffer));
        }
        source.put(builder, next);
        let before = self.tickets.capacity();
        self.tickets.push(ticket);
        pool.charge((self.tickets.capacity() - before) * SPAN_BYTES);
        self.count += 1;
        self.plain_len += len;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        Some(len)
    }

    /// Notes the terms and number of the last row taken.
    fn note(&mut self, pool: &mut Pool, notes: Notes) {
        if notes == (Notes { held: notes.held, ..Notes::default() }) || self.count == 0 {
            return;
        }
        let terms = notes.terms;
        let (before, row) = (self.terms_bytes(), self.count - 1);
        if terms.expires != Monotonic::NEVER {
            if self.expiries.capacity() == 0 {
                self.expiries = pool.take_expiries();
            }
            self.expiries.push(row, terms.expires);
        }
        if let Some(hash) = terms.hash {
            if self.hashes.capacity() == 0 {
                self.hashes = pool.take_hashes();
            }
            self.hashes.push(row, hash);
        }
        if let Some(number) = notes.number {
            if self.in_log.numbers.capacity() == 0 {
                self.in_log.numbers = pool.take_numbers();
            }
            self.in_log.numbers.push(row, number);
            self.in_log.staged_bytes = self.plain_len;
        } else if let (Kind::Fresh(_), Some(origin)) = (self.in_log.kind, terms.origin) {
            self.in_log.origins.push((row, origin));
        }
        pool.charge(self.terms_bytes() - before);
    }

    /// The notes of a row.
    pub(super) fn notes_of(&self, row: u32) -> Notes {
        let origin = self.in_log.origin_of(row);
        let terms = Terms { expires: self.expiries.of(row), hash: self.hashes.of(row), origin };
        Notes { terms, number: self.in_log.numbers.of(row), held: false }
    }

    /// The notes of a row of a cut batch: without its expiry, which no longer matters.
    pub(super) fn notes_of_cut(&self, row: u32) -> Notes {
        let notes = self.notes_of(row);
        Notes { terms: Terms { expires: Monotonic::NEVER, ..notes.terms }, ..notes }
    }

    /// Lists the origins, deadlines and hashes of the rows from `from` on.
    pub(super) fn note_rows(&self, from: u32, scratch: &mut Scratch) {
        scratch.clear();
        for (row, at) in (from..self.count).map(|row| (row, self.expiries.of(row))) {
            if at != Monotonic::NEVER {
                scratch.deadlines.push((row - from, at));
            }
            if let Some(hash) = self.hashes.of(row) {
                scratch.hashes.push((row - from, hash));
            }
        }
        let origins = self.in_log.origins.iter().filter(|(row, _)| *row >= from);
        scratch.origins.extend(origins.map(|(row, origin)| (row - from, *origin)));
    }

    /// The rows that are not in the log yet, to be written there.
    pub(super) fn unstaged<'a>(&'a self, lane: u64, least: u64, scratch: &'a mut Scratch) -> Option<NewRows<'a>> {
        let from = self.in_log.numbers.rows();
        let builder = self.builder().filter(|_| from < self.count)?;
        self.note_rows(from, scratch);
        Some(NewRows {
            lane,
            records: builder.record_bytes(self.in_log.staged_bytes),
            base_timestamp: builder.base_timestamp(),
            count: self.count - from,
            origins: &scratch.origins,
            deadlines: &scratch.deadlines,
            hashes: &scratch.hashes,
            from: least,
        })
    }

    /// Marks all rows as in the log; those that were not get numbers from `first` on.
    pub(super) fn staged(&mut self, pool: &mut Pool, lane: u64, first: u64) {
        self.staged_from(self.in_log.numbers.rows(), pool, lane, first);
    }

    /// Like [`Self::staged`], for the rows from `from` on.
    pub(super) fn staged_from(&mut self, from: u32, pool: &mut Pool, lane: u64, first: u64) {
        let before = self.terms_bytes();
        if self.in_log.numbers.capacity() == 0 {
            self.in_log.numbers = pool.take_numbers();
        }
        self.in_log.numbers.add(from, lane, first, self.count - from);
        self.in_log.staged_bytes = self.plain_len;
        self.in_log.origins.clear();
        pool.charge(self.terms_bytes() - before);
    }

    /// Takes the numbers out, and refunds their memory.
    pub(super) fn take_numbers(&mut self, pool: &mut Pool) -> Numbers {
        pool.refund(self.in_log.numbers.capacity() * NUMBER_BYTES);
        std::mem::take(&mut self.in_log.numbers)
    }

    fn terms_bytes(&self) -> usize {
        self.expiries.capacity() * EXPIRY_BYTES + self.hashes.capacity() * HASH_BYTES + self.in_log.bytes()
    }

    /// Closes the batch, if it still grows.
    pub(super) fn close(&mut self, encoder: Option<&mut Encoder>) {
        if let Body::Open(builder) = &mut self.body {
            let builder = std::mem::take(builder);
            self.body = Body::Closed(Rc::new(builder.close(encoder)));
        }
    }

    /// Whether the batch takes no more rows.
    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.body, Body::Closed(_))
    }

    /// Stamps a closed batch with its identity. Bytes that a request still shares are never changed: they are copied.
    pub(super) fn stamp(&mut self, identity: Stamp, pool: &mut Pool) {
        let Body::Closed(bytes) = &mut self.body else { return };
        if Rc::get_mut(bytes).is_none() {
            let mut copy = pool.take(bytes.len());
            copy.extend_from_slice(bytes);
            pool.give_shared(std::mem::replace(bytes, Rc::new(copy)));
        }
        if let Some(bytes) = Rc::get_mut(bytes) {
            stamp(bytes, identity);
        }
        self.in_log.base_offset = -1;
    }

    /// The bytes of a closed batch.
    pub(super) const fn bytes(&self) -> Option<&Rc<Vec<u8>>> {
        match &self.body {
            Body::Closed(bytes) => Some(bytes),
            Body::Open(_) => None,
        }
    }

    /// Flips a bit of the last record.
    #[cfg(test)]
    pub(super) fn damage(&mut self) {
        let Body::Closed(bytes) = &mut self.body else { panic!("it still takes rows") };
        *std::rc::Rc::get_mut(bytes).expect("no request has it").last_mut().expect("a record") ^= 1;
    }

    /// Gives the batch's memory back; the tickets, still charged, are the caller's.
    pub(super) fn end(self, pool: &mut Pool) -> Tickets {
        pool.refund(BATCH_COST + self.terms_bytes());
        pool.give_terms(self.expiries, self.hashes);
        pool.give_numbers(self.in_log.numbers);
        match self.body {
            Body::Open(builder) => pool.give(builder.into_buffer()),
            Body::Closed(bytes) => pool.give_shared(bytes),
        }
        self.tickets
    }

    /// Like [`Self::end`], for a batch without tickets: its rows are elsewhere.
    pub(super) fn discard(self, pool: &mut Pool) {
        let tickets = self.end(pool);
        pool.give_tickets(tickets);
    }
}

/// The result of [`push`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Pushed {
    /// Whether a new batch was opened.
    pub(super) opened: bool,
    /// Bytes of the record.
    pub(super) len: usize,
    /// Memory that the row took.
    pub(super) memory: usize,
}

/// Appends a row and its notes to the last batch of a queue, or to a new batch after it, which ends the linger of the
/// former. Batches before `uncut` take no rows.
pub(super) fn push(
    queue: &mut VecDeque<Batch>,
    uncut: usize,
    pool: &mut Pool,
    bounds: Bounds,
    (source, ticket, notes): (&impl Source, Option<Ticket>, Notes),
    ripe_at: Monotonic,
) -> Pushed {
    if queue.len() > uncut
        && let Some(last) = queue.back_mut()
    {
        let before = last.memory();
        if let Some(len) = last.take(pool, bounds, source, ticket) {
            last.note(pool, notes);
            return Pushed { opened: false, len, memory: last.memory() - before };
        }
        // The last batch takes no more rows, even if later ones leave the queue again.
        last.ripe_at = Monotonic(0);
    }
    let mut batch = Batch::open(pool, bounds, source, ripe_at);
    // An empty batch takes any row.
    let len = batch.take(pool, bounds, source, ticket).unwrap_or_default();
    batch.note(pool, notes);
    let memory = batch.memory();
    queue.push_back(batch);
    Pushed { opened: true, len, memory }
}
