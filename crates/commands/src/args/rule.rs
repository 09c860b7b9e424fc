//! Options of `forebay rule`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::FromArgs;
use forebay_config::{Config, Problems};

/// Commands about rules.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum RuleCommand {
    /// Evaluate a rule for a message, or for the messages of a file, and print its outputs as JSON, one a line
    Test(Box<RuleTestArgs>),
    /// Show what a rule reads and yields, and which of its parts can fail
    Explain(RuleExplainArgs),
}

/// Options of `forebay rule explain`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleExplainArgs {
    /// The rule
    #[arg(long, value_name = "SQL", required_unless_present = "rule", allow_hyphen_values = true)]
    pub sql: Option<String>,

    /// Where the rule comes from.
    #[command(flatten)]
    pub of: RuleOfArgs,
}

/// Options that name a rule of a configuration.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleOfArgs {
    /// A rule of the configuration, in the place of --sql
    #[arg(long, value_name = "NAME", conflicts_with = "sql")]
    pub rule: Option<String>,

    /// Configuration file (TOML), for --rule and for the Kafka clusters
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl RuleOfArgs {
    /// The configuration, where one is asked for.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self, is_needed: bool) -> Result<Option<Config>, Problems> {
        if !is_needed && self.rule.is_none() && self.config.is_none() {
            return Ok(None);
        }
        FromArgs { config: self.config.clone(), kafka: None }.load().map(Some)
    }
}

impl RuleExplainArgs {
    /// As [`RuleOfArgs::load`].
    ///
    /// # Errors
    /// Likewise.
    pub fn load(&self) -> Result<Option<Config>, Problems> {
        self.of.load(false)
    }
}

impl RuleTestArgs {
    /// As [`RuleOfArgs::load`].
    ///
    /// # Errors
    /// Likewise.
    pub fn load(&self) -> Result<Option<Config>, Problems> {
        self.of.load(self.past.from_kafka.is_some())
    }
}

/// Options of `forebay rule test`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTestArgs {
    /// The rule; without it that of --context
    #[arg(long, value_name = "SQL", required_unless_present_any = ["context", "rule"], allow_hyphen_values = true)]
    pub sql: Option<String>,

    /// Where the rule comes from.
    #[command(flatten)]
    pub of: RuleOfArgs,

    /// Topic; without it one that the rule is for
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Payload
    #[arg(long, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
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

    /// Print JSON: for each output its records, or the result over past records
    #[arg(long)]
    pub json: bool,

    /// Past records.
    #[command(flatten)]
    pub past: PastArgs,
}

/// Options for past records.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct PastArgs {
    /// Try the rule on past records of this Kafka topic: their values are the payloads
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["topic", "payload", "user_property", "context", "file"])]
    pub from_kafka: Option<String>,

    /// The [kafka.NAME] that has it, or `embedded`; may be left out if there is only one
    #[arg(long, value_name = "NAME", requires = "from_kafka")]
    pub kafka: Option<String>,

    /// Read the oldest records since then: `earliest`, a time (RFC 3339), or an age as in -1h; without it the newest records
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true, requires = "from_kafka")]
    pub since: Option<String>,

    /// Read at most this number of records [default: 1000]
    #[arg(long, value_name = "N", requires = "from_kafka", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,

    /// What the MQTT topic is made of: `key`, `header:NAME`, `json:PATH` in the value, or a template as devices/${key} [default: key]
    #[arg(long, value_name = "PART", requires = "from_kafka")]
    pub topic_from: Option<String>,

    /// Compare with this rule of the configuration: exit status 1 if outputs differ
    #[arg(long, value_name = "NAME", requires = "from_kafka")]
    pub against: Option<String>,

    /// Compare with this rule
    #[arg(long, value_name = "SQL", requires = "from_kafka", conflicts_with = "against", allow_hyphen_values = true)]
    pub against_sql: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a user property is NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}
