//! The way of a PUBLISH: who takes it is asked first, then the session numbers it, then it is given to all of them.

use crate::auth::acl::{Action, Wanted};
use crate::config::Config;
use crate::kafka::producer::row_log::Origin;
use crate::kafka::types::Ticket;
use crate::metrics::journal::Teller;
use crate::metrics::spec::{ListenerMetric as L, ShardMetric as M};
use crate::mqtt::packet::{Publish, QoS, Version};
use crate::mqtt::reason::ReasonCode;
use crate::runtime::seam::{Monotonic, WallMs};
use crate::session::{ClientKey, Session, SessionKey, Taken};

use super::delivery::{PublishedBy, Route};
use super::device::{Flow, Source};
use super::events::{REJECTED, denied, publish_refused, second};
use super::numbers::Routed;
use super::reservation::{Told, Unreserved};
use super::retained::Publisher;
use super::sinks::Message;
use super::stalls::Stall;
use super::{Core, Ring, sys_topics};

impl Core {
    /// The hot path: match, ask sinks and subscribers' shards for room, let the session number it, write the rows, send the copies.
    /// `follows`: it has the first byte and the topic of the message before it, neither has properties, and [`Core::is_lasting`] was set
    /// after that one.
    pub(super) fn publish(&mut self, io: &mut Ring<'_>, from: Source, publish: &Publish<'_>, follows: bool) -> Flow {
        self.is_lasting = false;
        let Source { conn, session: key, listener, peer } = from;
        let (now, wall) = (io.now(), io.wall());
        let Some(session) = self.broker.sessions.get_mut(key) else { return Flow::Ended };
        if publish.qos != QoS::AtMostOnce
            && (session.is_blocked() || publish.qos == QoS::ExactlyOnce && session.is_releasing(publish.packet_id))
        {
            return Flow::Stall(Stall::Answers);
        }
        if publish.qos == QoS::ExactlyOnce && session.number().is_some() && !self.broker.queues.have_all_told() {
            // Other shards may have had it before a crash.
            return Flow::Stall(Stall::Subscribers(self.broker.index));
        }
        // A repeat goes to no sink: it must not wait for room in one.
        let is_repeat = publish.qos == QoS::ExactlyOnce && session.is_repeat(publish.packet_id);
        if publish.qos == QoS::ExactlyOnce && !is_repeat && session.waits_for_release() {
            return Flow::Stall(Stall::Answers);
        }
        let is_granted = follows || is_repeat || session.is_granted_publish(publish);
        let session = &*session;
        let topic = session.topic_of(publish);
        let is_granted = follows || is_granted && !topic.is_some_and(sys_topics::is_own);
        let taken_by: &[u16] =
            if publish.qos == QoS::ExactlyOnce { session.already_taken_by(publish.packet_id) } else { &[] };
        let was_taken = !taken_by.is_empty();
        let of_kept = session.number().filter(|_| publish.qos == QoS::ExactlyOnce);
        let mut route = Route::default();
        if let Some(topic) = topic.filter(|_| is_granted && !is_repeat && !follows) {
            // Shards that have it since before a crash pass over it (`queues`); whether it was retained is not known.
            let origin = || of_kept.map(|session| Origin { session, packet_id: publish.packet_id });
            let takers = (&self.broker.retained, &self.broker.queues);
            let room = self.broker.delivery.find_room(takers, (topic, publish), || (session.client_id(), origin()));
            let cost = self.broker.delivery.take_cost();
            if cost > 0 {
                let _ = io.spend(cost);
            }
            match room {
                Ok(found) => route = found,
                Err(full) => return Flow::Stall(full),
            }
        }
        let reserved = match topic {
            Some(_) if !is_granted => Err(Unreserved::Denied),
            Some(topic) if !is_repeat => {
                let message = message(topic, session.client_id(), session.username(), publish, wall);
                self.broker.outlets.reserve(&message, Told::of(peer.version, publish.qos), taken_by, follows)
            }
            // Or the session refuses it in a moment.
            _ => Err(Unreserved::Unmatched),
        };
        if let Err(Unreserved::Full(wait)) = reserved {
            return Flow::Stall(Stall::Memory(wait));
        }
        if let (Err(why), Some(topic)) = (&reserved, topic) {
            tell_unreserved((&mut self.broker.teller, &self.broker.around.config), why, session, (topic, publish), now);
        }
        let (number, owed_already, sender) = match self.broker.sessions.publish(key, publish, now) {
            Some(Taken::Take { number, message }) => (Some(number), 0, message),
            Some(Taken::TakeQos0 { message }) => (None, 0, message),
            Some(Taken::Rest { number, owed, message }) => {
                self.broker.numbers.count(M::PublishesRepeated);
                (Some(number), owed, message)
            }
            Some(Taken::Repeat) => {
                self.broker.numbers.count(M::PublishesRepeated);
                return Flow::On;
            }
            Some(Taken::Violation(violation)) => {
                drop(reserved);
                return self.violation(io, conn, key, violation);
            }
            None => return Flow::Ended,
        };
        self.broker.numbers.count(match publish.qos {
            QoS::AtMostOnce => M::PublishesQos0,
            QoS::AtLeastOnce => M::PublishesQos1,
            QoS::ExactlyOnce => M::PublishesQos2,
        });
        self.broker.numbers.raise(M::PublishBytes, publish.payload.len() as u64);
        self.broker.numbers.count_listener(listener, L::Received);
        let mut is_logged = false;
        let is_taken = match &reserved {
            Ok(reservation) => !reservation.is_refused(),
            Err(why) => *why == Unreserved::Unmatched,
        };
        // Moved: it ends here, whatever it is.
        let (owed, code) = match std::convert::identity(reserved) {
            Ok(reservation) => {
                let routed = if is_taken { Routed::Matched } else { Routed::Refused };
                self.broker.numbers.count_routed(Some(listener), routed);
                let message = message(sender.topic, sender.client_id, sender.username, publish, wall);
                let ticket = number.map(|number| Ticket { session: key.to_bits(), number });
                let origin = of_kept.filter(|_| reservation.keeps_packet_id());
                let origin = origin.map(|session| Origin { session, packet_id: publish.packet_id });
                is_logged = origin.is_some();
                if let Some(number) = number.filter(|_| std::mem::take(&mut self.sample.wanted)) {
                    self.sample.taken = Some((number, reservation.level()));
                }
                (reservation.take(&message, ticket, origin, now, wall), ReasonCode::SUCCESS)
            }
            Err(Unreserved::Rejected(sink, objection)) => {
                self.broker.numbers.count_routed(Some(listener), Routed::Refused);
                self.broker.numbers.count_refusal(usize::from(sink), objection.reason());
                (0, objection.code())
            }
            Err(Unreserved::Denied) => {
                self.broker.numbers.count_routed(Some(listener), Routed::Refused);
                self.broker.numbers.count(M::PublishesDenied);
                // Before 5.0 it is closed, or acknowledged [3.1.1 MQTT-3.3.5-2].
                let is_acknowledged = self.broker.sessions.get(key).is_some_and(Session::is_denial_acknowledged);
                let is_told = peer.version == Version::V5 || !is_acknowledged;
                (0, if is_told { ReasonCode::NOT_AUTHORIZED } else { ReasonCode::SUCCESS })
            }
            // It is for subscribers alone, or all that match have had it since before a crash.
            Err(Unreserved::Unmatched) if was_taken || route.is_any() => {
                self.broker.numbers.count_routed(Some(listener), Routed::Matched);
                (0, ReasonCode::SUCCESS)
            }
            Err(Unreserved::Unmatched | Unreserved::Full(_)) => {
                self.broker.numbers.count_routed(Some(listener), Routed::Unmatched);
                (0, ReasonCode::NO_MATCHING_SUBSCRIBERS)
            }
        };
        if !self.broker.outlets.passed_over.is_empty() {
            self.count_passed_over_of(key, publish, now);
        }
        self.is_lasting = is_taken
            && self.broker.outlets.is_settled()
            && !(route.is_any() || publish.retain || publish.topic.is_empty() || publish.qos == QoS::ExactlyOnce);
        let awaited = if is_taken && route.is_any() { self.broker.answers_awaited(route, publish.qos) } else { 0 };
        if let (Some(number), Some(session)) = (number, self.broker.sessions.get_mut(key)) {
            session.opened(number, owed + owed_already + awaited, code);
            if is_logged {
                session.logged(publish.packet_id);
            }
        }
        if route.is_any() && is_taken {
            let origin = of_kept.filter(|_| self.broker.awaits_copies(publish.qos));
            let origin = origin.map(|session| Origin { session, packet_id: publish.packet_id });
            if origin.is_some()
                && let Some(session) = self.broker.sessions.get_mut(key)
            {
                session.sent_to_shards(publish.packet_id, self.broker.delivery.shards_of(route));
            }
            self.deliver_from(io, (key, origin), route, publish, number);
        }
        Flow::On
    }

