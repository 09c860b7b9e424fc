//! A client's session: its identity, the terms of its connection, and the path of a PUBLISH.

use super::alias::Aliases;
use super::client_key::ClientKey;
use super::end::Violation;
use super::inflight::{Drained, Inflight, Received};
use super::keeping::SessionRecord;
use super::outgoing::Outgoing;
use super::peer::Peer;
use super::receipts::Receipt;
use super::refusals::Reason;
use super::remote::BRIDGES;
use super::subscriptions::Subscribed;
use super::will::Will;
use forebay_guard::auth::acl::{Action, Wanted};
use forebay_guard::auth::{Access, By, Policy};
use forebay_guard::secure::CertificateId;
use forebay_mqtt::packet::{Publish, QoS, Version};
use forebay_runtime::seam::{ConnId, Monotonic};
use std::sync::Arc;
use std::time::Duration;

/// The promises of CONNACK to the present connection, copied so that a change of settings breaks none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) receive_maximum: u16,
    pub(super) inflight_max: u16,
    /// QoS 2 packet ids that may be open.
    pub(super) qos2_max: u16,
    pub(super) topic_alias_maximum: u16,
    pub(super) topic_alias_bytes_max: u32,
    pub(super) maximum_qos: QoS,
    pub(super) retain_available: bool,
    pub(super) problem_information: bool,
    pub(super) packet_size_max: u32,
    /// Messages of QoS 1 and 2 that the client may be sent before it has acknowledged any.
    pub(super) send_maximum: u16,
    /// Topic aliases that the client may be sent.
    pub(super) sent_alias_maximum: u8,
    pub(super) session_expiry_max_s: u32,
    /// The Session Expiry Interval of the CONNECT was not 0, whatever the server has granted.
    pub(super) asks_to_be_kept: bool,
    pub(super) wildcard_subscriptions: bool,
    pub(super) subscription_identifiers: bool,
    pub(super) shared_subscriptions: bool,
    pub(super) version: Version,
    pub(super) role: Role,
}

/// The kind of a session's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Anybody.
    Client,
    /// A bridge of a version without subscription options ([`Connect::is_bridge`](forebay_mqtt::packet::Connect::is_bridge)).
    Bridge,
    /// A broker to which we are the client: see [`super::Remote`].
    Remote,
}

impl Terms {
    pub(super) fn is_remote(&self) -> bool {
        self.role == Role::Remote
    }

    pub(super) fn peer(&self) -> Peer {
        Peer {
            version: self.version,
            packet_size_max: self.packet_size_max,
            problem_information: self.problem_information,
            is_remote: self.is_remote(),
        }
    }
}

/// A session. 200 bytes besides its client id: rare parts are boxed, idle ones given back.
#[derive(Debug)]
pub struct Session {
    pub(super) client_id: Box<str>,
    pub(super) username: Option<Box<str>>,
    /// The client's permissions, if the listener has an auth.
    pub(super) access: Option<Box<Access>>,
    pub(super) conn: Option<ConnId>,
    pub(super) terms: Terms,
    /// Session Expiry Interval in force, seconds; 0: ends with its connection; `u32::MAX`: never.
    pub(super) expiry_s: u32,
    /// The loss of the connection; [`Monotonic::NEVER`] while there is one.
    pub(super) away_since: Monotonic,
    /// The next check of the queue's memory; [`Monotonic::NEVER`]: the queue holds none.
    pub(super) rests: Monotonic,
    pub(super) inflight: Inflight,
    pub(super) aliases: Option<Box<Aliases>>,
    pub(super) will: Option<Box<Will>>,
    /// The session's subscriptions.
    pub(super) subscribed: Option<Box<Subscribed>>,
    /// Messages of QoS 1 and 2 for the client.
    pub(super) outgoing: Option<Box<Outgoing>>,
    /// The session's record in the log; `None`: it has none and will get none.
    pub(super) kept: Option<Box<SessionRecord>>,
}

