//! A small blocking Kafka client over kafka-protocol, and handmade batches, without any of the code under test. Shared
//! with `tests/embedded_log.rs`.
#![allow(dead_code, unreachable_pub, missing_docs)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    FetchRequest, ListOffsetsRequest, MetadataRequest, MetadataResponse, ProduceRequest, RequestHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

pub fn name(topic: &str) -> TopicName {
    StrBytes::from_string(topic.to_owned()).into()
}

pub struct Client {
    pub stream: TcpStream,
    correlation_id: i32,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, correlation_id: 0 }
    }

    /// Sends a request without waiting for the answer.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.correlation_id += 1;
        let frame = request_frame(request, version, self.correlation_id);
        self.stream.write_all(&frame).unwrap();
    }

    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut frame = self.receive_frame().expect("an answer");
        assert_eq!(i32::from_be_bytes(frame.split_to(4)[..].try_into().unwrap()), self.correlation_id);
        if R::Response::header_version(version) >= 1 {
            assert_eq!(frame.split_to(1)[0], 0, "no tagged fields in the header");
        }
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes left", frame.len());
        response
    }

    pub fn receive_frame(&mut self) -> std::io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version);
        self.receive::<R>(version)
    }

    /// Whether the peer has closed the connection.
    pub fn is_closed(&mut self) -> bool {
        !matches!(self.stream.read(&mut [0; 1]), Ok(1))
    }

    pub fn metadata(&mut self, topics: &[&str]) -> MetadataResponse {
        let topics = topics.iter().map(|topic| MetadataRequestTopic::default().with_name(Some(name(topic)))).collect();
        let request = MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(true);
        self.call(&request, 12)
    }

    /// One batch to one partition, acks=all.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> PartitionProduceResponse {
        let request = produce_request(-1, &[(topic, partition, batch)]);
        let mut response = self.call(&request, 9);
        response.responses.remove(0).partition_responses.remove(0)
    }

    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> PartitionData {
        self.fetch_with(topic, partition, offset, |request| request)
    }

    pub fn fetch_with(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        change: impl FnOnce(FetchRequest) -> FetchRequest,
    ) -> PartitionData {
        let mut response = self.call(&change(fetch_request(topic, partition, offset)), 12);
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }

    /// Returns `(error, timestamp, offset)`.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64, i64) {
        let asked = ListOffsetsPartition::default().with_partition_index(partition).with_timestamp(timestamp);
        let asked = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![asked]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![asked]);
        let response = self.call(&request, 9);
        let found = &response.topics[0].partitions[0];
        (found.error_code, found.timestamp, found.offset)
    }

    /// Reads a partition from an offset to its end: `(offset, value)` of every record, with whole batches checked.
    pub fn read_all(&mut self, topic: &str, partition: i32, from: i64) -> Vec<(i64, Vec<u8>)> {
        let mut offset = from;
        let mut all = Vec::new();
        loop {
            let data = self.fetch(topic, partition, offset);
            assert_eq!(data.error_code, 0, "at offset {offset}");
            let records = data.records.unwrap_or_default();
            if records.is_empty() {
                assert!(offset >= data.high_watermark, "stuck at {offset} of {}", data.high_watermark);
                return all;
            }
            for (at, value) in unpack(&records) {
                if at >= offset {
                    all.push((at, value));
                }
            }
            offset = all.last().unwrap().0 + 1;
        }
    }
}

pub fn request_frame<R: Request>(request: &R, version: i16, correlation_id: i32) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    let length = (frame.len() - 4) as i32;
    frame[0..4].copy_from_slice(&length.to_be_bytes());
    frame
}

pub fn produce_request(acks: i16, batches: &[(&str, i32, &[u8])]) -> ProduceRequest {
    let topic = |(topic, partition, batch): &(&str, i32, &[u8])| {
        let records = Some(Bytes::copy_from_slice(batch));
        let data = PartitionProduceData::default().with_index(*partition).with_records(records);
        TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data])
    };
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(10_000)
        .with_topic_data(batches.iter().map(topic).collect())
}

/// A Fetch that is answered at once.
pub fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let asked =
        FetchPartition::default().with_partition(partition).with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let asked = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![asked]);
    FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![asked])
}

