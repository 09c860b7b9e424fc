//! When a burst is over: free memory goes back to the system. The allocator by itself keeps what lies below something that is in use.

use std::time::{Duration, Instant};

use crate::limits::TRIMMED_BYTES_MIN;
use crate::metrics::process::resident_bytes;
use crate::metrics::samples::Sample;
use crate::metrics::spec::ClusterMetric as C;
use crate::metrics::spec::ShardMetric as S;
use crate::runtime::trim_heap;

/// A shard that allocates meanwhile waits for it: no more often than this.
const PAUSE: Duration = Duration::from_secs(10);
/// By so much what is held may go down from one look to the next and count as steady.
const STEADY_BYTES: u64 = 1 << 20;

/// What of a shard is counted in bytes and can be large.
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

/// What of a shard is counted in numbers and can take much memory that no number of bytes tells.
const THINGS: [S; 4] = [S::Sessions, S::Subscriptions, S::CopiesQueued, S::CopiesInFlight];
/// So few of them are not looked at.
const THINGS_MIN: u64 = 1_000;
/// What is held has to be steady for so many looks before it counts as the end of a burst that was held for long.
const STEADY_LOOKS: u32 = 5;

/// What the shards have.
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

    /// Whether at most half of what there was is left, and that was much.
    fn is_half_gone(self, peak: Self) -> bool {
        let gone = peak.held.saturating_sub(self.held);
        gone >= TRIMMED_BYTES_MIN && gone >= peak.held / 2
            || peak.things >= THINGS_MIN && self.things <= peak.things / 2
    }
}

/// Remembers from one look to the next what is held, and how much more is resident.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    held: u64,
    /// The most that there has been since memory was last given back. What is given back during a burst leaves all that the burst needs, and
    /// what is resident then says nothing of what is needed after it.
    peak: Load,
    /// For so many looks what is held has not gone down.
    steady: u32,
    /// Resident memory beyond what is held: the least since it was last given back.
    beyond: Option<u64>,
    trimmed: Option<Instant>,
    /// Shards have made turns since a look that found nothing to do.
    is_awake: bool,
    turns: u64,
}

impl Trimmer {
    /// Gives memory back, if it is time. Of an idle service, whose shards have made no turn, nothing is asked.
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

    /// Whether much more is resident than is held, compared with before, and what is held does not go down any more. A burst shorter than
    /// a second shows as well: not in what is held at a look, but in what stays resident.
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

    /// Looks once a second at what is held and what is resident; those at which it was due, and gave back what was not held but 20 MiB.
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

    /// Finding U3: what is given back while a burst is held leaves its peak, and that is no base.
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
                    // While it is held nothing can go back.
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
