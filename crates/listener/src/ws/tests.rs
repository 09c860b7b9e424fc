//! The layer against tungstenite, in memory, and the cases of RFC 6455.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::handshake::HandshakeError;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};
use tungstenite::{Error, Message, WebSocket};

use super::Settings;
use forebay_runtime::seam::{Facts, Layer, LayerError, LayerFault};

pub(super) fn settings() -> Arc<Settings> {
    Arc::new(Settings { path: "/mqtt".to_owned(), origins: Vec::new(), any_origin: false, is_forwarded: false })
}

fn layer() -> Box<dyn Layer> {
    super::layer(settings(), None)
}

/// A wire's two directions, as a stream that never blocks: bytes for this end, and bytes that it has written.
#[derive(Clone, Default)]
pub(super) struct Pipe {
    pub(super) comes: Rc<RefCell<Vec<u8>>>,
    pub(super) goes: Rc<RefCell<Vec<u8>>>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut bytes = self.comes.borrow_mut();
        let count = bytes.len().min(into.len());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        into[..count].copy_from_slice(&bytes[..count]);
        bytes.drain(..count);
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.goes.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The results of bytes that a layer was given in pieces.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) ready: Option<Facts>,
    pub(super) plain: Vec<u8>,
    pub(super) answer: Vec<u8>,
    pub(super) failed: Option<LayerError>,
}

/// Gives a layer bytes in pieces of up to this size.
pub(super) fn give(layer: &mut dyn Layer, wire: &[u8], split: usize) -> Taken {
    let mut taken = Taken::default();
    for piece in wire.chunks(split) {
        match layer.open(&mut piece.to_vec(), &mut taken.plain, &mut taken.answer) {
            Ok(facts) => taken.ready = taken.ready.or(facts),
            Err(error) => {
                taken.failed = Some(error);
                break;
            }
        }
    }
    taken
}

/// tungstenite's client, through its handshake with a layer that gets its bytes in pieces.
fn connected(layer: &mut dyn Layer, split: usize) -> (WebSocket<Pipe>, Pipe) {
    let pipe = Pipe::default();
    let mut request = "ws://localhost:8083/mqtt?token=1".into_client_request().expect("a request");
    request.headers_mut().insert("Sec-WebSocket-Protocol", "mqttv5, mqtt".parse().expect("a value"));
    let shake = ClientHandshake::start(pipe.clone(), request, None).expect("begun");
    let Err(HandshakeError::Interrupted(shake)) = shake.handshake() else { panic!("no answer yet") };
    let taken = give(layer, &pipe.goes.take(), split);
    assert!(taken.ready.as_ref().is_some_and(|facts| facts.is_web_socket && !facts.is_tls), "{taken:?}");
    pipe.comes.borrow_mut().extend_from_slice(&taken.answer);
    let (client, answer) = shake.handshake().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], "mqtt");
    (client, pipe)
}

const SIZES: [usize; 13] = [0, 1, 3, 125, 126, 127, 253, 254, 255, 300, 65_535, 65_536, 70_001];

