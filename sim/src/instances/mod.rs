//! Several instances of one broker: processes with names, each a member of the group that gives out slots. A process's decisions about its slots are the
//! program's own code (`membership::OwnSlots`, `membership::Leaving`). This module does the work of the program's threads: taking logs over, and waiting
//! for others at a start and at an end. `prepare` has the requests of a start, `links` the connections between instances, `ends` their ends and faults, `judge/instances.rs` the checks.
//!
//! No process is the one of the world: each is among `broker.others`, and has its turns by its number.

mod ends;
mod links;
mod prepare;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use forebay::broker::mail::RetainedOfShard;
use forebay::broker::router::Slots;
use forebay::config::Config;
use forebay::link::Peers;
use forebay::membership::{Do, Leave, Leaving, News, OwnSlots, SlotSet};
use forebay::runtime::seam::Monotonic;
use forebay::shard::mail::{Mail, Notice, TakenLog, ToGroup, ToShard, ToSlots};

use crate::broker::{Step, Taking};
use crate::kafka::coordinator::Commit;
use crate::plan::Plan;
use crate::plan::broker::{MESSAGES, ODD};
use crate::plan::instances::{InstancePlan, InstancesPlan, name_of};
use crate::process::In;
use crate::time::{MS, S, stream};
use crate::world::{Client, Event, World};

use self::links::Relay;

/// The port of links.
const PORT: u16 = 1885;
/// Interval at which a process checks the conditions that it waits for.
const LOOKS: u64 = 200 * MS;
/// Time that a client waits for CONNACK before it tries another instance.
const PATIENCE: u64 = 5 * S;
/// The time after which a slot is given up without what Kafka has not taken of its log.
const WRITTEN_WITHIN: u64 = 10 * S;

/// An event of an instance.
#[derive(Clone, Debug)]
pub enum Happening {
    /// The instance of this index starts.
    Start(usize),
    /// A process checks the conditions that it waits for.
    Look(u32),
    /// A starting process makes its requests to Kafka.
    Prepare(u32),
    /// A log that is taken over has its next step: process, slot, attempt.
    Take(u32, u16, u64),
    /// A connection to another instance is established, or refused.
    Linked(u64),
    /// A client leaves its process, if it still has this socket.
    Leaves(Client, u64),
    /// Bytes or an end arrive on a connection between instances.
    Arrives(u64, links::Way, links::Piece),
    /// A connection between instances continues after a wait.
    GoesOn(u64, links::Way),
}

/// The state of all instances.
#[derive(Debug)]
pub(crate) struct Instances {
    pub(crate) plan: Option<InstancesPlan>,
    rng: fastrand::Rng,
    /// Time of each instance's next start, by index, if one is scheduled.
    starts: Vec<Option<u64>>,
    /// Instances that run or are frozen, by process.
    pub(crate) parts: BTreeMap<u32, Part>,
    relays: BTreeMap<u64, Relay>,
    /// Directions between two instances that carry nothing, each with its end.
    cuts: BTreeMap<(usize, usize), u64>,
    /// The offset at which the group of each instance, by index, began in each partition: what was retained below it, and has no copy, is copied by the
    /// other instances when they are back.
    began: BTreeMap<(usize, String, i32), i64>,
    /// The last time when the connections from one instance to another broke.
    pub(crate) broken: BTreeMap<(usize, usize), u64>,
    /// Processes that have ended: number, index, and time.
    ended: Vec<(u32, usize, u64)>,
    /// Whether faults have ended.
    pub(crate) is_calm: bool,
    /// Messages that subscribers have acknowledged: index, session and message.
    pub(crate) answered: HashSet<(usize, u32, u32)>,
    /// Offsets up to which the records below a commit were checked, by process, topic and partition.
    pub(crate) below: BTreeMap<(u32, String, i32), i64>,
    /// Times at which processes were killed or lost slots, and intervals in which they were frozen, with the process.
    pub(crate) disturbed: Vec<(u32, u64, u64)>,
    /// Slots that processes have taken over, and when they said so.
    pub(crate) taken: Vec<(u16, u64)>,
    /// Times at which a process gave a slot away, or ended, while nothing went from it to another instance: a front that waits for its answer gives the
    /// CONNECT to the next owner, too.
    pub(crate) unheard: Vec<u64>,
    /// Connection times of clients that have no CONNACK, by socket.
    pub(crate) connected_at: BTreeMap<u64, u64>,
    /// Time since which nothing has happened to an instance, once faults have ended.
    pub(crate) calm_at: u64,
    /// Time since which each slot has exactly one owner.
    pub(crate) owned_since: Option<u64>,
    /// Whether all instances were killed at rest, and nothing else happens.
    pub(crate) all_killed: bool,
}

