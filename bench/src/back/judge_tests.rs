//! Each kind of fault, injected into a correct run, must be found, and nothing else.

use super::super::ledger::{Fact, Member, fingerprint};
use super::*;

const MS: u64 = 1_000_000;
const PARTITIONS: u32 = 2;
const RECORDS: i64 = 40;
const BEGIN: i64 = 100;
const KEYS: [&str; 2] = ["c0/1", "c0/2"];
/// The delivery time of a record: one each 100 ms in each partition; acknowledged 10 ms later, and committed 20 ms after that.
fn at(offset: i64) -> u64 {
    (3_000 + 100 * (offset - BEGIN) as u64) * MS
}

fn log(name: &str) -> Log {
    let mut log = Log { name: name.to_owned(), window: 5, written: 0, partitions: Vec::new() };
    for (partition, key) in (0..PARTITIONS).zip(KEYS) {
        let fact = |number: i64| {
            let topic = log.topic(key, partition, BEGIN + number);
            let fingerprint = fingerprint(topic.as_bytes(), &number.to_le_bytes());
            Fact { key: key.to_owned(), number: number as u64, fingerprint }
        };
        let facts: Vec<Fact> = (0..RECORDS).map(fact).collect();
        log.written += facts.len() as u64;
        log.partitions.push((BEGIN, facts));
    }
    log
}

fn heard(log: &Log, index: usize, kept: bool) -> Heard {
    let copies = (BEGIN..BEGIN + RECORDS).flat_map(|offset| {
        (0..PARTITIONS).map(move |partition| Copy {
            partition,
            offset,
            qos: 1,
            dup: false,
            fingerprint: log.fact(partition, offset).unwrap().fingerprint,
            connection: 0,
            at_ns: at(offset),
            acknowledged_ns: Some(at(offset) + 10 * MS),
        })
    });
    let (name, filter) = (format!("s{index}"), format!("{}/#", log.name));
    Heard { name, log: index, filter, qos: 1, kept, copies: copies.collect(), ..Heard::default() }
}

/// A correct run: a clean subscriber (0), and one with a kept session (1).
fn right() -> Ledger {
    let logs = vec![log("clean"), log("kept")];
    let heard = vec![heard(&logs[0], 0, false), heard(&logs[1], 1, true)];
    let committed = |log: usize, number: i64| {
        let offsets = vec![BEGIN + number; PARTITIONS as usize];
        Sample { log, at_ns: at(BEGIN + number - 1) + 30 * MS, offsets }
    };
    let samples = (1..=RECORDS).flat_map(|number| [committed(0, number), committed(1, number)]).collect();
    Ledger { logs, heard, samples, members: Vec::new(), hurts: Vec::new() }
}

fn hurt(from_ns: u64, to_ns: u64) -> Hurt {
    Hurt { name: "kill9".to_owned(), from_ns, to_ns }
}

/// Judges, and expects faults of these kinds.
#[track_caller]
fn expect(ledger: &Ledger, kinds: &[&str]) -> Verdict {
    let verdict = judge(ledger);
    assert_eq!(verdict.faults.keys().map(String::as_str).collect::<Vec<_>>(), kinds, "{:?}", verdict.faults);
    verdict
}

/// The index of a record's copy.
fn copy_of(heard: &Heard, partition: u32, offset: i64) -> usize {
    heard.copies.iter().position(|copy| (copy.partition, copy.offset) == (partition, offset)).unwrap()
}

/// Adds a further copy of a record, at this time, on this connection.
fn again(ledger: &mut Ledger, subscriber: usize, offset: i64, at_ns: u64, connection: u32, dup: bool) {
    let heard = &mut ledger.heard[subscriber];
    let before = heard.copies[copy_of(heard, 0, offset)];
    let copy = Copy { at_ns, connection, dup, acknowledged_ns: Some(at_ns + MS), ..before };
    let place = heard.copies.iter().position(|copy| copy.at_ns > at_ns).unwrap_or(heard.copies.len());
    heard.copies.insert(place, copy);
}

