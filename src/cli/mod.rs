//! The door: what may be said on the command line, and how the process ends.

pub mod args;

pub use args::{Command, RunArgs, parse, parse_from};

/// Exit status: done.
pub const EXIT_DONE: u8 = 0;
/// Exit status: it was tried and failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit status: the command line or the configuration is wrong. Nothing was started.
pub const EXIT_USAGE: u8 = 2;
