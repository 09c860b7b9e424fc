//! A broker as the producer sees it, and its two lanes. Kafka works at one request of a connection at a time, and with
//! acks=all that includes waiting for followers: a partition whose follower is frozen would keep all others of that
//! broker waiting. So the first lane asks for little patience; who is answered 7 (REQUEST_TIMED_OUT) twice goes on over the
//! second lane, with more, until a batch of it is answered at once again. With it go those that have a replica on the same
//! follower, or each of them would keep a request of the first lane in its turn.
//!
//! Patience of a partition: 0 is the first lane; 1 the second with `acks_timeout`; each further one doubles that.

use std::collections::VecDeque;
use std::time::Duration;

use super::error::TIMED_OUT;
use super::gather::{Entry, Request};
use super::{Key, Producer};
use crate::kafka::types::{NodeId, ProduceResult};
use crate::runtime::seam::Monotonic;

/// 500 ms, 1 s, 2 s: what stands behind waits as long, so no more.
pub(super) const PATIENCE_MAX: u8 = 3;

/// What the first lane asks for at the least.
const SERVICE_MIN: Duration = Duration::from_millis(20);

/// Batches taken on the second lane, none of them soon, after which a partition tries the first lane.
const TRIED_AFTER: u8 = 64;

/// How often the time that an answer seldom exceeds a broker may wait for followers, on the first lane. To be wrong costs
/// a batch that is sent twice.
const FOLLOWERS: u32 = 2;

/// All in-sync replicas.
const ACKS_ALL: i16 = -1;

/// The longest that a broker's throttle time is kept to: a nonsensical one must not silence a broker for weeks.
const THROTTLE_MAX: Duration = Duration::from_secs(300);

/// A broker.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) throttled_until: Monotonic,
    /// First and second.
    pub(super) lanes: [Lane; 2],
    /// From giving out a request to its answer, on the first lane.
    round: Usual,
    /// The same without what it waited behind others: followers take no longer.
    service: Usual,
}

/// One of its connections.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// When the requests without an answer were given out, oldest first.
    sent: VecDeque<Monotonic>,
    /// Partitions that wait until it has room.
    pub(super) waiting: Vec<Key>,
    /// When it was last answered, and when it was last answered 7: what was under way then stood behind that.
    answered: Monotonic,
    held: Monotonic,
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
        Self {
            id,
            throttled_until: Monotonic(0),
            lanes: [Lane::default(), Lane::default()],
            round: usual,
            service: usual,
        }
    }

    /// Whether another request may be given to a lane. On the first none is put behind one that takes longer than usual:
    /// it would wait there, and its partitions with it.
    pub(super) fn has_room(&self, slow: bool, max: usize, now: Monotonic) -> bool {
        let lane = &self.lanes[usize::from(slow)];
        let late = |sent: &Monotonic| !slow && now.since(*sent) > 2 * self.round.mean;
        lane.sent.len() < max && now >= self.throttled_until && !lane.sent.front().is_some_and(late)
    }

    /// How long the next request may wait for followers. Behind others, less: they may be held by the same follower, one
    /// after the other.
    pub(super) fn acks_timeout(&self, patience: u8, base: Duration) -> Duration {
        match patience {
            0 => {
                let ahead = u32::try_from(self.lanes[0].sent.len()).unwrap_or(u32::MAX);
                (self.service_max() / ahead.saturating_add(1)).clamp(SERVICE_MIN.min(base), base)
            }
            more => base * (1 << (more - 1)),
        }
    }

    /// What followers take of it only if something is wrong.
    fn service_max(&self) -> Duration {
        (FOLLOWERS * self.service.most()).max(SERVICE_MIN)
    }

    /// A request is on its way.
    pub(super) fn sent(&mut self, slow: bool, now: Monotonic) {
        self.lanes[usize::from(slow)].sent.push_back(now);
    }

    /// A lane's oldest request has come to its end. Answers of a lane come in order. Whether it was answered as soon as the
    /// first lane expects.
    fn over(&mut self, slow: bool, end: End, now: Monotonic) -> bool {
        let in_time = self.service_max();
        let lane = &mut self.lanes[usize::from(slow)];
        let Some(sent) = lane.sent.pop_front() else { return false };
        let service = now.since(sent.max(std::mem::replace(&mut lane.answered, now)));
        match end {
            End::Taken if !slow => {
                self.service.note(service);
                if sent >= lane.held {
                    self.round.note(now.since(sent));
                }
            }
            End::Held => lane.held = now,
            End::Taken | End::Other => {}
        }
        end == End::Taken && service <= in_time
    }
}

/// How a request ended, for what is usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Answered, and nothing in it had to wait too long for followers.
    Taken,
    /// Answered 7.
    Held,
    /// Without an answer, or one that came sooner because the followers had the batch before.
    Other,
}

