//! The parts of a shard's loop besides the shard: the driver, the connections, the timers. [`Core`] is the [`Io`] that the shard is
//! handed; its parts are in the modules of their functions (`receive`, `send`, `accept`, `connect`, `disk`).
//!
//! Nothing in here calls the shard. Events for the shard are noted, and [`turn`](super::turn) delivers them.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::accept::Accepting;
use super::connections::{Conn, Connections, FLUSH_LIMIT, Phase, Reading, tag};
use super::disk::Disk;
use super::driver::{Driver, Kind};
use super::executor::Settings;
use super::fetch::Fetches;
use super::layers::Layers;
use super::listen::Listener;
use super::mailbox::Post;
use super::reads::Reads;
use super::seam::{
    Chunk, Closed, ConnId, Detached, Io, Layer, ListenerId, Monotonic, SegmentSettings, Segments, SocketOptions,
    TimerId, TracedSend, WallMs,
};
use super::segments::SegmentTable;
use super::send::Pool;
use super::timer::Wheel;
use forebay_base::limits::{QUANTUM_PACKETS, TURN_TIME};

/// Packets of a connection after which the clock is looked at.
const PACKETS_A_LOOK: u32 = 32;

/// The entries of the timer wheel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alarm {
    /// A timer of the shard.
    Shard(u64),
    /// Accept again on a listener that ran out of descriptors.
    Accept(u16),
    /// A connection has flushed or lingered long enough.
    Deadline(ConnId),
    /// The peer of a connection that is not read has been gone for [`HUNG_UP_LIMIT`](super::connections::HUNG_UP_LIMIT).
    HungUp(ConnId),
}

/// The state of one shard's loop, without the shard, the receive buffers and the mailbox.
pub(super) struct Core<M, D> {
    pub(super) index: usize,
    pub(super) now: Monotonic,
    pub(super) wall: WallMs,
    pub(super) driver: D,
    pub(super) conns: Connections,
    pub(super) reads: Reads,
    /// Packets that the connection being served may still have in this round.
    pub(super) quantum: u32,
    /// [`Io::quanta_exceeded`].
    pub(super) quanta_exceeded: u64,
    pub(super) pool: Pool,
    /// The out-buffer for dead connections.
    scratch: Vec<u8>,
    /// Connections with something to send in this turn.
    pub(super) dirty: VecDeque<u32>,
    /// Connections of earlier turns with something to send: there were more than a turn writes to.
    pub(super) overdue: VecDeque<u32>,
    /// Connections with something to send that may wait for all others.
    pub(super) late: VecDeque<u32>,
    /// In this turn, connections were added to `late`.
    pub(super) late_grew: bool,
    /// Connections that need a receive armed at the end of the turn.
    pub(super) to_arm: Vec<u32>,
    /// Connections that have ended and that the shard has not heard of yet.
    pub(super) ended: VecDeque<ConnId>,
    pub(super) wheel: Wheel<Alarm>,
    pub(super) disk: Disk,
    pub(super) fetches: Fetches,
    /// The segments of a shard that asked for them.
    pub(super) segments: Option<Box<SegmentTable>>,
    pub(super) layers: Layers,
    pub(super) accepting: Vec<Accepting>,
    /// An accepted connection with this descriptor, or a higher one, is closed.
    pub(super) device_descriptors_max: u32,
    /// The number of connections that were closed for that.
    pub(super) accepts_refused: u64,
    /// [`Io::sent_bytes`].
    pub(super) sent_bytes: u64,
    /// [`Io::take_traced`].
    pub(super) traced: Vec<TracedSend>,
    post: Post<M>,
    pub(super) out_bytes_max: usize,
    pub(super) stopping: bool,
    /// The shard has more to do, whatever the kernel answers.
    pub(super) goes_on: bool,
}

