//! Single steps of a replica and of taking a log over.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::parts::Memory;
use crate::replica::format::{Key, Term};
use crate::replica::queue::Queue;
use crate::replica::testing::Partition;
use crate::replica::{
    Answer, BATCH_BYTES_MAX, Batch, Lost, Names, Outcome, REQUEST, Replica, Step, TakeOver, TakeOverError, Taken, Wire,
};
use forebay_kafka::types::{ClientEvent, NodeId, ProduceResult, TopicMetadata};
use forebay_record::{Stamp, stamp};
use forebay_runtime::seam::Monotonic;
use forebay_spool::{HEADER_BYTES, Header};

const NOW: Monotonic = Monotonic(1_000_000_000);

fn names() -> Names {
    Names { topic: "t".to_owned(), topic_id: 7, partition: 3, instance: "a".to_owned() }
}

/// Takes a partition over in one go.
fn taken_into(kafka: &mut Partition, memory: &Memory) -> Result<Taken, TakeOverError> {
    let mut taking = TakeOver::new(names(), memory.clone(), 0);
    loop {
        match taking.step() {
            Step::Identify => {
                let (id, epoch) = kafka.identify();
                taking.identified(id, epoch);
            }
            Step::Write(bytes) => {
                let (error, offset) = kafka.append(&bytes, NOW);
                taking.written(error, offset)?;
            }
            Step::Read(from) => taking.read(&kafka.fetch(from, 3))?,
            Step::Done => return taking.finish(),
        }
    }
}

fn taken(kafka: &mut Partition) -> (Replica, Memory) {
    let memory = Memory::default();
    let taken = taken_into(kafka, &memory).expect("taken over");
    (Replica::new(taken, 1), memory)
}

/// Sends everything that is due, and returns the outcomes.
fn settle(replica: &mut Replica, kafka: &mut Partition, now: Monotonic) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while let Some(Batch { id, bytes, .. }) = replica.next_batch(now) {
        assert!(bytes.len() <= BATCH_BYTES_MAX, "{} bytes", bytes.len());
        let (error, base_offset) = kafka.append(&bytes, now);
        outcomes.push(replica.answered(id, Answer::Produced { error, base_offset }, now));
    }
    outcomes
}

#[test]
fn keys_and_terms_come_back() {
    let keys = [Key::Data { term: 1, segment: 2, at: u64::MAX }, Key::Note, Key::Beat, Key::Term { producer_id: 9 }];
    for key in keys {
        assert_eq!(Key::decode(&key.encode()), Some(key));
        let longer = [&key.encode()[..], &[0]].concat();
        assert_eq!(Key::decode(&longer), None, "{key:?}");
    }
    assert_eq!(Key::decode(b"FBz"), None);
    assert_eq!(Key::decode(b"client"), None);
    let term = Term { closed: false, epoch: 5, term: 6, instance: "a".to_owned() };
    assert_eq!(Term::decode(&term.encode()), Ok(term.clone()));
    let other = [&[2][..], &term.encode()[1..]].concat();
    assert_eq!(Term::decode(&other), Err(2));
}

#[test]
fn a_group_of_any_size_is_synced_when_its_last_batch_is_acknowledged_and_comes_back() {
    let mut kafka = Partition::default();
    let (mut replica, _) = taken(&mut kafka);
    let large: Vec<u8> = (0..2_500_000u32).map(|at| at as u8).collect();
    replica.append(4, 0, b"head");
    replica.append(4, 4, &large);
    replica.sync(8);
    replica.write_note(b"note");
    let Some(Batch { id, bytes, .. }) = replica.next_batch(NOW) else { panic!("nothing to send") };
    assert!(replica.next_batch(NOW).is_none(), "one batch is under way");
    let (error, base_offset) = kafka.append(&bytes, NOW);
    assert_eq!(replica.answered(id, Answer::Produced { error, base_offset }, NOW), Outcome::Nothing);
    let outcomes = settle(&mut replica, &mut kafka, NOW);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Outcome::Synced(8)).count(), 1, "{outcomes:?}");
    assert_eq!(replica.numbers().waiting_bytes, 0);
    assert_eq!(replica.held().1, 4);

    let (next, memory) = taken(&mut kafka);
    assert_eq!(memory.files.borrow()[&4], [&b"head"[..], &large].concat());
    assert_eq!(memory.note.borrow().as_deref(), Some(&b"note"[..]));
    assert_eq!((next.numbers().term, next.held()), (2, (1, 4)));
    // The earlier owner has lost the log, and reports nothing more.
    replica.append(4, 9_000_000, b"more");
    replica.sync(9);
    assert_eq!(settle(&mut replica, &mut kafka, NOW), [Outcome::Lost(Lost::Fenced(47))]);
    assert_eq!(replica.due(), Monotonic::NEVER);
    assert_eq!(replica.lost(), Some(Lost::Fenced(47)));
}

