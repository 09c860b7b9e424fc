//! A log that this process owns: its records pending in Kafka, one batch in flight at a time.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::format::Key;
use super::queue::{Queue, VALUE_BYTES_MAX};
use super::take_over::Taken;
use forebay_guard::outward::{Backoff, Bounds};
use forebay_kafka::types::NodeId;
use forebay_record::{Stamp, stamp};
use forebay_runtime::seam::Monotonic;

/// The longest time without a batch. Kafka forgets a silent producer (`producer.id.expiration.ms`, a day by default), and then takes older epochs.
const BEAT: Duration = Duration::from_secs(60);
/// The longest time without an acknowledgement. After it Kafka may have forgotten this producer, and takes records of others again. A process that was frozen
/// for this time may have been replaced, and no error would report it.
const SILENCE_MAX: Duration = Duration::from_secs(20 * 3600);
/// The wait before a batch is sent again.
const AGAIN: Bounds = Bounds { min: Duration::from_millis(100), max: Duration::from_secs(2) };

/// The records of a segment: the term in their keys, and their positions in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) term: u64,
    pub(super) places: Vec<u32>,
}

/// A batch to send with acks=all: whole, stamped, checksum in place.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The number of the batch in its answer. A batch that is sent again has a new number.
    pub id: u64,
    /// Topic.
    pub topic: Rc<str>,
    /// The topic's ID when the log was taken over. 0: the broker gave none.
    pub topic_id: u128,
    /// The log's partition.
    pub partition: i32,
    /// The v2 record batch.
    pub bytes: Rc<Vec<u8>>,
}

/// The outcome of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Kafka has answered.
    Produced {
        /// Kafka error code.
        error: i16,
        /// Offset of the first record, where `error` is 0.
        base_offset: i64,
    },
    /// No answer has arrived, and none will. The batch may be in the log.
    None,
}

/// The consequence of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No consequence. There may be a next batch.
    Nothing,
    /// The sync with this token is done: Kafka has every earlier append.
    Synced(u64),
    /// The same batch is sent again from this time on.
    Retry(Monotonic),
    /// The log is another owner's, or was changed. Nothing that rests on it may be acknowledged any more: the process ends.
    Lost(Lost),
}

/// The reason why a log is lost to this process. The next process takes up what Kafka has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
    #[error("another process has taken the log over (Kafka error {0})")]
    Fenced(i16),
    /// OUT_OF_ORDER_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID, DUPLICATE_SEQUENCE_NUMBER.
    #[error("Kafka has lost records of the log that it had acknowledged (Kafka error {0})")]
    Cut(i16),
    /// A batch is at a lower offset than one acknowledged earlier.
    #[error(
        "Kafka has lost records of the log that it had acknowledged: it wrote at offset {base_offset} after offset {acknowledged}"
    )]
    Before {
        /// The offset of the batch.
        base_offset: i64,
        /// The offset of the last acknowledged record.
        acknowledged: i64,
    },
    /// A batch does not follow the one acknowledged before: other records lie between them. Kafka has lost the records that would fence one of the two
    /// writers.
    #[error("another process writes to the log: Kafka wrote at offset {base_offset} after offset {acknowledged}")]
    Between {
        /// The offset of the batch.
        base_offset: i64,
        /// The offset of the last acknowledged record.
        acknowledged: i64,
    },
    /// No batch was acknowledged for [`SILENCE_MAX`].
    #[error("Kafka has acknowledged nothing for 20 hours: it may have forgotten which process owns the log")]
    Silent,
    /// The topic was deleted and created again.
    #[error("the topic was deleted and created again")]
    OtherTopic,
    /// The topic was deleted.
    #[error("Kafka does not know the topic any more")]
    Gone,
}

/// The batch in flight, or waiting to be sent again.
#[derive(Debug)]
struct Flight {
    id: u64,
    bytes: Rc<Vec<u8>>,
    records: u32,
    since: Monotonic,
    /// The time at which it was last sent.
    sent_at: Monotonic,
    /// The time at which it is sent again. `None`: it is in flight.
    again: Option<Monotonic>,
}

/// Statistics of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Bytes of records that are not in a batch in flight.
    pub waiting_bytes: u64,
    /// The number of records that are not in a batch in flight.
    pub waiting_records: u64,
    /// Records in the batch in flight.
    pub under_way: u64,
    /// The time at which the batch in flight was first sent. `None`: there is none.
    pub under_way_since: Option<Monotonic>,
    /// Batches that Kafka has acknowledged.
    pub batches: u64,
    /// Bytes of these batches.
    pub bytes: u64,
    /// The number of times that a batch was sent again.
    pub retries: u64,
    /// The Kafka error that last caused a batch to be sent again. 0: there was no answer. `None` once a batch was acknowledged.
    pub last_error: Option<i16>,
    /// The number of this ownership.
    pub term: u64,
    /// Batches of other owners that reading the partition has passed over.
    pub passed_over: u64,
    /// The reason why the log is lost.
    pub lost: Option<Lost>,
}

