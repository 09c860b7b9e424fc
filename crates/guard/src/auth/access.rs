//! The access of a session's client: its identity, and the rules that hold for it.

use std::sync::Arc;

use super::acl::{Action, Client, Grants, Subscription, Wanted};
use super::enhanced::Exchange;
use super::policy::{Admission, By, Policy, Refusal};
use super::shares::Place;

/// The longest topic in bytes that is remembered; a longer one is looked up each time.
const MEMO_BYTES_MAX: usize = 512;

/// The access of a session's last connection. A session restored from an earlier process knows only the name of its `auth`.
#[derive(Debug)]
pub struct Access {
    /// The name of the `[auth.NAME]` that admitted the client.
    auth: Box<str>,
    by: By,
    /// The policy; `None`: the client has not connected since this process began.
    policy: Option<Arc<Policy>>,
    /// The grants of the last connection's token.
    grants: Option<Arc<Grants>>,
    /// The last topic that was granted: devices mostly publish to one.
    granted: String,
    /// The session's place among the kept sessions of its user, where these are bounded.
    place: Option<Box<Place>>,
    /// The exchange of a client that authenticates again, and its deadline.
    exchange: Option<Box<(Exchange, u64)>>,
}

impl Access {
    /// The access of a client that has just been admitted.
    #[must_use]
    pub fn new(admission: &Admission) -> Self {
        let policy = Arc::clone(&admission.policy);
        Self {
            auth: policy.name().into(),
            by: admission.by.clone(),
            policy: Some(policy),
            grants: admission.grants.clone(),
            granted: String::new(),
            place: None,
            exchange: None,
        }
    }

    /// The access of a session that an earlier process has left.
    #[must_use]
    pub fn restored(auth: &str) -> Self {
        Self {
            auth: auth.into(),
            by: By::Nothing,
            policy: None,
            grants: None,
            granted: String::new(),
            place: None,
            exchange: None,
        }
    }

    /// The name of the `[auth.NAME]` that admitted the client.
    #[must_use]
    pub fn auth(&self) -> &str {
        &self.auth
    }

    /// Whether the session has a place among the kept sessions of its user.
    #[must_use]
    pub fn has_place(&self) -> bool {
        self.place.is_some()
    }

    /// Replaces the place, or removes it. Returns the one before.
    pub fn replace_place(&mut self, place: Option<Box<Place>>) -> Option<Box<Place>> {
        std::mem::replace(&mut self.place, place)
    }

    /// The credential by which the client was admitted.
    #[must_use]
    pub fn by(&self) -> &By {
        &self.by
    }

    /// The credential by which the client was admitted; `None`: not known, for a session of an earlier process.
    #[must_use]
    pub fn known_by(&self) -> Option<&By> {
        self.policy.as_ref().map(|_| &self.by)
    }

    /// Changes the name of the auth that admitted the client.
    pub fn rename(&mut self, auth: &str) {
        self.auth = auth.into();
    }

    /// Replaces the policy.
    pub fn renew(&mut self, policy: &Arc<Policy>) {
        self.policy = Some(Arc::clone(policy));
        self.granted = String::new();
    }

    /// [`Access::renew`] for a session without its client. A session of an earlier process has to wait for its client: what its
    /// token granted is not known.
    pub fn renew_away(&mut self, policy: &Arc<Policy>) {
        if self.policy.is_some() {
            self.renew(policy);
        }
    }

    /// The grants of the last connection's token.
    #[must_use]
    pub fn grants(&self) -> Option<&Arc<Grants>> {
        self.grants.as_ref()
    }

    /// The token's roles that are not configured: they grant nothing.
    #[must_use]
    pub fn unknown_roles(&self) -> Vec<&str> {
        let (Some(policy), Some(grants)) = (&self.policy, &self.grants) else { return Vec::new() };
        grants.roles().filter(|role| policy.role(role).is_none()).collect()
    }

