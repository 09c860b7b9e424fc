//! Every listed request in every listed version, and the contents of the answers.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::client::{Batch, Client, fetch_request, name, produce_request};
use super::support::{log, settings};
use crate::EmbeddedLog;

#[test]
fn api_versions_in_every_version_and_beyond() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    let request = ApiVersionsRequest::default().with_client_software_name("x".to_owned().into());
    for version in 0..=3 {
        let request = if version < 3 { ApiVersionsRequest::default() } else { request.clone() };
        let response = client.call(&request, version);
        assert_eq!((response.error_code, response.api_keys.len()), (0, 24));
        assert_eq!((response.finalized_features_epoch, response.supported_features.len()), (-1, 0));
        let range = |key: ApiKey| response.api_keys.iter().find(|api| api.api_key == key as i16).unwrap();
        assert_eq!((range(ApiKey::Produce).min_version, range(ApiKey::Fetch).min_version), (0, 4));
    }
    // A future version is answered in version 0, with 35 and the list (KIP-511).
    client.send(&request, 4);
    let response = client.receive::<ApiVersionsRequest>(0);
    assert_eq!((response.error_code, response.api_keys.len()), (35, 24));
    assert_eq!(client.metadata(&[]).brokers.len(), 1, "the connection goes on");
}

#[test]
fn metadata_in_every_version() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    let id = client.metadata(&["t"]).topics[0].topic_id;
    assert!(!id.is_nil());
    for version in 0..=13 {
        let asked = MetadataRequestTopic::default().with_name(Some(name("t")));
        let mut request = MetadataRequest::default().with_topics(Some(vec![asked]));
        request.allow_auto_topic_creation = true;
        let response = client.call(&request, version);
        let broker = &response.brokers[0];
        assert_eq!((broker.host.as_str(), broker.port), ("127.0.0.1", i32::from(log.local_addr().port())));
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 1), "version {version}");
        assert_eq!(topic.partitions[0].leader_id, broker.node_id);
        if version >= 10 {
            assert_eq!(topic.topic_id, id);
        }
        // All topics: an empty list in version 0, null from version 1 on, where an empty list means none.
        let all = request.clone().with_topics(if version == 0 { Some(vec![]) } else { None });
        assert_eq!(client.call(&all, version).topics.len(), 1, "version {version}");
        if version > 0 {
            assert_eq!(client.call(&request.with_topics(Some(vec![])), version).topics.len(), 0);
        }
        if version >= 12 {
            let by_id = MetadataRequestTopic::default().with_name(None).with_topic_id(id);
            let unknown = by_id.clone().with_topic_id(uuid::Uuid::from_u128(1));
            let response = client.call(&MetadataRequest::default().with_topics(Some(vec![by_id, unknown])), version);
            assert_eq!(response.topics[0].name, Some(name("t")));
            assert_eq!((response.topics[1].error_code, &response.topics[1].name), (100, &None));
        }
    }
}

/// librdkafka 2.16 (seen with confluent-kafka 2.16.1, `list_topics()`): null as four bytes instead of one.
#[test]
fn all_topics_as_librdkafka_asks_for_them() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let request = b"\0\0\0\x19\0\x03\0\x0d\0\0\0\x03\0\x07rdkafka\0\0\0\0\0\x01\0\0";
    std::io::Write::write_all(&mut client.stream, request).unwrap();
    let frame = client.receive_frame().unwrap();
    let response: MetadataResponse = kafka_protocol::protocol::Decodable::decode(&mut frame.slice(5..), 13).unwrap();
    assert_eq!(response.topics[0].name, Some(name("t")));
}

#[test]
fn topics_are_made_only_if_all_agree() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    let asked = |topic| Some(vec![MetadataRequestTopic::default().with_name(Some(name(topic)))]);
    let request = MetadataRequest::default().with_topics(asked("new")).with_allow_auto_topic_creation(false);
    assert_eq!(client.call(&request, 9).topics[0].error_code, 3);
    for bad in ["a/b", "..", ""] {
        assert_eq!(client.metadata(&[bad]).topics[0].error_code, 17, "{bad:?}");
    }
    assert_eq!(client.produce("new", 0, &Batch::counted(1).bytes()).error_code, 3, "producing makes no topic");
    let made = client.metadata(&["new", "new"]);
    assert_eq!(made.topics[0].topic_id, made.topics[1].topic_id);
    let id = made.topics[0].topic_id;
    log.stop();
    let mut settings = settings(dir.path());
    settings.auto_create_topics = false;
    let log = EmbeddedLog::start(settings).unwrap();
    let mut client = Client::connect(log.local_addr());
    assert_eq!(client.metadata(&["other"]).topics[0].error_code, 3);
    assert_eq!(client.metadata(&["new"]).topics[0].topic_id, id);
}

