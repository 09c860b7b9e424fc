//! Answered receives that the shard has not looked at: a queue for each connection, and the connections in the order in which they
//! are served.
//!
//! A connection has a quantum in each round ([`forebay_base::limits::QUANTUM_BYTES`], [`forebay_base::limits::QUANTUM_PACKETS`]), then the next one is
//! served: however much one sends, it delays the others by no more than that.

use std::collections::VecDeque;

use slab::Slab;

use super::connections::Conn;
use super::tag::Completion;

/// No read.
const NONE: u32 = u32::MAX;

/// A connection's place in [`Reads`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// The newest read, which is followed by the oldest.
    last: u32,
    /// Reads in the queue.
    len: u16,
    /// Whether the connection is in the line of those to serve.
    in_line: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self { last: NONE, len: 0, in_line: false }
    }
}

impl Queue {
    /// Reads that wait.
    pub(super) fn len(self) -> usize {
        self.len.into()
    }

    pub(super) fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A completion, and how many of its bytes the shard has had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) completion: Completion,
    pub(super) from: usize,
    next: u32,
}

/// Answered receives of all connections, and the connections in the order of their turns.
#[derive(Default)]
pub(super) struct Reads {
    all: Slab<Read>,
    line: VecDeque<u32>,
}

impl Reads {
    /// Puts a completion at the end of its connection's queue.
    pub(super) fn push(&mut self, conn: &mut Conn, completion: Completion) {
        let at = self.insert(conn.reads, Read { completion, from: 0, next: NONE });
        conn.reads.last = at;
        conn.reads.len += 1;
        self.stand_in_line(conn, completion.tag.slot);
    }

    /// Puts a read between the newest one of a queue and the oldest.
    fn insert(&mut self, queue: Queue, read: Read) -> u32 {
        let at = self.all.vacant_key() as u32;
        let next = match self.all.get_mut(queue.last as usize) {
            Some(last) => std::mem::replace(&mut last.next, at),
            None => at,
        };
        self.all.insert(Read { next, ..read });
        at
    }

    /// Puts a connection at the end of the line, unless it is in the line.
    pub(super) fn stand_in_line(&mut self, conn: &mut Conn, slot: u32) {
        if !std::mem::replace(&mut conn.reads.in_line, true) {
            self.line.push_back(slot);
        }
    }

    /// Connections in the line.
    pub(super) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// The slot of the connection at the front of the line.
    pub(super) fn next(&mut self) -> Option<u32> {
        self.line.pop_front()
    }

    /// The connection has been served.
    pub(super) fn leave_line(conn: &mut Conn) {
        conn.reads.in_line = false;
    }

    /// The oldest read of a connection, taken out of its queue.
    pub(super) fn take(&mut self, conn: &mut Conn) -> Option<Read> {
        let queue = &mut conn.reads;
        let oldest = self.all.get(queue.last as usize)?.next;
        let read = self.all.try_remove(oldest as usize)?;
        queue.len -= 1;
        match self.all.get_mut(queue.last as usize) {
            Some(last) => last.next = read.next,
            None => queue.last = NONE,
        }
        Some(read)
    }

    /// Puts a read back to the front of its connection's queue: the shard has had its bytes up to `from`.
    pub(super) fn put_back(&mut self, conn: &mut Conn, read: Read, from: usize) {
        let at = self.insert(conn.reads, Read { from, ..read });
        conn.reads.len += 1;
        if conn.reads.last == NONE {
            conn.reads.last = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connections::{Phase, Reading};
    use super::super::seam::ListenerId;
    use super::super::tag::{Kind, Tag};
    use super::*;

    fn conn() -> Conn {
        Conn::new(None, None, ListenerId(0), Phase::Open, Reading::Multishot)
    }

    fn answer(slot: u32, result: i32) -> Completion {
        Completion { tag: Tag { kind: Kind::Receive, slot, generation: 0 }, result, flags: 0 }
    }

    #[test]
    fn each_connection_has_its_order_and_its_place_in_the_line() {
        let (mut reads, mut conns) = (Reads::default(), [conn(), conn()]);
        for (slot, result) in [(0, 1), (0, 2), (1, 3), (0, 4)] {
            reads.push(&mut conns[slot as usize], answer(slot, result));
        }
        assert_eq!((reads.waiting(), conns[0].reads.len(), conns[1].reads.len()), (2, 3, 1));
        assert_eq!(reads.next(), Some(0));
        Reads::leave_line(&mut conns[0]);
        let first = reads.take(&mut conns[0]).expect("the first");
        assert_eq!(first.completion.result, 1);
        reads.put_back(&mut conns[0], first, 1);
        reads.stand_in_line(&mut conns[0], 0);
        assert_eq!((reads.next(), reads.next(), reads.next()), (Some(1), Some(0), None));
        let mut rest = |conn: &mut Conn| {
            let take = || reads.take(conn).map(|read| (read.completion.result, read.from));
            std::iter::from_fn(take).collect::<Vec<_>>()
        };
        assert_eq!(rest(&mut conns[0]), [(1, 1), (2, 0), (4, 0)]);
        assert_eq!(rest(&mut conns[1]), [(3, 0)]);
        assert!(conns.iter().all(|conn| conn.reads.is_empty()));
        // A receive that was put back alone is the last one, too.
        reads.push(&mut conns[0], answer(0, 5));
        let alone = reads.take(&mut conns[0]).expect("alone");
        reads.put_back(&mut conns[0], alone, 2);
        reads.push(&mut conns[0], answer(0, 6));
        let mut rest =
            |conn: &mut Conn| std::iter::from_fn(|| reads.take(conn)).map(|r| r.completion.result).collect::<Vec<_>>();
        assert_eq!(rest(&mut conns[0]), [5, 6]);
    }
}
