//! The command line. `forebay` alone means `forebay run`; options take the place of values in the file.

mod access;
mod config_file;
mod import;
mod letters;
mod lists;
mod operating;
mod parts;
mod rule;
mod run;
mod sinks;
#[cfg(test)]
mod tests;
mod users;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use self::access::{AccessArgs, PasswdArgs, TokenArgs};
pub use self::config_file::{ConfigFileArgs, ConfigPartArgs, ConfigPutArgs};
pub use self::import::{ImportCommand, ImportEmqxArgs, ImportZillaArgs};
pub use self::letters::{LettersCommand, LettersListArgs, LettersSendArgs, LettersShowArgs};
pub use self::lists::{
    ClientAction, ClientsArgs, EventsArgs, ListArgs, RetainedAction, RetainedArgs, SharesArgs, SubscriptionsArgs,
};
pub use self::operating::{
    BansArgs, DrainArgs, FlowArgs, LogLevelArgs, MatchArgs, PublishArgs, TopArgs, TopBy, TopOf, TraceArgs,
};
pub use self::parts::{
    BridgeAction, BridgesArgs, ChangeArgs, ClusterAction, ClustersArgs, ListenerAction, ListenersArgs, RuleAction,
    RulesArgs, SourceAction, SourcesArgs,
};
pub use self::rule::{PastArgs, RuleCommand, RuleExplainArgs, RuleOfArgs, RuleTestArgs};
use self::run::control;
pub use self::run::{ControlBind, RunArgs, RunFileArgs};
pub use self::sinks::{HistogramsArgs, SinkAction, SinksArgs};
pub use self::users::{
    PermissionsCommand, PermissionsPutArgs, PermissionsShowArgs, UsersCommand, UsersListArgs, UsersPutArgs,
    UsersRemoveArgs,
};
use forebay_config::{self as config, Config, Overrides, Problems};

pub use forebay_control::VERSION;

const LONG_ABOUT: &str = "\
Forebay is an MQTT broker in front of Apache Kafka. It accepts MQTT 3.1, 3.1.1 and 5.0 from devices, writes the messages \
to Kafka, and sends them to the clients that have subscribed to their topics. A PUBACK is sent when every sink that the message matches has it as safe as the sink's `acknowledge` setting demands: in memory, \
on this machine's disk, or replicated by Kafka.

Without options it runs a complete system to try: MQTT on 127.0.0.1:1883, an embedded log with the Kafka protocol on \
127.0.0.1:9092, health and metrics on 127.0.0.1:8080, data in ./forebay-data. Every message goes to the Kafka topic \
mqtt-messages.";

const AFTER_LONG_HELP: &str = "\
Examples:
  forebay
      Run without Kafka and without configuration. Then try:
      mosquitto_sub -t 'plant/#' -v -q 1
      mosquitto_pub -t plant/7/temp -m 21.5 -q 1
      kcat -b 127.0.0.1:9092 -C -t mqtt-messages -e -f '%k %s\\n'
  forebay --kafka broker-1:9092,broker-2:9092
      Write to an existing Kafka cluster.
  forebay run --config /etc/forebay/forebay.toml
      Run with a configuration file. All mistakes in it are reported at once, with line and key.
  forebay config default > forebay.toml
      Create a configuration file: every key with its meaning and default.
  forebay check forebay.toml
      Check the configuration, this host and the Kafka clusters. Exit status 1 if the service would not work.
  forebay rule test --sql 'SELECT payload.t AS t FROM \"plant/#\" WHERE t > 20' --payload '{\"t\":21.5}'
      Try a rule on a message.
  forebay import emqx rules.json actions.json connectors.json > forebay.toml
      Make a configuration of what EMQX's management API answers.
  forebay rule test --config forebay.toml --rule hot --from-kafka mqtt-messages --since -1h
      Try a rule of the configuration on the records of the last hour.
  forebay sinks; forebay sinks telemetry; forebay events --sink telemetry
      Show the status of a running service's sinks, one with its partitions, and its recent events.
  forebay sinks telemetry put --file telemetry.toml --dry-run
      Say what another configuration of a sink would change, or what is wrong with it.
  forebay sources; forebay sources commands; forebay sources commands seek --to -1h
      Show its sources, one with its partitions, and have that one read the last hour again.
  forebay bridges; forebay bridges plant
      Show its bridges to other brokers, and one with what its remote has granted, and its filters.
  forebay clients; forebay clients meter-7; forebay shares; forebay retained 'plant/#'
      Show its clients and what waits for them, one client, shared subscriptions, and retained messages.
  forebay --listen 127.0.0.1:0 --embedded 127.0.0.1:0 --control off --data-dir /tmp/forebay
      Run on free ports; the log names them.

