//! Enhanced authentication by SCRAM-SHA-256: with mqtt.js, and packet by packet.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::{Connect, Disconnect, Packet, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::secure::Secret;
use forebay::secure::scram::{Challenge, Expected, First, Hash};

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, Hello, bytes, hello, properties};
use crate::process::{metric, until, until_metric};
use crate::records::texts;
use crate::support::service::{Service, config_with};
use crate::support::{cache, root, run, temp_dir, tool};

const METHOD: &str = "SCRAM-SHA-256";
const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nkey = \"${username}\"\n";
const CONTINUE: ReasonCode = ReasonCode::CONTINUE_AUTHENTICATION;
const AGAIN: ReasonCode = ReasonCode::RE_AUTHENTICATE;

/// Ada and Bob log in by SCRAM, or with the password that it is of; Carol only with her password.
fn service(dir: &Path, chain: &str, more: &str) -> Service {
    let file = dir.join("passwords");
    if !file.exists() {
        passwd(&file, &["--scram", "ada"], "lovelace");
        passwd(&file, &["--scram", "bob"], "builder");
        passwd(&file, &["carol"], "singer");
    }
    let config = config_with("shards = 2", &format!("{}chain = {chain}\n{SINK}{more}", auth(dir, "")));
    Service::start(&with_auth(&config))
}

fn said(method: &str, data: &[u8]) -> PropertyBuf {
    properties([Property::AuthenticationMethod(method), Property::AuthenticationData(data)])
}

fn auth_packet(reason: ReasonCode, method: &str, data: &[u8]) -> Vec<u8> {
    let properties = said(method, data);
    bytes(Version::V5, &Packet::Auth(Disconnect { reason, properties: properties.as_properties() }))
}

/// A device in an exchange, and what the server has told it.
struct Begun {
    device: Device,
    first: First,
    told: Vec<u8>,
}

/// CONNECT with the first message, and the server's first one.
fn begin(to: SocketAddr, connect: &Connect<'_>, user: &str) -> Begun {
    let mut device = Device::open(to, Version::V5);
    let (first, message) = First::new(Hash::Sha256, user, format!("nonce-{user}"));
    let properties = said(METHOD, message.as_bytes());
    device.say(&Packet::Connect(Connect { properties: properties.as_properties(), ..connect.clone() }));
    let Heard::Auth(0x18, told) = device.hear() else { panic!("no AUTH") };
    Begun { device, first, told }
}

impl Begun {
    /// The client's last message.
    fn last(self, password: &str) -> (Device, Expected, String) {
        let challenge: Challenge = self.first.server_first(&self.told).expect("taken");
        let keys = challenge.derivation(&Secret::new(password.as_bytes().to_vec())).keys();
        let (expected, message) = challenge.answer(&keys);
        (self.device, expected, message)
    }

    /// Salt and iterations.
    fn cost(&self) -> &str {
        let told = std::str::from_utf8(&self.told).expect("text");
        told.split_once(',').expect("a nonce").1
    }
}

/// A whole exchange.
fn log_in(to: SocketAddr, connect: &Connect<'_>, user: &str, password: &str) -> Result<(Device, Hello), u8> {
    let (mut device, expected, last) = begin(to, connect, user).last(password);
    device.say_bytes(&auth_packet(CONTINUE, METHOD, last.as_bytes()));
    let Heard::ConnAck(hello) = device.hear() else { panic!("no CONNACK") };
    let properties = hello.properties.as_properties();
    if hello.code != 0 {
        assert_eq!((properties.authentication_data(), device.hear()), (None, Heard::Closed));
        return Err(hello.code);
    }
    assert_eq!(properties.authentication_method(), Some(METHOD));
    expected.server_final(properties.authentication_data().expect("the server's last message")).expect("its proof");
    Ok((device, hello))
}

