//! The runtime of one shard as plain tables: every call of the seam is carried out in memory, and time passes only as
//! the run says.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use forebay::runtime::seam::{
    Chunk, ConnId, Detached, Io, Layer, ListenerId, Monotonic, SegmentSettings, Segments, SocketOptions, TimerId,
    WallMs,
};
use forebay::shard::mail::{Mail, ToDoor};

use crate::disk::Disk;
use crate::layers::{Layered, Opened};

/// The shard's side of a connection.
#[derive(Debug, Default)]
pub struct Wire {
    generation: u32,
    /// Bytes that the shard has written and the peer has not yet taken.
    pub out: Vec<u8>,
    /// Whether the shard has stopped reading.
    pub paused: bool,
    /// Whether the shard has closed the connection.
    pub closed: bool,
    /// Whether the shard waits for room.
    awaited: bool,
    /// Address of the broker, for a connection to one.
    pub outgoing: Option<SocketAddr>,
    /// Socket of the device at the other end.
    pub socket: u64,
    listener: u16,
    /// Address of the other end, where that is not a client.
    pub(crate) peer: Option<SocketAddr>,
    /// The connection's layer.
    pub(crate) layered: Option<Box<Layered>>,
    /// Bytes that the shard has left because the connection had used up its quantum.
    unread: Vec<u8>,
}

impl Wire {
    /// Takes the outgoing bytes: the shard's, and the layer's own.
    pub(crate) fn take_out(&mut self) -> Vec<u8> {
        Layered::take_out(self.layered.as_deref_mut(), &mut self.out, self.closed)
    }

    /// Whether this is the wire of the connection.
    pub(crate) const fn is_of(&self, conn: ConnId) -> bool {
        self.generation == conn.generation && !self.closed
    }

    /// Whether the shard must now be notified that there is room again.
    pub(crate) fn has_room_again(&mut self) -> bool {
        self.out.is_empty() && std::mem::take(&mut self.awaited)
    }
}

/// Bound on the handshakes of a turn; further ones wait for the next turn.
const HANDSHAKES: usize = 3;

/// Sockets on their way from one shard to another, by descriptor.
pub type Moving = Rc<RefCell<HashMap<RawFd, u64>>>;

/// The runtime of one shard.
#[derive(Debug)]
pub struct Ring {
    /// Monotonic time of this turn, since the machine started.
    pub now: Monotonic,
    /// Reading of the machine's wall clock.
    pub wall: i64,
    index: usize,
    shards: usize,
    /// Connections by slot.
    pub wires: Vec<Wire>,
    free: Vec<u32>,
    /// Whether the shard has asked to end.
    pub stopped: bool,
    /// Whether the shard accepts no connections, yet or any more.
    pub deaf: bool,
    /// The disk with the shard's segments.
    pub disk: Disk,
    opened: bool,
    timers: BTreeMap<(Monotonic, u32), u64>,
    timer_times: HashMap<u32, Monotonic>,
    next_timer: u32,
    /// Mail to other shards.
    pub mail: Vec<(usize, Mail)>,
    moving: Moving,
    scratch: Vec<u8>,
    /// Connections to brokers that were opened in this turn.
    pub dialled: Vec<ConnId>,
    /// Connections with handshakes that are queued for a later turn.
    line: VecDeque<ConnId>,
    /// Number of handshakes in this turn.
    handshakes: usize,
    /// Where connections have layers: random stream that decides which cannot be moved yet.
    pub(crate) busy: Option<fastrand::Rng>,
    /// Whether a connection could not be moved in this turn.
    pub(crate) is_put_off: bool,
    /// Where turns are short: random stream that decides when a connection has used up its quantum, or a turn its time.
    pub(crate) short: Option<fastrand::Rng>,
    /// Whether the shard has left work for the next turn.
    goes_on: bool,
    /// Where mailboxes may be full: random stream that decides when.
    pub(crate) full: Option<fastrand::Rng>,
    /// Number of times that a connection could not be moved in a turn because a mailbox was full.
    pub(crate) moves_put_off: u64,
}

