//! One run: a machine with its process, the devices before it, the clusters after it, and one queue of events.

use std::collections::{BTreeMap, BTreeSet};

use forebay::rules::Rules;
use forebay::shard::mail::{Mail, ToDeadLetters};

use crate::broker::Step;
use crate::device::{Device, Message};
use crate::disk::Disk;
use crate::faults::{Cure, Fault};
use crate::instances::{Happening, Instances};
use crate::judge::Judge;
use crate::judge::shares::Share;
use crate::kafka::Cluster;
use crate::link::Link;
use crate::plan::{NO_SINK, Plan, Settings};
use crate::process::{In, Process};
use crate::subscriber::Subscriber;
use crate::time::{MS, S, stream};

/// An event at some time.
#[derive(Debug)]
pub enum Event {
    /// A device acts.
    Device(usize),
    /// A subscriber acts.
    Subscriber(usize),
    /// A fault of this kind comes.
    Fault(Fault),
    /// A lasting fault ends.
    Cure(Cure),
    /// A connection to a broker is established, or refused.
    Dialled(u64, bool),
    /// Bytes arrive at a broker.
    ToBroker(u64, Vec<u8>),
    /// A broker looks at a connection's next request, or at the one that waits.
    Serve(u64),
    /// Bytes arrive at the shard.
    ToShard(u64, Vec<u8>),
    /// The shard hears that a connection has ended.
    CutAtShard(u64),
    /// Bytes arrive at a device or a subscriber.
    ToDevice(u64, Vec<u8>),
    /// A letter is in its file: process, shard, sink, message.
    Filed(u32, usize, usize, Option<u32>),
    /// Mail arrives: process, shard.
    Mail(u32, usize),
    /// The process starts.
    Start,
    /// The judge checks what should have happened by now.
    Look,
    /// Reads of a shard's disk fail for a while.
    ReadsFail,
    /// A byte of a segment rots.
    Rot,
    /// Files of dead letters take nothing for a while.
    FilesHang,
    /// Another program writes records.
    Write,
    /// Sources had their time to end: this process drains.
    Drain(u32),
    /// A step of a starting process with `[broker]`.
    Prepare(Step),
    /// A batch of a starting process that has continued without the answer, or was killed, arrives: log, bytes,
    /// process.
    LateWrite(usize, Vec<u8>, u32),
    /// A frozen process goes on.
    Thaw(u32),
    /// An event of an instance, or between two.
    Instance(Happening),
}

/// The owner of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A device, by index.
    Device(usize),
    /// A subscriber, by index.
    Subscriber(usize),
    /// Another instance, which relays a client over this connection.
    Relay(u64),
}

/// A client's connection.
#[derive(Debug)]
pub struct Socket {
    /// The connection's client.
    pub client: Client,
    /// The shard that serves the connection.
    pub shard: usize,
    /// The process of that shard.
    pub life: u32,
    /// Time before which nothing arrives at the client.
    pub clear_at: u64,
    /// Whether the connection has a layer.
    pub has_layer: bool,
}

