//! Each setting of a sink has an effect: the same story differs with another value.

use std::time::Duration;

use crate::producer::testing::hand::{Hand, SINK, settings, topic};
use crate::producer::{AnsweredOn, Partitioner, SinkSettings};
use forebay_record::BatchView;
use forebay_record::compression::Codec;

/// The story as seen by Kafka and the publisher, with times: rows of text, three at a time, to three partitions; the later
/// batches are not answered.
fn story(sink: &SinkSettings) -> String {
    let mut of = settings();
    of.sinks = vec![sink.clone()];
    let mut hand = Hand::new(of);
    hand.append("t", None);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0, 0, 0])], hand.now);
    hand.producer.on_producer_id(0, 7, 0);
    let mut told = String::new();
    for number in 0..60_u32 {
        let value = format!("temperature {} humidity {} ", number * 37 % 101, number * 53 % 97).repeat(20);
        (0..3).for_each(|_| hand.append_value("t", (number % 2 == 0).then_some("key"), value.as_bytes()));
        hand.wait_ms(2);
        for request in hand.poll() {
            for batch in &request.batches {
                let (view, _) = BatchView::parse(&batch.bytes).expect("a batch");
                let (partition, length, records) = (batch.partition, batch.bytes.len(), view.header().records_count);
                told += &format!("{number}: {} {partition} {length} {records} {:?}\n", request.acks, view.codec());
            }
            if number < 20 {
                hand.answer(&request, 0);
            }
        }
    }
    hand.wait_ms(1_000);
    hand.poll();
    let refused = hand.producer.check(SINK, "t", 5_000).is_err();
    format!("{told}{:?} {refused} {}", hand.done, hand.stats().buffered_rows)
}

#[test]
fn each_setting_is_used() {
    let sink = SinkSettings { linger: Duration::from_millis(1), ..settings().sinks.remove(0) };
    let gzip = SinkSettings { compression: Codec::Gzip, compression_level: Some(1), ..sink.clone() };
    let told = story(&sink);
    assert_eq!(told, story(&sink), "a story is told the same way twice");
    let others = [
        ("linger", SinkSettings { linger: Duration::from_millis(15), ..sink.clone() }),
        ("batch_bytes", SinkSettings { batch_bytes: 1_500, ..sink.clone() }),
        ("acks", SinkSettings { acks: 1, ..sink.clone() }),
        ("partitioner", SinkSettings { partitioner: Partitioner::Sticky, ..sink.clone() }),
        ("compression", gzip.clone()),
        ("record_bytes_max", SinkSettings { record_bytes_max: 4_096, ..sink.clone() }),
        ("max_inflight", SinkSettings { max_inflight: 1, ..sink.clone() }),
        ("expire_after", SinkSettings { expire_after: Some(Duration::from_millis(20)), ..sink.clone() }),
        ("answered_on", SinkSettings { answered_on: AnsweredOn::Append, ..sink }),
    ];
    let mut unused: Vec<_> = others.iter().filter(|(_, other)| story(other) == told).map(|(name, _)| *name).collect();
    if story(&gzip) == story(&SinkSettings { compression_level: Some(9), ..gzip.clone() }) {
        unused.push("compression_level");
    }
    assert!(unused.is_empty(), "without effect: {unused:?}");
}
