//! Dead letters: records that Kafka will never take from a sink, kept in a topic or a file with the reason.
//!
//! | | |
//! |---|---|
//! | `queue` | [`DeadLetterQueue`]: letters on their way, and the row or message of each |
//! | `file` | the queue to one file |
//! | `message` | messages that a sink will never take, seen before it took them |
//! | `header`, `line` | the fields of a letter, in a topic and in a file |
//! | `said` | a letter in a topic, read back |

mod file;
mod header;
mod line;
pub(super) mod message;
mod queue;
mod said;
#[cfg(test)]
mod tests;

pub(super) use self::file::FileQueue;
pub use self::header::HEADERS_BYTES_MAX;
pub use self::header::reason;
pub(super) use self::header::{
    BRIDGE_HEADER, HEADER_PREFIX, MQTT_TOPIC_HEADER, OFFSET_HEADER, PARTITION_HEADER, QOS_HEADER, REASON_HEADER,
    RECEIVED_HEADER, SOURCE_HEADER, TOPIC_HEADER,
};
pub use self::line::rfc3339;
pub(super) use self::message::DeadPlan;
pub use self::queue::{DeadLetterQueue, Route};
pub use self::said::{SENT_AGAIN_HEADER, Said, Writer, is_own};

use std::time::Duration;

use forebay_base::limits::DEAD_LETTERS_QUEUED_BYTES_MAX;
use forebay_broker::words::{Owner, clipped, second};
use forebay_config::Config;
use forebay_kafka::producer::RejectedRow;
use forebay_kafka::types::{Outcome, Ticket};
use forebay_metrics::event::{Field, Kind};
use forebay_metrics::spec::ShardMetric;
use forebay_record::timestamp_at;
use forebay_rule::template::Variable;
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_session::{Reason, Session};

pub(super) use self::line::Line;
use self::line::of_row;
use self::queue::Example;
use super::Core;
use super::mail::ToDeadLetters;
use super::members::{Members, Role};

/// The interval at which an event announces new dead letters of a sink.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(1);

/// The time at which new dead letters of each sink were last announced, and their number.
#[derive(Debug)]
pub(super) struct Announced {
    last: Vec<(u64, Option<Monotonic>)>,
    /// Sinks with new letters that have not been announced, possibly more than once.
    waiting: Vec<usize>,
}

impl Announced {
    pub(super) fn new(sinks: usize) -> Self {
        Self { last: vec![(0, None); sinks], waiting: Vec::new() }
    }

    /// Makes room for more sinks.
    pub(super) fn grow(&mut self, sinks: usize) {
        self.last.resize(sinks, (0, None));
    }

    /// Takes out a sink with new letters.
    pub(super) fn take_waiting(&mut self) -> Option<usize> {
        self.waiting.pop()
    }
}

/// The routes of each sink's letters, by cluster and by the sink's number in its producer.
pub(super) fn routes<'a>(config: &Config, members: impl Iterator<Item = &'a Members>) -> Vec<Vec<Option<Route>>> {
    let route = |members: &Members, role: Role| match role {
        Role::Own(index) => {
            let sink = &config.sinks[index];
            let dead = sink.dead_letters.as_ref()?;
            let topic = members.number(Role::DeadLetters(index)).zip(dead.topic.clone());
            Some(Route { index, sink: sink.name.clone(), topic, file: dead.file.is_some(), of_letters: false })
        }
        Role::DeadLetters(index) => {
            let sink = config.sinks[index].name.clone();
            Some(Route { index, sink, topic: None, file: true, of_letters: true })
        }
        // The source or bridge gets the outcome of its letters.
        Role::BadRecords(_) | Role::Refused(_) => None,
    };
    members.map(|members| members.roles().map(|role| route(members, role)).collect()).collect()
}

impl Core {
    /// Takes an answer of the thread of a dead-letter file.
    pub(super) fn filed(&mut self, letter: ToDeadLetters) {
        match letter {
            ToDeadLetters::Filed { sink, count } => self.dead_letters_written(sink, count),
            ToDeadLetters::FiledOfBridge { bridge, number, count } => {
                self.letters_of_bridge_written(bridge, number, count);
            }
        }
    }

