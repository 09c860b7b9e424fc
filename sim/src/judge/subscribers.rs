//! Copies that subscribers must get, and must not: the rules J of docs/internals/FAULTS.md. Each copy is judged when it
//! comes, by the copies that its session has got before; missing ones show at rest.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use forebay::metrics::spec::ShardMetric;

use crate::device::Message;
use crate::process::Process;
use crate::records;
use crate::subscriber::{Asked, Copy, Subscriber, Wish};
use crate::time::S;
use crate::world::World;

/// The messages that a session of a subscriber has got.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Messages, each with the number of copies that were handed on at QoS 2.
    got: BTreeMap<u32, u64>,
    /// The newest message of each publisher, topic and quality of service.
    newest: BTreeMap<Line, u32>,
    /// The newest message of each line on this connection.
    newest_here: BTreeMap<Line, u32>,
    /// Messages that have come on this connection.
    here: BTreeSet<u32>,
    /// Number of copies that came.
    pub(crate) copies: u64,
}

/// A publisher, its topic, and the quality of service of the publication and of the copy.
type Line = (usize, String, [u8; 2]);

impl Ledger {
    pub(crate) fn connection_begins(&mut self) {
        self.newest_here.clear();
        self.here.clear();
    }

    /// Whether a message has come.
    pub(crate) fn has(&self, message: u32) -> bool {
        self.got.contains_key(&message)
    }

    /// Notes a message that has come.
    pub(crate) fn note(&mut self, message: u32) {
        self.got.entry(message).or_default();
    }

    /// Number of messages that have come.
    pub(crate) fn count(&self) -> usize {
        self.got.len()
    }
}

/// Copies dropped for want of room, as the shards of a process have counted them.
pub(crate) fn dropped(process: &Process) -> u64 {
    let counted = [ShardMetric::CopiesQueueFull, ShardMetric::CopiesSlow];
    counted.iter().map(|metric| process.number(*metric)).sum()
}

/// Whether a shard's log has no room for another message, according to its counters.
pub(crate) fn is_log_full(process: &Process, boards: &[Vec<u64>]) -> bool {
    process.kept_max > 0
        && boards.iter().any(|values| {
            let of = |metric: ShardMetric| values[metric as usize];
            of(ShardMetric::SpoolFull) > 0 || of(ShardMetric::StoredMessages) >= process.kept_max
        })
}

/// Segments that messages leave free, the one that is being written included.
const SEGMENTS_LEFT: u64 = 6;

/// Whether a shard's log may have no room for another message. A message leaves more room than rows do, and no counter tells how much
/// there is.
pub(crate) fn may_be_full(process: &Process) -> bool {
    process.kept_max > 0
        && process.hosts.iter().any(|host| {
            let segments = host.board.read()[ShardMetric::SpoolSegments as usize];
            segments + SEGMENTS_LEFT > process.segments_max
        })
}

impl World {
    /// Judges a copy that has come.
    pub(crate) fn judge_copy(&mut self, index: usize, copy: &Copy) {
        let name = self.subscribers[index].name.clone();
        self.note(|| {
            let Copy { message, topic, qos, dup, retain, is_handed_on, .. } = copy;
            format!("{name} gets message {message}, {topic}, QoS {qos}, DUP {dup}, RETAIN {retain}, handed on {is_handed_on}")
        });
        if let Err((what, text)) = self.check_copy(index, copy) {
            self.judge.fails(what, format!("{name}, message {}: {text}", copy.message));
        }
    }

