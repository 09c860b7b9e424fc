//! Dropped copies: each is counted by its reason, and an event names the client or share, the topic and the reason. At most one a second is
//! reported for one client or one shared subscription. Copies that are withheld as a matter of course are only counted: of QoS 0 for a
//! client that is away, and on a topic that a subscription does not cover for its client ([`M::CopiesDenied`]).

use std::rc::Rc;

use forebay_base::limits::QOS0_DROPS_TOLD_PER_MIN;
use forebay_metrics::event::{Field, Kind as EventKind};
use forebay_metrics::spec::ShardMetric as M;
use forebay_mqtt::packet::{Publish, QoS};
use forebay_mqtt::route::shares::ShareNumber;
use forebay_rule::event::Event;
use forebay_runtime::seam::Monotonic;
use forebay_session::{Body, Gone, Place, Session};

use super::super::Broker;
use crate::here::Here;
use crate::out::Out;
use crate::raised::delivery_dropped;
use crate::words::{Whose, clipped, of_client, second};

/// The reason in words.
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
        M::CopiesUnfit => "the bridge can make nothing of it that its remote takes",
        M::CopiesEnded => "its subscription has ended",
        M::CopiesSessionEnded => "its session has ended",
        M::CopiesShareGone => "the shared subscription has no members any more",
        _ => "",
    }
}

/// The reason in events of rules: EMQX's word where it has one.
const fn reason(why: M) -> &'static str {
    match why {
        M::CopiesAway => "qos0_msg",
        M::CopiesQueueFull => "queue_full",
        M::CopiesExpired => "expired",
        M::CopiesSlow => "slow",
        M::CopiesTooLarge => "too_large",
        M::CopiesRefused => "refused",
        M::CopiesUnfit => "unfit",
        M::CopiesDenied => "no_rights",
        M::CopiesEnded => "unsubscribed",
        M::CopiesShareGone => "share_gone",
        _ => "session_ended",
    }
}

/// Reported drops of messages of QoS 0: where such messages are dropped, there are many, and nobody was promised them.
#[derive(Debug, Default)]
pub(super) struct ToldAtMostOnce {
    minute: u64,
    count: u8,
}

