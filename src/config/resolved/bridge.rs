//! Bridges: other MQTT brokers of which Forebay is a client.

use std::time::Duration;

use super::Feed;
use crate::bridge::{In, Out, Url, Versions};
use crate::mqtt::packet::QoS;
use crate::secure::{OutgoingSettings, Secret};

/// `[bridge.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// NAME.
    pub name: String,
    /// What the bridge is for, for people.
    pub description: Option<String>,
    /// The remote. Its user name and password are those below.
    pub url: Url,
    /// The client identifier.
    pub client_id: String,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
    /// The versions of MQTT that are tried.
    pub version: Versions,
    /// Whether the remote is to forget the session each time.
    pub clean_start: bool,
    /// For how long the remote is to keep the session without a connection.
    pub session_expiry: Duration,
    /// The keep-alive; zero: off.
    pub keep_alive: Duration,
    /// Time-out for each step of connecting.
    pub connect_timeout: Duration,
    /// Wait before the second attempt to connect.
    pub reconnect_backoff: Duration,
    /// Maximum wait between two attempts to connect.
    pub reconnect_backoff_max: Duration,
    /// Messages of QoS 1 and 2 that the remote may have open.
    pub receive_maximum: u16,
    /// Messages of QoS 1 and 2 on their way to the remote; `None`: as many as it takes.
    pub inflight_max: Option<u16>,
    /// Whether a 3.1.1 remote is told that the client is a bridge.
    pub try_private: bool,
    /// Maximum number of messages that wait for the remote.
    pub queue_messages_max: usize,
    /// Their maximum size, in bytes.
    pub queue_bytes_max: usize,
    /// Whether a message for which there is no room is dropped, rather than the oldest.
    pub drops_newest: bool,
    /// Whether the bridge does not connect.
    pub paused: bool,
    /// TLS to the remote.
    pub tls: Option<OutgoingSettings>,
    /// What comes from the remote, in the order of the file.
    pub ins: Vec<BridgeIn>,
    /// What goes to the remote, in the order of the file.
    pub outs: Vec<BridgeOut>,
    /// Whether the bridge was removed while the service runs: it stays in its place until the restart, and does nothing.
    pub is_removed: bool,
}

/// `[[bridge.NAME.in]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeIn {
    /// Unique among the bridge's.
    pub name: String,
    /// The QoS that is asked for.
    pub qos: QoS,
    /// The share of the filters at the remote.
    pub share: Option<String>,
    /// Filters, local topic, retained messages.
    pub takes: In,
    /// Where the messages go.
    pub feeds: Vec<Feed>,
}

impl BridgeIn {
    /// The filters as the remote is asked for them.
    pub fn asked(&self) -> impl Iterator<Item = String> {
        let share = self.share.as_ref().map_or_else(String::new, |share| format!("$share/{share}/"));
        self.takes.filters.iter().map(move |filter| format!("{share}{filter}"))
    }
}

/// `[[bridge.NAME.out]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeOut {
    /// Unique among the bridge's.
    pub name: String,
    /// Filters of local topics.
    pub filters: Vec<String>,
    /// What the remote is sent of a message.
    pub gives: Out,
}

impl Bridge {
    /// The number by which copies in the bridge's queue name an `out`: it is the same for the same name, wherever the `out` stands.
    #[must_use]
    pub fn identifier(out: &str) -> u32 {
        const MAX: u32 = 268_435_455;
        // FNV-1a: it may never change, as it stands in logs.
        let hash = out.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (hash & MAX).max(1)
    }
}