impl Producer {
    /// A request is over: its lane has room for another. `answer`: its results and `throttle_ms`, if there was one. The
    /// request, and whether it was answered as soon as the first lane expects.
    pub(super) fn request_over(
        &mut self,
        id: u64,
        answer: Option<(&[ProduceResult], i32)>,
        now: Monotonic,
    ) -> Option<(Request, bool)> {
        let request = self.requests.remove(&id)?;
        let mut in_time = false;
        let slow = request.patience > 0;
        let end = match answer {
            Some((results, _)) if results.iter().any(|result| result.error == TIMED_OUT) => End::Held,
            Some(_) if !request.entries.iter().any(|entry| entry.again) => End::Taken,
            _ => End::Other,
        };
        if let Some(node) = self.nodes.iter_mut().find(|node| node.id == request.node) {
            in_time = node.over(slow, end, now);
            if let Ok(throttle @ 1..) = u64::try_from(answer.map_or(0, |(_, throttle_ms)| throttle_ms)) {
                node.throttled_until = now.after(Duration::from_millis(throttle).min(THROTTLE_MAX));
                self.timers.set(node.throttled_until, super::timers::Timer::Node(request.node));
            }
            // They are still marked as queued.
            self.ready.append(&mut node.lanes[usize::from(slow)].waiting);
        }
        Some((request, in_time))
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

    /// A batch was answered 7: its partition gets more patience, once for all that was asked with this one. On the first
    /// lane only a batch that is late for the second time tells: a follower may pause, and the second lane is no place for
    /// who need not be there.
    pub(super) fn slower(&mut self, entry: Entry, asked_with: u8) {
        let partition = self.partition_mut(entry.key);
        if asked_with == 0 && !entry.again {
            if let Some(work) = partition.work.as_mut() {
                work.at_once = true;
            }
            return;
        }
        partition.taken = 0;
        if partition.patience == asked_with && asked_with < PATIENCE_MAX {
            partition.patience += 1;
            self.slow_partitions += u64::from(asked_with == 0);
        }
    }

    /// Something of the first lane was answered 7 again: whoever has a replica wherever the culprit may be needs patience as well.
    /// It is a follower of the partition, and none that others of the same request have been in time with. To suspect the
    /// wrong one costs little: those partitions take the other connection until their next batch is answered.
    pub(super) fn kin_are_slower(&mut self, request: &Request, results: &[ProduceResult]) {
        let code = |this: &Self, i, entry| this.result(i, entry, results).map(|result| result.error);
        let mut in_time: Vec<NodeId> = Vec::new();
        for (i, entry) in request.entries.iter().enumerate() {
            if !entry.again && code(self, i, *entry) == Some(0) {
                in_time.extend(&self.partition_mut(entry.key).replicas);
            }
        }
        for (i, entry) in request.entries.iter().enumerate() {
            let late = code(self, i, *entry) == Some(TIMED_OUT);
            let partition = self.partition_mut(entry.key);
            if !late || !entry.again || partition.patience > 0 {
                continue;
            }
            let mut suspects = partition.replicas.to_vec();
            suspects.retain(|node| *node != request.node && !in_time.contains(node));
            if !suspects.is_empty() {
                self.all_with_are_slower(&suspects);
            }
        }
    }

    /// All partitions that wait for each of these followers use the second lane.
    fn all_with_are_slower(&mut self, suspects: &[NodeId]) {
        for topic in &mut self.topics {
            if self.sinks[topic.sink].settings.acks != ACKS_ALL {
                continue;
            }
            for partition in &mut topic.partitions {
                let led_elsewhere = partition.leader.is_some_and(|leader| !suspects.contains(&leader));
                let is_kin = led_elsewhere && suspects.iter().all(|node| partition.replicas.contains(node));
                if is_kin && partition.patience == 0 {
                    partition.patience = 1;
                    self.slow_partitions += 1;
                }
            }
        }
    }

    /// A batch was answered 0. Only its first sending tells how long followers take: what is sent again has been with
    /// them since. Back to the first lane goes who was answered as soon as is expected there; and now and then who was
    /// not, for it may be others in its requests that take so long.
    pub(super) fn taken(&mut self, entry: Entry, asked_with: u8, in_time: bool) {
        let partition = self.partition_mut(entry.key);
        if entry.again || asked_with == 0 || partition.patience != asked_with {
            return;
        }
        partition.taken += 1;
        if asked_with > 1 || in_time || partition.taken >= TRIED_AFTER {
            partition.patience -= 1;
            partition.taken = 0;
            self.slow_partitions -= u64::from(asked_with == 1);
        }
    }

    /// Partitions on the second lane of their broker.
    #[must_use]
    pub const fn slow_partitions(&self) -> u64 {
        self.slow_partitions
    }
}
