//! The log of sessions over a model of its partition: records reported durable are there for each later owner, whatever happens to requests, answers and
//! machines, and whatever Kafka's cleaner removes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use forebay_broker::logs::first_of;
use forebay_buffer::{Buffer, Settings};
use forebay_fleet::replica::testing::Partition;
use forebay_fleet::replica::{Answer, Names, Replica, Step, TakeOver};
use forebay_runtime::seam::WallMs;
use forebay_spool as spool;

use super::*;

/// The fault of a wrong body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// A sync is reported when its batch is sent.
    ToldAtSend,
    /// A sync is reported when there was no answer.
    ToldWithoutAnswer,
}

/// The versions of a record, present and future: each with its group, oldest first. `None`: its end.
type Versions = Vec<(u64, Option<Vec<u8>>)>;

struct World {
    random: fastrand::Rng,
    /// Bytes of a segment of the log, and their number.
    segments: (u64, u64),
    now: Monotonic,
    kafka: Partition,
    wrong: Option<Wrong>,
    log: Option<(Buffer, KafkaDisk)>,
    /// Batches of any process in flight: the process, the number, the bytes.
    wires: VecDeque<(u32, u64, Rc<Vec<u8>>)>,
    process: u32,
    records: BTreeMap<u64, Versions>,
    /// Tokens of syncs that a wrong body has reported too early.
    early: BTreeSet<u64>,
    /// The numbers of groups reported durable that a crash had to keep, and of segments freed.
    told: u64,
    freed: u64,
    /// The number of times that earlier processes put together what lives.
    together: u64,
}

fn settings((segment_bytes, segments_max): (u64, u64), seed: u64) -> Settings {
    let log = spool::Settings { shard: 0, segment_bytes, segments_max, sink_bytes_max: 1 << 20, data_dir_id: 0, seed };
    Settings { log, clusters: Vec::new(), takes_up_others: false }
}

