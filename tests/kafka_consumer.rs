//! Consumer and wire client together against a real Kafka: what Java and librdkafka write, transactions, places in a log, leaders and topics
//! that change.

#[expect(dead_code, reason = "what other tests need of it")]
#[path = "support/kafka_driver.rs"]
mod kafka_driver;
mod support;

use std::io::Write;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::kafka::client::Settings as ClientSettings;
use forebay::kafka::consumer::{
    Assignment, Consumer, News, OnBadBatch, Place, Settings, Start, State, Want, WhyReset, WhyStopped,
};
use forebay::kafka::types::ClientEvent;
use kafka_driver::Driver;
use support::kafka::Kafka;

const PATIENCE: Duration = Duration::from_secs(90);

struct Pair {
    driver: Driver,
    consumer: Consumer,
    news: Vec<News>,
}

impl Pair {
    fn new(bootstrap: &str) -> Self {
        let bootstrap = bootstrap.split(',').map(str::to_owned).collect();
        let settings = ClientSettings { bootstrap, ..ClientSettings::default() };
        let consumer = Consumer::new(Settings { deleted_after: Duration::from_secs(2), ..Settings::default() }, 3);
        Self { driver: Driver::start(settings, u64::from(std::process::id())), consumer, news: Vec::new() }
    }

    fn turn(&mut self) {
        let now = self.driver.now();
        while let Some(want) = self.consumer.take_want() {
            match want {
                Want::Metadata(topic) => self.driver.client.watch_metadata(&topic, now),
                Want::Forget(topic) => self.driver.client.forget_topic(&topic),
                Want::Refresh => self.driver.client.refresh_metadata(now),
            }
        }
        while let Some(call) = self.consumer.take_request(now) {
            self.driver.client.fetch(call, now);
        }
        self.driver.turn(Duration::from_millis(10));
        let now = self.driver.now();
        for event in self.driver.events.drain(..) {
            match event {
                ClientEvent::Cluster(id) => self.consumer.on_cluster(&id),
                ClientEvent::Metadata(topics) => self.consumer.on_metadata(&topics, now),
                ClientEvent::Fetch { id, result } => self.consumer.on_answer(id, result, now),
                ClientEvent::BrokerUnreachable(_) | ClientEvent::Outward(_) => {}
                other => panic!("{other:?}"),
            }
        }
        self.news.extend(std::iter::from_fn(|| self.consumer.take_news()));
    }

    /// Reads so many records, with offset, value and number of headers; then none more may come for a second.
    fn read(&mut self, count: usize) -> Vec<(i64, String, usize)> {
        let mut got = Vec::new();
        let (start, mut over_at) = (Instant::now(), None);
        loop {
            while let Some(record) = self.consumer.peek() {
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                got.push((record.offset, value, record.headers.clone().count()));
                self.consumer.advance();
            }
            if got.len() >= count
                && Instant::now() > *over_at.get_or_insert_with(|| Instant::now() + Duration::from_secs(1))
            {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{} of {count}; {:?}", got.len(), self.news);
            self.turn();
        }
        assert_eq!(got.len(), count);
        got
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < PATIENCE, "{what}; {:?}", self.news);
            self.turn();
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn fresh_topic(what: &str) -> String {
    format!("consumer-{what}-{}-{}", std::process::id(), now_ms())
}

fn assignment(topic: &str) -> Assignment {
    Assignment {
        topic: Rc::from(topic),
        partition: 0,
        start: Start::At(Place::Earliest),
        bytes: 1 << 20,
        reset: Place::Earliest,
        committed: true,
        on_bad_batch: OnBadBatch::Stop,
    }
}

fn written(bootstrap: &str, topic: &str, what: &[&str]) {
    support::run(support::plain_python("written.py").args([bootstrap, topic]).args(what));
}

/// Whether the Kafka of the test has one of these major versions.
fn is_version(majors: &[char]) -> bool {
    std::env::var("KAFKA_VERSION").is_ok_and(|version| version.starts_with(majors))
}

fn java_writes(topic: &str, codec: &str, lines: &[String]) {
    // Kafka 4 has its tools elsewhere than those before it.
    let is_old = is_version(&['2', '3']);
    let class = if is_old { "kafka.tools.ConsoleProducer" } else { "org.apache.kafka.tools.ConsoleProducer" };
    let mut producer = std::process::Command::new(support::root().join("scripts/kafka"));
    producer.args(["tool", class, "--topic", topic, "--compression-codec", codec]);
    producer.args(["--bootstrap-server", &support::kafka::shared(), "--batch-size", "100000", "--timeout", "500"]);
    let mut child = producer.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a console producer");
    let mut stdin = child.stdin.take().expect("its input");
    lines.iter().for_each(|line| writeln!(stdin, "{line}").expect("it reads"));
    drop(stdin);
    assert!(child.wait().expect("its end").success());
}

#[test]
fn every_codec_of_java_and_librdkafka_is_read() {
    let topic = fresh_topic("codecs");
    written(&support::kafka::shared(), &topic, &["create", "1"]);
    let mut expected = Vec::new();
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let lines: Vec<String> = (0..1000).map(|n| format!("java {codec} {n} {}", "and so on ".repeat(10))).collect();
        java_writes(&topic, codec, &lines);
        expected.extend(lines.into_iter().map(|line| (line, 0)));
    }
    written(&support::kafka::shared(), &topic, &["codecs"]);
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        expected.extend((0..500).map(|n| (format!("{codec} {n} {}", "and so on ".repeat(20)), 1)));
    }
    let mut pair = Pair::new(&support::kafka::shared());
    assert!(pair.consumer.assign(1, assignment(&topic)));
    let got = pair.read(expected.len());
    for (n, ((offset, value, headers), (line, their_headers))) in got.iter().zip(&expected).enumerate() {
        assert_eq!((*offset, value, headers), (n as i64, line, their_headers));
    }
    assert_eq!((pair.consumer.lag(1), pair.consumer.memory()), (Some(0), 0));
    let stats = pair.consumer.stats();
    assert_eq!((stats.bad_batches, stats.refetches, stats.sessions_lost, stats.failures), (0, 0, 0, 0), "{stats:?}");
}

