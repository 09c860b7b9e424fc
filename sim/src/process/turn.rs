//! A turn of a shard: its events, in the order of the runtime.

use forebay::runtime::seam::{ConnId, ListenerId, Shard};

use super::{End, Host, In, Process};
use crate::layers::{Layered, Opened};
use crate::world::{Client, World};

impl World {
    /// Runs a shard's turn, in the order of the runtime.
    pub(crate) fn turn(&mut self, shard: usize) {
        let (time, now, wall) = self.clocks();
        let Some(process) = &mut self.process else { return };
        let host = &mut process.hosts[shard];
        if !host.turns.within_bounds(time) {
            self.judge.fails("spin", format!("shard {shard} turns without end\n{}", self.state()));
            return;
        }
        let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else { return };
        host.wake_at = None;
        (host.ring.now, host.ring.wall, host.ring.disk.time) = (now, wall, time);
        host.ring.begin_turn();
        let inbox = std::mem::take(&mut host.inbox);
        self.feed_unread(shard);
        for one in inbox {
            self.deliver(shard, one);
        }
        self.open_waiting(shard);
        let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else { return };
        while let Some(event) = host.ring.disk.answer() {
            host.core.on_segment(&mut host.ring, event);
        }
        while let Some(token) = host.ring.due_timer() {
            host.core.on_timer(&mut host.ring, token);
        }
        host.core.on_turn_end(&mut host.ring);
        host.ring.disk.turn_ended();
        if host.ring.has_left_over() {
            host.wake_at.get_or_insert(time + 50_000);
        }
        self.collect(shard);
        // The counters are read once, because this is done in every turn.
        let boards = self.process.as_ref().map(Process::boards).unwrap_or_default();
        self.check_board(&boards);
        self.check_windows(&boards);
        self.check_session_logs(&boards);
        if let Some(turns) = self.kill_after_turns.filter(|_| self.broker.is_newest(self.life)) {
            self.kill_after_turns = turns.checked_sub(1);
            if self.kill_after_turns == Some(0) {
                self.kill_again();
            }
        }
    }

    pub(super) fn kill_again(&mut self) {
        self.kill_after_turns = None;
        let how = if self.crash_rng.bool() { End::Kill } else { End::PowerCut };
        let mut rng = self.crash_rng.clone();
        self.crash(how, &mut rng);
        self.crash_rng = rng;
    }

    fn deliver(&mut self, shard: usize, one: In) {
        let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else { return };
        let (core, ring) = (&mut host.core, &mut host.ring);
        match one {
            In::Accept(socket, listener) => {
                let conn = ring.open(socket, None, listener);
                if let (true, Some(wire)) = (self.sockets.get(&socket).is_some_and(|s| s.has_layer), ring.named(conn)) {
                    wire.layered = Some(Box::new(Layered::server()));
                }
                let peer = self.sockets.get(&socket).and_then(|socket| self.instances.address_behind(socket.client));
                if let (Some(_), Some(wire)) = (peer, ring.named(conn)) {
                    wire.peer = peer;
                }
                core.on_accept(ring, conn, ListenerId(listener));
            }
            In::Bytes(socket, bytes) => match ring.conn_of(socket) {
                Some(conn) => self.feed(shard, conn, &bytes),
                // The socket has moved: its unread bytes are read by the new shard.
                None => host.moved.push(In::Bytes(socket, bytes)),
            },
            In::Closed(socket, why) => match ring.conn_of(socket) {
                Some(conn) => {
                    while ring.has_unread(conn) {
                        let nothing = Opened { plain: Vec::new(), facts: None, error: None };
                        let (unread, _) = nothing.deliver(ring.take_unread(conn), core, ring, conn);
                        ring.keep_unread(conn, unread);
                    }
                    core.on_close(ring, conn, why);
                    ring.release(conn);
                    if let Some(Client::Relay(number)) = self.sockets.remove(&socket).map(|entry| entry.client) {
                        self.instances.owner_has_heard(number);
                    }
                }
                None => host.moved.push(In::Closed(socket, why)),
            },
            In::Mail(letter) => core.on_mail(ring, letter),
            In::Connected(link) => {
                let of_broker = self.links.get(&link).map(|link| link.conn);
                if let Some(conn) = of_broker.or_else(|| self.instances.front_of(link))
                    && ring.open_wire(conn).is_some()
                {
                    core.on_connect(ring, conn);
                    if ring.is_layered(conn) {
                        self.feed(shard, conn, &[]);
                    }
                }
            }
            In::LinkBytes(link, bytes) => {
                let of_broker = self.links.get(&link).map(|link| link.conn);
                if let Some(conn) = of_broker.or_else(|| self.instances.front_of(link))
                    && ring.open_wire(conn).is_some()
                {
                    self.feed(shard, conn, &bytes);
                }
            }
            In::DialRefused(conn, why) => {
                if ring.open_wire(conn).is_some() {
                    core.on_close(ring, conn, why);
                    ring.release(conn);
                }
            }
            In::LinkClosed(link, why) => {
                let of_broker = self.links.remove(&link).map(|link| link.conn);
                if let Some(conn) = of_broker.or_else(|| self.instances.front_has_heard(link))
                    && ring.open_wire(conn).is_some()
                {
                    core.on_close(ring, conn, why);
                    ring.release(conn);
                }
            }
        }
    }

    /// Passes on bytes of a connection, through its layer if it has one.
    fn feed(&mut self, shard: usize, conn: ConnId, bytes: &[u8]) {
        let Some(Host { core, ring, .. }) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else {
            return;
        };
        let opened = if ring.is_layered(conn) {
            let Some(opened) = ring.open_layer(conn, bytes) else { return };
            opened
        } else {
            Opened { plain: bytes.to_vec(), facts: None, error: None }
        };
        let (unread, error) = opened.deliver(ring.take_unread(conn), core, ring, conn);
        ring.keep_unread(conn, unread);
        if let Some(error) = error {
            self.judge.fails("layer", format!("shard {shard}: {}", error.what));
        }
    }

    /// Passes on the bytes that a shard has left for this turn, before new ones.
    fn feed_unread(&mut self, shard: usize) {
        let Some(process) = &mut self.process else { return };
        for conn in process.hosts[shard].ring.with_unread() {
            self.feed_plain(shard, conn);
        }
    }

    fn feed_plain(&mut self, shard: usize, conn: ConnId) {
        let Some(Host { core, ring, .. }) = self.process.as_mut().map(|process| &mut process.hosts[shard]) else {
            return;
        };
        let nothing = Opened { plain: Vec::new(), facts: None, error: None };
        let (unread, _) = nothing.deliver(ring.take_unread(conn), core, ring, conn);
        ring.keep_unread(conn, unread);
    }

    /// Opens the bytes of handshakes that have waited for their turn.
    fn open_waiting(&mut self, shard: usize) {
        while let Some(process) = &mut self.process
            && let Some((conn, bytes)) = process.hosts[shard].ring.next_in_line()
        {
            self.feed(shard, conn, &bytes);
        }
    }
}
