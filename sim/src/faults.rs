//! The faults of a run, their rates and effects. Each fault draws from a stream of its own.

use forebay::runtime::seam::Closed;

use crate::broker::Owner;
use crate::kafka::coordinator::OFFSETS_TOPIC;
use crate::kafka::{Entry, Flaky, State};
use crate::plan::broker::{RETAINED, SESSIONS};
use crate::process::End;
use crate::time::{MS, S};
use crate::world::{Event, World};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident, $seconds:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// All faults. Faults of the machine and its disk come last.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The fault's name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Mean time between two of them, about, in nanoseconds.
            #[must_use]
            pub const fn mean_time(self) -> u64 {
                match self { $(Self::$name => $seconds * S,)* }
            }
        }
    };
}

faults! {
    /// A connection to a broker breaks.
    CutLink, 1;
    /// All connections to a broker break.
    CutBroker, 3;
    /// A partition gets another leader.
    MoveLeader, 1;
    /// A broker freezes for a while.
    Freeze, 5;
    /// A broker is killed, and starts again.
    KillBroker, 5;
    /// A broker is stopped in order, and starts again.
    RestartBroker, 5;
    /// Followers of a partition stop following for a while.
    SlowFollowers, 4;
    /// A topic grows.
    Grow, 5;
    /// A topic is deleted and created again.
    Recreate, 8;
    /// Writing to a topic is forbidden for a while.
    ForbidWriting, 6;
    /// Reading from a topic is forbidden for a while.
    ForbidReading, 5;
    /// A topic refuses records with a timestamp for a while.
    Timeless, 6;
    /// A topic takes only small batches for a while.
    SmallBatches, 6;
    /// Partitions forget producers.
    ForgetProducers, 5;
    /// No broker of a cluster can be reached for a while.
    Away, 6;
    /// Single requests fail for a while.
    FlakyBrokers, 3;
    /// A device's connection breaks.
    CutDevice, 1;
    /// A device reconnects while the shard still has its old connection.
    TakeOver, 2;
    /// Another broker coordinates the groups.
    MoveCoordinator, 6;
    /// A member of another program joins a source's group, or the present ones leave.
    Rebalance, 8;
    /// The cleaner compacts a topic of `[broker]`.
    Clean, 2;
    /// The coordinator of transactions forgets its transactional ids.
    ForgetIdentities, 6;
    /// An unclean election: the log of sessions loses its last batches.
    CutLog, 12;
    /// kill -9.
    Kill, 4;
    /// The machine loses power.
    PowerCut, 4;
    /// SIGTERM.
    Stop, 6;
    /// Syncs fail for a while.
    SyncsFail, 5;
    /// No segment can be created for a while.
    CreatesFail, 5;
    /// The disk answers nothing for a while.
    DiskHangs, 5;
    /// Other files fill the disk for a while.
    DiskFull, 5;
    /// The disk is slow for a while.
    SlowDisk, 4;
    /// The machine is lost with its disks: the process starts on an empty one.
    LoseMachine, 5;
    /// The process freezes, another one takes over, and then the first goes on.
    FreezeProcess, 6;
    /// An instance that is not running starts.
    JoinInstance, 8;
    /// Connections between two instances break, or carry nothing in one direction for a while.
    CutInstances, 4;
}

impl Fault {
    /// Whether the fault needs a disk, or ends the process.
    #[must_use]
    pub const fn is_of_the_machine(self) -> bool {
        self as usize >= Self::Kill as usize
    }

    /// Whether the fault affects the groups of sources.
    #[must_use]
    pub const fn is_of_groups(self) -> bool {
        matches!(self, Self::MoveCoordinator | Self::Rebalance)
    }

    /// Whether the fault occurs with several instances alone.
    #[must_use]
    pub const fn is_of_instances(self) -> bool {
        matches!(self, Self::JoinInstance | Self::CutInstances)
    }

    /// Whether the fault occurs with `[broker]` alone.
    #[must_use]
    pub const fn is_of_broker(self) -> bool {
        matches!(self, Self::Clean | Self::ForgetIdentities | Self::CutLog | Self::LoseMachine | Self::FreezeProcess)
    }
}

