//! Messages that sessions remember: each is stored once for all sessions of a shard that have to acknowledge it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use smallvec::SmallVec;

use super::claim::{Claim, RecordPlace, Settled};
use forebay_mqtt::packet::{Publish, QoS, Version};
use forebay_mqtt::property::{Property, PropertyBuf};
use forebay_mqtt::{decode, frame};
use forebay_runtime::seam::Monotonic;

/// The remembered messages of one shard, and the copies of them that sessions have.
#[derive(Debug, Default)]
pub struct Remembered {
    /// Copies that wait, and copies that were sent and are not acknowledged.
    open: [Cell<usize>; 2],
    /// Sent copies that are remembered, and their bytes.
    in_flight: Cell<(usize, usize)>,
    /// Remembered sent copies that may be dropped, as their clients are away, and their bytes.
    left: Cell<(usize, usize)>,
    /// Whether each client may have only as much in flight as [`super::outgoing`] allows when memory is tight.
    is_tight: Cell<bool>,
    /// Copies that were acknowledged.
    acknowledged: Cell<u64>,
    bytes: Cell<usize>,
    /// Bytes of messages at QoS 0 that clients leave unread, and that nothing else remembers.
    unread: Cell<usize>,
    /// Remembered messages that are in the log.
    stored: Cell<usize>,
    /// Messages in the log that are there for members of shared subscriptions.
    for_shares: Cell<usize>,
    /// Numbers in the log that no session refers to any more.
    ended: RefCell<Vec<u64>>,
    /// Claims that are over.
    settled: RefCell<Vec<Settled>>,
    /// Records of `[broker]` of which all copies on this shard have been made.
    given: RefCell<Vec<RecordPlace>>,
    /// The times of arrival of the messages.
    seconds: RefCell<Seconds>,
}

/// A second in which remembered messages arrived: the number of those that remain is the number of references to it, less the one
/// of [`Seconds`].
#[derive(Debug)]
struct Second {
    /// The arrival of the first of them.
    since: Monotonic,
}

/// The seconds of all messages, in order. A new message costs a look at the last one, however many there are.
#[derive(Debug, Default)]
struct Seconds {
    all: VecDeque<Rc<Second>>,
    /// The number of seconds at which those without messages are removed.
    sweep_at: usize,
}

impl Seconds {
    /// The second of a message that arrived at `since`.
    fn of(&mut self, since: Monotonic) -> Rc<Second> {
        const LENGTH: Duration = Duration::from_secs(1);
        let is_in = |second: &Rc<Second>| second.since <= since && since.since(second.since) < LENGTH;
        if let Some(last) = self.all.back().filter(|last| is_in(last)) {
            return Rc::clone(last);
        }
        // Most messages arrive now; one that another shard hands over arrived earlier.
        let at = self.all.partition_point(|second| second.since <= since);
        if let Some(known) = at.checked_sub(1).and_then(|before| self.all.get(before)).filter(|known| is_in(known)) {
            return Rc::clone(known);
        }
        let second = Rc::new(Second { since });
        self.all.insert(at, Rc::clone(&second));
        if self.all.len() > self.sweep_at {
            self.all.retain(has_messages);
            self.sweep_at = (2 * self.all.len()).max(64);
        }
        second
    }

    /// The first that has messages still.
    fn oldest(&mut self) -> Option<Monotonic> {
        while self.all.front().is_some_and(|first| !has_messages(first)) {
            self.all.pop_front();
        }
        self.all.front().map(|first| first.since)
    }
}

fn has_messages(second: &Rc<Second>) -> bool {
    Rc::strong_count(second) > 1
}

impl Remembered {
    /// Bytes of the remembered messages, each message counted once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// Sent bytes that clients have not read, if messages of QoS 0 are among them.
    #[must_use]
    pub fn unread(&self) -> usize {
        self.unread.get()
    }

    /// Sets [`Remembered::unread`].
    pub fn set_unread(&self, bytes: usize) {
        self.unread.set(bytes);
    }

    /// The number of copies of all sessions in this place.
    #[must_use]
    pub fn copies(&self, place: Place) -> usize {
        self.open[place as usize].get()
    }

