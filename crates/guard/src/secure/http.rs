//! HTTP 1.0 requests from ordinary threads (RFC 1945): one connection each, with bounds on the time of each step, on the whole
//! time, and on the size of the answer. Redirects are not followed, so nothing is sent to a host that the configuration does not
//! name.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{Authorities, Outgoing, OutgoingSettings, Url};

/// The largest head of an answer in bytes, and the most fields.
const HEAD_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 100;

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// The server.
    pub url: &'r Url,
    /// Appended to the path of the URL.
    pub path: &'r str,
    /// Header fields beside `Host`, `User-Agent` and `Content-Length`.
    pub fields: &'r [(&'r str, &'r str)],
    /// The body of a POST; `None`: the request is a GET.
    pub body: Option<&'r [u8]>,
}

/// The bounds of an exchange.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The time of connecting, and of each read and write.
    pub step: Duration,
    /// The time of the whole exchange.
    pub whole: Duration,
    /// The body of the answer, in bytes.
    pub body: usize,
}

/// A server's answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The body, or why it cannot be used. It may contain a secret.
    pub body: Result<Zeroizing<Vec<u8>>, String>,
}

impl Answer {
    /// The body of a successful answer.
    ///
    /// # Errors
    /// Why there is none, in words for a person.
    pub fn ok(self) -> Result<Zeroizing<Vec<u8>>, String> {
        match self.status {
            200 => self.body,
            code @ 300..=399 => Err(format!("it answers {code}: redirects are not followed")),
            code => Err(format!("it answers {code}")),
        }
    }
}

/// Sends a request and waits for its answer. `ca_file`: the CAs of the server, otherwise those of this machine.
///
/// # Errors
/// Why there is no answer, in words for a person.
pub fn ask(request: &Request<'_>, ca_file: Option<&PathBuf>, bounds: Bounds) -> Result<Answer, String> {
    let until = Instant::now() + bounds.whole;
    let url = request.url;
    let socket = connect(url, bounds.step, until).map_err(|error| said(&error))?;
    let socket = Bounded { socket, step: bounds.step, until };
    if !url.is_tls {
        return exchange(socket, request, bounds);
    }
    let ca = ca_file.cloned().map_or(Authorities::System, Authorities::File);
    let settings = OutgoingSettings { ca, identity: None, server_name: None, is_name_checked: true };
    let tls = Outgoing::load(&settings).map_err(|problems| problems.join("; "))?;
    exchange(tls.stream(&url.host, socket)?, request, bounds)
}

/// A socket with a bound on the time of each step and of the whole. It is below TLS, as the other end chooses how many steps a
/// handshake takes.
struct Bounded {
    socket: TcpStream,
    step: Duration,
    until: Instant,
}

impl Bounded {
    /// Takes one step of `call`, with the timeout that `set` sets. A step that is cut short by the end of the whole exchange
    /// fails for that.
    fn bounded<T>(
        &self,
        set: impl FnOnce(&TcpStream, Option<Duration>) -> io::Result<()>,
        call: impl FnOnce(&TcpStream) -> io::Result<T>,
    ) -> io::Result<T> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, Late);
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        set(&self.socket, Some(left.min(self.step)))?;
        call(&self.socket).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if left < self.step => late(),
            _ => error,
        })
    }
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.bounded(TcpStream::set_read_timeout, |mut socket| socket.read(into))
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bounded(TcpStream::set_write_timeout, |mut socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// The whole exchange has taken too long.
#[derive(Debug)]
struct Late;

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no whole answer in time")
    }
}

impl std::error::Error for Late {}

