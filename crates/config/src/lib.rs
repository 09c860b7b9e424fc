//! Turns the configuration file into checked settings, once, before anything is started.
//!
//! The text is parsed into a tree with the position of every value; [`resolve`] walks it with the table of [`keys`], and returns a
//! [`Config`] in which everything is checked and every default filled in. All problems are found in one pass, each with file, line,
//! key and hint. Without a file the same walk runs over an empty one, so the defaults are defined once. Environment variables are
//! put into the tree before the walk ([`environment`]).

#![forbid(unsafe_code)]

mod auth;
mod bindings;
mod binds;
mod bridges;
mod broker;
mod change;
mod circles;
mod clusters;
mod dapr;
mod data_dir_id;
mod dead_letters;
mod edit;
mod environment;
mod example;
mod files;
mod identity;
mod jaas;
mod java;
mod jwt;
mod kafka_names;
mod keys;
mod logins;
mod names_of_others;
mod other_properties;
mod outgoing_tls;
mod overridden;
mod password;
mod problem;
mod reader;
mod reference;
mod republish;
mod resolve;
mod resolved;
mod rows;
mod rules;
mod sasl;
mod schema;
mod setting;
mod sinks;
mod sources;
mod spool;
mod telemetry;
mod tls;
mod toml_fault;
mod units;
mod values;
mod warnings;
mod ws;
pub mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use bindings::{Bindings, Moved};
pub use broker::NAME as BROKER;
pub use change::{Change, LISTENER_PLACES_MAX};
pub use clusters::reachable;
pub use data_dir_id::DataDirId;
pub use edit::Met;
pub use edit::{Edit, Part, To, keys_as_text};
pub use environment::{FILE_VARIABLE, TOKEN_VARIABLE};
pub use example::{AS_IN_EMQX, AS_IN_TBMQ, example};
pub use files::{Named, not_allowed, not_allowed_in, of_machine};
pub use identity::Identity;
pub use overridden::Beside;
pub use problem::{Problem, Problems};
pub use reference::reference;
pub use republish::USER_PROPERTIES_OF_MESSAGE;
pub use resolved::{
    Acknowledge, ApiAccess, Append, Bridge, BridgeIn, BridgeOut, Broker, BrokerLink, BrokerRoute, Buffer, Choice,
    Cluster, Compression, Config, Control, Dapr, DeadLetters, DeadLettersFile, Delivery, Embedded, Fed, Feed,
    Isolation, LinkFiles, Listener, Log, LogFormat, LogLevel, MessageProperty, Mqtt, NoSubscriber, OfBroker,
    OffsetReset, OnBadBatch, OnBadRecord, OnError, OnRefuse, Partitioner, Republish, Retained, Rule, Sasl, Service,
    ShareStrategy, Sink, Source, Spool, Times, Topics, Transport, ValueFormat, WhenFull, Wide,
};
pub use schema::schema;
pub use setting::{Shown, rewrite_templates};
pub use units::duration_of;
pub use values::{parse_address, place_in_log};

use forebay_rule::around::Environment;
use forebay_rule::template::ENVIRONMENT_PREFIX;

/// The name under which sinks know the embedded log.
pub const EMBEDDED: &str = "embedded";
/// The most listeners. Each shard accepts on each of them; a higher number is a mistake, not a plan.
pub const LISTENERS_MAX: usize = 64;
/// The most sinks: their number is a `u16`, of which half are for rules.
pub const SINKS_MAX: usize = 32_767;
/// The most rules that a process may have had.
pub const RULES_MAX: usize = 1_000;
/// The most sources that a process may have had.
pub const SOURCES_MAX: usize = 1_024;
/// The most bridges that a process may have had.
pub const BRIDGES_MAX: usize = 256;
/// The most Kafka clusters.
pub const CLUSTERS_MAX: usize = 1_024;
/// The most `[auth.NAME]`.
pub const AUTHS_MAX: usize = 1_024;
/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: usize = 16 << 20;
/// The path for standard input.
const STANDARD_INPUT: &str = "-";

