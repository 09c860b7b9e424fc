//! A broker as the producer sees it, and its two lanes. Kafka works at one request of a connection at a time, and with
//! acks=all that includes waiting for followers: a partition whose follower is frozen would keep all others of that
//! broker waiting. So the first lane asks for little patience; who is answered 7 (REQUEST_TIMED_OUT) goes on over the
//! second lane, with more, until a batch of it is answered at once again.
//!
//! Patience of a partition: 0 is the first lane; 1 the second with `acks_timeout`; each further one doubles that.

use std::collections::VecDeque;
use std::time::Duration;

use super::gather::{Entry, Request};
use super::{Key, Producer};
use crate::kafka::types::NodeId;
use crate::runtime::seam::Monotonic;

/// 500 ms, 1 s, 2 s: what stands behind waits as long, so no more.
pub(super) const PATIENCE_MAX: u8 = 3;

/// What of `acks_timeout` the first lane asks for at the least.
const SHORTEST: u32 = 5;

/// How often the usual time of an answer a broker may wait for followers, on the first lane.
const FOLLOWERS: u32 = 8;

/// A broker.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) throttled_until: Monotonic,
    /// First and second.
    pub(super) lanes: [Lane; 2],
}

/// One of its connections.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// When the requests without an answer were given out, oldest first.
    sent: VecDeque<Monotonic>,
    /// Partitions that wait until it has room.
    pub(super) waiting: Vec<Key>,
    usual: Usual,
}

/// How long an answer usually takes: mean and deviation, smoothed as TCP does it (RFC 6298).
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    mean: Duration,
    deviation: Duration,
}

impl Usual {
    fn note(&mut self, took: Duration) {
        self.deviation = (3 * self.deviation + took.abs_diff(self.mean)) / 4;
        self.mean = (7 * self.mean + took) / 8;
    }

    fn most(self) -> Duration {
        self.mean + 4 * self.deviation
    }
}

impl Node {
    /// Until answers have come they are taken to need as long as followers may.
    pub(super) fn new(id: NodeId, acks_timeout: Duration) -> Self {
        let usual = Usual { mean: acks_timeout, deviation: Duration::ZERO };
        let lane = || Lane { usual, ..Lane::default() };
        Self { id, throttled_until: Monotonic(0), lanes: [lane(), lane()] }
    }

    /// Whether another request may be given to a lane. On the first none is put behind one that takes longer than usual:
    /// it would wait there, and its partitions with it.
    pub(super) fn has_room(&self, slow: bool, max: usize, now: Monotonic) -> bool {
        let lane = &self.lanes[usize::from(slow)];
        let late = |sent: &Monotonic| !slow && now.since(*sent) > 2 * lane.usual.mean;
        lane.sent.len() < max && now >= self.throttled_until && !lane.sent.front().is_some_and(late)
    }

    /// How long it may wait for followers.
    pub(super) fn acks_timeout(&self, patience: u8, base: Duration) -> Duration {
        match patience {
            0 => (FOLLOWERS * self.lanes[0].usual.most()).clamp(base / SHORTEST, base),
            more => base * (1 << (more - 1)),
        }
    }

    /// A request is on its way.
    pub(super) fn sent(&mut self, slow: bool, now: Monotonic) {
        self.lanes[usize::from(slow)].sent.push_back(now);
    }

    /// A lane's oldest request has come to its end. Answers of a lane come in order.
    fn over(&mut self, slow: bool, answered: bool, now: Monotonic) {
        let lane = &mut self.lanes[usize::from(slow)];
        if let Some(sent) = lane.sent.pop_front().filter(|_| answered) {
            lane.usual.note(now.since(sent));
        }
    }
}

impl Producer {
    /// A request is over: its lane has room for another. `throttle_ms` of its answer, if there was one.
    pub(super) fn request_over(&mut self, id: u64, throttle_ms: Option<i32>, now: Monotonic) -> Option<Request> {
        let request = self.requests.remove(&id)?;
        let slow = request.patience > 0;
        if let Some(node) = self.nodes.iter_mut().find(|node| node.id == request.node) {
            node.over(slow, throttle_ms.is_some(), now);
            if let Ok(throttle @ 1..) = u64::try_from(throttle_ms.unwrap_or(0)) {
                node.throttled_until = now.after(Duration::from_millis(throttle));
                self.timers.set(node.throttled_until, super::timers::Timer::Node(request.node));
            }
            // They are still marked as queued.
            self.ready.append(&mut node.lanes[usize::from(slow)].waiting);
        }
        Some(request)
    }

    /// Leaves a partition waiting for room on its lane.
    pub(super) fn wait_for_node(&mut self, node: NodeId, slow: bool, key: Key) {
        if let Some(broker) = self.nodes.iter_mut().find(|broker| broker.id == node) {
            broker.lanes[usize::from(slow)].waiting.push(key);
            if let Some(work) = self.partition_mut(key).work.as_mut() {
                work.queued = true;
            }
        }
    }

    /// A batch was answered 7: its partition gets more patience, once for all that was asked with this one.
    pub(super) fn slower(&mut self, key: Key, asked_with: u8) {
        let partition = self.partition_mut(key);
        if partition.patience == asked_with && asked_with < PATIENCE_MAX {
            partition.patience += 1;
            self.slow_partitions += u64::from(asked_with == 0);
        }
    }

    /// A batch was answered 0. Only its first sending tells how long followers take: what is sent again has been with
    /// them since.
    pub(super) fn in_time(&mut self, entry: Entry, asked_with: u8) {
        let partition = self.partition_mut(entry.key);
        if !entry.again && asked_with > 0 && partition.patience == asked_with {
            partition.patience -= 1;
            self.slow_partitions -= u64::from(asked_with == 1);
        }
    }

    /// Partitions on the second lane of their broker.
    #[must_use]
    pub const fn slow_partitions(&self) -> u64 {
        self.slow_partitions
    }
}
