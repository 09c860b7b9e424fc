//! The Kafka side: wire client, producer and consumer. All sans-I/O: bytes and `now` in, bytes and effects out.

pub mod client;
pub mod coordination;
#[cfg(test)]
pub(crate) mod fake;
pub mod group;
pub mod consumer;
#[cfg(test)]
pub(crate) mod fake;
pub mod fetch;
pub mod producer;
pub mod topic_name;
pub mod types;
