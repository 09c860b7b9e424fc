//! `${payload.path}`: one value out of a JSON payload. The payload is read only if a template needs it, without a tree: values off
//! the path are skipped, and the value is lent verbatim.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::sql;

/// The longest path, in steps; far below a depth that would be a problem for the reader's recursion.
const STEPS_MAX: usize = 32;

/// A step down into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// `.name`, `.'name'`: into an object.
    Name(Box<str>),
    /// `[n]`: into an array, from 0.
    Index(usize),
}

/// The way to a value in a JSON text; at least one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    steps: Box<[Step]>,
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| match step {
            Step::Name(name) if needs_quotes(name) => write!(f, ".'{}'", name.replace('\'', "''")),
            Step::Name(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        })
    }
}

impl JsonPath {
    /// Reads the text after `payload`: `.name`, `.'any name'` and `[n]`, one after the other.
    ///
    /// # Errors
    /// The error in the text.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (step, behind) = step(rest)?;
            steps.push(step);
            rest = behind;
        }
        if steps.len() > STEPS_MAX {
            return Err(format!("a path has at most {STEPS_MAX} steps"));
        }
        Ok(Self { steps: steps.into() })
    }

    /// The column at the start of the path and the steps into it, for an output of a rule. `None`: the path begins with a place in
    /// an array.
    pub(crate) fn in_output(&self) -> Option<(&str, Vec<sql::ast::Step>)> {
        let (Step::Name(column), rest) = self.steps.split_first()? else { return None };
        let step = |step: &Step| match step {
            Step::Name(name) => sql::ast::Step::Name(name.to_string()),
            // SQL counts from 1.
            Step::Index(index) => sql::ast::Step::Index(i64::try_from(*index).unwrap_or(i64::MAX).saturating_add(1)),
        };
        Some((column, rest.iter().map(step).collect()))
    }

    /// The value: the characters of a string, every other value verbatim from the payload. Of several members of one name the last
    /// counts. `None`: the payload is no JSON text, or the path leads nowhere.
    pub(crate) fn find<'a>(&self, payload: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let found = self.raw(payload)?;
        let Some(inner) = found.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
            return Some(Cow::Borrowed(found.as_bytes()));
        };
        if inner.contains('\\') {
            return serde_json::from_str(found).ok().map(|text: String| Cow::Owned(text.into_bytes()));
        }
        Some(Cow::Borrowed(inner.as_bytes()))
    }

    /// Appends the value of [`Self::find`] without allocating. `false`: there is none, and nothing is appended.
    pub(crate) fn write(&self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(found) = self.raw(payload) else { return false };
        match found.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            Some(inner) => unescape(inner, out),
            None => {
                out.extend_from_slice(found.as_bytes());
                true
            }
        }
    }

    /// The value verbatim from the payload, a string with its quotes.
    fn raw<'a>(&self, payload: &'a [u8]) -> Option<&'a str> {
        let text = std::str::from_utf8(payload).ok()?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let found = Walk(&self.steps).deserialize(&mut reader).ok()??.get();
        reader.end().ok()?;
        Some(found)
    }
}

/// Appends the characters of a valid JSON string without its quotes. `false`: the string contains half of a surrogate pair, and
/// nothing is appended.
fn unescape(text: &str, out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let Some((c, after)) = escaped(&rest[at + 1..]) else {
            out.truncate(start);
            return false;
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    true
}

/// The character of an escape sequence after its backslash, and the text after the sequence.
fn escaped(text: &str) -> Option<(char, &str)> {
    let c = match text.chars().next()? {
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'u' => {
            let (first, rest) = hex(&text[1..])?;
            if !(0xd800..0xdc00).contains(&first) {
                return char::from_u32(first).map(|c| (c, rest));
            }
            let (second, rest) = hex(rest.strip_prefix("\\u")?)?;
            let second = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            return char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + second).map(|c| (c, rest));
        }
        // A quote, a slash or a backslash is itself.
        other => other,
    };
    Some((c, &text[1..]))
}

/// The number of the four hexadecimal digits that a text begins with, and the text after them.
fn hex(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    u32::from_str_radix(digits, 16).ok().map(|number| (number, rest))
}

