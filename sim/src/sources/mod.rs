//! Runs with sources: other programs write records into Kafka topics, and join and leave the sources' groups; clients subscribe to the
//! messages of the records. `judge/sources.rs` judges.

pub mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use forebay::record::murmur2;
use forebay::shard::mail::{Mail, ToShard};

use crate::faults::Fault;
use crate::judge::sources::Judged;
use crate::kafka::coordinator::OFFSETS_TOPIC;
use crate::kafka::foreign::ForeignRecord;
use crate::plan::NO_SINK;
use crate::plan::broker::ODD;
use crate::process::{End, In};
use crate::time::{MS, S, stream};
use crate::world::{Event, World};

use self::plan::{DEVICES, Reading};

/// The number of the first record. Messages of devices have lower numbers.
pub(crate) const FIRST_RECORD: u32 = 1_000_000;
/// Time for which the members of a group that a crash has left keep its partitions, and a little more.
const SESSION: u64 = 50 * S;

/// A record of another program.
#[derive(Debug)]
pub(crate) struct Record {
    /// Index of the source that reads the record.
    pub(crate) source: usize,
    /// Kafka topic and partition.
    pub(crate) at: (String, i32),
    /// Index of the batch in its cluster, and index of the record in the batch.
    batch: (usize, i64),
    /// MQTT topic of the record's message.
    pub(crate) topic: String,
    /// QoS of the record's message.
    pub(crate) qos: u8,
    /// Payload of the record's message.
    pub(crate) payload: Vec<u8>,
    /// Whether the record is a bad record.
    pub(crate) is_bad: bool,
    /// Whether the record's message has RETAIN.
    pub(crate) retain: bool,
    pub(crate) written_at: u64,
}

/// The state of a run with sources.
#[derive(Debug)]
pub(crate) struct Sources {
    /// All records, by number from [`FIRST_RECORD`] on.
    pub(crate) records: Vec<Record>,
    /// Numbers of each partition's records, in the order of writing.
    pub(crate) by_partition: BTreeMap<(String, i32), Vec<u32>>,
    rng: fastrand::Rng,
    pub(crate) judged: Judged,
    /// Whether the slow subscriber acknowledges nothing.
    is_holding: bool,
    /// Number of shards that still read, and the grace of the drain that follows.
    ending: Option<(usize, Duration)>,
}

impl Sources {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            records: Vec::new(),
            by_partition: BTreeMap::new(),
            rng: stream(seed, "records"),
            judged: Judged::default(),
            is_holding: false,
            ending: None,
        }
    }
}

impl World {
    /// Starts the other programs' writing.
    pub(crate) fn sources_begin(&mut self) {
        let Some(reading) = self.plan.reading else { return };
        for (index, cluster) in self.clusters.iter_mut().enumerate() {
            cluster.serve_consumers(reading.with_sessions, 0);
            let sources = self.settings.sources.iter().filter(|source| source.cluster == index);
            sources.flat_map(|source| &source.topics).for_each(|topic| cluster.create(topic, reading.partitions, 0));
        }
        self.schedule(0, Event::Write);
    }

    /// Writes a batch of another program, if faults last and records are left.
    pub(crate) fn write_records(&mut self) {
        let Some(reading) = self.plan.reading.filter(|_| !self.storm_over) else { return };
        if self.sources.records.len() < reading.records {
            self.write_batch(reading);
        }
        let next = self.sources.rng.u64(..reading.pace * 4);
        self.schedule(self.time + next, Event::Write);
    }

