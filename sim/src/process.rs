//! The process under test: its shards, its start and its end.

mod outgoing;
mod turn;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use forebay::broker::router::Slots;
use forebay::link::Peers;
use forebay::metrics::board::Board;
use forebay::metrics::spec::{Layout, ShardMetric, SinkMetric};
use forebay::runtime::seam::{Closed, ConnId, Monotonic, Shard};
use forebay::service::dead_letters::{Letter, Ways};
use forebay::shard::mail::{Mail, Notice, ToShard};
use forebay::shard::{Core, Surroundings};

use crate::disk::Disk;
use crate::expected::Tolerated;
use crate::plan::{Buffer, Layers, Settings};
use crate::ring::{Moving, Ring};
use crate::time::{MS, UPTIME, stream, wall_ms};
use crate::world::{Event, World};

/// An event for a shard.
#[derive(Debug)]
pub enum In {
    /// A device's socket, accepted by a listener.
    Accept(u64, u16),
    /// Bytes from a device's socket.
    Bytes(u64, Vec<u8>),
    /// The end of a device's socket.
    Closed(u64, Closed),
    /// A connection to a broker that is established.
    Connected(u64),
    /// Bytes from a broker.
    LinkBytes(u64, Vec<u8>),
    /// The end of a connection to a broker.
    LinkClosed(u64, Closed),
    /// A refused connection to another instance.
    DialRefused(ConnId, Closed),
    /// A letter from another shard.
    Mail(Mail),
}

/// A shard and its ring.
pub struct Host {
    pub(crate) core: Core,
    pub(crate) ring: Ring,
    pub(crate) board: Arc<Board>,
    inbox: VecDeque<In>,
    /// Events for sockets that have moved to another shard.
    moved: Vec<In>,
    wake_at: Option<u64>,
    turns: Turns,
}

/// Number of turns of a shard in the current millisecond. A shard that is never done takes all of a core, and its run
/// would not end.
#[derive(Debug, Default)]
struct Turns {
    of: u64,
    count: u32,
}

impl Turns {
    const MOST: u32 = 20_000;

    /// Counts a turn. Returns whether the count is within its bound.
    fn within_bounds(&mut self, time: u64) -> bool {
        if self.of != time / MS {
            *self = Self { of: time / MS, count: 0 };
        }
        self.count += 1;
        self.count <= Self::MOST
    }
}

/// The process under test.
pub struct Process {
    /// One host for each shard.
    pub(crate) hosts: Vec<Host>,
    pub(crate) layout: Layout,
    pub(crate) slots: Arc<Slots>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) started_at: u64,
    /// [`World::boot`] of its machine: the monotonic clock of a process that stands still goes on, whatever happens to other machines.
    boot: u64,
    /// Bytes that a sink may hold of a shard's spool, if that has not changed since the first process.
    pub(crate) share: Option<u64>,
    /// Bound on the messages that a shard's log keeps track of for sessions; 0 without a log.
    pub(crate) kept_max: u64,
    /// Bound on the segments of a shard.
    pub(crate) segments_max: u64,
    pub(crate) stopping: bool,
    /// Number of shards that have taken up the contents of their spool. Clients are accepted once all have.
    started: usize,
    /// Number of shards that wait for the logs of `[broker]`.
    waiting: usize,
    notices: Receiver<Notice>,
    letters: Vec<Receiver<Letter>>,
    moving: Moving,
    /// Letters to each shard. They arrive in the order in which they were sent, across all senders.
    mail: Vec<Line>,
}

/// Letters in flight to a shard, each with its sender.
#[derive(Default)]
struct Line {
    letters: VecDeque<(usize, Mail)>,
    /// Arrival time of the last letter.
    clear_at: u64,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("started_at", &self.started_at).finish_non_exhaustive()
    }
}

/// A way in which a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// kill -9.
    Kill,
    /// The machine loses power.
    PowerCut,
    /// The process has drained.
    Stopped,
    /// The machine is lost with its disks.
    MachineLost,
}

impl Process {
    /// Time of the next turn of any shard, in simulated time, and the shard.
    pub(crate) fn next_at(&self) -> Option<(u64, usize)> {
        let of = |(index, host): (usize, &Host)| {
            if host.ring.stopped {
                return None;
            }
            let timer = host.ring.next_timer_at().map(|at| at.0.saturating_add(self.boot).saturating_sub(UPTIME));
            let at = [host.wake_at, timer, host.ring.disk.next_answer_at()].into_iter().flatten().min()?;
            Some((at, index))
        };
        self.hosts.iter().enumerate().filter_map(of).min()
    }

