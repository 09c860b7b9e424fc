//! What Kafka can do to us, done by an embedded log with a script, to the whole service over real sockets. After every
//! fault: nothing that was acknowledged is missing, nothing of QoS 2 is there twice, order is kept, and the service went
//! on by itself. `docs/internals/KAFKA.md` has the table of these.

use std::time::{Duration, Instant};

use forebay::embedded::faults::{Fault, Script, Step};
use forebay::embedded::{EmbeddedLog, Settings};
use forebay::mqtt::packet::{PacketType, QoS, Version};
use kafka_protocol::messages::{ApiKey, CreateTopicsRequest};

use crate::device::{Device, Heard, puback};
use crate::kafka_client::{Client, name};
use crate::process::{ledger, metric, until, until_metric};
use crate::records::read;
use crate::support;
use crate::support::service::{Service, config_with};

/// A service whose Kafka does what the script says.
pub(crate) struct Bench {
    pub(crate) script: Script,
    pub(crate) service: Service,
    pub(crate) log: EmbeddedLog,
    sent: Vec<String>,
    _dir: tempfile::TempDir,
}

impl Bench {
    /// One shard, one sink from `#` to topic `all` with these further keys; a log changed like this.
    pub(crate) fn start(sink: &str, change: impl FnOnce(&mut Settings)) -> Self {
        Self::with_script(&Script::new(), sink, change)
    }

    /// The same, with a script that begins before the service does.
    pub(crate) fn with_script(script: &Script, sink: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = support::temp_dir();
        let mut settings = Settings::new(([127, 0, 0, 1], 0).into(), dir.path());
        settings.faults = Some(script.clone());
        change(&mut settings);
        let log = EmbeddedLog::start(settings).expect("a log");
        let topic = if sink.contains("topic =") { "" } else { "topic = \"all\"\n" };
        let service = Service::start(&config_with(
            "shards = 1",
            &format!(
                "[kafka.main]\nbootstrap = \"{}\"\nrequest_timeout = \"1s\"\nconnect_timeout = \"500ms\"\n\
                 reconnect_backoff_min = \"1ms\"\nreconnect_backoff_max = \"10ms\"\n\
                 [[sink]]\nname = \"all\"\nfilters = [\"#\"]\n{topic}{sink}",
                log.local_addr()
            ),
        ));
        Self { script: script.clone(), service, log, sent: Vec::new(), _dir: dir }
    }

    pub(crate) fn device(&self) -> Device {
        Device::connect(self.service.mqtt(), Version::V5, "device")
    }

    /// Two messages of QoS 1 and one of QoS 2 at once, and all their answers: success, in order.
    pub(crate) fn deliver(&mut self, device: &mut Device, what: &str) {
        for (id, qos) in [(1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce), (3, QoS::AtLeastOnce)] {
            let text = format!("{what} {id}");
            device.publish(qos, id, "t", text.as_bytes());
            self.sent.push(text);
        }
        let answers = [puback(1), Heard::Answer(PacketType::PubRec, 2, 0), puback(3)];
        assert_eq!(device.hear_all(3), answers, "{what}");
        device.release(2);
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubComp, 2, 0), "{what}");
    }

    /// What was delivered is in the topic, each once, in the order of sending; and nothing else is.
    pub(crate) fn check(&self, topic: &str) {
        let records = read(self.log.local_addr(), topic);
        let texts: Vec<_> = records.iter().map(|record| record.text().to_owned()).collect();
        assert_eq!(texts, self.sent);
        let [matched, delivered, refused, buffered] = ledger(&self.service);
        assert_eq!((matched, delivered, refused, buffered), (matched, self.sent.len() as u64, refused, 0));
    }

    pub(crate) fn on_produce(&self, fault: Fault) {
        self.script.add(Step::new(ApiKey::Produce, fault));
    }

    pub(crate) fn metric(&self, name: &str) -> u64 {
        metric(&self.service, name)
    }
}

