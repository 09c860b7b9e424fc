//! The clients of a run: how they connect, their bytes in both directions, and how their connections end.

use forebay::runtime::seam::Closed;

use crate::connection::Connection;
use crate::device::News;
use crate::plan::Layers;
use crate::process::In;
use crate::time::MS;
use crate::world::{Client, Event, Socket, World};

impl World {
    pub(crate) fn device_acts(&mut self, index: usize) {
        let (time, life) = (self.time, self.life);
        if self.devices[index].socket.is_none() {
            if time >= self.devices[index].reconnect_at && !self.devices[index].is_done(&self.messages) {
                self.connect_device(index);
            }
            return;
        }
        if !self.quiet {
            for _ in 0..self.rng.usize(..4) {
                self.devices[index].publish(&mut self.messages, (time, life));
            }
        }
        self.send_device_bytes(index);
    }

    /// Whether the next connection has a layer.
    pub(crate) fn draws_layer(&mut self) -> bool {
        match self.plan.layers {
            Layers::None => false,
            Layers::Some => self.layer_rng.bool(),
            Layers::All => true,
        }
    }

    /// Connects a device, if a process listens.
    pub fn connect_device(&mut self, index: usize) {
        let (time, life) = (self.time, self.life);
        if let Some((socket, listener)) = self.reach(Client::Device(index)) {
            self.devices[index].has_receipts = listener == 0;
            self.devices[index].connect(socket, &mut self.messages, (time, life));
        }
    }

    /// Connects a client to some shard, if a process listens. Returns its socket and its listener.
    pub(crate) fn reach(&mut self, client: Client) -> Option<(u64, u16)> {
        if self.has_instances() {
            return self.reach_an_instance(client);
        }
        let shards = self.process.as_ref().map(|process| process.hosts.len())?;
        let name = self.name_of(client);
        let owner = self.home(&name);
        let has_layer = self.draws_layer();
        let shard = if self.rng.u8(..4) == 0 { self.rng.usize(..shards) } else { owner };
        // Most connections with a layer are accepted by another shard than their owner, and move with the layer.
        let strays = has_layer && self.layer_rng.u8(..4) > 0;
        let shard = if strays { (owner + 1) % shards } else { shard };
        if self.process.as_ref().is_none_or(|process| process.hosts[shard].ring.deaf) {
            return None;
        }
        Some(self.connects(client, (self.life, shard), has_layer))
    }

    /// Connects a client to this shard of this process.
    pub(crate) fn connects(&mut self, client: Client, (life, shard): (u32, usize), has_layer: bool) -> (u64, u16) {
        self.next_socket += 1;
        let socket = self.next_socket;
        let listener = self.rng.u16(..2);
        self.sockets.insert(socket, Socket { client, shard, life, clear_at: 0, has_layer });
        self.connection_mut(client).put_layer(has_layer);
        let name = self.name_of(client);
        self.note(|| format!("{name} connects by socket {socket}"));
        self.within(life, |world| world.put(shard, In::Accept(socket, listener)));
        (socket, listener)
    }

    pub(crate) fn name_of(&self, client: Client) -> String {
        match client {
            Client::Device(index) => self.devices[index].name.clone(),
            Client::Subscriber(index) => self.subscribers[index].name.clone(),
            Client::Relay(number) => format!("relay {number}"),
        }
    }

    fn connection_mut(&mut self, client: Client) -> &mut Connection {
        match client {
            Client::Device(index) => &mut self.devices[index].connection,
            Client::Subscriber(index) => &mut self.subscribers[index].connection,
            Client::Relay(_) => unreachable!("its bytes go as they come"),
        }
    }

    /// The socket of a client's connection, as the client knows it.
    pub(crate) fn socket_of(&self, client: Client) -> Option<u64> {
        match client {
            Client::Device(index) => self.devices[index].socket,
            Client::Subscriber(index) => self.subscribers[index].socket,
            Client::Relay(number) => self.instances.socket_of(number),
        }
    }

    /// Ends a client's connection: the client notices at once, or finds out later.
    pub(crate) fn client_lost(&mut self, client: Client) {
        match client {
            Client::Device(index) => {
                self.devices[index].note_lost(self.time);
                self.devices[index].lost(&mut self.messages, self.life);
            }
            Client::Subscriber(index) => self.subscribers[index].lost(),
            Client::Relay(number) => self.owner_is_gone(number, true),
        }
    }

    /// Passes some of a device's pending bytes to its shard, unless that does not read.
    pub fn send_device_bytes(&mut self, index: usize) {
        self.send_bytes(Client::Device(index));
    }

