//! `Timer` is the purpose of a shard's timer.

use forebay_broker::out::Due;
use forebay_runtime::seam::ConnId;

/// The purpose of a shard's timer, packed into the runtime's token: two bits of kind, thirty of slot, 32 of generation. A token of a connection that is gone
/// finds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The broker has something to do.
    Broker(Due),
    /// A connection has timed out (CONNECT or keep-alive).
    Connection(ConnId),
    /// A cluster's producer or client has something to do.
    Cluster(usize),
    /// A session or will is due.
    Sessions,
    /// The drain's grace has ended.
    Grace,
    /// The spool has something to do.
    Spool,
    /// The spool's next group may begin.
    Group,
    /// The note beside the spool's segments must be written again.
    Note,
    /// Connections of a user that had used up its rate may go on.
    Rates,
    /// Connections wait for room in another shard's mailbox.
    Moves,
    /// Sources have something to do.
    Sources,
    /// The client of a bridge has something to do.
    Bridge(usize),
    /// Clients wait for an owner.
    Relays,
    /// Something is due for trunks or their streams.
    Trunks,
    /// A connection's answers have to be looked at.
    Answers(ConnId),
}

impl Timer {
    /// The timer as a number of the runtime.
    pub(crate) fn token(self) -> u64 {
        let (kind, slot, generation) = match self {
            Self::Connection(id) => (0, id.slot, id.generation),
            Self::Cluster(index) => (1, u32::try_from(index).unwrap_or(u32::MAX), 0),
            Self::Bridge(index) => (1, u32::try_from(index).unwrap_or(u32::MAX), 1),
            Self::Sessions => (2, 0, 0),
            Self::Grace => (2, 1, 0),
            Self::Spool => (2, 2, 0),
            Self::Rates => (2, 3, 0),
            Self::Broker(Due::Delivery) => (2, 4, 0),
            Self::Moves => (2, 5, 0),
            Self::Broker(Due::Queues) => (2, 6, 0),
            Self::Broker(Due::Shares) => (2, 7, 0),
            Self::Group => (2, 8, 0),
            Self::Broker(Due::LateMembers) => (2, 9, 0),
            Self::Broker(Due::Retained) => (2, 10, 0),
            Self::Note => (2, 11, 0),
            Self::Sources => (2, 12, 0),
            Self::Relays => (2, 13, 0),
            Self::Trunks => (2, 14, 0),
            Self::Answers(id) => (3, id.slot, id.generation),
        };
        (kind << 62) | (u64::from(slot & (u32::MAX >> 2)) << 32) | u64::from(generation)
    }

    /// The timer with this number.
    pub(crate) fn of(token: u64) -> Self {
        let slot = u32::try_from(token >> 32).unwrap_or(0) & (u32::MAX >> 2);
        let generation = u32::try_from(token & u64::from(u32::MAX)).unwrap_or(0);
        match token >> 62 {
            0 => Self::Connection(ConnId { slot, generation }),
            1 if generation == 0 => Self::Cluster(slot as usize),
            1 => Self::Bridge(slot as usize),
            2 if slot == 0 => Self::Sessions,
            2 if slot == 2 => Self::Spool,
            2 if slot == 3 => Self::Rates,
            2 if slot == 4 => Self::Broker(Due::Delivery),
            2 if slot == 5 => Self::Moves,
            2 if slot == 6 => Self::Broker(Due::Queues),
            2 if slot == 7 => Self::Broker(Due::Shares),
            2 if slot == 8 => Self::Group,
            2 if slot == 9 => Self::Broker(Due::LateMembers),
            2 if slot == 10 => Self::Broker(Due::Retained),
            2 if slot == 11 => Self::Note,
            2 if slot == 12 => Self::Sources,
            2 if slot == 13 => Self::Relays,
            2 if slot == 14 => Self::Trunks,
            2 => Self::Grace,
            _ => Self::Answers(ConnId { slot, generation }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timer_tokens_round_trip() {
        let connection = Timer::Connection(ConnId { slot: 123_456, generation: u32::MAX });
        let answers = Timer::Answers(ConnId { slot: 1, generation: 0 });
        use Timer::*;
        let others = [Sessions, Grace, Spool, Rates, Moves, Relays, Trunks, Broker(Due::Delivery), Broker(Due::Shares)];
        for timer in others.into_iter().chain([connection, Cluster(7), Bridge(7), answers]) {
            assert_eq!(Timer::of(timer.token()), timer);
        }
    }
}
