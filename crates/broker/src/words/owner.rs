//! `Owner` is the receiver of a row's answer. The producer and the other shards see it as the number in a [`Ticket`].

use forebay_kafka::types::Ticket;
use forebay_session::{Claimed, SessionKey};

/// The lower half of a number that is no session's: a shard never has as many.
const NO_SESSION: u32 = u32::MAX;
/// The lower half of a reader's number for dead letters: a shard never has as many sessions, either.
const BAD_RECORD: u32 = u32::MAX - 1;
/// The lower half of a bridge's number for dead letters: likewise.
const REFUSED: u32 = u32::MAX - 2;
/// The upper half of that of dead letters. No source has as many readers.
const LETTERS: u32 = u32::MAX;

/// The owner of a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The session that has published the message.
    Session(SessionKey),
    /// The queue of dead letters, which passes the answer on.
    Letters,
    /// The reader of a source's partition.
    Reader(u32),
    /// Like [`Self::Reader`], for a record that is no message: the row is its dead letter.
    BadRecord(u32),
    /// A bridge, by its place in the configuration, for a message that its remote refuses: the row is its dead letter.
    Refused(u32),
}

impl Owner {
    /// The owner's number.
    #[inline]
    pub fn bits(self) -> u64 {
        let other = |kind: u32| u64::from(kind) << 32 | u64::from(NO_SESSION);
        match self {
            Self::Session(key) => key.to_bits(),
            Self::Letters => other(LETTERS),
            Self::Reader(reader) => other(reader),
            Self::BadRecord(reader) => u64::from(reader) << 32 | u64::from(BAD_RECORD),
            Self::Refused(bridge) => u64::from(bridge) << 32 | u64::from(REFUSED),
        }
    }

    /// The owner with this number.
    #[inline]
    pub fn of(bits: u64) -> Self {
        match (bits as u32, (bits >> 32) as u32) {
            (NO_SESSION, LETTERS) => Self::Letters,
            (NO_SESSION, reader) => Self::Reader(reader),
            (BAD_RECORD, reader) => Self::BadRecord(reader),
            (REFUSED, bridge) => Self::Refused(bridge),
            _ => Self::Session(SessionKey::from_bits(bits)),
        }
    }

    /// The owner's ticket for its message of this number.
    #[inline]
    pub fn ticket(self, number: u32) -> Ticket {
        Ticket { session: self.bits(), number }
    }
}

/// The ticket of a record.
pub fn ticket_of(claimed: Claimed) -> Ticket {
    Owner::Reader(claimed.reader).ticket(claimed.number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_known_by_its_number() {
        let session = SessionKey::from_bits(5 << 32 | 7);
        let readers =
            [Owner::Reader(0), Owner::Reader(u32::MAX - 1), Owner::BadRecord(0), Owner::BadRecord(u32::MAX - 1)];
        let bridges = [Owner::Refused(0), Owner::Refused(u32::MAX - 1)];
        for owner in [Owner::Session(session), Owner::Letters].into_iter().chain(bridges).chain(readers) {
            assert_eq!(Owner::of(owner.bits()), owner);
        }
    }
}
