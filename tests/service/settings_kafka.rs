//! Keys of `[kafka.NAME]`, each by what Kafka, or the kernel, sees of it: a test fails if its key were ignored.

use std::time::{Duration, Instant};

use forebay::mqtt::packet::{QoS, Version};
use kafka_protocol::messages::ApiKey;

use crate::device::Device;
use crate::process::{metric, until, until_metric};
use crate::support;
use crate::support::service::{Service, config, program};
use crate::wire::{Does, Wire};

fn start(wire: &Wire, kafka: &str) -> Service {
    Service::start(&config(&wire.config(kafka, "")))
}

fn deliver(service: &Service) {
    Device::connect(service.mqtt(), Version::V5, "device").deliver(1, "t", b"x");
}

#[test]
fn client_id_is_in_every_request() {
    let wire = Wire::new();
    deliver(&start(&wire, "client_id = \"gateway-7\""));
    for api in [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId, ApiKey::Produce] {
        let asked = wire.asked(api);
        assert!(!asked.is_empty() && asked.iter().all(|asked| asked.client_id == "gateway-7"), "{asked:?}");
    }
}

/// Metadata of the topic itself: the question whether a broker answers names none.
#[test]
fn metadata_max_age_is_how_often_metadata_is_asked_for() {
    let wire = Wire::new();
    let service = start(&wire, "metadata_max_age = \"1s\"");
    deliver(&service);
    let of_topic = || wire.asked(ApiKey::Metadata).iter().filter(|asked| asked.topics == ["all"]).count();
    until("metadata of an idle topic to be asked for eight times", || of_topic() >= 8);
}

/// Finding E86: a topic that is not there is asked for again and again, and not more often than this.
#[test]
fn finding_e86_metadata_is_not_asked_for_again_below_its_least_age() {
    let wire = Wire::with(|log| log.auto_create_topics = false);
    let began = Instant::now();
    let service = start(&wire, "metadata_min_age = \"2s\"");
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.publish(QoS::AtLeastOnce, 1, "t", b"x");
    let of_topic = || wire.asked(ApiKey::Metadata).iter().filter(|asked| asked.topics == ["all"]).count();
    until("a missing topic to be asked for four times", || of_topic() >= 4);
    assert!(began.elapsed() >= Duration::from_secs(6), "{:?}", began.elapsed());
}

/// A broker that accepts and says nothing is left after this time, again and again.
#[test]
fn connect_timeout_is_how_long_a_silent_broker_is_waited_for() {
    let wire = Wire::new();
    wire.does(ApiKey::ApiVersions, Does::Nothing);
    let _service = start(&wire, "connect_timeout = \"200ms\"\nreconnect_backoff_max = \"50ms\"");
    until("many connections", || wire.connections() >= 25);
}

/// Finding E88: the time is that of the whole attempt. Each of the two answers that a connection for records needs comes in
/// time, both together do not.
#[test]
fn finding_e88_connect_timeout_is_for_all_steps_together() {
    let wire = Wire::new();
    let late = Does::AnswerAfter(Duration::from_millis(500));
    wire.does(ApiKey::ApiVersions, late);
    wire.does(ApiKey::Metadata, late);
    let service = start(&wire, "connect_timeout = \"800ms\"\nreconnect_backoff_max = \"50ms\"");
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.publish(QoS::AtLeastOnce, 1, "t", b"x");
    wire.until_asked(ApiKey::ApiVersions, 6);
    assert_eq!(wire.asked(ApiKey::Produce).len(), 0, "no connection for records came about");
    for api in [ApiKey::ApiVersions, ApiKey::Metadata] {
        wire.does(api, Does::Answer);
    }
    wire.until_asked(ApiKey::Produce, 1);
}

/// Five attempts have four waits between them, none below 0.8 s.
#[test]
fn reconnect_backoff_min_is_the_first_wait() {
    let wire = Wire::new();
    wire.does(ApiKey::ApiVersions, Does::Nothing);
    let began = Instant::now();
    let keys = "connect_timeout = \"100ms\"\nreconnect_backoff_min = \"2s\"\nreconnect_backoff_max = \"2s\"";
    let _service = start(&wire, keys);
    until("five connections", || wire.connections() >= 5);
    assert!(began.elapsed() >= Duration::from_millis(4 * 1_600), "{:?}", began.elapsed());
}

/// Without it the connections would be given 1, 2, 4, 8 and then 10 s.
#[test]
fn request_timeout_is_how_long_an_answer_is_waited_for() {
    let wire = Wire::new();
    let service = start(&wire, "request_timeout = \"1s\"");
    deliver(&service);
    wire.does(ApiKey::Produce, Does::Nothing);
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.publish(QoS::AtLeastOnce, 1, "t", b"x");
    wire.until_asked(ApiKey::Produce, 8);
}

