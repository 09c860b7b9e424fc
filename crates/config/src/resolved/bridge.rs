//! Values of the keys of bridges.

use std::sync::Arc;
use std::time::Duration;

use super::Feed;
use crate::setting::{Words as _, words};
use forebay_bridge::{In, Login, Out, Retained, Settings, Versions, Wanted};
use forebay_guard::secure::Outgoing;
use forebay_mqtt::packet::QoS;

words!(impl Versions { V5 = "5.0", V311 = "3.1.1", Any = "auto" });
words!(impl Retained { All = "all", New = "new", None = "none" });

/// `[[bridge.NAME.in]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeIn {
    /// Unique among the bridge's.
    pub name: String,
    /// The requested QoS.
    pub qos: QoS,
    /// The share of the filters at the remote.
    pub share: Option<String>,
    /// Filters, local topic, retained messages.
    pub takes: In,
    /// The destinations of the messages.
    pub feeds: Vec<Feed>,
}

impl BridgeIn {
    /// Whether its messages go there.
    #[must_use]
    pub fn feeds(&self, to: Feed) -> bool {
        self.feeds.contains(&to)
    }

    /// The filters in the form that the remote gets.
    pub fn asked(&self) -> impl Iterator<Item = String> {
        let share = self.share.as_ref().map_or_else(String::new, |share| format!("$share/{share}/"));
        self.takes.filters.iter().map(move |filter| format!("{share}{filter}"))
    }

    /// The word for the retained messages that are taken.
    #[must_use]
    pub fn retained(&self) -> &'static str {
        let mut words = Retained::WORDS.iter().filter(|(_, of)| *of == self.takes.retained);
        words.next().map_or("", |(word, _)| word)
    }
}

/// `[[bridge.NAME.out]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeOut {
    /// Unique among the bridge's.
    pub name: String,
    /// Filters of local topics.
    pub filters: Vec<String>,
    /// The mapping of messages to the remote.
    pub gives: Out,
}

impl super::Bridge {
    /// The settings of the bridge's client, which asks for these filters.
    #[must_use]
    pub fn settings(&self, tls: Option<Arc<Outgoing>>, packet_bytes_max: u32, wanted: Vec<Wanted>) -> Settings {
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let login = Login {
            versions: self.version,
            says_bridge: self.try_private,
            client_id: self.client_id.as_str().into(),
            username: self.username.as_deref().map(Into::into),
            password: self.password.clone(),
            clean_start: self.clean_start,
            session_expiry_s: seconds(self.session_expiry),
            keep_alive_s: u16::try_from(self.keep_alive.as_secs()).unwrap_or(u16::MAX),
            receive_maximum: self.receive_maximum,
            packet_bytes_max,
            in_flight_max: self.inflight_max,
            instance: if self.via { self.instance.as_str().into() } else { "".into() },
        };
        let times = (self.connect_timeout, self.reconnect_backoff, self.reconnect_backoff_max);
        Settings::new(self.url.endpoint(), times, tls, (login, wanted))
    }

    /// The number by which copies in the bridge's queue refer to an `out`: a hash of its name, the same wherever the `out` is in
    /// the file.
    #[must_use]
    pub fn identifier(out: &str) -> u32 {
        const MAX: u32 = 268_435_455;
        // FNV-1a: it may never change, as logs contain it.
        let hash = out.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        (hash & MAX).max(1)
    }
}
