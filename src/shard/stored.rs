//! What messages in the log have in common.

use std::time::Duration;

use crate::mqtt::packet::{Publish, Version};
use crate::runtime::seam::Monotonic;
use crate::session::properties;

/// Until when a message may be sent, as [`crate::buffer::Buffer::deadline`] says it; `None`: it does not expire.
pub(super) type Deadline = Option<(i64, u64)>;

/// Appends it: on the wall clock i64 (ms), how long from then u64 (ms), both big-endian, and 0 where it does not expire.
pub(super) fn put_deadline(deadline: Deadline, out: &mut Vec<u8>) {
    let (wall_ms, left_ms) = deadline.unwrap_or_default();
    out.extend_from_slice(&wall_ms.to_be_bytes());
    out.extend_from_slice(&left_ms.to_be_bytes());
}

/// Reads it, and says what is behind it.
pub(super) fn take_deadline(bytes: &[u8]) -> Option<(Deadline, &[u8])> {
    let (wall_ms, rest) = bytes.split_first_chunk()?;
    let (left_ms, rest) = rest.split_first_chunk()?;
    let (wall_ms, left_ms) = (i64::from_be_bytes(*wall_ms), u64::from_be_bytes(*left_ms));
    Some(((wall_ms != 0 || left_ms != 0).then_some((wall_ms, left_ms)), rest))
}

/// Calls back with a message of an earlier start, with what is left of its Message Expiry Interval.
pub(super) fn with_time_left<T>(
    publish: &Publish<'_>,
    until: Option<Monotonic>,
    now: Monotonic,
    then: impl FnOnce(&Publish<'_>) -> T,
) -> T {
    let left = until.map(|until| until.since(now));
    let all = publish.properties.message_expiry_interval_s();
    let (Some(left), Some(all)) = (left, all) else { return then(publish) };
    // Part of a second is a second.
    let left_s = u32::try_from(left.saturating_add(Duration::from_millis(999)).as_secs()).unwrap_or(u32::MAX);
    let properties = properties(publish, Version::V5, all.saturating_sub(left_s), &[]);
    then(&Publish { properties: properties.as_properties(), ..publish.clone() })
}
