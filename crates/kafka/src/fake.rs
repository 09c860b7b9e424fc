//! A scripted minimal Kafka cluster for tests: complete request frames in, answer frames out, encoded by kafka-protocol, so
//! that the client's decoders are tested against independent encoders. No socket, no clock.

mod groups;
pub(crate) mod sasl;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse as ProducersOfTopic,
};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::produce_response::{LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, DescribeProducersRequest, DescribeProducersResponse,
    FetchRequest, FetchResponse, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    ProduceRequest, ProduceResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// A fault of one request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    /// No answer; the connection stays.
    Silence,
    /// The connection is closed. The request is carried out (`true`) or not.
    Close(bool),
    /// These bytes are sent in place of the answer's frame.
    Bytes(Vec<u8>),
    /// This Kafka error code is sent, in every place for one.
    Error(i16),
    /// The normal answer is sent, with this throttle time in ms.
    Throttle(i32),
}

/// A broker's behavior towards connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The broker works normally.
    Serve,
    /// Connections are refused.
    Refuse,
    /// Connections are neither established nor refused.
    Blackhole,
    /// Connections are established; no request is ever answered.
    Frozen,
}

/// A request as a broker received it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    /// Version.
    ApiVersions(i16),
    /// Version, topics, allow_auto_topic_creation.
    Metadata(i16, Vec<String>, bool),
    /// Version.
    InitProducerId(i16),
    /// Version, acks, and each batch.
    Produce(i16, i16, Vec<(String, i32, Bytes)>),
    /// Version.
    DescribeProducers(i16),
    /// Version.
    ListOffsets(i16),
    /// Version, the client's epoch of the leader, the requested epoch.
    OffsetForLeaderEpoch(i16, i32, i32),
    /// Version, offset.
    Fetch(i16, i64),
    /// Version, mechanism.
    SaslHandshake(i16, String),
    /// Version.
    SaslAuthenticate(i16),
}

/// The log of every partition, in any answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeLog {
    /// Producer id, epoch, last sequence.
    pub(crate) producers: Vec<(i64, i32, i32)>,
    pub(crate) start: i64,
    pub(crate) high_watermark: i64,
    /// Base offset and bytes of each batch.
    pub(crate) batches: Vec<(i64, Vec<u8>)>,
    /// The offset at which each leader epoch begins.
    pub(crate) epochs: BTreeMap<i32, i64>,
    /// Producer id and first offset of each aborted transaction.
    pub(crate) aborted: Vec<(i64, i64)>,
}

/// A broker.
#[derive(Debug)]
pub(crate) struct FakeBroker {
    /// Listening address.
    pub(crate) address: SocketAddr,
    /// The host that metadata advertises.
    pub(crate) host: String,
    pub(crate) mode: Mode,
    /// Version ranges by API key.
    pub(crate) speaks: BTreeMap<i16, (i16, i16)>,
    /// Faults of the next requests by API key, oldest first.
    pub(crate) faults: Vec<(ApiKey, Fault)>,
    /// All requests, in order of arrival.
    pub(crate) seen: Vec<Seen>,
    /// The SASL server that answers SaslHandshake and SaslAuthenticate; `None`: the broker requires no SASL.
    pub(crate) sasl: Option<Box<dyn sasl::SaslServer>>,
}

/// A topic: an error, or the leader of each partition (-1: none).
#[derive(Clone, Debug)]
pub(crate) struct FakeTopic {
    pub(crate) error: i16,
    pub(crate) leaders: Vec<i32>,
}

/// The cluster.
#[derive(Debug, Default)]
pub(crate) struct FakeCluster {
    pub(crate) brokers: BTreeMap<i32, FakeBroker>,
    pub(crate) topics: BTreeMap<String, FakeTopic>,
    /// Number of partitions, led by the first broker, of topics created on request; `None`: none is created.
    pub(crate) creates: Option<usize>,
    pub(crate) log: FakeLog,
    /// How often all topics were recreated: their ids change with it.
    pub(crate) life: u128,
    /// Brokers that belong to another cluster, and its id.
    pub(crate) others: BTreeMap<i32, &'static str>,
    /// The broker that coordinates all groups.
    pub(crate) coordinator: Option<i32>,
    next_producer_id: i64,
    next_offset: i64,
}

/// The reply to a frame.
#[derive(Debug, PartialEq)]
pub(crate) enum Reply {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing.
    Nothing,
    /// The end of the connection.
    Close,
}

