//! Records of Kafka against the copies of subscribers, and the groups' committed offsets against both. No I/O.
//! `docs/internals/FAULTS.md` has the rules in full:
//!
//! - **K1** each record reached each subscriber with a filter that matches, unless another member of the group had the record.
//! - **K2** each subscriber gets the first copies of a partition's records in order.
//! - **K3** copies are repeated only after a fault or the end of a connection, not once acknowledged and committed, and in bounds.
//! - **K4** each message is a record of Kafka, byte for byte, with its topic and the lower QoS, and its subscriber asked for it.
//! - **K5** no committed offset is above a record that a subscriber with a session that is not kept has not acknowledged.
//! - **K6** committed offsets never decrease.
//! - **K7** at the end, committed offsets are the ends of the logs.
//! - **K8** Kafka has all written records: otherwise there is nothing to judge by.
//! - **S** a kept session is resumed, and a clean one is not.

use std::collections::{HashMap, HashSet};

use super::ledger::{Copy, Heard, Hurt, Ledger, Log, Sample};
use crate::flow::judge::Verdict;

const SECOND_NS: u64 = 1_000_000_000;
/// The time without faults in which consequences of a fault may still appear, in ns.
const AFTERMATH_NS: u64 = 20 * SECOND_NS;
/// The age in ns up to which a connection's acknowledgements may not have been read, or not be on disk yet.
const ACKNOWLEDGED_NS: u64 = 2_500_000_000;
/// The time after a session's end in which its messages may reach the next session, in ns.
const GIVEN_BACK_NS: u64 = 2 * SECOND_NS;
/// The time in ns after which an acknowledged and committed record is not repeated: for subscribers without and with a kept session.
const OVER_NS: u64 = 5 * SECOND_NS;
const OVER_KEPT_NS: u64 = 30 * SECOND_NS;
/// The time after a member's end in which its last commit may still arrive, in ns.
const LAST_COMMIT_NS: u64 = 300_000_000;
/// The name of a fault after which a broker may return older committed offsets.
const OF_BROKERS: &str = "broker";

/// Judges a run.
pub(crate) fn judge(ledger: &Ledger) -> Verdict {
    let mut judge = Judge { ledger, had: had(ledger), verdict: Verdict::default() };
    for log in 0..ledger.logs.len() {
        judge.truth(log);
        judge.commits(log);
    }
    for heard in &ledger.heard {
        judge.subscriber(heard);
    }
    judge.count("faults", ledger.hurts.len() as u64);
    judge.count("offsets sampled", ledger.samples.len() as u64);
    judge.verdict
}

/// Records of other members, by log, partition and offset: those that a member printed and that were committed at its end.
fn had(ledger: &Ledger) -> HashSet<(usize, u32, i64)> {
    let mut had = HashSet::new();
    for member in &ledger.members {
        let after_end = |sample: &&Sample| sample.log == member.log && sample.at_ns >= member.ended_ns + LAST_COMMIT_NS;
        let Some(sample) = ledger.samples.iter().find(after_end) else { continue };
        let committed = |partition: u32| sample.offsets.get(partition as usize).copied().unwrap_or(-1);
        let of_member = member.printed.iter().filter(|(partition, offset)| *offset < committed(*partition));
        had.extend(of_member.map(|&(partition, offset)| (member.log, partition, offset)));
    }
    had
}

/// Whether a topic matches a filter (5.0 §4.7; no topic here begins with `$`).
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (wanted, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

struct Judge<'a> {
    ledger: &'a Ledger,
    had: HashSet<(usize, u32, i64)>,
    verdict: Verdict,
}

/// Copies of one record, as indices into its subscriber's copies.
type Copies = HashMap<(u32, i64), Vec<usize>>;

