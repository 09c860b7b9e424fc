//! Batches that cannot be read: false claims, bombs, damage. Each is fetched once more over a new connection; then the partition stops, or
//! goes on after it, and no other partition is affected.

use super::world::{World, assignment, batch, batch_of, restamp, world};
use crate::consumer::{Assignment, Bad, News, OnBadBatch, Start, State, WhyStopped};
use forebay_record::BatchError;
use forebay_record::compression::{Codec, Encoder};

/// A bad batch of three offsets between good ones, and another partition of the same broker.
fn with_bad(bad: Vec<u8>) -> World {
    let mut world = world();
    let log = world.log("a", 0);
    log.append(batch(&["before"]), 0);
    log.append(bad, 0);
    log.append(batch(&["after"]), 0);
    let end = log.batches[1].0 + 3;
    log.batches[1].1 = end - 1;
    log.batches[2].0 = end;
    log.batches[2].1 = end;
    log.batches[2].2[..8].copy_from_slice(&end.to_be_bytes());
    world.log("a", 2).append(batch(&["other"]), 0);
    world
}

fn lie(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch(&["x", "y", "z"]);
    change(&mut bytes);
    restamp(&mut bytes);
    bytes
}

fn lies() -> Vec<(&'static str, Vec<u8>, Bad)> {
    let record = Bad::Batch(BatchError::Record);
    let mut damaged = batch(&["x", "y", "z"]);
    *damaged.last_mut().expect("a byte") ^= 1;
    let mut more = batch(&["x", "y"]);
    more[23..27].copy_from_slice(&2i32.to_be_bytes());
    more[57..61].copy_from_slice(&3i32.to_be_bytes());
    restamp(&mut more);
    vec![
        ("a flipped bit", damaged, Bad::Batch(BatchError::Crc)),
        ("more records than there are", more, record),
        ("fewer records than there are", lie(|b| b[57..61].copy_from_slice(&2i32.to_be_bytes())), record),
        ("no records", lie(|b| b[57..61].copy_from_slice(&0i32.to_be_bytes())), record),
        ("a negative number of records", lie(|b| b[57..61].copy_from_slice(&(-1i32).to_be_bytes())), Bad::Offsets),
        ("more records than offsets", lie(|b| b[23..27].copy_from_slice(&1i32.to_be_bytes())), Bad::Offsets),
        ("a codec that there is not", lie(|b| b[22] |= 5), Bad::Batch(BatchError::Codec(5))),
        ("a codec that it has not", lie(|b| b[22] |= 4), Bad::Batch(BatchError::Compression)),
        ("a record longer than the batch", lie(|b| b[61] = 0x7e), record),
        ("a record of a negative length", lie(|b| b[61] = 1), record),
        ("a key longer than its record", lie(|b| b[65] = 0x7e), record),
        (
            "an offset twice",
            lie(|b| {
                let at = 61 + 1 + usize::from(b[61] >> 1);
                b[at + 3] = 0
            }),
            Bad::Offsets,
        ),
    ]
}

#[test]
fn a_batch_that_does_not_add_up_stops_its_partition_after_a_second_try() {
    for (what, bytes, why) in lies() {
        let mut world = with_bad(bytes);
        world.consumer.assign(1, assignment("a", 0));
        world.consumer.assign(2, assignment("a", 2));
        let got = world.read();
        assert!(got.contains(&"1@0=before".to_owned()) && got.contains(&"2@0=other".to_owned()), "{what}: {got:?}");
        assert!(!got.contains(&"1@4=after".to_owned()), "{what}");
        let news = world.news();
        let stopped = news.iter().find_map(|news| match news {
            News::Stopped { id: 1, why: WhyStopped::BadBatch { bad, .. } } => Some(*bad),
            _ => None,
        });
        assert_eq!(stopped, Some(why), "{what}: {news:?}");
        assert!(matches!(world.consumer.state(1), Some(State::Stopped(_))), "{what}");
        assert_eq!(world.calls.iter().filter(|call| call.is_fresh).count(), 1, "{what}: over a new connection");
        assert_eq!((world.consumer.stats().refetches, world.consumer.stats().bad_batches), (1, 1), "{what}");
        // Records that were taken never arrive again.
        assert_eq!(got.iter().filter(|record| record.starts_with("1@0")).count(), 1, "{what}");
        world.log("a", 2).append(batch(&["more"]), 0);
        assert_eq!(world.read(), ["2@1=more"], "{what}: the other one is read on");
        world.consumer.seek(1, Start::Offset { offset: 4, leader_epoch: -1 });
        assert_eq!(world.read(), ["1@4=after"], "{what}: it goes on where it is told to");
    }
}

