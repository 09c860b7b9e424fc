//! A small Kafka consumer without groups: metadata, offsets, fetches; blocking, one connection to each leader.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{Compression, RecordBatchDecoder};

use crate::flow::judge::{Log, Record};

// Versions that Kafka 2.1 to 4 and Forebay's embedded log speak.
const METADATA: i16 = 5;
const LIST_OFFSETS: i16 = 5;
const FETCH: i16 = 11;
/// `UNKNOWN_TOPIC_OR_PARTITION` and `LEADER_NOT_AVAILABLE`: the topic may still be created.
const NOT_YET: [i16; 2] = [3, 5];

/// See the module.
pub(crate) struct Reader {
    bootstrap: String,
    brokers: BTreeMap<i32, Connection>,
    /// Leader of each partition, by topic.
    leaders: BTreeMap<String, Vec<i32>>,
}

impl Reader {
    /// # Errors
    /// No connection.
    pub(crate) fn connect(bootstrap: &str) -> anyhow::Result<Self> {
        let brokers = BTreeMap::from([(-1, Connection::to(bootstrap)?)]);
        Ok(Self { bootstrap: bootstrap.to_owned(), brokers, leaders: BTreeMap::new() })
    }

    /// Offsets after the last records, by partition; empty: there is no such topic yet.
    ///
    /// # Errors
    /// The errors of Kafka and the connection.
    pub(crate) fn ends(&mut self, topic: &str) -> anyhow::Result<Vec<i64>> {
        self.find(topic)?;
        let leaders = self.leaders.get(topic).cloned().unwrap_or_default();
        let mut ends = Vec::new();
        for (partition, leader) in leaders.iter().enumerate() {
            let wanted = ListOffsetsPartition::default().with_partition_index(partition as i32).with_timestamp(-1);
            let topics = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![wanted]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topics]);
            let broker = self.brokers.get_mut(leader).context("a partition without a leader")?;
            let response: ListOffsetsResponse = broker.call(ApiKey::ListOffsets, LIST_OFFSETS, &request)?;
            let found = response.topics.first().and_then(|topic| topic.partitions.first()).context("ListOffsets")?;
            if found.error_code != 0 {
                bail!("the end of {topic} partition {partition}: error {}", found.error_code);
            }
            ends.push(found.offset);
        }
        Ok(ends)
    }

    /// Reads the records of a topic from `positions` on, waiting for a moment, and advances `positions`.
    ///
    /// # Errors
    /// The errors of Kafka and the connection.
    pub(crate) fn follow(
        &mut self,
        topic: &str,
        positions: &mut Vec<i64>,
        mut each: impl FnMut(&[u8]),
    ) -> anyhow::Result<()> {
        if positions.is_empty() {
            self.find(topic)?;
            *positions = vec![0; self.leaders.get(topic).map_or(0, Vec::len)];
            if positions.is_empty() {
                std::thread::sleep(Duration::from_millis(5));
                return Ok(());
            }
        }
        let from = positions.clone();
        self.fetch(topic, &from, 20, |partition, offset, _, value| {
            positions[partition as usize] = offset + 1;
            each(value.unwrap_or_default());
        })
    }

    /// Calls `each` with the records of a log's ranges, in order within a partition.
    ///
    /// # Errors
    /// The errors of Kafka and the connection.
    pub(crate) fn records(&mut self, log: &Log, index: usize, mut each: impl FnMut(&Record<'_>)) -> anyhow::Result<()> {
        self.find(&log.topic)?;
        let mut at: Vec<i64> = log.ranges.iter().map(|range| range.start).collect();
        while at.iter().zip(&log.ranges).any(|(at, range)| *at < range.end) {
            let (from, mut moved) = (at.clone(), false);
            self.fetch(&log.topic, &from, 500, |partition, offset, key, value| {
                moved = true;
                at[partition as usize] = offset + 1;
                let value = value.unwrap_or_default();
                each(&Record { log: index, partition: partition as u32, offset, key, value });
            })?;
            if !moved {
                bail!("{}: nothing more can be read at offsets {at:?} of {:?}", log.topic, log.ranges);
            }
        }
        Ok(())
    }

    /// The connection to the leader of a partition, of a topic after [`Self::ends`].
    pub(super) fn leader(&mut self, topic: &str, partition: usize) -> anyhow::Result<&mut Connection> {
        let leader = self.leaders.get(topic).and_then(|leaders| leaders.get(partition));
        leader.and_then(|leader| self.brokers.get_mut(leader)).context("a partition without a leader")
    }

    /// Finds a topic's leaders, and connects to them.
    fn find(&mut self, topic: &str) -> anyhow::Result<()> {
        let wanted = MetadataRequestTopic::default().with_name(Some(name(topic)));
        let request = MetadataRequest::default().with_topics(Some(vec![wanted])).with_allow_auto_topic_creation(false);
        let bootstrap = self.brokers.get_mut(&-1).context("bootstrap")?;
        let response: MetadataResponse = bootstrap.call(ApiKey::Metadata, METADATA, &request)?;
        let found = response.topics.first().context("Metadata")?;
        if NOT_YET.contains(&found.error_code) {
            return Ok(());
        }
        if found.error_code != 0 {
            bail!("topic {topic}: error {} from {}", found.error_code, self.bootstrap);
        }
        let mut leaders = vec![-1; found.partitions.len()];
        for partition in &found.partitions {
            *leaders.get_mut(partition.partition_index as usize).context("Metadata")? = partition.leader_id.0;
        }
        for broker in response.brokers {
            if leaders.contains(&broker.node_id.0) && !self.brokers.contains_key(&broker.node_id.0) {
                let connection = Connection::to(&format!("{}:{}", broker.host, broker.port))?;
                self.brokers.insert(broker.node_id.0, connection);
            }
        }
        self.leaders.insert(topic.to_owned(), leaders);
        Ok(())
    }

    fn fetch(
        &mut self,
        topic: &str,
        from: &[i64],
        wait_ms: i32,
        mut each: impl FnMut(i32, i64, Option<&[u8]>, Option<&[u8]>),
    ) -> anyhow::Result<()> {
        let leaders = self.leaders.get(topic).cloned().unwrap_or_default();
        let mut by_leader: BTreeMap<i32, Vec<FetchPartition>> = BTreeMap::new();
        for (partition, (leader, &offset)) in leaders.iter().zip(from).enumerate() {
            let wanted = FetchPartition::default().with_partition(partition as i32).with_fetch_offset(offset);
            by_leader.entry(*leader).or_default().push(wanted.with_partition_max_bytes(4 << 20));
        }
        for (leader, partitions) in by_leader {
            let topics = vec![FetchTopic::default().with_topic(name(topic)).with_partitions(partitions)];
            let request = FetchRequest::default().with_replica_id(BrokerId(-1)).with_max_wait_ms(wait_ms);
            let request = request.with_min_bytes(1).with_max_bytes(32 << 20).with_session_epoch(-1).with_topics(topics);
            let broker = self.brokers.get_mut(&leader).context("a partition without a leader")?;
            let response: FetchResponse = broker.call(ApiKey::Fetch, FETCH, &request)?;
            for data in response.responses.into_iter().flat_map(|topic| topic.partitions) {
                if data.error_code != 0 {
                    bail!("reading {topic} partition {}: error {}", data.partition_index, data.error_code);
                }
                let first = from.get(data.partition_index as usize).copied().unwrap_or(0);
                let Some(mut bytes) = data.records else { continue };
                while let Some(mut batch) = whole_batch(&mut bytes) {
                    let set = RecordBatchDecoder::decode_with_custom_compression(&mut batch, Some(decompress))?;
                    for record in set.records.iter().filter(|record| record.offset >= first) {
                        each(data.partition_index, record.offset, record.key.as_deref(), record.value.as_deref());
                    }
                }
            }
        }
        Ok(())
    }
}

