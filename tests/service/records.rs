//! What is in a Kafka topic, read over a socket and taken apart by hand: nothing of the code under test.

use std::net::SocketAddr;

use crate::kafka_client::{Batch, Client, varint};
use crate::process::until;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: String,
    /// Whether the key is null, and no key is there; then `key` is empty.
    pub(crate) has_no_key: bool,
    pub(crate) value: Vec<u8>,
    /// Whether the value is null; then it is empty above.
    pub(crate) is_null: bool,
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) timestamp: i64,
    /// In order, duplicates kept.
    pub(crate) headers: Vec<(String, String)>,
}

impl Record {
    /// The value of a record whose value is text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.value).expect("text")
    }
}

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct NewRecord<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Writes records to a partition in one batch, 1 s after 1970-01-01.
pub(crate) fn write_records(to: SocketAddr, topic: &str, partition: i32, records: &[NewRecord<'_>]) {
    write_records_at(to, topic, partition, (1_000, records));
}

/// The same at a time, milliseconds since 1970-01-01; -1: without one.
pub(crate) fn write_records_at(to: SocketAddr, topic: &str, partition: i32, (time, records): (i64, &[NewRecord<'_>])) {
    fn field(record: &mut Vec<u8>, field: Option<&[u8]>) {
        varint(record, field.map_or(-1, |bytes| bytes.len() as i64));
        record.extend(field.unwrap_or_default());
    }
    let mut bytes = Vec::new();
    for (delta, new) in (0..).zip(records) {
        let mut record = vec![0, 0];
        varint(&mut record, delta);
        field(&mut record, new.key);
        field(&mut record, new.value);
        varint(&mut record, new.headers.len() as i64);
        for (name, value) in new.headers {
            field(&mut record, Some(name.as_bytes()));
            field(&mut record, *value);
        }
        varint(&mut bytes, record.len() as i64);
        bytes.extend(record);
    }
    let batch = Batch::of(&vec![&b""[..]; records.len()]).at(&vec![time; records.len()]).around(&bytes);
    assert_eq!(Client::connect(to).produce(topic, partition, &batch).error_code, 0);
}

/// All records of a topic, partition by partition, each in the order of its offsets.
pub(crate) fn read(bootstrap: SocketAddr, topic: &str) -> Vec<Record> {
    let mut client = Client::connect(bootstrap);
    let partitions = client.metadata(&[topic]).topics[0].partitions.len();
    (0..i32::try_from(partitions).expect("few")).flat_map(|p| read_partition(&mut client, topic, p)).collect()
}

/// The texts of a topic's records, sorted.
pub(crate) fn texts(bootstrap: SocketAddr, topic: &str) -> Vec<String> {
    let mut texts: Vec<_> = read(bootstrap, topic).iter().map(|record| record.text().to_owned()).collect();
    texts.sort();
    texts
}

/// Waits until a topic has that many records, and gives them: for what nobody answers.
pub(crate) fn read_when(bootstrap: SocketAddr, topic: &str, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    until(&format!("{count} records in {topic}"), || {
        records = read(bootstrap, topic);
        records.len() >= count
    });
    assert_eq!(records.len(), count, "{records:?}");
    records
}

fn read_partition(client: &mut Client, topic: &str, partition: i32) -> Vec<Record> {
    let mut records = Vec::new();
    let mut offset = 0;
    loop {
        let data = client.fetch(topic, partition, offset);
        assert_eq!(data.error_code, 0, "{topic}-{partition} at {offset}");
        let bytes = data.records.unwrap_or_default();
        if bytes.is_empty() {
            assert_eq!(offset, data.high_watermark, "{topic}-{partition} is stuck");
            return records;
        }
        let mut batches = &*bytes;
        while batches.len() >= 12 {
            let (base, size) = (i64::from_be_bytes(*batches.first_chunk().expect("an offset")), &batches[8..12]);
            let size = 12 + u32::from_be_bytes(size.try_into().expect("four bytes")) as usize;
            // Kafka ends an answer where it is full, in a batch that it gives again.
            if size > batches.len() {
                break;
            }
            let batch = records_of(partition, &batches[..size]);
            assert_eq!(base, offset, "no gaps, nothing twice");
            offset += i64::try_from(batch.len()).expect("few");
            records.extend(batch);
            batches = &batches[size..];
        }
    }
}

/// The records of one uncompressed batch of version 2.
fn records_of(partition: i32, batch: &[u8]) -> Vec<Record> {
    assert_eq!(crc32c::crc32c(&batch[21..]).to_be_bytes(), batch[17..21], "the batch's CRC");
    assert_eq!(batch[22] & 7, 0, "not compressed");
    let count = u32::from_be_bytes(batch[57..61].try_into().expect("four bytes"));
    let base = i64::from_be_bytes(batch[27..35].try_into().expect("eight bytes"));
    let mut rest = Cursor(&batch[61..]);
    let records = (0..count).map(|_| rest.record(partition, base)).collect();
    assert!(rest.0.is_empty(), "bytes behind the last record");
    records
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// `base`: what timestamps count from.
    fn record(&mut self, partition: i32, base: i64) -> Record {
        let mut body = Cursor(self.bytes());
        body.take(1);
        let (timestamp, _offset) = (base + body.varint(), body.varint());
        // A length of -1.
        let has_no_key = body.0[0] == 1;
        let key = text(body.bytes());
        let is_null = body.0[0] == 1;
        let value = body.bytes().to_vec();
        let headers = (0..body.varint()).map(|_| (text(body.bytes()), text(body.bytes()))).collect();
        Record { partition, key, has_no_key, value, is_null, timestamp, headers }
    }

    /// Bytes behind their length; none where it says null.
    fn bytes(&mut self) -> &'a [u8] {
        let len = self.varint();
        self.take(usize::try_from(len).unwrap_or(0))
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte < 0x80 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
