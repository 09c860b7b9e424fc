//! A session's subscriptions from its client's point of view: SUBSCRIBE and UNSUBSCRIBE to their answers. Recipients of messages
//! are looked up elsewhere.

use std::sync::Arc;

use smallvec::SmallVec;

use super::end::Violation;
use super::state::{Role, Session, Terms};
use super::store::{SessionKey, Sessions};
use forebay_base::limits::{SESSION_BYTES_EACH_MAX, SUBSCRIPTIONS_OF_SESSION_MAX};
use forebay_guard::auth::acl::{self, Action};
use forebay_mqtt::packet::{Packet, QoS, SubAck, Subscribe, SubscriptionOptions, Version};
use forebay_mqtt::property::{Properties, Property, PropertyBuf};
use forebay_mqtt::reason::ReasonCode;
use forebay_mqtt::topic;

/// The highest QoS that is granted.
const GRANTED_QOS_MAX: QoS = QoS::ExactlyOnce;

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter.
    pub filter: Arc<str>,
    /// The options as granted.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
}

/// The subscriptions of a session, at least one, in the order of their filters.
#[derive(Debug)]
pub(super) struct Subscribed {
    all: Vec<Subscription>,
    /// The memory that the session holds for them.
    bytes: usize,
}

impl Subscribed {
    pub(super) fn new(mut all: Vec<Subscription>) -> Option<Box<Self>> {
        all.sort_by(|one, other| one.filter.cmp(&other.filter));
        all.dedup_by(|one, other| one.filter == other.filter);
        let bytes = all.iter().map(Subscription::bytes).sum();
        (!all.is_empty()).then(|| Box::new(Self { all, bytes }))
    }

    /// The index of a filter, or where it would be.
    fn place(&self, filter: &str) -> Result<usize, usize> {
        self.all.binary_search_by(|known| (*known.filter).cmp(filter))
    }
}

impl Subscription {
    /// The memory that the session holds for the subscription.
    fn bytes(&self) -> usize {
        bytes_of(&self.filter)
    }
}

/// The memory, and the bytes on the disk, of a subscription to this filter.
const fn bytes_of(filter: &str) -> usize {
    filter.len() + size_of::<Subscription>()
}

/// The request of a client with one filter of a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish<'a> {
    /// The filter, well formed.
    pub filter: &'a str,
    /// The options as requested.
    pub options: SubscriptionOptions,
    /// Subscription Identifier; 0: none.
    pub identifier: u32,
    /// The point in the past at which messages begin, as the client has written it; `None`: the present.
    pub replay_from: Option<&'a str>,
}

/// `REPLAY_FROM` is the user property of SUBSCRIBE with the point in the past at which messages begin.
const REPLAY_FROM: &str = "replay-from";

impl<'a> Wish<'a> {
    /// The requests of a SUBSCRIBE, in order. A point in the past in a filter takes precedence over the property.
    pub fn all(subscribe: &Subscribe<'a>) -> impl Iterator<Item = Self> + use<'a> {
        let identifier = subscribe.properties.subscription_identifier().unwrap_or(0);
        let from = subscribe.properties.user_properties().find(|(name, _)| *name == REPLAY_FROM).map(|(_, from)| from);
        subscribe.filters.iter().map(move |(filter, options)| match topic::split_replay(filter) {
            Some((from, filter)) => Self { filter, options, identifier, replay_from: Some(from) },
            None => Self { filter, options, identifier, replay_from: from },
        })
    }
}

/// The reason why a subscription is refused, as in SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRefused {
    /// The code for 5.0. Before that there is one failure code for all.
    pub code: ReasonCode,
    /// The reason in words.
    pub what: &'static str,
}

