//! Messages that wait too long on a shard, or have no members online there, are handed over to a shard that has some.

use std::rc::Rc;
use std::sync::Arc;

use forebay_base::limits::{SHARE_BATCH_BYTES, SHARE_HANDED_LOOKS_MAX, SHARE_WAIT, SHARES_LOOK};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::shares::{Choice, ShareNumber};
use forebay_session::{Body, Gone};

use super::super::Broker;
use crate::here::Here;
use crate::mail::{HandedOver, Letter, ToBroker};
use crate::out::Due;
use crate::out::Out;
use crate::words::Whose;

impl Broker {
    /// Sets the timer for the next check, if messages wait.
    pub(super) fn set_shares_timer(&mut self, io: &mut dyn Out) {
        let shares = &mut self.delivery.shares;
        if !shares.to_serve.waiting.is_empty() && !shares.to_serve.has_timer {
            shares.to_serve.has_timer = true;
            io.set_timer(io.now().after(SHARES_LOOK), Due::Shares);
        }
    }

    /// Checks all waiting messages when the timer has expired.
    pub(crate) fn shares_time(&mut self, io: &mut dyn Out, here: &mut Here) {
        self.delivery.shares.to_serve.has_timer = false;
        let waiting: Vec<_> = self.delivery.shares.to_serve.waiting.iter().copied().collect();
        for number in waiting {
            if let Some(part) = self.delivery.shares.parts.get_mut(&number) {
                part.set_all_ready();
            }
            self.write_left_for_share(number);
            self.offer_waiting(io, here, number);
            self.hand_over_waiting(io, here, number);
        }
    }

    /// Hands waiting messages over, if other shards serve them better. With members online here, messages that wait for a single one of them stay. If there
    /// are no members at all, the messages are dropped.
    fn hand_over_waiting(&mut self, io: &mut dyn Out, here: &mut Here, number: ShareNumber) {
        let (index, now) = (here.index, io.now());
        if !self.queues.have_all_told() {
            // The members on other shards are not known yet, nor which of these messages those shards have.
            return;
        }
        let shares = &mut self.delivery.shares;
        let Some(part) = shares.parts.get_mut(&number).filter(|part| part.queued().0 > 0) else { return };
        if !part.share.has_members() {
            let (text, first) = (Arc::clone(part.share.text()), part.get(None, 0).map(Rc::clone));
            let count = std::iter::from_fn(|| part.remove(None, 0, now)).count() as u64;
            shares.settle(number);
            return self.dropped_later(here, now, M::CopiesShareGone, Whose::Share(&text), &Gone { count, first });
        }
        if part.online() > 0 {
            if part.is_keyed || now.since(part.waits_since()) < SHARE_WAIT {
                return;
            }
            part.set_stuck();
        }
        // A message that is not durable may lose its number, which may be another message's by the time it is reported.
        let kept = &self.logs.kept;
        shares.turn += 1;
        let (share, is_keyed, turn) = (Arc::clone(&part.share), part.is_keyed, shares.turn);
        let choose = |body: &Body| {
            share.choose_other(if is_keyed { Choice::Key(body.key()) } else { Choice::Turn(turn) }, index)
        };
        let to = part.get(None, 0).and_then(|body| choose(body));
        let Some(to) = to.filter(|to| shares.handed.may_send(*to)) else { return };
        let (mut taken, mut bytes, mut at) = (Vec::new(), 0, 0);
        for _ in 0..SHARE_HANDED_LOOKS_MAX {
            let Some(body) = part.get(None, at) else { break };
            let len = body.packet().len();
            if choose(body) != Some(to) {
                at += 1;
            } else if body.group() > kept.durable(body.group()) || bytes > 0 && bytes + len > SHARE_BATCH_BYTES {
                break;
            } else {
                bytes += len;
                taken.extend(part.remove(None, at, now));
            }
        }
        if taken.is_empty() {
            return;
        }
        let keeps_open = shares.are_by_groups();
        let messages = taken.iter().map(|body| HandedOver::new(body, keeps_open)).collect();
        shares.handed.went(to, number, taken);
        shares.settle(number);
        // The letter follows the reports to that shard about earlier messages, which may still wait for its mailbox.
        self.letters.push_back((to, Letter::Broker(ToBroker::SharedMessages { from: index, share: number, messages })));
    }
}
