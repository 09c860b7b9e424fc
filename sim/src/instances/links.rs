//! Connections between instances: a front relays a client's connection to the owner of its slot. Bytes and ends arrive in order in each direction, late, or
//! for a while not at all. At the owner such a connection is a socket, like a client's.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;

use forebay::link::LISTENER;
use forebay::runtime::seam::{Closed, ConnId};

use super::{Happening, Instances};
use crate::plan::instances::name_of;
use crate::process::In;
use crate::time::MS;
use crate::world::{Client, Event, Socket, World};

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the front to the owner.
    ToOwner,
    /// From the owner to the front.
    ToFront,
}

/// A piece of a stream.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes.
    Bytes(Vec<u8>),
    /// The end of the stream; `true`: the connection was reset.
    End(bool),
}

/// A connection between two instances.
#[derive(Debug)]
pub(super) struct Relay {
    /// The instances, by index: the front's, and the dialled one.
    pub(super) between: (usize, usize),
    /// The front's process, shard and connection.
    front: (u32, usize, ConnId),
    /// The owner's process and socket, once it is connected.
    owner: Option<(u32, u64)>,
    /// Arrival time of the last piece, by direction.
    clear_at: [u64; 2],
    /// Pieces that have arrived and were not taken, by direction.
    waiting: [VecDeque<Piece>; 2],
    /// Whether the end that receives in this direction is gone, or has heard of the end of the stream, and takes
    /// nothing more.
    is_over: [bool; 2],
}

fn closed(is_reset: bool) -> Closed {
    if is_reset { Closed::Error(ErrorKind::ConnectionReset.into()) } else { Closed::Peer }
}

impl Instances {
    /// The socket of a connection at its owner.
    pub(crate) fn socket_of(&self, number: u64) -> Option<u64> {
        self.relays.get(&number)?.owner.map(|(_, socket)| socket)
    }

    /// The address of the front of a connection.
    pub(crate) fn address_behind(&self, client: Client) -> Option<SocketAddr> {
        let Client::Relay(number) = client else { return None };
        self.relays.get(&number).map(|relay| super::address(relay.between.0))
    }

    /// The connection's id at the front.
    pub(crate) fn front_of(&self, number: u64) -> Option<ConnId> {
        self.relays.get(&number).map(|relay| relay.front.2)
    }

    /// Notes that the front has heard of the end of its connection.
    pub(crate) fn front_has_heard(&mut self, number: u64) -> Option<ConnId> {
        let relay = self.relays.get_mut(&number)?;
        relay.is_over[Way::ToFront as usize] = true;
        let conn = relay.front.2;
        self.drop_if_over(number);
        Some(conn)
    }

    /// Notes that the owner has heard of the end of its connection.
    pub(crate) fn owner_has_heard(&mut self, number: u64) {
        if let Some(relay) = self.relays.get_mut(&number) {
            relay.is_over[Way::ToOwner as usize] = true;
        }
        self.drop_if_over(number);
    }

    fn drop_if_over(&mut self, number: u64) {
        if self.relays.get(&number).is_some_and(|relay| relay.is_over == [true; 2]) {
            self.relays.remove(&number);
        }
    }

    /// Time until which nothing goes between two instances in this direction.
    fn cut_until(&self, from: usize, to: usize, time: u64) -> Option<u64> {
        self.cuts.get(&(from, to)).copied().filter(|until| *until > time)
    }
}

impl World {
    fn link_way(&mut self) -> u64 {
        self.instances.rng.u64(1..=self.plan.latency.min(5 * MS))
    }

    /// Connects a shard to another instance.
    pub(crate) fn dial_instance(&mut self, (shard, conn): (usize, ConnId), to: usize) {
        let Some(from) = self.instances.parts.get(&self.life).map(|part| part.index) else { return };
        self.next_link += 1;
        let number = self.next_link;
        let at = self.time + 2 * self.link_way();
        let relay = Relay {
            between: (from, to),
            front: (self.life, shard, conn),
            owner: None,
            clear_at: [at; 2],
            waiting: Default::default(),
            is_over: [false; 2],
        };
        self.instances.relays.insert(number, relay);
        self.schedule(at, Event::Instance(Happening::Linked(number)));
    }

