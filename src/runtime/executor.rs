//! A thread per shard, glommio's executor on it, and our loop as the executor's main task.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use super::accept::Accepting;
use super::buffers::Buffers;
use super::core::Core;
use super::listen::Listener;
use super::mailbox::MailboxReceiver;
use super::park::park;
use super::ring::Ring;
use super::seam::Shard;
use super::turn::Turn;
use super::watchdog::Heartbeat;

/// Memory glommio registers for its own disk operations, which we do not use: its minimum (three rings pin it each,
/// and a memlock limit of 8 MiB must do for all shards).
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
/// Nothing of ours goes through glommio's rings.
const EXECUTOR_RING_DEPTH: usize = 32;

/// What the runtime can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many shards there are.
    pub shards: usize,
    /// The CPU of each shard; `None`: wherever the kernel likes.
    pub pin: Option<Vec<usize>>,
    /// Letters a shard's mailbox holds.
    pub mailbox_capacity: usize,
    /// Unsent bytes above which a connection is not read from until half of them have gone.
    pub out_bytes_max: usize,
    /// Submissions a ring holds (a power of two); it holds four times as many completions.
    pub ring_entries: u32,
    /// Receive buffers of 4 KiB per shard (a power of two).
    pub receive_buffers: u16,
    /// Devices are accepted while fewer descriptors than this are in use in the process; the rest is kept for
    /// connections to Kafka, segments and the control plane.
    pub device_descriptors_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            shards: 1,
            pin: None,
            mailbox_capacity: 16 * 1024,
            out_bytes_max: 1024 * 1024,
            ring_entries: 4096,
            receive_buffers: 1024,
            device_descriptors_max: u32::MAX,
        }
    }
}

/// A shard that runs.
pub struct ShardThread {
    thread: JoinHandle<io::Result<()>>,
    heartbeat: Arc<Heartbeat>,
}

impl fmt::Debug for ShardThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardThread").field("thread", &self.thread.thread().name()).finish()
    }
}

impl ShardThread {
    /// What it publishes about itself, for the watchdog.
    #[must_use]
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.heartbeat)
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end: [`Io::stop`](super::seam::Io::stop), or a failure of the ring.
    ///
    /// # Errors
    /// What made the loop end early, a panic included.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the shard panicked")))
    }
}

/// Starts shard `index` on a thread of its own. Returns when its executor and its ring stand; `make` then runs on that
/// thread, so a shard need not be `Send`.
///
/// # Errors
/// When executor or ring cannot be had: io_uring forbidden or too old (Linux 6.1 is needed), memlock limit, no such CPU.
pub fn spawn<S, F>(
    index: usize,
    settings: &Settings,
    listeners: Vec<Listener>,
    mailbox: MailboxReceiver<S::Mail>,
    make: F,
) -> io::Result<ShardThread>
where
    S: Shard + 'static,
    F: FnOnce(usize) -> S + Send + 'static,
{
    let settings = settings.clone();
    let heartbeat = Arc::new(Heartbeat::default());
    let published = Arc::clone(&heartbeat);
    let (ready, stands) = sync_channel(1);
    let thread = thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
        let executor = match executor(index, &settings) {
            Ok(executor) => executor,
            Err(error) => {
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        executor.run(async move {
            let build = || {
                let mut ring = Ring::new(settings.ring_entries)?;
                let buffers = Buffers::new(&mut ring, settings.receive_buffers)?;
                io::Result::Ok((ring, buffers))
            };
            let (ring, buffers) = match build() {
                Ok(built) => built,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Ok(());
                }
            };
            let _ = ready.send(Ok(()));
            let accepting = listeners.into_iter().map(Accepting::new).collect();
            let core = Core::new(index, &settings, ring, accepting, mailbox.post().clone());
            run(Turn::new(make(index), core, buffers, mailbox, published))
        })
    })?;
    match stands.recv() {
        Ok(Ok(())) => Ok(ShardThread { thread, heartbeat }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the shard's thread ended before it began")),
    }
}

fn run<S: Shard>(mut turn: Turn<S>) -> io::Result<()> {
    turn.start();
    loop {
        turn.run();
        if turn.core.stopping {
            return turn.core.ring.submit(0);
        }
        park(&mut turn)?;
    }
}

fn executor(index: usize, settings: &Settings) -> io::Result<LocalExecutor> {
    let placement = match &settings.pin {
        None => Placement::Unbound,
        Some(cpus) => {
            let missing = || io::Error::new(io::ErrorKind::InvalidInput, format!("no CPU is named for shard {index}"));
            Placement::Fixed(*cpus.get(index).ok_or_else(missing)?)
        }
    };
    LocalExecutorBuilder::new(placement)
        .io_memory(EXECUTOR_IO_BYTES)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .make()
        .map_err(io::Error::from)
}
