//! The HTTP request that begins a WebSocket, and its answer.

use std::net::{IpAddr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::{Settings, origin};

/// The largest head of a request or an answer, in bytes; and the most fields.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;
pub(super) const FIELDS_MAX: usize = 64;
/// RFC 6455, 4.2.2.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The subprotocols [MQTT-6.0.0-3] [MQTT-6.0.0-4]; the first one that is offered is chosen. `mqttv3.1` is older than the
/// standard.
const PROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// A request that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) what: &'static str,
}

const fn refusal(status: u16, what: &'static str) -> Refusal {
    Refusal { status, what }
}

/// A request that is answered with 101.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Accepted {
    /// The request's length; frames follow.
    pub(super) len: usize,
    /// The client's address from a trusted proxy.
    pub(super) forwarded: Option<IpAddr>,
    pub(super) answer: Vec<u8>,
}

/// Parses the bytes so far. `None`: the request is not whole.
pub(super) fn look(bytes: &[u8], settings: &Settings) -> Result<Option<Accepted>, Refusal> {
    let too_large = refusal(431, "the request is larger than 8 KiB or has more than 64 header fields");
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    let len = match request.parse(&bytes[..bytes.len().min(HEAD_BYTES_MAX)]) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => return Err(too_large),
        Err(_) => return Err(refusal(400, "this is not an HTTP request")),
    };
    if request.method != Some("GET") {
        return Err(refusal(405, "only GET is allowed here"));
    }
    let target = Target::of(request.path.unwrap_or_default());
    if target.path != settings.path {
        return Err(refusal(404, "there is nothing at this path; the listener's path is another"));
    }
    let fields = Fields(request.headers);
    if request.version != Some(1) {
        return Err(refusal(400, "WebSocket needs HTTP/1.1"));
    }
    if !fields.tokens("upgrade").any(|token| token.eq_ignore_ascii_case("websocket")) {
        return Err(refusal(426, "this is a WebSocket: the request has no Upgrade: websocket"));
    }
    if !fields.tokens("connection").any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Err(refusal(400, "the request has no Connection: Upgrade"));
    }
    if fields.only("sec-websocket-version") != Some("13") {
        return Err(refusal(426, "the version of WebSocket must be 13"));
    }
    let has_body = fields.values("content-length").any(|length| length != "0");
    if has_body || fields.values("transfer-encoding").next().is_some() {
        return Err(refusal(400, "the request has a body"));
    }
    let Some(host) = fields.only("host") else { return Err(refusal(400, "the request has no Host, or several")) };
    let here = target.authority.unwrap_or(host);
    let key = fields.only("sec-websocket-key").unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|key| key.len() == 16) {
        return Err(refusal(400, "Sec-WebSocket-Key is not 16 bytes in base64"));
    }
    let is_offered = |protocol: &&str| fields.tokens("sec-websocket-protocol").any(|token| token == *protocol);
    let Some(protocol) = PROTOCOLS.into_iter().find(is_offered) else {
        return Err(refusal(400, "Sec-WebSocket-Protocol must have mqtt (or mqttv3.1)"));
    };
    let mut origins = fields.values("origin");
    match (origins.next(), origins.next()) {
        (None, _) => {}
        (Some(_), None) if settings.any_origin => {}
        (Some(origin), None) if origin::is_allowed(origin, Some(here), &settings.origins) => {}
        _ => {
            return Err(refusal(
                403,
                "pages of this Origin may not connect; origins in [listener.ws] names those that may",
            ));
        }
    }
    let forwarded = fields.values("x-forwarded-for").last().filter(|_| settings.is_forwarded);
    let forwarded = match forwarded.map(last_address) {
        Some(None) => return Err(refusal(400, "the last entry of X-Forwarded-For is no address")),
        Some(found) => found,
        None => None,
    };
    let accept = accept(key);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    Ok(Some(Accepted { len, forwarded, answer: answer.into_bytes() }))
}

/// The last address of a list, which some proxies write with a port.
fn last_address(list: &str) -> Option<IpAddr> {
    let last = list.rsplit(',').next().unwrap_or_default().trim();
    let bare = last.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(last);
    bare.parse().ok().or_else(|| Some(last.parse::<SocketAddr>().ok()?.ip()))
}

/// The proof that a request was read as one for a WebSocket (RFC 6455, 4.2.2).
pub(super) fn accept(key: &str) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), GUID].concat()))
}

/// Appends the answer to a refused request.
pub(super) fn refused(refusal: Refusal, answer: &mut Vec<u8>) {
    let (reason, more) = match refusal.status {
        403 => ("Forbidden", ""),
        404 => ("Not Found", ""),
        405 => ("Method Not Allowed", "Allow: GET\r\n"),
        426 => ("Upgrade Required", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"),
        431 => ("Request Header Fields Too Large", ""),
        _ => ("Bad Request", ""),
    };
    let Refusal { status, what } = refusal;
    let length = what.len() + 1;
    answer.extend_from_slice(
        format!(
            "HTTP/1.1 {status} {reason}\r\n{more}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n\
             {what}\n"
        )
        .as_bytes(),
    );
}

/// The target of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target<'r> {
    /// Host and port, if the target has them: they count instead of the field `Host`.
    authority: Option<&'r str>,
    path: &'r str,
}

impl<'r> Target<'r> {
    /// Parses the origin form, `/mqtt?a=b`, and the absolute form, `http://host:8083/mqtt?a=b`, which every server has to accept
    /// (RFC 9112, 3.2.1 and 3.2.2). Other forms give an empty path.
    fn of(text: &'r str) -> Self {
        const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];
        let without_query = text.split('?').next().unwrap_or_default();
        if without_query.starts_with('/') {
            return Self { authority: None, path: without_query };
        }
        let absolute = without_query.split_once("://");
        let is_known = |scheme: &str| SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
        let Some((_, rest)) = absolute.filter(|(scheme, _)| is_known(scheme)) else {
            return Self { authority: None, path: "" };
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        // Without a host the target is not in absolute form.
        Self { authority: Some(authority), path: if authority.is_empty() { "" } else { path } }
    }
}

/// The header fields of a request or an answer. Names are compared without case; a value that is not UTF-8 matches nothing.
pub(super) struct Fields<'f>(pub(super) &'f [httparse::Header<'f>]);

impl<'f> Fields<'f> {
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'f str> {
        let named = self.0.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.map(|field| std::str::from_utf8(field.value).unwrap_or("\u{fffd}").trim())
    }

    /// The value of a field that must not be repeated.
    pub(super) fn only(&self, name: &str) -> Option<&'f str> {
        let mut values = self.values(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// The parts of a list.
    pub(super) fn tokens(&self, name: &str) -> impl Iterator<Item = &'f str> {
        self.values(name).flat_map(|value| value.split(',')).map(str::trim)
    }
}
