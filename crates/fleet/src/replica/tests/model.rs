//! Owners of one log that begin, serve, freeze, thaw and die, over a model of its partition. An acknowledgement that an owner gave its clients holds for each
//! later owner. Items have versions. Each append is a version of an item, and knows the one that it replaces.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::parts::{Loaded, Memory, Serving};
use crate::replica::testing::Partition;
use crate::replica::{Answer, Batch, Names, Outcome, Replica, Step, TakeOver};
use forebay_runtime::seam::Monotonic;

const ITEMS: u32 = 6;

/// The fault of a wrong body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// The log is read before its earlier owner is fenced, and not again.
    ReadBefore,
    /// Clients are answered when the batch is sent.
    ToldAtSend,
    /// Another producer id is taken for the one that fences.
    NotClosed,
    /// A segment is freed before its remaining items are written elsewhere.
    FreedFirst,
    /// The offset of a batch is not checked.
    OffsetNotLookedAt,
    /// An idle owner writes no beat.
    NoBeat,
    /// A clock that stands still while the process is frozen.
    FrozenClock,
}

enum Phase {
    Taking(Box<TakeOver<Memory>>, Memory),
    Serving(Box<Serving>),
    Dead,
}

struct Owner {
    phase: Phase,
    frozen_at: Option<Monotonic>,
    /// The time for which the owner was frozen.
    stood: Duration,
    /// The number from which batches must not count as acknowledged: earlier acknowledged ones are gone.
    doomed_from: Option<u64>,
    acknowledged: i64,
}

/// A batch in flight.
struct Wire {
    owner: usize,
    id: u64,
    bytes: Rc<Vec<u8>>,
    answer: Option<(i16, i64)>,
}

pub(super) struct World {
    random: fastrand::Rng,
    now: Monotonic,
    kafka: Partition,
    owners: Vec<Owner>,
    wires: Vec<Wire>,
    wrong: Option<Wrong>,
    cuts: bool,
    promised: BTreeMap<u32, Vec<u64>>,
    /// Segments that are gone for good, by number and maker.
    gone: BTreeSet<(u64, u32)>,
    parents: BTreeMap<u64, u64>,
    next_version: u64,
    last_loaded: Option<(u32, Loaded)>,
    /// Counts of syncs reported, logs taken over, logs lost.
    pub(super) told: u64,
    pub(super) taken: u64,
    pub(super) lost: u64,
}

type Checked = Result<(), String>;

impl World {
    pub(super) fn new(seed: u64, cuts: bool, wrong: Option<Wrong>) -> Self {
        let mut kafka = Partition::default();
        kafka.closes_nothing = wrong == Some(Wrong::NotClosed);
        Self {
            random: fastrand::Rng::with_seed(seed),
            now: Monotonic(1),
            kafka,
            owners: Vec::new(),
            wires: Vec::new(),
            wrong,
            cuts,
            promised: BTreeMap::new(),
            gone: BTreeSet::new(),
            parents: BTreeMap::new(),
            next_version: 1,
            last_loaded: None,
            told: 0,
            taken: 0,
            lost: 0,
        }
    }

    pub(super) fn run(&mut self, steps: usize) -> Checked {
        // The event that exposes a wrong body happens more often.
        let cuts = if self.wrong == Some(Wrong::OffsetNotLookedAt) { 960 } else { 927 };
        let long = if matches!(self.wrong, Some(Wrong::NoBeat | Wrong::FrozenClock)) { 980 } else { 997 };
        for _ in 0..steps {
            match self.random.u32(0..1000) {
                0..500 => self.step()?,
                500..830 => self.wire()?,
                830..850 => self.begin(),
                850..860 => self.kill(),
                860..868 => self.freeze(),
                868..880 => self.thaw(),
                880..920 => {
                    let before = self.random.i64(0..=self.kafka.end);
                    self.kafka.compact(before, self.now);
                }
                920..924 => self.forget(),
                at if (924..cuts).contains(&at) && self.cuts => self.cut(),
                924..970 => self.now = self.now.after(Duration::from_millis(self.random.u64(1..2000))),
                at if at < long => self.pass(1..900)?,
                _ => self.pass(3600..60 * 3600)?,
            }
        }
        Ok(())
    }

    fn pick(&mut self, is_it: impl Fn(&Owner) -> bool) -> Option<usize> {
        let found: Vec<usize> = (0..self.owners.len()).filter(|at| is_it(&self.owners[*at])).collect();
        (!found.is_empty()).then(|| found[self.random.usize(..found.len())])
    }