/// A process from the view of the thread that has started its shards.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) index: usize,
    own: OwnSlots,
    /// Times at which the sessions of each slot became available.
    pub(crate) up_at: BTreeMap<u16, u64>,
    /// Times at which each slot was to be given up.
    released_at: BTreeMap<u16, u64>,
    /// Slots with a wanted log. The next field: logs that are being taken over.
    wanted: BTreeSet<u16>,
    taking: BTreeMap<u16, Take>,
    /// Retained messages of each shard.
    retained: Vec<RetainedOfShard>,
    has_started: bool,
    /// Whether clients are accepted.
    pub(crate) accepts: bool,
    pub(crate) ending: Option<Ending>,
}

/// A log that is being taken over.
#[derive(Debug)]
struct Take {
    attempt: u64,
    /// `None`: the takeover is tried again later.
    taking: Option<Taking>,
    wait: u64,
}

/// The stage of an orderly end.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The process gives its slots away, and leaves the group.
    Leaving(Leaving),
    /// Shards complete the records that are open: number of shards that still do, and the deadline.
    Reading(usize, u64),
    /// The shards drain.
    Draining,
}

/// The address of an instance's link.
pub(crate) fn address(index: usize) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, index as u8 + 1)), PORT)
}

/// The instance at this address.
pub(crate) fn at(to: SocketAddr) -> Option<usize> {
    (0..crate::plan::instances::MOST).find(|index| address(*index) == to)
}

/// The Server Reference of an instance.
pub(crate) fn server(index: usize) -> String {
    format!("{}.example:1883", name_of(index))
}

/// The instance that these bytes name by its Server Reference.
pub(crate) fn named_in(bytes: &[u8]) -> Option<usize> {
    (0..crate::plan::instances::MOST).find(|index| {
        let server = server(*index);
        bytes.windows(server.len()).any(|part| part == server.as_bytes())
    })
}

/// The other instances, as known to a starting process: it welcomes no client before the group has answered.
pub(crate) fn peers(config: &Config, slots: &Slots) -> Arc<Peers> {
    let Some(broker) = config.broker.as_ref().filter(|broker| broker.link.is_some()) else { return Arc::default() };
    let peers = Peers::new(&broker.name, broker.redirects);
    peers.speak_until(Monotonic(0));
    slots.set_given_out();
    Arc::new(peers)
}

impl Instances {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            plan: plan.instances,
            rng: stream(plan.seed, "instances draws"),
            starts: vec![None; plan.instances.map_or(0, |plan| plan.most)],
            parts: BTreeMap::new(),
            relays: BTreeMap::new(),
            cuts: BTreeMap::new(),
            began: BTreeMap::new(),
            broken: BTreeMap::new(),
            ended: Vec::new(),
            is_calm: false,
            answered: HashSet::new(),
            below: BTreeMap::new(),
            disturbed: Vec::new(),
            taken: Vec::new(),
            unheard: Vec::new(),
            connected_at: BTreeMap::new(),
            calm_at: 0,
            owned_since: None,
            all_killed: false,
        }
    }

    /// Whether another process has had this one's name since then.
    fn has_rivals(&self, life: u32, since: u64) -> bool {
        let index = self.parts.get(&life).map(|part| part.index);
        let is_there = self.parts.iter().any(|(other, part)| Some(part.index) == index && *other != life);
        is_there || self.ended.iter().any(|(_, of, at)| Some(*of) == index && *at >= since)
    }

    /// The offset at which the group of the process of this commit began in its partition.
    pub(crate) fn began_at(&self, commit: &Commit) -> i64 {
        let index = self.parts.get(&commit.life).map(|part| part.index);
        let at = index.and_then(|index| self.began.get(&(index, commit.topic.clone(), commit.partition)));
        at.copied().unwrap_or(0)
    }

    /// Notes that the owner of slots goes: an instance of this index.
    fn note_unheard(&mut self, index: usize, time: u64) {
        if self.cuts.iter().any(|((from, _), until)| *from == index && *until > time) {
            self.unheard.push(time);
        }
    }

    /// The newest process of an instance.
    fn newest(&self, index: usize) -> Option<u32> {
        self.parts.iter().rev().find(|(_, part)| part.index == index).map(|(life, _)| *life)
    }
}

