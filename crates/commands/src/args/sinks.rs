//! Options of `forebay sinks` and `forebay histograms`.

use clap::Args;

use super::{AskArgs, ChangeArgs};

/// Something that is done with a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SinkAction {
    /// Send nothing new to Kafka
    Pause,
    /// Send again
    Resume,
    /// Create it, or give it other keys (`--file`)
    Put,
    /// Remove it; records that it holds are still written
    Delete,
    /// Show the record that it would make of a message (`--topic`, `--payload`, `--client-id`)
    Test,
    /// Show its dead letters that are in a file, the newest first
    DeadLetters,
}

/// Options of `forebay sinks`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SinksArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Show this sink, with its partitions
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// What to do with it
    #[arg(value_name = "ACTION", value_enum, requires = "name")]
    pub action: Option<SinkAction>,

    /// With test: MQTT topic of the message
    #[arg(long, value_name = "TOPIC", required_if_eq("action", "test"))]
    pub topic: Option<String>,

    /// With test: payload of the message
    #[arg(long, value_name = "TEXT", requires = "topic", default_value = "", hide_default_value = true)]
    pub payload: String,

    /// With test: client ID of the message
    #[arg(long, value_name = "ID", requires = "topic", default_value = "", hide_default_value = true)]
    pub client_id: String,

    /// How it is changed.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Options of `forebay histograms`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramsArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Only those with this name
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
}
