//! Options of `forebay run`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::{file, non_empty};
use forebay_base::limits::SHARDS_MAX;
use forebay_config::{self as config, Config, LogFormat, LogLevel, Overrides, Problems, Text};

/// Options of `forebay run`.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RunArgs {
    /// Configuration file (TOML), `-` for standard input; without it the defaults apply
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// MQTT address, instead of all [[listener]] sections; may be repeated; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_address)]
    pub listen: Vec<SocketAddr>,
    /// With --listen beyond loopback: everyone who reaches the address may connect
    #[arg(long, requires = "listen")]
    pub open: bool,

    /// Bootstrap brokers; without a cluster in the file, this replaces the embedded log
    #[arg(long, value_name = "HOST:PORT[,...]", value_parser = non_empty)]
    pub kafka: Option<String>,

    /// Run the embedded log at this address
    #[arg(long, value_name = "ADDRESS", value_parser = config::parse_address)]
    pub embedded: Option<SocketAddr>,

    /// Address for health, metrics and the API, or `off`
    #[arg(long, value_name = "ADDRESS", value_parser = control)]
    pub control: Option<ControlBind>,

    /// Data directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Number of shards; 0: one per available core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(0..=SHARDS_MAX as i64))]
    pub shards: Option<u16>,

    /// Do not pin shards to cores
    #[arg(long)]
    pub no_pin: bool,

    /// Dapr's component documents: a file, or a directory of YAML files
    #[arg(long, value_name = "PATH")]
    pub components: Option<PathBuf>,

    /// Log format
    #[arg(long, value_name = "FORMAT", value_parser = log_format())]
    pub log_format: Option<LogFormat>,

    /// Minimum level of log lines
    #[arg(long, value_name = "LEVEL", value_parser = log_level())]
    pub log_level: Option<LogLevel>,
}

/// Options of `forebay run` as a command: a file may be named without its option.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct RunFileArgs {
    /// Configuration file (TOML), the same as --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    file: Option<PathBuf>,

    #[command(flatten)]
    run: RunArgs,
}

impl From<RunArgs> for RunFileArgs {
    fn from(run: RunArgs) -> Self {
        Self { file: None, run }
    }
}

impl From<RunFileArgs> for RunArgs {
    fn from(RunFileArgs { file, run }: RunFileArgs) -> Self {
        Self { config: file.or(run.config), ..run }
    }
}

/// Value of `--control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlBind {
    /// Runs no control plane.
    Off,
    /// Serves the control plane at this address.
    At(SocketAddr),
}

impl RunArgs {
    /// The configuration: the file or the defaults, overridden by these options.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the options.
    pub fn load(&self) -> Result<Config, Problems> {
        self.load_text().map(|(config, _)| config)
    }

    /// The configuration, with the text that it was read from.
    ///
    /// # Errors
    /// Everything that is wrong with the file and the options.
    pub fn load_text(&self) -> Result<(Config, Text), Problems> {
        let text = config::read(self.file().as_deref())?;
        Ok((text.resolve(&self.overrides())?, text))
    }

    /// The configuration file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        file(self.config.as_ref())
    }

    /// Whether the file is standard input, which can be read once.
    #[must_use]
    pub fn reads_standard_input(&self) -> bool {
        self.file().is_some_and(|file| file == std::path::Path::new("-"))
    }

    /// The options as overrides of the file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            data_dir: self.data_dir.clone(),
            shards: self.shards.map(usize::from),
            pin: self.no_pin.then_some(false),
            listen: self.listen.clone(),
            open: self.open,
            control: self.control.map(|control| match control {
                ControlBind::Off => None,
                ControlBind::At(address) => Some(address),
            }),
            kafka: self.kafka.clone(),
            embedded: self.embedded,
            components: self.components.clone(),
            log_format: self.log_format,
            log_level: self.log_level,
            ..Overrides::of_process()
        }
    }
}

pub(super) fn control(text: &str) -> Result<ControlBind, String> {
    if text == "off" {
        return Ok(ControlBind::Off);
    }
    // The text may be an address as the service prints it, or as a browser has it.
    let address = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
    config::parse_address(address.strip_suffix('/').unwrap_or(address)).map(ControlBind::At)
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
