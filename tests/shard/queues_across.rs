//! Messages for a kept session on another shard than its publisher's: whose disk the publisher waits for.

use forebay::broker::router::owner;
use forebay::mqtt::packet::{Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::rules::KEPT;

use super::process::Process;
use super::subscribe::{PLAIN, bytes_of, message, subscribe_packet};

const SHARDS: usize = 2;

/// A client id that lives on this shard.
fn client_on(shard: usize) -> String {
    (0..).map(|number| format!("client-{number}")).find(|name| owner(name, SHARDS) == shard).expect("one of them")
}

#[test]
fn a_publisher_waits_for_the_disk_of_the_shard_that_keeps_it() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut process = Process::spooled(&KEPT, SHARDS);
        let (subscriber, publisher) = (client_on(1), client_on(0));
        let (shard, conn, _) = process.connect(&subscriber);
        let options = SubscriptionOptions { qos, ..PLAIN };
        process.say(shard, conn, &subscribe_packet(Version::V5, 0, &[("t", options)]));
        assert_eq!(process.heard(shard, conn).last(), Some(&(qos as u8)));
        let (from, to, _) = process.connect(&publisher);
        let send = |id, payload| {
            bytes_of(Version::V5, &Packet::Publish(Publish { qos, packet_id: id, ..message("t", payload) }))
        };
        process.shards[1].table.disk.slow = true;
        process.say(from, to, &send(1, "first"));
        assert!(process.heard(from, to).is_empty(), "{qos:?}: it could be lost");
        process.power_cut(0);
        process.settle();
        let (shard, conn, behind) = process.connect(&subscriber);
        assert!(behind.is_empty(), "and it was");

        let (from, to, _) = process.connect(&publisher);
        process.say(from, to, &send(2, "second"));
        let answer = if qos == QoS::AtLeastOnce { 0x40 } else { 0x50 };
        assert_eq!(process.heard(from, to), [answer, 2, 0, 2]);
        assert!(!process.heard(shard, conn).is_empty());
        process.power_cut(0);
        process.settle();
        let (_, _, behind) = process.connect(&subscriber);
        assert!(behind.ends_with(b"second") && behind[0] & 8 != 0, "{behind:?}");
    }
}
