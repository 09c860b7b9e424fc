//! Connections left unread because something is full, and how they are read again.
//!
//! A stalled connection keeps the packet that found no room, and what the kernel had already delivered behind it, in its
//! tail; its socket is paused, so TCP holds the device back; its keep-alive rests, for a PINGREQ stands behind the
//! PUBLISH in the same stream. One queue for each thing that can be full, so that a cluster which is away holds only
//! the connections that publish to it.

use std::collections::VecDeque;

use crate::metrics::spec::ShardMetric as M;
use crate::runtime::seam::ConnId;

use super::connection::{Kind, Timer};
use super::{Core, Ring};

/// Connections that have gone and may stand in a queue beside as many as twice those that wait.
const GONE_MAX: usize = 64;

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stall {
    /// The memory of this cluster's producer.
    Memory(usize),
    /// The answers that one connection may be owed.
    Answers,
}

/// The queues, each in the order in which connections found no room.
#[derive(Debug)]
pub(super) struct Stalls {
    memory: Vec<VecDeque<ConnId>>,
    answers: VecDeque<ConnId>,
    /// Connections that are left unread. The queues may hold more: those that have gone stay in them for a while.
    waiting: usize,
}

impl Stalls {
    pub(super) fn new(clusters: usize) -> Self {
        Self { memory: vec![VecDeque::new(); clusters], answers: VecDeque::new(), waiting: 0 }
    }

    /// Connections that are left unread now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// One of them is read again, or has gone.
    pub(super) fn one_less(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    fn queue(&mut self, why: Stall) -> &mut VecDeque<ConnId> {
        match why {
            Stall::Memory(cluster) => &mut self.memory[cluster],
            Stall::Answers => &mut self.answers,
        }
    }
}

impl Core {
    /// Leaves a connection unread.
    pub(super) fn stall(&mut self, io: &mut Ring<'_>, conn: ConnId, why: Stall) {
        if let Some(connection) = self.connections.get(conn) {
            connection.stalled = true;
            connection.clock.rest();
            io.pause(conn);
            self.numbers.count(M::Stalls);
            self.stalls.waiting += 1;
            let waiting = self.stalls.waiting;
            let queue = self.stalls.queue(why);
            queue.push_back(conn);
            if queue.len() > 2 * waiting + GONE_MAX {
                queue.retain(|conn| self.connections.get(*conn).is_some_and(|connection| connection.stalled));
            }
        }
    }

    /// Reads stalled connections again, oldest first, as long as there is room.
    pub(super) fn unstall(&mut self, io: &mut Ring<'_>) {
        for cluster in 0..self.stalls.memory.len() {
            self.unstall_queue(io, Stall::Memory(cluster));
        }
        self.unstall_queue(io, Stall::Answers);
    }

    fn unstall_queue(&mut self, io: &mut Ring<'_>, why: Stall) {
        for _ in 0..self.stalls.queue(why).len() {
            let Some(conn) = self.stalls.queue(why).pop_front() else { return };
            self.read_again(io, conn);
            // Memory is one thing that all in the queue wait for: if the first finds none, nobody will. Back to the
            // front with it. Answers are each connection's own.
            let queue = self.stalls.queue(why);
            if matches!(why, Stall::Memory(_)) && queue.back() == Some(&conn) {
                queue.rotate_right(1);
                return;
            }
        }
    }

    fn read_again(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let now = io.now();
        let Some(connection) = self.connections.get(conn) else { return };
        connection.stalled = false;
        self.stalls.one_less();
        let tail = std::mem::take(&mut connection.tail);
        self.numbers.lower(M::PartialBytes, tail.len() as u64);
        self.tail_bytes(io, conn, tail);
        let Some(connection) = self.connections.get(conn) else { return };
        if !connection.stalled && matches!(connection.kind, Kind::Device { .. }) {
            if let Some(deadline) = connection.clock.resume(now)
                && connection.timer.is_none()
            {
                connection.timer = Some(io.set_timer(deadline, Timer::Connection(conn).token()));
            }
            io.resume(conn);
        }
    }
}
