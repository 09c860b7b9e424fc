//! Records in order, of all codecs; transactions; several partitions.

use std::time::Duration;

use super::world::{assignment, batch, batch_of, transactional, world};
use crate::consumer::{Assignment, TimestampType};
use forebay_record::compression::Codec;

#[test]
fn records_come_one_by_one_with_all_their_parts() {
    let mut world = world();
    world.log("a", 0).append(batch(&["one", "two"]), 3);
    assert!(world.consumer.assign(9, assignment("a", 0)));
    world.settle();
    let record = world.consumer.peek().expect("a record");
    assert_eq!((record.id, record.offset, record.timestamp, record.leader_epoch), (9, 0, 1000, 3));
    assert_eq!((record.key, record.value), (Some(&b"0"[..]), Some(&b"one"[..])));
    assert_eq!(record.timestamp_type, TimestampType::Create);
    assert_eq!(record.headers.clone().collect::<Vec<_>>(), [(&b"h"[..], Some(&b"v"[..]))]);
    let held = record.hold(record.value.expect("a value")).expect("a part of it");
    let header = record.headers.clone().next().and_then(|(_, value)| record.hold(value?)).expect("a part of it");
    assert!(record.hold(b"other").is_none());
    assert_eq!(world.consumer.peek().expect("the same, until it is taken").offset, 0);
    world.consumer.advance();
    assert_eq!(world.consumer.position(9).map(|at| (at.offset, at.leader_epoch)), Some((1, 3)));
    assert_eq!((world.consumer.lag(9), world.consumer.stats().lag), (Some(1), 1));
    assert_eq!(world.read(), ["9@1=two"]);
    world.consumer.unassign(9);
    assert_eq!((&*held, &*header), (&b"one"[..], &b"v"[..]), "it outlives its partition");
    assert!(world.consumer.memory() > 0);
    drop((held, header));
    assert_eq!(world.consumer.memory(), 0);
}

#[test]
fn every_codec_is_read() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut world = world();
        // Several pieces, including a record larger than a piece.
        let values: Vec<Vec<u8>> =
            (0..3000).map(|n| format!("{n} {}", "and so on ".repeat(n % 20)).into_bytes()).collect();
        let large = vec![b'x'; 300_000];
        let mut all: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        all.insert(1500, &large);
        let bytes = batch_of(&all, codec);
        assert_eq!(i16::from(bytes[22] & 7), codec as i16, "it is compressed");
        world.log("a", 0).append(bytes, 0);
        world.log("a", 0).append(batch(&["last"]), 0);
        world.consumer.assign(1, assignment("a", 0));
        let got = world.read();
        assert_eq!(got.len(), 3002, "{codec:?}");
        for (offset, value) in all.iter().enumerate() {
            assert_eq!(got[offset], format!("1@{offset}={}", String::from_utf8_lossy(value)), "{codec:?}");
        }
        assert_eq!(got[3001], "1@3001=last");
        assert_eq!(world.consumer.memory(), 0, "{codec:?}");
    }
}

#[test]
fn the_time_of_an_append_is_the_batchs() {
    let mut world = world();
    let mut bytes = batch(&["one", "two"]);
    bytes[22] |= 8;
    bytes[35..43].copy_from_slice(&77i64.to_be_bytes());
    super::world::restamp(&mut bytes);
    world.log("a", 0).append(bytes, 0);
    world.consumer.assign(1, assignment("a", 0));
    world.settle();
    let record = world.consumer.peek().expect("a record");
    assert_eq!((record.timestamp, record.timestamp_type), (77, TimestampType::Append));
}

#[test]
fn partitions_take_turns() {
    let mut world = world();
    for partition in [0, 2] {
        world.log("a", partition).append(batch(&["x"; 200]), 0);
        world.consumer.assign(partition as u32, assignment("a", partition));
    }
    let got = world.read();
    assert_eq!(got.len(), 400);
    let changes = got.windows(2).filter(|pair| pair[0].as_bytes()[0] != pair[1].as_bytes()[0]).count();
    assert!((4..20).contains(&changes), "{changes}");
}