/// The world of one run.
#[derive(Debug)]
pub struct World {
    /// The plan of the run.
    pub plan: Plan,
    /// Configuration of the process, from its next start on.
    pub settings: Settings,
    /// Nanoseconds since the run began.
    pub time: u64,
    /// Number of the process, counted from 1.
    pub life: u32,
    /// Time at which the machine had run for [`crate::time::UPTIME`], as its monotonic clock shows to processes that start now.
    pub boot: u64,
    /// How far ahead the machine's wall clock is.
    pub clock_ahead_ms: i64,
    /// Whether the clock was set back by more than an hour between two processes.
    pub clock_fell_back: bool,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    pub(crate) process: Option<Process>,
    /// The disks, while no process owns them.
    pub(crate) disks: Vec<Disk>,
    /// The clusters of Kafka.
    pub clusters: Vec<Cluster>,
    /// Whether each cluster is unreachable.
    pub away: Vec<bool>,
    pub(crate) links: BTreeMap<u64, Link>,
    pub(crate) next_link: u64,
    /// The devices.
    pub devices: Vec<Device>,
    /// Clients that subscribe.
    pub subscribers: Vec<Subscriber>,
    /// The shared subscriptions, with the copies that they have got.
    pub shares: Vec<Share>,
    /// Every message, by number.
    pub messages: Vec<Message>,
    pub(crate) sockets: BTreeMap<u64, Socket>,
    pub(crate) next_socket: u64,
    /// The judge of the run.
    pub judge: Judge,
    trace: Option<Vec<String>>,
    /// Whether faults have ended.
    pub storm_over: bool,
    /// Time since which the disks work; the end of time while they do not.
    pub disks_sick_until: u64,
    /// Topics that have refused records for a while: cluster, name.
    pub refused: BTreeSet<(usize, String)>,
    /// Number of further turns before the process is killed.
    pub kill_after_turns: Option<u32>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) network: fastrand::Rng,
    pub(crate) crash_rng: fastrand::Rng,
    pub(crate) layer_rng: fastrand::Rng,
    pub(crate) mail_rng: fastrand::Rng,
    /// Number of devices that have left this process before their CONNACK.
    pub(crate) left_at_door: u64,
    /// Number of times that a connection could not be moved at once because a mailbox was full.
    pub(crate) moves_put_off: u64,
    /// Number of connections with a layer that moved to another shard, and of those with bytes that had not gone out.
    pub(crate) layers_moved: [u64; 2],
    pub(crate) fault_rngs: Vec<fastrand::Rng>,
    /// Whether devices act only on request: for scenarios.
    pub quiet: bool,
    /// Configurations of the processes, from the first on.
    pub lives: Vec<Settings>,
    /// Whether bytes on a disk were damaged, so that rows may be unreadable.
    pub damaged: bool,
    /// The rules that the process keeps.
    pub rules: &'static dyn Rules,
    pub(crate) damage: crate::damage::Damage,
    pub(crate) data_dir: Option<crate::shards::DataDir>,
    pub(crate) sources: crate::sources::Sources,
    pub(crate) broker: crate::broker::Broker,
    pub(crate) instances: Instances,
}

impl World {
    /// A run that has not begun.
    #[must_use]
    pub fn new(plan: Plan, traced: bool) -> Self {
        let seed = plan.seed;
        let clusters = plan.settings.clusters.iter().enumerate().map(|(index, host)| {
            let rng = stream(seed, &format!("kafka {index}"));
            let mut cluster = Cluster::new(host, &format!("cluster-{index}"), plan.brokers, rng);
            (cluster.by_id, cluster.modern, cluster.partitions) = (plan.by_id, plan.modern, plan.partitions);
            cluster.min_in_sync = plan.min_in_sync.min(plan.brokers);
            cluster.unreadable = plan.hostile.unreadable == Some(index);
            cluster.notes_arrivals = plan.instances.is_some();
            cluster
        });
        let devices = (0..plan.devices).map(|index| {
            let rng = stream(seed, &format!("device {index}"));
            let mut device = Device::new(index, plan.messages, plan.payload_max, rng);
            device.may_poison = plan.poison;
            if plan.subscribers > 0 {
                (device.levels, device.retains) = (&["even", "odd", NO_SINK], plan.retains);
                device.expiry_rng = plan.expires.then(|| stream(seed, &format!("expiry of device {index}")));
            }
            device
        });
        let sinks = plan.settings.sinks.len();
        let mut world = Self {
            settings: plan.settings.clone(),
            time: 0,
            life: 0,
            boot: 0,
            clock_ahead_ms: plan.clock_ahead_ms,
            clock_fell_back: false,
            events: BTreeMap::new(),
            next_event: 0,
            process: None,
            disks: Vec::new(),
            clusters: clusters.collect(),
            away: vec![false; plan.settings.clusters.len()],
            links: BTreeMap::new(),
            next_link: 0,
            devices: devices.collect(),
            subscribers: Vec::new(),
            shares: Vec::new(),
            messages: Vec::new(),
            sockets: BTreeMap::new(),
            next_socket: 0,
            judge: Judge::new(sinks),
            trace: traced.then(Vec::new),
            storm_over: false,
            disks_sick_until: 0,
            refused: BTreeSet::new(),
            kill_after_turns: None,
            rng: stream(seed, "world"),
            network: stream(seed, "network"),
            crash_rng: stream(seed, "crash"),
            layer_rng: stream(seed, "layer draws"),
            mail_rng: stream(seed, "mail draws"),
            left_at_door: 0,
            moves_put_off: 0,
            layers_moved: [0; 2],
            fault_rngs: Fault::ALL.iter().map(|fault| stream(seed, &format!("{} draws", fault.name()))).collect(),
            quiet: false,
            lives: Vec::new(),
            damaged: false,
            damage: crate::damage::Damage::new(seed),
            data_dir: None,
            sources: crate::sources::Sources::new(seed),
            broker: crate::broker::Broker::new(seed),
            instances: Instances::new(&plan),
            rules: &forebay::rules::KEPT,
            plan,
        };
        world.schedule(0, Event::Start);
        world.schedule(0, Event::Look);
        world
    }

