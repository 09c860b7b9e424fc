//! Tests of the queue over a producer, which answer its requests by hand.

use std::sync::mpsc::{Receiver, channel};

use super::header::HEADERS_BYTES_MAX;
use super::queue::{DeadLetterQueue, Route};
use forebay_kafka::producer::row_log::Fate;
use forebay_kafka::producer::testing::hand::{Hand, SINK, settings, topic, values};
use forebay_kafka::producer::testing::hand::{disk, known};
use forebay_kafka::producer::{AnsweredOn, Keep, Row, Settings, SinkSettings};
use forebay_kafka::types::{Outcome, ProduceBatch, ProduceRequest, ProduceResult, Run, SinkId, Ticket, TopicMetadata};
use forebay_record::compression::Codec;
use forebay_service::service::dead_letters::Letter;

const DEAD: SinkId = SinkId(1);

/// A producer in the hand, its dead letters, and a file for each sink.
struct Office {
    hand: Hand,
    queue: DeadLetterQueue,
    files: Vec<Receiver<Letter>>,
    routes: Vec<Option<Route>>,
}

impl Office {
    fn new(hand: Hand, routes: Vec<Option<Route>>) -> Self {
        let (to, files): (Vec<_>, Vec<_>) = routes.iter().map(|_| channel()).unzip();
        let with_file = |index: usize| routes.iter().flatten().any(|route| route.index == index && route.file);
        let to = to.into_iter().enumerate().map(|(index, to)| with_file(index).then_some(to)).collect();
        Self { hand, queue: DeadLetterQueue::new(0, vec![routes.clone()], to), files, routes }
    }

    /// Polls as the shard does: rejected rows to letters, the producer's turn, its answers.
    fn poll(&mut self) -> Vec<ProduceRequest> {
        self.forward();
        let requests = self.hand.poll();
        self.settle();
        requests
    }

    fn forward(&mut self) {
        let at = (self.hand.now, self.hand.wall());
        let mut line = |_: &Route, row: &forebay_kafka::producer::RejectedRow<'_>, _: Option<Ticket>| {
            row.value.unwrap_or_default().to_vec()
        };
        self.queue.forward(0, &mut self.hand.producer, at, &mut line);
        self.answers();
    }

    fn settle(&mut self) {
        let queue = &mut self.queue;
        self.hand.done.retain(|(run, outcome)| !queue.answered(*run, *outcome));
        self.queue.settle(&mut self.hand.producer);
        self.answers();
    }

    fn answers(&mut self) {
        let done = &mut self.hand.done;
        self.queue.drain_answers(|(ticket, outcome)| {
            done.push((Run { session: ticket.session, first: ticket.number, count: 1 }, outcome));
        });
    }

    fn answer(&mut self, request: ProduceRequest, error: i16) {
        self.hand.answer_and_drop(request, error);
        self.settle();
    }

    /// Answers letters with 0 and everything else with this code.
    fn reject(&mut self, request: ProduceRequest, error: i16) {
        let result = |batch: &ProduceBatch| ProduceResult {
            topic: batch.topic.clone(),
            partition: batch.partition,
            error: if batch.topic.starts_with("dead") { 0 } else { error },
            base_offset: -1,
        };
        let (id, results) = (request.id, request.batches.iter().map(result).collect::<Vec<_>>());
        drop(request);
        self.hand.produced(id, &results);
        self.settle();
    }

    /// The letters in a file's queue, as text.
    fn in_file(&self, index: usize) -> Vec<String> {
        self.files[index].try_iter().map(|letter| String::from_utf8(letter.line).unwrap()).collect()
    }

    fn written(&mut self, index: usize, count: u32) {
        self.queue.written(index, count);
        self.settle();
    }

    fn ledger(&self) {
        for sink in (0..self.routes.len()).map(|sink| SinkId(sink as u16)) {
            let stats = self.hand.producer.stats(sink);
            let settled = stats.delivered + stats.refused + stats.expired + stats.handed_over;
            assert_eq!(stats.appended, settled + stats.buffered_rows, "{sink:?}: {stats:?}");
        }
        let most = self.hand.producer.buffer_bytes_max() + 2 * 16 * 1024;
        // A split that has waited long goes beyond the bound, one at a time.
        assert!(self.hand.producer.memory_bytes() <= most, "{} of {most}", self.hand.producer.memory_bytes());
    }

    /// Asks and answers until nothing is left: every row of "t" is refused, every dead letter taken.
    fn until_empty(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.hand.producer.on_metadata(&[topic("dead", &[0])], self.hand.now);
            for request in self.poll() {
                self.reject(request, 87);
                self.ledger();
            }
            if self.hand.producer.buffered_rows() == 0 {
                assert_eq!(self.queue.in_flight(), 0);
                return;
            }
            self.hand.wait_ms(1_000);
        }
        panic!("rows stay: {:?} {:?}", self.hand.producer.stats(SINK), self.hand.producer.stats(DEAD));
    }
}

