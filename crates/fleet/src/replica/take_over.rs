//! Taking a log over: the steps, and their order. Sans-I/O: the caller sends the requests to Kafka.
//!
//! 1. InitProducerId with the log's transactional id gives a producer id and an epoch that no earlier owner has.
//! 2. A record under them (*the fence*): once Kafka has it, it refuses earlier epochs of that producer id in the partition (error 47).
//! 3. The partition is read up to the fence. Where other producer ids have had terms and are not closed, each is closed by a record under its last
//!    epoch: Kafka has forgotten the transactional id in between (`transactional.id.expiration.ms`), or all epochs were used up.
//! 4. The *term* record. Nobody else can write from before it on, and reading goes on up to it: what owners before have been told is there.
//! 5. A record under the epoch before must be refused with 47. A service that takes it does not fence, and is of no use.
//!
//! No request is sent twice: a take-over without an answer begins again, with the next epoch.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use super::fold::{CLOSED, Fold, Mend, Read, Store};
use super::format::{Key, Term};
use super::owner::Segment;
use super::queue::Queue;
use forebay_base::rules::{KEPT, Rules};
use forebay_record::{Stamp, stamp};

/// The names of a log.
#[derive(Clone, Debug)]
pub struct Names {
    /// Topic.
    pub topic: String,
    /// The topic's ID. 0: the broker gives none.
    pub topic_id: u128,
    /// The partition of the topic that is the log.
    pub partition: i32,
    /// The name of the instance, for operators.
    pub instance: String,
}

impl Names {
    /// The log's transactional id.
    #[must_use]
    pub fn transactional_id(&self) -> String {
        format!("forebay-{}-{}", self.topic, self.partition)
    }
}

/// The reason why a log cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The directory cannot be written.
    #[error(transparent)]
    Store(io::Error),
    /// Another process has begun to take the log over since.
    #[error("another process is taking the log over (Kafka error {0})")]
    Fenced(i16),
    /// Kafka does not take a record.
    #[error("Kafka does not take a record: error {0}")]
    Refused(i16),
    /// An earlier epoch is not refused.
    #[error(
        "the service that speaks Kafka takes records of an owner that was replaced (error {0} in the place of 47): two processes could \
         write one log; `[broker]` needs Apache Kafka's fencing of producer epochs"
    )]
    NoFence(i16),
    /// An owner has written in another version.
    #[error(
        "the record at offset {offset} has version {version} of the format, which this version of Forebay does not read"
    )]
    Version {
        /// The offset of the record.
        offset: i64,
        /// Its version.
        version: u8,
    },
    /// The topic's records have the time of their writers, and Kafka forgets producers by it.
    #[error(
        "topic {0} has another message.timestamp.type than LogAppendTime: kafka-configs.sh --alter --entity-type topics --entity-name {0} \
         --add-config message.timestamp.type=LogAppendTime"
    )]
    Timestamps(String),
    /// A batch cannot be read.
    #[error("the batch at offset {offset} cannot be read: {why}")]
    Unreadable {
        /// The offset of the batch.
        offset: i64,
        /// The reason.
        why: String,
    },
}

/// A log that this process has taken over, for [`super::Replica::new`]. May go to another thread.
#[derive(Debug)]
pub struct Taken {
    pub(super) topic: String,
    pub(super) topic_id: u128,
    pub(super) partition: i32,
    /// The owner's stamp, with the sequence of the next record.
    pub(super) producer: Stamp,
    pub(super) acknowledged: i64,
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) mend: Mend,
    /// The number of the term.
    pub term: u64,
    /// The time between the last data of an earlier owner and this take-over. `None`: there is none.
    pub idle: Option<Duration>,
    /// Statistics of the read.
    pub read: Read,
}

impl Taken {
    /// Producer ID and epoch of the owner.
    #[must_use]
    pub const fn identity(&self) -> (i64, i16) {
        (self.producer.producer_id, self.producer.epoch)
    }
}

/// The next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// InitProducerId with [`Names::transactional_id`]; then [`TakeOver::identified`].
    Identify,
    /// Produce this batch, acks=all; then [`TakeOver::written`].
    Write(Vec<u8>),
    /// Fetch from this offset on; then [`TakeOver::read`].
    Read(i64),
    /// [`TakeOver::finish`].
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    Identify,
    Fence,
    /// Reading up to the fence at this offset.
    ReadFence(i64),
    /// Closing these producer IDs.
    Close(Vec<i64>),
    Term,
    ReadTerm(i64),
    Test,
    Done,
}

/// The take-over of one log.
#[derive(Debug)]
pub struct TakeOver<S> {
    names: Names,
    store: S,
    fold: Fold,
    stage: Stage,
    producer: Stamp,
    acknowledged: i64,
    rules: &'static dyn Rules,
}

impl<S: Store> TakeOver<S> {
    /// Begins a take-over. `first`: the first offset of the partition.
    pub fn new(names: Names, store: S, first: i64) -> Self {
        let producer = Stamp { producer_id: -1, epoch: -1, sequence: 0 };
        Self { names, store, fold: Fold::new(first), stage: Stage::Identify, producer, acknowledged: -1, rules: &KEPT }
    }

