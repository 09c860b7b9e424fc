//! The identity of the cluster. Producer IDs, sequence numbers, epochs and offsets belong to a cluster: another one that answers under the
//! same address (rebuilt, a name that points elsewhere) issues the same producer IDs again, and would mistake the records for another
//! producer's, answer 0 and drop them. So no request goes to a broker of a cluster that is not the known one.
//!
//! Metadata decides which cluster is the known one. Every other connection begins with a request for its broker's cluster: a process that
//! listens where another one did has a new connection. Brokers that give no cluster ID
//! (Metadata below 2) are trusted.

use std::rc::Rc;

use super::{Client, Owner};
use crate::types::ClientEvent;
use forebay_runtime::seam::Monotonic;

/// The first version of Metadata with the cluster ID.
const TELLS_CLUSTER: i16 = 2;

impl Client {
    /// Takes a usable connection, and requests its broker's cluster where that matters.
    ///
    /// # Errors
    /// The request could not be sent.
    pub(super) fn introduce(&mut self, owner: Owner, now: Monotonic) -> Result<(), String> {
        let is_known = self.cluster.is_some();
        let Some((channel, shared)) = self.channel(owner) else { return Ok(()) };
        // A renewed login is on a connection that was checked before.
        if channel.ready_ref().is_some() {
            return Ok(());
        }
        let Some(connection) = channel.connection() else { return Ok(()) };
        let tells = connection.versions.is_some_and(|versions| versions.metadata >= TELLS_CLUSTER);
        if owner == Owner::Metadata || !is_known || !tells {
            self.establish(owner, now);
            return Ok(());
        }
        connection.ask_metadata(Vec::new(), false, shared, now)
    }

    /// Opens the connection to requests.
    fn establish(&mut self, owner: Owner, now: Monotonic) {
        if owner == Owner::Metadata {
            // The first answer names the cluster, before any producer ID is issued by it.
            self.topics.unanswered(&[], now);
        }
        let Some((channel, shared)) = self.channel(owner) else { return };
        channel.established(shared);
        if let Some(connection) = channel.connection() {
            connection.standing.withdraw(&shared.settings, &mut shared.rng, now);
        }
    }

    /// Takes the cluster that a broker reports. A broker of another cluster is not used: metadata is requested again, over a new
    /// connection.
    pub(super) fn on_introduced(&mut self, owner: Owner, cluster: Option<Rc<str>>, now: Monotonic) {
        let other = self.cluster.as_ref().zip(cluster).filter(|(known, other)| *known != other);
        let Some((known, other)) = other else {
            return self.establish(owner, now);
        };
        let why = format!("it belongs to the Kafka cluster {other}, not to {known}");
        if self.metadata.ready_ref().is_some() {
            // The bootstrap list decides, not the brokers that the known cluster has advertised.
            (self.candidate, self.tried) = (0, 0);
            self.let_go_of_metadata(now);
        }
        self.fail(owner, &why, now);
    }

    /// Begins with a cluster that was not known or differs from the known one. All connections lead to the previous one: their requests
    /// fail, and then the change is reported.
    pub(super) fn begin_cluster(&mut self, id: Rc<str>, now: Monotonic) {
        if let Some(before) = self.cluster.replace(Rc::clone(&id)) {
            tracing::error!(from = %before, to = %id, "another Kafka cluster answers under the same addresses");
            for owner in self.owners() {
                if owner != Owner::Metadata {
                    self.lose(owner, "another Kafka cluster answers", now);
                }
            }
            self.channels.clear();
            self.ask_channels.clear();
            self.fetch_channels.clear();
            self.topics.refresh(now);
        }
        self.shared.event(ClientEvent::Cluster(id));
    }
}
