//! Promises of sources (F5 to F8 of `docs/RULES.md`). A commit is judged when it is accepted: each record below it must be settled for every
//! client that has been there since before the record was written. Each copy is judged when it comes, and missing ones when everything is at
//! rest.

use std::collections::{BTreeMap, BTreeSet};

use forebay::metrics::spec::SourceMetric;
use forebay::route::filter::matches;

use crate::kafka::coordinator::Commit;
use crate::process::Process;
use crate::sources::{FIRST_RECORD, Record};
use crate::subscriber::{Asked, Copy, Subscriber, Wish};
use crate::time::S;
use crate::world::{Client, World};

/// A partition, an MQTT topic, and the QoS of record and copy.
type Line = ((String, i32), String, [u8; 2]);

/// A subscriber's state regarding records.
#[derive(Debug, Default)]
struct Had {
    /// The session and the connection that the state is of.
    of: (u32, u32),
    /// Whether the connection has had its CONNACK.
    was_greeted: bool,
    /// Records that the client has acknowledged.
    answered: BTreeSet<u32>,
    /// The process in which each record came first, the number of times it was handed on at QoS 2, and the highest QoS of its copies.
    got: BTreeMap<u32, (u32, u32, u8)>,
    /// The newest offset of each line.
    newest: BTreeMap<Line, i64>,
    /// Time when a connection ended last, and time when a kept session did.
    ended_at: [u64; 2],
}

/// State of the judge of sources.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Number of checked commits of each cluster.
    commits: Vec<usize>,
    /// Number of records of each partition, in the order of writing, below a checked commit.
    below: BTreeMap<(String, i32), usize>,
    by_subscriber: Vec<Had>,
    /// Records that some client has: it has acknowledged the record, its kept session got it, or the record came at QoS
    /// 0.
    had: BTreeSet<u32>,
    /// Committed offsets when this process started.
    floor: BTreeMap<(String, i32), i64>,
    /// Records that sessions which are not kept had, or were due, when they ended with their process.
    gone: BTreeSet<u32>,
    /// Whether a commit came late, over a connection that was given up.
    is_late: bool,
    /// Committed offsets at rest of the partitions in which a late commit took back the last one.
    taken_back: BTreeMap<(String, i32), i64>,
    /// Messages that ended processes have dropped for want of a subscriber.
    unwanted: u64,
    /// Number of copies of records that came.
    pub(crate) copies: u64,
}

/// Messages of sources that a process has counted as without a subscriber, or as lost by their only one.
fn unwanted(process: &Process) -> u64 {
    let of = |source| {
        of_source(process, source, SourceMetric::NoSubscriber) + of_source(process, source, SourceMetric::Lost)
    };
    (0..process.layout.sources).map(of).sum()
}

/// A counter of a source, summed over all shards.
fn of_source(process: &Process, source: usize, metric: SourceMetric) -> u64 {
    process.hosts.iter().map(|host| host.board.read()[process.layout.source(source, metric)]).sum()
}

/// Whether a process has read its records under one assignment, according to its counters.
pub(super) fn is_one_assignment(count: impl Fn(SourceMetric) -> u64) -> bool {
    count(SourceMetric::Rebalances) <= 1 && count(SourceMetric::MembershipsLost) + count(SourceMetric::Resets) == 0
}

impl World {
    /// Notes changes of a subscriber's session and connection.
    pub(crate) fn note_reader(&mut self, index: usize) {
        if self.settings.sources.is_empty() {
            return;
        }
        let all = &mut self.sources.judged.by_subscriber;
        all.resize_with(self.subscribers.len(), Had::default);
        let (had, subscriber) = (&mut all[index], &self.subscribers[index]);
        let now = (subscriber.sessions, subscriber.connections);
        // Without a CONNACK the connection had no records. A session that the client has given up may exist until its
        // next CONNACK.
        let (connection_ends, session_ends) =
            (now.1 != had.of.1 && had.was_greeted, now.0 != had.of.0 && had.was_greeted);
        if connection_ends {
            had.ended_at[0] = self.time;
        }
        if session_ends && subscriber.kept {
            had.ended_at[1] = self.time;
        }
        if now.0 != had.of.0 {
            *had = Had { ended_at: had.ended_at, was_greeted: had.was_greeted, ..Had::default() };
        }
        had.was_greeted |= subscriber.is_greeted();
        had.of = now;
    }

