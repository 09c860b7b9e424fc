//! Administrators' requests: deleting, widening and configuring topics; retention; listing producers.

use std::path::Path;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig as LegacyConfig};
use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::client::{Batch, Client, fetch_request, name};
use super::support::{log, settings};
use crate::EmbeddedLog;

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn delete(client: &mut Client, topic: &str) -> i16 {
    let request = DeleteTopicsRequest::default().with_topic_names(vec![name(topic)]);
    client.call(&request, 5).responses[0].error_code
}

fn widen(client: &mut Client, version: i16, topic: &str, count: i32, validate: bool) -> i16 {
    let topic = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None);
    let request = CreatePartitionsRequest::default().with_topics(vec![topic]).with_validate_only(validate);
    client.call(&request, version).results[0].error_code
}

/// Sets (or with `None` deletes) one setting of a topic.
fn set(client: &mut Client, topic: &str, key: &str, value: Option<&str>) -> i16 {
    let config = AlterableConfig::default()
        .with_name(text(key))
        .with_config_operation(i8::from(value.is_none()))
        .with_value(value.map(text));
    let resource =
        IncrementalResource::default().with_resource_type(2).with_resource_name(text(topic)).with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    client.call(&request, 1).responses[0].error_code
}

/// Returns the error, and `(name, value, source)` of the settings.
fn configs(client: &mut Client, kind: i8, of: &str, keys: Option<Vec<&str>>) -> (i16, Vec<(String, String, i8)>) {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(of))
        .with_configuration_keys(keys.map(|keys| keys.into_iter().map(text).collect()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let result = client.call(&request, 4).results.remove(0);
    let entry = |entry: &describe_configs_response::DescribeConfigsResourceResult| {
        (entry.name.to_string(), entry.value.as_deref().unwrap_or_default().to_owned(), entry.config_source)
    };
    (result.error_code, result.configs.iter().map(entry).collect())
}

fn segments(dir: &Path, partition: &str) -> usize {
    let entries = std::fs::read_dir(dir.join("partitions").join(partition)).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|is| is == "segment")).count()
}

/// Waits for an effect of another thread; load only delays it.
fn eventually(mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(30), "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_deleted_topic_is_gone_and_its_name_is_free() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    for version in 1..=6 {
        let id = client.metadata(&["t", "t-1"]).topics[0].topic_id;
        assert_eq!(client.produce("t", 0, &Batch::counted(2).by(9, 0, 0).bytes()).base_offset, 0, "an empty topic");
        client.produce("t-1", 0, &Batch::counted(2).bytes());
        let mut request = DeleteTopicsRequest::default();
        match version {
            6 => request.topics = vec![DeleteTopicState::default().with_name(None).with_topic_id(id)],
            _ => request.topic_names = vec![name("t")],
        }
        let response = client.call(&request, version);
        assert_eq!((response.responses[0].error_code, &response.responses[0].name), (0, &Some(name("t"))));
        let unknown = if version == 6 { 100 } else { 3 };
        assert_eq!(client.call(&request, version).responses[0].error_code, unknown, "version {version}");
        assert_eq!(client.produce("t", 0, &Batch::counted(1).bytes()).error_code, 3);
        assert_eq!(client.fetch("t", 0, 0).error_code, 3);
        assert!(!dir.path().join("partitions/t-0").exists() && dir.path().join("partitions/t-1-0").exists());
    }
    assert_eq!((log.counters().topics.load(SeqCst), log.counters().partitions.load(SeqCst)), (1, 1));
    assert_eq!(log.counters().sync_failures.load(SeqCst), 0);
    log.stop();
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let mut client = Client::connect(log.local_addr());
    assert_eq!(client.call(&MetadataRequest::default().with_topics(None), 9).topics.len(), 1);
    assert_eq!(client.read_all("t-1", 0, 0).len(), 12);
}

