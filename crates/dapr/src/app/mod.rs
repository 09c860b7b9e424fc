//! The client of the application.

#[cfg(feature = "grpc")]
mod grpc;
mod http;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::TcpStream;

use super::{Address, Call, Shared, Takes, lock};
use forebay_metrics::event::{Event, Field, Kind};

/// The longest wait for a connection, and for an answer.
const WITHIN: Duration = Duration::from_secs(60);

/// Why a call has failed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The application was not reached: it has not received the message.
    Away,
    /// The connection broke before the answer.
    Broken(String),
    /// The answer took too long.
    Late,
    /// The application has answered with this error.
    Refused(String),
}

impl Failed {
    /// The reason, in words.
    pub(super) fn why(self) -> String {
        match self {
            Self::Away => "the application cannot be reached".to_owned(),
            Self::Broken(why) | Self::Refused(why) => why,
            Self::Late => format!("no answer within {} s", WITHIN.as_secs()),
        }
    }
}

/// The application, if there is one.
pub(super) struct Application {
    shared: Arc<Shared>,
    /// Whether the application could not be reached at the last attempt.
    is_away: Mutex<bool>,
    #[cfg(feature = "grpc")]
    grpc: grpc::Kept,
}

impl Application {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            is_away: Mutex::default(),
            #[cfg(feature = "grpc")]
            grpc: grpc::Kept::default(),
        }
    }

    /// Asks the application whether it wants the messages of a binding.
    pub(super) async fn wants(&self, component: &str, takes: &Takes) -> Result<(), Failed> {
        let address = self.address()?;
        #[cfg(feature = "grpc")]
        if address.is_grpc {
            return grpc::wants(self, address, component).await;
        }
        let _ = component;
        http::wants(self, address, takes).await
    }

    /// Gives the application, or its sidecar, a message.
    pub(super) async fn take(&self, call: &Call, takes: &Takes) -> Result<(), Failed> {
        #[cfg(feature = "grpc")]
        if call.binding.is_brought {
            return self.shared.streams.take(call).await;
        }
        let address = self.address()?;
        #[cfg(feature = "grpc")]
        if address.is_grpc {
            return grpc::take(self, address, call).await;
        }
        http::take(self, address, call, takes).await
    }

    fn address(&self) -> Result<&Address, Failed> {
        self.shared.settings.app.as_ref().ok_or(Failed::Away)
    }

    /// Makes a new connection.
    async fn connect(&self, address: &Address) -> Result<TcpStream, Failed> {
        let host = address.host.trim_matches(['[', ']']);
        let stream = match tokio::time::timeout(WITHIN, TcpStream::connect((host, address.port))).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.away(address, &error.to_string())),
            Err(_) => return Err(self.away(address, "no connection in time")),
        };
        *lock(&self.is_away) = false;
        // Requests are small, and each waits for its answer.
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    fn away(&self, address: &Address, why: &str) -> Failed {
        if !std::mem::replace(&mut *lock(&self.is_away), true) {
            let event = Event::now(Kind::BindingAppUnreachable).with(Field::Reason, format!("{address}: {why}"));
            self.shared.journal.say(event);
        }
        Failed::Away
    }
}

/// The header value of a call that names its trace.
fn traceparent() -> String {
    format!("00-{:032x}-{:016x}-00", fastrand::u128(1..), fastrand::u64(1..))
}