#[test]
fn what_passes_is_held_and_sent_again() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    // Before the append: CORRUPT_MESSAGE, UNKNOWN_TOPIC_OR_PARTITION, LEADER_NOT_AVAILABLE, NOT_LEADER_OR_FOLLOWER,
    // NOT_ENOUGH_REPLICAS, KAFKA_STORAGE_ERROR, FENCED_LEADER_EPOCH, THROTTLING_QUOTA_EXCEEDED, an unknown code.
    let before = [2, 3, 5, 6, 19, 56, 74, 89, -1];
    // And after it: REQUEST_TIMED_OUT, NOT_ENOUGH_REPLICAS_AFTER_APPEND, a partition that moves while it waits.
    let after = [7, 20, 6];
    let faults = before.map(Fault::Error).into_iter().chain(after.map(Fault::ErrorAfter));
    for (round, fault) in (1..).zip(faults) {
        bench.script.add(Step::new(ApiKey::Produce, fault.clone()).times(2));
        bench.deliver(&mut device, &format!("{fault:?}"));
        assert_eq!(bench.script.left(), 0);
        assert!(bench.metric("sink_batches_failed_total{reason=\"kafka_error\"}") >= 2 * round, "{fault:?}");
    }
    bench.check("all");
    assert_eq!(bench.metric("sink_possible_duplicates_total"), 0, "Kafka knows what it has");
    assert_eq!(bench.metric("sink_producer_epoch_bumps_total"), 0, "the identity stays");
}

#[test]
fn a_producer_that_kafka_fences_or_forgets_asks_and_goes_on() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    bench.deliver(&mut device, "so that Kafka knows the producer");
    for (asked, code) in (1..).zip([47, 59, 90]) {
        bench.on_produce(Fault::Error(code));
        bench.deliver(&mut device, &format!("code {code}"));
        until(&format!("{code}: it asks"), || bench.metric("sink_log_queries_total") >= asked);
    }
    assert_eq!(bench.metric("sink_producer_epoch_bumps_total"), 0, "the log says that the identity is the next");
    // Refused in spite of what the log says, again and again.
    (0..5).for_each(|_| bench.on_produce(Fault::Error(47)));
    bench.deliver(&mut device, "at last");
    until("another epoch", || bench.metric("sink_producer_epoch_bumps_total") >= 1);
    assert_eq!(bench.metric("sink_possible_duplicates_total"), 0, "the log has told");
    bench.check("all");
}

#[test]
fn an_unexpected_sequence_is_settled() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    for _ in 0..3 {
        bench.on_produce(Fault::Error(45));
        bench.deliver(&mut device, "45");
    }
    bench.check("all");
    assert!(bench.metric("sink_batches_failed_total{reason=\"kafka_error\"}") >= 3);
}

/// The topic takes less than the sink believes: batches are taken apart until single records are left, and only the
/// one that is too large by itself is refused.
#[test]
fn a_batch_too_large_is_split_and_only_a_record_too_large_refused() {
    let mut bench = Bench::start("linger = \"20ms\"\ndead_letters_file = \"none\"\n", |settings| {
        settings.message_bytes_max = 4 << 10;
    });
    let mut device = bench.device();
    for id in 1..=40_u16 {
        let text = if id == 17 { "x".repeat(5_000) } else { format!("{id:02}{}", "y".repeat(500)) };
        device.publish(QoS::AtLeastOnce, id, "t", text.as_bytes());
        if id != 17 {
            bench.sent.push(text);
        }
    }
    let answers: Vec<_> =
        (1..=40).map(|id| Heard::Answer(PacketType::PubAck, id, if id == 17 { 0x80 } else { 0 })).collect();
    assert_eq!(device.hear_all(40), answers);
    assert_eq!((bench.metric("sink_records_out_total{result=\"refused\"}"), ledger(&bench.service)[0]), (1, 40));
    assert!(bench.metric("sink_batch_splits_total") > 0);
    bench.check("all");
}

