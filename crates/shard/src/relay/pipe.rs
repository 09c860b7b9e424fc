//! The bytes of a relayed client, both ways: from the ring's buffer to the out-buffer of the other connection, without a copy between. If a side does not
//! take its bytes, the other one is left unread.

use forebay_base::limits::SENT_AHEAD_BYTES_MAX;
use forebay_fleet::link::ANSWER_LEN;
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::{Closed, ConnId};

use super::super::Core;
use super::super::connection::{Connection, Kind};
use super::super::ring::Ring;
use super::Waiting;

impl Core {
    /// Passes bytes on. `from` is read again when `to` has taken most of its bytes.
    pub(crate) fn pass_on(&mut self, io: &mut Ring<'_>, from: ConnId, to: ConnId, bytes: &[u8]) {
        io.out(to).extend_from_slice(bytes);
        if io.unsent(to) > SENT_AHEAD_BYTES_MAX {
            io.pause(from);
            io.tell_writable(to);
        }
    }

    /// Takes bytes of an owner.
    pub(crate) fn owner_bytes(&mut self, io: &mut Ring<'_>, link: ConnId, client: ConnId, bytes: &[u8]) {
        match self.connections.get(client).map(|connection| connection.kind) {
            Some(Kind::Relayed(_)) => self.pass_on(io, link, client, bytes),
            Some(Kind::Waiting(_)) => self.owner_answers(io, link, client, bytes),
            _ => {}
        }
    }

    /// Takes the first bytes of an owner: its incarnation, which confirms that it has taken the client.
    fn owner_answers(&mut self, io: &mut Ring<'_>, link: ConnId, client: ConnId, bytes: &[u8]) {
        let waiting = self.doors.relays.waiting.get_mut(&client);
        let Some((_, to)) = waiting.and_then(|waiting| waiting.link.as_mut()).filter(|(of, _)| *of == link) else {
            return;
        };
        let (answer, rest) = bytes.split_at(bytes.len().min(ANSWER_LEN - to.heard));
        answer.iter().for_each(|byte| to.answered = to.answered << 8 | u128::from(*byte));
        to.heard += answer.len();
        if to.heard == ANSWER_LEN {
            self.answered(io, link, client);
            self.pass_on(io, link, client, rest);
        }
    }

    /// Notes that the owner has taken a client. Its bytes are passed on from now on, and no other owner gets its CONNECT, as this one may have created its
    /// session.
    fn answered(&mut self, io: &mut Ring<'_>, link: ConnId, client: ConnId) {
        let Some(waiting) = self.doors.relays.waiting.remove(&client) else { return };
        self.count_waiting();
        let Some(connection) = self.connections.get(client) else { return };
        connection.kind = Kind::Relayed(link);
        connection.claim = None;
        self.doors.relays.has_waited(client);
        if let Some(timer) = connection.timer.take() {
            io.cancel_timer(timer);
        }
        let bytes = std::mem::take(&mut connection.tail);
        self.here.numbers.lower(M::PartialBytes, bytes.len() as u64);
        io.out(link).extend_from_slice(&bytes[waiting.sent..]);
        self.connections.tails.give_back(bytes);
        self.doors.leave();
        if let Some((_, to)) = waiting.link {
            self.around.peers.has_answered(&to.name, to.answered);
            self.doors.relays.relayed.insert(client, to);
        }
        self.look_for_moved(io);
        self.here.numbers.count(M::RelaysMade);
        self.here.numbers.raise(M::Relayed, 1);
        io.stream(client);
        io.resume(client);
    }

    /// Handles the end of a connection to an owner: received bytes go to the client, and then the end of the client's connection.
    pub(crate) fn owner_gone(&mut self, io: &mut Ring<'_>, link: ConnId, client: ConnId, why: &Closed) {
        let waiting = self.doors.relays.waiting.get(&client);
        let is_taken = waiting.and_then(|of| of.link.as_ref()).is_some_and(|(of, to)| *of == link && to.heard > 0);
        match self.connections.get(client).map(|connection| connection.kind) {
            Some(Kind::Waiting(_)) if !is_taken => self.reach_again(io, client, link, why),
            Some(Kind::Relayed(of)) if of != link => {}
            Some(Kind::Relayed(_) | Kind::Waiting(_)) => {
                self.forget(io, client);
                io.close(client);
            }
            _ => {}
        }
    }

    /// Handles the end of a client's connection, of this kind: received bytes go to the owner, and then the end of that connection.
    pub(crate) fn end_relay(&mut self, io: &mut Ring<'_>, conn: ConnId, connection: &Connection) {
        let link = match connection.kind {
            Kind::Relayed(link) => {
                self.doors.relays.relayed.remove(&conn);
                self.here.numbers.lower(M::Relayed, 1);
                Some(link)
            }
            Kind::Waiting(_) => {
                let waiting = self.doors.relays.waiting.remove(&conn);
                self.count_waiting();
                waiting.and_then(|Waiting { link, sent, .. }| {
                    let (link, _) = link?;
                    io.out(link).extend_from_slice(connection.tail.get(sent..).unwrap_or_default());
                    Some(link)
                })
            }
            _ => None,
        };
        if let Some(link) = link {
            self.connections.remove(link);
            io.close(link);
        }
    }
}
