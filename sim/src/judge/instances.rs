//! Promises of several instances of one broker, in addition to those of one: I4 (order in each partition of a route), I6 (wills), I8 (each instance's
//! commits), I10 (while Kafka works, each slot has an owner, and clients are welcomed at once).

use std::collections::{BTreeMap, HashSet};

use forebay::broker::router::{Place, owner};
use forebay::metrics::spec::ShardMetric;

use crate::device::WillSeen;
use crate::kafka::coordinator::Commit;
use crate::kafka::{Entry, State};
use crate::plan::broker::{MESSAGES, ODD};
use crate::process::Process;
use crate::subscriber::Subscriber;
use crate::time::{MS, S};
use crate::world::{Client, World};

/// Bound on a client's wait for its CONNACK, at rest.
const CONNACK_WITHIN: u64 = S;

/// Bound on the time until the logs of slots move again once faults have ended: a batch without success waits for 2 s, and a fifth more, before it is
/// sent again; twice if its leader has moved meanwhile.
const LOGS_MOVE_WITHIN: u64 = 5 * S;

/// Bound on the time from when an owner hears that a connection has ended until the client does: the link between instances
/// may be cut meanwhile.
const HEARD_WITHIN: u64 = 10 * S;
/// Bound on the time for which a letter between shards waits.
const LATE_MAIL: u64 = 300 * MS;

/// Whether a process serves a slot.
pub(crate) fn serves(process: &Process, slot: u16) -> bool {
    matches!(process.slots.at(slot), Place::Here(_))
}

impl World {
    /// Checks the owners of slots, and the clients that wait for CONNACK.
    pub(crate) fn look_at_instances(&mut self) {
        if !self.has_instances() {
            return;
        }
        self.clients_give_up();
        self.judge_welcome();
        let is_owned = self.has_one_owner_each();
        let instances = &mut self.instances;
        instances.owned_since = if is_owned { instances.owned_since.or(Some(self.time)) } else { None };
        let late = self.instances.calm_at + 3 * self.session_timeout();
        if self.instances.is_calm && !is_owned && self.time > late && self.judge.live {
            let text = format!(
                "slots without one owner, 3 session time-outs after the last that has happened\n{}",
                self.describe_instances().join("\n")
            );
            self.judge.fails("I10", text);
        }
    }

    /// I10: checks that clients have their CONNACK within a second while each slot has an owner and nothing goes wrong.
    fn judge_welcome(&mut self) {
        let Some(owned) = self.instances.owned_since.filter(|_| self.instances.is_calm && self.judge.live) else {
            return;
        };
        // The logs that were taken over must have been available for a moment, and CONNACK waits for the log of its slot.
        let from = (owned + S).max(self.instances.calm_at + LOGS_MOVE_WITHIN);
        let is_late = |(_, at): &(&u64, &u64)| self.time > from.max(**at) + CONNACK_WITHIN;
        let mut waiting = self.instances.connected_at.iter().filter(is_late);
        let late = waiting.find_map(|(socket, at)| {
            let client = self.sockets.get(socket)?.client;
            let waits = self.socket_of(client) == Some(*socket) && !self.is_greeted(client);
            waits.then(|| format!("{} has connected at {at}, by socket {socket}", self.name_of(client)))
        });
        if let Some(text) = late {
            let text = format!("{text}, has no CONNACK, and each slot has an owner since {owned}\n{}", self.state());
            self.judge.fails("I10", text);
        }
    }

    /// I10: checks that each instance has its slots as before if all were killed and are back at once. A client that was welcomed since then
    /// stays connected.
    pub(crate) fn judge_second_end(&mut self, client: Client) {
        if self.instances.all_killed && self.is_greeted(client) {
            let name = self.name_of(client);
            self.judge.fails("I10", format!("{name} is disconnected, since all were killed, a second time"));
        }
    }

    fn has_one_owner_each(&self) -> bool {
        let slots = self.settings.broker.map_or(0, |broker| broker.slots);
        (0..slots).all(|slot| self.broker.others.values().filter(|process| serves(process, slot)).count() == 1)
    }

    /// J11: checks that at rest no message is left in a log.
    pub(crate) fn judge_queues_of_instances(&mut self) {
        let of = |metric| self.broker.others.values().map(|process| process.number(metric)).sum::<u64>();
        let left = [ShardMetric::StoredMessages, ShardMetric::Exchanges].map(of);
        if left != [0; 2] {
            self.judge.fails("J11", format!("messages and exchanges in the logs at rest: {left:?}"));
        }
    }

