//! A POST to the collector: one connection a request, every step with a time-out.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// What is read of an answer: its head, and the beginning of what it says.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// An `http://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`; a v6 address in brackets.
    authority: String,
    /// Without a slash at its end.
    path: String,
}

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        let rest = match url.split_once("://") {
            Some(("http", rest)) => rest,
            Some(("https", _)) => {
                return Err("https is not supported: send to a collector on this host, which can use it");
            }
            _ => return Err("must be a URL that begins with http://"),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#".contains(&byte));
        if authority.is_empty() || authority.starts_with(':') || !is_plain(authority) || !is_plain(path) {
            return Err("must be http://HOST:PORT, and may have a path");
        }
        let port = authority.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map(|(_, port)| port);
        let authority = match port {
            Some(port) if port.parse::<u16>().is_ok_and(|port| port > 0) => authority.to_owned(),
            Some(_) => return Err("its port must be a number from 1 to 65535"),
            // OTLP over HTTP.
            None => format!("{authority}:4318"),
        };
        Ok(Self { authority, path: path.trim_end_matches('/').to_owned() })
    }

    /// Posts a JSON document to `path` below it.
    ///
    /// # Errors
    /// Why it is not there, in words.
    pub(super) fn post(
        &self,
        path: &str,
        headers: &[(String, String)],
        body: &str,
        timeout: Duration,
    ) -> Result<(), String> {
        let answer = self.exchange(path, headers, body, timeout).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
            _ => error.to_string(),
        })?;
        let status = answer.split(' ').nth(1).and_then(|code| code.parse::<u16>().ok());
        match status {
            Some(200..=299) => Ok(()),
            Some(status) => {
                let said = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
                Err(format!("the collector answered {status} {said}").trim_end().to_owned())
            }
            None => Err("what answers there does not speak HTTP".to_owned()),
        }
    }

    fn exchange(&self, path: &str, headers: &[(String, String)], body: &str, timeout: Duration) -> io::Result<String> {
        let mut stream = self.connect(timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        let Self { authority, path: prefix } = self;
        let length = body.len();
        let mut head = format!(
            "POST {prefix}{path} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: forebay/{}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\nConnection: close\r\n",
            env!("CARGO_PKG_VERSION")
        );
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The first of its addresses that takes a connection.
    fn connect(&self, timeout: Duration) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
        for address in self.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TIMEOUT: Duration = Duration::from_secs(5);

    #[test]
    fn endpoints() {
        for (url, shown) in [
            ("http://collector:4318", "http://collector:4318"),
            ("http://collector", "http://collector:4318"),
            ("http://[::1]/otlp/", "http://[::1]:4318/otlp"),
            ("http://127.0.0.1:1/", "http://127.0.0.1:1"),
        ] {
            assert_eq!(Endpoint::parse(url).map(|endpoint| endpoint.to_string()), Ok(shown.to_owned()), "{url}");
        }
        for bad in [
            "",
            "collector:4318",
            "https://collector",
            "http://",
            "http://:1",
            "http://a:0",
            "http://a:x",
            "http://u@a",
            "http://a/x y",
            "http://a/\r\nX: y",
        ] {
            assert!(Endpoint::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_post_succeeds_or_says_why_not() {
        for (answer, outcome) in [
            ("HTTP/1.1 200 OK\r\n\r\n{}", Ok(())),
            ("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n", Ok(())),
            ("HTTP/1.1 401 Unauthorized\r\n\r\nno token\n", Err("the collector answered 401 no token")),
            ("HTTP/1.1 503 Busy\r\n\r\n", Err("the collector answered 503")),
            ("SSH-2.0\r\n", Err("what answers there does not speak HTTP")),
            ("", Err("what answers there does not speak HTTP")),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let endpoint = Endpoint::parse(&format!("http://{}/x", listener.local_addr().expect("an address")));
            let server = std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut asked = Vec::new();
                while !asked.ends_with(b"{\"a\":1}") {
                    let mut bytes = [0; 512];
                    let count = stream.read(&mut bytes).expect("a request");
                    asked.extend_from_slice(&bytes[..count]);
                }
                stream.write_all(answer.as_bytes()).expect("an answer");
                String::from_utf8(asked).expect("text")
            });
            let headers = [("authorization".to_owned(), "Bearer x".to_owned())];
            let posted = endpoint.expect("an endpoint").post("/v1/traces", &headers, "{\"a\":1}", TIMEOUT);
            assert_eq!(posted, outcome.map_err(str::to_owned));
            let asked = server.join().expect("it ends");
            assert!(asked.starts_with("POST /x/v1/traces HTTP/1.1\r\n"), "{asked}");
            assert!(
                asked.contains("\r\nauthorization: Bearer x\r\n") && asked.contains("\r\nContent-Length: 7\r\n"),
                "{asked}"
            );
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = Endpoint::parse(&format!("http://{}", listener.local_addr().expect("an address")));
        drop(listener);
        assert!(endpoint.expect("an endpoint").post("/", &[], "", TIMEOUT).is_err());
    }
}
