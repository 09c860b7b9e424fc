//! A Kafka cluster as far as a producer can tell: several nodes, leaders that move, idempotence as Apache Kafka 4 keeps
//! it (the last five batches of each producer id and partition), and every way in which an answer can go wrong.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeProducersRequest, DescribeProducersResponse, FetchRequest,
    FetchResponse, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest, MetadataResponse,
    ProduceRequest, ProduceResponse, ProducerId, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::RecordBatchDecoder;

use super::broker::versions;

/// Nodes of a cluster, ports 9092 and on.
pub(crate) const NODES: i32 = 2;
const PARTITIONS: usize = 4;
/// A topic grows up to so many.
const PARTITIONS_MAX: usize = 7;
/// Batches that Kafka remembers of a producer and partition.
const REMEMBERED: usize = 5;

/// A record whose value begins like this is refused, and its whole batch with it (87, INVALID_RECORD).
pub(crate) const POISON: &[u8] = b"poison";

/// Topics whose names begin like this take such records, too.
pub(crate) const DEAD: &str = "dead";

/// What comes of a request.
pub(crate) enum Reply {
    Bytes(Vec<u8>),
    /// No answer; the connection stays.
    Silence,
    /// The connection breaks.
    Cut,
}

/// What a partition knows of a producer id.
struct Known {
    epoch: i16,
    /// First and last sequence, base offset; oldest first.
    batches: VecDeque<(i32, i32, i64)>,
}

struct Partition {
    leader: i32,
    /// Values, in order.
    log: Vec<Vec<u8>>,
    /// The same as it was written, each batch with the offset of its first record.
    batches: Vec<(i64, Bytes)>,
    producers: HashMap<i64, Known>,
}

impl Partition {
    fn new(index: usize) -> Self {
        let leader = 1 + i32::try_from(index).expect("few") % NODES;
        Self { leader, log: Vec::new(), batches: Vec::new(), producers: HashMap::new() }
    }
}

pub(crate) struct Cluster {
    host: &'static str,
    pub(crate) up: bool,
    /// A node that takes what it is sent and does nothing with it.
    pub(crate) frozen: Option<i32>,
    /// Whether things go wrong.
    pub(crate) troubled: bool,
    /// It takes no records that have a time.
    pub(crate) timeless: bool,
    /// Nobody may write to topics whose names begin like this.
    pub(crate) forbidden: Option<&'static str>,
    /// Nobody may read, so it does not say what its logs hold.
    pub(crate) unreadable: bool,
    /// What was asked of logs.
    pub(crate) asked: u64,
    pub(crate) rng: fastrand::Rng,
    topics: BTreeMap<String, Vec<Partition>>,
    /// Topics that it does not know for now, as long as there is trouble.
    hidden: BTreeSet<String>,
    producer_ids: i64,
    /// How often each value is in the log of a topic.
    pub(crate) copies: HashMap<(String, Vec<u8>), u32>,
}

impl Cluster {
    pub(crate) fn new(host: &'static str, seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed);
        Self {
            host,
            up: true,
            frozen: None,
            troubled: true,
            timeless: false,
            forbidden: None,
            unreadable: false,
            asked: 0,
            rng,
            topics: BTreeMap::new(),
            hidden: BTreeSet::new(),
            producer_ids: 1,
            copies: HashMap::new(),
        }
    }

    /// Every partition's log.
    pub(crate) fn logs(&self) -> impl Iterator<Item = (&str, usize, &[Vec<u8>])> {
        self.topics.iter().flat_map(|(name, partitions)| {
            partitions.iter().enumerate().map(|(index, partition)| (name.as_str(), index, partition.log.as_slice()))
        })
    }

    pub(crate) fn has(&self, topic: &str, value: &[u8]) -> u32 {
        self.copies.get(&(topic.to_owned(), value.to_vec())).copied().unwrap_or(0)
    }

    /// Some partition gets another leader.
    pub(crate) fn move_a_leader(&mut self) {
        let count = self.topics.len();
        if count > 0 {
            let topic = self.rng.usize(..count);
            if let Some(partitions) = self.topics.values_mut().nth(topic) {
                let partition = self.rng.usize(..partitions.len());
                partitions[partition].leader = self.rng.i32(1..=NODES);
            }
        }
    }

