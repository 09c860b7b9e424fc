//! The embedded log: a single-node Kafka-protocol log in the data directory, on an ordinary thread of its own.
//!
//! The log is for a machine without Kafka yet, for trials, and for a single edge device. It has no replication, no
//! transactions, no compaction, no TLS; `docs/EMBEDDED_LOG.md` explains the consequences.
//!
//! The path of a record: `connection` reads a request, `guard` checks its counts, `api/produce` has `batch` check the
//! batch and `partition` append it (`producers` detect a repeated batch), `sync` makes it durable together with all
//! others that arrived meanwhile. Only then is it answered, and visible to `api/fetch`. Files on disk: `segment`
//! (batches), `meta` (everything else), `recover` (both after a crash).
//!
//! Writes go to the page cache from the log's own thread, `fdatasync` is called on a second thread, and reads run on the
//! runtime's blocking threads, so the loop waits for no disk.

#![forbid(unsafe_code)]

mod api;
mod aside;
mod batch;
mod clock;
mod code;
mod connection;
mod counters;
mod damage;
mod disk;
#[doc(hidden)]
pub mod faults;
mod groups;
mod guard;
mod meta;
mod note;
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
pub use damage::Teller;
pub use settings::Settings;

use disk::{Disk, KernelDisk};
use forebay_base::in_use;
use meta::MetaError;
use server::{Start, Stop};

/// Why the embedded log could not start; each message says how to fix it.
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
    /// Another process uses the directory.
    #[error(
        "the embedded log's directory {} is in use by another process: stop that one, or give this one a directory of \
         its own with the key `service.data_dir`",
        .0.display()
    )]
    Locked(PathBuf),
    /// The directory cannot be read or written, or has files that this version did not write.
    #[error("the embedded log cannot use its directory: {0}")]
    Directory(String),
    /// A thread or its runtime could not be created.
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

/// A running log. Dropping it without [`EmbeddedLog::stop`] ends it at once, without a last sync: every answered batch
/// is on the disk even so.
#[derive(Debug)]
pub struct EmbeddedLog {
    local_addr: SocketAddr,
    counters: Arc<Counters>,
    stop: Option<oneshot::Sender<Stop>>,
    thread: Option<JoinHandle<()>>,
}

impl EmbeddedLog {
    /// Reads the directory, binds the address and serves requests. Returns when clients can connect.
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

    /// The address that the log listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The counters of the log, for `/metrics`.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Stops accepting connections, finishes requests in flight (within `stop_grace`), syncs, and waits for the log's
    /// threads.
    pub fn stop(mut self) {
        self.end(Stop::Graceful);
    }

    fn end(&mut self, how: Stop) {
        if let Some(stop) = self.stop.take() {
            // The thread may have ended by itself.
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
