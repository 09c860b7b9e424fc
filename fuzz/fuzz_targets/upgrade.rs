//! The request of a WebSocket, nearly right: who is let in has asked for it in each of the ways that the standard wants, and
//! who is not hears why in one answer.
#![no_main]

use std::sync::Arc;

use forebay_fuzz::edits::edited;
use forebay_fuzz::runtime::seam::LayerFault;
use forebay_fuzz::ws::{Settings, layer};
use libfuzzer_sys::fuzz_target;

const VALID: &[u8] = b"GET /mqtt?a=b HTTP/1.1\r\nHost: 10.0.0.1:8083\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqttv3.1, mqtt\r\n\
    Origin: http://10.0.0.1\r\nX-Forwarded-For: 10.0.0.2, 10.0.0.3\r\n\r\n";
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"POST",
    b"Host: localhost\r\n",
    b"Origin: null\r\n",
    b"Origin: http://evil.example\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Upgrade: h2c\r\n",
    b"Sec-WebSocket-Version: 8\r\n",
    b"\n",
    b" ",
    b",",
    b"\xff",
    b"\0",
    b"Sec-WebSocket-Key: AA==\r\n",
    b"Connection: close\r\n",
    b"X-Forwarded-For: [::1]\r\n",
    b"/..",
    b"HTTP/1.0",
];
const BYTES_MAX: usize = 8 << 10;

fuzz_target!(|input: &[u8]| {
    let Some((first, edits)) = input.split_first() else { return };
    let wire = edited(VALID, edits, WORDS);
    let settings =
        Settings { path: "/mqtt".into(), origins: Vec::new(), any_origin: false, is_forwarded: first & 1 == 0 };
    let mut layer = layer(Arc::new(settings), None);
    let (mut plain, mut answer) = (Vec::new(), Vec::new());
    let opened = layer.open(&mut wire.clone(), &mut plain, &mut answer);
    let status =
        answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()).and_then(|s| s.parse::<u16>().ok());
    match opened {
        Ok(Some(facts)) => {
            assert!(facts.is_web_socket && status == Some(101) && answer.starts_with(b"HTTP/1.1 101 "));
            assert!(facts.forwarded.is_none() || first & 1 == 0, "no proxy is trusted");
            let text = String::from_utf8_lossy(&wire).to_ascii_lowercase();
            let lines = text.split('\n').map(|line| line.trim_end_matches('\r')).skip_while(|line| line.is_empty());
            let head = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
            for needed in ["get /mqtt", "upgrade", "websocket", "sec-websocket-key", "13", "mqtt", "host"] {
                assert!(head.contains(needed), "{needed:?} is not in {head:?}");
            }
            let values = |name: &str| head.lines().filter_map(|line| line.strip_prefix(name)).count();
            assert_eq!(values("transfer-encoding:"), 0, "{head:?}");
            assert_eq!(values("origin: http://evil") + values("origin: null"), 0, "{head:?}");
        }
        Ok(None) => {
            assert!(answer.is_empty() && plain.is_empty() && wire.len() < BYTES_MAX && layer.held() <= BYTES_MAX)
        }
        Err(error) => match error.fault {
            LayerFault::Upgrade(code) => {
                assert!(matches!(code, 400 | 403..=405 | 426 | 431) && status == Some(code) && plain.is_empty());
                assert!(answer.ends_with(b"\n") && answer.windows(4).filter(|at| at == b"\r\n\r\n").count() == 1);
            }
            // What came behind the request.
            LayerFault::WebSocket(_) => assert_eq!(status, Some(101)),
            other => panic!("{other:?}"),
        },
    }
});