    /// Some topic is unknown from now on; or, if that was so, is known again with all that was in it.
    pub(crate) fn hide_or_show_a_topic(&mut self) {
        let count = self.topics.len();
        if count > 0 {
            let topic = self.rng.usize(..count);
            if let Some(name) = self.topics.keys().nth(topic)
                && !self.hidden.remove(name)
            {
                self.hidden.insert(name.clone());
            }
        }
    }

    /// Some topic gets one partition more.
    pub(crate) fn grow_a_topic(&mut self) {
        let count = self.topics.len();
        if count > 0 {
            let topic = self.rng.usize(..count);
            let partitions = self.topics.values_mut().nth(topic).expect("counted");
            if partitions.len() < PARTITIONS_MAX {
                partitions.push(Partition::new(partitions.len()));
            }
        }
    }

    fn is_forbidden(&self, topic: &str) -> bool {
        self.troubled && self.forbidden.is_some_and(|forbidden| topic.starts_with(forbidden))
    }

    fn is_hidden(&self, topic: &str) -> bool {
        self.troubled && self.hidden.contains(topic)
    }

    /// One in so many, while there is trouble.
    fn one_in(&mut self, many: u32) -> bool {
        self.troubled && self.rng.u32(..many) == 0
    }

    /// One whole request to a node, without its length.
    pub(crate) fn request(&mut self, node: i32, frame: &[u8]) -> Reply {
        let mut bytes = Bytes::copy_from_slice(frame);
        let key = ApiKey::try_from(i16::from_be_bytes([bytes[0], bytes[1]])).expect("a known request");
        let version = i16::from_be_bytes([bytes[2], bytes[3]]);
        let header = RequestHeader::decode(&mut bytes, key.request_header_version(version)).expect("header");
        if self.frozen == Some(node) {
            return Reply::Silence;
        }
        if self.one_in(40) {
            return Reply::Cut;
        }
        if self.one_in(60) {
            return Reply::Silence;
        }
        let mut body = BytesMut::new();
        let correlation = ResponseHeader::default().with_correlation_id(header.correlation_id);
        correlation.encode(&mut body, key.response_header_version(version)).expect("header");
        match key {
            ApiKey::ApiVersions => with_questions(versions()).encode(&mut body, version),
            ApiKey::DescribeProducers => {
                let asked = DescribeProducersRequest::decode(&mut bytes, version).expect("a question");
                self.describe_producers(node, &asked).encode(&mut body, version)
            }
            ApiKey::ListOffsets => {
                let asked = ListOffsetsRequest::decode(&mut bytes, version).expect("a question");
                self.list_offsets(node, &asked).encode(&mut body, version)
            }
            ApiKey::Fetch => {
                let asked = FetchRequest::decode(&mut bytes, version).expect("a question");
                self.fetch(node, &asked).encode(&mut body, version)
            }
            ApiKey::Metadata => {
                let asked = MetadataRequest::decode(&mut bytes, version).expect("metadata");
                self.metadata(&asked).encode(&mut body, version)
            }
            ApiKey::InitProducerId => self.init_producer_id().encode(&mut body, version),
            ApiKey::Produce => {
                let produce = ProduceRequest::decode(&mut bytes, version).expect("produce");
                self.produce(node, &produce).encode(&mut body, version)
            }
            other => panic!("unexpected request {other:?}"),
        }
        .expect("encoded");
        // Done, and the answer is lost.
        if self.one_in(30) {
            return Reply::Cut;
        }
        if self.one_in(60) {
            return Reply::Silence;
        }
        let mut framed = Vec::new();
        framed.put_u32(u32::try_from(body.len()).expect("short"));
        framed.extend_from_slice(&body);
        Reply::Bytes(framed)
    }

    fn init_producer_id(&mut self) -> InitProducerIdResponse {
        if self.one_in(3) {
            return InitProducerIdResponse::default().with_error_code(14).with_producer_id(ProducerId(-1));
        }
        self.producer_ids += 1;
        InitProducerIdResponse::default().with_producer_id(ProducerId(self.producer_ids))
    }

