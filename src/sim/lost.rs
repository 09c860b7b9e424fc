//! What Kafka acknowledged and lost, as the model knows it, against what the producer counted: every loss that an answer has shown, and
//! never more records than went.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::kafka::{Cluster, Entry};
use crate::kafka::producer::SinkStats;

/// Sink, topic, partition.
pub(super) type Place = (usize, usize, i32);

/// Acknowledged records that the model knows to be lost, against the producer's count.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Offset behind the last batch that was answered 0, while the producer need not have forgotten it.
    next: BTreeMap<Place, i64>,
    /// Batches that are done: producer id, epoch, place, first sequence.
    done: HashSet<(i64, i16, Place, i32)>,
    /// Partitions with a log that was seen to end, or go on, before what had been acknowledged.
    seen: BTreeSet<Place>,
}

impl Lost {
    /// The producer has been made anew, and knows of no offset.
    pub(super) fn crashed(&mut self) {
        self.next.clear();
    }

    /// A batch is done, as the wire shows it.
    pub(super) fn done(&mut self, place: Place, identity: (i64, i16), first: i32) {
        self.done.insert((identity.0, identity.1, place, first));
    }

    /// An answer 0 to a batch of this length that was undone until now.
    pub(super) fn answered(&mut self, place: Place, base_offset: i64, count: i64) {
        let next = self.next.entry(place).or_insert(0);
        if base_offset < *next {
            self.seen.insert(place);
        }
        *next = base_offset + count;
    }

    /// A log was said to end here, and was known to go on at `from`: of the sink that asked, if no other knew the same.
    pub(super) fn ends(&mut self, (topic, partition): (usize, i32), from: i64, at: i64) {
        let is_it = |(place, next): &(&Place, &mut i64)| (place.1, place.2) == (topic, partition) && **next == from;
        let mut of: Vec<_> = self.next.iter_mut().filter(is_it).collect();
        if let [(place, next)] = &mut of[..]
            && at < from
        {
            **next = at;
            self.seen.insert(**place);
        }
    }

    fn was_done(&self, entry: &Entry, sink: usize) -> bool {
        let place = (sink, entry.place.0, entry.place.1 as i32);
        self.done.contains(&(entry.producer, entry.epoch, place, entry.first))
    }

    /// Records of a sink that were acknowledged and went, with a leader or with their topic.
    pub(super) fn records(&self, kafka: &Cluster, sinks: &HashMap<i64, usize>, sink: usize) -> u64 {
        let gone = kafka.topics.iter().flat_map(|topic| topic.lost.iter().chain(topic.gone.iter().flatten()));
        let gone = gone.filter(|entry| sinks.get(&entry.producer) == Some(&sink) && self.was_done(entry, sink));
        gone.map(|entry| entry.rows.len() as u64).sum()
    }

    /// What is wrong with the numbers of a sink. `remembers`: the producer has forgotten no topic.
    pub(super) fn judge(
        &self,
        kafka: &Cluster,
        sinks: &HashMap<i64, usize>,
        sink: usize,
        stats: &SinkStats,
        remembers: bool,
    ) -> Option<String> {
        let records = self.records(kafka, sinks, sink);
        // A late request to a partition that has forgotten its producer looks like an old state of the log: 45, and an older epoch.
        let late = |entry: &&Entry| entry.late && entry.forgotten && sinks.get(&entry.producer) == Some(&sink);
        let misled = kafka.topics.iter().flat_map(Cluster::makings).flatten().filter(late).count() as u64;
        if stats.acknowledged_lost_records > records + misled {
            return Some(format!("sink {sink}: {records} acknowledged records went: {stats:?}"));
        }
        // A topic that was made anew takes what was known of its offsets with it.
        let went = |place: &&Place| {
            let topic = &kafka.topics[place.1];
            let here = |entry: &&Entry| entry.place.1 as i32 == place.2 && sinks.get(&entry.producer) == Some(&sink);
            topic.made == 0 && topic.lost.iter().filter(here).any(|entry| self.was_done(entry, sink))
        };
        let shown = self.seen.iter().filter(|place| place.0 == sink).find(went)?;
        let counted = stats.acknowledged_lost > 0 && stats.acknowledged_lost_records > 0;
        (remembers && !counted).then(|| format!("{shown:?}: an answer showed the loss: {stats:?}"))
    }
}
