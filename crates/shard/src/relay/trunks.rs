//! The trunks that carry relayed clients to other instances, and those of other instances: one for each shard of an instance to which a client of this shard
//! belongs. Each client has a stream of its own there.

use std::sync::Arc;

use forebay_fleet::link::endpoint;
use forebay_fleet::membership::Instance;
use forebay_fleet::trunk::{Arrival, Destination, Malformed, News, Preface, Reason};
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::{Closed, ConnId, SocketOptions};

use super::super::Core;
use super::super::connection::{Kind, NO_LISTENER};
use super::super::ring::Ring;
use super::super::words::Timer;

impl Core {
    /// Makes a stream to a shard of an instance, over a trunk that is there already or a new one.
    pub(super) fn open_stream(&mut self, io: &mut Ring<'_>, to: Destination, owner: &Instance) -> Option<ConnId> {
        let (mark, now) = (self.doors.relays.mark, io.now());
        let found = io.trunks().find(&to, mark, now);
        let trunk = found.unwrap_or_else(|| self.make_trunk(io, to, owner));
        io.trunks().open(trunk)
    }

    /// Connects to a shard of an instance.
    fn make_trunk(&mut self, io: &mut Ring<'_>, to: Destination, owner: &Instance) -> ConnId {
        let trunk = io.connect(to.to, SocketOptions::default());
        if let Some(tls) = &self.here.edge.link {
            let host = endpoint(owner).map_or("", |(host, _)| host);
            io.put_layer(trunk, tls.outgoing.layer(host), &[]);
        }
        let preface = Preface { front: self.around.peers.name().into(), shard: to.shard };
        preface.write(io.out(trunk));
        let (now, until) = (io.now(), io.now().after(self.here.config.mqtt.connect_timeout));
        io.trunks().dial(trunk, to, self.doors.relays.mark, (now, until));
        self.connections.insert(trunk, Kind::Trunk, NO_LISTENER, io.now());
        trunk
    }

    /// Notes that a connection to another instance is established, or that its layer `is_ready`.
    pub(crate) fn trunk_stands(&mut self, io: &mut Ring<'_>, trunk: ConnId, is_ready: bool) {
        if is_ready || self.here.edge.link.is_none() {
            io.trunks().opened(trunk);
            self.send_connects(io, trunk);
        }
    }

    /// Processes what a trunk has received. All of it is taken: bytes for which the turn has no time are kept with their streams.
    pub(crate) fn trunk_bytes(&mut self, io: &mut Ring<'_>, trunk: ConnId, mut bytes: &[u8]) {
        let (mut waits, now) = (false, io.now());
        for things in 1.. {
            let arrival = match io.trunks().receive(trunk, &mut bytes, (waits, now)) {
                Ok(Some(arrival)) => arrival,
                Ok(None) => break,
                Err(fault) => return self.end_trunk(io, trunk, fault),
            };
            match arrival {
                Arrival::Accepted(stream) => self.stream_accepted(io, stream, trunk),
                Arrival::Bytes(stream, data) => {
                    io.next_quantum();
                    let taken = self.when_received(io, stream, data);
                    io.trunks().taken(stream, data, taken);
                }
                Arrival::Closed(stream, why) => self.stream_closed(io, stream, why),
                Arrival::Elsewhere(stream, reason) => self.stream_is_elsewhere(io, (stream, trunk), reason),
            }
            waits = waits || io.is_over_after(things);
        }
    }

