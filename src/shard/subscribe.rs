//! SUBSCRIBE and UNSUBSCRIBE: checked, entered where publishes look, written down if the session is kept, then answered.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::auth::acl;
use crate::limits::{DEEP_FILTERS_OF_SESSION_MAX, SUBSCRIPTIONS_OF_SESSION_MAX, WILD_FILTERS_OF_SESSION_MAX};
use crate::metrics::event::{Field, Kind as EventKind};
use crate::metrics::spec::ShardMetric as M;
use crate::mqtt::packet::{Subscribe, SubscriptionOptions, Unsubscribe};
use crate::mqtt::topic;
use crate::route::shape::Shape;
use crate::route::subscriptions::Subscriber;
use crate::runtime::seam::ConnId;
use crate::session::{End, Session, SessionKey, Subscription, SubscriptionRefused, Violation, Wish};

use super::connection::Begun;
use super::device::Flow;
use crate::runtime::seam::Monotonic;

use super::events::{clipped, denied, of_client, second};
use super::{Broker, Core, Ring};

/// What the filters of a SUBSCRIBE have come to.
pub(super) type Outcomes = SmallVec<[Result<SubscriptionOptions, SubscriptionRefused>; 8]>;

impl Core {
    /// A SUBSCRIBE, its filters one after the other [MQTT-3.8.4-5]. Before it is answered publishes of every shard find its
    /// subscriptions.
    pub(super) fn subscribe(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        key: SessionKey,
        subscribe: &Subscribe<'_>,
    ) -> Flow {
        let Some(session) = self.broker.sessions.get(key) else { return Flow::Ended };
        let mut outcomes = match self.connections.begun(conn) {
            Some(Begun::Subscribe(outcomes)) => outcomes,
            _ => {
                if let Err(violation) = session.may_ask(subscribe) {
                    return self.violation(io, conn, key, violation);
                }
                self.broker.retained.begin_subscribe(key);
                Outcomes::new()
            }
        };
        self.broker.measure_session_room();
        for (at, wish) in Wish::all(subscribe).enumerate().skip(outcomes.len()) {
            if at >= SUBSCRIPTIONS_OF_SESSION_MAX {
                outcomes.push(Err(SubscriptionRefused::TOO_MANY_AT_ONCE));
                continue;
            }
            if at > 0 && !io.spend(1) {
                self.connections.begin(conn, Begun::Subscribe(outcomes));
                return Flow::Part;
            }
            outcomes.push(self.subscribe_to(io, key, wish));
        }
        self.broker.write_down(key);
        if outcomes.iter().any(Result::is_ok) && self.broker.sessions.is_unwritten(key) {
            // There was room a moment ago: less than that is rare. What is not on the disk is not answered.
            return self.violation(io, conn, key, Violation::SPOOL_FULL);
        }
        let Some(session) = self.broker.sessions.get(key) else { return Flow::Ended };
        let out = self.broker.keeping.holds.out(io, conn);
        let from = out.len();
        let is_answered = session.suback(subscribe.packet_id, &outcomes, out);
        self.broker.hold(io, conn, key, from);
        // What the access control list denies has been told of.
        let mut refused = outcomes.iter().filter_map(|outcome| outcome.err());
        if let Some(refused) = refused.find(|refused| *refused != SubscriptionRefused::DENIED) {
            self.tell_subscribe_refused(io, conn, key, refused);
        }
        if is_answered {
            return Flow::On;
        }
        self.end(io, conn, End::NotExpressible);
        Flow::Ended
    }

