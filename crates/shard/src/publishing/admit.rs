//! Admission of a message that no client is sending now: a will, a value of the service, a record of a source. All receivers are asked for room first
//! ([`ask`]); then all of them get the message, or none. A client's message goes through `client`, where its session numbers it in between.

use smallvec::SmallVec;

use forebay_broker::Broker;
use forebay_broker::delivery::{Delivery, PublishedBy, Route};
use forebay_broker::given::RouteRecord;
use forebay_broker::here::Here;
use forebay_broker::logs::Logs;
use forebay_broker::numbers::Routed;
use forebay_broker::queues::Queues;
use forebay_broker::raised::unwanted;
use forebay_broker::retained::{Publisher as RetainedBy, Retained};
use forebay_broker::words::{Feeds, REJECTED, Stall, publish_refused, second, ticket_of};
use forebay_kafka::producer::row_log::Origin;
use forebay_kafka::types::Ticket;
use forebay_mqtt::packet::Publish;
use forebay_mqtt::topic::is_of_service;
use forebay_rule::event::Event;
use forebay_runtime::seam::WallMs;
use forebay_session::{Claimed, ClientKey, RecordPlace};

use super::Publishing;
use super::client::message;
use crate::outlets::Outlets;
use crate::reservation::{Asking, Beside, Reservation, Told, Unreserved};
use crate::ring::Ring;
use crate::sinks::Message;

/// The publisher of a message.
#[derive(Debug)]
pub(crate) enum Publisher<'a> {
    /// The client of a will, as the shard that retains the message knows it.
    Will(RetainedBy),
    /// The service itself.
    Service,
    /// A source, of which this is a record.
    Source(SourceRecord<'a>),
    /// The service, as the retained message of this record has expired.
    Expired(RecordPlace),
}

/// `SourceRecord` is the record that a message of a source was made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SourceRecord<'a> {
    pub(crate) claimed: Claimed,
    /// The identifier of the client that published the record, if the source is one of `[broker]`.
    pub(crate) client: Option<&'a str>,
    /// The record's place in a route, if the source is one of `[broker]`.
    pub(crate) of_route: Option<&'a RouteRecord>,
}

impl Publisher<'_> {
    /// The record of a route that the message was made of.
    pub(super) fn of_route(&self) -> Option<&RouteRecord> {
        if let Self::Source(of) = self { of.of_route } else { None }
    }

    /// The record that a copy of a retained message names.
    fn copied(&self) -> Option<RecordPlace> {
        if let Self::Expired(of) = self { Some(*of) } else { self.of_route().map(|of| of.place) }
    }
}

/// A message on its way, with its publisher.
#[derive(Debug)]
pub(crate) struct Publication<'a> {
    pub(crate) publish: &'a Publish<'a>,
    /// The client as sinks and events name it.
    pub(crate) client: ClientKey<'a>,
    pub(crate) username: Option<&'a str>,
    /// The time of the message, as sinks write it.
    pub(crate) time: WallMs,
    pub(crate) feeds: Feeds,
    /// The number of times that the message has been a Kafka record. 0: it was not made of one.
    pub(crate) hops: u8,
    /// Rules for the record that the message was made of.
    pub(crate) beside: Option<&'a Beside<'a>>,
    pub(crate) by: Publisher<'a>,
}

/// The outcome of a message for which there was room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    route: Route,
    /// The outcome, for the ledger of a publisher that is counted.
    pub(crate) routed: Routed,
    /// The number of answers pending from sinks.
    owed: u16,
    /// A sink has refused the message for all destinations.
    pub(crate) is_refused: bool,
    /// A sink has taken the message, or a receiver a message that rules have made of it.
    is_matched: bool,
    /// Rules have made messages of it.
    has_republished: bool,
}

impl Admitted {
    /// Whether the message has a receiver: a sink, a subscriber, the home of a retained message; or something that rules have made of it has one.
    pub(crate) fn is_any(self) -> bool {
        self.is_matched || self.is_refused || self.route.is_any()
    }

