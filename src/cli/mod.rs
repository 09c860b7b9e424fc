//! The door for people: arguments, exit codes, each command in a file of its own.

mod accept_numbers;
mod admin;
pub mod args;
pub mod ask;
pub mod check;
mod check_spool;
mod embedded_numbers;
mod health;
mod log_numbers;
mod observer;
mod overview;
#[cfg(test)]
mod reference;
pub mod run;
pub mod spool;
pub mod topics;

pub use args::{
    AskArgs, CheckArgs, Command, ConfigCommand, EventsArgs, InspectArgs, RunArgs, SpoolCommand, TopicsCommand, parse,
    parse_from,
};

/// Exit status: done.
pub const EXIT_DONE: u8 = 0;
/// Exit status: it was tried and failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit status: the command line or the configuration is wrong. Nothing was started.
pub const EXIT_USAGE: u8 = 2;
