//! Each publisher's numbered messages as one receiver sees them: losses, doubles, disorder.

use std::collections::HashSet;

/// The most missing numbers that are remembered; more are only counted.
const MISSING_MAX: usize = 1 << 20;

/// The messages of one publisher at one receiver.
#[derive(Clone, Debug, Default)]
struct Stream {
    /// One above the highest number seen.
    next: u64,
    /// Different messages seen.
    distinct: u64,
    /// One above the highest number seen of each QoS: order is promised only within one (5.0 §4.6).
    newest: [u64; 3],
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    by_publisher: Vec<Stream>,
    /// Numbers that were skipped and have not come since.
    missing: HashSet<(u32, u64)>,
    pub(crate) doubled: u64,
    pub(crate) disordered: u64,
    /// Whether there were too many gaps to remember: doubles and late messages can no longer be distinguished.
    pub(crate) overflowed: bool,
}

impl Streams {
    pub(crate) fn new(publishers: usize) -> Self {
        Self { by_publisher: vec![Stream::default(); publishers], ..Self::default() }
    }

    /// Takes a message. `false`: there is no such publisher.
    pub(crate) fn take(&mut self, publisher: u32, qos: u8, number: u64) -> bool {
        let Some(stream) = self.by_publisher.get_mut(publisher as usize) else { return false };
        let newest = &mut stream.newest[usize::from(qos.min(2))];
        if number == stream.next {
            (stream.next, *newest) = (number + 1, number + 1);
            stream.distinct += 1;
            return true;
        }
        let late = number < *newest;
        *newest = (*newest).max(number + 1);
        if number > stream.next {
            if self.missing.len() as u64 + (number - stream.next) <= MISSING_MAX as u64 {
                self.missing.extend((stream.next..number).map(|missed| (publisher, missed)));
            } else {
                self.overflowed = true;
            }
            stream.next = number + 1;
            stream.distinct += 1;
        } else if self.missing.remove(&(publisher, number)) || (self.overflowed && late) {
            stream.distinct += 1;
            self.disordered += u64::from(late);
        } else {
            self.doubled += 1;
        }
        true
    }

    /// The number of different messages of a publisher that came.
    pub(crate) fn distinct(&self, publisher: usize) -> u64 {
        self.by_publisher.get(publisher).map_or(0, |stream| stream.distinct)
    }

    /// Adds another receiver that shares a subscription with this one: each message comes to one of them.
    pub(crate) fn share(&mut self, other: &Self) {
        for (mine, theirs) in self.by_publisher.iter_mut().zip(&other.by_publisher) {
            mine.distinct += theirs.distinct;
        }
        self.doubled += other.doubled;
        self.disordered += other.disordered;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[u64]) -> Streams {
        let mut streams = Streams::new(1);
        assert!(numbers.iter().all(|&number| streams.take(0, 1, number)));
        streams
    }

    #[test]
    fn losses_doubles_and_disorder_are_told_from_each_other() {
        let whole = seen(&[0, 1, 2, 3]);
        assert_eq!((whole.distinct(0), whole.doubled, whole.disordered), (4, 0, 0));
        let lost = seen(&[0, 3]);
        assert_eq!((lost.distinct(0), lost.doubled, lost.disordered), (2, 0, 0));
        let late = seen(&[0, 2, 1, 3]);
        assert_eq!((late.distinct(0), late.doubled, late.disordered), (4, 0, 1));
        let twice = seen(&[0, 1, 1, 0, 2]);
        assert_eq!((twice.distinct(0), twice.doubled, twice.disordered), (3, 2, 0));
        assert!(!Streams::new(1).take(1, 0, 0));
    }

    #[test]
    fn order_holds_within_a_qos_only() {
        let mut streams = Streams::new(1);
        for (qos, number) in [(0, 0), (0, 2), (1, 1), (0, 3)] {
            streams.take(0, qos, number);
        }
        assert_eq!((streams.distinct(0), streams.disordered), (4, 0));
    }
}
