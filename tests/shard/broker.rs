//! A broker that takes what it is given: one node, one topic's partitions, every Produce answered with success. What it
//! was given is kept, so that a test can read the records. Of what is there to be read each Fetch gets one record a partition.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse, ProducerId, RequestHeader,
    ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record, RecordBatchDecoder,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};

use super::coordinator::{self, Groups};

/// Partitions of every topic.
pub(crate) const PARTITIONS: i32 = 4;

#[derive(Clone, Default)]
pub(crate) struct Broker {
    /// (topic, partition, key, value) in the order of arrival.
    pub(crate) records: Vec<(String, i32, Vec<u8>, Vec<u8>)>,
    /// Whether records are decoded and kept (not while allocations are counted).
    pub(crate) keep: bool,
    /// Kafka error code that every batch is answered with (0: none).
    pub(crate) error: i16,
    /// Topics that Kafka says it does not know (3) or that may not be written (29).
    pub(crate) unavailable: std::collections::HashMap<String, i16>,
    /// Kafka error codes that batches for a topic are answered with.
    pub(crate) refuses: std::collections::HashMap<String, i16>,
    /// Headers of the records kept, in their order.
    pub(crate) headers: Vec<Vec<(String, String)>>,
    /// Their timestamps, and whether their values are null.
    pub(crate) times: Vec<(i64, bool)>,
    pub(crate) offsets: std::collections::HashMap<(String, i32), i64>,
    /// Batches in the order of arrival, those that were there already too: where to, producer id, epoch, sequence.
    pub(crate) batches: Vec<(String, i32, i64, i16, i32)>,
    /// Base offset of each of those: what comes again with the same identity is not appended again.
    pub(crate) known: std::collections::HashMap<(String, i32, i64, i16, i32), i64>,
    /// Producer ids given out.
    pub(crate) ids: i64,
    /// Takes what it is given, and says nothing.
    pub(crate) silent: bool,
    /// Topics of which Produce requests are taken, and nothing is said; those that wait for [`Broker::late`], and these requests.
    pub(crate) silent_to: std::collections::HashSet<String>,
    pub(crate) holds: std::collections::HashSet<String>,
    pub(crate) held: Vec<Bytes>,
    /// The key of the records to read.
    pub(crate) key: Option<Vec<u8>>,
    /// The keys of the records to read, by offset.
    pub(crate) keys: std::collections::HashMap<i64, Vec<u8>>,
    /// How many records each partition has beyond those that may be read: they come later.
    pub(crate) unread: i64,
    /// Offsets of the records to read that have the retain flag.
    pub(crate) retains: std::collections::HashSet<i64>,
    /// The batches kept, as a Fetch answers them, by topic and partition.
    pub(crate) logs: std::collections::HashMap<(String, i32), Vec<u8>>,
    /// Values to be read, by topic and partition, from offset 0 on.
    pub(crate) readable: std::collections::HashMap<(String, i32), Vec<Vec<u8>>>,
    /// The first offset of each that is still there; with this set, questions for offsets are answered as Kafka does: a record was made as many ms after 1970 as
    /// its offset is.
    pub(crate) begins_at: Option<i64>,
    /// Its groups. `None`: it knows none.
    pub(crate) groups: Option<Groups>,
}

impl Broker {
    /// Answers every whole request at the front of `bytes`, and takes it away.
    pub(crate) fn answer(&mut self, bytes: &mut Vec<u8>) -> Vec<u8> {
        let mut answers = Vec::new();
        while bytes.len() >= 4 {
            let len = u32::from_be_bytes(bytes[..4].try_into().expect("four")) as usize;
            if bytes.len() < 4 + len {
                break;
            }
            let request = Bytes::copy_from_slice(&bytes[4..4 + len]);
            bytes.drain(..4 + len);
            answers.extend_from_slice(&self.request(request));
        }
        answers
    }

    /// Carries out the requests that wait, long after those who have sent them are gone. Returns how many these are.
    pub(crate) fn late(&mut self) -> usize {
        self.holds.clear();
        std::mem::take(&mut self.held).into_iter().map(|request| self.request(request)).count()
    }

