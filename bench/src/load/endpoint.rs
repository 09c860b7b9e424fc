//! Addresses and transports of clients: one for all groups, or one for each kind of transport.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::scenario::Group;
use super::transport::Transport;

/// A scenario's `transport`, by the names of Forebay's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Self::Tls | Self::Wss)
    }

    pub(crate) fn has_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// One listener of a broker.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) transport: Transport,
}

/// All listeners that a run uses.
#[derive(Clone)]
pub(crate) struct Endpoints {
    /// The endpoint of groups without a transport.
    pub(crate) target: Endpoint,
    /// The endpoints of the other groups.
    pub(crate) by_kind: Vec<(Kind, Endpoint)>,
}

impl Endpoints {
    /// One endpoint for all clients.
    pub(crate) fn one(address: SocketAddr, transport: Transport) -> Self {
        Self { target: Endpoint { address, transport }, by_kind: Vec::new() }
    }

    /// The endpoint of a group's clients.
    ///
    /// # Errors
    /// The group's transport has no listener here.
    pub(super) fn of(&self, group: &Group) -> anyhow::Result<Endpoint> {
        let Some(kind) = group.transport else { return Ok(self.target.clone()) };
        let Some((_, endpoint)) = self.by_kind.iter().find(|(of, _)| *of == kind) else {
            let (name, kind) = (&group.name, kind.name());
            bail!("group {name}: transport = \"{kind}\", and no --listener {kind}=HOST:PORT says where that is");
        };
        Ok(endpoint.clone())
    }
}

/// Splits `KIND=HOST:PORT` or `KIND=HOST:PORT/PATH`; without a path it is `/mqtt`.
///
/// # Errors
/// The expected form, in words.
pub(crate) fn parse(text: &str) -> anyhow::Result<(Kind, String, String)> {
    let parts = || {
        let (kind, rest) = text.split_once('=')?;
        let kind = <Kind as clap::ValueEnum>::from_str(kind, false).ok()?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "mqtt"));
        Some((kind, authority.to_owned(), format!("/{path}")))
    };
    parts().with_context(|| {
        format!("--listener {text}: expected tcp, tls, ws or wss, then =HOST:PORT, for ws and wss /PATH")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_group_has_the_listener_of_its_transport() {
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let mut endpoints = Endpoints::one(at(1), Transport::plain());
        endpoints.by_kind.push((Kind::Ws, Endpoint { address: at(2), transport: Transport::plain() }));
        let group = |transport| Group { name: "g".into(), transport, ..Group::default() };
        assert_eq!(endpoints.of(&group(None)).unwrap().address, at(1));
        assert_eq!(endpoints.of(&group(Some(Kind::Ws))).unwrap().address, at(2));
        let why = endpoints.of(&group(Some(Kind::Tls))).err().unwrap().to_string();
        assert!(why.contains("--listener tls=HOST:PORT"), "{why}");
    }

    #[test]
    fn listeners_of_the_command_line() {
        let parsed = |text| parse(text).unwrap();
        assert_eq!(parsed("tls=localhost:8883"), (Kind::Tls, "localhost:8883".into(), "/mqtt".into()));
        assert_eq!(parsed("wss=[::1]:443/a/b"), (Kind::Wss, "[::1]:443".into(), "/a/b".into()));
        for wrong in ["localhost:8883", "quic=localhost:1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