#[test]
fn a_run_that_was_right_passes() {
    let verdict = expect(&right(), &[]);
    assert_eq!((verdict.counts["copies expected"], verdict.counts["records"]), (160, 160));
}

#[test]
fn a_missing_copy_is_found_for_each_subscriber() {
    for subscriber in [0, 1] {
        let mut ledger = right();
        let heard = &mut ledger.heard[subscriber];
        heard.copies.remove(copy_of(heard, 1, BEGIN + 7));
        // Records that a clean subscriber has not acknowledged may not be committed.
        let kinds = ["K1: missing", "K5: committed before it was acknowledged"];
        let verdict = expect(&ledger, &kinds[..2 - subscriber]);
        assert_eq!(verdict.faults["K1: missing"].count, 1);
    }
}

#[test]
fn only_what_its_filter_matches_is_expected_of_a_subscriber_and_may_come() {
    let mut ledger = right();
    ledger.heard[0].filter = "clean/c0/+/1/+".to_owned();
    expect(&ledger, &["K4: nobody asked for it"]);
    ledger.heard[0].copies.retain(|copy| copy.partition == 1);
    let verdict = expect(&ledger, &[]);
    assert_eq!(verdict.counts["copies expected"], 120);
}

#[test]
fn first_copies_out_of_order_are_found() {
    for subscriber in [0, 1] {
        let mut ledger = right();
        let heard = &mut ledger.heard[subscriber];
        let (a, b) = (copy_of(heard, 0, BEGIN + 3), copy_of(heard, 0, BEGIN + 4));
        heard.copies.swap(a, b);
        expect(&ledger, &["K2: order"]);
        // The message was for a session that has just ended, unless that session is kept.
        let heard = &mut ledger.heard[subscriber];
        heard.ends_ns.push(at(BEGIN + 3) - GIVEN_BACK_NS);
        heard.copies.iter_mut().for_each(|copy| copy.connection = 1);
        expect(&ledger, &["K2: order"][..subscriber]);
        ledger.heard[subscriber].ends_ns[0] -= 1;
        expect(&ledger, &["K2: order"]);
    }
}

#[test]
fn altered_and_invented_messages_are_found() {
    let mut ledger = right();
    ledger.heard[0].copies[3].fingerprint ^= 1;
    expect(&ledger, &["K4: altered"]);
    let mut ledger = right();
    ledger.heard[0].copies[3].qos = 0;
    expect(&ledger, &["K4: another QoS"]);
    for (partition, offset) in [(0, BEGIN - 1), (0, BEGIN + RECORDS), (PARTITIONS, BEGIN), (u32::MAX, -1)] {
        let mut ledger = right();
        let copy = Copy { partition, offset, ..ledger.heard[1].copies[0] };
        ledger.heard[1].copies.push(copy);
        expect(&ledger, &["K4: no record of Kafka"]);
    }
}

#[test]
fn nothing_comes_again_on_a_connection_without_a_fault() {
    let (mut ledger, late) = (right(), at(BEGIN + 5) + 5 * MS);
    again(&mut ledger, 1, BEGIN + 5, late, 0, false);
    let kinds = ["K3: again, and nothing had happened", "K3: more again than windows and commits allow"];
    expect(&ledger, &kinds);
    ledger.hurts.push(hurt(at(BEGIN + 5) - MS, at(BEGIN + 5)));
    expect(&ledger, &[]);
    // The fault is too long ago.
    ledger.hurts[0] = hurt(1, 2);
    let shift = 21 * SECOND_NS;
    for heard in &mut ledger.heard {
        heard.copies.iter_mut().for_each(|copy| {
            copy.at_ns += shift;
            copy.acknowledged_ns = copy.acknowledged_ns.map(|at_ns| at_ns + shift);
        });
    }
    ledger.samples.iter_mut().for_each(|sample| sample.at_ns += shift);
    expect(&ledger, &kinds[..1]);
}

