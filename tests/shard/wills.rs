//! Wills while there is no room for them, and while the service stops.

use std::time::Duration;

use forebay::metrics::spec::ShardMetric;
use forebay::mqtt::encode;
use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Version, Will};
use forebay::mqtt::property::{Property, PropertyBuf};
use forebay::runtime::seam::{Closed, ConnId, Shard};
use forebay::shard::mail::{Mail, ToShard};

use super::small;
use super::subscribe::{bytes_of, message};
use super::world::World;

/// A 5.0 device with a will of so many bytes that is sent after so many seconds.
fn device(world: &mut World, client_id: &str, payload: &[u8], delay_s: u32) -> ConnId {
    let mut of_will = PropertyBuf::new();
    of_will.push(Property::WillDelayInterval(delay_s));
    let mut properties = PropertyBuf::new();
    properties.push(Property::SessionExpiryInterval(3_600));
    let will = Will { qos: QoS::AtLeastOnce, retain: false, topic: "w", payload, properties: of_will.as_properties() };
    let connect = Connect {
        will: Some(will),
        properties: properties.as_properties(),
        ..crate::hello::hello(Version::V5, client_id)
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
    world.core.on_mail(&mut world.table, Mail::Shard(ToShard::Drain { grace: Duration::from_secs(60) }));
    world.turn();
    assert!(world.table.wire(here).closed, "told that the service stops");
    world.core.on_close(&mut world.table, here, Closed::Local);
    world.advance(Duration::from_secs(5));
    assert!(world.table.stopped);
    let both = delivered(&world, b"of one that is away") + delivered(&world, b"of one that is connected");
    assert_eq!((both, world.number(ShardMetric::Wills)), (2, 2));
}

/// The will of its former connection, which it has lost, goes ahead of what a client publishes right behind its CONNECT.
#[test]
fn a_will_comes_before_what_its_client_publishes_when_it_is_back() {
    let mut world = World::new(&small());
    device(&mut world, "d", b"offline", 0);
    let kept = [0, 0, 0, 5, 0x11, 0, 0, 0x0E, 0x10];
    let mut bytes = vec![0x10, 0, 0, 4, b'M', b'Q', b'T', b'T', 5];
    bytes.extend_from_slice(&kept);
    bytes.extend_from_slice(&[0, 1, b'd']);
    bytes[1] = u8::try_from(bytes.len() - 2).expect("short");
    let online = Publish { qos: QoS::AtLeastOnce, packet_id: 1, ..message("w", "online") };
    bytes.extend_from_slice(&bytes_of(Version::V5, &Packet::Publish(online)));
    let conn = world.accept();
    world.bytes(conn, &bytes);
    world.advance(Duration::from_secs(1));
    let values: Vec<_> = world.broker.records.iter().map(|record| record.3.clone()).collect();
    assert_eq!(values, [b"offline".to_vec(), b"online".to_vec()]);
}

/// No sink has room for it, and the power fails: its session is in the log, with its will.
#[test]
fn a_will_of_a_kept_session_is_in_the_log_until_a_sink_has_it() {
    let sink = "buffer = \"memory\"\nacknowledge = \"replicated\"";
    let config = super::spooled("", sink).replace("spill_after = \"1MiB\"\n", "");
    let mut world = World::new(&config);
    world.kafka_down();
    let large = vec![b'w'; 60_000];
    let conn = device(&mut world, "d", &large, 0);
    let publisher = world.device("publisher", 0);
    world.fill(publisher);
    lose(&mut world, conn);
    world.advance(Duration::from_millis(100));
    assert_eq!(world.number(ShardMetric::WillsWaiting), 1);
    world.power_cut();
    world.kafka_up = true;
    world.advance(Duration::from_secs(30));
    assert_eq!(delivered(&world, &large), 1);
    world.power_cut();
    world.advance(Duration::from_secs(30));
    assert_eq!(delivered(&world, &large), 1, "it was over");
}