#[test]
fn a_poll_on_a_deleted_topic_ends() {
    let (log, _dir) = log();
    let mut admin = Client::connect(log.local_addr());
    admin.metadata(&["t"]);
    let mut reader = Client::connect(log.local_addr());
    let id = admin.metadata(&["t"]).topics[0].topic_id;
    let mut request = fetch_request("t", 0, 0).with_max_wait_ms(600_000).with_min_bytes(1);
    request.topics[0].topic_id = id;
    request.topics[0].topic = Default::default();
    reader.send(&request, 13);
    assert_eq!(delete(&mut admin, "t"), 0);
    let response = reader.receive::<FetchRequest>(13);
    assert!(matches!(response.responses[0].partitions[0].error_code, 3 | 100));
}

#[test]
fn a_deletion_cut_off_by_a_crash_is_finished_at_the_start() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t", "other"]);
    client.produce("t", 0, &Batch::counted(2).bytes());
    drop(log);
    let topics = dir.path().join("topics");
    std::fs::rename(topics.join("t.json"), topics.join("t.deleted")).unwrap();
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    assert!(!dir.path().join("partitions/t-0").exists() && !topics.join("t.deleted").exists());
    let mut client = Client::connect(log.local_addr());
    assert_eq!(client.metadata(&["t"]).topics[0].error_code, 0);
    assert_eq!(client.read_all("t", 0, 0), []);
}

#[test]
fn partitions_are_added_for_good() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    let id = client.metadata(&["t"]).topics[0].topic_id;
    client.produce("t", 0, &Batch::counted(3).bytes());
    for version in 0..=3 {
        let count = 2 + i32::from(version);
        assert_eq!(widen(&mut client, version, "t", count, true), 0);
        assert_eq!(widen(&mut client, version, "t", count, false), 0);
        assert_eq!(widen(&mut client, version, "t", count, false), 37, "never fewer, never as many");
        assert_eq!(widen(&mut client, version, "t", 1_001, false), 37);
        assert_eq!(widen(&mut client, version, "nope", 3, false), 3);
    }
    let on = |nodes: &[i32]| {
        let assigned = |node: &i32| CreatePartitionsAssignment::default().with_broker_ids(vec![(*node).into()]);
        let assigned = Some(nodes.iter().map(assigned).collect());
        let topic = CreatePartitionsTopic::default().with_name(name("t")).with_count(6).with_assignments(assigned);
        CreatePartitionsRequest::default().with_topics(vec![topic])
    };
    assert_eq!(client.call(&on(&[2]), 3).results[0].error_code, 39);
    assert_eq!(client.call(&on(&[1, 1]), 3).results[0].error_code, 39);
    assert_eq!(client.call(&on(&[1]), 3).results[0].error_code, 0);
    assert_eq!(client.produce("t", 5, &Batch::counted(1).bytes()).error_code, 0);
    assert_eq!(log.counters().partitions.load(SeqCst), 6);
    drop(log);
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let mut client = Client::connect(log.local_addr());
    let topic = client.metadata(&["t"]).topics.remove(0);
    assert_eq!((topic.partitions.len(), topic.topic_id), (6, id));
    assert_eq!((client.read_all("t", 0, 0).len(), client.read_all("t", 5, 0).len()), (3, 1));
}

