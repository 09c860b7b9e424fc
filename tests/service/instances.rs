//! Several instances of `[broker]` on one Kafka: each serves the clients of its slots, wherever they connect; slots move when instances come, go, die and
//! freeze.

use std::collections::BTreeSet;

use forebay::broker::router::owner;
use forebay::mqtt::packet::{Connect, Packet, QoS, Version};
use forebay::mqtt::property::{Property, PropertyBuf};

use crate::broker::{Names, message, next};
use crate::broker_once::{Taker, write_load};
use crate::device::{Device, Heard, Hello, bytes, hello, properties};
use crate::link::certificates;
use crate::process::{metric, until, until_metric};
use crate::sources_admin::forebay;
use crate::support::service::{Service, config, config_with, program};
use crate::support::temp_dir;

const SLOTS: usize = 64;
const HERE: &str = "broker_slots{state=\"here\"}";

/// The configuration of an instance, with more keys of `[broker]`.
pub(crate) fn instance(names: &Names, name: &str, more: &str) -> String {
    // The shortest session that Kafka allows by default.
    let own = format!("name = \"{}-{name}\"\nsession_timeout = \"6s\"\n{more}", names.group);
    let link = "[broker.link]\nbind = \"127.0.0.1:0\"\n";
    let text = names.config(link).replace(&format!("name = \"{}\"\n", names.group), &own);
    assert!(text.contains("session_timeout"), "{text}");
    config_with("shards = 2", &text)
}

pub(crate) fn start(names: &Names, name: &str) -> Service {
    Service::start(&instance(names, name, ""))
}

/// The slots of each instance, by its name, as one of them says.
pub(crate) fn slots_of(service: &Service, names: &Names, name: &str) -> BTreeSet<usize> {
    let answer = service.get("/api/v1/broker/slots").expect("an answer").1;
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let name = format!("{}-{name}", names.group);
    let instances = answer["instances"].as_array().expect("a list");
    let of = instances.iter().find(|of| of["name"] == name.as_str());
    let slots = of.and_then(|of| of["slots"].as_array()).into_iter().flatten();
    slots.filter_map(|slot| slot.as_u64()).map(|slot| slot as usize).collect()
}

/// Waits until each instance has its number of slots, and all of them know it.
pub(crate) fn until_served(names: &Names, services: &[(&str, &Service)], counts: &[usize]) {
    until(&format!("{counts:?} slots"), || {
        services.iter().all(|(_, knows)| {
            services.iter().zip(counts).all(|((name, _), count)| slots_of(knows, names, name).len() == *count)
        })
    });
}

pub(crate) fn hour() -> PropertyBuf {
    properties([Property::SessionExpiryInterval(3_600)])
}

pub(crate) fn kept<'a>(client_id: &'a str, expiry: &'a PropertyBuf) -> Connect<'a> {
    Connect { clean_start: false, properties: expiry.as_properties(), ..hello(Version::V5, client_id) }
}

/// Client identifiers of these slots.
pub(crate) fn clients_of(slots: &BTreeSet<usize>, count: usize) -> Vec<String> {
    let all = (0..).map(|number| format!("client-{number}"));
    all.filter(|id| slots.contains(&owner(id, SLOTS))).take(count).collect()
}

/// Connects again and again until an instance serves the client: slots may be on their way.
pub(crate) fn connect(service: &Service, connect: &Connect<'_>) -> (Device, Hello) {
    let mut connected = None;
    until("to be welcome", || {
        let mut device = Device::open(service.mqtt(), connect.version);
        device.try_say_bytes(&bytes(connect.version, &Packet::Connect(connect.clone())));
        if let Heard::ConnAck(hello) = device.hear()
            && hello.code == 0
        {
            connected = Some((device, hello));
        }
        connected.is_some()
    });
    connected.expect("connected")
}

