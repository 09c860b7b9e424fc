//! An index of a JSON text, made in one pass: the positions of its values. Paths of all rules are looked up in the index; values
//! are read when a rule needs them, and copied verbatim.

use crate::arena::{NOT_JSON, Way};
use crate::failure::Reason;
use crate::value::{Value, place};

/// The deepest nesting of a JSON text.
pub(crate) const DEPTH_MAX: usize = 64;

/// The reason why a text has no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The text is not JSON.
    NotJson,
    /// The text nests too deep.
    Deep,
    /// The text has more values than there is room for.
    Large,
    /// The text has not been read yet.
    Unread,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Object,
    Array,
    Text,
    Escaped,
    Int,
    Float,
    True,
    False,
    Null,
}

/// A value, or the name of a member, in a text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// The first byte, without a quote.
    start: u32,
    end: u32,
    /// The entry after all entries inside of this one.
    next: u32,
    kind: Kind,
}

impl Entry {
    pub(crate) const fn is_object(self) -> bool {
        matches!(self.kind, Kind::Object)
    }

    /// The entry verbatim, without quotes.
    pub(crate) fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The value; `None`: a text with escapes.
    pub(crate) fn value(self, text: &str) -> Option<Value<'_>> {
        let of = self.of(text);
        Some(match self.kind {
            Kind::Object | Kind::Array => Value::Raw(of),
            Kind::Text => Value::text(of),
            Kind::Escaped => return None,
            Kind::Int => of.parse().map_or(Value::Number(of), Value::Int),
            Kind::Float => Value::Number(of),
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            Kind::Null => Value::Null,
        })
    }
}

/// The positions of the values of a text.
#[derive(Debug, Default)]
pub(crate) struct Index {
    entries: Vec<Entry>,
}

impl Index {
    /// Reads a text. At most `room` values.
    pub(crate) fn read(&mut self, text: &str, room: usize) -> Result<(), Fault> {
        self.entries.clear();
        // Every position has to fit into 32 bits.
        if u32::try_from(text.len()).is_err() {
            return Err(Fault::Large);
        }
        Reader { text: text.as_bytes(), at: 0, entries: &mut self.entries, room }.read()
    }

    fn at(&self, at: u32) -> Option<Entry> {
        self.entries.get(at as usize).copied()
    }

    pub(crate) fn root(&self) -> Option<Entry> {
        self.at(0)
    }

    fn children(&self, of: u32) -> impl Iterator<Item = u32> + '_ {
        let end = self.at(of).map_or(0, |entry| entry.next);
        let mut at = of + 1;
        std::iter::from_fn(move || {
            let here = (at < end).then_some(at)?;
            at = self.at(here)?.next;
            Some(here)
        })
    }

    /// The items of the array that the text is.
    pub(crate) fn items(&self) -> impl Iterator<Item = Entry> + '_ {
        self.children(0).filter_map(|at| self.at(at))
    }

    /// The members of the object, in the order of the text, repeated ones included.
    pub(crate) fn members(&self) -> impl Iterator<Item = (Entry, Entry)> + '_ {
        let mut entries = self.items();
        std::iter::from_fn(move || Some((entries.next()?, entries.next()?)))
    }

    /// The entry at the end of a way, and the number of steps taken: the way ends at a text, and before a slice. Of several members
    /// of one name the last one counts.
    pub(crate) fn find<'s>(
        &self,
        text: &str,
        way: impl IntoIterator<Item = Way<'s>>,
        mut spend: impl FnMut(u64) -> Result<(), Reason>,
    ) -> Result<Option<(Entry, usize)>, Reason> {
        let (mut at, mut gone) = (0, 0);
        for step in way {
            let Some(entry) = self.at(at) else { return Ok(None) };
            if matches!(entry.kind, Kind::Text | Kind::Escaped)
                || matches!((step, entry.kind), (Way::Slice, Kind::Array))
            {
                break;
            }
            let mut passed = 0;
            let found = match (step, entry.kind) {
                (Way::Name(name), Kind::Object) => {
                    let mut found = None;
                    let mut children = self.children(at);
                    while let (Some(key), Some(value)) = (children.next(), children.next()) {
                        passed += 1;
                        if self.at(key).is_some_and(|key| key.is_named(text, name)) {
                            found = Some(value);
                        }
                    }
                    found
                }
                (Way::Index(index), Kind::Array) => {
                    let len = self.children(at).count();
                    passed = len as u64;
                    place(index, len).and_then(|place| self.children(at).nth(place))
                }
                _ => None,
            };
            spend(passed / 8)?;
            match found {
                Some(found) => at = found,
                None => return Ok(None),
            }
            gone += 1;
        }
        Ok(self.at(at).map(|entry| (entry, gone)))
    }
}

