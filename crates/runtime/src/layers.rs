//! Layers: TLS, between the bytes of a socket and those of a shard.
//!
//! A connection without a layer costs a branch. With a layer, received bytes are decrypted into a scratch that all connections
//! share, and the bytes that the shard has written in a turn are sealed in the flush, when no send is in progress: so nothing is
//! sealed ahead of its socket, and sealed bytes go out once and in that order.
//!
//! On an outgoing connection the layer sends first, and the shard's bytes wait until the handshake is complete. Chunks are gathered
//! into whole records when they are sealed, so that a small chunk needs no record of its own.
//!
//! Handshakes have a time budget in each turn. When it is used up, further handshakes wait in a queue, and their connections
//! are not read. While the queue is full, listeners with layers accept no connections.

use std::collections::VecDeque;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::connections::{Conn, FLUSH_LIMIT, Phase, Reading, tag};
use super::core::Core;
use super::driver::{Driver, Kind};
use super::seam::{Chunk, Closed, ConnId, Detached, Facts, Layer, LayerError, LayerFault, Monotonic, TracedSend};

/// Time for handshakes in a turn; the last handshake may exceed it.
const HANDSHAKES_BUDGET: Duration = Duration::from_micros(500);
/// Handshakes in the queue, each with one receive buffer at most. When it is full, listeners with layers accept no connections.
const LINE_MAX: usize = 1024;
/// Plain bytes that are sealed for one send.
const SEALED_MAX: usize = 128 * 1024;
/// Plain bytes of one record: the most that TLS allows.
const RECORD_BYTES: usize = 16 * 1024;
/// A scratch that has grown beyond this is not kept.
const SCRATCH_BYTES_MAX: usize = 256 * 1024;
/// Bytes of incomplete records and handshakes of a shard, all connections together.
const HELD_MAX: usize = 16 << 20;

/// The layer of a connection.
pub(super) struct Layered {
    pub(super) layer: Box<dyn Layer>,
    /// The layer's own output; goes out before later sealed bytes.
    pub(super) answer: Vec<u8>,
    /// Bytes of the wire that wait for their turn.
    unopened: Vec<u8>,
    /// Plain bytes that the shard has not taken.
    pub(super) unread: Option<Box<Unread>>,
    pub(super) in_line: bool,
    /// Outgoing connection with an unfinished handshake: plain bytes wait.
    holds: bool,
    /// The end of our stream has been written.
    closed: bool,
    /// The layer has failed: the connection ends at this point, once the shard has had the bytes read before.
    has_failed: bool,
    /// Bytes of the first queued chunk that have been sealed.
    sealed: usize,
    /// The connection's part of [`Layers::held`].
    held: usize,
}

/// Plain bytes of a connection for which its quantum did not suffice.
pub(super) struct Unread {
    pub(super) plain: Vec<u8>,
    /// The number of these bytes that the shard has had.
    pub(super) from: usize,
    /// The failure of the layer after them.
    pub(super) failed: Option<LayerError>,
}

/// The shared state of a shard's layers.
#[derive(Default)]
pub(super) struct Layers {
    scratch: Vec<u8>,
    line: VecDeque<ConnId>,
    /// Time that handshakes have had in this turn.
    spent: Duration,
    held: usize,
}

impl Layers {
    pub(super) fn begin_turn(&mut self) {
        self.spent = Duration::ZERO;
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.line.is_empty()
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.line.len() >= LINE_MAX
    }

    /// Fills the queue of handshakes.
    #[cfg(test)]
    pub(super) fn crowd(&mut self) {
        self.line.resize(LINE_MAX, ConnId { slot: u32::MAX, generation: 0 });
    }

