//! Scripts that show what a rule is for, where seeds seldom do.

use forebay::rules::Rules;

use super::{Script, settings, sink};
use crate::judge::Failure;
use crate::plan::{Buffer, Level};

/// S5: Kafka is away, and one sink gets all that comes; it may take half of the spool.
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

/// An orderly stop while Kafka is away writes down what a saved sink has in memory.
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

/// P1, P8: Produce requests for rows that come four at a time, to several partitions of one broker, while a linger runs.
#[must_use]
pub fn requests_of_lingering_rows(rules: &'static dyn Rules) -> u64 {
    let mut settings = settings();
    settings.sinks[0] = sink("all", Buffer::Memory, Level::Replicated);
    settings.sinks[0].linger_ms = 20;
    let mut script = Script::with_rules(settings, 1, false, rules);
    script.world.clusters[0].partitions = 4;
    script.connect(0);
    script.fill(0, 3, 20);
    for _ in 0..40 {
        for level in ["even", "odd", "third", "fourth"] {
            script.publish_to(level, 0, 1, 20);
        }
        script.wait(5);
    }
    script.wait(500);
    script.world.clusters[0].produced
}
