//! The command line. `forebay` alone means `forebay run`; options take the place of what the file says.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::config::{self, Config, LogFormat, LogLevel, Overrides, Problems};

const LONG_ABOUT: &str = "\
Forebay takes MQTT (3.1, 3.1.1, 5.0) from devices and puts it into Apache Kafka, and never acknowledges a message \
that it could lose: a PUBACK is sent when every sink that the message goes to has it as safe as it is set up to be.

With no option at all it runs a complete system for a first look: MQTT on 127.0.0.1:1883, a Kafka-protocol log of its \
own on 127.0.0.1:9092, health and metrics on 127.0.0.1:8080, its data in ./forebay-data, and every message in the \
Kafka topic mqtt-messages.";

const AFTER_LONG_HELP: &str = "\
Examples:
  forebay
      Run with no Kafka and no configuration. Then, for instance:
      mosquitto_pub -t plant/7/temp -m 21.5 -q 1
      kcat -b 127.0.0.1:9092 -C -t mqtt-messages -e -f '%k %s\\n'
  forebay --kafka broker-1:9092,broker-2:9092
      The same into a Kafka that is there.
  forebay run --config /etc/forebay/forebay.toml
      As the file says. Everything that is wrong with it is reported at once, with line and key.
  forebay config default > forebay.toml
      A file to begin with: every key, what it means, its default.
  forebay check --config forebay.toml
      Would it work? One line for each cluster and each sink; exit status 1 if something would not.
  forebay sinks; forebay events --sink telemetry
      What a running service says of its sinks, and what happened.
  forebay --listen 127.0.0.1:0 --embedded 127.0.0.1:0 --control off --data-dir /tmp/forebay
      On ports that are free; the log names them.

Signals:
  SIGTERM, SIGINT  Stop accepting, finish what a stop would lose (service.drain_grace), report what is left, end.

Exit status:
  0  done
  1  failed: a port that is taken, a kernel without io_uring, messages left undelivered at the end
  2  wrong usage or configuration; nothing was started

Environment:
  FOREBAY_SECTION_KEY      goes before the file, as in FOREBAY_SERVICE_SHARDS=2 or FOREBAY_CONTROL_BIND=off
  FOREBAY_KAFKA_NAME_KEY   the same for [kafka.NAME], as in FOREBAY_KAFKA_MAIN_BOOTSTRAP=broker-1:9092
  FOREBAY_SINK_0_KEY       the same for the first [[sink]]; FOREBAY_LISTENER_0_KEY for the first [[listener]]
  FOREBAY_LOG              a filter of the log, as in info,forebay::kafka=debug

Every key of the configuration: docs/CONFIGURATION.md";

#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    about = "MQTT in front of Apache Kafka: never acknowledges a message it could lose",
    long_about = LONG_ABOUT,
    after_help = "`--help` says more: examples, signals, exit status.",
    after_long_help = AFTER_LONG_HELP,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the service (what `forebay` alone does)
    #[command(after_long_help = AFTER_LONG_HELP)]
    Run(RunArgs),
    /// Try whether the configuration would work: connect to each cluster, look at each sink's topic; makes nothing
    Check(CheckArgs),
    /// What the sinks' topics need
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Ask a running service how its sinks do: state, totals, what waits, rate
    Sinks(AskArgs),
    /// Ask a running service what happened
    Events(EventsArgs),
    /// Look into the folder of a spool that no service uses
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Print what a configuration may hold
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// Options of `forebay check`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckArgs {
    /// The configuration (TOML), `-` for standard input; without it the defaults hold
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Kafka brokers to start from, as with `forebay run`
    #[arg(long, value_name = "HOST:PORT[,...]", value_parser = non_empty)]
    pub kafka: Option<String>,
}

impl CheckArgs {
    /// The configuration: the file or the defaults, with these options in their places.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the options.
    pub fn load(&self) -> Result<Config, Problems> {
        let overrides = Overrides { kafka: self.kafka.clone(), ..Overrides::default() };
        config::load_with(self.config.as_deref(), &overrides)
    }
}

/// Options of `forebay sinks`: which service is asked.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct AskArgs {
    /// The configuration that the service runs on (`control.bind` is where it is asked); without it the defaults hold
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where it is asked, in the place of `control.bind`
    #[arg(long, value_name = "ADDRESS", value_parser = control)]
    pub control: Option<ControlBind>,

    /// The answer as it is, in JSON
    #[arg(long)]
    pub json: bool,
}

impl AskArgs {
    /// The configuration: the file or the defaults.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Config, Problems> {
        config::load_with(
            self.config.as_deref(),
            &Overrides { environment: config::environment(), ..Overrides::default() },
        )
    }
}

