//! Scripted runs: each shows one known fault, for cases that seeds seldom reach. The names are those in the list of
//! known faults in `docs/SIMULATION.md`.

mod changes;
pub mod rules;
pub mod values;

use forebay::config::WhenFull;
use forebay::record::murmur2;
use forebay::rules::{KEPT, Rules};

use crate::device::Device;
use crate::judge::Failure;
use crate::kafka::{Cluster, Entry, State};
use crate::plan::{Buffer, Choice, Dead, Layers, Level, Plan, Settings, SinkPlan, SpoolPlan};
use crate::process::End;
use crate::time::{EPOCH_MS, MS, stream};
use crate::world::{Event, World};

/// A script's name, and the script.
pub type Scenario = (&'static str, fn() -> Result<(), Failure>);

/// All scripts.
pub const ALL: &[Scenario] = &[
    ("D1 kill, start, power cut", unsynced_bytes_are_not_acted_on),
    ("D2 a smaller bound with a backlog", smaller_bound_with_a_backlog),
    ("D4 a cut whose rows are gone", cut_whose_rows_are_gone),
    ("N1 a segment with a kept session is gone", segment_with_a_session_is_gone),
    ("N2 a hybrid row that an earlier start gave up", hybrid_row_given_up_by_an_earlier_start),
    ("N3 a disk sink becomes hybrid", changes::disk_sink_becomes_hybrid),
    ("N4 smaller segments beside kept sessions", changes::smaller_segments_beside_sessions),
    ("S5 one sink keeps to its share", || rules::one_sink_keeps_to_its_share(&KEPT)),
    ("P2 a window of two is under way", || rules::a_window_of_two_is_under_way(&KEPT)),
    ("P2 what Kafka forgets is asked for", || rules::what_kafka_forgets_is_asked_for(&KEPT)),
    ("P4 one error explains the others", || rules::one_error_explains_the_others(&KEPT)),
    ("P5 what is refused and there is known", || rules::what_is_refused_and_there_is_known(&KEPT)),
    ("what is cut is not dropped", || rules::what_is_cut_is_not_dropped(&KEPT)),
    ("a stop saves what memory has", || rules::stop_saves_what_memory_has(&KEPT)),
    ("D5 reads fail for a while", reads_fail_for_a_while),
    ("D5 a bad sector at the start", bad_sector_at_the_start),
    ("D6 a clock in 1970", clock_in_1970),
    ("D6 a clock behind the spool", clock_behind_the_spool),
    ("D7 another cluster", another_cluster),
    ("D12 a throttle of an hour", throttle_of_an_hour),
    ("D15 a restart with one broker frozen", restart_with_one_broker_frozen),
    ("D17 one of two sinks refuses", one_of_two_sinks_refuses),
    ("D18 a leader that cannot be reached", leader_that_cannot_be_reached),
];

fn sink(name: &'static str, buffer: Buffer, level: Level) -> SinkPlan {
    SinkPlan {
        name,
        cluster: 0,
        last_level: if name == "all" { "" } else { "odd" },
        choice: Choice::All,
        topic_per_device: name != "all",
        keyed: true,
        buffer,
        level,
        dead: Dead::Shared,
        linger_ms: 1,
        max_inflight: 5,
        expire_ms: None,
        partitioner: "",
        compression: "none",
        spill_after: 64 << 20,
    }
}

fn settings() -> Settings {
    Settings {
        shards: 1,
        clusters: vec!["127.0.0.1".to_owned()],
        sinks: vec![sink("all", Buffer::Disk, Level::Stored)],
        sources: Vec::new(),
        broker: None,
        spool: Some(SpoolPlan {
            segment_bytes: 64 << 10,
            segments_max: 64,
            share: 100,
            when_full: WhenFull::Backpressure,
            sync_interval_ms: 0,
        }),
        delivery: None,
        buffer_bytes: 256 << 10,
        batch_bytes: 1024,
        record_bytes_max: 2048,
        answer_timeout_ms: None,
        more: String::new(),
        more_of_clusters: String::new(),
    }
}

/// A run that follows a script.
struct Script {
    world: World,
}

impl Script {
    /// A run with one broker and one partition for each of `brokers`, every partition with one replica, and a device
    /// for each partition, in its order, of protocol 5.0 or 3.1.1.
    fn new(settings: Settings, brokers: usize, v5: bool) -> Self {
        Self::with_rules(settings, brokers, v5, &KEPT)
    }

    fn with_rules(settings: Settings, brokers: usize, v5: bool, rules: &'static dyn Rules) -> Self {
        let mut plan = Plan::new(0, crate::plan::Kind::All);
        let clusters = settings.clusters.len();
        plan.settings = settings;
        (plan.brokers, plan.partitions, plan.min_in_sync) = (brokers, brokers, 1);
        (plan.by_id, plan.modern, plan.latency, plan.sync) = (true, true, MS, MS / 2);
        (plan.devices, plan.storm, plan.poison) = (0, 0, false);
        plan.faults.clear();
        plan.layers = Layers::None;
        let mut world = World::new(plan, std::env::var_os("FOREBAY_SIM_TRACE").is_some());
        (world.quiet, world.judge.lenient, world.rules) = (true, false, rules);
        for cluster in world.clusters.iter_mut().take(clusters) {
            cluster.replicas = 1;
        }
        let on = |partition: usize, name: &str| murmur2::partition(name.as_bytes(), brokers) == partition;
        for partition in 0..brokers {
            let index = world.devices.len();
            let name = (0..).map(|n| format!("p{partition}x{n}")).find(|name| on(partition, &format!("{name}/even")));
            let mut device = Device::plain(index, v5, true);
            device.name = name.unwrap_or_default();
            world.devices.push(device);
        }
        let mut script = Self { world };
        script.wait(10);
        script
    }

    /// Lets time pass, while devices send their pending bytes.
    fn wait(&mut self, ms: u64) {
        let until = self.world.time + ms * MS;
        while self.world.time < until && self.world.judge.is_well() {
            for device in 0..self.world.devices.len() {
                self.world.send_device_bytes(device);
            }
            self.world.run_until((self.world.time + 5 * MS).min(until));
        }
    }

    fn connect(&mut self, device: usize) {
        for _ in 0..100 {
            if self.world.devices[device].is_greeted() {
                return;
            }
            if self.world.devices[device].socket.is_none() {
                self.world.connect_device(device);
            }
            self.wait(20);
        }
    }

    fn publish(&mut self, device: usize, qos: u8, length: usize) {
        self.publish_to("even", device, qos, length);
    }

    fn publish_to(&mut self, level: &str, device: usize, qos: u8, length: usize) {
        let World { devices, messages, time, life, .. } = &mut self.world;
        devices[device].publish_this((level, qos, length, false), messages, (*time, *life));
    }

    /// Publishes messages of QoS 1, and gives the process the time to take them.
    fn fill(&mut self, device: usize, count: usize, length: usize) {
        for sent in 0..count {
            self.publish(device, 1, length);
            if sent % 10 == 9 {
                self.wait(10);
            }
        }
        self.wait(500);
    }

    fn kill(&mut self) {
        let mut rng = fastrand::Rng::with_seed(1);
        self.world.crash(End::Kill, &mut rng);
        self.starts();
    }

    fn power_cut(&mut self) {
        let mut rng = fastrand::Rng::with_seed(1);
        self.world.crash(End::PowerCut, &mut rng);
        self.starts();
    }

    fn starts(&mut self) {
        self.world.kill_after_turns = None;
        while self.world.process.is_none() && self.world.judge.is_well() {
            self.wait(10);
        }
        self.wait(10);
    }

    fn disk(&mut self) -> &mut crate::disk::Disk {
        self.world.disk_mut(0).expect("a disk")
    }

    fn away(&mut self, away: bool) {
        self.world.away[0] = away;
        if away {
            (1..=self.world.clusters[0].brokers.len() as i32).for_each(|node| self.world.cut_broker(0, node));
        }
        self.wait(50);
    }

    /// Ends all faults, reconnects devices, and runs until everything has come to rest.
    fn ends(mut self) -> Result<(), Failure> {
        for device in 0..self.world.devices.len() {
            self.world.devices[device].quota = 0;
            let at = self.world.time;
            self.world.schedule(at, Event::Device(device));
        }
        self.world.plan.pace = 20 * MS;
        if self.world.judge.is_well() {
            self.world.come_to_rest();
        }
        let trace = self.world.trace();
        if !trace.is_empty() {
            println!("{trace}");
        }
        self.world.judge.failure().cloned().map_or(Ok(()), Err)
    }
}

/// A process reads bytes from the page cache that no sync has covered, answers a repeat because of them, and a power
/// cut removes the bytes.
fn unsynced_bytes_are_not_acted_on() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.disk().health.strict = true;
    script.connect(0);
    script.away(true);
    script.disk().health.hangs = true;
    script.publish(0, 2, 20);
    script.wait(200);
    script.kill();
    script.disk().health.hangs = false;
    script.connect(0);
    script.wait(1_000);
    script.power_cut();
    script.ends()
}

