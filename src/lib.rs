//! Forebay: MQTT in front of Apache Kafka. See `docs/ARCHITECTURE.md` for the plan of the house.

pub mod embedded;
pub mod kafka;
pub mod limits;
pub mod mqtt;
pub mod runtime;
