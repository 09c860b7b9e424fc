//! Delivery of a message to its subscribers, on every shard.
//!
//! The publisher's shard finds the shards concerned (`route`), and asks each for room, before anything is taken. Then the message goes to its own
//! subscribers, and into a parcel for each other shard (`parcels`). A turn makes a bounded number of copies. The rest, and messages received meanwhile, wait
//! in `lines`, in order [MQTT-4.6.0-5] [MQTT-4.6.0-6]. A subscriber that does not read loses messages of QoS 0 and nothing else: publishers and other
//! subscribers are not affected. A subscription that is sent records of the past gets live ones from where the past ends (`gates`).

mod copies;
mod dropped;
pub mod gates;
mod lines;
mod parcel;
mod parcels;
mod run;
mod unread;
mod writable;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use forebay_base::limits::COPIES_PER_TURN;
use forebay_config as config;
use forebay_kafka::producer::row_log::Origin;
use forebay_kafka::types::Ticket;
use forebay_mqtt::packet::{Publish, QoS, Version};
use forebay_mqtt::route::interest::Interest;
use forebay_mqtt::route::shape::{Topic, bits};
use forebay_mqtt::route::shares::{KnownShares, Share, Shares as AllShares, ToShare};
use forebay_mqtt::route::subscriptions::{FilterId, Subscriber, Subscriptions};
use forebay_mqtt::{decode, encode, frame};
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Claim, Claimed, Placed, RecordPlace, Remembered, SessionKey, properties};

use self::copies::Copies;
use self::dropped::ToldAtMostOnce;
use self::gates::Gates;
use self::lines::Lines;
use self::parcel::About;
pub(crate) use self::parcel::{Entry, entries};
pub(crate) use self::parcels::Gathered;
pub use self::parcels::packets;

use self::parcels::{Peers, Received};
use self::unread::Unread;
use self::writable::Writable;
use super::Broker;
use super::given::{Reads, Retains, RouteRecord};
use super::queues::Queues;
use super::remotes::Remotes;
use super::retained::{Publisher, Retained};
use super::shares::{Chosen, Shares};
use crate::here::Here;
use crate::logs::{Groups, slot_of};
use crate::mail::Marks;
use crate::out::Due;
use crate::out::Out;
use crate::words::Stall;

/// The number of filters and shares, compared with a topic or matching it, that cost as much as one packet.
const LOOKS_A_PACKET: usize = 16;

/// The delay before a letter that found a full mailbox is sent again, if nothing else happens.
const MAILBOX_AGAIN: Duration = Duration::from_millis(1);

/// The receivers of a message other than sinks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Other shards, as bits.
    peers: u64,
    /// Subscribers of this shard.
    has_own: bool,
    /// The shard that retains the message, if it is retained.
    home: Option<usize>,
    /// Whether shares match the topic. [`Shares::chosen`] has the shard that serves each.
    has_shares: bool,
}

impl Route {
    /// Whether there may be a subscriber.
    #[inline]
    pub fn is_any(self) -> bool {
        self != Self::default()
    }

    /// Whether the message is retained.
    pub fn is_retained(self) -> bool {
        self.home.is_some()
    }
}

/// The route of a message before delivery, kept while the routes of others are found.
#[derive(Debug)]
struct Found {
    route: Route,
    /// The shards that are sent it, as bits.
    shards: u64,
    chosen: Chosen,
}

/// The reason why a client gets a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The client has subscribed.
    Subscription,
    /// The client has just subscribed, and the message was retained.
    Replay,
    /// The client has subscribed to the past, and the message is a record of it.
    Past,
    /// The client is a member of a share.
    Share(ToShare),
}

impl By {
    fn share(self) -> Option<ToShare> {
        if let Self::Share(to) = self { Some(to) } else { None }
    }
}

/// The publisher of a message.
#[derive(Debug, Default)]
pub struct PublishedBy<'a> {
    /// The publisher's session, if it has one here.
    pub session: Option<SessionKey>,
    /// The publisher's client identifier, if its session may be on any shard.
    pub client: Option<&'a str>,
    /// The message's exchange, if other shards need it.
    pub origin: Option<Origin>,
    /// The publisher for the shard that retains the message.
    pub publisher: Publisher,
    /// The record that the message was made of. The record stays open while any shard has a claim on it.
    pub claimed: Option<Claimed>,
    /// The record's place in a route, if it is a record of `[broker]`.
    pub of_route: Option<&'a RouteRecord>,
}

