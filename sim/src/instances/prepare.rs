//! Requests of an instance to Kafka before it accepts clients: retained messages, and where its group begins.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use forebay::session::PartitionKey;
use forebay::shard::mail::{Mail, ToShard, ToSlots};
use forebay::shard::sources::{FirstRead, first_read, partition_key};

use super::Happening;
use crate::plan::broker::{MESSAGES, ODD};
use crate::process::In;
use crate::time::S;
use crate::world::{Event, World};

impl World {
    /// Begins the requests to Kafka, which the shards of a process wait for.
    pub(crate) fn prepare_instance(&mut self) {
        let at = self.time + 1 + self.instances.rng.u64(..=8 * self.plan.latency);
        self.schedule(at, Event::Instance(Happening::Prepare(self.life)));
    }

    pub(super) fn prepares_instance(&mut self) {
        let life = self.life;
        let index = self.instances.parts.get(&life).map(|part| part.index);
        let Some((index, plan)) = index.zip(self.instances.plan) else { return };
        self.configure_as(index, plan);
        let prepared = if self.away[0] { Err(-1) } else { self.read_retained() };
        match prepared {
            Ok(retained) => {
                let first = self.begin_group(index, &retained.copied_to());
                let begins = self.routes_begin(&first);
                if let Some(part) = self.instances.parts.get_mut(&life) {
                    part.retained = retained.of_shards(&first);
                }
                for shard in 0..self.shards() {
                    self.put(shard, In::Mail(Mail::Slots(ToSlots::RoutesBegin(Arc::clone(&begins)))));
                    self.put(shard, In::Mail(Mail::Slots(ToSlots::TakeOver(Vec::new()))));
                }
            }
            Err(code) => {
                self.note(|| format!("process {life} cannot prepare: error {code}"));
                self.schedule(self.time + S, Event::Instance(Happening::Prepare(life)));
            }
        }
    }

    /// Commits where each partition begins for an instance without a place, as the program does before clients are accepted.
    fn begin_group(&mut self, index: usize, copied_to: &BTreeMap<PartitionKey, i64>) -> FirstRead {
        let mut first = FirstRead::new();
        let Some(broker) = self.settings.config().broker else { return first };
        let group = broker.group();
        let kafka = &mut self.clusters[0];
        let ends: Vec<(&str, u128, Vec<Range<i64>>)> = [MESSAGES, ODD]
            .into_iter()
            .filter_map(|name| {
                let topic = kafka.topics.get(name)?;
                let all =
                    topic.partitions.iter().map(|partition| partition.start_offset(&kafka.entries)..partition.high);
                Some((name, topic.id, all.collect()))
            })
            .collect();
        let Some(group) = kafka.group_mut(&group, &[]) else { return first };
        for (topic, id, ends) in ends {
            if group.offsets.keys().any(|(of, _)| *of == topic) {
                continue;
            }
            for (partition, all) in (0..).zip(ends) {
                let key = partition_key(topic, id, partition);
                let read = first_read(all, copied_to.get(&key));
                group.offsets.insert((topic.to_owned(), partition), (read.start, -1));
                self.instances.began.insert((index, topic.to_owned(), partition), read.start);
                first.insert(key, read);
            }
        }
        first
    }

    /// Notes that all shards of a process have started.
    pub(crate) fn instance_started(&mut self) {
        let Some(part) = self.instances.parts.get_mut(&self.life) else { return };
        part.has_started = true;
        for (shard, of_shard) in std::mem::take(&mut part.retained).into_iter().enumerate() {
            self.put(shard, In::Mail(Mail::Shard(ToShard::TakeRetained(of_shard))));
        }
        self.look_at_part();
    }
}
