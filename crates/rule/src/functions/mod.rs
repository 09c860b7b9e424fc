//! The functions of SQL. [`all`] is the one table: names, arguments, a sentence and an example of each. `docs/SQL_FUNCTIONS.md`,
//! hints and the tests are generated from it.

pub(crate) mod arithmetic;
mod array;
mod bits;
mod compress;
mod convert;
mod encode;
pub(crate) mod format;
mod hash;
mod kinds;
mod map;
mod maths;
mod message;
mod other;
mod pattern;
mod text;
mod time;

#[cfg(test)]
mod tests;

pub(super) use pattern::Pattern;

use super::arena::Arena;
use super::around::Around;
use super::failure::Reason;
use super::field::Field;
use super::value::Value;

/// The context of a function besides its arguments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    pub(super) arena: &'a Arena,
    pub(super) around: &'a Around<'a>,
}

pub(super) type Called<'a> = Result<Value<'a>, Reason>;
pub(super) type Call = for<'a> fn(&Context<'a>, &[Value<'a>]) -> Called<'a>;

/// The kind of a function's implementation.
pub(super) enum Body {
    /// A function of its arguments alone.
    Pure(Call),
    /// A function that also uses the time, the environment or random numbers.
    Around(Call),
    /// A function with a format as first argument, a constant of the rule.
    Format(Call),
    /// A function with a pattern as second argument, a constant of the rule.
    Pattern(for<'a> fn(&Context<'a>, &Pattern, &[Value<'a>]) -> Called<'a>),
    /// A function with a field of the message before its arguments.
    OfField(Field, Call),
}

/// A group of functions, in the order of the documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Numbers.
    Maths,
    /// Conversions between types.
    Conversion,
    /// Tests of a value's type.
    Tests,
    /// Texts.
    Text,
    /// Regular expressions.
    Patterns,
    /// Objects.
    Objects,
    /// Arrays.
    Arrays,
    /// Hashes.
    Hashes,
    /// Compression.
    Compression,
    /// Bits and bytes.
    Bits,
    /// Text of bytes and back.
    Encoding,
    /// Time.
    Time,
    /// The message.
    Message,
    /// All other functions.
    Other,
}

impl Family {
    /// All families, in the order of the documents.
    pub const ALL: [Self; 14] = [
        Self::Maths,
        Self::Conversion,
        Self::Tests,
        Self::Text,
        Self::Patterns,
        Self::Objects,
        Self::Arrays,
        Self::Hashes,
        Self::Compression,
        Self::Bits,
        Self::Encoding,
        Self::Time,
        Self::Message,
        Self::Other,
    ];

    /// The heading of the family.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Maths => "Numbers",
            Self::Conversion => "Conversion",
            Self::Tests => "Tests of types",
            Self::Text => "Text",
            Self::Patterns => "Regular expressions",
            Self::Objects => "Objects",
            Self::Arrays => "Arrays",
            Self::Hashes => "Hashes",
            Self::Compression => "Compression",
            Self::Bits => "Bits and bytes",
            Self::Encoding => "Encoding",
            Self::Time => "Time",
            Self::Message => "The message",
            Self::Other => "Other",
        }
    }
}

/// A function.
pub struct Function {
    /// The function's name, in lower case.
    pub name: &'static str,
    /// The function's arguments, as `(text[, chars])`.
    pub arguments: &'static str,
    /// The fewest arguments.
    pub least: u8,
    /// The most arguments.
    pub most: u8,
    /// The function's result, in a sentence.
    pub sentence: &'static str,
    /// A call.
    pub example: &'static str,
    /// The result of the call, in JSON; `error`: the call fails.
    pub result: &'static str,
    pub(super) body: Body,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    /// The number of arguments, in words.
    pub(super) fn count(&self) -> String {
        let word = |count: u8| if count == 1 { "argument" } else { "arguments" };
        match (self.least, self.most) {
            (0, 0) => "no arguments".to_owned(),
            (least, most) if least == most => format!("{least} {}", word(least)),
            (least, most) => format!("{least} to {most} {}", word(most)),
        }
    }
}

/// Entries of the table: `name arguments least..most body, sentence, example => result;`.
macro_rules! functions {
    ($($name:literal $arguments:literal $least:literal $most:literal $kind:ident($($body:expr),+), $sentence:literal, $example:literal => $result:literal;)*) => {
        pub(super) const FUNCTIONS: &[$crate::functions::Function] = &[$(
            $crate::functions::Function {
                name: $name,
                arguments: $arguments,
                least: $least,
                most: $most,
                sentence: $sentence,
                example: $example,
                result: $result,
                body: $crate::functions::Body::$kind($($body),+),
            },
        )*];
    };
}
use functions;

const FAMILIES: [(Family, &[Function]); 14] = [
    (Family::Maths, maths::FUNCTIONS),
    (Family::Conversion, convert::FUNCTIONS),
    (Family::Tests, kinds::FUNCTIONS),
    (Family::Text, text::FUNCTIONS),
    (Family::Patterns, pattern::FUNCTIONS),
    (Family::Objects, map::FUNCTIONS),
    (Family::Arrays, array::FUNCTIONS),
    (Family::Hashes, hash::FUNCTIONS),
    (Family::Compression, compress::FUNCTIONS),
    (Family::Bits, bits::FUNCTIONS),
    (Family::Encoding, encode::FUNCTIONS),
    (Family::Time, time::FUNCTIONS),
    (Family::Message, message::FUNCTIONS),
    (Family::Other, other::FUNCTIONS),
];

/// All functions with their families, in the order of the documents.
pub fn all() -> impl Iterator<Item = (Family, &'static Function)> {
    FAMILIES.iter().flat_map(|(family, functions)| functions.iter().map(|function| (*family, function)))
}

/// A function by its name, in small letters.
pub(super) fn named(name: &str) -> Option<&'static Function> {
    all().map(|(_, function)| function).find(|function| function.name.eq_ignore_ascii_case(name))
}

pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|(_, function)| function.name)
}

/// The alternative to a function of EMQX that does not exist here.
pub(super) fn left_out(name: &str) -> Option<&'static str> {
    Some(match name {
        "mongo_date" => "format_date(…) makes dates as text",
        "term_encode" | "term_decode" => "json_encode(…) and json_decode(…) carry values as text",
        "map_to_redis_hset_args" => "map_to_entries(…) makes a list of names and values",
        "ai_completion" => "a rule asks no other service: it would hold up the messages after it",
        "jq" => "paths, map_get(…), FOREACH and CASE do most of what jq is used for",
        _ if name.starts_with("proc_dict_") || name.starts_with("kv_store_") => {
            "rules keep nothing from one message to the next: shards share nothing"
        }
        _ if ["schema_", "avro_", "sparkplug_", "spb_"].iter().any(|kind| name.starts_with(kind)) => {
            "rules do not read schemas yet"
        }
        _ => return None,
    })
}

/// Argument `n`; absent if not given.
fn argument<'a>(arguments: &[Value<'a>], n: usize) -> Value<'a> {
    arguments.get(n).copied().unwrap_or(Value::Absent)
}