    fn metadata(&mut self, asked: &MetadataRequest) -> MetadataResponse {
        let host = StrBytes::from_static_str(self.host);
        let brokers = (1..=NODES).map(|node| {
            let port = 9091 + node;
            MetadataResponseBroker::default().with_node_id(BrokerId(node)).with_host(host.clone()).with_port(port)
        });
        let mut topics = Vec::new();
        for topic in asked.topics.iter().flatten() {
            let name = topic.name.as_ref().expect("a name").0.to_string();
            let answer = MetadataResponseTopic::default().with_name(topic.name.clone());
            if let Entry::Vacant(place) = self.topics.entry(name.clone()) {
                place.insert((0..PARTITIONS).map(Partition::new).collect());
                // As in Kafka: the first answer says that it is not there yet.
                topics.push(answer.with_error_code(5));
                continue;
            }
            if self.is_hidden(&name) || self.one_in(10) {
                topics.push(answer.with_error_code(3));
                continue;
            }
            if self.is_forbidden(&name) {
                topics.push(answer.with_error_code(29));
                continue;
            }
            let leaders: Vec<i32> = self.topics[&name].iter().map(|p| p.leader).collect();
            let partitions = leaders.into_iter().zip(0..).map(|(leader, index)| {
                let leader = if self.one_in(30) { -1 } else { leader };
                MetadataResponsePartition::default()
                    .with_partition_index(index)
                    .with_error_code(if leader < 0 { 5 } else { 0 })
                    .with_leader_id(BrokerId(leader))
            });
            let partitions = partitions.collect();
            topics.push(answer.with_partitions(partitions));
        }
        MetadataResponse::default().with_brokers(brokers.collect()).with_topics(topics)
    }

    fn produce(&mut self, node: i32, request: &ProduceRequest) -> ProduceResponse {
        assert_eq!(request.acks, -1, "acks=all");
        let mut topics = Vec::new();
        for topic in &request.topic_data {
            let mut answers = Vec::new();
            for data in &topic.partition_data {
                let batch = data.records.clone().expect("records");
                let (error, base) = self.append(node, topic.name.as_str(), data.index, &batch);
                let answer = PartitionProduceResponse::default().with_index(data.index);
                answers.push(answer.with_error_code(error).with_base_offset(base));
            }
            topics
                .push(TopicProduceResponse::default().with_name(topic.name.clone()).with_partition_responses(answers));
        }
        let throttle_ms = if self.one_in(25) { self.rng.i32(1..80) } else { 0 };
        ProduceResponse::default().with_responses(topics).with_throttle_time_ms(throttle_ms)
    }

    /// The partition, if it may be read here; else the error code.
    fn readable(&self, node: i32, topic: &str, index: i32) -> Result<&Partition, i16> {
        let partition = self.topics.get(topic).and_then(|all| all.get(usize::try_from(index).ok()?));
        match partition {
            _ if self.unreadable => Err(29),
            None => Err(3),
            Some(_) if self.is_hidden(topic) => Err(3),
            Some(partition) if partition.leader != node => Err(6),
            Some(partition) => Ok(partition),
        }
    }

    fn describe_producers(&mut self, node: i32, request: &DescribeProducersRequest) -> DescribeProducersResponse {
        let topic = &request.topics[0];
        let index = topic.partition_indexes[0];
        self.asked += 1;
        let answer = PartitionResponse::default().with_partition_index(index);
        let answer = match self.readable(node, topic.name.as_str(), index) {
            Err(code) => answer.with_error_code(code),
            Ok(partition) => {
                let state = |(id, known): (&i64, &Known)| {
                    let last = known.batches.back().map_or(-1, |batch| batch.1);
                    let state = ProducerState::default().with_producer_id(ProducerId(*id)).with_last_sequence(last);
                    state.with_producer_epoch(i32::from(known.epoch))
                };
                answer.with_active_producers(partition.producers.iter().map(state).collect())
            }
        };
        let topic = TopicResponse::default().with_name(topic.name.clone()).with_partitions(vec![answer]);
        DescribeProducersResponse::default().with_topics(vec![topic])
    }

    fn list_offsets(&self, node: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let topic = &request.topics[0];
        let index = topic.partitions[0].partition_index;
        let code = self.readable(node, topic.name.as_str(), index).err().unwrap_or(0);
        let answer = ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(code);
        let answer = answer.with_offset(if code == 0 { 0 } else { -1 });
        let topic = ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(vec![answer]);
        ListOffsetsResponse::default().with_topics(vec![topic])
    }

