//! The control plane of a running service, and the connection to it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use zeroize::Zeroizing;

use forebay_config::{self as config, Config, TOKEN_VARIABLE};
use forebay_guard::secure;

use super::args::{AskArgs, ControlBind};
use super::control_token;

/// The control plane of a service.
#[derive(Clone)]
pub(super) struct Endpoint {
    address: SocketAddr,
    /// TLS of the connection; `None`: plain TCP.
    tls: Option<Arc<ClientConfig>>,
    /// The token that requests carry, if there is one.
    token: Option<Zeroizing<String>>,
    /// Whether the token is from the environment, and not the service's own.
    is_given: bool,
    /// The file of the service's own token.
    token_file: PathBuf,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }
}

/// A connection, plain or over TLS.
pub(super) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

impl Endpoint {
    /// The endpoint of the service that these options name: an unspecified address becomes loopback.
    ///
    /// # Errors
    /// The service has no control plane, or the configuration cannot be read.
    pub(super) fn of(from: &AskArgs) -> Result<Self, String> {
        let load = || from.load().map_err(|problems| problems.to_string());
        let (bind, config) = match from.control {
            // The configuration, if it is named, says whether the endpoint has TLS.
            Some(ControlBind::At(address)) => (Some(address), from.names_config().then(load).transpose()?),
            Some(ControlBind::Off) => (None, None),
            None => {
                let config = load()?;
                // A changed address in the file waits for a restart, and the kernel fills in port 0.
                let running = config.control.bind.and_then(|_| control_token::served_at(&config.service.data_dir));
                (running.or(config.control.bind), Some(config))
            }
        };
        let address = bind.ok_or("control.bind is \"off\": the service has no control address")?;
        if address.port() == 0 {
            return Err("control.bind has port 0: pass the port that the log names with --control".to_owned());
        }
        let address = config::reachable(address);
        let tls = config.as_ref().map(tls).transpose()?.flatten();
        let data_dir = config.or_else(|| load().ok()).unwrap_or_else(Config::default_no_file).service.data_dir;
        let token = std::env::var(TOKEN_VARIABLE).ok().map(|token| token.trim().to_owned());
        // The service's own token is for this machine.
        let own = || control_token::read(&data_dir).ok().filter(|_| address.ip().is_loopback());
        let token = token.filter(|token| !token.is_empty());
        let is_given = token.is_some();
        let token = token.or_else(own).map(Zeroizing::new);
        Ok(Self { address, tls, token, is_given, token_file: control_token::path(&data_dir) })
    }

    /// The token that requests carry.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.as_str())
    }

    /// The cure where the service requires a token, or another one.
    pub(super) fn token_needed(&self) -> String {
        let file = self.token_file.display();
        let why = match (&self.token, self.is_given) {
            (Some(_), true) => format!("the token in {TOKEN_VARIABLE} is none that this service takes"),
            (Some(_), false) => format!("the token in {file} is not that of this service"),
            (None, _) => "this needs a token".to_owned(),
        };
        format!(
            "{self}: {why}: set {TOKEN_VARIABLE} to one of control.tokens_file, or run it on the service's machine as a user who may \
             read {file}"
        )
    }

    /// The `Host` of a request.
    pub(super) fn host(&self) -> SocketAddr {
        self.address
    }

    /// Connects; no step takes longer than `step_max`.
    ///
    /// # Errors
    /// There is no connection.
    pub(super) fn connect(&self, step_max: Duration, silence_max: Duration) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect_timeout(&self.address, step_max)?;
        stream.set_read_timeout(Some(silence_max))?;
        stream.set_write_timeout(Some(step_max))?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::IpAddress(self.address.ip().into());
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Box::new(StreamOwned::new(connection, stream)))
    }

    /// Why there is no answer, as text for the user.
    pub(super) fn unanswered(&self, error: &io::Error) -> String {
        let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(_)) => format!(
                "{self}: the service has another certificate than control.tls.cert_file; it takes a new one within a minute"
            ),
            Some(rustls::Error::AlertReceived(alert)) => {
                format!(
                    "{self}: the service ended the TLS connection with the alert {alert:?}; with client_ca_file it needs a client certificate: use curl"
                )
            }
            Some(error) => format!("{self}: no TLS connection: {error}; is this the control address?"),
            None if error.kind() == io::ErrorKind::InvalidData => format!(
                "{self}: this is not Forebay's control plane: it does not answer with HTTP. If it has [control.tls], name its \
                 configuration with --config"
            ),
            None => format!("{self}: {error}; is the service running? Set its address with --control or control.bind"),
        }
    }
}

fn tls(config: &Config) -> Result<Option<Arc<ClientConfig>>, String> {
    let certificate = config.control.tls.as_ref().and_then(|tls| tls.certificates.first());
    certificate.map(|pair| secure::pinned(&pair.certificate)).transpose()
}
