//! The contents of the files that listeners, clusters and bridges need beside the configuration. Read before a shard gets them, shared by all of
//! them, and replaced as a whole.

use std::path::Path;
use std::sync::Arc;

use forebay_runtime::seam::ListenerId;

use crate::auth::acl::{Client, Grants, Wanted};
use crate::auth::{By, Policy};
use crate::secure::{
    Authorities, CertificateId, Clients, Outgoing, OutgoingSettings, OwnCertificate, Pair, Server, Settings,
};

type List<T> = Vec<Option<Arc<T>>>;

fn kept<'r, T: 'r>(new: List<T>, running: impl Fn(usize, &T) -> Option<&'r Arc<T>>) -> List<T> {
    let kept = |(place, new): (usize, Option<Arc<T>>)| {
        let new = new?;
        Some(running(place, &new).map_or_else(|| Arc::clone(&new), Arc::clone))
    };
    new.into_iter().enumerate().map(kept).collect()
}

fn are_same<T>(a: &List<T>, b: &List<T>) -> bool {
    let is_same = |(a, b): (&Option<Arc<T>>, &Option<Arc<T>>)| match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    };
    a.len() == b.len() && a.iter().zip(b).all(is_same)
}

/// TLS between instances, of both sides: each has a certificate, by which the other one knows it for an instance.
#[derive(Clone, Debug)]
pub struct LinkTls {
    /// TLS of connections that other instances make.
    pub server: Arc<Server>,
    /// TLS of connections to other instances.
    pub outgoing: Arc<Outgoing>,
}

impl LinkTls {
    /// Reads and checks the files: the certificate of this instance with its key, and the CA of all instances' certificates, in PEM.
    ///
    /// # Errors
    /// Every problem of the files, each with the file's name.
    pub fn load(own: &Pair, ca: &Path) -> Result<Self, Vec<String>> {
        let clients = Clients { ca: ca.to_owned(), is_required: true, crl: None, is_expired_crl_refused: false };
        let server = Settings {
            certificates: vec![own.clone()],
            is_1_2_allowed: false,
            alpn: Vec::new(),
            is_web: false,
            clients: Some(clients),
            tickets: false,
        };
        let outgoing = OutgoingSettings {
            ca: Authorities::File(ca.to_owned()),
            identity: Some(OwnCertificate::Files(own.clone())),
            server_name: None,
            is_name_checked: true,
        };
        // Both sides read the same files: the problems of one are those of both.
        Ok(Self { server: Arc::new(Server::load(&server)?), outgoing: Arc::new(Outgoing::load(&outgoing)?) })
    }

    /// Whether both have the same contents.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.server.is_same(&other.server) && *self.outgoing == *other.outgoing
    }
}

/// The files' contents. Lists are in the order of the configuration's listeners, clusters and bridges.
#[derive(Clone, Debug, Default)]
pub struct Edge {
    /// TLS of each listener with TLS.
    pub tls: List<Server>,
    /// The policy of each listener that has an `auth`.
    pub auth: List<Policy>,
    /// TLS to each cluster that has it.
    pub kafka: List<Outgoing>,
    /// TLS to each bridge's remote that has it.
    pub bridges: List<Outgoing>,
    /// TLS of the control plane, which no shard uses.
    pub control: Option<Arc<Server>>,
    /// TLS between instances.
    pub link: Option<LinkTls>,
    /// The new name of each `[auth.NAME]` that the service has seen renamed.
    pub renamed: Vec<(Box<str>, Box<str>)>,
}

