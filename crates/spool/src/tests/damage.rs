//! Unreadable sectors: data around them is read, rows in them are counted one by one, segments are set aside, and a disk
//! that is only unavailable costs nothing.

use super::support::{Drained, SEGMENT, drain, drain_state, lane, log, normal, put, recovered, settings, settle};
use crate::simulated::SimDisk;
use crate::{HEADER_BYTES, Log, Read, ReadError, RecoverError, RowRun, recover};

/// A log with rows of two lanes in several segments, each in a group of its own, and the rows' values.
fn filled(turns: u8) -> (Log, SimDisk, Drained) {
    let (mut log, mut disk) = log(30);
    let mut expected = Drained::new();
    for turn in 0..turns {
        let lane = lane(&mut log, "sink", "topic", i32::from(turn % 2));
        let values = [vec![turn; 200], vec![turn; 90]];
        let run = put(&mut log, lane, &values).expect("room");
        expected.extend((run.first..).zip(values).map(|(number, value)| ((lane, number), value)));
        settle(&mut log, &mut disk);
    }
    (log, disk, expected)
}

fn count(rotten: &[(u64, RowRun)]) -> usize {
    rotten.iter().map(|(_, run)| run.count).sum::<u64>() as usize
}

#[test]
fn a_bad_sector_in_an_old_segment_costs_the_blocks_that_stand_in_it() {
    let (mut log, disk, expected) = filled(80);
    let sectors = log.state().segments[&0].end / 512;
    let mut least = usize::MAX;
    for sector in 1..sectors {
        let mut hurt = disk.clone();
        hurt.bad.insert((0, sector));
        let (rows, rotten) = drain(&mut log, &hurt);
        assert!(rows.iter().all(|(key, value)| expected.get(key) == Some(value)), "sector {sector}");
        assert_eq!(rows.len() + count(&rotten), expected.len(), "sector {sector}");
        // A sector holds parts of at most three blocks.
        assert!(count(&rotten) <= 6, "sector {sector}: {rotten:?}");
        least = least.min(count(&rotten));
    }
    assert!(least > 0, "each sector has rows");
    let mut hurt = disk.clone();
    hurt.bad.insert((0, 3));
    let mut at = 0;
    for _ in 0..200 {
        match log.read(&hurt, 0, at, u64::MAX) {
            Ok(Read::Block(block)) => at = block.run.end(),
            Ok(_) => break,
            Err(error) => panic!("{error}"),
        }
    }
    settle(&mut log, &mut hurt);
    assert!(hurt.set_aside.iter().eq([&0]), "{:?}", hurt.set_aside);
}

#[test]
fn a_disk_that_is_away_costs_nothing() {
    let (mut log, disk, expected) = filled(40);
    let mut away = disk.clone();
    away.bad = (0..3).flat_map(|segment| (0..SEGMENT / 512).map(move |sector| (segment, sector))).collect();
    for _ in 0..100 {
        assert_eq!(log.read(&away, 0, 0, u64::MAX).err(), Some(ReadError::Failed));
    }
    let (rows, rotten) = drain(&mut log, &disk);
    assert_eq!((rows.len(), rotten), (expected.len(), Vec::new()));
    let refused = recover(&away, 3, &away.found());
    assert!(matches!(refused, Err(RecoverError::Read { error: ReadError::Failed, .. })), "{refused:?}");
}

/// The disk was unavailable when segments had to be emptied: a log that takes nothing before that empties them when the disk
/// is back.
#[test]
fn segments_are_emptied_when_the_disk_is_back_though_nothing_is_written() {
    let (mut log, mut disk) = log(9);
    let mut sessions = Vec::new();
    while let Ok(session) = log.session(None, &[7; 1_500]) {
        sessions.push(session);
        settle(&mut log, &mut disk);
    }
    disk.bad = (0..SEGMENT / 512).flat_map(|sector| (0..100).map(move |segment| (segment, sector))).collect();
    // One session stays in each segment.
    let mut kept = std::collections::BTreeSet::new();
    for session in sessions {
        let (segment, ..) = log.state().sessions[&session];
        if !kept.insert(segment) {
            log.session_ended(session).expect("from the reserve");
            settle(&mut log, &mut disk);
        }
    }
    let (segments, room) = (disk.found().len(), log.room_of_session(0));
    assert!(log.moves_again(), "nothing could be moved");
    disk.bad.clear();
    for _ in 0..4 {
        settle(&mut log, &mut disk);
    }
    assert!(disk.found().len() < segments && log.room_of_session(0) > room, "{segments} segments, {room} bytes");
    assert!(!log.moves_again());
}