impl Ring {
    /// A ring of shard `index` of `shards` on this disk.
    #[must_use]
    pub fn new((index, shards): (usize, usize), disk: Disk, moving: Moving) -> Self {
        Self {
            now: Monotonic(0),
            wall: 0,
            index,
            shards,
            wires: Vec::new(),
            free: Vec::new(),
            stopped: false,
            deaf: true,
            disk,
            opened: false,
            timers: BTreeMap::new(),
            timer_times: HashMap::new(),
            next_timer: 0,
            mail: Vec::new(),
            moving,
            scratch: Vec::new(),
            dialled: Vec::new(),
            line: VecDeque::new(),
            handshakes: 0,
            busy: None,
            is_put_off: false,
            short: None,
            goes_on: false,
            full: None,
            moves_put_off: 0,
        }
    }

    /// Begins a turn.
    pub(crate) fn begin_turn(&mut self) {
        (self.handshakes, self.is_put_off, self.goes_on) = (0, false, false);
        let _ = self.short.as_mut().map(|rng| rng.u8(..));
    }

    /// Opens bytes of the wire for a connection with a layer. `None`: the bytes are queued, or there is no layer.
    pub(crate) fn open_layer(&mut self, conn: ConnId, wire: &[u8]) -> Option<Opened> {
        let is_over = self.handshakes >= HANDSHAKES;
        let layered = self.open_wire(conn)?.layered.as_mut()?;
        let is_costly = layered.is_costly();
        if layered.is_in_line() || (is_costly && is_over) {
            if layered.wait(wire) {
                self.line.push_back(conn);
            }
            return None;
        }
        let opened = layered.open(wire);
        self.handshakes += usize::from(is_costly);
        Some(opened)
    }

    /// Takes the next connection with queued handshake bytes, and those bytes.
    pub(crate) fn next_in_line(&mut self) -> Option<(ConnId, Vec<u8>)> {
        while self.handshakes < HANDSHAKES {
            let conn = self.line.pop_front()?;
            if let Some(layered) = self.open_wire(conn).and_then(|wire| wire.layered.as_mut()) {
                return Some((conn, layered.waited()));
            }
        }
        None
    }

    /// Whether there is work that no event announces.
    pub(crate) fn has_left_over(&self) -> bool {
        !self.line.is_empty() || self.is_put_off || self.goes_on || !self.with_unread().is_empty()
    }

    /// Connections with bytes that the shard has left.
    pub(crate) fn with_unread(&self) -> Vec<ConnId> {
        let slots = (0..self.wires.len()).filter(|slot| !self.wires[*slot].unread.is_empty());
        slots.filter_map(|slot| self.id_of(slot)).collect()
    }

    /// Whether a connection has bytes that the shard has left.
    pub(crate) fn has_unread(&mut self, conn: ConnId) -> bool {
        self.named(conn).is_some_and(|wire| !wire.unread.is_empty())
    }

    /// Takes a connection's left bytes, to give them to the shard.
    pub(crate) fn take_unread(&mut self, conn: ConnId) -> Vec<u8> {
        self.named(conn).map(|wire| std::mem::take(&mut wire.unread)).unwrap_or_default()
    }

    /// Keeps the bytes that the shard has left again.
    pub(crate) fn keep_unread(&mut self, conn: ConnId, unread: Vec<u8>) {
        if let Some(wire) = self.open_wire(conn) {
            wire.unread = unread;
        }
    }

    /// Whether a connection has a layer.
    pub(crate) fn is_layered(&mut self, conn: ConnId) -> bool {
        self.named(conn).is_some_and(|wire| wire.layered.is_some())
    }

