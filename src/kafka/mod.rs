//! The Kafka side: wire client, producer and members of consumer groups. All sans-I/O: bytes and `now` in, bytes and effects out.

pub mod client;
pub mod coordination;
#[cfg(test)]
pub(crate) mod fake;
pub mod group;
pub mod producer;
pub mod topic_name;
pub mod types;