#[test]
fn produce_and_fetch_in_every_version() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    let id = client.metadata(&["t"]).topics[0].topic_id;
    let batch = Batch::counted(2).bytes();
    for (n, version) in (3..=13).enumerate() {
        let mut request = produce_request(-1, &[("t", 0, &batch), ("nope", 0, &batch)]);
        if version >= 13 {
            request.topic_data[0].topic_id = id;
            request.topic_data[1].topic_id = uuid::Uuid::from_u128(1);
            request.topic_data.iter_mut().for_each(|topic| topic.name = Default::default());
        }
        let response = client.call(&request, version);
        let first = &response.responses[0].partition_responses[0];
        assert_eq!((first.error_code, first.base_offset), (0, n as i64 * 2), "version {version}");
        let unknown = if version >= 13 { 100 } else { 3 };
        assert_eq!(response.responses[1].partition_responses[0].error_code, unknown);
    }
    for version in 4..=17 {
        let mut request = fetch_request("t", 0, 3);
        request.topics.extend(fetch_request("nope", 0, 0).topics);
        if version >= 13 {
            request.topics[0].topic_id = id;
            request.topics[1].topic_id = uuid::Uuid::from_u128(1);
            request.topics.iter_mut().for_each(|topic| topic.topic = Default::default());
        }
        let response = client.call(&request, version);
        let data = &response.responses[0].partitions[0];
        assert_eq!((data.error_code, data.high_watermark), (0, 22), "version {version}");
        assert_eq!(super::client::unpack(data.records.as_ref().unwrap())[0].0, 2);
        assert_eq!(response.responses[1].partitions[0].error_code, if version >= 13 { 100 } else { 3 });
        if version >= 7 {
            assert_eq!(response.session_id, 0);
            let session = client.call(&fetch_request("t", 0, 0).with_session_id(5).with_topics(vec![]), version);
            assert_eq!(session.error_code, 70);
        }
    }
    let response = client.call(&produce_request(2, &[("t", 0, &batch)]), 9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 21);
}

#[test]
fn list_offsets_in_every_version_and_by_time() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    assert_eq!(client.list_offset("t", 0, 5), (0, -1, -1), "nothing there");
    assert_eq!(client.list_offset("t", 0, -3), (0, -1, -1));
    client.produce("t", 0, &Batch::counted(3).at(&[100, 300, 200]).bytes());
    client.produce("t", 0, &Batch::counted(2).at(&[400, 500]).bytes());
    client.produce("t", 0, &Batch::counted(2).at(&[450, 460]).bytes());
    // In a compressed batch, its first record stands for the one that is looked for.
    client.produce("t", 0, &Batch::counted(4).at(&[600, 600, 600, 700]).attributes(3).around(b"?"));
    let by_time =
        [(0, 100, 0), (100, 100, 0), (101, 300, 1), (301, 400, 3), (455, 500, 4), (501, 600, 7), (650, 600, 7)];
    for (asked, timestamp, offset) in by_time {
        assert_eq!(client.list_offset("t", 0, asked), (0, timestamp, offset), "at {asked}");
    }
    assert_eq!(client.list_offset("t", 0, 701), (0, -1, -1));
    assert_eq!(client.list_offset("t", 0, -1), (0, -1, 11));
    assert_eq!(client.list_offset("t", 0, -2), (0, -1, 0));
    assert_eq!(client.list_offset("t", 0, -3), (0, 700, 10));
    assert_eq!(client.list_offset("t", 1, -1).0, 3);
    assert_eq!(client.list_offset("t", 0, -99).0, 42);
    for version in 1..=10 {
        let asked = list_offsets_request::ListOffsetsPartition::default().with_timestamp(-1);
        let topic = list_offsets_request::ListOffsetsTopic::default().with_name(name("t")).with_partitions(vec![asked]);
        let response = client.call(&ListOffsetsRequest::default().with_topics(vec![topic]), version);
        assert_eq!(response.topics[0].partitions[0].offset, 11, "version {version}");
    }
}