impl FakeCluster {
    /// Adds a broker that supports the versions of Apache Kafka 4; metadata advertises it as `host`, on the address's port.
    pub(crate) fn add_broker(&mut self, node: i32, address: &str, host: &str) {
        let speaks = BTreeMap::from([
            (0, (3, 13)),
            (3, (0, 13)),
            (18, (0, 4)),
            (22, (0, 6)),
            (1, (4, 18)),
            (2, (1, 11)),
            (23, (2, 4)),
            (61, (0, 0)),
            (17, (0, 1)),
            (36, (0, 2)),
            (8, (2, 10)),
            (9, (1, 10)),
            (10, (0, 6)),
            (11, (2, 9)),
            (12, (0, 4)),
            (13, (0, 5)),
            (14, (0, 5)),
        ]);
        let address = address.parse().expect("an address");
        let broker = FakeBroker {
            address,
            host: host.to_owned(),
            mode: Mode::Serve,
            speaks,
            faults: Vec::new(),
            seen: Vec::new(),
            sasl: None,
        };
        self.brokers.insert(node, broker);
    }

    pub(crate) fn add_topic(&mut self, name: &str, leaders: &[i32]) {
        self.topics.insert(name.to_owned(), FakeTopic { error: 0, leaders: leaders.to_vec() });
    }

    pub(crate) fn broker(&mut self, node: i32) -> &mut FakeBroker {
        self.brokers.get_mut(&node).expect("a broker of this id")
    }

