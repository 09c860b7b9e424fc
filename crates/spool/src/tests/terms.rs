//! Lanes that come and go, ended sinks, dropped rows, reads, and a failing disk.

use super::support::{
    SEGMENT, cut, cut_to, drain, drain_state, lane, log, normal, put, put_with, recovered, settings, settle, value,
};
use crate::simulated::SimDisk;
use crate::{
    Deadline, HEADER_BYTES, Log, Origin, Read, ReadError, Reason, Recovered, Refused, RowRun, RowSet, Settings,
};
use forebay_runtime::seam::{Monotonic, WallMs};

/// Puts rows and ends them until `segments` more segments have been begun.
fn flow(log: &mut Log, disk: &mut SimDisk, lane: u64, segments: u64) {
    let until = log.last.map_or(0, |(last, _)| last) + segments;
    while log.last.is_none_or(|(last, _)| last < until) {
        let run = put(log, lane, &[vec![1; 900]]).expect("room");
        settle(log, disk);
        log.end_rows(lane, &[run], Reason::Expired).expect("taken");
        settle(log, disk);
    }
}

#[test]
fn lanes_without_rows_are_retired_and_their_numbers_are_not_used_again() {
    let (mut log, mut disk) = log(10);
    let busy = lane(&mut log, "s", "busy", 0);
    log.session(None, b"client").expect("room");
    let [cut_open, id_open, live] = ["cut", "id", "live"].map(|topic| lane(&mut log, "s", topic, 0));
    let origin = [(0, Origin { session: 0, packet_id: 4 })];
    let row = put(&mut log, cut_open, &[vec![1]]).expect("room");
    cut(&mut log, cut_open, 0, &[row]).expect("a cut");
    let row = put_with(&mut log, id_open, &[vec![1]], &origin, &[]).expect("room");
    log.end_rows(id_open, &[row], Reason::Expired).expect("taken");
    put(&mut log, live, &[vec![9]]).expect("room");
    let mut last = 0;
    for topic in 0..60 {
        let gone = lane(&mut log, "s", &format!("gone-{}", topic % 20), 0);
        assert!(gone > last || topic < 1, "{gone} was another's");
        last = gone;
        let run = put(&mut log, gone, &[vec![1]]).expect("room");
        log.end_rows(gone, &[run], Reason::Expired).expect("taken");
        flow(&mut log, &mut disk, busy, 1);
        assert!(log.state().lanes().count() < 10, "{:?}", log.state().lanes().count());
        assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
    }
    assert!(last >= 60);
    let kept: Vec<u64> = log.state().lanes().map(|(number, _)| number).collect();
    assert!([cut_open, id_open, live].iter().all(|lane| kept.contains(lane)), "{kept:?}");
    assert_eq!(lane(&mut log, "s", "live", 0), live);
    let again = Log::new(settings(10, 2), recovered(&disk));
    assert!(again.ahead.next_lane > last);
}

#[test]
fn finding_u6_a_start_forgets_the_lanes_that_nothing_needs() {
    let (mut log, mut disk) = log(10);
    let [live, cut_open] = ["live", "cut"].map(|topic| lane(&mut log, "s", topic, 0));
    put(&mut log, live, &[vec![9]]).expect("room");
    let row = put(&mut log, cut_open, &[vec![1]]).expect("room");
    cut(&mut log, cut_open, 0, &[row]).expect("a cut");
    settle(&mut log, &mut disk);
    for topic in 0..9 {
        let idle = lane(&mut log, "s", &format!("gone-{topic}"), 0);
        let run = put(&mut log, idle, &[vec![1]]).expect("room");
        log.end_rows(idle, &[run], Reason::Expired).expect("taken");
        settle(&mut log, &mut disk);
    }
    assert_eq!(log.state().lanes().count(), 11);
    for start in 0..3 {
        log = Log::new(settings(10, 2 + start), recovered(&disk));
        settle(&mut log, &mut disk);
        log.forget_idle_lanes();
        let used = lane(&mut log, "s", "gone-7", 0);
        put(&mut log, live, &[vec![9]]).expect("room");
        settle(&mut log, &mut disk);
        let left: Vec<u64> = log.state().lanes().map(|(number, _)| number).collect();
        assert_eq!(left, [live, cut_open, used], "start {start}");
        assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
    }
}

