//! Values of the keys of `[broker]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use forebay_guard::secure::Pair;
use forebay_rule::record::RecordTemplate;

/// `[[broker.route]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRoute {
    /// Topic filters of the route's messages, if no earlier route takes them.
    pub filters: Vec<String>,
    /// The Kafka topic.
    pub topic: String,
    /// Whether the publisher decides on the partition, and not the MQTT topic.
    pub by_client: bool,
    /// The MQTT topic of its records.
    pub mqtt_topic: RecordTemplate,
}

/// `[broker.link]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerLink {
    /// The address that other instances connect to.
    pub bind: SocketAddr,
    /// The address that other instances are given, `host:port`; `None`: `bind`.
    pub address: Option<String>,
    /// TLS; `None`: there is none.
    pub tls: Option<LinkFiles>,
}

/// The files of TLS between instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkFiles {
    /// The certificate of this instance, and its key.
    pub own: Pair,
    /// The CAs of all instances.
    pub ca: PathBuf,
}

impl BrokerLink {
    /// The address at which other instances reach this one, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.clone().unwrap_or_else(|| self.bind.to_string())
    }
}