/// The code of the CONNACK that these bytes get.
fn refused(to: SocketAddr, bytes: &[u8]) -> u8 {
    let mut device = Device::open(to, Version::V5);
    device.say_bytes(bytes);
    refused_at(&mut device)
}

fn refused_at(device: &mut Device) -> u8 {
    let Heard::ConnAck(hello) = device.hear() else { panic!("no CONNACK") };
    assert_eq!(device.hear(), Heard::Closed);
    hello.code
}

/// X30: mqtt.js.
#[test]
fn mqttjs_logs_in_and_authenticates_again() {
    let dir = temp_dir();
    let service = service(dir.path(), "[\"scram\"]", "");
    let program = |user: &str, password: &str| {
        let mut node = tool("node");
        let folder = std::env::var_os("FOREBAY_NODE").unwrap_or_else(|| cache().join("node").into());
        node.env("FOREBAY_NODE", folder).arg(root().join("tests/node/scram.mjs"));
        node.args([&service.mqtt().port().to_string(), user, password, "from/js"]);
        node
    };
    assert_eq!(run(&mut program("ada", "lovelace")).trim(), "done");
    let mut found = texts(service.embedded(), "all");
    found.sort();
    assert_eq!(found, ["again", "first"]);
    for (user, password) in [("ada", "guess"), ("dave", "lovelace"), ("carol", "singer")] {
        let output = program(user, password).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("134"), "{user}: {said}");
    }
    let all = service.log() + &service.get("/api/v1/events?limit=100").expect("events").1;
    assert!(!all.contains("lovelace") && !all.contains("builder"), "a password is shown");
}

/// X37: of eight client ids some live on the other shard. What a CONNECT asks for is what it gets.
/// [MQTT-4.12.0-2] [MQTT-4.12.0-5] [MQTT-3.2.0-1]
#[test]
fn an_exchange_ends_with_connack_wherever_the_session_is() {
    let dir = temp_dir();
    let service = service(dir.path(), "[\"scram\", \"password\", \"anonymous\"]", "");
    let to = service.mqtt();
    for client in 0..8 {
        let id = format!("client-{client}");
        let will =
            Will { qos: QoS::AtLeastOnce, retain: false, topic: "will", payload: b"w", properties: Properties::EMPTY };
        let connect = Connect { will: Some(will), ..hello(Version::V5, &id) };
        let (mut device, _) = log_in(to, &connect, "ada", "lovelace").expect("admitted");
        device.deliver(1, "t", id.as_bytes());
    }
    until_metric(&service, "wills_published_total", 8);
    // Without a method the rest of the chain is asked: the password of the same line, or anonymous.
    let (user, password) = (Some("bob"), Some(&b"builder"[..]));
    Device::connect_as(to, &Connect { username: user, password, ..hello(Version::V5, "p") }).0.deliver(1, "t", b"p");
    Device::connect_as(to, &hello(Version::V311, "a")).0.deliver(1, "t", b"a");
    // Byte by byte, with what follows the last AUTH.
    let (mut device, _, last) = begin(to, &hello(Version::V5, "slow"), "ada").last("lovelace");
    let publish = crate::device::publish(QoS::AtLeastOnce, 7, "t", b"behind");
    let behind = bytes(Version::V5, &Packet::Publish(publish));
    device.dribble(&[auth_packet(CONTINUE, METHOD, last.as_bytes()), behind].concat());
    device.welcome();
    assert_eq!(device.hear(), crate::device::puback(7));
    assert_eq!(metric(&service, "authentications_total{result=\"accepted\"}"), 11);
}