    fn fetch(&self, node: i32, request: &FetchRequest) -> FetchResponse {
        let topic = &request.topics[0];
        let (index, from) = (topic.partitions[0].partition, topic.partitions[0].fetch_offset);
        let answer = PartitionData::default().with_partition_index(index);
        let answer = match self.readable(node, topic.topic.as_str(), index) {
            Err(code) => answer.with_error_code(code).with_high_watermark(-1),
            Ok(partition) => {
                let end = i64::try_from(partition.log.len()).expect("short");
                let behind = |(base, batch): &&(i64, Bytes)| base + i64::from((&batch[57..61]).get_i32()) > from;
                let mut records = BytesMut::new();
                partition.batches.iter().filter(behind).take(3).for_each(|(_, batch)| records.put_slice(batch));
                let code = if from > end { 1 } else { 0 };
                let answer = answer.with_error_code(code).with_high_watermark(end).with_last_stable_offset(end);
                answer.with_log_start_offset(0).with_records(Some(records.freeze()))
            }
        };
        let topic = FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_partitions(vec![answer]);
        FetchResponse::default().with_responses(vec![topic])
    }

    /// Kafka's checks in Kafka's order; error code and base offset.
    fn append(&mut self, node: i32, topic: &str, index: i32, batch: &Bytes) -> (i16, i64) {
        for (many, error) in [(40, 19), (60, 6), (80, 3)] {
            if self.one_in(many) {
                return (error, -1);
            }
        }
        let after = if self.one_in(30) {
            7
        } else if self.one_in(30) {
            20
        } else {
            0
        };
        if self.is_hidden(topic) {
            return (3, -1);
        }
        if self.is_forbidden(topic) {
            return (29, -1);
        }
        let partition = &mut self.topics.get_mut(topic).expect("a topic")[usize::try_from(index).expect("index")];
        if partition.leader != node {
            return (6, -1);
        }
        let decoded = RecordBatchDecoder::decode(&mut batch.clone()).expect("a sound batch");
        let values = decoded.records.into_iter().map(|r| r.value.map(|v| v.to_vec()).unwrap_or_default());
        let values: Vec<Vec<u8>> = values.collect();
        if !topic.starts_with(DEAD) && values.iter().any(|value| value.starts_with(POISON)) {
            return (87, -1);
        }
        if self.timeless && self.troubled && (&batch[35..43]).get_i64() >= 0 {
            return (32, -1);
        }
        let (producer, epoch, first) =
            ((&batch[43..51]).get_i64(), (&batch[51..53]).get_i16(), (&batch[53..57]).get_i32());
        let last = first + i32::try_from(values.len()).expect("few") - 1;
        let base = i64::try_from(partition.log.len()).expect("short");
        match partition.producers.get_mut(&producer) {
            Some(known) if epoch < known.epoch => return (47, -1),
            Some(known) if epoch == known.epoch => {
                if let Some(twin) = known.batches.iter().find(|b| (b.0, b.1) == (first, last)) {
                    return (after, twin.2);
                }
                if known.batches.back().is_some_and(|newest| newest.1 + 1 != first) {
                    return (45, -1);
                }
                known.batches.push_back((first, last, base));
                if known.batches.len() > REMEMBERED {
                    known.batches.pop_front();
                }
            }
            Some(_) if first != 0 => return (45, -1),
            _ => {
                let known = Known { epoch, batches: VecDeque::from([(first, last, base)]) };
                partition.producers.insert(producer, known);
            }
        }
        let mut stored = BytesMut::from(&batch[..]);
        stored[..8].copy_from_slice(&base.to_be_bytes());
        partition.batches.push((base, stored.freeze()));
        for value in values {
            *self.copies.entry((topic.to_owned(), value.clone())).or_default() += 1;
            partition.log.push(value);
        }
        (after, base)
    }
}

/// What a broker speaks that can be asked what its logs hold.
fn with_questions(mut versions: ApiVersionsResponse) -> ApiVersionsResponse {
    for (key, min, max) in [(ApiKey::Fetch, 4, 12), (ApiKey::ListOffsets, 1, 6), (ApiKey::DescribeProducers, 0, 0)] {
        let key = ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max);
        versions.api_keys.push(key);
    }
    versions
}