    fn begin(&mut self) {
        if self.owners.iter().filter(|owner| owner.is_alive()).count() < 3 {
            let names = Names { topic: "t".to_owned(), topic_id: 0, partition: 0, instance: "a".to_owned() };
            let memory = Memory::default();
            let phase = Phase::Taking(Box::new(TakeOver::new(names, memory.clone(), 0)), memory);
            let (stood, acknowledged) = (Duration::ZERO, -1);
            self.owners.push(Owner { phase, frozen_at: None, stood, doomed_from: None, acknowledged });
        }
    }

    fn kill(&mut self) {
        if let Some(at) = self.pick(Owner::is_alive) {
            self.owners[at].phase = Phase::Dead;
        }
    }

    fn freeze(&mut self) {
        if let Some(at) = self.pick(Owner::runs) {
            self.owners[at].frozen_at = Some(self.now);
        }
    }

    fn thaw(&mut self) {
        if let Some(at) = self.pick(|owner| owner.is_alive() && !owner.runs()) {
            let owner = &mut self.owners[at];
            let stood = self.now.since(owner.frozen_at.take().expect("frozen"));
            owner.stood += stood;
            // A take-over has five minutes.
            if stood > Duration::from_secs(300) && matches!(owner.phase, Phase::Taking(..)) {
                owner.phase = Phase::Dead;
            }
        }
    }

    /// The coordinator forgets the transactional ID after seven days: no process takes the log over meanwhile.
    fn forget(&mut self) {
        for owner in &mut self.owners {
            if matches!(owner.phase, Phase::Taking(..)) {
                owner.phase = Phase::Dead;
            }
        }
        self.kafka.forget_identity();
    }

    fn cut(&mut self) {
        let batches = self.random.usize(1..8);
        let end = self.kafka.cut(batches);
        for owner in &mut self.owners {
            match &owner.phase {
                Phase::Serving(serving) if owner.acknowledged >= end => owner.doomed_from = Some(serving.token + 1),
                Phase::Taking(..) => owner.phase = Phase::Dead,
                _ => {}
            }
        }
        // Kafka has lost acknowledged records: nothing is promised any more, and syncs in progress may be reported.
        for wire in &mut self.wires {
            wire.answer = wire.answer.filter(|(_, offset)| *offset < end);
        }
        self.promised.clear();
        self.gone.clear();
        self.last_loaded = None;
    }

    /// Lets time pass in which every running owner does the work that is due.
    fn pass(&mut self, seconds: std::ops::Range<u64>) -> Checked {
        let time = Duration::from_secs(self.random.u64(seconds));
        let end = self.now.after(time);
        for owner in &mut self.owners {
            if matches!(owner.phase, Phase::Taking(..)) && time > Duration::from_secs(300) {
                owner.phase = Phase::Dead;
            }
        }
        while self.now < end {
            self.now = self.now.after(Duration::from_secs(60));
            for at in 0..self.owners.len() {
                self.send(at)?;
                while let Some(wire) = (0..self.wires.len()).find(|wire| self.wires[*wire].owner == at) {
                    if !self.owners[at].runs() {
                        break;
                    }
                    self.deliver(wire);
                    self.answer(wire, true)?;
                }
            }
        }
        Ok(())
    }

    fn step(&mut self) -> Checked {
        let Some(at) = self.pick(Owner::runs) else { return Ok(()) };
        if matches!(self.owners[at].phase, Phase::Serving(_)) {
            self.serve(at);
            return self.send(at);
        }
        self.take(at)
    }

    /// Does a step of a take-over.
    fn take(&mut self, at: usize) -> Checked {
        let Phase::Taking(taking, _) = &mut self.owners[at].phase else { return Ok(()) };
        let failed = match taking.step() {
            Step::Identify => {
                let (id, epoch) = self.kafka.identify();
                taking.identified(id, epoch);
                false
            }
            Step::Write(bytes) => {
                let is_fence = taking.is_fence();
                if self.random.u8(0..20) == 0 {
                    // The owner dies, and its request may arrive late.
                    self.wires.push(Wire { owner: usize::MAX, id: 0, bytes: Rc::new(bytes), answer: None });
                    true
                } else if self.wrong == Some(Wrong::ReadBefore) && is_fence {
                    taking.written(0, self.kafka.end - 1).is_err()
                } else {
                    let (error, offset) = self.kafka.append(&bytes, self.now);
                    taking.written(error, offset).is_err()
                }
            }
            Step::Read(from) => {
                let from =
                    if self.wrong == Some(Wrong::ReadBefore) && taking.has_term() { self.kafka.end - 1 } else { from };
                let batches = self.random.usize(1..20);
                taking.read(&self.kafka.fetch(from, batches)).map_err(|why| why.to_string())?;
                false
            }
            Step::Done => return self.done(at),
        };
        if failed {
            self.owners[at].phase = Phase::Dead;
        }
        Ok(())
    }