    /// Copies that clients have acknowledged.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.get()
    }

    /// Bytes of copies that clients have been sent and have not acknowledged, where they are remembered.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.get().1
    }

    /// The remembered sent copies that may not be dropped, and their bytes.
    #[must_use]
    pub fn bound(&self) -> (usize, usize) {
        let ((copies, bytes), (left, left_bytes)) = (self.in_flight.get(), self.left.get());
        (copies - left, bytes - left_bytes)
    }

    /// A sent copy of this size may be dropped from now on, as its client is away.
    pub(super) fn leaves(&self, bytes: usize) {
        let (left, left_bytes) = self.left.get();
        self.left.set((left + 1, left_bytes + bytes));
    }

    /// Ends [`Remembered::leaves`]: the copy is over, or was sent again.
    pub(super) fn left_no_more(&self, bytes: usize) {
        let (left, left_bytes) = self.left.get();
        self.left.set((left - 1, left_bytes - bytes));
    }

    /// Whether each client may have only little in flight.
    #[must_use]
    pub fn is_tight(&self) -> bool {
        self.is_tight.get()
    }

    /// Sets [`Remembered::is_tight`].
    pub fn set_tight(&self, is_tight: bool) {
        self.is_tight.set(is_tight);
    }

    /// Accounts for a copy of this size that has moved.
    pub(super) fn moves(&self, bytes: usize, from: Option<Place>, to: Option<Place>) {
        let is_in = |place: Option<Place>| usize::from(place == Some(Place::InFlight) && bytes > 0);
        let ((copies, all), in_to, in_from) = (self.in_flight.get(), is_in(to), is_in(from));
        self.in_flight.set((copies + in_to - in_from, all + bytes * in_to - bytes * in_from));
        if let Some(from) = from.map(|from| &self.open[from as usize]) {
            from.set(from.get() - 1);
        }
        if let Some(to) = to.map(|to| &self.open[to as usize]) {
            to.set(to.get() + 1);
        }
    }

    /// A client has acknowledged a copy.
    pub(super) fn acknowledges(&self) {
        self.acknowledged.set(self.acknowledged.get() + 1);
    }

    /// The number of messages in the log.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.stored.get()
    }

    /// The number of messages in the log for members of shared subscriptions.
    #[must_use]
    pub fn stored_for_shares(&self) -> usize {
        self.for_shares.get()
    }

    /// The arrival of the oldest remembered message, to the second; `None`: there is none.
    #[must_use]
    pub fn oldest(&self) -> Option<Monotonic> {
        self.seconds.borrow_mut().oldest()
    }

    /// Whether some messages in the log are over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.ended() > 0
    }

    /// The number of messages in the log that are over.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.ended.borrow().len()
    }

    /// Takes out the numbers of messages in the log that are over.
    #[must_use]
    pub fn take_ended(&self) -> Vec<u64> {
        self.ended.take()
    }

    /// Takes an answer that has kept a record open.
    pub fn settles(&self, settled: Settled) {
        self.settled.borrow_mut().push(settled);
    }

    /// Whether there are answers that have kept records open.
    #[must_use]
    pub fn has_settled(&self) -> bool {
        !self.settled.borrow().is_empty()
    }

    /// Takes out the answers that have kept records open.
    #[must_use]
    pub fn take_settled(&self) -> Vec<Settled> {
        self.settled.take()
    }

    /// Notes that all copies of a record have been made.
    pub(super) fn gives(&self, place: RecordPlace) {
        self.given.borrow_mut().push(place);
    }

    /// Takes out the records of which that was noted.
    #[must_use]
    pub fn take_given(&self) -> Vec<RecordPlace> {
        self.given.take()
    }
}

/// The place of a copy of QoS 1 or 2 until it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The copy waits in the queue.
    Queued,
    /// The copy was sent, and its client has not acknowledged it.
    InFlight,
}

/// Copies of one session that were dropped.
#[derive(Clone, Debug, Default)]
pub struct Gone {
    /// The number of copies.
    pub count: u64,
    /// The first message among them that is still remembered.
    pub first: Option<Rc<Body>>,
}

