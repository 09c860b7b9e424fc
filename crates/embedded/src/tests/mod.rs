//! Tests of the embedded log that need more than one of its files.

mod admin;
mod batches;
pub(crate) mod client;
mod disks;
mod faults;
mod group;
mod groups;
mod hostile;
mod idempotence;
mod protocol;
mod recovery;
pub(crate) mod support;
mod waiting;
