//! Trunks: connections between instances that many relayed clients share, each with a stream of its own. No socket: frames in, frames out, and the state of each
//! stream between a shard and the connection that carries it.
//!
//! A stream is like a connection: bytes both ways, in order, each direction with a window of its own, and an end after the last byte. Its [`ConnId`] has a slot that
//! no connection has ([`is_stream`]). A trunk is never left unread for a stream's sake: bytes of a stream that is not read wait here, at most
//! [`forebay_base::limits::STREAM_WINDOW_BYTES`] of them.
//!
//! | file | contents |
//! |---|---|
//! | `frame` | frames as bytes |
//! | `preface` | the first bytes of a trunk |
//! | `stream` | one stream |
//! | `carrying` | the calls of a shard |
//! | `receiving` | frames of the other side |
//! | `sending` | frames for the other side, gathered at the end of a turn |
//! | `ending` | ends of streams and of trunks, and deadlines |

#[cfg(feature = "testing")]
pub mod any_bytes;
mod carrying;
mod ending;
mod frame;
mod preface;
mod receiving;
mod sending;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use forebay_runtime::seam::{Closed, ConnId, Monotonic, TracedSend};

use self::ending::Due;
use self::frame::Reader;
use self::stream::Stream;

pub use self::frame::{Malformed, Reason, since_stamp};
pub use self::preface::Preface;
pub use self::receiving::Arrival;

/// The first slot of streams. The runtime has 2^24 slots for connections.
pub const FIRST_STREAM: u32 = 1 << 29;
/// The trunk of a stream that has ended, or has lost its own.
const NO_TRUNK: u32 = u32::MAX;

/// Whether an id is one of a stream, and not one of the runtime's connections.
#[inline]
#[must_use]
pub const fn is_stream(conn: ConnId) -> bool {
    conn.slot >= FIRST_STREAM
}

/// The place to which a trunk leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Name of the instance.
    pub name: Arc<str>,
    /// Incarnation of its process.
    pub incarnation: u128,
    /// Address of its link.
    pub to: SocketAddr,
    /// Its shard, 0-based.
    pub shard: u16,
}

/// An event of a stream for the shard.
#[derive(Debug)]
pub enum News {
    /// Bytes wait for the shard: [`Trunks::take_unread`].
    Unread(ConnId),
    /// The out-buffer has room again ([`Trunks::tell_writable`]).
    Writable(ConnId),
    /// The stream has ended. The shard forgets it, and then calls [`Trunks::release`].
    Closed(ConnId, Closed),
}

/// A trunk.
#[derive(Debug)]
struct Trunk {
    conn: ConnId,
    /// `None`: another instance has made the trunk.
    to: Option<Destination>,
    /// The settings by which the trunk was made; a change of them gives others a new trunk.
    mark: u64,
    /// Whether the connection, with its layer, is established.
    is_open: bool,
    /// Whether the trunk is closed as soon as it has no stream.
    ends: bool,
    /// Whether the trunk is in the list of those with something to send.
    is_dirty: bool,
    /// The time at which the first stream since the last received byte was opened, or the trunk was begun.
    asked_at: Option<Monotonic>,
    /// The last stamp of the other side.
    stamp: Option<u32>,
    /// The time since when the trunk has no stream.
    idle_since: Option<Monotonic>,
    /// Streams by their numbers.
    streams: HashMap<u32, u32, FixedState>,
    /// The number of the next stream.
    next: u32,
    reader: Reader,
    /// Frames without a stream's bytes, which need no credit.
    control: Vec<u8>,
    /// Streams with something to send.
    queue: VecDeque<u32>,
}

/// A place for a stream.
#[derive(Debug, Default)]
struct Place {
    generation: u32,
    stream: Option<Stream>,
}

/// The trunks of a shard with their streams.
#[derive(Debug, Default)]
pub struct Trunks {
    trunks: Vec<Option<Trunk>>,
    places: Vec<Place>,
    free: Vec<u32>,
    /// Trunks with something to send.
    dirty: Vec<u32>,
    news: VecDeque<News>,
    deadlines: BTreeSet<(Monotonic, Due)>,
    /// Bytes that were received and wait for the shard.
    held: usize,
    /// Copies of what traced streams were sent.
    traced: Vec<TracedSend>,
    /// Spare out-buffers.
    spare: Vec<Vec<u8>>,
    /// The out-buffer of streams that have ended.
    scratch: Vec<u8>,
}
