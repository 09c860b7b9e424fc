//! What a client may hold: connections of a listener, of an address, of those that say nothing, and client ids that are
//! taken over again and again.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use forebay::mqtt::packet::{Connect, Packet, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property};

use crate::auth::{auth, passwd, with_auth};
use crate::device::{Device, Heard, hello, properties, puback};
use crate::process::{metric, until, until_metric};
use crate::support::service::{Service, config, config_with};
use crate::support::temp_dir;

/// X49: too many connections without CONNECT.
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

/// X47, X50: on two shards, between which connections move: a connection that ends makes room on either shard.
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

/// X51: takeovers of one client ID.
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

/// X47: on two shards: the listener keeps to its rate, no connection is refused, and all are accepted in the end.
#[test]
fn a_listener_accepts_so_many_in_a_second() {
    let text = config_with("shards = 2", "");
    let place = "transport = \"tcp\"\n";
    let service = Service::start(&text.replacen(place, &format!("{place}connect_rate = 20\n"), 1));
    let began = Instant::now();
    let mut devices: Vec<Device> = (0..60).map(|_| Device::open(service.mqtt(), Version::V5)).collect();
    for (number, device) in devices.iter_mut().enumerate() {
        device.say(&Packet::Connect(hello(Version::V5, &format!("d{number}"))));
    }
    assert!(metric(&service, "connections_accepted_total") < 40, "the others wait in the kernel's queue");
    devices.iter_mut().for_each(|device| drop(device.welcome()));
    // 60 at 20 a second, two of them at once.
    let took = began.elapsed();
    assert!((Duration::from_millis(2_500)..Duration::from_secs(20)).contains(&took), "{took:?}");
    assert!(metric(&service, "accept_pauses_total") >= 50);
    devices.iter_mut().for_each(|device| device.deliver(1, "t", b"x"));
    let events = service.get("/api/v1/events?limit=100").expect("events").1;
    assert_eq!(events.matches("\"connect_rate_reached\"").count(), 1, "{events}");
    // Without a rate they come as they are.
    let file = service.dir().join("forebay.toml");
    let with = fs::read_to_string(&file).expect("the configuration");
    fs::write(&file, with.replace("connect_rate = 20\n", "")).expect("written");
    service.signal("HUP");
    until("the reload", || service.log().contains("configuration reloaded"));
    let pauses = metric(&service, "accept_pauses_total");
    let mut more: Vec<Device> =
        (0..100).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("m{n}"))).collect();
    more.iter_mut().for_each(|device| device.deliver(1, "t", b"x"));
    assert_eq!(metric(&service, "accept_pauses_total"), pauses);
    // And with one again.
    fs::write(&file, with).expect("written");
    service.signal("HUP");
    until("the reload", || service.log().matches("configuration reloaded").count() == 2);
    let mut last: Vec<Device> =
        (0..10).map(|n| Device::connect(service.mqtt(), Version::V5, &format!("l{n}"))).collect();
    last.iter_mut().for_each(|device| device.deliver(1, "t", b"x"));
    assert!(metric(&service, "accept_pauses_total") > pauses);
}

/// X50: failed logins of an address.
#[test]
fn an_address_that_guesses_passwords_is_closed_before_anything_is_read() {
    let dir = temp_dir();
    passwd(&dir.path().join("passwords"), &["--generate", "ada"], "");
    let limit = "[mqtt]\nfailures_per_address = 5\n";
    let service = Service::start(&with_auth(&config_with(
        "shards = 2",
        &format!("{}chain = [\"password\"]\n{limit}", auth(dir.path(), "")),
    )));
    let mut device = Device::open(service.mqtt(), Version::V5);
    for _ in 0..5 {
        let mut guess = Device::open(service.mqtt(), Version::V5);
        let (user, password) = (Some("ada"), Some(&b"guess"[..]));
        guess.say(&Packet::Connect(Connect { username: user, password, ..hello(Version::V5, "g") }));
        assert!(matches!(guess.hear(), Heard::ConnAck(hello) if hello.code == 0x86));
    }
    for _ in 0..10 {
        assert_eq!(Device::open(service.mqtt(), Version::V5).hear(), Heard::Closed);
    }
    until_metric(&service, "connections_closed_total{reason=\"failures_per_address\"}", 10);
    let events = service.get("/api/v1/events?limit=100").expect("events").1;
    assert_eq!(events.matches("\"address_closed\"").count(), 1, "{events}");
    // Who was there before is not closed, and nothing is left of the others.
    device.say_bytes(&[0x10]);
    until_metric(&service, "connections", 1);
}

/// Ada and Bob, with these limits for each.
fn with_limits(dir: &Path, limits: &str) -> Service {
    let file = dir.join("passwords");
    for user in ["ada", "bob"] {
        passwd(&file, &["--scram", user], "secret");
    }
    let limits = format!("[auth.devices.limits]\n{limits}\n");
    Service::start(&with_auth(&config_with(
        "shards = 2",
        &format!("{}chain = [\"password\", \"anonymous\"]\n{limits}", auth(dir, "")),
    )))
}

fn as_user<'a>(user: &'a str, id: &'a str) -> Connect<'a> {
    Connect { username: Some(user), password: Some(b"secret"), ..hello(Version::V5, id) }
}

fn refused(service: &Service, connect: &Connect<'_>) -> u8 {
    let mut device = Device::open(service.mqtt(), connect.version);
    device.say(&Packet::Connect(connect.clone()));
    match device.hear() {
        Heard::ConnAck(hello) => hello.code,
        other => panic!("{other:?}"),
    }
}