#[test]
fn create_topics_in_every_version() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path());
    settings.partitions_max = 100;
    let log = EmbeddedLog::start(settings).unwrap();
    let mut client = Client::connect(log.local_addr());
    let topic = |topic: &str, partitions: i32| {
        CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions).with_replication_factor(1)
    };
    let create = |client: &mut Client, version: i16, validate: bool, topics: Vec<CreatableTopic>| {
        let request = CreateTopicsRequest::default().with_topics(topics).with_validate_only(validate);
        let response = client.call(&request, version);
        response.topics.iter().map(|topic| topic.error_code).collect::<Vec<_>>()
    };
    for version in 2..=7 {
        let fresh = format!("t{version}");
        let asked = vec![topic(&fresh, 3), topic("a b", 1), topic("zero", 0), topic("many", 5_000), topic("100", 100)];
        assert_eq!(
            create(&mut client, version, true, asked.clone()),
            [0, 17, 37, 37, if version == 2 { 0 } else { 44 }]
        );
        assert_eq!(create(&mut client, version, false, asked[..1].to_vec()), [0]);
        assert_eq!(create(&mut client, version, false, asked[..1].to_vec()), [36]);
        assert_eq!(client.metadata(&[&fresh]).topics[0].partitions.len(), 3);
    }
    let wrong = vec![topic("r", 1).with_replication_factor(3), topic("twice", 1), topic("twice", 1)];
    assert_eq!(create(&mut client, 7, false, wrong), [38, 42, 42]);
    let compact = CreatableTopicConfig::default()
        .with_name(StrBytes::from_static_str("cleanup.policy"))
        .with_value(Some(StrBytes::from_static_str("compact")));
    assert_eq!(create(&mut client, 7, false, vec![topic("c", 1).with_configs(vec![compact])]), [40]);
    let on = |node: i32, index: i32| {
        create_topics_request::CreatableReplicaAssignment::default()
            .with_partition_index(index)
            .with_broker_ids(vec![node.into()])
    };
    let assigned = |name, on| topic(name, -1).with_replication_factor(-1).with_assignments(on);
    let topics =
        vec![assigned("m", vec![on(1, 1), on(1, 0)]), assigned("n", vec![on(2, 0)]), assigned("o", vec![on(1, 1)])];
    assert_eq!(create(&mut client, 7, false, topics), [0, 39, 39]);
    assert_eq!(client.metadata(&["m"]).topics[0].partitions.len(), 2);
    assert_eq!(create(&mut client, 7, false, vec![topic("default", -1)]), [0]);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let (log, dir) = log();
    let mut seen = std::collections::HashSet::new();
    let mut log = Some(log);
    for round in 0..6 {
        let running = log.take().unwrap();
        let mut client = Client::connect(running.local_addr());
        for version in 0..=5 {
            let response = client.call(&InitProducerIdRequest::default().with_transactional_id(None), version);
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(seen.insert(response.producer_id), "{:?} again", response.producer_id);
        }
        if round % 2 == 0 {
            running.stop()
        } else {
            drop(running)
        }
        log = Some(EmbeddedLog::start(settings(dir.path())).unwrap());
    }
    let log = log.unwrap();
    let mut client = Client::connect(log.local_addr());
    let transactional =
        InitProducerIdRequest::default().with_transactional_id(Some(StrBytes::from_static_str("x").into()));
    assert_eq!(client.call(&transactional, 4).error_code, 42);
}

#[test]
fn groups_are_coordinated_here_and_transactions_are_not() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    let port = i32::from(log.local_addr().port());
    for version in 0..=5 {
        for kind in 0..=i8::from(version > 0) {
            let key = StrBytes::from_static_str("g");
            let request = FindCoordinatorRequest::default();
            let request = if version > 0 { request.with_key_type(kind) } else { request };
            let found = if version < 4 {
                let response = client.call(&request.with_key(key), version);
                (response.error_code, i32::from(response.node_id), response.port)
            } else {
                let response = client.call(&request.with_coordinator_keys(vec![key]), version);
                let found = &response.coordinators[0];
                (found.error_code, i32::from(found.node_id), found.port)
            };
            assert_eq!(found, if kind == 0 { (0, 1, port) } else { (15, -1, -1) }, "version {version}");
        }
    }
}
