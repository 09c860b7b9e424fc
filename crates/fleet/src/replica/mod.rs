//! A shard's log in a partition of a compacted Kafka topic, so that it outlives the machine. Kafka serves as a disk: an append to [`forebay_spool::Disk`]
//! becomes records, a sync ends when Kafka has acknowledged them, a freed segment becomes tombstones. Sans-I/O.
//!
//! Use (the interface for the shard; [`Taken`] is created on a thread when the process begins and sent to the shard, [`Replica`] lives there):
//!
//! 1. `cli::session_log::take_over` (blocking, on a thread of the start, with the client of `forebay check`) fences the partition, writes the segments'
//!    files and the note into a directory, and returns a [`Taken`]. `cli::session_log::prepare_topic` creates and checks the topic before that.
//! 2. `Replica::new(taken, seed)` in the shard. [`Replica::append`], [`Replica::sync`], [`Replica::free`] and [`Replica::write_note`] mirror the calls of
//!    a `Disk`, beside the local files.
//! 3. The shard wants the topic's metadata (`Client::watch_metadata`) and gives it to each [`Replica::metadata`], and other [`ClientEvent`]s to
//!    [`Wire::answers`]: its answers are for [`Replica::answered`]. [`Outcome::Synced`] is the `Completion::Synced` of that token, [`Outcome::Retry`]
//!    calls for `Client::refresh_metadata`, [`Outcome::Lost`] says that the log is lost, in words.
//! 4. After that, and when [`Wire::due`] has come: the requests of [`Wire::requests`] go to the client, and [`Replica::lost`] is looked at, which a clock can
//!    bring about as well. Request ids have the bit [`REQUEST`] set, which the ids of a producer never have.
//!
//! [`Replica::next_batch`] and [`Replica::answered`] are the same without the wire client's types, for simulators.
//!
//! `format` has keys and values, `queue` gathers records into batches, `owner` is the [`Replica`], `wire` its way to the client, `take_over` the fence and
//! the order of its steps, `fold` what reading the partition gives.
//!
//! [`ClientEvent`]: forebay_kafka::types::ClientEvent

mod fold;
mod format;
mod owner;
mod queue;
mod take_over;
#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs)]
pub mod testing;
#[cfg(test)]
mod tests;
mod wire;

pub use fold::{Read, Store};
pub use owner::{Answer, Batch, Lost, Numbers, Outcome, Replica};
pub use take_over::{Names, Step, TakeOver, TakeOverError, Taken};
pub use wire::{Answered, REQUEST, Wire};

/// The most bytes of a batch: below the `max.message.bytes` that Kafka has by default (1,048,588).
pub const BATCH_BYTES_MAX: usize = 1_000_000;