    /// Ends a trunk at once, as its other side violates the protocol.
    fn end_trunk(&mut self, io: &mut Ring<'_>, trunk: ConnId, fault: Malformed) {
        let why = fault.to_string();
        self.tell_link_refused(io, trunk, &why);
        self.connections.remove(trunk);
        let (now, error) = (io.now(), std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        io.trunks().broke(trunk, &Closed::Error(error), now);
        io.abort(trunk);
        io.go_on();
    }

    /// Handles the end of a trunk: its streams have ended, too.
    pub(crate) fn trunk_closed(&mut self, io: &mut Ring<'_>, trunk: ConnId, why: &Closed) {
        self.connections.remove(trunk);
        let now = io.now();
        io.trunks().broke(trunk, why, now);
        self.tell_of_streams(io);
    }

    fn stream_closed(&mut self, io: &mut Ring<'_>, stream: ConnId, why: Closed) {
        self.when_closed(io, stream, why);
        io.trunks().release(stream);
    }

    /// Handles the answer that a client has another place at its owner: another shard, or another trunk.
    fn stream_is_elsewhere(&mut self, io: &mut Ring<'_>, (stream, trunk): (ConnId, ConnId), reason: Reason) {
        let client = match self.connections.get(stream).map(|connection| connection.kind) {
            Some(Kind::Relay(client)) => Some(client),
            _ => None,
        };
        self.connections.remove(stream);
        io.trunks().release(stream);
        if matches!(reason, Reason::OtherTrunk | Reason::OtherInstance) {
            io.trunks().retire(trunk);
        }
        if let Some(client) = client {
            self.reach_elsewhere(io, client, stream, reason);
        }
    }

    /// Delivers what streams have for the shard: bytes that have waited, room, and ends.
    pub(crate) fn tell_of_streams(&mut self, io: &mut Ring<'_>) {
        let Some(count) = io.known_trunks().map(|trunks| trunks.news()).filter(|count| *count > 0) else { return };
        for told in 1..=count {
            let Some(news) = io.trunks().next_news() else { break };
            match news {
                News::Unread(stream) => {
                    io.next_quantum();
                    let unread = io.trunks().take_unread(stream);
                    let taken = self.when_received(io, stream, &unread);
                    io.trunks().taken(stream, &unread, taken);
                }
                News::Writable(stream) => self.when_writable(io, stream),
                News::Closed(stream, why) => self.stream_closed(io, stream, why),
            }
            if io.is_over_after(told) {
                break;
            }
        }
    }

    /// Sends what streams have to send, at the end of a turn.
    pub(crate) fn send_streams(&mut self, io: &mut Ring<'_>) {
        let Some((trunks, ring)) = io.trunks_and_io() else { return };
        trunks.gather(ring);
        let next = trunks.next_deadline();
        if let Some(at) = next {
            io.set_timer_by(Timer::Trunks, at, &mut self.doors.relays.trunks_timer);
        }
        let counts = io.known_trunks().map(|trunks| (trunks.len(), trunks.streams(), trunks.held_bytes()));
        if let Some((trunks, streams, held)) = counts.filter(|counts| *counts != self.doors.relays.counted) {
            self.doors.relays.counted = (trunks, streams, held);
            self.here.numbers.set(M::TrunkStreams, streams as u64);
            self.here.numbers.set(M::Trunks, trunks as u64);
            self.here.numbers.set(M::TrunkHeldBytes, held as u64);
            self.here.numbers.publish();
        }
    }

    /// Does what is due for trunks and streams.
    pub(crate) fn trunks_time(&mut self, io: &mut Ring<'_>) {
        self.doors.relays.trunks_timer = None;
        if let Some((trunks, ring)) = io.trunks_and_io() {
            trunks.pass_time(ring);
        }
    }

    /// Gives further streams new trunks, as the certificates of links have changed.
    pub(crate) fn renew_trunks(&mut self) {
        self.doors.relays.mark += 1;
    }

    /// The name of an instance, and the shard there that serves the clients of a slot, as far as known.
    pub(super) fn shard_at(&self, name: &Arc<str>, slot: Option<u16>) -> u16 {
        let known = self.doors.relays.shards.get(name).zip(slot);
        known.and_then(|(shards, slot)| shards.get(usize::from(slot))).copied().unwrap_or_default()
    }
}
