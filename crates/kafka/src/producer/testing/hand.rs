//! A producer under manual control: rows in, requests out, answers chosen by the test.

use std::time::Duration;

use crate::producer::partition::Partition;
use crate::producer::row_log::RowRun;
use crate::producer::{AnsweredOn, Keep, Producer, Row, Settings, SinkSettings, SinkStats, Want};
use crate::types::{
    LogSays, NodeId, Outcome, ProduceBatch, ProduceRequest, ProduceResult, Question, Run, SinkId, Ticket, TopicMetadata,
};
use forebay_record::compression::{Codec, Codecs};
use forebay_record::{BatchView, Records};
use forebay_runtime::seam::{Monotonic, WallMs};

use super::hand_log::HandLog;

pub const SINK: SinkId = SinkId(0);
pub const HOUR_MS: u64 = 3_600_000;
const WALL: i64 = 1_790_000_000_000;

pub struct Hand {
    pub producer: Producer,
    pub now: Monotonic,
    pub number: u32,
    /// Age of appended rows, in ms.
    pub age_ms: i64,
    pub wants: Vec<Want>,
    pub done: Vec<(Run, Outcome)>,
    /// The place of each of those: topic, partition, offset of the first row.
    pub places: Vec<Option<(String, u32, Option<i64>)>>,
    pub log: HandLog,
}

/// Settings with one sink, no linger, the smallest batches, and negligible jitter.
pub fn settings() -> Settings {
    let sink = SinkSettings { linger: Duration::ZERO, batch_bytes: 4096, record_bytes_max: 8192, ..Default::default() };
    Settings { buffer_bytes: 1 << 20, sinks: vec![sink], ..Settings::default() }
}

pub fn topic(name: &str, leaders: &[i32]) -> TopicMetadata {
    TopicMetadata {
        name: name.into(),
        leaders: leaders.iter().map(|node| Some(NodeId(*node))).collect(),
        ..Default::default()
    }
}

impl Hand {
    pub fn new(settings: Settings) -> Self {
        Self {
            producer: Producer::new(settings),
            now: Monotonic(1_000_000_000),
            number: 0,
            age_ms: 0,
            wants: Vec::new(),
            done: Vec::new(),
            places: Vec::new(),
            log: HandLog::new(),
        }
    }

    /// One topic "t" of one partition at broker 0, producer id 7, and its first batch answered.
    pub fn proven(settings: Settings) -> Self {
        let mut hand = Self::new(settings);
        hand.append("t", None);
        hand.poll();
        hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
        hand.producer.on_producer_id(0, 7, 0);
        let first = hand.one();
        hand.answer(&first, 0);
        assert!(hand.poll().is_empty());
        hand
    }

    pub fn append(&mut self, topic: &str, key: Option<&str>) {
        self.append_value(topic, key, format!("row {}", self.number).as_bytes());
    }

    pub fn append_value(&mut self, topic: &str, key: Option<&str>, value: &[u8]) {
        let row = Row {
            key: key.map(str::as_bytes),
            value: Some(value),
            headers: std::iter::empty(),
            timestamp: WallMs(self.wall().0 - self.age_ms),
        };
        let ticket = Ticket { session: 1, number: self.number };
        assert!(self.producer.has_room(value.len() + 200));
        self.producer.append(SINK, topic, row, Some(ticket), self.now);
        self.number += 1;
    }

    pub fn wall(&self) -> WallMs {
        WallMs(WALL + (self.now.0 / 1_000_000) as i64)
    }

    pub fn poll(&mut self) -> Vec<ProduceRequest> {
        let mut out = Vec::new();
        let wall = self.wall();
        self.producer.poll_with(self.now, wall, &mut self.log, &mut out);
        self.producer.drain_wants(|want| self.wants.push(want));
        self.drain();
        out
    }

    /// Polls, makes the log durable, and polls again.
    pub fn poll_synced(&mut self) -> Vec<ProduceRequest> {
        let mut out = self.poll();
        self.log.sync();
        out.append(&mut self.poll());
        out
    }

    /// Kills the process and starts the next one; Kafka gives it another producer id.
    pub fn killed(self, settings: Settings, id: i64) -> Self {
        let (log, lanes, cuts) = self.log.crash();
        let mut hand = Self { log, now: self.now, number: self.number, age_ms: self.age_ms, ..Self::new(settings) };
        hand.producer.restore(lanes, cuts);
        hand.producer.on_producer_id(0, id, 0);
        hand
    }

    /// The first run of a lane that is in the log alone, up to the last row.
    pub fn on_disk(&self, lane: u64) -> Option<RowRun> {
        let topics = self.producer.topics.iter();
        let mut backlogs = topics
            .flat_map(|topic| topic.partitions.iter().filter_map(Partition::backlog).chain(&topic.unplaced.backlogs));
        let backlog = backlogs.find(|backlog| backlog.lane == lane)?;
        Some(RowRun { first: backlog.unread()?, count: backlog.end - backlog.next })
    }

    /// Rows of a lane that may be dropped to make room.
    pub fn droppable(&self, lane: u64) -> Vec<RowRun> {
        let rows = self.producer.droppable(|_| true);
        rows.lanes().filter(|(of, _)| *of == lane).flat_map(|(_, runs)| runs).copied().collect()
    }

    /// Drops these rows to make room.
    pub fn drop_rows(&mut self, lane: u64, run: RowRun) {
        self.producer.dropped(&[(lane, run)].into_iter().collect(), &mut |_, _| Vec::new());
    }

