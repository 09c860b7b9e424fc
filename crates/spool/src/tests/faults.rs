//! Power cuts, torn tails, rot: random schedules by seed (`FOREBAY_SEEDS=0..5000` for more), tails exhaustively.

use std::collections::BTreeMap;

use super::support::{
    Drained, SEGMENT, cut_to, drain_state, lane, normal, placeless, put, put_with, recovered, settings, settle,
};
use crate::simulated::SimDisk;
use crate::{Completion, Entry, HEADER_BYTES, Log, Origin, Reason, Recovered, RowRun, State, What, recover};
use forebay_runtime::seam::{Monotonic, WallMs};

/// A state without lanes that nothing needs: a group that begins a segment, as one that is written again does, forgets some.
fn needed(state: &State) -> State {
    let mut out = state.clone();
    let idle: Vec<u64> = out.lanes.keys().copied().filter(|lane| out.is_idle(*lane)).collect();
    idle.into_iter().for_each(|lane| drop(out.lanes.remove(&lane)));
    out
}

/// A log under random work, and a model of its results.
struct World {
    log: Log,
    disk: SimDisk,
    random: fastrand::Rng,
    /// Rows taken: value and group.
    rows: BTreeMap<(u64, u64), (Vec<u8>, u64)>,
    /// Rows that ended.
    ended: Vec<(u64, RowRun, u64)>,
    uncut: Vec<(u64, RowRun)>,
    staged: Vec<(u64, RowRun, (u64, u64))>,
    open: Vec<(u64, RowRun, u64)>,
    turns: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let log = Log::new(settings(14, seed), Recovered::default());
        let (rows, random) = (BTreeMap::new(), fastrand::Rng::with_seed(seed));
        let (ended, uncut, staged, open) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        // Half of the logs put together what lives though they have room: more sessions, fewer rows, and time to be quiet.
        let mut disk = SimDisk::default();
        disk.takes_appended = seed % 2 == 1;
        Self { log, disk, random, rows, ended, uncut, staged, open, turns: 0 }
    }

    fn step(&mut self) {
        match self.random.u8(0..16) {
            1..4 if self.disk.takes_appended => self.session(),
            0..4 => self.add(),
            4 => self.cut(),
            5 => self.send(),
            6 | 7 => self.finish(),
            8 => self.session(),
            9 if self.random.u8(0..30) == 0 => self.disk.fail_syncs = self.random.u32(1..3),
            10 if self.random.u8(0..30) == 0 => self.disk.fail_appends = 1,
            9..13 => {
                self.turns += 1;
                let turn = if self.disk.takes_appended { 34 } else { 28 };
                self.log.flush(&mut self.disk, Monotonic(self.turns << turn), WallMs(5));
            }
            _ => {
                if let Some(answer) = self.disk.answer() {
                    self.log.complete(&mut self.disk, answer);
                }
            }
        }
    }

    fn add(&mut self) {
        // Topics change after a while; partition -1 means no partition yet.
        let sink = self.log.sink("sink");
        let topic = format!("topic-{}", self.turns / 40);
        let Ok(lane) = self.log.lane(sink, &topic, self.random.i32(-1..4), topic.ends_with('1')) else { return };
        let values: Vec<Vec<u8>> = (0..self.random.usize(1..6))
            .map(|_| {
                let len = self.random.usize(1..300);
                std::iter::repeat_with(|| self.random.u8(..)).take(len).collect()
            })
            .collect();
        let origins = [(0, Origin { session: self.random.u64(0..5), packet_id: self.random.u16(1..9) })];
        let origins = if self.random.bool() { &origins[..] } else { &[] };
        if let Ok(run) = put_with(&mut self.log, lane, &values, origins, &[]) {
            let ticket = self.log.group();
            for (index, value) in values.into_iter().enumerate() {
                self.rows.insert((lane, run.first + index as u64), (value, ticket));
            }
            self.uncut.push((lane, run));
        }
    }

    fn cut(&mut self) {
        if self.uncut.is_empty() {
            return;
        }
        let at = self.random.usize(0..self.uncut.len());
        let (lane, run) = self.uncut[at];
        if self.random.u8(0..6) == 0 {
            if self.log.end_rows(lane, &[run], Reason::Expired).is_ok() {
                self.ended.push((lane, run, self.log.group()));
                self.uncut.remove(at);
            }
        } else if let Ok(cut) = cut_to(&mut self.log, lane, self.random.i32(0..4), 0, &[run]) {
            self.staged.push((lane, run, cut));
            self.uncut.remove(at);
        }
    }

    fn send(&mut self) {
        let Some((lane, run, (cut, group))) = self.staged.pop() else { return };
        if self.log.durable() >= group {
            self.open.push((lane, run, cut));
        } else {
            self.staged.push((lane, run, (cut, group)));
        }
    }

    fn finish(&mut self) {
        let Some((lane, run, cut)) = self.open.pop() else { return };
        if self.random.u8(0..5) == 0 {
            match self.log.end_cut(cut, lane, &[run], Reason::Void) {
                Ok(_) => self.uncut.push((lane, run)),
                Err(_) => self.open.push((lane, run, cut)),
            }
        } else {
            match self.log.done(cut, lane, &[run], 1) {
                Ok(()) => self.ended.push((lane, run, self.log.group())),
                Err(_) => self.open.push((lane, run, cut)),
            }
        }
    }

    fn session_bytes(&self) -> usize {
        if self.disk.takes_appended { 300 } else { 30 }
    }

    fn session(&mut self) {
        let session = self.random.u64(0..5);
        // Refusals are expected.
        let _ = match self.random.u8(0..3) {
            0 => self.log.session(Some(session), &vec![7; self.session_bytes()]).map(drop),
            1 => self.log.session_ended(session),
            _ => self.log.released(session, self.random.u16(1..9)),
        };
    }

    /// The possible results of recovery: the durable state, or that with the group in flight (which may have failed and
    /// been written again, so places do not count).
    fn possible(&mut self) -> [State; 2] {
        let before = placeless(self.log.state());
        let mut disk = self.disk.clone();
        while let Some(answer) = disk.answer() {
            let answer = match answer {
                Completion::Synced { token, .. } => Completion::Synced { token, ok: true },
                other => other,
            };
            self.log.complete(&mut disk, answer);
        }
        if self.log.flight.is_none() && !self.log.in_flight.is_empty() {
            (disk, self.log.pending) = (disk.without_faults(), Vec::new());
            self.log.waiting = Default::default();
            // No other segment begins, which would forget lanes.
            self.log.leave_apart();
            settle(&mut self.log, &mut disk);
        }
        [before, placeless(self.log.state())]
    }

    /// Cuts the power, and compares everything acknowledged with the recovered state.
    fn power_cut(mut self, seed: u64) -> Self {
        let told: Vec<_> =
            self.rows.iter().filter(|(_, (_, ticket))| *ticket <= self.log.durable()).map(|(key, _)| *key).collect();
        let over: Vec<_> = self.ended.iter().filter(|(_, _, ticket)| *ticket <= self.log.durable()).copied().collect();
        let [before, after] = self.possible();
        self.disk.power_cut(&mut self.random);
        let found = recovered(&self.disk);
        let is_whole = found.damage.is_empty() && !found.fate_open && found.missing.is_empty();
        assert!(is_whole, "seed {seed}: {:?}", found.damage);
        let state = placeless(&found.state);
        let is_possible = state == before || needed(&state) == needed(&after);
        assert!(is_possible, "seed {seed}: {state:#?}\nis neither {before:#?} nor {after:#?}");
        let ended = |lane, number| {
            self.ended.iter().any(|(of, run, _)| *of == lane && (run.first..run.end()).contains(&number))
        };
        let (rows, rotten) = drain_state(&found.state, &self.disk);
        assert!(rotten.is_empty(), "seed {seed}");
        for (key, value) in &rows {
            assert_eq!(Some(value), self.rows.get(key).map(|(value, _)| value), "seed {seed}: {key:?} was never taken");
        }
        for key in told {
            assert!(rows.contains_key(&key) || ended(key.0, key.1), "seed {seed}: {key:?} is lost");
        }
        for (lane, run, _) in over {
            assert!(
                (run.first..run.end()).all(|number| !rows.contains_key(&(lane, number))),
                "seed {seed}: back again"
            );
        }
        self.go_on(found, &rows)
    }

    /// Continues the same work with the recovered log.
    fn go_on(mut self, found: Recovered, rows: &Drained) -> Self {
        self.rows.retain(|key, _| rows.contains_key(key));
        let group = found.group;
        self.rows.values_mut().for_each(|(_, ticket)| *ticket = group);
        (self.ended, self.staged, self.uncut) = (Vec::new(), Vec::new(), Vec::new());
        let cuts = found.state.cuts().flat_map(|cut| cut.rows.iter().map(|run| (cut.head.lane, *run, cut.head.cut)));
        self.open = cuts.collect();
        let cut = |key: &(u64, u64)| {
            self.open.iter().any(|(lane, run, _)| *lane == key.0 && (run.first..run.end()).contains(&key.1))
        };
        self.uncut =
            rows.keys().filter(|key| !cut(key)).map(|key| (key.0, RowRun { first: key.1, count: 1 })).collect();
        self.log = Log::new(settings(14, self.random.u64(..)), found);
        self.disk.fail_syncs = 0;
        self.disk.fail_appends = 0;
        self
    }
}