#[test]
fn a_read_that_is_answered_later_goes_on_where_it_was() {
    let (mut log, mut disk, expected) = filled(30);
    disk.bad.insert((0, 9));
    let (mut rows, mut lost, mut later) = (0, 0, 0u32);
    for lane in 0..2 {
        let mut at = 0;
        loop {
            // Every second read is answered later, as by a ring that fetches windows.
            disk.reads_later.set(later % 2);
            later += 1;
            match log.read(&disk, lane, at, u64::MAX) {
                Ok(Read::Empty) => break,
                Ok(Read::Rotten(run)) => (at, lost) = (run.end(), lost + run.count as usize),
                Ok(Read::Block(block)) => (at, rows) = (block.run.end(), rows + block.rows().count()),
                Err(_) => {}
            }
            assert!(later < 500, "it comes to no end");
        }
    }
    assert_eq!(rows + lost, expected.len());
    assert!(lost > 0);
}

#[test]
fn a_bad_sector_in_the_newest_segment_is_reported_and_its_rows_are_counted() {
    let (log, disk, expected) = filled(20);
    let (segment, end) = log.last.expect("a segment");
    assert_eq!(segment, 0, "all of it is replayed");
    let mut lost_some = 0;
    for sector in 1..end / 512 {
        let mut hurt = disk.clone();
        hurt.bad.insert((segment, sector));
        let found = recovered(&hurt);
        assert!(found.fate_open && !found.rot.is_empty(), "sector {sector}");
        let (rows, rotten) = drain_state(&found.state, &hurt);
        assert!(rows.iter().all(|(key, value)| expected.get(key) == Some(value)), "sector {sector}");
        // Nothing later shows how many rows the last groups of the two lanes had.
        let nameless = count(&found.missing);
        let told = rows.len() + count(&rotten) + nameless;
        assert!(told + 4 >= expected.len() && told <= expected.len(), "sector {sector}: {told} of {}", expected.len());
        lost_some += usize::from(!rotten.is_empty());
        // The log goes on with the same contents.
        let state = normal(&found.state);
        let mut again = Log::new(settings(30, 2), found);
        settle(&mut again, &mut hurt);
        let sums = |state: &crate::State| state.live_rows();
        assert_eq!(sums(again.state()), sums(&state), "sector {sector}");
        assert!(hurt.set_aside.contains(&segment));
        // At the next recovery their fate is as open as before, whether or not it meets the damage.
        let next = recovered(&hurt);
        let open: u64 = next.state.lanes().map(|(_, lane)| lane.open_rows()).sum();
        assert_eq!(open, sums(&state), "sector {sector}");
    }
    assert!(lost_some > 3);
}

#[test]
fn what_cannot_be_read_behind_the_last_group_is_damage_and_no_torn_tail() {
    let (log, disk, _) = filled(6);
    let (segment, end) = log.last.expect("a segment");
    let whole = recovered(&disk);
    assert!(whole.rot.is_empty() && !whole.fate_open);
    let mut hurt = disk.clone();
    hurt.bad.insert((segment, end.div_ceil(512) + 1));
    let found = recovered(&hurt);
    assert!(found.fate_open && found.rot.len() == 1, "it may have been a group: {:?}", found.rot);
    assert_eq!(found.state.live_rows(), whole.state.live_rows());
    // The copies of a header stand in for each other.
    for sector in [0, (SEGMENT - HEADER_BYTES as u64) / 512] {
        let mut hurt = disk.clone();
        hurt.bad.insert((segment, sector));
        assert!(recover(&hurt, 3, &hurt.found()).is_ok(), "sector {sector}");
    }
}
