//! TLS of outgoing connections: all of its files, taken whole or not at all.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientConnectionData, Resumption, UnbufferedClientConnection, WantsClientCert, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::unbuffered::UnbufferedStatus;
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, CommonState, ConfigBuilder,
    DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
};

use forebay_runtime::seam::{Layer, LayerError, LayerFault};

use super::certificate;
use super::client::check_length;
use super::layer::{End, TlsLayer, said};
use super::server::{Expiry, expiry, pair_in, pair_of};
use super::{Authorities, OutgoingSettings, OwnCertificate, files};

/// TLS of connections to the brokers of a cluster. Shared by all shards; a connection keeps the one that it began with.
pub struct Outgoing {
    config: Arc<ClientConfig>,
    server_name: Option<String>,
    expiries: Vec<Expiry>,
    /// A hash of settings and all files, by which a reload finds changes.
    print: u64,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outgoing").field("expiries", &self.expiries).finish_non_exhaustive()
    }
}

impl PartialEq for Outgoing {
    fn eq(&self, other: &Self) -> bool {
        self.print == other.print
    }
}

impl Outgoing {
    /// The error for a peer that ends its connection in the middle of the handshake.
    pub const HUNG_UP: &str = "it closed the connection during the TLS handshake; this port may be one without TLS";

    /// Reads and checks all files.
    ///
    /// # Errors
    /// Everything that is wrong with any of them, each with the file's name.
    pub fn load(settings: &OutgoingSettings) -> Result<Self, Vec<String>> {
        let provider = Arc::new(ring::default_provider());
        let mut problems = Vec::new();
        let mut expiries = Vec::new();
        let mut print = DefaultHasher::new();
        print.write(format!("{settings:?}").as_bytes());
        let verifier =
            verifier(settings, &provider, &mut expiries, &mut print).map_err(|problem| problems.push(problem));
        let identity = settings.identity.as_ref().and_then(|own| {
            let key = match own {
                OwnCertificate::Files(pair) => pair_of(pair, &provider),
                OwnCertificate::Text { certificate, key } => pair_in((certificate, key), &provider),
            };
            let key = key.map_err(|problem| problems.push(problem)).ok()?;
            key.cert.iter().for_each(|certificate| print.write(certificate));
            expiries.extend(own.files().and_then(|pair| expiry(&pair.certificate, &key.cert, false)));
            Some(key)
        });
        if let Some(name) = &settings.server_name
            && let Err(problem) = server_name(name)
        {
            problems.push(problem);
        }
        let Some(verifier) = verifier.ok().filter(|_| problems.is_empty()) else { return Err(problems) };
        let builder = builder(verifier).map_err(|error| vec![error.to_string()])?;
        let mut config = match identity {
            Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
            None => builder.with_no_client_auth(),
        };
        // Connections are few and long; a resumed one would not check certificates again.
        config.resumption = Resumption::disabled();
        let server_name = settings.server_name.clone();
        Ok(Self { config: Arc::new(config), server_name, expiries, print: print.finish() })
    }

    /// The layer of a connection to a host. The layer fails at once if no certificate can have the host's name.
    #[must_use]
    pub fn layer(&self, host: &str) -> Box<dyn Layer> {
        let name = server_name(self.server_name.as_deref().unwrap_or(host));
        Box::new(TlsLayer::<UnbufferedClientConnection>::new((Arc::clone(&self.config), name)))
    }

    /// A TLS stream for an ordinary thread.
    ///
    /// # Errors
    /// No certificate can have the host's name.
    pub fn stream<S: Read + Write>(&self, host: &str, socket: S) -> Result<StreamOwned<ClientConnection, S>, String> {
        let name = server_name(self.server_name.as_deref().unwrap_or(host))?;
        let connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| error.to_string())?;
        Ok(StreamOwned::new(connection, socket))
    }

    /// The expiry of its certificates.
    #[must_use]
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }
}

/// TLS to a server that has the first certificate of a PEM file, and to no other.
///
/// # Errors
/// The file cannot be used: its name and why.
pub fn pinned(file: &Path) -> Result<Arc<ClientConfig>, String> {
    let certificate = files::certificates(file, "cert_file")?.swap_remove(0);
    let provider = Arc::new(ring::default_provider());
    let builder = builder(Verifier { accepted: Accepted::Pinned(certificate), provider });
    builder.map(|builder| Arc::new(builder.with_no_client_auth())).map_err(|error| error.to_string())
}

fn builder(verifier: Verifier) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider));
    let builder = builder.with_protocol_versions(&[&TLS13, &TLS12])?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

fn server_name(name: &str) -> Result<ServerName<'static>, String> {
    let wrong = |_| format!("{name} cannot be the name in a certificate; server_name sets the one that it has");
    ServerName::try_from(name.strip_suffix('.').unwrap_or(name).to_owned()).map_err(wrong)
}

