//! A log that is full to the last byte, with many lanes interleaved and a dead one among them: it drains, takes rows
//! again, and never takes more segments than allowed.

use std::collections::{BTreeMap, VecDeque};

use super::faults::seeds;
use super::support::{cut_to, drain, normal, put, records, recovered, settle};
use crate::simulated::SimDisk;
use crate::{Log, ROWS_OVERHEAD, Reason, Recovered, Refused, RowRun, Settings};
use forebay_runtime::seam::{Monotonic, WallMs};

const SEGMENTS: u64 = 12;
const SEGMENT: u64 = 64 << 10;

fn settings(seed: u64) -> Settings {
    let sink_bytes_max = SEGMENT * SEGMENTS;
    Settings { shard: 3, segment_bytes: SEGMENT, segments_max: SEGMENTS, sink_bytes_max, data_dir_id: 0, seed }
}

/// The lane with this index, whatever its current number.
fn name(log: &mut Log, index: usize) -> Result<u64, Refused> {
    let sink = log.sink(&format!("sink-{}", index % 3));
    log.lane(sink, &format!("topic-{}", index / 5), index as i32 - 1, false)
}

struct Full {
    log: Log,
    disk: SimDisk,
    random: fastrand::Rng,
    lanes: Vec<u64>,
    /// Uncut rows and open cuts of each lane; the first lane is dead.
    rows: BTreeMap<u64, VecDeque<RowRun>>,
    cuts: BTreeMap<u64, VecDeque<(u64, u64, RowRun)>>,
    dead: Vec<Vec<u8>>,
    turn: u64,
}

impl Full {
    fn new(seed: u64) -> Self {
        let (mut log, disk) = (Log::new(settings(seed), Recovered::default()), SimDisk::default());
        let mut lanes = Vec::new();
        for n in 0..20 {
            lanes.push(name(&mut log, n).expect("a lane"));
        }
        for client in 0..5u8 {
            log.session(None, &[client; 40]).expect("room");
        }
        let (rows, cuts) = (BTreeMap::new(), BTreeMap::new());
        let random = fastrand::Rng::with_seed(seed);
        Self { log, disk, random, lanes, rows, cuts, dead: Vec::new(), turn: 0 }
    }

    /// A turn of the shard: the disk may answer or not.
    fn turn(&mut self) {
        self.turn += 1;
        self.log.flush(&mut self.disk, Monotonic(self.turn << 40), WallMs(3));
        for _ in 0..self.random.u8(0..4) {
            if let Some(answer) = self.disk.answer() {
                self.log.complete(&mut self.disk, answer);
            }
        }
        assert!(self.disk.found().len() as u64 <= SEGMENTS, "more segments than there may be");
    }

    fn add(&mut self, dead_share: u8) -> Result<u64, Refused> {
        let dead = self.random.u8(0..100) < dead_share;
        let index = if dead { 0 } else { self.random.usize(1..20) };
        let lane = name(&mut self.log, index)?;
        self.lanes[index] = lane;
        let values: Vec<Vec<u8>> =
            (0..self.random.usize(1..5)).map(|_| vec![self.random.u8(..); self.random.usize(1..200)]).collect();
        let bytes = records(&values).len() as u64 + ROWS_OVERHEAD + 20 * values.len() as u64;
        let room = self.log.room();
        match put(&mut self.log, lane, &values) {
            Ok(_) if dead => self.dead.extend(values),
            Ok(run) => self.rows.entry(lane).or_default().push_back(run),
            Err(refused) => {
                assert!(room < bytes || refused == Refused::Busy, "{refused} with room for {room}");
                return Err(refused);
            }
        }
        Ok(bytes)
    }

    /// Puts cuts, dones, ends and releases: none of them may be refused permanently.
    fn drain_some(&mut self) {
        let lane = self.lanes[self.random.usize(1..20)];
        let (rows, cuts) = (self.rows.entry(lane).or_default(), self.cuts.entry(lane).or_default());
        let took = match self.random.u8(0..8) {
            0..4 => match rows.front().copied() {
                Some(run) if cuts.len() < 5 => match cut_to(&mut self.log, lane, lane as i32, 0, &[run]) {
                    Ok((cut, group)) => {
                        rows.pop_front();
                        cuts.push_back((cut, group, run));
                        Ok(())
                    }
                    Err(refused) => Err(refused),
                },
                _ => Ok(()),
            },
            4..7 => match cuts.front().copied() {
                Some((cut, group, run)) if self.log.durable() >= group => {
                    let anew = self.random.u8(0..5) == 0;
                    let took = if anew {
                        self.log.end_cut(cut, lane, &[run], Reason::Void)
                    } else {
                        self.log.done(cut, lane, &[run], 1)
                    };
                    if took.is_ok() {
                        cuts.pop_front();
                        rows.extend(anew.then_some(run));
                    }
                    took
                }
                _ => Ok(()),
            },
            _ => self.log.released(self.random.u64(0..5), self.random.u16(..)),
        };
        assert!(matches!(took, Ok(()) | Err(Refused::Busy | Refused::TooMany)), "{took:?}");
    }

    fn left(&self) -> usize {
        self.rows.values().map(VecDeque::len).sum::<usize>() + self.cuts.values().map(VecDeque::len).sum::<usize>()
    }
}

fn fills_drains_and_flows(seed: u64, dead_share: u8) {
    let mut world = Full::new(seed);
    let why = (0..1_000_000).find_map(|_| match world.add(dead_share) {
        Ok(_) => None,
        Err(Refused::Busy) => {
            world.turn();
            None
        }
        Err(other) => Some(other),
    });
    assert_eq!(why, Some(Refused::Full), "seed {seed}");
    assert!(world.log.session(None, &[1; 900]).is_err(), "seed {seed}: new sessions stop with rows");
    let mut turns = 0;
    while world.left() > 0 {
        world.drain_some();
        if world.random.u8(0..3) == 0 {
            world.turn();
            turns += 1;
            assert!(turns < 50_000, "seed {seed}: it does not drain; {} left", world.left());
        }
        // A recovery in the middle of the work.
        if world.random.u16(0..400) == 0 {
            settle(&mut world.log, &mut world.disk);
            world.log = Log::new(settings(seed), recovered(&world.disk));
        }
    }
    // The dead topic keeps only its rows, and not whole segments.
    let (mut flowed, mut waited) = (0, 0);
    while flowed < 2 * SEGMENTS * SEGMENT {
        match world.add(0) {
            Ok(bytes) => (flowed, waited) = (flowed + bytes, 0),
            Err(_) => waited += 1,
        }
        assert!(waited < 3_000, "seed {seed}: nothing flows; spare {}", world.log.spare());
        world.drain_some();
        world.drain_some();
        if world.random.u8(0..3) == 0 || waited > 0 {
            world.turn();
        }
    }
    while world.left() > 0 {
        world.drain_some();
        world.turn();
    }
    settle(&mut world.log, &mut world.disk);
    assert_eq!(normal(&recovered(&world.disk).state), normal(world.log.state()), "seed {seed}");
    let found: Vec<_> = drain(&mut world.log, &world.disk).0.into_values().collect();
    assert_eq!(found, world.dead, "seed {seed}: in order, once each");
    assert_eq!(world.log.state().sessions().count(), 5, "seed {seed}");
}

#[test]
fn a_full_log_drains_and_flows_with_many_lanes_and_a_dead_one_among_them() {
    for seed in seeds().step_by(12) {
        fills_drains_and_flows(seed, [5, 20, 40, 70][(seed / 12) as usize % 4]);
    }
}
