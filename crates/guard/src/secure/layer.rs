//! An end of a TLS connection, without buffers of its own: records are decrypted in place, and only incomplete ones are kept.

use std::fmt;
use std::time::{Duration, Instant};

use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CertificateError, CommonState, Error, HandshakeKind, ProtocolVersion};

use forebay_runtime::seam::{Facts, Layer, LayerError, LayerFault};

/// The most plain bytes of one record.
const RECORD_MAX: usize = 16 * 1024;
/// The most bytes that a record adds: header, type, tag, and the nonce of TLS 1.2.
const RECORD_OVERHEAD: usize = 64;

/// The server's end, or the client's.
pub(super) trait End: Send + Sized {
    /// The configuration of a connection.
    type Config: Send;
    type Data;

    /// Begins a connection with its first bytes.
    fn start(config: &Self::Config, wire: &[u8]) -> Result<Self, LayerError>;
    /// rustls' step, the same for both ends.
    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    fn state(&self) -> &CommonState;
    /// An error in the words of this end.
    fn said(error: &Error) -> String;
}

/// One end of a TLS connection.
pub(super) struct TlsLayer<E: End> {
    config: E::Config,
    /// The connection, created by the first call.
    conn: Option<Box<E>>,
    /// The start of a record or of a message of the handshake.
    tail: Vec<u8>,
    is_ready: bool,
    has_ended: bool,
    has_closed: bool,
    took: Duration,
}

impl<E: End> fmt::Debug for TlsLayer<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").field("is_ready", &self.is_ready).finish_non_exhaustive()
    }
}

impl<E: End> TlsLayer<E> {
    pub(super) fn new(config: E::Config) -> Self {
        let took = Duration::ZERO;
        Self { config, conn: None, tail: Vec::new(), is_ready: false, has_ended: false, has_closed: false, took }
    }

    /// Decrypts the whole records of `wire`. Returns their length.
    fn take(&mut self, wire: &mut [u8], plain: &mut Vec<u8>, answer: &mut Vec<u8>) -> Result<usize, Error> {
        let Some(conn) = &mut self.conn else { return Ok(0) };
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state, .. } = conn.process(&mut wire[used..]);
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
                // Neither end has early data, which is off.
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

    /// Writes the alert that rustls sends after an error. rustls must not read the received bytes again, as it does when it has
    /// nothing to send: it would take the buffer for the one before.
    fn alert(&mut self, answer: &mut Vec<u8>) {
        let Some(conn) = &mut self.conn else { return };
        while conn.state().wants_write() {
            let UnbufferedStatus { state, .. } = conn.process(&mut []);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else { return };
            if encode(&mut data, answer).is_err() {
                return;
            }
        }
    }

    /// Drives rustls until it takes plain bytes, and lets `with` write there. rustls is always shown the kept bytes: it remembers
    /// offsets into them.
    fn write<T>(
        &mut self,
        wire: &mut Vec<u8>,
        mut with: impl FnMut(&mut WriteTraffic<'_, E::Data>, &mut Vec<u8>) -> T,
    ) -> Result<T, LayerError> {
        let not_ready = || LayerError { fault: LayerFault::Protocol, what: "TLS is not ready".into() };
        let Some(conn) = &mut self.conn else { return Err(not_ready()) };
        let mut used = 0;
        let done = loop {
            let UnbufferedStatus { discard, state, .. } = conn.process(&mut self.tail[used..]);
            match state.map_err(said::<E>)? {
                ConnectionState::WriteTraffic(mut traffic) => break with(&mut traffic, wire),
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, wire).map_err(said::<E>)?,
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

impl<E: End> Layer for TlsLayer<E> {
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<Option<Facts>, LayerError> {
        let began = (!self.is_ready).then(Instant::now);
        if self.conn.is_none() {
            self.conn = Some(Box::new(E::start(&self.config, wire)?));
        }
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
        taken.map_err(said::<E>)?;
        let state = self.conn.as_ref().map(|conn| conn.state());
        let Some(state) = state.filter(|state| !self.is_ready && !state.is_handshaking()) else {
            return Ok(None);
        };
        self.is_ready = true;
        Ok(Some(Facts {
            is_tls: true,
            is_resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            is_newest: state.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            took: self.took,
            certificate: state.peer_certificates().and_then(|all| all.first()).map(|own| own.to_vec()),
            ..Facts::default()
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
            // The connection ends either way.
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

/// Maps an error of rustls to the fault of one end or the other.
pub(super) fn said<E: End>(error: Error) -> LayerError {
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
    LayerError { fault, what: E::said(&error).into() }
}
