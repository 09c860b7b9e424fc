//! The state after a power cut, and states that are refused.

use super::*;
use crate::{RestoredId, RestoredRow};
use forebay_kafka::producer::row_log::{Ended, Fate, Known};

fn run(first: u64, count: u64) -> RowRun {
    RowRun { first, count }
}

#[test]
fn rows_come_back_as_they_were_written() {
    let mut house = House::new();
    let soon = Monotonic(house.now.0 + 60_000_000_000);
    let beside = Beside { deadlines: &[(1, soon)], hashes: &[(0, 42)], ..Beside::default() };
    let (lane, first) = house.write_with(STORED, -1, &[b"a", b"b", b"c"], beside).unwrap();
    assert_eq!(first, 0);
    let group = house.buffer.group();
    assert!(house.buffer.durable() < group);
    assert_eq!(house.buffer.rows_not_durable(), 3);
    assert_eq!(house.read(lane, 0, 3).0, ReadBack::Later, "not on the disk yet, and not gone");
    house.settle();
    assert!(house.buffer.durable() >= group && house.buffer.rows_not_durable() == 0);
    let (said, rows) = house.read(lane, 0, 3);
    assert_eq!((said, rows.len()), (ReadBack::Rows, 3));
    assert_eq!(rows[1], Back { number: 1, value: b"b".to_vec(), expires: soon, hash: None, ticket: None });
    assert_eq!((rows[0].hash, rows[0].expires), (Some(42), Monotonic::NEVER));
    assert_eq!(house.read(lane, 3, 3).0, ReadBack::Empty);
    assert_eq!(house.write(STORED, -1, &[b"lost"]).unwrap(), (lane, 3));

    let (mut house, restored) = house.power_cut(settings()).unwrap();
    let lanes = &restored.clusters[0].lanes;
    assert_eq!(lanes.len(), 1);
    let found =
        (lanes[0].sink, lanes[0].topic.as_str(), lanes[0].partition, lanes[0].first, lanes[0].end, lanes[0].rows);
    assert_eq!(found, (STORED, "topic", -1, 0, 3, 3));
    assert_eq!((restored.report.rows, restored.report.is_damaged()), (3, false));
    let (_, again) = house.read(lanes[0].lane, 0, 3);
    assert_eq!(again, rows);
}

#[test]
fn a_lane_that_was_forgotten_is_empty() {
    let mut small = settings();
    small.log.segment_bytes = 64 << 10;
    let mut house = House::open(FakeDisk::default(), small).expect("nothing is there").0;
    let over = |house: &mut House, lane, rows: RowRun| {
        house.log().ended(&Ended { cut: None, lane, rows: &[rows], fate: Fate::Expired }).unwrap();
        house.settle();
    };
    let (gone, _) = house.write(STORED, 0, &[b"a"]).unwrap();
    house.settle();
    over(&mut house, gone, run(0, 1));
    for _ in 0..40 {
        let (lane, first) = house.write(STORED, 1, &[&[7; 4000]]).unwrap();
        house.settle();
        over(&mut house, lane, run(first, 1));
    }
    assert_eq!(house.read(gone, 0, 1).0, ReadBack::Empty);
    let (anew, _) = house.write(STORED, 0, &[b"b"]).unwrap();
    assert!(anew > gone, "it was forgotten");
    assert_eq!(house.read(anew, 0, 1).0, ReadBack::Later, "not on the disk yet, and not gone");
}

