//! A broker as the dispatcher sees it: two channels (connections), the partitions that wait for room on each, and the
//! usual time of an answer.

use std::collections::VecDeque;
use std::time::Duration;

use super::Key;
use crate::types::NodeId;
use forebay_runtime::seam::Monotonic;

/// Minimum timeout that the first channel asks for.
const SERVICE_MIN: Duration = Duration::from_millis(20);

/// Factor on the usual maximum of an answer's time that a broker may wait for followers, on the first channel. A wrong guess
/// costs a batch that is sent twice.
const FOLLOWERS: u32 = 2;

/// A broker.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) throttled_until: Monotonic,
    /// The first and the second channel.
    pub(super) channels: [Channel; 2],
    /// Time from sending a request to its answer, on the first channel.
    round: Usual,
    /// The same without the wait for earlier requests: followers take no longer.
    service: Usual,
}

/// One of the broker's connections.
#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Send times of the unanswered requests, oldest first.
    sent: VecDeque<Monotonic>,
    /// Partitions that wait for room.
    pub(super) waiting: Vec<Key>,
    /// Time of the last answer; `held`: of the last answer 7, for which the requests then in flight had waited.
    answered: Monotonic,
    held: Monotonic,
}

/// The usual time of an answer: mean and deviation, smoothed as TCP does it (RFC 6298).
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
    /// Until the first answers, their time is assumed to be the time that followers may take.
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

    /// Whether another request may be given to a channel. On the first, none is queued after one that takes longer than usual:
    /// it would wait there, and its partitions with it.
    pub(super) fn has_room(&self, slow: bool, max: usize, now: Monotonic) -> bool {
        let channel = &self.channels[usize::from(slow)];
        let late = |sent: &Monotonic| !slow && now.since(*sent) > 2 * self.round.mean;
        channel.sent.len() < max && now >= self.throttled_until && !channel.sent.front().is_some_and(late)
    }

    /// How long the next request may wait for followers; less if it is queued after others, since the same follower may hold them
    /// all, one after the other.
    pub(super) fn acks_timeout(&self, patience: u8, base: Duration) -> Duration {
        match patience {
            0 => {
                let ahead = u32::try_from(self.channels[0].sent.len()).unwrap_or(u32::MAX);
                (self.service_max() / ahead.saturating_add(1)).clamp(SERVICE_MIN.min(base), base)
            }
            more => base * (1 << (more - 1)),
        }
    }

    /// The time that followers exceed only if something is wrong.
    fn service_max(&self) -> Duration {
        (FOLLOWERS * self.service.most()).max(SERVICE_MIN)
    }

    /// Notes that a request was sent.
    pub(super) fn sent(&mut self, slow: bool, now: Monotonic) {
        self.channels[usize::from(slow)].sent.push_back(now);
    }

    /// Ends a channel's oldest request; answers of a channel arrive in order. Returns whether it was answered within the time that
    /// the first channel expects.
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

/// How a request ended, for the usual time of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Answered, and nothing in it had to wait too long for followers.
    Taken,
    /// Answered, and no batch in it waited too long for followers.
    Held,
    /// Unanswered, or answered sooner because the followers had the batch before.
    Other,
}