impl Gone {
    /// Adds a copy.
    pub fn push(&mut self, body: Option<&Rc<Body>>) {
        if self.first.is_none() {
            self.first = body.map(Rc::clone);
        }
        self.count += 1;
    }
}

/// The bytes of a message.
#[derive(Debug)]
enum Packet {
    Own(Box<[u8]>),
    /// The bytes of another body ([`Body::part`]).
    Of(Rc<Body>),
}

/// A message that some sessions have to remember.
#[derive(Debug)]
pub struct Body {
    /// The message as a PUBLISH packet of 5.0.
    packet: Packet,
    /// The time of arrival.
    since: Monotonic,
    /// The key that selects the member of a shared subscription for the message, if the strategy uses keys.
    key: u32,
    /// The numbers of the message in the log, if it is there.
    stored: RefCell<SmallVec<[u64; 1]>>,
    /// The one of them that is for the members of a shared subscription.
    for_share: Cell<Option<u64>>,
    /// The group in which the message is durable under that number.
    group: Cell<u64>,
    /// A reference that is held while the body exists.
    _second: Rc<Second>,
    /// Whether the window of its record's partition bounds how many there are: see [`super::Waiting`].
    is_windowed: bool,
    /// The claim on the record that the message was made of, if sessions have it that would lose the message in a crash.
    claim: RefCell<Option<Rc<Claim>>>,
    /// Whether the log of its session has yet to get the message.
    awaits_log: Cell<bool>,
    all: Rc<Remembered>,
}

impl Body {
    /// A message. `packet`: a PUBLISH of 5.0. It counts in `all` while it is referenced. `key`: for members of shared
    /// subscriptions.
    #[must_use]
    pub fn new(packet: Vec<u8>, since: Monotonic, key: u32, all: &Rc<Remembered>) -> Rc<Self> {
        Self::of(packet, since, key, None, all)
    }

    fn of(packet: Vec<u8>, since: Monotonic, key: u32, claim: Option<Rc<Claim>>, all: &Rc<Remembered>) -> Rc<Self> {
        all.bytes.set(all.bytes.get() + packet.len());
        Self::with(Packet::Own(packet.into()), since, key, claim, all)
    }

    /// The message as a separate body for the sessions of one log. Its record there ends when all of them have it.
    #[must_use]
    pub fn part(self: &Rc<Self>) -> Rc<Self> {
        Self::with(Packet::Of(Rc::clone(self)), self.since, self.key, None, &self.all)
    }

    fn with(packet: Packet, since: Monotonic, key: u32, claim: Option<Rc<Claim>>, all: &Rc<Remembered>) -> Rc<Self> {
        Rc::new(Self {
            packet,
            since,
            key,
            stored: RefCell::default(),
            for_share: Cell::new(None),
            group: Cell::new(0),
            _second: all.seconds.borrow_mut().of(since),
            is_windowed: claim.is_some(),
            claim: RefCell::new(claim),
            awaits_log: Cell::new(false),
            all: Rc::clone(all),
        })
    }

    /// A message of a record that stays open while the body is referenced.
    #[must_use]
    pub fn claiming(packet: Vec<u8>, since: Monotonic, key: u32, claim: Rc<Claim>) -> Rc<Self> {
        let all = Rc::clone(&claim.all);
        Self::of(packet, since, key, Some(claim), &all)
    }

    /// The message as a separate body for one session that has it in its log: the record stays open all the same, as the session's
    /// queue is full.
    #[must_use]
    pub fn windowed(self: &Rc<Self>, claim: Rc<Claim>) -> Rc<Self> {
        Self::with(Packet::Of(Rc::clone(self)), self.since, self.key, Some(claim), &self.all)
    }

