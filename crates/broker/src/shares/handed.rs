//! Messages of shares on their way from shard to shard, and those of the previous process.
//!
//! A message in the log is never owned by two shards at once. The shard that hands it over keeps it until the other one reports that it is durable there.
//! Then the first shard writes its end, and when that is durable it gives the message away. Until then the other shard holds it, with a note in its own log
//! of the shard it came from. A crash in between leaves the message in both logs, or in the other one alone: after a crash each shard reports the messages it
//! has noted to the others, which end their own copies of those, and give them away as before. Until all shards have done so, messages of the previous
//! process wait.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::shares::ShareNumber;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Claim, Claimed};

use super::super::Broker;
use super::super::queues::ForShare;
use super::super::queues::Holder;
use crate::here::Here;
use crate::logs::Groups;
use crate::mail::{HandedOver, KeptBy, Letter, ToBroker};
use crate::out::Out;
use crate::words::Whose;

/// A message that is durable here, and still owned by another shard.
#[derive(Debug)]
struct Held {
    /// The message's number in that shard's log.
    number: u64,
    text: Arc<str>,
    body: Rc<Body>,
}

/// A report to another shard for when a group is durable.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// The number of its messages that are taken.
    Taken(usize),
    /// All messages that the other shard holds for this one are its own.
    Given,
}

/// Messages on their way, and those that may not be given to members yet.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// Messages that were sent and not taken, by receiving shard.
    sent: HashMap<usize, (ShareNumber, Vec<Rc<Body>>)>,
    /// Shards that have been sent messages and not been given them yet, as bits: they are sent no more.
    busy: u64,
    /// Messages held for other shards, by sending shard.
    held: HashMap<usize, Vec<Held>>,
    /// Messages of the previous process, by number in the log, with the texts of the shares.
    restored: BTreeMap<u64, (Arc<str>, Rc<Body>)>,
    told: Vec<(Groups, usize, Told)>,
}

impl Handed {
    /// Whether a shard may be sent messages.
    pub(super) fn may_send(&self, to: usize) -> bool {
        self.busy & 1 << to == 0
    }

    /// Notes messages that a shard was sent.
    pub(super) fn went(&mut self, to: usize, share: ShareNumber, messages: Vec<Rc<Body>>) {
        self.busy |= 1 << to;
        self.sent.insert(to, (share, messages));
    }

    /// Messages that other shards were sent and have not taken.
    pub(super) fn on_their_way(&self) -> usize {
        self.sent.values().map(|(_, messages)| messages.len()).sum()
    }

    /// Messages held here that may not be given to members yet, and their bytes.
    pub(super) fn not_given(&self) -> (usize, usize) {
        let held = self.held.values().flatten().map(|held| &held.body);
        let all = held.chain(self.restored.values().map(|(_, body)| body));
        all.fold((0, 0), |(messages, bytes), body| (messages + 1, bytes + body.packet().len()))
    }
}

impl Broker {
    /// Takes messages of a share that another shard hands over.
    pub(crate) fn shared_messages(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        from: usize,
        share: ShareNumber,
        messages: Vec<HandedOver>,
    ) {
        let of = self.delivery.shares.part(here.index, share).map(|part| Arc::clone(&part.share));
        let text = of.as_ref().map(|share| Arc::clone(share.text()));
        let (mut count, mut groups) = (0, Groups::default());
        for HandedOver { packet, since, key, kept_by } in messages {
            let claimed = if let KeptBy::Record(claimed) = kept_by { Some(claimed) } else { None };
            let claim = claimed.map(|of| Claim::new(of, None, self.delivery.remembered()));
            let has_stopped = |claimed: Claimed| of.as_ref().is_some_and(|share| share.has_stopped(claimed.reader));
            if claimed.is_some_and(has_stopped) {
                here.numbers.count(M::CopiesTaken);
                here.numbers.count(M::CopiesMoved);
                count += 1;
                continue;
            }
            let body = self.delivery.copies.adopt(packet, since, key, claim);
            match (&text, kept_by) {
                (None, _) => self.dropped_of(here, io.now(), M::CopiesShareGone, share, body),
                (Some(text), KeptBy::Record(_) | KeptBy::Nobody) => self.wait_for_share(io, here, text, body),
                (Some(text), KeptBy::Log(number)) => {
                    // The message stays in the other shard's log until there is room.
                    let Some(written) = self.write_held(from, number, text, &body) else { break };
                    groups.add(written);
                    let held = Held { number, text: Arc::clone(text), body };
                    self.delivery.shares.handed.held.entry(from).or_default().push(held);
                }
            }
            here.numbers.count(M::CopiesTaken);
            count += 1;
        }
        self.delivery.shares.handed.told.push((groups, from, Told::Taken(count)));
        self.delivery.shares.settle(share);
    }

