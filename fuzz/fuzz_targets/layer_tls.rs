//! Both ends of TLS, the server's and the client's, and between them what a network may do to a handshake and to the records
//! behind it: cut it anywhere, and change it. Cut, it changes nothing; changed, it is not taken for what it was, and nothing
//! that was not sent comes out.
//!
//! Both ends draw random numbers, so a finding may take several tries to show itself again.
#![no_main]

use std::cell::Cell;
use std::fs;
use std::sync::LazyLock;

use forebay_fuzz::edits::edited;
use forebay_fuzz::runtime::seam::{Layer, LayerError};
use forebay_fuzz::secure::{Authorities, Outgoing, OutgoingSettings, Pair, Server, Settings};
use libfuzzer_sys::fuzz_target;
use rcgen::{CertificateParams, KeyPair};

const NAME: &str = "mqtt.example.org";
/// An alert, a ChangeCipherSpec, and beginnings of records.
const WORDS: &[&[u8]] =
    &[b"\x15\x03\x03\x00\x02\x02\x28", b"\x14\x03\x03\x00\x01\x01", b"\x16\x03\x01", b"\x17\x03\x03\xff\xff", b"\0"];
/// A handshake takes fewer exchanges.
const ROUNDS_MAX: usize = 8;
/// What an end keeps of records that have not come whole: one, or a message of the handshake.
const HELD_MAX: usize = 80 << 10;

static ENDS: LazyLock<(Server, Server, Outgoing)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a folder");
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new([NAME.to_owned()]).and_then(|params| params.self_signed(&key));
    let pair = Pair { certificate: dir.path().join("own.pem"), key: dir.path().join("own.key") };
    fs::write(&pair.certificate, certificate.expect("a certificate").pem()).expect("written");
    fs::write(&pair.key, key.serialize_pem()).expect("written");
    let client = OutgoingSettings {
        ca: Authorities::File(pair.certificate.clone()),
        identity: None,
        server_name: None,
        is_name_checked: true,
    };
    let server = |is_1_2_allowed| {
        let settings = Settings {
            certificates: vec![pair.clone()],
            is_1_2_allowed,
            alpn: Vec::new(),
            is_web: false,
            clients: None,
            tickets: true,
        };
        Server::load(&settings).expect("its files are right")
    };
    (server(false), server(true), Outgoing::load(&client).expect("its file is right"))
});

/// What one end has made of the bytes of the other.
#[derive(Default)]
struct End {
    plain: Vec<u8>,
    is_ready: bool,
    failed: Option<LayerError>,
}

/// The bytes come in pieces of this length; what is to be sent back.
fn open(layer: &mut dyn Layer, end: &mut End, wire: &[u8], piece: usize) -> Vec<u8> {
    let mut answer = Vec::new();
    for bytes in wire.chunks(piece) {
        if end.failed.is_some() || layer.has_ended() {
            break;
        }
        match layer.open(&mut bytes.to_vec(), &mut end.plain, &mut answer) {
            Ok(facts) => end.is_ready |= facts.is_some(),
            Err(error) => end.failed = Some(error),
        }
        assert!(layer.held() <= HELD_MAX, "{} bytes are kept", layer.held());
    }
    answer
}

fuzz_target!(|input: (u8, u8, &[u8], &[u8])| {
    let (how, piece, edits, data) = input;
    let piece = [1 << 20, 1, 5, 64, 700, 1_400][usize::from(piece) % 6] + usize::from(piece) / 6;
    // 0 to 3: this flight is changed; more: none is.
    let changed = usize::from(how % 8);
    let mut server = if how & 0x80 == 0 { ENDS.0.layer() } else { ENDS.1.layer() };
    let mut client = ENDS.2.layer(NAME);
    let (mut of_server, mut of_client) = (End::default(), End::default());
    let mut to_server = Vec::new();
    client.open(&mut [], &mut Vec::new(), &mut to_server).expect("it speaks first");
    let (mut flight, is_changed) = (0, Cell::new(false));
    let mut through = |wire: Vec<u8>| {
        let edits = if flight == changed { edits } else { &[] };
        flight += usize::from(!wire.is_empty());
        let other = edited(&wire, edits, WORDS);
        is_changed.set(is_changed.get() || other != wire);
        other
    };
    let mut sent = false;
    for _ in 0..ROUNDS_MAX {
        let wire = through(std::mem::take(&mut to_server));
        let to_client = open(&mut *server, &mut of_server, &wire, piece);
        let wire = through(to_client);
        to_server = open(&mut *client, &mut of_client, &wire, piece);
        if of_client.is_ready
            && of_client.failed.is_none()
            && !client.has_ended()
            && !std::mem::replace(&mut sent, true)
        {
            let sealed = client.seal(data, &mut to_server);
            assert!(sealed.is_ok() || is_changed.get(), "{sealed:?}");
        }
        if to_server.is_empty() {
            break;
        }
    }
    assert!(data.starts_with(&of_server.plain), "what came out was not sent");
    assert!(of_client.plain.is_empty());
    if !is_changed.get() {
        assert!(
            of_server.failed.is_none() && of_client.failed.is_none(),
            "{:?} {:?}",
            of_server.failed,
            of_client.failed
        );
        assert!(of_server.is_ready && of_client.is_ready && of_server.plain == data);
        let mut wire = Vec::new();
        server.seal(data, &mut wire).expect("it is ready");
        server.close(&mut wire);
        open(&mut *client, &mut of_client, &wire, piece);
        assert!(of_client.plain == data && client.has_ended());
    }
});