#[test]
fn only_committed_transactions_count_unless_all_do() {
    let topic = fresh_topic("transactions");
    written(&support::kafka::shared(), &topic, &["transactions"]);
    for committed in [true, false] {
        let mut pair = Pair::new(&support::kafka::shared());
        pair.consumer.assign(1, Assignment { committed, ..assignment(&topic) });
        let values: Vec<String> =
            pair.read(if committed { 6 } else { 12 }).into_iter().map(|(_, value, _)| value).collect();
        let expected = (0..12).map(|n| if n / 3 % 2 == 0 { format!("committed {n}") } else { format!("aborted {n}") });
        assert_eq!(values, expected.filter(|value| !committed || value.starts_with("committed")).collect::<Vec<_>>());
        assert_eq!(pair.consumer.lag(1), Some(0), "over the last control record");
    }
}

#[test]
fn places_of_a_real_log() {
    let (kafka, topic) = (support::kafka::shared(), fresh_topic("places"));
    written(&kafka, &topic, &["plain", "10"]);
    std::thread::sleep(Duration::from_millis(50));
    let between = now_ms();
    std::thread::sleep(Duration::from_millis(50));
    written(&kafka, &topic, &["plain", "5"]);
    written(&kafka, &topic, &["trim", "3"]);
    let first = |start: Start, count: usize| {
        let mut pair = Pair::new(&kafka);
        pair.consumer.assign(1, Assignment { start, ..assignment(&topic) });
        let got = pair.read(count);
        (got.first().map(|(offset, ..)| *offset), pair)
    };
    assert_eq!(first(Start::At(Place::Earliest), 12).0, Some(3));
    assert_eq!(first(Start::At(Place::Time(between)), 5).0, Some(10));
    assert_eq!(first(Start::Offset { offset: 14, leader_epoch: -1 }, 1).0, Some(14));
    assert_eq!(first(Start::At(Place::Time(now_ms() + 3_600_000)), 0).0, None);
    for offset in [1, 900] {
        let (at, pair) = first(Start::Offset { offset, leader_epoch: -1 }, 12);
        assert_eq!(at, Some(3));
        assert!(
            pair.news.contains(&News::Reset { id: 1, from: offset, to: 3, why: WhyReset::OutOfRange }),
            "{:?}",
            pair.news
        );
    }
    let (_, mut pair) = first(Start::At(Place::Latest), 0);
    assert!(pair.news.contains(&News::Started { id: 1, offset: 15, is_end: true }), "{:?}", pair.news);
    written(&kafka, &topic, &["plain", "2"]);
    assert_eq!(pair.read(2)[0].0, 15);
}

#[test]
fn a_leader_that_comes_back_and_a_topic_made_anew() {
    let kafka = Kafka::start(&[]);
    written(kafka.bootstrap(), "t", &["create", "1"]);
    let mut pair = Pair::new(kafka.bootstrap());
    pair.consumer.assign(1, assignment("t"));
    written(kafka.bootstrap(), "t", &["plain", "5"]);
    assert_eq!(pair.read(5).len(), 5);
    let before = pair.consumer.position(1).expect("a position");
    kafka.command(&["stop"]);
    kafka.command(&["start"]);
    written(kafka.bootstrap(), "t", &["plain", "5"]);
    assert_eq!(pair.read(5)[0].0, 5);
    let after = pair.consumer.position(1).expect("a position");
    // With a ZooKeeper it may lead on under the epoch that it had.
    let grows = !is_version(&['2']);
    assert!(after.leader_epoch >= before.leader_epoch + i32::from(grows), "{before:?} {after:?}");
    assert!(!pair.news.iter().any(|news| matches!(news, News::Reset { .. } | News::Stopped { .. })), "{:?}", pair.news);
    written(kafka.bootstrap(), "t", &["delete"]);
    pair.until("it is noticed", |pair| pair.consumer.state(1) == Some(State::Stopped(WhyStopped::Deleted)));
    written(kafka.bootstrap(), "t", &["create", "2"]);
    written(kafka.bootstrap(), "t", &["plain", "3"]);
    assert_eq!(pair.read(3)[0].0, 0);
    assert!(pair.news.contains(&News::Reset { id: 1, from: 10, to: 0, why: WhyReset::Recreated }), "{:?}", pair.news);
    assert!(pair.news.contains(&News::Partitions { topic: Rc::from("t"), count: 2 }), "{:?}", pair.news);
}
