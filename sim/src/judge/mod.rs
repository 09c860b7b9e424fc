//! The checks of a run: at each answer, at each turn, while faults last, and in the end.

mod broker;
mod end;
pub(crate) mod instances;
mod liveness;
pub mod shares;
pub(crate) mod sources;
pub mod subscribers;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use forebay::metrics::spec::{ClusterMetric, ListenerMetric, ShardMetric, SinkMetric};

use crate::device::Message;
use crate::expected::{TOLERATED, Tolerated};
use crate::plan::{Buffer, Level, SinkPlan};
use crate::process::{End, Process};
use crate::time::S;
use crate::world::World;

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Kind of the failure: I1 to I10, fenced, loss, double, order, early, session, subscriber, J1 to J11, ledger, memory, progress, liveness, receipt,
    /// refused, time, share, stop, spin, start, panic.
    pub what: &'static str,
    /// The failure in words.
    pub text: String,
}

/// A sink's counters, over all of its processes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counted {
    pub(crate) expired: u64,
    pub(crate) dropped: u64,
    pub(crate) rotten: u64,
    pub(crate) refused: u64,
    pub(crate) unknown: u64,
    pub(crate) dead: u64,
    pub(crate) lost: u64,
}

/// The judge of a run.
#[derive(Debug)]
pub struct Judge {
    failure: Option<Failure>,
    /// Ends of the processes, from the first on.
    pub ends: Vec<End>,
    /// Number of rows that orderly stops have left.
    pub rows_left: u64,
    /// Number of rows in files of dead letters, by message and sink.
    pub filed: HashMap<(u32, u8), u32>,
    pub(crate) file_clear: HashMap<usize, u64>,
    /// Counters of processes that have ended, by sink.
    pub past: Vec<Counted>,
    /// Refused starts, if they are expected.
    pub refusals: Option<Vec<String>>,
    pub(crate) progress: BTreeMap<(u8, String, usize), u64>,
    pub(crate) waiting: Vec<(u32, u8)>,
    /// Numbers of receipts with an offset, and without.
    pub receipts: [u64; 2],
    /// Number of starts with another number of shards.
    pub moved: u64,
    /// Whether liveness is judged while faults last.
    pub live: bool,
    /// Messages that may be missing: the bytes with them were destroyed.
    pub excused: BTreeSet<u32>,
    /// Messages that subscribers may get again, or late: the bytes with their ends were destroyed.
    pub again: BTreeSet<u32>,
    /// Packet identifiers of publishers' exchanges with a destroyed end: a message with such an identifier may be taken for a
    /// repeat.
    pub exchanges_in_doubt: BTreeSet<u16>,
    /// The process, and the last time at which a log of it may have had no room, as answers have shown.
    pub(crate) full_at: Option<(u32, u64)>,
    /// Messages that were sent or answered while a log may have had no room for them. The next field: those of them that a session of a
    /// subscriber, by index, had in memory alone when the process ended.
    pub(crate) tight: BTreeSet<u32>,
    pub(crate) unstored: BTreeSet<(usize, u32)>,
    /// Whether known faults are tolerated where their cause occurred.
    pub lenient: bool,
    /// Known faults that were tolerated.
    pub tolerated: BTreeSet<Tolerated>,
    /// Whether all subscribers have acknowledged all copies.
    pub is_at_rest: bool,
    /// Messages for subscribers that ended processes have dropped for want of room.
    pub copies_dropped: u64,
    /// Processes that had messages for subscribers in memory alone, because a log had no room.
    pub(crate) unstored_in: BTreeSet<u32>,
    /// Processes that may have refused messages: a log, or a sink's share of it, had no room.
    pub(crate) full_in: BTreeSet<u32>,
}

impl Judge {
    /// A judge of a run that has not begun.
    #[must_use]
    pub fn new(sinks: usize) -> Self {
        Self {
            failure: None,
            ends: Vec::new(),
            rows_left: 0,
            filed: HashMap::new(),
            file_clear: HashMap::new(),
            past: vec![Counted::default(); sinks],
            refusals: None,
            progress: BTreeMap::new(),
            waiting: Vec::new(),
            receipts: [0; 2],
            moved: 0,
            live: true,
            excused: BTreeSet::new(),
            again: BTreeSet::new(),
            full_at: None,
            tight: BTreeSet::new(),
            unstored: BTreeSet::new(),
            exchanges_in_doubt: BTreeSet::new(),
            lenient: true,
            tolerated: BTreeSet::new(),
            is_at_rest: false,
            copies_dropped: 0,
            unstored_in: BTreeSet::new(),
            full_in: BTreeSet::new(),
        }
    }

    /// Notes a failure; only the first one counts.
    pub fn fails(&mut self, what: &'static str, text: String) {
        self.failure.get_or_insert(Failure { what, text });
    }

    /// Whether there was no failure so far.
    #[must_use]
    pub const fn is_well(&self) -> bool {
        self.failure.is_none()
    }

