//! Records that Kafka acknowledged and lost, as the model knows them, compared with the producer's count: every loss that an answer has
//! shown, and never more records than were lost.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::kafka::{Cluster, Entry};
use crate::kafka::producer::SinkStats;

/// Sink, topic, partition.
pub(super) type Place = (usize, usize, i32);

/// Acknowledged records that the model knows to be lost, against the producer's count.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Offset after the last batch that was answered 0, as long as the producer remembers it.
    next: BTreeMap<Place, i64>,
    /// Done batches: producer id, epoch, place, first sequence.
    done: HashSet<(i64, i16, Place, i32)>,
    /// Places with a log that ended, or went on, before the end of the acknowledged records, as an answer has shown.
    seen: BTreeSet<Place>,
}

impl Lost {
    /// Notes that the producer was replaced, and knows no offsets.
    pub(super) fn crashed(&mut self) {
        self.next.clear();
    }

    /// Notes that a batch is done, as the wire shows.
    pub(super) fn done(&mut self, place: Place, identity: (i64, i16), first: i32) {
        self.done.insert((identity.0, identity.1, place, first));
    }

    /// Notes an answer 0 to a batch of this length that was undone until now.
    pub(super) fn answered(&mut self, place: Place, base_offset: i64, count: i64) {
        let next = self.next.entry(place).or_insert(0);
        if base_offset < *next {
            self.seen.insert(place);
        }
        *next = base_offset + count;
    }

    /// Notes an answer that a log ends at `at`, while a sink knew that it goes on at `from`: counts for the sink that
    /// asked, if no other sink knew the same.
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

    /// Number of acknowledged records of a sink that were lost with a leader or with their topic.
    pub(super) fn records(&self, kafka: &Cluster, sinks: &HashMap<i64, usize>, sink: usize) -> u64 {
        let gone = kafka.topics.iter().flat_map(|topic| topic.lost.iter().chain(topic.gone.iter().flatten()));
        let gone = gone.filter(|entry| sinks.get(&entry.producer) == Some(&sink) && self.was_done(entry, sink));
        gone.map(|entry| entry.rows.len() as u64).sum()
    }

    /// Checks the counters of a sink. `remembers`: the producer has forgotten no topic.
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
        // The producer forgets its offsets in a topic that is recreated.
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
