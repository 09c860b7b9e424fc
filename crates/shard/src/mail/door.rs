//! Letters about connections that have no session yet.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use forebay_guard::auth;
use forebay_runtime::seam::{ConnId, Detached};

use crate::words::AtDoor;

/// A letter to the door of a shard.
#[derive(Debug)]
pub enum ToDoor {
    /// A connection with a CONNECT of a client that this shard owns, with the bytes read so far, and the client's identity as far as it is known; or one of
    /// another instance that is for this shard.
    HandOver(Detached, Option<Box<AtDoor>>),
    /// A socket of the control plane, on which a client of the dashboard speaks WebSocket, and its user.
    TestClient(OwnedFd, Box<str>),
    /// The resolver's answer to the question for another instance's link.
    PeerResolved {
        /// The ticket of the question.
        ticket: u64,
        /// Addresses, or the failure in words.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// The verdict on the password of a CONNECT. `None`: too many passwords of its address are pending.
    Judged {
        /// The connection of the CONNECT.
        conn: ConnId,
        /// The client's admission, or the reason why it is refused.
        answer: Option<auth::Answer>,
    },
}