fn route(index: usize, topic: Option<(SinkId, &str)>, file: bool) -> Option<Route> {
    let topic = topic.map(|(sink, name)| (sink, name.to_owned()));
    Some(Route { index, sink: "s".to_owned(), topic, file, of_letters: false })
}

fn of_letters(of: &SinkSettings) -> SinkSettings {
    SinkSettings {
        fixed_topic: true,
        reserved: true,
        keep_rejected: false,
        keep: Keep::Memory,
        answered_on: AnsweredOn::Replicated,
        record_bytes_max: of.record_bytes_max + HEADERS_BYTES_MAX,
        ..of.clone()
    }
}

/// One sink with a dead-letter topic, and the least memory possible.
fn with_topic(compression: Codec) -> (Settings, Vec<Option<Route>>) {
    let sink = SinkSettings { compression, keep_rejected: true, ..settings().sinks.remove(0) };
    let sinks = vec![sink.clone(), of_letters(&sink)];
    (Settings { buffer_bytes: 0, sinks, ..settings() }, vec![route(0, Some((DEAD, "dead")), false), None])
}

fn with_file(mut settings: Settings) -> (Settings, Vec<Option<Route>>) {
    settings.sinks[0].keep_rejected = true;
    (settings, vec![route(0, None, true)])
}

#[test]
fn they_leave_when_the_memory_is_full_of_what_they_stand_for() {
    for codec in [Codec::None, Codec::Lz4] {
        let (settings, routes) = with_topic(codec);
        let mut office = Office::new(Hand::new(settings), routes);
        let now = office.hand.now;
        office.hand.producer.on_metadata(&[topic("t", &[0, 0, 0]), topic("dead", &[0])], now);
        for (rows, len) in [(0, 10), (0, 8_000), (7, 3_000)] {
            let before = office.hand.number;
            for _ in 0..if rows == 0 { u32::MAX } else { rows } {
                if !office.hand.producer.has_room(len + 200) {
                    break;
                }
                let key = office.hand.number.to_string();
                office.hand.append_value("t", Some(&key), &vec![b'v'; len]);
            }
            for request in office.poll() {
                office.answer(request, 87);
            }
            for (token, id) in [(0, 7), (1, 8)] {
                office.hand.producer.on_producer_id(token, id, 0);
            }
            let now = office.hand.now;
            office.hand.producer.on_metadata(&[topic("t", &[0, 0, 0])], now);
            office.hand.done.clear();
            // In the first round the dead-letter topic is not known for a while.
            for _ in 0..if before == 0 { 50 } else { 0 } {
                for request in office.poll() {
                    office.answer(request, 87);
                    office.ledger();
                }
                office.hand.wait_ms(100);
            }
            office.until_empty(10_000);
            let lettered = office.hand.done.iter().filter(|(_, outcome)| *outcome == Outcome::DeadLettered);
            let lettered = lettered.map(|(run, _)| run.count).sum::<u32>();
            assert_eq!(lettered, office.hand.number - before, "{codec:?} {len}");
        }
        let (own, letters) = (office.hand.stats(), *office.hand.producer.stats(DEAD));
        assert_eq!((own.handed_over, own.refused), (own.appended, 0));
        assert_eq!(letters.delivered, own.appended);
    }
}

#[test]
fn rows_without_a_partition_go_there_as_well() {
    let (settings, routes) = with_topic(Codec::None);
    let mut office = Office::new(Hand::new(settings), routes);
    for _ in 0..3 {
        office.hand.append("secret", None);
    }
    let forbidden = TopicMetadata { name: "secret".into(), error: 29, ..Default::default() };
    let now = office.hand.now;
    office.hand.producer.on_metadata(&[forbidden], now);
    let _ = office.poll();
    office.hand.producer.on_producer_id(1, 8, 0);
    office.until_empty(10);
    assert_eq!(office.hand.done.len(), 3, "{:?}", office.hand.done);
    assert!(office.hand.done.iter().all(|(_, outcome)| *outcome == Outcome::DeadLettered));
}

