//! Order, bounds and failures, one by one.

use super::support::{SEGMENT, batch, drain, log, new_cut, normal, recovered, settings, settle};
use crate::spool::{Completion, Deadline, Log, Origin, Reason, Refused, Run};

#[test]
fn one_sync_covers_all_that_came_since_the_last() {
    let (mut log, mut disk) = log(8);
    let lane = log.lane("s", "t", 0).expect("a lane");
    let tickets: Vec<_> = (0..20u8).map(|n| log.rows(lane, &batch(&[vec![n]]), &[], &[]).expect("room").1).collect();
    assert!(tickets.iter().all(|ticket| !log.is_durable(*ticket)));
    settle(&mut log, &mut disk);
    assert!(tickets.iter().all(|ticket| log.is_durable(*ticket)));
    assert_eq!(disk.syncs_done, 1);
}

#[test]
fn a_cut_is_sent_only_when_it_is_on_the_disk_and_five_are_open_at_most() {
    let (mut log, mut disk) = log(8);
    let lane = log.lane("s", "t", 0).expect("a lane");
    let (run, _) = log.rows(lane, &batch(&vec![vec![1]; 9]), &[], &[]).expect("room");
    let cut = |log: &mut Log, number: u64, epoch| {
        log.cut(new_cut(lane, epoch, &[Run { first: run.first + number, count: 1 }]))
    };
    let staged = cut(&mut log, 0, 0).expect("a cut");
    let staged = log.sendable(staged).expect_err("it is not on the disk");
    settle(&mut log, &mut disk);
    let sent = log.sendable(staged).expect("it is on the disk");
    for number in 1..5 {
        let _ = cut(&mut log, number, 0).expect("a cut");
    }
    assert_eq!(cut(&mut log, 5, 0), Err(Refused::Window));
    log.done(sent.number(), 40).expect("done");
    let _ = cut(&mut log, 5, 0).expect("a cut");
    for open in 1..6 {
        assert_eq!(cut(&mut log, 6, 1), Err(Refused::Identity));
        log.end_cut(open, Reason::CutAnew).expect("ended");
    }
    let _ = cut(&mut log, 6, 1).expect("a cut of the next epoch");
    settle(&mut log, &mut disk);
    assert_eq!(log.state().lane(lane).expect("it").seek(0).expect("rows").run, Run { first: 1, count: 8 });
    let found = recovered(&disk);
    assert_eq!(found.uncertain().iter().map(|cut| (cut.cut, cut.epoch)).collect::<Vec<_>>(), [(6, 1)]);
    assert_eq!(found.uncut(lane), [Run { first: 1, count: 5 }, Run { first: 7, count: 2 }]);
}

#[test]
fn unplaced_rows_are_not_cut() {
    let (mut log, _) = log(8);
    let lane = log.lane("s", "t", crate::spool::UNPLACED).expect("a lane");
    let (run, _) = log.rows(lane, &batch(&[vec![1]]), &[], &[]).expect("room");
    assert_eq!(log.cut(new_cut(lane, 0, &[run])), Err(Refused::Unknown));
}

