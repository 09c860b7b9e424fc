//! Sources: the conversion of Kafka records to MQTT messages.

#![forbid(unsafe_code)]

mod mapping;
mod properties;

#[cfg(test)]
mod tests;

pub use forebay_rule::record::{Record, TimestampType};
pub use mapping::{Mapping, Message, Reason, Scratch};
