//! `Flow` is how the reading of a connection goes on after a packet.

use super::Stall;

/// The next step after a packet.
pub enum Flow {
    /// The next packet follows.
    On,
    /// No packet follows for now, and this one stays unread.
    Stall(Stall),
    /// The same packet continues once the connection has its next quantum: its progress is noted.
    Part,
    /// The connection has been ended.
    Ended,
}
