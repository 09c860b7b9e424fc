//! The times at which messages are due: all at once, or at a rate.

use std::ops::Range;

use super::plan::Plan;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Messages a second of all clients together; 0: as fast as the windows allow.
    rate: u64,
    per_write: u64,
    due: u64,
    sent: u64,
    begun: bool,
    /// The most messages that were due and not sent at a time, as windows were full or connections lost.
    pub(crate) behind_most: u64,
}

impl Pace {
    pub(crate) fn new(rate: u64, per_write: usize) -> Self {
        Self { rate, per_write: per_write as u64, due: 0, sent: 0, begun: false, behind_most: 0 }
    }

    /// Advances to `now_ns`. Returns the messages that have become due, counted over all clients.
    pub(crate) fn advance(&mut self, now_ns: u64, sent: u64, plan: &Plan) -> Option<Range<u64>> {
        self.sent = sent;
        self.behind_most = self.behind_most.max(self.behind());
        let due = match self.rate {
            0 => plan.messages,
            rate => plan.messages.min((u128::from(now_ns) * u128::from(rate) / 1_000_000_000) as u64),
        };
        if due == self.due && self.begun {
            return None;
        }
        self.begun = true;
        Some(std::mem::replace(&mut self.due, due)..due)
    }

    /// Messages of one client that are due by now: whole writes, but for the first and the last. The first of each client has
    /// another length, so that their writes do not become due all at once.
    pub(crate) fn due(&self, client: u32, plan: &Plan) -> u64 {
        let share = plan.share_of(client, self.due);
        if self.due == plan.messages || self.rate == 0 {
            return share;
        }
        let ahead = u64::from(client) % self.per_write;
        ((share + ahead) / self.per_write * self.per_write).saturating_sub(ahead)
    }

    /// Messages due and not sent; 0 without a rate.
    pub(crate) fn behind(&self) -> u64 {
        if self.rate == 0 { 0 } else { self.due.saturating_sub(self.sent) }
    }

    /// The time until the next message is due, in ns.
    pub(crate) fn wait_ns(&self) -> u64 {
        if self.rate == 0 { u64::MAX } else { 1_000_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::plan::example;

    #[test]
    fn a_rate_is_kept_and_writes_stay_whole() {
        let plan = example();
        let mut pace = Pace::new(1_000, 4);
        assert_eq!(pace.advance(0, 0, &plan), Some(0..0));
        assert_eq!(pace.advance(50_000_000, 0, &plan), Some(0..50));
        assert_eq!((pace.due(0, &plan), pace.behind()), (4, 50));
        // Five are due of each: writes of 4, and of 3, 2 and 1 with the next one to come, or already there.
        let due: Vec<u64> = (0..4).map(|client| pace.due(client, &plan)).collect();
        assert_eq!(due, [4, 3, 2, 5]);
        assert_eq!(pace.advance(50_000_001, 40, &plan), None);
        assert_eq!((pace.behind(), pace.behind_most), (10, 10), "what was just due had no chance yet");
        assert_eq!(pace.advance(9_000_000_000, 40, &plan), Some(50..103));
        assert!((0..10).all(|client| pace.due(client, &plan) == plan.messages_of(client)));
    }

    #[test]
    fn without_a_rate_all_is_due_at_once() {
        let plan = example();
        let mut pace = Pace::new(0, 4);
        assert_eq!(pace.advance(0, 0, &plan), Some(0..103));
        assert_eq!((pace.advance(1, 0, &plan), pace.due(3, &plan), pace.behind()), (None, 10, 0));
    }
}
