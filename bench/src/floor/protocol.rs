//! MQTT, as far as answers require it.

use super::batch::Batch;

/// The ring's state of one connection, apart from its socket.
#[derive(Default)]
pub(crate) struct Peer {
    /// Bytes to send at the end of the turn.
    pub(crate) out: Vec<u8>,
    /// An incomplete packet.
    pub(crate) tail: Vec<u8>,
    v5: bool,
}

/// The effect of a packet on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asks {
    Nothing,
    /// The connection takes every message from now on.
    Subscribed,
    Close,
}

/// See the module.
pub(crate) struct Protocol {
    batch: Batch,
    /// Messages of this turn for subscribers, whole packets.
    pub(crate) fan_out: Vec<u8>,
    pub(crate) subscribers: usize,
}

impl Protocol {
    pub(crate) fn new(batch: Batch) -> Self {
        Self { batch, fan_out: Vec::new(), subscribers: 0 }
    }

    /// Takes the bytes of a socket.
    #[inline]
    pub(crate) fn bytes(&mut self, peer: &mut Peer, bytes: &[u8]) -> std::io::Result<Asks> {
        if peer.tail.is_empty() {
            let (used, asks) = self.packets(peer, bytes)?;
            peer.tail.extend_from_slice(&bytes[used..]);
            return Ok(asks);
        }
        let mut whole = std::mem::take(&mut peer.tail);
        whole.extend_from_slice(bytes);
        let (used, asks) = self.packets(peer, &whole)?;
        whole.drain(..used);
        peer.tail = whole;
        Ok(asks)
    }

    fn packets(&mut self, peer: &mut Peer, bytes: &[u8]) -> std::io::Result<(usize, Asks)> {
        let (mut used, mut all) = (0, Asks::Nothing);
        while let Some((first, from, to)) = cut(&bytes[used..]) {
            let packet = &bytes[used..used + to];
            match self.packet(peer, first, &packet[from..], packet)? {
                Asks::Nothing => {}
                asks => all = asks,
            }
            used += to;
        }
        Ok((used, all))
    }

    #[inline]
    fn packet(&mut self, peer: &mut Peer, first: u8, body: &[u8], packet: &[u8]) -> std::io::Result<Asks> {
        let [high, low, rest @ ..] = body else {
            return Ok(match first >> 4 {
                12 => {
                    peer.out.extend_from_slice(&[0xd0, 0]);
                    Asks::Nothing
                }
                _ => Asks::Close,
            });
        };
        match first >> 4 {
            3 => {
                let topic_bytes = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((topic, mut rest)) = rest.split_at_checked(topic_bytes) else { return Ok(Asks::Close) };
                if first & 0x06 != 0 {
                    let [high, low, after @ ..] = rest else { return Ok(Asks::Close) };
                    let kind = if first & 0x06 == 2 { 0x40 } else { 0x50 };
                    peer.out.extend_from_slice(&[kind, 2, *high, *low]);
                    rest = after;
                }
                if peer.v5 {
                    // The generator sends no properties; a server must check for them.
                    let [0, after @ ..] = rest else { return Ok(Asks::Close) };
                    rest = after;
                }
                if self.subscribers > 0 {
                    self.fan_out.extend_from_slice(packet);
                } else {
                    self.batch.push(topic, rest)?;
                }
            }
            6 => peer.out.extend_from_slice(&[0x70, 2, *high, *low]),
            1 => {
                peer.v5 = body.get(6) == Some(&5);
                let connack: &[u8] = if peer.v5 { &[0x20, 3, 0, 0, 0] } else { &[0x20, 2, 0, 0] };
                peer.out.extend_from_slice(connack);
            }
            8 => {
                // QoS 0 is granted, whatever was requested.
                let suback: &[u8] = if peer.v5 { &[0x90, 4, *high, *low, 0, 0] } else { &[0x90, 3, *high, *low, 0] };
                peer.out.extend_from_slice(suback);
                return Ok(Asks::Subscribed);
            }
            4 | 5 | 7 => {}
            _ => return Ok(Asks::Close),
        }
        Ok(Asks::Nothing)
    }
}

/// First byte of the first packet, and where its body begins and ends; `None`: the packet is not whole.
#[inline]
fn cut(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let first = *bytes.first()?;
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 || at == 5 {
            break;
        }
    }
    (bytes.len() >= at + length).then_some((first, at, at + length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::wire;

    #[test]
    fn packets_are_answered_in_whatever_pieces_they_come() {
        let mut bytes = Vec::new();
        wire::connect(&mut bytes, false, "c", false, true, 0);
        wire::publish(&mut bytes, false, false, 1, "a/b", 7, 200);
        bytes.resize(bytes.len() + 200, b'x');
        bytes.extend_from_slice(&wire::PING);
        for step in [1, 3, bytes.len()] {
            let (mut protocol, mut peer) = (Protocol::new(Batch::new(None)), Peer::default());
            for piece in bytes.chunks(step) {
                assert_eq!(protocol.bytes(&mut peer, piece).unwrap(), Asks::Nothing);
            }
            assert_eq!(peer.out, [0x20, 2, 0, 0, 0x40, 2, 0, 7, 0xd0, 0]);
        }
    }
}
