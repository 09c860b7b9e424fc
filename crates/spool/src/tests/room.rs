//! Order, bounds and failures, one by one.

use super::support::{SEGMENT, cut, cut_to, drain, lane, log, normal, put, put_with, recovered, settings, settle};
use crate::{Completion, Deadline, Log, NO_BATCH, NewCut, Origin, Reason, Refused, RowRun};
use forebay_runtime::seam::{Monotonic, WallMs};

#[test]
fn one_sync_covers_all_that_came_since_the_last() {
    let (mut log, mut disk) = log(8);
    let lane = lane(&mut log, "s", "t", 0);
    for n in 0..20u8 {
        put(&mut log, lane, &[vec![n]]).expect("room");
    }
    let group = log.group();
    assert!(log.durable() < group);
    settle(&mut log, &mut disk);
    assert!(log.durable() == group && log.group() > group);
    assert_eq!(disk.syncs_done, 1);
}

#[test]
fn a_cut_is_sent_only_when_it_is_on_the_disk_and_five_are_open_at_most() {
    let (mut log, mut disk) = log(8);
    let lane = lane(&mut log, "s", "t", 0);
    let run = put(&mut log, lane, &vec![vec![1]; 9]).expect("room");
    let one = |number: u64| RowRun { first: run.first + number, count: 1 };
    let (sent, group) = cut(&mut log, lane, 0, &[one(0)]).expect("a cut");
    assert!(log.durable() < group, "it is not on the disk");
    settle(&mut log, &mut disk);
    assert!(log.durable() >= group);
    for number in 1..5 {
        cut(&mut log, lane, 0, &[one(number)]).expect("a cut");
    }
    assert_eq!(cut(&mut log, lane, 0, &[one(5)]), Err(Refused::Window));
    log.done(sent, lane, &[one(0)], 40).expect("done");
    assert_eq!(log.done(sent, lane, &[one(0)], 40), Err(Refused::Unknown), "once");
    cut(&mut log, lane, 0, &[one(5)]).expect("a cut");
    for open in 1..6 {
        assert_eq!(cut(&mut log, lane, 1, &[one(6)]), Err(Refused::Identity));
        log.end_cut(open, lane, &[one(open)], Reason::Void).expect("ended");
    }
    cut(&mut log, lane, 1, &[one(6)]).expect("a cut of the next epoch");
    settle(&mut log, &mut disk);
    assert_eq!(log.state().lane(lane).expect("it").seek(0).expect("rows").run, RowRun { first: 1, count: 8 });
    let found = recovered(&disk);
    assert_eq!(found.uncertain().iter().map(|cut| (cut.head.cut, cut.head.epoch)).collect::<Vec<_>>(), [(6, 1)]);
    assert_eq!(found.uncut(lane), [RowRun { first: 1, count: 5 }, RowRun { first: 7, count: 2 }]);
}

#[test]
fn a_cut_that_is_no_batch_stands_beside_any_others() {
    let (mut log, mut disk) = log(8);
    let lane = lane(&mut log, "s", "t", 0);
    let run = put(&mut log, lane, &vec![vec![1]; 9]).expect("room");
    let one = |number: u64| RowRun { first: run.first + number, count: 1 };
    for number in 0..5 {
        cut(&mut log, lane, 0, &[one(number)]).expect("a cut");
    }
    let mut no_batch = |number: u64| {
        let (incarnation, partition, producer_id, epoch, sequence, timeless) = (0, 0, NO_BATCH, 0, 0, false);
        let rows = &[one(number)];
        log.cut(&NewCut { lane, incarnation, partition, producer_id, epoch, sequence, timeless, rows })
    };
    let (first, _) = no_batch(5).expect("a sixth");
    no_batch(6).expect("a seventh");
    settle(&mut log, &mut disk);
    let found = recovered(&disk);
    assert_eq!(normal(&found.state), normal(log.state()));
    let mut again = Log::new(settings(8, 2), found);
    for log in [&mut log, &mut again] {
        assert_eq!(cut(log, lane, 0, &[one(7)]), Err(Refused::Window));
        log.end_cut(first, lane, &[one(5)], Reason::Void).expect("ended");
        assert_eq!(cut(log, lane, 0, &[one(7)]), Err(Refused::Window), "it was none of the five");
        (0..5).for_each(|number| log.done(number, lane, &[one(number)], 0).expect("done"));
        cut(log, lane, 1, &[one(7)]).expect("another identity");
    }
}

