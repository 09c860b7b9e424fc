//! Options of `forebay config file`, `forebay config put` and `forebay config part`.

use std::path::PathBuf;

use clap::Args;

use super::AskArgs;

/// Options of `forebay config file`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFileArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// What it held before the last change by the API
    #[arg(long)]
    pub previous: bool,
}

/// Options of `forebay config put`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigPutArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// The new content; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// Tag of the content that is replaced, as `forebay config file` says it: nothing is written if there is another one by now
    #[arg(long, value_name = "TAG", required_unless_present = "dry_run")]
    pub etag: Option<String>,

    /// Only say what is wrong with it, or what would change
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `forebay config part`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigPartArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Section of the configuration
    #[arg(value_name = "SECTION", value_parser = ["sink", "source", "rule", "bridge", "kafka", "listener"])]
    pub section: String,

    /// Name of the part; of a listener its `bind`
    #[arg(value_name = "NAME")]
    pub name: String,
}
