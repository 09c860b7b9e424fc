//! The bytes of Kafka's protocol, decoded and encoded with `kafka-protocol`, which shares no code with the client under
//! test.

use bytes::{BufMut, Bytes, BytesMut};
use forebay::record::compression::Codec;
use forebay::record::{BatchView, Records};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, BrokerId, DescribeProducersRequest, FetchRequest, InitProducerIdResponse,
    ListOffsetsRequest, MetadataRequest, MetadataResponse, OffsetForLeaderEpochRequest, ProduceRequest,
    ProduceResponse, ProducerId, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use super::waiting::Waiting;
use super::{Cluster, Entry, Holds, Partition, Row, State};
use crate::time::{MS, wall_ms};
use forebay_kafka::model::stored;

pub(super) const OUT_OF_RANGE: i16 = 1;
pub(super) const UNKNOWN_TOPIC: i16 = 3;
const LEADER_NOT_AVAILABLE: i16 = 5;
pub(super) const NOT_LEADER: i16 = 6;
const TIMED_OUT: i16 = 7;
const TOO_LARGE: i16 = 10;
const FEW_REPLICAS: i16 = 19;
const FEW_REPLICAS_AFTER: i16 = 20;
pub(super) const FORBIDDEN: i16 = 29;
const TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;
pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;
/// `message.timestamp.after.max.ms`.
const AHEAD_MAX_MS: i64 = 3_600_000;

/// First bytes of a value for which a record is refused, with its batch (87).
pub const POISON: &[u8] = b"poison";
/// First letters of the names of topics that take such records nevertheless.
pub const DEAD: &str = "dead";
/// Header with the number of a record's sink.
pub const SINK_HEADER: &[u8] = b"sink";

/// Versions of members' requests: the oldest, the newest of a current broker, and the newest of broker 2.3.
const OF_MEMBERS: [(ApiKey, i16, i16, i16); 7] = [
    (ApiKey::FindCoordinator, 0, 4, 2),
    (ApiKey::JoinGroup, 2, 9, 5),
    (ApiKey::SyncGroup, 0, 5, 3),
    (ApiKey::Heartbeat, 0, 4, 3),
    (ApiKey::LeaveGroup, 0, 5, 2),
    (ApiKey::OffsetFetch, 1, 8, 5),
    (ApiKey::OffsetCommit, 2, 8, 7),
];

/// Header with the time of receipt, for a record without a timestamp.
const RECEIVED_HEADER: &[u8] = b"mqtt-received-ms";

/// A broker's reaction to a request.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The broker answers.
    Bytes(Vec<u8>),
    /// The request waits: for followers, for records, for other members.
    Wait(Box<Waiting>),
    /// The broker does not answer (acks = 0).
    Nothing,
}