#[test]
fn a_batch_without_a_good_answer_is_sent_again_as_it_was() {
    let mut kafka = Partition::default();
    let (mut replica, _) = taken(&mut kafka);
    replica.append(1, 0, b"x");
    replica.sync(1);
    let first = replica.next_batch(NOW).expect("a batch");
    // The batch is in the log, and its answer is lost. Later records must not be in the batch that is sent again.
    kafka.append(&first.bytes, NOW);
    replica.write_note(b"later");
    let Outcome::Retry(at) = replica.answered(first.id, Answer::None, NOW) else { panic!("sent again") };
    assert!(at > NOW && replica.due() == at && replica.next_batch(NOW).is_none());
    let again = replica.next_batch(at).expect("the same");
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(replica.answered(first.id, Answer::Produced { error: 47, base_offset: -1 }, at), Outcome::Nothing);
    let mut id = again.id;
    for error in [5, 6, 7, 10, 19, 20, 29, 56, 100] {
        let outcome = replica.answered(id, Answer::Produced { error, base_offset: -1 }, at);
        assert!(matches!(outcome, Outcome::Retry(_)), "error {error}: {outcome:?}");
        assert_eq!(replica.numbers().last_error, Some(error));
        id = replica.next_batch(replica.due()).expect("the same").id;
    }
    replica.answered(id, Answer::None, at);
    let last = replica.next_batch(replica.due()).expect("the same");
    let (error, base_offset) = kafka.append(&last.bytes, NOW);
    let outcome = replica.answered(last.id, Answer::Produced { error, base_offset }, at);
    assert_eq!(outcome, Outcome::Synced(1), "Kafka knows the batch");
}

/// An election takes seconds, and the waits grow. The new leader gets the batch as soon as it is known.
#[test]
fn a_new_leader_is_sent_a_batch_that_waits() {
    let (mut replica, _) = taken(&mut Partition::default());
    let leader = |leader: i32| topic(7, [None, None, None, Some(leader)]);
    replica.metadata(&leader(5));
    replica.append(1, 0, b"x");
    let mut now = NOW;
    for _ in 0..9 {
        let batch = replica.next_batch(now).expect("a batch");
        replica.answered(batch.id, Answer::Produced { error: 6, base_offset: -1 }, now);
        replica.metadata(&leader(5));
        assert!(replica.due() > now, "the same leader is not asked again at once");
        now = replica.due();
    }
    let batch = replica.next_batch(now).expect("a batch");
    replica.answered(batch.id, Answer::Produced { error: 6, base_offset: -1 }, now);
    assert!(replica.due() > now.after(Duration::from_secs(1)));
    replica.metadata(&leader(6));
    let batch = replica.next_batch(now).expect("it is due");
    replica.answered(batch.id, Answer::Produced { error: 6, base_offset: -1 }, now);
    assert!(replica.due() < now.after(Duration::from_millis(200)), "the waits begin with the first one");
}

