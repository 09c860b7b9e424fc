//! Options of the command line for the target, the generator, and the watched processes.

use anyhow::Context;
use clap::Args;

use crate::load::Terms;
use crate::load::endpoint::{self, Endpoints};
use crate::transport;

/// See the module.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The broker: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub(crate) target: String,
    /// Its name in reports.
    #[arg(long, default_value = "server")]
    pub(crate) name: String,
    /// Process whose CPU, memory and switches are taken: PID or NAME=PID; may be given several times.
    #[arg(long)]
    pub(crate) pid: Vec<String>,
    /// Count the processes' system calls with perf (needs root or a low kernel.perf_event_paranoid).
    #[arg(long)]
    pub(crate) system_calls: bool,
    /// Generator threads.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// CPU of each generator thread, separated by commas; without it they run anywhere.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
    #[command(flatten)]
    transport: transport::Settings,
    /// Where groups with a `transport` of their own connect: KIND=HOST:PORT, with KIND tcp, tls, ws or wss (and /PATH for the last
    /// two, if it is not /mqtt); may be given several times.
    #[arg(long, value_name = "KIND=HOST:PORT")]
    listener: Vec<String>,
}

impl Target {
    /// # Errors
    /// A name that cannot be resolved, a missing process, files that cannot be read.
    pub(crate) fn terms(&self) -> anyhow::Result<Terms> {
        let mut watched = Vec::new();
        for text in &self.pid {
            let (name, pid) = text.split_once('=').unwrap_or((&self.name, text));
            let pid = pid.parse().with_context(|| format!("--pid {text}: expected PID or NAME=PID"))?;
            watched.push((name.to_owned(), pid));
        }
        Ok(Terms {
            endpoints: self.endpoints()?,
            target_name: self.name.clone(),
            threads: self.threads,
            cpus: self.cpus.clone(),
            watched,
            system_calls: self.system_calls,
            progress: true,
            told: false,
            run: crate::load::new_run(),
            epoch: None,
        })
    }

    fn endpoints(&self) -> anyhow::Result<Endpoints> {
        let target = self.transport.endpoint(self.transport.kind(), &self.target, self.transport.path());
        let mut endpoints = Endpoints { target: target.context("--target")?, by_kind: Vec::new() };
        for text in &self.listener {
            let (kind, authority, path) = endpoint::parse(text)?;
            let at = self.transport.endpoint(kind, &authority, &path);
            endpoints.by_kind.push((kind, at.with_context(|| format!("--listener {text}"))?));
        }
        Ok(endpoints)
    }
}