    /// Notes that a subscriber has acknowledged these messages.
    pub(crate) fn note_answers(&mut self, index: usize, answered: &[u32]) {
        if self.has_instances() {
            let session = self.subscribers[index].sessions;
            self.instances.answered.extend(answered.iter().map(|number| (index, session, *number)));
        }
        let records: Vec<u32> = answered.iter().copied().filter(|number| *number >= FIRST_RECORD).collect();
        if records.is_empty() {
            return;
        }
        self.note_reader(index);
        let judged = &mut self.sources.judged;
        judged.had.extend(&records);
        judged.by_subscriber[index].answered.extend(records);
    }

    /// Notes the committed offsets, from which a starting process reads on.
    pub(crate) fn note_floor(&mut self) {
        if self.settings.sources.is_empty() {
            return;
        }
        let mut floor = BTreeMap::new();
        for source in &self.settings.sources {
            let group = self.clusters[source.cluster].groups().and_then(|groups| groups.by_name.get(&source.group()));
            floor.extend(
                group.into_iter().flat_map(|group| group.offsets.iter().map(|(at, place)| (at.clone(), place.0))),
            );
        }
        self.sources.judged.floor = floor;
    }

    /// Adds the counters of a process that has ended.
    pub(crate) fn note_unwanted(&mut self, process: &Process) {
        self.sources.judged.unwanted += unwanted(process);
    }

    /// Notes the records that end with the current process: those that clients with sessions that are not kept have not acknowledged.
    /// With `[broker]` the position of a slot has passed them, so the next process gives them to nobody, and does not count them.
    pub(crate) fn note_gone(&mut self) {
        if self.settings.broker.is_none() {
            return;
        }
        let mut gone = Vec::new();
        // A connection that its client has left unnoticed is among them.
        let of_it = self.sockets.values().filter(|socket| socket.life == self.life);
        let here: BTreeSet<usize> = of_it
            .filter_map(|socket| match socket.client {
                Client::Subscriber(index) => Some(index),
                Client::Device(_) | Client::Relay(_) => None,
            })
            .collect();
        for (index, (one, had)) in self.subscribers.iter().zip(&self.sources.judged.by_subscriber).enumerate() {
            if one.kept || !here.contains(&index) || one.socket.is_some() && !one.is_greeted() {
                continue;
            }
            let has_its_session = had.of.0 == one.sessions;
            let is_open = |(number, record): &(u32, &Record)| {
                // A record from before SUBSCRIBE may have been read after it, and be in the client's queue.
                let is_due_at = |time| qos_of(one, record, time).is_some_and(|qos| qos > 0);
                let is_due = || is_due_at(record.written_at) || is_due_at(self.time);
                !(has_its_session && had.answered.contains(number))
                    && (has_its_session && had.got.contains_key(number) || is_due())
            };
            gone.extend((FIRST_RECORD..).zip(&self.sources.records).filter(is_open).map(|(number, _)| number));
        }
        self.sources.judged.gone.extend(gone);
    }

    // ---- at each commit ----

    /// Checks the commits since the last check.
    pub(crate) fn judge_commits(&mut self) {
        let mut seen = std::mem::take(&mut self.sources.judged.commits);
        seen.resize(self.clusters.len(), 0);
        for (cluster, seen) in seen.iter_mut().enumerate() {
            let new: Vec<Commit> =
                self.clusters[cluster].groups().map_or_else(Vec::new, |groups| groups.commits[*seen..].to_vec());
            *seen += new.len();
            for commit in new {
                self.note(|| format!("{commit:?}"));
                self.sources.judged.is_late |= commit.late;
                self.lower_floor(&commit);
                self.judge_commit(cluster, &commit);
                self.judge_copied(&commit);
                self.judge_commit_of_instance(&commit);
            }
        }
        self.sources.judged.commits = seen;
    }

    /// Lowers the floor to a commit. With `[broker]` a process reads again from the positions of its slots, and commits accordingly: a frozen process
    /// that goes on may do so while its successor begins, which then reads from there.
    fn lower_floor(&mut self, commit: &Commit) {
        let floor = self.sources.judged.floor.get_mut(&(commit.topic.clone(), commit.partition));
        if let Some(floor) = floor.filter(|_| self.settings.broker.is_some()) {
            *floor = commit.offset.min(*floor);
        }
    }

