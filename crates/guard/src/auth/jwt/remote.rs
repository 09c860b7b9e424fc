//! The URL of a key set.

use std::path::PathBuf;
use std::time::Duration;

use crate::secure::Url;

/// A key set at a URL. A thread fetches it into a file, from which it is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// The URL.
    pub url: Url,
    /// The CAs of the server's certificate; `None`: the CAs of this machine.
    pub ca_file: Option<PathBuf>,
    /// The time between two fetches.
    pub refresh: Duration,
    /// Keys that could not be fetched for this long are not accepted any more.
    pub stale_max: Duration,
    /// The file of the fetched keys.
    pub file: PathBuf,
}
