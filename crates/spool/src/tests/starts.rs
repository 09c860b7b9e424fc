//! Recovery before anything new: the last group is written again, bounds may have changed, and incomplete rows and cuts
//! are ended.

use super::support::{SEGMENT, cut, lane, log, normal, put, recovered, settings, settle};
use crate::simulated::SimDisk;
use crate::{Log, Read, Reason, Recovered, Refused, RowRun, SEGMENTS_RESERVED, Settings};
use forebay_runtime::seam::{Monotonic, WallMs};

/// D1: after kill -9 the last group may be in the page cache only.
#[test]
fn a_log_is_open_when_the_last_group_that_was_found_is_durable() {
    let (mut log, mut disk) = log(10);
    let lane = lane(&mut log, "s", "t", 0);
    put(&mut log, lane, &[vec![1]]).expect("room");
    settle(&mut log, &mut disk);
    put(&mut log, lane, &[vec![2]]).expect("room");
    log.flush(&mut disk, Monotonic(1), WallMs(1));
    // Written, not synced.
    let mut random = fastrand::Rng::with_seed(1);
    let written = std::iter::repeat_with(|| {
        let mut killed = disk.clone();
        killed.kill(&mut random);
        killed
    });
    let mut killed = written.take(100).find(|disk| recovered(disk).state.live_rows() == 2).expect("often");
    let mut again = Log::new(settings(10, 2), recovered(&killed));
    assert!(!again.is_open() && again.state().live_rows() == 1, "found, not durable");
    let group = again.group() - 1;
    assert!(again.durable() < group);
    let cut_off = killed.clone();
    settle(&mut again, &mut killed);
    assert!(again.is_open() && again.durable() >= group && again.state().live_rows() == 2);
    killed.power_cut(&mut random);
    assert_eq!(recovered(&killed).state.live_rows(), 2, "no power cut takes it back any more");
    let lost = std::iter::repeat_with(|| {
        let mut cut_off = cut_off.clone();
        cut_off.power_cut(&mut random);
        recovered(&cut_off).state.live_rows()
    });
    assert_eq!(lost.take(20).min(), Some(1), "before, one might have");
}

/// Putting together begins segments with nothing but a checkpoint. The last group that a start finds may be such a group, and no note names it: the start frees its
/// segment, so the next segment must not name it as its predecessor.
#[test]
fn a_last_group_with_nothing_but_a_checkpoint_is_left_behind() {
    let (mut log, mut disk) = log(10);
    disk.takes_appended = true;
    let session = log.session(None, &[1; 900]).expect("room");
    for turn in 2..11 {
        // No time passes, so the log is not quiet yet.
        log.flush(&mut disk, Monotonic(1), WallMs(7));
        while let Some(answer) = disk.answer() {
            log.complete(&mut disk, answer);
        }
        log.session(Some(session), &[turn; 900]).expect("room");
    }
    let mut now = 0;
    let begun = loop {
        now += 1;
        assert!(now < 100, "no group has nothing but a checkpoint");
        log.flush(&mut disk, Monotonic(now << 40), WallMs(7));
        if let Some(flight) = log.flight.as_ref().filter(|flight| flight.begins.is_some() && log.in_flight.is_empty()) {
            break flight.segment;
        }
        if let Some(answer) = disk.answer() {
            log.complete(&mut disk, answer);
        }
    };
    // The group is durable, and the process ends before it hears of that.
    while disk.answer().is_some() {}
    disk.takes_appended = false;
    let found = recovered(&disk);
    assert!(found.damage.is_empty() && disk.found().contains_key(&begun), "{:?}", found.damage);
    let mut again = Log::new(settings(10, 2), found);
    assert!(again.is_open(), "there is nothing to write again");
    for step in 0..20 {
        if step == 6 {
            again.session(Some(session), &[11; 900]).expect("room");
        }
        again.flush(&mut disk, Monotonic((now + 1 + step) << 40), WallMs(7));
        if let Some(answer) = disk.answer() {
            again.complete(&mut disk, answer);
        }
        let found = recovered(&disk);
        assert!(found.damage.is_empty() && !found.fate_open, "step {step}: {:?}", found.damage);
    }
    assert!(!disk.found().contains_key(&begun) && again.last.expect("a segment").0 > begun);
    let found = recovered(&disk);
    assert_eq!((found.state.sessions_count(), normal(&found.state)), (1, normal(again.state())));
}