    fn write_batch(&mut self, reading: Reading) {
        let is_retaining = self.settings.broker.is_some() && self.plan.retains;
        let rng = &mut self.sources.rng;
        let source = rng.usize(..self.settings.sources.len());
        let plan = &self.settings.sources[source];
        let topic = plan.topics[rng.usize(..plan.topics.len())].clone();
        let device = rng.usize(..DEVICES);
        let level = ["even", "odd", NO_SINK][rng.usize(..3)];
        let mqtt = format!("d{device}/{level}");
        let has_route = self.settings.broker.is_some_and(|broker| broker.has_route);
        let is_in_its_route = (topic == ODD) == (has_route && level == "odd");
        let (count, bad) = (rng.usize(1..5), reading.has_bad && rng.u8(..6) == 0);
        let first = self.sources.records.len();
        let cluster = &mut self.clusters[plan.cluster];
        let Some(partitions) = cluster.topics.get(&topic).map(|topic| topic.partitions.len()) else { return };
        let partition = murmur2::partition(mqtt.as_bytes(), partitions);
        let mut records = Vec::new();
        let mut written = Vec::new();
        for place in 0..count {
            let number = FIRST_RECORD + (first + place) as u32;
            let mut payload = format!("m{number} ").into_bytes();
            payload.extend(std::iter::repeat_n(b'.', rng.usize(..200)));
            let qos = rng.u8(..3);
            // A record without a key has no topic; no other QoS is valid.
            let (is_bad, key, said) = match (bad, rng.u8(..4)) {
                (true, 0) => (true, None, qos.to_string()),
                (true, 1) => (true, Some(mqtt.clone()), "9".to_owned()),
                (true, 2) => (true, Some(format!("{mqtt}/#")), qos.to_string()),
                _ => (false, Some(mqtt.clone()), qos.to_string()),
            };
            // An MQTT topic with records in two Kafka topics has no last record.
            let retain = is_retaining && rng.u8(..3) == 0 && is_in_its_route;
            let retained = retain.then(|| ("mqtt-retain", "true".to_owned()));
            let headers = [("mqtt-qos", said)].into_iter().chain(retained).collect();
            records.push(ForeignRecord { key, value: payload.clone(), headers });
            written.push((qos, payload, is_bad, retain));
        }
        let Some(batch) = cluster.append_records(&topic, partition, &records, self.time) else { return };
        let at = (topic, partition as i32);
        self.note(|| format!("{count} records from {} on, {mqtt}: {at:?}", FIRST_RECORD + first as u32));
        for (place, (qos, payload, is_bad, retain)) in (0..).zip(written) {
            let number = FIRST_RECORD + self.sources.records.len() as u32;
            self.sources.by_partition.entry(at.clone()).or_default().push(number);
            let (topic, at, batch) = (mqtt.clone(), at.clone(), (batch, place));
            let record = Record { source, at, batch, topic, qos, payload, is_bad, retain, written_at: self.time };
            self.sources.records.push(record);
        }
    }

    /// A record by its number.
    pub(crate) fn record(&self, number: u32) -> Option<&Record> {
        self.sources.records.get(number.checked_sub(FIRST_RECORD)? as usize)
    }

    /// The offset of a record; `None`: it was lost with a leader.
    pub(crate) fn offset_of(&self, record: &Record) -> Option<i64> {
        let (batch, place) = record.batch;
        let entry = &self.clusters[self.settings.sources[record.source].cluster].entries[batch];
        (entry.state == crate::kafka::State::There).then_some(entry.base_offset + place)
    }

    // ---- faults ----

    /// Lets a member of another program join a source's group, or all such members leave.
    pub(crate) fn rebalance(&mut self, rng: &mut fastrand::Rng) {
        let which = rng.usize(..self.settings.sources.len());
        let (time, cluster) = (self.time, self.settings.sources[which].cluster);
        let (group, topics) = (self.settings.sources[which].group(), self.settings.sources[which].topics.clone());
        let Some(group) = self.clusters[cluster].group_mut(&group, &topics) else { return };
        if !group.foreign_leave(time) {
            group.foreign_joins(time);
        }
        self.clusters[cluster].look_at_groups(time);
    }

    /// Moves the coordinator to another broker.
    pub(crate) fn move_coordinator(&mut self, cluster: usize) {
        self.clusters[cluster].move_leader(OFFSETS_TOPIC, 0, self.time);
    }

    /// Makes members of other programs leave for good.
    fn foreign_members_leave(&mut self) {
        let time = self.time;
        for which in 0..self.settings.sources.len() {
            let (cluster, topics) = (self.settings.sources[which].cluster, self.settings.sources[which].topics.clone());
            let group = self.settings.sources[which].group();
            if let Some(group) = self.clusters[cluster].group_mut(&group, &topics) {
                group.foreign_leave(time);
            }
            self.clusters[cluster].look_at_groups(time);
        }
    }

    // ---- subscribers ----

    /// Whether a subscriber stays with its filters and its session.
    pub(crate) fn is_steady(&self, index: usize) -> bool {
        index == 0 && self.plan.reading.is_some_and(|reading| reading.has_steady)
    }

    /// Whether a subscriber acknowledges nothing in this step.
    pub(crate) fn holds_back(&mut self, index: usize) -> bool {
        let is_slow = self.plan.reading.is_some_and(|reading| reading.has_slow) && index + 1 == self.plan.subscribers;
        if !is_slow {
            return false;
        }
        if self.storm_over { self.sources.is_holding } else { self.sources.rng.u8(..20) > 0 }
    }

    /// Adds a client that subscribes to everything.
    fn add_subscriber_of_all(&mut self) {
        let index = self.subscribers.len();
        let rng = stream(self.plan.seed, "subscriber of all");
        self.subscribers.push(crate::subscriber::Subscriber::of_all(index, rng));
        self.schedule(self.time, Event::Subscriber(index));
    }

