//! What must hold. At every turn: the ledger, the memory bound and the rules that are visible on the wire. At the end: nothing
//! acknowledged is lost, nothing is there twice, order held, no answer was wrong, and everything came to rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::clients::{Clients, Message};
use super::kafka::{Cluster, Entry};
use super::landed::Places;
use super::lost::Lost;
use super::plan::{DEAD, Plan, SINKS, TOPICS};
use super::row::{self, KEYS, Kind, Row};
use super::store::Told;
use super::trace::Trace;
use crate::kafka::producer::row_log::Fate;
use crate::kafka::producer::{AnsweredOn, Keep, Partitioner, Producer, SinkSettings, SinkStats};
use crate::kafka::types::{LogSays, Outcome, ProduceRequest, ProduceResult, Question, Run, SinkId};
use crate::record::BatchView;
use crate::runtime::seam::Monotonic;
use crate::shard::dead_letters::DeadLetterQueue;

/// Bound on a sink's questions that get no answer other than "not now", after which the producer may have treated the partition as
/// unanswerable. The producer gives up after a hundred; other answers may have arrived when no question was pending.
const AGAIN_MAX: u32 = 95;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A failure. The first word names its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) what: What,
    pub(super) text: String,
}

/// Kinds of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Loss,
    Double,
    Order,
    WrongAnswer,
    /// Losses were not counted, or more losses were counted than there were.
    Uncounted,
    /// A row is in Kafka, but without its timestamp.
    Content,
    Memory,
    Ledger,
    Progress,
    Wire,
    /// The log got an impossible call, lost or kept the wrong rows, or takes too much of the disk.
    Log,
    /// A client got an impossible answer.
    Session,
    /// An assertion of the producer or of the model failed.
    Panic,
}

/// Batches of one identity on a partition that Kafka has not answered with 0, as the wire shows them.
#[derive(Debug)]
struct Undone {
    identity: (i64, i16),
    /// First sequences, oldest first.
    batches: Vec<i32>,
}

/// A batch in a request: sink, topic, partition; identity; first sequence; records.
type Sent = ((usize, usize, i32), (i64, i16), i32, i64);

/// The totals of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) doubles: u64,
    /// Rows with doubles that were not judged, because a log could not show that it had them.
    pub(super) hidden: u64,
    /// Questions about logs.
    pub(super) questions: u64,
    /// Requests over second lanes.
    pub(super) slow: u64,
    /// Rows with an order that was not judged, because a log that had never heard of their producer took a later batch
    /// first.
    pub(super) torn: u64,
    /// Acknowledged records that were lost with a leader or with their topic.
    pub(super) went: u64,
    /// Ends of the process. The next two fields: rows and cuts that its starts found.
    pub(super) crashes: u64,
    pub(super) rows_found: u64,
    pub(super) cuts_found: u64,
    /// Messages of clients. The next field: those that were repeated to sinks that did not have them.
    pub(super) messages: u64,
    pub(super) repeated: u64,
    /// Rows with a reported offset.
    pub(super) places: u64,
    /// Rows that found no room, without rows of clients' messages. The next field: rows that were dropped to make room.
    pub(super) no_room: u64,
    pub(super) dropped: u64,
    /// Orderly stops that had the time to save everything. The next field: rows of saved sinks that the next process
    /// found.
    pub(super) stops: u64,
    pub(super) saved: u64,
    pub(super) stats: SinkStats,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.doubles += other.doubles;
        self.hidden += other.hidden;
        self.questions += other.questions;
        self.slow += other.slow;
        self.torn += other.torn;
        self.went += other.went;
        self.crashes += other.crashes;
        self.rows_found += other.rows_found;
        self.cuts_found += other.cuts_found;
        self.messages += other.messages;
        self.repeated += other.repeated;
        self.places += other.places;
        self.no_room += other.no_room;
        self.dropped += other.dropped;
        self.stops += other.stops;
        self.saved += other.saved;
        add(&mut self.stats, &other.stats);
    }
}

/// A batch: producer id, epoch, topic, partition, last sequence.
type Numbered = (i64, i16, usize, i32, i32);

fn numbered(entry: &Entry) -> Numbered {
    (entry.producer, entry.epoch, entry.place.0, entry.place.1 as i32, entry.last)
}

/// Whether a batch was appended after the recorded answer about it.
fn is_since(entry: &Entry, answers: &HashMap<Numbered, u64>) -> bool {
    answers.get(&numbered(entry)).is_some_and(|appended| entry.order > *appended)
}

/// Whether a batch came in late, when its partition had forgotten its producer or after Kafka had shown that it was not there.
fn came_after(entry: &Entry, not_there: &HashMap<Numbered, u64>) -> bool {
    entry.late && (entry.forgotten || is_since(entry, not_there))
}