/// A message on its way to subscribers of this shard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) publish: &'a Publish<'a>,
    /// The shard of its publisher.
    pub(crate) from: usize,
    /// The session that published the message, if this shard has it.
    pub(crate) publisher: Option<SessionKey>,
    /// The message's exchange, if it is of QoS 2 and its publisher repeats it after a crash ([`super::queues`]).
    pub(crate) origin: Option<Origin>,
    /// The time at which this shard received the message, and from which its waiting time counts.
    pub(crate) since: Monotonic,
    pub(crate) waited_s: u32,
    /// The number of passes that its shard had been asked for when the message was taken ([`super::retained`]).
    pub(crate) pass: u64,
    /// The claim on the record that the message was made of.
    pub(crate) claim: Option<&'a Rc<Claim>>,
    pub(crate) by: By,
}

/// The groups and marks under which a message is written down for the sessions that have got it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stored {
    /// The groups in which the message is durable.
    pub(crate) groups: Groups,
    /// Marks of the shares that the message is written down for.
    pub(crate) shares: Marks,
}

impl Stored {
    fn also(&mut self, other: Self) {
        self.groups.add_all(&other.groups);
        self.shares.extend(other.shares);
    }
}

/// The state with which a shard delivers messages: subscriptions, shares, lines, parcels and the budget of a turn.
#[derive(Debug)]
pub struct Delivery {
    shard: usize,
    /// The subscriptions of this shard's sessions.
    pub index: Subscriptions<SessionKey>,
    /// Shared subscriptions.
    pub shares: Shares,
    /// Filters that match the message at hand.
    matched: SmallVec<[FilterId; 4]>,
    /// The number of filters and shares compared in the last lookup.
    looks: usize,
    to: Vec<Subscriber<SessionKey>>,
    pub(crate) copies: Copies,
    /// The message at hand as a packet, for other shards.
    packet: Vec<u8>,
    lines: Lines,
    writable: Writable,
    /// State of bridges' sessions that other subscribers do not have.
    pub remotes: Remotes,
    unread: Unread,
    /// Subscriptions that get records from a place of their own.
    pub gates: Gates,
    /// The number of copies that this turn may still make.
    pub(crate) budget: usize,
    peers: Peers,
    received: VecDeque<Received>,
    /// A counter that grows when there is room again after a shortage.
    freed: u64,
    /// The time of the requested turn.
    wanted_at: Option<Monotonic>,
    /// Whether the message at hand has many recipients.
    is_late: bool,
    /// The message at hand and those that rules have made of it, if any.
    found: Vec<Found>,
    told_at_most_once: ToldAtMostOnce,
}

impl Delivery {
    /// A delivery without subscribers, for the shard of this index.
    pub(crate) fn new(
        (shard, shards): (usize, usize),
        interest: Arc<Interest>,
        all: Arc<AllShares>,
        config: config::Delivery,
    ) -> Self {
        Self {
            shard,
            index: Subscriptions::new(shard, interest),
            shares: Shares::new(KnownShares::new(shard, shards, all), config.share_strategy),
            matched: SmallVec::new(),
            looks: 0,
            to: Vec::new(),
            copies: Copies::default(),
            packet: Vec::new(),
            lines: Lines::new(config.wide),
            writable: Writable::default(),
            remotes: Remotes::default(),
            unread: Unread::default(),
            gates: Gates::default(),
            budget: COPIES_PER_TURN,
            peers: Peers::new(shards),
            received: VecDeque::new(),
            freed: 0,
            wanted_at: None,
            is_late: false,
            found: Vec::new(),
            told_at_most_once: ToldAtMostOnce::default(),
        }
    }

    /// A number that changes when a message without a receiver may find one.
    pub fn grown(&self) -> u64 {
        self.index.interest().grown()
    }

    /// A number that changes when a publisher that found no room may try again.
    pub fn freed(&self) -> u64 {
        self.freed
    }

    /// Finds the receivers of a topic. The filters of this shard stay in `matched` until the next call, and the shares in [`Shares::chosen`]. `publisher`:
    /// the client identifier and exchange, for shares alone.
    #[inline]
    fn route<'a>(
        &mut self,
        topic: &str,
        of_route: Option<&RouteRecord>,
        publisher: impl FnOnce() -> (&'a str, Option<Origin>),
    ) -> Route {
        if self.index.interest().is_empty() && self.shares.are_none() {
            return Route::default();
        }
        let route = self.look_up(topic);
        if self.shares.are_none() || of_route.is_some_and(|of| of.is_again) {
            return route;
        }
        self.route_shares(topic, publisher(), route)
    }

