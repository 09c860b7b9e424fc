//! The URL of a remote: `mqtts://USER:PASSWORD@HOST:PORT/PATH`.

use forebay_guard::outward::Endpoint;
use forebay_guard::secure::Secret;
use forebay_mqtt::STRING_MAX;

/// The protocol layers between a client and its remote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// TLS.
    pub is_tls: bool,
    /// WebSocket.
    pub is_web_socket: bool,
}

/// The schemes of URLs, the transport of each, and its port.
const SCHEMES: &[(&str, Transport, u16)] = &[
    ("mqtt", Transport { is_tls: false, is_web_socket: false }, 1883),
    ("tcp", Transport { is_tls: false, is_web_socket: false }, 1883),
    ("mqtts", Transport { is_tls: true, is_web_socket: false }, 8883),
    ("tcps", Transport { is_tls: true, is_web_socket: false }, 8883),
    ("ssl", Transport { is_tls: true, is_web_socket: false }, 8883),
    ("tls", Transport { is_tls: true, is_web_socket: false }, 8883),
    ("ws", Transport { is_tls: false, is_web_socket: true }, 80),
    ("wss", Transport { is_tls: true, is_web_socket: true }, 443),
];

/// The default path of a WebSocket.
const PATH: &str = "/mqtt";

/// `Url` is the address of a remote, with the parts of the login in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    /// The transport.
    pub transport: Transport,
    /// The host: a name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path and query of a WebSocket; empty for other transports.
    pub path: String,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Secret>,
}

impl Url {
    /// Host and port, as a connection is made to them.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint { host: self.host.as_str().into(), port: self.port }
    }

    /// The URL for display: without the login, and without the query, which may contain a token.
    #[must_use]
    pub fn shown(&self) -> String {
        let scheme = match (self.transport.is_web_socket, self.transport.is_tls) {
            (false, false) => "mqtt",
            (false, true) => "mqtts",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let path = match self.path.split_once('?') {
            Some((path, _)) => format!("{path}?(redacted)"),
            None => self.path.clone(),
        };
        format!("{scheme}://{}{path}", self.endpoint())
    }

    /// Reads a URL.
    ///
    /// # Errors
    /// The error, without the URL's password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("must be like mqtts://HOST:PORT")?;
        let known = SCHEMES.iter().find(|(name, ..)| scheme.eq_ignore_ascii_case(name));
        let (_, transport, port) = known.ok_or_else(|| {
            let names: Vec<_> = SCHEMES.iter().map(|(name, ..)| *name).collect();
            format!("must begin with one of {}, and ://", names.join(", "))
        })?;
        let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Some(login), host),
            None => (None, authority),
        };
        let endpoint = endpoint(host, *port)?;
        let path = path(target, transport.is_web_socket)?;
        let (username, password) = match login.map(|login| (login, login.split_once(':'))) {
            None => (None, None),
            Some((username, None)) => (Some(decoded(username)?), None),
            Some((_, Some((username, password)))) => (Some(decoded(username)?), Some(decoded(password)?)),
        };
        let username = username.map(String::from_utf8).transpose().map_err(|_| "its user name is no UTF-8")?;
        let is_long = |len: usize| len > STRING_MAX;
        if username.as_ref().is_some_and(|name| is_long(name.len()) || name.contains('\0'))
            || password.as_ref().is_some_and(|password| is_long(password.len()))
        {
            return Err("MQTT cannot say its user name or password".to_owned());
        }
        let (host, port) = (endpoint.host.to_string(), endpoint.port);
        Ok(Self { transport: *transport, host, port, path, username, password: password.map(Secret::new) })
    }
}

fn endpoint(host: &str, port: u16) -> Result<Endpoint, String> {
    let is_named = host.bytes().all(|byte| byte.is_ascii_graphic());
    let has_port = host.rfind(':').is_some_and(|colon| host.rfind(']').is_none_or(|bracket| bracket < colon));
    let full = if has_port { host.to_owned() } else { format!("{host}:{port}") };
    Endpoint::parse(&full)
        .filter(|_| is_named)
        .ok_or_else(|| "its host and port must be HOST, HOST:PORT or [IPv6]:PORT".to_owned())
}

fn path(target: &str, is_web_socket: bool) -> Result<String, String> {
    if target.contains('#') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("its path must be plain ASCII, without a fragment".to_owned());
    }
    match target {
        "" | "/" if !is_web_socket => Ok(String::new()),
        _ if !is_web_socket => Err("only ws and wss have a path".to_owned()),
        "" => Ok(PATH.to_owned()),
        target if target.starts_with('?') => Ok(format!("{PATH}{target}")),
        target => Ok(target.to_owned()),
    }
}

