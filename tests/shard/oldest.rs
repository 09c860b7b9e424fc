//! `when_full = "drop-oldest"`: with Kafka away nobody waits for room, whatever the sizes, and what is kept is what came last.

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::metrics::event::Kind;
use forebay::metrics::spec::SinkMetric;
use forebay::runtime::seam::ConnId;

use super::spool::{acked, arrived, payload};
use super::world::{World, publish};
use super::{seeds, spooled};

/// What Kafka does before it goes away.
#[derive(Clone, Copy, Debug)]
enum Before {
    /// It was never there.
    Away,
    /// It takes what comes.
    Takes,
    /// It has what comes and does not say so: batches are under way.
    Silent,
}

#[derive(Debug)]
struct Plan {
    config: String,
    sinks: usize,
    bytes_max: u64,
    row_bytes: usize,
    before: Before,
    /// Rows before Kafka goes away, and after.
    first: u32,
    rest: u32,
    /// The power goes in the middle of the outage.
    power_cut: bool,
}

impl Plan {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let sinks = rng.usize(1..=3);
        let mib = rng.u64(8..=20);
        let segment = (rng.bool() && mib >= 16).then_some(2);
        let segments = mib / segment.unwrap_or(1);
        let share = rng.bool().then(|| rng.u64((100 / (segments - 4) + 1).min(90)..=100));
        let spill_after = rng.bool().then_some("1MiB");
        let line =
            |key: &str, value: Option<String>| value.map_or_else(String::new, |value| format!("{key} = {value}\n"));
        let mut config = format!(
            "[service]\nshards = 1\n[kafka.main]\nbootstrap = \"127.0.0.1:9092\"\nbuffer_bytes = \"{}MiB\"\n[spool]\nbytes_max = \
             \"{mib}MiB\"\nwhen_full = \"drop-oldest\"\nsync_interval = \"0ms\"\n{}{}",
            rng.u64(8..=64),
            line("segment_bytes", segment.map(|mib| format!("\"{mib}MiB\""))),
            line("spool_share", share.map(|share| format!("{}", share as f64 / 100.0))),
        );
        for sink in 0..sinks {
            let buffer = ["disk", "disk", "hybrid"][rng.usize(..3)];
            let acknowledge = (buffer == "hybrid").then(|| "\"received\"".to_owned());
            config += &format!(
                "[[sink]]\nname = \"sink-{sink}\"\nkafka = \"main\"\nfilters = [\"#\"]\ntopic = \"topic-{sink}\"\nbatch_bytes = \
                 \"64KiB\"\nrecord_bytes_max = \"64KiB\"\nbuffer = \"{buffer}\"\n{}{}",
                line("acknowledge", acknowledge),
                line("spill_after", spill_after.map(|size| format!("\"{size}\""))),
            );
        }
        let row_bytes = rng.usize(200..16_000);
        let before = [Before::Away, Before::Takes, Before::Silent][rng.usize(..3)];
        let enough = (2 * (mib << 20)) as usize / row_bytes;
        let first = if matches!(before, Before::Away) { 0 } else { rng.usize(1..enough / 2) };
        Self {
            config,
            sinks,
            bytes_max: mib << 20,
            row_bytes,
            before,
            first: first as u32,
            rest: enough as u32,
            power_cut: rng.u32(..4) == 0,
        }
    }
}

/// Publishes rows with these numbers, one after the other, each of which has to find room within a few syncs.
fn publish_all(world: &mut World, device: ConnId, numbers: std::ops::Range<u32>, row_bytes: usize, what: &str) {
    let mut bytes = Vec::new();
    for number in numbers {
        let mut payload = vec![b'x'; row_bytes];
        payload[..4].copy_from_slice(&number.to_be_bytes());
        bytes.clear();
        publish("t", (number % 60_000) as u16 + 1, &payload, &mut bytes);
        world.bytes(device, &bytes);
        for _ in 0..200 {
            if !world.table.wire(device).paused {
                break;
            }
            world.advance(Duration::from_millis(10));
        }
        let numbers = |sink| {
            [SinkMetric::SpoolBytes, SinkMetric::SpoolBytesMax, SinkMetric::DroppedOldest, SinkMetric::BufferedRows]
                .map(|of| world.sink_number(sink, of))
        };
        let sinks: Vec<_> = (0..world.config().sinks.len()).map(numbers).collect();
        assert!(!world.table.wire(device).paused, "row {number} waits for ever, sinks {sinks:?}: {what}");
    }
}