impl<M: Send + 'static, D: Driver> Core<M, D> {
    pub(super) fn new(index: usize, settings: &Settings, driver: D, accepting: Vec<Accepting>, post: Post<M>) -> Self {
        let now = monotonic();
        Self {
            index,
            now,
            wall: wall(),
            driver,
            conns: Connections::default(),
            reads: Reads::default(),
            quantum: 0,
            quanta_exceeded: 0,
            pool: Pool::default(),
            scratch: Vec::new(),
            sent_bytes: 0,
            traced: Vec::new(),
            dirty: VecDeque::new(),
            overdue: VecDeque::new(),
            late: VecDeque::new(),
            late_grew: false,
            to_arm: Vec::new(),
            ended: VecDeque::new(),
            wheel: Wheel::new(now),
            disk: Disk::default(),
            fetches: Fetches::default(),
            segments: None,
            layers: Layers::default(),
            accepting,
            device_descriptors_max: settings.device_descriptors_max,
            accepts_refused: 0,
            post,
            out_bytes_max: settings.out_bytes_max,
            stopping: false,
            goes_on: false,
        }
    }

    /// Reads both clocks: once a turn, so that everything in a turn happens at one instant.
    pub(super) fn read_clocks(&mut self) {
        self.now = monotonic();
        self.wall = wall();
    }

    /// The time that this turn has taken. Reads the clock.
    pub(super) fn elapsed(&self) -> Duration {
        monotonic().since(self.now)
    }

    /// Gives the syncs and reads of this turn to the driver.
    pub(super) fn submit_segments(&mut self) {
        if let Some(segments) = &mut self.segments {
            segments.submit(&mut self.driver, &mut self.disk, self.now);
            segments.fetch(&mut self.driver, &mut self.fetches);
        }
    }

    /// The next time at which there is work without the kernel's help.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        let segments = self.segments.as_ref().and_then(|segments| segments.deadline());
        self.wheel.deadline().into_iter().chain(segments).min()
    }

    /// Whether the segments have something for the shard without the driver's help.
    pub(super) fn has_segment_news(&self) -> bool {
        self.segments.as_ref().is_some_and(|segments| segments.has_news(self.now))
    }

    /// Ends a connection for the shard: the shard is told `why`, and may not use its id any more. Bytes that the peer can still
    /// read are sent if it has closed its sending side only.
    pub(super) fn end(&mut self, id: ConnId, why: Closed) {
        let Some(conn) = self.conns.alive(id) else { return };
        let flush = matches!(why, Closed::Peer) && conn.unsent() > 0;
        conn.why = Some(Box::new(why));
        self.ended.push_back(id);
        if flush {
            conn.phase = Phase::Flushing;
            self.set_deadline(id, FLUSH_LIMIT);
        } else {
            self.kill(id);
        }
    }

    /// Takes the memory of a connection back from the kernel, and frees the slot as soon as it has answered.
    pub(super) fn kill(&mut self, id: ConnId) {
        let Some(conn) = self.conns.named(id) else { return };
        if conn.phase != Phase::Dead {
            conn.phase = Phase::Dead;
            if conn.armed && !conn.cancelling {
                conn.cancelling = true;
                self.driver.cancel(tag(Kind::Receive, id), tag(Kind::CancelReceive, id));
            }
            if conn.watched {
                self.driver.cancel(tag(Kind::HangUp, id), tag(Kind::Ignored, id));
            }
            if conn.sending {
                self.driver.cancel(tag(Kind::Send, id), tag(Kind::Ignored, id));
            }
            if conn.connecting.is_some() {
                self.driver.cancel(tag(Kind::Connect, id), tag(Kind::Ignored, id));
            }
        }
        self.release(id);
    }

    /// Frees the slot of a dead connection that the kernel is done with and that the shard has been told of.
    pub(super) fn release(&mut self, id: ConnId) {
        let Some(conn) = self.conns.named(id) else { return };
        if conn.phase != Phase::Dead || !conn.is_settled() || conn.why.is_some() {
            return;
        }
        if let Some(mut conn) = self.conns.remove(id.slot) {
            if let Some(fd) = conn.fd() {
                self.driver.forget(fd, tag(Kind::Receive, id));
            }
            if let Some(timer) = conn.deadline.take() {
                self.wheel.cancel(timer);
            }
            self.pool.take_all(&mut conn.outgoing);
            self.layers.gone(conn.layered.as_deref());
        }
    }

    /// Ends flushing or lingering after `limit`.
    pub(super) fn set_deadline(&mut self, id: ConnId, limit: Duration) {
        let at = self.now.after(limit);
        if let Some(conn) = self.conns.named(id) {
            let timer = self.wheel.insert(at, Alarm::Deadline(id));
            if let Some(earlier) = conn.deadline.replace(timer) {
                self.wheel.cancel(earlier);
            }
        }
    }

    /// Handles the deadline of a connection.
    pub(super) fn deadline_passed(&mut self, id: ConnId) {
        self.end(id, Closed::Local);
        self.kill(id);
    }

    pub(super) fn adopted(&mut self, conn: Conn) -> ConnId {
        // 2^24 connections on one core: descriptors run out long before. The id of no connection, as for a dead one.
        let id = self.conns.insert(conn).unwrap_or(ConnId { slot: u32::MAX, generation: u32::MAX });
        self.queue_arm(id);
        id
    }
}

