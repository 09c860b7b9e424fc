//! The command line's part that says what is loaded, from where, and who is watched.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use crate::load::{Terms, Transport};

/// See the module.
#[derive(Args, Clone, Debug)]
pub(crate) struct Target {
    /// The broker: HOST:PORT.
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub(crate) target: String,
    /// Its name in reports.
    #[arg(long, default_value = "server")]
    pub(crate) name: String,
    /// Process whose CPU, memory and switches are taken: PID or NAME=PID; may be given several times.
    #[arg(long)]
    pub(crate) pid: Vec<String>,
    /// Count the processes' system calls with perf (needs root or a low kernel.perf_event_paranoid).
    #[arg(long)]
    pub(crate) system_calls: bool,
    /// Generator threads.
    #[arg(long, default_value_t = 1)]
    pub(crate) threads: usize,
    /// CPU of each generator thread, separated by commas; without it they run anywhere.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cpus: Vec<usize>,
    /// Speak TLS.
    #[arg(long)]
    tls: bool,
    /// With --tls: PEM file of the authority that signed the broker's certificate.
    #[arg(long, requires = "tls")]
    ca: Option<PathBuf>,
    /// With --tls: PEM file of the clients' own certificate, the same for all.
    #[arg(long, requires = "tls", requires = "key")]
    certificate: Option<PathBuf>,
    /// With --certificate: PEM file of its private key.
    #[arg(long, requires = "certificate")]
    key: Option<PathBuf>,
    /// With --tls: the name that the certificate is for, if it is not the host's.
    #[arg(long, requires = "tls")]
    server_name: Option<String>,
    /// Speak MQTT over WebSocket, at this path.
    #[arg(long, value_name = "PATH")]
    websocket: Option<String>,
}

impl Target {
    /// # Errors
    /// A name that cannot be resolved, a process that is not there, files that cannot be read.
    pub(crate) fn terms(&self) -> anyhow::Result<Terms> {
        let mut addresses = self.target.to_socket_addrs().with_context(|| format!("--target {}", self.target))?;
        let target: SocketAddr = addresses.next().with_context(|| format!("--target {}: no address", self.target))?;
        let mut watched = Vec::new();
        for text in &self.pid {
            let (name, pid) = text.split_once('=').unwrap_or((&self.name, text));
            let pid = pid.parse().with_context(|| format!("--pid {text}: expected PID or NAME=PID"))?;
            watched.push((name.to_owned(), pid));
        }
        Ok(Terms {
            target,
            target_name: self.name.clone(),
            transport: self.transport()?,
            threads: self.threads,
            cpus: self.cpus.clone(),
            watched,
            system_calls: self.system_calls,
            progress: true,
            told: false,
            run: crate::load::new_run(),
            epoch: None,
        })
    }

    fn transport(&self) -> anyhow::Result<Transport> {
        let mut transport = Transport::plain();
        if let Some(path) = &self.websocket {
            transport.websocket = Some(format!("{}/{}", self.target, path.trim_start_matches('/')));
        }
        if !self.tls {
            return Ok(transport);
        }
        let Some(ca) = &self.ca else { bail!("--tls: name the authority's certificate with --ca") };
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).with_context(|| ca.display().to_string())? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
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
        let host = self.target.rsplit_once(':').map_or(self.target.as_str(), |(host, _)| host);
        let name = self.server_name.clone().unwrap_or_else(|| host.trim_matches(['[', ']']).to_owned());
        transport.tls = Some((Arc::new(config), ServerName::try_from(name)?));
        Ok(transport)
    }
}
