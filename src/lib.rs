//! Forebay: MQTT in front of Apache Kafka. See `docs/internals/ARCHITECTURE.md` for the plan of the house.

#![forbid(unsafe_code)]

pub use forebay_base::address;
pub use forebay_bridge as bridge;
pub use forebay_broker as broker;
pub use forebay_buffer as buffer;
pub use forebay_guard::auth;
pub use forebay_guard::bans;
pub use forebay_guard::edge;
pub mod cli;
pub use forebay_config as config;
pub use forebay_control as control;
pub use forebay_dapr as dapr;
pub mod data_dir;
pub use forebay_base::files;
pub use forebay_base::in_use;
pub use forebay_base::limits;
pub use forebay_base::rules;
pub use forebay_embedded as embedded;
pub use forebay_fleet::link;
pub use forebay_fleet::membership;
pub use forebay_fleet::replica;
pub use forebay_guard::outward;
pub use forebay_guard::secure;
pub use forebay_kafka as kafka;
pub use forebay_listener as listener;
pub use forebay_metrics as metrics;
pub use forebay_mqtt as mqtt;
pub use forebay_mqtt::route;
pub use forebay_record as record;
pub use forebay_rule as rule;
pub use forebay_runtime as runtime;
pub use forebay_service::service;
pub use forebay_session as session;
pub use forebay_shard as shard;
#[cfg(test)]
mod sim;
pub use forebay_fleet::trunk;
pub use forebay_service::telemetry;
pub use forebay_source as source;
pub use forebay_spool as spool;
