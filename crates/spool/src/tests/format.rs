//! Every entry is read as it was written, and no bytes make the reader panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::support::{SEGMENT, framed, lane, log, put, records, settle};
use crate::payload::parse;
use crate::{
    CutHead, Deadline, Entry, HEADER_BYTES, Header, Kind, Listed, Origin, Reason, RowRun, Rows, Runs, Span, Spans, scan,
};

fn run() -> impl Strategy<Value = RowRun> {
    (0..1u64 << 60, 1..1u64 << 32).prop_map(|(first, count)| RowRun { first, count })
}

fn check(entry: &Entry<'_>) {
    let bytes = framed(entry, 77, 4_096);
    let read = crate::format::framed(&bytes, 77, 4_096).expect("whole");
    assert_eq!((read.len, read.parsed().as_ref()), (bytes.len(), Some(entry)));
    for at in 0..bytes.len() {
        for flip in [1, 0x80] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            assert!(crate::format::framed(&bytes, 77, 4_096).is_none(), "byte {at} of {entry:?}");
        }
    }
    assert!(crate::format::framed(&bytes, 77, 4_104).is_none(), "another position");
    assert!(crate::format::framed(&bytes, 78, 4_096).is_none(), "another salt");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn entries_come_back_and_every_flipped_byte_is_noticed(
        (a, b, c) in (0..1u64 << 60, any::<u32>(), any::<u16>()),
        (d, e, f) in (any::<i64>(), any::<i16>(), any::<i32>()),
        runs in vec(run(), 0..4),
        lanes in vec(any::<u32>(), 0..4),
        bytes in vec(any::<u8>(), 0..60),
        (sink, topic) in ("[a-zé]{0,9}", "[a-z.]{0,30}"),
    ) {
        let values = [bytes.clone(), lanes.iter().map(|lane| *lane as u8).collect()];
        let records = records(&values);
        let reason = [Reason::Refused, Reason::Expired, Reason::Void, Reason::Rotten][c as usize % 4];
        let spans: Vec<Span> =
            runs.iter().map(|run| Span { run: *run, segment: a, position: a ^ 5, bytes: d as u64 >> 4 }).collect();
        let (lane, session, packet_id) = (a ^ 6, a, c);
        let origins: Vec<_> = lanes.iter().map(|index| (*index, Origin { session, packet_id })).collect();
        let deadlines: Vec<_> = lanes.iter().map(|index| (*index, Deadline { wall_ms: d, left_ms: a })).collect();
        let hashes: Vec<_> = lanes.iter().map(|index| (*index, index ^ 1)).collect();
        let opened: Vec<_> = lanes.iter().map(|lane| (u64::from(*lane) << 20, a)).collect();
        let (cut, base_offset, rows) = (a, d, Runs::new(&runs));
        let (topic_id, number, incarnation, cluster) = (u128::from(c) << 100, a ^ 7, a ^ 11, "cluster");
        let (partition, timeless) = (f & i32::MAX, f < 0);
        let head = CutHead { cut, lane, incarnation, partition, producer_id: d, epoch: e, sequence: f, timeless };
        let all = [
            Entry::Rows(Rows {
                lane,
                run: RowRun { first: a >> 4, count: 2 },
                base_timestamp: d,
                origins: Listed::new(&origins),
                deadlines: Listed::new(&deadlines),
                hashes: Listed::new(&hashes),
                records: &records,
            }),
            Entry::Cut { cut: head, rows },
            Entry::Done { cut, lane, base_offset, rows },
            Entry::EndRows { lane, reason, rows },
            Entry::EndCut { cut, lane, reason, rows },
            Entry::Incarnation { number, topic_id, partitions: b, sink: &sink, topic: &topic, cluster },
            Entry::Session { session, payload: &bytes },
            Entry::SessionEnded { session },
            Entry::Opened { session, packet_id, rows: Listed::new(&opened) },
            Entry::Released { session, packet_id },
            Entry::Commit { group: a, start: a ^ 9, wall_ms: d, count: b, checksum: b ^ 1 },
            Entry::Checkpoint { begun: a, part: 7, next_incarnation: a ^ 12, next_lane: a ^ 8, next_cut: a, next_session: a ^ 3 },
            Entry::Lane { lane, partition: f, next: a, open_below: a >> 1, landed: d, volatile: b % 2 == 1, sink: &sink, topic: &topic },
            Entry::Spans { lane, spans: Spans::new(&spans) },
            Entry::Segment { segment: a, salt: a ^ 2, end: d as u64 >> 4 },
            Entry::SessionAt { session, segment: a ^ 4, position: d as u64 >> 4, bytes: 9 },
            Entry::CheckpointEnd { last: true },
            Entry::LanesForgotten { lanes: rows },
            Entry::IncarnationsForgotten { numbers: rows },
            Entry::SinkEnded { sink: &sink },
            Entry::VolatileEnded,
            Entry::FateOpen,
        ];
        for entry in &all {
            check(entry);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..600), salt: u64, end in proptest::option::of(0..700u64)) {
        for number in 0..=u8::MAX {
            if let Some(kind) = Kind::from_number(number) {
                let _ = parse(kind, &bytes);
            }
        }
        let _ = Header::decode(&bytes);
        let found = scan(&bytes, 1, salt, end);
        prop_assert!(found.end <= end.unwrap_or(0).max(bytes.len().max(HEADER_BYTES) as u64));
    }

    #[test]
    fn damaged_payloads_never_panic(at in 0..200usize, byte: u8, lane: u64) {
        let records = records(&[vec![1; 40], vec![2; 40]]);
        let run = RowRun { first: 5, count: 2 };
        let origins = [(0, Origin { session: 1, packet_id: 2 })];
        let (origins, deadlines, hashes) = (Listed::new(&origins), Listed::new(&[]), Listed::new(&[]));
        let entry =
            Entry::Rows(Rows { lane, run, base_timestamp: 4, origins, deadlines, hashes, records: &records });
        let mut bytes = framed(&entry, 1, 128);
        let len = bytes.len();
        bytes[12 + at % (len - 12)] = byte;
        if let Some(Entry::Rows(rows)) = parse(Kind::Rows, &bytes[12..]) {
            let _ = rows.records().count();
        }
    }
}

