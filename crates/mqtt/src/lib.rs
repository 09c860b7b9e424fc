//! MQTT 3.1, 3.1.1 and 5.0: bytes to packets and back, without extensions of the standards [3.1.1 MQTT-7.0.0-2]. No I/O, no clock.
//!
//! In: [`frame::next`] cuts one packet out of a byte slice, [`decode::decode`] checks it and returns a borrowed view. Out:
//! [`encode`] appends to one buffer. A PUBLISH allocates nothing either way.

#![forbid(unsafe_code)]

#[cfg(feature = "testing")]
pub mod any_packet;
pub mod decode;
pub mod encode;
pub mod filters;
pub mod frame;
pub mod malformed;
pub mod packet;
pub mod property;
pub mod reason;
pub mod route;
pub mod topic;
mod wire;

pub use filters::FilterBuf;
pub use malformed::Malformed;
pub use wire::{STRING_MAX, VARIABLE_MAX};
