//! Sinks that come and change while the producer runs. A sink keeps its number for as long as the producer lives; one that
//! nobody uses any more stays, without rows.

use std::time::Duration;

use super::pool::BATCH_COST;
use super::settings::{Keep, Settings, SinkSettings};
use super::{Key, Producer, Sink};
use crate::kafka::types::SinkId;
use crate::record::compression::Codecs;

/// Bounds of the memory that follow from the settings of all sinks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ceilings {
    pub(super) limit: usize,
    /// Memory in use up to which rows are taken, and up to which they are placed.
    pub(super) append: usize,
    pub(super) place: usize,
    /// The same for rows of a sink with a reserve.
    pub(super) reserve: usize,
    /// Of a sink whose rows go to the log: memory beyond which they are there alone.
    pub(super) spill_after_max: usize,
    /// One sink, one topic: there is nobody to leave a part to.
    pub(super) undivided: bool,
    /// More than one sink: each has its part.
    pub(super) several: bool,
}

impl Ceilings {
    /// `limit_min`: the limit so far, which never sinks.
    pub(super) fn of(settings: &Settings, codecs: &Codecs, limit_min: usize) -> Self {
        let largest = settings.batch_capacity_max();
        let limit = settings.buffer_bytes.max(settings.buffer_bytes_min_with(codecs)).max(limit_min);
        // Splitting a batch needs twice its room, and once more if it is compressed; placing needs one batch.
        let reserve = limit - largest * if codecs.is_empty() { 2 } else { 3 } - 4 * BATCH_COST;
        let (reserved, others): (Vec<_>, Vec<_>) = settings.sinks.iter().partition(|sink| sink.reserved);
        // One batch while all else is full: what that holds may give its memory back only then.
        let place = reserve - if reserved.is_empty() { 0 } else { largest + BATCH_COST };
        let append = place - largest - BATCH_COST;
        let logged = settings.sinks.iter().filter(|sink| sink.keep != Keep::Memory).count();
        Self {
            limit,
            append,
            place,
            reserve,
            // What is over is in the log alone before memory is full; the encoders have theirs.
            spill_after_max: append.saturating_sub(codecs.memory()) / (2 * logged.max(1)),
            undivided: matches!(*others, [only] if only.fixed_topic),
            several: others.len() > 1,
        }
    }

    /// A sink's settings within them.
    pub(super) fn of_sink(&self, sink: &SinkSettings) -> SinkSettings {
        SinkSettings { spill_after: sink.spill_after.min(self.spill_after_max), ..sink.clone() }
    }
}

impl Producer {
    /// Other settings for some sinks; a number that comes next after those that there are is a new sink. Of a known one,
    /// where its rows are kept, when they are answered, what Kafka is asked for and how partitions are chosen stay as they
    /// are: rows that it holds depend on them.
    pub fn change_sinks(&mut self, changes: impl IntoIterator<Item = (SinkId, SinkSettings)>) {
        let mut resumed = Vec::new();
        for (sink, settings) in changes {
            let was_paused = self.settings.sinks.get(usize::from(sink.0)).is_some_and(|known| known.paused);
            if was_paused && !settings.paused {
                resumed.push(usize::from(sink.0));
            }
            match self.settings.sinks.get_mut(usize::from(sink.0)) {
                Some(known) => *known = changed(known, settings),
                None => {
                    self.sinks.push(Sink::new(settings.clone()));
                    self.settings.sinks.push(settings);
                }
            }
        }
        self.settings_changed();
        if !resumed.is_empty() {
            self.look_at_all_of(&resumed);
        }
    }

    /// Partitions of these sinks with rows may have something to send.
    fn look_at_all_of(&mut self, sinks: &[usize]) {
        for topic in 0..self.topics.len() {
            if !sinks.contains(&self.topics[topic].sink) {
                continue;
            }
            for partition in 0..self.topics[topic].partitions.len() {
                if self.topics[topic].partitions[partition].work.is_some() {
                    self.make_ready(Key { topic: topic as u32, partition: partition as u32 });
                }
            }
        }
    }

    /// Other settings of the cluster. Memory that was given is not taken back: it may be in use.
    pub fn change_cluster(&mut self, buffer_bytes: usize, topics_max: usize, request_timeout: Duration) {
        self.settings.buffer_bytes = buffer_bytes;
        self.settings.topics_max = topics_max;
        self.settings.request_timeout = request_timeout;
        self.settings_changed();
    }

    /// Whether results say where in Kafka a row is, from the next one on.
    pub fn give_receipts(&mut self, wanted: bool) {
        self.settings.receipts = wanted;
    }

    /// Encoders and ceilings for the sinks as they are now.
    fn settings_changed(&mut self) {
        self.pool.refund(self.codecs.memory());
        self.codecs = self.settings.codecs();
        self.ceilings = Ceilings::of(&self.settings, &self.codecs, self.ceilings.limit);
        self.pool.raise_limit(self.ceilings.limit);
        self.pool.charge(self.codecs.memory());
        self.logging.on |= self.settings.sinks.iter().any(|sink| sink.keep != Keep::Memory);
        for (sink, wanted) in self.sinks.iter_mut().zip(&self.settings.sinks) {
            sink.settings = self.ceilings.of_sink(wanted);
        }
    }
}

/// The settings of a known sink, as far as they can change.
fn changed(known: &SinkSettings, settings: SinkSettings) -> SinkSettings {
    SinkSettings {
        keep: known.keep,
        answered_on: known.answered_on,
        acks: known.acks,
        partitioner: known.partitioner,
        keep_rejected: known.keep_rejected,
        reserved: known.reserved,
        // With another topic there are two for a while.
        fixed_topic: known.fixed_topic && settings.fixed_topic,
        ..settings
    }
}
