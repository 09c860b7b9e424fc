//! Tests of decoding alone: batches with any bytes changed, records of any shape in pieces of any codec.

use proptest::prelude::*;
use std::rc::Rc;

use super::world::{batch_of, restamp};
use crate::consumer::buffer::{Account, Buffer};
use crate::consumer::decode::{Chunk, Position, Terms};
use forebay_record::compression::Codec;
use forebay_record::{Builder, Row};
use forebay_runtime::seam::WallMs;

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Reads everything; returns the number of records, and whether a batch was bad. Offsets only increase, and all memory is freed.
fn read(bytes: Vec<u8>, aborted: Vec<(i64, i64)>) -> (usize, bool) {
    let account = Account::default();
    let end = bytes.len();
    let buffer = Rc::new(Buffer::new(bytes, 0, &account));
    let terms = Terms { committed: true, batch_bytes_max: 1 << 20 };
    let mut chunk = Chunk::new(buffer, 0..end, aborted, terms, &account);
    let mut position = Position { offset: 0, leader_epoch: -1 };
    let (mut count, mut last) = (0, -1);
    let result = loop {
        let before = position;
        match chunk.settle(&mut position) {
            Ok(true) => {
                let record = chunk.record(1).expect("what was found");
                assert!(record.offset > last && record.offset >= before.offset, "offsets go up");
                record.headers.clone().for_each(drop);
                assert!(record.value.is_none_or(|value| record.hold(value).is_some()));
                (last, count) = (record.offset, count + 1);
                assert!(chunk.advance(&mut position));
                assert!(position.offset > before.offset);
            }
            Ok(false) => break false,
            Err(_) => break true,
        }
        assert!(account.used() < end + (6 << 20), "{}", account.used());
    };
    drop(chunk);
    assert_eq!(account.used(), 0);
    (count, result)
}

fn sample(codec: Codec, len: usize) -> Vec<u8> {
    let values: Vec<Vec<u8>> = (0..len).map(|n| format!("value {n} {}", "x".repeat(n % 50)).into_bytes()).collect();
    batch_of(&values.iter().map(Vec::as_slice).collect::<Vec<_>>(), codec)
}

proptest! {
    #[test]
    fn any_records_come_back(
        rows in prop::collection::vec(
            (prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), prop::option::of((0usize..200_000, any::<u8>())),
             prop::collection::vec((".{0,8}", prop::collection::vec(any::<u8>(), 0..9)), 0..4), any::<i32>()),
            1..30),
        codec in prop::sample::select(&CODECS[..]),
    ) {
        let rows: Vec<_> = rows.into_iter().map(|(key, value, headers, at)| (key, value.map(|(len, fill)| vec![fill; len]), headers, at)).collect();
        let mut builder = Builder::new(Vec::new());
        for (key, value, headers, at) in &rows {
            let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_slice()));
            let row = Row { key: key.as_deref(), value: value.as_deref(), headers, timestamp: WallMs(i64::from(*at)) };
            builder.append(&row, row.measure());
        }
        let mut encoder = forebay_record::compression::Encoder::new(codec, None, builder.len());
        let mut bytes = builder.close(encoder.as_mut());
        restamp(&mut bytes);
        let account = Account::default();
        let end = bytes.len();
        let buffer = Rc::new(Buffer::new(bytes, 0, &account));
        let terms = Terms { committed: true, batch_bytes_max: 64 << 20 };
        let mut chunk = Chunk::new(buffer, 0..end, Vec::new(), terms, &account);
        let mut position = Position { offset: 0, leader_epoch: -1 };
        for (offset, (key, value, headers, at)) in rows.iter().enumerate() {
            prop_assert_eq!(chunk.settle(&mut position), Ok(true));
            let record = chunk.record(1).expect("a record");
            prop_assert_eq!(record.offset, offset as i64);
            prop_assert_eq!(record.key, key.as_deref());
            prop_assert_eq!(record.value, value.as_deref());
            prop_assert_eq!(record.timestamp, i64::from(*at).max(-1));
            let got: Vec<_> = record.headers.clone().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect();
            let expected: Vec<_> = headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), Some(value.clone()))).collect();
            prop_assert_eq!(got, expected);
            chunk.advance(&mut position);
        }
        prop_assert_eq!(chunk.settle(&mut position), Ok(false));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(bytes, Vec::new());
    }

    #[test]
    fn changed_batches_are_read_or_refused(
        codec in prop::sample::select(&CODECS[..]),
        len in 1usize..60,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        stamped in any::<bool>(),
        aborted in prop::collection::vec((any::<i64>(), any::<i64>()), 0..5),
    ) {
        let mut bytes = sample(codec, len);
        for (at, value) in &edits {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        if stamped {
            restamp(&mut bytes);
        }
        bytes.extend_from_slice(&sample(codec, 2));
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(bytes, aborted);
    }
}

#[test]
fn every_byte_of_a_batch_may_be_wrong() {
    for codec in CODECS {
        let good = sample(codec, 40);
        assert_eq!(read(good.clone(), Vec::new()), (40, false), "{codec:?}");
        for at in 0..good.len() {
            for flip in [1, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                let (count, is_bad) = read(bytes.clone(), Vec::new());
                // Base offset, length and epoch are not covered by the checksum.
                assert!(is_bad || at < 17 || count == 0, "{codec:?}: byte {at} was not noticed");
                restamp(&mut bytes);
                read(bytes, Vec::new());
            }
        }
    }
}

#[test]
fn a_cut_batch_is_left_for_the_next_fetch() {
    for codec in CODECS {
        let (first, second) = (sample(codec, 7), sample(codec, 9));
        let mut both = first.clone();
        let mut moved = second.clone();
        moved[..8].copy_from_slice(&7i64.to_be_bytes());
        both.extend_from_slice(&moved);
        for cut in first.len()..both.len() {
            assert_eq!(read(both[..cut].to_vec(), Vec::new()), (7, false), "{codec:?} {cut}");
        }
        assert_eq!(read(both, Vec::new()), (16, false));
    }
}

/// librdkafka writes Snappy without Xerial's framing.
#[test]
fn raw_snappy_is_read() {
    let mut bytes = sample(Codec::None, 300);
    let packed = snap::raw::Encoder::new().compress_vec(&bytes[61..]).expect("packed");
    bytes.truncate(61);
    bytes.extend_from_slice(&packed);
    bytes[22] |= 2;
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    restamp(&mut bytes);
    assert_eq!(read(bytes, Vec::new()), (300, false));
}

/// A block that claims an impossible length.
#[test]
fn a_claim_of_snappy_reserves_nothing() {
    let mut bytes = sample(Codec::None, 1);
    bytes.truncate(61);
    // 64 MiB, in five bytes and one literal.
    bytes.extend_from_slice(&[0x80, 0x80, 0x80, 0x20, 0x00, b'x']);
    bytes[22] |= 2;
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    restamp(&mut bytes);
    assert_eq!(read(bytes, Vec::new()), (0, true));
}
