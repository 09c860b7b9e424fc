//! The connections of one shard, in a slab that never moves them.
//!
//! A slot is identified by its index and a generation; both are in the `user_data` of every operation and in every [`ConnId`], so a
//! late answer or id matches no connection. A slot is reused only when the kernel has answered all of its operations.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::chunks::Chunks;
use super::driver::{Kind, Tag};
use super::layers::Layered;
use super::reads::Queue;
use super::seam::{Closed, ConnId, ListenerId, TimerId};

/// Slots are allocated by the page, so that growing never copies slots that the kernel or a long-lived server holds.
const PAGE_SLOTS: usize = 256;

/// Time for sending queued bytes once the connection is being closed.
pub(super) const FLUSH_LIMIT: Duration = Duration::from_secs(10);
/// Time that received bytes may stay unread after the peer has hung up.
pub(super) const HUNG_UP_LIMIT: Duration = Duration::from_secs(5);
/// Time that the peer has to close its side once we have closed ours.
pub(super) const LINGER_LIMIT: Duration = Duration::from_secs(1);

/// The listener of outgoing connections, which have none.
pub(super) const NO_LISTENER: ListenerId = ListenerId(u16::MAX);

/// The phase of a connection's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// An outgoing connect is under way.
    Connecting,
    /// Reads and writes.
    Open,
    /// [`close`](super::seam::Io::close) was called: sends queued bytes; discards received ones.
    Closing,
    /// The end has been reported to the shard, but the peer may still read: the rest is sent.
    Flushing,
    /// The end has been reported and our side is shut down; waits for the peer to do the same, so that unread bytes do not reset
    /// the connection under the peer's last read.
    Lingering,
    /// The end has been reported; waits for the kernel's last answers.
    Dead,
}

/// Reads by the piece, or all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    OneShot,
    Multishot,
}

/// Bytes that wait for sending, oldest first: `flight`, `queue`, `tail`.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The plain bytes of the send in progress (or the rest of them).
    pub(super) flight: Vec<u8>,
    /// Bytes sent of `flight`, or else of the first chunk of `queue`.
    pub(super) sent: usize,
    pub(super) queue: Chunks,
    /// The out-buffer that the shard appends to; borrowed from the pool.
    pub(super) tail: Vec<u8>,
}

impl Outgoing {
    pub(super) fn unsent(&self) -> usize {
        let flight = if self.flight.is_empty() { 0 } else { self.flight.len() - self.sent };
        flight + self.queue.bytes() + self.tail.len()
    }
}

/// A connection.
pub(super) struct Conn {
    /// `None` only for an outgoing connection that could not even get a socket.
    pub(super) fd: Option<OwnedFd>,
    /// The peer's address; `None`: the connection came over a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    pub(super) listener: ListenerId,
    pub(super) phase: Phase,
    pub(super) reading: Reading,
    /// A receive is with the kernel.
    pub(super) armed: bool,
    /// Whether that receive is being cancelled.
    pub(super) cancelling: bool,
    /// Whether the connection is in the list of receives to arm at the end of the turn.
    pub(super) arm_queued: bool,
    /// Whether a poll for the peer's end is with the kernel: while nothing is read, no receive reports it.
    pub(super) watched: bool,
    /// Whether that poll was answered, and [`HUNG_UP_LIMIT`] is running.
    pub(super) hung_up: bool,
    /// A send is with the kernel.
    pub(super) sending: bool,
    /// Whether the connection is in the list of those with something to send.
    pub(super) dirty: bool,
    /// Whether that is the list of connections that may be served late.
    pub(super) late: bool,
    /// The shard wants a copy of the bytes that the connection is sent.
    pub(super) traced: bool,
    /// The shard wants no bytes.
    pub(super) paused: bool,
    /// More bytes are unsent than allowed: the runtime wants no bytes.
    pub(super) capped: bool,
    /// More has been received than the shard can look at: the runtime wants no bytes until the shard has had the received ones.
    pub(super) crowded: bool,
    /// The shard wants a report when there is room again.
    pub(super) awaited: bool,
    /// The peer has closed its sending side.
    pub(super) peer_done: bool,
    /// Answered receives that the shard has not had.
    pub(super) reads: Queue,
    pub(super) outgoing: Outgoing,
    /// TLS, if the listener has it.
    pub(super) layered: Option<Box<Layered>>,
    /// The reason of the end, while the shard has to be told; most connections have none.
    pub(super) why: Option<Box<Closed>>,
    /// Ends flushing and lingering at the latest.
    pub(super) deadline: Option<TimerId>,
    /// The address of a connect under way, which the kernel reads.
    pub(super) connecting: Option<Box<socket2::SockAddr>>,
}