/// X27, X30: the salt of an unknown user.
#[test]
fn an_unknown_user_looks_like_a_known_one_also_after_a_restart() {
    let dir = temp_dir();
    let mut service = service(dir.path(), "[\"scram\"]", "");
    let cost = |service: &Service, user: &str| begin(service.mqtt(), &hello(Version::V5, "c"), user).cost().to_owned();
    let before = ["ada", "dave", "carol"].map(|user| cost(&service, user));
    assert!(before.iter().all(|cost| cost.len() == before[0].len() && cost.ends_with(",i=4096")), "{before:?}");
    assert_eq!(cost(&service, "dave"), before[1]);
    service.kill9();
    service.start_again();
    assert_eq!(["ada", "dave", "carol"].map(|user| cost(&service, user)), before);
    let codes = [("ada", "guess"), ("dave", "guess"), ("carol", "singer")].map(|(user, password)| {
        log_in(service.mqtt(), &hello(Version::V5, "c"), user, password).map(|_| ()).expect_err("refused")
    });
    assert_eq!(codes, [0x86; 3]);
}

/// [MQTT-3.1.2-30] [MQTT-3.14.0-1] [MQTT-4.12.0-1] [MQTT-4.12.0-3] [MQTT-4.12.0-4] [MQTT-4.12.0-7]
#[test]
fn what_has_no_place_in_an_exchange_ends_it() {
    let dir = temp_dir();
    let service = service(dir.path(), "[\"scram\", \"anonymous\"]", "");
    let to = service.mqtt();
    let connect = |method: &str, data: &[u8]| {
        let properties = said(method, data);
        bytes(
            Version::V5,
            &Packet::Connect(Connect { properties: properties.as_properties(), ..hello(Version::V5, "c") }),
        )
    };
    for method in ["SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "OTHER"] {
        assert_eq!(refused(to, &connect(method, b"n,,n=ada,r=x")), 0x8C, "{method}");
    }
    for data in [&b""[..], b"n,,n=ada", b"p=tls-exporter,,n=ada,r=x", b"n,a=bob,n=ada,r=x", b"\xff"] {
        assert_eq!(refused(to, &connect(METHOD, data)), 0x87, "{data:?}");
    }
    let begun = || begin(to, &hello(Version::V5, "c"), "ada");
    let (_, _, last) = begun().last("lovelace");
    let other_nonce = |last: &str| auth_packet(CONTINUE, METHOD, last.as_bytes());
    for (bytes, code) in [
        // The last message of another exchange: its nonce is another one.
        (other_nonce(&last), 0x87),
        (auth_packet(CONTINUE, METHOD, b""), 0x87),
        (auth_packet(CONTINUE, "SCRAM-SHA-1", last.as_bytes()), 0x82),
        (auth_packet(AGAIN, METHOD, b"n,,n=ada,r=x"), 0x82),
        (bytes(Version::V5, &Packet::PingReq), 0x82),
        (connect(METHOD, b"n,,n=ada,r=x"), 0x82),
        (auth_packet(CONTINUE, METHOD, &[b'x'; 9_000]), 0x95),
        (vec![0xF0, 0], 0x82),
        // What is wrong with them has no code in CONNACK: topic alias 0, a shared subscription without a name.
        (vec![0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0], 0x82),
        ([&[0x82, 15, 0, 1, 0, 0, 9][..], b"$share//a", &[0]].concat(), 0x82),
    ] {
        let mut device = begun().device;
        device.say_bytes(&bytes);
        assert_eq!(refused_at(&mut device), code, "{bytes:?}");
    }
    // A client that changes its mind, and one that just goes.
    begun().device.leave();
    begun().device.vanish();
    // Before 5.0 there is no AUTH; in a session without a method none is asked for.
    let mut device = Device::connect(to, Version::V311, "old");
    device.say_bytes(&[0xF0, 0]);
    assert_eq!(device.hear(), Heard::Closed);
    let mut device = Device::connect(to, Version::V5, "plain");
    device.say_bytes(&auth_packet(AGAIN, METHOD, b"n,,n=ada,r=x"));
    assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(0x82), Heard::Closed));
    until_metric(&service, "connections", 0);
    assert_eq!(metric(&service, "partial_packet_bytes"), 0);
}

