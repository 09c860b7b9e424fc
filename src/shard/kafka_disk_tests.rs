//! The log of sessions over a model of its partition: records reported durable are there for each later owner, whatever happens to requests, answers and
//! machines, and whatever Kafka's cleaner removes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use crate::buffer::{Buffer, Settings};
use crate::replica::tests::kafka::Partition;
use crate::replica::{Answer, Names, Replica, Step, TakeOver};
use crate::runtime::seam::WallMs;
use crate::shard::logs::first_of;
use crate::spool;

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
}

fn settings(seed: u64) -> Settings {
    let log = spool::Settings {
        shard: 0,
        segment_bytes: 32 << 10,
        segments_max: 12,
        sink_bytes_max: 1 << 20,
        data_dir_id: 0,
        seed,
    };
    Settings { log, clusters: Vec::new() }
}

impl World {
    fn new(seed: u64, wrong: Option<Wrong>) -> Self {
        Self {
            random: fastrand::Rng::with_seed(seed),
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
        let mut disk = KafkaDisk::new(parts, replica, &crate::rules::KEPT);
        let found = disk.found();
        let opened = Buffer::open(&disk, settings(self.random.u64(..)), &found, self.now, WallMs(1));
        let mut buffer = opened.map_err(|error| error.to_string())?.beginning_at(first_of(63));
        let mut tries = 0;
        self.log = None;
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
        loop {
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

    fn run(&mut self, steps: usize) -> Result<(), String> {
        self.take_over()?;
        for _ in 0..steps {
            self.now = self.now.after(Duration::from_millis(self.random.u64(..200)));
            match self.random.u8(..100) {
                0..=54 => self.write(),
                55..=74 => self.turn(),
                75..=95 => self.deliver(false),
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
    let (mut told, mut freed, mut processes) = (0, 0, 0);
    for seed in crate::runtime::seam::seeds(60) {
        let mut world = World::new(seed, None);
        world.run(1500).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        (told, freed, processes) = (told + world.told, freed + world.freed, processes + world.process);
    }
    // The model does what it is for.
    assert!(told > 1000 && freed > 100 && processes > 200, "told {told}, freed {freed}, {processes} processes");
}

#[test]
fn wrong_bodies_are_found() {
    for wrong in [Wrong::ToldAtSend, Wrong::ToldWithoutAnswer] {
        let found = (0..200).find(|seed| World::new(*seed, Some(wrong)).run(1500).is_err());
        assert!(found.is_some(), "{wrong:?} is not found");
    }
}