    fn check_copy(&mut self, index: usize, copy: &Copy) -> Result<(), (&'static str, String)> {
        let number = copy.message;
        let Some(message) = self.messages.get(number as usize) else { return Err(("J5", "it was never sent".into())) };
        if message.topic != copy.topic || message.payload != copy.payload {
            return Err(("J5", format!("it is another one: {copy:?}")));
        }
        let is_doubtful = self.is_doubtful(self.subscribers[index].doubted_until, number);
        let is_after_late_commit = || {
            let copies = self.clusters[0].copies(number, 0);
            let places = copies.map(|entry| ((entry.place.0.clone(), entry.place.2 as i32), entry.end() - 1));
            !self.subscribers[index].kept
                && places.into_iter().any(|(at, last)| self.comes_after_late_commit(&at, last))
        };
        if self.judge.is_at_rest && !message.is_will && !copy.retain && !is_doubtful && !is_after_late_commit() {
            return Err(("J11", format!("it comes after all was acknowledged, QoS {}, DUP {}", copy.qos, copy.dup)));
        }
        self.judge_expiry(index, copy)?;
        if let Some(share) = self.subscribers[index].share {
            return self.check_share_copy((index, share), copy);
        }
        let subscriber = &self.subscribers[index];
        if let Err(wrong) = judge_filters(subscriber, message, copy)
            && !is_doubtful
        {
            return Err(wrong);
        }
        let most = if is_doubtful { u64::MAX } else { self.copies_at_most(number) };
        // A client that was away, got the message at QoS 0, or had no room may get it when its publisher repeats it.
        let was_kept = |wish: &Wish| wish.qos > 0 && wish.had(message.sent_at);
        let was_due = copy.qos > 0 && subscriber.matching(&message.topic).any(|(_, wish)| was_kept(wish));
        let lacks = !was_due || self.may_be_untaken(number) || self.copies_dropped() > 0 || message.expiry_s.is_some();
        let is_read_again = self.may_be_read_again();
        // The log of a slot knows the messages of a kept session.
        let is_known = !is_read_again || was_due && subscriber.kept && !self.has_left_out();
        let most = if is_known { most } else { u64::MAX };
        let goes_beside_log = self.may_go_beside_log(number);
        let may_be_late = message.is_will
            || is_doubtful
            || (message.sends > 1 && lacks)
            // Records that a process reads again also come to clients that need not get them, and at QoS 0 to clients that have
            // had younger ones.
            || !is_known
            || goes_beside_log;
        // Each process publishes a will until the log has it.
        let has_one_record = self.settings.broker.is_none() || most == 1;
        let is_sent_once = message.sends == 1 && !message.is_will && !is_doubtful && is_known && has_one_record;
        let is_in_order = is_sent_once && !goes_beside_log;
        let line = (message.device, message.topic.clone(), [message.qos, copy.qos]);
        // The message's last record may come after the records of younger messages.
        let has_many_records = self.settings.broker.is_some() && message.sends > 1;
        let ledger = &mut self.subscribers[index].ledger;
        ledger.copies += 1;
        let is_first = !ledger.has(number);
        let handed_on = ledger.got.entry(number).or_default();
        let had_at_2 = *handed_on > 0;
        *handed_on += u64::from(copy.is_handed_on && copy.qos == 2 && !copy.retain);
        if copy.retain {
            // Repeated copies come in the order in which they were first sent.
            return if copy.dup || is_doubtful || is_read_again || has_many_records {
                Ok(())
            } else {
                judge_retained((&self.messages, &self.judge.excused), ledger, &line, number)
            };
        }
        if copy.qos == 2 && *handed_on > most {
            return Err(("J2", format!("handed on {handed_on} times at QoS 2, {most} are allowed")));
        }
        // At QoS 1 a client gets a message before its log has it. If the client has asked for QoS 2 since, the next process gives it at that.
        let may_lack_dup = is_read_again && (copy.qos < 2 || !had_at_2);
        if !is_first && is_sent_once && !copy.dup && !may_lack_dup {
            return Err(("J4", "it comes again without DUP".into()));
        }
        if !ledger.here.insert(number) && is_sent_once {
            return Err(("J4", "it comes again on the same connection".into()));
        }
        if is_first && !may_be_late {
            ascends(&mut ledger.newest, &line, number)?;
        }
        if is_in_order { ascends(&mut ledger.newest_here, &line, number) } else { Ok(()) }
    }

