//! Sending: one send under way per connection, gathered once a turn.
//!
//! Bytes that the shard appended during a turn go out as one send at its end. While that is with the kernel, the next turn's bytes
//! gather in another buffer. Buffers come from a pool and return once they are empty, so a connection with nothing to send holds
//! none.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{Shutdown, shutdown};

use super::connections::{Conn, FLUSH_LIMIT, LINGER_LIMIT, Outgoing, Phase, Reading, id_of, tag};
use super::core::Core;
use super::driver::{Completion, Driver, Kind, is_transient};
use super::seam::{Chunk, Closed, ConnId, TracedSend};
use forebay_base::limits::{LATE_WRITES_PER_TURN, LATE_WRITES_WHILE_MORE_COMES, SENT_AHEAD_BYTES_MAX, WRITES_PER_TURN};

/// Pieces of one gathered send; further ones go with the next.
const PIECES: usize = 64;
/// A new out-buffer: a turn's acknowledgements.
const BUFFER_BYTES: usize = 1024;
/// A buffer that has grown beyond this is not kept.
const KEPT_BYTES_MAX: usize = 32 * 1024;
/// Buffers that are kept: 16 MiB at the very most.
const KEPT_MAX: usize = 512;

/// Bytes that the kernel has taken for a TCP socket and the peer has not acknowledged; 0 if the kernel does not report them.
pub(super) fn unacked(socket: &OwnedFd) -> usize {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int to where its argument points.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// The pieces of a gathered send, at an address that does not move.
pub(super) struct Gather {
    header: libc::msghdr,
    pieces: [libc::iovec; PIECES],
    /// The number of chunks at the head of the queue that they cover.
    count: usize,
}

impl Gather {
    fn new() -> Box<Self> {
        const NOTHING: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: a message header is plain integers and pointers; all zero means no address, no pieces, no control.
        let header = unsafe { std::mem::zeroed() };
        Box::new(Self { header, pieces: [NOTHING; PIECES], count: 0 })
    }

    /// Points to the head of the queue, less the `sent` bytes of its first chunk.
    fn fill(&mut self, outgoing: &Outgoing) {
        let mut skip = outgoing.sent;
        self.count = 0;
        for (piece, chunk) in self.pieces.iter_mut().zip(outgoing.queue.iter()) {
            let bytes = &chunk.bytes()[skip..];
            *piece = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            self.count += 1;
            skip = 0;
        }
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = self.count as _;
    }
}

/// Spare out-buffers of a shard.
#[derive(Default)]
pub(super) struct Pool {
    buffers: Vec<Vec<u8>>,
    /// Boxed, because the kernel reads them where they are.
    #[allow(clippy::vec_box)]
    gathers: Vec<Box<Gather>>,
    /// Buffers given out and not returned.
    lent: usize,
}

impl Pool {
    pub(super) fn lend(&mut self) -> Vec<u8> {
        self.lent += 1;
        self.buffers.pop().unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES))
    }

    /// The number of out-buffers that connections have.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    fn take(&mut self, mut buffer: Vec<u8>) {
        if (BUFFER_BYTES..=KEPT_BYTES_MAX).contains(&buffer.capacity()) && self.buffers.len() < KEPT_MAX {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    pub(super) fn take_lent(&mut self, buffer: Vec<u8>) {
        if buffer.capacity() > 0 {
            self.lent -= 1;
            self.take(buffer);
        }
    }

    pub(super) fn take_chunk(&mut self, chunk: Chunk) {
        if let Chunk::Owned(buffer) = chunk {
            self.take(buffer);
        }
    }

    /// Takes back all buffers of a connection. Only when the kernel is done with them.
    pub(super) fn take_all(&mut self, outgoing: &mut Outgoing) {
        let Outgoing { flight, mut queue, tail, .. } = std::mem::take(outgoing);
        self.take_lent(flight);
        self.take_lent(tail);
        queue.take_all().into_iter().for_each(|chunk| self.take_chunk(chunk));
        self.gathers.extend(queue.take_gather());
    }
}

impl Outgoing {
    /// Puts appended bytes after the chunks.
    pub(super) fn tail_to_queue(&mut self, pool: &mut Pool) {
        if !self.tail.is_empty() {
            // The buffer is now a chunk like others, and returns to the pool as one.
            pool.lent -= 1;
            let tail = std::mem::take(&mut self.tail);
            self.queue.push(Chunk::Owned(tail));
        }
    }

