//! Subscriptions: checked, and entered in the lookup for publishes. A subscription to the past has a gate ([`super::delivery::gates`]).

use std::sync::Arc;

use smallvec::SmallVec;

use forebay_base::limits::{DEEP_FILTERS_OF_SESSION_MAX, WILD_FILTERS_OF_SESSION_MAX};
use forebay_guard::auth::acl::{self, Action};
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::SubscriptionOptions;
use forebay_mqtt::route::shape::Shape;
use forebay_mqtt::route::subscriptions::Subscriber;
use forebay_mqtt::topic;
use forebay_runtime::seam::{ConnId, Monotonic};
use forebay_session::{Session, SessionKey, Subscription, SubscriptionRefused, Wish};

use super::Broker;
use super::delivery::gates::Asked;
use super::past::{Past, past};
use crate::here::Here;
use crate::out::Out;
use crate::words::{clipped, denied, of_client, second};

/// The results of the filters of a SUBSCRIBE.
pub type Outcomes = SmallVec<[Result<SubscriptionOptions, SubscriptionRefused>; 8]>;

impl Broker {
    /// # Errors
    /// The reason why the filter is refused.
    pub fn subscribe_to(
        &mut self,
        io: &dyn Out,
        here: &mut Here,
        key: SessionKey,
        wish: Wish<'_>,
    ) -> Result<SubscriptionOptions, SubscriptionRefused> {
        let Some(session) = self.sessions.get(key) else { return Err(SubscriptionRefused::NO_ROOM) };
        let shared = topic::split_shared(wish.filter);
        if shared.is_none() && topic::is_shared(wish.filter) {
            return Err(SubscriptionRefused::SHARE_NAME);
        }
        let options = session.granted(&wish);
        let matched = shared.map_or(wish.filter, |(_, filter)| filter);
        let granted = session.may_read(matched);
        if granted == acl::Subscription::Refused {
            self.deny(here, key, (Action::Receive, "subscribe"), (wish.filter, matched), io.now());
            return Err(SubscriptionRefused::DENIED);
        }
        let past = wish.replay_from.map(|from| self.may_replay(io, here, key, (wish.filter, from))).transpose()?;
        self.sessions.may_subscribe(key, wish.filter)?;
        self.may_enter(key, wish.filter)?;
        if shared.is_some() && !self.delivery.shares.may_join(wish.filter) {
            return Err(SubscriptionRefused::TOO_MANY_SHARES);
        }
        let gate = match past {
            Some(_) => self.delivery.gates.next_number(),
            None => {
                self.delivery.gates.leave(key, wish.filter);
                0
            }
        };
        let filter = self.enter_filter(here, (key, gate), wish.filter, options, wish.identifier, granted)?;
        if shared.is_some() {
            self.delivery.shares.ask_for_place(&filter);
        }
        let Some(session) = self.sessions.get(key) else { return Err(SubscriptionRefused::NO_ROOM) };
        // [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11] [MQTT-3.8.4-4]; a share gets none (section 4.8.2).
        let is_sent_retained = shared.is_none() && past.is_none() && session.is_sent_retained(&filter, options);
        let conn = session.conn();
        let subscription = Subscription { filter, options, identifier: wish.identifier };
        if let (Some(Past { start, topics }), Some(conn)) = (past, conn) {
            // The past has retained messages, too.
            self.retained.leave_replay(key, &subscription.filter);
            let subscription = subscription.clone();
            self.delivery.gates.close(Asked { gate, session: key, conn, subscription, start, topics });
        }
        if is_sent_retained {
            self.retained.replay(key, subscription.clone());
        }
        self.sessions.subscribed(key, subscription);
        Ok(options)
    }

    /// Whether a session may be sent the past of a filter, and which part of it that is.
    ///
    /// # Errors
    /// The reason why not.
    fn may_replay(
        &mut self,
        io: &dyn Out,
        here: &mut Here,
        key: SessionKey,
        (filter, from): (&str, &str),
    ) -> Result<Past, SubscriptionRefused> {
        let past = past(&here.config, filter, from, io.wall())?;
        let Some(session) = self.sessions.get(key) else { return Err(SubscriptionRefused::NO_ROOM) };
        // Each message is checked when it is sent.
        if session.may_replay(filter) == acl::Subscription::Refused {
            self.deny(here, key, (Action::Replay, "replay"), (filter, filter), io.now());
            return Err(SubscriptionRefused::REPLAY_DENIED);
        }
        self.delivery.gates.have_room(key)?;
        Ok(past)
    }

