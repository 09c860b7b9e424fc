//! Many connections: what they cost while idle, and what hostile ones can make the service hold.

use std::time::Duration;

use forebay::mqtt::packet::{QoS, Version};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::device::{Device, Heard, VERSIONS, puback};
use crate::drain::warm;
use crate::process::{cpu_time, descriptors, metric, resident_bytes, until, until_metric};
use crate::support::service::{Service, config, config_with};

/// Room for that many sockets in this process.
fn allow_sockets(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|files| files >= count + 500);
    if !enough(limit.current) {
        assert!(enough(limit.maximum), "this test opens {count} sockets: raise the limit on open files (ulimit -Hn)");
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("soft to hard");
    }
}

#[test]
fn idle_connections_cost_little_memory_and_no_time() {
    const COUNT: usize = 2_000;
    allow_sockets(COUNT as u64);
    let service = Service::start(&config_with("shards = 2", ""));
    let connect = |n: usize| {
        let mut device = Device::connect(service.mqtt(), VERSIONS[n % 3], &format!("client {n:05}"));
        device.publish(QoS::AtLeastOnce, 1, "t", b"x");
        device
    };
    // What is made once is made by the first of them.
    let mut devices: Vec<_> = (0..100).map(connect).collect();
    devices.iter_mut().for_each(|device| assert_eq!(device.hear(), puback(1)));
    let before = resident_bytes(&service);
    devices.extend((100..COUNT).map(connect));
    devices[100..].iter_mut().for_each(|device| assert_eq!(device.hear(), puback(1)));
    let each = resident_bytes(&service).saturating_sub(before) / (COUNT - 100) as u64;
    println!("{each} bytes of memory for each idle connection");
    assert!(each < 8_000, "{each} bytes for each idle connection");
    assert_eq!(metric(&service, "connections"), COUNT as u64);
    // Any one quiet stretch of some will do: what spins, spins in all of them.
    let spent = |_| {
        let before = cpu_time(&service);
        std::thread::sleep(Duration::from_secs(2));
        cpu_time(&service) - before
    };
    let least = (0..4).map(spent).find(|spent| *spent < Duration::from_millis(200));
    assert!(least.is_some(), "0.2 s of CPU or more in every 2 s of idleness");
    devices.iter_mut().step_by(97).for_each(Device::ping);
}

#[test]
fn announcements_reserve_nothing() {
    const COUNT: usize = 200;
    let service = Service::start(&config(""));
    let mut good = Device::connect(service.mqtt(), Version::V5, "good");
    good.deliver(1, "t", b"x");
    let before = resident_bytes(&service);
    let mut open = Vec::new();
    for n in 0..COUNT {
        // A PUBLISH of 256 MiB, of 1 MiB (which is allowed), and a CONNECT of 256 MiB.
        let mut device = match n % 3 {
            0 | 1 => Device::connect(service.mqtt(), Version::V5, &format!("client {n}")),
            _ => Device::open(service.mqtt(), Version::V5),
        };
        let header: &[u8] =
            [&[0x32, 0xFF, 0xFF, 0xFF, 0x7F][..], &[0x32, 0xFC, 0xFF, 0x3F], &[0x10, 0xFF, 0xFF, 0xFF, 0x7F]][n % 3];
        device.try_say_bytes(&[header, &[0; 1_000]].concat());
        open.push(device);
    }
    let refused = (COUNT as u64).div_ceil(3) + COUNT as u64 / 3;
    until_metric(&service, "connections_closed_total{reason=\"protocol_error\"}", refused);
    let grown = resident_bytes(&service).saturating_sub(before);
    println!("{grown} bytes grown by {COUNT} announcements");
    assert!(grown < 16 << 20, "{grown} bytes");
    for (n, device) in open.iter_mut().enumerate() {
        match n % 3 {
            0 => assert_eq!((device.hear(), device.hear()), (Heard::Disconnect(0x95), Heard::Closed)),
            1 => {}
            _ => device.until_closed(),
        }
    }
    good.deliver(2, "t", b"x");
}

/// X49: packets that are allowed and never finished: they fill their own bound, and the connections that cross it are
/// closed.
#[test]
fn half_received_packets_have_a_bound_of_their_own() {
    const PART: usize = 900 << 10;
    let service = Service::start(&config(""));
    let mut good = Device::connect(service.mqtt(), Version::V5, "good");
    let before = resident_bytes(&service);
    let mut open = Vec::new();
    for n in 0..100 {
        let mut device = Device::connect(service.mqtt(), Version::V5, &format!("client {n}"));
        // 1 MiB less a little, of which the end never comes.
        device.try_say_bytes(&[&[0x32, 0xFC, 0xFF, 0x3F], &vec![0; PART][..]].concat());
        open.push(device);
    }
    // 64 MiB hold 72 of them.
    let bound = 64 << 20;
    let closed = 100 - (bound / PART) as u64;
    until_metric(&service, "connections_closed_total{reason=\"partial_packets\"}", closed);
    until_metric(&service, "connections", 101 - closed);
    let held = metric(&service, "partial_packet_bytes");
    assert!(held <= bound as u64, "{held} bytes of half-received packets");
    let grown = resident_bytes(&service).saturating_sub(before);
    println!("{grown} bytes grown while {held} are held");
    assert!(grown < 160 << 20, "{grown} bytes");
    good.publish(QoS::AtLeastOnce, 1, "t", &vec![1; 10_000]);
    assert_eq!(good.hear(), puback(1), "whoever finishes its packets is served");
    drop(open);
    until_metric(&service, "partial_packet_bytes", 0);
}

/// Slots, descriptors and timers are used again and again, and nothing of one connection is left to the next.
#[test]
fn connections_come_and_go() {
    const EACH: usize = 400;
    let service = Service::start(&config_with("shards = 2", ""));
    // Both shards have their connections to Kafka after this.
    warm(&service);
    until_metric(&service, "connections", 0);
    let (to, before) = (service.mqtt(), descriptors(&service));
    let visit = move |thread: usize, n: usize| {
        let version = VERSIONS[n % 3];
        let client_id = format!("{thread} {n}");
        match n % 5 {
            0 => Device::open(to, version).vanish(),
            1 => Device::open(to, version).try_say_bytes(b"\x10\x0f\x00\x04MQ"),
            2 => Device::connect(to, version, &client_id).leave(),
            3 => Device::connect(to, version, &client_id).try_publish(QoS::AtLeastOnce, 1, "t", b"x"),
            _ => Device::connect(to, version, &client_id).ping(),
        }
    };
    let threads: Vec<_> =
        (0..4).map(|thread| std::thread::spawn(move || (0..EACH).for_each(|n| visit(thread, n)))).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
    until_metric(&service, "connections_accepted_total", 2 + 4 * EACH as u64);
    until_metric(&service, "connections", 0);
    assert_eq!((metric(&service, "sessions"), metric(&service, "partial_packet_bytes")), (0, 0));
    until("the descriptors to be given back", || descriptors(&service) <= before);
}