/// X52: connections of a user.
#[test]
fn a_user_has_so_many_connections() {
    let dir = temp_dir();
    let service = with_limits(dir.path(), "connections = 3");
    let to = service.mqtt();
    for round in 0..3 {
        let ids = ["one", "two", "three"];
        let mut devices = ids.map(|id| Device::connect_as(to, &as_user("ada", id)).0);
        assert_eq!(refused(&service, &as_user("ada", "four")), 0x97, "{round}");
        assert_eq!(refused(&service, &Connect { version: Version::V311, ..as_user("ada", "four") }), 3);
        // Another user, and clients without a name, have limits of their own; a reconnecting client is not refused because of its old connection.
        Device::connect_as(to, &as_user("bob", "five")).0.deliver(1, "t", b"x");
        Device::connect(to, Version::V5, "six").deliver(1, "t", b"x");
        devices[1] = Device::connect_as(to, &as_user("ada", "two")).0;
        assert_eq!(refused(&service, &as_user("ada", "four")), 0x97);
        devices.iter_mut().for_each(|device| device.deliver(1, "t", b"x"));
        drop(devices);
        until_metric(&service, "connections", 0);
    }
}

/// X52: on both shards together, and after a restart.
#[test]
fn a_user_keeps_so_many_sessions() {
    let dir = temp_dir();
    let mut service = with_limits(dir.path(), "sessions = 3\n[spool]\nbytes_max = \"256MiB\"");
    let expiry = properties([Property::SessionExpiryInterval(3_600)]);
    let keeping = |user, id: &'static str| Connect {
        properties: expiry.as_properties(),
        clean_start: false,
        ..as_user(user, id)
    };
    let (_, old) = ["one", "two", "three"]
        .map(|id| Device::connect_as(service.mqtt(), &keeping("ada", id)))
        .into_iter()
        .last()
        .expect("three");
    assert!(!old.session_present);
    for round in 0..2 {
        for id in ["four", "five", "six", "seven"] {
            assert_eq!(refused(&service, &keeping("ada", id)), 0x97, "{round} {id}");
            let older = Connect { version: Version::V311, properties: Properties::EMPTY, ..keeping("ada", id) };
            assert_eq!(refused(&service, &older), 3);
            Device::connect_as(service.mqtt(), &as_user("ada", id)).0.deliver(1, "t", b"x");
        }
        let (mut back, hello) = Device::connect_as(service.mqtt(), &keeping("ada", "two"));
        back.deliver(1, "t", b"x");
        assert!(hello.session_present, "{round}");
        Device::connect_as(service.mqtt(), &keeping("bob", "bob")).0.deliver(1, "t", b"x");
        if round == 0 {
            service.kill9();
            service.start_again();
        }
    }
    let events = service.get("/api/v1/events?limit=100").expect("events").1;
    assert!(events.contains("its user has as many kept sessions as it may"), "{events}");
}

/// X53: all publishes are taken, none faster than it may; other users are not held back.
#[test]
fn a_user_publishes_so_much_in_a_second() {
    for limits in ["messages_s = 100", "bytes_s = \"10KiB\""] {
        let dir = temp_dir();
        let service = with_limits(dir.path(), limits);
        let to = service.mqtt();
        let mut devices = ["one", "two"].map(|id| Device::connect_as(to, &as_user("ada", id)).0);
        let (mut bob, _) = Device::connect_as(to, &as_user("bob", "bob"));
        let began = Instant::now();
        for round in 0..2 {
            for number in 1..=200 {
                for device in &mut devices {
                    device.publish(QoS::AtLeastOnce, number, "t", &[b'x'; 91]);
                }
            }
            if round == 0 {
                until("it is held back", || metric(&service, "connections_paused") > 0);
                let asked = Instant::now();
                (1..=20).for_each(|number| bob.deliver(number, "t", b"x"));
                assert!(asked.elapsed() < Duration::from_secs(2), "Bob waits, too");
            }
            for device in &mut devices {
                (1..=200).for_each(|number| assert_eq!(device.hear(), puback(number)));
            }
        }
        // The first 400 messages of about 100 bytes may be read at once; at 100 a second, with a second's worth at once, they are
        // paid for after three. Before that nothing of the second 400 is read.
        let took = began.elapsed();
        assert!((Duration::from_millis(2_500)..Duration::from_secs(20)).contains(&took), "{limits}: {took:?}");
        assert!(metric(&service, "rate_pauses_total") > 0);
        until_metric(&service, "connections_paused", 0);
        devices.iter_mut().for_each(Device::ping);
        // One that is held back may be ended, and the service, too.
        (1..=200).for_each(|number| devices[0].publish(QoS::AtLeastOnce, number, "t", &[b'x'; 91]));
        until_metric(&service, "connections_paused", 1);
        let [held, _other] = devices;
        drop(held);
    }
}

/// X52: bytes of a session and of a will.
#[test]
fn a_session_and_a_will_have_so_many_bytes() {
    let dir = temp_dir();
    let service = with_limits(dir.path(), "session_bytes = \"1KiB\"\nwill_bytes = \"200B\"");
    let will =
        |payload| Will { qos: QoS::AtMostOnce, retain: false, topic: "w", payload, properties: Properties::EMPTY };
    let with = |payload| Connect { will: Some(will(payload)), ..as_user("ada", "a") };
    Device::connect_as(service.mqtt(), &with(&[b'x'; 198]));
    assert_eq!(refused(&service, &with(&[b'x'; 200])), 0x97);
    assert_eq!(refused(&service, &as_user("ada", &"i".repeat(1_100))), 0x97);
    Device::connect_as(service.mqtt(), &as_user("ada", &"i".repeat(900)));
}
