//! Values to JSON. Names of members come in descending order; values that come out of a JSON text are copied unchanged.

use std::fmt::Write as _;

use crate::rule::arena::{Arena, List};
use crate::rule::failure::Reason;
use crate::rule::value::Value;

/// What takes text.
pub(in crate::rule) trait Out {
    /// # Errors
    /// There is no more room.
    fn put(&mut self, bytes: &[u8]) -> Result<(), Reason>;
}

impl Out for List<'_, u8> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.extend(bytes)
    }
}

/// A vector of the caller; its bytes count as memory of the rule.
#[derive(Debug)]
pub(in crate::rule) struct Charged<'v> {
    pub(in crate::rule) out: &'v mut Vec<u8>,
    pub(in crate::rule) arena: &'v Arena,
}

impl Out for Charged<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.arena.charge(bytes.len())?;
        self.arena.work(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// A short text without an allocation: numbers.
pub(in crate::rule) struct Short {
    bytes: [u8; 400],
    len: usize,
}

impl Short {
    /// Formats; what does not fit is left out.
    pub(in crate::rule) fn format(arguments: std::fmt::Arguments<'_>) -> Self {
        let mut short = Self { bytes: [0; 400], len: 0 };
        let _ = short.write_fmt(arguments);
        short
    }

    pub(in crate::rule) fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl std::fmt::Write for Short {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(std::fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// Writes a value.
///
/// # Errors
/// A text is not UTF-8, or there is no more room.
pub(in crate::rule) fn write(value: Value<'_>, out: &mut impl Out, arena: &Arena) -> Result<(), Reason> {
    arena.spend(1)?;
    match value {
        Value::Absent | Value::Null => out.put(b"null"),
        Value::Bool(true) => out.put(b"true"),
        Value::Bool(false) => out.put(b"false"),
        Value::Int(number) => int(number, out),
        Value::Float(number) => out.put(float(number).as_str().as_bytes()),
        Value::Number(text) | Value::Raw(text) => out.put(text.as_bytes()),
        Value::Text(bytes) => text(bytes, out),
        Value::Array(items) => {
            arena.down()?;
            out.put(b"[")?;
            for (n, item) in items.iter().enumerate() {
                if n > 0 {
                    out.put(b",")?;
                }
                write(*item, out, arena)?;
            }
            arena.up();
            out.put(b"]")
        }
        Value::Object(members) => {
            arena.down()?;
            out.put(b"{")?;
            for (n, member) in members.iter().rev().enumerate() {
                if n > 0 {
                    out.put(b",")?;
                }
                quoted(member.name, out)?;
                out.put(b":")?;
                write(member.value, out, arena)?;
            }
            arena.up();
            out.put(b"}")
        }
    }
}

/// A computed number: the shortest text that is this number, with an exponent from 1e21 on and below 1e-6.
pub(in crate::rule) fn float(number: f64) -> Short {
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let short = Short::format(format_args!("{number:e}"));
        return match short.as_str().split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                Short::format(format_args!("{digits}e+{exponent}"))
            }
            _ => short,
        };
    }
    if number.fract() == 0.0 {
        Short::format(format_args!("{number:.1}"))
    } else {
        Short::format(format_args!("{number}"))
    }
}

/// A text in quotes.
///
/// # Errors
/// It is not UTF-8, or there is no more room.
pub(in crate::rule) fn text(bytes: &[u8], out: &mut impl Out) -> Result<(), Reason> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        Reason::decode("JSON has only text: what is not UTF-8 can be written as base64_encode(…) or bin2hexstr(…)")
    })?;
    quoted(text, out)
}

/// The same of what is text for certain.
pub(in crate::rule) fn quoted(text: &str, out: &mut impl Out) -> Result<(), Reason> {
    // Put piece by piece: many texts are full of quotes.
    let mut piece = Piece { bytes: [0; 128], len: 0 };
    piece.push(b'"');
    for byte in text.bytes() {
        let escape = match byte {
            b'"' | b'\\' => byte,
            0x20.. => {
                piece.push(byte);
                0
            }
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            control => {
                piece.extend(Short::format(format_args!("\\u{control:04x}")).as_str());
                0
            }
        };
        if escape != 0 {
            piece.push(b'\\');
            piece.push(escape);
        }
        if piece.len > PIECE {
            out.put(piece.take())?;
        }
    }
    piece.push(b'"');
    out.put(piece.take())
}

/// Bytes of a [`Piece`] at which it is put; a character takes six more at most.
const PIECE: usize = 120;

struct Piece {
    bytes: [u8; 128],
    len: usize,
}

impl Piece {
    fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = byte;
            self.len += 1;
        }
    }

    fn extend(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.push(byte));
    }

    fn take(&mut self) -> &[u8] {
        let len = std::mem::take(&mut self.len);
        self.bytes.get(..len).unwrap_or_default()
    }
}

/// Writes the digits of a whole number.
fn int(number: i64, out: &mut impl Out) -> Result<(), Reason> {
    let mut digits = [b'0'; 20];
    let (mut rest, mut len) = (number.unsigned_abs(), 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        len += 1;
        if rest == 0 {
            break;
        }
    }
    if number < 0
        && let Some(sign) = digits.len().checked_sub(len + 1).and_then(|at| digits.get_mut(at))
    {
        *sign = b'-';
        len += 1;
    }
    out.put(digits.get(digits.len() - len..).unwrap_or_default())
}
