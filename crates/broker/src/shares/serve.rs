//! Delivery of messages to members with room.

use std::rc::Rc;
use std::sync::Arc;

use forebay_base::limits::SHARE_LOOKS_MAX;
use forebay_config::ShareStrategy;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::QoS;
use forebay_mqtt::route::shares::{ShareNumber, ToShare};
use forebay_session::{Gone, SessionKey};

use super::super::Broker;
use super::super::delivery::{By, Message, Stored, packet_bytes};
use super::super::queues::Holder;
use crate::here::Here;
use crate::out::Out;
use crate::words::Whose;

/// The outcome of offering a message to the members of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offered {
    /// A member has the message.
    Taken,
    /// This member has no room, or none has.
    Waits(Option<SessionKey>),
    /// No member will take the message.
    Dropped(M),
}

impl Broker {
    /// Gives a message to a member of each of these shares, as far as this turn may go. Returns the number of shares done, and the groups that have to be
    /// durable.
    pub(crate) fn give_to_shares(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        shares: &[ToShare],
    ) -> (usize, Stored) {
        let mut stored = Stored::default();
        if shares.is_empty() {
            return (0, stored);
        }
        self.delivery.copies.begin(message.since);
        let mut done = 0;
        while done < shares.len() && self.delivery.budget > 0 {
            self.delivery.budget -= 1;
            self.give_to_share(io, here, message, shares[done]);
            done += 1;
            if self.logs.kept.is_there() {
                // A message for one share ends in the log without the others.
                let groups = self.store_copies(io, here, message.publish);
                let mark = self.delivery.shares.mark(shares[done - 1].share);
                stored.shares.extend(mark.filter(|_| !groups.is_empty()));
                stored.groups.add_all(&groups);
                self.delivery.copies.end();
            }
        }
        self.delivery.copies.end();
        (done, stored)
    }

    fn give_to_share(&mut self, io: &mut dyn Out, here: &mut Here, message: Message<'_>, to: ToShare) {
        here.numbers.count(M::CopiesRouted);
        let publish = message.publish;
        let Some(part) = self.delivery.shares.part(here.index, to.share) else {
            // A record without a member is read again, by another instance if need be.
            if message.claim.is_some() {
                return here.numbers.count(M::CopiesMoved);
            }
            return self.dropped(here, io.now(), M::CopiesShareGone, Whose::Share(""), publish);
        };
        if message.claim.is_some_and(|claim| part.share.has_stopped(claim.of().reader)) {
            return here.numbers.count(M::CopiesMoved);
        }
        let text = Arc::clone(part.share.text());
        let ((queued, _), is_keyed) = (part.queued(), part.is_keyed);
        let message = Message { publisher: None, by: By::Share(to), ..message };
        let offered = if let Some(member) = self.waits_for_start(message.publish.qos, to) {
            Offered::Waits(member)
        } else if is_keyed {
            self.offer_named(io, here, message, to, None)
        } else if queued == 0 || message.publish.qos == QoS::AtMostOnce {
            self.offer(io, here, message, to.share)
        } else {
            Offered::Waits(None)
        };
        match offered {
            Offered::Taken => {
                let part = self.delivery.shares.parts.get_mut(&to.share);
                part.into_iter().for_each(super::Part::is_served);
            }
            Offered::Dropped(why) => {
                message.claim.into_iter().for_each(|claim| claim.meet());
                self.dropped(here, io.now(), why, Whose::Share(&text), publish);
            }
            Offered::Waits(member) => match self.keep_for_share(io, here, message, to, member) {
                Ok(oldest) => self.dropped_later(here, io.now(), M::CopiesQueueFull, Whose::Share(&text), &oldest),
                // As above.
                Err(M::CopiesShareGone | M::CopiesAway) if message.claim.is_some() => {
                    here.numbers.count(M::CopiesMoved);
                }
                Err(why) => {
                    message.claim.into_iter().for_each(|claim| claim.meet());
                    self.dropped(here, io.now(), why, Whose::Share(&text), publish);
                }
            },
        }
        self.delivery.shares.settle(to.share);
    }