    /// Sinks have gone without a message of a session.
    #[cold]
    #[inline(never)]
    fn count_passed_over_of(&mut self, key: SessionKey, publish: &Publish<'_>, now: Monotonic) {
        // Names are copied in this case alone: what counts them needs all of the shard.
        let Some(session) = self.broker.sessions.get(key) else { return };
        let topic = session.topic_of(publish).unwrap_or_default().to_owned();
        let (auth, client_id) = (session.client().auth.map(str::to_owned), session.client_id().to_owned());
        self.count_passed_over(ClientKey { auth: auth.as_deref(), client_id: &client_id }, &topic, now);
    }

    /// Sends a message of a session to its subscribers, and to its home.
    fn deliver_from(
        &mut self,
        io: &mut Ring<'_>,
        (key, origin): (SessionKey, Option<Origin>),
        route: Route,
        publish: &Publish<'_>,
        number: Option<u32>,
    ) {
        let alias = if publish.topic.is_empty() {
            let session = self.broker.sessions.get(key);
            session.and_then(|session| session.topic_of(publish)).map(str::to_owned)
        } else {
            None
        };
        let topic = alias.as_deref().unwrap_or(publish.topic);
        let answer = number.map(|number| Ticket { session: key.to_bits(), number });
        let session = self.broker.sessions.get(key).filter(|_| route.is_retained());
        let publisher = session.map(Publisher::of_session).unwrap_or_default();
        let from = PublishedBy { session: Some(key), origin, publisher };
        self.broker.deliver(io, route, &Publish { topic, ..publish.clone() }, from, answer);
    }
}

