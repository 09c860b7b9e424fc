//! Receiving: arming, pausing, and the answers of a receive.
//!
//! Receives are armed only at the end of the turn, never while the shard is being called. So a socket that has just given its first
//! bytes has no receive under way and can be moved to another shard as it is.

use std::io;
use std::os::fd::AsFd;

use super::connections::{Conn, HUNG_UP_LIMIT, Phase, Reading, id_of, tag};
use super::core::{Alarm, Core};
use super::driver::{Completion, Driver, Kind, is_transient};
use super::reads::{Read, Reads};
use super::seam::{Closed, ConnId};
use forebay_base::limits::{QUANTUM_PACKETS, READS_WAITING_MAX};

/// Received bytes.
pub(super) struct Received {
    pub(super) length: usize,
    /// Whether the bytes are for the connection's layer.
    pub(super) is_layered: bool,
}

impl<M: Send + 'static, D: Driver> Core<M, D> {
    /// Brings the receive in line with the wish: arms it at the end of the turn, or cancels it.
    pub(super) fn follow_wish(&mut self, id: ConnId) {
        let Some(conn) = self.conns.named(id) else { return };
        if conn.ends_within() {
            return self.end(id, Closed::Peer);
        }
        if conn.wants_bytes() {
            self.queue_arm(id);
            return;
        }
        if conn.armed && !conn.cancelling && conn.phase != Phase::Closing {
            conn.cancelling = true;
            self.driver.cancel(tag(Kind::Receive, id), tag(Kind::CancelReceive, id));
        }
        self.watch(id);
    }

    /// Has the kernel report when the peer of a connection that is not read has gone.
    fn watch(&mut self, id: ConnId) {
        let Some(conn) = self.conns.named(id) else { return };
        // A connection with one-shot reads has not sent CONNECT yet and has a deadline; a poll would keep it from
        // moving.
        let unread =
            conn.phase == Phase::Open && conn.paused && conn.why.is_none() && conn.reading == Reading::Multishot;
        if unread
            && !conn.watched
            && !conn.hung_up
            && let Some(fd) = conn.fd.as_ref()
        {
            self.driver.poll_hang_up(fd.as_fd(), tag(Kind::HangUp, id));
            conn.watched = true;
        }
    }

    /// The peer of a connection that was not read has gone, or the watch was cancelled. The peer's bytes may still be read until
    /// [`HUNG_UP_LIMIT`]; then the connection ends.
    pub(super) fn hung_up(&mut self, completion: &Completion) {
        let id = id_of(completion.tag);
        let Some(conn) = self.conns.named(id) else { return };
        conn.watched = false;
        if conn.phase == Phase::Dead {
            self.release(id);
        } else if completion.result >= 0 && conn.phase == Phase::Open && conn.paused && conn.why.is_none() {
            conn.hung_up = true;
            self.wheel.insert(self.now.after(HUNG_UP_LIMIT), Alarm::HungUp(id));
        }
    }

    /// [`HUNG_UP_LIMIT`] is over. If the connection is being read again by then, its end comes in order.
    pub(super) fn hung_up_for_long(&mut self, id: ConnId) {
        let Some(conn) = self.conns.alive(id) else { return };
        conn.hung_up = false;
        if conn.phase == Phase::Open && conn.paused {
            self.end(id, Closed::Peer);
        }
    }

    /// Notes that a receive has to be armed. A receive that is armed, or still being cancelled, stays: its last answer leads to
    /// another look at the wish. The same happens when the shard has had all received bytes: until then the buffers are for other
    /// connections.
    pub(super) fn queue_arm(&mut self, id: ConnId) {
        let Some(conn) = self.conns.named(id) else { return };
        if !conn.armed && !conn.arm_queued && !conn.has_unread() {
            conn.arm_queued = true;
            self.to_arm.push(id.slot);
        }
    }

    /// Arms the noted receives. The returned buffers must have been published before.
    pub(super) fn arm_all(&mut self) {
        let mut slots = std::mem::take(&mut self.to_arm);
        for slot in slots.drain(..) {
            let Some((id, conn)) = self.conns.at(slot) else { continue };
            if !std::mem::take(&mut conn.arm_queued) || conn.armed || !conn.wants_bytes() {
                continue;
            }
            if conn.ends_within() {
                self.end(id, Closed::Peer);
                continue;
            }
            let Some(fd) = conn.fd() else { continue };
            match conn.reading {
                Reading::OneShot => self.driver.receive_once(fd, tag(Kind::Receive, id)),
                Reading::Multishot => self.driver.receive_always(fd, tag(Kind::Receive, id)),
            }
            conn.armed = true;
        }
        self.to_arm = slots;
    }

    /// Handles the answer of a receive. `Some`: that many bytes are for the shard, or for the layer before it.
    pub(super) fn received(&mut self, completion: &Completion) -> Option<Received> {
        let id = id_of(completion.tag);
        let conn = self.conns.named(id)?;
        if !completion.more() {
            conn.armed = false;
            conn.cancelling = false;
        }
        match (conn.phase, completion.count()) {
            (Phase::Dead, _) => {
                self.release(id);
                None
            }
            (Phase::Open, Ok(length)) if length > 0 && conn.is_open() => {
                Some(Received { length, is_layered: conn.layered.is_some() })
            }
            // The end comes in order, after bytes that the shard has but does not want to look at yet. The receive that is armed
            // when the connection is read again answers 0 once more.
            (Phase::Open, Ok(0)) if conn.paused => None,
            (Phase::Open, Ok(0)) => {
                conn.peer_done = true;
                self.end(id, Closed::Peer);
                None
            }
            (Phase::Open, Err(error)) if !is_retry(&error) => {
                self.end(id, Closed::Error(error));
                None
            }
            (Phase::Lingering, Ok(0)) => {
                self.kill(id);
                None
            }
            (Phase::Lingering, Err(error)) if !is_retry(&error) => {
                self.kill(id);
                None
            }
            (Phase::Closing, Ok(0)) => {
                conn.peer_done = true;
                None
            }
            _ => None,
        }
    }

    /// Puts an answer into the queue of its connection. A connection with many in its queue is not read for a while. False: the
    /// connection does not exist.
    pub(super) fn queue_read(&mut self, completion: Completion) -> bool {
        let id = id_of(completion.tag);
        let Some(conn) = self.conns.named(id) else { return false };
        self.reads.push(conn, completion);
        if conn.reads.len() >= READS_WAITING_MAX && !std::mem::replace(&mut conn.crowded, true) {
            self.follow_wish(id);
        }
        true
    }

    /// Begins to serve a connection: its quantum is full, and it has left the line.
    pub(super) fn begin_quantum(&mut self, slot: u32) -> Option<ConnId> {
        self.quantum = QUANTUM_PACKETS;
        let (id, conn) = self.conns.at(slot)?;
        Reads::leave_line(conn);
        Some(id)
    }

    /// A connection has been served: the rest of its bytes waits for its next quantum.
    pub(super) fn end_quantum(&mut self, id: ConnId) {
        let Some(conn) = self.conns.named(id) else { return };
        if conn.has_unread() {
            self.quanta_exceeded += 1;
            return self.reads.stand_in_line(conn, id.slot);
        }
        conn.crowded = false;
        self.follow_wish(id);
    }

    /// The oldest answer in the queue of a connection.
    pub(super) fn next_read(&mut self, id: ConnId) -> Option<Read> {
        let conn = self.conns.named(id)?;
        self.reads.take(conn)
    }

    /// The shard has had the bytes of an answer up to `from`.
    pub(super) fn read_partly(&mut self, id: ConnId, read: Read, from: usize) -> bool {
        let conn = self.conns.named(id).filter(|conn| conn.is_open());
        if let Some(conn) = conn {
            self.reads.put_back(conn, read, from);
            return true;
        }
        false
    }

    /// Whether the shard may be given bytes of a connection.
    pub(super) fn is_open(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(Conn::is_open)
    }

    /// A cancellation found no receive: the receive has answered already, or is about to.
    pub(super) fn receive_cancelled(&mut self, completion: &Completion) {
        if completion.result >= 0 {
            return;
        }
        let id = id_of(completion.tag);
        if let Some(conn) = self.conns.named(id) {
            conn.cancelling = false;
            self.follow_wish(id);
        }
    }
}

/// Answers after which the receive is simply armed again, if bytes are still (or again) wanted: out of buffers, or
/// cancelled by a pause that has been taken back since.
fn is_retry(error: &io::Error) -> bool {
    is_transient(error) || matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ECANCELED))
}