impl World {
    pub(crate) fn has_instances(&self) -> bool {
        self.instances.plan.is_some()
    }

    /// `session_timeout`, in nanoseconds.
    pub(crate) fn session_timeout(&self) -> u64 {
        self.instances.plan.map_or(0, |plan| plan.session_timeout_s * S)
    }

    /// Starts the first instances.
    pub(crate) fn instances_begin(&mut self) {
        let (Some(plan), Some(reading)) = (self.instances.plan, self.plan.reading) else { return };
        let has_route = self.settings.broker.is_some_and(|broker| broker.has_route);
        for topic in [MESSAGES, ODD].into_iter().take(1 + usize::from(has_route)) {
            self.clusters[0].create(topic, reading.partitions, 0);
        }
        self.broker.had_others = true;
        self.life = 0;
        for device in self.devices.iter_mut().filter(|device| device.is_v5() && device.is_kept()) {
            device.will_delay_s = [0, 0, 2, 20][self.instances.rng.usize(..4)];
        }
        for index in 0..plan.first {
            // The instances start all at once, or one after the other.
            let late = self.instances.rng.u64(..[MS, 2 * S][usize::from(self.plan.seed.is_multiple_of(2))]);
            self.start_later(index, late);
        }
    }

    fn start_later(&mut self, index: usize, wait: u64) {
        let at = self.time + wait;
        self.instances.starts[index] = Some(at);
        self.instances.calm_at = self.instances.calm_at.max(at);
        self.schedule(at, Event::Instance(Happening::Start(index)));
    }

    pub(crate) fn happens_at_instance(&mut self, happening: Happening) {
        // The threads of a frozen process are frozen as well.
        let of = match &happening {
            Happening::Look(life) | Happening::Prepare(life) | Happening::Take(life, ..) => Some(*life),
            _ => None,
        };
        if of.is_some_and(|life| self.broker.frozen.contains(&life)) {
            return self.schedule(self.time + 50 * MS, Event::Instance(happening));
        }
        match happening {
            Happening::Start(index) => self.start_instance(index),
            Happening::Look(life) => {
                if self.within(life, Self::look_at_part).is_some() {
                    self.schedule(self.time + LOOKS, Event::Instance(Happening::Look(life)));
                }
            }
            Happening::Prepare(life) => _ = self.within(life, Self::prepares_instance),
            Happening::Take(life, slot, attempt) => _ = self.within(life, |world| world.takes(slot, attempt)),
            Happening::Linked(relay) => self.linked(relay),
            Happening::Leaves(client, socket) if self.socket_of(client) == Some(socket) => {
                self.client_leaves(client, socket)
            }
            Happening::Leaves(..) => {}
            Happening::Arrives(relay, way, piece) => self.piece_arrives(relay, way, piece),
            Happening::GoesOn(relay, way) => self.relay_goes_on(relay, way),
        }
    }

    // ---- a start ----

