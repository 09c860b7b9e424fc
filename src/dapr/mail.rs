//! What shards and the thread of bindings send each other.

use std::fmt;
use std::sync::Arc;

use super::Binding;

/// `Ask` is what the thread of bindings wants of the shard that has a bridge.
#[derive(Debug)]
pub enum Ask {
    /// To publish a message to the remote.
    Create(Create),
    /// To publish a message no more, or to say what is known of it: its time is over.
    Withdraw {
        /// The bridge's place in the configuration.
        bridge: usize,
        /// The message's number.
        number: u64,
    },
    /// To take what has become of a call.
    Called {
        /// The bridge's place in the configuration.
        bridge: usize,
        /// The message's place in its session: the session's number, and the message's there; `None`: it was of QoS 0.
        ticket: Option<(u64, u32)>,
        /// What [`Call::bytes`] has said.
        bytes: usize,
        /// Whether the remote is told that the message has arrived.
        is_over: bool,
    },
    /// To subscribe: the application wants the messages of a binding.
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
    /// Its number, of all messages that applications have published.
    pub number: u64,
    /// Its topic at the remote.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its QoS, 0 to 2.
    pub qos: u8,
    /// Whether the remote is to retain it.
    pub retain: bool,
    /// Takes what became of it.
    pub answer: Answer,
}

/// `Answer` takes what became of a message, and does not block.
pub struct Answer(Box<dyn FnOnce(Outcome) + Send>);

impl Answer {
    /// Calls this function.
    #[must_use]
    pub fn new(with: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self(Box::new(with))
    }

    /// Says what became of the message.
    pub fn say(self, outcome: Outcome) {
        self.0(outcome);
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// What became of a message for a remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The remote has acknowledged it; of QoS 0: it was written to the connection.
    Done,
    /// The remote does not have it, and will not get it.
    Failed(String),
    /// The remote may have it.
    Unknown(String),
}

/// A message of a remote, for the application.
#[derive(Debug)]
pub struct Call {
    /// The bridge's place in the configuration.
    pub bridge: usize,
    /// Its name.
    pub name: String,
    /// What it has beyond a bridge.
    pub binding: Arc<Binding>,
    /// The message's topic.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its place in its session; `None`: it is of QoS 0.
    pub ticket: Option<(u64, u32)>,
    /// What it counts for.
    pub bytes: usize,
}

/// `App` is the way to the application.
#[derive(Clone)]
pub struct App(Arc<dyn Fn(Call) -> bool + Send + Sync>);

impl App {
    /// Hands messages to this function, which does not block. False: nobody takes them any more.
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