    /// Sets other rules, for tests.
    #[must_use]
    pub fn with_rules(self, rules: &'static dyn Rules) -> Self {
        Self { rules, ..self }
    }

    /// The producer IDs that have to be closed (K1).
    fn others(&self) -> Vec<i64> {
        if self.rules.closes_others() { self.fold.others(self.producer.producer_id) } else { Vec::new() }
    }

    /// The next step.
    #[must_use]
    pub fn step(&self) -> Step {
        let Stamp { producer_id, epoch, sequence } = self.producer;
        match &self.stage {
            Stage::Identify => Step::Identify,
            Stage::Fence => Step::Write(batch(Key::Beat, &[], self.producer)),
            Stage::ReadFence(_) | Stage::ReadTerm(_) => Step::Read(self.fold.next),
            Stage::Close(others) => {
                let producer_id = others.last().copied().unwrap_or(producer_id);
                let value = self.term(true, CLOSED).encode();
                let by = Stamp { producer_id, epoch: CLOSED, sequence: 0 };
                Step::Write(batch(Key::Term { producer_id }, &value, by))
            }
            Stage::Term => {
                let value = self.term(false, epoch).encode();
                Step::Write(batch(Key::Term { producer_id }, &value, Stamp { producer_id, epoch, sequence }))
            }
            Stage::Test => {
                let earlier = Stamp { producer_id, epoch: epoch - 1, sequence: 0 };
                Step::Write(batch(Key::Beat, &[], earlier))
            }
            Stage::Done => Step::Done,
        }
    }

    /// Whether the step at hand is the fence; whether the term was written.
    #[cfg(test)]
    pub(super) fn is_fence(&self) -> bool {
        self.stage == Stage::Fence
    }

    #[cfg(test)]
    pub(super) fn has_term(&self) -> bool {
        matches!(self.stage, Stage::ReadTerm(_))
    }

    fn term(&self, closed: bool, epoch: i16) -> Term {
        let instance = self.names.instance.clone();
        Term { closed, epoch, term: self.fold.term + u64::from(!closed), instance }
    }

    /// Takes the answer to InitProducerId.
    pub fn identified(&mut self, producer_id: i64, epoch: i16) {
        self.producer = Stamp { producer_id, epoch, sequence: 0 };
        // The test needs an epoch before this owner's.
        self.stage = if epoch > 0 { Stage::Fence } else { Stage::Identify };
    }

    /// Takes the answer to a batch.
    ///
    /// # Errors
    /// The take-over cannot continue.
    pub fn written(&mut self, error: i16, base_offset: i64) -> Result<(), TakeOverError> {
        if self.stage == Stage::Test {
            return match error {
                47 => {
                    self.stage = Stage::Done;
                    Ok(())
                }
                // These errors are unrelated to epochs.
                3 | 5 | 6 | 7 | 9 | 13 | 19 | 20 | 56 => Err(TakeOverError::Refused(error)),
                _ => Err(TakeOverError::NoFence(error)),
            };
        }
        match error {
            0 => {}
            47 | 90 => return Err(TakeOverError::Fenced(error)),
            _ => return Err(TakeOverError::Refused(error)),
        }
        self.stage = match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Fence => {
                self.producer.sequence += 1;
                Stage::ReadFence(base_offset)
            }
            Stage::Close(mut others) => {
                others.pop();
                closing(others)
            }
            Stage::Term => {
                self.producer.sequence += 1;
                self.acknowledged = base_offset;
                Stage::ReadTerm(base_offset)
            }
            other => other,
        };
        Ok(())
    }

    /// Takes the batches of a Fetch, which may be none.
    ///
    /// # Errors
    /// The batches cannot be read, or the directory cannot be written.
    pub fn read(&mut self, records: &[u8]) -> Result<(), TakeOverError> {
        self.fold.take(records, &mut self.store)?;
        match &self.stage {
            Stage::ReadFence(offset) if self.fold.next > *offset => {
                if !self.fold.is_append_time {
                    return Err(TakeOverError::Timestamps(self.names.topic.clone()));
                }
                self.stage = closing(self.others());
            }
            Stage::ReadTerm(offset) if self.fold.next > *offset => {
                let others = self.others();
                self.stage = if others.is_empty() { Stage::Test } else { Stage::Close(others) };
            }
            _ => {}
        }
        Ok(())
    }

    /// Returns the log, after [`Step::Done`].
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn finish(self) -> Result<Taken, TakeOverError> {
        let Self { names, mut store, fold, producer, acknowledged, .. } = self;
        let (term, idle, read) = (fold.term, fold.idle(), fold.numbers);
        let (segments, mend) = fold.finish(&mut store).map_err(TakeOverError::Store)?;
        let Names { topic, topic_id, partition, .. } = names;
        Ok(Taken { topic, topic_id, partition, producer, acknowledged, segments, mend, term, idle, read })
    }
}

fn closing(others: Vec<i64>) -> Stage {
    if others.is_empty() { Stage::Term } else { Stage::Close(others) }
}

/// A batch of one record.
fn batch(key: Key, value: &[u8], by: Stamp) -> Vec<u8> {
    let mut queue = Queue::default();
    queue.put(key, Some(value));
    let mut bytes = queue.pop().map(|batch| batch.close(None)).unwrap_or_default();
    stamp(&mut bytes, by);
    bytes
}