/// The records of one log that are pending in Kafka.
#[derive(Debug)]
pub struct Replica {
    pub(super) topic: Rc<str>,
    pub(super) topic_id: u128,
    pub(super) partition: i32,
    pub(super) leader: Option<NodeId>,
    producer: Stamp,
    /// The last acknowledged offset.
    acknowledged: i64,
    segments: BTreeMap<u64, Segment>,
    queue: Queue,
    flight: Option<Flight>,
    /// The number of acknowledged records, as [`Queue::put`] counts them.
    done: u64,
    /// The sync in progress: its token, and the count of records that it waits for.
    sync: Option<(u64, u64)>,
    beat_at: Monotonic,
    /// The time at which the last acknowledged batch was sent: Kafka knew this owner then. Its answer may arrive much later.
    known_at: Option<Monotonic>,
    backoff: Backoff,
    rng: fastrand::Rng,
    numbers: Numbers,
}

impl Replica {
    /// A replica of a log that was taken over. `seed`: for the jitter of its waits.
    #[must_use]
    pub fn new(taken: Taken, seed: u64) -> Self {
        let numbers = Numbers { term: taken.term, passed_over: taken.read.passed_over, ..Numbers::default() };
        let mut queue = Queue::default();
        for (key, value) in taken.mend {
            queue.put(key, value.as_deref());
        }
        Self {
            topic: Rc::from(taken.topic),
            topic_id: taken.topic_id,
            partition: taken.partition,
            leader: None,
            producer: taken.producer,
            acknowledged: taken.acknowledged,
            segments: taken.segments,
            queue,
            flight: None,
            done: 0,
            sync: None,
            beat_at: Monotonic(0),
            known_at: None,
            backoff: Backoff::default(),
            rng: fastrand::Rng::with_seed(seed),
            numbers,
        }
    }