/// The row is held, in memory and in the ledger, until its line is on the disk.
#[test]
fn a_row_for_the_file_is_held_until_it_is_written() {
    let (mut settings, routes) = with_file(settings());
    settings.sinks[0].compression = Codec::Zstd;
    let mut office = Office::new(Hand::proven(settings), routes);
    (0..3).for_each(|_| office.hand.append("t", Some("k")));
    let request = office.hand.one();
    office.answer(request, 29);
    let held = office.hand.producer.buffered_bytes();
    office.forward();
    assert_eq!(office.in_file(0), ["row 1", "row 2", "row 3"]);
    office.written(0, 2);
    assert_eq!((office.hand.stats().buffered_rows, office.hand.stats().handed_over), (1, 2));
    assert_eq!(office.hand.producer.buffered_bytes(), held, "the batch holds one row still");
    office.written(0, 1);
    let stats = office.hand.stats();
    assert_eq!((stats.buffered_rows, stats.buffered_bytes, stats.handed_over, stats.refused), (0, 0, 3, 0));
    assert!(office.hand.producer.buffered_bytes() < held);
    let dead = office.hand.done.iter().filter(|(_, outcome)| *outcome == Outcome::DeadLettered);
    assert_eq!(dead.map(|(run, _)| run.first).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(office.queue.totals(0).in_file, 3);
}

/// Letters that a file's queue does not take wait in the producer, and hold up no other sink.
#[test]
fn a_file_that_takes_nothing_holds_up_no_other_sinks_dead_letters() {
    let sink = || SinkSettings { keep_rejected: true, ..settings().sinks.remove(0) };
    let hand = Hand::new(Settings { sinks: vec![sink(), sink()], ..settings() });
    let mut office = Office::new(hand, vec![route(0, None, true), route(1, None, true)]);
    // Messages that the first sink did not take fill its file's queue.
    while office.queue.has_room(0) {
        office.queue.message_to_file(0, None, b"m".to_vec());
    }
    let full = office.in_file(0).len() as u32;
    let topics = [topic("t", &[0]), topic("u", &[0])];
    let now = office.hand.now;
    office.hand.producer.on_metadata(&topics, now);
    office.hand.producer.on_producer_id(0, 7, 0);
    office.hand.producer.on_producer_id(1, 8, 0);
    for round in 0..2 {
        for (sink, topic) in [(SINK, "t"), (SinkId(1), "u")] {
            let value = format!("{topic} {round}");
            let row = Row {
                key: None,
                value: Some(value.as_bytes()),
                headers: std::iter::empty(),
                timestamp: office.hand.wall(),
            };
            assert!(office.hand.producer.has_room(200));
            office.hand.producer.append(sink, topic, row, None, office.hand.now);
        }
        let mut requests = office.hand.poll();
        office.hand.producer.on_metadata(&topics, now);
        requests.append(&mut office.hand.poll());
        requests.into_iter().for_each(|request| office.answer(request, 44));
    }
    office.forward();
    assert_eq!((office.in_file(0), office.in_file(1)), (vec![], vec!["u 0".to_owned(), "u 1".to_owned()]));
    office.written(0, full);
    office.forward();
    assert_eq!(office.in_file(0), ["t 0", "t 1"], "in their order");
    office.written(0, 2);
    office.written(1, 2);
    assert_eq!(office.hand.producer.buffered_rows(), 0);
    assert_eq!(office.queue.totals(0).messages_safe, u64::from(full));
}

/// The dead-letter topic of one sink never appears, and the rows that wait for it fill the memory.
#[test]
fn what_waits_for_one_sinks_dead_letters_holds_up_no_other_sink() {
    let (mut settings, mut routes) = with_topic(Codec::None);
    settings.sinks.push(SinkSettings { keep_rejected: false, ..settings.sinks[0].clone() });
    routes.push(None);
    let other = SinkId(2);
    let mut office = Office::new(Hand::new(settings), routes);
    let topics = [topic("t", &[0]), topic("u", &[0])];
    let append = |hand: &mut Hand| {
        let value = [b'v'; 500];
        let row = Row { key: None, value: Some(&value), headers: std::iter::empty(), timestamp: hand.wall() };
        hand.producer.append(other, "u", row, None, hand.now);
    };
    office.hand.append("t", Some("k"));
    append(&mut office.hand);
    office.poll();
    for (token, id) in [(0, 7), (1, 8), (2, 9)] {
        office.hand.producer.on_producer_id(token, id, 0);
    }
    let now = office.hand.now;
    office.hand.producer.on_metadata(&topics, now);
    for request in office.poll() {
        office.answer(request, 87);
    }
    for len in [8_000, 3_000, 10] {
        while office.hand.producer.has_room(len + 200) {
            office.hand.append_value("t", Some("k"), &vec![b'v'; len]);
        }
    }
    let mut rows = 1;
    while office.hand.producer.memory_bytes() <= office.hand.producer.buffer_bytes_max() {
        append(&mut office.hand);
        rows += 1;
    }
    for _ in 0..1_000 {
        let now = office.hand.now;
        office.hand.producer.on_metadata(&topics, now);
        for request in office.poll() {
            office.answer(request, 87);
        }
        office.hand.wait_ms(1_000);
    }
    assert!(office.hand.stats().buffered_rows > 0, "these wait");
    let stats = office.hand.producer.stats(other);
    assert_eq!((stats.refused, stats.buffered_rows), (rows, 0));
    assert!(stats.splits > 0);
}

/// Six sinks, each with a dead-letter topic, and as little memory as there can be.
#[test]
fn dead_letters_of_many_sinks_at_once_stay_below_the_bound() {
    let own = SinkSettings { keep_rejected: true, ..settings().sinks.remove(0) };
    let sinks = (0..12).map(|n| if n < 6 { own.clone() } else { of_letters(&own) }).collect();
    let names: Vec<_> = (0..6).map(|n| format!("dead-{n}")).collect();
    let routes = (0..6).map(|n| route(n, Some((SinkId(6 + n as u16), &names[n])), false));
    let routes = routes.chain((0..6).map(|_| None)).collect();
    let mut office = Office::new(Hand::new(Settings { buffer_bytes: 0, sinks, ..settings() }), routes);
    let topics: Vec<_> = (0..6).map(|n| topic(&format!("t{n}"), &[0])).collect();
    let mut taken = 0;
    'full: loop {
        for n in 0..6 {
            if !office.hand.producer.has_room(8_100) {
                break 'full;
            }
            let value = vec![b'v'; 8_000];
            let row =
                Row { key: None, value: Some(&value), headers: std::iter::empty(), timestamp: office.hand.wall() };
            office.hand.producer.append(SinkId(n), &format!("t{n}"), row, None, office.hand.now);
            taken += 1;
        }
    }
    (0..12).for_each(|token| office.hand.producer.on_producer_id(token, 7 + token as i64, 0));
    for step in 0..400 {
        let now = office.hand.now;
        office.hand.producer.on_metadata(&topics, now);
        if step > 50 {
            let dead: Vec<_> = names.iter().map(|name| topic(name, &[0])).collect();
            office.hand.producer.on_metadata(&dead, now);
        }
        for request in office.poll() {
            office.reject(request, 44);
        }
        assert!(office.hand.producer.buffered_bytes() <= office.hand.producer.buffer_bytes_max(), "step {step}");
        // Room for the rewriting of a batch, whatever else there is.
        let left = office.hand.producer.buffer_bytes_max() - office.hand.producer.buffered_bytes();
        assert!(left >= 2 * 16 * 1024, "step {step}: {left} bytes are left");
        office.hand.wait_ms(100);
    }
    assert_eq!(office.hand.producer.buffered_rows(), 0, "{taken} rows");
    let handed_over: u64 = (0..6).map(|n| office.hand.producer.stats(SinkId(n)).handed_over).sum();
    assert_eq!(handed_over, taken);
    assert!(office.hand.done.iter().all(|(_, outcome)| *outcome == Outcome::DeadLettered));
}

