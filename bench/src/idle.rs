//! `idle`: connections that say nothing, and what they cost the process that holds them.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::device::connect;
use crate::process;

/// The load.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:1883")]
    target: SocketAddr,
    /// Process whose CPU and memory are read.
    #[arg(long)]
    pid: u32,
    /// Device connections.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Seconds of silence over which CPU is taken.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

/// Runs it.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<Value> {
    // A first round, so that tables that grow once are not charged to the connections.
    let first = connect(settings.target, "bench-idle-first", 0)?;
    std::thread::sleep(Duration::from_millis(500));
    let empty = process::read(settings.pid)?;
    let mut held = vec![first];
    for number in 0..settings.connections {
        held.push(connect(settings.target, &format!("bench-idle-{number}"), 0)?);
    }
    std::thread::sleep(Duration::from_secs(1));
    let full = process::read(settings.pid)?;
    std::thread::sleep(Duration::from_secs(settings.seconds));
    let later = process::read(settings.pid)?;
    let per_connection = later.rss_bytes.saturating_sub(empty.rss_bytes) as f64 / settings.connections as f64;
    Ok(json!({
        "job": "idle", "connections": settings.connections, "rss_bytes_before": empty.rss_bytes,
        "rss_bytes": later.rss_bytes, "rss_bytes_per_connection": per_connection,
        "connect_cpu_us": (full.cpu_s - empty.cpu_s) * 1e6 / settings.connections as f64,
        "idle_s": settings.seconds, "idle_cpu_s": later.cpu_s - full.cpu_s,
    }))
}