    /// Passes some of a client's pending bytes to its shard, like [`Self::send_device_bytes`].
    pub(crate) fn send_bytes(&mut self, client: Client) {
        let Some(socket) = self.socket_of(client) else { return };
        if self.is_paused(socket) == Some(true) {
            return;
        }
        for _ in 0..self.rng.usize(1..4) {
            let mut most = self.rng.usize(1..8_000);
            if self.connection_mut(client).is_layered() {
                // The bounds give records and flights in many pieces, and many in one piece.
                let bound = [16, 600, 8_000][self.layer_rng.usize(..3)];
                most = most.min(self.layer_rng.usize(1..bound));
            }
            let bytes = self.connection_mut(client).take_bytes(most);
            if bytes.is_empty() {
                return;
            }
            let Some((shard, life)) = self.sockets.get(&socket).map(|socket| (socket.shard, socket.life)) else {
                return;
            };
            self.within(life, |world| world.put(shard, In::Bytes(socket, bytes)));
        }
    }

    pub(crate) fn is_paused(&self, socket: u64) -> Option<bool> {
        let entry = self.sockets.get(&socket)?;
        let process = if entry.life == self.life { self.process.as_ref() } else { self.broker.others.get(&entry.life) };
        let ring = &process?.hosts.get(entry.shard)?.ring;
        let wire = ring.wires.iter().find(|wire| wire.socket == socket && !wire.closed)?;
        Some(wire.paused)
    }

    /// Sends bytes of the shard to a device.
    pub(crate) fn send_to_device(&mut self, socket: u64, bytes: Vec<u8>) {
        if let Some(Client::Relay(number)) = self.sockets.get(&socket).map(|entry| entry.client) {
            return self.send_to_front(number, bytes);
        }
        let late = if self.network.u8(..3) == 0 { self.network.u64(..3 * MS) } else { 0 };
        let Some(entry) = self.sockets.get_mut(&socket) else { return };
        entry.clear_at = entry.clear_at.max(self.time + late);
        if entry.clear_at > self.time {
            let at = entry.clear_at;
            self.schedule(at, Event::ToDevice(socket, bytes));
        } else {
            self.client_reads(socket, &bytes);
        }
    }

    pub(crate) fn client_reads(&mut self, socket: u64, bytes: &[u8]) {
        let Some(client) = self.sockets.get(&socket).map(|socket| socket.client) else { return };
        if self.socket_of(client) != Some(socket) {
            return;
        }
        let is_layered = self.connection_mut(client).is_layered();
        let cut = if is_layered { self.layer_rng.usize(..=bytes.len()) } else { bytes.len() };
        for piece in [&bytes[..cut], &bytes[cut..]].into_iter().filter(|piece| !piece.is_empty()) {
            match client {
                Client::Device(index) => self.device_reads(index, piece),
                Client::Subscriber(index) => self.subscriber_reads(index, piece),
                Client::Relay(_) => {}
            }
        }
        if self.connection_mut(client).has_to_answer() {
            self.send_bytes(client);
        }
    }

    fn device_reads(&mut self, index: usize, bytes: &[u8]) {
        let now = (self.time, self.life);
        for news in self.devices[index].read(bytes, &mut self.messages, now) {
            match news {
                News::Wrong(what) => self.judge.fails("session", what),
                News::Answered { message, success, receipts } => {
                    self.judge_answer(message, success);
                    self.judge_receipts(message, success, &receipts);
                }
            }
        }
    }

    /// Closes a client's end of a connection.
    pub(crate) fn close_socket(&mut self, socket: u64, why: Closed) {
        if let Some(entry) = self.sockets.get(&socket) {
            let (shard, life) = (entry.shard, entry.life);
            self.within(life, |world| world.put(shard, In::Closed(socket, why)));
        }
    }

    /// Handles a client's connection that the shard has closed.
    pub(crate) fn socket_gone(&mut self, socket: u64) {
        let Some(entry) = self.sockets.remove(&socket) else { return };
        if let Client::Relay(number) = entry.client {
            return self.owner_is_gone(number, false);
        }
        if self.socket_of(entry.client) != Some(socket) {
            return;
        }
        self.judge_second_end(entry.client);
        self.client_lost(entry.client);
        let back_at = self.time + self.rng.u64(..300 * MS);
        match entry.client {
            Client::Device(index) => self.devices[index].reconnect_at = back_at,
            Client::Subscriber(index) => self.subscribers[index].back_at = back_at,
            Client::Relay(_) => {}
        }
    }
}