/// X16, X17, X19: bytes of tungstenite arrive unchanged, however they are cut; PINGs between fragments are answered; and
/// tungstenite reads the bytes that are sent to it.
/// [MQTT-6.0.0-1] [MQTT-6.0.0-2] [MQTT-6.0.0-4] [3.1.1 MQTT-6.0.0-1] [3.1.1 MQTT-6.0.0-2] [3.1.1 MQTT-6.0.0-4]
#[test]
fn bytes_in_both_directions_however_the_wire_is_cut() {
    let bytes = |size: usize, seed: u8| (0..size).map(|n| (n as u8).wrapping_mul(31) ^ seed).collect::<Vec<u8>>();
    for split in [1, 2, 3, 5, 7, 64, 253, 254, 255, 1_000, usize::MAX] {
        let mut layer = layer();
        let (mut client, pipe) = connected(&mut *layer, split.min(1 << 20));
        let mut expected = Vec::new();
        for (seed, size) in (0..).zip(SIZES) {
            let payload = bytes(size, seed);
            expected.extend_from_slice(&payload);
            client.write(Message::Binary(payload.clone().into())).expect("written");
            // The same bytes once more in three frames, with a PING between.
            let (head, tail) = payload.split_at(size / 3);
            let frame = |part: &[u8], opcode, is_last| Message::Frame(Frame::message(part.to_vec(), opcode, is_last));
            client.write(frame(head, OpCode::Data(Data::Binary), false)).expect("written");
            client.write(Message::Ping(vec![seed; 10].into())).expect("written");
            client.write(frame(&[], OpCode::Data(Data::Continue), false)).expect("written");
            client.write(Message::Pong(vec![1].into())).expect("written");
            client.write(frame(tail, OpCode::Data(Data::Continue), true)).expect("written");
            expected.extend_from_slice(&payload);
        }
        client.flush().expect("flushed");
        let wire = pipe.goes.take();
        let taken = give(&mut *layer, &wire, split.min(1 << 20));
        assert_eq!(taken.failed, None, "{split}");
        assert!(taken.plain == expected, "{split}: {} of {}", taken.plain.len(), expected.len());
        assert!(!layer.has_ended() && layer.held() <= 125, "{}", layer.held());
        // Several PINGs at once are answered with one PONG, for the last.
        let mut answer = taken.answer;
        for (seed, size) in (0..).zip(SIZES) {
            layer.seal(&bytes(size, seed), &mut answer).expect("sealed");
        }
        pipe.comes.borrow_mut().extend_from_slice(&answer);
        let mut pongs = Vec::new();
        let mut messages = Vec::new();
        while let Ok(message) = client.read() {
            match message {
                Message::Pong(bytes) => pongs.push(bytes[0]),
                Message::Binary(bytes) => messages.push(bytes.to_vec()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pongs.last(), Some(&12));
        assert_eq!(pongs.len(), if split > wire.len() { 1 } else { pongs.len() });
        assert!(messages.iter().zip((0..).zip(SIZES)).all(|(message, (seed, size))| *message == bytes(size, seed)));
        assert_eq!(messages.len(), SIZES.len());
    }
}

/// X14: a CLOSE is answered with one, and is the end; bytes after it are ignored. Ours goes out once.
#[test]
fn ends_of_both_sides() {
    let mut layer = layer();
    let (mut client, pipe) = connected(&mut *layer, 1_000);
    client.write(Message::Binary(vec![1, 2].into())).expect("written");
    client.close(None).expect("closed");
    let mut wire = pipe.goes.take();
    wire.extend_from_slice(&[0x82, 0x81, 0, 0, 0, 0, 9]);
    let taken = give(&mut *layer, &wire, 3);
    assert_eq!((taken.plain, taken.failed), (vec![1, 2], None));
    assert!(layer.has_ended());
    let mut answer = taken.answer;
    layer.seal(&[1], &mut answer).expect("nothing more");
    layer.close(&mut answer);
    pipe.comes.borrow_mut().extend_from_slice(&answer);
    assert!(matches!(client.read(), Ok(Message::Close(_))));
    // The client waits for the end of the socket.
    assert!(matches!(client.read(), Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock));
    assert!(pipe.comes.borrow().is_empty(), "one CLOSE");

    let mut layer = super::layer(settings(), None);
    let (mut client, pipe) = connected(&mut *layer, 1_000);
    let mut wire = Vec::new();
    layer.close(&mut wire);
    layer.close(&mut wire);
    pipe.comes.borrow_mut().extend_from_slice(&wire);
    let Ok(Message::Close(Some(close))) = client.read() else { panic!("a CLOSE") };
    assert_eq!(u16::from(close.code), 1000);
    let _ = client.flush();
    give(&mut *layer, &pipe.goes.take(), 1);
    assert!(layer.has_ended());
}

fn ready() -> Box<dyn Layer> {
    let mut layer = layer();
    give(&mut *layer, request(&[]).as_bytes(), usize::MAX);
    layer
}

/// X18: violations of the protocol, each with its close code, as soon as it can be seen.
/// [MQTT-6.0.0-1] [3.1.1 MQTT-6.0.0-1]
#[test]
fn what_breaks_the_protocol_is_closed_with_its_code() {
    let close = OpCode::Control(Control::Close);
    assert_eq!(u8::from(close), 8);
    for (wire, code) in [
        (&[0x82, 0x01][..], 1002),
        (&[0xc2], 1002),
        (&[0xa2], 1002),
        (&[0x92], 1002),
        (&[0x83], 1002),
        (&[0x8b], 1002),
        (&[0x8f], 1002),
        (&[0x09], 1002),
        (&[0x08], 1002),
        (&[0x89, 0xfe], 1002),
        (&[0x88, 0xff], 1002),
        (&[0x80], 1002),
        (&[0x00], 1002),
        (&[0x81], 1003),
        (&[0x01], 1003),
        (&[0x02, 0x80, 0, 0, 0, 0, 0x82], 1002),
        (&[0x82, 0x80, 0, 0, 0, 0, 0x80], 1002),
        (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4], 1002),
    ] {
        for split in [1, usize::MAX] {
            let taken = give(&mut *ready(), wire, split);
            let error = taken.failed.unwrap_or_else(|| panic!("{wire:x?}"));
            assert_eq!(error.fault, LayerFault::WebSocket(code), "{wire:x?}: {}", error.what);
            assert_eq!(taken.answer, [&[0x88, 2][..], &code.to_be_bytes()].concat());
            assert!(taken.plain.is_empty());
        }
    }
    // A length of almost 2^63 reserves nothing and is not yet a mistake: MQTT's limit is the limit.
    let mut layer = ready();
    let wire = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 2, 3];
    let taken = give(&mut *layer, &wire, 2);
    assert_eq!((taken.plain, taken.failed), (vec![1, 2, 3], None));
    assert_eq!(layer.held(), 0);
    // Codes that must not be sent are answered with a protocol error.
    for (code, echoed) in [(1000_u16, 1000_u16), (1005, 1002), (1006, 1002), (999, 1002), (4000, 4000)] {
        let frame = [&[0x88, 0x82, 0, 0, 0, 0][..], &code.to_be_bytes()].concat();
        let taken = give(&mut *ready(), &frame, usize::MAX);
        assert_eq!(taken.answer[2..], echoed.to_be_bytes());
    }
}

