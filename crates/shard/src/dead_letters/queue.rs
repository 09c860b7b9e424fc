//! The dead letters of one shard on their way: to a topic, which is an ordinary sink of the same cluster with a reserve of
//! memory, or to a file.
//!
//! A letter stands for a row of a batch that Kafka rejected, or for a message that a sink will never take. The row stays in
//! its producer, in memory and in the log, until its letter is safe: acknowledged by all in-sync replicas, or synced. Then
//! the row ends, and its publisher gets the answer that it is owed. A letter has a number, which is its ticket in the producer
//! of its topic. Letters that the dead-letter topic rejects go to the file, where there is one: such a letter stands for a letter. A row
//! that finds no room waits where it is.

use std::collections::VecDeque;
use std::sync::mpsc::Sender;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use smallvec::SmallVec;

use forebay_broker::words::Owner;

use super::file::FileQueue;
use super::header::{
    CODE_HEADER, CUT_HEADER, CUT_VALUE_BYTES, HEADER_PREFIX, PARTITION_HEADER, REASON_HEADER, RECEIVED_HEADER,
    SINK_HEADER, TOPIC_HEADER, is_about_size, reason,
};
use forebay_base::limits::DEAD_LETTERS_IN_FLIGHT_MAX;
use forebay_kafka::producer::{Producer, Rejected, RejectedEnd, RejectedId, RejectedRow, Row};
use forebay_kafka::types::{Outcome, Run, SinkId, Ticket};
use forebay_runtime::seam::{Monotonic, WallMs};
use forebay_service::service::dead_letters::Letter as Line;

/// Writes the line of a row for the file. The last argument is the owner of the row's answer.
pub(crate) type LineOf<'a> = dyn FnMut(&Route, &RejectedRow<'_>, Option<Ticket>) -> Vec<u8> + 'a;

/// The route of the letters of one sink of a producer.
#[derive(Clone, Debug)]
pub struct Route {
    /// The sink's place in the configuration.
    pub index: usize,
    /// The sink's name.
    pub sink: String,
    /// The dead-letter topic, and the sink of the same producer that writes it.
    pub topic: Option<(SinkId, String)>,
    /// Whether there is a file.
    pub file: bool,
    /// Whether the sink's records are letters themselves: it writes a dead-letter topic.
    pub of_letters: bool,
}

/// The origin of a letter.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A row of a rejected batch.
    Row(RejectedId, u32),
    /// A message that the sink did not take.
    Message,
}

/// A letter that is not safe yet.
#[derive(Clone, Copy, Debug)]
struct Letter {
    source: Source,
    /// The sink's place in the configuration.
    index: usize,
    /// The ticket of the pending answer; possibly that of another letter.
    ticket: Option<Ticket>,
    in_file: bool,
}

/// Counts of a sink's letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Messages that the sink did not take and that became letters.
    pub(crate) messages: u64,
    /// Messages with letters that are safe, and messages that were refused everywhere.
    pub(crate) messages_safe: u64,
    pub(crate) messages_refused: u64,
    /// Letters that are in the file.
    pub(crate) in_file: u64,
    /// Letters on their way.
    pub(crate) in_flight: usize,
}

impl Totals {
    /// Messages that are only in letters in flight.
    pub(crate) const fn messages_in_flight(&self) -> u64 {
        self.messages - self.messages_safe - self.messages_refused
    }
}

/// An example of a sink's letters for operators.
#[derive(Clone, Debug)]
pub(super) struct Example {
    /// The reason in the letter.
    pub(super) reason: &'static str,
    /// The Kafka topic that the record was for.
    pub(super) topic: Option<Box<str>>,
    pub(super) mqtt_topic: Option<Box<str>>,
}

/// The letters of a shard on their way, and the rejected batches that have not become letters.
#[derive(Debug)]
pub struct DeadLetterQueue {
    /// The routes by cluster, and by the sink's number in its producer.
    routes: Vec<Vec<Option<Route>>>,
    /// Rejected batches with rows that have not become letters, by cluster.
    rejected: Vec<VecDeque<Rejected>>,
    letters: HashMap<u32, Letter, RandomState>,
    /// The number of letters begun. It wraps, long after the first has ended.
    begun: u32,
    /// The queues to files, by the sink's place in the configuration.
    files: Vec<Option<FileQueue>>,
    totals: Vec<Totals>,
    /// Sinks with totals that have changed since they were last taken out, possibly more than once.
    changed: Vec<usize>,
    /// Letters that have ended and have not been settled.
    ended: VecDeque<(u32, Outcome)>,
    answers: Vec<(Ticket, Outcome)>,
    /// The last letter of each sink that has had one.
    examples: HashMap<usize, Example, RandomState>,
    freed: u64,
}

