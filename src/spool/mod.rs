//! The spool: a log of segments for each shard, that rows stand in before they are answered.

mod disk;

pub use disk::{AppendError, Completion, Disk, ReadError};
