//! The cluster that records go to, and another one in its place: rebuilt under the same address, or a start that finds rows
//! for another one. What was sent there is void, as nobody will say what became of it: its rows are cut again under producer
//! IDs of the new cluster, and counted as possibly there twice. The old cluster's producer IDs mean another producer there.

use std::rc::Rc;

use super::news::News;
use super::partition::Partition;
use super::{Key, Producer};
use crate::runtime::seam::Monotonic;

impl Producer {
    /// Learns the id of the cluster, before the first metadata of its topics, or that it is another one than before:
    /// then no request is unanswered. The partition counts that an earlier process knew of another cluster do not
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
            // Leaders are numbers of the old cluster's brokers.
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

    /// A partition begins in another cluster with what it has.
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
