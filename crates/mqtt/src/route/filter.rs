//! Topic filters: their validity, and the rule by which a filter matches a topic, written as plainly as in the standard. The hot
//! path uses [`super::trie`]; tests compare the trie with this.

pub use crate::topic::matches;

/// The longest filter or topic in bytes: a UTF-8 string has a two-byte length [MQTT-4.7.3-3].
pub const FILTER_BYTES_MAX: usize = 65_535;

/// The reason why a text is not a topic filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// [MQTT-4.7.3-1]
    #[error("is empty; a filter has at least one character")]
    Empty,
    /// [MQTT-4.7.3-3]
    #[error("has {0} bytes; a filter has at most 65535")]
    TooLong(usize),
    /// [MQTT-4.7.3-2]
    #[error("contains U+0000")]
    Null,
    /// `#` with characters before it in its level [MQTT-4.7.1-1].
    #[error("`#` must stand alone in its level: `{0}`", "a/#")]
    HashNotAlone,
    /// `#` before the last level [MQTT-4.7.1-1].
    #[error("`#` must be the last level")]
    HashNotLast,
    /// `+` with characters beside it in its level [MQTT-4.7.1-2].
    #[error("`+` must stand alone in its level: `{0}`", "a/+/b")]
    PlusNotAlone,
}

/// Checks that `filter` is a topic filter.
///
/// # Errors
/// The first clause that the text breaks.
pub fn validate(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.len() > FILTER_BYTES_MAX {
        return Err(FilterError::TooLong(filter.len()));
    }
    if filter.contains('\0') {
        return Err(FilterError::Null);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        match level {
            "+" => {}
            "#" if levels.peek().is_some() => return Err(FilterError::HashNotLast),
            "#" => {}
            _ if level.contains('#') => return Err(FilterError::HashNotAlone),
            _ if level.contains('+') => return Err(FilterError::PlusNotAlone),
            _ => {}
        }
    }
    Ok(())
}

/// Whether some topic matches both filters (valid ones).
#[must_use]
pub fn overlap(one: &str, other: &str) -> bool {
    let is_wild = |filter: &str| filter.starts_with(['+', '#']);
    if (is_wild(one) && other.starts_with('$')) || (is_wild(other) && one.starts_with('$')) {
        return false;
    }
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(level), Some(same)) if level == same => {}
            _ => return false,
        }
    }
}

/// Whether each level of `filter` is matched by that of `wide`, and so all of its topics are. May be false for two filters that are
/// written differently and mean the same (`#` and `+/#`).
#[must_use]
pub fn covers(wide: &str, filter: &str) -> bool {
    if wide.starts_with(['+', '#']) && filter.starts_with('$') {
        return false;
    }
    let (mut wides, mut levels) = (wide.split('/'), filter.split('/'));
    loop {
        match (wides.next(), levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn validity() {
        for good in ["a", "/", "#", "+", "a/#", "+/+", "/+/a/#", "$SYS/#", "a//b", " "] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("", FilterError::Empty),
            ("a\0b", FilterError::Null),
            ("a#", FilterError::HashNotAlone),
            ("a/b#/c", FilterError::HashNotAlone),
            ("#/a", FilterError::HashNotLast),
            ("a/#/#", FilterError::HashNotLast),
            ("a+", FilterError::PlusNotAlone),
            ("a/+b/c", FilterError::PlusNotAlone),
            ("++", FilterError::PlusNotAlone),
        ] {
            assert_eq!(validate(bad), Err(why), "{bad}");
        }
        assert_eq!(validate(&"/".repeat(65_535)), Ok(()));
        assert_eq!(validate(&"/".repeat(65_536)), Err(FilterError::TooLong(65_536)));
        assert_eq!(FilterError::HashNotAlone.to_string(), "`#` must stand alone in its level: `a/#`");
    }

    /// The standard's own examples (4.7.1.2, 4.7.1.3, 4.7.2).
    /// [MQTT-4.7.2-1] [MQTT-4.7.3-4] [3.1.1 MQTT-4.7.2-1] [3.1.1 MQTT-4.7.3-4]
    #[test]
    fn examples_of_the_standard() {
        let player = "sport/tennis/player1";
        for (filter, topic, want) in [
            ("sport/tennis/player1/#", player, true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a", true),
            ("sport/tennis/+", player, true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/x", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/x", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("ACCOUNTS", "Accounts", false),
        ] {
            assert_eq!(matches(filter, topic), want, "{filter} on {topic}");
        }
    }

    #[test]
    fn filters_beside_each_other() {
        for (one, other, overlaps, covered) in [
            ("#", "a/b", true, true),
            ("a/#", "a", true, true),
            ("a/#", "a/+/c", true, true),
            ("a/+", "a/#", true, false),
            ("a/+", "a/b", true, true),
            ("+/b", "a/+", true, false),
            ("a/b", "a/c", false, false),
            ("a/b", "a", false, false),
            ("#", "$SYS/a", false, false),
            ("$SYS/#", "$SYS/a", true, true),
            ("+/a", "$SYS/a", false, false),
        ] {
            assert_eq!((overlap(one, other), covers(one, other)), (overlaps, covered), "{one} {other}");
            assert_eq!(overlap(other, one), overlaps, "{other} {one}");
        }
    }

    proptest! {
        #[test]
        fn what_topics_say(
            one in "([ab$]|\\+)(/([ab]|\\+)){0,2}(/#)?|#", other in "([ab$]|\\+)(/([ab]|\\+)){0,2}(/#)?|#",
            topic in "[ab$](/[ab]){0,3}",
        ) {
            if matches(&one, &topic) && matches(&other, &topic) {
                prop_assert!(overlap(&one, &other));
            }
            if covers(&one, &other) && matches(&other, &topic) {
                prop_assert!(matches(&one, &topic));
            }
        }
    }
}