/// The judge of one run.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) rows: Vec<Row>,
    pub(super) sums: Sums,
    memory_max: usize,
    /// The most undone batches of a partition, by sink.
    windows: Vec<usize>,
    answers: u64,
    /// Rows of processes that ended before they were answered.
    orphans: u64,
    /// Counters of processes that have ended, by sink.
    past: Vec<SinkStats>,
    /// Rows that were already in Kafka when a start found them, by sink: both the previous process and this one may have counted them as
    /// delivered.
    taken_up: Vec<u64>,
    /// Buffer of each sink's rows, by sink.
    keeps: Vec<Keep>,
    /// The event on which rows are answered, by sink.
    answered_on: Vec<AnsweredOn>,
    /// The sink of each producer id.
    sinks: HashMap<i64, usize>,
    undone: BTreeMap<(usize, usize, i32), Undone>,
    requests: HashMap<u64, Vec<Sent>>,
    /// Sinks with a question that was not answered, or was answered with "no such topic": another log may have taken a younger
    /// batch first.
    untold: HashSet<usize>,
    /// Sink and topic of batches that were answered 45: a restarted broker remembers one batch of a producer. In a recreated topic such a
    /// batch may never have been there (decision 0086).
    out_of_order: HashSet<(usize, usize)>,
    /// Questions that were not answered, or had to be asked again, by sink.
    again: HashMap<usize, u32>,
    /// Batches that Kafka has shown to be absent, with the number of batches it had taken by then. Later requests of old
    /// connections may still append them.
    not_there: HashMap<Numbered, u64>,
    /// Batches that Kafka could not tell about, with the number of batches it had taken by then. They are voided, but
    /// may be in the log.
    not_told: HashMap<Numbered, u64>,
    lost: Lost,
    /// Reported places of answered rows.
    places: Places,
    failure: Option<Failure>,
}

impl Judge {
    pub(super) fn new(memory_max: usize, sinks: &[SinkSettings]) -> Self {
        Self {
            rows: Vec::new(),
            sums: Sums::default(),
            memory_max,
            windows: sinks.iter().map(|sink| sink.max_inflight).collect(),
            answers: 0,
            orphans: 0,
            past: vec![SinkStats::default(); sinks.len()],
            taken_up: vec![0; sinks.len()],
            keeps: sinks.iter().map(|sink| sink.keep).collect(),
            answered_on: sinks.iter().map(|sink| sink.answered_on).collect(),
            sinks: HashMap::new(),
            undone: BTreeMap::new(),
            requests: HashMap::new(),
            untold: HashSet::new(),
            out_of_order: HashSet::new(),
            again: HashMap::new(),
            not_there: HashMap::new(),
            not_told: HashMap::new(),
            lost: Lost::default(),
            places: Places::default(),
            failure: None,
        }
    }

    pub(super) fn fails(&mut self, what: What, text: String) {
        self.failure.get_or_insert(Failure { what, text });
    }

    /// The first failure, if there was one.
    pub(super) fn verdict(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }

    pub(super) fn id_given(&mut self, id: i64, sink: u64) {
        self.sinks.insert(id, sink as usize);
    }

    /// Checks a request on its way: P7, the promises made to the client, and the window of five, which P4 makes hard to see in a
    /// log.
    pub(super) fn sent(&mut self, request: &ProduceRequest, told: &Told) {
        let mut seen: Vec<(&str, i32)> = Vec::new();
        let mut entries = Vec::new();
        for batch in &request.batches {
            let place = (&*batch.topic, batch.partition);
            if seen.contains(&place) {
                self.fails(What::Wire, format!("two batches of {place:?} in request {}", request.id));
            }
            if seen.last().is_some_and(|last| last.0 != place.0) && seen.iter().any(|other| other.0 == place.0) {
                self.fails(What::Wire, format!("batches of {} do not stand together", place.0));
            }
            seen.push(place);
            let view = BatchView::parse(&batch.bytes).expect("a batch").0;
            let identity = (view.header().producer_id, view.header().producer_epoch);
            let Some(sink) = self.sinks.get(&identity.0).copied() else { continue };
            let topic = TOPICS.iter().position(|name| *name == place.0).expect("a topic of ours");
            let key = (sink, topic, batch.partition);
            self.window(key, identity, view.header().base_sequence);
            let count = i64::from(view.header().records_count);
            let name = (identity.0, identity.1, TOPICS[topic].to_owned(), batch.partition, view.header().base_sequence);
            if let Some(text) = told.sent(sink, name, || rows_in(&view)) {
                self.fails(What::Wire, text);
            }
            entries.push((key, identity, view.header().base_sequence, count));
        }
        self.sums.slow += u64::from(request.slow);
        if request.batches.is_empty() {
            self.fails(What::Wire, "an empty request".into());
        }
        self.requests.insert(request.id, entries);
    }

