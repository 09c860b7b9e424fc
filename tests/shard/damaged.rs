//! A start over a log that is damaged: it goes on without what cannot be read, says how much that is of each kind, and works.

use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Publish, QoS, Version};
use forebay::runtime::seam::{Monotonic, SegmentEvent, Segments as _, WallMs};
use forebay::shard::mail::Notice;
use forebay::spool::{AppendError, Completion, Disk as Platter, Log, ReadError, Recovered, Settings, recover};

use super::queues::{QOS_1, QOS_2, config, kept, lose, rest, say};
use super::segments::Disk;
use super::subscribe::{message, publish, subscribe};
use super::world::World;

/// The disk of a shard as its log sees it.
struct OfLog<'a>(&'a mut Disk);

impl Platter for OfLog<'_> {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.0.create(segment, bytes);
    }

    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        self.0.append(segment, at, bytes).map_err(|_| AppendError::Gone)
    }

    fn sync(&mut self, token: u64, segments: &[u64]) {
        self.0.sync(token, segments);
    }

    fn free(&mut self, segment: u64) {
        self.0.free(segment);
    }

    fn read_note(&self) -> Option<Vec<u8>> {
        self.0.read_note()
    }

    fn write_note(&mut self, note: &[u8]) {
        self.0.write_note(note);
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.0.read(segment, at, into).map_err(|_| ReadError::Damaged)
    }
}

/// What a start would find behind a power cut.
pub(crate) fn found(disk: &mut Disk) -> Recovered {
    disk.power_cut();
    let found = disk.existing().into_iter().collect();
    recover(&OfLog(disk), 0, &found).expect("a start")
}

/// The log between two processes, at work.
fn log(world: &mut World, work: impl FnOnce(&mut Log)) {
    let disk = &mut world.table.disk;
    let recovered = found(disk);
    let (segment_bytes, segments_max) = (1 << 20, 16);
    let settings =
        Settings { shard: 0, segment_bytes, segments_max, sink_bytes_max: u64::MAX, data_dir_id: 0, seed: 3 };
    let mut log = Log::new(settings, recovered);
    let settle = |log: &mut Log, disk: &mut Disk| {
        for turn in 1..100 {
            log.flush(&mut OfLog(disk), Monotonic(turn << 40), WallMs(1_790_000_000_000));
            while let Some(event) = disk.event() {
                let completion = match event {
                    SegmentEvent::Created { segment, result } => Completion::Created { segment, ok: result.is_ok() },
                    SegmentEvent::Synced { token, result } => Completion::Synced { token, ok: result.is_ok() },
                    SegmentEvent::Freed { segment, .. } => Completion::Freed { segment },
                    SegmentEvent::Read { .. } => continue,
                };
                log.complete(&mut OfLog(disk), completion);
            }
        }
    };
    settle(&mut log, disk);
    work(&mut log);
    settle(&mut log, disk);
}

/// The records that a start would read, by number.
fn records(world: &mut World) -> Vec<(u64, Vec<u8>)> {
    let disk = &mut world.table.disk;
    let (recovered, mut all) = (found(disk), Vec::new());
    let each = |number, payload: Result<&[u8], _>| all.extend(payload.ok().map(|payload| (number, payload.to_vec())));
    recovered.records(&OfLog(disk), each).expect("read");
    all
}

/// Kept sessions, one with a will, messages that wait for them and for a share, retained ones, an open exchange.
fn busy() -> World {
    let mut world = World::new(&config());
    for (client, options) in [("away", QOS_1), ("gone", QOS_2)] {
        let conn = kept(&mut world, client, options);
        lose(&mut world, conn);
    }
    let (member, _) = world.kept_v5("member");
    assert_eq!(subscribe(&mut world, member, Version::V5, 0, &[("$share/g/#", QOS_2)]), [2]);
    lose(&mut world, member);
    let (publisher, _) = world.kept_v5("publisher");
    for id in 1..6 {
        say(&mut world, publisher, if id % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce }, id, "payload");
    }
    for topic in ["r/1", "r/2", "r/3"] {
        publish(&mut world, publisher, Version::V5, Publish { retain: true, ..message(topic, "retained") });
    }
    rest(&mut world);
    world
}

/// A start, and whether it comes to its end.
fn starts(world: &mut World) -> bool {
    world.restart(None);
    let notices = world.notices();
    assert!(!notices.iter().any(|notice| matches!(notice, Notice::Failed { .. })), "{notices:?}");
    notices.iter().any(|notice| matches!(notice, Notice::Started(_))) && !world.table.stopped
}

