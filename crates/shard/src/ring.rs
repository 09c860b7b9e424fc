//! The runtime as a shard sees it: its connections, and the streams of trunks beside them ([`forebay_fleet::trunk`]). Everything above this file treats both alike.

use std::net::SocketAddr;

use forebay_base::address::canonical;
use forebay_broker::mail::ToBroker;
use forebay_broker::out::{Due, Out};
use forebay_fleet::trunk::{Trunks, is_stream};
use forebay_runtime::Listener;
use forebay_runtime::seam::{
    Chunk, ConnId, Detached, Io, Layer, ListenerId, Monotonic, SegmentSettings, Segments, SocketOptions, TimerId,
    TracedSend, WallMs,
};

use super::mail::Mail;
use super::words::Timer;

/// The runtime, and the streams of a shard, for the time of a call.
pub(super) struct Ring<'a> {
    io: &'a mut (dyn Io<Mail> + 'a),
    now: Monotonic,
    /// `None`: there has been no trunk.
    trunks: Option<Box<Trunks>>,
}

impl<'a> Ring<'a> {
    /// The runtime, with these streams beside its connections.
    #[inline]
    pub(super) fn new(io: &'a mut (dyn Io<Mail> + 'a), trunks: Option<Box<Trunks>>) -> Self {
        Self { now: io.now(), io, trunks }
    }

    /// The streams, for the next call.
    #[inline]
    pub(super) fn into_trunks(self) -> Option<Box<Trunks>> {
        self.trunks
    }
}

/// The calls of [`Io`], for streams, too.
impl Ring<'_> {
    pub(super) fn now(&self) -> Monotonic {
        self.now
    }

    pub(super) fn wall(&self) -> WallMs {
        self.io.wall()
    }

    pub(super) fn boottime(&self) -> Monotonic {
        self.io.boottime()
    }

    pub(super) fn shard(&self) -> usize {
        self.io.shard()
    }

    pub(super) fn spend(&mut self, packets: u32) -> bool {
        self.io.spend(packets)
    }

    pub(super) fn next_quantum(&mut self) {
        self.io.next_quantum();
    }

    pub(super) fn quanta_exceeded(&self) -> u64 {
        self.io.quanta_exceeded()
    }

    pub(super) fn is_over(&self) -> bool {
        self.io.is_over()
    }

    pub(super) fn is_over_after(&mut self, things: usize) -> bool {
        self.io.is_over_after(things)
    }

    pub(super) fn go_on(&mut self) {
        self.io.go_on();
    }

    pub(super) fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        if is_stream(conn) { self.trunks().out(conn) } else { self.io.out(conn) }
    }

    pub(super) fn send_late(&mut self, conn: ConnId) {
        // The streams of a trunk share one write.
        if !is_stream(conn) {
            self.io.send_late(conn);
        }
    }

    pub(super) fn send_soon(&mut self, conn: ConnId) {
        if !is_stream(conn) {
            self.io.send_soon(conn);
        }
    }

    pub(super) fn send(&mut self, conn: ConnId, chunks: &mut Vec<Chunk>) {
        if is_stream(conn) { self.trunks().send(conn, chunks) } else { self.io.send(conn, chunks) }
    }

    pub(super) fn unsent(&self, conn: ConnId) -> usize {
        if is_stream(conn) { self.of(|trunks| trunks.unsent(conn)) } else { self.io.unsent(conn) }
    }

    pub(super) fn unacked(&self, conn: ConnId) -> usize {
        if is_stream(conn) { self.of(|trunks| trunks.unsent(conn)) } else { self.io.unacked(conn) }
    }

    pub(super) fn tell_writable(&mut self, conn: ConnId) {
        if is_stream(conn) { self.trunks().tell_writable(conn) } else { self.io.tell_writable(conn) }
    }

    pub(super) fn trace(&mut self, conn: ConnId, on: bool) {
        if is_stream(conn) { self.trunks().trace(conn, on) } else { self.io.trace(conn, on) }
    }

    pub(super) fn take_traced(&mut self) -> Vec<TracedSend> {
        let mut traced = self.io.take_traced();
        if let Some(trunks) = &mut self.trunks {
            traced.append(&mut trunks.take_traced());
        }
        traced
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.io.sent_bytes()
    }

    pub(super) fn stream(&mut self, conn: ConnId) {
        if !is_stream(conn) {
            self.io.stream(conn);
        }
    }

    pub(super) fn pause(&mut self, conn: ConnId) {
        if is_stream(conn) {
            let now = self.now;
            self.trunks().pause(conn, now);
        } else {
            self.io.pause(conn);
        }
    }

    pub(super) fn resume(&mut self, conn: ConnId) {
        if !is_stream(conn) {
            self.io.resume(conn);
        } else if self.trunks().resume(conn) {
            self.io.go_on();
        }
    }

    pub(super) fn close(&mut self, conn: ConnId) {
        if is_stream(conn) { self.trunks().close(conn) } else { self.io.close(conn) }
    }

    pub(super) fn abort(&mut self, conn: ConnId) {
        if is_stream(conn) { self.trunks().abort(conn) } else { self.io.abort(conn) }
    }

    pub(super) fn connect(&mut self, to: SocketAddr, socket: SocketOptions) -> ConnId {
        self.io.connect(to, socket)
    }

    pub(super) fn put_layer(&mut self, conn: ConnId, layer: Box<dyn Layer>, unread: &[u8]) {
        if !is_stream(conn) {
            self.io.put_layer(conn, layer, unread);
        }
    }

    /// A stream stays on the shard that has its trunk: `None`.
    pub(super) fn detach(&mut self, conn: ConnId) -> Option<Detached> {
        if is_stream(conn) { None } else { self.io.detach(conn) }
    }

    pub(super) fn adopt(&mut self, moved: Detached) -> ConnId {
        self.io.adopt(moved)
    }

    /// The address of a stream is that of its client, and before that is known, that of the trunk.
    pub(super) fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        if !is_stream(conn) {
            return self.io.peer(conn);
        }
        let trunks = self.trunks.as_ref()?;
        trunks.peer(conn).or_else(|| self.io.peer(trunks.trunk_of(conn)?))
    }

    pub(super) fn set_peer(&mut self, conn: ConnId, peer: SocketAddr) {
        let peer = canonical(peer);
        if is_stream(conn) { self.trunks().set_peer(conn, peer) } else { self.io.set_peer(conn, peer) }
    }

    pub(super) fn start_accepting(&mut self) {
        self.io.start_accepting();
    }

    pub(super) fn stop_accepting(&mut self) {
        self.io.stop_accepting();
    }

    pub(super) fn listen(&mut self, listener: Listener) {
        self.io.listen(listener);
    }

    pub(super) fn stop_listening(&mut self, listener: ListenerId) {
        self.io.stop_listening(listener);
    }

    pub(super) fn accept_singly(&mut self, listener: ListenerId, singly: bool) {
        self.io.accept_singly(listener, singly);
    }

    pub(super) fn pause_accepting(&mut self, listener: ListenerId, until: Monotonic) {
        self.io.pause_accepting(listener, until);
    }

    pub(super) fn set_timer(&mut self, at: Monotonic, token: u64) -> TimerId {
        self.io.set_timer(at, token)
    }

    /// Has a timer fire at `at` or earlier. A timer set for an earlier time is set again when it fires. `set`: the timer's storage.
    pub(super) fn set_timer_by(&mut self, timer: Timer, at: Monotonic, set: &mut Option<(Monotonic, TimerId)>) {
        if at == Monotonic::NEVER || set.is_some_and(|(set, _)| set <= at) {
            return;
        }
        if let Some((_, later)) = set.replace((at, self.set_timer(at, timer.token()))) {
            self.cancel_timer(later);
        }
    }

    pub(super) fn cancel_timer(&mut self, timer: TimerId) {
        self.io.cancel_timer(timer);
    }

    #[allow(clippy::result_large_err, reason = "the letter itself, as in the seam")]
    pub(super) fn mail(&mut self, to: usize, letter: Mail) -> Result<(), Mail> {
        self.io.mail(to, letter)
    }

    pub(super) fn open_segments(&mut self, settings: SegmentSettings) -> std::io::Result<()> {
        self.io.open_segments(settings)
    }

    pub(super) fn segments(&mut self) -> Option<&mut dyn Segments> {
        self.io.segments()
    }

    pub(super) fn stop(&mut self) {
        self.io.stop();
    }
}