    fn window(&mut self, key: (usize, usize, i32), identity: (i64, i16), first: i32) {
        let undone = self.undone.entry(key).or_insert(Undone { identity, batches: Vec::new() });
        if undone.identity != identity {
            let back = identity < undone.identity;
            *undone = Undone { identity, batches: Vec::new() };
            if back {
                self.fails(What::Wire, format!("{key:?}: an older identity after {identity:?}"));
                return;
            }
        }
        if !undone.batches.contains(&first) {
            undone.batches.push(first);
        }
        let span = undone.batches.len();
        if span > self.windows[key.0] {
            self.fails(What::Wire, format!("{key:?}: {span} batches undone"));
        }
    }

    /// Notes a question. The producer gives up on a question that is asked too often, and counts that.
    pub(super) fn asked(&mut self, question: &Question) {
        let Some(sink) = self.sinks.get(&question.producer_id).copied() else { return };
        let again = self.again.entry(sink).or_default();
        *again += 1;
        if *again >= AGAIN_MAX {
            self.untold.insert(sink);
        }
    }

    /// Notes an answer to a question and what the answer settles. An answer that settles nothing may lead to doubles,
    /// which are counted.
    pub(super) fn said(&mut self, question: &Question, says: LogSays, appended: u64) {
        self.sums.questions += 1;
        let topic = TOPICS.iter().position(|name| *name == &*question.topic).expect("a topic of ours");
        if let LogSays::Ends { at } = says {
            let from = question.from.expect("where it was known to go on");
            self.lost.ends((topic, question.partition), from, at);
        }
        // The end of the log settles nothing.
        if question.last_sequences.is_empty() {
            return;
        }
        let sink = self.sinks.get(&question.producer_id).copied().expect("a producer of ours");
        let again = self.again.entry(sink).or_default();
        *again = again.saturating_sub(u32::from(says != LogSays::Again));
        // A start does not know what the previous process had cut of a hybrid sink in memory alone: the log may end with
        // such a batch.
        let half_known = says == LogSays::Lost && matches!(self.keeps[sink], Keep::Hybrid | Keep::HybridSaved);
        if matches!(says, LogSays::CannotTell(_)) || half_known {
            self.untold.insert(sink);
        }
        let place = (question.producer_id, question.epoch, topic, question.partition);
        let batches = question.last_sequences.iter().map(|last| (place.0, place.1, place.2, place.3, *last));
        match says {
            LogSays::Next { .. } => batches.for_each(|batch| {
                self.not_there.entry(batch).or_insert(appended);
            }),
            LogSays::CannotTell(_) => batches.for_each(|batch| {
                self.not_told.entry(batch).or_insert(appended);
            }),
            _ => {}
        }
        let LogSays::There { last_sequence } = says else { return };
        let settled =
            question.last_sequences.iter().position(|last| *last == last_sequence).map_or(0, |place| place + 1);
        let identity = (question.producer_id, question.epoch);
        for (key, undone) in &mut self.undone {
            if undone.identity == identity && *question.topic == *TOPICS[key.1] && question.partition == key.2 {
                let older = undone.batches.iter().position(|first| *first == question.first_sequence).unwrap_or(0);
                let settled = undone.batches.drain(..(older + settled).min(undone.batches.len()));
                settled.for_each(|first| self.lost.done(*key, identity, first));
            }
        }
    }

    /// Notes what an answer settles.
    pub(super) fn answered(&mut self, id: u64, results: &[ProduceResult]) {
        for (key, identity, first, count) in self.requests.remove(&id).unwrap_or_default() {
            let is_it = |result: &&ProduceResult| *result.topic == *TOPICS[key.1] && result.partition == key.2;
            match results.iter().find(is_it).map(|result| result.error) {
                Some(3) => drop(self.untold.insert(key.0)),
                Some(45) => drop(self.out_of_order.insert((key.0, key.1))),
                _ => {}
            }
            if let Some(result) = results.iter().find(is_it).filter(|result| result.error == 0)
                && let Some(undone) = self.undone.get_mut(&key).filter(|undone| undone.identity == identity)
                && let Some(place) = undone.batches.iter().position(|batch| *batch == first)
            {
                undone.batches.drain(..=place).for_each(|first| self.lost.done(key, identity, first));
                if result.base_offset >= 0 {
                    self.lost.answered(key, result.base_offset, count);
                }
            }
        }
    }

    /// Takes the counters of a process that ends.
    fn past(&mut self, producer: &Producer) {
        for (sink, past) in self.past.iter_mut().enumerate() {
            add(past, producer.stats(SinkId(sink as u16)));
        }
    }

