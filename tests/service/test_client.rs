//! `/ui/mqtt`: the way of the dashboard's MQTT client. `tests/node/dashboard_client.mjs` uses it in a browser.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::live::{log_in, with_tokens};
use crate::process::{metric, until};
use crate::support::service::{Service, http};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
/// A CONNECT of 3.1.1 with the client identifier `t`, in a masked frame whose mask is 0.
const CONNECT: &[u8] = b"\x82\x8f\0\0\0\0\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01t";
/// A CONNACK in a frame.
const CONNACK: &[u8] = b"\x82\x04\x20\x02\0\0";

/// The head of the answer to a request for a WebSocket, and its socket.
fn open(service: &Service, header: &str) -> (String, TcpStream) {
    open_with(service, "mqtt", header)
}

/// The same with other protocols.
fn open_with(service: &Service, protocols: &str, header: &str) -> (String, TcpStream) {
    let mut socket = TcpStream::connect(service.control()).expect("connect");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
    let host = service.control();
    let request = format!(
        "GET /ui/mqtt HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: {protocols}\r\n{header}\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).expect("ask");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(socket.read(&mut byte).expect("an answer"), 1, "{}", String::from_utf8_lossy(&head));
        head.push(byte[0]);
    }
    (String::from_utf8(head).expect("text"), socket)
}

/// W10: with a login of the role write, from a page of ours; it ends with the login. There are 16.
#[test]
fn it_is_for_pages_of_ours_with_the_role_write() {
    let (service, [ops, grafana]) = with_tokens(SINK);
    let own = format!("Origin: http://{}", service.control());
    let (writer, reader) = (log_in(&service, &ops), log_in(&service, &grafana));
    let token = format!("{own}\r\nAuthorization: Bearer {ops}");
    for (header, status) in [
        (own.clone(), 401),
        (token, 401),
        (writer.clone(), 403),
        (format!("{writer}\r\nOrigin: https://evil.example"), 403),
        (format!("{writer}\r\nOrigin: null"), 403),
        (format!("{writer}\r\n{own}\r\nSec-Fetch-Site: cross-site"), 403),
        (format!("{reader}\r\n{own}"), 403),
    ] {
        let head = open(&service, &header).0;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{header}\n{head}");
    }
    let mine = format!("{writer}\r\n{own}");
    let mut open_ones: Vec<TcpStream> = (0..16)
        .map(|_| {
            let (head, socket) = open(&service, &mine);
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            // RFC 6455, 1.3.
            assert!(head.to_lowercase().contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
            assert!(head.to_lowercase().contains("sec-websocket-protocol: mqtt"), "{head}");
            socket
        })
        .collect();
    let head = open(&service, &mine).0;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(
        (metric(&service, "control_test_clients"), metric(&service, "control_test_clients_refused_total")),
        (16, 1)
    );
    open_ones.truncate(1);
    until("there is room again", || metric(&service, "control_test_clients") == 1);

    let client = &mut open_ones[0];
    client.write_all(CONNECT).expect("sent");
    let mut answer = [0; CONNACK.len()];
    client.read_exact(&mut answer).expect("a CONNACK");
    assert_eq!(answer, CONNACK);
    let (_, body) = service.ask("GET", "/api/v1/clients/t", "X-Test: 1", "").expect("an answer");
    assert!(body.contains("\"connected\":true"), "{body}");
    let ended = http(service.control(), "DELETE", "/api/v1/session", &writer, "").expect("an answer");
    assert!(ended.0.contains(" 204 "), "{ended:?}");
    assert_eq!(client.read(&mut answer).unwrap_or(0), 0, "it is closed");
    until("its place is free", || metric(&service, "control_test_clients") == 0);
}

/// Who has the cookie alone may send an `Origin`, too. A page has the other half of its login, and sends it as a protocol, which no shard sees.
#[test]
fn finding_q23_a_websocket_needs_both_halves_of_a_login() {
    let (service, [ops, _]) = with_tokens(SINK);
    let login = log_in(&service, &ops);
    let (half, cookie) = login.split_once("\r\n").expect("two headers");
    let header = format!("Origin: http://{}\r\n{cookie}", service.control());
    for protocols in ["mqtt", "mqtt, forebay.", "mqtt, forebay.0123456789012345678901234567890123456789"] {
        let head = open_with(&service, protocols, &header).0;
        assert!(head.starts_with("HTTP/1.1 401 "), "{protocols}: {head}");
    }
    let half = half.strip_prefix("X-Forebay: ").expect("the header");
    let head = open_with(&service, &format!("mqtt, forebay.{half}"), &header).0;
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("sec-websocket-protocol: mqtt\r\n"),
        "{head}"
    );
}

/// W5: it ends with its token as well, though nobody says that the file has changed.
#[test]
fn it_ends_with_its_token() {
    let (service, [ops, _]) = with_tokens(SINK);
    let mine = format!("{}\r\nOrigin: http://{}", log_in(&service, &ops), service.control());
    let (head, mut client) = open(&service, &mine);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    client.write_all(CONNECT).expect("sent");
    let mut answer = [0; CONNACK.len()];
    client.read_exact(&mut answer).expect("a CONNACK");
    let text = std::fs::read_to_string(service.dir().join("forebay.toml")).expect("the configuration");
    let line = text.lines().find(|line| line.starts_with("tokens_file")).expect("the file");
    let file = line.split('"').nth(1).expect("its name");
    let tokens = std::fs::read_to_string(file).expect("tokens");
    let rest: Vec<_> = tokens.lines().filter(|line| !line.starts_with("ops ")).collect();
    std::fs::write(file, rest.join("\n")).expect("written");
    assert_eq!(client.read(&mut answer).unwrap_or(0), 0, "it is closed");
    until("its place is free", || metric(&service, "control_test_clients") == 0);
}
