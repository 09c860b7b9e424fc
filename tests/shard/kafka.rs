//! A Kafka cluster as far as a producer can tell: several nodes, leaders that move, idempotence as Apache Kafka 4 keeps
//! it (the last five batches of each producer id and partition), and every way in which an answer can go wrong.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, BrokerId, InitProducerIdResponse, MetadataRequest, MetadataResponse, ProduceRequest, ProduceResponse,
    ProducerId, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::RecordBatchDecoder;

use super::broker::versions;

/// Nodes of a cluster, ports 9092 and on.
pub(crate) const NODES: i32 = 2;
const PARTITIONS: usize = 4;
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
    producers: HashMap<i64, Known>,
}

pub(crate) struct Cluster {
    host: &'static str,
    pub(crate) up: bool,
    /// A node that takes what it is sent and does nothing with it.
    pub(crate) frozen: Option<i32>,
    /// Whether things go wrong.
    pub(crate) troubled: bool,
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
            let partition = self.rng.usize(..PARTITIONS);
            if let Some(partitions) = self.topics.values_mut().nth(topic) {
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
            ApiKey::ApiVersions => versions().encode(&mut body, version),
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
                let partition = |index: usize| Partition {
                    leader: 1 + i32::try_from(index).expect("few") % NODES,
                    log: Vec::new(),
                    producers: HashMap::new(),
                };
                place.insert((0..PARTITIONS).map(partition).collect());
                // As in Kafka: the first answer says that it is not there yet.
                topics.push(answer.with_error_code(5));
                continue;
            }
            if self.is_hidden(&name) || self.one_in(10) {
                topics.push(answer.with_error_code(3));
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
        ProduceResponse::default().with_responses(topics)
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
        for value in values {
            *self.copies.entry((topic.to_owned(), value.clone())).or_default() += 1;
            partition.log.push(value);
        }
        (after, base)
    }
}
