//! Durations and sizes as people write them: a number and a unit, no space, no fraction.

use std::fmt;
use std::time::Duration;

use super::problem::Fault;

/// Units of time, in nanoseconds, small to large.
const TIME: [(&str, u64); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Units of size, in bytes.
const SIZE: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

const TIME_HINT: &str = "write a whole number and one of us, ms, s, m, h, d, as in \"2ms\"";
const SIZE_HINT: &str =
    "write a whole number and one of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB, as in \"256KiB\" or \"1MB\"";

/// Reads `"2ms"`.
pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    let nanos = scaled(text, &TIME).map_err(|why| Fault::new(why.of("a duration", text)).hint(TIME_HINT))?;
    Ok(Duration::from_nanos(nanos))
}

/// Reads `"256KiB"`, in bytes. `KB` is taken for `kB`.
pub(super) fn size(text: &str) -> Result<u64, Fault> {
    let usual = text.strip_suffix("KB").map(|number| format!("{number}kB"));
    scaled(usual.as_deref().unwrap_or(text), &SIZE).map_err(|why| Fault::new(why.of("a size", text)).hint(SIZE_HINT))
}

/// A duration in the configuration's form, for the command line; `None`: the text is none.
#[must_use]
pub fn duration_of(text: &str) -> Option<Duration> {
    duration(text).ok()
}

enum Why {
    Form,
    TooLarge,
}

impl Why {
    fn of(&self, kind: &str, text: &str) -> String {
        match self {
            Self::Form => format!("\"{text}\" is not {kind}"),
            Self::TooLarge => format!("\"{text}\" is too large for {kind}"),
        }
    }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Result<u64, Why> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor).ok_or(Why::Form)?;
    if number.is_empty() {
        return Err(Why::Form);
    }
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or(Why::TooLarge)
}

/// Shows a duration in the largest unit that divides it.
pub(super) struct ShowDuration(pub(super) Duration);

impl fmt::Display for ShowDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return f.write_str("0s");
        }
        let (name, factor) = TIME.iter().rev().find(|(_, factor)| nanos.is_multiple_of(*factor)).unwrap_or(&TIME[0]);
        write!(f, "{}{name}", nanos / factor)
    }
}

/// Shows a size in the largest binary unit that divides it.
pub(super) struct ShowSize(pub(super) u64);

impl fmt::Display for ShowSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) =
            SIZE[5..].iter().rev().find(|(_, factor)| self.0 > 0 && self.0.is_multiple_of(*factor)).unwrap_or(&SIZE[0]);
        write!(f, "{}{name}", self.0 / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, millis) in [("2ms", 2), ("0s", 0), ("5s", 5_000), ("1m", 60_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("50us"), Ok(Duration::from_micros(50)));
        for bad in ["", "5", "ms", "-1s", "+1s", "1.5s", "5 s", "5S", "1m30s", "2sec", "٣s"] {
            let fault = duration(bad).unwrap_err();
            assert_eq!(
                (fault.what, fault.hint.unwrap()),
                (format!("\"{bad}\" is not a duration"), TIME_HINT.to_owned())
            );
        }
        assert!(duration("99999999999d").unwrap_err().what.contains("too large"));
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("0B", 0), ("1kB", 1_000), ("1KB", 1_000), ("256KiB", 262_144), ("8GiB", 8 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "8", "8G", "8gib", "1.5MiB", "8 MiB", "MiB", "1K"] {
            assert_eq!(size(bad).unwrap_err().what, format!("\"{bad}\" is not a size"));
        }
        assert!(size("99999999TiB").unwrap_err().what.contains("too large"));
        assert!(size("99999999999999999999999B").unwrap_err().what.contains("too large"));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(number in 0u64..1_000_000_000) {
            prop_assert_eq!(size(&ShowSize(number).to_string()), Ok(number));
            let micros = Duration::from_micros(number);
            prop_assert_eq!(duration(&ShowDuration(micros).to_string()), Ok(micros));
        }
    }
}
