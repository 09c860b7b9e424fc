//! A WebSocket as a layer, at either end: the request or its answer, and what follows it, in pieces. What it says does not depend on where the pieces
//! end, it keeps little, and gives no more than came.
#![no_main]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use forebay_fuzz::runtime::seam::Layer;
use forebay_fuzz::ws::{Settings, layer, outgoing};
use libfuzzer_sys::fuzz_target;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

/// What a layer may keep: a head that has not come whole, or the header of a frame.
const HELD_MAX: usize = 8 << 10;
const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

fn server() -> (Box<dyn Layer>, Vec<u8>) {
    let settings = Settings { path: "/mqtt".to_owned(), origins: Vec::new(), any_origin: false, is_forwarded: true };
    (layer(Arc::new(settings), None), REQUEST.to_vec())
}

/// A client that has sent its request, and the answer that accepts it (RFC 6455, 4.2.2).
fn client() -> (Box<dyn Layer>, Vec<u8>) {
    let (mut layer, mut request) = (outgoing("localhost", "/mqtt", None), Vec::new());
    layer.open(&mut [], &mut Vec::new(), &mut request).expect("nothing has come");
    let request = String::from_utf8(request).expect("text");
    let (_, rest) = request.split_once("Sec-WebSocket-Key: ").expect("a key");
    let (key, _) = rest.split_once("\r\n").expect("its end");
    let accept = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n\r\n",
        STANDARD.encode(accept.as_ref())
    );
    (layer, answer.into_bytes())
}

/// All that it says of these bytes: plain bytes, answer, readiness, its error, its end.
fn told(layer: &mut dyn Layer, wire: &[u8], piece: usize) -> (Vec<u8>, Vec<u8>, bool, Option<String>, bool) {
    let (mut plain, mut answer, mut is_ready, mut failed) = (Vec::new(), Vec::new(), false, None);
    for bytes in wire.chunks(piece) {
        match layer.open(&mut bytes.to_vec(), &mut plain, &mut answer) {
            Ok(facts) => is_ready |= facts.is_some(),
            Err(error) => {
                failed = Some(format!("{:?}", error.fault));
                break;
            }
        }
        assert!(layer.held() <= HELD_MAX);
        if layer.has_ended() {
            break;
        }
    }
    (plain, answer, is_ready, failed, layer.has_ended())
}

/// The wire of one end, with what accepts it in front of the input, or the input alone.
fn judge(made: fn() -> (Box<dyn Layer>, Vec<u8>), is_accepted: bool, rest: &[u8], piece: usize) {
    let wired = |piece: usize| {
        let (mut layer, front) = made();
        let wire = if is_accepted { [&front, rest].concat() } else { rest.to_vec() };
        (told(&mut *layer, &wire, piece.min(wire.len().max(1))), wire.len())
    };
    let (whole, len) = wired(usize::MAX);
    let (pieces, _) = wired(piece);
    assert!(whole.0.len() <= len);
    // A PONG goes out once for what came at once, so pings in pieces have more answers.
    let (plain, _, is_ready, failed, has_ended) = &whole;
    assert_eq!((plain, failed, has_ended), (&pieces.0, &pieces.3, &pieces.4));
    // Where it fails at once nobody is told that it was ready.
    assert!(failed.is_some() || *is_ready == pieces.2);
    assert!(!is_accepted || !rest.is_empty() || *is_ready, "what accepts it is accepted");
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let (is_accepted, piece) = (first & 1 == 0, usize::from(first >> 2) + 1);
    judge(if first & 2 == 0 { server } else { client }, is_accepted, rest, piece);
});