    /// Counts and reports a filter that the access control list denies. `matched`: the part of it that topics are compared with.
    fn deny(
        &mut self,
        here: &mut Here,
        key: SessionKey,
        (action, word): (Action, &'static str),
        (filter, matched): (&str, &str),
        now: Monotonic,
    ) {
        here.numbers.count(M::SubscriptionsDenied);
        let Some(session) = self.sessions.get(key) else { return };
        let rule = || session.why_filter_denied(action, matched);
        denied(&mut here.teller, second(now), word, session.client(), session.username(), filter, rule);
    }

    /// Checks whether a session may add this filter. A session may have only a few filters that have to be compared with every message, or as texts, and a
    /// shard has not many that are compared with the same messages. Existing ones stay, also after a restart.
    fn may_enter(&mut self, key: SessionKey, filter: &str) -> Result<(), SubscriptionRefused> {
        let shared = topic::split_shared(filter);
        let matched = shared.map_or(filter, |(_, matched)| matched);
        let shape = Shape::of(matched);
        let Some(session) = self.sessions.get(key).filter(|_| !shape.is_some_and(Shape::has_own_place)) else {
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
            Some((_, matched)) => self.delivery.shares.has_room(matched),
            None => self.delivery.index.has_room(filter),
        };
        let refused = if is_wild { SubscriptionRefused::TOO_MANY_WILD } else { SubscriptionRefused::TOO_MANY_DEEP };
        has_room.then_some(()).ok_or(refused)
    }

    /// Ends the subscriptions of sessions that have ended, as many as fit in the turn: until then their copies find no session. False: some are left.
    pub fn forget_subscriptions(&mut self, io: &mut dyn Out) -> bool {
        while let Some(ended) = self.sessions.next_ended() {
            self.delivery.forget(ended);
            self.leave_shares(ended);
            self.retained.forget_replay(ended);
            if io.is_over() {
                io.go_on();
                return false;
            }
        }
        true
    }

    /// Records an event about a filter that was refused.
    pub fn tell_subscribe_refused(
        &mut self,
        io: &dyn Out,
        here: &mut Here,
        conn: ConnId,
        key: SessionKey,
        refused: SubscriptionRefused,
    ) {
        let client = self.sessions.get(key).map(Session::client);
        here.teller.tell_of(EventKind::SubscribeRefused, second(io.now()), client, |event| {
            let event = of_client(event, client).shown(Field::Peer, io.peer(conn));
            event.with(Field::Reason, refused.what)
        });
    }

    fn enter_filter(
        &mut self,
        here: &Here,
        (session, gate): (SessionKey, u32),
        filter: &str,
        options: SubscriptionOptions,
        identifier: u32,
        granted: acl::Subscription,
    ) -> Result<Arc<str>, SubscriptionRefused> {
        let is_checked = granted == acl::Subscription::Checked;
        let subscriber = Subscriber { session, options, identifier, is_checked, gate };
        if topic::is_shared(filter) {
            // Messages under `$` are each instance's own.
            let is_own = topic::split_shared(filter).is_some_and(|(_, matched)| matched.starts_with('$'));
            if is_own && self.delivery.shares.are_by_groups() {
                return Err(SubscriptionRefused::NO_SHARES);
            }
            return self.join_share(here, filter, subscriber);
        }
        Ok(self.delivery.index.subscribe(filter, subscriber))
    }

    /// Ends a subscription. False: there was none to this filter.
    pub fn unsubscribe_from(&mut self, here: &Here, key: SessionKey, filter: &str) -> bool {
        if !self.sessions.get(key).is_some_and(|session| session.has_subscribed(filter)) {
            return false;
        }
        if topic::is_shared(filter) {
            self.leave_share(here, key, filter);
        } else {
            self.delivery.index.unsubscribe(key, filter);
            self.delivery.gates.leave(key, filter);
            self.retained.leave_replay(key, filter);
        }
        self.sessions.unsubscribed(key, filter)
    }

    /// Enters the subscriptions of a session again: the session was restored, its client reconnected, or the rules changed. Subscriptions that its client may
    /// no longer read end, and their waiting copies are not sent.
    pub fn enter_again(&mut self, here: &mut Here, key: SessionKey, now: Monotonic) {
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
                here.numbers.count(M::SubscriptionsDenied);
                SubscriptionRefused::DENIED
            } else {
                let gate = self.delivery.gates.number_of(key, &filter);
                match self.enter_filter(here, (key, gate), &filter, options, identifier, granted) {
                    Ok(_) => continue,
                    Err(refused) => refused,
                }
            };
            let client = self.sessions.get(key).map(Session::client);
            here.teller.tell_of(EventKind::SubscriptionEnded, second(now), client, |event| {
                let event = of_client(event, client).with(Field::MqttTopic, clipped(&filter));
                event.with(Field::Reason, why.what)
            });
            self.unsubscribe_from(here, key, &filter);
        }
        self.write_down(here, key);
    }
}
