//! Producer and wire client together against a real Kafka: a topic that is deleted under load and made anew with fewer
//! partitions.

#[expect(dead_code, reason = "what other tests need of it")]
#[path = "support/kafka_driver.rs"]
mod kafka_driver;
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use forebay::kafka::client::Settings as ClientSettings;
use forebay::kafka::producer::{Producer, Row, Settings, SinkSettings, Want};
use forebay::kafka::types::{ClientEvent, Outcome, SinkId, Ticket};
use forebay::outward::News;
use forebay::runtime::seam::WallMs;
use kafka_driver::Driver;
use support::kafka::Kafka;

const KEYS: u32 = 24;
const PATIENCE: Duration = Duration::from_secs(120);

struct Pair {
    driver: Driver,
    producer: Producer,
    appended: u32,
    /// How many rows were answered, and refused.
    answered: u32,
    refused: u32,
    topic: &'static str,
    /// How far its clock is ahead.
    ahead_ms: i64,
}

impl Pair {
    fn new(bootstrap: &str, topic: &'static str, ahead_ms: i64) -> Self {
        let bootstrap = bootstrap.split(',').map(str::to_owned).collect();
        let driver = Driver::start(ClientSettings { bootstrap, ..ClientSettings::default() }, 1);
        let sink = SinkSettings { linger: Duration::from_millis(2), batch_bytes: 4096, ..SinkSettings::default() };
        let producer = Producer::new(Settings { sinks: vec![sink], ..Settings::default() });
        Self { driver, producer, appended: 0, answered: 0, refused: 0, topic, ahead_ms }
    }

    fn append(&mut self) {
        let (key, value) = (format!("k{}", self.appended % KEYS), self.appended.to_string());
        let row = Row {
            key: Some(key.as_bytes()),
            value: Some(value.as_bytes()),
            headers: std::iter::empty(),
            timestamp: wall(self.ahead_ms),
        };
        if self.producer.has_room(1_000) {
            let ticket = Some(Ticket { session: 1, number: self.appended });
            self.producer.append(SinkId(0), self.topic, row, ticket, self.driver.now());
            self.appended += 1;
        }
    }

    fn turn(&mut self) {
        let (driver, producer) = (&mut self.driver, &mut self.producer);
        while let Some(event) = driver.events.pop_front() {
            let now = driver.now();
            match event {
                ClientEvent::Produced { id, results, throttle_ms } => {
                    producer.on_produced(id, &results, throttle_ms, now);
                }
                ClientEvent::HungUp { id } => producer.on_hung_up(id),
                ClientEvent::ProduceFailed { id, sent } => producer.on_failed(id, sent, now),
                ClientEvent::Cluster(id) => producer.on_cluster(&id, now),
                ClientEvent::Metadata(topics) => producer.on_metadata(&topics, now),
                ClientEvent::ProducerId { token, id, epoch } => producer.on_producer_id(token, id, epoch),
                ClientEvent::Asked { token, says } => producer.on_asked(token, says, now),
                ClientEvent::Outward(News::LoginRefused(login)) => panic!("{login:?}"),
                ClientEvent::Outward(News::TlsFailed(_, why)) => panic!("{why}"),
                ClientEvent::Fetch { .. } => panic!("nothing was fetched"),
                ClientEvent::BrokerUnreachable(_) | ClientEvent::Outward(News::BrokerReachable(_)) => {}
                ClientEvent::Member(_) => unreachable!("nobody asks for a group"),
                ClientEvent::Outward(News::Reachable(yes)) => producer.on_reachable(yes),
            }
        }
        let (now, mut requests) = (driver.now(), Vec::new());
        producer.poll(now, wall(self.ahead_ms), &mut requests);
        requests.into_iter().for_each(|request| driver.client.produce(request, now));
        let client = &mut driver.client;
        producer.drain_wants(|want| match want {
            Want::Metadata(topic) => client.want_metadata(&topic, now),
            Want::Forget(topic) => client.forget_topic(&topic),
            Want::ProducerId(token) => client.want_producer_id(token, now),
            Want::Ask(question) => client.ask(question, now),
            Want::Refresh => client.refresh_metadata(now),
        });
        let (answered, refused) = (&mut self.answered, &mut self.refused);
        producer.drain_completions(|run, outcome| match outcome {
            Outcome::Delivered => *answered += run.count,
            Outcome::Refused(_) | Outcome::DeadLettered => *refused += run.count,
        });
        let wait = producer.next_deadline().since(now).min(Duration::from_millis(5));
        driver.turn(wait);
    }
}

fn wall(ahead_ms: i64) -> WallMs {
    WallMs(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64) + ahead_ms)
}