/// The later end of a lasting fault.
#[derive(Clone, Debug)]
pub enum Cure {
    /// A broker works again.
    Broker(usize, i32),
    /// Followers follow again.
    Followers(usize, String, usize),
    /// A topic is created again.
    Create(usize, String, usize),
    /// A topic refuses nothing any more.
    Topic(usize, String),
    /// A cluster can be reached again.
    Reachable(usize),
    /// Single requests do not fail any more.
    Flaky(usize),
    /// The disks work again.
    Disks,
}

impl World {
    /// Applies a fault.
    pub(crate) fn happens(&mut self, fault: Fault) {
        let mut rng = std::mem::take(&mut self.fault_rngs[fault as usize]);
        self.note(|| format!("fault {}", fault.name()));
        self.do_fault(fault, &mut rng);
        self.fault_rngs[fault as usize] = rng;
    }

    fn cure_later(&mut self, cure: Cure, within: u64, rng: &mut fastrand::Rng) {
        let at = self.time + rng.u64(10 * MS..within);
        self.schedule(at, Event::Cure(cure));
    }

    fn do_fault(&mut self, fault: Fault, rng: &mut fastrand::Rng) {
        if self.has_instances() && self.fault_of_instances(fault, rng) {
            return;
        }
        let cluster = rng.usize(..self.clusters.len());
        let node = rng.i32(1..=self.clusters[cluster].brokers.len() as i32);
        match fault {
            Fault::CutLink => {
                let links: Vec<u64> = self.links.keys().copied().collect();
                if let Some(link) = rng.choice(links) {
                    self.cut_link(link);
                }
            }
            Fault::CutBroker => self.cut_broker(cluster, node),
            Fault::Freeze if self.clusters[cluster].works(node) => {
                self.clusters[cluster].freeze(node, self.time);
                self.cure_later(Cure::Broker(cluster, node), 12 * S, rng);
            }
            Fault::KillBroker | Fault::RestartBroker if self.clusters[cluster].works(node) => {
                self.clusters[cluster].stop(node, fault == Fault::RestartBroker, self.time);
                self.cut_broker(cluster, node);
                self.cure_later(Cure::Broker(cluster, node), 8 * S, rng);
            }
            Fault::Freeze | Fault::KillBroker | Fault::RestartBroker => {}
            Fault::Away => {
                self.away[cluster] = true;
                (1..=self.clusters[cluster].brokers.len() as i32).for_each(|node| self.cut_broker(cluster, node));
                self.cure_later(Cure::Reachable(cluster), 8 * S, rng);
            }
            Fault::FlakyBrokers => {
                let rate = |rng: &mut fastrand::Rng| rng.u32(..200);
                self.clusters[cluster].flaky =
                    Flaky { before: rate(rng), after: rate(rng), throttle: rate(rng), no_id: 300 };
                self.cure_later(Cure::Flaky(cluster), 5 * S, rng);
            }
            Fault::ForgetProducers => self.clusters[cluster].forget_producers(self.time),
            Fault::MoveCoordinator => self.move_coordinator(cluster),
            Fault::Rebalance => self.rebalance(rng),
            Fault::Clean => self.clean_topic(rng),
            Fault::ForgetIdentities => self.forget_identities(),
            Fault::CutLog => self.cut_session_log(rng),
            Fault::FreezeProcess => self.freeze_process(rng),
            Fault::CutDevice | Fault::TakeOver => {
                let device = rng.usize(..self.devices.len());
                self.cut_device(device, fault == Fault::CutDevice);
            }
            Fault::Kill | Fault::PowerCut | Fault::Stop | Fault::LoseMachine => self.machine(fault, rng),
            Fault::SyncsFail | Fault::CreatesFail | Fault::DiskHangs | Fault::DiskFull | Fault::SlowDisk => {
                self.sick_disk(fault, rng);
            }
            _ => self.of_a_topic(fault, cluster, rng),
        }
    }

