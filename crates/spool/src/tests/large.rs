//! A state that fills many segments: it is written in parts, delays nothing, and recovery finds all of it at any time and
//! with any damage.

use super::support::{Drained, cut, drain, drain_state, lane, normal, put, recovered, settle};
use crate::simulated::SimDisk;
use crate::{Log, Reason, Recovered, Refused, RowRun, Settings, State};
use forebay_runtime::seam::{Monotonic, WallMs};

const SEGMENT: u64 = 16 << 10;

fn settings(segments_max: u64, segment_bytes: u64, seed: u64) -> Settings {
    let sink_bytes_max = segments_max * segment_bytes;
    Settings { shard: 3, segment_bytes, segments_max, sink_bytes_max, data_dir_id: 0, seed }
}

/// A log with a state of several segments of this size: every other row of a lane is live.
fn scattered(segment_bytes: u64, rows: u64, seed: u64) -> (Log, SimDisk) {
    let segments = 64 + 400 * rows / segment_bytes;
    let (mut log, mut disk) =
        (Log::new(settings(segments, segment_bytes, seed), Recovered::default()), SimDisk::default());
    let lane = lane(&mut log, "s", "t", 0);
    let mut taken = 0;
    while taken < rows {
        match put(&mut log, lane, &[vec![1; 20], vec![2; 20]]) {
            Ok(run) => {
                let odd = [RowRun { first: run.first + 1, count: 1 }];
                while log.end_rows(lane, &odd, Reason::Dropped).is_err() {
                    settle(&mut log, &mut disk);
                }
                taken = run.end();
            }
            Err(Refused::Busy) => settle(&mut log, &mut disk),
            Err(other) => panic!("{other} after {taken} rows, {} segments", log.segments()),
        }
    }
    settle(&mut log, &mut disk);
    (log, disk)
}

/// A state without the end of its newest segment, and without notes of damage.
fn contents(state: &State) -> State {
    let mut contents = normal(state);
    contents.segments.values_mut().for_each(|held| held.end = 0);
    contents.lanes.values_mut().for_each(|lane| lane.open_below = 0);
    contents
}

/// Damages the newest complete checkpoint, if that would be noticed, and checks that the previous one gives the same state.
fn the_one_before_stands_in(log: &Log, disk: &SimDisk, turn: u64) -> bool {
    let [Some(newest), Some(before)] = log.chain.complete else { return false };
    if log.last.is_none_or(|(last, _)| last == newest) {
        return false;
    }
    let mut hurt = disk.clone();
    hurt.bytes(newest)[150] ^= 1;
    let found = recovered(&hurt);
    assert!(found.chain.complete[0] == Some(before) && found.fate_open, "turn {turn}");
    assert!(contents(&found.state) == contents(log.state()), "turn {turn}");
    true
}

/// D3: more live runs than one segment's part can account for. They end in any order, and rows are still taken.
#[test]
fn scattered_rows_beyond_what_one_segment_tells_are_taken_and_drain() {
    let (mut log, mut disk) = scattered(256 << 10, 100_000, 1);
    assert!(log.state().account() > 3 * (256 << 10), "{}", log.state().account());
    assert_eq!(log.state().live_rows(), 50_000);
    let found = recovered(&disk);
    assert!(normal(&found.state) == normal(log.state()));
    // A new log continues with it.
    log = Log::new(settings(220, 256 << 10, 2), found);
    settle(&mut log, &mut disk);
    let lane = lane(&mut log, "s", "t", 0);
    let rows: Vec<RowRun> = (0..50_000).map(|row| RowRun { first: 2 * row, count: 1 }).collect();
    for some in rows.chunks(1_000) {
        let (number, group) = cut(&mut log, lane, 0, some).expect("a cut is always taken");
        settle(&mut log, &mut disk);
        assert!(log.durable() >= group);
        log.done(number, lane, some, 1).expect("so is its end");
        put(&mut log, lane, &[vec![3; 20]]).expect("and there is room");
        settle(&mut log, &mut disk);
    }
    assert_eq!(log.state().live_rows(), 50);
    assert!(normal(&recovered(&disk).state) == normal(log.state()));
    // Segments kept for recovery are freed when the state is small again.
    for _ in 0..3 {
        while log.last.is_some_and(|(_, end)| end < 200 << 10) {
            put(&mut log, lane, &[vec![3; 20_000]]).expect("room");
            settle(&mut log, &mut disk);
        }
        put(&mut log, lane, &[vec![3; 20_000]]).expect("room");
        settle(&mut log, &mut disk);
    }
    assert!(log.segments() < 16, "{}", log.segments());
}

