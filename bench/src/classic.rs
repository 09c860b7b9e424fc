//! `publish` and `idle`: fixed loads whose JSON other scripts read.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::load::endpoint::Endpoints;
use crate::load::scenario::{Group, LONG_KEEP_ALIVE_S, QosMix, Role, Scenario};
use crate::load::span::Span;
use crate::load::{self, Terms};
use crate::outcome::Outcome;
use crate::transport;

/// Patterns A to D: so many connections, so many messages a write, a window of unanswered ones.
#[derive(Args, Clone, Debug)]
pub(crate) struct Publish {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    target: SocketAddr,
    /// Process whose CPU and memory are read.
    #[arg(long)]
    pid: Option<u32>,
    /// Device connections.
    #[arg(long, default_value_t = 100)]
    connections: u32,
    /// Quality of service.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Messages in each write.
    #[arg(long, default_value_t = 16)]
    per_write: u16,
    /// Most messages unanswered on a connection.
    #[arg(long, default_value_t = 64)]
    window: u16,
    /// Messages in all.
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Payload in bytes (at least 40: what the message is judged by).
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// Topic; `{}` is the connection's number.
    #[arg(long, default_value = "dev/{}/telemetry")]
    topic: String,
    #[command(flatten)]
    transport: transport::Settings,
}

/// Connections that say nothing.
#[derive(Args, Clone, Debug)]
pub(crate) struct Idle {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    target: SocketAddr,
    /// Process whose CPU and memory are read.
    #[arg(long)]
    pid: u32,
    /// Device connections.
    #[arg(long, default_value_t = 10_000)]
    connections: u32,
    /// Seconds of silence over which CPU is taken.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    #[command(flatten)]
    transport: transport::Settings,
}

/// # Errors
/// As [`load::run`]; a verdict that is not good.
pub(crate) fn publish(settings: &Publish) -> anyhow::Result<Value> {
    let group = Group {
        name: "publishers".into(),
        clients: settings.connections,
        qos: QosMix::One(settings.qos),
        per_write: settings.per_write,
        window: settings.window,
        messages: settings.messages,
        payload: settings.payload,
        topic: settings.topic.replace("{}", "{client}"),
        keep_alive: LONG_KEEP_ALIVE_S,
        ..Group::default()
    };
    let outcome = run(group, Duration::from_secs(600), endpoints(settings.target, &settings.transport)?, settings.pid)?;
    let answers = outcome.latency.get("puback").or(outcome.latency.get("pubcomp")).cloned().unwrap_or_default();
    let process = outcome.processes.first();
    Ok(json!({
        "job": "publish", "connections": settings.connections, "qos": settings.qos, "per_write": settings.per_write,
        "window": settings.window, "payload_bytes": settings.payload, "messages": outcome.totals.sent,
        "wall_s": outcome.totals.wall_s, "messages_per_s": outcome.totals.sent_per_s, "answer_p50_us": answers.p50_us,
        "answer_p99_us": answers.p99_us, "answer_max_us": answers.max_us,
        "server_cpu_s": process.map(|p| p.cpu_s), "server_cpu_us_per_message": process.map(|p| p.cpu_us_per_message),
        "server_rss_bytes": process.map(|p| p.rss_bytes_end),
    }))
}

/// # Errors
/// As [`load::run`]; a verdict that is not good.
pub(crate) fn idle(settings: &Idle) -> anyhow::Result<Value> {
    let idle = |clients| Group { name: "idle".into(), role: Role::Idle, clients, keep_alive: 0, ..Group::default() };
    let endpoints = endpoints(settings.target, &settings.transport)?;
    // A run with one connection first, so that tables that grow once are not charged to the connections.
    run(idle(1), Duration::from_millis(500), endpoints.clone(), Some(settings.pid))?;
    let before = crate::process::read(settings.pid)?;
    let seconds = Duration::from_secs(settings.seconds);
    let outcome = run(idle(settings.connections), seconds, endpoints, Some(settings.pid))?;
    let Some(process) = outcome.processes.first() else { anyhow::bail!("no process was watched") };
    let end = crate::process::read(settings.pid)?;
    let connections = f64::from(settings.connections);
    Ok(json!({
        "job": "idle", "connections": settings.connections, "rss_bytes_before": before.rss_bytes,
        "rss_bytes": process.rss_bytes_end,
        "rss_bytes_per_connection": process.rss_bytes_end.saturating_sub(before.rss_bytes) as f64 / connections,
        "connect_cpu_us": (end.cpu_s - before.cpu_s - process.cpu_s) * 1e6 / connections,
        "idle_s": settings.seconds, "idle_cpu_s": process.cpu_s,
    }))
}

pub(crate) fn endpoints(target: SocketAddr, transport: &transport::Settings) -> anyhow::Result<Endpoints> {
    Ok(Endpoints::one(target, transport.to(&target.to_string())?))
}

fn run(group: Group, duration: Duration, endpoints: Endpoints, pid: Option<u32>) -> anyhow::Result<Outcome> {
    run_as(load::new_run(), group, [duration, Duration::from_secs(60)], endpoints, pid)
}

/// A scenario of one group. `run`: its mark; the same mark gives clients the same identifiers. Duration and drain.
///
/// # Errors
/// As [`load::run`]; a verdict that is not good.
pub(crate) fn run_as(
    run: u32,
    group: Group,
    [duration, drain]: [Duration; 2],
    endpoints: Endpoints,
    pid: Option<u32>,
) -> anyhow::Result<Outcome> {
    let scenario = Scenario {
        name: group.name.clone(),
        description: String::new(),
        duration: Span(duration),
        warmup: Span::default(),
        drain: Span(drain),
        groups: vec![group],
    };
    let terms = Terms {
        endpoints,
        target_name: "server".to_owned(),
        threads: 1,
        cpus: Vec::new(),
        watched: pid.map(|pid| ("server".to_owned(), pid)).into_iter().collect(),
        system_calls: false,
        progress: false,
        told: false,
        run,
        epoch: None,
    };
    let outcome = load::run(&scenario, terms)?.outcome;
    if outcome.verdict.passed { Ok(outcome) } else { anyhow::bail!("{}", outcome.verdict.headline) }
}
