//! The cluster that records go to, and its replacement by another: rebuilt under the same address, or another one than that of
//! restored rows. Batches sent to the old one are void, since their outcome will not be known: their rows are cut again under
//! producer IDs of the new cluster, and counted as possibly there twice. There, the old cluster's producer IDs mean another
//! producer.

use std::rc::Rc;

use super::news::News;
use super::partition::Partition;
use super::{Key, Producer};
use forebay_runtime::seam::Monotonic;

impl Producer {
    /// Takes the id of the cluster, before the first metadata of its topics, or a changed id:
    /// then no request is unanswered. Partition counts that an earlier process knew of another cluster do not
    /// apply here.
    pub fn on_cluster(&mut self, id: &str, now: Monotonic) {
        let before = Rc::clone(&self.cluster.id);
        for (index, cluster) in self.cluster.set_id(id) {
            let topic = &mut self.topics[index];
            topic.view.begin_other_cluster();
            topic.turns.begin(self.settings.rules);
            topic.partitions.iter_mut().for_each(Partition::begin_other_log);
            self.topics.keys(index).for_each(|key| self.void_all_restored(key, true));
            self.tell_cluster(index, cluster);
        }
        if !before.is_empty() && *before != *id {
            self.leave_cluster(&before, now);
        }
    }

    fn leave_cluster(&mut self, before: &Rc<str>, now: Monotonic) {
        for sink in self.sinks.iter_unlisted() {
            (sink.identity, sink.asked_until) = (None, None);
        }
        for index in self.topics.places() {
            // Leaders are node ids of the old cluster.
            self.leaders(index, &[], &[], now);
            self.topics[index].view.leave_cluster();
            self.topics.keys(index).for_each(|key| self.leave_log(key));
            if !self.topics[index].vacant {
                self.tell_cluster(index, Rc::clone(before));
            }
        }
        for sink in 0..self.sinks.len() {
            if self.sinks[sink].stats.buffered_rows > 0 {
                self.ask_producer_id(sink, now);
            }
        }
        self.outbox.refresh = true;
    }

    /// Prepares a partition, with its rows, for another cluster's log.
    fn leave_log(&mut self, key: Key) {
        let unknown = self.topics[key].window.count_unknown();
        self.unknown(key, unknown);
        self.void_all_restored(key, true);
        let partition = &mut self.topics[key];
        self.logging.ends.void_from(partition, 0);
        partition.window.begin_again();
        partition.begin_other_log();
        self.make_ready(key);
    }

    fn tell_cluster(&mut self, index: u32, from: Rc<str>) {
        let to = Rc::clone(&self.cluster.id);
        self.tell(index, |sink, topic| News::OtherCluster { sink, topic, from, to });
    }
}