#[test]
fn a_failed_sync_is_final_and_the_group_goes_to_a_new_segment() {
    let (mut log, mut disk) = log(20);
    let lane = log.lane("s", "t", 0).expect("a lane");
    log.rows(lane, &batch(&[vec![1]]), &[], &[]).expect("room");
    settle(&mut log, &mut disk);
    let (old, end) = log.last.expect("a segment");
    for (syncs, appends) in [(1, 0), (0, 1), (2, 0), (0, 2)] {
        (disk.fail_syncs, disk.fail_appends) = (syncs, appends);
        let (_, ticket) = log.rows(lane, &batch(&[vec![2]]), &[], &[]).expect("room");
        let before = log.failures();
        log.flush(&mut disk, 0);
        while log.failures() == before {
            let answer = disk.answer().expect("an answer");
            log.complete(&mut disk, answer);
            assert!(!log.is_durable(ticket));
        }
        settle(&mut log, &mut disk);
        assert!(log.is_durable(ticket));
        assert_eq!(log.failures(), before + u64::from(syncs + appends));
    }
    assert!(log.last.expect("a segment").0 > old && log.state().segments[&old].end == end);
    assert_eq!(drain(&log, &disk).0.len(), 5);
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

/// Fills it, and says with what it was refused.
fn fill(log: &mut Log, disk: &mut crate::spool::simulated::SimDisk, lane: u32, size: usize) -> (Refused, u64) {
    for rows in 0..100_000 {
        match log.rows(lane, &batch(&[vec![7; size]]), &[], &[]) {
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
    let lane = log.lane("s", "t", 0).expect("a lane");
    let (why, _) = fill(&mut log, &mut disk, lane, 1);
    assert_eq!(why, Refused::Full);
    assert_eq!(log.session(1, &[1; 200]), Err(Refused::Full));
    settle(&mut log, &mut disk);
    let rows = drain(&log, &disk).0.len() as u64;
    assert!(rows > 300, "{rows}");
    for number in 0..rows {
        let cut = log.cut(new_cut(lane, 0, &[Run { first: number, count: 1 }])).expect("the reserve is for this");
        settle(&mut log, &mut disk);
        let cut = log.sendable(cut).expect("durable");
        log.done(cut.number(), 0).expect("the reserve is for this");
        log.released(5, 6).expect("the reserve is for this");
        settle(&mut log, &mut disk);
        assert!(disk.bytes_taken() <= 10 * SEGMENT, "more segments than there may be");
    }
    assert!(drain(&log, &disk).0.is_empty());
    log.rows(lane, &batch(&[vec![1]]), &[], &[]).expect("room again");
}

#[test]
fn a_dead_topic_holds_its_rows_and_not_the_disk() {
    let (mut log, mut disk) = log(12);
    let dead = log.lane("dead", "t", 0).expect("a lane");
    let live = log.lane("live", "t", 0).expect("a lane");
    log.session(9, b"kept").expect("room");
    let (mut flowed, mut expected) = (0, Vec::new());
    while flowed < 3 * 12 * SEGMENT {
        // A few in every segment: without moving, they would hold all.
        if flowed >= expected.len() as u64 * (SEGMENT / 2) {
            let value = vec![expected.len() as u8; 100];
            log.rows(dead, &batch(std::slice::from_ref(&value)), &[], &[]).expect("room");
            expected.push(value);
        }
        let (run, _) = log.rows(live, &batch(&[vec![1; 900]]), &[], &[]).expect("the others notice nothing");
        flowed += 900;
        settle(&mut log, &mut disk);
        log.end_rows(live, &[run], Reason::Expired).expect("ended");
        settle(&mut log, &mut disk);
        assert!(disk.found().len() <= 12);
    }
    let found: Vec<_> = drain(&log, &disk).0.into_values().collect();
    assert_eq!(found, expected, "in order, once each");
    assert_eq!(log.read_session(&disk, 9).expect("a read"), Some(b"kept".to_vec()));
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

#[test]
fn a_sink_holds_no_more_than_its_share() {
    let mut given = settings(12, 1);
    given.sink_bytes_max = SEGMENT;
    let (mut log, mut disk) = (Log::new(given, Default::default()), crate::spool::simulated::SimDisk::default());
    let greedy = log.lane("greedy", "t", 0).expect("a lane");
    assert_eq!(fill(&mut log, &mut disk, greedy, 100).0, Refused::SinkFull);
    let other = log.lane("other", "t", 0).expect("a lane");
    log.rows(other, &batch(&[vec![1]]), &[], &[]).expect("room");
}

#[test]
fn sessions_and_open_ids_are_there_after_a_restart_until_they_are_released() {
    let (mut log, mut disk) = log(8);
    let lanes = [log.lane("a", "t", 0).expect("a lane"), log.lane("b", "t", 0).expect("a lane")];
    log.session(1, b"one").expect("room");
    log.session(2, b"two").expect("room");
    for lane in lanes {
        let origins = [Origin { index: 0, session: 1, packet_id: 10 }, Origin { index: 1, session: 2, packet_id: 11 }];
        log.rows(lane, &batch(&[vec![1], vec![2]]), &origins, &[]).expect("room");
    }
    log.session(1, b"one, changed").expect("room");
    log.released(2, 11).expect("taken");
    settle(&mut log, &mut disk);
    let again = Log::new(settings(8, 2), recovered(&disk));
    assert_eq!(again.read_session(&disk, 1).expect("a read"), Some(b"one, changed".to_vec()));
    assert_eq!(again.state().open_ids().collect::<Vec<_>>(), [(1, 10, &lanes[..])]);
    assert_eq!(recovered(&disk).next_session(), 3);
    log.session_ended(1).expect("taken");
    settle(&mut log, &mut disk);
    let found = recovered(&disk);
    assert_eq!((found.state.sessions().count(), found.state.open_ids().count()), (1, 0));
}

#[test]
fn too_many_lanes_are_refused_before_a_checkpoint_fills_a_segment() {
    let (mut log, mut disk) = log(8);
    let refused = (0..10_000).find_map(|n| {
        settle(&mut log, &mut disk);
        log.lane("sink", &format!("topic-{n}"), 0).err()
    });
    assert_eq!(refused, Some(Refused::TooMany));
    assert_eq!(normal(&recovered(&disk).state), normal(log.state()));
}

#[test]
fn a_deadline_after_a_restart_is_never_later_than_what_was_left() {
    let deadline = Deadline { index: 0, wall_ms: 10_000, left_ms: 4_000 };
    assert_eq!([7_000, 9_999, 10_001, -50_000].map(|now| deadline.left_ms(now)), [3_000, 1, 0, 4_000]);
}

#[test]
fn a_completion_that_nobody_waits_for_changes_nothing() {
    let (mut log, mut disk) = log(8);
    log.complete(&mut disk, Completion::Synced { token: 99, ok: true });
    assert!(log.is_idle());
}