    fn start_instance(&mut self, index: usize) {
        if self.instances.starts[index].is_none_or(|at| at > self.time) {
            return;
        }
        self.instances.starts[index] = None;
        let is_there = |(life, part): (&u32, &Part)| part.index == index && !self.broker.frozen.contains(life);
        let Some(plan) = self.instances.plan.filter(|_| !self.instances.parts.iter().any(is_there)) else { return };
        self.configure_as(index, plan);
        let life = self.broker.last_life() + 1;
        let part = Part {
            index,
            own: OwnSlots::new(plan.shards[index]),
            up_at: BTreeMap::new(),
            released_at: BTreeMap::new(),
            wanted: BTreeSet::new(),
            taking: BTreeMap::new(),
            retained: Vec::new(),
            has_started: false,
            accepts: false,
            ending: None,
        };
        self.note(|| format!("instance {} starts as process {life}", name_of(index)));
        self.instances.parts.insert(life, part);
        self.life = u32::MAX;
        self.start();
        debug_assert_eq!(self.life, life);
        if let Some(process) = self.process.take() {
            self.broker.others.insert(life, process);
        }
        self.life = 0;
        self.schedule(self.time + LOOKS, Event::Instance(Happening::Look(life)));
    }

    /// Configures the next process as this instance.
    fn configure_as(&mut self, index: usize, plan: InstancesPlan) {
        let InstancesPlan { redirects, session_timeout_s, shards, .. } = plan;
        self.settings.shards = shards[index];
        if let Some(broker) = &mut self.settings.broker {
            broker.instance = Some(InstancePlan { index, redirects, session_timeout_s });
        }
    }

    // ---- slots ----

    /// Handles news of the group, or of a slot.
    pub(crate) fn hear_of_slots(&mut self, notice: Notice) {
        let (life, time, now) = (self.life, self.time, self.clocks().1);
        let Some(part) = self.instances.parts.get_mut(&life) else { return };
        let is_unwritten = |slot| part.released_at.get(slot).is_some_and(|at| time >= at + WRITTEN_WITHIN);
        let is_disturbed = match &notice {
            Notice::SlotLost(_) | Notice::Group(News::Lost(_)) => true,
            Notice::SlotReleased(slot) => is_unwritten(slot),
            _ => false,
        };
        let index = part.index;
        if matches!(notice, Notice::SlotReleased(_)) {
            self.instances.note_unheard(index, time);
        }
        if is_disturbed {
            self.instances.disturbed.push((life, time, time));
        }
        let Some(part) = self.instances.parts.get_mut(&life) else { return };
        let todo = match &notice {
            Notice::Group(News::Fenced) => return self.is_fenced(),
            Notice::Group(news) => part.own.hear(news, now),
            Notice::SlotTaken(slot) => {
                part.own.up(*slot);
                part.up_at.insert(*slot, time);
                self.instances.taken.push((*slot, time));
                Vec::new()
            }
            Notice::SlotReleased(slot) | Notice::SlotLost(slot) => part.own.gone(*slot).into_iter().collect(),
            _ => Vec::new(),
        };
        self.note(|| format!("process {life} hears {notice:?}: {todo:?}"));
        let is_gone = |slot: u16| match &notice {
            Notice::SlotReleased(gone) | Notice::SlotLost(gone) => *gone == slot,
            Notice::Group(News::Lost(gone)) => gone.contains(slot),
            _ => false,
        };
        if let Some(slots) = self.process.as_ref().map(|process| Arc::clone(&process.slots)) {
            // The connections of their clients are closed.
            self.note_too_large(true, |name| slots.slot(name).is_some_and(is_gone));
        }
        for one in todo {
            self.carry_out(one, None);
        }
        self.look_at_part();
    }

    fn carry_out(&mut self, todo: Do, log: Option<TakenLog>) {
        let Some(part) = self.instances.parts.get_mut(&self.life) else { return };
        let (shard, letter) = match todo {
            Do::TakeOver(slot) => {
                part.wanted.insert(slot);
                return self.begin_take(slot, 100 * MS);
            }
            Do::WantNoMore(slot) => {
                part.wanted.remove(&slot);
                return;
            }
            Do::Give(_, shard) => (shard, Mail::Slots(ToSlots::TakeOver(log.into_iter().collect()))),
            Do::Release(slot, shard) => {
                part.released_at.insert(slot, self.time);
                (shard, Mail::Slots(ToSlots::Release(slot)))
            }
            Do::Drop(slot, shard) => (shard, Mail::Slots(ToSlots::Drop(SlotSet::from_iter([slot])))),
            Do::Released(slot) => (0, Mail::Group(ToGroup::Released(SlotSet::from_iter([slot])))),
        };
        self.put(shard, In::Mail(letter));
    }