/// Z4, Z26: a client that connects at another instance than that of its slot is relayed, and is the same client there; a takeover closes the connection that it
/// had by the other one. What is published at one goes to subscribers at both.
#[test]
fn a_client_is_served_wherever_it_connects() {
    let names = Names::new("instances");
    let a = start(&names, "a");
    until_served(&names, &[("a", &a)], &[64]);
    let b = start(&names, "b");
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    until_metric(&a, HERE, 32);
    until_metric(&b, "broker_slots{state=\"elsewhere\"}", 32);
    let expiry = hour();
    let of_a = clients_of(&slots_of(&a, &names, "a"), 2);
    let of_b = clients_of(&slots_of(&a, &names, "b"), 2);
    let before = metric(&a, "broker_relays_total{result=\"made\"}");
    let mut devices = Vec::new();
    for id in of_a.iter().chain(&of_b) {
        let (mut device, hello) = connect(&a, &kept(id, &expiry));
        assert!(!hello.session_present);
        assert_eq!(device.subscribe(&[("t", QoS::AtLeastOnce)]), [1]);
        devices.push(device);
    }
    until_metric(&a, "broker_relays_total{result=\"made\"}", before + 2);
    until_metric(&b, "broker_relayed_connections{side=\"owner\"}", 2);
    let shown = b.get(&format!("/api/v1/clients/{}", of_b[0])).expect("an answer");
    assert!(shown.0 == 200 && shown.1.contains(&format!("\"front\":\"{}-a\"", names.group)), "{shown:?}");
    let elsewhere = a.get(&format!("/api/v1/clients/{}", of_b[0])).expect("an answer");
    assert!(elsewhere.0 == 404 && elsewhere.1.contains(&format!("{}-b", names.group)), "{elsewhere:?}");

    let (mut publisher, _) = connect(&b, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "t", b"one");
    for device in &mut devices {
        assert_eq!(next(device), message("t", "one"));
    }
    // Both come again by the other instance.
    for (id, device) in of_a.iter().chain(&of_b).zip(&mut devices) {
        let (again, hello) = connect(&b, &kept(id, &expiry));
        assert!(hello.session_present, "{id}");
        assert_eq!(device.hear(), Heard::Disconnect(0x8E), "{id}");
        *device = again;
    }
    publisher.deliver(2, "t", b"two");
    for device in &mut devices {
        assert_eq!(next(device), message("t", "two"));
    }
    // What is each instance's own cannot be shared.
    assert_eq!(devices[0].subscribe(&[("$share/s/$SYS/#", QoS::AtLeastOnce)]), [0x9E]);
    let printed = slots_printed(&a);
    assert!(printed.contains(&format!("{}-a (this one)", names.group)) && printed.contains("32"), "{printed}");
}

/// A client of 5.0 is told where to connect, once; if it does not follow it is relayed, as one of 3.1.1 is.
#[test]
fn a_client_is_redirected_where_instances_have_addresses() {
    let names = Names::new("redirect");
    let with_server = |name: &str| instance(&names, name, &format!("server = \"{name}.example:1883\"\n"));
    let [a, mut b] = ["a", "b"].map(|name| Service::start(&with_server(name)));
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let [id, other] = <[String; 2]>::try_from(clients_of(&slots_of(&a, &names, "b"), 2)).expect("two");
    let mut device = Device::open(a.mqtt(), Version::V5);
    device.say(&Packet::Connect(hello(Version::V5, &id)));
    let Heard::ConnAck(said) = device.hear() else { panic!("no CONNACK") };
    let server = said.properties.as_properties().server_reference().map(str::to_owned);
    assert_eq!((said.code, server.as_deref()), (0x9C, Some("b.example:1883")));
    assert_eq!(device.hear(), Heard::Closed);
    let mut device = Device::connect(a.mqtt(), Version::V5, &id);
    device.ping();
    let mut old = Device::connect(a.mqtt(), Version::V311, &other);
    old.ping();
    until_metric(&a, "broker_redirected_total", 1);
    until_metric(&b, "broker_relayed_connections{side=\"owner\"}", 2);
    // One that goes tells its clients another address.
    assert!(b.terminate().success(), "{}", b.log());
    assert_eq!(device.hear(), Heard::Disconnect(0x9D));
    old.until_closed();
    until_served(&names, &[("a", &a)], &[64]);
}

