//! Counters of a core, and their path to the control plane.
//!
//! A shard counts in plain `u64`s of its own. Once a turn, if a number has changed, it copies them onto its [`board::Board`]:
//! atomics guarded by a version number, so a reader gets one turn's values whole, never half of one turn and half of the next,
//! and the writer never waits. `/metrics` reads boards; it never reads a shard.

#![forbid(unsafe_code)]

pub mod board;
pub mod collector;
pub mod event;
pub mod exposition;
pub mod histogram;
pub mod history;
pub mod inspect;
pub mod journal;
pub mod lag;
pub mod machine;
pub mod process;
pub mod samples;
pub mod series;
pub mod source_lag;
pub mod spec;
pub mod time;
pub mod top;
