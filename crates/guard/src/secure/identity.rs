//! The identity in a client certificate. One field has it: names are compared as a whole and never matched.

use std::sync::Arc;

use ring::digest;
use rustls::pki_types::CertificateDer;
use webpki::{CertRevocationList, EndEntityCert};

use super::der;

/// The longest identity, in bytes.
const IDENTITY_BYTES_MAX: usize = 256;

/// Whether a name can be an identity: 1 to 256 bytes without control characters.
#[must_use]
pub fn is_identity(name: &str) -> bool {
    (1..=IDENTITY_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// The field that has the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityField {
    /// The common name of the subject.
    CommonName,
    /// The DNS name among the subject's alternative names.
    DnsName,
    /// The URI among the alternative names.
    Uri,
    /// The e-mail address among the alternative names.
    Email,
    /// SHA-256 of the certificate, in lower-case hexadecimal digits.
    Fingerprint,
}

/// Issuer and serial number of a certificate, by which a list of revoked ones names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateId {
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
}

impl CertificateId {
    /// The ID of the certificate of this issuer with this serial number, both in DER without tag and length.
    #[must_use]
    pub fn new(issuer: &[u8], serial: &[u8]) -> Self {
        Self { issuer: issuer.into(), serial: serial.into() }
    }

    /// Issuer and serial number.
    #[must_use]
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.issuer, &self.serial)
    }

    /// Whether one of these lists names the certificate.
    pub(super) fn is_in(&self, crls: &[CertRevocationList<'static>]) -> bool {
        let mut of_issuer = crls.iter().filter(|crl| *crl.issuer() == *self.issuer);
        // A list that cannot be read counts as naming every certificate.
        of_issuer.any(|crl| crl.find_serial(&self.serial).map_or(true, |found| found.is_some()))
    }
}

/// The identity in a certificate that has been verified.
///
/// # Errors
/// The certificate does not have it in exactly one place, or the value cannot be used.
pub fn identify(certificate: &[u8], field: IdentityField) -> Result<(String, Arc<CertificateId>), &'static str> {
    let whole = CertificateDer::from(certificate);
    let parsed = EndEntityCert::try_from(&whole).map_err(|_| "the client certificate cannot be read")?;
    let name = match field {
        IdentityField::CommonName => one(common_names(parsed.subject())?.into_iter())?,
        IdentityField::DnsName => one(parsed.valid_dns_names().map(str::to_owned))?,
        IdentityField::Uri => one(parsed.valid_uri_names().map(str::to_owned))?,
        IdentityField::Email => one(emails(certificate)?.into_iter())?,
        IdentityField::Fingerprint => {
            digest::digest(&digest::SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
        }
    };
    if !is_identity(&name) {
        return Err("the client certificate has no name of 1 to 256 bytes without control characters");
    }
    let id = CertificateId::new(parsed.issuer(), parsed.serial());
    Ok((name, Arc::new(id)))
}

fn one(mut names: impl Iterator<Item = String>) -> Result<String, &'static str> {
    let first = names.next().ok_or("the client certificate has no such name")?;
    if names.next().is_some() { Err("the client certificate has several such names") } else { Ok(first) }
}

/// The common names of a subject, which is a list of sets, mostly of one attribute each; the last is the most specific (RFC 5280, 4.1.2.4).
fn common_names(mut subject: &[u8]) -> Result<Vec<String>, &'static str> {
    /// 2.5.4.3
    const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    const UTF8: u8 = 0x0c;
    const PRINTABLE: u8 = 0x13;
    const IA5: u8 = 0x16;
    const UNREADABLE: &str = "the subject of the client certificate cannot be read";
    let mut names = Vec::new();
    while !subject.is_empty() {
        let (mut set, rest) = der::enter(subject, der::SET).ok_or(UNREADABLE)?;
        subject = rest;
        while !set.is_empty() {
            let (attribute, rest) = der::enter(set, der::SEQUENCE).ok_or(UNREADABLE)?;
            set = rest;
            let (kind, value) = der::enter(attribute, der::OID).ok_or(UNREADABLE)?;
            if kind != COMMON_NAME {
                continue;
            }
            let text = match der::any(value).ok_or(UNREADABLE)? {
                (UTF8 | PRINTABLE | IA5, text, []) => std::str::from_utf8(text).ok(),
                _ => None,
            };
            names.push(text.ok_or("the common name of the client certificate is not UTF-8")?.to_owned());
        }
    }
    Ok(names)
}

