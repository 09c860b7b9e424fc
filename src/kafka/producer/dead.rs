//! Dead letters: rows that Kafka has refused for good, on their way to a topic of their own or to whoever keeps a file.
//!
//! A refused batch leaves its partition at once and holds nobody there. Its rows stay in memory, and in the ledger, until
//! they are in the dead letters: in the topic by way of a hidden sink of this producer, with its own producer id, order
//! and part of the memory; in a file by way of [`Producer::drain_dead`] and [`Producer::filed`]. What finds no room waits.
//! A hidden sink's own refusals go to the file, where there is one, and else are refused: never to a topic again.

use std::collections::VecDeque;
use std::rc::Rc;

use super::batch::Batch;
use super::numbers::Number;
use super::pool::{BATCH_COST, BUFFER_MIN};
use super::resolve::records_of;
use super::row_log::Fate;
use super::tickets::{Cursor, Tickets};
use super::{Finished, Producer, Sink};
use crate::kafka::types::{Outcome, SinkId, Ticket};
use crate::record::compression::Codecs;
use crate::record::{HEADER_LEN, Headers, Row};
use crate::runtime::seam::{Monotonic, WallMs};

/// What the names of the headers begin with that a dead letter has beside its own.
pub const HEADER_PREFIX: &str = "dead-letter-";
/// The sink that could not deliver it.
pub const SINK_HEADER: &str = "dead-letter-sink";
/// Why: a name of [`reason`], or of what was known before the sink took it.
pub const REASON_HEADER: &str = "dead-letter-reason";
/// Kafka's error code.
pub const CODE_HEADER: &str = "dead-letter-kafka-code";
/// The Kafka topic that it was for.
pub const TOPIC_HEADER: &str = "dead-letter-kafka-topic";
/// The partition that it was for, if it had one yet.
pub const PARTITION_HEADER: &str = "dead-letter-kafka-partition";
/// When it was received, milliseconds since 1970.
pub const RECEIVED_HEADER: &str = "dead-letter-received-ms";
/// Bytes of the whole value, where only its beginning is here.
pub const CUT_HEADER: &str = "dead-letter-value-bytes";

/// How much stays of a value that was too large, in the topic.
pub const CUT_VALUE_BYTES: usize = 16 * 1024;
/// What the headers of a row that Kafka refused add to it at most: seven names, a topic, a sink's name, digits.
pub const HEADERS_BYTES_MAX: usize = 2 * 1024;

/// Where the rows go that Kafka refuses a sink for good.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// The sink's name.
    pub sink: String,
    /// The hidden sink, and its topic.
    pub topic: Option<(SinkId, String)>,
    /// Whether somebody keeps a file.
    pub file: bool,
}

/// A row for the file.
#[derive(Debug)]
pub struct DeadRow<'a> {
    /// The sink that was refused: a hidden one, if it was the topic of the dead letters.
    pub sink: SinkId,
    /// Kafka topic.
    pub topic: &'a str,
    /// Its partition, if it had one.
    pub partition: Option<u32>,
    /// Kafka error code.
    pub code: i16,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub value: &'a [u8],
    /// Headers, in order.
    pub headers: Headers<'a>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Who is owed an answer.
    pub ticket: Option<Ticket>,
}

/// A refused batch, as far as its rows have not gone on.
#[derive(Debug)]
pub(super) struct Casualty {
    pub(super) topic: u32,
    pub(super) partition: Option<u32>,
    pub(super) batch: Batch,
    code: i16,
    /// Rows that have gone on.
    pub(super) gone: u32,
    tickets: Cursor,
}

/// Rows on their way to a file, and the number in the log of the first of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Filing {
    rows: u64,
    first: Option<Number>,
}

/// Refused batches by where they go. Their memory is their sink's still, which bounds them.
#[derive(Debug, Default)]
pub(super) struct Casualties {
    to_topic: VecDeque<Casualty>,
    to_file: VecDeque<Casualty>,
}