impl<M: Send + 'static, D: Driver> Io<M> for Core<M, D> {
    fn now(&self) -> Monotonic {
        self.now
    }

    fn wall(&self) -> WallMs {
        self.wall
    }

    fn boottime(&self) -> Monotonic {
        boottime()
    }

    fn spend(&mut self, packets: u32) -> bool {
        // Rounded up: the first packet of a quantum, which for most clients is the only one, reads no clock.
        let before = self.quantum.div_ceil(PACKETS_A_LOOK);
        self.quantum = self.quantum.saturating_sub(packets);
        if self.quantum.div_ceil(PACKETS_A_LOOK) != before && self.is_over() {
            self.quantum = 0;
        }
        self.quantum > 0
    }

    fn next_quantum(&mut self) {
        self.quantum = QUANTUM_PACKETS;
    }

    fn quanta_exceeded(&self) -> u64 {
        self.quanta_exceeded
    }

    fn is_over(&self) -> bool {
        self.elapsed() >= TURN_TIME
    }

    fn go_on(&mut self) {
        self.goes_on = true;
    }

    fn shard(&self) -> usize {
        self.index
    }

    fn shards(&self) -> usize {
        self.post.shards()
    }

    fn send_late(&mut self, id: ConnId) {
        let Some(conn) = self.conns.named(id).filter(|conn| conn.takes_output()) else { return };
        self.late_grew = true;
        if !conn.dirty {
            (conn.dirty, conn.late) = (true, true);
            self.late.push_back(id.slot);
        }
    }

    fn send_soon(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.named(id)
            && std::mem::take(&mut conn.late)
        {
            // Its entry in `late` then finds nothing to send.
            self.dirty.push_back(id.slot);
        }
    }

    fn out(&mut self, id: ConnId) -> &mut Vec<u8> {
        let Some(conn) = self.conns.named(id).filter(|conn| conn.takes_output()) else {
            self.scratch.clear();
            return &mut self.scratch;
        };
        conn.queue_in(&mut self.dirty, id.slot);
        if conn.outgoing.tail.capacity() == 0 {
            conn.outgoing.tail = self.pool.lend();
        }
        &mut conn.outgoing.tail
    }

    fn send(&mut self, id: ConnId, chunks: &mut Vec<Chunk>) {
        self.queue_chunks(id, chunks);
    }

    fn unsent(&self, id: ConnId) -> usize {
        self.conns.get(id).filter(|conn| conn.is_alive()).map_or(0, Conn::unsent)
    }

    fn unacked(&self, id: ConnId) -> usize {
        let alive = self.conns.get(id).filter(|conn| conn.is_alive());
        let queued = alive.and_then(|conn| conn.fd.as_ref()).map_or(0, super::send::unacked);
        queued + self.unsent(id)
    }

    fn tell_writable(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.alive(id) {
            conn.awaited = true;
        }
    }

    fn trace(&mut self, id: ConnId, on: bool) {
        if let Some(conn) = self.conns.named(id) {
            conn.traced = on;
        }
    }

    fn take_traced(&mut self) -> Vec<TracedSend> {
        std::mem::take(&mut self.traced)
    }

    fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    fn stream(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.alive(id) {
            conn.reading = Reading::Multishot;
        }
    }

    fn pause(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.alive(id) {
            conn.paused = true;
            self.follow_wish(id);
        }
    }

    fn resume(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.alive(id) {
            conn.paused = false;
            self.follow_wish(id);
        }
    }

    fn close(&mut self, id: ConnId) {
        self.close_gently(id);
    }

    fn abort(&mut self, id: ConnId) {
        self.end(id, Closed::Local);
    }

    fn connect(&mut self, to: SocketAddr, socket: SocketOptions) -> ConnId {
        self.start_connect(to, socket)
    }

    fn put_layer(&mut self, id: ConnId, layer: Box<dyn Layer>, unread: &[u8]) {
        self.layer_over(id, layer, unread);
    }

    fn detach(&mut self, id: ConnId) -> Option<Detached> {
        self.take_off(id)
    }

    fn adopt(&mut self, moved: Detached) -> ConnId {
        self.take_on(moved)
    }

    fn peer(&self, id: ConnId) -> Option<SocketAddr> {
        self.conns.get(id)?.peer
    }

    fn set_peer(&mut self, id: ConnId, peer: SocketAddr) {
        if let Some(conn) = self.conns.alive(id) {
            conn.peer = Some(peer);
        }
    }

    fn start_accepting(&mut self) {
        self.open_listeners();
    }

    fn stop_accepting(&mut self) {
        self.close_listeners();
    }

    fn listen(&mut self, listener: Listener) {
        self.add_listener(listener);
    }

    fn stop_listening(&mut self, listener: ListenerId) {
        self.close_listeners_that(|other| other == listener);
    }

    fn accept_singly(&mut self, listener: ListenerId, singly: bool) {
        self.take_singly(listener, singly);
    }

    fn pause_accepting(&mut self, listener: ListenerId, until: Monotonic) {
        self.rest_until(listener, until);
    }

    fn set_timer(&mut self, at: Monotonic, token: u64) -> TimerId {
        self.wheel.insert(at, Alarm::Shard(token))
    }

    fn cancel_timer(&mut self, timer: TimerId) {
        self.wheel.cancel(timer);
    }

    fn mail(&mut self, to: usize, letter: M) -> Result<(), M> {
        self.post.send(to, letter)
    }

    fn open_segments(&mut self, settings: SegmentSettings) -> std::io::Result<()> {
        let (post, index) = (self.post.clone(), self.index);
        self.driver.open_files(index)?;
        let table = SegmentTable::open(index, settings, Box::new(move || post.wake(index)))?;
        self.segments = Some(Box::new(table));
        Ok(())
    }

    fn segments(&mut self) -> Option<&mut dyn Segments> {
        self.segments.as_deref_mut().map(|table| table as &mut dyn Segments)
    }

    fn stop(&mut self) {
        self.stopping = true;
    }
}

fn monotonic() -> Monotonic {
    read(ClockId::Monotonic)
}

/// A clock that runs while the machine sleeps, too.
#[must_use]
pub fn boottime() -> Monotonic {
    read(ClockId::Boottime)
}

fn read(clock: ClockId) -> Monotonic {
    let time = clock_gettime(clock);
    Monotonic(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

fn wall() -> WallMs {
    let time = clock_gettime(ClockId::Realtime);
    WallMs(time.tv_sec * 1000 + time.tv_nsec / 1_000_000)
}
