//! Seeks: reading continues at another place, at an operator's request. The shard of the membership notifies those that read the partitions. Open records
//! there are given up, and the place is committed like any other. A partition that has stopped is read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Sources;
use super::positions::OfRoute;
use super::reader::{Pause, Reader};
use super::window::Window;
use crate::Core;
use crate::mail::{Mail, Place, ToSources};
use forebay_kafka::consumer::{self, Start};
use forebay_metrics::inspect::{Seek, SeekTo};
use forebay_runtime::seam::Monotonic;

/// The place where the consumer begins.
const fn start(to: SeekTo) -> Start {
    match to {
        SeekTo::Earliest => Start::At(consumer::Place::Earliest),
        SeekTo::Latest => Start::At(consumer::Place::Latest),
        SeekTo::Time(ms) => Start::At(consumer::Place::Time(ms)),
        SeekTo::Offset(offset) => Start::Offset { offset, leader_epoch: -1 },
    }
}

impl Reader {
    /// Continues reading here, in the same log.
    pub(super) fn goes_to(&mut self, at: Place) {
        self.is_sought = true;
        self.starts_at(at);
    }

    /// Begins reading here, unless reading has begun and no other place was requested.
    pub(super) fn starts_at(&mut self, at: Place) {
        match &mut self.window {
            Some(window) if std::mem::take(&mut self.is_sought) => window.restart(at),
            Some(_) => {}
            none => {
                self.is_sought = false;
                *none = Some(Window::new(at));
            }
        }
    }
}

impl Sources {
    /// Reads partitions of an assignment, given in order, from another place.
    pub(super) fn seek(
        &mut self,
        (source, generation): (usize, u64),
        partitions: &[(Arc<str>, i32)],
        to: SeekTo,
        now: Monotonic,
    ) {
        let of_it = |reader: &Reader| {
            let name = (&*reader.topic, reader.partition);
            let is_meant = |(topic, partition): &(Arc<str>, i32)| (&**topic, *partition).cmp(&name);
            let is_of_it = reader.source == source && reader.generation == generation;
            let is_read = is_of_it && !reader.is_stopping() && reader.pause != Some(Pause::Taken);
            is_read && partitions.binary_search_by(is_meant).is_ok()
        };
        for (id, reader) in self.readers.iter_mut().filter(|(_, reader)| of_it(reader)) {
            let consumer = &mut self.consumers[reader.cluster];
            consumer.seek(*id, start(to));
            reader.resumes(consumer, *id);
            (reader.trying, reader.trouble) = (None, None);
            reader.is_sought = true;
            reader.of_route.iter_mut().for_each(OfRoute::is_wanted_anew);
            if let SeekTo::Offset(offset) = to {
                reader.starts_at(Place { offset, leader_epoch: -1 });
            }
            reader.report_at = now;
        }
        self.report_at = now;
    }
}

impl Core {
    /// Has the shards that read partitions of a source continue elsewhere. Returns the number of partitions. `None`: the source reads nothing.
    pub(crate) fn seek_source(&mut self, seek: &Seek) -> Option<usize> {
        let Seek { source, topic, partition, to } = seek;
        let membership = self.sources.memberships.get(source)?;
        let mut by_shard: BTreeMap<usize, Vec<(Arc<str>, i32)>> = BTreeMap::new();
        for (at, held) in &membership.held {
            let is_meant = topic.as_deref().is_none_or(|topic| *topic == *at.topic)
                && partition.is_none_or(|partition| partition == at.partition);
            if is_meant {
                by_shard.entry(held.shard).or_default().push((Arc::from(&*at.topic), at.partition));
            }
        }
        let (source, generation, to) = (*source, membership.generation, *to);
        let count = by_shard.values().map(Vec::len).sum();
        self.around.letters(&mut self.broker).extend(
            by_shard.into_iter().map(|(shard, partitions)| {
                (shard, Mail::Sources(ToSources::Seek { source, generation, partitions, to }))
            }),
        );
        Some(count)
    }
}