#[test]
fn a_log_that_was_cut_is_lost() {
    let lost = |answer| {
        let mut kafka = Partition::default();
        let (mut replica, _) = taken(&mut kafka);
        replica.append(1, 0, b"x");
        let batch = replica.next_batch(NOW).expect("a batch");
        replica.answered(batch.id, answer, NOW)
    };
    for error in [45, 46, 59] {
        assert_eq!(lost(Answer::Produced { error, base_offset: -1 }), Outcome::Lost(Lost::Cut(error)));
    }
    assert_eq!(lost(Answer::Produced { error: 90, base_offset: -1 }), Outcome::Lost(Lost::Fenced(90)));
    // The fence was at offset 0, the term at 1.
    let before = Outcome::Lost(Lost::Before { base_offset: 1, acknowledged: 1 });
    assert_eq!(lost(Answer::Produced { error: 0, base_offset: 1 }), before);
    assert_eq!(lost(Answer::Produced { error: 0, base_offset: 2 }), Outcome::Nothing);
    let between = Outcome::Lost(Lost::Between { base_offset: 3, acknowledged: 1 });
    assert_eq!(lost(Answer::Produced { error: 0, base_offset: 3 }), between);
}

#[test]
fn an_owner_whose_term_was_cut_away_ends_though_its_successor_has_not_closed_it() {
    let mut kafka = Partition::default();
    let (mut first, _) = taken(&mut kafka);
    kafka.cut(usize::MAX);
    kafka.forget_identity();
    let (mut second, _) = taken(&mut kafka);
    second.append(1, 0, b"second");
    assert_eq!(settle(&mut second, &mut kafka, NOW), [Outcome::Nothing]);
    // Nothing in the log names the first owner, so Kafka takes its batch.
    first.append(1, 0, b"first");
    first.sync(1);
    let between = |base_offset, acknowledged| [Outcome::Lost(Lost::Between { base_offset, acknowledged })];
    assert_eq!(settle(&mut first, &mut kafka, NOW), between(3, 1));
    assert_eq!(first.lost(), Some(Lost::Between { base_offset: 3, acknowledged: 1 }));
    // The second one finds out as well, and the next owner closes both.
    second.append(1, 6, b"more");
    assert_eq!(settle(&mut second, &mut kafka, NOW), between(4, 2));
    let (_, memory) = taken(&mut kafka);
    assert_eq!(memory.files.borrow()[&1], b"secondmore");
}

#[test]
fn something_is_written_each_minute_and_silence_ends_the_ownership() {
    let mut kafka = Partition::default();
    let (mut replica, _) = taken(&mut kafka);
    assert_eq!(settle(&mut replica, &mut kafka, NOW).len(), 1, "the first turn");
    let (end, due) = (kafka.end, replica.due());
    assert_eq!(due.since(NOW), Duration::from_secs(60));
    assert!(replica.next_batch(NOW.after(Duration::from_secs(59))).is_none());
    assert_eq!(settle(&mut replica, &mut kafka, due), [Outcome::Nothing]);
    assert_eq!(kafka.end, end + 1);
    // After a day without an answer the owner may have been replaced, and Kafka may not know it any more.
    let batch = replica.next_batch(due.after(Duration::from_secs(60))).expect("a beat");
    let late = due.after(Duration::from_secs(21 * 3600));
    replica.answered(batch.id, Answer::None, late);
    assert!(replica.next_batch(late.after(Duration::from_secs(5))).is_none());
    assert_eq!(replica.lost(), Some(Lost::Silent));

    // A frozen process receives the answer of a batch that it had sent before.
    let (mut replica, _) = taken(&mut kafka);
    replica.append(1, 0, b"x");
    replica.sync(1);
    let batch = replica.next_batch(NOW).expect("a batch");
    let (error, base_offset) = kafka.append(&batch.bytes, NOW);
    assert_eq!(replica.answered(batch.id, Answer::Produced { error, base_offset }, late), Outcome::Synced(1));
    assert!(replica.next_batch(late).is_none());
    assert_eq!(replica.lost(), Some(Lost::Silent));
}

