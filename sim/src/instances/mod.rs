//! Several instances of one broker: processes with names, each a member of the group that gives out slots. What a process does about its slots is the
//! program's own code (`membership::OwnSlots`, `membership::Leaving`); here is what the program has threads for: logs that are taken over, and the wait for
//! others at a start and at an end. `links` has the connections between them, `ends` how they end and what goes wrong, `judge/instances.rs` what must hold.
//!
//! No process is the one of the world: each is among `broker.others`, and has its turn by its number.

mod ends;
mod links;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use forebay::config::Config;
use forebay::link::Peers;
use forebay::membership::{Do, Leave, Leaving, News, OwnSlots, SlotSet};
use forebay::runtime::seam::Monotonic;
use forebay::shard::instances::ToGroup;
use forebay::shard::mail::{Mail, Notice};
use forebay::shard::router::Slots;
use forebay::shard::session_log::TakenLog;
use forebay::shard::sources::RetainedOfShard;

use crate::broker::{Step, Taking};
use crate::plan::Plan;
use crate::plan::broker::{MESSAGES, ODD};
use crate::plan::instances::{InstancePlan, InstancesPlan, name_of};
use crate::process::In;
use crate::time::{MS, S, stream};
use crate::world::{Client, Event, World};

use self::links::Relay;

/// The port of links.
const PORT: u16 = 1885;
/// How often a process looks at what it waits for.
const LOOKS: u64 = 200 * MS;
/// How long a client waits for CONNACK before it tries again elsewhere.
const PATIENCE: u64 = 5 * S;

/// Something that happens at an instance.
#[derive(Clone, Debug)]
pub enum Happening {
    /// The instance of this index starts.
    Start(usize),
    /// A process looks at what it waits for.
    Look(u32),
    /// A process asks Kafka for what its start needs.
    Prepare(u32),
    /// The next step of a log that is taken over: process, slot, attempt.
    Take(u32, u16, u64),
    /// A connection to another instance is there, or refused.
    Linked(u64),
    /// A client leaves its process, if it has this socket still.
    Leaves(Client, u64),
    /// Bytes or the end of a connection between instances arrive.
    Arrives(u64, links::Way, links::Piece),
    /// A connection between instances goes on that had to wait.
    GoesOn(u64, links::Way),
}

/// What there is of instances.
#[derive(Debug)]
pub(crate) struct Instances {
    pub(crate) plan: Option<InstancesPlan>,
    rng: fastrand::Rng,
    /// When each is to start, by index, if it is.
    starts: Vec<Option<u64>>,
    /// `parts` holds the instances that run or stand still, by process.
    pub(crate) parts: BTreeMap<u32, Part>,
    relays: BTreeMap<u64, Relay>,
    /// Between which instances nothing goes in that direction, and until when.
    cuts: BTreeMap<(usize, usize), u64>,
    /// Processes that have ended: number, index, and when.
    ended: Vec<(u32, usize, u64)>,
    /// Faults have ended.
    pub(crate) is_calm: bool,
    /// Messages that subscribers have acknowledged: by index and session.
    pub(crate) answered: HashSet<(usize, u32, u32)>,
    /// Up to where the records below a commit were looked at, by process, topic and partition.
    pub(crate) below: BTreeMap<(u32, String, i32), i64>,
    /// When processes were killed or lost slots, and from when until when they stood still.
    pub(crate) disturbed: Vec<(u64, u64)>,
    /// When clients that have no CONNACK have connected, by socket.
    pub(crate) connected_at: BTreeMap<u64, u64>,
    /// Since when nothing has happened to an instance, once faults have ended.
    pub(crate) calm_at: u64,
    /// Since when each slot has one owner.
    pub(crate) owned_since: Option<u64>,
    /// All were killed at rest, and nothing else happens.
    pub(crate) all_killed: bool,
}

/// A process, as the thread that has started its shards has it.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) index: usize,
    own: OwnSlots,
    /// When the sessions of each slot were there.
    pub(crate) up_at: BTreeMap<u16, u64>,
    /// Slots of which the log is wanted, and the logs that are being taken over.
    wanted: BTreeSet<u16>,
    taking: BTreeMap<u16, Take>,
    /// What is retained, for each shard.
    retained: Vec<RetainedOfShard>,
    has_started: bool,
    /// Clients are accepted.
    pub(crate) accepts: bool,
    pub(crate) ending: Option<Ending>,
}

