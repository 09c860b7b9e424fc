//! What is fuzzed. It depends on hardly any room, so it is built here from its own files, and a target is ready soon instead of
//! behind the ring, Kafka and the control plane.

#![allow(dead_code, missing_docs)]

#[path = "../../src/mqtt/mod.rs"]
pub mod mqtt;

#[path = "../../src/limits.rs"]
pub mod limits;

#[path = "../../src/listener/proxy.rs"]
pub mod proxy;

#[path = "../../src/listener/ws/mod.rs"]
pub mod ws;

#[path = "../../src/secure/mod.rs"]
pub mod secure;

#[path = "../../src/auth/mod.rs"]
pub mod auth;

#[path = "../../src/rule/mod.rs"]
pub mod rule;

pub mod rule_input;

#[path = "../../src/runtime/seam/layer.rs"]
mod layer;

#[path = "../../src/record/mod.rs"]
pub mod record;

#[path = "../../src/runtime/seam/monotonic.rs"]
mod monotonic;

/// Of the runtime only what layers are, and the two clocks.
pub mod runtime {
    pub mod seam {
        pub use crate::layer::{Facts, Layer, LayerError, LayerFault};
        pub use crate::monotonic::Monotonic;

        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub struct WallMs(pub i64);
    }
}

// Of the Kafka side what reads an answer to Fetch, and the records in it; they stand here, as a path cannot lead out of a module that has no folder.
#[path = "../../src/kafka/consumer/buffer.rs"]
mod buffer;
#[path = "../../src/kafka/consumer/decode.rs"]
mod decode;
#[path = "../../src/kafka/fetch.rs"]
pub mod fetch;
#[path = "../../src/kafka/client/fetched.rs"]
mod fetched;
#[path = "../../src/kafka/consumer/unpacked.rs"]
mod unpacked;
#[path = "../../src/kafka/client/wire.rs"]
mod wire;

// Of bridges what reads the answers of a remote.
#[path = "../../src/bridge/asked.rs"]
mod asked;
#[path = "../../src/bridge/granted.rs"]
mod granted;
#[path = "../../src/bridge/login.rs"]
mod login;

// Of several instances what reads the bytes of another one.
#[path = "../../src/link/fields.rs"]
mod fields;
#[path = "../../src/trunk/frame.rs"]
mod frame;
#[path = "../../src/link/header.rs"]
pub mod header;
#[path = "../../src/trunk/preface.rs"]
mod preface;

pub mod kafka_fetch;
pub mod remote;
pub mod trunk;

/// What the header of a link names of the listener's room.
pub mod listener {
    pub use crate::proxy;
}

/// What they name of Kafka's room.
pub mod kafka {
    pub use crate::fetch;
}

/// What they name of its types.
pub mod types {
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct NodeId(pub i32);
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
