//! Replays: records of the past of the topics of `[broker]`, for one subscription, on the shard of its session. Each replay has a consumer of its own, which
//! reads all partitions of the topics that the filter may match, as far as the client takes their messages. When a partition has been read up to the live
//! records, these are delivered live ([`forebay_broker::delivery::gates`]). When all have, the replay is over.
//!
//! A replay without progress, as its client takes nothing or Kafka sends nothing, gives its place to a waiting one, and continues in its turn: it keeps the
//! offsets, and no records.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use forebay_broker::Broker;
use forebay_broker::delivery::By;
use forebay_broker::delivery::gates::Asked;
use forebay_broker::here::Here;
use forebay_broker::words::{clipped, of_client, second};

use super::reader::assigned;
use super::records::{mapped_record, publish};
use super::requests::{Asker, first_request, next_number};
use super::{Sources, settings};
use crate::Core;
use crate::ring::Ring;
use forebay_base::limits::{RECORD_REPLAY_FETCH_BYTES, RECORD_REPLAYS_AT_ONCE_MAX};
use forebay_config::Source;
use forebay_kafka::client::Client;
use forebay_kafka::consumer::{Consumer, News, Place, Position, Settings, Start, WhyReset};
use forebay_kafka::fetch::{FetchAnswer, FetchFailure};
use forebay_kafka::types::TopicMetadata;
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::inspect;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::filter;
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_record::names::CLIENT_ID;
use forebay_runtime::seam::Monotonic;
use forebay_session::Session;
use forebay_source::{Mapping, Scratch};

/// The time for which a replay keeps its place while others wait, and also one without progress.
const TURN: Duration = Duration::from_secs(10);
const GIVES_WAY: Duration = Duration::from_secs(1);

/// The replays of a shard.
#[derive(Debug, Default)]
pub(super) struct Replays {
    /// The replays by gate number.
    all: BTreeMap<u32, Replay>,
    /// Replays that wait for a place.
    line: VecDeque<u32>,
    /// Replays that have a place, in order of their turns.
    running: VecDeque<u32>,
    /// The cluster of `[broker]`.
    cluster: usize,
    /// The number of the newest consumer.
    consumers: u32,
    /// The gauges as last shown: running, waiting, and bytes.
    shown: [u64; 3],
}

/// The replay of one subscription.
#[derive(Debug)]
struct Replay {
    asked: Asked,
    /// The topics that it reads.
    topics: Vec<Topic>,
    parts: Vec<Part>,
    reading: Option<Reading>,
    /// The time of its last progress.
    moved_at: Monotonic,
}

#[derive(Debug)]
struct Topic {
    /// The index among the topics of the source.
    index: u16,
    name: Rc<str>,
    /// The number of partitions. 0: not known yet, and the first one is read.
    partitions: usize,
}

/// A partition of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    /// The index in [`Replay::topics`].
    topic: usize,
    partition: i32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The first offset is not known yet.
    Begins,
    /// The partition is read, and this is its next record.
    Read(Position),
    /// The partition is no longer read: its messages are delivered live.
    Live,
}

/// The consumer of a replay that has a place.
#[derive(Debug)]
struct Reading {
    consumer: Consumer,
    /// The channel of its connections.
    line: u8,
    /// Whether Kafka has answered since the replay was last run.
    is_told: bool,
    begun_at: Monotonic,
}

/// The state for making messages of records.
struct Making<'a> {
    mapping: &'a Mapping,
    scratch: &'a mut Scratch,
}

/// The state of a replay after a step.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// The replay has used up the turn.
    Spent,
    /// The replay waits for Kafka, or for its client.
    Waits,
    /// All partitions are delivered live.
    Over,
    /// The replay cannot continue: the topic and partition, and the reason.
    Aborted(usize, &'static str),
}

/// The reason why a replay cannot continue.
const OTHER_LOG: &str = "the topic was recreated, or has lost records (an unclean election)";
const STOPPED: &str = "the topic is gone, or has a batch that cannot be read or is larger than 8 MiB";

impl Replays {
    /// Whether there are none.
    pub(super) fn are_none(&self) -> bool {
        self.all.is_empty()
    }

    /// The replay with this gate.
    fn shown(&self, gate: u32) -> Option<inspect::Replay> {
        let replay = self.all.get(&gate)?;
        let live = replay.parts.iter().filter(|part| part.stage == Stage::Live).count();
        Some(inspect::Replay { reads: replay.reading.is_some(), partitions: replay.parts.len(), live })
    }