#[test]
fn an_exchange_has_the_time_of_a_connect() {
    let dir = temp_dir();
    let service = service(dir.path(), "[\"scram\"]", "[mqtt]\nconnect_timeout = \"2s\"\n");
    let began = Instant::now();
    let (mut silent, mut slow) = (begin(service.mqtt(), &hello(Version::V5, "a"), "ada").device, Vec::new());
    let (mut drip, _, last) = begin(service.mqtt(), &hello(Version::V5, "b"), "ada").last("lovelace");
    slow.extend(auth_packet(CONTINUE, METHOD, last.as_bytes()));
    for byte in &slow[..20] {
        drip.try_say_bytes(&[*byte]);
        std::thread::sleep(Duration::from_millis(100));
    }
    silent.until_closed();
    drip.until_closed();
    assert!((Duration::from_secs(1)..Duration::from_secs(20)).contains(&began.elapsed()));
    until_metric(&service, "connections_closed_total{reason=\"connect_timeout\"}", 2);
}

/// A client authenticates again while it publishes; another user, or a wrong proof, ends its connection, and its will goes out.
/// [MQTT-4.12.1-2]
#[test]
fn again_within_a_session() {
    let dir = temp_dir();
    let service = service(dir.path(), "[\"scram\"]", "");
    let to = service.mqtt();
    let will =
        Will { qos: QoS::AtLeastOnce, retain: false, topic: "will", payload: b"w", properties: Properties::EMPTY };
    for (number, (user, password, end)) in
        [("ada", "lovelace", None), ("ada", "guess", Some(0x87)), ("bob", "builder", Some(0x87))]
            .into_iter()
            .enumerate()
    {
        let connect = Connect { will: Some(will.clone()), ..hello(Version::V5, "c") };
        let (mut device, _) = log_in(to, &connect, "ada", "lovelace").expect("admitted");
        let (first, message) = First::new(Hash::Sha256, user, "again".to_owned());
        device.say_bytes(&auth_packet(AGAIN, METHOD, message.as_bytes()));
        let Heard::Auth(0x18, told) = device.hear() else { panic!("no AUTH") };
        device.deliver(1, "t", format!("meanwhile {number}").as_bytes());
        let (mut device, expected, last) = Begun { device, first, told }.last(password);
        device.say_bytes(&auth_packet(CONTINUE, METHOD, last.as_bytes()));
        match end {
            None => {
                let Heard::Auth(0, data) = device.hear() else { panic!("no AUTH") };
                expected.server_final(&data).expect("its proof");
                device.deliver(2, "t", b"after");
                device.leave();
            }
            Some(code) => {
                assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(code), Heard::Closed), "{user}");
                until_metric(&service, "wills_published_total", number as u64);
            }
        }
    }
    assert_eq!(metric(&service, "authentications_total{result=\"refused\"}"), 2);
    // Whose line has changed is disconnected, as with a password.
    let (mut ada, _) = log_in(to, &hello(Version::V5, "ada"), "ada", "lovelace").expect("admitted");
    let (mut bob, _) = log_in(to, &hello(Version::V5, "bob"), "bob", "builder").expect("admitted");
    passwd(&dir.path().join("passwords"), &["--scram", "ada"], "another");
    service.signal("HUP");
    assert_eq!(ada.hear(), Heard::Disconnect(0x87));
    bob.deliver(1, "t", b"bob");
    assert_eq!(log_in(to, &hello(Version::V5, "ada"), "ada", "lovelace").map(|_| ()), Err(0x86));
    log_in(to, &hello(Version::V5, "ada"), "ada", "another").expect("admitted");
    let checked = fs::read_to_string(dir.path().join("passwords")).expect("there");
    assert!(checked.contains("ada:SCRAM-SHA-256$4096:"));
    until("the events", || {
        service.get("/api/v1/events?limit=100").is_ok_and(|(_, text)| text.contains("another user"))
    });
}
