//! Sinks that are added and changed while the producer runs. A sink keeps its number while the producer lives; an unused one
//! stays, without rows.

use std::time::Duration;

use super::settings::{Keep, SinkSettings};
use super::{Producer, Sink};
use crate::types::SinkId;

impl Producer {
    /// Changes the settings of some sinks; the next unused number is a new sink. For a known sink, `keep`, `answered_on`, `acks`,
    /// `partitioner`, `keep_rejected` and `reserved` stay unchanged: rows that it holds depend on them.
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
            self.wake(|topic| resumed.contains(&topic.sink));
        }
    }

    /// Changes the settings of the cluster. Memory that was given is not taken back: it may be in use.
    pub fn change_cluster(&mut self, buffer_bytes: usize, topics_max: usize, request_timeout: Duration) {
        self.settings.buffer_bytes = buffer_bytes;
        self.settings.topics_max = topics_max;
        self.settings.request_timeout = request_timeout;
        self.settings_changed();
    }

    /// Sets whether results have the place of rows in Kafka, from the next result on.
    pub fn give_receipts(&mut self, wanted: bool) {
        self.settings.receipts = wanted;
    }

    /// Updates encoders and ceilings to the current sinks.
    fn settings_changed(&mut self) {
        self.memory.change(&self.settings);
        self.logging.on |= self.settings.sinks.iter().any(|sink| sink.keep != Keep::Memory);
        for (sink, wanted) in self.sinks.iter_unlisted().zip(&self.settings.sinks) {
            sink.settings = self.memory.ceilings.of_sink(wanted);
            sink.settings.batch_bytes = sink.settings.batch_bytes.min(self.cluster.batch_bytes_max);
        }
    }
}

/// The settings of a known sink, with the changes that are possible.
fn changed(known: &SinkSettings, settings: SinkSettings) -> SinkSettings {
    SinkSettings {
        keep: known.keep,
        answered_on: known.answered_on,
        acks: known.acks,
        partitioner: known.partitioner,
        keep_rejected: known.keep_rejected,
        reserved: known.reserved,
        // After a change of the topic there are two for a while.
        fixed_topic: known.fixed_topic && settings.fixed_topic,
        ..settings
    }
}
