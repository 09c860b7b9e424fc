//! Progress while faults last: healthy parts must not wait for unhealthy ones.

use forebay::record::murmur2;

use crate::plan::{Level, SinkPlan};
use crate::time::S;
use crate::world::World;

/// Bound on the time in which a healthy partition delivers its front row, and a healthy device is answered.
const PATIENCE: u64 = 10 * S;

impl World {
    /// Notes which parts are healthy, and since when; then checks that nothing waits that should not.
    pub(crate) fn look(&mut self) {
        let time = self.time;
        self.clusters.iter_mut().for_each(|cluster| cluster.note_health(time));
        self.look_at_instances();
        if !self.judge.live || self.storm_over || self.settings.broker.is_some() {
            return;
        }
        let Some(process) = self.process.as_ref().filter(|process| !process.stopping) else { return };
        let since = process.started_at.max(self.disks_sick_until);
        if since > time || time - since < PATIENCE {
            return;
        }
        self.rows_move(since);
        self.devices_are_answered(since);
    }

    /// Time since which the partition of a device's message has been healthy.
    fn healthy_since(&self, plan: &SinkPlan, device: usize, mqtt: &str) -> Option<u64> {
        if self.away[plan.cluster] {
            return None;
        }
        let topic = self.clusters[plan.cluster].topics.get(&plan.kafka_topic(mqtt))?;
        if topic.changed_at > 0 || !plan.is_ordered() {
            // An older incarnation may have to drain first, or the row may be in any partition.
            let all = topic.partitions.iter().map(|partition| partition.healthy_since);
            return all.collect::<Option<Vec<u64>>>()?.into_iter().max().map(|since| since.max(topic.changed_at));
        }
        // The key is the MQTT topic, unless the client selects the partition.
        let key = if plan.partitioner == "client" { &self.devices[device].name } else { mqtt };
        let index = murmur2::partition(key.as_bytes(), topic.partitions.len());
        topic.partitions[index].healthy_since
    }

    /// Checks that the oldest answered row of each healthy partition moves.
    fn rows_move(&mut self, since: u64) {
        let mut waiting = std::mem::take(&mut self.judge.waiting);
        let mut wrong = None;
        let mut fronts: Vec<(u8, String, usize)> = Vec::new();
        waiting.retain(|(number, sink)| {
            let message = &self.messages[*number as usize];
            let plan = &self.settings.sinks[usize::from(*sink)];
            let topic = plan.kafka_topic(&message.topic);
            let key = (*sink, format!("{topic} {}", message.topic), message.device);
            let there = self.clusters[plan.cluster].copies(*number, *sink).next().is_some();
            if there || self.judge.excused.contains(number) || self.is_dead_lettered(*number, *sink) {
                let progress = self.judge.progress.entry(key).or_default();
                *progress = self.time;
                return false;
            }
            if fronts.contains(&key) {
                return true;
            }
            let moved = self.judge.progress.get(&key).copied().unwrap_or(0);
            fronts.push(key);
            let Some(healthy) = self.healthy_since(plan, message.device, &message.topic) else { return true };
            let answered = message.answered.map_or(self.time, |(at, _)| at);
            let from = [healthy, answered, since, moved].into_iter().max().unwrap_or(0);
            if self.time > from + PATIENCE && plan.expire_ms.is_none() && !message.is_poison() {
                wrong.get_or_insert((*number, *sink, from));
            }
            true
        });
        self.judge.waiting = waiting;
        if let Some((number, sink, from)) = wrong {
            let counted = self.counted(usize::from(sink));
            // The row may have been dropped, which the sink has counted.
            if counted.dropped + counted.rotten + counted.refused == 0 {
                let topic = &self.messages[number as usize].topic;
                let text = format!(
                    "message {number} ({topic}) of sink {sink} has not moved since {} s though its partition is healthy\n{}",
                    from as f64 / S as f64,
                    self.state()
                );
                self.judge.fails("liveness", text);
            }
        }
    }

    /// Checks that a device is answered if all of its open messages go to healthy partitions.
    fn devices_are_answered(&mut self, since: u64) {
        let mut wrong = None;
        for (index, device) in self.devices.iter().enumerate() {
            if !device.is_greeted() || device.greeted_at + PATIENCE > self.time {
                continue;
            }
            let open: Vec<u32> = device.open(&self.messages).collect();
            let Some(first) = open.first().copied() else { continue };
            let mut from = since.max(device.greeted_at).max(self.messages[first as usize].sent_at);
            let healthy = open.iter().all(|number| {
                let message = &self.messages[*number as usize];
                let takers = self.settings.sinks.iter().enumerate();
                takers.filter(|(sink, _)| self.settings.takes(*sink, &message.topic)).all(|(_, plan)| {
                    let healthy = self.healthy_since(plan, index, &message.topic);
                    from = from.max(healthy.unwrap_or(u64::MAX));
                    // The disk gives the answer for rows that wait there, as long as it has room.
                    healthy.is_some() && !message.is_poison() && (plan.level != Level::Stored || self.has_room())
                })
            });
            if healthy && from < self.time && self.time - from > 2 * PATIENCE {
                wrong.get_or_insert((index, first, from));
            }
        }
        if let Some((index, first, from)) = wrong {
            let text = format!(
                "device {index} has waited for the answer to message {first} since {} s though all that it publishes to is healthy\n{}",
                from as f64 / S as f64,
                self.state()
            );
            self.judge.fails("liveness", text);
        }
    }

    /// Whether no shard has reported a full spool.
    fn has_room(&self) -> bool {
        let full = forebay::metrics::spec::ShardMetric::SpoolFull as usize;
        self.process.as_ref().is_some_and(|process| process.hosts.iter().all(|host| host.board.read()[full] == 0))
    }
}
