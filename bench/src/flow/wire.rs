//! MQTT 3.1.1 and 5.0 for a publisher, independent of the codec under test.

use anyhow::bail;

/// Appends CONNECT. A kept session: 3.1.1 clean session 0; 5.0 an expiry interval, and clean start only the `first` time.
pub(crate) fn connect(out: &mut Vec<u8>, v5: bool, client_id: &str, kept: bool, first: bool, keep_alive_s: u16) {
    let clean = if v5 { first || !kept } else { !kept };
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', if v5 { 5 } else { 4 }, u8::from(clean) << 1];
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    if v5 && kept {
        // Session Expiry Interval (0x11): an hour.
        body.extend_from_slice(&[5, 0x11, 0, 0, 0x0e, 0x10]);
    } else if v5 {
        body.push(0);
    }
    text(&mut body, client_id);
    out.push(0x10);
    variable(out, body.len());
    out.extend_from_slice(&body);
}

/// Appends PUBLISH up to its payload of `payload_bytes`, which the caller appends. `packet_id`: not at QoS 0.
pub(crate) fn publish(
    out: &mut Vec<u8>,
    v5: bool,
    dup: bool,
    qos: u8,
    topic: &str,
    packet_id: u16,
    payload_bytes: usize,
) {
    out.push(0x30 | u8::from(dup) << 3 | qos << 1);
    variable(out, 2 + topic.len() + if qos > 0 { 2 } else { 0 } + usize::from(v5) + payload_bytes);
    text(out, topic);
    if qos > 0 {
        out.extend_from_slice(&packet_id.to_be_bytes());
    }
    if v5 {
        out.push(0);
    }
}

/// Appends PUBREL.
pub(crate) fn release(out: &mut Vec<u8>, packet_id: u16) {
    let [high, low] = packet_id.to_be_bytes();
    out.extend_from_slice(&[0x62, 2, high, low]);
}

/// PINGREQ.
pub(crate) const PING: [u8; 2] = [0xc0, 0];
/// DISCONNECT, normal, in 5.0 with the session's expiry as it was.
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A packet of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// CONNACK: `receive_maximum` is 65,535 if there is none.
    Connected { code: u8, session_present: bool, receive_maximum: u16 },
    /// PUBACK, PUBREC or PUBCOMP (type 4, 5, 7); 3.1.1 has no code: 0.
    Answer { kind: u8, packet_id: u16, code: u8 },
    /// PINGRESP.
    Pong,
    /// DISCONNECT (5.0).
    Disconnect { code: u8 },
}

/// The first packet of `bytes` and its length; `None`: the packet is not whole.
pub(crate) fn next(bytes: &[u8], v5: bool) -> anyhow::Result<Option<(Heard, usize)>> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, used)) = read_variable(rest)? else { return Ok(None) };
    let Some(body) = rest.get(used..used + length) else { return Ok(None) };
    let heard = match (first >> 4, body) {
        (2, [flags, code, properties @ ..]) => Heard::Connected {
            code: *code,
            session_present: flags & 1 == 1,
            receive_maximum: if v5 { receive_maximum(properties)? } else { u16::MAX },
        },
        (kind @ (4 | 5 | 7), [high, low, rest @ ..]) => Heard::Answer {
            kind,
            packet_id: u16::from_be_bytes([*high, *low]),
            code: rest.first().copied().unwrap_or(0),
        },
        (13, []) => Heard::Pong,
        (14, rest) => Heard::Disconnect { code: rest.first().copied().unwrap_or(0) },
        (kind, _) => bail!("unexpected packet of type {kind}: {bytes:02x?}"),
    };
    Ok(Some((heard, 1 + used + length)))
}

/// Receive Maximum (0x21) among the properties of CONNACK.
fn receive_maximum(bytes: &[u8]) -> anyhow::Result<u16> {
    let Some((length, used)) = read_variable(bytes)? else { return Ok(u16::MAX) };
    let mut rest = bytes.get(used..used + length).unwrap_or_default();
    let mut found = u16::MAX;
    while let [id, tail @ ..] = rest {
        let size = match id {
            0x24 | 0x25 | 0x28 | 0x29 | 0x2a => 1,
            0x13 | 0x21 | 0x22 => 2,
            0x11 | 0x27 => 4,
            0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text_bytes(tail),
            0x26 => text_bytes(tail) + text_bytes(tail.get(text_bytes(tail)..).unwrap_or_default()),
            other => bail!("CONNACK with property {other:#x}"),
        };
        if let (0x21, [high, low, ..]) = (id, tail) {
            found = u16::from_be_bytes([*high, *low]);
        }
        rest = tail.get(size..).unwrap_or_default();
    }
    Ok(found)
}

fn text_bytes(bytes: &[u8]) -> usize {
    match bytes {
        [high, low, ..] => 2 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => bytes.len(),
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a variable byte integer (5.0 §1.5.5).
pub(crate) fn variable(out: &mut Vec<u8>, mut value: usize) {
    while value > 127 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn read_variable(bytes: &[u8]) -> anyhow::Result<Option<(usize, usize)>> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= 4 { bail!("a length of more than four bytes") } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_are_as_the_standard_has_them() {
        let mut out = Vec::new();
        publish(&mut out, false, true, 2, "a/b", 0x0102, 3);
        assert_eq!(out, [0x3c, 10, 0, 3, b'a', b'/', b'b', 1, 2]);
        out.clear();
        publish(&mut out, true, false, 0, "t", 9, 200);
        assert_eq!(out, [0x30, 0xcc, 1, 0, 1, b't', 0]);
    }

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let connack = [0x20, 12, 1, 0, 9, 0x21, 0, 20, 0x12, 0, 1, b'x', 0x24, 1];
        let heard = Heard::Connected { code: 0, session_present: true, receive_maximum: 20 };
        assert_eq!(next(&connack, true).unwrap(), Some((heard, 14)));
        for cut in 0..connack.len() {
            assert_eq!(next(&connack[..cut], true).unwrap(), None);
        }
        let answer = Heard::Answer { kind: 5, packet_id: 258, code: 0x87 };
        assert_eq!(next(&[0x50, 4, 1, 2, 0x87, 0, 0xd0], true).unwrap(), Some((answer, 6)));
        assert_eq!(next(&[0xd0, 0], false).unwrap(), Some((Heard::Pong, 2)));
        assert!(next(&[0x30, 0], false).is_err());
    }

    #[test]
    fn a_kept_session_is_asked_for_in_each_version() {
        let mut out = Vec::new();
        connect(&mut out, false, "c", true, true, 60);
        assert_eq!(out, [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 0, 0, 60, 0, 1, b'c']);
        for (first, flags) in [(true, 2), (false, 0)] {
            out.clear();
            connect(&mut out, true, "c", true, first, 60);
            assert_eq!(
                out,
                [0x10, 19, 0, 4, b'M', b'Q', b'T', b'T', 5, flags, 0, 60, 5, 0x11, 0, 0, 0x0e, 0x10, 0, 1, b'c']
            );
        }
    }
}
