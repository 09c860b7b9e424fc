//! What the keys of Kafka clusters may be.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::secure::sasl::Credentials;

/// The times of a cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// For a connection to be of use, from the lookup of the name to the login.
    pub connect_timeout: Duration,
    /// For an answer.
    pub request_timeout: Duration,
    /// Before this metadata is not asked for again.
    pub metadata_min_age: Duration,
    /// After this metadata is asked for again.
    pub metadata_max_age: Duration,
    /// After this a broker is asked whether it answers, if nothing else was.
    pub health_check_interval: Duration,
    /// First wait between attempts to connect.
    pub reconnect_backoff_min: Duration,
    /// Longest wait between attempts to connect; not shorter than the first.
    pub reconnect_backoff_max: Duration,
}

/// `[kafka.NAME.sasl]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    /// Who logs in, and by what.
    pub credentials: Arc<Credentials>,
    /// Where the password was read; `None`: the environment has it, or there is none.
    pub password_file: Option<PathBuf>,
    /// The secret may travel as it is.
    pub insecure: bool,
}
