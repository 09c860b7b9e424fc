//! Logins of outgoing connections: which secret a part of a configuration sends where, and how it is protected on its way. A change or
//! trial by the API sends the secrets of the machine nowhere else, and not with less protection.

use std::path::{Path, PathBuf};

use super::resolved::{Bridge, Cluster, Config};
use forebay_guard::secure::OutgoingSettings;
use forebay_guard::secure::sasl::TokenFrom;

/// The origin of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    /// A file that the part names.
    File(PathBuf),
    /// The environment, or a document of Dapr.
    Elsewhere,
    /// The text of the configuration: its writer knows the secret.
    Written,
}

/// A secret that a part sends to servers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Login {
    /// The part, as in `bridge plant`.
    part: String,
    origin: Origin,
    /// The servers.
    to: Vec<String>,
    /// The checks of the servers' certificates; `None`: there is no TLS.
    tls: Option<OutgoingSettings>,
    /// Whether the secret may be sent without encryption.
    is_bare: bool,
}

impl Login {
    /// Whether the same secret of the same part is meant.
    fn is_of(&self, other: &Self) -> bool {
        self.part == other.part && self.origin == other.origin
    }

    /// Whether `self` reaches only servers that `known` names, with the same protection at least.
    fn is_within(&self, known: &Self) -> bool {
        let is_as_safe = match (&known.tls, &self.tls) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(known), Some(tls)) => {
                tls.ca == known.ca
                    && tls.server_name == known.server_name
                    && (tls.is_name_checked || !known.is_name_checked)
            }
        };
        is_as_safe && (known.is_bare || !self.is_bare) && self.to.iter().all(|host| known.to.contains(host))
    }
}

/// The logins that the machine's configurations have named since the start of the process, the newest of each secret: one that was
/// removed by the API still belongs to its part.
#[derive(Clone, Debug, Default)]
pub(super) struct Logins(Vec<Login>);

impl Logins {
    /// Adds the logins of a configuration of the machine.
    pub(super) fn add(&mut self, config: &Config) {
        for login in logins(config) {
            self.0.retain(|known| !known.is_of(&login));
            self.0.push(login);
        }
    }

    /// A login of a configuration made by the API that these do not cover, and that is not in force, in words. `is_free`: whether the
    /// API may name this file for any part.
    pub(super) fn exposed(&self, running: &Config, wanted: &Config, is_free: impl Fn(&Path) -> bool) -> Option<String> {
        let is_covered = |login: &Login| match (self.0.iter().find(|known| known.is_of(login)), &login.origin) {
            (Some(known), Origin::Written) => !known.to.eq(&login.to) || login.is_within(known),
            (Some(known), _) => login.is_within(known),
            (None, Origin::Written) => true,
            (None, Origin::File(file)) => !login.is_bare && is_free(file),
            (None, Origin::Elsewhere) => false,
        };
        let in_force = logins(running);
        let exposed = logins(wanted).into_iter().find(|login| !in_force.contains(login) && !is_covered(login))?;
        Some(format!(
            "{}: only the configuration file can send this login to other servers, without TLS (as with `insecure`), or with another check of \
             their certificates: change it there, then `forebay reload`",
            exposed.part
        ))
    }
}

/// The logins of a configuration.
fn logins(config: &Config) -> Vec<Login> {
    let mut all: Vec<Login> = config.clusters.iter().filter(|of| !of.is_removed).flat_map(of_cluster).collect();
    all.extend(config.bridges.iter().filter(|of| !of.is_removed).filter_map(of_bridge));
    if let Some(dapr) = &config.dapr
        && let (Some(file), Some(app)) = (&dapr.app_token_file, &dapr.app)
    {
        all.push(Login {
            part: "dapr".to_owned(),
            origin: Origin::File(file.clone()),
            to: vec![app.clone()],
            tls: None,
            is_bare: true,
        });
    }
    if let Some(telemetry) = config.telemetry.as_ref().filter(|telemetry| !telemetry.headers.is_empty()) {
        all.push(Login {
            part: "telemetry".to_owned(),
            origin: Origin::Elsewhere,
            to: vec![telemetry.endpoint.to_string()],
            tls: None,
            is_bare: true,
        });
    }
    all
}

fn of_cluster(cluster: &Cluster) -> Vec<Login> {
    let Some(sasl) = &cluster.sasl else { return Vec::new() };
    let part = format!("kafka {}", cluster.name);
    let to_brokers = |origin| Login {
        part: part.clone(),
        origin,
        to: cluster.bootstrap.clone(),
        tls: cluster.tls.clone(),
        is_bare: sasl.insecure,
    };
    match &sasl.credentials.token {
        None => vec![to_brokers(sasl.password_file.clone().map_or(Origin::Elsewhere, Origin::File))],
        Some(TokenFrom::File(file)) => vec![to_brokers(Origin::File(file.clone()))],
        // The secret goes to the provider, its token to the brokers.
        Some(TokenFrom::Endpoint(provider)) => {
            let secret = Login {
                part: format!("{part} token_url"),
                origin: Origin::File(provider.secret_file.clone()),
                to: vec![format!("{} {:?}", provider.url, provider.ca_file)],
                tls: None,
                is_bare: !provider.url.is_tls,
            };
            vec![to_brokers(Origin::File(provider.secret_file.clone())), secret]
        }
    }
}

fn of_bridge(bridge: &Bridge) -> Option<Login> {
    // The query of a WebSocket may be a token.
    let has_query = bridge.url.path.contains('?');
    if bridge.password.is_none() && !has_query {
        return None;
    }
    let origin = match &bridge.password_file {
        Some(file) => Origin::File(file.clone()),
        None if bridge.is_password_written || bridge.password.is_none() => Origin::Written,
        None => Origin::Elsewhere,
    };
    let to = vec![format!("{}{}", bridge.url.endpoint(), bridge.url.path)];
    let is_bare = bridge.tls.is_none();
    Some(Login { part: format!("bridge {}", bridge.name), origin, to, tls: bridge.tls.clone(), is_bare })
}
