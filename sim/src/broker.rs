//! Runs with `[broker]`: the requests to Kafka before clients are accepted, and processes beside each other, where a frozen process goes on while
//! another one has taken over its logs. The steps are those of the program (`cli::broker`); the deciding code is the program's own
//! (`replica::TakeOver`), and each request may be answered late, be lost, or arrive late. `judge/broker.rs` judges.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use forebay::broker::mail::RetainedOfShard;
use forebay::broker::router::{Place, owner};
use forebay::kafka::consumer::Batches;
use forebay::replica::{Names, Step as Asked, Store, TakeOver};
use forebay::runtime::seam::Closed;
use forebay::session::PartitionKey;
use forebay::shard::kafka_disk::Parts;
use forebay::shard::mail::{Mail, TakenLog, ToShard, ToSlots};
use forebay::shard::sources::{FirstRead, RetainedMessages, partition_key};

use crate::faults::Fault;
use crate::kafka::Holds;
use crate::kafka::cleaner::{Awaited, Written};
use crate::plan::broker::{INSTANCE, RETAINED, SESSIONS};
use crate::process::{End, In, Process};
use crate::time::{MS, S, stream};
use crate::world::{Event, World};

/// Bound on the wait for followers in a starting process.
const PATIENCE: u64 = 30 * S;
/// Pause before a starting process that stands still is looked at again.
const STANDS: u64 = 50 * MS;
/// Pause before a starting process begins again.
const AGAIN: u64 = S;

/// A step of a starting process: the process, and one of its logs.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub(crate) life: u32,
    pub(crate) attempt: u32,
    pub(crate) log: usize,
}

/// The bytes read so far of a log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Read(Rc<RefCell<Parts>>);

impl Store for Read {
    fn write(&mut self, segment: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
        (&mut *self.0.borrow_mut()).write(segment, at, bytes)
    }
    fn read(&mut self, segment: u64, at: u64, into: &mut [u8]) -> io::Result<()> {
        Store::read(&mut &mut *self.0.borrow_mut(), segment, at, into)
    }
    fn set_len(&mut self, segment: u64, bytes: u64) -> io::Result<()> {
        (&mut *self.0.borrow_mut()).set_len(segment, bytes)
    }
    fn remove(&mut self, segment: u64) -> io::Result<()> {
        (&mut *self.0.borrow_mut()).remove(segment)
    }
    fn write_note(&mut self, note: &[u8]) -> io::Result<()> {
        (&mut *self.0.borrow_mut()).write_note(note)
    }
}

/// A log that is being taken over.
#[derive(Debug)]
pub(crate) struct Taking {
    taking: TakeOver<Read>,
    read: Read,
    /// A batch that waits for followers, and the deadline.
    waits: Option<(Awaited, u64)>,
    /// Offset of the last record that Kafka took; in the end the offset of the term.
    wrote: i64,
}

/// A starting process and its requests to Kafka.
#[derive(Debug, Default)]
struct Starting {
    attempt: u32,
    /// Takeovers in progress, by log.
    taking: BTreeMap<usize, Taking>,
    /// The offsets at which the partitions of routes begin.
    begins: Arc<BTreeMap<PartitionKey, i64>>,
    /// Logs that were taken over, for the shards. The next field: retained messages of each shard.
    taken: Vec<TakenLog>,
    retained: Vec<RetainedOfShard>,
}

/// The owner of a log, and the offset at which its term begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) log: usize,
    pub(crate) identity: (i64, i16),
    pub(crate) from: i64,
}

/// The additional state of a run with `[broker]`.
#[derive(Debug)]
pub(crate) struct Broker {
    rng: fastrand::Rng,
    starting: BTreeMap<u32, Starting>,
    /// Processes beside the one that clients reach, by life. The next field: the frozen ones.
    pub(crate) others: BTreeMap<u32, Process>,
    pub(crate) frozen: Vec<u32>,
    last_life: u32,
    pub(crate) owners: Vec<Owner>,
    /// Whether a process was frozen while another one served.
    pub(crate) had_others: bool,
    /// Logs of sessions that have lost acknowledged records, each with the time.
    pub(crate) cuts: Vec<(usize, u64)>,
    /// Values of the records in the topic of retained messages, each with its last offset, and the number of the cluster's
    /// batches that they were collected from.
    pub(crate) copied: (usize, HashMap<Vec<u8>, i64>),
    /// Offset below a commit up to which the records of each partition were checked.
    pub(crate) below: BTreeMap<(String, i32), i64>,
}