    /// The time at which something is due, if nothing happens before.
    pub(super) fn next_look(&self) -> Monotonic {
        let running = self.running.iter().filter_map(|gate| self.all.get(gate)).filter(|_| !self.line.is_empty());
        running.map(Replay::gives_way_at).min().unwrap_or(Monotonic::NEVER)
    }

    /// Whether replays read from this cluster.
    pub(super) fn are_of(&self, cluster: usize) -> bool {
        !self.are_none() && self.cluster == cluster
    }

    /// The time of a consumer's next request.
    pub(super) fn next_deadline(&self) -> Monotonic {
        self.readings().map(|reading| reading.consumer.next_deadline()).min().unwrap_or(Monotonic::NEVER)
    }

    /// Passes the consumers' requests to the client of the cluster. True: there were some.
    pub(super) fn ask(&mut self, client: &mut Client, now: Monotonic) -> bool {
        // Other readers need the topics of `[broker]`, too: they stay.
        let forgets = |_: &mut Client, _: &str| {};
        self.readings_mut().fold(false, |any, reading| super::ask(&mut reading.consumer, client, now, forgets) | any)
    }

    /// Takes an answer of Kafka.
    pub(super) fn on_answer(&mut self, id: u64, result: Result<FetchAnswer, FetchFailure>, now: Monotonic) {
        let first = first_request(id);
        let reading = self.readings_mut().find(|reading| reading.consumer.first_request() == first);
        if let Some(reading) = reading {
            reading.is_told = true;
            reading.consumer.on_answer(id, result, now);
        }
    }

    pub(super) fn on_metadata(&mut self, topics: &[TopicMetadata], now: Monotonic) {
        for reading in self.readings_mut() {
            reading.is_told = true;
            reading.consumer.on_metadata(topics, now);
        }
    }

    pub(super) fn on_cluster(&mut self, id: &str) {
        self.readings_mut().for_each(|reading| reading.consumer.on_cluster(id));
    }

    fn readings(&self) -> impl Iterator<Item = &Reading> {
        self.all.values().filter_map(|replay| replay.reading.as_ref())
    }

    fn readings_mut(&mut self) -> impl Iterator<Item = &mut Reading> {
        self.all.values_mut().filter_map(|replay| replay.reading.as_mut())
    }

    fn add(&mut self, asked: Asked, source: &Source, now: Monotonic) {
        let names: Vec<&str> = source.routes().map(|(topic, _)| topic).collect();
        let topic = |index: &u16| {
            let name = names.get(usize::from(*index)).copied().unwrap_or_default();
            Topic { index: *index, name: name.into(), partitions: 0 }
        };
        let topics: Vec<Topic> = asked.topics.iter().map(topic).collect();
        let first = |topic| Part { topic, partition: 0, stage: Stage::Begins };
        let parts = (0..topics.len()).map(first).collect();
        self.cluster = source.cluster;
        self.line.push_back(asked.gate);
        self.all.insert(asked.gate, Replay { asked, topics, parts, reading: None, moved_at: now });
    }

    /// Gives free places to replays that wait.
    fn give_places(&mut self, source: &Source, settings: Settings, (seed, now): (u64, Monotonic)) {
        while self.running.len() < RECORD_REPLAYS_AT_ONCE_MAX
            && let Some(gate) = self.line.pop_front()
        {
            let in_use = |line: u8| self.readings().any(|reading| reading.line == line);
            let line = (1..).find(|line| !in_use(*line)).unwrap_or(u8::MAX);
            let asks_from = |first| self.readings().any(|reading| reading.consumer.first_request() == first);
            self.consumers = next_number(self.consumers, |number| asks_from(Asker::Replay.first_request(number)));
            let first_request = Asker::Replay.first_request(self.consumers);
            let fetch_memory = RECORD_REPLAY_FETCH_BYTES;
            let settings = Settings { fetch_memory, line, first_request, ..settings };
            let Some(replay) = self.all.get_mut(&gate) else { continue };
            let consumer = Consumer::new(settings, seed ^ u64::from(gate));
            (replay.reading, replay.moved_at) = (Some(Reading { consumer, line, is_told: true, begun_at: now }), now);
            (0..replay.parts.len()).for_each(|part| replay.assign(part, source));
            self.running.push_back(gate);
        }
    }

    /// Takes their places from replays without progress, or that have had their turn, for those that wait.
    fn give_way(&mut self, now: Monotonic) {
        let all = &mut self.all;
        let goes_on = |gate: &u32| all.get(gate).is_some_and(|replay| now < replay.gives_way_at());
        let (stay, rest): (VecDeque<u32>, VecDeque<u32>) = self.running.drain(..).partition(goes_on);
        self.running = stay;
        for gate in rest {
            if self.line.is_empty() {
                self.running.push_back(gate);
            } else if let Some(replay) = self.all.get_mut(&gate) {
                replay.reading = None;
                self.line.push_back(gate);
            }
        }
    }

