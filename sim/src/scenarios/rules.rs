//! Scripts that show the purpose of a rule, where seeds seldom do.

use forebay::config::WhenFull;
use forebay::rules::Rules;

use super::{Script, settings, sink};
use crate::judge::Failure;
use crate::link::Link;
use crate::plan::{Buffer, Level, Settings};
use crate::time::EPOCH_MS;

/// S5: Kafka is unreachable, and one sink gets all messages; it may take half of the spool.
pub fn one_sink_keeps_to_its_share(rules: &'static dyn Rules) -> Result<(), Failure> {
    let mut settings = settings();
    if let Some(spool) = &mut settings.spool {
        (spool.share, spool.segments_max) = (50, 16);
    }
    let mut script = Script::with_rules(settings, 1, false, rules);
    script.connect(0);
    script.fill(0, 5, 20);
    script.away(true);
    script.fill(0, 1_500, 800);
    script.away(false);
    script.ends()
}

/// An orderly stop while Kafka is unreachable writes the rows of a saved sink in memory to the disk.
pub fn stop_saves_what_memory_has(rules: &'static dyn Rules) -> Result<(), Failure> {
    let mut settings = settings();
    settings.sinks[0] = sink("all", Buffer::HybridSaved, Level::Received);
    let mut script = Script::with_rules(settings, 1, false, rules);
    script.connect(0);
    script.fill(0, 5, 20);
    script.away(true);
    script.fill(0, 30, 200);
    script.wait(11_000);
    script.world.stop_in_order(&mut fastrand::Rng::with_seed(1));
    script.wait(10_000);
    script.away(false);
    script.ends()
}

/// Settings with rows in memory alone.
fn memory() -> Settings {
    let mut settings = settings();
    settings.sinks[0] = sink("all", Buffer::Memory, Level::Replicated);
    settings
}

/// A run with one broker, and a device that publishes to a partition of which Kafka has acknowledged batches.
fn with_a_partition(settings: Settings, rules: &'static dyn Rules) -> Script {
    let mut script = Script::with_rules(settings, 1, false, rules);
    script.connect(0);
    script.fill(0, 3, 20);
    script
}

impl Script {
    /// Publishes messages, each a batch of its own while the window has room.
    fn publish_apart(&mut self, count: usize) {
        for _ in 0..count {
            self.publish(0, 1, 20);
            self.wait(10);
        }
    }

    /// Has Kafka take a batch, and loses its answer.
    fn publish_unanswered(&mut self, count: usize) {
        self.world.clusters[0].says_nothing = true;
        self.publish_apart(count);
        self.wait(50);
        self.world.clusters[0].says_nothing = false;
    }

    fn freezes(&mut self, frozen: bool) {
        self.world.clusters[0].brokers[0].frozen = frozen;
        if !frozen {
            self.world.serve_all(0, 1);
        }
    }

    /// Waits until one more Produce request has been carried out.
    fn after_produce(&mut self) {
        let before = self.world.clusters[0].produced;
        for _ in 0..200_000 {
            if self.world.clusters[0].produced > before {
                return;
            }
            self.world.run_until(self.world.time + 20_000);
        }
    }

    /// Checks that outcomes that Kafka's log, or the order of its answers, can tell are not counted as unknown.
    fn nothing_is_unknown(&mut self) {
        let unknown = self.world.counted(0).unknown;
        if unknown > 0 {
            self.world.judge.fails("unknown", format!("{unknown} rows, though all could be known"));
        }
    }
}

/// P2: Kafka hangs, and gets as many batches of a partition as its window has, here two.
pub fn a_window_of_two_is_under_way(rules: &'static dyn Rules) -> Result<(), Failure> {
    let mut settings = memory();
    settings.sinks[0].max_inflight = 2;
    let mut script = with_a_partition(settings, rules);
    script.freezes(true);
    script.publish_apart(20);
    let sent: usize = script.world.links.values().map(Link::requests).sum();
    if sent > 2 {
        script.world.judge.fails("window", format!("{sent} requests for one partition"));
    }
    script.freezes(false);
    script.ends()
}

