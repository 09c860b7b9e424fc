//! Messages to members with room.

use std::rc::Rc;

use crate::limits::{REMEMBERED_BYTES_MAX, SHARE_LOOKS_MAX};
use crate::metrics::event::{Field, Kind as EventKind};
use crate::metrics::spec::ShardMetric as M;
use crate::mqtt::packet::{Publish, QoS};
use crate::route::shares::ShareNumber;
use crate::session::SessionKey;

use super::super::delivery::{By, Message};
use super::super::events::{clipped, second};
use super::super::{Core, Ring};

/// What came of offering a message to the members of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    /// One has it.
    Taken,
    /// None has room.
    Waits,
    /// None will take it.
    Dropped(M),
}

impl Core {
    /// Gives a message to a member of each of these shares, as far as this turn may go. To how many of them, and the group in which it
    /// is durable for members that have to get it through a crash.
    pub(in crate::shard) fn give_to_shares(
        &mut self,
        io: &mut Ring<'_>,
        message: Message<'_>,
        shares: &[ShareNumber],
    ) -> (usize, u64) {
        if shares.is_empty() {
            return (0, 0);
        }
        self.delivery.copies.begin(io.now());
        let mut done = 0;
        while done < shares.len() && self.delivery.budget > 0 {
            self.delivery.budget -= 1;
            self.give_to_share(io, message, shares[done]);
            done += 1;
        }
        let group = self.store_copies(io, message.publish);
        self.delivery.copies.end();
        (done, group)
    }

    fn give_to_share(&mut self, io: &mut Ring<'_>, message: Message<'_>, number: ShareNumber) {
        let Some(part) = self.delivery.shares.part(self.index, number) else {
            return self.numbers.count(M::CopiesEnded);
        };
        let (queued, _) = part.queued();
        let is_qos_0 = message.publish.qos == QoS::AtMostOnce;
        let offered = if queued == 0 || is_qos_0 { self.offer(io, message, number) } else { Offered::Waits };
        let dropped = match offered {
            Offered::Taken => {
                let part = self.delivery.shares.parts.get_mut(&number);
                part.into_iter().for_each(super::Part::is_served);
                None
            }
            Offered::Dropped(why) => Some(why),
            Offered::Waits => self.keep_for_share(io, message.publish, number),
        };
        if let Some(why) = dropped {
            self.dropped_of_share(io, why, message.publish.topic);
        }
        self.delivery.shares.settle(number);
    }

    /// No member has room for a message: it waits. What was dropped, if something was.
    fn keep_for_share(&mut self, io: &mut Ring<'_>, publish: &Publish<'_>, number: ShareNumber) -> Option<M> {
        let is_full = self.delivery.remembered().bytes() > REMEMBERED_BYTES_MAX;
        let part = self.delivery.shares.parts.get_mut(&number)?;
        if publish.qos == QoS::AtMostOnce || !part.keeps() {
            return Some(if part.online() == 0 { M::CopiesAway } else { M::CopiesSlow });
        }
        if is_full {
            return Some(M::CopiesQueueFull);
        }
        let body = self.delivery.copies.body(publish);
        part.push(body, io.now(), self.session_settings.queue).then_some(M::CopiesQueueFull)
    }

    /// Offers a message to the members that may have room, in turn.
    fn offer(&mut self, io: &mut Ring<'_>, message: Message<'_>, number: ShareNumber) -> Offered {
        let message = Message { publisher: None, by: By::Share(number), ..message };
        let mut refused = None;
        let tries = self.delivery.shares.parts.get(&number).map_or(0, |part| part.ready());
        for _ in 0..tries {
            let Some(member) = self.delivery.shares.parts.get(&number).and_then(|part| part.next()) else { break };
            let tried = self.try_copy(io, message, &[member], false);
            let Some(part) = self.delivery.shares.parts.get_mut(&number) else { break };
            match tried {
                Ok(()) => {
                    part.pass_on();
                    return Offered::Taken;
                }
                Err(M::CopiesExpired) => return Offered::Dropped(M::CopiesExpired),
                // Another may take it.
                Err(why @ (M::CopiesTooLarge | M::CopiesDenied)) => {
                    part.pass_on();
                    refused = Some(why);
                }
                Err(_) => part.set_ready(member.session, false),
            }
        }
        let part = self.delivery.shares.parts.get(&number);
        let have_all_room = part.is_some_and(|part| part.ready() == part.online());
        refused.filter(|_| have_all_room).map_or(Offered::Waits, Offered::Dropped)
    }