/// The first step of a non-empty text, and the text after it.
fn step(text: &str) -> Result<(Step, &str), String> {
    if let Some(rest) = text.strip_prefix('.') {
        if rest.starts_with('\'') {
            let len = quoted_len(rest).ok_or_else(|| format!("`{rest}` has no closing quote"))?;
            return Ok((Step::Name(rest[1..len - 1].replace("''", "'").into()), &rest[len..]));
        }
        let (name, behind) = rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len()));
        if name.is_empty() || name.contains(']') {
            return Err(format!("`{text}` does not start with a name"));
        }
        return Ok((Step::Name(name.into()), behind));
    }
    let inner = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (index, behind) = inner.ok_or_else(|| format!("`{text}` is no step of a path"))?;
    let digits = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
    match index.parse() {
        Ok(index) if digits => Ok((Step::Index(index), behind)),
        _ => Err(format!("`{index}` is no place in an array")),
    }
}

/// Length of the quoted name at the start of a text, quotes included; a quote within the name is doubled.
pub(crate) fn quoted_len(text: &str) -> Option<usize> {
    let mut quotes = text.match_indices('\'').map(|(at, _)| at).skip(1).peekable();
    loop {
        let at = quotes.next()?;
        if quotes.next_if_eq(&(at + 1)).is_none() {
            return Some(at + 1);
        }
    }
}

/// Whether a name has another meaning without quotes.
fn needs_quotes(name: &str) -> bool {
    name.is_empty() || name.starts_with('\'') || name.contains(['.', '[', ']', '}'])
}

/// Reads a value along the steps.
struct Walk<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        match self.0.split_first() {
            None => <&RawValue>::deserialize(reader).map(Some),
            Some((step, rest)) => reader.deserialize_any(Down { step, rest: Walk(rest) }),
        }
    }
}

impl Walk<'_> {
    fn again(&self) -> Self {
        Self(self.0)
    }
}

/// A step into a value; a value of another kind has nothing there.
struct Down<'p> {
    step: &'p Step,
    rest: Walk<'p>,
}

/// Visitor methods for values without an inside.
macro_rules! nothing_inside {
    ($($visit:ident($type:ty)),*) => {
        $(fn $visit<E>(self, _: $type) -> Result<Self::Value, E> {
            Ok(None)
        })*
    };
}