impl Broker {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: stream(seed, "starts"),
            starting: BTreeMap::new(),
            others: BTreeMap::new(),
            frozen: Vec::new(),
            last_life: 0,
            owners: Vec::new(),
            had_others: false,
            cuts: Vec::new(),
            copied: (0, HashMap::new()),
            below: BTreeMap::new(),
        }
    }

    /// Whether this process is the last one that has started.
    pub(crate) const fn is_newest(&self, life: u32) -> bool {
        self.last_life == life
    }

    /// The number of the newest process.
    pub(crate) const fn last_life(&self) -> u32 {
        self.last_life
    }

    /// The number of the next process.
    pub(crate) fn next_life(&mut self, current: u32) -> u32 {
        self.last_life = if current == u32::MAX { self.last_life } else { current } + 1;
        self.last_life
    }
}

impl World {
    /// Creates the topics, as an operator would, and sets brokers' clocks wrong.
    pub(crate) fn broker_begins(&mut self) {
        let (Some(broker), Some(reading)) = (self.settings.broker, self.plan.reading) else { return };
        let logs = self.session_logs().len();
        let cluster = &mut self.clusters[0];
        cluster.create_for(Holds::Retained, RETAINED, reading.partitions, 0);
        cluster.create_for(Holds::Sessions, SESSIONS, logs, 0);
        if broker.clocks > 0 {
            cluster.set_clocks(broker.clocks);
        }
    }

    /// The slots of an instance: partitions of the topic, each with a log and the shard that owns it.
    fn session_logs(&self) -> Vec<(u16, usize)> {
        let slots = self.settings.broker.map_or(0, |broker| broker.slots);
        (0..slots).map(|slot| (slot, usize::from(slot) % self.settings.shards)).collect()
    }

    /// The shard of a client.
    pub(crate) fn home(&self, name: &str) -> usize {
        let slots = self.settings.broker.map(|broker| owner(name, broker.slots.into()));
        slots.map_or_else(|| owner(name, self.shards()), |slot| slot % self.shards())
    }

    /// The offset at which each partition of the routes begins: what the group has committed, if anything.
    pub(crate) fn routes_begin(&self, first: &FirstRead) -> Arc<BTreeMap<PartitionKey, i64>> {
        let config = self.settings.config();
        let Some(broker) = &config.broker else { return Arc::default() };
        let kafka = &self.clusters[0];
        let group = kafka.groups().and_then(|groups| groups.by_name.get(&broker.group()));
        let topics = broker.topics().filter_map(|(name, _)| Some((name, kafka.topics.get(name)?)));
        let places = topics.flat_map(|(name, topic)| {
            (0..topic.partitions.len() as i32).map(move |partition| {
                let committed = group.and_then(|group| group.offsets.get(&(name.to_owned(), partition)));
                let offset = committed.map_or(0, |(offset, _)| *offset);
                (partition_key(name, topic.id, partition), offset)
            })
        });
        let new = first.iter().map(|(of, read)| (*of, read.end));
        Arc::new(places.chain(new).collect())
    }

    // ---- a start ----

    /// Begins the requests to Kafka, which the shards wait for.
    pub(crate) fn prepare_broker(&mut self) {
        let life = self.life;
        let (logs, begins) = (self.session_logs(), self.routes_begin(&FirstRead::new()));
        let starting = self.broker.starting.entry(life).or_default();
        *starting = Starting { attempt: starting.attempt + 1, begins, ..Starting::default() };
        let attempt = starting.attempt;
        for (log, _) in logs {
            let taking = self.begin_taking(log, INSTANCE);
            let log = usize::from(log);
            if let Some(starting) = self.broker.starting.get_mut(&life) {
                starting.taking.insert(log, taking);
            }
            self.next_step(Step { life, attempt, log });
        }
    }

    fn names(&self, log: u16, instance: &str) -> Names {
        let topic_id = self.clusters[0].topics.get(SESSIONS).map_or(0, |topic| topic.id);
        Names { topic: SESSIONS.to_owned(), topic_id, partition: i32::from(log), instance: instance.to_owned() }
    }

