//! Promises of runs with `[broker]`: the invariants I of the design (`docs/internals/SIMULATION.md`). The judge compares the contents of Kafka with
//! the answers to clients, and knows nothing of logs of sessions but their owners.

use std::collections::{BTreeMap, BTreeSet};

use forebay::broker::router::owner;
use forebay::kafka::consumer::{Batches, Record};
use forebay::metrics::spec::ShardMetric;

use super::sources::is_one_assignment;
use crate::kafka::coordinator::Commit;
use crate::kafka::front::message_number;
use crate::kafka::{Entry, State};
use crate::plan::broker::{MESSAGES, ODD, RETAINED, SESSIONS};
use crate::process::Process;
use crate::receipts::Receipt;
use crate::subscriber::{Asked, Subscriber, Wish};
use crate::world::World;

/// The value of a record, and whether it has RETAIN.
type Value = (Vec<u8>, bool);

impl World {
    /// I1: checks that no record of an earlier owner comes after the term of a later one, as long as it could be
    /// acknowledged to clients.
    pub(crate) fn judge_owners(&mut self, before: usize) {
        if self.settings.broker.is_none() {
            return;
        }
        self.note_copies();
        let mut wrong = None;
        for entry in &self.clusters[0].entries[before..] {
            if entry.place.0 != SESSIONS || entry.late || entry.state != State::There {
                continue;
            }
            let of_log = || self.broker.owners.iter().filter(|owner| owner.log == entry.place.2);
            let Some(owner) = of_log().find(|owner| owner.identity == (entry.producer, entry.epoch)) else { continue };
            let later = of_log().find(|other| other.from > owner.from && other.from < entry.base_offset);
            if let Some(later) = later {
                wrong = Some(format!(
                    "{owner:?} has a record at {} of log {}, and {later:?} owns it",
                    entry.base_offset, entry.place.2
                ));
            }
        }
        if let Some(text) = wrong {
            self.judge.fails("I1", text);
        }
    }

    /// Whether all replicas have the record of a message.
    pub(crate) fn is_in_its_topic(&self, number: u32) -> bool {
        let kafka = &self.clusters[0];
        kafka.copies(number, 0).any(|entry| kafka.is_replicated(entry))
    }

    /// Whether a message is of an exchange of QoS 2 of a kept session, so that the log of its slot has the message when it is
    /// answered.
    fn is_exchange(&self, number: u32) -> bool {
        let message = &self.messages[number as usize];
        message.qos == 2 && !message.is_will && self.devices[message.device].kept
    }

    /// I5: checks that a message of such an exchange is one record of its route's topic in the end, however processes ended: at least one if the message was
    /// answered, and at most one for each session of its client with an attempt. A log that was cut may lack it.
    pub(crate) fn judge_exchanges(&mut self) {
        let Some(broker) = self.settings.broker.filter(|_| self.broker.cuts.is_empty()) else { return };
        let is_of_route = |entry: &&Entry| [MESSAGES, ODD].contains(&&*entry.place.0) && entry.state != State::Lost;
        let mut wrong = Vec::new();
        for (number, message) in (0u32..).zip(&self.messages).filter(|(number, _)| self.is_exchange(*number)) {
            // A record of a late request to a partition that does not know its producer is there, but does not count as
            // one too many.
            let is_there = self.clusters[0].copies(number, 0).any(|entry| is_of_route(&entry));
            let copies =
                self.clusters[0].copies(number, 0).filter(is_of_route).filter(|entry| !entry.forgotten).count();
            let sessions: BTreeSet<u32> = message.attempts.iter().map(|(session, _)| *session).collect();
            // Bound on an entry of a log: an eighth of a segment.
            let is_large = message.payload.len() as u64 + 1_024 > broker.segment_bytes / 8;
            // A large message goes past the log, so each owner of its slot may take it as a new one. An attempt names a process, and no owner among several.
            let owners = if self.plan.instances.is_some() { message.sends as usize } else { message.attempts.len() };
            let most = if is_large { owners } else { sessions.len() };
            if copies > most.max(1) || !is_there && message.answered.is_some() {
                wrong.push((number, copies, message.attempts.clone()));
            }
        }
        if let Some((number, ..)) = wrong.first() {
            let copies = self.clusters[0].copies(*number, 0).filter(is_of_route).map(|entry| {
                let Entry { producer, epoch, first, time, life, late, place, .. } = entry;
                format!("at {time} by process {life} (late: {late}) in {place:?}: {producer}.{epoch} {first}")
            });
            let copies: Vec<String> = copies.collect();
            let text = format!("records of messages of QoS 2: {wrong:?}; of the first one {copies:#?}");
            self.judge.fails("I5", text);
        }
    }