    /// Removes bytes that the kernel has sent.
    fn advance(&mut self, mut count: usize, pool: &mut Pool) {
        let Some(gather) = self.queue.take_gather() else {
            self.sent += count;
            if self.sent >= self.flight.len() {
                pool.take_lent(std::mem::take(&mut self.flight));
                self.sent = 0;
            }
            return;
        };
        pool.gathers.push(gather);
        self.queue.gone(count);
        while let Some(chunk) = self.queue.front() {
            let rest = chunk.bytes().len() - self.sent;
            if count < rest {
                self.sent += count;
                break;
            }
            count -= rest;
            self.sent = 0;
            if let Some(chunk) = self.queue.pop() {
                pool.take_chunk(chunk);
            }
            if count == 0 {
                break;
            }
        }
    }
}

impl<M: Send + 'static, D: Driver> Core<M, D> {
    pub(super) fn mark_dirty(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.named(id) {
            conn.queue_in(&mut self.dirty, id.slot);
        }
    }

    pub(super) fn queue_chunks(&mut self, id: ConnId, chunks: &mut Vec<Chunk>) {
        let Some(conn) = self.conns.named(id).filter(|conn| conn.takes_output()) else { return chunks.clear() };
        conn.outgoing.tail_to_queue(&mut self.pool);
        for chunk in chunks.drain(..).filter(|chunk| !chunk.bytes().is_empty()) {
            conn.outgoing.queue.push(chunk);
        }
        self.mark_dirty(id);
    }

    pub(super) fn close_gently(&mut self, id: ConnId) {
        match self.conns.alive(id) {
            Some(conn) if conn.phase == Phase::Open => {
                conn.phase = Phase::Closing;
                self.set_deadline(id, FLUSH_LIMIT);
                self.mark_dirty(id);
            }
            Some(conn) if conn.phase == Phase::Connecting => self.end(id, Closed::Local),
            _ => {}
        }
    }

    /// Sends gathered bytes of [`WRITES_PER_TURN`] connections: half of these are the ones that have waited longest, the others
    /// those of this turn, in the order in which it wrote to them. Connections that may be served late follow,
    /// [`LATE_WRITES_PER_TURN`] of them.
    pub(super) fn flush_all(&mut self) {
        let mut writes = self.flush_some(|core| &mut core.overdue, WRITES_PER_TURN / 2) + WRITES_PER_TURN / 2;
        writes = self.flush_some(|core| &mut core.dirty, writes);
        self.overdue.append(&mut self.dirty);
        self.flush_some(|core| &mut core.overdue, writes);
        let grew = std::mem::take(&mut self.late_grew);
        let writes = if grew { LATE_WRITES_WHILE_MORE_COMES } else { LATE_WRITES_PER_TURN };
        self.flush_some(|core| &mut core.late, writes);
    }

    /// Flushes up to `writes` connections, and returns the number of unused writes.
    fn flush_some(&mut self, of: fn(&mut Self) -> &mut VecDeque<u32>, mut writes: usize) -> usize {
        while writes > 0
            && let Some(slot) = of(self).pop_front()
        {
            writes -= usize::from(self.flush_slot(slot));
        }
        writes
    }

    /// Flushes a connection. Returns whether it took a write.
    fn flush_slot(&mut self, slot: u32) -> bool {
        let Some((id, conn)) = self.conns.at(slot) else { return false };
        if !std::mem::take(&mut conn.dirty) {
            return false;
        }
        conn.late = false;
        let writes = !conn.sending && matches!(conn.phase, Phase::Open | Phase::Closing | Phase::Flushing);
        let wrote = writes && self.flush(id);
        self.cap(id);
        wrote
    }

    /// Whether there was something to send.
    fn flush(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.named(id) else { return false };
        if conn.layered.is_some() && !self.seal(id) {
            return false;
        }
        let Some(conn) = self.conns.named(id) else { return false };
        // Only a layer's sealed bytes go to the socket.
        let (is_plain, is_outgoing) = (conn.layered.is_none(), conn.is_outgoing());
        let outgoing = &mut conn.outgoing;
        if outgoing.flight.is_empty() && is_plain {
            if outgoing.queue.is_empty() {
                outgoing.flight = std::mem::take(&mut outgoing.tail);
                self.sent_bytes += if is_outgoing { 0 } else { outgoing.flight.len() as u64 };
                if conn.traced && !outgoing.flight.is_empty() {
                    TracedSend { conn: id, at: self.wall, bytes: outgoing.flight.clone() }.keep(&mut self.traced);
                }
            } else {
                outgoing.tail_to_queue(&mut self.pool);
            }
        }
        let tag = tag(Kind::Send, id);
        let Some(fd) = conn.fd.as_ref().map(AsFd::as_fd) else { return false };
        if !outgoing.flight.is_empty() {
            let rest = &outgoing.flight[outgoing.sent..];
            let length = u32::try_from(rest.len()).unwrap_or(i32::MAX as u32);
            // SAFETY: the slot keeps `flight` untouched until the completion: appending goes to `tail`, and neither
            // is a buffer taken back nor a slot freed while `sending` is set.
            unsafe { self.driver.send(fd, rest.as_ptr(), length, tag) };
        } else if is_plain && !outgoing.queue.is_empty() {
            let mut gather = self.pool.gathers.pop().unwrap_or_else(Gather::new);
            gather.fill(outgoing);
            // SAFETY: as above: header and pieces lie in a box that the slot keeps, the chunks stay at the head of
            // the queue; a chunk's bytes do not move when the queue does, and shared ones are never changed.
            unsafe { self.driver.send_pieces(fd, &raw const gather.header, tag) };
            outgoing.queue.under_way(gather);
        } else {
            self.pool.take_lent(std::mem::take(&mut outgoing.flight));
            self.flushed(id);
            return false;
        }
        conn.sending = true;
        true
    }

    /// Handles the end of a flush: all bytes have been sent.
    fn flushed(&mut self, id: ConnId) {
        if self.close_layer(id) {
            return;
        }
        let Some(conn) = self.conns.named(id) else { return };
        match conn.phase {
            Phase::Flushing if conn.layered.is_none() => self.kill(id),
            Phase::Closing | Phase::Flushing => {
                if conn.phase == Phase::Closing {
                    conn.why = Some(Box::new(Closed::Local));
                    self.ended.push_back(id);
                }
                let shut = conn.fd().is_some_and(|fd| shutdown(fd, Shutdown::Write).is_ok());
                if conn.peer_done || !shut {
                    return self.kill(id);
                }
                conn.phase = Phase::Lingering;
                conn.reading = Reading::Multishot;
                self.set_deadline(id, LINGER_LIMIT);
                self.queue_arm(id);
            }
            _ => {}
        }
    }

    /// Handles the answer of a send. True: the shard has asked for a report that there is room.
    pub(super) fn sent(&mut self, completion: &Completion) -> bool {
        let id = id_of(completion.tag);
        let Some(conn) = self.conns.named(id) else { return false };
        conn.sending = false;
        match completion.count() {
            _ if conn.phase == Phase::Dead => self.release(id),
            Ok(count) => {
                conn.outgoing.advance(count, &mut self.pool);
                // A connection with nothing left is in no queue, so that later bytes may be late.
                if conn.phase != Phase::Open || conn.layered.is_some() || conn.unsent() > 0 {
                    self.mark_dirty(id);
                }
                return self.has_room_again(id);
            }
            Err(error) if is_transient(&error) => {
                self.pool.gathers.extend(conn.outgoing.queue.take_gather());
                self.mark_dirty(id);
            }
            Err(error) => {
                let why = if conn.phase == Phase::Closing { Closed::Local } else { Closed::Error(error) };
                self.end(id, why);
                self.kill(id);
            }
        }
        false
    }

    /// Stops reading from a peer that does not read. Only on accepted connections, where sent bytes are answers to the bytes read.
    /// On an outgoing connection answers must be read while further requests wait on a slow line.
    fn cap(&mut self, id: ConnId) {
        let max = self.out_bytes_max;
        let deaf = |conn: &&mut Conn| !conn.capped && !conn.is_outgoing() && conn.unsent() > max;
        if let Some(conn) = self.conns.alive(id).filter(deaf) {
            conn.capped = true;
            self.follow_wish(id);
        }
    }

    /// Reads again from a peer that has taken enough. True: the shard has asked for a report of that.
    fn has_room_again(&mut self, id: ConnId) -> bool {
        let waits = |conn: &&mut Conn| conn.capped || conn.awaited;
        let Some(conn) = self.conns.alive(id).filter(waits) else { return false };
        let (unsent, was_capped) = (conn.unsent(), conn.capped);
        conn.capped &= unsent > self.out_bytes_max / 2;
        let is_told = conn.awaited && unsent <= SENT_AHEAD_BYTES_MAX / 2;
        conn.awaited &= !is_told;
        if was_capped != conn.capped {
            self.follow_wish(id);
        }
        is_told
    }
}
