//! One end of a connection that has a layer, as the runtime has it (`runtime/layers.rs`), without a socket. The shard's
//! tests have it, too, by `#[path]`; both put the toy layer of the runtime's tests under connections, at both ends.

use std::mem::take;
use std::time::Duration;

use forebay::runtime::seam::{ConnId, Facts, Io, Layer, LayerError, Shard as _};
use forebay::shard::Core;
use forebay::shard::mail::Mail;

use crate::toy::Toy;

/// What a flight of the toy's handshake costs, by the clock of nothing.
const FLIGHT_COST: Duration = Duration::from_micros(200);

/// What came of bytes of the wire.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What they hold.
    pub(crate) plain: Vec<u8>,
    /// The handshake is over.
    pub(crate) facts: Option<Facts>,
    /// The layer has failed.
    pub(crate) error: Option<LayerError>,
}

impl Opened {
    /// Tells the shard, after bytes of earlier that it has not taken. What it leaves, and the failure of the layer, if it has failed.
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
    /// What the layer sends by itself; goes out ahead of what is sealed later.
    answer: Vec<u8>,
    /// Bytes of the wire that wait for their turn.
    unopened: Vec<u8>,
    in_line: bool,
    /// The handshake is not over, and plain bytes wait for its end.
    holds: bool,
    closed: bool,
}

impl Layered {
    /// One with this layer. `unsent`: bytes of the wire that go out before anything else; `holds`: its handshake comes
    /// first.
    pub(crate) fn new(layer: Box<dyn Layer>, unsent: Vec<u8>, holds: bool) -> Self {
        Self { layer, answer: unsent, unopened: Vec::new(), in_line: false, holds, closed: false }
    }

    /// The end that accepted the connection, with the toy.
    pub(crate) fn server() -> Self {
        Self::new(Box::new(Toy::default().costing(FLIGHT_COST, false)), Vec::new(), false)
    }

    /// The end that made it, with the toy. It speaks first: [`Layered::open`] of nothing.
    pub(crate) fn client() -> Self {
        Self::new(Box::new(Toy::client().costing(FLIGHT_COST, false)), Vec::new(), true)
    }

    /// What goes out of what a shard has written, over a layer or without, and the end of the stream, where that is `closed`.
    pub(crate) fn take_out(layered: Option<&mut Self>, out: &mut Vec<u8>, closed: bool) -> Vec<u8> {
        let Some(layered) = layered else { return take(out) };
        let mut wire = layered.seal(out);
        if closed {
            layered.close(&mut wire);
        }
        wire
    }

    /// The next bytes cost as much as a handshake does.
    pub(crate) fn is_costly(&self) -> bool {
        self.layer.is_costly()
    }

    /// Plain bytes wait for the end of its handshake.
    pub(crate) const fn holds(&self) -> bool {
        self.holds
    }

    /// The layer has something to say that has not gone out.
    pub(crate) const fn has_said(&self) -> bool {
        !self.answer.is_empty()
    }

    /// Its bytes wait for their turn.
    pub(crate) const fn is_in_line(&self) -> bool {
        self.in_line
    }

    /// Bytes of the wire wait for their turn. Whether they are the first.
    pub(crate) fn wait(&mut self, wire: &[u8]) -> bool {
        self.unopened.extend_from_slice(wire);
        !std::mem::replace(&mut self.in_line, true)
    }

    /// Its turn has come: the bytes that have waited.
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

    /// What goes out: what the layer has said, and these bytes, unless they have to wait.
    ///
    /// # Panics
    /// If they cannot be sealed: something is said before the handshake is over.
    pub(crate) fn seal(&mut self, plain: &mut Vec<u8>) -> Vec<u8> {
        let mut wire = take(&mut self.answer);
        if !self.holds && !plain.is_empty() {
            self.layer.seal(plain, &mut wire).expect("the toy carries what it is given");
            plain.clear();
        }
        wire
    }

    /// The end of our stream, once.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.closed, true) {
            self.layer.close(wire);
        }
    }

    /// The layer as it moves, and the bytes that go to the peer before anything else.
    pub(crate) fn detach(self) -> (Box<dyn Layer>, Vec<u8>) {
        (self.layer, self.answer)
    }
}
