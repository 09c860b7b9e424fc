//! `headers_from`: names and values out of a JSON text, for record headers. An object gives its members, a list of `{"key": …,
//! "value": …}` its entries, in the order of the text; either may be within a JSON string.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::template::{Absent, MessageContext, Template};

/// Bytes of the shortest member of a JSON text: `"":0` and its separator from the next one.
const MEMBER_BYTES_MIN: usize = 5;

/// The conversion of a value to the value of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encode {
    /// Text verbatim, and null as `null`; other values are refused.
    Text,
    /// Every value as JSON.
    Json,
    /// Text verbatim, and every other value as JSON.
    Either,
}

/// The source of further headers of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadersFrom {
    /// The template that yields the JSON text.
    pub template: Template,
    /// The conversion of its values.
    pub encode: Encode,
}

/// Bounds of the headers of one message: how many, and the bytes of their names and values together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// Headers.
    pub count: usize,
    /// Bytes.
    pub bytes: usize,
}

impl HeadersFrom {
    /// A bound of the headers of a message.
    ///
    /// # Errors
    /// [`Absent::Headers`]: the value is of another type.
    pub fn bound(&self, message: &MessageContext<'_>) -> Result<Bound, Absent> {
        let mut scratch = Vec::new();
        // A value that is absent gives no headers.
        let Ok(text) = self.template.value(message, &mut scratch) else { return Ok(Bound::default()) };
        members(text).ok_or(Absent::Headers)?;
        Ok(Bound { count: text.len() / MEMBER_BYTES_MIN, bytes: text.len() })
    }

    /// Gives the name and the value of each header of a message. Returns how many values are none for a header.
    pub fn each(&self, message: &MessageContext<'_>, mut give: impl FnMut(&str, &str)) -> u64 {
        let mut scratch = Vec::new();
        let Ok(text) = self.template.value(message, &mut scratch) else { return 0 };
        let mut left_out = 0;
        for (name, value) in members(text).unwrap_or_default().of() {
            let value = match self.encode {
                Encode::Json => Some(Cow::Borrowed(value.get())),
                Encode::Text if value.get() == "null" => Some(Cow::Borrowed("null")),
                Encode::Text => text_of(value),
                Encode::Either => Some(text_of(value).unwrap_or(Cow::Borrowed(value.get()))),
            };
            match value {
                Some(value) => give(name, &value),
                None => left_out += 1,
            }
        }
        left_out
    }
}

/// Names and values that borrow from a text, or own the text that a JSON string had.
#[derive(Default)]
struct Members<'a> {
    pairs: Vec<(Cow<'a, str>, Cow<'a, RawValue>)>,
}

impl Members<'_> {
    fn of(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.pairs.iter().map(|(name, value)| (&**name, &**value))
    }

    fn into_owned(self) -> Members<'static> {
        let own = |(name, value): (Cow<'_, str>, Cow<'_, RawValue>)| {
            (Cow::Owned(name.into_owned()), Cow::Owned(value.into_owned()))
        };
        Members { pairs: self.pairs.into_iter().map(own).collect() }
    }
}

/// Reads the members. `None`: the text is neither an object nor a list of pairs, nor a JSON string of either.
fn members(text: &[u8]) -> Option<Members<'_>> {
    let text = std::str::from_utf8(text).ok()?;
    match text.trim_start().bytes().next()? {
        b'"' => {
            let inner: String = serde_json::from_str(text).ok()?;
            flat(&inner).map(Members::into_owned)
        }
        _ => flat(text),
    }
}

fn flat(text: &str) -> Option<Members<'_>> {
    let pairs = match text.trim_start().bytes().next()? {
        b'{' => serde_json::from_str::<Object<'_>>(text).ok()?.0,
        b'[' => serde_json::from_str::<Vec<Pair<'_>>>(text).ok()?.into_iter().map(|Pair(pair)| pair).collect(),
        _ => return None,
    };
    let pairs = pairs.into_iter().map(|(name, value)| (name, Cow::Borrowed(value))).collect();
    Some(Members { pairs })
}

