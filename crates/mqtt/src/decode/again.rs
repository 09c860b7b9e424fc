//! PUBLISH packets that differ in packet identifier and payload alone, as devices send many of in one write.

use super::super::packet::{Publish, QoS, Version};
use super::super::wire::{self, Reader};
use super::packet_id;

/// `Again` is the common part of such packets: the first byte, the topic, and no properties. One of them has been decoded and
/// checked.
#[derive(Clone, Copy, Debug)]
pub struct Again<'a> {
    first: u8,
    topic: &'a [u8],
    has_packet_id: bool,
    has_properties: bool,
    packet_bytes_max: usize,
}

/// A packet that [`Again::next`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next<'a> {
    /// Bytes of the whole packet.
    pub len: usize,
    /// Packet Identifier; 0 at QoS 0.
    pub packet_id: u16,
    /// Application message.
    pub payload: &'a [u8],
}

impl<'a> Again<'a> {
    /// Packets like this one, which has no properties. `first`: its first byte. `max`: the bound of a whole packet in bytes.
    #[must_use]
    pub const fn of(version: Version, first: u8, publish: &Publish<'a>, max: u32) -> Self {
        Self {
            first,
            topic: publish.topic.as_bytes(),
            has_packet_id: !matches!(publish.qos, QoS::AtMostOnce),
            has_properties: matches!(version, Version::V5),
            packet_bytes_max: max as usize,
        }
    }

    /// The packet at the front of `bytes`. `None`: the next packet is of another kind, incomplete or malformed;
    /// [`super::super::frame::next_for`] and [`super::publish`] report the error.
    #[inline]
    #[must_use]
    pub fn next<'b>(&self, bytes: &'b [u8]) -> Option<Next<'b>> {
        let (first, rest) = bytes.split_first()?;
        if *first != self.first {
            return None;
        }
        let (remaining, header) = wire::variable(rest).ok()??;
        if self.has_properties && wire::check_shortest(remaining, header).is_err() {
            return None;
        }
        let len = 1 + header + remaining as usize;
        let body = bytes.get(1 + header..len).filter(|_| len <= self.packet_bytes_max)?;
        let (topic, rest) = body.split_first_chunk()?;
        if usize::from(u16::from_be_bytes(*topic)) != self.topic.len() {
            return None;
        }
        let mut reader = Reader::new(rest.strip_prefix(self.topic)?);
        let packet_id = if self.has_packet_id { packet_id(&mut reader).ok()? } else { 0 };
        if self.has_properties && reader.u8().ok()? != 0 {
            return None;
        }
        Some(Next { len, packet_id, payload: reader.rest() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::packet::{Packet, Sender};
    use super::super::super::property::Properties;
    use super::super::super::{encode, frame};
    use super::super::publish;
    use super::*;

    /// A packet as the decoder reads it, if [`Again`] has to accept it.
    fn decoded(version: Version, first: u8, of: &Publish<'_>, bytes: &[u8], max: u32) -> Option<(usize, u16, Vec<u8>)> {
        let frame = frame::next_for(version, Sender::Client, bytes, max).ok()??;
        let next = publish(version, frame.first, frame.body).ok()?;
        let is_like = frame.first == first && next.topic == of.topic && next.properties.is_empty();
        is_like.then(|| (frame.len, next.packet_id, next.payload.to_vec()))
    }

    proptest! {
        /// `Again` accepts the packets that the decoder accepts, byte for byte, and no others: checked also for packets with a
        /// changed byte or missing bytes.
        #[test]
        fn takes_what_the_decoder_takes(
            v5: bool, qos in 0u8..2, id in 1u16..300, same: bool, payload in 0usize..300, max in 20u32..400,
            change: Option<(prop::sample::Index, u8)>, cut: Option<prop::sample::Index>,
        ) {
            let version = if v5 { Version::V5 } else { Version::V311 };
            let qos = QoS::from_bits(qos).expect("a QoS");
            let packet_id = if qos == QoS::AtMostOnce { 0 } else { id };
            let payload = vec![0; payload];
            let of = Publish {
                dup: false, qos, retain: false, topic: "a/b", packet_id, properties: Properties::EMPTY, payload: &payload,
            };
            let first = 0x30 | (qos as u8) << 1;
            let topic = if same { "a/b" } else { "a/c" };
            let mut bytes = Vec::new();
            encode::packet(version, &Packet::Publish(Publish { topic, ..of.clone() }), &mut bytes).expect("encoded");
            if let Some((at, to)) = change {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let next = Again::of(version, first, &of, max).next(&bytes);
            let next = next.map(|next| (next.len, next.packet_id, next.payload.to_vec()));
            prop_assert_eq!(next, decoded(version, first, &of, &bytes, max));
        }
    }
}