    /// Whether a message of QoS 2 was taken for a repeat of the message that had its packet identifier before, and so is in no topic: the log of its slot
    /// was cut in between, and has lost that the identifier is free.
    pub(crate) fn is_taken_for_repeat(&self, number: u32) -> bool {
        self.cut_since_identifier(number).is_some() && self.clusters[0].copies(number, 0).next().is_none()
    }

    /// Whether a message of QoS 2 was taken for a repeat of one of another route, for the same reason: its own route gets it, past the log of the slot, so it may
    /// overtake messages that are in that log.
    pub(crate) fn may_go_beside_log(&self, number: u32) -> bool {
        let topic_of = |number: u32| self.clusters[0].copies(number, 0).next().map(|entry| &entry.place.0);
        self.cut_since_identifier(number).is_some_and(|last| topic_of(last) != topic_of(number))
    }

    /// The last message of QoS 2 before this one under its packet identifier, if the log of its slot was cut in between.
    fn cut_since_identifier(&self, number: u32) -> Option<u32> {
        let broker = self.settings.broker.filter(|_| self.is_exchange(number))?;
        let message = &self.messages[number as usize];
        let device = &self.devices[message.device];
        let log = owner(&device.name, broker.slots.into());
        let earlier = device.messages.iter().take_while(|earlier| **earlier < number);
        let earlier = earlier.map(|earlier| (*earlier, &self.messages[*earlier as usize]));
        let (last, of) = earlier.filter(|(_, of)| of.qos == 2 && of.is_under(message.packet_id())).last()?;
        let was_cut =
            self.broker.cuts.iter().any(|(of_log, at)| *of_log == log && (of.sent_at..message.sent_at).contains(at));
        was_cut.then_some(last)
    }

    /// Checks that Kafka has the record of an answered message, unless the log of its slot has the message.
    pub(crate) fn judge_route(&mut self, number: u32) {
        if self.settings.broker.is_some() && !self.is_exchange(number) && !self.is_in_its_topic(number) {
            self.judge.fails("early", format!("message {number} was answered, and Kafka does not have its record"));
        }
    }

    /// Checks that each receipt names a place where the message is or was.
    pub(crate) fn judge_route_receipts(&mut self, number: u32, receipts: &[Receipt]) {
        for receipt in receipts {
            self.judge.receipts[usize::from(receipt.offset.is_none())] += 1;
            let is_here = |entry: &Entry| {
                let (from, to) = (entry.base_offset, entry.end());
                entry.place.0 == receipt.topic
                    && entry.place.2 == receipt.partition
                    && receipt.offset.is_none_or(|offset| (from..to).contains(&offset))
            };
            if !self.clusters[0].copies(number, 0).any(is_here) {
                self.judge.fails("receipt", format!("message {number} is not at {receipt:?}"));
            }
        }
    }

    /// Whether records may have been read more than once, each time as another message: after the end of a process, or under another assignment.
    pub(crate) fn may_be_read_again(&self) -> bool {
        let was_read_once = || {
            self.process.as_ref().is_some_and(|process| {
                let of =
                    |metric| process.hosts.iter().map(|host| host.board.read()[process.layout.source(0, metric)]).max();
                is_one_assignment(|metric| of(metric).unwrap_or(0))
            })
        };
        self.settings.broker.is_some() && (!self.judge.ends.is_empty() || self.broker.had_others || !was_read_once())
    }

    /// Whether a log of sessions had no room for a copy: a copy in memory alone may come again after a crash, and late.
    pub(crate) fn has_left_out(&self) -> bool {
        let left_out = |process: &Process| process.number(ShardMetric::CopiesUnstored) > 0;
        let is_there = self.process.iter().chain(self.broker.others.values()).any(left_out);
        is_there || !self.judge.unstored_in.is_empty()
    }

