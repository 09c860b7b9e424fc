//! A retained message as bytes in the log, where it is kept as sessions are, and told from them by its first byte: `0x80`, until when
//! on the wall clock i64 (ms), how long from then u64 (ms; both big-endian, and 0 if it does not expire), then a PUBLISH packet
//! of 5.0. With a first byte of `0x86` its publisher ([`Publisher`]) comes before the packet: its length, u32 big-endian, then its bytes.

use forebay_mqtt::packet::Publish;

use super::super::stored::{Deadline, put_deadline, stored_publish, take_deadline};
use super::Publisher;

/// The first byte of a retained message, which is no format of a session.
const FORMAT: u8 = 0x80;
const WITH_PUBLISHER: u8 = 0x86;

/// Bytes before the packet, without the publisher's own.
pub(super) const HEAD_BYTES: usize = 21;

/// Appends the record.
pub(super) fn encode(deadline: Deadline, publisher: &Publisher, packet: &[u8], out: &mut Vec<u8>) {
    let publisher = publisher.bytes();
    out.push(if publisher.is_empty() { FORMAT } else { WITH_PUBLISHER });
    put_deadline(deadline, out);
    if !publisher.is_empty() {
        out.extend_from_slice(&u32::try_from(publisher.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(publisher);
    }
    out.extend_from_slice(packet);
}

/// The deadline, the publisher and the message of a record. `None`: the record is no retained message.
pub(super) fn decode(payload: &[u8]) -> Option<(Deadline, Publisher, Publish<'_>)> {
    let (format, rest) = payload.split_first().filter(|_| is_retained(payload))?;
    let (deadline, rest) = take_deadline(rest)?;
    let (publisher, packet) = if *format == WITH_PUBLISHER {
        let (len, rest) = rest.split_first_chunk()?;
        let (publisher, packet) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
        (Publisher::decode(publisher)?, packet)
    } else {
        (Publisher::default(), rest)
    };
    let publish = stored_publish(packet).filter(|publish| publish.retain && !publish.payload.is_empty())?;
    Some((deadline, publisher, publish))
}

/// Whether a record of the log is a retained message, and not a session.
pub(crate) fn is_retained(payload: &[u8]) -> bool {
    matches!(payload.first(), Some(&(FORMAT | WITH_PUBLISHER)))
}

/// The topic of a record.
#[must_use]
pub fn topic(payload: &[u8]) -> Option<&str> {
    decode(payload).map(|(_, _, publish)| publish.topic)
}
