//! Clients of slots that another instance has. Their front relays each connection to the owner of the slot, over a stream of its own, or redirects the
//! client ([`front`]). The owner takes such a stream like a connection handed over by another of its shards ([`owner`]). Streams of many clients share a
//! connection ([`trunks`]).
//!
//! Bytes go both ways unchanged ([`pipe`]). The end of one direction is passed on after all bytes before it, so that a DISCONNECT is never overtaken by the
//! end of its connection.

mod front;
mod owner;
mod pipe;
mod trunks;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use forebay_fleet::link;
use forebay_fleet::membership::{Instance, Table};
use forebay_fleet::trunk::Trunks;
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::{Came, ConnId, Monotonic, TimerId};
use forebay_service::service::resolver;

use super::Around;
use super::Core;
use super::carrier::deliver;
use super::mail::{Mail, ToDoor};
use super::ring::Ring;

/// The fault if the address of an instance leads to another one.
const WRONG_LINK: &str = "the address that it gives to others in `[broker.link]` leads to another instance";

/// The time for which a resolved address is used.
const NAME_FOR: Duration = Duration::from_secs(5);

/// The connections of a shard that are relayed, or wait for that.
#[derive(Default)]
pub(super) struct Relays {
    /// CONNECTs that wait for an owner, or for its answer.
    waiting: BTreeMap<ConnId, Waiting>,
    /// The times of CONNECTs that have waited here, or at their fronts.
    arrived: BTreeMap<ConnId, Came>,
    /// Relayed clients, and their owners.
    relayed: BTreeMap<ConnId, To>,
    /// The table at the last check of relayed clients' owners.
    seen: Arc<Table>,
    timer: Option<(Monotonic, TimerId)>,
    /// The trunks, while the shard is not being called.
    pub(super) trunks: Option<Box<Trunks>>,
    trunks_timer: Option<(Monotonic, TimerId)>,
    /// Trunks, their streams, and bytes held for these, as published.
    counted: (usize, usize, usize),
    /// The number of changes of the certificates of links.
    mark: u64,
    /// The shards that serve the slots at other instances, as far as these have said so.
    shards: HashMap<Arc<str>, Vec<u16>>,
    /// The fronts of streams of other instances, by slot of the stream.
    fronts: HashMap<u32, Front>,
    /// Addresses of links that are known by a name.
    names: HashMap<Arc<str>, Name>,
    tickets: u64,
}

/// A waiting CONNECT.
#[derive(Debug)]
struct Waiting {
    /// The client's slot. `None`: the number of slots is not known.
    slot: Option<u16>,
    /// The stream to the owner that was sent the CONNECT, and that owner.
    link: Option<(ConnId, To)>,
    /// The number of the client's bytes sent to that owner.
    sent: usize,
    /// The time of the next attempt.
    again: Monotonic,
    /// The number of answers that the client has another place at its owner.
    turned: u8,
}

/// The owner to which a client is relayed.
#[derive(Clone, Debug)]
struct To {
    slot: u16,
    name: Arc<str>,
    /// The incarnation that the table named.
    named: u128,
    /// The incarnation that has answered: the table may still name its predecessor.
    answered: u128,
    /// The number of received bytes of its answer. From the first one on, the client is that process's.
    heard: usize,
}

/// The instance that a connection came from.
#[derive(Debug)]
struct Front {
    name: Arc<str>,
    /// Whether the front was notified that its client is served here.
    is_answered: bool,
}

/// The addresses of a name.
#[derive(Debug, Default)]
struct Name {
    /// The ticket of the pending question.
    asked: Option<u64>,
    found: Vec<SocketAddr>,
    until: Monotonic,
}

impl Relays {
    /// The front of a connection. `None`: its client has connected to this instance.
    pub(super) fn front(&self, conn: ConnId) -> Option<&Arc<str>> {
        self.fronts.get(&conn.slot).map(|front| &front.name)
    }

    /// Notes since when a CONNECT waits. An earlier time stays.
    pub(super) fn waits_since(&mut self, conn: ConnId, came: Option<Came>) {
        came.into_iter().for_each(|came| _ = self.arrived.entry(conn).or_insert(came));
    }

    /// Takes the time since which a CONNECT has waited. `None`: it has not.
    pub(super) fn has_waited(&mut self, conn: ConnId) -> Option<Came> {
        self.arrived.remove(&conn)
    }

    /// The address of a peer's link. `None`: it has none, or its name is being looked up.
    fn address_of(&mut self, around: &Around, shard: usize, now: Monotonic, of: &Instance) -> Option<SocketAddr> {
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
            let answer =
                Box::new(move |found| deliver(&post, shard, Mail::Door(ToDoor::PeerResolved { ticket, found })));
            // Fails only when the resolver's thread is gone, which is when the process ends.
            let _ = around.resolver.send(resolver::Question { host: host.to_owned(), port, answer });
        }
        name.found.first().copied()
    }

    /// Takes the addresses of a name. Known addresses stay if the lookup failed.
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

    /// Notes the front of a connection received over a link.
    pub(super) fn came_by(&mut self, conn: ConnId, name: Arc<str>) {
        self.doors.relays.fronts.insert(conn.slot, Front { name, is_answered: false });
        self.here.numbers.raise(M::RelayedHere, 1);
    }

    /// Forgets the front of a connection. Returns whether there was one.
    pub(super) fn forget_front(&mut self, conn: ConnId) -> bool {
        let has_front = self.doors.relays.fronts.remove(&conn.slot).is_some();
        self.here.numbers.lower(M::RelayedHere, u64::from(has_front));
        has_front
    }

    /// Publishes the number of waiting CONNECTs.
    fn count_waiting(&mut self) {
        self.here.numbers.set(M::RelaysWaiting, self.doors.relays.waiting.len() as u64);
    }
}
