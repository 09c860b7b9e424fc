//! Requests: which partitions can be asked for now, and whether there is memory for the possible answers.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::Consumer;
use super::fetching::{Sent, Table};
use super::partition::{Partition, Phase};
use super::settings::Place;
use crate::fetch::{EARLIEST, FetchAsk, FetchCall, LATEST, OffsetAsk, Purpose, ReadWay};
use crate::types::NodeId;
use forebay_runtime::seam::Monotonic;

/// Bytes of an answer besides its records: for the whole, and for each partition.
const ANSWER_BYTES: usize = 64 * 1024;
const PARTITION_BYTES: usize = 256;
/// The fewest bytes of records that an answer may have: a batch has at most 1 MiB by Kafka's defaults.
pub(super) const RECORDS_MIN: usize = 1 << 20;
/// Wait for memory, if nothing happens earlier.
const MEMORY_WAIT: Duration = Duration::from_millis(10);
/// How long a broker waits for a first byte while other partitions of it may need a request soon.
const SHORT_WAIT: Duration = Duration::from_millis(100);

/// Interval between questions for the end of a log that no Fetch reads.
pub(super) const END_EVERY: Duration = Duration::from_secs(5);

/// A pending question about offsets, and its partitions, in the order asked.
#[derive(Debug)]
pub(super) struct Question {
    /// The partitions, each with its incarnation.
    pub(super) about: Vec<(u32, u32)>,
}

/// The partitions of one way that are ready.
#[derive(Debug, Default)]
struct Eligible {
    table: Table,
    /// Whether a partition has records that can be taken now: it will be fetched with the others soon.
    has_records: bool,
    /// Whether further partitions may be asked for soon.
    has_others: bool,
}

impl Consumer {
    /// The next request for the client, if there is one. Call it until there is none, after every event and at [`Consumer::next_deadline`].
    pub fn take_request(&mut self, now: Monotonic) -> Option<FetchCall> {
        if now < self.wake_at {
            return None;
        }
        if let Some(call) = self.ask_offsets(now) {
            return Some(call);
        }
        let retry = self.partitions.values().filter(|partition| partition.is_waiting());
        let mut wake_at =
            retry.map(|partition| partition.retry_at).filter(|at| *at > now).min().unwrap_or(Monotonic::NEVER);
        let standing =
            self.partitions.values().filter(|partition| partition.stands() && partition.leader.node.is_some());
        let end_at = standing.map(|partition| partition.end_at).filter(|at| *at > now).min();
        wake_at = wake_at.min(end_at.unwrap_or(Monotonic::NEVER));
        let ways = self.eligible(now);
        let count = ways.len();
        self.fetchings.retain(|way, fetching| fetching.under_way.is_some() || ways.contains_key(way));
        // If memory is scarce, the ways take turns.
        let mut ways: Vec<(ReadWay, Eligible)> = ways.into_iter().collect();
        let first = ways.partition_point(|(way, _)| self.last_way.is_some_and(|last| *way <= last));
        ways.rotate_left(first);
        for (way, eligible) in ways {
            match self.fetch(way, eligible, count, now) {
                Ok(call) => {
                    self.last_way = Some(way);
                    return Some(call);
                }
                Err(at) => wake_at = wake_at.min(at),
            }
        }
        self.wake_at = wake_at;
        None
    }

    /// A question about the offsets of all partitions of one leader that need the same kind.
    fn ask_offsets(&mut self, now: Monotonic) -> Option<FetchCall> {
        let mut of: Option<(NodeId, bool, bool)> = None;
        let mut asked = Vec::new();
        let id = self.next_id;
        for (number, partition) in &mut self.partitions {
            let Some((node, at, is_epoch)) = partition.asks(now) else { continue };
            let committed = partition.assignment.committed;
            if *of.get_or_insert((node, is_epoch, committed)) != (node, is_epoch, committed) {
                continue;
            }
            partition.question = Some(id);
            partition.end_at = now.after(END_EVERY);
            let about = (*number, partition.incarnation);
            let (topic, partition, leader_epoch) =
                (Rc::clone(&partition.assignment.topic), partition.assignment.partition, partition.leader.epoch);
            asked.push((OffsetAsk { topic, partition, leader_epoch, at }, about));
        }
        let (node, is_epoch, committed) = of?;
        asked.sort_by(|(one, _), (other, _)| one.topic.cmp(&other.topic));
        let (asks, about) = asked.into_iter().unzip();
        self.next_id += 1;
        self.questions.insert(id, Question { about });
        let ask = if is_epoch { FetchAsk::EpochEnds(asks) } else { FetchAsk::Offsets(asks, committed) };
        Some(FetchCall { id, way: ReadWay { node, purpose: Purpose::Offsets, line: 0 }, is_fresh: false, ask })
    }