/// N4: kept sessions stay, and smaller segments take them.
#[test]
fn smaller_segments_beside_kept_sessions_take_rows_again() {
    let large = Settings { segment_bytes: 4 * SEGMENT, ..settings(12, 1) };
    let (mut log, mut disk) = (Log::new(large, Recovered::default()), SimDisk::default());
    let dropped = lane(&mut log, "s", "t", 0);
    for client in 0..20u8 {
        log.session(None, &[client; 900]).expect("room");
        put(&mut log, dropped, &[vec![client; 3_000]]).expect("room");
        settle(&mut log, &mut disk);
    }
    let rows = [RowRun { first: 0, count: 20 }];
    log.end_rows(dropped, &rows, Reason::Dropped).expect("room");
    settle(&mut log, &mut disk);
    let mut again = Log::new(settings(12, 2), recovered(&disk));
    settle(&mut again, &mut disk);
    let taken = (0..400u32).filter(|_| {
        // The lane is forgotten when nothing in it is live.
        let lane = lane(&mut again, "s", "t", 0);
        let row = put(&mut again, lane, &[vec![1; 1_000]]);
        if let Ok(run) = row {
            again.end_rows(lane, &[run], Reason::Dropped).expect("an end is always taken");
        }
        settle(&mut again, &mut disk);
        row.is_ok()
    });
    assert!(taken.count() > 300, "it takes rows");
    assert!(again.bytes() <= 12 * SEGMENT, "{:?}", disk.found());
    assert_eq!(recovered(&disk).state.sessions_count(), 20);
}

/// Messages for kept sessions leave a segment of room free, and find none while a larger segment is kept only for
/// recovery.
#[test]
fn a_larger_segment_that_holds_nothing_leaves_messages_room() {
    let large = Settings { segment_bytes: 3 * SEGMENT, ..settings(8, 1) };
    let (mut log, mut disk) = (Log::new(large, Recovered::default()), SimDisk::default());
    let session = log.session(None, &[1; 900]).expect("room");
    settle(&mut log, &mut disk);
    let mut again = Log::new(settings(8, 2), recovered(&disk));
    for turn in 0..60 {
        settle(&mut again, &mut disk);
        let room = again.room_of_session(0);
        assert!(room > SEGMENT + SEGMENT / 8, "turn {turn}: {room} bytes, {:?}", disk.found());
        again.session(Some(session), &[2; 900]).expect("room");
    }
}

/// Rows wait and sessions come, change and go while each start has other bounds: a log in which little lives takes a new session, however large the
/// segments are that were written last.
#[test]
fn a_log_of_sessions_goes_on_whatever_sizes_its_segments_had() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut disk = SimDisk::default();
        let mut sessions: Vec<u64> = Vec::new();
        let (sessions_max, stay, changes) = (random.usize(1..12), random.u8(2..50), random.u8(1..10));
        for start in 0..6 {
            let (parts, segments_max) = (if start % 2 == 0 { random.u64(3..8) } else { 1 }, random.u64(8..11));
            let bounds = Settings { segment_bytes: SEGMENT / 2 * parts, ..settings(segments_max, seed + start) };
            let mut log = Log::new(bounds, recovered(&disk));
            settle(&mut log, &mut disk);
            let what = format!("seed {seed}, start {start}: {segments_max} segments of {parts} halves");
            let turns = random.u32(1..40);
            let drained = random.u32(..turns);
            for turn in 0..turns {
                if turn < drained {
                    let lane = lane(&mut log, "s", "t", 0);
                    let _ = put(&mut log, lane, &[vec![3; random.usize(1..SEGMENT as usize / 32)]]);
                } else {
                    end_all_rows(&mut log);
                }
                if sessions.len() < sessions_max || random.u8(..changes) == 0 {
                    let payload = vec![7; random.usize(1..SEGMENT as usize / 32)];
                    let is_old = sessions.len() == sessions_max;
                    let old = is_old.then(|| sessions[random.usize(..sessions.len())]);
                    if let Ok(session) = log.session(old, &payload)
                        && old.is_none()
                    {
                        sessions.push(session);
                    }
                }
                if !sessions.is_empty() && random.u8(..stay) == 0 {
                    let session = sessions.swap_remove(random.usize(..sessions.len()));
                    log.session_ended(session).expect("an end is always taken");
                }
                settle(&mut log, &mut disk);
            }
            if start % 2 == 0 {
                continue;
            }
            let takes = (0..50).any(|_| {
                end_all_rows(&mut log);
                let taken = log.session(None, &[1; 100]);
                taken.iter().for_each(|session| log.session_ended(*session).expect("taken"));
                log.beat();
                settle(&mut log, &mut disk);
                taken.is_ok()
            });
            assert!(takes, "{what}: it takes nothing, {:?}", disk.found());
        }
    }
}

