//! F8: a slow subscriber holds back the partitions that it gets messages from, and nothing else; and it loses nothing.

use std::collections::BTreeMap;

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use forebay::mqtt::property::Property;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{GroupId, OffsetFetchRequest};
use kafka_protocol::protocol::StrBytes;

use crate::device::{Device, Heard, hello, properties};
use crate::kafka_client::{Batch, Client, name};
use crate::process::{metric, until, until_metric};
use crate::support::service::{Service, config_with};

const PARTITIONS: i32 = 4;
const RECORDS: usize = 100;
const WINDOW: usize = 30;
const DROPPED: &str = "deliveries_total{result=\"queue_full\"}";

/// Two sources of four partitions each, and queues of ten messages.
fn start(rest: &str) -> Service {
    let source = |name: &str, window: usize| {
        format!(
            "[[source]]\nname = \"{name}\"\ntopic = \"{name}\"\nmqtt_topic = \"{name}/${{partition}}\"\npayload = \"${{value}}\"\n\
             offset_reset = \"earliest\"\ncommit_interval = \"100ms\"\nwindow_messages = {window}\n"
        )
    };
    let service = Service::start(&config_with(
        "shards = 2",
        &format!("{}{}{rest}[delivery]\nqueue_messages_max = 10\n", source("slow", WINDOW), source("quick", WINDOW)),
    ));
    for topic in ["slow", "quick"] {
        until("the topic to be there", || {
            Client::connect(service.embedded()).metadata(&[topic]).topics[0].error_code == 0
        });
        until_metric(&service, &format!("source_partitions{{source=\"{topic}\"}}"), 4);
    }
    service
}

/// Writes `0`, `1` and so on to each partition.
fn write(service: &Service, topic: &str) {
    let values: Vec<Vec<u8>> = (0..RECORDS).map(|number| number.to_string().into_bytes()).collect();
    let batch = Batch::of(&values.iter().map(Vec::as_slice).collect::<Vec<_>>()).bytes();
    for partition in 0..PARTITIONS {
        assert_eq!(Client::connect(service.embedded()).produce(topic, partition, &batch).error_code, 0);
    }
}

/// What the group of a source has committed in all partitions.
fn committed(service: &Service, source: &str) -> i64 {
    let topic = OffsetFetchRequestTopic::default().with_name(name(source));
    let topic = topic.with_partition_indexes((0..PARTITIONS).collect());
    let group = GroupId(StrBytes::from_string(format!("forebay-{source}")));
    let request = OffsetFetchRequest::default().with_group_id(group).with_topics(Some(vec![topic]));
    let answer = Client::connect(service.embedded()).call(&request, 2);
    answer.topics[0].partitions.iter().map(|partition| partition.committed_offset.max(0)).sum()
}

/// A subscriber that may be sent two messages before it acknowledges one.
fn subscriber(service: &Service, client_id: &str, is_kept: bool, filter: &str) -> Device {
    let mut terms = vec![Property::ReceiveMaximum(2)];
    terms.extend(is_kept.then_some(Property::SessionExpiryInterval(3_600)));
    let terms = properties(terms);
    let connect = Connect { clean_start: !is_kept, properties: terms.as_properties(), ..hello(Version::V5, client_id) };
    let mut device = Device::connect_as(service.mqtt(), &connect).0;
    assert_eq!(device.subscribe(&[(filter, QoS::AtLeastOnce)]), [1]);
    device
}

/// Reads and acknowledges all of a topic, each partition in its order.
fn read_all(device: &mut Device) {
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..RECORDS * PARTITIONS as usize {
        let Heard::Message(1, packet_id, topic, payload) = device.hear() else { panic!("no message") };
        let next = next.entry(topic).or_default();
        assert_eq!(String::from_utf8_lossy(&payload), next.to_string(), "in order, and none is missing");
        *next += 1;
        device.acknowledge(PacketType::PubAck, packet_id);
    }
    assert_eq!(next.len(), PARTITIONS as usize);
}

/// Whether the windows of all partitions of the slow source are full.
fn are_full(service: &Service) -> bool {
    let source = crate::change::get(service, "sources/slow");
    let is_full = |partition: &serde_json::Value| partition["state"] == "window_full";
    source["partitions"].as_array().is_some_and(|all| all.len() == PARTITIONS as usize && all.iter().all(is_full))
}

fn holds_back(rest: &str, is_kept: bool, filter: &str) {
    let service = start(rest);
    let mut slow = subscriber(&service, "slow", is_kept, filter);
    let mut quick = subscriber(&service, "quick", false, "quick/#");
    write(&service, "slow");
    // In the log of a kept session are as many as its queue may hold, and those that were sent. A window that was full and has fewer open since is still full.
    until("all windows to be full", || are_full(&service));
    let before = committed(&service, "slow");
    assert!(before <= if rest.contains("[spool]") { 12 } else { 0 }, "{before}");
    write(&service, "quick");
    read_all(&mut quick);
    until("the other source to go on", || committed(&service, "quick") == (RECORDS as i64) * i64::from(PARTITIONS));
    assert!(committed(&service, "slow") <= 12);
    assert_eq!(metric(&service, DROPPED), 0);
    until("all windows to be full still", || are_full(&service));
    read_all(&mut slow);
    until("all to be committed", || committed(&service, "slow") == (RECORDS as i64) * i64::from(PARTITIONS));
    assert_eq!((metric(&service, DROPPED), metric(&service, "source_messages_lost_total")), (0, 0));
}

#[test]
fn a_slow_subscriber_loses_nothing() {
    holds_back("", false, "slow/#");
    holds_back("", true, "slow/#");
}

/// The members of a shared subscription together.
#[test]
fn a_slow_shared_subscription_loses_nothing() {
    holds_back("", false, "$share/group/slow/#");
}

/// The log of a kept session holds as much as its queue may, and what is more holds back its partitions.
#[test]
fn a_slow_subscriber_with_a_kept_session_in_the_log_loses_nothing() {
    holds_back("[spool]\nbytes_max = \"256MiB\"\n", true, "slow/#");
}

/// What devices publish has the queue's bounds beside what sources hold for it, and a client that leaves has them for all.
#[test]
fn the_bounds_of_a_queue_are_for_what_devices_publish() {
    let service = start("");
    let mut slow = subscriber(&service, "slow", true, "slow/#");
    assert_eq!(slow.subscribe(&[("devices", QoS::AtLeastOnce)]), [1]);
    write(&service, "slow");
    let open = (WINDOW * PARTITIONS as usize) as u64;
    until("all windows to be full", || metric(&service, "source_open_messages{source=\"slow\"}") >= open);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    for number in 1..=15 {
        device.deliver(number, "devices", number.to_string().as_bytes());
    }
    until_metric(&service, DROPPED, 5);
    assert_eq!(committed(&service, "slow"), 0);
    slow.vanish();
    // Nobody holds the partitions back any more, and the queue keeps what it may.
    until("all to be committed", || committed(&service, "slow") == (RECORDS as i64) * i64::from(PARTITIONS));
    until("the queue to have its bounds", || metric(&service, "deliveries_queued") <= 12);
}
