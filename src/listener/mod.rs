//! The door: what happens between an accepted socket and the shard that owns its client.

pub mod door;
pub mod proxy;
pub mod ws;
