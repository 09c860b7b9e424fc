//! What waits too long on a shard, or has no members online there: it is handed over to a shard that has some.

use std::sync::Arc;

use crate::limits::{SHARE_BATCH_BYTES, SHARE_HANDED_LOOKS_MAX, SHARE_WAIT, SHARES_LOOK};
use crate::metrics::spec::ShardMetric as M;
use crate::route::shares::{Choice, ShareNumber};
use crate::runtime::seam::Monotonic;
use crate::session::Body;

use super::super::connection::Timer;
use super::super::mail::Mail;
use super::super::{Core, Ring};
use super::Shares;

impl Shares {
    /// A shard has taken what was handed over to it.
    pub(in crate::shard) fn messages_taken(&mut self, by: usize) {
        self.handing &= !(1 << by);
    }
}

impl Core {
    /// Asks to be called in a while, if anything waits.
    pub(super) fn set_shares_timer(&mut self, io: &mut Ring<'_>) {
        let shares = &mut self.delivery.shares;
        if !shares.waiting.is_empty() && !shares.has_timer {
            shares.has_timer = true;
            let _ = io.set_timer(io.now().after(SHARES_LOOK), Timer::Shares.token());
        }
    }

    /// Looks at all that waits.
    pub(in crate::shard) fn shares_time(&mut self, io: &mut Ring<'_>) {
        self.delivery.shares.has_timer = false;
        let waiting: Vec<_> = self.delivery.shares.waiting.iter().copied().collect();
        for number in waiting {
            if let Some(part) = self.delivery.shares.parts.get_mut(&number) {
                part.set_all_ready();
            }
            self.offer_waiting(io, number);
            self.hand_over_waiting(io, number);
        }
    }

    /// Hands over what waits, if other shards serve it better: with members online here what waits for one of them alone does not.
    /// If there are no members at all it is dropped.
    fn hand_over_waiting(&mut self, io: &mut Ring<'_>, number: ShareNumber) {
        let (index, now) = (self.index, io.now());
        let shares = &mut self.delivery.shares;
        let Some(part) = shares.parts.get_mut(&number).filter(|part| part.queued().0 > 0) else { return };
        if !part.share.has_members() {
            let dropped = std::iter::from_fn(|| part.remove(None, 0, now)).count();
            self.numbers.raise(M::CopiesEnded, dropped as u64);
            return shares.settle(number);
        }
        if part.online() > 0 {
            if part.is_keyed || now.since(part.waits_since()) < SHARE_WAIT {
                return;
            }
            part.set_stuck();
        }
        shares.turn += 1;
        let (share, is_keyed, turn) = (Arc::clone(&part.share), part.is_keyed, shares.turn);
        let choose = |body: &Body| {
            share.choose_other(if is_keyed { Choice::Key(body.key()) } else { Choice::Turn(turn) }, index)
        };
        let to = part.get(None, 0).and_then(|body| choose(body));
        let Some(to) = to.filter(|to| shares.handing & 1 << to == 0) else { return };
        let (mut messages, mut bytes, mut at) = (Vec::new(), 0, 0);
        for _ in 0..SHARE_HANDED_LOOKS_MAX {
            let Some(body) = part.get(None, at) else { break };
            let len = body.packet().len();
            if choose(body) != Some(to) {
                at += 1;
            } else if bytes > 0 && bytes + len > SHARE_BATCH_BYTES {
                break;
            } else {
                bytes += len;
                messages.push((body.packet().to_vec(), body.since(), body.key()));
                part.remove(None, at, now);
            }
        }
        match io.mail(to, Mail::SharedMessages { from: index, share: number, messages }) {
            Ok(()) => shares.handing |= 1 << to,
            Err(Mail::SharedMessages { messages, .. }) => {
                // Its mailbox is full: at the next look.
                for (packet, since, key) in messages.into_iter().rev() {
                    part.push_front(self.delivery.copies.adopt(packet, since, key), now);
                }
            }
            Err(_) => {}
        }
        shares.settle(number);
    }

    /// Another shard has handed over messages of a share.
    pub(in crate::shard) fn shared_messages(
        &mut self,
        io: &mut Ring<'_>,
        from: usize,
        number: ShareNumber,
        messages: Vec<(Vec<u8>, Monotonic, u32)>,
    ) {
        self.letters.push_back((from, Mail::SharedMessagesTaken { by: self.index }));
        for (packet, since, key) in messages {
            let body = self.delivery.copies.adopt(packet, since, key);
            let dropped = match self.delivery.shares.part(self.index, number) {
                Some(part) => {
                    let member = part.named(key);
                    let is_dropped = part.push(body, io.now(), self.session_settings.queue, member);
                    is_dropped.then_some(M::CopiesQueueFull)
                }
                None => Some(M::CopiesEnded),
            };
            if let Some(why) = dropped {
                self.dropped_of_share(io, why, "");
            }
        }
        self.delivery.shares.settle(number);
        self.delivery.shares.ripe.insert(number);
    }
}