    /// Notes the end of the process. `gone`: rows that were in its log, or were meant for it, and are no longer there.
    pub(super) fn crashed(&mut self, producer: &Producer, gone: &BTreeSet<u32>, saved: bool) {
        self.past(producer);
        self.sums.crashes += 1;
        for (number, row) in self.rows.iter_mut().enumerate() {
            row.adrift |= row.outcome.is_none() && !saved;
            if row.outcome.is_none() && !row.orphan {
                row.orphan = true;
                self.orphans += 1;
            } else if row.outcome.is_some()
                && self.answered_on[row.sink] == AnsweredOn::Stored
                && gone.contains(&(number as u32))
                && let None = self.failure
            {
                let text = format!("row {number} was answered, and is gone: {row:?}");
                self.failure = Some(Failure { what: What::Loss, text });
            }
        }
        // Batches that a hybrid sink had in memory alone were sent without waiting for the end of the batches in the log,
        // which may be gone.
        self.undone.retain(|(sink, ..), _| self.keeps[*sink] == Keep::Disk);
        self.undone.values_mut().for_each(|undone| undone.batches.clear());
        self.requests.clear();
        self.again.clear();
        self.lost.crashed();
    }

    /// Notes the rows that a start takes up.
    pub(super) fn taken_up(&mut self, rows: impl Iterator<Item = u32>, kafka: &Cluster) {
        let topics = &kafka.topics[..DEAD];
        let there: HashSet<u32> = topics
            .iter()
            .flat_map(|topic| Cluster::makings(topic).flatten().chain(&topic.lost))
            .flat_map(|entry| entry.rows.iter().copied())
            .collect();
        for row in rows.filter(|row| there.contains(row)) {
            self.taken_up[self.rows[row as usize].sink] += 1;
        }
    }

    /// Notes an orderly stop of the process: the rows of saved sinks must be in the log.
    pub(super) fn saved(&mut self, producer: &Producer, plan: &Plan, found: &BTreeMap<(u64, u64), u32>) {
        self.sums.stops += 1;
        let sinks = plan.settings.sinks.iter().enumerate();
        for (sink, _) in sinks.filter(|(_, settings)| !settings.reserved && settings.keep == Keep::HybridSaved) {
            let held = producer.stats(SinkId(sink as u16)).buffered_rows;
            let there = found.values().filter(|row| self.rows[**row as usize].sink == sink).count() as u64;
            self.sums.saved += there;
            if held != there {
                let standing = producer.standing();
                let text =
                    format!("sink {sink} had {held} rows when it was stopped, and {there} are there: {standing}");
                self.fails(What::Loss, text);
            }
        }
    }

    /// Marks the last row as a client's: its answer goes to the client.
    pub(super) fn adopt(&mut self) {
        self.orphans += 1;
        self.rows.last_mut().expect("a row").orphan = true;
    }

    /// Checks the answers to clients: a message at QoS 2 is in Kafka once, where its rows are kept on the disk, and an answered message is
    /// there.
    fn messages(&mut self, found: &Found, messages: &[Message], plan: &Plan, told: &Told) {
        self.sums.messages = messages.len() as u64;
        for (number, message) in messages.iter().enumerate() {
            self.sums.repeated += u64::from(message.rows.len() > message.sinks.len());
            for sink in message.sinks.iter().filter(|sink| plan.settings.sinks[**sink].keep == Keep::Disk) {
                let rows = message.rows.iter().map(|row| *row as usize).filter(|row| self.rows[*row].sink == *sink);
                let came_to = |row: &usize| {
                    // A refused row was not taken: the next attempt is a new row.
                    let is_over = told.fates.get(&(*row as u32)).is_some_and(|(fate, _)| *fate != Fate::Refused);
                    let fate = told.fates.get(&(*row as u32)).map(|(fate, _)| *fate);
                    let stored = self.answered_on[self.rows[*row].sink] == AnsweredOn::Stored;
                    let is_old = self.rows[*row].expires != Monotonic::NEVER || stored && fate == Some(Fate::Refused);
                    // An expired row never went to Kafka, and may be forgotten together with its end: its message is
                    // taken again.
                    let went = found.copies[*row] > 0 || is_over && fate != Some(Fate::Expired);
                    (u32::from(found.copies[*row] > 0 || is_over), u32::from(went), is_old)
                };
                let (mut copies, mut went, mut helpless, mut old) = (0, 0, false, false);
                for row in rows {
                    let (times, times_there, is_old) = came_to(&row);
                    copies += times;
                    went += times_there;
                    // The row expired before it was written down, or was answered before Kafka refused it: it is over,
                    // and answered.
                    old |= is_old;
                    helpless |= found.helpless[row];
                }
                let text = || format!("message {number}: {message:?}, {went} of sink {sink}");
                if message.answered && copies == 0 && !message.refused && !old {
                    self.fails(What::Loss, text());
                }
                // A refusal by one sink refuses the whole message: the next attempt is a new message for all sinks.
                let refused = |row: &u32| {
                    let outcome = self.rows[*row as usize].outcome;
                    told.fates.get(row).is_some_and(|(fate, _)| *fate == Fate::Refused)
                        || matches!(outcome, Some((Outcome::Refused(_), _)))
                };
                // The log has no note of rows of a sink without a disk.
                let unknown = message.sinks.iter().any(|sink| plan.settings.sinks[*sink].keep != Keep::Disk);
                helpless |= unknown || message.rows.iter().any(refused);
                // A single row that is in Kafka twice is judged as a row, not as a message.
                if message.exactly_once && went > 1 && !helpless && message.rows.len() > message.sinks.len() {
                    self.fails(What::Double, text());
                }
            }
        }
    }

