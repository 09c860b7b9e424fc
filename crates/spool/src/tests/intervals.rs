//! Groups that wait for others: `sync_interval`.

use std::time::Duration;

use super::support::{SEGMENT, lane, log, put, settle};
use crate::Log;
use crate::simulated::SimDisk;
use forebay_runtime::seam::{Monotonic, WallMs};

const MS: u64 = 1_000_000;

/// A log with groups at least 2 ms apart, and with its segment created.
fn gathering() -> (Log, SimDisk, u64) {
    let (mut log, mut disk) = log(14);
    log.set_sync_interval(Duration::from_millis(2));
    let lane = lane(&mut log, "sink", "topic", 0);
    settle(&mut log, &mut disk);
    (log, disk, lane)
}

/// Puts `bytes` bytes, and returns whether a group begins with them at this time.
fn begins(log: &mut Log, disk: &mut SimDisk, lane: u64, bytes: usize, at: Monotonic) -> bool {
    let before = log.group();
    put(log, lane, &[vec![7; bytes]]).expect("room");
    log.flush(disk, at, WallMs(7));
    assert_eq!(log.group() > before, log.next_group_at().is_none(), "either it begins, or it is known when it will");
    log.group() > before
}

fn synced(log: &mut Log, disk: &mut SimDisk) {
    let answer = disk.answer().expect("a sync");
    log.complete(disk, answer);
}

#[test]
fn a_group_begins_at_once_if_the_last_one_is_long_ago() {
    let (mut log, mut disk, lane) = gathering();
    let at = Monotonic((1 << 50) / (2 * MS) * 2 * MS);
    assert!(begins(&mut log, &mut disk, lane, 10, at.after(Duration::from_micros(1_500))));
    synced(&mut log, &mut disk);
    // Intervals are aligned to the clock: a late start in one does not delay the next.
    assert!(!begins(&mut log, &mut disk, lane, 10, at.after(Duration::from_micros(1_900))));
    assert_eq!(log.next_group_at(), Some(Monotonic(at.0 + 2 * MS)));
    let durable = log.durable();
    log.flush(&mut disk, Monotonic(at.0 + 2 * MS), WallMs(7));
    assert_eq!(log.next_group_at(), None);
    synced(&mut log, &mut disk);
    assert_eq!(log.durable(), durable + 1);
}

#[test]
fn a_group_that_is_full_waits_for_no_interval() {
    let (mut log, mut disk, lane) = gathering();
    let at = Monotonic(1 << 50);
    assert!(begins(&mut log, &mut disk, lane, 10, at));
    synced(&mut log, &mut disk);
    assert!(!begins(&mut log, &mut disk, lane, 10, at));
    assert!(begins(&mut log, &mut disk, lane, SEGMENT as usize / 16, at));
}

#[test]
fn nothing_waits_without_an_interval() {
    let (mut log, mut disk, lane) = gathering();
    log.set_sync_interval(Duration::ZERO);
    for _ in 0..3 {
        assert!(begins(&mut log, &mut disk, lane, 10, Monotonic(1 << 50)));
        synced(&mut log, &mut disk);
    }
}