    /// Whether every shard has taken up the contents of its spool. Its rows are counted from then on.
    pub(crate) fn has_started(&self) -> bool {
        self.started == self.hosts.len()
    }

    /// The counters of each shard.
    pub(crate) fn boards(&self) -> Vec<Vec<u64>> {
        self.hosts.iter().map(|host| host.board.read()).collect()
    }

    /// A counter of a sink, summed over all shards.
    #[must_use]
    pub fn sink(&self, sink: usize, metric: SinkMetric) -> u64 {
        self.hosts.iter().map(|host| host.board.read()[self.layout.sink(sink, metric)]).sum()
    }

    /// A counter, summed over all shards.
    #[must_use]
    pub fn number(&self, metric: ShardMetric) -> u64 {
        self.hosts.iter().map(|host| host.board.read()[metric as usize]).sum()
    }

    /// Number of buffered rows.
    #[must_use]
    pub fn buffered_rows(&self) -> u64 {
        (0..self.layout.sinks).map(|sink| self.sink(sink, SinkMetric::BufferedRows)).sum()
    }

    /// The pending work of each shard, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let sinks = (0..self.layout.sinks).map(|sink| {
            let of = |metric| self.sink(sink, metric);
            format!(
                "sink {sink}: matched {} recovered {} delivered {} buffered {} spooled {} unknown {} refused {} dead {}",
                of(SinkMetric::Matched),
                of(SinkMetric::Recovered),
                of(SinkMetric::Delivered),
                of(SinkMetric::BufferedRows),
                of(SinkMetric::SpooledRows),
                of(SinkMetric::OutcomeUnknown),
                of(SinkMetric::Refused),
                of(SinkMetric::DeadLettered),
            )
        });
        let disks = self.hosts.iter().map(|host| {
            let values = host.board.read();
            let of = [ShardMetric::SpoolBytes, ShardMetric::SpoolBytesMax, ShardMetric::SpoolLiveBytes];
            let [bytes, most, live] = of.map(|metric| values[metric as usize]);
            format!("disk: {}; {bytes} of {most} bytes, {live} live", host.ring.disk.describe())
        });
        let copies = [ShardMetric::CopiesSent, ShardMetric::CopiesQueueFull, ShardMetric::CopiesEnded];
        let copies = copies.map(|metric| self.number(metric));
        let stored = self.number(ShardMetric::StoredMessages);
        let copies = format!("copies sent, dropped, ended: {copies:?}; messages stored {stored}");
        sinks.chain(disks).chain([copies]).collect::<Vec<_>>().join("\n")
    }
}

impl World {
    /// Queues an event for a shard.
    pub(crate) fn put(&mut self, shard: usize, what: In) {
        let wait = self.network.u64(..100_000);
        let time = self.time;
        if let Some(host) = self.process.as_mut().and_then(|process| process.hosts.get_mut(shard)) {
            host.inbox.push_back(what);
            host.wake_at.get_or_insert(time + wait);
        }
    }

