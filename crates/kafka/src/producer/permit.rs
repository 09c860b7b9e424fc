//! Rows and cuts of an earlier process that are read back beyond the memory limit: of one partition for each leader.

use super::timers::Timer;
use super::{Key, Producer};
use crate::types::NodeId;
use forebay_runtime::seam::Monotonic;

/// The permit of a partition that has read rows or loaded cuts though memory had no room for them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permit {
    leader: NodeId,
    key: Key,
    /// The last batch read under the permit; 0: none yet.
    last: u64,
    /// The partition's batches up to that one, and an earlier process's undone ones, when last counted.
    undone: usize,
    /// The time at which the permit ends, unless one of these batches is done.
    until: Monotonic,
}

impl Producer {
    /// Whether a partition that has nothing to send may read rows, or load its cuts, though memory has no room for them: the rows that
    /// fill memory may wait for just these, and cannot leave it before. One partition of a sink and leader at a time, until its batches
    /// are done, or none of them has been for as long as a request may take. A partition that has lost its leader delays no other.
    pub(super) fn may_go_beyond(&mut self, sink: usize, key: Key, now: Monotonic) -> bool {
        let Some(leader) = self.topics[key].leader else { return false };
        let patience = self.settings.request_timeout;
        let mut permits = std::mem::take(&mut self.sinks[sink].beyond);
        permits.retain_mut(|permit| {
            let partition = self.topics[permit.key.topic].partitions.get(permit.key.partition as usize);
            let Some(partition) = partition.filter(|partition| partition.leader == Some(permit.leader)) else {
                return false;
            };
            if permit.last == 0 {
                permit.last = partition.last_serial();
            }
            let undone = partition.count_of(permit.last);
            if undone < permit.undone {
                permit.until = now.after(patience);
            }
            permit.undone = undone;
            undone > 0 && now < permit.until
        });
        let free = !permits.iter().any(|permit| permit.leader == leader && permit.key != key);
        if free && !permits.iter().any(|permit| permit.key == key) {
            let until = now.after(patience);
            permits.push(Permit { leader, key, last: 0, undone: 0, until });
            // Waiting partitions look again then.
            self.agenda.timers.set(until, Timer::Partition(key));
        }
        self.sinks[sink].beyond = permits;
        free
    }
}
