//! Refused publishes and the answers to their publishers.

use super::*;

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
            shard.complete(c, number, Reason::KafkaRejected);
            shard.drain(c);
            let bytes = shard.bytes(c.conn);
            assert_eq!((bytes[0], bytes[4]), (kind, 0x80), "{bytes:?}");
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(text.contains("Kafka rejected the record"), says, "{more:?}: {text}");
        }
    }
}

/// With `denied_reason = "unspecified"` a client cannot tell that it lacks a permission: neither by the code nor by the words,
/// which another refusal shares.
#[test]
fn a_client_that_is_not_to_learn_why_hears_the_same_of_both() {
    let settings = auth::Settings { hides_denials: true, ..auth::Settings::new("a", &[Method::Anonymous]) };
    let policy = Arc::new(Policy::load(&settings).expect("it has no files"));
    for receipts in [false, true] {
        for (qos, kind) in [(QoS::AtLeastOnce, 0x40), (QoS::ExactlyOnce, 0x50)] {
            let answer = |code| {
                let mut shard =
                    Shard { admission: Some(Admission::anonymous(Arc::clone(&policy))), ..Shard::default() };
                let c = shard.connect(&connect(Version::V5, "c", true));
                shard.session(c).want_receipts(receipts);
                let number = shard.open(c, &publish(qos, 1), 1);
                shard.complete(c, number, code);
                shard.drain(c);
                shard.bytes(c.conn)
            };
            assert_eq!(answer(Reason::Denied), [kind, 3, 0, 1, 0x80]);
            assert_eq!(answer(Reason::KafkaRejected), answer(Reason::Denied));
            // Refusals unrelated to permissions are unchanged.
            let full = answer(Reason::SpoolFull);
            assert!(full[4] == 0x97 && String::from_utf8_lossy(&full).contains("the disk buffer is full"), "{full:?}");
        }
    }
}