    fn write_held(&mut self, from: usize, number: u64, text: &str, body: &Body) -> Option<u64> {
        let publish = body.publish()?;
        let of = ForShare { deadline: None, from: Some((from, number)), key: body.key(), text, packet: body.packet() };
        self.write_for_share(body, &publish, of)
    }

    /// Queues a message for the members of this share.
    fn wait_for_share(&mut self, io: &dyn Out, here: &mut Here, text: &str, body: Rc<Body>) {
        let (bounds, shares) = (self.keeping.settings.queue, &mut self.delivery.shares);
        match shares.part_of(here.index, text) {
            Ok(part) => {
                let (number, member) = (part.share.number(), part.named(body.key()));
                let dropped = part.push(body, io.now(), bounds, member);
                self.queues.fullest.note(part.grown(bounds), Holder::Share(number));
                shares.settle(number);
                shares.to_serve.ripe.insert(number);
                self.dropped_later(here, io.now(), M::CopiesQueueFull, Whose::Share(text), &dropped);
            }
            Err(_) => self.dropped_of_share(here, io.now(), M::CopiesQueueFull, text, body),
        }
    }

    /// Ends the first messages that a shard was sent and has taken. The others wait here again.
    pub(crate) fn shared_taken(&mut self, io: &dyn Out, here: &mut Here, by: usize, count: usize) {
        let Some((share, mut messages)) = self.delivery.shares.handed.sent.remove(&by) else { return };
        let back = messages.split_off(count.min(messages.len()));
        here.numbers.raise(M::CopiesHandedOver, messages.len() as u64);
        let ended = self.end_all_for_share(&messages);
        let shares = &mut self.delivery.shares;
        if ended.is_empty() {
            shares.handed.busy &= !(1 << by);
        } else {
            shares.handed.told.push((ended, by, Told::Given));
        }
        for body in back.into_iter().rev() {
            match self.delivery.shares.part(here.index, share) {
                Some(part) => part.push_front(body, io.now()),
                None => self.dropped_of(here, io.now(), M::CopiesShareGone, share, body),
            }
        }
        self.delivery.shares.settle(share);
    }

    /// Takes ownership of messages that a shard has handed over.
    pub(crate) fn shared_given(&mut self, io: &dyn Out, here: &mut Here, from: usize) {
        let are_all_known = self.queues.have_all_told();
        for Held { text, body, .. } in self.delivery.shares.handed.held.remove(&from).unwrap_or_default() {
            match body.for_share().filter(|_| !are_all_known) {
                // A third shard may hold the message by now.
                Some(number) => drop(self.delivery.shares.handed.restored.insert(number, (text, body))),
                None => self.wait_for_share(io, here, &text, body),
            }
        }
    }

