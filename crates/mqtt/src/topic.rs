//! Topic names and topic filters (section 4.7): their well-formedness, their levels, shared subscriptions (section 4.8). Nothing
//! here recurses: 65 535 slashes cost 65 535 steps of a loop.

use super::wire::STRING_MAX;

/// Level separator.
pub const SEPARATOR: char = '/';

/// A topic that a PUBLISH may carry: 1 to 65 535 bytes [MQTT-4.7.3-1] [MQTT-4.7.3-3], no wildcard [MQTT-4.7.0-1], no
/// U+0000 [MQTT-4.7.3-2].
#[must_use]
#[inline]
pub fn valid_name(topic: &str) -> bool {
    (1..=STRING_MAX).contains(&topic.len()) && !topic.bytes().any(|b| matches!(b, b'+' | b'#' | 0))
}

/// Whether a topic is reserved for the service, or for a broker beside it: no rule publishes there.
#[must_use]
pub fn is_of_service(topic: &str) -> bool {
    topic.starts_with("$SYS/")
}

/// Whether no client may publish to a topic. Bridges of other brokers report below `$SYS/broker/connection/` whether they are up.
#[must_use]
pub fn is_of_service_alone(topic: &str) -> bool {
    topic.strip_prefix("$SYS/").is_some_and(|rest| !rest.starts_with("broker/connection/"))
}

/// A filter that SUBSCRIBE and UNSUBSCRIBE may carry: 1 to 65 535 bytes, `#` alone in the last level [MQTT-4.7.1-1],
/// `+` alone in its level [MQTT-4.7.1-2], no U+0000. `$share` is not looked at: see [`valid_filter_v5`].
#[must_use]
pub fn valid_filter(filter: &str) -> bool {
    (1..=STRING_MAX).contains(&filter.len()) && filter_fault(filter).is_none()
}

/// [`valid_filter`] and, when it is shared, the form of [MQTT-4.8.2-1] and [MQTT-4.8.2-2].
#[must_use]
pub fn valid_filter_v5(filter: &str) -> bool {
    (1..=STRING_MAX).contains(&filter.len()) && filter_fault_v5(filter).is_none()
}

/// The sentence that a filter's characters break, its length aside.
pub(super) fn filter_fault(filter: &str) -> Option<&'static str> {
    let bytes = filter.as_bytes();
    bytes.iter().enumerate().find_map(|(at, &byte)| {
        let opens = at == 0 || bytes[at - 1] == b'/';
        let (well_formed, clause) = match byte {
            b'#' => (opens && at + 1 == bytes.len(), "MQTT-4.7.1-1"),
            b'+' => (opens && bytes.get(at + 1).is_none_or(|&next| next == b'/'), "MQTT-4.7.1-2"),
            0 => (false, "MQTT-4.7.3-2"),
            _ => (true, ""),
        };
        (!well_formed).then_some(clause)
    })
}

/// [`filter_fault`] where `$share` has its meaning.
pub(super) fn filter_fault_v5(filter: &str) -> Option<&'static str> {
    if !is_shared(filter) {
        return filter_fault(filter);
    }
    match split_shared(filter) {
        Some((_, filter)) => filter_fault(filter),
        None if filter.starts_with("$share//") || filter == "$share/" => Some("MQTT-4.8.2-1"),
        None => Some("MQTT-4.8.2-2"),
    }
}

/// Whether a filter begins with `$share/`, well formed or not. `$share` alone is an ordinary filter.
#[must_use]
pub fn is_shared(filter: &str) -> bool {
    filter.starts_with("$share/")
}

/// `$share/{ShareName}/{filter}` as (ShareName, filter). `None` if the text is no shared subscription, the ShareName is empty or
/// has a wildcard, or no filter follows.
#[must_use]
pub fn split_shared(filter: &str) -> Option<(&str, &str)> {
    let (name, filter) = filter.strip_prefix("$share/")?.split_once(SEPARATOR)?;
    let well_formed = !name.is_empty() && !name.contains(['+', '#']) && !filter.is_empty();
    well_formed.then_some((name, filter))
}