    /// # Errors
    /// Why it is refused.
    fn subscribe_to(
        &mut self,
        io: &Ring<'_>,
        key: SessionKey,
        wish: Wish<'_>,
    ) -> Result<SubscriptionOptions, SubscriptionRefused> {
        let Some(session) = self.broker.sessions.get(key) else { return Err(SubscriptionRefused::NO_ROOM) };
        let shared = topic::split_shared(wish.filter);
        if shared.is_none() && topic::is_shared(wish.filter) {
            return Err(SubscriptionRefused::SHARE_NAME);
        }
        let options = session.granted(&wish);
        let granted = session.may_read(shared.map_or(wish.filter, |(_, filter)| filter));
        if granted == acl::Subscription::Refused {
            self.broker.numbers.count(M::SubscriptionsDenied);
            let (client, username) = (session.client(), session.username());
            let matched = shared.map_or(wish.filter, |(_, filter)| filter);
            let rule = || session.why_filter_denied(matched);
            denied(&mut self.broker.teller, second(io.now()), "subscribe", client, username, wish.filter, rule);
            return Err(SubscriptionRefused::DENIED);
        }
        self.broker.sessions.may_subscribe(key, wish.filter)?;
        self.may_enter(key, wish.filter)?;
        let filter = self.broker.enter_filter(key, wish.filter, options, wish.identifier, granted)?;
        let Some(session) = self.broker.sessions.get(key) else { return Err(SubscriptionRefused::NO_ROOM) };
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]; a share gets none (section 4.8.2).
        let is_sent_retained = shared.is_none() && session.is_sent_retained(&filter, options);
        let subscription = Subscription { filter, options, identifier: wish.identifier };
        if is_sent_retained {
            self.broker.retained.replay(key, subscription.clone());
        }
        self.broker.sessions.subscribed(key, subscription);
        Ok(options)
    }

    /// A session may have few filters that may have to be compared with every message, or as texts, and a shard has not many that are
    /// compared with the same messages. Those that it has stay, also after a restart.
    fn may_enter(&mut self, key: SessionKey, filter: &str) -> Result<(), SubscriptionRefused> {
        let shared = topic::split_shared(filter);
        let matched = shared.map_or(filter, |(_, matched)| matched);
        let shape = Shape::of(matched);
        let Some(session) = self.broker.sessions.get(key).filter(|_| !shape.is_some_and(Shape::has_own_place)) else {
            return Ok(());
        };
        if session.has_subscribed(filter) {
            return Ok(());
        }
        let have = |is_one: &dyn Fn(&str) -> bool| {
            let filters = session.subscriptions().iter().map(|known| &*known.filter);
            filters.filter(|known| is_one(topic::split_shared(known).map_or(known, |(_, matched)| matched))).count()
        };
        // A wildcard in front of more than 32 levels: texts would be compared with every message.
        let is_wild = Shape::needs_place(matched);
        if is_wild && (shape.is_none() || have(&Shape::needs_place) >= WILD_FILTERS_OF_SESSION_MAX) {
            return Err(SubscriptionRefused::TOO_MANY_WILD);
        }
        if shape.is_none() && have(&|known| Shape::of(known).is_none()) >= DEEP_FILTERS_OF_SESSION_MAX {
            return Err(SubscriptionRefused::TOO_MANY_DEEP);
        }
        let has_room = match shared {
            Some((_, matched)) => self.broker.delivery.shares.has_room(matched),
            None => self.broker.delivery.index.has_room(filter),
        };
        let refused = if is_wild { SubscriptionRefused::TOO_MANY_WILD } else { SubscriptionRefused::TOO_MANY_DEEP };
        has_room.then_some(()).ok_or(refused)
    }

    /// An UNSUBSCRIBE, its filters one after the other [MQTT-3.10.4-6]. Nothing that is published after its answer is sent for
    /// these filters [MQTT-3.10.4-2]; what has been sent at QoS 1 and 2 is with the session [MQTT-3.10.4-3].
    pub(super) fn unsubscribe(
        &mut self,
        io: &mut Ring<'_>,
        conn: ConnId,
        key: SessionKey,
        unsubscribe: &Unsubscribe<'_>,
    ) -> Flow {
        let mut had = match self.connections.begun(conn) {
            Some(Begun::Unsubscribe(had)) => had,
            _ => Vec::new(),
        };
        for (filter, _) in unsubscribe.filters.iter().skip(had.len()) {
            if !had.is_empty() && !io.spend(1) {
                self.connections.begin(conn, Begun::Unsubscribe(had));
                return Flow::Part;
            }
            had.push(self.broker.unsubscribe_from(key, filter));
        }
        self.broker.write_down(key);
        if self.broker.sessions.is_unwritten(key) {
            // What is not on the disk is not answered: after a crash the subscriptions would be there again.
            return self.violation(io, conn, key, Violation::SPOOL_FULL);
        }
        let Some(session) = self.broker.sessions.get(key) else { return Flow::Ended };
        let out = self.broker.keeping.holds.out(io, conn);
        let from = out.len();
        session.unsuback(unsubscribe.packet_id, &had, out);
        self.broker.hold(io, conn, key, from);
        Flow::On
    }

    /// The subscriptions of sessions that have ended go. As many as a turn has time for: until then their copies find no session.
    /// False: some are left.
    pub(super) fn forget_subscriptions(&mut self, io: &mut Ring<'_>) -> bool {
        while let Some(ended) = self.broker.sessions.next_ended() {
            self.broker.delivery.forget(ended);
            self.broker.leave_shares(ended);
            self.broker.retained.forget_replay(ended);
            if io.is_over() {
                io.go_on();
                return false;
            }
        }
        true
    }

    /// A filter was refused.
    fn tell_subscribe_refused(&mut self, io: &Ring<'_>, conn: ConnId, key: SessionKey, refused: SubscriptionRefused) {
        let client = self.broker.sessions.get(key).map(Session::client);
        self.broker.teller.tell_of(EventKind::SubscribeRefused, second(io.now()), client, |event| {
            let event = of_client(event, client).shown(Field::Peer, io.peer(conn));
            event.with(Field::Reason, refused.what)
        });
    }
}

