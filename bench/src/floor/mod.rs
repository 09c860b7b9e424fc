//! `floor`: the least work of a server, as a base for comparisons. One thread, one io_uring with multishot receive and provided
//! buffers; it parses no more than it must, acknowledges at once, builds Kafka record batches and writes them to a sink that
//! discards, or writes each message to every subscriber. It has no sessions, routes, access control or metrics.

mod batch;
mod protocol;
mod ring;

use std::net::{SocketAddr, TcpStream};

use anyhow::Context;
use clap::Args;

/// See the module.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// Where to listen for MQTT; port 0: any that is free.
    #[arg(long, default_value = "127.0.0.1:18830")]
    bind: SocketAddr,
    /// Where batches are written (`kafka-sink --discard`); without it they are built and dropped.
    #[arg(long)]
    sink: Option<SocketAddr>,
}

/// Serves until it is killed.
///
/// # Errors
/// A port that is taken, no sink, no io_uring.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    let sink = match settings.sink {
        Some(address) => Some(TcpStream::connect(address).with_context(|| format!("the sink at {address}"))?),
        None => None,
    };
    let listener = ring::listen(settings.bind)?;
    println!("floor listening on {}", listener.local_addr()?);
    ring::Server::new(listener, protocol::Protocol::new(batch::Batch::new(sink)))?.run()
}
