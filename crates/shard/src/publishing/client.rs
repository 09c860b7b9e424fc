//! The path of a PUBLISH: all receivers are asked for room first, then the session numbers the message, then each receiver gets it.

use forebay_broker::Broker;
use forebay_broker::delivery::{PublishedBy, Route, packet_bytes};
use forebay_broker::here::Here;
use forebay_broker::logs::Kept;
use forebay_broker::numbers::Routed;
use forebay_broker::queues::Queues;
use forebay_broker::raised::unwanted;
use forebay_broker::retained::Publisher;
use forebay_broker::words::{Feeds, Owner, REJECTED, Stall, denied, publish_refused, second};
use forebay_guard::auth::acl::{Action, Wanted};
use forebay_kafka::producer::row_log::Origin;
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Publish, QoS, Version};
use forebay_mqtt::topic::is_of_service_alone;
use forebay_rule::event::Event;
use forebay_runtime::seam::{ConnId, Monotonic, WallMs};
use forebay_session::{Peer, Reason, Session, SessionKey, Sessions, Taken, Violation};

use super::admit::{Asked, Takers, ask, republished_awaits};
use super::{Publishing, sys_topics};
use crate::outlets::Outlets;
use crate::reservation::{Asking, Reservation, Told, Unreserved};
use crate::ring::Ring;
use crate::sinks::Message;
use crate::slot_rows::ForSlot;
use crate::words::{Sample, Source};

/// The receivers of the messages of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RunTo {
    /// Sinks, at the places of the previous message.
    pub(super) sinks: bool,
    /// Subscribers of this shard.
    pub(super) subscribers: Option<Route>,
}

/// The outcome of a PUBLISH.
pub(crate) enum Published {
    /// The message is done with. `begins_run`: the receivers, which hold for other messages of the same client, topic, QoS and flags, without properties
    /// ([`Publishing::publish_run`]).
    On { begins_run: Option<RunTo> },
    /// The message has to be offered again when this stall is over.
    Stall(Stall),
    /// The message's session has ended.
    Ended,
    /// The client has no right to send the message.
    Violation(Violation),
}

/// The state of a QoS 2 message in its session and in the log of its slot. The default is a message of another QoS.
#[derive(Default)]
struct Exchange<'a> {
    feeds: Feeds,
    is_granted: bool,
    /// Sinks that have had the message since before a crash.
    taken_by: &'a [u16],
    /// Whether a sink or a subscriber has had the message, or the log of its slot gets it.
    was_taken: bool,
    /// The number of the session, if it is kept.
    of_kept: Option<u64>,
    /// The row of the log of its slot. `None`: the message goes past that log, too.
    by_log: Option<ForSlot>,
    /// Whether a log gets the packet identifier.
    is_logged: bool,
}

impl<'a> Exchange<'a> {
    /// Examines a message of QoS 2 before any receiver but the log of its slot is asked for room.
    ///
    /// # Errors
    /// The stall that the message waits for.
    #[inline(never)]
    fn look(
        (queues, outlets, kept, shard): (&Queues, &mut Outlets, &Kept, usize),
        session: &'a Session,
        publish: &Publish<'_>,
        (feeds, is_granted): (Feeds, bool),
        wall: WallMs,
    ) -> Result<Self, Stall> {
        if session.is_releasing(publish.packet_id) {
            return Err(Stall::Answers);
        }
        let of_kept = session.number();
        if of_kept.is_some() && !queues.have_all_told() {
            // Other shards may have had the message before a crash.
            return Err(Stall::Subscribers(shard));
        }
        let topic = session.topic_of(publish);
        // A repeat goes to no sink: it must not wait for room in one.
        if session.is_repeat(publish.packet_id) {
            let is_granted = !topic.is_some_and(is_of_service_alone);
            return Ok(Self { of_kept, is_granted, feeds: Feeds::NONE, ..Self::default() });
        }
        if session.waits_for_release() {
            return Err(Stall::Answers);
        }
        let taken_by = session.already_taken_by(publish.packet_id);
        let was_taken = !taken_by.is_empty();
        // The message is in the topic of its route, which may have been another one, and in no second topic.
        let feeds = Feeds { route: feeds.route && !outlets.is_routed(taken_by), ..feeds };
        let exchange = Self { feeds, is_granted, taken_by, was_taken, of_kept, ..Self::default() };
        let (Some(number), Some(topic)) = (of_kept.filter(|_| feeds.route && !was_taken), topic) else {
            return Ok(exchange);
        };
        let message = message(topic, session.client_id(), session.username(), publish, wall);
        match outlets.ask_slot(kept, &message, number, session.awaits_beside_log()) {
            ForSlot::Waits(stall) => Err(stall),
            ForSlot::Elsewhere => Ok(exchange),
            by_log @ ForSlot::TooLarge => Ok(Self { by_log: Some(by_log), is_logged: true, ..exchange }),
            by_log @ ForSlot::Row(_) => {
                // The route's sink does not get it.
                let feeds = Feeds { route: false, ..feeds };
                Ok(Self { feeds, was_taken: true, by_log: Some(by_log), is_logged: true, ..exchange })
            }
        }
    }
}