    fn route_shares(&mut self, topic: &str, publisher: (&str, Option<Origin>), route: Route) -> Route {
        if self.shares.are_by_groups() {
            return route;
        }
        let chosen = self.shares.choose(topic, publisher.0, publisher.1);
        self.looks += self.shares.looks();
        let Some(shards) = chosen else { return route };
        Route { peers: route.peers | shards & !(1 << self.shard), has_shares: true, ..route }
    }

    /// Finds the subscribers of a message received from another shard. `shares`: the shares that it goes to. With several instances a message with shares has
    /// no other subscribers.
    fn look_up_beside(&mut self, topic: &str, shares: &[ToShare]) -> Route {
        if !shares.is_empty() && self.shares.are_by_groups() {
            self.matched.clear();
            return Route::default();
        }
        self.look_up(topic)
    }

    /// The route of a record to a member of this share, on the shard chosen for it. `None`: no member is online.
    pub(crate) fn route_to_share(&mut self, share: &Share, topic: &str, publisher: &str) -> Option<Route> {
        let shard = self.shares.choose_for(share, topic, publisher)?;
        self.matched.clear();
        let peers = if shard == self.shard { 0 } else { 1 << shard };
        Some(Route { peers, has_shares: true, ..Route::default() })
    }

    fn look_up(&mut self, topic: &str) -> Route {
        let interest = self.index.interest();
        let cut = Topic::new(topic, interest.seed());
        let shards = interest.shards(&cut);
        let own = 1 << self.shard;
        self.matched.clear();
        if shards & own != 0 {
            self.looks = self.index.matching(topic, &cut, &mut self.matched) + self.matched.len();
        }
        Route { peers: shards & !own, has_own: !self.matched.is_empty(), ..Route::default() }
    }