#[test]
fn a_freed_segment_is_gone_and_half_of_one_too() {
    let mut kafka = Partition::default();
    let (mut replica, _) = taken(&mut kafka);
    for segment in [1, 2] {
        replica.append(segment, 0, b"head");
        replica.append(segment, 4, b"rest");
    }
    settle(&mut replica, &mut kafka, NOW);
    replica.free(1);
    replica.free(1);
    settle(&mut replica, &mut kafka, NOW);
    let (replica, memory) = taken(&mut kafka);
    assert_eq!(memory.files.borrow().keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(replica.held().1, 2);

    // Only the first tombstone arrived.
    let mut kafka = Partition::default();
    let (mut replica, _) = taken(&mut kafka);
    replica.append(1, 0, b"head");
    replica.append(1, 4, &vec![0; 900_000]);
    settle(&mut replica, &mut kafka, NOW);
    replica.write_note(&vec![0; 999_880]);
    replica.free(1);
    let batch = replica.next_batch(NOW).expect("the note and one tombstone");
    kafka.append(&batch.bytes, NOW);
    assert!(replica.numbers().waiting_records == 1, "{:?}", replica.numbers());
    let (mut next, memory) = taken(&mut kafka);
    assert!(memory.files.borrow().is_empty());
    assert_eq!(next.numbers().waiting_records, 1, "what is left of the segment is ended");
    settle(&mut next, &mut kafka, NOW);
    assert_eq!(taken(&mut kafka).0.numbers().waiting_records, 0);
}

#[test]
fn a_segment_is_as_long_as_its_header_says() {
    let header = Header {
        shard: 3,
        segment: 1,
        salt: 7,
        created_ms: 5,
        previous: u64::MAX,
        previous_end: 0,
        checkpoints: [(u64::MAX, 0); 2],
        bytes: 5000,
        features: 0,
        optional_features: 0,
        data_dir_id: 0,
    };
    let mut kafka = Partition::default();
    let (mut replica, _) = taken(&mut kafka);
    replica.append(1, 0, &header.encode());
    replica.append(1, HEADER_BYTES as u64, b"group");
    settle(&mut replica, &mut kafka, NOW);
    let (_, memory) = taken(&mut kafka);
    assert_eq!(memory.files.borrow()[&1].len(), 5000);
}

#[test]
fn what_another_owner_has_written_after_a_term_does_not_count_and_its_keys_are_mended() {
    let mut kafka = Partition::default();
    let (mut first, _) = taken(&mut kafka);
    first.append(1, 0, b"first");
    settle(&mut first, &mut kafka, NOW);
    let (mut second, _) = taken(&mut kafka);
    second.append(2, 0, b"second");
    settle(&mut second, &mut kafka, NOW);
    // Two days later Kafka knows neither, and the first thaws.
    let later = NOW.after(Duration::from_secs(48 * 3600));
    first.free(1);
    first.append(2, 0, b"first again");
    let batch = first.next_batch(NOW).expect("a batch");
    assert_eq!(kafka.append(&batch.bytes, later).0, 0);

    let memory = Memory::default();
    let taken = taken_into(&mut kafka, &memory).expect("taken over");
    assert_eq!(taken.read.passed_over, 1);
    let expected = BTreeMap::from([(1, b"first".to_vec()), (2, b"second".to_vec())]);
    assert_eq!(*memory.files.borrow(), expected);
    let mut third = Replica::new(taken, 1);
    settle(&mut third, &mut kafka, later);
    // The cleaner keeps what was mended.
    kafka.compact(kafka.end, later);
    let memory = Memory::default();
    taken_into(&mut kafka, &memory).expect("taken over");
    assert_eq!(*memory.files.borrow(), expected);
}

/// Fences, terms and beats are no data.
#[test]
fn a_take_over_says_how_long_before_it_data_was_written() {
    let mut kafka = Partition::default();
    let idle = |kafka: &mut Partition| taken_into(kafka, &Memory::default()).expect("taken over").idle;
    assert_eq!(idle(&mut kafka), None);
    let (mut first, _) = taken(&mut kafka);
    first.append(1, 0, b"data");
    settle(&mut first, &mut kafka, NOW.before(Duration::from_millis(500)));
    assert_eq!([idle(&mut kafka), idle(&mut kafka)], [Some(Duration::from_millis(500)); 2]);
}

#[test]
fn another_producer_id_is_closed_before_its_successor_reads() {
    let mut kafka = Partition::default();
    let (mut first, _) = taken(&mut kafka);
    kafka.forget_identity();
    let (second, _) = taken(&mut kafka);
    first.append(1, 0, b"late");
    first.sync(1);
    assert_eq!(settle(&mut first, &mut kafka, NOW), [Outcome::Lost(Lost::Fenced(47))]);
    assert_eq!(second.numbers().term, 2);
    // The producer ID is closed once: the next owner has nothing to close.
    let end = kafka.end;
    taken(&mut kafka);
    assert_eq!(kafka.end, end + 2, "a fence and a term");
}

#[test]
fn a_service_that_does_not_fence_is_refused() {
    let mut kafka = Partition::default();
    let mut taking = TakeOver::new(names(), Memory::default(), 0);
    let refused = loop {
        match taking.step() {
            Step::Identify => {
                let (id, epoch) = kafka.identify();
                taking.identified(id, epoch);
            }
            Step::Write(bytes) => {
                let (error, offset) = kafka.append(&bytes, NOW);
                // The service takes everything.
                let error = if error == 47 { 0 } else { error };
                if let Err(refused) = taking.written(error, offset) {
                    break refused;
                }
            }
            Step::Read(from) => taking.read(&kafka.fetch(from, 3)).expect("readable"),
            Step::Done => panic!("taken over"),
        }
    };
    assert!(matches!(refused, TakeOverError::NoFence(0)), "{refused}");
}

#[test]
fn a_topic_with_the_times_of_its_writers_is_refused() {
    let mut kafka = Partition::default();
    kafka.is_create_time = true;
    let refused = taken_into(&mut kafka, &Memory::default()).expect_err("refused");
    assert!(refused.to_string().contains("--add-config message.timestamp.type=LogAppendTime"), "{refused}");
}

#[test]
fn a_log_of_another_version_is_refused() {
    let mut kafka = Partition::default();
    let mut term = Term { closed: false, epoch: 1, term: 1, instance: "a".to_owned() }.encode();
    term[0] = 2;
    let mut queue = Queue::default();
    queue.put(Key::Term { producer_id: 9 }, Some(&term));
    let mut batch = queue.pop().expect("a batch").close(None);
    stamp(&mut batch, Stamp { producer_id: 9, epoch: 1, sequence: 0 });
    kafka.append(&batch, NOW);
    let refused = taken_into(&mut kafka, &Memory::default()).expect_err("refused");
    assert!(matches!(refused, TakeOverError::Version { offset: 0, version: 2 }), "{refused}");
}

/// A batch of one record.
fn written(key: Key, value: Option<&[u8]>, by: Stamp) -> Vec<u8> {
    let mut queue = Queue::default();
    queue.put(key, value);
    let mut batch = queue.pop().expect("a batch").close(None);
    stamp(&mut batch, by);
    batch
}

/// Another Kafka writer may write, and owns nothing: without a producer ID, idempotent, or in transactions.
#[test]
fn finding_q2_a_record_that_no_owner_wrote_is_passed_over_whatever_it_says() {
    let term = Term { closed: true, epoch: 1, term: 900, instance: "x".to_owned() }.encode();
    let values = [None, Some(&b""[..]), Some(b"F"), Some(&[2, 0, 0, 1][..]), Some(b"FB said by another"), Some(&term)];
    let terms = [1, -1, 77].map(|producer_id| Key::Term { producer_id });
    let keys = [terms[0], terms[1], terms[2], Key::Note, Key::Data { term: 1, segment: 1, at: 0 }];
    let writers = [(-1, -1, -1), (77, 0, 0), (78, 3, 0)];
    for (producer_id, epoch, sequence) in writers {
        for (key, value) in keys.iter().flat_map(|key| values.map(|value| (*key, value))) {
            let of = format!("{producer_id} {key:?} {value:?}");
            let foreign = written(key, value, Stamp { producer_id, epoch, sequence });
            if epoch <= 0 {
                let mut kafka = Partition::default();
                kafka.append(&foreign, NOW);
                let (_, memory) = taken(&mut kafka);
                assert!(memory.files.borrow().is_empty() && memory.note.borrow().is_none(), "{of}: before any owner");
            }
            let mut kafka = Partition::default();
            let (mut first, _) = taken(&mut kafka);
            first.append(1, 0, b"first");
            first.write_note(b"FB a note");
            settle(&mut first, &mut kafka, NOW);
            assert_eq!(kafka.append(&foreign, NOW).0, 0);
            for turn in 0..4 {
                let memory = Memory::default();
                let taken = taken_into(&mut kafka, &memory).unwrap_or_else(|why| panic!("{of}, start {turn}: {why}"));
                assert_eq!(*memory.files.borrow(), BTreeMap::from([(1, b"first".to_vec())]), "{of}, start {turn}");
                assert_eq!(memory.note.borrow().as_deref(), Some(&b"FB a note"[..]), "{of}, start {turn}");
                settle(&mut Replica::new(taken, 1), &mut kafka, NOW);
                if turn > 0 {
                    kafka.compact(kafka.end, NOW);
                }
            }
        }
    }
}

/// A foreign batch that cannot be unpacked, as one that grows to more than memory has, is no reason to stop. One of an owner is.
#[test]
fn finding_q2_a_batch_that_cannot_be_read_stops_only_if_an_owner_wrote_it() {
    for (producer_id, epoch, is_read) in [(-1, -1, true), (77, 0, true), (1, 1, false)] {
        let mut kafka = Partition::default();
        let mut batch = written(Key::Note, Some(b"a note"), Stamp { producer_id, epoch, sequence: 0 });
        let end = batch.len();
        batch[end - 16..].fill(0xff);
        stamp(&mut batch, Stamp { producer_id, epoch, sequence: 0 });
        kafka.append(&batch, NOW);
        let taken = taken_into(&mut kafka, &Memory::default());
        assert_eq!(taken.is_ok(), is_read, "{producer_id} {epoch}: {taken:?}");
        let refused = taken.err().map(|why| why.to_string()).unwrap_or_default();
        assert!(is_read || refused.contains("the batch at offset 0 cannot be read"), "{refused}");
    }
}

/// The owner's term of an earlier producer ID stays closed, though another writer has ended its key.
#[test]
fn finding_q2_a_term_that_was_closed_stays_closed() {
    let mut kafka = Partition::default();
    let (mut first, _) = taken(&mut kafka);
    first.append(1, 0, b"first");
    settle(&mut first, &mut kafka, NOW);
    kafka.forget_identity();
    let (mut second, _) = taken(&mut kafka);
    second.append(2, 0, b"second");
    settle(&mut second, &mut kafka, NOW);
    let end = written(Key::Term { producer_id: 1 }, None, Stamp { producer_id: -1, epoch: -1, sequence: -1 });
    kafka.append(&end, NOW);
    for turn in 0..3 {
        let memory = Memory::default();
        let taken = taken_into(&mut kafka, &memory).expect("taken over");
        let expected = BTreeMap::from([(1, b"first".to_vec()), (2, b"second".to_vec())]);
        assert_eq!(*memory.files.borrow(), expected, "start {turn}");
        let before = kafka.end;
        settle(&mut Replica::new(taken, 1), &mut kafka, NOW);
        assert_eq!(kafka.end - before, 1, "start {turn}: one record, mended or a beat");
    }
}

/// Three logs of which two have one leader, each with something to write.
fn three() -> [Replica; 3] {
    [1, 2, 3].map(|partition| {
        let (mut replica, _) = taken(&mut Partition::default());
        replica.partition = partition;
        replica.append(1, 0, b"x");
        replica.sync(partition.unsigned_abs().into());
        replica
    })
}

fn topic(id: u128, leaders: [Option<i32>; 4]) -> Vec<TopicMetadata> {
    let leaders = leaders.map(|leader| leader.map(NodeId)).to_vec();
    vec![TopicMetadata { name: Rc::from("t"), id, leaders, ..TopicMetadata::default() }]
}

#[test]
fn a_leader_has_one_request_with_the_batches_of_all_its_logs() {
    let (mut logs, mut wire) = (three(), Wire::default());
    assert!(wire.requests(logs.iter_mut(), NOW).is_empty(), "no leader is known");
    assert_eq!(wire.due(logs.iter()), Monotonic::NEVER);
    let leaders = topic(7, [None, Some(5), Some(6), Some(5)]);
    logs.iter_mut().for_each(|log| assert_eq!(log.metadata(&leaders), Outcome::Nothing));
    assert!(wire.due(logs.iter()) <= NOW);
    let mut requests = wire.requests(logs.iter_mut(), NOW);
    requests.sort_by_key(|request| request.node);
    let shown: Vec<(i32, Vec<i32>)> = requests
        .iter()
        .map(|request| (request.node.0, request.batches.iter().map(|batch| batch.partition).collect()))
        .collect();
    assert_eq!(shown, [(5, vec![1, 3]), (6, vec![2])]);
    assert!(requests.iter().all(|request| request.id & REQUEST != 0 && request.acks == -1));
    // Records appended meanwhile go with the next request.
    logs[1].append(1, 1, b"y");
    logs[2].append(1, 1, b"y");
    assert!(wire.requests(logs.iter_mut(), NOW).is_empty());
    assert_eq!(wire.due(logs.iter()), Monotonic::NEVER, "each leader is busy");

    // The term of each log is at offset 1.
    let result = |partition, error| ProduceResult { topic: Rc::from("t"), partition, error, base_offset: 2 };
    let produced = |id, results| ClientEvent::Produced { id, results, throttle_ms: 0 };
    assert!(wire.answers(&produced(5, vec![])).is_none(), "a producer's");
    // One log's batch has an answer, the other log's is sent again.
    let answers = wire.answers(&produced(requests[0].id, vec![result(1, 0)])).expect("its own");
    let outcomes: Vec<Outcome> = answers
        .into_iter()
        .map(|(partition, batch, answer)| {
            logs[usize::try_from(partition).expect("small") - 1].answered(batch, answer, NOW)
        })
        .collect();
    assert!(matches!(outcomes[..], [Outcome::Synced(1), Outcome::Retry(_)]), "{outcomes:?}");
    assert!(wire.answers(&produced(requests[0].id, vec![result(1, 0)])).expect("its own").is_empty(), "once");
    let failed = ClientEvent::ProduceFailed { id: requests[1].id, sent: true };
    let answers = wire.answers(&failed).expect("its own");
    assert_eq!(answers.len(), 1);
    assert!(matches!(answers[0], (2, _, Answer::None)));
    assert_eq!(logs[0].metadata(&topic(8, [None, Some(5), None, None])), Outcome::Lost(Lost::OtherTopic));
    assert_eq!(logs[0].lost(), Some(Lost::OtherTopic));
}

/// Logs that always have a large batch keep none from its turn.
#[test]
fn a_request_is_bounded_and_logs_take_turns() {
    let mut logs: Vec<Replica> = (0..16)
        .map(|partition| {
            let (mut replica, _) = taken(&mut Partition::default());
            (replica.partition, replica.leader) = (partition, Some(NodeId(1)));
            replica
        })
        .collect();
    let (mut wire, mut seen) = (Wire::default(), std::collections::BTreeSet::new());
    let mut at = 0;
    for _ in 0..3 {
        for log in &mut logs {
            log.append(1, at, &vec![7; 2_000_000]);
        }
        at += 2_000_000;
        let requests = wire.requests(logs.iter_mut(), NOW);
        let [request] = &requests[..] else { panic!("{} requests", requests.len()) };
        let bytes: usize = request.batches.iter().map(|batch| batch.bytes.len()).sum();
        assert!(bytes <= (8 << 20) + BATCH_BYTES_MAX, "{bytes}");
        seen.extend(request.batches.iter().map(|batch| batch.partition));
        let results = request.batches.iter().map(|batch| ProduceResult {
            topic: Rc::from("t"),
            partition: batch.partition,
            error: 0,
            base_offset: logs[usize::try_from(batch.partition).expect("small")].next_offset(),
        });
        let answers =
            wire.answers(&ClientEvent::Produced { id: request.id, results: results.collect(), throttle_ms: 0 });
        for (partition, batch, answer) in answers.expect("its own") {
            logs[usize::try_from(partition).expect("small")].answered(batch, answer, NOW);
        }
    }
    assert_eq!(seen.len(), 16, "{seen:?}");
}
