//! Messages of QoS 1 and 2 to clients that read and do not acknowledge: what they are sent is bounded by Receive Maximum and by bytes, and not by what
//! their sockets hold at a time (finding S3, D2).

use std::time::Duration;

use forebay::limits::{SENT_AHEAD_BYTES_MAX, SENT_MAX};
use forebay::metrics::spec::ShardMetric as M;
use forebay::mqtt::packet::{Packet, Publish, QoS, SubscriptionOptions, Version};
use forebay::runtime::seam::ConnId;

use super::fair::deaf;
use super::queues::{QOS_1, QOS_2, answer, config, lose};
use super::subscribe::{bytes_of, heard, message, publish, subscribe, subscribe_packet, world};
use super::world::World;

/// Larger than a third of what a client is sent ahead.
const LARGE: usize = 40_000;

/// What a client that reads and says nothing hears until nothing more comes, by payload length.
fn lengths(world: &mut World, conn: ConnId, version: Version) -> Vec<usize> {
    let (mut all, mut quiet) = (Vec::new(), 0);
    while quiet < 10 {
        world.advance(Duration::from_millis(1));
        let heard = heard(world, conn, version);
        quiet = if heard.is_empty() { quiet + 1 } else { 0 };
        all.extend(heard.iter().map(|of| of.split(' ').nth(1).expect("a payload").len()));
    }
    all
}

/// Publishes six large messages in one write, and then a small one.
fn publish_seven(world: &mut World, publisher: ConnId, topic: &str, qos: QoS) {
    let large = "x".repeat(LARGE);
    let of = |packet_id| bytes_of(Version::V5, &Packet::Publish(Publish { qos, packet_id, ..message(topic, &large) }));
    world.bytes(publisher, &(1..=6).flat_map(of).collect::<Vec<_>>());
    world.sent(publisher);
    publish(world, publisher, Version::V5, Publish { qos, packet_id: 7, ..message(topic, "small") });
    world.sent(publisher);
}

fn seven() -> Vec<usize> {
    [vec![LARGE; 6], vec![5]].concat()
}

fn options(qos: QoS) -> SubscriptionOptions {
    if qos == QoS::ExactlyOnce { QOS_2 } else { QOS_1 }
}

/// Also where no message is in the socket: its bytes are all of QoS 0.
#[test]
fn finding_s3_d2_a_client_that_reads_is_sent_all_before_it_acknowledges_any() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for (spool, kept, version) in [
            (false, false, Version::V311),
            (false, false, Version::V5),
            (false, true, Version::V5),
            (true, false, Version::V5),
            (true, true, Version::V5),
        ] {
            let mut world = if spool { World::new(&config()) } else { world() };
            let client = match version {
                Version::V5 if kept => world.kept_v5("c").0,
                Version::V5 => world.device_v5("c"),
                _ => world.device("c", 0),
            };
            let publisher = world.device_v5("p");
            assert_eq!(subscribe(&mut world, client, version, 0, &[("#", options(qos))]), [qos as u8]);
            for number in 0..3 {
                publish(&mut world, publisher, Version::V5, message("qos/0", &"y".repeat(30_000 + number)));
            }
            publish_seven(&mut world, publisher, "t", qos);
            let wanted = [vec![30_000, 30_001, 30_002], seven()].concat();
            assert_eq!(lengths(&mut world, client, version), wanted, "{qos:?}, {spool}, {kept}, {version:?}");
            publish(&mut world, publisher, Version::V5, Publish { qos, packet_id: 8, ..message("t", "later") });
            assert_eq!(lengths(&mut world, client, version), [5]);
            assert_eq!(world.number(M::CopiesQueued), 0);
        }
    }
}

/// What waits is sent piece by piece: no more of it is in memory a second time.
#[test]
fn finding_s3_d2_a_client_is_sent_no_more_than_it_reads() {
    let mut world = world();
    let (client, publisher) = (world.device_v5("c"), world.device_v5("p"));
    assert_eq!(subscribe(&mut world, client, Version::V5, 0, &[("t", QOS_1)]), [1]);
    publish_seven(&mut world, publisher, "t", QoS::AtLeastOnce);
    for _ in 0..20 {
        world.advance(Duration::from_millis(1));
        let unsent = world.table.wire(client).out.len();
        assert!(unsent <= SENT_AHEAD_BYTES_MAX + LARGE + 100, "{unsent}");
    }
    assert_eq!(world.number(M::CopiesQueued), 5, "it has read nothing");
}

#[test]
fn finding_s3_d2_a_share_gives_a_member_that_reads_all_that_it_may_have() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::new(&config());
        let (member, _) = world.kept_v5("m");
        let publisher = world.device_v5("p");
        let codes = subscribe(&mut world, member, Version::V5, 0, &[("$share/g/t", options(qos))]);
        assert_eq!(codes, [options(qos).qos as u8]);
        publish_seven(&mut world, publisher, "t", qos);
        assert_eq!(lengths(&mut world, member, Version::V5), seven(), "{qos:?}");
        assert_eq!(world.number(M::ShareQueuedMessages), 0);
    }
}

