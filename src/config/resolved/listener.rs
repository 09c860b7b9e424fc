//! Where devices connect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::address::Network;
use crate::listener::proxy::Expect;
use crate::runtime::Bind;

/// Permissions of the file of a Unix socket: its user and group may connect.
pub(in crate::config) const SOCKET_MODE: u32 = 0o660;

/// `[[listener]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it is.
    pub bind: Bind,
    /// Permissions of its file, if it is a Unix socket.
    pub socket_mode: u32,
    /// How bytes travel.
    pub transport: Transport,
    /// With [`Transport::Tls`] and [`Transport::Wss`].
    pub tls: Option<crate::secure::Settings>,
    /// The name of what says who may connect; `None`: everyone may.
    pub auth: Option<String>,
    /// Everyone may, and is meant to.
    pub is_open: bool,
    /// Connections at a time; 0: no bound of its own.
    pub connections_max: u32,
    /// Connections that are accepted in a second; 0: no bound.
    pub connect_rate: u32,
    /// With [`Transport::Ws`] and [`Transport::Wss`].
    pub ws: Option<Arc<crate::listener::ws::Settings>>,
    /// What a proxy in front says before the device's first byte.
    pub proxy_protocol: Expect,
    /// Who may connect, as its word for a device's address is taken; none: everyone.
    pub proxy_from: Vec<Network>,
    /// An answer held for longer ends its connection; `None`: none does.
    pub answer_timeout: Option<Duration>,
    /// Whether publishers are told where in Kafka their message is.
    pub receipts: bool,
    /// What moves it, for the message that the port is taken.
    pub moved_by: String,
    /// No longer in the file: it stays in its place until the process ends. See [`crate::config::change`].
    pub is_removed: bool,
}

impl Listener {
    /// Devices come to this address by themselves.
    pub(in crate::config) fn plain(bind: SocketAddr, moved_by: &str) -> Self {
        Self {
            bind: bind.into(),
            socket_mode: SOCKET_MODE,
            transport: Transport::Tcp,
            tls: None,
            ws: None,
            auth: None,
            is_open: false,
            connections_max: 0,
            connect_rate: 0,
            proxy_protocol: Expect::Nothing,
            proxy_from: Vec::new(),
            answer_timeout: None,
            receipts: false,
            moved_by: moved_by.to_owned(),
            is_removed: false,
        }
    }
}

/// How bytes travel between a device and a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket over TCP.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// The word in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// It has WebSocket.
    #[must_use]
    pub const fn has_ws(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}
