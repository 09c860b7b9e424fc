//! The embedded log: a single-node Kafka-protocol log in the data directory, on an ordinary thread of its own.
//!
//! It is for a machine with no Kafka yet, for trying out, and for one edge box. It has no replication, no
//! transactions, no compaction, no TLS; `docs/EMBEDDED_LOG.md` says what that means.
//!
//! How a record gets in: `connection` reads a request, `guard` checks that its counts are true, `api/produce` has
//! `batch` check what was sent and `partition` append it (`producers` tell a batch sent again), `sync` puts it on the
//! disk with all others that came meanwhile, and only then it is answered, and visible to `api/fetch`.
//! What is on the disk: `segment` (batches), `meta` (everything else), `recover` (both after a crash).
//!
//! Writes go to the page cache from the log's own thread, `fdatasync` is called on a second thread, and reads run on the
//! runtime's blocking threads, so the loop waits for no disk.

mod api;
mod aside;
mod batch;
mod clock;
mod code;
mod connection;
mod counters;
mod disk;
#[doc(hidden)]
pub mod faults;
mod groups;
mod guard;
mod meta;
mod partition;
mod places;
mod producers;
mod read;
mod recover;
mod segment;
mod server;
mod settings;
mod shapes;
mod store;
mod sync;
#[cfg(test)]
mod tests;
mod topic_config;
mod waiters;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

pub use counters::Counters;
pub use settings::Settings;

use crate::in_use;
use disk::{Disk, KernelDisk};
use meta::MetaError;
use server::{Start, Stop};

/// Why the embedded log could not start; each with what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(
        "the embedded log cannot listen on {address}: {error}. Is a Kafka (or another instance) there? Then name it under \
         [kafka.main] `bootstrap`, or move the embedded log with the key `embedded.bind`"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The cause.
        error: io::Error,
    },
    /// Another process has the directory.
    #[error(
        "the embedded log's directory {} is in use by another process: stop that one, or give this one a directory of \
         its own with the key `service.data_dir`",
        .0.display()
    )]
    Locked(PathBuf),
    /// The directory cannot be read or written, or holds what was not written by this version.
    #[error("the embedded log cannot use its directory: {0}")]
    Directory(String),
    /// A thread or its runtime could not be made.
    #[error("the embedded log cannot run: {error}")]
    Thread {
        /// The cause.
        error: io::Error,
    },
}

impl From<MetaError> for StartError {
    fn from(error: MetaError) -> StartError {
        match error {
            MetaError::Locked(dir) => StartError::Locked(dir),
            other => StartError::Directory(other.to_string()),
        }
    }
}

/// A running log. Dropping it without [`EmbeddedLog::stop`] ends it at once, without a last sync: everything that was
/// answered is on the disk all the same.
#[derive(Debug)]
pub struct EmbeddedLog {
    local_addr: SocketAddr,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<Stop>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Reads the directory, binds the address and serves. Returns when clients can connect.
    pub fn start(settings: Settings) -> Result<EmbeddedLog, StartError> {
        EmbeddedLog::start_on(settings, Arc::new(KernelDisk))
    }

    fn start_on(settings: Settings, disk: Arc<dyn Disk>) -> Result<EmbeddedLog, StartError> {
        let bind = |error| StartError::Bind { address: settings.bind, error };
        let bound = in_use::wait(io::ErrorKind::AddrInUse, in_use::ATTEMPTS, || TcpListener::bind(settings.bind));
        let listener = bound.map_err(bind)?;
        listener.set_nonblocking(true).map_err(bind)?;
        let local_addr = listener.local_addr().map_err(bind)?;
        let counters = Arc::new(Counters::default());
        let (ready, is_ready) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let start = Start { settings, listener, counters: Arc::clone(&counters), disk, ready, stop: stopped };
        let thread = std::thread::Builder::new()
            .name("embedded-log".into())
            .spawn(move || server::run(start))
            .map_err(|error| StartError::Thread { error })?;
        let log = EmbeddedLog { local_addr, counters, stop: Some(stop), thread: Some(thread) };
        match is_ready.recv() {
            Ok(Ok(())) => Ok(log),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::Thread { error: io::Error::other("its thread ended at once") }),
        }
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What it has done; for `/metrics`.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Stops taking connections, finishes what is in flight (within `stop_grace`), syncs, and waits for its threads.
    pub fn stop(mut self) {
        self.end(Stop::Graceful);
    }

    fn end(&mut self, how: Stop) {
        if let Some(stop) = self.stop.take() {
            // It may have ended by itself.
            let _ = stop.send(how);
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the embedded log panicked");
        }
    }
}

impl Drop for EmbeddedLog {
    fn drop(&mut self) {
        self.end(Stop::Abrupt);
    }
}
