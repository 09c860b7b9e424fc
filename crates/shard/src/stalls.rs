//! Connections left unread because something is full, and how they are read again.
//!
//! A stalled connection keeps the packet that found no room, and the bytes after it that the kernel had already delivered, in its tail; its
//! socket is paused, so TCP holds the device back; its keep-alive rests, for a PINGREQ comes after the PUBLISH in the same stream. There is
//! one queue for each thing that can be full (a cluster's memory, a sink's, a topic's or a partition's part of it; the room for waiting
//! messages of a shard's subscribers), so that a topic which is dead holds only the connections that publish to it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Bound;

use forebay_broker::words::Stall;
use forebay_broker::words::Wait;
use forebay_kafka::producer::Full;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Packet, Sender, Version};
use forebay_mqtt::route::shares::ShareNumber;
use forebay_mqtt::{decode, frame};
use forebay_runtime::seam::{ConnId, Monotonic};

use super::Core;
use super::connection::Kind;
use super::ring::Ring;
use super::words::AtDoor;
use super::words::Timer;

/// The most closed connections in the queues beyond twice the number waiting.
const GONE_MAX: usize = 64;

/// The number of connections at the front of a queue that find no room in one turn before the rest is left for the next: the first may need more than there
/// will be, and later ones less.
const LOOKS_MAX: usize = 64;

/// A queue of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Line {
    /// The queue of connections that wait for answers of their own.
    Answers,
    /// The queue of connections that continue in the next turn.
    Quantum,
    /// The queue of a cluster, and of the part of it that is full.
    Memory(usize, Full),
    /// The queue of a slot with `[broker]`.
    Slot(u16),
    /// The queue of a shard with subscribers.
    Subscribers(usize),
    /// The queue of topics with many subscribers.
    ManySubscribers,
    /// The queue of a shared subscription.
    Share(ShareNumber),
}

impl Line {
    /// The queue of connections that wait for this.
    const fn of(stall: Stall) -> Self {
        match stall {
            Stall::Memory(wait) => Self::Memory(wait.cluster, wait.full),
            Stall::Slot(slot) => Self::Slot(slot),
            Stall::Answers => Self::Answers,
            Stall::Quantum => Self::Quantum,
            Stall::Subscribers(shard) => Self::Subscribers(shard),
            Stall::ManySubscribers => Self::ManySubscribers,
            Stall::Share(share) => Self::Share(share),
        }
    }
}

/// The queues, each in the order in which connections found no room, with the memory that each needs.
#[derive(Debug, Default)]
pub(super) struct Stalls {
    lines: BTreeMap<Line, VecDeque<(ConnId, usize)>>,
    /// The number of entries in all queues.
    standing: usize,
    /// The number of connections left unread. The queues may hold more: closed ones stay in them for a while.
    waiting: usize,
    /// Connections of users that have used up their rate, by when they are read again.
    rates: BinaryHeap<Reverse<(Monotonic, u32, u32)>>,
    /// [`super::outlets::Outlets::freed`] when connections that wait for memory were last asked.
    asked_at: u64,
    /// Whether the last pass did not reach all of them, as the turn was over.
    left_off: bool,
}

impl Stalls {
    /// The number of connections left unread now.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Has each waiting connection tried again in this turn, as what it waits for may no longer exist.
    pub(super) fn ask_all_again(&mut self) {
        let all: VecDeque<_> = std::mem::take(&mut self.lines).into_values().flatten().collect();
        if !all.is_empty() {
            self.lines.insert(Line::Answers, all);
        }
    }