#[test]
fn rows_of_any_lane_go_to_the_partition_that_the_cut_names() {
    let (mut log, mut disk) = log(8);
    let unplaced = lane(&mut log, "s", "t", crate::UNPLACED);
    let placed = lane(&mut log, "s", "t", 4);
    let many = put(&mut log, unplaced, &vec![vec![1]; 9]).expect("room");
    let run = put(&mut log, placed, &[vec![1]]).expect("room");
    let singles: Vec<RowRun> = (0..4).map(|n| RowRun { first: many.first + 2 * n, count: 1 }).collect();
    for single in &singles {
        cut_to(&mut log, unplaced, 4, 0, &[*single]).expect("a cut");
    }
    cut_to(&mut log, placed, 4, 0, &[run]).expect("the fifth of that partition");
    let next = [RowRun { first: 1, count: 1 }];
    assert_eq!(cut_to(&mut log, unplaced, 4, 0, &next), Err(Refused::Window), "whatever its lane");
    assert_eq!(cut_to(&mut log, unplaced, -1, 0, &next), Err(Refused::Unknown));
    cut_to(&mut log, unplaced, 5, 3, &next).expect("another partition has its own");
    settle(&mut log, &mut disk);
    let found = recovered(&disk);
    assert_eq!(normal(&found.state), normal(log.state()));
    assert_eq!(found.uncertain().iter().map(|cut| cut.head.partition).collect::<Vec<_>>(), [4, 4, 4, 4, 4, 5]);
    let mut again = Log::new(settings(8, 2), found);
    assert_eq!(cut_to(&mut again, placed, 4, 0, &[run]), Err(Refused::Window), "after a start too");
    again.done(0, unplaced, &singles[..1], 7).expect("done");
    cut_to(&mut again, placed, 4, 0, &[run]).expect("a place");
}

