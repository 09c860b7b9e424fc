//! Outgoing connections of any protocol, sans-I/O: bytes and `now` in, [`Effect`]s out.
//!
//! A client has a [`Channel`] to each endpoint that it uses, and one [`Shared`] for all its channels. A channel resolves the name, connects
//! to the addresses in turn, adds TLS to the connection, and hands it to the protocol, which logs in by its own means and then calls
//! [`Channel::established`]. [`Connected`] is a protocol's state of a connection. Promises of this module:
//!
//! - **In time.** All these steps together have [`Settings::connect_timeout`]; each address has an equal part of the remaining time.
//! - **Backoff.** Failed attempts are repeated after exponential waits, ± 20 % by chance; failures that only an operator can fix, less
//!   often.
//! - **Once.** Links and tickets are never used twice; events of an abandoned one are ignored.
//! - **News.** The first of consecutive failures is reported, and their end.

mod backoff;
mod channel;
mod ended;
mod endpoint;
mod shared;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use self::backoff::{Backoff, Bounds, jittered};
pub use self::channel::{Channel, Refused};
pub use self::ended::Ended;
pub use self::endpoint::Endpoint;
pub use self::shared::{Shared, Stats};

use crate::secure::Outgoing;
use crate::secure::sasl::Task;
use forebay_runtime::seam::{Chunk, Layer, Monotonic};

/// `LinkId` identifies a connection. A client never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// `Effect` is an action that a client requests, in order: above all the sends of one link.
#[derive(Debug)]
pub enum Effect<E> {
    /// Resolve a name, and answer with the same ticket.
    Resolve {
        /// A number that is never used twice; a late answer is ignored.
        ticket: u64,
        /// Host name; never a literal address.
        host: String,
        /// Port of the addresses.
        port: u16,
    },
    /// Open a TCP connection, put the layer over it, and report when that is ready or has ended.
    Connect {
        /// Id of the connection.
        link: LinkId,
        /// Address of the peer.
        to: SocketAddr,
        /// TLS, if the settings have it.
        layer: Option<Box<dyn Layer>>,
    },
    /// Do a task of a login on an ordinary thread, and answer with the same ticket.
    Prepare {
        /// A number that is never used twice; a late result is ignored.
        ticket: u64,
        /// The task.
        task: Task,
    },
    /// Send bytes.
    Send {
        /// The connection.
        link: LinkId,
        /// The bytes of one whole request.
        chunks: Vec<Chunk>,
    },
    /// Close a connection at once, even one that is still being made; unsent bytes are dropped. The client has forgotten the link.
    Close {
        /// The connection.
        link: LinkId,
    },
    /// An event for the user of the client.
    Event(E),
}

/// `Connected` is a protocol's state of an open connection.
pub trait Connected: Debug + Sized {
    /// Settings of the client; they include those of this module.
    type Settings: AsRef<Settings> + Debug;
    /// Identifies a channel of the client.
    type Owner: Copy + Debug + PartialEq;
    /// Events of the client.
    type Event: Debug + From<News>;

    /// Makes the state of a new connection over this TLS. `silences`: number of consecutive connections before it that were closed because
    /// the peer was silent.
    fn begin(link: LinkId, tls: Option<Arc<Outgoing>>, silences: u32) -> Self;
    /// When the peer is overdue with an answer.
    fn deadline(&self) -> Monotonic;
    /// Name of the overdue answer, for a log.
    fn overdue(&self) -> &'static str;
    /// Whether bytes are still on their way to the peer, which then gets more time. `unacked`: number of bytes that the peer's kernel has
    /// not acknowledged.
    fn is_moving(&mut self, unacked: usize, now: Monotonic) -> bool;
    /// Whether no request is unanswered.
    fn is_idle(&self) -> bool;
}

/// `Settings` of the outgoing connections of a client.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Time for a connection to become usable: resolving, all addresses, TLS and the login of the protocol together.
    pub connect_timeout: Duration,
    /// Wait after the first failed connection to an endpoint; doubles with each further failure (± 20 %).
    pub backoff_min: Duration,
    /// Longest wait between connections to an endpoint.
    pub backoff_max: Duration,
    /// Longest wait after refused logins and failed TLS, which an operator has to fix.
    pub refused_backoff_max: Duration,
    /// TLS of the connections; `None`: plain TCP.
    pub tls: Option<Arc<Outgoing>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
            refused_backoff_max: Duration::from_secs(30),
            tls: None,
        }
    }
}

/// `News` are events of a client's connections for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The first of consecutive logins that a broker refused, or in which it did not authenticate itself.
    LoginRefused(LoginRefused),
    /// The first of consecutive TLS handshakes with a broker (`host:port`) that failed, and the reason in words.
    TlsFailed(String, String),
    /// A broker (`host:port`) that was reported is usable again, or is not needed any more.
    BrokerReachable(String),
    /// `true`: a first connection was established. `false`: there is none, and an attempt to make one has failed.
    Reachable(bool),
}

/// `LoginRefused` describes a failed login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRefused {
    /// `host:port`.
    pub broker: String,
    /// User name; empty with OAUTHBEARER.
    pub user: String,
    /// Name of the mechanism.
    pub mechanism: &'static str,
    /// Error code of the protocol, if the broker refused.
    pub code: Option<i16>,
    /// The reason, in words.
    pub reason: String,
}
