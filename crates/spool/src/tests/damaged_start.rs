//! With any damage to the data that it reads, recovery continues with the rest and reports the damage.

use std::time::Duration;

use super::faults::groups;
use super::support::{
    Drained, SEGMENT, drain, drain_state, framed, lane, log, normal, placeless, put, recovered, settings, settle,
};
use crate::format::seal;
use crate::newest::{LAGS_MAX, Newest};
use crate::simulated::SimDisk;
use crate::{
    Entry, HEADER_BYTES, Header, Log, LostRecord, RecoverError, Recovered, RowRun, Span, Spans, State, What, recover,
    scan,
};
use forebay_runtime::seam::{Monotonic, WallMs};

/// The damage found, by kind and segment.
fn damage(found: &Recovered) -> Vec<(What, u64)> {
    let mut all: Vec<_> = found.damage.iter().map(|damage| (damage.what, damage.segment)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn open(state: &State) -> State {
    let mut open = state.clone();
    open.apply(0, 0, 0, &Entry::FateOpen);
    open
}

/// Checks that a log continues from the recovered state, and that the next recovery finds the same.
fn goes_on(found: Recovered, disk: &mut SimDisk) {
    let (state, rows) = (placeless(&found.state), found.state.live_rows());
    let mut again = Log::new(settings(30, 2), found);
    settle(&mut again, disk);
    assert!(again.is_open());
    assert_eq!(placeless(&recovered(disk).state), state);
    let lane = lane(&mut again, "another", "topic", 0);
    put(&mut again, lane, &[vec![1; 20]]).expect("room");
    settle(&mut again, disk);
    assert_eq!(recovered(disk).state.live_rows(), rows + 1);
}

/// Finding L3: the first segment of a log begins with an empty state, so nothing is lost with its checkpoint.
#[test]
fn finding_l3_a_bit_in_the_first_checkpoint_of_a_log_costs_nothing() {
    let (log, disk, _) = groups(6);
    let (segment, _) = log.last.expect("a segment");
    assert_eq!(segment, 0);
    let bytes = disk.clone().bytes(0).clone();
    let salt = Header::decode(&bytes).expect("a header").salt;
    let (_, first) = crate::entry_at(&bytes, salt, HEADER_BYTES as u64).expect("the checkpoint's head");
    for bit in 0..first * 8 {
        let mut hurt = disk.clone();
        hurt.bytes(0)[HEADER_BYTES + bit as usize / 8] ^= 1 << (bit % 8);
        let found = recovered(&hurt);
        assert_eq!(normal(&found.state), normal(&open(log.state())), "bit {bit}");
        assert_eq!(damage(&found), [(What::Entries, 0)], "bit {bit}");
        if bit % 61 == 0 {
            goes_on(found, &mut hurt);
            assert!(hurt.set_aside.contains(&0));
        }
    }
}

/// A log after some work, with rows of three lanes and with sessions, each segment with a checkpoint at its head.
fn worked() -> (Log, SimDisk, Drained) {
    let (mut log, mut disk) = log(30);
    let mut expected = Drained::new();
    for turn in 0..150u8 {
        let lane = lane(&mut log, "sink", "topic", i32::from(turn % 3));
        let run = put(&mut log, lane, &[vec![turn; 300]]).expect("room");
        if turn % 10 == 0 {
            expected.insert((lane, run.first), vec![turn; 300]);
        } else {
            log.end_rows(lane, &[run], crate::Reason::Expired).expect("taken");
        }
        log.session(Some(u64::from(turn % 7)), &[turn; 40]).expect("room");
        settle(&mut log, &mut disk);
    }
    (log, disk, expected)
}

/// Finding L3: if no checkpoint is whole, the readable rest of one is used, and recovery reports that.
#[test]
fn finding_l3_without_a_whole_checkpoint_the_rest_of_one_serves() {
    let (mut log, disk, expected) = worked();
    let chain: Vec<u64> = log.chain.iter().collect();
    assert!(chain.len() >= 2 && chain[0] > 0, "{chain:?}");
    let whole = drain(&mut log, &disk).0;
    assert_eq!(whole, expected);
    let mut random = fastrand::Rng::with_seed(5);
    let (mut least, mut all) = (usize::MAX, 0);
    for trial in 0..300 {
        let mut hurt = disk.clone();
        // Damages every segment that recovery might begin with; the earlier ones are gone.
        for segment in hurt.found().into_keys().collect::<Vec<_>>() {
            let at = HEADER_BYTES + random.usize(..400);
            hurt.bytes(segment)[at] ^= 1 << random.u8(..8);
        }
        let found = recovered(&hurt);
        assert!(found.fate_open && !found.damage.is_empty(), "trial {trial}");
        let (rows, rotten) = drain_state(&found.state, &hurt);
        assert!(
            rows.iter().all(|(key, value)| value.iter().all(|byte| *byte == value[0]) && key.0 < 3),
            "trial {trial}"
        );
        let got = expected.keys().filter(|key| rows.contains_key(key)).count();
        let missing: u64 = found.missing.iter().chain(&rotten).map(|(_, run)| run.count).sum();
        assert!(got > 0 || missing > 0 || trial > 0, "trial {trial}");
        (least, all) = (least.min(got), all + usize::from(got == expected.len()));
        if trial % 10 == 0 {
            goes_on(found, &mut hurt);
        }
    }
    assert!(all > 30, "often nothing is lost: {all} of 300, at least {least} rows of {}", expected.len());
}

/// Finding L6: a newest segment cut short at any place is reported.
#[test]
fn finding_l6_a_newest_segment_that_is_cut_short_or_emptied_is_told() {
    let (log, disk, groups) = groups(6);
    let (segment, end) = log.last.expect("a segment");
    for at in (0..SEGMENT as usize).step_by(97) {
        let mut cut = disk.clone();
        cut.bytes(segment).truncate(at);
        let found = recovered(&cut);
        if at >= HEADER_BYTES {
            assert!(damage(&found).contains(&(What::CutShort, segment)), "cut at {at}: {:?}", found.damage);
            let last = groups.iter().rev().find(|(end, _)| *end <= at as u64);
            assert_eq!(normal(&found.state), last.map(|(_, state)| open(state)).unwrap_or_default(), "cut at {at}");
        } else if at > 0 {
            assert_eq!(damage(&found), [(What::Unreadable, segment)], "cut at {at}");
        }
        goes_on(found, &mut cut);
        let mut zeroed = disk.clone();
        zeroed.bytes(segment)[at..].fill(0);
        let found = recovered(&zeroed);
        // In the first group alone, zeroes look the same as a group cut short by power loss.
        if (groups[0].0 + 9..SEGMENT - HEADER_BYTES as u64).contains(&(at as u64)) {
            assert!(damage(&found).contains(&(What::Emptied, segment)), "zeroed from {at}: {:?}", found.damage);
        }
        goes_on(found, &mut zeroed);
    }
    assert!(end < SEGMENT);
}

/// Finding L6: bytes after the last whole group that the log cannot have left there are damage, and more than one group may have been
/// there. A group cut short by power loss is no damage.
#[test]
fn finding_l6_several_last_groups_that_are_overwritten_are_told() {
    let (log, disk, groups) = groups(6);
    let (segment, end) = log.last.expect("a segment");
    for (place, (at, state)) in groups.iter().enumerate().take(5) {
        for head in [0, 12, 20] {
            let mut hurt = disk.clone();
            hurt.bytes(segment)[*at as usize + head..end as usize].fill(0x5a);
            let found = recovered(&hurt);
            assert!(damage(&found).contains(&(What::Entries, segment)), "group {place}: {:?}", found.damage);
            assert!(found.fate_open, "group {place}");
            assert_eq!(normal(&found.state), open(state), "group {place}");
            goes_on(found, &mut hurt);
        }
    }
}

/// A log of some segments, with its note.
fn noted() -> (Log, SimDisk) {
    let mut disk = SimDisk::default();
    let mut log = Log::new(settings(30, 1), Recovered::default());
    let lane = lane(&mut log, "sink", "topic", 0);
    while log.last.is_none_or(|(last, _)| last < 3) {
        put(&mut log, lane, &[vec![1; 900]]).expect("room");
        settle(&mut log, &mut disk);
    }
    for turn in 0..3 {
        put(&mut log, lane, &[vec![turn; 9]]).expect("room");
        settle(&mut log, &mut disk);
    }
    (log, disk)
}

/// Finding L6: the newest segment is missing, emptied, or full of zeroes, and the note beside the segments shows it.
#[test]
fn finding_l6_a_newest_segment_that_is_gone_or_empty_is_told() {
    let (log, disk) = noted();
    let (newest, _) = log.last.expect("a segment");
    assert!(recovered(&disk).damage.is_empty());
    let mut gone = disk.clone();
    gone.lose(newest);
    let found = recovered(&gone);
    assert_eq!((damage(&found), found.fate_open), (vec![(What::Gone, newest)], true));
    goes_on(found, &mut gone);
    // Also without the segment that was prepared, and with no segments at all.
    let mut none = disk.clone();
    let rest: Vec<u64> = none.found().into_keys().collect();
    rest.into_iter().for_each(|segment| none.lose(segment));
    let found = recovered(&none);
    assert_eq!((damage(&found), found.fate_open), (vec![(What::Gone, newest)], true));
    goes_on(found, &mut none);
    let mut emptied = disk.clone();
    emptied.bytes(newest).clear();
    let found = recovered(&emptied);
    assert!(damage(&found).contains(&(What::CutShort, newest)) && found.fate_open, "{:?}", found.damage);
    goes_on(found, &mut emptied);
    let mut zeroes = disk.clone();
    zeroes.bytes(newest).fill(0);
    let found = recovered(&zeroes);
    assert!(damage(&found).contains(&(What::Entries, newest)) && found.fate_open, "{:?}", found.damage);
    goes_on(found, &mut zeroes);
}

/// Finding L6: several zeroed last groups look like one that was cut short by power loss. The note says that they were durable.
#[test]
fn finding_l6_several_last_groups_that_are_zeroed_are_told() {
    let (log, mut disk) = noted();
    let (segment, end) = log.last.expect("a segment");
    let header = Header::decode(disk.bytes(segment)).expect("a header");
    let scan = scan(disk.bytes(segment), segment, header.salt, Some(end));
    let last = scan.entries.iter().rev().take(6);
    for from in last.flat_map(|at| [*at as usize, *at as usize + 20]) {
        let mut hurt = disk.clone();
        hurt.bytes(segment)[from..end as usize].fill(0);
        let found = recovered(&hurt);
        assert_eq!((damage(&found), found.fate_open), (vec![(What::Entries, segment)], true), "from {from}");
        goes_on(found, &mut hurt);
    }
}

/// Finding L6: a note that is missing, damaged, of another shard or too old does not confirm that everything was found.
#[test]
fn finding_l6_what_no_note_confirms_is_told() {
    let (log, mut disk) = noted();
    let (newest, _) = log.last.expect("a segment");
    let whole = disk.note.clone().expect("a note");
    let of = |header: Header| Some(Newest { header, end: HEADER_BYTES as u64 }.encode().to_vec());
    let mut header = |segment: u64| Header::decode(disk.bytes(segment)).expect("a header");
    let flipped = whole.iter().enumerate().map(|(place, byte)| if place == 7 { byte ^ 1 } else { *byte }).collect();
    let other = Header { shard: 9, ..header(newest) };
    let (old, may_be) = (of(header(newest - 2)), of(header(newest - 1)));
    for note in [None, Some(Vec::new()), Some(flipped), of(other), old] {
        let mut hurt = disk.clone();
        hurt.note.clone_from(&note);
        let found = recovered(&hurt);
        assert_eq!((damage(&found), found.fate_open), (vec![(What::Note, newest + 1)], true), "{note:?}");
        assert_eq!(normal(&found.state), normal(&open(log.state())), "{note:?}");
        goes_on(found, &mut hurt);
        assert!(hurt.set_aside.is_empty() && recovered(&hurt).damage.is_empty(), "{note:?}");
    }
    // A crash may have happened before the note was written.
    let mut hurt = disk.clone();
    hurt.note = may_be;
    assert!(recovered(&hurt).damage.is_empty());
    let (_, mut first, _) = groups(6);
    first.note = None;
    assert!(recovered(&first).damage.is_empty());
}

/// The note follows the log within five seconds, and at once when the log is closed.
#[test]
fn the_note_lags_behind_five_seconds_at_most() {
    let (mut log, mut disk) = noted();
    let lane = lane(&mut log, "sink", "topic", 0);
    let named = |disk: &SimDisk| Newest::read(disk).0.map(|note| (note.header.segment, note.end));
    assert_eq!((named(&disk), log.note_due()), (log.last, None));
    let from = Monotonic(1 << 60);
    let group = |log: &mut Log, disk: &mut SimDisk, at: Monotonic| {
        put(log, lane, &[vec![1; 9]]).expect("room");
        log.flush(disk, at, WallMs(7));
        let answer = disk.answer().expect("a sync");
        log.complete(disk, answer);
        log.flush(disk, at, WallMs(7));
    };
    let before = log.last;
    for second in 0..4 {
        group(&mut log, &mut disk, from.after(Duration::from_secs(second)));
        assert_eq!((named(&disk), log.note_due()), (before, Some(from.after(LAGS_MAX))), "second {second}");
    }
    log.flush(&mut disk, from.after(LAGS_MAX), WallMs(7));
    assert_eq!((named(&disk), log.note_due()), (log.last, None));
    group(&mut log, &mut disk, from.after(LAGS_MAX));
    assert_ne!(named(&disk), log.last);
    log.write_note(&mut disk);
    assert_eq!((named(&disk), log.note_due()), (log.last, None));
}

/// A new log writes the note before it creates a segment: otherwise killed processes would leave two files after a segment that no note
/// names.
#[test]
fn starts_that_are_killed_leave_no_note_that_is_too_old() {
    let (log, mut disk) = noted();
    let (newest, _) = log.last.expect("a segment");
    let header = Header::decode(disk.bytes(newest - 1)).expect("a header");
    disk.note = Some(Newest { header, end: HEADER_BYTES as u64 }.encode().to_vec());
    for start in 0..4 {
        let found = recovered(&disk);
        assert!(found.damage.is_empty(), "start {start}: {:?}", found.damage);
        let mut log = Log::new(settings(30, start), found);
        log.flush(&mut disk, Monotonic(1), WallMs(7));
        let answer = disk.answer().expect("a segment");
        log.complete(&mut disk, answer);
        // Nothing that the killed log wrote reaches the disk.
        disk.kill(&mut fastrand::Rng::with_seed(start));
    }
}

/// Finding L8: if neither copy of its header can be read, the newest segment is read with the header of the note.
#[test]
fn finding_l8_a_newest_segment_without_a_header_is_read_by_the_note() {
    let (log, mut disk) = noted();
    let (newest, _) = log.last.expect("a segment");
    for at in [20, SEGMENT as usize - 20] {
        disk.bytes(newest)[at] ^= 1;
    }
    let found = recovered(&disk);
    assert_eq!((damage(&found), found.fate_open), (vec![(What::Header, newest)], false));
    assert_eq!(normal(&found.state), normal(log.state()));
    goes_on(found, &mut disk);
}

/// Finding L8: without the note too, the segment's contents are lost, and each of its rows is counted as lost, not only as possibly
/// repeated.
#[test]
fn finding_l8_rows_of_a_newest_segment_without_any_header_are_counted_as_lost() {
    let (log, mut disk) = noted();
    let (newest, _) = log.last.expect("a segment");
    let lanes = log.state().lanes();
    let spans =
        lanes.flat_map(|(_, lane)| lane.spans().filter(|span| span.segment == newest).map(|span| span.run.count));
    let rows: u64 = spans.sum();
    assert!(rows >= 3, "{rows}");
    disk.note = None;
    for at in [20, SEGMENT as usize - 20] {
        disk.bytes(newest)[at] ^= 1;
    }
    let found = recovered(&disk);
    assert_eq!((damage(&found), found.fate_open), (vec![(What::Unreadable, newest), (What::Note, newest + 1)], true));
    assert_eq!(found.rows_unreadable, rows);
    goes_on(found, &mut disk);
}

/// Findings L4 and L7: a damaged record is reported with its kind, wherever it is.
#[test]
fn finding_l7_damaged_records_are_counted_by_what_they_were() {
    let (mut log, mut disk) = log(30);
    for number in 0..4u8 {
        log.session(Some(number.into()), &[0x80 + number; 60]).expect("room");
        settle(&mut log, &mut disk);
    }
    log.session(Some(2), &[0x92; 60]).expect("room");
    settle(&mut log, &mut disk);
    log.session_ended(3).expect("room");
    settle(&mut log, &mut disk);
    let place = |log: &Log, session: u64| log.state().place_of(session).expect("it");
    let older = {
        let found = recovered(&disk);
        found.state.place_of(2).expect("it")
    };
    assert_eq!(older, place(&log, 2));
    let lost = |disk: &SimDisk| {
        let (mut lost, mut whole) = (Vec::new(), Vec::new());
        let found = recovered(disk);
        let each = |number, payload: Result<&[u8], LostRecord>| match payload {
            Ok(_) => whole.push(number),
            Err(record) => lost.push((number, record.format, record.has_older)),
        };
        found.records(disk, each).expect("read");
        (lost, whole, found.fate_open)
    };
    for at in [30, 60] {
        let mut hurt = disk.clone();
        let (segment, position) = place(&log, 1);
        hurt.bytes(segment)[position as usize + at] ^= 1;
        assert_eq!(lost(&hurt), (vec![(1, Some(0x81), false)], vec![0, 2], true));
        let mut hurt = disk.clone();
        let (segment, position) = place(&log, 2);
        hurt.bytes(segment)[position as usize + at] ^= 1;
        assert_eq!(lost(&hurt), (vec![(2, Some(0x92), true)], vec![0, 1, 2], true), "the one before counts");
    }
    // A record in a later segment's checkpoint is found missing when it is read.
    let rows = lane(&mut log, "sink", "topic", 0);
    while log.last.is_none_or(|(last, _)| last < 3) {
        let run = put(&mut log, rows, &[vec![1; 900]]).expect("room");
        settle(&mut log, &mut disk);
        log.end_rows(rows, &[run], crate::Reason::Expired).expect("taken");
        settle(&mut log, &mut disk);
    }
    let (segment, position) = place(&log, 1);
    let mut hurt = disk.clone();
    hurt.bytes(segment)[position as usize + 40] ^= 1;
    assert_eq!(lost(&hurt), (vec![(1, Some(0x81), false)], vec![0, 2], false));
    hurt.bytes(segment)[position as usize + 3] ^= 0x40;
    assert_eq!(lost(&hurt).0.len(), 1);
    disk.lose(segment);
    let (gone, whole, _) = lost(&disk);
    assert_eq!((gone, whole), ((0..3).map(|number| (number, None, false)).collect(), vec![]));
}

/// Finding L10: whatever numbers whole entries contain, recovery ends, and the log goes on.
#[test]
fn finding_l10_entries_with_any_numbers_stop_no_start() {
    for seed in 0..2_000u64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut log, mut disk, _) = groups(2);
        let (mut segment, mut at) = log.last.expect("a segment");
        let salt = log.state().segments[&segment].salt;
        let mut crafted = Vec::new();
        for _ in 0..random.usize(1..6) {
            craft(&mut random).put(&mut crafted);
        }
        let (checksum, count) = seal(&mut crafted, salt, at, 0);
        let commit = Entry::Commit { group: 3, start: at, wall_ms: 5, count, checksum };
        crafted.extend(framed(&commit, salt, at + crafted.len() as u64));
        disk.bytes(segment)[at as usize..at as usize + crafted.len()].copy_from_slice(&crafted);
        at += crafted.len() as u64;
        // A normal group follows, so that the entry is durable.
        log.last = Some((segment, at));
        let rows = lane(&mut log, "sink", "topic", 0);
        put(&mut log, rows, &[vec![7; 30]]).expect("room");
        settle(&mut log, &mut disk);
        (segment, _) = log.last.expect("a segment");
        assert_eq!(segment, 0);
        let found = match recover(&disk, 3, &disk.found()) {
            Ok(found) => found,
            Err(RecoverError::Kind { .. }) => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        let _ = drain_state(&found.state, &disk);
        let _ = found.records(&disk, |_, _| {});
        let uncut: Vec<u64> = found.state.lanes().map(|(number, _)| number).collect();
        uncut.into_iter().for_each(|lane| drop(found.uncut(lane)));
        let mut again = Log::new(settings(30, 2), found);
        settle(&mut again, &mut disk);
        assert!(again.is_open(), "seed {seed}");
        let _ = recovered(&disk);
    }
}

/// An entry with arbitrary numbers.
fn craft(random: &mut fastrand::Rng) -> Entry<'static> {
    let number = |random: &mut fastrand::Rng| match random.u8(..6) {
        0 => random.u64(..),
        1 => u64::MAX - random.u64(..3),
        2 => (1 << 60) - 1 - random.u64(..3),
        3 => 1 << random.u64(..60),
        _ => random.u64(..8),
    };
    let some = |random: &mut fastrand::Rng| {
        let count = random.usize(..4);
        let run =
            |random: &mut fastrand::Rng| RowRun { first: number(random) >> 1, count: (number(random) >> 1).max(1) };
        let runs: Vec<RowRun> = (0..count).map(|_| run(random)).collect();
        crate::Runs::new(runs.leak())
    };
    let (a, b, c) = (number(random), number(random), number(random));
    match random.u8(..16) {
        0 => Entry::Done { cut: a, lane: b, base_offset: c as i64, rows: some(random) },
        1 => Entry::EndRows { lane: a, reason: crate::Reason::Refused, rows: some(random) },
        2 => Entry::EndCut { cut: a, lane: b, reason: crate::Reason::Void, rows: some(random) },
        3 => Entry::Incarnation {
            number: a,
            topic_id: 1,
            partitions: b as u32,
            sink: "sink",
            topic: "topic",
            cluster: "c",
        },
        4 => Entry::Session { session: a, payload: b"x" },
        5 => Entry::SessionEnded { session: a },
        6 => Entry::Commit { group: a, start: b, wall_ms: c as i64, count: 1, checksum: 2 },
        7 => Entry::Checkpoint {
            begun: a,
            part: b as u32,
            next_incarnation: c,
            next_lane: a,
            next_cut: b,
            next_session: c,
        },
        8 => Entry::Lane {
            lane: a,
            partition: b as i32,
            next: c,
            open_below: a,
            landed: b as i64,
            volatile: false,
            sink: "sink",
            topic: "topic",
        },
        9 => {
            let spans: Vec<Span> = (some(random).iter())
                .map(|run| Span { run, segment: number(random), position: number(random), bytes: number(random) })
                .collect();
            Entry::Spans { lane: a, spans: Spans::new(spans.leak()) }
        }
        10 => Entry::Segment { segment: a, salt: b, end: c },
        11 => Entry::SessionAt { session: a, segment: b, position: c, bytes: a },
        12 => Entry::LanesForgotten { lanes: some(random) },
        13 => Entry::IncarnationsForgotten { numbers: some(random) },
        14 => Entry::Released { session: a, packet_id: 7 },
        _ => Entry::Cut {
            cut: crate::CutHead { cut: a, lane: b, incarnation: c, partition: (a >> 33) as i32, ..Default::default() },
            rows: some(random),
        },
    }
}