    fn done(&mut self, at: usize) -> Checked {
        let Phase::Taking(taking, memory) = std::mem::replace(&mut self.owners[at].phase, Phase::Dead) else {
            return Ok(());
        };
        let taken = taking.finish().map_err(|why| why.to_string())?;
        let loaded = Loaded::of(&memory)?;
        self.taken += 1;
        // The later term owns the log, whichever of two take-overs is done first.
        let order = taken.term as u32;
        // An owner that was replaced before it was done learns that with its first batch.
        let is_last = self.last_loaded.as_ref().is_none_or(|(last, _)| *last < order);
        if is_last {
            self.look_at(&loaded)?;
        }
        let next_segment = loaded.makers.last_key_value().map_or(0, |(last, _)| last + 1);
        self.owners[at].phase = Phase::Serving(Box::new(Serving {
            replica: Replica::new(taken, self.random.u64(..)),
            order,
            items: loaded.items.clone(),
            makers: loaded.makers.clone(),
            current: None,
            next_segment,
            sync: None,
            freed: Vec::new(),
            token: 0,
        }));
        if is_last {
            self.last_loaded = Some((order, loaded));
        }
        Ok(())
    }

    /// Checks that everything acknowledged to clients is there, and nothing that is over.
    fn look_at(&self, loaded: &Loaded) -> Checked {
        for (item, versions) in &self.promised {
            for version in versions {
                self.has(loaded, *item, *version).map_err(|why| format!("taken over: {why}"))?;
            }
        }
        if let Some((segment, _)) =
            loaded.makers.iter().find(|(segment, maker)| self.gone.contains(&(**segment, **maker)))
        {
            return Err(format!("segment {segment} was freed, and is back"));
        }
        Ok(())
    }

    /// Whether a directory has a version of an item, or one that has replaced it.
    fn has(&self, loaded: &Loaded, item: u32, version: u64) -> Checked {
        let mut found = loaded.items.get(&item).map(|(version, _)| *version);
        while let Some(has) = found {
            if has == version {
                return Ok(());
            }
            found = self.parents.get(&has).copied();
        }
        Err(format!("item {item}: version {version} was told, and {:?} is there", loaded.items.get(&item)))
    }

    /// An owner writes, unless a sync is under way.
    fn serve(&mut self, at: usize) {
        let Phase::Serving(serving) = &mut self.owners[at].phase else { return };
        if serving.sync.is_some() {
            return;
        }
        if serving.current.is_none() || self.random.u8(0..6) == 0 {
            serving.new_segment();
        }
        let mut versions = Vec::new();
        for _ in 0..self.random.usize(1..5) {
            let item = self.random.u32(0..ITEMS);
            let known = serving.items.get(&item).map(|(version, _)| *version);
            let version = match known {
                Some(known) if self.random.bool() => known,
                _ => {
                    self.next_version += 1;
                    self.parents.extend(known.map(|known| (self.next_version, known)));
                    self.next_version
                }
            };
            let padding = if self.random.u16(0..200) == 0 { 1_500_000 } else { self.random.usize(0..40) };
            if self.wrong == Some(Wrong::FreedFirst) {
                serving.items.remove(&item);
                serving.free();
            }
            serving.append(item, version, padding);
            versions.push((item, version));
        }
        if self.random.u8(0..10) == 0 {
            serving.replica.write_note(b"note");
        }
        serving.token += 1;
        serving.replica.sync(serving.token);
        serving.sync = Some((serving.token, versions, std::mem::take(&mut serving.freed)));
    }

    /// Sends what is due.
    fn send(&mut self, at: usize) -> Checked {
        let now = self.clock(at);
        let owner = &mut self.owners[at];
        let runs = owner.runs();
        let Phase::Serving(serving) = &mut owner.phase else { return Ok(()) };
        if !runs
            || (self.wrong == Some(Wrong::NoBeat)
                && serving.replica.numbers().waiting_records + serving.replica.numbers().under_way == 0)
        {
            return Ok(());
        }
        while let Some(Batch { id, bytes, .. }) = serving.replica.next_batch(now) {
            self.wires.push(Wire { owner: at, id, bytes, answer: None });
        }
        if serving.replica.lost().is_some() {
            owner.phase = Phase::Dead;
            self.lost += 1;
        } else if self.wrong == Some(Wrong::ToldAtSend) {
            return self.tell(at);
        }
        Ok(())
    }

