//! Verification of client certificates: chain, time, key use and CRL as rustls checks them, after a bound on the number of
//! certificates, each of which may cost signatures to check.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use super::{Clients, files};

/// The most certificates that the other end may send, its own among them.
pub(super) const CERTIFICATES_MAX: usize = 8;

/// Refuses a chain that is too long, before any signature is computed.
pub(super) fn check_length(intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
    if intermediates.len() >= CERTIFICATES_MAX {
        return Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
    }
    Ok(())
}

#[derive(Debug)]
struct Bounded(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Bounded {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }
    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        check_length(intermediates)?;
        self.0.verify_client_cert(end_entity, intermediates, now)
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The verifier of client certificates, and the contents of its files.
pub(super) struct Asking {
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    pub(super) cas: Vec<CertificateDer<'static>>,
    pub(super) crls: Vec<CertificateRevocationListDer<'static>>,
}

/// Makes the verifier for these settings, and reads its files.
pub(super) fn asking(clients: &Clients, provider: &Arc<CryptoProvider>) -> Result<Asking, String> {
    let shown = clients.ca.display();
    let cas = files::certificates(&clients.ca, "client_ca_file")?;
    let mut roots = RootCertStore::empty();
    for ca in &cas {
        roots.add(ca.clone()).map_err(|error| format!("{shown}: a certificate in it cannot be used: {error}"))?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let crls = clients.crl.as_deref().map_or_else(|| Ok(Vec::new()), files::crls)?;
    if clients.crl.is_some() {
        // Only the device's own certificate is checked against the CRLs: intermediate CAs often have none.
        builder = builder.with_crls(crls.iter().cloned()).only_check_end_entity_revocation();
        if clients.is_expired_crl_refused {
            builder = builder.enforce_revocation_expiration();
        }
    }
    if !clients.is_required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| {
        let file = clients.crl.as_ref().unwrap_or(&clients.ca);
        format!("{}: cannot be used: {error}", file.display())
    })?;
    Ok(Asking { verifier: Arc::new(Bounded(verifier)), cas, crls })
}
