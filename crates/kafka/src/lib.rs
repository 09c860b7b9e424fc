//! The Kafka side: wire client, producer, consumer and group members. All sans-I/O: bytes and `now` in, bytes and effects out.

#![forbid(unsafe_code)]

pub mod client;
pub mod consumer;
pub mod coordination;
#[cfg(test)]
pub(crate) mod fake;
pub mod fetch;
pub mod group;
#[cfg(any(test, feature = "testing"))]
#[allow(missing_docs)]
pub mod model;
pub mod producer;
pub mod topic_name;
pub mod types;
