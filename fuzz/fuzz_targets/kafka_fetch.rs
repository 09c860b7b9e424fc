//! An answer to a Fetch: any bytes, or a batch that was valid before a few of its bytes were changed, with its checksum made good.
#![no_main]

use forebay_fuzz::edits::edited;
use forebay_fuzz::kafka_fetch::{answer, records};
use forebay_fuzz::record::compression::{Codec, Encoder};
use forebay_fuzz::record::{Builder, Row, Stamp, stamp};
use forebay_fuzz::runtime::seam::WallMs;
use libfuzzer_sys::fuzz_target;

fn batch(codec: Codec, values: &[&[u8]]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for value in values {
        let headers = [(&b"name"[..], *value)].into_iter();
        let row = Row { key: Some(b"key"), value: Some(value), headers, timestamp: WallMs(5) };
        builder.append(&row, row.measure());
    }
    let mut encoder = Encoder::new(codec, None, builder.len());
    let mut bytes = builder.close(encoder.as_mut());
    stamp(&mut bytes, Stamp { producer_id: 7, epoch: 0, sequence: 0 });
    bytes
}

fuzz_target!(|input: (u8, Vec<&[u8]>, &[u8], Vec<(i64, i64)>)| {
    let (which, values, edits, aborted) = input;
    if which & 8 == 0 {
        let bytes = values.concat();
        for version in 4..=13 {
            let Some(fetched) = answer(&bytes, version) else { continue };
            for told in fetched.partitions {
                assert!(told.records.end <= bytes.len() && told.topic.end <= bytes.len());
                records(bytes.clone(), told.records, told.aborted, true);
            }
        }
        return;
    }
    let codec = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd][usize::from(which & 7) % 5];
    let mut bytes = edited(&batch(codec, &values), edits, &[]);
    // Four bytes are a change.
    let is_whole = edits.len() < 4;
    if which & 16 != 0 && bytes.len() > 21 {
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }
    bytes.extend_from_slice(&batch(Codec::None, &values[..values.len().min(1)]));
    let end = bytes.len();
    let count = records(bytes, 0..end, aborted, which & 32 != 0);
    if is_whole {
        assert!(count >= values.len());
    }
});