    /// Opens a connection: of a device's socket, or to a broker.
    pub fn open(&mut self, socket: u64, outgoing: Option<SocketAddr>, listener: u16) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.wires.push(Wire::default());
            (self.wires.len() - 1) as u32
        });
        let wire = &mut self.wires[slot as usize];
        let generation = wire.generation + 1;
        *wire = Wire { generation, outgoing, socket, listener, ..Wire::default() };
        ConnId { slot, generation }
    }

    /// Frees the slot of a connection, after the shard was told of its end.
    pub fn release(&mut self, conn: ConnId) {
        if let Some(wire) = self.named(conn) {
            wire.closed = true;
            wire.generation += 1;
            wire.out.clear();
            wire.layered = None;
            wire.unread.clear();
            self.free.push(conn.slot);
        }
    }

    /// The wire with this id, if it is not released.
    pub fn named(&mut self, conn: ConnId) -> Option<&mut Wire> {
        self.wires.get_mut(conn.slot as usize).filter(|wire| wire.generation == conn.generation)
    }

    /// The wire with this id, if it is neither released nor closed.
    pub fn open_wire(&mut self, conn: ConnId) -> Option<&mut Wire> {
        self.named(conn).filter(|wire| !wire.closed)
    }

    /// The connection in a slot, if there is one that is not released.
    #[must_use]
    pub fn id_of(&self, slot: usize) -> Option<ConnId> {
        let conn = ConnId { slot: slot as u32, generation: self.wires[slot].generation };
        (!self.free.contains(&conn.slot)).then_some(conn)
    }

    /// The open connection of a device's socket.
    #[must_use]
    pub fn conn_of(&self, socket: u64) -> Option<ConnId> {
        let slot =
            self.wires.iter().position(|wire| wire.socket == socket && !wire.closed && wire.outgoing.is_none())?;
        self.id_of(slot)
    }

    /// Time of the next timer.
    #[must_use]
    pub fn next_timer_at(&self) -> Option<Monotonic> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes a timer that is due.
    pub fn due_timer(&mut self) -> Option<u64> {
        let (&(at, id), _) = self.timers.first_key_value()?;
        if at > self.now {
            return None;
        }
        self.timer_times.remove(&id);
        self.timers.pop_first().map(|(_, token)| token)
    }
}

