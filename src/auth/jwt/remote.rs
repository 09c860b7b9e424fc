//! Where a key set is fetched from.

use std::path::PathBuf;
use std::time::Duration;

use crate::secure::Url;

/// A key set by URL. It is fetched into a file, and taken from there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    /// From where.
    pub url: Url,
    /// Who vouches for the server; `None`: the CAs of this machine.
    pub ca_file: Option<PathBuf>,
    /// The time between two fetches.
    pub refresh: Duration,
    /// Keys that could not be fetched for this long are not accepted any more.
    pub stale_max: Duration,
    /// The file.
    pub file: PathBuf,
}
