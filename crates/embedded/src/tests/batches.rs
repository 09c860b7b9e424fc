//! Accepted batches, and the answers to each kind of invalid one.

use super::client::{Batch, seal, varint};
use crate::batch::{Rules, check};
use crate::code::*;

const NOW: i64 = 1_700_000_000_000;
const RULES: Rules = Rules { size_max: 10_000, version: 9, now_ms: NOW };

fn code_of(batch: &[u8]) -> i16 {
    check(batch, RULES).map_or_else(|refusal| refusal.code, |_| 0)
}

fn changed(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = Batch::counted(3).by(5, 0, 0).bytes();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    seal(&mut batch);
    batch
}

#[test]
fn a_sound_batch_is_read_as_it_is() {
    let header = check(&Batch::counted(3).by(5, 1, 7).at(&[10, 30, 20]).bytes(), RULES).unwrap();
    assert_eq!((header.records_count, header.last_offset_delta), (3, 2));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (5, 1, 7));
    assert_eq!((header.base_timestamp, header.max_timestamp), (10, 30));
    assert_eq!(code_of(&Batch::counted(3).at(&[-1, -1, -1]).bytes()), 0, "no timestamp is taken");
}

#[test]
fn every_changed_byte_under_the_crc_is_noticed() {
    let batch = Batch::counted(3).bytes();
    for at in 21..batch.len() {
        let mut bad = batch.clone();
        bad[at] ^= 0x01;
        assert_eq!(code_of(&bad), CORRUPT_MESSAGE, "byte {at}");
    }
}

#[test]
fn every_cut_is_noticed() {
    let batch = Batch::counted(3).bytes();
    for to in 0..batch.len() {
        assert_ne!(code_of(&batch[..to]), 0, "cut to {to}");
    }
}

#[test]
fn each_fault_has_its_code() {
    let whole = Batch::counted(3).bytes();
    let cases: &[(&str, Vec<u8>, i16)] = &[
        ("nothing", vec![], INVALID_RECORD),
        ("magic 1", changed(16, &[1]), INVALID_RECORD),
        ("two batches", [whole.clone(), whole.clone()].concat(), INVALID_RECORD),
        ("a byte behind it", [whole.clone(), vec![0]].concat(), INVALID_RECORD),
        ("negative length", changed(8, &(-1i32).to_be_bytes()), CORRUPT_MESSAGE),
        ("length below the header", changed(8, &48i32.to_be_bytes()), CORRUPT_MESSAGE),
        ("too large", Batch::of(&[&[0; 10_000]]).bytes(), MESSAGE_TOO_LARGE),
        ("control batch", changed(21, &0x20i16.to_be_bytes()), INVALID_RECORD),
        ("transactional", changed(21, &0x10i16.to_be_bytes()), INVALID_TXN_STATE),
        ("log append time", changed(21, &0x08i16.to_be_bytes()), INVALID_TIMESTAMP),
        ("codec 5", changed(21, &5i16.to_be_bytes()), UNSUPPORTED_COMPRESSION_TYPE),
        ("count 0", changed(57, &0i32.to_be_bytes()), INVALID_RECORD),
        ("count 2 for 3", changed(57, &2i32.to_be_bytes()), INVALID_RECORD),
        ("delta 1 for 3", changed(23, &1i32.to_be_bytes()), INVALID_RECORD),
        ("id without sequence", changed(53, &(-1i32).to_be_bytes()), INVALID_RECORD),
        ("id without epoch", changed(51, &(-1i16).to_be_bytes()), INVALID_RECORD),
        ("two hours ahead", Batch::counted(1).at(&[NOW + 7_200_000]).bytes(), INVALID_TIMESTAMP),
        ("two hours ahead, in a record only", changed(27, &(NOW + 7_200_000).to_be_bytes()), INVALID_TIMESTAMP),
        ("half an hour ahead", Batch::counted(1).at(&[NOW + 1_800_000]).bytes(), 0),
        ("long ago", Batch::counted(1).at(&[NOW - 400 * 86_400_000]).bytes(), 0),
    ];
    for (what, batch, expected) in cases {
        assert_eq!(code_of(batch), *expected, "{what}");
    }
}

#[test]
fn counts_that_lie_reserve_nothing_and_are_refused() {
    // 2^31 - 1 records stated, three present: the walk ends where the bytes end.
    let mut batch = Batch::counted(3).bytes();
    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    batch[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    seal(&mut batch);
    assert_eq!(code_of(&batch), INVALID_RECORD);
    // A record with four billion headers.
    let mut record = vec![0, 0, 0, 1, 1];
    varint(&mut record, i64::from(u32::MAX));
    let mut records = Vec::new();
    varint(&mut records, record.len() as i64);
    records.extend_from_slice(&record);
    assert_eq!(code_of(&Batch::counted(1).around(&records)), INVALID_RECORD);
}

#[test]
fn zstd_needs_produce_7_and_compressed_records_stay_closed() {
    let batch = Batch::counted(3).attributes(4).around(b"whatever the codec made of it");
    assert_eq!(code_of(&batch), 0);
    let refusal = check(&batch, Rules { version: 6, ..RULES }).unwrap_err();
    assert_eq!(refusal.code, UNSUPPORTED_COMPRESSION_TYPE);
}
