//! Messages for kept sessions that the previous process has left.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use forebay_buffer::RestoredSession;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::Publish;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Copy, SavedQueue, SessionKey};

use super::super::Broker;
use super::super::delivery::put_packet;
use super::super::stored::{Deadline, with_time_left};
use super::{ForShare, Holder, Kept};
use crate::here::Here;
use crate::router::Place;
use crate::words::Whose;

/// The copies of one session, with the message of each.
type Copies = Vec<(u64, Copy, Rc<Body>)>;

impl Broker {
    /// Takes up messages and queues of a log. `sessions`: the sessions taken up, by their numbers in the log.
    pub(crate) fn restore_queues(
        &mut self,
        here: &mut Here,
        kept: &[&RestoredSession],
        sessions: &HashMap<u64, SessionKey>,
        now: Monotonic,
    ) {
        let mut queues: BTreeMap<u64, (u64, SavedQueue)> = BTreeMap::new();
        let mut messages = Vec::new();
        for RestoredSession { number, payload, .. } in kept {
            match Kept::decode(payload) {
                Some(Ok(Kept::Queue(mut queue))) if sessions.contains_key(&queue.session) => {
                    queue.next = here.rules.next_number(queue.next);
                    queues.insert(queue.session, (*number, queue));
                }
                // The session of this queue has ended.
                Some(Ok(Kept::Queue(_))) => self.end_kept(here, *number, now),
                // Positions are taken up before sessions are.
                Some(Ok(Kept::Positions(_))) => {}
                Some(Ok(Kept::Exchange(from, origin, shares))) => {
                    if here.rules.restores_exchanges() {
                        self.restore_exchange(here, *number, from, (origin, shares), sessions);
                    }
                }
                Some(Ok(Kept::Message { deadline, to, packet, .. })) => {
                    let is_restored = here.rules.restores_message(*number);
                    messages.extend(is_restored.then_some((*number, deadline, to, packet)));
                }
                Some(Ok(Kept::ForShare(of))) => {
                    if here.rules.restores_message(*number) {
                        self.restore_share_message(here, *number, of, now);
                    }
                }
                // `Sorted` has left out all other records.
                Some(Err(_)) | None => {}
            }
        }
        messages.sort_by_key(|(number, ..)| *number);
        let mut copies: BTreeMap<u64, Copies> = BTreeMap::new();
        for (number, deadline, to, packet) in messages {
            let is_over = |session: u64, copy: u64| queues.get(&session).is_some_and(|(_, queue)| queue.is_over(copy));
            let waits = |session: u64, copy: u64| sessions.contains_key(&session) && !is_over(session, copy);
            let to: Vec<_> = to.into_iter().filter(|of| waits(of.session, of.number)).collect();
            let until = self.until(number, deadline);
            let publish = Kept::publish(packet).filter(|_| !to.is_empty());
            let Some(publish) = publish else {
                self.end_kept(here, number, now);
                continue;
            };
            let body = self.body_again(&publish, until, now, 0);
            body.stored_as(number);
            for of in to {
                copies.entry(of.session).or_default().push((of.number, of.copy(), Rc::clone(&body)));
            }
        }
        for (number, key) in sessions {
            let (mut copies, queue) = (copies.remove(number).unwrap_or_default(), queues.remove(number));
            if !copies.is_empty() || queue.is_some() {
                // The later of two copies of one number counts: earlier versions began numbers again when all copies were over, and those may still be in the log.
                copies.reverse();
                copies.sort_by_key(|(number, ..)| *number);
                copies.dedup_by_key(|(number, ..)| *number);
                let restored = self.sessions.restore_queue(*key, copies, queue, self.delivery.remembered());
                here.numbers.raise(M::CopiesRecovered, restored as u64);
                let bounds = self.queue_bounds(*key);
                let level = self.sessions.get_mut(*key).and_then(|session| session.grown(bounds));
                self.queues.fullest.note(level, Holder::Session(*key));
            }
        }
    }

    /// The time until which a message may be sent. `number`: the record that has the deadline.
    fn until(&self, number: u64, deadline: Deadline) -> Option<Monotonic> {
        let (wall_ms, left_ms) = deadline?;
        self.logs.kept.of(number).map(|buffer| buffer.until(wall_ms, left_ms))
    }

    /// The body of a message of the previous process, which counts as received now, with the time that it has left.
    fn body_again(&self, publish: &Publish<'_>, until: Option<Monotonic>, now: Monotonic, key: u32) -> Rc<Body> {
        with_time_left(publish, until, now, |publish, since| {
            let mut packet = Vec::new();
            put_packet(publish, &mut packet);
            Body::new(packet, since, key, self.delivery.remembered())
        })
    }

    fn restore_share_message(&mut self, here: &mut Here, number: u64, of: ForShare<'_>, now: Monotonic) {
        let until = self.until(number, of.deadline);
        let Some(publish) = Kept::publish(of.packet) else { return };
        here.numbers.count(M::CopiesRecovered);
        if until.is_some_and(|until| until <= now) {
            self.dropped(here, now, M::CopiesExpired, Whose::Share(of.text), &publish);
            return self.end_kept(here, number, now);
        }
        let body = self.body_again(&publish, until, now, of.key);
        body.stored_for_share(number, 0);
        let is_there = |shard: usize| shard != here.index && shard < self.queues.confirmations.shards();
        let from = of.from.and_then(|(shard, was)| match self.logs.kept.part_of(was) {
            // The shard that owns the slot now.
            Some(slot) => match here.slots.at(slot) {
                Place::Here(shard) => Some((shard, was)),
                Place::Elsewhere(_) | Place::Nobody => None,
            },
            None => is_there(shard).then_some((shard, was)),
        });
        self.restore_for_share(number, from, of.text, body);
    }
}
