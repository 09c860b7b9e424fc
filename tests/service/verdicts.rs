//! Every malformed packet that a client can send, fired at a running service: it ends as the standard says, and the
//! service goes on serving.

use forebay::mqtt::packet::{PacketType, Sender, Version};

use crate::device::{Device, Heard, VERSIONS};
use crate::malformed::{self, Case, Ending};
use crate::process::{descriptors, metric, until, until_metric};
use crate::records::texts;
use crate::support::service::{Service, config};

const SINK: &str = "[[sink]]\nname = \"good\"\nfilters = [\"good\"]\ntopic = \"good\"\n";

/// How a case is sent.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    /// Byte by byte, as far as the service reads.
    Bytes,
}

/// Sends a case on a connection of its own and says how that ended.
fn fire(service: &Service, case: &Case, cut: Cut) -> Result<Ending, String> {
    let mut device = if case.packet == PacketType::Connect {
        // Answered in the version that it names.
        let version = match case.ending() {
            Ending::ConnAck(version, _) => version,
            _ => case.version,
        };
        Device::open(service.mqtt(), version)
    } else {
        Device::connect(service.mqtt(), case.version, "malformed")
    };
    match cut {
        Cut::Whole => device.try_say_bytes(&case.bytes),
        Cut::Bytes => device.dribble(&case.bytes),
    }
    let ending = match device.hear() {
        Heard::Closed => return Ok(Ending::Close),
        Heard::Disconnect(code) => Ending::Disconnect(code),
        Heard::ConnAck(hello) => match case.ending() {
            Ending::ConnAck(version, _) => Ending::ConnAck(version, hello.code),
            _ => Ending::ConnAck(case.version, hello.code),
        },
        other => return Err(format!("{other:?}")),
    };
    match device.hear() {
        Heard::Closed => Ok(ending),
        other => Err(format!("{ending:?}, then {other:?}")),
    }
}

fn cases() -> Vec<Case> {
    malformed::all().into_iter().filter(|case| case.sender == Sender::Client).collect()
}

/// Fires all cases, packet type by packet type; after each it asks for what a good device gets.
fn fire_all(service: &Service, cut: Cut) {
    let cases = cases();
    let mut wrong = Vec::new();
    for (batch, (packet, name, _)) in malformed::TABLES.iter().enumerate() {
        for case in cases.iter().filter(|case| case.packet == *packet) {
            let ended = fire(service, case, cut);
            if ended.as_ref() != Ok(&case.ending()) {
                wrong.push(format!("{} [{}]: expected {:?}, got {ended:?}", case.name, case.clause, case.ending()));
            }
        }
        let mut good = Device::connect(service.mqtt(), VERSIONS[batch % 3], "good");
        good.deliver(1, "good", name.as_bytes());
        good.leave();
        assert_eq!(service.get("/healthz").expect("an answer").0, 200);
    }
    assert!(wrong.is_empty(), "{}\n{} of {} wrong, sent {cut:?}", wrong.join("\n"), wrong.len(), cases.len());
}

/// [MQTT-3.1.4-1] [MQTT-3.14.0-1] [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.1-1] [MQTT-4.13.2-1] [3.1.1 MQTT-3.1.4-1]
/// [3.1.1 MQTT-4.8.0-1]
#[test]
fn every_malformed_packet_ends_as_the_table_says() {
    let service = Service::start(&config(SINK));
    // What the service opens once and keeps is open after this.
    Device::connect(service.mqtt(), Version::V5, "good").deliver(1, "good", b"first");
    until_metric(&service, "connections", 0);
    let before = descriptors(&service);
    fire_all(&service, Cut::Whole);
    fire_all(&service, Cut::Bytes);
    assert_eq!(metric(&service, "connections_closed_total{reason=\"protocol_error\"}"), 2 * cases().len() as u64);
    until_metric(&service, "connections", 0);
    until("the descriptors to be given back", || descriptors(&service) <= before);
    assert_eq!(metric(&service, "partial_packet_bytes"), 0);
    assert_eq!(texts(service.embedded(), "good").len(), 1 + 2 * malformed::TABLES.len());
}

/// What was good before it is answered: all that came ahead of the malformed packet in the same segment counts.
#[test]
fn what_came_before_a_malformed_packet_is_taken() {
    let service = Service::start(&config(SINK));
    for (n, case) in cases().iter().filter(|case| case.packet != PacketType::Connect).enumerate() {
        let properties: &[u8] = if case.version == Version::V5 { &[0] } else { &[] };
        let body = [b"\x00\x04good\x00\x01", properties, b"x"].concat();
        let mut device = Device::connect(service.mqtt(), case.version, "before");
        device.try_say_bytes(&[&[0x32, body.len() as u8], &body[..], &case.bytes].concat());
        device.until_closed();
        assert_eq!(metric(&service, "publishes_received_total{qos=\"1\"}"), n as u64 + 1, "{}", case.name);
    }
    let taken = metric(&service, "publishes_received_total{qos=\"1\"}");
    until_metric(&service, "sink_records_out_total{result=\"delivered\"}", taken);
    assert_eq!(texts(service.embedded(), "good").len() as u64, taken);
}

/// All at once, and none of them after a CONNECT: connections that end while others begin.
#[test]
fn a_hail_of_malformed_packets_at_the_door() {
    let service = Service::start(&config(SINK));
    let cases = cases();
    let mut open = Vec::new();
    for case in &cases {
        let mut device = Device::open(service.mqtt(), case.version);
        device.try_say_bytes(&case.bytes);
        open.push(device);
    }
    let mut good = Device::connect(service.mqtt(), Version::V5, "good");
    (1..=50).for_each(|n| good.deliver(n, "good", b"x"));
    // What a CONNECT is answered with, in whichever version it names, is the other test's.
    open.iter_mut().for_each(Device::until_closed);
    good.leave();
    until_metric(&service, "connections", 0);
    assert_eq!(metric(&service, "connects_total{result=\"refused\"}"), cases.len() as u64);
}