    /// The receivers of a message and the shard that retains it, if all of them have room. `topic`: the topic name, aliased or not. `of_route`: the record that
    /// it was made of.
    ///
    /// # Errors
    /// The stall that the message waits for.
    #[inline]
    pub fn find_room<'a>(
        &mut self,
        (retained, queues): (&Retained, &Queues),
        (topic, publish): (&str, &Publish<'_>),
        of_route: Option<&RouteRecord>,
        publisher: impl FnOnce() -> (&'a str, Option<Origin>),
    ) -> Result<Route, Stall> {
        let mut route = self.route(topic, of_route, publisher);
        // [MQTT-3.3.1-8]
        if publish.retain && of_route.is_none_or(|of| of.retains == Retains::Message) {
            route = self.also(route, retained.home(topic));
        }
        if route.is_any() {
            self.ask((retained, queues), route, (topic, packet_bytes(topic, publish)), 0)?;
        }
        Ok(route)
    }

    /// Finds the receivers of messages that rules have made of the one at hand, and asks for room for all of them together. `first`: the receivers of the one
    /// at hand. A refused message is `None`, and has none.
    ///
    /// # Errors
    /// The stall that they wait for.
    #[cold]
    pub fn find_room_for_republished<'m>(
        &mut self,
        (retained, queues): (&Retained, &Queues),
        (topic, publish, first): (&str, &Publish<'_>, Route),
        made: impl Iterator<Item = Option<Publish<'m>>>,
        client_id: &str,
    ) -> Result<(), Stall> {
        self.found.clear();
        self.note_found(first);
        let (mut before, mut bytes, mut looks) = (1, packet_bytes(topic, publish), 0);
        for made in made {
            let Some(publish) = made.filter(|_| !retained.is_in_kafka()) else {
                self.note_found(Route::default());
                continue;
            };
            let mut route = self.route(publish.topic, None, || (client_id, None));
            looks += std::mem::take(&mut self.looks);
            if publish.retain {
                route = self.also(route, retained.home(publish.topic));
            }
            if route.is_any() {
                bytes += packet_bytes(publish.topic, &publish);
                self.ask((retained, queues), route, (publish.topic, bytes), before)?;
                before += 1;
            }
            self.note_found(route);
        }
        self.find_again(0, topic);
        self.looks = looks;
        Ok(())
    }

    fn note_found(&mut self, route: Route) {
        let (shards, chosen) = (self.shards_of(route), self.shares.chosen().into());
        self.found.push(Found { route, shards, chosen });
    }

    /// Returns to a message with receivers found by [`Delivery::find_room_for_republished`], by index: 0 is the first. Returns the receivers.
    pub fn find_again(&mut self, at: usize, topic: &str) -> Route {
        let Some(Found { route, chosen, .. }) = self.found.get_mut(at) else { return Route::default() };
        let (route, chosen) = (*route, std::mem::take(chosen));
        if route.is_any() {
            self.look_up(topic);
            self.shares.choose_again(chosen);
        }
        route
    }

    /// The route of each message that rules have made, and the shards that it is sent to.
    pub fn republished(&self) -> impl Iterator<Item = (Route, u64)> {
        self.found.iter().skip(1).map(|found| (found.route, found.shards))
    }

    /// Takes the cost of the last lookup, in packets: above 0 if many filters or shares were compared with the topic, or match it.
    pub fn take_cost(&mut self) -> u32 {
        u32::try_from(std::mem::take(&mut self.looks) / LOOKS_A_PACKET).unwrap_or(u32::MAX)
    }

    /// `route` with the home of a retained message added.
    fn also(&self, route: Route, home: usize) -> Route {
        let peers = if home == self.shard { route.peers } else { route.peers | 1 << home };
        Route { peers, home: Some(home), ..route }
    }

    /// Marks the messages gathered for a shard: those after the mark were taken after the shard has asked for a pass.
    pub(crate) fn mark(&mut self, shard: usize) {
        self.peers.mark(shard);
    }

    /// The messages gathered for other shards now.
    pub(crate) fn gathered(&self) -> Gathered {
        self.peers.gathered()
    }

    /// Whether all of `gathered` is sent.
    pub(crate) fn has_sent(&self, gathered: &Gathered) -> bool {
        self.peers.have_sent(gathered)
    }

    /// Notes that a pass is over ([`Broker::pass_over`]) when all earlier messages are delivered.
    pub(crate) fn mark_passed(&mut self, io: &mut dyn Out) {
        self.received.push_back(Received::Passed);
        self.want_turn(io);
    }

    /// Whether all received messages are delivered.
    pub(crate) fn is_idle(&self) -> bool {
        self.lines.are_empty() && self.received.is_empty()
    }

    /// Whether the delivery is idle, and all messages gathered for other shards are sent.
    pub fn has_sent_all(&self) -> bool {
        self.is_idle() && self.peers.are_empty()
    }

    /// Notes that publishers that found no room may try again.
    pub(crate) fn has_freed(&mut self) {
        self.freed += 1;
    }

    /// Messages that sessions have to remember.
    pub fn remembered(&self) -> &Rc<Remembered> {
        self.copies.remembered()
    }

    /// The message at hand, if some session has to remember it.
    pub(crate) fn body_at_hand(&self) -> Option<Rc<Body>> {
        self.copies.body_at_hand()
    }

    /// Requests another turn.
    pub(crate) fn want_turn(&mut self, io: &mut dyn Out) {
        let now = io.now();
        self.want_turn_at(io, now);
    }

    /// Requests a turn in which a full mailbox may have room.
    pub fn want_mailbox(&mut self, io: &mut dyn Out) {
        let soon = io.now().after(MAILBOX_AGAIN);
        self.want_turn_at(io, soon);
    }

    /// Requests a turn at `at` or earlier.
    pub(crate) fn want_turn_at(&mut self, io: &mut dyn Out, at: Monotonic) {
        if self.wanted_at.is_none_or(|wanted| at < wanted) {
            self.wanted_at = Some(at);
            io.set_timer(at, Due::Delivery);
        }
    }

    /// Asks all receivers for room for a message of `bytes` bytes, after `before` others.
    ///
    /// # Errors
    /// The stall that the message waits for.
    fn ask(
        &self,
        (retained, queues): (&Retained, &Queues),
        route: Route,
        (topic, bytes): (&str, usize),
        before: usize,
    ) -> Result<(), Stall> {
        if let Some(home) = route.home.filter(|home| !retained.has_room(*home, before)) {
            return Err(Stall::Subscribers(home));
        }
        queues.ask(self.served_by(route), before)?;
        if self.is_here(route) {
            self.ask_lines(topic, bytes)?;
        }
        self.peers.ask(route.peers, bytes).map_err(Stall::Subscribers)
    }

    /// Whether the route has subscribers of this shard and nothing else.
    pub fn is_own(&self, route: Route) -> bool {
        route == Route { has_own: true, ..Route::default() }
    }

    /// Asks for room for another message of the topic in the last lookup.
    ///
    /// # Errors
    /// The stall that the message waits for.
    pub fn find_room_again(
        &self,
        (retained, queues): (&Retained, &Queues),
        route: Route,
        publish: &Publish<'_>,
    ) -> Result<(), Stall> {
        self.ask((retained, queues), route, (publish.topic, packet_bytes(publish.topic, publish)), 0)
    }

    /// Whether the route has subscribers of this shard.
    fn is_here(&self, route: Route) -> bool {
        route.has_own || self.has_shares_here(route)
    }

    /// The shards that a message of this shard's publishers is sent to, including this shard if it has subscribers.
    fn served_by(&self, route: Route) -> impl Iterator<Item = usize> + use<> {
        bits(self.shards_of(route))
    }

    /// The shards of [`Self::served_by`] as bits.
    pub fn shards_of(&self, route: Route) -> u64 {
        route.peers | u64::from(self.is_here(route)) << self.shard
    }

    /// Whether the place that [`Stall::Subscribers`] names has room again here.
    pub fn has_room(&self, shard: usize) -> bool {
        if shard == self.shard { self.lines.narrow.has_room() } else { self.peers.has_room(shard) }
    }

    /// Whether the place that [`Stall::ManySubscribers`] names has room again.
    pub fn has_room_for_many(&self) -> bool {
        self.lines.wide.has_room()
    }

    fn has_shares_here(&self, route: Route) -> bool {
        route.has_shares && self.shares.chosen().iter().any(|(_, shard)| *shard == self.shard)
    }

    /// The number of subscribers of the filters in `matched`.
    fn recipients(&self) -> usize {
        self.matched.iter().map(|filter| self.index.subscribers(*filter).len()).sum()
    }

    /// Gathers the subscribers of the filters in `matched` in `to`. Those of one session are adjacent.
    fn gather(&mut self) {
        self.to.clear();
        for filter in &self.matched {
            self.to.extend_from_slice(self.index.subscribers(*filter));
        }
        if self.matched.len() > 1 {
            self.to.sort_by_key(|subscriber| subscriber.session);
        }
    }
}

impl Broker {
    /// Sends a message to the subscribers that [`Delivery::route`] has found and [`Delivery::ask`] has found room for. Its topic is not an alias. `answer`:
    /// pending until the message is on the disk of the shard that retains it, and of each shard with kept sessions that get it, [`Broker::answers_awaited`]
    /// in number.
    pub fn deliver(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        route: Route,
        publish: &Publish<'_>,
        from: PublishedBy<'_>,
        answer: Option<Ticket>,
    ) {
        let PublishedBy { session, client, origin, publisher, claimed, of_route } = from;
        let retained = route.home.map(|home| (home, self.retained.taken(here.index, publish)));
        let delivery = &mut self.delivery;
        if route.peers != 0 {
            delivery.packet.clear();
            put_packet(publish, &mut delivery.packet);
            let shares = if route.has_shares { delivery.shares.chosen() } else { &[] };
            let home = retained.map(|(home, taken)| (home, &publisher, taken.passes));
            let place = of_route.map(|of| of.to_bytes());
            let about = About { client, origin, claimed, place: place.as_ref() };
            delivery.peers.append(route.peers, (&delivery.packet, about), home, shares);
        }
        if let Some((home, taken)) = retained {
            self.retain_from(io, here, home, (publish, publisher, taken), answer);
        }
        if self.awaits_copies(here, publish.qos) {
            self.delivery.served_by(route).for_each(|shard| self.queues.expect(shard, answer));
        }
        if self.delivery.is_here(route) {
            let (from, pass) = (here.index, self.retained.passes_heard(here.index));
            let chosen = if route.has_shares { self.delivery.shares.chosen() } else { &[] };
            let own = chosen.iter().filter(|(_, shard)| *shard == here.index).map(|(to, _)| *to);
            let shares: SmallVec<[ToShare; 4]> = own.collect();
            let by = By::Subscription;
            let since = io.now();
            let claim = claimed.map(|of| {
                let placed = of_route.map(|of_route| self.keeping.given.begins(*of_route));
                Claim::new(of, placed, self.delivery.remembered())
            });
            let claim = claim.as_ref();
            let message = Message { publish, from, publisher: session, origin, since, waited_s: 0, pass, claim, by };
            self.deliver_here(io, here, message, &shares);
        }
    }