impl World {
    fn new(seed: u64, wrong: Option<Wrong>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
            segments: (32 << 10, 12),
            now: Monotonic(1_000_000_000),
            kafka: Partition::default(),
            wrong,
            log: None,
            wires: VecDeque::new(),
            process: 0,
            records: BTreeMap::new(),
            early: BTreeSet::new(),
            told: 0,
            freed: 0,
            together: 0,
        }
    }

    fn take_over(&mut self) -> Result<(), String> {
        let names = Names { topic: "sessions".into(), topic_id: 0, partition: 1, instance: "a".into() };
        let mut parts = Parts::default();
        let mut taking = TakeOver::new(names, &mut parts, 0);
        let taken = loop {
            match taking.step() {
                Step::Identify => {
                    let (id, epoch) = self.kafka.identify();
                    taking.identified(id, epoch);
                }
                Step::Write(batch) => {
                    let (error, offset) = self.kafka.append(&batch, self.now);
                    taking.written(error, offset).map_err(|error| error.to_string())?;
                }
                Step::Read(from) => {
                    let bytes = self.kafka.fetch(from, self.random.usize(1..4));
                    taking.read(&bytes).map_err(|error| error.to_string())?;
                }
                Step::Done => break taking.finish().map_err(|error| error.to_string())?,
            }
        };
        self.process += 1;
        self.early.clear();
        let replica = Replica::new(taken, self.random.u64(..));
        let mut disk = KafkaDisk::new(parts, replica, &forebay_base::rules::KEPT);
        let found = disk.found();
        let opened = Buffer::open(&disk, settings(self.segments, self.random.u64(..)), &found, self.now, WallMs(1));
        let mut buffer = opened.map_err(|error| error.to_string())?.beginning_at(first_of(63));
        let mut tries = 0;
        self.together += self.log.take().map_or(0, |(before, _)| before.numbers().put_together);
        let restored = loop {
            if let Some(restored) = buffer.opened() {
                break restored;
            }
            self.log = Some((buffer, disk));
            self.turn();
            self.deliver(true);
            (buffer, disk) = self.log.take().ok_or("the log was lost at its start")?;
            tries += 1;
            if tries > 1000 {
                return Err("the log does not open".into());
            }
        };
        if restored.report.is_damaged() {
            return Err(format!("damage: {}", restored.report));
        }
        let found: BTreeMap<u64, Vec<u8>> =
            restored.sessions.into_iter().map(|kept| (kept.number, kept.payload)).collect();
        self.judge(&found)?;
        let group = buffer.durable();
        self.records = found.into_iter().map(|(number, payload)| (number, vec![(group, Some(payload))])).collect();
        self.log = Some((buffer, disk));
        Ok(())
    }

    /// Compares a process's contents with those reported to the previous one.
    fn judge(&mut self, found: &BTreeMap<u64, Vec<u8>>) -> Result<(), String> {
        for (number, versions) in &self.records {
            let got = found.get(number);
            let may_be = versions.iter().any(|(_, version)| version.as_ref() == got);
            // The first of them is what was told.
            let may_lack = versions.first().is_none_or(|(group, _)| *group == NEW) && got.is_none();
            if !may_be && !may_lack {
                return Err(format!("record {number} is {:?} bytes long, of {versions:?}", got.map(Vec::len)));
            }
        }
        let unknown = found.keys().find(|number| !self.records.contains_key(number));
        unknown.map_or(Ok(()), |number| Err(format!("record {number} has ended")))
    }

    /// Durable versions replace earlier ones.
    fn notes(&mut self) {
        let Some((buffer, _)) = &self.log else { return };
        let durable = buffer.durable();
        for versions in self.records.values_mut() {
            let last = versions.iter().rposition(|(group, _)| *group != NEW && *group <= durable);
            if let Some(last) = last.filter(|last| *last > 0) {
                versions.drain(..last);
                self.told += 1;
            }
        }
        let is_over = |versions: &Versions| matches!(&versions[..], [(group, None)] if *group <= durable);
        self.records.retain(|_, versions| !is_over(versions));
    }

    fn write(&mut self) {
        let Some((buffer, _)) = &mut self.log else { return };
        let some = self.random.usize(..self.records.len().max(1));
        let known = self.records.iter().nth(some);
        let known = known.filter(|(_, versions)| versions.last().is_some_and(|(_, last)| last.is_some()));
        let known = known.map(|(number, _)| *number).filter(|_| self.random.u8(..4) > 0 || self.records.len() > 30);
        if let Some(number) = known.filter(|_| self.random.u8(..3) == 0) {
            let group = buffer.end_session(number);
            self.records.entry(number).or_default().push((group, None));
            return;
        }
        let payload = vec![self.random.u8(..); self.random.usize(1..1500)];
        if let Ok(kept) = buffer.keep_session(known, &payload) {
            let versions = self.records.entry(kept.number).or_insert_with(|| vec![(NEW, None)]);
            versions.push((kept.group, Some(payload)));
        }
    }

    /// The end of a turn: the group goes to the disk, and batches to the wire.
    fn turn(&mut self) {
        let Some((buffer, disk)) = &mut self.log else { return };
        while buffer.has_to_flush(self.now) {
            buffer.flush(disk, self.now, WallMs(1));
            let mut has_done = false;
            while let Some(done) = disk.next_done() {
                self.freed += u64::from(matches!(done, Completion::Freed { .. }));
                buffer.complete(disk, done, self.now);
                has_done = true;
            }
            if !has_done {
                break;
            }
        }
        while let Some(batch) = disk.replica.next_batch(self.now) {
            if self.wrong == Some(Wrong::ToldAtSend)
                && let Some(token) = disk.replica.syncing()
                && self.early.insert(token)
            {
                buffer.complete(disk, Completion::Synced { token, ok: true }, self.now);
            }
            self.wires.push_back((self.process, batch.id, batch.bytes));
        }
    }

    /// A request reaches Kafka, and its answer the sender, or one of the two is lost.
    fn deliver(&mut self, is_sure: bool) {
        let Some((process, id, bytes)) = self.wires.pop_front() else { return };
        let luck = if is_sure { 0 } else { self.random.u8(..10) };
        let arrives = luck != 1;
        let told = if arrives { self.kafka.append(&bytes, self.now) } else { (0, -1) };
        // The request arrives again, later.
        if luck == 2 {
            self.wires.push_back((process, id, bytes));
        }
        let Some((buffer, disk)) = &mut self.log else { return };
        if process != self.process {
            return;
        }
        let is_answered = arrives && luck != 3;
        let answer = match is_answered {
            true => Answer::Produced { error: told.0, base_offset: told.1 },
            false => Answer::None,
        };
        if self.wrong == Some(Wrong::ToldWithoutAnswer)
            && !is_answered
            && let Some(token) = disk.replica.syncing()
            && self.early.insert(token)
        {
            buffer.complete(disk, Completion::Synced { token, ok: true }, self.now);
        }
        match disk.replica.answered(id, answer, self.now) {
            Outcome::Synced(token) if !self.early.remove(&token) => {
                buffer.complete(disk, Completion::Synced { token, ok: true }, self.now);
            }
            Outcome::Lost(why) => panic!("nobody else has it: {why}"),
            _ => {}
        }
    }

    /// Lets time pass without new records, and delivers each request, up to `most` of them. Returns their number.
    fn rest(&mut self, seconds: u64, most: usize) -> usize {
        let (until, mut batches) = (self.now.after(Duration::from_secs(seconds)), 0);
        while self.now < until {
            self.now = self.now.after(Duration::from_millis(50));
            self.turn();
            while !self.wires.is_empty() {
                if batches == most {
                    return batches;
                }
                batches += 1;
                self.deliver(true);
                self.notes();
                self.turn();
            }
        }
        batches
    }

    fn run(&mut self, steps: usize) -> Result<(), String> {
        self.take_over()?;
        for _ in 0..steps {
            self.now = self.now.after(Duration::from_millis(self.random.u64(..200)));
            match self.random.u8(..100) {
                0..=54 => self.write(),
                55..=74 => self.turn(),
                75..=94 => self.deliver(false),
                95 => {
                    let most = self.random.usize(..40);
                    self.rest(6, most);
                }
                96..=97 => {
                    let before = self.kafka.end - self.random.i64(0..20);
                    self.kafka.compact(before, self.now);
                }
                _ => {
                    // The process dies, or another one takes over first; its requests arrive late.
                    if self.random.bool() {
                        self.wires.clear();
                    }
                    self.take_over()?;
                }
            }
            self.notes();
        }
        Ok(())
    }
}

