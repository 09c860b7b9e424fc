//! A frozen follower, at a broker that handles one request of a connection at a time and waits for followers up to the
//! request's timeout: the waiting time of partitions without a replica there.

use std::collections::VecDeque;
use std::time::Duration;

use crate::producer::Settings;
use crate::producer::testing::hand::{Hand, settings, topic};
use crate::types::{NodeId, ProduceRequest, ProduceResult, TopicMetadata};
use forebay_runtime::seam::Monotonic;

const HIT: usize = 20;
const SAFE: usize = 4;
/// Service time of a request in ms while its followers respond.
const SERVICE_MS: u64 = 2;
/// Wait in ms after which a row counts as late: the service time, and that of requests which may be in flight before it.
const LATE_MS: u64 = 12;

/// One topic of one partition each, all led by broker 0.
fn name(number: usize) -> String {
    if number < HIT { format!("hit{number}") } else { format!("safe{}", number - HIT) }
}

/// Metadata: `hit` has a replica on broker 2, `safe` on broker 1; replicas are reported only if `replicas_known`.
fn metadata(number: usize, replicas_known: bool) -> TopicMetadata {
    let follower = if number < HIT { 2 } else { 1 };
    let replicas: Vec<Box<[NodeId]>> = vec![Box::new([NodeId(0), NodeId(follower)])];
    TopicMetadata { replicas: if replicas_known { replicas } else { Vec::new() }, ..topic(&name(number), &[0]) }
}

struct World {
    hand: Hand,
    /// Requests of each channel; of the first, once begun, its end and whether the follower is late for it.
    lanes: [VecDeque<ProduceRequest>; 2],
    ends: [Option<(Monotonic, bool)>; 2],
    /// How long broker 2, which is in sync, takes to replicate a batch, in ms.
    follower_ms: u64,
    /// When each row was appended, and whether it is of `safe`.
    rows: Vec<(Monotonic, bool)>,
    /// How long rows of `safe` waited, in ms.
    waits: Vec<u64>,
    /// The longest timeout of a request on the first channel while the follower was slow, in ms.
    asked_ms: i32,
    /// The largest number of partitions that used the second channel at once.
    most_slow: u64,
}

impl World {
    fn new(replicas_known: bool) -> Self {
        let mut hand = Hand::new(Settings { buffer_bytes: 32 << 20, ..settings() });
        let mut rows = Vec::new();
        for number in 0..HIT + SAFE {
            rows.push((hand.now, number >= HIT));
            hand.append(&name(number), None);
        }
        hand.poll();
        let topics: Vec<TopicMetadata> = (0..HIT + SAFE).map(|number| metadata(number, replicas_known)).collect();
        hand.producer.on_metadata(&topics, hand.now);
        hand.producer.on_producer_id(0, 7, 0);
        let mut world = Self {
            hand,
            lanes: Default::default(),
            ends: [None, None],
            follower_ms: 0,
            rows,
            waits: Vec::new(),
            asked_ms: 0,
            most_slow: 0,
        };
        world.run(1_000);
        world.waits.clear();
        world
    }

    /// Appends a row per millisecond to one of `safe`, and every fifth to one of `hit`.
    fn run(&mut self, ms: usize) {
        for step in 0..ms {
            self.append(HIT + step % SAFE);
            if step % 5 == 0 {
                self.append(step / 5 % HIT);
            }
            for request in self.hand.poll() {
                if self.follower_ms > 0 && !request.slow {
                    self.asked_ms = self.asked_ms.max(request.timeout_ms);
                }
                self.lanes[usize::from(request.slow)].push_back(request);
            }
            self.hand.wait_ms(1);
            self.serve(0);
            self.serve(1);
            self.most_slow = self.most_slow.max(self.hand.producer.slow_partitions());
            for (run, _) in self.hand.done.drain(..) {
                for row in run.first..run.first + run.count {
                    let (appended, safe) = self.rows[row as usize];
                    if safe {
                        self.waits.push(self.hand.now.since(appended).as_millis() as u64);
                    }
                }
            }
        }
    }