    /// Notes that a waiting connection is read again, or has gone.
    pub(super) fn one_less(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Takes the entry at this place of a queue.
    fn take(&mut self, line: Line, at: usize) {
        if let Some(queue) = self.lines.get_mut(&line)
            && queue.remove(at).is_some()
        {
            self.standing -= 1;
        }
    }

    /// Whether a connection has just joined the end of a queue. If so, it goes back to its place.
    fn put_back(&mut self, line: Line, conn: ConnId, at: usize) -> bool {
        let Some(queue) = self.lines.get_mut(&line) else { return false };
        match queue.pop_back_if(|(last, _)| *last == conn) {
            Some(entry) => {
                queue.insert(at.min(queue.len()), entry);
                true
            }
            None => false,
        }
    }
}

impl Core {
    /// Leaves a connection unread. A connection that is unread already continues when its first wait is over.
    pub(super) fn stall(&mut self, io: &mut Ring<'_>, conn: ConnId, why: Stall) {
        if let Some(connection) = self.connections.get(conn).filter(|connection| !connection.stalled) {
            connection.stalled = true;
            connection.clock.rest();
            io.pause(conn);
            self.here.numbers.count(M::Stalls);
            let stalls = &mut self.stalls;
            stalls.waiting += 1;
            stalls.standing += 1;
            let bytes = if let Stall::Memory(wait) = why { wait.bytes } else { 0 };
            stalls.lines.entry(Line::of(why)).or_default().push_back((conn, bytes));
            if stalls.standing > 2 * stalls.waiting + GONE_MAX {
                let connections = &mut self.connections;
                stalls.lines.retain(|_, queue| {
                    queue.retain(|(conn, _)| connections.get(*conn).is_some_and(|connection| connection.stalled));
                    !queue.is_empty()
                });
                stalls.standing = stalls.lines.values().map(VecDeque::len).sum();
            }
        }
    }

    /// Charges the bytes that were read of a connection. If its user has used up its rate, it is left unread until there is room.
    pub(super) fn charge(&mut self, io: &mut Ring<'_>, conn: ConnId, read: &[u8]) {
        let Some(connection) = self.connections.get(conn) else { return };
        let Some(AtDoor::Bounded(share)) = connection.claim.as_deref() else { return };
        let Kind::Device { peer, .. } = connection.kind else { return };
        let Some(until) = share.charge(messages(peer.version, read), read.len(), io.now()) else { return };
        if connection.stalled {
            // The rate is asked again when the connection's wait is over ([`Core::owes_rate`]).
            return;
        }
        connection.stalled = true;
        connection.clock.rest();
        io.pause(conn);
        self.stalls.waiting += 1;
        self.wait_for_rate(io, conn, until);
    }

    /// Whether a connection that waited for something else exceeds the rate of its user, too, and goes on waiting for that.
    fn owes_rate(&mut self, io: &mut Ring<'_>, conn: ConnId) -> bool {
        let Some(connection) = self.connections.get(conn).filter(|connection| connection.stalled) else { return false };
        let Some(AtDoor::Bounded(share)) = connection.claim.as_deref() else { return false };
        let Some(until) = share.next(io.now()).filter(|_| self.drain.own.is_none()) else { return false };
        self.wait_for_rate(io, conn, until);
        true
    }

    fn wait_for_rate(&mut self, io: &mut Ring<'_>, conn: ConnId, until: Monotonic) {
        self.here.numbers.count(M::RatePauses);
        let first = self.stalls.rates.peek().map(|Reverse((first, ..))| *first);
        self.stalls.rates.push(Reverse((until, conn.slot, conn.generation)));
        if first.is_none_or(|first| until < first) {
            let _ = io.set_timer(until, Timer::Rates.token());
        }
    }

    /// Reads connections again when the time of their rate has come.
    pub(super) fn rates_time(&mut self, io: &mut Ring<'_>) {
        while let Some(Reverse((until, slot, generation))) = self.stalls.rates.peek().copied() {
            if until > io.now() {
                let _ = io.set_timer(until, Timer::Rates.token());
                return;
            }
            self.stalls.rates.pop();
            let conn = ConnId { slot, generation };
            if self.drain.own.is_none() && self.connections.get(conn).is_some_and(|connection| connection.stalled) {
                self.read_again(io, conn);
            }
        }
    }

    /// Reads stalled connections again, oldest first, as long as there is room.
    pub(super) fn unstall(&mut self, io: &mut Ring<'_>) {
        let freed = self.outlets.freed(&self.broker.logs);
        let memory = std::mem::replace(&mut self.stalls.asked_at, freed) != freed || self.stalls.left_off;
        self.stalls.left_off = false;
        let mut next = Bound::Unbounded;
        loop {
            let following = self.stalls.lines.range((next, Bound::Unbounded)).next();
            let Some(line) = following.map(|(line, _)| *line) else { return };
            if memory || !matches!(line, Line::Memory(..) | Line::Slot(_)) {
                self.unstall_line(io, line);
            }
            next = Bound::Excluded(line);
        }
    }