/// A log that is taken over.
#[derive(Debug)]
struct Take {
    attempt: u64,
    /// `None`: it is tried again later.
    taking: Option<Taking>,
    wait: u64,
}

/// How far an orderly end has come.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Slots are given away, and the group is left.
    Leaving(Leaving),
    /// Shards read what is open to its end: how many still do, and until when.
    Reading(usize, u64),
    /// Shards drain.
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

/// What a Server Reference of an instance is.
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

/// The other instances, as a process that starts knows them: it welcomes no client before the group has answered.
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
            ended: Vec::new(),
            is_calm: false,
            answered: HashSet::new(),
            below: BTreeMap::new(),
            disturbed: Vec::new(),
            connected_at: BTreeMap::new(),
            calm_at: 0,
            owned_since: None,
            all_killed: false,
        }
    }

    /// Whether another process has had the name of this one since then.
    fn has_rivals(&self, life: u32, since: u64) -> bool {
        let index = self.parts.get(&life).map(|part| part.index);
        let is_there = self.parts.iter().any(|(other, part)| Some(part.index) == index && *other != life);
        is_there || self.ended.iter().any(|(_, of, at)| Some(*of) == index && *at >= since)
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

    /// `session_timeout`
    pub(crate) fn session_timeout(&self) -> u64 {
        self.instances.plan.map_or(0, |plan| plan.session_timeout_s * S)
    }

    /// The first instances start.
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
            // All at once, or one after the other.
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
        // The threads of a process stand still with it.
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

    /// The settings are those of an instance from now on.
    fn configure_as(&mut self, index: usize, plan: InstancesPlan) {
        let InstancesPlan { redirects, session_timeout_s, shards, .. } = plan;
        self.settings.shards = shards[index];
        if let Some(broker) = &mut self.settings.broker {
            broker.instance = Some(InstancePlan { index, redirects, session_timeout_s });
        }
    }

    /// The shards of a process wait for what Kafka has.
    pub(crate) fn prepare_instance(&mut self) {
        let at = self.time + 1 + self.instances.rng.u64(..=8 * self.plan.latency);
        self.schedule(at, Event::Instance(Happening::Prepare(self.life)));
    }

    fn prepares_instance(&mut self) {
        let life = self.life;
        let index = self.instances.parts.get(&life).map(|part| part.index);
        let Some((index, plan)) = index.zip(self.instances.plan) else { return };
        self.configure_as(index, plan);
        let prepared = if self.away[0] { Err(-1) } else { self.read_retained() };
        match prepared {
            Ok(retained) => {
                self.begin_group();
                if let Some(part) = self.instances.parts.get_mut(&life) {
                    part.retained = retained;
                }
                (0..self.shards()).for_each(|shard| self.put(shard, In::Mail(Mail::TakeOver(Vec::new()))));
            }
            Err(code) => {
                self.note(|| format!("process {life} cannot prepare: error {code}"));
                self.schedule(self.time + S, Event::Instance(Happening::Prepare(life)));
            }
        }
    }

    /// The group of an instance without a place begins at the end of each partition, as the program commits it before clients are accepted.
    fn begin_group(&mut self) {
        let Some(broker) = self.settings.config().broker else { return };
        let group = broker.group();
        let kafka = &mut self.clusters[0];
        let ends: Vec<(String, Vec<i64>)> = [MESSAGES, ODD]
            .into_iter()
            .filter_map(|topic| {
                let partitions = &kafka.topics.get(topic)?.partitions;
                Some((topic.to_owned(), partitions.iter().map(|partition| partition.high).collect()))
            })
            .collect();
        let Some(group) = kafka.group_mut(&group, &[]) else { return };
        for (topic, ends) in ends {
            if group.offsets.keys().any(|(of, _)| *of == topic) {
                continue;
            }
            for (partition, end) in (0..).zip(ends) {
                group.offsets.insert((topic.clone(), partition), (end, -1));
            }
        }
    }

    /// All shards of a process have started.
    pub(crate) fn instance_started(&mut self) {
        let Some(part) = self.instances.parts.get_mut(&self.life) else { return };
        part.has_started = true;
        for (shard, of_shard) in std::mem::take(&mut part.retained).into_iter().enumerate() {
            self.put(shard, In::Mail(Mail::TakeRetained(of_shard)));
        }
        self.look_at_part();
    }

    // ---- slots ----

    /// News of the group, or what has become of a slot.
    pub(crate) fn hear_of_slots(&mut self, notice: Notice) {
        let (life, time, now) = (self.life, self.time, self.clocks().1);
        if matches!(notice, Notice::SlotLost(_) | Notice::Group(News::Lost(_))) {
            self.instances.disturbed.push((time, time));
        }
        let Some(part) = self.instances.parts.get_mut(&life) else { return };
        let todo = match &notice {
            Notice::Group(News::Fenced) => return self.is_fenced(),
            Notice::Group(news) => part.own.hear(news, now),
            Notice::SlotTaken(slot) => {
                part.own.up(*slot);
                part.up_at.insert(*slot, time);
                Vec::new()
            }
            Notice::SlotReleased(slot) | Notice::SlotLost(slot) => part.own.gone(*slot).into_iter().collect(),
            _ => Vec::new(),
        };
        if let Some(Ending::Leaving(leaving)) = &mut part.ending {
            leaving.heard(now);
        }
        self.note(|| format!("process {life} hears {notice:?}: {todo:?}"));
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
            Do::Give(_, shard) => (shard, Mail::TakeOver(log.into_iter().collect())),
            Do::Release(slot, shard) => (shard, Mail::ReleaseSlot(slot)),
            Do::Drop(slot, shard) => (shard, Mail::DropSlots(SlotSet::from_iter([slot]))),
            Do::Released(slot) => (0, Mail::ToGroup(ToGroup::Released(SlotSet::from_iter([slot])))),
        };
        self.put(shard, In::Mail(letter));
    }

    // ---- logs ----

    /// An attempt to take a log over begins; after a failure the next one comes after this wait.
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

    /// A log was taken over, or is not wanted any more.
    fn took(&mut self, slot: u16, log: Option<TakenLog>) {
        let Some(part) = self.instances.parts.get_mut(&self.life) else { return };
        part.taking.remove(&slot);
        part.wanted.remove(&slot);
        if let Some(todo) = part.own.taken(slot, log.is_some()) {
            self.carry_out(todo, log);
        }
        self.look_at_part();
    }

    /// Kafka has forgotten its transactional ids: takeovers of logs that are under way begin again.
    pub(crate) fn instances_take_again(&mut self) {
        for take in self.instances.parts.values_mut().flat_map(|part| part.taking.values_mut()) {
            take.taking = None;
        }
    }

    // ---- while it runs ----

    /// A process looks at what it waits for.
    fn look_at_part(&mut self) {
        let (life, now) = (self.life, self.clocks().1);
        let Some(part) = self.instances.parts.get_mut(&life) else { return };
        if part.has_started && !part.accepts && part.own.is_ready(now) {
            part.accepts = true;
            self.note(|| format!("process {life} accepts clients"));
            (0..self.shards()).for_each(|shard| self.put(shard, In::Mail(Mail::Accept)));
        }
        self.goes_on_ending();
    }

    /// A shard reads nothing any more.
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
                    Leave::Leave => self.put(0, In::Mail(Mail::ToGroup(ToGroup::Leave))),
                    Leave::Over => self.reads_to_the_end(),
                },
                Some(Ending::Reading(waiting, until)) if *waiting == 0 || time >= *until => {
                    part.ending = Some(Ending::Draining);
                    let grace = self.grace();
                    self.note(|| format!("process {life} drains"));
                    (0..self.shards()).for_each(|shard| self.put(shard, In::Mail(Mail::Drain { grace })));
                    return;
                }
                _ => return,
            }
        }
    }

    // ---- clients ----

    /// A client connects to some instance, or to the one that it was told to.
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

    /// Clients that have waited for CONNACK for too long try another instance.
    pub(crate) fn clients_give_up(&mut self) {
        let all: Vec<(u64, u64)> = self.instances.connected_at.iter().map(|(socket, at)| (*socket, *at)).collect();
        for (socket, at) in all {
            let client = self.sockets.get(&socket).map(|entry| entry.client);
            let waits = client.filter(|client| self.socket_of(*client) == Some(socket) && !self.is_greeted(*client));
            let Some(client) = waits else {
                self.instances.connected_at.remove(&socket);
                continue;
            };
            // A slow client counts from when all of its CONNECT is on its way.
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