impl Judge<'_> {
    fn count(&mut self, name: &str, by: u64) {
        self.verdict.count(name, by);
    }

    /// Judges K8. A record that the producer sent again may be in the log twice, or after younger ones, each time at an offset of its own.
    fn truth(&mut self, index: usize) {
        let log = &self.ledger.logs[index];
        let mut numbers: HashMap<&str, HashSet<u64>> = HashMap::new();
        let (mut records, mut late) = (0, 0);
        for (_, facts) in &log.partitions {
            records += facts.len() as u64;
            let mut newest: HashMap<&str, u64> = HashMap::new();
            for fact in facts {
                let newest = newest.entry(&fact.key).or_insert(0);
                let is_new = numbers.entry(&fact.key).or_default().insert(fact.number);
                late += u64::from(is_new && fact.number < *newest);
                *newest = fact.number.max(*newest);
            }
        }
        let missing = |numbers: &HashSet<u64>| (0..numbers.len() as u64).find(|number| !numbers.contains(number));
        for (key, number) in numbers.iter().filter_map(|(key, numbers)| Some((key, missing(numbers)?))) {
            let text = || format!("{}: record {number} of {key} is not there", log.name);
            self.verdict.fault("K8: Kafka has not what was written", text);
        }
        let distinct = numbers.values().map(|numbers| numbers.len() as u64).sum::<u64>();
        if distinct != log.written {
            let text = || format!("{}: {} written, {distinct} there", log.name, log.written);
            self.verdict.fault("K8: Kafka has not what was written", text);
        }
        self.count("records", records);
        self.count("records that the producer wrote twice", records.saturating_sub(distinct));
        self.count("records that the producer wrote behind younger ones", late);
        let others = self.had.iter().filter(|(log, ..)| *log == index).count() as u64;
        self.count("records that other members had", others);
    }

    /// Judges K6 and K7.
    fn commits(&mut self, index: usize) {
        let (ledger, log) = (self.ledger, &self.ledger.logs[index]);
        let mut highest = vec![-1; log.partitions.len()];
        for sample in ledger.samples.iter().filter(|sample| sample.log == index) {
            for (partition, (&offset, highest)) in sample.offsets.iter().zip(&mut highest).enumerate() {
                if offset < *highest && !self.is_aftermath(sample.at_ns, |hurt| hurt.name == OF_BROKERS) {
                    let text = || format!("{} partition {partition}: {offset} after {highest}", log.name);
                    self.verdict.fault("K6: a committed offset went back", text);
                }
                *highest = offset.max(*highest);
            }
        }
        let last = ledger.samples.iter().rev().find(|sample| sample.log == index);
        for (partition, (begin, facts)) in log.partitions.iter().enumerate() {
            let end = begin + facts.len() as i64;
            let at = last.and_then(|sample| sample.offsets.get(partition)).copied().unwrap_or(-1);
            if at != end && !(facts.is_empty() && at == -1) {
                let text = || format!("{} partition {partition}: committed {at}, its end is {end}", log.name);
                self.verdict.fault("K7: not committed to the end", text);
            }
        }
    }

    fn subscriber(&mut self, heard: &Heard) {
        let log = &self.ledger.logs[heard.log];
        for text in &heard.violations {
            self.verdict.fault("against the standard", || format!("{}: {text}", heard.name));
        }
        for (count, kind) in
            [(heard.sessions_lost, "S: a session was lost"), (heard.sessions_claimed, "S: a session that is not kept")]
        {
            (0..count).for_each(|_| self.verdict.fault(kind, || heard.name.clone()));
        }
        let mut copies = Copies::new();
        let mut newest: HashMap<u32, i64> = HashMap::new();
        for (index, copy) in heard.copies.iter().enumerate() {
            if !self.content(heard, log, copy) {
                continue;
            }
            let of_record = copies.entry((copy.partition, copy.offset)).or_default();
            if of_record.is_empty() {
                let newest = newest.entry(copy.partition).or_insert(-1);
                if copy.offset < *newest && self.is_given_back(heard, copy) {
                    self.verdict.count("first copies behind younger ones after a session's end", 1);
                } else if copy.offset < *newest {
                    let text = || format!("{}, behind offset {newest}", place(heard, copy));
                    self.verdict.fault("K2: order", text);
                }
                *newest = copy.offset.max(*newest);
            }
            of_record.push(index);
        }
        self.count("copies received", heard.copies.len() as u64);
        self.count(
            "copies acknowledged",
            heard.copies.iter().filter(|copy| copy.acknowledged_ns.is_some()).count() as u64,
        );
        self.missing(heard, log, &copies);
        self.again(heard, &copies);
        self.offsets(heard, log, &copies);
    }

    /// Whether the copy can be of a message of a session that has just ended: the next session gets it once its delivery is known
    /// to have failed.
    fn is_given_back(&self, heard: &Heard, copy: &Copy) -> bool {
        let former = copy.connection.checked_sub(1).and_then(|former| heard.ends_ns.get(former as usize));
        !heard.kept && former.is_some_and(|end_ns| self.calm_ns(*end_ns, copy.at_ns) <= GIVEN_BACK_NS)
    }

    /// Judges K4. `true`: the copy is a record's.
    fn content(&mut self, heard: &Heard, log: &Log, copy: &Copy) -> bool {
        let Some(fact) = log.fact(copy.partition, copy.offset) else {
            self.verdict.fault("K4: no record of Kafka", || place(heard, copy));
            return false;
        };
        if copy.fingerprint != fact.fingerprint {
            self.verdict.fault("K4: altered", || place(heard, copy));
        }
        if copy.qos != heard.qos {
            self.verdict.fault("K4: another QoS", || format!("{}: QoS {}", place(heard, copy), copy.qos));
        }
        if !matches(&heard.filter, &log.topic(&fact.key, copy.partition, copy.offset)) {
            self.verdict.fault("K4: nobody asked for it", || place(heard, copy));
        }
        true
    }

    /// Judges K1.
    fn missing(&mut self, heard: &Heard, log: &Log, copies: &Copies) {
        for (partition, (begin, facts)) in (0..).zip(&log.partitions) {
            for (fact, offset) in facts.iter().zip(*begin..) {
                if !matches(&heard.filter, &log.topic(&fact.key, partition, offset)) {
                    continue;
                }
                let (is_here, is_had) =
                    (copies.contains_key(&(partition, offset)), self.had.contains(&(heard.log, partition, offset)));
                self.count("copies expected", u64::from(!is_had));
                if !is_here && !is_had {
                    let text = || format!("{}: partition {partition} offset {offset}", heard.name);
                    self.verdict.fault("K1: missing", text);
                }
                self.count("copies of records that other members had too", u64::from(is_here && is_had));
            }
        }
    }

    /// Judges K3.
    fn again(&mut self, heard: &Heard, copies: &Copies) {
        // The first sample with a committed offset above the record, by record; and repeated copies, as (time, partition).
        let committed = self.first_committed(heard.log, copies);
        let mut anew: Vec<(u64, u32)> = Vec::new();
        for (record, of_record) in copies {
            for pair in of_record.windows(2) {
                let (before, copy) = (&heard.copies[pair[0]], &heard.copies[pair[1]]);
                let ended_ns = heard.ends_ns.get(before.connection as usize).copied();
                let is_resent = before.connection != copy.connection
                    && before.acknowledged_ns.is_none_or(|at| ended_ns.is_some_and(|end| end <= at + ACKNOWLEDGED_NS));
                let kind = if copy.dup { "copies again, with DUP" } else { "copies again, without DUP" };
                self.count(kind, 1);
                if !is_resent && !self.is_aftermath(copy.at_ns, |_| true) {
                    self.verdict.fault("K3: again, and nothing had happened", || place(heard, copy));
                }
                if !copy.dup && !is_resent {
                    anew.push((copy.at_ns, copy.partition));
                }
            }
            let first_ns = of_record.iter().filter_map(|&index| heard.copies[index].acknowledged_ns).min();
            let (Some(acknowledged_ns), Some(&committed_ns)) = (first_ns, committed.get(record)) else { continue };
            let over_ns = acknowledged_ns.max(committed_ns);
            let bound_ns = if heard.kept { OVER_KEPT_NS } else { OVER_NS };
            for copy in of_record[1..].iter().map(|&index| &heard.copies[index]) {
                if self.calm_ns(over_ns, copy.at_ns) > bound_ns {
                    let text =
                        || format!("{}, {} s after both", place(heard, copy), (copy.at_ns - over_ns) / SECOND_NS);
                    self.verdict.fault("K3: again, though acknowledged and committed", text);
                }
            }
        }
        anew.sort_unstable();
        self.amount(heard, &anew);
    }

    /// Judges the bound of K3: at each time there are at most as many repeated copies as the faults before it allow.
    fn amount(&mut self, heard: &Heard, anew: &[(u64, u32)]) {
        let (ledger, log) = (self.ledger, &self.ledger.logs[heard.log]);
        for (partition, (begin, _)) in (0..).zip(&log.partitions) {
            let mut copies = heard.copies.iter().filter(|copy| copy.partition == partition).peekable();
            let mut samples = ledger.samples.iter().filter(|sample| sample.log == heard.log).peekable();
            let mut here = anew.iter().filter(|(_, of)| *of == partition).enumerate().peekable();
            let (mut handed, mut committed, mut allowed) = (*begin, *begin, 0);
            let mut hurts = ledger.hurts.iter().peekable();
            loop {
                let until_ns = hurts.peek().map_or(u64::MAX, |hurt| hurt.from_ns);
                while let Some((count, _)) = here.next_if(|(_, (at_ns, _))| *at_ns < until_ns) {
                    if count as u64 >= allowed {
                        let count = count + 1;
                        let text =
                            || format!("{}: partition {partition}, {count} again, {allowed} allowed", heard.name);
                        self.verdict.fault("K3: more again than windows and commits allow", text);
                    }
                }
                if hurts.next().is_none() {
                    break;
                }
                while let Some(copy) = copies.next_if(|copy| copy.at_ns < until_ns) {
                    handed = handed.max(copy.offset + 1);
                }
                while let Some(sample) = samples.next_if(|sample| sample.at_ns < until_ns) {
                    committed = committed.max(sample.offsets.get(partition as usize).copied().unwrap_or(-1));
                }
                allowed += log.window + (handed - committed).max(0) as u64;
            }
        }
    }

    /// The first sample with a committed offset above a record, for records with more than one copy.
    fn first_committed(&self, log: usize, copies: &Copies) -> HashMap<(u32, i64), u64> {
        let mut rising: HashMap<u32, Vec<(i64, u64)>> = HashMap::new();
        for sample in self.ledger.samples.iter().filter(|sample| sample.log == log) {
            for (partition, &offset) in (0..).zip(&sample.offsets) {
                let steps = rising.entry(partition).or_default();
                if steps.last().is_none_or(|(last, _)| *last < offset) {
                    steps.push((offset, sample.at_ns));
                }
            }
        }
        let repeated = copies.iter().filter(|(_, of_record)| of_record.len() > 1).map(|(record, _)| *record);
        let found = repeated.filter_map(|(partition, offset)| {
            let steps = rising.get(&partition)?;
            let at = steps.partition_point(|(committed, _)| *committed <= offset);
            Some(((partition, offset), steps.get(at)?.1))
        });
        found.collect()
    }

    /// Judges K5; violations of kept sessions are only counted, as their messages may be on disk.
    fn offsets(&mut self, heard: &Heard, log: &Log, copies: &Copies) {
        // By partition: the time at which all records up to an offset were acknowledged, and that offset.
        let mut until: Vec<Vec<(u64, i64)>> = Vec::new();
        for (partition, (begin, facts)) in (0..).zip(&log.partitions) {
            let mut latest = (0, *begin);
            let mut of_partition = Vec::with_capacity(facts.len());
            for (fact, offset) in facts.iter().zip(*begin..) {
                let is_mine = matches(&heard.filter, &log.topic(&fact.key, partition, offset));
                if is_mine && !self.had.contains(&(heard.log, partition, offset)) {
                    let of_record = copies.get(&(partition, offset)).map_or(&[][..], Vec::as_slice);
                    let times = of_record.iter().filter_map(|&index| heard.copies[index].acknowledged_ns);
                    latest = latest.max((times.min().unwrap_or(u64::MAX), offset));
                }
                of_partition.push(latest);
            }
            until.push(of_partition);
        }
        for sample in self.ledger.samples.iter().filter(|sample| sample.log == heard.log) {
            for ((partition, &offset), (begin, _)) in sample.offsets.iter().enumerate().zip(&log.partitions) {
                let below = usize::try_from(offset - begin - 1).ok();
                let Some(&(at_ns, of)) = below.and_then(|below| until[partition].get(below)) else { continue };
                if at_ns > sample.at_ns && heard.kept {
                    self.count("offsets committed before a kept session's client had acknowledged", 1);
                } else if at_ns > sample.at_ns {
                    let text =
                        || format!("{}: partition {partition} committed {offset}, not acknowledged: {of}", heard.name);
                    self.verdict.fault("K5: committed before it was acknowledged", text);
                }
            }
        }
    }

    /// Whether this can be the consequence of a fault.
    fn is_aftermath(&self, at_ns: u64, which: impl Fn(&Hurt) -> bool) -> bool {
        let mut before = self.ledger.hurts.iter().filter(|hurt| hurt.from_ns <= at_ns && which(hurt));
        before.any(|hurt| self.calm_ns(hurt.to_ns, at_ns) <= AFTERMATH_NS)
    }

    /// The time between two moments without faults, in ns.
    fn calm_ns(&self, from_ns: u64, to_ns: u64) -> u64 {
        let mut calm_ns = to_ns.saturating_sub(from_ns);
        let mut at_ns = from_ns;
        for hurt in &self.ledger.hurts {
            let (begin, end) = (hurt.from_ns.max(at_ns), hurt.to_ns.min(to_ns));
            if begin < end {
                calm_ns -= end - begin;
                at_ns = end;
            }
        }
        calm_ns
    }
}

fn place(heard: &Heard, copy: &Copy) -> String {
    format!("{}: partition {} offset {} at {} ms", heard.name, copy.partition, copy.offset, copy.at_ns / 1_000_000)
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
