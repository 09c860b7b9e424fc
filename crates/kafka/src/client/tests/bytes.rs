//! Tests of the bytes against kafka-protocol's encoders, version by version; and of absurd answers.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::metadata_response::*;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::*;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use proptest::prelude::*;

use super::world::name;
use uuid::Uuid;

use crate::client::answer::{self, Metadata, ProducerIdAnswer};
use crate::client::api::{self, Call, Negotiated, Versions};
use crate::client::produce;
use crate::client::request::{self, Head};
use crate::client::wire::{Read, Reader};
use crate::types::{NodeId, ProduceBatch, ProduceRequest as OurRequest, ProduceResult};
use forebay_runtime::seam::Chunk;

const HEAD: Head<'static> = Head { correlation: 0x0102_0304, client_id: "forebay-7" };

/// The id of a topic of this name.
fn id(topic: &str) -> u128 {
    topic.bytes().fold(1, |id, byte| (id << 7) ^ (id >> 100) ^ u128::from(byte))
}

fn batch(topic: &str, partition: i32, length: usize) -> ProduceBatch {
    let bytes = Rc::new((0..length).map(|i| i as u8).collect());
    ProduceBatch { topic: name(topic), topic_id: id(topic), partition, bytes }
}

fn reader(call: Call, bytes: &[u8], version: i16) -> Reader<'_> {
    Reader::new(bytes, call.is_flexible(version))
}

fn read_produced(bytes: &[u8], version: i16, batches: &[ProduceBatch]) -> Read<(Vec<ProduceResult>, i32)> {
    produce::read_answer(&mut reader(Call::Produce, bytes, version), version, batches)
}

fn read_metadata(bytes: &[u8], version: i16, asked: &[Rc<str>]) -> Read<Metadata> {
    answer::read_metadata(&mut reader(Call::Metadata, bytes, version), version, asked)
}

fn read_producer_id(bytes: &[u8], version: i16) -> Read<ProducerIdAnswer> {
    answer::read_producer_id(&mut reader(Call::InitProducerId, bytes, version))
}

fn read_api_versions(bytes: &[u8], version: i16) -> Read<Negotiated> {
    api::read_api_versions(&mut reader(Call::ApiVersions, bytes, version), version)
}

/// An answer with one more byte at its end, as some Kafka-compatible services send it.
fn with_one_more(bytes: &[u8]) -> Vec<u8> {
    [bytes, &[0]].concat()
}

fn our_request(batches: Vec<ProduceBatch>, acks: i16) -> OurRequest {
    OurRequest { id: 1, node: NodeId(1), slow: false, acks, timeout_ms: 500, batches }
}

/// The same request encoded by kafka-protocol, length field included.
fn their_request(head: Head<'_>, version: i16, ours: &OurRequest) -> Vec<u8> {
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for batch in &ours.batches {
        if topics.last().is_none_or(|topic| *topic.name.0 != *batch.topic) {
            // Version 13 sends the id, earlier ones the name.
            let topic = TopicProduceData::default().with_name(StrBytes::from(batch.topic.to_string()).into());
            topics.push(topic.with_topic_id(Uuid::from_u128(batch.topic_id)));
        }
        let data = PartitionProduceData::default().with_index(batch.partition);
        let data = data.with_records(Some(Bytes::copy_from_slice(&batch.bytes)));
        topics.last_mut().expect("just pushed").partition_data.push(data);
    }
    let body = ProduceRequest::default().with_acks(ours.acks).with_timeout_ms(ours.timeout_ms).with_topic_data(topics);
    let header = RequestHeader::default()
        .with_request_api_key(0)
        .with_request_api_version(version)
        .with_correlation_id(head.correlation)
        .with_client_id(Some(StrBytes::from(head.client_id.to_owned())));
    let mut out = BytesMut::from(&[0; 4][..]);
    header.encode(&mut out, ApiKey::Produce.request_header_version(version)).expect("header");
    body.encode(&mut out, version).expect("body");
    let length = out.len() as u32 - 4;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

fn flat(chunks: &[Chunk]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| chunk.bytes()).copied().collect()
}