#[test]
fn what_was_not_acknowledged_when_a_connection_ended_comes_again() {
    let mut ledger = right();
    let end_ns = at(BEGIN + 5) + 3 * MS;
    ledger.heard[1].ends_ns.push(end_ns);
    let index = copy_of(&ledger.heard[1], 0, BEGIN + 5);
    ledger.heard[1].copies[index].acknowledged_ns = None;
    again(&mut ledger, 1, BEGIN + 5, end_ns + 4 * MS, 1, true);
    expect(&ledger, &[]);
    // The subscriber had acknowledged it long before.
    ledger.heard[1].copies[index].acknowledged_ns = Some(MS);
    ledger.heard[1].ends_ns[0] = MS + ACKNOWLEDGED_NS + 1;
    expect(&ledger, &["K3: again, and nothing had happened"]);
}

#[test]
fn what_was_acknowledged_and_committed_never_comes_again() {
    for (subscriber, bound_ns) in [(0, OVER_NS), (1, OVER_KEPT_NS)] {
        for (beyond, kinds) in [(0, &[][..]), (1, &["K3: again, though acknowledged and committed"][..])] {
            let mut ledger = right();
            // Both are complete 30 ms after the delivery.
            let late = at(BEGIN) + 30 * MS + bound_ns + beyond;
            ledger.hurts = vec![hurt(late - 2, late - 2)];
            again(&mut ledger, subscriber, BEGIN, late, 0, false);
            expect(&ledger, kinds);
            // During a fault no time passes.
            let late = late + SECOND_NS;
            ledger.hurts = vec![hurt(late - 2 - SECOND_NS, late - 2)];
            ledger.heard[subscriber] = right().heard.remove(subscriber);
            again(&mut ledger, subscriber, BEGIN, late, 0, false);
            expect(&ledger, kinds);
        }
    }
}

#[test]
fn no_more_comes_again_than_windows_and_commits_allow() {
    // At the fault 20 records were delivered, and 18 are committed: 5 + 2 may come again.
    for (count, kinds) in [(7, &[][..]), (8, &["K3: more again than windows and commits allow"][..])] {
        let mut ledger = right();
        let kill_ns = at(BEGIN + 19) + MS;
        ledger.samples.retain(|sample| sample.at_ns > kill_ns || sample.offsets[0] <= BEGIN + 18);
        ledger.hurts = vec![hurt(kill_ns, kill_ns + MS)];
        for offset in BEGIN + 20 - count..BEGIN + 20 {
            again(&mut ledger, 0, offset, kill_ns + 2 * MS, 0, false);
        }
        expect(&ledger, kinds);
    }
}

#[test]
fn an_offset_above_what_a_clean_subscriber_has_acknowledged_is_found() {
    for (subscriber, kinds) in [(0, &["K5: committed before it was acknowledged"][..]), (1, &[][..])] {
        let mut ledger = right();
        let index = copy_of(&ledger.heard[subscriber], 0, BEGIN + 5);
        ledger.heard[subscriber].copies[index].acknowledged_ns = Some(at(BEGIN + 5) + 31 * MS);
        let verdict = expect(&ledger, kinds);
        // A kept session has the message on disk: the case is counted.
        let counted = verdict.counts.get("offsets committed before a kept session's client had acknowledged");
        assert_eq!(counted.copied().unwrap_or(0), subscriber as u64);
    }
}

#[test]
fn offsets_that_go_back_are_found_but_of_a_broker_that_was_hurt() {
    let mut ledger = right();
    ledger.samples[20].offsets[1] -= 3;
    expect(&ledger, &["K6: a committed offset went back"]);
    ledger.hurts.push(hurt(1, 2));
    expect(&ledger, &["K6: a committed offset went back"]);
    ledger.hurts[0].name = OF_BROKERS.to_owned();
    expect(&ledger, &[]);
}

#[test]
fn a_group_that_is_not_at_the_end_is_found() {
    let mut ledger = right();
    // One less than the end, as in the sample before.
    ledger.samples.last_mut().unwrap().offsets[1] -= 1;
    expect(&ledger, &["K7: not committed to the end"]);
    let mut ledger = right();
    ledger.samples.retain(|sample| sample.log == 0);
    expect(&ledger, &["K7: not committed to the end"]);
}

