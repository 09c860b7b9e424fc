//! `Out` is what the broker may ask of the runtime that the shard has: the time, the buffers of connections, a timer, a letter to another shard.

use std::net::SocketAddr;

use forebay_runtime::seam::{ConnId, Monotonic, TimerId, WallMs};

use crate::mail::ToBroker;

/// See the module. Every call ignores a connection that has ended, as those of [`forebay_runtime::seam::Io`] do.
pub trait Out {
    /// Monotonic time of this turn.
    fn now(&self) -> Monotonic;
    /// Wall-clock time of this turn.
    fn wall(&self) -> WallMs;
    /// Whether the turn has had its time.
    fn is_over(&self) -> bool;
    /// Has another turn follow this one, though nothing happens.
    fn go_on(&mut self);
    /// The buffer of a connection: bytes in it are sent.
    fn out(&mut self, conn: ConnId) -> &mut Vec<u8>;
    /// Sends them at the end of the turn, or with others.
    fn send_late(&mut self, conn: ConnId);
    /// Sends them at the end of the turn.
    fn send_soon(&mut self, conn: ConnId);
    /// The number of bytes that wait for the connection's socket.
    fn unsent(&self, conn: ConnId) -> usize;
    /// Reports when the connection's socket has room again.
    fn tell_writable(&mut self, conn: ConnId);
    /// The address of the connection's client, if it is known.
    fn peer(&self, conn: ConnId) -> Option<SocketAddr>;
    /// Has [`Broker::on_time`](crate::Broker::on_time) called at `at`.
    fn set_timer(&mut self, at: Monotonic, due: Due);
    /// Like [`Out::set_timer`], at `at` or earlier. A timer set for an earlier time stays. `set`: the timer's storage.
    fn set_timer_by(&mut self, due: Due, at: Monotonic, set: &mut Option<(Monotonic, TimerId)>);
    /// Sends a letter to the broker of another shard.
    ///
    /// # Errors
    /// The letter: the mailbox has no room.
    fn mail(&mut self, to: usize, letter: ToBroker) -> Result<(), ToBroker>;
}

/// The purpose of a timer of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Messages are left over for subscribers.
    Delivery,
    /// Ended messages of kept sessions' queues have to be written down.
    Queues,
    /// Messages wait for members of shares.
    Shares,
    /// A retained message expires.
    Retained,
    /// Members of shares may be late with acknowledging.
    LateMembers,
}
