//! `partitioner = "client"`: the partition is the client's, whatever the key is.

use crate::producer::testing::hand::{Hand, SINK, read, settings, topic};
use crate::producer::{Partitioner, Row, Settings, Terms};
use crate::types::ProduceRequest;
use forebay_record::murmur2::{murmur2, partition};

fn by_client() -> Settings {
    let mut settings = settings();
    settings.sinks[0].partitioner = Partitioner::Hash;
    settings
}

/// Appends a row of this client; its value is the client's name.
fn append(hand: &mut Hand, client: &str, key: &str) {
    let row = Row {
        key: Some(key.as_bytes()),
        value: Some(client.as_bytes()),
        headers: std::iter::empty(),
        timestamp: hand.wall(),
    };
    assert!(hand.producer.has_room(500));
    let terms = Terms { hash: Some(murmur2(client.as_bytes()).cast_unsigned()), ..Terms::default() };
    hand.producer.append_with(SINK, "t", row, None, terms, hand.now);
}

/// Checks that every row of these requests is in its client's partition of `count`; returns their number.
fn check(requests: &[ProduceRequest], count: usize) -> usize {
    let mut rows = 0;
    for request in requests {
        for batch in &request.batches {
            let (view, _) = forebay_record::BatchView::parse(&batch.bytes).expect("a batch");
            for (_, client) in read(&view) {
                assert_eq!(batch.partition as usize, partition(&client, count));
                rows += 1;
            }
        }
    }
    rows
}

const CLIENTS: [&str; 6] = ["a", "bb", "ccc", "dddd", "sensor-5", "sensor-6"];

#[test]
fn rows_of_a_client_go_to_one_partition_whatever_their_keys() {
    let mut hand = Hand::new(by_client());
    hand.append("t", None);
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t", &[0; 8])], hand.now);
    let first = hand.one();
    hand.answer(&first, 0);
    for i in 0..60 {
        append(&mut hand, CLIENTS[i % 6], &format!("key {i}"));
    }
    assert_eq!(check(&hand.poll(), 8), 60);
}

#[test]
fn so_do_rows_that_waited_for_their_partition() {
    let mut hand = Hand::new(by_client());
    for i in 0..60 {
        append(&mut hand, CLIENTS[i / 7 % 6], &format!("key {i}"));
    }
    hand.poll();
    hand.producer.on_producer_id(0, 7, 0);
    hand.producer.on_metadata(&[topic("t", &[0; 8])], hand.now);
    assert_eq!(check(&hand.poll(), 8), 60);
}