    fn append(&mut self, number: usize) {
        self.rows.push((self.hand.now, number >= HIT));
        self.hand.append(&name(number), None);
    }

    /// Answers a connection's oldest request when its time has come, and only then begins the next.
    fn serve(&mut self, lane: usize) {
        let now = self.hand.now;
        if let Some(request) = self.lanes[lane].front()
            && let Some((_, late)) = self.ends[lane].filter(|(end, _)| *end <= now)
        {
            let result = |batch: &crate::types::ProduceBatch| ProduceResult {
                topic: batch.topic.clone(),
                partition: 0,
                error: if late && batch.topic.starts_with("hit") { 7 } else { 0 },
                base_offset: -1,
            };
            let (id, results) = (request.id, request.batches.iter().map(result).collect::<Vec<_>>());
            self.lanes[lane].pop_front();
            self.ends[lane] = None;
            self.hand.produced(id, &results);
        }
        if let (Some(request), None) = (self.lanes[lane].front(), self.ends[lane]) {
            let waits = request.batches.iter().any(|batch| batch.topic.starts_with("hit"));
            let follower_ms = if waits { self.follower_ms.min(request.timeout_ms as u64) } else { 0 };
            let takes = SERVICE_MS.max(follower_ms);
            let late = self.follower_ms > request.timeout_ms as u64;
            self.ends[lane] = Some((now.after(Duration::from_millis(takes)), late));
        }
    }

    fn late(&self) -> usize {
        self.waits.iter().filter(|ms| **ms > LATE_MS).count()
    }

    fn longest(&self) -> u64 {
        self.waits.iter().copied().max().unwrap_or(0)
    }
}

#[test]
fn a_frozen_follower_keeps_the_first_lane_once_and_briefly() {
    let mut world = World::new(true);
    world.run(1_000);
    assert_eq!(world.late(), 0, "nobody waits before: {} ms", world.longest());
    world.follower_ms = u64::MAX;
    world.run(3_000);
    assert_eq!(world.hand.producer.slow_partitions(), HIT as u64);
    // 20 ms for each of the requests that were in flight together.
    assert!(world.longest() <= 80 && world.late() <= 80, "{} late, {} ms", world.late(), world.longest());
    // Answers 7 have not raised the first channel's timeout.
    assert_eq!(world.asked_ms, 20);
    // The leader has removed the follower from the ISR.
    world.follower_ms = 0;
    world.waits.clear();
    world.run(6_000);
    assert_eq!(world.hand.producer.slow_partitions(), 0);
    assert_eq!(world.late(), 0, "{} ms", world.longest());
}

#[test]
fn a_follower_that_is_slow_for_good_is_waited_for_on_the_second_lane() {
    let mut world = World::new(true);
    world.follower_ms = 150;
    world.run(3_000);
    assert_eq!(world.hand.producer.slow_partitions(), HIT as u64);
    let retries = world.hand.stats().retries;
    world.waits.clear();
    world.run(5_000);
    assert_eq!(world.hand.producer.slow_partitions(), HIT as u64);
    assert_eq!(world.hand.stats().retries, retries, "nothing is sent twice");
    assert_eq!(world.late(), 0, "{} ms", world.longest());
}

#[test]
fn a_follower_that_pauses_moves_nobody() {
    let mut world = World::new(true);
    for _ in 0..20 {
        world.follower_ms = 30;
        world.run(22);
        world.follower_ms = 0;
        world.run(200);
    }
    assert_eq!(world.most_slow, 0);
    assert!(world.hand.stats().retries > 0 && world.longest() <= 80, "{} ms", world.longest());
}

#[test]
fn where_replicas_are_not_known_each_partition_keeps_it_once() {
    let mut world = World::new(false);
    world.follower_ms = u64::MAX;
    world.run(3_000);
    assert_eq!(world.hand.producer.slow_partitions(), HIT as u64);
    assert!(world.longest() <= 130, "{} ms", world.longest());
    assert!(world.late() <= HIT * 40, "{} late", world.late());
}
