//! The consumer's news about its partitions, for events, logs and metrics.

use std::collections::VecDeque;
use std::rc::Rc;

use super::decode::Bad;

/// The most news that wait; more are dropped, and counted. The state of a partition can be asked for as well ([`super::Consumer::state`]).
const NEWS_MAX: usize = 4096;

/// `News` is something that happened to a partition (named by the id of its assignment) or a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Reading begins.
    Started {
        /// Partition.
        id: u32,
        /// First offset.
        offset: i64,
        /// Whether that is the end of the log: it was requested, or all records are older than the requested time.
        is_end: bool,
    },
    /// Reading goes on at another place.
    Reset {
        /// Partition.
        id: u32,
        /// The next offset so far.
        from: i64,
        /// The next offset from now on.
        to: i64,
        /// Why.
        why: WhyReset,
    },
    /// A batch was skipped ([`super::OnBadBatch::Skip`]).
    Skipped {
        /// Partition.
        id: u32,
        /// The first offset that was not read.
        from: i64,
        /// The next offset.
        to: i64,
        /// Why.
        bad: Bad,
    },
    /// The partition is not read any more, until it is assigned or sought again.
    Stopped {
        /// Partition.
        id: u32,
        /// Why.
        why: WhyStopped,
    },
    /// The first of a row of errors for this partition that are not caused by a leader that moves. The partition is tried again.
    Trouble {
        /// Partition.
        id: u32,
        /// Kafka error code.
        error: i16,
    },
    /// The row of errors has ended.
    TroubleOver {
        /// Partition.
        id: u32,
    },
    /// The number of the topic's partitions, when it is first known and whenever it changes.
    Partitions {
        /// Topic.
        topic: Rc<str>,
        /// Number of partitions.
        count: usize,
    },
}

/// `WhyReset` is why reading goes on at another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyReset {
    /// The log does not have the offset (any more): records may have been deleted before they were read.
    OutOfRange,
    /// The log was truncated (an unclean election), and has other records from some offset on. Reading goes on at that offset.
    Truncated,
    /// The topic was deleted and recreated.
    Recreated,
}

impl WhyReset {
    /// The reason in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::OutOfRange => {
                "Kafka does not have the offset (any more): records were deleted before they were read, or the group committed what is not there"
            }
            Self::Truncated => "Kafka has lost records that it had handed out (an unclean election)",
            Self::Recreated => "the topic was deleted and recreated",
        }
    }
}

/// `WhyStopped` is why a partition is not read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyStopped {
    /// A batch cannot be read.
    BadBatch {
        /// The next offset.
        offset: i64,
        /// Why.
        bad: Bad,
    },
    /// A batch is larger than `fetch_memory`.
    TooLarge {
        /// The next offset.
        offset: i64,
        /// Bytes of the answer.
        bytes: usize,
    },
    /// The topic is missing. Reading goes on when it exists again: at the reset place, if it was recreated.
    Deleted,
}

impl WhyStopped {
    /// The reason in words, and the next offset.
    #[must_use]
    pub fn words(&self) -> (String, Option<i64>) {
        match self {
            Self::BadBatch { offset, bad } => (format!("a batch cannot be read: {bad}"), Some(*offset)),
            Self::TooLarge { offset, bytes } => (
                format!("a batch of {bytes} bytes is more than there is memory for: `fetch_memory` of [delivery]"),
                Some(*offset),
            ),
            Self::Deleted => ("the topic is gone; reading goes on by itself when it is back".to_owned(), None),
        }
    }
}

/// `Board` holds the news until they are taken.
#[derive(Debug, Default)]
pub(super) struct Board {
    news: VecDeque<News>,
    /// News that were dropped.
    pub(super) dropped: u64,
}

impl Board {
    pub(super) fn tell(&mut self, news: News) {
        if self.news.len() >= NEWS_MAX {
            self.dropped += 1;
        } else {
            self.news.push_back(news);
        }
    }

    pub(super) fn take(&mut self) -> Option<News> {
        self.news.pop_front()
    }
}
