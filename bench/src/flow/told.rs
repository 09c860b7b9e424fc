//! The fate of each message: one byte a message, so that ten million need ten megabytes.

use std::collections::HashMap;

/// The message was acknowledged with success (QoS 1: PUBACK; QoS 2: PUBREC). From then on it must be in Kafka.
pub(crate) const ANSWERED: u8 = 1;
/// The message was sent more than once.
pub(crate) const RESENT: u8 = 2;
/// The message was answered with a code of 0x80 or more.
pub(crate) const REFUSED: u8 = 4;
/// The server had forgotten the session while the message was open: it is never sent again.
pub(crate) const ABANDONED: u8 = 8;
/// A first copy was found in Kafka.
pub(crate) const FOUND: u8 = 16;
/// More than one copy was found.
pub(crate) const DOUBLED: u8 = 32;
/// The session was forgotten, and the message was sent once more as a new one.
pub(crate) const ANEW: u8 = 64;

/// A message that was sent again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Again {
    /// The number of messages that had been sent by the last time.
    pub(crate) newest: u64,
    /// The time of its answer, in ns since the run began. 0: it has none.
    pub(crate) answered_ns: u64,
}

/// The fates of one client's messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// Marks by number of the message; as long as the number of sent messages.
    pub(crate) marks: Vec<u8>,
    /// Connections that were accepted.
    pub(crate) connections: u64,
    /// Connections that the client broke itself.
    pub(crate) broken: u64,
    /// Connections that the server or the network ended.
    pub(crate) dropped: u64,
    /// Times that the server had no session any more.
    pub(crate) forgotten: u64,
    /// Sessions among them that were lost against the promise.
    pub(crate) sessions_lost: u64,
    /// Sessions that the server claimed and cannot have.
    pub(crate) sessions_claimed: u64,
    /// Messages that were sent again.
    pub(crate) again: HashMap<u64, Again>,
    /// All messages were sent and answered, and the connection ended in order.
    pub(crate) finished: bool,
}

impl Told {
    /// Notes that the next message was sent for the first time.
    pub(crate) fn sent(&mut self) {
        self.marks.push(0);
    }

    /// Sets marks of a message.
    pub(crate) fn mark(&mut self, number: u64, marks: u8) {
        if let Some(found) = self.marks.get_mut(number as usize) {
            *found |= marks;
        }
    }

    /// Whether all bytes that it ever wrote have reached the server: its QoS 0 messages are then due too.
    pub(crate) fn is_whole(&self) -> bool {
        self.finished && self.broken == 0 && self.dropped == 0
    }
}
