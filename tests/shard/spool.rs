//! A shard with a spool: what is answered is on the disk, what is on the disk comes to Kafka, whatever ends in between.

use std::time::Duration;

use forebay::metrics::event::Kind;
use forebay::metrics::spec::{ClusterMetric, Layout, ShardMetric, SinkMetric};
use forebay::runtime::seam::{ConnId, Monotonic, Segments as _};
use forebay::shard::mail::Notice;

use super::damaged::found;
use super::spooled;
use super::world::{World, publish};

pub(crate) fn send(world: &mut World, device: ConnId, id: u16, payload: &[u8]) {
    let mut bytes = Vec::new();
    publish("t", id, payload, &mut bytes);
    world.bytes(device, &bytes);
}

/// That numbers are 1, 2, 3 up to `to`, said in few words if they are not.
pub(crate) fn assert_all(numbers: &[u16], to: u16, what: &str) {
    let wrong = numbers.iter().zip(1..).find(|(number, expected)| **number != *expected);
    assert!(numbers.len() == usize::from(to) && wrong.is_none(), "{what}: {} of {to}, {wrong:?}", numbers.len());
}

/// Ids of the PUBACKs since the last look.
pub(crate) fn acked(world: &mut World, device: ConnId) -> Vec<u16> {
    let answers = world.sent(device);
    let id = |answer: &[u8]| {
        assert_eq!(answer[..2], [0x40, 2], "PUBACK");
        u16::from_be_bytes([answer[2], answer[3]])
    };
    answers.chunks(4).map(id).collect()
}

/// Values at Kafka, as numbers.
pub(crate) fn arrived(world: &World) -> Vec<u16> {
    let number = |value: &[u8]| u16::from_be_bytes([value[0], value[1]]);
    world.broker.records.iter().map(|(_, _, _, value)| number(value)).collect()
}

pub(crate) fn payload(id: u16, bytes: usize) -> Vec<u8> {
    let mut payload = vec![b'x'; bytes.max(2)];
    payload[..2].copy_from_slice(&id.to_be_bytes());
    payload
}

pub(crate) fn ids(to: u16) -> Vec<u16> {
    (1..=to).collect()
}

#[test]
fn an_answer_waits_for_the_sync_and_kafka_for_the_cut() {
    let mut world = World::new(&spooled("", ""));
    let device = world.device("d", 0);
    world.table.disk.slow = true;
    send(&mut world, device, 1, &payload(1, 10));
    world.advance(Duration::from_secs(10));
    assert!(acked(&mut world, device).is_empty(), "answered before the sync");
    assert!(arrived(&world).is_empty(), "sent before its cut is on the disk");
    world.table.disk.slow = false;
    world.turn();
    assert_eq!(acked(&mut world, device), [1]);
    world.advance(Duration::from_secs(1));
    assert_eq!(arrived(&world), [1]);
}

/// `sync_interval`: the second message waits for the next five milliseconds of the clock, and for nothing else.
#[test]
fn an_answer_waits_for_the_interval() {
    let mut world = World::new(&spooled("", "").replace("\"0ms\"", "\"5ms\""));
    let device = world.device("d", 0);
    world.advance(Duration::from_secs(1));
    send(&mut world, device, 1, &payload(1, 10));
    assert_eq!(acked(&mut world, device), [1]);
    send(&mut world, device, 2, &payload(2, 10));
    assert!(acked(&mut world, device).is_empty(), "a group of its own for the second");
    let interval = 5_000_000;
    world.timers(Monotonic((world.table.now.0 / interval + 1) * interval));
    assert_eq!(acked(&mut world, device), [2]);
}

