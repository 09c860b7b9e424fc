//! Values of the keys of the disk buffer, messages to subscribers, and retained messages.

use crate::keys::Spool;
use crate::setting::words;
use forebay_base::limits::{RECIPIENTS_MANY, WIDE_COPIES_ALONE, WIDE_COPIES_PER_TURN};
use forebay_spool::{SEGMENTS_RESERVED, sessions_max};

/// Bounds of messages with many recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wide {
    /// The number of recipients on a shard above which a message is wide.
    pub recipients: usize,
    /// Copies of wide messages that a turn makes.
    pub copies: usize,
    /// Copies of wide messages that a turn makes while nothing else is published.
    pub copies_alone: usize,
}

impl Default for Wide {
    fn default() -> Self {
        Self { recipients: RECIPIENTS_MANY, copies: WIDE_COPIES_PER_TURN, copies_alone: WIDE_COPIES_ALONE }
    }
}

words! {
    /// The choice of the member of a shared subscription that gets a message.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum ShareStrategy {
        /// The next member in turn that has room.
        #[default]
        RoundRobin = "round-robin",
        /// The member with room that has the fewest messages in flight.
        LeastInflight = "least-inflight",
        /// All messages of a publisher go to the same member.
        HashClient = "hash-client",
        /// All messages of a topic go to the same member.
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

    /// Retained messages that a shard may keep: they take half of the entries that its log can track.
    #[must_use]
    pub fn kept_max(&self) -> usize {
        sessions_max(self.segments_max * self.segment_bytes, self.segment_bytes)
    }

    /// The spool in force after a reload to this one: changes of sizes and of the way of appending wait for a restart.
    #[must_use]
    pub const fn reloaded(self, wanted: Self) -> Self {
        let Self { bytes_max, segment_bytes, segments_max, append, .. } = self;
        Self { bytes_max, segment_bytes, segments_max, append, ..wanted }
    }

    /// The spool's room in equal parts for `shards` shards: never less than a shard needs.
    #[must_use]
    pub fn of_shards(self, shards: usize) -> Self {
        let segments_max = self.bytes_max / shards.max(1) as u64 / self.segment_bytes.max(1);
        let segments_max = segments_max.max(Self::SEGMENTS_MIN);
        let sized = Self { segments_max, ..self };
        let share = u128::from(sized.room()) * u128::from(self.share) / 1_000_000;
        Self { sink_bytes_max: u64::try_from(share).unwrap_or(u64::MAX), ..sized }
    }

    /// The room for rows of a shard, in bytes, of which shares are parts.
    #[must_use]
    pub const fn room(&self) -> u64 {
        (self.segments_max - SEGMENTS_RESERVED) * self.segment_bytes
    }
}

words! {
    /// The way of bytes into a segment's file.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum Append {
        /// The bytes are written to the file.
        #[default]
        Written = "written",
        /// The bytes are stored into the mapped file.
        Mapped = "mapped",
    }
}

words! {
    /// The handling of a message for which the disk buffer has no room.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub enum WhenFull {
        /// The publisher is not read until there is room.
        #[default]
        Backpressure = "backpressure",
        /// The message is refused.
        Refuse = "refuse",
        /// The oldest rows on the disk make room.
        DropOldest = "drop-oldest",
    }
}
