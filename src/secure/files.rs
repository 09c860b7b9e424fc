//! Certificates, keys and CRLs out of PEM files. Each problem names its file and says what to do.

use std::io::Read as _;
use std::path::Path;

use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

/// Nothing that is meant to be read here is longer.
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

/// All of one kind in a file; at least one.
fn all<T: PemObject>(path: &Path, key: &str, kind: &str) -> Result<Vec<T>, String> {
    let bytes = read(path, key)?;
    let shown = path.display();
    let found: Result<Vec<T>, PemError> = T::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| format!("{shown}: not PEM: {error}"))?;
    if found.is_empty() {
        return Err(format!("{shown}: no {kind} in it; {key} names a PEM file with at least one"));
    }
    Ok(found)
}

pub(super) fn certificates(path: &Path, key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    all(path, key, "certificate")
}

pub(super) fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    all(path, "crl_file", "CRL (`-----BEGIN X509 CRL-----`)")
}

pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path, "key_file")?;
    let shown = path.display();
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        let is_encrypted = bytes.windows(9).any(|part| part == b"ENCRYPTED");
        match error {
            _ if is_encrypted => {
                format!("{shown}: the key has a passphrase; `openssl pkey -in FILE -out NEW` writes it without one")
            }
            PemError::NoItemsFound => format!("{shown}: no private key in it; key_file names a PEM file with one"),
            error => format!("{shown}: not PEM: {error}"),
        }
    })
}