/// The sender of a request, and the time.
#[derive(Clone, Copy, Debug)]
pub struct From {
    /// The broker that has the request.
    pub node: i32,
    /// Simulated time.
    pub time: u64,
    /// Time at which the request arrived.
    pub since: u64,
    /// The process that sent the request.
    pub life: u32,
    /// Whether the sender has given the connection up.
    pub late: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Appended {
    Answer(i16, i64),
    /// Base offset, and the offset after the batch.
    Wait(i64, i64),
}

/// The answers for a topic's partitions: the topic as the request names it, its id, its name.
type Answers = (TopicName, u128, String, Vec<(i32, Appended)>);

/// A Produce request that waits for followers.
#[derive(Debug)]
pub(crate) struct Producing {
    node: i32,
    deadline: u64,
    version: i16,
    correlation: i32,
    throttle_ms: i32,
    topics: Vec<Answers>,
}

impl Producing {
    /// The latest time of the answer.
    pub(super) const fn deadline(&self) -> u64 {
        self.deadline
    }
}

impl Cluster {
    /// Handles one request, without its length prefix.
    pub(crate) fn request(&mut self, frame: &[u8], from: From) -> Reply {
        let mut bytes = Bytes::copy_from_slice(frame);
        let key = ApiKey::try_from(i16::from_be_bytes([bytes[0], bytes[1]])).expect("a known request");
        let version = i16::from_be_bytes([bytes[2], bytes[3]]);
        let header = RequestHeader::decode(&mut bytes, key.request_header_version(version)).expect("a header");
        let correlation = header.correlation_id;
        *self.calls.entry(key as i16).or_default() += 1;
        if let Some(client) = header.client_id.filter(|client| *client.as_str() != *self.client_id) {
            self.client_id = client.to_string();
        }
        let mut body = response_header(correlation, key, version);
        match key {
            ApiKey::ApiVersions => self.versions().encode(&mut body, version),
            ApiKey::Metadata => {
                let asked = MetadataRequest::decode(&mut bytes, version).expect("metadata");
                self.metadata(&asked, from).encode(&mut body, version)
            }
            ApiKey::InitProducerId => self.init_producer_id().encode(&mut body, version),
            ApiKey::DescribeProducers => {
                let asked = DescribeProducersRequest::decode(&mut bytes, version).expect("a question");
                self.describe_producers(&asked, from).encode(&mut body, version)
            }
            ApiKey::FindCoordinator
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::OffsetFetch
            | ApiKey::OffsetCommit => return self.of_member(key, &mut bytes, (version, correlation), from),
            ApiKey::ListOffsets if self.consumers.is_some() => {
                let asked = ListOffsetsRequest::decode(&mut bytes, version).expect("a question");
                self.consumer_offsets(&asked, from).encode(&mut body, version)
            }
            ApiKey::OffsetForLeaderEpoch if self.consumers.is_some() => {
                let asked = OffsetForLeaderEpochRequest::decode(&mut bytes, version).expect("a question");
                self.epoch_ends(&asked, from).encode(&mut body, version)
            }
            ApiKey::Fetch if self.consumers.is_some() => {
                let asked = FetchRequest::decode(&mut bytes, version).expect("a question");
                return self.consumer_fetch(&asked, (version, correlation), from);
            }
            ApiKey::ListOffsets => {
                let asked = ListOffsetsRequest::decode(&mut bytes, version).expect("a question");
                self.list_offsets(&asked, from).encode(&mut body, version)
            }
            ApiKey::OffsetForLeaderEpoch => {
                let asked = OffsetForLeaderEpochRequest::decode(&mut bytes, version).expect("a question");
                self.epoch_end(&asked, from).encode(&mut body, version)
            }
            ApiKey::Fetch => {
                let asked = FetchRequest::decode(&mut bytes, version).expect("a question");
                self.fetch(&asked, (version, from)).encode(&mut body, version)
            }
            ApiKey::Produce => {
                let asked = ProduceRequest::decode(&mut bytes, version).expect("produce");
                return self.produce(&asked, (version, correlation), from);
            }
            other => panic!("unexpected request {other:?}"),
        }
        .expect("encoded");
        Reply::Bytes(framed(&body))
    }

    fn one_in_thousand(&mut self, rate: u32) -> bool {
        rate > 0 && self.rng.u32(..1000) < rate
    }

    fn versions(&self) -> ApiVersionsResponse {
        let by_id = if self.by_id { 13 } else { 12 };
        let mut keys = vec![
            (ApiKey::ApiVersions, 0, 3),
            (ApiKey::Metadata, 0, if self.modern { 12 } else { 6 }),
            (ApiKey::InitProducerId, 0, 4),
            (ApiKey::Produce, 3, by_id),
            (ApiKey::Fetch, 4, by_id),
            (ApiKey::ListOffsets, 1, 6),
        ];
        if self.modern {
            keys.extend([(ApiKey::OffsetForLeaderEpoch, 2, 4), (ApiKey::DescribeProducers, 0, 0)]);
        }
        if self.consumers.is_some() {
            keys.extend(OF_MEMBERS.map(|(key, min, max, old)| (key, min, if self.modern { max } else { old })));
        }
        let key = |(key, min, max): (ApiKey, i16, i16)| {
            ApiVersion::default().with_api_key(key as i16).with_min_version(min).with_max_version(max)
        };
        ApiVersionsResponse::default().with_api_keys(keys.into_iter().map(key).collect())
    }

