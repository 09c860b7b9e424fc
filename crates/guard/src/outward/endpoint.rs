//! `Endpoint`: the target of an outgoing connection.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

/// `Endpoint` is a host and a port: `host:port`, `[v6]:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name, or a literal address without brackets.
    pub host: Rc<str>,
    /// TCP port, not 0.
    pub port: u16,
}

impl Endpoint {
    /// Reads `host:port` or `[v6]:port`.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.trim().rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(bracketed) => bracketed.strip_suffix(']').filter(|v6| v6.parse::<IpAddr>().is_ok())?,
            None if host.contains(':') => return None,
            None => host,
        };
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty()).then(|| Self { host: Rc::from(host), port })
    }

    /// The address, if the host is a literal one.
    pub fn literal(&self) -> Option<SocketAddr> {
        self.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (text, host, port, literal) in [
            ("kafka-1.example:9092", "kafka-1.example", 9092, false),
            ("127.0.0.1:1", "127.0.0.1", 1, true),
            ("[::1]:65535", "::1", 65535, true),
        ] {
            let endpoint = Endpoint::parse(text).expect(text);
            assert_eq!((&*endpoint.host, endpoint.port), (host, port));
            assert_eq!(endpoint.literal().is_some(), literal);
            assert_eq!(endpoint.to_string(), text);
        }
        for bad in ["", "kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "::1:9092", "[::1]", "[kafka]:1", "a:-1"]
        {
            assert_eq!(Endpoint::parse(bad), None, "{bad}");
        }
    }
}
