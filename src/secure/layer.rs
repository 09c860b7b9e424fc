//! The server's end of a TLS connection, without buffers of its own: records are opened where they lie, and only what has
//! not come whole is kept.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CertificateError, Error, HandshakeKind, ProtocolVersion, ServerConfig};

use crate::runtime::seam::{Facts, Layer, LayerError, LayerFault};

/// A record's type: all connections begin with a handshake.
const HANDSHAKE: u8 = 0x16;
/// Plain bytes of one record.
const RECORD_MAX: usize = 16 * 1024;
/// What a record adds to them, at most: header, type, tag, and the nonce of TLS 1.2.
const RECORD_OVERHEAD: usize = 64;

/// See the module.
pub(super) struct TlsLayer {
    config: Arc<ServerConfig>,
    /// Made by the first byte.
    conn: Option<Box<UnbufferedServerConnection>>,
    /// The start of a record or of a message of the handshake.
    tail: Vec<u8>,
    is_ready: bool,
    has_ended: bool,
    has_closed: bool,
    took: Duration,
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}

impl TlsLayer {
    pub(super) fn new(config: Arc<ServerConfig>) -> Self {
        let took = Duration::ZERO;
        Self { config, conn: None, tail: Vec::new(), is_ready: false, has_ended: false, has_closed: false, took }
    }

    /// Opens what is whole in `wire`; gives the length of that.
    fn take(&mut self, wire: &mut [u8], plain: &mut Vec<u8>, answer: &mut Vec<u8>) -> Result<usize, Error> {
        let Some(conn) = &mut self.conn else { return Ok(0) };
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = conn.process_tls_records(&mut wire[used..]);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    encode(&mut data, answer)?;
                    true
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    true
                }
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    self.has_ended = true;
                    return Ok(wire.len());
                }
                // Neither has early data to offer, which is off.
                Ok(_) => false,
                Err(error) => {
                    self.alert(answer);
                    return Err(error);
                }
            };
            used += discard;
            if !goes_on {
                return Ok(used);
            }
        }
    }

    /// The alert that rustls sends after an error. It must not read what came in any more, which it does once it has nothing to
    /// send: it would take the buffer for the one before.
    fn alert(&mut self, answer: &mut Vec<u8>) {
        let Some(conn) = &mut self.conn else { return };
        while conn.wants_write() {
            let UnbufferedStatus { state, .. } = conn.process_tls_records(&mut []);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { return };
            if encode(&mut data, answer).is_err() {
                return;
            }
        }
    }

    /// Brings rustls to where it takes plain bytes, and lets `with` write there. It is always shown what is kept: it
    /// remembers places in that.
    fn write<T>(
        &mut self,
        wire: &mut Vec<u8>,
        mut with: impl FnMut(&mut Traffic<'_>, &mut Vec<u8>) -> T,
    ) -> Result<T, LayerError> {
        let not_ready = || LayerError { fault: LayerFault::Protocol, what: "TLS is not ready".into() };
        let Some(conn) = &mut self.conn else { return Err(not_ready()) };
        let mut used = 0;
        let done = loop {
            let UnbufferedStatus { discard, state, .. } = conn.process_tls_records(&mut self.tail[used..]);
            match state.map_err(said)? {
                ConnectionState::WriteTraffic(mut traffic) => break with(&mut traffic, wire),
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, wire).map_err(said)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::PeerClosed => {}
                _ => return Err(not_ready()),
            }
            used += discard;
        };
        self.tail.drain(..used);
        Ok(done)
    }
}

type Traffic<'c> = WriteTraffic<'c, ServerConnectionData>;