pub(super) fn seeds() -> std::ops::Range<u64> {
    forebay_runtime::seam::seeds(60)
}

#[test]
fn what_was_told_survives_power_cuts_at_any_point() {
    let mut put_together = 0;
    for seed in seeds() {
        let mut world = World::new(seed);
        // The power is cut repeatedly, often before the first group of the new log.
        for _ in 0..6 {
            for _ in 0..world.random.usize(0..400) {
                world.step();
            }
            put_together += world.log.put_together();
            world = world.power_cut(seed);
        }
    }
    assert!(put_together > seeds().count() as u64 / 4, "{put_together} times");
}

#[test]
fn what_was_told_survives_a_power_cut_at_every_commit() {
    for stop in 1..60 {
        let mut world = World::new(stop);
        for _ in 0..100_000 {
            if world.disk.syncs_done >= stop {
                break;
            }
            world.step();
        }
        world.power_cut(stop);
    }
}

/// A log with some groups, and each group's end with the state there.
pub(super) fn groups(count: u8) -> (Log, SimDisk, Vec<(u64, State)>) {
    let (mut log, mut disk) = super::support::log(14);
    let mut ends = Vec::new();
    for turn in 0..count {
        let lane = lane(&mut log, "sink", "topic", i32::from(turn % 3));
        log.session(Some(1), &[turn; 5]).expect("room");
        let origin = [(0, Origin { session: 1, packet_id: u16::from(turn % 8) })];
        let run = put_with(&mut log, lane, &[vec![turn; 30], vec![turn; 9]], &origin, &[]).expect("room");
        let _ = cut_to(&mut log, lane, i32::from(turn % 3), 0, &[run]);
        settle(&mut log, &mut disk);
        ends.push((log.last.expect("a segment").1, normal(log.state())));
    }
    // Without the note only the segment itself shows its end, as in the first moment after a group.
    disk.note = None;
    (log, disk, ends)
}