/// The bound shrinks below the contents of the disk.
fn smaller_bound_with_a_backlog() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.connect(0);
    script.fill(0, 5, 20);
    script.away(true);
    script.fill(0, 1_500, 800);
    if let Some(spool) = &mut script.world.settings.spool {
        spool.segments_max = 8;
    }
    script.kill();
    script.ends()
}

/// A segment is missing with all rows of a partition, and a cut of those rows is open.
fn cut_whose_rows_are_gone() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 2, false);
    for device in 0..2 {
        script.world.devices[device].kept = false;
        script.connect(device);
        script.fill(device, 3, 20);
    }
    script.away(true);
    script.fill(0, 3, 20);
    script.fill(1, 300, 800);
    // Kafka takes the connections, and answers nothing.
    script.world.clusters[0].brokers.iter_mut().for_each(|broker| broker.frozen = true);
    script.away(false);
    script.wait(1_500);
    script.world.damaged = true;
    // The messages of the missing segment are lost, and it is not known which they are.
    script.world.judge.excused.extend(0..script.world.messages.len() as u32);
    script.kill_and(|script| {
        if let Some(first) = script.disk().segments().first().copied() {
            script.disk().lose(first);
        }
    });
    (1..=2).for_each(|node| script.world.clusters[0].recover(node, script.world.time));
    (1..=2).for_each(|node| script.world.serve_all(0, node));
    script.wait(2_000);
    script.connect(0);
    script.fill(0, 20, 20);
    script.ends()
}

