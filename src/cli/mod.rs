//! The command line: arguments, exit codes, and each command in a file of its own.

mod accept_numbers;
pub mod access;
mod admin;
pub mod args;
pub mod ask;
mod auth_files;
pub mod bans;
mod bindings;
pub mod bridges;
mod broker;
mod certificates;
pub mod check;
mod check_bridges;
mod check_broker;
mod check_host;
mod check_instances;
mod check_modes;
mod check_sources;
mod check_spool;
mod check_start;
mod concise;
pub mod config_file;
mod control_token;
mod dead_letter_files;
pub mod dead_letters;
mod decoy_key;
pub mod drain;
mod edge;
mod embedded_numbers;
mod endpoint;
pub mod flow;
pub mod follow;
mod health;
pub mod import;
mod in_force;
pub mod infrastructure;
mod input;
mod instance_name;
mod kafka_tokens;
mod key_sets;
mod letter_sending;
mod letter_topics;
pub mod lists;
mod log_numbers;
mod log_reader;
mod log_writer;
pub mod man;
mod observer;
pub mod out;
mod overview;
mod part;
pub mod passwd;
mod past;
mod past_text;
pub mod publish;
mod reconfigure;
#[cfg(test)]
mod reference;
mod reload;
pub mod rule;
mod rule_facts;
mod rule_records;
pub mod rules;
pub mod run;
mod secured;
mod sent_again;
pub mod session_log;
mod session_logs;
mod shards;
pub mod sinks;
pub mod slots;
mod source_trial;
pub mod sources;
pub mod spool;
mod spool_shares;
mod spool_text;
mod start_log;
pub mod status;
pub mod token;
pub mod top;
pub mod topics;
pub mod trace;
mod trimmer;
pub mod users;
mod verifier_numbers;

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
