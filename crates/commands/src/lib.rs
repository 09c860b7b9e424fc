//! The command line: arguments, exit codes, and the commands that ask a running service, or need nothing of one: each in a file of its own.

#![forbid(unsafe_code)]

pub mod access;
pub mod args;
pub mod ask;
pub mod bans;
pub mod bridges;
pub mod config_file;
pub mod control_token;
pub mod dead_letters;
pub mod drain;
pub mod endpoint;
pub mod flow;
pub mod follow;
pub mod import;
pub mod infrastructure;
pub mod input;
pub mod lists;
pub mod man;
pub mod out;
pub mod part;
pub mod passwd;
pub mod publish;
pub mod rules;
pub mod sinks;
pub mod slots;
pub mod sources;
pub mod status;
pub mod token;
pub mod top;
pub mod trace;
pub mod users;

pub use args::{
    AskArgs, BrokerCommand, CheckArgs, Command, ConfigCommand, EventsArgs, FromArgs, ImportCommand, InspectArgs,
    RuleCommand, RuleExplainArgs, RuleTestArgs, RulesArgs, RunArgs, SourcesArgs, SpoolCommand, TopicsCommand, VERSION,
    parse, parse_from,
};

/// Exit status: success.
pub const EXIT_DONE: u8 = 0;
/// Exit status: failure.
pub const EXIT_FAILED: u8 = 1;
/// Exit status: the command line or the configuration is wrong. Nothing was started.
pub const EXIT_USAGE: u8 = 2;
