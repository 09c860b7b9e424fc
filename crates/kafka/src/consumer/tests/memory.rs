//! Memory: no Fetch that could exceed it, answers larger than requested, paused partitions that make room.

use super::world::{World, assignment, batch_of, world_of};
use crate::consumer::{News, Settings, Slice, WhyStopped};
use crate::fetch::FetchAsk;
use forebay_record::compression::Codec;

const MIB: usize = 1 << 20;

fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..len).map(|_| rng.alphanumeric() as u8).collect()
}

fn small() -> World {
    world_of(Settings { fetch_memory: 4 * MIB, ..Settings::default() })
}

#[test]
fn what_is_held_and_what_may_come_stay_within_the_memory() {
    let mut world = small();
    for partition in 0..3 {
        for n in 0..20 {
            world.log("a", partition).append(batch_of(&[&noise(500_000, n)], Codec::None), 0);
        }
        world.consumer.assign(partition as u32, assignment("a", partition));
    }
    let (mut held, mut taken): (Vec<Slice>, usize) = (Vec::new(), 0);
    for _ in 0..2000 {
        world.holds = true;
        world.settle();
        let reserved = |call: &crate::fetch::FetchCall| match &call.ask {
            FetchAsk::Fetch(fetch) => fetch.answer_bytes_max,
            _ => 0,
        };
        let may_come: usize = world.calls.iter().map(reserved).sum();
        assert!(world.consumer.memory() + may_come <= 4 * MIB, "{} + {may_come}", world.consumer.memory());
        for call in std::mem::take(&mut world.calls) {
            world.answer(call);
        }
        while let Some(record) = world.consumer.peek() {
            held.extend(record.hold(record.value.expect("a value")));
            world.consumer.advance();
            taken += 1;
        }
        if fastrand::bool() {
            held.clear();
        }
        world.now = world.now.after(std::time::Duration::from_millis(10));
    }
    assert_eq!(taken, 60);
    assert!(world.consumer.stats().memory_waits > 0, "it was scarce");
}

#[test]
fn every_broker_has_its_turn_where_memory_is_scarce() {
    let mut world = small();
    let leaders: Vec<(i32, i32)> = (1..=8).map(|node| (node, 0)).collect();
    world.topic("many", 9, &leaders);
    let batch = batch_of(&[&noise(100_000, 1)], Codec::None);
    for partition in 0..8 {
        (0..60).for_each(|_| world.log("many", partition).append(batch.clone(), 0));
        world.consumer.assign(partition as u32, assignment("many", partition));
    }
    let mut taken = [0; 8];
    for _ in 0..10 {
        world.holds = true;
        world.settle();
        for call in std::mem::take(&mut world.calls) {
            world.answer(call);
        }
        while let Some(record) = world.consumer.peek() {
            taken[record.id as usize] += 1;
            world.consumer.advance();
        }
        world.now = world.now.after(std::time::Duration::from_millis(20));
    }
    let (least, most) = (taken.iter().min().expect("eight"), taken.iter().max().expect("eight"));
    assert!(world.consumer.stats().memory_waits > 0 && *least > 0 && most - least <= 20, "{taken:?}");
}

#[test]
fn paused_partitions_give_way_and_lose_nothing() {
    let mut world = small();
    for partition in 0..3 {
        for n in 0..10 {
            world.log("a", partition).append(batch_of(&[&noise(900_000, n)], Codec::None), 0);
        }
        world.consumer.assign(partition as u32, assignment("a", partition));
    }
    world.settle();
    world.consumer.pause(0);
    world.consumer.pause(1);
    let got: Vec<i64> = world
        .read()
        .iter()
        .map(|record| record[2..].split('=').next().expect("an offset").parse().expect("one"))
        .collect();
    assert_eq!(got, (0..10).collect::<Vec<_>>(), "the other one is read on");
    world.consumer.resume(0);
    world.consumer.resume(1);
    assert_eq!(world.read().len(), 20);
}

#[test]
fn a_batch_larger_than_was_asked_for_comes_with_a_larger_answer() {
    let mut world = small();
    world.log("a", 0).append(batch_of(&[&noise(3 * MIB, 1)], Codec::None), 0);
    world.log("a", 0).append(batch_of(&[b"next"], Codec::None), 0);
    world.consumer.assign(1, assignment("a", 0));
    let got = world.read();
    assert_eq!((got.len(), got[1].as_str()), (2, "1@1=next"));
}

#[test]
fn a_batch_larger_than_the_memory_stops_its_partition_alone() {
    let mut world = small();
    world.log("a", 0).append(batch_of(&[&noise(5 * MIB, 1)], Codec::None), 0);
    world.log("a", 2).append(batch_of(&[b"other"], Codec::None), 0);
    world.consumer.assign(1, assignment("a", 0));
    world.consumer.assign(2, assignment("a", 2));
    assert_eq!(world.read(), ["2@0=other"]);
    let stopped = |news: &News| matches!(news, News::Stopped { id: 1, why: WhyStopped::TooLarge { offset: 0, bytes } } if *bytes > 5 * MIB);
    assert!(world.news().iter().any(stopped));
    world.log("a", 2).append(batch_of(&[b"more"], Codec::None), 0);
    assert_eq!(world.read(), ["2@1=more"]);
}

#[test]
fn a_compressed_batch_takes_a_piece_at_a_time() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = small();
        let value = vec![b'x'; 1000];
        let values: Vec<&[u8]> = (0..30_000).map(|_| value.as_slice()).collect();
        let bytes = batch_of(&values, codec);
        let packed = bytes.len();
        world.log("a", 0).append(bytes, 0);
        world.consumer.assign(1, assignment("a", 0));
        world.settle();
        let (mut count, mut most) = (0, 0);
        while world.consumer.peek().is_some() {
            world.consumer.advance();
            (count, most) = (count + 1, most.max(world.consumer.memory()));
        }
        assert_eq!(count, 30_000, "{codec:?}");
        assert!(most < packed + 3 * MIB, "{codec:?}: {most} for 30 MB plain");
    }
}
