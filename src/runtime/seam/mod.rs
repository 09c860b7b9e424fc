//! The seam between the runtime and everything above it: plain data, two traits, no io_uring and no glommio.
//!
//! The runtime calls a [`Shard`]; the shard answers through [`Io`]. Both are event-shaped: there is no task per
//! connection and no `await` above this folder. A loop over io_uring or over epoll, or a simulator with a fake clock, stands behind
//! these calls.

mod layer;
mod monotonic;
#[cfg(test)]
mod seeds;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use self::layer::{Facts, Layer, LayerError, LayerFault};
pub use self::monotonic::Monotonic;
#[cfg(test)]
pub(crate) use self::seeds::seeds;
use super::faults::DiskFaults;
use super::listen::Listener;

/// A connection of one shard: a slot in the runtime's slab and the generation that makes a stale id harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index into the runtime's slab; shards may use it to index tables of their own.
    pub slot: u32,
    /// Raised each time the slot is given to another connection.
    pub generation: u32,
}

/// Milliseconds since the Unix epoch, read once a turn. Only for what leaves the process (record timestamps).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallMs(pub i64);

/// Options of the socket of an outgoing connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Size of its send buffer, in bytes; `None`: the kernel sizes it.
    pub send_buffer: Option<u32>,
    /// Size of its receive buffer, in bytes; `None`: the kernel sizes it.
    pub receive_buffer: Option<u32>,
    /// TCP's keep-alive; `None`: off.
    pub keep_alive: Option<KeepAlive>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self { send_buffer: None, receive_buffer: None, keep_alive: Some(KeepAlive::default()) }
    }
}

/// TCP's keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The silence before the first probe, in whole seconds.
    pub idle: Duration,
    /// Between two probes, in whole seconds.
    pub interval: Duration,
    /// Unanswered probes after which the connection is closed.
    pub probes: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 }
    }
}

impl fmt::Display for KeepAlive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.idle.as_secs(), self.interval.as_secs(), self.probes)
    }
}

/// Which of the configured listeners accepted a connection (index into the configuration's list).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerId(pub u16);

/// A timer that was set; stale ids are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerId {
    /// Slot in the wheel.
    pub slot: u32,
    /// Generation of the slot.
    pub generation: u32,
}

/// A connection taken off its ring: the descriptor, and what had been read from it and not been consumed.
#[derive(Debug)]
pub struct Detached {
    /// The socket.
    pub fd: OwnedFd,
    /// The peer's address; `None`: it came by a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The listener it came in by.
    pub listener: ListenerId,
    /// TLS, if its listener has it.
    pub layer: Option<Box<dyn Layer>>,
    /// Bytes of the wire that go to the peer before anything else.
    pub unsent: Vec<u8>,
    /// Plain bytes the new owner must look at before it reads from the socket.
    pub unread: Vec<u8>,
    /// When it must have come to its end at the door, wherever that is.
    pub deadline: Monotonic,
}

/// What a traced connection was sent at the end of a turn.
#[derive(Clone, Debug)]
pub struct TracedSend {
    /// The connection; it may be gone by now.
    pub conn: ConnId,
    /// When that was.
    pub at: WallMs,
    /// The bytes. Empty: more than [`crate::limits::TRACED_SENDS_BYTES_MAX`] of all waited to be taken, and these were left out.
    pub bytes: Vec<u8>,
}

/// Why a connection is gone. After `on_close` its [`ConnId`] is dead.
#[derive(Debug)]
pub enum Closed {
    /// The peer closed its sending side (end of stream).
    Peer,
    /// We closed it ([`Io::close`] or [`Io::abort`]).
    Local,
    /// The socket failed; also a failed outgoing connect.
    Error(io::Error),
    /// Its layer has failed; the peer is sent the layer's alert.
    Layer(LayerError),
}

/// A piece of memory handed to the kernel for sending. The runtime holds it until the kernel is done with it.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes of this send alone.
    Owned(Vec<u8>),
    /// Bytes that the sender keeps as well (a Kafka batch that may have to be sent again). Never changed once shared.
    Shared(Rc<Vec<u8>>),
}

impl Chunk {
    /// What it holds.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// How appended bytes get into a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// Gathered in memory; a sync writes them on the ring and then syncs.
    Written,
    /// Stored into the mapped file; a sync is only that.
    Mapped,
}

/// Where a shard's segments lie, and how they are written.
#[derive(Clone, Debug)]
pub struct SegmentSettings {
    /// A folder that this shard alone uses.
    pub folder: PathBuf,
    /// How bytes get in.
    pub append: Append,
    /// Whether a segment is written once, with zeroes, when it is made ready: twice the bytes for the disk, and syncs
    /// that need not change the file system's records. (Populating a map comes to the same.)
    pub zeroed: bool,
    /// For tests: what is wrong with this disk.
    pub faults: Option<Arc<DiskFaults>>,
}