fn text_of(value: &RawValue) -> Option<Cow<'_, str>> {
    let inner = value.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        serde_json::from_str(value.get()).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

type RawPair<'a> = (Cow<'a, str>, &'a RawValue);

/// The members of an object in their order, repeated names included.
struct Object<'a>(Vec<RawPair<'a>>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_map(ObjectVisitor).map(Self)
    }
}

/// An entry of a list: `key` and `value`.
struct Pair<'a>(RawPair<'a>);

impl<'de> Deserialize<'de> for Pair<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        let members = reader.deserialize_map(ObjectVisitor)?;
        let find = |name: &str| members.iter().rev().find(|(known, _)| known == name).map(|(_, value)| *value);
        let key = find("key").and_then(text_of).ok_or_else(|| D::Error::custom("no key"))?;
        let value = find("value").ok_or_else(|| D::Error::custom("no value"))?;
        Ok(Self((key, value)))
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Vec<RawPair<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(Name(name)) = members.next_key()? {
            pairs.push((name, members.next_value()?));
        }
        Ok(pairs)
    }
}

/// A name, lent if it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        reader.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &str) -> MessageContext<'_> {
        MessageContext {
            topic: "t",
            client_id: "c",
            qos: 1,
            packet_id: 1,
            payload: payload.as_bytes(),
            ..MessageContext::default()
        }
    }

    fn given(template: &str, encode: Encode, payload: &str) -> Result<(String, u64), Absent> {
        let from = HeadersFrom { template: Template::parse(template).expect("a template"), encode };
        let bound = from.bound(&message(payload))?;
        let (mut said, mut count, mut bytes) = (String::new(), 0, 0);
        let left_out = from.each(&message(payload), |name, value| {
            said += &format!("{name}={value};");
            (count, bytes) = (count + 1, bytes + name.len() + value.len());
        });
        assert!(count <= bound.count && bytes <= bound.bytes, "{payload}: {bound:?}");
        Ok((said, left_out))
    }

    #[test]
    fn finding_e33_objects_lists_and_json_text_of_either() {
        let ok = |said: &str, left_out| Ok((said.to_owned(), left_out));
        let text = |payload: &str| given("${payload.h}", Encode::Text, payload);
        assert_eq!(text(r#"{"h":{"b":"1","a":"x","b":"\u00e9"}}"#), ok("b=1;a=x;b=é;", 0));
        assert_eq!(text(r#"{"h":[{"key":"b","value":"1"},{"value":"2","key":"b"}]}"#), ok("b=1;b=2;", 0));
        assert_eq!(text(r#"{"h":"{\"a\":\"\\u00e9\"}"}"#), ok("a=é;", 0));
        assert_eq!(given("${payload}", Encode::Text, r#""[{\"key\":\"a\",\"value\":\"b\"}]""#), ok("a=b;", 0));
        assert_eq!(text(r#"{"h":{}}"#), ok("", 0));
        assert_eq!(text(r#"{"h":[]}"#), ok("", 0));
        // A member that is absent gives no headers.
        assert_eq!(text(r#"{"other":1}"#), ok("", 0));
        assert_eq!(text("no JSON"), ok("", 0));
        for other in ["1", "true", "null", "\"text\"", "\"\"", "[1]", r#"[{"key":1,"value":"x"}]"#, r#"[{"key":"a"}]"#]
        {
            assert_eq!(text(&format!("{{\"h\":{other}}}")), Err(Absent::Headers), "{other}");
        }
    }

    #[test]
    fn finding_e34_values_are_text_or_become_json() {
        let payload = r#"{"s":"a\"b","n":1.50,"t":true,"z":null,"o":{"x": [1]}}"#;
        assert_eq!(given("${payload}", Encode::Text, payload), Ok(("s=a\"b;z=null;".to_owned(), 3)));
        let json = r#"s="a\"b";n=1.50;t=true;z=null;o={"x": [1]};"#;
        assert_eq!(given("${payload}", Encode::Json, payload), Ok((json.to_owned(), 0)));
    }
}