    /// Whether subscribers, or the home of a retained message, get the message itself.
    pub(crate) fn is_routed(self) -> bool {
        self.route.is_any() && !self.is_refused
    }

    /// Whether rules have made messages of it that their receivers get.
    pub(crate) const fn has_republished(self) -> bool {
        self.has_republished && !self.is_refused
    }
}

/// `Fate` is what becomes of a message that a rule has made of a source's record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// The number of the message that it was made of: 0 is the record's own.
    pub(crate) of: u8,
    /// The number of pending answers of shards.
    pub(crate) awaited: u32,
    /// Whether subscribers get it, or the home of a retained message.
    pub(crate) is_routed: bool,
    pub(crate) is_in_sinks: bool,
    pub(crate) is_refused: bool,
}

/// `Takers` are asked for room for a message.
pub(super) struct Takers<'a, 'b> {
    pub(super) delivery: &'a mut Delivery,
    pub(super) retained: &'a Retained,
    pub(super) queues: &'a Queues,
    pub(super) outlets: &'b mut Outlets,
    pub(super) logs: &'b mut Logs,
}

/// `Asked` is the answer of all of them.
pub(super) struct Asked<'b> {
    pub(super) route: Route,
    pub(super) reserved: Result<Reservation<'b>, Unreserved>,
    /// The stall that the message waits for, if any: no receiver has then reserved room for it.
    pub(super) waits_for: Option<Stall>,
    /// The cost of finding the message's subscribers, in packets.
    pub(super) cost: u32,
}

/// Asks subscribers, the home of a retained message, sinks, and the receivers of messages that rules make of this one for room, for every kind of publisher.
/// No receiver gets anything yet: a session numbers the message before its rows are written. `of_route`: the record that the message was made of. `origin`:
/// the message's exchange.
#[inline]
pub(super) fn ask<'b>(
    takers: Takers<'_, 'b>,
    io: &mut Ring<'_>,
    (publish, message): (&Publish<'_>, &Message<'_>),
    asking: &Asking<'_>,
    (of_route, origin): (Option<&RouteRecord>, impl FnOnce() -> Option<Origin>),
) -> Asked<'b> {
    let Takers { delivery, retained, queues, outlets, logs } = takers;
    let (topic, client_id) = (message.topic, message.client_id);
    let reserved = Err(Unreserved::Unmatched);
    let mut asked = Asked { route: Route::default(), reserved, waits_for: None, cost: 0 };
    if asking.feeds.subscribers {
        let room = delivery.find_room((retained, queues), (topic, publish), of_route, || (client_id, origin()));
        asked.cost = delivery.take_cost();
        if asked.cost > 0 {
            let _ = io.spend(asked.cost);
        }
        match room {
            Ok(route) => asked.route = route,
            Err(stall) => return Asked { waits_for: Some(stall), ..asked },
        }
    }
    if !asking.is_for_outlets(outlets) {
        outlets.forget_outcomes();
        return asked;
    }
    asked.reserved = outlets.reserve(logs, message, asking);
    match &mut asked.reserved {
        Err(Unreserved::Full(wait)) => asked.waits_for = Some(Stall::Memory(*wait)),
        Ok(reservation) if reservation.has_republished() => {
            let (takers, first) = ((retained, queues), (topic, publish, asked.route));
            let made = reservation.republished();
            let all = made.iter().map(|made| (!made.is_refused).then(|| made.publish()));
            match delivery.find_room_for_republished(takers, first, all, client_id) {
                Ok(()) => {
                    made.iter_mut()
                        .zip(delivery.republished())
                        .for_each(|(made, (to, _))| made.is_matched |= to.is_any());
                }
                Err(stall) => {
                    asked.waits_for = Some(stall);
                    reservation.give_up();
                }
            }
        }
        Ok(_) | Err(_) => {}
    }
    asked
}