#[test]
fn produce_requests_byte_for_byte() {
    let long = "t".repeat(249);
    let shapes = [
        vec![],
        vec![batch("a", 0, 70)],
        vec![batch("a", 0, 126), batch("a", 7, 127), batch("a", i32::MAX, 128)],
        vec![batch("a", 0, 16_382), batch("b", 0, 16_383), batch(&long, 3, 16_384), batch(&long, 4, 0)],
        (0..200).map(|partition| batch("many", partition, 61)).collect(),
        (0..200).map(|topic| batch(&format!("topic-{topic}"), 0, 61)).collect(),
    ];
    for version in 3..=13 {
        for (i, shape) in shapes.iter().enumerate() {
            for (client_id, acks) in [("forebay-7", -1), ("", 1), ("x", 0)] {
                let head = Head { client_id, ..HEAD };
                let request = our_request(shape.clone(), acks);
                let (chunks, bytes) = produce::request(head, version, &request).expect("within the protocol's bounds");
                assert_eq!(flat(&chunks), their_request(head, version, &request), "v{version}, shape {i}");
                assert_eq!(flat(&chunks).len(), bytes);
                let shared = chunks.iter().filter(|chunk| matches!(chunk, Chunk::Shared(_))).count();
                assert_eq!(shared, shape.len());
            }
        }
    }
}

#[test]
fn a_topic_without_an_id_has_the_whole_request_go_by_names() {
    let (known, unknown) = (batch("a", 0, 1), ProduceBatch { topic_id: 0, ..batch("b", 0, 1) });
    assert_eq!(produce::version_for(13, std::slice::from_ref(&known)), 13);
    assert_eq!(produce::version_for(13, &[known.clone(), unknown.clone()]), 12);
    assert_eq!((produce::version_for(9, &[known]), produce::version_for(9, &[unknown])), (9, 9));
}

#[test]
fn produce_batches_are_not_copied() {
    let request = our_request(vec![batch("a", 0, 70)], -1);
    let (chunks, _) = produce::request(HEAD, 12, &request).expect("a request");
    assert!(matches!(&chunks[1], Chunk::Shared(bytes) if Rc::ptr_eq(bytes, &request.batches[0].bytes)));
}

#[test]
fn a_request_beyond_the_protocol_is_not_made() {
    let request = our_request(vec![batch(&"x".repeat(40_000), 0, 1)], -1);
    for version in 3..=12 {
        assert!(produce::request(HEAD, version, &request).is_none());
    }
}