impl Broker {
    fn enter_filter(
        &mut self,
        session: SessionKey,
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
        granted: acl::Subscription,
    ) -> Result<Arc<str>, SubscriptionRefused> {
        let is_checked = granted == acl::Subscription::Checked;
        let subscriber = Subscriber { session, options, identifier, is_checked };
        if topic::is_shared(filter) {
            return self.join_share(filter, subscriber);
        }
        Ok(self.delivery.index.subscribe(filter, subscriber))
    }

    /// False: it had not subscribed to it.
    fn unsubscribe_from(&mut self, key: SessionKey, filter: &str) -> bool {
        if !self.sessions.get(key).is_some_and(|session| session.has_subscribed(filter)) {
            return false;
        }
        if topic::is_shared(filter) {
            self.leave_share(key, filter);
        } else {
            self.delivery.index.unsubscribe(key, filter);
            self.retained.leave_replay(key, filter);
        }
        self.sessions.unsubscribed(key, filter)
    }

    /// Enters the subscriptions of a session again: it was restored, its client is back, or other rules hold. What its client may
    /// not read any more ends, and what waits for it of that is not sent.
    pub(super) fn enter_again(&mut self, key: SessionKey, now: Monotonic) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        session.check_what_waits();
        if session.subscriptions().is_empty() {
            return;
        }
        self.retained.resume_replay(key);
        for Subscription { filter, options, identifier } in session.subscriptions().to_vec() {
            let Some(session) = self.sessions.get(key) else { return };
            let behind = topic::split_shared(&filter).map_or(&*filter, |(_, behind)| behind);
            let granted = session.may_read(behind);
            let why = if granted == acl::Subscription::Refused {
                self.numbers.count(M::SubscriptionsDenied);
                SubscriptionRefused::DENIED
            } else {
                match self.enter_filter(key, &filter, options, identifier, granted) {
                    Ok(_) => continue,
                    Err(refused) => refused,
                }
            };
            let client = self.sessions.get(key).map(Session::client);
            self.teller.tell_of(EventKind::SubscriptionEnded, second(now), client, |event| {
                let event = of_client(event, client).with(Field::MqttTopic, clipped(&filter));
                event.with(Field::Reason, why.what)
            });
            self.unsubscribe_from(key, &filter);
        }
        self.write_down(key);
    }
}
