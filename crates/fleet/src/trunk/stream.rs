//! One stream of a trunk.

use std::net::SocketAddr;

use forebay_base::limits::STREAM_WINDOW_BYTES;
use forebay_runtime::seam::Closed;

/// The phase of a stream's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Reads and writes.
    Open,
    /// The shard has closed the stream: the rest is sent, received bytes are discarded.
    Closing,
    /// The end was reported to the shard, or is about to be.
    Over,
}

/// Flags of a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Is {
    /// The other side has made the stream.
    pub(super) accepted: bool,
    /// The other side knows, or will know by the next bytes of the trunk, that the stream is there.
    pub(super) announced: bool,
    /// The shard wants no bytes.
    pub(super) paused: bool,
    /// More is unsent than may be: no bytes are wanted until it is less.
    pub(super) capped: bool,
    /// The shard waits for room in the out-buffer.
    pub(super) awaited: bool,
    /// The stream is in its trunk's queue.
    pub(super) queued: bool,
    /// The stream is in the list of those with bytes, or an end, for the shard.
    pub(super) listed: bool,
    /// The shard wants copies of what is sent.
    pub(super) traced: bool,
    /// The stream has a deadline.
    pub(super) timed: bool,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    /// Index of the trunk that carries the stream.
    pub(super) trunk: u32,
    /// Number of the stream in its trunk.
    pub(super) number: u32,
    pub(super) phase: Phase,
    pub(super) is: Is,
    /// The out-buffer.
    pub(super) out: Vec<u8>,
    /// Bytes of the out-buffer that were sent.
    pub(super) sent: usize,
    /// Bytes that may be sent.
    pub(super) credit: usize,
    /// Bytes that may be received.
    pub(super) room: usize,
    /// Bytes that the shard has taken, and the other side has no credit for yet.
    pub(super) owed: usize,
    /// Received bytes that wait for the shard.
    pub(super) unread: Vec<u8>,
    /// The end, which is reported to the shard after these bytes.
    pub(super) end: Option<Closed>,
    /// The client's address, once it is known.
    pub(super) peer: Option<SocketAddr>,
}

impl Stream {
    pub(super) fn new(trunk: u32, number: u32, accepted: bool) -> Self {
        Self {
            trunk,
            number,
            phase: Phase::Open,
            is: Is { accepted, announced: accepted, ..Is::default() },
            out: Vec::new(),
            sent: 0,
            credit: STREAM_WINDOW_BYTES,
            room: STREAM_WINDOW_BYTES,
            owed: 0,
            unread: Vec::new(),
            end: None,
            peer: None,
        }
    }

    pub(super) fn unsent(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Whether the shard may be given bytes, or the end.
    pub(super) fn is_read(&self) -> bool {
        self.phase == Phase::Open && !self.is.paused && !self.is.capped
    }

    /// Whether bytes, or the end, wait for the shard.
    pub(super) fn has_unread(&self) -> bool {
        !self.unread.is_empty() || self.end.is_some()
    }
}
