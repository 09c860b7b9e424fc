//! A log that this process owns: what it owes Kafka, one batch under way at a time.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::format::Key;
use super::queue::{Queue, VALUE_BYTES_MAX};
use super::take_over::Taken;
use crate::kafka::types::NodeId;
use crate::outward::{Backoff, Bounds};
use crate::record::{Stamp, stamp};
use crate::runtime::seam::Monotonic;

/// How long nothing is sent at most. Kafka forgets a producer that is silent (`producer.id.expiration.ms`, a day by default), and takes older epochs then.
const BEAT: Duration = Duration::from_secs(60);
/// How long nothing may be acknowledged: after that Kafka may have forgotten this producer, and takes records of others again. A process that was frozen
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

/// A batch to be sent with acks=all: whole, stamped, checksum in place.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Names it in its answer. A batch that is sent again has a new number.
    pub id: u64,
    /// Topic.
    pub topic: Rc<str>,
    /// Its id when the log was taken over; 0: the broker gave none.
    pub topic_id: u128,
    /// The log's partition.
    pub partition: i32,
    /// The v2 record batch.
    pub bytes: Rc<Vec<u8>>,
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Kafka has answered.
    Produced {
        /// Kafka error code.
        error: i16,
        /// Offset of the first record, where `error` is 0.
        base_offset: i64,
    },
    /// There is no answer, and none will come. The batch may be in the log.
    None,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing. There may be a next batch.
    Nothing,
    /// The sync with this token is done: Kafka has all that was appended before it.
    Synced(u64),
    /// The same batch is sent again from this time on.
    Retry(Monotonic),
    /// The log is another owner's, or not what it was. Nobody may be told anything more that rests on it: the process ends.
    Lost(Lost),
}

/// Why a log is lost to this process. The next process takes up what Kafka has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
    #[error("another process has taken the log over (Kafka error {0})")]
    Fenced(i16),
    /// OUT_OF_ORDER_SEQUENCE_NUMBER, UNKNOWN_PRODUCER_ID, DUPLICATE_SEQUENCE_NUMBER.
    #[error("Kafka has lost records of the log that it had acknowledged (Kafka error {0})")]
    Cut(i16),
    /// A batch stands before one that was acknowledged earlier.
    #[error(
        "Kafka has lost records of the log that it had acknowledged: it wrote at offset {base_offset} after offset {acknowledged}"
    )]
    Before {
        /// Where the batch stands.
        base_offset: i64,
        /// The last record that was acknowledged.
        acknowledged: i64,
    },
    /// Nothing was acknowledged for [`SILENCE_MAX`].
    #[error("Kafka has acknowledged nothing for 20 hours: it may have forgotten which process owns the log")]
    Silent,
    /// The topic was deleted and created again.
    #[error("the topic was deleted and created again")]
    OtherTopic,
}

/// The batch under way, or that waits to be sent again.
#[derive(Debug)]
struct Flight {
    id: u64,
    bytes: Rc<Vec<u8>>,
    records: u32,
    since: Monotonic,
    /// When it was sent last.
    sent_at: Monotonic,
    /// When it is sent again; `None`: it is under way.
    again: Option<Monotonic>,
}

/// Numbers of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Bytes of records that no batch under way has.
    pub waiting_bytes: u64,
    /// Those records.
    pub waiting_records: u64,
    /// Records in the batch under way.
    pub under_way: u64,
    /// When that batch was sent first; `None`: none is.
    pub under_way_since: Option<Monotonic>,
    /// Batches and bytes that Kafka has acknowledged.
    pub batches: u64,
    /// Bytes of these batches.
    pub bytes: u64,
    /// Times that a batch was sent again.
    pub retries: u64,
    /// The Kafka error of the last answer that called for that; 0: there was no answer. `None` once a batch was acknowledged.
    pub last_error: Option<i16>,
    /// The number of this ownership.
    pub term: u64,
    /// Batches of others that reading the partition has passed over.
    pub passed_over: u64,
    /// Why the log is lost.
    pub lost: Option<Lost>,
}