/// Values of the command line that take the place of the file's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--data-dir`: `service.data_dir`.
    pub data_dir: Option<PathBuf>,
    /// `--shards`: `service.shards`.
    pub shards: Option<usize>,
    /// `--no-pin`: `service.pin`.
    pub pin: Option<bool>,
    /// `--listen`: all listeners; empty: as the file has them.
    pub listen: Vec<SocketAddr>,
    /// `--open`: with `--listen`, everyone may connect to an address that other machines can reach.
    pub open: bool,
    /// `--control`: `control.bind`; `Some(None)` is `off`.
    pub control: Option<Option<SocketAddr>>,
    /// `--kafka`: `bootstrap` of the only cluster; where there is none yet, one named `main` in the place of the
    /// embedded log.
    pub kafka: Option<String>,
    /// `--embedded`: `embedded.bind`; turns the embedded log on.
    pub embedded: Option<SocketAddr>,
    /// `--components`: `dapr.components`.
    pub components: Option<PathBuf>,
    /// Components that a sidecar of Dapr has brought since the start; no option has them.
    pub brought: Vec<forebay_dapr::Brought>,
    /// `--log-format`: `log.format`.
    pub log_format: Option<LogFormat>,
    /// `--log-level`: `log.level`.
    pub log_level: Option<LogLevel>,
    /// The values of `${env.NAME}`, names without `FOREBAY_VAR_`: see [`environment`].
    pub environment: BTreeMap<String, String>,
    /// The variables that rules read by `getenv`.
    pub variables: Environment,
    /// The properties of this process that client IDs of bridges may contain.
    pub identity: Identity,
}

impl Overrides {
    /// The inputs of this process, without any of a command line.
    #[must_use]
    pub fn of_process() -> Self {
        let readable =
            |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        let variables = Environment::of(std::env::vars_os().filter_map(readable));
        Self { environment: environment(), variables, identity: Identity::of_process(), ..Self::default() }
    }
}

/// Variables of this process's environment that templates may read: those that begin with `FOREBAY_VAR_` and are UTF-8.
#[must_use]
pub fn environment() -> BTreeMap<String, String> {
    let readable = |(name, value): (OsString, OsString)| {
        let name = name.to_str()?.strip_prefix(ENVIRONMENT_PREFIX)?.to_owned();
        Some((name, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(readable).collect()
}

impl Config {
    /// The configuration without a file: MQTT on 127.0.0.1:1883, control on 127.0.0.1:8080, the embedded log on 127.0.0.1:9092, data below
    /// `./forebay-data`, one sink that takes `#` to the Kafka topic `mqtt-messages`.
    ///
    /// # Panics
    /// The function never panics: the defaults fit each other, whatever the machine.
    #[must_use]
    pub fn default_no_file() -> Self {
        let resolved = parse("", "defaults");
        resolved.expect("the defaults go together on any number of cores: a test tries them")
    }
}

/// Reads a file.
///
/// # Errors
/// All problems of the file.
pub fn load(path: &Path) -> Result<Config, Problems> {
    load_with(Some(path), &Overrides::of_process())
}

/// Reads standard input to its end, or one byte more than is allowed.
fn standard_input() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The name of the text in messages.
    pub name: String,
    /// The text of the file; empty if there is no file.
    pub text: String,
}

impl Text {
    /// The configuration of the text, with the values of the environment (`FOREBAY_…`) and then those of the command line in its
    /// place.
    ///
    /// # Errors
    /// All problems of the text and of these values.
    pub fn resolve(&self, overrides: &Overrides) -> Result<Config, Problems> {
        parse_all(&self.text, &self.name, &environment::read(), None, overrides, cores())
    }

    /// The configuration while the service runs: the indexes of variables keep the meaning that they had when the process started.
    ///
    /// # Errors
    /// All problems of the text and of these values.
    pub fn resolve_since(&self, overrides: &Overrides, start: &Bindings) -> Result<Config, Problems> {
        parse_all(&self.text, &self.name, &environment::read(), Some(start), overrides, cores())
    }
}

/// Reads a file (`-`: standard input), or takes the defaults, and puts the values of the environment (`FOREBAY_…`) and then those of the
/// command line in their places.
///
/// # Errors
/// All problems of the file and of these values.
pub fn load_with(path: Option<&Path>, overrides: &Overrides) -> Result<Config, Problems> {
    read(path)?.resolve(overrides)
}

/// Reads a file (`-`: standard input); an empty text, where there is none.
///
/// # Errors
/// The file cannot be read, is too large or is not UTF-8.
pub fn read(path: Option<&Path>) -> Result<Text, Problems> {
    let Some(path) = path else { return Ok(Text { name: "defaults".to_owned(), text: String::new() }) };
    let file = if path == Path::new(STANDARD_INPUT) { "standard input".to_owned() } else { path.display().to_string() };
    let whole = |what: String, hint: Option<&str>| {
        let hint = hint.map(str::to_owned);
        Problems(vec![Problem { file: file.clone(), line: 0, column: 0, key: String::new(), what, hint }])
    };
    let read = if path == Path::new(STANDARD_INPUT) { standard_input() } else { std::fs::read(path) };
    let bytes = read.map_err(|error| {
        let hint = "--config or FOREBAY_CONFIG names the file; without either Forebay runs on its defaults";
        whole(format!("cannot be read: {error}"), Some(hint))
    })?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(whole(format!("has {} bytes; a configuration has at most {FILE_BYTES_MAX}", bytes.len()), None));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|byte| **byte == b'\n').count() + 1;
        whole(format!("is not UTF-8, from line {line} on"), None)
    })?;
    Ok(Text { name: file, text })
}