    /// Appends bytes at a position of a segment. They are kept only until Kafka has them.
    pub fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) {
        let term = self.numbers.term;
        let of = self.segments.entry(segment).or_insert_with(|| Segment { term, places: Vec::new() });
        let mut at = at;
        for part in bytes.chunks(VALUE_BYTES_MAX) {
            // A segment has at most 4 GiB.
            of.places.push(at as u32);
            self.queue.put(Key::Data { term: of.term, segment, at }, Some(part));
            at += part.len() as u64;
        }
    }

    /// Begins the one sync in progress: [`Outcome::Synced`] follows when Kafka has everything appended so far.
    pub fn sync(&mut self, token: u64) {
        if self.done == self.queue.put {
            self.queue.put(Key::Beat, Some(&[]));
        }
        self.sync = Some((token, self.queue.put));
    }

    /// Ends a segment: its records become tombstones, which no sync waits for.
    pub fn free(&mut self, segment: u64) {
        let Some(of) = self.segments.remove(&segment) else { return };
        // The header goes first: a segment without it is not taken up.
        for at in of.places {
            self.queue.put(Key::Data { term: of.term, segment, at: at.into() }, None);
        }
    }

    /// Takes the note beside the segments.
    pub fn write_note(&mut self, note: &[u8]) {
        self.queue.put(Key::Note, Some(note));
    }

    /// The batch to send now, a new one or one that is sent again. `None`: one is in flight, or there is none, or the log [is lost](Self::lost).
    pub fn next_batch(&mut self, now: Monotonic) -> Option<Batch> {
        if self.due() > now || self.is_silent(now) {
            return None;
        }
        if self.flight.is_none() {
            self.flight = Some(self.next_flight(now)?);
        }
        let flight = self.flight.as_mut()?;
        if flight.again.take().is_some() {
            flight.id += 1;
            self.numbers.retries += 1;
        }
        flight.sent_at = now;
        self.beat_at = now.after(BEAT);
        let (id, bytes) = (flight.id, Rc::clone(&flight.bytes));
        Some(Batch { id, topic: Rc::clone(&self.topic), topic_id: self.topic_id, partition: self.partition, bytes })
    }

    fn next_flight(&mut self, now: Monotonic) -> Option<Flight> {
        if self.queue.is_empty() {
            self.queue.put(Key::Beat, Some(&[]));
        }
        let batch = self.queue.pop()?;
        let records = batch.count();
        let mut bytes = batch.close(None);
        stamp(&mut bytes, self.producer);
        let id = self.numbers.batches + self.numbers.retries;
        Some(Flight { id, bytes: Rc::new(bytes), records, since: now, sent_at: now, again: None })
    }

    /// The time at which [`Replica::next_batch`] has a batch; `NEVER` while one is in flight.
    #[must_use]
    pub fn due(&self) -> Monotonic {
        match &self.flight {
            _ if self.numbers.lost.is_some() => Monotonic::NEVER,
            Some(flight) => flight.again.unwrap_or(Monotonic::NEVER),
            None if self.queue.is_empty() => self.beat_at,
            None => Monotonic(0),
        }
    }

    /// Whether the log has been silent too long; if so, it is lost. The silence counts from the first call, soon after the take-over.
    fn is_silent(&mut self, now: Monotonic) -> bool {
        let since = *self.known_at.get_or_insert(now);
        let is_silent = now.since(since) > SILENCE_MAX;
        if is_silent {
            self.lose(Lost::Silent);
        }
        is_silent
    }

    /// The reason why the log is lost, if it is.
    #[must_use]
    pub const fn lost(&self) -> Option<Lost> {
        self.numbers.lost
    }

    /// Takes the outcome of a batch. An answer to a batch other than the one in flight is ignored.
    pub fn answered(&mut self, id: u64, answer: Answer, now: Monotonic) -> Outcome {
        if self.numbers.lost.is_some() || !self.is_under_way(id) {
            return Outcome::Nothing;
        }
        match answer {
            Answer::Produced { error: 0, base_offset } => match base_offset.cmp(&self.next_offset()) {
                Ordering::Equal => self.acknowledge(base_offset),
                Ordering::Less => self.lose(Lost::Before { base_offset, acknowledged: self.acknowledged }),
                Ordering::Greater => self.lose(Lost::Between { base_offset, acknowledged: self.acknowledged }),
            },
            Answer::Produced { error: error @ (47 | 90), .. } => self.lose(Lost::Fenced(error)),
            // With one batch in flight none is out of order, and none is older than the last.
            Answer::Produced { error: error @ (45 | 46 | 59), .. } => self.lose(Lost::Cut(error)),
            Answer::Produced { error, .. } => self.again(error, now),
            Answer::None => self.again(0, now),
        }
    }

    /// The offset of the next batch: nobody else has written since the term.
    pub(super) const fn next_offset(&self) -> i64 {
        self.acknowledged + 1
    }

    fn is_under_way(&self, id: u64) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.id == id && flight.again.is_none())
    }

    fn acknowledge(&mut self, base_offset: i64) -> Outcome {
        let Some(flight) = self.flight.take() else { return Outcome::Nothing };
        self.acknowledged = base_offset + i64::from(flight.records) - 1;
        let next = i64::from(self.producer.sequence) + i64::from(flight.records);
        self.producer.sequence = (next & i64::from(i32::MAX)) as i32;
        self.done += u64::from(flight.records);
        self.backoff.reset();
        self.known_at = Some(flight.sent_at);
        self.numbers.batches += 1;
        self.numbers.bytes += flight.bytes.len() as u64;
        self.numbers.last_error = None;
        let synced = self.sync.take_if(|(_, upto)| *upto <= self.done);
        synced.map_or(Outcome::Nothing, |(token, _)| Outcome::Synced(token))
    }

    fn again(&mut self, error: i16, now: Monotonic) -> Outcome {
        let at = now.after(self.backoff.next(AGAIN, &mut self.rng));
        self.numbers.last_error = Some(error);
        if let Some(flight) = &mut self.flight {
            flight.again = Some(at);
        }
        Outcome::Retry(at)
    }

    /// Ends the wait before a batch is sent again.
    pub(super) fn begins_again(&mut self) {
        self.backoff.reset();
        if let Some(at) = self.flight.as_mut().and_then(|flight| flight.again.as_mut()) {
            *at = Monotonic(0);
        }
    }

    pub(super) fn lose(&mut self, why: Lost) -> Outcome {
        Outcome::Lost(*self.numbers.lost.get_or_insert(why))
    }

    /// The token of the sync in progress.
    #[cfg(any(test, feature = "testing"))]
    pub fn syncing(&self) -> Option<u64> {
        self.sync.map(|(token, _)| token)
    }

    /// The segments in the partition, and their records.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.segments.len(), self.segments.values().map(|segment| segment.places.len()).sum())
    }

    /// Statistics of the log.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        Numbers {
            waiting_bytes: self.queue.bytes as u64,
            waiting_records: self.queue.records,
            under_way: self.flight.as_ref().map_or(0, |flight| flight.records.into()),
            under_way_since: self.flight.as_ref().map(|flight| flight.since),
            ..self.numbers
        }
    }
}
