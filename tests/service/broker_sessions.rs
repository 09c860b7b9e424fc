//! `[broker]`: kept sessions and their waiting messages are in Kafka, and survive the loss of the machine.

use std::fs;

use forebay::mqtt::FilterBuf;
use forebay::mqtt::packet::{Connect, Packet, PacketType, QoS, Subscribe, SubscriptionOptions, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};

use crate::broker::{Names, message, next};
use crate::device::{Device, Heard, bytes, hello, properties};
use crate::process::{metric, until};
use crate::support::kafka::Kafka;
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

/// Hears all of these, each once and in whatever order, and before them nothing but what is `known`: of what was acknowledged in the last 50 ms.
fn has_had(device: &mut Device, wanted: &[(String, String)], known: &[(String, String)]) {
    let mut missing = wanted.to_vec();
    while !missing.is_empty() {
        let got = next(device);
        assert!(missing.contains(&got) || known.contains(&got), "{got:?}");
        missing.retain(|one| *one != got);
    }
}

/// Waits until the instance has nothing that the next one would read again.
fn until_settled(service: &Service) {
    until("all to be settled", || {
        metric(service, "source_open_messages") == 0 && metric(service, "source_lag_records") == 0
    });
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
        // They are in different partitions: each comes when it has been read.
        let (mut has_first, mut released) = (false, None);
        let mut is_released = false;
        while !(has_first && is_released) {
            match device.hear() {
                Heard::Message(1, packet_id, ..) if !has_first => {
                    device.acknowledge(PacketType::PubAck, packet_id);
                    has_first = true;
                }
                Heard::Message(2, packet_id, ..) if released.is_none() => {
                    device.acknowledge(PacketType::PubRec, packet_id);
                    released = Some(packet_id);
                }
                Heard::Answer(PacketType::PubRel, packet_id, 0) if released == Some(packet_id) => is_released = true,
                other => panic!("{other:?}"),
            }
        }
        let released = released.expect("it came");
        device.vanish();
        until_settled(&service);
        lose_machine(&mut service);
        let taken = service.log().matches("took over the log of sessions").count();
        assert_eq!(taken, 1, "{}", service.log());
        for id in &ids {
            let (mut device, hello) = Device::connect_as(service.mqtt(), &kept(id, &expiry));
            assert!(hello.session_present, "{id}");
            if id == "client-0" {
                assert_eq!(device.hear(), Heard::Answer(PacketType::PubRel, released, 0));
                device.acknowledge(PacketType::PubComp, released);
            } else {
                has_had(&mut device, &[message("to/all", "first"), message(&format!("to/{id}"), "own")], &[]);
            }
        }
        // Subscriptions are there, too.
        let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(1, "to/all", b"second");
        let (mut device, _) = Device::connect_as(service.mqtt(), &kept("client-0", &expiry));
        has_had(&mut device, &[message("to/all", "second")], &[message("to/all", "first")]);
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
    has_had(&mut device, &[message("a", "two")], &[message("a", "one")]);
}

/// Z34: the topic of sessions has kept sessions. That clients come and go is written by a rule, for those without a kept session as well.
#[test]
fn finding_q54_a_rule_records_that_clients_come_and_go() {
    let names = Names::new("visits");
    let visits = format!("{}-visits", names.group);
    let rule = format!(
        "[[rule]]\nname = \"visits\"\nsinks = [\"visits\"]\n\
         sql = '''SELECT event, clientid FROM \"$events/client/connected\", \"$events/session/subscribed\", \"$events/client/disconnected\"'''\n\
         [[sink]]\nname = \"visits\"\ntopic = \"{visits}\"\n"
    );
    let service = Service::start(&config(&names.config(&rule)));
    let expiry = hour();
    let (mut device, _) = Device::connect_as(service.mqtt(), &kept("is-kept", &expiry));
    assert_eq!(device.subscribe(&[("a", QoS::AtLeastOnce)]), [1]);
    device.leave();
    Device::connect(service.mqtt(), Version::V5, "is-not-kept").leave();
    let wanted = [
        "is-kept client.connected",
        "is-kept client.disconnected",
        "is-kept session.subscribed",
        "is-not-kept client.connected",
        "is-not-kept client.disconnected",
    ];
    let rows = || {
        let value = |line: &String| -> Option<serde_json::Value> { serde_json::from_str(line.split('|').nth(1)?).ok() };
        let said = |row: serde_json::Value| Some(format!("{} {}", row["clientid"].as_str()?, row["event"].as_str()?));
        let mut rows: Vec<String> = names.read(&visits).iter().filter_map(value).filter_map(said).collect();
        rows.sort_unstable();
        rows
    };
    until("a record of each", || rows().len() >= wanted.len());
    assert_eq!(rows(), wanted);
    // The log of a session has its client identifier.
    let sessions = names.read(&names.sessions).join("\n");
    assert!(sessions.contains("is-kept") && !sessions.contains("is-not-kept"), "{sessions}");
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
    let (mut late, mut told) = (Device::open(first.mqtt(), Version::V5), false);
    let second = Service::start(&text);
    // It finds out with its next record, if it has not by now, and tells nobody that it was kept.
    late.try_say_bytes(&bytes(Version::V5, &Packet::Connect(kept("late", &expiry))));
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
}