    /// The retained messages that a subscriber has asked for on its connection and not received: Kafka's newest one of each topic.
    pub(crate) fn missing_retained(&self, subscriber: &Subscriber) -> Vec<u32> {
        let asks = |wish: &Wish| matches!(wish.asked, Asked::Has(since) if since >= subscriber.greeted_at);
        if !subscriber.wishes.iter().any(asks) {
            return Vec::new();
        }
        let newest = [MESSAGES, ODD].into_iter().flat_map(|topic| self.newest_of(topic, true));
        let due = newest.filter_map(|(key, (value, _))| {
            let topic = String::from_utf8(key).ok()?;
            let asks = subscriber.matching(&topic).any(|(_, wish)| asks(wish));
            let number = message_number(&value).filter(|number| asks && !subscriber.ledger.has(*number))?;
            Some((number, topic, value))
        });
        let missing: Vec<_> = due.collect();
        if missing.is_empty() {
            return Vec::new();
        }
        let there = self.newest_of(RETAINED, false);
        let is_cleaned_away = |(_, topic, value): &(u32, String, Vec<u8>)| {
            there.get(topic.as_bytes()).is_some_and(|(found, _)| self.is_cleaned_away(value, found))
        };
        missing.into_iter().filter(|one| !is_cleaned_away(one)).map(|(number, ..)| number).collect()
    }

    /// I9: checks that no shard's logs of sessions are longer than allowed.
    pub(crate) fn check_session_logs(&mut self, boards: &[Vec<u64>]) {
        let (Some(broker), Some(process)) = (self.settings.broker, &self.process) else { return };
        // A single shard of one of several instances may have all logs.
        let shards = if broker.instance.is_some() { 1 } else { process.hosts.len() };
        let logs = usize::from(broker.slots).div_ceil(shards) as u64;
        let most = broker.segment_bytes * broker.segments * logs;
        let of = |metric: ShardMetric| boards.iter().map(move |values| values[metric as usize]).max();
        let [used, bound] =
            [ShardMetric::SessionLogBytes, ShardMetric::SessionLogBytesMax].map(|of_it| of(of_it).unwrap_or(0));
        if used > most || bound > most {
            let text = format!("a log of sessions has {used} bytes and takes {bound}, {most} are allowed");
            self.judge.fails("I9", text);
        }
    }

    /// Notes the copies of retained messages that have come, before the cleaner removes the older ones.
    pub(crate) fn note_copies(&mut self) {
        let (seen, copied) = &mut self.broker.copied;
        let entries = &self.clusters[0].entries;
        for entry in entries[*seen..].iter().filter(|entry| entry.place.0 == RETAINED) {
            each_record(entry, |record| copied.extend(record.value.map(|value| (value.to_vec(), record.offset))));
        }
        *seen = entries.len();
    }

    /// I7: checks that the group does not move past a record with RETAIN before Kafka has its copy.
    pub(crate) fn judge_copied(&mut self, commit: &Commit) {
        if self.settings.broker.is_none() {
            return;
        }
        let kafka = &self.clusters[0];
        let at = (commit.topic.clone(), commit.partition);
        let from = self.broker.below.insert(at.clone(), commit.offset).unwrap_or(0);
        let from = from.max(self.instances.began_at(commit));
        let partition = kafka.topics.get(&at.0).and_then(|topic| topic.partitions.get(at.1 as usize));
        let entries =
            partition.into_iter().flat_map(|partition| &partition.entries).map(|place| &kafka.entries[*place]);
        let mut missing = Vec::new();
        for entry in entries.filter(|entry| entry.end() > from && entry.base_offset < commit.offset) {
            each_record(entry, |record| {
                let is_below = (from..commit.offset).contains(&record.offset);
                let value = record.value.unwrap_or_default();
                if is_below && is_retained(record) && !self.broker.copied.1.contains_key(value) {
                    missing.extend(message_number(value));
                }
            });
        }
        missing.retain(|number| self.record(*number).is_none_or(|record| !record.is_bad));
        if !missing.is_empty() {
            self.judge
                .fails("I7", format!("{commit:?} passes {missing:?}, which are not in the topic of retained messages"));
        }
    }

