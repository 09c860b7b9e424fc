//! Passwords that wait to be compared: how much memory they take, and who waits behind whom.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, Version};
use forebay::mqtt::property::Properties;
use socket2::{Domain, Socket, Type};

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, hello};
use crate::process::{resident_bytes, until_metric};
use crate::support::service::{Service, config};
use crate::support::temp_dir;

fn connect<'a>(user: &'a str, password: &'a [u8], version: Version) -> Connect<'a> {
    Connect { username: Some(user), password: Some(password), properties: Properties::EMPTY, ..hello(version, user) }
}

/// A connection from an address of loopback, with its CONNECT sent.
fn guess(to: SocketAddr, from: Ipv4Addr, password: &[u8]) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of this machine");
    socket.connect(&to.into()).expect("connected");
    let mut stream = TcpStream::from(socket);
    let mut bytes = Vec::new();
    encode::packet(Version::V311, &Packet::Connect(connect("ada", password, Version::V311)), &mut bytes)
        .expect("encoded");
    // It may be refused meanwhile.
    let _ = stream.write_all(&bytes);
    stream
}

/// Finding S5: what waits to be compared is bounded in bytes, goes with its connection, and a first login of another address
/// does not wait behind all of it.
#[test]
fn finding_s5_guesses_cost_little_memory_and_nobody_else_a_login() {
    let dir = temp_dir();
    passwd(&dir.path().join("passwords"), &["ada"], "secret");
    let sink = "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\n";
    let auth = auth(dir.path(), "chain = [\"password\"]");
    let service = Service::start(&with_auth(&config(&format!("{auth}{sink}"))));
    let before = resident_bytes(&service);
    let password = vec![b'x'; 60_000];
    let address = |number: u32| Ipv4Addr::from(0x7f00_0002 + number % 20);
    let guesses: Vec<TcpStream> = (0..3_000).map(|number| guess(service.mqtt(), address(number), &password)).collect();
    // Whoever has not been compared with after ten seconds is refused.
    let mut ada = Device::open(service.mqtt(), Version::V5);
    ada.say(&Packet::Connect(connect("ada", b"secret", Version::V5)));
    match ada.hear() {
        Heard::ConnAck(hello) => assert_eq!(hello.code, 0),
        other => panic!("{other:?}"),
    }
    let grown = resident_bytes(&service).saturating_sub(before);
    // Half-received packets have a bound of their own (64 MiB), and so have what waits and the compare itself.
    assert!(grown < 150 << 20, "{} MiB", grown >> 20);
    drop(guesses);
    until_metric(&service, "authentications_waiting", 0);
    until_metric(&service, "authentications_queued", 0);
    until_metric(&service, "authentications_queued_bytes", 0);
}