/// What Kafka refuses for good: the publisher is told with the answer, and the next at the door; in 3.1.1 the
/// connection is closed. Other topics go on.
#[test]
fn a_topic_that_is_forbidden_or_invalid_refuses_its_own() {
    for (code, at_the_door) in [(29, 0x87), (17, 0x90)] {
        for api in [ApiKey::Produce, ApiKey::Metadata] {
            let bench = Bench::start("topic = \"${topic[0]}\"\ndead_letters_file = \"none\"\n", |_| {});
            bench.script.add(Step::new(api, Fault::Error(code)).of_topic("no").always());
            let mut device = bench.device();
            device.publish(QoS::AtLeastOnce, 1, "no/x", b"refused");
            assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 1, 0x80), "{code} {api:?}");
            device.publish(QoS::AtLeastOnce, 2, "no/x", b"refused");
            assert_eq!(device.hear(), Heard::Answer(PacketType::PubAck, 2, at_the_door), "{code} {api:?}");
            device.deliver(3, "yes/x", b"taken");
            let mut old = Device::connect(bench.service.mqtt(), Version::V311, "old");
            old.publish(QoS::AtLeastOnce, 1, "no/x", b"refused");
            assert_eq!(old.hear(), Heard::Closed, "{code} {api:?}");
            assert_eq!(bench.metric("sink_records_out_total{result=\"refused\"}"), 1);
            assert_eq!(bench.metric("publishes_routed_total{result=\"refused\"}"), 2);
            assert_eq!(read(bench.log.local_addr(), "yes").len(), 1);
            assert_eq!(ledger(&bench.service)[3], 0);
        }
    }
}

#[test]
fn a_topic_that_is_not_there_holds_its_own_until_somebody_makes_it() {
    let bench = Bench::start("topic = \"${topic[0]}\"\n", |settings| settings.auto_create_topics = false);
    let make = |topic: &str| {
        let wanted = kafka_protocol::messages::create_topics_request::CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(2)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default().with_topics(vec![wanted]).with_timeout_ms(10_000);
        let answer = Client::connect(bench.log.local_addr()).call(&request, 7);
        assert_eq!(answer.topics[0].error_code, 0);
    };
    make("there");
    let mut held = bench.device();
    held.publish(QoS::AtLeastOnce, 1, "missing/x", b"first");
    held.publish(QoS::ExactlyOnce, 2, "missing/x", b"second");
    held.ping();
    let mut other = Device::connect(bench.service.mqtt(), Version::V311, "other");
    (1..=20).for_each(|id| other.deliver(id, "there/x", b"x"));
    until("the missing topic to be asked for again", || bench.script.seen(ApiKey::Metadata) > 5);
    assert_eq!(ledger(&bench.service), [22, 20, 0, 2]);
    make("missing");
    assert_eq!(held.hear_all(2), [puback(1), Heard::Answer(PacketType::PubRec, 2, 0)]);
    let texts: Vec<_> = read(bench.log.local_addr(), "missing").iter().map(|r| r.text().to_owned()).collect();
    assert_eq!(texts, ["first", "second"]);
}

#[test]
fn a_topic_that_is_not_there_is_made_by_being_used() {
    let mut bench = Bench::start("", |_| {});
    // Kafka's first word for a topic that it is making.
    for code in [5, 3] {
        bench.script.add(Step::new(ApiKey::Metadata, Fault::Error(code)).of_topic("all").times(2));
    }
    bench.deliver(&mut bench.device(), "made");
    assert_eq!(bench.script.left(), 0);
    bench.check("all");
}

#[test]
fn a_partition_without_a_leader_is_waited_for() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    bench.script.add(Step::new(ApiKey::Metadata, Fault::NoLeader).of_topic("all").times(5));
    bench.deliver(&mut device, "elected");
    assert_eq!(bench.script.left(), 0);
    // It moves: asked for again at once, and there is none for a while.
    bench.on_produce(Fault::Error(6));
    bench.script.add(Step::new(ApiKey::Metadata, Fault::NoLeader).of_topic("all").times(3));
    bench.deliver(&mut device, "moved");
    bench.check("all");
}