    fn judge_commit(&mut self, cluster: usize, commit: &Commit) {
        let at = (commit.topic.clone(), commit.partition);
        let partition = self.clusters[cluster].topics.get(&at.0).and_then(|of| of.partitions.get(at.1 as usize));
        let high = partition.map_or(0, |partition| partition.high);
        if commit.offset > high {
            return self.judge.fails("F6", format!("{commit:?} is beyond the log, which ends at {high}"));
        }
        let Some(numbers) = self.sources.by_partition.get(&at).cloned() else { return };
        let from = self.sources.judged.below.get(&at).copied().unwrap_or(0);
        let mut end = from;
        for number in &numbers[from..] {
            let Some(record) = self.record(*number) else { break };
            match self.offset_of(record) {
                Some(offset) if offset >= commit.offset => break,
                Some(_) => {
                    if let Some(text) = self.open_for(*number, record, commit) {
                        return self.judge.fails("F5", format!("{commit:?} passes record {number}: {text}"));
                    }
                }
                None => {}
            }
            end += 1;
        }
        self.sources.judged.below.insert(at, end);
    }

    /// A subscriber without a record that a commit passes, although its client has been there all along and only memory has its copy.
    fn open_for(&self, number: u32, record: &Record, commit: &Commit) -> Option<String> {
        let source = &self.settings.sources[record.source];
        let is_released = source.release_after_s.is_some_and(|after| commit.time >= record.written_at + after * S);
        if record.is_bad || is_released || self.copies_dropped() > 0 {
            return None;
        }
        self.subscribers.iter().enumerate().find_map(|(index, one)| {
            // A client may wait for a process that is frozen, and that another one has replaced.
            let is_served = one.socket.and_then(|socket| self.sockets.get(&socket));
            // One that goes on and takes the logs over ends the sessions of the other's clients that are not kept.
            let is_of_it = |life: u32| self.settings.broker.is_none() || life == commit.life;
            let is_served = is_served.is_some_and(|socket| self.broker.is_newest(socket.life) && is_of_it(socket.life));
            let is_here = is_served && one.is_greeted() && one.greeted_at < record.written_at;
            let is_in_log = one.kept && self.settings.keeps_sessions();
            let is_due = qos_of(one, record, record.written_at).is_some_and(|qos| qos > 0);
            let had = self.sources.judged.by_subscriber.get(index);
            let has_answered = had.is_some_and(|had| had.answered.contains(&number));
            (is_here && !is_in_log && is_due && !has_answered).then(|| format!("{} has not acknowledged it", one.name))
        })
    }

    // ---- at each copy ----

    /// Judges a copy of a record that has come.
    pub(crate) fn judge_record_copy(&mut self, index: usize, copy: &Copy) {
        self.note_reader(index);
        let name = self.subscribers[index].name.clone();
        self.note(|| {
            let Copy { message, topic, qos, dup, is_handed_on, .. } = copy;
            format!("{name} gets record {message}, {topic}, QoS {qos}, DUP {dup}, handed on {is_handed_on}")
        });
        if let Err((what, text)) = self.check_record_copy(index, copy) {
            self.judge.fails(what, format!("{name}, record {}: {text}", copy.message));
        }
    }

