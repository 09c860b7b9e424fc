//! The time of a token is settled at CONNECT: what becomes of the wall clock afterwards changes nothing.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use forebay::metrics::event::Kind as EventKind;
use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, QoS, Version, Will};
use forebay::mqtt::property::{Properties, Property, PropertyBuf};
use forebay::runtime::seam::{ConnId, Io as _};
use ring::hmac;

use super::small;
use super::world::World;

pub(crate) const SECRET: &[u8] = b"a secret of 32 bytes, and no less";
const HOUR_MS: i64 = 3_600_000;
const NOT_AUTHORIZED: u8 = 0x87;
const MAXIMUM_CONNECT_TIME: u8 = 0xa0;

/// A token of `sub` that expires at that second.
fn token(sub: &str, expires_s: i64) -> String {
    signed(&format!(r#"{{"sub":"{sub}","exp":{expires_s}}}"#))
}

/// A token with these claims.
pub(crate) fn signed(claims: &str) -> String {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn world(dir: &tempfile::TempDir, base: &str) -> World {
    let secret = dir.path().join("secret");
    std::fs::write(&secret, SECRET).expect("written");
    let auth =
        "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'jwt'\n[auth.a.jwt]\nleeway = '0s'\n";
    World::new(&format!("{auth}secret_file = '{}'\n{base}", secret.display()))
}

/// A CONNECT with this token, and what it is answered with: code and whether there was a session.
fn connect(world: &mut World, version: Version, client_id: &str, token: &str) -> (ConnId, u8, bool) {
    let mut properties = PropertyBuf::new();
    properties.push(Property::SessionExpiryInterval(3_600));
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "w",
        payload: client_id.as_bytes(),
        properties: Properties::EMPTY,
    };
    let is_v5 = version == Version::V5;
    let connect = Connect {
        clean_start: false,
        will: Some(will),
        username: Some("nobody"),
        password: Some(token.as_bytes()),
        properties: if is_v5 { properties.as_properties() } else { Properties::EMPTY },
        ..crate::hello::hello(version, client_id)
    };
    let mut bytes = Vec::new();
    encode::packet(version, &Packet::Connect(connect), &mut bytes).expect("encoded");
    let conn = world.accept();
    world.bytes(conn, &bytes);
    let answer = world.sent(conn);
    assert_eq!(answer[0], 0x20, "CONNACK");
    (conn, answer[3], answer[2] == 1)
}

fn wall_s(world: &World) -> i64 {
    world.table.wall().0 / 1_000
}

/// X33: expiry is a monotonic deadline.
#[test]
fn a_connection_ends_with_its_token_whatever_the_wall_clock_does() {
    for (version, jump_ms) in
        [(Version::V5, 0), (Version::V5, HOUR_MS), (Version::V5, -HOUR_MS), (Version::V311, HOUR_MS)]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let mut world = world(&dir, &small());
        let token = token("ada", wall_s(&world) + 60);
        let (conn, code, _) = connect(&mut world, version, "c", &token);
        assert_eq!(code, 0);
        world.table.wall_behind_ms += jump_ms;
        world.advance(Duration::from_millis(58_999));
        assert!(!world.table.wire(conn).closed, "too early");
        world.advance(Duration::from_millis(1_100));
        assert!(world.table.wire(conn).closed, "too late");
        let said: &[u8] = if version == Version::V5 { &[0xe0, 1, MAXIMUM_CONNECT_TIME] } else { &[] };
        assert_eq!(world.sent(conn), said);
        assert_eq!((world.number(ShardMetric::AccessExpired), world.told(EventKind::AccessExpired)), (1, 1));
        assert_eq!(world.number(ShardMetric::Wills), 1, "it did not take its leave");
        // The session is kept for a client with a new token of the same user, and for no other.
        world.table.wall_behind_ms -= jump_ms;
        let (_, code, _) = connect(&mut world, version, "c", &token);
        assert_eq!(code, if version == Version::V5 { NOT_AUTHORIZED } else { 5 }, "the old one is over");
        let again = super::tokens::token("ada", wall_s(&world) + 60);
        assert_eq!(connect(&mut world, version, "c", &again).1, 0);
        assert!(connect(&mut world, version, "c", &again).2, "the session was kept");
    }
}

/// X77: the answer to a message waits for the disk when its time is over. The client hears that its time is over, and of the
/// message nothing that a crash could make untrue.
#[test]
fn an_answer_that_is_held_is_not_told_when_the_token_expires() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, &super::spooled("", "acknowledge = \"stored\""));
    let first = token("ada", wall_s(&world) + 60);
    let (conn, code, _) = connect(&mut world, Version::V5, "c", &first);
    assert_eq!(code, 0);
    world.table.disk.slow = true;
    let publish = [&[0x32, 9, 0, 1, b't', 0, 7, 0][..], b"one"].concat();
    world.bytes(conn, &publish);
    world.advance(Duration::from_secs(61));
    assert!(world.table.wire(conn).closed);
    assert_eq!(world.sent(conn), [0xe0, 1, MAXIMUM_CONNECT_TIME], "and no PUBACK");
    world.table.disk.slow = false;
    world.turn();
    assert!(world.sent(conn).is_empty());
    // It comes again, and the message with it.
    let again = token("ada", wall_s(&world) + 60);
    let (conn, code, present) = connect(&mut world, Version::V5, "c", &again);
    assert_eq!((code, present), (0, true));
    world.bytes(conn, &[&[0x3a][..], &publish[1..]].concat());
    assert_eq!(world.sent(conn)[..4], [0x40, 2, 0, 7]);
}

/// X33: one that is not read has an end, too, and its keep-alive comes back with reading.
#[test]
fn a_connection_that_is_not_read_ends_with_its_token() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, &small());
    world.kafka_down();
    let token = token("ada", wall_s(&world) + 600);
    let (conn, code, _) = connect(&mut world, Version::V311, "c", &token);
    assert_eq!(code, 0);
    world.fill(conn);
    world.advance(Duration::from_secs(590));
    assert!(!world.table.wire(conn).closed && world.table.wire(conn).paused);
    world.advance(Duration::from_secs(11));
    assert!(world.table.wire(conn).closed, "until the expiry is due, its token holds");
}

/// A device that comes again and again leaves no timer behind.
#[test]
fn reconnecting_leaves_no_timers() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, &small());
    let token = token("ada", wall_s(&world) + 86_400);
    connect(&mut world, Version::V5, "c", &token);
    let before = world.table.timers.len();
    for _ in 0..50 {
        world.advance(Duration::from_secs(2));
        assert_eq!(connect(&mut world, Version::V5, "c", &token).1, 0);
    }
    assert!(world.table.timers.len() <= before + 1, "{} timers, {before} at first", world.table.timers.len());
}