fn run(seed: u64) {
    let plan = Plan::new(seed);
    let what = format!("seed {seed}: {plan:?}");
    let mut world = World::new(&plan.config);
    let mut device = world.device("d", 0);
    let mut answered = 0;
    match plan.before {
        Before::Away => world.kafka_down(),
        Before::Takes => {}
        Before::Silent => world.broker.silent = true,
    }
    publish_all(&mut world, device, 0..plan.first, plan.row_bytes, &what);
    answered += acked(&mut world, device).len();
    world.kafka_down();
    let half = plan.first + plan.rest / 2;
    publish_all(&mut world, device, plan.first..half, plan.row_bytes, &what);
    world.advance(Duration::from_secs(1));
    answered += acked(&mut world, device).len();
    let dropped = |world: &World, sink| world.sink_number(sink, SinkMetric::DroppedOldest);
    let mut before = vec![0; plan.sinks];
    if plan.power_cut {
        before = (0..plan.sinks).map(|sink| dropped(&world, sink)).collect();
        world.power_cut();
        device = world.device("d", 0);
    }
    publish_all(&mut world, device, half..plan.first + plan.rest, plan.row_bytes, &what);
    world.advance(Duration::from_secs(2));
    answered += acked(&mut world, device).len();
    assert_eq!(answered, (plan.first + plan.rest) as usize, "{what}: all are answered");
    assert!(world.told(Kind::RowsDropped) > 0, "{what}: twice as much came as there is room for");
    world.broker.silent = false;
    world.kafka_up = true;
    world.advance(Duration::from_secs(120));
    let mut arrived = vec![BTreeMap::<i32, Vec<u32>>::new(); plan.sinks];
    for (topic, partition, _, value) in &world.broker.records {
        let sink: usize = topic.trim_start_matches("topic-").parse().expect("a sink");
        arrived[sink].entry(*partition).or_default().push(u32::from_be_bytes(value[..4].try_into().expect("four")));
    }
    for (sink, partitions) in arrived.iter().enumerate() {
        assert_eq!(world.sink_number(sink, SinkMetric::BufferedRows), 0, "{what}: sink {sink}");
        assert!(partitions.values().all(|of| of.is_sorted()), "{what}: sink {sink} out of order");
        let mut there: Vec<u32> = partitions.values().flatten().copied().collect();
        there.sort_unstable();
        there.dedup();
        let counted = before[sink] + dropped(&world, sink);
        let missing: Vec<u32> =
            (0..plan.first + plan.rest).filter(|number| there.binary_search(number).is_err()).collect();
        let in_memory = plan.power_cut && plan.config.contains("hybrid");
        if !in_memory {
            assert_eq!(missing.len() as u64, counted, "{what}: sink {sink}: each is in Kafka or counted");
        }
        // What was in a batch when Kafka went away stays.
        let last = missing.last().copied().unwrap_or(0);
        let older = there.iter().filter(|number| **number >= plan.first && **number < last).count();
        assert_eq!(older, 0, "{what}: sink {sink}: kept, and older than what went, {last}");
        let kept =
            (there.len() as u32 - there.partition_point(|number| *number < last) as u32) as usize * plan.row_bytes;
        println!("seed {seed} sink {sink}: {kept} bytes kept of {}, {counted} went", plan.bytes_max);
    }
}

#[test]
fn finding_f5_with_any_sizes_nobody_waits_for_room_and_the_newest_are_kept() {
    seeds(0..6).for_each(run);
}

/// A sink more, for another filter.
const SECOND: &str = "[[sink]]\nname = \"two\"\nkafka = \"main\"\nfilters = [\"other\"]\ntopic = \"two\"\nbatch_bytes = \"64KiB\"\n\
                      record_bytes_max = \"64KiB\"\n";

/// Bytes that the first sink holds of the spool, and its bound.
fn held(world: &World) -> (u64, u64) {
    (world.sink_number(0, SinkMetric::SpoolBytes), world.sink_number(0, SinkMetric::SpoolBytesMax))
}