    /// Forgets a replay.
    fn remove(&mut self, gate: u32) -> Option<Replay> {
        self.line.retain(|waits| *waits != gate);
        self.running.retain(|runs| *runs != gate);
        self.all.remove(&gate)
    }

    fn set_numbers(&mut self, here: &mut Here) {
        let bytes = self.readings().map(|reading| reading.consumer.memory() as u64).sum();
        let values = [self.running.len() as u64, self.line.len() as u64, bytes];
        if values != self.shown {
            self.shown = values;
            [M::ReplaysRunning, M::ReplaysWaiting, M::ReplayFetchBytes]
                .into_iter()
                .zip(values)
                .for_each(|(metric, value)| here.numbers.set(metric, value));
        }
    }
}

impl Replay {
    /// The time at which the replay gives its place to a waiting one.
    fn gives_way_at(&self) -> Monotonic {
        let turn = self.reading.as_ref().map_or(Monotonic::NEVER, |reading| reading.begun_at.after(TURN));
        self.moved_at.after(GIVES_WAY).min(turn)
    }

    /// Has the consumer read a partition, from its current place.
    fn assign(&mut self, part: usize, source: &Source) {
        let (Some(reading), Some(Part { topic, partition, stage })) = (&mut self.reading, self.parts.get(part)) else {
            return;
        };
        let start = match *stage {
            Stage::Begins => self.asked.start,
            Stage::Read(Position { offset, leader_epoch }) => Start::Offset { offset, leader_epoch },
            // The partition is only read for the number of partitions, which may grow.
            Stage::Live => Start::At(Place::Latest),
        };
        // Records that Kafka no longer has are left out, and the rest is read.
        let (name, places) = (Rc::clone(&self.topics[*topic].name), (start, Place::Earliest));
        reading.consumer.assign(id_of(part), assigned(source, (name, *partition), places));
        if *stage == Stage::Live {
            reading.consumer.pause(id_of(part));
        }
    }

    /// The partition in the form that gates use.
    fn place(&self, part: usize) -> (u16, i32) {
        let Part { topic, partition, .. } = self.parts[part];
        (self.topics[topic].index, partition)
    }

    /// Stops reading a partition: its messages are delivered live.
    fn is_live(&mut self, part: usize, now: Monotonic) {
        (self.parts[part].stage, self.moved_at) = (Stage::Live, now);
        if let Some(reading) = &mut self.reading {
            reading.consumer.pause(id_of(part));
        }
    }

    /// Whether all partitions are delivered live.
    fn is_over(&self) -> bool {
        self.topics.iter().all(|topic| topic.partitions > 0) && self.parts.iter().all(|part| part.stage == Stage::Live)
    }

    /// Takes the news of its consumer.
    ///
    /// # Errors
    /// The partition with which the replay cannot continue, and the reason.
    fn take_news(
        &mut self,
        broker: &mut Broker,
        here: &mut Here,
        source: &Source,
        now: Monotonic,
    ) -> Result<(), (usize, &'static str)> {
        while let Some(news) = self.reading.as_mut().and_then(|reading| reading.consumer.take_news()) {
            match news {
                News::Partitions { topic, count } => {
                    let Some(at) = self.topics.iter().position(|of| of.name == topic) else { continue };
                    let known = std::mem::replace(&mut self.topics[at].partitions, count).max(1);
                    for partition in known..count {
                        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
                        self.parts.push(Part { topic: at, partition, stage: Stage::Begins });
                        self.assign(self.parts.len() - 1, source);
                    }
                }
                News::Started { id, .. } if self.parts[id as usize].stage == Stage::Live => {}
                News::Started { id, is_end: true, .. } => self.begins_at_end(id as usize, broker, now),
                News::Started { id, offset, .. } => {
                    self.parts[id as usize].stage = Stage::Read(Position { offset, leader_epoch: -1 });
                }
                News::Reset { id, from, to, why: WhyReset::OutOfRange } => {
                    let at = Position { offset: to, leader_epoch: -1 };
                    match self.parts[id as usize].stage {
                        // The log begins later than the requested offset, or ends earlier.
                        Stage::Begins if to >= from => self.parts[id as usize].stage = Stage::Read(at),
                        Stage::Begins => self.begins_at_end(id as usize, broker, now),
                        Stage::Read(_) if to >= from => {
                            self.parts[id as usize].stage = Stage::Read(at);
                            self.tell_gap(broker, here, id as usize, (from, to), now);
                        }
                        Stage::Read(_) => return Err((id as usize, OTHER_LOG)),
                        Stage::Live => {}
                    }
                }
                News::Reset { id, .. } if self.parts[id as usize].stage != Stage::Live => {
                    return Err((id as usize, OTHER_LOG));
                }
                News::Stopped { id, .. } => return Err((id as usize, STOPPED)),
                News::Reset { .. } => {}
                News::Skipped { .. } | News::Trouble { .. } | News::TroubleOver { .. } => {}
            }
        }
        Ok(())
    }