    /// Has a newer message wait until all shards have reported the messages that the previous process has left for the share. `Some`: the message waits, for
    /// this member, or for any.
    fn waits_for_start(&mut self, qos: QoS, to: ToShare) -> Option<Option<SessionKey>> {
        if self.queues.have_all_told() || qos == QoS::AtMostOnce || !self.remembers_more() {
            return None;
        }
        let part = self.delivery.shares.parts.get(&to.share)?;
        let member = part.named(to.key);
        part.keeps(member).then_some(member)
    }

    /// Queues a message for a member without room, or for any. Returns the messages dropped for it.
    ///
    /// # Errors
    /// The reason why the message is not queued.
    fn keep_for_share(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        to: ToShare,
        member: Option<SessionKey>,
    ) -> Result<Gone, M> {
        let publish = message.publish;
        let is_full = !self.remembers_more();
        let part = self.delivery.shares.parts.get(&to.share).ok_or(M::CopiesShareGone)?;
        if publish.qos == QoS::AtMostOnce || !part.keeps(member) {
            return Err(if part.online() == 0 { M::CopiesAway } else { M::CopiesSlow });
        }
        // A share with kept members has its messages in the log while all of them are offline: no record stays open for that.
        let claim = message.claim.filter(|_| !self.logs_share(to.share, packet_bytes(publish.topic, publish)));
        if is_full && claim.is_none() {
            return Err(M::CopiesQueueFull);
        }
        if claim.is_none() {
            message.claim.into_iter().for_each(|claim| claim.meet());
        }
        let body = self.delivery.copies.body(publish, to.key, claim);
        let part = self.delivery.shares.parts.get_mut(&to.share).ok_or(M::CopiesShareGone)?;
        let bounds = self.keeping.settings.queue;
        let dropped = part.push(body, io.now(), bounds, member);
        self.queues.fullest.note(part.grown(bounds), Holder::Share(to.share));
        self.store_for_share(here, publish, to);
        Ok(dropped)
    }

    /// Offers a message to the members that may have room: in turn, or to the least busy one first.
    fn offer(&mut self, io: &mut dyn Out, here: &mut Here, message: Message<'_>, number: ShareNumber) -> Offered {
        let mut refused = None;
        let tries = self.delivery.shares.parts.get(&number).map_or(0, |part| part.ready());
        for _ in 0..=tries {
            let shares = &self.delivery.shares;
            // The others are asked in turn if the least busy one refuses the message.
            let is_by_load = shares.strategy == ShareStrategy::LeastInflight && refused.is_none();
            let looks = if is_by_load { SHARE_LOOKS_MAX } else { 1 };
            let load = |key| self.sessions.get(key).map_or(0, |session| session.copies().0);
            let Some(member) = shares.parts.get(&number).and_then(|part| part.next(looks, load)) else { break };
            let tried = self.try_copy(io, here, message, &[member], false);
            let Some(part) = self.delivery.shares.parts.get_mut(&number) else { break };
            match tried {
                Ok(()) => {
                    part.pass_on();
                    return Offered::Taken;
                }
                Err(M::CopiesExpired) => return Offered::Dropped(M::CopiesExpired),
                // Another member may take the message.
                Err(why @ (M::CopiesTooLarge | M::CopiesDenied)) => {
                    part.pass_on();
                    refused = Some(why);
                }
                Err(_) => part.set_ready(member.session, false),
            }
        }
        let part = self.delivery.shares.parts.get(&number);
        let have_all_room = part.is_some_and(|part| part.ready() == part.online());
        refused.filter(|_| have_all_room).map_or(Offered::Waits(None), Offered::Dropped)
    }

    /// Offers a message to the member that its key names, or, if that member can never take it, to the next one named. `first_of`: the message is the first
    /// that waits for this member alone.
    fn offer_named(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        to: ToShare,
        first_of: Option<SessionKey>,
    ) -> Offered {
        let Some(part) = self.delivery.shares.parts.get(&to.share) else { return Offered::Waits(None) };
        let mut refused = None;
        for session in part.all_named(to.key, first_of) {
            let part = self.delivery.shares.parts.get(&to.share);
            let Some(member) = part.and_then(|part| part.members.get(&session)) else { break };
            let is_next = first_of == Some(session) || member.line.is_empty();
            if message.publish.qos > QoS::AtMostOnce && !(is_next && member.is_ready()) {
                return Offered::Waits(Some(session));
            }
            match self.try_copy(io, here, message, &[member.subscriber], false) {
                Ok(()) => return Offered::Taken,
                Err(M::CopiesExpired) => return Offered::Dropped(M::CopiesExpired),
                Err(why @ (M::CopiesTooLarge | M::CopiesDenied)) => refused = Some(why),
                Err(_) => {
                    let part = self.delivery.shares.parts.get_mut(&to.share);
                    part.into_iter().for_each(|part| part.set_ready(session, false));
                    return Offered::Waits(Some(session));
                }
            }
        }
        refused.map_or(Offered::Waits(None), Offered::Dropped)
    }

