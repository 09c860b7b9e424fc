//! A process that is killed repeatedly, by seeds: every row acknowledged as stored is in Kafka once, in the order of its
//! key; the log takes rows and syncs at random.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::producer::row_log::Fate;
use crate::producer::testing::hand::{Hand, read, settings, topic};
use crate::producer::{AnsweredOn, Keep, Settings, Terms};
use crate::types::{LogSays, Outcome, ProduceRequest, ProduceResult, Question, SinkId, Ticket};
use forebay_record::BatchView;
use forebay_runtime::seam::WallMs;

/// A partition's state of a producer: its epoch, and its last batches by first and last sequence and base offset.
type Known = (i16, VecDeque<(i32, i32, i64)>);

#[derive(Default)]
struct Log {
    known: BTreeMap<i64, Known>,
    next: i64,
}

/// A cluster of one topic.
struct Kafka {
    logs: Vec<Log>,
    /// Key and number, in the order in which they were appended.
    rows: Vec<(u32, u32)>,
}

impl Kafka {
    fn produce(&mut self, partition: i32, bytes: &[u8]) -> (i16, i64) {
        let (view, _) = BatchView::parse(bytes).expect("a batch");
        view.check_crc().expect("its checksum");
        let header = view.header();
        let log = &mut self.logs[partition as usize];
        let (first, last) = (header.base_sequence, header.last_sequence());
        if let Some((epoch, batches)) = log.known.get(&header.producer_id) {
            if header.producer_epoch < *epoch {
                return (47, -1);
            }
            if header.producer_epoch == *epoch {
                if let Some(same) = batches.iter().find(|batch| (batch.0, batch.1) == (first, last)) {
                    return (0, same.2);
                }
                if batches.back().is_some_and(|batch| batch.1 + 1 != first) {
                    return (45, -1);
                }
            } else if first != 0 {
                return (45, -1);
            }
        }
        let rows = read(&view);
        if rows.iter().any(|(_, value)| value.starts_with(b"bad")) {
            return (87, -1);
        }
        let (offset, known) = (log.next, log.known.entry(header.producer_id).or_default());
        if known.0 != header.producer_epoch {
            *known = (header.producer_epoch, VecDeque::new());
        }
        known.1.push_back((first, last, offset));
        if known.1.len() > 5 {
            known.1.pop_front();
        }
        log.next += i64::from(header.records_count);
        for (key, value) in rows {
            let number = |bytes: &[u8]| {
                let text = String::from_utf8_lossy(bytes).into_owned();
                text.split(' ').nth(1).expect("a number").parse::<u32>().expect("a number")
            };
            self.rows.push((number(&key.expect("a key")), number(&value)));
        }
        (0, offset)
    }

    fn says(&self, question: &Question) -> LogSays {
        let log = &self.logs[question.partition as usize];
        let Some((epoch, batches)) = log.known.get(&question.producer_id) else {
            return LogSays::Next { known: false };
        };
        let last = batches.back().map_or(-1, |batch| batch.1);
        match epoch.cmp(&question.epoch) {
            std::cmp::Ordering::Greater => LogSays::Fenced { epoch: *epoch },
            std::cmp::Ordering::Equal if question.last_sequences.contains(&last) => {
                LogSays::There { last_sequence: last }
            }
            std::cmp::Ordering::Equal if last + 1 == question.first_sequence => LogSays::Next { known: true },
            std::cmp::Ordering::Less if question.first_sequence == 0 => LogSays::Next { known: true },
            _ => LogSays::Lost,
        }
    }
}

fn spool(seed: u64) -> Settings {
    let mut settings = settings();
    settings.seed = seed;
    settings.sinks[0].keep = Keep::Disk;
    settings.sinks[0].answered_on = AnsweredOn::Stored;
    settings.sinks[0].batch_bytes = 1024;
    settings.sinks[0].linger = Duration::from_millis(seed % 3 * 20);
    settings.sinks[0].spill_after = if seed.is_multiple_of(2) { 8 * 1024 } else { 1 << 20 };
    settings
}

#[test]
fn seeds() {
    let (mut recovered, mut read) = (0, 0);
    for seed in forebay_runtime::seam::seeds(60) {
        let of_seed = one_seed(seed);
        (recovered, read) = (recovered + of_seed.0, read + of_seed.1);
    }
    assert!(recovered > 1000 && read > 1000, "{recovered} {read}");
}

fn ledger(hand: &Hand, seed: u64) {
    let stats = hand.stats();
    let gone = stats.delivered + stats.refused + stats.expired + stats.dropped + stats.rotten;
    assert_eq!(stats.appended + stats.recovered, gone + stats.buffered_rows, "seed {seed}: {stats:?}");
}