pub(super) fn message<'a>(
    topic: &'a str,
    client_id: &'a str,
    username: Option<&'a str>,
    publish: &Publish<'a>,
    wall: WallMs,
) -> Message<'a> {
    Message {
        topic,
        client_id,
        username,
        qos: publish.qos as u8,
        retain: publish.retain,
        dup: publish.dup,
        packet_id: publish.packet_id,
        payload: publish.payload,
        timestamp_ms: wall.0,
        properties: publish.properties,
    }
}

/// Reports a message that was denied, or that a sink will never take.
#[cold]
#[inline(never)]
fn tell_unreserved(
    (teller, config): (&mut Teller, &Config),
    why: &Unreserved,
    session: &Session,
    (topic, publish): (&str, &Publish<'_>),
    now: Monotonic,
) {
    match why {
        Unreserved::Denied => {
            let wanted = Wanted { action: Action::Publish, topic, qos: publish.qos, retain: publish.retain };
            let rule = || {
                let of_service = || "topics that begin with $SYS/ are the service's own".to_owned();
                if sys_topics::is_own(topic) { Some(of_service()) } else { session.why_denied(wanted) }
            };
            let (client, user) = (session.client(), session.username());
            denied(teller, second(now), "publish", client, user, topic, rule);
        }
        Unreserved::Rejected(sink, objection) => {
            let why = (objection.reason(), REJECTED);
            publish_refused(teller, config, second(now), *sink, (session.client(), topic), why);
        }
        Unreserved::Unmatched | Unreserved::Full(_) => {}
    }
}