    /// Offers waiting messages to the members that may have room.
    pub(super) fn offer_waiting(&mut self, io: &mut dyn Out, here: &mut Here, number: ShareNumber) {
        let Some(part) = self.delivery.shares.parts.get(&number) else { return };
        for member in part.served_lines() {
            self.offer_line(io, here, number, Some(member));
        }
        self.offer_line(io, here, number, None);
        self.delivery.shares.settle(number);
    }

    /// Offers the messages that wait for this member alone, or for any.
    fn offer_line(&mut self, io: &mut dyn Out, here: &mut Here, number: ShareNumber, of: Option<SessionKey>) {
        if !self.queues.have_all_told() {
            return;
        }
        let mut at = 0;
        while at < SHARE_LOOKS_MAX {
            let Some(part) = self.delivery.shares.parts.get(&number).filter(|part| part.ready() > 0) else { break };
            let Some(body) = part.get(of, at).map(Rc::clone) else { break };
            let Some(publish) = body.publish() else { break };
            self.delivery.copies.begin_again(&body);
            let waited_s = body.waited_s(io.now());
            let to = ToShare { share: number, key: body.key() };
            let (from, publisher, by) = (here.index, None, By::Share(to));
            let (since, origin, claimed) = (body.since(), None, body.claim());
            let claim = claimed.as_ref();
            let message = Message { publish: &publish, from, publisher, origin, since, waited_s, pass: 0, claim, by };
            let offered = match of {
                Some(_) => self.offer_named(io, here, message, to, of),
                None => self.offer(io, here, message, number),
            };
            self.store_copies(io, here, &publish);
            self.delivery.copies.end();
            match offered {
                // Messages that wait for one member alone go to it in order.
                Offered::Waits(member) if of.is_some() && member == of => break,
                Offered::Waits(None) => {
                    at += 1;
                    continue;
                }
                _ => {}
            }
            let Some(part) = self.delivery.shares.parts.get_mut(&number) else { break };
            part.remove(of, at, io.now());
            part.is_served();
            match offered {
                // The member's copy has the claim by now, if the record stays open for it.
                Offered::Taken => drop(body.take_claim()),
                Offered::Dropped(why) => {
                    body.meets();
                    self.dropped_of(here, io.now(), why, number, Rc::clone(&body));
                }
                Offered::Waits(member) => part.put_back(Rc::clone(&body), member),
            }
        }
    }

    /// Offers waiting messages of a client's shares after it has acknowledged something and may have room.
    fn has_room_for_shares(&mut self, io: &mut dyn Out, here: &mut Here, key: SessionKey) {
        let shares = &mut self.delivery.shares;
        let Some(of) = shares.of.get(&key).cloned() else { return };
        for number in of {
            let Some(part) = self.delivery.shares.parts.get_mut(&number) else { continue };
            part.set_ready(key, true);
            part.is_served();
            let (queued, _) = part.queued();
            if queued > 0 {
                let of = part.is_keyed.then_some(key);
                self.offer_line(io, here, number, of);
                self.delivery.shares.settle(number);
            }
        }
    }

    /// Offers waiting messages at the end of a turn to members that have come, or may have room again.
    pub fn serve_shares(&mut self, io: &mut dyn Out, here: &mut Here) {
        for key in self.delivery.shares.have_room_again() {
            self.is_late_no_more(here, io.now(), key);
            self.has_room_for_shares(io, here, key);
        }
        while let Some(number) = self.delivery.shares.to_serve.ripe.pop_first() {
            self.offer_waiting(io, here, number);
        }
        self.tell_homes(here);
        self.set_shares_timer(io);
        self.set_late_timer(io, here);
    }
}
