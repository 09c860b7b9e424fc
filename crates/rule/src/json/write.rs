//! Values to JSON. Names of members are in descending order; values from a JSON text are copied verbatim.

use std::fmt::Write as _;

use crate::arena::{Arena, List};
use crate::failure::Reason;
use crate::value::Value;

/// A destination of text.
pub(crate) trait Out {
    /// Appends bytes.
    ///
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
pub(crate) struct Charged<'v> {
    pub(crate) out: &'v mut Vec<u8>,
    pub(crate) arena: &'v Arena,
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
pub(crate) struct Short {
    bytes: [u8; 400],
    len: usize,
}

impl Short {
    /// Formats; characters that do not fit are left out.
    pub(crate) fn format(arguments: std::fmt::Arguments<'_>) -> Self {
        let mut short = Self { bytes: [0; 400], len: 0 };
        let _ = short.write_fmt(arguments);
        short
    }

    pub(crate) fn as_str(&self) -> &str {
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
pub(crate) fn write(value: Value<'_>, out: &mut impl Out, arena: &Arena) -> Result<(), Reason> {
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
pub(crate) fn float(number: f64) -> Short {
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

/// Appends a text in quotes.
///
/// # Errors
/// The text is not UTF-8, or there is no more room.
pub(crate) fn text(bytes: &[u8], out: &mut impl Out) -> Result<(), Reason> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        Reason::decode("JSON has only text: what is not UTF-8 can be written as base64_encode(…) or bin2hexstr(…)")
    })?;
    quoted(text, out)
}

/// Appends a quoted text that is known to be valid.
pub(crate) fn quoted(text: &str, out: &mut impl Out) -> Result<(), Reason> {
    // The text is appended piece by piece, as many texts are full of quotes. The table has an entry for each byte, so no index is
    // checked.
    let mut piece = [0; 256];
    piece[0] = b'"';
    let mut len = 1_u8;
    for part in text.as_bytes().chunks(PART) {
        if usize::from(len) + 6 * PART >= piece.len() {
            out.put(piece.get(..usize::from(len)).unwrap_or_default())?;
            len = 0;
        }
        for &byte in part {
            let width = WIDTHS[usize::from(byte)];
            if width == 0 {
                for &byte in control(byte).iter().take_while(|byte| **byte != 0) {
                    piece[usize::from(len)] = byte;
                    len = len.wrapping_add(1);
                }
                continue;
            }
            // Without a branch: the positions of quotes are unpredictable.
            piece[usize::from(len)] = b'\\';
            len = len.wrapping_add(width);
            piece[usize::from(len.wrapping_sub(1))] = byte;
        }
    }
    piece[usize::from(len)] = b'"';
    out.put(piece.get(..=usize::from(len)).unwrap_or_default())
}

/// Bytes of a text that fit into a piece in any case: a control character takes six.
const PART: usize = 40;

/// The number of bytes of each byte in quotes; 0: a control character, see [`control`].
const WIDTHS: [u8; 256] = {
    let mut widths = [1; 256];
    let (controls, _) = widths.split_at_mut(0x20);
    controls.copy_from_slice(&[0; 0x20]);
    (widths[b'"' as usize], widths[b'\\' as usize]) = (2, 2);
    widths
};

/// A control character in quotes.
fn control(byte: u8) -> [u8; 6] {
    let short = |letter| [b'\\', letter, 0, 0, 0, 0];
    match byte {
        b'\n' => short(b'n'),
        b'\r' => short(b'r'),
        b'\t' => short(b't'),
        8 => short(b'b'),
        12 => short(b'f'),
        _ => {
            let digit = |digit: u8| digit + if digit < 10 { b'0' } else { b'a' - 10 };
            [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]
        }
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
