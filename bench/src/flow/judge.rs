//! The clients' acknowledgements against the records in Kafka. No I/O; the rules are those of `tests/python/checker.py`:
//!
//! - **I1** a message that was acknowledged with success (QoS 1: PUBACK, QoS 2: PUBREC) is there; QoS 0 where the client lost no
//!   connection.
//! - **I2** a QoS 2 message is there once; QoS 0 at most once; QoS 1 twice only if it was sent again.
//! - **I3** in each partition the first copies of one client's messages are in the order of sending (at a level that may lose:
//!   only of messages that were sent once, as the first copy of another may be lost).
//! - **I4** no record is invented or altered: each value is byte for byte one that was sent, under its key.
//! - **I3** no further copy is after a message that was first sent after the copy's last sending, but for a window, and for what was not answered when a
//!   fault began, in a run of several instances: one that was frozen may send it when it goes on. Those are counted.
//! - **I4** a message that was refused, and sent once, is not there.
//! - **S** a session lasts as long as it is promised, and no longer.
//! - **P** a key sits in the partition that Kafka's Java producer chooses.
//! - **R** the reader missed no record: each partition's offsets run to its end, each once.

use std::collections::BTreeMap;

use super::fates::{FIRST, Message, Part};
use super::murmur2;
use super::payload::{self, Wrong};
use super::plan::Plan;
use super::told::{ABANDONED, ANEW, ANSWERED, DOUBLED, FOUND, REFUSED, RESENT, Told};

const EXAMPLES_MAX: usize = 10;
/// Lines of order: one for each QoS.
const LINES: usize = 3;

/// The rules of the judgement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Acknowledged messages that are missing are counted, not judged: a level that may lose.
    pub(crate) may_lose: bool,
    /// Doubles are counted, not judged: the service was killed.
    pub(crate) may_double: bool,
    pub(crate) key: Key,
    /// Whether the service is several instances: only messages of one QoS have an order, and those of another one may overtake them.
    pub(crate) by_qos: bool,
    /// The most messages without an answer of a client.
    pub(crate) window: u64,
    /// The part of the messages that is due here, and nothing else; `None`: all messages.
    pub(crate) part: Option<Part>,
}

/// The key that records must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Key {
    /// The MQTT topic.
    Topic,
    /// The client identifier.
    Client,
    /// None, or any: neither key nor partition is judged.
    Any,
}

/// A Kafka topic before the run and after it.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    pub(crate) topic: String,
    /// The range of this run's offsets in each partition.
    pub(crate) ranges: Vec<std::ops::Range<i64>>,
}

/// One record as it was read; `log` is the index of its topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub(crate) log: usize,
    pub(crate) partition: u32,
    pub(crate) offset: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: &'a [u8],
}

/// One kind of fault: its number, and ten examples.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    pub(crate) count: u64,
    pub(crate) examples: Vec<String>,
}

/// The judgement of a run.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) faults: BTreeMap<String, Fault>,
}

impl Verdict {
    pub(crate) fn passed(&self) -> bool {
        self.faults.is_empty()
    }

    pub(crate) fn fault(&mut self, kind: &str, text: impl FnOnce() -> String) {
        if !self.faults.contains_key(kind) {
            self.faults.insert(kind.to_owned(), Fault::default());
        }
        if let Some(fault) = self.faults.get_mut(kind) {
            fault.count += 1;
            if fault.examples.len() < EXAMPLES_MAX {
                fault.examples.push(text());
            }
        }
    }

    pub(crate) fn count(&mut self, name: &str, by: u64) {
        match self.counts.get_mut(name) {
            Some(count) => *count += by,
            None => drop(self.counts.insert(name.to_owned(), by)),
        }
    }
}