    /// I4: checks that the first records of a publisher's messages at one QoS and of one topic are in order in each partition. Requests in flight when their
    /// sender froze or gave its connection up may be appended later, and so may batches at QoS 0 that a process had written when it froze, or that were on
    /// their way when it lost slots: nobody sends their messages again, so the late record is the first one.
    pub(crate) fn judge_order_in_partitions(&mut self) {
        let mut newest: BTreeMap<(usize, &str, u8, usize), u32> = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut wrong = None;
        let of_routes = |topic: &str| [MESSAGES, ODD].contains(&topic);
        for entry in self.clusters[0].entries.iter().filter(|entry| of_routes(&entry.place.0)) {
            if entry.state == State::Lost {
                continue;
            }
            for row in &entry.rows {
                let Some(message) = self.messages.get(row.message as usize) else { continue };
                let stood_still = |(life, begin, end): &(u32, u64, u64)| {
                    *life == entry.life && begin < end && message.sent_at <= *begin && *begin <= entry.time
                };
                // A batch has its sequence once it was on its way, and is sent until it is there: its rows are not dropped with their slot.
                let arrived = self.clusters[0].arrived.get(&(entry.life, row.message));
                let was_on_its_way = |(life, lost, _): &(u32, u64, u64)| {
                    let is_earlier = |at: &u64| *at <= *lost + self.plan.latency && *lost <= entry.time;
                    *life == entry.life && arrived.is_some_and(is_earlier)
                };
                let is_exempt = |one| stood_still(one) || was_on_its_way(one);
                let is_left = message.qos == 0 && self.instances.disturbed.iter().any(is_exempt);
                if !seen.insert(row.message) || message.is_will || entry.late || is_left {
                    continue;
                }
                let line = (message.device, message.topic.as_str(), message.qos, entry.place.2);
                let before = newest.entry(line).or_insert(row.message);
                if *before > row.message {
                    wrong.get_or_insert(format!(
                        "message {} of QoS {} comes behind {before} in {:?}, at {}, by process {}",
                        row.message, message.qos, entry.place, entry.base_offset, entry.life
                    ));
                }
                *before = row.message.max(*before);
            }
        }
        if let Some(text) = wrong {
            self.judge.fails("I4", text);
        }
    }

    /// I6: checks that a will comes once, and not at all if its client was back in its session before the will was due. A will that is published while a
    /// process dies, freezes or loses slots may come again, or be lost. An event long before its client was lost, or after its last record, excuses nothing.
    /// The will of a connection that the server still has open is not due. One without CONNACK may come again: its CONNECT may have reached two owners.
    /// The delay begins when the slot has its next owner, also if the one before it closes the client's connection later.
    pub(crate) fn judge_wills(&mut self) {
        let has_disturbed = |from: u64, to: u64| {
            let all = self.instances.disturbed.iter();
            all.filter(|(_, begin, end)| *begin <= to && *end + HEARD_WITHIN >= from).count()
        };
        let has_two_owners = |will: &WillSeen, last: u64| {
            let connected = self.messages.get(will.message as usize).map_or(last, |message| message.sent_at);
            let is_between = self.instances.unheard.iter().any(|at| (connected..=last).contains(at));
            usize::from(!will.was_greeted && is_between)
        };
        let slots = self.settings.broker.map_or(1, |broker| usize::from(broker.slots));
        let is_of_next_owner = |client: &str, (lost_at, delay): (u64, u64), time: u64| {
            let slot = owner(client, slots) as u16;
            let begins = |(taken, at): &(u16, u64)| *taken == slot && *at <= lost_at && at + delay <= time + LATE_MAIL;
            self.instances.taken.iter().any(begins)
        };
        let mut wrong = None;
        for device in &self.devices {
            for will in &device.wills {
                let copies = self.clusters[0].copies(will.message, 0).filter(|entry| entry.state != State::Lost);
                let times: Vec<u64> = copies.map(|entry| entry.time).collect();
                let (lost_at, last) = (will.lost_at.unwrap_or(0), times.iter().max().copied());
                let most = 1 + last.map_or(0, |last| has_disturbed(lost_at, last) + has_two_owners(will, last));
                let delay = u64::from(device.will_delay_s) * S;
                let is_before = |lost: u64| will.back_at.is_some_and(|(at, is_same)| is_same && at < lost + delay);
                let is_excused = |time: &u64| {
                    let is_back = will.back_at.is_some_and(|(at, _)| at <= *time);
                    !is_back && is_of_next_owner(&device.name, (lost_at, delay), *time)
                };
                let is_cancelled = will.was_greeted
                    && delay > 0
                    && will.lost_at.is_some_and(is_before)
                    && !times.iter().all(is_excused);
                let is_open = will.left.is_some_and(|socket| self.sockets.contains_key(&socket));
                let is_due = device.is_kept()
                    && will.was_greeted
                    && !is_open
                    && delay == 0
                    && will.lost_at.is_some()
                    && has_disturbed(lost_at, u64::MAX) == 0;
                let said = match times.len() {
                    0 if is_due => "it has not come",
                    1.. if is_cancelled => "its client was back before it was due",
                    copies if copies > most => "it comes too often",
                    _ => continue,
                };
                wrong.get_or_insert(format!(
                    "{} has records of {will:?} at {times:?}, delay {delay}, {most}: {said}",
                    device.name
                ));
            }
        }
        if let Some(text) = wrong {
            self.judge.fails("I6", text);
        }
    }