impl DeadLetterQueue {
    /// A queue without letters. `files`: to the files' threads, by the sink's place in the configuration.
    pub fn new(shard: usize, routes: Vec<Vec<Option<Route>>>, files: Vec<Option<Sender<Line>>>) -> Self {
        let sinks = routes.iter().flatten().flatten().map(|route| route.index + 1).max().unwrap_or(0).max(files.len());
        Self {
            rejected: routes.iter().map(|_| VecDeque::new()).collect(),
            routes,
            letters: HashMap::default(),
            begun: 0,
            files: files.into_iter().enumerate().map(|(sink, to)| Some(FileQueue::new(shard, sink, to?))).collect(),
            totals: vec![Totals::default(); sinks],
            changed: Vec::new(),
            ended: VecDeque::new(),
            answers: Vec::new(),
            examples: HashMap::default(),
            freed: 0,
        }
    }

    /// Makes room for more sinks, in these clusters. Existing ones keep their place, their file and the letters on their way.
    pub(crate) fn grow(&mut self, shard: usize, routes: Vec<Vec<Option<Route>>>, files: &[Option<Sender<Line>>]) {
        self.rejected.resize_with(routes.len(), VecDeque::new);
        self.routes = routes;
        self.totals.resize(self.totals.len().max(files.len()), Totals::default());
        let added = files.iter().enumerate().skip(self.files.len());
        self.files.extend(added.map(|(sink, to)| Some(FileQueue::new(shard, sink, to.clone()?))));
    }

    /// Whether [`DeadLetterQueue::forward`] may have something to do.
    pub(crate) fn has_work(&self, cluster: usize, producer: &Producer) -> bool {
        producer.has_rejected() || !self.rejected[cluster].is_empty()
    }

    /// Takes over what a producer has rejected, and turns its rows into letters as far as there is room. `line` writes the
    /// line of a row for the file; its last argument is who is owed the row's answer. `time`: now, and the letters' timestamp.
    pub fn forward(
        &mut self,
        cluster: usize,
        producer: &mut Producer,
        time: (Monotonic, WallMs),
        line: &mut LineOf<'_>,
    ) {
        while let Some(rejected) = producer.next_rejected() {
            self.rejected[cluster].push_back(rejected);
        }
        // Rows after one that finds no room are not even looked at: reading a batch may mean decompressing it.
        let mut full = SmallVec::<[(SinkId, bool); 4]>::new();
        for _ in 0..self.rejected[cluster].len() {
            let Some(rejected) = self.rejected[cluster].pop_front() else { break };
            let Some(route) = self.routes[cluster].get(usize::from(rejected.sink.0)).cloned().flatten() else {
                continue;
            };
            let to = (rejected.sink, route.topic.is_none() || (route.file && is_about_size(rejected.code)));
            let whole = !full.contains(&to)
                && match &route.topic {
                    Some(topic) if !to.1 => self.forward_to_topic(producer, rejected, (&route, topic), time),
                    _ => self.forward_to_file(producer, rejected, &route, line),
                };
            if !whole {
                full.push(to);
                self.rejected[cluster].push_back(rejected);
            }
        }
        self.settle(producer);
    }