/// The e-mail addresses among the alternative names (RFC 5280, 4.2.1.6), which webpki does not show.
fn emails(certificate: &[u8]) -> Result<Vec<String>, &'static str> {
    /// 2.5.29.17
    const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
    const EXTENSIONS: u8 = 0xa3;
    const OCTETS: u8 = 0x04;
    /// rfc822Name, an IA5String.
    const EMAIL: u8 = 0x81;
    const UNREADABLE: &str = "the alternative names of the client certificate cannot be read";
    let inner = |der, tag| der::enter(der, tag).map(|(contents, _)| contents).ok_or(UNREADABLE);
    let mut fields = inner(inner(certificate, der::SEQUENCE)?, der::SEQUENCE)?;
    let mut extensions: &[u8] = &[];
    while !fields.is_empty() {
        let (tag, contents, rest) = der::any(fields).ok_or(UNREADABLE)?;
        if tag == EXTENSIONS {
            extensions = inner(contents, der::SEQUENCE)?;
        }
        fields = rest;
    }
    let mut found = Vec::new();
    while !extensions.is_empty() {
        let (extension, rest) = der::enter(extensions, der::SEQUENCE).ok_or(UNREADABLE)?;
        extensions = rest;
        let (kind, mut value) = der::enter(extension, der::OID).ok_or(UNREADABLE)?;
        if kind != ALTERNATIVE_NAMES {
            continue;
        }
        // The optional criticality is in between.
        if value.first() != Some(&OCTETS) {
            value = der::skip(value).ok_or(UNREADABLE)?;
        }
        let mut names = inner(inner(value, OCTETS)?, der::SEQUENCE)?;
        while !names.is_empty() {
            let (tag, name, rest) = der::any(names).ok_or(UNREADABLE)?;
            names = rest;
            if tag == EMAIL {
                let text = std::str::from_utf8(name).ok().filter(|text| text.is_ascii());
                found.push(text.ok_or("the e-mail address of the client certificate is not ASCII")?.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SanType};

    use super::IdentityField::{CommonName, DnsName, Email, Fingerprint, Uri};
    use super::*;

    fn certificate(names: &[&str], sans: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Forebay");
        // The library's names are a map: a second one of the same type would replace the first.
        names.iter().for_each(|name| params.distinguished_name.push(DnType::CommonName, *name));
        params.subject_alt_names = sans;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn name(certificate: &[u8], field: IdentityField) -> Result<String, &'static str> {
        identify(certificate, field).map(|(name, _)| name)
    }

    /// X11: one field of the certificate is the identity.
    #[test]
    fn each_field_says_who_it_is() {
        let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
        let uri = |name: &str| SanType::URI(name.try_into().unwrap());
        let email = |name: &str| SanType::Rfc822Name(name.try_into().unwrap());
        let of = certificate(&["dévice 1"], vec![dns("d1.example"), uri("urn:device:1"), email("d1@Plant.example")]);
        assert_eq!(name(&of, Email).as_deref(), Ok("d1@Plant.example"));
        assert_eq!(name(&of, CommonName).as_deref(), Ok("dévice 1"));
        assert_eq!(name(&of, DnsName).as_deref(), Ok("d1.example"));
        assert_eq!(name(&of, Uri).as_deref(), Ok("urn:device:1"));
        let fingerprint = name(&of, Fingerprint).unwrap();
        assert!(
            fingerprint.len() == 64 && fingerprint.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
        let several = certificate(&[], vec![dns("a.example"), dns("b.example")]);
        assert_eq!(name(&several, DnsName), Err("the client certificate has several such names"));
        assert_eq!(name(&several, CommonName), Err("the client certificate has no such name"));
        assert_eq!(name(&several, Uri), Err("the client certificate has no such name"));
        assert_eq!(name(&several, Email), Err("the client certificate has no such name"));
        assert_eq!(name(&certificate(&["a"], vec![]), Email), Err("the client certificate has no such name"));
        let several = certificate(&["a"], vec![email("a@b.example"), dns("b.example"), email("a@c.example")]);
        assert_eq!(name(&several, Email), Err("the client certificate has several such names"));
        // Cut at any byte, the certificate is not read, and nothing panics.
        for len in 0..of.len() {
            assert!(emails(&of[..len]).is_err(), "{len}");
        }
    }

    /// The extension may be critical, as in a certificate without a subject.
    #[test]
    fn critical_names_are_names() {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![SanType::Rfc822Name("d1@plant.example".try_into().unwrap())];
        let of = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        let is_critical = [0x55, 0x1d, 0x11, 0x01, 0x01, 0xff];
        assert!(of.windows(is_critical.len()).any(|bytes| bytes == is_critical), "rcgen does not mark it");
        assert_eq!(name(&of, Email).as_deref(), Ok("d1@plant.example"));
    }

    /// X11: no field, an empty or a long one, control characters.
    #[test]
    fn names_that_cannot_be_used_are_refused() {
        for bad in ["", "a\nb", &"x".repeat(257)] {
            assert!(name(&certificate(&[bad], vec![]), CommonName).is_err(), "{bad:?}");
        }
        assert!(name(&certificate(&[&"x".repeat(256)], vec![]), CommonName).is_ok());
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let bmp = rcgen::string::BmpString::try_from("device").unwrap();
        params.distinguished_name.push(DnType::CommonName, DnValue::BmpString(bmp));
        let of = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert_eq!(name(of.der(), CommonName), Err("the common name of the client certificate is not UTF-8"));
        assert_eq!(name(b"nothing", CommonName), Err("the client certificate cannot be read"));
    }

    /// X11: a field that is there twice.
    #[test]
    fn two_common_names_are_none() {
        let attribute = |text: &[u8]| {
            let value = [&[0x0c, text.len() as u8], text].concat();
            let pair = [&[0x06, 3, 0x55, 4, 3][..], &value].concat();
            let sequence = [&[0x30, pair.len() as u8][..], &pair].concat();
            [&[0x31, sequence.len() as u8][..], &sequence].concat()
        };
        let names = common_names(&[attribute(b"a"), attribute(b"b")].concat()).unwrap();
        assert_eq!(names, ["a", "b"]);
        assert!(one(names.into_iter()).is_err());
        // Cut at any byte, the attribute is not read, and nothing panics.
        let whole = attribute(b"abc");
        for len in 1..whole.len() {
            assert!(common_names(&whole[..len]).is_err(), "{len}");
        }
    }
}