/// Notes that a log gets the packet identifier of a message, and takes the row of the log of its slot.
#[cold]
#[inline(never)]
fn write_down(
    (session, outlets, kept): (&mut Session, &mut Outlets, &mut Kept),
    publish: &Publish<'_>,
    (key, number): (SessionKey, u32),
    exchange: Option<(ForSlot, u64)>,
    (now, wall): (Monotonic, WallMs),
) {
    match exchange {
        Some((ForSlot::TooLarge, _)) => session.goes_beside_log(publish.packet_id),
        Some((ForSlot::Row(row), of_kept)) => {
            session.logged(publish.packet_id);
            session.owes_one_more(number);
            let topic = session.topic_of(publish).unwrap_or_default();
            let message = message(topic, session.client_id(), session.username(), publish, wall);
            let origin = Origin { session: of_kept, packet_id: publish.packet_id };
            outlets.take_slot_row(kept, row, &message, (Owner::Session(key).ticket(number), origin), (now, wall));
        }
        _ => session.logged(publish.packet_id),
    }
}

impl Publishing<'_> {
    /// Publishes a message, on the hot path: match, ask sinks and subscribers' shards for room, let the session number the message, write the rows, send the
    /// copies. `feeds`: its receivers. `sample`: the message for which the time to its answer is measured.
    pub(crate) fn publish(
        &mut self,
        io: &mut Ring<'_>,
        from: Source,
        publish: &Publish<'_>,
        (feeds, sample): (Feeds, &mut Sample),
    ) -> Published {
        let (here, broker, outlets) = (&mut *self.here, &mut *self.broker, &mut *self.outlets);
        let Source { conn, session: key, peer, listener } = from;
        // A remote of a bridge has none.
        let listener = if peer.is_remote { None } else { Some(listener) };
        let (now, wall) = (io.now(), io.wall());
        let Some(session) = broker.sessions.get_mut(key) else { return Published::Ended };
        if publish.qos != QoS::AtMostOnce && session.is_blocked() {
            return Published::Stall(Stall::Answers);
        }
        let is_granted = session.is_granted_publish(publish);
        let session = &*session;
        let topic = session.topic_of(publish);
        let is_granted = is_granted && !topic.is_some_and(is_of_service_alone);
        // A session refuses an unknown alias in a moment.
        let feeds = if is_granted && topic.is_some() { feeds } else { Feeds::NONE };
        let exchange = if publish.qos == QoS::ExactlyOnce {
            let (queues, kept) = (&broker.queues, &broker.logs.kept);
            match Exchange::look((queues, outlets, kept, here.index), session, publish, (feeds, is_granted), wall) {
                Ok(exchange) => exchange,
                Err(stall) => return Published::Stall(stall),
            }
        } else {
            Exchange { feeds, is_granted, ..Exchange::default() }
        };
        let Exchange { feeds, is_granted, taken_by, was_taken, of_kept, by_log, mut is_logged } = exchange;
        let peer_address = outlets.rules.as_ref().and_then(|_| io.peer(conn));
        let told = Told::of(peer, publish.qos);
        let asking = Asking { told, already_taken_by: taken_by, feeds, peer: peer_address, wall, beside: None };
        let message_at_hand =
            message(topic.unwrap_or_default(), session.client_id(), session.username(), publish, wall);
        let (delivery, logs) = (&mut broker.delivery, &mut broker.logs);
        let (retained, queues) = (&broker.retained, &broker.queues);
        let takers = Takers { delivery, retained, queues, outlets, logs };
        // Shards that have had the message since before a crash pass over it (`queues`). Whether it was retained is not known.
        let exchange = || of_kept.map(|session| Origin { session, packet_id: publish.packet_id });
        let of = (publish, &message_at_hand);
        let Asked { route, mut reserved, waits_for, cost } = ask(takers, io, of, &asking, (None, exchange));
        if let Some(stall) = waits_for {
            drop(reserved);
            let _ = io.spend(outlets.take_cost_of_rules());
            return Published::Stall(stall);
        }
        if topic.is_some() && !is_granted {
            reserved = Err(Unreserved::Denied);
        }
        let is_routed = route.is_any();
        if let (Err(why), Some(topic)) = (&reserved, topic) {
            tell_unreserved(here, why, session, (topic, publish), now);
        }
        let (number, owed_already, sender) = match broker.sessions.publish(key, publish, now) {
            Some(Taken::Take { number, message }) => (Some(number), 0, message),
            Some(Taken::TakeQos0 { message }) => (None, 0, message),
            Some(Taken::Rest { number, owed, message }) => {
                here.numbers.count(M::PublishesRepeated);
                (Some(number), owed, message)
            }
            Some(Taken::Repeat) => {
                here.numbers.count(M::PublishesRepeated);
                return Published::On { begins_run: None };
            }
            Some(Taken::Violation(violation)) => {
                return Published::Violation(violation);
            }
            None => return Published::Ended,
        };
        here.numbers.count(match publish.qos {
            QoS::AtMostOnce => M::PublishesQos0,
            QoS::AtLeastOnce => M::PublishesQos1,
            QoS::ExactlyOnce => M::PublishesQos2,
        });
        here.numbers.raise(M::PublishBytes, publish.payload.len() as u64);
        let is_taken = match &reserved {
            Ok(reservation) => !reservation.is_refused(),
            Err(why) => *why == Unreserved::Unmatched,
        };
        let is_settled = reserved.as_ref().is_ok_and(Reservation::is_settled);
        let has_no_sink = matches!(reserved, Err(Unreserved::Unmatched)) && !was_taken;
        // The reservation is moved here, so that it ends here whatever its outcome.
        let (owed, reason) = match std::convert::identity(reserved) {
            Ok(reservation) => {
                let routed = if is_taken { Routed::Matched } else { Routed::Refused };
                here.numbers.count_routed(listener, routed, 1);
                let message = message(sender.topic, sender.client_id, sender.username, publish, wall);
                let ticket = number.map(|number| Owner::Session(key).ticket(number));
                let origin = of_kept.filter(|_| reservation.keeps_packet_id());
                let origin = origin.map(|session| Origin { session, packet_id: publish.packet_id });
                is_logged |= origin.is_some();
                if let Some(number) = number.filter(|_| std::mem::take(&mut sample.wanted)) {
                    sample.taken = Some((number, reservation.level()));
                }
                (reservation.take(&message, ticket, origin, now, wall), Reason::Success)
            }
            Err(why) => {
                // The message is for subscribers alone, or all matching sinks have had it since before a crash.
                let routed = why.counts_as(was_taken || is_routed);
                here.numbers.count_routed(listener, routed, 1);
                (0, reason_of(here, &broker.sessions, why, routed, (key, peer)))
            }
        };
        let mut republished_await = None;
        if outlets.has_aside() {
            let session = broker.sessions.get(key);
            let of = session.map(|session| (session.client(), session.topic_of(publish).unwrap_or_default()));
            outlets.count_aside(here, of, now);
            let _ = io.spend(outlets.take_cost_of_rules());
            if !outlets.republished().is_empty() {
                republished_await = Some(republished_awaits(here, broker, outlets));
            }
        }
        if reason == Reason::Unmatched {
            nobody_wants(io, (here, broker), (conn, key), publish);
        }
        let is_plain = !(publish.retain || publish.topic.is_empty() || publish.qos == QoS::ExactlyOnce);
        let begins_run = is_plain
            && if is_routed {
                cost == 0 && goes_on_alike(broker, here, publish, route) && (is_settled || has_no_sink)
            } else {
                is_settled
            };
        let begins_run = begins_run.then_some(RunTo { sinks: is_settled, subscribers: is_routed.then_some(route) });
        let awaited = if is_taken && is_routed { broker.answers_awaited(here, route, publish.qos) } else { 0 };
        let awaited = awaited + republished_await.unwrap_or(0);
        if let (Some(number), Some(session)) = (number, broker.sessions.get_mut(key)) {
            session.opened(number, owed + owed_already + awaited, reason);
            if is_logged {
                let exchange = by_log.filter(|_| is_taken).zip(of_kept);
                write_down((session, outlets, &mut broker.logs.kept), publish, (key, number), exchange, (now, wall));
            }
        }
        if is_routed && is_taken {
            let origin = of_kept.filter(|_| broker.awaits_copies(here, publish.qos));
            let origin = origin.map(|session| Origin { session, packet_id: publish.packet_id });
            if origin.is_some()
                && let Some(session) = broker.sessions.get_mut(key)
            {
                session.sent_to_shards(publish.packet_id, broker.delivery.shards_of(route));
            }
            deliver_from(io, (here, broker), (key, origin), route, publish, number);
        }
        if republished_await.is_some() {
            let answer = number.map(|number| Owner::Session(key).ticket(number));
            self.deliver_republished(io, None, answer);
        }
        Published::On { begins_run }
    }
}

