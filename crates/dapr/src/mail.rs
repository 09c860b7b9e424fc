//! Mail between the shards and the thread of bindings.

use std::fmt;
use std::sync::Arc;

use super::Binding;

/// A request of the thread of bindings to the shard that has a bridge.
#[derive(Debug)]
pub enum Ask {
    /// Publish a message to the remote.
    Create(Create),
    /// Stop publishing a message, or report its outcome so far: its time is over.
    Withdraw {
        /// The bridge's place in the configuration.
        bridge: usize,
        /// The message's number.
        number: u64,
    },
    /// Take the outcome of a call.
    Called {
        /// The bridge's place in the configuration.
        bridge: usize,
        /// The message's place in its session: the session's number, and the message's there; `None`: it was of QoS 0.
        ticket: Option<(u64, u32)>,
        /// The value of [`Call::bytes`].
        bytes: usize,
        /// Whether the message is acknowledged to the remote.
        is_over: bool,
    },
    /// Subscribe: the application wants the messages of a binding.
    Wanted {
        /// The bridge's place in the configuration.
        bridge: usize,
    },
}

impl Ask {
    /// The bridge's place in the configuration.
    #[must_use]
    pub fn bridge(&self) -> usize {
        match self {
            Self::Create(create) => create.bridge,
            Self::Withdraw { bridge, .. } | Self::Called { bridge, .. } | Self::Wanted { bridge } => *bridge,
        }
    }
}

/// A message for a remote.
#[derive(Debug)]
pub struct Create {
    /// The bridge's place in the configuration.
    pub bridge: usize,
    /// The message's number among all that applications have published.
    pub number: u64,
    /// The topic at the remote.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The QoS, 0 to 2.
    pub qos: u8,
    /// Whether the remote retains the message.
    pub retain: bool,
    /// The callback for the outcome.
    pub answer: Answer,
}

/// A callback for the outcome of a message. It does not block.
pub struct Answer(Box<dyn FnOnce(Outcome) + Send>);

impl Answer {
    /// Calls this function.
    #[must_use]
    pub fn new(with: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self(Box::new(with))
    }

    /// Reports the outcome of the message.
    pub fn say(self, outcome: Outcome) {
        self.0(outcome);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// The outcome of a message for a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The remote has acknowledged the message; at QoS 0: it was written to the connection.
    Done,
    /// The remote does not have the message, and will not get it.
    Failed(String),
    /// The remote may have the message.
    Unknown(String),
}

/// A message of a remote, for the application.
#[derive(Debug)]
pub struct Call {
    /// The bridge's place in the configuration.
    pub bridge: usize,
    /// The bridge's name.
    pub name: String,
    /// The binding of the bridge.
    pub binding: Arc<Binding>,
    /// The message's topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The length of the message's packet, if it is longer than any is taken: the payload was passed over.
    pub too_long: Option<usize>,
    /// The message's place in its session; `None`: it is of QoS 0.
    pub ticket: Option<(u64, u32)>,
    /// The bytes that the message counts for.
    pub bytes: usize,
}

/// The channel to the application.
#[derive(Clone)]
pub struct App(Arc<dyn Fn(Call) -> bool + Send + Sync>);

impl App {
    /// Passes messages to this function, which does not block. It returns false when messages are not taken any more.
    #[must_use]
    pub fn new(with: impl Fn(Call) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(with))
    }

    /// Has the application called; [`Ask::Called`] follows. False: the service is stopping.
    #[must_use]
    pub fn call(&self, call: Call) -> bool {
        self.0(call)
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("App")
    }
}
