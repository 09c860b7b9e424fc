//! Comparisons, as EMQX's engine answers them (Erlang's order of terms, with texts read as numbers beside numbers).

use std::cmp::Ordering;

use super::arena::Arena;
use super::failure::Reason;
use super::json::write::Short;
use super::sql::ast::Binary;
use super::value::{Num, Value};

/// Evaluates `=`, `<` and the other comparisons.
pub(super) fn compare<'a>(
    operator: Binary,
    left: Value<'a>,
    right: Value<'a>,
    arena: &'a Arena,
) -> Result<bool, Reason> {
    let order = match (left, right) {
        (Value::Absent, Value::Absent) => {
            return Ok(matches!(operator, Binary::Equal | Binary::LessEqual | Binary::GreaterEqual));
        }
        (Value::Absent, _) | (_, Value::Absent) => return Ok(false),
        _ => loose_order(left, right, arena)?,
    };
    Ok(match operator {
        Binary::Equal => order == Ordering::Equal,
        Binary::NotEqual => order != Ordering::Equal,
        Binary::Less => order == Ordering::Less,
        Binary::LessEqual => order != Ordering::Greater,
        Binary::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    })
}

/// A text is read as a number if the other value is one, and compared with the word of a boolean or null.
fn loose_order<'a>(left: Value<'a>, right: Value<'a>, arena: &'a Arena) -> Result<Ordering, Reason> {
    match (left, right) {
        (Value::Text(text), number) if number.num().is_some() => total_order(read_number(text)?, number, arena),
        (number, Value::Text(text)) if number.num().is_some() => total_order(number, read_number(text)?, arena),
        (Value::Text(text), Value::Bool(_) | Value::Null) => Ok(text.cmp(word(right))),
        (Value::Bool(_) | Value::Null, Value::Text(text)) => Ok(word(left).cmp(text)),
        _ => {
            if rank(left) != rank(right) {
                arena.count_mixed();
            }
            total_order(left, right, arena)
        }
    }
}

const fn word(value: Value<'_>) -> &'static [u8] {
    match value {
        Value::Bool(true) => b"true",
        Value::Bool(false) => b"false",
        _ => b"null",
    }
}

/// A text as an integer, else as a float with a point.
fn read_number(text: &[u8]) -> Result<Value<'_>, Reason> {
    read_int(text).map(Value::Int).or_else(|| read_float(text).map(Value::Float)).ok_or(NO_NUMBER)
}

pub(super) const NO_NUMBER: Reason = Reason::decode("the text is no number");

/// A whole number with or without a sign.
pub(super) fn read_int(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads a number with a point, digits on both sides of it, and an optional exponent.
pub(super) fn read_float(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, rest) = text.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty();
    let (fraction, exponent) =
        rest.split_once(['e', 'E']).map_or((rest, None), |(fraction, exponent)| (fraction, Some(exponent)));
    let is_float = digits(whole.strip_prefix(['+', '-']).unwrap_or(whole))
        && digits(fraction)
        && exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    text.parse().ok().filter(|number: &f64| is_float && number.is_finite())
}

/// The order of types: numbers < false < null < true < object < array < text.
const fn rank(value: Value<'_>) -> u8 {
    match value {
        Value::Int(_) | Value::Float(_) | Value::Number(_) => 0,
        Value::Bool(false) => 1,
        Value::Null => 2,
        Value::Bool(true) => 3,
        // The rank of EMQX's `undefined`, a word after `true`.
        Value::Absent => 4,
        Value::Object(_) => 5,
        Value::Raw(text) => {
            if matches!(text.as_bytes(), [b'{', ..]) {
                5
            } else {
                6
            }
        }
        Value::Array(_) => 6,
        Value::Text(_) => 7,
    }
}

