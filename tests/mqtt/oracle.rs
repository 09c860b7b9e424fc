//! The second opinion: mqtt-protocol-core 0.7.9, its framing and its parser of each packet. It knows 3.1.1 and 5.0.

use forebay::mqtt::packet::Version;
use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::{PacketBuildResult, PacketBuilder, PacketData, RawPacket};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::MqttError;

/// What it says of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Opinion {
    /// The packet, written again.
    Accepted(Vec<u8>),
    /// Bytes are missing.
    Incomplete,
    /// Not well formed, or not allowed.
    Refused(MqttError),
}

/// Its opinion of the packet at the front of `bytes`; `None` where it has none: 3.1.
pub(crate) fn opinion(version: Version, bytes: &[u8], max: u32) -> Option<Opinion> {
    if version == Version::V31 {
        return None;
    }
    let mut builder = PacketBuilder::with_maximum_packet_size(max);
    Some(match builder.feed(&mut Cursor::new(bytes)) {
        PacketBuildResult::Incomplete => Opinion::Incomplete,
        PacketBuildResult::Error(error) => Opinion::Refused(error),
        PacketBuildResult::Complete(raw) => match parse(version, &raw) {
            Ok(packet) => Opinion::Accepted(packet.to_continuous_buffer()),
            Err(error) => Opinion::Refused(error),
        },
    })
}

/// As its connection does, by packet type.
fn parse(version: Version, raw: &RawPacket) -> Result<Packet, MqttError> {
    macro_rules! exact {
        ($type:ty) => {
            raw.parse_exact(<$type>::parse).map(Packet::from)
        };
    }
    if let PacketData::Publish(body) = &raw.data {
        return match version {
            Version::V5 => v5_0::Publish::parse(raw.flags(), body.clone()).map(|(packet, _)| packet.into()),
            _ => v3_1_1::Publish::parse(raw.flags(), body.clone()).map(|(packet, _)| packet.into()),
        };
    }
    match (version, raw.packet_type()) {
        (Version::V5, 1) => exact!(v5_0::Connect),
        (Version::V5, 2) => exact!(v5_0::Connack),
        (Version::V5, 4) => exact!(v5_0::Puback),
        (Version::V5, 5) => exact!(v5_0::Pubrec),
        (Version::V5, 6) => exact!(v5_0::Pubrel),
        (Version::V5, 7) => exact!(v5_0::Pubcomp),
        (Version::V5, 8) => exact!(v5_0::Subscribe),
        (Version::V5, 9) => exact!(v5_0::Suback),
        (Version::V5, 10) => exact!(v5_0::Unsubscribe),
        (Version::V5, 11) => exact!(v5_0::Unsuback),
        (Version::V5, 12) => exact!(v5_0::Pingreq),
        (Version::V5, 13) => exact!(v5_0::Pingresp),
        (Version::V5, 14) => exact!(v5_0::Disconnect),
        (Version::V5, 15) => exact!(v5_0::Auth),
        (_, 1) => exact!(v3_1_1::Connect),
        (_, 2) => exact!(v3_1_1::Connack),
        (_, 4) => exact!(v3_1_1::Puback),
        (_, 5) => exact!(v3_1_1::Pubrec),
        (_, 6) => exact!(v3_1_1::Pubrel),
        (_, 7) => exact!(v3_1_1::Pubcomp),
        (_, 8) => exact!(v3_1_1::Subscribe),
        (_, 9) => exact!(v3_1_1::Suback),
        (_, 10) => exact!(v3_1_1::Unsubscribe),
        (_, 11) => exact!(v3_1_1::Unsuback),
        (_, 12) => exact!(v3_1_1::Pingreq),
        (_, 13) => exact!(v3_1_1::Pingresp),
        (_, 14) => exact!(v3_1_1::Disconnect),
        _ => Err(MqttError::MalformedPacket),
    }
}