/// P2, P5: Kafka forgets who wrote batches without timestamps before their answers arrive.
pub fn what_kafka_forgets_is_asked_for(rules: &'static dyn Rules) -> Result<(), Failure> {
    let mut script = Script::with_rules(memory(), 1, false, rules);
    script.world.clock_ahead_ms = -EPOCH_MS;
    script.kill();
    script.connect(0);
    script.fill(0, 3, 20);
    script.publish_unanswered(3);
    script.world.clusters[0].forget_producers(script.world.time);
    script.world.cut_broker(0, 1);
    script.wait(2_000);
    script.nothing_is_unknown();
    script.ends()
}

/// P5, P6: Kafka refuses a batch that it has, and its log shows that.
pub fn what_is_refused_and_there_is_known(rules: &'static dyn Rules) -> Result<(), Failure> {
    let mut script = with_a_partition(memory(), rules);
    script.publish_unanswered(1);
    let limit = |script: &mut Script, bytes| {
        script.world.clusters[0].topics.values_mut().for_each(|topic| topic.batch_bytes_max = bytes);
    };
    limit(&mut script, 10);
    script.world.cut_broker(0, 1);
    script.wait(3_000);
    limit(&mut script, usize::MAX);
    script.nothing_is_unknown();
    script.ends()
}

/// P4: of two batches that Kafka has, it remembers the last one, and defers its answer: the first is out of order until
/// that is answered.
pub fn one_error_explains_the_others(rules: &'static dyn Rules) -> Result<(), Failure> {
    let mut script = with_a_partition(memory(), rules);
    script.publish_unanswered(2);
    script.world.clusters[0].topics.values_mut().flat_map(|topic| &mut topic.partitions).for_each(|partition| {
        partition.restarted(1, 1);
    });
    script.world.cut_broker(0, 1);
    script.after_produce();
    script.world.clusters[0].flaky.before = 1_000;
    script.after_produce();
    script.world.clusters[0].flaky.before = 0;
    script.wait(3_000);
    script.nothing_is_unknown();
    script.ends()
}

/// `drop-oldest`: the oldest rows are in batches that a previous process has sent, and Kafka has. They do not count as
/// dropped.
pub fn what_is_cut_is_not_dropped(rules: &'static dyn Rules) -> Result<(), Failure> {
    let mut settings = settings();
    if let Some(spool) = &mut settings.spool {
        (spool.when_full, spool.segments_max) = (WhenFull::DropOldest, 8);
    }
    let mut script = with_a_partition(settings, rules);
    script.publish_unanswered(4);
    script.away(true);
    script.kill_and(|script| script.world.links.clear());
    script.connect(0);
    script.fill(0, 1_000, 800);
    script.away(false);
    script.wait(30_000);
    let (cluster, messages) = (&script.world.clusters[0], script.world.messages.len() as u32);
    let missing = (0..messages).filter(|message| cluster.copies(*message, 0).next().is_none()).count() as u64;
    let dropped = script.world.counted(0).dropped;
    if dropped != missing || dropped == 0 {
        script.world.judge.fails("dropped", format!("{dropped} rows counted, {missing} not in Kafka"));
    }
    script.ends()
}

/// P1, P8: number of Produce requests for rows that come four at a time, to several partitions of one broker, while a
/// linger runs. `pause_ms`: time between two groups of four. With a short pause some come while a request is in flight;
/// its answer ends no partition's linger.
#[must_use]
pub fn requests_of_lingering_rows(rules: &'static dyn Rules, pause_ms: u64) -> u64 {
    let mut settings = settings();
    settings.sinks[0] = sink("all", Buffer::Memory, Level::Replicated);
    settings.sinks[0].linger_ms = 20;
    let mut script = Script::with_rules(settings, 1, false, rules);
    script.world.clusters[0].partitions = 4;
    script.connect(0);
    script.fill(0, 3, 20);
    for _ in 0..200 / pause_ms {
        for level in ["even", "odd", "third", "fourth"] {
            script.publish_to(level, 0, 1, 20);
        }
        script.wait(pause_ms);
    }
    script.wait(500);
    script.world.clusters[0].produced
}