#[test]
fn records_that_another_member_had_are_not_expected_if_they_were_committed() {
    let mut ledger = right();
    ledger.heard[0].copies.retain(|copy| copy.partition != 0 || !(BEGIN + 5..BEGIN + 8).contains(&copy.offset));
    let printed: Vec<(u32, i64)> = (BEGIN + 5..BEGIN + 8).map(|offset| (0, offset)).collect();
    // At its end, BEGIN + 8 was committed.
    let ended_ns = at(BEGIN + 7) + 30 * MS - LAST_COMMIT_NS;
    ledger.members.push(Member { log: 0, printed, ended_ns });
    let verdict = expect(&ledger, &[]);
    assert_eq!(verdict.counts["records that other members had"], 3);
    // The member printed one record less, or ended before the last one was committed; or had records of another source.
    let kinds = ["K1: missing", "K5: committed before it was acknowledged"];
    ledger.members[0].printed.pop();
    assert_eq!(expect(&ledger, &kinds).faults["K1: missing"].count, 1);
    ledger.members[0].printed.push((0, BEGIN + 7));
    ledger.members[0].ended_ns = ended_ns - MS;
    assert_eq!(ledger.samples.iter().find(|sample| sample.at_ns >= ended_ns + LAST_COMMIT_NS).unwrap().offsets[0], 108);
    expect(&ledger, &[]);
    ledger.members[0].ended_ns = ended_ns - 100 * MS;
    assert_eq!(expect(&ledger, &kinds).faults["K1: missing"].count, 1);
    ledger.members[0] = Member { log: 1, ended_ns, ..ledger.members[0].clone() };
    assert_eq!(expect(&ledger, &kinds).faults["K1: missing"].count, 3);
}

#[test]
fn kafka_must_have_what_was_written() {
    let mut ledger = right();
    ledger.logs[0].written += 1;
    expect(&ledger, &["K8: Kafka has not what was written"]);
    // One record is missing, another one is there twice.
    let mut ledger = right();
    ledger.logs[0].partitions[1].1[3].number = 2;
    assert_eq!(expect(&ledger, &["K8: Kafka has not what was written"]).faults.len(), 1);
    // The missing record counts as one that was not written.
    ledger.logs[0].written -= 1;
    expect(&ledger, &["K8: Kafka has not what was written"]);
    // One record is there twice, and one less was written.
    let mut ledger = right();
    ledger.logs[0].partitions[1].1[3..].iter_mut().for_each(|fact| fact.number -= 1);
    ledger.logs[0].written -= 1;
    assert_eq!(expect(&ledger, &[]).counts["records that the producer wrote twice"], 1);
    // One record is after a younger one.
    let mut ledger = right();
    let facts = &mut ledger.logs[0].partitions[1].1;
    (facts[3].number, facts[4].number) = (4, 3);
    assert_eq!(expect(&ledger, &[]).counts["records that the producer wrote behind younger ones"], 1);
}

#[test]
fn sessions_and_words_against_the_standard_are_faults() {
    let mut ledger = right();
    ledger.heard[1].sessions_lost = 2;
    ledger.heard[0].sessions_claimed = 1;
    ledger.heard[0].violations.push("x".to_owned());
    let kinds = ["S: a session that is not kept", "S: a session was lost", "against the standard"];
    assert_eq!(expect(&ledger, &kinds).faults["S: a session was lost"].count, 2);
}

#[test]
fn filters_match_as_the_standard_says() {
    for (filter, topic, is_match) in [
        ("a/#", "a/b/c", true),
        ("a/#", "a", true),
        ("a/+/c", "a/b/c", true),
        ("a/+", "a/b/c", false),
        ("a/b/c/d", "a/b/c", false),
        ("+/b/#", "a/c/d", false),
        ("#", "x", true),
    ] {
        assert_eq!(matches(filter, topic), is_match, "{filter} {topic}");
    }
}
