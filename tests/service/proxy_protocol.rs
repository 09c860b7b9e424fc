//! The PROXY protocol: a small proxy of the test's own stands before the service, and the service knows the device's
//! address, on whichever shard its client lives; what is no header is closed.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use forebay::mqtt::packet::Version;

use crate::device::{Device, VERSIONS};
use crate::process::{metric, until, until_metric};
use crate::records::texts;
use crate::support::service::{Service, config_with};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Two shards and one listener that expects this; refusals are in the log.
fn service(expect: &str) -> Service {
    let config = config_with("shards = 2\n[log]\nlevel = \"debug\"", SINK);
    let listener = format!("transport = \"tcp\"\nproxy_protocol = \"{expect}\"");
    Service::start(&config.replace("transport = \"tcp\"", &listener))
}

fn v1(device: &str) -> Vec<u8> {
    let device: SocketAddr = device.parse().expect("an address");
    let (family, to) = if device.is_ipv4() { ("TCP4", "10.0.0.1") } else { ("TCP6", "2001:db8::1") };
    format!("PROXY {family} {} {to} {} 1883\r\n", device.ip(), device.port()).into_bytes()
}

/// With fields behind the addresses, as load balancers write them.
fn v2(device: &str) -> Vec<u8> {
    let device: SocketAddr = device.parse().expect("an address");
    let SocketAddr::V4(device) = device else { panic!("IPv4") };
    let mut rest = device.ip().octets().to_vec();
    rest.extend([10, 0, 0, 1]);
    rest.extend(device.port().to_be_bytes());
    rest.extend([7, 91, 0xEA, 0, 3, b'v', b'p', b'c']);
    [V2_SIGNATURE, &[0x21, 0x11, 0, rest.len() as u8], &rest].concat()
}

