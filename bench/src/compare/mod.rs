//! `compare`: rounds of several servers in turn, beside a floor that is measured in the same rounds. Ratios to the floor carry
//! over to another machine; absolute figures do not.

mod results;
pub(crate) mod servers;

use std::path::PathBuf;

use anyhow::bail;
use clap::Args;

use crate::load::endpoint::Endpoints;
use crate::load::scenario::Scenario;
use crate::load::{self, Terms};
use crate::outcome::Outcome;
use crate::patterns::Pattern;
use crate::{html, run, transport};
pub(crate) use results::Comparison;
use results::{PatternResult, TargetResult};
use servers::{Behind, Entry, Server};

/// Name of the floor among the servers.
const FLOOR: &str = "floor";

/// See the module.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// A server that runs: NAME=HOST:PORT@PID; may be given several times.
    #[arg(long, value_name = "NAME=HOST:PORT@PID")]
    server: Vec<String>,
    /// A server to start: NAME=HOST:PORT=COMMAND; the command must stay in the foreground.
    #[arg(long, value_name = "NAME=HOST:PORT=COMMAND")]
    start: Vec<String>,
    /// Forebay to start, with a Kafka that answers and throws away behind it: the program.
    #[arg(long, value_name = "PROGRAM")]
    forebay: Option<PathBuf>,
    /// What Forebay waits for before it answers: replicated, leader or received.
    #[arg(long, default_value = "replicated", requires = "forebay")]
    acknowledge: String,
    /// Forebay a second time, with subscribers only: no sink, as other brokers have none.
    #[arg(long, requires = "forebay")]
    broker: bool,
    /// Forebay once more, without a sink and with a disk buffer for messages to kept sessions.
    #[arg(long, requires = "forebay")]
    spool: bool,
    #[command(flatten)]
    transport: transport::Settings,
    /// With --forebay and --tls: PEM file of the certificate that it shows.
    #[arg(long, requires = "forebay_key")]
    forebay_certificate: Option<PathBuf>,
    /// PEM file of its private key.
    #[arg(long, requires = "forebay_certificate")]
    forebay_key: Option<PathBuf>,
    /// Patterns (docs/BENCHMARKS.md).
    #[arg(long, value_delimiter = ',', default_values = ["A", "B", "C"])]
    patterns: Vec<Pattern>,
    /// Rounds of each server and pattern.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Multiplies the messages of each round.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// CPU of the servers that are started here, the floor among them.
    #[arg(long)]
    server_cpu: Option<usize>,
    /// CPU of the generator.
    #[arg(long)]
    cpu: Option<usize>,
    /// Leave the floor out; then there are no ratios.
    #[arg(long)]
    no_floor: bool,
    /// Count system calls with perf; costs a little time in every round.
    #[arg(long)]
    system_calls: bool,
    /// Write all rounds as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a report: one HTML file.
    #[arg(long)]
    html: Option<PathBuf>,
}

/// Runs all rounds. `false`: a server lost something, or the floor moved too much to judge.
///
/// # Errors
/// Servers that do not start, or the generator's errors.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<bool> {
    let mut servers = Vec::new();
    if !settings.no_floor {
        servers.push(Server::floor(settings.server_cpu)?);
    }
    for text in &settings.server {
        servers.push(Server::running(text, &settings.transport)?);
    }
    for text in &settings.start {
        servers.push(Server::start(text, &settings.transport, settings.server_cpu)?);
    }
    if let Some(program) = &settings.forebay {
        let (certificate, key) = (settings.forebay_certificate.as_deref(), settings.forebay_key.as_deref());
        let entry = Entry { transport: &settings.transport, certificate: certificate.zip(key) };
        let start = |name, behind| Server::forebay(name, program, behind, entry, settings.server_cpu);
        servers.push(start("forebay", Behind::Sink(&settings.acknowledge))?);
        if settings.broker {
            servers.push(start("forebay, no sink", Behind::Nothing)?);
        }
        if settings.spool {
            servers.push(start("forebay, spool", Behind::Spool)?);
        }
    }
    if servers.iter().all(|server| server.name == FLOOR) {
        bail!("nothing to compare: name a server with --server or --start");
    }
    let plan = Plan {
        patterns: settings.patterns.clone(),
        rounds: settings.rounds,
        scale: settings.scale,
        cpu: settings.cpu,
        system_calls: settings.system_calls,
    };
    let comparison = rounds(&servers, &plan)?;
    print!("{}", comparison.text());
    if let Some(path) = &settings.json {
        run::write(path, &serde_json::to_string_pretty(&comparison)?)?;
    }
    if let Some(path) = &settings.html {
        let best: Vec<Outcome> =
            comparison.patterns.iter().flat_map(|p| &p.targets).filter_map(|t| t.best.clone()).collect();
        run::write(path, &html::page(&best, Some(&comparison)))?;
    }
    Ok(comparison.trusted())
}

/// The measurement, apart from the servers.
pub(crate) struct Plan {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) rounds: usize,
    pub(crate) scale: f64,
    /// CPU of the generator.
    pub(crate) cpu: Option<usize>,
    pub(crate) system_calls: bool,
}

/// Runs rounds of all servers in turn, pattern by pattern.
///
/// # Errors
/// The generator's errors.
pub(crate) fn rounds(servers: &[Server], plan: &Plan) -> anyhow::Result<Comparison> {
    let mut comparison = Comparison::new(plan.rounds);
    for &pattern in &plan.patterns {
        let scenario = pattern.scenario(plan.scale);
        let mut outcomes: Vec<Vec<Outcome>> = servers.iter().map(|_| Vec::new()).collect();
        for number in 1..=plan.rounds {
            for (server, outcomes) in servers.iter().zip(&mut outcomes) {
                let outcome = round(server, &scenario, plan.cpu, plan.system_calls)?;
                let cpu_us = outcome.processes.first().map_or(0.0, |process| process.cpu_us_per_message);
                let (name, headline) = (&server.name, &outcome.verdict.headline);
                eprintln!("{} round {number}: {name:<12} {cpu_us:.3} µs a message, {headline}", pattern.name());
                outcomes.push(outcome);
            }
        }
        let targets = servers.iter().zip(outcomes).map(|(server, outcomes)| TargetResult::of(&server.name, outcomes));
        comparison.patterns.push(PatternResult::new(pattern, targets.collect()));
    }
    Ok(comparison)
}

/// Runs one round against one server.
///
/// # Errors
/// The generator's errors.
pub(crate) fn round(
    server: &Server,
    scenario: &Scenario,
    cpu: Option<usize>,
    system_calls: bool,
) -> anyhow::Result<Outcome> {
    let terms = Terms {
        endpoints: Endpoints::one(server.address, server.transport.clone()),
        target_name: server.name.clone(),
        threads: 1,
        cpus: cpu.into_iter().collect(),
        watched: vec![(server.name.clone(), server.pid)],
        system_calls,
        progress: false,
        told: false,
        run: load::new_run(),
        epoch: None,
    };
    Ok(load::run(scenario, terms)?.outcome)
}
