//! Members of shares: sessions that join or leave, and those that lose their connections.

use std::rc::Rc;
use std::sync::Arc;

use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::route::shares::{ShareNumber, TooManyShares, mark_of};
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{Body, End, SessionKey, SubscriptionRefused};

use super::super::Broker;
use crate::here::Here;

impl Broker {
    /// Makes a session a member of `$share/NAME/FILTER`, or enters its subscription again. Publishes on any shard find the member from now on. Returns the
    /// text, which all members share.
    ///
    /// # Errors
    /// The reason why the subscription is refused.
    pub(crate) fn join_share(
        &mut self,
        here: &Here,
        text: &str,
        subscriber: Subscriber<SessionKey>,
    ) -> Result<Arc<str>, SubscriptionRefused> {
        let key = subscriber.session;
        let (is_online, is_kept) = self.presence(key);
        let session = self.sessions.get(key);
        let mark = session.map_or(0, |session| mark_of(session.client_id()));
        let shares = &mut self.delivery.shares;
        let part = shares.part_of(here.index, text).map_err(|TooManyShares| SubscriptionRefused::TOO_MANY_SHARES)?;
        let (number, text) = (part.share.number(), Arc::clone(part.share.text()));
        self.delivery.index.interest().grows();
        let is_new = part.enter(subscriber, mark, is_online);
        self.delivery.index.interest().grows();
        part.set_kept(key, is_kept);
        if is_new {
            shares.members += 1;
            shares.of.entry(key).or_default().push(number);
        }
        shares.to_serve.ripe.insert(number);
        shares.note_members(number);
        Ok(text)
    }

    /// Whether a session is connected, and whether a log keeps messages that wait for it as a member of shares: with several instances these wait in Kafka.
    fn presence(&self, key: SessionKey) -> (bool, bool) {
        let session = self.sessions.get(key);
        let is_online = session.is_some_and(|session| session.conn().is_some());
        let is_stored = session.is_some_and(|session| session.number().is_some());
        (is_online, is_stored && !self.delivery.shares.are_by_groups())
    }

    /// Ends a session's membership of `$share/NAME/FILTER`. The client may still acknowledge copies that it was sent, also on its next connection
    /// [MQTT-3.10.4-3]: those of a kept session go to no other member.
    pub(crate) fn leave_share(&mut self, here: &Here, key: SessionKey, text: &str) {
        let shares = &mut self.delivery.shares;
        let Some(of) = shares.of.get_mut(&key) else { return };
        let is_it = |number: &_| shares.parts.get(number).is_some_and(|part| **part.share.text() == *text);
        let Some(at) = of.iter().position(is_it) else { return };
        let number = of.swap_remove(at);
        if of.is_empty() {
            shares.of.remove(&key);
        }
        shares.leave(key, number);
        let is_by_groups = shares.are_by_groups();
        let session = self.sessions.get(key).filter(|session| session.expiry_s() > 0);
        for (number, copy, body) in session.map(|of| of.shared_of(number)).unwrap_or_default() {
            let own = if is_by_groups {
                // The message stays the share's if the log has no room.
                let Some((own, _)) = self.log_copy(here, key, number, &copy, &body) else { continue };
                Some(own)
            } else {
                self.store_as_own(key, number, &copy, &body);
                None
            };
            self.sessions.get_mut(key).into_iter().for_each(|of| of.goes_as_own(number, own.clone()));
        }
        self.note_leaver(key);
    }

    /// Ends the memberships of a session that has ended.
    pub(crate) fn leave_shares(&mut self, key: SessionKey) {
        let shares = &mut self.delivery.shares;
        for number in shares.of.remove(&key).unwrap_or_default() {
            shares.leave(key, number);
        }
    }

    /// Removes the connection of a session. Later messages go to other members of its shares.
    pub fn disconnected(&mut self, here: &mut Here, now: Monotonic, key: SessionKey, conn: ConnId, end: End) {
        self.sessions.disconnected(key, conn, end, now);
        self.members_gone(here, now);
    }

    /// Hands messages of sessions that have lost their connections to other members, including unacknowledged ones of QoS 1 (section 4.8.2). Called after
    /// each call that may take a session's connection from it.
    pub fn members_gone(&mut self, here: &mut Here, now: Monotonic) {
        while let Some(key) = self.sessions.next_gone() {
            self.delivery.gates.disconnected(key);
            self.list_again(key);
            self.note_left(key);
            let (is_online, is_kept) = self.presence(key);
            let shares = &mut self.delivery.shares;
            for number in shares.of.get(&key).cloned().unwrap_or_default() {
                if let Some(part) = shares.parts.get_mut(&number) {
                    part.set_online(key, is_online);
                    part.set_kept(key, is_kept);
                }
                shares.note_members(number);
            }
        }
        let returned = self.sessions.take_returned();
        self.give_back_to_shares(here, now, returned);
    }

    /// Returns messages that members were sent and have not acknowledged to the shares: they wait for other members, ahead of all waiting messages.
    pub(super) fn give_back_to_shares(
        &mut self,
        here: &mut Here,
        now: Monotonic,
        returned: Vec<(ShareNumber, Rc<Body>)>,
    ) {
        for (number, body) in returned.into_iter().rev() {
            let body = self.logged_for_share(number, body);
            let shares = &mut self.delivery.shares;
            match shares.part(here.index, number) {
                Some(part) => {
                    part.push_front(body, now);
                    shares.settle(number);
                    shares.to_serve.ripe.insert(number);
                }
                None => self.dropped_of(here, now, M::CopiesShareGone, number, body),
            }
        }
    }
}