/// The next batch; a fetch may end within one.
fn whole_batch(bytes: &mut Bytes) -> Option<Bytes> {
    let length = bytes.get(8..12).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes)?;
    let whole = 12 + usize::try_from(length).ok()?;
    (bytes.len() >= whole).then(|| bytes.split_to(whole))
}

fn decompress(bytes: &mut Bytes, compression: Compression) -> anyhow::Result<Bytes> {
    match compression {
        Compression::None => Ok(bytes.clone()),
        other => bail!(
            "records are compressed with {other:?}: this reader takes uncompressed ones only (compression = \"none\")"
        ),
    }
}

pub(super) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A connection to one broker, with one request in flight at a time.
pub(super) struct Connection {
    stream: TcpStream,
    correlation: i32,
}

impl Connection {
    fn to(address: &str) -> anyhow::Result<Self> {
        Self::within(address, Duration::from_secs(30))
    }

    /// Connects within `patience` (10 s at most), which bounds each answer as well.
    pub(super) fn within(address: &str, patience: Duration) -> anyhow::Result<Self> {
        let mut last = None;
        for address in address.to_socket_addrs().with_context(|| address.to_owned())? {
            match TcpStream::connect_timeout(&address, patience.min(Duration::from_secs(10))) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(patience))?;
                    return Ok(Self { stream, correlation: 0 });
                }
                Err(error) => last = Some(error),
            }
        }
        bail!("cannot connect to Kafka at {address}: {last:?}")
    }

    pub(super) fn call<Response: Decodable>(
        &mut self,
        key: ApiKey,
        version: i16,
        request: &impl Encodable,
    ) -> anyhow::Result<Response> {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("forebay-bench")));
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes, key.request_header_version(version))?;
        request.encode(&mut bytes, version)?;
        self.stream.write_all(&(bytes.len() as u32).to_be_bytes())?;
        self.stream.write_all(&bytes)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).context("Kafka does not answer")?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer)?;
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, key.response_header_version(version))?;
        if header.correlation_id != self.correlation {
            bail!("Kafka answered request {} with {}", self.correlation, header.correlation_id);
        }
        Response::decode(&mut answer, version)
    }
}
