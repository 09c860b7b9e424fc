//! A broker as the dispatcher sees it: two channels (connections), the partitions that wait for room on each, and how
//! long answers usually take.

use std::collections::VecDeque;
use std::time::Duration;

use super::Key;
use crate::kafka::types::NodeId;
use crate::runtime::seam::Monotonic;

/// What the first channel asks for at least.
const SERVICE_MIN: Duration = Duration::from_millis(20);

/// How often the time that an answer seldom exceeds a broker may wait for followers, on the first channel. To be wrong
/// costs a batch that is sent twice.
const FOLLOWERS: u32 = 2;

/// A broker.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) throttled_until: Monotonic,
    /// First and second.
    pub(super) channels: [Channel; 2],
    /// From giving out a request to its answer, on the first channel.
    round: Usual,
    /// The same without what it waited behind others: followers take no longer.
    service: Usual,
}

/// One of its connections.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// When the requests without an answer were given out, oldest first.
    sent: VecDeque<Monotonic>,
    /// Partitions that wait until it has room.
    pub(super) waiting: Vec<Key>,
    /// When it was last answered, and when it was last answered 7: requests under way then had waited for that one.
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
            channels: [Channel::default(), Channel::default()],
            round: usual,
            service: usual,
        }
    }

    /// Whether another request may be given to a channel. On the first none is put behind one that takes longer than usual:
    /// it would wait there, and its partitions with it.
    pub(super) fn has_room(&self, slow: bool, max: usize, now: Monotonic) -> bool {
        let channel = &self.channels[usize::from(slow)];
        let late = |sent: &Monotonic| !slow && now.since(*sent) > 2 * self.round.mean;
        channel.sent.len() < max && now >= self.throttled_until && !channel.sent.front().is_some_and(late)
    }

    /// How long the next request may wait for followers. Behind others, less: they may be held by the same follower, one
    /// after the other.
    pub(super) fn acks_timeout(&self, patience: u8, base: Duration) -> Duration {
        match patience {
            0 => {
                let ahead = u32::try_from(self.channels[0].sent.len()).unwrap_or(u32::MAX);
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
        self.channels[usize::from(slow)].sent.push_back(now);
    }

    /// A channel's oldest request has come to its end. Answers of a channel come in order. Whether it was answered as soon as the
    /// first channel expects.
    pub(super) fn over(&mut self, slow: bool, end: End, now: Monotonic) -> bool {
        let in_time = self.service_max();
        let channel = &mut self.channels[usize::from(slow)];
        let Some(sent) = channel.sent.pop_front() else { return false };
        let service = now.since(sent.max(std::mem::replace(&mut channel.answered, now)));
        match end {
            End::Taken if !slow => {
                self.service.note(service);
                if sent >= channel.held {
                    self.round.note(now.since(sent));
                }
            }
            End::Held => channel.held = now,
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