    /// Forwards a row to the topic. `false`: there is no room for the next row.
    fn forward_to_topic(
        &mut self,
        producer: &mut Producer,
        rejected: Rejected,
        (route, (to, topic)): (&Route, &(SinkId, String)),
        (now, timestamp): (Monotonic, WallMs),
    ) -> bool {
        let mut unread = Vec::new();
        let take = |producer: &mut Producer, row: &RejectedRow<'_>| {
            let bytes = row.value.map_or(0, <[u8]>::len);
            let kept = if is_about_size(row.code) { bytes.min(CUT_VALUE_BYTES) } else { bytes };
            let (code, partition) = (row.code.to_string(), row.partition.map(|number| number.to_string()));
            let (received, whole) = (row.timestamp.to_string(), bytes.to_string());
            let why = [
                (SINK_HEADER, Some(route.sink.as_str())),
                (REASON_HEADER, Some(reason(row.code))),
                (CODE_HEADER, Some(code.as_str())),
                (TOPIC_HEADER, Some(row.topic)),
                (PARTITION_HEADER, partition.as_deref()),
                (RECEIVED_HEADER, Some(received.as_str())),
                (CUT_HEADER, (kept < bytes).then_some(whole.as_str())),
            ];
            let why = why.iter().filter_map(|(name, value)| Some((name.as_bytes(), (*value)?.as_bytes())));
            // Names of our own headers are ours: a device cannot forge them.
            let own = row.headers.clone().filter(|(name, _)| !name.starts_with(HEADER_PREFIX.as_bytes()));
            let own = own.map(|(name, value)| (name, value.unwrap_or_default()));
            // A letter has the time at which it became one: Kafka may have refused the row's.
            let (value, headers) = (row.value.map(|value| &value[..kept]), own.chain(why));
            let letter = Row { key: row.key, value, headers, timestamp };
            if !self.has_places(route.index) || !producer.has_reserve(*to, letter.measure().len) {
                return false;
            }
            let ticket = self.begin(Source::Row(rejected.id, row.row), route.index, row.ticket, false);
            self.note(route.index, reason(row.code), Some(row.topic), None);
            producer.append(*to, topic, letter, Some(ticket), now);
            true
        };
        let whole = producer.read_rejected(rejected.id, take, |ticket| unread.push(ticket));
        self.give_up(unread, rejected.code);
        whole
    }

    /// Forwards a row to the file. `false`: the file's queue is full.
    fn forward_to_file(
        &mut self,
        producer: &mut Producer,
        rejected: Rejected,
        route: &Route,
        line: &mut LineOf<'_>,
    ) -> bool {
        let mut unread = Vec::new();
        let take = |_: &mut Producer, row: &RejectedRow<'_>| {
            if !self.has_room(route.index) {
                return false;
            }
            let line = line(route, row, self.owner(row.ticket));
            let letter = self.begin(Source::Row(rejected.id, row.row), route.index, row.ticket, true);
            self.note(route.index, reason(row.code), Some(row.topic), None);
            self.send(route.index, letter, line);
            true
        };
        let whole = producer.read_rejected(rejected.id, take, |ticket| unread.push(ticket));
        self.give_up(unread, rejected.code);
        whole
    }

    /// Notes a letter of a sink, for the event that announces new ones.
    pub(super) fn note(&mut self, index: usize, reason: &'static str, topic: Option<&str>, mqtt_topic: Option<&str>) {
        let example = Example { reason, topic: topic.map(Into::into), mqtt_topic: mqtt_topic.map(Into::into) };
        self.examples.insert(index, example);
    }

    /// The last letter of a sink that was noted.
    pub(super) fn example(&self, index: usize) -> Option<&Example> {
        self.examples.get(&index)
    }

    /// Begins a letter for a message that a sink did not take, after [`DeadLetterQueue::has_room`] or [`DeadLetterQueue::has_places`].
    /// Returns the ticket under which it is appended to the dead-letter topic.
    pub(crate) fn message(&mut self, index: usize, ticket: Option<Ticket>) -> Ticket {
        self.totals_mut(index).messages += 1;
        self.begin(Source::Message, index, ticket, false)
    }

    /// Sends the file a letter for a message that a sink did not take.
    pub(crate) fn message_to_file(&mut self, index: usize, ticket: Option<Ticket>, line: Vec<u8>) {
        self.totals_mut(index).messages += 1;
        let letter = self.begin(Source::Message, index, ticket, true);
        self.send(index, letter, line);
    }

    /// Takes the producer's answer for rows that are letters (`true`), which the next [`DeadLetterQueue::settle`] settles.
    pub fn answered(&mut self, run: Run, outcome: Outcome) -> bool {
        let is_ours = Owner::of(run.session) == Owner::Letters;
        if is_ours {
            self.ended.extend((0..run.count).map(|at| (run.first.wrapping_add(at), outcome)));
        }
        is_ours
    }

    /// Notes that the oldest letters of a file are on the disk; the next [`DeadLetterQueue::settle`] settles them.
    pub(crate) fn written(&mut self, index: usize, count: u32) {
        let Some(file) = self.files.get_mut(index).and_then(Option::as_mut) else { return };
        let written = (0..count).map_while(|_| file.written());
        self.ended.extend(written.map(|letter| (letter, Outcome::Delivered)));
        self.freed = self.freed.wrapping_add(1);
    }

    /// Ends the rows of one producer that have letters which have ended. Returns whether there were any.
    pub fn settle(&mut self, producer: &mut Producer) -> bool {
        let any = !self.ended.is_empty();
        while let Some((number, outcome)) = self.ended.pop_front() {
            let Some(letter) = self.letters.remove(&number) else { continue };
            let (end, outcome) = match outcome {
                Outcome::Delivered | Outcome::DeadLettered => (RejectedEnd::HandedOver, Outcome::DeadLettered),
                Outcome::Refused(_) => (RejectedEnd::Refused, outcome),
            };
            let totals = self.totals_mut(letter.index);
            totals.in_flight -= 1;
            totals.in_file += u64::from(letter.in_file && end == RejectedEnd::HandedOver);
            match (letter.source, end) {
                (Source::Row(id, row), end) => producer.end_rejected_row(id, row, end),
                (Source::Message, RejectedEnd::HandedOver) => totals.messages_safe += 1,
                (Source::Message, RejectedEnd::Refused) => totals.messages_refused += 1,
            }
            self.freed = self.freed.wrapping_add(1);
            letter.ticket.into_iter().for_each(|ticket| self.tell(ticket, outcome));
        }
        any
    }

    /// Takes out the answers that are due.
    pub fn drain_answers(&mut self, f: impl FnMut((Ticket, Outcome))) {
        self.answers.drain(..).for_each(f);
    }

    /// Whether a sink's file takes one more letter.
    pub(crate) fn has_room(&self, index: usize) -> bool {
        self.files.get(index).and_then(Option::as_ref).is_some_and(FileQueue::has_room)
    }

    /// Whether one more letter of a sink may be on its way to a topic.
    pub(crate) fn has_places(&self, index: usize) -> bool {
        self.totals[index].in_flight < DEAD_LETTERS_IN_FLIGHT_MAX
    }

    /// A number that changes whenever a place has come free.
    pub(crate) const fn freed(&self) -> u64 {
        self.freed
    }

    fn totals_mut(&mut self, index: usize) -> &mut Totals {
        if self.changed.last() != Some(&index) {
            self.changed.push(index);
        }
        &mut self.totals[index]
    }

    /// Takes out one of the sinks with changed totals; by its place in the configuration.
    pub(crate) fn take_changed(&mut self) -> Option<usize> {
        self.changed.pop()
    }

    /// The counts of a sink's letters; by its place in the configuration.
    pub(crate) fn totals(&self, index: usize) -> Totals {
        self.totals.get(index).copied().unwrap_or_default()
    }

    /// Letters and bytes on their way to files, and how many files there are.
    pub(crate) fn queued(&self) -> (usize, usize, usize) {
        let files = self.files.iter().flatten();
        files
            .map(FileQueue::queued)
            .fold((0, 0, 0), |sum, (letters, bytes)| (sum.0 + letters, sum.1 + bytes, sum.2 + 1))
    }

    /// Letters on their way, to topics and files.
    pub(crate) fn in_flight(&self) -> usize {
        self.letters.len()
    }

    fn begin(&mut self, source: Source, index: usize, ticket: Option<Ticket>, in_file: bool) -> Ticket {
        let number = self.begun;
        self.begun = number.wrapping_add(1);
        self.letters.insert(number, Letter { source, index, ticket, in_file });
        self.totals[index].in_flight += 1;
        Owner::Letters.ticket(number)
    }

    fn send(&mut self, index: usize, letter: Ticket, line: Vec<u8>) {
        if let Some(file) = self.files.get_mut(index).and_then(Option::as_mut) {
            file.send(letter.number, line);
        }
    }

    /// The ticket of the answer pending at the end of letters of letters.
    fn owner(&self, ticket: Option<Ticket>) -> Option<Ticket> {
        let mut ticket = ticket?;
        while Owner::of(ticket.session) == Owner::Letters {
            ticket = self.letters.get(&ticket.number)?.ticket?;
        }
        Some(ticket)
    }

    fn tell(&mut self, ticket: Ticket, outcome: Outcome) {
        if Owner::of(ticket.session) == Owner::Letters {
            self.ended.push_back((ticket.number, outcome));
        } else {
            self.answers.push((ticket, outcome));
        }
    }

    fn give_up(&mut self, unread: Vec<Ticket>, code: i16) {
        unread.into_iter().for_each(|ticket| self.tell(ticket, Outcome::Refused(code)));
    }
}
