//! Settings of the client.

use std::sync::Arc;
use std::time::Duration;

use forebay_guard::outward::{self, Bounds};
use forebay_guard::secure::sasl::Credentials;

/// The settings of one cluster's client. Times are bounds on waiting, never delays added to work.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Brokers to ask first: `host:port`, `[v6]:port`. Entries that cannot be parsed are left out (the configuration has refused them
    /// before).
    pub bootstrap: Vec<String>,
    /// Settings of the connections to brokers. ApiVersions and the login are part of `connect_timeout`.
    pub outward: outward::Settings,
    /// The client's name in the brokers' logs and quotas; cut to 249 bytes.
    pub client_id: String,
    /// The longest that a broker may be silent on a request: since it was sent or, after others, since the previous answer. A Produce
    /// request gets its own `timeout_ms` and the time its bytes need in addition.
    pub request_timeout: Duration,
    /// How long a broker may be silent at first, plus some round trips: doubles with each consecutive connection that was closed for
    /// silence.
    pub silence_min: Duration,
    /// The minimum time between two requests for one topic's metadata.
    pub metadata_min_age: Duration,
    /// The age at which metadata is requested again (± 20 %).
    pub metadata_max_age: Duration,
    /// How long a broker may be without requests before it is probed.
    pub health_check_interval: Duration,
    /// Wait after the first failed InitProducerId; doubles (± 20 %).
    pub retry_backoff_min: Duration,
    /// Longest wait before a request is repeated.
    pub retry_backoff_max: Duration,
    /// Interval of metadata requests for topics with unreachable leaders (± 20 %).
    pub recheck: Duration,
    /// Maximum size of an accepted answer, in bytes; a larger one closes the connection.
    pub answer_bytes_max: usize,
    /// Maximum number of unanswered requests on one connection; more wait in the queue.
    pub in_flight_max: usize,
    /// Maximum number of queued Produce requests for one broker (not connected, throttled, window full); one more fails at once.
    /// The producer's window of five for each partition stays well below.
    pub queued_max: usize,
    /// Minimum rate expected of a link, in bytes per second: bounds the time of a large request before the client checks
    /// whether its bytes still move.
    pub link_bytes_s_min: u32,
    /// Credentials to log in with; `None`: the brokers require no SASL.
    pub sasl: Option<Arc<Credentials>>,
    /// Whether a wanted topic may be created by requesting its metadata (the cluster must allow it too).
    pub allow_auto_topic_creation: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            outward: outward::Settings::default(),
            client_id: "forebay".to_owned(),
            request_timeout: Duration::from_secs(10),
            silence_min: Duration::from_secs(1),
            metadata_min_age: Duration::from_millis(100),
            metadata_max_age: Duration::from_secs(60),
            health_check_interval: Duration::from_secs(15),
            retry_backoff_min: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            recheck: Duration::from_millis(500),
            answer_bytes_max: 16 * 1024 * 1024,
            in_flight_max: 32,
            queued_max: 1024,
            link_bytes_s_min: 64 * 1024,
            sasl: None,
            allow_auto_topic_creation: true,
        }
    }
}

impl AsRef<outward::Settings> for Settings {
    fn as_ref(&self) -> &outward::Settings {
        &self.outward
    }
}

impl Settings {
    /// Bounds of the waits while metadata of a topic is incomplete.
    pub(super) fn metadata(&self) -> Bounds {
        Bounds { min: self.metadata_min_age, max: self.retry_backoff_max.max(self.metadata_min_age) }
    }

    pub(super) fn retry(&self) -> Bounds {
        Bounds { min: self.retry_backoff_min, max: self.retry_backoff_max }
    }
}