/// Whether other messages of this one's topic, QoS and flags go to the same subscribers: those of this shard, with no answer to wait for.
fn goes_on_alike(broker: &Broker, here: &Here, publish: &Publish<'_>, route: Route) -> bool {
    publish.properties.is_empty() && broker.delivery.is_own(route) && !broker.awaits_copies(here, publish.qos)
}

/// Notes that a session's message had no receiver.
#[cold]
#[inline(never)]
fn nobody_wants(
    io: &Ring<'_>,
    (here, broker): (&mut Here, &Broker),
    (conn, key): (ConnId, SessionKey),
    publish: &Publish<'_>,
) {
    let is_sample = here.numbers.top.unmatched.is_due();
    let is_told = here.events.wants(Event::MessageDropped);
    if !(is_sample || is_told) {
        return;
    }
    let Some(session) = broker.sessions.get(key) else { return };
    let Some(topic) = session.topic_of(publish) else { return };
    if is_sample {
        here.numbers.top.nobody_wants(topic, packet_bytes(topic, publish), io.now());
    }
    if !is_told {
        return;
    }
    let from = (Some(conn), session.client(), session.username());
    let raised = unwanted(io, from, &Publish { topic, ..publish.clone() }, io.wall());
    here.raise(raised);
}

/// Sends a message of a session to its subscribers, and to its home.
fn deliver_from(
    io: &mut Ring<'_>,
    (here, broker): (&mut Here, &mut Broker),
    (key, origin): (SessionKey, Option<Origin>),
    route: Route,
    publish: &Publish<'_>,
    number: Option<u32>,
) {
    let alias = if publish.topic.is_empty() {
        let session = broker.sessions.get(key);
        session.and_then(|session| session.topic_of(publish)).map(str::to_owned)
    } else {
        None
    };
    let topic = alias.as_deref().unwrap_or(publish.topic);
    let answer = number.map(|number| Owner::Session(key).ticket(number));
    let session = broker.sessions.get(key).filter(|_| route.is_retained());
    let publisher = session.map(Publisher::of_session).unwrap_or_default();
    let from = PublishedBy { session: Some(key), origin, publisher, ..PublishedBy::default() };
    broker.deliver(io, here, route, &Publish { topic, ..publish.clone() }, from, answer);
}

