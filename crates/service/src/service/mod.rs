//! The service as a good guest of its host: checks before it starts, signals, systemd's notify protocol, logs.

pub mod dead_letters;
pub mod kafka_tokens;
pub mod key_sets;
pub mod log;
pub mod notify;
pub mod preflight;
pub mod resolver;
pub mod sandbox;
pub mod sasl;
pub mod signals;
pub mod verifier;
