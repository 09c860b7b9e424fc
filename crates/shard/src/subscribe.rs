//! SUBSCRIBE and UNSUBSCRIBE of a connection, their filters one after the other, and their answers.

use forebay_base::limits::SUBSCRIPTIONS_OF_SESSION_MAX;
use forebay_broker::subscribe::Outcomes;
use forebay_broker::words::{Flow, Stall};
use forebay_mqtt::packet::{Subscribe, Unsubscribe};
use forebay_mqtt::topic;
use forebay_runtime::seam::ConnId;
use forebay_session::{End, SessionKey, SubscriptionRefused, Violation, Wish};

use super::Core;
use super::connection::Begun;
use super::ring::Ring;

impl Core {
    /// Handles a SUBSCRIBE, its filters one after the other [MQTT-3.8.4-5]. Before it is answered publishes of every shard find its
    /// subscriptions.
    pub(crate) fn subscribe(
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
        self.broker.measure_room_of(&mut self.here, key);
        for (at, wish) in Wish::all(subscribe).enumerate().skip(outcomes.len()) {
            if at >= SUBSCRIPTIONS_OF_SESSION_MAX {
                outcomes.push(Err(SubscriptionRefused::TOO_MANY_AT_ONCE));
                continue;
            }
            if at > 0 && !io.spend(1) {
                self.connections.begin(conn, Begun::Subscribe(outcomes));
                return Flow::Part;
            }
            outcomes.push(self.broker.subscribe_to(io, &mut self.here, key, wish));
        }
        let without_place = self.broker.without_place(&self.here, key, subscribe, &mut outcomes);
        self.broker.write_down(&mut self.here, key);
        if outcomes.iter().any(Result::is_ok) && self.broker.sessions.is_unwritten(key) {
            // Room was found before, so this is rare. A subscription that is not on the disk is not answered.
            return self.violation(io, conn, key, Violation::SPOOL_FULL);
        }
        if let Some(share) = without_place {
            self.connections.begin(conn, Begun::Subscribe(outcomes));
            return Flow::Stall(Stall::Share(share));
        }
        let Some(session) = self.broker.sessions.get(key) else { return Flow::Ended };
        let out = self.broker.keeping.holds.out(io, conn);
        let from = out.len();
        let is_answered = session.suback(subscribe.packet_id, &outcomes, out);
        self.broker.hold(io, &self.here, conn, key, from);
        for (wish, outcome) in Wish::all(subscribe).zip(&outcomes) {
            if let Ok(granted) = outcome {
                self.raise_subscribed(io, (conn, key), (wish.filter, *granted), subscribe.properties);
            }
        }
        // Filters that the access control list denies have been reported.
        let mut refused = outcomes.iter().filter_map(|outcome| outcome.err());
        if let Some(refused) = refused.find(|refused| !refused.is_denial()) {
            self.broker.tell_subscribe_refused(io, &mut self.here, conn, key, refused);
        }
        if is_answered {
            return Flow::On;
        }
        self.end(io, conn, End::NotExpressible);
        Flow::Ended
    }

    /// Handles an UNSUBSCRIBE, its filters one after the other [MQTT-3.10.4-6]. No later publish is sent for these filters after its answer
    /// [MQTT-3.10.4-2]; copies that have been sent at QoS 1 and 2 are with the session [MQTT-3.10.4-3].
    pub(crate) fn unsubscribe(
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
        // The filters without a past, as subscribed with or without one.
        let filters = || unsubscribe.filters.iter().map(|(of, _)| topic::split_replay(of).map_or(of, |(_, of)| of));
        for filter in filters().skip(had.len()) {
            if !had.is_empty() && !io.spend(1) {
                self.connections.begin(conn, Begun::Unsubscribe(had));
                return Flow::Part;
            }
            had.push(self.broker.unsubscribe_from(&self.here, key, filter));
        }
        self.broker.write_down(&mut self.here, key);
        if self.broker.sessions.is_unwritten(key) {
            // An UNSUBSCRIBE that is not on the disk is not answered: after a crash the subscriptions would be there again.
            return self.violation(io, conn, key, Violation::SPOOL_FULL);
        }
        let Some(session) = self.broker.sessions.get(key) else { return Flow::Ended };
        let out = self.broker.keeping.holds.out(io, conn);
        let from = out.len();
        session.unsuback(unsubscribe.packet_id, &had, out);
        self.broker.hold(io, &self.here, conn, key, from);
        for (filter, _) in filters().zip(&had).filter(|(_, had)| **had) {
            self.raise_unsubscribed(io, (conn, key), filter, unsubscribe.properties);
        }
        Flow::On
    }
}