impl SubscriptionRefused {
    /// The share name is empty or has a wildcard, or no filter follows it [MQTT-4.8.2-1] [MQTT-4.8.2-2].
    pub const SHARE_NAME: Self =
        Self { code: ReasonCode::TOPIC_FILTER_INVALID, what: "a shared subscription is $share/NAME/FILTER" };
    /// The most shares are in use.
    pub const TOO_MANY_SHARES: Self =
        Self { code: ReasonCode::QUOTA_EXCEEDED, what: "too many different shared subscriptions are in use" };
    /// The filter's messages are those of one instance, and the share is of the whole broker.
    pub const NO_SHARES: Self = Self {
        code: ReasonCode::SHARED_SUBSCRIPTIONS_NOT_SUPPORTED,
        what: "there are no shared subscriptions to topics that begin with $ while several instances are one broker ([broker.link])",
    };
    /// Kafka refuses the group of the share.
    pub const SHARE_WITHOUT_RIGHT: Self = Self {
        code: ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        what: "Kafka does not allow the server the group of the shared subscription: event share_trouble has the right that is missing",
    };
    /// The access control list does not allow the subscription.
    pub const DENIED: Self = Self { code: ReasonCode::NOT_AUTHORIZED, what: "not authorized to subscribe" };
    /// The requested point in the past is invalid.
    pub const REPLAY_FROM: Self = Self {
        code: ReasonCode::TOPIC_FILTER_INVALID,
        what: "a replay begins at a time (2026-11-26T10:00:00Z), an age (-1h), earliest or offset:N; before 5.0 it is $replay/FROM/FILTER",
    };
    /// The past of a shared subscription is requested.
    pub const REPLAY_SHARED: Self =
        Self { code: ReasonCode::TOPIC_FILTER_INVALID, what: "a shared subscription has no replay" };
    /// The past is requested, but messages are not in Kafka.
    pub const REPLAY_WITHOUT_KAFKA: Self = Self {
        code: ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR,
        what: "a replay needs [broker]: messages of the past are in Kafka",
    };
    /// The access control list does not allow reading the past.
    pub const REPLAY_DENIED: Self = Self { code: ReasonCode::NOT_AUTHORIZED, what: "not authorized to replay" };
    /// The most replays are waiting.
    pub const TOO_MANY_REPLAYS: Self = Self { code: ReasonCode::QUOTA_EXCEEDED, what: "too many replays at a time" };
    /// The session has reached its bound of subscriptions.
    pub const TOO_MANY: Self =
        Self { code: ReasonCode::QUOTA_EXCEEDED, what: "the session has as many subscriptions as it may" };
    /// The SUBSCRIBE has more filters than a session may have subscriptions.
    pub const TOO_MANY_AT_ONCE: Self = Self {
        code: ReasonCode::QUOTA_EXCEEDED,
        what: "more filters in a SUBSCRIBE than a session may have subscriptions",
    };
    /// The filters are longer than a session may remember.
    pub const TOO_LARGE: Self =
        Self { code: ReasonCode::QUOTA_EXCEEDED, what: "the filters of the session are longer than it may remember" };
    /// The memory for sessions, or the spool, is full.
    pub const NO_ROOM: Self = Self { code: ReasonCode::QUOTA_EXCEEDED, what: "no room for another subscription" };
    /// The filter may have to be compared with every message, and there are too many of that kind.
    pub const TOO_MANY_WILD: Self = Self {
        code: ReasonCode::QUOTA_EXCEEDED,
        what: "too many filters that begin with a wildcard and have more than four levels",
    };
    /// The filter may have to be compared with every message below its first levels, and there are too many of that kind.
    pub const TOO_MANY_DEEP: Self = Self {
        code: ReasonCode::QUOTA_EXCEEDED,
        what: "too many filters with many levels that begin with the same ones",
    };

    /// Whether the access control list is the reason.
    #[must_use]
    pub fn is_denial(self) -> bool {
        self.code == ReasonCode::NOT_AUTHORIZED
    }
}

impl Session {
    /// The subscriptions of the session.
    #[must_use]
    pub fn subscriptions(&self) -> &[Subscription] {
        self.subscribed.as_ref().map_or(&[], |subscribed| &subscribed.all)
    }

    /// Whether the session has a subscription to exactly this filter.
    #[must_use]
    pub fn has_subscribed(&self, filter: &str) -> bool {
        self.subscribed.as_ref().is_some_and(|subscribed| subscribed.place(filter).is_ok())
    }

    /// Whether the subscription requested now gets retained messages [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11].
    #[must_use]
    pub fn is_sent_retained(&self, filter: &str, options: SubscriptionOptions) -> bool {
        match options.retain_handling {
            0 => true,
            1 => !self.has_subscribed(filter),
            _ => false,
        }
    }

    /// The options that are granted for a wish, of any QoS [MQTT-3.2.2-10]. A bridge before 5.0 cannot request the options that it
    /// needs: the other broker should retain messages that are retained here, and not get back its own.
    #[must_use]
    pub fn granted(&self, wish: &Wish<'_>) -> SubscriptionOptions {
        let options = SubscriptionOptions { qos: wish.options.qos.min(GRANTED_QOS_MAX), ..wish.options };
        if self.terms.role == Role::Bridge {
            // A share has no No Local [MQTT-3.8.3-4].
            SubscriptionOptions { no_local: !topic::is_shared(wish.filter), retain_as_published: true, ..options }
        } else {
            options
        }
    }