fn one_seed(seed: u64) -> (u64, u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut hand = Hand::new(spool(seed));
    let mut kafka = Kafka { logs: Vec::new(), rows: Vec::new() };
    kafka.logs.resize_with(rng.usize(1..4), Log::default);
    let (mut id, mut recovered, mut reads) = (7, 0, 0);
    hand.producer.on_producer_id(0, id, 0);
    let mut rows: Vec<(u32, bool, bool)> = Vec::new();
    let mut stored: Vec<u32> = Vec::new();
    let mut late: Vec<ProduceRequest> = Vec::new();
    let mut ghosts: Vec<ProduceRequest> = Vec::new();
    let mut away = false;
    for step in 0..1000 {
        hand.wait_ms(rng.u64(..60));
        let calm = step >= 400;
        if !calm {
            for _ in 0..rng.usize(..5) {
                let (key, bad, expires) = (rng.u32(..6), rng.u8(..60) == 0, rng.u8(..20) == 0);
                let value =
                    format!("{} {} {}", if bad { "bad" } else { "row" }, hand.number, "x".repeat(rng.usize(..300)));
                let key_text = format!("key {key}");
                let row = crate::producer::Row {
                    key: Some(key_text.as_bytes()),
                    value: Some(value.as_bytes()),
                    headers: std::iter::empty(),
                    timestamp: WallMs(hand.wall().0),
                };
                let ticket = Ticket { session: 1, number: hand.number };
                let mut terms = Terms::default();
                if expires {
                    terms.expires = hand.now.after(Duration::from_millis(rng.u64(..2000)));
                }
                if hand.producer.has_room(value.len() + 200) {
                    hand.producer.append_with(SinkId(0), "t", row, Some(ticket), terms, hand.now);
                    rows.push((key, bad, expires));
                    hand.number += 1;
                }
            }
            match rng.u8(..80) {
                0 => {
                    stored.extend(hand.delivered());
                    reads += hand.log.read;
                    id += 1;
                    hand = hand.killed(spool(seed), id);
                    recovered += hand.stats().recovered;
                    // Requests in transit may still arrive.
                    late.retain(|_| rng.bool());
                    ghosts.append(&mut late);
                }
                2..6 => {
                    away = !away;
                    hand.producer.on_reachable(!away);
                }
                _ => {}
            }
            hand.log.takes = (rng.u8(..3) == 0).then(|| rng.u32(..4));
            hand.log.later = u32::from(rng.u8(..4) == 0);
        } else {
            (hand.log.takes, hand.log.later) = (None, 0);
            hand.producer.on_reachable(true);
            hand.wait_ms(200);
        }
        if rng.u8(..4) == 0 || calm {
            let leaders = vec![0; kafka.logs.len()];
            hand.producer.on_metadata(&[topic("t", &leaders)], hand.now);
        }
        let requests = hand.poll();
        ledger(&hand, seed);
        late.extend(requests);
        // Answers arrive in order, some of them later.
        while !late.is_empty() && (calm || rng.u8(..3) > 0) {
            let request = late.remove(0);
            let mut results = Vec::new();
            for batch in &request.batches {
                let (error, base_offset) = kafka.produce(batch.partition, &batch.bytes);
                results.push(ProduceResult {
                    topic: batch.topic.clone(),
                    partition: batch.partition,
                    error,
                    base_offset,
                });
            }
            if rng.u8(..12) == 0 {
                hand.producer.on_failed(request.id, true, hand.now);
            } else {
                hand.produced(request.id, &results);
            }
        }
        while !ghosts.is_empty() && (calm || rng.bool()) {
            for batch in &ghosts.remove(0).batches {
                kafka.produce(batch.partition, &batch.bytes);
            }
        }
        for question in hand.take_questions() {
            let says = kafka.says(&question);
            hand.producer.on_asked(question.token, says, hand.now);
        }
        match rng.u8(..4) {
            _ if calm => hand.log.sync(),
            0 => hand.log.end_group(),
            1 => hand.log.sync_one(),
            2 => hand.log.sync(),
            _ => {}
        }
        ledger(&hand, seed);
    }
    hand.poll();
    stored.extend(hand.delivered());
    reads += hand.log.read;
    let stats = hand.stats();
    assert_eq!((stats.buffered_rows, stats.buffered_bytes), (0, 0), "seed {seed}: {stats:?}");
    assert!(hand.log.state.live.is_empty() && hand.log.state.cuts.is_empty(), "seed {seed}");
    assert_eq!(hand.producer.buffered_bytes(), 0, "seed {seed}: memory");
    assert!(hand.done.iter().all(|(_, outcome)| *outcome == Outcome::Delivered), "seed {seed}");
    let mut by_key: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (key, number) in &kafka.rows {
        assert_eq!(rows[*number as usize].0, *key, "seed {seed}");
        by_key.entry(*key).or_default().push(*number);
    }
    for (key, numbers) in &by_key {
        assert!(numbers.is_sorted_by(|a, b| a < b), "seed {seed}, key {key}: twice or out of order: {numbers:?}");
    }
    for number in stored {
        let (key, bad, expires) = rows[number as usize];
        let there = by_key.get(&key).is_some_and(|numbers| numbers.binary_search(&number).is_ok());
        assert!(there || bad || expires, "seed {seed}: row {number} was stored and is lost");
        assert!(!(there && bad));
    }
    let fates = hand.log.state.ended.values();
    assert!(fates.clone().all(|fate| matches!(fate, Fate::Done { .. } | Fate::Refused | Fate::Expired)), "seed {seed}");
    (recovered, reads)
}
