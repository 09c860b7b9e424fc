//! `[listener.tls]` and `[control.tls]`.

use std::path::PathBuf;

use forebay_guard::secure::{Clients, Pair, Settings};

use super::keys::Section;
use super::problem::Fault;
use super::reader::Table;
use super::resolved::Transport;
use super::values;

/// Reads the TLS of a listener's table.
pub(super) fn resolve(listener: &Table<'_>, transport: Transport) -> Option<Settings> {
    let table = listener.part(Section::ListenerTls);
    match (transport, &table) {
        (Transport::Tls | Transport::Wss, None) if !listener.has("tls") => {
            let fault = Fault::new(format!("transport is \"{}\", and there is no [listener.tls]", transport.as_str()));
            listener.source.report(
                &listener.spot("transport"),
                fault.hint("write [listener.tls] below this [[listener]], with cert_file and key_file"),
            );
        }
        (Transport::Tcp | Transport::Ws, Some(table)) => {
            let fault = Fault::new("has no effect: transport is not \"tls\" or \"wss\"");
            listener.source.report(&table.spot, fault.hint("set transport = \"tls\", or remove [listener.tls]"));
        }
        _ => {}
    }
    let table = table?;
    let mut certificates = pair(&table);
    for (certificate, key, spot) in table.entries("certificates") {
        match key.as_str() {
            Some(key) => certificates.push(Pair { certificate: certificate.into(), key: key.into() }),
            None => table.source.report(&spot, values::wrong_type("the key's file, a string", key)),
        }
    }
    let ca = file(&table, "client_ca_file");
    for name in ["client_certificate", "crl_file", "crl_expired"] {
        if ca.is_none() && table.has(name) {
            let fault = Fault::new("has no effect without client_ca_file");
            table.source.report(&table.spot(name), fault.hint("client_ca_file names the CAs of client certificates"));
        }
    }
    let crl = file(&table, "crl_file");
    let is_required = table.read("client_certificate", values::word) == "required";
    let is_expired_crl_refused = table.read("crl_expired", values::word) == "refuse";
    let alpn = if table.has("alpn") { table.texts("alpn") } else { Vec::new() };
    for (name, spot) in &alpn {
        if name.is_empty() || name.len() > 255 {
            table.source.report(spot, Fault::new("must have 1 to 255 bytes"));
        }
    }
    Some(Settings {
        certificates,
        is_1_2_allowed: table.read("min_version", values::word) == "1.2",
        alpn: alpn.into_iter().map(|(name, _)| name).collect(),
        clients: ca.map(|ca| Clients { ca, is_required, crl, is_expired_crl_refused }),
        tickets: table.read("tickets", values::flag),
        is_web: transport.has_ws(),
    })
}

/// Reads the TLS of the control plane's table.
pub(super) fn of_control(control: &Table<'_>) -> Option<Settings> {
    let table = control.part(Section::ControlTls)?;
    let clients = |ca| Clients { ca, is_required: true, crl: None, is_expired_crl_refused: false };
    Some(Settings {
        certificates: pair(&table),
        is_1_2_allowed: true,
        alpn: Vec::new(),
        clients: file(&table, "client_ca_file").map(clients),
        tickets: true,
        is_web: true,
    })
}

fn file(table: &Table<'_>, name: &str) -> Option<PathBuf> {
    table.find(name, values::non_empty).map(PathBuf::from)
}

/// The certificate and its key, where both are named.
fn pair(table: &Table<'_>) -> Vec<Pair> {
    let pair = file(table, "cert_file").zip(file(table, "key_file"));
    pair.into_iter().map(|(certificate, key)| Pair { certificate, key }).collect()
}
