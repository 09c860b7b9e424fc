//! WebSocket (RFC 6455) as a layer over a socket, or over TLS: an HTTP request first, then frames. The payloads of the frames are
//! one stream of bytes, wherever packets and frames begin and end [MQTT-6.0.0-2].
//!
//! The frames are parsed by code of our own: decision 0113.

mod client;
mod frame;
mod layer;
mod origin;
mod upgrade;

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod tests;

pub use self::layer::{layer, outgoing};

/// `[listener.ws]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The path of the URL, as `/mqtt`.
    pub path: String,
    /// The origins of web pages that may connect, as `https://example.org`; empty: only those of the host itself.
    pub origins: Vec<String>,
    /// Pages of any origin may connect, as the listener asks for a password that a foreign page does not have.
    pub any_origin: bool,
    /// Whether a proxy in front gives the client's address in `X-Forwarded-For`.
    pub is_forwarded: bool,
}

impl Settings {
    /// The settings for the dashboard's client: the control plane has checked its page.
    #[must_use]
    pub fn of_dashboard() -> Self {
        Self { path: "/mqtt".to_owned(), origins: Vec::new(), any_origin: false, is_forwarded: false }
    }
}
