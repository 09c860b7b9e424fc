//! What must hold: at every turn the ledger, the memory bound and the rules that can be seen on the wire; at the end that nothing
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

/// Questions of a sink without an answer other than "not now" after which the producer may take that for a no. It does so after a hundred;
/// other answers may have come when nothing waited for them any more.
const AGAIN_MAX: u32 = 95;

const MILLISECOND: Duration = Duration::from_millis(1);

/// What was wrong: the first word names it.
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
    /// Losses were not counted, or more than there were.
    Uncounted,
    /// A row is there, and its time is not.
    Content,
    Memory,
    Ledger,
    Progress,
    Wire,
    /// The log was told what cannot be, or lost, or kept, what it may not; or its disk holds too much.
    Log,
    /// A client was told what cannot be.
    Session,
    /// An assertion of the producer's or the model's own.
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

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) doubles: u64,
    /// Rows with doubles that were not judged, as a log could not show that it had them.
    pub(super) hidden: u64,
    /// Questions about logs.
    pub(super) questions: u64,
    /// Requests over second lanes.
    pub(super) slow: u64,
    /// Rows with an order that was not judged, as a log that had never heard of their producer took a later batch
    /// first.
    pub(super) torn: u64,
    /// Records that were acknowledged and went, with a leader or with their topic.
    pub(super) went: u64,
    /// Ends of the process; rows and cuts that its starts found.
    pub(super) crashes: u64,
    pub(super) rows_found: u64,
    pub(super) cuts_found: u64,
    /// Messages of clients, and those of them that were repeated to sinks that did not have them.
    pub(super) messages: u64,
    pub(super) repeated: u64,
    /// Rows of which it was said at which offset they stand.
    pub(super) places: u64,
    /// Rows that found no room, and those that went to make it. Of clients' messages the first are not counted.
    pub(super) no_room: u64,
    pub(super) dropped: u64,
    /// Stops in order that had the time to save all, and rows of saved sinks that the next process found.
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

