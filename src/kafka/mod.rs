//! The Kafka side: wire client, producer, consumer and members of groups. All sans-I/O: bytes and `now` in, bytes and effects out.

pub mod client;
pub mod consumer;
pub mod coordination;
#[cfg(test)]
pub(crate) mod fake;
pub mod fetch;
pub mod group;
pub mod producer;
pub mod topic_name;
pub mod types;
