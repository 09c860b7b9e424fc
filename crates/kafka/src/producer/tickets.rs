//! The tickets of a batch's rows: runs of consecutive tickets, in the order of the rows.

use crate::types::{Run, Ticket};

/// Adjacent rows with consecutive tickets, or with none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    session: u64,
    first: u32,
    count: u32,
    owed: bool,
}

impl Span {
    fn takes(&self, ticket: Option<Ticket>) -> bool {
        self.count < u32::MAX
            && match ticket {
                None => !self.owed,
                // A session's numbers wrap.
                Some(ticket) => {
                    self.owed && self.session == ticket.session && self.first.wrapping_add(self.count) == ticket.number
                }
            }
    }
}

/// Bytes of a span on the memory account.
pub(super) const SPAN_BYTES: usize = std::mem::size_of::<Span>();

/// The tickets of a batch's rows.
#[derive(Debug, Default)]
pub(super) struct Tickets(Vec<Span>);

impl Tickets {
    pub(super) fn with_capacity(spans: usize) -> Self {
        Self(Vec::with_capacity(spans))
    }

    /// Adds the ticket of the next row.
    pub(super) fn push(&mut self, ticket: Option<Ticket>) {
        if let Some(last) = self.0.last_mut().filter(|last| last.takes(ticket)) {
            last.count += 1;
            return;
        }
        self.0.push(match ticket {
            Some(ticket) => Span { session: ticket.session, first: ticket.number, count: 1, owed: true },
            None => Span { session: 0, first: 0, count: 1, owed: false },
        });
    }

    /// Bytes by which the list grows with the next row's ticket.
    pub(super) fn growth(&self, ticket: Option<Ticket>) -> usize {
        let full = self.0.len() == self.0.capacity();
        if full && !self.0.last().is_some_and(|last| last.takes(ticket)) {
            self.0.capacity().max(4) * SPAN_BYTES
        } else {
            0
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn spans(&self) -> usize {
        self.0.len()
    }

    pub(super) fn capacity(&self) -> usize {
        self.0.capacity()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// The pending tickets, as runs.
    pub(super) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        self.runs_at().map(|(_, run)| run)
    }

    /// Like [`Self::runs`], each run with the place of its first row in the batch.
    pub(super) fn runs_at(&self) -> impl Iterator<Item = (u32, Run)> + '_ {
        let spans = self.0.iter().scan(0, |row, span| Some((std::mem::replace(row, *row + span.count), span)));
        let owed = spans.filter(|(_, span)| span.owed);
        owed.map(|(row, span)| (row, Run { session: span.session, first: span.first, count: span.count }))
    }

    /// The ticket of the row at `cursor`, which advances.
    pub(super) fn next(&self, cursor: &mut Cursor) -> Option<Ticket> {
        let span = self.0.get(cursor.span)?;
        let number = span.first.wrapping_add(cursor.within);
        cursor.within += 1;
        if cursor.within == span.count {
            *cursor = Cursor { span: cursor.span + 1, within: 0 };
        }
        span.owed.then_some(Ticket { session: span.session, number })
    }
}

/// A place between two rows' tickets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cursor {
    span: usize,
    within: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_numbers_become_one_run_and_wrap() {
        let mut tickets = Tickets::default();
        let row = |session, number| Some(Ticket { session, number });
        let rows =
            [row(1, u32::MAX), row(1, 0), row(1, 1), row(1, 3), None, None, row(2, 4), row(1, 4), row(1, 5), row(1, 5)];
        rows.iter().for_each(|ticket| tickets.push(*ticket));
        let run = |session, first, count| Run { session, first, count };
        let expected = [run(1, u32::MAX, 3), run(1, 3, 1), run(2, 4, 1), run(1, 4, 2), run(1, 5, 1)];
        assert_eq!(tickets.runs().collect::<Vec<_>>(), expected);
        assert_eq!(tickets.runs_at().map(|(row, _)| row).collect::<Vec<_>>(), [0, 3, 6, 7, 9]);

        let mut cursor = Cursor::default();
        assert!(rows.iter().all(|ticket| tickets.next(&mut cursor) == *ticket));
        assert_eq!(tickets.next(&mut cursor), None);
    }
}