/// The order of all values; integers and floats by value.
pub(super) fn total_order<'a>(left: Value<'a>, right: Value<'a>, arena: &'a Arena) -> Result<Ordering, Reason> {
    arena.spend(1)?;
    if let (Some(left), Some(right)) = (left.num(), right.num()) {
        return Ok(number_order(left, right));
    }
    match (arena.open(left)?, arena.open(right)?) {
        (Value::Text(left), Value::Text(right)) => {
            arena.work(left.len().min(right.len()))?;
            Ok(left.cmp(right))
        }
        (Value::Array(left), Value::Array(right)) => {
            arena.down()?;
            let mut order = Ordering::Equal;
            for (one, other) in left.iter().zip(right) {
                if order == Ordering::Equal {
                    order = total_order(*one, *other, arena)?;
                }
            }
            arena.up();
            Ok(order.then(left.len().cmp(&right.len())))
        }
        (Value::Object(left), Value::Object(right)) => {
            arena.down()?;
            let mut order = left.len().cmp(&right.len());
            for (one, other) in left.iter().zip(right) {
                order = order.then(one.name.cmp(other.name));
            }
            for (one, other) in left.iter().zip(right) {
                if order == Ordering::Equal {
                    order = total_order(one.value, other.value, arena)?;
                }
            }
            arena.up();
            Ok(order)
        }
        (left, right) => Ok(rank(left).cmp(&rank(right))),
    }
}

/// Whether two values are identical: 1 is not 1.0.
pub(super) fn is_same<'a>(left: Value<'a>, right: Value<'a>, arena: &'a Arena) -> Result<bool, Reason> {
    arena.spend(1)?;
    if left.kind() != right.kind() {
        return Ok(false);
    }
    match (arena.open(left)?, arena.open(right)?) {
        (Value::Array(left), Value::Array(right)) => {
            arena.down()?;
            let mut is_same_so_far = left.len() == right.len();
            for (one, other) in left.iter().zip(right) {
                is_same_so_far = is_same_so_far && is_same(*one, *other, arena)?;
            }
            arena.up();
            Ok(is_same_so_far)
        }
        (Value::Object(left), Value::Object(right)) => {
            arena.down()?;
            let mut is_same_so_far = left.len() == right.len();
            for (one, other) in left.iter().zip(right) {
                is_same_so_far = is_same_so_far && one.name == other.name && is_same(one.value, other.value, arena)?;
            }
            arena.up();
            Ok(is_same_so_far)
        }
        (left, right) => Ok(total_order(left, right, arena)? == Ordering::Equal),
    }
}

/// The exact order of two numbers.
pub(super) fn number_order(left: Num<'_>, right: Num<'_>) -> Ordering {
    match (left, right) {
        (Num::Int(left), Num::Int(right)) => left.cmp(&right),
        (Num::Float(left), Num::Float(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
        (Num::Int(left), Num::Float(right)) => int_and_float(left, right),
        (Num::Float(left), Num::Int(right)) => int_and_float(right, left).reverse(),
        (Num::Big(left), Num::Big(right)) => whole_order(left, right),
        (Num::Big(left), Num::Int(right)) => whole_order(left, Short::format(format_args!("{right}")).as_str()),
        (Num::Int(left), Num::Big(right)) => whole_order(Short::format(format_args!("{left}")).as_str(), right),
        (Num::Big(left), Num::Float(right)) => big_and_float(left, right),
        (Num::Float(left), Num::Big(right)) => big_and_float(right, left).reverse(),
    }
}

fn int_and_float(int: i64, float: f64) -> Ordering {
    // 2^63 and above, and below -2^63: outside of the integers.
    if float >= 9_223_372_036_854_775_808.0 {
        return Ordering::Less;
    }
    if float < -9_223_372_036_854_775_808.0 {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    int.cmp(&(whole as i64)).then(if float > whole {
        Ordering::Less
    } else if float < whole {
        Ordering::Greater
    } else {
        Ordering::Equal
    })
}

/// A whole number beyond 64 bits beside a float: floats of that size are whole.
fn big_and_float(big: &str, float: f64) -> Ordering {
    whole_order(big, Short::format(format_args!("{:.0}", float.trunc())).as_str())
}

/// The order of two whole numbers by their digits; JSON has no leading zeros.
fn whole_order(left: &str, right: &str) -> Ordering {
    let parts = |text: &str| (text.starts_with('-'), text.trim_start_matches('-').len());
    let ((left_minus, left_len), (right_minus, right_len)) = (parts(left), parts(right));
    match (left_minus, right_minus) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => left_len.cmp(&right_len).then_with(|| left.cmp(right)),
        (true, true) => right_len.cmp(&left_len).then_with(|| right.cmp(left)),
    }
}
