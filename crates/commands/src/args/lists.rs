//! Options of the commands that list what a running service has: events, clients, subscriptions, shared subscriptions and retained messages.

use clap::Args;

use super::AskArgs;
use forebay_config as config;
use forebay_metrics::time::{from_rfc3339, now_ms, rfc3339};

/// A time as the API takes it: a date, or a duration before now.
fn event_time(text: &str) -> Result<String, String> {
    if from_rfc3339(text).is_some() {
        return Ok(text.to_owned());
    }
    let ago = config::duration_of(text);
    let ago = ago.ok_or("write a time as in RFC 3339 (2026-11-21T08:56:24Z), or how long ago (15m)")?;
    Ok(rfc3339(now_ms().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)).max(0)))
}

/// Options of `forebay events`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct EventsArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Only events after the one with this id, the oldest first
    #[arg(long, value_name = "ID")]
    pub since: Option<u64>,

    /// Only events from this time on: RFC 3339, or how long ago (15m)
    #[arg(long = "from", value_name = "TIME", value_parser = event_time)]
    pub from_time: Option<String>,

    /// Only events of before this time
    #[arg(long, value_name = "TIME", value_parser = event_time)]
    pub until: Option<String>,

    /// Only events of this kind
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,

    /// Only events of this class: administration, lifecycle, error, client, connection, statistics; connection only if asked for
    #[arg(long, value_name = "CLASS")]
    pub class: Option<String>,

    /// Only events at least so severe: info, warn, error
    #[arg(long, value_name = "SEVERITY")]
    pub severity: Option<String>,

    /// Only events of this client, those of its connections among them
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,

    /// Only events of clients of this [auth.NAME]
    #[arg(long, value_name = "NAME")]
    pub auth: Option<String>,

    /// Only events of this sink
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,

    /// Only events of this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,

    /// Print at most this number of events: the newest
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,

    /// Keep printing events as they happen, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
}

/// How much of a list to print.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ListArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Print at most this number of rows
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: u32,
}

/// What to do with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientAction {
    /// End its connection; its session stays as its own terms say. `kick` is the same
    #[value(alias = "kick")]
    Disconnect,
    /// End its connection and its session
    Forget,
}

/// What to do with a retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RetainedAction {
    /// Show it with its payload
    Show,
    /// End it; subscribers are not told
    Delete,
}

/// Options of `forebay subscriptions`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionsArgs {
    /// How much.
    #[command(flatten)]
    pub list: ListArgs,

    /// Only those that get messages of this topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Only those to this topic filter; `$share/NAME/FILTER` is the members of a shared subscription
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
}

/// Options of `forebay clients`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct ClientsArgs {
    /// How much.
    #[command(flatten)]
    pub list: ListArgs,

    /// Only clients with this text in their client ID, user name, auth or address, in whatever case
    #[arg(long, value_name = "TEXT", conflicts_with = "client_id")]
    pub search: Option<String>,

    /// Only clients that are connected to the listener with this address, as `forebay listeners` shows it
    #[arg(long, value_name = "ADDRESS", conflicts_with = "client_id")]
    pub listener: Option<String>,

    /// Only clients that are connected, or with `false` those that are not
    #[arg(long, value_name = "true|false", conflicts_with = "client_id")]
    pub connected: Option<bool>,

    /// Show this client, with its subscriptions
    #[arg(value_name = "ID")]
    pub client_id: Option<String>,

    /// What to do with it
    #[arg(value_name = "ACTION", value_enum, requires = "client_id")]
    pub action: Option<ClientAction>,

    /// Of several clients with this ID the one of `[auth.NAME]`; "": the one of listeners without
    #[arg(long, value_name = "NAME", requires = "client_id")]
    pub auth: Option<String>,
}

/// Options of `forebay shares`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct SharesArgs {
    /// How much.
    #[command(flatten)]
    pub list: ListArgs,

    /// Only those with this text in their name or topic filter
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
}

/// Options of `forebay retained`.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct RetainedArgs {
    /// How much.
    #[command(flatten)]
    pub list: ListArgs,

    /// Only messages on topics that this topic filter matches
    #[arg(value_name = "FILTER", default_value = "#")]
    pub filter: String,

    /// What to do with the one on this topic
    #[arg(value_name = "ACTION", value_enum)]
    pub action: Option<RetainedAction>,
}