    fn of_a_topic(&mut self, fault: Fault, cluster: usize, rng: &mut fastrand::Rng) {
        let time = self.time;
        let kafka = &mut self.clusters[cluster];
        let names: Vec<String> = kafka.topics.keys().cloned().collect();
        let Some(name) = rng.choice(names) else { return };
        if name == OFFSETS_TOPIC && !matches!(fault, Fault::MoveLeader | Fault::SlowFollowers) {
            return;
        }
        let dead = name.starts_with(crate::kafka::front::DEAD);
        let count = kafka.topics[&name].partitions.len();
        let index = rng.usize(..count);
        match fault {
            Fault::MoveLeader => kafka.move_leader(&name, index, time),
            Fault::SlowFollowers => {
                kafka.slow(&name, index, true, time);
                self.cure_later(Cure::Followers(cluster, name, index), 6 * S, rng);
            }
            Fault::Grow if count < 6 => kafka.grow(&name, time),
            Fault::Recreate => {
                kafka.delete(&name);
                let partitions = if rng.bool() { count } else { rng.usize(1..6) };
                self.cure_later(Cure::Create(cluster, name, partitions), 4 * S, rng);
            }
            Fault::ForbidReading => {
                kafka.topics.get_mut(&name).expect("it is there").reading_forbidden = true;
                self.cure_later(Cure::Topic(cluster, name), 6 * S, rng);
            }
            Fault::ForbidWriting | Fault::Timeless | Fault::SmallBatches if !dead => {
                let topic = kafka.topics.get_mut(&name).expect("it is there");
                match fault {
                    Fault::ForbidWriting => topic.writing_forbidden = true,
                    Fault::Timeless => topic.timeless = true,
                    _ => topic.batch_bytes_max = rng.usize(300..2_000),
                }
                self.refused.insert((cluster, name.clone()));
                self.cure_later(Cure::Topic(cluster, name), 6 * S, rng);
            }
            _ => {}
        }
    }

    /// Compacts a part of a topic.
    fn clean_topic(&mut self, rng: &mut fastrand::Rng) {
        let (kafka, time) = (&mut self.clusters[0], self.time);
        let name = [SESSIONS, SESSIONS, RETAINED][rng.usize(..3)];
        let Some(count) = kafka.topics.get(name).map(|topic| topic.partitions.len()) else { return };
        let index = rng.usize(..count);
        let high = kafka.topics[name].partitions[index].high;
        kafka.compact(name, index, if rng.bool() { high } else { rng.i64(0..=high) }, time);
    }

    /// Cuts acknowledged batches off a log of sessions: no promise that depends on them holds.
    fn cut_session_log(&mut self, rng: &mut fastrand::Rng) {
        let (kafka, batches) = (&mut self.clusters[0], rng.usize(1..6));
        let Some(count) = kafka.topics.get(SESSIONS).map(|topic| topic.partitions.len()) else { return };
        let log = rng.usize(..count);
        let is_lost = kafka.cut_log(SESSIONS, log, batches);
        // The cleaner removes the record of a term when there is a later one. If the cut takes the later one, both are unknown, and nothing fences the owners.
        let is_term = |entry: &&Entry| entry.place.0 == SESSIONS && entry.place.2 == log && entry.state == State::There;
        let owners = &mut self.broker.owners;
        let is_known = |owner: &&Owner| {
            let is_its = |of: &Entry| of.base_offset == owner.from && (of.producer, of.epoch) == owner.identity;
            owner.log == log && kafka.entries.iter().filter(is_term).any(is_its)
        };
        let last = owners.iter().filter(is_known).map(|owner| owner.from).max();
        owners.retain(|owner| owner.log != log || Some(owner.from) <= last);
        // The batches of a starting process that wait for followers may be lost as well.
        self.starts_begin_again();
        if is_lost {
            self.broker.cuts.push((log, self.time));
            self.sessions_in_doubt();
        }
    }

    /// Makes the coordinator forget transactional ids, as after a week without use: processes that are starting begin again.
    pub(crate) fn forget_identities(&mut self) {
        self.clusters[0].identities.forget();
        self.starts_begin_again();
    }