/// What became of what was asked of [`Segments`]. Each call is answered once.
#[derive(Debug)]
pub enum SegmentEvent {
    /// The segment's file is there, allocated, reads as zeroes, and survives a power cut; or could not be made.
    Created {
        /// The segment's number.
        segment: u64,
        /// Why not.
        result: io::Result<()>,
    },
    /// All that was appended to the named segments before the call is on the disk; or that is not certain, and never
    /// will be: the segments that failed take nothing more.
    Synced {
        /// The token of the call.
        token: u64,
        /// Why not.
        result: io::Result<()>,
    },
    /// The segment is deleted, and its room is there again; or its file could not be deleted, which was tried several
    /// times: it takes its room until the next process finds it.
    Freed {
        /// The segment's number.
        segment: u64,
        /// Why it is still there.
        result: io::Result<()>,
    },
    /// Something that a [`Segments::read`] has said [`io::ErrorKind::WouldBlock`] about can be read now, or fails now:
    /// the connection that waits tries again within this turn.
    Read {
        /// The segment.
        segment: u64,
        /// A position at or before what is there now.
        at: u64,
    },
}

/// The segment files of a shard. No call waits for the disk, but for [`Segments::read`] in [`Shard::on_start`]. Answers come
/// by [`Shard::on_segment`], never from inside a call.
pub trait Segments {
    /// Makes a segment of `bytes`, which is its length for life. [`SegmentEvent::Created`] follows.
    fn create(&mut self, segment: u64, bytes: u64);
    /// Puts `bytes` at position `at`, behind all that was appended before. They can be read at once.
    ///
    /// # Errors
    /// Not there (yet), out of bounds, or broken by an earlier failure. The segment then takes nothing more.
    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Syncs what was appended to these segments. [`SegmentEvent::Synced`] follows. It starts when the turn ends, and not
    /// before an earlier sync of the same segment has ended.
    fn sync(&mut self, token: u64, segments: &[u64]);
    /// Something in a segment cannot be read: its file stays under another name when it is deleted, if there are not enough of
    /// these. Nothing follows.
    fn set_aside(&mut self, _segment: u64) {}
    /// The note that was there at the start: [`Segments::write_note`] of an earlier life. `None`: there was none; empty: it cannot be read.
    fn read_note(&self) -> Option<Vec<u8>>;
    /// Keeps some hundred bytes beside the segments, in place of those before. Nothing follows. A crash may bring those before back, unless
    /// a segment is there that was asked for later.
    fn write_note(&mut self, note: &[u8]);
    /// Deletes a segment, also one that is being synced. [`SegmentEvent::Freed`] follows.
    fn free(&mut self, segment: u64);
    /// Reads `into.len()` bytes from position `at`: what was appended and is not written yet, and what is at hand of the
    /// file. Several reads at neighbouring places are one at the disk; a reader that goes forward is read ahead for.
    ///
    /// In [`Shard::on_start`] it waits for the disk. Later what is not at hand is fetched, and said by
    /// [`SegmentEvent::Read`]; it stays until the end of that turn, and may be gone after it. An event names what came, not
    /// who waits: there are bounds, so it may be worth trying again at any of them. A reader that steps through more than
    /// some hundred KiB keeps its place, and does not begin anew.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: not at hand. [`io::ErrorKind::InvalidData`]: damaged, as the disk gave others
    /// close by at the same time; any other error of the disk may mean that it is away. No such segment, beyond its end, or the disk's. A read
    /// fails only if some of its own bytes cannot be read, and what cannot is asked of the disk again when somebody
    /// asks for it a second later ([`crate::limits::UNREADABLE_AGAIN`]); until then the answer is the same.
    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()>;
    /// All segments with their bytes, by number; those found in the folder can be read and freed, not appended to.
    fn existing(&self) -> Vec<(u64, u64)>;
}

/// Things of one kind that a turn does before it looks at the clock.
const THINGS_A_LOOK: usize = 8;

/// What a shard may ask of the runtime while it is being called. All calls are cheap and never block.
///
/// A dead [`ConnId`] is ignored by every call, so a shard needs no bookkeeping of what just closed.
pub trait Io<M> {
    /// Monotonic time of this turn.
    fn now(&self) -> Monotonic;
    /// Wall-clock time of this turn.
    fn wall(&self) -> WallMs;
    /// A clock that runs while the machine sleeps, too (CLOCK_BOOTTIME), read with this call. Without one: [`Io::now`].
    fn boottime(&self) -> Monotonic {
        self.now()
    }
    /// This shard's index, 0-based.
    fn shard(&self) -> usize;
    /// How many shards there are.
    fn shards(&self) -> usize;