/// Connects to the first address that accepts.
fn connect(url: &Url, step: Duration, until: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (url.host.as_str(), url.port).to_socket_addrs()? {
        let left = until.saturating_duration_since(Instant::now()).min(step);
        if left.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(&address, left) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::TimedOut if error.get_ref().is_some_and(|inner| inner.is::<Late>()) => Late.to_string(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}

/// The bytes of a request. HTTP 1.0, so that the answer's body is not chunked.
fn written(request: &Request<'_>) -> Zeroizing<Vec<u8>> {
    let Request { url, path, fields, body } = request;
    let method = if body.is_some() { "POST" } else { "GET" };
    // Large enough not to grow, which would leave copies of a secret.
    let mut bytes = Zeroizing::new(Vec::with_capacity((64 << 10) + body.map_or(0, <[u8]>::len)));
    let mut line = |parts: &[&str]| {
        parts.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
        bytes.extend_from_slice(b"\r\n");
    };
    line(&[method, " ", &url.target, path, " HTTP/1.0"]);
    line(&["Host: ", &url.authority()]);
    line(&["User-Agent: forebay/", env!("CARGO_PKG_VERSION")]);
    fields.iter().for_each(|(name, value)| line(&[name, ": ", value]));
    if let Some(body) = body {
        line(&["Content-Length: ", &body.len().to_string()]);
    }
    line(&[]);
    bytes.extend_from_slice(body.unwrap_or_default());
    bytes
}

fn exchange(mut stream: impl Read + Write, request: &Request<'_>, bounds: Bounds) -> Result<Answer, String> {
    stream.write_all(&written(request)).map_err(|error| said(&error))?;
    let mut answer = Zeroizing::new(Vec::new());
    let mut piece = Zeroizing::new([0; 8 << 10]);
    let has_ended = loop {
        match stream.read(&mut *piece) {
            Ok(0) => break true,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The server has closed the connection without TLS' end of stream: the length tells whether the body is whole.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break false,
            Err(error) => return Err(said(&error)),
        }
        if answer.len() > HEAD_BYTES_MAX + bounds.body {
            return Err(too_long(bounds));
        }
    };
    parse(answer, has_ended, bounds)
}

fn too_long(bounds: Bounds) -> String {
    format!("its answer is longer than {} KiB", bounds.body >> 10)
}

fn parse(mut answer: Zeroizing<Vec<u8>>, has_ended: bool, bounds: Bounds) -> Result<Answer, String> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    let head = match response.parse(&answer) {
        Ok(httparse::Status::Complete(head)) if head <= HEAD_BYTES_MAX => head,
        Ok(_) => return Err("its answer is cut short, or its head is too long".to_owned()),
        Err(error) => return Err(format!("it does not answer with HTTP: {error}")),
    };
    let status = response.code.unwrap_or_default();
    let problem = body_problem(&response, answer.len() - head, has_ended, bounds);
    let body = problem.map_or_else(|| Ok(Zeroizing::new(answer.split_off(head))), Err);
    Ok(Answer { status, body })
}

/// The fault of a body that ended, or was cut off, after `came` bytes.
fn body_problem(response: &httparse::Response<'_, '_>, came: usize, has_ended: bool, bounds: Bounds) -> Option<String> {
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| String::from_utf8_lossy(field.value).trim().to_owned())
    };
    if field("Transfer-Encoding").is_some() || field("Content-Encoding").is_some_and(|of| of != "identity") {
        return Some("its answer is encoded, which was not asked for".to_owned());
    }
    let is_whole = match field("Content-Length").map(|length| length.parse::<usize>()) {
        Some(Ok(length)) => came == length,
        Some(Err(_)) => return Some("its Content-Length is not a number".to_owned()),
        None => has_ended,
    };
    if !is_whole {
        return Some("its answer is cut short".to_owned());
    }
    (came > bounds.body).then(|| too_long(bounds))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const BOUNDS: Bounds = Bounds { step: Duration::from_secs(10), whole: Duration::from_secs(20), body: 1 << 10 };

    /// A server that runs `then` with its only connection, once the request has arrived.
    fn server(then: impl FnOnce(TcpStream) + Send + 'static) -> Url {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/token", listener.local_addr().unwrap())).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\nbody") {
                let mut bytes = [0; 512];
                let count = stream.read(&mut bytes).unwrap();
                asked.extend_from_slice(&bytes[..count]);
            }
            let asked = String::from_utf8(asked).unwrap();
            assert!(asked.starts_with("POST /token/x HTTP/1.0\r\nHost: 127.0.0.1:"), "{asked}");
            assert!(asked.contains("\r\nA: b\r\nContent-Length: 4\r\n\r\n"), "{asked}");
            then(stream);
        });
        url
    }

    fn post(url: &Url, bounds: Bounds) -> Result<Answer, String> {
        ask(&Request { url, path: "/x", fields: &[("A", "b")], body: Some(b"body") }, None, bounds)
    }

    #[test]
    fn a_server_that_says_nothing_or_never_ends_is_given_up() {
        let until = |stream: TcpStream| drop((&stream).read(&mut [0]));
        let step = Duration::from_millis(50);
        let url = server(until);
        assert_eq!(post(&url, Bounds { step, ..BOUNDS }).unwrap_err(), "no answer in time");
        let url = server(|mut stream| while stream.write_all(b"x: y\r\n").is_ok() {});
        assert!(post(&url, BOUNDS).unwrap_err().contains("longer than 1 KiB"));
        let url = server(|mut stream| {
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // Long enough for the first bytes on a busy machine.
        let whole = Duration::from_secs(2);
        assert_eq!(post(&url, Bounds { whole, ..BOUNDS }).unwrap_err(), "no whole answer in time");
        // The last step is still waiting when the whole time is over.
        let url = server(|mut stream| drop((stream.write_all(b"x"), std::thread::sleep(Duration::from_secs(3)))));
        assert_eq!(post(&url, Bounds { whole, ..BOUNDS }).unwrap_err(), "no whole answer in time");
    }

    /// Neither a handshake nor an answer that drips byte by byte outlasts the whole time.
    #[test]
    fn finding_s7_a_handshake_that_drips_ends_with_the_whole() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("https://{}/keys", listener.local_addr().unwrap())).unwrap();
        let dripping = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // The head of a handshake record of 16 KiB, sent byte by byte.
            let mut bytes = [22, 3, 3, 64, 0, 2].into_iter().chain(std::iter::repeat(0));
            while stream.write_all(&[bytes.next().unwrap_or_default()]).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let bounds = Bounds { step: Duration::from_secs(600), whole: Duration::from_millis(300), body: 1 << 10 };
        let request = Request { url: &url, path: "", fields: &[], body: None };
        assert_eq!(ask(&request, None, bounds).unwrap_err(), "no whole answer in time");
        dripping.join().unwrap();
    }

    #[test]
    fn a_status_is_reported_whatever_is_wrong_with_the_body() {
        for (text, status, body) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", 204, Ok("")),
            ("HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\n{}", 400, Ok("{}")),
            ("HTTP/1.1 202 Yes\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 202, Err("encoded")),
            ("HTTP/1.1 202 Yes\r\nContent-Length: 3\r\n\r\n{}", 202, Err("cut short")),
            ("HTTP/1.1 202 Yes\r\nContent-Length: x\r\n\r\n{}", 202, Err("not a number")),
        ] {
            let url = server(move |mut stream| stream.write_all(text.as_bytes()).unwrap());
            let answer = post(&url, BOUNDS).unwrap();
            assert_eq!(answer.status, status, "{text}");
            match (answer.body, body) {
                (Ok(came), Ok(wanted)) => assert_eq!(&**came, wanted.as_bytes(), "{text}"),
                (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{text}: {why}"),
                (came, _) => panic!("{text}: {came:?}"),
            }
        }
    }
}