    fn request(&mut self, mut bytes: Bytes) -> Vec<u8> {
        let whole = bytes.clone();
        let mut says_nothing = false;
        let key = ApiKey::try_from(i16::from_be_bytes([bytes[0], bytes[1]])).expect("a known request");
        let version = i16::from_be_bytes([bytes[2], bytes[3]]);
        let header = RequestHeader::decode(&mut bytes, key.request_header_version(version)).expect("header");
        let mut body = BytesMut::new();
        let correlation = ResponseHeader::default().with_correlation_id(header.correlation_id);
        correlation.encode(&mut body, key.response_header_version(version)).expect("header");
        match key {
            ApiKey::ApiVersions => {
                let of_groups = if self.groups.is_some() { &coordinator::VERSIONS[..] } else { &[] };
                versions_with(of_groups).encode(&mut body, version)
            }
            ApiKey::Metadata => {
                let asked = MetadataRequest::decode(&mut bytes, version).expect("metadata");
                self.metadata(&asked).encode(&mut body, version)
            }
            ApiKey::InitProducerId => {
                self.ids += 1;
                InitProducerIdResponse::default().with_producer_id(ProducerId(6 + self.ids)).encode(&mut body, version)
            }
            ApiKey::Produce => {
                let produce = ProduceRequest::decode(&mut bytes, version).expect("produce");
                let is_for = |names: &std::collections::HashSet<String>| {
                    produce.topic_data.iter().any(|topic| names.contains(topic.name.0.as_str()))
                };
                if is_for(&self.holds) {
                    self.held.push(whole);
                    return Vec::new();
                }
                says_nothing = is_for(&self.silent_to);
                self.produce(&produce).encode(&mut body, version)
            }
            ApiKey::ListOffsets => {
                let asked = ListOffsetsRequest::decode(&mut bytes, version).expect("offsets");
                self.starts(&asked).encode(&mut body, version)
            }
            ApiKey::Fetch => match self.fetch(&FetchRequest::decode(&mut bytes, version).expect("fetch")) {
                Some(answer) => answer.encode(&mut body, version),
                // It waits for records that do not come.
                None => return Vec::new(),
            },
            other => {
                let groups = self.groups.as_mut();
                let answered = groups.and_then(|groups| groups.answer(other, &mut bytes, version, &mut body));
                answered.unwrap_or_else(|| panic!("unexpected request {other:?}"));
                Ok(())
            }
        }
        .expect("encoded");
        if self.silent && key == ApiKey::Produce || says_nothing {
            return Vec::new();
        }
        let mut framed = Vec::new();
        framed.put_u32(u32::try_from(body.len()).expect("short"));
        framed.extend_from_slice(&body);
        framed
    }

    fn produce(&mut self, request: &ProduceRequest) -> ProduceResponse {
        let topics = request.topic_data.iter().map(|topic| {
            let name = topic.name.0.to_string();
            let partitions = topic.partition_data.iter().map(|data| {
                let batch = data.records.clone().expect("records");
                let error = self.refuses.get(&name).copied().unwrap_or(self.error);
                if error != 0 {
                    return PartitionProduceResponse::default().with_index(data.index).with_error_code(error);
                }
                let count = i64::from((&batch[57..61]).get_i32());
                let identity = ((&batch[43..51]).get_i64(), (&batch[51..53]).get_i16(), (&batch[53..57]).get_i32());
                let identity = (name.clone(), data.index, identity.0, identity.1, identity.2);
                if self.keep {
                    self.batches.push(identity.clone());
                    if let Some(base) = self.known.get(&identity) {
                        return PartitionProduceResponse::default().with_index(data.index).with_base_offset(*base);
                    }
                }
                if self.keep {
                    let decoded = RecordBatchDecoder::decode(&mut batch.clone()).expect("a sound batch");
                    self.records.extend(decoded.records.into_iter().map(|r| {
                        let bytes = |b: Option<Bytes>| b.map(|b| b.to_vec()).unwrap_or_default();
                        let text = |b: Option<Bytes>| String::from_utf8_lossy(&bytes(b)).into_owned();
                        let headers = r.headers.into_iter().map(|(name, value)| (name.to_string(), text(value)));
                        self.headers.push(headers.collect());
                        self.times.push((r.timestamp, r.value.is_none()));
                        (name.clone(), data.index, bytes(r.key), bytes(r.value))
                    }));
                }
                let next = self.offsets.entry((name.clone(), data.index)).or_default();
                let base = *next;
                *next += count;
                if self.keep {
                    self.known.insert(identity, base);
                    self.append(&name, data.index, (base, &batch));
                }
                PartitionProduceResponse::default().with_index(data.index).with_base_offset(base)
            });
            let partitions = partitions.collect();
            TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(partitions)
        });
        let topics = topics.collect();
        ProduceResponse::default().with_responses(topics)
    }

    /// Appends a batch, with the time of its append.
    pub(crate) fn append(&mut self, topic: &str, partition: i32, (base, batch): (i64, &[u8])) {
        let mut batch = batch.to_vec();
        batch[..8].copy_from_slice(&base.to_be_bytes());
        batch[22] |= 8;
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        self.logs.entry((topic.to_owned(), partition)).or_default().extend_from_slice(&batch);
    }

