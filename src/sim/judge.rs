//! What must hold: at every turn the ledger, the memory bound and the rules that can be seen on the wire; at the end that nothing
//! acknowledged is lost, nothing is there twice, order held, no answer was wrong, and everything came to rest.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::kafka::{Cluster, Entry};
use super::plan::{Plan, SINKS, TOPICS};
use super::row::{KEYS, Kind, Row};
use super::trace::Trace;
use crate::kafka::batch::BatchView;
use crate::kafka::producer::{Producer, SinkStats};
use crate::kafka::types::{LogSays, Outcome, ProduceRequest, ProduceResult, Question, SinkId};
use crate::runtime::seam::Monotonic;

/// Batches that may be undone on a partition.
const WINDOW: usize = 5;

/// Answers "not now" after which the producer may take them for a no.
const AGAIN_MAX: u32 = 99;

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
    Memory,
    Ledger,
    Progress,
    Wire,
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

/// A batch in a request: sink, topic, partition; identity; first sequence.
type Sent = ((usize, usize, i32), (i64, i16), i32);

/// What a run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) rows: u64,
    pub(super) doubles: u64,
    /// Sinks whose doubles were not judged, as a log could not show what it had.
    pub(super) hidden: u64,
    /// Questions about logs.
    pub(super) questions: u64,
    /// Rows lost because their topic was made anew while they were under way.
    pub(super) remade: u64,
    pub(super) stats: SinkStats,
}

impl Sums {
    pub(super) fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.doubles += other.doubles;
        self.hidden += other.hidden;
        self.questions += other.questions;
        self.remade += other.remade;
        add(&mut self.stats, &other.stats);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Judge {
    pub(super) rows: Vec<Row>,
    pub(super) sums: Sums,
    memory_max: usize,
    answers: u64,
    /// Sinks of producer ids.
    sinks: HashMap<i64, usize>,
    undone: BTreeMap<(usize, usize, i32), Undone>,
    requests: HashMap<u64, Vec<Sent>>,
    /// A question was not answered.
    untold: bool,
    /// Questions that were to be asked again.
    again: u32,
    /// Identities of which Kafka has shown that batches were not there: later requests of old connections may bring them.
    not_there: HashSet<(i64, i16)>,
    failure: Option<Failure>,
}

impl Judge {
    pub(super) fn new(memory_max: usize) -> Self {
        Self {
            rows: Vec::new(),
            sums: Sums::default(),
            memory_max,
            answers: 0,
            sinks: HashMap::new(),
            undone: BTreeMap::new(),
            requests: HashMap::new(),
            untold: false,
            again: 0,
            not_there: HashSet::new(),
            failure: None,
        }
    }

    fn fails(&mut self, what: What, text: String) {
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
    pub(super) fn sent(&mut self, request: &ProduceRequest) {
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
            let identity = (view.producer_id(), view.producer_epoch());
            let Some(sink) = self.sinks.get(&identity.0).copied() else { continue };
            let topic = TOPICS.iter().position(|name| *name == place.0).expect("a topic of ours");
            let key = (sink, topic, batch.partition);
            self.window(key, identity, view.base_sequence());
            entries.push((key, identity, view.base_sequence()));
        }
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
        if span > WINDOW {
            self.fails(What::Wire, format!("{key:?}: {span} batches undone"));
        }
    }

    /// Notes an answer to a question: what it settles; one that tells nothing may lead to doubles, which are counted.
    pub(super) fn said(&mut self, question: &Question, says: LogSays) {
        self.sums.questions += 1;
        self.again += u32::from(says == LogSays::Again);
        self.untold |= matches!(says, LogSays::CannotTell(_)) || self.again >= AGAIN_MAX;
        if matches!(says, LogSays::Next { .. }) {
            self.not_there.insert((question.producer_id, question.epoch));
        }
        let LogSays::There { last_sequence } = says else { return };
        let settled =
            question.last_sequences.iter().position(|last| *last == last_sequence).map_or(0, |place| place + 1);
        let identity = (question.producer_id, question.epoch);
        for (key, undone) in &mut self.undone {
            if undone.identity == identity && *question.topic == *TOPICS[key.1] && question.partition == key.2 {
                let older = undone.batches.iter().position(|first| *first == question.first_sequence).unwrap_or(0);
                undone.batches.drain(..(older + settled).min(undone.batches.len()));
            }
        }
    }

    /// Notes what an answer settles.
    pub(super) fn answered(&mut self, id: u64, results: &[ProduceResult]) {
        for (key, identity, first) in self.requests.remove(&id).unwrap_or_default() {
            let is_it = |result: &&ProduceResult| *result.topic == *TOPICS[key.1] && result.partition == key.2;
            let done = results.iter().find(is_it).is_some_and(|result| result.error == 0);
            if done
                && let Some(undone) = self.undone.get_mut(&key).filter(|undone| undone.identity == identity)
                && let Some(place) = undone.batches.iter().position(|batch| *batch == first)
            {
                undone.batches.drain(..=place);
            }
        }
    }