    /// The connection that the shard looks at has had work worth that many packets. False: it has had its quantum, or the turn
    /// its time. What is left of its bytes is given to the shard again ([`Shard::on_bytes`]).
    fn spend(&mut self, _packets: u32) -> bool {
        true
    }
    /// What is spent from here on is the quantum of another connection: the shard looks at bytes that it has kept.
    fn next_quantum(&mut self) {}
    /// How often a connection had more than its quantum.
    fn quanta_exceeded(&self) -> u64 {
        0
    }
    /// Whether this turn has had its time ([`crate::limits::TURN_TIME`]): what may wait does. Reads the clock.
    fn is_over(&self) -> bool {
        false
    }
    /// Whether this turn has had its time, asked after each of many things. The clock is read after every few of them, and when they have cost a
    /// quantum.
    fn is_over_after(&mut self, things: usize) -> bool {
        (things.is_multiple_of(THINGS_A_LOOK) || !self.spend(0)) && self.is_over()
    }
    /// The shard has left something for the next turn, which then waits for nothing.
    fn go_on(&mut self) {}

    /// The out-buffer of a connection, for appending. What is in it at the end of the turn goes out as one send.
    /// For a dead connection: a scratch that is thrown away.
    fn out(&mut self, conn: ConnId) -> &mut Vec<u8>;
    /// What is written to a connection from now on, if it has nothing to send yet, goes out behind what others are sent in this
    /// turn: it may wait for one of the next.
    fn send_late(&mut self, _conn: ConnId) {}
    /// What waits for a connection and [may be late](Io::send_late) goes out with what others are sent.
    fn send_soon(&mut self, _conn: ConnId) {}
    /// Queues chunks behind whatever is in the out-buffer, without copying them.
    fn send(&mut self, conn: ConnId, chunks: &mut Vec<Chunk>);
    /// Bytes queued for this connection and not yet taken by the kernel.
    fn unsent(&self, conn: ConnId) -> usize;
    /// The same, and what the kernel has taken but the peer's has not acknowledged. Asks the kernel: for when it matters.
    fn unacked(&self, conn: ConnId) -> usize;
    /// [`Shard::on_writable`] follows once, as soon as the kernel has taken all but half of [`crate::limits::SENT_AHEAD_BYTES_MAX`] of what is
    /// queued for this connection, or of what is queued next if that is nothing yet.
    fn tell_writable(&mut self, conn: ConnId);
    /// From now on a copy of what this connection is sent is kept for [`Io::take_traced`], or no longer. Nothing, where there are no sockets
    /// behind this seam.
    fn trace(&mut self, _conn: ConnId, _on: bool) {}
    /// What traced connections were sent since the last call, in order, before a layer has sealed it.
    fn take_traced(&mut self) -> Vec<TracedSend> {
        Vec::new()
    }
    /// Bytes taken from the out-buffers of accepted connections to be sent, before a layer has sealed them.
    fn sent_bytes(&self) -> u64 {
        0
    }

    /// Goes from one-shot reads (an accepted socket that may still move) to the multishot receive.
    fn stream(&mut self, conn: ConnId);
    /// Stops reading. Bytes that the kernel had already delivered still arrive in `on_bytes`; the end of the stream
    /// ([`Closed::Peer`]) waits for [`Io::resume`].
    fn pause(&mut self, conn: ConnId);
    /// Reads again after [`Io::pause`].
    fn resume(&mut self, conn: ConnId);
    /// Sends what is queued, then closes; a peer that does not take it all has ten seconds. `on_close` follows with
    /// [`Closed::Local`].
    fn close(&mut self, conn: ConnId);
    /// Closes at once; what is queued is dropped. `on_close` follows with [`Closed::Local`].
    fn abort(&mut self, conn: ConnId);

