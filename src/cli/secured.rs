//! A layer over a socket that blocks: TLS to Kafka for `forebay check` and `forebay topics`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::runtime::seam::Layer;
use crate::secure::Outgoing;

/// A socket with a layer over it.
pub(super) struct Secured {
    socket: TcpStream,
    layer: Box<dyn Layer>,
    /// Bytes that were received and not read.
    plain: Vec<u8>,
}

impl Secured {
    /// Runs the handshake.
    ///
    /// # Errors
    /// Why it fails, in the words of the layer.
    pub(super) fn over(socket: TcpStream, layer: Box<dyn Layer>) -> io::Result<Self> {
        let mut secured = Self { socket, layer, plain: Vec::new() };
        let mut wire = Vec::new();
        loop {
            if secured.open(&mut wire)? {
                return Ok(secured);
            }
            wire = match secured.wire() {
                Ok(wire) if !wire.is_empty() => wire,
                Err(error) if !matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                    return Err(error);
                }
                _ => return Err(io::Error::other(Outgoing::HUNG_UP)),
            };
        }
    }

    /// Gives received bytes to the layer, and sends its answer. Returns whether the layer has become ready.
    fn open(&mut self, wire: &mut [u8]) -> io::Result<bool> {
        let mut answer = Vec::new();
        let opened = self.layer.open(wire, &mut self.plain, &mut answer);
        let sent = self.socket.write_all(&answer);
        // The layer's error says more than a failed write.
        let facts = opened.map_err(|error| io::Error::other(error.what.into_owned()))?;
        sent.map(|()| facts.is_some())
    }

    /// Reads the next bytes; empty at the end of the stream.
    fn wire(&mut self) -> io::Result<Vec<u8>> {
        let mut wire = vec![0; 32 << 10];
        loop {
            match self.socket.read(&mut wire) {
                Ok(count) => {
                    wire.truncate(count);
                    return Ok(wire);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Secured {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.plain.is_empty() && !self.layer.has_ended() {
            let mut wire = self.wire()?;
            if wire.is_empty() {
                break;
            }
            self.open(&mut wire)?;
        }
        let count = self.plain.len().min(into.len());
        into[..count].copy_from_slice(&self.plain[..count]);
        self.plain.drain(..count);
        Ok(count)
    }
}

impl Write for Secured {
    fn write(&mut self, plain: &[u8]) -> io::Result<usize> {
        let mut wire = Vec::new();
        self.layer.seal(plain, &mut wire).map_err(|error| io::Error::other(error.what.into_owned()))?;
        self.socket.write_all(&wire).map(|()| plain.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
