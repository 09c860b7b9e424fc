//! Clients of slots that another instance has. Their front relays their connections to the owner of the slot, over a connection for each, or
//! tells them where to connect ([`front`]); the owner takes such a connection as one that another of its shards has handed over ([`owner`]).
//!
//! Bytes go both ways as they are ([`pipe`]). The end of one direction is passed on after all bytes before it, so that a DISCONNECT is never
//! overtaken by the end of its connection.

mod front;
mod owner;
mod pipe;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::link;
use crate::membership::{Instance, Table};
use crate::metrics::spec::ShardMetric as M;
use crate::runtime::seam::{ConnId, Monotonic, TimerId};
use crate::service::resolver;

use super::carrier::deliver;
use super::mail::Mail;
use super::{Core, Ring, Surroundings};

/// How long an address of a name is used.
const NAME_FOR: Duration = Duration::from_secs(5);

/// The connections of a shard that are relayed, or wait for that.
#[derive(Default)]
pub(super) struct Relays {
    /// CONNECTs that wait for an owner, or for its answer.
    waiting: BTreeMap<ConnId, Waiting>,
    /// Clients that are relayed, and where to.
    relayed: BTreeMap<ConnId, To>,
    /// The table by which it was last looked whether they still belong there.
    seen: Arc<Table>,
    timer: Option<(Monotonic, TimerId)>,
    /// The fronts of connections that came over a link, by slot of the connection.
    fronts: HashMap<u32, Front>,
    /// Addresses of links that are known by a name.
    names: HashMap<Arc<str>, Name>,
    tickets: u64,
}

/// A CONNECT that waits.
#[derive(Debug)]
struct Waiting {
    /// The client's slot; `None`: it is not known how many there are.
    slot: Option<u16>,
    /// The connection to the owner that has been sent it, and that owner.
    link: Option<(ConnId, To)>,
    /// How many bytes of the client that was sent.
    sent: usize,
    /// When the next attempt may be made.
    again: Monotonic,
}

/// The owner to which a client is relayed.
#[derive(Clone, Debug)]
struct To {
    slot: u16,
    name: Arc<str>,
    /// The process that the table named.
    named: u128,
    /// The process that has answered: the table may name an earlier one in the place of which it came.
    answered: u128,
    /// How many bytes of its answer have come. From the first one on, the client is that process's.
    heard: usize,
}

/// The instance that a connection came from.
#[derive(Debug)]
struct Front {
    name: Arc<str>,
    /// Whether it was told that its client is served here.
    is_answered: bool,
}

/// The addresses of a name.
#[derive(Debug, Default)]
struct Name {
    /// The ticket of the question that is under way.
    asked: Option<u64>,
    found: Vec<SocketAddr>,
    until: Monotonic,
}

impl Relays {
    /// The front of a connection; `None`: its client has connected here.
    pub(super) fn front(&self, conn: ConnId) -> Option<&Arc<str>> {
        self.fronts.get(&conn.slot).map(|front| &front.name)
    }

    /// The address of a peer's link; `None`: it has none, or its name is being looked up.
    fn address_of(&mut self, around: &Surroundings, shard: usize, now: Monotonic, of: &Instance) -> Option<SocketAddr> {
        if let Some(address) = link::address(of) {
            return Some(address);
        }
        let (host, port) = link::endpoint(of)?;
        let name = self.names.entry(Arc::clone(&of.link)).or_default();
        if now >= name.until && name.asked.is_none() {
            self.tickets += 1;
            let ticket = self.tickets;
            name.asked = Some(ticket);
            let post = around.post.clone();
            let answer = Box::new(move |found| deliver(&post, shard, Mail::PeerResolved { ticket, found }));
            // Fails only when the resolver's thread is gone, which is when the process ends.
            let _ = around.resolver.send(resolver::Question { host: host.to_owned(), port, answer });
        }
        name.found.first().copied()
    }

    /// Takes the addresses of a name. Those that are known stay where it could not be looked up.
    fn resolved(&mut self, ticket: u64, found: Result<Vec<SocketAddr>, String>, now: Monotonic) {
        let Some(name) = self.names.values_mut().find(|name| name.asked == Some(ticket)) else { return };
        (name.asked, name.until) = (None, now.after(NAME_FOR));
        name.found = found.unwrap_or_else(|_| std::mem::take(&mut name.found));
    }
}

impl Core {
    /// Takes the addresses of a peer's link.
    pub(super) fn peer_resolved(&mut self, io: &mut Ring<'_>, ticket: u64, found: Result<Vec<SocketAddr>, String>) {
        self.doors.relays.resolved(ticket, found, io.now());
        self.look_for_owners(io);
    }

    /// Notes the front of a connection, which came over a link.
    pub(super) fn came_by(&mut self, conn: ConnId, name: Arc<str>) {
        self.doors.relays.fronts.insert(conn.slot, Front { name, is_answered: false });
        self.broker.numbers.raise(M::RelayedHere, 1);
    }

    /// Forgets the front of a connection. Whether there is one.
    pub(super) fn forget_front(&mut self, conn: ConnId) -> bool {
        let has_front = self.doors.relays.fronts.remove(&conn.slot).is_some();
        self.broker.numbers.lower(M::RelayedHere, u64::from(has_front));
        has_front
    }

    /// Notes how many CONNECTs wait.
    fn count_waiting(&mut self) {
        self.broker.numbers.set(M::RelaysWaiting, self.doors.relays.waiting.len() as u64);
    }
}
