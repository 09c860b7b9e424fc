//! Forebay: MQTT in front of Apache Kafka. See `docs/ARCHITECTURE.md` for the plan of the house.

pub mod cli;
pub mod config;
pub mod kafka;
pub mod limits;
pub mod mqtt;
pub mod route;
pub mod rule;
pub mod runtime;
