//! The WebSocket layer: the request and its answer, then frames; over TLS, if a layer below is given.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::Settings;
use super::client::Client;
use super::frame::{self, Mask, NORMAL, Reader, Violation};
use super::upgrade::{self, Refusal};
use forebay_runtime::seam::{Facts, Layer, LayerError, LayerFault};

/// The layer of an accepted connection of a listener with WebSocket. `below`: TLS.
#[must_use]
pub fn layer(settings: Arc<Settings>, below: Option<Box<dyn Layer>>) -> Box<dyn Layer> {
    Box::new(WebSocket::new(End::Server(settings), below))
}

/// The layer of an outgoing connection to a server with WebSocket. `authority`: its host and port; `target`: path and query;
/// neither has spaces or control characters. `below`: TLS.
#[must_use]
pub fn outgoing(authority: &str, target: &str, below: Option<Box<dyn Layer>>) -> Box<dyn Layer> {
    Box::new(WebSocket::new(End::Client(Box::new(Client::new(authority, target))), below))
}

/// Like [`outgoing`], with a key that a test knows.
#[cfg(test)]
pub(super) fn of_client(client: Client) -> Box<dyn Layer> {
    Box::new(WebSocket::new(End::Client(Box::new(client)), None))
}

/// Our end of the connection.
#[derive(Debug)]
enum End {
    Server(Arc<Settings>),
    Client(Box<Client>),
}

impl End {
    /// The first bytes of this end; empty if it has none, or they were taken before.
    fn begin(&mut self) -> Vec<u8> {
        match self {
            Self::Server(_) => Vec::new(),
            Self::Client(client) => client.request(),
        }
    }

    /// Parses the first bytes of the other end. Returns their length, and the client's address from a trusted proxy; `None`: they
    /// are not whole.
    fn look(&self, head: &[u8], answer: &mut Vec<u8>) -> Result<Option<(usize, Option<IpAddr>)>, LayerError> {
        match self {
            Self::Client(client) => Ok(client.look(head)?.map(|len| (len, None))),
            Self::Server(settings) => {
                let accepted = upgrade::look(head, settings).map_err(|refusal| refused(refusal, answer))?;
                Ok(accepted.map(|accepted| {
                    answer.extend_from_slice(&accepted.answer);
                    (accepted.len, accepted.forwarded)
                }))
            }
        }
    }

    fn reader(&self) -> Reader {
        match self {
            Self::Server(_) => Reader::default(),
            Self::Client(_) => Reader::of_server(),
        }
    }

    /// The mask of the next frame.
    fn mask(&mut self) -> Option<Mask> {
        match self {
            Self::Server(_) => None,
            Self::Client(client) => Some(client.mask()),
        }
    }
}

#[derive(Debug)]
enum State {
    /// The start of the request, or of the answer to ours.
    Head(Vec<u8>),
    Frames(Box<Reader>),
}

struct WebSocket {
    end: End,
    below: Option<Box<dyn Layer>>,
    facts: Facts,
    state: State,
    has_closed: bool,
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("below", &self.below).field("state", &self.state).finish_non_exhaustive()
    }
}

impl WebSocket {
    fn new(end: End, below: Option<Box<dyn Layer>>) -> Self {
        Self { end, below, facts: Facts::default(), state: State::Head(Vec::new()), has_closed: false }
    }

    /// Takes bytes that are HTTP or frames.
    fn take(&mut self, wire: &mut [u8], plain: &mut Vec<u8>, answer: &mut Vec<u8>) -> Result<bool, LayerError> {
        let mut is_new = false;
        let rest;
        let mut behind;
        let frames: &mut [u8] = match &mut self.state {
            State::Frames(_) => wire,
            State::Head(head) => {
                head.extend_from_slice(wire);
                let Some((len, forwarded)) = self.end.look(head, answer)? else { return Ok(false) };
                rest = std::mem::take(head);
                behind = rest[len..].to_vec();
                (self.facts.is_web_socket, self.facts.forwarded) = (true, forwarded);
                self.state = State::Frames(Box::new(self.end.reader()));
                is_new = true;
                &mut behind
            }
        };
        if let State::Frames(reader) = &mut self.state {
            let end = &mut self.end;
            let taken = reader.take(frames, || end.mask(), plain, answer);
            taken.map_err(|violation| violated(violation, end.mask(), answer))?;
            self.has_closed |= reader.has_ended();
        }
        Ok(is_new)
    }
}

fn refused(refusal: Refusal, answer: &mut Vec<u8>) -> LayerError {
    upgrade::refused(refusal, answer);
    LayerError { fault: LayerFault::Upgrade(refusal.status), what: refusal.what.into() }
}

fn violated(violation: Violation, mask: Option<Mask>, answer: &mut Vec<u8>) -> LayerError {
    frame::close(violation.code, mask, answer);
    LayerError { fault: LayerFault::WebSocket(violation.code), what: violation.what.into() }
}

impl Layer for WebSocket {
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<Option<Facts>, LayerError> {
        let Some(below) = &mut self.below else {
            answer.append(&mut self.end.begin());
            let is_ready = self.take(wire, plain, answer)?;
            return Ok(is_ready.then(|| self.facts.clone()));
        };
        let mut opened = Vec::new();
        let facts = below.open(wire, &mut opened, answer)?;
        let mut said = Vec::new();
        if let Some(facts) = facts {
            self.facts = facts;
            said.append(&mut self.end.begin());
        }
        let taken = if opened.is_empty() { Ok(false) } else { self.take(&mut opened, plain, &mut said) };
        if !said.is_empty()
            && let Some(below) = &mut self.below
        {
            below.seal(&said, answer)?;
        }
        Ok(taken?.then(|| self.facts.clone()))
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LayerError> {
        if self.has_closed {
            // No frame follows a CLOSE.
            return Ok(());
        }
        if matches!(self.state, State::Head(_)) {
            let what = "the request for a WebSocket, or the answer to it, has not come whole";
            return Err(LayerError { fault: LayerFault::Upgrade(400), what: what.into() });
        }
        match &mut self.below {
            None => {
                frame::binary(plain, self.end.mask(), wire);
                Ok(())
            }
            Some(below) => {
                let mut framed = Vec::with_capacity(plain.len() + frame::HEADER_BYTES_MAX);
                frame::binary(plain, self.end.mask(), &mut framed);
                below.seal(&framed, wire)
            }
        }
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        let has_frames = matches!(self.state, State::Frames(_));
        let mut said = Vec::new();
        if has_frames && !std::mem::replace(&mut self.has_closed, true) {
            frame::close(NORMAL, self.end.mask(), &mut said);
        }
        match &mut self.below {
            None => wire.append(&mut said),
            Some(below) => {
                // The connection ends either way.
                let _ = if said.is_empty() { Ok(()) } else { below.seal(&said, wire) };
                below.close(wire);
            }
        }
    }

    fn has_ended(&self) -> bool {
        let within = matches!(&self.state, State::Frames(reader) if reader.has_ended());
        within || self.below.as_ref().is_some_and(|below| below.has_ended())
    }

    fn is_costly(&self) -> bool {
        self.below.as_ref().is_some_and(|below| below.is_costly())
    }

    fn held(&self) -> usize {
        let own = match &self.state {
            State::Head(head) => head.capacity(),
            State::Frames(reader) => reader.held(),
        };
        own + self.below.as_ref().map_or(0, |below| below.held())
    }
}