#[test]
fn a_row_of_the_log_ends_when_its_letter_is_safe_and_not_before() {
    let mut settings = disk();
    settings.sinks[0].keep_rejected = true;
    settings.sinks.push(of_letters(&settings.sinks[0]));
    settings.buffer_bytes = 4 << 20;
    let mut office = Office::new(known(settings), vec![route(0, Some((DEAD, "dead")), false), None]);
    office.hand.producer.on_producer_id(1, 9, 0);
    let request = office.hand.poll_synced().remove(0);
    office.answer(request, 87);
    office.poll();
    let log = &office.hand.log.state;
    assert_eq!((log.live.len(), log.cuts.len()), (1, 0), "its cut is void, and it is alive");
    let now = office.hand.now;
    office.hand.producer.on_metadata(&[topic("dead", &[0])], now);
    let letter = office.poll().remove(0);
    assert_eq!(&*letter.batches[0].topic, "dead");
    assert_eq!(office.hand.log.state.live.len(), 1);
    office.answer(letter, 0);
    office.poll();
    assert!(office.hand.log.state.live.is_empty());
    assert_eq!(office.hand.log.state.ended.values().copied().collect::<Vec<_>>(), [Fate::DeadLettered]);
}

/// The row ends also when its letter comes after that of a message, which is in no log.
#[test]
fn a_row_of_the_log_ends_when_it_is_in_the_file() {
    let (settings, routes) = with_file(disk());
    let mut office = Office::new(known(settings), routes);
    let request = office.hand.poll_synced().remove(0);
    office.answer(request, 87);
    office.queue.message_to_file(0, None, b"m".to_vec());
    office.forward();
    office.written(0, 1);
    office.poll();
    assert_eq!(office.hand.log.state.live.len(), 1, "the message is first");
    office.written(0, 1);
    office.poll();
    assert_eq!(office.hand.log.state.ended.values().copied().collect::<Vec<_>>(), [Fate::DeadLettered]);
    let (totals, stats) = (office.queue.totals(0), office.hand.stats());
    assert_eq!((totals.in_file, totals.messages_in_flight(), stats.handed_over, stats.buffered_rows), (2, 0, 1, 0));
}

