//! What a client may touch and how much, at the shard: publishes, wills when they are left and when they are sent, what is
//! remembered of a rule, and rates.

use std::time::Duration;

use forebay::auth::password::sha512_of;
use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, QoS, Version, Will};
use forebay::mqtt::property::Properties;
use forebay::runtime::seam::{Closed, ConnId, Shard as _};

use super::small;
use super::world::World;

const NOT_AUTHORIZED: u8 = 0x87;

/// A world with the user `ada`, these rules for her, and these limits.
fn world(dir: &tempfile::TempDir, rules: &str, limits: &str) -> World {
    let password = sha512_of(b"ada").expect("random numbers");
    std::fs::write(dir.path().join("passwords"), format!("ada:{password}\n")).expect("written");
    write_rules(dir, rules);
    let path = |name: &str| dir.path().join(name).display().to_string();
    World::new(&format!(
        "[[listener]]\nbind = '127.0.0.1:1883'\nauth = 'a'\n[auth.a]\nchain = 'password'\npassword_file = '{}'\n\
         acl_file = '{}'\n[auth.a.limits]\n{limits}\n{}",
        path("passwords"),
        path("acl"),
        small()
    ))
}

fn write_rules(dir: &tempfile::TempDir, rules: &str) {
    std::fs::write(dir.path().join("acl"), format!("user ada\n{rules}")).expect("written");
}

/// A 5.0 CONNECT of `ada`, and the reason code of its CONNACK.
fn connect(world: &mut World, will: Option<&str>) -> (ConnId, u8) {
    let will = will.map(|topic| Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic,
        payload: b"will",
        properties: Properties::EMPTY,
    });
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id: "c",
        will,
        username: Some("ada"),
        password: Some(b"ada"),
        properties: Properties::EMPTY,
    };
    let mut bytes = Vec::new();
    encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
    let conn = world.accept();
    world.bytes(conn, &bytes);
    let connack = world.sent(conn);
    assert_eq!(connack[0], 0x20);
    (conn, connack[3])
}

/// A QoS 1 PUBLISH of 5.0.
fn publish(topic: &str, id: u8) -> Vec<u8> {
    let len = u8::try_from(2 + topic.len() + 2 + 1).expect("short");
    [&[0x32, len, 0, topic.len() as u8][..], topic.as_bytes(), &[0, id, 0]].concat()
}

/// The reason code of the PUBACK of a message to this topic.
fn published(world: &mut World, conn: ConnId, topic: &str) -> u8 {
    world.bytes(conn, &publish(topic, 9));
    world.advance(Duration::from_millis(100));
    let puback = world.sent(conn);
    assert_eq!((puback[0], &puback[2..4]), (0x40, &[0, 9][..]), "{puback:?}");
    if puback[1] == 2 { 0 } else { puback[4] }
}

fn arrived(world: &World) -> usize {
    world.broker.records.len()
}

/// X41: what is not granted reaches no sink, and the client hears so.
#[test]
fn a_publish_that_is_not_granted_goes_nowhere() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine/#\ntopic read yours\n", "");
    let (conn, code) = connect(&mut world, None);
    assert_eq!(code, 0);
    for (topic, code) in [("mine/a", 0), ("yours", NOT_AUTHORIZED), ("other", NOT_AUTHORIZED), ("mine/b", 0)] {
        assert_eq!(published(&mut world, conn, topic), code, "{topic}");
    }
    assert_eq!(arrived(&world), 2);
    assert_eq!(world.number(ShardMetric::PublishesRefused), 2);
}

/// X45: what is remembered of a rule is forgotten with it.
#[test]
fn a_rule_that_is_taken_back_holds_no_longer_for_who_has_used_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine\n", "");
    let (conn, _) = connect(&mut world, None);
    assert_eq!(published(&mut world, conn, "mine"), 0);
    write_rules(&dir, "topic deny mine\n");
    world.reload();
    assert_eq!(published(&mut world, conn, "mine"), NOT_AUTHORIZED);
    write_rules(&dir, "topic write mine\n");
    world.reload();
    assert_eq!(published(&mut world, conn, "mine"), 0);
    assert!(!world.table.wire(conn).closed, "no client was revoked");
}

/// X44: a will is checked when it is left, and again when it is sent.
#[test]
fn a_will_that_is_not_granted_is_neither_taken_nor_sent() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine\n", "");
    let (conn, code) = connect(&mut world, Some("yours"));
    assert_eq!(code, NOT_AUTHORIZED);
    assert!(world.table.wire(conn).closed);
    for (rules, sent) in [("topic write mine\n", 1), ("topic read mine\n", 1), ("topic write mine\n", 2)] {
        write_rules(&dir, "topic write mine\n");
        world.reload();
        let (conn, code) = connect(&mut world, Some("mine"));
        assert_eq!(code, 0);
        write_rules(&dir, rules);
        world.reload();
        world.core.on_close(&mut world.table, conn, Closed::Peer);
        world.table.release(conn);
        world.advance(Duration::from_secs(5));
        assert_eq!(arrived(&world), sent, "{rules}");
    }
    assert_eq!(world.number(ShardMetric::WillsDenied), 1);
}

/// X53: over its rate a user's connections are not read, all of them, until there is room; nothing is lost.
#[test]
fn a_user_above_its_rate_is_left_unread_for_a_while() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut world = world(&dir, "topic write mine\n", "messages_s = 10");
    let (conn, _) = connect(&mut world, None);
    let burst: Vec<u8> = (1..=30).flat_map(|id| publish("mine", id)).collect();
    world.bytes(conn, &burst);
    assert!(world.table.wire(conn).paused);
    assert_eq!(world.number(ShardMetric::RatePauses), 1);
    world.advance(Duration::from_millis(1_500));
    assert!(world.table.wire(conn).paused, "30 messages are the share of three seconds, one of which may come at once");
    world.advance(Duration::from_millis(1_000));
    assert!(!world.table.wire(conn).paused);
    assert_eq!((arrived(&world), world.sent(conn).len()), (30, 30 * 4));
}