    /// Connects at the kernel of the other instance, if a process is there.
    pub(super) fn linked(&mut self, number: u64) {
        let time = self.time;
        let Some(relay) = self.instances.relays.get(&number).filter(|relay| relay.owner.is_none()) else { return };
        let ((from, to), front) = (relay.between, relay.front);
        if relay.is_over[Way::ToFront as usize] {
            self.instances.relays.remove(&number);
            return;
        }
        let cuts = [self.instances.cut_until(from, to, time), self.instances.cut_until(to, from, time)];
        if let Some(until) = cuts.into_iter().flatten().max() {
            return self.schedule(until, Event::Instance(Happening::Linked(number)));
        }
        let life = self.instances.newest(to);
        let process = life.and_then(|life| self.broker.others.get(&life));
        // A stopping process does not listen any more; a starting one has its port, and accepts later.
        let listens =
            process.is_some_and(|process| !(process.stopping && process.hosts.iter().all(|host| host.ring.deaf)));
        let (Some(life), true) = (life, listens) else {
            self.instances.relays.remove(&number);
            let refused = Closed::Error(ErrorKind::ConnectionRefused.into());
            self.note(|| format!("relay {number} to {} is refused", name_of(to)));
            // The relay is gone: the front hears of the refusal by the id of its connection.
            self.within(front.0, |world| world.put(front.1, In::DialRefused(front.2, refused)));
            return;
        };
        let shards = self.broker.others[&life].hosts.len();
        let shard = self.instances.rng.usize(..shards);
        if self.broker.others[&life].hosts[shard].ring.deaf {
            return self.schedule(time + 20 * MS, Event::Instance(Happening::Linked(number)));
        }
        self.next_socket += 1;
        let socket = self.next_socket;
        let entry = Socket { client: Client::Relay(number), shard, life, clear_at: 0, has_layer: false };
        self.sockets.insert(socket, entry);
        if let Some(relay) = self.instances.relays.get_mut(&number) {
            relay.owner = Some((life, socket));
        }
        self.note(|| format!("relay {number}: process {} to process {life}, socket {socket}", front.0));
        self.within(life, |world| world.put(shard, In::Accept(socket, LISTENER.0)));
        self.within(front.0, |world| world.put(front.1, In::Connected(number)));
        self.relay_goes_on(number, Way::ToOwner);
    }

    fn send_over(&mut self, number: u64, way: Way, piece: Piece) {
        let late = self.link_way();
        let Some(relay) = self.instances.relays.get_mut(&number) else { return };
        let clear_at = &mut relay.clear_at[way as usize];
        *clear_at = (*clear_at).max(self.time + late);
        let at = *clear_at;
        self.schedule(at, Event::Instance(Happening::Arrives(number, way, piece)));
    }

    /// Sends bytes of a front to an owner.
    pub(crate) fn send_to_owner(&mut self, (shard, conn): (usize, ConnId), bytes: Vec<u8>) {
        if let Some(number) = self.relay_of((self.life, shard, conn)) {
            self.send_over(number, Way::ToOwner, Piece::Bytes(bytes));
        }
    }

    /// Sends bytes of an owner to a front.
    pub(crate) fn send_to_front(&mut self, number: u64, bytes: Vec<u8>) {
        self.send_over(number, Way::ToFront, Piece::Bytes(bytes));
    }

    fn relay_of(&self, front: (u32, usize, ConnId)) -> Option<u64> {
        self.instances.relays.iter().find(|(_, relay)| relay.front == front).map(|(number, _)| *number)
    }

    pub(super) fn piece_arrives(&mut self, number: u64, way: Way, piece: Piece) {
        if let Some(relay) = self.instances.relays.get_mut(&number) {
            relay.waiting[way as usize].push_back(piece);
            self.relay_goes_on(number, way);
        }
    }

