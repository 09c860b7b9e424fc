//! `kafka-sink`: a process that speaks enough Kafka for a producer and discards the records, so that a measurement needs no
//! Kafka. It answers ApiVersions, Metadata (every topic exists), InitProducerId and Produce.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use clap::Args;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// Supported requests: key, lowest and highest version. They name topics, without their ids.
const SPEAKS: [(ApiKey, i16, i16); 4] =
    [(ApiKey::Produce, 3, 11), (ApiKey::Metadata, 1, 9), (ApiKey::ApiVersions, 0, 3), (ApiKey::InitProducerId, 0, 4)];
/// `UNSUPPORTED_VERSION`.
const UNSUPPORTED: i16 = 35;

/// See the module.
#[derive(Args, Clone, Debug)]
pub(crate) struct Settings {
    /// Where to listen for producers; port 0: any that is free.
    #[arg(long, default_value = "127.0.0.1:19092")]
    bind: SocketAddr,
    /// Partitions of every topic.
    #[arg(long, default_value_t = 4)]
    partitions: i32,
    /// Also listen here for a connection whose bytes are thrown away unread: the floor's sink.
    #[arg(long)]
    discard: Option<SocketAddr>,
}

/// Serves until it is killed.
///
/// # Errors
/// A port that is taken.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<()> {
    if let Some(address) = settings.discard {
        let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
        println!("discard listening on {}", listener.local_addr()?);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || discard(&stream));
            }
        });
    }
    let listener = TcpListener::bind(settings.bind).with_context(|| settings.bind.to_string())?;
    println!("kafka-sink listening on {}", listener.local_addr()?);
    serve(&listener, settings.partitions)
}

/// Reads and copies nothing.
fn discard(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    loop {
        // SAFETY: with MSG_TRUNC and no buffer a TCP socket drops the bytes and writes none (tcp(7)).
        let count = unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), 16 << 20, libc::MSG_TRUNC) };
        if count <= 0 {
            return;
        }
    }
}

fn serve(listener: &TcpListener, partitions: i32) -> anyhow::Result<()> {
    let cluster = Arc::new(Cluster { address: listener.local_addr()?, partitions, ends: Mutex::default() });
    for stream in listener.incoming() {
        let (stream, cluster) = (stream?, cluster.clone());
        std::thread::spawn(move || {
            if let Err(error) = connection(stream, &cluster) {
                eprintln!("kafka-sink: {error:#}");
            }
        });
    }
    Ok(())
}

struct Cluster {
    address: SocketAddr,
    partitions: i32,
    /// Next offset by topic and partition.
    ends: Mutex<HashMap<(String, i32), i64>>,
}

fn connection(mut stream: TcpStream, cluster: &Cluster) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut length = [0; 4];
    let mut out = BytesMut::new();
    while stream.read_exact(&mut length).is_ok() {
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        out.clear();
        out.extend_from_slice(&[0; 4]);
        if cluster.answer(Bytes::from(frame), &mut out)? {
            let length = (out.len() - 4) as u32;
            out[..4].copy_from_slice(&length.to_be_bytes());
            stream.write_all(&out)?;
        }
    }
    Ok(())
}

