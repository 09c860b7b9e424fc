//! The parts common to all messages in the log.

use std::time::Duration;

use forebay_mqtt::packet::{Publish, Version};
use forebay_mqtt::{decode, frame};
use forebay_runtime::seam::Monotonic;
use forebay_session::properties;

/// The message that a log has as a PUBLISH packet of 5.0. `None`: the bytes are not exactly one packet.
pub(crate) fn stored_publish(packet: &[u8]) -> Option<Publish<'_>> {
    let frame = frame::next(packet, u32::MAX).ok().flatten().filter(|frame| frame.len == packet.len())?;
    let is_publish = frame.first >> 4 == PUBLISH;
    decode::publish(Version::V5, frame.first, frame.body).ok().filter(|publish| is_publish && !publish.topic.is_empty())
}

/// The first four bits of a PUBLISH.
const PUBLISH: u8 = 3;

/// The time until which a message may be sent, in the form of [`forebay_buffer::Buffer::deadline`]. `None`: it does not expire.
pub(crate) type Deadline = Option<(i64, u64)>;

/// Appends a deadline: on the wall clock i64 (ms), how long from then u64 (ms), both big-endian, and 0 where there is none.
pub(crate) fn put_deadline(deadline: Deadline, out: &mut Vec<u8>) {
    let (wall_ms, left_ms) = deadline.unwrap_or_default();
    out.extend_from_slice(&wall_ms.to_be_bytes());
    out.extend_from_slice(&left_ms.to_be_bytes());
}

/// Reads a deadline. Returns it with the bytes after it.
pub(crate) fn take_deadline(bytes: &[u8]) -> Option<(Deadline, &[u8])> {
    let (wall_ms, rest) = bytes.split_first_chunk()?;
    let (left_ms, rest) = rest.split_first_chunk()?;
    let (wall_ms, left_ms) = (i64::from_be_bytes(*wall_ms), u64::from_be_bytes(*left_ms));
    Some(((wall_ms != 0 || left_ms != 0).then_some((wall_ms, left_ms)), rest))
}

/// Calls back with a message of the previous process: the time left of its Message Expiry Interval, and the time from which that counts. The interval is
/// rounded up to a second and counts from that much earlier than now, so that the message ends when it would have.
pub(crate) fn with_time_left<T>(
    publish: &Publish<'_>,
    until: Option<Monotonic>,
    now: Monotonic,
    then: impl FnOnce(&Publish<'_>, Monotonic) -> T,
) -> T {
    let all = publish.properties.message_expiry_interval_s();
    let (Some(until), Some(all)) = (until, all) else { return then(publish, now) };
    let left = until.since(now);
    let left_s = u32::try_from(left.saturating_add(Duration::from_millis(999)).as_secs()).unwrap_or(u32::MAX);
    let rounded_up = Duration::from_secs(left_s.into()).saturating_sub(left);
    let since = Monotonic(now.0.saturating_sub(u64::try_from(rounded_up.as_nanos()).unwrap_or(0)));
    let properties = properties(publish, Version::V5, all.saturating_sub(left_s), &[]);
    then(&Publish { properties: properties.as_properties(), ..publish.clone() }, since)
}

#[cfg(test)]
mod tests {
    use forebay_mqtt::packet::QoS;
    use forebay_mqtt::property::{Property, PropertyBuf};

    use super::*;

    #[test]
    fn a_message_that_is_read_again_ends_when_it_would_have() {
        let mut properties = PropertyBuf::new();
        properties.push(Property::MessageExpiryInterval(4));
        let publish = Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "t",
            packet_id: 1,
            properties: properties.as_properties(),
            payload: b"a",
        };
        let now = Monotonic(10_000_000_000);
        for left_ms in [1, 999, 1_000, 1_001, 2_500, 4_000] {
            let until = now.after(Duration::from_millis(left_ms));
            let (left_s, since) = with_time_left(&publish, Some(until), now, |publish, since| {
                (publish.properties.message_expiry_interval_s().expect("it expires"), since)
            });
            assert_eq!(u64::from(left_s), left_ms.div_ceil(1_000));
            assert_eq!(since.after(Duration::from_secs(left_s.into())), until, "{left_ms} ms");
        }
    }
}
