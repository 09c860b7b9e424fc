//! Who a relayed client is: the front finds out, and the owner takes it as if another of its shards had, if its own files agree.

use std::time::Duration;

use forebay::auth::password::{scram_of, sha512_of};
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Connect, Disconnect, Packet, Sender, Version};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::mqtt::reason::ReasonCode;
use forebay::mqtt::{decode, frame};
use forebay::runtime::seam::Io as _;
use forebay::secure::Secret;
use forebay::secure::scram::{First, Hash};

use super::world::World;
use super::{hello, publish, subscribe, text};
use crate::subscribe::bytes_of;
use crate::tokens::{SECRET, signed};

/// A listener with users.
fn with_users(dir: &tempfile::TempDir, limits: &str) -> String {
    let password = sha512_of(b"secret").expect("random numbers");
    std::fs::write(dir.path().join("passwords"), format!("ada:{password}\nbob:{password}\n")).expect("written");
    std::fs::write(dir.path().join("acl"), "user ada\ntopic readwrite own/#\n").expect("written");
    let path = |name: &str| dir.path().join(name).display().to_string();
    format!(
        "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'password'\npassword_file = '{}'\n\
         acl_file = '{}'\n[auth.a.limits]\n{limits}\n{}",
        path("passwords"),
        path("acl"),
        text()
    )
}

fn connect(client_id: &str, user: &str, password: &[u8]) -> Vec<u8> {
    let connect = Connect { username: Some(user), password: Some(password), ..hello(client_id) };
    bytes_of(Version::V5, &Packet::Connect(connect))
}

#[test]
fn a_client_has_its_rights_at_the_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::new(2, 2, &with_users(&dir, ""));
    world.give("a", Some(1));
    let client = world.open(0);
    world.say(client, &connect("a", "ada", b"secret"));
    assert_eq!(world.words(client), ["CONNACK 0x00"]);
    world.say(client, &[subscribe("own/#"), publish("own/1", "x"), publish("other", "y")].concat());
    let heard = world.words(client);
    assert!(heard.contains(&"own/1 x".to_owned()), "{heard:?}");
    assert_eq!(world.number(1, M::PublishesDenied), 1);
    let shown = world.shown(1, "a").expect("it is there");
    assert_eq!((shown.auth.as_deref(), shown.username.as_deref()), (Some("a"), Some("ada")));
    // The front has admitted it, and nobody else had to.
    assert_eq!([0, 1].map(|instance| world.number(instance, M::AuthAccepted)), [1, 0]);
}

#[test]
fn a_client_that_is_not_admitted_is_refused_by_the_front() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::new(2, 1, &with_users(&dir, ""));
    world.give("a", Some(1));
    let client = world.open(0);
    world.say(client, &connect("a", "ada", b"wrong"));
    assert_eq!((world.words(client), world.clients[client].is_over), (vec!["CONNACK 0x86".to_owned()], true));
    assert_eq!((world.number(0, M::RelaysMade), world.number(1, M::ConnectionsOpen)), (0, 0));
    assert!(world.is_at_rest());
}

#[test]
fn a_client_that_the_owner_would_not_admit_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::new(2, 1, &with_users(&dir, ""));
    world.give("a", Some(1));
    // The owner has another password for the user by now.
    let password = sha512_of(b"other").expect("random numbers");
    std::fs::write(dir.path().join("passwords"), format!("ada:{password}\n")).expect("written");
    world.reload(1);
    let client = world.open(0);
    world.say(client, &connect("a", "ada", b"secret"));
    assert_eq!((world.words(client), world.clients[client].is_over), (vec!["CONNACK 0x86".to_owned()], true));
    assert_eq!((world.number(1, M::LinksRefused), world.told(1, EventKind::LinkRefused)), (1, 1));
    assert!(world.is_at_rest());
}

#[test]
fn the_parts_of_a_user_are_counted_at_the_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = World::new(3, 1, &with_users(&dir, "connections = 1"));
    for id in ["a", "b"] {
        world.give(id, Some(1));
    }
    let (a, b) = (world.open(0), world.open(2));
    world.say(a, &connect("a", "ada", b"secret"));
    world.say(b, &connect("b", "ada", b"secret"));
    assert_eq!((world.words(a), world.words(b)), (vec!["CONNACK 0x00".to_owned()], vec!["CONNACK 0x97".to_owned()]));
    world.leave(a, &[]);
    let b = world.open(2);
    world.say(b, &connect("b", "ada", b"secret"));
    assert_eq!(world.words(b), ["CONNACK 0x00"]);
}