impl Conn {
    pub(super) fn new(
        fd: Option<OwnedFd>,
        peer: Option<SocketAddr>,
        listener: ListenerId,
        phase: Phase,
        reading: Reading,
    ) -> Self {
        Self {
            fd,
            peer,
            listener,
            phase,
            reading,
            armed: false,
            cancelling: false,
            arm_queued: false,
            watched: false,
            hung_up: false,
            sending: false,
            dirty: false,
            late: false,
            traced: false,
            paused: false,
            capped: false,
            crowded: false,
            awaited: false,
            peer_done: false,
            reads: Queue::default(),
            outgoing: Outgoing::default(),
            layered: None,
            why: None,
            deadline: None,
            connecting: None,
        }
    }

    /// Whether the shard may still use the connection's id.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open | Phase::Closing) && self.why.is_none()
    }

    /// Puts the connection into this queue of connections with something to send, unless it is in one.
    pub(super) fn queue_in(&mut self, queue: &mut VecDeque<u32>, slot: u32) {
        if !std::mem::replace(&mut self.dirty, true) {
            queue.push_back(slot);
        }
    }

    /// Whether received bytes are for the shard.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open && self.why.is_none()
    }

    /// The shard may still append.
    pub(super) fn takes_output(&self) -> bool {
        matches!(self.phase, Phase::Connecting | Phase::Open) && self.why.is_none()
    }

    /// Whether we have made the connection.
    pub(super) fn is_outgoing(&self) -> bool {
        self.listener == NO_LISTENER
    }

    /// A receive should be armed.
    pub(super) fn wants_bytes(&self) -> bool {
        match self.phase {
            Phase::Open => !self.paused && !self.capped && !self.crowded && self.why.is_none() && !self.is_in_line(),
            Phase::Lingering => true,
            Phase::Connecting | Phase::Closing | Phase::Flushing | Phase::Dead => false,
        }
    }

    /// Whether the layer has bytes of the wire that wait for their turn.
    fn is_in_line(&self) -> bool {
        self.layered.as_ref().is_some_and(|layered| layered.in_line)
    }

    /// Whether received bytes wait for the connection's next quantum.
    pub(super) fn has_unread(&self) -> bool {
        !self.reads.is_empty() || self.layered.as_ref().is_some_and(|layered| layered.unread.is_some())
    }

    /// Whether the peer's stream has ended within the layer, and nothing delays reporting that to the shard.
    pub(super) fn ends_within(&self) -> bool {
        self.wants_bytes()
            && !self.has_unread()
            && self.layered.as_ref().is_some_and(|layered| layered.layer.has_ended())
    }

    /// Bytes that the kernel has not taken.
    pub(super) fn unsent(&self) -> usize {
        self.outgoing.unsent() + self.layered.as_ref().map_or(0, |layered| layered.answer.len())
    }

    /// Whether the kernel holds nothing of the connection.
    pub(super) fn is_settled(&self) -> bool {
        !self.armed && !self.watched && !self.sending && self.connecting.is_none()
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }
}

struct Slot {
    generation: u32,
    conn: Option<Conn>,
}

/// The slab.
#[derive(Default)]
pub(super) struct Connections {
    pages: Vec<Box<[Slot]>>,
    free: Vec<u32>,
    used: u32,
    len: usize,
}