    /// The scratch for plain bytes, empty.
    pub(super) fn lend(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(super) fn take_back(&mut self, mut scratch: Vec<u8>) {
        if scratch.capacity() <= SCRATCH_BYTES_MAX {
            scratch.clear();
            self.scratch = scratch;
        }
    }

    /// A connection has left this shard.
    pub(super) fn gone(&mut self, layered: Option<&Layered>) {
        self.held -= layered.map_or(0, |layered| layered.held);
    }
}

impl<M: Send + 'static, D: Driver> Core<M, D> {
    pub(super) fn layer_over(&mut self, id: ConnId, layer: Box<dyn Layer>, unread: &[u8]) {
        let Some(conn) = self.conns.alive(id) else { return };
        let (listener, is_outgoing, is_open) = (conn.listener, conn.is_outgoing(), conn.phase == Phase::Open);
        let mut layered = Layered::new(layer);
        layered.holds = is_outgoing;
        conn.layered = Some(layered);
        if is_outgoing {
            if is_open {
                self.begin_layer(id);
            }
            return;
        }
        self.mark_layered(listener);
        if !unread.is_empty() {
            self.put_in_line(id, unread);
        }
    }

    /// Starts the layer of an outgoing connection that is open: the layer sends first.
    pub(super) fn begin_layer(&mut self, id: ConnId) {
        if self.conns.alive(id).is_some_and(|conn| conn.layered.is_some()) {
            self.put_in_line(id, &[]);
        }
    }

    /// Whether these bytes have to wait for their turn.
    pub(super) fn stands_in_line(&mut self, id: ConnId, wire: &[u8]) -> bool {
        let is_over = self.layers.spent >= HANDSHAKES_BUDGET;
        let layered = self.conns.named(id).and_then(|conn| conn.layered.as_ref());
        let waits = layered.is_some_and(|layered| layered.in_line || (is_over && layered.layer.is_costly()));
        if waits {
            self.put_in_line(id, wire);
        }
        waits
    }

    fn put_in_line(&mut self, id: ConnId, wire: &[u8]) {
        let Some(conn) = self.conns.named(id) else { return };
        let is_outgoing = conn.is_outgoing();
        let Some(layered) = conn.layered.as_mut() else { return };
        layered.unopened.extend_from_slice(wire);
        if !std::mem::replace(&mut layered.in_line, true) {
            // Outgoing connections go first: there are few, and all others wait for the traffic on them.
            if is_outgoing { self.layers.line.push_front(id) } else { self.layers.line.push_back(id) }
        }
    }

    /// The next connection in line, and its bytes.
    pub(super) fn next_in_line(&mut self) -> Option<(ConnId, Vec<u8>)> {
        while self.layers.spent < HANDSHAKES_BUDGET {
            let id = self.layers.line.pop_front()?;
            let conn = self.conns.alive(id).filter(|conn| conn.phase == Phase::Open);
            let Some(layered) = conn.and_then(|conn| conn.layered.as_mut()) else { continue };
            layered.in_line = false;
            return Some((id, std::mem::take(&mut layered.unopened)));
        }
        None
    }