    /// Handles a partition without records of the requested time: its messages are delivered live, from the first one after the SUBSCRIBE.
    fn begins_at_end(&mut self, part: usize, broker: &mut Broker, now: Monotonic) {
        let (gate, place) = (self.asked.gate, self.place(part));
        match broker.delivery.gates.first_passed_over(gate, place) {
            Some(offset) => {
                self.parts[part].stage = Stage::Read(Position { offset, leader_epoch: -1 });
                if let Some(reading) = &mut self.reading {
                    reading.consumer.seek(id_of(part), Start::Offset { offset, leader_epoch: -1 });
                }
            }
            None => {
                broker.delivery.gates.open(gate, place);
                self.is_live(part, now);
            }
        }
    }

    /// Sends fetched records, as far as the client takes them and the turn has time. Returns the state of the replay.
    fn run(
        &mut self,
        io: &mut Ring<'_>,
        broker: &mut Broker,
        here: &mut Here,
        (source, of): (&Source, Making<'_>),
        count: &mut usize,
    ) -> Step {
        let now = io.now();
        if let Err((part, why)) = self.take_news(broker, here, source, now) {
            return Step::Aborted(part, why);
        }
        let Self { asked, topics, parts, reading, moved_at, .. } = self;
        let Some(Reading { consumer, is_told, .. }) = reading else { return Step::Waits };
        let mut has_moved = std::mem::take(is_told);
        let (session, subscription) = (asked.session, &asked.subscription);
        let to = Subscriber {
            session,
            options: subscription.options,
            identifier: subscription.identifier,
            is_checked: true,
            gate: 0,
        };
        let mut step = Step::Waits;
        while let Some(record) = consumer.peek() {
            let part = &mut parts[record.id as usize];
            let record_of = mapped_record(&topics[part.topic].name, part.partition, &record);
            // Records that cannot be a message were counted when they were read live.
            if let Ok(message) = of.mapping.message(&record_of, io.wall(), of.scratch)
                && filter::matches(&subscription.filter, message.topic)
                && let Some(session) = broker.sessions.get(session)
                && session.may_receive_again(message.topic, message.qos, message.retain)
                // [MQTT-3.8.3-3]
                && !(to.options.no_local && is_of(session, record_of.header(CLIENT_ID.as_bytes())))
            {
                if !broker.takes_one_more(io, asked.session) {
                    break;
                }
                broker.copy_past(io, here, &publish(&message), now, (to, By::Past));
                here.numbers.count(M::ReplayMessages);
            }
            let (next, leader_epoch) = (record.offset + 1, record.leader_epoch);
            part.stage = Stage::Read(Position { offset: next, leader_epoch });
            consumer.advance();
            here.numbers.count(M::ReplayRecords);
            (has_moved, *moved_at) = (true, now);
            *count += 1;
            if io.is_over_after(*count) {
                step = Step::Spent;
                break;
            }
        }
        if has_moved {
            self.come_live(broker, now);
        }
        if self.is_over() { Step::Over } else { step }
    }

    /// Switches partitions that were read up to the live records to live delivery.
    fn come_live(&mut self, broker: &mut Broker, now: Monotonic) {
        for part in 0..self.parts.len() {
            let Some(Reading { consumer, .. }) = &self.reading else { return };
            if self.parts[part].stage == Stage::Live || !consumer.has_read_all(id_of(part)) {
                continue;
            }
            let Some(position) = consumer.position(id_of(part)) else { continue };
            if broker.delivery.gates.reached(self.asked.gate, self.place(part), position.offset) {
                self.is_live(part, now);
            } else {
                self.parts[part].stage = Stage::Read(position);
            }
        }
    }

    /// Reports that Kafka has deleted records before they were replayed.
    fn tell_gap(&self, broker: &mut Broker, here: &mut Here, part: usize, (from, to): (i64, i64), now: Monotonic) {
        let (topic, partition) = self.names(part);
        let number = |offset| u64::try_from(offset).unwrap_or(0);
        let client = broker.sessions.get(self.asked.session).map(Session::client);
        here.teller.tell_of(Kind::ReplayGap, second(now), client, |event| {
            let event = of_client(event, client).with(Field::MqttTopic, clipped(&self.asked.subscription.filter));
            let event = event.with(Field::Topic, topic).with(Field::Partition, partition);
            event.with(Field::Offset, number(from)).with(Field::NextOffset, number(to))
        });
    }

    /// Reports that the replay cannot continue.
    fn tell_aborted(&self, broker: &mut Broker, here: &mut Here, part: usize, why: &'static str, now: Monotonic) {
        let (topic, partition) = self.names(part);
        let client = broker.sessions.get(self.asked.session).map(Session::client);
        here.teller.tell_of(Kind::ReplayAborted, second(now), client, |event| {
            let event = of_client(event, client).with(Field::MqttTopic, clipped(&self.asked.subscription.filter));
            event.with(Field::Topic, topic).with(Field::Partition, partition).with(Field::Reason, why)
        });
    }

    fn names(&self, part: usize) -> (&str, u64) {
        let Part { topic, partition, .. } = self.parts[part];
        (&self.topics[topic].name, u64::try_from(partition).unwrap_or(0))
    }
}

/// The ID of a partition at the consumer: its index among the parts.
fn id_of(part: usize) -> u32 {
    u32::try_from(part).unwrap_or(u32::MAX)
}

/// Whether a record is of the session's own client.
fn is_of(session: &Session, client: Option<&[u8]>) -> bool {
    client.is_some_and(|client| client == session.client_id().as_bytes())
}

impl Core {
    /// Runs replays. True: there may be something to send.
    pub(super) fn replay_records(&mut self, io: &mut Ring<'_>) -> bool {
        let asked = self.broker.delivery.gates.take_asked();
        if asked.is_empty() && self.sources.replays.are_none() {
            return false;
        }
        let config = Arc::clone(&self.here.config);
        let Some(index) = config.sources.iter().position(|source| source.is_of_broker) else { return false };
        let (source, now) = (&config.sources[index], io.now());
        let Self { here, broker, outlets, sources, random, .. } = self;
        asked.into_iter().for_each(|asked| sources.replays.add(asked, source, now));
        sources.end_replays(broker, here);
        let settings = settings::consumer(&config);
        sources.replays.give_places(source, settings, (random.u64(..), now));
        io.next_quantum();
        let (mut count, mut runs) = (0, sources.replays.running.len());
        while runs > 0
            && let Some(gate) = sources.replays.running.pop_front()
        {
            runs -= 1;
            sources.replays.running.push_back(gate);
            let Sources { replays, mappings, scratch, .. } = sources;
            let Some(replay) = replays.all.get_mut(&gate) else { continue };
            let made = Making { mapping: &mappings[index], scratch };
            match replay.run(io, broker, here, (source, made), &mut count) {
                Step::Waits => {}
                Step::Spent => {
                    io.go_on();
                    break;
                }
                Step::Over => {
                    here.numbers.count(M::ReplaysLive);
                    broker.delivery.gates.end(gate);
                    sources.replays.remove(gate);
                }
                Step::Aborted(part, why) => {
                    replay.tell_aborted(broker, here, part, why, now);
                    here.numbers.count(M::ReplaysAborted);
                    broker.delivery.gates.end(gate);
                    sources.replays.remove(gate);
                }
            }
        }
        sources.replays.give_way(now);
        sources.replays.give_places(source, settings, (random.u64(..), now));
        sources.replays.set_numbers(here);
        outlets.upstreams[source.cluster].busy |= sources.replays.next_deadline() <= now;
        true
    }
}

impl Sources {
    /// The replay of the subscription with this gate.
    pub(crate) fn replay(&self, gate: u32) -> Option<inspect::Replay> {
        self.replays.shown(gate)
    }

    /// Ends replays without a subscription, a connection or a session.
    fn end_replays(&mut self, broker: &mut Broker, here: &mut Here) {
        let goes_on = |(gate, replay): &(&u32, &Replay)| {
            let session = broker.sessions.get(replay.asked.session);
            let is_there = session.is_some_and(|session| session.conn() == Some(replay.asked.conn));
            is_there && broker.delivery.gates.is_replayed(**gate)
        };
        let ended: Vec<u32> = self.replays.all.iter().filter(|of| !goes_on(of)).map(|(gate, _)| *gate).collect();
        for gate in ended {
            here.numbers.count(M::ReplaysEnded);
            broker.delivery.gates.end(gate);
            self.replays.remove(gate);
        }
    }
}
