//! Kafka answers nothing, and sinks have a log with room: rows are taken however long that lasts, since rows that cannot leave memory
//! leave room for the largest record.

use std::time::Duration;

use crate::producer::testing::hand::{Hand, settings, topic};
use crate::producer::{AnsweredOn, Keep, Row, Settings, SinkSettings, Target, Terms, row_bytes_max};
use crate::types::{ProduceRequest, SinkId, Ticket};
use forebay_record::murmur2::murmur2;

/// The settings of a producer and of the rows published to it.
#[derive(Clone, Debug)]
struct Case {
    sinks: u16,
    /// Number of additional sinks that keep their rows in memory, with a topic that does not exist.
    in_memory: u16,
    partitions: usize,
    nodes: usize,
    keep: Keep,
    buffer_bytes: usize,
    spill_after: usize,
    linger_ms: u64,
    /// Bytes of a value.
    value: usize,
}

const BATCH: usize = 64 * 1024;
const RECORD: usize = 256 * 1024;

impl Case {
    fn settings(&self) -> Settings {
        let sink = SinkSettings {
            linger: Duration::from_millis(self.linger_ms),
            batch_bytes: BATCH,
            record_bytes_max: RECORD,
            keep: self.keep,
            answered_on: if self.keep == Keep::Disk { AnsweredOn::Stored } else { AnsweredOn::Append },
            spill_after: self.spill_after,
            ..settings().sinks[0].clone()
        };
        let memory = SinkSettings { keep: Keep::Memory, answered_on: AnsweredOn::Replicated, ..sink.clone() };
        let sinks = (0..self.sinks).map(|_| sink.clone()).chain((0..self.in_memory).map(|_| memory.clone()));
        Settings { buffer_bytes: self.buffer_bytes, sinks: sinks.collect(), ..Settings::default() }
    }

    /// Publishes a message to these sinks if it has room in all of them. Returns whether it had.
    fn publish(&self, hand: &mut Hand, sinks: impl Iterator<Item = u16> + Clone, key: u32) -> bool {
        let (key, value) = (key.to_string(), vec![7; self.value]);
        let hash = Some(murmur2(key.as_bytes()).cast_unsigned());
        let bytes = row_bytes_max(key.len(), value.len(), 0, 0);
        for sink in sinks.clone() {
            let (sink, name) = (SinkId(sink), format!("t{sink}"));
            let known = hand.producer.check(sink, &name, bytes).expect("it may go there");
            let share = hand.producer.share(sink, known, bytes);
            if share.and_then(|()| hand.producer.share_of_partition(known, hash, bytes)).is_err() {
                return false;
            }
        }
        let Some(mut promise) = hand.producer.promise(sinks.clone().count() * bytes) else { return false };
        for sink in sinks {
            let name = format!("t{sink}");
            let row = Row {
                key: Some(key.as_bytes()),
                value: Some(&value),
                headers: std::iter::empty(),
                timestamp: hand.wall(),
            };
            let target = Target { sink: SinkId(sink), topic: &name, known: None, hash };
            let ticket = Ticket { session: 1, number: hand.number };
            hand.producer.take(&target, row, Some(ticket), Terms::default(), (&mut promise, hand.now));
            hand.number += 1;
        }
        true
    }

    fn hand(&self) -> Hand {
        let mut hand = Hand::new(self.settings());
        for sink in 0..self.sinks {
            let leaders: Vec<i32> = (0..self.partitions).map(|partition| (partition % self.nodes) as i32).collect();
            assert!(self.publish(&mut hand, sink..=sink, 0));
            hand.poll();
            hand.producer.on_metadata(&[topic(&format!("t{sink}"), &leaders)], hand.now);
        }
        (0..self.sinks + self.in_memory).for_each(|sink| hand.producer.on_producer_id(u64::from(sink), 7, 0));
        answer_all(&mut hand, Vec::new());
        hand
    }

