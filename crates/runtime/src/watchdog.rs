//! Notices a shard that no longer turns: code that spins or blocks, or a sleeper that letters do not wake. The shard
//! itself cannot tell; an ordinary thread can.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::mailbox::Post;

/// The values that a shard publishes about itself: written by its thread alone, read by any thread.
#[derive(Debug, Default)]
pub struct Heartbeat {
    turns: CachePadded<AtomicU64>,
    parked: AtomicBool,
    connections: AtomicUsize,
    out_buffers: AtomicUsize,
    accepts_refused: AtomicU64,
}

impl Heartbeat {
    /// Turns since the start. Stands still while the shard sleeps without work.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// Whether the shard sleeps in its ring, as it last published.
    #[must_use]
    pub fn parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed)
    }

    /// Slots in use, as of the last turn; a closed connection keeps its slot until the kernel has let go.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Out-buffers that are with connections, as of the last turn. Idle connections hold none.
    #[must_use]
    pub fn out_buffers(&self) -> usize {
        self.out_buffers.load(Ordering::Relaxed)
    }

    /// Connections that were closed when they were accepted, because the descriptors for devices were used up.
    #[must_use]
    pub fn accepts_refused(&self) -> u64 {
        self.accepts_refused.load(Ordering::Relaxed)
    }

    pub(super) fn hold(&self, connections: usize, out_buffers: usize, accepts_refused: u64) {
        self.accepts_refused.store(accepts_refused, Ordering::Relaxed);
        self.connections.store(connections, Ordering::Relaxed);
        self.out_buffers.store(out_buffers, Ordering::Relaxed);
    }

    pub(super) fn turn(&self) {
        // One writer: a plain load and store, no read-modify-write.
        self.turns.store(self.turns() + 1, Ordering::Relaxed);
        self.parked.store(false, Ordering::Relaxed);
    }

    pub(super) fn park(&self) {
        self.parked.store(true, Ordering::Relaxed);
    }
}

/// Checks all shards. A shard that sleeps and has no letters is well and is left asleep; one that has letters is woken. A shard
/// that does not turn for the whole of `limit`, awake or with letters, is stalled.
pub struct Watchdog<M> {
    post: Post<M>,
    limit: Duration,
    seen: Vec<Seen>,
    /// The time of the last look.
    looked: Instant,
}

struct Seen {
    heartbeat: Arc<Heartbeat>,
    turns: u64,
    /// Time for which that number has not changed.
    silent: Duration,
}

impl<M> fmt::Debug for Watchdog<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchdog").field("shards", &self.seen.len()).field("limit", &self.limit).finish()
    }
}

impl<M: Send> Watchdog<M> {
    /// Heartbeats in the order of the shards. `limit` should be some seconds: longer than any turn may take.
    #[must_use]
    pub fn new(post: Post<M>, heartbeats: Vec<Arc<Heartbeat>>, limit: Duration, now: Instant) -> Self {
        let seen = heartbeats
            .into_iter()
            .map(|heartbeat| Seen { turns: heartbeat.turns(), heartbeat, silent: Duration::ZERO })
            .collect();
        Self { post, limit, seen, looked: now }
    }

    /// The shards that have not turned for `limit`, with the time since their last turn. Call this every second or so. Between two
    /// calls no more than half of `limit` counts: if more time has passed, the whole process was stopped.
    pub fn stalled(&mut self, now: Instant) -> Vec<(usize, Duration)> {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.looked, now)).min(self.limit / 2);
        let mut stalled = Vec::new();
        for (index, seen) in self.seen.iter_mut().enumerate() {
            let turns = seen.heartbeat.turns();
            let asleep = seen.heartbeat.parked() && !self.post.has_letters(index);
            if turns != seen.turns || asleep {
                (seen.turns, seen.silent) = (turns, Duration::ZERO);
                continue;
            }
            seen.silent += passed;
            if seen.silent >= self.limit {
                stalled.push((index, seen.silent));
            }
            self.post.ring(index);
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::mailboxes;

    #[test]
    fn only_who_does_not_turn_is_reported() {
        let (post, _receivers) = mailboxes::<()>(2, 1).unwrap();
        let hearts = [Arc::new(Heartbeat::default()), Arc::new(Heartbeat::default())];
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut watchdog = Watchdog::new(post.clone(), hearts.to_vec(), Duration::from_secs(5), start);
        for second in 1..5 {
            hearts[0].turn();
            assert_eq!(watchdog.stalled(at(second)), []);
        }
        hearts[0].turn();
        assert_eq!(watchdog.stalled(at(5)), [(1, Duration::from_secs(5))]);
        hearts[1].turn();
        assert_eq!(watchdog.stalled(at(6)), []);
        assert_eq!(watchdog.stalled(at(9)), []);
        // A long sleep, and then a letter that does not wake the shard.
        hearts.iter().for_each(|heart| heart.park());
        assert_eq!(watchdog.stalled(at(600)), []);
        post.send(1, ()).unwrap();
        assert_eq!(watchdog.stalled(at(602)), []);
        assert_eq!(watchdog.stalled(at(604)), []);
        assert_eq!(watchdog.stalled(at(605)), [(1, Duration::from_secs(5))]);
    }

    #[test]
    fn a_process_that_stood_still_has_no_stalled_shards() {
        let (post, _receivers) = mailboxes::<()>(1, 1).unwrap();
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut watchdog = Watchdog::new(post, vec![Arc::new(Heartbeat::default())], Duration::from_secs(10), start);
        assert_eq!(watchdog.stalled(at(2)), []);
        // SIGSTOP, and SIGCONT a minute later.
        assert_eq!(watchdog.stalled(at(62)), []);
        assert_eq!(watchdog.stalled(at(64)), []);
        // The shard does not turn after that either.
        assert_eq!(watchdog.stalled(at(66)), [(0, Duration::from_secs(11))]);
    }
}
