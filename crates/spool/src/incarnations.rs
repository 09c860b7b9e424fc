//! Incarnations: a sink's topic as it was known when rows got their partitions. The newest incarnation of a sink's topic
//! applies to all its live rows with a partition, because rows placed by another number of partitions are done before
//! the next are placed; an open cut names its own.

use forebay_record::stored::Known;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::Entry;
use super::log::Log;
use super::state::State;
use super::terms::Refused;

/// A sink's topic as it was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incarnation {
    /// The sink's index in [`State::sinks`].
    pub(super) sink: usize,
    /// The topic.
    pub topic: Arc<str>,
    /// The cluster's id; empty: not known.
    pub cluster: Arc<str>,
    /// Kafka's id of the topic; 0: not known.
    pub topic_id: u128,
    /// The number of partitions; 0: not known, or rows were placed by different numbers.
    pub partitions: u32,
}

impl Incarnation {
    /// Whether the incarnation matches: an unknown value matches anything.
    fn is(&self, known: &Known<'_>) -> bool {
        self.partitions == known.partitions
            && (known.topic_id == 0 || known.topic_id == self.topic_id)
            && (known.cluster.is_empty() || *self.cluster == *known.cluster)
    }

    fn names(&self) -> u64 {
        (self.topic.len() + self.cluster.len()) as u64
    }
}

/// Lanes and incarnations that nothing needs any more, each in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Retired {
    pub(super) lanes: Vec<u64>,
    pub(super) incarnations: Vec<u64>,
}

impl State {
    /// An incarnation by its number.
    #[must_use]
    pub fn incarnation(&self, number: u64) -> Option<&Incarnation> {
        self.incarnations.get(&number)
    }

    /// The newest incarnation of a sink's topic.
    #[must_use]
    pub fn incarnation_of(&self, sink: &str, topic: &str) -> Option<&Incarnation> {
        let of = |known: &&Incarnation| *known.topic == *topic && *self.sinks[known.sink].0 == *sink;
        self.incarnations.values().rev().find(of)
    }

    pub(super) fn note_incarnation(&mut self, number: u64, incarnation: Incarnation) {
        self.next_incarnation = self.next_incarnation.max(number + 1);
        self.size.names += incarnation.names() + self.sinks[incarnation.sink].0.len() as u64;
        if let Some(old) = self.incarnations.insert(number, incarnation) {
            self.size.names -= old.names() + self.sinks[old.sink].0.len() as u64;
        }
    }

    pub(super) fn retire_incarnation(&mut self, number: u64) {
        if let Some(old) = self.incarnations.remove(&number) {
            self.size.names -= old.names() + self.sinks[old.sink].0.len() as u64;
        }
    }
}

impl Log {
    /// The number of the incarnation that is known of a lane's topic, written if it is new. 0: nothing is known.
    ///
    /// # Errors
    /// [`Refused`]: not possible now.
    pub fn incarnation(&mut self, lane: u64, known: &Known<'_>) -> Result<u64, Refused> {
        if *known == Known::default() {
            return Ok(0);
        }
        let ahead = self.ahead.lanes.get_mut(&lane).ok_or(Refused::Unknown)?;
        if let Some((number, incarnation)) = &ahead.incarnation
            && incarnation.is(known)
        {
            return Ok(*number);
        }
        let (sink, topic) = (ahead.sink, ahead.topic.clone());
        let key = (sink, topic.clone());
        let newest = self.ahead.incarnations.get(&key).filter(|(_, incarnation)| incarnation.is(known));
        if let Some((number, incarnation)) = newest {
            ahead.incarnation = Some((*number, Arc::clone(incarnation)));
            return Ok(*number);
        }
        let number = self.ahead.next_incarnation;
        let name = self.state.sinks.get(sink).ok_or(Refused::Unknown)?.0.clone();
        let account = super::checkpoint::INCARNATION + (name.len() + topic.len() + known.cluster.len()) as u64;
        let Known { cluster, topic_id, partitions } = *known;
        self.put(&Entry::Incarnation { number, topic_id, partitions, sink: &name, topic: &topic, cluster }, 1)?;
        self.waiting.account += account;
        self.ahead.next_incarnation += 1;
        let noted = Arc::new(Incarnation { sink, topic, cluster: Arc::from(cluster), topic_id, partitions });
        self.ahead.incarnations.insert(key, (number, Arc::clone(&noted)));
        if let Some(ahead) = self.ahead.lanes.get_mut(&lane) {
            ahead.incarnation = Some((number, noted));
        }
        Ok(number)
    }

    /// Incarnations that no open cut names and that are either of a topic without lanes or not the newest of their
    /// topic.
    pub(super) fn retire_incarnations(&mut self) -> Vec<u64> {
        let named: BTreeSet<u64> = self.state.cuts().map(|cut| cut.head.incarnation).collect();
        let topics: BTreeSet<(usize, &str)> = self.ahead.lanes.values().map(|lane| (lane.sink, &*lane.topic)).collect();
        self.ahead.incarnations.retain(|(sink, topic), _| topics.contains(&(*sink, &**topic)));
        let newest: BTreeSet<u64> = self.ahead.incarnations.values().map(|(number, _)| *number).collect();
        let idle = |number: &u64| !named.contains(number) && !newest.contains(number);
        self.state.incarnations.keys().copied().filter(idle).collect()
    }
}
