//! What connections to the control address may take of the service.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::Version;

use crate::device::Device;
use crate::process::until;
use crate::support::service::{Service, config};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"t\"\n";

/// Whether the service has closed its end.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).expect("set");
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

/// Finding S4: idle and half-sent connections are few, end by themselves, and keep neither probes nor devices out.
#[test]
fn finding_s4_connections_that_say_nothing_are_bounded() {
    let service = Service::start(&config(SINK));
    let mut silent: Vec<TcpStream> = (0..400)
        .map(|number| {
            let mut stream = TcpStream::connect(service.control()).expect("connected");
            if number % 2 == 0 {
                // It may be closed already.
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ");
            }
            stream
        })
        .collect();
    until("most of them to be closed", || {
        let open = silent.iter_mut().map(is_closed).filter(|is_closed| !is_closed).count();
        open <= 64
    });
    let asked = Instant::now();
    assert_eq!(service.get("/healthz").expect("an answer").0, 200);
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    Device::connect(service.mqtt(), Version::V5, "device").deliver(1, "t", b"x");
    let closed =
        |reason: &str| service.metric(&format!("forebay_control_connections_closed_total{{reason=\"{reason}\"}}"));
    assert!(closed("full").is_some_and(|count| count >= 300.0), "{:?}", closed("full"));
    assert!(service.metric("forebay_control_connections").is_some_and(|open| (1.0..=64.0).contains(&open)));
    // The others end by themselves: what has begun a request after ten seconds.
    until("all to be closed", || silent.iter_mut().all(is_closed));
    assert!(closed("timeout").is_some_and(|count| count >= 1.0));
}
