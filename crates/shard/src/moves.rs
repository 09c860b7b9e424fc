//! Connections on their way to the shard that owns their client, while its mailbox is full.
//!
//! A slow shard is no reason to make a device connect again, with another handshake: in a storm that would keep the shard slow. So the connection waits here,
//! unread, and is sent again every millisecond, until its time for CONNECT is over.

use std::collections::VecDeque;
use std::time::Duration;

use forebay_base::address::Address;
use forebay_base::limits::{MAILBOX_LETTERS_MAX, MOVES_WAITING_BYTES_MAX, MOVES_WAITING_MAX};
use forebay_fleet::link::LISTENER;
use forebay_metrics::spec::ShardMetric as M;
use forebay_runtime::seam::Detached;

use super::Core;
use super::mail::{Mail, ToDoor};
use super::ring::Ring;
use super::words::AtDoor;
use super::words::Timer;

/// The time for which a connection waits before a full mailbox is tried again.
const AGAIN: Duration = Duration::from_millis(1);

const _: () = assert!(MOVES_WAITING_MAX <= MAILBOX_LETTERS_MAX);

/// A connection for another shard.
pub(super) struct Move {
    pub(super) owner: usize,
    pub(super) detached: Detached,
    pub(super) claim: Option<Box<AtDoor>>,
    /// The address that the connection counts for, if addresses are bounded.
    pub(super) address: Option<Address>,
}

/// The connections that wait for a mailbox.
#[derive(Default)]
pub(super) struct Moves {
    /// The connections, oldest first.
    waiting: VecDeque<Move>,
    /// Bytes read from these connections.
    bytes: usize,
    has_timer: bool,
}

impl Core {
    /// Sends a connection to its owner, or queues it after others for the same owner.
    pub(super) fn send_move(&mut self, io: &mut Ring<'_>, one: Move) {
        let left = if self.doors.moves.waiting.is_empty() { self.try_move(io, one) } else { Some(one) };
        let Some(one) = left else { return };
        let bytes = self.doors.moves.bytes + one.detached.unread.len();
        if self.doors.moves.waiting.len() >= MOVES_WAITING_MAX || bytes > MOVES_WAITING_BYTES_MAX {
            return self.give_up(one);
        }
        self.doors.moves.bytes = bytes;
        self.doors.moves.waiting.push_back(one);
    }

    /// Sends waiting connections, as far as their owners have room. Those of one owner stay in order.
    pub(super) fn go_on_moving(&mut self, io: &mut Ring<'_>) {
        let (now, mut full) = (io.now(), 0_u64);
        for one in std::mem::take(&mut self.doors.moves.waiting) {
            let (owner, bytes) = (1 << one.owner, one.detached.unread.len());
            let left = if full & owner == 0 { self.try_move(io, one) } else { Some(one) };
            match left {
                Some(one) if now < one.detached.deadline => {
                    full |= owner;
                    self.doors.moves.waiting.push_back(one);
                    continue;
                }
                Some(one) => self.give_up(one),
                None => {}
            }
            self.doors.moves.bytes -= bytes;
        }
        self.here.numbers.set(M::MovesWaiting, self.doors.moves.waiting.len() as u64);
        if !self.doors.moves.waiting.is_empty() && !self.doors.moves.has_timer {
            self.doors.moves.has_timer = true;
            let _ = io.set_timer(now.after(AGAIN), Timer::Moves.token());
        }
    }

    /// Notes that the turn requested by [`Core::go_on_moving`] has begun.
    pub(super) fn moves_time(&mut self) {
        self.doors.moves.has_timer = false;
    }

    /// Sends a connection. Returns it, if the mailbox is full.
    fn try_move(&mut self, io: &mut Ring<'_>, one: Move) -> Option<Move> {
        let Move { owner, detached, claim, address } = one;
        match io.mail(owner, Mail::Door(ToDoor::HandOver(detached, claim))) {
            Ok(()) => {
                self.here.numbers.count(M::ConnectionsMoved);
                None
            }
            Err(Mail::Door(ToDoor::HandOver(detached, claim))) => Some(Move { owner, detached, claim, address }),
            // The letter is a move: no other letter was sent.
            Err(_) => None,
        }
    }

    /// Closes the socket of a connection here: the device connects again.
    fn give_up(&mut self, one: Move) {
        self.here.numbers.count(M::ConnectionsMoveRefused);
        if one.detached.listener != LISTENER {
            self.around.tally.leave(one.detached.listener, one.address);
        }
    }
}