    /// Delivers the pieces that have arrived, unless their receiver does not read.
    pub(super) fn relay_goes_on(&mut self, number: u64, way: Way) {
        loop {
            let Some(relay) = self.instances.relays.get_mut(&number) else { return };
            if relay.is_over[way as usize] {
                return relay.waiting[way as usize].clear();
            }
            if relay.waiting[way as usize].is_empty() {
                return;
            }
            let ((one, other), front, owner) = (relay.between, relay.front, relay.owner);
            let (from, to) = if way == Way::ToOwner { (one, other) } else { (other, one) };
            let Some((owner_life, socket)) = owner else { return };
            if let Some(until) = self.instances.cut_until(from, to, self.time) {
                return self.schedule(until, Event::Instance(Happening::GoesOn(number, way)));
            }
            let is_paused = match way {
                Way::ToOwner => self.is_paused(socket) == Some(true),
                Way::ToFront => self.broker.others.get(&front.0).is_some_and(|process| {
                    let wire = process.hosts[front.1].ring.wires.get(front.2.slot as usize);
                    wire.is_some_and(|wire| wire.is_of(front.2) && wire.paused)
                }),
            };
            if is_paused {
                return self.schedule(self.time + 5 * MS, Event::Instance(Happening::GoesOn(number, way)));
            }
            let relay = self.instances.relays.get_mut(&number);
            let Some(piece) = relay.and_then(|relay| relay.waiting[way as usize].pop_front()) else { return };
            match way {
                Way::ToOwner => {
                    let Some(shard) = self.sockets.get(&socket).map(|entry| entry.shard) else { return };
                    let one = match piece {
                        Piece::Bytes(bytes) => In::Bytes(socket, bytes),
                        Piece::End(is_reset) => In::Closed(socket, closed(is_reset)),
                    };
                    self.within(owner_life, |world| world.put(shard, one));
                }
                Way::ToFront => {
                    let one = match piece {
                        Piece::Bytes(bytes) => In::LinkBytes(number, bytes),
                        Piece::End(is_reset) => In::LinkClosed(number, closed(is_reset)),
                    };
                    self.within(front.0, |world| world.put(front.1, one));
                }
            }
        }
    }

    /// Closes a front's end: the owner hears of the end after all earlier bytes.
    pub(crate) fn front_gives_up(&mut self, (shard, conn): (usize, ConnId)) {
        if let Some(number) = self.relay_of((self.life, shard, conn)) {
            self.front_is_gone(number, false);
        }
    }

    fn front_is_gone(&mut self, number: u64, is_reset: bool) {
        let Some(relay) = self.instances.relays.get_mut(&number) else { return };
        relay.is_over[Way::ToFront as usize] = true;
        if !relay.is_over[Way::ToOwner as usize] {
            self.send_over(number, Way::ToOwner, Piece::End(is_reset));
        }
        self.instances.drop_if_over(number);
    }

    /// Closes an owner's end, because the owner has closed it or has died.
    pub(crate) fn owner_is_gone(&mut self, number: u64, is_reset: bool) {
        let Some(relay) = self.instances.relays.get_mut(&number) else { return };
        relay.is_over[Way::ToOwner as usize] = true;
        if !relay.is_over[Way::ToFront as usize] {
            self.send_over(number, Way::ToFront, Piece::End(is_reset));
        }
        self.instances.drop_if_over(number);
    }

    /// Closes the front's ends of a process that has ended, so that the owners hear of it. Its owners' ends have been closed with
    /// their sockets.
    pub(super) fn fronts_are_gone(&mut self) {
        let life = self.life;
        let of_it: Vec<u64> = self
            .instances
            .relays
            .iter()
            .filter(|(_, relay)| relay.front.0 == life)
            .map(|(number, _)| *number)
            .collect();
        of_it.into_iter().for_each(|number| self.front_is_gone(number, true));
    }

    /// Cuts all connections between two instances, or blocks one direction between them for a while.
    pub(super) fn cut_instances(&mut self, rng: &mut fastrand::Rng) {
        let count = self.instances.starts.len();
        let (from, other) = (rng.usize(..count), rng.usize(1..count));
        let to = (from + other) % count;
        if rng.bool() {
            let until = self.time + rng.u64(100 * MS..8_000 * MS);
            self.note(|| format!("nothing goes from {} to {} until {until}", name_of(from), name_of(to)));
            self.instances.cuts.insert((from, to), until);
            return;
        }
        self.note(|| format!("connections from {} to {} break", name_of(from), name_of(to)));
        self.instances.broken.insert((from, to), self.time);
        let all =
            self.instances.relays.iter().filter(|(_, relay)| relay.between == (from, to) && relay.owner.is_some());
        for number in all.map(|(number, _)| *number).collect::<Vec<_>>() {
            for way in [Way::ToOwner, Way::ToFront] {
                self.send_over(number, way, Piece::End(true));
            }
        }
    }
}
