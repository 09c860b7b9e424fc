//! URLs of `http` and `https`.

use std::fmt;
use std::net::IpAddr;

/// `https://host[:port]/path`; `http` to this machine only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    /// Whether it is `https`.
    pub is_tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub target: String,
}

impl Url {
    /// Parses a URL that is safe to fetch keys and secrets from.
    ///
    /// # Errors
    /// Why the URL is refused.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let url = Self::with_port(text, 80)?;
        let is_local = url.host == "localhost" || url.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if !url.is_tls && !is_local {
            return Err("must be https: on the way to another machine it could be read and changed");
        }
        Ok(url)
    }

    /// Parses any URL; `port_default`: the port of `http` where the URL has none.
    ///
    /// # Errors
    /// Why it is not a URL.
    pub fn with_port(text: &str, port_default: u16) -> Result<Self, &'static str> {
        let (is_tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err("must begin with https://"),
        };
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !is_plain(authority) || authority.contains('@') || !is_plain(target) {
            return Err("must be https://HOST/PATH, without user, password and fragment");
        }
        let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match bracketed {
            Some((host, port)) => (host, port),
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() && is_tls => 443,
            None if port.is_empty() => port_default,
            Some(port) => {
                port.parse().ok().filter(|port| *port > 0).ok_or("its port must be a number from 1 to 65535")?
            }
            None => return Err("must be https://HOST/PATH"),
        };
        if host.is_empty() {
            return Err("has no host");
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { is_tls, host: host.to_owned(), port, target })
    }

    /// Host and port, as in the `Host` of a request.
    #[must_use]
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let is_default = self.port == if self.is_tls { 443 } else { 80 };
        if is_default { host } else { format!("{host}:{}", self.port) }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        for (text, authority, shown) in [
            ("https://id.example/keys?v=1", "id.example", "https://id.example/keys?v=1"),
            ("https://id.example", "id.example", "https://id.example/"),
            ("https://id.example:8443?a", "id.example:8443", "https://id.example:8443/?a"),
            ("https://[2001:db8::1]/keys", "[2001:db8::1]", "https://[2001:db8::1]/keys"),
            ("http://localhost:1/keys", "localhost:1", "http://localhost:1/keys"),
            ("http://127.0.0.1/keys", "127.0.0.1", "http://127.0.0.1/keys"),
            ("http://[::1]:80/", "[::1]", "http://[::1]/"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!((url.authority().as_str(), url.to_string().as_str()), (authority, shown), "{text}");
        }
        for bad in [
            "",
            "id.example/keys",
            "ftp://id.example",
            "https://",
            "https:///keys",
            "https://:443/",
            "https://a:0/",
            "https://a:x/",
            "https://u@a/",
            "https://a/x y",
            "https://a/\r\nX: y",
            "https://a/#b",
            "http://id.example/keys",
            "http://localhost.example/",
            "https://[::1",
            "https://[::1]x/",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }
}