#[test]
fn a_failed_sync_is_final_and_the_group_goes_to_a_new_segment() {
    let (mut log, mut disk) = log(20);
    let lane = lane(&mut log, "s", "t", 0);
    put(&mut log, lane, &[vec![1]]).expect("room");
    settle(&mut log, &mut disk);
    let (old, end) = log.last.expect("a segment");
    for (syncs, appends) in [(1, 0), (0, 1), (2, 0), (0, 2)] {
        (disk.fail_syncs, disk.fail_appends) = (syncs, appends);
        put(&mut log, lane, &[vec![2]]).expect("room");
        let (group, before) = (log.group(), log.trouble().failures);
        log.flush(&mut disk, Monotonic(0), WallMs(0));
        while log.trouble().failures == before {
            let answer = disk.answer().expect("an answer");
            log.complete(&mut disk, answer);
            assert!(log.durable() < group);
        }
        settle(&mut log, &mut disk);
        assert!(log.durable() >= group);
        assert_eq!(log.trouble().failures, before + u64::from(syncs + appends));
    }
    assert!(log.last.expect("a segment").0 > old && log.state().segments[&old].end == end);
    assert_eq!(drain(&mut log, &disk).0.len(), 5);
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

/// Fills the log, and returns the refusal.
fn fill(log: &mut Log, disk: &mut crate::simulated::SimDisk, lane: u64, size: usize) -> (Refused, u64) {
    for rows in 0..100_000 {
        match put(log, lane, &[vec![7; size]]) {
            Ok(_) => {}
            Err(Refused::Busy) => settle(log, disk),
            Err(other) => return (other, rows),
        }
    }
    panic!("it is never full");
}

#[test]
fn a_full_log_takes_no_rows_and_drains_with_cuts_as_small_as_its_rows() {
    let (mut log, mut disk) = log(10);
    let lane = lane(&mut log, "s", "t", 0);
    let (why, _) = fill(&mut log, &mut disk, lane, 1);
    assert_eq!(why, Refused::Full);
    assert_eq!(log.session(None, &[1; 200]), Err(Refused::Full));
    settle(&mut log, &mut disk);
    let rows = drain(&mut log, &disk).0.len() as u64;
    assert!(rows > 300, "{rows}");
    for number in 0..rows {
        let run = [RowRun { first: number, count: 1 }];
        let (cut, group) = cut(&mut log, lane, 0, &run).expect("the reserve is for this");
        settle(&mut log, &mut disk);
        assert!(log.durable() >= group);
        log.done(cut, lane, &run, 0).expect("the reserve is for this");
        log.released(5, 6).expect("the reserve is for this");
        settle(&mut log, &mut disk);
        assert!(disk.found().len() <= 10, "more segments than there may be");
    }
    assert!(drain(&mut log, &disk).0.is_empty());
    put(&mut log, lane, &[vec![1]]).expect("room again");
}

#[test]
fn a_dead_topic_holds_its_rows_and_not_the_disk() {
    let (mut log, mut disk) = log(12);
    let dead = lane(&mut log, "dead", "t", 0);
    let live = lane(&mut log, "live", "t", 0);
    log.session(Some(9), b"kept").expect("room");
    let (mut flowed, mut expected) = (0, Vec::new());
    while flowed < 3 * 12 * SEGMENT {
        // A few rows in every segment: without moves, they would keep all of them.
        if flowed >= expected.len() as u64 * (SEGMENT / 2) {
            let value = vec![expected.len() as u8; 100];
            put(&mut log, dead, std::slice::from_ref(&value)).expect("room");
            expected.push(value);
        }
        let run = put(&mut log, live, &[vec![1; 900]]).expect("the others notice nothing");
        flowed += 900;
        settle(&mut log, &mut disk);
        log.end_rows(live, &[run], Reason::Expired).expect("ended");
        settle(&mut log, &mut disk);
        assert!(disk.found().len() <= 12);
    }
    let found: Vec<_> = drain(&mut log, &disk).0.into_values().collect();
    assert_eq!(found, expected, "in order, once each");
    assert_eq!(log.read_session(&disk, 9).expect("a read"), Some(&b"kept"[..]));
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

#[test]
fn a_sink_holds_no_more_than_its_share() {
    let mut given = settings(12, 1);
    given.sink_bytes_max = SEGMENT;
    let (mut log, mut disk) = (Log::new(given, Default::default()), crate::simulated::SimDisk::default());
    let greedy = lane(&mut log, "greedy", "t", 0);
    assert_eq!(fill(&mut log, &mut disk, greedy, 100).0, Refused::SinkFull);
    let other = lane(&mut log, "other", "t", 0);
    put(&mut log, other, &[vec![1]]).expect("room");
}

#[test]
fn sessions_and_open_ids_are_there_after_a_restart_until_they_are_released() {
    let (mut log, mut disk) = log(8);
    let lanes = [lane(&mut log, "a", "t", 0), lane(&mut log, "b", "t", 0)];
    assert_eq!(
        [log.session(None, b"zero"), log.session(None, b"one"), log.session(None, b"two")],
        [Ok(0), Ok(1), Ok(2)]
    );
    for lane in lanes {
        let of = |session, packet_id| Origin { session, packet_id };
        let origins = [(0, of(1, 10)), (1, of(2, 11)), (2, of(77, 1))];
        put_with(&mut log, lane, &[vec![1], vec![2], vec![3]], &origins, &[]).expect("room");
    }
    log.session(Some(1), b"one, changed").expect("room");
    log.released(2, 11).expect("taken");
    log.end_rows(lanes[0], &[RowRun { first: 0, count: 1 }], Reason::Expired).expect("taken");
    settle(&mut log, &mut disk);
    let (mut again, mut disk_again) = (Log::new(settings(8, 2), recovered(&disk)), disk.clone());
    settle(&mut again, &mut disk_again);
    assert_eq!(again.read_session(&disk_again, 1).expect("a read"), Some(&b"one, changed"[..]));
    let rows = [(lanes[0], 0), (lanes[1], 0)];
    assert_eq!(again.state().open_ids().collect::<Vec<_>>(), [(1, 10, &rows[..])], "of 77 nothing: it is not kept");
    assert_eq!(rows.map(|(lane, number)| again.state().lane(lane).expect("it").lives(number)), [false, true]);
    assert_eq!(again.session(None, b"three"), Ok(3));
    log.session_ended(1).expect("taken");
    settle(&mut log, &mut disk);
    let found = recovered(&disk);
    assert_eq!((found.state.sessions().count(), found.state.open_ids().count()), (2, 0));
}

#[test]
fn too_many_lanes_are_refused_before_a_checkpoint_fills_a_segment() {
    let (mut log, mut disk) = log(8);
    let refused = (0..10_000).find_map(|n| {
        settle(&mut log, &mut disk);
        let sink = log.sink("sink");
        log.lane(sink, &format!("topic-{n}"), 0, false).and_then(|lane| put(&mut log, lane, &[vec![1]])).err()
    });
    assert_eq!(refused, Some(Refused::TooMany));
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

/// D3: entries that make room wait for nothing, and never after entries that do not.
#[test]
fn where_rows_are_refused_for_their_account_cuts_and_all_ends_are_taken() {
    let (mut log, mut disk) = log(8);
    let (mut lanes, mut refused) = (Vec::new(), None);
    while refused.is_none() {
        settle(&mut log, &mut disk);
        let sink = log.sink("sink");
        let lane = log.lane(sink, &format!("topic-{}", lanes.len()), 0, false);
        match lane.and_then(|lane| put(&mut log, lane, &[vec![1], vec![2], vec![3]]).map(|run| (lane, run))) {
            Ok(taken) => lanes.push(taken),
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused, Some(Refused::TooMany));
    settle(&mut log, &mut disk);
    let account = log.state().account();
    let row = |run: RowRun, n| RowRun { first: run.first + n, count: 1 };
    for (lane, run) in &lanes {
        // A hole, which costs account, precedes a done, which frees some.
        log.end_rows(*lane, &[row(*run, 1)], Reason::Expired).expect("ends are taken");
        let (number, _) = cut(&mut log, *lane, 0, &[row(*run, 0)]).expect("cuts are taken");
        log.done(number, *lane, &[row(*run, 0)], 1).expect("dones are taken");
        let (number, _) = cut(&mut log, *lane, 0, &[row(*run, 2)]).expect("cuts are taken");
        log.end_cut(number, *lane, &[row(*run, 2)], Reason::Refused).expect("ends are taken");
        settle(&mut log, &mut disk);
    }
    assert!(log.state().live_rows() == 0 && log.state().account() < account);
    let lane = lane(&mut log, "sink", "another", 0);
    put(&mut log, lane, &[vec![1]]).expect("and there is room again");
    settle(&mut log, &mut disk);
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

/// Sessions have filled the state: progress of some that is new still finds room, and after that each change of what is there.
#[test]
fn finding_q8_a_log_with_a_full_state_takes_progress_and_changes() {
    let (mut log, mut disk) = log(8);
    let mut kept = Vec::new();
    while log.room_of_session(0) > 0 {
        kept.push(log.session(None, b"before").expect("room"));
        settle(&mut log, &mut disk);
    }
    let sessions = kept.len();
    while log.room_of_progress(0) > 0 {
        kept.push(log.session(None, b"before").expect("room"));
        settle(&mut log, &mut disk);
    }
    assert!(kept.len() > sessions + sessions / 20, "{sessions} of {}", kept.len());
    assert_eq!((log.session(None, b"new"), log.capacity(0) > 0), (Err(Refused::TooMany), true));
    let account = log.state().account();
    for of in kept {
        assert!(log.room_of_change() > 0);
        assert_eq!(log.session(Some(of), b"after"), Ok(of));
        settle(&mut log, &mut disk);
    }
    assert_eq!(log.state().account(), account);
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

#[test]
fn lanes_that_nothing_needs_leave_room_though_no_rows_come_to_fill_the_segment() {
    let (mut log, mut disk) = log(8);
    for n in 0..2_000 {
        let sink = log.sink("sink");
        let topic = format!("topic-{n}-{}", "long".repeat(50));
        log.lane(sink, &topic, 0, false).expect("the idle ones go");
        settle(&mut log, &mut disk);
        assert!(log.space() > 0, "after {n}");
        assert!(disk.found().len() <= 4, "{}", disk.found().len());
    }
    let groups = log.group();
    (0..5).for_each(|_| settle(&mut log, &mut disk));
    assert_eq!(log.group(), groups, "nothing more is written");
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

#[test]
fn what_holds_the_segments_is_moved_after_a_start_though_nothing_comes() {
    let (_, mut disk) = log(8);
    for session in 0..4_u8 {
        let mut log = Log::new(settings(8, 2), recovered(&disk));
        log.session(None, &[session; 100]).expect("room");
        let group = log.group();
        while log.durable() < group {
            log.flush(&mut disk, Monotonic(1), WallMs(7));
            let answer = disk.answer().expect("one");
            log.complete(&mut disk, answer);
        }
        // The process ends before anything can be moved.
        while disk.answer().is_some() {}
    }
    let mut log = Log::new(settings(8, 2), recovered(&disk));
    settle(&mut log, &mut disk);
    assert!(log.space() > 0, "{:?}", disk.found().keys());
    assert_eq!(log.state().sessions().count(), 4);
}

#[test]
fn a_deadline_after_a_restart_is_never_later_than_what_was_left() {
    let deadline = Deadline { wall_ms: 10_000, left_ms: 4_000 };
    assert_eq!([7_000, 9_999, 10_001, -50_000].map(|now| deadline.left_ms(now)), [3_000, 1, 0, 4_000]);
}

#[test]
fn a_completion_that_nobody_waits_for_changes_nothing() {
    let (mut log, mut disk) = log(8);
    log.complete(&mut disk, Completion::Synced { token: 99, ok: true });
    assert!(log.is_idle());
}
