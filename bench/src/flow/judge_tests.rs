//! Each kind of fault, injected into a correct run, must be found, and nothing else.

use super::*;
use crate::flow::fates::Forms;
use crate::flow::payload::Header;
use crate::flow::plan::example;
use crate::flow::told::Again;

const PARTITIONS: u32 = 4;

/// A record that owns its bytes.
#[derive(Clone)]
struct Row {
    partition: u32,
    key: Option<Vec<u8>>,
    value: Vec<u8>,
    client: u32,
    number: u64,
}

/// A correct run: the clients' acknowledgements, and the records in Kafka, partition by partition.
struct Run {
    plan: Plan,
    told: Vec<Told>,
    rows: Vec<Row>,
    rules: Rules,
    faults_ns: Vec<u64>,
    /// Offsets before the first record, and missing ones added to the end of partition 0.
    begin: i64,
    missing: i64,
}

impl Run {
    fn new() -> Self {
        let plan = example();
        let mut told = Vec::new();
        let mut rows = Vec::new();
        for client in 0..plan.clients {
            let mut marks = Vec::new();
            for number in 0..plan.messages_of(client) {
                marks.push(if plan.qos(client, number) > 0 { ANSWERED } else { 0 });
                rows.push(row(&plan, client, number));
            }
            told.push(Told { marks, finished: true, ..Told::default() });
        }
        let rules =
            Rules { may_lose: false, may_double: false, key: Key::Topic, by_qos: false, window: 64, part: None };
        Self { plan, told, rows, rules, faults_ns: Vec::new(), begin: 10, missing: 0 }
    }

    fn verdict(&mut self) -> Verdict {
        let mut next = vec![self.begin; PARTITIONS as usize];
        let placed: Vec<(i64, &Row)> = (self.rows.iter())
            .map(|row| {
                let offset = &mut next[row.partition as usize];
                *offset += 1;
                (*offset - 1, row)
            })
            .collect();
        next[0] += self.missing;
        let ranges = next.iter().map(|&end| self.begin..end).collect();
        let logs = [Log { topic: "t".to_owned(), ranges }];
        let mut judge = Judge::new(&self.plan, self.rules, &mut self.told, &logs).with_faults(self.faults_ns.clone());
        for (offset, row) in placed {
            let key = row.key.as_deref();
            judge.record(&Record { log: 0, partition: row.partition, offset, key, value: &row.value });
        }
        judge.end()
    }

    /// Judges, and expects faults of these kinds.
    fn expect(&mut self, kinds: &[&str]) -> Verdict {
        let verdict = self.verdict();
        assert_eq!(verdict.faults.keys().map(String::as_str).collect::<Vec<_>>(), kinds, "{:?}", verdict.faults);
        assert_eq!(verdict.passed(), kinds.is_empty());
        verdict
    }

    /// The index of the first row of a QoS.
    fn of_qos(&self, qos: u8) -> usize {
        self.rows.iter().position(|row| self.plan.qos(row.client, row.number) == qos).unwrap()
    }

    fn mark(&mut self, row: usize, marks: u8) {
        let (client, number) = (self.rows[row].client, self.rows[row].number);
        self.told[client as usize].marks[number as usize] = marks;
    }
}

fn row(plan: &Plan, client: u32, number: u64) -> Row {
    let key = plan.topic_name(client, plan.topic_number(client, number)).into_bytes();
    let header = Header { run: plan.run, client, qos: plan.qos(client, number), number, sent_ns: 5 };
    let mut value = Vec::new();
    payload::write(&mut value, &header, plan.payload_bytes);
    Row { partition: murmur2::partition(&key, PARTITIONS), key: Some(key), value, client, number }
}

#[test]
fn a_run_that_was_right_passes() {
    let verdict = Run::new().expect(&[]);
    assert_eq!(verdict.counts["records"], 103);
}

#[test]
fn loss_is_found_at_each_qos() {
    for (qos, kind) in [(0, "I1: lost at QoS 0"), (1, "I1: lost at QoS 1"), (2, "I1: lost at QoS 2")] {
        let mut run = Run::new();
        let at = run.of_qos(qos);
        run.rows.remove(at);
        run.expect(&[kind]);
        let mut run = Run::new();
        run.rules.may_lose = true;
        run.rows.remove(at);
        assert_eq!(run.expect(&[]).counts[&format!("QoS {qos}: answered and not in Kafka")], 1);
    }
}

#[test]
fn what_was_not_promised_may_be_missing() {
    let mut run = Run::new();
    let at = run.of_qos(1);
    for marks in [0, REFUSED, ABANDONED] {
        run.mark(at, marks);
    }
    run.rows.remove(at);
    let at = run.of_qos(0);
    let client = run.rows.remove(at).client;
    run.told[client as usize].dropped = 1;
    run.expect(&[]);
}

