//! Outgoing connections, whichever protocol is spoken over them.

mod backoff;
mod endpoint;

use std::net::SocketAddr;

pub use self::backoff::{Backoff, Bounds, jittered};
pub use self::endpoint::Endpoint;

use crate::runtime::seam::{Chunk, Layer};
use crate::secure::sasl::Task;

/// A connection, as the client that makes it names it. Never used twice by one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// What a client wants done. In order: the sends of one link above all.
#[derive(Debug)]
pub enum Effect<E> {
    /// Resolve a name, and answer with the same ticket.
    Resolve {
        /// Never used twice. A late answer is ignored.
        ticket: u64,
        /// The name; never a literal address.
        host: String,
        /// The port, for the addresses.
        port: u16,
    },
    /// Open a TCP connection, put the layer over it, and report when that is ready, or has ended.
    Connect {
        /// Its name.
        link: LinkId,
        /// Where to.
        to: SocketAddr,
        /// TLS, where the settings have it.
        layer: Option<Box<dyn Layer>>,
    },
    /// Do this on an ordinary thread, for a login, and answer with the same ticket.
    Prepare {
        /// Never used twice. A late result is ignored.
        ticket: u64,
        /// What is to be done.
        task: Task,
    },
    /// Send these bytes.
    Send {
        /// On which connection.
        link: LinkId,
        /// One whole request.
        chunks: Vec<Chunk>,
    },
    /// Close at once, dropping what is unsent; also one that is still being made. The client has forgotten it.
    Close {
        /// Which connection.
        link: LinkId,
    },
    /// News for whoever uses the client.
    Event(E),
}
