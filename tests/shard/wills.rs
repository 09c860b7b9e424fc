//! Wills while there is no room for them, and while the service stops.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, QoS, Version, Will};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::runtime::seam::{Closed, ConnId, Shard};
use forebay::shard::mail::Mail;

use super::small;
use super::world::World;

/// A 5.0 device with a will of so many bytes that is sent after so many seconds.
fn device(world: &mut World, client_id: &str, payload: &[u8], delay_s: u32) -> ConnId {
    let mut of_will = PropertyBuf::new();
    of_will.push(Property::WillDelayInterval(delay_s));
    let mut properties = PropertyBuf::new();
    properties.push(Property::SessionExpiryInterval(3_600));
    let will = Will { qos: QoS::AtLeastOnce, retain: false, topic: "w", payload, properties: of_will.as_properties() };
    let connect = Connect {
        version: Version::V5,
        clean_start: true,
        keep_alive_s: 0,
        client_id,
        will: Some(will),
        username: None,
        password: None,
        properties: properties.as_properties(),
    };
    let mut bytes = Vec::new();
    encode::packet(Version::V5, &Packet::Connect(connect), &mut bytes).expect("encoded");
    let conn = world.accept();
    world.bytes(conn, &bytes);
    assert!(!world.table.wire(conn).closed, "refused");
    conn
}

fn lose(world: &mut World, conn: ConnId) {
    world.table.wire(conn).closed = true;
    world.core.on_close(&mut world.table, conn, Closed::Peer);
    world.turn();
}

fn delivered(world: &World, value: &[u8]) -> usize {
    world.broker.records.iter().filter(|record| record.3 == value).count()
}

#[test]
fn wills_that_find_no_room_wait_for_it() {
    let mut world = World::new(&small());
    world.kafka_down();
    let large = vec![b'w'; 60_000];
    let devices: Vec<ConnId> = (0..100).map(|n| device(&mut world, &n.to_string(), &large, 0)).collect();
    let publisher = world.device("publisher", 0);
    world.fill(publisher);
    devices.into_iter().for_each(|conn| lose(&mut world, conn));
    assert_eq!(world.number(ShardMetric::Wills), 0, "there was room: the test shows nothing");
    assert_eq!(world.number(ShardMetric::WillsWaiting), 100);
    world.kafka_up = true;
    world.advance(Duration::from_secs(30));
    assert_eq!((world.number(ShardMetric::Wills), world.number(ShardMetric::WillsWaiting)), (100, 0));
    assert_eq!(delivered(&world, &large), 100);
    assert_eq!(world.number(ShardMetric::PublishesRefused), 0);
}

#[test]
fn delayed_wills_are_sent_when_the_service_stops_for_good() {
    let mut world = World::new(&small());
    let away = device(&mut world, "away", b"of one that is away", 1_000);
    let here = device(&mut world, "here", b"of one that is connected", 1_000);
    lose(&mut world, away);
    world.core.on_mail(&mut world.table, Mail::Drain { grace: Duration::from_secs(60) });
    world.turn();
    assert!(world.table.wire(here).closed, "told that the service stops");
    world.core.on_close(&mut world.table, here, Closed::Local);
    world.advance(Duration::from_secs(5));
    assert!(world.table.stopped);
    let both = delivered(&world, b"of one that is away") + delivered(&world, b"of one that is connected");
    assert_eq!((both, world.number(ShardMetric::Wills)), (2, 2));
}
