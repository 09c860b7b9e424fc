//! Why a connection has ended, in words.

use std::borrow::Cow;
use std::fmt;
use std::io::ErrorKind::ConnectionReset;

use crate::runtime::seam::Closed;
use crate::secure::Outgoing;

/// Why a connection has ended, or was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Because of TLS: an operator has to change something first, mostly.
    Tls(Cow<'static, str>),
    /// For another reason.
    Lost(Cow<'static, str>),
}

impl Ended {
    /// What the seam says, of a connection whose TLS handshake was not over if `in_handshake`.
    pub fn of(closed: &Closed, in_handshake: bool) -> Self {
        match closed {
            // What a listener without TLS does with the first bytes of a handshake.
            Closed::Peer if in_handshake => Self::Tls(Outgoing::HUNG_UP.into()),
            Closed::Error(error) if in_handshake && error.kind() == ConnectionReset => {
                Self::Tls(Outgoing::HUNG_UP.into())
            }
            Closed::Layer(error) => Self::Tls(error.what.clone()),
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
