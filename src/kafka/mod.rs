//! The Kafka side: wire client, record batches, producer. All sans-I/O: bytes and `now` in, bytes and effects out.

pub mod batch;
pub mod client;
pub mod compression;
#[cfg(test)]
pub(crate) mod fake;
pub mod murmur2;
pub mod producer;
pub mod topic_name;
pub mod types;
