//! The codec against the standard, against itself, and against another library. One binary.

#[path = "../malformed/mod.rs"]
mod malformed;
mod oracle;
mod verdicts;