impl Layer for TlsLayer {
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<Option<Facts>, LayerError> {
        if self.conn.is_none() {
            if wire.first().is_some_and(|first| *first != HANDSHAKE) {
                return Err(LayerError { fault: LayerFault::OtherProtocol, what: other_protocol(wire).into() });
            }
            let conn = UnbufferedServerConnection::new(Arc::clone(&self.config)).map_err(said)?;
            self.conn = Some(Box::new(conn));
        }
        let began = (!self.is_ready).then(Instant::now);
        let taken = if self.tail.is_empty() {
            self.take(wire, plain, answer).inspect(|used| self.tail.extend_from_slice(&wire[*used..]))
        } else {
            let mut tail = std::mem::take(&mut self.tail);
            tail.extend_from_slice(wire);
            self.take(&mut tail, plain, answer).inspect(|used| {
                if *used < tail.len() {
                    tail.drain(..*used);
                    self.tail = tail;
                }
            })
        };
        self.took += began.map_or(Duration::ZERO, |began| began.elapsed());
        taken.map_err(said)?;
        let Some(conn) = self.conn.as_ref().filter(|conn| !self.is_ready && !conn.is_handshaking()) else {
            return Ok(None);
        };
        self.is_ready = true;
        Ok(Some(Facts {
            is_resumed: conn.handshake_kind() == Some(HandshakeKind::Resumed),
            is_newest: conn.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            took: self.took,
            certificate: conn.peer_certificates().and_then(|all| all.first()).map(|own| own.to_vec()),
        }))
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LayerError> {
        self.write(wire, |traffic, wire| {
            let from = wire.len();
            wire.resize(from + plain.len() + (plain.len() / RECORD_MAX + 1) * RECORD_OVERHEAD, 0);
            let mut written = traffic.encrypt(plain, &mut wire[from..]);
            if let Err(EncryptError::InsufficientSize(needs)) = &written {
                wire.resize(from + needs.required_size, 0);
                written = traffic.encrypt(plain, &mut wire[from..]);
            }
            wire.truncate(from + written.as_ref().map_or(0, |bytes| *bytes));
            written
                .map(drop)
                .map_err(|error| LayerError { fault: LayerFault::Protocol, what: error.to_string().into() })
        })?
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        if self.is_ready && !std::mem::replace(&mut self.has_closed, true) {
            // Where it fails there is nothing left to say.
            let _ = self.write(wire, |traffic, wire| {
                let from = wire.len();
                wire.resize(from + RECORD_OVERHEAD, 0);
                let written = traffic.queue_close_notify(&mut wire[from..]).unwrap_or(0);
                wire.truncate(from + written);
            });
        }
    }

    fn has_ended(&self) -> bool {
        self.has_ended
    }

    fn is_costly(&self) -> bool {
        !self.is_ready
    }

    fn held(&self) -> usize {
        self.tail.capacity()
    }
}

fn encode<Data>(data: &mut EncodeTlsData<'_, Data>, into: &mut Vec<u8>) -> Result<(), Error> {
    let from = into.len();
    let mut written = data.encode(&mut []);
    if let Err(EncodeError::InsufficientSize(needs)) = &written {
        into.resize(from + needs.required_size, 0);
        written = data.encode(&mut into[from..]);
    }
    written.map(drop).map_err(|error| Error::General(error.to_string()))
}

/// What came in the place of TLS.
fn other_protocol(bytes: &[u8]) -> &'static str {
    const HTTP: [&[u8]; 4] = [b"GET ", b"POST", b"HEAD", b"PUT "];
    if bytes.first() == Some(&0x10) {
        "this looks like MQTT without TLS; this listener expects TLS"
    } else if HTTP.iter().any(|method| bytes.starts_with(method)) {
        "this looks like HTTP; this listener accepts MQTT over TLS"
    } else if bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n") {
        "this looks like a PROXY header; proxy_protocol of the listener is off"
    } else {
        "this is not TLS; this listener expects it"
    }
}

/// An error of rustls, by whose doing it is.
fn said(error: Error) -> LayerError {
    use CertificateError as C;
    let fault = match &error {
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => LayerFault::NothingInCommon,
        Error::NoCertificatesPresented => LayerFault::CertificateMissing,
        Error::InvalidCertificate(why) => match why {
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. } => {
                LayerFault::CertificateExpired
            }
            C::Revoked
            | C::UnknownRevocationStatus
            | C::ExpiredRevocationList
            | C::ExpiredRevocationListContext { .. } => LayerFault::CertificateRevoked,
            _ => LayerFault::CertificateInvalid,
        },
        Error::AlertReceived(_) => LayerFault::Alert,
        _ => LayerFault::Protocol,
    };
    let what = match &error {
        Error::InvalidCertificate(why) => format!("the client certificate was refused: {why}"),
        Error::AlertReceived(alert) => format!("the client ended the TLS connection with the alert {alert:?}"),
        Error::NoCertificatesPresented => "the client has sent no certificate, and this listener requires one".into(),
        error => error.to_string(),
    };
    LayerError { fault, what: what.into() }
}
