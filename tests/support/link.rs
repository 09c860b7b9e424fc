//! Certificates of instances of one broker.

use std::path::Path;

/// Makes certificates for two instances by one CA, and for a third by another CA: `NAME.crt` and `NAME.key`, and `ca.pem` of the first CA.
pub(crate) fn certificates(dir: &Path, [one, two, stranger]: [&str; 3]) {
    let ca = |name: &str| {
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("a CA");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("written");
        rcgen::Issuer::new(params, key)
    };
    let issuers = [ca("ca"), ca("other-ca")];
    for (name, issuer) in [(one, &issuers[0]), (two, &issuers[0]), (stranger, &issuers[1])] {
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, issuer).expect("a certificate");
        std::fs::write(dir.join(format!("{name}.crt")), certificate.pem()).expect("written");
        std::fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("written");
    }
}