    /// After the producer's turn: answers, ledger, memory.
    pub(super) fn turn(&mut self, producer: &mut Producer, trace: &mut Trace, now: Monotonic) {
        let mut runs = Vec::new();
        producer.drain_completions(|run, outcome| runs.push((run, outcome)));
        for (run, outcome) in runs {
            trace.note(now, || format!("rows {}..{} {outcome:?}", run.first, run.first + run.count));
            for number in run.first..run.first + run.count {
                self.answers += 1;
                let row = &mut self.rows[number as usize];
                let before = row.outcome.replace((outcome, now));
                if run.session != u64::from(number % 5) || before.is_some() {
                    self.fails(What::WrongAnswer, format!("row {number} answered again: {before:?}, {outcome:?}"));
                }
            }
        }
        for sink in 0..SINKS {
            let stats = *producer.stats(SinkId(sink as u16));
            if stats.appended != stats.delivered + stats.refused + stats.expired + stats.buffered_rows {
                self.fails(What::Ledger, format!("sink {sink}: {stats:?}"));
            }
        }
        if producer.memory_bytes() > self.memory_max {
            self.fails(What::Memory, format!("{} of {}", producer.memory_bytes(), self.memory_max));
        }
    }

    /// When everything should have come to rest.
    pub(super) fn at_the_end(&mut self, producer: &Producer, kafka: &Cluster, plan: &Plan) -> Result<(), Failure> {
        let rest = producer.buffered_rows();
        let all: Vec<SinkStats> = (0..SINKS).map(|sink| *producer.stats(SinkId(sink as u16))).collect();
        if rest > 0 || self.answers < self.rows.len() as u64 {
            let text = format!("{rest} rows held, {} of {} answered: {all:?}", self.answers, self.rows.len());
            self.fails(What::Progress, text);
            return self.verdict();
        }
        self.sums.rows = self.rows.len() as u64;
        for stats in &all {
            add(&mut self.sums.stats, stats);
        }
        let found = Found::new(kafka, self.rows.len(), &self.not_there);
        self.losses(&found, &all, kafka, plan);
        self.order(kafka, plan);
        self.verdict()
    }

