//! Certificates, keys and CRLs in PEM files. Each problem names its file and its cure.

use std::io::Read as _;
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer,
    PrivateSec1KeyDer,
};

use super::{Secret, der};

/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 16 << 20;

fn read(path: &Path, key: &str) -> Result<Vec<u8>, String> {
    let shown = path.display();
    let failed = |error: std::io::Error| format!("{shown}: {error}; {key} names the file");
    let mut bytes = Vec::new();
    std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!("{shown}: larger than {BYTES_MAX} bytes; {key} names the file"));
    }
    Ok(bytes)
}

/// All items of one kind in a file; at least one.
fn all<T: PemObject>(path: &Path, key: &str, kind: &str) -> Result<Vec<T>, String> {
    let bytes = read(path, key)?;
    let shown = path.display();
    let found = parsed(&bytes).map_err(|error| match store(&bytes) {
        Some(cure) => format!("{shown}: {cure}"),
        None => format!("{shown}: not PEM: {error}"),
    })?;
    if found.is_empty() {
        let cure = store(&bytes).map_or_else(String::new, |cure| format!(": {cure}"));
        return Err(format!("{shown}: no {kind} in it{cure}; {key} names a PEM file with at least one"));
    }
    Ok(found)
}

fn parsed<T: PemObject>(pem: &[u8]) -> Result<Vec<T>, PemError> {
    T::pem_slice_iter(pem).collect()
}

/// The command that converts a Java key store to PEM, if the bytes are one.
fn store(bytes: &[u8]) -> Option<&'static str> {
    const JKS: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
    /// The first byte of PKCS #12 and of certificates in DER alike.
    const SEQUENCE: u8 = 0x30;
    if bytes.starts_with(&JKS) {
        return Some(
            "a Java key store (JKS); `keytool -importkeystore -srckeystore FILE -destkeystore NEW.p12 -deststoretype \
             PKCS12` and `openssl pkcs12 -in NEW.p12 -nodes -out NEW.pem` write it as PEM",
        );
    }
    (bytes.first() == Some(&SEQUENCE)).then_some(
        "not text; `openssl pkcs12 -in FILE -nodes -out NEW.pem` writes PKCS #12 as PEM, `openssl x509 -inform DER -in \
         FILE -out NEW.pem` a certificate",
    )
}

pub(super) fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    all(path, key, "certificate")
}

/// The certificates in a text.
pub(super) fn certificates_in(pem: &str, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = parsed(pem.as_bytes()).map_err(|error| format!("{key} is not PEM: {error}"))?;
    if found.is_empty() { Err(format!("{key} has no certificate (`-----BEGIN CERTIFICATE-----`)")) } else { Ok(found) }
}

pub(super) fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    all(path, "crl_file", "CRL (`-----BEGIN X509 CRL-----`)")
}

/// A key in the form that its content has, whatever the label of its PEM says, as OpenSSL reads it.
fn by_content(key: PrivateKeyDer<'static>) -> PrivateKeyDer<'static> {
    // After the version: PKCS #8 has an algorithm, PKCS #1 a number, and SEC 1 an octet string.
    const INTEGER: u8 = 0x02;
    const OCTETS: u8 = 0x04;
    let der = key.secret_der();
    let second = der::enter(der, der::SEQUENCE).and_then(|(key, _)| Some(*der::skip(key)?.first()?));
    match (second, &key) {
        (Some(der::SEQUENCE), PrivateKeyDer::Pkcs1(_) | PrivateKeyDer::Sec1(_)) => {
            PrivatePkcs8KeyDer::from(der.to_vec()).into()
        }
        (Some(INTEGER), PrivateKeyDer::Pkcs8(_)) => PrivatePkcs1KeyDer::from(der.to_vec()).into(),
        (Some(OCTETS), PrivateKeyDer::Pkcs8(_)) => PrivateSec1KeyDer::from(der.to_vec()).into(),
        _ => key,
    }
}

pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path, "key_file")?;
    key_of(&bytes).map_err(|why| format!("{}: {why}", path.display()))
}

/// The key in a text.
pub(super) fn key_in(pem: &Secret) -> Result<PrivateKeyDer<'static>, String> {
    key_of(pem.expose()).map_err(|why| format!("the key: {why}"))
}

fn key_of(bytes: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let key = PrivateKeyDer::from_pem_slice(bytes);
    key.map(by_content).map_err(|error| {
        let is_encrypted = bytes.windows(9).any(|part| part == b"ENCRYPTED");
        match error {
            _ if is_encrypted => {
                "the key has a passphrase; `openssl pkey -in FILE -out NEW` writes it without one".to_owned()
            }
            PemError::NoItemsFound => "no private key in it; key_file names a PEM file with one".to_owned(),
            error => format!("not PEM: {error}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Finding Q58: the form of a key is that of its content; documents label PKCS #8 as `RSA PRIVATE KEY`.
    #[test]
    fn finding_q58_a_key_is_known_by_its_content() {
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"] {
            let key = key_of(pem.replace("PRIVATE KEY", label).as_bytes()).expect(label);
            assert!(matches!(key, PrivateKeyDer::Pkcs8(_)), "{label}");
            rustls::crypto::ring::sign::any_supported_type(&key).expect(label);
        }
    }
}