#[test]
fn cuts_come_back_until_they_are_done_and_their_rows_with_them() {
    let mut house = House::new();
    let (lane, _) = house.write(STORED, 3, &[b"a", b"b", b"c", b"d"]).unwrap();
    let (first, second) = (house.cut(STORED, lane, run(0, 2)), house.cut(STORED, lane, run(2, 1)));
    assert_eq!((first.group, second.group), (house.buffer.group(), house.buffer.group()), "one sync for all");
    house.settle();
    let over = Ended { cut: Some(first.cut), lane, rows: &[run(0, 2)], fate: Fate::Done { base_offset: 5 } };
    house.log().ended(&over).unwrap();
    house.settle();
    let (mut house, restored) = house.power_cut(settings()).unwrap();
    let [cut] = &*restored.clusters[0].cuts else { panic!("{:?}", restored.clusters[0].cuts) };
    assert_eq!((cut.cut, cut.lane, &*cut.rows), (second.cut, lane, &[run(2, 1)][..]));
    assert_eq!((cut.producer_id, cut.epoch, cut.sequence, cut.partition, cut.topic_id), (77, 2, 40, 3, 9));
    assert!(cut.timeless);
    assert_eq!((restored.clusters[0].lanes[0].first, restored.clusters[0].lanes[0].rows), (2, 2));
    for fate in [Fate::Void, Fate::Expired] {
        let anew = fate == Fate::Void;
        let rows = [if anew { run(2, 1) } else { run(2, 2) }];
        house.log().ended(&Ended { cut: anew.then_some(cut.cut), lane, rows: &rows, fate }).unwrap();
        house.settle();
        assert_eq!(house.read(lane, 2, 4).1.len(), if anew { 2 } else { 0 });
    }
    let (_, restored) = house.power_cut(settings()).unwrap();
    assert!(restored.clusters[0].lanes.is_empty() && restored.clusters[0].cuts.is_empty());
}

#[test]
fn a_repeated_id_finds_each_sink_as_it_is() {
    let mut house = House::new();
    let kept = house.buffer.keep_session(None, b"client").unwrap();
    let origin = Origin { session: kept.number, packet_id: 12 };
    let beside = Beside { origins: &[(0, origin)], ..Beside::default() };
    let (stored, _) = house.write_with(STORED, 0, &[b"x"], beside.clone()).unwrap();
    let (replicated, _) = house.write_with(REPLICATED, 0, &[b"x"], beside).unwrap();
    house.settle();
    let cut = house.cut(STORED, stored, run(0, 1));
    let over = Ended { cut: Some(cut.cut), lane: stored, rows: &[run(0, 1)], fate: Fate::Done { base_offset: 0 } };
    house.log().ended(&over).unwrap();
    house.settle();

    let (mut house, restored) = house.power_cut(settings()).unwrap();
    let [session] = &*restored.sessions else { panic!("{:?}", restored.sessions) };
    assert_eq!((session.number, &*session.payload), (kept.number, &b"client"[..]));
    let row = |sink, is_live, is_owed| RestoredRow { cluster: 0, sink, is_live, is_owed };
    let rows = vec![row(STORED, false, false), row(REPLICATED, true, true)];
    assert_eq!(session.open, [RestoredId { packet_id: 12, rows }]);
    assert_eq!(house.read(replicated, 0, 1).1[0].ticket, None, "nobody has asked");
    let ticket = Ticket { session: 5, number: 6 };
    house.buffer.await_row(kept.number, 12, ticket);
    assert_eq!(house.read(replicated, 0, 1).1[0].ticket, Some(ticket));
    assert!(house.buffer.owed(replicated, run(1, 5)).is_empty() && house.buffer.owed(stored, run(0, 1)).is_empty());
    assert_eq!(house.buffer.owed(replicated, run(0, 1)), [ticket], "if it goes to make room");
    assert!(house.buffer.owed(replicated, run(0, 1)).is_empty(), "once");
    house.buffer.await_row(kept.number, 12, ticket);
    let group = house.buffer.release(kept.number, 12);
    assert_eq!(house.read(replicated, 0, 1).1[0].ticket, None, "the id is somebody else's now");
    assert!(house.buffer.owed(replicated, run(0, 1)).is_empty());
    house.settle();
    assert!(house.buffer.durable() >= group);
    let (_, restored) = house.power_cut(settings()).unwrap();
    assert!(restored.sessions[0].open.is_empty());
}

#[test]
fn hybrid_rows_do_not_outlive_the_process() {
    let mut house = House::new();
    house.write(HYBRID, 0, &[b"a", b"b"]).unwrap();
    house.write(STORED, 0, &[b"c"]).unwrap();
    house.settle();
    let (house, restored) = house.power_cut(settings()).unwrap();
    assert_eq!((restored.report.given_up, restored.report.rows), (2, 1));
    assert_eq!(restored.clusters[0].lanes.len(), 1);
    let (_, restored) = house.power_cut(settings()).unwrap();
    assert_eq!(restored.report.given_up, 0, "once");
}