/// Finding M7: half a code, and a reason that is not UTF-8, are no CLOSE of RFC 6455 (5.5.1, 8.1).
#[test]
fn finding_m7_a_close_that_is_not_well_formed_is_answered_with_what_it_breaks() {
    for (said, answer) in [
        (&[][..], 1000_u16),
        (&[0x03], 1002),
        (&[0x03, 0xe8], 1000),
        (&[0x03, 0xe8, b'b', b'y', b'e'], 1000),
        (&[0x03, 0xe9, 0xc3, 0xa4], 1001),
        (&[0x03, 0xe8, 0xc3], 1007),
        (&[0x03, 0xe8, 0xff, b'x'], 1007),
        (&[0x0f, 0xa0, 0xed, 0xa0, 0x80], 1007),
        // A code that may not be sent is found before its reason.
        (&[0x03, 0xed, 0xff], 1002),
    ] {
        for split in [1, usize::MAX] {
            let head = [0x88, 0x80 | u8::try_from(said.len()).expect("short"), 0, 0, 0, 0];
            let mut layer = ready();
            let taken = give(&mut *layer, &[&head[..], said].concat(), split);
            assert_eq!(taken.answer, [&[0x88, 2][..], &answer.to_be_bytes()].concat(), "{said:x?}");
            assert!(layer.has_ended());
        }
    }
}

/// Neither random bytes nor valid ones with one changed do harm.
#[test]
fn no_bytes_of_a_client_can_do_harm() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3_000 {
        let mut layer = ready();
        let mut wire: Vec<u8> = (0..random.usize(..200)).map(|_| random.u8(..)).collect();
        if random.bool() {
            let head = [0x82, 0xfe, 0, 100, 1, 2, 3, 4];
            wire.splice(0..0, head);
            let at = random.usize(..wire.len());
            wire[at] ^= 1 << random.u8(..8);
        }
        let split = random.usize(1..50);
        let taken = give(&mut *layer, &wire, split);
        assert!(taken.plain.len() <= wire.len());
        let mut layer = super::layer(settings(), None);
        give(&mut *layer, &wire, split);
    }
}