/// A batch under construction.
#[derive(Clone, Debug)]
pub struct Batch {
    pub producer: (i64, i16, i32),
    pub timestamps: Vec<i64>,
    pub values: Vec<Vec<u8>>,
    pub attributes: i16,
}

impl Batch {
    pub fn of(values: &[&[u8]]) -> Batch {
        let timestamps = vec![1_000; values.len()];
        let values = values.iter().map(|value| value.to_vec()).collect();
        Batch { producer: (-1, -1, -1), timestamps, values, attributes: 0 }
    }

    pub fn counted(count: usize) -> Batch {
        let values: Vec<_> = (0..count).map(|n| format!("value {n}").into_bytes()).collect();
        Batch::of(&values.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    pub fn by(mut self, producer_id: i64, epoch: i16, sequence: i32) -> Batch {
        self.producer = (producer_id, epoch, sequence);
        self
    }

    pub fn at(mut self, timestamps: &[i64]) -> Batch {
        self.timestamps = timestamps.to_vec();
        self
    }

    pub fn attributes(mut self, attributes: i16) -> Batch {
        self.attributes = attributes;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let base_timestamp = self.timestamps[0];
        for (n, (value, timestamp)) in self.values.iter().zip(&self.timestamps).enumerate() {
            let mut record = vec![0];
            varint(&mut record, timestamp - base_timestamp);
            varint(&mut record, n as i64);
            varint(&mut record, -1);
            varint(&mut record, value.len() as i64);
            record.extend_from_slice(value);
            varint(&mut record, 1);
            varint(&mut record, 1);
            record.push(b'h');
            varint(&mut record, -1);
            varint(&mut records, record.len() as i64);
            records.extend_from_slice(&record);
        }
        self.around(&records)
    }

    /// The header with any bytes as its records.
    pub fn around(&self, records: &[u8]) -> Vec<u8> {
        let count = self.values.len() as i32;
        let mut batch = Vec::new();
        batch.put_i64(0);
        batch.put_i32(49 + records.len() as i32);
        batch.put_i32(-1);
        batch.put_i8(2);
        batch.put_u32(0);
        batch.put_i16(self.attributes);
        batch.put_i32(count - 1);
        batch.put_i64(self.timestamps[0]);
        batch.put_i64(*self.timestamps.iter().max().unwrap());
        batch.put_i64(self.producer.0);
        batch.put_i16(self.producer.1);
        batch.put_i32(self.producer.2);
        batch.put_i32(count);
        batch.extend_from_slice(records);
        seal(&mut batch);
        batch
    }
}

/// Corrects the CRC.
pub fn seal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

pub fn varint(to: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn read_varint(from: &mut &[u8]) -> i64 {
    let mut value = 0u64;
    let mut shift = 0;
    loop {
        let byte = from[0];
        *from = &from[1..];
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            return (value >> 1) as i64 ^ -((value & 1) as i64);
        }
    }
}

/// `(offset, value)` of the records in uncompressed batches made by [`Batch`]; CRCs are checked.
pub fn unpack(mut batches: &[u8]) -> Vec<(i64, Vec<u8>)> {
    let mut all = Vec::new();
    while !batches.is_empty() {
        let base = i64::from_be_bytes(batches[0..8].try_into().unwrap());
        let size = 12 + i32::from_be_bytes(batches[8..12].try_into().unwrap()) as usize;
        let (batch, rest) = batches.split_at(size);
        assert_eq!(crc32c::crc32c(&batch[21..]).to_be_bytes(), batch[17..21], "CRC of the batch at {base}");
        let mut records = &batch[61..];
        while !records.is_empty() {
            let length = read_varint(&mut records) as usize;
            let (mut record, rest) = records.split_at(length);
            records = rest;
            record = &record[1..];
            let (_, delta, key) = (read_varint(&mut record), read_varint(&mut record), read_varint(&mut record));
            assert_eq!(key, -1);
            let value_length = read_varint(&mut record) as usize;
            all.push((base + delta, record[..value_length].to_vec()));
        }
        batches = rest;
    }
    all
}
