//! Settings of a member.

use std::rc::Rc;
use std::time::Duration;

use forebay_guard::outward::Bounds;

/// The settings of one member.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The member's number, which identifies its connection at the client of its cluster, and its answers.
    pub number: u32,
    /// The group's name.
    pub group: Rc<str>,
    /// `group.instance.id` of a static member (KIP-345), which returns after a restart with the same partitions.
    pub instance: Option<Rc<str>>,
    /// Whether the member joins again after another process has joined with its instance id: something else decides which of the two goes
    /// on. Otherwise such a member is over.
    pub comes_back: bool,
    /// Topics that the member wants partitions of.
    pub topics: Vec<Rc<str>>,
    /// Time after which the coordinator removes a silent member. It must be within the broker's `group.min.session.timeout.ms` and
    /// `group.max.session.timeout.ms`.
    pub session_timeout: Duration,
    /// How long a rebalance waits for its members, and so the longest that the revocation of partitions may take.
    pub rebalance_timeout: Duration,
    /// Time between heartbeats; at most a third of `session_timeout` is used.
    pub heartbeat_interval: Duration,
    /// Interval at which partitions of the topics are counted (± 20 %).
    pub metadata_max_age: Duration,
    /// Wait after a first temporary failure; doubles (± 20 %).
    pub retry_backoff_min: Duration,
    /// Longest wait after temporary failures.
    pub retry_backoff_max: Duration,
    /// Wait after a refusal that an operator has to fix (± 20 %).
    pub refused_backoff: Duration,
    /// How long leaving may take, including the commits before it.
    pub leave_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            number: 0,
            group: Rc::from(""),
            instance: None,
            comes_back: false,
            topics: Vec::new(),
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(60),
            heartbeat_interval: Duration::from_secs(3),
            metadata_max_age: Duration::from_secs(60),
            retry_backoff_min: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            refused_backoff: Duration::from_secs(10),
            leave_timeout: Duration::from_secs(5),
        }
    }
}

impl Settings {
    pub(super) fn heartbeat(&self) -> Duration {
        self.heartbeat_interval.min(self.session_timeout / 3)
    }

    pub(super) fn retry(&self) -> Bounds {
        Bounds { min: self.retry_backoff_min, max: self.retry_backoff_max }
    }

    /// How long the revocation of partitions may take: before it, the member has to learn of the rebalance by a heartbeat, and after it,
    /// its JoinGroup needs time to arrive.
    pub(super) fn revocation(&self) -> Duration {
        self.rebalance_timeout.saturating_sub(2 * self.heartbeat()).max(self.rebalance_timeout / 2)
    }
}