impl Io<Mail> for Ring {
    fn now(&self) -> Monotonic {
        self.now
    }
    fn wall(&self) -> WallMs {
        WallMs(self.wall)
    }
    fn spend(&mut self, packets: u32) -> bool {
        packets == 0 || self.short.as_mut().is_none_or(|rng| rng.u8(..8) > 0)
    }
    fn is_over(&self) -> bool {
        // Decided by a clone of the stream, because this call may not change its state.
        self.short.as_ref().is_some_and(|rng| rng.clone().u8(..8) == 0)
    }
    fn go_on(&mut self) {
        self.goes_on = true;
    }
    fn shard(&self) -> usize {
        self.index
    }
    fn shards(&self) -> usize {
        self.shards
    }
    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.scratch.clear();
        let wire = self.wires.get_mut(conn.slot as usize).filter(|w| w.generation == conn.generation && !w.closed);
        wire.map_or(&mut self.scratch, |wire| &mut wire.out)
    }
    fn send(&mut self, conn: ConnId, chunks: &mut Vec<Chunk>) {
        let out = self.out(conn);
        chunks.drain(..).for_each(|chunk| out.extend_from_slice(chunk.bytes()));
    }
    fn unsent(&self, conn: ConnId) -> usize {
        self.wires.get(conn.slot as usize).map_or(0, |wire| wire.out.len())
    }
    fn unacked(&self, conn: ConnId) -> usize {
        self.unsent(conn)
    }
    fn tell_writable(&mut self, conn: ConnId) {
        if let Some(wire) = self.named(conn) {
            wire.awaited = true;
        }
    }
    fn stream(&mut self, _conn: ConnId) {}
    fn pause(&mut self, conn: ConnId) {
        if let Some(wire) = self.named(conn) {
            wire.paused = true;
        }
    }
    fn resume(&mut self, conn: ConnId) {
        if let Some(wire) = self.named(conn) {
            wire.paused = false;
        }
    }
    fn close(&mut self, conn: ConnId) {
        if let Some(wire) = self.named(conn) {
            wire.closed = true;
        }
    }
    fn abort(&mut self, conn: ConnId) {
        if let Some(wire) = self.named(conn) {
            wire.closed = true;
            wire.out.clear();
            wire.layered = None;
        }
    }
    fn put_layer(&mut self, conn: ConnId, layer: Box<dyn Layer>, unread: &[u8]) {
        let Some(wire) = self.open_wire(conn) else { return };
        let holds = wire.outgoing.is_some();
        let layered = wire.layered.insert(Box::new(Layered::new(layer, Vec::new(), holds)));
        if !unread.is_empty() && layered.wait(unread) {
            self.line.push_back(conn);
        }
    }
    fn connect(&mut self, to: SocketAddr, _socket: SocketOptions) -> ConnId {
        let conn = self.open(0, Some(to), 0);
        self.dialled.push(conn);
        conn
    }
    fn detach(&mut self, conn: ConnId) -> Option<Detached> {
        let is_busy = self.busy.as_mut().is_some_and(|rng| rng.u8(..3) == 0);
        let wire = self.open_wire(conn)?;
        if is_busy || !wire.out.is_empty() || wire.layered.as_ref().is_some_and(|layered| layered.is_in_line()) {
            self.is_put_off = true;
            return None;
        }
        let (socket, listener, peer) = (wire.socket, wire.listener, wire.peer.or(Some(PEER)));
        let (layer, unsent) = wire.layered.take().map(|layered| layered.detach()).unzip();
        // A descriptor of its own: dropping it closes the socket.
        let fd = OwnedFd::from(File::open("/dev/null").ok()?);
        self.moving.borrow_mut().insert(fd.as_raw_fd(), socket);
        self.release(conn);
        let (unsent, unread, deadline) = (unsent.unwrap_or_default(), Vec::new(), Monotonic::NEVER);
        Some(Detached { fd, peer, listener: ListenerId(listener), layer, unsent, unread, deadline, came: None })
    }
    fn adopt(&mut self, moved: Detached) -> ConnId {
        let socket = self.moving.borrow_mut().remove(&moved.fd.as_raw_fd()).unwrap_or(0);
        let conn = self.open(socket, None, moved.listener.0);
        if let Some(wire) = self.named(conn) {
            wire.peer = moved.peer;
        }
        if let (Some(layer), Some(wire)) = (moved.layer, self.named(conn)) {
            wire.layered = Some(Box::new(Layered::new(layer, moved.unsent, false)));
        }
        conn
    }
    fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        let wire = self.wires.get(conn.slot as usize).filter(|wire| wire.generation == conn.generation);
        wire.and_then(|wire| wire.peer).or(Some(PEER))
    }
    fn set_peer(&mut self, _conn: ConnId, _peer: SocketAddr) {}
    fn start_accepting(&mut self) {
        self.deaf = false;
    }
    fn stop_accepting(&mut self) {
        self.deaf = true;
    }
    fn set_timer(&mut self, at: Monotonic, token: u64) -> TimerId {
        self.next_timer += 1;
        self.timers.insert((at, self.next_timer), token);
        self.timer_times.insert(self.next_timer, at);
        TimerId { slot: self.next_timer, generation: 0 }
    }
    fn cancel_timer(&mut self, timer: TimerId) {
        if let Some(at) = self.timer_times.remove(&timer.slot) {
            self.timers.remove(&(at, timer.slot));
        }
    }
    fn mail(&mut self, to: usize, letter: Mail) -> Result<(), Mail> {
        if matches!(letter, Mail::Door(ToDoor::HandOver(..))) && self.full.as_mut().is_some_and(|rng| rng.u8(..6) == 0)
        {
            self.moves_put_off += 1;
            return Err(letter);
        }
        self.mail.push((to, letter));
        Ok(())
    }
    fn open_segments(&mut self, _settings: SegmentSettings) -> io::Result<()> {
        self.opened = true;
        Ok(())
    }
    fn segments(&mut self) -> Option<&mut dyn Segments> {
        self.opened.then_some(&mut self.disk as &mut dyn Segments)
    }
    fn stop(&mut self) {
        self.stopped = true;
    }
}

const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 1)), 40_000);
