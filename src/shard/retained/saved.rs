//! A retained message as bytes in the log, where it is kept as sessions are, and told from them by its first byte: `0x80`, until when
//! on the wall clock i64 (ms), how long from then u64 (ms; both big-endian, and 0 if it does not expire), then a PUBLISH packet
//! of 5.0.

use std::time::Duration;

use crate::mqtt::packet::{Publish, Version};
use crate::runtime::seam::Monotonic;
use crate::session::properties;

use super::super::delivery::publish_of;
use super::Value;

/// No format of a session.
const FORMAT: u8 = 0x80;

/// Bytes before the packet.
pub(super) const HEAD_BYTES: usize = 17;

/// Appends it. `deadline`: as [`crate::buffer::Buffer::deadline`] says it.
pub(super) fn encode(deadline: Option<(i64, u64)>, packet: &[u8], out: &mut Vec<u8>) {
    let (wall_ms, left_ms) = deadline.unwrap_or_default();
    out.push(FORMAT);
    out.extend_from_slice(&wall_ms.to_be_bytes());
    out.extend_from_slice(&left_ms.to_be_bytes());
    out.extend_from_slice(packet);
}

/// Its deadline and the message. `None`: it is none.
pub(super) fn decode(payload: &[u8]) -> Option<(Option<(i64, u64)>, Publish<'_>)> {
    let (head, packet) = payload.split_at_checked(HEAD_BYTES)?;
    let (format, times) = head.split_first()?;
    let (wall_ms, left_ms) = times.split_first_chunk()?;
    let wall_ms = i64::from_be_bytes(*wall_ms);
    let left_ms = u64::from_be_bytes(left_ms.try_into().ok()?);
    let publish = publish_of(packet).filter(|publish| *format == FORMAT && publish.retain)?;
    Some(((wall_ms != 0 || left_ms != 0).then_some((wall_ms, left_ms)), publish))
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

/// The message, with what is left of its time.
pub(super) fn value(publish: &Publish<'_>, until: Option<Monotonic>, now: Monotonic) -> Value {
    let left = until.map(|until| until.since(now));
    let all = publish.properties.message_expiry_interval_s();
    let (Some(left), Some(all)) = (left, all) else { return Value::new(publish, now) };
    // Part of a second is a second.
    let left_s = u32::try_from(left.saturating_add(Duration::from_millis(999)).as_secs()).unwrap_or(u32::MAX);
    let properties = properties(publish, Version::V5, all.saturating_sub(left_s), &[]);
    Value::new(&Publish { properties: properties.as_properties(), ..publish.clone() }, now)
}