#[test]
fn a_tail_cut_or_zeroed_at_every_byte_costs_only_what_stood_there() {
    let (log, disk, groups) = groups(6);
    let (segment, end) = log.last.expect("a segment");
    let bytes = disk.clone().bytes(segment).clone();
    // A commit ends in zeroes: the group is whole without these.
    let last_of = |end: u64| bytes[..end as usize].iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
    let by = |at: u64, ends: &dyn Fn(u64) -> u64| -> State {
        let last = groups.iter().rev().find(|(end, _)| ends(*end) <= at);
        last.map(|(_, state)| state.clone()).unwrap_or_default()
    };
    for at in 0..=end {
        let state = by(at, &last_of);
        let mut zeroed = disk.clone();
        zeroed.bytes(segment)[at as usize..SEGMENT as usize - HEADER_BYTES].fill(0);
        let found = recovered(&zeroed);
        assert_eq!(normal(&found.state), state, "zeroed from {at}");
        assert!(found.rot.is_empty(), "zeroed from {at}");
        let mut cut = disk.clone();
        // The copy of the header goes with the tail; the rest is padded as a reader of a short file would see it.
        cut.bytes(segment).truncate(at as usize + HEADER_BYTES);
        cut.bytes(segment)[at as usize..].fill(0);
        let found = recover(&cut, 3, &cut.found()).expect("recovery");
        // The lost bytes may have been ends of rows, and the shorter file is reported.
        let mut state = by(at, &last_of);
        let header = at >= HEADER_BYTES as u64;
        if header {
            state.apply(0, 0, 0, &Entry::FateOpen);
        }
        assert_eq!(normal(&found.state), state, "cut at {at}");
        assert_eq!(found.damage.iter().any(|damage| damage.what == What::CutShort), header, "cut at {at}");
    }
}

#[test]
fn a_flipped_bit_in_a_closed_segment_costs_its_entry_and_is_reported() {
    let (mut log, mut disk) = super::support::log(14);
    let mut expected = Drained::new();
    for turn in 0..120u8 {
        let lane = lane(&mut log, "sink", "topic", i32::from(turn % 3));
        let value = vec![turn; 200];
        let run = put(&mut log, lane, std::slice::from_ref(&value)).expect("room");
        expected.insert((lane, run.first), value);
        settle(&mut log, &mut disk);
    }
    let (last, _) = log.last.expect("a segment");
    assert!(last >= 2, "there are closed ones");
    let random = &mut fastrand::Rng::with_seed(4);
    let mut reported = 0;
    // With FOREBAY_SEEDS=0..200 there are ten thousand trials.
    let trials = seeds().count() as u64 * 50;
    for trial in 0..trials {
        let segment = random.u64(0..last);
        let bit = random.usize(0..log.state().segments[&segment].end as usize * 8);
        let mut hurt = disk.clone();
        hurt.bytes(segment)[bit / 8] ^= 1 << (bit % 8);
        let (rows, rotten) = drain_state(&recovered(&hurt).state, &hurt);
        let lost = rotten.iter().map(|(_, run)| run.count).sum::<u64>() as usize;
        assert_eq!(rows.len() + lost, expected.len(), "trial {trial}");
        assert!(lost <= 1, "trial {trial}: bit {bit} of segment {segment} cost {lost} rows");
        assert!(rows.iter().all(|(key, value)| expected.get(key) == Some(value)), "trial {trial}");
        reported += lost;
    }
    assert!(reported as u64 > trials / 3, "{reported}");
}

