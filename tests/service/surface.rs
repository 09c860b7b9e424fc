//! What an operator sees: health, readiness, metrics, logs.

use forebay::mqtt::packet::{PacketType, QoS, Version};
use kafka_protocol::messages::DescribeConfigsRequest;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;

use std::io::Write as _;
use std::process::Stdio;

use crate::device::{Device, Heard, puback};
use crate::kafka_client::Client;
use crate::process::{ledger, metric, until, until_metric};
use crate::support::service::{Service, config, sum};
use crate::support::tool;

#[test]
fn pages_of_the_control_plane() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"));
    let status = |path: &str| service.get(path).expect("an answer").0;
    assert_eq!([status("/healthz"), status("/readyz"), status("/metrics"), status("/")], [200; 4]);
    assert_eq!(status("/no-such-page"), 404);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=10).for_each(|n| device.deliver(n, "t", b"x"));
    let page = service.get("/metrics").expect("metrics").1;
    for line in [
        "forebay_sink_records_in_total{shard=\"0\",sink=\"all\",source=\"publish\"} 10",
        "forebay_sink_records_out_total{shard=\"0\",sink=\"all\",result=\"delivered\"} 10",
        "forebay_publishes_received_total{shard=\"0\",qos=\"1\"} 10",
        "forebay_connections{shard=\"0\"} 1",
        "forebay_kafka_reachable{shard=\"0\",kafka=\"embedded\"} 1",
    ] {
        assert!(page.lines().any(|other| other == line), "{line}\n{page}");
    }
    assert_eq!(ledger(&service), [10, 10, 0, 0]);
}

/// What a device waited for is in the histograms: each message of a device that sends one at a time, each request, each batch.
#[test]
fn histograms_show_what_publishers_and_kafka_took() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=10).for_each(|n| device.deliver(n, "t", b"x"));
    assert_eq!(metric(&service, "publish_ack_seconds_count{acknowledge=\"replicated\"}"), 10);
    assert_eq!(metric(&service, "publish_ack_seconds_count"), 10, "and no other level");
    let took = service.metric("forebay_publish_ack_seconds_sum").expect("a sum");
    assert!(took > 0.0 && took < 600.0, "{took}");
    let requests = metric(&service, "kafka_produce_requests_total");
    assert!(requests > 0);
    assert_eq!(metric(&service, "kafka_produce_seconds_count"), requests);
    assert!(service.metric("forebay_kafka_produce_seconds_sum").is_some_and(|took| took > 0.0));
    let batches = metric(&service, "sink_batches_total");
    assert_eq!(metric(&service, "kafka_batch_records_count"), batches);
    assert_eq!(metric(&service, "kafka_batch_records_sum"), 10);
    assert_eq!(metric(&service, "kafka_batch_bytes_sum"), metric(&service, "sink_batched_bytes_total"));
}

/// With a spool: its syncs and groups.
#[test]
fn histograms_show_what_the_spool_took() {
    let spooled = "[spool]\nbytes_max = \"128MiB\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
    let service = Service::start(&config(spooled));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=10).for_each(|n| device.deliver(n, "t", b"x"));
    assert_eq!(metric(&service, "publish_ack_seconds_count{acknowledge=\"stored\"}"), 10);
    assert!(metric(&service, "spool_sync_seconds_count") >= 10, "each was answered behind a sync of its own");
    assert!(service.metric("forebay_spool_sync_seconds_sum").is_some_and(|took| took > 0.0));
    // A histogram may be a turn ahead of the other numbers, while what Kafka has said is still written down.
    until("both to have counted the same bytes", || {
        let page = service.get("/metrics").expect("metrics").1;
        let number = |name| sum(&page, name).expect("a number");
        number("forebay_spool_group_bytes_sum") == number("forebay_spool_written_bytes_total")
    });
}

#[test]
fn packets_and_bytes_are_counted_both_ways() {
    let service = Service::start(&config(""));
    let mut device = Device::connect(service.mqtt(), Version::V311, "device");
    assert_eq!(device.subscribe(&[("t", QoS::ExactlyOnce)]), [2]);
    device.ping();
    device.publish(QoS::AtLeastOnce, 1, "t", b"x");
    let heard = device.hear_all(2);
    assert!(heard.iter().any(|heard| matches!(heard, Heard::Message(1, ..))), "{heard:?}");
    device.acknowledge(PacketType::PubAck, 1);
    device.leave();
    until_metric(&service, "control_packets_received_total{type=\"disconnect\"}", 1);
    for kind in ["subscribe", "pingreq", "puback"] {
        assert_eq!(metric(&service, &format!("control_packets_received_total{{type=\"{kind}\"}}")), 1, "{kind}");
    }
    // CONNACK, SUBACK, PINGRESP, PUBACK, and the message: 2 bytes, its topic with 2 of length, 2 of packet identifier, 1 of payload.
    assert_eq!(metric(&service, "mqtt_sent_bytes_total"), 4 + 5 + 2 + 4 + 8);
}

