//! A POST to the collector: one connection per request, every step with a time-out.

use std::fmt;
use std::time::Duration;

use forebay_guard::secure::Url;
use forebay_guard::secure::http::{self, Bounds, Request};

/// Bytes of an answer that are read, at most.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Default port of OTLP over HTTP.
const PORT: u16 = 4318;

/// An endpoint `http://host:port/path`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint(Url);

impl Endpoint {
    /// Reads a URL.
    ///
    /// # Errors
    /// Why the URL is invalid.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        if url.starts_with("https:") {
            return Err("https is not supported: send to a collector on this host, which can use it");
        }
        if !url.starts_with("http:") {
            return Err("must be a URL that begins with http://");
        }
        let mut url = Url::with_port(url, PORT)?;
        if url.target.contains('?') {
            return Err("must be http://HOST:PORT, and may have a path");
        }
        url.target.truncate(url.target.trim_end_matches('/').len());
        Ok(Self(url))
    }

    /// Posts a JSON document to `path` below the endpoint.
    ///
    /// # Errors
    /// Why the document was not delivered, in words.
    pub(super) fn post(
        &self,
        path: &str,
        headers: &[(String, String)],
        body: &str,
        timeout: Duration,
    ) -> Result<(), String> {
        let mut fields = vec![("Content-Type", "application/json")];
        fields.extend(headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let request = Request { url: &self.0, path, fields: &fields, body: Some(body.as_bytes()) };
        let bounds = Bounds { step: timeout, whole: timeout, body: ANSWER_BYTES_MAX };
        let answer = http::ask(&request, None, bounds)?;
        if (200..=299).contains(&answer.status) {
            return Ok(());
        }
        let said = answer.body.map(|body| String::from_utf8_lossy(&body).trim().to_owned()).unwrap_or_default();
        Err(format!("the collector answered {} {said}", answer.status).trim_end().to_owned())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.0.authority(), self.0.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
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
            ("SSH-2.0\r\n", Err("it does not answer with HTTP: invalid HTTP version")),
            ("", Err("its answer is cut short, or its head is too long")),
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
            assert!(asked.starts_with("POST /x/v1/traces HTTP/1.0\r\n"), "{asked}");
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