/// Calls that the broker may make.
impl Out for Ring<'_> {
    fn now(&self) -> Monotonic {
        self.now
    }

    fn wall(&self) -> WallMs {
        self.wall()
    }

    fn is_over(&self) -> bool {
        self.is_over()
    }

    fn go_on(&mut self) {
        self.go_on();
    }

    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.out(conn)
    }

    fn send_late(&mut self, conn: ConnId) {
        self.send_late(conn);
    }

    fn send_soon(&mut self, conn: ConnId) {
        self.send_soon(conn);
    }

    fn unsent(&self, conn: ConnId) -> usize {
        self.unsent(conn)
    }

    fn tell_writable(&mut self, conn: ConnId) {
        self.tell_writable(conn);
    }

    fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        self.peer(conn)
    }

    fn set_timer(&mut self, at: Monotonic, due: Due) {
        let _ = self.set_timer(at, Timer::Broker(due).token());
    }

    fn set_timer_by(&mut self, due: Due, at: Monotonic, set: &mut Option<(Monotonic, TimerId)>) {
        self.set_timer_by(Timer::Broker(due), at, set);
    }

    fn mail(&mut self, to: usize, letter: ToBroker) -> Result<(), ToBroker> {
        self.mail(to, Mail::Broker(letter)).map_err(|letter| match letter {
            Mail::Broker(letter) => letter,
            other => unreachable!("another letter comes back: {other:?}"),
        })
    }
}

/// The trunks.
impl Ring<'_> {
    /// The trunks of the shard.
    pub(super) fn trunks(&mut self) -> &mut Trunks {
        self.trunks.get_or_insert_default()
    }

    /// The trunks, if there has been one.
    pub(super) fn known_trunks(&mut self) -> Option<&mut Trunks> {
        self.trunks.as_deref_mut()
    }

    /// The trunks, if there has been one, and the connections below them.
    pub(super) fn trunks_and_io(&mut self) -> Option<(&mut Trunks, &mut dyn Io<Mail>)> {
        Some((self.trunks.as_deref_mut()?, &mut *self.io))
    }

    fn of(&self, what: impl Fn(&Trunks) -> usize) -> usize {
        self.trunks.as_deref().map_or(0, what)
    }
}