/// A segment with a kept session is missing: the process reports that at its start and goes on (S7).
fn segment_with_a_session_is_gone() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.connect(0);
    script.away(true);
    script.fill(0, 400, 800);
    script.kill_and(|script| {
        if let Some(first) = script.disk().segments().first().copied() {
            script.world.damaged(0, first);
            script.world.sessions_may_be_gone();
            script.disk().lose(first);
        }
    });
    script.ends()
}

impl Script {
    /// Kills the process, and changes the disk before the next one starts.
    fn kill_and(&mut self, then: impl FnOnce(&mut Self)) {
        let mut rng = fastrand::Rng::with_seed(1);
        self.world.crash(End::Kill, &mut rng);
        then(self);
        self.starts();
    }
}

/// A starting process gives up the rows of a hybrid sink, and ends them in the log. The next process must not take them
/// for delivered: a repeat of such a QoS 2 message has to reach that sink.
fn hybrid_row_given_up_by_an_earlier_start() -> Result<(), Failure> {
    let mut settings = settings();
    settings.sinks.push(SinkPlan { spill_after: 1 << 10, ..sink("odd", Buffer::Hybrid, Level::Replicated) });
    let mut script = Script::new(settings, 1, false);
    script.connect(0);
    script.away(true);
    for _ in 0..40 {
        script.publish_to("odd", 0, 2, 300);
    }
    script.wait(1_000);
    script.kill();
    script.wait(500);
    script.kill();
    script.connect(0);
    script.wait(500);
    script.ends()
}

/// The disk cannot be read for half a minute, and then works again.
fn reads_fail_for_a_while() -> Result<(), Failure> {
    let mut settings = settings();
    settings.sinks[0].spill_after = 4 << 10;
    let mut script = Script::new(settings, 1, false);
    script.connect(0);
    script.fill(0, 5, 20);
    script.away(true);
    script.fill(0, 300, 800);
    script.disk().health.reads_fail = true;
    script.world.disks_sick_until = u64::MAX;
    script.away(false);
    script.wait(30_000);
    script.disk().health.reads_fail = false;
    script.world.disks_sick_until = script.world.time;
    script.ends()
}

/// A sector among the rows of an old segment cannot be read when the process starts.
fn bad_sector_at_the_start() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.connect(0);
    script.away(true);
    script.fill(0, 300, 800);
    script.world.damaged = true;
    script.kill_and(|script| {
        let segments = script.disk().segments();
        // The segment that was written last is read from its beginning on.
        if let Some(last) =
            segments.iter().rev().find(|segment| script.world.disks[0].written(**segment) > 8_192).copied()
        {
            script.disk().damage(last, 9);
        }
    });
    script.ends()
}

/// A machine without a battery: its clock starts in 1970, and Kafka deletes by the records' time.
fn clock_in_1970() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.world.clock_ahead_ms = -EPOCH_MS;
    script.kill();
    script.connect(0);
    script.fill(0, 20, 20);
    script.wait(2_000);
    script.world.clusters[0].retain(script.world.time);
    script.ends()
}