    /// The number of answers pending for a message without those of sinks: one from the shard that retains it, and one from each shard that may have kept
    /// sessions that get it.
    pub fn answers_awaited(&self, here: &Here, route: Route, qos: QoS) -> u16 {
        self.answers_of(here, route, self.delivery.shards_of(route), qos)
    }

    /// Like [`Broker::answers_awaited`], for a message that is sent to these shards.
    pub fn answers_of(&self, here: &Here, route: Route, shards: u64, qos: QoS) -> u16 {
        if !self.waits_for_disk(here) {
            return 0;
        }
        let subscribed = if qos > QoS::AtMostOnce { shards.count_ones() as u16 } else { 0 };
        u16::from(route.is_retained()) + subscribed
    }

    /// Sends a message of the past to a new subscription, if its client may have it. `since`: the time from which the Message Expiry Interval counts.
    pub fn copy_past(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        publish: &Publish<'_>,
        since: Monotonic,
        (to, by): (Subscriber<SessionKey>, By),
    ) {
        self.delivery.copies.begin(since);
        let from = here.index;
        let waited_s = u32::try_from(io.now().since(since).as_secs()).unwrap_or(u32::MAX);
        let (publisher, origin, claim) = (None, None, None);
        let message = Message { publish, from, publisher, origin, since, waited_s, pass: 0, claim, by };
        self.copy(io, here, message, &[to], false);
        self.store_copies(io, here, publish);
        self.delivery.copies.end();
    }

