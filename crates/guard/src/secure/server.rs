//! TLS of a listener: all of its files, taken whole or not at all.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ServerConnectionData, UnbufferedServerConnection};
use rustls::sign::CertifiedKey;
use rustls::unbuffered::UnbufferedStatus;
use rustls::version::{TLS12, TLS13};
use rustls::{CommonState, Error, InconsistentKeys, ServerConfig};
use webpki::{CertRevocationList, OwnedCertRevocationList};

use forebay_runtime::seam::{Layer, LayerError, LayerFault};

use super::certificate::{ByName, not_after, why};
use super::layer::{End, TlsLayer, said};
use super::{CertificateId, Pair, Secret, Settings, client, files};

/// The first application protocol of a listener: one of these.
const MQTT: &[u8] = b"mqtt";
const HTTP: &[u8] = b"http/1.1";
/// A record's type: every connection begins with a handshake.
const HANDSHAKE: u8 = 0x16;

/// The expiry of a file's certificates: that of the first to expire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The file.
    pub file: PathBuf,
    /// Seconds since 1970.
    pub at: i64,
    /// Whether these are CAs of the other end's certificates.
    pub is_of_ca: bool,
}

/// TLS of a listener. Shared by all shards; a connection keeps the one that it began with.
pub struct Server {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
    /// The revoked client certificates.
    crls: Vec<CertRevocationList<'static>>,
    /// A hash of settings and all files, by which a reload finds changes.
    print: u64,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("expiries", &self.expiries).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads and checks all files.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, each with the file's name.
    pub fn load(settings: &Settings) -> Result<Self, Vec<String>> {
        let provider = Arc::new(ring::default_provider());
        let mut problems = Vec::new();
        let mut keep = |problem: String| problems.push(problem);
        let mut expiries = Vec::new();
        let mut print = DefaultHasher::new();
        print.write(format!("{settings:?}").as_bytes());
        let mut keys = Vec::new();
        let mut revoked = Vec::new();
        for pair in &settings.certificates {
            match pair_of(pair, &provider) {
                Ok(key) => {
                    key.cert.iter().for_each(|certificate| print.write(certificate));
                    expiries.extend(expiry(&pair.certificate, &key.cert, false));
                    keys.push(Arc::new(key));
                }
                Err(problem) => keep(problem),
            }
        }
        let verifier = settings.clients.as_ref().and_then(|clients| {
            let client::Asking { verifier, cas, crls } = client::asking(clients, &provider).map_err(&mut keep).ok()?;
            crls.iter().for_each(|crl| print.write(crl));
            // The verifier has read all of them.
            revoked.extend(crls.iter().filter_map(|crl| OwnedCertRevocationList::from_der(crl).ok()).map(Into::into));
            cas.iter().for_each(|ca| print.write(ca));
            expiries.extend(expiry(&clients.ca, &cas, true));
            Some(verifier)
        });
        let Some(first) = keys.first().filter(|_| problems.is_empty()) else { return Err(problems) };
        let mut names = ByName::new(Arc::clone(first));
        keys.iter().for_each(|key| names.add(key));

        let versions: &[_] = if settings.is_1_2_allowed { &[&TLS13, &TLS12] } else { &[&TLS13] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| vec![error.to_string()])?;
        let mut config = builder
            .with_client_cert_verifier(verifier.unwrap_or_else(|| Arc::new(NoClientAuth)))
            .with_cert_resolver(Arc::new(names));
        let others = settings.alpn.iter().map(|name| name.as_bytes().to_vec());
        let first = if settings.is_web { HTTP } else { MQTT };
        config.alpn_protocols = [first.to_vec()].into_iter().chain(others).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        // A resumed session restores the certificate without checking it again, so a listener that asks for certificates issues
        // no tickets.
        if settings.tickets && settings.clients.is_none() {
            config.ticketer = ring::Ticketer::new().map_err(|error| vec![error.to_string()])?;
            config.send_tls13_tickets = 1;
        }
        Ok(Self { config: Arc::new(config), expiries, crls: revoked, print: print.finish() })
    }

    /// A connection's layer: no more than a pointer until its first byte arrives.
    #[must_use]
    pub fn layer(&self) -> Box<dyn Layer> {
        Box::new(TlsLayer::<UnbufferedServerConnection>::new(Arc::clone(&self.config)))
    }

    /// The configuration for connections that are not a shard's.
    #[must_use]
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// Whether a certificate that was accepted has been revoked since.
    #[must_use]
    pub fn has_revoked(&self, certificate: &CertificateId) -> bool {
        certificate.is_in(&self.crls)
    }

    /// The expiry of its certificates.
    #[must_use]
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    /// Whether settings and files are the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Expiry {
    /// The time left in seconds; negative: the time since the expiry.
    #[must_use]
    pub fn left(&self) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        self.at - i64::try_from(now).unwrap_or(i64::MAX)
    }
}

pub(super) fn expiry(file: &std::path::Path, certificates: &[CertificateDer<'_>], is_of_ca: bool) -> Option<Expiry> {
    let at = certificates.iter().filter_map(|certificate| not_after(certificate)).min()?;
    Some(Expiry { file: file.to_owned(), at, is_of_ca })
}

pub(super) fn pair_of(pair: &Pair, provider: &Arc<CryptoProvider>) -> Result<CertifiedKey, String> {
    let chain = files::certificates(&pair.certificate, "cert_file")?;
    let key = files::key(&pair.key)?;
    let (certificate, shown) = (pair.certificate.display(), pair.key.display());
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            format!("{shown}: this key does not belong to the first certificate in {certificate}")
        }
        rustls::Error::InvalidCertificate(error) => format!("{certificate}: cannot be used: {}", why(&error)),
        error => format!("{shown}: cannot be used: {error}"),
    })
}

/// Makes a certified key of texts.
pub(super) fn pair_in(
    (certificate, key): (&str, &Secret),
    provider: &Arc<CryptoProvider>,
) -> Result<CertifiedKey, String> {
    let chain = files::certificates_in(certificate, "the certificate")?;
    CertifiedKey::from_der(chain, files::key_in(key)?, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key does not belong to the certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(error) => format!("the certificate cannot be used: {}", why(&error)),
        error => format!("the key cannot be used: {error}"),
    })
}

impl End for UnbufferedServerConnection {
    type Config = Arc<ServerConfig>;
    type Data = ServerConnectionData;

    fn start(config: &Self::Config, wire: &[u8]) -> Result<Self, LayerError> {
        if wire.first().is_some_and(|first| *first != HANDSHAKE) {
            return Err(LayerError { fault: LayerFault::OtherProtocol, what: other_protocol(wire).into() });
        }
        Self::new(Arc::clone(config)).map_err(said::<Self>)
    }

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn said(error: &Error) -> String {
        match error {
            Error::InvalidCertificate(error) => format!("the client certificate was refused: {}", why(error)),
            Error::AlertReceived(alert) => format!("the client ended the TLS connection with the alert {alert:?}"),
            Error::NoCertificatesPresented => {
                "the client has sent no certificate, and this listener requires one".to_owned()
            }
            error => error.to_string(),
        }
    }
}

/// The protocol that was spoken instead of TLS, in words.
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
