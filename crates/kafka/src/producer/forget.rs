//! Forgetting topics: when `topics_max` is near, those without rows for `topic_idle` make room for others;
//! when it is reached, the least recently used ones without rows do.

use super::partition::Partition;
use super::topic::Topic;
use super::window::Identity;
use super::{Producer, Want};
use forebay_base::limits::FORGOTTEN_MAX;
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Forgets idle topics if room is short; looks no more often than is useful.
    pub(super) fn make_room_for_topics(&mut self, now: Monotonic) {
        let (max, long) = (self.settings.topics_max, self.settings.topic_idle);
        let full = self.topics.known() >= max;
        let (pause, unused) = if full { (long / 64, long / 16) } else { (long / 16, long) };
        if self.topics.known() < max - max / 8 || now < self.topics.looked_for_idle.after(pause) {
            return;
        }
        self.topics.looked_for_idle = now;
        let idle = |topic: &Topic| {
            topic.memory == 0
                && topic.unplaced.backlogs.is_empty()
                && !topic.unplaced.lane.dirty
                && !topic.unplaced.placing
                && !topic.vacant
                && topic.view.refused.is_none()
                && topic.used_at.after(unused) <= now
                && topic.partitions.iter().all(Partition::is_idle)
        };
        let idle = (0u32..).zip(self.topics.iter()).filter(|(_, topic)| idle(topic));
        let mut idle: Vec<(Monotonic, u32)> = idle.map(|(index, topic)| (topic.used_at, index)).collect();
        idle.sort_unstable();
        let most = if full { FORGOTTEN_MAX.min(max / 8 + 1) } else { FORGOTTEN_MAX };
        idle.into_iter().take(most).for_each(|(_, index)| self.forget(index, now));
    }

    /// Forgets a topic. A timer or a linger that still refers to its place finds no work there.
    fn forget(&mut self, index: u32, now: Monotonic) {
        let topic = &mut self.topics[index];
        let sink_index = topic.sink;
        let name = std::mem::replace(&mut topic.name, "".into());
        topic.vacant = true;
        topic.view.count = 0;
        topic.view.growth = None;
        let sink = &mut self.sinks[sink_index];
        let mut spent = false;
        for partition in &mut topic.partitions {
            let Partition { window, patience, .. } = std::mem::take(partition);
            self.dispatcher.slow_partitions -= u64::from(patience > 0);
            // Kafka still knows the producer there, by this epoch's sequences: if the topic comes back, it begins with a higher epoch.
            if let (Some(Identity { id, epoch }), Some(next)) = (window.identity(), sink.identity.as_mut())
                && id == next.id
            {
                match epoch.checked_add(1) {
                    Some(above) => next.epoch = next.epoch.max(above),
                    None => spent = true,
                }
            }
        }
        if spent {
            sink.identity = None;
            self.ask_producer_id(sink_index, now);
        }
        self.sinks[sink_index].topics.remove(&name);
        for sink in self.sinks.iter_unlisted() {
            // The next topic at this place may be another sink's.
            sink.last = if sink.last == index { u32::MAX } else { sink.last };
        }
        self.topics.vacant.push(index);
        if !self.sinks.iter().any(|sink| sink.topics.contains_key(&name)) {
            self.outbox.wants.push(Want::Forget(name));
        }
    }
}