    /// Adds a line to the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} {}", self.time as f64 / S as f64, line()));
        }
    }

    /// The trace, if there is one.
    #[must_use]
    pub fn trace(&self) -> String {
        self.trace.as_ref().map_or_else(String::new, |lines| lines.join("\n"))
    }

    pub(crate) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// Schedules an event.
    pub fn schedule(&mut self, at: u64, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
    }

    /// Number of shards that the process has, or will have.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.process.as_ref().map_or(self.settings.shards, |process| process.hosts.len())
    }

    /// A shard's disk.
    pub fn disk_mut(&mut self, shard: usize) -> Option<&mut Disk> {
        match &mut self.process {
            Some(process) => process.hosts.get_mut(shard).map(|host| &mut host.ring.disk),
            None => self.disks.get_mut(shard),
        }
    }

    /// Runs the whole plan.
    pub fn run(&mut self) {
        for device in 0..self.devices.len() {
            let at = self.rng.u64(..self.plan.pace);
            self.schedule(at, Event::Device(device));
        }
        self.subscribers_begin();
        self.broker_begins();
        self.sources_begin();
        self.instances_begin();
        for (fault, mean) in self.plan.faults.clone() {
            self.next_fault(fault, mean);
        }
        let hostile = self.plan.hostile;
        for (mean, event) in
            [(hostile.reads_fail, Event::ReadsFail), (hostile.rot, Event::Rot), (hostile.files_hang, Event::FilesHang)]
        {
            if let Some(mean) = mean {
                self.schedule(mean, event);
            }
        }
        if hostile.flood {
            self.run_until(self.plan.storm / 4);
            self.away[0] = true;
            (1..=self.clusters[0].brokers.len() as i32).for_each(|node| self.cut_broker(0, node));
        }
        self.run_until(self.plan.storm);
        self.come_to_rest();
    }

    /// Ends faults, runs until everything has come to rest, and judges the end.
    pub fn come_to_rest(&mut self) {
        self.faults_end();
        if self.has_instances() {
            return self.instances_come_to_rest();
        }
        if self.plan.reading.is_some() {
            self.sources_calm_down();
            self.sources_stop_early();
        }
        self.run_until_over();
        if self.judge.is_well() && self.plan.reading.is_some() {
            self.sources_come_to_rest();
        } else if self.judge.is_well() && !self.subscribers.is_empty() {
            self.subscribers_come_to_rest();
        }
        let now = self.time;
        self.clusters.iter_mut().for_each(|cluster| cluster.retain(now));
        if self.judge.is_well() {
            self.judge_end();
        }
    }

    /// Runs until everything is done. Taking too long is a failure.
    pub(crate) fn run_until_over(&mut self) {
        let calm = self.time;
        while !self.is_over() && self.judge.is_well() {
            let waited = self.time - calm;
            // The rows that a flood leaves may be sent one record at a time. A process without anything to write notices
            // only with its next heartbeat, 60 s later, that another process has taken its logs.
            let is_patient = self.plan.hostile.flood || self.settings.broker.is_some();
            let patience = if is_patient { 300 * S } else { 120 * S };
            if waited > patience {
                self.judge_delivery();
                self.judge_sources();
                let state = self.state();
                self.judge.fails("progress", format!("not at rest {} s after the faults\n{state}", waited / S));
                return;
            }
            self.run_until(self.time + 100 * MS);
        }
    }

    fn reads_fail(&mut self) {
        let Some(mean) = self.plan.hostile.reads_fail.filter(|_| !self.storm_over) else { return };
        let (shard, wait) = (self.rng.usize(..self.shards()), self.rng.u64(..mean * 2));
        if let Some(disk) = self.disk_mut(shard) {
            disk.health.reads_fail = true;
        }
        self.note(|| format!("reads of disk {shard} fail"));
        self.disks_sick_until = u64::MAX;
        let cure = self.time + self.rng.u64(100 * MS..12 * S);
        self.schedule(cure, Event::Cure(Cure::Disks));
        self.schedule(cure + wait, Event::ReadsFail);
    }

    fn next_fault(&mut self, fault: Fault, mean: u64) {
        let rng = &mut self.fault_rngs[fault as usize];
        let wait = rng.u64(..mean * 2);
        if self.time + wait < self.plan.storm {
            self.schedule(self.time + wait, Event::Fault(fault));
        }
    }

    /// Whether everything is done and answered, and nothing is pending.
    #[must_use]
    pub fn is_over(&self) -> bool {
        if self.has_instances() {
            return self.instances_are_over();
        }
        let Some(process) = &self.process else { return false };
        // The cheapest checks come first: the last two go through all messages.
        process.has_started()
            && !process.stopping
            && self.broker.others.is_empty()
            && process.buffered_rows() == 0
            && self.devices.iter().all(|device| device.is_done(&self.messages))
            && self.has_delivered()
            && self.has_read_all()
    }

    /// The pending work in words, for a run that does not end.
    #[must_use]
    pub fn state(&self) -> String {
        let devices = self.devices.iter().map(|device| {
            let open: Vec<u32> = device.open(&self.messages).take(8).collect();
            let paused = device.socket.and_then(|socket| self.is_paused(socket));
            format!(
                "{} socket {:?} paused {paused:?} sent {} of {} open {open:?} unsent bytes {}",
                device.name,
                device.socket,
                device.messages.len(),
                device.quota,
                device.connection.unsent()
            )
        });
        let mut lines: Vec<String> = devices.collect();
        lines.extend(self.subscribers.iter().map(Subscriber::describe));
        if let Some(process) = &self.process {
            lines.push(process.describe());
        } else if !self.has_instances() {
            lines.push("no process".to_owned());
        }
        lines.extend(self.describe_instances());
        for cluster in &self.clusters {
            let groups = cluster.groups().into_iter().flat_map(|groups| &groups.by_name);
            lines.extend(groups.map(|(name, group)| format!("group {name}: {}", group.describe())));
            for (name, topic) in &cluster.topics {
                for (index, partition) in topic.partitions.iter().enumerate() {
                    let (leader, epoch, high, end) =
                        (partition.leader, partition.leader_epoch, partition.high, partition.end());
                    let in_sync = &partition.in_sync;
                    lines.push(format!(
                        "{name}-{index}: leader {leader:?}.{epoch} in sync {in_sync:?} high {high} of {end}"
                    ));
                }
            }
        }
        lines.join("\n")
    }

    /// Runs until this time, or until the first failure.
    pub fn run_until(&mut self, until: u64) {
        while self.judge.is_well() {
            let event = self.events.first_key_value().map(|((at, _), _)| *at);
            let kafka = self.clusters.iter().filter_map(Cluster::next_at).min();
            let host = self.process.as_ref().and_then(|process| process.next_at());
            let other = self.next_of_others();
            let next = [event, kafka, host.map(|(at, _)| at), other.map(|(at, ..)| at)].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.time = self.time.max(next);
            if kafka == Some(next) {
                self.kafka_runs();
            } else if event == Some(next) {
                if let Some((_, event)) = self.events.pop_first() {
                    self.happens_now(event);
                }
            } else if let Some((_, shard)) = host.filter(|(at, _)| *at == next) {
                self.turn(shard);
            } else if let Some((_, shard, life)) = other {
                self.within(life, |world| world.turn(shard));
            }
        }
        self.time = self.time.max(until);
    }

    fn happens_now(&mut self, event: Event) {
        match event {
            Event::Device(device) => {
                self.device_acts(device);
                let next = self.rng.u64(..self.plan.pace * 2).max(1);
                self.schedule(self.time + next, Event::Device(device));
            }
            Event::Subscriber(subscriber) => self.subscriber_acts(subscriber),
            Event::Fault(fault) => {
                self.happens(fault);
                if let Some((_, mean)) = self.plan.faults.iter().find(|(other, _)| *other == fault).copied() {
                    self.next_fault(fault, mean);
                }
            }
            Event::Cure(cure) => self.cure(cure),
            Event::Dialled(link, ok) => self.of_link(link, |world| world.dialled(link, ok)),
            Event::ToBroker(link, bytes) => self.arrives_at_broker(link, &bytes),
            Event::Serve(link) => self.serve(link),
            Event::ToShard(link, bytes) => self.of_link(link, |world| world.arrives_at_shard(link, bytes)),
            Event::CutAtShard(link) => self.of_link(link, |world| world.cut_at_shard(link)),
            Event::ToDevice(socket, bytes) => self.client_reads(socket, &bytes),
            Event::Filed(life, shard, sink, message) => self.filed(life, shard, (sink, message)),
            Event::Mail(life, to) => drop(self.within(life, |world| world.mail_arrives(life, to))),
            Event::Start if self.process.is_none() && !self.has_instances() => self.start(),
            // A frozen process went on and ended before its successor started: a successor runs by now.
            Event::Start => {}
            Event::ReadsFail => self.reads_fail(),
            Event::Rot => self.rot(),
            Event::FilesHang => self.files_hang(),
            Event::Write => self.write_records(),
            Event::Drain(life) => self.drain(life),
            Event::Prepare(step) => drop(self.within(step.life, |world| world.prepares(step))),
            Event::Thaw(life) => self.thaw(life),
            Event::Instance(happening) => self.happens_at_instance(happening),
            Event::LateWrite(log, bytes, life) => self.late_write(log, bytes, life),
            Event::Look => {
                self.look();
                self.schedule(self.time + 250 * MS, Event::Look);
            }
        }
    }

    /// Does something as the process of a connection to a broker or, if that process is gone, as no process in
    /// particular.
    fn of_link(&mut self, link: u64, work: impl FnOnce(&mut Self)) {
        let life = self.links.get(&link).map_or(self.life, |link| link.life);
        if life == self.life || self.broker.others.contains_key(&life) {
            self.within(life, work);
        } else {
            work(self);
        }
    }

    fn filed(&mut self, life: u32, shard: usize, (sink, message): (usize, Option<u32>)) {
        if let Some(message) = message {
            *self.judge.filed.entry((message, sink as u8)).or_default() += 1;
        }
        if life == self.life {
            self.put(shard, In::Mail(Mail::DeadLetters(ToDeadLetters::Filed { sink, count: 1 })));
        }
    }
}
