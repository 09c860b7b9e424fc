//! What is fuzzed: the crates that read what others send, and the judges that stand beside their code (`any_input`, `any_remote`, ...).

#![allow(missing_docs)]

pub use forebay_base::limits;
pub use forebay_bridge::any_remote as remote;
pub use forebay_guard::{auth, secure};
pub use forebay_listener::{proxy, ws};
pub use forebay_mqtt as mqtt;
pub use forebay_record as record;
pub use forebay_rule::any_input as rule_input;
pub use forebay_runtime as runtime;

/// Bytes of another instance.
pub mod trunk {
    pub use forebay_fleet::link::any_header::header;
    pub use forebay_fleet::trunk::any_bytes::{frames, preface};
}

/// An answer to Fetch.
pub mod kafka_fetch {
    pub use forebay_kafka::client::any_answer::answer;
    pub use forebay_kafka::consumer::any_answer::{BATCH_BYTES_MAX, records};
}

pub mod edits;
pub mod naive;

use mqtt::packet::{Packet, Sender, Version};

/// The bound on a packet, bytes.
pub const MAXIMUM_PACKET_SIZE: u32 = 1 << 20;

/// Version and sender out of one byte.
pub fn connection(byte: u8) -> (Version, Sender) {
    let version = [Version::V31, Version::V311, Version::V5, Version::V5][usize::from(byte & 3)];
    (version, if byte & 4 == 0 { Sender::Client } else { Sender::Server })
}

/// The packet at the front of `bytes`, its length, and where its frame says that it ends.
pub fn read(version: Version, sender: Sender, bytes: &[u8]) -> Option<(Packet<'_>, usize)> {
    let frame = mqtt::frame::next_for(version, sender, bytes, MAXIMUM_PACKET_SIZE).ok()??;
    assert_eq!(mqtt::frame::needed(bytes), Some(frame.len));
    assert!(frame.len <= bytes.len() && frame.body.len() < frame.len);
    Some((mqtt::decode::decode(version, sender, frame).ok()?, frame.len))
}

/// Reads all that a packet can be asked.
pub fn ask(packet: &Packet<'_>) {
    match packet {
        Packet::Connect(connect) => {
            connect.properties.iter().for_each(drop);
            if let Some(will) = &connect.will {
                assert!(mqtt::topic::valid_name(will.topic));
                will.properties.iter().for_each(drop);
            }
        }
        Packet::ConnAck(connack) => connack.properties.iter().for_each(drop),
        Packet::Publish(publish) => {
            assert!(mqtt::topic::valid_name(publish.topic) || publish.properties.topic_alias().is_some());
            assert_eq!(publish.packet_id == 0, publish.qos as u8 == 0);
            publish.properties.iter().for_each(drop);
        }
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            assert_ne!(ack.packet_id, 0);
            ack.properties.iter().for_each(drop);
        }
        Packet::Subscribe(subscribe) => {
            assert_ne!(subscribe.filters.count(), 0);
            subscribe.filters.iter().for_each(|(filter, _)| assert!(mqtt::topic::valid_filter(filter)));
        }
        Packet::Unsubscribe(unsubscribe) => assert_ne!(unsubscribe.filters.count(), 0),
        Packet::SubAck(suback) | Packet::UnsubAck(suback) => suback.properties.iter().for_each(drop),
        Packet::Disconnect(said) | Packet::Auth(said) => said.properties.iter().for_each(drop),
        Packet::PingReq | Packet::PingResp => {}
    }
}
