//! Long searches in a segment, on a disk that keeps only a few pieces ready.

use std::cell::RefCell;
use std::collections::VecDeque;

use super::support::{lane, put, settle};
use crate::simulated::SimDisk;
use crate::{AppendError, Disk, Log, Read, ReadError, Reason, Recovered, RowRun, Settings, scan};
use forebay_runtime::seam::{Monotonic, WallMs};

const SEGMENT: u64 = 1 << 20;
const PIECE: u64 = 64 << 10;
const KEPT: usize = 4;

/// A disk that answers reads only from the last few pieces requested; the last field is their number.
struct Pieces(SimDisk, RefCell<VecDeque<(u64, u64)>>, usize);

impl Disk for Pieces {
    fn create(&mut self, segment: u64, bytes: u64) {
        self.0.create(segment, bytes);
    }
    fn append(&mut self, segment: u64, at: u64, bytes: &[u8]) -> Result<(), AppendError> {
        self.0.append(segment, at, bytes)
    }
    fn sync(&mut self, token: u64, segments: &[u64]) {
        self.0.sync(token, segments);
    }
    fn free(&mut self, segment: u64) {
        self.0.free(segment);
    }
    fn read_note(&self) -> Option<Vec<u8>> {
        self.0.read_note()
    }
    fn write_note(&mut self, note: &[u8]) {
        self.0.write_note(note);
    }

    fn read(&self, segment: u64, at: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let mut kept = self.1.borrow_mut();
        let mut missing = false;
        for piece in at / PIECE..=(at + into.len() as u64 - 1) / PIECE {
            let known = kept.iter().position(|known| *known == (segment, piece));
            missing |= known.and_then(|index| kept.remove(index)).is_none();
            kept.push_back((segment, piece));
        }
        while kept.len() > self.2 {
            kept.pop_front();
        }
        if missing { Err(ReadError::Later) } else { self.0.read(segment, at, into) }
    }
}

fn settings(segments_max: u64) -> Settings {
    Settings { shard: 3, segment_bytes: SEGMENT, segments_max, sink_bytes_max: SEGMENT * 9, data_dir_id: 0, seed: 5 }
}

#[test]
fn a_search_behind_rot_comes_to_its_end() {
    let (mut log, mut disk) = (Log::new(settings(14), Recovered::default()), SimDisk::default());
    let lane = lane(&mut log, "sink", "topic", 0);
    for block in 0..200u8 {
        put(&mut log, lane, &[vec![block; 2_000], vec![block; 2_000]]).unwrap();
        settle(&mut log, &mut disk);
    }
    let segment = log.last.unwrap().0;
    let held = log.state().segments[&segment];
    let entries = scan(disk.bytes(segment), segment, held.salt, Some(held.end)).entries;
    assert!(entries.last().unwrap() > &(3 * KEPT as u64 * PIECE), "longer than what is at hand");
    // Rows and commits alternate: these are the heads of two blocks of rows.
    for place in [entries.len() / 3, 2 * entries.len() / 3] {
        let at = entries[place] as usize;
        disk.bytes(segment)[at..at + 8].fill(0x55);
    }
    let disk = Pieces(disk, RefCell::default(), KEPT);
    let (mut at, mut rows, mut lost, mut later) = (0, 0, 0, 0);
    loop {
        match log.read(&disk, lane, at, u64::MAX) {
            Err(ReadError::Later) => later += 1,
            Err(error) => panic!("{error}"),
            Ok(Read::Empty) => break,
            Ok(Read::Rotten(run)) => (at, lost) = (run.end(), lost + run.count),
            Ok(Read::Block(block)) => (at, rows) = (block.run.end(), rows + block.run.count),
        }
        assert!(later < 1_000, "no progress at {at}");
    }
    assert_eq!(rows + lost, 400);
    assert!(lost <= 4, "{lost}");
}

/// Cuts of several partitions with rows of one lane (which had no partition yet) are read in the same turns.
#[test]
fn several_readers_far_into_a_segment_of_one_lane_all_find_their_rows() {
    let (mut log, mut disk) = (Log::new(settings(8), Recovered::default()), SimDisk::default());
    let lane = lane(&mut log, "sink", "topic", -1);
    for block in 0..200u8 {
        put(&mut log, lane, &[vec![block; 2_000], vec![block; 2_000]]).unwrap();
        settle(&mut log, &mut disk);
    }
    // The first block of one reader is damaged: the reader searches on, entry by entry.
    for rotten in [false, true] {
        if rotten {
            let (segment, _) = log.last.unwrap();
            let held = log.state().segments[&segment];
            let entries = scan(disk.bytes(segment), segment, held.salt, Some(held.end)).entries;
            let at = entries[entries.len() / 2] as usize;
            disk.bytes(segment)[at..at + 8].fill(0x55);
        }
        // The disk keeps the current and the next piece of each reader, but not its whole way.
        let pieces = Pieces(std::mem::take(&mut disk), RefCell::default(), 2 * KEPT);
        let mut left = vec![396, 388, 380];
        for turn in 0.. {
            left.retain(|number| match log.read(&pieces, lane, *number, number + 1) {
                Err(ReadError::Later) => true,
                Ok(Read::Block(block)) => block.run.first != *number,
                read => panic!("{read:?}"),
            });
            if left.is_empty() {
                break;
            }
            assert!(turn < 2_000, "still without their rows: {left:?}");
        }
        disk = pieces.0;
    }
}

#[test]
fn a_drain_and_a_move_in_one_lane_both_come_to_their_end() {
    let (mut log, mut disk) = (Log::new(settings(8), Recovered::default()), SimDisk::default());
    let drained = lane(&mut log, "sink", "topic", 0);
    let other = lane(&mut log, "sink", "topic", 1);
    // A segment of both lanes, and later segments that hold too much to be moved.
    let mut rows = 0;
    while log.last.is_none_or(|(segment, _)| segment == 0) {
        put(&mut log, drained, &[vec![1; 2_000], vec![2; 2_000]]).unwrap();
        put(&mut log, other, &[vec![3; 4_000]]).unwrap();
        settle(&mut log, &mut disk);
        rows += 2;
    }
    let others = log.state().lane(other).unwrap().next;
    while log.last.is_none_or(|(segment, _)| segment < 3) {
        put(&mut log, other, &[vec![4; 8_000]]).unwrap();
        settle(&mut log, &mut disk);
    }
    assert_eq!(log.moved_bytes(), 0, "nothing to gain");
    log.end_rows(other, &[RowRun { first: 0, count: others - 1 }], Reason::Expired).unwrap();
    let mut disk = Pieces(disk, RefCell::default(), KEPT);
    let mut at = 0;
    for turn in 0.. {
        match log.read(&disk, drained, at, rows) {
            Err(ReadError::Later) | Ok(Read::Empty) => {}
            Ok(Read::Block(block)) => at = block.run.end(),
            read => panic!("{read:?}"),
        }
        log.flush(&mut disk, Monotonic((turn + 1) << 40), WallMs(7));
        while let Some(answer) = disk.0.answer() {
            log.complete(&mut disk, answer);
        }
        let stays = log.state().lane(drained).unwrap().spans().any(|span| span.segment == 0);
        if at == rows && !stays {
            break;
        }
        assert!(turn < 3_000, "read up to {at} of {rows}, moved {}", log.moved_bytes());
    }
}
