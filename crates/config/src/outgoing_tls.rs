//! `[kafka.NAME.tls]` and `[bridge.NAME.tls]`: TLS of outgoing connections. Its checks cannot be turned off: a self-signed
//! certificate of a server can be configured as the CA.

use std::path::PathBuf;

use super::keys::Section;
use super::problem::Fault;
use super::reader::Table;
use super::values;
use forebay_guard::secure::{Authorities, OutgoingSettings, OwnCertificate, Pair};

/// TLS without any key.
pub(super) const DEFAULT: OutgoingSettings =
    OutgoingSettings { ca: Authorities::System, identity: None, server_name: None, is_name_checked: true };

/// Reads the section within `whole`, if it exists.
pub(super) fn resolve(whole: &Table<'_>, section: Section) -> Option<OutgoingSettings> {
    let table = whole.part(section)?;
    let file = |name| table.find(name, values::non_empty).map(PathBuf::from);
    let report = |name: &str, fault| table.source.report(&table.spot(name), fault);
    let (ca_file, ca_text) = (file("ca_file"), table.find("ca_certificates", values::non_empty));
    let ca = match (ca_file, ca_text) {
        (Some(_), Some(_)) => {
            report("ca_certificates", Fault::new("and ca_file are both set").hint("leave one out"));
            return None;
        }
        (Some(file), None) => Authorities::File(file),
        (None, Some(text)) => Authorities::Text(text),
        (None, None) => Authorities::System,
    };
    let identity = match (file("cert_file"), file("key_file")) {
        (Some(certificate), Some(key)) => Some(OwnCertificate::Files(Pair { certificate, key })),
        (None, None) => None,
        (certificate, _) => {
            let (given, missing) =
                if certificate.is_some() { ("cert_file", "key_file") } else { ("key_file", "cert_file") };
            report(given, Fault::new(format!("has no effect without {missing}")).hint(format!("set {missing}")));
            None
        }
    };
    let server_name = table.find("server_name", values::non_empty);
    let is_name_checked = table.read("verify", values::word) != "chain";
    if !is_name_checked && server_name.is_some() {
        let fault = Fault::new("is not compared with anything: verify is \"chain\"");
        table.source.warn(&table.spot("server_name"), fault.hint("leave verify out"));
    }
    Some(OutgoingSettings { ca, identity, server_name, is_name_checked })
}