    /// After the producer's turn: answers, ledger, memory.
    pub(super) fn turn(
        &mut self,
        (producer, letters): (&mut Producer, &mut DeadLetterQueue),
        clients: Option<&mut Clients>,
        trace: &mut Trace,
        now: Monotonic,
        told: &Told,
    ) {
        let mut runs = Vec::new();
        // The numbers of clients' messages are not the numbers of rows.
        let by_row = clients.is_none();
        producer.drain_landed(|run, outcome, landed| {
            if letters.answered(run, outcome) {
                return;
            }
            self.places.note(run, landed.filter(|_| by_row));
            super::digest::completed(run, outcome, now);
            runs.push((run, outcome));
        });
        letters.settle(producer);
        letters.drain_answers(|(ticket, outcome)| {
            runs.push((Run { session: ticket.session, first: ticket.number, count: 1 }, outcome));
        });
        if let Some(clients) = clients {
            runs.drain(..).for_each(|(run, outcome)| clients.complete(run, outcome));
        }
        for (run, outcome) in runs {
            trace.note(now, || format!("rows {}..{} {outcome:?}", run.first, run.first + run.count));
            for number in run.first..run.first + run.count {
                self.answers += 1;
                let row = &mut self.rows[number as usize];
                let before = row.outcome.replace((outcome, now));
                let (sink, orphan, expires) = (row.sink, row.orphan, row.expires);
                if run.session != row::session(number) || before.is_some() || orphan {
                    self.fails(What::WrongAnswer, format!("row {number} answered again: {before:?}, {outcome:?}"));
                }
                // A row that expired before a group had room for it is over, and answered.
                let kept = told.is_safe(number) || expires <= now;
                if self.answered_on[sink] == AnsweredOn::Stored && !kept {
                    self.fails(What::WrongAnswer, format!("row {number} is answered, and not on the disk"));
                }
            }
        }
        for sink in 0..self.windows.len() {
            let stats = *producer.stats(SinkId(sink as u16));
            let over = stats.delivered + stats.refused + stats.expired + stats.handed_over;
            let over = over + stats.dropped + stats.rotten;
            if stats.appended + stats.recovered != over + stats.buffered_rows {
                self.fails(What::Ledger, format!("sink {sink}: {stats:?}"));
            }
        }
        if producer.memory_bytes() > self.memory_max {
            self.fails(What::Memory, format!("{} of {}", producer.memory_bytes(), self.memory_max));
        }
    }

    /// The checks at the end, when everything should have come to rest.
    pub(super) fn at_the_end(
        &mut self,
        producer: &Producer,
        kafka: &Cluster,
        plan: &Plan,
        (told, messages): (&Told, &[Message]),
    ) -> Result<(), Failure> {
        self.verdict()?;
        let rest = producer.buffered_rows();
        self.past(producer);
        let all = std::mem::take(&mut self.past);
        if rest > 0 || self.answers + self.orphans < self.rows.len() as u64 {
            let (answered, standing) = (self.answers, producer.standing());
            let text = format!("{rest} rows held, {answered} of {} answered: {all:?}\n{standing}", self.rows.len());
            self.fails(What::Progress, text);
            return self.verdict();
        }
        self.sums.rows = self.rows.len() as u64;
        self.sums.places = self.places.count();
        if let Some(row) = self.places.wrong(kafka) {
            self.fails(What::WrongAnswer, format!("it was never there: {row}"));
        }
        for stats in &all {
            add(&mut self.sums.stats, stats);
        }
        let found = Found::new(kafka, self.rows.len(), (&self.not_there, &self.not_told));
        self.times(kafka);
        self.losses(&found, &all, kafka, plan, told);
        self.messages(&found, messages, plan, told);
        self.counted(&all, kafka, plan, told);
        self.order(kafka, plan, told);
        self.verdict()
    }

    /// Checks that acknowledged records that Kafka lost are counted where an answer showed the loss, and never more of
    /// them than were lost.
    fn counted(&mut self, all: &[SinkStats], kafka: &Cluster, plan: &Plan, told: &Told) {
        for (sink, stats) in all.iter().enumerate() {
            let dropped = told.drops.get(&sink).copied().unwrap_or(0);
            self.sums.dropped += dropped;
            if stats.dropped != dropped {
                self.fails(What::Uncounted, format!("sink {sink}: {dropped} rows dropped, {} counted", stats.dropped));
            }
            self.sums.went += self.lost.records(kafka, &self.sinks, sink);
            let remembers = plan.settings.topics_max > TOPICS.len() * all.len();
            if let Some(text) = self.lost.judge(kafka, &self.sinks, sink, stats, remembers) {
                self.fails(What::Uncounted, text);
            }
        }
    }