#[test]
fn small_requests_are_what_kafka_reads() {
    fn read<B: Decodable>(frame: Option<Vec<u8>>, key: ApiKey, version: i16) -> B {
        let frame = frame.expect("a frame");
        assert_eq!(u32::from_be_bytes(frame[..4].try_into().expect("four")) as usize, frame.len() - 4);
        let mut bytes = Bytes::from(frame).slice(4..);
        let header = RequestHeader::decode(&mut bytes, key.request_header_version(version)).expect("a header");
        assert_eq!((header.request_api_key, header.request_api_version), (key as i16, version));
        assert_eq!((header.correlation_id, header.client_id.as_deref()), (HEAD.correlation, Some(HEAD.client_id)));
        let body = B::decode(&mut bytes, version).expect("a body");
        assert!(bytes.is_empty());
        body
    }
    for version in [0, 1, 2, 3] {
        let body: ApiVersionsRequest = read(request::api_versions(HEAD, version), ApiKey::ApiVersions, version);
        assert_eq!(&*body.client_software_name, if version < 3 { "" } else { "forebay" });
    }
    for version in 1..=12 {
        let topics = [name("a"), name("b")];
        let body: MetadataRequest = read(request::metadata(HEAD, version, &topics, true), ApiKey::Metadata, version);
        assert!(body.allow_auto_topic_creation);
        let topics = body.topics.expect("a list");
        assert_eq!(topics.iter().map(|t| t.name.as_ref().expect("a name").as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let body: MetadataRequest = read(request::metadata(HEAD, version, &[], false), ApiKey::Metadata, version);
        assert_eq!(
            (body.topics, body.allow_auto_topic_creation),
            (Some(Vec::new()), version < 4),
            "null would be all topics; before 4 there is no word for it"
        );
    }
    for version in 0..=5 {
        let body: InitProducerIdRequest =
            read(request::init_producer_id(HEAD, version), ApiKey::InitProducerId, version);
        assert_eq!((body.transactional_id, body.producer_id.0, body.producer_epoch), (None, -1, -1));
    }
}

fn encoded<B: Encodable>(body: &B, version: i16) -> Vec<u8> {
    let mut out = BytesMut::new();
    body.encode(&mut out, version).expect("an answer");
    out.to_vec()
}

fn produce_answer(version: i16) -> (Vec<ProduceBatch>, Vec<u8>) {
    let partition = |index: i32, error: i16| {
        let mut answer = PartitionProduceResponse::default()
            .with_index(index)
            .with_error_code(error)
            .with_base_offset(if error == 0 { 1000 + i64::from(index) } else { -1 })
            .with_log_append_time_ms(-1);
        if version >= 5 {
            answer = answer.with_log_start_offset(5);
        }
        if version >= 8 && error != 0 {
            let record = BatchIndexAndErrorMessage::default()
                .with_batch_index(3)
                .with_batch_index_error_message(Some(StrBytes::from_static_str("bad record")));
            let silent = BatchIndexAndErrorMessage::default().with_batch_index(4);
            answer = answer.with_record_errors(vec![record, silent]);
            answer = answer.with_error_message(Some(StrBytes::from_static_str("bad batch")));
        }
        if version >= 10 {
            let leader = LeaderIdAndEpoch::default().with_leader_id(BrokerId(3)).with_leader_epoch(9);
            answer = answer.with_current_leader(leader);
        }
        answer
    };
    let topic = |name: &'static str, partitions: Vec<PartitionProduceResponse>| {
        TopicProduceResponse::default()
            .with_name(StrBytes::from_static_str(name).into())
            .with_topic_id(Uuid::from_u128(id(name)))
            .with_partition_responses(partitions)
    };
    let mut body = ProduceResponse::default()
        .with_responses(vec![
            topic("b", vec![partition(0, 0)]),
            topic("a", vec![partition(2, 0), partition(0, 6), partition(1, 0)]),
        ])
        .with_throttle_time_ms(12);
    if version >= 10 {
        let endpoint = NodeEndpoint::default()
            .with_node_id(BrokerId(3))
            .with_host(StrBytes::from_static_str("kafka-3"))
            .with_port(9092);
        body = body.with_node_endpoints(vec![endpoint]);
    }
    (vec![batch("a", 0, 1), batch("a", 1, 1), batch("a", 2, 1), batch("b", 0, 1)], encoded(&body, version))
}

#[test]
fn produce_answers_of_every_version() {
    for version in 3..=13 {
        let (batches, bytes) = produce_answer(version);
        let (results, throttle_ms) = read_produced(&bytes, version, &batches).expect("read");
        assert_eq!(throttle_ms, 12);
        let got: Vec<_> = results.iter().map(|r| (&*r.topic, r.partition, r.error, r.base_offset)).collect();
        assert_eq!(got, [("a", 0, 6, -1), ("a", 1, 0, 1001), ("a", 2, 0, 1002), ("b", 0, 0, 1000)], "v{version}");
        // An answer to one batch too few, one too many, or one twice is not the answer to that question.
        assert!(read_produced(&bytes, version, &batches[1..]).is_err());
        assert!(read_produced(&bytes, version, &[&batches[..], &[batch("c", 0, 1)]].concat()).is_err());
        assert!(read_produced(&bytes, version, &[&batches[..], &[batch("a", 0, 1)]].concat()).is_err());
        // An answer that is cut anywhere is incomplete. Bytes after its end are skipped.
        for cut in 0..bytes.len() {
            assert!(read_produced(&bytes[..cut], version, &batches).is_err(), "v{version} cut at {cut}");
        }
        let more = with_one_more(&bytes);
        let mut reader = reader(Call::Produce, &more, version);
        assert_eq!(produce::read_answer(&mut reader, version, &batches), Ok((results, throttle_ms)));
        assert_eq!(reader.extra(), 1);
    }
}

#[test]
fn an_answer_given_twice_does_not_count_for_another() {
    let partition = || PartitionProduceResponse::default().with_index(0).with_base_offset(7);
    let topic = TopicProduceResponse::default()
        .with_name(StrBytes::from_static_str("a").into())
        .with_partition_responses(vec![partition(), partition()]);
    let bytes = encoded(&ProduceResponse::default().with_responses(vec![topic]), 3);
    assert!(read_produced(&bytes, 3, &[batch("a", 0, 1), batch("a", 1, 1)]).is_err());
    assert!(read_produced(&bytes, 3, &[batch("a", 0, 1)]).is_err());
}

fn metadata_answer(version: i16) -> Vec<u8> {
    let broker = |node: i32, host: &'static str, port: i32| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(node))
            .with_host(StrBytes::from_static_str(host))
            .with_port(port)
            .with_rack((node == 2).then(|| StrBytes::from_static_str("r2")))
    };
    let partition = |index: i32, leader: i32| {
        let mut partition = MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(leader))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(2)])
            .with_isr_nodes(vec![BrokerId(2)]);
        if version >= 5 {
            partition = partition.with_offline_replicas(vec![BrokerId(1)]);
        }
        if version >= 7 {
            partition = partition.with_leader_epoch(4);
        }
        partition
    };
    let topic = |name: &'static str, error: i16, partitions: Vec<MetadataResponsePartition>| {
        MetadataResponseTopic::default()
            .with_name(Some(StrBytes::from_static_str(name).into()))
            .with_error_code(error)
            .with_partitions(partitions)
    };
    let body = MetadataResponse::default()
        .with_throttle_time_ms(3)
        .with_brokers(vec![
            broker(2, "kafka-2", 9092),
            broker(1, "10.0.0.1", 9093),
            broker(3, "x", 70_000),
            broker(4, "", 1),
        ])
        .with_cluster_id(Some(StrBytes::from_static_str("cluster")))
        .with_controller_id(BrokerId(1))
        .with_topics(vec![
            topic("d-partial", 0, vec![partition(0, 1), partition(3, 1)]),
            topic("whole", 0, vec![partition(2, -1), partition(0, 2), partition(1, 9)]),
            topic("not-asked", 0, vec![partition(0, 1)]),
            topic("e-unknown", 3, vec![]),
            topic("whole", 29, vec![]),
            topic("f-empty", 0, vec![]),
        ]);
    encoded(&body, version)
}