#[test]
fn rows_that_the_configuration_has_no_place_for_refuse_the_start() {
    let mut house = House::new();
    house.write(STORED, 0, &[b"a", b"b"]).unwrap();
    house.settle();
    let mut other = settings();
    other.clusters[0][0].name = "other".into();
    let mut disk = house.disk;
    disk.power_cut();
    let refused = House::open(disk.clone(), other).err();
    assert_eq!(refused, Some(OpenError::UnknownSink { sink: "stored".into(), rows: 2 }));
    let mut memory = settings();
    memory.clusters[0][0].keep = Keep::Memory;
    let refused = House::open(disk.clone(), memory).err();
    assert_eq!(refused, Some(OpenError::NotKept { sink: "stored".into(), rows: 2 }));
    assert!(House::open(disk, settings()).is_ok(), "nothing was changed");
}

#[test]
fn a_disk_that_is_away_costs_no_rows_however_long() {
    let mut house = House::new();
    let (one, _) = house.write(STORED, 0, &[b"a", b"b"]).unwrap();
    let (other, _) = house.write(STORED, 1, &[b"c"]).unwrap();
    house.settle();
    house.disk.unreadable = true;
    for _ in 0..10_000 {
        assert_eq!(house.read(one, 0, 2).0, ReadBack::Later);
        assert_eq!(house.read(other, 0, 1).0, ReadBack::Later);
        assert!(house.buffer.wants_turn(), "nothing else may happen");
        house.now.0 += 1_000_000_000;
    }
    house.disk.unreadable = false;
    assert_eq!(house.read(one, 0, 2).1.len() + house.read(other, 0, 1).1.len(), 3);
}

#[test]
fn an_answer_waits_for_its_row_and_not_for_another_of_the_same_id() {
    let mut house = House::new();
    let kept = house.buffer.keep_session(None, b"client").unwrap();
    let origin = Origin { session: kept.number, packet_id: 12 };
    let beside = Beside { origins: &[(0, origin)], ..Beside::default() };
    let (lane, _) = house.write_with(REPLICATED, 0, &[b"x"], beside.clone()).unwrap();
    house.settle();
    let (mut house, _) = house.power_cut(settings()).unwrap();
    let ticket = Ticket { session: 5, number: 6 };
    house.buffer.await_row(kept.number, 12, ticket);
    house.write_with(REPLICATED, 0, &[b"y"], beside).unwrap();
    house.settle();
    let tickets = |house: &mut House| [0, 1].map(|row| house.read(lane, row, row + 1).1[0].ticket);
    assert_eq!(tickets(&mut house), [Some(ticket), None]);
    // The rows ended without being read again: the acknowledgement is due, once.
    assert_eq!(house.buffer.owed(lane, run(0, 2)), [ticket]);
    assert_eq!((house.buffer.owed(lane, run(0, 2)), tickets(&mut house)), (vec![], [None, None]));
}

#[test]
fn lanes_that_the_log_has_forgotten_are_forgotten_here() {
    let mut house = House::new();
    let value = vec![b'x'; 60_000];
    for number in 0..100 {
        let mut builder = Builder::new(Vec::new());
        let row = Row { key: None, value: Some(&value), headers: std::iter::empty(), timestamp: WallMs(WALL) };
        builder.append(&row, row.measure());
        let batch = builder.close(None);
        let mut log = house.log();
        let lane = log.lane(STORED, &format!("topic {number}"), 0, Known::default()).unwrap();
        let (origins, deadlines, hashes, records) = (&[], &[], &[], &batch[HEADER_LEN..]);
        let rows = NewRows { lane, records, base_timestamp: WALL, count: 1, origins, deadlines, hashes, from: 0 };
        let first = log.rows(&rows).unwrap();
        house.turn();
        let ended = Ended { cut: None, lane, rows: &[run(first, 1)], fate: Fate::Expired };
        house.log().ended(&ended).unwrap();
        house.turn();
    }
    assert!(house.buffer.lanes.len() < 60, "{} lanes", house.buffer.lanes.len());
}