    /// Starts the process on its disks.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "one process at a time");
        self.life = self.broker.next_life(self.life);
        if self.life > 1 && self.plan.hostile.changes && !self.storm_over {
            let mut rng = stream(self.plan.seed, &format!("change {}", self.life));
            self.settings.change(&mut rng);
        }
        let config = match self.configured() {
            Ok(config) => Arc::new(config),
            Err(why) => return self.start_refused(why),
        };
        self.lives.push(self.settings.clone());
        self.note_floor();
        let shards = config.service.shards;
        while self.disks.len() < shards {
            let mut disk = Disk::new(stream(self.plan.seed, &format!("disk {}", self.disks.len())));
            disk.health.slowest = self.plan.sync;
            disk.health.reads_later = if self.plan.seed.is_multiple_of(2) { 30 } else { 0 };
            self.disks.push(disk);
        }
        // The random choices of a shard follow from the seed as well.
        fastrand::seed(self.plan.seed ^ u64::from(self.life) << 48);
        let layout = Layout {
            sinks: config.sinks.len(),
            clusters: config.clusters.len(),
            listeners: config.listeners.len(),
            sources: config.sources.len(),
            rules: config.rules.len(),
            bridges: config.bridges.len(),
        };
        let slots = Arc::new(Slots::of(&config));
        let peers = crate::instances::peers(&config, &slots);
        let (post, _mailboxes) = forebay::runtime::mailboxes(shards, 16).expect("mailboxes");
        let (resolver, _) = channel();
        let (tell, notices) = channel();
        let (posts, letters): (Vec<_>, Vec<_>) = config.sinks.iter().map(|_| channel()).unzip();
        let files = config
            .sinks
            .iter()
            .zip(posts)
            .map(|(sink, post)| sink.dead_letters.as_ref().and_then(|dead| dead.file.as_ref()).map(|_| post));
        let around = Surroundings {
            config: Arc::clone(&config),
            post,
            resolver,
            sasl: channel().0,
            journal: Arc::default(),
            notices: tell,
            tally: Default::default(),
            shares: Default::default(),
            edge: Default::default(),
            verifiers: None,
            dead_letters: Ways { sinks: files.collect(), bridges: Vec::new() },
            interest: Arc::default(),
            shared_subscriptions: Arc::default(),
            lost_before: Default::default(),
            rules: self.rules,
            app: None,
            machine: Arc::new(forebay::rule::around::Machine::bare()),
            bans: Arc::default(),
            slots: Arc::clone(&slots),
            peers: Arc::clone(&peers),
        };
        let moving = Moving::default();
        let disks = std::mem::take(&mut self.disks);
        let mut disks = disks.into_iter();
        let mut hosts = Vec::new();
        for index in 0..shards {
            let board = Arc::new(Board::new(layout));
            let core = Core::new(index, around.clone(), Arc::clone(&board));
            let disk = disks.next().expect("a disk for each shard");
            let mut ring = Ring::new((index, shards), disk, Moving::clone(&moving));
            let has_layers = self.plan.layers != Layers::None;
            ring.busy = has_layers.then(|| stream(self.plan.seed, &format!("busy {index} {}", self.life)));
            let is_full = has_layers && stream(self.plan.seed, "mailboxes").u8(..3) == 0;
            let has_members = self.plan.members > 0;
            ring.short = has_members.then(|| stream(self.plan.seed, &format!("short {index} {}", self.life)));
            ring.full = is_full.then(|| stream(self.plan.seed, &format!("full {index} {}", self.life)));
            let (inbox, moved) = (VecDeque::new(), Vec::new());
            hosts.push(Host { core, ring, board, inbox, moved, wake_at: Some(self.time), turns: Turns::default() });
        }
        self.disks = disks.collect();
        let started_at = self.time;
        self.left_at_door = 0;
        // Under another bound there may be more rows than it allows.
        let sizes = |life: &Settings| life.spool.map(|spool| (spool.segment_bytes, spool.segments_max, spool.share));
        let same = self.lives.iter().all(|life| sizes(life) == sizes(&self.settings));
        let share = config.spool.as_ref().map(|spool| spool.sink_bytes_max).filter(|_| same);
        let kept_log = config.kept_log();
        let kept_max = kept_log.as_ref().map_or(0, |log| log.kept_max() as u64 / 2);
        let segments_max = kept_log.as_ref().map_or(0, |log| log.segments_max);
        let (stopping, started, waiting) = (false, 0, 0);
        self.process = Some(Process {
            hosts,
            layout,
            slots,
            peers,
            started_at,
            boot: self.boot,
            share,
            kept_max,
            segments_max,
            stopping,
            started,
            waiting,
            notices,
            letters,
            moving,
            mail: (0..shards).map(|_| Line::default()).collect(),
        });
        let sinks: Vec<_> = self.settings.sinks.iter().map(|sink| (sink.buffer, sink.level)).collect();
        let spool = self.settings.spool.map(|spool| (spool.segment_bytes, spool.segments_max, spool.when_full));
        self.note(|| format!("process starts: {shards} shards, {sinks:?}, {spool:?}"));
        for shard in 0..shards {
            self.begin(shard);
        }
        self.look_at_notices();
        if self.kill_after_turns == Some(0) {
            self.kill_again();
        }
    }

    fn begin(&mut self, shard: usize) {
        let (time, now, wall) = self.clocks();
        let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else { return };
        host.wake_at = None;
        (host.ring.now, host.ring.wall, host.ring.disk.time) = (now, wall, time);
        host.core.on_start(&mut host.ring);
        host.ring.disk.started = true;
        host.ring.disk.turn_ended();
        self.collect(shard);
    }

    /// Simulated time, and the readings of the clocks of the process's machine.
    pub(crate) fn clocks(&self) -> (u64, Monotonic, i64) {
        let boot = self.process.as_ref().map_or(self.boot, |process| process.boot);
        (self.time, Monotonic(self.time - boot + UPTIME), wall_ms(self.time) + self.clock_ahead_ms)
    }

    fn look_at_notices(&mut self) {
        let Some(process) = &self.process else { return };
        let notices: Vec<Notice> = process.notices.try_iter().collect();
        for notice in notices {
            match notice {
                Notice::Failed { shard, why } => {
                    self.note(|| format!("start of shard {shard} refused: {why}"));
                    self.start_refused(why);
                }
                Notice::Drained { shard, rows_left, rows_kept, .. } => {
                    self.note(|| format!("shard {shard} drained: {rows_left} rows left, {rows_kept} kept"));
                    self.judge.rows_left += rows_left;
                    self.judge_stop(shard, rows_left);
                }
                Notice::Started(_) => self.shard_started(),
                Notice::SourcesOver(_) if self.has_instances() => self.instance_reads_no_more(),
                Notice::SourcesOver(_) => self.sources_over(),
                Notice::Waiting(_) => self.shard_waits(),
                Notice::LogLost { shard, why } => return self.log_lost(shard, &why),
                Notice::Group(_)
                | Notice::SlotTaken(_)
                | Notice::SlotUnreadable(_)
                | Notice::SlotReleased(_)
                | Notice::SlotLost(_) => {
                    self.hear_of_slots(notice);
                }
                Notice::Reconfigured(_) | Notice::LogTrouble { .. } => {}
            }
        }
    }

    /// Handles a refused start as an operator would: reads the reason, and starts the process again where that helps.
    fn start_refused(&mut self, why: String) {
        // Rows are left of a sink that is in memory now: its buffer is put back.
        let in_memory = why.contains("its buffer is now \"memory\"");
        let reads_fail = self.disk_reads_fail() && why.contains("the disk cannot read it");
        // A damaged spool may refuse a start, but only for this reason.
        if self.damaged && why.contains("no readable checkpoint") {
            return self.moves_spool_away();
        }
        if in_memory && self.lives.iter().any(|life| life.sinks.iter().any(|sink| sink.buffer != Buffer::Memory)) {
            self.put_buffers_back();
        } else if !(reads_fail && self.judge.tolerates(Tolerated::StartUnreadable)) {
            return self.judge.start_refused(why);
        }
        let mut rng = self.crash_rng.clone();
        self.crash(End::Kill, &mut rng);
        self.crash_rng = rng;
    }

    /// Moves the spool away, as an operator who has read the reason would: its contents are lost. The process starts
    /// again.
    fn moves_spool_away(&mut self) {
        self.note(|| "the spool is moved away".to_owned());
        let answered = (0u32..).zip(&self.messages).filter(|(_, message)| message.sends > 0);
        self.judge.excused.extend(answered.map(|(number, _)| number));
        let mut rng = self.crash_rng.clone();
        self.crash(End::Kill, &mut rng);
        self.crash_rng = rng;
        self.disks.clear();
        self.data_dir = None;
        self.sessions_may_be_gone();
        self.subscriptions_gone();
        if self.lives.len() < self.life as usize {
            // The refused start made no process.
            self.life -= 1;
            self.schedule(self.time + MS, Event::Start);
        }
    }

    /// Gives sinks that are in memory now their previous buffer.
    pub(crate) fn put_buffers_back(&mut self) {
        for (index, sink) in self.settings.sinks.iter_mut().enumerate() {
            let before = self.lives.iter().rev().map(|life| &life.sinks[index]);
            if let Some(before) = before.filter(|_| sink.buffer == Buffer::Memory).find(|b| b.buffer != Buffer::Memory)
            {
                (sink.buffer, sink.level) = (before.buffer, before.level);
            }
        }
    }

    fn disk_reads_fail(&mut self) -> bool {
        (0..self.shards()).any(|shard| self.disk_mut(shard).is_some_and(|disk| disk.health.reads_fail))
    }

    /// Counts a shard that waits. The requests to Kafka for `[broker]` begin once every shard waits.
    fn shard_waits(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.waiting += 1;
        if process.waiting < process.hosts.len() {
            return;
        }
        if self.has_instances() { self.prepare_instance() } else { self.prepare_broker() }
    }

    /// Counts a shard that has started. Clients are accepted once every shard has, as in the service.
    fn shard_started(&mut self) {
        let Some(process) = &mut self.process else { return };
        process.started += 1;
        let shards = process.hosts.len();
        if process.started < shards {
            return;
        }
        if self.has_instances() {
            self.instance_started();
        } else {
            self.give_retained();
            (0..shards).for_each(|shard| self.put(shard, In::Mail(Mail::Shard(ToShard::Accept))));
        }
    }
}