    /// Checks that no message comes that expired before the process began, and that each copy has the right remaining lifetime.
    fn judge_expiry(&self, index: usize, copy: &Copy) -> Result<(), (&'static str, String)> {
        let message = &self.messages[copy.message as usize];
        let given = message.expiry_s.filter(|_| self.subscribers[index].is_v5());
        let is_right = match (given, copy.expiry_s) {
            (None, None) => true,
            (Some(given), Some(left)) => left <= given,
            _ => false,
        };
        if !is_right {
            return Err(("J5", format!("{:?} s are left of {:?}", copy.expiry_s, message.expiry_s)));
        }
        let (Some(expiry_s), Some((answered, _)), Some(process)) = (message.expiry_s, message.answered, &self.process)
        else {
            return Ok(());
        };
        // The message was taken when it was answered. A repeat may have been taken once more. Where the clock was set back, the message
        // may live longer.
        // The remaining lifetime of a retained message goes into a copy in whole seconds.
        let whole = if copy.retain { S } else { 0 };
        let is_over = answered + u64::from(expiry_s) * S + whole < process.started_at;
        if is_over && message.sends == 1 && !self.clock_fell_back {
            return Err(("expired", format!("answered at {answered}, for {expiry_s} s")));
        }
        Ok(())
    }

    /// Bound on the number of times that a session may get a message at QoS 2: once for each session of its publisher in
    /// which it was sent.
    pub(crate) fn copies_at_most(&self, number: u32) -> u64 {
        let message = &self.messages[number as usize];
        if message.is_will || message.is_poison() || self.was_refused(number) {
            return u64::MAX;
        }
        if self.settings.broker.is_some() {
            // Each record is a message of its own. A partition that has forgotten its producer may have two.
            return (self.clusters[0].copies(number, 0).count() as u64).max(1);
        }
        let attempts = self.devices[message.device].attempts(number, &self.messages, self.life);
        match &self.settings.spool {
            // A start with another number of shards forgets open exchanges.
            Some(_) => {
                let of = attempts.iter().map(|(session, life)| (session, self.moves_before(*life)));
                of.collect::<HashSet<_>>().len() as u64
            }
            None => attempts.len() as u64,
        }
        .max(1)
    }

    /// Number of starts with another number of shards up to the start of a process.
    fn moves_before(&self, life: u32) -> usize {
        let lives = &self.lives[..(life as usize).min(self.lives.len())];
        lives.windows(2).filter(|two| two[0].shards != two[1].shards).count()
    }

    /// Whether a log's records of a message for a subscriber were damaged: of the message's end, or of the subscriber's
    /// session.
    pub(crate) fn is_doubtful(&self, until: u64, number: u32) -> bool {
        let Some(sent_at) = self.messages.get(number as usize).map(|message| message.sent_at) else {
            return self.record(number).is_none_or(|record| record.written_at < until);
        };
        self.judge.excused.contains(&number) || self.judge.again.contains(&number) || sent_at < until
    }

    /// Notes the end of the process: the next one may not know which clients have the damaged messages.
    pub(crate) fn subscribers_may_not_be_told(&mut self) {
        let mut subscribers = std::mem::take(&mut self.subscribers);
        for subscriber in &mut subscribers {
            let until = subscriber.doubts_from(self.time);
            subscriber.may_not_be_told(|number| self.is_doubtful(until, number));
        }
        self.subscribers = subscribers;
    }

    /// Notes the end of the process: messages in memory alone, because a log had no room, may be lost. For messages that were answered
    /// meanwhile, the disks tell which ones.
    pub(crate) fn note_unstored(&mut self, was_stopped: bool) {
        self.note_too_large(was_stopped, |_| true);
        if self.judge.tight.is_empty() {
            return;
        }
        self.note_unstored_of_shares();
        let all: Vec<_> = self.disks.iter().map(records::all).collect();
        for (index, subscriber) in self.subscribers.iter().enumerate().filter(|(_, one)| one.kept) {
            let missing =
                self.missing((index, subscriber)).into_iter().filter(|number| self.judge.tight.contains(number));
            let missing: Vec<u32> = missing.collect();
            if missing.is_empty() {
                continue;
            }
            let stored: BTreeSet<u32> =
                all.iter().flat_map(|all| records::waiting_for(all, &subscriber.name)).collect();
            self.judge
                .unstored
                .extend(missing.into_iter().filter(|number| !stored.contains(number)).map(|n| (index, n)));
        }
    }

