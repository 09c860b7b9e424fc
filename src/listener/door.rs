//! Reads the first packet of a connection and says what becomes of it. Bytes in, a verdict out; no socket.
//!
//! Only CONNECT may come first [MQTT-3.1.0-1]. Until it is whole the connection holds no session and costs its bytes
//! alone, bounded by [`CONNECT_BYTES_MAX`](crate::limits::CONNECT_BYTES_MAX).

use crate::limits::CONNECT_BYTES_MAX;
use crate::mqtt::decode;
use crate::mqtt::frame;
use crate::mqtt::malformed::Malformed;
use crate::mqtt::packet::Connect;
use crate::mqtt::reason::ReasonCode;

/// What the first bytes of a connection are.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// Not whole yet.
    Wait,
    /// A CONNECT of so many bytes; more may follow it in the same slice.
    Connect(Box<Connect<'a>>, usize),
    /// Not a CONNECT, or one that breaks the standard.
    Refuse(Malformed),
}

/// Looks at all bytes that a connection has sent so far.
#[must_use]
pub fn look(bytes: &[u8]) -> Verdict<'_> {
    const CONNECT: u8 = 1;
    match bytes.first() {
        None => return Verdict::Wait,
        Some(first) if first >> 4 != CONNECT => {
            let what = "the first packet is not a CONNECT";
            return Verdict::Refuse(Malformed { reason: ReasonCode::PROTOCOL_ERROR, clause: "MQTT-3.1.0-1", what });
        }
        Some(_) => {}
    }
    match frame::next(bytes, CONNECT_BYTES_MAX) {
        Ok(None) => Verdict::Wait,
        Ok(Some(frame)) => match decode::connect(frame) {
            Ok(connect) => Verdict::Connect(Box::new(connect), frame.len),
            Err(malformed) => Verdict::Refuse(malformed),
        },
        Err(malformed) => Verdict::Refuse(malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: &[u8] = b"\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc";

    #[test]
    fn a_connect_is_seen_when_it_is_whole_and_not_before() {
        for len in 0..CONNECT.len() {
            assert!(matches!(look(&CONNECT[..len]), Verdict::Wait), "{len}");
        }
        let more = [CONNECT, b"\xc0\x00"].concat();
        match look(&more) {
            Verdict::Connect(connect, used) => assert_eq!((connect.client_id, used), ("abc", CONNECT.len())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn anything_else_first_is_refused_at_its_first_byte() {
        for kind in (0..=15u8).filter(|k| *k != 1) {
            assert!(matches!(look(&[kind << 4]), Verdict::Refuse(_)), "{kind}");
        }
    }

    #[test]
    fn an_announcement_of_256_mib_is_refused_before_anything_is_kept() {
        assert!(matches!(look(b"\x10\xff\xff\xff\x7f"), Verdict::Refuse(_)));
    }
}
