//! What a client may hold: connections of a listener, of an address, of those that say nothing, and client ids that are
//! taken over again and again.

use forebay::mqtt::packet::Version;

use crate::device::{Device, Heard, hello};
use crate::process::{metric, until, until_metric};
use crate::support::service::{Service, config, config_with};

use forebay::mqtt::packet::Packet;

#[test]
fn silent_connections_make_room_for_others() {
    let service = Service::start(&config("[mqtt]\nunauthenticated_max = 16\nconnect_timeout = \"60s\"\n"));
    let silent: Vec<Device> = (0..100).map(|_| Device::open(service.mqtt(), Version::V5)).collect();
    until_metric(&service, "connections_closed_total{reason=\"unauthenticated_max\"}", 84);
    until_metric(&service, "connections_unauthenticated", 16);
    // Devices that send CONNECT at once are admitted all the same.
    let mut devices: Vec<Device> =
        (0..40).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("d{n}"))).collect();
    devices.iter_mut().for_each(|device| device.deliver(1, "t", b"x"));
    assert!(metric(&service, "connections_unauthenticated") <= 16);
    drop(silent);
    until_metric(&service, "connections", 40);
    assert_eq!(metric(&service, "connections_unauthenticated"), 0);
}

/// On two shards, between which connections move: a connection that ends makes room on either shard.
#[test]
fn a_listener_and_an_address_have_so_many() {
    for (limit, reason) in [
        ("connections_max = 6\n", "connections_max"),
        ("[mqtt]\nconnections_per_address = 6\n", "connections_per_address"),
    ] {
        let text = config_with("shards = 2", "");
        let place = "transport = \"tcp\"\n";
        let service = Service::start(&text.replacen(place, &format!("{place}{limit}"), 1));
        let closed = format!("connections_closed_total{{reason=\"{reason}\"}}");
        for round in 1..=3 {
            let mut devices: Vec<Device> =
                (0..6).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("{round}-{n}"))).collect();
            let mut one_more = Device::open(service.mqtt(), Version::V5);
            assert_eq!(one_more.hear(), Heard::Closed, "{reason}");
            until_metric(&service, &closed, round);
            // One that goes makes room for one.
            drop(devices.pop());
            until_metric(&service, "connections", 5);
            devices.push(Device::connect(service.mqtt(), Version::V5, "again"));
            devices.iter_mut().for_each(|device| device.deliver(1, "t", b"x"));
            drop(devices);
            until_metric(&service, "connections", 0);
        }
    }
}

#[test]
fn two_devices_with_one_id_do_not_fight_for_ever() {
    let service = Service::start(&config("[mqtt]\ntakeovers_max = 5\n"));
    let mut last = Device::connect(service.mqtt(), Version::V5, "twin");
    for _ in 0..5 {
        let next = Device::connect(service.mqtt(), Version::V5, "twin");
        assert_eq!(last.hear(), Heard::Disconnect(0x8e));
        last = next;
    }
    for (version, code) in [(Version::V5, 0x9f), (Version::V311, 3)] {
        let mut refused = Device::open(service.mqtt(), version);
        refused.say(&Packet::Connect(hello(version, "twin")));
        match refused.hear() {
            Heard::ConnAck(hello) => assert_eq!(hello.code, code),
            other => panic!("{other:?}"),
        }
    }
    // The one that has the session keeps it, and other clients are not affected.
    last.deliver(1, "t", b"x");
    Device::connect(service.mqtt(), Version::V5, "other").deliver(1, "t", b"x");
    until("an event", || {
        service.get("/api/v1/events?limit=50").is_ok_and(|(_, body)| body.contains("taken over again"))
    });
}