/// Options of `forebay events`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsArgs {
    /// Which service.
    #[command(flatten)]
    pub from: AskArgs,

    /// Only what came after the event of this number
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub since: u64,

    /// Only events of this kind
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,

    /// Only what this sink says
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
}

/// What `forebay topics` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum TopicsCommand {
    /// Make the topics of the sinks that are not there yet; those that are there stay as they are
    Create {
        /// Where from.
        #[command(flatten)]
        from: CheckArgs,

        /// Partitions of a topic that is made; without it as the cluster makes topics
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=100_000))]
        partitions: Option<i32>,

        /// Replicas of each partition; without it as the cluster makes topics
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(i16).range(1..=100))]
        replication_factor: Option<i16>,
    },
}

/// What `forebay spool` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum SpoolCommand {
    /// What its segments hold, what is damaged, and what a start would find; changes nothing
    Inspect(InspectArgs),
    /// Throws away the messages of one sink, which Kafka does not have
    Discard(DiscardArgs),
}

/// Options of `forebay spool discard`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscardArgs {
    /// The folder of the spool: `spool` in the data directory
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,

    /// The sink whose messages are thrown away
    #[arg(long, value_name = "NAME")]
    pub sink: String,

    /// Does it; without it only says what would go
    #[arg(long)]
    pub yes: bool,
}

/// Options of `forebay spool inspect`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectArgs {
    /// The folder of one shard's segments, or the folder of the spool with all of them
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,

    /// In JSON
    #[arg(long)]
    pub json: bool,

    /// Every entry too, one a line
    #[arg(long)]
    pub entries: bool,
}

/// What `forebay config` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// A configuration (TOML) with every key, its meaning and its default, all commented out
    Default,
    /// A JSON schema (2020-12) of the configuration
    Schema,
}

/// Options of `forebay run`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RunArgs {
    /// The configuration (TOML), `-` for standard input; without it the defaults hold
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where devices connect, in the place of all [[listener]]; may be given several times; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_address)]
    pub listen: Vec<SocketAddr>,

    /// Kafka brokers to start from; with no cluster in the file, Kafka takes the place of the embedded log
    #[arg(long, value_name = "HOST:PORT[,...]", value_parser = non_empty)]
    pub kafka: Option<String>,

    /// Run the embedded log, at this address
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_address)]
    pub embedded: Option<SocketAddr>,

    /// Where health and metrics are served, or `off`
    #[arg(long, value_name = "ADDRESS", value_parser = control)]
    pub control: Option<ControlBind>,

    /// Directory for all that is kept on disk
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Number of shards; 0 takes one for each core that the process may use
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=1_024))]
    pub shards: Option<u16>,

    /// Do not pin shards to cores
    #[arg(long)]
    pub no_pin: bool,

    /// Lines for people or for programs
    #[arg(long, value_name = "FORMAT", value_parser = log_format())]
    pub log_format: Option<LogFormat>,

    /// The least severe level that is logged
    #[arg(long, value_name = "LEVEL", value_parser = log_level())]
    pub log_level: Option<LogLevel>,
}

/// Value of `--control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlBind {
    /// No control plane.
    Off,
    /// Its address.
    At(SocketAddr),
}

/// Reads the process's command line. Help, version and wrong usage are answered here, and end the process (0 or 2).
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
        self.command.unwrap_or(Command::Run(self.run))
    }
}

impl RunArgs {
    /// The configuration: the file or the defaults, with these options in their places.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the options.
    pub fn load(&self) -> Result<Config, Problems> {
        config::load_with(self.config.as_deref(), &self.overrides())
    }

    /// The options as what they put in the place of the file's values.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            shards: self.shards.map(usize::from),
            pin: self.no_pin.then_some(false),
            listen: self.listen.clone(),
            control: self.control.map(|control| match control {
                ControlBind::Off => None,
                ControlBind::At(address) => Some(address),
            }),
            kafka: self.kafka.clone(),
            embedded: self.embedded,
            log_format: self.log_format,
            log_level: self.log_level,
            environment: config::environment(),
        }
    }
}

fn control(text: &str) -> Result<ControlBind, String> {
    if text == "off" { Ok(ControlBind::Off) } else { config::parse_address(text).map(ControlBind::At) }
}

fn non_empty(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("give at least one broker, as in 127.0.0.1:9092".to_owned()) } else { Ok(text.to_owned()) }
}

fn log_format() -> impl TypedValueParser<Value = LogFormat> {
    PossibleValuesParser::new(["text", "json"])
        .map(|word| if word == "json" { LogFormat::Json } else { LogFormat::Text })
}