/// The bytes of a text in which `%` and two hexadecimal digits are one byte.
fn decoded(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || "the user name and password in it need percent-encoding: % must stand before two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        bytes.push(u8::from_str_radix(digits.ok_or_else(wrong)?, 16).map_err(|_| wrong())?);
        rest = behind;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_scheme_has_its_port() {
        for (text, is_tls, is_web_socket, endpoint, path) in [
            ("mqtt://broker", false, false, "broker:1883", ""),
            ("tcp://broker/", false, false, "broker:1883", ""),
            ("MQTTS://broker.example", true, false, "broker.example:8883", ""),
            ("tcps://10.0.0.1", true, false, "10.0.0.1:8883", ""),
            ("ssl://[::1]", true, false, "[::1]:8883", ""),
            ("tls://[fd00::2]:1", true, false, "[fd00::2]:1", ""),
            ("ws://broker", false, true, "broker:80", "/mqtt"),
            ("wss://broker:8084/a/b?c=d", true, true, "broker:8084", "/a/b?c=d"),
            ("wss://broker?token=1", true, true, "broker:443", "/mqtt?token=1"),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!(url.transport, Transport { is_tls, is_web_socket }, "{text}");
            assert_eq!((url.endpoint().to_string(), &*url.path), (endpoint.to_owned(), path), "{text}");
            assert_eq!((url.username, url.password), (None, None));
        }
    }

    #[test]
    fn a_login_is_percent_encoded() {
        for (text, username, password) in [
            ("mqtt://edge@b", Some("edge"), None),
            ("mqtt://edge:p%40%3a@b:1", Some("edge"), Some("p@:")),
            ("mqtt://a%2Fb:@b", Some("a/b"), Some("")),
            ("mqtt://a@b:c@d", Some("a@b"), Some("c")),
            ("mqtt://edge:a:b@c", Some("edge"), Some("a:b")),
            ("mqtt://%C3%A4:%FF@b", Some("ä"), None),
        ] {
            let url = Url::parse(text).expect(text);
            assert_eq!(url.username.as_deref(), username, "{text}");
            match password {
                Some(password) => assert_eq!(url.password, Some(Secret::new(password.into())), "{text}"),
                None if text.contains("%FF") => assert_eq!(url.password, Some(Secret::new(vec![0xFF]))),
                None => assert_eq!(url.password, None, "{text}"),
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (text, what) in [
            ("broker:1883", "must be like"),
            ("http://broker", "one of mqtt, tcp,"),
            ("mqtt://", "its host"),
            ("mqtt://:1883", "its host"),
            ("mqtt://edge:hunter2@", "its host"),
            ("mqtt://broker:0", "its host"),
            ("mqtt://broker:65536", "its host"),
            ("mqtt://::1", "its host"),
            ("mqtt://bro ker", "its host"),
            ("mqtt://broker/plant", "only ws and wss"),
            ("ws://broker/a#b", "its path"),
            ("ws://broker/ä", "its path"),
            ("mqtt://e:hunter2%4@b", "percent-encoding"),
            ("mqtt://e:hunter2%+1@b", "percent-encoding"),
            ("mqtt://e%00:hunter2@b", "MQTT cannot say"),
            ("mqtt://%FF:hunter2@b", "no UTF-8"),
        ] {
            let wrong = Url::parse(text).expect_err(text);
            assert!(wrong.contains(what) && !wrong.contains("hunter2"), "{text}: {wrong}");
        }
        let long = format!("mqtt://{}@b", "a".repeat(STRING_MAX + 1));
        assert!(Url::parse(&long).is_err() && Url::parse(&long.replacen('a', "", 1)).is_ok());
        assert!(!format!("{:?}", Url::parse("mqtt://e:hunter2@b")).contains("hunter2"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(mqtts?|ws|WSS|x)?(://)?[a-c:@%/?#\\[\\]ä0-9]{0,24}") {
            if let Ok(url) = Url::parse(&text) {
                let endpoint = url.endpoint().to_string();
                prop_assert_eq!(Endpoint::parse(&endpoint), Some(url.endpoint()), "{}", endpoint);
                prop_assert!(url.path.is_empty() || url.transport.is_web_socket && url.path.starts_with('/'));
            }
        }
    }
}