    /// Passes over a repeat, except for shares that another shard served at first and that did not get it. `had`: marks of the shares that did.
    fn pass_over_repeat(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        shares: &[ToShare],
        had: &[u64],
        has_place: bool,
    ) {
        let has_not = |to: &&ToShare| self.delivery.shares.mark(to.share).is_none_or(|mark| !had.contains(&mark));
        let shares: SmallVec<[ToShare; 4]> = shares.iter().filter(has_not).copied().collect();
        self.keep_with_exchange(message, &shares, 0);
        let beside = self.delivery.beside(usize::MAX);
        let (_, stored) = self.give_to_shares(io, here, message, &shares);
        self.delivery.spent_beside(beside);
        self.delivered(here, message, stored, has_place);
    }

    /// Reports to all shards how a partition of `[broker]` is read from this record.
    pub fn read_partition(&mut self, here: &Here, at: RecordPlace, how: Reads) {
        let heard = self.delivery.peers.read(here.index, at, how);
        self.keeping.given.reads(at, how, heard);
    }

    /// Notes the number of a shard's request for places in partitions.
    pub fn has_asked(&mut self, shard: usize, number: u64) {
        self.delivery.peers.has_asked(shard, number);
    }

    /// Whether a session has had the record of a message, or gets it when its partition is read again. `of`: its subscriptions.
    fn has_had(&self, here: &Here, placed: Placed, qos: QoS, of: &[Subscriber<SessionKey>]) -> bool {
        let Some(session) = self.sessions.get(of[0].session) else { return false };
        let is_stored = || of.iter().any(|of| qos.min(of.options.qos) > QoS::AtMostOnce);
        let kept = session.number().filter(|_| is_stored());
        if placed.is_again && kept.is_none() {
            return true;
        }
        let slot = session.number().map(slot_of).or_else(|| here.slots.slot(session.client_id()));
        let has_it = slot.is_some_and(|slot| self.keeping.given.passes_over(placed, slot, kept));
        here.rules.passes_over(has_it)
    }

    /// Ends a message when all copies are made. `has_place`: others of its shard may have been reported before it ([`Queues::keep_place`]).
    fn delivered(&mut self, here: &Here, message: Message<'_>, stored: Stored, has_place: bool) {
        let Message { publish, from, origin, .. } = message;
        if has_place || self.awaits_copies(here, publish.qos) {
            let Stored { mut groups, shares } = stored;
            let origin = origin.filter(|_| !groups.is_empty());
            groups.add(origin.map_or(0, |origin| self.know_exchange(from, origin, shares)));
            self.queues.delivered(from, &groups, has_place);
        }
    }

