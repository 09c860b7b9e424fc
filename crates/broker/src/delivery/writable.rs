//! Clients with room again in their sockets, for messages that wait for nothing else.
//!
//! A client is sent no message of QoS 1 and 2 while [`SENT_AHEAD_BYTES_MAX`] of its connection are unsent. The runtime reports when these are sent
//! ([`Io::tell_writable`](forebay_runtime::seam::Io::tell_writable)). Waiting messages are sent at the end of that turn, for as many clients as a turn writes
//! to. So a client that acknowledges late, or many messages at once, is sent all that its Receive Maximum allows.

use std::collections::{BTreeSet, VecDeque};

use forebay_base::limits::{SENT_AHEAD_BYTES_MAX, WRITES_PER_TURN};
use forebay_session::SessionKey;

use crate::here::Here;
use crate::out::Out;

use super::super::Broker;
use super::Delivery;

/// Sessions that are sent waiting messages when their clients' sockets have room.
#[derive(Debug, Default)]
pub(super) struct Writable {
    /// Sessions to be looked at, oldest first.
    line: VecDeque<SessionKey>,
    /// Sessions that were sent little because too much of all clients' messages was unacknowledged
    /// ([`Remembered::is_tight`](forebay_session::Remembered::is_tight)). They may acknowledge nothing until they are sent more.
    held_back: BTreeSet<SessionKey>,
}

impl Delivery {
    /// Forgets a session that has ended.
    pub(crate) fn forget(&mut self, key: SessionKey) {
        self.index.forget(key);
        self.gates.forget(key);
        self.writable.held_back.remove(&key);
    }

    /// Puts a session in line: its connection's socket has room again.
    pub fn is_writable(&mut self, key: SessionKey) {
        self.writable.line.push_back(key);
    }

    /// Queues a session with waiting messages for the next turn.
    pub(super) fn look_again(&mut self, io: &mut dyn Out, key: SessionKey) {
        self.writable.line.push_back(key);
        self.want_turn(io);
    }
}

impl Broker {
    /// Queues a session with waiting messages, its own or of a share that it is a member of, for when a cause other than its client ends. `unsent`: bytes of
    /// its connection.
    pub(super) fn await_room(&mut self, io: &mut dyn Out, key: SessionKey, unsent: usize) {
        let Some(conn) = self.sessions.get(key).and_then(|session| session.conn()) else { return };
        if unsent > SENT_AHEAD_BYTES_MAX {
            io.tell_writable(conn);
        }
        if self.delivery.remembered().is_tight() {
            self.delivery.writable.held_back.insert(key);
        }
    }

    /// Sends waiting messages at the end of a turn to clients with room again in their sockets.
    pub fn serve_writable(&mut self, io: &mut dyn Out, here: &mut Here) {
        let is_tight = self.delivery.remembered().is_tight();
        let Writable { line, held_back } = &mut self.delivery.writable;
        if !is_tight && !held_back.is_empty() {
            line.extend(std::mem::take(held_back));
        }
        // `line` may grow meanwhile: sessions that join it are looked at in the next turn.
        for _ in 0..line.len().min(WRITES_PER_TURN) {
            let Some(key) = self.delivery.writable.line.pop_front() else { return };
            self.pump_session(io, here, key);
            self.delivery.shares.has_room_again(key);
            if io.is_over() {
                break;
            }
        }
        if !self.delivery.writable.line.is_empty() {
            self.delivery.want_turn(io);
        }
    }
}
