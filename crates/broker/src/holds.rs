//! Bytes held back from devices until records of their sessions are on the disk.
//!
//! A waiting connection holds all later bytes for its device, in order, in parts that each wait for a group of the log. A line for each log has the
//! connections in the order in which they began to wait: groups of a log become durable one after the other. Bytes still held when the connection ends are
//! dropped, as if they had been lost on the network: the device asks again.

use std::collections::HashMap;

use smallvec::SmallVec;

use forebay_base::limits::{HELD_BYTES_MAX, HELD_BYTES_OF_ONE_MAX};
use forebay_runtime::seam::{ConnId, Monotonic};

use crate::logs::{Kept, Lines, slot_of};
use crate::out::Out;

/// Buffers kept for the next connections that have to wait.
const SPARE_MAX: usize = 64;
/// The largest buffer that is kept.
const SPARE_BYTES_MAX: usize = 4096;

/// A waiting connection.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    /// Groups, rising in each log, each with the index in `bytes` where the part that waits for it begins. Never empty.
    parts: SmallVec<[(u64, usize); 2]>,
    /// The time until which CONNACK may wait. `None`: it was sent to the device.
    greeting_due: Option<Monotonic>,
}

/// The waiting connections of a shard.
#[derive(Debug, Default)]
pub struct Holds {
    held: HashMap<ConnId, Held>,
    lines: Lines<ConnId>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Holds {
    /// Whether no connection waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// The number of bytes held.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The buffer for the bytes to a device, whether held or not. [`Holds::hold`] follows.
    #[inline]
    pub fn out<'a>(&'a mut self, io: &'a mut dyn Out, conn: ConnId) -> &'a mut Vec<u8> {
        if self.held.is_empty() {
            return io.out(conn);
        }
        match self.held.get_mut(&conn) {
            Some(held) => &mut held.bytes,
            None => io.out(conn),
        }
    }

    /// Holds the bytes of [`Holds::out`] from `from` on until this group is durable. `greeting_due`: the time until which CONNACK may wait, if it is the
    /// first of them.
    pub(crate) fn hold(
        &mut self,
        io: &mut dyn Out,
        conn: ConnId,
        group: u64,
        from: usize,
        greeting_due: Option<Monotonic>,
    ) {
        if let Some(held) = self.held.get_mut(&conn) {
            let more = held.bytes.len() - from;
            self.bytes += more;
            let is_later = |(last, _): &(u64, usize)| *last < group || slot_of(*last) != slot_of(group);
            if more > 0 && held.parts.last().is_some_and(is_later) {
                held.parts.push((group, from));
                self.lines.push(group, conn);
            }
            return;
        }
        let out = io.out(conn);
        if out.len() <= from {
            return;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(&out[from..]);
        out.truncate(from);
        self.bytes += bytes.len();
        self.held.insert(conn, Held { bytes, parts: SmallVec::from_slice(&[(group, 0)]), greeting_due });
        self.lines.push(group, conn);
    }

    /// Notes the bytes in [`Holds::out`] from `from` on, which wait only for those before them.
    pub(crate) fn wrote(&mut self, conn: ConnId, from: usize) {
        if let Some(held) = self.held.get(&conn) {
            self.bytes += held.bytes.len() - from;
        }
    }

    /// Bytes on their way to a device, held ones included.
    pub fn unsent(&self, io: &dyn Out, conn: ConnId) -> usize {
        io.unsent(conn) + self.held.get(&conn).map_or(0, |held| held.bytes.len())
    }

    /// Sends the bytes held for groups that are durable by now.
    pub(crate) fn release(&mut self, io: &mut dyn Out, kept: &Kept) {
        let is_durable = |group: u64| group <= kept.durable(group);
        while let Some(conn) = self.lines.pop(is_durable) {
            let Some(held) = self.held.get_mut(&conn) else { continue };
            let over = held.parts.iter().take_while(|(group, _)| is_durable(*group)).count();
            if over == 0 {
                // An earlier part waits for another log, and goes first.
                continue;
            }
            let end = held.parts.get(over).map_or(held.bytes.len(), |(_, from)| *from);
            io.out(conn).extend_from_slice(&held.bytes[..end]);
            if over == held.parts.len() {
                self.forget(conn);
                continue;
            }
            held.bytes.drain(..end);
            held.parts.drain(..over);
            held.parts.iter_mut().for_each(|(_, from)| *from -= end);
            held.greeting_due = held.greeting_due.filter(|_| over == 0);
            self.bytes -= end;
        }
    }

    /// Whether a device may be sent something out of turn, at the end of its connection: not before its CONNACK.
    pub fn may_tell(&self, conn: ConnId) -> bool {
        self.greeting_due(conn).is_none()
    }

    /// The earlier of a connection's deadline and that of its CONNACK.
    pub fn first_due(&self, conn: ConnId, deadline: Option<Monotonic>) -> Option<Monotonic> {
        let greeting_due = self.greeting_due(conn).filter(|due| *due < Monotonic::NEVER);
        deadline.into_iter().chain(greeting_due).min()
    }

    /// The time until which a device's CONNACK may wait. `None`: it was sent.
    pub fn greeting_due(&self, conn: ConnId) -> Option<Monotonic> {
        self.held.get(&conn)?.greeting_due
    }

    /// Whether a connection holds too much to be read on.
    #[inline]
    pub fn is_full(&self, conn: ConnId) -> bool {
        !self.held.is_empty()
            && self
                .held
                .get(&conn)
                .is_some_and(|held| held.bytes.len() > HELD_BYTES_OF_ONE_MAX || self.bytes > HELD_BYTES_MAX)
    }

    /// Forgets a connection that is gone, with its held bytes.
    pub fn forget(&mut self, conn: ConnId) {
        let Some(mut held) = self.held.remove(&conn) else { return };
        self.bytes -= held.bytes.len();
        if self.spare.len() < SPARE_MAX && held.bytes.capacity() <= SPARE_BYTES_MAX {
            held.bytes.clear();
            self.spare.push(held.bytes);
        }
    }
}