#[test]
fn a_topic_deleted_under_load_and_made_anew_with_fewer_partitions() {
    let kafka = Kafka::start(&["--auto-create", "false"]);
    kafka.create_topic("anew", 6);
    let mut pair = Pair::new(kafka.bootstrap(), "anew", 0);
    let stage = AtomicU8::new(0);
    let mut after = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while stage.load(Ordering::SeqCst) == 0 {
                std::thread::sleep(Duration::from_millis(10));
            }
            kafka.command(&["topics", "delete", "anew"]);
            kafka.create_topic("anew", 2);
            stage.store(2, Ordering::SeqCst);
        });
        let end = Instant::now() + PATIENCE;
        // Rows all the while: before, during and after.
        while after == 0 || pair.appended < after + 2_000 {
            assert!(Instant::now() < end, "the topic never came back");
            (0..5).for_each(|_| pair.append());
            pair.turn();
            if stage.load(Ordering::SeqCst) == 0 && pair.answered > 2_000 {
                stage.store(1, Ordering::SeqCst);
            }
            if after == 0 && stage.load(Ordering::SeqCst) == 2 {
                after = pair.appended;
            }
        }
        while pair.answered + pair.refused < pair.appended {
            assert!(Instant::now() < end, "held for ever: {:?}", pair.producer.stats(SinkId(0)));
            pair.turn();
        }
    });
    let stats = *pair.producer.stats(SinkId(0));
    println!("{} rows, {after} before it was made anew: {stats:?}", pair.appended);
    assert_eq!((stats.topics_recreated, pair.refused, stats.outcome_unknown), (1, 0, 0), "{stats:?}");
    assert!(stats.repartitioned > 0, "no row lost its partition: {stats:?}");

    // Of each key the new topic has the youngest rows without a hole, once each, in order.
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let text = consume(&kafka, "anew");
    for line in text.lines().filter(|line| line.contains("\tPartition:")) {
        let mut fields = line.rsplit('\t');
        let (value, key) = (fields.next().expect("a value"), fields.next().expect("a key"));
        found.entry(key.to_owned()).or_default().push(value.parse().expect("a number"));
    }
    assert_eq!(found.len(), KEYS as usize, "{}", text.lines().take(3).collect::<String>());
    for (key, numbers) in &found {
        let own: u32 = key[1..].parse().expect("a number");
        let first = numbers[0];
        let expected: Vec<u32> = (first..pair.appended).filter(|n| n % KEYS == own).collect();
        assert_eq!(*numbers, expected, "{key}");
        assert!(first <= after, "{key}: rows that came after the topic are lost, the first there is {first}");
    }
}

/// All records of a topic, as Kafka's own consumer prints them. On a busy machine its first record takes a while, so it ends once nothing has come for 20 s.
fn consume(kafka: &Kafka, topic: &str) -> String {
    kafka.command(&["consume", topic, "--timeout-ms", "20000"])
}

/// KIP-516, Kafka 4.1 and later: what was meant for the topic before is not taken by the one of the same name. The producer
/// does not know of it yet, so all five batches of its window go out with the old id.
#[test]
fn a_topic_made_anew_takes_no_batch_meant_for_the_one_before() {
    let kafka = Kafka::start(&["--auto-create", "false"]);
    kafka.create_topic("again", 1);
    let mut pair = Pair::new(kafka.bootstrap(), "again", 0);
    let end = Instant::now() + PATIENCE;
    let settle = |pair: &mut Pair, rows: u32| {
        while pair.appended < rows {
            pair.append();
        }
        while pair.answered < rows {
            assert!(Instant::now() < end, "held for ever: {:?}", pair.producer.stats(SinkId(0)));
            pair.turn();
        }
    };
    settle(&mut pair, 2_000);
    assert_eq!(pair.producer.stats(SinkId(0)).topics_recreated, 0);
    kafka.command(&["topics", "delete", "again"]);
    kafka.create_topic("again", 1);
    settle(&mut pair, 4_000);
    let stats = *pair.producer.stats(SinkId(0));
    println!("{stats:?}");
    assert!(stats.errors > 0, "the new topic took what was meant for the old one: {stats:?}");
    assert_eq!((stats.topics_recreated, stats.acknowledged_lost, stats.outcome_unknown), (1, 0, 0), "{stats:?}");
    let text = consume(&kafka, "again");
    let lines = text.lines().filter(|line| line.contains("\tPartition:"));
    let values: Vec<u32> = lines.filter_map(|line| line.rsplit('\t').next()?.parse().ok()).collect();
    assert_eq!(values, (2_000..4_000).collect::<Vec<_>>());
}

#[test]
fn records_of_a_clock_that_is_two_hours_ahead_are_written_without_times() {
    let kafka = Kafka::start(&["--auto-create", "false"]);
    kafka.create_topic("timeless", 1);
    let mut pair = Pair::new(kafka.bootstrap(), "timeless", 2 * 3_600_000);
    let end = Instant::now() + PATIENCE;
    while pair.answered + pair.refused < 300 {
        assert!(Instant::now() < end, "held for ever: {:?}", pair.producer.stats(SinkId(0)));
        if pair.appended < 300 {
            pair.append();
        }
        pair.turn();
    }
    let stats = *pair.producer.stats(SinkId(0));
    assert_eq!(
        (pair.answered, pair.refused, stats.without_timestamp, stats.epochs_raised),
        (300, 0, 300, 1),
        "{stats:?}"
    );
    let text = consume(&kafka, "timeless");
    let lines: Vec<_> = text.lines().filter(|line| line.contains("\tPartition:")).collect();
    let values: Vec<u32> = lines.iter().filter_map(|line| line.rsplit('\t').next()?.parse().ok()).collect();
    assert_eq!(values, (0..300).collect::<Vec<_>>());
    let ahead = (wall(0).0 + 3_600_000).to_string();
    for line in lines {
        let received = line.split("mqtt-received-ms:").nth(1).and_then(|rest| rest.split(['\t', ',']).next());
        assert!(line.contains(":-1\t") || line.contains("NO_TIMESTAMP"), "{line}");
        assert!(received.is_some_and(|ms| ms > ahead.as_str()), "{line}");
    }
}