impl Casualties {
    fn iter(&self) -> impl Iterator<Item = &Casualty> {
        self.to_topic.iter().chain(&self.to_file)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Casualty> {
        self.to_topic.iter_mut().chain(&mut self.to_file)
    }
}

/// Kafka's name of a code that [`super::error::verdict`] calls final.
#[must_use]
pub const fn reason(code: i16) -> &'static str {
    match code {
        10 => "MESSAGE_TOO_LARGE",
        17 => "INVALID_TOPIC_EXCEPTION",
        18 => "RECORD_LIST_TOO_LARGE",
        21 => "INVALID_REQUIRED_ACKS",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        31 => "CLUSTER_AUTHORIZATION_FAILED",
        32 => "INVALID_TIMESTAMP",
        35 => "UNSUPPORTED_VERSION",
        42 => "INVALID_REQUEST",
        43 => "UNSUPPORTED_FOR_MESSAGE_FORMAT",
        44 => "POLICY_VIOLATION",
        53 => "TRANSACTIONAL_ID_AUTHORIZATION_FAILED",
        76 => "UNSUPPORTED_COMPRESSION_TYPE",
        87 => "INVALID_RECORD",
        _ => "KAFKA_ERROR",
    }
}

/// Whether a topic of dead letters is likely to say the same.
const fn is_about_size(code: i16) -> bool {
    matches!(code, 10 | 18)
}

impl Producer {
    /// The end of a batch that Kafka refuses for good: into the dead letters, if its sink has them.
    pub(super) fn end_refused(&mut self, topic: u32, partition: Option<u32>, mut batch: Batch, code: i16) {
        let sink = self.topics[topic as usize].sink;
        let Some(dead) = &self.sinks[sink].settings.dead_letters else {
            return self.end(topic, partition, batch, Outcome::Refused(code));
        };
        // Its rows live on in the log until their letters are safe.
        self.logging.void(&mut batch);
        let to_topic = dead.topic.is_some() && !(dead.file && is_about_size(code));
        let queue = if to_topic { &mut self.casualties.to_topic } else { &mut self.casualties.to_file };
        queue.push_back(Casualty { topic, partition, batch, code, gone: 0, tickets: Cursor::default() });
    }

    /// Whether refused batches of this sink wait for its dead letters.
    pub(super) fn has_casualties(&self, sink: usize) -> bool {
        self.casualties_of(sink).next().is_some()
    }

    pub(super) fn casualties_of(&self, sink: usize) -> impl Iterator<Item = &Casualty> {
        self.casualties.iter().filter(move |casualty| self.topics[casualty.topic as usize].sink == sink)
    }

    /// Gives refused rows to the hidden sinks, as far as there is room.
    pub(super) fn bury(&mut self, now: Monotonic, wall: WallMs) {
        // Where one finds no room those behind it are not even looked at: to read a batch may be to unpack it.
        let mut full = Vec::new();
        for _ in 0..self.casualties.to_topic.len() {
            let Some(mut casualty) = self.casualties.to_topic.pop_front() else { return };
            let sink = self.topics[casualty.topic as usize].sink;
            if full.contains(&sink) {
                self.casualties.to_topic.push_back(casualty);
                continue;
            }
            let mut codecs = std::mem::take(&mut self.codecs);
            let whole = self.bury_rows(&mut casualty, &mut codecs, now, wall);
            codecs.forget_plain();
            self.codecs = codecs;
            if whole {
                self.casualty_over(casualty);
            } else {
                // Another sink's may find room.
                full.push(sink);
                self.casualties.to_topic.push_back(casualty);
            }
        }
    }