impl ToldAtMostOnce {
    /// Whether one more may be reported in this second.
    fn admits(&mut self, second: u64) -> bool {
        if second / 60 != self.minute {
            (self.minute, self.count) = (second / 60, 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= QOS0_DROPS_TOLD_PER_MIN
    }
}

impl Broker {
    /// Counts a copy that is dropped as it is made.
    pub(crate) fn dropped(&mut self, here: &mut Here, now: Monotonic, why: M, whose: Whose<'_>, publish: &Publish<'_>) {
        here.numbers.count(why);
        self.raise_dropped(here, why, whose, (1, Some(publish)));
        if let Whose::Session(key) = whose {
            self.delivery.remotes.begins(key, 1);
        }
        self.drops_of(whose, 1);
        // A session that is gone has no client to miss the copy: it has ended, or another instance has it and delivers the message.
        if !matches!(why, M::CopiesAway | M::CopiesDenied | M::CopiesSessionEnded) {
            self.tell_dropped(here, now, words(why, matches!(whose, Whose::Share(_))), whose, Some(publish));
        }
    }

    /// Counts copies that were with a session, or waited for a share, and are dropped.
    pub(crate) fn dropped_later(&mut self, here: &mut Here, now: Monotonic, why: M, whose: Whose<'_>, gone: &Gone) {
        self.dropped_as(here, now, (why, words(why, matches!(whose, Whose::Share(_)))), whose, gone);
    }

    /// Counts copies of a long queue that are dropped because there is no room for more: `what` names the place.
    pub(crate) fn dropped_for_room(
        &mut self,
        here: &mut Here,
        now: Monotonic,
        whose: Whose<'_>,
        (gone, what): (&Gone, &str),
    ) {
        self.dropped_as(here, now, (M::CopiesQueueFull, what), whose, gone);
    }

    fn drops_of(&mut self, whose: Whose<'_>, count: u64) {
        if let Whose::Session(key) = whose {
            self.delivery.remotes.drops(key, count);
        }
    }

    fn dropped_as(&mut self, here: &mut Here, now: Monotonic, (why, what): (M, &str), whose: Whose<'_>, gone: &Gone) {
        if gone.count > 0 {
            here.numbers.raise(why, gone.count);
            self.drops_of(whose, gone.count);
            let publish = gone.first.as_ref().and_then(|body| body.publish());
            self.raise_dropped(here, why, whose, (gone.count, publish.as_ref()));
            self.tell_dropped(here, now, what, whose, publish.as_ref());
        }
    }

    /// Counts a message that waited for members of a share and is dropped.
    pub(crate) fn dropped_of_share(&mut self, here: &mut Here, now: Monotonic, why: M, share: &str, body: Rc<Body>) {
        self.dropped_later(here, now, why, Whose::Share(share), &Gone { count: 1, first: Some(body) });
    }

    /// Counts a dropped message of a share by number, if the share is known here.
    pub(crate) fn dropped_of(&mut self, here: &mut Here, now: Monotonic, why: M, share: ShareNumber, body: Rc<Body>) {
        let text = self.delivery.shares.text(share);
        self.dropped_of_share(here, now, why, text.as_deref().unwrap_or(""), body);
    }

    /// Notes dropped copies for rules, if one names them. Only the first dropped message is still known: the others raise no event.
    fn raise_dropped(
        &mut self,
        here: &mut Here,
        why: M,
        whose: Whose<'_>,
        (count, first): (u64, Option<&Publish<'_>>),
    ) {
        if !here.events.wants(Event::DeliveryDropped) {
            return;
        }
        here.numbers.raise(M::RuleEventsDeliveryDropped, count - u64::from(first.is_some()));
        let Some(publish) = first else { return };
        let session = if let Whose::Session(key) = whose { self.sessions.get(key) } else { None };
        let (client, username) = match whose {
            Whose::Session(_) => {
                (session.map(|session| session.client().client_id), session.and_then(Session::username))
            }
            Whose::Client(client) => (Some(client.client_id), None),
            Whose::Share(_) => (None, None),
        };
        let raised = delivery_dropped((client, username), publish, reason(why));
        here.raise(raised);
    }

    fn tell_dropped(
        &mut self,
        here: &mut Here,
        now: Monotonic,
        what: &str,
        whose: Whose<'_>,
        publish: Option<&Publish<'_>>,
    ) {
        let is_at_most_once = publish.is_some_and(|publish| publish.qos == QoS::AtMostOnce);
        if is_at_most_once && !self.delivery.told_at_most_once.admits(second(now)) {
            return;
        }
        let topic = publish.map(|publish| publish.topic);
        let session = |key| self.sessions.get(key).map(Session::client);
        let (client, share) = match whose {
            Whose::Session(key) => (session(key), None),
            Whose::Client(client) => (Some(client), None),
            Whose::Share(text) => (None, Some(text).filter(|text| !text.is_empty())),
        };
        here.teller.tell_of(EventKind::MessageDropped, second(now), (client, share), |event| {
            let event = of_client(event, client).maybe(Field::Share, share.map(clipped));
            let event = event.maybe(Field::MqttTopic, topic.map(clipped));
            event.with(Field::Reason, what)
        });
    }

    /// Counts copies at the end of a turn, before its numbers are published: as dropped those that ended with their sessions, and by place those that are
    /// pending.
    pub fn count_copies(&mut self, io: &dyn Out, here: &mut Here) {
        for (client, gone) in self.sessions.take_discarded() {
            self.dropped_later(here, io.now(), M::CopiesSessionEnded, Whose::Client(client.key()), &gone);
        }
        let (shares, remembered) = (&self.delivery.shares, self.delivery.remembered());
        let since = |oldest| io.wall().0 - i64::try_from(io.now().since(oldest).as_millis()).unwrap_or(i64::MAX);
        let oldest = remembered.oldest().map_or(0, |oldest| u64::try_from(since(oldest)).unwrap_or(1).max(1));
        let (messages, bytes) = shares.queued();
        let of_shares = messages + shares.on_their_way() + self.sessions.returned();
        let numbers = &mut here.numbers;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finding_q14_drops_of_qos_0_are_reported_at_a_rate() {
        let mut told = ToldAtMostOnce::default();
        let mut in_minute = |minute: u64| (0..6_000).filter(|at| told.admits(minute * 60 + at / 100)).count();
        assert_eq!([in_minute(0), in_minute(1), in_minute(5)], [usize::from(QOS0_DROPS_TOLD_PER_MIN); 3]);
    }
}
