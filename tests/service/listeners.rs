//! Listeners come, change and go while the service runs; only connections on a removed one are closed.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};

use forebay::mqtt::packet::{QoS, Version};
use serde_json::json;

use crate::change::{change, get};
use crate::device::{Device, Heard};
use crate::process::{metric, until};
use crate::records::read_when;
use crate::support::service::{Service, config_with};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = \"#\"\ntopic = \"all\"\n";

fn free() -> SocketAddr {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    port.local_addr().expect("its address")
}

fn connections(service: &Service) -> Vec<(String, u64)> {
    let listeners = get(service, "listeners");
    let all = listeners["listeners"].as_array().expect("a list").iter();
    all.map(|one| (one["address"].as_str().expect("text").to_owned(), one["connections"].as_u64().expect("a number")))
        .collect()
}

#[test]
fn listeners_come_change_and_go_and_only_their_own_clients_with_them() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let crowd = |at: SocketAddr, name: &str| -> Vec<Device> {
        (0..6).map(|n| Device::connect(at, Version::V5, &format!("{name}-{n}"))).collect()
    };
    let mut first = crowd(service.mqtt(), "first");
    let second = free();
    let made = change(&service, "PUT", &format!("listeners/{second}"), &json!({}));
    assert_eq!((made.0, &made.1["applied"]), (201, &json!([format!("listener {second} (added)")])), "{made:?}");
    let mut others = crowd(second, "second");
    // One that does not speak, too, and one of 3.1.1.
    let mut silent = Device::open(second, Version::V5);
    let mut old = Device::connect(second, Version::V311, "old");
    for (n, device) in others.iter_mut().enumerate() {
        device.deliver(1, "a", n.to_string().as_bytes());
    }
    old.deliver(1, "a", b"old");
    until("all to be counted", || connections(&service) == [(service.mqtt().to_string(), 6), (second.to_string(), 8)]);

    // Another bound: who connects now has it.
    let receipts = change(&service, "PUT", &format!("listeners/{second}"), &json!({ "receipts": true }));
    assert_eq!((receipts.0, &receipts.1["applied"]), (200, &json!([format!("listener {second} (changed: receipts)")])));
    let mut late = Device::connect(second, Version::V5, "late");
    late.publish(QoS::AtLeastOnce, 1, "a", b"late");
    assert!(late.hear_with_user_properties().1.iter().any(|(name, value)| name == "kafka-topic" && value == "all"));

    // It is removed: only its own clients are disconnected.
    let gone = change(&service, "DELETE", &format!("listeners/{second}"), &json!(null));
    assert_eq!((gone.0, &gone.1["applied"]), (200, &json!([format!("listener {second} (removed)")])));
    for device in others.iter_mut().chain([&mut late]) {
        assert_eq!(device.hear(), Heard::Disconnect(0x98));
        device.until_closed();
    }
    old.until_closed();
    silent.until_closed();
    assert!(TcpStream::connect(second).is_err(), "nobody listens there");
    assert_eq!(metric(&service, "connections_closed_total{reason=\"listener_removed\"}"), 9);
    for device in &mut first {
        device.deliver(1, "a", b"first");
    }
    assert_eq!(connections(&service), [(service.mqtt().to_string(), 6)]);
    read_when(service.embedded(), "all", 14);

    // And comes back, with its numbers.
    assert_eq!(change(&service, "PUT", &format!("listeners/{second}"), &json!({})).0, 201);
    Device::connect(second, Version::V5, "again").deliver(1, "a", b"again");
}

/// A port that is taken refuses all of it.
#[test]
fn a_port_that_is_taken_changes_nothing() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (taken_at, fresh) = (taken.local_addr().expect("its address"), free());
    let file = service.dir().join("forebay.toml");
    let before = fs::read_to_string(&file).expect("the file");
    let more = format!(
        "[[listener]]\nbind = \"{fresh}\"\n[[listener]]\nbind = \"{taken_at}\"\n[[sink]]\nname = \"more\"\nfilters = \"#\"\ntopic = \"more\"\n"
    );
    fs::write(&file, format!("{before}{more}")).expect("written");
    let refused = change(&service, "POST", "reload", &json!(null));
    let detail = refused.1["detail"].as_str().unwrap_or_default();
    assert!(refused.0 == 422 && detail.contains(&taken_at.to_string()) && detail.contains("in use"), "{refused:?}");
    assert!(TcpStream::connect(fresh).is_err(), "not one of them");
    assert_eq!(get(&service, "config")["sink"].as_array().map(Vec::len), Some(1));
    drop(taken);
    let done = change(&service, "POST", "reload", &json!(null));
    assert_eq!(done.0, 200, "{done:?}");
    Device::connect(fresh, Version::V311, "one").deliver(1, "a", b"x");
    Device::connect(taken_at, Version::V311, "two").deliver(1, "a", b"x");
}
