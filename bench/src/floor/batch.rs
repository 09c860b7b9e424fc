//! One open Kafka record batch (format 2), to which every message is appended.

use std::io::Write;
use std::net::TcpStream;

/// The size in bytes at which a batch is closed: writes of 64 to 256 KiB are the cheapest.
const BYTES_MAX: usize = 128 << 10;
/// The bytes from baseOffset to recordsCount.
const HEADER_BYTES: usize = 61;
/// The offset of the CRC, which covers the bytes after it.
const CRC_AT: usize = 17;

/// See the module.
pub(crate) struct Batch {
    sink: Option<TcpStream>,
    bytes: Vec<u8>,
    records: i32,
}

impl Batch {
    pub(crate) fn new(sink: Option<TcpStream>) -> Self {
        let mut bytes = Vec::with_capacity(BYTES_MAX + (64 << 10));
        bytes.resize(HEADER_BYTES, 0);
        Self { sink, bytes, records: 0 }
    }

    /// Appends a record.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> std::io::Result<()> {
        let offset = self.records;
        let length = 3
            + varint_bytes(offset)
            + varint_bytes(key.len() as i32)
            + key.len()
            + varint_bytes(value.len() as i32)
            + value.len();
        varint(&mut self.bytes, length as i32);
        // Attributes and timestamp delta.
        self.bytes.extend_from_slice(&[0, 0]);
        varint(&mut self.bytes, offset);
        varint(&mut self.bytes, key.len() as i32);
        self.bytes.extend_from_slice(key);
        varint(&mut self.bytes, value.len() as i32);
        self.bytes.extend_from_slice(value);
        // No headers.
        self.bytes.push(0);
        self.records += 1;
        if self.bytes.len() >= BYTES_MAX { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> std::io::Result<()> {
        let length = (self.bytes.len() - 12) as i32;
        self.bytes[8..12].copy_from_slice(&length.to_be_bytes());
        self.bytes[16] = 2;
        self.bytes[23..27].copy_from_slice(&(self.records - 1).to_be_bytes());
        self.bytes[57..61].copy_from_slice(&self.records.to_be_bytes());
        let crc = crc32c::crc32c(&self.bytes[CRC_AT + 4..]);
        self.bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        if let Some(sink) = &mut self.sink {
            sink.write_all(&self.bytes)?;
        }
        self.bytes.truncate(HEADER_BYTES);
        self.records = 0;
        Ok(())
    }
}

fn zigzag(value: i32) -> u32 {
    (value << 1 ^ value >> 31) as u32
}

fn varint_bytes(value: i32) -> usize {
    (38 - zigzag(value).leading_zeros() as usize) / 7 + usize::from(value == 0)
}

fn varint(out: &mut Vec<u8>, value: i32) {
    let mut rest = zigzag(value);
    while rest > 127 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kafka_protocol::records::RecordBatchDecoder;

    use super::*;

    #[test]
    fn what_the_floor_writes_is_a_batch_of_kafka() {
        let mut batch = Batch::new(None);
        for number in 0..200_u32 {
            batch.push(b"dev/1", &number.to_le_bytes()).unwrap();
        }
        // The values that close() would write.
        let count = batch.records;
        let mut written = batch.bytes.clone();
        let length = (written.len() - 12) as i32;
        written[8..12].copy_from_slice(&length.to_be_bytes());
        written[16] = 2;
        written[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        written[57..61].copy_from_slice(&count.to_be_bytes());
        let crc = crc32c::crc32c(&written[21..]);
        written[17..21].copy_from_slice(&crc.to_be_bytes());
        let set = RecordBatchDecoder::decode(&mut Bytes::from(written)).unwrap();
        assert_eq!(set.records.len(), 200);
        assert_eq!(set.records[199].value.as_deref(), Some(&199_u32.to_le_bytes()[..]));
        batch.close().unwrap();
        assert_eq!((batch.bytes.len(), batch.records), (HEADER_BYTES, 0));
    }

    #[test]
    fn lengths_of_varints_are_right() {
        for value in [0, 1, 63, 64, 8_191, 8_192, 1 << 20] {
            let mut out = Vec::new();
            varint(&mut out, value);
            assert_eq!(out.len(), varint_bytes(value), "{value}");
        }
    }
}