#[test]
fn what_the_dead_letter_topic_rejects_goes_to_the_file_and_then_all_of_it_ends() {
    let (mut settings, mut routes) = with_topic(Codec::None);
    settings.sinks[1].keep_rejected = true;
    routes[0] = route(0, Some((DEAD, "dead")), true);
    routes[1] = Some(Route { of_letters: true, topic: None, ..routes[0].clone().unwrap() });
    let mut office = Office::new(Hand::proven(settings), routes);
    office.hand.append("t", Some("k"));
    let request = office.hand.one();
    office.answer(request, 87);
    office.poll();
    let now = office.hand.now;
    office.hand.producer.on_metadata(&[topic("dead", &[0])], now);
    office.hand.producer.on_producer_id(1, 8, 0);
    let letter = office.poll().remove(0);
    office.answer(letter, 29);
    office.forward();
    assert_eq!(office.in_file(0), ["row 1"]);
    assert_eq!((office.hand.stats().buffered_rows, office.queue.in_flight()), (1, 2));
    office.written(0, 1);
    assert_eq!((office.hand.stats().handed_over, office.queue.in_flight()), (1, 0));
    assert_eq!(office.hand.producer.buffered_rows(), 0);
    assert_eq!(office.hand.done.last().map(|(run, outcome)| (run.first, *outcome)), Some((1, Outcome::DeadLettered)));
}

/// Letters of these rows are on their way when the process stops: they are rows of their sink, and refused again.
#[test]
fn rows_whose_letters_are_not_safe_are_saved() {
    let mut settings = disk();
    settings.sinks[0].keep = Keep::HybridSaved;
    settings.sinks[0].answered_on = AnsweredOn::Append;
    settings.sinks[0].linger = std::time::Duration::from_millis(1);
    settings.sinks[0].spill_after = usize::MAX;
    let (settings, routes) = with_file(settings);
    let mut office = Office::new(known(settings.clone()), routes);
    (0..4).for_each(|_| office.hand.append("t", None));
    office.hand.wait_ms(2);
    let request = office.hand.one();
    assert_eq!(values(&request).len(), 5);
    office.answer(request, 44);
    office.forward();
    office.written(0, 2);
    assert_eq!(office.hand.producer.unwritten_rows(SINK), 3);
    let mut hand = office.hand;
    for takes in 0..3 {
        hand.log.takes = Some(takes % 2);
        hand.producer.save(&mut hand.log);
    }
    hand.log.takes = None;
    assert!(hand.producer.save(&mut hand.log));
    hand.log.sync();
    let mut hand = hand.killed(settings, 8);
    hand.poll();
    hand.producer.on_metadata(&[topic("t", &[0])], hand.now);
    assert_eq!((hand.stats().recovered, hand.producer.unwritten_rows(SINK)), (3, 0));
    hand.wait_ms(2);
    let mut sent = Vec::new();
    (0..5).for_each(|_| sent.extend(hand.poll_synced().iter().flat_map(values)));
    assert_eq!(sent, ["row 2", "row 3", "row 4"]);
}