    /// Checks that a record has its row's time, or a header with that time. A dead letter has a time of its own.
    fn times(&mut self, kafka: &Cluster) {
        for entry in kafka.topics[..DEAD].iter().flat_map(Cluster::makings).flatten() {
            for (number, time) in entry.rows.iter().zip(&entry.times) {
                let row = &self.rows[*number as usize];
                if row.timestamp != *time {
                    let text = format!("row {number}: {row:?}, there with {time}");
                    self.fails(What::Content, text);
                }
            }
        }
    }

    /// Whether a batch came in late, after Kafka had shown that it was absent, could not tell, or had forgotten its producer. A batch
    /// that was there when Kafka could not tell is the first copy of its rows, late or not.
    fn after_all(&self, entry: &Entry) -> bool {
        came_after(entry, &self.not_there) || entry.late && is_since(entry, &self.not_told)
    }

    fn losses(&mut self, found: &Found, all: &[SinkStats], kafka: &Cluster, plan: &Plan, told: &Told) {
        let lost: Vec<BTreeSet<u32>> = kafka
            .topics
            .iter()
            .map(|topic| topic.lost.iter().flat_map(|entry| &entry.rows).copied().collect())
            .collect();
        // Topic and sink with a late request that was the first one in a new log (by name), or in a log that had
        // forgotten its producer.
        let misled: HashSet<(usize, usize)> = (0..DEAD)
            .flat_map(|topic| Cluster::makings(&kafka.topics[topic]).flatten().map(move |entry| (topic, entry)))
            .filter(|(_, entry)| entry.late && entry.forgotten)
            .filter_map(|(topic, entry)| Some((topic, *self.sinks.get(&entry.producer)?)))
            .collect();
        // By name, a recreated topic may take a younger batch first: the older ones are sent again, and counted.
        let any_anew = !plan.by_id && kafka.topics[..DEAD].iter().any(|topic| topic.made > 0);
        let (mut doubles, mut there, mut left_out) = (vec![0; SINKS], vec![0; SINKS], vec![0; SINKS]);
        for number in 0..self.rows.len() {
            let row = &self.rows[number];
            let settings = &plan.settings.sinks[row.sink];
            let topic = &kafka.topics[row.topic];
            let (copies, number) = (found.copies[number], number as u32);
            there[row.sink] += u64::from(copies > 0);
            let hidden = kafka.hidden.contains(&number);
            self.sums.hidden += u64::from(hidden);
            doubles[row.sink] += u64::from(copies > 1 && !found.helpless[number as usize] && !hidden);
            if told.dropped.contains(&number) {
                let row_number = number as usize;
                let excused = found.helpless[row_number] || found.late[row_number] || found.not_told[row_number];
                // The copies in the topic may be gone because the topic was deleted.
                if found.now[row_number] && !excused {
                    let text = format!("row {number} was dropped, and is there: {row:?}");
                    self.fails(What::WrongAnswer, text);
                }
                continue;
            }
            let lost_by_kafka = lost[row.topic].contains(&number) && settings.acks == 1;
            let missing =
                copies == 0 && !lost_by_kafka && settings.acks != 0 && !misled.contains(&(row.topic, row.sink));
            let fate = told.fates.get(&number);
            let text = format!("row {number}: {row:?}, {fate:?}, {copies} copies");
            let outcome = match fate {
                // The log is authoritative: the answer may have come earlier, or never.
                Some((fate, at)) => Some((outcome(*fate, row, settings), *at)),
                None if settings.keep == Keep::Disk => None,
                None => row.outcome,
            };
            match outcome {
                // The row was answered before Kafka answered: the sink's counters say how it ended.
                _ if settings.answered_on == AnsweredOn::Append => {}
                // A deadline is restored from the disk with a precision of a millisecond, and so is the clock.
                Some((Outcome::Delivered, at)) if missing && row.expires <= at.after(2 * MILLISECOND) => {
                    left_out[row.sink] += 1
                }
                Some((Outcome::Delivered, _)) if missing => self.fails(What::Loss, text),
                Some((Outcome::DeadLettered, _)) if !found.dead[number as usize] => {
                    self.fails(What::Loss, text);
                }
                // The row was refused and is in Kafka: Kafka could not be asked, which is counted.
                Some((Outcome::Refused(_) | Outcome::DeadLettered, _)) if found.now[number as usize] => {
                    doubles[row.sink] += u64::from(!found.late[number as usize] && !hidden);
                }
                Some((Outcome::Refused(_) | Outcome::DeadLettered, _)) => {
                    let small = topic.was_small || row.kind == Kind::Poison;
                    let dead = &kafka.topics[DEAD];
                    let guilty = match outcome {
                        Some((Outcome::DeadLettered, _)) => small || topic.was_forbidden,
                        Some((Outcome::Refused(0), _)) => {
                            (topic.was_small || topic.was_forbidden)
                                || settings.keep_rejected && (dead.was_small || dead.was_forbidden)
                        }
                        Some((Outcome::Refused(10), _)) => {
                            topic.was_small || (dead.was_small && settings.keep_rejected)
                        }
                        Some((Outcome::Refused(29), _)) => {
                            topic.was_forbidden || (dead.was_forbidden && settings.keep_rejected)
                        }
                        Some((Outcome::Refused(87), _)) => row.kind == Kind::Poison && !settings.keep_rejected,
                        _ => false,
                    };
                    if !guilty {
                        self.fails(What::WrongAnswer, text);
                    }
                }
                _ => {}
            }
        }
        for sink in 0..SINKS {
            let (stats, settings) = (&all[sink], &plan.settings.sinks[sink]);
            self.sums.doubles += doubles[sink];
            let forgotten = |(of, topic): &(usize, usize)| *of == sink && kafka.topics[*topic].made > 0;
            let untold = self.untold.contains(&sink) || self.out_of_order.iter().any(forgotten);
            let counted = if any_anew || untold { stats.outcome_unknown } else { 0 };
            if settings.acks != 0 && doubles[sink] > counted {
                let which: Vec<_> =
                    (0..self.rows.len()).filter(|i| self.rows[*i].sink == sink && found.copies[*i] > 1).collect();
                let counted = stats.outcome_unknown;
                let text = format!("sink {sink}: {} rows twice, {counted} counted: {which:?}", doubles[sink]);
                self.fails(What::Double, text);
            }
            let answered_late = settings.answered_on != AnsweredOn::Append;
            if answered_late && left_out[sink] > stats.expired {
                self.fails(
                    What::Loss,
                    format!("sink {sink}: {} rows left out, {} expired", left_out[sink], stats.expired),
                );
            }
            let lost_by_kafka: u64 = lost.iter().map(|rows| rows.len() as u64).sum();
            if misled.iter().any(|(_, other)| *other == sink) {
                continue;
            }
            // Rows that were delivered, but not known to be when the process ended, are sent and counted again. That holds
            // for each sink with rows in the log, even if only for those that memory has no room for.
            let lost_by_kafka = if settings.acks == 1 { lost_by_kafka } else { 0 };
            let again = self.taken_up[sink];
            if settings.acks != 0 && there[sink] + lost_by_kafka + again < stats.delivered {
                self.fails(What::Loss, format!("sink {sink}: {} rows there, {again} again, {stats:?}", there[sink]));
            }
        }
    }