/// KIP-219: the broker answers, and wishes to be left alone.
#[test]
fn throttling_and_quotas_are_kept_to() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    bench.deliver(&mut device, "before");
    for api in [ApiKey::Produce, ApiKey::Metadata] {
        bench.script.add(Step::new(api, Fault::Throttle(400)));
        device.deliver(1, "t", b"throttled");
        bench.sent.push("throttled".to_owned());
        if api == ApiKey::Produce {
            let since = Instant::now();
            bench.deliver(&mut device, "after");
            // The answer took a moment to come here; the broker's clock runs from before.
            assert!(since.elapsed() > Duration::from_millis(250), "{:?}", since.elapsed());
            assert_eq!(bench.metric("kafka_throttled_responses_total"), 1);
            bench.on_produce(Fault::Error(6));
        }
    }
    bench.check("all");
    until_metric(&bench.service, "kafka_throttled_responses_total", 2);
}

/// Answers that are not what they should be: their connection is closed, they count for nothing, and what was asked
/// is asked again on another.
#[test]
fn answers_that_lie_close_their_connection() {
    let lies = [
        Fault::Correlation(1),
        Fault::Correlation(-1),
        Fault::Length(-1),
        Fault::Length(i32::MIN),
        Fault::Length(0),
        Fault::Length(3),
        Fault::Length(i32::MAX),
        Fault::Garbage(Vec::new()),
        Fault::Garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        Fault::Garbage(vec![0xFF; 64]),
        Fault::Garbage(vec![0; 1]),
    ];
    // One kind after the other: Metadata and InitProducerId share a connection.
    for api in [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId] {
        let script = Script::new();
        lies.iter().for_each(|lie| script.add(Step::new(api, lie.clone())));
        let mut bench = Bench::with_script(&script, "", |_| {});
        bench.deliver(&mut bench.device(), "at the start");
        assert_eq!(bench.script.left(), 0, "{api:?}");
        // Two questions may stand on a connection, and the second answer is nobody's then.
        assert!(bench.metric("kafka_malformed_responses_total") >= lies.len() as u64 / 2, "{api:?}");
        bench.check("all");
    }
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    for (round, lie) in (1..).zip(&lies) {
        bench.on_produce(lie.clone());
        bench.deliver(&mut device, &format!("{lie:?}"));
        assert_eq!(bench.metric("kafka_malformed_responses_total"), round, "{lie:?}");
    }
    // Two requests may have stood on the connection.
    assert!(bench.metric("sink_batches_failed_total{reason=\"no_response\"}") >= lies.len() as u64);
    bench.check("all");
}

/// An answer that never comes, or of which a part never comes: after `request_timeout` the connection is replaced.
#[test]
fn a_broker_that_never_answers_is_given_its_time() {
    let script = Script::new();
    for api in [ApiKey::ApiVersions, ApiKey::Metadata, ApiKey::InitProducerId] {
        script.add(Step::new(api, Fault::Silence));
    }
    let mut bench = Bench::with_script(&script, "", |_| {});
    let mut device = bench.device();
    bench.deliver(&mut device, "at the start");
    for fault in [Fault::Silence, Fault::Length(10_000)] {
        bench.on_produce(fault.clone());
        bench.deliver(&mut device, &format!("{fault:?}"));
    }
    assert_eq!(bench.script.left(), 0);
    assert!(bench.metric("kafka_connection_failures_total") >= 5);
    assert!(bench.metric("sink_batches_failed_total{reason=\"no_response\"}") >= 2);
    bench.check("all");
}

/// A request of a connection that was given up is carried out after its repetition on the next.
#[test]
fn a_request_carried_out_late_changes_nothing() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    bench.deliver(&mut device, "before");
    bench.on_produce(Fault::Late(Duration::from_secs(3)));
    bench.deliver(&mut device, "late");
    bench.on_produce(Fault::AnswerLate(Duration::from_secs(3)));
    bench.deliver(&mut device, "answered late");
    let wait = Instant::now();
    until("the late one to be carried out", || wait.elapsed() > Duration::from_secs(4));
    bench.deliver(&mut device, "after");
    bench.check("all");
}

