//! A record's headers as MQTT 5 properties. Headers that Forebay's sinks write become the original properties again, all others user properties. A value that
//! is no text in MQTT's sense is in base64, and the name of its property begins with `mqtt-bin-`.

use std::io::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::mapping::{Mapping, Reason, Scratch};
use forebay_kafka::producer::RECEIVED_MS;
use forebay_mqtt::property::{Property, PropertyBuf};
use forebay_mqtt::topic::valid_name;
use forebay_record::names::{self, OUR_PREFIX, USER_PREFIX};
use forebay_rule::record::{Encoded, Record};
use forebay_runtime::seam::WallMs;

const CONTENT_TYPE: &[u8] = names::CONTENT_TYPE.as_bytes();
const RESPONSE_TOPIC: &[u8] = names::RESPONSE_TOPIC.as_bytes();
const CORRELATION_DATA: &[u8] = names::CORRELATION_DATA.as_bytes();
const EXPIRY: &[u8] = names::EXPIRY.as_bytes();
const FORMAT: &[u8] = names::FORMAT.as_bytes();
const HOPS: &[u8] = names::HOPS.as_bytes();
/// The prefix of a user property with a value in base64.
const BINARY_PREFIX: &str = "mqtt-bin-";

/// The number of times that the record's message has been a record before.
pub(super) fn hops(record: &Record<'_>) -> u8 {
    // A value that is no number was not written by a sink: it counts as the highest.
    record.header(HOPS).map_or(0, |value| number(value).unwrap_or(u8::MAX))
}

/// Pushes all properties of a record's message. Returns the number of headers that MQTT cannot represent. `is_value`: the payload is the record's value.
///
/// # Errors
/// [`Reason::Expired`].
pub(super) fn write(
    mapping: &Mapping,
    of: &Encoded<'_>,
    is_value: bool,
    now: WallMs,
    scratch: &mut Scratch,
) -> Result<u32, Reason> {
    let Scratch { text, encoded, properties, .. } = scratch;
    let mut left_out = 0;
    for (name, template) in &mapping.user_properties {
        text.clear();
        if template.render(of, text).is_ok() {
            left_out += u32::from(!push_user(name, text, encoded, properties));
        }
    }
    if !mapping.has_properties {
        return Ok(left_out);
    }
    let mut seen = [false; 5];
    for (name, value) in of.record.headers.clone() {
        let value = value.unwrap_or_default();
        if name == RECEIVED_MS || name == HOPS {
            continue;
        }
        // MQTT has each of these once.
        if let Some((place, property)) = property(name, value)
            && !std::mem::replace(&mut seen[place], true)
        {
            let property = match property {
                // These properties describe the value, and not a payload made of other parts.
                Property::ContentType(_) | Property::PayloadFormatIndicator(_) if !is_value => continue,
                Property::MessageExpiryInterval(s) => Property::MessageExpiryInterval(left(s, of.record, now)?),
                other => other,
            };
            left_out += u32::from(!properties.push(property));
            continue;
        }
        let Some(name) = text_of(name) else {
            left_out += 1;
            continue;
        };
        if mapping.taken.iter().any(|taken| **taken == *name) {
            continue;
        }
        let name = plain(name);
        // A user property of the source has this name.
        if !mapping.user_properties.iter().any(|(own, _)| **own == *name) {
            left_out += u32::from(!push_user(name, value, encoded, properties));
        }
    }
    Ok(left_out)
}

/// The property that a sink has written as this header, and its number among them. `None`: no sink has written it.
fn property<'a>(name: &[u8], value: &'a [u8]) -> Option<(usize, Property<'a>)> {
    Some(match name {
        CONTENT_TYPE => (0, Property::ContentType(text_of(value)?)),
        RESPONSE_TOPIC => (1, Property::ResponseTopic(text_of(value).filter(|topic| valid_name(topic))?)),
        CORRELATION_DATA => (2, Property::CorrelationData(value)),
        EXPIRY => (3, Property::MessageExpiryInterval(number(value)?)),
        FORMAT => (4, Property::PayloadFormatIndicator(number(value).filter(|format| *format <= 1)?)),
        _ => return None,
    })
}

/// The rest of a Message Expiry Interval, which counts from the time of receipt [MQTT-3.3.2-6]: seconds, rounded up.
fn left(seconds: u32, record: &Record<'_>, now: WallMs) -> Result<u32, Reason> {
    let since = record.header(RECEIVED_MS).and_then(number::<i64>).unwrap_or(record.timestamp);
    // A record without a time, or with one that is ahead of this clock, has no age.
    let age_ms = if since < 0 { 0 } else { now.0.saturating_sub(since).max(0) };
    let left_ms = i64::from(seconds) * 1_000 - age_ms;
    // A message that expires at once does so only when time has passed.
    if left_ms < 0 || (left_ms == 0 && age_ms > 0) {
        return Err(Reason::Expired);
    }
    Ok(u32::try_from((left_ms + 999) / 1_000).unwrap_or(seconds))
}

/// Pushes a user property. `false`: MQTT cannot represent it.
fn push_user(name: &str, value: &[u8], encoded: &mut Vec<u8>, properties: &mut PropertyBuf) -> bool {
    if let Some(value) = text_of(value) {
        return properties.push(Property::UserProperty(name, value));
    }
    encoded.clear();
    // Writing to a Vec cannot fail.
    let _ = write!(encoded, "{BINARY_PREFIX}{name}");
    let (start, end) = (encoded.len(), encoded.len() + value.len().div_ceil(3) * 4);
    encoded.resize(end, 0);
    // The buffer has exactly the length of the encoding.
    let len = BASE64.encode_slice(value, &mut encoded[start..]).unwrap_or_default();
    let text = std::str::from_utf8(&encoded[..start + len]).unwrap_or_default();
    properties.push(Property::UserProperty(&text[..start], &text[start..]))
}

/// The name that a user property had before a sink put a prefix in front, as it does for names that begin like Forebay's own headers.
fn plain(name: &str) -> &str {
    name.strip_prefix(USER_PREFIX).filter(|rest| rest.starts_with(OUR_PREFIX)).unwrap_or(name)
}

/// The bytes as a text of MQTT's: UTF-8 without U+0000 [MQTT-1.5.4-1] [MQTT-1.5.4-2].
fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// A number in plain digits, as a sink writes it.
fn number<T: FromStr>(bytes: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(bytes).ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}