    /// Checks a SUBSCRIBE against the features in CONNACK.
    ///
    /// # Errors
    /// The feature that the client may not use: the connection ends.
    pub fn may_ask(&self, subscribe: &Subscribe<'_>) -> Result<(), Violation> {
        if self.terms.version == Version::V5 { announced(subscribe, &self.terms) } else { Ok(()) }
    }

    /// Whether the client may read the topics that a filter matches.
    #[must_use]
    pub fn may_read(&self, filter: &str) -> acl::Subscription {
        self.may(Action::Receive, filter)
    }

    /// Whether the client may get messages of the past that a filter matches, as far as it may read them.
    #[must_use]
    pub fn may_replay(&self, filter: &str) -> acl::Subscription {
        self.may(Action::Replay, filter)
    }

    fn may(&self, action: Action, filter: &str) -> acl::Subscription {
        let access = self.access.as_ref();
        access.map_or(acl::Subscription::Granted, |access| {
            access.subscription(self.username.as_deref(), &self.client_id, (action, filter))
        })
    }

    /// Whether the client may get a message of the past, as far as it may read it.
    #[must_use]
    pub fn may_receive_again(&self, topic: &str, qos: QoS, retain: bool) -> bool {
        self.may_have(acl::Wanted { action: Action::Replay, topic, qos, retain })
    }

    /// Whether the client may read a message of a subscription of which it may not read all.
    #[must_use]
    pub fn may_receive(&self, topic: &str, qos: QoS, retain: bool) -> bool {
        self.may_have(acl::Wanted { action: Action::Receive, topic, qos, retain })
    }

    fn may_have(&self, wanted: acl::Wanted<'_>) -> bool {
        let access = self.access.as_ref();
        access.is_none_or(|access| access.may_receive(self.username.as_deref(), &self.client_id, wanted))
    }

    /// Answers a SUBSCRIBE [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.2.1-6], filter by filter [MQTT-3.8.4-6] in their order
    /// [MQTT-3.9.3-1]: with the granted QoS or a failure [MQTT-3.8.4-7]. False: 3.1 has no failure code, so the connection
    /// ends.
    pub fn suback(
        &self,
        packet_id: u16,
        outcomes: &[Result<SubscriptionOptions, SubscriptionRefused>],
        out: &mut Vec<u8>,
    ) -> bool {
        const FAILURE_3X: u8 = 0x80;
        let version = self.terms.version;
        let refused = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
        let is_hidden = |refused: &SubscriptionRefused| {
            refused.is_denial() && self.access.as_ref().is_some_and(|access| access.hides_denials())
        };
        if version == Version::V31 && refused.is_some() {
            return false;
        }
        let code = |outcome: &Result<SubscriptionOptions, SubscriptionRefused>| match outcome {
            Ok(options) => options.qos as u8,
            Err(refused) if version == Version::V5 && !is_hidden(refused) => refused.code.0,
            Err(_) if version == Version::V5 => ReasonCode::UNSPECIFIED_ERROR.0,
            Err(_) => FAILURE_3X,
        };
        let codes: SmallVec<[u8; 32]> = outcomes.iter().map(code).collect();
        let what = refused.filter(|refused| !is_hidden(refused)).map_or("", |refused| refused.what);
        self.answer(&codes, what, out, |codes, properties| Packet::SubAck(SubAck { packet_id, properties, codes }));
        true
    }

    /// Answers an UNSUBSCRIBE [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-2.2.1-6]: for each filter, whether there was a subscription
    /// [MQTT-3.11.3-1].
    pub fn unsuback(&self, packet_id: u16, had: &[bool], out: &mut Vec<u8>) {
        let code = |had: &bool| if *had { ReasonCode::SUCCESS } else { ReasonCode::NO_SUBSCRIPTION_EXISTED };
        let codes: SmallVec<[u8; 32]> = match self.terms.version {
            Version::V5 => had.iter().map(|had| code(had).0).collect(),
            Version::V31 | Version::V311 => SmallVec::new(),
        };
        self.answer(&codes, "", out, |codes, properties| Packet::UnsubAck(SubAck { packet_id, properties, codes }));
    }