/// Ends the live rows of all lanes, where the group has room for that.
fn end_all_rows(log: &mut Log) {
    let lanes =
        log.state().lanes().map(|(number, lane)| (number, lane.spans().map(|span| span.run).collect::<Vec<_>>()));
    for (lane, runs) in lanes.collect::<Vec<_>>().into_iter().filter(|(_, runs)| !runs.is_empty()) {
        let _ = log.end_rows(lane, &runs, Reason::Expired);
    }
}

/// A running log has the next segment allocated, so recovery finds that room free.
#[test]
fn a_start_on_a_full_disk_has_room_for_its_first_segment() {
    let (mut log, mut disk) = log(20);
    let lane = lane(&mut log, "s", "t", 0);
    put(&mut log, lane, &[vec![1]]).expect("room");
    settle(&mut log, &mut disk);
    disk.kill(&mut fastrand::Rng::with_seed(3));
    // Without the note nothing proves that the group is durable.
    disk.note = None;
    let mut roomy = disk.clone();
    roomy.room = Some(roomy.bytes_taken());
    let mut again = Log::new(settings(20, 2), recovered(&roomy));
    assert!(!again.is_open());
    settle(&mut again, &mut roomy);
    assert!(again.is_open() && again.state().live_rows() == 1);
    // Without that room the log waits while the disk is full, and goes on by itself.
    let mut again = Log::new(settings(20, 3), recovered(&disk));
    disk.room = Some(0);
    settle(&mut again, &mut disk);
    assert!(!again.is_open() && again.trouble().in_a_row > 0);
    disk.room = None;
    // Completions advance the clock.
    disk.answered += 10;
    settle(&mut again, &mut disk);
    assert!(again.is_open() && again.state().live_rows() == 1);
}

/// Rows in full segments, cut or not.
fn full(segments: u64) -> (SimDisk, u64) {
    let (mut log, mut disk) = log(segments + SEGMENTS_RESERVED);
    let lane = lane(&mut log, "s", "t", 0);
    let mut rows = 0;
    while put(&mut log, lane, &[vec![7; 1_500]]).is_ok() {
        rows += 1;
        settle(&mut log, &mut disk);
    }
    (disk, rows)
}

/// Cuts and ends all rows. Panics if the log takes nothing any more.
fn drained(log: &mut Log, disk: &mut SimDisk, rows: u64) {
    settle(log, disk);
    let lane = log.state().lanes().next().expect("it").0;
    for row in 0..rows {
        let run = [RowRun { first: row, count: 1 }];
        let (number, group) = cut(log, lane, 0, &run).expect("a cut is always taken");
        settle(log, disk);
        assert!(log.durable() >= group, "row {row}: the log stands still");
        log.done(number, lane, &run, 0).expect("an end is always taken");
        settle(log, disk);
        assert!(log.bytes() <= log.bytes_max(), "{} of {}", log.bytes(), log.bytes_max());
    }
    assert_eq!(log.state().live_rows(), 0);
}