    /// The logged message as a separate body for a client that is away, within the bounds of its queue: no record stays open for
    /// it.
    #[must_use]
    pub fn without_window(&self) -> Rc<Self> {
        let packet = match &self.packet {
            Packet::Of(body) => Packet::Of(Rc::clone(body)),
            Packet::Own(packet) => {
                self.all.bytes.set(self.all.bytes.get() + packet.len());
                Packet::Own(packet.clone())
            }
        };
        self.meets();
        let other = Self::with(packet, self.since, self.key, None, &self.all);
        other.stored.swap(&self.stored);
        other
    }

    /// Notes that only memory has the message for a kept session, and that its log gets it when there is room.
    pub fn awaits_log(&self) {
        self.awaits_log.set(self.is_claiming());
    }

    /// Whether only memory has it, and the log of its session gets it before its client is sent it.
    pub(super) fn is_for_log(&self) -> bool {
        self.awaits_log.get() && !self.is_stored()
    }

    /// Notes that a client has the message.
    pub fn meets(&self) {
        if let Some(claim) = &*self.claim.borrow() {
            claim.meet();
        }
    }

    /// The claim on the record that stays open for the message, if there is one.
    #[must_use]
    pub fn claim(&self) -> Option<Rc<Claim>> {
        self.claim.borrow().clone()
    }

    /// Takes out the claim: its record stays open while the caller keeps it.
    #[must_use]
    pub fn take_claim(&self) -> Option<Rc<Claim>> {
        self.awaits_log.set(false);
        self.claim.take()
    }

    /// Whether the message was made of a record that stays open for it, or did so until a moment ago.
    #[must_use]
    pub fn is_windowed(&self) -> bool {
        self.is_windowed
    }

    /// Whether a record stays open for the message.
    #[must_use]
    pub fn is_claiming(&self) -> bool {
        self.claim.borrow().is_some()
    }

    /// The message for clients that are away, within the bounds of their queue: no record stays open for it.
    #[must_use]
    pub fn released(self: &Rc<Self>) -> Rc<Self> {
        if !self.is_windowed || self.is_stored() {
            return Rc::clone(self);
        }
        self.meets();
        self.unclaimed()
    }

    /// The message for one client that is away, as a separate body without a claim on its record.
    #[must_use]
    pub fn unclaimed(&self) -> Rc<Self> {
        Self::new(self.packet().to_vec(), self.since, self.key, &self.all)
    }

    /// Notes the message's number in the log, for some of the sessions that have it.
    pub fn stored_as(&self, number: u64) {
        self.stored.borrow_mut().push(number);
        self.all.stored.set(self.all.stored.get() + 1);
    }

    /// Notes the message's number in the log for the members of a shared subscription, and the group with which it is durable. The
    /// body belongs to this shared subscription alone.
    pub fn stored_for_share(&self, number: u64, group: u64) {
        self.group.set(group);
        self.stored_as(number);
        self.for_share.set(Some(number));
        self.all.for_shares.set(self.all.for_shares.get() + 1);
    }

    /// The message's number in the log for the members of a shared subscription.
    #[must_use]
    pub fn for_share(&self) -> Option<u64> {
        self.for_share.get()
    }

    /// The group in which the message is durable for them.
    #[must_use]
    pub fn group(&self) -> u64 {
        self.group.get()
    }

    /// Binds the message to its member: the record in the log under the returned number is that member's copy from now on. `None`:
    /// the log does not have it for a shared subscription.
    pub fn take_for_share(&self) -> Option<u64> {
        let number = self.for_share.take()?;
        self.all.for_shares.set(self.all.for_shares.get() - 1);
        Some(number)
    }

    /// Takes the number in the log for the members of a shared subscription, as the end under that number is being written.
    pub fn end_for_share(&self) -> Option<u64> {
        let number = self.take_for_share()?;
        self.stored.borrow_mut().retain(|stored| *stored != number);
        self.all.stored.set(self.all.stored.get() - 1);
        Some(number)
    }