#[test]
fn a_sink_is_ended_with_its_cuts_and_no_other() {
    let (mut log, mut disk) = log(10);
    let (hybrid, other) = (lane(&mut log, "hybrid", "t", 0), lane(&mut log, "other", "t", 0));
    for lane in [hybrid, other] {
        let run = put(&mut log, lane, &[vec![1], vec![2], vec![3]]).expect("room");
        cut(&mut log, lane, 0, &[RowRun { count: 1, ..run }]).expect("a cut");
    }
    settle(&mut log, &mut disk);
    let mut log = Log::new(settings(10, 2), recovered(&disk));
    settle(&mut log, &mut disk);
    let sink = log.sink("hybrid");
    log.discard_sink(sink).expect("taken");
    let run = put(&mut log, hybrid, &[vec![4]]).expect("room");
    cut(&mut log, hybrid, 7, &[run]).expect("its window is free");
    assert_eq!(cut(&mut log, other, 7, &[RowRun { first: 2, count: 1 }]), Err(Refused::Identity));
    settle(&mut log, &mut disk);
    for state in [log.state().clone(), recovered(&disk).state] {
        assert_eq!(state.lane(hybrid).expect("it").rows(), 1);
        assert_eq!(state.lane(other).expect("it").rows(), 3);
        assert_eq!(state.cuts().map(|cut| cut.head.cut).collect::<Vec<_>>(), [1, 2]);
    }
    assert_eq!(log.done(0, hybrid, &[RowRun { first: 0, count: 1 }], 0), Err(Refused::Unknown));
}

