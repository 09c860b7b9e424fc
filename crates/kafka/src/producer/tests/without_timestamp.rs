//! INVALID_TIMESTAMP: cut again without timestamps, the time of receipt in a header.

use crate::producer::testing::hand::{Hand, identity, settings, values};
use crate::types::{LogSays, ProduceRequest};
use forebay_record::compression::Codec;
use forebay_record::{BatchView, Records};

/// Timestamp and the header's value of each record; the records are not compressed.
fn times(request: &ProduceRequest) -> Vec<(i64, Option<String>)> {
    let (view, _) = BatchView::parse(&request.batches[0].bytes).expect("a batch");
    view.check_crc().expect("its checksum");
    let records = Records::new(view.body(), view.header().records_count, view.header().base_timestamp)
        .map(|record| record.expect("a record"));
    let time = |mut headers: forebay_record::Headers<'_>| {
        let found = headers.find(|(name, _)| *name == b"mqtt-received-ms")?.1?;
        Some(String::from_utf8(found.to_vec()).expect("digits"))
    };
    records.map(|record| (record.timestamp, time(record.headers))).collect()
}

#[test]
fn the_batch_goes_again_without_times_and_keeps_them_in_a_header() {
    let mut hand = Hand::proven(settings());
    for _ in 0..3 {
        hand.append("t", Some("k"));
    }
    let request = hand.one();
    let before = times(&request);
    hand.answer(&request, 32);
    let again = hand.one();
    assert_eq!(identity(&again), (7, 1, 0));
    assert_eq!(values(&again), values(&request));
    let expected: Vec<_> = before.iter().map(|(at, _)| (-1, Some(at.to_string()))).collect();
    assert_eq!(times(&again), expected);
    assert!(before.iter().all(|(at, header)| *at > 0 && header.is_none()));
    hand.append("t", Some("k"));
    assert!(hand.poll().is_empty(), "P2: a batch without times goes alone");
    hand.answer(&again, 0);
    let stats = hand.stats();
    assert_eq!((stats.without_timestamp, stats.refused, stats.delivered), (3, 0, 4));
    // The next batches are not tried first: they lose their timestamps at once, for a while.
    let next = hand.one();
    assert_eq!(times(&next)[0].0, -1);
    hand.answer(&next, 0);
    hand.wait_ms(61_000);
    hand.append("t", Some("k"));
    let later = hand.one();
    assert!(times(&later)[0].0 > 0);
    hand.answer(&later, 0);
    assert_eq!((hand.stats().without_timestamp, hand.stats().buffered_bytes), (4, 0));
}

#[test]
fn younger_rows_keep_their_times_when_old_ones_are_refused() {
    let mut hand = Hand::proven(settings());
    hand.age_ms = 3_000_000;
    hand.append("t", None);
    let old = hand.one();
    hand.answer(&old, 32);
    hand.age_ms = 0;
    hand.append("t", None);
    let again = hand.one();
    assert_eq!(times(&again)[0].0, -1);
    hand.answer(&again, 0);
    assert!(times(&hand.one())[0].0 > 0);
    assert_eq!(hand.stats().without_timestamp, 1);
}

#[test]
fn compressed_batches_too_and_what_is_refused_without_a_time_is_refused() {
    let mut packed = settings();
    packed.sinks[0].compression = Codec::Lz4;
    let mut hand = Hand::proven(packed);
    for _ in 0..40 {
        hand.append("t", Some("the same key each time"));
    }
    let request = hand.one();
    hand.answer(&request, 32);
    let again = hand.one();
    let (view, _) = BatchView::parse(&again.batches[0].bytes).expect("a batch");
    assert_eq!((view.codec(), view.header().max_timestamp, view.header().records_count), (Ok(Codec::Lz4), -1, 40));
    assert_eq!(values(&again), values(&request));
    // A server that refuses always: the batch is halved down to single records, which are refused.
    hand.answer(&again, 32);
    for _ in 0..200 {
        hand.wait_ms(1_100);
        for request in hand.poll() {
            hand.answer(&request, 32);
        }
    }
    let stats = hand.stats();
    assert_eq!((stats.without_timestamp, stats.refused, stats.buffered_rows, stats.buffered_bytes), (40, 40, 0, 0));
}

#[test]
fn a_batch_that_may_be_there_is_not_written_anew_first() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    hand.answer(&request, 7);
    hand.wait_ms(1_000);
    let again = hand.one();
    hand.answer(&again, 32);
    assert_eq!(hand.stats().without_timestamp, 0, "P6: it may be there");
    hand.log_says(LogSays::There { last_sequence: 1 });
    let stats = hand.stats();
    assert_eq!((stats.without_timestamp, stats.outcome_unknown, stats.buffered_rows), (0, 0, 0), "it was");
}