/// A valid request with some lines changed: `Name: value` replaces that field, `Name` leaves it out, `GET …` is the first line.
fn request(changes: &[&str]) -> String {
    let mut first = "GET /mqtt HTTP/1.1";
    let mut lines = vec![
        "Host: localhost:8083",
        "Upgrade: websocket",
        "Connection: keep-alive, Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqtt",
    ];
    for change in changes {
        let name = change.split(':').next().unwrap_or_default();
        if change.ends_with("HTTP/1.1") || change.ends_with("HTTP/1.0") {
            first = change;
            continue;
        }
        if let Some(name) = name.strip_prefix('+') {
            assert!(!name.is_empty());
            lines.push(&change[1..]);
            continue;
        }
        lines.retain(|line| !line.starts_with(&format!("{name}:")));
        if change.contains(':') {
            lines.push(change);
        }
    }
    format!("{first}\r\n{}\r\n\r\n", lines.join("\r\n"))
}

#[test]
fn nothing_goes_out_before_the_answer_to_the_request() {
    let (mut layer, mut wire) = (layer(), Vec::new());
    assert!(layer.seal(&[1], &mut wire).is_err());
    layer.close(&mut wire);
    assert!(wire.is_empty());
}

/// X15.
/// [MQTT-6.0.0-3] [3.1.1 MQTT-6.0.0-3]
#[test]
fn requests_and_their_answers() {
    // The example of RFC 6455, 1.3.
    let taken = give(&mut *layer(), request(&[]).as_bytes(), 1);
    let answer = String::from_utf8(taken.answer).expect("text");
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && answer.contains("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{answer}"
    );
    assert_eq!(taken.ready, Some(Facts { is_web_socket: true, ..Facts::default() }));
    let long = format!("X-Long: {}", "x".repeat(8_200));
    let many = (0..70).map(|n| format!("+X-{n}: 1")).collect::<Vec<_>>();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (changes, status) in [
        (&["GET /mqtt?a=b HTTP/1.1", "upgrade: WebSocket", "Upgrade", "Sec-WebSocket-Protocol: a, mqttv3.1"][..], 101),
        (&["Sec-WebSocket-Extensions: permessage-deflate"], 101),
        (&["Origin: http://localhost:3000"], 101),
        (&["Content-Length: 0"], 101),
        // Finding M6: the absolute form of the target, which names the host instead of `Host` (RFC 9112, 3.2.2).
        (&["GET http://localhost:8083/mqtt HTTP/1.1"], 101),
        (&["GET WSS://proxy.example/mqtt?a=b HTTP/1.1"], 101),
        (&["GET http://localhost/other HTTP/1.1"], 404),
        (&["GET http://localhost HTTP/1.1"], 404),
        (&["GET http:///mqtt HTTP/1.1"], 404),
        (&["GET ftp://localhost/mqtt HTTP/1.1"], 404),
        (&["GET mqtt HTTP/1.1"], 404),
        (&["GET http://localhost/mqtt HTTP/1.1", "Host"], 400),
        (&["GET http://localhost:8083/mqtt HTTP/1.1", "Origin: http://localhost:3000", "Host: evil.example"], 101),
        (&["GET http://evil.example/mqtt HTTP/1.1", "Origin: http://localhost:3000"], 403),
        (&["GET /other HTTP/1.1"], 404),
        (&["GET /mqtt/ HTTP/1.1"], 404),
        (&["POST /mqtt HTTP/1.1"], 405),
        (&["GET /mqtt HTTP/1.0"], 400),
        (&["Upgrade"], 426),
        (&["Upgrade: h2c"], 426),
        (&["Connection: close"], 400),
        (&["Sec-WebSocket-Version: 8"], 426),
        (&["Sec-WebSocket-Version"], 426),
        (&["Sec-WebSocket-Key: dGhl"], 400),
        (&["Sec-WebSocket-Key"], 400),
        (&["+Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], 400),
        (&["Sec-WebSocket-Protocol"], 400),
        (&["Sec-WebSocket-Protocol: mqtt5"], 400),
        (&["Host"], 400),
        (&["+Host: other"], 400),
        (&["Content-Length: 4"], 400),
        (&["Transfer-Encoding: chunked"], 400),
        (&["Origin: http://evil.example"], 403),
        (&["Origin: null"], 403),
        (&["+Origin: http://localhost", "+Origin: http://localhost"], 403),
        (&[&*long], 431),
        (&many, 431),
        (&["not a request HTTP/1.1"], 400),
    ] {
        let taken = give(&mut *layer(), request(changes).as_bytes(), 500);
        let answer = String::from_utf8(taken.answer).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{changes:?}: {answer}");
        let fault = taken.failed.map(|error| error.fault);
        assert_eq!(fault, (status != 101).then_some(LayerFault::Upgrade(status)), "{changes:?}");
        assert!(!answer.contains("Extensions"), "none is granted");
    }
}

/// [MQTT-6.0.0-4] [3.1.1 MQTT-6.0.0-4]
#[test]
fn the_standards_own_name_is_chosen_where_it_is_offered() {
    for (offered, chosen) in
        [("mqtt", "mqtt"), ("mqttv5, mqtt", "mqtt"), ("mqttv3.1, mqtt", "mqtt"), ("a, mqttv3.1", "mqttv3.1")]
    {
        let taken = give(&mut *layer(), request(&[&format!("Sec-WebSocket-Protocol: {offered}")]).as_bytes(), 500);
        let answer = String::from_utf8(taken.answer).expect("text");
        assert!(answer.contains(&format!("Sec-WebSocket-Protocol: {chosen}\r\n")), "{offered}: {answer}");
    }
}

/// X20: where a password is needed, pages of any origin may connect.
#[test]
fn any_page_may_ask_for_a_password() {
    for (any_origin, status) in [(true, "101"), (false, "403")] {
        let settings = Settings { any_origin, ..(*settings()).clone() };
        let wire = request(&["Origin: https://app.example"]);
        let taken = give(&mut *super::layer(Arc::new(settings), None), wire.as_bytes(), usize::MAX);
        assert_eq!(String::from_utf8_lossy(&taken.answer[9..12]), status);
    }
}

/// X21: the client's address is the last entry of the field, and only if that is configured.
#[test]
fn a_proxy_says_who_the_client_is() {
    let with = |is_forwarded, field: &str| {
        let settings = Settings { is_forwarded, ..(*settings()).clone() };
        let taken = give(&mut *super::layer(Arc::new(settings), None), request(&[field]).as_bytes(), usize::MAX);
        taken.ready.expect("ready").forwarded
    };
    let address: IpAddr = "10.1.2.3".parse().expect("an address");
    assert_eq!(with(true, "X-Forwarded-For: 1.1.1.1, 10.1.2.3"), Some(address));
    assert_eq!(with(true, "+X-Forwarded-For: 10.1.2.3"), Some(address));
    assert_eq!(with(false, "X-Forwarded-For: 10.1.2.3"), None);
    assert_eq!(with(true, "X-Other: 1"), None);
}

/// Finding Q24: an address with a port is understood, and an entry that is none is refused: the device is never taken for the proxy.
#[test]
fn finding_q24_a_forwarded_address_is_understood_or_refused() {
    let with = |field: &str| {
        let settings = Settings { is_forwarded: true, ..(*settings()).clone() };
        let field = format!("X-Forwarded-For: {field}");
        give(&mut *super::layer(Arc::new(settings), None), request(&[&field]).as_bytes(), usize::MAX).ready
    };
    for (field, address) in [
        ("10.9.9.9:4711", "10.9.9.9"),
        ("1.1.1.1, [2001:db8::7]:443", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
    ] {
        assert_eq!(with(field).expect(field).forwarded, Some(address.parse::<IpAddr>().expect("an address")));
    }
    for field in ["unknown", "_hidden", "10.9.9.9, ", "10.9.9.9:x"] {
        assert!(with(field).is_none(), "{field}");
    }
}