    /// Every partition begins at 0, unless the test says otherwise.
    fn starts(&self, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let topics = request.topics.iter().map(|topic| {
            let offset = |partition: i32, timestamp: i64| {
                let values = self.readable.get(&(topic.name.0.to_string(), partition));
                let end = values.map_or(0, Vec::len) as i64;
                match (self.begins_at, timestamp) {
                    (None, _) => 0,
                    (Some(begin), -2) => begin.min(end),
                    (Some(_), -1) => end,
                    (Some(begin), time) if time.max(begin) < end => time.max(begin),
                    (Some(_), _) => -1,
                }
            };
            let partition = |index, timestamp| {
                let offset = offset(index, timestamp);
                ListOffsetsPartitionResponse::default().with_partition_index(index).with_offset(offset)
            };
            let partitions =
                topic.partitions.iter().map(|asked| partition(asked.partition_index, asked.timestamp)).collect();
            ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
        });
        ListOffsetsResponse::default().with_topics(topics.collect())
    }

    /// The next record of each partition; `None`: there is none.
    fn fetch(&self, request: &FetchRequest) -> Option<FetchResponse> {
        let mut any = false;
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|asked| {
                let values = self.readable.get(&(topic.topic.0.to_string(), asked.partition));
                let end = values.map_or(0, Vec::len) as i64;
                let value = values.and_then(|values| values.get(usize::try_from(asked.fetch_offset).ok()?));
                let begin = self.begins_at.map_or(0, |begin| begin.min(end));
                if self.begins_at.is_some() && !(begin..=end).contains(&asked.fetch_offset) {
                    any = true;
                    // OFFSET_OUT_OF_RANGE.
                    return PartitionData::default().with_partition_index(asked.partition).with_error_code(1);
                }
                any |= value.is_some();
                let ends = end + self.unread;
                let data = PartitionData::default().with_partition_index(asked.partition).with_high_watermark(ends);
                data.with_last_stable_offset(ends).with_records(value.map(|value| {
                    let key = self.keys.get(&asked.fetch_offset).or(self.key.as_ref());
                    let retains = self.retains.contains(&asked.fetch_offset);
                    batch(asked.fetch_offset, key.map(Vec::as_slice), value, retains)
                }))
            });
            let partitions = partitions.collect();
            FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(partitions)
        });
        let topics = topics.collect();
        any.then(|| FetchResponse::default().with_responses(topics))
    }

    fn metadata(&self, asked: &MetadataRequest) -> MetadataResponse {
        let host = StrBytes::from_static_str("127.0.0.1");
        let broker = MetadataResponseBroker::default().with_node_id(BrokerId(1)).with_host(host).with_port(9092);
        let partition =
            |index| MetadataResponsePartition::default().with_partition_index(index).with_leader_id(BrokerId(1));
        let topics = asked.topics.iter().flatten().map(|topic| {
            let answer = MetadataResponseTopic::default().with_name(topic.name.clone());
            match topic.name.as_ref().and_then(|name| self.unavailable.get(name.as_str())) {
                Some(code) => answer.with_error_code(*code),
                None => answer.with_partitions((0..PARTITIONS).map(partition).collect()),
            }
        });
        MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics.collect())
    }
}

/// A batch of one record.
fn batch(offset: i64, key: Option<&[u8]>, value: &[u8], retains: bool) -> Bytes {
    let retain = (StrBytes::from_static_str("mqtt-retain"), Some(Bytes::from_static(b"true")));
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset,
        sequence: NO_SEQUENCE,
        timestamp: 0,
        key: key.map(Bytes::copy_from_slice),
        value: Some(Bytes::copy_from_slice(value)),
        headers: retains.then_some(retain).into_iter().collect(),
    };
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, [&record], &options).expect("encoded");
    bytes.freeze()
}

pub(crate) fn versions() -> ApiVersionsResponse {
    versions_with(&[])
}

fn versions_with(more: &[(ApiKey, i16, i16)]) -> ApiVersionsResponse {
    let keys = [
        (ApiKey::ApiVersions, 0, 3),
        (ApiKey::Metadata, 0, 12),
        (ApiKey::InitProducerId, 0, 4),
        (ApiKey::Produce, 3, 11),
        (ApiKey::ListOffsets, 1, 5),
        (ApiKey::Fetch, 4, 11),
    ];
    let key = |(key, min, max): &(ApiKey, i16, i16)| {
        ApiVersion::default().with_api_key(*key as i16).with_min_version(*min).with_max_version(*max)
    };
    ApiVersionsResponse::default().with_api_keys(keys.iter().chain(more).map(key).collect())
}