fn asked() -> Vec<Rc<str>> {
    ["d-partial", "e-unknown", "f-empty", "missing", "whole"].map(name).to_vec()
}

#[test]
fn metadata_answers_of_every_version() {
    for version in 1..=12 {
        let bytes = metadata_answer(version);
        let metadata = read_metadata(&bytes, version, &asked()).expect("read");
        assert_eq!(metadata.throttle_ms, if version >= 3 { 3 } else { 0 });
        let brokers: Vec<_> = metadata.brokers.iter().map(|b| (b.node.0, &*b.host, b.port)).collect();
        assert_eq!(brokers, [(1, "10.0.0.1", 9093), (2, "kafka-2", 9092)], "those that make sense, by id");
        let topics: Vec<_> = metadata.topics.iter().map(|t| t.as_ref().map(|t| (t.error, t.leaders.clone()))).collect();
        let whole = vec![Some(NodeId(2)), None, None];
        let expected = [Some((5, vec![])), Some((3, vec![])), Some((5, vec![])), None, Some((0, whole))];
        assert_eq!(topics, expected, "v{version}");
        let epochs = metadata.topics.iter().flatten().map(|topic| topic.leader_epochs.clone()).next_back();
        assert_eq!(epochs, Some(if version >= 7 { vec![4; 3] } else { Vec::new() }), "v{version}");
        for cut in 0..bytes.len() {
            assert!(read_metadata(&bytes[..cut], version, &asked()).is_err(), "v{version} cut at {cut}");
        }
        let more = with_one_more(&bytes);
        let mut reader = reader(Call::Metadata, &more, version);
        assert_eq!(answer::read_metadata(&mut reader, version, &asked()), Ok(metadata));
        assert_eq!(reader.extra(), 1);
    }
}

#[test]
fn producer_id_answers_of_every_version() {
    for version in 0..=5 {
        let body = InitProducerIdResponse::default()
            .with_throttle_time_ms(1)
            .with_producer_id(i64::MAX.into())
            .with_producer_epoch(9);
        let bytes = encoded(&body, version);
        let answer = read_producer_id(&bytes, version).expect("read");
        assert_eq!((answer.throttle_ms, answer.error, answer.id, answer.epoch), (1, 0, i64::MAX, 9));
        (0..bytes.len()).for_each(|cut| assert!(read_producer_id(&bytes[..cut], version).is_err()));
        let negative = encoded(&InitProducerIdResponse::default().with_producer_id((-1).into()), version);
        assert!(read_producer_id(&negative, version).is_err(), "no error, and no id");
    }
}

