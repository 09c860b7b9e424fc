//! Keys of the disk buffer, messages to subscribers, and retained messages.

use std::time::Duration;

use super::{DAY, GIB, KIB, MIB, Word, s, us, word, yes};
use crate::resolved::{Append, ShareStrategy, WhenFull, Wide};
use crate::setting::{Words, settings};

const DELIVERED: &[Word] = &[yes("stored"), word("received")];
const QUEUE_FULL: &[Word] = &[word("drop-oldest"), yes("drop-newest")];

settings! {
    /// `[spool]`: the disk buffer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Spool in Spool {
        restart bytes_max: u64 = Size { min: 8 * MIB, max: 1_024 * 1_024 * GIB }, Is("\"8GiB\""),
            "Maximum size on disk, divided equally among the shards. The file system should have that much free: `forebay check` warns if not.";
        restart segment_bytes: u64 => Size { min: MIB, max: 4 * GIB }, From("`\"64MiB\"`; less where a shard has room for fewer than 16"), shown "\"64MiB\"",
            "Size of a segment file. A shard needs room for at least eight segments, of which four are reserved for moving records out; a record \
             or a batch takes at most an eighth of a segment.";
        restart append: Append = Word(Append::NAMES), Is("\"written\""),
            "How records are appended to a segment. `\"written\"`: with write operations. `\"mapped\"`: through a memory map. With a map, a disk \
             error can end the process with SIGBUS, where a write reports an error: see [SPOOL.md](internals/SPOOL.md#written-or-mapped).";
        now sync_interval: Duration = Duration { min: us(0), max: s(1) }, Is("\"1ms\""),
            "How far apart a shard's syncs begin, rounded up to whole milliseconds: what comes in between is written and synced together, or as soon \
             as there are 64 KiB of it. A sync that takes longer makes the next one wait anyway. `\"0ms\"`: as soon as the one before it is done, \
             which saves up to a millisecond for each message and costs more CPU and disk operations.";
        now when_full: WhenFull = Word(WhenFull::NAMES), Is("\"backpressure\""),
            "What to do with a message for which there is no room. `\"backpressure\"`: its publisher is not read until there is room. \
             `\"refuse\"`: it is refused (5.0: 0x97). `\"drop-oldest\"`: the oldest records are dropped and counted, but for those \
             of batches that may be in Kafka.";
        apart spool_share as share: u64 => Share, From("`0.5`; `1` if only one sink keeps records on disk"), shown "0.5",
            "Maximum share of the spool that one sink may use; beyond it `when_full` applies to that sink. A share that becomes smaller takes \
             nothing from a sink that holds more: see below.";
    }
    and {
        /// Segments of one shard at most.
        segments_max: u64,
        /// Live rows of one sink on one shard, in bytes.
        sink_bytes_max: u64,
        /// Whether the share follows from the number of sinks.
        share_is_computed: bool,
    }
}

settings! {
    /// `[delivery]`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Delivery in Delivery {
        apart acknowledge as waits_for_disk: bool => Word(DELIVERED), From("`\"stored\"` if there is a `[spool]`, otherwise `\"received\"`"), shown "\"stored\"",
            "When a message is acknowledged to its publisher, as far as subscribers and retaining are concerned. `\"stored\"`: when it is on the disk of \
             every shard with kept sessions that get it, and of the one that retains it. `\"received\"`: at once; a crash may lose it for them. Sinks have \
             their own `acknowledge`.";
        now queue_messages_max: usize = Integer { min: 1, max: 10_000_000 }, Is("10000"),
            "Maximum number of messages of QoS 1 and 2 that wait for a session, beside those that its client has been sent.";
        now queue_bytes_max: usize = Size { min: KIB, max: 64 * GIB }, Is("\"16MiB\""),
            "Their maximum size. A message that is larger waits alone.";
        now when_full as drops_newest: bool = Word(QUEUE_FULL), Is("\"drop-oldest\""),
            "What to do with one more message. `\"drop-oldest\"`: the oldest that was not sent is dropped for it. `\"drop-newest\"`: it is dropped itself. \
             Either is counted, with an event.";
        now unread_bytes_max: usize = Size { min: 64 * KIB, max: 64 * MIB }, Is("\"1MiB\""),
            "Messages at QoS 0 for a client that has not read so much are dropped and counted. All that clients of a shard have not read, beyond 64 KiB \
             each, may take a quarter of the 256 MiB for messages that wait. A client that has not read 1 MiB is not read itself until it has read half of that.";
        restart fetch_memory: usize = Size { min: 8 * MIB, max: 64 * GIB }, Is("\"64MiB\""),
            "Memory of each shard for what sources have read of a cluster and subscribers do not have yet. Beyond it nothing more is read. \
             What is open takes as much again: beyond it each partition has an equal part of it.";
        now share_strategy: ShareStrategy = Word(ShareStrategy::NAMES), Is("\"round-robin\""),
            "Which member of a shared subscription gets a message. `\"round-robin\"`: the next one in turn that has room. `\"least-inflight\"`: of \
             those with room the one with the fewest unacknowledged messages. `\"hash-client\"`, `\"hash-topic\"`: the same one for all messages of a \
             publisher or of a topic, in order: see [SUBSCRIPTIONS.md](SUBSCRIPTIONS.md#strategies).";
        now share_ack_timeout: Duration = Duration { min: s(1), max: s(36_500 * DAY) }, Is("\"5m\""),
            "A member of a shared subscription that has not acknowledged a message for so long gets no more of it until it has, and other members get \
             what it was sent at QoS 1, if there are any. Whole seconds.";
    }
    and {
        /// Bounds of wide messages, which are no setting: tests make them small.
        wide: Wide,
    }
}

settings! {
    /// `[retained]`
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Retained in Retained {
        now messages_max: usize = Integer { min: 1, max: 100_000_000 }, Is("1000000"),
            "Maximum number of retained messages, in even parts for all shards. With a `[spool]` also what half of its state can keep track of. A message \
             for one more topic is delivered and not retained, which is counted, with an event. With `[auth.NAME]` one user has at most 38 % of it.";
        now bytes_max: usize = Size { min: MIB, max: 1_024 * GIB }, Is("\"256MiB\""),
            "Their maximum size with their topics, in even parts for all shards; they are in memory. With a `[spool]` at most a quarter of it. With `[auth.NAME]` one user has at most 38 % of it.";
        now expire_after as expire_after_s: Option<u32> = Duration { min: s(1), max: s(36_500 * DAY) }, From("never"), shown "\"30d\"",
            "A message is not retained for longer than this. Its own Message Expiry Interval applies too, whichever is shorter. Whole seconds. It holds for \
             messages that come after a change.";
    }
}