    /// Opens an outgoing TCP connection. `on_connect` or `on_close` follows.
    fn connect(&mut self, to: SocketAddr, socket: SocketOptions) -> ConnId;
    /// Puts a layer between a connection's bytes and the shard's, from here on. `unread`: bytes of the wire that the shard
    /// has got already; it gets what they hold later. Over a connection of [`Io::connect`], what is written before
    /// [`Shard::on_ready`] waits until then. Nothing, where there are no sockets behind this seam.
    fn put_layer(&mut self, _conn: ConnId, _layer: Box<dyn Layer>, _unread: &[u8]) {}
    /// Takes a connection off the ring to move it, with its layer. Only while its reads are one-shot (before
    /// [`Io::stream`]), and only from inside its own `on_bytes`, or while it is paused. No `on_close` follows. `unread` and `deadline` are the
    /// caller's to fill in. `None` for a dead id, and while a send or a read is under way.
    fn detach(&mut self, conn: ConnId) -> Option<Detached>;
    /// Takes a moved connection onto this ring, reads one-shot, nothing armed until this turn ends. `unread` and `deadline` of the
    /// value are the caller's business: the runtime does not deliver them. The descriptor must be in blocking mode, as
    /// accepted ones are.
    fn adopt(&mut self, moved: Detached) -> ConnId;
    /// The other end's address: the socket's, or what [`Io::set_peer`] was told. `None` for a dead id, and of a Unix socket.
    fn peer(&self, conn: ConnId) -> Option<SocketAddr>;
    /// A proxy has said where the other end of a connection really is. It moves with the connection.
    fn set_peer(&mut self, conn: ConnId, peer: SocketAddr);
    /// Begins to accept on all listeners of this shard. Who connects before that waits in the kernel's queue.
    fn start_accepting(&mut self);
    /// Stops accepting on all listeners of this shard and closes them (drain). Who has not been accepted is reset.
    fn stop_accepting(&mut self);
    /// Accepts on one more listener from now on. Nothing, where there are no sockets behind this seam.
    fn listen(&mut self, _listener: Listener) {}
    /// Stops accepting on one listener and closes it. Who has not been accepted is reset.
    fn stop_listening(&mut self, _listener: ListenerId) {}
    /// Whether connections of a listener are accepted one by one: then [`Io::pause_accepting`] in `on_accept` holds for
    /// the next one already. Otherwise all that wait in the kernel's queue come at once.
    fn accept_singly(&mut self, _listener: ListenerId, _singly: bool) {}
    /// Accepts no connection on one listener before that time; until then they wait in the kernel's queue.
    fn pause_accepting(&mut self, _listener: ListenerId, _until: Monotonic) {}

    /// Sets a timer; `on_timer(token)` follows, never early, at most one tick (see `limits`) late on an idle core.
    fn set_timer(&mut self, at: Monotonic, token: u64) -> TimerId;
    /// Cancels a timer that has not fired.
    fn cancel_timer(&mut self, timer: TimerId);

    /// Puts a letter into another shard's mailbox (or this one's own). Full: the letter comes back.
    ///
    /// # Errors
    /// The letter itself, when the mailbox has no room.
    fn mail(&mut self, to: usize, letter: M) -> Result<(), M>;

    /// Opens this shard's segments. Waits for the disk, and starts a thread: only for [`Shard::on_start`].
    ///
    /// # Errors
    /// The folder or a file in it cannot be opened; no thread; or there are no files behind this seam.
    fn open_segments(&mut self, settings: SegmentSettings) -> io::Result<()> {
        drop(settings);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// What [`Io::open_segments`] opened.
    fn segments(&mut self) -> Option<&mut dyn Segments> {
        None
    }

    /// Ends this shard's loop after this turn.
    fn stop(&mut self);
}

/// What one core owns and does. Called by the runtime only, always on the same thread.
pub trait Shard {
    /// Letters between shards (and from ordinary threads to a shard).
    type Mail: Send + 'static;

    /// Called once, before the first turn.
    fn on_start(&mut self, io: &mut dyn Io<Self::Mail>);
    /// A socket was accepted; a one-shot read is armed after this returns.
    fn on_accept(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, listener: ListenerId);
    /// An outgoing connection stands; its reads are multishot already.
    fn on_connect(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId);
    /// A connection's layer is ready: its handshake is over.
    fn on_ready(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, facts: Facts) {
        let _ = (io, conn, facts);
    }
    /// Bytes came in. `bytes` is the ring's buffer: it is gone when this returns, so keep only what must be kept. Returns how many of them
    /// the shard has taken. If [`Io::spend`] has said that it is another connection's turn, these may be fewer than there are: the rest
    /// comes again, before anything that came in later.
    fn on_bytes(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, bytes: &[u8]) -> usize;
    /// What [`Io::tell_writable`] has asked for: there is room again in a connection's out-buffer.
    fn on_writable(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId);
    /// The connection is gone.
    fn on_close(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, why: Closed);
    /// What was asked of [`Segments`] is done, or failed.
    fn on_segment(&mut self, io: &mut dyn Io<Self::Mail>, event: SegmentEvent) {
        let _ = (io, event);
    }
    /// A letter from another shard or an ordinary thread.
    fn on_mail(&mut self, io: &mut dyn Io<Self::Mail>, letter: Self::Mail);
    /// A timer fired.
    fn on_timer(&mut self, io: &mut dyn Io<Self::Mail>, token: u64);
    /// Everything of this turn has been delivered: seal, submit, answer. The writes go out after this.
    fn on_turn_end(&mut self, io: &mut dyn Io<Self::Mail>);
}
