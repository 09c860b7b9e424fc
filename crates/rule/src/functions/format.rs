//! The formats of `sprintf`.

use std::fmt::Write as _;

use super::convert::{self, to_text};
use crate::arena::Arena;
use crate::failure::Reason;
use crate::json::write::{self, Short};
use crate::value::Value;

/// A part of a format.
enum Part<'f> {
    Plain(&'f str),
    /// `~.2f`: the letter, and how many decimals.
    Directive(char, Option<usize>),
}

/// The parts of a format; the error is a directive that there is not.
fn parts(format: &str) -> impl Iterator<Item = Result<Part<'_>, &str>> {
    let mut rest = format;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(behind) = rest.strip_prefix('~') else {
            let (plain, after) = rest.split_at(rest.find('~').unwrap_or(rest.len()));
            rest = after;
            return Some(Ok(Part::Plain(plain)));
        };
        // Texts are UTF-8 anyway: `~ts` is `~s`.
        let behind = behind.strip_prefix('t').filter(|behind| behind.starts_with(['s', 'p', 'w'])).unwrap_or(behind);
        let modified = rest.len() - behind.len();
        let digits =
            behind.strip_prefix('.').map_or(0, |behind| 1 + behind.bytes().take_while(u8::is_ascii_digit).count());
        let (precision, letter) = behind.split_at(digits);
        let Some(c) = letter.chars().next() else { return Some(Err(std::mem::take(&mut rest))) };
        let directive = rest.get(..modified + digits + c.len_utf8()).unwrap_or(rest);
        rest = rest.get(directive.len()..).unwrap_or_default();
        let precision = precision.get(1..).map(|digits| digits.parse::<usize>());
        let is_known = match &precision {
            None => matches!(c, 's' | 'p' | 'w' | 'b' | 'f' | 'e' | 'c' | 'n' | '~'),
            Some(Ok(precision)) => matches!(c, 'f' | 'e') && *precision <= 64,
            Some(Err(_)) => false,
        };
        Some(if is_known { Ok(Part::Directive(c, precision.and_then(Result::ok))) } else { Err(directive) })
    })
}

/// Checks a format, and its number of values if that is known.
pub(crate) fn check(format: &str, given: Option<usize>) -> Result<(), String> {
    let mut taken = 0;
    for part in parts(format) {
        match part {
            Ok(Part::Plain(_) | Part::Directive('n' | '~', _)) => {}
            Ok(Part::Directive(..)) => taken += 1,
            Err(directive) => {
                return Err(format!("`{directive}` is no directive; there are ~s ~p ~b ~f ~.2f ~e ~c ~n ~~"));
            }
        }
    }
    match given {
        Some(given) if given != taken => Err(format!("the format takes {taken} values, here are {given}")),
        _ => Ok(()),
    }
}

/// Values in a format.
pub(super) fn write<'a>(arena: &'a Arena, format: Value<'a>, values: &[Value<'a>]) -> Result<Value<'a>, Reason> {
    const TOO_FEW: Reason = Reason::domain("fewer values than the format takes");
    const FULL: Reason = Reason::limit("the text is longer than a rule may make it");
    let mut values = values.iter().copied();
    let mut out = arena.writer();
    for part in parts(format.as_str()?) {
        arena.spend(1)?;
        let (c, precision) = match part {
            Ok(Part::Plain(text)) => {
                out.extend(text.as_bytes())?;
                continue;
            }
            Ok(Part::Directive('n', _)) => {
                out.push(b'\n')?;
                continue;
            }
            Ok(Part::Directive('~', _)) => {
                out.push(b'~')?;
                continue;
            }
            Ok(Part::Directive(c, precision)) => (c, precision),
            Err(_) => return Err(Reason::domain("a directive that there is not")),
        };
        let value = values.next().ok_or(TOO_FEW)?;
        match c {
            's' => out.extend(value.as_bytes()?)?,
            'b' => out.extend(to_text(Value::Int(value.as_int()?), arena)?)?,
            'c' => {
                let c = u32::try_from(value.as_int()?)
                    .ok()
                    .and_then(char::from_u32)
                    .ok_or(Reason::domain("no number of a character"))?;
                out.extend(c.encode_utf8(&mut [0; 4]).as_bytes())?;
            }
            'f' => {
                let decimals = precision.unwrap_or(6);
                let number = float(arena, value, decimals)?;
                write!(out, "{number:.decimals$}").map_err(|_| FULL)?;
            }
            'e' => {
                // The precision counts all digits, one of them before the point; the exponent has a sign.
                let decimals = precision.unwrap_or(6).saturating_sub(1);
                let number = float(arena, value, decimals)?;
                let short = Short::format(format_args!("{number:.decimals$e}"));
                let (digits, exponent) = short.as_str().split_once('e').unwrap_or((short.as_str(), "0"));
                write!(out, "{digits}e{}{exponent}", if exponent.starts_with('-') { "" } else { "+" })
                    .map_err(|_| FULL)?;
            }
            _ => match value {
                Value::Text(bytes) => write::text(bytes, &mut out)?,
                other => write::write(other, &mut out, arena)?,
            },
        }
    }
    if values.next().is_some() {
        return Err(Reason::domain("more values than the format takes"));
    }
    Ok(Value::Text(out.finish()))
}

fn float(arena: &Arena, value: Value<'_>, decimals: usize) -> Result<f64, Reason> {
    let number = match value {
        Value::Int(_) => return Err(Reason::wanted("a float", value.kind())),
        other => other.as_float()?,
    };
    convert::spend(arena, number, decimals)?;
    Ok(number)
}