    /// `false`: no room for the next row.
    fn bury_rows(&mut self, casualty: &mut Casualty, codecs: &mut Codecs, now: Monotonic, wall: WallMs) -> bool {
        let topic = &self.topics[casualty.topic as usize];
        let (sink, name) = (topic.sink, Rc::clone(&topic.name));
        let Some(dead) = self.sinks[sink].settings.dead_letters.clone() else { return true };
        let Some((hidden, dead_topic)) = &dead.topic else { return true };
        let Some(records) = records_of(&casualty.batch, codecs) else { return true };
        let (code, partition) = (casualty.code.to_string(), casualty.partition.map(|number| number.to_string()));
        for record in records.map_while(Result::ok).skip(casualty.gone as usize) {
            let value = record.value.unwrap_or_default();
            let kept = if is_about_size(casualty.code) { value.len().min(CUT_VALUE_BYTES) } else { value.len() };
            let (received, whole) = (record.timestamp.to_string(), value.len().to_string());
            let why = [
                (SINK_HEADER, Some(dead.sink.as_str())),
                (REASON_HEADER, Some(reason(casualty.code))),
                (CODE_HEADER, Some(code.as_str())),
                (TOPIC_HEADER, Some(&*name)),
                (PARTITION_HEADER, partition.as_deref()),
                (RECEIVED_HEADER, Some(received.as_str())),
                (CUT_HEADER, (kept < value.len()).then_some(whole.as_str())),
            ];
            let why = why.iter().filter_map(|(name, value)| Some((name.as_bytes(), (*value)?.as_bytes())));
            let own = record.headers.clone().map(|(name, value)| (name, value.unwrap_or_default()));
            // A time that Kafka refused it would refuse here, too: the record's is that of its becoming a dead letter.
            let row = Row { key: record.key, value: Some(&value[..kept]), headers: own.chain(why), timestamp: wall };
            let need = HEADER_LEN + super::append::RECORD_OVERHEAD + row.measure().len;
            if !self.may_bury(*hidden, need) {
                return false;
            }
            let ticket = casualty.batch.tickets.next(&mut casualty.tickets);
            self.notes.number = casualty.batch.kept.numbers.of(casualty.gone);
            self.append(*hidden, dead_topic, row, ticket, now);
            casualty.gone += 1;
            let stats = &mut self.sinks[sink].stats;
            stats.buffered_rows -= 1;
            stats.moved += 1;
        }
        true
    }

    /// A hidden sink that holds nothing takes a row whatever else holds, as nothing else may give memory back before it
    /// does: there is a reserve for that. One that holds some has its part.
    fn may_bury(&self, hidden: SinkId, need: usize) -> bool {
        let memory = need.max(BUFFER_MIN) + BATCH_COST;
        let holds = self.sinks.get(usize::from(hidden.0)).is_some_and(|sink| sink.memory > 0);
        !holds || (self.pool.used() + memory <= self.bury_ceiling && self.share(hidden, None, need).is_ok())
    }

    /// Whether a row of this topic is placed whatever else holds: a dead letter with none of its topic before it.
    pub(super) fn may_place_dead(&self, topic: u32) -> bool {
        let topic = &self.topics[topic as usize];
        topic.placed == 0 && self.sinks[topic.sink].settings.hidden
    }