Signals:
  SIGTERM, SIGINT  Stop accepting, deliver what would be lost (for at most service.drain_grace), report and exit.
  SIGHUP           Read the configuration again, apply what can be changed, and name the changes that need a restart.

Exit status:
  0  success
  1  failure: a port is in use, the kernel refuses what is needed, messages were left undelivered
  2  wrong usage or configuration; nothing was started

Environment:
  FOREBAY_CONFIG           the configuration file, if --config is not given
  FOREBAY_TOKEN            token that `sinks`, `reload` and the like send; without it that of `control-token` in data_dir
  FOREBAY_SECTION_KEY      overrides the file: FOREBAY_SERVICE_SHARDS=2, FOREBAY_CONTROL_BIND=off
  FOREBAY_KAFKA_NAME_KEY   the same for [kafka.NAME]: FOREBAY_KAFKA_MAIN_BOOTSTRAP=broker-1:9092
  FOREBAY_SINK_0_KEY       the same for the first [[sink]]; FOREBAY_LISTENER_0_KEY for the first [[listener]]
  FOREBAY_LOG              log filter, such as info,forebay::kafka=debug; overrides log.level

All configuration keys: docs/CONFIGURATION.md";

#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version = VERSION,
    about = "MQTT in front of Apache Kafka: acknowledges a message when it is as safe as you configured",
    long_about = LONG_ABOUT,
    after_help = "`--help` prints examples, signals, exit status and environment.",
    after_long_help = AFTER_LONG_HELP,
    args_conflicts_with_subcommands = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// The command.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the service (the default command)
    #[command(after_long_help = AFTER_LONG_HELP)]
    Run(RunFileArgs),
    /// Check the configuration, this host and the Kafka clusters; changes nothing
    Check(CheckArgs),
    /// Create the Kafka topics of the sinks and sources; or show who gets the messages of an MQTT topic
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Show the sinks of a running service: state, totals, waiting messages, rate; or one with its partitions and dead letters, which can be created, changed, paused, tried and removed
    Sinks(SinksArgs),
    /// Show the sources of a running service: state, totals, open messages, lag; or one with its partitions, which can be paused, resumed, sought and tested
    Sources(SourcesArgs),
    /// Show the bridges of a running service: state, messages, queue; or one with what its remote has granted, and its filters, which can be paused and resumed
    Bridges(BridgesArgs),
    /// Show the rules of a running service: totals, last failure; or one with its statement, which can be paused and resumed
    Rules(RulesArgs),
    /// Show the ways that messages take through a running service: from where, through which rule, to where, how each of these does, and how much goes along
    Flow(FlowArgs),
    /// Show recent events of a running service
    Events(EventsArgs),
    /// Show the clients of a running service and their sessions: messages that wait for each, and for how long; or one client with its subscriptions, which can be disconnected and forgotten
    Clients(ClientsArgs),
    /// Show the subscriptions of the clients of a running service; or who gets the messages of a topic
    Subscriptions(SubscriptionsArgs),
    /// Show the shared subscriptions of a running service: members, and messages that wait for them
    Shares(SharesArgs),
    /// Show the retained messages of a running service; or one with its payload, which can be deleted
    Retained(RetainedArgs),
    /// Show a running service as a whole: whether it is ready, connections, messages that wait, and what does not run
    Status(AskArgs),
    /// Show the log level of a running service, or set it until the service is restarted
    LogLevel(LogLevelArgs),
    /// Show the listeners of a running service: connections, publishes; create, change or remove one
    Listeners(ListenersArgs),
    /// Show the Kafka clusters of a running service: whether they can be reached, connections, memory of records; create, change, try or remove one
    Clusters(ClustersArgs),
    /// Show the histograms of a running service: times to acknowledgements, of Kafka's responses, batches
    Histograms(HistogramsArgs),
    /// Show the topics or clients with the most publishes of a running service, or topics with messages that nobody gets
    Top(TopArgs),
    /// Show the packets of a client of a running service, or what clients publish to a topic, as they come; without either, list the traces
    Trace(TraceArgs),
    /// Publish a message by a running service, as a client would
    Publish(PublishArgs),
    /// Show the bans of a running service; keep a client, a user or an address from connecting, or end that
    Bans(BansArgs),
    /// Show the instances of the broker that a running service is one of
    #[command(subcommand)]
    Broker(BrokerCommand),
    /// Have a running instance of a broker give its clients to the others and take none, and wait until they have them; or end that
    Drain(DrainArgs),
    /// Show dead letters in Kafka topics of a running service, and send their records again
    #[command(subcommand)]
    DeadLetters(LettersCommand),
    /// Show the users of a running service's password files; add, change and remove users
    #[command(subcommand)]
    Users(UsersCommand),
    /// Show what the clients of a running service may touch, and change that
    #[command(subcommand)]
    Permissions(PermissionsCommand),
    /// Check that a running service accepts devices; for container health checks
    Health(AskArgs),
    /// Read the configuration file of a running service again and apply what can be changed
    Reload(ReloadArgs),
    /// Create a token for the admin API: prints it, and the line for `control.tokens_file`
    Token(TokenArgs),
    /// Add a user to a password file, or change or delete one
    Passwd(PasswdArgs),
    /// Show whether a client may publish or subscribe to a topic, and which rule says so; exit status 0: granted, 1: denied, 2: not decided
    Access(AccessArgs),
    /// Try a rule in SQL on messages, or explain it; no service is needed
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Make a configuration of what another product is configured with; what differs is on standard error
    #[command(subcommand)]
    Import(ImportCommand),
    /// Show the spool of a running service; inspect or empty the spool of a service that is not running
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Print the default configuration, its JSON schema, or the set-up of another product's guide; or the file of a running service, which can be replaced
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a shell completion script
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
    /// Write man pages into a directory
    #[command(hide = true)]
    Man {
        /// Existing directory
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// What to show of the instances of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum BrokerCommand {
    /// Show which instance serves which slot, and so which clients
    Slots(AskArgs),
}

