//! Options of `forebay passwd`, `forebay access` and `forebay token`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{FromArgs, non_empty};

/// Options of `forebay passwd`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct PasswdArgs {
    /// Password file; made if it does not exist
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// User name
    #[arg(value_name = "USER")]
    pub user: String,

    /// Choose a random password and print it: for devices, its hash is quick to check
    #[arg(long, conflicts_with = "delete")]
    pub generate: bool,

    /// Store what SCRAM-SHA-256 needs, with which the user can log in by its password, too
    #[arg(long, conflicts_with = "delete")]
    pub scram: bool,

    /// Delete the user
    #[arg(long)]
    pub delete: bool,
}

/// Options of `forebay access`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct AccessArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub from: FromArgs,

    /// NAME of the [auth.NAME]; may be left out if there is only one
    #[arg(long, value_name = "NAME")]
    pub auth: Option<String>,

    /// User name; without it the client is anonymous
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// A role that its token gives it; may be repeated
    #[arg(long, value_name = "ROLE", conflicts_with = "token")]
    pub role: Vec<String>,

    /// File with its token, - for standard input; the token says who it is
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    pub token: Option<PathBuf>,

    /// Client ID
    #[arg(long, value_name = "ID", default_value = "")]
    pub client: String,

    /// What it wants to do
    #[arg(value_name = "ACTION", value_parser = ["publish", "subscribe", "replay"])]
    pub action: String,

    /// Topic, or topic filter for subscribe and replay
    #[arg(value_name = "TOPIC", value_parser = non_empty)]
    pub topic: String,
}

/// Options of `forebay token`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct TokenArgs {
    /// Who it is for; events name it
    pub name: String,

    /// What it allows: `read` (GET) or `write` (everything)
    #[arg(long, default_value = "write", value_parser = PossibleValuesParser::new(["read", "write"]))]
    pub role: String,
}
