//! Values of the keys of listeners.

use std::net::SocketAddr;

use crate::keys::{Listener, Section};
use crate::reader::defaults;
use crate::setting::{Settings as _, words};
use forebay_listener::proxy::Expect;

impl Listener {
    /// A plain TCP listener, without a proxy.
    pub(crate) fn plain(bind: SocketAddr, moved_by: &str) -> Self {
        let defaults = defaults(Section::Listener, "listener", Self::read);
        Self { bind: bind.into(), moved_by: moved_by.to_owned(), ..defaults }
    }
}

words! {
    /// The transport between a device and a listener.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Transport {
        /// Plain TCP.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
        /// WebSocket over TCP.
        Ws = "ws",
        /// WebSocket over TLS.
        Wss = "wss",
    }
}

words!(impl Expect { Nothing = "off", V1 = "v1", V2 = "v2", Any = "any" });

impl Transport {
    /// Whether the transport has WebSocket.
    #[must_use]
    pub const fn has_ws(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}
