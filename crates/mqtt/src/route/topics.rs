//! Topics with a value each, looked up by filter: the reverse of [`super::subscriptions`].
//!
//! One sorted map. `/` is U+0000 in its keys, which no topic contains [MQTT-1.5.4-2], so the topics below a level are neighbours. A
//! walk goes through them in order and skips all that cannot match: `a/+/c` costs two steps for each child of `a`, whatever is
//! below them.

use std::collections::BTreeMap;

/// Ends a level in a key. No other character is smaller.
const END: u8 = 0;
/// Greater than [`END`], and not greater than any other character of a topic.
const BEHIND: u8 = 1;

/// A topic in the form of the map's keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicKey(Box<[u8]>);

impl TopicKey {
    /// The key of a valid topic.
    #[must_use]
    pub fn new(topic: &str) -> Self {
        Self(topic.bytes().map(|byte| if byte == b'/' { END } else { byte }).collect())
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> String {
        let bytes = self.0.iter().map(|byte| if *byte == END { b'/' } else { *byte }).collect();
        String::from_utf8(bytes).unwrap_or_default()
    }

    /// The length of the key, which is that of the topic.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether this is the first of all keys, from which a walk begins; no topic has it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key at which a walk begins.
    #[must_use]
    pub fn first() -> Self {
        Self(Box::default())
    }
}

/// The relation of a key to a filter.
#[derive(Debug, PartialEq, Eq)]
enum Fit {
    Matches,
    /// The next key that may match is this one or a later one.
    Seek(TopicKey),
    /// The filter matches neither this key nor any later one.
    Over,
}

/// The caller's decision after each topic of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Go on to the next topic.
    On,
    /// The topic was not taken: the walk ends here, and may resume here.
    Stop,
}

/// A map from topics to values that is searched by filter.
#[derive(Debug)]
pub struct Topics<V> {
    map: BTreeMap<TopicKey, V>,
}

impl<V> Default for Topics<V> {
    fn default() -> Self {
        Self { map: BTreeMap::new() }
    }
}

impl<V> Topics<V> {
    /// The number of topics.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The value of a topic.
    #[must_use]
    pub fn get(&self, topic: &TopicKey) -> Option<&V> {
        self.map.get(topic)
    }

    /// The value of a topic, mutable.
    pub fn get_mut(&mut self, topic: &TopicKey) -> Option<&mut V> {
        self.map.get_mut(topic)
    }

    /// Sets the value of a topic. Returns the previous one.
    pub fn insert(&mut self, topic: TopicKey, value: V) -> Option<V> {
        self.map.insert(topic, value)
    }

    /// Takes a topic out.
    pub fn remove(&mut self, topic: &TopicKey) -> Option<V> {
        self.map.remove(topic)
    }

    /// Shows the topics that a valid filter matches, in the order of their keys, beginning with `from`; looks at `looks` keys at
    /// most. Returns the key to resume at; `None`: the walk is complete.
    pub fn walk<'a>(
        &'a self,
        filter: &str,
        from: &TopicKey,
        looks: usize,
        mut each: impl FnMut(&'a TopicKey, &'a V) -> Walk,
    ) -> Option<TopicKey> {
        let mut keys = self.map.range(from..);
        for _ in 0..looks {
            let (key, value) = keys.next()?;
            match fit(filter, key) {
                Fit::Matches if each(key, value) == Walk::Stop => return Some(key.clone()),
                Fit::Matches => {}
                Fit::Seek(next) => keys = self.map.range(next..),
                Fit::Over => return None,
            }
        }
        keys.next().map(|(key, _)| key.clone())
    }
}

