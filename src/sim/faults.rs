//! The faults of a step: what each of [`Fault`] does to the world. Those of single batches and answers are in `network`.

use std::time::Duration;

use super::kafka::Log;
use super::network::way;
use super::plan::{DEAD, Fault, NODES};
use super::world::World;
use crate::kafka::model::REMEMBERED;
use crate::kafka::types::NodeId;

/// Bound on the partitions of a topic.
const PARTITIONS_MAX: usize = 5;

impl World {
    /// Draws each fault, and applies those that come.
    pub(super) fn faults(&mut self) {
        for fault in Fault::ALL {
            if fault.is_of_a_step() && self.plan.draws(fault, &mut self.rng) {
                self.note(|| format!("fault: {}", fault.name()));
                self.happens(fault);
            }
        }
    }

    fn happens(&mut self, fault: Fault) {
        let node = self.rng.usize(..NODES);
        let topic = if self.rng.u32(..8) == 0 { DEAD } else { self.rng.usize(..DEAD) };
        match fault {
            Fault::Cut => {
                let slow = self.rng.bool();
                self.cut(way(node, slow));
            }
            Fault::CleanRestart | Fault::Kill => self.restart(node, fault == Fault::CleanRestart),
            Fault::Remake => self.remake(topic, node),
            Fault::Forget => {
                let wall_ms = self.clock.wall().0;
                self.logs().for_each(|log| log.forget(wall_ms));
            }
            Fault::Hours => self.clock.pass(Duration::from_secs(self.rng.u64(600..9000))),
            Fault::Away => self.away(),
            Fault::Grow => {
                let logs = &mut self.kafka.topics[topic].logs;
                if (1..PARTITIONS_MAX).contains(&logs.len()) {
                    logs.push(Log::new(NodeId(node as i32)));
                }
            }
            Fault::ForbidWriting => {
                let topic = &mut self.kafka.topics[topic];
                topic.writing_forbidden ^= true;
                topic.was_forbidden = true;
            }
            Fault::ForbidReading => self.kafka.topics[topic].reading_forbidden ^= true,
            Fault::Shrink => {
                let topic = &mut self.kafka.topics[topic];
                topic.batch_bytes_max =
                    if topic.was_small && self.rng.bool() { usize::MAX } else { self.rng.usize(400..2000) };
                topic.was_small = true;
            }
            Fault::Move | Fault::NoLeader | Fault::Slow | Fault::Few | Fault::Retain => {
                self.of_a_partition(fault, topic, node);
            }
            Fault::Frozen => self.frozen ^= true,
            Fault::Stop => self.stop(),
            _ => self.of_the_disk(fault),
        }
    }

    fn of_a_partition(&mut self, fault: Fault, index: usize, node: usize) {
        let topic = &mut self.kafka.topics[index];
        if topic.logs.is_empty() {
            return;
        }
        let partition = self.rng.usize(..topic.logs.len());
        let log = &mut topic.logs[partition];
        match fault {
            Fault::Move | Fault::NoLeader => {
                let node = if log.leader == Some(NodeId(node as i32)) { (node + 1) % NODES } else { node };
                log.led_by.extend(log.leader);
                log.leader = (fault == Fault::Move).then_some(NodeId(node as i32));
                topic.lost.extend(log.lose_tail(&mut self.rng));
                if self.rng.u32(..4) == 0 {
                    // The new leader was restarted recently.
                    log.remember_last();
                }
            }
            Fault::Slow if log.slow => log.catch_up(),
            Fault::Slow => log.slow = true,
            Fault::Few => log.few ^= true,
            _ => log.retain(),
        }
    }

    fn restart(&mut self, node: usize, clean: bool) {
        self.cut_off(node);
        self.network.stop(node);
        let logs = self.kafka.topics.iter_mut().flat_map(|topic| &mut topic.logs);
        for log in logs.filter(|log| log.leader == Some(NodeId(node as i32))) {
            if clean {
                log.remember_last();
            } else if self.scope.lasting {
                // The last snapshot of producers has one batch of each; the broker reads the later ones in its log.
                log.remember_only(self.disk_rng.usize(1..=REMEMBERED));
            }
        }
    }

    /// Cuts both connections to a broker.
    fn cut_off(&mut self, node: usize) {
        [false, true].into_iter().for_each(|slow| self.cut(way(node, slow)));
    }

    /// Deletes a topic, or creates it again.
    fn remake(&mut self, index: usize, node: usize) {
        if self.kafka.topics[index].logs.is_empty() {
            let partitions = self.rng.usize(1..=PARTITIONS_MAX);
            let logs = (0..partitions).map(|i| Log::new(NodeId(((node + i) % NODES) as i32))).collect();
            return self.kafka.make(index, logs);
        }
        let topic = &mut self.kafka.topics[index];
        topic.made += 1;
        let entries = topic.logs.drain(..).flat_map(|log| log.entries).collect();
        topic.gone.push(entries);
    }

    fn away(&mut self) {
        (0..NODES).for_each(|node| self.cut_off(node));
        self.producer.on_reachable(false);
        self.clock.pass(Duration::from_millis(self.rng.u64(..100)));
        self.turn();
        self.producer.on_reachable(true);
    }

    /// Ends all lasting faults.
    pub(super) fn faults_end(&mut self) {
        self.frozen = false;
        self.store.iter_mut().for_each(super::store::Store::is_well);
        for index in 0..self.kafka.topics.len() {
            if self.kafka.topics[index].logs.is_empty() {
                self.remake(index, index);
            }
            let topic = &mut self.kafka.topics[index];
            (topic.writing_forbidden, topic.reading_forbidden, topic.batch_bytes_max) = (false, false, usize::MAX);
            for log in &mut topic.logs {
                log.few = false;
                log.catch_up();
                log.leader = log.leader.or(Some(NodeId(0)));
            }
        }
    }

    fn logs(&mut self) -> impl Iterator<Item = &mut Log> {
        self.kafka.topics.iter_mut().flat_map(|topic| &mut topic.logs)
    }
}