/// With TLS each instance knows the others by their certificates. One with a certificate of another CA can relay nobody to them.
#[test]
fn instances_know_each_other_by_certificates() {
    let names = Names::new("tls");
    let dir = crate::support::temp_dir();
    certificates(dir.path(), ["a", "b", "c"]);
    let with_tls = |name: &str| {
        let file = |name: &str| dir.path().join(name).display().to_string();
        let [certificate, key, ca] = [file(&format!("{name}.crt")), file(&format!("{name}.key")), file("ca.pem")];
        let link = format!("[broker.link]\ncert_file = \"{certificate}\"\nkey_file = \"{key}\"\nca_file = \"{ca}\"\n");
        Service::start(&instance(&names, name, "").replace("[broker.link]\n", &link))
    };
    let [a, b] = ["a", "b"].map(with_tls);
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let of_b = clients_of(&slots_of(&a, &names, "b"), 1);
    let (mut relayed, _) = connect(&a, &hello(Version::V5, &of_b[0]));
    relayed.ping();
    until_metric(&b, "broker_relayed_connections{side=\"owner\"}", 1);
    let c = with_tls("c");
    until("three parts", || slots_of(&c, &names, "c").len() >= 21);
    let of_b = clients_of(&slots_of(&c, &names, "b"), 1);
    let mut device = Device::open(c.mqtt(), Version::V5);
    device.say(&Packet::Connect(hello(Version::V5, &of_b[0])));
    until("a connection that fails", || metric(&c, "broker_relays_total{result=\"failed\"}") > 0);
    assert_eq!(metric(&c, "broker_relays_total{result=\"made\"}"), 0);
    assert!(c.log().contains("cannot be reached"), "{}", c.log());
}

/// Z27: an instance is killed: another one serves its clients, whose sessions are in Kafka. It comes back, and has a part of the slots again.
#[test]
fn sessions_outlive_their_instance() {
    let names = Names::new("killed");
    let a = start(&names, "a");
    let mut b = start(&names, "b");
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let expiry = hour();
    let ids = clients_of(&slots_of(&a, &names, "b"), 4);
    // Half of them by the other instance, which sees that the process is gone.
    let mut devices = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        let (mut device, _) = connect(if number % 2 == 0 { &a } else { &b }, &kept(id, &expiry));
        assert_eq!(device.subscribe(&[("t", QoS::AtLeastOnce)]), [1]);
        devices.push(device);
    }
    b.kill9();
    devices.iter_mut().for_each(Device::until_closed);
    let mut devices: Vec<Device> = Vec::new();
    for id in &ids {
        let (device, hello) = connect(&a, &kept(id, &expiry));
        assert!(hello.session_present, "{id}");
        devices.push(device);
    }
    let (mut publisher, _) = connect(&a, &hello(Version::V5, "publisher"));
    publisher.deliver(1, "t", b"one");
    for device in &mut devices {
        assert_eq!(next(device), message("t", "one"), "its subscription is there");
    }
    until_served(&names, &[("a", &a)], &[64]);
    // It did not wait for the end of the session.
    until_metric(&a, "broker_evictions_total", 1);
    b.start_again();
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
}