/// `$replay/{From}/{filter}` as (From, filter): a subscription that begins in the past, for clients without properties. From is
/// empty if it is missing, or no filter follows. `None` if the text does not begin with `$replay/`.
#[must_use]
pub fn split_replay(filter: &str) -> Option<(&str, &str)> {
    let rest = filter.strip_prefix("$replay/")?;
    let (from, wanted) = rest.split_once(SEPARATOR).unwrap_or_default();
    Some(if wanted.is_empty() { ("", filter) } else { (from, wanted) })
}

/// The levels of a name or filter, from the left. `a//b` has three, the middle one empty; `/` has two.
pub fn levels(topic: &str) -> impl DoubleEndedIterator<Item = &str> + Clone {
    topic.split(SEPARATOR)
}

/// Whether `filter` (a valid one) matches `topic` (a topic name) [MQTT-3.3.2-3]. Both are compared verbatim [MQTT-4.7.3-4].
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    // A leading wildcard does not reach the server's own topics [MQTT-4.7.2-1].
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut levels = topic.split('/');
    for wanted in filter.split('/') {
        match (wanted, levels.next()) {
            // Also the level above: `sport/#` matches `sport` [4.7.1.2].
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (_, Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-4.7.3-3] [3.1.1 MQTT-4.7.1-1] [3.1.1 MQTT-4.7.3-1]
    /// [3.1.1 MQTT-4.7.3-2] [3.1.1 MQTT-4.7.3-3]
    #[test]
    fn names() {
        for good in ["a", "/", "a/b", "//", " ", "$SYS/x", "ä/ö", "sport+x".replace('+', "-").as_str()] {
            assert!(valid_name(good), "{good:?}");
        }
        for bad in ["", "+", "#", "a/+/b", "a/#", "a+b", "a#", "a\0b"] {
            assert!(!valid_name(bad), "{bad:?}");
        }
        assert!(valid_name(&"/".repeat(65_535)) && !valid_name(&"/".repeat(65_536)));
    }

    /// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-2] [3.1.1 MQTT-4.7.1-2] [3.1.1 MQTT-4.7.1-3] [3.1.1 MQTT-4.7.3-2]
    #[test]
    fn filters() {
        for good in ["a", "#", "+", "a/#", "/#", "+/+/#", "/+", "a/+/b", "$SYS/#", "//", "+/"] {
            assert!(valid_filter(good), "{good:?}");
        }
        for bad in ["", "a#", "#/a", "a/#/b", "a/b#", "##", "#+", "+a", "a+", "a/b+/c", "++", "a/+#", "a\0"] {
            assert!(!valid_filter(bad), "{bad:?}");
        }
    }

    #[test]
    fn very_deep_filters_are_only_long() {
        assert!(valid_filter(&"/".repeat(65_535)));
        assert!(valid_filter(&"+/".repeat(32_767)));
        assert_eq!(levels(&"/".repeat(65_535)).count(), 65_536);
    }

    /// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    #[test]
    fn shared() {
        assert_eq!(split_shared("$share/g/a/#"), Some(("g", "a/#")));
        assert_eq!(split_shared("$share/g//"), Some(("g", "/")));
        for bad in ["$share/", "$share/g", "$share/g/", "$share//a", "$share/g+/a", "$share/#/a"] {
            assert!(is_shared(bad) && !valid_filter_v5(bad), "{bad:?}");
        }
        assert!(!valid_filter_v5("$share/g/a#"), "the filter inside is checked as well");
        assert_eq!(split_replay("$replay/-1h/a/#"), Some(("-1h", "a/#")));
        assert_eq!(split_replay("$replay/2026-11-26T10:00:00Z//"), Some(("2026-11-26T10:00:00Z", "/")));
        for bad in ["$replay/", "$replay/-1h", "$replay/-1h/", "$replay//a"] {
            assert_eq!(split_replay(bad).map(|(from, _)| from), Some(""), "{bad}");
        }
        assert_eq!((split_replay("$replay"), split_replay("a/$replay/b/c")), (None, None));
        for plain in ["$shared/a", "$share"] {
            assert!(valid_filter_v5(plain) && !is_shared(plain), "{plain:?}");
        }
    }
}