    fn check_record_copy(&mut self, index: usize, copy: &Copy) -> Result<(), (&'static str, String)> {
        let number = copy.message;
        let Some(record) = self.record(number) else { return Err(("J5", "it was never written".into())) };
        let is_it = record.topic == copy.topic && record.payload == copy.payload && (record.retain || !copy.retain);
        if record.is_bad || !is_it {
            return Err(("J5", format!("it is another one: {record:?}")));
        }
        if copy.retain {
            self.subscribers[index].ledger.note(number);
            return Ok(());
        }
        let Some(offset) = self.offset_of(record) else { return Err(("J5", "its leader had lost it".into())) };
        let subscriber = &self.subscribers[index];
        if self.judge.is_at_rest
            && !self.is_doubtful(subscriber.doubted_until, number)
            && (subscriber.kept && self.settings.broker.is_some() || !self.comes_after_late_commit(&record.at, offset))
        {
            return Err(("again", format!("it comes after all was committed, QoS {}, DUP {}", copy.qos, copy.dup)));
        }
        check_qos(subscriber, record, copy)?;
        // Records come in order that had to be delivered since before they were written; at QoS 0, only if the client has
        // been there.
        let was_there = copy.qos > 0 || subscriber.greeted_at < record.written_at;
        let is_due = was_there && qos_of(subscriber, record, record.written_at).is_some();
        let (at, line) = (record.at.clone(), (record.at.clone(), record.topic.clone(), [record.qos, copy.qos]));
        let is_safe = copy.qos == 0 || subscriber.kept;
        // With `[broker]` the log of a slot knows the messages of a kept session.
        let is_doubtful = self.is_doubtful(subscriber.doubted_until, number);
        let is_left_out = self.has_left_out();
        // What a full queue has dropped comes for the first time when a later process reads its record again.
        let comes_after_drop = self.life > 1 && self.copies_dropped() > 0;
        let is_known =
            self.settings.broker.is_some() && subscriber.kept && copy.qos > 0 && is_due && !is_doubtful && !is_left_out;
        let floor = self.sources.judged.floor.get(&at).copied().unwrap_or(0);
        let (life, is_late) = (self.life, self.sources.judged.is_late);
        // The record cannot have been read in another process, or under another assignment.
        let is_read_once = self.process.as_ref().is_some_and(|process| {
            let count = |metric| {
                (0..process.layout.sources).map(|source| of_source(process, source, metric)).max().unwrap_or(0)
            };
            record.written_at >= process.started_at && !self.broker.had_others && is_one_assignment(count)
        });
        let judged = &mut self.sources.judged;
        judged.copies += 1;
        if is_safe {
            judged.had.insert(number);
        }
        let had = &mut judged.by_subscriber[index];
        let before = had.got.get(&number).copied();
        let (first_life, handed_on, highest) = had.got.entry(number).or_insert((life, 0, 0));
        *handed_on += u32::from(copy.is_handed_on && copy.qos == 2);
        *highest = copy.qos.max(*highest);
        let (handed_on, first_life) = (*handed_on, *first_life);
        // The position of the session's slot is written every 2 s, so it may be below the group's. A record that the session had at QoS 0 alone is not in
        // the log: if the client has asked for a higher QoS since, the next process gives the record at that.
        let is_from_slot = self.settings.broker.is_some() && self.subscribers[index].kept && copy.qos > 0;
        let is_new_to_log = is_from_slot && before.is_some_and(|(.., highest)| highest == 0);
        match before {
            None if is_due => {
                let newest = had.newest.entry(line).or_insert(offset);
                if *newest > offset && !is_left_out && !comes_after_drop {
                    return Err(("order", format!("at offset {offset}, after {newest}")));
                }
                *newest = offset;
            }
            None => {}
            Some(_) if copy.dup => {}
            // A record that is read again is a new message to its subscribers.
            Some(_) if first_life < life && offset < floor && !is_late && !is_doubtful && !is_new_to_log => {
                return Err((
                    "again",
                    format!("at offset {offset}, and {floor} was committed when the process started"),
                ));
            }
            Some(_) if is_read_once => {
                return Err(("double", "it comes again, and nothing has happened to the source".into()));
            }
            Some(_) => {}
        }
        if handed_on > 1 && (is_read_once || is_known) {
            return Err(("J2", format!("handed on {handed_on} times at QoS 2")));
        }
        let ledger = &mut self.subscribers[index].ledger;
        ledger.copies += 1;
        ledger.note(number);
        Ok(())
    }

    /// Numbers of records that were written, of copies of them that came, and of accepted commits.
    pub(crate) fn read(&self) -> [u64; 3] {
        let commits = self.clusters.iter().filter_map(|of| of.groups()).map(|groups| groups.commits.len() as u64).sum();
        [self.sources.records.len() as u64, self.sources.judged.copies, commits]
    }

    // ---- while it runs ----

    /// Checks that windows keep to their bounds (F8).
    pub(crate) fn check_windows(&mut self, boards: &[Vec<u64>]) {
        let Some(process) = &self.process else { return };
        let mut wrong = None;
        for values in boards {
            for (source, plan) in self.settings.sources.iter().enumerate() {
                let of = |metric| values[process.layout.source(source, metric)];
                let (open, partitions) = (of(SourceMetric::Open), of(SourceMetric::Partitions));
                if open > partitions * plan.window_messages {
                    wrong = Some(format!(
                        "{open} records of {partitions} partitions are open, {} of each may be",
                        plan.window_messages
                    ));
                }
            }
        }
        if let Some(text) = wrong {
            self.judge.fails("F8", text);
        }
    }

