//! A consistent snapshot of one shard's numbers: one writer, any number of readers, no lock.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::histogram::Histograms;
use super::spec::Layout;

/// Numbers of one shard, published by its core and read by the control plane.
///
/// A sequence lock: the version is odd while the writer is inside; a reader that saw it odd, or saw it move, reads
/// again. The values are atomics too, so a torn read is a retry, never undefined behaviour.
#[derive(Debug)]
pub struct Board {
    version: AtomicU64,
    values: Box<[AtomicU64]>,
    /// The histograms, updated in place: no ledger needs them to be of one turn.
    pub histograms: Histograms,
}

impl Board {
    /// A board of this layout, with zeros.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        let values = (0..layout.len()).map(|_| AtomicU64::new(0)).collect();
        Self { version: AtomicU64::new(0), values, histograms: Histograms::new(layout) }
    }

    /// Publishes a turn's numbers at these places; the others have not changed. One writer only: the shard that owns the board.
    pub fn publish(&self, values: &[u64], places: impl IntoIterator<Item = usize>) {
        debug_assert_eq!(values.len(), self.values.len());
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        places.into_iter().for_each(|place| self.values[place].store(values[place], Ordering::Relaxed));
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// The numbers of the last turn that was published whole.
    #[must_use]
    pub fn read(&self) -> Vec<u64> {
        loop {
            let before = self.version.load(Ordering::Acquire);
            if before & 1 == 0 {
                let values = self.values.iter().map(|v| v.load(Ordering::Relaxed)).collect();
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return values;
                }
            }
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LAYOUT: Layout = Layout { sinks: 0, clusters: 0, listeners: 0, sources: 0, rules: 0, bridges: 0 };

    #[test]
    fn a_reader_never_sees_half_a_turn() {
        const LEN: usize = LAYOUT.len();
        let board = Arc::new(Board::new(LAYOUT));
        let writer = {
            let board = Arc::clone(&board);
            std::thread::spawn(move || {
                for turn in 1..=20_000u64 {
                    board.publish(&[turn; LEN], 0..LEN);
                }
            })
        };
        let mut seen = 0;
        while seen < 20_000 {
            let values = board.read();
            assert!(values.iter().all(|v| *v == values[0]), "torn: {values:?}");
            assert!(values[0] >= seen, "went back");
            seen = values[0];
        }
        writer.join().expect("writer");
    }
}
