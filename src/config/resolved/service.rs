//! The process, its control plane, its log, and the limits of the protocol.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::data_dir_id::DataDirId;
use crate::secure;

/// `[service]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Number of shards, at least 1: what was asked for, or one for each core that the process may use.
    pub shards: usize,
    /// Directory for all that is kept on disk.
    pub data_dir: PathBuf,
    /// The only data directory that will do; `None`: any. With a spool, from the start on the one that is used.
    pub data_dir_id: Option<DataDirId>,
    /// How long a stop waits for what is in flight.
    pub drain_grace: Duration,
    /// Threads that compare passwords; 0: one for every four shards.
    pub verifiers: usize,
    /// Memory in use beyond which the machine is short of it, in millionths.
    pub memory_high_watermark: u64,
    /// Whether the process gives up what it does not need.
    pub sandbox: bool,
    /// Whether each shard has a core of its own.
    pub pin: bool,
}

/// `[control]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Its address; `None`: off.
    pub bind: Option<SocketAddr>,
    /// What moves it, for the message that the port is taken.
    pub moved_by: String,
    /// Who may use `/api/v1`.
    pub access: ApiAccess,
    /// Directories below which the API may name files.
    pub file_dirs: Vec<PathBuf>,
    /// `[control.tls]`; `None`: it is served without TLS.
    pub tls: Option<secure::Settings>,
}

/// Who may use `/api/v1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiAccess {
    /// This machine, no one else: everyone may read, and whoever may read the service's own token may change.
    Local,
    /// Whoever sends one of the tokens in this file.
    Tokens(PathBuf),
}

/// `[log]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How severe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something is lost or stops.
    Error,
    /// Something is wrong and is coped with.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[mqtt]`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mqtt {
    /// Largest packet, whole, in bytes (5.0: Maximum Packet Size).
    pub packet_bytes_max: u32,
    /// QoS 1 and 2 messages a client may have unanswered (5.0: Receive Maximum), at least 1.
    pub receive_maximum: u16,
    /// QoS 2 messages that a 3.x client may have open, PUBLISH to PUBREL, at least 1.
    pub qos2_inflight_3x: u16,
    /// Topic aliases a client may set up (5.0: Topic Alias Maximum).
    pub topic_alias_maximum: u16,
    /// From accept to the whole CONNECT.
    pub connect_timeout: Duration,
    /// Longest keep-alive in seconds (5.0: Server Keep Alive); `None`: as the client asks.
    pub keep_alive_max_s: Option<u16>,
    /// Longest Session Expiry Interval of a 5.0 client, in seconds.
    pub session_expiry_max_s: u32,
    /// How long the session of a 3.x client without clean session is kept, in seconds.
    pub session_expiry_3x_s: u32,
    /// Sessions at a time, all shards together.
    pub sessions_max: usize,
    /// Whether sessions without a connection make room for others.
    pub evict_sessions: bool,
    /// Connections of a shard that have not completed CONNECT.
    pub unauthenticated_max: usize,
    /// Takeovers of one client id within ten seconds; 0: no bound.
    pub takeovers_max: u32,
    /// Connections of an address; 0: no bound.
    pub connections_per_address: u32,
    /// Failures of an address to log in, within a minute; 0: no bound.
    pub failures_per_address: u32,
}
