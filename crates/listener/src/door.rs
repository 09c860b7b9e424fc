//! Reads the first packet of a connection and decides on it. Bytes in, a verdict out; no socket.
//!
//! Only CONNECT may come first [MQTT-3.1.0-1]. Until it is whole the connection has no session and costs its bytes alone, bounded
//! by [`CONNECT_BYTES_MAX`](forebay_base::limits::CONNECT_BYTES_MAX).

use forebay_base::limits::CONNECT_BYTES_MAX;
use forebay_mqtt::packet::{Connect, Version};
use forebay_mqtt::{Malformed, decode, frame};

/// The verdict on the first bytes of a connection.
#[derive(Debug)]
pub enum Verdict<'a> {
    /// Not whole yet.
    Wait,
    /// A CONNECT of this many bytes; more may follow it in the same slice.
    Connect(Box<Connect<'a>>, usize),
    /// Not a CONNECT, or one that breaks the standard; and the protocol version of the refusal, if the client understands one.
    Refuse(Malformed, Option<Version>),
}

/// Parses all bytes that a connection has sent so far.
#[must_use]
pub fn look(bytes: &[u8]) -> Verdict<'_> {
    let frame = match frame::next_connect(bytes, CONNECT_BYTES_MAX) {
        Ok(Some(frame)) => frame,
        Ok(None) => return Verdict::Wait,
        Err(malformed) => return Verdict::Refuse(malformed, None),
    };
    match decode::connect(frame) {
        Ok(connect) => Verdict::Connect(Box::new(connect), frame.len),
        Err(malformed) => Verdict::Refuse(malformed, decode::answer_version(frame.body)),
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
            assert!(matches!(look(&[kind << 4]), Verdict::Refuse(..)), "{kind}");
        }
    }

    #[test]
    fn an_announcement_of_256_mib_is_refused_before_anything_is_kept() {
        assert!(matches!(look(b"\x10\xff\xff\xff\x7f"), Verdict::Refuse(..)));
    }
}
