//! The Kafka side: wire client, producer, consumer and group members. All sans-I/O: bytes and `now` in, bytes and effects out.

pub mod client;
pub mod consumer;
pub mod coordination;
#[cfg(test)]
pub(crate) mod fake;
pub mod fetch;
pub mod group;
/// The simulator's model of a partition, for the tests here.
#[cfg(test)]
#[allow(dead_code, unreachable_pub)]
#[path = "../../sim/src/kafka/log.rs"]
pub(crate) mod model;
pub mod producer;
pub mod topic_name;
pub mod types;

#[cfg(test)]
use crate::record;