    /// Whether the connections between a subscriber's front and this process have broken since its CONNACK.
    fn has_broken_since(&self, one: &Subscriber, life: u32) -> bool {
        let front = one.socket.and_then(|socket| self.sockets.get(&socket)).map(|socket| socket.life);
        let part = |life: u32| self.instances.parts.get(&life).map(|part| part.index);
        let between = front.and_then(part).zip(part(life));
        let broken = between.and_then(|between| self.instances.broken.get(&between));
        broken.is_some_and(|at| *at > one.greeted_at)
    }

    /// I8: checks that an instance's group does not move past a record that one of its clients without a kept session has not
    /// acknowledged, unless the instance has lost its place in the group since: then it no longer knows which records were open.
    pub(crate) fn judge_commit_of_instance(&mut self, commit: &Commit) {
        if !self.has_instances() || commit.late || self.copies_dropped() > 0 {
            return;
        }
        let at = (commit.life, commit.topic.clone(), commit.partition);
        let from = self.instances.below.insert(at, commit.offset).unwrap_or(0);
        let Some(process) = self.broker.others.get(&commit.life) else { return };
        let up_at = self.instances.parts.get(&commit.life).map(|part| &part.up_at);
        // Time since which the process serves a client. A client that connected earlier may wait for another process, which is
        // frozen.
        let served_since = |name: &str| {
            let slot = process.slots.slot(name).filter(|slot| serves(process, *slot))?;
            up_at?.get(&slot).copied()
        };
        let kafka = &self.clusters[0];
        let partition =
            kafka.topics.get(&commit.topic).and_then(|topic| topic.partitions.get(commit.partition as usize));
        let entries =
            partition.into_iter().flat_map(|partition| &partition.entries).map(|place| &kafka.entries[*place]);
        let mut wrong = None;
        let is_known = |entry: &&Entry| entry.time >= commit.since;
        for entry in entries.filter(is_known).filter(|entry| entry.end() > from && entry.base_offset < commit.offset) {
            let is_passed = |offset: &i64| (from..commit.offset).contains(offset);
            let rows = (entry.base_offset..).zip(&entry.rows).filter(|(offset, _)| is_passed(offset));
            for (_, row) in rows {
                let Some(message) = self.messages.get(row.message as usize).filter(|message| message.qos > 0) else {
                    continue;
                };
                let open = self.subscribers.iter().enumerate().find(|(index, one)| {
                    let is_here = served_since(&one.name).is_some_and(|since| since <= one.greeted_at);
                    let is_due = || one.matching(&message.topic).any(|(_, wish)| wish.qos > 0 && wish.had(entry.time));
                    let is_there = is_here && !one.kept && one.is_greeted() && one.greeted_at < entry.time;
                    // Its front stands still, and has not noticed that its session has ended.
                    let is_over = || self.has_broken_since(one, commit.life);
                    is_there
                        && is_due()
                        && !is_over()
                        && !self.instances.answered.contains(&(*index, one.sessions, row.message))
                });
                if let Some((_, one)) = open {
                    wrong.get_or_insert(format!(
                        "{commit:?} passes message {}, and {} has not acknowledged it",
                        row.message, one.name
                    ));
                }
            }
        }
        if let Some(text) = wrong {
            self.judge.fails("I8", text);
        }
    }
}