    // ---- at the end ----

    /// Records that a subscriber must have, and has not.
    pub(crate) fn missing_records(&self, subscriber: &Subscriber) -> Vec<u32> {
        let is_missing = |(number, record): (u32, &Record)| {
            let source = &self.settings.sources[record.source];
            let is_due = match qos_of(subscriber, record, record.written_at) {
                None => false,
                Some(0) => subscriber.greeted_at < record.written_at,
                // The group has moved on, and a crash has removed copies in memory alone.
                Some(_) => source.release_after_s.is_none() || self.judge.ends.is_empty(),
            };
            let is_there = || !record.is_bad && self.offset_of(record).is_some();
            (is_due && is_there() && !subscriber.ledger.has(number)).then_some(number)
        };
        (FIRST_RECORD..).zip(&self.sources.records).filter_map(is_missing).collect()
    }

    /// Partitions that are not committed to their end, with both offsets.
    fn behind(&self) -> Vec<((String, i32), i64, i64)> {
        let mut behind = Vec::new();
        for source in &self.settings.sources {
            let cluster = &self.clusters[source.cluster];
            let group = cluster.groups().and_then(|groups| groups.by_name.get(&source.group()));
            for topic in &source.topics {
                let partitions = cluster.topics.get(topic).map(|topic| &topic.partitions);
                for (index, partition) in (0..).zip(partitions.into_iter().flatten()) {
                    let at = (topic.clone(), index);
                    let committed = group.and_then(|group| group.offsets.get(&at)).map_or(-1, |place| place.0);
                    if committed != partition.end() && !self.is_taken_back(&at, partition.end()) {
                        behind.push((at, committed, partition.end()));
                    }
                }
            }
        }
        behind
    }

    /// Whether a commit of this process came late, over a connection that had been given up, and took back its last one, of this offset. No member can know of
    /// that: the group stays there until something else is committed.
    fn is_taken_back(&self, at: &(String, i32), offset: i64) -> bool {
        let commits = self.clusters.iter().filter_map(|of| of.groups()).flat_map(|groups| groups.commits.iter().rev());
        let mut of_it = commits.filter(|commit| commit.topic == at.0 && commit.partition == at.1);
        let is_late = of_it.next().is_some_and(|last| last.late && last.life == self.life && last.offset < offset);
        let heard = of_it.find(|commit| !commit.late);
        is_late && heard.is_some_and(|commit| commit.life == self.life && commit.offset == offset)
    }

    /// Notes, at rest, where the next process reads again what a late commit took back.
    pub(crate) fn note_taken_back(&mut self) {
        let mut taken_back = BTreeMap::new();
        for source in &self.settings.sources {
            let cluster = &self.clusters[source.cluster];
            let group = cluster.groups().and_then(|groups| groups.by_name.get(&source.group()));
            for (at, place) in group.into_iter().flat_map(|group| &group.offsets) {
                let topic = cluster.topics.get(&at.0).and_then(|topic| topic.partitions.get(at.1 as usize));
                if topic.is_some_and(|partition| self.is_taken_back(at, partition.end())) {
                    taken_back.insert(at.clone(), place.0);
                }
            }
        }
        self.sources.judged.taken_back = taken_back;
    }

    /// Whether the next process reads a record again at rest, as a late commit took back the last one: clients get it again, unless the log of a slot knows
    /// that their kept sessions have had it.
    pub(super) fn comes_after_late_commit(&self, at: &(String, i32), offset: i64) -> bool {
        self.sources.judged.taken_back.get(at).is_some_and(|from| offset >= *from)
    }

    /// Whether all records are read, committed, and delivered to the subscribers that must have them. With `[broker]` the process may have to read again what
    /// others have committed, from the positions of its slots.
    pub(crate) fn has_read_all(&self) -> bool {
        if self.settings.sources.is_empty() {
            return true;
        }
        let missing: usize = self.subscribers.iter().map(|one| self.missing_records(one).len()).sum();
        self.behind().is_empty()
            && missing as u64 <= self.copies_dropped()
            && (self.settings.broker.is_none() || self.process.as_ref().is_some_and(|process| self.reads_all(process)))
    }

