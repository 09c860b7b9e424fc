//! The Kafka side: wire client, record batches, producer. All sans-I/O: bytes and `now` in, bytes and effects out.

pub mod client;
pub mod batch;
pub mod compression;
pub mod murmur2;
pub mod producer;
#[cfg(test)]
pub(crate) mod fake;
pub mod types;