impl Cluster {
    /// Appends the answer to a request. `false`: there is none (acks 0).
    fn answer(&self, mut frame: Bytes, out: &mut BytesMut) -> anyhow::Result<bool> {
        let (Some(key), Some(version)) = (frame.get(..2), frame.get(2..4)) else { bail!("a request without a header") };
        let number = i16::from_be_bytes(key.try_into()?);
        let mut version = i16::from_be_bytes(version.try_into()?);
        let Ok(key) = ApiKey::try_from(number) else { bail!("unknown API key {number}") };
        let header = RequestHeader::decode(&mut frame, key.request_header_version(version))?;
        let spoken = SPEAKS.iter().find(|(spoken, ..)| *spoken == key);
        let supported = spoken.is_some_and(|(_, low, high)| (*low..=*high).contains(&version));
        if !supported && key != ApiKey::ApiVersions {
            bail!("{key:?} version {version} is not spoken here");
        }
        if !supported {
            // KIP-511: the error is encoded as version 0.
            version = 0;
        }
        let response = ResponseHeader::default().with_correlation_id(header.correlation_id);
        response.encode(out, key.response_header_version(version))?;
        match key {
            ApiKey::ApiVersions => api_versions(supported).encode(out, version)?,
            ApiKey::Metadata => self.metadata(&MetadataRequest::decode(&mut frame, version)?).encode(out, version)?,
            ApiKey::InitProducerId => {
                InitProducerIdResponse::default().with_producer_id(4_711.into()).encode(out, version)?;
            }
            _ => {
                let request = ProduceRequest::decode(&mut frame, version)?;
                self.produce(&request)?.encode(out, version)?;
                return Ok(request.acks != 0);
            }
        }
        Ok(true)
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let broker = MetadataResponseBroker::default()
            .with_node_id(BrokerId(1))
            .with_host(StrBytes::from_string(self.address.ip().to_string()))
            .with_port(i32::from(self.address.port()));
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(1))
                .with_leader_epoch(0)
                .with_replica_nodes(vec![BrokerId(1)])
                .with_isr_nodes(vec![BrokerId(1)])
        };
        let topics = request.topics.iter().flatten().map(|topic| {
            MetadataResponseTopic::default()
                .with_name(topic.name.clone())
                .with_partitions((0..self.partitions).map(partition).collect())
        });
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(StrBytes::from_static_str("sink")))
            .with_controller_id(BrokerId(1))
            .with_topics(topics.collect())
    }

    fn produce(&self, request: &ProduceRequest) -> anyhow::Result<ProduceResponse> {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut topics = Vec::new();
        for topic in &request.topic_data {
            let mut partitions = Vec::new();
            for partition in &topic.partition_data {
                let records = partition.records.as_deref().unwrap_or_default();
                let end = ends.entry((topic.name.0.to_string(), partition.index)).or_default();
                let base = *end;
                *end += records_in(records)?;
                let answer = PartitionProduceResponse::default().with_index(partition.index).with_base_offset(base);
                partitions.push(answer.with_log_append_time_ms(-1).with_log_start_offset(0));
            }
            topics.push(
                TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(partitions),
            );
        }
        Ok(ProduceResponse::default().with_responses(topics))
    }
}

fn api_versions(supported: bool) -> ApiVersionsResponse {
    let keys = SPEAKS.iter().map(|(key, low, high)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*low).with_max_version(*high)
    });
    let code = if supported { 0 } else { UNSUPPORTED };
    ApiVersionsResponse::default().with_error_code(code).with_api_keys(keys.collect())
}

/// Records in batches of format 2, by their headers.
fn records_in(mut batches: &[u8]) -> anyhow::Result<i64> {
    let mut sum = 0;
    while !batches.is_empty() {
        let word = |at: usize| batches.get(at..at + 4).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes);
        let (Some(length), Some(count)) = (word(8), word(57)) else { bail!("a batch without a header") };
        sum += i64::from(count);
        batches = batches.get(12 + usize::try_from(length)?..).context("a batch that is cut off")?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::TopicName;
    use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};

    use super::*;

    /// Sends a request as bytes. Returns its answer without correlation id.
    fn ask<T: Decodable>(cluster: &Cluster, key: ApiKey, version: i16, request: &impl Encodable) -> T {
        let header = RequestHeader::default().with_request_api_key(key as i16).with_request_api_version(version);
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, key.request_header_version(version)).unwrap();
        request.encode(&mut bytes, version).unwrap();
        let mut out = BytesMut::new();
        assert!(cluster.answer(bytes.freeze(), &mut out).unwrap());
        let mut out = out.freeze();
        ResponseHeader::decode(&mut out, key.response_header_version(version)).unwrap();
        T::decode(&mut out, version).unwrap()
    }

    #[test]
    fn a_producer_finds_every_topic_and_its_offsets_grow() {
        let cluster = Cluster { address: "127.0.0.1:9".parse().unwrap(), partitions: 3, ends: Mutex::default() };
        let name = TopicName(StrBytes::from_static_str("t"));
        let topic =
            kafka_protocol::messages::metadata_request::MetadataRequestTopic::default().with_name(Some(name.clone()));
        let request = MetadataRequest::default().with_topics(Some(vec![topic]));
        let metadata: MetadataResponse = ask(&cluster, ApiKey::Metadata, 9, &request);
        assert_eq!(metadata.topics[0].partitions.len(), 3);
        // Two batches of 5 and 2 records, of which only the headers matter.
        let mut records = Vec::new();
        for count in [5_i32, 2] {
            let mut batch = vec![0; 61];
            batch[8..12].copy_from_slice(&49_i32.to_be_bytes());
            batch[57..61].copy_from_slice(&count.to_be_bytes());
            records.extend(batch);
        }
        let data = PartitionProduceData::default().with_index(1).with_records(Some(records.into()));
        let topic = TopicProduceData::default().with_name(name).with_partition_data(vec![data]);
        let request = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
        for base in [0, 7] {
            let produced: ProduceResponse = ask(&cluster, ApiKey::Produce, 9, &request);
            assert_eq!(produced.responses[0].partition_responses[0].base_offset, base);
        }
        assert!(records_in(&[0; 20]).is_err());
    }
}