    /// The first failure.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Tolerates a consequence of a known fault, if the run is lenient. The cause must have occurred.
    pub(crate) fn tolerates(&mut self, what: Tolerated) -> bool {
        let tolerates = self.lenient && TOLERATED.iter().any(|(known, _)| *known == what);
        if tolerates {
            self.tolerated.insert(what);
        }
        tolerates
    }

    pub(crate) fn start_refused(&mut self, why: String) {
        match &mut self.refusals {
            Some(refusals) => refusals.push(why),
            None => self.fails("start", format!("refused: {why}")),
        }
    }

    pub(crate) fn process_ended(&mut self, process: &Process, how: End, life: u32) {
        self.ends.push(how);
        if process.number(ShardMetric::CopiesUnstored) > 0 {
            self.unstored_in.insert(life);
        }
        self.copies_dropped += subscribers::dropped(process);
        for (sink, past) in self.past.iter_mut().enumerate().take(process.layout.sinks) {
            past.add(process, sink);
        }
    }
}

impl Counted {
    fn add(&mut self, process: &Process, sink: usize) {
        let of = |metric| process.sink(sink, metric);
        self.expired += of(SinkMetric::Expired);
        self.dropped += of(SinkMetric::DroppedOldest);
        self.rotten += of(SinkMetric::DroppedCorrupt);
        self.refused += of(SinkMetric::Refused);
        self.unknown += of(SinkMetric::OutcomeUnknown);
        self.dead += of(SinkMetric::DeadLettered);
        self.lost += of(SinkMetric::AcknowledgedLostRecords);
    }
}

impl World {
    /// A sink's counters so far.
    #[must_use]
    pub fn counted(&self, sink: usize) -> Counted {
        let mut counted = self.judge.past[sink];
        if let Some(process) = self.process.as_ref().filter(|process| sink < process.layout.sinks) {
            counted.add(process, sink);
        }
        counted
    }

    /// Whether a message of a sink is in its dead letters.
    #[must_use]
    pub fn is_dead_lettered(&self, message: u32, sink: u8) -> bool {
        let plan = &self.settings.sinks[usize::from(sink)];
        let topic = plan.dead_topic();
        self.clusters[plan.cluster].copies(message, sink).any(|entry| entry.place.0 == topic)
            || self.judge.filed.contains_key(&(message, sink))
    }

    /// Whether Kafka has the rows that an answer of this sink promises. A promise of the disk is checked later.
    fn is_at_its_level(&self, message: u32, sink: usize) -> bool {
        let plan = &self.settings.sinks[sink];
        let kafka = &self.clusters[plan.cluster];
        let name = plan.kafka_topic(&self.messages[message as usize].topic);
        let mut copies = kafka.copies(message, sink as u8).filter(|entry| entry.place.0 == name);
        match plan.level {
            Level::Received | Level::Stored => true,
            Level::Leader => copies.next().is_some(),
            Level::Replicated => copies.any(|entry| kafka.is_replicated(entry)),
        }
    }

    /// Checks an answered message: it must be where its sinks promise.
    pub(crate) fn judge_answer(&mut self, message: u32, success: bool) {
        if self.is_traced() {
            let Message { qos, topic, sends, attempts, .. } = &self.messages[message as usize];
            let text = format!(
                "message {message} answered, success {success}: QoS {qos}, {topic}, {sends} sends, {attempts:?}"
            );
            self.note(|| text);
        }
        if !success {
            return;
        }
        if self.process.as_ref().is_some_and(subscribers::may_be_full) {
            self.judge.full_at = Some((self.life, self.time));
        }
        let sent_at = self.messages[message as usize].sent_at;
        if self.judge.full_at.is_some_and(|(life, at)| life == self.life && sent_at <= at) {
            self.judge.tight.insert(message);
        }
        self.judge_route(message);
        let topic = self.messages[message as usize].topic.clone();
        for sink in 0..self.settings.sinks.len() {
            let plan = &self.settings.sinks[sink];
            if !self.settings.takes(sink, &topic) {
                continue;
            }
            let (level, expires) = (plan.level, plan.expire_ms.is_some());
            if level == Level::Stored {
                self.judge.waiting.push((message, sink as u8));
            }
            let there = self.is_at_its_level(message, sink);
            let dead = self.is_dead_lettered(message, sink as u8);
            // A message that was dropped to make room counts as taken; how many may be dropped is checked at the end.
            let excused = expires || self.may_drop() || self.judge.excused.contains(&message);
            if !there && !dead && !excused {
                let text = format!("message {message} was answered at {level:?}, and sink {sink} does not have it");
                self.judge.fails("early", text);
            }
        }
    }

