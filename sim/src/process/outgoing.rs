//! The output of a shard's turn: bytes, letters to other shards, and lines of dead letters.

use std::os::fd::AsRawFd;

use forebay::runtime::seam::{Closed, Shard};
use forebay::service::dead_letters::Letter;
use forebay::shard::mail::{Mail, ToDoor};

use super::{End, In};
use crate::kafka::front::message_number;
use crate::time::MS;
use crate::world::{Event, World};

impl World {
    /// Collects the output of a shard's turn.
    pub(super) fn collect(&mut self, shard: usize) {
        let Some(process) = &mut self.process else { return };
        let host = &mut process.hosts[shard];
        let mail = std::mem::take(&mut host.ring.mail);
        let dialled = std::mem::take(&mut host.ring.dialled);
        let moved = std::mem::take(&mut host.moved);
        self.moves_put_off += std::mem::take(&mut host.ring.moves_put_off);
        let (mut sent, mut closed) = (Vec::new(), Vec::new());
        for slot in 0..host.ring.wires.len() {
            let Some(conn) = host.ring.id_of(slot) else { continue };
            let wire = &mut host.ring.wires[slot];
            let bytes = wire.take_out();
            if !bytes.is_empty() {
                sent.push((conn, wire.socket, wire.outgoing.is_some(), bytes));
                // The shard is notified when bytes were sent, as by the runtime: not while all written bytes wait for the disk.
                if wire.has_room_again() {
                    host.core.on_writable(&mut host.ring, conn);
                    host.wake_at.get_or_insert(self.time);
                }
            }
            let wire = &host.ring.wires[slot];
            if wire.closed {
                closed.push((conn, wire.socket, wire.outgoing.is_some()));
            }
        }
        for (to, letter) in mail {
            self.post((shard, to), letter);
        }
        for one in moved {
            let (In::Bytes(socket, _) | In::Closed(socket, _)) = &one else { continue };
            let socket = *socket;
            match self.sockets.get(&socket).map(|entry| entry.shard) {
                Some(to) if to != shard => self.put(to, one),
                Some(_) => self.keep_unread(shard, socket, one),
                None => {}
            }
        }
        for conn in dialled {
            self.dial(shard, conn);
        }
        for (conn, socket, outgoing, bytes) in sent {
            if outgoing { self.send_to_broker(shard, conn, bytes) } else { self.send_to_device(socket, bytes) }
        }
        for (conn, socket, outgoing) in closed {
            if let Some(host) = self.process.as_mut().map(|process| &mut process.hosts[shard]) {
                host.core.on_close(&mut host.ring, conn, Closed::Local);
                host.ring.release(conn);
                host.wake_at.get_or_insert(self.time);
            }
            if outgoing { self.given_up(shard, conn) } else { self.socket_gone(socket) }
        }
        self.take_letters();
        self.look_at_notices();
        let stopped = self.process.as_ref().is_some_and(|p| p.hosts.iter().all(|host| host.ring.stopped));
        if stopped {
            let mut rng = self.crash_rng.clone();
            self.ends(End::Stopped, &mut rng);
            self.crash_rng = rng;
        }
    }

    /// Keeps the bytes of a connection that waits for room in a mailbox, as the kernel would.
    fn keep_unread(&mut self, shard: usize, socket: u64, one: In) {
        let Some(process) = &mut self.process else { return };
        let waits = process.moving.borrow().values().any(|waiting| *waiting == socket);
        if waits {
            process.hosts[shard].moved.push(one);
        }
    }

    /// Sends a letter to another shard, after those in flight there.
    fn post(&mut self, (from, to): (usize, usize), letter: Mail) {
        let slowest = self.plan.mail;
        if slowest == 0 {
            return self.arrived((from, to), letter);
        }
        // One letter in eight is much later than the others.
        let slow = self.mail_rng.u8(..8) == 0;
        let way = self.mail_rng.u64(..if slow { slowest } else { slowest / 50 });
        let (life, soonest) = (self.life, self.time + way);
        let Some(line) = self.process.as_mut().and_then(|process| process.mail.get_mut(to)) else { return };
        line.letters.push_back((from, letter));
        line.clear_at = line.clear_at.max(soonest);
        let at = line.clear_at;
        self.schedule(at, Event::Mail(life, to));
    }

    /// Delivers the first letter in flight to a shard, if the process in which it was sent still runs.
    pub(crate) fn mail_arrives(&mut self, life: u32, to: usize) {
        let process = self.process.as_mut().filter(|_| life == self.life);
        if let Some((from, letter)) = process.and_then(|process| process.mail[to].letters.pop_front()) {
            self.arrived((from, to), letter);
        }
    }

    fn arrived(&mut self, (from, to): (usize, usize), letter: Mail) {
        if let Mail::Door(ToDoor::HandOver(detached, ..)) = &letter {
            self.layers_moved[0] += u64::from(detached.layer.is_some());
            self.layers_moved[1] += u64::from(!detached.unsent.is_empty());
            let socket = self.process.as_ref().and_then(|p| p.moving.borrow().get(&detached.fd.as_raw_fd()).copied());
            if let Some(entry) = socket.and_then(|socket| self.sockets.get_mut(&socket)) {
                entry.shard = to;
            }
            // Events that have come for the socket meanwhile move as well.
            let time = self.time;
            let host = self.process.as_mut().and_then(|process| process.hosts.get_mut(from));
            if let Some(host) = host.filter(|host| !host.moved.is_empty()) {
                host.wake_at.get_or_insert(time);
            }
        }
        self.put(to, In::Mail(letter));
    }

    fn take_letters(&mut self) {
        let Some(process) = &self.process else { return };
        let taken: Vec<(usize, Letter)> = process
            .letters
            .iter()
            .enumerate()
            .flat_map(|(sink, letters)| letters.try_iter().map(move |letter| (sink, letter)))
            .collect();
        for (sink, letter) in taken {
            let line: serde_json::Value = serde_json::from_slice(&letter.line).expect("a line of JSON");
            let message = line["value"].as_str().and_then(|value| message_number(value.as_bytes()));
            self.note(|| format!("letter of sink {sink}: {message:?}, {}", line["reason"]));
            // Each sink has one file, written in order.
            let at = self.judge.file_clear.get(&sink).copied().unwrap_or(0).max(self.time) + self.rng.u64(..20 * MS);
            self.judge.file_clear.insert(sink, at);
            self.schedule(at, Event::Filed(self.life, letter.shard, sink, message));
        }
    }
}
