//! The runtime's place taken by plain tables and a clock that tests turn: every call of the seam is carried out in
//! memory, so a whole shard runs here without a socket, and time passes when a test says so.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};
use std::time::Duration;

use forebay::runtime::seam::{
    Chunk, ConnId, Detached, Io, ListenerId, Monotonic, SegmentSettings, Segments, Shard as _, SocketOptions, TimerId,
    WallMs,
};
use forebay::shard::Core;
use forebay::shard::mail::Mail;

use super::layers::Layered;
use super::segments::Disk;

/// One side of a connection, as the shard has left it.
#[derive(Default)]
pub(crate) struct Wire {
    /// Which connection of this slot it is.
    generation: u32,
    /// What the shard has written and nobody has taken yet.
    pub(crate) out: Vec<u8>,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
    /// The shard is to be told when there is room.
    awaited: bool,
    pub(crate) outgoing: Option<SocketAddr>,
    /// The other end.
    pub(crate) peer: Option<SocketAddr>,
    /// The shard's end of its layer.
    pub(crate) layered: Option<Box<Layered>>,
    /// The client's end.
    pub(crate) client: Option<Box<Client>>,
}

/// A client's end of a layer, and what it has sealed and not sent.
pub(crate) struct Client {
    layered: Layered,
    wire: VecDeque<u8>,
}

impl Wire {
    /// What goes out of what the shard has written, and of what its layer says.
    pub(crate) fn take_out(&mut self) -> Vec<u8> {
        Layered::take_out(self.layered.as_deref_mut(), &mut self.out, self.closed)
    }

    /// Whether the shard is to be told that there is room again.
    pub(crate) fn has_room_again(&mut self) -> bool {
        self.out.is_empty() && std::mem::take(&mut self.awaited)
    }
}

impl Client {
    /// Both ends of a client's connection.
    pub(crate) fn over(wire: &mut Wire) {
        let mut client = Self { layered: Layered::client(), wire: VecDeque::new() };
        client.layered.open(&[]);
        (wire.client, wire.layered) = (Some(Box::new(client)), Some(Box::new(Layered::server())));
    }

    /// What these bytes of the wire hold, which is all that came, cut here.
    pub(crate) fn read(&mut self, wire: &[u8], cut: usize) -> Vec<u8> {
        let (first, second) = wire.split_at(cut.min(wire.len()));
        let mut plain = Vec::new();
        for piece in [first, second] {
            let opened = self.layered.open(piece);
            assert!(opened.error.is_none(), "the client: {:?}", opened.error);
            plain.extend_from_slice(&opened.plain);
        }
        plain
    }

    /// So many bytes at most for the wire, of what the layer says and of these, unless they have to wait.
    pub(crate) fn write(&mut self, plain: &mut Vec<u8>, most: usize) -> Vec<u8> {
        self.wire.extend(self.layered.seal(plain));
        self.wire.drain(..self.wire.len().min(most)).collect()
    }
}

/// The ring that is none.
pub(crate) struct Table {
    pub(crate) now: Monotonic,
    /// The wall clock is so far behind.
    pub(crate) wall_behind_ms: i64,
    pub(crate) wires: Vec<Wire>,
    pub(crate) stopped: bool,
    /// What the shard's segments are on.
    pub(crate) disk: Disk,
    /// The shard has opened them.
    opened: bool,
    pub(crate) timers: BTreeMap<(Monotonic, u32), u64>,
    next_timer: u32,
    /// Letters to other shards; `None`: there are none.
    pub(crate) posted: Option<Vec<(usize, Mail)>>,
    /// So many of them for each at a time.
    pub(crate) mailbox: usize,
    /// Packets of a connection in a turn; `None`: any number.
    pub(crate) quantum: Option<u32>,
    /// How many of them are left.
    left: u32,
    /// Turns have had their time as soon as anything asks.
    pub(crate) is_over: bool,
    /// The shard wants another turn.
    pub(crate) goes_on: bool,
    /// Slots to be used again.
    free: Vec<u32>,
    /// Connections that have moved away, by the descriptor that went with them.
    pub(crate) moved_off: Vec<(RawFd, ConnId)>,
    /// Connections that have moved here.
    pub(crate) moved_in: Vec<(RawFd, ConnId)>,
    scratch: Vec<u8>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            now: Monotonic(1_000_000_000),
            wall_behind_ms: 0,
            wires: Vec::new(),
            stopped: false,
            disk: Disk::default(),
            opened: false,
            timers: BTreeMap::new(),
            next_timer: 0,
            posted: None,
            mailbox: 0,
            quantum: None,
            left: 0,
            is_over: false,
            goes_on: false,
            free: Vec::new(),
            moved_off: Vec::new(),
            moved_in: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// A new process: the clock goes on, the disk is what it is, every connection is gone.
    pub(crate) fn restart(&mut self) {
        let disk = std::mem::take(&mut self.disk);
        let (now, wall_behind_ms) = (Monotonic(self.now.0 + 1_000_000_000), self.wall_behind_ms);
        *self = Self { now, wall_behind_ms, disk, ..Self::new() };
    }

