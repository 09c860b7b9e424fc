//! TLS, secrets and logins; who may connect, publish and subscribe; connections to other servers.

#![forbid(unsafe_code)]

pub mod auth;
pub mod bans;
pub mod edge;
pub mod outward;
pub mod secure;
