//! `Ended`: the reason for the end of a connection, in words.

use std::borrow::Cow;
use std::fmt;
use std::io::ErrorKind::ConnectionReset;

use crate::secure::Outgoing;
use forebay_runtime::seam::{Closed, LayerFault};

/// `Ended` is the reason why a connection has ended, or was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// TLS failed, which usually an operator has to fix.
    Tls(Cow<'static, str>),
    /// Any other reason.
    Lost(Cow<'static, str>),
}

impl Ended {
    /// Converts the end of a connection. `in_handshake`: the TLS handshake of the connection was not over.
    pub fn of(closed: &Closed, in_handshake: bool) -> Self {
        match closed {
            // A listener without TLS reacts to the first bytes of a handshake this way.
            Closed::Peer if in_handshake => Self::Tls(Outgoing::HUNG_UP.into()),
            Closed::Error(error) if in_handshake && error.kind() == ConnectionReset => {
                Self::Tls(Outgoing::HUNG_UP.into())
            }
            Closed::Layer(error) => match error.fault {
                LayerFault::Upgrade(_) | LayerFault::WebSocket(_) => Self::Lost(error.what.clone()),
                _ => Self::Tls(error.what.clone()),
            },
            Closed::Peer => Self::Lost("closed by the broker".into()),
            Closed::Local => Self::Lost("closed".into()),
            Closed::Error(error) => Self::Lost(error.to_string().into()),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tls(why) => write!(f, "TLS: {why}"),
            Self::Lost(why) => f.write_str(why),
        }
    }
}
