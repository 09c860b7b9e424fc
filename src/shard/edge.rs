//! What listeners and clusters need beside the configuration: what its files hold. Read before a shard gets it, shared by all of them, and
//! replaced as a whole.

use std::sync::Arc;

use crate::auth::Policy;
use crate::runtime::seam::ListenerId;
use crate::secure::{Outgoing, Server};

/// See the module. Lists are in the order of the configuration's listeners, and of its clusters.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// TLS of each listener that has it.
    pub tls: Vec<Option<Arc<Server>>>,
    /// Who may connect to each listener that asks for it.
    pub auth: Vec<Option<Arc<Policy>>>,
    /// TLS to each cluster that has it.
    pub kafka: Vec<Option<Arc<Outgoing>>>,
}

impl Edge {
    /// Whether there are no files.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_plain = self.tls.iter().all(Option::is_none) && self.kafka.iter().all(Option::is_none);
        is_plain && self.auth.iter().all(Option::is_none)
    }

    /// TLS of a listener, if it has it.
    #[must_use]
    pub fn tls(&self, listener: ListenerId) -> Option<&Arc<Server>> {
        self.tls.get(usize::from(listener.0))?.as_ref()
    }

    /// TLS to a cluster, if it has it.
    #[must_use]
    pub fn kafka(&self, cluster: usize) -> Option<&Arc<Outgoing>> {
        self.kafka.get(cluster)?.as_ref()
    }

    /// Who may connect to a listener, if it asks for that.
    #[must_use]
    pub fn auth(&self, listener: ListenerId) -> Option<&Arc<Policy>> {
        self.auth.get(usize::from(listener.0))?.as_ref()
    }

    /// The `[auth.NAME]` of this name, if a listener has it.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        self.auth.iter().flatten().find(|policy| policy.name() == name)
    }
}