impl Connections {
    /// The number of used slots, those of connections that are only waiting for the kernel included.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Takes a slot. Gives the connection back when there are none left (2^24).
    pub(super) fn insert(&mut self, conn: Conn) -> Result<ConnId, Box<Conn>> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.used == Tag::SLOTS => return Err(Box::new(conn)),
            None => {
                if self.used as usize == self.pages.len() * PAGE_SLOTS {
                    let page = (0..PAGE_SLOTS).map(|_| Slot { generation: 0, conn: None });
                    self.pages.push(page.collect());
                }
                self.used += 1;
                self.used - 1
            }
        };
        let slot = self.slot_mut(index);
        slot.conn = Some(conn);
        let generation = slot.generation;
        self.len += 1;
        Ok(ConnId { slot: index, generation })
    }

    /// Empties a slot; its generation ends.
    pub(super) fn remove(&mut self, index: u32) -> Option<Conn> {
        let slot = self.slot_mut(index);
        let conn = slot.conn.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.len -= 1;
        Some(conn)
    }

    /// The connection of an id, while the shard may use the id.
    pub(super) fn alive(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.named(id).filter(|conn| conn.is_alive())
    }

    /// The connection an id names, alive or not.
    pub(super) fn named(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.pages.get_mut(id.slot as usize / PAGE_SLOTS)?.get_mut(id.slot as usize % PAGE_SLOTS)?;
        if slot.generation == id.generation { slot.conn.as_mut() } else { None }
    }

    /// The connection, read-only.
    pub(super) fn get(&self, id: ConnId) -> Option<&Conn> {
        let slot = self.pages.get(id.slot as usize / PAGE_SLOTS)?.get(id.slot as usize % PAGE_SLOTS)?;
        if slot.generation == id.generation { slot.conn.as_ref() } else { None }
    }

    /// The connection in a slot.
    pub(super) fn at(&mut self, index: u32) -> Option<(ConnId, &mut Conn)> {
        let slot = self.slot_mut(index);
        let id = ConnId { slot: index, generation: slot.generation };
        slot.conn.as_mut().map(|conn| (id, conn))
    }

    /// The open connection with the most of something, if any has some. A walk over all slots.
    pub(super) fn largest(&self, of: impl Fn(&Conn) -> usize) -> Option<ConnId> {
        let slots = (0..self.used).zip(self.pages.iter().flatten());
        let alive = slots.filter_map(|(slot, found)| {
            let conn = found.conn.as_ref().filter(|conn| conn.is_alive() && of(conn) > 0)?;
            Some((of(conn), ConnId { slot, generation: found.generation }))
        });
        alive.max_by_key(|(size, _)| *size).map(|(_, id)| id)
    }

    fn slot_mut(&mut self, index: u32) -> &mut Slot {
        &mut self.pages[index as usize / PAGE_SLOTS][index as usize % PAGE_SLOTS]
    }
}

/// The name of an operation on a connection.
pub(super) fn tag(kind: Kind, id: ConnId) -> Tag {
    Tag { kind, slot: id.slot, generation: id.generation }
}

/// The connection an operation was on.
pub(super) fn id_of(tag: Tag) -> ConnId {
    ConnId { slot: tag.slot, generation: tag.generation }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conn() -> Conn {
        let fd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        Conn::new(Some(fd), None, ListenerId(0), Phase::Open, Reading::OneShot)
    }

    #[test]
    fn a_stale_id_meets_nobody() {
        let mut slab = Connections::default();
        let first = slab.insert(conn()).unwrap_or_else(|_| unreachable!());
        assert!(slab.alive(first).is_some());
        assert!(slab.remove(first.slot).is_some());
        let second = slab.insert(conn()).unwrap_or_else(|_| unreachable!());
        assert_eq!(first.slot, second.slot);
        assert!(slab.alive(first).is_none() && slab.named(first).is_none());
        assert!(slab.alive(second).is_some());
        assert!(slab.alive(ConnId { slot: 70_000, generation: 0 }).is_none());
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_connection_is_small() {
        assert!(size_of::<Slot>() <= 192, "{}", size_of::<Slot>());
    }
}