/// Reads a configuration from text, with an empty environment; `file` is its name in messages.
///
/// # Errors
/// All problems of the text.
pub fn parse(text: &str, file: &str) -> Result<Config, Problems> {
    parse_with(text, file, &Overrides::default(), cores())
}

/// Reads a configuration for a machine on which the process may use `cores` cores.
fn parse_with(text: &str, file: &str, overrides: &Overrides, cores: usize) -> Result<Config, Problems> {
    parse_all(text, file, &[], None, overrides, cores)
}

/// Reads a configuration with variables of an environment.
fn parse_all(
    text: &str,
    file: &str,
    variables: &[environment::Variable],
    bindings: Option<&Bindings>,
    overrides: &Overrides,
    cores: usize,
) -> Result<Config, Problems> {
    let mut source = reader::Source::new(file, text);
    let (mut tree, errors) = toml::de::DeTable::parse_recoverable(text);
    if errors.is_empty() {
        java::translate(tree.get_mut(), &source);
        environment::merge(tree.get_mut(), variables, bindings, &mut source);
        other_properties::translate(tree.get_mut(), &source);
    }
    // The parser's guess at a broken file would only give problems that are none: they wait for the next run.
    let config =
        if errors.is_empty() { Some(resolve::resolve(&source, tree.get_ref(), overrides, cores)) } else { None };
    let form = names_of_others::form(text).filter(|_| !errors.is_empty());
    if let Some((form, hint)) = form {
        let spot = reader::Spot { path: String::new(), span: errors[0].span().unwrap_or(0..0) };
        source.report(&spot, problem::Fault::new(format!("this is {form}; a configuration is TOML")).hint(hint));
    }
    for error in errors.into_iter().filter(|_| form.is_none()) {
        let span = error.span().unwrap_or(text.len()..text.len());
        let spot = reader::Spot { path: String::new(), span };
        source.report(&spot, toml_fault::explain(text, &spot.span, error.message()));
    }
    let (problems, warnings) = source.into_problems();
    match config {
        Some(config) if problems.0.is_empty() => Ok(Config { warnings, ..config }),
        _ => Err(problems),
    }
}

/// Cores that the process may use: its affinity, and a container's quota where that is less.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
