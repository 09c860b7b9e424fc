//! Fields of a certificate: its validity, and its names.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, OtherError};
use webpki::EndEntityCert;

use super::der::{SEQUENCE, enter, skip};

/// The end of a certificate's validity, in seconds since 1970. `None`: it cannot be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (certificate, _) = enter(certificate, SEQUENCE)?;
    let (mut rest, _) = enter(certificate, SEQUENCE)?;
    // Certificates of the first version leave the version out.
    if rest.first() == Some(&VERSION) {
        rest = skip(rest)?;
    }
    // Serial number, algorithm, issuer; then the beginning and the end of the validity.
    let (validity, _) = enter(skip(skip(skip(rest)?)?)?, SEQUENCE)?;
    time(skip(validity)?)
}

const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// Parses a time. Both forms end with `MMDDHHMMSSZ` (RFC 5280, 4.1.2.5); the years of the short one are 1950 to 2049.
fn time(der: &[u8]) -> Option<i64> {
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<i64>().ok();
    let (year, rest) = match *der.first()? {
        UTC_TIME => {
            let (year, rest) = enter(der, UTC_TIME)?.0.split_at_checked(2)?;
            let year = number(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        _ => {
            let (year, rest) = enter(der, GENERALIZED_TIME)?.0.split_at_checked(4)?;
            (number(year)?, rest)
        }
    };
    let mut parts = rest.strip_suffix(b"Z")?.chunks_exact(2).map(number);
    let mut next = || parts.next()?;
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    // Days of the Gregorian calendar, years beginning with March.
    let years = if month <= 2 { year - 1 } else { year };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some((days - 719_468) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Why a certificate cannot be used, for people. webpki's errors have no words of their own.
pub(super) fn why(error: &CertificateError) -> String {
    let CertificateError::Other(OtherError(other)) = error else { return error.to_string() };
    match other.downcast_ref::<webpki::Error>() {
        Some(webpki::Error::UnsupportedCertVersion) => {
            "it is a certificate of X.509 version 1, and version 3 is needed (`openssl x509 -req` makes one with -extfile)".to_owned()
        }
        Some(error) => format!("it is not as X.509 wants it ({error:?})"),
        None => other.to_string(),
    }
}

/// The names of a certificate, `*.example.org` among them, in lower case.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    certificate.valid_dns_names().map(str::to_ascii_lowercase).collect()
}

/// Chooses a certificate by the name that the client asks for: an exact match before a wildcard of one label, otherwise the first
/// in the configuration.
#[derive(Debug)]
pub(super) struct ByName {
    first: Arc<CertifiedKey>,
    names: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn new(first: Arc<CertifiedKey>) -> Self {
        Self { first, names: HashMap::new() }
    }

    /// Adds a certificate; a name that an earlier certificate has stays with that.
    pub(super) fn add(&mut self, key: &Arc<CertifiedKey>) {
        for name in key.cert.first().map(names).unwrap_or_default() {
            self.names.entry(name).or_insert_with(|| Arc::clone(key));
        }
    }

    fn choose(&self, name: &str) -> &Arc<CertifiedKey> {
        // The client chooses the name, at any length: no string is built for one that cannot be known.
        let exact = self.names.get(name);
        let wildcard = || self.names.get(&format!("*.{}", name.split_once('.')?.1));
        exact.or_else(|| wildcard().filter(|_| name.len() < 256)).unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls gives names in lower case.
        Some(Arc::clone(hello.server_name().map_or(&self.first, |name| self.choose(name))))
    }
}
