//! The client's end of a WebSocket: vectors, our own server and tungstenite's at the other end, and malicious servers.

use tungstenite::Message;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::server::{Request, Response};

use super::client::{Client, Masks};
use super::frame;
use super::tests::{Pipe, give, settings};
use forebay_runtime::seam::{Facts, Layer, LayerError, LayerFault};

/// The key of RFC 6455, 1.3, and its accept value.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The first bytes of a layer.
fn begins(layer: &mut dyn Layer) -> Vec<u8> {
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    assert_eq!(layer.open(&mut [], &mut plain, &mut answer), Ok(None));
    assert!(plain.is_empty());
    answer
}

#[test]
fn the_request_and_a_frame_are_those_of_the_standard() {
    let mut client = Client::with_key("broker.example:8083", "/mqtt?a=b", KEY, Masks::default());
    let request = String::from_utf8(client.request()).expect("text");
    assert_eq!(
        request,
        "GET /mqtt?a=b HTTP/1.1\r\nHost: broker.example:8083\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
    assert!(client.request().is_empty(), "once");
    // "Hello" of RFC 6455, 5.7, as a binary frame.
    let mut wire = Vec::new();
    frame::binary(b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]), &mut wire);
    assert_eq!(wire, [0x82, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    let masks: std::collections::HashSet<_> = (0..1_000).map(|_| client.mask()).collect();
    assert!(masks.len() > 990, "each frame has its own mask: {}", masks.len());
}

const SIZES: [usize; 10] = [0, 1, 125, 126, 127, 254, 300, 65_535, 65_536, 70_001];

fn bytes(size: usize, seed: u8) -> Vec<u8> {
    (0..size).map(|n| (n as u8).wrapping_mul(31) ^ seed).collect()
}

/// A layer below, in the place of TLS: a byte each way first, then all bytes are inverted.
#[derive(Debug, Default)]
struct Below {
    is_client: bool,
    has_begun: bool,
    is_ready: bool,
}

fn turned(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().map(|byte| byte ^ 0x55)
}

impl Layer for Below {
    fn open(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        answer: &mut Vec<u8>,
    ) -> Result<Option<Facts>, LayerError> {
        if self.is_client && !std::mem::replace(&mut self.has_begun, true) {
            answer.push(b'H');
        }
        let mut rest = &*wire;
        let was_ready = self.is_ready;
        if let (false, [first, behind @ ..]) = (self.is_ready, rest) {
            assert_eq!(*first, b'H');
            answer.extend((!self.is_client).then_some(b'H'));
            (self.is_ready, rest) = (true, behind);
        }
        plain.extend(turned(rest));
        Ok((self.is_ready && !was_ready).then(|| Facts { is_tls: true, ..Facts::default() }))
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<(), LayerError> {
        assert!(self.is_ready);
        wire.extend(turned(plain));
        Ok(())
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        wire.push(0);
    }

    fn has_ended(&self) -> bool {
        false
    }

    fn is_costly(&self) -> bool {
        !self.is_ready
    }

    fn held(&self) -> usize {
        0
    }
}

/// Both of our ends, over nothing and over another layer, however the wire is cut.
#[test]
fn our_own_server_at_the_other_end() {
    for (has_below, split) in [(false, 1), (false, 7), (false, usize::MAX), (true, 1), (true, 7), (true, usize::MAX)] {
        let below = |is_client| has_below.then(|| Box::new(Below { is_client, ..Below::default() }) as Box<dyn Layer>);
        let mut server = super::layer(settings(), below(false));
        let mut client = super::outgoing("localhost:8083", "/mqtt", below(true));
        assert!(client.seal(&[1], &mut Vec::new()).is_err(), "not before the answer");
        let (mut to_server, mut ready) = (begins(&mut *client), Vec::new());
        for _ in 0..3 {
            let at_server = give(&mut *server, &to_server, split);
            let at_client = give(&mut *client, &at_server.answer, split);
            assert_eq!((&at_server.failed, &at_client.failed), (&None, &None));
            assert!(at_server.plain.is_empty() && at_client.plain.is_empty());
            ready.extend(at_server.ready.into_iter().chain(at_client.ready));
            to_server = at_client.answer;
        }
        let facts = Facts { is_web_socket: true, is_tls: has_below, ..Facts::default() };
        assert_eq!(ready, [facts.clone(), facts], "each says so once: {has_below}, {split}");
        for (seed, size) in (0..).zip(SIZES) {
            let said = bytes(size, seed);
            let (mut there, mut back) = (Vec::new(), Vec::new());
            client.seal(&said, &mut there).expect("sealed");
            server.seal(&said, &mut back).expect("sealed");
            assert!(size < 9 || has_below || !there.windows(9).any(|part| part == &said[..9]), "it has a mask");
            let (there, back) = (give(&mut *server, &there, split), give(&mut *client, &back, split));
            assert!(there.plain == said && back.plain == said, "{size}");
            assert_eq!((there.failed, back.failed), (None, None));
        }
        let mut wire = Vec::new();
        client.close(&mut wire);
        let ended = give(&mut *server, &wire, split);
        assert!(server.has_ended() && ended.failed.is_none());
        give(&mut *client, &ended.answer, split);
        assert!(client.has_ended(), "the CLOSE is answered");
        let mut more = Vec::new();
        client.seal(&[1], &mut more).expect("nothing follows");
        assert!(more.is_empty());
    }
}

#[test]
fn tungstenites_server_at_the_other_end() {
    for split in [1, 5, 253, usize::MAX] {
        let mut client = super::outgoing("localhost:8083", "/mqtt?token=1", None);
        let pipe = Pipe::default();
        pipe.comes.borrow_mut().extend_from_slice(&begins(&mut *client));
        #[allow(clippy::result_large_err, reason = "it is tungstenite's")]
        let answer = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().to_string(), "/mqtt?token=1");
            assert_eq!(request.headers()["Host"], "localhost:8083");
            response.headers_mut().insert("Sec-WebSocket-Protocol", "mqtt".parse().expect("a value"));
            Ok(response)
        };
        let shaken = tungstenite::accept_hdr(pipe.clone(), answer);
        let mut server = shaken.unwrap_or_else(|error| match error {
            HandshakeError::Interrupted(_) => panic!("the request is whole"),
            HandshakeError::Failure(why) => panic!("{why}"),
        });
        let taken = give(&mut *client, &pipe.goes.take(), split);
        assert!(taken.failed.is_none() && taken.ready.is_some_and(|facts| facts.is_web_socket), "{split}");
        let mut expected = Vec::new();
        for (seed, size) in (0..).zip(SIZES) {
            let said = bytes(size, seed);
            let mut wire = Vec::new();
            client.seal(&said, &mut wire).expect("sealed");
            pipe.comes.borrow_mut().extend_from_slice(&wire);
            assert_eq!(server.read().expect("a message"), Message::Binary(said.clone().into()));
            server.write(Message::Ping(vec![seed; 3].into())).expect("written");
            server.write(Message::Binary(said.clone().into())).expect("written");
            expected.extend_from_slice(&said);
        }
        server.flush().expect("flushed");
        let taken = give(&mut *client, &pipe.goes.take(), split);
        assert!(taken.plain == expected && taken.failed.is_none(), "{split}");
        // A PONG has a mask, or it is no PONG to the server.
        pipe.comes.borrow_mut().extend_from_slice(&taken.answer);
        let pong = server.read().expect("a PONG");
        assert!(matches!(pong, Message::Pong(said) if said.len() == 3));
        while server.read().is_ok() {}
        server.close(None).expect("closed");
        let taken = give(&mut *client, &pipe.goes.take(), split);
        assert!(client.has_ended());
        pipe.comes.borrow_mut().extend_from_slice(&taken.answer);
        assert!(matches!(server.read(), Ok(Message::Close(_))));
    }
}

