//! Outgoing connections, sans-I/O, whichever protocol is spoken over them: bytes and `now` in, [`Effect`]s out.
//!
//! A client has a [`Channel`] to each endpoint that it uses, and for all of them one [`Shared`]. A channel resolves, connects to the
//! addresses in turn, puts TLS over the connection, and hands it to the protocol, which logs in by its own means and says when it is
//! [established](Channel::established). What a protocol keeps of a connection is [`Connected`]. What it promises:
//!
//! - **In time.** All of that has [`Settings::connect_timeout`], each address an equal part of what is left.
//! - **Backoff.** Failed attempts come again, exponential with ± 20 % of chance; those that an operator has to end come more rarely.
//! - **Once.** A link and a ticket are never used twice, and what comes of one that was given up is ignored.
//! - **News.** The first of a row of failures is told, and when it is over.

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

use crate::runtime::seam::{Chunk, Layer, Monotonic};
use crate::secure::Outgoing;
use crate::secure::sasl::Task;

/// A connection, as the client that makes it names it. Never used twice by one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(pub u32);

/// What a client wants done. In order: the sends of one link above all.
#[derive(Debug)]
pub enum Effect<E> {
    /// Resolve a name, and answer with the same ticket.
    Resolve {
        /// Never used twice. A late answer is ignored.
        ticket: u64,
        /// The name; never a literal address.
        host: String,
        /// The port, for the addresses.
        port: u16,
    },
    /// Open a TCP connection, put the layer over it, and report when that is ready, or has ended.
    Connect {
        /// Its name.
        link: LinkId,
        /// Where to.
        to: SocketAddr,
        /// TLS, where the settings have it.
        layer: Option<Box<dyn Layer>>,
    },
    /// Do this on an ordinary thread, for a login, and answer with the same ticket.
    Prepare {
        /// Never used twice. A late result is ignored.
        ticket: u64,
        /// What is to be done.
        task: Task,
    },
    /// Send these bytes.
    Send {
        /// On which connection.
        link: LinkId,
        /// One whole request.
        chunks: Vec<Chunk>,
    },
    /// Close at once, dropping what is unsent; also one that is still being made. The client has forgotten it.
    Close {
        /// Which connection.
        link: LinkId,
    },
    /// News for whoever uses the client.
    Event(E),
}

/// What a protocol keeps of a connection that stands.
pub trait Connected: Debug + Sized {
    /// The client's settings, those of its outgoing connections among them.
    type Settings: AsRef<Settings> + Debug;
    /// Which of the client's channels.
    type Owner: Copy + Debug + PartialEq;
    /// What the client tells whoever uses it.
    type Event: Debug + From<News>;

    /// A connection that has just been made, with this TLS. `silences`: how many in a row were closed before it for their silence.
    fn begin(link: LinkId, tls: Option<Arc<Outgoing>>, silences: u32) -> Self;
    /// When what the peer owes is overdue.
    fn deadline(&self) -> Monotonic;
    /// What that is, in words.
    fn overdue(&self) -> &'static str;
    /// Whether bytes are still on their way to the peer: then what is overdue is given more time. `unacked`: how many the peer's
    /// kernel does not have.
    fn is_moving(&mut self, unacked: usize, now: Monotonic) -> bool;
    /// Whether the peer owes nothing.
    fn is_idle(&self) -> bool;
}

/// The settings of a client's outgoing connections.
#[derive(Clone, Debug)]
pub struct Settings {
    /// For a connection to be of use: resolving, connecting through the addresses, TLS and the protocol's login, all together.
    pub connect_timeout: Duration,
    /// Wait after the first failed connection to an endpoint; doubles with each further one (± 20 %).
    pub backoff_min: Duration,
    /// Longest wait between connections to an endpoint.
    pub backoff_max: Duration,
    /// Longest wait after logins that were refused, and after TLS that failed: an operator has to change something first.
    pub refused_backoff_max: Duration,
    /// TLS of the connections; `None`: they are plain.
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

/// What an operator should know of a client's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The first of a row of logins that a broker refused, or in which it did not prove itself.
    LoginRefused(LoginRefused),
    /// The first of a row of TLS handshakes with a broker (`host:port`) that failed, and why, in words.
    TlsFailed(String, String),
    /// A broker (`host:port`) that was reported is of use again, or is no longer one of those wanted.
    BrokerReachable(String),
    /// A first connection was established (`true`), or there is none and an attempt to have one has failed (`false`).
    Reachable(bool),
}

/// A login that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginRefused {
    /// `host:port`.
    pub broker: String,
    /// User name; empty with OAUTHBEARER.
    pub user: String,
    /// Name of the mechanism.
    pub mechanism: &'static str,
    /// The protocol's error code, if it is the broker that refuses.
    pub code: Option<i16>,
    /// Why, in words.
    pub reason: String,
}
