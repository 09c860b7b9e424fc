//! Pending tickets of rows that are in the log alone: charged to the pool, and bounded.

use std::collections::VecDeque;

use super::Producer;
use super::row_log::RowRun;
use super::tickets::Tickets;
use crate::types::{Run, Ticket};

/// Consecutive rows of a lane with consecutive tickets.
#[derive(Debug)]
struct Span {
    /// Number of the first row.
    number: u64,
    run: Run,
}

impl Span {
    fn takes(&self, number: u64, ticket: Ticket) -> bool {
        let Run { session, first, count } = self.run;
        count < u32::MAX
            && self.number + u64::from(count) == number
            && (session, first.wrapping_add(count)) == (ticket.session, ticket.number)
    }
}

/// Bytes charged for a span: its list may have room for twice as many.
pub(super) const OWED_BYTES: usize = 2 * std::mem::size_of::<Span>();

/// Capacity, in spans, up to which a list is not shrunk.
const KEPT: usize = 64;

/// The tickets of rows of one lane, by number.
#[derive(Debug, Default)]
pub(super) struct Owed(VecDeque<Span>);

impl Owed {
    /// Bytes charged for the list.
    pub(super) fn memory(&self) -> usize {
        self.0.len() * OWED_BYTES
    }

    /// Adds a row after all others.
    pub(super) fn push(&mut self, number: u64, ticket: Ticket) {
        match self.0.back_mut() {
            Some(last) if last.takes(number, ticket) => last.run.count += 1,
            _ => {
                let run = Run { session: ticket.session, first: ticket.number, count: 1 };
                self.0.push_back(Span { number, run });
            }
        }
    }

    /// Takes out the ticket of a row, if it is the first that has one.
    pub(super) fn take(&mut self, number: u64) -> Option<Ticket> {
        let first = self.0.front_mut().filter(|first| first.number == number)?;
        let ticket = Ticket { session: first.run.session, number: first.run.first };
        first.number += 1;
        first.run = Run { first: first.run.first.wrapping_add(1), count: first.run.count - 1, ..first.run };
        if first.run.count == 0 {
            self.0.pop_front();
            self.shrink();
        }
        Some(ticket)
    }

    /// Takes out the tickets of rows before this number.
    pub(super) fn take_before(&mut self, number: u64, tickets: &mut Tickets) {
        while let Some(first) = self.0.front().map(|first| first.number).filter(|first| *first < number) {
            tickets.push(self.take(first));
        }
    }

    /// Takes out the tickets of a run of rows.
    pub(super) fn take_run(&mut self, run: RowRun, tickets: &mut Tickets) {
        let mut rest = Self::default();
        while let Some(number) = self.0.front().map(|first| first.number) {
            if number >= run.end() {
                break;
            }
            let Some(ticket) = self.take(number) else { break };
            if number < run.first { rest.push(number, ticket) } else { tickets.push(Some(ticket)) }
        }
        while let Some(span) = rest.0.pop_back() {
            self.0.push_front(span);
        }
    }

    fn shrink(&mut self) {
        if self.0.capacity() > KEPT && self.0.len() < self.0.capacity() / 4 {
            self.0.shrink_to(self.0.len() * 2);
        }
    }
}

impl Producer {
    /// Notes that the pending tickets of a topic's rows on disk alone changed their size.
    pub(super) fn owed_resized(&mut self, topic: u32, before: usize, after: usize) {
        let topic = &mut self.topics[topic];
        let sink = &mut self.sinks[topic.sink];
        topic.owed = (topic.owed + after).saturating_sub(before);
        sink.owed = (sink.owed + after).saturating_sub(before);
        if after > before {
            self.memory.pool.charge(after - before);
        } else if before > after {
            self.memory.pool.refund(before - after);
        }
    }
}