/// What the kernel says of the service's connections to the wire: their timers, with what is left of them in seconds.
fn keep_alive_timers(wire: &Wire) -> Vec<Option<u64>> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a table");
    let port = format!(":{:04X}", wire.address().port());
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 5 && row[2].ends_with(&port) && row[3] == "01")
        .map(|row| {
            let (timer, left) = row[5].split_once(':').expect("a timer");
            (timer == "02").then(|| u64::from_str_radix(left, 16).expect("ticks") / 100)
        })
        .collect()
}

/// Finding E104: seconds until the first probe.
#[test]
fn finding_e104_tcp_keepalive_is_what_the_kernel_was_told() {
    for (key, range) in
        [("", Some(1..=60)), ("tcp_keepalive = \"240,30,5\"", Some(61..=240)), ("tcp_keepalive = \"none\"", None)]
    {
        let wire = Wire::new();
        let service = start(&wire, key);
        deliver(&service);
        // While something is unacknowledged the kernel has another timer.
        until("the timers", || {
            let timers = keep_alive_timers(&wire);
            let fits = |timer: &Option<u64>| match (&range, timer) {
                (Some(range), Some(left)) => range.contains(left),
                (None, None) => true,
                _ => false,
            };
            timers.len() >= 2 && timers.iter().all(fits)
        });
    }
}

/// Finding E103: Linux doubles what it is told.
#[test]
fn finding_e103_socket_buffers_are_what_the_kernel_was_told() {
    let wire = Wire::new();
    let service = start(&wire, "socket_send_buffer = \"50KiB\"\nsocket_receive_buffer = \"40KiB\"");
    deliver(&service);
    let port = format!("{}", wire.address().port());
    let said = support::run(support::tool("ss").args(["-tmnHO", "dport", "=", &format!(":{port}")]));
    let memory: Vec<_> = said.lines().filter(|line| line.starts_with("ESTAB")).collect();
    assert!(memory.len() >= 2, "{said}");
    assert!(memory.iter().all(|line| line.contains("rb81920,") && line.contains("tb102400,")), "{said}");
}

/// Findings E19, E30.
#[test]
fn finding_e19_descriptions_are_shown() {
    let wire = Wire::new();
    let sink = "description = \"All that comes in\"";
    let service = Service::start(&config(&wire.config("description = \"The plant's own\"", sink)));
    let (_, clusters) = service.get("/api/v1/clusters").expect("an answer");
    assert!(clusters.contains("\"description\":\"The plant's own\""), "{clusters}");
    let (_, sinks) = service.get("/api/v1/sinks").expect("an answer");
    assert!(sinks.contains("\"description\":\"All that comes in\""), "{sinks}");
    let said = support::run(program().args(["sinks", "--control", &service.control().to_string()]));
    assert!(said.contains("All that comes in"), "{said}");
}

/// Finding T25: properties of the connection and of the producer, by their names in Kafka; what a key says itself comes first.
#[test]
fn finding_t25_other_properties_set_what_they_mean() {
    let wire = Wire::new();
    let kafka = "other_properties = { \"client.id\" = \"by-property\", \"compression.type\" = \"gzip\", \"max.block.ms\" = \"1\" }";
    let second = "[[sink]]\nname = \"own\"\nfilters = \"own\"\ntopic = \"own\"\ncompression = \"none\"\n";
    let service = Service::start(&config(&format!("{}{second}", wire.config(kafka, ""))));
    let mut device = Device::connect(service.mqtt(), Version::V5, "device");
    device.deliver(1, "t", &[b'x'; 4_000]);
    device.deliver(2, "own", &[b'x'; 4_000]);
    let asked = wire.asked(ApiKey::Produce);
    assert!(asked.iter().all(|asked| asked.client_id == "by-property"), "{asked:?}");
    let codec = |topic: &str| wire.batches(topic)[0][22] & 7;
    assert_eq!((codec("all"), codec("own")), (1, 0));
    assert!(service.log().contains("max.block.ms"), "what changes nothing is named: {}", service.log());
}

/// Finding E105: a Kafka that stops answering while nothing is sent is noticed.
#[test]
fn finding_e105_a_broker_is_asked_whether_it_answers() {
    let wire = Wire::new();
    let service = start(&wire, "health_check_interval = \"1s\"");
    until_metric(&service, "kafka_reachable", 1);
    let checks = || wire.asked(ApiKey::Metadata).iter().filter(|asked| asked.topics.is_empty()).count();
    until("six checks", || checks() >= 6);
    for api in [ApiKey::ApiVersions, ApiKey::Metadata] {
        wire.does(api, Does::Nothing);
    }
    until("Kafka to be seen as unreachable", || metric(&service, "kafka_reachable") == 0);
}
