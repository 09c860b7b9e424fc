//! What is between a socket's bytes and a shard's: TLS, WebSocket.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// TLS, WebSocket or one over the other, between a socket's bytes and a shard's. It does no I/O, and moves with its socket.
///
/// Over a connection that we make, it is first asked to open nothing: what it answers then is what it begins with.
///
/// What `open` answers and what `seal` makes goes out in the order in which it was made, each once.
pub trait Layer: Send + fmt::Debug {
    /// Takes bytes of the wire, which it may change. Appends to `plain` what they hold for the shard, and to `answer`
    /// what must go to the peer at once: flights of a handshake, and an alert where it fails. `Some`: it has become
    /// ready, which is said once.
    ///
    /// # Errors
    /// The connection has failed. What was appended before is still sent.
    fn open(&mut self, wire: &mut [u8], plain: &mut Vec<u8>, answer: &mut Vec<u8>)
    -> Result<Option<Facts>, LayerError>;
    /// Appends to `wire` what carries `plain`.
    ///
    /// # Errors
    /// It is not ready, or can carry no more. The connection ends.
    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LayerError>;
    /// Appends the end of our stream to `wire`; nothing is sealed after it.
    fn close(&mut self, wire: &mut Vec<u8>);
    /// The peer's stream has ended, whether its socket has or not.
    fn has_ended(&self) -> bool;
    /// The next bytes may cost as much as a handshake does.
    fn is_costly(&self) -> bool;
    /// Bytes that it keeps because what they belong to has not come whole.
    fn held(&self) -> usize;
}

/// What is known of a connection when its [`Layer`] is ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// It has TLS: what follows is about that.
    pub is_tls: bool,
    /// An earlier session was resumed by a ticket.
    pub is_resumed: bool,
    /// The protocol's version is the newest there is (TLS 1.3).
    pub is_newest: bool,
    /// The time that this side has computed for it.
    pub took: Duration,
    /// The other side's own certificate in DER, verified; `None`: it has sent none.
    pub certificate: Option<Vec<u8>>,
    /// Its bytes are in frames of WebSocket.
    pub is_web_socket: bool,
    /// The address of the other end, by a trusted proxy.
    pub forwarded: Option<IpAddr>,
}

/// Why a [`Layer`] has failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerError {
    /// For counting.
    pub fault: LayerFault,
    /// In words.
    pub what: Cow<'static, str>,
}

/// The kind of failure of a [`Layer`], as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerFault {
    /// The first bytes are of another protocol.
    OtherProtocol,
    /// There is no version, algorithm or application protocol that both sides have.
    NothingInCommon,
    /// There is no client certificate, and there must be one.
    CertificateMissing,
    /// The client certificate is not valid any more, or not yet.
    CertificateExpired,
    /// The client certificate was revoked, or no CRL says whether it was.
    CertificateRevoked,
    /// The client certificate is not acceptable for another reason.
    CertificateInvalid,
    /// The peer has sent an alert, mostly because of our certificate.
    Alert,
    /// What the peer sends is not what the protocol asks for.
    Protocol,
    /// Half-received records filled their memory.
    Memory,
    /// The request for a WebSocket was answered with this status.
    Upgrade(u16),
    /// The WebSocket was closed with this code.
    WebSocket(u16),
}