    /// The node with this listening address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<i32> {
        self.brokers.iter().find(|(_, broker)| broker.address == address).map(|(node, _)| *node)
    }

    /// Answers one request, without its length field. Panics at a request that Kafka would not take.
    pub(crate) fn answer(&mut self, node: i32, frame: &[u8]) -> Reply {
        let mut bytes = Bytes::copy_from_slice(frame);
        let key = ApiKey::try_from(i16::from_be_bytes([frame[0], frame[1]])).expect("an API key");
        let version = i16::from_be_bytes([frame[2], frame[3]]);
        let header = RequestHeader::decode(&mut bytes, key.request_header_version(version)).expect("a header");
        if self.broker(node).mode == Mode::Frozen {
            return Reply::Nothing;
        }
        let broker = self.broker(node);
        let fault = broker.faults.iter().position(|(of, _)| *of == key).map(|at| broker.faults.remove(at).1);
        let (error, throttle) = match fault {
            Some(Fault::Error(error)) => (error, 0),
            Some(Fault::Throttle(throttle_ms)) => (0, throttle_ms),
            Some(Fault::Close(false)) => return Reply::Close,
            _ => (0, 0),
        };
        let body = match key {
            ApiKey::ApiVersions => self.api_versions(node, version, &mut bytes, error),
            ApiKey::Metadata => self.metadata(node, version, &mut bytes, throttle),
            ApiKey::InitProducerId => self.init_producer_id(node, version, &mut bytes, error, throttle),
            ApiKey::Produce => self.produce(node, version, &mut bytes, error, throttle),
            ApiKey::DescribeProducers => self.describe_producers(node, version, &mut bytes, error, throttle),
            ApiKey::ListOffsets => self.list_offsets(node, version, &mut bytes, error),
            ApiKey::OffsetForLeaderEpoch => self.epoch_end(node, version, &mut bytes, error, throttle),
            ApiKey::Fetch => self.fetch(node, version, &mut bytes, error),
            ApiKey::SaslHandshake => self.sasl_handshake(node, version, &mut bytes),
            ApiKey::SaslAuthenticate => self.sasl_authenticate(node, version, &mut bytes),
            key => self.group(node, (key, version), &mut bytes, error),
        };
        assert!(bytes.is_empty(), "{key:?} v{version} goes on after its end: {bytes:?}");
        match (fault, body) {
            (Some(Fault::Silence), _) | (_, None) => Reply::Nothing,
            (Some(Fault::Close(_)), _) => Reply::Close,
            (Some(Fault::Bytes(bytes)), _) => Reply::Bytes(bytes),
            (_, Some((body, version))) => {
                let mut out = BytesMut::from(&[0; 4][..]);
                let header = ResponseHeader::default().with_correlation_id(header.correlation_id);
                header.encode(&mut out, key.response_header_version(version)).expect("a header");
                out.extend_from_slice(&body);
                let length = (out.len() - 4) as u32;
                out[..4].copy_from_slice(&length.to_be_bytes());
                Reply::Bytes(out.to_vec())
            }
        }
    }

    fn api_versions(&mut self, node: i32, version: i16, bytes: &mut Bytes, error: i16) -> Option<(BytesMut, i16)> {
        let broker = self.broker(node);
        broker.seen.push(Seen::ApiVersions(version));
        let (low, high) = broker.speaks[&18];
        if version > high {
            // KIP-511: the error in the encoding of v0, with the range of this call alone.
            bytes.clear();
            let own = ApiVersion::default().with_api_key(18).with_min_version(low).with_max_version(high);
            let body = ApiVersionsResponse::default().with_error_code(35).with_api_keys(vec![own]);
            return Some((encoded(&body, 0), 0));
        }
        ApiVersionsRequest::decode(bytes, version).expect("ApiVersions");
        let keys = broker.speaks.iter().map(|(key, (low, high))| {
            ApiVersion::default().with_api_key(*key).with_min_version(*low).with_max_version(*high)
        });
        let body = ApiVersionsResponse::default().with_error_code(error).with_api_keys(keys.collect());
        Some((encoded(&body, version), version))
    }

    fn metadata(&mut self, node: i32, version: i16, bytes: &mut Bytes, throttle: i32) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 3, version);
        let request = MetadataRequest::decode(bytes, version).expect("Metadata");
        let asked: Vec<String> =
            request.topics.unwrap_or_default().iter().map(|t| t.name.as_ref().expect("a name").0.to_string()).collect();
        let create = request.allow_auto_topic_creation;
        self.broker(node).seen.push(Seen::Metadata(version, asked.clone(), create));
        let first = self.brokers.keys().next().copied().unwrap_or(-1);
        let topics = asked.iter().map(|name| {
            if let (Some(partitions), true, false) = (self.creates, create, self.topics.contains_key(name)) {
                // As in Kafka: the first answer reports that the topic does not exist yet.
                self.topics.insert(name.clone(), FakeTopic { error: 0, leaders: vec![first; partitions] });
                return fake_topic(name, &FakeTopic { error: 5, leaders: Vec::new() });
            }
            let unknown = FakeTopic { error: 3, leaders: Vec::new() };
            fake_topic(name, self.topics.get(name).unwrap_or(&unknown))
        });
        let topics = topics.collect();
        let brokers = self.brokers.iter().map(|(node, broker)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(*node))
                .with_host(StrBytes::from(broker.host.clone()))
                .with_port(i32::from(broker.address.port()))
                .with_rack(Some(StrBytes::from_static_str("rack")))
        });
        let body = MetadataResponse::default()
            .with_throttle_time_ms(throttle)
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(StrBytes::from_static_str(self.others.get(&node).copied().unwrap_or("fake"))))
            .with_controller_id(BrokerId(first))
            .with_topics(topics);
        Some((encoded(&body, version), version))
    }

    fn init_producer_id(
        &mut self,
        node: i32,
        version: i16,
        bytes: &mut Bytes,
        error: i16,
        throttle: i32,
    ) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 22, version);
        let request = InitProducerIdRequest::decode(bytes, version).expect("InitProducerId");
        assert_eq!((request.transactional_id, request.producer_id.0, request.producer_epoch), (None, -1, -1));
        self.broker(node).seen.push(Seen::InitProducerId(version));
        let (id, epoch) = if error == 0 { (self.next_producer_id, 0) } else { (-1, -1) };
        self.next_producer_id += i64::from(error == 0);
        let body = InitProducerIdResponse::default()
            .with_throttle_time_ms(throttle)
            .with_error_code(error)
            .with_producer_id(id.into())
            .with_producer_epoch(epoch);
        Some((encoded(&body, version), version))
    }

    fn produce(
        &mut self,
        node: i32,
        version: i16,
        bytes: &mut Bytes,
        error: i16,
        throttle: i32,
    ) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 0, version);
        let request = ProduceRequest::decode(bytes, version).expect("Produce");
        assert_eq!(request.transactional_id, None);
        let mut batches = Vec::new();
        let mut topics = Vec::new();
        for topic in &request.topic_data {
            let mut partitions = Vec::new();
            let by_id = |name: &&String| self.id_of(name) == topic.topic_id.as_u128();
            let named =
                if version >= 13 { self.topics.keys().find(by_id).cloned() } else { Some(topic.name.0.to_string()) };
            let name = named.clone().unwrap_or_default();
            for partition in &topic.partition_data {
                let records = partition.records.clone().expect("records");
                batches.push((name.clone(), partition.index, records));
                let leader = self.topics.get(&name).and_then(|t| t.leaders.get(partition.index as usize));
                let error = if leader == Some(&node) { error } else { 6 };
                let error = if named.is_none() { 100 } else { error };
                let answer = PartitionProduceResponse::default()
                    .with_index(partition.index)
                    .with_error_code(error)
                    .with_base_offset(if error == 0 { self.next_offset } else { -1 })
                    .with_log_start_offset(0);
                // New leaders are sent in a tag from v10 on (KIP-951), which the client skips.
                let hint = LeaderIdAndEpoch::default().with_leader_id(BrokerId(7)).with_leader_epoch(3);
                partitions.push(if version >= 10 && error != 0 { answer.with_current_leader(hint) } else { answer });
                self.next_offset += 1;
            }
            // Kafka answers in an order of its own.
            partitions.reverse();
            topics.push(
                TopicProduceResponse::default()
                    .with_name(topic.name.clone())
                    .with_topic_id(topic.topic_id)
                    .with_partition_responses(partitions),
            );
        }
        topics.reverse();
        self.broker(node).seen.push(Seen::Produce(version, request.acks, batches));
        let body = ProduceResponse::default().with_responses(topics).with_throttle_time_ms(throttle);
        (request.acks != 0).then(|| (encoded(&body, version), version))
    }

    fn describe_producers(
        &mut self,
        node: i32,
        version: i16,
        bytes: &mut Bytes,
        error: i16,
        throttle: i32,
    ) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 61, version);
        let request = DescribeProducersRequest::decode(bytes, version).expect("DescribeProducers");
        self.broker(node).seen.push(Seen::DescribeProducers(version));
        let state = |(id, epoch, last): &(i64, i32, i32)| {
            let state = ProducerState::default().with_producer_id((*id).into()).with_producer_epoch(*epoch);
            state.with_last_sequence(*last).with_last_timestamp(7)
        };
        let partition = PartitionResponse::default()
            .with_partition_index(request.topics[0].partition_indexes[0])
            .with_error_code(error)
            .with_error_message((error != 0).then(|| StrBytes::from_static_str("no")))
            .with_active_producers(self.log.producers.iter().map(state).collect());
        let topic =
            ProducersOfTopic::default().with_name(request.topics[0].name.clone()).with_partitions(vec![partition]);
        let body = DescribeProducersResponse::default().with_throttle_time_ms(throttle).with_topics(vec![topic]);
        Some((encoded(&body, version), version))
    }

    fn list_offsets(&mut self, node: i32, version: i16, bytes: &mut Bytes, error: i16) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 2, version);
        let request = ListOffsetsRequest::decode(bytes, version).expect("ListOffsets");
        assert_eq!(request.replica_id.0, -1);
        self.broker(node).seen.push(Seen::ListOffsets(version));
        let partition = |asked: &ListOffsetsPartition| {
            // The records have no timestamps: the first one is young enough for any.
            let offset = if asked.timestamp == -1 { self.log.high_watermark } else { self.log.start };
            ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(error)
                .with_offset(offset)
        };
        let topic = |asked: &ListOffsetsTopic| {
            ListOffsetsTopicResponse::default()
                .with_name(asked.name.clone())
                .with_partitions(asked.partitions.iter().map(partition).collect())
        };
        let body = ListOffsetsResponse::default().with_topics(request.topics.iter().map(topic).collect());
        Some((encoded(&body, version), version))
    }

    /// The end of an epoch, as `LeaderEpochFileCache.endOffsetFor` computes it.
    fn epoch_end(
        &mut self,
        node: i32,
        version: i16,
        bytes: &mut Bytes,
        error: i16,
        throttle: i32,
    ) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 23, version);
        let request = OffsetForLeaderEpochRequest::decode(bytes, version).expect("OffsetForLeaderEpoch");
        assert_eq!(request.replica_id.0, if version >= 3 { -1 } else { -2 });
        let asked = &request.topics[0].partitions[0];
        let (current, epoch) = (asked.current_leader_epoch, asked.leader_epoch);
        self.broker(node).seen.push(Seen::OffsetForLeaderEpoch(version, current, epoch));
        let epochs = &self.log.epochs;
        let end = match epochs.range(epoch + 1..).next() {
            Some((_, begins)) => Some((epochs.range(..=epoch).next_back().map_or(epoch, |(known, _)| *known), *begins)),
            None => epochs.contains_key(&epoch).then_some((epoch, self.log.high_watermark)),
        };
        let (leader_epoch, end) = end.filter(|_| error == 0).unwrap_or((-1, -1));
        let partition = EpochEndOffset::default()
            .with_error_code(error)
            .with_partition(asked.partition)
            .with_leader_epoch(leader_epoch)
            .with_end_offset(end);
        let topic = OffsetForLeaderTopicResult::default().with_topic(request.topics[0].topic.clone());
        let topics = vec![topic.with_partitions(vec![partition])];
        let body = OffsetForLeaderEpochResponse::default().with_throttle_time_ms(throttle).with_topics(topics);
        Some((encoded(&body, version), version))
    }

    /// Answers with one batch, and the beginning of the next one. There are no sessions.
    fn fetch(&mut self, node: i32, version: i16, bytes: &mut Bytes, error: i16) -> Option<(BytesMut, i16)> {
        self.must_speak(node, 1, version);
        let request = FetchRequest::decode(bytes, version).expect("Fetch");
        assert_eq!(request.session_id, 0);
        self.broker(node).seen.push(Seen::Fetch(version, request.topics[0].partitions[0].fetch_offset));
        let answer = |asked_for: &FetchTopic| {
            // There is only one log by id: that of topic `a`.
            let other = version >= 13 && asked_for.topic_id.as_u128() != self.id_of("a");
            let partition = |asked: &FetchPartition| {
                let partition = self.fetched(asked, error);
                if other {
                    partition.with_error_code(100).with_high_watermark(-1).with_records(None)
                } else {
                    partition
                }
            };
            FetchableTopicResponse::default()
                .with_topic(asked_for.topic.clone())
                .with_topic_id(asked_for.topic_id)
                .with_partitions(asked_for.partitions.iter().map(partition).collect())
        };
        let body = FetchResponse::default().with_responses(request.topics.iter().map(answer).collect());
        Some((encoded(&body, version), version))
    }

    fn fetched(&self, asked: &FetchPartition, error: i16) -> PartitionData {
        let log = &self.log;
        let outside = !(log.start..=log.high_watermark).contains(&asked.fetch_offset);
        let mut records = Vec::new();
        let last = |batch: &[u8]| i64::from(i32::from_be_bytes([batch[23], batch[24], batch[25], batch[26]]));
        let mut wanted = log.batches.iter().filter(|(base, batch)| base + last(batch) >= asked.fetch_offset);
        if let Some((_, batch)) = wanted.next() {
            records.extend_from_slice(batch);
        }
        if let Some((_, batch)) = wanted.next() {
            records.extend_from_slice(&batch[..70]);
        }
        PartitionData::default()
            .with_partition_index(asked.partition)
            .with_error_code(if error == 0 && outside { 1 } else { error })
            .with_high_watermark(log.high_watermark)
            .with_aborted_transactions(Some(
                log.aborted
                    .iter()
                    .map(|(id, first)| {
                        AbortedTransaction::default().with_producer_id((*id).into()).with_first_offset(*first)
                    })
                    .collect(),
            ))
            .with_records(Some(Bytes::from(records)))
    }

    /// The id of a topic by its name.
    pub(crate) fn id_of(&self, name: &str) -> u128 {
        (self.life << 64) + name.bytes().fold(1, |id, byte| (id << 7) ^ u128::from(byte))
    }

    fn must_speak(&mut self, node: i32, key: i16, version: i16) {
        let (low, high) = self.broker(node).speaks[&key];
        assert!((low..=high).contains(&version), "key {key} v{version} is not spoken here");
    }
}

fn fake_topic(name: &str, topic: &FakeTopic) -> MetadataResponseTopic {
    let partitions = topic.leaders.iter().enumerate().map(|(index, leader)| {
        MetadataResponsePartition::default()
            .with_partition_index(index as i32)
            .with_error_code(if *leader < 0 { 5 } else { 0 })
            .with_leader_id(BrokerId(*leader))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(*leader)])
    });
    MetadataResponseTopic::default()
        .with_error_code(topic.error)
        .with_name(Some(StrBytes::from(name.to_owned()).into()))
        .with_partitions(partitions.collect())
}

fn encoded<B: Encodable>(body: &B, version: i16) -> BytesMut {
    let mut out = BytesMut::new();
    body.encode(&mut out, version).expect("an answer that can be encoded");
    out
}
