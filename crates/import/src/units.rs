//! Durations and sizes of EMQX, in our form.

use serde_json::Value;

/// Units of time, in milliseconds, large to small.
const TIME: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
/// Units of size, large to small: EMQX's are powers of 1024, whatever their names.
const SIZE: [(&str, &str, u64); 3] = [("gb", "GiB", 1 << 30), ("mb", "MiB", 1 << 20), ("kb", "KiB", 1 << 10)];

/// A duration: `"5ms"`, `"1h30m"`, or a number of `unit`s.
pub(super) fn duration(value: &Value, unit: &str) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_ascii_lowercase(),
        Value::Number(number) => format!("{}{unit}", number.as_u64()?),
        _ => return None,
    };
    let mut rest = if text.bytes().all(|b| b.is_ascii_digit()) { format!("{text}{unit}") } else { text };
    let mut millis = 0u64;
    while !rest.is_empty() {
        let (number, tail) = number_of(&rest)?;
        let name = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (name, tail) = tail.split_at(name);
        let (_, factor) = TIME.iter().find(|(unit, _)| *unit == name)?;
        millis = millis.checked_add(number.checked_mul(*factor)?)?;
        rest = tail.trim_start().to_owned();
    }
    let fits = |factor: u64| millis > 0 && millis.is_multiple_of(factor);
    let (name, factor) = TIME[1..].iter().find(|(_, factor)| fits(*factor)).unwrap_or(&("s", 1_000));
    Some(format!("{}{name}", millis / factor))
}

/// A size: `"896KB"`, or a number of bytes.
pub(super) fn size(value: &Value) -> Option<String> {
    let bytes = match value {
        Value::String(text) => {
            let text = text.trim().to_ascii_lowercase();
            let (number, tail) = number_of(&text)?;
            let factor = match tail.trim() {
                "" | "b" => 1,
                unit => SIZE.iter().find(|(name, ..)| *name == unit)?.2,
            };
            number.checked_mul(factor)?
        }
        number => number.as_u64()?,
    };
    let fits = |factor: u64| bytes > 0 && bytes.is_multiple_of(factor);
    let unit = SIZE.iter().find(|(.., factor)| fits(*factor));
    Some(unit.map_or_else(|| format!("{bytes}B"), |(_, name, factor)| format!("{}{name}", bytes / factor)))
}

fn number_of(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, tail) = text.split_at(digits);
    Some((number.parse().ok()?, tail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations() {
        for (given, ours) in [
            (json!("5ms"), "5ms"),
            (json!("0ms"), "0s"),
            (json!("60s"), "1m"),
            (json!("1h30m"), "90m"),
            (json!("1D"), "1d"),
            (json!("2w"), "14d"),
            (json!(1500), "1500ms"),
        ] {
            assert_eq!(duration(&given, "ms").as_deref(), Some(ours), "{given}");
        }
        assert_eq!(duration(&json!(5), "s").as_deref(), Some("5s"));
        assert_eq!(duration(&json!("5"), "s").as_deref(), Some("5s"));
        for none in [json!("5 apples"), json!(true), json!("s"), json!(-1), json!("99999999999999999w")] {
            assert_eq!(duration(&none, "ms"), None, "{none}");
        }
    }

    /// EMQX's KB are 1024 bytes; ours are 1000.
    #[test]
    fn sizes() {
        for (given, ours) in [
            (json!("896KB"), "896KiB"),
            (json!("1024kb"), "1MiB"),
            (json!("2GB"), "2GiB"),
            (json!(1_048_576), "1MiB"),
            (json!("100"), "100B"),
            (json!("0MB"), "0B"),
        ] {
            assert_eq!(size(&given).as_deref(), Some(ours), "{given}");
        }
        for none in [json!("10 bananas"), json!(-1), json!("KB"), json!("99999999999999GB")] {
            assert_eq!(size(&none), None, "{none}");
        }
    }
}