    /// Checks that an orderly stop of a shard leaves no row of sinks that are on the disk, or saved to it, if the disk
    /// works.
    pub(crate) fn judge_stop(&mut self, shard: usize, rows_left: u64) {
        let saved = |sink: &SinkPlan| matches!(sink.buffer, Buffer::Disk | Buffer::HybridSaved);
        let well = self.disks_sick_until.saturating_add(10 * S) < self.time;
        // Rows that have gone on to the dead letters from memory alone are left.
        let refused = self.plan.poison || !self.refused.is_empty();
        // Wills that find no room are left, and are no rows of a sink yet.
        let host = self.process.as_ref().and_then(|process| process.hosts.get(shard));
        let wills = host.map_or(0, |host| host.board.read()[ShardMetric::WillsWaiting as usize]);
        let has_broker = self.settings.broker.is_some();
        if rows_left > wills && well && !refused && !has_broker && self.settings.sinks.iter().all(saved) {
            self.judge.fails("stop", format!("{rows_left} rows were left though all sinks are saved"));
        }
    }

    /// Checks that the published counters of each shard are consistent.
    pub(crate) fn check_board(&mut self, boards: &[Vec<u64>]) {
        let Some(process) = &self.process else { return };
        let all = |metric: ShardMetric| boards.iter().map(|values| values[metric as usize]).sum::<u64>();
        if subscribers::is_log_full(process, boards) || all(ShardMetric::PublishesRefused) > 0 {
            self.judge.full_in.insert(self.life);
        }
        let (mut wrong, mut over) = (None, None);
        let (late, refused) = (all(ShardMetric::ConnectTimeouts), all(ShardMetric::ConnectionsMoveRefused));
        if refused > 0 {
            wrong = Some(("moves", format!("{refused} connections lost, since a mailbox was full for a while")));
        }
        // With `[broker]` a session begins when Kafka is back.
        if late > self.left_at_door && self.settings.broker.is_none() {
            let left = self.left_at_door;
            wrong = Some(("door", format!("{late} waited for CONNACK until the time-out, {left} had left")));
        }
        for values in boards {
            let layout = process.layout;
            for sink in 0..layout.sinks {
                let sum =
                    |side: &[SinkMetric]| side.iter().map(|metric| values[layout.sink(sink, *metric)]).sum::<u64>();
                let (came, went) = (sum(&SinkMetric::IN), sum(&SinkMetric::OUT));
                let of = |metric| values[layout.sink(sink, metric)];
                let held = of(SinkMetric::SpoolBytes);
                if let Some(share) = process.share.filter(|share| held > *share) {
                    over = over.max(Some((held - share, sink)));
                }
                if came != went {
                    wrong = Some(("ledger", format!("sink {sink}: {came} came in, {went} accounted for")));
                }
            }
            for cluster in 0..layout.clusters {
                let of = |metric| values[layout.cluster(cluster, metric)];
                let (used, bound) = (of(ClusterMetric::BufferBytes), of(ClusterMetric::BufferBytesMax));
                if used > bound {
                    wrong = Some(("memory", format!("cluster {cluster}: {used} bytes of {bound}")));
                }
            }
            let of = |metric: ShardMetric| values[metric as usize];
            let received: u64 = [ShardMetric::PublishesQos0, ShardMetric::PublishesQos1, ShardMetric::PublishesQos2]
                .map(of)
                .iter()
                .sum();
            let ends: u64 =
                [ShardMetric::PublishesMatched, ShardMetric::PublishesUnmatched, ShardMetric::PublishesRefused]
                    .map(of)
                    .iter()
                    .sum();
            let others = of(ShardMetric::Wills) + of(ShardMetric::PublishesOrdered);
            if received + others != ends {
                wrong =
                    Some(("ledger", format!("the shard: {received} publishes, {others} others, {ends} accounted for")));
            }
            let sum = |side: &[ShardMetric]| side.iter().map(|metric| of(*metric)).sum::<u64>();
            let (came, went) = (sum(&ShardMetric::COPIES_IN), sum(&ShardMetric::COPIES_OUT));
            if came != went {
                let of =
                    ShardMetric::COPIES_IN.iter().chain(&ShardMetric::COPIES_OUT).map(|metric| (metric, of(*metric)));
                let all: Vec<_> = of.filter(|(_, value)| *value > 0).collect();
                wrong = Some(("ledger", format!("{came} copies began, {went} are accounted for: {all:?}")));
            }
            let listeners =
                (0..layout.listeners).map(|listener| values[layout.listener(listener, ListenerMetric::Received)]);
            if listeners.sum::<u64>() != received {
                wrong = Some(("ledger", "listeners and shard differ".to_owned()));
            }
        }
        if let Some((bytes, sink)) = over
            && !(bytes <= 4 * self.settings.record_bytes_max && self.judge.tolerates(Tolerated::ShareOverrun))
        {
            self.judge.fails("share", format!("sink {sink} holds {bytes} bytes more than its share"));
        }
        if let Some((what, text)) = wrong {
            self.judge.fails(what, text);
        }
    }
}
