//! A client's end of a connection: packets to and from the shard, and the layer between them and the bytes of the socket.

use std::collections::VecDeque;

use crate::digest::Seen;
use crate::layers::Layered;

/// A client's end of a connection.
#[derive(Debug, Default)]
pub struct Connection {
    /// Bytes on their way to the shard.
    sending: VecDeque<u8>,
    /// The layer between the packets and the socket.
    layered: Option<Box<Layered>>,
    /// With a layer: bytes for the socket.
    wire: VecDeque<u8>,
    inbox: Vec<u8>,
    /// Digest of all bytes that the client has read on its connections, and of where each connection began and ended.
    seen: Seen,
}

impl Connection {
    /// Begins a new connection, with nothing left of the previous one.
    pub(crate) fn begin(&mut self) {
        self.sending.clear();
        self.inbox.clear();
        self.seen.number(u64::MAX);
    }

    /// Ends the connection.
    pub(crate) fn end(&mut self) {
        self.sending.clear();
        self.seen.number(u64::MAX - 1);
        self.put_layer(false);
    }

    /// Gives the next connection a layer, or none.
    pub(crate) fn put_layer(&mut self, has_layer: bool) {
        self.wire.clear();
        self.layered = has_layer.then(|| Box::new(Layered::client()));
        if let Some(layered) = &mut self.layered {
            layered.open(&[]);
        }
    }

    /// Whether the connection has a layer.
    pub(crate) const fn is_layered(&self) -> bool {
        self.layered.is_some()
    }

    /// Takes at most `most` bytes for the socket. A layer first seals up to half as many plain bytes.
    pub(crate) fn take_bytes(&mut self, most: usize) -> Vec<u8> {
        let Some(layered) = &mut self.layered else {
            return self.sending.drain(..self.sending.len().min(most)).collect();
        };
        let plain = if layered.holds() { 0 } else { self.sending.len().min(most.div_ceil(2)) };
        self.wire.extend(layered.seal(&mut self.sending.drain(..plain).collect()));
        self.wire.drain(..self.wire.len().min(most)).collect()
    }

    /// Whether the layer has an answer of its own to send.
    pub(crate) fn has_to_answer(&self) -> bool {
        self.layered.as_ref().is_some_and(|layered| layered.has_said())
    }

    /// Whether all bytes are on their way.
    pub(crate) fn has_sent(&self) -> bool {
        self.sending.is_empty() && self.wire.is_empty()
    }

    /// Number of bytes that the client has yet to send.
    pub(crate) fn unsent(&self) -> usize {
        self.sending.len()
    }

    /// Queues a packet with this first byte.
    pub(crate) fn packet(&mut self, first: u8, body: &[u8]) {
        self.sending.push_back(first);
        let mut rest = body.len();
        loop {
            let more = rest > 127;
            self.sending.push_back((rest & 127) as u8 | if more { 128 } else { 0 });
            rest >>= 7;
            if !more {
                break;
            }
        }
        self.sending.extend(body);
    }

    /// Handles bytes of the socket. Returns why the layer has failed, if it has.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Option<String> {
        let Some(layered) = &mut self.layered else {
            self.inbox.extend_from_slice(bytes);
            self.seen.bytes(bytes);
            return None;
        };
        let opened = layered.open(bytes);
        self.inbox.extend_from_slice(&opened.plain);
        self.seen.bytes(&opened.plain);
        opened.error.map(|error| error.what.into_owned())
    }

    /// The digest of what the client has seen.
    pub(crate) const fn seen(&self) -> Seen {
        self.seen
    }

    /// The next complete packet, and the offset in it after its length.
    pub(crate) fn next_packet(&mut self) -> Option<(Vec<u8>, usize)> {
        let (head, len) = length(&self.inbox).filter(|(head, len)| self.inbox.len() >= head + len)?;
        Some((self.inbox.drain(..head + len).collect(), head))
    }
}

/// Length of a packet's fixed header, and length of the rest.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for at in 1..5 {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        if byte < 128 {
            return Some((at + 1, length));
        }
    }
    None
}

/// Appends a text with its length before it.
pub(crate) fn string(text: &[u8], into: &mut Vec<u8>) {
    into.extend_from_slice(&u16::try_from(text.len()).expect("short").to_be_bytes());
    into.extend_from_slice(text);
}