#[test]
fn settings_of_topics_are_kept_and_those_that_cannot_be_met_refused() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    let value = |client: &mut Client, key: &str| configs(client, 2, "t", Some(vec![key])).1.remove(0);
    assert_eq!(value(&mut client, "retention.ms"), ("retention.ms".into(), "-1".into(), 5));
    assert_eq!(set(&mut client, "t", "retention.ms", Some("60000")), 0);
    assert_eq!(set(&mut client, "t", "retention.bytes", Some("7")), 0);
    assert_eq!(set(&mut client, "t", "retention.bytes", None), 0);
    assert_eq!(set(&mut client, "t", "cleanup.policy", Some("delete")), 0, "as it is");
    for (key, bad) in [("retention.ms", "-2"), ("retention.ms", "x"), ("cleanup.policy", "compact"), ("nope", "1")] {
        assert_eq!(set(&mut client, "t", key, Some(bad)), 40, "{key}={bad}");
    }
    assert_eq!(set(&mut client, "nope", "retention.ms", Some("1")), 3);
    drop(log);
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    let mut client = Client::connect(log.local_addr());
    assert_eq!(value(&mut client, "retention.ms").1, "60000");
    assert_eq!(value(&mut client, "retention.bytes"), ("retention.bytes".into(), "-1".into(), 5));
    // The older request replaces all settings.
    for version in 0..=2 {
        let config = LegacyConfig::default().with_name(text("retention.bytes")).with_value(Some(text("9")));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(client.call(&request, version).responses[0].error_code, 0);
        assert_eq!((value(&mut client, "retention.ms").1, value(&mut client, "retention.bytes").2), ("-1".into(), 1));
        assert_eq!(set(&mut client, "t", "retention.ms", Some("60000")), 0);
    }
    let node = configs(&mut client, 4, "1", None);
    assert!(node.1.iter().any(|(name, value, _)| name == "num.partitions" && value == "1"), "{node:?}");
    assert_eq!(configs(&mut client, 4, "", None), (0, vec![]));
    assert_eq!((configs(&mut client, 4, "2", None).0, configs(&mut client, 2, "x", None).0), (42, 3));
    for version in 1..=4 {
        let resource = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(text("t"));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource.with_configuration_keys(None)]);
        assert_eq!(client.call(&request, version).results[0].configs.len(), 8);
    }
}

#[test]
fn retention_by_size_takes_whole_old_segments() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut settings = settings(dir.path());
        settings.segment_bytes = 1_000;
        settings.retention_interval = Duration::from_millis(5);
        EmbeddedLog::start(settings).unwrap()
    };
    let log = start();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    for _ in 0..100 {
        client.produce("t", 0, &Batch::counted(10).bytes());
    }
    let before = segments(dir.path(), "t-0");
    assert!(before > 10);
    assert_eq!(client.list_offset("t", 0, -2).2, 0, "nothing goes by itself");
    assert_eq!(set(&mut client, "t", "retention.bytes", Some("3000")), 0);
    eventually(|| segments(dir.path(), "t-0") < 6);
    let first = client.list_offset("t", 0, -2).2;
    assert!(first > 800, "{first}");
    assert_eq!(client.fetch("t", 0, first - 1).error_code, 1);
    assert_eq!(client.fetch("t", 0, 0).error_code, 1);
    let kept = client.read_all("t", 0, first);
    assert_eq!((kept[0].0, kept.last().unwrap().0), (first, 999));
    assert_eq!(log.counters().segments_expired.load(SeqCst), (before - segments(dir.path(), "t-0")) as u64);
    let bytes = std::fs::read_dir(dir.path().join("partitions/t-0")).unwrap();
    assert!(bytes.map(|file| file.unwrap().metadata().unwrap().len()).sum::<u64>() >= 3_000, "not less than was asked");
    drop(log);
    let log = start();
    let mut client = Client::connect(log.local_addr());
    assert_eq!((client.list_offset("t", 0, -2).2, client.list_offset("t", 0, -1).2), (first, 1_000));
}