#[test]
fn doubles_are_found_unless_they_are_explained() {
    for (qos, kind) in [(0, "I2: doubled at QoS 0"), (1, "I2: doubled at QoS 1"), (2, "I2: doubled at QoS 2")] {
        let mut run = Run::new();
        let at = run.of_qos(qos);
        run.rows.insert(at, run.rows[at].clone());
        run.expect(&[kind]);
        // Sending again explains doubles of QoS 1 alone.
        let mut run = Run::new();
        run.rows.push(run.rows[at].clone());
        run.mark(at, ANSWERED | RESENT);
        let kinds = [kind];
        let verdict = run.expect(if qos == 1 { &[] } else { &kinds });
        assert_eq!(verdict.counts[&format!("QoS {qos}: doubled")], 1);
        let mut run = Run::new();
        run.rows.push(run.rows[at].clone());
        run.rules.may_double = true;
        run.expect(&[]);
    }
}

#[test]
fn order_is_that_of_first_copies() {
    // Two messages of one client in one partition, exchanged.
    let exchanged = || {
        let mut run = Run::new();
        let pair = (0..run.rows.len()).find_map(|a| {
            let same = |b: &usize| (run.rows[*b].client, &run.rows[*b].key) == (run.rows[a].client, &run.rows[a].key);
            (a + 1..run.rows.len()).find(same).map(|b| (a, b))
        });
        let (a, b) = pair.unwrap();
        run.rows.swap(a, b);
        (run, b)
    };
    exchanged().0.expect(&["I3: order"]);
    // A late copy that was sent again is excused only where the first copy may be lost.
    for (may_lose, resent, kinds) in
        [(true, true, &[][..]), (true, false, &["I3: order"]), (false, true, &["I3: order"])]
    {
        let (mut run, behind) = exchanged();
        run.rules.may_lose = may_lose;
        run.mark(behind, ANSWERED | if resent { RESENT } else { 0 });
        run.expect(kinds);
    }
}

#[test]
fn each_qos_may_have_an_order_of_its_own() {
    for (by_qos, kinds) in [(false, &["I3: order"][..]), (true, &[])] {
        let mut run = Run::new();
        run.rules.by_qos = by_qos;
        let (qos, of) = (|row: &Row| run.plan.qos(row.client, row.number), |row: &Row| (row.client, row.partition));
        let pair = (0..run.rows.len() - 1).find(|&a| {
            let (one, next) = (&run.rows[a], &run.rows[a + 1]);
            of(one) == of(next) && qos(one) != qos(next)
        });
        let at = pair.unwrap();
        run.rows.swap(at, at + 1);
        run.expect(kinds);
    }
    // Messages of one QoS are judged as usual.
    let mut run = Run::new();
    run.rules.by_qos = true;
    let kind = |row: &Row| (row.client, row.partition, run.plan.qos(row.client, row.number));
    let pair = (0..run.rows.len()).find_map(|a| {
        let same = |b: &usize| kind(&run.rows[*b]) == kind(&run.rows[a]);
        (a + 1..run.rows.len()).find(same).map(|b| (a, b))
    });
    let (a, b) = pair.unwrap();
    run.rows.swap(a, b);
    run.expect(&["I3: order"]);
}

#[test]
fn a_second_copy_has_no_place_in_the_order() {
    let mut run = Run::new();
    let at = run.of_qos(1);
    let again = run.rows[at].clone();
    run.mark(at, ANSWERED | RESENT);
    run.rows.push(again);
    run.expect(&[]);
}

#[test]
fn a_message_that_was_sent_again_may_be_in_two_topics() {
    for (is_in_both, kinds) in [(true, &[][..]), (false, &["I3: order"])] {
        let mut run = Run::new();
        let all: Vec<Row> = run.rows.drain(..).collect();
        let same = |a: usize, b: usize| (all[a].client, all[a].partition) == (all[b].client, all[b].partition);
        let (first, second) =
            (0..all.len()).find_map(|a| (a + 1..all.len()).find(|b| same(a, *b)).map(|b| (a, b))).unwrap();
        run.told[all[first].client as usize].marks[all[first].number as usize] = ANSWERED | RESENT;
        let others = (0..all.len()).filter(|at| ![first, second].contains(at)).map(|at| (1, at));
        let also = is_in_both.then_some((1, first));
        let rows: Vec<_> = [(0, second), (0, first)].into_iter().chain(also).chain(others).collect();
        let mut next = vec![vec![0; PARTITIONS as usize]; 2];
        let placed: Vec<_> = (rows.into_iter())
            .map(|(log, at)| {
                let offset = &mut next[log][all[at].partition as usize];
                *offset += 1;
                (log, *offset - 1, &all[at])
            })
            .collect();
        let log = |of: &Vec<i64>| Log { topic: "t".to_owned(), ranges: of.iter().map(|&end| 0..end).collect() };
        let logs: Vec<Log> = next.iter().map(log).collect();
        let mut judge = Judge::new(&run.plan, run.rules, &mut run.told, &logs);
        for (log, offset, row) in placed {
            let key = row.key.as_deref();
            judge.record(&Record { log, partition: row.partition, offset, key, value: &row.value });
        }
        let faults = judge.end().faults;
        assert_eq!(faults.keys().map(String::as_str).collect::<Vec<_>>(), kinds, "{faults:?}");
    }
}