/// Options of `forebay check` and `forebay topics create` that choose the configuration.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct FromArgs {
    /// Configuration file (TOML), `-` for standard input; without it the defaults apply
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Bootstrap brokers, as for `forebay run`
    #[arg(long, value_name = "HOST:PORT[,...]", value_parser = non_empty)]
    pub kafka: Option<String>,
}

impl FromArgs {
    /// The configuration: the file or the defaults, overridden by these options.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the options.
    pub fn load(&self) -> Result<Config, Problems> {
        let overrides = Overrides { kafka: self.kafka.clone(), ..Overrides::of_process() };
        config::load_with(file(self.config.as_ref()).as_deref(), &overrides)
    }
}

/// Options of `forebay check`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckArgs {
    /// Configuration file (TOML), the same as --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    pub file: Option<PathBuf>,

    /// Where the configuration comes from.
    #[command(flatten)]
    pub from: FromArgs,

    /// Do not connect to Kafka, do not look at this host's limits: check the configuration alone
    #[arg(long)]
    pub offline: bool,

    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,

    /// Dapr's component documents, as for `forebay run`
    #[arg(long, value_name = "PATH")]
    pub components: Option<PathBuf>,
}

impl CheckArgs {
    /// The configuration, as [`FromArgs::load`].
    ///
    /// # Errors
    /// Everything that is wrong with the file and the options.
    pub fn load(&self) -> Result<Config, Problems> {
        let FromArgs { config, kafka } = self.from.clone();
        let (config, components) = (self.file.clone().or(config), self.components.clone());
        let overrides = Overrides { kafka, components, ..Overrides::of_process() };
        config::load_with(file(config.as_ref()).as_deref(), &overrides)
    }
}