fn log_level() -> impl TypedValueParser<Value = LogLevel> {
    const LEVELS: [LogLevel; 5] = [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
    PossibleValuesParser::new(LEVELS.map(LogLevel::as_str))
        .map(|word| LEVELS.into_iter().find(|level| level.as_str() == word).unwrap_or(LogLevel::Info))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    fn run(line: &str) -> RunArgs {
        match parse_from(line.split(' ')).expect(line) {
            Command::Run(args) => args,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn the_document_has_every_option_and_status() {
        let document = include_str!("../../docs/CONFIGURATION.md");
        let whole = definition();
        let create = whole.find_subcommand("topics").and_then(|topics| topics.find_subcommand("create"));
        let inspect = whole.find_subcommand("spool").and_then(|spool| spool.find_subcommand("inspect"));
        for command in [create, inspect, whole.find_subcommand("sinks"), whole.find_subcommand("events")] {
            for option in command.expect("a command").get_arguments().filter_map(|option| option.get_long()) {
                assert!(document.contains(&format!("`--{option}")), "--{option}");
            }
        }
        for option in definition().get_arguments().filter_map(|option| option.get_long()) {
            assert!(["help", "version"].contains(&option) || document.contains(&format!("`--{option}")), "--{option}");
        }
        for status in [crate::cli::EXIT_DONE, crate::cli::EXIT_FAILED, crate::cli::EXIT_USAGE] {
            assert!(document.contains(&format!("| {status} | ")), "{status}");
        }
    }

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn bare_means_run() {
        assert_eq!(run("forebay"), RunArgs::default());
        assert_eq!(run("forebay run"), RunArgs::default());
        assert_eq!(run("forebay --config a.toml"), run("forebay run -c a.toml"));
        assert_eq!(run("forebay").overrides(), Overrides::default());
    }

    #[test]
    fn every_option_reaches_the_configuration() {
        let line = "forebay --listen 127.0.0.1:0 --listen [::1]:1 --kafka a:1,b:2 --embedded 127.0.0.1:2 --control off \
                    --data-dir /d --shards 3 --no-pin --log-format json --log-level warn";
        let args = run(&line.split_whitespace().collect::<Vec<_>>().join(" "));
        let config = args.load().expect("good options");
        assert_eq!(config.listeners.iter().map(|l| l.bind.to_string()).collect::<Vec<_>>(), ["127.0.0.1:0", "[::1]:1"]);
        assert_eq!(
            config.clusters.iter().map(|c| c.bootstrap.join(" ")).collect::<Vec<_>>(),
            ["a:1 b:2", "127.0.0.1:2"]
        );
        assert_eq!(config.embedded.expect("asked for").dir, PathBuf::from("/d/log"));
        assert_eq!((config.control.bind, config.service.shards, config.service.pin), (None, 3, false));
        assert_eq!((config.log.format, config.log.level), (LogFormat::Json, LogLevel::Warn));
        let control = run("forebay --control 127.0.0.1:9").load().unwrap().control;
        assert_eq!((control.bind.unwrap().port(), control.moved_by.as_str()), (9, "--control"));
    }

    #[test]
    fn wrong_usage_ends_with_two_and_help_with_none() {
        for (line, kind, code) in [
            ("forebay --listen localhost:1883", ErrorKind::ValueValidation, EXIT_USAGE_I32),
            ("forebay --shards 1025", ErrorKind::ValueValidation, EXIT_USAGE_I32),
            ("forebay --log-level loud", ErrorKind::InvalidValue, EXIT_USAGE_I32),
            ("forebay --confg a", ErrorKind::UnknownArgument, EXIT_USAGE_I32),
            ("forebay walk", ErrorKind::InvalidSubcommand, EXIT_USAGE_I32),
            ("forebay topics create --partitions 0", ErrorKind::ValueValidation, EXIT_USAGE_I32),
            ("forebay check --listen 127.0.0.1:0", ErrorKind::UnknownArgument, EXIT_USAGE_I32),
            ("forebay spool inspect", ErrorKind::MissingRequiredArgument, EXIT_USAGE_I32),
            ("forebay spool inspect /d --repair", ErrorKind::UnknownArgument, EXIT_USAGE_I32),
            ("forebay spool inspect --help", ErrorKind::DisplayHelp, 0),
            ("forebay --help", ErrorKind::DisplayHelp, 0),
            ("forebay run --help", ErrorKind::DisplayHelp, 0),
            ("forebay --version", ErrorKind::DisplayVersion, 0),
        ] {
            let error = parse_from(line.split(' ')).expect_err(line);
            assert_eq!((error.kind(), error.exit_code()), (kind, code), "{line}: {error}");
        }
    }

    const EXIT_USAGE_I32: i32 = crate::cli::EXIT_USAGE as i32;

    #[test]
    fn help_teaches() {
        let help = definition().render_long_help().to_string();
        for word in ["forebay --kafka", "kcat", "Exit status:", "docs/CONFIGURATION.md", "SIGTERM", "--data-dir"] {
            assert!(help.contains(word), "{word}\n{help}");
        }
    }
}