fn versions_answer(version: i16, ranges: &[(i16, i16, i16)]) -> Vec<u8> {
    let keys = ranges.iter().map(|(key, low, high)| {
        ApiVersion::default().with_api_key(*key).with_min_version(*low).with_max_version(*high)
    });
    let mut body = ApiVersionsResponse::default().with_api_keys(keys.collect());
    if version >= 1 {
        body = body.with_throttle_time_ms(6);
    }
    if version >= 3 {
        let supported = SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str("metadata.version"))
            .with_min_version(1)
            .with_max_version(29);
        let finalized = FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str("metadata.version"))
            .with_min_version_level(29)
            .with_max_version_level(29);
        body = body.with_supported_features(vec![supported]).with_finalized_features(vec![finalized]);
        body = body.with_finalized_features_epoch(77);
    }
    encoded(&body, version)
}

#[test]
fn api_versions_of_every_version() {
    // The last six are calls of a group's members: OffsetCommit in a version to come only, SyncGroup not at all.
    let full = [
        (0, 3, 13),
        (1, 4, 18),
        (3, 0, 11),
        (18, 0, 4),
        (22, 0, 2),
        (9999, 0, 0),
        (8, 10, 11),
        (9, 1, 10),
        (10, 0, 5),
        (11, 2, 9),
        (12, 0, 4),
        (13, 0, 2),
    ];
    for version in 0..=3 {
        let bytes = versions_answer(version, &full);
        let settled = Versions {
            produce: 13,
            metadata: 11,
            init_producer_id: 2,
            fetch: Some(13),
            list_offsets: None,
            offset_for_leader_epoch: None,
            describe_producers: None,
            sasl_handshake: None,
            sasl_authenticate: None,
            of_members: [Some(5), Some(9), None, Some(4), Some(2), Some(9), None, None],
        };
        let throttle_ms = if version >= 1 { 6 } else { 0 };
        assert_eq!(read_api_versions(&bytes, version), Ok(Negotiated::Settled(settled, throttle_ms)));
        (0..bytes.len()).for_each(|cut| assert!(read_api_versions(&bytes[..cut], version).is_err(), "{cut}"));
        for (at, range) in [(0, (0, 14, 20)), (0, (0, 0, 2)), (2, (3, 0, 0)), (4, (22, 6, 7))] {
            let mut without = full;
            without[at] = range;
            let read = read_api_versions(&versions_answer(version, &without), version);
            assert!(matches!(read, Ok(Negotiated::NothingCommon(_))), "{range:?}: {read:?}");
        }
        let mut upside_down = full;
        upside_down[0] = (0, 9, 3);
        assert!(read_api_versions(&versions_answer(version, &upside_down), version).is_err());
    }
    let refused = encoded(&ApiVersionsResponse::default().with_error_code(35), 0);
    assert_eq!(read_api_versions(&refused, 3), Ok(Negotiated::AskV0));
    assert_eq!(read_api_versions(&refused, 0), Ok(Negotiated::Refused(35)), "or it would be asked for ever");
}

/// Reads `bytes` as each kind of answer. No decoder may panic or take more memory than the bytes justify.
fn read_as_anything(bytes: &[u8]) {
    let batches = produce_answer(12).0;
    for version in 3..=13 {
        let _ = read_produced(bytes, version, &batches);
    }
    for version in 1..=12 {
        if let Ok(metadata) = read_metadata(bytes, version, &asked()) {
            let leaders: usize = metadata.topics.iter().flatten().map(|topic| topic.leaders.len()).sum();
            assert!(leaders * 18 <= bytes.len() && metadata.brokers.len() * 10 <= bytes.len());
        }
    }
    for version in 0..=5 {
        let _ = read_producer_id(bytes, version);
    }
    for version in 0..=3 {
        let _ = read_api_versions(bytes, version);
    }
}

fn valid_answers() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (3..=13).map(|version| produce_answer(version).1).collect();
    all.extend((1..=12).map(metadata_answer));
    all.extend((0..=3).map(|version| versions_answer(version, &[(0, 3, 13), (3, 0, 11), (22, 0, 2)])));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_as_anything(&bytes);
    }

    #[test]
    fn mutated_answers_do_no_harm(
        which in any::<prop::sample::Index>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let answers = valid_answers();
        let mut bytes = answers[which.index(answers.len())].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        read_as_anything(&bytes);
    }
}

#[test]
fn every_single_byte_of_every_answer_may_be_wrong() {
    for answer in valid_answers() {
        for at in 0..answer.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = answer.clone();
                bytes[at] = value;
                read_as_anything(&bytes);
            }
        }
    }
}