    /// Makes copies until the turn's share of them is used up. Returns how many subscribers in `to` are done, and the groups in which their copies are
    /// durable. `packets`: those of the message and the others of its run, if it has waited. `is_stale`: some subscriptions in `to` may have ended.
    fn copy_to(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        packets: &[u8],
        to: (&[Subscriber<SessionKey>], bool),
    ) -> (usize, Groups) {
        let Some(placed) = message.claim.and_then(|claim| claim.place()) else {
            return self.copy_each::<false>(io, here, message, packets, to);
        };
        self.delivery.copies.place = Some(placed.place);
        let (done, groups) = self.copy_each::<true>(io, here, message, packets, to);
        self.delivery.copies.place = None;
        if done == to.0.len() {
            message.claim.into_iter().for_each(|claim| claim.is_delivered());
        }
        (done, groups)
    }

    /// Implements [`Broker::copy_to`]. `IS_PLACED`: the message is a record of `[broker]`, which some sessions may have had.
    fn copy_each<const IS_PLACED: bool>(
        &mut self,
        io: &mut dyn Out,
        here: &mut Here,
        message: Message<'_>,
        packets: &[u8],
        (to, is_stale): (&[Subscriber<SessionKey>], bool),
    ) -> (usize, Groups) {
        self.delivery.copies.begin(message.since);
        let is_run = self.delivery.copies.run.begin(packets);
        self.delivery.is_late = self.delivery.lines.are_many(to.len()) && !self.delivery.lines.is_alone;
        let placed = message.claim.filter(|_| IS_PLACED).and_then(|claim| Some((claim.place()?, claim)));
        let gated = placed.filter(|_| !self.delivery.gates.are_none());
        let placed = placed.map(|(placed, _)| placed).filter(|placed| self.keeping.given.may_pass_over(*placed));
        let mut done = 0;
        for group in to.chunk_by(|one, other| one.session == other.session) {
            if self.delivery.budget == 0 {
                break;
            }
            self.delivery.budget -= 1;
            done += group.len();
            let open: SmallVec<[Subscriber<SessionKey>; 2]>;
            let group = match gated {
                Some((at, claim)) if group.iter().any(|of| of.gate != 0) => {
                    open = group.iter().filter(|of| self.delivery.gates.passes(of.gate, at)).copied().collect();
                    if open.is_empty() {
                        // The replay brings the message.
                        claim.meet();
                        continue;
                    }
                    &open
                }
                _ => group,
            };
            // A session may want none of its own messages [MQTT-3.8.3-3].
            let wanted: SmallVec<[Subscriber<SessionKey>; 2]>;
            let of = if message.publisher == Some(group[0].session) {
                wanted = group.iter().filter(|of| !of.options.no_local).copied().collect();
                &wanted
            } else {
                group
            };
            if of.is_empty() {
                continue;
            }
            if IS_PLACED && placed.is_some_and(|placed| self.has_had(here, placed, message.publish.qos, of)) {
                message.claim.into_iter().for_each(|claim| claim.meet());
            } else if is_run {
                self.copy_run(io, here, message, packets, (of, is_stale));
            } else {
                self.copy(io, here, message, of, is_stale);
            }
        }
        let groups = self.store_copies(io, here, message.publish);
        self.delivery.copies.end();
        self.delivery.is_late = false;
        (done, groups)
    }
}

/// The largest size in bytes of the packet that carries a message from shard to shard.
pub fn packet_bytes(topic: &str, publish: &Publish<'_>) -> usize {
    const HEAD_BYTES_MAX: usize = 16;
    HEAD_BYTES_MAX + topic.len() + publish.properties.raw().len() + publish.payload.len()
}

/// Appends a message as a PUBLISH packet of 5.0, the form in which it is queued and sent to other shards.
pub fn put_packet(publish: &Publish<'_>, out: &mut Vec<u8>) {
    let properties = properties(publish, Version::V5, 0, &[]);
    // The packet identifier has no meaning here, but QoS 1 and 2 need one.
    let packet_id = u16::from(publish.qos as u8 > 0);
    let publish = Publish { dup: false, packet_id, properties: properties.as_properties(), ..publish.clone() };
    let encoded = encode::publish(Version::V5, &publish, out);
    debug_assert!(encoded.is_ok(), "what came in a PUBLISH fits into one");
}

/// The message in a packet of [`put_packet`].
pub fn publish_of(packet: &[u8]) -> Option<Publish<'_>> {
    let frame = frame::next(packet, u32::MAX).ok().flatten()?;
    decode::publish(Version::V5, frame.first, frame.body).ok()
}