    fn init_producer_id(&mut self) -> InitProducerIdResponse {
        if self.one_in_thousand(self.flaky.no_id) {
            return InitProducerIdResponse::default().with_error_code(14).with_producer_id(ProducerId(-1));
        }
        self.next_producer += 1;
        InitProducerIdResponse::default().with_producer_id(ProducerId(self.next_producer))
    }

    fn metadata(&mut self, asked: &MetadataRequest, from: From) -> MetadataResponse {
        let host = StrBytes::from_string(self.host.clone());
        let live = (1..=self.brokers.len() as i32).filter(|node| !self.broker(*node).fenced);
        let brokers: Vec<_> = live
            .map(|node| {
                let broker = MetadataResponseBroker::default().with_node_id(BrokerId(node));
                broker.with_host(host.clone()).with_port(9091 + node)
            })
            .collect();
        let mut topics = Vec::new();
        for topic in asked.topics.iter().flatten() {
            let name = topic.name.as_ref().expect("a name").0.to_string();
            let answer = MetadataResponseTopic::default().with_name(topic.name.clone());
            topics.push(self.topic_metadata(&name, answer, asked.allow_auto_topic_creation, from));
        }
        MetadataResponse::default()
            .with_cluster_id(Some(StrBytes::from_string(self.id.clone())))
            .with_controller_id(BrokerId(1))
            .with_brokers(brokers)
            .with_topics(topics)
    }

    fn topic_metadata(
        &mut self,
        name: &str,
        answer: MetadataResponseTopic,
        create: bool,
        from: From,
    ) -> MetadataResponseTopic {
        let Some(topic) = self.topics.get(name) else {
            if create && self.auto_create {
                self.create(name, self.partitions, from.time);
                return answer.with_error_code(LEADER_NOT_AVAILABLE);
            }
            return answer.with_error_code(UNKNOWN_TOPIC);
        };
        if topic.writing_forbidden && topic.reading_forbidden {
            return answer.with_error_code(FORBIDDEN);
        }
        let describe = |(index, partition): (usize, &Partition)| {
            let stale =
                partition.stale.filter(|(_, _, until)| *until > from.time && partition.leader != Some(from.node));
            let (leader, epoch) =
                stale.map_or((partition.leader, partition.leader_epoch), |(leader, epoch, _)| (leader, epoch));
            MetadataResponsePartition::default()
                .with_partition_index(index as i32)
                .with_error_code(if leader.is_none() { LEADER_NOT_AVAILABLE } else { 0 })
                .with_leader_id(BrokerId(leader.unwrap_or(-1)))
                .with_leader_epoch(if self.modern { epoch } else { -1 })
                .with_replica_nodes(partition.replicas.iter().copied().map(BrokerId).collect())
                .with_isr_nodes(partition.in_sync.iter().copied().map(BrokerId).collect())
        };
        let partitions = topic.partitions.iter().enumerate().map(describe).collect();
        answer.with_topic_id(Uuid::from_u128(topic.id)).with_partitions(partitions)
    }