    /// Whether the client may publish to a topic.
    #[inline]
    pub fn may_publish(&mut self, identity: Option<&str>, client_id: &str, wanted: Wanted<'_>) -> bool {
        let topic = wanted.topic;
        if self.granted == topic {
            return true;
        }
        let Some(policy) = &self.policy else { return false };
        let grants = self.grants.as_deref();
        if policy.acl().is_none() && grants.is_none() {
            return true;
        }
        let is_granted = policy.allows(grants, Client { identity, client_id }, wanted);
        if is_granted && grants.is_none_or(Grants::is_of_topic) && topic.len() <= MEMO_BYTES_MAX {
            self.granted.clear();
            self.granted.push_str(topic);
        }
        is_granted
    }

    /// What decides whether the client may publish to a topic, for people.
    #[must_use]
    pub fn decides(&self, identity: Option<&str>, client_id: &str, wanted: Wanted<'_>) -> Option<String> {
        let policy = self.policy.as_ref()?;
        Some(policy.decides(self.grants.as_deref(), Client { identity, client_id }, wanted))
    }

    /// Like [`Access::decides`], for an action with a filter.
    #[must_use]
    pub fn decides_filter(&self, identity: Option<&str>, client_id: &str, wanted: (Action, &str)) -> Option<String> {
        let policy = self.policy.as_ref()?;
        let (_, by) = policy.subscription(self.grants.as_deref(), Client { identity, client_id }, wanted);
        Some(by.map_or_else(|| "no rule grants any topic that it matches".to_owned(), |by| policy.words(by)))
    }

    /// Whether the client may subscribe to, or replay, a filter. A session of an earlier process is checked when its client is
    /// back.
    #[must_use]
    pub fn subscription(&self, identity: Option<&str>, client_id: &str, wanted: (Action, &str)) -> Subscription {
        let Some(policy) = &self.policy else { return Subscription::Checked };
        policy.subscription(self.grants.as_deref(), Client { identity, client_id }, wanted).0
    }

    /// Whether the client may receive a message. A session of an earlier process is checked when its client is back: until then
    /// its messages wait.
    #[must_use]
    pub fn may_receive(&self, identity: Option<&str>, client_id: &str, wanted: Wanted<'_>) -> bool {
        let policy = self.policy.as_ref();
        policy.is_none_or(|policy| policy.allows(self.grants.as_deref(), Client { identity, client_id }, wanted))
    }

    /// Whether a refused publish of a 3.x client is acknowledged.
    #[must_use]
    pub fn is_denial_acknowledged(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.settings().is_denial_acknowledged)
    }

    /// Whether the client gets no hint that an action was denied for lack of permission.
    #[must_use]
    pub fn hides_denials(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.settings().hides_denials)
    }

    /// Begins an exchange by which the client authenticates again. Returns the data of the server's AUTH. The exchange may go on
    /// until `until`, by the clock of the caller. `None`: one has begun already.
    pub fn begin(&mut self, data: Option<&[u8]>, until: u64) -> Option<Result<Vec<u8>, Refusal>> {
        let (None, Some(method), Some(policy)) = (&self.exchange, self.by.authentication_method(), &self.policy) else {
            return None;
        };
        let begun = policy.begin(method, data);
        Some(begun.map(|(exchange, answer)| {
            self.exchange = Some(Box::new((exchange, until)));
            answer
        }))
    }

    /// Ends the exchange. Returns the data of the server's last AUTH. The client must be who it was. `None`: none has begun.
    pub fn finish(
        &mut self,
        data: Option<&[u8]>,
        now: u64,
        identity: Option<&str>,
    ) -> Option<Result<Box<[u8]>, Refusal>> {
        let (exchange, until) = *self.exchange.take()?;
        if now > until {
            return Some(Err(Refusal::Exchange("the exchange took too long")));
        }
        let finished = exchange.finish(data).and_then(|admission| {
            if admission.identity.as_deref() != identity {
                return Err(Refusal::Exchange("another user than the one that is connected"));
            }
            self.by = admission.by;
            Ok(admission.data.unwrap_or_default())
        });
        Some(finished)
    }

    /// Forgets the exchange: the connection is gone.
    pub fn forget_exchange(&mut self) {
        self.exchange = None;
    }

    /// Frees memory that only saves time.
    pub fn rest(&mut self) {
        self.granted = String::new();
    }

    /// The memory that grows with a client's input, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.auth.len() + self.grants.as_ref().map_or(0, |grants| grants.bytes())
    }
}
