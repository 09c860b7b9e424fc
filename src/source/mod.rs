//! Sources: what becomes of a record of Kafka on its way to MQTT.

mod mapping;
mod properties;

#[cfg(test)]
mod tests;

pub use crate::rule::record::{Record, TimestampType};
pub use mapping::{Mapping, Message, Reason, Scratch};
