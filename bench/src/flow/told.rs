//! What became of each message: one byte a message, so that ten million need ten megabytes.

use std::collections::HashMap;

/// A success was answered (QoS 1: PUBACK; QoS 2: PUBREC). From then on it must be in Kafka.
pub(crate) const ANSWERED: u8 = 1;
/// It was sent more than once.
pub(crate) const RESENT: u8 = 2;
/// A code of 0x80 or more was answered.
pub(crate) const REFUSED: u8 = 4;
/// The server had forgotten the session while this one was open: never sent again.
pub(crate) const ABANDONED: u8 = 8;
/// A first copy was found in Kafka.
pub(crate) const FOUND: u8 = 16;
/// More than one was.
pub(crate) const DOUBLED: u8 = 32;
/// Its session was forgotten, and it was sent once more as a new message.
pub(crate) const ANEW: u8 = 64;

/// One client's part.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// By number of the message; as long as what has been sent.
    pub(crate) marks: Vec<u8>,
    /// Connections that were accepted.
    pub(crate) connections: u64,
    /// Connections that it broke itself.
    pub(crate) broken: u64,
    /// Connections that the server or the network ended.
    pub(crate) dropped: u64,
    /// Times that the server had no session any more.
    pub(crate) forgotten: u64,
    /// Of these, against what it promises.
    pub(crate) sessions_lost: u64,
    /// Times that it claimed a session which it cannot have.
    pub(crate) sessions_claimed: u64,
    /// What was sent again, and how many messages had been sent by the last time.
    pub(crate) again: HashMap<u64, u64>,
    /// All was sent and answered, and the connection ended in order.
    pub(crate) finished: bool,
}

impl Told {
    /// The next message was sent for the first time.
    pub(crate) fn sent(&mut self) {
        self.marks.push(0);
    }

    /// Sets marks of a message.
    pub(crate) fn mark(&mut self, number: u64, marks: u8) {
        if let Some(found) = self.marks.get_mut(number as usize) {
            *found |= marks;
        }
    }

    /// Did all that it ever wrote reach the server? Then its QoS 0 messages are owed too.
    pub(crate) fn is_whole(&self) -> bool {
        self.finished && self.broken == 0 && self.dropped == 0
    }
}