/// Of two that wait for their member alone, with a strategy that goes by keys, too.
#[test]
fn finding_s3_d2_so_does_one_that_names_its_members() {
    let mut world = World::new(&format!("{}\n[delivery]\nshare_strategy = \"hash-topic\"\n", config()));
    let (member, _) = world.kept_v5("m");
    let publisher = world.device_v5("p");
    assert_eq!(subscribe(&mut world, member, Version::V5, 0, &[("$share/g/t", QOS_1)]), [1]);
    publish_seven(&mut world, publisher, "t", QoS::AtLeastOnce);
    assert_eq!(lengths(&mut world, member, Version::V5), seven());
}

#[test]
fn finding_s3_d2_what_waited_for_a_client_is_sent_before_it_acknowledges_any() {
    for crash in [false, true] {
        let mut world = World::new(&config());
        let (client, _) = world.kept_v5("c");
        let publisher = world.device_v5("p");
        assert_eq!(subscribe(&mut world, client, Version::V5, 0, &[("t", QOS_1)]), [1]);
        lose(&mut world, client);
        publish_seven(&mut world, publisher, "t", QoS::AtLeastOnce);
        world.advance(Duration::from_millis(100));
        if crash {
            world.power_cut();
        }
        let client = world.connect_kept_v5("c");
        let mut bytes = Vec::new();
        for _ in 0..30 {
            world.advance(Duration::from_millis(1));
            bytes.extend(world.sent(client));
        }
        assert!(bytes.len() > 6 * LARGE, "{}, crash: {crash}", bytes.len());
        assert_eq!(world.number(M::CopiesQueued), 0);
    }
}

#[test]
fn finding_s3_d2_retained_messages_are_sent_before_any_is_acknowledged() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut world = World::new(&config());
        let publisher = world.device_v5("p");
        let large = "x".repeat(LARGE);
        for number in 0..7 {
            let topic = format!("t/{number}");
            let of = Publish { retain: true, qos: QoS::ExactlyOnce, packet_id: number + 1, ..message(&topic, &large) };
            publish(&mut world, publisher, Version::V5, of);
            world.advance(Duration::from_millis(1));
        }
        let (client, _) = world.kept_v5("c");
        world.bytes(client, &subscribe_packet(Version::V5, 0, &[("t/#", options(qos))]));
        let mut bytes = Vec::new();
        for _ in 0..60 {
            world.advance(Duration::from_millis(1));
            bytes.extend(world.sent(client));
        }
        assert!(bytes.len() > 7 * LARGE, "{qos:?}: {}", bytes.len());
    }
}

/// Of a session that ends with its connection nothing has to be remembered for it to be sent again, so no bound in bytes holds.
#[test]
fn finding_s3_d2_a_session_that_is_not_kept_is_sent_its_receive_maximum() {
    let mut world = world();
    let (client, publisher) = (world.device_v5("c"), world.device_v5("p"));
    assert_eq!(subscribe(&mut world, client, Version::V5, 0, &[("t", QOS_1)]), [1]);
    let payload = "x".repeat(8_000);
    let mut got = 0;
    for id in 1..=1_100_u16 {
        let of = Publish { qos: QoS::AtLeastOnce, packet_id: id, ..message("t", &payload) };
        publish(&mut world, publisher, Version::V5, of);
        world.sent(publisher);
        if id % 16 == 0 {
            got += heard(&mut world, client, Version::V5).len();
        }
    }
    got += lengths(&mut world, client, Version::V5).len();
    assert_eq!(got, usize::from(SENT_MAX));
    assert!(world.number(M::RememberedBytes) < 700_000, "what it has been sent is not remembered");
    (1..=100).for_each(|id| answer(&mut world, client, 4, id));
    got += lengths(&mut world, client, Version::V5).len();
    assert_eq!(got, 1_100);
}

/// A client that acknowledges every twentieth message is sent sixteen while others' have taken half of the room; when they have
/// acknowledged theirs, it is sent more without having said anything.
#[test]
fn finding_s3_d2_clients_that_were_held_back_for_others_go_on() {
    let mut world = World::new(&config());
    let publisher = world.device_v5("p");
    let payload = "x".repeat(30_000);
    let hogs: Vec<_> = [("hog-0", 139), ("hog-1", 80)]
        .map(|(topic, messages)| (deaf(&mut world, publisher, topic, (messages, &payload)), messages))
        .to_vec();
    let (client, _) = world.kept_v5("c");
    let (member, _) = world.kept_v5("m");
    assert_eq!(subscribe(&mut world, client, Version::V5, 0, &[("t", QOS_1)]), [1]);
    assert_eq!(subscribe(&mut world, member, Version::V5, 0, &[("$share/g/t", QOS_1)]), [1]);
    for packet_id in 1..=20 {
        let of = Publish { qos: QoS::AtLeastOnce, packet_id, ..message("t", "x") };
        publish(&mut world, publisher, Version::V5, of);
    }
    assert_eq!(lengths(&mut world, client, Version::V5).len(), 16);
    assert_eq!(lengths(&mut world, member, Version::V5).len(), 16);
    for (hog, messages) in hogs {
        (1..=messages).for_each(|id| answer(&mut world, hog, 4, id));
    }
    assert_eq!(lengths(&mut world, client, Version::V5).len(), 4);
    assert_eq!(lengths(&mut world, member, Version::V5).len(), 4);
}