    /// Opens bytes of the wire. The layer's answer goes out in this turn.
    pub(super) fn open_layer(
        &mut self,
        id: ConnId,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Option<Facts>, LayerError> {
        let Some(layered) = self.conns.alive(id).and_then(|conn| conn.layered.as_mut()) else { return Ok(None) };
        if layered.layer.has_ended() {
            return Ok(None);
        }
        let began = layered.layer.is_costly().then(Instant::now);
        let opened = layered.layer.open(wire, plain, &mut layered.answer);
        self.layers.spent += began.map_or(Duration::ZERO, |began| began.elapsed());
        layered.has_failed = opened.is_err();
        let held = layered.layer.held();
        self.layers.held = self.layers.held - std::mem::replace(&mut layered.held, held) + held;
        let has_waited = matches!(opened, Ok(Some(_))) && std::mem::take(&mut layered.holds);
        if has_waited || !layered.answer.is_empty() {
            self.mark_dirty(id);
        }
        opened
    }

    /// Takes the plain bytes that the shard has not had.
    pub(super) fn take_unread(&mut self, id: ConnId) -> Option<Box<Unread>> {
        self.conns.named(id)?.layered.as_mut()?.unread.take()
    }

    /// Keeps the plain bytes that the shard has not taken for the connection's next quantum. True: none are left; the connection
    /// ends then if the layer has failed.
    pub(super) fn keep_unread(&mut self, id: ConnId, unread: Box<Unread>) -> bool {
        if unread.from < unread.plain.len() {
            let conn = self.conns.named(id).filter(|conn| conn.is_open());
            if let Some(layered) = conn.and_then(|conn| conn.layered.as_mut()) {
                layered.unread = Some(unread);
                return false;
            }
        } else if let Some(error) = unread.failed {
            self.layer_failed(id, error);
        } else {
            self.layers.take_back(unread.plain);
        }
        true
    }

    /// Ends the connections with the most bytes of incomplete records, until all of these are within the bound.
    pub(super) fn bound_layers(&mut self) {
        while self.layers.held > HELD_MAX {
            let Some(id) = self.conns.largest(|conn| conn.layered.as_ref().map_or(0, |layered| layered.held)) else {
                return;
            };
            let what = "records that had not arrived completely filled the memory for them";
            self.layer_failed(id, LayerError { fault: LayerFault::Memory, what: what.into() });
        }
    }

    /// Handles the failure of a layer: the shard is told, and the peer gets the layer's earlier output, such as an alert.
    pub(super) fn layer_failed(&mut self, id: ConnId, error: LayerError) {
        let Some(conn) = self.conns.alive(id) else { return };
        let Some(layered) = &mut conn.layered else { return };
        layered.closed = true;
        // The bytes are not needed any more.
        layered.unopened = Vec::new();
        self.layers.held -= std::mem::take(&mut layered.held);
        self.pool.take_lent(std::mem::take(&mut conn.outgoing.tail));
        conn.outgoing.queue.take_all().into_iter().for_each(|chunk| self.pool.take_chunk(chunk));
        conn.why = Some(Box::new(Closed::Layer(error)));
        conn.phase = Phase::Flushing;
        self.ended.push_back(id);
        self.set_deadline(id, FLUSH_LIMIT);
        self.mark_dirty(id);
    }

    /// Makes the next bytes to send from the layer's own and the shard's. False: the layer can carry no more, and the
    /// connection has ended.
    pub(super) fn seal(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.named(id) else { return false };
        let is_outgoing = conn.is_outgoing();
        let Some(layered) = &mut conn.layered else { return true };
        let outgoing = &mut conn.outgoing;
        let has_plain = !layered.holds && (!outgoing.tail.is_empty() || !outgoing.queue.is_empty());
        if !outgoing.flight.is_empty() || (!has_plain && layered.answer.is_empty()) {
            return true;
        }
        let mut wire = self.pool.lend();
        wire.append(&mut std::mem::take(&mut layered.answer));
        let mut sealed = Ok(());
        if has_plain && outgoing.queue.is_empty() {
            let tail = std::mem::take(&mut outgoing.tail);
            sealed = layered.layer.seal(&tail, &mut wire);
            self.sent_bytes += if is_outgoing { 0 } else { tail.len() as u64 };
            if conn.traced {
                TracedSend { conn: id, at: self.wall, bytes: tail.clone() }.keep(&mut self.traced);
            }
            self.pool.take_lent(tail);
        } else if has_plain {
            outgoing.tail_to_queue(&mut self.pool);
            let mut record = self.layers.lend();
            let mut room = SEALED_MAX;
            while let Some(chunk) = outgoing.queue.front().filter(|_| room > 0 && sealed.is_ok()) {
                let rest = &chunk.bytes()[layered.sealed..];
                let piece = &rest[..rest.len().min(room)];
                let bytes = if record.is_empty() && piece.len() >= RECORD_BYTES {
                    // Whole records are sealed where they lie.
                    let whole = piece.len() - piece.len() % RECORD_BYTES;
                    sealed = layered.layer.seal(&piece[..whole], &mut wire);
                    whole
                } else {
                    let more = piece.len().min(RECORD_BYTES - record.len());
                    record.extend_from_slice(&piece[..more]);
                    if record.len() == RECORD_BYTES {
                        sealed = layered.layer.seal(&record, &mut wire);
                        record.clear();
                    }
                    more
                };
                room -= bytes;
                layered.sealed += bytes;
                let is_whole = bytes == rest.len();
                outgoing.queue.gone(bytes);
                if is_whole {
                    layered.sealed = 0;
                    outgoing.queue.pop().into_iter().for_each(|chunk: Chunk| self.pool.take_chunk(chunk));
                }
            }
            if sealed.is_ok() && !record.is_empty() {
                sealed = layered.layer.seal(&record, &mut wire);
            }
            self.layers.take_back(record);
        }
        match sealed {
            Ok(()) => {
                outgoing.flight = wire;
                true
            }
            Err(error) => {
                self.pool.take_lent(wire);
                self.end(id, Closed::Layer(error));
                self.kill(id);
                false
            }
        }
    }

    /// Writes the end of our stream, once. True: there is something to send.
    pub(super) fn close_layer(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.named(id) else { return false };
        let ends = matches!(conn.phase, Phase::Closing | Phase::Flushing);
        let Some(layered) = conn.layered.as_mut().filter(|layered| ends && !layered.closed) else { return false };
        layered.closed = true;
        layered.layer.close(&mut layered.answer);
        let says = !layered.answer.is_empty();
        if says {
            self.mark_dirty(id);
        }
        says
    }

    pub(super) fn take_off(&mut self, id: ConnId) -> Option<Detached> {
        let conn = self.conns.alive(id)?;
        let is_ready = conn.phase == Phase::Open && conn.reading == Reading::OneShot && conn.is_settled();
        let is_plain = conn.layered.is_none();
        let writes = !conn.outgoing.tail.is_empty() || !conn.outgoing.queue.is_empty();
        let waits = conn.layered.as_ref().is_some_and(|layered| layered.in_line || layered.has_failed);
        let stays = waits || conn.has_unread();
        if !is_ready || writes || stays || (is_plain && conn.unsent() > 0) {
            return None;
        }
        let mut conn = self.conns.remove(id.slot)?;
        self.layers.gone(conn.layered.as_deref());
        let (layer, unsent) = match conn.layered.take() {
            Some(layered) => {
                let Layered { layer, answer, .. } = *layered;
                let mut unsent = conn.outgoing.flight.split_off(conn.outgoing.sent);
                unsent.extend_from_slice(&answer);
                (Some(layer), unsent)
            }
            None => (None, Vec::new()),
        };
        self.pool.take_all(&mut conn.outgoing);
        let (fd, peer, listener) = (conn.fd?, conn.peer, conn.listener);
        self.driver.forget(fd.as_fd(), tag(Kind::Receive, id));
        let (unread, deadline) = (Vec::new(), Monotonic::NEVER);
        Some(Detached { fd, peer, listener, layer, unsent, unread, deadline, came: None })
    }

    pub(super) fn take_on(&mut self, moved: Detached) -> ConnId {
        let Detached { fd, peer, listener, layer, unsent, .. } = moved;
        let mut conn = Conn::new(Some(fd), peer, listener, Phase::Open, Reading::OneShot);
        if let Some(layer) = layer {
            let mut layered = Layered::new(layer);
            layered.held = layered.layer.held();
            self.layers.held += layered.held;
            layered.answer = unsent;
            conn.layered = Some(layered);
        }
        let id = self.adopted(conn);
        self.mark_dirty(id);
        id
    }
}

impl Layered {
    fn new(layer: Box<dyn Layer>) -> Box<Self> {
        Box::new(Self {
            layer,
            answer: Vec::new(),
            unopened: Vec::new(),
            unread: None,
            in_line: false,
            holds: false,
            closed: false,
            has_failed: false,
            sealed: 0,
            held: 0,
        })
    }
}
