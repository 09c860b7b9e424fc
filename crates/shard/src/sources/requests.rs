//! Numbers of requests for records at a cluster's client. By the number of an answer its consumer is found: the two highest bits are the
//! kind of consumer, 22 bits follow for the consumer's own number, and it counts its requests in the others.

/// The bits in which a consumer counts its requests.
const REQUEST_BITS: u32 = 40;
/// The bits above them and below the kind.
const NUMBER_BITS: u32 = 22;

/// The consumer that has made a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// The consumer of all sources of the cluster.
    Sources,
    /// A replay, which may have ended.
    Replay,
    /// A share of several instances, which may have ended.
    Share,
}

impl Asker {
    /// The kind of consumer that made a request of this number.
    pub(super) const fn of(id: u64) -> Self {
        match id >> (REQUEST_BITS + NUMBER_BITS) {
            0 => Self::Sources,
            1 => Self::Replay,
            _ => Self::Share,
        }
    }

    /// The first request of a consumer with this number.
    pub(super) fn first_request(self, number: u32) -> u64 {
        (self as u64) << (REQUEST_BITS + NUMBER_BITS) | (u64::from(number) % (1 << NUMBER_BITS)) << REQUEST_BITS
    }
}

/// The first request of the consumer that made a request of this number.
pub(super) const fn first_request(id: u64) -> u64 {
    id >> REQUEST_BITS << REQUEST_BITS
}

/// The number after `last` that no consumer of a kind has. There are far fewer consumers than numbers.
pub(super) fn next_number(last: u32, is_taken: impl Fn(u32) -> bool) -> u32 {
    let mut next = last;
    loop {
        next = (next + 1) % (1 << NUMBER_BITS);
        if !is_taken(next) {
            return next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many consumers there have been, an answer finds the one that asked.
    #[test]
    fn finding_q64_numbers_of_requests_keep_their_kind() {
        let kinds = [Asker::Sources, Asker::Replay, Asker::Share];
        for number in [0, 1, (1 << 22) - 1, 1 << 22, (1 << 23) - 1, 1 << 23, (1 << 24) - 1, 1 << 24, u32::MAX] {
            for kind in kinds {
                let first = kind.first_request(number);
                for id in [first, first + 1, first + (1 << 40) - 1] {
                    assert_eq!((Asker::of(id), first_request(id)), (kind, first), "{number}");
                }
            }
        }
    }

    #[test]
    fn finding_q64_a_number_in_use_is_not_given_again() {
        assert_eq!(next_number(7, |_| false), 8);
        assert_eq!(next_number((1 << 22) - 2, |number| number == (1 << 22) - 1 || number == 0), 1);
    }
}
