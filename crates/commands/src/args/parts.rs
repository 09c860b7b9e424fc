//! Options of `forebay sources`, `bridges`, `rules`, `clusters` and `listeners`, and those that all changes of a part of the configuration have.

use std::path::PathBuf;

use clap::Args;

use super::AskArgs;

/// Options of what changes a part of the configuration.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeArgs {
    /// With put: file with its keys in TOML, as below its header in the configuration; `-` reads standard input
    #[arg(long, value_name = "FILE", required_if_eq("action", "put"))]
    pub file: Option<PathBuf>,

    /// With pause, resume, put and delete: write it to the configuration file
    #[arg(long, requires = "action")]
    pub persist: bool,

    /// With pause, resume, put and delete: only say what would change
    #[arg(long, requires = "action")]
    pub dry_run: bool,
}

/// What to do with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum SourceAction {
    /// Read nothing more; it leaves its group
    Pause,
    /// Read again, where the group stands
    Resume,
    /// Create it, or give it other keys (`--file`)
    Put,
    /// Remove it; its group keeps its offsets
    Delete,
    /// Read from another place on (`--to`)
    Seek,
    /// Look for what it needs, and show the messages of the newest records
    Test,
}

/// Options of `forebay sources`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct SourcesArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Show this source, with its partitions
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// What to do with it
    #[arg(value_name = "ACTION", value_enum, requires = "name")]
    pub action: Option<SourceAction>,

    /// With seek: `earliest`, `latest`, a time (RFC 3339), an age as in -1h, or the offset of one partition
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, required_if_eq("action", "seek"))]
    pub to: Option<String>,

    /// With seek: only partitions of this Kafka topic
    #[arg(long, value_name = "TOPIC", requires = "to")]
    pub topic: Option<String>,

    /// With seek: only the partition with this number
    #[arg(long, value_name = "N", requires = "to", value_parser = clap::value_parser!(i32).range(0..))]
    pub partition: Option<i32>,

    /// How it is changed.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What to do with a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BridgeAction {
    /// End its connection; messages for the remote wait
    Pause,
    /// Connect again
    Resume,
    /// Create it, or give it other keys (`--file`)
    Put,
    /// Remove it, with its session here
    Delete,
    /// Connect to its remote under another client ID, and show what the remote grants
    Test,
}

/// Options of `forebay bridges`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct BridgesArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Show this bridge, with what the remote has granted, and its filters
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// What to do with it
    #[arg(value_name = "ACTION", value_enum, requires = "name")]
    pub action: Option<BridgeAction>,

    /// With delete: messages that wait for the remote may be lost
    #[arg(long, requires = "action")]
    pub discard: bool,

    /// How it is changed.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Something that is done with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RuleAction {
    /// It is not evaluated until it is resumed.
    Pause,
    /// It is evaluated again.
    Resume,
    /// Create it, or give it other keys (`--file`)
    Put,
    /// Remove it; records that it has made are still written
    Delete,
}

/// Options of `forebay rules`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Show this rule, with its statement
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// What to do with it
    #[arg(value_name = "ACTION", value_enum, requires = "name")]
    pub action: Option<RuleAction>,

    /// How it is changed.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What to do with a Kafka cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClusterAction {
    /// Create it, or give it other keys (`--file`)
    Put,
    /// Remove it: no sink and no source may use it
    Delete,
    /// Have the service connect to each of its bootstrap brokers
    Test,
}

/// Options of `forebay clusters`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ClustersArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Show this cluster alone
    #[arg(value_name = "NAME")]
    pub name: Option<String>,

    /// What to do with it
    #[arg(value_name = "ACTION", value_enum, requires = "name")]
    pub action: Option<ClusterAction>,

    /// With test: look for this Kafka topic, too
    #[arg(long, value_name = "TOPIC", requires = "action")]
    pub topic: Option<String>,

    /// How it is changed.
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// What to do with a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ListenerAction {
    /// Create it, or give it other keys (`--file`)
    Put,
    /// Remove it: its clients are disconnected
    Delete,
}

/// Options of `forebay listeners`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenersArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Address of a listener, as the configuration has it (`bind`)
    #[arg(value_name = "ADDRESS", requires = "action")]
    pub address: Option<String>,

    /// What to do with it
    #[arg(value_name = "ACTION", value_enum, requires = "address")]
    pub action: Option<ListenerAction>,

    /// How it is changed.
    #[command(flatten)]
    pub change: ChangeArgs,
}
