//! The seam between the runtime and everything above it: plain data, two traits, no io_uring and no glommio.
//!
//! The runtime calls a [`Shard`]; the shard answers through [`Io`]. Both are event-shaped: there is no task per connection and no
//! `await` above this folder. The implementation is a loop over io_uring or over epoll, or a simulator with a fake clock.

mod layer;
mod monotonic;
#[cfg(any(test, feature = "testing"))]
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
#[cfg(any(test, feature = "testing"))]
pub use self::seeds::seeds;
use super::faults::DiskFaults;
use super::listen::Listener;

/// A connection of one shard: a slot in the runtime's slab and the generation that makes a stale id harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    /// Index into the runtime's slab; shards may use it as an index of their own tables.
    pub slot: u32,
    /// Raised each time the slot is given to another connection.
    pub generation: u32,
}

/// Milliseconds since the Unix epoch, read once a turn. Only for data that leaves the process (record timestamps).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WallMs(pub i64);

/// Options of the socket of an outgoing connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Size of the socket's send buffer, in bytes; `None`: the kernel sizes it.
    pub send_buffer: Option<u32>,
    /// Size of the socket's receive buffer, in bytes; `None`: the kernel sizes it.
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

/// The listener that accepted a connection (index into the configuration's list).
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

/// A connection taken off its ring: the descriptor, and bytes that had been read from it but not consumed.
#[derive(Debug)]
pub struct Detached {
    /// The socket.
    pub fd: OwnedFd,
    /// The peer's address; `None`: the connection came over a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The listener that accepted the connection.
    pub listener: ListenerId,
    /// TLS, if the listener has it.
    pub layer: Option<Box<dyn Layer>>,
    /// Bytes of the wire that go to the peer before anything else.
    pub unsent: Vec<u8>,
    /// Plain bytes the new owner must look at before it reads from the socket.
    pub unread: Vec<u8>,
    /// The time by which CONNECT must be complete, on any shard.
    pub deadline: Monotonic,
    /// When a complete CONNECT came that has waited: for an instance that serves its client, for a verdict, for the mailbox of its shard.
    pub came: Option<Came>,
}

/// When a CONNECT came to the first instance that has read it. The two differ where that instance had stood still, with the CONNECT in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// The earliest time.
    pub earliest: Monotonic,
    /// The time when it was read.
    pub latest: Monotonic,
}

impl Came {
    /// A CONNECT that was read as it came.
    #[must_use]
    pub const fn at(time: Monotonic) -> Self {
        Self { earliest: time, latest: time }
    }
}

/// Bytes that a traced connection was sent at the end of a turn.
#[derive(Clone, Debug)]
pub struct TracedSend {
    /// The connection; it may be gone by now.
    pub conn: ConnId,
    /// The time of that.
    pub at: WallMs,
    /// The bytes. Empty: more than [`forebay_base::limits::TRACED_SENDS_BYTES_MAX`] of all waited to be taken, and these were left out.
    pub bytes: Vec<u8>,
}

impl TracedSend {
    /// Adds the bytes to those that wait to be taken, as far as there is room.
    #[cold]
    pub fn keep(mut self, all: &mut Vec<Self>) {
        let waiting: usize = all.iter().map(|sent| sent.bytes.len()).sum();
        if waiting + self.bytes.len() > forebay_base::limits::TRACED_SENDS_BYTES_MAX {
            self.bytes = Vec::new();
        }
        if !(self.bytes.is_empty() && all.last().is_some_and(|last| last.bytes.is_empty())) {
            all.push(self);
        }
    }
}

/// The reason why a connection is gone. After `on_close` its [`ConnId`] is dead.
#[derive(Debug)]
pub enum Closed {
    /// The peer closed its sending side (end of stream).
    Peer,
    /// We closed it ([`Io::close`] or [`Io::abort`]).
    Local,
    /// The socket failed; also a failed outgoing connect.
    Error(io::Error),
    /// The connection's layer has failed; the peer is sent the layer's alert.
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
    /// The bytes of the chunk.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// The way in which appended bytes get into a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// Gathered in memory; a sync writes them on the ring and then syncs.
    Written,
    /// Stored into the mapped file; a sync is only that.
    Mapped,
}

