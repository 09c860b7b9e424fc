//! The length of a queue as a part of its bound.

use super::outgoing::Outgoing;
use super::{QueueBounds, Session};

/// Levels of fill: each is twice as much as the one before. At 0 a queue holds less than a two-thousandth of its bound.
#[derive(Debug)]
pub struct Fill;

impl Fill {
    /// The number of levels.
    pub const LEVELS: usize = 13;

    /// The level of a queue of this many messages and bytes.
    #[must_use]
    pub fn level((messages, bytes): (usize, usize), bounds: QueueBounds) -> u8 {
        const WHOLE: u64 = 2_048;
        let part = |of: usize, most: usize| of as u64 * WHOLE / (most as u64).max(1);
        let part = part(messages, bounds.messages).max(part(bytes, bounds.bytes)).min(WHOLE);
        (u64::BITS - part.leading_zeros()) as u8
    }

    /// The level at which to list a queue now, if that is higher than the one at which it is listed.
    pub fn grown(listed: &mut u8, level: u8) -> Option<u8> {
        let has_grown = level > *listed;
        *listed = level.max(*listed);
        has_grown.then_some(level)
    }

    /// The level at which to list a queue that is not listed any more.
    pub fn again(listed: &mut u8, level: u8) -> Option<u8> {
        *listed = level;
        (level > 0).then_some(level)
    }
}

impl Session {
    /// The level of the messages that wait for its client.
    #[must_use]
    pub fn fill(&self, bounds: QueueBounds) -> u8 {
        self.outgoing.as_deref().map_or(0, |outgoing| outgoing.fill(bounds))
    }

    /// The level to list the queue at after a copy was put at its end, if that is higher than before.
    pub fn grown(&mut self, bounds: QueueBounds) -> Option<u8> {
        let outgoing = self.outgoing.as_deref_mut()?;
        let level = outgoing.fill(bounds);
        Fill::grown(&mut outgoing.listed, level)
    }

    /// See [`Fill::again`]. `may_go`: some copies of the queue may be dropped; else it is listed again when it has grown.
    pub fn list_again(&mut self, bounds: QueueBounds, may_go: bool) -> Option<u8> {
        let outgoing = self.outgoing.as_deref_mut()?;
        let level = if may_go { outgoing.fill(bounds) } else { 0 };
        Fill::again(&mut outgoing.listed, level)
    }

    /// The level at which the queue is listed.
    #[must_use]
    pub fn listed(&self) -> u8 {
        self.outgoing.as_deref().map_or(0, |outgoing| outgoing.listed)
    }

    /// Drops up to `most` of the oldest copies that its client was not sent and that may be dropped. Returns how many.
    pub fn drop_oldest(&mut self, most: usize) -> usize {
        self.outgoing.as_deref_mut().map_or(0, |outgoing| outgoing.drop_oldest(most))
    }

    /// Drops the copies that only memory has, and that keep records open for its client, which is away.
    pub fn drop_unlogged(&mut self) {
        self.outgoing.as_deref_mut().into_iter().for_each(Outgoing::drop_unlogged);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_twice_as_long_is_a_level_higher() {
        let bounds = QueueBounds { messages: 2_048, bytes: 1 << 20, drops_newest: false, counts_sent: false };
        let level = |messages, bytes| Fill::level((messages, bytes), bounds);
        assert_eq!(
            [0, 1, 2, 3, 4, 1_023, 1_024, 2_047, 2_048, 9_999].map(|messages| level(messages, 0)),
            [0, 1, 2, 2, 3, 10, 11, 11, 12, 12]
        );
        assert_eq!([0, 511, 512, 1 << 19, 1 << 20].map(|bytes| level(1, bytes)), [1, 1, 1, 11, 12]);
        assert!(usize::from(level(usize::MAX / 4_096, usize::MAX / 4_096)) < Fill::LEVELS);
        let mut listed = 0;
        let noted = [0, 3, 3, 2, 4].map(|level| Fill::grown(&mut listed, level));
        assert_eq!(noted, [None, Some(3), None, None, Some(4)]);
        assert_eq!((Fill::again(&mut listed, 2), Fill::again(&mut listed, 0), listed), (Some(2), None, 0));
    }
}
