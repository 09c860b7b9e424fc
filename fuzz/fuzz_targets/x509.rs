//! The field of a certificate that says who a client is: of nothing that can be read is a name made that is none.
#![no_main]

use std::sync::LazyLock;

use forebay_fuzz::edits::edited;
use forebay_fuzz::secure::{IdentityField, identify, is_identity};
use libfuzzer_sys::fuzz_target;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, SerialNumber, date_time_ymd};

/// Of Ed25519, whose signatures are always the same: so is the certificate.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MFECAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
    gSEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PRIVATE KEY-----\n";

static VALID: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Forebay");
    params.distinguished_name.push(DnType::CommonName, "device-1");
    let name = |text: &str| text.try_into().expect("a name");
    params.subject_alt_names = vec![SanType::DnsName(name("d1.example")), SanType::URI(name("urn:device:1"))];
    params.serial_number = Some(SerialNumber::from(7));
    (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2036, 1, 1));
    let key = KeyPair::from_pem(KEY).expect("a key");
    params.self_signed(&key).expect("a certificate").der().to_vec()
});
const WORDS: &[&[u8]] = &[
    b"\x31\x0f\x30\x0d\x06\x03\x55\x04\x03\x0c\x06device",
    b"\x06\x03\x55\x04\x03",
    b"\x30",
    b"\x31\x00",
    b"\x80",
    b"\x84\xff\xff\xff\xff",
    b"\x82\x01\x00",
    b"\x0c\x01a",
    b"\x1e\x02\x00a",
    b"\x86\x01u",
    b"\x82\x01d",
    b"\0",
];

fuzz_target!(|input: &[u8]| {
    let Some((first, rest)) = input.split_first() else { return };
    let der = if first % 8 == 0 { rest.to_vec() } else { edited(&VALID, rest, WORDS) };
    for field in [IdentityField::CommonName, IdentityField::DnsName, IdentityField::Uri, IdentityField::Fingerprint] {
        let Ok((name, _)) = identify(&der, field) else {
            assert!(der != *VALID, "{field:?} of the certificate itself");
            continue;
        };
        assert!(is_identity(&name));
        match field {
            IdentityField::Fingerprint => {
                assert!(name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
            }
            // It is in the certificate as it is.
            _ => assert!(der.windows(name.len()).any(|at| at == name.as_bytes()), "{name:?}"),
        }
    }
});
