//! The Kafka side: wire client, record batches, producer. All sans-I/O: bytes and `now` in, bytes and effects out.

pub mod client;
#[cfg(test)]
pub(crate) mod fake;
pub mod types;