    /// Begins to take over a log for an instance.
    pub(crate) fn begin_taking(&self, log: u16, instance: &str) -> Taking {
        let read = Read::default();
        let taking = TakeOver::new(self.names(log, instance), read.clone(), 0).with_rules(self.rules);
        Taking { taking, read, waits: None, wrote: -1 }
    }

    fn next_step(&mut self, step: Step) {
        let way = 2 * self.plan.latency;
        let at = self.time + 1 + self.broker.rng.u64(..=way);
        self.schedule(at, Event::Prepare(step));
    }

    /// Makes the next step of a starting process, if the process is still there.
    pub(crate) fn prepares(&mut self, step: Step) {
        if self.process.is_none() {
            return;
        }
        if self.broker.frozen.contains(&step.life) {
            return self.schedule(self.time + STANDS, Event::Prepare(step));
        }
        let starting = self.broker.starting.get_mut(&step.life).filter(|starting| starting.attempt == step.attempt);
        let Some(starting) = starting else { return };
        if step.log == usize::MAX {
            return self.prepare_broker();
        }
        let Some(mut taking) = starting.taking.remove(&step.log) else { return };
        let result = if self.away[0] { Err("Kafka is away".to_owned()) } else { self.takes_over(step, &mut taking) };
        match result {
            Ok(false) => {
                if let Some(starting) = self.broker.starting.get_mut(&step.life) {
                    starting.taking.insert(step.log, taking);
                }
                self.next_step(step);
            }
            Ok(true) => self.has_taken(step, taking),
            Err(why) => {
                self.note(|| format!("log {} is not taken over: {why}", step.log));
                self.begins_again(step);
            }
        }
    }

    /// Restarts the takeovers in progress.
    pub(crate) fn starts_begin_again(&mut self) {
        self.instances_take_again();
        let steps: Vec<Step> = self
            .broker
            .starting
            .iter()
            .filter(|(_, starting)| !starting.taking.is_empty())
            .map(|(life, starting)| Step { life: *life, attempt: starting.attempt, log: 0 })
            .collect();
        steps.into_iter().for_each(|step| self.begins_again(step));
    }

    fn begins_again(&mut self, step: Step) {
        if let Some(starting) = self.broker.starting.get_mut(&step.life) {
            // The steps of this attempt are stale from now on.
            *starting = Starting { attempt: starting.attempt + 1, ..Starting::default() };
            let again = Step { log: usize::MAX, attempt: starting.attempt, ..step };
            self.schedule(self.time + AGAIN, Event::Prepare(again));
        }
    }

    /// Makes the next request to Kafka. `true`: none is left.
    pub(crate) fn takes_over(&mut self, step: Step, of: &mut Taking) -> Result<bool, String> {
        let (place, time) = ((SESSIONS, step.log), self.time);
        // Some processes start without a fault, however many logs there are.
        let of_all = 60.max(20 * self.session_logs().len());
        let kafka = &mut self.clusters[0];
        if let Some((awaited, until)) = of.waits {
            if let Some((error, base)) = kafka.answer_to(place, awaited) {
                of.waits = None;
                return self.wrote(of, error, base).map(|()| false);
            }
            return if time < until { Ok(false) } else { Err("no answer in time".to_owned()) };
        }
        match of.taking.step() {
            Asked::Identify => {
                let names = self.names(step.log as u16, INSTANCE);
                let (id, epoch) = self.clusters[0].identify(&names.transactional_id()).ok_or("no broker answers")?;
                of.taking.identified(id, epoch);
            }
            Asked::Write(batch) => match self.broker.rng.usize(..of_all) {
                0 => return Err("a request was lost".to_owned()),
                // The batch arrives when its sender no longer waits for it.
                1 => {
                    let at = time + self.broker.rng.u64(..2 * S);
                    self.schedule(at, Event::LateWrite(step.log, batch, step.life));
                    return Err("no answer came".to_owned());
                }
                luck => {
                    let written = kafka.write_to(place, batch, (step.life, false, time));
                    if luck == 2 {
                        return Err("the answer was lost".to_owned());
                    }
                    match written {
                        Written::Answer(error, base) => self.wrote(of, error, base)?,
                        Written::Waits(awaited) => of.waits = Some((awaited, time + PATIENCE)),
                    }
                }
            },
            Asked::Read(from) => {
                let most = self.broker.rng.usize(1..20);
                let (bytes, _) = kafka.read_from(place, from, most).map_err(|code| format!("error {code}"))?;
                of.taking.read(&bytes).map_err(|why| why.to_string())?;
            }
            Asked::Done => return Ok(true),
        }
        Ok(false)
    }