/// The group of "there was none before".
const NEW: u64 = u64::MAX;

#[test]
fn what_was_told_is_there_for_each_process_after() {
    let (mut told, mut freed, mut processes, mut together) = (0, 0, 0, 0);
    for seed in forebay_runtime::seam::seeds(60) {
        let mut world = World::new(seed, None);
        world.run(1500).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        (told, freed, processes) = (told + world.told, freed + world.freed, processes + world.process);
        together += world.together;
    }
    // The model does what it is for.
    assert!(told > 1000 && freed > 100 && processes > 200, "told {told}, freed {freed}, {processes} processes");
    assert!(together > 100, "put together {together} times");
}

#[test]
fn wrong_bodies_are_found() {
    for wrong in [Wrong::ToldAtSend, Wrong::ToldWithoutAnswer] {
        let found = (0..200).find(|seed| World::new(*seed, Some(wrong)).run(1500).is_err());
        assert!(found.is_some(), "{wrong:?} is not found");
    }
}

/// A log of sessions that have subscribed twice since they began, each time in a group of their own.
fn subscribed(sessions: usize, segments: (u64, u64)) -> World {
    let mut world = World { segments, ..World::new(1, None) };
    world.take_over().expect("a log");
    for _ in 0..sessions {
        let mut number = None;
        for bytes in [40, 75, 110] {
            let (buffer, _) = world.log.as_mut().expect("a log");
            let payload = vec![world.random.u8(..); bytes];
            let kept = buffer.keep_session(number, &payload).expect("room");
            number = Some(kept.number);
            let versions = world.records.entry(kept.number).or_insert_with(|| vec![(NEW, None)]);
            versions.push((kept.group, Some(payload)));
            world.turn();
            world.deliver(true);
            world.notes();
        }
    }
    world
}