/// An answer with some lines changed: `Name: value` replaces that field, `Name` leaves it out, `+Name: value` is one more,
/// `HTTP/…` is the first line.
fn answer(changes: &[&str]) -> String {
    let mut first = "HTTP/1.1 101 Switching Protocols".to_owned();
    let mut lines = vec![
        "Upgrade: websocket".to_owned(),
        "Connection: Upgrade".to_owned(),
        format!("Sec-WebSocket-Accept: {ACCEPT}"),
        "Sec-WebSocket-Protocol: mqtt".to_owned(),
    ];
    for change in changes {
        let name = change.split(':').next().unwrap_or_default();
        if change.starts_with("HTTP/") {
            (*change).clone_into(&mut first);
        } else if let Some(more) = change.strip_prefix('+') {
            lines.push(more.to_owned());
        } else {
            lines.retain(|line| !line.starts_with(&format!("{name}:")));
            lines.extend(change.contains(':').then(|| (*change).to_owned()));
        }
    }
    format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n"))
}

#[test]
fn answers_that_accept_and_answers_that_do_not() {
    let long = format!("+X-Long: {}", "x".repeat(8_200));
    let many: Vec<String> = (0..70).map(|n| format!("+X-{n}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    const BROKEN: LayerFault = LayerFault::WebSocket(1002);
    for (changes, wrong) in [
        (&[][..], None),
        (&["Upgrade", "+upgrade: WebSocket", "Connection: keep-alive, upgrade", "+Server: x"], None),
        (&["+Sec-WebSocket-Extensions:"], None),
        (
            &["HTTP/1.1 404 Not Found"],
            Some((LayerFault::Upgrade(404), "answered with 404 Not Found; the URL may need another path")),
        ),
        (&["HTTP/1.1 401 Unauthorized"], Some((LayerFault::Upgrade(401), "answered with 401 Unauthorized"))),
        (&["HTTP/1.1 301 Moved", "+Location: http://evil.example/"], Some((LayerFault::Upgrade(301), "301 Moved"))),
        (&["HTTP/1.1 200 OK"], Some((LayerFault::Upgrade(200), "200 OK"))),
        (&["Upgrade"], Some((BROKEN, "no Upgrade: websocket"))),
        (&["Upgrade: h2c"], Some((BROKEN, "no Upgrade: websocket"))),
        (&["Connection: close"], Some((BROKEN, "no Connection: Upgrade"))),
        (&["Sec-WebSocket-Accept"], Some((BROKEN, "Sec-WebSocket-Accept"))),
        (&["Sec-WebSocket-Accept: c3pPLMBiTxaQ9kYGzzhZRbK+xOo="], Some((BROKEN, "Sec-WebSocket-Accept"))),
        (&["Sec-WebSocket-Accept: S3PPLMBITXAQ9KYGZZHZRBK+XOO="], Some((BROKEN, "Sec-WebSocket-Accept"))),
        (&["Sec-WebSocket-Protocol"], Some((BROKEN, "Sec-WebSocket-Protocol is not mqtt"))),
        (&["Sec-WebSocket-Protocol: mqttv3.1"], Some((BROKEN, "Sec-WebSocket-Protocol is not mqtt"))),
        (&["+Sec-WebSocket-Protocol: mqtt"], Some((BROKEN, "Sec-WebSocket-Protocol is not mqtt"))),
        (&["+Sec-WebSocket-Extensions: permessage-deflate"], Some((BROKEN, "extensions"))),
        (&[&*long], Some((BROKEN, "larger than 8 KiB"))),
        (&many, Some((BROKEN, "more than 64 header fields"))),
        (&["HTTP/9 oh"], Some((BROKEN, "no HTTP"))),
    ] {
        for split in [1, 500, usize::MAX] {
            let client = Client::with_key("a", "/mqtt", KEY, Masks::default());
            let mut layer = super::layer::of_client(client);
            begins(&mut *layer);
            // The answer is followed by a frame in the same read.
            let wire = [answer(changes).as_bytes(), &[0x82, 1, 7]].concat();
            let taken = give(&mut *layer, &wire, split);
            match (wrong, taken.failed) {
                (None, None) => assert_eq!((taken.ready.is_some(), taken.plain), (true, vec![7]), "{changes:?}"),
                (Some((fault, words)), Some(error)) => {
                    assert_eq!(error.fault, fault, "{changes:?}");
                    assert!(error.what.contains(words), "{changes:?}: {}", error.what);
                    assert!(taken.ready.is_none() && taken.plain.is_empty());
                }
                (_, failed) => panic!("{changes:?}: {failed:?}"),
            }
        }
    }
    // A reason is shown without control characters, and cut to its bound.
    let client = Client::with_key("a", "/mqtt", KEY, Masks::default());
    let mut layer = super::layer::of_client(client);
    let reason = "x".repeat(500);
    let error = give(&mut *layer, format!("HTTP/1.1 500 {reason}\r\n\r\n").as_bytes(), 500).failed.expect("refused");
    assert!(error.what.len() < 150, "{}", error.what);
}

fn ready() -> Box<dyn Layer> {
    let mut layer = super::layer::of_client(Client::with_key("a", "/mqtt", KEY, Masks::default()));
    begins(&mut *layer);
    assert!(give(&mut *layer, answer(&[]).as_bytes(), usize::MAX).ready.is_some());
    layer
}

/// [MQTT-6.0.0-1]
#[test]
fn a_server_that_breaks_the_protocol_is_closed_with_the_code() {
    for (wire, code) in [
        // Only a client's frames have masks.
        (&[0x82, 0x81, 0, 0, 0, 0, 1][..], 1002_u16),
        (&[0x82, 0x80], 1002),
        (&[0x81, 0], 1003),
        (&[0xc2], 1002),
        (&[0x83], 1002),
        (&[0x09], 1002),
        (&[0x89, 126], 1002),
        (&[0x80], 1002),
        (&[0x02, 0, 0x82], 1002),
        (&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
    ] {
        for split in [1, usize::MAX] {
            let mut layer = ready();
            let taken = give(&mut *layer, wire, split);
            let error = taken.failed.unwrap_or_else(|| panic!("{wire:x?}"));
            assert_eq!(error.fault, LayerFault::WebSocket(code), "{wire:x?}: {}", error.what);
            // The server reads the CLOSE, which has a mask.
            let [0x88, 0x82, first, second, _, _, high, low] = taken.answer[..] else { panic!("{:x?}", taken.answer) };
            assert_eq!([high ^ first, low ^ second], code.to_be_bytes());
        }
    }
    let mut layer = ready();
    let wire = [&[0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..], &[1, 2, 3]].concat();
    let taken = give(&mut *layer, &wire, 2);
    assert_eq!((taken.plain, taken.failed, layer.held()), (vec![1, 2, 3], None, 0), "no length is believed");
}

/// Neither random bytes nor valid ones with one changed do harm.
#[test]
fn no_bytes_of_a_server_can_do_harm() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3_000 {
        let split = random.usize(1..50);
        let mut wire: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        if random.bool() {
            wire.splice(0..0, [0x82, 126, 0, 100]);
            let at = random.usize(..wire.len());
            wire[at] ^= 1 << random.u8(..8);
        }
        let taken = give(&mut *ready(), &wire, split);
        assert!(taken.plain.len() <= wire.len());
        let mut said = answer(&[]).into_bytes();
        let at = random.usize(..said.len());
        said[at] ^= 1 << random.u8(..8);
        for wire in [wire, said] {
            let mut layer = super::outgoing("a", "/mqtt", None);
            begins(&mut *layer);
            let taken = give(&mut *layer, &wire, split);
            assert!(taken.ready.is_none(), "the key of another request");
            assert!(layer.held() <= 8 << 10);
        }
    }
}
