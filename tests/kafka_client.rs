//! The wire client against a real Kafka: the one that scripts/test starts for all tests (`FOREBAY_TEST_KAFKA`).

#[path = "support/kafka_driver.rs"]
mod kafka_driver;
mod support;

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use forebay::kafka::client::Settings;
use forebay::kafka::types::{ClientEvent, LogSays, NodeId, ProduceBatch, ProduceRequest, ProduceResult, Question};
use forebay::record::compression::{Codec, Encoder};
use forebay::record::{BatchView, Builder, Row, Stamp, stamp};
use forebay::runtime::seam::WallMs;
use kafka_driver::Driver;
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};

const PATIENCE: Duration = Duration::from_secs(60);

fn driver() -> Driver {
    let bootstrap = support::kafka::shared().split(',').map(str::to_owned).collect();
    Driver::start(Settings { bootstrap, ..Settings::default() }, u64::from(std::process::id()))
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

fn fresh_topic(what: &str) -> Rc<str> {
    Rc::from(format!("client-{what}-{}-{}", std::process::id(), now_ms()))
}

/// The leaders, once each partition has one that knows it: Kafka names a leader of a new topic before that broker has heard of it.
fn leaders(driver: &mut Driver, topic: &Rc<str>) -> Vec<NodeId> {
    driver.client.want_metadata(topic, driver.now());
    let leaders = driver.wait(PATIENCE, |event| match event {
        ClientEvent::Metadata(topics) => {
            let whole = topics.iter().find(|t| t.name == *topic && t.error == 0)?;
            whole.leaders.iter().copied().collect::<Option<Vec<_>>>()
        }
        _ => None,
    });
    let leaders = leaders.expect("metadata in time");
    for (partition, node) in (0..).zip(&leaders) {
        let probe = batch(topic, partition, (NO_PRODUCER, 0), 0);
        let until = Instant::now() + PATIENCE;
        while log_says(driver, *node, &probe, None) == LogSays::Again {
            assert!(Instant::now() < until, "{topic}-{partition} has no leader");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    leaders
}

/// A producer that has written nothing.
const NO_PRODUCER: i64 = i64::MAX;

fn producer_id(driver: &mut Driver) -> (i64, i16) {
    driver.client.want_producer_id(7, driver.now());
    let id = driver.wait(PATIENCE, |event| match event {
        ClientEvent::ProducerId { token: 7, id, epoch } => Some((*id, *epoch)),
        _ => None,
    });
    id.expect("a producer id in time")
}

/// Ten records.
fn batch(topic: &Rc<str>, partition: i32, producer: (i64, i16), sequence: i32) -> ProduceBatch {
    let record = |i: i32| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: producer.0,
        producer_epoch: producer.1,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(i),
        sequence: sequence + i,
        timestamp: now_ms(),
        key: None,
        value: Some(Bytes::from(format!("value {}", sequence + i))),
        headers: IndexMap::new(),
    };
    let records: Vec<Record> = (0..10).map(record).collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).expect("a batch");
    ProduceBatch { topic: Rc::clone(topic), topic_id: 0, partition, bytes: Rc::new(bytes.to_vec()) }
}

fn produce(driver: &mut Driver, id: u64, node: NodeId, acks: i16, batches: Vec<ProduceBatch>) {
    let now = driver.now();
    driver.client.produce(ProduceRequest { id, node, slow: false, acks, timeout_ms: 5000, batches }, now);
}

fn answer(driver: &mut Driver, wanted: u64) -> Vec<ProduceResult> {
    let results = driver.wait(PATIENCE, |event| match event {
        ClientEvent::Produced { id, results, .. } if *id == wanted => Some(results.clone()),
        ClientEvent::ProduceFailed { id, .. } if *id == wanted => panic!("{id} failed"),
        _ => None,
    });
    results.expect("an answer in time")
}

#[test]
fn batches_arrive_once_and_in_order() {
    let mut driver = driver();
    let topic = fresh_topic("order");
    let leaders = leaders(&mut driver, &topic);
    let producer = producer_id(&mut driver);
    // Five in flight for each partition, several partitions in one request.
    let mut id = 0;
    for round in 0..5 {
        for node in leaders.iter().collect::<std::collections::BTreeSet<_>>() {
            let mine = (0i32..).zip(&leaders).filter(|(_, leader)| leader == &node);
            let batches = mine.map(|(partition, _)| batch(&topic, partition, producer, round * 10)).collect();
            produce(&mut driver, id, *node, -1, batches);
            id += 1;
        }
    }
    let mut next = vec![0; leaders.len()];
    for id in 0..id {
        for result in answer(&mut driver, id) {
            let expected = &mut next[result.partition as usize];
            assert_eq!((result.error, result.base_offset), (0, *expected), "request {id}: {result:?}");
            *expected += 10;
        }
    }
    assert!(next.iter().all(|next| *next == 50));
    // The last batch again, over a new connection: Kafka knows it.
    driver.cut();
    produce(&mut driver, 1000, leaders[0], -1, vec![batch(&topic, 0, producer, 40)]);
    let results = answer(&mut driver, 1000);
    assert_eq!((results[0].error, results[0].base_offset), (0, 40), "the original offset");
    // One with acks=0, then one with an answer: it went in between.
    produce(&mut driver, 1001, leaders[0], 0, vec![batch(&topic, 0, producer, 50)]);
    produce(&mut driver, 1002, leaders[0], 1, vec![batch(&topic, 0, producer, 60)]);
    assert_eq!(answer(&mut driver, 1001)[0].base_offset, -1);
    assert_eq!(answer(&mut driver, 1002)[0].base_offset, 60);
}

#[test]
fn refusals_are_read() {
    let mut driver = driver();
    let topic = fresh_topic("refusals");
    let leaders = leaders(&mut driver, &topic);
    let producer = producer_id(&mut driver);
    let mut torn = batch(&topic, 0, producer, 0);
    let mut bytes = torn.bytes.to_vec();
    *bytes.last_mut().expect("bytes") ^= 1;
    torn.bytes = Rc::new(bytes);
    produce(&mut driver, 1, leaders[0], -1, vec![torn]);
    assert_eq!(answer(&mut driver, 1)[0].error, 2, "CORRUPT_MESSAGE");
    let elsewhere = batch(&topic, 999, producer, 0);
    let good = batch(&topic, 0, producer, 0);
    produce(&mut driver, 2, leaders[0], -1, vec![elsewhere, good]);
    let results = answer(&mut driver, 2);
    assert_eq!(results.iter().map(|r| (r.partition, r.error)).collect::<Vec<_>>(), [(999, 3), (0, 0)]);
    // A gap in the sequence.
    produce(&mut driver, 3, leaders[0], -1, vec![batch(&topic, 0, producer, 500)]);
    assert_eq!(answer(&mut driver, 3)[0].error, 45, "OUT_OF_ORDER_SEQUENCE_NUMBER");
    let invalid = Rc::from("no such/topic");
    driver.client.want_metadata(&invalid, driver.now());
    let error = driver.wait(PATIENCE, |event| match event {
        ClientEvent::Metadata(topics) => topics.iter().find(|topic| topic.name == invalid).map(|topic| topic.error),
        _ => None,
    });
    assert_eq!(error, Some(17), "INVALID_TOPIC_EXCEPTION");
}

/// The broker unpacks every batch to check it, and so does the console consumer: both are Kafka's own Java codecs.
#[test]
fn every_codec_is_one_that_java_reads() {
    let mut driver = driver();
    let topic = fresh_topic("codecs");
    let leaders = leaders(&mut driver, &topic);
    let producer = producer_id(&mut driver);
    let mut expected = Vec::new();
    let mut sequence = 0;
    for (id, codec) in (0..).zip([Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]) {
        // More than one block of Snappy's and LZ4's.
        let rows: Vec<String> = (0..2000).map(|n| format!("{codec:?} {n:05} {}", "and so on ".repeat(6))).collect();
        let mut builder = Builder::new(Vec::new());
        for row in &rows {
            let headers = std::iter::empty();
            let row = Row { key: None, value: Some(row.as_bytes()), headers, timestamp: WallMs(now_ms()) };
            builder.append(&row, row.measure());
        }
        let plain_len = builder.len();
        let mut encoder = Encoder::new(codec, None, plain_len).expect("a codec");
        let mut bytes = builder.close(Some(&mut encoder));
        assert!(bytes.len() < plain_len / 2, "{codec:?}: {} of {plain_len}", bytes.len());
        stamp(&mut bytes, Stamp { producer_id: producer.0, epoch: producer.1, sequence });
        sequence += 2000;
        let batch = ProduceBatch { topic: Rc::clone(&topic), topic_id: 0, partition: 0, bytes: Rc::new(bytes) };
        produce(&mut driver, id, leaders[0], -1, vec![batch]);
        assert_eq!(answer(&mut driver, id)[0].error, 0, "{codec:?}");
        expected.extend(rows);
    }
    let mut consumer = std::process::Command::new(support::root().join("scripts/kafka"));
    let count = expected.len().to_string();
    consumer.args(["tool", "org.apache.kafka.tools.consumer.ConsoleConsumer", "--topic", &topic, "--from-beginning"]);
    consumer.args(["--bootstrap-server", &support::kafka::shared(), "--max-messages", &count, "--timeout-ms", "60000"]);
    let read = support::run(&mut consumer);
    assert!(read.lines().eq(expected.iter().map(String::as_str)), "{} lines", read.lines().count());
}

/// What the leader's log says to a question of one batch.
fn log_says(driver: &mut Driver, node: NodeId, asked: &ProduceBatch, from: Option<i64>) -> LogSays {
    let (view, _) = BatchView::parse(&asked.bytes).expect("a batch");
    let question = Question {
        leader_epoch: -1,
        token: 5,
        node,
        topic: Rc::clone(&asked.topic),
        topic_id: 0,
        partition: asked.partition,
        producer_id: view.header().producer_id,
        epoch: view.header().producer_epoch,
        first_sequence: view.header().base_sequence,
        last_sequences: vec![view.header().base_sequence + view.header().last_offset_delta],
        from,
        replicated: true,
        is_read: false,
    };
    let now = driver.now();
    driver.client.ask(question, now);
    let says = driver.wait(PATIENCE, |event| match event {
        ClientEvent::Asked { token: 5, says } => Some(*says),
        _ => None,
    });
    says.expect("an answer in time")
}

#[test]
fn a_log_says_what_it_has() {
    let mut driver = driver();
    let topic = fresh_topic("ask");
    let leaders = leaders(&mut driver, &topic);
    let producer = producer_id(&mut driver);
    let node = leaders[0];
    let sent: Vec<ProduceBatch> = (0..7).map(|n| batch(&topic, 0, producer, n * 10)).collect();
    assert_eq!(log_says(&mut driver, node, &sent[0], None), LogSays::Next { known: false }, "an empty log");
    for (id, batch) in (0u64..).zip(&sent[..2]) {
        produce(&mut driver, id, node, -1, vec![batch.clone()]);
        assert_eq!(answer(&mut driver, id)[0].error, 0);
    }
    // The third is carried out, and its answer lost.
    produce(&mut driver, 2, node, -1, vec![sent[2].clone()]);
    driver.turn(Duration::ZERO);
    driver.cut();
    let mut says = log_says(&mut driver, node, &sent[2], Some(20));
    while says == LogSays::Again || says == (LogSays::Next { known: true }) {
        // Kafka may be at it still, or the bytes were cut off on their way: then it goes again.
        if says != LogSays::Again {
            produce(&mut driver, 3, node, -1, vec![sent[2].clone()]);
            assert_eq!(answer(&mut driver, 3)[0].error, 0);
        }
        std::thread::sleep(Duration::from_millis(50));
        says = log_says(&mut driver, node, &sent[2], Some(20));
    }
    assert_eq!(says, LogSays::There { last_sequence: 29 });
    assert_eq!(log_says(&mut driver, node, &sent[2], None), LogSays::There { last_sequence: 29 }, "from the start too");
    assert_eq!(log_says(&mut driver, node, &sent[3], Some(30)), LogSays::Next { known: true });
    assert_eq!(log_says(&mut driver, node, &sent[5], Some(30)), LogSays::Lost, "40 to 49 is not there");
    // The same id by another epoch.
    let above = batch(&topic, 0, (producer.0, producer.1 + 1), 0);
    assert_eq!(log_says(&mut driver, node, &above, Some(30)), LogSays::Next { known: true });
    produce(&mut driver, 4, node, -1, vec![above]);
    assert_eq!(answer(&mut driver, 4)[0].error, 0);
    let fenced = LogSays::Fenced { epoch: producer.1 + 1 };
    assert_eq!(log_says(&mut driver, node, &sent[3], Some(30)), fenced);
    assert_eq!(log_says(&mut driver, node, &sent[2], Some(20)), LogSays::There { last_sequence: 29 }, "the log tells");
    // A log that ends before what was acknowledged; a stranger; a topic that is not there.
    let stranger = batch(&topic, 0, (producer.0 + 1_000_000, 0), 10);
    assert_eq!(log_says(&mut driver, node, &stranger, Some(40)), LogSays::Next { known: false });
    assert_eq!(log_says(&mut driver, node, &stranger, Some(4000)), LogSays::Lost);
    let nowhere = batch(&fresh_topic("nowhere"), 0, producer, 0);
    assert_eq!(log_says(&mut driver, node, &nowhere, None), LogSays::Again);
}