/// A known client that comes back to the process that has lost the topic is not welcomed there: CONNACK waits for a record that Kafka refuses (C3).
#[test]
fn a_known_client_is_not_welcomed_where_its_session_is_not_any_more() {
    let names = Names::new("beat");
    let text = config_with("shards = 2", &names.config(""));
    let mut first = Service::start(&text);
    let expiry = hour();
    let ids: Vec<String> = (0..8).map(|number| format!("client-{number}")).collect();
    for id in &ids {
        Device::connect_as(first.mqtt(), &kept(id, &expiry)).0.vanish();
    }
    let mut devices: Vec<_> = ids.iter().map(|_| Device::open(first.mqtt(), Version::V5)).collect();
    let second = Service::start(&text);
    for (device, id) in devices.iter_mut().zip(&ids) {
        device.try_say_bytes(&bytes(Version::V5, &Packet::Connect(kept(id, &expiry))));
    }
    for (mut device, id) in devices.into_iter().zip(&ids) {
        let heard = device.hear();
        assert!(matches!(heard, Heard::Closed), "{id}: {heard:?} of a process that has lost its sessions");
    }
    assert!(!first.wait().success());
    for id in &ids {
        assert!(Device::connect_as(second.mqtt(), &kept(id, &expiry)).1.session_present, "{id}");
    }
}

