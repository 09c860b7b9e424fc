//! `run`: a scenario file, or a pattern, against one target. `pub`, `sub` and `connect`: a scenario from the command line.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;

use crate::load::scenario::{Contents, Group, QosMix, Role, Scenario};
use crate::load::span::Span;
use crate::load::{self, Finished};
use crate::outcome::Outcome;
use crate::patterns::Pattern;
use crate::target::Target;
use crate::{html, kafka, summary};

/// A scenario.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// Scenario file, such as bench/scenarios/fan-in.toml.
    #[arg(required_unless_present = "pattern")]
    scenario: Option<PathBuf>,
    /// A pattern instead (docs/BENCHMARKS.md).
    #[arg(long, conflicts_with = "scenario")]
    pattern: Option<Pattern>,
    /// Multiplies the messages of a pattern.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Instead of the scenario's duration: 30s, 2m.
    #[arg(long, value_parser = Span::parse)]
    duration: Option<Span>,
    /// Multiplies the rates of all groups.
    #[arg(long, default_value_t = 1.0)]
    rate_factor: f64,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    kafka: kafka::Settings,
}

/// Where results go.
#[derive(Args, Clone, Debug)]
pub(crate) struct Output {
    /// Write the result as JSON (bench/README.md documents it).
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a report: one HTML file that needs nothing else.
    #[arg(long)]
    html: Option<PathBuf>,
    /// No progress while it runs.
    #[arg(long)]
    quiet: bool,
}

/// Clients of one kind.
#[derive(Args, Clone, Debug)]
pub(crate) struct One {
    /// Clients.
    #[arg(long, short = 'c', default_value_t = 100)]
    clients: u32,
    /// QoS: 0, 1, 2, or weights such as 1:2:1.
    #[arg(long, short, default_value = "0")]
    qos: String,
    /// Topic or filter; {client} is the client's number.
    #[arg(long, short, default_value = "bench/{client}")]
    topic: String,
    /// Payload bytes.
    #[arg(long, short, default_value_t = 100)]
    size: usize,
    /// Messages (or connects) a second, all clients together; 0: as fast as it goes.
    #[arg(long, short, default_value_t = 0.0)]
    rate: f64,
    /// Messages of all clients together; 0: until the duration is over.
    #[arg(long, short, default_value_t = 0)]
    messages: u64,
    /// Most unanswered messages of a client.
    #[arg(long, short, default_value_t = 64)]
    window: u16,
    /// Messages in each write.
    #[arg(long, default_value_t = 1)]
    per_write: u16,
    /// MQTT 5.0 instead of 3.1.1.
    #[arg(long, short = 'V')]
    v5: bool,
    /// Keep-alive in seconds.
    #[arg(long, short, default_value_t = 60)]
    keep_alive: u16,
    /// New connections a second; 0: as fast as they are accepted.
    #[arg(long, default_value_t = 0.0)]
    connect_rate: f64,
    /// Measured time.
    #[arg(long, short, default_value = "10s", value_parser = Span::parse)]
    duration: Span,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    output: Output,
}

impl One {
    /// Runs the scenario. `false`: the verdict is bad.
    ///
    /// # Errors
    /// As [`load::run`].
    pub(crate) fn run(self, role: Role) -> anyhow::Result<bool> {
        let name = match role {
            Role::Publish => "publish",
            Role::Subscribe => "subscribe",
            Role::Idle => "idle",
            Role::Connect => "connect",
        };
        let contents = if self.size < crate::flow::payload::BYTES_MIN { Contents::Zeros } else { Contents::Numbered };
        let group = Group {
            name: name.into(),
            role,
            clients: self.clients,
            connect_rate: self.connect_rate,
            version: if self.v5 { 5 } else { 4 },
            qos: QosMix::parse(&self.qos),
            topic: self.topic,
            payload: self.size,
            contents,
            rate: self.rate,
            window: self.window.max(self.per_write),
            per_write: self.per_write,
            messages: self.messages,
            keep_alive: self.keep_alive,
            ..Group::default()
        };
        let (duration, warmup, drain) = (self.duration, Span::default(), Span::seconds(10));
        let mut scenario =
            Scenario { name: name.into(), description: String::new(), duration, warmup, drain, groups: vec![group] };
        scenario.check()?;
        let mut terms = self.target.terms()?;
        terms.progress = !self.output.quiet;
        let finished = load::run(&scenario, terms)?;
        self.output.write(&finished.outcome)
    }
}

/// Runs the scenario. `false`: the verdict is bad.
///
/// # Errors
/// As [`load::run`]; files that cannot be read or written.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<bool> {
    let mut scenario = match (&settings.scenario, settings.pattern) {
        (Some(path), _) => Scenario::read(path)?,
        (None, pattern) => pattern.context("a scenario or --pattern")?.scenario(settings.scale),
    };
    scenario.duration = settings.duration.unwrap_or(scenario.duration);
    scenario.groups.iter_mut().for_each(|group| group.rate *= settings.rate_factor);
    let mut terms = settings.target.terms()?;
    terms.progress = !settings.output.quiet;
    let judging = kafka::Judging::begin(&settings.kafka, &scenario, &mut terms)?;
    let mut finished = load::run(&scenario, terms)?;
    if let Some(judging) = judging {
        judging.end(&scenario, &mut finished)?;
    }
    let Finished { outcome, .. } = finished;
    settings.output.write(&outcome)
}

impl Output {
    fn write(&self, outcome: &Outcome) -> anyhow::Result<bool> {
        print!("{}", summary::text(outcome));
        if let Some(path) = &self.json {
            write(path, &serde_json::to_string_pretty(outcome)?)?;
        }
        if let Some(path) = &self.html {
            write(path, &html::page(std::slice::from_ref(outcome), None))?;
        }
        Ok(outcome.verdict.passed)
    }
}

/// Writes a file and names it in errors.
pub(crate) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