    fn losses(&mut self, found: &Found, all: &[SinkStats], kafka: &Cluster, plan: &Plan) {
        let (mut doubles, mut there, mut left_out) = (vec![0; SINKS], vec![0; SINKS], vec![0; SINKS]);
        for number in 0..self.rows.len() {
            let row = &self.rows[number];
            let settings = &plan.settings.sinks[row.sink];
            let topic = &kafka.topics[row.topic];
            let (copies, number) = (found.copies[number], number as u32);
            there[row.sink] += u64::from(copies > 0);
            doubles[row.sink] += u64::from(copies > 1 && !found.helpless[number as usize]);
            let lost_by_kafka = topic.lost.contains(&number) && settings.acks == 1;
            // Under way while its topic was made anew: without topic ids Kafka takes a later batch first, and nobody sees it.
            let unseen = topic.begun_late.iter().any(|id| self.sinks.get(id) == Some(&row.sink));
            self.sums.remade +=
                u64::from(copies == 0 && unseen && row.outcome.is_some_and(|(o, _)| o == Outcome::Delivered));
            let missing = copies == 0 && !lost_by_kafka && settings.acks != 0 && !unseen;
            let text = format!("row {number}: {row:?}, {copies} copies");
            match row.outcome {
                // Answered before Kafka was: what became of it, the sink's numbers say.
                _ if settings.answered_on == crate::kafka::producer::AnsweredOn::Append => {}
                Some((Outcome::Delivered, at)) if missing && row.expires <= at => left_out[row.sink] += 1,
                Some((Outcome::Delivered, _)) if missing => self.fails(What::Loss, text),
                // Refused, and there: Kafka could not be asked, and that is counted.
                Some((Outcome::Refused(_), _)) if found.now[number as usize] => {
                    doubles[row.sink] += u64::from(!found.late[number as usize]);
                }
                Some((Outcome::Refused(code), _)) => {
                    let guilty = match code {
                        10 => topic.was_small,
                        29 => topic.was_forbidden,
                        32 => row.kind == Kind::Ahead,
                        87 => row.kind == Kind::Poison,
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
            self.sums.hidden += u64::from(kafka.hidden);
            if settings.acks != 0
                && !kafka.hidden
                && doubles[sink] > if self.untold { stats.outcome_unknown } else { 0 }
            {
                let which: Vec<_> =
                    (0..self.rows.len()).filter(|i| self.rows[*i].sink == sink && found.copies[*i] > 1).collect();
                let counted = stats.outcome_unknown;
                let text = format!("sink {sink}: {} rows twice, {counted} counted: {which:?}", doubles[sink]);
                self.fails(What::Double, text);
            }
            let answered_late = settings.answered_on != crate::kafka::producer::AnsweredOn::Append;
            if answered_late && left_out[sink] > stats.expired {
                self.fails(
                    What::Loss,
                    format!("sink {sink}: {} rows left out, {} expired", left_out[sink], stats.expired),
                );
            }
            let lost_by_kafka: u64 = kafka.topics.iter().map(|topic| topic.lost.len() as u64).sum();
            let id_of_sink = |id: &i64| self.sinks.get(id) == Some(&sink);
            if kafka.topics.iter().any(|topic| topic.begun_late.iter().any(id_of_sink)) {
                continue;
            }
            if settings.acks == -1 && there[sink] < stats.delivered
                || settings.acks == 1 && there[sink] + lost_by_kafka < stats.delivered
            {
                self.fails(What::Loss, format!("sink {sink}: {} rows there, {stats:?}", there[sink]));
            }
        }
    }

    /// First copies of the rows of a sink, topic and key stand in the order in which they were taken.
    fn order(&mut self, kafka: &Cluster, plan: &Plan) {
        let mut firsts: BTreeMap<(usize, usize, u32), Vec<(u64, u32)>> = BTreeMap::new();
        let mut seen = vec![false; self.rows.len()];
        for topic in &kafka.topics {
            let mut entries: Vec<&Entry> = Cluster::makings(topic).flatten().collect();
            entries.sort_unstable_by_key(|entry| entry.order);
            let after_all = |entry: &&Entry| entry.late && self.not_there.contains(&(entry.producer, entry.epoch));
            for entry in entries.into_iter().filter(|entry| !after_all(entry)) {
                for number in &entry.rows {
                    let row = &self.rows[*number as usize];
                    let ordered = plan.settings.sinks[row.sink].acks != 0
                        && plan.settings.sinks[row.sink].partitioner == crate::kafka::producer::Partitioner::Key;
                    let ordered = ordered && !topic.begun_late.iter().any(|id| self.sinks.get(id) == Some(&row.sink));
                    // A refused row may still come in, late, on an old connection.
                    let ordered = ordered && !matches!(row.outcome, Some((Outcome::Refused(_), _)));
                    if !std::mem::replace(&mut seen[*number as usize], true) && number % KEYS != 0 && ordered {
                        firsts.entry((row.sink, row.topic, number % KEYS)).or_default().push((entry.order, *number));
                    }
                }
            }
        }
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
    /// A copy there came late, on an old connection: if it was refused before that, when it was not there, nobody can help it.
    late: Vec<bool>,
    /// A copy came late, on an old connection, to a partition that had forgotten its producer or had shown that it was not there:
    /// nobody can help that.
    helpless: Vec<bool>,
}

impl Found {
    fn new(kafka: &Cluster, rows: usize, not_there: &HashSet<(i64, i16)>) -> Self {
        let mut found = Self {
            copies: vec![0; rows],
            now: vec![false; rows],
            late: vec![false; rows],
            helpless: vec![false; rows],
        };
        for entries in kafka.topics.iter().flat_map(Cluster::makings) {
            let mut copies: HashMap<u32, u32> = HashMap::new();
            for entry in entries {
                for number in &entry.rows {
                    *copies.entry(*number).or_default() += 1;
                    found.helpless[*number as usize] |=
                        entry.late && (entry.forgotten || not_there.contains(&(entry.producer, entry.epoch)));
                }
            }
            for (number, times) in copies {
                found.copies[number as usize] = found.copies[number as usize].max(times);
            }
        }
        for entry in kafka.topics.iter().flat_map(|topic| &topic.logs).flat_map(|log| &log.entries) {
            for number in &entry.rows {
                found.now[*number as usize] = true;
                found.late[*number as usize] |= entry.late;
            }
        }
        found
    }
}

fn add(sums: &mut SinkStats, stats: &SinkStats) {
    sums.delivered += stats.delivered;
    sums.refused += stats.refused;
    sums.expired += stats.expired;
    sums.batches += stats.batches;
    sums.retries += stats.retries;
    sums.errors += stats.errors;
    sums.unanswered += stats.unanswered;
    sums.splits += stats.splits;
    sums.epochs_raised += stats.epochs_raised;
    sums.outcome_unknown += stats.outcome_unknown;
    sums.acknowledged_lost += stats.acknowledged_lost;
}

/// A request in words.
pub(super) fn described(request: &ProduceRequest) -> String {
    let part = |batch: &crate::kafka::types::ProduceBatch| {
        let view = BatchView::parse(&batch.bytes).expect("a batch").0;
        let (id, epoch, first) = (view.producer_id(), view.producer_epoch(), view.base_sequence());
        format!("{}-{} id {id} epoch {epoch} sequence {first}+{}", batch.topic, batch.partition, view.count())
    };
    let parts: Vec<String> = request.batches.iter().map(part).collect();
    format!("request {} to {}, acks {}: {}", request.id, request.node.0, request.acks, parts.join("; "))
}