    /// Sends SUBACK or UNSUBACK, with a Reason String if there is one, it is wanted [MQTT-3.1.2-29] and it fits [MQTT-3.9.2-1]
    /// [MQTT-3.11.2-1]; not at all if even the codes do not fit [MQTT-3.1.2-25]. The packet has no User Properties [MQTT-3.9.2-2]
    /// [MQTT-3.11.2-2].
    fn answer<'a>(
        &self,
        codes: &'a [u8],
        reason_string: &str,
        out: &mut Vec<u8>,
        packet: impl for<'b> Fn(&'b [u8], Properties<'b>) -> Packet<'b>,
    ) {
        let peer = self.peer();
        let mut properties = PropertyBuf::new();
        if !reason_string.is_empty() && peer.wants_reasons() {
            properties.push(Property::ReasonString(reason_string));
        }
        if !peer.send(&packet(codes, properties.as_properties()), out) {
            peer.send(&packet(codes, Properties::EMPTY), out);
        }
    }

    /// The memory of its subscriptions.
    pub(super) fn subscription_bytes(&self) -> usize {
        self.subscribed.as_ref().map_or(0, |subscribed| subscribed.bytes)
    }
}

impl Sessions {
    /// Checks that a session may subscribe to this filter.
    ///
    /// # Errors
    /// The bound that the subscription would exceed.
    pub fn may_subscribe(&self, key: SessionKey, filter: &str) -> Result<(), SubscriptionRefused> {
        let Some(session) = self.get(key) else { return Ok(()) };
        if session.has_subscribed(filter) {
            return Ok(());
        }
        if session.subscriptions().len() >= SUBSCRIPTIONS_OF_SESSION_MAX {
            return Err(SubscriptionRefused::TOO_MANY);
        }
        let (more, held) = (bytes_of(filter), session.bytes());
        if held + more > SESSION_BYTES_EACH_MAX {
            return Err(SubscriptionRefused::TOO_LARGE);
        }
        let is_kept = session.expiry_s > 0;
        if !self.has_memory(more) || (is_kept && !self.has_room(held + more)) {
            return Err(SubscriptionRefused::NO_ROOM);
        }
        Ok(())
    }

    /// Adds a subscription of a session, or replaces that to the same filter. False: the session had exactly this one.
    pub fn subscribed(&mut self, key: SessionKey, subscription: Subscription) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let bytes = subscription.bytes();
        match &mut session.subscribed {
            Some(subscribed) => match subscribed.place(&subscription.filter) {
                Ok(at) if subscribed.all[at] == subscription => return false,
                Ok(at) => subscribed.all[at] = subscription,
                Err(at) => {
                    subscribed.all.insert(at, subscription);
                    subscribed.bytes += bytes;
                    self.bytes += bytes;
                }
            },
            None => {
                session.subscribed = Subscribed::new(vec![subscription]);
                self.bytes += bytes;
            }
        }
        self.note_kept(key);
        true
    }

    /// Removes the subscription to exactly this filter [MQTT-3.10.4-1]. False: the session had none.
    pub fn unsubscribed(&mut self, key: SessionKey, filter: &str) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(subscribed) = &mut session.subscribed else { return false };
        let Ok(at) = subscribed.place(filter) else { return false };
        let bytes = subscribed.all.remove(at).bytes();
        subscribed.bytes -= bytes;
        if subscribed.all.is_empty() {
            session.subscribed = None;
        }
        self.bytes -= bytes;
        self.note_kept(key);
        true
    }

    /// A session that has ended and had subscriptions.
    pub fn next_ended(&mut self) -> Option<SessionKey> {
        self.ended.pop()
    }
}

/// Checks that a SUBSCRIBE uses no kind of subscription that CONNACK has declared unavailable.
fn announced(subscribe: &Subscribe<'_>, terms: &Terms) -> Result<(), Violation> {
    if !terms.subscription_identifiers && subscribe.properties.subscription_identifier().is_some() {
        return Err(Violation::SUBSCRIBE_IDENTIFIER);
    }
    for (filter, _) in subscribe.filters.iter() {
        if !terms.shared_subscriptions && topic::is_shared(filter) {
            return Err(Violation::SUBSCRIBE_SHARED);
        }
        if !terms.wildcard_subscriptions && filter.contains(['+', '#']) {
            return Err(Violation::SUBSCRIBE_WILDCARD);
        }
    }
    Ok(())
}