#[test]
fn the_oldest_rows_are_dropped_and_only_those_that_may_be() {
    let (mut log, mut disk) = log(12);
    let (a, b, other) = (lane(&mut log, "s", "a", 0), lane(&mut log, "s", "b", 0), lane(&mut log, "kept", "a", 0));
    for n in 0..60u8 {
        for lane in [a, b, other] {
            put(&mut log, lane, &[vec![n; 200]]).expect("room");
        }
        settle(&mut log, &mut disk);
    }
    let oldest = log.state().lane(a).expect("it").seek(0).expect("rows").segment;
    let allowed: RowSet = [(a, RowRun { first: 4, count: 1_000 })].into_iter().collect();
    let dropped = log.drop_oldest(&allowed).expect("taken");
    let [(lane, &[run])] = dropped.lanes().collect::<Vec<_>>()[..] else { panic!("{dropped:?}") };
    assert_eq!((lane, run.first), (a, 4));
    assert_eq!(log.drop_oldest(&allowed), Ok(RowSet::default()), "not twice while it is under way");
    settle(&mut log, &mut disk);
    let seek = |log: &Log, lane, number| log.state().lane(lane).expect("it").seek(number).expect("rows");
    assert!(seek(&log, a, 4).segment > oldest && seek(&log, a, 4).run.first == run.end());
    assert_eq!(
        [seek(&log, a, 0).run.count, seek(&log, b, 0).segment, seek(&log, other, 0).segment],
        [4, oldest, oldest]
    );
    let more = log.drop_oldest(&allowed).expect("taken");
    assert_eq!(more.lanes().next().expect("a lane").1[0].first, run.end(), "the next oldest");
    settle(&mut log, &mut disk);
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

#[test]
fn rows_come_back_with_all_that_was_said_of_them_and_a_read_may_have_to_wait() {
    let (mut log, mut disk) = log(12);
    log.session(None, b"client").expect("room");
    let (one, two) = (lane(&mut log, "s", "a", 0), lane(&mut log, "s", "b", 0));
    let (origin, deadline) = (Origin { session: 0, packet_id: 8 }, Deadline { wall_ms: 77, left_ms: 5 });
    for n in 0..50u8 {
        let values: Vec<Vec<u8>> = (0..5).map(|m| vec![n * 5 + m; 20]).collect();
        put_with(&mut log, one, &values, &[(2, origin)], &[(1, deadline), (4, deadline)]).expect("room");
        put(&mut log, two, &[vec![0; 300]]).expect("room");
        settle(&mut log, &mut disk);
    }
    // The ended rows may be moved or not, in whole blocks or parts of them.
    let gone: Vec<RowRun> = (0..50).map(|block| RowRun { first: block * 5 + block % 5, count: 1 }).collect();
    log.end_rows(one, &gone, Reason::Expired).expect("taken");
    flow(&mut log, &mut disk, two, 30);
    let (mut at, mut seen, mut waited) = (3, 3, 0);
    loop {
        disk.reads_later.set(u32::from(waited % 2 == 0));
        let rows = match log.read(&disk, one, at, 201) {
            Err(ReadError::Later) => {
                waited += 1;
                continue;
            }
            Ok(Read::Block(block)) => block,
            Ok(Read::Empty) => break,
            other => panic!("{other:?}"),
        };
        waited += 1;
        for row in rows.rows() {
            let (block, index) = (row.number / 5, row.number % 5);
            while seen < row.number {
                assert_eq!(seen % 5, (seen / 5) % 5, "{seen} is missing");
                seen += 1;
            }
            seen += 1;
            assert_ne!(index, block % 5, "{} has ended", row.number);
            assert_eq!(value(row.record.tail), [row.number as u8; 20]);
            assert_eq!(row.hash, Some(index as u32 ^ 7));
            assert_eq!(row.origin, (index == 2).then_some(origin));
            assert_eq!(row.deadline, (index == 1 || index == 4).then_some(deadline));
            at = row.number + 1;
        }
    }
    assert_eq!((seen, at), (199, 199), "up to the end that was asked for (199 and 200 have ended)");
    assert!(waited > 10);
}

#[test]
fn rows_that_are_moved_do_not_open_their_packet_ids_again() {
    let (mut log, mut disk) = log(8);
    log.session(None, b"client").expect("room");
    let (dead, live) = (lane(&mut log, "dead", "t", 0), lane(&mut log, "live", "t", 0));
    for packet_id in 0..8 {
        let origin = [(1, Origin { session: 0, packet_id })];
        put_with(&mut log, dead, &[vec![1; 50], vec![2; 50]], &origin, &[]).expect("room");
    }
    settle(&mut log, &mut disk);
    let first = log.state().lane(dead).expect("it").seek(0).expect("rows").segment;
    (0..4).for_each(|packet_id| log.released(0, packet_id).expect("taken"));
    flow(&mut log, &mut disk, live, 12);
    let spans: Vec<u64> = log.state().lane(dead).expect("it").spans().map(|span| span.segment).collect();
    assert!(spans.iter().all(|segment| *segment > first), "they were moved: {spans:?}");
    for state in [log.state(), &recovered(&disk).state] {
        let open: Vec<_> = state.open_ids().map(|(_, packet_id, rows)| (packet_id, rows.to_vec())).collect();
        let expected: Vec<_> = (4..8).map(|id| (id, vec![(dead, u64::from(id) * 2 + 1)])).collect();
        assert_eq!(open, expected);
    }
}

#[test]
fn moves_wait_for_a_disk_that_has_to_be_asked() {
    let (mut log, mut disk) = log(8);
    let (dead, live) = (lane(&mut log, "dead", "t", 0), lane(&mut log, "live", "t", 0));
    let mut taken = 0;
    for turn in 0..600u64 {
        disk.reads_later.set((turn % 3) as u32);
        if taken < 20 && turn % 10 == 0 && put(&mut log, dead, &[vec![taken; 100]]).is_ok() {
            taken += 1;
        }
        if let Ok(run) = put(&mut log, live, &[vec![1; 900]]) {
            settle(&mut log, &mut disk);
            log.end_rows(live, &[run], Reason::Expired).expect("taken");
        }
        settle(&mut log, &mut disk);
    }
    assert!(log.last.expect("a segment").0 > 30, "it flows");
    disk.reads_later.set(0);
    let found: Vec<_> = drain(&mut log, &disk).0.into_values().collect();
    assert_eq!(found, (0..20).map(|n| vec![n; 100]).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_refuses_is_asked_again_ever_more_seldom() {
    let (mut log, mut disk) = log(8);
    disk.fail_creates = 6;
    let lane = lane(&mut log, "s", "t", 0);
    put(&mut log, lane, &[vec![1]]).expect("room");
    let (mut asked, mut now) = (Vec::new(), 0);
    while log.durable() == 0 {
        now += 10;
        assert!(now < 100_000, "it gives up");
        let before = disk.creates;
        log.flush(&mut disk, Monotonic(now * 1_000_000), WallMs(0));
        asked.extend((disk.creates > before).then_some(now));
        while let Some(answer) = disk.answer() {
            log.complete(&mut disk, answer);
        }
        assert!(log.trouble().in_a_row <= 6);
    }
    let gaps: Vec<u64> = asked.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(gaps[1..5].windows(2).all(|two| two[1] >= two[0] * 2 - 20) && gaps[5] < 1_000, "{gaps:?}");
    assert_eq!((log.trouble().failures, log.trouble().in_a_row), (6, 0));

    // Syncs fail for a while: there is at most one attempt per time-out, and nothing is lost.
    disk.fail_syncs = 5;
    put(&mut log, lane, &[vec![2]]).expect("room");
    let group = log.group();
    for _ in 0..100_000 {
        now += 10;
        log.flush(&mut disk, Monotonic(now * 1_000_000), WallMs(0));
        while let Some(answer) = disk.answer() {
            log.complete(&mut disk, answer);
        }
    }
    assert!(log.durable() >= group && log.trouble().failures == 11);
    assert_eq!(drain(&mut log, &disk).0.len(), 2);
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

#[test]
fn failed_syncs_on_a_full_disk_do_not_stop_the_drain() {
    for failures in 1..6 {
        let (mut log, mut disk) = log(9);
        let lane = lane(&mut log, "s", "t", 0);
        let mut runs = Vec::new();
        loop {
            match put(&mut log, lane, &[vec![7; 500]]) {
                Ok(run) => runs.push(run),
                Err(Refused::Busy) => settle(&mut log, &mut disk),
                Err(_) => break,
            }
        }
        disk.fail_syncs = failures;
        for run in runs {
            let (cut, group) = cut(&mut log, lane, 0, &[run]).expect("the reserve is for this");
            settle(&mut log, &mut disk);
            assert!(log.durable() >= group, "{failures} failures: the log stands still");
            log.done(cut, lane, &[run], 0).expect("the reserve is for this");
            settle(&mut log, &mut disk);
            disk.fail_syncs = u32::from(run.first % 7 == 0);
        }
        disk.fail_syncs = 0;
        settle(&mut log, &mut disk);
        assert!(drain(&mut log, &disk).0.is_empty());
    }
}

#[test]
fn rows_with_holes_are_taken_and_drain() {
    let (mut log, mut disk) = log(30);
    let lane = lane(&mut log, "s", "t", crate::UNPLACED);
    let mut rows = 0;
    while rows < 4_000 {
        match put(&mut log, lane, &vec![vec![1]; 20]) {
            Ok(run) => rows = run.end(),
            Err(Refused::Busy) => settle(&mut log, &mut disk),
            Err(other) => panic!("{other}"),
        }
    }
    settle(&mut log, &mut disk);
    // Every other row goes to partition 0; the others' partition is dead.
    let (mut open, mut refused, mut at) = (std::collections::VecDeque::new(), 0, 0);
    while at < rows && refused < 50 {
        let batch: Vec<RowRun> = (0..10).map(|n| RowRun { first: at + 2 * n, count: 1 }).collect();
        match cut(&mut log, lane, 0, &batch) {
            Ok((cut, _)) => {
                open.push_back((cut, batch));
                (at, refused) = (at + 20, 0);
            }
            Err(Refused::Window | Refused::Busy) => refused += 1,
            Err(other) => panic!("{other}"),
        }
        settle(&mut log, &mut disk);
        if open.len() == 5 || refused > 0 {
            if let Some((cut, batch)) = open.pop_front() {
                log.done(cut, lane, &batch, 0).expect("never refused for good");
            }
            settle(&mut log, &mut disk);
        }
    }
    assert!(refused < 50 && at >= rows, "cuts and their ends are always taken, holes or not: {at}");
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
    // The dead partition is back: the remaining rows go in order, despite the holes.
    let mut log = Log::new(settings(30, 3), recovered(&disk));
    settle(&mut log, &mut disk);
    let mut next = 0;
    while let Some(span) = log.state().lane(lane).expect("it").seek(next) {
        next = span.run.end();
        let (cut, group) = cut_to(&mut log, lane, 1, 0, &[span.run]).expect("with none open it is taken");
        settle(&mut log, &mut disk);
        assert!(log.durable() >= group);
        log.done(cut, lane, &[span.run], 0).expect("taken");
        settle(&mut log, &mut disk);
    }
    put(&mut log, lane, &[vec![1]]).expect("room again");
}

#[test]
fn a_start_reads_two_segments_at_most_and_says_what_is_gone() {
    let mut given = settings(30, 1);
    given.sink_bytes_max = u64::MAX;
    let (mut log, mut disk) = (Log::new(given, Recovered::default()), SimDisk::default());
    let lane = lane(&mut log, "s", "t", 0);
    while log.last.is_none_or(|(last, _)| last < 12) {
        put(&mut log, lane, &[vec![1; 900]]).expect("room");
        settle(&mut log, &mut disk);
    }
    let (newest, before) = (log.last.expect("one").0, log.chain.complete[1].expect("one"));
    let read = |disk: &SimDisk| {
        disk.read.borrow_mut().clear();
        let found = recovered(disk);
        let read: Vec<u64> =
            disk.read.borrow().iter().filter(|(_, bytes)| **bytes > SEGMENT / 2).map(|(segment, _)| *segment).collect();
        (found, read)
    };
    assert_eq!(read(&disk).1, [newest]);
    let mut hurt = disk.clone();
    hurt.bytes(newest)[HEADER_BYTES + 16] ^= 1;
    let (found, of) = read(&hurt);
    assert_eq!((of, found.predecessor_missing), (vec![before, newest], None));
    disk.lose(before);
    let (found, of) = read(&disk);
    assert_eq!((of, found.predecessor_missing), (vec![newest], Some(before)));
    assert!(!found.missing.is_empty(), "its rows");
    let mut again = Log::new(settings(30, 1), found);
    settle(&mut again, &mut disk);
    hurt.lose(before);
    let found = recovered(&hurt);
    assert_eq!(
        (found.fate_open, found.predecessor_missing),
        (true, Some(before)),
        "an older one stands in; that is told"
    );
}

/// The checkpoint of the newest segment is damaged and the segment before it is gone, so an older checkpoint is used: the log goes on
/// with what was found, including all groups of the newest segment.
#[test]
fn what_comes_behind_a_missing_segment_is_recovered() {
    let (mut log, mut disk) = log(30);
    let lane = lane(&mut log, "s", "t", 0);
    while log.last.is_none_or(|(last, _)| last < 12) {
        put(&mut log, lane, &[vec![1; 900]]).expect("room");
        settle(&mut log, &mut disk);
    }
    for value in 2..6 {
        put(&mut log, lane, &[vec![value; 900]]).expect("room");
        settle(&mut log, &mut disk);
    }
    let (newest, before) = (log.last.expect("one").0, log.chain.complete[1].expect("one"));
    disk.bytes(newest)[HEADER_BYTES + 16] ^= 1;
    disk.lose(before);
    let found = recovered(&disk);
    let (rows, _) = drain_state(&found.state, &disk);
    assert!((2..6).all(|value| rows.values().any(|row| row[0] == value)), "they can be read");
    let mut again = Log::new(settings(30, 1), found);
    settle(&mut again, &mut disk);
    assert_eq!(drain(&mut again, &disk).0, rows);
}

#[test]
fn the_same_seed_at_the_next_start_gives_other_salts() {
    let (mut log, mut disk) = log(10);
    let mut salts = Vec::new();
    for _ in 0..4 {
        let lane = lane(&mut log, "s", "t", 0);
        put(&mut log, lane, &[vec![1; 900]]).expect("room");
        settle(&mut log, &mut disk);
        salts.extend(log.state().segments.values().map(|held| held.salt));
        log = Log::new(settings(10, 1), recovered(&disk));
    }
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), 4);
}

#[test]
fn a_turn_within_the_room_that_was_said_is_taken() {
    let settings = Settings { sink_bytes_max: 40_000, ..settings(10, 1) };
    let (mut log, mut disk) = (Log::new(settings, Recovered::default()), SimDisk::default());
    let lane = lane(&mut log, "s", "t", 0);
    let (sink, mut full) = (log.sink("s"), 0);
    for turn in 0..2_000u64 {
        let room = log.room().min(log.sink_room(sink));
        let mut left = room;
        while left >= 400 {
            match put(&mut log, lane, &[vec![1; 300]]) {
                Ok(_) => left -= 400,
                Err(refused) => {
                    assert_eq!(refused, Refused::Busy, "turn {turn}, room {room}, left {left}");
                    break;
                }
            }
        }
        full += u32::from(room < 400);
        settle(&mut log, &mut disk);
        if turn % 40 == 39 {
            let gone: Vec<RowRun> = log.state().lane(lane).expect("it").spans().map(|span| span.run).collect();
            log.end_rows(lane, &gone, Reason::Expired).expect("taken");
            settle(&mut log, &mut disk);
        }
    }
    assert!(full > 100, "it was full at times: {full}");
}

#[test]
fn starts_that_end_before_their_first_group_leave_no_segments_behind() {
    let (mut log, mut disk) = log(8);
    let lane = lane(&mut log, "s", "t", 0);
    put(&mut log, lane, &[vec![1]]).expect("room");
    settle(&mut log, &mut disk);
    for _ in 0..20 {
        log = Log::new(settings(8, 2), recovered(&disk));
        settle(&mut log, &mut disk);
        assert!(disk.found().len() <= 4, "{:?}", disk.found().keys());
    }
    put(&mut log, lane, &[vec![2]]).expect("room");
    let group = log.group();
    settle(&mut log, &mut disk);
    assert!(log.durable() >= group);
    assert_eq!(drain(&mut log, &disk).0.len(), 2);
}
