//! Values of the keys of Kafka clusters.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use forebay_guard::secure::sasl::Credentials;

/// The times of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The time for a connection to be of use, from the lookup of the name to the login.
    pub connect_timeout: Duration,
    /// The time for an answer.
    pub request_timeout: Duration,
    /// The age before which metadata is not requested again.
    pub metadata_min_age: Duration,
    /// The age at which metadata is requested again.
    pub metadata_max_age: Duration,
    /// The idle time after which a broker gets a request to check that it answers.
    pub health_check_interval: Duration,
    /// First wait between attempts to connect.
    pub reconnect_backoff_min: Duration,
    /// Longest wait between attempts to connect; not shorter than the first.
    pub reconnect_backoff_max: Duration,
}

/// `[kafka.NAME.sasl]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// The user name of the login, and its password or token.
    pub credentials: Arc<Credentials>,
    /// The file of the password; `None`: it is from the environment, or there is none.
    pub password_file: Option<PathBuf>,
    /// Whether the secret may travel without encryption.
    pub insecure: bool,
}
