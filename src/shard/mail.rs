//! Letters between cores, and from ordinary threads to a core. The only way anything crosses.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::metrics::inspect::{Answer, Ask};
use crate::runtime::seam::Detached;

/// A letter to a shard.
#[derive(Debug)]
pub enum Mail {
    /// A connection whose CONNECT names a client that this shard owns, with the bytes read so far.
    HandOver(Detached),
    /// The resolver's answer to a cluster's question.
    Resolved {
        /// Index of the cluster.
        cluster: usize,
        /// The client's ticket for the question.
        ticket: u64,
        /// Addresses, or what went wrong.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// So many of this shard's letters to a file of dead letters, the oldest first, are on the disk.
    Filed {
        /// Index of the sink.
        sink: usize,
        /// How many.
        count: u32,
    },
    /// All shards have started: accept clients.
    Accept,
    /// A question of the control plane, or a wish.
    Inspect(Inspection),
    /// Stop accepting, finish what is in flight within `grace`, report, end.
    Drain {
        /// How long it may take.
        grace: Duration,
    },
}

/// A question with the way back for its answer.
pub struct Inspection {
    /// What is asked.
    pub ask: Ask,
    /// Takes what the shard says; does not block.
    pub answer: Answer,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inspection").field(&self.ask).finish()
    }
}

/// What a shard tells the thread that started it.
#[derive(Debug)]
pub enum Notice {
    /// The shard has taken up what its spool holds, and waits for [`Mail::Accept`].
    Started(usize),
    /// The shard cannot start, and has ended.
    Failed {
        /// Which.
        shard: usize,
        /// Why, and the cure, in words.
        why: String,
    },
    /// The shard has drained, or its grace is over.
    Drained {
        /// Which.
        shard: usize,
        /// Messages that Kafka has not confirmed. Their publishers were not answered (or asked for `received`).
        rows_left: u64,
        /// Messages that Kafka has not confirmed and that the spool keeps for the next start.
        rows_kept: u64,
        /// Connections that were still open.
        connections_left: usize,
    },
}
