//! A length of time in a scenario file: `"500ms"`, `"10s"`, `"2m"`, or a number of seconds.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    pub(crate) fn ns(self) -> u64 {
        self.0.as_nanos() as u64
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).map(Self).map_err(|error| error.to_string()),
            Err(_) => humantime::parse_duration(text).map(Self).map_err(|error| error.to_string()),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&humantime::format_duration(self.0).to_string())
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            Seconds(f64),
        }
        let text = match Either::deserialize(deserializer)? {
            Either::Text(text) => text,
            Either::Seconds(seconds) => seconds.to_string(),
        };
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_in_either_form() {
        assert_eq!(Span::parse("1.5"), Ok(Span(Duration::from_millis(1_500))));
        assert_eq!(Span::parse("2m"), Ok(Span::seconds(120)));
        assert!(Span::parse("-1").is_err() && Span::parse("soon").is_err());
    }
}
