//! The cost of storing, for each way of appending: not a test but a measurement, for `scripts/perf disk`. Sixteen rows of 130 bytes
//! a turn are appended until a group is full, then it is synced. Under full load the next group begins with the turn in which the
//! sync is reported, under light load some milliseconds later.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use super::harness::{Event, next, shard, small};
use crate::seam::{Append, Io, SegmentEvent, SegmentSettings};

const ROW_BYTES: usize = 130;
/// Bytes appended in a turn.
const BATCH_BYTES: usize = 16 * ROW_BYTES;
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const SYNCS: usize = 256;

#[derive(Clone, Copy)]
struct Load {
    group_bytes: usize,
    segments: u64,
    segment_bytes: u64,
    /// The time from a sync to the next group.
    pause: Duration,
}

struct Measured {
    syncs_us: Vec<u64>,
    bytes: u64,
    shard_ns: u64,
}

fn cpu_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Minor faults, user and system ticks (10 ms) of the process, the kernel's helpers for its ring included.
fn process() -> [u64; 3] {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    [7, 11, 12].map(|index| fields[index].parse().unwrap())
}

/// The position of the next byte, and measurements so far.
struct Writer {
    load: Load,
    segment: u64,
    at: u64,
    asked: Instant,
    begun_ns: u64,
    measured: Measured,
}

impl Writer {
    /// Appends a turn's rows, and syncs if they fill the group. False: a sync is pending.
    fn batch(&mut self, io: &mut dyn Io<()>, group: &mut usize, rows: &[u8]) -> bool {
        let Some(segments) = io.segments() else { return false };
        let length = rows.len().min(self.load.group_bytes - *group).min((self.load.segment_bytes - self.at) as usize);
        segments.append(self.segment, self.at, &rows[..length]).unwrap();
        (self.at, *group) = (self.at + length as u64, *group + length);
        if *group < self.load.group_bytes && self.at < self.load.segment_bytes {
            return true;
        }
        self.asked = Instant::now();
        segments.sync(0, &[self.segment]);
        self.measured.bytes += *group as u64;
        *group = 0;
        false
    }

    /// True if that was the last sync.
    fn synced(&mut self) -> bool {
        self.measured.syncs_us.push(self.asked.elapsed().as_micros() as u64);
        if self.at == self.load.segment_bytes {
            (self.segment, self.at) = (self.segment + 1, 0);
        }
        self.segment == self.load.segments
    }
}

fn run(folder: &Path, append: Append, zeroed: bool, load: Load) -> Measured {
    let settings = SegmentSettings { folder: PathBuf::from(folder), append, zeroed, faults: None };
    let (house, told) = shard(&small(1), move |report: Sender<Measured>| {
        let measured = Measured { syncs_us: Vec::new(), bytes: 0, shard_ns: 0 };
        let mut writer = Writer { load, segment: 0, at: 0, asked: Instant::now(), begun_ns: 0, measured };
        let (mut created, mut group, mut going) = (0, 0, false);
        let (mut settings, rows) = (Some(settings), vec![0x5a; BATCH_BYTES]);
        move |io: &mut dyn Io<()>, event: Event<'_, ()>| match event {
            Event::Start => {
                io.open_segments(settings.take().unwrap()).unwrap();
                (0..load.segments).for_each(|segment| io.segments().unwrap().create(segment, load.segment_bytes));
            }
            Event::Segment(SegmentEvent::Created { result, .. }) => {
                result.unwrap();
                created += 1;
                if created == load.segments {
                    (going, writer.begun_ns) = (true, cpu_ns(ClockId::ThreadCPUTime));
                }
            }
            Event::Segment(SegmentEvent::Synced { result, .. }) => {
                result.unwrap();
                let last = writer.synced();
                going = !last && load.pause.is_zero();
                if !last && !going {
                    let next = io.now().after(load.pause);
                    io.set_timer(next, 0);
                }
                if last {
                    let Measured { syncs_us, bytes, .. } = std::mem::replace(
                        &mut writer.measured,
                        Measured { syncs_us: Vec::new(), bytes: 0, shard_ns: 0 },
                    );
                    let shard_ns = cpu_ns(ClockId::ThreadCPUTime) - writer.begun_ns;
                    report.send(Measured { syncs_us, bytes, shard_ns }).unwrap();
                }
            }
            Event::Timer(_) => going = true,
            Event::Mail(()) if going => going = writer.batch(io, &mut group, &rows),
            Event::Mail(()) => io.stop(),
            // The shard writes to itself, so that the next turn does not wait, as with devices that send without pause.
            Event::TurnEnd if going => assert!(io.mail(0, ()).is_ok()),
            _ => {}
        }
    });
    let measured = next(&told);
    house.stop(|| ());
    measured
}

fn report(round: usize, name: &str, load: Load, append: Append, zeroed: bool) {
    let parent = std::env::var_os("FOREBAY_DISK_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = tempfile::Builder::new().prefix("disk-cost-").tempdir_in(parent).unwrap();
    let (before, cpu) = (process(), cpu_ns(ClockId::ProcessCPUTime));
    let mut measured = run(dir.path(), append, zeroed, load);
    let (after, cpu) = (process(), cpu_ns(ClockId::ProcessCPUTime) - cpu);
    measured.syncs_us.sort_unstable();
    let syncs = &measured.syncs_us;
    let rank = |share: f64| syncs[((syncs.len() - 1) as f64 * share) as usize];
    let messages = measured.bytes as f64 / ROW_BYTES as f64;
    println!(
        "{{\"round\": {round}, \"append\": \"{name}\", \"group_bytes\": {}, \"pause_ms\": {}, \"messages\": {messages:.0}, \
         \"syncs\": {}, \"shard_ns_per_message\": {:.1}, \"process_ns_per_message\": {:.1}, \"user_ticks\": {}, \
         \"system_ticks\": {}, \"page_faults\": {}, \"sync_p50_us\": {}, \"sync_p99_us\": {}}}",
        load.group_bytes,
        load.pause.as_millis(),
        syncs.len(),
        measured.shard_ns as f64 / messages,
        cpu as f64 / messages,
        after[1] - before[1],
        after[2] - before[2],
        after[0] - before[0],
        rank(0.5),
        rank(0.99),
    );
}

#[test]
#[ignore = "a measurement: scripts/perf disk"]
fn disk_cost() {
    let rounds = std::env::var("FOREBAY_DISK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let ways = [
        ("mapped", Append::Mapped, false),
        ("written", Append::Written, false),
        ("written-zeroed", Append::Written, true),
    ];
    let seconds = std::env::var("FOREBAY_DISK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let begun = Instant::now();
    for round in 1..=rounds {
        for pause_ms in [0, 5] {
            for group_kib in [4, 16, 64, 256, 1024] {
                let group_bytes = group_kib << 10;
                let bytes = (group_bytes * if pause_ms == 0 { SYNCS } else { SYNCS / 4 }) as u64;
                let segment_bytes = bytes.min(SEGMENT_BYTES_MAX);
                let segments = (bytes / segment_bytes).min(4);
                let load = Load { group_bytes, segments, segment_bytes, pause: Duration::from_millis(pause_ms) };
                for (name, append, zeroed) in ways {
                    // An incomplete round is left out of the table.
                    if begun.elapsed() > Duration::from_secs(seconds) {
                        return;
                    }
                    report(round, name, load, append, zeroed);
                }
            }
        }
    }
}