/// Metadata that leads nowhere: refused, not to be found, or no way there. The devices wait; with true metadata all
/// goes on.
/// Finding K5: `advertised.listeners` that is wrong from here. The event, the sink and a metric name the broker and the address.
#[test]
fn finding_k5_a_wrong_advertised_address_is_named() {
    let bench = Bench::start("", |_| {});
    let mut device = bench.device();
    bench.script.add(Step::new(ApiKey::Metadata, Fault::Broker("127.0.0.1".to_owned(), 1)).always());
    bench.script.add(Step::new(ApiKey::Produce, Fault::Close).always());
    device.publish(QoS::AtLeastOnce, 1, "t", b"one");
    let events = |kind: &str| {
        let path = format!("/api/v1/events?kind={kind}");
        bench.service.get(&path).expect("events").1
    };
    until("the event", || events("kafka_broker_unreachable").contains("127.0.0.1:1"));
    let told = events("kafka_broker_unreachable");
    for part in ["\"kafka\":\"main\"", "\"node\":", "Connection refused", "advertised.listeners"] {
        assert!(told.replace("\": ", "\":").contains(part), "{part}: {told}");
    }
    let gauge = "kafka_broker_unreachable{kafka=\"main\",broker=\"127.0.0.1:1\"}";
    assert!(bench.service.get("/metrics").expect("metrics").1.contains(gauge));
    let sinks = || bench.service.get("/api/v1/sinks").expect("sinks").1;
    until("the sink to say so", || sinks().contains("broker 127.0.0.1:1 cannot be used: "));
    bench.script.clear();
    assert_eq!(device.hear(), puback(1));
    until("the end of it", || events("kafka_broker_reachable").contains("127.0.0.1:1"));
    assert!(!bench.service.get("/metrics").expect("metrics").1.contains("kafka_broker_unreachable{"));
}

/// Finding K3: a broker that ends each connection on which a request is larger than its `socket.request.max.bytes`.
#[test]
fn finding_k3_a_request_that_no_broker_takes_is_made_smaller() {
    let bench = Bench::start("linger = \"300ms\"\nbatch_bytes = \"1MiB\"\nmax_inflight = 5\n", |log| {
        log.request_bytes_max = 200_000
    });
    let mut device = bench.device();
    for id in 1..=400 {
        device.publish(QoS::AtLeastOnce, id, "t", format!("{id:0>2000}").as_bytes());
    }
    let mut answers = device.hear_all(400);
    answers.sort_by_key(|heard| format!("{heard:?}"));
    let mut expected: Vec<_> = (1..=400).map(puback).collect();
    expected.sort_by_key(|heard| format!("{heard:?}"));
    assert_eq!(answers, expected);
    let records = read(bench.log.local_addr(), "all");
    let numbers: Vec<u16> = records.iter().map(|record| record.text().parse().expect("a number")).collect();
    assert_eq!(numbers, (1..=400).collect::<Vec<_>>());
    let told = bench.service.get("/api/v1/events?kind=kafka_request_too_large").expect("events").1;
    assert!(told.contains("socket.request.max.bytes") && told.contains("\"bytes\""), "{told}");
    assert_eq!(metric(&bench.service, "sink_possible_duplicates_total"), 0);
}

#[test]
fn brokers_that_cannot_be_reached_are_tried_until_metadata_is_right() {
    let mut bench = Bench::start("", |_| {});
    let mut device = bench.device();
    for (host, port) in [("127.0.0.1", 1), ("no-such-host.invalid", 9_092), ("192.0.2.1", 9_092)] {
        bench.script.add(Step::new(ApiKey::Metadata, Fault::Broker(host.to_owned(), port)).always());
        // The connection that stands is lost, and another one too, should it be made before metadata has come.
        bench.script.add(Step::new(ApiKey::Produce, Fault::Close).always());
        device.publish(QoS::AtLeastOnce, 1, "t", host.as_bytes());
        bench.sent.push(host.to_owned());
        let seen = bench.script.seen(ApiKey::Metadata);
        until("metadata to be asked for again", || bench.script.seen(ApiKey::Metadata) >= seen + 5);
        device.ping();
        assert_eq!(ledger(&bench.service)[3], 1, "{host}: held");
        bench.script.clear();
        assert_eq!(device.hear(), puback(1), "{host}");
    }
    // A broker that is nowhere at all is not believed: the one that was known stands.
    bench.script.add(Step::new(ApiKey::Metadata, Fault::Broker(String::new(), 0)).always());
    bench.on_produce(Fault::Close);
    bench.deliver(&mut device, "known");
    bench.check("all");
}
