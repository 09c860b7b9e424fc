//! A retained message as bytes in the log, where it is kept as sessions are, and told from them by its first byte: `0x80`, until when
//! on the wall clock i64 (ms), how long from then u64 (ms; both big-endian, and 0 if it does not expire), then a PUBLISH packet
//! of 5.0.

use crate::mqtt::packet::Publish;

use super::super::delivery::publish_of;
use super::super::stored::{Deadline, put_deadline, take_deadline};

/// No format of a session.
const FORMAT: u8 = 0x80;

/// Bytes before the packet.
pub(super) const HEAD_BYTES: usize = 17;

/// Appends it.
pub(super) fn encode(deadline: Deadline, packet: &[u8], out: &mut Vec<u8>) {
    out.push(FORMAT);
    put_deadline(deadline, out);
    out.extend_from_slice(packet);
}

/// Its deadline and the message. `None`: it is none.
pub(super) fn decode(payload: &[u8]) -> Option<(Deadline, Publish<'_>)> {
    let (format, rest) = payload.split_first()?;
    let (deadline, packet) = take_deadline(rest)?;
    let publish = publish_of(packet).filter(|publish| *format == FORMAT && publish.retain)?;
    Some((deadline, publish))
}

/// Whether what a log keeps is a retained message, and not a session.
pub(in crate::shard) fn is_retained(payload: &[u8]) -> bool {
    payload.first() == Some(&FORMAT)
}

/// Its topic.
#[must_use]
pub(crate) fn topic(payload: &[u8]) -> Option<&str> {
    decode(payload).map(|(_, publish)| publish.topic)
}