/// Takes record after record, then judges the clients.
pub(crate) struct Judge<'a> {
    plan: &'a Plan,
    rules: Rules,
    clients: &'a mut [Told],
    logs: &'a [Log],
    /// Times at which faults began, on the clock of the payloads.
    faults_ns: Vec<u64>,
    /// Index of a topic's first partition in tables by partition.
    bases: Vec<usize>,
    partitions: usize,
    next_offset: Vec<i64>,
    /// The number of the newest first copy plus one, by client, partition and line (QoS, or 0 for all).
    newest: Vec<u64>,
    /// First copies after younger messages, by client and number: the index of the topic, and the fault. Where a message may go
    /// to one of several topics, and was sent again, it may have an earlier copy in one that is read later.
    behind: BTreeMap<(u32, u64), (usize, String)>,
    scratch: Vec<u8>,
    records: u64,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(plan: &'a Plan, rules: Rules, clients: &'a mut [Told], logs: &'a [Log]) -> Self {
        let mut bases = Vec::new();
        let mut next_offset = Vec::new();
        for log in logs {
            bases.push(next_offset.len());
            next_offset.extend(log.ranges.iter().map(|range| range.start));
        }
        let partitions = next_offset.len();
        let newest = vec![0; partitions * clients.len() * LINES];
        let (scratch, verdict, behind) = (Vec::new(), Verdict::default(), BTreeMap::new());
        Self {
            plan,
            rules,
            clients,
            logs,
            faults_ns: Vec::new(),
            bases,
            partitions,
            next_offset,
            newest,
            behind,
            scratch,
            records: 0,
            verdict,
        }
    }

    /// Notes when faults began.
    pub(crate) fn with_faults(self, faults_ns: Vec<u64>) -> Self {
        Self { faults_ns, ..self }
    }

    /// Takes a record; records of a partition come in their order, and those before its range are skipped.
    pub(crate) fn record(&mut self, record: &Record<'_>) {
        let log = &self.logs[record.log];
        let place = || format!("{} partition {} offset {}", log.topic, record.partition, record.offset);
        let Some(range) = log.ranges.get(record.partition as usize) else {
            return self.verdict.fault("R: a partition that the topic does not have", place);
        };
        if record.offset < range.start {
            return;
        }
        self.records += 1;
        let partition = self.bases[record.log] + record.partition as usize;
        let expected = std::mem::replace(&mut self.next_offset[partition], record.offset + 1);
        if record.offset != expected {
            self.verdict.fault("R: the reader skipped or repeated", || format!("{}, expected {expected}", place()));
        }
        let header = match payload::read(record.value, self.plan.run, self.plan.payload_bytes, &mut self.scratch) {
            Ok(header) => header,
            Err(Wrong::Foreign) => return self.verdict.fault("I4: foreign record", place),
            Err(Wrong::Altered) => return self.verdict.fault("I4: altered value", place),
        };
        let (client, number) = (header.client, header.number);
        let text = || format!("{}: client {client} message {number} QoS {}", place(), header.qos);
        let told = self.clients.get_mut(client as usize);
        let Some(marks) = told.and_then(|told| told.marks.get_mut(number as usize)) else {
            return self.verdict.fault("I4: invented message", text);
        };
        if header.qos != self.plan.qos(client, number) {
            return self.verdict.fault("I4: invented message", text);
        }
        let first = *marks & FOUND == 0;
        *marks |= if first { FOUND } else { DOUBLED };
        let marks = *marks;
        let line = if self.rules.by_qos { usize::from(header.qos) } else { 0 };
        let line = (client as usize * self.partitions + partition) * LINES + line;
        let of = (client, number);
        if !first && self.behind.get(&of).is_some_and(|(log, _)| *log != record.log) {
            self.behind.remove(&of);
            self.verdict.count("sent again, and behind later ones: the first copy is in another topic", 1);
        }
        if !first && !self.rules.may_lose {
            let again = self.clients[client as usize].again.get(&number).copied().unwrap_or_default();
            let newest = self.newest[line];
            let answered_ns = if again.answered_ns == 0 { u64::MAX } else { again.answered_ns };
            let on_its_way = header.sent_ns..=answered_ns;
            let is_old = newest > again.newest.max(number + self.rules.window);
            if is_old && self.rules.by_qos && self.faults_ns.iter().any(|at| on_its_way.contains(at)) {
                self.verdict.count("old copy behind newer messages, on its way when a fault began", 1);
            } else if is_old {
                let text = || format!("{}, a further copy behind message {}", text(), newest - 1);
                self.verdict.fault("I3: old copy behind newer messages", text);
            }
        }
        if first {
            let newest = &mut self.newest[line];
            // At a level that may lose, this may be a second copy after a lost first one: then its place proves nothing.
            let lost_first = self.rules.may_lose && marks & RESENT != 0;
            if number < *newest && lost_first {
                self.verdict.count("sent again, and behind later ones: a first copy was lost", 1);
            } else if number < *newest {
                let again = if marks & RESENT == 0 { "" } else { ", sent again" };
                let fault = format!("{}{again}, behind message {}", text(), *newest - 1);
                self.behind.insert(of, (record.log, fault));
            }
            *newest = (*newest).max(number + 1);
        }
        self.key(record, client, number, log.ranges.len() as u32, text);
    }

    fn key(&mut self, record: &Record<'_>, client: u32, number: u64, partitions: u32, text: impl Fn() -> String) {
        let expected = match self.rules.key {
            Key::Any => return,
            Key::Topic => self.plan.topic_name(client, self.plan.topic_number(client, number)),
            Key::Client => format!("flow-{:08x}-{client}", self.plan.run),
        };
        if record.key != Some(expected.as_bytes()) {
            let key = record.key.map(String::from_utf8_lossy);
            return self.verdict.fault("I4: wrong key", || format!("{} under {key:?}", text()));
        }
        let home = murmur2::partition(expected.as_bytes(), partitions);
        if home != record.partition {
            self.verdict.fault("P: key in a wrong partition", || format!("{}: belongs to {home}", text()));
        }
    }

    /// Ends the judgement: all records have been read.
    pub(crate) fn end(mut self) -> Verdict {
        for (log, &base) in self.logs.iter().zip(&self.bases) {
            for (partition, range) in log.ranges.iter().enumerate() {
                let read = self.next_offset[base + partition];
                if read < range.end {
                    let text = || format!("{} partition {partition} at {read} of {}", log.topic, range.end);
                    self.verdict.fault("R: the reader stopped early", text);
                }
            }
        }
        for (_, fault) in std::mem::take(&mut self.behind).into_values() {
            self.verdict.fault("I3: order", || fault);
        }
        self.verdict.count("records", self.records);
        sessions(self.clients, &mut self.verdict);
        for client in 0..self.clients.len() {
            self.client(client as u32);
        }
        self.verdict
    }

    fn client(&mut self, client: u32) {
        let told = &self.clients[client as usize];
        let verdict = &mut self.verdict;
        let mut counts = [[0_u64; COUNTED.len()]; 3];
        for (number, &marks) in told.marks.iter().enumerate() {
            let qos = self.plan.qos(client, number as u64);
            let text = || format!("client {client} message {number}");
            let (found, doubled) = (marks & FOUND != 0, marks & DOUBLED != 0);
            let message = Message::of(self.plan, client, number as u64);
            let is_due = self.rules.part.is_none_or(|part| (part.is_due)(&message));
            let owed = is_due && if qos == 0 { told.is_whole() } else { marks & ANSWERED != 0 };
            if found && !is_due {
                verdict.fault("Q1: where no rule puts it", text);
            }
            let is_first = self.rules.part.is_some_and(|part| part.name == FIRST);
            if is_first && message.is_rejected() && message.is_told && marks & ANSWERED != 0 {
                verdict.fault("Q3: rejected, and answered with success", text);
            }
            let lost = owed && !found;
            if lost && !self.rules.may_lose {
                verdict.fault(&format!("I1: lost at QoS {qos}"), text);
            }
            // The message was sent again as a new one, as its session was forgotten: the service cannot know that both are the same.
            let anew = marks & ANEW != 0;
            let explained = anew || (qos == 1 && marks & RESENT != 0);
            if doubled && !explained && !self.rules.may_double {
                verdict.fault(&format!("I2: doubled at QoS {qos}"), text);
            }
            let refused_once = marks & REFUSED != 0 && marks & RESENT == 0;
            if refused_once && found {
                verdict.fault("I4: refused and in Kafka", text);
            }
            let yes = [
                true,
                marks & ANSWERED != 0,
                found,
                lost,
                doubled,
                doubled && explained && !anew,
                doubled && anew,
                marks & RESENT != 0,
                marks & REFUSED != 0,
                marks & REFUSED != 0 && found,
                marks & ABANDONED != 0,
            ];
            for (count, yes) in counts[usize::from(qos)].iter_mut().zip(yes) {
                *count += u64::from(yes);
            }
        }
        if !told.finished {
            verdict.fault("client did not finish", || format!("client {client}: {} sent", told.marks.len()));
        }
        for (qos, counts) in counts.iter().enumerate() {
            for (name, &count) in COUNTED.iter().zip(counts).filter(|(_, count)| **count > 0) {
                verdict.count(&format!("QoS {qos}: {name}"), count);
            }
        }
    }
}

/// Judges the sessions that CONNACK reported.
pub(crate) fn sessions(clients: &[Told], verdict: &mut Verdict) {
    for (index, told) in clients.iter().enumerate() {
        verdict.count("sessions forgotten", told.forgotten);
        for (kind, count) in
            [("S: session lost", told.sessions_lost), ("S: session claimed that cannot be", told.sessions_claimed)]
        {
            (0..count).for_each(|_| verdict.fault(kind, || format!("client {index}")));
        }
    }
}

/// Names of the counts for each QoS.
const COUNTED: [&str; 11] = [
    "sent",
    "answered",
    "in Kafka",
    "answered and not in Kafka",
    "doubled",
    "doubled after being sent again",
    "doubled after its session was forgotten",
    "sent again",
    "refused",
    "refused and in Kafka",
    "given up",
];

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