    // ---- logs ----

    /// Begins an attempt to take a log over. After a failure the next one follows after this wait.
    fn begin_take(&mut self, slot: u16, wait: u64) {
        let name = self.instances.parts.get(&self.life).map(|part| name_of(part.index)).unwrap_or_default();
        let taking = self.begin_taking(slot, &name);
        let Some(part) = self.instances.parts.get_mut(&self.life) else { return };
        let attempt = part.taking.get(&slot).map_or(0, |take| take.attempt) + 1;
        part.taking.insert(slot, Take { attempt, taking: Some(taking), wait });
        self.next_take(slot, attempt);
    }

    fn next_take(&mut self, slot: u16, attempt: u64) {
        let at = self.time + 1 + self.instances.rng.u64(..=2 * self.plan.latency);
        self.schedule(at, Event::Instance(Happening::Take(self.life, slot, attempt)));
    }

    fn takes(&mut self, slot: u16, attempt: u64) {
        let life = self.life;
        let Some(part) = self.instances.parts.get_mut(&life) else { return };
        let Some(take) = part.taking.get_mut(&slot).filter(|take| take.attempt == attempt) else { return };
        let wait = take.wait;
        let Some(mut taking) = take.taking.take() else {
            if part.wanted.contains(&slot) {
                return self.begin_take(slot, (wait * 2).min(2 * S));
            }
            return self.took(slot, None);
        };
        let step = Step { life, attempt: 0, log: slot.into() };
        let result = if self.away[0] { Err("Kafka is away".to_owned()) } else { self.takes_over(step, &mut taking) };
        match result {
            Ok(false) => {
                let part = self.instances.parts.get_mut(&life);
                if let Some(take) = part.and_then(|part| part.taking.get_mut(&slot)) {
                    take.taking = Some(taking);
                }
                self.next_take(slot, attempt);
            }
            Ok(true) => {
                let log = self.taken_log(slot.into(), taking);
                self.took(slot, log);
            }
            Err(why) => {
                self.note(|| format!("process {life} does not take log {slot} over: {why}"));
                self.schedule(self.time + wait, Event::Instance(Happening::Take(life, slot, attempt)));
            }
        }
    }

    /// Ends a takeover: the log was taken over, or is no longer wanted.
    fn took(&mut self, slot: u16, log: Option<TakenLog>) {
        let Some(part) = self.instances.parts.get_mut(&self.life) else { return };
        part.taking.remove(&slot);
        part.wanted.remove(&slot);
        if let Some(todo) = part.own.taken(slot, log.is_some()) {
            self.carry_out(todo, log);
        }
        self.look_at_part();
    }

    /// Restarts takeovers of logs after Kafka has forgotten transactional ids.
    pub(crate) fn instances_take_again(&mut self) {
        for take in self.instances.parts.values_mut().flat_map(|part| part.taking.values_mut()) {
            take.taking = None;
        }
    }

    // ---- while it runs ----

    /// Checks the conditions that a process waits for.
    fn look_at_part(&mut self) {
        let (life, now) = (self.life, self.clocks().1);
        let Some(part) = self.instances.parts.get_mut(&life) else { return };
        if part.has_started && !part.accepts && part.own.is_ready(now) {
            part.accepts = true;
            self.note(|| format!("process {life} accepts clients"));
            (0..self.shards()).for_each(|shard| self.put(shard, In::Mail(Mail::Shard(ToShard::Accept))));
        }
        self.goes_on_ending();
    }

