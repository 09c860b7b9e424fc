//! Secrets and computations with them, and TLS: certificates and keys from files, and the layer between a socket and a shard. No
//! socket is named here.
//!
//! rustls with ring (decision 0110): versions 1.2 and 1.3, cipher suites with forward secrecy only; no
//! renegotiation, no compression, no early data.

mod certificate;
mod client;
mod der;
mod files;
pub mod http;
mod identity;
mod layer;
mod outgoing;
pub mod sasl;
pub mod scram;
mod secret;
mod server;
pub mod token_endpoint;
mod url;

pub use self::identity::{CertificateId, IdentityField, identify, is_identity};
pub use self::outgoing::{Outgoing, pinned};
pub use self::secret::Secret;
pub use self::server::{Expiry, Server};
pub use self::token_endpoint::TokenEndpoint;
pub use self::url::Url;

#[cfg(test)]
mod outgoing_tests;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

/// Forbids core dumps of this process from here on, whatever the limits and settings of the machine, and reads of its memory by
/// other processes of its user: there are keys and passwords in it. Root may still attach a debugger.
pub fn keep_out_of_dumps() {
    // The call cannot fail for this value; a process that may be dumped still works.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// `[listener.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Certificate chains with their keys. The first is for clients that name no server, or an unknown one.
    pub certificates: Vec<Pair>,
    /// Whether version 1.2 is accepted, too.
    pub is_1_2_allowed: bool,
    /// Application protocols beside the first one.
    pub alpn: Vec<String>,
    /// Whether the connection begins with HTTP: the first protocol is then `http/1.1` instead of `mqtt`.
    pub is_web: bool,
    /// The clients that must have a certificate, and the CAs of these.
    pub clients: Option<Clients>,
    /// Whether clients get a ticket to resume their session with.
    pub tickets: bool,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM, the server's own certificate first.
    pub certificate: PathBuf,
    /// PEM, without a passphrase.
    pub key: PathBuf,
}

/// The requirements on client certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// PEM: the CAs of their certificates.
    pub ca: PathBuf,
    /// Whether a certificate is required.
    pub is_required: bool,
    /// Certificates that are not accepted any more.
    pub crl: Option<PathBuf>,
    /// Whether an expired CRL refuses everybody.
    pub is_expired_crl_refused: bool,
}

/// `[kafka.NAME.tls]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingSettings {
    /// The CAs of the brokers' certificates.
    pub ca: Authorities,
    /// Our certificate, where brokers ask for one.
    pub identity: Option<OwnCertificate>,
    /// The name that certificates must have; `None`: the host name by which the broker is addressed.
    pub server_name: Option<String>,
    /// Whether the name is checked.
    pub is_name_checked: bool,
}

/// Our certificate chain, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCertificate {
    /// A chain and key in files.
    Files(Pair),
    /// A chain and key in PEM.
    Text {
        /// Our own certificate first.
        certificate: String,
        /// Without a passphrase.
        key: Secret,
    },
}

impl OwnCertificate {
    /// The files, if it is in files.
    #[must_use]
    pub fn files(&self) -> Option<&Pair> {
        match self {
            Self::Files(pair) => Some(pair),
            Self::Text { .. } => None,
        }
    }
}

/// CAs that are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authorities {
    /// The CAs of this machine.
    System,
    /// The CAs in a PEM file.
    File(PathBuf),
    /// CAs in PEM.
    Text(String),
}
