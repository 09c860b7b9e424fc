//! Times as text, and the time.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time in milliseconds since 1970 in the form of RFC 3339: UTC, to the millisecond. The calendar is Howard Hinnant's
/// `civil_from_days`.
#[must_use]
pub fn rfc3339(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + next;
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Parses any RFC 3339 time, with its offset, to milliseconds since 1970. The calendar is Howard Hinnant's `days_from_civil`.
#[must_use]
pub fn from_rfc3339(text: &str) -> Option<i64> {
    let told: toml::value::Datetime = text.trim().parse().ok()?;
    let (date, time) = (told.date?, told.time?);
    let offset = match told.offset? {
        toml::value::Offset::Z => 0,
        toml::value::Offset::Custom { minutes } => i64::from(minutes),
    };
    let month = i64::from(date.month);
    let year = i64::from(date.year) - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + i64::from(date.day) - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let (second, nano) = (time.second.unwrap_or_default(), time.nanosecond.unwrap_or_default());
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - offset;
    Some(days * 86_400_000 + minutes * 60_000 + i64::from(second) * 1_000 + i64::from(nano) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_and_read() {
        for ms in [0, 951_782_400_000, 1_709_164_799_999, 1_795_680_000_123, -86_400_000] {
            assert_eq!(from_rfc3339(&rfc3339(ms)), Some(ms), "{}", rfc3339(ms));
        }
        assert_eq!(from_rfc3339("2026-11-21T08:56:24+01:30"), from_rfc3339("2026-11-21T07:26:24Z"));
        assert!(
            ["yesterday", "2026-11-21", "2026-11-21T08:56:24", "08:56:24Z", "2026-13-01T00:00:00Z"]
                .iter()
                .all(|text| from_rfc3339(text).is_none())
        );
    }
}