    /// Whether a process reads all partitions, and has nothing open, according to its shards.
    fn reads_all(&self, process: &Process) -> bool {
        self.settings.sources.iter().enumerate().all(|(source, plan)| {
            let topics = plan.topics.iter().filter_map(|topic| self.clusters[plan.cluster].topics.get(topic));
            let partitions: usize = topics.map(|topic| topic.partitions.len()).sum();
            let of = |metric| of_source(process, source, metric);
            of(SourceMetric::Assigned) == partitions as u64
                && of(SourceMetric::Partitions) == partitions as u64
                && of(SourceMetric::Open) + of(SourceMetric::Lag) == 0
        })
    }

    /// Whether all subscribers but the slow one have their records, in partitions that the slow one gets nothing from.
    pub(crate) fn others_have_theirs(&self) -> bool {
        let Some(slow) = self.subscribers.get(self.plan.subscribers - 1) else { return true };
        let mut held: BTreeSet<&(String, i32)> = BTreeSet::new();
        for record in self.sources.records.iter().filter(|record| !record.is_bad) {
            if slow.wishes.iter().any(|wish| matches(&wish.filter, &record.topic)) {
                held.insert(&record.at);
            }
        }
        let is_held = |number: &u32| self.record(*number).is_none_or(|record| held.contains(&record.at));
        let others = self.subscribers.iter().filter(|one| one.name != slow.name);
        let missing = others.flat_map(|one| self.missing_records(one)).filter(|number| !is_held(number));
        let are_there = self.subscribers.iter().all(Subscriber::is_greeted);
        are_there
            && missing.count() as u64 <= self.copies_dropped()
            && self.behind().iter().all(|(at, ..)| held.contains(at))
    }

    /// Checks for missing records when time is up, or everything is at rest.
    pub(crate) fn judge_sources(&mut self) {
        if self.settings.sources.is_empty() {
            return;
        }
        let dropped = self.copies_dropped();
        let missing: Vec<_> = self.subscribers.iter().map(|one| (&one.name, self.missing_records(one))).collect();
        let missing: Vec<_> = missing.into_iter().filter(|(_, missing)| !missing.is_empty()).collect();
        let count: usize = missing.iter().map(|(_, missing)| missing.len()).sum();
        if count as u64 > dropped {
            let text = format!("records that have not come, and {dropped} dropped: {missing:?}");
            return self.judge.fails("F5", text);
        }
        let behind = self.behind();
        if !behind.is_empty() {
            return self.judge.fails("F6", format!("not committed to the end: {behind:?}"));
        }
        self.judge_counts();
        let nobody = self.had_by_nobody();
        let counted = self.sources.judged.unwanted + self.process.as_ref().map_or(0, unwanted);
        let [of_wait, of_drop] = [true, false].map(|waits| {
            let of =
                |number: &&u32| self.record(**number).is_some_and(|of| self.settings.sources[of.source].waits == waits);
            nobody.iter().filter(of).copied().collect::<Vec<u32>>()
        });
        if of_wait.len() as u64 > dropped {
            return self
                .judge
                .fails("F7", format!("records that wait for a subscriber, and nobody has them: {of_wait:?}"));
        }
        if of_drop.len() as u64 > dropped + counted {
            let text = format!("nobody has {of_drop:?}, and {counted} were counted so, {dropped} dropped");
            self.judge.fails("F7", text);
        }
    }

    /// Whether the process reads everything and has nothing open, according to its shards.
    pub(crate) fn has_nothing_open(&self) -> bool {
        let Some(process) = self.process.as_ref().filter(|process| process.has_started()) else { return false };
        let missing: usize = self.subscribers.iter().map(|one| self.missing_records(one).len()).sum();
        missing == 0 && self.reads_all(process) && self.subscribers.iter().all(Subscriber::is_at_rest)
    }

    /// Checks that an orderly stop at rest has committed everything (F6), so that nothing comes twice.
    pub(crate) fn judge_last_commit(&mut self) {
        let behind = self.behind();
        if !behind.is_empty() {
            self.judge.fails("stop", format!("all was over, and this was not committed at the stop: {behind:?}"));
        }
    }

