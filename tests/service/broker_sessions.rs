//! `[broker]`: kept sessions and what waits for them are in Kafka. The machine may be gone.

use std::fs;

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};

use crate::broker::{Names, message, next};
use crate::device::{Device, Heard, hello, properties, puback};
use crate::process::{metric, until};
use crate::support::service::{Service, config, config_with};

fn hour() -> PropertyBuf {
    properties([Property::SessionExpiryInterval(3_600)])
}

fn kept<'a>(client_id: &'a str, expiry: &'a PropertyBuf) -> Connect<'a> {
    Connect { clean_start: false, properties: expiry.as_properties(), ..hello(Version::V5, client_id) }
}

/// The machine goes, with all that is on its disks; another one takes its place.
fn lose_machine(service: &mut Service) {
    service.kill9();
    fs::remove_dir_all(service.dir().join("data")).expect("it was there");
    service.start_again();
}

/// Waits until the instance has nothing that the next one would read again.
fn until_settled(service: &Service) {
    until("all to be settled", || metric(service, "source_open_messages") == 0 && metric(service, "source_lag_records") == 0);
}

/// Sessions, subscriptions, messages that wait at QoS 1 and 2, and how far an exchange of QoS 2 is, are there again on an empty machine.
#[test]
fn kept_sessions_outlive_the_machine() {
    for shards in [1, 3] {
        let names = Names::new("machine");
        let mut service = Service::start(&config_with(&format!("shards = {shards}"), &names.config("")));
        let expiry = hour();
        let ids: Vec<String> = (0..10).map(|number| format!("client-{number}")).collect();
        for id in &ids {
            let (mut device, hello) = Device::connect_as(service.mqtt(), &kept(id, &expiry));
            assert!(!hello.session_present);
            let filters = [("to/all", QoS::AtLeastOnce), (&*format!("to/{id}"), QoS::ExactlyOnce)];
            assert_eq!(device.subscribe(&filters), [1, 2]);
            device.vanish();
        }
        let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(1, "to/all", b"first");
        for id in &ids {
            publisher.publish(QoS::ExactlyOnce, 2, &format!("to/{id}"), b"own");
            assert_eq!(publisher.hear(), Heard::Answer(PacketType::PubRec, 2, 0));
            publisher.release(2);
            assert_eq!(publisher.hear(), Heard::Answer(PacketType::PubComp, 2, 0));
        }
        // One has begun to take its message at QoS 2.
        let (mut device, hello) = Device::connect_as(service.mqtt(), &kept("client-0", &expiry));
        assert!(hello.session_present);
        let mut released = 0;
        for _ in 0..2 {
            match device.hear() {
                Heard::Message(1, packet_id, ..) => device.acknowledge(PacketType::PubAck, packet_id),
                Heard::Message(2, packet_id, ..) => {
                    device.acknowledge(PacketType::PubRec, packet_id);
                    released = packet_id;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(device.hear(), Heard::Answer(PacketType::PubRel, released, 0));
        device.vanish();
        until_settled(&service);
        lose_machine(&mut service);
        let taken = service.log().matches("took over the log of sessions").count();
        assert_eq!(taken, shards, "{}", service.log());
        for id in &ids {
            let (mut device, hello) = Device::connect_as(service.mqtt(), &kept(id, &expiry));
            assert!(hello.session_present, "{id}");
            if id == "client-0" {
                assert_eq!(device.hear(), Heard::Answer(PacketType::PubRel, released, 0));
                device.acknowledge(PacketType::PubComp, released);
            } else {
                let mut got = [next(&mut device), next(&mut device)];
                got.sort();
                assert_eq!(got, [message("to/all", "first"), message(&format!("to/{id}"), "own")]);
            }
        }
        // Subscriptions are there, too.
        let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(1, "to/all", b"second");
        let (mut device, _) = Device::connect_as(service.mqtt(), &kept("client-0", &expiry));
        assert_eq!(next(&mut device), message("to/all", "second"));
    }
}

/// What has ended is not there again: a session that was ended, a subscription, a message that was acknowledged.
#[test]
fn what_is_over_does_not_come_back_with_another_machine() {
    let names = Names::new("over");
    let mut service = Service::start(&config(&names.config("")));
    let expiry = hour();
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept("stays", &expiry));
    assert_eq!(device.subscribe(&[("a", QoS::AtLeastOnce)]), [1]);
    let (ended, _) = Device::connect_as(service.mqtt(), &kept("ends", &expiry));
    ended.vanish();
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    publisher.deliver(1, "a", b"one");
    assert_eq!(next(&mut device), message("a", "one"));
    device.vanish();
    let none = PropertyBuf::new();
    let clean = Connect { clean_start: true, ..kept("ends", &none) };
    Device::connect_as(service.mqtt(), &clean).0.leave();
    publisher.deliver(1, "a", b"two");
    until_settled(&service);
    until("the end to be written", || metric(&service, "session_log_waiting_records") == 0);
    for _ in 0..3 {
        lose_machine(&mut service);
        let (device, hello) = Device::connect_as(service.mqtt(), &kept("ends", &none));
        assert!(!hello.session_present);
        device.leave();
    }
    let (mut device, hello) = Device::connect_as(service.mqtt(), &kept("stays", &expiry));
    assert!(hello.session_present);
    assert_eq!(next(&mut device), message("a", "two"));
}

/// A second process with the topic takes it over: the first one ends, in words, and its clients find their sessions at the second.
#[test]
fn a_second_process_takes_the_sessions_over() {
    let names = Names::new("second");
    let text = config(&names.config(""));
    let mut first = Service::start(&text);
    let expiry = hour();
    let (mut device, _) = Device::connect_as(first.mqtt(), &kept("kept", &expiry));
    assert_eq!(device.subscribe(&[("a", QoS::AtLeastOnce)]), [1]);
    let second = Service::start(&text);
    // It finds out with its next record, and tells nobody that it was kept.
    let (mut late, mut told) = (Device::open(first.mqtt(), Version::V5), false);
    late.try_say_bytes(&crate::device::bytes(Version::V5, &forebay::mqtt::packet::Packet::Connect(kept("late", &expiry))));
    told |= !matches!(late.hear(), Heard::Closed);
    assert!(!told, "CONNACK of a process that has lost its sessions");
    assert!(!first.wait().success());
    assert!(first.log().contains("another process has taken the log over"), "{}", first.log());
    device.until_closed();
    let (mut device, hello) = Device::connect_as(second.mqtt(), &kept("kept", &expiry));
    assert!(hello.session_present);
    let mut publisher = Device::connect(second.mqtt(), Version::V5, "publisher");
    publisher.deliver(1, "a", b"through the second");
    assert_eq!(next(&mut device), message("a", "through the second"));
    let _ = puback(1);
}

/// Rows of sinks stay in the spool beside it, and sessions are in Kafka: without the disk the latter come back.
#[test]
fn sinks_with_a_spool_work_beside_it() {
    let names = Names::new("beside");
    let sink = format!("[spool]\nbytes_max = \"256MiB\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"{}-all\"\n", names.group);
    let mut service = Service::start(&config_with("shards = 2", &names.config(&sink)));
    let expiry = hour();
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept("kept", &expiry));
    assert_eq!(device.subscribe(&[("a", QoS::AtLeastOnce)]), [1]);
    device.vanish();
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    publisher.deliver(1, "a", b"one");
    until_settled(&service);
    until("the sink to be empty", || metric(&service, "sink_spooled_records{sink=\"all\"}") == 0);
    service.kill9();
    service.start_again();
    let (mut device, hello) = Device::connect_as(service.mqtt(), &kept("kept", &expiry));
    assert!(hello.session_present);
    assert_eq!(next(&mut device), message("a", "one"));
    device.vanish();
    lose_machine(&mut service);
    assert!(Device::connect_as(service.mqtt(), &kept("kept", &expiry)).1.session_present);
}