/// The reason code for the publisher of a message for which nothing was reserved. Counts the outcome.
fn reason_of(
    here: &mut Here,
    sessions: &Sessions,
    why: Unreserved,
    routed: Routed,
    (key, peer): (SessionKey, Peer),
) -> Reason {
    match why {
        Unreserved::Rejected(sink, objection) => {
            here.numbers.count_refusal(usize::from(sink), objection.reason());
            objection.told()
        }
        Unreserved::RuleFailed => Reason::RuleFailed,
        Unreserved::Denied => {
            here.numbers.count(M::PublishesDenied);
            // Before 5.0 the connection is closed, or the message acknowledged [3.1.1 MQTT-3.3.5-2].
            let is_acknowledged = sessions.get(key).is_some_and(Session::is_denial_acknowledged);
            let is_told = peer.version == Version::V5 || !is_acknowledged;
            if is_told { Reason::Denied } else { Reason::Success }
        }
        Unreserved::Unmatched | Unreserved::Full(_) if routed == Routed::Matched => Reason::Success,
        Unreserved::Unmatched | Unreserved::Full(_) => Reason::Unmatched,
    }
}

pub(crate) fn message<'a>(
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
        hops: 0,
        copy_of: None,
        output: None,
    }
}

/// Reports a message that was denied, or that a sink will never take.
#[cold]
#[inline(never)]
fn tell_unreserved(
    here: &mut Here,
    why: &Unreserved,
    session: &Session,
    (topic, publish): (&str, &Publish<'_>),
    now: Monotonic,
) {
    match why {
        Unreserved::Denied => {
            let wanted = Wanted { action: Action::Publish, topic, qos: publish.qos, retain: publish.retain };
            let rule = || {
                if is_of_service_alone(topic) { Some(sys_topics::RULE.to_owned()) } else { session.why_denied(wanted) }
            };
            let (client, user) = (session.client(), session.username());
            denied(&mut here.teller, second(now), "publish", client, user, topic, rule);
        }
        Unreserved::Rejected(sink, objection) => {
            let why = (objection.reason(), REJECTED);
            publish_refused(&mut here.teller, &here.config, second(now), *sink, (session.client(), topic), why);
        }
        // A rule's failure is reported with its outcome.
        Unreserved::Unmatched | Unreserved::Full(_) | Unreserved::RuleFailed => {}
    }
}
