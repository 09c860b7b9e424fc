//! Rows that are taken out of a batch before it is cut: they have expired, or make room.

use super::super::in_log::{InLog, Notes};
use super::super::numbers::{Number, Numbers};
use super::super::pool::Pool;
use super::super::settings::Terms;
use super::super::tickets::{Cursor, SPAN_BYTES, Tickets};
use super::{Batch, Body};
use crate::types::Ticket;
use forebay_record::{Builder, Record};
use forebay_runtime::seam::Monotonic;

/// Rows that were taken out of a batch before it was cut.
#[derive(Debug)]
pub(in crate::producer) struct Dropped {
    /// Tickets of the rows, still charged.
    pub(in crate::producer) tickets: Tickets,
    pub(in crate::producer) rows: u64,
    /// Bytes by which the batch got shorter; negative if the remaining rows are further in time from its new first
    /// row.
    pub(in crate::producer) bytes: i64,
    /// Numbers of the rows that are in the log.
    pub(in crate::producer) numbers: Numbers,
}

impl Batch {
    /// Whether rows in it have expired and can still be taken out.
    pub(in crate::producer) fn has_expired(&self, now: Monotonic) -> bool {
        self.expiries.any(now) && !self.is_closed()
    }

    /// Whether all rows have expired, and none is cut.
    pub(in crate::producer) fn has_all_expired(&self, now: Monotonic) -> bool {
        self.expiries.all(self.count, now) && !self.is_closed()
    }

    /// Whether rows may be taken out to make room: neither the batch nor any row of it has been cut.
    pub(in crate::producer) const fn may_lose_rows(&self) -> bool {
        !self.is_closed() && self.in_log.cut.is_none() && !self.in_log.old
    }

    /// Rewrites the batch without its expired rows.
    pub(in crate::producer) fn drop_expired(&mut self, pool: &mut Pool, now: Monotonic) -> Dropped {
        self.drop_rows(pool, |at, _, _, _| at <= now)
    }

    /// Whether `is_so` holds for the ticket and the record of any row.
    pub(in crate::producer) fn any_row(&self, is_so: impl Fn(Option<Ticket>, &Record<'_>) -> bool) -> bool {
        let (Body::Open(builder), mut cursor) = (&self.body, Cursor::default()) else { return false };
        let mut records = builder.records_after(0, 0).map_while(Result::ok);
        records.any(|record| is_so(self.tickets.next(&mut cursor), &record))
    }

    /// Rewrites the batch without the rows that `goes` selects by expiry, number in the log, ticket and record.
    pub(in crate::producer) fn drop_rows(
        &mut self,
        pool: &mut Pool,
        goes: impl Fn(Monotonic, Option<Number>, Option<Ticket>, &Record<'_>) -> bool,
    ) -> Dropped {
        let mut dropped = Dropped { tickets: pool.take_tickets(0, 0), rows: 0, bytes: 0, numbers: Numbers::default() };
        let terms = self.terms_bytes();
        let Body::Open(builder) = &mut self.body else { return dropped };
        let old = std::mem::take(builder);
        let tickets = std::mem::replace(&mut self.tickets, pool.take_tickets(0, 0));
        let (expiries, hashes) = (std::mem::take(&mut self.expiries), std::mem::take(&mut self.hashes));
        *builder = Builder::new(pool.take(old.capacity()));
        let blank = InLog { old: self.in_log.old, ..InLog::new(self.in_log.kind) };
        let in_log = std::mem::replace(&mut self.in_log, blank);
        let (plain_len, mut cursor) = (self.plain_len, Cursor::default());
        (self.count, self.plain_len, self.max_timestamp) = (0, 0, -1);
        // The producer's own bytes always parse.
        for (row, record) in (0u32..).zip(old.records_after(0, 0).map_while(Result::ok)) {
            let ticket = tickets.next(&mut cursor);
            let (at, number) = (expiries.of(row), in_log.numbers.of(row));
            let goes = goes(at, number, ticket, &record);
            let list = if goes { &mut dropped.tickets } else { &mut self.tickets };
            let before = list.capacity();
            list.push(ticket);
            pool.charge((list.capacity() - before) * SPAN_BYTES);
            if goes {
                number.into_iter().for_each(|number| dropped.numbers.push(dropped.rows as u32, number));
                dropped.rows += 1;
                continue;
            }
            let Body::Open(builder) = &mut self.body else { break };
            let next = builder.next(record.timestamp, record.tail.len());
            let len = next.len;
            if !builder.fits(len) {
                let buffer = pool.take((builder.len() + len).next_power_of_two());
                pool.give(builder.move_to(buffer));
            }
            self.plain_len += len;
            builder.append_next_tail(record.tail, next);
            self.count += 1;
            self.max_timestamp = self.max_timestamp.max(record.timestamp);
            let terms = Terms { expires: at, hash: hashes.of(row), origin: in_log.origin_of(row) };
            self.note(pool, Notes { terms, number, held: false });
        }
        dropped.bytes = plain_len as i64 - self.plain_len as i64;
        pool.give(old.into_buffer());
        pool.give_tickets(tickets);
        pool.refund(terms);
        dropped
    }

    /// Ends the batch and returns all its rows.
    pub(in crate::producer) fn drop_all(mut self, pool: &mut Pool) -> Dropped {
        let (rows, bytes) = (u64::from(self.count), self.plain_len as i64);
        let numbers = self.take_numbers(pool);
        Dropped { tickets: self.end(pool), rows, bytes, numbers }
    }
}
