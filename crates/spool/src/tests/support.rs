//! A log on the simulated disk, and helpers for all tests of the spool.

use std::collections::BTreeMap;

use crate::checkpoint::Writing;
use crate::simulated::SimDisk;
use crate::state::Lane;
use crate::{
    Deadline, Entry, Known, Log, NewCut, NewRows, Origin, Read, Recovered, Refused, RowRun, Settings, Span, Spans,
    State, recover,
};
use forebay_record::{Builder, HEADER_LEN, Row};
use forebay_runtime::seam::{Monotonic, WallMs};

pub(super) const SEGMENT: u64 = 16 << 10;

pub(super) fn settings(segments_max: u64, seed: u64) -> Settings {
    Settings {
        shard: 3,
        segment_bytes: SEGMENT,
        segments_max,
        sink_bytes_max: SEGMENT * segments_max,
        data_dir_id: 0,
        seed,
    }
}

/// Records with these values.
pub(super) fn records(values: &[Vec<u8>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for value in values {
        let headers = [(&b"h"[..], &b"v"[..])].into_iter();
        let row = Row { key: Some(&b"key"[..]), value: Some(value), headers, timestamp: WallMs(1_000) };
        builder.append(&row, row.measure());
    }
    builder.close(None).split_off(HEADER_LEN)
}

/// The lane of a sink by name.
pub(super) fn lane(log: &mut Log, sink: &str, topic: &str, partition: i32) -> u64 {
    let sink = log.sink(sink);
    log.lane(sink, topic, partition, false).expect("a lane")
}

pub(super) fn put(log: &mut Log, lane: u64, values: &[Vec<u8>]) -> Result<RowRun, Refused> {
    put_with(log, lane, values, &[], &[])
}

pub(super) fn put_with(
    log: &mut Log,
    lane: u64,
    values: &[Vec<u8>],
    origins: &[(u32, Origin)],
    deadlines: &[(u32, Deadline)],
) -> Result<RowRun, Refused> {
    let (records, count) = (records(values), values.len() as u32);
    let hashes: Vec<(u32, u32)> = (0..count).map(|index| (index, index ^ 7)).collect();
    let rows =
        NewRows { lane, records: &records, base_timestamp: 1_000, count, origins, deadlines, hashes: &hashes, from: 0 };
    log.rows(&rows).map(|first| RowRun { first, count: u64::from(count) })
}

/// A cut to partition 0.
pub(super) fn cut(log: &mut Log, lane: u64, epoch: i16, rows: &[RowRun]) -> Result<(u64, u64), Refused> {
    cut_to(log, lane, 0, epoch, rows)
}

pub(super) fn cut_to(
    log: &mut Log,
    lane: u64,
    partition: i32,
    epoch: i16,
    rows: &[RowRun],
) -> Result<(u64, u64), Refused> {
    let (producer_id, sequence, timeless) = (4_000, 0, false);
    let known = Known { cluster: "cluster", topic_id: 9, partitions: 8 };
    let incarnation = log.incarnation(lane, &known)?;
    log.cut(&NewCut { lane, incarnation, partition, producer_id, epoch, sequence, timeless, rows })
}

/// The value in a tail.
pub(super) fn value(tail: &[u8]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    builder.append_tail(0, tail);
    let batch = builder.close(None);
    let (view, _) = forebay_record::BatchView::parse(&batch).expect("a batch");
    let record = view.records().expect("records").next().expect("one").expect("whole");
    record.value.expect("a value").to_vec()
}

/// Runs the disk until nothing is in flight.
pub(super) fn settle(log: &mut Log, disk: &mut SimDisk) {
    let mut quiet = 0;
    for _ in 0..1_000 {
        // The time is after any time-out, and a time-out that begins now is over at the next call.
        let now = Monotonic((disk.answered + quiet + 1) << 40);
        log.flush(disk, now, WallMs(7));
        match disk.answer() {
            Some(answer) => log.complete(disk, answer),
            None if quiet == 2 => return,
            None => quiet += 1,
        }
    }
    panic!("it never comes to rest");
}

pub(super) fn log(segments_max: u64) -> (Log, SimDisk) {
    (Log::new(settings(segments_max, 1), Recovered::default()), SimDisk::default())
}

/// A state as a checkpoint represents it.
pub(super) fn normal(state: &State) -> State {
    let mut bytes = Vec::new();
    let writing = Writing::new(state, 0, 0);
    let part = writing.next_part(u64::MAX, true).expect("all of it");
    writing.put(part, &mut bytes);
    assert!(part.last);
    crate::format::seal(&mut bytes, 1, 0, 0);
    let (mut out, mut at) = (State::default(), 0);
    while at < bytes.len() {
        let framed = crate::format::framed(&bytes[at..], 1, at as u64).expect("whole");
        out.apply(u64::MAX, 0, 0, &framed.parsed().expect("an entry"));
        at += framed.len;
    }
    out.segments.retain(|_, held| held.things > 0);
    out
}

/// A state without places in segments.
pub(super) fn placeless(state: &State) -> State {
    let mut out = normal(state);
    let lanes: Vec<u64> = out.lanes.keys().copied().collect();
    for lane in lanes {
        let runs: Vec<RowRun> = out.lanes[&lane].spans().map(|span| span.run).collect();
        let (sink, topic) = (out.lanes[&lane].sink.clone(), out.lanes[&lane].topic.clone());
        let named = out.lanes[&lane].named;
        let Lane { partition, next, open_below, landed, volatile, .. } = out.lanes[&lane];
        out.lanes.remove(&lane);
        out.apply(
            0,
            0,
            0,
            &Entry::Lane { lane, partition, next, open_below, landed, volatile, sink: &sink, topic: &topic },
        );
        let spans: Vec<Span> = runs.into_iter().map(|run| Span { run, segment: 0, position: 0, bytes: 0 }).collect();
        out.apply(0, 0, 0, &Entry::Spans { lane, spans: Spans::new(&spans) });
        out.lanes.get_mut(&lane).expect("it").named = named;
    }
    out.sessions.values_mut().for_each(|place| *place = (0, 0, 0));
    out.segments.clear();
    out.sinks.iter_mut().for_each(|(_, bytes, rows)| (*bytes, *rows) = (0, 0));
    out.size = Default::default();
    out
}

pub(super) fn recovered(disk: &SimDisk) -> Recovered {
    recover(disk, 3, &disk.found()).expect("recovery")
}

/// Values by lane and number.
pub(super) type Drained = BTreeMap<(u64, u64), Vec<u8>>;

/// All live rows, by lane and number, and the rotten rows.
pub(super) fn drain(log: &mut Log, disk: &SimDisk) -> (Drained, Vec<(u64, RowRun)>) {
    drain_state(log.state(), disk)
}

/// The same for a state, durable or not.
pub(super) fn drain_state(state: &State, disk: &SimDisk) -> (Drained, Vec<(u64, RowRun)>) {
    let (mut found, mut rotten) = (BTreeMap::new(), Vec::new());
    let lanes: Vec<u64> = state.lanes().map(|(lane, _)| lane).collect();
    let mut log = crate::FoundReader::new(state);
    for lane in lanes {
        let mut at = 0;
        loop {
            match log.rows(disk, lane, at, u64::MAX).expect("a read") {
                Read::Empty => break,
                Read::Rotten(run) => {
                    rotten.push((lane, run));
                    at = run.end();
                }
                Read::Block(block) => {
                    assert!(block.run.first >= at, "backwards");
                    for row in block.rows() {
                        assert_eq!(row.record.timestamp, 1_000);
                        found.insert((lane, row.number), value(row.record.tail));
                        at = row.number + 1;
                    }
                    assert_eq!(at, block.run.end());
                }
            }
        }
    }
    (found, rotten)
}

/// Appends an entry to bytes as in a group, without a commit.
pub(super) fn framed(entry: &Entry<'_>, salt: u64, position: u64) -> Vec<u8> {
    let mut out = Vec::new();
    entry.put(&mut out);
    crate::format::seal(&mut out, salt, position, 0);
    out
}