/// Kept sessions get each record over moves of their slots: once at QoS 2, and in order. Their instance is killed, comes back, is frozen, and stops in order.
#[test]
fn kept_sessions_get_each_record_over_moves_of_their_slots() {
    const PART: usize = 400;
    let names = Names::new("moves");
    let a = start(&names, "a");
    let mut b = start(&names, "b");
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let expiry = hour();
    let ids = clients_of(&slots_of(&a, &names, "b"), 2);
    let mut takers = ids.into_iter().map(|id| Taker::new(id.leak())).collect::<Vec<_>>();
    let again = |taker: &mut Taker| {
        let (device, hello) = connect(&a, &kept(taker.id, &expiry));
        taker.device = Some(device);
        hello.session_present
    };
    for (taker, qos) in takers.iter_mut().zip([QoS::ExactlyOnce, QoS::AtLeastOnce]) {
        assert!(!again(taker));
        assert_eq!(taker.device.as_mut().expect("connected").subscribe(&[("load/+", qos)]), [qos as u8]);
    }
    let mut takes = |count: usize, is_last: bool| {
        for taker in &mut takers {
            while !taker.take(count, is_last) {
                assert!(again(taker), "{} is known", taker.id);
            }
        }
    };
    for part in 0..5 {
        write_load(&names, part * PART..(part + 1) * PART);
        let done = 3 * PART * part;
        takes(done + PART, false);
        match part {
            0 | 3 => b.kill9(),
            1 | 4 => b.start_again(),
            _ => {
                b.signal("STOP");
                until("the other one to have all", || slots_of(&a, &names, "a").len() == SLOTS);
                b.signal("CONT");
            }
        }
        takes(done + 2 * PART, false);
    }
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    assert!(b.terminate().success(), "{}", b.log());
    takes(3 * 5 * PART, true);
    until("all to be read", || metric(&a, "source_open_messages") == 0 && metric(&a, "source_lag_records") == 0);
    takers[0].device.as_mut().expect("connected").ping();
    assert!(takers[0].repeated().is_empty(), "handed on twice at QoS 2: {:?}", takers[0].repeated());
    println!("repeated at QoS 1: {} of {}", takers[1].repeated().len(), 3 * 5 * PART);
}

/// The slots that lines of `slot_gone` name: all that a shard has lost, as in `slots="0-3, 7"`, or one that Kafka has refused to write, as in `partition=7`.
fn slots_in(lines: &[String]) -> BTreeSet<usize> {
    let mut all = BTreeSet::new();
    for line in lines {
        let slots = line.split_once("slots=\"").and_then(|(_, rest)| rest.split('"').next());
        let partition = line.split_once("partition=").and_then(|(_, rest)| rest.split(' ').next());
        for range in slots.or(partition).expect("slots, or one of them").split(", ") {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let [first, last] = [first, last].map(|slot| slot.parse::<usize>().expect("a slot"));
            all.extend(first..=last);
        }
    }
    all
}

/// C4: an instance that was frozen for longer than its session says nothing when it thaws before it has heard: a client that has asked meanwhile is served by the
/// one that has its slot now, and one that was connected hears no word.
#[test]
fn a_thawed_instance_says_nothing_wrong() {
    let names = Names::new("frozen");
    let [a, b] = ["a", "b"].map(|name| start(&names, name));
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let expiry = hour();
    let of_b = slots_of(&a, &names, "b");
    let ids = clients_of(&of_b, 6);
    let (mut connected, _) = connect(&b, &kept(&ids[0], &expiry));
    assert_eq!(connected.subscribe(&[("t", QoS::AtLeastOnce)]), [1]);
    b.signal("STOP");
    // What it would read first when it thaws.
    let open = |id: &String| {
        let mut device = Device::open(b.mqtt(), Version::V5);
        device.say(&Packet::Connect(hello(Version::V5, id)));
        device
    };
    let mut late: Vec<Device> = ids[1..].iter().map(open).collect();
    until("the other one to have all", || slots_of(&a, &names, "a").len() == SLOTS);
    let (mut moved, hello) = connect(&a, &kept(&ids[0], &expiry));
    assert!(hello.session_present);
    b.signal("CONT");
    assert_eq!(connected.hear(), Heard::Closed, "not a word");
    for device in &mut late {
        device.welcome();
    }
    assert!(b.log().contains("nothing was heard of the group of instances"), "{}", b.log());
    // Finding Q14: each of the two shards tells once of all slots that it has lost.
    let gone = || -> Vec<String> {
        b.log().lines().filter(|line| line.contains("event=\"slot_gone\"")).map(str::to_owned).collect()
    };
    until("the loss of each slot to be told", || slots_in(&gone()).is_superset(&of_b));
    assert!(gone().iter().filter(|line| line.contains("slots=\"")).count() <= 2, "{:?}", gone());
    // It has a part again. Clients that had moved may have to move back.
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    for device in &mut late {
        // It was with one that had its slot. Where that has moved since, the client was told.
        device.try_say_bytes(&[0xC0, 0]);
        let heard = device.hear();
        assert!(matches!(heard, Heard::PingResp | Heard::Disconnect(0x8B)), "{heard:?}");
    }
    moved.try_say_bytes(&[0xC0, 0]);
    let (mut moved, hello) = connect(&b, &kept(&ids[0], &expiry));
    assert!(hello.session_present);
    let (mut publisher, _) = connect(&a, &crate::device::hello(Version::V5, "publisher"));
    publisher.deliver(1, "t", b"one");
    assert_eq!(next(&mut moved), message("t", "one"));
}