/// Rows of sinks stay in the spool beside it, and sessions are in Kafka: without the disk the latter come back.
#[test]
fn sinks_with_a_spool_work_beside_it() {
    let names = Names::new("beside");
    let sink = format!(
        "[spool]\nbytes_max = \"256MiB\"\n[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"{}-all\"\n",
        names.group
    );
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

/// Another number of shards: each slot has its sessions, whichever shard has the slot, on any machine.
#[test]
fn sessions_are_there_with_another_number_of_shards() {
    let names = Names::new("move");
    let expiry = hour();
    let ids: Vec<String> = (0..12).map(|number| format!("client-{number}")).collect();
    let mut published = Vec::new();
    for (round, shards) in [2, 3, 1].into_iter().enumerate() {
        let service = Service::start(&config_with(&format!("shards = {shards}"), &names.config("")));
        for id in &ids {
            let (mut device, hello) = Device::connect_as(service.mqtt(), &kept(id, &expiry));
            assert_eq!(hello.session_present, round > 0, "{id} with {shards} shards");
            if round == 0 {
                assert_eq!(device.subscribe(&[("to/all", QoS::AtLeastOnce)]), [1]);
            } else {
                has_had(&mut device, &published[round - 1..], &published);
            }
            device.vanish();
        }
        let text = format!("round {round}");
        published.push(message("to/all", &text));
        let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
        publisher.deliver(1, "to/all", text.as_bytes());
        until_settled(&service);
        // The next one begins with an empty data directory, as this one did.
        let mut service = service;
        service.kill9();
    }
}

/// While Kafka is away nobody is told that a session is kept, or still is; what waited is told when it is back, and CONNACK waits for `connect_timeout` at most.
#[test]
fn what_is_told_waits_for_kafka() {
    let kafka = Kafka::start(&[]);
    let names = Names { kafka: kafka.bootstrap().to_owned(), ..Names::new("waits") };
    let mut service = Service::start(&config(&names.config("[mqtt]\nconnect_timeout = \"5m\"\n")));
    let expiry = hour();
    let (mut known, _) = Device::connect_as(service.mqtt(), &kept("known", &expiry));
    Device::connect_as(service.mqtt(), &kept("back", &expiry)).0.vanish();
    until("one to have left", || metric(&service, "connections") == 1);
    until("all to be written", || metric(&service, "session_log_waiting_records") == 0);
    kafka.command(&["freeze", "1"]);
    let mut back = Device::open(service.mqtt(), Version::V5);
    back.say_bytes(&bytes(Version::V5, &Packet::Connect(kept("back", &expiry))));
    until("CONNACK of a known session to wait", || metric(&service, "held_answer_bytes") > 0);
    let held = metric(&service, "held_answer_bytes");
    let mut new = Device::open(service.mqtt(), Version::V5);
    new.say_bytes(&bytes(Version::V5, &Packet::Connect(kept("new", &expiry))));
    until("CONNACK to wait", || metric(&service, "held_answer_bytes") > held);
    known.say_bytes(&subscribe("a"));
    until("its records to wait", || metric(&service, "session_log_waiting_records") > 0);
    kafka.command(&["thaw", "1"]);
    assert!(!new.welcome().session_present);
    assert!(back.welcome().session_present);
    assert_eq!(known.hear(), Heard::Codes(PacketType::SubAck, 9, vec![1]));
    assert!(metric(&service, "session_log_batches_total") > 0);
    // What was told is there.
    lose_machine(&mut service);
    for id in ["new", "known"] {
        assert!(Device::connect_as(service.mqtt(), &kept(id, &expiry)).1.session_present, "{id}");
    }
    drop(service);
    connack_gives_up(&kafka, &expiry);
}

/// CONNACK that has waited for Kafka for `connect_timeout` is a refusal, and the will that came with its CONNECT is none.
fn connack_gives_up(kafka: &Kafka, expiry: &PropertyBuf) {
    let names = Names { kafka: kafka.bootstrap().to_owned(), ..Names::new("gives-up") };
    let service = Service::start(&config(&names.config("[mqtt]\nconnect_timeout = \"2s\"\n")));
    let will =
        Will { topic: "wills", payload: b"none", qos: QoS::AtLeastOnce, retain: false, properties: Properties::EMPTY };
    let none = PropertyBuf::new();
    let connect = |version, id| Connect {
        clean_start: false,
        properties: if version == Version::V5 { expiry } else { &none }.as_properties(),
        will: Some(will.clone()),
        ..hello(version, id)
    };
    let open = |version, id| {
        let mut device = Device::open(service.mqtt(), version);
        device.say_bytes(&bytes(version, &Packet::Connect(connect(version, id))));
        device
    };
    let code = |mut device: Device| match device.hear() {
        Heard::ConnAck(hello) => (device, hello.code),
        other => panic!("{other:?}"),
    };
    let is_welcome = |version, id| {
        let (mut device, code) = code(open(version, id));
        if code == 0 {
            device.leave();
        } else {
            device.until_closed();
        }
        code == 0
    };
    let mut subscriber = Device::connect(service.mqtt(), Version::V5, "subscriber");
    assert_eq!(subscriber.subscribe(&[("wills", QoS::AtLeastOnce)]), [1]);
    let versions = [(Version::V5, "known-5", "new-5", 0x88), (Version::V311, "known-3", "new-3", 3)];
    for (version, known, ..) in versions {
        // On a busy machine it may take longer than that with Kafka, too.
        until("a session", || is_welcome(version, known));
    }
    kafka.command(&["freeze", "1"]);
    for (version, known, new, refused) in versions {
        for id in [known, new] {
            let (mut device, code) = code(open(version, id));
            assert_eq!(code, refused, "{id}");
            device.until_closed();
        }
    }
    kafka.command(&["thaw", "1"]);
    for (version, known, ..) in versions {
        until("its session again", || is_welcome(version, known));
    }
    let mut publisher = Device::connect(service.mqtt(), Version::V5, "publisher");
    publisher.deliver(1, "wills", b"last");
    assert_eq!(next(&mut subscriber), message("wills", "last"));
}

pub(crate) fn subscribe(filter: &str) -> Vec<u8> {
    let mut list = FilterBuf::for_subscribe();
    assert!(list.push(filter, SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() }));
    let packet = Subscribe { packet_id: 9, properties: Properties::EMPTY, filters: list.as_filters() };
    bytes(Version::V5, &Packet::Subscribe(packet))
}