fn verifier(
    settings: &OutgoingSettings,
    provider: &Arc<CryptoProvider>,
    expiries: &mut Vec<Expiry>,
    print: &mut DefaultHasher,
) -> Result<Verifier, String> {
    let mut roots = RootCertStore::empty();
    let (cas, from) = match &settings.ca {
        Authorities::System => {
            let found = rustls_native_certs::load_native_certs().certs;
            // Some machines have a few CAs that no library accepts any more.
            roots.add_parsable_certificates(found.iter().cloned());
            (found, None)
        }
        Authorities::File(path) => {
            let cas = files::certificates(path, "ca_file")?;
            expiries.extend(expiry(path, &cas, true));
            (cas, Some(path.display().to_string()))
        }
        Authorities::Text(pem) => (files::certificates_in(pem, "ca_certificates")?, Some("ca_certificates".to_owned())),
    };
    cas.iter().for_each(|ca| print.write(ca));
    if let Some(from) = from {
        for ca in cas {
            roots.add(ca).map_err(|error| format!("{from}: a certificate in it cannot be used: {error}"))?;
        }
    }
    if roots.is_empty() {
        return Err(
            "this machine has no CA certificates; install them (Debian: ca-certificates), or set ca_file".into()
        );
    }
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let inner = inner.build().map_err(|error| error.to_string())?;
    let accepted = Accepted::Trusted { inner, is_name_checked: settings.is_name_checked };
    Ok(Verifier { accepted, provider: Arc::clone(provider) })
}

/// The accepted servers.
#[derive(Debug)]
enum Accepted {
    /// Servers with a valid chain, time, key use and name as rustls checks them, after a bound on the number of certificates; or
    /// all but the name.
    Trusted { inner: Arc<WebPkiServerVerifier>, is_name_checked: bool },
    /// The server with this certificate. Its name, issuer and time do not matter.
    Pinned(CertificateDer<'static>),
}

#[derive(Debug)]
struct Verifier {
    accepted: Accepted,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};
        check_length(intermediates)?;
        let (inner, is_name_checked) = match &self.accepted {
            Accepted::Pinned(certificate) if end_entity == certificate => return Ok(ServerCertVerified::assertion()),
            Accepted::Pinned(_) => return Err(CertificateError::UnknownIssuer.into()),
            Accepted::Trusted { inner, is_name_checked } => (inner, *is_name_checked),
        };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is checked last.
            Err(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) if !is_name_checked => {
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl End for UnbufferedClientConnection {
    type Config = (Arc<ClientConfig>, Result<ServerName<'static>, String>);
    type Data = ClientConnectionData;

    fn start((config, name): &Self::Config, _wire: &[u8]) -> Result<Self, LayerError> {
        let failed = |what: String| LayerError { fault: LayerFault::Protocol, what: what.into() };
        Self::new(Arc::clone(config), name.clone().map_err(failed)?).map_err(said::<Self>)
    }

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }

    fn state(&self) -> &CommonState {
        self
    }

    fn said(error: &Error) -> String {
        match error {
            Error::InvalidCertificate(why) => refused(why),
            Error::AlertReceived(alert) => alerted(*alert),
            Error::InvalidMessage(_) => format!("{error}; this port may be one without TLS"),
            error => error.to_string(),
        }
    }
}

/// Why the certificate of a broker was refused, and the cure.
fn refused(why: &CertificateError) -> String {
    use CertificateError as C;
    match why {
        // A second CA of the same name results in a wrong signature.
        C::UnknownIssuer | C::BadSignature => {
            "its certificate is not signed by a CA that is trusted: ca_file names the CAs".to_owned()
        }
        C::NotValidForNameContext { expected, presented } => {
            let kind = if matches!(expected, ServerName::IpAddress(_)) { IP_ADDRESS } else { DNS_NAME };
            let expected = expected.to_str();
            let presented: Vec<_> = presented.iter().map(|name| presented_name(name)).collect();
            let presented = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!(
                "its certificate is not for {kind} {expected}, it has {presented}; server_name sets the name, verify = \"chain\" \
                 leaves it unchecked"
            )
        }
        C::Expired | C::ExpiredContext { .. } => "its certificate has expired".to_owned(),
        C::NotValidYet | C::NotValidYetContext { .. } => "its certificate is not valid yet".to_owned(),
        other => format!("its certificate was refused: {}", certificate::why(other)),
    }
}

/// The kinds of names: an address is not a DNS name, though it may be written as one.
const IP_ADDRESS: &str = "the IP address";
const DNS_NAME: &str = "the DNS name";

/// A name of a certificate, as the library writes it: `DnsName("localhost")`, `IpAddress(127.0.0.1)`.
fn presented_name(name: &str) -> String {
    let Some((kind, inner)) = name.strip_suffix(')').and_then(|name| name.split_once('(')) else {
        return name.to_owned();
    };
    let kind = match kind {
        "DnsName" => DNS_NAME,
        "IpAddress" => IP_ADDRESS,
        other => other,
    };
    format!("{kind} {}", inner.trim_matches('"'))
}

/// The meaning of a broker's alert, as far as it is known.
fn alerted(alert: AlertDescription) -> String {
    use AlertDescription as A;
    let hint = match alert {
        A::CertificateRequired | A::BadCertificate | A::HandshakeFailure => {
            ": it may require a client certificate, which cert_file and key_file name"
        }
        A::UnknownCA | A::DecryptError | A::CertificateUnknown | A::CertificateExpired | A::CertificateRevoked => {
            ": it does not accept our certificate, which cert_file names"
        }
        _ => "",
    };
    format!("it ended the TLS connection with the alert {alert:?}{hint}")
}
