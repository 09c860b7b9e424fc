//! The layers between a socket's bytes and a shard's: TLS, WebSocket.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// TLS, WebSocket or one over the other, between a socket's bytes and a shard's. A layer does no I/O, and moves with its socket.
///
/// On an outgoing connection, the first call opens no bytes: its answer is the layer's first output.
///
/// The answers of `open` and the output of `seal` go out in the order in which they were made, each once.
pub trait Layer: Send + fmt::Debug {
    /// Takes bytes of the wire, which it may change. Appends to `plain` the bytes for the shard, and to `answer` the bytes that
    /// must go to the peer at once: flights of a handshake, and an alert if it fails. `Some`: the layer has become ready, which is
    /// reported once.
    ///
    /// # Errors
    /// The connection has failed. Bytes appended before are still sent.
    fn open(&mut self, wire: &mut [u8], plain: &mut Vec<u8>, answer: &mut Vec<u8>)
    -> Result<Option<Facts>, LayerError>;
    /// Appends to `wire` the bytes that carry `plain`.
    ///
    /// # Errors
    /// The layer is not ready, or can carry no more. The connection ends.
    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LayerError>;
    /// Appends the end of our stream to `wire`; nothing is sealed after it.
    fn close(&mut self, wire: &mut Vec<u8>);
    /// The peer's stream has ended, whether its socket has or not.
    fn has_ended(&self) -> bool;
    /// The next bytes may cost as much as a handshake does.
    fn is_costly(&self) -> bool;
    /// Bytes that the layer keeps because their record or handshake message is incomplete.
    fn held(&self) -> usize;
}

/// The facts of a connection that are known when its [`Layer`] is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether the connection has TLS, which the following fields describe.
    pub is_tls: bool,
    /// An earlier session was resumed by a ticket.
    pub is_resumed: bool,
    /// The protocol's version is the newest there is (TLS 1.3).
    pub is_newest: bool,
    /// The time that this side has spent on computing the handshake.
    pub took: Duration,
    /// The peer's own certificate in DER, verified; `None`: it has sent none.
    pub certificate: Option<Vec<u8>>,
    /// Whether the bytes are in frames of WebSocket.
    pub is_web_socket: bool,
    /// The address of the peer, as reported by a trusted proxy.
    pub forwarded: Option<IpAddr>,
}

/// The failure of a [`Layer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerError {
    /// The kind of the fault, for counting.
    pub fault: LayerFault,
    /// The fault in words.
    pub what: Cow<'static, str>,
}

/// The kind of failure of a [`Layer`], as far as known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerFault {
    /// The first bytes are of another protocol.
    OtherProtocol,
    /// The two sides have no version, algorithm or application protocol in common.
    NothingInCommon,
    /// The client has no certificate, but must have one.
    CertificateMissing,
    /// The client certificate is not valid any more, or not yet.
    CertificateExpired,
    /// The client certificate was revoked, or no CRL says whether it was.
    CertificateRevoked,
    /// The client certificate is not acceptable for another reason.
    CertificateInvalid,
    /// The peer has sent an alert, mostly because of our certificate.
    Alert,
    /// The peer violates the protocol.
    Protocol,
    /// Half-received records filled their memory.
    Memory,
    /// The request for a WebSocket was answered with this status.
    Upgrade(u16),
    /// The WebSocket was closed with this code.
    WebSocket(u16),
}