/// Producers 1 and 2 in turn: 1 aborts, 2 commits, 1 commits.
fn with_transactions(world: &mut super::world::World) {
    let log = world.log("a", 0);
    log.append(transactional(&["1a"], 1, None), 0); // 0
    log.append(transactional(&["2a", "2b"], 2, None), 0); // 1, 2
    log.append(transactional(&["1b"], 1, None), 0); // 3
    log.append(transactional(&[], 1, Some(0)), 0); // 4: aborts
    log.append(transactional(&["1c"], 1, None), 0); // 5
    log.append(transactional(&[], 2, Some(1)), 0); // 6: commits
    log.append(batch(&["plain"]), 0); // 7
    log.append(transactional(&[], 1, Some(1)), 0); // 8
    log.aborted = vec![(1, 0)];
}

#[test]
fn aborted_transactions_and_control_records_are_passed_over() {
    let mut world = world();
    with_transactions(&mut world);
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read(), ["1@1=2a", "1@2=2b", "1@5=1c", "1@7=plain"]);
    assert_eq!(world.consumer.position(1).map(|at| at.offset), Some(9), "over the last one's end");
    assert_eq!(world.consumer.lag(1), Some(0));
}

#[test]
fn uncommitted_has_all_but_control_records() {
    let mut world = world();
    with_transactions(&mut world);
    world.consumer.assign(1, Assignment { committed: false, ..assignment("a", 0) });
    assert_eq!(world.read(), ["1@0=1a", "1@1=2a", "1@2=2b", "1@3=1b", "1@5=1c", "1@7=plain"]);
}

#[test]
fn what_compaction_has_taken_is_passed_over() {
    let mut world = world();
    let log = world.log("a", 0);
    log.append(batch(&["x"; 3]), 0);
    log.append(batch(&["gone"; 5]), 0);
    log.append(batch(&["y"]), 0);
    // A batch without records stays in the log to preserve its producer's sequence.
    let mut empty = batch(&["gone"]);
    empty.truncate(61);
    empty[8..12].copy_from_slice(&49i32.to_be_bytes());
    empty[57..61].copy_from_slice(&0i32.to_be_bytes());
    super::world::restamp(&mut empty);
    log.append(empty, 0);
    log.batches.remove(1);
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read(), ["1@0=x", "1@1=x", "1@2=x", "1@8=y"]);
    assert_eq!(world.consumer.position(1).map(|at| at.offset), Some(10));
}

#[test]
fn what_was_shown_and_is_sought_away_takes_nothing_of_another() {
    let mut world = world();
    for partition in [0, 2] {
        world.log("a", partition).append(batch(&["x", "y"]), 0);
        world.consumer.assign(partition as u32, assignment("a", partition));
    }
    world.settle();
    let first = world.consumer.peek().expect("a record").id;
    world.consumer.pause(first);
    let second = world.consumer.peek().expect("a record").id;
    assert_ne!(first, second);
    world.consumer.resume(first);
    world.consumer.unassign(second);
    world.consumer.advance();
    assert_eq!(world.read(), [format!("{first}@0=x"), format!("{first}@1=y")]);
}

#[test]
fn a_partition_has_one_id() {
    let mut world = world();
    assert!(world.consumer.assign(1, assignment("a", 0)));
    assert!(!world.consumer.assign(2, assignment("a", 0)));
    assert!(world.consumer.assign(1, assignment("b", 0)), "an id may go to another partition");
    assert!(world.consumer.assign(2, assignment("a", 0)));
    world.log("a", 0).append(batch(&["a"]), 0);
    world.log("b", 0).append(batch(&["b"]), 0);
    let mut got = world.read();
    got.sort();
    assert_eq!(got, ["1@0=b", "2@0=a"]);
}

/// No Fetch reports the end of a partition's log that is not fetched, so the consumer asks for it from time to time.
#[test]
fn how_far_a_log_goes_is_known_of_a_partition_that_stands() {
    let mut world = world();
    world.log("a", 0).append(batch(&["x", "y"]), 0);
    world.consumer.assign(1, assignment("a", 0));
    assert_eq!(world.read(), ["1@0=x", "1@1=y"]);
    assert_eq!(world.consumer.lag(1), Some(0));
    world.consumer.pause(1);
    world.log("a", 0).append(batch(&["z"; 7]), 0);
    world.now = world.now.after(Duration::from_secs(6));
    world.settle();
    assert_eq!(world.consumer.lag(1), Some(7));
    world.consumer.resume(1);
    assert_eq!(world.read().len(), 7);
}
