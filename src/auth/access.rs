//! What a session's client may do: its identity, and the rules that hold for it.

use std::sync::Arc;

use super::acl::{Action, Client};
use super::policy::{Admission, By, Policy};

/// A topic that is longer is looked up each time.
const MEMO_BYTES_MAX: usize = 512;

/// Of the last connection of a session. One that an earlier start has left knows the name of its `auth` only.
#[derive(Debug)]
pub struct Access {
    /// The name of the `[auth.NAME]` that admitted it.
    auth: Box<str>,
    by: By,
    /// `None`: it has not connected since the start.
    policy: Option<Arc<Policy>>,
    /// The last topic that it was granted: devices mostly publish to one.
    granted: String,
}

impl Access {
    /// Of a client that has just been admitted.
    #[must_use]
    pub fn new(admission: &Admission) -> Self {
        let policy = Arc::clone(&admission.policy);
        Self { auth: policy.name().into(), by: admission.by.clone(), policy: Some(policy), granted: String::new() }
    }

    /// Of a session that an earlier start has left.
    #[must_use]
    pub fn restored(auth: &str) -> Self {
        Self { auth: auth.into(), by: By::Nothing, policy: None, granted: String::new() }
    }

    /// The name of the `[auth.NAME]` that admitted it.
    #[must_use]
    pub fn auth(&self) -> &str {
        &self.auth
    }

    /// What it was admitted by.
    #[must_use]
    pub fn by(&self) -> &By {
        &self.by
    }

    /// Other rules hold from now on.
    pub fn renew(&mut self, policy: &Arc<Policy>) {
        self.policy = Some(Arc::clone(policy));
        self.granted = String::new();
    }

    /// Whether its client may publish to a topic.
    #[inline]
    pub fn may_publish(&mut self, identity: Option<&str>, client_id: &str, topic: &str) -> bool {
        if self.granted == topic {
            return true;
        }
        let Some(policy) = &self.policy else { return false };
        if policy.acl().is_none() {
            return true;
        }
        let is_granted = policy.decide(Client { identity, client_id }, Action::Publish, topic).is_granted;
        if is_granted && topic.len() <= MEMO_BYTES_MAX {
            self.granted.clear();
            self.granted.push_str(topic);
        }
        is_granted
    }

    /// Whether a refused publish of a 3.x client is acknowledged.
    #[must_use]
    pub fn is_denial_acknowledged(&self) -> bool {
        self.policy.as_ref().is_some_and(|policy| policy.settings().is_denial_acknowledged)
    }

    /// Gives back what is only for speed.
    pub fn rest(&mut self) {
        self.granted = String::new();
    }

    /// Bytes of it whose number others have chosen.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.auth.len()
    }
}