    /// Notes the end of the process, or its replacement by another one. With `[broker]` a message that no entry of the log takes is queued in memory alone
    /// for a client that has left since: no record stays open for it. A stop closes the connections of all clients.
    pub(crate) fn note_too_large(&mut self, was_stopped: bool, is_of_it: impl Fn(&str) -> bool) {
        let Some(broker) = self.settings.broker else { return };
        for (index, subscriber) in
            self.subscribers.iter().enumerate().filter(|(_, one)| one.kept && is_of_it(&one.name))
        {
            let is_lost = |(number, message): &(u32, &Message)| {
                let was_away = was_stopped || !subscriber.is_greeted() || subscriber.greeted_at > message.sent_at;
                was_away && broker.is_too_large(message.payload.len()) && !subscriber.ledger.has(*number)
            };
            let lost = (0..).zip(&self.messages).filter(is_lost);
            self.judge.unstored.extend(lost.map(|(number, _)| (index, number)));
        }
    }

    /// Messages that a subscriber must have, and has not (J1).
    pub(crate) fn missing(&self, (index, subscriber): (usize, &Subscriber)) -> Vec<u32> {
        if subscriber.share.is_some() {
            return Vec::new();
        }
        let is_due = |message: &Message| {
            // Messages at QoS 0 are not kept.
            let was_there = |wish: &Wish| wish.qos > 0 || subscriber.greeted_at < message.sent_at;
            let is_due = |wish: &Wish| wish.had(message.sent_at) && was_there(wish);
            message.is_promised() && subscriber.matching(&message.topic).any(|(_, wish)| is_due(wish))
        };
        let is_excused = |number: u32| {
            self.judge.excused.contains(&number)
                || self.judge.unstored.contains(&(index, number))
                || self.is_taken_for_repeat(number)
        };
        let all = (0..).zip(&self.messages);
        let missing = all.filter(|(number, message)| is_due(message) && !subscriber.ledger.has(*number));
        missing.map(|(number, _)| number).filter(|number| !is_excused(*number)).collect()
    }

    /// The last retained message of each topic that a subscriber has asked for on this connection, where it has not come (J8). Like
    /// any other message it may have been dropped.
    fn missing_states(&self, subscriber: &Subscriber) -> Vec<u32> {
        if self.copies_dropped() > 0 || subscriber.share.is_some() {
            return Vec::new();
        }
        if self.settings.broker.is_some() {
            return self.missing_retained(subscriber);
        }
        let mut last: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, message) in (0..).zip(&self.messages).filter(|(_, message)| message.retain) {
            last.insert(&message.topic, number);
        }
        let is_there = |number: &u32| {
            if self.judge.excused.contains(number) || self.messages[*number as usize].expiry_s.is_some() {
                return false;
            }
            let ended = |(_, life): (u64, u32)| !self.settings.keeps_sessions() && life < self.life;
            self.messages[*number as usize].answered.is_some_and(|answered| !ended(answered))
        };
        let asks = |wish: &Wish| matches!(wish.asked, Asked::Has(since) if since >= subscriber.greeted_at);
        let is_due = |topic: &str| subscriber.matching(topic).any(|(_, wish)| asks(wish));
        let due = last.into_iter().filter(|(topic, number)| is_there(number) && is_due(topic));
        due.map(|(_, number)| number).filter(|number| !subscriber.ledger.has(*number)).collect()
    }

    /// Copies dropped for want of room, as all processes have counted them.
    pub(crate) fn copies_dropped(&self) -> u64 {
        let others: u64 = self.broker.others.values().map(dropped).sum();
        self.judge.copies_dropped + self.process.as_ref().map_or(0, dropped) + others
    }

    /// Whether all subscribers have their messages, except as many as were dropped.
    pub(crate) fn has_delivered(&self) -> bool {
        let of_one = |one: (usize, &Subscriber)| (self.missing(one).len() + self.missing_states(one.1).len()) as u64;
        let of_shares = self.missing_of_shares().map(|(_, missing)| missing.len() as u64);
        let missing = self.subscribers.iter().enumerate().map(of_one).chain(of_shares);
        let may_be_missing = |missing: u64| missing <= self.copies_dropped();
        self.subscribers.iter().all(Subscriber::is_at_rest) && may_be_missing(missing.sum())
    }

    /// Checks for missing messages when time is up (J1, J12).
    pub(crate) fn judge_delivery(&mut self) {
        let missing = self.subscribers.iter().enumerate().map(|one| (one.1.name.clone(), self.missing(one)));
        let of_shares = self.missing_of_shares().map(|(share, missing)| (format!("share {share}"), missing));
        let missing: Vec<_> = missing.chain(of_shares).filter(|(_, missing)| !missing.is_empty()).collect();
        let count: usize = missing.iter().map(|(_, missing)| missing.len()).sum();
        let dropped = self.copies_dropped();
        let states: Vec<_> = self.subscribers.iter().map(|one| (one.name.clone(), self.missing_states(one))).collect();
        if states.iter().any(|(_, missing)| !missing.is_empty()) {
            self.judge.fails("J8", format!("the last retained message of its topic has not come: {states:?}"));
        }
        if count as u64 > dropped {
            self.judge.fails("J1", format!("not there, and {dropped} dropped: {missing:?}"));
        }
    }

    /// Checks that at rest no message is left on a disk, and none waits for a client (J11).
    pub(crate) fn judge_queues(&mut self) {
        let Some(process) = &self.process else { return };
        let left = [ShardMetric::StoredMessages, ShardMetric::Exchanges].map(|metric| process.number(metric));
        let waiting = [ShardMetric::CopiesQueued, ShardMetric::CopiesInFlight].map(|metric| process.number(metric));
        // An exchange with a destroyed end stays until its publisher uses the packet identifier again, or its session ends.
        let in_doubt = self.judge.exchanges_in_doubt.len() as u64;
        if left[0] > 0 || left[1] > in_doubt {
            self.judge.fails("J11", format!("messages and exchanges on the disk at rest: {left:?}"));
        }
        if waiting != [0, 0] {
            self.judge.fails("J11", format!("copies that wait and that are in flight at rest: {waiting:?}"));
        }
    }
}