    /// Polls for exactly one question and nothing else, and answers it.
    pub fn log_says(&mut self, says: LogSays) -> Question {
        assert!(self.poll().is_empty(), "the partition waits for what its log says");
        let mut asked = self.take_questions();
        assert_eq!(asked.len(), 1, "{asked:?}");
        self.producer.on_asked(asked[0].token, says, self.now);
        asked.remove(0)
    }

    /// Takes the questions to logs.
    pub fn take_questions(&mut self) -> Vec<Question> {
        let mut asked = Vec::new();
        self.wants.retain(|want| match want {
            Want::Ask(question) => {
                asked.push(question.clone());
                false
            }
            _ => true,
        });
        asked
    }

    /// Polls for exactly one request of one batch.
    pub fn one(&mut self) -> ProduceRequest {
        let mut out = self.poll();
        assert_eq!(out.len(), 1, "{out:?}");
        assert_eq!(out[0].batches.len(), 1);
        out.remove(0)
    }

    /// Polls for exactly one request, of any number of batches.
    pub fn one_of_two(&mut self) -> ProduceRequest {
        let mut out = self.poll();
        assert_eq!(out.len(), 1, "{out:?}");
        out.remove(0)
    }

    /// Fills the window: five batches of one row each, each its own request.
    pub fn five(&mut self) -> Vec<ProduceRequest> {
        (0..5)
            .map(|_| {
                self.append("t", None);
                self.one()
            })
            .collect()
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.now.0 += ms * 1_000_000;
    }

    /// Answers every batch of a request with this code.
    pub fn answer(&mut self, request: &ProduceRequest, error: i16) {
        self.produced(request.id, &results(request, error));
    }

    /// Like [`Self::answer`]; the request's bytes are dropped first, as the wire client does.
    pub fn answer_and_drop(&mut self, request: ProduceRequest, error: i16) {
        let (id, results) = (request.id, results(&request, error));
        drop(request);
        self.produced(id, &results);
    }

    pub fn produced(&mut self, id: u64, results: &[ProduceResult]) {
        self.producer.on_produced(id, results, 0, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        self.producer.drain_landed(|run, outcome, landed| {
            self.done.push((run, outcome));
            self.places.push(landed.map(|at| (at.topic.to_string(), at.partition, at.offset)));
        });
    }

    pub fn stats(&self) -> SinkStats {
        *self.producer.stats(SINK)
    }

    /// Rows acknowledged as delivered, in the order of the acknowledgements.
    pub fn delivered(&self) -> Vec<u32> {
        let done = self.done.iter().filter(|(_, outcome)| *outcome == Outcome::Delivered);
        done.flat_map(|(run, _)| run.first..run.first + run.count).collect()
    }
}

/// Producer id, epoch, first sequence of a request's only batch.
pub fn identity(request: &ProduceRequest) -> (i64, i16, i32) {
    let (view, _) = BatchView::parse(&request.batches[0].bytes).expect("a batch");
    view.check_crc().expect("its checksum");
    (view.header().producer_id, view.header().producer_epoch, view.header().base_sequence)
}

/// Like [`identity`], of several requests.
pub fn identities(requests: &[ProduceRequest]) -> Vec<(i64, i16, i32)> {
    requests.iter().map(identity).collect()
}

/// Keys and values of a batch.
pub fn read(view: &BatchView<'_>) -> Vec<(Option<Vec<u8>>, Vec<u8>)> {
    let mut codecs = Codecs::default();
    let body = match view.codec().expect("a codec") {
        Codec::None => view.body(),
        codec => codecs.decompress(codec, view.body(), 1 << 20).expect("of its codec"),
    };
    let records = Records::new(body, view.header().records_count, view.header().base_timestamp);
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let record = |record: forebay_record::Record<'_>| (owned(record.key), owned(record.value).unwrap_or_default());
    records.map(|read| record(read.expect("a record"))).collect()
}

/// The values of a request's first batch, as text.
pub fn values(request: &ProduceRequest) -> Vec<String> {
    let (view, _) = BatchView::parse(&request.batches[0].bytes).expect("a batch");
    read(&view).into_iter().map(|(_, value)| String::from_utf8(value).expect("text")).collect()
}

fn results(request: &ProduceRequest, error: i16) -> Vec<ProduceResult> {
    let result = |batch: &ProduceBatch| {
        let (view, _) = BatchView::parse(&batch.bytes).expect("a batch");
        // The offset is as if the log held this producer's records and a thousand before them.
        let (epoch, sequence) = (view.header().producer_epoch, view.header().base_sequence);
        let offset = if epoch < 0 { -1 } else { 1000 + i64::from(epoch) * 1_000_000 + i64::from(sequence) };
        let base_offset = if error == 0 { offset } else { -1 };
        ProduceResult { topic: batch.topic.clone(), partition: batch.partition, error, base_offset }
    };
    request.batches.iter().map(result).collect()
}

/// `disk` has one sink that answers for rows once they are in the log.
pub fn disk() -> Settings {
    let mut settings = settings();
    settings.sinks[0].keep = Keep::Disk;
    settings.sinks[0].answered_on = AnsweredOn::Stored;
    settings
}

/// One topic "t" of one partition at broker 0, producer id 7; nothing sent yet.
pub fn known(settings: Settings) -> Hand {
    let mut hand = Hand::new(settings);
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    hand
}