#[test]
fn a_quiet_log_has_little_beside_what_lives() {
    const USUAL: (u64, u64) = (2 << 20, 8);
    let mut none = subscribed(0, USUAL);
    none.rest(30, usize::MAX);
    for sessions in [16, 1_562] {
        let mut world = subscribed(sessions, USUAL);
        let without = none.kafka.stays();
        let each = |world: &World| (world.kafka.stays() - without) / sessions as u64;
        // A large log does not wait until it is quiet.
        assert!(each(&world) > 500 || sessions > 16, "{} bytes of each session before", each(&world));
        world.rest(30, usize::MAX);
        assert!(each(&world) <= 500, "{} bytes of each session", each(&world));
        // The log is at rest: the next beat is due a minute after the last batch.
        assert_eq!(world.rest(25, usize::MAX), 0);
        world.take_over().expect("all of it");
        world.rest(30, usize::MAX);
        assert!(each(&world) <= 500, "{} bytes of each session after a start", each(&world));
    }
}

/// Rests until a quiet log has been put together, or N batches have gone. Returns whether it was, and whether records have moved.
fn puts_together(world: &mut World, batches: usize) -> (bool, bool) {
    let numbers = |world: &World| world.log.as_ref().expect("a log").0.numbers();
    let before = numbers(world);
    world.rest(30, batches);
    let now = numbers(world);
    (now.put_together > before.put_together, now.moved_bytes > before.moved_bytes)
}

/// A process that puts together what lives ends after any batch, so the last one may have nothing but a checkpoint. The next process begins a segment and ends,
/// too, before it puts anything together.
#[test]
fn no_segment_is_missing_after_two_processes_of_which_the_first_put_together() {
    let (mut done, mut halfway) = (0, 0);
    for batches in 0..16 {
        let mut world = subscribed(16, (2 << 20, 8));
        let (is_done, _) = puts_together(&mut world, batches);
        (done, halfway) = (done + u32::from(is_done), halfway + u32::from(!is_done));
        for process in 2..4 {
            world.wires.clear();
            world.take_over().unwrap_or_else(|why| panic!("after {batches} batches, process {process}: {why}"));
            // The time is too short for the log to be quiet.
            world.write();
            world.rest(1, usize::MAX);
        }
        world.take_over().unwrap_or_else(|why| panic!("after {batches} batches, at the end: {why}"));
    }
    assert!(done > 2 && halfway > 2, "after its end {done} times, halfway {halfway} times");
}

#[test]
fn a_start_finds_all_sessions_while_they_are_put_together() {
    let (mut done, mut halfway) = (0, 0);
    for batches in 0..40 {
        // Seven groups are moved: a group takes a sixteenth of a segment.
        let mut world = subscribed(150, (48 << 10, 16));
        let (is_done, has_moved) = puts_together(&mut world, batches);
        done += u64::from(is_done);
        halfway += u64::from(!is_done && has_moved);
        // A request may be lost, or arrive after the next process has begun.
        if batches % 2 == 0 {
            world.wires.clear();
        }
        world.take_over().unwrap_or_else(|why| panic!("after {batches} batches: {why}"));
        world.rest(30, usize::MAX);
        assert_eq!(world.rest(25, usize::MAX), 0, "after {batches} batches");
        world.take_over().unwrap_or_else(|why| panic!("after {batches} batches and a rest: {why}"));
    }
    assert!(done > 5 && halfway > 2, "after its end {done} times, halfway {halfway} times");
}