    /// Whether the log has the message.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        !self.stored.borrow().is_empty()
    }

    /// The bytes of the packet.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        match &self.packet {
            Packet::Own(packet) => packet,
            Packet::Of(body) => body.packet(),
        }
    }

    /// The time of arrival.
    #[must_use]
    pub fn since(&self) -> Monotonic {
        self.since
    }

    /// The key that selects the member of a shared subscription; 0 if none was needed.
    #[must_use]
    pub fn key(&self) -> u32 {
        self.key
    }

    /// The message.
    #[must_use]
    pub fn publish(&self) -> Option<Publish<'_>> {
        let frame = frame::next(self.packet(), u32::MAX).ok().flatten()?;
        decode::publish(Version::V5, frame.first, frame.body).ok()
    }

    /// Seconds that the message has waited.
    #[must_use]
    pub fn waited_s(&self, now: Monotonic) -> u32 {
        u32::try_from(now.since(self.since).as_secs()).unwrap_or(u32::MAX)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.take_for_share();
        let all = &self.all;
        if let Packet::Own(packet) = &self.packet {
            all.bytes.set(all.bytes.get() - packet.len());
        }
        let stored = self.stored.take();
        all.stored.set(all.stored.get() - stored.len());
        all.ended.borrow_mut().extend(stored);
    }
}

/// A message as one client gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The QoS that it is sent at: 1 or 2.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Subscription Identifiers.
    pub identifiers: Box<[u32]>,
    /// The shared subscription of the copy, if it has one: when its client leaves, other members may get the message.
    pub share: Option<NonZeroU32>,
}

/// Whether a message has outlived its Message Expiry Interval [MQTT-3.3.2-5].
#[must_use]
pub fn is_expired(publish: &Publish<'_>, waited_s: u32) -> bool {
    waited_s > 0 && publish.properties.message_expiry_interval_s().is_some_and(|s| s <= waited_s)
}

/// The properties of a message for a subscriber: all unchanged and in their order [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16]
/// [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] except its topic alias, its expiry less the time it has waited [MQTT-3.3.2-6],
/// and the identifiers of the matching subscriptions [MQTT-3.3.4-3] [MQTT-3.3.4-4]. None before 5.0.
#[must_use]
pub fn properties(publish: &Publish<'_>, version: Version, waited_s: u32, identifiers: &[u32]) -> PropertyBuf {
    let mut properties = PropertyBuf::new();
    if version < Version::V5 {
        return properties;
    }
    properties.extend(publish.properties.iter().filter_map(|property| match property {
        Property::TopicAlias(_) | Property::SubscriptionIdentifier(_) => None,
        Property::MessageExpiryInterval(s) => Some(Property::MessageExpiryInterval(s.saturating_sub(waited_s))),
        property => Some(property),
    }));
    properties.extend(identifiers.iter().map(|identifier| Property::SubscriptionIdentifier(*identifier)));
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Monotonic {
        Monotonic(1_000_000_000).after(Duration::from_millis(ms))
    }

    #[test]
    fn the_oldest_is_known_to_the_second_in_whatever_order_they_come_and_go() {
        let all = Rc::<Remembered>::default();
        assert_eq!(all.oldest(), None);
        let body = |ms| Body::new(vec![1], at(ms), 0, &all);
        let (first, same_second, second, handed_over) = (body(5_000), body(5_999), body(6_000), body(2_000));
        assert_eq!(all.seconds.borrow().all.len(), 3);
        assert_eq!(all.oldest(), Some(at(2_000)), "one that another shard has had before");
        drop(handed_over);
        assert_eq!(all.oldest(), Some(at(5_000)));
        drop(first);
        assert_eq!(all.oldest(), Some(at(5_000)), "another one of its second is there");
        drop(same_second);
        assert_eq!(all.oldest(), Some(at(6_000)));
        drop(second);
        assert_eq!((all.oldest(), all.bytes()), (None, 0));
    }

    #[test]
    fn one_that_stays_for_long_leaves_no_trail_of_those_that_did_not() {
        let all = Rc::<Remembered>::default();
        let stays = Body::new(vec![1], at(0), 0, &all);
        for s in 1..100_000 {
            drop(Body::new(vec![1], at(s * 1_000), 0, &all));
        }
        assert!(all.seconds.borrow().all.len() <= 65, "{}", all.seconds.borrow().all.len());
        assert_eq!(all.oldest(), Some(stays.since()));
    }
}