/// J5, J7: checks that some filter matches the message, and that quality of service and identifiers are those of all
/// matching filters.
fn judge_filters(subscriber: &Subscriber, message: &Message, copy: &Copy) -> Result<(), (&'static str, String)> {
    let may_ask = |wish: &Wish| match wish.asked {
        Asked::Never => false,
        Asked::Gone(at) => message.sent_at <= at,
        _ => true,
    };
    let asking: Vec<_> = subscriber.matching(&message.topic).filter(|(_, wish)| may_ask(wish)).collect();
    let Some(highest) = asking.iter().map(|(_, wish)| wish.qos).max() else {
        return Err(("J5", format!("nothing asks for {}: {:?}", message.topic, subscriber.wishes)));
    };
    // A retained message comes for one of the filters.
    if copy.retain || !asking.iter().all(|(_, wish)| wish.had(message.sent_at)) {
        let lower = asking.iter().any(|(_, wish)| copy.qos == message.qos.min(wish.qos));
        return if lower { Ok(()) } else { Err(("J7", format!("at QoS {}", copy.qos))) };
    }
    let mut identifiers = copy.identifiers.clone();
    identifiers.sort_unstable();
    let wanted = asking.iter().filter(|_| subscriber.has_identifiers).map(|(which, _)| *which as u32 + 1);
    if copy.qos != message.qos.min(highest) || !identifiers.iter().copied().eq(wanted) {
        return Err(("J7", format!("QoS {}, identifiers {identifiers:?}, of {asking:?}", copy.qos)));
    }
    Ok(())
}

/// J8: checks that a retained message is not older than earlier ones of its topic, unless the newer one was never
/// answered, or damaged.
fn judge_retained(
    (messages, excused): (&[Message], &BTreeSet<u32>),
    ledger: &mut Ledger,
    line: &Line,
    number: u32,
) -> Result<(), (&'static str, String)> {
    let newest = ledger.newest.entry(line.clone()).or_insert(number);
    // Where a newer message was destroyed, the previous one may be there again.
    let is_there =
        |newest: u32| messages[newest as usize].answered.is_some() && excused.range(number..=newest).next().is_none();
    if *newest > number && is_there(*newest) {
        return Err(("J8", format!("retained, behind message {newest}")));
    }
    *newest = number.max(*newest);
    Ok(())
}

/// J3: checks that numbers ascend.
fn ascends(newest: &mut BTreeMap<Line, u32>, line: &Line, number: u32) -> Result<(), (&'static str, String)> {
    let before = newest.entry(line.clone()).or_insert(number);
    if *before > number {
        return Err(("J3", format!("behind message {before}")));
    }
    *before = number;
    Ok(())
}