#[test]
fn finding_f4_a_computed_share_never_shrinks_what_is_in_use() {
    for (when_full, starts_again) in
        [("drop-oldest", false), ("drop-oldest", true), ("backpressure", false), ("backpressure", true)]
    {
        let what = format!("{when_full}, starts again: {starts_again}");
        let when_full = format!("when_full = \"{when_full}\"");
        let mut world = World::new(&spooled(&when_full, ""));
        world.kafka_down();
        let mut device = world.device("d", 0);
        publish_all(&mut world, device, 0..1_000, 8_000, &what);
        let (full, whole) = held(&world);
        assert!(full > whole / 2, "{what}: {full} of {whole}");
        let two = spooled(&when_full, SECOND);
        if starts_again {
            world.table.disk.kill();
            world.restart(Some(&two));
            device = world.device("d", 0);
        } else {
            world.reload_as(&two);
        }
        publish_all(&mut world, device, 1_000..1_100, 8_000, &what);
        world.advance(Duration::from_secs(2));
        assert_eq!(world.sink_number(0, SinkMetric::DroppedOldest), 0, "{what}: nothing went, for there is room");
        assert!(!world.table.wire(device).paused, "{what}");
        assert_eq!(held(&world).1, whole, "{what}: it keeps its share");
        world.kafka_up = true;
        world.advance(Duration::from_secs(30));
        world.turn();
        assert_eq!(held(&world), (0, whole / 2), "{what}: until it holds less than the other one");
        assert_eq!(world.broker.records.len(), 1_100, "{what}");
    }
}

#[test]
fn finding_f4_a_share_that_is_lowered_takes_nothing_from_a_sink_that_holds_more() {
    let share = |share: &str| spooled(&format!("when_full = \"drop-oldest\"\nspool_share = {share}"), "");
    let mut world = World::new(&share("1"));
    world.kafka_down();
    let device = world.device("d", 0);
    publish_all(&mut world, device, 0..1_000, 8_000, "before");
    let (before, whole) = held(&world);
    world.reload_as(&share("0.3"));
    publish_all(&mut world, device, 1_000..1_300, 8_000, "after");
    world.advance(Duration::from_secs(2));
    let ((after, most), segment) = (held(&world), 1 << 20);
    assert!(most < whole && most >= before && after <= most, "{before}, then {after} of {most}");
    assert!(after + 2 * segment > before, "what comes takes the place of the oldest: {before}, then {after}");
}

/// A process of which Kafka knows nothing, that takes rows, for this many turns at most and until the count of dropped rows shows. How many
/// turns that took, and how many rows were answered.
fn taken_in_turns(most: usize) -> (World, usize, u16) {
    let mut world = World::new(&spooled("when_full = \"drop-oldest\"", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    let (mut turns, mut answered) = (0, 0);
    for id in 1..4_000 {
        let mut bytes = Vec::new();
        publish("t", id, &payload(id, 8_000), &mut bytes);
        world.feed(device, &bytes);
        for _ in 0..6 {
            if turns == most || world.sink_number(0, SinkMetric::DroppedOldest) > 0 {
                return (world, turns, answered);
            }
            world.turns(1);
            turns += 1;
            answered += acked(&mut world, device).len() as u16;
        }
    }
    panic!("nothing was ever dropped");
}

/// The process may end when the log has dropped rows and before its next turn.
#[test]
fn dropped_rows_count_in_the_turn_in_which_they_go_to_the_disk() {
    let (_, turns, _) = taken_in_turns(usize::MAX);
    for most in [turns - 1, turns] {
        let (mut world, _, answered) = taken_in_turns(most);
        let before = world.sink_number(0, SinkMetric::DroppedOldest);
        world.table.disk.kill();
        world.restart(None);
        world.kafka_up = true;
        world.advance(Duration::from_secs(60));
        let there = arrived(&world);
        let missing = (1..=answered).filter(|id| !there.contains(id)).count() as u64;
        let counted = before + world.sink_number(0, SinkMetric::DroppedOldest);
        assert!(missing <= counted, "killed after {most} of {turns} turns: {missing} are missing, {counted} counted");
    }
}