/// The folder of a shard's segments, and the way in which they are written.
#[derive(Clone, Debug)]
pub struct SegmentSettings {
    /// A folder that this shard alone uses.
    pub folder: PathBuf,
    /// The way in which bytes are appended.
    pub append: Append,
    /// Whether a segment is written once, with zeroes, when it is created: twice the bytes for the disk, and syncs that need not
    /// change the file system's records. (Populating a map has the same effect.)
    pub zeroed: bool,
    /// Faults of this disk, for tests.
    pub faults: Option<Arc<DiskFaults>>,
}

/// The result of a call of [`Segments`]. Each call is answered once.
#[derive(Debug)]
pub enum SegmentEvent {
    /// The segment's file exists, is allocated, reads as zeroes, and survives a power cut; or could not be created.
    Created {
        /// The segment's number.
        segment: u64,
        /// The error, if it failed.
        result: io::Result<()>,
    },
    /// All bytes appended to the named segments before the call are on the disk; or that is not certain, and never will be: the
    /// segments that failed take nothing more.
    Synced {
        /// The token of the call.
        token: u64,
        /// The error, if it failed.
        result: io::Result<()>,
    },
    /// The segment is deleted, and its room is free again; or its file could not be deleted in several attempts: it takes its room
    /// until the next process finds it.
    Freed {
        /// The segment's number.
        segment: u64,
        /// The error, if the file still exists.
        result: io::Result<()>,
    },
    /// Bytes for which [`Segments::read`] has returned [`io::ErrorKind::WouldBlock`] can be read now, or fail now: the connection
    /// that waits tries again within this turn.
    Read {
        /// The segment.
        segment: u64,
        /// A position at or before the bytes that are there now.
        at: u64,
    },
}

/// The segment files of a shard. No call waits for the disk, but for [`Segments::read`] in [`Shard::on_start`]. Answers come
/// by [`Shard::on_segment`], never from inside a call.
pub trait Segments {
    /// Makes a segment of `bytes`, which is its length for life. [`SegmentEvent::Created`] follows.
    fn create(&mut self, segment: u64, bytes: u64);
    /// Puts `bytes` at position `at`, after all bytes appended before. They can be read at once.
    ///
    /// # Errors
    /// The segment is not there (yet), the position is out of bounds, or the segment is broken by an earlier failure. The segment
    /// then takes nothing more.
    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Syncs the bytes appended to these segments. [`SegmentEvent::Synced`] follows. The sync starts when the turn ends, and not
    /// before an earlier sync of the same segment has ended.
    fn sync(&mut self, token: u64, segments: &[u64]);
    /// Marks a segment with unreadable bytes: its file stays under another name when it is deleted, unless enough files have been
    /// kept. No event follows.
    fn set_aside(&mut self, _segment: u64) {}
    /// The note that existed when the shard started: [`Segments::write_note`] of an earlier process. `None`: there was none; empty:
    /// unreadable.
    fn read_note(&self) -> Option<Vec<u8>>;
    /// Keeps some hundred bytes beside the segments, and replaces the previous ones. No event follows. A crash may restore the
    /// previous ones, unless there is a segment that was requested later.
    fn write_note(&mut self, note: &[u8]);
    /// Deletes a segment, even one that is being synced. [`SegmentEvent::Freed`] follows.
    fn free(&mut self, segment: u64);
    /// Reads `into.len()` bytes from position `at`: bytes that were appended and are not written yet, and bytes of the file that
    /// are in memory. Several reads at neighbouring places are one at the disk; a reader that goes forward is read ahead for.
    ///
    /// In [`Shard::on_start`] the call waits for the disk. Later, missing bytes are fetched, and reported by
    /// [`SegmentEvent::Read`]; they stay until the end of that turn, and may be gone after it. An event names the bytes, not the
    /// reader: there are bounds, so it may be worth trying again at any of them. A reader that steps through more than some hundred
    /// KiB keeps its place and goes on there.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`]: not in memory. [`io::ErrorKind::InvalidData`]: damaged, as the disk read others close by at
    /// the same time; any other error of the disk may mean that it is away. No such segment, beyond its end, or the disk's error. A
    /// read fails only if some of its own bytes cannot be read, and those are read from the disk again when a reader asks for them
    /// a second later ([`forebay_base::limits::UNREADABLE_AGAIN`]); until then the answer is the same.
    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()>;
    /// All segments with their bytes, by number; segments found in the folder can be read and freed, not appended to.
    fn existing(&self) -> Vec<(u64, u64)>;
}

/// Items of one kind that a turn handles between two looks at the clock.
const THINGS_A_LOOK: usize = 8;