/// D2: an operator changes the bounds while rows wait.
#[test]
fn a_log_drains_whatever_its_bounds_are_at_the_next_start() {
    for (segment_bytes, segments_max) in [(SEGMENT, 6), (SEGMENT * 4, 5), (SEGMENT * 16, 5), (SEGMENT / 4, 100)] {
        let what = format!("{segments_max} segments of {segment_bytes}");
        let (mut disk, rows) = full(20);
        let wanted = Settings { segment_bytes, segments_max, ..settings(0, 2) };
        let wanted = Settings { sink_bytes_max: u64::MAX, ..wanted };
        let mut log = Log::new(wanted, recovered(&disk));
        settle(&mut log, &mut disk);
        let lane = log.state().lanes().next().expect("it").0;
        let more = put(&mut log, lane, &[vec![7; 20]]);
        let larger = SEGMENT * 20 > segment_bytes * segments_max;
        assert_eq!(more, if larger { Err(Refused::Full) } else { more }, "{what}: rows keep to the bound");
        drained(&mut log, &mut disk, rows + u64::from(more.is_ok()));
        // The log returns to its new bounds by itself, without another restart.
        for turn in 0..200u64 {
            let Ok(run) = put(&mut log, lane, &[vec![7; segment_bytes as usize / 20]]) else {
                panic!("{what}: no room in turn {turn}")
            };
            settle(&mut log, &mut disk);
            log.end_rows(lane, &[run], crate::Reason::Expired).expect("taken");
            settle(&mut log, &mut disk);
        }
        assert_eq!(log.bytes_max(), segment_bytes * segments_max, "{what}");
        assert!(disk.found().values().all(|bytes| *bytes == segment_bytes), "{what}: {:?}", disk.found());
    }
}

/// D4: a cut with missing rows would hold its place in the window forever.
#[test]
fn a_cut_without_all_of_its_rows_is_void_at_the_next_start() {
    let (mut log, mut disk) = log(20);
    let lane = lane(&mut log, "s", "t", 0);
    let first = put(&mut log, lane, &[vec![1; 1_500], vec![2; 300]]).expect("room");
    settle(&mut log, &mut disk);
    let gone = log.last.expect("a segment").0;
    while log.last.expect("a segment").0 < gone + 3 {
        put(&mut log, lane, &[vec![3; 1_500]]).expect("room");
        settle(&mut log, &mut disk);
    }
    let whole = put(&mut log, lane, &[vec![4]]).expect("room");
    for _ in 0..4 {
        cut(&mut log, lane, 0, &[first]).expect("a cut");
    }
    cut(&mut log, lane, 0, &[whole]).expect("a cut");
    settle(&mut log, &mut disk);
    disk.lose(gone);
    let found = recovered(&disk);
    assert!(found.missing.iter().any(|(_, run)| run.first == first.first));
    assert_eq!(found.voided.len(), 4);
    assert_eq!(found.state.cuts().map(|cut| cut.rows.to_vec()).collect::<Vec<_>>(), [vec![whole]]);
    let (next, live) = (found.state.lane(lane).expect("it").next, found.state.live_rows());
    let mut again = Log::new(settings(20, 2), found);
    settle(&mut again, &mut disk);
    assert_eq!(again.state().live_rows(), live);
    cut(&mut again, lane, 0, &[RowRun { first: whole.first - 1, count: 1 }]).expect("its window is free");
    settle(&mut again, &mut disk);
    let found = recovered(&disk);
    assert_eq!((found.voided.len(), found.missing.len(), found.state.cuts().count()), (0, 0, 2), "ended for good");
    assert_eq!(found.state.lane(lane).expect("it").next, next);
}

/// The entry that assigned numbers may be lost: they are not assigned again.
#[test]
fn numbers_that_a_cut_names_are_not_given_out_again() {
    let (mut log, mut disk) = log(20);
    let lane = lane(&mut log, "s", "t", 0);
    settle(&mut log, &mut disk);
    let (segment, at) = log.last.expect("a segment");
    let run = put(&mut log, lane, &[vec![1; 100]]).expect("room");
    settle(&mut log, &mut disk);
    cut(&mut log, lane, 0, &[run]).expect("a cut");
    settle(&mut log, &mut disk);
    disk.bytes(segment)[at as usize + 40] ^= 1;
    let found = recovered(&disk);
    // The row is live and cannot be read: the drain counts it, and its cut is void then.
    assert!(found.fate_open && found.voided.is_empty() && found.state.cuts().count() == 1);
    assert_eq!(found.state.lane(lane).expect("it").next, run.end());
    let mut again = Log::new(settings(20, 2), found);
    settle(&mut again, &mut disk);
    assert_eq!(again.state().live_rows(), 1);
    assert!(matches!(again.read(&disk, lane, 0, u64::MAX), Ok(Read::Rotten(lost)) if lost == run));
    let after = put(&mut again, lane, &[vec![2]]).expect("room");
    assert!(after.first >= run.end() + (1 << 32), "and those are left out that nothing names");
}
