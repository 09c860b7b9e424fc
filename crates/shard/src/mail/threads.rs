//! Answers of ordinary threads to a shard's clients of other servers, and to its queues of dead letters.

use std::net::SocketAddr;

use forebay_guard::secure::sasl::Prepared;

use crate::words::Far;

/// An answer to the client of an outgoing connection.
#[derive(Debug)]
pub enum ToCarrier {
    /// The resolver's answer to the question of an outgoing connection's client.
    Resolved {
        /// The client's other end.
        far: Far,
        /// The client's ticket for the question.
        ticket: u64,
        /// Addresses, or the failure in words.
        found: Result<Vec<SocketAddr>, String>,
    },
    /// The preparation of a login.
    Prepared {
        /// The client's other end.
        far: Far,
        /// The client's ticket for the login.
        ticket: u64,
        /// The prepared login, or the failure in words.
        result: Result<Prepared, String>,
    },
}

/// An answer of the thread of a dead-letter file.
#[derive(Debug)]
pub enum ToDeadLetters {
    /// The oldest letters of this shard to a dead-letter file are on the disk.
    Filed {
        /// Index of the sink.
        sink: usize,
        /// The number of letters.
        count: u32,
    },
    /// The oldest letters of a bridge are on the disk.
    FiledOfBridge {
        /// Index of the bridge.
        bridge: usize,
        /// The number of this use of its file.
        number: usize,
        /// The number of letters.
        count: u32,
    },
}