    fn machine(&mut self, fault: Fault, rng: &mut fastrand::Rng) {
        match fault {
            Fault::Stop => self.stop_in_order(rng),
            Fault::Kill => self.crash(End::Kill, rng),
            Fault::LoseMachine => self.crash(End::MachineLost, rng),
            _ => self.crash(End::PowerCut, rng),
        }
    }

    fn sick_disk(&mut self, fault: Fault, rng: &mut fastrand::Rng) {
        let shard = rng.usize(..self.shards());
        let Some(disk) = self.disk_mut(shard) else { return };
        let taken = disk.bytes_taken();
        match fault {
            Fault::SyncsFail => disk.health.syncs_fail = true,
            Fault::CreatesFail => disk.health.creates_fail = true,
            Fault::DiskHangs => disk.health.hangs = true,
            Fault::DiskFull => disk.health.room = Some(taken),
            _ => disk.health.slowest = 500 * MS,
        }
        self.disks_sick_until = u64::MAX;
        self.cure_later(Cure::Disks, 5 * S, rng);
    }

    /// Ends a lasting fault.
    pub(crate) fn cure(&mut self, cure: Cure) {
        let time = self.time;
        self.note(|| format!("cure {cure:?}"));
        match cure {
            Cure::Broker(cluster, node) => {
                let broker = self.clusters[cluster].broker(node);
                if broker.down || broker.frozen {
                    self.clusters[cluster].recover(node, time);
                    self.serve_all(cluster, node);
                }
            }
            Cure::Followers(cluster, name, index) => self.clusters[cluster].slow(&name, index, false, time),
            Cure::Create(cluster, name, partitions) => {
                if !self.clusters[cluster].topics.contains_key(&name) {
                    self.clusters[cluster].create(&name, partitions, time);
                }
            }
            Cure::Topic(cluster, name) => {
                let unreadable = self.clusters[cluster].unreadable;
                if let Some(topic) = self.clusters[cluster].topics.get_mut(&name) {
                    (topic.writing_forbidden, topic.reading_forbidden, topic.timeless) = (false, unreadable, false);
                    topic.batch_bytes_max = usize::MAX;
                }
            }
            // In a flood the first cluster stays unreachable.
            Cure::Reachable(cluster) => {
                self.away[cluster] = self.plan.hostile.flood && cluster == 0 && !self.storm_over
            }
            Cure::Flaky(cluster) => self.clusters[cluster].flaky = Flaky::default(),
            Cure::Disks => self.disks_well(),
        }
    }

    /// Ends all lasting faults.
    pub(crate) fn faults_end(&mut self) {
        let time = self.time;
        self.storm_over = true;
        self.thaw_all();
        if self.settings.broker.is_some() {
            self.kill_after_turns = None;
        }
        self.disks_well();
        self.away.iter_mut().for_each(|away| *away = false);
        for cluster in 0..self.clusters.len() {
            self.clusters[cluster].is_well(time);
            for node in 1..=self.clusters[cluster].brokers.len() as i32 {
                self.serve_all(cluster, node);
            }
        }
        self.instances_calm_down();
    }

    fn disks_well(&mut self) {
        self.disks_sick_until = self.time;
        let sync = self.plan.sync;
        for shard in 0..self.shards() {
            if let Some(disk) = self.disk_mut(shard) {
                disk.health = crate::disk::Health {
                    slowest: sync,
                    reads_later: disk.health.reads_later,
                    strict: disk.health.strict,
                    ..Default::default()
                };
            }
        }
    }

    /// Ends a device's connection: noticed by the shard, or silently.
    pub(crate) fn cut_device(&mut self, device: usize, noticed: bool) {
        let Some(socket) = self.devices[device].socket else { return };
        let life = self.life;
        self.left_at_door += u64::from(!self.devices[device].is_greeted());
        self.devices[device].note_lost(self.time);
        self.devices[device].lost(&mut self.messages, life);
        self.devices[device].reconnect_at = self.time + if noticed { self.rng.u64(..500 * MS) } else { 0 };
        if noticed {
            self.close_socket(socket, Closed::Error(std::io::ErrorKind::ConnectionReset.into()));
        } else if let Some(will) = self.devices[device].wills.last_mut() {
            will.left = Some(socket);
        }
    }
}