    pub(super) fn name_of(&self, id: u128) -> Option<&str> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.as_str())
    }

    // ---- Produce ----

    fn produce(&mut self, asked: &ProduceRequest, (version, correlation): (i16, i32), from: From) -> Reply {
        let mut waiting = Producing {
            node: from.node,
            deadline: from.time + asked.timeout_ms.max(0) as u64 * MS,
            version,
            correlation,
            throttle_ms: 0,
            topics: Vec::new(),
        };
        self.produced += 1;
        if self.one_in_thousand(self.flaky.throttle) {
            waiting.throttle_ms = self.rng.i32(1..80);
        }
        waiting.throttle_ms = self.throttle_next.take().unwrap_or(waiting.throttle_ms);
        for data in &asked.topic_data {
            let id = data.topic_id.as_u128();
            let name = if version >= 13 { self.name_of(id).map(str::to_owned) } else { Some(data.name.0.to_string()) };
            let mut answers: Vec<(i32, Appended)> = Vec::new();
            for partition in &data.partition_data {
                let appended = match (&name, &partition.records) {
                    _ if answers.iter().any(|(index, _)| *index == partition.index) => {
                        Appended::Answer(INVALID_RECORD, -1)
                    }
                    (None, _) => Appended::Answer(UNKNOWN_TOPIC_ID, -1),
                    (_, None) => Appended::Answer(INVALID_RECORD, -1),
                    (Some(name), Some(records)) => self.append(name, partition.index, records, (asked.acks, from)),
                };
                answers.push((partition.index, appended));
            }
            waiting.topics.push((data.name.clone(), id, name.unwrap_or_default(), answers));
        }
        self.replicate_later(from.time);
        if asked.acks == 0 || self.says_nothing {
            return Reply::Nothing;
        }
        match self.settle_produce(&mut waiting, from.time) {
            Some(bytes) => Reply::Bytes(bytes),
            None => Reply::Wait(Box::new(Waiting::Produce(waiting))),
        }
    }

    /// Answers a Produce that waited, if all of its parts have an answer by now.
    pub(super) fn settle_produce(&mut self, waiting: &mut Producing, time: u64) -> Option<Vec<u8>> {
        let mut waits = false;
        let node = waiting.node;
        for (_, _, name, answers) in &mut waiting.topics {
            for (index, appended) in answers {
                let Appended::Wait(base, end) = *appended else { continue };
                let partition = self.topics.get(name).and_then(|topic| topic.partitions.get(*index as usize));
                let code = match partition {
                    None => Some(UNKNOWN_TOPIC),
                    Some(partition) if partition.leader != Some(node) => Some(NOT_LEADER),
                    Some(partition) if partition.high >= end => {
                        Some(if partition.in_sync.len() < self.min_in_sync { FEW_REPLICAS_AFTER } else { 0 })
                    }
                    Some(_) if time >= waiting.deadline => Some(TIMED_OUT),
                    Some(_) => None,
                };
                match code {
                    Some(code) => *appended = Appended::Answer(code, if code == 0 { base } else { -1 }),
                    None => waits = true,
                }
            }
        }
        if waits {
            return None;
        }
        let by_id = waiting.version >= 13;
        let responses = waiting.topics.iter().map(|(topic, id, _, answers)| {
            let answers = answers.iter().map(|(index, appended)| {
                let (code, base) = match appended {
                    Appended::Answer(code, base) => (*code, *base),
                    Appended::Wait(..) => unreachable!("settled above"),
                };
                PartitionProduceResponse::default().with_index(*index).with_error_code(code).with_base_offset(base)
            });
            let response = TopicProduceResponse::default().with_partition_responses(answers.collect());
            if by_id { response.with_topic_id(Uuid::from_u128(*id)) } else { response.with_name(topic.clone()) }
        });
        let response =
            ProduceResponse::default().with_responses(responses.collect()).with_throttle_time_ms(waiting.throttle_ms);
        let mut body = response_header(waiting.correlation, ApiKey::Produce, waiting.version);
        response.encode(&mut body, waiting.version).expect("encoded");
        Some(framed(&body))
    }

    /// Checks a batch as Kafka does, and appends it. Notes the rows that are refused for good.
    pub(super) fn append(&mut self, name: &str, index: i32, records: &Bytes, (acks, from): (i16, From)) -> Appended {
        let appended = self.checked_append(name, index, records, (acks, from));
        if let Appended::Answer(FORBIDDEN | TOO_LARGE | TIMESTAMP | INVALID_RECORD, _) = appended
            && let Ok((view, _)) = BatchView::parse(records)
            && self.topics.get(name).is_none_or(|topic| topic.holds == Holds::Messages)
        {
            let rows = read_rows(&view, &mut self.codecs);
            self.refused_rows.extend(rows.into_iter().map(|row| (row.row.message, row.row.sink)));
        }
        self.note_arrival(name, records, from);
        appended
    }

    /// Notes when the rows of a batch first came from a process, whatever becomes of this request.
    fn note_arrival(&mut self, name: &str, records: &Bytes, from: From) {
        if !self.notes_arrivals || self.topics.get(name).is_none_or(|topic| topic.holds != Holds::Messages) {
            return;
        }
        let Ok((view, _)) = BatchView::parse(records) else { return };
        for row in read_rows(&view, &mut self.codecs) {
            let first = self.arrived.entry((from.life, row.row.message)).or_insert(from.since);
            *first = from.since.min(*first);
        }
    }

    /// The checks, in Kafka's order, and the append.
    fn checked_append(&mut self, name: &str, index: i32, records: &Bytes, (acks, from): (i16, From)) -> Appended {
        let no = |code| Appended::Answer(code, -1);
        if self.one_in_thousand(self.flaky.before) {
            return no([FEW_REPLICAS, NOT_LEADER, UNKNOWN_TOPIC, TIMED_OUT][self.rng.usize(..4)]);
        }
        let Some(topic) = self.topics.get(name) else { return no(UNKNOWN_TOPIC) };
        if topic.writing_forbidden {
            return no(FORBIDDEN);
        }
        let Some(partition) = topic.partitions.get(index as usize) else { return no(UNKNOWN_TOPIC) };
        if partition.leader != Some(from.node) {
            return no(NOT_LEADER);
        }
        if acks == -1 && partition.in_sync.len() < self.min_in_sync {
            return no(FEW_REPLICAS);
        }
        if records.len() > topic.batch_bytes_max {
            return no(TOO_LARGE);
        }
        let (view, rest) = BatchView::parse(records).expect("a batch");
        assert!(rest.is_empty() && view.check_crc().is_ok(), "one whole batch with its checksum");
        let header = *view.header();
        let holds = topic.holds;
        let rows = if holds == Holds::Messages { read_rows(&view, &mut self.codecs) } else { Vec::new() };
        if header.max_timestamp > wall_ms(from.time) + AHEAD_MAX_MS || (topic.timeless && header.max_timestamp >= 0) {
            return no(TIMESTAMP);
        }
        if !name.starts_with(DEAD) && rows.iter().any(|row| row.poison) {
            return no(INVALID_RECORD);
        }
        let max_timestamp =
            if holds == Holds::Sessions { self.forget_by_clock(name, index, from) } else { header.max_timestamp };
        let Some(topic) = self.topics.get(name) else { return no(UNKNOWN_TOPIC) };
        let Some(partition) = topic.partitions.get(index as usize) else { return no(UNKNOWN_TOPIC) };
        let last = ((i64::from(header.base_sequence) + i64::from(header.records_count) - 1) % (1 << 31)) as i32;
        let found = match header.producer_id {
            -1 => Ok(None),
            id => partition.producers.check(id, header.producer_epoch, header.base_sequence, last),
        };
        let base = match found {
            Err(code) => return no(code),
            Ok(Some(base)) => base,
            Ok(None) => {
                let topic_id = topic.id;
                let known = header.producer_id < 0 || partition.producers.knows(header.producer_id);
                let stray = partition.producers.is_stray(header.producer_id);
                // Metadata before v10 has no ids, so requests go by name whatever the version of Produce.
                let by_name = !self.by_id || !self.modern;
                if !known && by_name && header.base_sequence > 0 && topic.changed_at > 0 {
                    self.began_late.insert((name.to_owned(), topic_id));
                }
                self.rows_without_time
                    .extend(rows.iter().filter(|row| !row.timed).map(|row| (row.row.message, row.row.sink)));
                let entry = Entry {
                    producer: header.producer_id,
                    epoch: header.producer_epoch,
                    first: header.base_sequence,
                    last,
                    base_offset: 0,
                    count: header.records_count,
                    max_timestamp,
                    rows: rows.into_iter().map(|row| row.row).collect(),
                    place: (name.to_owned(), topic_id, index as usize),
                    leader_epoch: 0,
                    time: from.time,
                    life: from.life,
                    late: from.late,
                    forgotten: from.late && (!known || stray),
                    state: State::There,
                    bytes: Bytes::new(),
                    cleaned_ms: None,
                };
                self.write(name, index as usize, entry, records)
            }
        };
        if self.one_in_thousand(self.flaky.after) {
            return no([TIMED_OUT, FEW_REPLICAS_AFTER][self.rng.usize(..2)]);
        }
        let end = base + i64::from(header.records_count);
        let high = self.topics[name].partitions[index as usize].high;
        if acks == -1 && high < end { Appended::Wait(base, end) } else { Appended::Answer(0, base) }
    }

    fn write(&mut self, name: &str, index: usize, mut entry: Entry, records: &Bytes) -> i64 {
        let place = self.entries.len();
        let topic = self.topics.get_mut(name).expect("it was there");
        topic.partitions[index].append(place, &mut entry);
        let append_ms = (topic.holds == Holds::Sessions).then_some(entry.max_timestamp);
        entry.bytes = Bytes::from(stored(records, (entry.base_offset, entry.leader_epoch), append_ms));
        for row in &entry.rows {
            self.rows.entry((row.message, row.sink)).or_default().push(place);
        }
        let base = entry.base_offset;
        self.entries.push(entry);
        base
    }
}