/// A third instance gets its part; an orderly stop gives it back at once, and clients are told. A kept session goes on at another instance; one that ends with its
/// connection ends where its slot leaves.
#[test]
fn slots_move_when_an_instance_comes_and_when_it_goes() {
    let names = Names::new("moved");
    let [a, b] = ["a", "b"].map(|name| start(&names, name));
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let before = [slots_of(&a, &names, "a"), slots_of(&a, &names, "b")];
    let mut c = start(&names, "c");
    let parts = || {
        let all = [("a", &a), ("b", &b), ("c", &c)].map(|(name, _)| slots_of(&c, &names, name));
        let counts = all.each_ref().map(BTreeSet::len);
        counts.iter().sum::<usize>() == SLOTS && counts.iter().all(|count| (21..=22).contains(count))
    };
    until("three parts", parts);
    let now = [slots_of(&c, &names, "a"), slots_of(&c, &names, "b")];
    assert!(now[0].is_subset(&before[0]) && now[1].is_subset(&before[1]), "nothing went between the two others");
    let expiry = hour();
    let ids = clients_of(&slots_of(&a, &names, "c"), 3);
    let mut devices: Vec<Device> = ids.iter().map(|id| connect(&c, &kept(id, &expiry)).0).collect();
    let (mut old, _) = connect(
        &c,
        &Connect { clean_start: false, ..hello(Version::V311, &clients_of(&slots_of(&a, &names, "c"), 4)[3]) },
    );
    let clean = clients_of(&slots_of(&a, &names, "c"), 6).split_off(4);
    for id in &clean {
        let (mut device, _) = connect(&c, &hello(Version::V5, id));
        assert_eq!(device.subscribe(&[("t", QoS::AtLeastOnce)]), [1]);
        devices.push(device);
    }
    assert!(c.terminate().success(), "{}", c.log());
    for device in &mut devices {
        // No instance has told where clients find it.
        assert_eq!(device.hear(), Heard::Disconnect(0x8B));
    }
    old.until_closed();
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    for id in &ids {
        assert!(connect(&a, &kept(id, &expiry)).1.session_present, "{id}");
    }
    for id in &clean {
        assert!(!connect(&a, &kept(id, &expiry)).1.session_present, "{id}");
    }
    assert!(c.log().contains("a slot was given up for another instance"), "{}", c.log());
}

/// A second process with the same name takes the place of the first one, which ends and says why.
#[test]
fn the_same_name_twice_ends_the_first() {
    let names = Names::new("twice");
    let mut first = start(&names, "a");
    until_served(&names, &[("a", &first)], &[64]);
    let expiry = hour();
    let (mut device, _) = connect(&first, &kept("kept", &expiry));
    assert_eq!(device.subscribe(&[("t", QoS::AtLeastOnce)]), [1]);
    let second = start(&names, "a");
    assert!(!first.wait().success());
    assert!(first.log().contains("with the same name"), "{}", first.log());
    device.until_closed();
    until_served(&names, &[("a", &second)], &[64]);
    assert!(connect(&second, &kept("kept", &expiry)).1.session_present);
}

fn drain(of: &Service, more: &[&str]) -> (String, bool) {
    forebay(of, &[&["drain"], more].concat())
}