/// The file to read: the one that is given, or the one that `FOREBAY_CONFIG` names.
fn file(given: Option<&PathBuf>) -> Option<PathBuf> {
    let named = || std::env::var_os(config::FILE_VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    given.cloned().or_else(named)
}

/// Options of `forebay reload`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
}

/// Which running service to ask.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct AskArgs {
    /// Configuration file of the service, for its `control.bind`; without it the defaults apply
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Control address of the service, instead of `control.bind`
    #[arg(long, value_name = "ADDRESS", value_parser = control)]
    pub control: Option<ControlBind>,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl AskArgs {
    /// Whether there is a configuration file, by an option or the environment.
    #[must_use]
    pub fn names_config(&self) -> bool {
        file(self.config.as_ref()).is_some()
    }

    /// The configuration: the file or the defaults.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Config, Problems> {
        config::load_with(file(self.config.as_ref()).as_deref(), &Overrides::of_process())
    }
}

/// Commands of `forebay topics`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum TopicsCommand {
    /// Create missing topics; existing topics are left unchanged
    Create {
        /// Where the configuration comes from.
        #[command(flatten)]
        from: FromArgs,

        /// Partitions of each new topic; the cluster's default if omitted
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
        partitions: Option<i32>,

        /// Replicas of each partition; the cluster's default if omitted
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..=100))]
        replication_factor: Option<i16>,
    },
    /// Show which sinks, rules and subscriptions of a running service get the messages of an MQTT topic
    Match(MatchArgs),
}

/// Commands of `forebay spool`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SpoolCommand {
    /// Show segments, damage, and what the service would find when it starts; changes nothing
    Inspect(InspectArgs),
    /// Delete one sink's messages that are not in Kafka yet
    Discard(DiscardArgs),
    /// Show the spool of a running service, each shard in a line
    Status(AskArgs),
}

/// Options of `forebay spool discard`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscardArgs {
    /// Spool directory: `spool` in the data directory
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,

    /// Delete messages of this sink
    #[arg(long, value_name = "NAME")]
    pub sink: String,

    /// Delete them; without this option only show what would be deleted
    #[arg(long)]
    pub yes: bool,
}

/// Options of `forebay spool inspect`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectArgs {
    /// Spool directory, or the directory of one shard in it
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// List every entry
    #[arg(long)]
    pub entries: bool,
}

/// Commands of `forebay config`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Every key with its meaning and default, commented out (TOML)
    Default,
    /// JSON schema (2020-12) of the configuration
    Schema,
    /// The set-up of TBMQ's guide, with its names and defaults (TOML)
    Tbmq,
    /// The set-up of EMQX's guide, with its names (TOML)
    Emqx,
    /// The configuration file of a running service; its tag is on standard error
    File(ConfigFileArgs),
    /// Replace the configuration file of a running service, and apply what can be changed
    Put(ConfigPutArgs),
    /// The keys of a sink, source, rule, bridge, cluster or listener that are written, in the file of a running service or by the API (TOML): `put` takes them back
    Part(ConfigPartArgs),
}

/// Reads the command line of the process. Help, version and wrong usage are printed here and end the process (0 or 2).
#[must_use]
pub fn parse() -> Command {
    Cli::parse().into_command()
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// Wrong usage; and help and version, which are ways to end as well. [`clap::Error::exit`] does either.
pub fn parse_from<I>(args: I) -> Result<Command, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    Cli::try_parse_from(args).map(Cli::into_command)
}

/// The definition of the command line, from which help and documents are made.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

impl Cli {
    fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Run(self.run.into()))
    }
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("give at least one broker, as in 127.0.0.1:9092".to_owned()) } else { Ok(text.to_owned()) }
}