    // ---- the end ----

    /// Stops the process with SIGTERM; if there are sources, they end first.
    pub(crate) fn end_sources(&mut self, grace: Duration) {
        let shards = self.shards();
        self.sources.ending = Some((shards, grace));
        (0..shards).for_each(|shard| self.put(shard, In::Mail(Mail::Shard(ToShard::EndSources))));
        let at = self.time + crate::time::ns(grace.min(Duration::from_secs(12)));
        self.schedule(at, Event::Drain(self.life));
    }

    /// Notes that a shard reads nothing any more.
    pub(crate) fn sources_over(&mut self) {
        let Some((waiting, _)) = &mut self.sources.ending else { return };
        *waiting -= 1;
        if *waiting == 0 {
            self.drain(self.life);
        }
    }

    /// Begins the drain, unless it has begun.
    pub(crate) fn drain(&mut self, life: u32) {
        if life != self.life || self.process.is_none() {
            return;
        }
        if let Some((_, grace)) = self.sources.ending.take() {
            (0..self.shards()).for_each(|shard| self.put(shard, In::Mail(Mail::Shard(ToShard::Drain { grace }))));
        }
    }

    /// Notes the end of the process.
    pub(crate) fn sources_ended(&mut self) {
        self.sources.ending = None;
    }

    /// Ends faults for subscribers: a client subscribes to everything that waits for a subscriber, and the slow one holds back its
    /// acknowledgements as long as others are still missing messages (F8).
    pub(crate) fn sources_calm_down(&mut self) {
        self.foreign_members_leave();
        if self.settings.sources.iter().any(|source| source.waits) {
            self.add_subscriber_of_all();
        }
        self.sources.is_holding = self.plan.reading.is_some_and(|reading| reading.has_slow);
        let calm = self.time;
        while self.sources.is_holding && self.judge.is_well() {
            if self.others_have_theirs() {
                self.sources.is_holding = false;
            } else if self.time - calm > 150 * S {
                let state = self.state();
                self.judge.fails("F8", format!("a slow subscriber holds others back\n{state}"));
            }
            self.run_until(self.time + 100 * MS);
        }
    }

    /// In one run of three, stops the process as soon as nothing is open any more, before it would have committed that.
    pub(crate) fn sources_stop_early(&mut self) {
        let mut rng = stream(self.plan.seed, "early stop");
        // A topic that could not be read is tried again half a minute later.
        let is_unread = self.plan.faults.iter().any(|(fault, _)| *fault == Fault::ForbidReading);
        if rng.u8(..3) > 0 || is_unread {
            return;
        }
        let calm = self.time;
        // Nothing must be open for a second: the contents of a partition are not known before the first read.
        let mut since = self.time;
        while self.time < since + S {
            // Dropped messages, and messages that wait at a broker, are judged later.
            if !self.judge.is_well() || self.time - calm > 110 * S {
                return;
            }
            self.run_until(self.time + 20 * MS);
            if !self.has_nothing_open() {
                since = self.time;
            }
        }
        let ends = self.judge.ends.len();
        if let Some(process) = self.process.as_mut().filter(|process| !process.stopping) {
            process.stopping = true;
            self.end_sources(Duration::from_secs(12));
            self.run_until(self.time + 15 * S);
            // A process that stood still may have taken the place in the group since, and reading has gone back to its commits.
            if self.judge.ends.len() > ends && !self.broker.had_others {
                self.judge_last_commit();
            }
        }
    }

    /// Runs until everything is read and acknowledged, and checks that it stays so when the process ends once more.
    pub(crate) fn sources_come_to_rest(&mut self) {
        loop {
            let life = self.life;
            self.hear_nothing_more();
            // A process that began in the last moment reads again from the positions of its slots, and its commits go back
            // accordingly.
            self.run_until_over();
            if self.life == life || !self.judge.is_well() {
                break;
            }
        }
        self.judge_sources();
        self.judge_queues();
        self.judge_retained_topic();
        if !self.judge.is_well() {
            return;
        }
        self.note_taken_back();
        self.judge.is_at_rest = true;
        let mut rng = stream(self.plan.seed, "last end");
        match rng.u8(..3) {
            0 => self.stop_in_order(&mut rng),
            1 if self.settings.broker.is_some() => self.crash(End::MachineLost, &mut rng),
            1 => self.crash(End::Kill, &mut rng),
            _ => self.crash(End::PowerCut, &mut rng),
        }
        self.run_until(self.time + SESSION);
        self.run_until_over();
        self.hear_nothing_more();
        self.judge_queues();
    }
}