    fn wrote(&mut self, of: &mut Taking, error: i16, base: i64) -> Result<(), String> {
        if error == 0 {
            of.wrote = base;
        }
        of.taking.written(error, base).map_err(|why| why.to_string())
    }

    /// Appends a batch of a starting process that arrives when its sender no longer waits for it.
    pub(crate) fn late_write(&mut self, log: usize, batch: Vec<u8>, life: u32) {
        let written = self.clusters[0].write_to((SESSIONS, log), batch, (life, true, self.time));
        self.note(|| format!("a late batch of the start of process {life} for log {log}: {written:?}"));
    }

    /// Ends the takeover of a log, and returns the log.
    pub(crate) fn taken_log(&mut self, log: usize, of: Taking) -> Option<TakenLog> {
        let Taking { taking, read, wrote, .. } = of;
        let taken = match taking.finish() {
            Ok(taken) => taken,
            Err(why) => {
                self.judge.fails("start", format!("log {log}: {why}"));
                return None;
            }
        };
        let identity = taken.identity();
        self.broker.owners.push(Owner { log, identity, from: wrote });
        self.note(|| {
            format!("log {log} is taken over: term {}, {identity:?} from {wrote} on, {:?}", taken.term, taken.read)
        });
        let parts = Rc::try_unwrap(read.0).map(RefCell::into_inner).unwrap_or_default();
        Some(TakenLog { taken, parts, slot: log as u16 })
    }

    fn has_taken(&mut self, step: Step, of: Taking) {
        let Some(taken) = self.taken_log(step.log, of) else { return };
        let logs = self.session_logs();
        let Some(starting) = self.broker.starting.get_mut(&step.life) else { return };
        starting.taken.push(taken);
        if !starting.taking.is_empty() || starting.taken.len() < logs.len() {
            return;
        }
        match self.read_retained() {
            Ok(retained) => {
                let retained = retained.of_shards(&FirstRead::new());
                let Some(starting) = self.broker.starting.get_mut(&step.life) else { return };
                starting.retained = retained;
                let (taken, begins) = (std::mem::take(&mut starting.taken), Arc::clone(&starting.begins));
                for shard in 0..self.shards() {
                    self.put(shard, In::Mail(Mail::Slots(ToSlots::RoutesBegin(Arc::clone(&begins)))));
                }
                self.gives_out(taken, &logs);
            }
            Err(code) => {
                self.note(|| format!("retained messages cannot be read: error {code}"));
                self.begins_again(step);
            }
        }
    }

    /// Gives each shard its part of the slots.
    fn gives_out(&mut self, mut taken: Vec<TakenLog>, logs: &[(u16, usize)]) {
        taken.sort_by_key(|log| log.slot);
        let mut of_shards: BTreeMap<usize, Vec<TakenLog>> =
            (0..self.shards()).map(|shard| (shard, Vec::new())).collect();
        for (log, (slot, shard)) in taken.into_iter().zip(logs) {
            if let Some(process) = &self.process {
                process.slots.set(*slot, Place::Here(*shard));
            }
            of_shards.entry(*shard).or_default().push(log);
        }
        for (shard, logs) in of_shards {
            self.put(shard, In::Mail(Mail::Slots(ToSlots::TakeOver(logs))));
        }
    }

    /// The retained messages, or Kafka's error code.
    pub(crate) fn read_retained(&self) -> Result<RetainedMessages, i16> {
        let config = self.settings.config();
        let broker = config.broker.as_ref().expect("the configuration has [broker]");
        let mut retained = RetainedMessages::new(&config, broker);
        let kafka = &self.clusters[0];
        let partitions = kafka.topics.get(RETAINED).map_or(0, |topic| topic.partitions.len());
        for partition in 0..partitions {
            let (bytes, _) = kafka.read_from((RETAINED, partition), 0, usize::MAX)?;
            let mut batches = Batches::new(bytes, 0, Vec::new(), false);
            while let Ok(Some(record)) = batches.take() {
                retained.take(partition as i32, &record);
            }
        }
        Ok(retained)
    }

