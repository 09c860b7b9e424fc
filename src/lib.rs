//! Forebay: MQTT in front of Apache Kafka. See `docs/ARCHITECTURE.md` for the plan of the house.

pub mod config;
pub mod control;
pub mod kafka;
pub mod limits;
pub mod metrics;
pub mod mqtt;
pub mod route;
pub mod rule;
pub mod runtime;
pub mod service;
pub mod session;
pub mod shard;
