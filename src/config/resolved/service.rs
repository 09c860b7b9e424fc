//! What the keys of the process, its control plane and its log may be.

use std::path::PathBuf;

use crate::config::setting::words;

/// Who may use `/api/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiAccess {
    /// This machine, no one else: everyone may read, and whoever may read the service's own token may change.
    #[default]
    Local,
    /// Whoever sends one of the tokens in this file.
    Tokens(PathBuf),
}

words! {
    /// How a log line looks.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// How severe.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum LogLevel {
        /// Something is lost or stops.
        Error = "error",
        /// Something is wrong and is coped with.
        Warn = "warn",
        /// What an operator wants to know.
        Info = "info",
        /// What a developer wants to know.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}