    /// Gives the shards, which have all started, the retained messages that were read.
    pub(crate) fn give_retained(&mut self) {
        let Some(starting) = self.broker.starting.remove(&self.life) else { return };
        for (shard, of_shard) in starting.retained.into_iter().enumerate() {
            self.put(shard, In::Mail(Mail::Shard(ToShard::TakeRetained(of_shard))));
        }
    }

    // ---- processes beside each other ----

    /// Does something as the process of this life. `None`: the process is not there.
    pub(crate) fn within<R>(&mut self, life: u32, work: impl FnOnce(&mut Self) -> R) -> Option<R> {
        if life == self.life {
            return Some(work(self));
        }
        let other = self.broker.others.remove(&life)?;
        let (mine, my_life) = (self.process.replace(other), std::mem::replace(&mut self.life, life));
        if let Some(mine) = mine {
            self.broker.others.insert(my_life, mine);
        }
        let result = work(self);
        let other = self.process.take();
        self.process = self.broker.others.remove(&my_life);
        self.life = my_life;
        if let Some(other) = other {
            self.broker.others.insert(life, other);
        }
        Some(result)
    }

    /// The next turn among the processes beside the first one: its time, shard and process.
    pub(crate) fn next_of_others(&self) -> Option<(u64, usize, u32)> {
        let running = self.broker.others.iter().filter(|(life, _)| !self.broker.frozen.contains(life));
        running.filter_map(|(life, other)| other.next_at().map(|(at, shard)| (at, shard, *life))).min()
    }

    /// Freezes the process. Clients that notice connect to the next process, which takes over.
    pub(crate) fn freeze_process(&mut self, rng: &mut fastrand::Rng) {
        if self.broker.others.len() > 1 || self.process.as_ref().is_none_or(|process| process.stopping) {
            return;
        }
        let Some(process) = self.process.take() else { return };
        // Its clients leave it while it goes on or stands still, and it writes positions until its successor has the logs.
        self.note_too_large(true, |_| true);
        // The frozen process gives up the number of the current one until the next process starts.
        let life = std::mem::replace(&mut self.life, u32::MAX);
        self.note(|| format!("process {life} stands still"));
        self.broker.others.insert(life, process);
        self.broker.frozen.push(life);
        self.broker.had_others = true;
        let of_it: Vec<u64> =
            self.sockets.iter().filter(|(_, one)| one.life == life).map(|(socket, _)| *socket).collect();
        for socket in of_it {
            // Some clients keep their connection, and are there when the process goes on.
            let client = self.sockets[&socket].client;
            if rng.bool() && self.socket_of(client) == Some(socket) {
                self.client_lost(client);
                self.close_socket(socket, Closed::Error(io::ErrorKind::ConnectionReset.into()));
            }
        }
        let forgets = self.plan.faults.iter().any(|(fault, _)| *fault == Fault::ForgetIdentities);
        if forgets && rng.bool() {
            self.forget_identities();
        }
        let (start, thaw) = (self.time + rng.u64(..2 * S), self.time + rng.u64(..15 * S));
        self.schedule(start, Event::Start);
        self.schedule(thaw, Event::Thaw(life));
    }

    /// Lets a frozen process go on.
    pub(crate) fn thaw(&mut self, life: u32) {
        self.note(|| format!("process {life} goes on"));
        self.broker.frozen.retain(|frozen| *frozen != life);
    }

    /// Lets all frozen processes go on.
    pub(crate) fn thaw_all(&mut self) {
        self.broker.frozen.clear();
    }

    /// Ends a process in which a shard has lost its log.
    pub(crate) fn log_lost(&mut self, shard: usize, why: &str) {
        let life = self.life;
        self.note(|| format!("shard {shard} of process {life} has lost its log: {why}"));
        let mut rng = self.crash_rng.clone();
        if self.broker.is_newest(life) {
            self.crash(End::Kill, &mut rng);
        } else {
            self.other_ends();
        }
        self.crash_rng = rng;
    }

    /// Ends a process that another one has replaced, for good.
    fn other_ends(&mut self) {
        let Some(process) = self.process.take() else { return };
        let life = self.life;
        self.judge.process_ended(&process, End::Kill, life);
        self.note_unwanted(&process);
        self.note_gone();
        self.clients_of_it_are_lost();
        self.links_are_orphans();
    }
}
