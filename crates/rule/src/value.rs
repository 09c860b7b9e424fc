//! Values. They are small, borrow from the message, the program and the arena, and are cheap to copy.

use super::arena::Arena;
use super::failure::Reason;

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// An absent value. JSON has none: it is written as `null`.
    Absent,
    /// JSON `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A computed number with a point, finite.
    Float(f64),
    /// A number verbatim from a JSON text: with a point or an exponent, or whole and beyond 64 bits.
    Number(&'a str),
    /// Bytes, mostly of a text.
    Text(&'a [u8]),
    /// An array.
    Array(&'a [Value<'a>]),
    /// An object; its members in ascending order of their names, each name once.
    Object(&'a [Member<'a>]),
    /// An array or object verbatim from a JSON text; [`Arena::open`] makes it an `Array` or `Object`.
    Raw(&'a str),
}

/// A member of an object.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// The name of the member.
    pub name: &'a str,
    /// The value of the member.
    pub value: Value<'a>,
}

/// The type of a value, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An absent value.
    Absent,
    /// `null`.
    Null,
    /// A truth value.
    Bool,
    /// A whole number.
    Int,
    /// A number with a point.
    Float,
    /// A text.
    Text,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The type in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::Null => "null",
            Self::Bool => "a boolean",
            Self::Int => "an integer",
            Self::Float => "a float",
            Self::Text => "a text",
            Self::Array => "an array",
            Self::Object => "an object",
        }
    }
}

/// A number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Num<'a> {
    Int(i64),
    Float(f64),
    /// Whole and beyond 64 bits.
    Big(&'a str),
}

impl<'a> Value<'a> {
    /// A text.
    #[must_use]
    pub const fn text(text: &'a str) -> Self {
        Self::Text(text.as_bytes())
    }

    /// The type of the value.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Absent => Kind::Absent,
            Self::Null => Kind::Null,
            Self::Bool(_) => Kind::Bool,
            Self::Int(_) => Kind::Int,
            Self::Float(_) => Kind::Float,
            Self::Number(text) => {
                if is_whole(text) {
                    Kind::Int
                } else {
                    Kind::Float
                }
            }
            Self::Text(_) => Kind::Text,
            Self::Array(_) => Kind::Array,
            Self::Object(_) => Kind::Object,
            Self::Raw(text) => {
                if text.starts_with('[') {
                    Kind::Array
                } else {
                    Kind::Object
                }
            }
        }
    }

    /// Whether the value is absent.
    #[must_use]
    pub const fn is_absent(self) -> bool {
        matches!(self, Self::Absent)
    }

    /// A computed float; a result that is not finite is an error of the operation.
    pub(super) const fn float(number: f64) -> Result<Self, Reason> {
        if number.is_finite() { Ok(Self::Float(number)) } else { Err(Reason::domain("the result is no number")) }
    }

    pub(super) fn num(self) -> Option<Num<'a>> {
        match self {
            Self::Int(number) => Some(Num::Int(number)),
            Self::Float(number) => Some(Num::Float(number)),
            Self::Number(text) if is_whole(text) => Some(Num::Big(text)),
            Self::Number(text) => Some(Num::Float(text.parse().unwrap_or(f64::MAX))),
            _ => None,
        }
    }

    /// A number of 64 bits: whole or with a point.
    pub(super) fn number(self) -> Result<Num<'a>, Reason> {
        match self.num() {
            Some(Num::Big(_)) => Err(TOO_BIG),
            Some(number) => Ok(number),
            None => Err(Reason::wanted("a number", self.kind())),
        }
    }

    pub(super) fn as_float(self) -> Result<f64, Reason> {
        match self.num() {
            Some(Num::Int(number)) => Ok(number as f64),
            Some(Num::Float(number)) => Ok(number),
            Some(Num::Big(text)) => Ok(text.parse().unwrap_or(f64::MAX)),
            None => Err(Reason::wanted("a number", self.kind())),
        }
    }

    pub(super) fn as_int(self) -> Result<i64, Reason> {
        match self {
            Self::Int(number) => Ok(number),
            Self::Number(text) if is_whole(text) => Err(TOO_BIG),
            other => Err(Reason::wanted("an integer", other.kind())),
        }
    }

    pub(super) fn as_bytes(self) -> Result<&'a [u8], Reason> {
        match self {
            Self::Text(bytes) => Ok(bytes),
            other => Err(Reason::wanted("a text", other.kind())),
        }
    }

    pub(super) fn as_str(self) -> Result<&'a str, Reason> {
        std::str::from_utf8(self.as_bytes()?).map_err(|_| Reason::decode("the text is not UTF-8"))
    }

    /// The items of an array.
    pub(super) fn as_array(self, arena: &'a Arena) -> Result<&'a [Self], Reason> {
        match arena.open(self)? {
            Self::Array(items) => Ok(items),
            other => Err(Reason::wanted("an array", other.kind())),
        }
    }

    /// The members of an object, or of a text that is one in JSON.
    pub(super) fn as_object(self, arena: &'a Arena) -> Result<&'a [Member<'a>], Reason> {
        let value = match self {
            Self::Text(bytes) => arena.decode(bytes)?,
            other => other,
        };
        match arena.open(value)? {
            Self::Object(members) => Ok(members),
            other => Err(Reason::wanted("an object", other.kind())),
        }
    }
}

pub(super) const TOO_BIG: Reason = Reason::limit("an integer beyond 64 bits");

/// Whether the text of a JSON number is a whole number.
pub(super) fn is_whole(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'))
}

/// The value of a member.
pub(super) fn member<'a>(members: &[Member<'a>], name: &str) -> Option<Value<'a>> {
    let at = members.binary_search_by(|member| member.name.cmp(name)).ok()?;
    members.get(at).map(|member| member.value)
}

/// The place of an index that counts from 1, or from the end with a sign.
pub(super) fn place(index: i64, len: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => index.checked_sub(1).filter(|at| *at < len),
        Err(_) => usize::try_from(index.unsigned_abs()).ok().and_then(|back| len.checked_sub(back)),
    }
}