    /// Checks that the first copies of the rows of a sink, topic and key (or client, where that selects the partition) are in the order in which
    /// they were taken.
    fn order(&mut self, kafka: &Cluster, plan: &Plan, told: &Told) {
        let mut firsts: BTreeMap<(usize, usize, u32), Vec<(u64, u32)>> = BTreeMap::new();
        let (mut seen, mut torn_rows) = (vec![false; self.rows.len()], 0);
        for topic in &kafka.topics[..DEAD] {
            let mut entries: Vec<&Entry> = Cluster::makings(topic).flatten().collect();
            entries.sort_unstable_by_key(|entry| entry.order);
            for entry in entries.into_iter().filter(|entry| !self.after_all(entry)) {
                for number in &entry.rows {
                    let row = &self.rows[*number as usize];
                    let settings = &plan.settings.sinks[row.sink];
                    let group = match settings.partitioner {
                        Partitioner::Key => number % KEYS,
                        Partitioner::Hash => KEYS + row::session(*number) as u32,
                        Partitioner::Sticky | Partitioner::Random => 0,
                    };
                    let ordered = settings.acks != 0 && group != 0;
                    let torn = topic.begun_late.iter().any(|id| self.sinks.get(id) == Some(&row.sink));
                    torn_rows += u64::from(ordered && torn);
                    let ordered = ordered && !torn;
                    // A refused row may still arrive late, on an old connection.
                    let ordered =
                        ordered && !matches!(row.outcome, Some((Outcome::Refused(_) | Outcome::DeadLettered, _)));
                    // A row that only memory had may arrive late, after the next process has written.
                    let is_kept = settings.keep == Keep::Disk || settings.keep == Keep::HybridSaved && !row.adrift;
                    let ordered = ordered && (!row.orphan || is_kept) && !told.loose.contains(number);
                    if !std::mem::replace(&mut seen[*number as usize], true) && ordered {
                        firsts.entry((row.sink, row.topic, group)).or_default().push((entry.order, *number));
                    }
                }
            }
        }
        self.sums.torn += torn_rows;
        for (key, rows) in firsts {
            if let Some(pair) = rows.windows(2).find(|pair| pair[0].1 > pair[1].1) {
                self.fails(What::Order, format!("{key:?}: {} before {}", pair[0].1, pair[1].1));
            }
        }
    }
}