    pub(crate) fn open(&mut self, outgoing: Option<SocketAddr>) -> ConnId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.wires.push(Wire::default());
            u32::try_from(self.wires.len() - 1).expect("few wires")
        });
        let wire = &mut self.wires[slot as usize];
        *wire = Wire { generation: wire.generation + 1, outgoing, ..Wire::default() };
        ConnId { slot, generation: wire.generation }
    }

    /// The shard has been told the end: the slot may be given to another connection.
    pub(crate) fn release(&mut self, conn: ConnId) {
        if let Some(wire) = self.named(conn) {
            wire.closed = true;
            wire.generation += 1;
            wire.out.clear();
            (wire.layered, wire.client) = (None, None);
            self.free.push(conn.slot);
        }
    }

    /// The connection in a slot.
    pub(crate) fn id(&self, slot: usize) -> ConnId {
        ConnId { slot: u32::try_from(slot).expect("few wires"), generation: self.wires[slot].generation }
    }

    /// Whether the slot waits for its next connection.
    pub(crate) fn is_free(&self, conn: ConnId) -> bool {
        self.free.contains(&conn.slot)
    }

    /// Connections that the shard has closed, and whose end it has not been told.
    pub(crate) fn closed(&self) -> Vec<ConnId> {
        let all = (0..self.wires.len()).map(|slot| self.id(slot));
        all.filter(|conn| self.wires[conn.slot as usize].closed && !self.is_free(*conn)).collect()
    }

    /// The wire that an id names, closed or not.
    pub(crate) fn named(&mut self, conn: ConnId) -> Option<&mut Wire> {
        self.wires.get_mut(conn.slot as usize).filter(|wire| wire.generation == conn.generation)
    }

    /// The next timer due at or before `until`, with the clock turned to it.
    pub(crate) fn next_timer(&mut self, until: Monotonic) -> Option<u64> {
        let (&(at, _), _) = self.timers.first_key_value()?;
        if at > until {
            return None;
        }
        self.now = self.now.max(at);
        self.timers.pop_first().map(|(_, token)| token)
    }

    /// Bytes of a peer, by the layer of its connection if it has one.
    pub(crate) fn feed(&mut self, core: &mut Core, conn: ConnId, bytes: &[u8]) {
        let Some(layered) = self.named(conn).and_then(|wire| wire.layered.as_mut()) else {
            core.on_bytes(self, conn, bytes);
            return;
        };
        let (unread, error) = layered.open(bytes).deliver(Vec::new(), core, self, conn);
        assert!(error.is_none() && unread.is_empty(), "the shard: {error:?}");
    }

    /// The next connection is served.
    /// Packets that are left of the quantum.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    pub(crate) fn serve_next(&mut self) {
        self.left = self.quantum.unwrap_or(0);
    }

    pub(crate) fn wire(&mut self, conn: ConnId) -> &mut Wire {
        &mut self.wires[conn.slot as usize]
    }
}

impl Io<Mail> for Table {
    fn now(&self) -> Monotonic {
        self.now
    }
    fn wall(&self) -> WallMs {
        let epoch_ms = 1_790_000_000_000 - self.wall_behind_ms;
        WallMs(epoch_ms + i64::try_from(Duration::from_nanos(self.now.0).as_millis()).expect("soon"))
    }
    fn spend(&mut self, packets: u32) -> bool {
        self.left = self.left.saturating_sub(packets);
        self.quantum.is_none() || self.left > 0
    }
    fn next_quantum(&mut self) {
        self.serve_next();
    }
    fn is_over(&self) -> bool {
        self.is_over
    }
    fn go_on(&mut self) {
        self.goes_on = true;
    }
    fn shard(&self) -> usize {
        0
    }
    fn shards(&self) -> usize {
        1
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
        self.wires[conn.slot as usize].out.len()
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
    fn connect(&mut self, to: SocketAddr, _socket: SocketOptions) -> ConnId {
        self.open(Some(to))
    }
    fn detach(&mut self, conn: ConnId) -> Option<Detached> {
        let peer = self.peer(conn);
        self.release(conn);
        let fd = OwnedFd::from(File::open("/dev/null").ok()?);
        self.moved_off.push((fd.as_raw_fd(), conn));
        let (listener, deadline) = (ListenerId(0), Monotonic::NEVER);
        Some(Detached { fd, peer, listener, layer: None, unsent: Vec::new(), unread: Vec::new(), deadline, came: None })
    }
    fn adopt(&mut self, moved: Detached) -> ConnId {
        let conn = self.open(None);
        self.wire(conn).peer = moved.peer;
        self.moved_in.push((moved.fd.as_raw_fd(), conn));
        conn
    }
    fn peer(&self, conn: ConnId) -> Option<SocketAddr> {
        self.wires.get(conn.slot as usize).filter(|wire| wire.generation == conn.generation)?.peer
    }
    fn set_peer(&mut self, conn: ConnId, peer: SocketAddr) {
        if let Some(wire) = self.named(conn) {
            wire.peer = Some(peer);
        }
    }
    fn start_accepting(&mut self) {}
    fn stop_accepting(&mut self) {}
    fn set_timer(&mut self, at: Monotonic, token: u64) -> TimerId {
        self.next_timer += 1;
        self.timers.insert((at, self.next_timer), token);
        TimerId { slot: self.next_timer, generation: 0 }
    }
    fn cancel_timer(&mut self, timer: TimerId) {
        self.timers.retain(|(_, id), _| *id != timer.slot);
    }
    fn mail(&mut self, to: usize, letter: Mail) -> Result<(), Mail> {
        match &mut self.posted {
            Some(posted) if posted.iter().filter(|(of, _)| *of == to).count() < self.mailbox => {
                posted.push((to, letter));
                Ok(())
            }
            _ => Err(letter),
        }
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

/// A peer's failure, for `on_close`.
pub(crate) fn reset() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionReset)
}
