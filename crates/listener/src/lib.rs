//! The door: what happens between an accepted socket and the shard that owns its client.

#![forbid(unsafe_code)]

pub mod door;
pub mod proxy;
pub mod ws;