    /// I7: checks that at rest the topic of retained messages has, for each MQTT topic, the last record with RETAIN.
    pub(crate) fn judge_retained_topic(&mut self) {
        if self.settings.broker.is_none() || !self.judge.is_well() {
            return;
        }
        let mut wanted: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for topic in [MESSAGES, ODD] {
            for (key, (value, is_retained)) in self.newest_of(topic, true) {
                if is_retained {
                    wanted.insert(key, value);
                }
            }
        }
        wanted.retain(|_, value| !value.is_empty());
        let found: BTreeMap<Vec<u8>, Vec<u8>> = self
            .newest_of(RETAINED, false)
            .into_iter()
            .map(|(key, (value, _))| (key, value))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        wanted.iter_mut().for_each(|(key, value)| {
            if let Some(found) = found.get(key).filter(|found| self.is_cleaned_away(value, found)) {
                value.clone_from(found);
            }
        });
        if wanted != found {
            let text = |of: &BTreeMap<Vec<u8>, Vec<u8>>| {
                let of = of.iter().map(|(key, value)| {
                    let value: String = String::from_utf8_lossy(value).chars().take(12).collect();
                    format!("{}: {value}", String::from_utf8_lossy(key))
                });
                of.collect::<Vec<_>>()
            };
            self.judge.fails("I7", format!("retained are {:?}, and should be {:?}", text(&found), text(&wanted)));
        }
    }

    /// Whether the cleaner has removed the copy of a retained message, as the copy of this older one came after it: the cleaner
    /// goes by the order of the copies.
    fn is_cleaned_away(&self, newest: &[u8], found: &[u8]) -> bool {
        let copied = &self.broker.copied.1;
        copied.get(newest).zip(copied.get(found)).is_some_and(|(newest, found)| newest < found)
    }

    /// The newest record of each key of a topic, or of each key among the records with RETAIN. For copies of one partition's records, the newest
    /// one is the copy of the newest record.
    fn newest_of(&self, topic: &str, is_retained_alone: bool) -> BTreeMap<Vec<u8>, Value> {
        let kafka = &self.clusters[0];
        let mut newest = BTreeMap::new();
        let mut copied: BTreeMap<Vec<u8>, (String, i64)> = BTreeMap::new();
        let partitions = kafka.topics.get(topic).into_iter().flat_map(|topic| &topic.partitions);
        for entry in partitions.flat_map(|partition| &partition.entries).map(|place| &kafka.entries[*place]) {
            each_record(entry, |record| {
                let Some(key) = record.key else { return };
                // A record of another program need not be a message.
                let number = message_number(record.value.unwrap_or_default());
                let is_bad = number.and_then(|number| self.record(number)).is_some_and(|record| record.is_bad);
                let is_message = !is_bad && !key.contains(&b'#');
                if is_message && (is_retained(record) || !is_retained_alone) {
                    if let Some((of, offset)) = copy_of(record) {
                        let older = copied.get(key).is_some_and(|(last, at)| *last == of && offset < *at);
                        if older {
                            return;
                        }
                        copied.insert(key.to_vec(), (of, offset));
                    }
                    let value = record.value.unwrap_or_default().to_vec();
                    newest.insert(key.to_vec(), (value, is_retained(record)));
                }
            });
        }
        newest
    }
}

fn each_record(entry: &Entry, mut take: impl FnMut(&Record<'_>)) {
    let mut batches = Batches::new(entry.bytes.to_vec(), entry.base_offset, Vec::new(), false);
    while let Ok(Some(record)) = batches.take() {
        take(&record);
    }
}

/// The partition and the offset of the record that a copy of a retained message was made from.
fn copy_of(record: &Record<'_>) -> Option<(String, i64)> {
    let (_, value) = record.headers.clone().find(|(name, _)| *name == b"mqtt-copy-of")?;
    let (of, offset) = std::str::from_utf8(value?).ok()?.rsplit_once('/')?;
    Some((of.to_owned(), offset.parse().ok()?))
}

fn is_retained(record: &Record<'_>) -> bool {
    let mut headers = record.headers.clone();
    headers.any(|(name, value)| name == b"mqtt-retain" && value == Some(b"true"))
}