#[test]
fn content_is_compared_byte_for_byte() {
    let mut run = Run::new();
    let at = run.of_qos(2);
    *run.rows[at].value.last_mut().unwrap() ^= 1;
    run.expect(&["I1: lost at QoS 2", "I4: altered value"]);
}

#[test]
fn what_was_never_sent_is_invented() {
    let mut run = Run::new();
    run.rows.push(row(&run.plan, 3, 500));
    run.rows.push(row(&run.plan, 77, 0));
    assert_eq!(run.expect(&["I4: invented message"]).faults["I4: invented message"].count, 2);
}

#[test]
fn a_foreign_record_is_seen() {
    let mut run = Run::new();
    let other = Plan { run: 43, ..example() };
    run.rows.push(row(&other, 3, 1));
    run.rows.push(Row { value: b"hello".to_vec(), ..run.rows[0].clone() });
    assert_eq!(run.expect(&["I4: foreign record"]).faults["I4: foreign record"].count, 2);
}

#[test]
fn key_and_partition_are_judged() {
    let mut run = Run::new();
    run.rows[5].key = Some(b"other".to_vec());
    run.rows[6].key = None;
    assert_eq!(run.expect(&["I4: wrong key"]).faults["I4: wrong key"].count, 2);
    let mut run = Run::new();
    let last = run.rows.len() - 1;
    run.rows[last].partition = (run.rows[last].partition + 1) % PARTITIONS;
    run.expect(&["P: key in a wrong partition"]);
    run.told = Run::new().told;
    run.rules.key = Key::Any;
    run.expect(&[]);
    let mut run = Run::new();
    run.rows[last].partition = PARTITIONS;
    run.rules.key = Key::Any;
    let plan = example();
    let (client, number) = (run.rows[last].client, run.rows[last].number);
    assert!(number < plan.messages_of(client));
    let logs = [Log { topic: "t".to_owned(), ranges: vec![0..0; 4] }];
    let mut judge = Judge::new(&plan, run.rules, &mut run.told, &logs);
    judge.record(&Record { log: 0, partition: 4, offset: 0, key: None, value: b"" });
    assert_eq!(judge.end().faults["R: a partition that the topic does not have"].count, 1);
}

#[test]
fn a_reader_that_misses_something_is_no_judge() {
    let mut run = Run::new();
    run.missing = 1;
    run.expect(&["R: the reader stopped early"]);
    let mut run = Run::new();
    let logs = [Log { topic: "t".to_owned(), ranges: vec![0..2; 1] }];
    let mut judge = Judge::new(&run.plan, Rules { key: Key::Any, ..run.rules }, &mut run.told, &logs);
    for offset in [0, 0, 1] {
        judge.record(&Record { log: 0, partition: 0, offset, key: None, value: b"" });
    }
    assert_eq!(judge.end().faults["R: the reader skipped or repeated"].count, 1);
}

#[test]
fn records_from_before_the_run_are_passed_over() {
    let mut run = Run::new();
    let logs = [Log { topic: "t".to_owned(), ranges: vec![7..7; 1] }];
    let mut judge = Judge::new(&run.plan, Rules { may_lose: true, ..run.rules }, &mut run.told, &logs);
    judge.record(&Record { log: 0, partition: 0, offset: 6, key: None, value: b"from before" });
    assert!(judge.end().passed());
}

#[test]
fn a_client_that_did_not_finish_fails_the_run() {
    let mut run = Run::new();
    run.told[4].finished = false;
    run.expect(&["client did not finish"]);
}