#[test]
fn retention_by_time_takes_even_the_last_segment_and_keeps_the_offset() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let mut settings = settings(dir.path());
        settings.retention_interval = Duration::from_millis(5);
        EmbeddedLog::start(settings).unwrap()
    };
    let log = start();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t", "young"]);
    let now = crate::clock::wall_ms();
    client.produce("t", 0, &Batch::counted(4).at(&[now - 4_000_000; 4]).bytes());
    client.produce("young", 0, &Batch::counted(4).at(&[now - 3_000_000; 4]).bytes());
    for topic in ["t", "young"] {
        assert_eq!(set(&mut client, topic, "retention.ms", Some("3600000")), 0);
    }
    eventually(|| client.list_offset("t", 0, -2).2 == 4);
    assert_eq!(client.list_offset("t", 0, -1).2, 4);
    assert_eq!(client.list_offset("t", 0, 0), (0, -1, -1));
    assert_eq!((client.fetch("t", 0, 3).error_code, client.fetch("t", 0, 4).error_code), (1, 0));
    drop(log);
    let log = start();
    let mut client = Client::connect(log.local_addr());
    assert_eq!((client.list_offset("t", 0, -2).2, client.list_offset("t", 0, -1).2), (4, 4));
    assert_eq!(client.produce("t", 0, &Batch::counted(1).at(&[now]).bytes()).base_offset, 4);
    assert_eq!(client.read_all("t", 0, 4).len(), 1);
    assert_eq!(client.read_all("young", 0, 0).len(), 4);
}

#[test]
fn producers_are_described() {
    let (log, dir) = log();
    let mut client = Client::connect(log.local_addr());
    client.metadata(&["t"]);
    client.produce("t", 0, &Batch::counted(1).bytes());
    client.produce("t", 0, &Batch::counted(3).by(8, 2, 0).at(&[50, 70, 60]).bytes());
    client.produce("t", 0, &Batch::counted(2).by(5, 0, 0).at(&[80, 90]).bytes());
    client.produce("t", 0, &Batch::counted(2).by(5, 0, 2).at(&[91, 85]).bytes());
    let topic = |of| TopicRequest::default().with_name(name(of)).with_partition_indexes(vec![0, 1]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic("t"), topic("nope")]);
    let check = |client: &mut Client| {
        let response = client.call(&request, 0);
        let known = &response.topics[0].partitions;
        let told = |producer: &describe_producers_response::ProducerState| {
            let open = (producer.coordinator_epoch, producer.current_txn_start_offset);
            assert_eq!(open, (-1, -1));
            (*producer.producer_id, producer.producer_epoch, producer.last_sequence, producer.last_timestamp)
        };
        assert_eq!(known[0].active_producers.iter().map(told).collect::<Vec<_>>(), [(5, 0, 3, 91), (8, 2, 2, 70)]);
        let codes = [known[1].error_code, response.topics[1].partitions[0].error_code];
        assert_eq!((known[0].error_code, codes), (0, [3, 3]));
    };
    check(&mut client);
    drop(log);
    let log = EmbeddedLog::start(settings(dir.path())).unwrap();
    check(&mut Client::connect(log.local_addr()));
}

#[test]
fn the_cluster_is_described() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    let id = client.metadata(&[]).cluster_id;
    for version in 0..=2 {
        let request = DescribeClusterRequest::default().with_endpoint_type(1);
        let response = client.call(&request, version);
        assert_eq!((response.error_code, Some(&response.cluster_id)), (0, id.as_ref()), "version {version}");
        assert_eq!(response.brokers[0].port, i32::from(log.local_addr().port()));
        assert_eq!(response.brokers[0].broker_id, response.controller_id);
    }
    assert_eq!(client.call(&DescribeClusterRequest::default().with_endpoint_type(2), 1).error_code, 114);
}

/// Names that no file of the log can have are refused at once: an error of the disk would be retried forever.
#[test]
fn finding_s14_topic_names_that_no_file_can_have_are_invalid() {
    let (log, _dir) = log();
    let mut client = Client::connect(log.local_addr());
    for length in [1, 100, 228, 229, 245, 246, 247, 248, 249, 250] {
        let name = "x".repeat(length);
        let error = client.metadata(&[&name]).topics[0].error_code;
        assert_eq!(error, if length <= 246 { 0 } else { 17 }, "{length}");
    }
    let name = "x".repeat(246);
    assert_eq!(client.produce(&name, 0, &Batch::counted(1).bytes()).error_code, 0);
}