/// A drained instance gives its clients to the other one and is not ready. It gets no slots while others come and go, and relays clients that connect. The drain
/// lasts until somebody ends it, or the instance is alone.
#[test]
fn a_drained_instance_has_no_clients() {
    let names = Names::new("drained");
    let a = start(&names, "a");
    until_served(&names, &[("a", &a)], &[64]);
    let (said, is_done) = drain(&a, &[]);
    assert!(!is_done && said.contains("the only instance"), "{said}");
    let mut b = start(&names, "b");
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);
    let expiry = hour();
    let ids = clients_of(&slots_of(&b, &names, "a"), 3);
    let mut devices: Vec<Device> = ids.iter().map(|id| connect(&a, &kept(id, &expiry)).0).collect();
    let of_b = clients_of(&slots_of(&b, &names, "b"), 1);
    let (mut relayed, _) = connect(&a, &kept(&of_b[0], &expiry));
    until("three clients here, one relayed", || {
        let answer = a.get("/api/v1/broker/slots").expect("an answer").1;
        answer.contains("\"clients\":3,\"relayed\":1,")
    });
    assert!(!drain(&a, &["--wait", "0"]).1, "it goes on");
    let (said, is_done) = drain(&a, &[]);
    assert!(is_done && said.contains("1 client connected here are relayed"), "{said}");
    until_served(&names, &[("a", &a), ("b", &b)], &[0, 64]);
    for device in &mut devices {
        assert_eq!(device.hear(), Heard::Disconnect(0x8B));
    }
    assert_eq!(a.get("/readyz").expect("an answer").0, 503);
    assert!(slots_printed(&a).contains("this instance is drained"));
    relayed.ping();
    assert!(connect(&a, &kept(&ids[0], &expiry)).1.session_present, "it is relayed");
    // The other one would have nobody left, either.
    let (said, is_done) = drain(&b, &[]);
    assert!(!is_done && said.contains("no other instance serves clients"), "{said}");
    let (said, is_done) = drain(&a, &["--end"]);
    assert!(is_done && said.contains("takes part again"), "{said}");
    until("it is ready again", || a.get("/readyz").expect("an answer").0 == 200);
    until_served(&names, &[("a", &a), ("b", &b)], &[32, 32]);

    assert!(drain(&a, &[]).1);
    b.kill9();
    // Once the group has removed the other one.
    until_served(&names, &[("a", &a)], &[64]);
    assert!(a.log().contains("this one, which was drained, serves clients again"), "{}", a.log());
    until("it is ready again", || a.get("/readyz").expect("an answer").0 == 200);
}

/// Without other instances there is nobody to give clients to.
#[test]
fn a_drain_without_instances_is_refused() {
    let names = Names::new("undrained");
    let alone = Service::start(&config_with("shards = 1", &names.config("")));
    let (said, is_done) = drain(&alone, &[]);
    assert!(!is_done && said.contains("there is no [broker.link]"), "{said}");
    let without = Service::start(&config_with("shards = 1", ""));
    let (said, is_done) = drain(&without, &["--end"]);
    assert!(!is_done && said.contains("there is no [broker]"), "{said}");
}

fn slots_printed(of: &Service) -> String {
    forebay(of, &["broker", "slots"]).0
}

/// A route of its own for these filters, and its topic.
pub(crate) fn route(names: &Names, filter: &str) -> String {
    format!("[[broker.route]]\nfilters = [\"{filter}\"]\ntopic = \"{}-other\"\n", names.messages)
}

/// A process without `[broker.link]` beside running instances leaves them their slots, says why, and takes over when they have stopped.
#[test]
fn finding_q13_a_lone_process_takes_nothing_from_running_instances() {
    let names = Names::new("lone");
    let mut a = start(&names, "a");
    until_served(&names, &[("a", &a)], &[64]);
    let dir = temp_dir();
    let text = config(&names.config("")).replace("$DIR", &dir.path().display().to_string());
    let file = dir.path().join("forebay.toml");
    std::fs::write(&file, text).expect("it can be written");
    let log = std::fs::File::create(dir.path().join("log")).expect("a file");
    let mut lone =
        program().args(["run", "--config"]).arg(&file).stdout(log.try_clone().expect("the same")).stderr(log).spawn();
    let lone = lone.as_mut().expect("it runs");
    let said = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    until("it to say why", || said().contains("this one has no [broker.link]"));
    assert!(!said().contains("session_log_taken"), "{}", said());
    assert_eq!(slots_of(&a, &names, "a").len(), 64);
    assert!(a.terminate().success());
    until("it to serve", || said().contains("session_log_taken"));
    lone.kill().expect("it runs");
    lone.wait().expect("it ends");
}