    /// Offers refused rows to whoever keeps the files, oldest first, of each sink until one is not taken: a file that
    /// takes nothing holds up no other's. What is taken is held to be on its way until [`Producer::filed`].
    pub fn drain_dead(&mut self, mut take: impl FnMut(&DeadRow<'_>) -> bool) {
        let mut closed = Vec::new();
        for _ in 0..self.casualties.to_file.len() {
            let Some(mut casualty) = self.casualties.to_file.pop_front() else { return };
            let topic = &self.topics[casualty.topic as usize];
            let filing = &mut self.sinks[topic.sink].filing;
            let sink = SinkId(u16::try_from(topic.sink).unwrap_or(u16::MAX));
            if closed.contains(&sink) {
                self.casualties.to_file.push_back(casualty);
                continue;
            }
            let mut full = false;
            if let Some(records) = records_of(&casualty.batch, &mut self.codecs) {
                for record in records.map_while(Result::ok).skip(casualty.gone as usize) {
                    let mut behind = casualty.tickets;
                    let row = DeadRow {
                        sink,
                        topic: &topic.name,
                        partition: casualty.partition,
                        code: casualty.code,
                        key: record.key,
                        value: record.value.unwrap_or_default(),
                        headers: record.headers,
                        timestamp: record.timestamp,
                        ticket: casualty.batch.tickets.next(&mut behind),
                    };
                    full = !take(&row);
                    if full {
                        break;
                    }
                    filing_of(filing, casualty.batch.kept.numbers.of(casualty.gone));
                    casualty.tickets = behind;
                    casualty.gone += 1;
                }
            }
            self.codecs.forget_plain();
            if full {
                // All are gone through, so they stand in their order again.
                closed.push(sink);
                self.casualties.to_file.push_back(casualty);
            } else {
                self.casualty_over(casualty);
            }
        }
    }

    /// Rows of a sink that [`Producer::drain_dead`] or [`Producer::dead_at_door`] began are in the file.
    pub fn filed(&mut self, sink: SinkId, rows: u64) {
        let Sink { stats, filing, .. } = &mut self.sinks[usize::from(sink.0)];
        let mut left = rows;
        while let Some(first) = filing.front_mut().filter(|_| left > 0) {
            let count = left.min(first.rows);
            if let Some(number) = first.first.as_mut() {
                for _ in 0..count {
                    self.logging.row_over(*number, Fate::DeadLettered);
                    number.number += 1;
                }
            }
            left -= count;
            first.rows -= count;
            filing.pop_front_if(|first| first.rows == 0);
        }
        stats.buffered_rows -= rows;
        stats.filed += rows;
    }

    /// A message goes to the file before the sink took it: it counts as one of the sink's.
    pub fn dead_at_door(&mut self, sink: SinkId) {
        let Sink { stats, filing, .. } = &mut self.sinks[usize::from(sink.0)];
        filing_of(filing, None);
        stats.appended += 1;
        stats.buffered_rows += 1;
    }

    /// Rows of a sink that a file has been given and has not told of, and that are not in the log.
    pub(super) fn filing(&self, sink: usize) -> u64 {
        self.sinks[sink].filing.iter().filter(|filing| filing.first.is_none()).map(|filing| filing.rows).sum()
    }

    /// Whether refused rows wait for [`Producer::drain_dead`].
    #[must_use]
    pub fn has_dead(&self) -> bool {
        !self.casualties.to_file.is_empty()
    }

    /// Gives a refused batch's memory back. Rows that could not be read, which are our own bytes, are refused.
    fn casualty_over(&mut self, casualty: Casualty) {
        let mut cursor = casualty.tickets;
        let Casualty { topic, batch, code, gone, .. } = casualty;
        let rest = batch.count - gone;
        let unread = (gone..batch.count).filter_map(|row| batch.kept.numbers.of(row));
        unread.for_each(|number| self.logging.row_over(number, Fate::Refused));
        let mut tickets = Tickets::default();
        (0..rest).for_each(|_| tickets.push(batch.tickets.next(&mut cursor)));
        self.resized(topic, batch.memory(), 0);
        let sink = self.topics[topic as usize].sink;
        let stats = &mut self.sinks[sink].stats;
        stats.buffered_bytes -= batch.plain_len as u64;
        stats.buffered_rows -= u64::from(rest);
        stats.refused += u64::from(rest);
        let done = batch.end(&mut self.pool);
        self.pool.give_tickets(done);
        if rest > 0 {
            self.finished.push(Finished::new(tickets, Outcome::Refused(code), true));
        }
    }
}

/// Notes that a row has been given to a file.
fn filing_of(filing: &mut VecDeque<Filing>, number: Option<Number>) {
    if let Some(last) = filing.back_mut() {
        let next = last.first.map(|first| Number { number: first.number + last.rows, ..first });
        if next == number {
            last.rows += 1;
            return;
        }
    }
    filing.push_back(Filing { rows: 1, first: number });
}
