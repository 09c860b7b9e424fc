//! The client's handshake of a WebSocket, with its answer, and the masks of the client's frames.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::frame::{Mask, PROTOCOL_ERROR};
use super::upgrade::{self, FIELDS_MAX, Fields, HEAD_BYTES_MAX};
use forebay_runtime::seam::{LayerError, LayerFault};

/// The subprotocol [MQTT-6.0.0-3].
const PROTOCOL: &str = "mqtt";
/// The longest reason of a status that is shown to people, in characters.
const REASON_MAX: usize = 60;
/// Bytes of masks that are made at once.
const POOL_BYTES: usize = 256;

/// The client's end of a WebSocket.
#[derive(Debug)]
pub(super) struct Client {
    /// The request, until it is sent.
    request: Vec<u8>,
    /// The expected `Sec-WebSocket-Accept` of the answer.
    accept: String,
    masks: Masks,
}

impl Client {
    /// `authority`: host and port; `target`: path and query.
    pub(super) fn new(authority: &str, target: &str) -> Self {
        let mut masks = Masks::default();
        let mut key = [0; 16];
        key.as_chunks_mut::<4>().0.iter_mut().for_each(|part| *part = masks.next());
        Self::with_key(authority, target, &STANDARD.encode(key), masks)
    }

    pub(super) fn with_key(authority: &str, target: &str, key: &str, masks: Masks) -> Self {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\n\r\n"
        );
        Self { request: request.into_bytes(), accept: upgrade::accept(key), masks }
    }

    /// The request; empty if it was taken before.
    pub(super) fn request(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.request)
    }

    /// The mask of the next frame.
    pub(super) fn mask(&mut self) -> Mask {
        self.masks.next()
    }

    /// Parses the bytes so far. Returns the length of the answer; `None`: the answer is not whole.
    pub(super) fn look(&self, bytes: &[u8]) -> Result<Option<usize>, LayerError> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut fields);
        let len = match response.parse(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
            Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
                return Err(wrong("it is larger than 8 KiB or has more than 64 header fields"));
            }
            Err(_) => return Err(wrong("it is no HTTP; this port may be one of another protocol")),
        };
        match response.code {
            Some(101) => self.check(&Fields(response.headers)).map(|()| Some(len)),
            status => Err(refused(status.unwrap_or_default(), response.reason.unwrap_or_default())),
        }
    }

    /// Checks the fields of an answer that accepts (RFC 6455, 4.1).
    fn check(&self, fields: &Fields<'_>) -> Result<(), LayerError> {
        let has = |name: &'static str, value: &str| fields.tokens(name).any(|token| token.eq_ignore_ascii_case(value));
        if !has("upgrade", "websocket") || !has("connection", "upgrade") {
            return Err(wrong("it has no Upgrade: websocket, or no Connection: Upgrade"));
        }
        if fields.only("sec-websocket-accept") != Some(&self.accept) {
            return Err(wrong("its Sec-WebSocket-Accept does not fit the request"));
        }
        if fields.values("sec-websocket-extensions").any(|extensions| !extensions.is_empty()) {
            return Err(wrong("it has extensions, and none was offered"));
        }
        if fields.only("sec-websocket-protocol") != Some(PROTOCOL) {
            return Err(wrong("its Sec-WebSocket-Protocol is not mqtt"));
        }
        Ok(())
    }
}

/// The error of an answer that does not match the request.
fn wrong(what: &str) -> LayerError {
    let what = format!("the answer to the request for a WebSocket: {what}");
    LayerError { fault: LayerFault::WebSocket(PROTOCOL_ERROR), what: what.into() }
}

fn refused(status: u16, reason: &str) -> LayerError {
    let reason: String = reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
    let hint = if status == 404 { "; the URL may need another path" } else { "" };
    let what = format!("the request for a WebSocket was answered with {status} {}{hint}", reason.trim());
    LayerError { fault: LayerFault::Upgrade(status), what: what.into() }
}

/// Unpredictable masks (RFC 6455, 10.3), drawn several at a time.
#[derive(Debug)]
pub(super) struct Masks {
    pool: [u8; POOL_BYTES],
    used: usize,
}

impl Default for Masks {
    fn default() -> Self {
        Self { pool: [0; POOL_BYTES], used: POOL_BYTES }
    }
}

impl Masks {
    fn next(&mut self) -> Mask {
        if self.used == POOL_BYTES {
            // The kernel always has random bytes; and a predictable mask is still a mask.
            if SystemRandom::new().fill(&mut self.pool).is_err() {
                fastrand::fill(&mut self.pool);
            }
            self.used = 0;
        }
        let mut mask = [0; 4];
        mask.copy_from_slice(&self.pool[self.used..self.used + 4]);
        self.used += 4;
        mask
    }
}