/// The facts about a message that a sink needs besides its payload and properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The topic name, its alias resolved.
    pub topic: &'a str,
    /// The client identifier of the publisher.
    pub client_id: &'a str,
    /// The user name of the publisher's connection.
    pub username: Option<&'a str>,
}

/// The action for a PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<'a> {
    /// QoS 1 or 2: route it, then call [`Session::opened`] with the number of pending answers for `number`.
    Take {
        /// The row's number in its session.
        number: u32,
        /// The message.
        message: Message<'a>,
    },
    /// QoS 0: route the message; no answer is pending.
    TakeQos0 {
        /// The message.
        message: Message<'a>,
    },
    /// QoS 2, and the row exists: route nothing. The PUBREC is sent in its order, maybe with the next drain.
    Repeat,
    /// QoS 2, and before the last crash some sinks took its row ([`Session::already_taken_by`]): route it to the others.
    Rest {
        /// The row's number in its session.
        number: u32,
        /// Pending answers of the sinks that have the row. Add them to those of the others for [`Session::opened`].
        owed: u16,
        /// The message.
        message: Message<'a>,
    },
    /// End the connection.
    Violation(Violation),
}

impl Session {
    /// The end of a kept session; [`Monotonic::NEVER`] while connected.
    pub(super) fn expires(&self) -> Monotonic {
        match self.expiry_s {
            u32::MAX => Monotonic::NEVER,
            seconds if self.away_since == Monotonic::NEVER || seconds == 0 => Monotonic::NEVER,
            seconds => {
                self.away_since.after(Duration::from_secs(u64::from(seconds)).saturating_sub(self.away_before()))
            }
        }
    }

    /// The time for which a restored session had been away when it was restored, as far as that is known.
    pub(super) fn away_before(&self) -> Duration {
        self.kept.as_ref().map_or(Duration::ZERO, |kept| kept.away_before)
    }

    pub(super) fn new(client_id: &str, conn: Option<ConnId>, terms: Terms) -> Self {
        Self {
            client_id: client_id.into(),
            username: None,
            access: None,
            conn,
            terms,
            expiry_s: 0,
            away_since: Monotonic::NEVER,
            rests: Monotonic::NEVER,
            inflight: Inflight::default(),
            aliases: None,
            will: None,
            subscribed: None,
            outgoing: None,
            kept: None,
        }
    }

    /// The client identifier.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// Whether the session is a bridge's, and its client a remote.
    #[must_use]
    pub fn is_remote(&self) -> bool {
        self.terms.is_remote()
    }

    /// The user name of the present or last connection.
    #[must_use]
    pub fn username(&self) -> Option<&str> {
        self.username.as_deref()
    }

