//! Sources: the conversion of Kafka records to MQTT messages.

mod mapping;
mod properties;

#[cfg(test)]
mod tests;

pub use crate::rule::record::{Record, TimestampType};
pub use mapping::{Mapping, Message, Reason, Scratch};