/// Compares level by level like `route::filter::matches`, and returns where to look next.
fn fit(filter: &str, key: &TopicKey) -> Fit {
    let key = &*key.0;
    if key.first() == Some(&b'$') && filter.starts_with(['+', '#']) {
        return Fit::Seek(TopicKey([b'$' + 1].into())); // [MQTT-4.7.2-1]
    }
    // The key up to the last level that a `+` matched: a key after all with this beginning may match.
    let mut passed: Option<usize> = None;
    // The position of the current level; `None`: the key has no more levels.
    let mut at = Some(0);
    for level in filter.split('/') {
        if level == "#" {
            return Fit::Matches;
        }
        let Some(begin) = at else {
            // The key is too short: on to the keys below it.
            return Fit::Seek(joined(key, &[END], if level == "+" { &[] } else { level.as_bytes() }));
        };
        let end = key[begin..].iter().position(|byte| *byte == END).map(|len| begin + len);
        let of_key = &key[begin..end.unwrap_or(key.len())];
        if level == "+" {
            passed = Some(begin + of_key.len());
        } else if level.as_bytes() > of_key {
            return Fit::Seek(joined(&key[..begin], level.as_bytes(), &[]));
        } else if level.as_bytes() < of_key {
            return passed.map_or(Fit::Over, |end| Fit::Seek(joined(&key[..end], &[BEHIND], &[])));
        }
        at = end.map(|end| end + 1);
    }
    match at {
        None => Fit::Matches,
        // The key is too long, as are all keys with this beginning.
        Some(begin) => Fit::Seek(joined(&key[..begin - 1], &[BEHIND], &[])),
    }
}

fn joined(one: &[u8], two: &[u8], three: &[u8]) -> TopicKey {
    TopicKey([one, two, three].concat().into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::route::filter;

    fn of<'a>(topics: impl IntoIterator<Item = &'a str>) -> Topics<String> {
        let mut all = Topics::default();
        for topic in topics {
            all.insert(TopicKey::new(topic), topic.to_owned());
        }
        all
    }

    /// The topics that a filter matches, with at most `looks` looks per walk, and the number of walks.
    fn walked(topics: &Topics<String>, filter: &str, looks: usize, most: usize) -> (Vec<String>, usize) {
        let (mut found, mut from, mut walks) = (Vec::new(), Some(TopicKey::first()), 0);
        while let Some(begin) = from {
            let mut taken = 0;
            from = topics.walk(filter, &begin, looks, |_, topic| {
                taken += 1;
                if taken > most {
                    return Walk::Stop;
                }
                found.push(topic.clone());
                Walk::On
            });
            walks += 1;
        }
        (found, walks)
    }

    #[test]
    fn a_walk_seeks_past_what_cannot_match() {
        let mut topics = Vec::new();
        for child in 0..100 {
            topics.push(format!("a/{child}/c"));
            topics.extend((0..1_000).map(|below| format!("a/{child}/b/{below}")));
            topics.extend((0..1_000).map(|beside| format!("b/{child}/{beside}")));
        }
        let topics = of(topics.iter().map(String::as_str));
        let (found, walks) = walked(&topics, "a/+/c", 1, 1);
        assert_eq!(found.len(), 100);
        assert!(walks <= 350, "{walks} looks");
        let (found, walks) = walked(&topics, "a/7/#", 1, 1);
        assert_eq!(found.len(), 1_001);
        assert!(walks <= 1_005, "{walks} looks");
        let (found, walks) = walked(&topics, "+/99/999", 1, 1);
        assert_eq!(found, ["b/99/999"]);
        assert!(walks <= 10, "{walks} looks");
    }

    #[test]
    fn topics_that_begin_with_a_dollar_sign_are_not_for_wildcards() {
        let topics = of(["#not", "$SYS/a", "$SYS/b", "%", "a"]);
        assert_eq!(walked(&topics, "#", 10, 10).0, ["#not", "%", "a"]);
        assert_eq!(walked(&topics, "+/a", 10, 10).0, [""; 0]);
        assert_eq!(walked(&topics, "$SYS/#", 10, 10).0, ["$SYS/a", "$SYS/b"]);
    }

    proptest! {
        #[test]
        fn finds_what_the_filter_matches_and_nothing_else(
            topics in prop::collection::btree_set("[$ab\u{1}!]{0,2}(/[ab\u{1}!]{0,2}){0,4}", 0..40),
            filter in "([$ab\u{1}!]{0,2}|\\+)(/([ab\u{1}!]{0,2}|\\+)){0,3}(/#)?|#",
            looks in 1usize..9,
            most in 1usize..4,
        ) {
            let topics: BTreeSet<&str> = topics.iter().filter(|topic| !topic.is_empty()).map(String::as_str).collect();
            prop_assume!(filter::validate(&filter).is_ok());
            let all = of(topics.iter().copied());
            let (mut found, _) = walked(&all, &filter, looks, most);
            found.sort();
            let mut wanted: Vec<_> = topics.iter().filter(|topic| filter::matches(&filter, topic)).collect();
            wanted.sort();
            prop_assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), wanted.into_iter().copied().collect::<Vec<_>>());
        }
    }
}