impl Entry {
    /// Whether this name of a member is that name.
    fn is_named(self, text: &str, name: &str) -> bool {
        let of = self.of(text);
        if self.kind != Kind::Escaped {
            return of == name;
        }
        let mut rest = name.as_bytes();
        let compared = unescape(of, |part| {
            rest = rest.strip_prefix(part).ok_or(NOT_JSON)?;
            Ok(())
        });
        compared.is_ok() && rest.is_empty()
    }
}

/// The number of bytes at the start of a text that are neither quotes nor backslashes nor control characters, found eight bytes at
/// a time.
fn plain(text: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    // The highest bit of each byte that is below `least`; for bytes after the first such one it may be wrong.
    let below = |word: u64, least: u64| word.wrapping_sub(ONES * least) & !word & (ONES << 7);
    let mut at = 0;
    while let Some(word) = text.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*word);
        let others = |byte: u8| word ^ (ONES * u64::from(byte));
        let found = below(others(b'"'), 1) | below(others(b'\\'), 1) | below(word, 0x20);
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = text.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(rest.len())
}

struct Reader<'t, 'e> {
    text: &'t [u8],
    at: usize,
    entries: &'e mut Vec<Entry>,
    room: usize,
}

impl Reader<'_, '_> {
    fn byte(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\n' | b'\t' | b'\r')) {
            self.at += 1;
        }
    }

    fn push(&mut self, start: usize, end: usize, kind: Kind) -> Result<(), Fault> {
        if self.entries.len() >= self.room {
            return Err(Fault::Large);
        }
        let next = self.entries.len() as u32 + 1;
        self.entries.push(Entry { start: start as u32, end: end as u32, next, kind });
        Ok(())
    }

    fn read(mut self) -> Result<(), Fault> {
        // The containers that are open, as entries.
        let mut open = [0_usize; DEPTH_MAX];
        let mut depth = 0;
        loop {
            // A value.
            self.blank();
            let start = self.at;
            match self.byte() {
                Some(b'"') => self.string()?,
                Some(first @ (b'{' | b'[')) => {
                    *open.get_mut(depth).ok_or(Fault::Deep)? = self.entries.len();
                    let (kind, close) = if first == b'{' { (Kind::Object, b'}') } else { (Kind::Array, b']') };
                    self.push(start, start, kind)?;
                    self.at += 1;
                    self.blank();
                    depth += 1;
                    if self.byte() != Some(close) {
                        if first == b'{' {
                            self.name()?;
                        }
                        continue;
                    }
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(b't') => self.word("true", Kind::True)?,
                Some(b'f') => self.word("false", Kind::False)?,
                Some(b'n') => self.word("null", Kind::Null)?,
                _ => return Err(Fault::NotJson),
            }
            // After a value: ends of containers, a comma, the end.
            loop {
                self.blank();
                let Some(inner) = depth.checked_sub(1) else {
                    return if self.at == self.text.len() { Ok(()) } else { Err(Fault::NotJson) };
                };
                let container = open.get(inner).copied().unwrap_or_default();
                let len = self.entries.len();
                let Some(entry) = self.entries.get_mut(container) else { return Err(Fault::NotJson) };
                let is_object = entry.is_object();
                match self.text.get(self.at) {
                    Some(b',') => {
                        self.at += 1;
                        if is_object {
                            self.blank();
                            self.name()?;
                        }
                        break;
                    }
                    Some(b'}') if is_object => {}
                    Some(b']') if !is_object => {}
                    _ => return Err(Fault::NotJson),
                }
                self.at += 1;
                (entry.end, entry.next) = (self.at as u32, len as u32);
                depth = inner;
            }
        }
    }

    /// The name of a member and the colon.
    fn name(&mut self) -> Result<(), Fault> {
        if self.byte() != Some(b'"') {
            return Err(Fault::NotJson);
        }
        self.string()?;
        self.blank();
        if self.byte() != Some(b':') {
            return Err(Fault::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), Fault> {
        let end = self.at + word.len();
        if self.text.get(self.at..end) != Some(word.as_bytes()) {
            return Err(Fault::NotJson);
        }
        self.push(self.at, end, kind)?;
        self.at = end;
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<(), Fault> {
        let start = self.at + 1;
        let rest = self.text.get(start..).unwrap_or_default();
        let (mut kind, mut at) = (Kind::Text, 0);
        loop {
            at += plain(rest.get(at..).unwrap_or_default());
            match rest.get(at..) {
                Some([b'"', ..]) => {
                    self.push(start, start + at, kind)?;
                    self.at = start + at + 1;
                    return Ok(());
                }
                Some(escape @ [b'\\', ..]) => {
                    kind = Kind::Escaped;
                    let (_, len) = escaped(escape).ok_or(Fault::NotJson)?;
                    at += len;
                }
                _ => return Err(Fault::NotJson),
            }
        }
    }

    fn number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        let digits = |reader: &mut Self| {
            let from = reader.at;
            while matches!(reader.byte(), Some(b'0'..=b'9')) {
                reader.at += 1;
            }
            reader.at - from
        };
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        let leads_with_zero = self.byte() == Some(b'0');
        let whole = digits(self);
        if whole == 0 || (leads_with_zero && whole > 1) {
            return Err(Fault::NotJson);
        }
        let mut kind = Kind::Int;
        if self.byte() == Some(b'.') {
            self.at += 1;
            kind = Kind::Float;
            if digits(self) == 0 {
                return Err(Fault::NotJson);
            }
        }
        let has_exponent = matches!(self.byte(), Some(b'e' | b'E'));
        if has_exponent {
            self.at += 1;
            kind = Kind::Float;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if digits(self) == 0 {
                return Err(Fault::NotJson);
            }
        }
        // `1e400`, or a thousand digits: no number that a float holds.
        if has_exponent || whole > 300 {
            let text = self.text.get(start..self.at).and_then(|text| std::str::from_utf8(text).ok());
            if !text.and_then(|text| text.parse().ok()).is_some_and(f64::is_finite) {
                return Err(Fault::NotJson);
            }
        }
        self.push(start, self.at, kind)
    }
}

/// The character of the escape that a text begins with, and the escape's length, at least 2.
fn escaped(text: &[u8]) -> Option<(char, usize)> {
    let c = match text.get(1)? {
        b'"' => '"',
        b'\\' => '\\',
        b'/' => '/',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'u' => {
            let hex = |at: usize| -> Option<u32> {
                text.get(at..at + 4)?.iter().try_fold(0, |sum, &digit| Some(sum * 16 + char::from(digit).to_digit(16)?))
            };
            let high = hex(2)?;
            if let Some(c) = char::from_u32(high) {
                return Some((c, 6));
            }
            let is_pair = (0xd800..0xdc00).contains(&high) && text.get(6..8)? == b"\\u";
            let low = if is_pair { hex(8)? } else { return None };
            let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            return Some((char::from_u32(0x10000 + ((high - 0xd800) << 10) + low)?, 12));
        }
        _ => return None,
    };
    Some((c, 2))
}

/// Passes the value of a text with escapes to `part`, piece by piece.
pub(crate) fn unescape(text: &str, mut part: impl FnMut(&[u8]) -> Result<(), Reason>) -> Result<(), Reason> {
    let mut rest = text.as_bytes();
    while let Some(plain) = rest.iter().position(|&byte| byte == b'\\') {
        let (before, escape) = rest.split_at_checked(plain).ok_or(NOT_JSON)?;
        part(before)?;
        let (c, len) = escaped(escape).ok_or(NOT_JSON)?;
        part(c.encode_utf8(&mut [0; 4]).as_bytes())?;
        rest = escape.get(len..).ok_or(NOT_JSON)?;
    }
    part(rest)
}
