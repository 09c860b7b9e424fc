//! Services of the operating system around the process: sandbox, signals, logs, telemetry.

#![forbid(unsafe_code)]

pub mod service;
pub mod telemetry;
