//! `+ - * / div mod` and the sign.

use super::convert::to_text;
use crate::arena::Arena;
use crate::failure::Reason;
use crate::sql::ast::Binary;
use crate::value::{Num, TOO_BIG, Value};

const BY_ZERO: Reason = Reason::domain("a division by zero");

pub(crate) fn minus(operand: Value<'_>) -> Result<Value<'_>, Reason> {
    match operand.number()? {
        Num::Int(number) => number.checked_neg().map(Value::Int).ok_or(TOO_BIG),
        Num::Float(number) => Value::float(-number),
        Num::Big(_) => Err(TOO_BIG),
    }
}

pub(crate) fn arithmetic<'a>(
    operator: Binary,
    left: Value<'a>,
    right: Value<'a>,
    arena: &'a Arena,
) -> Result<Value<'a>, Reason> {
    match operator {
        Binary::Add if matches!(left, Value::Text(_)) || matches!(right, Value::Text(_)) => join(&[left, right], arena),
        Binary::Divide => divide(left, right),
        Binary::Div => whole(left, right, i64::checked_div),
        Binary::Mod => whole(left, right, i64::checked_rem),
        Binary::Sub => numbers(left, right, i64::checked_sub, |left, right| left - right),
        Binary::Mul => numbers(left, right, i64::checked_mul, |left, right| left * right),
        _ => numbers(left, right, i64::checked_add, |left, right| left + right),
    }
}

/// Values as one text.
pub(super) fn join<'a>(values: &[Value<'a>], arena: &'a Arena) -> Result<Value<'a>, Reason> {
    let mut out = arena.writer();
    for value in values {
        out.extend(to_text(*value, arena)?)?;
    }
    Ok(Value::Text(out.finish()))
}

fn numbers<'a>(
    left: Value<'a>,
    right: Value<'a>,
    ints: fn(i64, i64) -> Option<i64>,
    floats: fn(f64, f64) -> f64,
) -> Result<Value<'a>, Reason> {
    match (left.number()?, right.number()?) {
        (Num::Int(left), Num::Int(right)) => ints(left, right).map(Value::Int).ok_or(TOO_BIG),
        _ => Value::float(floats(left.as_float()?, right.as_float()?)),
    }
}

pub(super) fn divide<'a>(left: Value<'a>, right: Value<'a>) -> Result<Value<'a>, Reason> {
    let (_, _) = (left.number()?, right.number()?);
    let (left, right) = (left.as_float()?, right.as_float()?);
    if right == 0.0 { Err(BY_ZERO) } else { Value::float(left / right) }
}

/// Towards zero; the remainder has the sign of the left side.
pub(super) fn whole<'a>(
    left: Value<'a>,
    right: Value<'a>,
    operation: fn(i64, i64) -> Option<i64>,
) -> Result<Value<'a>, Reason> {
    let (left, right) = (left.as_int()?, right.as_int()?);
    if right == 0 {
        return Err(BY_ZERO);
    }
    match operation(left, right) {
        Some(result) => Ok(Value::Int(result)),
        // The smallest integer modulo -1.
        None if operation(5, 3) == Some(2) => Ok(Value::Int(0)),
        None => Err(TOO_BIG),
    }
}