/// What was counted as lost, of all kinds.
fn lost(world: &World) -> u64 {
    let kinds = [
        M::LostSessions,
        M::LostRetained,
        M::LostQueued,
        M::LostShared,
        M::LostQueues,
        M::LostExchanges,
        M::LostUnknown,
        M::LostRows,
    ];
    kinds.into_iter().map(|metric| world.number(metric)).sum()
}

/// It takes clients and messages, and what it takes is there after the next start.
fn works(world: &mut World) {
    let (conn, _) = world.kept_v5("new");
    assert_eq!(subscribe(world, conn, Version::V5, 0, &[("t", QOS_1)]), [1]);
    lose(world, conn);
    let publisher = world.device_v5("p");
    say(world, publisher, QoS::AtLeastOnce, 1, "after");
    rest(world);
    assert!(starts(world));
    let (_, behind) = super::queues::back(world, "new");
    assert!(format!("{behind:?}").contains("after"), "{behind:?}");
}

/// Findings D1, L4 and L7: a record of each kind, cut off at any place, stops no start, is counted as what it was, and is gone at the next.
#[test]
fn finding_d1_no_record_that_cannot_be_read_stops_a_start() {
    let mut of_busy = busy();
    let all = records(&mut of_busy);
    let mut seen = std::collections::BTreeSet::new();
    for (number, payload) in &all {
        // One of each kind.
        if !seen.insert(payload[0]) {
            continue;
        }
        for len in [0, 1, 2, payload.len() / 3, payload.len() / 2, payload.len() - 1] {
            let mut world = busy();
            log(&mut world, |log| {
                log.session(Some(*number), &payload[..len.min(payload.len() - 1)]).expect("room");
            });
            assert!(starts(&mut world), "{:#x} cut at {len}", payload[0]);
            assert!(lost(&world) >= 1, "{:#x} cut at {len} goes unsaid", payload[0]);
            assert_eq!(world.told(EventKind::SpoolDamaged), 1, "{:#x} cut at {len}", payload[0]);
            works(&mut world);
            assert_eq!((lost(&world), world.told(EventKind::SpoolDamaged)), (0, 0), "it has ended");
        }
    }
    assert!(seen.len() >= 5, "{seen:?}");
}

/// Records that another program might have written, with any bytes in any place.
#[test]
fn finding_l4_crafted_records_stop_no_start() {
    for seed in super::seeds(0..60) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = busy();
        let all = records(&mut world);
        log(&mut world, |log| {
            for _ in 0..random.usize(1..8) {
                let (number, mut payload) = all[random.usize(..all.len())].clone();
                for _ in 0..random.usize(..4) {
                    let at = random.usize(..payload.len());
                    match random.u8(..5) {
                        0 => payload[at] = random.u8(..),
                        1 => payload[at] = [0, 0x7f, 0x80, 0xff][random.usize(..4)],
                        2 => payload.truncate(at.max(1)),
                        3 => payload.extend((0..random.usize(..20)).map(|_| random.u8(..))),
                        // A number that is as large as it can be.
                        _ => payload.iter_mut().skip(at).take(8).for_each(|byte| *byte = 0xff),
                    }
                }
                let number = random.bool().then_some(number);
                log.session(number, &payload).expect("room");
            }
        });
        assert!(starts(&mut world), "seed {seed}");
        works(&mut world);
        super::world::judge_copies(world.board());
    }
}

/// Finding L4: any bit of what lies on the disk. What was lost is told.
#[test]
fn finding_l4_any_damaged_bit_stops_no_start() {
    let of_busy = busy();
    let segments = of_busy.table.disk.existing();
    drop(of_busy);
    for seed in super::seeds(0..80) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = busy();
        let (sessions, retained) = (world.number(M::SessionsKept), world.number(M::RetainedMessages));
        let (segment, _) = segments[random.usize(..segments.len())];
        world.table.disk.power_cut();
        let bytes = world.table.disk.bytes(segment);
        let written = bytes[..bytes.len() - 128].iter().rposition(|byte| *byte != 0).map_or(128, |last| last + 1);
        let at = random.usize(..written);
        bytes[at] ^= 1 << random.u8(..8);
        assert!(starts(&mut world), "seed {seed}: byte {at}");
        let kept = (world.number(M::SessionsKept), world.number(M::RetainedMessages));
        let told = world.told(EventKind::SpoolDamaged) > 0 || world.number(M::SpoolTornBytes) > 0;
        assert!(kept == (sessions, retained) || told, "seed {seed}: byte {at}: {kept:?}");
        works(&mut world);
    }
}