/// Finding L6: the note beside the segments follows what is written, with a timer of its own and within five seconds.
#[test]
fn finding_l6_the_note_beside_the_segments_follows_by_itself() {
    let mut world = World::new(&spooled("", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    world.advance(Duration::from_secs(20));
    let before = world.table.disk.read_note();
    assert!(before.is_some());
    let from = world.table.now;
    send(&mut world, device, 2, &payload(2, 10));
    assert_eq!(acked(&mut world, device), [1, 2]);
    world.timers(from.after(Duration::from_millis(4_999)));
    assert_eq!(world.table.disk.read_note(), before);
    world.timers(from.after(Duration::from_secs(5)));
    assert_ne!(world.table.disk.read_note(), before);
}

#[test]
fn a_clock_that_falls_back_is_told_of() {
    let mut world = World::new(&spooled("", ""));
    let device = world.device("d", 0);
    send(&mut world, device, 1, b"first");
    world.advance(Duration::from_secs(1));
    world.table.wall_behind_ms = 600_000;
    world.power_cut();
    world.advance(Duration::from_secs(1));
    assert_eq!(world.told(Kind::ClockNotSet), 0, "ten minutes may be a correction");
    world.table.wall_behind_ms = 86_400_000;
    world.power_cut();
    world.advance(Duration::from_secs(1));
    assert_eq!(world.told(Kind::ClockNotSet), 1);
}

#[test]
fn what_was_answered_survives_a_power_cut() {
    let mut world = World::new(&spooled("", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    for id in ids(100) {
        send(&mut world, device, id, &payload(id, 100));
    }
    assert_all(&acked(&mut world, device), 100, "Kafka is not needed for an answer");
    world.table.disk.slow = true;
    (101..=110).for_each(|id| send(&mut world, device, id, &payload(id, 100)));
    assert!(acked(&mut world, device).is_empty());
    world.power_cut();
    assert_eq!(world.told(Kind::SpoolRecovered), 1);
    world.kafka_up = true;
    world.advance(Duration::from_secs(10));
    assert_all(&arrived(&world), 100, "in order, each once");
    assert_eq!(world.sink_number(0, SinkMetric::BufferedRows), 0);
    world.power_cut();
    world.advance(Duration::from_secs(10));
    assert_eq!(arrived(&world).len(), 100, "what is in Kafka is not sent again");
}

#[test]
fn a_batch_that_may_be_in_kafka_comes_again_first_as_it_was() {
    let mut world = World::new(&spooled("", ""));
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    world.advance(Duration::from_secs(1));
    world.broker.silent = true;
    send(&mut world, device, 2, &payload(2, 10));
    world.advance(Duration::from_millis(100));
    let before = world.broker.batches.len();
    assert_eq!(arrived(&world), [1, 2], "Kafka has it and has not said so");
    // No batch is cut while nothing is answered for long: these stay rows.
    send(&mut world, device, 3, &payload(3, 10));
    world.table.disk.kill();
    world.broker.silent = false;
    world.restart(None);
    world.advance(Duration::from_secs(10));
    let again = &world.broker.batches[before..];
    assert_eq!(again[0], world.broker.batches[1], "the same identity, before anything else");
    assert_eq!(arrived(&world), [1, 2, 3], "each once");
}

#[test]
fn kafka_may_be_away_for_longer_than_memory_lasts() {
    let mut world = World::new(&spooled("", "").replace("bytes_max = \"16MiB\"", "bytes_max = \"64MiB\""));
    world.kafka_down();
    let device = world.device("d", 0);
    for id in ids(4_000) {
        send(&mut world, device, id, &payload(id, 8_000));
        let held = world.sink_number(0, SinkMetric::SpoolBytes);
        assert!(
            !world.table.wire(device).paused,
            "held back at {id}, {held} bytes in {} segments",
            world.table.disk.segments()
        );
    }
    assert_eq!(acked(&mut world, device).len(), 4_000);
    let layout = Layout { sinks: 1, clusters: 1, listeners: 1, sources: 0, rules: 0, bridges: 0 };
    let held = world.values()[layout.cluster(0, ClusterMetric::BufferBytes)];
    assert!(held < 8 << 20, "{held} bytes of memory for 32 MB");
    assert_eq!(world.sink_number(0, SinkMetric::SpooledRows), 4_000);
    world.advance(Duration::from_secs(2));
    world.turn();
    assert!(world.sink_number(0, SinkMetric::SpilledRows) > 3_000, "memory has few of them");
    assert!(
        world.number(ShardMetric::SpoolGroupBytes) > 32_000_000
            && world.number(ShardMetric::SpoolLiveBytes) > 32_000_000
    );
    world.kafka_up = true;
    world.advance(Duration::from_secs(60));
    assert_all(&arrived(&world), 4_000, "in order, each once");
}

#[test]
fn a_full_spool_answers_nothing_and_goes_on_by_itself() {
    let mut world = World::new(&spooled("", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    let last = world.fill(device);
    let answered = acked(&mut world, device);
    assert!(
        answered.len() + 1 == usize::from(last),
        "{} of {last}: the one with no room is not answered",
        answered.len()
    );
    assert_eq!(world.told(Kind::SpoolFull), 1);
    world.advance(Duration::from_secs(60));
    assert!(acked(&mut world, device).is_empty() && world.table.wire(device).paused);
    // Who waits asks no more, and it is full nevertheless.
    assert_eq!((world.told(Kind::SpoolRoom), world.number(ShardMetric::SpoolFull)), (0, 1));
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert!(!world.table.wire(device).paused);
    assert_eq!(acked(&mut world, device), [last]);
    world.advance(Duration::from_secs(10));
    assert_eq!((world.told(Kind::SpoolRoom), world.number(ShardMetric::SpoolFull)), (1, 0));
    world.advance(Duration::from_secs(60));
    assert_eq!(world.broker.records.len(), usize::from(last));
}

#[test]
fn a_full_spool_may_refuse() {
    let mut world = World::new(&spooled("when_full = \"refuse\"", ""));
    world.kafka_down();
    let filler = world.device("filler", 0);
    let mut refused = false;
    for id in 1..10_000 {
        send(&mut world, filler, id, &payload(id, 8_000));
        if world.table.wire(filler).closed {
            refused = true;
            break;
        }
    }
    assert!(refused, "3.1.1 has no word for it: the connection is closed");
    let device = world.device_v5("five");
    let mut bytes = Vec::new();
    publish("t", 7, &payload(7, 8_000), &mut bytes);
    // 5.0: no properties behind the packet id.
    bytes.insert(8, 0);
    bytes[1] += 1;
    world.bytes(device, &bytes);
    let answer = world.sent(device);
    assert_eq!((answer[0], &answer[2..5]), (0x40, &[0, 7, 0x97][..]));
    assert!(!world.table.wire(device).paused && world.number(ShardMetric::PublishesRefused) >= 2);
}

/// Many messages in one read: more than a group takes at once is no spool that is full.
#[test]
fn a_burst_is_neither_refused_nor_a_full_spool() {
    let mut world = World::new(&spooled("when_full = \"refuse\"", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    let mut bytes = Vec::new();
    (1..=160).for_each(|id| publish("t", id, &payload(id, 15_000), &mut bytes));
    for part in bytes.chunks(400_000) {
        world.bytes(device, part);
        world.advance(Duration::from_millis(200));
        assert!(!world.table.wire(device).closed && !world.table.wire(device).paused);
    }
    assert_all(&acked(&mut world, device), 160, "answered");
    assert_eq!(world.told(Kind::SpoolFull), 0);
}

/// The least records with the most beside them: a batch of them still goes into the log as one block, when a sync was slow
/// and all of it comes at once.
#[test]
fn many_small_rows_with_deadlines_fit() {
    let keys = "buffer = \"hybrid\"\nkey = \"\"\nexpire_after = \"1h\"";
    let mut world = World::new(&spooled("", keys));
    world.kafka_down();
    let device = world.device("d", 0);
    for id in 1..200 {
        send(&mut world, device, id, &payload(id, 8_000));
    }
    assert!(world.number(ShardMetric::SpoolRowsWritten) > 0, "memory is full");
    world.table.disk.slow = true;
    for _ in 0..60 {
        let mut bytes = Vec::new();
        (1..=300).for_each(|id| publish("t", id, b"", &mut bytes));
        world.bytes(device, &bytes);
        world.advance(Duration::from_secs(1));
    }
    world.table.disk.slow = false;
    world.advance(Duration::from_secs(5));
    assert_eq!(world.sink_number(0, SinkMetric::BufferedRows), 199 + 60 * 300);
    world.kafka_up = true;
    world.advance(Duration::from_secs(60));
    assert_eq!(world.broker.records.len(), 199 + 60 * 300);
}

#[test]
fn the_oldest_may_make_room() {
    let mut world = World::new(&spooled("when_full = \"drop-oldest\"", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    for id in ids(3_000) {
        send(&mut world, device, id, &payload(id, 8_000));
        world.advance(Duration::from_millis(1));
    }
    world.advance(Duration::from_secs(5));
    assert_all(&acked(&mut world, device), 3_000, "nobody waits for Kafka");
    let dropped = world.sink_number(0, SinkMetric::DroppedOldest);
    assert!(dropped > 0 && world.told(Kind::RowsDropped) > 0);
    world.kafka_up = true;
    world.advance(Duration::from_secs(60));
    let arrived = arrived(&world);
    assert_eq!(arrived.len() as u64 + dropped, 3_000, "each is in Kafka or counted");
    assert!(arrived.is_sorted() && arrived.last() == Some(&3_000));
}

#[test]
fn two_sinks_of_different_levels_are_both_waited_for() {
    let second = "[[sink]]\nname = \"two\"\nkafka = \"main\"\nfilters = [\"t\"]\ntopic = \"two\"\nacknowledge = \
                  \"replicated\"\nbatch_bytes = \"64KiB\"\nrecord_bytes_max = \"64KiB\"\n";
    let mut world = World::new(&spooled("", second));
    world.kafka_down();
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    let mut bytes = Vec::new();
    publish("other", 2, &payload(2, 10), &mut bytes);
    world.bytes(device, &bytes);
    world.advance(Duration::from_secs(1));
    assert!(acked(&mut world, device).is_empty(), "1 waits for Kafka, 2 for 1");
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(acked(&mut world, device), [1, 2]);
    assert_eq!(world.broker.records.len(), 3);
}

#[test]
fn a_failed_sync_answers_nothing_and_the_log_goes_on_elsewhere() {
    let mut world = World::new(&spooled("", ""));
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    assert_eq!(acked(&mut world, device), [1]);
    let segments = world.table.disk.segments();
    (world.table.disk.slow, world.table.disk.failing) = (true, 1);
    send(&mut world, device, 2, &payload(2, 10));
    world.turn();
    assert!(acked(&mut world, device).is_empty());
    world.table.disk.slow = false;
    world.turn();
    world.advance(Duration::from_secs(1));
    assert_eq!(acked(&mut world, device), [2]);
    assert_eq!((world.number(ShardMetric::SpoolFailures), world.told(Kind::SpoolFailed)), (1, 1));
    assert!(world.table.disk.segments() > segments, "another segment");
    world.power_cut();
    world.advance(Duration::from_secs(5));
    assert_eq!(arrived(&world), [1, 2]);
}

#[test]
fn no_segment_can_be_made_and_then_one_can() {
    let mut world = World::new(&spooled("", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    world.table.disk.full = true;
    let mut sent = 0;
    for id in ids(1_000) {
        send(&mut world, device, id, &payload(id, 8_000));
        sent = id;
        // Not only until the group that is full is on its way.
        if world.table.wire(device).paused {
            world.advance(Duration::from_secs(2));
        }
        if world.table.wire(device).paused {
            break;
        }
    }
    assert!(sent < 1_000, "no end of room on a full disk");
    let mut answered = acked(&mut world, device).len();
    // However long it is: the log does not wait ever longer.
    world.advance(Duration::from_secs(60));
    answered += acked(&mut world, device).len();
    assert!(answered < usize::from(sent));
    let told = world.told(Kind::SpoolFailed);
    assert!((6..=8).contains(&told), "told every ten seconds, not at every attempt: {told}");
    world.table.disk.full = false;
    world.advance(Duration::from_secs(1));
    assert_eq!(answered + acked(&mut world, device).len(), usize::from(sent), "within a second");
    assert!(!world.table.wire(device).paused);
}

#[test]
fn rows_of_a_sink_that_is_gone_refuse_the_start() {
    let mut world = World::new(&spooled("", ""));
    world.kafka_down();
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    assert_eq!(acked(&mut world, device), [1]);
    world.table.disk.kill();
    world.restart(Some(&spooled("", "").replace("name = \"all\"", "name = \"other\"")));
    assert!(world.table.stopped);
    let why = world.notices().into_iter().find_map(|notice| match notice {
        Notice::Failed { why, .. } => Some(why),
        _ => None,
    });
    let why = why.expect("a refusal");
    assert!(why.contains("\"all\"") && why.contains("1 records of sink"), "{why}");
    world.table.disk.kill();
    world.restart(Some(&spooled("", "")));
    world.kafka_up = true;
    world.advance(Duration::from_secs(5));
    assert_eq!(arrived(&world), [1], "nothing was changed");
}

/// What memory held first goes first, and does not end up behind what is in the log by now.
#[test]
fn a_hybrid_sink_drains_when_its_topic_is_known_at_last() {
    for key in ["", "key = \"\""] {
        let mut world = World::new(&spooled("", &format!("buffer = \"hybrid\"\n{key}")));
        world.kafka_down();
        let device = world.device("d", 0);
        ids(300).into_iter().for_each(|id| send(&mut world, device, id, &payload(id, 8_000)));
        assert!(world.number(ShardMetric::SpoolRowsWritten) > 100, "memory is full");
        world.kafka_up = true;
        world.advance(Duration::from_secs(60));
        let (mut arrived, sorted) = (arrived(&world), arrived(&world).is_sorted());
        arrived.sort_unstable();
        assert_all(&arrived, 300, "in Kafka");
        assert!(sorted || !key.is_empty(), "one device's are in order");
        assert_eq!(acked(&mut world, device).len(), 300);
    }
}

/// What a killed process had written may stand in the page cache only: it would be gone with the power.
#[test]
fn a_start_waits_until_what_it_has_found_is_on_the_disk() {
    let mut world = World::new(&spooled("", ""));
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    world.advance(Duration::from_secs(1));
    assert_eq!(arrived(&world), [1]);
    world.table.disk.slow = true;
    send(&mut world, device, 2, &payload(2, 10));
    assert_eq!(acked(&mut world, device), [1]);
    let written = world.table.disk.synced;
    world.table.disk.kill();
    world.table.disk.slow = true;
    world.restart(None);
    world.advance(Duration::from_secs(10));
    assert!(!world.notices().iter().any(|notice| matches!(notice, Notice::Started(_))), "not durable yet");
    assert_eq!((arrived(&world), world.told(Kind::SpoolRecovered)), (vec![1], 0));
    assert_eq!(world.table.disk.synced, written);
    // The power goes before it is: nobody was told of it, so it may be gone.
    world.power_cut();
    assert!(world.notices().iter().any(|notice| matches!(notice, Notice::Started(_))));
    world.advance(Duration::from_secs(10));
    assert_eq!(arrived(&world), [1]);
}

#[test]
fn what_a_start_has_acted_on_survives_a_power_cut_right_behind_it() {
    let mut world = World::new(&spooled("", ""));
    let device = world.device("d", 0);
    send(&mut world, device, 1, &payload(1, 10));
    world.advance(Duration::from_secs(1));
    world.kafka_down();
    world.table.disk.slow = true;
    send(&mut world, device, 2, &payload(2, 10));
    world.table.disk.kill();
    world.restart(None);
    assert!(world.notices().iter().any(|notice| matches!(notice, Notice::Started(_))));
    assert_eq!(world.told(Kind::SpoolRecovered), 1, "as an operator and a repeating client see it, it is there");
    world.power_cut();
    world.kafka_up = true;
    world.advance(Duration::from_secs(10));
    assert_eq!(arrived(&world), [1, 2], "so it has to stay");
}

/// Finding U6: with a template for the topic each run writes to topics of its own. A start forgets those that nothing needs.
#[test]
fn finding_u6_runs_do_not_leave_their_topics_to_the_next() {
    let mut world = World::new(&spooled("", "").replace("topic = \"all\"", "topic = \"${topic[0]}\""));
    for run in 0..4 {
        let device = world.device("d", 0);
        for id in ids(10) {
            let mut bytes = Vec::new();
            publish(&format!("run-{run}-{id}"), id, b"x", &mut bytes);
            world.bytes(device, &bytes);
        }
        world.advance(Duration::from_secs(10));
        assert_eq!((acked(&mut world, device).len(), world.broker.records.len()), (10, 10 * (run + 1)));
        assert!(found(&mut world.table.disk).state.lanes().count() >= 10, "run {run}");
        world.restart(None);
        world.advance(Duration::from_secs(2));
        assert_eq!(found(&mut world.table.disk).state.lanes().count(), 0, "run {run}");
        world.restart(None);
    }
}

/// Finding K14: damage that only their reader finds, long after the start, is counted and told as what a start finds.
#[test]
fn finding_k14_rows_that_cannot_be_read_back_are_counted_and_told_as_damage() {
    let mut world = World::new(&spooled("", "").replace("bytes_max = \"16MiB\"", "bytes_max = \"64MiB\""));
    world.kafka_down();
    let device = world.device("d", 0);
    for id in ids(1_000) {
        send(&mut world, device, id, &payload(id, 8_000));
    }
    assert_eq!(acked(&mut world, device).len(), 1_000);
    world.advance(Duration::from_secs(2));
    let segments: Vec<u64> = world.table.disk.existing().into_iter().map(|(segment, _)| segment).collect();
    for segment in &segments[1..3] {
        world.table.disk.bytes(*segment)[500_000] ^= 1;
    }
    assert_eq!((world.number(ShardMetric::SpoolRot), world.told(Kind::SpoolDamaged)), (0, 0));
    world.kafka_up = true;
    world.advance(Duration::from_secs(60));
    let lost = world.sink_number(0, SinkMetric::DroppedCorrupt);
    assert!(lost > 0 && arrived(&world).len() as u64 + lost == 1_000, "{lost} lost, {} arrived", arrived(&world).len());
    assert_eq!(world.number(ShardMetric::SpoolRot), 2, "each place once");
    assert_eq!(world.told(Kind::SpoolDamaged), 2, "each segment once");
    assert_eq!(world.number(ShardMetric::SpoolDamaged), 2);
}
