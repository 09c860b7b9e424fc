//! Options of the command line for the transport.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::load::Transport;
use crate::load::endpoint::{Endpoint, Kind};

/// See the module.
// clap names a group after its struct, and the jobs have Settings of their own.
#[derive(Args, Clone, Debug, Default)]
#[group(id = "transport")]
pub(crate) struct Settings {
    /// Speak TLS.
    #[arg(long)]
    tls: bool,
    /// PEM file of the authority that signed the broker's certificate.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// PEM file of the clients' own certificate, the same for all.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// With --certificate: PEM file of its private key.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// The name that the broker's certificate is for, if it is not the host's.
    #[arg(long)]
    server_name: Option<String>,
    /// Speak MQTT over WebSocket, at this path.
    #[arg(long, value_name = "PATH")]
    websocket: Option<String>,
}

impl Settings {
    /// The transport of clients without one of their own.
    pub(crate) fn kind(&self) -> Kind {
        match (self.tls, self.websocket.is_some()) {
            (false, false) => Kind::Tcp,
            (true, false) => Kind::Tls,
            (false, true) => Kind::Ws,
            (true, true) => Kind::Wss,
        }
    }

    /// The WebSocket's path.
    pub(crate) fn path(&self) -> &str {
        self.websocket.as_deref().unwrap_or("/mqtt")
    }

    /// The transport to HOST:PORT.
    ///
    /// # Errors
    /// Files that cannot be read; TLS without an authority.
    pub(crate) fn to(&self, authority: &str) -> anyhow::Result<Transport> {
        self.as_kind(self.kind(), authority, self.path())
    }

    /// A listener of its own kind at HOST:PORT.
    ///
    /// # Errors
    /// As [`Self::to`]; a name that cannot be resolved.
    pub(crate) fn endpoint(&self, kind: Kind, authority: &str, path: &str) -> anyhow::Result<Endpoint> {
        Ok(Endpoint { address: resolve(authority)?, transport: self.as_kind(kind, authority, path)? })
    }

    fn as_kind(&self, kind: Kind, authority: &str, path: &str) -> anyhow::Result<Transport> {
        let websocket = kind.has_websocket().then(|| format!("{authority}/{}", path.trim_start_matches('/')));
        let tls = kind.has_tls().then(|| Ok::<_, anyhow::Error>((self.config()?, self.name_of(authority)?)));
        Ok(Transport { tls: tls.transpose()?, websocket })
    }

    fn name_of(&self, authority: &str) -> anyhow::Result<ServerName<'static>> {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let name = self.server_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
        Ok(ServerName::try_from(name)?)
    }

    fn config(&self) -> anyhow::Result<Arc<ClientConfig>> {
        let Some(ca) = &self.ca else { bail!("TLS: name the authority's certificate with --ca") };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).with_context(|| ca.display().to_string())? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots);
        let mut config = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => {
                let chain =
                    CertificateDer::pem_file_iter(certificate).with_context(|| certificate.display().to_string())?;
                let key = PrivateKeyDer::from_pem_file(key).with_context(|| key.display().to_string())?;
                config.with_client_auth_cert(chain.collect::<Result<_, _>>()?, key)?
            }
            _ => config.with_no_client_auth(),
        };
        // Each client is a device of its own: none has another's session to resume.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// The first address of HOST:PORT.
///
/// # Errors
/// A name that cannot be resolved.
pub(crate) fn resolve(authority: &str) -> anyhow::Result<SocketAddr> {
    let mut found = authority.to_socket_addrs().with_context(|| authority.to_owned())?;
    found.next().with_context(|| format!("{authority}: no address"))
}
