//! A thread per shard, with our loop: with a ring as the main task of glommio's executor, which needs rings itself; otherwise
//! alone.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::accept::Accepting;
use super::buffers::Buffers;
use super::core::Core;
use super::driver::Driver;
use super::epoll::Epoll;
use super::listen::Listener;
use super::mailbox::MailboxReceiver;
use super::park::park;
use super::ring::Ring;
use super::seam::Shard;
use super::turn::Turn;
use super::watchdog::Heartbeat;
use forebay_base::in_use;

/// Memory that glommio registers for its own disk operations, which we do not use: its minimum (each of three rings pins it, and a
/// memlock limit of 8 MiB must suffice for all shards).
const EXECUTOR_IO_BYTES: usize = 64 * 1024;
/// The depth of glommio's rings, which no operation of ours uses.
const EXECUTOR_RING_DEPTH: usize = 32;

/// The interface by which shards do input and output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoDriver {
    /// An io_uring.
    Ring,
    /// Epoll, and ordinary threads for files.
    Epoll,
}

impl IoDriver {
    /// The word in the configuration and on pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Epoll => "epoll",
        }
    }
}

/// The settings of the runtime.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of shards.
    pub shards: usize,
    /// The CPU of each shard; `None`: wherever the kernel likes.
    pub pin: Option<Vec<usize>>,
    /// Letters a shard's mailbox holds.
    pub mailbox_capacity: usize,
    /// Unsent bytes above which a connection is not read until half of them have been sent.
    pub out_bytes_max: usize,
    /// The interface to the kernel.
    pub io: IoDriver,
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
            io: IoDriver::Ring,
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
    /// The values that the shard publishes about itself, for the watchdog.
    #[must_use]
    pub fn heartbeat(&self) -> Arc<Heartbeat> {
        Arc::clone(&self.heartbeat)
    }

    /// Whether the shard has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end: [`Io::stop`](super::seam::Io::stop), or a failure of the ring.
    ///
    /// # Errors
    /// The reason why the loop ended early, a panic included.
    pub fn join(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the shard panicked")))
    }
}

/// Starts shard `index` on a thread of its own. Returns when its executor and its driver are ready; `make` then runs on that
/// thread, so a shard need not be `Send`.
///
/// # Errors
/// The executor or the ring cannot be made: io_uring forbidden or too old (Linux 6.1 is needed), memlock limit, no such CPU;
/// without a ring only the last of these.
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
    let (settings, heartbeat) = (settings.clone(), Arc::new(Heartbeat::default()));
    let published = Arc::clone(&heartbeat);
    let (ready, stands) = sync_channel(1);
    let thread = thread::Builder::new().name(format!("shard-{index}")).spawn(move || match settings.io {
        IoDriver::Ring => match once_freed(|| executor(index, &settings)) {
            Ok(executor) => executor
                .run(async move { serve::<S, Ring, F>(index, &settings, listeners, mailbox, make, published, &ready) }),
            Err(error) => refuse(&ready, error),
        },
        IoDriver::Epoll => match pin(index, &settings) {
            Ok(()) => serve::<S, Epoll, F>(index, &settings, listeners, mailbox, make, published, &ready),
            Err(error) => refuse(&ready, error),
        },
    })?;
    match stands.recv() {
        Ok(Ok(())) => Ok(ShardThread { thread, heartbeat }),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::Error::other("the shard's thread ended before it began")),
    }
}

/// Makes something with locked memory, which has one bound for all processes of a user: the kernel frees that of an instance that
/// has ended some time after its end, in the background.
fn once_freed<T>(make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    in_use::wait(io::ErrorKind::OutOfMemory, in_use::ATTEMPTS, make)
}

/// Reports to the starting thread that the shard's thread cannot run.
fn refuse(ready: &SyncSender<io::Result<()>>, error: io::Error) -> io::Result<()> {
    let _ = ready.send(Err(error));
    Ok(())
}

/// The shard's life, on its thread.
fn serve<S, D, F>(
    index: usize,
    settings: &Settings,
    listeners: Vec<Listener>,
    mailbox: MailboxReceiver<S::Mail>,
    make: F,
    heartbeat: Arc<Heartbeat>,
    ready: &SyncSender<io::Result<()>>,
) -> io::Result<()>
where
    S: Shard,
    D: Driver,
    F: FnOnce(usize) -> S,
{
    let build = || {
        let mut driver = D::new(settings.ring_entries)?;
        let buffers = Buffers::new(&mut driver, settings.receive_buffers)?;
        io::Result::Ok((driver, buffers))
    };
    let (driver, buffers) = match once_freed(build) {
        Ok(built) => built,
        Err(error) => return refuse(ready, error),
    };
    let _ = ready.send(Ok(()));
    let accepting = listeners.into_iter().map(Accepting::new).collect();
    let core = Core::new(index, settings, driver, accepting, mailbox.post().clone());
    let mut turn = Turn::new(make(index), core, buffers, mailbox, heartbeat);
    turn.start();
    loop {
        turn.run();
        if turn.core.stopping {
            return turn.core.driver.submit(0);
        }
        park(&mut turn)?;
    }
}

/// The CPU of a shard; `None`: wherever the kernel likes.
fn cpu(index: usize, settings: &Settings) -> io::Result<Option<usize>> {
    let Some(cpus) = &settings.pin else { return Ok(None) };
    let missing = || io::Error::new(io::ErrorKind::InvalidInput, format!("no CPU is named for shard {index}"));
    cpus.get(index).copied().map(Some).ok_or_else(missing)
}

/// Pins this thread.
fn pin(index: usize, settings: &Settings) -> io::Result<()> {
    let Some(id) = cpu(index, settings)? else { return Ok(()) };
    if id >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("there is no CPU {id}")));
    }
    let mut cpus = CpuSet::new();
    cpus.set(id);
    Ok(sched_setaffinity(None, &cpus)?)
}

fn executor(index: usize, settings: &Settings) -> io::Result<LocalExecutor> {
    let placement = cpu(index, settings)?.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .io_memory(EXECUTOR_IO_BYTES)
        .ring_depth(EXECUTOR_RING_DEPTH)
        .make()
        .map_err(io::Error::from)
}
