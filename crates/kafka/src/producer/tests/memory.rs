//! The bound on memory, and reuse of buffers.

use std::time::Duration;

use crate::producer::testing::hand::{Hand, SINK, settings, topic, values};
use crate::producer::{Row, Settings, Target, Terms, row_bytes_max};
use crate::types::{ProduceRequest, SinkId, Ticket};
use forebay_base::limits::{UNUSED_BUFFERS_KEPT_BYTES, UNUSED_BUFFERS_LOOK};
use forebay_record::compression::Codec;
use forebay_record::murmur2::murmur2;
use forebay_runtime::seam::{Monotonic, WallMs};

pub(super) type NoHeaders = std::iter::Empty<(&'static [u8], &'static [u8])>;

pub(super) fn row(value: &'static [u8]) -> Row<'static, NoHeaders> {
    Row { key: None, value: Some(value), headers: std::iter::empty(), timestamp: WallMs(1_790_000_000_000) }
}

/// Appends rows of all sizes, of many sessions and keys, to all sinks, until there is no room. Returns the requests.
fn fill(hand: &mut Hand, rng: &mut fastrand::Rng, topics: u32, limit: usize) -> Vec<ProduceRequest> {
    let mut sent = Vec::new();
    let sinks = 3;
    for taken in 0.. {
        let len = if rng.u8(..20) == 0 { rng.usize(..7900) } else { rng.usize(..200) };
        let value = vec![b'v'; len];
        let key = rng.u32(..50).to_string();
        let Some(mut promise) = hand.producer.promise(sinks * row_bytes_max(key.len(), len, 0, 0)) else {
            assert!(taken > 0);
            break;
        };
        for sink in 0..sinks as u16 {
            let row = Row {
                key: rng.bool().then_some(key.as_bytes()),
                value: Some(&value),
                headers: std::iter::empty(),
                timestamp: hand.wall(),
            };
            let ticket = Ticket { session: rng.u64(..100), number: rng.u32(..) };
            let name = format!("t{}", rng.u32(..topics));
            let hash = row.key.map(|key| murmur2(key).cast_unsigned());
            let target = Target { sink: SinkId(sink), topic: &name, known: None, hash };
            hand.producer.take(&target, row, Some(ticket), Terms::default(), (&mut promise, hand.now));
            assert!(hand.producer.memory_bytes() <= limit, "{} of {limit}", hand.producer.memory_bytes());
        }
        if rng.u8(..50) == 0 {
            sent.append(&mut hand.poll());
        }
    }
    sent
}

fn bounded(seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut sink = settings().sinks.remove(0);
    sink.linger = Duration::from_millis(rng.u64(..3));
    let codec = *rng.choice(&[Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]).expect("one");
    let packed = crate::producer::SinkSettings { compression: codec, ..sink.clone() };
    let sinks = vec![sink.clone(), if rng.bool() { packed } else { sink.clone() }, sink];
    let settings = Settings { buffer_bytes: rng.usize(..2_000_000), seed, sinks, ..Settings::default() };
    let limit = settings.buffer_bytes.max(settings.buffer_bytes_min());
    let mut hand = Hand::new(settings);
    let empty = hand.producer.memory_bytes();
    let topics = rng.u32(1..20);
    for round in 0..4 {
        let mut sent = fill(&mut hand, &mut rng, topics, limit);
        (0..3).for_each(|token| hand.producer.on_producer_id(token, token as i64, 0));
        // Never fewer than before: rows of a partition that is gone are held.
        let partitions = 10 * round + 1 + rng.usize(..10);
        for number in 0..topics {
            hand.producer.on_metadata(&[topic(&format!("t{number}"), &vec![0; partitions])], hand.now);
        }
        // All rows are sent, though every row may now need a batch of its own.
        let mut turns = 0;
        while hand.producer.buffered_rows() > 0 {
            turns += 1;
            assert!(turns < 200_000, "it comes to rest");
            hand.wait_ms(3);
            sent.append(&mut hand.poll());
            for request in sent.drain(..) {
                assert!(hand.producer.memory_bytes() <= limit);
                let code = if rng.u8(..30) == 0 { *rng.choice(&[10, 19, 87]).expect("one") } else { 0 };
                hand.answer_and_drop(request, code);
                super::shares::check_account(&hand);
                assert!(hand.producer.memory_bytes() <= limit);
            }
        }
        hand.poll();
        assert_eq!(hand.producer.buffered_bytes(), empty, "nothing is held for no rows");
        super::shares::check_account(&hand);
    }
}

#[test]
fn the_bound_holds_whatever_comes_and_everything_comes_back() {
    for seed in 0..60 {
        let run = std::panic::catch_unwind(|| bounded(seed));
        assert!(run.is_ok(), "seed {seed}");
    }
}

/// Buffers of a burst are freed some time after it; after that no timer wakes an idle producer for them.
#[test]
fn an_idle_producer_gives_the_memory_of_a_burst_back() {
    let mut hand = Hand::proven(Settings { buffer_bytes: 32 << 20, ..settings() });
    while hand.producer.has_room(1100) {
        hand.append_value("t", None, &[b'x'; 1000]);
    }
    while hand.producer.buffered_rows() > 0 {
        for request in hand.poll() {
            hand.answer(&request, 0);
        }
    }
    hand.poll();
    let kept = hand.producer.unused_bytes();
    assert!(kept > 8 << 20, "{kept}");
    let mut looks = 0;
    while hand.producer.unused_bytes() > UNUSED_BUFFERS_KEPT_BYTES {
        looks += 1;
        assert!(looks < 1_000, "{} bytes are kept", hand.producer.unused_bytes());
        let at = hand.producer.next_deadline();
        assert_ne!(at, Monotonic::NEVER, "{} bytes are kept", hand.producer.unused_bytes());
        hand.now = hand.now.max(at);
        hand.poll();
    }
    assert!(hand.now.since(Monotonic(0)) < 3 * UNUSED_BUFFERS_LOOK, "{:?}", hand.now);
    assert_eq!(hand.producer.next_deadline(), Monotonic::NEVER);
}

#[test]
fn full_means_full_and_room_comes_back() {
    let mut hand = Hand::proven(Settings { buffer_bytes: 200_000, ..settings() });
    let mut taken = 0;
    while hand.producer.has_room(1100) {
        hand.append_value("t", None, &[b'x'; 1000]);
        taken += 1;
    }
    assert!((90..200).contains(&taken), "most of it is rows: {taken}");
    let mut rows = 0;
    while hand.producer.buffered_rows() > 0 {
        for request in hand.poll() {
            rows += values(&request).len();
            hand.answer(&request, 0);
            assert!(hand.producer.has_room(1100));
        }
    }
    assert_eq!(rows, taken);
}

#[test]
fn buffers_and_state_are_used_again() {
    let mut hand = Hand::proven(settings());
    let round = |hand: &mut Hand| {
        for _ in 0..12 {
            hand.append_value("t", None, &[b'x'; 300]);
        }
        let requests = hand.poll();
        let at: Vec<_> = requests.iter().map(|request| request.batches[0].bytes.as_ptr()).collect();
        for request in requests {
            hand.answer_and_drop(request, 0);
        }
        hand.poll();
        at
    };
    round(&mut hand);
    round(&mut hand);
    let (before, memory) = (round(&mut hand), hand.producer.memory_bytes());
    for _ in 0..20 {
        assert_eq!(round(&mut hand), before, "the same buffers");
        assert_eq!(hand.producer.memory_bytes(), memory);
    }
    assert_eq!(hand.producer.buffered_bytes(), 0);
}

#[test]
fn bytes_that_somebody_still_holds_are_never_changed() {
    let mut hand = Hand::proven(settings());
    hand.append("t", None);
    let request = hand.one();
    let kept = request.batches[0].bytes.clone();
    let before = kept.to_vec();
    hand.answer(&request, 47);
    hand.log_says(crate::types::LogSays::Next { known: false });
    hand.wait_ms(1000);
    let again = hand.one();
    assert_eq!(crate::producer::testing::hand::identity(&again), (7, 1, 0));
    assert_eq!(*kept, before);
    drop((request, kept));
    hand.answer(&again, 0);
    drop(again);
    hand.poll();
    assert_eq!(hand.producer.buffered_bytes(), 0);
    assert_eq!(hand.producer.stats(SINK).delivered, 2);
}
