//! `kept`: kept sessions without their clients, their queued messages, and the delivery when the clients return.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};

use crate::load::scenario::{Contents, Group, QosMix, Role};
use crate::outcome::Outcome;
use crate::{classic, load, process, transport};

/// Clients subscribe and leave, messages are published, the clients return and take what waits for them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    target: SocketAddr,
    /// Process whose CPU and memory are read.
    #[arg(long)]
    pid: u32,
    /// Sessions.
    #[arg(long, default_value_t = 10_000)]
    sessions: u32,
    /// Clients that are connected at the same time, at most.
    #[arg(long, default_value_t = 10_000)]
    at_once: u32,
    /// Filters of each session; `{client}` is its number among those that are connected at the same time, `{group}` the number of
    /// these. Each filter after the first takes another connection.
    #[arg(long, default_value = "kept/all")]
    filter: Vec<String>,
    /// Messages of QoS 1 to be published while the clients are away; all sessions get all of them.
    #[arg(long, default_value_t = 0)]
    messages: u64,
    /// Where they are published.
    #[arg(long, default_value = "kept/all")]
    topic: String,
    /// Bytes of each.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    /// Longest time in which what waits for the clients that return at the same time has to come, seconds.
    #[arg(long, default_value_t = 60)]
    patience: u64,
    #[command(flatten)]
    transport: transport::Settings,
}

/// One phase: a duration, or until its messages are sent.
struct Phase<'a> {
    settings: &'a Settings,
    /// The mark, the same for all phases, so that clients have the same names.
    run: u32,
}

impl Phase<'_> {
    fn of(&self, group: Group, duration: Duration) -> anyhow::Result<Outcome> {
        let Settings { target, transport, pid, patience, .. } = self.settings;
        let spans = [duration, Duration::from_secs(*patience)];
        classic::run_as(self.run, group, spans, classic::endpoints(*target, transport)?, Some(*pid))
    }

    /// Each batch of sessions is a group of its own.
    fn subscribers(&self, batch: u32, filter: &str) -> Group {
        let before = batch * self.settings.at_once;
        Group {
            name: batch.to_string(),
            role: Role::Subscribe,
            clients: self.settings.at_once.min(self.settings.sessions - before),
            topic: filter.replace("{group}", &batch.to_string()),
            qos: QosMix::One(1),
            contents: Contents::Zeros,
            clean: false,
            keep_alive: 0,
            ..Group::default()
        }
    }
}

/// The reading of the process when it is idle: a message may have been answered before each queue has its copy.
fn at_rest(pid: u32) -> anyhow::Result<process::Reading> {
    let mut before = process::read(pid)?;
    for _ in 0..240 {
        std::thread::sleep(Duration::from_millis(500));
        let now = process::read(pid)?;
        if now.cpu_s - before.cpu_s < 0.02 {
            return Ok(now);
        }
        before = now;
    }
    bail!("the server is not idle two minutes after the last message was published")
}

/// # Errors
/// As [`load::run`]; missing deliveries.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Value> {
    let batches = settings.sessions.div_ceil(settings.at_once.max(1));
    let first = settings.filter.first().map_or("kept/all", String::as_str);
    // Each group has its own mark: its number in the scenario is always 0.
    let run = load::new_run();
    let phase = |batch: u32| Phase { settings, run: run.wrapping_add(batch) };
    let before = process::read(settings.pid)?;
    for batch in 0..batches {
        for filter in &settings.filter {
            phase(batch).of(phase(batch).subscribers(batch, filter), Duration::ZERO)?;
        }
    }
    let kept = process::read(settings.pid)?;
    if settings.messages > 0 {
        let publisher = Group {
            topic: settings.topic.clone(),
            qos: QosMix::One(1),
            messages: settings.messages,
            payload: settings.payload,
            contents: Contents::Zeros,
            keep_alive: 0,
            ..Group::default()
        };
        phase(batches).of(publisher, Duration::from_secs(600))?;
    }
    let waiting = at_rest(settings.pid)?;
    let (mut delivered, mut rss_max, mut wall_s) = (0, waiting.rss_bytes, 0.0);
    for batch in (0..batches).filter(|_| settings.messages > 0) {
        let group = phase(batch).subscribers(batch, first);
        let expected = u64::from(group.clients) * settings.messages;
        let began = Instant::now();
        let outcome = phase(batch).of(Group { messages: expected, ..group }, Duration::from_secs(settings.patience))?;
        if outcome.totals.received != expected {
            bail!("{} deliveries of {expected} in {} s", outcome.totals.received, settings.patience);
        }
        (delivered, wall_s) = (delivered + expected, wall_s + began.elapsed().as_secs_f64());
        rss_max = outcome.processes.iter().map(|process| process.rss_bytes_max).fold(rss_max, u64::max);
    }
    let end = process::read(settings.pid)?;
    let sessions = f64::from(settings.sessions);
    let each = |bytes: u64, of: u64| (of > 0).then(|| bytes as f64 / of as f64);
    Ok(json!({
        "job": "kept", "sessions": settings.sessions, "filters": settings.filter, "messages": settings.messages,
        "payload_bytes": settings.payload, "rss_bytes_before": before.rss_bytes, "rss_bytes_kept": kept.rss_bytes,
        "rss_bytes_per_session": kept.rss_bytes.saturating_sub(before.rss_bytes) as f64 / sessions,
        "cpu_us_per_session": (kept.cpu_s - before.cpu_s) * 1e6 / sessions,
        "rss_bytes_waiting": waiting.rss_bytes,
        "rss_bytes_per_copy": each(waiting.rss_bytes.saturating_sub(kept.rss_bytes), u64::from(settings.sessions) * settings.messages),
        "delivered": delivered, "deliveries_per_s": if wall_s > 0.0 { delivered as f64 / wall_s } else { 0.0 },
        "cpu_us_per_delivery": (delivered > 0).then(|| (end.cpu_s - waiting.cpu_s) * 1e6 / delivered as f64),
        "rss_bytes_max": rss_max, "rss_bytes_end": end.rss_bytes,
    }))
}
