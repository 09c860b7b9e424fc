//! Records of an answer to Fetch that may be any bytes: read as a consumer does, and judged. The fuzz target `kafka_fetch` uses it.

use std::ops::Range;
use std::rc::Rc;

use super::{buffer, decode};

/// Bytes that a batch may have, decompressed.
pub const BATCH_BYTES_MAX: usize = 1 << 20;

/// Reads all batches at a place of an answer as a consumer does, and asks for all parts of their records. Offsets only go up, and memory
/// stays within what the answer and one batch have.
pub fn records(bytes: Vec<u8>, records: Range<usize>, aborted: Vec<(i64, i64)>, committed: bool) -> usize {
    let account = buffer::Account::default();
    // An answer, a piece, a decoder's window, and a little.
    let most = bytes.capacity() + 2 * BATCH_BYTES_MAX + (160 << 20);
    let buffer = Rc::new(buffer::Buffer::new(bytes, 0, &account));
    let terms = decode::Terms { committed, batch_bytes_max: BATCH_BYTES_MAX };
    let mut chunk = decode::Chunk::new(buffer, records, aborted, terms, &account);
    let mut position = decode::Position { offset: 0, leader_epoch: -1 };
    let (mut last, mut count) = (-1, 0);
    while let Ok(true) = chunk.settle(&mut position) {
        let record = chunk.record(1).expect("the record that was found");
        assert!(record.offset > last, "{} after {last}", record.offset);
        for part in [record.key, record.value].into_iter().flatten() {
            assert_eq!(&*record.hold(part).expect("a part of it"), part);
        }
        for (name, value) in record.headers.clone() {
            assert!(record.hold(name).is_some() && value.is_none_or(|value| record.hold(value).is_some()));
        }
        (last, count) = (record.offset, count + 1);
        assert!(chunk.advance(&mut position) && position.offset == last + 1);
        assert!(account.used() <= most, "{} of {most}", account.used());
    }
    drop(chunk);
    assert_eq!(account.used(), 0, "all is given back");
    count
}