impl Publishing<'_> {
    /// Asks all receivers for room for a message, and writes the rows of its sinks. [`Publishing::hand_on`] does the rest. `answer`: the receiver of the sinks'
    /// answers.
    ///
    /// # Errors
    /// The stall that the message waits for: no receiver has got it.
    pub(crate) fn admit(
        &mut self,
        io: &mut Ring<'_>,
        of: &Publication<'_>,
        answer: Option<Ticket>,
    ) -> Result<Admitted, Stall> {
        let (here, broker, outlets) = (&mut *self.here, &mut *self.broker, &mut *self.outlets);
        let (now, wall) = (io.now(), io.wall());
        let Publication { publish, client, username, time, feeds, hops, beside, ref by } = *of;
        let client_id = client.client_id;
        let copy_of = by.copied().filter(|_| feeds.retained).map(|place| place.to_string());
        let copy_of = copy_of.as_deref();
        let message = Message { hops, copy_of, ..message(publish.topic, client_id, username, publish, time) };
        let asking = Asking { told: Told::Not, already_taken_by: &[], feeds, peer: None, wall, beside };
        let answer = answer.filter(|_| !feeds.retained || here.rules.waits_for_copy());
        let is_for_outlets = asking.is_for_outlets(outlets);
        let (delivery, logs) = (&mut broker.delivery, &mut broker.logs);
        let (retained, queues) = (&broker.retained, &broker.queues);
        let takers = Takers { delivery, retained, queues, outlets, logs };
        let Asked { route, reserved, waits_for, .. } =
            ask(takers, io, (publish, &message), &asking, (by.of_route(), || None));
        if let Some(stall) = waits_for {
            drop(reserved);
            let _ = io.spend(outlets.take_cost_of_rules());
            return Err(stall);
        }
        let routed = Unreserved::Unmatched.counts_as(route.is_any());
        let mut admitted =
            Admitted { route, routed, owed: 0, is_refused: false, is_matched: false, has_republished: false };
        if !is_for_outlets {
            return Ok(admitted);
        }
        admitted.has_republished = reserved.as_ref().is_ok_and(Reservation::has_republished);
        // The reservation is moved here, so that it ends here whatever its outcome.
        admitted.routed = match std::convert::identity(reserved) {
            Ok(mut reservation) => {
                (admitted.is_matched, admitted.is_refused) = (reservation.is_any(), reservation.is_refused());
                if admitted.has_republished {
                    reservation.note_sinks();
                    admitted.is_matched |= broker.delivery.republished().any(|(to, _)| to.is_any());
                }
                let owed = reservation.take(&message, answer, None, now, wall);
                admitted.owed = if answer.is_some() { owed } else { 0 };
                if admitted.is_refused { Routed::Refused } else { Routed::Matched }
            }
            Err(why) => {
                if let Unreserved::Rejected(sink, objection) = why {
                    here.numbers.count_refusal(usize::from(sink), objection.reason());
                    let (config, why) = (&here.config, (objection.reason(), REJECTED));
                    publish_refused(&mut here.teller, config, second(now), sink, (client, publish.topic), why);
                }
                let routed = why.counts_as(route.is_any());
                admitted.is_refused = routed == Routed::Refused;
                routed
            }
        };
        // Only a message that was no record raises an event: a record may be what a rule has made of such an event.
        let may_be_told = hops == 0 && !is_of_service(publish.topic);
        if may_be_told && matches!(admitted.routed, Routed::Unmatched) && here.events.wants(Event::MessageDropped) {
            let raised = unwanted(io, (None, client, username), publish, time);
            here.raise(raised);
        }
        if outlets.has_aside() {
            let of = Some((client, publish.topic));
            outlets.count_aside(here, of, now);
            let _ = io.spend(outlets.take_cost_of_rules());
        }
        Ok(admitted)
    }

    /// Sends a message that was taken to its subscribers and to its home. Returns the number of answers pending from sinks and shards.
    pub(crate) fn hand_on(&mut self, io: &mut Ring<'_>, of: &Publication<'_>, admitted: Admitted) -> u32 {
        let Admitted { route, owed, is_refused, has_republished, .. } = admitted;
        if is_refused || !(route.is_any() || has_republished) {
            return owed.into();
        }
        let publish = of.publish;
        let (from, mut awaited) = match &of.by {
            Publisher::Will(publisher) => {
                // The client may be connected again, and may have set No Local [MQTT-3.8.3-3].
                let (session, publisher) = (self.broker.sessions.find(of.client), publisher.clone());
                (PublishedBy { session, publisher, ..PublishedBy::default() }, 0)
            }
            Publisher::Service | Publisher::Expired(_) => (PublishedBy::default(), 0),
            Publisher::Source(SourceRecord { claimed, client, of_route }) => {
                let shards = self.broker.delivery.shards_of(route).count_ones();
                let session = client.and_then(|client| self.broker.sessions.find_all(client).next());
                let (client, claimed, of_route) = (*client, Some(*claimed), *of_route);
                let from = PublishedBy { session, client, claimed, of_route, ..PublishedBy::default() };
                (from, shards + u32::from(self.broker.answers_awaited(self.here, route, publish.qos)))
            }
        };
        let (claimed, answer) = (from.claimed, from.claimed.map(ticket_of));
        if has_republished && claimed.is_some() {
            let all = self.republished_fates();
            awaited += all.into_iter().filter(|fate| fate.is_in_sinks).map(|fate| fate.awaited).sum::<u32>();
        }
        if route.is_any() {
            self.broker.deliver(io, self.here, route, publish, from, answer);
        }
        if has_republished {
            self.deliver_republished(io, claimed, answer);
        }
        u32::from(owed) + awaited
    }

    /// Fates of the messages that rules have made of a source's record, in their order.
    #[cold]
    pub(crate) fn republished_fates(&mut self) -> SmallVec<[Fate; 2]> {
        let (here, broker, outlets) = (&mut *self.here, &mut *self.broker, &mut *self.outlets);
        let made = outlets.republished().iter();
        let made = made.map(|made| (made.of(), made.is_in_sinks(), made.is_refused, made.publish().qos));
        let made = made.collect::<SmallVec<[_; 4]>>();
        let all = broker.delivery.republished().zip(made);
        let fate = |((route, shards), (of, is_in_sinks, is_refused, qos)): ((Route, u64), _)| Fate {
            of,
            awaited: shards.count_ones() + u32::from(broker.answers_of(here, route, shards, qos)),
            is_routed: route.is_any(),
            is_in_sinks,
            is_refused,
        };
        all.map(fate).collect()
    }

    /// Sends the messages that rules have made of the one at hand to their subscribers and homes. `claimed`: the record that all of them come from. They have
    /// no publisher, and rules may publish to every topic.
    #[cold]
    pub(crate) fn deliver_republished(&mut self, io: &mut Ring<'_>, claimed: Option<Claimed>, answer: Option<Ticket>) {
        let (here, broker, outlets) = (&mut *self.here, &mut *self.broker, &mut *self.outlets);
        let cost = broker.delivery.take_cost();
        let _ = io.spend(cost);
        let mut all = std::mem::take(outlets.republished());
        for (at, made) in all.iter().enumerate() {
            let publish = made.publish();
            let route = broker.delivery.find_again(at + 1, publish.topic);
            if route.is_any() {
                // One that sinks have, too, is answered with its record.
                let claimed = claimed.map(|of| if made.is_in_sinks() { of } else { of.of_made(at + 1) });
                let answer = claimed.map_or(answer, |claimed| Some(ticket_of(claimed)));
                broker.deliver(io, here, route, &publish, PublishedBy { claimed, ..PublishedBy::default() }, answer);
            }
        }
        all.clear();
        *outlets.republished() = all;
    }
}

/// The number of answers pending for messages that rules have made of the one at hand, without those of sinks.
pub(super) fn republished_awaits(here: &Here, broker: &Broker, outlets: &mut Outlets) -> u16 {
    let made = outlets.republished().iter().map(|made| made.publish().qos).collect::<SmallVec<[_; 4]>>();
    let all = broker.delivery.republished().zip(made);
    all.map(|((route, shards), qos)| broker.answers_of(here, route, shards, qos)).sum()
}