    /// The clock of an owner.
    fn clock(&self, at: usize) -> Monotonic {
        let stood = self.owners[at].stood.as_nanos() as u64;
        if self.wrong == Some(Wrong::FrozenClock) { Monotonic(self.now.0 - stood) } else { self.now }
    }

    /// Something happens to a batch on its way.
    fn wire(&mut self) -> Checked {
        if self.wires.is_empty() {
            return Ok(());
        }
        let at = self.random.usize(..self.wires.len());
        match self.random.u8(0..20) {
            0 => {
                // The connection is lost: the answer is lost, and the request may arrive late.
                let Wire { owner, id, bytes, answer } = self.wires.swap_remove(at);
                if answer.is_none() && self.random.bool() {
                    self.wires.push(Wire { owner: usize::MAX, id, bytes, answer });
                }
                self.hear(owner, id, Answer::None)
            }
            _ if self.wires[at].answer.is_none() => {
                self.deliver(at);
                Ok(())
            }
            _ => self.answer(at, false),
        }
    }

    fn deliver(&mut self, at: usize) {
        let wire = &mut self.wires[at];
        if wire.answer.is_none() {
            wire.answer = Some(self.kafka.append(&wire.bytes, self.now));
        }
    }

    fn answer(&mut self, at: usize, now: bool) -> Checked {
        let owner = self.wires[at].owner;
        if owner != usize::MAX && self.owners[owner].is_alive() && !self.owners[owner].runs() && !now {
            return Ok(());
        }
        let Wire { id, answer, .. } = self.wires.swap_remove(at);
        let Some((error, base_offset)) = answer else { return Ok(()) };
        if error == 0 && owner != usize::MAX {
            self.owners[owner].acknowledged = self.owners[owner].acknowledged.max(base_offset);
        }
        let base_offset = self.looked_at(owner).unwrap_or(base_offset);
        self.hear(owner, id, Answer::Produced { error, base_offset })
    }

    /// The offset that an owner takes a batch to have, where it does not look. The offset alone shows the faults of these wrong bodies, too.
    fn looked_at(&self, owner: usize) -> Option<i64> {
        let is_blind = matches!(
            self.wrong,
            Some(Wrong::OffsetNotLookedAt | Wrong::NotClosed | Wrong::NoBeat | Wrong::FrozenClock)
        );
        let Phase::Serving(serving) = &self.owners.get(owner).filter(|_| is_blind)?.phase else { return None };
        Some(serving.replica.next_offset())
    }

    fn hear(&mut self, at: usize, id: u64, answer: Answer) -> Checked {
        if at == usize::MAX || !self.owners[at].runs() {
            return Ok(());
        }
        let now = self.clock(at);
        let Phase::Serving(serving) = &mut self.owners[at].phase else { return Ok(()) };
        match serving.replica.answered(id, answer, now) {
            Outcome::Nothing | Outcome::Retry(_) => Ok(()),
            Outcome::Synced(token) => {
                if self.wrong != Some(Wrong::ToldAtSend) && serving.sync.as_ref().is_none_or(|sync| sync.0 != token) {
                    return Err(format!("sync {token} was told, and is not under way"));
                }
                self.tell(at)
            }
            Outcome::Lost(_) => {
                self.owners[at].phase = Phase::Dead;
                self.lost += 1;
                Ok(())
            }
        }
    }

    /// Answers clients.
    fn tell(&mut self, at: usize) -> Checked {
        let doomed_from = self.owners[at].doomed_from;
        let Phase::Serving(serving) = &mut self.owners[at].phase else { return Ok(()) };
        let Some((token, versions, freed)) = serving.sync.take() else { return Ok(()) };
        let order = serving.order;
        if self.wrong != Some(Wrong::FreedFirst) {
            serving.free();
        }
        self.told += 1;
        if doomed_from.is_some_and(|from| token >= from) {
            return Err("told by the owner of a log that was cut".to_owned());
        }
        if doomed_from.is_some() {
            return Ok(());
        }
        if let Some((newer, loaded)) = self.last_loaded.as_ref().filter(|(newer, _)| *newer > order) {
            for (item, version) in &versions {
                self.has(loaded, *item, *version)
                    .map_err(|why| format!("told after owner {newer} had read the log: {why}"))?;
            }
        }
        for (item, version) in versions {
            self.promised.entry(item).or_default().push(version);
        }
        self.gone.extend(freed);
        Ok(())
    }
}

impl Owner {
    fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Dead)
    }

    fn runs(&self) -> bool {
        self.is_alive() && self.frozen_at.is_none()
    }
}
