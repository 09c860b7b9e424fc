//! Forebay: MQTT in front of Apache Kafka. See `docs/internals/ARCHITECTURE.md` for the plan of the house.

pub mod address;
pub mod auth;
pub mod bans;
pub mod bridge;
pub mod buffer;
pub mod cli;
pub mod config;
pub mod control;
pub mod dapr;
pub mod data_dir;
pub mod embedded;
pub mod files;
pub mod in_use;
pub mod kafka;
pub mod limits;
pub mod link;
pub mod listener;
pub mod membership;
pub mod metrics;
pub mod mqtt;
pub mod outward;
pub mod record;
pub mod replica;
pub mod route;
pub mod rule;
pub mod rules;
pub mod runtime;
pub mod secure;
pub mod service;
pub mod session;
pub mod shard;
#[cfg(test)]
mod sim;
pub mod source;
pub mod spool;
pub mod telemetry;
pub mod trunk;
