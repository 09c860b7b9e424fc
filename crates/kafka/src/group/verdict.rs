//! The meaning of a coordinator's error codes, and the member's reports to its owner.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Found, Lost, Member, News, Protocol, Stats};
use forebay_guard::outward::jittered;
use forebay_runtime::seam::Monotonic;

/// How long temporary failures must last before they are reported.
const PATIENCE: Duration = Duration::from_secs(10);

/// The reaction to an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask the same broker again, soon.
    Again,
    /// Look for the coordinator first.
    Elsewhere,
    /// The group is in a rebalance: join.
    Rejoin,
    /// The membership is over.
    Over(Lost),
    /// An operator has to fix something first.
    Refused,
}

impl Verdict {
    /// The verdict on a code. An unknown code counts as temporary.
    pub(super) const fn of(code: i16) -> Self {
        match code {
            // REQUEST_TIMED_OUT, NETWORK_EXCEPTION, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR.
            7 | 13 | 15 | 16 => Self::Elsewhere,
            22 => Self::Over(Lost::Generation),
            // GROUP_ID_NOT_FOUND: the group was deleted.
            25 | 69 => Self::Over(Lost::Unknown),
            27 => Self::Rejoin,
            82 => Self::Over(Lost::Fenced),
            110 | 113 => Self::Over(Lost::Epoch),
            23 | 24 | 26 | 29 | 30 | 35 | 42 | 81 | 111 => Self::Refused,
            // COORDINATOR_LOAD_IN_PROGRESS (14), UNSTABLE_OFFSET_COMMIT (88), and all others.
            _ => Self::Again,
        }
    }
}

/// An error code in words, if an operator has to fix something first.
pub fn refusal(code: i16) -> Option<String> {
    (Verdict::of(code) == Verdict::Refused).then(|| words(code))
}

/// An error code in words, with the cure if there is one.
pub(super) fn words(code: i16) -> String {
    let words = match code {
        3 => "UNKNOWN_TOPIC_OR_PARTITION: the topic is not there",
        12 => "OFFSET_METADATA_TOO_LARGE",
        14 => "COORDINATOR_LOAD_IN_PROGRESS: the group's coordinator is still starting",
        15 => {
            "COORDINATOR_NOT_AVAILABLE: the cluster has no coordinator for the group now; is its topic __consumer_offsets in order?"
        }
        16 => "NOT_COORDINATOR: the group's coordinator has moved",
        23 => {
            "INCONSISTENT_GROUP_PROTOCOL: members of the group use no assignor in common with Forebay; let their \
             partition.assignment.strategy have `range`, or give the source another group"
        }
        24 => "INVALID_GROUP_ID: the group's name is not a valid one",
        26 => {
            "INVALID_SESSION_TIMEOUT: the brokers do not allow this session timeout; see their group.min.session.timeout.ms and \
             group.max.session.timeout.ms"
        }
        27 => "REBALANCE_IN_PROGRESS",
        28 => "INVALID_COMMIT_OFFSET_SIZE: the brokers have no room for the commit",
        29 => "TOPIC_AUTHORIZATION_FAILED: Forebay's Kafka user needs the right to read the topic",
        30 => "GROUP_AUTHORIZATION_FAILED: Forebay's Kafka user needs the right to read the group",
        35 => "UNSUPPORTED_VERSION",
        42 => "INVALID_REQUEST",
        81 => "GROUP_MAX_SIZE_REACHED: the group has as many members as the brokers' group.max.size allows",
        88 => "UNSTABLE_OFFSET_COMMIT: a transaction that commits for the group is still open",
        111 => "UNRELEASED_INSTANCE_ID: another process uses this instance id; give each instance its own",
        _ => return format!("error {code}"),
    };
    format!("error {code}, {words}")
}

/// The reports to the owner, and the news that it has yet to take.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// News that were not taken yet.
    pub(super) news: VecDeque<News>,
    /// Counts.
    pub(super) stats: Stats,
    /// The trouble that was last reported and is not over.
    trouble: Option<String>,
    /// The time since which temporary failures have occurred.
    failing_since: Option<Monotonic>,
}

impl Told {
    /// Reports trouble, unless it was the last one reported.
    pub(super) fn trouble(&mut self, words: String) {
        if self.trouble.as_ref() != Some(&words) {
            self.trouble = Some(words.clone());
            self.news.push_back(News::Trouble(words));
        }
    }

    /// Notes a failure that should be temporary.
    pub(super) fn failing(&mut self, words: &str, now: Monotonic) {
        if now.since(*self.failing_since.get_or_insert(now)) >= PATIENCE {
            self.trouble(words.to_owned());
        }
    }

    /// Notes that the member takes part in its group.
    pub(super) fn well(&mut self) {
        self.failing_since = None;
        if self.trouble.take().is_some() {
            self.news.push_back(News::TroubleOver);
        }
    }
}

impl<P: Protocol> Member<P> {
    /// How long to wait after a call was answered with this code. Reports the code if that helps.
    pub(super) fn wait_after(&mut self, verdict: Verdict, code: i16, call: &str, now: Monotonic) -> Duration {
        let words = format!("{call} was answered with {}", words(code));
        if verdict == Verdict::Refused {
            self.told.trouble(words);
            return jittered(self.settings.refused_backoff, &mut self.rng);
        }
        self.told.failing(&words, now);
        self.backoff.next(self.settings.retry(), &mut self.rng)
    }

    /// Reports that the brokers are too old, and waits.
    pub(super) fn not_spoken(&mut self, call: &str, now: Monotonic) {
        let words = format!(
            "the brokers do not know {call} in a version that Forebay supports; groups need Apache Kafka 0.11 or later"
        );
        self.told.trouble(words);
        self.coordinator.state = Found::No(now.after(jittered(self.settings.refused_backoff, &mut self.rng)));
    }
}