#[test]
fn it_is_passed_over_where_that_is_wanted() {
    for (what, bytes, why) in lies() {
        let mut world = with_bad(bytes);
        world.consumer.assign(1, Assignment { on_bad_batch: OnBadBatch::Skip, ..assignment("a", 0) });
        let got = world.read();
        let news = world.news();
        let skipped = news.iter().find_map(|news| match news {
            News::Skipped { id: 1, to, bad, .. } => Some((*to, *bad)),
            _ => None,
        });
        if what == "more records than offsets" {
            // The batch states an end before its real one.
            assert_eq!(skipped.map(|(_, bad)| bad), Some(why), "{what}");
            continue;
        }
        assert_eq!(skipped, Some((4, why)), "{what}: {news:?}");
        assert_eq!(got.last().map(String::as_str), Some("1@4=after"), "{what}: {got:?}");
    }
}

#[test]
fn damage_on_the_way_is_gone_the_second_time() {
    let mut world = with_bad(batch(&["x", "y", "z"]));
    world.consumer.assign(1, assignment("a", 0));
    *world.log("a", 0).batches[1].2.last_mut().expect("a byte") ^= 1;
    world.settle();
    assert_eq!(world.consumer.peek().map(|record| record.offset), Some(0));
    world.consumer.advance();
    assert!(world.consumer.peek().is_none());
    *world.log("a", 0).batches[1].2.last_mut().expect("a byte") ^= 1;
    assert_eq!(world.read(), ["1@1=x", "1@2=y", "1@3=z", "1@4=after"]);
    assert_eq!((world.consumer.stats().refetches, world.consumer.stats().bad_batches), (1, 0));
}

#[test]
fn formats_of_before_are_named() {
    for magic in [0, 1] {
        let mut old = vec![0; 40];
        old[8..12].copy_from_slice(&28i32.to_be_bytes());
        old[16] = magic;
        let mut world = world();
        world.log("a", 0).batches.push((0, 0, old));
        world.consumer.assign(1, assignment("a", 0));
        assert!(world.read().is_empty());
        let why = WhyStopped::BadBatch { offset: 0, bad: Bad::OldFormat(magic as i8) };
        assert!(world.news().contains(&News::Stopped { id: 1, why }));
    }
}

/// A batch with one record that claims `claimed` bytes, and `claimed` zeros in its body.
fn bomb(codec: Codec, claimed: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    forebay_record::varint::put(&mut plain, claimed as i64);
    plain.resize(plain.len() + claimed, 0);
    let mut encoder = Encoder::new(codec, None, plain.len()).expect("a codec");
    let packed = encoder.compress(&plain).expect("it shrinks").to_vec();
    let mut bytes = batch_of(&[b"x"], Codec::None);
    bytes.truncate(61);
    bytes.extend_from_slice(&packed);
    bytes[22] |= codec as u8;
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    restamp(&mut bytes);
    bytes
}

#[test]
fn bombs_are_found_before_they_take_memory() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = world();
        world.log("a", 0).append(bomb(codec, 80 << 20), 0);
        world.consumer.assign(1, assignment("a", 0));
        assert!(world.read().is_empty());
        let why = WhyStopped::BadBatch { offset: 0, bad: Bad::TooLarge(64 << 20) };
        assert!(world.news().contains(&News::Stopped { id: 1, why }), "{codec:?}");
        assert_eq!(world.consumer.memory(), 0);
    }
    // Many small records: those before the bound arrive, and the memory stays small.
    let values = vec![&[0u8; 4000][..]; 20_000];
    let mut world = world();
    world.log("a", 0).append(batch_of(&values, Codec::Zstd), 0);
    world.consumer.assign(1, assignment("a", 0));
    let got = world.read();
    assert!((16_000..17_000).contains(&got.len()), "{}", got.len());
    assert!(matches!(world.consumer.state(1), Some(State::Stopped(_))));
}

#[test]
fn a_batch_that_never_comes_whole_is_bad() {
    let mut world = world();
    world.log("a", 0).append(batch(&["x"; 100]), 0);
    world.log("a", 0).cut = Some(100);
    world.log("a", 2).append(batch(&["other"]), 0);
    world.consumer.assign(1, assignment("a", 0));
    world.consumer.assign(2, assignment("a", 2));
    let mut got = world.read();
    got.extend(world.read());
    assert_eq!(got, ["2@0=other"]);
    let why = WhyStopped::BadBatch { offset: 0, bad: Bad::NeverWhole };
    assert!(world.news().contains(&News::Stopped { id: 1, why }));
    assert!(world.calls.len() < 200, "{}", world.calls.len());
}

#[test]
fn epochs_that_go_back_do_no_harm() {
    let mut world = world();
    for (epoch, value) in [(9, "a"), (3, "b"), (-5, "c"), (i32::MAX, "d"), (0, "e")] {
        world.log("a", 0).append(batch(&[value]), epoch);
    }
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read().len(), 5);
    assert_eq!(world.consumer.position(1).map(|at| (at.offset, at.leader_epoch)), Some((5, i32::MAX)));
}
