//! Options of `forebay import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Commands that read what another product is configured with.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ImportCommand {
    /// EMQX 5: rules, actions, sources and connectors as JSON, from its management API or its export; prints a configuration, and on standard error what differs
    Emqx(ImportEmqxArgs),
    /// Zilla: a binding `mqtt-kafka` with its routes, of its YAML; prints a configuration with `[broker]`, and on standard error what differs
    Zilla(ImportZillaArgs),
}

/// Options of `forebay import emqx`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ImportEmqxArgs {
    /// JSON of `GET /rules`, `/actions`, `/sources`, `/connectors`, or an object with these as members; `-` for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// Directory of the password files that the configuration names; they are not written
    #[arg(long, value_name = "DIR", default_value = "/etc/forebay")]
    pub password_dir: PathBuf,
}

/// Options of `forebay import zilla`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ImportZillaArgs {
    /// `zilla.yaml`, or a part of it with the binding; `-` for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Leave out, with a note, what would otherwise be refused: guards of routes, and routes to a Kafka topic that the configuration lacks
    #[arg(long)]
    pub partial: bool,

    /// Directory of the password file that the configuration names; it is not written
    #[arg(long, value_name = "DIR", default_value = "/etc/forebay")]
    pub password_dir: PathBuf,
}