    fn unstall_line(&mut self, io: &mut Ring<'_>, line: Line) {
        let mut at = 0;
        for look in 0..self.stalls.lines.get(&line).map_or(0, VecDeque::len) {
            if look > 0 && io.is_over_after(look) {
                self.stalls.left_off = true;
                break;
            }
            let entry = self.stalls.lines.get(&line).and_then(|queue| queue.get(at)).copied();
            let Some((conn, bytes)) = entry.filter(|_| at < LOOKS_MAX) else { break };
            // The question takes no byte of the connection.
            let has_room = match line {
                Line::Answers | Line::Quantum => true,
                Line::Memory(cluster, full) => self.outlets.may_go_on(&self.broker.logs, Wait { cluster, full, bytes }),
                Line::Slot(slot) => self.outlets.slot_may_go_on(slot),
                Line::ManySubscribers => self.broker.delivery.has_room_for_many(),
                Line::Share(share) => self.broker.delivery.shares.is_placed_or_refused(share),
                Line::Subscribers(shard) => {
                    self.broker.delivery.has_room(shard)
                        && self.broker.retained.has_room(shard, 0)
                        && self.broker.queues.has_room(shard, 0)
                }
            };
            if !has_room {
                at += 1;
                continue;
            }
            self.stalls.take(line, at);
            if self.owes_rate(io, conn) {
                continue;
            }
            self.read_again(io, conn);
            // The connection keeps its place, if its next packet has no room.
            if !matches!(line, Line::Answers | Line::Quantum) && self.stalls.put_back(line, conn, at) {
                at += 1;
            }
        }
        if self.stalls.lines.get(&line).is_some_and(VecDeque::is_empty) {
            self.stalls.lines.remove(&line);
        }
        if self.stalls.left_off || self.stalls.lines.contains_key(&Line::Quantum) {
            io.go_on();
        }
    }

    fn read_again(&mut self, io: &mut Ring<'_>, conn: ConnId) {
        let now = io.now();
        let Some(connection) = self.connections.get(conn) else { return };
        connection.stalled = false;
        self.stalls.one_less();
        let tail = std::mem::take(&mut connection.tail);
        self.here.numbers.lower(M::PartialBytes, tail.len() as u64);
        io.next_quantum();
        self.kept_bytes(io, conn, tail);
        let Some(connection) = self.connections.get(conn) else { return };
        if !connection.stalled && matches!(connection.kind, Kind::Device { .. }) {
            // The timer that is set may be for the end of the connection, which lies further ahead.
            if let Some(timer) = connection.timer.take() {
                io.cancel_timer(timer);
            }
            let deadline = self.broker.keeping.holds.first_due(conn, connection.clock.resume(now));
            connection.timer = deadline.map(|at| io.set_timer(at, Timer::Connection(conn).token()));
            io.resume(conn);
        }
    }
}

/// Publishes among whole packets, and filters of SUBSCRIBE and UNSUBSCRIBE.
fn messages(version: Version, mut packets: &[u8]) -> usize {
    const PUBLISH: u8 = 3;
    const SUBSCRIBE: u8 = 8;
    const UNSUBSCRIBE: u8 = 10;
    let mut count = 0;
    while let Ok(Some(frame)) = frame::next(packets, u32::MAX) {
        packets = &packets[frame.len..];
        count += match frame.first >> 4 {
            PUBLISH => 1,
            SUBSCRIBE | UNSUBSCRIBE => match decode::decode(version, Sender::Client, frame) {
                Ok(Packet::Subscribe(subscribe)) => subscribe.filters.iter().count(),
                Ok(Packet::Unsubscribe(unsubscribe)) => unsubscribe.filters.iter().count(),
                _ => 0,
            },
            _ => 0,
        };
    }
    count
}
