//! Notes of the dead letters that were sent again: ranges of offsets, by topic and partition, in a file of the data directory. A letter is noted once Kafka
//! has its record, so a crash loses the notes of one request at most.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;
use crate::limits::SENT_RANGES_MAX;

/// The file in the data directory.
const FILE: &str = "sent-again.json";

/// The first and last offset of consecutive letters.
type Range = (i64, i64);

/// The letters of one topic that were sent again.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfTopic {
    kafka: String,
    topic: String,
    /// The topic's ID: a recreated topic has other letters.
    id: String,
    /// The ranges, in order, without overlaps.
    partitions: BTreeMap<i32, Vec<Range>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    topics: Vec<OfTopic>,
}

/// The part of the file about one topic; the rest stays unchanged.
#[derive(Debug)]
pub(super) struct SentAgain {
    file: PathBuf,
    others: Vec<OfTopic>,
    own: OfTopic,
}

impl SentAgain {
    /// Reads the notes about a topic of a cluster.
    ///
    /// # Errors
    /// The file cannot be read, or is not in this program's format; in words.
    pub(super) fn read(data_dir: &Path, (kafka, topic, id): (&str, &str, &str)) -> Result<Self, String> {
        let file = data_dir.join(FILE);
        let content: Content = files::read_json(&file)?;
        let is_own = |of: &OfTopic| of.kafka == kafka && of.topic == topic;
        let (own, others): (Vec<_>, Vec<_>) = content.topics.into_iter().partition(is_own);
        let own = own.into_iter().find(|of| of.id == id);
        let new =
            || OfTopic { kafka: kafka.to_owned(), topic: topic.to_owned(), id: id.to_owned(), ..OfTopic::default() };
        Ok(Self { file, others, own: own.unwrap_or_else(new) })
    }

    /// Whether a letter was sent again.
    pub(super) fn has(&self, partition: i32, offset: i64) -> bool {
        self.range_with(partition, offset).is_some()
    }

    /// The first offset, from `offset` on, that was not sent again.
    pub(super) fn first_unsent(&self, partition: i32, offset: i64) -> i64 {
        self.range_with(partition, offset).map_or(offset, |(_, last)| last + 1)
    }

    fn range_with(&self, partition: i32, offset: i64) -> Option<Range> {
        let ranges = self.own.partitions.get(&partition)?;
        let place = ranges.partition_point(|(_, last)| *last < offset);
        ranges.get(place).copied().filter(|(first, _)| *first <= offset)
    }

    /// Notes a letter.
    pub(super) fn add(&mut self, partition: i32, offset: i64) {
        let ranges = self.own.partitions.entry(partition).or_default();
        let place = ranges.partition_point(|(_, last)| *last < offset - 1);
        match ranges.get_mut(place) {
            Some((first, last)) if *first <= offset + 1 => {
                (*first, *last) = ((*first).min(offset), (*last).max(offset));
                let last = *last;
                if let Some((next, end)) = ranges.get(place + 1).copied()
                    && next == last + 1
                {
                    ranges[place].1 = end;
                    ranges.remove(place + 1);
                }
            }
            _ => ranges.insert(place, (offset, offset)),
        }
    }

    /// Forgets letters of a partition before this offset, which have gone from the topic.
    pub(super) fn forget_before(&mut self, partition: i32, first: i64) {
        if let Some(ranges) = self.own.partitions.get_mut(&partition) {
            ranges.retain(|(_, last)| *last >= first);
        }
    }

    /// Whether there is no room for more ranges.
    pub(super) fn is_full(&self) -> bool {
        let count = |of: &OfTopic| of.partitions.values().map(Vec::len).sum::<usize>();
        self.others.iter().map(count).sum::<usize>() + count(&self.own) >= SENT_RANGES_MAX
    }

    /// Writes the file.
    ///
    /// # Errors
    /// The file cannot be written; in words. The old one stays then.
    pub(super) fn write(&mut self) -> Result<(), String> {
        let mut topics = std::mem::take(&mut self.others);
        topics.push(std::mem::take(&mut self.own));
        let mut content = Content { topics };
        let bytes = serde_json::to_vec(&content).map_err(|error| error.to_string());
        let written = bytes.and_then(|bytes| files::replace(&self.file, &bytes).map_err(|error| error.to_string()));
        self.own = content.topics.pop().unwrap_or_default();
        self.others = content.topics;
        written.map_err(|why| format!("{}: {why}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const OF: (&str, &str, &str) = ("main", "dead", "1");

    #[test]
    fn ranges_grow_and_join_whatever_the_order() {
        let dir = tempfile::tempdir().expect("a folder");
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut note = SentAgain::read(dir.path(), OF).expect("a note");
            let mut model = BTreeSet::new();
            for _ in 0..random.usize(1..40) {
                let offset = random.i64(0..40);
                note.add(0, offset);
                model.insert(offset);
            }
            for offset in 0..42 {
                assert_eq!(note.has(0, offset), model.contains(&offset), "seed {seed}: {offset} in {note:?}");
                let unsent = (offset..).find(|at| !model.contains(at)).expect("one");
                assert_eq!(note.first_unsent(0, offset), unsent, "seed {seed}: {offset} in {note:?}");
            }
            let ranges = &note.own.partitions[&0];
            assert!(ranges.windows(2).all(|two| two[0].1 + 1 < two[1].0), "seed {seed}: {ranges:?}");
        }
    }

    #[test]
    fn a_note_is_of_one_topic_and_of_its_id() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut note = SentAgain::read(dir.path(), OF).expect("a note");
        note.add(3, 7);
        note.write().expect("written");
        let mut other = SentAgain::read(dir.path(), ("main", "other", "2")).expect("a note");
        assert!(!other.has(3, 7));
        other.add(0, 0);
        other.write().expect("written");
        let mut note = SentAgain::read(dir.path(), OF).expect("a note");
        assert!(note.has(3, 7) && !note.has(0, 7) && !note.is_full());
        note.forget_before(3, 8);
        assert!(!note.has(3, 7));
        // The topic was recreated.
        assert!(!SentAgain::read(dir.path(), ("main", "dead", "9")).expect("a note").has(3, 7));
        std::fs::write(dir.path().join(FILE), "{").expect("written");
        assert!(SentAgain::read(dir.path(), OF).expect_err("damaged").contains(FILE));
    }

    #[test]
    fn there_is_a_bound() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut note = SentAgain::read(dir.path(), OF).expect("a note");
        (0..SENT_RANGES_MAX as i64).for_each(|n| note.add(0, 2 * n));
        assert!(note.is_full());
        note.add(0, 1);
        assert!(!note.is_full(), "two have become one");
    }
}