#[test]
fn an_old_copy_stands_before_what_was_first_sent_after_it() {
    // The double of a client's first message, at the end of its partition.
    let doubled = |sent_by: Option<u64>, window| {
        let mut run = Run::new();
        run.rules.window = window;
        let partition = |row: &Row| (row.client, row.partition);
        let first = (0..run.rows.len()).find(|&at| {
            let row = &run.rows[at];
            run.plan.qos(row.client, row.number) == 1
                && run.rows[at + 1..].iter().filter(|later| partition(later) == partition(row)).count() > 1
        });
        let first = first.unwrap();
        let (client, number) = (run.rows[first].client, run.rows[first].number);
        run.mark(first, ANSWERED | RESENT);
        let again = sent_by.map(|newest| (number, Again { newest, answered_ns: 9 }));
        run.told[client as usize].again.extend(again);
        run.rows.push(run.rows[first].clone());
        run
    };
    doubled(None, 1).expect(&["I3: old copy behind newer messages"]);
    doubled(Some(2), 1).expect(&["I3: old copy behind newer messages"]);
    doubled(Some(11), 1).expect(&[]);
    doubled(None, 64).expect(&[]);
    // With several instances an old copy may come of what was on its way when a fault began. The example's messages are sent at 5 ns.
    for (by_qos, fault_ns, allowed) in
        [(true, 5, true), (true, 9, true), (true, 10, false), (true, 4, false), (false, 6, false)]
    {
        let mut run = doubled(Some(2), 1);
        (run.rules.by_qos, run.faults_ns) = (by_qos, vec![fault_ns]);
        run.expect(if allowed { &[] } else { &["I3: old copy behind newer messages"] });
    }
}

#[test]
fn what_was_refused_and_sent_once_is_not_there() {
    let mut run = Run::new();
    let at = run.of_qos(1);
    run.mark(at, REFUSED);
    run.expect(&["I4: refused and in Kafka"]);
    let mut run = Run::new();
    run.mark(at, REFUSED | RESENT);
    assert_eq!(run.expect(&[]).counts["QoS 1: refused and in Kafka"], 1);
}

#[test]
fn a_double_of_what_went_anew_is_counted() {
    for qos in [1, 2] {
        let mut run = Run::new();
        let at = run.of_qos(qos);
        run.rows.push(run.rows[at].clone());
        run.mark(at, ANSWERED | RESENT | ANEW);
        let name = format!("QoS {qos}: doubled after its session was forgotten");
        assert_eq!(run.expect(&[]).counts[&name], 1);
    }
}

#[test]
fn sessions_are_there_as_promised() {
    let mut run = Run::new();
    run.told[2].sessions_lost = 2;
    run.told[3].sessions_claimed = 1;
    let verdict = run.expect(&["S: session claimed that cannot be", "S: session lost"]);
    assert_eq!(verdict.faults["S: session lost"].count, 2);
}

/// A run of a rule that fails for a fifth of the messages, which it skips, beside one that rejects some; and the rows that must not exist.
fn ruled() -> (Run, Vec<Row>) {
    let mut run = Run::new();
    let is_due = |message: &Message| !message.is_rejected() && !message.number.is_multiple_of(5);
    run.rules.part = Some(Part { name: FIRST, topics: &["-skip"], is_due, may_double: false });
    let plan = run.plan.clone();
    let of = |row: &Row| Message::of(&plan, row.client, row.number);
    for row in run.rows.iter().filter(|row| of(row).is_rejected() && of(row).is_told) {
        run.told[row.client as usize].marks[row.number as usize] = REFUSED;
    }
    let others;
    (run.rows, others) = run.rows.into_iter().partition(|row| is_due(&of(row)));
    (run, others)
}

#[test]
fn what_a_rule_makes_is_there_and_nothing_else() {
    ruled().0.expect(&[]);
    let (mut run, _) = ruled();
    let at = run.of_qos(2);
    run.rows.remove(at);
    run.expect(&["I1: lost at QoS 2"]);
    let (mut run, others) = ruled();
    run.rows.extend(others.into_iter().find(|row| row.number == 5));
    run.expect(&["Q1: where no rule puts it"]);
    let (mut run, _) = ruled();
    let told = run.told.iter_mut().flat_map(|told| &mut told.marks).find(|marks| **marks & REFUSED != 0);
    *told.expect("one that is rejected") = ANSWERED;
    run.expect(&["Q3: rejected, and answered with success"]);
}

#[test]
fn the_rows_of_a_message_are_of_one_form() {
    let plan = example();
    let (mut value, mut verdict) = (Vec::new(), Verdict::default());
    payload::write(
        &mut value,
        &Header { run: plan.run, client: 2, qos: plan.qos(2, 4), number: 4, sent_ns: 9 },
        plan.payload_bytes,
    );
    let record = |log| Record { log, partition: 0, offset: 0, key: None, value: &value };
    for (logs, faults) in [([0, 0, 0, 0], 0), ([1, 1, 1, 1], 0), ([0, 0, 1, 0], 1), ([0, 1, 0, 1], 2)] {
        let mut forms = Forms::new(&plan);
        logs.into_iter().enumerate().for_each(|(part, log)| forms.record(part + 1, &record(log)));
        forms.end(&mut verdict);
        assert_eq!(verdict.faults.values().map(|fault| fault.count).sum::<u64>(), faults, "{logs:?}");
    }
}