    /// Reports durable messages to the other shards.
    pub fn report_handed_over(&mut self, here: &Here) {
        let handed = &mut self.delivery.shares.handed;
        if handed.told.is_empty() {
            return;
        }
        let (kept, rules) = (&self.logs.kept, here.rules);
        let is_durable = |groups: &Groups| groups.iter().all(|group| rules.may_confirm(group, kept.durable(group)));
        for (_, to, what) in handed.told.extract_if(.., |(groups, ..)| is_durable(groups)) {
            let letter = match what {
                Told::Taken(count) => Letter::Broker(ToBroker::SharedMessagesTaken { by: here.index, count }),
                Told::Given => {
                    handed.busy &= !(1 << to);
                    Letter::Broker(ToBroker::SharedMessagesGiven { from: here.index })
                }
            };
            self.letters.push_back((to, letter));
        }
    }

    /// Takes up a message of the previous process. `from`: the shard that had handed it over, and its number there.
    pub(crate) fn restore_for_share(&mut self, number: u64, from: Option<(usize, u64)>, text: &str, body: Rc<Body>) {
        let (text, handed) = (Arc::from(text), &mut self.delivery.shares.handed);
        match from {
            Some((from, number)) => handed.held.entry(from).or_default().push(Held { number, text, body }),
            None => drop(handed.restored.insert(number, (text, body))),
        }
    }

    /// The numbers of `shard`'s messages that the previous process has left here.
    pub(crate) fn held_of(&self, shard: usize) -> Vec<u64> {
        let held = self.delivery.shares.handed.held.get(&shard);
        held.into_iter().flatten().map(|held| held.number).collect()
    }

    /// Ends messages that this shard has in two logs, as it now has the slots of two shards of the previous process.
    pub fn held_here(&mut self, here: &Here) {
        let handed = &mut self.delivery.shares.handed;
        let mut ended = Vec::new();
        for Held { number, text, body } in handed.held.remove(&here.index).unwrap_or_default() {
            ended.extend(handed.restored.remove(&number).map(|(_, body)| body));
            body.for_share().into_iter().for_each(|own| {
                handed.restored.insert(own, (Arc::clone(&text), Rc::clone(&body)));
            });
        }
        self.end_all_for_share(&ended);
    }

    /// Ends messages of this shard that another shard has held since the previous process: that shard owns them.
    pub(crate) fn held_elsewhere(&mut self, here: &mut Here, by: usize, numbers: &[u64]) {
        if numbers.is_empty() {
            return;
        }
        let Handed { restored, held, .. } = &mut self.delivery.shares.handed;
        let mut ended: Vec<_> =
            numbers.iter().filter_map(|number| restored.remove(number)).map(|(_, body)| body).collect();
        // A third shard owned the message before.
        let numbers: HashSet<u64> = numbers.iter().copied().collect();
        let is_it = |held: &mut Held| held.body.for_share().is_some_and(|number| numbers.contains(&number));
        ended.extend(held.values_mut().flat_map(|held| held.extract_if(.., is_it)).map(|held| held.body));
        here.numbers.raise(M::CopiesHandedOver, ended.len() as u64);
        let groups = self.end_all_for_share(&ended);
        let handed = &mut self.delivery.shares.handed;
        handed.busy |= 1 << by;
        handed.told.push((groups, by, Told::Given));
    }

    fn end_all_for_share(&mut self, messages: &[Rc<Body>]) -> Groups {
        let mut groups = Groups::default();
        messages.iter().filter_map(|body| self.end_for_share(body)).for_each(|group| groups.add(group));
        groups
    }

    /// Queues messages of the previous process for members, once all shards have reported the messages they hold.
    pub fn release_restored(&mut self, here: &mut Here, now: Monotonic) {
        for (text, body) in std::mem::take(&mut self.delivery.shares.handed.restored).into_values().rev() {
            let shares = &mut self.delivery.shares;
            match shares.part_of(here.index, &text) {
                Ok(part) => {
                    let number = part.share.number();
                    part.push_front(body, now);
                    shares.settle(number);
                    shares.to_serve.ripe.insert(number);
                }
                Err(_) => self.dropped_of_share(here, now, M::CopiesQueueFull, &text, body),
            }
        }
        // Messages received meanwhile have waited for the reports.
        self.delivery.shares.ripen();
    }
}
