//! The numbers of partitions of the topics that the member has to watch: its own topics, and those of all members if it
//! leads.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use super::verdict::{Verdict, words};
use super::{Fingerprint, Lead, Member, Protocol, Step};
use crate::coordination::{Ask, GroupMember, Says};
use forebay_guard::outward::jittered;
use forebay_runtime::seam::Monotonic;

/// The interval at which a missing topic is looked for, unless the others are counted more often.
const MISSING: Duration = Duration::from_secs(5);

/// The partition counts.
#[derive(Debug)]
pub(super) struct Counts {
    /// Topics to count, sorted.
    pub(super) topics: Rc<[Rc<str>]>,
    /// The last counts; `None`: the topic was missing. Empty before the first count.
    known: BTreeMap<Rc<str>, Option<u32>>,
    /// All members, if this one leads, came back and has assigned nothing: its assignment may be based on older counts.
    pub(super) returned_to: Vec<GroupMember>,
    /// The description of a topic for which the brokers report no count.
    trouble: Option<String>,
    due: Monotonic,
    asked: Option<u64>,
}

impl Default for Counts {
    fn default() -> Self {
        let (topics, known) = (Rc::from([]), BTreeMap::new());
        Self { topics, known, returned_to: Vec::new(), trouble: None, due: Monotonic(0), asked: None }
    }
}

impl Counts {
    pub(super) fn is_asked(&self, token: u64) -> bool {
        self.asked == Some(token)
    }

    /// Ignores the answer to a pending question.
    pub(super) fn forget_question(&mut self) {
        self.asked = None;
    }

    /// Number of partitions of a topic, if it exists.
    pub(super) fn of(&self, topic: &str) -> Option<u32> {
        self.known.get(topic).copied().flatten()
    }

    /// The fingerprint of the counts of these topics, which are sorted; `None`: not all were counted.
    pub(super) fn fingerprint(&self, topics: &[Rc<str>]) -> Fingerprint {
        let mut hash = Xxh3::new();
        for topic in topics {
            let count = self.known.get(topic)?;
            hash.update(&(topic.len() as u64).to_be_bytes());
            hash.update(topic.as_bytes());
            hash.update(&count.map_or(-1, i64::from).to_be_bytes());
        }
        Some(hash.digest())
    }
}

impl<P: Protocol> Member<P> {
    /// Takes counts of the watched topics, in their order. Returns whether any has changed.
    pub(super) fn counted(&mut self, counts: &[Result<u32, i16>], now: Monotonic) -> bool {
        let mut is_new = false;
        let mut known = BTreeMap::new();
        self.counts.trouble = None;
        for (topic, count) in self.counts.topics.iter().zip(counts) {
            let count = match count {
                Ok(count) => Some(*count),
                // UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION.
                Err(3 | 17) => None,
                // The topic keeps its last count.
                Err(code) => {
                    if Verdict::of(*code) == Verdict::Refused {
                        self.counts.trouble = Some(format!("partitions of {topic} are not told: {}", words(*code)));
                    }
                    self.counts.of(topic)
                }
            };
            is_new |= self.counts.known.get(topic).is_some_and(|known| *known != count);
            known.insert(Rc::clone(topic), count);
        }
        let is_whole = known.values().all(Option::is_some);
        self.counts.known = known;
        let age = if is_whole { self.settings.metadata_max_age } else { self.settings.metadata_max_age.min(MISSING) };
        self.counts.due = now.after(jittered(age, &mut self.rng));
        is_new
    }

    pub(super) fn take_count(&mut self, token: u64, now: Monotonic) -> Option<Ask> {
        if self.count_due() > now {
            return None;
        }
        self.counts.asked = Some(token);
        Some(Ask::Partitions(Rc::clone(&self.counts.topics)))
    }

    pub(super) fn count_due(&self) -> Monotonic {
        let needed = matches!(self.step, Step::Stable) && self.counts.asked.is_none() && !self.counts.topics.is_empty();
        if needed { self.counts.due } else { Monotonic::NEVER }
    }

    /// Handles the answer to a question of a stable member: joins again if partitions were assigned by other counts.
    pub(super) fn on_count(&mut self, token: u64, says: &Says, now: Monotonic) {
        self.counts.asked = None;
        let Says::Partitions(counts) = says else {
            let wait = self.backoff.next(self.settings.retry(), &mut self.rng);
            self.counts.due = now.after(wait);
            return self.coordinator_lost(token, now);
        };
        let is_new = self.counted(counts, now);
        self.well();
        if is_new || self.is_outdated(now) {
            self.rebalance(now);
        }
    }

    /// Whether a leader that came back would now assign itself other partitions than it has.
    fn is_outdated(&mut self, now: Monotonic) -> bool {
        let members = std::mem::take(&mut self.counts.returned_to);
        let lead = Lead { members: &members, generation: self.me.generation, waited: Duration::ZERO, now };
        let counts = &self.counts;
        let assigned = self.protocol.assign(&lead, &|topic| counts.of(topic));
        let own = assigned.iter().find(|(id, _)| *id == self.me.id);
        let own = own.and_then(|(_, bytes)| self.protocol.assigned(bytes)).unwrap_or_default();
        let places = own.iter().flat_map(|(topic, of)| of.iter().map(move |partition| (topic, *partition)));
        !members.is_empty() && !places.eq(self.owned.partitions.iter().map(|at| (&at.topic, at.partition)))
    }

    /// Makes the next count due soon, because the leader's may be old.
    pub(super) fn count_soon(&mut self, now: Monotonic) {
        let age = self.settings.metadata_max_age.min(MISSING);
        self.counts.due = now.after(jittered(age, &mut self.rng));
    }

    /// Notes that the member takes part in its group; the trouble is over if its topics can be counted too.
    pub(super) fn well(&mut self) {
        match self.counts.trouble.clone() {
            Some(words) => self.told.trouble(words),
            None => self.told.well(),
        }
    }
}
