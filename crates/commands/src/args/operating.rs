//! Options of the commands that look closer at what a running service does.

use std::path::PathBuf;

use clap::{ArgGroup, Args};

use super::AskArgs;

/// What the list of `forebay top` is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TopOf {
    /// Topics that clients publish to
    #[default]
    Topics,
    /// Clients that publish
    Clients,
    /// Topics of messages that no sink, rule or subscriber has got
    Unmatched,
}

/// What they are counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum TopBy {
    /// Messages
    #[default]
    Messages,
    /// Bytes of their packets
    Bytes,
}

/// Options of `forebay top`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct TopArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// What the list is of
    #[arg(long, value_enum, default_value_t)]
    pub of: TopOf,

    /// What they are counted by
    #[arg(long, value_enum, default_value_t)]
    pub by: TopBy,

    /// Print at most this number of rows
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub limit: u32,
}

/// Options of `forebay flow`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Print only ways with this text in one of their names, in whatever case
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,

    /// Print at most this number of ways
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// Options of `forebay log-level`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLevelArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// New level (error, warn, info, debug, trace), or a filter such as forebay=debug
    #[arg(value_name = "LEVEL")]
    pub level: Option<String>,
}

/// Options of `forebay topics match`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct MatchArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Topic of a message
    #[arg(value_name = "TOPIC")]
    pub topic: String,
}

/// Options of `forebay trace`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[group(id = "traced", multiple = false, args = ["client", "topic", "end"])]
pub struct TraceArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Show the packets of this client, in both directions
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,

    /// Of several clients with this ID the one of `[auth.NAME]`; "": the one of listeners without
    #[arg(long, value_name = "NAME", requires = "client", conflicts_with_all = ["topic", "end"])]
    pub auth: Option<String>,

    /// Show what clients publish to topics that this topic filter matches
    #[arg(long, value_name = "FILTER")]
    pub topic: Option<String>,

    /// End the trace with this number
    #[arg(long, value_name = "N")]
    pub end: Option<u64>,

    /// How long the trace goes on, unless it is interrupted
    #[arg(long, value_name = "SECONDS", conflicts_with = "end", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
}

/// Options of `forebay publish`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// MQTT topic
    #[arg(value_name = "TOPIC")]
    pub topic: String,

    /// Payload as text; empty if it is left out
    #[arg(value_name = "PAYLOAD", conflicts_with = "file")]
    pub payload: Option<String>,

    /// File with the payload; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// QoS of the message for its subscribers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,

    /// Retain it for its topic; without a payload, end what is retained
    #[arg(long)]
    pub retain: bool,

    /// For how many seconds it is worth being delivered
    #[arg(long, value_name = "SECONDS")]
    pub expiry: Option<u32>,

    /// Content Type of MQTT 5
    #[arg(long, value_name = "TEXT")]
    pub content_type: Option<String>,

    /// User property of MQTT 5; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    pub property: Vec<(String, String)>,
}

/// A user property of the command line.
fn property(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// Options of `forebay bans`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[group(id = "banned", multiple = false, args = ["client", "user", "address", "remove"])]
#[command(group = ArgGroup::new("who").args(["client", "user", "address"]))]
pub struct BansArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Ban this client identifier
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,

    /// Ban this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,

    /// Ban this address, or a network such as 10.0.0.0/8
    #[arg(long, value_name = "ADDRESS")]
    pub address: Option<String>,

    /// For how long; without it for ever
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..), requires = "who")]
    pub seconds: Option<u32>,

    /// Why
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, requires = "who")]
    pub reason: String,

    /// End the ban with this number
    #[arg(long, value_name = "N")]
    pub remove: Option<u64>,
}

/// Options of `forebay drain`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// End a drain: the instance gets its part of the clients again
    #[arg(long)]
    pub end: bool,

    /// For how long to wait until the others have all clients
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=3_600))]
    pub wait: u32,
}