/// D3: a full log of small rows, of which every other one ends: the state grows before there is room for it, and the log
/// still goes on.
#[test]
fn a_state_that_grows_in_a_full_log_holds_nothing_up() {
    for seed in 0..6 {
        let (mut log, mut disk) = (Log::new(settings(40, SEGMENT, seed), Recovered::default()), SimDisk::default());
        let lane = lane(&mut log, "s", "t", -1);
        let mut taken = 0;
        loop {
            match put(&mut log, lane, &vec![vec![1; 1]; 40]) {
                Ok(run) => taken = run.end(),
                Err(Refused::Busy) => settle(&mut log, &mut disk),
                Err(Refused::Full) => break,
                Err(other) => panic!("{other} after {taken} rows"),
            }
        }
        settle(&mut log, &mut disk);
        let (bound, account) = (log.bytes_max(), log.state().account());
        // Some of all rows, in any order: the remainder of a partition that takes nothing.
        let mut random = fastrand::Rng::with_seed(seed);
        let mut ended: Vec<u64> = (0..taken).filter(|row| seed < 3 && row % 2 == 0 || random.u8(..4) == 0).collect();
        random.shuffle(&mut ended);
        for some in ended.chunks(100) {
            let mut some: Vec<RowRun> = some.iter().map(|row| RowRun { first: *row, count: 1 }).collect();
            some.sort_unstable_by_key(|run| run.first);
            while log.end_rows(lane, &some, Reason::Dropped).is_err() {
                let durable = log.durable();
                settle(&mut log, &mut disk);
                assert!(log.durable() > durable, "seed {seed}: it stands still with {} segments", log.segments());
            }
            if random.u8(..16) == 0 {
                settle(&mut log, &mut disk);
                assert!(disk.bytes_taken() <= log.bytes_max());
            }
        }
        settle(&mut log, &mut disk);
        assert!(
            log.state().account() > 8 * account && log.state().account() > 2 * SEGMENT,
            "{}",
            log.state().account()
        );
        assert!(contents(&recovered(&disk).state) == contents(log.state()), "seed {seed}");
        // The remaining rows end in cuts.
        let rest: Vec<RowRun> = log.state().lane(lane).expect("lives").spans().map(|span| span.run).collect();
        for some in rest.chunks(100) {
            let (number, _) = loop {
                match cut(&mut log, lane, 0, some) {
                    Ok(taken) => break taken,
                    Err(_) => settle(&mut log, &mut disk),
                }
            };
            settle(&mut log, &mut disk);
            log.done(number, lane, some, 1).expect("taken");
            settle(&mut log, &mut disk);
        }
        assert!(log.space() > 20 * SEGMENT && log.bytes_max() == bound, "{} bytes, {bound}", log.space());
    }
}

/// At any time, even while a checkpoint is half written, recovery finds the state that the log knew.
#[test]
fn a_start_finds_all_of_it_at_every_cut_point() {
    let (mut log, mut disk) = scattered(SEGMENT, 3_000, 3);
    let lane = lane(&mut log, "s", "t", 0);
    let (mut halfway, mut stood_ins, mut stood_ins_again) = (0, 0, 0);
    let mut random = fastrand::Rng::with_seed(5);
    let mut live: Vec<u64> = (0..1_500).map(|row| 2 * row).collect();
    for turn in 0..600u64 {
        if turn % 3 == 0 && log.is_idle() {
            let row = RowRun { first: live.swap_remove(random.usize(..live.len())), count: 1 };
            log.end_rows(lane, &[row], Reason::Dropped).expect("taken");
            if let Ok(run) = put(&mut log, lane, &[vec![9; 300]]) {
                live.push(run.first);
            }
        }
        log.flush(&mut disk, Monotonic((turn + 1) << 40), WallMs(7));
        if let Some(answer) = disk.answer() {
            log.complete(&mut disk, answer);
        }
        let half = log.writing.as_ref().is_some_and(|writing| !writing.is_fresh());
        halfway += u32::from(half);
        if turn % 7 == 0 || half {
            let mut cut_off = disk.clone();
            cut_off.power_cut(&mut random);
            let found = recovered(&cut_off);
            if log.is_idle() {
                // A part in flight may be there, and adds nothing new.
                assert!(contents(&found.state) == contents(log.state()), "turn {turn}");
                stood_ins += u32::from(the_one_before_stands_in(&log, &disk, turn));
            }
            let known = found.state.live_rows() as usize;
            assert!(known + 1 >= live.len(), "turn {turn}: {known} of {}", live.len());
            // A recovered log goes on, is cut off too, and loses nothing.
            let mut again = Log::new(settings(140, SEGMENT, turn), found.clone());
            for step in 0..random.u64(..40) {
                again.flush(&mut cut_off, Monotonic((step + 1) << 40), WallMs(7));
                if let Some(answer) = cut_off.answer() {
                    again.complete(&mut cut_off, answer);
                }
            }
            if again.is_idle() && again.is_open() {
                stood_ins_again += u32::from(the_one_before_stands_in(&again, &cut_off, turn));
            }
            cut_off.kill(&mut random);
            cut_off.power_cut(&mut random);
            let after = recovered(&cut_off);
            assert_eq!(
                after.state.live_rows(),
                if again.is_open() { again.state().live_rows() } else { after.state.live_rows() }
            );
            assert!(after.state.live_rows() >= again.state().live_rows(), "turn {turn}");
        }
    }
    let counts = (halfway, stood_ins, stood_ins_again);
    assert!(counts.0 > 5 && counts.1 > 5 && counts.2 > 5, "parts apart, read from the checkpoint before: {counts:?}");
}