/// Whether a batch is in a log since such an answer about it.
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
    /// Batches that may be undone on a partition, by sink.
    windows: Vec<usize>,
    answers: u64,
    /// Rows of processes that ended before they were answered.
    orphans: u64,
    /// Counters of processes that have ended, by sink.
    past: Vec<SinkStats>,
    /// Rows that Kafka had when a start found them, by sink: the process before may have counted them as delivered, and so may this one.
    taken_up: Vec<u64>,
    /// Where rows are kept, by sink.
    keeps: Vec<Keep>,
    /// When rows are answered, by sink.
    answered_on: Vec<AnsweredOn>,
    /// Sinks of producer ids.
    sinks: HashMap<i64, usize>,
    undone: BTreeMap<(usize, usize, i32), Undone>,
    requests: HashMap<u64, Vec<Sent>>,
    /// Sinks of which a question was not answered, or that were told that there is no such topic: another may have taken a younger
    /// batch first.
    untold: HashSet<usize>,
    /// Sinks and topics of batches that were answered 45: a broker that restarted knows one batch of a producer. In a topic that was recreated
    /// such a batch may never have been there (decision 0086).
    out_of_order: HashSet<(usize, usize)>,
    /// Questions that were not answered, or were to be asked again, by sink.
    again: HashMap<usize, u32>,
    /// Batches of which Kafka has shown that they were not there, with how many it had taken by then: later requests of old
    /// connections may bring them.
    not_there: HashMap<Numbered, u64>,
    /// Batches of which it could not tell, with how many it had taken by then: they are taken back, and may be there.
    not_told: HashMap<Numbered, u64>,
    lost: Lost,
    /// Where answered rows are said to stand.
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

    /// Looks at a request on its way: P7, what the client is promised, and the window of five, which P4 makes hard to see in a log.
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

    /// Notes a question: what is asked too often is given up, which is counted.
    pub(super) fn asked(&mut self, question: &Question) {
        let Some(sink) = self.sinks.get(&question.producer_id).copied() else { return };
        let again = self.again.entry(sink).or_default();
        *again += 1;
        if *again >= AGAIN_MAX {
            self.untold.insert(sink);
        }
    }

    /// Notes an answer to a question: what it settles; one that tells nothing may lead to doubles, which are counted.
    pub(super) fn said(&mut self, question: &Question, says: LogSays, appended: u64) {
        self.sums.questions += 1;
        let topic = TOPICS.iter().position(|name| *name == &*question.topic).expect("a topic of ours");
        if let LogSays::Ends { at } = says {
            let from = question.from.expect("where it was known to go on");
            self.lost.ends((topic, question.partition), from, at);
        }
        // Where the log ends settles nothing.
        if question.last_sequences.is_empty() {
            return;
        }
        let sink = self.sinks.get(&question.producer_id).copied().expect("a producer of ours");
        let again = self.again.entry(sink).or_default();
        *again = again.saturating_sub(u32::from(says != LogSays::Again));
        // Of a hybrid sink a start does not know what the one before had cut in memory alone: the log may end with that.
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

    /// The process has ended. `gone`: rows that stood in its log, or were meant to, and are not there.
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
        // What a hybrid sink had in memory alone was sent without waiting for the end of what the log had, which may be gone.
        self.undone.retain(|(sink, ..), _| self.keeps[*sink] == Keep::Disk);
        self.undone.values_mut().for_each(|undone| undone.batches.clear());
        self.requests.clear();
        self.again.clear();
        self.lost.crashed();
    }

    /// A start takes up these rows.
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

    /// The process has stopped in order: what it had of sinks that are saved is there.
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

    /// The last row's answer is its client's.
    pub(super) fn adopt(&mut self) {
        self.orphans += 1;
        self.rows.last_mut().expect("a row").orphan = true;
    }

    /// What clients were told: a message at QoS 2 is in Kafka once, where its rows are kept on the disk, and one that was answered is there.
    fn messages(&mut self, found: &Found, messages: &[Message], plan: &Plan, told: &Told) {
        self.sums.messages = messages.len() as u64;
        for (number, message) in messages.iter().enumerate() {
            self.sums.repeated += u64::from(message.rows.len() > message.sinks.len());
            for sink in message.sinks.iter().filter(|sink| plan.settings.sinks[**sink].keep == Keep::Disk) {
                let rows = message.rows.iter().map(|row| *row as usize).filter(|row| self.rows[*row].sink == *sink);
                let came_to = |row: &usize| {
                    // What was refused was not taken: the next attempt is a new one.
                    let is_over = told.fates.get(&(*row as u32)).is_some_and(|(fate, _)| *fate != Fate::Refused);
                    let fate = told.fates.get(&(*row as u32)).map(|(fate, _)| *fate);
                    let stored = self.answered_on[self.rows[*row].sink] == AnsweredOn::Stored;
                    let is_old = self.rows[*row].expires != Monotonic::NEVER || stored && fate == Some(Fate::Refused);
                    // One that was too old never went there, and may be forgotten with its end: it is taken again.
                    let went = found.copies[*row] > 0 || is_over && fate != Some(Fate::Expired);
                    (u32::from(found.copies[*row] > 0 || is_over), u32::from(went), is_old)
                };
                let (mut copies, mut went, mut helpless, mut old) = (0, 0, false, false);
                for row in rows {
                    let (times, times_there, is_old) = came_to(&row);
                    copies += times;
                    went += times_there;
                    // Too old before it was written down, or answered before Kafka refused it: over, and answered.
                    old |= is_old;
                    helpless |= found.helpless[row];
                }
                let text = || format!("message {number}: {message:?}, {went} of sink {sink}");
                if message.answered && copies == 0 && !message.refused && !old {
                    self.fails(What::Loss, text());
                }
                // What one sink refused was refused as a whole: the next attempt is a new one, for all of them.
                let refused = |row: &u32| {
                    let outcome = self.rows[*row as usize].outcome;
                    told.fates.get(row).is_some_and(|(fate, _)| *fate == Fate::Refused)
                        || matches!(outcome, Some((Outcome::Refused(_), _)))
                };
                // Of a sink without a disk nobody has noted that.
                let unknown = message.sinks.iter().any(|sink| plan.settings.sinks[*sink].keep != Keep::Disk);
                helpless |= unknown || message.rows.iter().any(refused);
                // One row that is there twice is judged as a row.
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
        // Numbers of clients' messages are not those of rows.
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
                // One that was too old before there was room for it in a group is over, and answered.
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

    /// When everything should have come to rest.
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

    /// What Kafka acknowledged and lost is counted where an answer showed it, and no more than there was.
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

    /// A record has its row's time, or a header with it. That of a dead letter is another.
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

    /// Whether a batch came in late, after Kafka had shown that it was not there, could not tell, or had forgotten its producer. One that
    /// was there when Kafka could not tell is the first copy of its rows, late or not.
    fn after_all(&self, entry: &Entry) -> bool {
        came_after(entry, &self.not_there) || entry.late && is_since(entry, &self.not_told)
    }

    fn losses(&mut self, found: &Found, all: &[SinkStats], kafka: &Cluster, plan: &Plan, told: &Told) {
        let lost: Vec<BTreeSet<u32>> = kafka
            .topics
            .iter()
            .map(|topic| topic.lost.iter().flat_map(|entry| &entry.rows).copied().collect())
            .collect();
        // A late request of theirs was the first that a log made anew saw (by name), or one that had forgotten them.
        let misled: HashSet<(usize, usize)> = (0..DEAD)
            .flat_map(|topic| Cluster::makings(&kafka.topics[topic]).flatten().map(move |entry| (topic, entry)))
            .filter(|(_, entry)| entry.late && entry.forgotten)
            .filter_map(|(topic, entry)| Some((topic, *self.sinks.get(&entry.producer)?)))
            .collect();
        // By name a topic that is made anew may take a younger batch first: the older ones are sent again, and counted.
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
                // What it had of them may be gone with a topic that was deleted.
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
                // The log knows better than the answer, which may have come before, or never.
                Some((fate, at)) => Some((outcome(*fate, row, settings), *at)),
                None if settings.keep == Keep::Disk => None,
                None => row.outcome,
            };
            match outcome {
                // Answered before Kafka was: what became of it, the sink's numbers say.
                _ if settings.answered_on == AnsweredOn::Append => {}
                // A deadline comes back from the disk by the millisecond, and so does the clock.
                Some((Outcome::Delivered, at)) if missing && row.expires <= at.after(2 * MILLISECOND) => {
                    left_out[row.sink] += 1
                }
                Some((Outcome::Delivered, _)) if missing => self.fails(What::Loss, text),
                Some((Outcome::DeadLettered, _)) if !found.dead[number as usize] => {
                    self.fails(What::Loss, text);
                }
                // Refused, and there: Kafka could not be asked, and that is counted.
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
            // What was done, and not known to be when the process ended, is done again, and counted again: of whatever sink
            // keeps its rows in the log, be it only those that memory has no room for.
            let lost_by_kafka = if settings.acks == 1 { lost_by_kafka } else { 0 };
            let again = self.taken_up[sink];
            if settings.acks != 0 && there[sink] + lost_by_kafka + again < stats.delivered {
                self.fails(What::Loss, format!("sink {sink}: {} rows there, {again} again, {stats:?}", there[sink]));
            }
        }
    }

    /// First copies of the rows of a sink, topic and key (or client, where that says the partition) stand in the order in which they were taken.
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
                    // A refused row may still come in, late, on an old connection.
                    let ordered =
                        ordered && !matches!(row.outcome, Some((Outcome::Refused(_) | Outcome::DeadLettered, _)));
                    // A row that only memory had may come in late, after the next process has written.
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
    /// In the log, of those of one making, that has most of them.
    copies: Vec<u32>,
    /// In the log that is there now.
    now: Vec<bool>,
    /// Among the dead letters, of whatever making.
    dead: Vec<bool>,
    /// A copy there came late, on an old connection: if it was refused before that, when it was not there, this cannot be avoided.
    late: Vec<bool>,
    /// A copy came late, on an old connection, to a partition that had forgotten its producer or had shown that it was not there:
    /// this cannot be avoided.
    helpless: Vec<bool>,
    /// Kafka could not tell whether a copy was there, so it was counted as unknown and may have gone to make room.
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

/// What a row's publisher would be told of it in the end. Which refusal it was the log does not say: any that it may have deserved.
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
