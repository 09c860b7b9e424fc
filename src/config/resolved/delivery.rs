//! The disk buffer, messages to subscribers, and retained messages.

use crate::config::keys::Spool;
use crate::config::setting::words;
use crate::limits::{RECIPIENTS_MANY, WIDE_COPIES_ALONE, WIDE_COPIES_PER_TURN};
use crate::spool::{SEGMENTS_RESERVED, sessions_max};

/// Messages with many recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    /// With more recipients than this on a shard a message is one of them.
    pub recipients: usize,
    /// Copies of them that a turn makes.
    pub copies: usize,
    /// The same while nothing else is published.
    pub copies_alone: usize,
}

impl Default for Wide {
    fn default() -> Self {
        Self { recipients: RECIPIENTS_MANY, copies: WIDE_COPIES_PER_TURN, copies_alone: WIDE_COPIES_ALONE }
    }
}

words! {
    /// Which member of a shared subscription gets a message.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum ShareStrategy {
        /// The next one in turn that has room.
        #[default]
        RoundRobin = "round-robin",
        /// Of those with room the one with the fewest messages that it has not acknowledged.
        LeastInflight = "least-inflight",
        /// The same one for all messages of a publisher.
        HashClient = "hash-client",
        /// The same one for all messages of a topic.
        HashTopic = "hash-topic",
    }
}

impl ShareStrategy {
    /// Whether all messages with the same key go to the same member.
    #[must_use]
    pub fn is_keyed(self) -> bool {
        matches!(self, Self::HashClient | Self::HashTopic)
    }
}

impl Spool {
    /// The least number of segments that a shard may have.
    pub const SEGMENTS_MIN: u64 = 2 * SEGMENTS_RESERVED;

    /// Retained messages that a shard may keep: they take half of what its log can keep track of.
    #[must_use]
    pub fn kept_max(&self) -> usize {
        sessions_max(self.segments_max * self.segment_bytes, self.segment_bytes)
    }

    /// What is in force after a reload to this: sizes and the way of appending wait for a restart.
    #[must_use]
    pub const fn reloaded(self, wanted: Self) -> Self {
        let Self { bytes_max, segment_bytes, segments_max, append, .. } = self;
        Self { bytes_max, segment_bytes, segments_max, append, ..wanted }
    }

    /// The same room in equal parts for `shards` shards: never less than what a shard needs.
    #[must_use]
    pub fn of_shards(self, shards: usize) -> Self {
        let segments_max = self.bytes_max / shards.max(1) as u64 / self.segment_bytes.max(1);
        let segments_max = segments_max.max(Self::SEGMENTS_MIN);
        let sized = Self { segments_max, ..self };
        let share = u128::from(sized.room()) * u128::from(self.share) / 1_000_000;
        Self { sink_bytes_max: u64::try_from(share).unwrap_or(u64::MAX), ..sized }
    }

    /// The room for rows of a shard, in bytes: what shares are parts of.
    #[must_use]
    pub const fn room(&self) -> u64 {
        (self.segments_max - SEGMENTS_RESERVED) * self.segment_bytes
    }
}

words! {
    /// How bytes get into a segment's file.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Append {
        /// Written to it.
        #[default]
        Written = "written",
        /// Stored into the mapped file.
        Mapped = "mapped",
    }
}

words! {
    /// What happens to a message for which the disk buffer has no room.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum WhenFull {
        /// Its publisher is not read until there is.
        #[default]
        Backpressure = "backpressure",
        /// It is refused.
        Refuse = "refuse",
        /// The oldest rows on the disk make room.
        DropOldest = "drop-oldest",
    }
}