impl<'de> Visitor<'de> for Down<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    nothing_inside!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_f64(f64), visit_str(&str));

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let name = match self.step {
            Step::Name(name) => Some(&**name),
            Step::Index(_) => None,
        };
        let mut found = None;
        while let Some(here) = members.next_key_seed(Is(name))? {
            if here {
                found = members.next_value_seed(self.rest.again())?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        if let Step::Index(index) = self.step {
            for _ in 0..*index {
                if items.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(None);
                }
            }
            found = items.next_element_seed(self.rest)?.flatten();
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

/// Whether a member has this name.
struct Is<'p>(Option<&'p str>);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<bool, D::Error> {
        reader.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn find(path: &str, payload: &str) -> Option<String> {
        let path = JsonPath::parse(path).expect("a path");
        path.find(payload.as_bytes()).map(|found| String::from_utf8(found.into_owned()).expect("UTF-8"))
    }

    #[test]
    fn values_are_lent_as_they_stand() {
        let payload = r#" {"device": 1, "t": 21.50, "big": 12345678901234567890123, "n": null, "b": true, "s": "a/é",
            "o": { "x" : [1, {"y": "z"}] }, "esc": "a\"b\u00e9\n", "": 5, "dup": 1, "dup": 2, "1": "one"} "#;
        for (path, want) in [
            (".device", Some("1")),
            (".t", Some("21.50")),
            (".big", Some("12345678901234567890123")),
            (".n", Some("null")),
            (".b", Some("true")),
            (".s", Some("a/é")),
            (".o", Some(r#"{ "x" : [1, {"y": "z"}] }"#)),
            (".o.x", Some(r#"[1, {"y": "z"}]"#)),
            (".o.x[0]", Some("1")),
            (".o.x[1].y", Some("z")),
            (".esc", Some("a\"bé\n")),
            (".dup", Some("2")),
            (".1", Some("one")),
            ("[0]", None),
            (".o.x[2]", None),
            (".o.x.y", None),
            (".o.y", None),
            (".device.x", None),
            (".s.x", None),
            (".Device", None),
        ] {
            assert_eq!(find(path, payload).as_deref(), want, "{path}");
        }
        assert_eq!(find("[1][0]", "[7, [8]]").as_deref(), Some("8"));
    }

    #[test]
    fn what_is_no_json_text_has_no_values() {
        for payload in [
            "",
            "x",
            "{",
            "{\"a\":1",
            "{\"a\":1}}",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1} x",
            "1",
            "\"a\"",
            "null",
        ] {
            assert_eq!(find(".a", payload), None, "{payload}");
        }
        let path = JsonPath::parse(".a").unwrap();
        assert_eq!(path.find(b"{\"a\":1,\"b\":\"\xff\"}"), None, "JSON is UTF-8");
        assert_eq!(path.find(br#"{"a":"\ud800"}"#), None, "half a character");
        let deep = format!("{{\"b\":{}{},\"a\":1}}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(find(".a", &deep).as_deref(), Some("1"), "what is skipped may be deep");
    }

    #[test]
    fn finding_k15_quoted_names() {
        let payload =
            r#"{"@iot.id": 7, "a": {"b.c": {"d": [1, 2]}}, "a.b": 3, "it's": 4, "": 5, "x}y": 6, "[0]": 8, "é.ü": 9}"#;
        for (path, want) in [
            (".'@iot.id'", Some("7")),
            (".a.'b.c'.d[1]", Some("2")),
            (".a.'b.c'", Some(r#"{"d": [1, 2]}"#)),
            (".'a.b'", Some("3")),
            (".'a'.'b.c'.'d'[0]", Some("1")),
            (".'it''s'", Some("4")),
            (".it's", Some("4")),
            (".''", Some("5")),
            (".'x}y'", Some("6")),
            (".'[0]'", Some("8")),
            (".'é.ü'", Some("9")),
            (".'nothing.there'", None),
            (".'it'''", None),
        ] {
            assert_eq!(find(path, payload).as_deref(), want, "{path}");
            let read = JsonPath::parse(path).expect("a path");
            assert_eq!(JsonPath::parse(&read.to_string()), Ok(read.clone()), "{read}");
        }
        for wrong in [".'", ".'a", ".'''", ".'a'b", "'a'"] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths() {
        for wrong in [
            ".",
            ".a.",
            "..a",
            "[",
            "[]",
            "[-1]",
            "[+1]",
            "[a]",
            "[0",
            "[0]a",
            ".a]",
            ".a[0]b",
            "[99999999999999999999]",
        ] {
            assert!(JsonPath::parse(wrong).is_err(), "{wrong}");
        }
        assert!(JsonPath::parse(&".a".repeat(STEPS_MAX)).is_ok());
        assert!(JsonPath::parse(&".a".repeat(STEPS_MAX + 1)).is_err());
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            r#"[a"\\é\n/]{0,4}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[abc]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// The tree's answer, for any document and path.
        #[test]
        fn the_same_as_in_the_tree(document in document(), path in r"(\.[abc]|\[[0-3]\]){1,4}", pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&document) } else { serde_json::to_string(&document) };
            let text = text.unwrap();
            let tree: Value = serde_json::from_str(&text).unwrap();
            let by_kind = |value: &Value, step: &Step| match step {
                Step::Name(name) => value.as_object().and_then(|members| members.get(&**name)).cloned(),
                Step::Index(at) => value.as_array().and_then(|items| items.get(*at)).cloned(),
            };
            let steps = JsonPath::parse(&path).unwrap().steps;
            let want = steps.iter().try_fold(tree, |value, step| by_kind(&value, step));
            let found = find(&path, &text);
            match (want, found) {
                (None, None) => {}
                (Some(Value::String(want)), Some(found)) => prop_assert_eq!(want, found),
                (Some(want), Some(found)) => prop_assert_eq!(want, serde_json::from_str::<Value>(&found).unwrap()),
                (want, found) => prop_assert!(false, "{path} in {text}: {want:?} {found:?}"),
            }
        }

        /// The appended text is the text that is found, escapes and halves of surrogate pairs included.
        #[test]
        fn what_is_written_is_what_is_found(pieces in proptest::collection::vec(prop_oneof![
            Just("a"), Just("é"), Just("\\n"), Just("\\\""), Just("\\\\"), Just("\\/"), Just("\\u00e9"), Just("\\ud83d"), Just("\\ude00"),
            Just("\\b\\f\\r\\t"),
        ], 0..6)) {
            let payload = format!("{{\"a\":\"{}\",\"b\":1}}", pieces.concat());
            for path in [".a", ".b", ".c"] {
                let path = JsonPath::parse(path).unwrap();
                let mut out = b"kept".to_vec();
                let is_there = path.write(payload.as_bytes(), &mut out);
                let found = path.find(payload.as_bytes());
                prop_assert_eq!(is_there, found.is_some());
                prop_assert_eq!(&out[4..], &found.unwrap_or_default()[..]);
            }
        }

        /// Bytes of any kind are answered.
        #[test]
        fn any_bytes_are_answered(payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = JsonPath::parse(".a[0]").unwrap().find(&payload);
        }
    }
}
