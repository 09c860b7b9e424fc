//! The data that a consumer of another program writes: records, subscriptions, and assignments where it leads its group (assignor
//! `range`).

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchEncoder,
    RecordEncodeOptions, TimestampType,
};

use super::{Cluster, Entry, State};
use crate::time::wall_ms;

/// A subscription of Kafka's consumers, version 0, without user data.
pub(super) fn subscription<'a>(topics: impl Iterator<Item = &'a String>) -> Bytes {
    let topics: Vec<&String> = topics.collect();
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    topics.into_iter().for_each(|topic| put_string(&mut bytes, topic));
    bytes.put_i32(-1);
    bytes.freeze()
}

fn put_string(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

/// The assignor `range`: the members get consecutive partitions of each topic, static members first. All members want all topics.
pub(super) fn range(members: &[(String, Option<String>)], topics: &BTreeMap<String, i32>) -> Vec<(String, Bytes)> {
    let mut members: Vec<&(String, Option<String>)> = members.iter().collect();
    members.sort_by(|(id, instance), (other, of_other)| {
        let key = |id: &str, instance: &Option<String>| (instance.is_none(), instance.clone(), id.to_owned());
        key(id, instance).cmp(&key(other, of_other))
    });
    let count = members.len() as i32;
    let assigned = |(place, (id, _)): (usize, &(String, Option<String>))| {
        let place = place as i32;
        let mut bytes = BytesMut::new();
        bytes.put_i16(0);
        bytes.put_i32(topics.len() as i32);
        for (topic, partitions) in topics {
            let (each, more) = (partitions / count, partitions % count);
            let first = each * place + place.min(more);
            let of_it = each + i32::from(place < more);
            put_string(&mut bytes, topic);
            bytes.put_i32(of_it);
            (first..first + of_it).for_each(|partition| bytes.put_i32(partition));
        }
        bytes.put_i32(-1);
        (id.clone(), bytes.freeze())
    };
    members.into_iter().enumerate().map(assigned).collect()
}

/// A record of another program.
#[derive(Clone, Debug)]
pub(crate) struct ForeignRecord {
    pub(crate) key: Option<String>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<(&'static str, String)>,
}

impl Cluster {
    /// Appends a batch of another program to a partition that has a leader. Returns its place among the entries; `None`: the partition takes
    /// nothing now.
    pub(crate) fn append_records(
        &mut self,
        name: &str,
        index: usize,
        records: &[ForeignRecord],
        time: u64,
    ) -> Option<usize> {
        let topic = self.topics.get(name)?;
        let (topic_id, partition) = (topic.id, topic.partitions.get(index)?);
        let leader = partition.leader.filter(|leader| self.works(*leader))?;
        debug_assert!(partition.replicas.contains(&leader), "a replica leads");
        let timestamp = wall_ms(time);
        let place = self.entries.len();
        let mut entry = Entry {
            producer: NO_PRODUCER_ID,
            epoch: NO_PRODUCER_EPOCH,
            first: NO_SEQUENCE,
            last: NO_SEQUENCE,
            base_offset: 0,
            count: records.len() as i32,
            max_timestamp: timestamp,
            rows: Vec::new(),
            place: (name.to_owned(), topic_id, index),
            leader_epoch: 0,
            time,
            life: 0,
            late: false,
            forgotten: false,
            state: State::There,
            bytes: Bytes::new(),
            cleaned_ms: None,
        };
        let partition = self.topics.get_mut(name)?.partitions.get_mut(index)?;
        partition.append(place, &mut entry);
        entry.bytes = encode(records, timestamp, (entry.base_offset, entry.leader_epoch));
        self.entries.push(entry);
        self.replicate_later(time);
        Some(place)
    }
}

/// A batch, format v2.
fn encode(records: &[ForeignRecord], timestamp: i64, (base_offset, leader_epoch): (i64, i32)) -> Bytes {
    let record = |(number, record): (i64, &ForeignRecord)| {
        let headers: IndexMap<StrBytes, Option<Bytes>> = record
            .headers
            .iter()
            .map(|(name, value)| (StrBytes::from_static_str(name), Some(Bytes::from(value.clone().into_bytes()))))
            .collect();
        Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset: number,
            sequence: NO_SEQUENCE.wrapping_add(number as i32),
            timestamp,
            key: record.key.clone().map(|key| Bytes::from(key.into_bytes())),
            value: Some(Bytes::from(record.value.clone())),
            headers,
        }
    };
    let records: Vec<Record> = (0..).zip(records).map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("a batch");
    // Base offset and leader epoch are set by the broker, and not covered by the checksum.
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    bytes.freeze()
}
