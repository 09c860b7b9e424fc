//! Random faults of all kinds: whatever fails, each partition's records arrive once and in order.

use super::world::{assignment, batch_of, world_of};
use crate::consumer::{Settings, State};
use crate::fetch::FetchFailure;
use forebay_record::compression::Codec;
use std::time::Duration;

#[test]
fn each_record_comes_once_and_in_order() {
    for seed in 0..60 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut world = world_of(Settings { fetch_memory: 4 << 20, ..Settings::default() });
        world.has_sessions = rng.u8(..4) > 0;
        let places = [("a", 0), ("a", 1), ("a", 2), ("b", 0)];
        for (id, (topic, partition)) in places.iter().enumerate() {
            world.consumer.assign(id as u32, assignment(topic, *partition));
        }
        let (mut written, mut taken, mut epoch) = ([0i64; 4], [0i64; 4], 0);
        for step in 0..400 {
            let which = rng.usize(..4);
            let (topic, partition) = places[which];
            match rng.u8(..14) {
                0..=3 if step < 350 => {
                    let count = rng.usize(1..40);
                    let value = vec![b'v'; rng.usize(..2000)];
                    let codec = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][rng.usize(..5)];
                    world.log(topic, partition).append(batch_of(&vec![value.as_slice(); count], codec), epoch);
                    written[which] += count as i64;
                }
                4 => world.log(topic, partition).errors.push_back([3, 5, 6, 74, 75, 78, -1, 56][rng.usize(..8)]),
                5 => world.failures.push_back(if rng.bool() { FetchFailure::Lost } else { FetchFailure::Malformed }),
                6 => world.errors.push_back([70, 71, -1][rng.usize(..3)]),
                7 => world.consumer.pause(which as u32),
                8 | 9 => world.consumer.resume(which as u32),
                10 => {
                    epoch += 1;
                    let nodes: Vec<(i32, i32)> = (0..3).map(|_| (rng.i32(1..3), epoch)).collect();
                    world.topic("a", 7, &nodes);
                    world.metadata();
                }
                11 => {
                    // A batch is sometimes cut short.
                    let log = world.log(topic, partition);
                    log.cut = if log.cut.is_some() { None } else { Some(rng.usize(200..5000)) };
                }
                _ => {}
            }
            if step >= 350 {
                (0..4).for_each(|id| world.consumer.resume(id));
                (world.failures, world.errors) = Default::default();
                world.logs.values_mut().for_each(|log| (log.cut, log.errors) = (None, Default::default()));
            }
            world.settle();
            for _ in 0..rng.usize(..200) {
                let Some(record) = world.consumer.peek() else { break };
                let id = record.id as usize;
                assert_eq!(record.offset, taken[id], "seed {seed}, partition {id}");
                taken[id] += 1;
                world.consumer.advance();
            }
            world.now = world.now.after(Duration::from_millis(rng.u64(..400)));
        }
        for id in 0..4u32 {
            // A partition that was cut short too often has stopped, and reported that.
            if matches!(world.consumer.state(id), Some(State::Stopped(_))) {
                let offset = world.consumer.position(id).expect("a position").offset;
                world.consumer.seek(id, crate::consumer::Start::Offset { offset, leader_epoch: -1 });
            }
        }
        for record in world.read().into_iter().chain(world.read()) {
            taken[usize::from(record.as_bytes()[0] - b'0')] += 1;
        }
        assert_eq!(taken, written, "seed {seed}");
        assert!(world.consumer.memory() < 1 << 20, "seed {seed}: {}", world.consumer.memory());
    }
}
