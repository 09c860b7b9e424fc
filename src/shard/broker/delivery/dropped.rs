//! Copies that are dropped: each is counted by its reason, and an event says whose it was, its topic, and why. Of one client, or one shared
//! subscription, at most one is told in a second. What is withheld as a matter of course is counted only: a message of QoS 0 for a client
//! that is away, and one on a topic that a subscription does not cover for its client ([`M::CopiesDenied`]).

use std::rc::Rc;

use crate::metrics::event::{Field, Kind as EventKind};
use crate::metrics::spec::ShardMetric as M;
use crate::route::shares::ShareNumber;
use crate::runtime::seam::Monotonic;
use crate::session::{Body, ClientKey, Gone, Place, Session, SessionKey};

use super::super::events::{clipped, of_client, second};
use super::super::{Broker, Ring};

/// Whose copy it was.
#[derive(Clone, Copy, Debug)]
pub(in crate::shard) enum Whose<'a> {
    /// This session's.
    Session(SessionKey),
    /// This client's, whose session is over.
    Client(ClientKey<'a>),
    /// Any member's of this share: `$share/NAME/FILTER`.
    Share(&'a str),
}

/// Why, in words.
const fn words(why: M, is_share: bool) -> &'static str {
    match why {
        M::CopiesSlow if is_share => "no member of the shared subscription reads fast enough",
        M::CopiesSlow => "the client does not read fast enough",
        M::CopiesTooLarge if is_share => "larger than the Maximum Packet Size of the shared subscription's members",
        M::CopiesTooLarge => "larger than the client's Maximum Packet Size",
        M::CopiesQueueFull if is_share => "too many messages wait for members of the shared subscription",
        M::CopiesQueueFull => "too many messages wait for the client",
        M::CopiesExpired => "it expired before it could be sent",
        M::CopiesDenied if is_share => "no member of the shared subscription may read its topic",
        M::CopiesDenied => "the client may not read its topic any more",
        M::CopiesRefused => "the client has refused it",
        M::CopiesEnded => "its subscription has ended",
        M::CopiesSessionEnded => "its session has ended",
        M::CopiesShareGone => "the shared subscription has no members any more",
        _ => "",
    }
}

impl Broker {
    /// A copy is dropped as it is made.
    pub(in crate::shard) fn dropped(&mut self, now: Monotonic, why: M, whose: Whose<'_>, topic: &str) {
        self.numbers.count(why);
        if !matches!(why, M::CopiesAway | M::CopiesDenied) {
            self.tell_dropped(now, words(why, matches!(whose, Whose::Share(_))), whose, Some(topic));
        }
    }

    /// Copies that were with a session, or waited for a share, are dropped.
    pub(in crate::shard) fn dropped_later(&mut self, now: Monotonic, why: M, whose: Whose<'_>, gone: &Gone) {
        self.dropped_as(now, (why, words(why, matches!(whose, Whose::Share(_)))), whose, gone);
    }

    /// The oldest of a long queue, as the shard has no room for more.
    pub(in crate::shard) fn dropped_for_room(&mut self, now: Monotonic, whose: Whose<'_>, gone: &Gone) {
        let what = "the shard has no room for more waiting messages: the oldest of a long queue go";
        self.dropped_as(now, (M::CopiesQueueFull, what), whose, gone);
    }

    fn dropped_as(&mut self, now: Monotonic, (why, what): (M, &str), whose: Whose<'_>, gone: &Gone) {
        if gone.count > 0 {
            self.numbers.raise(why, gone.count);
            let publish = gone.first.as_ref().and_then(|body| body.publish());
            self.tell_dropped(now, what, whose, publish.map(|publish| publish.topic));
        }
    }

    /// One that waited for members of a share.
    pub(in crate::shard) fn dropped_of_share(&mut self, now: Monotonic, why: M, share: &str, body: Rc<Body>) {
        self.dropped_later(now, why, Whose::Share(share), &Gone { count: 1, first: Some(body) });
    }

    /// The same, if its share is known here.
    pub(in crate::shard) fn dropped_of(&mut self, now: Monotonic, why: M, share: ShareNumber, body: Rc<Body>) {
        let text = self.delivery.shares.text(share);
        self.dropped_of_share(now, why, text.as_deref().unwrap_or(""), body);
    }

    fn tell_dropped(&mut self, now: Monotonic, what: &str, whose: Whose<'_>, topic: Option<&str>) {
        let session = |key| self.sessions.get(key).map(Session::client);
        let (client, share) = match whose {
            Whose::Session(key) => (session(key), None),
            Whose::Client(client) => (Some(client), None),
            Whose::Share(text) => (None, Some(text).filter(|text| !text.is_empty())),
        };
        self.teller.tell_of(EventKind::MessageDropped, second(now), (client, share), |event| {
            let event = of_client(event, client).maybe(Field::Share, share.map(clipped));
            let event = event.maybe(Field::MqttTopic, topic.map(clipped));
            event.with(Field::Reason, what)
        });
    }

    /// At the end of a turn, before its numbers are published: what ended with sessions is dropped, and where all other copies are that are not
    /// over.
    pub(in crate::shard) fn count_copies(&mut self, io: &Ring<'_>) {
        for (client, gone) in self.sessions.take_discarded() {
            self.dropped_later(io.now(), M::CopiesSessionEnded, Whose::Client(client.key()), &gone);
        }
        let (shares, remembered) = (&self.delivery.shares, self.delivery.remembered());
        let since = |oldest| io.wall().0 - i64::try_from(io.now().since(oldest).as_millis()).unwrap_or(i64::MAX);
        let oldest = remembered.oldest().map_or(0, |oldest| u64::try_from(since(oldest)).unwrap_or(1).max(1));
        let (messages, bytes) = shares.queued();
        let of_shares = messages + shares.on_their_way() + self.sessions.returned();
        let numbers = &mut self.numbers;
        numbers.set(M::RememberedBytes, remembered.bytes() as u64);
        numbers.set(M::CopiesUnreadBytes, remembered.unread() as u64);
        numbers.set(M::RememberedBytesMax, self.queues.bytes_max() as u64);
        numbers.set(M::CopiesOldest, oldest);
        numbers.set(M::CopiesQueued, (remembered.copies(Place::Queued) + of_shares) as u64);
        numbers.set(M::CopiesInFlight, remembered.copies(Place::InFlight) as u64);
        numbers.set(M::CopiesInFlightBytes, remembered.in_flight_bytes() as u64);
        numbers.set(M::CopiesAcknowledged, remembered.acknowledged());
        numbers.set(M::Shares, shares.parts() as u64);
        numbers.set(M::ShareQueuedMessages, messages as u64);
        numbers.set(M::ShareQueuedBytes, bytes as u64);
    }
}
