//! One client identifier, one connection: the newest, whichever shard accepted it.

use std::net::SocketAddr;

use forebay::mqtt::packet::{Connect, PacketType, QoS, Version};
use forebay::mqtt::property::Property;

use crate::device::{Device, Heard, VERSIONS, hello, properties};
use crate::process::{metric, until, until_metric};
use crate::records::texts;
use crate::support::service::{Service, config_with};

const SINK: &str = "[[sink]]\nname = \"all\"\nfilters = [\"#\"]\ntopic = \"all\"\n";

/// [MQTT-3.1.4-3] [MQTT-3.1.3-2] [3.1.1 MQTT-3.1.4-2] [3.1.1 MQTT-3.1.3-2]
#[test]
fn the_old_connection_hears_why_and_the_new_one_has_the_session() {
    let service = Service::start(&config_with("shards = 2", SINK));
    let hour = properties([Property::SessionExpiryInterval(3600)]);
    for n in 0..100_usize {
        let (old_version, new_version) = (VERSIONS[n % 3], VERSIONS[n / 3 % 3]);
        let id = format!("taken {n}");
        let kept = |version| {
            let connect = Connect { clean_start: false, ..hello(version, &id) };
            if version == Version::V5 { Connect { properties: hour.as_properties(), ..connect } } else { connect }
        };
        let (mut old, _) = Device::connect_as(service.mqtt(), &kept(old_version));
        old.publish(QoS::ExactlyOnce, 1, "t", b"x");
        assert_eq!(old.hear(), Heard::Answer(PacketType::PubRec, 1, 0));
        let (mut new, hello) = Device::connect_as(service.mqtt(), &kept(new_version));
        assert_eq!(hello.session_present, new_version != Version::V31);
        if old_version == Version::V5 {
            assert_eq!(old.hear(), Heard::Disconnect(0x8E));
        }
        assert_eq!(old.hear(), Heard::Closed);
        // The open identifier has moved along.
        new.publish(QoS::ExactlyOnce, 1, "t", b"x");
        assert_eq!(new.hear(), Heard::Answer(PacketType::PubRec, 1, 0));
        new.release(1);
        assert_eq!(new.hear(), Heard::Answer(PacketType::PubComp, 1, 0));
        new.leave();
    }
    assert_eq!(texts(service.embedded(), "all").len(), 100);
    assert_eq!(
        (metric(&service, "connections_closed_total{reason=\"session_taken_over\"}"), metric(&service, "sessions")),
        (100, 100)
    );
    let moved = metric(&service, "connections_handed_over_total");
    assert!((20..=180).contains(&moved), "{moved} of 200 were accepted by the other shard");
}

/// Many at once fight for one name. One of them has it in the end, and everything else is gone.
#[test]
fn a_storm_of_takeovers_leaves_one() {
    // More often than is allowed otherwise.
    let service = Service::start(&config_with("shards = 2", &format!("[mqtt]\ntakeovers_max = 0\n{SINK}")));
    let to = service.mqtt();
    let fights: Vec<_> = (0..4).map(|thread| std::thread::spawn(move || fight(to, thread))).collect();
    let answered: usize = fights.into_iter().map(|fight| fight.join().expect("a thread")).sum();
    // The last of each thread stands until another one's comes; then they go.
    until("all connections to be over", || metric(&service, "connections") == 0);
    until_metric(&service, "sessions", 0);
    let recorded = texts(service.embedded(), "all").len();
    assert!(recorded >= answered && recorded <= 4 * 50, "{answered} answered, {recorded} recorded");
    assert_eq!(metric(&service, "connects_total{result=\"accepted\"}"), 200);
}

/// Connects again and again; gives how many of its publishes were answered.
fn fight(to: SocketAddr, thread: usize) -> usize {
    let mut answered = 0;
    for round in 0..50 {
        let mut device = Device::connect(to, VERSIONS[(thread + round) % 3], "the one");
        device.dribble(b"\x32\x07\x00\x01t\x00\x01\x00\x00");
        loop {
            match device.hear() {
                Heard::Answer(PacketType::PubAck, 1, 0) => {
                    answered += 1;
                    break;
                }
                Heard::Disconnect(0x8E) => {}
                Heard::Closed => break,
                other => panic!("{other:?}"),
            }
        }
    }
    answered
}