/// The runtime's interface for a shard that is being called. All calls are cheap and never block.
///
/// Every call ignores a dead [`ConnId`], so a shard needs no bookkeeping of connections that have just closed.
pub trait Io<M> {
    /// Monotonic time of this turn.
    fn now(&self) -> Monotonic;
    /// Wall-clock time of this turn.
    fn wall(&self) -> WallMs;
    /// The time of a clock that also runs while the machine sleeps (CLOCK_BOOTTIME), read with this call. Without such a clock:
    /// [`Io::now`].
    fn boottime(&self) -> Monotonic {
        self.now()
    }
    /// This shard's index, 0-based.
    fn shard(&self) -> usize;
    /// The number of shards.
    fn shards(&self) -> usize;

    /// Charges the connection that the shard looks at with work worth this many packets. False: its quantum is used up, or the
    /// turn's time is. The rest of its bytes is given to the shard again ([`Shard::on_bytes`]).
    fn spend(&mut self, _packets: u32) -> bool {
        true
    }
    /// Begins the quantum of another connection: the shard looks at bytes that it has kept.
    fn next_quantum(&mut self) {}
    /// The number of times that a connection had more than its quantum.
    fn quanta_exceeded(&self) -> u64 {
        0
    }
    /// Whether this turn has had its time ([`forebay_base::limits::TURN_TIME`]): work that may wait should. Reads the clock.
    fn is_over(&self) -> bool {
        false
    }
    /// Whether this turn has had its time, for calls after each of many items. The clock is read after every few of them, and when
    /// they have cost a quantum.
    fn is_over_after(&mut self, things: usize) -> bool {
        (things.is_multiple_of(THINGS_A_LOOK) || !self.spend(0)) && self.is_over()
    }
    /// Notes that the shard has work left for the next turn, which then does not wait.
    fn go_on(&mut self) {}

    /// The out-buffer of a connection, for appending. Its contents at the end of the turn go out as one send. For a dead
    /// connection: a scratch that is thrown away.
    fn out(&mut self, conn: ConnId) -> &mut Vec<u8>;
    /// Marks a connection that has nothing to send yet as late: bytes written to it from now on go out after those of others in
    /// this turn, or in one of the next turns.
    fn send_late(&mut self, _conn: ConnId) {}
    /// Revokes [`Io::send_late`]: pending bytes of the connection go out with those of others.
    fn send_soon(&mut self, _conn: ConnId) {}
    /// Queues chunks after the contents of the out-buffer, without copying them.
    fn send(&mut self, conn: ConnId, chunks: &mut Vec<Chunk>);
    /// Bytes queued for this connection and not yet taken by the kernel.
    fn unsent(&self, conn: ConnId) -> usize;
    /// [`Io::unsent`], and the bytes that the kernel has taken but the peer's has not acknowledged. Asks the kernel: for rare use.
    fn unacked(&self, conn: ConnId) -> usize;
    /// Requests one [`Shard::on_writable`], as soon as the kernel has taken all but half of [`forebay_base::limits::SENT_AHEAD_BYTES_MAX`]
    /// of the bytes queued for this connection, or of those queued next if there are none yet.
    fn tell_writable(&mut self, conn: ConnId);
    /// Starts or stops copying the bytes that this connection is sent for [`Io::take_traced`]. No effect where there are no sockets
    /// below this seam.
    fn trace(&mut self, _conn: ConnId, _on: bool) {}
    /// Bytes that traced connections were sent since the last call, in order, before a layer has sealed them.
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
    /// Sends queued bytes, then closes; a peer that does not take them all has ten seconds. `on_close` follows with
    /// [`Closed::Local`].
    fn close(&mut self, conn: ConnId);
    /// Closes at once; queued bytes are dropped. `on_close` follows with [`Closed::Local`].
    fn abort(&mut self, conn: ConnId);

