//! Options of `forebay rule`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands about rules.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum RuleCommand {
    /// Evaluate a rule for a message, or for the messages of a file, and print its outputs as JSON, one a line
    Test(RuleTestArgs),
    /// Show what a rule reads and yields, and which of its parts can fail
    Explain(RuleExplainArgs),
}

/// Options of `forebay rule explain`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RuleExplainArgs {
    /// The rule
    #[arg(long, value_name = "SQL")]
    pub sql: String,
}

/// Options of `forebay rule test`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTestArgs {
    /// The rule; without it that of --context
    #[arg(long, value_name = "SQL", required_unless_present = "context")]
    pub sql: Option<String>,

    /// Topic; without it one that the rule is for
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Payload
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    pub payload: Option<String>,

    /// Event that the rule is tried on, such as client_connected
    #[arg(long, value_name = "EVENT")]
    pub event: Option<String>,

    /// Client ID
    #[arg(long, value_name = "ID")]
    pub clientid: Option<String>,

    /// User name
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,

    /// QoS
    #[arg(long, value_name = "QOS", value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: Option<u8>,

    /// The message is retained
    #[arg(long)]
    pub retain: bool,

    /// User property; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub user_property: Vec<(String, String)>,

    /// File with the message as a JSON object of its fields, or with `sql` and `context` as EMQX's rule_test takes; - for standard input
    #[arg(long, value_name = "FILE")]
    pub context: Option<PathBuf>,

    /// File of messages, each line the JSON object of one's fields; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "context")]
    pub file: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a user property is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
