//! Answers that wait for the disk of a shard. Messages go to a shard in order, and it reports how many of them are durable: only that number has to travel.

use std::collections::VecDeque;

use smallvec::SmallVec;

use forebay_kafka::types::Ticket;
use forebay_session::{Claimed, Reason, SessionKey, Settled};

use super::Broker;
use crate::here::Here;
use crate::logs::Groups;
use crate::mail::Letter;
use crate::words::Owner;

/// The group of a message that has none yet.
const PLACE: u64 = u64::MAX;

/// Messages of one shard's publishers that are durable with the same group.
#[derive(Clone, Copy, Debug)]
struct Run {
    group: u64,
    from: usize,
    count: u64,
}

/// Confirmations of one kind of message; `T`: the answer that waits for a message.
#[derive(Debug)]
pub(crate) struct Confirmations<T = Ticket> {
    /// Messages that this shard was sent and that are not durable, in the order in which they came.
    here: VecDeque<Run>,
    /// Durable messages of each shard's publishers that have not been reported to it.
    durable: Vec<u64>,
    /// Messages of this shard's publishers that each shard has not reported durable, oldest first, each with the answer that waits for it,
    /// if any.
    there: Vec<VecDeque<Option<T>>>,
    /// The number of messages that each shard has reported durable.
    confirmed: Vec<u64>,
}

impl<T> Confirmations<T> {
    /// Confirmations between `shards` shards.
    pub(crate) fn new(shards: usize) -> Self {
        let there = (0..shards).map(|_| VecDeque::new()).collect();
        Self { here: VecDeque::new(), durable: vec![0; shards], there, confirmed: vec![0; shards] }
    }

    /// Notes one more message of shard `from`, which is durable with these groups once all before it are.
    pub(crate) fn wait_for(&mut self, from: usize, groups: &Groups) {
        let mut all = groups.iter();
        let last = all.next_back().unwrap_or(0);
        self.here.extend(all.map(|group| Run { group, from, count: 0 }));
        self.wait(from, last);
    }

    /// Like [`Self::wait_for`], with one group.
    pub(crate) fn wait(&mut self, from: usize, group: u64) {
        match self.here.back_mut() {
            Some(last) if (last.from, last.group) == (from, group) => last.count += 1,
            _ => self.here.push_back(Run { group, from, count: 1 }),
        }
    }

    /// Keeps the place of one more message of shard `from`: later ones become durable after it. [`Self::take_place`] gives it its groups.
    pub(crate) fn keep_place(&mut self, from: usize) {
        self.here.push_back(Run { group: PLACE, from, count: 1 });
    }

    /// Gives the oldest message of shard `from` that has a kept place its groups.
    pub(crate) fn take_place(&mut self, from: usize, groups: &Groups) {
        let kept = self.here.iter().position(|run| run.group == PLACE);
        debug_assert!(kept.is_some_and(|at| self.here[at].from == from), "places are taken in their order");
        let Some(at) = kept else { return };
        let mut all = groups.iter();
        self.here[at].group = all.next_back().unwrap_or(0);
        all.for_each(|group| self.here.insert(at, Run { group, from, count: 0 }));
    }

    /// Moves the messages that wait for one group to another.
    pub(crate) fn move_to(&mut self, from: u64, to: u64) {
        self.here.iter_mut().filter(|run| run.group == from).for_each(|run| run.group = to);
    }

