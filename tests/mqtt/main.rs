//! The codec against the standard, against itself, and against another library. One binary.

mod conformance;
mod differences;
mod differential;
#[path = "../malformed/mod.rs"]
mod malformed;
mod oracle;
mod packets;
mod round_trip;
mod seeds;
mod verdicts;
