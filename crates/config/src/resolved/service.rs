//! Values of the keys of the process, its control plane and its log.

use std::path::PathBuf;

use crate::setting::words;
use forebay_service::service::preflight::IoChoice;

words!(impl IoChoice { Auto = "auto", Ring = "ring", Epoll = "epoll" });

/// The clients that may use `/api/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiAccess {
    /// Clients on this machine only: all of them may read, and those that can read the service's own token may change.
    #[default]
    Local,
    /// Clients that send one of the tokens in this file.
    Tokens(PathBuf),
}

words! {
    /// The format of a log line.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LogFormat {
        /// Text for people.
        Text = "text",
        /// One JSON object per line.
        Json = "json",
    }
}

words! {
    /// The severity of a log line.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum LogLevel {
        /// Something is lost or stops.
        Error = "error",
        /// Something is wrong and is coped with.
        Warn = "warn",
        /// Events for operators.
        Info = "info",
        /// Details for developers.
        Debug = "debug",
        /// The finest level of detail.
        Trace = "trace",
    }
}