    /// Offers what waits to the members that may have room.
    pub(super) fn offer_waiting(&mut self, io: &mut Ring<'_>, number: ShareNumber) {
        let mut at = 0;
        while at < SHARE_LOOKS_MAX {
            let Some(part) = self.delivery.shares.parts.get(&number).filter(|part| part.ready() > 0) else { break };
            let Some(body) = part.get(at).map(Rc::clone) else { break };
            let Some(publish) = body.publish() else { break };
            self.delivery.copies.begin_again(&body);
            let waited_s = body.waited_s(io.now());
            let (from, publisher) = (self.index, None);
            let by = By::Share(number);
            let message = Message { publish: &publish, from, publisher, origin: None, waited_s, pass: 0, by };
            let offered = self.offer(io, message, number);
            self.store_copies(io, &publish);
            self.delivery.copies.end();
            if offered == Offered::Waits {
                at += 1;
                continue;
            }
            if let Some(part) = self.delivery.shares.parts.get_mut(&number) {
                part.remove(at, io.now());
                part.is_served();
            }
            if let Offered::Dropped(why) = offered {
                self.dropped_of_share(io, why, publish.topic);
            }
        }
        self.delivery.shares.settle(number);
    }

    /// A client has acknowledged something: it may have room for what waits for members of its shares.
    pub(in crate::shard) fn has_room_for_shares(&mut self, io: &mut Ring<'_>, key: SessionKey) {
        let shares = &mut self.delivery.shares;
        let Some(of) = shares.of.get(&key).cloned() else { return };
        for number in of {
            let Some(part) = self.delivery.shares.parts.get_mut(&number) else { continue };
            part.set_ready(key, true);
            part.is_served();
            let (queued, _) = part.queued();
            if queued > 0 {
                self.offer_waiting(io, number);
            }
        }
    }

    /// At the end of a turn: members that have gone, and what waits for those that have come.
    pub(in crate::shard) fn serve_shares(&mut self, io: &mut Ring<'_>) {
        self.members_gone(io.now());
        while let Some(number) = self.delivery.shares.ripe.pop_first() {
            self.offer_waiting(io, number);
        }
        self.set_shares_timer(io);
        let shares = &self.delivery.shares;
        let queued = shares.waiting.iter().filter_map(|number| shares.parts.get(number)).map(super::Part::queued);
        let (messages, bytes) = queued.fold((0, 0), |(messages, bytes), (more, of)| (messages + more, bytes + of));
        self.numbers.set(M::Shares, shares.parts.len() as u64);
        self.numbers.set(M::ShareQueuedMessages, messages as u64);
        self.numbers.set(M::ShareQueuedBytes, bytes as u64);
    }

    /// A message of a share was dropped.
    pub(super) fn dropped_of_share(&mut self, io: &Ring<'_>, why: M, topic: &str) {
        self.numbers.count(why);
        let what = match why {
            M::CopiesSlow => "no member of the shared subscription reads fast enough",
            M::CopiesTooLarge => "larger than the Maximum Packet Size of the shared subscription's members",
            M::CopiesQueueFull => "too many messages wait for members of the shared subscription",
            _ => return,
        };
        self.teller.tell(EventKind::MessageDropped, second(io.now()), |event| {
            event.with(Field::MqttTopic, clipped(topic)).with(Field::Reason, what)
        });
    }
}