/// What a log owes Kafka; one for each log.
#[derive(Debug)]
pub struct Replica {
    pub(super) topic: Rc<str>,
    pub(super) topic_id: u128,
    pub(super) partition: i32,
    pub(super) leader: Option<NodeId>,
    producer: Stamp,
    /// The last offset that was acknowledged.
    acknowledged: i64,
    segments: BTreeMap<u64, Segment>,
    queue: Queue,
    flight: Option<Flight>,
    /// Records acknowledged, as [`Queue::put`] counts.
    done: u64,
    /// The sync under way: its token, and the count of records that it waits for.
    sync: Option<(u64, u64)>,
    beat_at: Monotonic,
    /// When the last batch that was acknowledged was sent: Kafka has known this owner then. An answer may be heard long after that.
    known_at: Option<Monotonic>,
    backoff: Backoff,
    rng: fastrand::Rng,
    numbers: Numbers,
}

impl Replica {
    /// A replica of a log that was taken over. `seed`: of the jitter of its waits.
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

    /// Takes bytes for a position of a segment. They are not kept here once Kafka has them.
    pub fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) {
        let term = self.numbers.term;
        let of = self.segments.entry(segment).or_insert_with(|| Segment { term, places: Vec::new() });
        let mut at = at;
        for part in bytes.chunks(VALUE_BYTES_MAX) {
            // Segments have 4 GiB at most.
            of.places.push(at as u32);
            self.queue.put(Key::Data { term: of.term, segment, at }, Some(part));
            at += part.len() as u64;
        }
    }

    /// Begins the one sync under way: [`Outcome::Synced`] comes when Kafka has everything that was appended so far.
    pub fn sync(&mut self, token: u64) {
        if self.done == self.queue.put {
            self.queue.put(Key::Beat, Some(&[]));
        }
        self.sync = Some((token, self.queue.put));
    }

    /// Ends a segment: its records become tombstones. Nobody waits for them.
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

    /// The batch to be sent now, a new one or one that is sent again. `None`: one is under way, or there is none, or the log [is lost](Self::lost).
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

    /// When [`Replica::next_batch`] has a batch; `NEVER` while one is under way.
    #[must_use]
    pub fn due(&self) -> Monotonic {
        match &self.flight {
            _ if self.numbers.lost.is_some() => Monotonic::NEVER,
            Some(flight) => flight.again.unwrap_or(Monotonic::NEVER),
            None if self.queue.is_empty() => self.beat_at,
            None => Monotonic(0),
        }
    }

    /// Notes a log that has been silent too long. The first batch is one of the take-over's turn.
    fn is_silent(&mut self, now: Monotonic) -> bool {
        let since = *self.known_at.get_or_insert(now);
        let is_silent = now.since(since) > SILENCE_MAX;
        if is_silent {
            self.lose(Lost::Silent);
        }
        is_silent
    }

    /// Why the log is lost, if it is.
    #[must_use]
    pub const fn lost(&self) -> Option<Lost> {
        self.numbers.lost
    }

    /// Takes what became of a batch. An answer to another one than the one under way is passed over.
    pub fn answered(&mut self, id: u64, answer: Answer, now: Monotonic) -> Outcome {
        if self.numbers.lost.is_some() || !self.is_under_way(id) {
            return Outcome::Nothing;
        }
        match answer {
            Answer::Produced { error: 0, base_offset } if base_offset > self.acknowledged => {
                self.acknowledge(base_offset)
            }
            Answer::Produced { error: 0, base_offset } => {
                self.lose(Lost::Before { base_offset, acknowledged: self.acknowledged })
            }
            Answer::Produced { error: error @ (47 | 90), .. } => self.lose(Lost::Fenced(error)),
            // With one batch under way none is out of order, and none is older than the last.
            Answer::Produced { error: error @ (45 | 46 | 59), .. } => self.lose(Lost::Cut(error)),
            Answer::Produced { error, .. } => self.again(error, now),
            Answer::None => self.again(0, now),
        }
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

    pub(super) fn lose(&mut self, why: Lost) -> Outcome {
        Outcome::Lost(*self.numbers.lost.get_or_insert(why))
    }

    /// The token of the sync under way.
    #[cfg(test)]
    pub(crate) fn syncing(&self) -> Option<u64> {
        self.sync.map(|(token, _)| token)
    }

    /// Segments that the partition holds, and their records.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.segments.len(), self.segments.values().map(|segment| segment.places.len()).sum())
    }

    /// Its numbers.
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
