//! Messages that sessions remember: each once for all sessions of a shard that have to acknowledge it.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU32;
use std::rc::Rc;

use smallvec::SmallVec;

use crate::mqtt::packet::{Publish, QoS, Version};
use crate::mqtt::property::{Property, PropertyBuf};
use crate::mqtt::{decode, frame};
use crate::runtime::seam::Monotonic;

/// All of them on one shard.
#[derive(Debug, Default)]
pub struct Remembered {
    bytes: Cell<usize>,
    /// Those of them that are in the log.
    stored: Cell<usize>,
    /// Those of these that are there for members of shared subscriptions.
    for_shares: Cell<usize>,
    /// Numbers in the log that no session refers to any more.
    ended: RefCell<Vec<u64>>,
}

impl Remembered {
    /// Their bytes, each message counted once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// How many are in the log.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.stored.get()
    }

    /// How many of these are there for members of shared subscriptions.
    #[must_use]
    pub fn stored_for_shares(&self) -> usize {
        self.for_shares.get()
    }

    /// Whether some of those in the log are over.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        !self.ended.borrow().is_empty()
    }

    /// Takes out the numbers of messages in the log that are over.
    #[must_use]
    pub fn take_ended(&self) -> Vec<u64> {
        self.ended.take()
    }
}

/// A message that some sessions have to remember.
#[derive(Debug)]
pub struct Body {
    /// The message as a PUBLISH packet of 5.0.
    packet: Box<[u8]>,
    /// When it came.
    since: Monotonic,
    /// What names the member of a shared subscription that gets it, where the strategy goes by keys.
    key: u32,
    /// Its numbers in the log, if it is there.
    stored: RefCell<SmallVec<[u64; 1]>>,
    /// The one of them under which it is there for the members of a shared subscription.
    for_share: Cell<Option<u64>>,
    /// The group in which that is durable.
    group: Cell<u64>,
    all: Rc<Remembered>,
}

impl Body {
    /// `packet`: a PUBLISH of 5.0. It counts in `all` for as long as it is referenced. `key`: for members of shared subscriptions.
    #[must_use]
    pub fn new(packet: Vec<u8>, since: Monotonic, key: u32, all: &Rc<Remembered>) -> Rc<Self> {
        all.bytes.set(all.bytes.get() + packet.len());
        Rc::new(Self {
            packet: packet.into(),
            since,
            key,
            stored: RefCell::default(),
            for_share: Cell::new(None),
            group: Cell::new(0),
            all: Rc::clone(all),
        })
    }

    /// It is in the log under this number, for some of the sessions that have it.
    pub fn stored_as(&self, number: u64) {
        self.stored.borrow_mut().push(number);
        self.all.stored.set(self.all.stored.get() + 1);
    }

    /// It is in the log under this number, for whichever member of a shared subscription gets it, and durable with this group. No other one
    /// has this body.
    pub fn stored_for_share(&self, number: u64, group: u64) {
        self.group.set(group);
        self.stored_as(number);
        self.for_share.set(Some(number));
        self.all.for_shares.set(self.all.for_shares.get() + 1);
    }

    /// Its number in the log for the members of a shared subscription.
    #[must_use]
    pub fn for_share(&self) -> Option<u64> {
        self.for_share.get()
    }

    /// The group in which it is durable for them.
    #[must_use]
    pub fn group(&self) -> u64 {
        self.group.get()
    }

    /// It has its member, and what the log has under this number is that member's copy from now on. `None`: the log does not have it
    /// for a shared subscription.
    pub fn take_for_share(&self) -> Option<u64> {
        let number = self.for_share.take()?;
        self.all.for_shares.set(self.all.for_shares.get() - 1);
        Some(number)
    }

    /// Its end for the members of a shared subscription is being written: under which number it was in the log.
    pub fn end_for_share(&self) -> Option<u64> {
        let number = self.take_for_share()?;
        self.stored.borrow_mut().retain(|stored| *stored != number);
        self.all.stored.set(self.all.stored.get() - 1);
        Some(number)
    }

    /// Whether the log has it.
    pub(super) fn is_stored(&self) -> bool {
        !self.stored.borrow().is_empty()
    }

    /// The bytes of the packet.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// When it came.
    #[must_use]
    pub fn since(&self) -> Monotonic {
        self.since
    }

    /// What names the member of a shared subscription that gets it; 0 where none was needed.
    #[must_use]
    pub fn key(&self) -> u32 {
        self.key
    }

    /// The message.
    #[must_use]
    pub fn publish(&self) -> Option<Publish<'_>> {
        let frame = frame::next(&self.packet, u32::MAX).ok().flatten()?;
        decode::publish(Version::V5, frame.first, frame.body).ok()
    }

    /// Seconds that it has waited.
    #[must_use]
    pub fn waited_s(&self, now: Monotonic) -> u32 {
        u32::try_from(now.since(self.since).as_secs()).unwrap_or(u32::MAX)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.take_for_share();
        let all = &self.all;
        all.bytes.set(all.bytes.get() - self.packet.len());
        let stored = self.stored.take();
        all.stored.set(all.stored.get() - stored.len());
        all.ended.borrow_mut().extend(stored);
    }
}

/// What one client gets of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// At which it is sent: 1 or 2.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Subscription Identifiers.
    pub identifiers: Box<[u32]>,
    /// The shared subscription that it is for, if it is for one: when its client leaves, other members may get it.
    pub share: Option<NonZeroU32>,
}

/// Whether a message has outlived its Message Expiry Interval [MQTT-3.3.2-5].
#[must_use]
pub fn is_expired(publish: &Publish<'_>, waited_s: u32) -> bool {
    waited_s > 0 && publish.properties.message_expiry_interval_s().is_some_and(|s| s <= waited_s)
}

/// The properties of a message that go on to a subscriber: all as they came and in their order [MQTT-3.3.2-4] [MQTT-3.3.2-15]
/// [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20] but its topic alias, its expiry less what it has waited
/// [MQTT-3.3.2-6], and the identifiers of the matching subscriptions [MQTT-3.3.4-3] [MQTT-3.3.4-4]. None before 5.0.
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