const V2_LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A proxy: one connection for each header, in order, relayed to `to` behind it.
fn proxy(to: SocketAddr, headers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    std::thread::spawn(move || {
        for header in headers {
            let (device, _) = listener.accept().expect("a device");
            let mut service = TcpStream::connect(to).expect("the service");
            service.set_nodelay(true).expect("an option");
            service.write_all(&header).expect("it reads");
            let (back, forth) =
                ((service.try_clone().expect("a copy"), device.try_clone().expect("a copy")), (device, service));
            for (mut from, mut to) in [back, forth] {
                std::thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = from.read(&mut buffer)
                        && to.write_all(&buffer[..count]).is_ok()
                    {}
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

/// Waits for a line that names this address; the service's log has the device's, not the proxy's.
fn until_logged(service: &Service, address: &str) {
    until(&format!("{address} in the log"), || service.log().contains(&format!("peer=\"{address}\"")));
}

#[test]
fn devices_behind_a_proxy_keep_their_addresses() {
    for (expect, header) in [("v1", v1 as fn(&str) -> Vec<u8>), ("v2", v2), ("any", v1), ("any", v2)] {
        let service = service(expect);
        // Each has half a chance to be accepted where its client lives: 48 never all are.
        let addresses: Vec<_> = (11..=58).map(|n| format!("203.0.113.{n}:{}", 40_000 + n)).collect();
        let headers = addresses.iter().map(|address| header(address)).collect();
        let by_way_of = proxy(service.mqtt(), headers);
        for (n, address) in addresses.iter().enumerate() {
            let mut device = Device::connect(by_way_of, VERSIONS[n % 3], &format!("device {n}"));
            device.deliver(1, "t", address.as_bytes());
            device.leave();
        }
        assert_eq!(texts(service.embedded(), "all"), addresses);
        // Client ids live on both shards: sockets have moved, and the header with none of them.
        assert!(metric(&service, "connections_handed_over_total") > 0, "{expect}");
        assert_eq!(metric(&service, "connections_closed_total{reason=\"proxy_header\"}"), 0);
        // A first packet that is none, from an address of its own.
        let mut device = Device::open(proxy(service.mqtt(), vec![header("198.51.100.9:999")]), Version::V5);
        device.try_say_bytes(b"\xc0\x00");
        device.until_closed();
        until_logged(&service, "198.51.100.9:999");
    }
}

/// A device that breaks the standard on the shard where its client lives is named by its own address there.
#[test]
fn the_address_moves_with_the_socket() {
    let service = service("v1");
    let moved = || metric(&service, "connections_handed_over_total");
    // Each has half a chance to be accepted where its client lives. Events of one kind are limited, so few break it.
    let mut named = 0;
    for n in 1..=48 {
        let address = format!("[2001:db8::{n}]:{}", 50_000 + n);
        let before = moved();
        let mut device = Device::connect(proxy(service.mqtt(), vec![v1(&address)]), Version::V5, &format!("wrong {n}"));
        if moved() == before {
            device.leave();
            continue;
        }
        device.say_bytes(b"\x20\x02\0\0");
        device.until_closed();
        until_logged(&service, &address);
        named += 1;
        if named == 4 {
            return;
        }
    }
    panic!("{named} of 48 connections moved");
}

#[test]
fn a_header_may_come_byte_by_byte_and_with_the_first_packets() {
    let service = service("any");
    for (n, header) in
        [v1("203.0.113.7:7"), v2("203.0.113.7:7"), V2_LOCAL.to_vec(), b"PROXY UNKNOWN\r\n".to_vec()].iter().enumerate()
    {
        let connect = crate::device::bytes(
            Version::V311,
            &forebay::mqtt::packet::Packet::Connect(crate::device::hello(Version::V311, &format!("client {n}"))),
        );
        let mut slow = Device::open(service.mqtt(), Version::V311);
        slow.dribble(&[&header[..], &connect].concat());
        slow.welcome();
        slow.deliver(1, "t", b"slow");
        let publish = b"\x32\x06\0\x01t\0\x01x";
        let mut quick = Device::open(service.mqtt(), Version::V311);
        quick.say_bytes(&[&header[..], &connect, publish].concat());
        quick.welcome();
        assert_eq!(quick.hear(), crate::device::puback(1));
    }
    assert_eq!(texts(service.embedded(), "all").len(), 8);
}

#[test]
fn what_is_no_header_is_closed_and_counted_and_none_is_taken_unasked() {
    let wrong: [(&str, Vec<u8>); 6] = [
        ("v1", b"\x10\x0c\0\x04MQTT\x04\x02\0\0\0\0".to_vec()),
        ("v2", v1("203.0.113.7:7")),
        ("v1", v2("203.0.113.7:7")),
        ("any", b"PROXY TCP4 203.0.113.7 10.0.0.1 7 65536\r\n".to_vec()),
        ("any", [V2_SIGNATURE, b"\x21\x11\xff\xff"].concat()),
        ("any", vec![b'P'; 200]),
    ];
    for (expect, bytes) in wrong {
        let service = service(expect);
        let mut device = Device::open(service.mqtt(), Version::V311);
        device.try_say_bytes(&bytes);
        device.until_closed();
        until_metric(&service, "connections_closed_total{reason=\"proxy_header\"}", 1);
        until_metric(&service, "connections", 0);
    }
    let service = service("off");
    for header in [v1("203.0.113.7:7"), v2("203.0.113.7:7")] {
        let mut device = Device::open(service.mqtt(), Version::V311);
        device.try_say_bytes(&header);
        device.until_closed();
    }
    assert_eq!(
        (
            metric(&service, "connections_closed_total{reason=\"protocol_error\"}"),
            metric(&service, "connections_closed_total{reason=\"proxy_header\"}")
        ),
        (2, 0)
    );
}

/// Half a header is no more than half a CONNECT: the same time-out closes both.
#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let config = config_with("shards = 1\n[mqtt]\nconnect_timeout = \"200ms\"", SINK);
    let service =
        Service::start(&config.replace("transport = \"tcp\"", "transport = \"tcp\"\nproxy_protocol = \"any\""));
    for half in [&b""[..], b"PROXY TC", &V2_SIGNATURE[..7], b"PROXY UNKNOWN\r\n"] {
        let mut device = Device::open(service.mqtt(), Version::V311);
        device.try_say_bytes(half);
        device.until_closed();
    }
    assert_eq!(metric(&service, "connections_closed_total{reason=\"connect_timeout\"}"), 4);
    assert_eq!(metric(&service, "partial_packet_bytes"), 0);
}

/// Only a proxy is believed: another peer is closed, whatever it says.
#[test]
fn finding_w4_who_is_no_proxy_is_closed() {
    let with = |networks: &str| {
        let listener = format!("transport = \"tcp\"\nproxy_protocol = \"v1\"\nproxy_from = [{networks}]");
        Service::start(&config_with("shards = 1", SINK).replace("transport = \"tcp\"", &listener))
    };
    let header = || vec![v1("192.0.2.7:4711")];
    let service = with("\"10.0.0.0/8\"");
    let mut lies = TcpStream::connect(service.mqtt()).expect("the service");
    // It may be closed before this is written.
    let _ = lies.write_all(&header()[0]);
    assert!(matches!(lies.read(&mut [0; 16]), Ok(0) | Err(_)));
    until_metric(&service, "connections_closed_total{reason=\"proxy_from\"}", 1);
    let service = with("\"10.0.0.0/8\", \"127.0.0.1\"");
    let mut device = Device::connect(proxy(service.mqtt(), header()), Version::V5, "believed");
    device.deliver(1, "a", b"x");
    assert_eq!(metric(&service, "connections_closed_total{reason=\"proxy_from\"}"), 0);
}