#[test]
fn rot_in_the_newest_segment_is_reported_and_the_rest_goes_on() {
    let (log, disk, _) = groups(20);
    let (segment, end) = log.last.expect("a segment");
    let random = &mut fastrand::Rng::with_seed(5);
    for trial in 0..2_000 {
        // The bit is before the last group: a later commit proves that the bytes were durable.
        let bit = random.usize(0..(end as usize - 600) * 8);
        let mut hurt = disk.clone();
        hurt.bytes(segment)[bit / 8] ^= 1 << (bit % 8);
        let found = recovered(&hurt);
        let header = bit < HEADER_BYTES * 8;
        assert!(header || (found.rot.len() == 1 && found.fate_open), "trial {trial}: bit {bit}");
        assert!(!found.damage.is_empty(), "trial {trial}: bit {bit} goes unsaid");
        let lost = log.state().cuts().count() as i64 - found.state.cuts().count() as i64;
        // The names of a lane affect everything in it.
        let nameless = !found.missing.is_empty();
        assert!(lost <= 1 || nameless, "trial {trial}: bit {bit} cost {lost} cuts");
    }
}

#[test]
fn a_damaged_checkpoint_is_made_up_for_by_the_segment_before() {
    let (mut log, mut disk, _) = groups(6);
    while log.chain.complete[1].is_none() {
        let run = put(&mut log, 0, &[vec![1; 900]]).expect("room");
        settle(&mut log, &mut disk);
        log.end_rows(0, &[run], Reason::Expired).expect("ended");
        settle(&mut log, &mut disk);
    }
    let (old, end) =
        (log.chain.complete[1].expect("one"), log.state().segments[&log.chain.complete[1].expect("one")].end);
    let (newest, _) = log.last.expect("a segment");
    for at in [HEADER_BYTES + 14, HEADER_BYTES + 40, HEADER_BYTES + 120] {
        let mut hurt = disk.clone();
        hurt.bytes(newest)[at] ^= 1;
        // The last commit of the old segment: only the successor's header says that this group was durable.
        hurt.bytes(old)[end as usize - 20] ^= 1;
        let found = recovered(&hurt);
        let mut open = log.state().clone();
        open.apply(0, 0, 0, &Entry::FateOpen);
        assert_eq!(placeless(&found.state), placeless(&open), "byte {at}");
        assert!(found.rot.len() == 2 && found.fate_open, "byte {at}: {:?}", found.rot);
    }
}

/// Checks that a log that has lost everything takes rows.
fn put_new(log: &mut Log, disk: &mut SimDisk) {
    let lane = lane(log, "sink", "topic", 0);
    put(log, lane, &[vec![1; 9]]).expect("room");
    settle(log, disk);
    assert_eq!((recovered(disk).state.live_rows(), log.state().live_rows()), (1, 1));
}

/// Damages both copies of a header.
fn behead(disk: &mut SimDisk, segment: u64) {
    for at in [20, SEGMENT as usize - 20] {
        disk.bytes(segment)[at] ^= 1;
    }
}

#[test]
fn a_segment_without_a_header_is_reported() {
    let (log, mut disk, _) = groups(6);
    let only = log.last.expect("a segment").0;
    behead(&mut disk, only);
    let found = recovered(&disk);
    assert!(found.unreadable == [only] && found.fate_open && found.state.is_empty());
    assert_eq!(found.rows_unreadable, 12, "what seems to have been there is counted");
    assert!(found.damage.iter().any(|damage| (damage.segment, damage.what) == (only, What::Unreadable)));
    let mut again = Log::new(settings(14, 2), found);
    put_new(&mut again, &mut disk);
    assert!(disk.set_aside.contains(&only));

    let (mut log, mut disk, _) = groups(6);
    while log.chain.complete[1].is_none() {
        put(&mut log, 0, &[vec![1; 900]]).expect("room");
        settle(&mut log, &mut disk);
    }
    for turn in 0..2 {
        // The first group of a segment alone would look like one cut short by power loss.
        put(&mut log, 0, &[vec![turn; 9]]).expect("room");
        settle(&mut log, &mut disk);
    }
    let newest = log.last.expect("a segment").0;
    disk.note = None;
    behead(&mut disk, newest);
    let found = recovered(&disk);
    assert_eq!((found.unreadable.as_slice(), found.fate_open), (&[newest][..], true));
}
