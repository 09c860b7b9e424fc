//! The trimmer gives free memory back to the system after a burst. The allocator by itself keeps memory below blocks in use.

use std::time::{Duration, Instant};

use crate::limits::TRIMMED_BYTES_MIN;
use crate::metrics::process::resident_bytes;
use crate::metrics::samples::Sample;
use crate::metrics::spec::ClusterMetric as C;
use crate::metrics::spec::ShardMetric as S;
use crate::runtime::trim_heap;

/// Least interval between two returns of memory: a shard that allocates during a return waits for it.
const PAUSE: Duration = Duration::from_secs(10);
/// The most by which the held bytes may fall between two looks and still count as steady.
const STEADY_BYTES: u64 = 1 << 20;

/// Numbers of a shard that are in bytes and can be large.
const BYTES: [S; 7] = [
    S::PartialBytes,
    S::HeldBytes,
    S::RememberedBytes,
    S::DeliveryLineBytes,
    S::ShareQueuedBytes,
    S::RetainedBytes,
    S::DeadLettersQueuedBytes,
];

/// Bytes that the shards hold for messages.
fn held(sample: &Sample, clusters: usize) -> u64 {
    let shards: u64 = BYTES.iter().map(|metric| sample.place(*metric as usize)).sum();
    let of = |index| sample.cluster(index, C::BufferBytes) + sample.cluster(index, C::BufferUnused);
    shards + (0..clusters).map(of).sum::<u64>()
}

/// Numbers of a shard that can mean much memory without a count of bytes.
const THINGS: [S; 4] = [S::Sessions, S::Subscriptions, S::CopiesQueued, S::CopiesInFlight];
/// The least count of these that is looked at.
const THINGS_MIN: u64 = 1_000;
/// The number of consecutive looks with steady held bytes that count as the end of a long burst.
const STEADY_LOOKS: u32 = 5;

/// The load of the shards.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    /// Bytes for messages.
    held: u64,
    things: u64,
}

impl Load {
    fn of(sample: &Sample, clusters: usize) -> Self {
        let things = THINGS.iter().map(|metric| sample.place(*metric as usize)).sum();
        Self { held: held(sample, clusters), things }
    }

    fn max(self, other: Self) -> Self {
        Self { held: self.held.max(other.held), things: self.things.max(other.things) }
    }

    /// Whether at most half of the peak is left, and the peak was large.
    fn is_half_gone(self, peak: Self) -> bool {
        let gone = peak.held.saturating_sub(self.held);
        gone >= TRIMMED_BYTES_MIN && gone >= peak.held / 2
            || peak.things >= THINGS_MIN && self.things <= peak.things / 2
    }
}

/// The held memory, and the resident memory beyond it, from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    held: u64,
    /// The peak since memory was last given back. A return during a burst leaves all that the burst needs, and the resident
    /// memory then tells nothing of the need after it.
    peak: Load,
    /// The number of consecutive looks without a fall of the held bytes.
    steady: u32,
    /// The least resident memory beyond the held bytes since memory was last given back.
    beyond: Option<u64>,
    trimmed: Option<Instant>,
    /// Whether shards have made turns since a look that found nothing to do.
    is_awake: bool,
    turns: u64,
}

impl Trimmer {
    /// Gives memory back, if that is due. An idle service, with shards that have made no turn, is left alone.
    pub(super) fn look(&mut self, sample: &Sample, clusters: usize) {
        let turns = sample.place(S::Turns as usize);
        self.is_awake |= turns != std::mem::replace(&mut self.turns, turns);
        if !self.is_awake {
            return;
        }
        let load = Load::of(sample, clusters);
        if self.is_due(load, resident_bytes(), sample.at()) {
            trim_heap();
            self.beyond = Some(resident_bytes().saturating_sub(load.held));
        }
    }

    /// Whether resident memory far exceeds held memory, compared with before, and the held bytes have stopped falling. A burst
    /// shorter than a second counts as well: it does not show in the held bytes, but in the resident ones.
    fn is_due(&mut self, load: Load, resident: u64, now: Instant) -> bool {
        let held = load.held;
        let is_steady = held + STEADY_BYTES >= std::mem::replace(&mut self.held, held);
        let beyond = resident.saturating_sub(held);
        let least = self.beyond.map_or(beyond, |least| least.min(beyond));
        self.beyond = Some(least);
        let is_much = beyond - least >= TRIMMED_BYTES_MIN;
        self.peak = self.peak.max(load);
        self.steady = if is_steady { self.steady.saturating_add(1) } else { 0 };
        let is_over = load.is_half_gone(self.peak);
        let has_to_wait = self.trimmed.is_some_and(|at| now.duration_since(at) < PAUSE);
        let is_due = (is_much && is_steady || is_over && self.steady >= STEADY_LOOKS) && !has_to_wait;
        self.is_awake = !is_steady || ((is_much || is_over) && !is_due);
        if is_due {
            (self.trimmed, self.peak) = (Some(now), load);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Samples held and resident memory once a second. Returns the samples at which memory was given back: all that was not held, except 20 MiB.
    fn due(looks: impl IntoIterator<Item = (u64, u64)>) -> Vec<usize> {
        let (mut trimmer, start) = (Trimmer::default(), Instant::now());
        let looks = looks.into_iter().enumerate();
        let due = looks.filter(|(s, (held, resident))| {
            let at = start + Duration::from_secs(*s as u64);
            let is_due = trimmer.is_due(Load { held: held * MIB, things: 0 }, resident * MIB, at);
            if is_due {
                trimmer.beyond = Some(20 * MIB);
            }
            is_due
        });
        due.map(|(s, _)| s).collect()
    }

    #[test]
    fn once_when_what_is_resident_is_not_held_any_more() {
        let burst = [(0, 20), (200, 225), (250, 275), (120, 275), (1, 270), (0, 270), (0, 20), (0, 20)];
        assert_eq!(due(burst), [5], "when what is held is down, and once");
        assert_eq!(due([(0, 20), (0, 55), (0, 20)]), [1], "the burst was over before a look");
        assert!(due([(0, 20), (5, 30), (0, 26), (0, 26)]).is_empty(), "not for little");
        assert!(due([(200, 220); 30]).is_empty());
    }

    /// Finding U3: a return while a burst is held leaves its peak, and that is no base.
    #[test]
    fn finding_u3_what_was_held_for_long_goes_back_when_it_is_over() {
        for (held, things) in [(60, 0), (0, 150_000)] {
            let (mut trimmer, start) = (Trimmer::default(), Instant::now());
            let mut is_back = false;
            let looks = (0..60).filter(|s| {
                let (held, things) = if (2..17).contains(s) { (held, things) } else { (0, 0) };
                let resident = if *s < 2 || is_back { 20 } else { 107 };
                let at = start + Duration::from_secs(*s);
                let is_due = trimmer.is_due(Load { held: held * MIB, things }, resident * MIB, at);
                is_back |= is_due && *s >= 17;
                if is_due {
                    // No memory can be given back while the burst is held.
                    trimmer.beyond = Some((if *s < 17 { 107 - held } else { 20 }) * MIB);
                }
                is_due
            });
            let looks: Vec<_> = looks.collect();
            assert!(looks.iter().any(|s| (17..47).contains(s)), "{looks:?}");
            assert!(looks.len() <= 3, "{looks:?}");
        }
    }

    #[test]
    fn not_every_second_where_it_goes_up_and_down() {
        let looks = due((0..60).map(|s| if s % 4 < 2 { (100, 120) } else { (0, 120) }));
        assert!((4..=6).contains(&looks.len()), "{looks:?}");
    }
}
