//! A device's packets in words: who has sent one, what it has used of a read, and how it goes on.

use forebay_metrics::histogram::Level;
use forebay_runtime::seam::{ConnId, ListenerId};
use forebay_session::{Peer, SessionKey};

/// The bytes used by one pass over the input.
pub(crate) struct Used {
    /// Bytes of the whole packets that were taken; all bytes, once the connection has ended.
    pub(crate) bytes: usize,
    /// Whether the connection has had its quantum, and there is more.
    pub(crate) is_cut: bool,
}

impl Used {
    /// All bytes are used.
    pub(crate) fn all(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len(), is_cut: false }
    }
}

/// The sender of a packet.
#[derive(Clone, Copy)]
pub(crate) struct Source {
    pub(crate) conn: ConnId,
    pub(crate) session: SessionKey,
    pub(crate) peer: Peer,
    pub(crate) listener: ListenerId,
}

/// The first message of a read for which the time to its answer is measured, if the connection measures none already.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) wanted: bool,
    pub(crate) taken: Option<(u32, Level)>,
}
