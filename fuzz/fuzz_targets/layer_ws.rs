//! A WebSocket as a layer: the request and what follows it, in pieces. What it says does not depend on where the pieces end,
//! it keeps little, and gives no more than came.
#![no_main]

use std::sync::Arc;

use forebay_fuzz::runtime::seam::Layer;
use forebay_fuzz::ws::{Settings, layer};
use libfuzzer_sys::fuzz_target;

/// What a layer may keep: a request that has not come whole, or the header of a frame.
const HELD_MAX: usize = 8 << 10;
const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

fn make() -> Box<dyn Layer> {
    let settings = Settings { path: "/mqtt".to_owned(), origins: Vec::new(), any_origin: false, is_forwarded: true };
    layer(Arc::new(settings), None)
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

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    // Half of them begin behind a request that is accepted.
    let wire = if first & 1 == 0 { [REQUEST, rest].concat() } else { rest.to_vec() };
    let piece = usize::from(first >> 1) + 1;
    let whole = told(&mut *make(), &wire, wire.len().max(1));
    let pieces = told(&mut *make(), &wire, piece);
    assert!(whole.0.len() <= wire.len());
    // A PONG goes out once for what came at once, so pings in pieces have more answers.
    let (plain, _, is_ready, failed, has_ended) = &whole;
    assert_eq!((plain, failed, has_ended), (&pieces.0, &pieces.3, &pieces.4));
    // Where it fails at once nobody is told that it was ready.
    assert!(failed.is_some() || *is_ready == pieces.2);
});