/// The rows of all logs.
struct Found {
    /// Copies of each row in the logs of one incarnation: the incarnation that has most of them.
    copies: Vec<u32>,
    /// Whether the current log has the row.
    now: Vec<bool>,
    /// Whether the dead letters of any incarnation have the row.
    dead: Vec<bool>,
    /// Whether a copy in the current log came late, on an old connection: a refusal before that, when the copy was absent, cannot
    /// be avoided.
    late: Vec<bool>,
    /// Whether a copy came late, on an old connection, to a partition that had forgotten its producer or had shown that the copy
    /// was absent: a double cannot be avoided.
    helpless: Vec<bool>,
    /// Whether Kafka could not tell if a copy was there, so that the row was counted as unknown and may have been
    /// dropped to make room.
    not_told: Vec<bool>,
}

impl Found {
    fn new(
        kafka: &Cluster,
        rows: usize,
        (not_there, not_told): (&HashMap<Numbered, u64>, &HashMap<Numbered, u64>),
    ) -> Self {
        let mut found = Self {
            copies: vec![0; rows],
            now: vec![false; rows],
            dead: vec![false; rows],
            late: vec![false; rows],
            helpless: vec![false; rows],
            not_told: vec![false; rows],
        };
        for number in Cluster::makings(&kafka.topics[DEAD]).flatten().flat_map(|entry| &entry.rows) {
            found.dead[*number as usize] = true;
        }
        for entries in kafka.topics[..DEAD].iter().flat_map(Cluster::makings) {
            let mut copies: HashMap<u32, u32> = HashMap::new();
            for entry in entries {
                for number in &entry.rows {
                    *copies.entry(*number).or_default() += 1;
                    found.helpless[*number as usize] |= came_after(entry, not_there);
                    found.not_told[*number as usize] |= not_told.contains_key(&numbered(entry));
                }
            }
            for (number, times) in copies {
                found.copies[number as usize] = found.copies[number as usize].max(times);
            }
        }
        for entry in kafka.topics[..DEAD].iter().flat_map(|topic| &topic.logs).flat_map(|log| &log.entries) {
            for number in &entry.rows {
                found.now[*number as usize] = true;
                found.late[*number as usize] |= entry.late;
            }
        }
        found
    }
}

/// The final answer to a row's publisher. The log does not say which refusal it was: any that the row may have deserved.
fn outcome(fate: Fate, row: &Row, settings: &SinkSettings) -> Outcome {
    match fate {
        Fate::Done { .. } | Fate::Expired => Outcome::Delivered,
        Fate::DeadLettered => Outcome::DeadLettered,
        Fate::Refused if row.kind == Kind::Poison && !settings.keep_rejected => Outcome::Refused(87),
        Fate::Refused => Outcome::Refused(0),
        Fate::Rotten | Fate::Void => unreachable!("not the end"),
    }
}

/// Numbers of a batch's rows.
fn rows_in(view: &BatchView<'_>) -> Option<Vec<u32>> {
    let records = view.records().ok()?;
    records
        .map(|record| record.ok().and_then(|record| row::read(record.key, record.value)).map(|(row, _)| row))
        .collect()
}

fn add(sums: &mut SinkStats, stats: &SinkStats) {
    sums.delivered += stats.delivered;
    sums.refused += stats.refused;
    sums.expired += stats.expired;
    sums.batches += stats.batches;
    sums.retries += stats.retries;
    sums.errors += stats.errors;
    sums.batches_unanswered += stats.batches_unanswered;
    sums.splits += stats.splits;
    sums.epochs_raised += stats.epochs_raised;
    sums.handed_over += stats.handed_over;
    sums.without_timestamp += stats.without_timestamp;
    sums.dropped += stats.dropped;
    sums.topics_recreated += stats.topics_recreated;
    sums.repartitioned += stats.repartitioned;
    sums.asked += stats.asked;
    sums.outcome_unknown += stats.outcome_unknown;
    sums.acknowledged_lost += stats.acknowledged_lost;
    sums.acknowledged_lost_records += stats.acknowledged_lost_records;
}

/// A request in words.
pub(super) fn described(request: &ProduceRequest) -> String {
    let part = |batch: &crate::kafka::types::ProduceBatch| {
        let view = BatchView::parse(&batch.bytes).expect("a batch").0;
        let (id, epoch, first) = (view.header().producer_id, view.header().producer_epoch, view.header().base_sequence);
        format!(
            "{}-{} id {id} epoch {epoch} sequence {first}+{} newest {}",
            batch.topic,
            batch.partition,
            view.header().records_count,
            view.header().max_timestamp
        )
    };
    let parts: Vec<String> = request.batches.iter().map(part).collect();
    format!("request {} to {}, acks {}: {}", request.id, request.node.0, request.acks, parts.join("; "))
}
