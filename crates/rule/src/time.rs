//! `timestamp` of a sink: the time of a record, out of the message.

use forebay_base::limits::CLOCK_SET_AFTER_MS;

use super::template::{Absent, MessageContext, Template};

/// The most that a time may be ahead of this machine's clock, in milliseconds: Kafka's default (`message.timestamp.after.max.ms`).
/// A later time would cost all records of the batch their timestamps.
pub const AHEAD_MAX_MS: i64 = 3_600_000;
/// The latest time (in the year 287396): every whole number up to it is exact in a float, too.
const LATEST_MS: i64 = 1 << 53;

/// The unit of a number, counted from 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

impl TimeUnit {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Millis => "ms",
            Self::Micros => "us",
            Self::Nanos => "ns",
        }
    }

    fn millis(self, number: i64) -> Option<i64> {
        match self {
            Self::Seconds => number.checked_mul(1_000),
            Self::Millis => Some(number),
            Self::Micros => Some(number.div_euclid(1_000)),
            Self::Nanos => Some(number.div_euclid(1_000_000)),
        }
    }

    fn millis_of_float(self, number: f64) -> f64 {
        match self {
            Self::Seconds => number * 1e3,
            Self::Millis => number,
            Self::Micros => number / 1e3,
            Self::Nanos => number / 1e6,
        }
    }
}

/// A template that yields a number, and the number's unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordTime {
    /// The template of the number.
    pub template: Template,
    /// The unit of the number.
    pub unit: TimeUnit,
}

impl RecordTime {
    /// The time of a message's record, milliseconds since 1970-01-01 UTC; fractions of one are cut off.
    ///
    /// # Errors
    /// The part that the message lacks; [`Absent::Time`]: the value is no number, before 1970, or more than [`AHEAD_MAX_MS`] ahead
    /// of the time of receipt, if this machine has a clock.
    pub fn of(&self, message: &MessageContext<'_>) -> Result<i64, Absent> {
        let mut scratch = Vec::new();
        let text = self.template.value(message, &mut scratch)?;
        let is_set = message.timestamp_ms >= CLOCK_SET_AFTER_MS;
        let latest = if is_set { message.timestamp_ms.saturating_add(AHEAD_MAX_MS) } else { LATEST_MS };
        let time = number(text, self.unit).filter(|ms| (0..=latest).contains(ms));
        time.ok_or(Absent::Time { in_payload: self.template.reads_payload() })
    }
}

/// A number in JSON's syntax, in milliseconds.
fn number(text: &[u8], unit: TimeUnit) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(whole) = text.parse::<i64>() {
        return unit.millis(whole);
    }
    // `inf` and `nan` are numbers to Rust.
    let float = text.parse::<f64>().ok().map(|number| unit.millis_of_float(number))?;
    (0.0..=LATEST_MS as f64).contains(&float).then_some(float as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_mqtt::property::{Properties, Property, PropertyBuf};

    const NOW: i64 = 1_790_000_000_000;

    fn of(template: &str, unit: TimeUnit, payload: &str) -> Result<i64, Absent> {
        let time = RecordTime { template: Template::parse(template).expect("a template"), unit };
        let mut properties = PropertyBuf::new();
        properties.push(Property::UserProperty("ts", "no number"));
        let message = MessageContext {
            topic: "1789999999/a",
            client_id: "dev-1",
            username: None,
            qos: 1,
            retain: false,
            dup: false,
            packet_id: 1,
            payload: payload.as_bytes(),
            timestamp_ms: NOW,
            properties: if template.contains("user") { properties.as_properties() } else { Properties::EMPTY },
            hops: 0,
            copy_of: None,
            output: None,
        };
        time.of(&message)
    }

    #[test]
    fn finding_k15_times_in_each_unit() {
        for (number, unit, want) in [
            ("1789999999", TimeUnit::Seconds, 1_789_999_999_000),
            ("1789999999.75", TimeUnit::Seconds, 1_789_999_999_750),
            ("1.789999999e9", TimeUnit::Seconds, 1_789_999_999_000),
            ("\"1789999999123\"", TimeUnit::Millis, 1_789_999_999_123),
            ("1789999999123.9", TimeUnit::Millis, 1_789_999_999_123),
            ("1789999999123999", TimeUnit::Micros, 1_789_999_999_123),
            ("1789999999123999999", TimeUnit::Nanos, 1_789_999_999_123),
            ("0", TimeUnit::Nanos, 0),
        ] {
            assert_eq!(of("${payload.a.ts}", unit, &format!("{{\"a\":{{\"ts\":{number}}}}}")), Ok(want), "{number}");
            assert_eq!(of("${payload}", unit, number.trim_matches('"')), Ok(want), "{number}");
        }
        assert_eq!(of("${topic[0]}", TimeUnit::Seconds, ""), Ok(1_789_999_999_000));
        assert_eq!(of("${timestamp}", TimeUnit::Millis, ""), Ok(NOW));
        assert_eq!(of("${topic[0]}${payload}", TimeUnit::Millis, "321"), Ok(1_789_999_999_321));
        let latest = (NOW + AHEAD_MAX_MS).to_string();
        assert_eq!(of("${payload}", TimeUnit::Millis, &latest), Ok(NOW + AHEAD_MAX_MS));
    }

    #[test]
    fn finding_k15_what_is_no_time() {
        let wrong = Err(Absent::Time { in_payload: true });
        let ahead = (NOW + AHEAD_MAX_MS + 1).to_string();
        for payload in
            ["", "x", "null", "true", "{}", "-1", "-0.5", "inf", "NaN", "1e300", " 1", "2026-11-26T10:00:00Z", &ahead]
        {
            assert_eq!(of("${payload}", TimeUnit::Millis, payload), wrong, "{payload}");
        }
        assert_eq!(of("${payload}", TimeUnit::Seconds, &i64::MAX.to_string()), wrong);
        assert_eq!(of("${payload.ts}", TimeUnit::Millis, "{\"ts\":null}"), wrong);
        assert_eq!(of("${payload.ts}", TimeUnit::Millis, "{}"), Err(Absent::PayloadPath));
        assert_eq!(of("${topic[1]}", TimeUnit::Millis, ""), Err(Absent::Time { in_payload: false }));
        assert_eq!(of("${user_properties.ts}", TimeUnit::Millis, ""), Err(Absent::Time { in_payload: false }));
        assert_eq!(of("${user_properties.t}", TimeUnit::Millis, ""), Err(Absent::UserProperty));
    }
}