/// A token of `ada` that may publish to `own/#` until then, in seconds since 1970.
fn token(expires_s: i64) -> String {
    signed(&format!(r#"{{"sub":"ada","exp":{expires_s},"acl":{{"all":["own/#"]}}}}"#))
}

#[test]
fn what_a_token_grants_and_its_end_hold_at_the_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, SECRET).expect("written");
    let auth =
        "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'jwt'\n[auth.a.jwt]\nleeway = '0s'\n";
    let mut world = World::new(2, 1, &format!("{auth}secret_file = '{}'\n{}", secret.display(), text()));
    world.give("a", Some(1));
    let now_s = world.instances[1].shards[0].table.wall().0 / 1_000;
    let client = world.open(0);
    world.say(client, &connect("a", "nobody", token(now_s + 60).as_bytes()));
    assert_eq!(world.words(client), ["CONNACK 0x00"]);
    world.say(client, &[subscribe("own/#"), publish("own/1", "x"), publish("other", "y")].concat());
    assert!(world.words(client).contains(&"own/1 x".to_owned()));
    assert_eq!(world.number(1, M::PublishesDenied), 1);
    world.advance(Duration::from_secs(58));
    assert!(!world.clients[client].is_over);
    world.advance(Duration::from_secs(3));
    assert_eq!((world.words(client), world.clients[client].is_over), (vec!["DISCONNECT 0xa0".to_owned()], true));
    assert!(world.is_at_rest());
}

fn auth_packet(reason: ReasonCode, data: &str) -> Vec<u8> {
    let mut properties = PropertyBuf::new();
    properties.push(Property::AuthenticationMethod("SCRAM-SHA-256"));
    properties.push(Property::AuthenticationData(data.as_bytes()));
    bytes_of(Version::V5, &Packet::Auth(Disconnect { reason, properties: properties.as_properties() }))
}

/// The one packet that a client has been sent, and its Authentication Data.
fn data(world: &mut World, client: usize) -> (u8, Vec<u8>) {
    let bytes = world.heard(client);
    let frame = frame::next(&bytes, u32::MAX).expect("well formed").expect("a packet");
    assert_eq!(frame.len, bytes.len());
    match decode::decode(Version::V5, Sender::Server, frame).expect("well formed") {
        Packet::Auth(auth) => (auth.reason.0, auth.properties.authentication_data().unwrap_or_default().to_vec()),
        Packet::ConnAck(ack) => (ack.reason.0, ack.properties.authentication_data().unwrap_or_default().to_vec()),
        other => panic!("{other:?}"),
    }
}

/// The front has the exchange before CONNACK, which the owner ends with the server's proof; a later one is the owner's.
#[test]
fn an_exchange_is_the_fronts_and_a_later_one_the_owners() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("passwords");
    std::fs::write(&file, format!("ada:{}\n", scram_of(b"secret").expect("random numbers"))).expect("written");
    let auth = "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = ['scram']\n";
    let mut world = World::new(2, 1, &format!("{auth}password_file = '{}'\n{}", file.display(), text()));
    world.give("a", Some(1));
    let client = world.open(0);
    let exchange = |world: &mut World, begin: &dyn Fn(&str) -> Vec<u8>| {
        let (first, message) = First::new(Hash::Sha256, "ada", "nonce".to_owned());
        world.say(client, &begin(&message));
        let (reason, told) = data(world, client);
        assert_eq!(reason, 0x18);
        let challenge = first.server_first(&told).expect("taken");
        let keys = challenge.derivation(&Secret::new(b"secret".to_vec())).keys();
        let (expected, last) = challenge.answer(&keys);
        world.say(client, &auth_packet(ReasonCode::CONTINUE_AUTHENTICATION, &last));
        let (reason, told) = data(world, client);
        assert_eq!(reason, 0);
        expected.server_final(&told).expect("the server's proof");
    };
    exchange(&mut world, &|message| {
        let mut properties = PropertyBuf::new();
        properties.push(Property::AuthenticationMethod("SCRAM-SHA-256"));
        properties.push(Property::AuthenticationData(message.as_bytes()));
        let connect = Connect { properties: properties.as_properties(), ..hello("a") };
        bytes_of(Version::V5, &Packet::Connect(connect))
    });
    assert_eq!([0, 1].map(|instance| world.number(instance, M::AuthAccepted)), [1, 0]);
    exchange(&mut world, &|message| auth_packet(ReasonCode::RE_AUTHENTICATE, message));
    assert_eq!([0, 1].map(|instance| world.number(instance, M::AuthAccepted)), [1, 1]);
    world.leave(client, &[]);
    assert!(world.is_at_rest());
}