    /// Notes that a shard reads nothing any more.
    pub(crate) fn instance_reads_no_more(&mut self) {
        let part = self.instances.parts.get_mut(&self.life);
        if let Some(Ending::Reading(waiting, _)) = part.and_then(|part| part.ending.as_mut()) {
            *waiting = waiting.saturating_sub(1);
        }
        self.goes_on_ending();
    }

    fn goes_on_ending(&mut self) {
        let (life, now, time) = (self.life, self.clocks().1, self.time);
        loop {
            let Some(part) = self.instances.parts.get_mut(&life) else { return };
            match &mut part.ending {
                Some(Ending::Leaving(leaving)) => match leaving.step(&part.own, now) {
                    Leave::Wait(_) => return,
                    Leave::Leave => self.put(0, In::Mail(Mail::Group(ToGroup::Leave))),
                    Leave::Over => self.reads_to_the_end(),
                },
                Some(Ending::Reading(waiting, until)) if *waiting == 0 || time >= *until => {
                    part.ending = Some(Ending::Draining);
                    let grace = self.grace();
                    self.note(|| format!("process {life} drains, within {grace:?}"));
                    (0..self.shards())
                        .for_each(|shard| self.put(shard, In::Mail(Mail::Shard(ToShard::Drain { grace }))));
                    return;
                }
                _ => return,
            }
        }
    }

    // ---- clients ----

    /// Connects a client to some instance, or to the one that a Server Reference has named.
    pub(crate) fn reach_an_instance(&mut self, client: Client) -> Option<(u64, u16)> {
        let told = match client {
            Client::Device(index) => self.devices[index].sent_to.take(),
            Client::Subscriber(index) => self.subscribers[index].sent_to.take(),
            Client::Relay(_) => None,
        };
        let there: Vec<u32> =
            (0..self.instances.starts.len()).filter_map(|index| self.instances.newest(index)).collect();
        if there.is_empty() {
            return None;
        }
        let any = there[self.instances.rng.usize(..there.len())];
        let life = told.and_then(|index| self.instances.newest(index)).unwrap_or(any);
        let process = self.broker.others.get(&life)?;
        let shard = self.instances.rng.usize(..process.hosts.len());
        if process.hosts[shard].ring.deaf {
            return None;
        }
        let has_layer = self.draws_layer();
        let (socket, listener) = self.connects(client, (life, shard), has_layer);
        self.instances.connected_at.insert(socket, self.time);
        self.note(|| format!("socket {socket} is at process {life}"));
        Some((socket, listener))
    }

    pub(crate) fn is_greeted(&self, client: Client) -> bool {
        match client {
            Client::Device(index) => self.devices[index].is_greeted(),
            Client::Subscriber(index) => self.subscribers[index].is_greeted(),
            Client::Relay(_) => true,
        }
    }

    fn has_to_send(&self, client: Client) -> bool {
        match client {
            Client::Device(index) => !self.devices[index].connection.has_sent(),
            Client::Subscriber(index) => !self.subscribers[index].connection.has_sent(),
            Client::Relay(_) => false,
        }
    }

    /// Lets clients that have waited too long for CONNACK try another instance.
    pub(crate) fn clients_give_up(&mut self) {
        let all: Vec<(u64, u64)> = self.instances.connected_at.iter().map(|(socket, at)| (*socket, *at)).collect();
        for (socket, at) in all {
            let client = self.sockets.get(&socket).map(|entry| entry.client);
            let waits = client.filter(|client| self.socket_of(*client) == Some(socket) && !self.is_greeted(*client));
            let Some(client) = waits else {
                self.instances.connected_at.remove(&socket);
                continue;
            };
            // The wait of a slow client begins when all of its CONNECT is on its way.
            if self.has_to_send(client) {
                self.send_bytes(client);
                self.instances.connected_at.insert(socket, self.time);
                continue;
            }
            if self.time > at + PATIENCE {
                self.instances.connected_at.remove(&socket);
                let name = self.name_of(client);
                self.note(|| format!("{name} gives up waiting for CONNACK"));
                self.client_leaves(client, socket);
            }
        }
    }
}