    /// Checks that counters account exactly for all records, where each record was read once.
    fn judge_counts(&mut self) {
        // Messages of devices are records as well.
        let are_records = self.settings.broker.is_none();
        let is_known = self.judge.ends.is_empty() && are_records;
        let Some(process) = self.process.as_ref().filter(|_| is_known) else { return };
        let mut wrong = None;
        for source in 0..self.settings.sources.len() {
            let of = |metric| of_source(process, source, metric);
            if of(SourceMetric::Rebalances) > 1 || of(SourceMetric::MembershipsLost) + of(SourceMetric::Resets) > 0 {
                continue;
            }
            let all = self.sources.records.iter().filter(|record| record.source == source);
            let there: Vec<&Record> = all.filter(|record| self.offset_of(record).is_some()).collect();
            let bad = there.iter().filter(|record| record.is_bad).count() as u64;
            let is_wanted = |record: &Record| {
                self.subscribers.iter().any(|one| match qos_of(one, record, record.written_at) {
                    None => false,
                    Some(0) => one.greeted_at < record.written_at,
                    Some(_) => true,
                })
            };
            let unwanted = there.iter().filter(|record| !record.is_bad && !is_wanted(record)).count() as u64;
            let counted = [SourceMetric::Records, SourceMetric::Skipped, SourceMetric::NoSubscriber].map(of);
            let most = if self.settings.sources[source].waits { 0 } else { unwanted };
            if counted[..2] != [there.len() as u64, bad] || counted[2] > most {
                wrong = Some(format!(
                    "source {source}: records, bad ones, without a subscriber: {counted:?} were counted of {} and {bad}, and at most {most}",
                    there.len()
                ));
            }
        }
        if let Some(text) = wrong {
            self.judge.fails("ledger", text);
        }
    }

    /// Records that no client has had, except those that a client may have had and taken along when its connection or session ended.
    fn had_by_nobody(&self) -> Vec<u32> {
        let judged = &self.sources.judged;
        let may_have_gone = |record: &Record| {
            self.subscribers.iter().zip(&judged.by_subscriber).any(|(one, had)| {
                let mut wishes = one.wishes.iter().filter(|wish| matches(&wish.filter, &record.topic));
                // A message at QoS 0 may be in flight when a connection ends; a kept session may be given up with its messages.
                let at_0 = wishes.clone().any(|wish| wish.qos == 0 || record.qos == 0);
                // Nor does a kept session get anything at QoS 0 while its client is away, although it has subscribed.
                let was_away = had.ended_at[0] >= record.written_at || one.kept && one.greeted_at >= record.written_at;
                let is_away = at_0 && was_away;
                is_away || (wishes.next().is_some() && one.kept && had.ended_at[1] >= record.written_at)
            })
        };
        let is_lost = |(number, record): (u32, &Record)| {
            let is_released = self.settings.sources[record.source].release_after_s.is_some();
            // A retained message stays in Kafka, and is not counted.
            let is_over = judged.had.contains(&number) || judged.gone.contains(&number);
            let is_open = !record.is_bad && !record.retain && !is_released && !is_over;
            (is_open && self.offset_of(record).is_some() && !may_have_gone(record)).then_some(number)
        };
        (FIRST_RECORD..).zip(&self.sources.records).filter_map(is_lost).collect()
    }
}

/// The QoS at which a subscriber must get a record that was written at this time; `None`: it need not get it.
fn qos_of(subscriber: &Subscriber, record: &Record, time: u64) -> Option<u8> {
    let had = subscriber.matching(&record.topic).filter(|(_, wish)| wish.had(time));
    had.map(|(_, wish)| wish.qos).max().map(|highest| highest.min(record.qos))
}

/// Checks that some filter matches the record, and that the copy's QoS is the lower one of both.
fn check_qos(subscriber: &Subscriber, record: &Record, copy: &Copy) -> Result<(), (&'static str, String)> {
    let asking: Vec<&Wish> =
        subscriber.matching(&record.topic).map(|(_, wish)| wish).filter(|wish| wish.asked != Asked::Never).collect();
    let Some(highest) = asking.iter().map(|wish| wish.qos).max() else {
        return Err(("J5", format!("nothing asks for {}", record.topic)));
    };
    let is_certain = asking.iter().all(|wish| wish.had(record.written_at));
    let is_right = if is_certain {
        copy.qos == record.qos.min(highest)
    } else {
        asking.iter().any(|wish| copy.qos == record.qos.min(wish.qos))
    };
    if is_right { Ok(()) } else { Err(("J7", format!("at QoS {}, of {asking:?}", copy.qos))) }
}
