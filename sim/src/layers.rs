//! One end of a connection with a layer, as in the runtime (`runtime/layers.rs`), without a socket. The shard's tests
//! include this file by `#[path]`; both put the toy layer of the runtime's tests under connections, at both ends.

use std::mem::take;
use std::time::Duration;

use forebay::runtime::seam::{ConnId, Facts, Io, Layer, LayerError, Shard as _};
use forebay::shard::Core;
use forebay::shard::mail::Mail;

use crate::toy::Toy;

/// Nominal cost of a flight of the toy's handshake, measured by no clock.
const FLIGHT_COST: Duration = Duration::from_micros(200);

/// The result of opening bytes of the wire.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Plain bytes.
    pub(crate) plain: Vec<u8>,
    /// Facts of the handshake, if it has just ended.
    pub(crate) facts: Option<Facts>,
    /// Error of the layer, if it has failed.
    pub(crate) error: Option<LayerError>,
}

impl Opened {
    /// Tells the shard, giving it its unread bytes first. Returns the bytes that the shard leaves, and the error of the layer, if it
    /// has failed.
    pub(crate) fn deliver(
        self,
        mut unread: Vec<u8>,
        core: &mut Core,
        io: &mut dyn Io<Mail>,
        conn: ConnId,
    ) -> (Vec<u8>, Option<LayerError>) {
        if let Some(facts) = self.facts {
            core.on_ready(io, conn, facts);
        }
        unread.extend(self.plain);
        if !unread.is_empty() {
            unread.drain(..core.on_bytes(io, conn, &unread));
        }
        (unread, self.error)
    }
}

/// One end of a connection with a layer.
#[derive(Debug)]
pub(crate) struct Layered {
    layer: Box<dyn Layer>,
    /// Bytes that the layer sends by itself, ahead of later sealed ones.
    answer: Vec<u8>,
    /// Bytes of the wire that are queued for a turn with room for handshakes.
    unopened: Vec<u8>,
    in_line: bool,
    /// Whether the handshake is pending, so that plain bytes wait for its end.
    holds: bool,
    closed: bool,
}

impl Layered {
    /// An end with this layer. `unsent`: bytes of the wire that go out before anything else; `holds`: the handshake
    /// comes first.
    pub(crate) fn new(layer: Box<dyn Layer>, unsent: Vec<u8>, holds: bool) -> Self {
        Self { layer, answer: unsent, unopened: Vec::new(), in_line: false, holds, closed: false }
    }

    /// The end that accepted the connection, with the toy.
    pub(crate) fn server() -> Self {
        Self::new(Box::new(Toy::default().costing(FLIGHT_COST, false)), Vec::new(), false)
    }

    /// The end that made the connection, with the toy. It speaks first, when [`Layered::open`] gets no bytes.
    pub(crate) fn client() -> Self {
        Self::new(Box::new(Toy::client().costing(FLIGHT_COST, false)), Vec::new(), true)
    }

    /// Takes the outgoing bytes of a connection with or without a layer, and the end of the stream if `closed`.
    pub(crate) fn take_out(layered: Option<&mut Self>, out: &mut Vec<u8>, closed: bool) -> Vec<u8> {
        let Some(layered) = layered else { return take(out) };
        let mut wire = layered.seal(out);
        if closed {
            layered.close(&mut wire);
        }
        wire
    }

    /// Whether the next bytes cost as much as a handshake.
    pub(crate) fn is_costly(&self) -> bool {
        self.layer.is_costly()
    }

    /// Whether plain bytes wait for the end of the handshake.
    pub(crate) const fn holds(&self) -> bool {
        self.holds
    }

    /// Whether the layer has bytes of its own that have not gone out.
    pub(crate) const fn has_said(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Whether bytes are queued for a turn with room for handshakes.
    pub(crate) const fn is_in_line(&self) -> bool {
        self.in_line
    }

    /// Queues bytes of the wire. Returns whether they are the first ones.
    pub(crate) fn wait(&mut self, wire: &[u8]) -> bool {
        self.unopened.extend_from_slice(wire);
        !std::mem::replace(&mut self.in_line, true)
    }

    /// Takes the queued bytes, in their turn.
    pub(crate) fn waited(&mut self) -> Vec<u8> {
        self.in_line = false;
        take(&mut self.unopened)
    }

    /// Opens bytes of the wire.
    pub(crate) fn open(&mut self, wire: &[u8]) -> Opened {
        let mut plain = Vec::new();
        if self.layer.has_ended() {
            return Opened { plain, facts: None, error: None };
        }
        match self.layer.open(&mut wire.to_vec(), &mut plain, &mut self.answer) {
            Ok(facts) => {
                self.holds &= facts.is_none();
                Opened { plain, facts, error: None }
            }
            Err(error) => {
                self.closed = true;
                Opened { plain, facts: None, error: Some(error) }
            }
        }
    }

    /// Takes the outgoing bytes: the layer's own, and `plain` sealed, unless it has to wait for the handshake.
    ///
    /// # Panics
    /// If `plain` cannot be sealed: it is passed before the handshake is over.
    pub(crate) fn seal(&mut self, plain: &mut Vec<u8>) -> Vec<u8> {
        let mut wire = take(&mut self.answer);
        if !self.holds && !plain.is_empty() {
            self.layer.seal(plain, &mut wire).expect("the toy carries what it is given");
            plain.clear();
        }
        wire
    }

    /// Ends our stream, once.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.closed, true) {
            self.layer.close(wire);
        }
    }

    /// The layer for a move to another shard, and the bytes that go to the peer before anything else.
    pub(crate) fn detach(self) -> (Box<dyn Layer>, Vec<u8>) {
        (self.layer, self.answer)
    }
}
