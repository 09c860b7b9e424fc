//! Bridges of other brokers that say before 5.0 that they are one.

use forebay::mqtt::packet::{Connect, Packet, Publish, QoS, Version};
use forebay::runtime::seam::ConnId;

use super::conformance::{clean, connected, heard, hello, kept, lose, subscribing};
use super::subscribe::{bytes_of, message, world};
use super::world::World;

const VERSIONS: [Version; 2] = [Version::V31, Version::V311];

/// A bridge whose session is kept.
fn bridge(world: &mut World, version: Version) -> (ConnId, Vec<String>) {
    connected(world, &Connect { is_bridge: true, clean_start: false, ..hello(version, "bridge") })
}

fn publish(world: &mut World, conn: ConnId, version: Version, publish: Publish<'_>) {
    world.bytes(conn, &bytes_of(version, &Packet::Publish(publish)));
}

/// Finding M2: the other broker has to see what is retained, or it keeps what is retained no more, and gets nothing back that came from it.
/// [3.1.1 MQTT-3.3.1-9]
#[test]
fn finding_m2_a_bridge_gets_retain_as_it_was_published_and_nothing_of_its_own() {
    for version in VERSIONS {
        let mut world = world();
        let (conn, said) = bridge(&mut world, version);
        assert_eq!(said, ["connack 0 0x00"]);
        let filters = [("a/#", QoS::AtMostOnce), ("$share/s/b/#", QoS::AtMostOnce)];
        world.bytes(conn, &subscribing(version, 1, &filters));
        assert_eq!(heard(&mut world, conn, version), ["suback 1 [0, 0]"], "{version:?}");
        let other = clean(&mut world, version, "other");
        publish(&mut world, other, version, Publish { retain: true, ..message("a/b", "new") });
        publish(&mut world, other, version, message("a/b", "live"));
        publish(&mut world, other, version, Publish { retain: true, ..message("a/b", "") });
        assert_eq!(heard(&mut world, conn, version), ["a/b new q0 retain", "a/b live q0", "a/b  q0 retain"]);
        publish(&mut world, conn, version, Publish { retain: true, ..message("a/c", "own") });
        publish(&mut world, conn, version, message("b/c", "own of a share"));
        assert_eq!(heard(&mut world, conn, version), ["b/c own of a share q0"], "a share has no No Local");
        // Subscriptions that it has when it is back are as it has made them.
        lose(&mut world, conn);
        let (conn, said) = bridge(&mut world, version);
        assert_eq!(said[0], format!("connack {} 0x00", u8::from(version == Version::V311)));
        publish(&mut world, other, version, Publish { retain: true, ..message("a/d", "again") });
        assert_eq!(heard(&mut world, conn, version), ["a/d again q0 retain"]);
    }
}

/// A client that is no bridge, and one of 5.0, gets what its subscription says.
#[test]
fn finding_m2_who_is_no_bridge_gets_what_the_standard_says() {
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut world = world();
        let (conn, _) = kept(&mut world, version, "client");
        world.bytes(conn, &subscribing(version, 1, &[("a/#", QoS::AtMostOnce)]));
        assert_eq!(heard(&mut world, conn, version), ["suback 1 [0]"]);
        publish(&mut world, conn, version, Publish { retain: true, ..message("a/b", "own") });
        assert_eq!(heard(&mut world, conn, version), ["a/b own q0"], "{version:?}");
    }
}