/// The clock was set back: after a restart it is a month earlier than before.
fn clock_behind_the_spool() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    // The device's session is in the spool.
    script.connect(0);
    script.wait(2_000);
    script.kill_and(|script| {
        (script.world.clock_ahead_ms, script.world.clock_fell_back) = (-30 * 86_400_000, true);
    });
    script.connect(0);
    script.fill(0, 20, 20);
    script.wait(2_000);
    script.world.clusters[0].retain(script.world.time);
    script.ends()
}

/// A sink is pointed at another cluster, which has given the same producer id to another client.
fn another_cluster() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.connect(0);
    script.fill(0, 1, 20);
    script.world.clusters[0].freeze(1, script.world.time);
    script.publish(0, 1, 20);
    script.wait(1_000);
    let old = script.world.clusters[0].entries.last().cloned();
    script.kill_and(|script| {
        let mut other = Cluster::new("127.0.0.1", "another-cluster", 1, stream(0, "another"));
        (other.replicas, other.partitions) = (1, 1);
        other.create("all", 1, script.world.time);
        if let Some(old) = old {
            // Two records of another client under this id: the first two sequences.
            for first in 0..2 {
                other.append_foreign(
                    "all",
                    Entry { first, last: first, rows: Vec::new(), state: State::There, ..old.clone() },
                );
            }
        }
        script.world.clusters[0] = other;
    });
    // The message is in the first cluster: its absence from the second one is no loss.
    script.world.messages[0].answered = None;
    script.ends()
}

/// A broker asks for an hour without requests; at most five minutes are granted.
fn throttle_of_an_hour() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 1, false);
    script.world.judge.live = false;
    script.connect(0);
    script.fill(0, 3, 20);
    script.world.clusters[0].throttle_next = Some(3_600_000);
    script.fill(0, 3, 20);
    script.fill(0, 3, 20);
    script.wait(310_000);
    script.ends()
}

/// Each partition waits for itself alone, also after a restart.
fn restart_with_one_broker_frozen() -> Result<(), Failure> {
    let mut script = Script::new(settings(), 3, false);
    (0..3).for_each(|device| script.connect(device));
    (0..3).for_each(|device| script.fill(device, 3, 20));
    script.away(true);
    (0..3).for_each(|device| script.fill(device, 30, 100));
    script.world.clusters[0].freeze(1, script.world.time);
    script.kill();
    script.away(false);
    (0..3).for_each(|device| script.connect(device));
    (0..3).for_each(|device| script.fill(device, 3, 20));
    script.wait(40_000);
    script.ends()
}

/// A device of protocol 3.1.1 endlessly repeats a message that one sink has and another refuses for good.
fn one_of_two_sinks_refuses() -> Result<(), Failure> {
    let mut settings = settings();
    settings.sinks.push(sink("odd", Buffer::Disk, Level::Replicated));
    settings.sinks[0].level = Level::Replicated;
    let mut script = Script::new(settings, 1, false);
    script.connect(0);
    let name = script.world.settings.sinks[1].kafka_topic(&format!("{}/odd", script.world.devices[0].name));
    script.world.clusters[0].create(&name, 1, 0);
    if let Some(topic) = script.world.clusters[0].topics.get_mut(&name) {
        topic.writing_forbidden = true;
    }
    script.world.refused.insert((0, name));
    script.publish_to("odd", 0, 1, 20);
    for _ in 0..60 {
        script.connect(0);
        script.wait(1_000);
    }
    let copies = script.world.clusters[0].copies(0, 0).count();
    if copies > 5 {
        script.world.judge.fails("repeats", format!("{copies} records of one message, and no end of it"));
    }
    script.ends()
}

/// A leader that metadata names, but that cannot be reached, does not delay the read-back of other partitions.
fn leader_that_cannot_be_reached() -> Result<(), Failure> {
    let mut settings = settings();
    settings.sinks[0].spill_after = 4 << 10;
    let mut script = Script::new(settings, 2, false);
    (0..2).for_each(|device| script.connect(device));
    (0..2).for_each(|device| script.fill(device, 3, 20));
    script.away(true);
    (0..2).for_each(|device| script.fill(device, 150, 800));
    // Both brokers hang, and the controller does not notice.
    script.world.clusters[0].brokers.iter_mut().for_each(|broker| broker.frozen = true);
    script.away(false);
    script.wait(1_500);
    script.kill();
    script.world.clusters[0].brokers[1].frozen = false;
    script.world.serve_all(0, 2);
    script.wait(60_000);
    script.ends()
}