    /// The number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.there.len()
    }

    /// The group that the oldest messages wait for.
    fn first(&self) -> Option<u64> {
        self.here.front().map(|run| run.group).filter(|group| *group != PLACE)
    }

    /// Notes that the oldest messages are durable.
    fn first_is_durable(&mut self) {
        if let Some(run) = self.here.pop_front() {
            self.durable[run.from] += run.count;
        }
    }

    /// Takes the numbers of durable messages, each with the shard that it is reported to.
    fn take_durable(&mut self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counts = self.durable.iter_mut().map(std::mem::take).enumerate();
        counts.filter(|(_, count)| *count > 0)
    }

    /// Notes a message that was sent to shard `by`, which reports when it is durable. `waits`: the answer that waits for that.
    pub(crate) fn expect(&mut self, by: usize, waits: Option<T>) {
        self.there[by].push_back(waits);
    }

    /// The number of messages that a shard has reported durable, and that number once it has reported all that it was sent.
    pub(crate) fn told_by(&self, shard: usize) -> (u64, u64) {
        let told = self.confirmed[shard];
        (told, told + self.there[shard].len() as u64)
    }

    /// Messages that this shard has not reported durable.
    pub(crate) fn unconfirmed_by(&self, shard: usize) -> usize {
        self.there[shard].len()
    }

    /// Messages that no shard has reported durable yet.
    pub(crate) fn unconfirmed(&self) -> usize {
        self.there.iter().map(VecDeque::len).sum()
    }

    /// Notes that the `count` oldest messages are durable on shard `by`. Returns the answers that waited for them.
    pub(crate) fn confirmed(&mut self, by: usize, count: u64) -> impl Iterator<Item = T> + '_ {
        self.confirmed[by] += count;
        let there = &mut self.there[by];
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(there.len());
        there.drain(..count).flatten()
    }
}

impl Broker {
    /// Reports to each shard how many of its messages of this kind are durable here by now, to other shards by this letter. True: some are of this shard.
    pub(crate) fn tell_durable<T>(
        &mut self,
        here: &Here,
        of: fn(&mut Self) -> &mut Confirmations<T>,
        own: fn(&mut Self, &Here, usize, u64),
        letter: fn(usize, u64) -> Letter,
    ) -> bool {
        if !self.logs.kept.is_there() {
            return false;
        }
        let (by, rules) = (here.index, here.rules);
        let mut has_own = false;
        while let Some(group) = of(self).first() {
            if !rules.may_confirm(group, self.logs.kept.durable(group)) {
                break;
            }
            of(self).first_is_durable();
        }
        let told: SmallVec<[_; 4]> = of(self).take_durable().collect();
        for (from, count) in told {
            if from == by {
                has_own = true;
                own(self, here, from, count);
            } else {
                self.letters.push_back((from, letter(by, count)));
            }
        }
        has_own
    }

    /// Marks a session: its client may be sent waiting answers.
    pub(crate) fn touch(&mut self, key: SessionKey) {
        if self.touched.last() != Some(&key) {
            self.touched.push(key);
        }
    }

    /// Notes that `count` messages of this shard's publishers are durable on shard `by`. `of`: the kind of messages.
    pub(crate) fn confirm(&mut self, here: &Here, by: usize, count: u64, of: fn(&mut Self) -> &mut Confirmations) {
        let tickets: Vec<Ticket> = of(self).confirmed(by, count).collect();
        for ticket in tickets {
            match Owner::of(ticket.session) {
                // The disk of a shard may have all copies when there are none.
                Owner::Reader(reader) => self.settle_record(here, reader, ticket.number, false),
                Owner::Session(_) | Owner::Letters | Owner::BadRecord(_) | Owner::Refused(_) => {
                    self.answered(here, ticket, Reason::Success)
                }
            }
        }
        self.delivery.has_freed();
    }

    fn settle_record(&self, here: &Here, reader: u32, number: u32, is_met: bool) {
        let record = Claimed { shard: here.index, reader, number };
        self.delivery.remembered().settles(Settled { record, is_met });
    }

    /// Gives an answer to the owner of a ticket.
    pub fn answered(&mut self, here: &Here, ticket: Ticket, reason: Reason) {
        match Owner::of(ticket.session) {
            Owner::Session(key) => {
                // A session that has ended gets no answers.
                let Some(session) = self.sessions.get_mut(key) else { return };
                session.complete(ticket.number, 1, reason);
                self.touch(key);
            }
            Owner::Reader(reader) => self.settle_record(here, reader, ticket.number, true),
            // Only producers answer dead letters.
            Owner::Letters | Owner::BadRecord(_) | Owner::Refused(_) => {}
        }
    }
}