impl Edge {
    /// Whether there are no files.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let mut outgoing = self.kafka.iter().chain(&self.bridges);
        let is_plain = self.tls.iter().all(Option::is_none) && outgoing.all(Option::is_none);
        is_plain && self.auth.iter().all(Option::is_none) && self.control.is_none() && self.link.is_none()
    }

    /// Takes over unchanged contents from `running`: a reload that finds nothing new changes nothing.
    #[must_use]
    pub fn or_running(self, running: &Self) -> Self {
        let is_same = |new: &Arc<Server>| running.control.as_ref().filter(|old| old.is_same(new)).cloned();
        let renamed = self.renamed_since(running);
        Self {
            renamed,
            control: self.control.map(|new| is_same(&new).unwrap_or(new)),
            link: self.link.map(|new| running.link.clone().filter(|old| old.is_same(&new)).unwrap_or(new)),
            tls: kept(self.tls, |place, new: &Server| running.tls.get(place)?.as_ref().filter(|old| old.is_same(new))),
            auth: kept(self.auth, |_, new: &Policy| running.policy(new.name()).filter(|old| old.is_same(new))),
            kafka: kept(self.kafka, |place, new: &Outgoing| running.kafka(place).filter(|old| ***old == *new)),
            bridges: kept(self.bridges, |place, new: &Outgoing| running.bridge(place).filter(|old| ***old == *new)),
        }
    }

    /// Removed names, each with a new one of the same settings and files: if there is one such pair, it is the same auth.
    fn renamed_since(&self, running: &Self) -> Vec<(Box<str>, Box<str>)> {
        let named = |edge: &Self, name: &str| edge.auth.iter().flatten().any(|policy| policy.name() == name);
        let mut gone: Vec<_> = running.auth.iter().flatten().filter(|old| !named(self, old.name())).collect();
        gone.sort_unstable_by_key(|old| old.name());
        gone.dedup_by_key(|old| old.name());
        let mut renamed: Vec<(Box<str>, Box<str>)> = Vec::new();
        for old in &gone {
            let of_old = |new: &&Arc<Policy>| !named(running, new.name()) && new.is_same_but_for_the_name(old);
            let mut new: Vec<_> = self.auth.iter().flatten().filter(of_old).map(|new| new.name()).collect();
            new.sort_unstable();
            new.dedup();
            let is_alone = gone.iter().filter(|other| other.is_same_but_for_the_name(old)).count() == 1;
            if let ([new], true) = (&new[..], is_alone) {
                renamed.push((old.name().into(), (*new).into()));
            }
        }
        // An auth that was renamed before has the name that its new name has now.
        for (old, then) in running.renamed.iter().filter(|(old, _)| !named(self, old)) {
            let now =
                renamed.iter().find(|(name, _)| name == then).map_or_else(|| then.clone(), |(_, now)| now.clone());
            if named(self, &now) {
                renamed.push((old.clone(), now));
            }
        }
        renamed
    }

    /// Whether clients are admitted by the same files.
    #[must_use]
    pub fn admits_as(&self, other: &Self) -> bool {
        are_same(&self.tls, &other.tls) && are_same(&self.auth, &other.auth)
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

    /// TLS to the remote of a bridge, if it has it.
    #[must_use]
    pub fn bridge(&self, bridge: usize) -> Option<&Arc<Outgoing>> {
        self.bridges.get(bridge)?.as_ref()
    }

    /// The policy of a listener, if it has an `auth`.
    #[must_use]
    pub fn auth(&self, listener: ListenerId) -> Option<&Arc<Policy>> {
        self.auth.get(usize::from(listener.0))?.as_ref()
    }

    /// The policy of this name, or with this former name, if a listener has it.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&Arc<Policy>> {
        let of = |name: &str| self.auth.iter().flatten().find(|policy| policy.name() == name);
        of(name).or_else(|| self.renamed.iter().find(|(old, _)| **old == *name).and_then(|(_, now)| of(now)))
    }

    /// Whether the client of an earlier admission by an `[auth.NAME]` would still be admitted. `None`: the admission is not known; then the client's user
    /// must not have been removed.
    #[must_use]
    pub fn still_admits(&self, auth: &str, identity: Option<&str>, by: Option<&By>) -> bool {
        let Some(policy) = self.policy(auth) else { return false };
        let Some(by) = by else { return !policy.has_removed(identity, None) };
        let is_its = |of: &Option<Arc<Policy>>| of.as_ref().is_some_and(|of| of.name() == policy.name());
        let servers = self.auth.iter().zip(&self.tls).filter(|(of, _)| is_its(of));
        let has_revoked =
            |id: &CertificateId| servers.filter_map(|(_, tls)| tls.as_ref()).any(|tls| tls.has_revoked(id));
        policy.still_admits(identity, by) && !matches!(by, By::Certificate(id) if has_revoked(id))
    }

    /// Whether the rules of an `[auth.NAME]` allow a client the action now. They do not if no listener has that auth.
    #[must_use]
    pub fn allows(&self, auth: &str, grants: Option<&Grants>, client: Client<'_>, wanted: Wanted<'_>) -> bool {
        self.policy(auth).is_some_and(|policy| policy.allows(grants, client, wanted))
    }
}