pub(super) fn response_header(correlation: i32, key: ApiKey, version: i16) -> BytesMut {
    let mut body = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut body, key.response_header_version(version)).expect("a header");
    body
}

pub(super) fn framed(body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(body.len() + 4);
    framed.put_u32(u32::try_from(body.len()).expect("short"));
    framed.extend_from_slice(body);
    framed
}

/// A record of a batch.
struct ReadRow {
    row: Row,
    poison: bool,
    /// Whether the record has a timestamp, or a header with its time of receipt.
    timed: bool,
}

fn read_rows(view: &BatchView<'_>, codecs: &mut forebay::record::compression::Codecs) -> Vec<ReadRow> {
    let body = match view.codec().expect("a codec") {
        Codec::None => view.body(),
        codec => codecs.decompress(codec, view.body(), 8 << 20).expect("of its codec"),
    };
    let records = Records::new(body, view.header().records_count, view.header().base_timestamp);
    let rows: Vec<_> = records
        .map(|record| {
            let record = record.expect("a whole record");
            let value = record.value.unwrap_or_default();
            let sink = record.headers.clone().find(|(key, _)| *key == SINK_HEADER).and_then(|(_, value)| value);
            let sink = sink.and_then(|value| value.first()).map_or(0, |digit| digit - b'0');
            let message = message_number(value).unwrap_or_else(|| panic!("nothing is invented: {value:?}"));
            let timed = record.timestamp >= 0 || record.headers.clone().any(|(key, _)| key == RECEIVED_HEADER);
            ReadRow { row: Row { message, sink, time: record.timestamp }, poison: value.starts_with(POISON), timed }
        })
        .collect();
    assert_eq!(rows.len(), view.header().records_count as usize, "as many records as the header says");
    rows
}

/// The number in a message's payload: `m17 …` or `poison m17 …`.
#[must_use]
pub fn message_number(value: &[u8]) -> Option<u32> {
    let value = value.strip_prefix(POISON).map_or(value, |rest| rest.strip_prefix(b" ").unwrap_or(rest));
    let digits = value.strip_prefix(b"m")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}