    /// The owner of the session.
    #[must_use]
    pub fn client(&self) -> ClientKey<'_> {
        let auth = if self.is_remote() { Some(BRIDGES) } else { self.access().map(Access::auth) };
        ClientKey { auth, client_id: &self.client_id }
    }

    /// The admission of the last connection, if the listener has an auth.
    #[must_use]
    pub fn access(&self) -> Option<&Access> {
        self.access.as_deref()
    }

    /// Whether its client may publish to the topic of a PUBLISH; an unknown alias is refused later.
    #[inline]
    pub fn is_granted_publish(&mut self, publish: &Publish<'_>) -> bool {
        let Some(access) = &mut self.access else { return true };
        let topic = match &self.aliases {
            Some(aliases) if publish.topic.is_empty() => {
                publish.properties.topic_alias().and_then(|alias| aliases.get(alias))
            }
            _ => Some(publish.topic),
        };
        topic.is_none_or(|topic| {
            let wanted = Wanted { action: Action::Publish, topic, qos: publish.qos, retain: publish.retain };
            access.may_publish(self.username.as_deref(), &self.client_id, wanted)
        })
    }

    /// The reason why the client may not publish that, for people.
    #[must_use]
    pub fn why_denied(&self, wanted: Wanted<'_>) -> Option<String> {
        self.access()?.decides(self.username(), &self.client_id, wanted)
    }

    /// The reason why the client may not do that with a filter.
    #[must_use]
    pub fn why_filter_denied(&self, action: Action, filter: &str) -> Option<String> {
        self.access()?.decides_filter(self.username(), &self.client_id, (action, filter))
    }

    /// Whether a publish that is not granted is acknowledged to a client before 5.0, which has no code for that.
    #[must_use]
    pub fn is_denial_acknowledged(&self) -> bool {
        self.access.as_ref().is_some_and(|access| access.is_denial_acknowledged())
    }

    /// Whether the client would still be admitted by the present state of its auth, and its certificate was not revoked. A client
    /// of an auth that is gone is left alone: no rule forbids it.
    pub fn is_still_admitted<'p>(
        &self,
        policy: impl Fn(&str) -> Option<&'p Arc<Policy>>,
        is_revoked: impl Fn(&CertificateId) -> bool,
    ) -> bool {
        let Some(access) = &self.access else { return true };
        if let By::Certificate(id) = access.by()
            && is_revoked(id)
        {
            return false;
        }
        policy(access.auth()).is_none_or(|of| of.still_admits(self.username.as_deref(), access.by()))
    }

    /// Applies other permissions from now on to a client that is connected.
    pub fn renew_access<'p>(&mut self, policy: impl Fn(&str) -> Option<&'p Arc<Policy>>) {
        let Some(access) = &mut self.access else { return };
        if let Some(policy) = policy(access.auth()) {
            access.renew(policy);
        }
    }

    /// Like [`Session::renew_access`], but the client is offline and is authorized again when it reconnects.
    pub fn renew_access_away<'p>(&mut self, policy: impl Fn(&str) -> Option<&'p Arc<Policy>>) {
        let Some(access) = &mut self.access else { return };
        if let Some(policy) = policy(access.auth()) {
            access.renew_away(policy);
        }
    }

    /// Whether no client can reconnect as the session's user, which was removed from the file that had it.
    pub fn has_lost_its_user<'p>(&self, policy: impl Fn(&str) -> Option<&'p Arc<Policy>>) -> bool {
        let of = self.access.as_ref().and_then(|access| Some((policy(access.auth())?, access)));
        of.is_some_and(|(policy, access)| policy.has_removed(self.username(), access.known_by()))
    }

    /// Whether the session belongs to the client that this `auth` has admitted as this identity, or has no owner. With `adopts` any
    /// identity may take up a session without an owner.
    pub(super) fn belongs_to(&self, auth: Option<&str>, identity: Option<&str>, adopts: bool) -> bool {
        match self.access() {
            None => auth.is_none() || adopts,
            Some(access) => auth == Some(access.auth()) && self.username() == identity,
        }
    }

    /// Time that the session stays without a connection, in seconds; `u32::MAX`: for ever.
    #[must_use]
    pub fn expiry_s(&self) -> u32 {
        self.expiry_s
    }

    /// The connection that has the session; `None` while it is kept without one.
    #[must_use]
    pub fn conn(&self) -> Option<ConnId> {
        self.conn
    }

    /// Whether its client has been away for this long, as far as that is known.
    #[must_use]
    pub fn is_away_for(&self, time: Duration, now: Monotonic) -> bool {
        let is_away = self.conn.is_none() && self.away_since != Monotonic::NEVER;
        is_away && self.away_before() + now.since(self.away_since) >= time
    }

    /// The properties of the present connection that matter for writing to it.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.terms.peer()
    }

    /// The topic of a PUBLISH, its alias resolved, without taking the message: a sink needs it to tell whether it has room. `None`:
    /// an unknown alias, which [`super::Sessions::publish`] will refuse.
    #[must_use]
    pub fn topic_of<'a>(&'a self, publish: &Publish<'a>) -> Option<&'a str> {
        if !publish.topic.is_empty() {
            return Some(publish.topic);
        }
        self.aliases.as_ref()?.get(publish.properties.topic_alias()?)
    }

    /// Takes a PUBLISH: makes the checks of the session, and gives QoS 1 and 2 their place in the order of answers. Called by
    /// [`super::Sessions::publish`]. `held` is the number of bytes of names chosen by clients that all sessions hold, and its
    /// bound.
    #[inline]
    pub(super) fn publish<'a>(&'a mut self, publish: &Publish<'a>, held: (&mut usize, usize)) -> Taken<'a> {
        if let Err(violation) = self.may_publish(publish) {
            return Taken::Violation(violation);
        }
        let alias = match self.note_alias(publish, held) {
            Ok(alias) => alias,
            Err(violation) => return Taken::Violation(violation),
        };
        let received = match publish.qos {
            QoS::AtMostOnce => None,
            qos => match self.inflight.receive(publish.packet_id, qos, self.terms.qos2_max) {
                Ok(received) => Some(received),
                Err(violation) => return Taken::Violation(violation),
            },
        };
        let topic = match &self.aliases {
            Some(aliases) if publish.topic.is_empty() => aliases.get(alias).unwrap_or_default(),
            _ => publish.topic,
        };
        let message = Message { topic, client_id: &self.client_id, username: self.username.as_deref() };
        match received {
            None => Taken::TakeQos0 { message },
            Some(Received::New(number)) => Taken::Take { number, message },
            Some(Received::Repeat) => Taken::Repeat,
            Some(Received::Rest { number, owed }) => Taken::Rest { number, owed, message },
        }
    }

    fn may_publish(&self, publish: &Publish<'_>) -> Result<(), Violation> {
        let terms = &self.terms;
        if publish.qos > terms.maximum_qos {
            return Err(Violation::PUBLISH_QOS);
        }
        if publish.retain && !terms.retain_available {
            return Err(Violation::PUBLISH_RETAIN);
        }
        if publish.qos == QoS::AtMostOnce {
            return Ok(());
        }
        if terms.version == Version::V5 && self.inflight.quota_used() >= terms.receive_maximum {
            return Err(Violation::RECEIVE_MAXIMUM);
        }
        if self.is_blocked() {
            return Err(Violation::BLOCKED);
        }
        Ok(())
    }

    /// Sets or checks the topic alias. Returns it; 0: none.
    #[inline]
    fn note_alias(&mut self, publish: &Publish<'_>, (held, held_max): (&mut usize, usize)) -> Result<u16, Violation> {
        let Some(alias) = publish.properties.topic_alias() else {
            return if publish.topic.is_empty() { Err(Violation::TOPIC_EMPTY) } else { Ok(0) };
        };
        if alias == 0 || alias > self.terms.topic_alias_maximum {
            return Err(Violation::ALIAS_RANGE);
        }
        if !publish.topic.is_empty() {
            let others = *held - self.alias_bytes();
            let bytes_max = (self.terms.topic_alias_bytes_max as usize).min(held_max.saturating_sub(others));
            self.aliases.get_or_insert_default().set(alias, publish.topic, bytes_max)?;
            *held = others + self.alias_bytes();
        } else if self.aliases.as_ref().and_then(|aliases| aliases.get(alias)).is_none() {
            return Err(Violation::ALIAS_UNKNOWN);
        }
        Ok(alias)
    }

    /// Sets the number of sinks that took message `number`, each of which will [`Session::complete`] it once. 0: the message is
    /// answered with `reason`: [`Reason::Unmatched`], or a refusal. Otherwise `reason` is the least grave that the answer can be
    /// (normally [`Reason::Success`]). Once per number; sinks may have completed it already.
    #[inline]
    pub fn opened(&mut self, number: u32, sinks: u16, reason: Reason) {
        self.inflight.opened(number, sinks, reason);
    }

    /// Adds a pending answer for message `number` of QoS 1 or 2, which was opened since answers were last sent.
    pub fn owes_one_more(&mut self, number: u32) {
        self.inflight.owes_one_more(number);
    }

    /// Notes that the log has a row of this open QoS 2 id: its release has to be written down, too.
    pub fn logged(&mut self, packet_id: u16) {
        self.inflight.logged(packet_id);
    }

    /// Whether a QoS 2 PUBLISH with this packet id is a repeat that goes to no sink: [`super::Sessions::publish`] will return
    /// [`Taken::Repeat`], or the reason of its refusal.
    #[must_use]
    pub fn is_repeat(&self, packet_id: u16) -> bool {
        self.inflight.is_repeat(packet_id)
    }

    /// The sinks that took the row of this QoS 2 id before the last crash; none, unless this is its first repeat.
    #[must_use]
    pub fn already_taken_by(&self, packet_id: u16) -> &[u16] {
        self.inflight.already_taken_by(packet_id)
    }

    /// Takes one sink's answer for `count` messages from number `first` on, all of which it took. The gravest of all sinks' answers
    /// is sent. Numbers that are answered, or that ended with their connection, are ignored.
    pub fn complete(&mut self, first: u32, count: u32, reason: Reason) {
        self.inflight.complete(first, count, reason);
    }

    /// Sets whether the publishes of the present connection are answered with [`Receipt`]s, as its listener is configured. Called
    /// once for each connection, before any of its packets is taken. A client before 5.0, or one that declined user properties
    /// where they are not needed [MQTT-3.1.2-29], gets none.
    pub fn want_receipts(&mut self, wanted: bool) {
        let peer = self.peer();
        self.inflight.want_receipts(wanted && peer.wants_reasons());
    }

    /// Whether [`Session::landed`] is of any use.
    #[must_use]
    #[inline]
    pub fn wants_receipts(&self) -> bool {
        self.inflight.wants_receipts
    }

    /// Notes the positions of a sink's rows of `count` messages from number `first` on: the first is that of `receipt`, each
    /// further one is at the next offset. Before [`Session::complete`] of the same messages.
    pub fn landed(&mut self, first: u32, count: u32, receipt: &Receipt) {
        self.inflight.landed(first, count, receipt);
    }

    /// Appends the answers that are ready, in order of receipt, up to the first that is not. Once per turn and connection is
    /// enough.
    #[inline]
    pub fn drain_answers(&mut self, out: &mut Vec<u8>) -> Drained {
        self.complete_releases(out);
        let (peer, access) = (self.peer(), &self.access);
        let hides_denials = || access.as_ref().is_some_and(|access| access.hides_denials());
        self.inflight.drain(&peer, hides_denials, out)
    }

    /// Whether the connection has as many pending answers as it may: stop reading it, also within the bytes at hand, and let its
    /// keep-alive rest.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.inflight.owed() >= usize::from(self.terms.inflight_max)
    }

    /// The number of pending answers of the present connection.
    #[must_use]
    pub fn answers_owed(&self) -> usize {
        self.inflight.owed()
    }

    /// The number of the oldest message with a pending answer, and that of the next message: the same if none is pending.
    #[must_use]
    pub fn owed_numbers(&self) -> (u32, u32) {
        self.inflight.numbers()
    }

    /// QoS 2 packet identifiers between PUBLISH and PUBREL.
    #[must_use]
    pub fn open_packet_ids(&self) -> usize {
        self.inflight.open_ids()
    }

    /// Bytes of which the client has chosen the number: identifier, user name, will, subscriptions, and names of topic aliases.
    pub(super) fn bytes(&self) -> usize {
        let will = self.will.as_ref().map_or(0, |will| will.bytes());
        let access = self.access.as_ref().map_or(0, |access| access.bytes());
        let names = self.client_id.len() + self.username.as_ref().map_or(0, |name| name.len());
        names + access + will + self.alias_bytes() + self.subscription_bytes()
    }

    /// Bytes of the topic aliases, which are gone with the connection.
    pub(super) fn alias_bytes(&self) -> usize {
        self.aliases.as_ref().map_or(0, |aliases| aliases.memory())
    }

    /// Ends the connection, and discards the state that belonged to it alone.
    pub(super) fn detach(&mut self) {
        self.conn = None;
        self.aliases = None;
        if let Some(access) = &mut self.access {
            access.forget_exchange();
        }
        self.inflight.park();
        self.rewind_outgoing();
    }
}
