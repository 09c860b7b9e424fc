//! Conversions between types.

use super::maths::{float_to_int, whole};
use super::{Called, Context, argument, functions};
use crate::arena::Arena;
use crate::compare::{NO_NUMBER, read_float, read_int};
use crate::failure::Reason;
use crate::json::write::{Short, write};
use crate::value::{Num, Value};

functions! {
    "bool" "(x)" 1 1 Pure(|_, a| boolean(argument(a, 0))), "A boolean: of booleans, of `'true'`, `'false'`, of 1 and 0; all else is an error.", "bool('true')" => "true";
    "float" "(x[, decimals])" 1 2 Pure(float), "A float, of a number or a text of one (`'3'`, `'3.5'`, not `'1e3'`), rounded if decimals are given.", "float('3')" => "3.0";
    "float2str" "(x, decimals)" 2 2 Pure(float2str), "A float as text with so many decimals, zeros at the end left out.", "float2str(0.1, 20)" => "\"0.10000000000000000555\"";
    "int" "(x)" 1 1 Pure(int), "An integer: of numbers the next lower one, of texts that are numbers likewise, of true 1 and of false 0.", "int('12.9')" => "12";
    "map" "(x)" 1 1 Pure(|c, a| argument(a, 0).as_object(c.arena).map(Value::Object)), "An object, of an object or of JSON text of one.", "map('{\"x\":1}')" => "{\"x\":1}";
    "str" "(x)" 1 1 Pure(|c, a| to_text(argument(a, 0), c.arena).map(Value::Text)), "A text: numbers with at most 10 decimals and never an exponent, objects and arrays as JSON, absent as `undefined`.", "str(0.1 + 0.2)" => "\"0.3\"";
    "str_utf16_le" "(x)" 1 1 Pure(utf16), "The text in UTF-16, little end first.", "bin2hexstr(str_utf16_le('hi'))" => "\"68006900\"";
    "str_utf8" "(x)" 1 1 Pure(|c, a| to_text(argument(a, 0), c.arena).map(Value::Text)), "The same as str.", "str_utf8(1.50)" => "\"1.5\"";
}

/// The text of a value like that of `str`.
pub(super) fn to_text<'a>(value: Value<'a>, arena: &'a Arena) -> Result<&'a [u8], Reason> {
    Ok(match value {
        Value::Text(bytes) => bytes,
        Value::Absent => b"undefined",
        Value::Null => b"null",
        Value::Bool(true) => b"true",
        Value::Bool(false) => b"false",
        Value::Raw(text) => text.as_bytes(),
        Value::Int(number) => arena.bytes(Short::format(format_args!("{number}")).as_str().as_bytes())?,
        Value::Float(_) | Value::Number(_) => match value.num() {
            Some(Num::Big(text)) => text.as_bytes(),
            _ => decimals(arena, value.as_float()?, 10)?,
        },
        Value::Array(_) | Value::Object(_) => {
            let mut out = arena.writer();
            write(value, &mut out, arena)?;
            out.finish()
        }
    })
}

/// Takes the steps of a float's text with this number of decimals: more for large and small numbers and for many decimals.
pub(super) fn spend(arena: &Arena, number: f64, decimals: usize) -> Result<(), Reason> {
    let is_short = decimals <= 15 && (number == 0.0 || (1e-15..1e15).contains(&number.abs()));
    arena.spend(if is_short { 5 } else { 300 })
}

/// A float with at least one decimal and at most `most`.
fn decimals(arena: &Arena, number: f64, most: usize) -> Result<&[u8], Reason> {
    spend(arena, number, most)?;
    let short = Short::format(format_args!("{number:.most$}"));
    let text = short.as_str();
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let fraction = fraction.trim_end_matches('0');
    let short = Short::format(format_args!("{whole}.{}", if fraction.is_empty() { "0" } else { fraction }));
    arena.bytes(short.as_str().as_bytes())
}

fn count(value: Value<'_>) -> Result<usize, Reason> {
    // The most decimals that fit after a float's digits before the point.
    usize::try_from(value.as_int()?).ok().filter(|count| *count <= 64).ok_or(Reason::domain("decimals are 0 to 64"))
}

fn float2str<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let value = argument(arguments, 0);
    decimals(context.arena, value.as_float()?, count(argument(arguments, 1))?).map(Value::Text)
}

fn float<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let number = match argument(arguments, 0) {
        Value::Text(text) => {
            read_float(text).or_else(|| read_int(text).map(|number| number as f64)).ok_or(NO_NUMBER)?
        }
        other => other.as_float()?,
    };
    match arguments.get(1) {
        None => Value::float(number),
        Some(most) => {
            let most = count(*most)?;
            spend(context.arena, number, most)?;
            Value::float(Short::format(format_args!("{number:.most$}")).as_str().parse().unwrap_or(number))
        }
    }
}

fn int<'a>(_: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    match argument(arguments, 0) {
        Value::Bool(value) => Ok(Value::Int(i64::from(value))),
        Value::Text(text) => match read_int(text) {
            Some(number) => Ok(Value::Int(number)),
            None => float_to_int(read_float(text).ok_or(NO_NUMBER)?.floor()).map(Value::Int),
        },
        _ => whole(arguments, f64::floor),
    }
}

pub(super) fn boolean(value: Value<'_>) -> Called<'_> {
    let is = match value {
        Value::Bool(value) => Some(value),
        Value::Text(b"true") => Some(true),
        Value::Text(b"false") => Some(false),
        Value::Text(_) => return Err(Reason::decode("the text is neither true nor false")),
        _ => match value.num() {
            Some(Num::Int(number @ (0 | 1))) => Some(number == 1),
            Some(Num::Float(number)) if number == 0.0 || number == 1.0 => Some(number == 1.0),
            _ => None,
        },
    };
    is.map(Value::Bool).ok_or(Reason::wanted("true, false, 1 or 0", value.kind()))
}

fn utf16<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let text = Value::Text(to_text(argument(arguments, 0), context.arena)?).as_str()?;
    let mut out = context.arena.writer();
    for unit in text.encode_utf16() {
        out.extend(&unit.to_le_bytes())?;
    }
    Ok(Value::Text(out.finish()))
}