    /// The partitions that can be fetched, by way.
    fn eligible(&self, now: Monotonic) -> BTreeMap<ReadWay, Eligible> {
        let mut ways: BTreeMap<ReadWay, Eligible> = BTreeMap::new();
        for (id, partition) in &self.partitions {
            let Some(way) = partition.way(self.settings.line) else { continue };
            let eligible = ways.entry(way).or_default();
            if partition.phase != Phase::Read || partition.is_paused || partition.retry_at > now {
                eligible.has_others = true;
            } else if partition.chunk.is_some() {
                eligible.has_records = true;
            } else {
                let topic_id = self.topics.get(&partition.assignment.topic).map_or(0, |topic| topic.id);
                let sent = Sent {
                    id: *id,
                    incarnation: partition.incarnation,
                    topic_id,
                    offset: partition.position.offset,
                    leader_epoch: partition.leader.epoch,
                    bytes: partition.assignment.bytes,
                };
                eligible.table.insert((Rc::clone(&partition.assignment.topic), partition.assignment.partition), sent);
            }
        }
        ways
    }

    /// The next Fetch of a way.
    ///
    /// # Errors
    /// The time before which there is no Fetch.
    fn fetch(&mut self, way: ReadWay, eligible: Eligible, ways: usize, now: Monotonic) -> Result<FetchCall, Monotonic> {
        let fetching = self.fetchings.entry(way).or_default();
        if fetching.under_way.is_some() || eligible.has_records || eligible.table.is_empty() {
            return Err(Monotonic::NEVER);
        }
        if fetching.retry_at > now {
            return Err(fetching.retry_at);
        }
        let mut wanted = eligible.table;
        let mut alone = None;
        while let Some(id) = fetching.alone.front().copied().filter(|_| alone.is_none()) {
            fetching.alone.pop_front();
            alone = wanted.iter().find(|(_, sent)| sent.id == id).map(|(place, sent)| (place.clone(), *sent));
        }
        let is_alone = alone.is_some();
        if let Some((place, sent)) = alone {
            wanted = Table::from([(place, sent)]);
        }
        // Two rounds of all ways fit into the memory, unless it is very small.
        let share = (self.settings.fetch_memory / (2 * ways.max(1))).clamp(RECORDS_MIN, self.settings.answer_bytes);
        let answer_bytes_max = (share + ANSWER_BYTES + PARTITION_BYTES * wanted.len())
            .max(fetching.largest)
            .min(self.settings.fetch_memory);
        let reserved: usize = self.fetchings.values().map(|fetching| fetching.reserved).sum();
        let used_max = self.settings.fetch_memory.checked_sub(reserved + answer_bytes_max);
        let is_beyond = |used: usize| used_max.is_none_or(|most| used > most);
        if is_beyond(self.account.used()) {
            self.give_way();
            if is_beyond(self.account.used()) {
                if is_alone && let Some(fetching) = self.fetchings.get_mut(&way) {
                    fetching.alone.extend(wanted.values().map(|sent| sent.id));
                }
                self.stats.memory_waits += 1;
                return Err(now.after(MEMORY_WAIT));
            }
        }
        let Some(fetching) = self.fetchings.get_mut(&way) else { return Err(Monotonic::NEVER) };
        fetching.turn = fetching.turn.wrapping_add(1);
        if is_alone {
            fetching.session.forget();
        }
        let mut fetch = fetching.session.request(wanted, fetching.turn, share);
        if is_alone {
            // The Fetch is in no session, because it is about this partition alone.
            fetch.session = (0, -1);
        }
        let wait = if eligible.has_others || is_alone {
            self.settings.max_wait.min(SHORT_WAIT)
        } else {
            self.settings.max_wait
        };
        fetch.max_wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        fetch.bytes_max = i32::try_from(share).unwrap_or(i32::MAX);
        fetch.answer_bytes_max = answer_bytes_max;
        let id = self.next_id;
        self.next_id += 1;
        (fetching.under_way, fetching.reserved) = (Some(id), answer_bytes_max);
        let is_fresh = std::mem::take(&mut fetching.is_fresh);
        Ok(FetchCall { id, way, is_fresh, ask: FetchAsk::Fetch(fetch) })
    }

    /// Drops the records of paused partitions, because others need the memory: they are fetched again.
    fn give_way(&mut self) {
        for partition in self.partitions.values_mut().filter(|partition| partition.is_paused) {
            partition.chunk = None;
        }
    }
}

impl Partition {
    /// Whether the partition has a request to make once `retry_at` has passed.
    fn is_waiting(&self) -> bool {
        self.leader.node.is_some()
            && self.question.is_none()
            && !matches!(self.phase, Phase::Stopped(_))
            && !self.is_paused
    }

    /// The due question about the partition's offset: the broker, the time or epoch, and whether that is an epoch.
    fn asks(&self, now: Monotonic) -> Option<(NodeId, i64, bool)> {
        let node = self.leader.node.filter(|_| self.question.is_none() && self.retry_at <= now)?;
        match self.phase {
            Phase::Find(Place::Earliest, _) => Some((node, EARLIEST, false)),
            Phase::Find(Place::Latest, _) => Some((node, LATEST, false)),
            Phase::Find(Place::Time(at), _) => Some((node, at.max(0), false)),
            Phase::Validate => Some((node, i64::from(self.position.leader_epoch), true)),
            Phase::Read | Phase::Stopped(_) => (self.stands() && self.end_at <= now).then_some((node, LATEST, false)),
        }
    }
}
