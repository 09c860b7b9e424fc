//! Bits of integers and of texts.

use super::{Called, Context, argument, functions};
use crate::failure::Reason;
use crate::value::{TOO_BIG, Value};

functions! {
    "bitand" "(a, b)" 2 2 Pure(|_, a| Ok(Value::Int(argument(a, 0).as_int()? & argument(a, 1).as_int()?))), "Bits that both have.", "bitand(6, 3)" => "2";
    "bitnot" "(a)" 1 1 Pure(|_, a| Ok(Value::Int(!argument(a, 0).as_int()?))), "All 64 bits turned over.", "bitnot(0)" => "-1";
    "bitor" "(a, b)" 2 2 Pure(|_, a| Ok(Value::Int(argument(a, 0).as_int()? | argument(a, 1).as_int()?))), "Bits that one of them has.", "bitor(6, 3)" => "7";
    "bitsize" "(text)" 1 1 Pure(|_, a| Ok(Value::Int((argument(a, 0).as_bytes()?.len() as i64).saturating_mul(8)))), "How many bits a text has.", "bitsize('ab')" => "16";
    "bitsl" "(a, n)" 2 2 Pure(left), "Bits moved left by n; beyond 64 bits an error.", "bitsl(1, 4)" => "16";
    "bitsr" "(a, n)" 2 2 Pure(right), "Bits moved right by n; the sign stays.", "bitsr(-16, 2)" => "-4";
    "bitxor" "(a, b)" 2 2 Pure(|_, a| Ok(Value::Int(argument(a, 0).as_int()? ^ argument(a, 1).as_int()?))), "Bits that one of them has alone.", "bitxor(6, 3)" => "5";
    "bytesize" "(text)" 1 1 Pure(|_, a| Ok(Value::Int(argument(a, 0).as_bytes()?.len() as i64))), "How many bytes a text has.", "bytesize('é')" => "2";
    "subbits" "(text[, from], count[, type[, sign[, order]]])" 2 6 Pure(subbits), "Bits of a text, from 1 or another one on: as `'integer'`, `'float'` or `'bits'`, `'unsigned'` or `'signed'`, `'big'` or `'little'`. Behind the end absent; of what reaches beyond it, what is there.", "subbits('abc', 9, 16, 'integer', 'signed', 'little')" => "25442";
}

fn shift(value: Value<'_>) -> Result<u32, Reason> {
    u32::try_from(value.as_int()?).map_err(|_| Reason::domain("bits are moved by 0 or more"))
}

fn left<'a>(_: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (number, by) = (argument(arguments, 0).as_int()?, shift(argument(arguments, 1))?);
    let moved = i128::from(number).checked_shl(by.min(64)).and_then(|moved| i64::try_from(moved).ok());
    moved.map(Value::Int).ok_or(TOO_BIG)
}

fn right<'a>(_: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let (number, by) = (argument(arguments, 0).as_int()?, shift(argument(arguments, 1))?);
    Ok(Value::Int(number >> by.min(63)))
}

fn subbits<'a>(context: &Context<'a>, arguments: &[Value<'a>]) -> Called<'a> {
    let bytes = argument(arguments, 0).as_bytes()?;
    let (from, count, rest) = match arguments {
        [_, count] => (1, *count, &[][..]),
        [_, from, count, rest @ ..] => (from.as_int()?, *count, rest),
        _ => return Ok(Value::Absent),
    };
    let word = |n: usize, first: &'static [u8]| rest.get(n).map_or(Ok(first), |value| value.as_bytes());
    let (kind, sign, order) = (word(0, b"integer")?, word(1, b"unsigned")?, word(2, b"big")?);
    let wrong =
        || Err(Reason::domain("bits are 'integer', 'float' or 'bits', 'signed' or 'unsigned', 'big' or 'little'"));
    if !matches!(sign, b"signed" | b"unsigned") || !matches!(order, b"big" | b"little") {
        return wrong();
    }
    let whole = bytes.len().saturating_mul(8);
    let start =
        usize::try_from(from).ok().and_then(|from| from.checked_sub(1)).ok_or(Reason::domain("bits count from 1"))?;
    let count = usize::try_from(count.as_int()?).map_err(|_| Reason::domain("a count of bits below 0"))?;
    if start >= whole {
        return Ok(Value::Absent);
    }
    let count = count.min(whole - start);
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    match kind {
        b"bits" => {
            // Whole bytes; bits that are missing to the last one are zeros at its end.
            let mut out = context.arena.list_of(count.div_ceil(8))?;
            context.arena.spend(count as u64 / 64)?;
            for first in (0..count).step_by(8) {
                let byte =
                    (first..first + 8).fold(0, |byte, at| byte << 1 | if at < count { bit(start + at) } else { 0 });
                out.push(byte)?;
            }
            Ok(Value::Text(out.finish()))
        }
        b"integer" | b"float" if count > 64 => Err(Reason::limit("integers have at most 64 bits")),
        b"integer" | b"float" => {
            let read = (start..start + count).fold(0_u64, |number, at| number << 1 | u64::from(bit(at)));
            let number = if order == b"little" { little(read, count) } else { read };
            if kind == b"float" {
                return match count {
                    64 => Value::float(f64::from_bits(number)),
                    32 => Value::float(f64::from(f32::from_bits(number as u32))),
                    16 => Value::float(half(number as u16)),
                    _ => Err(Reason::domain("floats have 16, 32 or 64 bits")),
                };
            }
            if sign == b"signed" && count > 0 {
                let unused = 64 - count as u32;
                return Ok(Value::Int((number << unused) as i64 >> unused));
            }
            i64::try_from(number).map(Value::Int).map_err(|_| TOO_BIG)
        }
        _ => wrong(),
    }
}

/// Bytes in reverse order; bits beyond the whole bytes stay last.
fn little(number: u64, count: usize) -> u64 {
    let (bytes, odd) = (count / 8, count % 8);
    let mut turned = if odd > 0 { (number & ((1 << odd) - 1)) << (bytes * 8) } else { 0 };
    for at in 0..bytes {
        turned |= (number >> (odd + (bytes - 1 - at) * 8) & 0xff) << (at * 8);
    }
    turned
}

/// A float of 16 bits: a sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1_024.0);
    let size = match exponent {
        0 => fraction * 2_f64.powi(-14),
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}