    /// Publishes to all sinks while Kafka answers nothing: requests fail one after the other, and are sent again.
    fn run(&self) {
        let mut hand = self.hand();
        // The sinks in memory fill first.
        for sink in self.sinks..self.sinks + self.in_memory {
            (0..).take_while(|key| self.publish(&mut hand, sink..=sink, *key)).for_each(drop);
        }
        let mut under_way = Vec::new();
        // Twice the memory, whatever its size.
        let rows = (2 * hand.producer.buffer_bytes_max() / self.value) as u32;
        let a_time = (BATCH / self.value).max(1) as u32;
        for number in 1..rows {
            let mut tries = 0;
            // Sinks one by one: there is room for one record of the largest.
            for sink in 0..self.sinks {
                while !self.publish(&mut hand, sink..=sink, number) {
                    under_way.append(&mut hand.poll_synced());
                    hand.wait_ms(1);
                    tries += 1;
                    let (used, append) = (hand.producer.buffered_bytes(), hand.producer.memory.ceilings.append);
                    assert!(
                        tries < 20,
                        "row {number} of {rows} finds no room: {used} of {append} are in use, {self:?}"
                    );
                }
            }
            if number % a_time == 0 {
                under_way.append(&mut hand.poll_synced());
                hand.wait_ms(1);
            }
            if number % (64 * a_time) == 0 {
                // The connection was silent for too long.
                under_way
                    .drain(..)
                    .for_each(|request: ProduceRequest| hand.producer.on_failed(request.id, true, hand.now));
            }
        }
        // Kafka is back, and gets all rows.
        answer_all(&mut hand, under_way);
        for sink in 0..self.sinks {
            let stats = hand.producer.stats(SinkId(sink));
            assert_eq!((stats.buffered_rows, stats.delivered), (0, u64::from(rows)), "{self:?}");
        }
    }
}

fn answer_all(hand: &mut Hand, mut requests: Vec<ProduceRequest>) {
    let mut idle = 0;
    while idle < 100 {
        requests.append(&mut hand.poll_synced());
        idle = if requests.is_empty() { idle + 1 } else { 0 };
        requests.drain(..).for_each(|request| hand.answer_and_drop(request, 0));
        for question in hand.take_questions() {
            hand.producer.on_asked(question.token, crate::types::LogSays::Next { known: true }, hand.now);
        }
        hand.wait_ms(10);
    }
}

const LEAST: Case = Case {
    sinks: 1,
    in_memory: 0,
    partitions: 1,
    nodes: 1,
    keep: Keep::Disk,
    buffer_bytes: 0,
    spill_after: usize::MAX,
    linger_ms: 0,
    value: 8_000,
};

/// One partition, the minimum memory, and records of an eighth of a batch: the batches in flight used all of it.
#[test]
fn batches_under_way_leave_room_for_rows() {
    LEAST.run();
}

#[test]
fn records_of_any_size_are_taken_while_kafka_answers_nothing() {
    for value in [500, 32_000, 60_000, 70_000, 130_000, RECORD - 200] {
        for linger_ms in [0, 5] {
            Case { value, linger_ms, ..LEAST }.run();
        }
    }
}

#[test]
fn rows_of_many_partitions_are_taken_with_any_buffer() {
    for (partitions, nodes) in [(8, 1), (60, 3)] {
        for buffer_bytes in [0, 2 << 20, 6 << 20] {
            for spill_after in [BATCH, usize::MAX] {
                for value in [4_000, 30_000] {
                    Case { partitions, nodes, buffer_bytes, spill_after, value, ..LEAST }.run();
                }
            }
        }
    }
}

#[test]
fn sinks_that_share_the_memory_all_take_rows() {
    for (sinks, in_memory) in [(2, 0), (5, 0), (1, 1), (2, 2)] {
        for keep in [Keep::Disk, Keep::Hybrid] {
            for buffer_bytes in [0, 6 << 20] {
                for (partitions, value) in [(1, 8_000), (12, 30_000)] {
                    Case { sinks, in_memory, keep, buffer_bytes, partitions, nodes: 3, value, ..LEAST }.run();
                }
            }
        }
    }
}

#[test]
fn the_largest_record_finds_room_in_each_of_several_sinks() {
    for sinks in [1, 2, 3] {
        Case { sinks, partitions: 4, value: RECORD - 200, ..LEAST }.run();
    }
}