/// Both formats; Prometheus' own tool finds nothing to say about either.
#[test]
fn metrics_are_what_prometheus_expects() {
    let service = Service::start(&config("[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n"));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "t", b"x");
    let (head, text) = service.get_with("/metrics", "Accept: text/plain").expect("metrics");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let (head, open) = service.get_with("/metrics", "Accept: application/openmetrics-text").expect("metrics");
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(!text.contains("# EOF") && open.ends_with("# EOF\n"));
    for page in [&text, &open] {
        let of = |word: &str| -> Vec<String> {
            let lines = page.lines().filter(|line| line.starts_with(word));
            lines.filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect()
        };
        let (helps, mut types) = (of("# HELP "), of("# TYPE "));
        assert_eq!(helps, types, "each family has help and type");
        let count = types.len();
        types.sort();
        types.dedup();
        assert_eq!(types.len(), count, "each family once");
    }
    let mut child = tool("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: scripts/test install");
    child.stdin.take().expect("its input").write_all(text.as_bytes()).expect("written");
    let said = child.wait_with_output().expect("its end");
    let said = (
        said.status.success(),
        String::from_utf8_lossy(&said.stdout).into_owned(),
        String::from_utf8_lossy(&said.stderr).into_owned(),
    );
    assert_eq!(said, (true, String::new(), String::new()));
}

#[test]
fn logs_as_json_are_json_line_by_line_and_not_a_line_for_a_message() {
    let mut service = Service::start(&config("[log]\nformat = \"json\"\n"));
    let before = service.log().lines().count();
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=500).for_each(|n| device.publish(QoS::AtLeastOnce, n, "t", b"x"));
    assert_eq!(device.hear_all(500), (1..=500).map(puback).collect::<Vec<_>>());
    assert!(
        metric(&service, "publishes_received_total{qos=\"1\"}") == 500 && service.log().lines().count() < before + 20
    );
    assert!(service.terminate().success());
    let log = service.log();
    let objects: Vec<serde_json::Value> = log
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert!(objects.iter().all(|object| ["timestamp", "level", "message"].iter().all(|key| object[key].is_string())));
    let drained = objects.iter().find(|object| object["event"] == "shard_drained").expect("it says how it ended");
    assert_eq!((&drained["shard"], &drained["records_left"]), (&0.into(), &0.into()));
}

#[test]
fn the_greeting_says_what_to_type_next_and_it_works() {
    let service = Service::start(&config(""));
    let log = service.log();
    let (mqtt, kafka) = (service.mqtt(), service.embedded());
    for line in [
        format!("  mosquitto_pub -h {} -p {} -q 1 -t hello -m world", mqtt.ip(), mqtt.port()),
        format!("  kcat -b {kafka} -C -t mqtt-messages -o beginning -e -f '%k: %s\\n'"),
    ] {
        assert!(log.lines().any(|other| other == line), "{line}\n{log}");
    }
    let mut device = Device::connect(mqtt, Version::V311, "device");
    device.deliver(1, "hello", b"world");
    let records = crate::records::read(kafka, "mqtt-messages");
    assert_eq!((records[0].key.as_str(), records[0].text()), ("hello", "world"));
}

/// What `[embedded]` says of retention is what Kafka's tools are told, and old segments go by it.
#[test]
fn the_embedded_log_keeps_what_its_configuration_says() {
    let service = Service::start(&config(
        "retention = \"1h\"\nretention_bytes = \"1MiB\"\nretention_interval = \"100ms\"\nsegment_bytes = \"1MiB\"\n\
         partitions = 1\nauto_create_topics = true\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    (1..=100).for_each(|n| device.deliver(n, "t", &[b'x'; 50_000]));
    let mut kafka = Client::connect(service.embedded());
    until("the oldest segments to go", || kafka.list_offset("all", 0, -2).2 >= 50);
    assert_eq!(kafka.list_offset("all", 0, -1).2, 100, "and the newest stay");
    let asked = DescribeConfigsResource::default()
        .with_configuration_keys(None)
        .with_resource_type(2)
        .with_resource_name("all".to_owned().into());
    let answer = kafka.call(&DescribeConfigsRequest::default().with_resources(vec![asked]), 1);
    let value = |name: &str| {
        let entry = answer.results[0].configs.iter().find(|entry| &*entry.name == name);
        entry.and_then(|entry| entry.value.as_ref()).map(|value| value.to_string())
    };
    for (name, expected) in [("retention.ms", "3600000"), ("retention.bytes", "1048576"), ("segment.bytes", "1048576")]
    {
        assert_eq!(value(name).as_deref(), Some(expected), "{name}");
    }
}

#[test]
fn the_embedded_log_makes_no_topic_where_it_may_not() {
    let service = Service::start(&config(
        "auto_create_topics = false\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n",
    ));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.publish(QoS::AtLeastOnce, 1, "t", b"held");
    device.ping();
    assert_eq!(Client::connect(service.embedded()).metadata(&["all"]).topics[0].error_code, 3);
    assert_eq!(ledger(&service), [1, 0, 0, 1]);
}
