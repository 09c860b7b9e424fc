//! Accepted on any shard, owned by one: what was read moves along, whole, in order, wherever the bytes were cut.

use forebay::mqtt::packet::{Packet, QoS, Version};

use crate::device::{Device, VERSIONS, bytes, hello, puback, publish};
use crate::process::{ledger, metric, until_metric};
use crate::records::read;
use crate::support::service::{Service, config_with};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\nkey = \"${clientid}\"\n";
const PIPELINED: u16 = 20;

/// CONNECT and publishes right behind it, as one stretch of bytes.
fn opening(version: Version, id: &str) -> Vec<u8> {
    let mut all = bytes(version, &Packet::Connect(hello(version, id)));
    for n in 1..=PIPELINED {
        let payload = format!("{n:02}");
        all.extend(bytes(version, &Packet::Publish(publish(QoS::AtLeastOnce, n, "t", payload.as_bytes()))));
    }
    all
}

/// Every client's records in the order in which it sent them, none missing, none twice.
fn assert_recorded(service: &Service, ids: &[String]) {
    let records = read(service.embedded(), "all");
    assert_eq!(records.len(), ids.len() * usize::from(PIPELINED));
    for id in ids {
        let texts: Vec<_> = records.iter().filter(|record| record.key == *id).map(|record| record.text()).collect();
        let expected: Vec<_> = (1..=PIPELINED).map(|n| format!("{n:02}")).collect();
        assert_eq!(texts, expected, "{id}");
    }
    let recorded = records.len() as u64;
    assert_eq!(ledger(service), [recorded, recorded, 0, 0]);
}

#[test]
fn what_stands_behind_the_connect_moves_with_it() {
    for shards in [2, 3] {
        let service = Service::start(&config_with(&format!("shards = {shards}"), SINK));
        let ids: Vec<_> = (0..200).map(|n| format!("client {n}")).collect();
        let open = |(&version, id): (&Version, &String)| {
            let mut device = Device::open(service.mqtt(), version);
            device.say_bytes(&opening(version, id));
            device
        };
        let mut devices: Vec<_> = VERSIONS.iter().cycle().zip(&ids).map(open).collect();
        for device in &mut devices {
            device.welcome();
            assert_eq!(device.hear_all(PIPELINED.into()), (1..=PIPELINED).map(puback).collect::<Vec<_>>());
        }
        let (accepted, moved) =
            (metric(&service, "connections_accepted_total"), metric(&service, "connections_handed_over_total"));
        // Half of them, or two thirds, give or take.
        assert!(accepted == 200 && (40..=180).contains(&moved), "{moved} of {accepted} moved");
        assert_eq!(metric(&service, "connections_closed_total{reason=\"handover_failed\"}"), 0);
        assert_eq!((metric(&service, "connections"), metric(&service, "sessions")), (200, 200));
        assert_recorded(&service, &ids);
        devices.into_iter().for_each(Device::leave);
        until_metric(&service, "connections", 0);
    }
}

/// One connection for each place where the opening can be cut, and the service has seen all first parts before any
/// second part is sent.
#[test]
fn the_opening_may_be_cut_at_every_byte() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let mut ids = Vec::new();
    for version in VERSIONS {
        let name = |cut: usize| format!("{version:?} {cut:03}");
        let length = opening(version, &name(0)).len();
        let seen = metric(&service, "mqtt_received_bytes_total");
        let devices: Vec<_> = (1..length)
            .map(|cut| {
                let mut device = Device::open(service.mqtt(), version);
                device.say_bytes(&opening(version, &name(cut))[..cut]);
                (cut, device)
            })
            .collect();
        let first_parts: usize = (1..length).sum();
        until_metric(&service, "mqtt_received_bytes_total", seen + first_parts as u64);
        for (cut, mut device) in devices {
            device.say_bytes(&opening(version, &name(cut))[cut..]);
            device.welcome();
            assert_eq!(device.hear_all(PIPELINED.into()), (1..=PIPELINED).map(puback).collect::<Vec<_>>());
            device.leave();
            ids.push(name(cut));
        }
    }
    assert!(metric(&service, "connections_handed_over_total") > 100);
    assert_recorded(&service, &ids);
    assert_eq!(metric(&service, "partial_packet_bytes"), 0);
}