/// A group with a part of a checkpoint, torn at any byte: the group exists as a whole or not at all, and so does the part.
#[test]
fn a_group_with_a_part_that_is_torn_at_any_byte_is_there_or_not() {
    let (mut log, mut disk) = scattered(SEGMENT, 2_000, 17);
    let lane = lane(&mut log, "s", "t", 0);
    // Counts of groups that begin a segment, and of others.
    let mut seen = [0, 0];
    for turn in 0..400 {
        if log.is_idle() && log.flight.is_none() && put(&mut log, lane, &[vec![9; 300]]).is_ok() {
            let row = RowRun { first: 2 * turn, count: 1 };
            log.end_rows(lane, &[row], Reason::Dropped).expect("taken");
        }
        log.flush(&mut disk, Monotonic((turn + 1) << 40), WallMs(7));
        let flight = log.flight.as_ref().filter(|flight| flight.part.is_some() && !log.in_flight.is_empty());
        let Some((segment, begins, start, end)) =
            flight.map(|flight| (flight.segment, flight.begins.is_some(), flight.group_start, flight.end))
        else {
            disk.answer().into_iter().for_each(|answer| log.complete(&mut disk, answer));
            continue;
        };
        let (before, written) = (contents(log.state()), disk.clone());
        while log.flight.is_some() {
            disk.answer().into_iter().for_each(|answer| log.complete(&mut disk, answer));
        }
        let whole = contents(log.state());
        assert!(whole != before, "the group has more than a part");
        seen[usize::from(begins)] += 1;
        if seen[usize::from(begins)] > 1 {
            continue;
        }
        // (Every byte was tried when this test was written.)
        for torn in (start..end).step_by(13).chain(end - 24..=end) {
            let mut torn_off = written.clone();
            torn_off.bytes(segment)[torn as usize..].fill(0);
            let found = contents(&recovered(&torn_off).state);
            // The last bytes of a commit are zero.
            assert!(
                found == whole && torn + 8 > end || found == before && torn < end,
                "torn at {torn} of {start}..{end}"
            );
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
}

/// With a damaged part the previous checkpoint is used, and every row is found.
#[test]
fn a_damaged_part_is_made_up_for_by_the_checkpoint_before() {
    let (mut log, disk) = scattered(SEGMENT, 3_000, 7);
    let expected: Drained = drain(&mut log, &disk).0;
    let newest = log.chain.complete[0].expect("complete");
    assert!(log.state().account() > SEGMENT, "it takes more than one segment");
    for at in (200..4_000).step_by(380) {
        let mut hurt = disk.clone();
        // The byte is in the part at the head of the segment.
        hurt.bytes(newest)[at] ^= 1;
        let found = recovered(&hurt);
        assert!(found.fate_open && found.chain.complete[0] < Some(newest), "at {at}: {:?}", found.chain.complete);
        assert!(contents(&found.state) == contents(log.state()), "at {at}");
        assert!(drain_state(&found.state, &hurt).0 == expected);
    }
}

/// With any byte of any segment damaged, recovery finds the right state or reports damage.
#[test]
fn flipped_bits_never_go_unnoticed() {
    let (mut log, disk) = scattered(SEGMENT, 1_500, 9);
    let whole = normal(log.state());
    let expected: Drained = drain(&mut log, &disk).0;
    let (mut random, from) = (fastrand::Rng::with_seed(11), log.chain.complete[1].expect("two"));
    let (last, end) = log.last.expect("a segment");
    for flip in 0..400 {
        let segment = random.u64(from..=last);
        let at = random.u64(..if segment == last { end } else { SEGMENT });
        let mut hurt = disk.clone();
        hurt.bytes(segment)[at as usize] ^= 1 << random.u8(..8);
        let Ok(found) = crate::recover(&hurt, 3, &hurt.found()) else { continue };
        if !found.fate_open && found.rot.is_empty() && found.torn_bytes == 0 {
            assert!(normal(&found.state) == whole, "flip {flip}: {segment} at {at}");
        }
        let rows = drain_state(&found.state, &hurt).0;
        assert!(rows.iter().all(|(key, value)| expected.get(key).is_none_or(|known| known == value)), "flip {flip}");
    }
}

/// Recovery that cannot prove the newest segment's only group durable continues after the previous one. That segment stays.
#[test]
fn what_stood_behind_the_group_that_a_start_wrote_again_can_be_read_a_second_time() {
    let (mut log, mut disk) = (Log::new(settings(40, SEGMENT, 1), Recovered::default()), SimDisk::default());
    let lane = lane(&mut log, "s", "t", 0);
    let mut random = fastrand::Rng::with_seed(13);
    let killed = loop {
        let before = log.last.map(|(segment, _)| segment);
        let run = put(&mut log, lane, &[vec![1; 900]]).expect("room");
        log.flush(&mut disk, Monotonic(1), WallMs(1));
        let mut killed = disk.clone();
        killed.kill(&mut random);
        let found = recovered(&killed);
        if before.is_some_and(|before| before > 3) && found.last.map(|(segment, _)| segment) > before {
            break killed;
        }
        settle(&mut log, &mut disk);
        log.end_rows(lane, &[run], Reason::Dropped).expect("taken");
        settle(&mut log, &mut disk);
    };
    let mut disk = killed;
    let mut again = Log::new(settings(40, SEGMENT, 2), recovered(&disk));
    settle(&mut again, &mut disk);
    // Without another group the damage would look like a torn tail.
    put(&mut again, lane, &[vec![2; 9]]).expect("room");
    settle(&mut again, &mut disk);
    let newest = again.chain.complete[0].expect("one");
    let mut hurt = disk.clone();
    hurt.bytes(newest)[150] ^= 1;
    let found = recovered(&hurt);
    assert!(found.fate_open && contents(&found.state) == contents(again.state()));
    assert_eq!(found.state.live_rows(), 2);
}

/// The last part of a checkpoint may be in the group that recovery writes again elsewhere: then that checkpoint is not
/// complete, and the previous one stays until another is.
#[test]
fn a_checkpoint_whose_last_part_is_written_again_elsewhere_is_not_complete() {
    let ((mut log, mut disk), mut seen) = (scattered(SEGMENT, 2_000, 19), [0, 0]);
    let mut random = fastrand::Rng::with_seed(21);
    for turn in 0..1_200 {
        if turn == 600 {
            (log, disk) = scattered(SEGMENT, 4_000, 19);
        }
        let lane = lane(&mut log, "s", "t", 0);
        if log.is_idle() {
            put(&mut log, lane, &[vec![9; 1_500]]).expect("room");
            let row = RowRun { first: 2 * turn, count: 1 };
            log.end_rows(lane, &[row], Reason::Dropped).expect("taken");
        }
        log.flush(&mut disk, Monotonic((turn + 1) << 40), WallMs(7));
        let last = log.flight.as_ref().filter(|flight| flight.part.is_some_and(|part| part.last));
        if let (Some(flight), Some(writing)) = (last, &log.writing) {
            let (segment, begun) = (flight.segment, writing.begun);
            let mut killed = disk.clone();
            killed.kill(&mut random);
            let found = recovered(&killed);
            if found.last.is_some_and(|(_, end)| end == flight.end) {
                assert_eq!(found.chain.complete, log.chain.complete, "turn {turn}");
                seen[usize::from(segment > begun)] += 1;
                let mut again = Log::new(settings(160, SEGMENT, turn), found);
                settle(&mut again, &mut killed);
                // Until damage in the newest complete checkpoint is not a torn tail.
                while again.last.map(|(last, _)| last) <= again.chain.complete[0] {
                    put(&mut again, lane, &[vec![2; 900]]).expect("room");
                    settle(&mut again, &mut killed);
                }
                assert!(the_one_before_stands_in(&again, &killed, turn));
            }
        }
        disk.answer().into_iter().for_each(|answer| log.complete(&mut disk, answer));
    }
    assert!(seen[0] > 0 && seen[1] > 0, "in the segment that it begins in, in another: {seen:?}");
}
