//! Refused publishes and what their publishers are told.

use super::*;
use ReasonCode as R;

/// [MQTT-3.4.2-2] [MQTT-3.5.2-2]
#[test]
fn a_refusal_says_why_where_the_client_takes_it_and_has_room() {
    let quiet = [Property::RequestProblemInformation(false)];
    let small = [Property::MaximumPacketSize(24)];
    for (more, says) in [(&[] as &[Property<'_>], true), (&quiet, false), (&small, false)] {
        for (qos, kind) in [(QoS::AtLeastOnce, 0x40), (QoS::ExactlyOnce, 0x50)] {
            let mut shard = Shard::default();
            let asked = properties(more);
            let connect = Connect { properties: asked.as_properties(), ..connect(Version::V5, "c", true) };
            let c = shard.connect(&connect);
            let number = shard.open(c, &publish(qos, 1), 1);
            shard.complete(c, number, R::UNSPECIFIED_ERROR);
            shard.drain(c);
            let bytes = shard.bytes(c.conn);
            assert_eq!((bytes[0], bytes[4]), (kind, 0x80), "{bytes:?}");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(text.contains("Kafka rejected the record"), says, "{more:?}: {text}");
        }
    }
}
