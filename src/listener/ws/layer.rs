//! The layer: the request, then frames; over TLS, if that is given.

use std::fmt;
use std::sync::Arc;

use super::Settings;
use super::frame::{self, NORMAL, Reader, Violation};
use super::upgrade::{self, Refusal};
use crate::runtime::seam::{Facts, Layer, LayerError, LayerFault};

/// A connection of a listener with WebSocket. `below`: TLS.
#[must_use]
pub fn layer(settings: Arc<Settings>, below: Option<Box<dyn Layer>>) -> Box<dyn Layer> {
    Box::new(WebSocket {
        settings,
        below,
        facts: Facts::default(),
        state: State::Request(Vec::new()),
        has_closed: false,
    })
}

#[derive(Debug)]
enum State {
    /// The start of the request.
    Request(Vec<u8>),
    Frames(Box<Reader>),
}

struct WebSocket {
    settings: Arc<Settings>,
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
    /// Takes bytes that are HTTP or frames.
    fn take(&mut self, wire: &mut [u8], plain: &mut Vec<u8>, answer: &mut Vec<u8>) -> Result<bool, LayerError> {
        let mut is_new = false;
        let rest;
        let mut behind;
        let frames: &mut [u8] = match &mut self.state {
            State::Frames(_) => wire,
            State::Request(request) => {
                request.extend_from_slice(wire);
                let accepted = upgrade::look(request, &self.settings).map_err(|refusal| refused(refusal, answer))?;
                let Some(accepted) = accepted else { return Ok(false) };
                rest = std::mem::take(request);
                behind = rest[accepted.len..].to_vec();
                answer.extend_from_slice(&accepted.answer);
                (self.facts.is_web_socket, self.facts.forwarded) = (true, accepted.forwarded);
                self.state = State::Frames(Box::default());
                is_new = true;
                &mut behind
            }
        };
        if let State::Frames(reader) = &mut self.state {
            reader.take(frames, plain, answer).map_err(|violation| violated(violation, answer))?;
            self.has_closed |= reader.has_ended();
        }
        Ok(is_new)
    }
}

fn refused(refusal: Refusal, answer: &mut Vec<u8>) -> LayerError {
    upgrade::refused(refusal, answer);
    LayerError { fault: LayerFault::Upgrade(refusal.status), what: refusal.what.into() }
}

fn violated(violation: Violation, answer: &mut Vec<u8>) -> LayerError {
    frame::close(violation.code, answer);
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
            let is_ready = self.take(wire, plain, answer)?;
            return Ok(is_ready.then(|| self.facts.clone()));
        };
        let mut opened = Vec::new();
        let facts = below.open(wire, &mut opened, answer)?;
        if let Some(facts) = facts {
            self.facts = facts;
        }
        let mut said = Vec::new();
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
            // Nothing follows a CLOSE.
            return Ok(());
        }
        if matches!(self.state, State::Request(_)) {
            let what = "the request for a WebSocket has not come whole";
            return Err(LayerError { fault: LayerFault::Upgrade(400), what: what.into() });
        }
        match &mut self.below {
            None => {
                frame::binary(plain, wire);
                Ok(())
            }
            Some(below) => {
                let mut framed = Vec::with_capacity(plain.len() + 10);
                frame::binary(plain, &mut framed);
                below.seal(&framed, wire)
            }
        }
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        let has_frames = matches!(self.state, State::Frames(_));
        let mut said = Vec::new();
        if has_frames && !std::mem::replace(&mut self.has_closed, true) {
            frame::close(NORMAL, &mut said);
        }
        match &mut self.below {
            None => wire.append(&mut said),
            Some(below) => {
                // Where it fails there is nothing left to say.
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
            State::Request(request) => request.capacity(),
            State::Frames(reader) => reader.held(),
        };
        own + self.below.as_ref().map_or(0, |below| below.held())
    }
}