#[test]
fn a_header_comes_back_and_every_flipped_bit_of_it_is_noticed() {
    let header = Header {
        shard: 1,
        segment: 2,
        salt: 3,
        created_ms: -4,
        previous: 5,
        previous_end: 6,
        checkpoints: [(7, 8), (9, 10)],
        bytes: 11,
        features: 0,
        optional_features: 1 << 31 | 12,
        data_dir_id: 13 << 100 | 14,
    };
    let bytes = header.encode();
    assert_eq!(Header::decode(&bytes), Ok(header));
    for bit in 0..HEADER_BYTES * 8 {
        let mut bytes = bytes;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Header::decode(&bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn every_flipped_bit_of_a_closed_segment_is_noticed() {
    let (mut log, mut disk) = log(8);
    for turn in 0..8u8 {
        let lane = lane(&mut log, "sink", "topic", i32::from(turn % 2));
        put(&mut log, lane, &[vec![turn; 20]]).expect("room");
        settle(&mut log, &mut disk);
    }
    let (segment, end) = log.last.expect("a segment");
    let salt = log.state().segments[&segment].salt;
    let bytes = disk.bytes(segment).clone();
    let found = scan(&bytes[..SEGMENT as usize - HEADER_BYTES], segment, salt, Some(end));
    assert!(found.rot.is_empty() && found.torn_bytes == 0);
    for bit in HEADER_BYTES * 8..end as usize * 8 {
        let mut bytes = bytes[..end as usize].to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let damaged = scan(&bytes, segment, salt, Some(end));
        assert_eq!(damaged.rot.len(), 1, "bit {bit}");
        assert_eq!(damaged.entries.len() + 1, found.entries.len(), "bit {bit} cost more than its entry");
    }
}