    /// Opens an outgoing TCP connection. `on_connect` or `on_close` follows.
    fn connect(&mut self, to: SocketAddr, socket: SocketOptions) -> ConnId;
    /// Puts a layer between a connection's bytes and the shard's, from here on. `unread`: bytes of the wire that the shard has got
    /// already; it gets their plain bytes later. Over a connection of [`Io::connect`], bytes written before [`Shard::on_ready`]
    /// wait until then. No effect where there are no sockets below this seam.
    fn put_layer(&mut self, _conn: ConnId, _layer: Box<dyn Layer>, _unread: &[u8]) {}
    /// Takes a connection off the ring to move it, with its layer. Only while its reads are one-shot (before [`Io::stream`]), and
    /// only from inside its own `on_bytes`, or while it is paused. No `on_close` follows. The caller fills in `unread`,
    /// `deadline` and `since`. `None` for a dead id, and while a send or a read is under way.
    fn detach(&mut self, conn: ConnId) -> Option<Detached>;
    /// Takes a moved connection onto this ring, with one-shot reads, nothing armed until this turn ends. The caller handles
    /// `unread` and `deadline` of the value: the runtime does not deliver them. The descriptor must be in blocking mode, as
    /// accepted ones are.
    fn adopt(&mut self, moved: Detached) -> ConnId;
    /// The peer's address: the socket's, or that of [`Io::set_peer`]. `None` for a dead id, and for a Unix socket.
    fn peer(&self, conn: ConnId) -> Option<SocketAddr>;
    /// Sets the address that a proxy has reported for the peer of a connection. It moves with the connection.
    fn set_peer(&mut self, conn: ConnId, peer: SocketAddr);
    /// Begins to accept on all listeners of this shard. Earlier connections wait in the kernel's queue.
    fn start_accepting(&mut self);
    /// Stops accepting on all listeners of this shard and closes them (drain). Connections that were not accepted are reset.
    fn stop_accepting(&mut self);
    /// Accepts on one more listener from now on. No effect where there are no sockets below this seam.
    fn listen(&mut self, _listener: Listener) {}
    /// Stops accepting on one listener and closes it. Connections that were not accepted are reset.
    fn stop_listening(&mut self, _listener: ListenerId) {}
    /// Sets whether connections of a listener are accepted one by one: then [`Io::pause_accepting`] in `on_accept` already applies
    /// to the next one. Otherwise all connections in the kernel's queue arrive at once.
    fn accept_singly(&mut self, _listener: ListenerId, _singly: bool) {}
    /// Accepts no connection on one listener before that time; until then they wait in the kernel's queue.
    fn pause_accepting(&mut self, _listener: ListenerId, _until: Monotonic) {}

    /// Sets a timer; `on_timer(token)` follows, never early, at most one tick (see `limits`) late on an idle core.
    fn set_timer(&mut self, at: Monotonic, token: u64) -> TimerId;
    /// Cancels a timer that has not fired.
    fn cancel_timer(&mut self, timer: TimerId);

    /// Puts a letter into another shard's mailbox (or this one's own).
    ///
    /// # Errors
    /// The letter itself, if the mailbox has no room.
    fn mail(&mut self, to: usize, letter: M) -> Result<(), M>;

    /// Opens this shard's segments. Waits for the disk, and starts a thread: only for [`Shard::on_start`].
    ///
    /// # Errors
    /// The folder or a file in it cannot be opened; no thread; or there are no files below this seam.
    fn open_segments(&mut self, settings: SegmentSettings) -> io::Result<()> {
        drop(settings);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The segments of [`Io::open_segments`].
    fn segments(&mut self) -> Option<&mut dyn Segments> {
        None
    }

    /// Ends this shard's loop after this turn.
    fn stop(&mut self);
}

/// The state and the behaviour of one core. Called by the runtime only, always on the same thread.
pub trait Shard {
    /// Letters between shards (and from ordinary threads to a shard).
    type Mail: Send + 'static;

    /// Called once, before the first turn.
    fn on_start(&mut self, io: &mut dyn Io<Self::Mail>);
    /// A socket was accepted; a one-shot read is armed after this returns.
    fn on_accept(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, listener: ListenerId);
    /// An outgoing connection is open; its reads are multishot already.
    fn on_connect(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId);
    /// A connection's layer is ready: its handshake is over.
    fn on_ready(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, facts: Facts) {
        let _ = (io, conn, facts);
    }
    /// Bytes were received. `bytes` is the ring's buffer: it is gone when this returns, so keep only what must be kept. Returns how
    /// many of them the shard has taken. If [`Io::spend`] has returned false, these may be fewer than there are: the rest is
    /// delivered again, before anything received later.
    fn on_bytes(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, bytes: &[u8]) -> usize;
    /// The event that [`Io::tell_writable`] requests: a connection's out-buffer has room again.
    fn on_writable(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId);
    /// The connection is gone.
    fn on_close(&mut self, io: &mut dyn Io<Self::Mail>, conn: ConnId, why: Closed);
    /// A request to [`Segments`] is done, or has failed.
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