    /// Forwards rejected rows of a cluster as letters, as far as there is room.
    pub(super) fn forward_dead_letters(&mut self, cluster: usize, now: Monotonic, wall: WallMs) {
        let outlets = &mut self.outlets;
        if !outlets.letters.has_work(cluster, &outlets.upstreams[cluster].producer) {
            return;
        }
        let (plans, sessions) = (&outlets.plans, &self.broker.sessions);
        let mut line = |route: &Route, row: &RejectedRow<'_>, owner: Option<Ticket>| {
            let session = owner.and_then(|ticket| match Owner::of(ticket.session) {
                Owner::Session(key) => sessions.get(key),
                Owner::Letters | Owner::Reader(_) | Owner::BadRecord(_) | Owner::Refused(_) => None,
            });
            // By default a record's key is its MQTT topic.
            let key = plans[route.index].key.as_ref();
            let keyed_by_topic = key.is_some_and(|key| key.as_single() == Some(&Variable::Topic));
            let line = Line { sink: &route.sink, client_id: session.map(Session::client_id), ..Line::default() };
            of_row(line, row, keyed_by_topic, route.of_letters, wall)
        };
        let timestamp = timestamp_at(wall, outlets.clock_set_after);
        outlets.letters.forward(cluster, &mut outlets.upstreams[cluster].producer, (now, timestamp), &mut line);
        self.answer_dead_letters();
    }

    /// Notes that letters of a sink's file are on the disk.
    pub(super) fn dead_letters_written(&mut self, index: usize, count: u32) {
        let outlets = &mut self.outlets;
        let upstream = &mut outlets.upstreams[outlets.plans[index].cluster];
        upstream.busy = true;
        outlets.letters.written(index, count);
        outlets.letters.settle(&mut upstream.producer);
        self.answer_dead_letters();
    }

    /// Ends rows of a cluster when its producer has answered their letters. Returns whether there were any.
    pub(super) fn settle_dead_letters(&mut self, cluster: usize) -> bool {
        let outlets = &mut self.outlets;
        let any = outlets.letters.settle(&mut outlets.upstreams[cluster].producer);
        if any {
            self.answer_dead_letters();
        }
        any
    }

    fn answer_dead_letters(&mut self) {
        let mut answers = Vec::new();
        self.outlets.letters.drain_answers(|answer| answers.push(answer));
        for (ticket, outcome) in answers {
            let reason = match outcome {
                Outcome::Delivered | Outcome::DeadLettered => Reason::DeadLettered,
                Outcome::Refused(_) => Reason::KafkaRejected,
            };
            self.broker.answered(&self.here, ticket, reason);
        }
        let (letters, bytes, files) = self.outlets.letters.queued();
        self.here.numbers.set(ShardMetric::DeadLettersInFlight, self.outlets.letters.in_flight() as u64);
        self.here.numbers.set(ShardMetric::DeadLettersQueued, letters as u64);
        self.here.numbers.set(ShardMetric::DeadLettersQueuedBytes, bytes as u64);
        self.here.numbers.set(ShardMetric::DeadLettersQueuedBytesMax, (files * DEAD_LETTERS_QUEUED_BYTES_MAX) as u64);
    }

    /// Announces new dead letters, once a second at most: `total` is how many of a sink there are.
    pub(super) fn announce_dead_letters(&mut self, index: usize, total: u64, now: Monotonic) {
        let last = &mut self.announced.last[index];
        if total == last.0 {
            return;
        }
        if last.1.is_some_and(|at| at.after(ANNOUNCED_EVERY) > now) {
            return self.announced.waiting.push(index);
        }
        *last = (total, Some(now));
        let (sink, example) = (&self.here.config.sinks[index], self.outlets.letters.example(index));
        self.here.teller.tell_of(Kind::DeadLetters, second(now), index, |event| {
            let event = event.with(Field::Sink, sink.name.as_str()).with(Field::Total, total);
            let dead = sink.dead_letters.as_ref();
            let event = event.maybe(Field::LettersTopic, dead.and_then(|dead| dead.topic.as_deref()));
            let file = dead.and_then(|dead| dead.file.as_ref());
            let event = event.shown(Field::File, file.map(|file| file.path.display()));
            let Some(Example { reason, topic, mqtt_topic }) = example else { return event };
            // Events are for all who may read; payloads are not.
            let is_of_message = sink.topic.differs_within_topic()
                || sink.fed.as_ref().is_some_and(|fed| fed.topic.differs_within_topic());
            let topic = topic.as_ref().filter(|_| !is_of_message);
            let event = event.with(Field::Reason, *reason).maybe(Field::Topic, topic.map(|topic| clipped(topic)));
            event.maybe(Field::MqttTopic, mqtt_topic.as_deref().map(clipped))
        });
    }
}
